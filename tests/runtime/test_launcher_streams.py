"""stdin and terminals of containers: what they find, and what their logs hold."""

from __future__ import annotations

import json
import os
import pty
import tempfile
import termios

import pytest

from tests.runtime.nodes import NOBODY, Way, open_node, read_log, text_of, until

pytestmark = pytest.mark.anyio
PYTHON = "/usr/bin/python3"
ASK = "stty size; read a; echo got $a; read b"
LOOK = """
import json, os, sys
print(json.dumps({
    "names": [os.ttyname(fd) for fd in (0, 1, 2)], "size": os.get_terminal_size(),
    "leads": os.getsid(0) == os.getpid() == os.tcgetpgrp(0), "uid": os.getuid(),
    "fds": len(os.listdir("/proc/self/fd")) - 1,
}))
os.close(os.open("/dev/tty", os.O_RDWR))
os.close(os.open(os.ttyname(0), os.O_RDWR | os.O_NOCTTY))
"""


async def test_an_stdin_that_nobody_writes_to_stays_open(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        spec = node.spec("sh", "-c", "echo waits; cat; echo never", stdin=True)
        await node.start(spec)
        await node.logged(spec, b"waits")
        assert node.kill_logger(), "whoever ends meanwhile"
        ended = await node.run("sh", "-c", "timeout 0.3 cat; echo $?", stdin=True)
        assert ended.out == "124\n"
        node.runtime.signal(spec.id, 9)
        assert (await node.finish(spec)).out == "waits\n"


async def test_an_stdin_that_was_given_is_read_to_its_end(way: Way, folder: str) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"one\ntwo\n")
        file.seek(0)
        before = os.fstat(file.fileno())
        async with open_node(way, folder, lambda _: [os.dup(file.fileno())]) as node:
            done = await node.run("cat", stdin=True)
            assert (done.code, done.out) == (0, "one\ntwo\n")
            assert (await node.run("cat")).out == "", "one without stdin is given nothing"
        after = os.fstat(file.fileno())
        assert (after.st_uid, after.st_mode) == (before.st_uid, before.st_mode)


async def test_a_terminal_is_that_of_the_containers_own_session(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        done = await node.run(PYTHON, "-c", LOOK, tty=True)
        again = await node.run(PYTHON, "-c", LOOK, tty=True)
    assert (done.code, done.err) == (0, "")
    seen = json.loads(done.out)
    assert len(set(seen["names"])) == 1
    assert seen["names"][0].startswith("/dev/pts/")
    assert seen["leads"] is True
    assert seen["fds"] == 3
    assert again.code == 0


async def test_a_terminal_belongs_to_the_containers_user(way: Way, folder: str) -> None:
    if not way.changes_users:
        pytest.skip("only root gives containers another user")
    async with open_node(way, folder) as node:
        done = await node.run(PYTHON, "-c", LOOK, tty=True, uid=NOBODY, gid=NOBODY, groups=())
    assert done.code == 0
    assert json.loads(done.out)["uid"] == NOBODY


async def test_what_a_terminal_shows_is_logged_to_the_byte(way: Way, folder: str) -> None:
    """All of it is stdout; a line without an end is there before its end comes."""
    async with open_node(way, folder) as node:
        script = "printf 'a\\nb'; echo c >&2; printf '(Pdb) '; read answer; exit 3"
        spec = node.spec("sh", "-c", script, tty=True)
        await node.start(spec)
        await node.logged(spec, b"(Pdb) \n")
        node.runtime.signal(spec.id, 9)
        done = await node.finish(spec)
    records = read_log(spec.log_path)
    assert done.err == ""
    assert text_of(records, "stdout") == b"a\r\nbc\r\n(Pdb) "
    assert records[-1].tag == "P"


@pytest.mark.parametrize("size", [100, 5000, 300_000])
async def test_nothing_of_a_terminal_is_lost_at_the_end(way: Way, folder: str, size: int) -> None:
    async with open_node(way, folder) as node:
        script = f"import os; text = b'x' * {size}\nwhile text: text = text[os.write(1, text):]"
        done = await node.run(PYTHON, "-c", script, tty=True)
    assert done.exit.drained
    assert len(done.out) == size


async def test_a_terminal_that_was_given_is_typed_at_by_its_giver(way: Way, folder: str) -> None:
    master, slave = pty.openpty()
    try:
        termios.tcsetwinsize(master, (33, 77))
        async with open_node(way, folder, lambda _: [os.dup(master), os.dup(slave)]) as node:
            spec = node.spec("sh", "-c", "trap 'exit 130' INT; " + ASK, tty=True)
            await node.start(spec)
            await node.logged(spec, b"33 77")
            os.write(master, b"hello\r")
            await node.logged(spec, b"got hello")
            os.write(master, b"\x03")
            assert (await node.finish(spec)).code == 130
        assert b"hello\r\ngot hello\r\n" in text_of(read_log(spec.log_path), "stdout")
    finally:
        os.close(master)
        os.close(slave)


async def test_a_killed_logger_does_not_take_a_terminal_along(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        script = "for i in $(seq 40); do echo line $i; sleep 0.02; done"
        spec = node.spec("sh", "-c", script, tty=True)
        await node.start(spec)
        await node.logged(spec, b"line 5")
        await until(node.kill_logger, "a logger")
        done = await node.finish(spec)
    assert done.out == "".join(f"line {i}\r\n" for i in range(1, 41))
