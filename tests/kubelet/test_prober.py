"""When probes are made: to the tenth of a second, on a clock that jumps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest
import trio
from anyio.abc import TaskGroup

from supervisor.api import v1
from supervisor.kubelet.clock import Clock
from supervisor.kubelet.handlers import Observation
from supervisor.kubelet.prober import Prober
from supervisor.lifecycle.facts import (
    ContainerId,
    Fact,
    Instant,
    ProbeKind,
    ProbeObserved,
    ProbeOutcome,
    ProbeTarget,
)

from .conftest import FakeRuntime

pytestmark = pytest.mark.anyio

FIRST, SECOND = ContainerId("uid", "app", 0), ContainerId("uid", "app", 1)
LIVENESS, READINESS = ProbeKind.LIVENESS, ProbeKind.READINESS

Handler = Callable[[v1.Probe], Awaitable[Observation]]


class Bench:
    """One prober, what it did and what it told."""

    def __init__(self, runtime: FakeRuntime, handler: Handler, period: int) -> None:
        self.clock = runtime.clock
        self.runtime = runtime
        self.begun: list[float] = []
        self.told: list[ProbeObserved] = []
        self.bugs: list[str] = []
        self.at_work = 0
        self._handler = handler
        probe = v1.Probe(exec=v1.ExecAction(command=("x",)), period_seconds=period)
        container = v1.Container(name="app", liveness_probe=probe, readiness_probe=probe)
        pod = v1.Pod(spec=v1.PodSpec(containers=(container,)))
        self.prober = Prober(pod, "127.0.0.1", self, self._hear)
        self.tasks: TaskGroup

    def want(self, *wanted: ProbeTarget) -> None:
        self.prober.reconcile(frozenset(wanted), self.tasks.start_soon)

    def report_bug(self, where: str, text: str) -> None:
        self.bugs.append(f"{where}: {text}")

    async def run_probe(
        self, probe: v1.Probe, container: v1.Container, *, host: str, execute: object
    ) -> Observation:
        self.begun.append(round(self.clock.now().boot, 6))
        self.at_work += 1
        assert self.at_work == 1, "two at once"
        try:
            return await self._handler(probe)
        finally:
            with anyio.CancelScope(shield=True):
                await self.clock.sleep(0.2)  # cleaning up takes its time
            self.at_work -= 1

    def _hear(self, fact: Fact) -> None:
        assert isinstance(fact, ProbeObserved)
        self.told.append(fact)


@asynccontextmanager
async def bench(
    clock: Clock, handler: Handler | None = None, period: int = 10
) -> AsyncIterator[Bench]:
    async def fine(probe: v1.Probe) -> Observation:
        return Observation(ProbeOutcome.SUCCESS)

    async with FakeRuntime(clock, {}).open() as runtime:
        b = Bench(runtime, handler or fine, period)
        async with anyio.create_task_group() as b.tasks:
            yield b
            b.want()
        assert b.prober.count == 0


def taking(*seconds: float) -> Handler:
    """Attempts that take this long, the last one again and again."""
    left = list(seconds)

    async def handler(probe: v1.Probe) -> Observation:
        await trio.sleep((left.pop(0) if len(left) > 1 else left[0]) - 0.2)
        return Observation(ProbeOutcome.SUCCESS)

    return handler


async def test_the_first_attempt_is_made_when_it_is_due_and_the_others_a_period_apart(
    fake_clock: Clock,
) -> None:
    """§5.2.2, §5.2.7"""
    async with bench(fake_clock) as b:
        b.want(ProbeTarget(FIRST, LIVENESS, due=3.5))
        await fake_clock.sleep(34)
        assert b.begun == [3.5, 13.5, 23.5, 33.5]
        assert [fact.at.boot for fact in b.told] == pytest.approx([3.7, 13.7, 23.7, 33.7])


async def test_what_was_due_before_it_was_wanted_is_probed_at_once(fake_clock: Clock) -> None:
    """§5.2.14"""
    async with bench(fake_clock) as b:
        await fake_clock.sleep(7)
        b.want(ProbeTarget(FIRST, READINESS, due=1))
        await fake_clock.sleep(25)
        assert b.begun == [7, 17, 27]


async def test_ticks_during_a_slow_attempt_are_dropped_and_the_rate_stays(
    fake_clock: Clock,
) -> None:
    """§5.2.2"""
    async with bench(fake_clock, taking(1, 25, 10, 1)) as b:
        b.want(ProbeTarget(FIRST, LIVENESS, due=0))
        await fake_clock.sleep(75)
        # The second takes until 35; the third from 40 to exactly 50, when the next one is due.
        assert b.begun == [0, 10, 40, 50, 60, 70]


async def test_what_is_no_longer_wanted_is_cancelled_and_tells_nothing(fake_clock: Clock) -> None:
    async with bench(fake_clock, taking(5)) as b:
        b.want(ProbeTarget(FIRST, LIVENESS, due=0))
        await fake_clock.sleep(2)
        b.want()
        await fake_clock.sleep(0.5)
        assert b.prober.count == 0
        await fake_clock.sleep(60)
        assert b.begun == [0]
        assert b.told == []


async def test_a_new_instance_waits_until_the_attempt_at_the_old_one_is_cleaned_up(
    fake_clock: Clock,
) -> None:
    """§5.2.17"""
    async with bench(fake_clock, taking(5)) as b:
        b.want(ProbeTarget(FIRST, LIVENESS, due=0))
        await fake_clock.sleep(2)
        b.want(ProbeTarget(SECOND, LIVENESS, due=2))
        await fake_clock.sleep(6)
        assert b.begun == [0, 2.2]
        assert [fact.id for fact in b.told] == [SECOND]


async def test_wanted_again_while_it_is_cancelled_there_is_still_one(fake_clock: Clock) -> None:
    """§5.2.17"""
    async with bench(fake_clock, taking(5)) as b:
        target = ProbeTarget(FIRST, LIVENESS, due=0)
        b.want(target)
        await fake_clock.sleep(2)
        b.want()
        b.want(target)
        await fake_clock.sleep(1)
        assert b.begun == [0, 2.2]
        assert b.prober.count == 1


async def test_another_time_restarts_the_ticker_and_lets_an_attempt_finish(
    fake_clock: Clock,
) -> None:
    """§5.2.14"""
    async with bench(fake_clock, taking(3)) as b:
        b.want(ProbeTarget(FIRST, READINESS, due=0))
        await fake_clock.sleep(1)
        b.want(ProbeTarget(FIRST, READINESS, due=5))
        await fake_clock.sleep(11)
        b.want(ProbeTarget(FIRST, READINESS, due=12))
        await fake_clock.sleep(12)
        assert b.begun == [0, 5, 12, 22]
        assert len(b.told) == 3


async def test_kinds_run_beside_each_other(fake_clock: Clock) -> None:
    """§5.2.17"""
    done: list[float] = []

    async def handler(probe: v1.Probe) -> Observation:
        b.at_work -= 1
        await trio.sleep(5)
        done.append(fake_clock.now().boot)
        b.at_work += 1
        return Observation(ProbeOutcome.SUCCESS)

    async with bench(fake_clock, handler) as b:
        b.want(ProbeTarget(FIRST, LIVENESS, due=0), ProbeTarget(FIRST, READINESS, due=0))
        await fake_clock.sleep(6)
        assert b.begun == [0, 0]
        assert done == [5, 5]


async def test_after_a_suspend_there_is_one_attempt_and_the_rate_stays() -> None:
    suspended = 0.0

    def read() -> Instant:
        now = trio.current_time() + suspended
        return Instant(wall=now, boot=now)

    clock = Clock(read)
    async with bench(clock) as b:
        b.want(ProbeTarget(FIRST, LIVENESS, due=0))
        await trio.sleep(12)
        suspended = 3603
        await trio.sleep(12)
        late, *after = b.begun[2:]
        assert 3615 <= late <= 3620  # the clock looks every five seconds
        assert after == [3620]


async def test_a_bug_in_a_handler_is_an_error_each_time_and_a_bug_once(fake_clock: Clock) -> None:
    async def broken(probe: v1.Probe) -> Observation:
        raise ZeroDivisionError("division by zero")

    async with bench(fake_clock, broken) as b:
        b.want(ProbeTarget(FIRST, LIVENESS, due=0))
        await fake_clock.sleep(35)
        assert {fact.outcome for fact in b.told} == {ProbeOutcome.ERROR}
        assert len(b.told) == 4
        assert b.told[0].output == (
            "a bug of podvisor's own: ZeroDivisionError('division by zero')"
        )
        (bug,) = b.bugs
        assert bug.startswith("liveness probe of uid/app/0: ")
        assert "division by zero" in bug
