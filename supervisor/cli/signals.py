"""The signals that end a program, from our first line to our last.

A handler is of no use at either end of a program: before it is there and after it is gone, the
interpreter answers Ctrl-C with a traceback, and SIGTERM with a death in the middle of things. So
there is none. `__main__` blocks these signals before anything else of ours runs, and for `run`
they stay blocked, in every thread and to the end. The kernel keeps what comes until the one
thread here takes it with sigwait(3).

As long as there is no node there is nothing to end gracefully, for a launcher ends with us: a
signal then ends the program at once, also while it waits for a manifest on stdin. From `hold` on
signals are kept for the session.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from types import TracebackType
from typing import Self

from supervisor.errors import ExitCode, NodeError

ENDING = {
    signal.SIGINT: ExitCode.INTERRUPTED,
    signal.SIGTERM: ExitCode.TERMINATED,
    signal.SIGHUP: ExitCode.HANGUP,
}

_WAKE = signal.SIGURG  # ignored by default, so nobody minds it: ends the thread


class SignalWatch:
    """Takes the ending signals while its context lasts. They are blocked after it too."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)  # readable: something to take
        # Not those that were ignored when we were started: see __main__.
        self._awaited = {s for s in ENDING if signal.getsignal(s) is not signal.SIG_IGN}
        self._received: deque[signal.Signals] = deque()
        self._held = threading.Lock()  # somebody is between the look at `_holding` and the deed
        self._holding = False
        self._over = False
        self._thread = threading.Thread(target=self._watch, name="podvisor-signals", daemon=True)

    def __enter__(self) -> Self:
        # Before the thread, which inherits it, and so does every later one.
        signal.pthread_sigmask(signal.SIG_BLOCK, {*self._awaited, _WAKE})
        try:
            self._thread.start()
        except RuntimeError as error:  # RLIMIT_NPROC, pids.max
            os.close(self.fd)
            raise NodeError(f"cannot start: {error}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over = True
        assert self._thread.ident is not None
        signal.pthread_kill(self._thread.ident, _WAKE)  # no other thread
        self._thread.join()
        os.close(self.fd)

    def hold(self) -> None:
        """From now on the session answers: there will be something to clean up."""
        with self._held:
            self._holding = True

    def take(self) -> list[signal.Signals]:
        """What has come since the last call, in order. Never blocks."""
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            pass
        taken = []
        while self._received:
            taken.append(self._received.popleft())
        return taken

    def _watch(self) -> None:
        while True:
            received = signal.Signals(signal.sigwait({*self._awaited, _WAKE}))
            if self._over:
                return
            if received not in ENDING:
                continue
            with self._held:
                if not self._holding:
                    os._exit(ENDING[received])
            self._received.append(received)
            os.eventfd_write(self.fd, 1)
