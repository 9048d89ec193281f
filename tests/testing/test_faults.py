"""What goes wrong because a test says so, and how the node takes it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from supervisor import Supervisor, UsageError
from supervisor.testing import FakeClock, Faults
from tests.testing.conftest import manifest, shell

pytestmark = pytest.mark.anyio


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
async def failing(
    nothing_left: None, anyio_backend: object, clock: FakeClock, faults: Faults
) -> AsyncIterator[Supervisor]:
    async with Supervisor(clock=clock, faults=faults, grace_period=1) as node:
        yield node


async def test_a_container_that_cannot_be_made_is_tried_again(
    failing: Supervisor, clock: FakeClock, faults: Faults
) -> None:
    """§3.2.11"""
    faults.fail_start("main", times=2, message="no such device")
    pod = await failing.run(manifest("pod", shell("main", "echo up; exec sleep 1000")))
    await clock.advance(0)
    assert pod.containers["main"].reason == "CreateContainerError"
    assert "no such device" in str(pod.status.container_statuses)
    await clock.advance(10)
    assert pod.containers["main"].pid is None
    await clock.advance(10)
    assert pod.containers["main"].pid is not None
    assert (pod.phase, pod.containers["main"].restarts) == ("Running", 0)


async def test_a_program_that_cannot_be_executed_is_restarted_by_policy(
    failing: Supervisor, clock: FakeClock, faults: Faults
) -> None:
    faults.fail_start("main", times=2, reason="StartError", message="exec format error")
    main = shell("main", "exec sleep 1000")
    pod = await failing.run(manifest("pod", main, restartPolicy="OnFailure"))
    await clock.advance(9)
    view = pod.containers["main"]
    assert (view.exit_code, view.restarts, view.reason) == (128, 1, "CrashLoopBackOff")
    await clock.advance(1)
    assert (pod.phase, pod.containers["main"].restarts) == ("Running", 2)


async def test_a_fault_is_for_the_container_that_it_names(
    failing: Supervisor, clock: FakeClock, faults: Faults
) -> None:
    faults.fail_start("bad")
    containers = [shell("bad", "sleep 1000"), shell("good", "exec sleep 1000")]
    pod = await failing.run(manifest("pod", *containers))
    await clock.advance(60)
    assert pod.containers["good"].pid is not None
    assert pod.containers["bad"].pid is None
    faults.clear()
    await clock.advance(10)
    assert pod.containers["bad"].pid is not None


async def test_lines_that_meet_a_full_disk_are_dropped_and_that_is_told(
    failing: Supervisor, clock: FakeClock, faults: Faults
) -> None:
    faults.fill_log_disk("main")
    main = shell("main", "for i in 1 2 3; do echo $i; sleep 0.05; done; exec sleep 1000")
    pod = await failing.run(manifest("pod", main, shell("other", "echo up; exec sleep 1000")))
    async for line in pod.logs("other", follow=True):
        assert line.text == "up"
        break
    await pod.wait_for(lambda _: any(e.reason == "LogsDropped" for e in pod.events()), 60)
    (event,) = [e for e in pod.events() if e.reason == "LogsDropped"]
    assert "no space left" in event.message.lower()
    assert pod.output("main") == ""


PROBED = {"exec": {"command": ["true"]}, "periodSeconds": 10, "timeoutSeconds": 2}


async def test_a_probe_that_answers_late_within_its_timeout_still_passes(
    failing: Supervisor, clock: FakeClock, faults: Faults
) -> None:
    faults.delay_probe(1.5, kind="readiness")
    pod = await failing.run(manifest("pod", shell("main", "sleep 1000", readinessProbe=PROBED)))
    await clock.advance(1.4)
    assert not pod.ready
    await clock.advance(0.1)
    assert pod.ready


async def test_a_probe_that_answers_too_late_fails(
    failing: Supervisor, clock: FakeClock, faults: Faults
) -> None:
    """§5.2.10: three in a row, and the container is killed."""
    faults.delay_probe(5, "main", "liveness", times=3)
    main = shell("main", "trap 'exit 0' TERM; while :; do sleep 0.02; done", livenessProbe=PROBED)
    pod = await failing.run(manifest("pod", main, restartPolicy="Always"))
    await clock.advance(21.9)
    assert pod.containers["main"].restarts == 0
    await clock.advance(0.1)
    assert pod.containers["main"].restarts == 1
    (unhealthy,) = [e for e in pod.events() if e.reason == "Unhealthy"]
    assert (unhealthy.count, unhealthy.message) == (
        3,
        "Liveness probe failed: no answer within 2 s",
    )
    await clock.advance(100)
    assert pod.containers["main"].restarts == 1


async def test_a_probe_may_be_answered_for_its_program(
    failing: Supervisor, clock: FakeClock, faults: Faults
) -> None:
    faults.answer_probe("failure", kind="readiness", output="queue is full", times=1)
    pod = await failing.run(manifest("pod", shell("main", "sleep 1000", readinessProbe=PROBED)))
    await clock.advance(9.9)
    assert not pod.ready
    assert "Readiness probe failed: queue is full" in {e.message for e in pod.events()}
    await clock.advance(0.1)
    assert pod.ready


async def test_faults_that_make_no_sense_are_refused(faults: Faults) -> None:
    with pytest.raises(UsageError, match="readyness"):
        faults.delay_probe(1, kind="readyness")
    with pytest.raises(UsageError, match="maybe"):
        faults.answer_probe("maybe")
    with pytest.raises(UsageError, match="-1"):
        faults.delay_probe(-1)


async def test_a_late_probe_does_not_keep_the_node_from_ending(
    nothing_left: None, faults: Faults
) -> None:
    faults.delay_probe(1000)
    slow = PROBED | {"timeoutSeconds": 1000}
    async with Supervisor(faults=faults, grace_period=1) as node:
        await node.run(manifest("pod", shell("main", "sleep 1000", readinessProbe=slow)))
