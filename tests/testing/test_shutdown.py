"""Who ends as a cluster demands, and what is said to who does not."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from supervisor import PodHandle, Supervisor
from supervisor.testing import assert_graceful_shutdown
from supervisor.testing.shutdown import missing_lines
from tests.testing.conftest import manifest, printed, shell

pytestmark = pytest.mark.anyio

LINUX = tuple(int(part) for part in re.findall("[0-9]+", os.uname().release)[:2])
told_by_the_kernel = pytest.mark.skipif(
    LINUX < (6, 15), reason="before Linux 6.15 nobody but their parent knows how processes end"
)


@pytest.fixture(params=["auto", "group"])
async def anywhere(
    nothing_left: None, anyio_backend: object, request: pytest.FixtureRequest
) -> AsyncIterator[Supervisor]:
    async with Supervisor(isolation=request.param, grace_period=1) as node:
        yield node


async def running(node: Supervisor, script: str, **spec: object) -> PodHandle:
    """A pod of one shell, once it has printed `up`."""
    pod = await node.run(manifest("pod", shell("main", script), **spec))
    await printed(pod, "up")
    return pod


GOOD = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.02; done"


async def test_who_ends_well_passes(anywhere: Supervisor) -> None:
    pod = await running(anywhere, GOOD)
    ended = await assert_graceful_shutdown(pod, 5, lines=["bye"])
    assert (ended.exit_code, ended.killed) == (0, ())


async def test_a_deaf_shell_is_explained_with_the_child_that_hears_nothing(
    node: Supervisor,
) -> None:
    pod = await running(node, "echo up; sleep 1000; true")
    with pytest.raises(AssertionError) as told:
        await assert_graceful_shutdown(pod, 1)
    text = str(told.value)
    assert (
        "main needed SIGKILL: pid 1 `sh -c …` has no SIGTERM handler, so the kernel drops it; "
        "`sleep 1000`, its child, never gets the signal: start it with exec" in text
    )
    assert "shutdown of pod: " in text
    assert "signals of main, pid 1 `sh -c …`:" in text
    assert "SIGTERM    default            nothing: without a handler the kernel drops it" in text


async def test_who_ignores_the_signal_is_told_so(anywhere: Supervisor) -> None:
    pod = await running(anywhere, "trap '' TERM; echo up; while :; do sleep 0.02; done")
    with pytest.raises(AssertionError, match=r"main needed SIGKILL: .* ignores SIGTERM"):
        await assert_graceful_shutdown(pod, 1)


async def test_the_exit_code_is_looked_at(anywhere: Supervisor) -> None:
    script = "trap 'exit 3' TERM; echo up; while :; do sleep 0.02; done"
    with pytest.raises(AssertionError, match="main exited with code 3, not 0 or 143"):
        await assert_graceful_shutdown(await running(anywhere, script), 5, exit_code=(0, 143))


@pytest.mark.parametrize("wanted", [3, (0, 3), {"main": 3}, {"main": (0, 3)}, {"other": 1}, None])
async def test_exit_codes_may_be_one_or_several_or_any(node: Supervisor, wanted: Any) -> None:
    script = "trap 'exit 3' TERM; echo up; while :; do sleep 0.02; done"
    await assert_graceful_shutdown(await running(node, script), 5, exit_code=wanted)


@told_by_the_kernel
async def test_a_process_that_is_left_is_named(anywhere: Supervisor) -> None:
    """It is killed with its main, without a word; so its work is lost."""
    script = "trap 'exit 0' TERM; sleep 999 & echo up; while :; do sleep 0.02; done"
    pod = await running(anywhere, script)
    with pytest.raises(AssertionError, match=r"main left processes behind.*`sleep 999`"):
        await assert_graceful_shutdown(pod, 5)


@told_by_the_kernel
async def test_a_daemon_that_is_left_is_named(anywhere: Supervisor) -> None:
    daemon = "setsid sh -c 'sleep 999 & echo up' "
    pod = await running(anywhere, f"trap 'exit 0' TERM; {daemon}; while :; do sleep 0.02; done")
    with pytest.raises(AssertionError, match=r"main left processes behind.*`sleep 999`"):
        await assert_graceful_shutdown(pod, 5)


FOREMAN = """
import os, signal, subprocess, sys
worker = subprocess.Popen(["sleep", "999"])
def end(*_):
    {ends}
    worker.wait()
    os._exit(0)
