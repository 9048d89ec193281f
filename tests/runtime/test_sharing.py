"""Containers of one pod in one pid namespace: what they see, and what keeps them apart."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace

import anyio
import pytest

from supervisor.runtime import launcher, survivors
from supervisor.runtime.cri import LaunchSpec, StartError
from tests.runtime.nodes import PATIENCE, Node, Way, open_node, until, wait_for

pytestmark = pytest.mark.anyio
FOREVER = ("/bin/sh", "-c", "while :; do sleep 1000; done")


# It names itself only when it is up, and nobody waits for that.
NAMED = "until [ $(cat /proc/1/comm) = pause ]; do sleep 0.01; done"


@asynccontextmanager
async def sharing_node(way: Way, folder: str) -> AsyncIterator[Node]:
    async with open_node(way, folder) as node:
        await node.runtime.create_sandbox("uid", shares=True)
        yield node


def shell(node: Node, script: str, **options: object) -> LaunchSpec:
    return node.spec("/bin/sh", "-c", script, shares=True, **options)  # type: ignore[arg-type]


async def run(node: Node, script: str, **options: object) -> str:
    spec = shell(node, script, **options)
    await node.start(spec)
    done = await node.finish(spec)
    assert done.code == 0, done.err
    return done.out


def pause(folder: str) -> int:
    record = survivors.read(survivors.pause_path(folder, "uid"))
    assert record is not None
    return record.main.pid


def inner(pid: int) -> int:
    """What a process is called in the innermost pid namespace."""
    with open(f"/proc/{pid}/status") as file:
        (line,) = [line for line in file if line.startswith("NSpid:")]
    return int(line.split()[-1])


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_they_see_and_signal_each_other_and_pause_is_pid_1(
    namespaces: Way, folder: str
) -> None:
    """§9.4.5"""
    async with sharing_node(namespaces, folder) as node:
        spec = node.spec(*FOREVER, shares=True)
        pid = await node.start(spec)
        other = inner(pid)
        assert other > 1
        seen = await run(
            node,
            f"{NAMED}; cat /proc/1/comm; readlink /proc/1/fd/1; [ $$ != 1 ] && tr '\\0' ' ' < "
            f"/proc/{other}/cmdline; ls -d /proc/{other}/root/; kill -TERM {other}",
        )
        assert seen.splitlines() == [
            "pause",
            "/dev/null",
            f"{' '.join(FOREVER)} "[:-1] + " " + f"/proc/{other}/root/",
        ]
        assert (await node.exit(spec)).exit_code == 143
        node.runtime.acknowledge(spec.id)


async def test_an_end_takes_what_the_container_left_and_nothing_else(
    namespaces: Way, folder: str
) -> None:
    """§9.4.5"""
    async with sharing_node(namespaces, folder) as node:
        other = node.spec(*FOREVER, shares=True)
        other_pid = await node.start(other)
        spec = shell(node, "setsid sh -c 'sleep 1000 & sleep 1000 & wait' & echo on; wait")
        await node.start(spec)
        await node.logged(spec, b"on\n")
        mine = f"{folder}/logs"
        assert os.path.isdir(mine)
        count = "grep -l ^sleep /proc/[0-9]*/comm | wc -l"
        with anyio.fail_after(PATIENCE):
            while int(await run(node, count)) != 3:
                await anyio.sleep(0.02)
        node.runtime.signal(spec.id, signal.SIGKILL)
        assert (await node.exit(spec)).exit_code == 137
        node.runtime.acknowledge(spec.id)
        assert int(await run(node, count)) == 1
        assert alive(other_pid)
        node.runtime.signal(other.id, signal.SIGKILL)
        assert (await node.exit(other)).exit_code == 137


async def test_programs_run_in_the_container_see_its_mounts_and_the_others(
    namespaces: Way, folder: str
) -> None:
    """§9.4.5"""
    async with sharing_node(namespaces, folder) as node:
        first = node.spec(*FOREVER, shares=True)
        pid = inner(await node.start(first))
        spec = shell(node, "echo mine > /dev/termination-log; while :; do sleep 1000; done")
        await node.start(spec)
        await until(lambda: os.path.getsize(spec.termination_file), "its message")
        script = f"cat /dev/termination-log; tr '\\0' '\\n' < /proc/{pid}/cmdline | head -n 1"
        answer = await node.runtime.exec(
            spec.id, ("/bin/sh", "-c", script), timeout=PATIENCE, limit=1000
        )
        assert (answer.exit_code, answer.output) == (0, b"mine\n/bin/sh\n")
        late = await node.runtime.exec(
            spec.id, ("/bin/sh", "-c", "setsid sleep 1001 & exec sleep 1001"), timeout=0.3, limit=9
        )
        assert late.exit_code is None
        assert (await run(node, "grep -c [1]001 /proc/[0-9]*/cmdline | grep -c :1; true")) == "0\n"


async def test_what_a_killed_reaper_leaves_behind_goes_and_nothing_else(
    namespaces: Way, folder: str
) -> None:
    """§9.4.5"""
    async with sharing_node(namespaces, folder) as node:
        other = shell(node, "setsid sleep 1002 & echo on; wait")
        await node.start(other)
        spec = shell(node, "(setsid sleep 1003 &) ; echo on; while :; do sleep 1000; done")
        pid = await node.start(spec)
        for each in (other, spec):
            await node.logged(each, b"on\n")
        with open(f"/proc/{pid}/stat") as file:
            reaper = int(file.read().rpartition(")")[2].split()[1])
        os.kill(reaper, signal.SIGKILL)
        assert (await node.exit(spec)).exit_code == 137
        node.runtime.acknowledge(spec.id)
        assert not alive(pid)
        out = await run(node, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
        assert "1002" in out
        assert "1003" not in out


async def test_the_death_of_pause_ends_all_and_another_sandbox_can_be_made(
    namespaces: Way, folder: str
) -> None:
    """§9.4.5"""
    async with sharing_node(namespaces, folder) as node:
        specs = [node.spec(*FOREVER, shares=True) for _ in range(2)]
        for spec in specs:
            await node.start(spec)
        first = pause(folder)
        os.kill(first, signal.SIGKILL)
        for spec in specs:
            assert (await node.exit(spec)).exit_code == 137
        assert node.gone == ["uid"]  # told before the ends
        with pytest.raises(StartError, match="the pid namespace of the pod is gone"):
            await node.start(node.spec(*FOREVER, shares=True))
        for spec in specs:
            node.runtime.acknowledge(spec.id)
        await node.runtime.create_sandbox("uid", shares=True)
        assert pause(folder) != first
        assert await run(node, f"{NAMED}; cat /proc/1/comm") == "pause\n"
        await node.runtime.remove_sandbox("uid")
        assert not os.path.exists(f"{folder}/pods/uid")


async def test_a_container_of_another_user_can_be_among_them(namespaces: Way, folder: str) -> None:
    if not namespaces.changes_users:
        pytest.skip("needs other users")
    async with sharing_node(namespaces, folder) as node:
        spec = node.spec(*FOREVER, shares=True)
        pid = inner(await node.start(spec))
        out = await run(node, f"id -u; kill -9 {pid} 2>&1 || cat /proc/{pid}/comm", uid=1234)
        assert out.split()[0] == "1234"
        assert out.splitlines()[-1] == "sh"


async def test_nobody_in_there_reads_what_is_in_a_reapers_memory(
    namespaces: Way, folder: str
) -> None:
    """Root may read everything anyway."""
    if namespaces.changes_users:
        pytest.skip("needs an unprivileged user")
    async with sharing_node(namespaces, folder) as node:
        await node.start(node.spec(*FOREVER, shares=True))
        out = await run(
            node,
            "for p in /proc/[0-9]*; do [ $(cat $p/comm) = podvisor-reaper ] && "
            "head -c 1 $p/environ 2>&1 | head -c 0; "
            "dd if=$p/mem of=/dev/null bs=1 count=0 2>/dev/null && echo $(cat $p/comm); done; true",
        )
        assert "podvisor-reaper" not in out


async def test_where_there_are_no_namespaces_nothing_is_made(way: Way, folder: str) -> None:
    if way.namespaces:
        pytest.skip("needs mode group")
    async with open_node(way, folder) as node:
        await node.runtime.create_sandbox("uid", shares=True)
        assert not os.path.exists(survivors.pause_path(folder, "uid"))
        with anyio.fail_after(PATIENCE):
            await node.runtime.remove_sandbox("uid")


async def test_a_neighbour_that_stops_a_reaper_delays_no_end(namespaces: Way, folder: str) -> None:
    """§9.4.5"""
    async with sharing_node(namespaces, folder) as node:
        spec = node.spec(*FOREVER, shares=True)
        pid = inner(await node.start(spec))
        script = f"set -- $(cat /proc/{pid}/stat); kill -STOP $4; kill -KILL {pid}"
        await run(node, script)
        assert (await node.exit(spec)).exit_code == 137
        node.runtime.acknowledge(spec.id)


async def test_killing_everybody_ends_all_but_the_sandbox(namespaces: Way, folder: str) -> None:
    """§9.4.5"""
    async with sharing_node(namespaces, folder) as node:
        other = node.spec(*FOREVER, shares=True)
        await node.start(other)
        spec = shell(node, "kill -9 -1; kill -9 1; kill -9 $$")
        await node.start(spec)
        for each in (spec, other):
            assert (await node.exit(each)).exit_code == 137
            node.runtime.acknowledge(each.id)
        assert node.gone == []
        assert await run(node, f"{NAMED}; cat /proc/1/comm") == "pause\n"


async def test_a_start_that_fails_in_there_says_why(namespaces: Way, folder: str) -> None:
    async with sharing_node(namespaces, folder) as node:
        with pytest.raises(StartError, match="executable file not found"):
            await node.start(node.spec("no-such-program", shares=True))
        with pytest.raises(StartError, match="working directory"):
            await node.start(node.spec("true", cwd="/nowhere", shares=True))
        assert await run(node, "echo well") == "well\n"


def test_what_a_killed_reaper_left_is_found_whoever_is_its_parent_just_now(
    namespaces: Way,
) -> None:
    """Its mount namespace says whose it is; from whom to whom it is handed may be in between."""
    unshare = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    with subprocess.Popen([*unshare, "sleep", "1000"]) as left:
        try:
            ours = launcher.mount_namespace(os.getpid())
            wait_for(lambda: launcher.mount_namespace(left.pid) not in (ours, None), "its own")
            container = SimpleNamespace(main_pidfd=-1, view=os.open(f"/proc/{left.pid}/ns/mnt", 0))
            launcher.Launcher.sweep_view(None, container)  # type: ignore[arg-type]
            os.close(container.view)
            wait_for(lambda: left.poll() == -signal.SIGKILL, "its end")
        finally:
            left.kill()
