"""Logs: nothing lost, nothing doubled, nobody waits."""

from __future__ import annotations

import mmap
import os
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import anyio
import pytest

from supervisor.runtime import launcher
from supervisor.runtime.cri import Isolation
from tests.runtime.conftest import in_launchers
from tests.runtime.nodes import PATIENCE, Way, open_node, read_log, text_of, until

pytestmark = pytest.mark.anyio
PYTHON = "/usr/bin/python3"


@pytest.fixture
def few(way: Way) -> Way:
    """For tests that take long: every kind of user and of parent once is enough."""
    if way.uid == 0 and way.isolation is not Isolation.PIDNS:
        pytest.skip("shown in the same mode as another user")
    return way


async def test_records_carry_local_time_stream_and_tag(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        spec = node.spec("/bin/sh", "-c", "echo one; printf 'two\\r\\n\\n'; printf three")
        await node.start(spec)
        await node.finish(spec)
    records = read_log(spec.log_path)
    assert [(r.stream, r.tag, r.content) for r in records] == [
        ("stdout", "F", b"one"),
        ("stdout", "F", b"two"),
        ("stdout", "F", b""),
        ("stdout", "P", b"three"),
    ]
    for record in records:
        assert re.fullmatch(
            r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,8}[1-9])?(Z|[+-]\d\d:\d\d)", record.time
        )


@pytest.mark.parametrize(
    ("size", "tags"),
    [(16383, "F"), (16384, "F"), (16385, "PF"), (32768, "PF"), (32769, "PPF"), (600_000, None)],
)
async def test_long_lines_are_cut_into_pieces_of_16_kib(
    way: Way, folder: str, size: int, tags: str | None
) -> None:
    async with open_node(way, folder) as node:
        spec = node.spec(PYTHON, "-c", f"print('a'); print('x' * {size}); print('b')")
        await node.start(spec)
        await node.finish(spec)
    records = read_log(spec.log_path)
    assert records[0].content == b"a"
    assert records[-1].content == b"b"
    pieces = records[1:-1]
    assert "".join(r.tag for r in pieces) == (tags or "P" * 36 + "F")
    assert b"".join(r.content for r in pieces) == b"x" * size
    assert all(len(r.content) == 16384 for r in pieces[:-1])


async def test_a_line_written_byte_by_byte_is_one_record(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        script = "import os\nfor c in b'hello world\\n': os.write(1, bytes([c]))"
        done = await node.run(PYTHON, "-c", script)
    assert done.out == "hello world\n"


# Numbered lines of changing length on both streams: what is lost or doubled shows. With a file
# named, it goes on until that is there, and leaves in it how many lines there were.
COUNTER = """
import os, sys, time
big = sys.argv[2] == "big"
enough = sys.argv[3] if len(sys.argv) > 3 else None
i = 0
while i < int(sys.argv[1]) or enough and not os.path.exists(enough):
    if i >= int(sys.argv[1]):
        time.sleep(0.001)
    line = b"%d %s\\n" % (i, b"x" * ((i * 7919) % (40000 if big else 150)))
    for fd in (1, 2):
        while line:
            line = line[os.write(fd, line):]
        line = b"%d e\\n" % i
    i += 1
if enough:
    with open(enough, "w") as file:
        file.write(str(i))
"""


def check_count(path: str, lines: int, *, big: bool) -> None:
    records = read_log(path)
    for stream in ("stdout", "stderr"):
        text = text_of(records, stream)
        expected = b"".join(
            b"%d %s\n" % (i, b"x" * ((i * 7919) % (40000 if big else 150)))
            if stream == "stdout"
            else b"%d e\n" % i
            for i in range(lines)
        )
        if text != expected:
            at = next(
                (i for i, (a, b) in enumerate(zip(text, expected, strict=False)) if a != b), -1
            )
            raise AssertionError(
                f"{stream}: {len(text)} bytes, expected {len(expected)}, first difference at {at}:"
                f" {text[at - 30 : at + 60]!r}, expected {expected[at - 30 : at + 60]!r}"
            )


@pytest.mark.parametrize(("kind", "lines"), [("small", 60_000), ("big", 600)])
async def test_no_byte_is_lost_or_doubled(few: Way, folder: str, kind: str, lines: int) -> None:
    async with open_node(few, folder, log_max_size=0) as node:
        spec = node.spec(PYTHON, "-c", COUNTER, str(lines), kind)
        await node.start(spec)
        assert (await node.exit(spec)).drained
    check_count(spec.log_path, lines, big=kind == "big")


@pytest.mark.parametrize(("kind", "lines"), [("small", 60_000), ("big", 600)])
async def test_no_byte_is_lost_or_doubled_when_the_logger_is_killed_over_and_over(
    few: Way, folder: str, kind: str, lines: int
) -> None:
    dice = random.Random(7)
    kills = 0
    async with open_node(few, folder, log_max_size=0) as node:
        enough = [f"{folder}/enough{i}" for i in range(2)]
        specs = [node.spec(PYTHON, "-c", COUNTER, str(lines), kind, name) for name in enough]
        for spec in specs:
            await node.start(spec)

        async def kill() -> None:
            nonlocal kills
            while True:
                await anyio.sleep(dice.uniform(0.001, 0.02))
                if not node.kill_logger():
                    continue
                kills += 1
                if kills == 10:
                    for name in enough:
                        open(name, "x").close()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kill)
            for spec in specs:
                assert (await node.exit(spec)).drained
            tasks.cancel_scope.cancel()
    for spec, name in zip(specs, enough, strict=True):
        with open(name) as file:
            check_count(spec.log_path, int(file.read()), big=kind == "big")


