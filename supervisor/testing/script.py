"""A sequence of signals at a program, and what must come of it: `play`.

    await testing.play(
        pod,
        [(0.0, "SIGHUP"), (0.2, "SIGTERM")],
        expect=["reloaded", Changed("/run/app/pid"), "draining", Exits(0)],
    )

The signals go to the main process, at these seconds after the beginning, whatever it does with
them; the kubelet is not asked, and applies its restart policy as to any other end.
"""

from __future__ import annotations

import contextlib
import os
import signal as signals
import time
from collections.abc import Iterable, Sequence

import anyio
from msgspec import Struct

from supervisor.embed import PodHandle
from supervisor.errors import PodError, UsageError
from supervisor.lifecycle.record import ContainerRecord
from supervisor.runtime import procfs
from supervisor.runtime.spec import signal_number
from supervisor.testing.shutdown import missing_lines
from supervisor.testing.signals import container_name, mains_are_pid1, signal_table

_LOOK = 0.005  # seconds between two looks at what has come


class Exits(Struct, frozen=True):
    """The main process ends, with this code if one is given; death by signal n is 128+n."""

    code: int | None = None

    def __str__(self) -> str:
        return "an end" if self.code is None else f"an end with code {self.code}"


class Changed(Struct, frozen=True):
    """A file of the host is made, written, replaced or removed."""

    path: str

    def __str__(self) -> str:
        return f"a change of {self.path}"


class Survives(Struct, frozen=True):
    """The main process still runs when all else has come, and this many seconds later."""

    seconds: float = 0.1

    def __str__(self) -> str:
        return "that it goes on"


Expected = str | Exits | Changed | Survives


class Played(Struct, frozen=True):
    """What came of it."""

    lines: tuple[str, ...]  # that the container printed from the beginning on
    exit_code: int | None  # None: it still runs
    seconds: float  # from the beginning until all had come


async def play(
    pod: PodHandle,
    script: Sequence[tuple[float, str | int]],
    *,
    expect: Iterable[Expected] = (),
    container: str = "",
    timeout: float = 10.0,
) -> Played:
    """Send signals to a container's main process, and wait until all that is expected has come.

    `script`: each with the seconds after the beginning. `expect`: texts that are printed, each as
    part of a line, in this order; `Exits`, `Changed`, `Survives` in any. Raises AssertionError,
    `timeout` seconds after the last signal, with what has not come and what the process does with
    its signals.
    """
    ordered = sorted((at, _number(signal)) for at, signal in script)
    if not ordered or ordered[0][0] < 0:
        raise UsageError("cannot play: each signal needs the seconds after the beginning")
    stage = await _Stage.set(pod, container_name(pod, container), list(expect))
    begin = time.monotonic()
    for at, number in ordered:
        await anyio.sleep(max(0.0, begin + at - time.monotonic()))
        await stage.send(number, at)
    deadline = time.monotonic() + timeout
    while missing := await stage.missing():
        if time.monotonic() > deadline:
            raise await stage.failure(missing, f"within {timeout:g} s of the last signal")
        await anyio.sleep(_LOOK)
    seconds = time.monotonic() - begin
    for each in stage.expect:
        if isinstance(each, Survives):
            await anyio.sleep(each.seconds)
            if not stage.runs():
                raise await stage.failure(["it has ended"], "and should go on")
    return Played(tuple(await stage.lines()), stage.exit_code(), seconds)


def _number(signal: str | int) -> int:
    try:
        return signal_number(signal) if isinstance(signal, str) else int(signal)
    except (KeyError, ValueError):
        raise UsageError(f"cannot send {signal!r}: there is no such signal") from None


class _Stage:
    """One instance of a container, and how everything was before."""

    def __init__(self, pod: PodHandle, name: str, expect: list[Expected]) -> None:
        self._pod, self._name, self.expect = pod, name, expect
        self._attempt = self._record().attempt
        self._printed = 0
        self._last = 0
        self._files = {e.path: _state(e.path) for e in expect if isinstance(e, Changed)}
        self._table = str(signal_table(pod, name))

    @classmethod
    async def set(cls, pod: PodHandle, name: str, expect: list[Expected]) -> _Stage:
        """Raises PodError where the container does not run."""
        stage = cls(pod, name, expect)
        stage._printed = len(await stage.lines())
        return stage

    async def send(self, number: int, at: float) -> None:
        sent = False
        if self.runs():
            with contextlib.suppress(PodError):  # it has ended just now
                await self._pod.signal(self._name, number)
                sent = True
        if not sent:
            known = number in set(signals.Signals)
            name = signals.Signals(number).name if known else f"signal {number}"
            missing = [f"{name}, {at:g} s after the beginning, could not be sent"]
            raise await self.failure(missing, "since the process had ended")
        self._last = number

    async def lines(self) -> list[str]:
        """What the instance has printed since the beginning."""
        newer = self._record().attempt - self._attempt
        if newer > 1:
            raise AssertionError(f"{self._name} was restarted {newer} times meanwhile")
        found = [each.text async for each in self._pod.logs(self._name, previous=bool(newer))]
        return found[self._printed :]

    def runs(self) -> bool:
        record = self._record()
        return record.attempt == self._attempt and record.running is not None

    def exit_code(self) -> int | None:
        record = self._record()
        for ended in (record.ended, record.before):
            if ended is not None and ended.attempt == self._attempt:
                return ended.exit_code
        return None

    async def missing(self) -> list[str]:
        """What has not come yet."""
        texts = [each for each in self.expect if isinstance(each, str)]
        missing = missing_lines(texts, await self.lines())
        code = self.exit_code()
        for each in self.expect:
            match each:
                case Exits() if code is None:
                    missing.append(f"{each} did not come")
                case Exits(code=wanted) if wanted is not None and wanted != code:
                    raise await self.failure([f"it exited with code {code}"], f"not {wanted}")
                case Changed(path=path) if _state(path) == self._files[path]:
                    missing.append(f"{each} did not come")
                case Survives() if code is not None:
                    raise await self.failure([f"it exited with code {code}"], "and should go on")
                case _:
                    pass
        return missing

    async def failure(self, missing: Iterable[str], why: str) -> AssertionError:
        parts = [f"{self._name} did not do what was expected:"]
        parts += [f"  {each}, {why}" for each in missing]
        view = self._pod.containers[self._name]
        if self.runs() and view.pid is not None and self._last:
            said = procfs.explain_deaf(
                view.pid,
                self._last,
                is_pid1=mains_are_pid1(self._pod),
                secrets=self._pod.veiled,
            )
            parts += [f"  {said}"] if said else []
        parts += ["", f"before: {self._table}"]
        printed = await self.lines()
        if printed:
            parts += ["", "printed meanwhile:", *(f"  {line}" for line in printed[-20:])]
        return AssertionError("\n".join(parts))

    def _record(self) -> ContainerRecord:
        return next(c for c in self._pod.record.containers if c.name == self._name)


def _state(path: str) -> tuple[int, int, int] | None:
    """Another one after every change; None: no file."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
