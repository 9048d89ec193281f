"""What the attempts of probes add up to, and what follows for one container, as tables."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from supervisor.api import v1
from supervisor.lifecycle import probing
from supervisor.lifecycle.decide import decide, waiting_for
from supervisor.lifecycle.facts import (
    ActionFailed,
    Adopted,
    ConditionSet,
    ContainerExited,
    ContainerStarted,
    DeletionRequested,
    ProbeKind,
    ProbeObserved,
    ProbeOutcome,
    ProbeTarget,
    StopContainer,
)
from supervisor.lifecycle.probing import Probes, ProbeState, Result
from supervisor.lifecycle.record import Committed, Kill, KillCause, PodRecord, observe
from supervisor.lifecycle.status import missing_gates
from supervisor.lifecycle.timeline import gets_traffic
from tests.lifecycle.lives import BOOT, at, container, container_status, pod, probe, rule, sidecar
from tests.lifecycle.records import (
    NOW,
    ended,
    ending,
    in_words,
    instance,
    record,
    running,
)

STARTUP, LIVENESS, READINESS = ProbeKind.STARTUP, ProbeKind.LIVENESS, ProbeKind.READINESS
SUCCESS, WARNING = ProbeOutcome.SUCCESS, ProbeOutcome.WARNING
FAILURE, ERROR = ProbeOutcome.FAILURE, ProbeOutcome.ERROR
OUTCOMES = {"+": SUCCESS, "w": WARNING, "-": FAILURE, "!": ERROR}

ALL = {"startup_probe": probe(), "liveness_probe": probe(), "readiness_probe": probe()}
STARTED = Probes(startup=ProbeState(result=Result.SUCCESS))


def state_of(probes: Probes, kind: ProbeKind) -> ProbeState:
    return {
        STARTUP: probes.startup,
        LIVENESS: probes.liveness,
        READINESS: probes.readiness,
    }[kind]


# --- what attempts add up to ---------------------------------------------------------------------

SUMS = {
    "nothing yet": ("", "unknown", "success", "failure"),
    "the first success": ("+", "success", "success", "success"),
    "a warning is a success": ("w", "success", "success", "success"),
    "failures below the threshold change nothing": ("--", "unknown", "success", "failure"),
    "as many failures in a row as the threshold": ("---", "failure", "failure", "failure"),
    "errors count not at all": ("!!!!!!", "unknown", "success", "failure"),
    "errors between failures neither count nor interrupt": (
        "-!-!!-",
        "failure",
        "failure",
        "failure",
    ),
    "a success between failures begins the count anew": ("--+--", "success", "success", "success"),
    "one failure fewer after a success": ("+--", "success", "success", "success"),
    "failures after many successes": ("+++++---", "success", "failure", "failure"),
    "back again": ("---+", "failure", "failure", "success"),
}


@pytest.mark.parametrize("case", SUMS)
def test_attempts_add_up_to_a_result(case):
    """§5.2.4, §5.2.9, §5.2.10, §5.2.11: three failures and one success decide. Startup and a
    failed liveness probe are on hold once decided, as only attempts that are wanted count."""
    said, *expected = SUMS[case]
    spec = container("app", **ALL)
    for kind, result in zip((STARTUP, LIVENESS, READINESS), expected, strict=True):
        probes = Probes() if kind is STARTUP else STARTED
        for outcome in said:
            if kind in dict(probing.wanted(spec, probes, ending=False)):
                probes = probing.attempted(probes, kind, probe(), OUTCOMES[outcome], "")
        assert state_of(probes, kind).result == result, kind


THRESHOLDS = [
    ("readiness, two successes asked for", READINESS, (2, 3), "+", "failure"),
    ("readiness, two successes given", READINESS, (2, 3), "++", "success"),
    ("readiness, successes interrupted", READINESS, (2, 3), "+-+", "failure"),
    ("readiness, an error does not interrupt", READINESS, (2, 3), "+!+", "success"),
    ("readiness, one failure is enough", READINESS, (1, 1), "+-", "failure"),
    ("readiness, success takes two again after a failure", READINESS, (2, 1), "++-+", "failure"),
    ("liveness, one failure is enough", LIVENESS, (1, 1), "-", "failure"),
    ("startup, one failure is enough", STARTUP, (1, 1), "-", "failure"),
    ("startup, sixty failures are allowed", STARTUP, (1, 60), "-" * 59, "unknown"),
    ("startup, and not one more", STARTUP, (1, 60), "-" * 60, "failure"),
]


@pytest.mark.parametrize(("case", "kind", "wanted", "said", "result"), THRESHOLDS)
def test_thresholds(case, kind, wanted, said, result):
    """§5.2.10, §5.2.11"""
    spec = probe(success_threshold=wanted[0], failure_threshold=wanted[1])
    probes = Probes()
    for outcome in said:
        probes = probing.attempted(probes, kind, spec, OUTCOMES[outcome], "")
    assert state_of(probes, kind).result == result


def test_what_repeats_itself_leaves_the_very_same_record():
    """§5.2.13: a probe that goes on succeeding, or erring, gives the shell nothing to do."""
    known = record(pod(container("a", readiness_probe=probe(success_threshold=2))), a=running())
    for _ in range(2):
        known = seen(known, READINESS, SUCCESS)
    assert seen(known, READINESS, SUCCESS) is known
    failing = seen(known, READINESS, FAILURE)
    assert failing is not known


def test_a_result_remembers_the_beginning_of_what_decided_it():
    spec = probe(failure_threshold=2)
    probes = probing.attempted(Probes(), LIVENESS, spec, FAILURE, "first")
    assert probes.liveness.because == ""
    probes = probing.attempted(probes, LIVENESS, spec, FAILURE, "second" * 100)
    assert probes.liveness.because.startswith("secondsecond")
    assert len(probes.liveness.because) == 256


# --- which probes should be running --------------------------------------------------------------


def probed(
    state: dict[str, Any], *, kind: str = "app", policy: str = "Always", **fields: Any
) -> Any:
    """A pod of one container `a`, beside a sidecar or as one, with all probes."""
    wanted = fields.pop("with_probes", ALL)
    if kind == "app":
        spec = pod(container("a", **wanted), restart_policy=policy, **fields.pop("spec", {}))
        return record(spec, a=state, **fields)
    made = {"sidecar": sidecar, "init": container}[kind]("a", **wanted)
    return record(pod("b", init=[made], restart_policy=policy), a=state, **fields)


def kinds(known: PodRecord) -> list[str]:
    return sorted(t.kind.value for t in decide(known, NOW).probing)


SUCCEEDED = running(probes=STARTED)
ALIVE_NO_MORE = running(probes=replace(STARTED, liveness=ProbeState(result=Result.FAILURE)))
NEVER_STARTED = running(probes=Probes(startup=ProbeState(result=Result.FAILURE)))
ENDING = {"fields": {"termination": ending()}}

WANTED = {
    "nothing runs": (probed({}), []),
    "a fresh instance: startup alone": (probed(running()), ["startup"]),
    "it has started: the other two": (probed(SUCCEEDED), ["liveness", "readiness"]),
    "startup has failed: nothing more": (probed(NEVER_STARTED), []),
    "liveness has failed: readiness goes on": (probed(ALIVE_NO_MORE), ["readiness"]),
    "without a startup probe the others at once": (
        probed(running(), with_probes={k: v for k, v in ALL.items() if k != "startup_probe"}),
        ["liveness", "readiness"],
    ),
    "no probes": (probed(running(), with_probes={}), []),
    "a sidecar's are run too": (probed(running(), kind="sidecar"), ["startup"]),
    "a started sidecar's": (probed(SUCCEEDED, kind="sidecar"), ["liveness", "readiness"]),
    "a regular init container has none, whatever it says": (probed(running(), kind="init"), []),
    "the pod is ending: readiness goes on": (probed(SUCCEEDED, **ENDING), ["readiness"]),
    "the pod is ending before it has started": (probed(running(), **ENDING), []),
    "it has ended": (probed(ended(1)), []),
    "an instance of its own begins anew": (probed(ended(1) | running(1)), ["startup"]),
}


@pytest.mark.parametrize("case", WANTED)
def test_probes_that_should_be_running(case):
    """§5.2.3, §5.2.5, §5.2.6, §5.2.8, §5.2.11, §7.3.1"""
    known, expected = WANTED[case]
    assert kinds(known) == expected


def test_an_attempt_is_due_after_the_initial_delay_counted_from_the_start():
    """§5.2.7: for all three, and it stays where it is from round to round."""
    delays = {"startup_probe": 5, "liveness_probe": 20, "readiness_probe": 0}
    spec = {name: probe(initial_delay_seconds=delay) for name, delay in delays.items()}
    fresh = probed(running(2), with_probes=spec)
    target = ProbeTarget(id=instance("a", 2), kind=STARTUP, due=BOOT + 15)
    assert decide(fresh, at(11)).probing == decide(fresh, at(500)).probing == {target}
    started = probed(running(2, probes=STARTED), with_probes=spec)
    assert decide(started, NOW).probing == {
        ProbeTarget(id=instance("a", 2), kind=LIVENESS, due=BOOT + 30),
        ProbeTarget(id=instance("a", 2), kind=READINESS, due=BOOT + 10),
    }


# --- attempts that say nothing any more ----------------------------------------------------------


def seen(
    known: PodRecord,
    kind: ProbeKind,
    outcome: ProbeOutcome,
    output: str = "no",
    *,
    attempt: int = 0,
    name: str = "a",
    when: float = 100,
) -> PodRecord:
    fact = ProbeObserved(at(when), instance(name, attempt), kind, outcome, output)
    return observe(known, fact)


LATE = {
    "of an instance that has ended": (probed(ended(1)), READINESS, 0),
    "of the instance before": (probed(ended(1) | running(1, probes=STARTED)), READINESS, 0),
    "of an instance to come": (probed(SUCCEEDED), READINESS, 1),
    "of a container that waits": (probed({}), STARTUP, 0),
    "readiness before it has started": (probed(running()), READINESS, 0),
    "liveness before it has started": (probed(running()), LIVENESS, 0),
    "startup after it has started": (probed(SUCCEEDED), STARTUP, 0),
    "startup on hold": (probed(NEVER_STARTED), STARTUP, 0),
    "liveness on hold": (probed(ALIVE_NO_MORE), LIVENESS, 0),
    "liveness while the pod ends": (probed(SUCCEEDED, **ENDING), LIVENESS, 0),
    "startup while the pod ends": (probed(running(), **ENDING), STARTUP, 0),
    "of a regular init container": (probed(running(), kind="init"), STARTUP, 0),
    "of a probe it does not have": (probed(running(), with_probes={}), READINESS, 0),
}


@pytest.mark.parametrize("outcome", ProbeOutcome)
@pytest.mark.parametrize("case", LATE)
def test_late_attempts_change_nothing(case, outcome):
    """§5.2.5, §5.2.6, §5.2.8, §5.2.11, §5.2.18: and nothing is told of them."""
    known, kind, attempt = LATE[case]
    assert seen(known, kind, outcome, attempt=attempt) is known
    assert seen(known, kind, outcome, attempt=attempt, name="nobody") is known


def test_counters_begin_anew_with_each_instance():
    """§5.2.12 (deliberately not as the kubelet), §5.2.4: and what the one before was, is gone."""
    known = probed(SUCCEEDED)
    for _ in range(2):
        known = seen(known, LIVENESS, FAILURE)
    known = seen(known, READINESS, SUCCESS)
    known = observe(known, ContainerExited(at(110), instance("a"), 1))
    known = observe(known, ContainerStarted(at(120), instance("a", 1), 7))
    run = known.containers[0].running
    assert run is not None
    assert run.probes == Probes()
    assert kinds(known) == ["startup"]
    known = seen(known, STARTUP, SUCCESS, attempt=1)
    known = seen(known, LIVENESS, FAILURE, attempt=1)
    run = known.containers[0].running
    assert run is not None
    assert run.kill is None
    status = container_status(decide(known, NOW).status, "a")
    assert (status.started, status.ready) == (True, False)


# --- what is told --------------------------------------------------------------------------------

TOLD = [
    (STARTUP, FAILURE, "Unhealthy", "Startup probe failed: HTTP probe failed with statuscode: 500"),
    (
        LIVENESS,
        FAILURE,
        "Unhealthy",
        "Liveness probe failed: HTTP probe failed with statuscode: 500",
    ),
    (
        READINESS,
        FAILURE,
        "Unhealthy",
        "Readiness probe failed: HTTP probe failed with statuscode: 500",
    ),
    (
        READINESS,
        WARNING,
        "ProbeWarning",
        "Readiness probe warning: HTTP probe failed with statuscode: 500",
    ),
    (
        LIVENESS,
        ERROR,
        "Unhealthy",
        "Liveness probe errored and resulted in unknown state: "
        "HTTP probe failed with statuscode: 500",
    ),
]


@pytest.mark.parametrize(("kind", "outcome", "reason", "message"), TOLD)
@pytest.mark.parametrize("where", ["app", "sidecar"])
def test_every_attempt_that_is_no_plain_success_is_told(where, kind, outcome, reason, message):
    """§5.3, §11.2, §11.1: each time, with the place of the container."""
    known = probed(running() if kind is STARTUP else SUCCEEDED, kind=where)
    said = "HTTP probe failed with statuscode: 500"
    known = seen(seen(known, kind, outcome, said), kind, outcome, said)
    group = "containers" if where == "app" else "initContainers"
    assert [(e.type, e.reason, e.message, e.field_path) for e in known.owed_events] == [
        ("Warning", reason, message, f"spec.{group}{{a}}")
    ] * 2


def test_a_success_is_not_told():
    """§5.3"""
    assert seen(probed(running()), STARTUP, SUCCESS).owed_events == ()


# --- started and ready ---------------------------------------------------------------------------

READY = ProbeState(result=Result.SUCCESS)

SHOWN = {
    "waiting": (probed({}), (False, False)),
    "fresh": (probed(running()), (False, False)),
    "started, readiness not passed": (probed(SUCCEEDED), (True, False)),
    "started and ready": (
        probed(running(probes=replace(STARTED, readiness=READY))),
        (True, True),
    ),
    "readiness alone does not count before startup": (
        probed(running(probes=Probes(readiness=READY))),
        (False, False),
    ),
    "no readiness probe: ready as soon as started": (
        probed(SUCCEEDED, with_probes={"startup_probe": probe()}),
        (True, True),
    ),
    "no readiness probe, not started": (
        probed(running(), with_probes={"startup_probe": probe()}),
        (False, False),
    ),
    "no startup probe: started at once": (
        probed(running(), with_probes={"readiness_probe": probe()}),
        (True, False),
    ),
    "a failed liveness probe takes nothing away": (
        probed(
            running(
                probes=replace(STARTED, readiness=READY, liveness=ProbeState(result=Result.FAILURE))
            )
        ),
        (True, True),
    ),
    "no probes": (probed(running(), with_probes={}), (True, True)),
    "ended": (probed(ended(0), policy="Never"), (False, False)),
    "a fresh sidecar": (probed(running(), kind="sidecar"), (False, False)),
    "a started sidecar": (probed(SUCCEEDED, kind="sidecar"), (True, False)),
    "the pod is ending before it has started": (probed(running(), **ENDING), (False, False)),
    "the pod is ending, and it is still ready": (
        probed(running(probes=replace(STARTED, readiness=READY)), **ENDING),
        (True, True),
    ),
}


@pytest.mark.parametrize("case", SHOWN)
def test_started_and_ready(case):
    """§2.4.2, §2.4.4, §5.2.18, §7.3.4"""
    known, expected = SHOWN[case]
    status = decide(known, NOW).status
    mine = container_status(status, "a")
    assert (mine.started, mine.ready) == expected
    unready = next(c for c in status.conditions if c.type == "ContainersReady").message
    assert ("a" in unready.partition("[")[2]) != mine.ready or status.phase == "Succeeded"


def test_a_sidecar_starts_those_after_it_when_its_startup_probe_has_succeeded():
    """B02: §4.1.1, §1.2.5: its readiness and liveness hold nobody back."""
    waiting = probed(running(), kind="sidecar")
    plan = decide(waiting, NOW)
    assert in_words(plan.actions) == []
    assert plan.status.phase == "Pending"
    initialized = next(c for c in plan.status.conditions if c.type == "Initialized")
    assert initialized.message == "containers with incomplete status: [a]"
    plan = decide(seen(waiting, STARTUP, SUCCESS), NOW)
    assert in_words(plan.actions) == ["start b/0"]
    initialized = next(c for c in plan.status.conditions if c.type == "Initialized")
    assert initialized.status == "True"


# --- one instance is stopped alone ---------------------------------------------------------------


def doomed(
    kind: ProbeKind = LIVENESS, grace: int | None = None, *, where: str = "app", **more: Any
) -> PodRecord:
    """A container whose probe fails for good at 100."""
    spec = probe(failure_threshold=1, termination_grace_period_seconds=grace)
    name = f"{kind.value}_probe"
    known = probed(running(), kind=where, with_probes={name: spec}, **more)
    return seen(known, kind, FAILURE, when=100)


TEXTS = [
    (LIVENESS, "app", "Always", "Container a failed liveness probe, will be restarted"),
    (STARTUP, "app", "Always", "Container a failed startup probe, will be restarted"),
    (LIVENESS, "app", "OnFailure", "Container a failed liveness probe, will be restarted"),
    (LIVENESS, "app", "Never", "Container a failed liveness probe"),
    (STARTUP, "app", "Never", "Container a failed startup probe"),
    (LIVENESS, "sidecar", "Always", "Init container a failed liveness probe"),
    (STARTUP, "sidecar", "Never", "Init container a failed startup probe"),
]


@pytest.mark.parametrize(("kind", "where", "policy", "text"), TEXTS)
def test_a_failed_probe_stops_the_container(kind, where, policy, text):
    """§5.2.16, §7.6.2, §4.2.3, §11.2"""
    plan = decide(doomed(kind, where=where, policy=policy), NOW)
    assert in_words(plan.actions)[-1] == "stop a/0"
    killing = [e for e in plan.events if e.reason == "Killing"]
    assert [(e.type, e.message) for e in killing] == [("Normal", text)]
    assert plan.termination is None
    assert plan.wake_at == BOOT + 130


@pytest.mark.parametrize(
    ("own", "policy", "again"),
    [(None, "Always", True), ("Never", "Always", False), ("OnFailure", "Never", True)],
)
def test_the_containers_own_policy_comes_before_the_pods(own, policy, again):
    """§7.6.2, §3.1.2: its rules do not count, as nobody knows the exit code yet."""
    rules = (rule("In", 0, 143),) if own else ()
    spec = container(
        "a",
        liveness_probe=probe(failure_threshold=1),
        restart_policy=own,
        restart_policy_rules=rules,
    )
    known = record(pod(spec, "b", restart_policy=policy), a=running(), b=running())
    plan = decide(seen(known, LIVENESS, FAILURE), NOW)
    said = next(e.message for e in plan.events if e.reason == "Killing")
    assert said.endswith(", will be restarted") is again


GRACES = [
    ("the pod's", None, 30, 130),
    ("the probe's, shorter", 5, 500, 105),
    ("the probe's, longer", 60, 30, 160),
    ("no less than two seconds after the signal", 1, 30, 102),
    ("none at all", None, 0, 102),
    ("negative ones are one second", None, -5, 102),
]


@pytest.mark.parametrize("kind", [STARTUP, LIVENESS])
@pytest.mark.parametrize(("case", "own", "pods", "kill_at"), GRACES)
def test_the_grace_of_one_container(case, own, pods, kill_at, kind):
    """C18, C19: §5.8, §7.6.1, §7.2.2"""
    known = doomed(kind, own, spec={"termination_grace_period_seconds": pods})
    known = observe(known, Committed(NOW, decide(known, NOW)))
    known = signalled(known, 100)
    (awaited,) = waiting_for(known)
    assert (awaited.id, awaited.kill_at) == (instance("a"), BOOT + kill_at)
    assert awaited.signalled == at(100)
    before = decide(known, at(kill_at - 0.001))
    assert (before.actions, before.wake_at) == ((), BOOT + kill_at)
    assert in_words(decide(known, at(kill_at)).actions) == ["kill a/0"]


def signalled(known: PodRecord, when: float) -> PodRecord:
    mine = known.containers[0]
    assert mine.running is not None
    run = replace(mine.running, signalled=at(when))
    return replace(known, containers=(replace(mine, running=run), *known.containers[1:]))


def test_a_signal_that_came_late_gets_its_two_seconds():
    """§7.2.2"""
    known = signalled(doomed(LIVENESS, 5), 104.5)
    assert decide(known, at(105)).wake_at == BOOT + 106.5
    assert in_words(decide(known, at(106.5)).actions) == ["kill a/0"]


MEANWHILE = [
    ("a deletion with less time", 5, 60, 110),
    ("a deletion with more time", 400, 60, 160),
]


@pytest.mark.parametrize(("case", "grace", "own", "kill_at"), MEANWHILE)
def test_a_deletion_takes_over_with_the_earlier_deadline(case, grace, own, kill_at):
    """§5.8, §7.6.1, §7.2.4: one stop signal, and the pod's end is told in its own words."""
    known = doomed(LIVENESS, own)
    known = signalled(observe(known, Committed(NOW, decide(known, NOW))), 100)
    known = observe(known, DeletionRequested(at(105), grace))
    plan = decide(known, at(105))
    assert plan.actions == ()
    assert [e.message for e in plan.events] == ["Stopping container a"]
    assert plan.wake_at == BOOT + kill_at
    assert waiting_for(known)[0].kill_at == BOOT + kill_at


