"""Programs in containers that somebody talks to: what flows each way, and what ends with whom."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from supervisor.lifecycle.facts import ContainerId
from supervisor.runtime.cri import (
    ContainerGoneError,
    ExecError,
    ExecInterruptedError,
    ExecSession,
    LaunchSpec,
)
from tests.runtime.conftest import in_all_ways_on_both_loops
from tests.runtime.nodes import (
    NOBODY,
    PATIENCE,
    Node,
    Way,
    adopt,
    durable_node,
    ended,
    kill,
    marked,
    open_node,
    read_log,
    supervised,
    text_of,
    until,
)
from tests.runtime.test_durable import state
from tests.runtime.test_exec import launcher_fds, minders, sleeper

pytestmark = pytest.mark.anyio
__all__ = ["state"]
PYTHON = "/usr/bin/python3"


@pytest.fixture
def mark() -> str:
    return f"mark-{os.getpid()}-{time.monotonic_ns()}"


@asynccontextmanager
async def session(
    node: Node,
    spec: LaunchSpec,
    *argv: str,
    stdin: bool = False,
    stdout: bool = True,
    stderr: bool = True,
    tty: bool = False,
) -> AsyncIterator[ExecSession]:
    with anyio.fail_after(PATIENCE):
        opened = await node.runtime.open_exec(
            spec.id, argv, stdin=stdin, stdout=stdout, stderr=stderr, tty=tty
        )
    async with opened:
        yield opened


async def read(fd: int, *, until: bytes = b"") -> bytes:
    """What comes, up to its end or these words."""
    got = bytearray()
    with anyio.fail_after(PATIENCE):
        while not until or until not in got:
            try:
                data = os.read(fd, 65536)
            except BlockingIOError:
                await anyio.wait_readable(fd)
                continue
            except OSError as error:
                if error.errno == errno.EIO:  # so a terminal ends
                    break
                raise
            if not data:
                break
            got += data
    return bytes(got)


async def write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    with anyio.fail_after(PATIENCE):
        while rest:
            try:
                rest = rest[os.write(fd, rest) :]
            except BlockingIOError:
                await anyio.wait_writable(fd)


async def code(opened: ExecSession) -> int:
    with anyio.fail_after(PATIENCE):
        return await opened.wait()


# --- what flows ----------------------------------------------------------------------------------


@in_all_ways_on_both_loops
async def test_what_is_written_comes_back_to_the_byte(way: Way, folder: str) -> None:
    sent = os.urandom(1 << 20) * 20
    async with open_node(way, folder) as node:
        spec = await sleeper(node)
        async with session(node, spec, "cat", stdin=True) as cat:

            async def feed() -> None:
                await write(cat.stdin, sent)
                cat.close_stdin()
                cat.close_stdin()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(feed)
                got = await read(cat.stdout)
            assert got == sent
            assert cat.stdin == -1
            assert await read(cat.stderr) == b""
            assert await code(cat) == await code(cat) == 0


async def test_outputs_are_apart_and_one_that_is_not_wanted_is_nobodys(
    way: Way, folder: str
) -> None:
    script = "cat; echo out; echo err >&2; readlink /proc/self/fd/0 /proc/self/fd/2 >&2; exit 7"
    async with open_node(way, folder) as node:
        spec = await sleeper(node)
        async with session(node, spec, "sh", "-c", script) as both:
            assert (both.stdin, await code(both)) == (-1, 7)
            assert await read(both.stdout) == b"out\n"
            assert (await read(both.stderr)).startswith(b"err\n/dev/null\npipe:")
        async with session(node, spec, "sh", "-c", script, stdout=False) as errors:
            assert (errors.stdout, await code(errors)) == (-1, 7)
        async with session(node, spec, "sh", "-c", script, stderr=False) as outs:
            assert (outs.stderr, await code(outs)) == (-1, 7)
            assert await read(outs.stdout) == b"out\n"


async def test_the_end_of_one_direction_leaves_the_other(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        spec = await sleeper(node)
        script = "exec >&-; read line; echo got $line >&2; cat >&2"
        async with session(node, spec, "sh", "-c", script, stdin=True) as half:
            assert await read(half.stdout) == b""
            await write(half.stdin, b"one\ntwo\n")
            assert await read(half.stderr, until=b"two\n") == b"got one\ntwo\n"
            half.close_stdin()
            assert await code(half) == 0


@pytest.mark.parametrize(
    ("script", "expected"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill $$", 143)]
)
async def test_wait_gives_the_exit_code(way: Way, folder: str, script: str, expected: int) -> None:
    async with open_node(way, folder) as node:
        spec = await sleeper(node)
        async with session(node, spec, "sh", "-c", script, stdin=True) as opened:
            assert await code(opened) == expected


async def test_it_runs_as_the_containers_user_and_may_open_its_streams_again(
    way: Way, folder: str
) -> None:
    if not way.changes_users:
        pytest.skip("only root gives containers another user")
    async with open_node(way, folder) as node:
        spec = await sleeper(node, uid=NOBODY, gid=NOBODY, groups=())
        for tty in (False, True):
            script = "id -u > /dev/stdout; cat /dev/stdin"
            async with session(node, spec, "sh", "-c", script, stdin=True, tty=tty) as opened:
                await write(opened.stdin, b"hello\n\x04")
                opened.close_stdin()
                got = await read(opened.stdout)
                assert b"65534" in got
                assert b"hello" in got
                assert await code(opened) == 0


# --- terminals -----------------------------------------------------------------------------------


LOOK = """
import os, signal, sys
signal.signal(signal.SIGWINCH, lambda *_: os.write(1, b"size %d %d\\n" % os.get_terminal_size()))
print(os.ttyname(0), os.environ["TERM"], os.getsid(0) == os.getpid() == os.tcgetpgrp(0), flush=True)
os.close(os.open("/dev/tty", os.O_RDWR))
os.close(os.open(os.ttyname(0), os.O_RDWR | os.O_NOCTTY))
while (line := sys.stdin.readline()):
    print("got", line.strip(), len(os.listdir("/proc/self/fd")) - 1, flush=True)
