"""A container in the pid namespace of another one: what it sees, and who ends with whom."""

from __future__ import annotations

import os
import signal

import anyio
import pytest

from supervisor.lifecycle.facts import ContainerId
from supervisor.runtime.cri import Exit, LaunchSpec, StartError
from tests.runtime.nodes import (
    PATIENCE,
    Node,
    Way,
    adopt,
    durable_node,
    ended,
    kill,
    marked,
    open_node,
    supervised,
    touch,
    until,
    waits_for,
)
from tests.runtime.test_durable import state
from tests.runtime.test_launcher_end import mark
from tests.runtime.test_sharing import FOREVER, alive, inner

pytestmark = pytest.mark.anyio
__all__ = ["mark", "state"]
LEAVES = "(setsid sh -c 'sleep 1000; : {mark}' &) ; echo on; while :; do sleep 1000; done"


async def host(node: Node, **options: object) -> tuple[LaunchSpec, int]:
    spec = node.spec(*FOREVER, **options)  # type: ignore[arg-type]
    return spec, await node.start(spec)


def guest(node: Node, target: LaunchSpec, script: str, **options: object) -> LaunchSpec:
    return node.spec("/bin/sh", "-c", script, target=target.id, **options)  # type: ignore[arg-type]


async def test_it_sees_and_signals_whom_it_joins_and_has_its_own_files(
    namespaces: Way, folder: str
) -> None:
    async with open_node(namespaces, folder) as node:
        target, pid = await host(node)
        spec = guest(
            node,
            target,
            "tr '\\0' ' ' < /proc/1/cmdline; echo; echo mine > /dev/termination-log; "
            "[ $$ != 1 ] && kill -0 1 && echo seen; read a; exit 3",
            stdin=True,
        )
        own = await node.start(spec)
        await node.logged(spec, b"seen")
        assert inner(own) > 1
        for name, same in (("pid", True), ("mnt", False)):
            links = {os.readlink(f"/proc/{each}/ns/{name}") for each in (pid, own)}
            assert len(links) == (1 if same else 2)
        answer = await node.runtime.exec(
            spec.id, ("cat", "/dev/termination-log"), timeout=PATIENCE, limit=99
        )
        assert answer.output == b"mine\n"
        async with await node.runtime.open_attach(spec.id) as attached:
            os.write(attached.stdin, b"\n")
            done = await node.finish(spec)
        assert (done.code, done.message) == (3, "mine\n")
        assert done.out.startswith("/bin/sh -c while")
        assert alive(pid)


async def test_its_end_takes_all_that_it_has_started_and_not_its_host(
    way: Way, folder: str, mark: str
) -> None:
    async with open_node(way, folder) as node:
        target, pid = await host(node)
        spec = guest(node, target, LEAVES.format(mark=mark))
        await node.start(spec)
        await node.logged(spec, b"on\n")
        node.runtime.signal(spec.id, signal.SIGKILL)
        assert (await node.exit(spec)).exit_code == 137
        assert marked(mark) == []
        assert alive(pid)
        node.runtime.acknowledge(spec.id)
        again = guest(node, target, "exit 5")
        await node.start(again)
        assert (await node.finish(again)).code == 5


async def test_the_end_of_its_host_ends_it_and_waits_for_nobody(
    namespaces: Way, folder: str, mark: str
) -> None:
    async with open_node(namespaces, folder) as node:
        target, _ = await host(node)
        spec = guest(node, target, LEAVES.format(mark=mark))
        await node.start(spec)
        await node.logged(spec, b"on\n")
        node.runtime.signal(target.id, signal.SIGKILL)
        # Though nobody has acknowledged the guest's.
        assert (await node.exit(target)).exit_code == 137
        assert (await node.exit(spec)).exit_code == 137
        assert marked(mark) == []
        with pytest.raises(StartError, match=f'cannot join container "{target.id.name}"'):
            await node.start(guest(node, target, "true"))
        with pytest.raises(StartError, match="it is not running"):
            await node.start(node.spec("true", target=ContainerId("uid", "nobody", 0)))


