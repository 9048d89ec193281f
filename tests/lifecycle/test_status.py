"""What the API shows of a record: phase, conditions, container statuses, with literal texts."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from supervisor.api import v1
from supervisor.lifecycle import reasons
from supervisor.lifecycle.decide import decide
from supervisor.lifecycle.facts import (
    ConditionRemoved,
    ConditionSet,
    DeletionRequested,
    StartContainer,
)
from supervisor.lifecycle.qos import qos_class
from supervisor.lifecycle.record import Cause, Refusal, Sandbox, observe
from tests.lifecycle.lives import BOOT, at, container, container_status, pod, shown, sidecar
from tests.lifecycle.records import NOW, ended, ending, instance, record, running, waited

INIT = [container("i1"), sidecar("s1"), container("i2")]
DONE = {"i1": ended(0), "s1": running(), "i2": ended(0)}


def full(policy: str = "Always", **states: Any) -> Any:
    return record(pod("a", "b", init=INIT, restart_policy=policy), **states)


def plain(policy: str = "Always", **states: Any) -> Any:
    return record(pod("a", "b", restart_policy=policy), **states)


def published(phase: str, **fields: Any) -> dict[str, Any]:
    """A status committed before, for what is sticky."""
    return {"status": v1.PodStatus(phase=phase, **fields)}


CRASHING = ended(1, 1) | waited(1, 40)  # shown in CrashLoopBackOff

PHASES = {
    "nothing is known": (plain(), "Pending"),
    "one app runs, one has not started": (plain(a=running()), "Pending"),
    "all apps run": (plain(a=running(), b=running()), "Running"),
    "an init container runs": (full(i1=running()), "Pending"),
    "an init container crash-loops": (full(i1=CRASHING), "Pending"),
    "an init container failed and will run again": (full(i1=ended(1)), "Pending"),
    "an init container failed for good": (full("Never", i1=ended(1)), "Failed"),
    "init is done, no app has started": (full(**DONE), "Pending"),
    "a sidecar has not started yet": (full(i1=ended(0)), "Pending"),
    "apps run beside a sidecar": (full(**DONE, a=running(), b=running()), "Running"),
    "a restarting sidecar does not pull the pod back": (
        full(**DONE | {"s1": CRASHING}, a=running(), b=running()),
        "Running",
    ),
    "an app crash-loops": (plain(a=CRASHING, b=CRASHING), "Running"),
    "one app failed for good, the other runs": (
        plain("Never", a=ended(1), b=running()),
        "Running",
    ),
    "all apps succeeded": (plain("Never", a=ended(0), b=ended(0)), "Succeeded"),
    "one app of two failed": (plain("Never", a=ended(0), b=ended(1)), "Failed"),
    "one app failed for good, the other will run again": (
        plain("OnFailure", a=ended(0), b=ended(1)),
        "Running",
    ),
    "apps are done, a sidecar still runs": (
        full("Never", **DONE, a=ended(0), b=ended(0)),
        "Running",
    ),
    "apps are done, the sidecar failed: its code does not count": (
        full("Never", **DONE | {"s1": ended(137)}, a=ended(0), b=ended(0)),
        "Succeeded",
    ),
    "a running pod is being deleted": (
        plain(a=running(), b=running(), fields={"termination": ending()} | published("Running")),
        "Running",
    ),
    "a pending pod is being deleted": (
        full(i1=running(), fields={"termination": ending()} | published("Pending")),
        "Pending",
    ),
    "a deleted pod with a crash loop ended with success last": (
        plain(
            a=ended(0, 3) | waited(3, 40),
            b=ended(0),
            fields={"termination": ending()} | published("Running"),
        ),
        "Succeeded",
    ),
    "a deleted pod never started anything": (
        plain(fields={"termination": ending()} | published("Pending")),
        "Failed",
    ),
    "a deleted pod started one of two apps": (
        plain(a=ended(0), fields={"termination": ending()} | published("Pending")),
        "Failed",
    ),
    "a failed phase stays failed": (
        plain(a=ended(0), b=ended(0), fields={"termination": ending()} | published("Failed")),
        "Failed",
    ),
    "a succeeded phase stays succeeded": (
        plain(a=ended(1), b=ended(0), fields={"termination": ending()} | published("Succeeded")),
        "Succeeded",
    ),
    "a failed init container is not final news while a sidecar still runs": (
        full("Never", i1=ended(0), s1=running(), i2=ended(1), fields=published("Pending")),
        "Pending",
    ),
    "no terminal phase while a start is in flight": (
        plain(
            a=ended(1),
            b=ended(1),
            fields={
                "termination": ending(),
                "in_flight": frozenset({StartContainer(instance("b", 1))}),
            }
            | published("Running"),
        ),
        "Running",
    ),
}


@pytest.mark.parametrize("case", PHASES)
def test_phase_when(case):
    """§1.1.1, §1.1.2, §1.1.3, §1.1.4, §1.1.5, §1.1.6, §1.1.7, §1.1.9, §1.1.10"""
    known, expected = PHASES[case]
    assert decide(known, NOW).status.phase == expected


def test_reason_and_message_stay_with_a_terminal_phase():
    """§1.1.8, §1.1.7"""
    old = published("Failed", reason="DeadlineExceeded", message="too long")
    status = decide(plain(a=ended(0), b=ended(0), fields=old), NOW).status
    assert (status.phase, status.reason, status.message) == (
        "Failed",
        "DeadlineExceeded",
        "too long",
    )


def test_no_phase_but_these_four_is_ever_written():
    """§1.1.13, §1.1.10: neither Unknown nor Terminating."""
    known = {decide(r, NOW).status.phase for r, _ in PHASES.values()}
    assert known == {"Pending", "Running", "Succeeded", "Failed"}


def test_apps_without_a_trace_in_an_initialised_pod_end_unknown():
    """§1.1.11"""
    gone = full(**DONE | {"s1": ended(0)}, a=ended(0), fields={"termination": ending()})
    status = decide(gone, NOW).status
    assert shown(container_status(status, "a")) == "terminated Completed 0"
    assert shown(container_status(status, "b")) == "terminated ContainerStatusUnknown 137"


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ({}, ["terminated ContainerStatusUnknown 137", *["waiting PodInitializing"] * 3]),
        (
            {"i1": ended(0), "s1": running(), "i2": {}},
            ["terminated Completed 0", "running", *["waiting PodInitializing"] * 2],
        ),
        (
            {"i1": ended(0), "s1": ended(143), "i2": ended(0)},
            [
                "terminated Completed 0",
                "terminated Error 143",
                "terminated Completed 0",
                "terminated ContainerStatusUnknown 137",
            ],
        ),
        (
            {"i1": {}, "s1": ended(0)},
            [
                "terminated ContainerStatusUnknown 137",
                "terminated Completed 0",
                *["waiting PodInitializing"] * 2,
            ],
        ),
    ],
)
def test_init_containers_before_the_last_one_started_end_unknown(states, expected):
    """§1.1.11"""
    status = decide(full(**states, fields={"termination": ending()}), NOW).status
    names = ("i1", "s1", "i2", "a")
    assert [shown(container_status(status, n)) for n in names] == expected


# --- conditions ----------------------------------------------------------------------------------


def conditions(known: Any) -> dict[str, v1.PodCondition]:
    return {c.type: c for c in decide(known, NOW).status.conditions}


def test_a_condition_of_others_goes_when_they_take_it_away_and_one_of_the_nodes_does_not():
    known = observe(plain(a=running(), b=running()), ConditionSet(at(50), "x.io/gate", "True"))
    assert "x.io/gate" in conditions(known)
    for name in ("x.io/gate", "Ready", "x.io/other"):
        known = observe(known, ConditionRemoved(at(51), name))
    assert "x.io/gate" not in conditions(known)
    assert "Ready" in conditions(known)


def test_the_order_of_conditions_with_those_of_others_first():
    """§1.2.1, §1.2.8, §1.2.9: a DisruptionTarget set from outside is kept like any other."""
    known = plain(a=running(), b=running())
    for name in ("example.com/gate", "DisruptionTarget"):
        known = observe(known, ConditionSet(at(50), name, "True", "Because", "of that"))
    assert [c.type for c in decide(known, NOW).status.conditions] == [
        "example.com/gate",
        "DisruptionTarget",
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ]


def test_transition_times_move_only_when_the_status_does():
    """§1.2.2"""
    known = plain(a=running())
    first = decide(known, at(100.9)).status
    known = replace(known, status=first)
    second = decide(replace(known, containers=plain().containers), at(200)).status
    known = replace(known, status=second)
    third = decide(replace(known, containers=plain(a=running(), b=running()).containers), at(300.5))

    def ready(status: v1.PodStatus) -> tuple[str, str, str | None]:
        found = next(c for c in status.conditions if c.type == "Ready")
        return found.status, found.message, found.last_transition_time

    assert ready(first) == (
        "False",
        "containers with unready status: [b]",
        "2027-01-15T08:01:40Z",
    )
    assert ready(second) == (
        "False",
        "containers with unready status: [a b]",
        "2027-01-15T08:01:40Z",
    )
    assert ready(third.status) == ("True", "", "2027-01-15T08:05:00Z")


def test_a_pod_is_scheduled_from_its_first_status_on():
    """§1.2.3"""
    first = conditions(record(pod(), fields={"sandbox": Sandbox.ABSENT}))["PodScheduled"]
    assert (first.status, first.reason, first.message) == ("True", "", "")


@pytest.mark.parametrize(
    ("sandbox", "status"),
    [(Sandbox.ABSENT, "False"), (Sandbox.READY, "True"), (Sandbox.STOPPED, "False")],
)
def test_ready_to_start_follows_the_sandbox(sandbox, status):
    """§1.2.4"""
    found = conditions(plain("Never", a=ended(0), b=ended(0), fields={"sandbox": sandbox}))
    condition = found["PodReadyToStartContainers"]
    assert (condition.status, condition.reason, condition.message) == (status, "", "")


INITIALIZED = {
    "a pod without init containers": (plain(), "True", "", ""),
    "nothing done yet": (
        full(i1=running()),
        "False",
        "ContainersNotInitialized",
        "containers with incomplete status: [i1 s1 i2]",
    ),
    "a regular one done, the sidecar down": (
        full(i1=ended(0), s1=ended(1)),
        "False",
        "ContainersNotInitialized",
        "containers with incomplete status: [s1 i2]",
    ),
    "a sidecar counts when it has started": (
        full(i1=ended(0), s1=running(), i2=running()),
        "False",
        "ContainersNotInitialized",
        "containers with incomplete status: [i2]",
    ),
    "all done": (full(**DONE), "True", "", ""),
    "a sidecar is down, but an app has started": (
        full(**DONE | {"s1": ended(1)}, a=ended(1)),
        "True",
        "",
        "",
    ),
    "succeeded": (
        full("Never", **DONE | {"s1": ended(0)}, a=ended(0), b=ended(0)),
        "True",
        "PodCompleted",
        "",
    ),
}


@pytest.mark.parametrize("case", INITIALIZED)
def test_initialized_when(case):
    """§1.2.5"""
    known, *expected = INITIALIZED[case]
    found = conditions(known)["Initialized"]
    assert [found.status, found.reason, found.message] == expected


CONTAINERS_READY = {
    "all run": (plain(a=running(), b=running()), "True", "", ""),
    "sidecars come before apps, regular init containers do not count": (
        full(i1=ended(0)),
        "False",
        "ContainersNotReady",
        "containers with unready status: [s1 a b]",
    ),
    "succeeded": (plain("Never", a=ended(0), b=ended(0)), "False", "PodCompleted", ""),
    "failed": (plain("Never", a=ended(0), b=ended(1)), "False", "PodFailed", ""),
    "failing, but something still runs": (
        full("Never", i1=ended(0), s1=running(), i2=ended(1), fields=published("Pending")),
        "False",
        "PodFailed",
        "",
    ),
}


@pytest.mark.parametrize("case", CONTAINERS_READY)
def test_containers_ready_when(case):
    """§1.2.6, §1.2.7, §1.1.9: Ready says the same."""
    known, *expected = CONTAINERS_READY[case]
    for name in ("ContainersReady", "Ready"):
        found = conditions(known)[name]
        assert [found.status, found.reason, found.message] == expected


def test_readiness_gates_hold_back_ready_alone():
    """C27: §1.2.7, §1.2.8"""
    gates = tuple(v1.PodReadinessGate(condition_type=f"example.com/{n}") for n in ("a", "b"))
    known = record(pod("a", readiness_gates=gates), a=running())
    found = conditions(known)
    assert found["ContainersReady"].status == "True"
    assert (found["Ready"].status, found["Ready"].reason, found["Ready"].message) == (
        "False",
        "ReadinessGatesNotReady",
        (
            'corresponding condition of pod readiness gate "example.com/a" does not exist., '
            'corresponding condition of pod readiness gate "example.com/b" does not exist.'
        ),
    )
    known = observe(known, ConditionSet(at(50), "example.com/a", "True"))
    known = observe(known, ConditionSet(at(50), "example.com/b", "False"))
    assert conditions(known)["Ready"].message == (
        'the status of pod readiness gate "example.com/b" is not "True", but False'
    )
    known = observe(known, ConditionSet(at(60), "example.com/b", "True"))
    assert conditions(known)["Ready"].status == "True"
    assert conditions(known)["example.com/b"].last_transition_time == "2027-01-15T08:01:00Z"


def test_the_old_name_of_ready_to_start_names_the_same_condition():
    """§1.2.4: as a readiness gate, and when somebody tries to set it."""
    gates = (v1.PodReadinessGate(condition_type="PodHasNetwork"),)
    known = record(pod("a", readiness_gates=gates), a=running())
    assert conditions(known)["Ready"].status == "True"
    known = observe(known, ConditionSet(at(50), "PodHasNetwork", "False"))
    assert "PodHasNetwork" not in conditions(known)
    assert conditions(known)["PodReadyToStartContainers"].status == "True"


def test_conditions_and_status_name_the_generation_they_speak_of():
    """§1.2.11: a graceful delete is a new generation; a second one is not."""
    known = plain(a=running(), b=running())
    status = decide(known, NOW).status
    assert status.observed_generation == 1
    assert {c.observed_generation for c in status.conditions} == {1}
    known = observe(known, DeletionRequested(NOW))
    known = observe(known, DeletionRequested(NOW, 5))
    assert known.pod.metadata.generation == 2
    assert decide(known, NOW).status.observed_generation == 2


# --- containers ----------------------------------------------------------------------------------

REFUSED = {"refusal": Refusal("CreateContainerConfigError", "no such key", BOOT + 110)}

STATES = {
    "nothing known, no init containers": (plain(), "waiting ContainerCreating"),
    "nothing known, init containers": (full(), "waiting PodInitializing"),
    "running": (plain(a=running()), "running"),
    "ended, the first restart is immediate": (plain(a=ended(1)), "terminated Error 1"),
    "ended, restart delayed": (plain(a=CRASHING), "waiting CrashLoopBackOff"),
    "ended, never again": (plain("Never", a=ended(0) | waited(0, 10)), "terminated Completed 0"),
    "ended, the pod is ending": (
        plain(a=CRASHING, fields={"termination": ending()}),
        "terminated Error 1",
    ),
    "ended long ago, and the wait is over unseen": (
        plain(a=ended(1, 1, when=20) | waited(1, 40)),
        "terminated Error 1",
    ),
    "refused": (plain(a=REFUSED), "waiting CreateContainerConfigError"),
    "refused after an end": (plain(a=ended(1) | REFUSED), "waiting CreateContainerConfigError"),
    "refused, the pod is ending": (
        plain(a=ended(1) | REFUSED, fields={"termination": ending()}),
        "terminated Error 1",
    ),
}


@pytest.mark.parametrize("case", STATES)
def test_a_container_is_shown(case):
    """§2.1.1, §2.1.2, §2.1.4, §2.1.8, §2.2"""
    known, expected = STATES[case]
    assert shown(container_status(decide(known, NOW).status, "a")) == expected


def test_an_init_container_that_succeeded_late_is_not_shown_in_back_off_but_a_sidecar_is():
    """§2.1.4, §3.1.6, §3.1.7"""
    known = full(i1=ended(0, 1) | waited(1, 40), s1=ended(0, 1) | waited(1, 40))
    status = decide(known, NOW).status
    assert shown(container_status(status, "i1")) == "terminated Completed 0"
    assert shown(container_status(status, "s1")) == "waiting CrashLoopBackOff"


@pytest.mark.parametrize(
    ("delay", "text"),
    [(10, "10s"), (80, "1m20s"), (160, "2m40s"), (300, "5m0s"), (0.5, "500ms"), (1.5, "1.5s")],
)
def test_the_text_of_a_crash_loop(delay, text):
    """§2.2"""
    known = plain(a=ended(1, 1) | waited(1, delay))
    waiting = container_status(decide(known, NOW).status, "a").state.waiting
    assert waiting is not None
    assert waiting.message == (f"back-off {text} restarting failed container=a pod=web_shop(u-1)")
    assert reasons.go_duration(3661) == "1h1m1s"
    assert reasons.go_duration(0) == "0s"


def test_the_state_before_this_one_is_kept():
    """§2.1.1: one of them, and it is the newest instance's while that one waits to run again."""
    before = {"before": ended(3, 4)["ended"]}

    def last(known: Any) -> int | None:
        state = container_status(decide(known, NOW).status, "a").last_state.terminated
        return state.exit_code if state else None

    assert last(plain(a=running())) is None
    assert last(plain(a=ended(1, 5) | running(6))) == 1
    assert last(plain(a=ended(1, 5) | before)) == 3
    assert last(plain(a=ended(1, 5) | before | waited(5, 40))) == 1