def test_a_sidecar_that_is_being_stopped_alone_waits_for_no_turn():
    """§7.4.1: it got its own reason before the pod began to end."""
    spec = probe(failure_threshold=1)
    known = record(
        pod("b", init=[sidecar("a", liveness_probe=spec), sidecar("c")]),
        a=running(),
        b=running(),
        c=running(),
    )
    known = seen(known, LIVENESS, FAILURE)
    known = observe(known, DeletionRequested(NOW))
    assert in_words(decide(known, NOW).actions) == ["stop a/0", "stop b/0"]


def test_a_stop_that_fails_is_tried_again_and_killed_at_the_deadline():
    """§7.6.1, §3.2.11"""
    known = doomed(LIVENESS, 15)
    known = observe(known, Committed(NOW, decide(known, NOW)))
    known = observe(known, ActionFailed(NOW, StopContainer(instance("a")), "no"))
    assert in_words(decide(known, at(109)).actions) == []
    assert in_words(decide(known, at(110)).actions) == ["stop a/0"]
    assert in_words(decide(known, at(117)).actions) == ["kill a/0"]


def test_a_decided_failure_is_not_taken_back():
    """§5.2.11: whatever else is observed, the kill stays as it was decided."""
    known = doomed(LIVENESS)
    later = seen(seen(known, LIVENESS, SUCCESS, when=101), LIVENESS, FAILURE, when=102)
    assert later is known
    run = known.containers[0].running
    assert run is not None
    assert run.kill == Kill(cause=KillCause.LIVENESS, requested=NOW, deadline=BOOT + 130)