async def test_tiny_writes_survive_the_loggers_death_too(few: Way, folder: str) -> None:
    script = (
        "import os, time\nfor i in range(3000):\n"
        " os.write(1, b'%d' % (i % 10)); i % 50 or (os.write(1, b'\\n'), time.sleep(0.002))"
    )
    dice = random.Random(3)
    async with open_node(few, folder) as node:
        spec = node.spec(PYTHON, "-c", script)
        await node.start(spec)
        with anyio.move_on_after(PATIENCE / 2):
            while spec.id not in node.exits:
                await anyio.sleep(dice.uniform(0.001, 0.005))
                node.kill_logger()
                if node.runtime._news:
                    await node.exit(spec)
        await node.exit(spec)
    expected = "".join(f"{i % 10}" + ("" if i % 50 else "\n") for i in range(3000))
    text = b"".join(
        r.content + (b"\n" if r.tag == "F" else b"") for r in read_log(spec.log_path)
    ).decode()
    assert text == expected


async def test_the_end_waits_for_the_log_but_not_for_ever(few: Way, folder: str) -> None:
    async with open_node(few, folder) as node:
        await until(lambda: node.kill_logger(signal.SIGSTOP), "the logger to stop")
        spec = node.spec("/bin/sh", "-c", "echo late; exit 3")
        begin = time.monotonic()
        await node.start(spec)
        exit = await node.exit(spec)
        assert (exit.exit_code, exit.drained) == (3, False)
        assert time.monotonic() - begin > 1.5
        node.kill_logger(signal.SIGCONT)
        await node.logged(spec, b"late")


async def test_followers_are_woken_when_files_grow(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        spec = node.spec("/bin/sh", "-c", "read x < /dev/null; sleep 0.05; echo now; sleep 1000")
        await node.start(spec)
        with anyio.fail_after(PATIENCE):
            while True:
                await anyio.wait_readable(node.runtime.logs_fd)
                os.eventfd_read(node.runtime.logs_fd)
                if os.path.getsize(spec.log_path):
                    break
        assert read_log(spec.log_path)[0].content == b"now"


# --- rotation ------------------------------------------------------------------------------------


async def test_files_are_rotated_by_size_and_the_oldest_removed(way: Way, folder: str) -> None:
    async with open_node(way, folder, log_max_size=50_000, log_max_files=3) as node:
        spec = node.spec(PYTHON, "-c", COUNTER, "20000", "small")
        await node.start(spec)
        await node.finish(spec)
    names = sorted(name for name in os.listdir(os.path.dirname(spec.log_path)) if ".log" in name)
    assert len(names) in (2, 3)  # the last may have been rotated at the very end
    for name in names:
        assert re.fullmatch(r"0\.log(\.\d{8}-\d{6})?", name)
    rotated = [name for name in names if name != "0.log"]
    numbers = []
    for name in [*rotated, "0.log"]:
        path = f"{os.path.dirname(spec.log_path)}/{name}"
        if os.path.exists(path):
            records = read_log(path)
            numbers += [int(r.content.split()[0]) for r in records if r.stream == "stdout"]
    assert numbers == list(range(numbers[0], 20000)), "in order, and without a gap"


async def test_rotation_and_the_loggers_death_lose_nothing(few: Way, folder: str) -> None:
    dice = random.Random(5)
    async with open_node(few, folder, log_max_size=400_000, log_max_files=1000) as node:
        spec = node.spec(PYTHON, "-c", COUNTER, "40000", "small")
        await node.start(spec)

        async def kill() -> None:
            while True:
                await anyio.sleep(dice.uniform(0.001, 0.02))
                node.kill_logger()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kill)
            await node.exit(spec)
            tasks.cancel_scope.cancel()
    folder = os.path.dirname(spec.log_path)
    numbers = []
    for name in [*sorted(n for n in os.listdir(folder) if n.startswith("0.log.")), "0.log"]:
        if os.path.exists(f"{folder}/{name}"):
            records = read_log(f"{folder}/{name}")
            numbers += [int(r.content.split()[0]) for r in records if r.stream == "stdout"]
    assert numbers == list(range(40000))