def test_the_fields_of_an_ended_container():
    """§2.3.1, §2.3.2, §2.4.1, §2.4.2, §2.4.4"""
    known = plain("Never", a=ended(137, 2, when=50.7), b=running(1))
    status = container_status(decide(known, NOW).status, "a")
    assert status.state.terminated == v1.ContainerStateTerminated(
        container_id="podvisor://u-1/a/2",
        exit_code=137,
        reason="Error",
        signal=0,
        started_at="2027-01-15T08:00:10Z",
        finished_at="2027-01-15T08:00:50Z",
    )
    assert (status.restart_count, status.started, status.ready) == (2, False, False)
    assert status.container_id == "podvisor://u-1/a/2"
    other = container_status(decide(known, NOW).status, "b")
    assert (other.restart_count, other.started, other.ready) == (1, True, True)
    assert other.state.running == v1.ContainerStateRunning(started_at="2027-01-15T08:00:10Z")


def test_a_regular_init_container_is_ready_when_it_has_succeeded():
    """§2.4.5"""

    def ready(state: dict[str, Any]) -> bool:
        return container_status(decide(full(i1=state), NOW).status, "i1").ready

    assert [ready(s) for s in ({}, running(), ended(1), ended(0))] == [False, False, False, True]


def test_statuses_are_sorted_by_name_but_init_containers_as_in_the_spec():
    """§2.1.7"""
    known = record(pod("z", "a", "m", init=[container("y"), container("b")]))
    status = decide(known, NOW).status
    assert [c.name for c in status.container_statuses] == ["a", "m", "z"]
    assert [c.name for c in status.init_container_statuses] == ["y", "b"]