AGAIN = [
    ("Always", 0, True),
    ("Always", 143, True),
    ("OnFailure", 0, True),
    ("OnFailure", 143, True),
    ("Never", 0, False),
    ("Never", 143, False),
]


@pytest.mark.parametrize(("policy", "code", "again"), AGAIN)
def test_what_was_said_to_be_restarted_is_whatever_its_exit_code(policy, code, again):
    """§7.6.2, §5.2.16, §3.1.3: a job that ends cleanly when told to has not done its work."""
    known = doomed(LIVENESS, policy=policy)
    known = observe(known, Committed(NOW, decide(known, NOW)))
    known = observe(known, ContainerExited(at(101), instance("a"), code))
    plan = decide(known, at(101))
    assert ("start a/1" in in_words(plan.actions)) is again
    assert (plan.termination is None) is again
    unasked = observe(probed(running(), policy=policy), ContainerExited(NOW, instance("a"), 0))
    assert (decide(unasked, NOW).termination is None) is (policy == "Always")


def test_the_next_end_is_judged_by_its_exit_code_again():
    """§3.1.3"""
    known = observe(doomed(LIVENESS, policy="OnFailure"), ContainerExited(NOW, instance("a"), 0))
    known = observe(known, ContainerStarted(NOW, instance("a", 1), 7))
    known = observe(known, ContainerExited(NOW, instance("a", 1), 0))
    assert decide(known, NOW).status.phase == "Succeeded"


