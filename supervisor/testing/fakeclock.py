"""A clock for tests that stands still: `Supervisor(clock=FakeClock())`.

Containers are real processes, and everything that podvisor times itself (back-off, graces, the
periods of probes, deadlines of hooks, `sleep` hooks, activeDeadlineSeconds) passes only when the
test says so:

    clock = FakeClock()
    async with Supervisor(clock=clock) as node:
        pod = await node.run(["sh", "-c", "exit 1"], restart="Always")
        await clock.advance(10 + 20 + 40)  # after a first restart at once
        assert pod.containers["sh"].restarts == 4

`advance` goes from deadline to deadline, in order. At each it wakes who waits for it and then
settles: it waits, in real time, until what that has set off is over. Programs that are being
started or run in a container, probes that are being made, ends on their way to the record are
waited for, and processes that use the CPU are, for a while, or that were just sent a signal; a
process that is asleep is not. So a program that sleeps for a second and then crashes is seen as
running for as long as the fake time says.

What is not podvisor's own to time stays real: the timeout of a probe or of a program run in a
container, since the other side's time is real; times in log files; the `timeout` of `wait_ready`
and the like, which keep a test from hanging. `terminate` waits for containers that do not end by
themselves until somebody advances the clock: run it as a task beside.

When the block is left, time goes by itself, `_HASTE` times as fast as outside: graces that are
still to be served end soon, and a program that needs a moment to end has it.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import time
from collections.abc import AsyncIterator, Iterator

import anyio
from msgspec.structs import replace

from supervisor.api import v1
from supervisor.errors import UsageError
from supervisor.kubelet.clock import Clock, system_instant
from supervisor.kubelet.handlers import Execute, Observation
from supervisor.kubelet.node import Node
from supervisor.kubelet.prober import RunProbe
from supervisor.lifecycle.facts import ContainerId, Instant
from supervisor.runtime.cri import ExecResult, LaunchSpec, News, Runtime
from supervisor.testing import processes
from supervisor.testing.between import Between

_HASTE = 20.0
_TICK = 0.005  # real seconds, of that haste
# Settling: nothing may have happened in so many looks, so many real seconds apart, and whatever
# goes on, it is given up after the last one.
_LOOKS, _PAUSE, _PATIENCE = 3, 0.001, 10.0
# Real seconds for which is waited: for a program or a probe that was begun, for processes that do
# not sleep, for the news of an end that can be seen, for the end of who was sent a signal, from
# when it was last seen at work.
_CALL, _ACTIVE, _END, _TOLD = 2.0, 4.0, 4.0, 0.2


class FakeClock(Clock):
    """Moves only by `advance` and `advance_to_next`. For one Supervisor, or for several."""

    def __init__(self) -> None:
        super().__init__()
        begin = system_instant()
        # Whole seconds: sums of whole seconds are exact then.
        self._wall, self._boot = math.floor(begin.wall), float(math.floor(begin.boot))
        self._begin = self._boot
        self._timers: list[tuple[float, int, anyio.CancelScope]] = []
        self._numbers = itertools.count()
        self._stirred = 0  # how often anybody has asked for the time
        self._nodes: dict[Node, _Watched] = {}
        self._moving = anyio.Lock()

    @property
    def elapsed(self) -> float:
        """Seconds by which it has moved."""
        return self._boot - self._begin

    async def advance(self, seconds: float) -> None:
        """Let so much time pass; everything that is due by then happens, in order."""
        if not seconds >= 0:
            raise UsageError(f"cannot advance by {seconds} s: time does not go back")
        async with self._moving:
            end = self._boot + seconds
            await self._settle()
            while self._timers and self._next() <= end:
                self._move(self._next())
                await self._settle()
            self._boot = max(self._boot, end)

    async def advance_to_next(self) -> float:
        """Move to the next moment that anything waits for; return how many seconds that were.

        Raises UsageError when nothing waits for any.
        """
        async with self._moving:
            await self._settle()
            if not self._timers:
                raise UsageError("cannot advance to the next deadline: nothing waits for any")
            seconds = self._next() - self._boot
            self._move(self._next())
            await self._settle()
        return seconds

    # --- kubelet.clock.Clock --------------------------------------------------------------------

    def now(self) -> Instant:
        self._stirred += 1
        return Instant(wall=self._wall + self.elapsed, boot=self._boot)

    async def wait(self, event: anyio.Event, until: float | None = None) -> bool:
        self._stirred += 1
        if until is None:
            await event.wait()
        elif not event.is_set() and until > self._boot:
            with anyio.CancelScope() as scope:
                timer = (until, next(self._numbers), scope)
                heapq.heappush(self._timers, timer)
                try:
                    await event.wait()
                finally:
                    if timer in self._timers:
                        self._timers.remove(timer)
                        heapq.heapify(self._timers)
        return event.is_set()

    # --- embed.Rig ------------------------------------------------------------------------------

    def install(self, node: Node) -> None:
        watched = self._nodes[node] = _Watched(node.runtime, self)
        node.runtime = watched
        node.run_probe = watched.probing(node.run_probe)

    async def leave(self, node: Node) -> None:
        try:
            while True:
                await anyio.sleep(_TICK)
                async with self._moving:
                    end = self._boot + _TICK * _HASTE
                    while self._timers and self._next() <= end:
                        self._move(self._next())
                    self._boot = end
        finally:
            self._nodes.pop(node, None)

    # --- moving ---------------------------------------------------------------------------------

    def _next(self) -> float:
        return self._timers[0][0]

    def _move(self, boot: float) -> None:
        """To a moment, and wake who waits for it."""
        self._boot = max(self._boot, boot)
        while self._timers and self._next() <= self._boot:
            _, _, scope = heapq.heappop(self._timers)
            scope.cancel()

    async def _settle(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        quiet = 0
        while quiet < _LOOKS and time.monotonic() < deadline:
            stirred = self._stirred
            await anyio.sleep(_PAUSE)
            busy = stirred != self._stirred or any(
                watched.is_busy() or any(w.record.in_flight for w in node.workers)
                for node, watched in self._nodes.items()
            )
            quiet = 0 if busy else quiet + 1


class _Main:
    """The main process of a container whose end is not in the record yet."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._since: dict[str, float] = {}  # real time from which on it has been so
        self._told = -math.inf

    def is_busy(self) -> bool:
        process = processes.look(self._pid)
        if process is None or process.exiting:
            return self._lasts("over", _END)
        if processes.is_active((self._pid,)):
            if self._is_told():
                self.tell()  # maybe it only begins to hear of it: machines are busy
            return self._lasts("active", _ACTIVE)
        self._since.pop("active", None)
        return self._is_told()

    def tell(self) -> None:
        """It was sent a signal."""
        self._told = time.monotonic()

    def _is_told(self) -> bool:
        return self._told + _TOLD > time.monotonic()

    def _lasts(self, what: str, at_most: float) -> bool:
        now = time.monotonic()
        return now - self._since.setdefault(what, now) < at_most


