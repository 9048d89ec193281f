"""Time for the shell: the one place where kubelet code reads a clock or waits for one.

Deadlines are CLOCK_BOOTTIME seconds, because they must go on while the machine is suspended.
Event loops sleep on CLOCK_MONOTONIC, which stops in suspend, so a long sleep is cut into pieces
and the clock is read again after each. Tests of the shell give `Clock` another way to read the
time and run on a loop whose time jumps; nothing else in kubelet/ may sleep or set a timeout
(tests/test_house_rules.py looks).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import anyio

from supervisor.lifecycle.facts import Instant

# The longest sleep before the boot clock is read again: a deadline that passed during suspend is
# noticed at most this long after waking up.
_LONGEST_SLEEP = 5.0
# uvloop's timers count whole milliseconds and may fire a little early; anyio then asks again and
# again until the time has come, which costs more CPU than most of what is waited for. So sleeps
# are made of whole milliseconds, a hair less because of what adding up floats does.
_GRAIN = 1000
_HAIR = 1e-5


def system_instant() -> Instant:
    return Instant(wall=time.time(), boot=time.clock_gettime(time.CLOCK_BOOTTIME))


class Clock:
    def __init__(self, read: Callable[[], Instant] = system_instant) -> None:
        self._read = read
        self._is_real = read is system_instant

    def now(self) -> Instant:
        return self._read()

    async def wait(self, event: anyio.Event, until: float | None = None) -> bool:
        """Wait for the event, at most until this CLOCK_BOOTTIME second.

        Returns whether the event was set.
        """
        while not event.is_set():
            if until is None:
                await event.wait()
                break
            left = until - self.now().boot
            if left <= 0:
                break
            left = min(left, _LONGEST_SLEEP)
            if self._is_real:
                left = math.ceil(left * _GRAIN) / _GRAIN - _HAIR
            with anyio.move_on_after(left):
                await event.wait()
        return event.is_set()

    async def sleep(self, seconds: float) -> None:
        await self.wait(anyio.Event(), self.now().boot + seconds)


def time_limit(seconds: float) -> anyio.CancelScope:
    """Cut off an exchange with another program this long after now.

    Counts as the loop does, not in suspend: then the other program does not get on, either.
    """
    return anyio.CancelScope(deadline=anyio.current_time() + seconds)


def loop_time() -> float:
    """The loop's own seconds, by which `time_limit` counts."""
    return anyio.current_time()
