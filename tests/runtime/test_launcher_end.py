"""The end: of a container with all it forked, of the supervisor, of the launcher."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid

import anyio
import pytest

from supervisor.errors import NodeError
from supervisor.runtime.cri import LaunchSpec
from tests.runtime.conftest import in_all_ways_on_both_loops
from tests.runtime.nodes import NOBODY, Node, Way, gone, marked, open_node, until, wait_for

pytestmark = pytest.mark.anyio
PYTHON = "/usr/bin/python3"


@pytest.fixture
def mark() -> str:
    return f"mark-{uuid.uuid4()}"


FAMILY = """
import os, signal, sys, time
def stay():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(100)
if os.fork() == 0:          # a child that ignores SIGTERM
    stay()
if os.fork() == 0:          # a daemon: forked twice, orphaned
    if os.fork() == 0:
        stay()
    os._exit(0)
if os.fork() == 0:          # a child in a session of its own, with a child in another
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        stay()
    stay()
if os.fork() == 0:          # a daemon by the book
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 10)
        stay()
    os._exit(0)
print("up", flush=True)
"""
SIZE = 6  # with the main


async def family(node: Node, mark: str, last: str) -> LaunchSpec:
    spec = node.spec(PYTHON, "-c", FAMILY + last, mark)
    await node.start(spec)
    await until(lambda: len(marked(mark)) == SIZE, "the whole family")
    return spec


@in_all_ways_on_both_loops
async def test_when_the_main_is_killed_all_its_processes_are_gone_first(
    way: Way, folder: str, mark: str
) -> None:
    async with open_node(way, folder) as node:
        spec = await family(node, mark, "stay()")
        node.runtime.signal(spec.id, 9)
        exit = await node.exit(spec)
        assert marked(mark) == []
        assert (exit.exit_code, exit.drained) == (137, True)


async def test_when_the_main_ends_all_its_processes_are_gone_first(
    way: Way, folder: str, mark: str
) -> None:
    async with open_node(way, folder) as node:
        other = node.spec("/bin/sh", "-c", "echo up; sleep 1000; true")
        await node.start(other)
        spec = await family(
            node, mark, "signal.signal(signal.SIGUSR1, lambda *_: os._exit(4)); stay()"
        )
        await node.logged(spec, b"up")
        pid = (await node.runtime.start(spec))[0]

        def handles() -> bool:
            with open(f"/proc/{pid}/status") as file:
                fields = dict(line.split(":", 1) for line in file)
            return bool(int(fields["SigCgt"], 16) >> (signal.SIGUSR1 - 1) & 1)

        await until(handles, "the handler")
        assert node.runtime.signal(spec.id, signal.SIGUSR1)
        exit = await node.exit(spec)
        assert marked(mark) == []
        assert exit.exit_code == 4
        assert node.runtime.signal(other.id, 0), "another container lives on"


async def test_a_main_that_ends_by_itself_leaves_nobody(way: Way, folder: str, mark: str) -> None:
    async with open_node(way, folder) as node:
        spec = node.spec(PYTHON, "-c", FAMILY + "os._exit(3)", mark)
        await node.start(spec)
        exit = await node.exit(spec)
        assert marked(mark) == []
        assert exit.exit_code == 3


async def test_a_stopped_container_can_be_killed(way: Way, folder: str, mark: str) -> None:
    async with open_node(way, folder) as node:
        spec = await family(node, mark, "stay()")
        node.runtime.signal(spec.id, signal.SIGSTOP)
        node.runtime.signal(spec.id, signal.SIGTERM)
        node.runtime.signal(spec.id, signal.SIGKILL)
        assert (await node.exit(spec)).exit_code == 137
        assert marked(mark) == []


BOMB = """
import os, resource, time
resource.setrlimit(resource.RLIMIT_NPROC, (150, 150))
while True:
    try:
        os.fork()
    except OSError:
        time.sleep(0.001)