signal.signal(signal.SIGTERM, end)
print("up", flush=True)
while True:
    signal.pause()
"""


@pytest.mark.parametrize(
    "ends", ["worker.terminate()", "worker.kill(); worker.wait(); import time; time.sleep(0.1)"]
)
async def test_who_ends_its_processes_first_passes(anywhere: Supervisor, ends: str) -> None:
    script = FOREMAN.format(ends=ends)
    main = {"name": "main", "command": [sys.executable, "-c", script]}
    pod = await anywhere.run(manifest("pod", main))
    await printed(pod, "up")
    await assert_graceful_shutdown(pod, 5)


async def test_the_time_is_looked_at(node: Supervisor) -> None:
    slow = "trap 'sleep 0.3; exit 0' TERM; echo up; while :; do sleep 0.02; done"
    with pytest.raises(AssertionError, match=r"it took 0\.[3-9]\d s, more than 0\.1 s"):
        await assert_graceful_shutdown(await running(node, slow), 5, within=0.1)


async def test_lines_that_are_missing_are_named_with_what_was_printed(node: Supervisor) -> None:
    pod = await running(node, GOOD)
    with pytest.raises(AssertionError) as told:
        await assert_graceful_shutdown(pod, 5, lines=["flushed"])
    assert "the line 'flushed' was not printed" in str(told.value)
    assert "printed meanwhile:\n  bye" in str(told.value)


async def test_what_was_printed_before_does_not_count(node: Supervisor) -> None:
    pod = await running(node, GOOD)
    with pytest.raises(AssertionError, match="the line 'up' was not printed"):
        await assert_graceful_shutdown(pod, 5, lines=["up"])


def test_lines_are_looked_for_in_order() -> None:
    printed = ["draining 3", "draining 2", "closed", "bye"]
    assert missing_lines(["draining", "closed", "bye"], printed) == []
    assert len(missing_lines(["closed", "draining"], printed)) == 1
    assert len(missing_lines(["nothing", "bye"], printed)) == 1


async def test_all_containers_of_a_pod_are_looked_at(node: Supervisor) -> None:
    deaf = shell("deaf", "trap '' TERM; echo up; while :; do sleep 0.02; done")
    pod = await node.run(manifest("pod", shell("good", GOOD), deaf))
    await printed(pod, "up", "good")
    await printed(pod, "up", "deaf")
    with pytest.raises(AssertionError) as told:
        await assert_graceful_shutdown(pod, 1)
    assert "deaf needed SIGKILL" in str(told.value)
    assert "good needed" not in str(told.value)
    assert "good exited" not in str(told.value)


async def test_a_pod_that_does_not_run_cannot_shut_down(node: Supervisor) -> None:
    pod = await node.run(["true"])
    await pod.wait()
    with pytest.raises(AssertionError, match="nothing of it runs"):
        await assert_graceful_shutdown(pod)


async def test_a_secret_in_a_command_line_is_not_shown(node: Supervisor) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "login"},
        "stringData": {"password": "swordfish"},
    }
    source = {"secretKeyRef": {"name": "login", "key": "password"}}
    env = [{"name": "PASSWORD", "valueFrom": source}]
    main = {"name": "main", "command": ["tail", "-f", "/dev/null", "$(PASSWORD)"], "env": env}
    both = {"apiVersion": "v1", "kind": "List", "items": [secret, manifest("pod", main)]}
    pod = await node.run(both)
    await printed(pod, "cannot open")
    with pytest.raises(AssertionError) as told:
        await assert_graceful_shutdown(pod, 1)
    assert "signals of main, pid 1 `tail -f /dev/null ***`:" in str(told.value)
    assert "swordfish" not in str(told.value)
