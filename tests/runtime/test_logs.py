"""The reading side of log files: records, lines, tails, last words, and following a growing log."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.runtime import logs
from supervisor.runtime.logs import Follower, Joiner, Record, parse, tail, termination_message

TIME = b"2026-01-02T03:04:05.6789+01:00"


def line(content: bytes, *, stream: bytes = b"stdout", tag: bytes = b"F") -> bytes:
    return b"%b %b %b %b\n" % (TIME, stream, tag, content)


# --- records -----------------------------------------------------------------------------------


def test_a_record_is_time_stream_tag_and_content():
    """§8.2"""
    assert parse(b"2026-01-02T03:04:05.123456789Z stderr F GET /healthz 200\n") == [
        Record(b"2026-01-02T03:04:05.123456789Z", b"stderr", False, b"GET /healthz 200")
    ]


@pytest.mark.parametrize(
    ("tags", "partial"),
    [(b"F", False), (b"P", True), (b"P:TAG1:TAG2", True), (b"F:P", False), (b"", False)],
)
def test_only_the_first_tag_counts(tags: bytes, partial: bool):
    """§8.2"""
    assert parse(line(b"x", tag=tags)) == [Record(TIME, b"stdout", partial, b"x")]


@pytest.mark.parametrize(
    "content", [b"", b" ", b"  two  blanks ", b"a\rb", b"\xff\x00", b"2026 stdout F x"]
)
def test_content_is_given_as_it_stands(content: bytes):
    assert [record.content for record in parse(line(content))] == [content]


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"no record at all",
        b"2026-01-02 stdout F date without time",
        TIME,
        TIME + b" stdout",
        TIME + b" stdout F",  # no blank behind the tag: cut off by a full disk
        TIME + b" stdin F x",
        b" " + TIME + b" stdout F x",
        bytes(4096),  # as after a loss of power
    ],
)
def test_what_is_no_record_is_skipped_and_its_neighbours_are_kept(broken: bytes):
    """§8.11"""
    rest = broken + b"\n" + line(b"after")

    assert [record.content for record in parse(line(b"before") + rest)] == [b"before", b"after"]
    assert [record.content for record in parse(rest)] == [b"after"]


def test_pieces_of_a_line_are_joined_per_stream_and_keep_the_first_time():
    """§8.3"""
    late = b"2026-01-02T03:04:06Z"
    block = (
        line(b"out-1 ", tag=b"P")
        + line(b"err-1 ", stream=b"stderr", tag=b"P")
        + b"%b stdout P out-2 \n" % late
        + b"%b stderr F err-2\n" % late
        + b"%b stdout F out-3\n" % late
    )

    joiner = Joiner()

    assert joiner.feed(parse(block)) == [
        Record(TIME, b"stderr", False, b"err-1 err-2"),
        Record(TIME, b"stdout", False, b"out-1 out-2 out-3"),
    ]
    assert joiner.flush() == []


def test_a_line_that_was_never_ended_comes_out_at_the_end():
    joiner = Joiner()

    assert joiner.feed(parse(line(b"DO", tag=b"P") + line(b"NE", tag=b"P"))) == []
    assert joiner.flush() == [Record(TIME, b"stdout", True, b"DONE")]


def test_a_line_without_end_is_given_out_in_parts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logs, "LINE_LIMIT", 10)
    joiner = Joiner()

    assert joiner.feed(parse(line(b"123456", tag=b"P"))) == []
    assert joiner.feed(parse(line(b"7890", tag=b"P"))) == [
        Record(TIME, b"stdout", True, b"1234567890")
    ]


def as_written(data: bytes, size: int) -> bytes:
    """What a logger that cuts after `size` bytes makes of a program's output."""
    *lines, rest = data.split(b"\n")
    written = b""
    for whole in lines:
        pieces = [whole[i : i + size] for i in range(0, len(whole), size)] or [b""]
        written += b"".join(line(piece, tag=b"P") for piece in pieces[:-1]) + line(pieces[-1])
    return written + b"".join(line(rest[i : i + size], tag=b"P") for i in range(0, len(rest), size))


@given(
    data=st.text(alphabet="ab \r:PF\xe9\n", max_size=200).map(str.encode),
    size=st.integers(1, 9),
    cuts=st.lists(st.integers(0, 50)),
)
def test_joining_gives_back_what_the_program_wrote(data: bytes, size: int, cuts: list[int]):
    """§8.3"""
    records = parse(as_written(data, size))
    joiner = Joiner()
    lines: list[Record] = []
    for cut in cuts:
        lines += joiner.feed(records[:cut])
        records = records[cut:]
    lines += joiner.feed(records) + joiner.flush()

    joined = b"".join(x.content if x.partial else x.content + b"\n" for x in lines)
    assert joined == data


