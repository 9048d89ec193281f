"""The one place that waits."""

from __future__ import annotations

import anyio
import pytest
import trio

from supervisor.kubelet.clock import Clock
from supervisor.lifecycle.facts import Instant

pytestmark = pytest.mark.anyio


async def test_a_deadline_that_passes_during_suspend_is_noticed_within_five_seconds() -> None:
    suspended = 0.0

    def read() -> Instant:
        now = trio.current_time() + suspended
        return Instant(wall=now, boot=now)

    clock = Clock(read)
    begin = trio.current_time()

    async def suspend() -> None:
        nonlocal suspended
        await anyio.sleep(7)
        suspended = 3600

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(suspend)
        assert not await clock.wait(anyio.Event(), clock.now().boot + 3000)
    assert trio.current_time() - begin <= 7 + 5


async def test_waiting_ends_with_the_event_or_at_the_time(fake_clock: Clock) -> None:
    event = anyio.Event()

    async def set_it() -> None:
        await fake_clock.sleep(12)
        event.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(set_it)
        assert await fake_clock.wait(event, fake_clock.now().boot + 100)
        assert fake_clock.now().boot == pytest.approx(12)
    assert not await fake_clock.wait(anyio.Event(), fake_clock.now().boot + 8)
    assert fake_clock.now().boot == pytest.approx(20)
