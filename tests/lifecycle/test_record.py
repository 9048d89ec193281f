"""The fold: what each fact changes, and what late, doubled and foreign facts do not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from supervisor.lifecycle import facts, restart
from supervisor.lifecycle.decide import decide
from supervisor.lifecycle.facts import ContainerId, Instant, rfc3339
from supervisor.lifecycle.record import (
    Cause,
    Committed,
    PodRecord,
    Refusal,
    Sandbox,
    new_record,
    observe,
)
from tests.lifecycle.lives import BOOT, POLICY, UID, Life, at, exits, pod, sidecar
from tests.lifecycle.records import NOW, ended, ending, instance, record, running


def plain(policy: str = "Always", **states: Any) -> PodRecord:
    return record(pod("a", restart_policy=policy), **states)


def after(known: PodRecord, *more: facts.Fact) -> PodRecord:
    for fact in more:
        known = observe(known, fact)
    return known


STALE = {
    "the start of an older instance": (
        plain(a=ended(1) | running(1)),
        facts.ContainerStarted(NOW, instance("a", 0), 7),
    ),
    "the end of an older instance": (
        plain(a=ended(1) | running(1)),
        facts.ContainerExited(NOW, instance("a", 0), 3),
    ),
    "a second end of the same instance": (
        plain(a=ended(1)),
        facts.ContainerExited(NOW, instance("a"), 0),
    ),
    "a loss after the end": (plain(a=ended(0)), facts.ContainerLost(NOW, instance("a"))),
    "a start after the end": (plain(a=ended(0)), facts.ContainerStarted(NOW, instance("a"), 7)),
    "a second start of the same instance": (
        plain(a=running()),
        facts.ContainerStarted(NOW, instance("a"), 7),
    ),
    "a failed start of a running instance": (
        plain(a=running()),
        facts.StartFailed(NOW, instance("a"), "StartError", "no", created=True),
    ),
    "a stop signal to an older instance": (
        plain(a=ended(1) | running(1)),
        facts.StopSignalled(NOW, instance("a", 0)),
    ),
    "a second stop signal": (
        plain(a=running(signalled=50)),
        facts.StopSignalled(NOW, instance("a")),
    ),
    "news of another pod": (
        plain(a=running()),
        facts.ContainerExited(NOW, ContainerId("u-2", "a", 0), 1),
    ),
    "news of an unknown container": (
        plain(a=running()),
        facts.ContainerStarted(NOW, instance("b"), 7),
    ),
    "a sandbox that is ready after it was stopped": (
        plain(fields={"sandbox": Sandbox.STOPPED}),
        facts.SandboxReady(NOW),
    ),
    "dropped logs of an older instance": (
        plain(a=ended(1) | running(1)),
        facts.LogsDropped(NOW, instance("a", 0), "disk full"),
    ),
    "an older instance lost": (
        plain(a=ended(1) | running(1)),
        facts.ContainerLost(NOW, instance("a", 0)),
    ),
}


@pytest.mark.parametrize("case", STALE)
def test_nothing_changes_at(case):
    """§2.1.8, §2.4.1"""
    known, fact = STALE[case]
    assert observe(known, fact) == known


ANSWERS = {
    facts.CreateSandbox(): facts.SandboxReady(NOW),
    facts.FinishPod(): facts.SandboxStopped(NOW),
    facts.StartContainer(instance("a")): facts.ContainerStarted(NOW, instance("a"), 7),
    facts.StartContainer(instance("b")): facts.StartFailed(
        NOW, instance("b"), "StartError", "no", created=True
    ),
    facts.StopContainer(instance("a")): facts.StopSignalled(NOW, instance("a")),
    facts.StopContainer(instance("a"), "SIGUSR1"): facts.StopSignalled(NOW, instance("a")),
    facts.KillContainer(instance("a")): facts.KillSent(NOW, instance("a")),
}


@pytest.mark.parametrize("action", ANSWERS, ids=str)
def test_each_action_is_answered_by_one_fact_also_by_its_failure(action):
    """Only the answer takes an action out of flight."""
    other = facts.KillContainer(instance("a", 9))
    known = plain(fields={"in_flight": frozenset({action, other})})
    assert observe(known, ANSWERS[action]).in_flight == {other}
    assert observe(known, facts.ActionFailed(NOW, action, "no")).in_flight == {other}
    assert observe(known, facts.Adopted(NOW)).in_flight == frozenset()


def test_an_end_before_the_news_of_the_start_is_an_end():
    """§2.3.2"""
    known = after(
        plain("Never"),
        facts.ContainerExited(at(101), instance("a"), 0),
        facts.ContainerStarted(at(100), instance("a"), 7),
    )
    (a,) = known.containers
    assert a.running is None
    assert a.ended is not None
    assert (a.ended.started, a.ended.finished) == (at(100), at(101))


def test_a_newer_instance_proves_that_the_one_before_has_ended():
    """§2.1.5: never a success."""
    known = observe(plain(a=running()), facts.ContainerStarted(NOW, instance("a", 1), 7))
    (a,) = known.containers
    assert a.running is not None
    assert a.ended is not None
    assert (a.attempt, a.ended.exit_code, a.ended.reason) == (1, 137, "ContainerStatusUnknown")


def test_a_lost_container_ended_with_137_and_counts_as_an_attempt():
    """K04: §2.1.5, §2.3, §2.4.1"""
    known = observe(plain(a=running(2)), facts.ContainerLost(NOW, instance("a", 2)))
    (a,) = known.containers
    assert a.ended is not None
    assert (a.ended.exit_code, a.ended.reason) == (137, "ContainerStatusUnknown")
    assert a.ended.started == at(10)
    assert [
        str(x.id) for x in decide(known, NOW).actions if isinstance(x, facts.StartContainer)
    ] == ["u-1/a/3"]


@pytest.mark.parametrize(
    ("code", "reason"), [(0, "Completed"), (1, "Error"), (143, "Error"), (137, "Error")]
)
def test_the_reason_of_an_end(code, reason):
    """§2.3"""
    known = observe(plain(a=running()), facts.ContainerExited(NOW, instance("a"), code, "bye"))
    (a,) = known.containers
    assert a.ended is not None
    assert (a.ended.reason, a.ended.exit_code, a.ended.message) == (reason, code, "bye")


def test_dropped_logs_are_told_once_per_instance():
    """§11.2 has no such event: it is ours."""
    dropped = facts.LogsDropped(NOW, instance("a"), "No space left on device")
    known = after(plain(a=running()), dropped, dropped)
    (event,) = known.owed_events
    assert (event.type, event.reason, event.field_path) == (
        "Warning",
        "LogsDropped",
        "spec.containers{a}",
    )
    assert "No space left on device" in event.message


def test_an_event_is_owed_until_a_plan_with_it_is_committed():
    """§11.2: not lost in a crash, not told twice."""
    known = observe(plain(), facts.ContainerStarted(NOW, instance("a"), 7))
    plan = decide(known, NOW)
    assert [e.reason for e in plan.events] == ["Pulled", "Created", "Started"]
    late = observe(known, facts.LogsDropped(NOW, instance("a"), "disk full"))
    assert [e.reason for e in observe(late, Committed(NOW, plan)).owed_events] == ["LogsDropped"]


# --- deletion ------------------------------------------------------------------------------------


def deleted(known: PodRecord, *grace: int | None, at_: Instant = NOW) -> tuple[Any, ...]:
    for seconds in grace:
        known = observe(known, facts.DeletionRequested(at_, seconds))
    meta = known.pod.metadata
    assert known.termination is not None
    return (
        meta.deletion_grace_period_seconds,
        meta.deletion_timestamp,
        known.termination.deadline - BOOT,
    )


@pytest.mark.parametrize(
    ("asked", "grace", "timestamp", "deadline"),
    [
        (None, 30, "2027-01-15T08:02:10Z", 130),
        (5, 5, "2027-01-15T08:01:45Z", 105),
        (90, 90, "2027-01-15T08:03:10Z", 190),
        (0, 0, "2027-01-15T08:01:40Z", 101),
        (-7, 1, "2027-01-15T08:01:41Z", 101),
    ],
)
def test_the_grace_of_a_deletion(asked, grace, timestamp, deadline):
    """§7.1.1, §7.2.1"""
    assert deleted(plain(a=running()), asked) == (grace, timestamp, deadline)


def test_a_second_deletion_only_shortens():
    """E10 in part: §7.1.3, §7.1.5, §7.2.1, §7.2.4"""
    known = observe(plain(a=running()), facts.DeletionRequested(NOW, 20))
    for same in (None, 20, 60):
        assert observe(known, facts.DeletionRequested(at(105), same)) == known
    assert deleted(known, 7, at_=at(105)) == (7, "2027-01-15T08:01:47Z", 112)
    # Less than was granted, but more than is left: the API's date moves, the kill does not.
    assert deleted(known, 19, at_=at(118)) == (19, "2027-01-15T08:01:59Z", 120)


def test_a_deletion_shortens_an_end_that_began_by_itself():
    """§7.2.1, §7.5"""
    known = plain(a=running(), fields={"termination": ending(90, 30, Cause.COMPLETION)})
    assert deleted(known, 60)[2] == 120
    assert deleted(known, 4)[2] == 104
    termination = observe(known, facts.DeletionRequested(NOW, 4)).termination
    assert termination is not None
    assert termination.cause is Cause.COMPLETION


def test_a_pod_that_has_ended_is_deleted_with_no_grace():
    """§7.1.1, §1.1.12"""
    life = Life(pod(restart_policy="Never"), {"app": exits(0, 1)}).run()
    known = observe(life.record, facts.DeletionRequested(NOW))
    assert known.pod.metadata.deletion_grace_period_seconds == 0
    plan = decide(known, NOW)
    assert (plan.done, plan.actions, plan.events) == (True, (), ())
    assert plan.status.phase == "Succeeded"


def test_a_commit_does_not_lengthen_a_termination_that_was_shortened_meanwhile():
    """§7.2.1"""
    known = observe(plain(a=running()), facts.DeletionRequested(NOW, 20))
    plan = decide(known, NOW)
    for sooner in (facts.DeletionRequested(NOW, 5), facts.DeletionRequested(NOW, kill=True)):
        shorter = observe(known, sooner)
        assert observe(shorter, Committed(NOW, plan)).termination == shorter.termination


def test_conditions_of_the_node_cannot_be_set_from_outside():
    """§1.2.8"""
    for name in ("Ready", "ContainersReady", "Initialized", "PodScheduled", "PodHasNetwork"):
        known = plain()
        assert observe(known, facts.ConditionSet(NOW, name, "False")) == known


def test_a_condition_keeps_its_time_while_its_status_stays():
    """§1.2.2"""
    known = observe(plain(), facts.ConditionSet(at(1), "x", "True", "A"))
    known = observe(known, facts.ConditionSet(at(2), "x", "True", "B", "text"))
    (x,) = known.conditions
    assert (x.reason, x.message, x.last_transition_time) == ("B", "text", rfc3339(at(1)))
    known = observe(known, facts.ConditionSet(at(3), "x", "Unknown"))
    assert known.conditions[0].last_transition_time == rfc3339(at(3))


# --- back-off ------------------------------------------------------------------------------------

STEP: dict[str, float] = {"initial": 10.0, "cap": 300.0, "reset": 600.0}


def test_the_waits_grow_with_each_decision_once_per_instance():
    """§3.2.1, §3.2.3: the record is the pod's own, so a new pod begins anew."""
    backoff, waits = None, []
    for attempt in range(1, 10):
        now = 1000.0 * attempt
        waits.append(restart.wait_before(attempt, backoff, finished=now - 500, reset=600))
        backoff = restart.advance(attempt, backoff, finished=now - 500, now=now, **STEP)
        assert restart.advance(attempt, backoff, finished=now - 500, now=now + 9, **STEP) == backoff
        assert restart.wait_before(attempt, backoff, finished=now, reset=600) == waits[-1]
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300, 300]


