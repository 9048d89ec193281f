"""A clock that moves when the test says so, over real processes."""

from __future__ import annotations

import asyncio
import time

import anyio
import pytest

from supervisor import Supervisor, UsageError
from supervisor.lifecycle.timeline import Moment
from supervisor.testing import FakeClock
from tests.testing.conftest import manifest, shell

pytestmark = pytest.mark.anyio


async def test_a_crash_loop_waits_as_in_a_cluster_and_takes_no_time(
    timeless: Supervisor, clock: FakeClock
) -> None:
    """§3.2.1: the first restart is made at once, then it is 10 s, doubled up to five minutes."""
    pod = await timeless.run(["sh", "-c", "echo up; exit 3"], name="crash", restart="Always")
    moments = [await clock.advance_to_next() for _ in range(7)]
    assert moments == [10, 20, 40, 80, 160, 300, 300]
    view = pod.containers["crash"]
    assert (view.restarts, view.exit_code, view.reason) == (8, 3, "CrashLoopBackOff")


async def test_advance_stops_at_each_deadline_on_its_way(
    timeless: Supervisor, clock: FakeClock
) -> None:
    pod = await timeless.run(["sh", "-c", "exit 1"], name="crash", restart="Always")
    await clock.advance(9.99)
    assert pod.containers["crash"].restarts == 1
    await clock.advance(0.01)
    assert pod.containers["crash"].restarts == 2
    await clock.advance(20 + 40 + 79)
    assert pod.containers["crash"].restarts == 4
    assert clock.elapsed == 149


async def test_a_program_that_takes_its_time_to_crash_is_waited_for(
    timeless: Supervisor, clock: FakeClock
) -> None:
    busy = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; exit 1"
    pod = await timeless.run(["sh", "-c", busy], name="busy", restart="Always")
    await clock.advance(10 + 20)
    assert pod.containers["busy"].restarts == 3


async def test_a_deaf_container_is_killed_when_its_grace_has_passed(
    timeless: Supervisor, clock: FakeClock
) -> None:
    """§7.2.2: and not before."""
    deaf = shell("main", "trap '' TERM; echo up; while :; do sleep 1000; done")
    pod = await timeless.run(manifest("deaf", deaf, terminationGracePeriodSeconds=300))
    async for _ in pod.logs(follow=True):
        break
    ending = asyncio.create_task(pod.terminate())
    await clock.advance(299)
    assert not ending.done()
    assert pod.pid is not None
    await clock.advance(1)
    ended = await ending
    assert (ended.exit_code, ended.killed) == (137, ("main",))
    assert ended.container("main").seconds == 300
    assert [mark.moment for mark in ended.timeline][-3:] == [Moment.KILL, Moment.EXIT, Moment.OVER]


async def test_who_was_told_to_end_has_a_moment_to_do_so(
    timeless: Supervisor, clock: FakeClock
) -> None:
    slow = shell("main", "trap 'sleep 0.03; exit 0' TERM; echo up; sleep 1000 & wait")
    pod = await timeless.run(manifest("slow", slow, terminationGracePeriodSeconds=5))
    async for _ in pod.logs(follow=True):
        break
    ending = asyncio.create_task(pod.terminate())
    await clock.advance(10)
    assert (await ending).exit_code == 0


async def test_probes_are_made_at_the_fake_time(timeless: Supervisor, clock: FakeClock) -> None:
    """§5.2.2, §5.2.10: three failures ten seconds apart."""
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 10, "initialDelaySeconds": 5}
    main = shell("main", "exec sleep 1000", livenessProbe=probe)
    pod = await timeless.run(manifest("sick", main, restartPolicy="Always"))
    await clock.advance(24)
    assert pod.containers["main"].restarts == 0
    assert [e.count for e in pod.events() if e.reason == "Unhealthy"] == [2]
    await clock.advance(1)
    assert [e.count for e in pod.events() if e.reason == "Unhealthy"] == [3]
    assert [e.reason for e in pod.events()][-1] == "Killing"


async def test_a_sleep_hook_takes_fake_seconds(timeless: Supervisor, clock: FakeClock) -> None:
    """§6.3.3"""
    hook = {"preStop": {"sleep": {"seconds": 20}}}
    main = shell("main", "trap 'exit 0' TERM; sleep 1000 & wait", lifecycle=hook)
    pod = await timeless.run(manifest("hooked", main))
    await pod.wait_for(lambda status: status.phase == "Running")
    await clock.advance(0)
    ending = asyncio.create_task(pod.terminate())
    await clock.advance(19)
    assert not ending.done()
    await clock.advance(1)
    ended = await ending
    assert (ended.exit_code, ended.seconds) == (0, 20)


async def test_nothing_moves_by_itself(timeless: Supervisor, clock: FakeClock) -> None:
    pod = await timeless.run(["sh", "-c", "exit 1"], name="crash", restart="Always")
    await pod.wait_for(lambda status: "BackOff" in str(status.container_statuses))
    before = clock.now()
    await anyio.sleep(0.05)
    assert clock.now() == before
    assert pod.status.start_time is not None


async def test_there_must_be_something_to_advance_to(
    timeless: Supervisor, clock: FakeClock
) -> None:
    await timeless.run(["sleep", "1000"])
    with pytest.raises(UsageError, match="nothing waits"):
        await clock.advance_to_next()
    with pytest.raises(UsageError, match="does not go back"):
        await clock.advance(-1)


async def test_leaving_the_block_serves_graces_that_nobody_advances(
    nothing_left: None, clock: FakeClock
) -> None:
    deaf = shell("main", "trap '' TERM; echo up; while :; do sleep 1000; done")
    begin = time.monotonic()
    async with Supervisor(clock=clock) as node:
        pod = await node.run(manifest("deaf", deaf, terminationGracePeriodSeconds=60))
        async for _ in pod.logs(follow=True):
            break
    assert (pod.exit_code, pod.phase) == (137, "Failed")
    assert clock.elapsed >= 60
    assert time.monotonic() - begin < 60


async def test_who_needs_a_moment_to_end_has_it_when_the_block_is_left(
    nothing_left: None, clock: FakeClock
) -> None:
    slow = shell("main", "trap 'sleep 0.2; exit 0' TERM; echo up; while :; do sleep 0.01; done")
    async with Supervisor(clock=clock) as node:
        pod = await node.run(manifest("slow", slow, terminationGracePeriodSeconds=60))
        async for _ in pod.logs(follow=True):
            break
    assert pod.exit_code == 0