# --- tails and last words ----------------------------------------------------------------------


def test_a_tail_is_the_last_records_and_of_them_the_last_bytes(tmp_path: Path):
    """§2.5.4"""
    log = tmp_path / "0.log"
    log.write_bytes(b"".join(line(b"line %d" % n) for n in range(100)))

    assert tail(str(log), 3, 2048) == "line 97\nline 98\nline 99\n"
    assert tail(str(log), 3, 10) == "8\nline 99\n"
    assert tail(str(log), 1000, 100000) == "".join(f"line {n}\n" for n in range(100))


def test_a_tail_joins_pieces_and_shows_a_record_that_is_still_being_written(tmp_path: Path):
    """§8.11"""
    log = tmp_path / "0.log"
    log.write_bytes(line(b"DO", tag=b"P") + line(b"NE") + line(b"half").removesuffix(b"\n"))

    assert tail(str(log), 80, 2048) == "DONE\nhalf\n"


def test_a_tail_of_a_log_larger_than_a_block_finds_its_lines(tmp_path: Path):
    log = tmp_path / "0.log"
    log.write_bytes(b"".join(line(b"%05d" % n + b"x" * 3000) for n in range(100)))

    assert [text[:5] for text in tail(str(log), 80, 10**6).splitlines()] == [
        f"{n:05d}" for n in range(20, 100)
    ]


@given(
    sizes=st.lists(st.integers(0, 70), max_size=30),
    count=st.integers(1, 12),
    ended=st.booleans(),
)
@settings(max_examples=60)
def test_a_tail_has_as_many_lines_as_asked_for(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], count: int, ended: bool
):
    block = b"".join(line(b"x" * size) for size in sizes)
    log = tmp_path_factory.getbasetemp() / "tail.log"
    log.write_bytes(block if ended else block[:-1])

    expected = ["x" * size for size in sizes][-count:]
    assert tail(str(log), count, 10**6) == "".join(text + "\n" for text in expected)


def test_a_tail_does_not_begin_inside_a_character(tmp_path: Path):
    log = tmp_path / "0.log"
    log.write_bytes(line("ééé".encode()))

    assert tail(str(log), 1, 4) == "é\n"


def test_a_log_that_does_not_exist_has_an_empty_tail(tmp_path: Path):
    assert tail(str(tmp_path / "0.log"), 80, 2048) == ""


def message(
    tmp_path: Path,
    written: bytes | None,
    *,
    policy: str = "FallbackToLogsOnError",
    exit_code: int = 1,
    reason: str = "Error",
) -> str:
    file = tmp_path / "termination"
    if written is not None:
        file.write_bytes(written)
    log = tmp_path / "0.log"
    log.write_bytes(line(b"from the log"))
    return termination_message(str(file), policy, exit_code, reason, str(log))


def test_the_message_is_the_file_as_it_stands(tmp_path: Path):
    """§2.5.7"""
    assert message(tmp_path, b"DONE", exit_code=0) == "DONE"
    assert message(tmp_path, b"DONE\n", exit_code=1) == "DONE\n"


def test_of_a_long_file_the_last_4096_bytes_count(tmp_path: Path):
    """§2.5.3"""
    assert message(tmp_path, b"0" * 5000 + b"1" * 4000) == "0" * 96 + "1" * 4000


@pytest.mark.parametrize("written", [b"", None], ids=["empty", "absent"])
def test_a_failed_container_without_words_is_quoted_from_its_log(
    tmp_path: Path, written: bytes | None
):
    """§2.5.4"""
    assert message(tmp_path, written) == "from the log\n"


def test_the_log_is_left_alone_after_success_without_the_policy_or_without_a_run(tmp_path: Path):
    """§2.5.4"""
    assert message(tmp_path, b"", exit_code=0) == ""
    assert message(tmp_path, b"", policy="File") == ""
    assert message(tmp_path, b"", reason="ContainerCannotRun") == ""


def test_bytes_that_are_no_text_are_replaced(tmp_path: Path):
    assert message(tmp_path, b"\x80caf\xe9") == "\ufffdcaf\ufffd"


