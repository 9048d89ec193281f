"""Everything `podvisor run` writes, in one order: the containers' lines and our own.

Container lines come from the CRI log files that the logger writes (the logger alone reads the
pipes), our own lines from the session. Both go through one queue, so that a container's last
lines stand before the line that says how it ended. Writing happens on a thread of its own: a slow
terminal or a stopped pager delays only what is shown, never a container, a signal or a deadline.

While a container has the terminal (`run -i -t`), it is shown as it writes, to the byte; all else
waits until it has ended, other containers' lines in their log files.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import select
import threading
from collections.abc import Callable, Iterator

import anyio
from msgspec import Struct

from supervisor.cli.printing import shown
from supervisor.cli.terminal import Attachment
from supervisor.errors import NodeError
from supervisor.lifecycle.facts import ContainerId
from supervisor.runtime.logs import Follower, Joiner, Record

_COLOURS = ("36", "33", "32", "35", "34", "96", "93", "92", "95", "94")
_STDOUT, _STDERR = 1, 2


class _Said(Struct, frozen=True):
    """One line of ours, or a block of lines; `fd` tells where."""

    text: str
    fd: int = _STDERR


class _Opened(Struct, frozen=True):
    id: ContainerId
    label: str
    path: str
    from_end: bool
    terminal: Attachment | None


class _Ended(Struct, frozen=True):
    id: ContainerId


# Bytes for a descriptor, or a deed that has its place between what is written.
_Chunk = tuple[int, bytes] | Callable[[], None]


class _Source:
    """One container instance whose log is being shown; `raw`: to the byte."""

    def __init__(self, path: str, prefix: bytes, *, timestamps: bool, raw: bool = False) -> None:
        self.follower = Follower(path)
        self.silent = True  # nothing has been read yet
        self.unreadable = False  # that was said
        self._joiner = Joiner()
        self._prefix = prefix
        self._timestamps = timestamps
        self._raw = raw

    def read(self) -> bytes:
        """New lines, ready to be written; empty when there are none."""
        return self._lines(self.follower.read())

    def finish(self) -> Iterator[bytes]:
        """All that is left, also a last line that was never ended."""
        # Pieces of a long line give no text until its end: only no records means the end.
        while records := self.follower.read(final=True):
            yield self._lines(records)
        yield self._format(self._joiner.flush())

    def _lines(self, records: list[Record]) -> bytes:
        self.silent = self.silent and not records
        if self._raw:
            return b"".join([x.content if x.partial else x.content + b"\n" for x in records])
        return self._format(self._joiner.feed(records))

    def _format(self, lines: list[Record]) -> bytes:
        prefix = self._prefix
        if self._timestamps:
            return b"".join([b"%b%b %b\n" % (prefix, x.time, x.content) for x in lines])
        return b"".join([b"%b%b\n" % (prefix, x.content) for x in lines])


class Labels:
    """Before every line: who it is about, in columns that align and colours of their own."""

    def __init__(self) -> None:
        self._colour = {fd: _wants_colour(fd) for fd in (_STDOUT, _STDERR)}
        self._width = 0
        self._colours: dict[str, str] = {}

    def reserve(self, labels: list[str]) -> None:
        """Make room for these labels, so that lines of all containers align."""
        self._width = max([self._width, *map(len, labels)])

    def ours(self, label: str, text: str) -> str:
        """What we say about a pod or container, on stderr. Others' words in it, such as events have
        them, cannot take over a terminal."""
        mark = f"{label:<{self._width}} * "
        if self._colour[_STDERR]:
            mark = f"\x1b[1;{self._colour_of(label)}m{mark}\x1b[0m"
        return f"{mark}{shown(text)}"

    def of_log(self, label: str, fd: int = _STDOUT) -> str:
        """Before what a container wrote."""
        text = f"{label:<{self._width}} | "
        return f"\x1b[{self._colour_of(label)}m{text}\x1b[0m" if self._colour[fd] else text

    def _colour_of(self, label: str) -> str:
        return self._colours.setdefault(label, _COLOURS[len(self._colours) % len(_COLOURS)])


class Output:
    """Shows logs and says things. `run` is its task; the other methods only queue."""

    def __init__(
        self,
        *,
        log_event: int,
        logs_to_stderr: bool,
        timestamps: bool,
        prefix: bool,
        grown: Callable[[], None] = lambda: None,
    ) -> None:
        """`grown`: somebody else who shows logs; called when they may have grown."""
        self.reader_gone = anyio.Event()  # nobody reads our stdout any more
        self.hung_up = False  # because the terminal was hung up
        self._writer = _Writer()
        self._log_event = log_event
        self._grown = grown
        self._log_fd = _STDERR if logs_to_stderr else _STDOUT
        self._timestamps = timestamps
        self._prefix = prefix
        self._labels = Labels()
        self._sources: dict[ContainerId, _Source] = {}
        self._attached: tuple[ContainerId, Attachment] | None = None  # who has the terminal
        self._queue: list[_Said | _Opened | _Ended] = []
        self._wake = anyio.Event()
        self._closing = False
        self._scope = anyio.CancelScope()

    def reserve(self, labels: list[str]) -> None:
        """Make room for these labels, so that lines of all containers align."""
        self._labels.reserve(labels)

    def say(self, label: str, text: str) -> None:
        """One line of ours on stderr, about `label` (a pod or pod/container)."""
        self._put(_Said(f"{self._labels.ours(label, text)}\n"))

    def print(self, text: str, *, stdout: bool = False) -> None:
        """Whole lines as they are."""
        self._put(_Said(text, _STDOUT if stdout else _STDERR))

    def open(
        self,
        id: ContainerId,
        label: str,
        path: str,
        *,
        from_end: bool = False,
        terminal: Attachment | None = None,
    ) -> None:
        """Show the log of this instance; `from_end`: only what comes from now on.

        `terminal`: until its end it has that for itself.
        """
        self._put(_Opened(id, label, path, from_end, terminal))

    def end(self, id: ContainerId) -> None:
        """This instance has ended and its log is complete: show the rest of it."""
        self._put(_Ended(id))

    def is_silent(self, id: ContainerId) -> bool:
        """Whether an instance that is being shown has written nothing so far."""
        source = self._sources.get(id)
        return source is not None and source.silent

    def look(self) -> None:
        """See now whether logs have grown: a logger whose node and launcher are both dead goes on
        writing, and has nobody to tell."""
        self._wake.set()

    def abandon(self) -> None:
        """Give up what is not written yet: somebody stopped reading, and we are to end."""
        self._scope.cancel()

    def close(self) -> None:
        """Nothing more will be queued: `run` returns when all is written."""
        self._closing = True
        self._wake.set()

    async def run(self) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                self._scope = tasks.cancel_scope
                tasks.start_soon(self._watch_logs)
                while True:
                    self._wake = anyio.Event()
                    closing = self._closing
                    while chunks := self._collect():
                        await self._write(chunks)
                    if closing:
                        break
                    await self._wake.wait()
                tasks.cancel_scope.cancel()
        finally:
            for source in self._sources.values():
                source.follower.close()
            self._writer.close()

    def _put(self, item: _Said | _Opened | _Ended) -> None:
        self._queue.append(item)
        self._wake.set()

    async def _watch_logs(self) -> None:
        while True:
            await anyio.wait_readable(self._log_event)
            try:
                os.eventfd_read(self._log_event)
            except BlockingIOError:
                continue
            self._wake.set()
            self._grown()

    def _collect(self) -> list[_Chunk]:
        """What is to be written next, in order; about a MiB per container at most."""
        chunks: list[_Chunk] = []
        if self._attached is not None and not self._show_attached(*self._attached, chunks):
            return chunks
        queue, self._queue = self._queue, []
        self._read_sources(chunks)
        for place, item in enumerate(queue):
            match item:
                case _Said(text=text, fd=fd):
                    chunks.append((fd, text.encode("utf-8", "surrogateescape")))
                case _Opened(id=id, path=path, terminal=Attachment() as terminal):
                    self._sources[id] = _Source(path, b"", timestamps=False, raw=True)
                    self._attached = id, terminal
                    self._queue = queue[place + 1 :]
                    return [*chunks, terminal.raw]
                case _Opened(id=id, label=label, path=path, from_end=from_end):
                    opened = self._sources[id] = _Source(
                        path, self._log_prefix(label), timestamps=self._timestamps
                    )
                    if from_end:
                        opened.follower.skip()
                case _Ended(id=id):
                    source = self._sources.pop(id, None)
                    if source is not None:
                        self._finish(source, chunks)
        return chunks

    def _show_attached(self, id: ContainerId, terminal: Attachment, chunks: list[_Chunk]) -> bool:
        """What the container at the terminal wrote; True when the terminal is ours again."""
        end = _Ended(id)
        if end not in self._queue and not self._closing:
            self._read(self._sources[id], chunks)
            return False
        self._queue = [item for item in self._queue if item != end]
        self._finish(self._sources.pop(id), chunks)
        chunks.append(terminal.restore)
        self._attached = None
        return True

    def _read_sources(self, chunks: list[_Chunk]) -> None:
        for source in self._sources.values():
            self._read(source, chunks)

    def _read(self, source: _Source, chunks: list[_Chunk]) -> None:
        try:
            data = source.read()
        except OSError as error:
            if not source.unreadable:
                source.unreadable = True
                chunks.append(_complaint(source, f"cannot read: {error.strerror}"))
            return
        if data:
            chunks.append((self._log_fd, data))

    def _finish(self, source: _Source, chunks: list[_Chunk]) -> None:
        try:
            chunks += ((self._log_fd, data) for data in source.finish() if data)
        except OSError as error:
            chunks.append(_complaint(source, f"cannot read: {error.strerror}"))
        if source.follower.lost:
            chunks.append(_complaint(source, "rotated away before it could be shown"))
        source.follower.close()

    def _log_prefix(self, label: str) -> bytes:
        if not self._prefix:
            return b""
        return self._labels.of_log(label, self._log_fd).encode()

    async def _write(self, chunks: list[_Chunk]) -> None:
        if self.reader_gone.is_set():
            chunks = [chunk for chunk in chunks if callable(chunk) or chunk[0] != _STDOUT]
        number = await self._writer.write(chunks)
        if number:
            self.hung_up = number == errno.EIO
            self.reader_gone.set()


class _Writer:
    """A thread that writes, since a write to a terminal or a pipe can take for ever.

    A daemon, unlike anyio's threads: at its end the interpreter does not wait for a write that
    nobody reads.
    """

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[list[_Chunk] | None] = queue.SimpleQueue()
        self._done = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._answer = 0
        self._busy = False
        self._thread = threading.Thread(target=self._run, name="podvisor-output", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # RLIMIT_NPROC, pids.max
            os.close(self._done)
            raise NodeError(f"cannot start: {error}") from error

    async def write(self, chunks: list[_Chunk]) -> int:
        """Write everything; return the errno if that ended because stdout's reader is gone."""
        self._busy = True
        self._orders.put(chunks)
        await anyio.wait_readable(self._done)
        os.eventfd_read(self._done)
        self._busy = False
        return self._answer

    def close(self) -> None:
        """Give up what is being written, if anything is. The thread ends when it can."""
        self._orders.put(None)
        if not self._busy:
            self._thread.join()

    def _run(self) -> None:
        while (chunks := self._orders.get()) is not None:
            self._answer = _write_all(chunks)
            os.eventfd_write(self._done, 1)
        os.close(self._done)


def _complaint(source: _Source, text: str) -> _Chunk:
    return _STDERR, f"{source.follower.path}: {text}\n".encode()


def _wants_colour(fd: int) -> bool:
    return os.isatty(fd) and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "") != "dumb"


def _write_all(chunks: list[_Chunk]) -> int:
    """Write everything; return the errno that stdout answered, or 0. Runs on the thread."""
    gone: dict[int, int] = {}
    for chunk in chunks:
        if callable(chunk):
            chunk()
            continue
        fd, data = chunk
        view = memoryview(data)
        while view and fd not in gone:
            try:
                view = view[os.write(fd, view) :]
            except BlockingIOError:
                # Somebody made our terminal non-blocking; wait as a blocking write would.
                select.select([], [fd], [])
            except OSError as error:
                # EPIPE: the reader ended. EIO: the terminal was hung up.
                gone[fd] = error.errno or errno.EIO
                if error.errno not in (errno.EPIPE, errno.EIO) and fd == _STDOUT:
                    with contextlib.suppress(OSError):
                        text = f"podvisor: cannot write: {error.strerror}\n"
                        os.write(_STDERR, text.encode())
    return gone.get(_STDOUT, 0)