"""


async def test_a_fork_bomb_held_by_a_limit_ends_with_its_main(
    way: Way, folder: str, mark: str
) -> None:
    if way.uid == 0 and not way.changes_users:
        pytest.skip("the limit does not hold root")
    async with open_node(way, folder) as node:
        spec = node.spec(PYTHON, "-c", BOMB, mark, uid=NOBODY if way.changes_users else None)
        await node.start(spec)
        await until(lambda: len(marked(mark)) > 100, "a hundred processes")
        assert node.runtime.signal(spec.id, 9)
        await node.exit(spec)
        assert marked(mark) == []


async def test_orphans_are_reaped_while_the_container_lives(way: Way, folder: str) -> None:
    if way.namespaces:
        pytest.skip("in namespaces they belong to the user's main, as in a cluster")
    async with open_node(way, folder) as node:
        spec = node.spec("/bin/sh", "-c", "(sleep 0.05 & echo $!); exec sleep 1000")
        await node.start(spec)
        await node.logged(spec, b"\n")
        with open(spec.log_path) as file:
            orphan = int(file.read().split()[-1])
        await until(lambda: not os.path.exists(f"/proc/{orphan}"), "the orphan to be reaped")


# --- the supervisor dies -------------------------------------------------------------------------

SUPERVISOR = """
import anyio, ctypes, multiprocessing, os, sys, time
sys.path.insert(0, {root!r})
from tests.runtime.nodes import Isolation, Way, open_node
async def main():
    async with open_node(Way({uid}, Isolation({mode!r})), {folder!r}) as node:
        context = multiprocessing.get_context("fork")
        worker = context.Process(target=time.sleep, args=(1000,), daemon=True)
        worker.start()
        # A fork that Python does not see: it holds copies of all descriptors.
        clib = ctypes.PyDLL(None)
        blind = clib.fork()
        if blind == 0:
            clib.pause()
        await node.start(node.spec({python!r}, "-c", {family!r} + "stay()", {mark!r}))
        await node.start(node.spec("sleep", "1000", {mark!r}))
        print(node.launcher_pid, worker.pid, blind, flush=True)
        await anyio.sleep({patience})