def test_termination_messages_share_a_budget():
    """§2.5.6: the first bytes stay, no character is cut in two, the rest is whole (§2.5.7)."""
    names = [f"c{n}" for n in range(10)]
    limit = 12288 // 10
    states = {n: ended(1, message="x" + "é" * 4096) for n in names} | {
        "c1": ended(1, message="DONE\n")
    }
    status = decide(record(pod(*names, restart_policy="Never"), **states), NOW).status
    cut = container_status(status, "c0").state.terminated
    assert cut is not None
    assert len(cut.message.encode()) == limit - 1
    assert cut.message == "x" + "é" * ((limit - 1) // 2)
    whole = container_status(status, "c1").state.terminated
    assert whole is not None
    assert whole.message == "DONE\n"


def test_addresses_and_times_of_the_pod():
    """§9.4.6: pods share the host's network."""
    status = decide(plain(), NOW).status
    assert (status.host_ip, status.pod_ip) == ("127.0.0.1", "127.0.0.1")
    assert status.host_ips == (v1.HostIP(ip="127.0.0.1"),)
    assert status.pod_ips == (v1.PodIP(ip="127.0.0.1"),)
    assert status.start_time == "2027-01-15T08:00:00Z"


def resources(**amounts: dict[str, str]) -> v1.Container:
    return container("c", resources=v1.ResourceRequirements(**amounts))


both = {"cpu": "1", "memory": "1Gi"}
QOS = {
    "nothing set": ([resources()], "BestEffort"),
    "zero is nothing": ([resources(requests={"cpu": "0"})], "BestEffort"),
    "something set": ([resources(requests={"cpu": "1m"})], "Burstable"),
    "requests equal limits": ([resources(limits=both, requests=both)], "Guaranteed"),
    "written differently": (
        [resources(limits=both, requests={"cpu": "1000m", "memory": "1024Mi"})],
        "Guaranteed",
    ),
    "requests below limits": (
        [resources(limits=both, requests=both | {"cpu": "500m"})],
        "Burstable",
    ),
    "memory not limited": (
        [resources(limits={"cpu": "1"}, requests={"cpu": "1"})],
        "Burstable",
    ),
    "one container without": ([resources(limits=both, requests=both), resources()], "Burstable"),
}


@pytest.mark.parametrize("case", QOS)
def test_quality_of_service(case):
    """§9.4.3"""
    containers, expected = QOS[case]
    spec = v1.PodSpec(containers=tuple(containers))
    assert qos_class(spec) == expected
    assert qos_class(v1.PodSpec(init_containers=tuple(containers))) == expected


@pytest.mark.parametrize("case", QOS)
def test_the_status_of_a_pod_says_its_quality_of_service(case):
    """H20, §9.4.3"""
    containers, expected = QOS[case]
    named = tuple(replace(each, name=f"c{i}") for i, each in enumerate(containers))
    waiting = record(pod(*named))
    assert waiting.status.qos_class == expected
    assert decide(waiting, NOW).status.qos_class == expected


def test_a_status_that_says_nothing_new_is_the_same_object():
    """The shell can tell at a glance that there is nothing to publish."""
    known = plain(a=running(), b=running())
    status = decide(known, NOW).status
    known = replace(known, status=status)
    assert decide(known, at(200)).status is status
    ended_now = replace(known, termination=ending(cause=Cause.DEADLINE))
    assert decide(ended_now, at(200)).status is not status
