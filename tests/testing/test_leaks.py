"""What containers leave behind while they run."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from supervisor import PodHandle, Supervisor, UsageError
from supervisor.testing import exec_storm, no_leaks
from supervisor.testing.leaks import Holdings, compare
from tests.testing.conftest import manifest, printed, shell

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["auto", "group"])
async def anywhere(
    nothing_left: None, anyio_backend: object, request: pytest.FixtureRequest
) -> AsyncIterator[Supervisor]:
    async with Supervisor(isolation=request.param, grace_period=1) as node:
        yield node


# At each SIGUSR1 it does what its argument says.
LEAKY = """
import os, signal, subprocess, sys
kept = []
def use(*_):
    if sys.argv[1] == "descriptor":
        kept.append(open("/dev/null"))
    elif sys.argv[1] == "process":
        kept.append(subprocess.Popen(["sleep", "1000"]))
    elif sys.argv[1] == "zombie":
        kept.append(subprocess.Popen(["true"]))
    elif sys.argv[1] == "orphan":
        subprocess.run(["sh", "-c", "sleep 1000 &"])
    elif sys.argv[1] == "nothing":
        subprocess.run(["sleep", "0.1"])
    os.write(1, b"used\\n")
signal.signal(signal.SIGUSR1, use)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
print("up", flush=True)
while True:
    signal.pause()
"""


async def leaky(node: Supervisor, what: str) -> PodHandle:
    main = {"name": "main", "command": [sys.executable, "-c", LEAKY, what]}
    pod = await node.run(manifest("pod", main))
    await printed(pod, "up")
    return pod


async def used(pod: PodHandle) -> None:
    async with no_leaks(pod, settle=0.5):
        await pod.signal("main", "SIGUSR1")
        await printed(pod, "used")


async def test_what_is_cleaned_up_is_no_leak(anywhere: Supervisor) -> None:
    await used(await leaky(anywhere, "nothing"))


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("descriptor", "1 descriptor more: /dev/null"),
        ("process", "1 process more: sleep 1000"),
        ("orphan", "1 process more: sleep 1000"),
        ("zombie", "1 zombie more, not waited for by process"),
    ],
)
async def test_what_is_left_is_named(anywhere: Supervisor, what: str, told: str) -> None:
    pod = await leaky(anywhere, what)
    with pytest.raises(AssertionError) as error:
        await used(pod)
    assert told in str(error.value)


async def test_some_descriptors_may_be_allowed(node: Supervisor) -> None:
    pod = await leaky(node, "descriptor")
    async with no_leaks(pod, descriptors=1, settle=0.2):
        await pod.signal("main", "SIGUSR1")
        await printed(pod, "used")


async def test_a_restart_meanwhile_makes_it_worthless(node: Supervisor) -> None:
    main = shell("main", "trap 'exit 0' TERM; echo up; while :; do sleep 0.02; done")
    pod = await node.run(manifest("pod", main, restartPolicy="Always"))
    await printed(pod, "up")

    async def restarted() -> None:
        async with no_leaks(pod):
            await pod.signal("main", "SIGTERM")
            await pod.wait_for(lambda status: status.container_statuses[0].restart_count == 1)
            await printed(pod, "up")

    with pytest.raises(AssertionError, match="was restarted meanwhile"):
        await restarted()
    with pytest.raises(AssertionError, match="does not run"):
        async with no_leaks(pod):
            await pod.terminate()


def test_what_replaces_another_is_no_leak() -> None:
    before = Holdings(1, {(2, 0): "worker"}, {(3, 0): 1}, Counter({"socket": 2}))
    after = Holdings(1, {(5, 9): "worker"}, {(6, 9): 1}, Counter({"socket": 1, "pipe": 1}))
    assert compare(before, after) == []


async def test_a_storm_of_programs_leaves_nothing(anywhere: Supervisor) -> None:
    pod = await leaky(anywhere, "nothing")
    storm = await exec_storm(pod, ["sh", "-c", "true | true"], 60, 10)
    assert (storm.count, storm.exit_codes) == (60, {0: 60})


async def test_programs_of_a_storm_that_fail_are_counted(node: Supervisor) -> None:
    pod = await leaky(node, "nothing")
    with pytest.raises(AssertionError) as told:
        await exec_storm(pod, ["sh", "-c", "echo no; exit 3"], 5, 2)
    assert "5 of 5 programs in main went wrong" in str(told.value)
    assert "5 times exit code 3; printed: 'no'" in str(told.value)
    storm = await exec_storm(pod, ["sh", "-c", "exit 3"], 5, 2, exit_code=None)
    assert storm.exit_codes == {3: 5}
    with pytest.raises(AssertionError, match=r"2 times not ended in 0.1 s"):
        await exec_storm(pod, ["sleep", "1000"], 2, timeout=0.1)


async def test_what_a_storm_leaves_to_a_pid_1_that_does_not_wait_is_found(
    node: Supervisor,
) -> None:
    """Orphans of programs run in a container come to its pid 1."""
    pod = await leaky(node, "nothing")
    with pytest.raises(AssertionError, match="10 zombies more, not waited for by process"):
        await exec_storm(pod, ["sh", "-c", "(sleep 0.05 &)"], 10, 5, settle=2)


async def test_a_storm_of_nothing_is_refused(node: Supervisor) -> None:
    pod = await node.run(["sleep", "1000"])
    with pytest.raises(UsageError):
        await exec_storm(pod, ["true"], 0)
