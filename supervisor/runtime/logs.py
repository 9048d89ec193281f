"""Reading the log files of containers: the format of the Container Runtime Interface.

The logger writes one file per attempt, ``<pod directory>/<container>/<attempt>.log``, and moves
it aside as ``<attempt>.log.<stamp>`` when it has grown too large. One record is one line::

    2026-01-02T03:04:05.6789+01:00 stdout F GET /healthz 200
    time                           stream tag content

Tag ``F`` ends a line of the program; ``P`` is a piece of a line that was too long for one record,
or the unended last line of a program. Further tags may follow behind a colon and mean nothing to
us. Everything that is not such a record is skipped: half a record left by a full disk must not
hide what comes after it.

Here is the reading side only, without threads and without an event loop: callers say when to
look. `Follower` is for those who show logs while they grow, `tail` and `termination_message` for
the moment after an exit. Content is bytes throughout: programs write what they like.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from typing import Self

from msgspec import Struct

READ_LIMIT = 1 << 20  # bytes of log that one Follower.read takes in
LINE_LIMIT = 1 << 20  # bytes after which a Joiner gives up waiting for the end of a line

# What readers are told who are slower than the log grows: files that nobody keeps were theirs next.
GAP = "lines are missing here: their log files were rotated away before they were read"

MESSAGE_BYTES = 4096  # of the termination message file
FALLBACK_LINES = 80  # of the log, for FallbackToLogsOnError
FALLBACK_BYTES = 2048

_PATIENCE = 3  # times that a log is looked at which is being rotated

_HEAD = re.compile(
    rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d))"
    rb" (stdout|stderr) ([^ \n:]*)(?::[^ \n]*)? "
)


class Record(Struct, frozen=True, gc=False):
    """One record of a log file, or one whole line after `Joiner` has put its pieces together."""

    time: bytes  # RFC 3339 with up to nine digits of a second, as the logger wrote it
    stream: bytes  # b"stdout" or b"stderr"
    partial: bool  # the line goes on in the next record of this stream (or was never ended)
    content: bytes  # without the newline


def parse(block: bytes) -> list[Record]:
    """All records in a block of whole lines; whatever is no record is skipped."""
    records: list[Record] = []
    head, size = b"\n", 0  # as no line begins
    time, stream, partial = b"", b"", False
    for line in block.split(b"\n"):
        # The logger stamps what it has read at once, so most records begin as the one before: to
        # see that is several times faster than to take each apart.
        if not line.startswith(head):
            found = _HEAD.match(line)
            if found is None:
                continue
            head, size = found[0], found.end()
            time, stream, partial = found[1], found[2], found[3] == b"P"
        records.append(Record(time, stream, partial, line[size:]))
    return records


class Joiner:
    """Puts the pieces of long lines together again, each stream for itself.

    A joined line has the time of its first piece. At most LINE_LIMIT bytes of an unended line are
    held: then it is given out as it is, with `partial` set, and its rest follows the same way.
    """

    def __init__(self) -> None:
        self._pieces: dict[bytes, list[Record]] = {}
        self._sizes: dict[bytes, int] = {}

    def feed(self, records: Iterable[Record]) -> list[Record]:
        """The lines that these records complete, in the order of their ends."""
        lines: list[Record] = []
        held = self._pieces
        for record in records:
            if not record.partial and record.stream not in held:
                lines.append(record)  # by far the most
                continue
            stream = record.stream
            held.setdefault(stream, []).append(record)
            self._sizes[stream] = self._sizes.get(stream, 0) + len(record.content)
            if not record.partial or self._sizes[stream] >= LINE_LIMIT:
                lines.append(self._take(stream, partial=record.partial))
        return lines

    def flush(self) -> list[Record]:
        """The lines that were begun and will not be ended, with `partial` set."""
        return [self._take(stream, partial=True) for stream in list(self._pieces)]

    def _take(self, stream: bytes, *, partial: bool) -> Record:
        pieces = self._pieces.pop(stream)
        del self._sizes[stream]
        content = b"".join(piece.content for piece in pieces)
        return Record(pieces[0].time, stream, partial, content)


def tail(path: str, lines: int, max_bytes: int) -> str:
    """The end of a log as text: its last `lines` records, of them the last `max_bytes` bytes.

    Records are counted as they stand in the file, pieces included; pieces are joined. Only the
    file at `path` is read, not those rotated away. A file that does not exist is empty; other
    OSErrors are raised.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    try:
        block = _last_lines(fd, lines)
    finally:
        os.close(fd)
    text = b"".join(
        record.content if record.partial else record.content + b"\n" for record in parse(block)
    )
    return _last_text(text, max_bytes)


