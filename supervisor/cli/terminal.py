"""`podvisor run -i -t`: the keyboard and the terminal, lent to one container.

A file or a pipe as our stdin is simply handed over, so its end is the container's. A terminal is
not: whoever reads it in the background would take what is meant for the shell. So what is typed is
passed on from here, into a pipe, or with -t into a terminal of the container's own, whose master is
held here for that. What it shows comes back by way of the container's log, as all output does
(output.py); ours is in raw mode meanwhile, and every key, Ctrl-C too, is the container's.

It is in raw mode only while that container runs, and never when the context of `Attachment` ends,
nor while we are stopped: Ctrl-Z is the container's, but SIGTSTP may come from elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import signal
import termios
from collections.abc import Sequence
from typing import Any, Self

import anyio
from msgspec.structs import replace

from supervisor.api import v1
from supervisor.errors import UsageError
from supervisor.project import manifests

_KEYBOARD = 0


def attach(loaded: manifests.Loaded, *, tty: bool) -> tuple[manifests.Loaded, Attachment]:
    """Choose the container: the only one that has stdin or tty, else the only app container.

    In what is returned it has stdin. Raises UsageError.
    """
    every = [
        (home, container)
        for home in loaded.pods
        for container in (*home.pod.spec.init_containers, *home.pod.spec.containers)
    ]
    marked = [(home, c) for home, c in every if c.stdin or c.tty]
    chosen = marked or [(home, c) for home, c in every if c in home.pod.spec.containers]
    if len(chosen) != 1:
        names = ", ".join(f"{home.pod.metadata.name}/{c.name}" for home, c in chosen)
        raise UsageError(
            f"cannot choose who gets our stdin ({names or 'no container'}): "
            "have one container with stdin: true in the manifests"
        )
    home, container = chosen[0]
    tty = tty or container.tty
    if tty and not os.isatty(_KEYBOARD):
        raise UsageError(
            f"cannot give {home.pod.metadata.name}/{container.name} a terminal: "
            "our stdin is none; leave out -t, and tty: true"
        )
    lent = replace(container, stdin=True, stdin_once=True, tty=tty)

    def with_stdin(containers: tuple[v1.Container, ...]) -> tuple[v1.Container, ...]:
        return tuple(lent if c is container else c for c in containers)

    spec = home.pod.spec
    spec = replace(
        spec,
        init_containers=with_stdin(spec.init_containers),
        containers=with_stdin(spec.containers),
    )
    attached = replace(home, pod=replace(home.pod, spec=spec))
    pods = tuple(attached if other is home else other for other in loaded.pods)
    return replace(loaded, pods=pods), Attachment(home.pod.metadata, container.name, tty=tty)


class Attachment:
    """One container, and what we have lent it. A context manager; `run` is its task."""

    def __init__(self, pod: v1.ObjectMeta, container: str, *, tty: bool) -> None:
        self.tty = tty
        self._pod, self._container = (pod.namespace, pod.name), container
        self._is_raw = False
        self._before: list[Any] = []  # how our terminal was
        self._next = -1  # where what is typed goes from now on
        self._input = -1  # where it goes
        self._typing: anyio.CancelScope | None = None
        self._lent = anyio.Event()

    def is_about(self, pod: v1.Pod, container: str) -> bool:
        meta = pod.metadata
        return (meta.namespace, meta.name) == self._pod and container == self._container

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()
        self._drop()

    # --- what is typed --------------------------------------------------------------------------

    def lend(self) -> Sequence[int]:
        """What a new instance is started with: an stdin, or master and slave of a terminal."""
        if not os.isatty(_KEYBOARD):
            return [os.dup(_KEYBOARD)]
        self.take_back()
        if not self.tty:
            theirs, self._next = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(self._next, False)
            given = [theirs]
        else:
            given = list(os.openpty())
            self._next = os.dup(given[0])
            self._resize(self._next)
        self._lent.set()
        return given

    def take_back(self) -> None:
        """The instance has ended."""
        if self._typing is not None:
            self._typing.cancel()
        self._drop()

    def _drop(self) -> None:
        if self._next >= 0:
            os.close(self._next)
            self._next = -1

    async def run(self) -> None:
        """Pass on what is typed, until cancelled."""
        async with anyio.create_task_group() as tasks:
            if self.tty:
                tasks.start_soon(self._take_signals)
            while True:
                await self._lent.wait()
                self._lent = anyio.Event()
                self._input, self._next = self._next, -1
                if self._input < 0:
                    continue
                try:
                    with anyio.CancelScope() as self._typing:
                        await self._pass_on(self._input)
                finally:
                    os.close(self._input)  # of a pipe, that is the end for who reads it
                    self._input = -1

    async def _pass_on(self, to: int) -> None:
        """Until there is nobody any more who types, or who reads it."""
        while True:
            await anyio.wait_readable(_KEYBOARD)
            try:
                typed = os.read(_KEYBOARD, 4096)
                if not typed:
                    return
                while typed:
                    try:
                        typed = typed[os.write(to, typed) :]
                    except BlockingIOError:
                        await anyio.wait_writable(to)
            except OSError:  # EIO: a terminal that was hung up, ours or the container's
                return

    # --- the terminal ---------------------------------------------------------------------------

    async def _take_signals(self) -> None:
        ours = (signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT)
        with anyio.open_signal_receiver(*ours) as signals:
            async for received in signals:
                if received == signal.SIGTSTP:
                    if self._is_raw and self._is_in_front():
                        self._set(self._before)
                    os.kill(os.getpid(), signal.SIGSTOP)
                    continue  # with the SIGCONT that has come meanwhile
                if self._is_raw:  # after SIGCONT it may be as the shell likes it
                    self._set(_raw(self._before))
                if self._input >= 0:
                    self._resize(self._input)

    def _resize(self, master: int) -> None:
        with contextlib.suppress(OSError, termios.error):
            size = os.get_terminal_size(_KEYBOARD)
            termios.tcsetwinsize(master, (size.lines, size.columns))

    def raw(self) -> None:
        """Every key is the container's, and what it writes is shown as it is."""
        with contextlib.suppress(termios.error):  # it was hung up
            self._before = termios.tcgetattr(_KEYBOARD)
            self._is_raw = True
            self._set(_raw(self._before))

    def restore(self) -> None:
        """Our terminal as it was. Harmless at any time."""
        if not self._is_raw:
            return
        self._is_raw = False
        # From the background it would stop us, and the terminal is the shell's then.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
        if self._is_in_front():
            self._set(self._before)

    def _is_in_front(self) -> bool:
        try:
            return os.tcgetpgrp(_KEYBOARD) == os.getpgrp()
        except OSError:  # not our controlling terminal: nobody minds
            return True

    def _set(self, attributes: list[Any]) -> None:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(_KEYBOARD, termios.TCSANOW, attributes)


def _raw(before: list[Any]) -> list[Any]:
    """As cfmakeraw(3), which Python does not have everywhere."""
    iflag, oflag, cflag, lflag, ispeed, ospeed, characters = before
    iflag &= ~(
        termios.IGNBRK
        | termios.BRKINT
        | termios.PARMRK
        | termios.ISTRIP
        | termios.INLCR
        | termios.IGNCR
        | termios.ICRNL
        | termios.IXON
    )
    oflag &= ~termios.OPOST
    lflag &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    cflag = cflag & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    characters = list(characters)
    characters[termios.VMIN], characters[termios.VTIME] = 1, 0
    return [iflag, oflag, cflag, lflag, ispeed, ospeed, characters]
