"""Nodes in programs that go wrong: what is raised is ours, and what is left behind is nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from supervisor import NodeError, PodHandle
from supervisor.api import v1
from supervisor.kubelet.statedir import StateDir
from tests.embed.conftest import Make
from tests.embed.test_embed import PATIENT, one_way, said
from tests.runtime.conftest import on_both_loops
from tests.runtime.nodes import Way

pytestmark = pytest.mark.anyio


class Halt(BaseException):
    """As pytest.fail and sys.exit raise."""


@pytest.mark.parametrize("error", [Halt, StopIteration])
async def test_what_a_function_raises_that_is_waited_with_is_its_callers(
    make: Make, way: Way, error: type[BaseException]
) -> None:
    one_way(way)
    seen = list[str]()

    def look(status: v1.PodStatus) -> bool:
        seen.append(status.phase)
        if len(seen) > 1:
            raise error
        return False

    async with make() as node:
        pod = await node.run(["sh", "-c", PATIENT])
        with pytest.raises((Halt, RuntimeError)):
            await pod.wait_for(look)
        await said(pod, "up")
        assert (await pod.terminate(5)).exit_code == 3


@on_both_loops
async def test_a_program_that_cancels_all_tasks_it_has_leaves_nothing_either(
    make: Make, way: Way, folder: str
) -> None:
    """As asyncio.run does at its end. Processes are looked for after each test."""
    one_way(way)
    pods = list[PodHandle]()

    async def hold() -> None:
        async with make() as node:
            pods.append(await node.run(["sh", "-c", PATIENT]))
            await asyncio.sleep(60)

    mine = asyncio.all_tasks()
    holding = asyncio.create_task(hold())
    while not pods:
        await asyncio.sleep(0.01)
    await said(pods[0], "up")
    others = asyncio.all_tasks() - mine
    for task in others:
        task.cancel()
    await asyncio.wait(others)
    assert holding.cancelled()
    assert os.listdir(folder) == []


@pytest.mark.parametrize("held_back", [0, 1, 5, 10])
async def test_without_descriptors_no_node_is_made_and_nothing_left(
    make: Make, way: Way, folder: str, held_back: int
) -> None:
    one_way(way)
    await asyncio.to_thread(int)
    before = sorted(os.listdir("/proc/self/fd"))
    limits, set_limits = resource.getrlimit(resource.RLIMIT_NOFILE), resource.setrlimit
    most = max(map(int, before)) + 100
    taken = list[int]()
    try:
        set_limits(resource.RLIMIT_NOFILE, (most, limits[1]))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(resource, "setrlimit", lambda *_: None)  # spawning a launcher raises it
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.open("/dev/null", os.O_RDONLY))
            for _ in range(held_back):
                os.close(taken.pop())
            with pytest.raises(NodeError, match="Too many open files"):
                await make().__aenter__()
    finally:
        set_limits(resource.RLIMIT_NOFILE, limits)
        for fd in taken:
            os.close(fd)
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert os.listdir(folder) == [] or held_back == 1  # removing takes a descriptor, too


async def test_an_error_of_the_machine_is_an_error_of_the_node(
    make: Make, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_way(way)

    def broken(_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "statvfs", broken)
    with pytest.raises(NodeError, match=r"cannot keep a node: .*Input/output error"):
        await make().__aenter__()


async def test_being_cancelled_twice_while_a_folder_is_made_leaves_nothing(
    make: Make, way: Way, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_way(way)
    begun, may_go = threading.Event(), threading.Event()
    real = StateDir.__init__

    def slow(state: StateDir) -> None:
        begun.set()
        may_go.wait(10)
        real(state)

    monkeypatch.setattr(StateDir, "__init__", slow)
    entering = asyncio.create_task(make().__aenter__())
    await asyncio.to_thread(begun.wait)
    for _ in range(2):
        entering.cancel()
        await asyncio.wait((entering,), timeout=0.05)
        assert not entering.done()
    may_go.set()
    with pytest.raises(asyncio.CancelledError):
        await entering
    assert os.listdir(folder) == []


async def test_removing_a_folder_does_not_stop_the_program(
    make: Make, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_way(way)
    where = list[threading.Thread]()

    def noted(call: Callable[[StateDir], None]) -> Callable[[StateDir], None]:
        def on_call(state: StateDir) -> None:
            where.append(threading.current_thread())
            call(state)

        return on_call

    monkeypatch.setattr(StateDir, "__init__", noted(StateDir.__init__))
    monkeypatch.setattr(StateDir, "close", noted(StateDir.close))
    async with make():
        pass
    assert len(where) == 2
    assert threading.main_thread() not in where


FORKING = """
import asyncio, os, signal, sys
from supervisor import Supervisor

async def main():
    async with Supervisor(isolation=sys.argv[1]) as node:
        pod = await node.run(["sleep", "1000"])
        await pod.wait_ready()
        child = os.fork()
        if child == 0:
            signal.alarm(5)  # since Python 3.14 its loop goes on for ever, with or without a node
            sys.exit("a child that forgot os._exit")
        os.waitpid(child, 0)
        # Nothing of asyncio from here on: a child that closes the loop breaks it for both.
        folders = [d for d in os.scandir(os.environ["TMPDIR"] + f"/podvisor-{os.geteuid()}")]
        with open(f"/proc/{pod.pid}/stat") as stat:
            state = stat.read().rpartition(")")[2].split()[0]
        print(len(folders), state in "SR", flush=True)
        os._exit(0)

asyncio.run(main())
"""


def test_a_forked_child_that_leaves_the_block_takes_nothing_from_its_parent(
    way: Way, folder: str
) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKING, way.isolation.value]
    environ = os.environ | {"TMPDIR": folder, "XDG_RUNTIME_DIR": ""}
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.stdout == "1 True\n", done.stderr


async def test_without_threads_pods_are_run_all_the_same(
    make: Make, way: Way, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_way(way)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    async with make() as node:
        pod = await node.run(["sh", "-c", PATIENT])
        await said(pod, "up")
    assert pod.exit_code == 3
    assert os.listdir(folder) == []
