"""Containers of one pod in one pid namespace, in a durable node: who is killed, what goes on."""

from __future__ import annotations

import os
import signal

import anyio
import pytest

from supervisor.runtime import launch
from supervisor.runtime.cri import Exit, Presence
from tests.runtime.nodes import (
    PATIENCE,
    Node,
    Way,
    adopt,
    durable_node,
    ended,
    keep_reaping,
    kill,
    reap_strays,
    supervised,
    touch,
    until,
    wait_for,
    waits_for,
)
from tests.runtime.test_durable import state
from tests.runtime.test_sharing import alive, inner, pause

pytestmark = pytest.mark.anyio
__all__ = ["state"]
FOREVER = ("/bin/sh", "-c", "while :; do sleep 1000; done")
BEGIN = """
await node.runtime.create_sandbox("uid", shares=True)
said["pid"] = await node.start(node.spec(*{main!r}, shares=True))
"""


async def look_around(node: Node, pid: int) -> None:
    """What starts now is in the namespace where that process is, and can end with any code."""
    spec = node.spec(
        "/bin/sh", "-c", f"tr '\\0' ' ' < /proc/{inner(pid)}/cmdline; exit 5", shares=True
    )
    await node.start(spec)
    done = await node.finish(spec)
    assert (done.code, done.out[:10]) == (5, "/bin/sh -c")


async def replaced(node: Node) -> None:
    old = node.runtime._launcher.pid
    os.kill(old, signal.SIGKILL)
    await until(lambda: node.runtime._launcher.pid != old, "another launcher")


async def finish_pod(node: Node, folder: str) -> None:
    holder = pause(folder)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep_reaping)
        with anyio.fail_after(PATIENCE):
            await node.runtime.remove_sandbox("uid")
        tasks.cancel_scope.cancel()
    assert not alive(holder)
    assert not os.path.exists(f"{folder}/pods/uid")


async def test_all_goes_on_when_the_supervisor_dies(namespaces: Way, state: str) -> None:
    """§9.4.5"""
    main = waits_for(f"{state}/go", "exit 6")
    said = supervised(namespaces, state, BEGIN.format(main=main))
    async with durable_node(namespaces, state) as node:
        assert node.launcher_pid == said["launcher"]
        assert await node.runtime.adopt_sandbox("uid")
        spec = node.spec(*main, shares=True)
        assert await adopt(node, spec) == said["pid"]
        await look_around(node, said["pid"])
        touch(f"{state}/go")
        end = await ended(node, spec)
        assert isinstance(end, Exit)
        assert end.exit_code == 6
        await finish_pod(node, state)


async def test_all_goes_on_when_the_launcher_dies(namespaces: Way, state: str) -> None:
    """§9.4.5"""
    async with durable_node(namespaces, state) as node:
        await node.runtime.create_sandbox("uid", shares=True)
        main = waits_for(f"{state}/go", "exit 6")
        spec = node.spec(*main, shares=True)
        pid = await node.start(spec)
        await replaced(node)
        await look_around(node, pid)
        argv = ("/bin/sh", "-c", "readlink /proc/1/fd/1; setsid sleep 1001 &")
        done = await node.runtime.exec(spec.id, argv, timeout=PATIENCE, limit=99)
        assert (done.exit_code, done.output) == (0, b"/dev/null\n")
        await replaced(node)
        await look_around(node, pid)
        touch(f"{state}/go")
        end = await ended(node, spec)
        assert isinstance(end, Exit)
        assert end.exit_code == 6
        await finish_pod(node, state)


async def test_both_killed_the_next_ones_take_all_over(namespaces: Way, state: str) -> None:
    """§9.4.5"""
    main = waits_for(f"{state}/go", "exit 6")
    said = supervised(namespaces, state, BEGIN.format(main=main))
    kill(said["launcher"])
    holder = pause(state)
    async with durable_node(namespaces, state) as node:
        assert await node.runtime.adopt_sandbox("uid")
        spec = node.spec(*main, shares=True)
        assert await adopt(node, spec) == said["pid"]
        assert await node.runtime.end_strays(frozenset()) == 0
        await look_around(node, said["pid"])
        await node.runtime.create_sandbox("uid", shares=True)
        assert pause(state) == holder
        touch(f"{state}/go")
        end = await ended(node, spec)
        assert isinstance(end, Exit)
        assert end.exit_code == 6
        await finish_pod(node, state)


async def test_an_exit_while_both_are_dead_is_known(namespaces: Way, state: str) -> None:
    main = waits_for(f"{state}/go", "exit 6")
    said = supervised(namespaces, state, BEGIN.format(main=main))
    kill(said["launcher"])
    touch(f"{state}/go")
    wait_for(lambda: not alive(said["pid"]), "the main's end")
    async with durable_node(namespaces, state) as node:
        # Only pause is left to say which user namespace it was.
        assert await node.runtime.adopt_sandbox("uid")
        spec = node.spec(*main, shares=True)
        await adopt(node, spec)
        end = await ended(node, spec)
        assert isinstance(end, Exit)
        assert end.exit_code == 6
        done = await node.run(
            "/bin/sh", "-c", "echo $(($(ls -d /proc/[0-9]* | wc -l) > 2))", shares=True
        )
        assert done.out == "1\n"
        await finish_pod(node, state)