# --- no room -------------------------------------------------------------------------------------


async def test_a_full_disk_stops_nobody_and_is_told_once(way: Way, folder: str) -> None:
    if way.uid != 0:
        pytest.skip("mounting a small disk needs root")
    os.mkdir(f"{folder}/logs")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "x", f"{folder}/logs"], check=True)
    try:
        async with open_node(way, folder, log_max_size=0) as node:
            spec = node.spec(PYTHON, "-c", FILL, folder)
            await node.start(spec)
            await until(lambda: os.path.exists(f"{folder}/full"), "8 MB to be swallowed")
            # While the last of the pipe is swallowed, a record that does not fit may be seen for
            # a moment, until it is cut off.
            seen: list[bytes] = []

            def only_whole_records() -> bool:
                with open(spec.log_path, "rb") as file:
                    seen.append(file.read())
                return seen[-1].endswith(b"\n")

            await until(only_whole_records, "only whole records in the file")
            content = seen[-1]
            os.truncate(spec.log_path, 1000)
            with open(f"{folder}/go", "w"):
                pass
            exit = await node.exit(spec)
            assert (exit.exit_code, exit.drained) == (6, True)
            with open(spec.log_path, "rb") as file:
                later = file.read()[1000:].count(b"\n") - 1  # what was still in the pipe
            written = content.count(b"\n") + later
            assert exit.dropped == 100_000 - written, "each is written or counted"
            assert [(drop.id, drop.error) for drop in node.drops] == [
                (spec.id, "No space left on device")
            ]
            with open(spec.log_path, "rb") as file:
                assert file.read().endswith(b"stdout F after\n")
    finally:
        subprocess.run(["umount", f"{folder}/logs"], check=True)


FILL = """
import os, sys, time
line = b"x" * 79 + b"\\n"
for _ in range(1000):
    os.write(1, line * 100)
open(sys.argv[1] + "/full", "w").close()
while not os.path.exists(sys.argv[1] + "/go"):
    time.sleep(0.01)
print("after", flush=True)
sys.exit(6)
"""


async def test_heavy_logs_starve_nobody(
    few: Way, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_launchers(monkeypatch, f"launcher.DRAIN_CAP = {10 * PATIENCE}")
    async with open_node(few, folder, log_max_size=10 << 20) as node:
        heavy = [node.spec("yes", "x" * 79) for _ in range(3)]
        for spec in heavy:
            await node.start(spec)
            await node.logged(spec, b"xxx")
        for _ in range(5):
            done = await node.shell("echo hello; exit 2")
            assert (done.code, done.out, done.exit.drained) == (2, "hello\n", True)
        for spec in heavy:
            node.runtime.signal(spec.id, 9)
            assert (await node.exit(spec)).drained


# --- containers that meddle with their own pipe --------------------------------------------------

STEAL = """
import os
mine = os.open("/proc/self/fd/1", os.O_RDONLY | os.O_NONBLOCK)
for i in range(20000):
    os.write(1, b"thief %d %s\\n" % (i, b"t" * (i % 3000)))
    try:
        os.read(mine, 100 + i % 5000)
    except BlockingIOError:
        pass
"""
PACKETS = """
import fcntl, os
fcntl.fcntl(1, fcntl.F_SETFL, os.O_DIRECT)
for i in range(20000):
    os.write(1, b"packet %d %s\\n" % (i, b"p" * (i % 3000)))
"""


async def test_who_reads_its_own_pipe_gets_no_bytes_of_others_and_stops_no_log(
    few: Way, folder: str
) -> None:
    dice = random.Random(11)
    async with open_node(few, folder, log_max_size=0) as node:
        honest = node.spec(PYTHON, "-c", COUNTER, "60000", "small")
        thief = node.spec(PYTHON, "-c", STEAL)
        for spec in (honest, thief):
            await node.start(spec)

        async def kill() -> None:
            while True:
                await anyio.sleep(dice.uniform(0.005, 0.03))
                node.kill_logger()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kill)
            for spec in (honest, thief):
                assert (await node.exit(spec)).drained
            tasks.cancel_scope.cancel()
    check_count(honest.log_path, 60000, big=False)
    records = read_log(thief.log_path)
    assert records
    for record in records:
        assert b"\0" not in record.content
        assert b"x" not in record.content, "the honest one's output"