def latest(path: str, size: int) -> list[Record]:
    """The records in the last `size` bytes of a log, also of what is rotated away; whole ones.

    As it was at one moment: where files are moved aside meanwhile, it is looked at again.
    """
    follower = Follower(path)
    for _ in range(_PATIENCE):
        blocks: list[bytes] = []
        left, whole = size, True
        for inode, name in reversed(follower.files()):
            data = _read_at_end(os.path.join(os.path.dirname(path), name), inode, left)
            if data is None:
                whole = False
                break
            blocks.append(data)
            left -= len(data)
            if left <= 0:
                break
        if whole:
            break
    if left <= 0:
        blocks[-1] = blocks[-1].partition(b"\n")[2]
    return parse(b"".join(reversed(blocks)))


def _read_at_end(path: str, inode: int, size: int) -> bytes | None:
    """None where another file has this name now."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(fd)
        if status.st_ino != inode:
            return None
        return os.pread(fd, size, max(0, status.st_size - size))
    finally:
        os.close(fd)


def termination_message(file: str, policy: str, exit_code: int, reason: str, log_path: str) -> str:
    """What a container left as its last words.

    `file` is the termination message file on the host: its last 4096 bytes count. Only with
    policy FallbackToLogsOnError, an exit code other than 0, and nothing in the file, the end of
    the log is taken instead. Never raises: what cannot be read is said in the message.
    """
    try:
        data = _read_end(file, MESSAGE_BYTES + 1)  # one more tells whether something is cut off
    except FileNotFoundError:
        data = b""
    except OSError as error:
        return f"Error on reading termination log {file}: {error.strerror}"
    if data:
        return _last_text(data, MESSAGE_BYTES)
    fallback = policy == "FallbackToLogsOnError" and reason != "ContainerCannotRun"
    if not fallback or exit_code == 0:
        return ""
    try:
        return tail(log_path, FALLBACK_LINES, FALLBACK_BYTES)
    except OSError as error:
        return f"Error on reading termination message from logs: {error.strerror}"


class Follower:
    """Reads a log that is being written, across its rotations, from its oldest file on.

    `read()` returns what is new and never waits; the caller decides when to look again. The file
    need not exist yet. While a file is moved aside, its open descriptor is read to the end, then
    every newer rotated file in order, then the new one: nothing is lost or given twice, as long
    as a file is still there when its turn comes. `lost` counts how often one was not: where a call
    of `read` adds to it, lines may be missing before all that it returns.
    """

    def __init__(self, path: str, limit: int = 0) -> None:
        self.path = path
        self._limit = limit
        self.lost = 0  # times that files may have been removed before they were read
        self._directory, self._name = os.path.split(path)
        self._fd = -1
        self._rest = b""  # the beginning of a record whose end is not written yet
        self._skipping = False  # inside a line far longer than any record

    def read(self, *, final: bool = False) -> list[Record]:
        """What has been written since the last call: at most about `limit` bytes of it
        (READ_LIMIT, if not given).

        An empty list means: nothing new now. With `final` (the writer has ended: read until the
        list is empty) a last record without its newline is given out too. Raises OSError where
        the file cannot be read.
        """
        if self._fd < 0 and not self._open_next(over_a_gap=False):
            return []
        records: list[Record] = []
        budget = limit = self._limit or READ_LIMIT
        while True:
            budget -= self._read_block(budget, records)
            if budget <= 0:
                if records:
                    return records
                budget = limit  # nothing but a line that is no record
                continue
            # At the end of the open file. It is finished only once its successor exists: until
            # then the writer may still hold it open, under whatever name.
            if not self._superseded():
                break
            # It may have been written to between our last read and the rotation.
            if grown := self._read_block(budget, records):
                budget = max(budget - grown, 1)
                continue
            self._end_of_file(records)
            # What was there before files were removed and what comes after are not given out at
            # once, so that whoever looks at `lost` knows where the gap is.
            if not self._open_next(over_a_gap=not records):
                break
        if final:
            self._end_of_file(records)
        return records

    def skip(self, but: int = 0) -> None:
        """Before the first read: give out only the last `but` records, and what is written from
        now on."""
        for _ in range(_PATIENCE):
            if self._skip(but):
                return

    def _skip(self, but: int) -> bool:
        """False where another file had the name that was looked for."""
        files = self.files()
        for index, (inode, name) in reversed(list(enumerate(files))):
            try:
                fd = os.open(os.path.join(self._directory, name), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return False
            start, lines = _start_of_last(fd, but)
            but -= lines
            is_it = os.fstat(fd).st_ino == inode
            if is_it and (but == 0 or index == 0):
                os.lseek(fd, start, os.SEEK_SET)
                self._fd = fd
                return True
            os.close(fd)
            if not is_it:
                return False
        return True  # nothing is written yet

    def close(self) -> None:
        """Give the descriptor back. Closing twice is harmless."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_block(self, budget: int, records: list[Record]) -> int:
        data = os.read(self._fd, budget)
        if not data:
            return 0
        size = len(data)
        if self._skipping:
            end = data.find(b"\n") + 1
            if end == 0:
                return size
            data = data[end:]
            self._skipping = False
        end = data.rfind(b"\n") + 1
        if end == 0:
            self._rest += data
            if len(self._rest) > READ_LIMIT:
                self._rest = b""  # not ours: the logger's records are a few KiB long
                self._skipping = True
            return size
        records += parse(self._rest + data[:end])
        self._rest = data[end:]
        return size

    def _end_of_file(self, records: list[Record]) -> None:
        records += parse(self._rest)
        self._rest = b""
        self._skipping = False

    def _superseded(self) -> bool:
        here = os.fstat(self._fd)
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            # Between a rotation and the first record after it, or the pod is removed. Other
            # files may have come and gone in between all the same.
            files = self.files()
            return bool(files) and files[-1][0] != here.st_ino
        return (there.st_ino, there.st_dev) != (here.st_ino, here.st_dev)

    def _open_next(self, *, over_a_gap: bool) -> bool:
        """Open the file that follows the open one, or the oldest if none is open; where others may
        have been removed between the two, only if that is wanted."""
        # A rotation between listing and opening puts another file under a listed name: the inode
        # tells, and the list is made again. Whoever loses three times in a row tries again with
        # the next read.
        for _ in range(3):
            files = self.files()
            if not files:
                return False
            following = 0
            removed = False
            if self._fd >= 0:
                inode = os.fstat(self._fd).st_ino
                known = [ino for ino, _ in files]
                # Removal begins with the oldest: if ours is gone, all that is left is newer. How
                # many went with it cannot be known.
                removed = inode not in known
                if removed and not over_a_gap:
                    return False
                following = 0 if removed else known.index(inode) + 1
            if following == len(files):
                return False
            inode, name = files[following]
            try:
                fd = os.open(os.path.join(self._directory, name), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            if os.fstat(fd).st_ino != inode:
                os.close(fd)
                continue
            self.close()
            self._fd = fd
            self.lost += removed
            return True
        return False

    def files(self) -> list[tuple[int, str]]:
        """Inode and name of the files of this log, oldest first."""
        prefix = self._name + "."
        rotated: list[tuple[list[int], int, str]] = []
        current: list[tuple[int, str]] = []
        try:
            names = os.listdir(self._directory or ".")
        except FileNotFoundError:
            return []
        for name in names:
            if name != self._name and not name.startswith(prefix):
                continue
            try:
                # Not the inode of the directory entry: overlay file systems give another one.
                inode = os.stat(os.path.join(self._directory, name)).st_ino
            except FileNotFoundError:
                continue
            if name == self._name:
                current.append((inode, name))
            else:
                stamp = [int(digits) for digits in re.findall(r"\d+", name[len(prefix) :])]
                rotated.append((stamp, inode, name))
        rotated.sort()
        return [(inode, name) for _, inode, name in rotated] + current


def _last_lines(fd: int, count: int) -> bytes:
    """The last `count` lines of a file; a last one without a newline counts too."""
    start, _ = _start_of_last(fd, count)
    return os.pread(fd, os.fstat(fd).st_size - start, start)


def _start_of_last(fd: int, count: int) -> tuple[int, int]:
    """Where the last `count` lines of a file begin, and how many these are if there are fewer.

    A last one without a newline counts too.
    """
    end = size = os.fstat(fd).st_size
    if not count or not size:
        return size, 0
    found = 0
    while end > 0:
        begin = max(0, end - 65536)
        block = os.pread(fd, end - begin, begin)
        # The newline at the very end ends the last line, and begins none.
        cut = len(block) - (end == size and block.endswith(b"\n"))
        while (cut := block.rfind(b"\n", 0, cut)) >= 0:
            found += 1
            if found == count:
                return begin + cut + 1, count
        end = begin
    return 0, found + 1


def _read_end(path: str, size: int) -> bytes:
    """The last `size` bytes of a file that a container may have tampered with."""
    # The container can put anything where its file was: following a link would read the host's
    # files for it, and opening a FIFO would wait for ever.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "not a regular file", path)
        return os.pread(fd, size, max(0, status.st_size - size))
    finally:
        os.close(fd)


def _last_text(data: bytes, size: int) -> str:
    """The last `size` bytes as text, not beginning inside a character."""
    if len(data) <= size:
        return data.decode(errors="replace")
    data = data[-size:]
    start = 0
    while start < 3 and data[start] & 0xC0 == 0x80:
        start += 1
    return data[start:].decode(errors="replace")