"""


async def test_a_terminal_is_that_of_the_programs_own_session(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        spec = await sleeper(node)
        async with session(node, spec, PYTHON, "-c", LOOK, stdin=True, tty=True) as typed:
            assert typed.stderr == -1
            first = await read(typed.stdout, until=b"\n")
            assert first.startswith(b"/dev/pts/")
            assert first.endswith(b" xterm True\r\n")
            typed.resize(132, 43)
            assert b"size 132 43" in await read(typed.stdout, until=b"\n")
            await write(typed.stdin, b"hello\r")
            assert b"hello\r\ngot hello 3\r\n" in await read(typed.stdout, until=b"3\r\n")
            await write(typed.stdin, b"\x03")
            assert await code(typed) == 130 or await code(typed) == 1
            await read(typed.stdout)
        async with session(node, spec, "tty", tty=True) as looked_at:
            assert looked_at.stdin == -1
            assert (await read(looked_at.stdout)).startswith(b"/dev/pts/")
            assert await code(looked_at) == 0


async def test_what_a_terminal_showed_last_is_still_to_be_read(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        spec = await sleeper(node)
        async with session(node, spec, "sh", "-c", "echo one; echo two; exit 5", tty=True) as shown:
            assert await code(shown) == 5
            assert await read(shown.stdout) == b"one\r\ntwo\r\n"


async def test_a_size_without_a_terminal_is_nothing(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        spec = await sleeper(node)
        async with session(node, spec, "true") as opened:
            opened.resize(80, 24)
            assert await code(opened) == 0
        opened.resize(80, 24)


# --- what ends with whom -------------------------------------------------------------------------


async def test_leaving_it_ends_all_that_the_program_has_started(
    way: Way, folder: str, mark: str
) -> None:
    sleep = f"sh -c 'sleep 1000; : {mark}'"
    script = f"(setsid {sleep} &) ; {sleep} & echo up; sleep 1000"
    async with open_node(way, folder) as node:
        spec = await sleeper(node)
        before = launcher_fds(node)
        for tty in (False, True):
            async with session(node, spec, "sh", "-c", script, stdin=True, tty=tty) as opened:
                await read(opened.stdout, until=b"up")
            assert marked(mark) == []
            with anyio.move_on_after(0):  # and a wait that was cancelled did nothing else
                await opened.wait()
        await until(lambda: launcher_fds(node) <= before, "the end of the minders")


async def test_cancelling_whoever_opens_or_waits_leaves_no_process(
    way: Way, folder: str, mark: str
) -> None:
    async with open_node(way, folder) as node:
        spec = await sleeper(node)
        argv = ("sh", "-c", f"sleep 1000; : {mark}")
        for moment in (0.0, 0.001, 0.01):
            with anyio.move_on_after(moment):
                async with session(node, spec, *argv, stdin=True) as opened:
                    await opened.wait()
        with anyio.move_on_after(5) as waiting:
            async with session(node, spec, *argv, stdin=True) as opened:
                await until(lambda: marked(mark), "the program")
                waiting.cancel()
                await opened.wait()
        assert marked(mark) == []


async def test_one_left_behind_that_holds_the_output_delays_nothing(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        spec = await sleeper(node)
        script = "echo here; (sleep 1000 &); exit 4"
        async with session(node, spec, "sh", "-c", script) as opened:
            assert await code(opened) == 4
            assert os.read(opened.stdout, 100) == b"here\n"


async def test_it_ends_with_its_container(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        spec = await sleeper(node)
        async with session(node, spec, "sleep", "1000", stdin=True) as opened:
            node.runtime.signal(spec.id, 9)
            await node.exit(spec)
            assert await code(opened) == 137
            assert await read(opened.stdout) == b""
        with pytest.raises(ContainerGoneError, match="is not running"):
            await node.runtime.open_exec(
                spec.id, ("true",), stdin=False, stdout=True, stderr=True, tty=False
            )


async def test_what_cannot_be_started_says_why(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        spec = await sleeper(node)
        before = len(os.listdir("/proc/self/fd"))
        for argv, words in (
            (("nonsense",), r'exec: "nonsense": executable file not found in \$PATH'),
            (("/etc/passwd",), 'exec: "/etc/passwd": permission denied'),
            ((), "no command"),
            (("a\0b",), "cannot"),
        ):
            for tty in (False, True):
                with pytest.raises(ExecError, match=words), anyio.fail_after(PATIENCE):
                    await node.runtime.open_exec(
                        spec.id, argv, stdin=True, stdout=True, stderr=True, tty=tty
                    )
        with pytest.raises(ContainerGoneError):
            await node.runtime.open_exec(
                ContainerId("u", "n", 0), ("true",), stdin=True, stdout=True, stderr=True, tty=False
            )
        await until(lambda: not minders(node), "the end of the minder")
        assert len(os.listdir("/proc/self/fd")) <= before


async def test_its_arguments_may_be_large(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        spec = await sleeper(node)
        text = "x" * 100_000
        async with session(node, spec, "printf", "%s", text, stdin=True) as opened:
            assert await read(opened.stdout) == text.encode()


async def test_those_of_a_pod_that_shares_its_pid_namespace_work_as_well(
    way: Way, folder: str, mark: str
) -> None:
    async with open_node(way, folder) as node:
        await node.runtime.create_sandbox("uid", shares=True)
        spec = await sleeper(node, shares=True)
        async with session(node, spec, "sh", "-c", "cat; exit 3", stdin=True) as cat:
            await write(cat.stdin, b"hello")
            cat.close_stdin()
            assert await read(cat.stdout) == b"hello"
            assert await code(cat) == 3
        script = f"(setsid sh -c 'sleep 1000; : {mark}' &) ; echo up; sleep 1000"
        async with session(node, spec, "sh", "-c", script, tty=True) as opened:
            await read(opened.stdout, until=b"up")
        assert marked(mark) == []
        node.runtime.signal(spec.id, 9)
        await node.exit(spec)
        node.runtime.acknowledge(spec.id)
        await node.runtime.remove_sandbox("uid")


# --- a main that somebody attaches to ------------------------------------------------------------


async def test_several_may_write_to_a_main_one_after_the_other(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        spec = node.spec("cat", stdin=True)
        await node.start(spec)
        fds = len(os.listdir("/proc/self/fd"))
        for words in (b"one\n", b"two\n"):
            async with await node.runtime.open_attach(spec.id) as attached:
                await write(attached.stdin, words)
                attached.resize(80, 24)
            await node.logged(spec, words)
            assert attached.stdin == -1
        assert len(os.listdir("/proc/self/fd")) == fds
        node.runtime.signal(spec.id, 9)
        async with await node.runtime.open_attach(spec.id) as attached:
            assert (await node.finish(spec)).out == "one\ntwo\n"
            with pytest.raises(BrokenPipeError):
                await write(attached.stdin, b"three")
        with pytest.raises(ContainerGoneError, match="is not running"):
            await node.runtime.open_attach(spec.id)


@pytest.mark.parametrize("closes", [True, False])
async def test_an_stdin_for_one_ends_with_the_first_who_has_attached(
    way: Way, folder: str, closes: bool
) -> None:
    sent = os.urandom(1 << 20) * 20
    async with open_node(way, folder) as node:
        script = "echo waits; sha256sum; exit 4"
        spec = node.spec("sh", "-c", script, stdin=True, stdin_once=True)
        await node.start(spec)
        await node.logged(spec, b"waits")
        async with await node.runtime.open_attach(spec.id) as attached:
            await write(attached.stdin, sent)
            if closes:
                attached.close_stdin()
                attached.close_stdin()
                async with await node.runtime.open_attach(spec.id) as other:
                    assert other.stdin == -1
        done = await node.finish(spec)
    assert done.code == 4
    assert done.out.split()[1] == hashlib.sha256(sent).hexdigest()


async def test_a_main_without_stdin_has_nothing_to_write_to(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        for tty in (False, True):
            spec = node.spec(
                "sh",
                "-c",
                "trap 'stty size' WINCH; echo up; sleep 1; sleep 1000 & while true; do wait; done",
                tty=tty,
            )
            await node.start(spec)
            await node.logged(spec, b"up")
            async with await node.runtime.open_attach(spec.id) as attached:
                assert attached.stdin == -1
                attached.close_stdin()
                attached.resize(99, 33)
                if tty:
                    await node.logged(spec, b"33 99")


async def test_the_terminal_of_a_main_is_typed_at_and_has_a_size(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        spec = node.spec("sh", "-c", "read a; stty size; echo got $a; read b", stdin=True, tty=True)
        await node.start(spec)
        async with await node.runtime.open_attach(spec.id) as attached:
            attached.resize(77, 33)
            await write(attached.stdin, b"hello\r")
            attached.close_stdin()
            await node.logged(spec, b"got hello")
        async with await node.runtime.open_attach(spec.id) as attached:
            await write(attached.stdin, b"\x03")
            done = await node.finish(spec)
    assert done.code == 130
    assert done.out.startswith("hello\r\n33 77\r\ngot hello\r\n")


# --- a durable node ------------------------------------------------------------------------------


async def test_it_ends_with_a_killed_launcher_and_the_next_one_can_be_asked(
    way: Way, state: str, mark: str
) -> None:
    async with durable_node(way, state) as node:
        spec = await sleeper(node)
        script = f"(setsid sh -c 'sleep 1000; : {mark}' &) ; echo up; cat"
        async with session(node, spec, "sh", "-c", script, stdin=True) as opened:
            await read(opened.stdout, until=b"up")
            os.kill(node.launcher_pid, signal.SIGKILL)
            with pytest.raises(ExecInterruptedError):
                await code(opened)
            await until(lambda: not marked(mark), "the end of all that it started")
        await until(lambda: node.runtime._launcher.pid != node.launcher_pid, "another launcher")
        for tty in (False, True):
            async with session(node, spec, "cat", stdin=True, tty=tty) as cat:
                await write(cat.stdin, b"hello\n\x04")
                cat.close_stdin()
                assert b"hello" in await read(cat.stdout)
                assert await code(cat) == 0
        node.runtime.signal(spec.id, signal.SIGKILL)
        assert (await ended(node, spec)).exit_code == 137


async def test_it_ends_with_a_killed_supervisor(way: Way, state: str, mark: str) -> None:
    supervised(
        way,
        state,
        f"""
        spec = node.spec("sleep", "1000")
        await node.start(spec)
        words = ("/bin/sh", "-c", "(setsid sleep 1000 &); sleep 1000; true", {mark!r})
        session = await node.runtime.open_exec(
            spec.id, words, stdin=True, stdout=True, stderr=True, tty=True
        )
        await until(lambda: marked({mark!r}), "the program")
        """,
    )
    await until(lambda: not marked(mark), "the program's end")


async def test_a_main_that_is_attached_to_outlives_whoever_dies(way: Way, state: str) -> None:
    said = supervised(
        way,
        state,
        """
        spec = node.spec("cat", stdin=True)
        await node.start(spec)
        terminal = node.spec("cat", stdin=True, tty=True)
        await node.start(terminal)
        attached = await node.runtime.open_attach(spec.id)
        os.write(attached.stdin, b"first\\n")
        await node.logged(spec, b"first")
        """,
    )
    async with durable_node(way, state) as node:
        assert node.launcher_pid == said["launcher"]
        specs = [node.spec("cat", stdin=True), node.spec("cat", stdin=True, tty=True)]
        for words in (b"second\n", b"third\n"):
            for spec in specs:
                await adopt(node, spec)
                async with await node.runtime.open_attach(spec.id) as attached:
                    await write(attached.stdin, words)
                await node.logged(spec, words.strip())
            if words == b"second\n":
                kill(node.launcher_pid)
                await until(lambda: node.runtime._launcher.pid != node.launcher_pid, "another")
        for spec in specs:
            node.runtime.signal(spec.id, signal.SIGKILL)
            assert (await ended(node, spec)).exit_code == 137


async def test_an_stdin_for_one_ends_with_the_supervisor_that_lent_it(way: Way, state: str) -> None:
    supervised(
        way,
        state,
        """
        lent = node.spec("cat", stdin=True, stdin_once=True)
        await node.start(lent)
        free = node.spec("cat", stdin=True, stdin_once=True)
        await node.start(free)
        attached = await node.runtime.open_attach(lent.id)
        """,
    )
    async with durable_node(way, state) as node:
        lent, free = [node.spec("cat", stdin=True, stdin_once=True) for _ in range(2)]
        await adopt(node, lent)
        assert (await ended(node, lent)).exit_code == 0
        await adopt(node, free)
        kill(node.launcher_pid)
        await until(lambda: node.runtime._launcher.pid != node.launcher_pid, "another launcher")
        async with await node.runtime.open_attach(free.id) as attached:
            await write(attached.stdin, b"hello\n")
        assert (await ended(node, free)).exit_code == 0
        assert text_of(read_log(free.log_path), "stdout") == b"hello\n"