class _Watched(Between):
    """A runtime whose news come at the fake time, and that can say whether something goes on."""

    def __init__(self, inner: Runtime, clock: FakeClock) -> None:
        super().__init__(inner)
        self._clock = clock
        self._mains: dict[ContainerId, _Main] = {}
        self._calls: dict[int, float] = {}  # until when they are waited for
        self._numbers = itertools.count()

    def is_busy(self) -> bool:
        now = time.monotonic()
        if any(now < until for until in self._calls.values()):
            return True
        return any(main.is_busy() for main in self._mains.values())

    @contextlib.contextmanager
    def _calling(self, seconds: float) -> Iterator[None]:
        number = next(self._numbers)
        self._calls[number] = time.monotonic() + seconds
        try:
            yield
        finally:
            del self._calls[number]

    def probing(self, run_probe: RunProbe) -> RunProbe:
        async def run(
            probe: v1.Probe, container: v1.Container, *, host: str, execute: Execute
        ) -> Observation:
            with self._calling(_CALL):
                return await run_probe(probe, container, host=host, execute=execute)

        return run

    async def start(self, spec: LaunchSpec) -> tuple[int, Instant]:
        with self._calling(_PATIENCE):
            pid, _ = await self.inner.start(spec)
        self._mains[spec.id] = _Main(pid)
        return pid, self._clock.now()

    async def exec(
        self,
        id: ContainerId,
        argv: tuple[str, ...],
        *,
        timeout: float | None,
        limit: int,
        env: tuple[tuple[str, str], ...] = (),
        key: str = "",
        resume: bool = False,
    ) -> ExecResult:
        with self._calling(_CALL):
            return await self.inner.exec(
                id, argv, timeout=timeout, limit=limit, env=env, key=key, resume=resume
            )

    def signal(self, id: ContainerId, signum: int) -> bool:
        if id in self._mains:
            self._mains[id].tell()
        return self.inner.signal(id, signum)

    def acknowledge(self, id: ContainerId) -> None:
        self._mains.pop(id, None)
        super().acknowledge(id)

    async def news(self) -> AsyncIterator[News]:
        async for news in self.inner.news():
            yield replace(news, at=self._clock.now())