# --- endpoints and readiness gates ---------------------------------------------------------------


@pytest.mark.parametrize("deleted", [False, True])
@pytest.mark.parametrize("ready", [False, True])
def test_a_pod_gets_traffic_while_it_is_ready_and_not_deleted(ready: bool, deleted: bool) -> None:
    """§10.2, §7.3.4: the deletion alone takes the pod out of the endpoints."""
    state = running(probes=replace(STARTED, readiness=READY) if ready else STARTED)
    known = probed(state)
    if deleted:
        known = observe(known, DeletionRequested(at(99)))
    known = observe(known, Committed(NOW, decide(known, NOW)))
    assert gets_traffic(known) is (ready and not deleted)


def test_readiness_gates_keep_a_pod_out_of_endpoints_and_are_named():
    """C27: §1.2.7, §1.2.8, §10.4"""
    gates = tuple(
        v1.PodReadinessGate(condition_type=n) for n in ("x.org/a", "PodHasNetwork", "x.org/b")
    )
    known = record(pod("a", readiness_gates=gates), a=running())

    def published(known: PodRecord) -> PodRecord:
        return observe(known, Committed(NOW, decide(known, NOW)))

    known = published(known)
    assert missing_gates(known) == ("x.org/a", "x.org/b")
    assert not gets_traffic(known)
    known = published(observe(known, ConditionSet(NOW, "x.org/a", "True")))
    assert missing_gates(known) == ("x.org/b",)
    known = published(observe(known, ConditionSet(NOW, "x.org/b", "False")))
    assert missing_gates(known) == ("x.org/b",)
    known = published(observe(known, ConditionSet(NOW, "x.org/b", "True")))
    assert missing_gates(known) == ()
    assert gets_traffic(known)


