"""A process in a container, with our stdin, stdout and stderr: behind `exec` and `attach`.

`converse` passes bytes both ways until the node says how it ended. Nothing is read ahead without
bound: what the node does not take yet is left where it is. With a terminal ours is in raw mode
meanwhile, and every key, Ctrl-C too, is the container's; it is as it was whenever we end or are
stopped. Without one Ctrl-C ends us, and with our connection the node ends what was started.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import termios
import tty as terminals
from collections.abc import Iterator
from typing import Any, Self

from supervisor.cli.websocket import WebSocket
from supervisor.errors import NodeError, StatusError

_STDIN, _STDOUT, _STDERR, _STATUS, _RESIZE = range(5)
_PIECE = 1 << 16
_ENDING = (signal.SIGTERM, signal.SIGHUP)


def can_use_terminal(*, stdin: bool, tty: bool) -> bool:
    """Whether a terminal is asked for and ours can be lent; if it cannot, that is said."""
    if not (stdin and tty):
        return False
    if os.isatty(_STDIN):
        return True
    print("Unable to use a TTY - input is not a terminal", file=sys.stderr)
    return False


def converse(socket: WebSocket, *, stdin: bool, tty: bool) -> int:
    """The exit code of what ran. Raises StatusError for what could not run, NodeError where nobody
    can say how it ended."""
    sys.stdout.flush()
    with contextlib.closing(socket), _Signals() as signals, _Terminal(lent=tty) as terminal:
        return _Conversation(socket, signals, terminal, stdin=stdin).run()


class _Conversation:
    def __init__(
        self, socket: WebSocket, signals: _Signals, terminal: _Terminal, *, stdin: bool
    ) -> None:
        self._socket = socket
        self._signals = signals
        self._terminal = terminal
        self._reads = stdin
        self._said = b""  # on the channel for it
        self._status: dict[str, Any] | None = None

    def run(self) -> int:
        self._resize()
        self._take()
        while not self._socket.ended and self._status is None:
            poll = select.poll()
            poll.register(self._socket, self._socket.events)
            poll.register(self._signals, select.POLLIN)
            if self._reads and not self._socket.is_full:
                poll.register(_STDIN, select.POLLIN)
            ready = dict(poll.poll())
            if self._signals.fileno() in ready:
                for signum in self._signals.received():
                    self._heed(signum)
            if _STDIN in ready:
                self._pass_on()
            if ready.get(self._socket.fileno(), 0) & select.POLLOUT:
                self._socket.flush()
            self._take()
        if self._status is None:
            raise NodeError("cannot say how it ended: the node has closed the connection")
        return _code(self._status)

    def _take(self) -> None:
        for channel, data in self._socket.receive():
            if channel == _STATUS:
                self._said += data
                with contextlib.suppress(ValueError):  # not all of it yet
                    self._status = json.loads(self._said)
            elif channel in (_STDOUT, _STDERR):
                _write(channel, data)

    def _pass_on(self) -> None:
        try:
            data = os.read(_STDIN, _PIECE)
        except OSError:  # a terminal that was hung up
            data = b""
        if data:
            self._socket.send(_STDIN, data)
        else:
            self._reads = False
            self._socket.end(_STDIN)

    def _heed(self, signum: int) -> None:
        if signum in _ENDING:
            self._terminal.restore()
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        elif signum == signal.SIGTSTP:
            self._terminal.restore()
            os.kill(os.getpid(), signal.SIGSTOP)
            self._terminal.take()
        if signum in (signal.SIGWINCH, signal.SIGTSTP):
            self._resize()

    def _resize(self) -> None:
        if self._terminal.lent:
            with contextlib.suppress(OSError):
                size = os.get_terminal_size(_STDIN)
                words = json.dumps({"Width": size.columns, "Height": size.lines})
                self._socket.send(_RESIZE, words.encode())


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:  # somebody has set our output so
            select.select([], [fd], [])


def _code(status: dict[str, Any]) -> int:
    """Of the Status that tells how it ended."""
    if status.get("status") == "Success":
        return 0
    for cause in (status.get("details") or {}).get("causes") or ():
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise StatusError(status)


class _Terminal:
    """Ours, in raw mode while it is lent."""

    def __init__(self, *, lent: bool) -> None:
        self.lent = lent
        self._before: list[Any] | None = None

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()

    def take(self) -> None:
        if self.lent:
            with contextlib.suppress(termios.error):  # it was hung up
                self._before = termios.tcgetattr(_STDIN)
                terminals.setraw(_STDIN, termios.TCSADRAIN)

    def restore(self) -> None:
        """Harmless at any time."""
        if self._before is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(_STDIN, termios.TCSADRAIN, self._before)
            self._before = None


class _Signals:
    """Those that come while we wait, as a descriptor to poll."""

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._wakeup = -1

    def __enter__(self) -> Self:
        self._reads, writes = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._writes = writes
        self._wakeup = signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
        for signum in (signal.SIGWINCH, signal.SIGTSTP, *_ENDING):
            if signal.getsignal(signum) is not signal.SIG_IGN or signum == signal.SIGWINCH:
                self._before[signum] = signal.signal(signum, lambda *_: None)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._reads)
        os.close(self._writes)

    def fileno(self) -> int:
        return self._reads

    def received(self) -> Iterator[int]:
        with contextlib.suppress(BlockingIOError):
            yield from os.read(self._reads, 64)