@pytest.mark.parametrize("who", ["supervisor", "both"])
async def test_the_sandbox_of_an_unknown_pod_is_ended(
    namespaces: Way, state: str, who: str
) -> None:
    said = supervised(namespaces, state, BEGIN.format(main=FOREVER))
    if who == "both":
        kill(said["launcher"])
    holder = pause(state)
    async with durable_node(namespaces, state) as node, anyio.create_task_group() as tasks:
        tasks.start_soon(keep_reaping)
        assert await node.runtime.end_strays(frozenset()) == 1
        await node.runtime.remove_other_pods(frozenset())
        assert not alive(holder)
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("who", ["supervisor", "both"])
async def test_a_sandbox_that_died_while_nobody_looked_is_gone(
    namespaces: Way, state: str, who: str
) -> None:
    said = supervised(namespaces, state, BEGIN.format(main=FOREVER))
    if who == "both":
        kill(said["launcher"])
    holder = pause(state)
    os.kill(holder, signal.SIGKILL)
    wait_for(lambda: reap_strays() is None or not alive(said["pid"]), "the main's end")
    async with durable_node(namespaces, state) as node:
        spec = node.spec(*FOREVER, shares=True)
        if who == "both":
            wait_for(lambda: reap_strays() is None or not alive(holder), "its end")
            assert not await node.runtime.adopt_sandbox("uid")
            await adopt(node, spec, Presence.GONE)
        else:
            with anyio.fail_after(PATIENCE):  # the launcher may be just about to hear of it
                while await node.runtime.adopt_sandbox("uid"):
                    await anyio.sleep(0.02)
            await adopt(node, spec)
            assert (await ended(node, spec)).exit_code == 137
        await node.runtime.create_sandbox("uid", shares=True)
        assert pause(state) != holder
        await finish_pod(node, state)


async def test_the_death_of_an_adopted_sandbox_is_told(namespaces: Way, state: str) -> None:
    async with durable_node(namespaces, state) as node:
        await node.runtime.create_sandbox("uid", shares=True)
        spec = node.spec(*FOREVER, shares=True)
        await node.start(spec)
        await replaced(node)
        await look_around(node, await node.start(spec))
        holder = pause(state)
        os.kill(holder, signal.SIGKILL)
        end = await ended(node, spec)
        assert not isinstance(end, Exit) or end.exit_code == 137
        await until(lambda: "uid" not in node.runtime._sandboxes, "the news")
        await node.runtime.create_sandbox("uid", shares=True)
        assert pause(state) != holder
        await finish_pod(node, state)


async def test_an_adopted_container_whose_reaper_is_killed_ends_whole(
    namespaces: Way, state: str
) -> None:
    async with durable_node(namespaces, state) as node:
        await node.runtime.create_sandbox("uid", shares=True)
        script = "(setsid sleep 1003 &); while :; do sleep 1000; done"
        spec = node.spec("/bin/sh", "-c", script, shares=True)
        other = node.spec(*FOREVER, shares=True)
        await node.start(other)
        pid = await node.start(spec)
        await replaced(node)
        await look_around(node, pid)
        with open(f"/proc/{pid}/stat") as file:
            reaper = int(file.read().rpartition(")")[2].split()[1])
        os.kill(reaper, signal.SIGKILL)
        await ended(node, spec)
        assert not alive(pid)
        script = "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"
        done = await node.run("/bin/sh", "-c", script, shares=True)
        assert "sleep 1000" in done.out
        assert "1003" not in done.out
        node.runtime.signal(other.id, signal.SIGKILL)
        await ended(node, other)
        await finish_pod(node, state)


@pytest.mark.parametrize(
    "point", ["after-clone", "after-spawn-record", "after-spawn", "during-join"]
)
async def test_a_launcher_that_dies_while_it_starts_a_sandbox_leaves_one_or_none(
    namespaces: Way, state: str, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    kind = "StartContainer-shared" if point == "during-join" else "CreateSandbox"
    monkeypatch.setenv("PODVISOR_FAILPOINTS", f"{point}@{kind}=kill")
    async with durable_node(namespaces, state) as node:
        monkeypatch.delenv("PODVISOR_FAILPOINTS")
        first = node.runtime._launcher.pid
        with anyio.fail_after(PATIENCE):
            await node.runtime.create_sandbox("uid", shares=True)
            spec = node.spec(*FOREVER, shares=True)
            pid = await node.start(spec)
        await until(lambda: node.runtime._launcher.pid != first, "another launcher")
        await look_around(node, pid)
        node.runtime.signal(spec.id, signal.SIGKILL)
        await ended(node, spec)
        await finish_pod(node, state)


@pytest.mark.parametrize("point", ["before-kill", "after-kill"])
async def test_a_launcher_that_dies_while_it_ends_a_sandbox_is_not_waited_for(
    namespaces: Way, state: str, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """The next one ends what is left, and the end is told once: by the answer."""
    monkeypatch.setenv("PODVISOR_FAILPOINTS", f"{point}@FinishPod=kill")
    monkeypatch.setattr(launch, "_STOP_TIMEOUT", 10 * PATIENCE)
    async with durable_node(namespaces, state) as node:
        monkeypatch.delenv("PODVISOR_FAILPOINTS")
        first = node.runtime._launcher.pid
        await node.runtime.create_sandbox("uid", shares=True)
        spec = node.spec(*FOREVER, shares=True)
        await node.start(spec)
        node.runtime.signal(spec.id, signal.SIGKILL)
        await ended(node, spec)
        await finish_pod(node, state)
        assert node.runtime._launcher.pid != first
        await node.run("true")  # what was told before that has been heard
        assert node.gone == []


async def test_a_sandbox_that_nobody_has_taken_on_ends_with_its_pod(
    namespaces: Way, state: str
) -> None:
    """Supervisor and launcher died while it was made, and the pod is not wanted any more."""
    said = supervised(namespaces, state, BEGIN.format(main=("true",)))
    kill(said["launcher"])
    async with durable_node(namespaces, state) as node:
        await finish_pod(node, state)