# --- adoption ------------------------------------------------------------------------------------


def dues(known: PodRecord) -> dict[ProbeKind, float]:
    return {t.kind: t.due - BOOT for t in decide(known, at(300)).probing}


ALIVE = Probes(
    startup=ProbeState(result=Result.SUCCESS),
    liveness=ProbeState(result=Result.SUCCESS, last=Result.FAILURE, run=2),
    readiness=ProbeState(result=Result.SUCCESS, last=Result.SUCCESS, run=1),
)


def test_after_a_restart_of_the_node_fifty_pods_are_probed_over_one_period():
    """K08: §5.2.2, §2.4.7: each at a moment of its own, the same whenever it is asked for."""
    period = {"liveness_probe": probe(period_seconds=60), "readiness_probe": probe()}
    moments: dict[ProbeKind, list[float]] = {LIVENESS: [], READINESS: []}
    for number in range(50):
        known = probed(running(probes=ALIVE), with_probes=period)
        meta = replace(known.pod.metadata, uid=f"0b9f-{number}")
        known = observe(replace(known, pod=replace(known.pod, metadata=meta)), Adopted(at(200)))
        assert decide(known, at(200)).probing == decide(known, at(300)).probing
        for kind, due in dues(known).items():
            moments[kind].append(due - 200)
    for kind, length in ((LIVENESS, 60), (READINESS, 10)):
        assert len(moments[kind]) == len(set(moments[kind])) == 50
        assert all(0 <= moment < length for moment in moments[kind])
        fifths = [int(moment / length * 5) for moment in moments[kind]]
        assert min(fifths.count(n) for n in range(5)) >= 4
    assert [m / 60 for m in moments[LIVENESS]] != [m / 10 for m in moments[READINESS]]