def test_a_file_replaced_by_a_link_or_a_pipe_is_not_followed(tmp_path: Path):
    """A container could otherwise have the host's files read for it, or block us for ever."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "termination").symlink_to(tmp_path / "secret")
    said = message(tmp_path, None)
    assert said.startswith("Error on reading termination log ")
    assert "secret" not in said

    (tmp_path / "termination").unlink()
    os.mkfifo(tmp_path / "termination")
    assert message(tmp_path, None).endswith("/termination: not a regular file")


# --- following ---------------------------------------------------------------------------------


class Log:
    """A logger's files: written and rotated by the test."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        for old in directory.iterdir():
            old.unlink()
        self.path = directory / "0.log"
        self.file = self.path.open("ab", buffering=0)
        self.rotations = 0

    def write(self, data: bytes) -> None:
        if self.file.closed:
            self.create()
        self.file.write(data)

    def rotated(self) -> list[Path]:
        return sorted(self.path.parent.glob("0.log.*"))

    def rename(self) -> None:
        self.rotations += 1
        self.path.rename(f"{self.path}.20260102-{self.rotations:06d}")

    def create(self) -> None:
        self.file.close()
        self.file = self.path.open("ab", buffering=0)

    def rotate(self, keep: int = 100) -> None:
        self.rename()
        for old in self.rotated()[:-keep]:
            old.unlink()
        self.create()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path / "logs")
    yield made
    made.file.close()


@pytest.fixture
def follower(log: Log) -> Iterator[Follower]:
    with Follower(str(log.path)) as made:
        yield made


def contents(records: list[Record]) -> list[bytes]:
    return [record.content for record in records]


def test_a_follower_gives_what_is_new_and_nothing_twice(log: Log, follower: Follower):
    log.write(line(b"1"))
    assert contents(follower.read()) == [b"1"]
    assert follower.read() == []

    log.write(line(b"2") + line(b"3"))
    assert contents(follower.read()) == [b"2", b"3"]


def test_a_follower_waits_for_a_file_that_does_not_exist_yet(tmp_path: Path):
    with Follower(str(tmp_path / "not" / "yet" / "0.log")) as follower:
        assert follower.read() == []
        (tmp_path / "not" / "yet").mkdir(parents=True)
        assert follower.read() == []
        (tmp_path / "not" / "yet" / "0.log").write_bytes(line(b"1"))
        assert contents(follower.read()) == [b"1"]


def test_half_a_record_waits_for_its_other_half_or_for_the_end(log: Log, follower: Follower):
    whole = line(b"hello")
    log.write(whole[:40])
    assert follower.read() == []
    log.write(whole[40:] + whole[:-2])
    assert contents(follower.read()) == [b"hello"]
    assert contents(follower.read(final=True)) == [b"hell"]
    assert follower.read(final=True) == []


def test_a_rotated_file_is_finished_before_the_new_one_begins(log: Log, follower: Follower):
    """§8.6: a follower goes on over a rotation."""
    log.write(line(b"1"))
    assert contents(follower.read()) == [b"1"]
    log.write(line(b"2"))
    log.rename()
    log.write(line(b"3"))  # the logger has not opened the new file yet
    assert contents(follower.read()) == [b"2", b"3"]
    log.write(line(b"4"))
    log.create()
    log.write(line(b"5"))
    assert contents(follower.read()) == [b"4", b"5"]
    assert follower.lost == 0


def test_what_is_written_between_the_last_look_and_the_rotation_is_read(
    log: Log, follower: Follower, monkeypatch: pytest.MonkeyPatch
):
    log.write(line(b"1"))
    superseded = follower._superseded

    def rotated_meanwhile() -> bool:
        monkeypatch.undo()
        log.write(line(b"2"))
        log.rotate()
        log.write(line(b"3"))
        return superseded()

    monkeypatch.setattr(follower, "_superseded", rotated_meanwhile)

    assert contents(follower.read()) == [b"1", b"2", b"3"]


def test_every_rotation_since_the_last_look_is_read_in_order(log: Log, follower: Follower):
    log.write(line(b"0"))
    assert contents(follower.read()) == [b"0"]
    for n in range(1, 12):
        log.write(line(b"%d" % n))
        log.rotate()
    assert contents(follower.read()) == [b"%d" % n for n in range(1, 12)]
    assert follower.lost == 0


def test_a_follower_that_comes_late_begins_with_the_oldest_file(log: Log, follower: Follower):
    log.write(line(b"0"))
    log.rotate()
    log.write(line(b"1"))
    assert contents(follower.read()) == [b"0", b"1"]


def test_an_open_file_is_read_to_its_end_even_after_its_removal(log: Log, follower: Follower):
    log.write(line(b"0"))
    follower.read()
    log.write(line(b"1"))
    for n in range(2, 6):
        log.rotate(keep=2)
        log.write(line(b"%d" % n))
    # 2 is gone with its file; 1 was open. What comes after a gap comes with the next look.
    assert contents(follower.read()) == [b"1"]
    assert follower.lost == 0
    assert contents(follower.read()) == [b"3", b"4", b"5"]
    assert follower.lost == 1
    assert follower.read() == []
    assert follower.lost == 1