async def test_what_a_killed_reaper_of_it_leaves_behind_goes_and_not_its_host(
    namespaces: Way, folder: str, mark: str
) -> None:
    async with open_node(namespaces, folder) as node:
        target, pid = await host(node)
        spec = guest(node, target, LEAVES.format(mark=mark))
        own = await node.start(spec)
        await node.logged(spec, b"on\n")
        with open(f"/proc/{own}/stat") as file:
            reaper = int(file.read().rpartition(")")[2].split()[1])
        os.kill(reaper, signal.SIGKILL)
        assert (await node.exit(spec)).exit_code == 137
        await until(lambda: not marked(mark), "the end of what it left")
        assert alive(pid)


async def test_a_start_that_fails_in_there_says_why(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        target, _ = await host(node)
        with pytest.raises(StartError, match="executable file not found"):
            await node.start(node.spec("no-such-program", target=target.id))
        done = guest(node, target, "echo well")
        await node.start(done)
        assert (await node.finish(done)).out == "well\n"


async def test_where_there_are_no_namespaces_it_runs_beside(way: Way, folder: str) -> None:
    if way.namespaces:
        pytest.skip("needs mode group")
    async with open_node(way, folder) as node:
        target, pid = await host(node)
        spec = guest(node, target, f"kill -0 {pid} && echo seen; exit 4")
        await node.start(spec)
        done = await node.finish(spec)
        assert (done.code, done.out) == (4, "seen\n")


async def test_in_a_pod_that_shares_its_pid_namespace_it_is_one_of_them(
    namespaces: Way, folder: str
) -> None:
    async with open_node(namespaces, folder) as node:
        await node.runtime.create_sandbox("uid", shares=True)
        target, pid = await host(node, shares=True)
        spec = guest(node, target, f"kill -0 {inner(pid)} && echo seen", shares=True)
        await node.start(spec)
        assert (await node.finish(spec)).out == "seen\n"


async def test_it_goes_on_whoever_dies(namespaces: Way, state: str, mark: str) -> None:
    main = waits_for(f"{state}/go", "exit 6")
    supervised(
        namespaces,
        state,
        f"""
        target = node.spec("/bin/sh", "-c", "while :; do sleep 1000; done")
        await node.start(target)
        for main in ({main!r}, ("/bin/sh", "-c", {LEAVES.format(mark=mark)!r})):
            spec = node.spec(*main, target=target.id)
            await node.start(spec)
            await node.logged(spec, b"\\n")
        """,
    )
    async with durable_node(namespaces, state) as node:
        target = node.spec(*FOREVER)
        first, second = (node.spec("ignored", target=target.id) for _ in range(2))
        pid = await adopt(node, target)
        for spec in (first, second):
            await adopt(node, spec)
        kill(node.launcher_pid)
        await until(lambda: node.runtime._launcher.pid != node.launcher_pid, "another launcher")
        answer = await node.runtime.exec(
            first.id, ("readlink", "/proc/self/ns/pid"), timeout=PATIENCE, limit=99
        )
        assert answer.output.decode().strip() == os.readlink(f"/proc/{pid}/ns/pid")
        late = guest(node, target, "exit 5")
        with anyio.fail_after(PATIENCE):
            await node.start(late)
        assert (await ended(node, late)).exit_code == 5
        touch(f"{state}/go")
        end = await ended(node, first)
        assert isinstance(end, Exit)
        assert end.exit_code == 6
        assert marked(mark)
        node.runtime.signal(target.id, signal.SIGKILL)
        assert (await ended(node, target)).exit_code == 137
        await ended(node, second)
        assert marked(mark) == []


async def test_how_it_ended_with_its_host_is_known_though_the_launcher_died_since(
    namespaces: Way, state: str
) -> None:
    said = supervised(
        namespaces,
        state,
        """
        target = node.spec("/bin/sh", "-c", "while :; do sleep 1000; done")
        said["host"] = await node.start(target)
        await node.start(node.spec("sleep", "1000", target=target.id))
        said["launcher"] = node.launcher_pid
        """,
    )
    os.kill(said["host"], signal.SIGKILL)
    exit_file = f"{state}/logs/ns_pod_uid/c2/0.exit"
    await until(lambda: os.path.exists(exit_file), "what the launcher wrote")
    kill(said["launcher"])
    async with durable_node(namespaces, state) as node:
        target = node.spec(*FOREVER)
        spec = node.spec("ignored", target=target.id)
        await adopt(node, spec)
        assert (await ended(node, spec)).exit_code == 137
        await until(lambda: not os.path.exists(exit_file), "its removal")