def test_results_and_counters_are_kept_over_an_adoption():
    """K03, K08: §2.4.7: who was ready stays ready, and two failures in a row are still two."""
    known = observe(probed(running(probes=ALIVE)), Adopted(at(200)))
    run = known.containers[0].running
    assert run is not None
    assert run.probes == ALIVE
    assert container_status(decide(known, at(200)).status, "a").ready
    run = seen(known, LIVENESS, FAILURE, when=205).containers[0].running
    assert run is not None
    assert run.kill is not None


def test_what_was_not_ready_at_an_adoption_is_asked_at_once():
    """K03: §5.2.14: and keeps its rhythm when it has become ready."""
    known = observe(probed(SUCCEEDED), Adopted(at(200)))
    assert dues(known)[READINESS] == 10
    assert 200 <= dues(known)[LIVENESS] < 210
    assert not container_status(decide(known, at(200)).status, "a").ready
    known = seen(known, READINESS, SUCCESS, when=200)
    assert container_status(decide(known, at(200)).status, "a").ready
    assert dues(known)[READINESS] == 10


def test_an_initial_delay_is_over_before_anything_is_probed_after_an_adoption():
    """§5.2.7"""
    late = probed(
        running(probes=ALIVE), with_probes={"liveness_probe": probe(initial_delay_seconds=500)}
    )
    assert dues(observe(late, Adopted(at(200)))) == {LIVENESS: 510}


def test_instances_that_start_after_an_adoption_are_probed_as_ever():
    """§5.2.4, §5.2.7"""
    known = observe(probed(ended(1) | running(1)), Adopted(at(200)))
    known = observe(known, ContainerExited(at(210), instance("a", 1), 1))
    known = observe(known, ContainerStarted(at(220), instance("a", 2), 7))
    assert dues(known) == {STARTUP: 220}