anyio.run(main)
"""


def supervise(way: Way, folder: str, mark: str) -> tuple[subprocess.Popen[str], int, list[int]]:
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = SUPERVISOR.format(
        root=root,
        uid=way.uid,
        mode=way.isolation.value,
        folder=folder,
        mark=mark,
        patience=1000,
        python=PYTHON,
        family=FAMILY,
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    launcher, *forked = (int(word) for word in process.stdout.readline().split())
    return process, launcher, forked


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_a_killed_supervisor_leaves_nothing_though_forked_children_of_it_live(
    way: Way, folder: str, mark: str
) -> None:
    process, launcher, forked = supervise(way, folder, mark)
    wait_for(lambda: len(marked(mark)) >= SIZE, "the containers")
    kill(process)
    wait_for(lambda: gone(launcher), "the launcher's end")
    left = [pid for pid in marked(mark) if pid not in forked]
    assert left == []
    assert not any(map(gone, forked)), "the test shows something only while they live"
    for pid in forked:
        os.kill(pid, signal.SIGKILL)


def test_supervisor_and_launcher_killed_at_once_leave_nothing(
    way: Way, folder: str, mark: str
) -> None:
    process, launcher, forked = supervise(way, folder, mark)
    wait_for(lambda: len(marked(mark)) >= SIZE, "the containers")
    os.kill(launcher, signal.SIGKILL)
    kill(process)
    for pid in forked:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not [pid for pid in marked(mark) if pid not in forked], "the containers' end")


def test_the_terminals_signals_do_not_reach_launcher_and_containers(
    way: Way, folder: str, mark: str
) -> None:
    process, launcher, forked = supervise(way, folder, mark)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP, signal.SIGPIPE):
        os.kill(launcher, number)
    with open(f"/proc/{launcher}/stat") as file:
        assert int(file.read().rpartition(")")[2].split()[3]) == launcher, "a session of its own"
    wait_for(lambda: len(marked(mark)) >= SIZE, "the containers")
    kill(process)
    for pid in forked:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: gone(launcher), "the launcher's end")


# --- the launcher dies ---------------------------------------------------------------------------


@in_all_ways_on_both_loops
async def test_a_killed_launcher_is_noticed_and_takes_its_containers_along(
    way: Way, folder: str, mark: str
) -> None:
    async with open_node(way, folder) as node:
        spec = await family(node, mark, "stay()")
        os.kill(node.launcher_pid, signal.SIGKILL)
        with pytest.raises(NodeError, match=r"the launcher any more: it died \(SIGKILL\)"):
            await node.exit(spec)
        with pytest.raises(NodeError):
            await node.start(node.spec("true"))
        assert not node.runtime.signal(spec.id, 9)
        await until(lambda: not marked(mark), "the end of its containers")


async def test_a_start_under_way_fails_when_the_launcher_dies(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        os.kill(node.launcher_pid, signal.SIGSTOP)
        async with anyio.create_task_group() as tasks:

            async def start() -> None:
                with pytest.raises(NodeError):
                    await node.start(node.spec("true"))

            tasks.start_soon(start)
            await anyio.sleep(0.01)
            os.kill(node.launcher_pid, signal.SIGKILL)


async def test_a_start_that_was_answered_before_the_launchers_death_is_a_start(
    way: Way, folder: str
) -> None:
    async with open_node(way, folder) as node:
        spec = node.spec("sh", "-c", f"echo > {folder}/up; sleep 1000")
        pids: list[int] = []

        async def start() -> None:
            try:
                pids.append((await node.runtime.start(spec))[0])
            except NodeError:  # it died before it could say so
                pids.append(0)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(start)
            await anyio.sleep(0)
            await anyio.sleep(0)
            # The loop stands still meanwhile: it finds the answer and the death at once.
            deadline = time.monotonic() + 10
            while not os.path.exists(f"{folder}/up") and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(0.1)
            os.kill(node.launcher_pid, signal.SIGKILL)
            time.sleep(0.05)
        assert len(pids) == 1


async def test_a_killed_reaper_takes_its_container_along(way: Way, folder: str, mark: str) -> None:
    if way.namespaces:
        pytest.skip("about mode group")
    async with open_node(way, folder) as node:
        other = node.spec("sleep", "1000")
        spec = await family(node, mark, "stay()")
        await node.start(other)
        reaper = node.helper("podvisor-reaper")
        assert reaper is not None
        os.kill(reaper, signal.SIGKILL)
        assert (await node.exit(spec)).exit_code == 137
        await until(lambda: not marked(mark), "the end of all its processes")
        assert node.runtime.signal(other.id, 0), "the other one lives"


async def test_a_stopped_supervisor_does_not_stop_the_launcher(
    way: Way, folder: str, mark: str
) -> None:
    async with open_node(way, folder) as node:
        specs = [node.spec("/bin/sh", "-c", "exit 3", mark) for _ in range(40)]
        # Nobody takes the answers: this is what a stopped supervisor looks like.
        for spec in specs:
            node.runtime._request_start(spec)
        await until(
            lambda: all(os.path.exists(spec.log_path.replace(".log", ".spawn")) for spec in specs),
            "all to be spawned",
        )
        assert node.exits == {}


async def test_leaving_the_context_ends_what_still_runs(way: Way, folder: str, mark: str) -> None:
    async with open_node(way, folder) as node:
        await family(node, mark, "stay()")
    assert marked(mark) == []


async def test_cancelling_the_node_ends_what_still_runs(way: Way, folder: str, mark: str) -> None:
    async with anyio.create_task_group() as tasks:

        async def node_task() -> None:
            async with open_node(way, folder) as node:
                await family(node, mark, "stay()")
                tasks.cancel_scope.cancel()
                await anyio.sleep(1000)

        tasks.start_soon(node_task)
    assert marked(mark) == []


async def test_an_error_of_the_caller_passes_through_unwrapped(way: Way, folder: str) -> None:
    with pytest.raises(KeyError):
        async with open_node(way, folder):
            raise KeyError
