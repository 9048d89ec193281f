"""What small inits such as tini and dumb-init promise for a program, kept without one.

They forward signals to the program, pass its exit code on, reap what it orphans, and let nothing of
it live on. Here signals go to the main process itself, its exit code is the container's, and the
container's end is the end of its tree. Zombies are reaped by an init where there is one (with
shareProcessNamespace, and in mode group); a main that is pid 1 has to do that itself, as in a
cluster, and its end ends them.
"""

from __future__ import annotations

import os
import signal
import sys

import pytest

from supervisor import PodHandle
from tests.embed.conftest import Make
from tests.runtime.nodes import Way, until

pytestmark = pytest.mark.anyio

# What can be caught, and what is not sent by the kernel for other reasons while a program runs.
SIGNALS = sorted(
    number
    for number in signal.valid_signals()
    if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD)
    and (number < 32 or number in (signal.SIGRTMIN, signal.SIGRTMIN + 3, signal.SIGRTMAX))
)

# It writes without a buffer: a signal that comes within print may not print.
LISTENER = f"""
import os, signal, time
def heard(number, _frame):
    os.write(1, b"heard %d\\n" % number)
for number in {[int(number) for number in SIGNALS]}:
    signal.signal(number, heard)
os.write(1, b"listening\\n")
while True:
    time.sleep(0.02)  # not pause: it may begin just after a signal has come
"""


def manifest(script: str, **spec: object) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "it"},
        "spec": {
            "containers": [{"name": "main", "command": ["sh", "-c", script]}],
            "restartPolicy": "Never",
            **spec,
        },
    }


async def said(pod: PodHandle, word: str) -> None:
    await until(lambda: word in pod.output(), f"{word!r}")


@pytest.mark.parametrize("code", [0, 1, 2, 32, 64, 127, 128, 143, 254, 255])
async def test_the_exit_code_is_passed_on(make: Make, code: int) -> None:
    async with make() as node:
        pod = await node.run(["sh", "-c", f"exit {code}"])
        await pod.wait(check=False)
        assert pod.exit_code == code


async def test_every_signal_that_can_be_caught_reaches_the_program(make: Make) -> None:
    async with make() as node:
        pod = await node.run([sys.executable, "-c", LISTENER], name="listener")
        await said(pod, "listening")
        for number in SIGNALS:
            await pod.signal("", number)
            await said(pod, f"heard {int(number)}\n")
        heard = [line for line in pod.output().splitlines() if line.startswith("heard")]
        assert heard == [f"heard {int(number)}" for number in SIGNALS]
        await pod.terminate(kill=True)


async def test_a_program_may_be_stopped_and_continued(make: Make) -> None:
    def state(pid: int | None) -> str:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0]

    async with make() as node:
        pod = await node.run(
            ["sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.02; done"]
        )
        await said(pod, "up")
        await pod.signal("", signal.SIGSTOP)
        await until(lambda: state(pod.pid) == "T", "the stop")
        await pod.signal("", signal.SIGCONT)
        await until(lambda: state(pod.pid) != "T", "the continuation")
        assert (await pod.terminate()).exit_code == 7


@pytest.mark.parametrize(
    "child",
    ["sleep 1000", "setsid sleep 1000", "(setsid sh -c 'trap \"\" TERM HUP; sleep 1000' &)"],
    ids=["child", "session of its own", "orphan that hears nothing"],
)
async def test_nothing_of_a_program_lives_on_after_it(make: Make, child: str) -> None:
    """That it is gone before the end is told; whatever is left anywhere is found after the test."""
    async with make() as node:
        pod = await node.run(["sh", "-c", f"{child} & sleep 0.1; exit 3"])
        await pod.wait(check=False)
        assert pod.exit_code == 3


@pytest.mark.parametrize("shares", [False, True], ids=["own", "shared"])
async def test_an_init_reaps_what_a_program_orphans(make: Make, way: Way, *, shares: bool) -> None:
    if way.namespaces is not shares:
        pytest.skip("there is no init" if way.namespaces else "there is nothing to share")
    spec = {"shareProcessNamespace": True} if shares else {}
    script = "for i in 1 2 3 4 5; do (true &); done; echo orphaned; exec sleep 1000"
    async with make() as node:
        pod = await node.run(manifest(script, **spec))
        await said(pod, "orphaned")
        assert pod.pid is not None
        session = os.getsid(pod.pid)
        await until(lambda: zombies(session) == [], "the reaping of all orphans")
        await pod.terminate(kill=True)


async def test_what_a_main_that_is_pid_1_does_not_reap_ends_with_it(
    namespaces: Way, make: Make
) -> None:
    # Until pid 1 is sleep, it still is a shell, which would reap them.
    orphan = "until grep -q sleep /proc/1/comm; do :; done"
    async with make() as node:
        pod = await node.run(manifest(f"({orphan} & {orphan} &); echo orphaned; exec sleep 1000"))
        await said(pod, "orphaned")
        assert pod.pid is not None
        session = os.getsid(pod.pid)
        await until(lambda: len(zombies(session)) == 2, "the zombies")
        await pod.terminate(kill=True)
        # The main itself is one until its end is committed.
        await until(lambda: zombies(session) == [], "the end of all")


def zombies(session: int) -> list[int]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii") as file:
                words = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        if words[0] == "Z" and int(words[3]) == session:
            found.append(int(pid))
    return found


async def test_another_signal_can_be_asked_for_as_the_one_that_stops(make: Make) -> None:
    """As dumb-init rewrites signals: here the manifest says which."""
    script = "trap 'exit 5' QUIT; trap '' TERM; echo up; while :; do sleep 0.02; done"
    stop = manifest(script, os={"name": "linux"})
    stop["spec"]["containers"][0]["lifecycle"] = {"stopSignal": "SIGQUIT"}  # type: ignore[index]
    async with make() as node:
        pod = await node.run(stop)
        await said(pod, "up")
        assert (await pod.terminate()).exit_code == 5