def test_one_read_takes_in_a_bounded_part(
    log: Log, follower: Follower, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(logs, "READ_LIMIT", 1000)
    for n in range(100):
        log.write(line(b"%d" % n))
        if n % 30 == 29:
            log.rotate()
    seen = []
    while records := follower.read():
        assert sum(len(record.content) + 40 for record in records) <= 1100
        seen += contents(records)
    assert seen == [b"%d" % n for n in range(100)]


def test_a_line_far_longer_than_a_record_is_skipped_in_bounded_memory(
    log: Log, follower: Follower, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(logs, "READ_LIMIT", 1000)
    log.write(line(b"before") + b"x" * 5000 + b"\n" + line(b"after"))
    seen = []
    for _ in range(10):
        seen += contents(follower.read())
        assert len(follower._rest) <= 2000
    assert seen == [b"before", b"after"]


def test_a_log_that_is_removed_ends_quietly(log: Log, follower: Follower):
    log.write(line(b"1"))
    assert contents(follower.read()) == [b"1"]
    log.path.unlink()
    log.path.parent.rmdir()
    assert follower.read() == []
    assert follower.read(final=True) == []


STEPS = st.lists(
    st.one_of(
        st.binary(max_size=30).map(lambda data: data.replace(b"\n", b"")),
        st.sampled_from(["rotate", "lazily", "rename", "read", "half"]),
    ),
    max_size=40,
)


@given(steps=STEPS)
@settings(max_examples=150)
def test_whatever_the_order_of_writes_rotations_and_reads_nothing_is_lost_or_doubled(
    tmp_path_factory: pytest.TempPathFactory, steps: list[bytes | str]
):
    """G14: following goes on across rotation without loss or duplication."""
    log = Log(tmp_path_factory.getbasetemp() / "random")
    written: list[bytes] = []
    seen: list[bytes] = []
    pending = b""
    renamed = False
    with Follower(str(log.path)) as follower:
        for step in steps:
            match step:
                case "read":
                    seen += contents(follower.read())
                case "half" if not pending and not renamed:
                    log.write(line(b"half")[:30])
                    pending = line(b"half")[30:]
                    written.append(b"half")
                case "rename" if not renamed and not pending and not log.file.closed:
                    log.rename()
                    renamed = True
                case "lazily" if not pending and not renamed and not log.file.closed:
                    # The new file is made with its first record, if there ever is one.
                    log.rename()
                    log.file.close()
                case "rename" | "rotate" if log.file.closed:
                    pass
                case "rotate" if not pending:
                    if renamed:
                        log.create()
                        renamed = False
                    else:
                        log.rotate()
                case bytes():
                    log.write(pending + line(step))
                    pending = b""
                    written.append(step)
                case _:
                    pass
        if pending:
            log.write(pending)
        seen += contents(follower.read(final=True))
        assert follower.lost == 0
    log.file.close()

    assert seen == written


def test_the_latest_records_are_read_back_over_rotations(tmp_path: Path) -> None:
    record = "2026-01-02T03:04:05.6789+01:00 stdout F {:03}\n"
    size = len(record.format(0))
    files = ("0.log.20260102-030405", "0.log.20260102-030406", "0.log")
    for first, name in enumerate(files):
        lines = (record.format(10 * first + n) for n in range(10))
        (tmp_path / name).write_text("".join(lines))
    path = str(tmp_path / "0.log")
    numbers = [int(each.content) for each in logs.latest(path, 14 * size + 5)]
    assert numbers == list(range(16, 30))
    assert len(logs.latest(path, 1 << 20)) == 30
    assert logs.latest(str(tmp_path / "1.log"), 1 << 20) == []


def test_what_is_moved_aside_while_the_latest_is_read_is_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = "2026-01-02T03:04:05.6789+01:00 stdout F {}\n"
    path = tmp_path / "0.log"
    path.write_text(record.format("one"))
    list_files = logs.Follower.files

    def rotated(follower: logs.Follower) -> list[tuple[int, str]]:
        found = list_files(follower)
        if len(found) == 1:
            path.rename(tmp_path / "0.log.20260102-030405")
            path.write_text(record.format("two"))
        return found

    monkeypatch.setattr(logs.Follower, "files", rotated)
    assert [each.content for each in logs.latest(str(path), 1 << 20)] == [b"one", b"two"]