def test_the_waits_begin_anew_only_after_more_than_the_reset():
    """§3.2.4"""
    backoff = restart.Backoff(3, 20.0, 40.0, 100.0)
    assert restart.wait_before(4, backoff, finished=700.0, reset=600) == 40
    assert restart.wait_before(4, backoff, finished=700.1, reset=600) == 0
    again = restart.advance(4, backoff, finished=700.1, now=701.0, **STEP)
    assert again == restart.Backoff(4, 0.0, 10.0, 701.0)


def test_a_cap_below_the_first_delay_is_the_delay():
    """§3.2.9"""
    first = restart.advance(1, None, finished=0, now=0, initial=10, cap=2, reset=600)
    assert first.delay == 2


# --- storing -------------------------------------------------------------------------------------


def test_a_record_survives_being_stored():
    """Everything a record holds can be written and read back, at every moment of a life."""
    life = Life(
        pod("a", "b", init=[sidecar("side")]), {"a": exits(1, 1), "b": exits(0, 2)}, latency=0.5
    ).delete(20, 5)
    for until in range(26):
        life.run(until=until)
        known = replace(life.record, owed_events=new_record(life.pod, at(0), POLICY).owed_events)
        packed = msgspec.msgpack.encode(known)
        assert msgspec.msgpack.decode(packed, type=PodRecord) == known
    refused = plain(a={"refusal": Refusal("X", "no", 1.0)})
    assert msgspec.json.decode(msgspec.json.encode(refused), type=PodRecord) == refused
    assert UID in str(instance("a"))