async def test_the_logger_can_block_on_no_pipe(few: Way, folder: str) -> None:
    if few.uid != os.getuid():
        pytest.skip("only root looks into other processes")
    async with open_node(few, folder) as node:
        await node.start(node.spec("sleep", "1000"))
        await until(lambda: node.helper("podvisor-logger"), "the logger")
        logger = f"/proc/{node.helper('podvisor-logger')}"

        def pipes() -> list[str]:
            names = os.listdir(f"{logger}/fd")
            return [n for n in names if os.readlink(f"{logger}/fd/{n}").startswith("pipe:")]

        await until(lambda: len(pipes()) == 4, "two of the container, two of its own")
        for name in pipes():
            with open(f"{logger}/fdinfo/{name}") as file:
                flags = next(line.split()[1] for line in file if line.startswith("flags"))
            assert int(flags, 8) & os.O_NONBLOCK


async def test_a_pipe_of_packets_is_read_to_the_last_byte(few: Way, folder: str) -> None:
    async with open_node(few, folder, log_max_size=0) as node:
        other = node.spec(PYTHON, "-c", COUNTER, "20000", "small")
        spec = node.spec(PYTHON, "-c", PACKETS)
        for each in (other, spec):
            await node.start(each)
        for each in (other, spec):
            assert (await node.exit(each)).drained
    check_count(other.log_path, 20000, big=False)
    expected = b"".join(b"packet %d %s\n" % (i, b"p" * (i % 3000)) for i in range(20000))
    assert text_of(read_log(spec.log_path), "stdout") == expected


@pytest.fixture
def logger(tmp_path: Path) -> Iterator[launcher.Logger]:
    """A logger in this process, with one container attached: its area is full of secrets."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    area = mmap.mmap(-1, launcher.AREA_SIZE)
    area[launcher.AREA_BUFFER : launcher.AREA_TAILS] = b"S" * launcher.READ_SIZE
    logger = launcher.Logger(launcher.Channel(ours.detach()), area, durable=False)
    ends = [os.pipe2(os.O_NONBLOCK) for _ in range(2)]
    logger.attach(0, bytes(tmp_path / "0.log"), b"", False, 0, 5, ends[0][0], ends[1][0])
    logger.writer = ends[0][1]  # type: ignore[attr-defined]
    yield logger
    logger.files[0].close()
    logger.poll.close()
    logger.control.socket.close()
    theirs.close()
    for fd in (logger.peek, logger.peek_write, *ends[0], *ends[1]):
        os.close(fd)


@pytest.mark.parametrize("stolen", [1, 12, 17, 5000])
def test_what_somebody_else_has_read_is_not_made_up(
    logger: launcher.Logger, tmp_path: Path, stolen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = next(iter(logger.streams.values()))
    monkeypatch.setattr(logger, "available", lambda _: 6 + stolen)  # it was there when we asked
    assert logger.pump(stream) == 0
    os.write(logger.writer, b"hello\n")  # type: ignore[attr-defined]
    assert logger.pump(stream) == 6
    (record,) = read_log(str(tmp_path / "0.log"))
    assert record.content == b"hello"


@pytest.mark.parametrize("stolen", [0, 5000])
@pytest.mark.parametrize("moment", ["read", "note", "write"])
def test_a_successor_makes_nothing_up_either(
    logger: launcher.Logger,
    tmp_path: Path,
    stolen: int,
    moment: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The logger is killed right after it has read, has noted how much, or has written."""
    stream = next(iter(logger.streams.values()))
    monkeypatch.setattr(logger, "available", lambda _: 6 + stolen)
    os.write(logger.writer, b"hello\n")  # type: ignore[attr-defined]

    def die(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if moment == "read":
            real = os.readv
            patch.setattr(launcher.posix, "readv", lambda *a: die(real(*a)))
        elif moment == "note":
            patch.setattr(logger, "finish", die)
        else:
            append = stream.file.append
            patch.setattr(stream.file, "append", lambda *a: die(append(*a)))
        with pytest.raises(KeyboardInterrupt):
            logger.pump(stream)
    logger.recover()
    stream.file.open()
    contents = [r.content for r in read_log(str(tmp_path / "0.log"))]
    # Between the read and the note nobody can tell how much of what was there was stolen.
    assert contents == ([] if stolen and moment == "read" else [b"hello"])


def test_recovery_cuts_nothing_off_a_file_whose_size_was_not_known(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(b"old\n")
    file = launcher.LogFile(0, bytes(path / "not here"), 0, 5)
    assert file.size() == launcher.UNKNOWN
    file = launcher.LogFile(0, bytes(path), 0, 5)
    file.cut(launcher.UNKNOWN)
    assert path.read_bytes() == b"old\n"
    file.cut(2)
    assert path.read_bytes() == b"ol"
    file.close()
