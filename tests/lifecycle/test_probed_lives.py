"""Whole lives of probed pods at exact times: what a probe's answers do to a pod."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.api import v1
from supervisor.lifecycle import facts
from supervisor.lifecycle.decide import decide
from supervisor.lifecycle.facts import ProbeOutcome
from supervisor.lifecycle.record import observe
from supervisor.lifecycle.timeline import gets_traffic
from tests.lifecycle.lives import (
    ERRORS,
    FAILS,
    PASSES,
    Asked,
    Life,
    Run,
    at,
    container,
    container_status,
    exits,
    fails_from,
    passes_from,
    pattern,
    pod,
    probe,
    shown,
    sidecar,
)

STUBBORN = Run(stops_in=None)  # ignores SIGTERM


def beside(where: str, **fields: Any) -> v1.Pod:
    """A pod whose container `c` is its only app, or a sidecar beside one."""
    if where == "app":
        return pod(container("c", **fields))
    return pod("main", init=[sidecar("c", **fields)])


def place(where: str) -> str:
    return "spec.containers{c}" if where == "app" else "spec.initContainers{c}"


WHERE = pytest.mark.parametrize("where", ["app", "sidecar"])


# --- readiness -----------------------------------------------------------------------------------


@WHERE
def test_a_pod_is_ready_with_the_first_success_after_the_initial_delay(where):
    """C01, B14: §5.2.1, §5.2.7, §1.2.12: not before, not up to a period later, never restarted."""
    life = Life(beside(where, readiness_probe=probe(initial_delay_seconds=7))).run(until=60)
    assert life.asked("c/0", "readiness") == [7, 17, 27, 37, 47, 57]
    assert life.ready() == [(0, False), (7, True)]
    assert life.condition("Ready").last_transition_time == "2027-01-15T08:00:07Z"
    assert life.container("c").restart_count == 0


@WHERE
def test_a_pod_whose_readiness_fails_is_never_ready_and_never_restarted(where):
    """C02, B13: §5.3, §1.2.6"""
    life = Life(beside(where, readiness_probe=probe()), answers={"c readiness": FAILS})
    life.run(until=95)
    assert life.ready() == [(0, False)]
    assert (life.container("c").restart_count, life.phases[-1][1]) == (0, "Running")
    assert life.container("c").started
    assert life.said("Unhealthy") == ["Readiness probe failed: no"] * 10
    assert life.said("Killing") == []
    assert life.condition("ContainersReady").message == "containers with unready status: [c]"


def test_readiness_comes_and_goes_with_its_thresholds():
    """§5.2.10, §1.2.12: three failures take it away, two successes bring it back."""
    spec = probe(period_seconds=1, success_threshold=2, failure_threshold=3)
    life = Life(
        beside("app", readiness_probe=spec), answers={"c readiness": pattern("++--+---+-++")}
    ).run(until=15)
    assert life.ready() == [(0, False), (1, True), (7, False), (11, True)]


def test_a_readiness_probe_that_times_out_is_a_failure_when_its_time_is_over():
    """C10: never ready; the program answers after a second, each time."""
    life = Life(beside("app", readiness_probe=probe()), answers={"c readiness": FAILS}, slow=1)
    life.run(until=60)
    assert life.ready() == [(0, False)]
    assert [t for t, e in life.events if e.reason == "Unhealthy"] == [1, 11, 21, 31, 41, 51]


def test_readiness_may_fail_while_the_pod_ends_and_the_world_is_told():
    """C22: §7.3.1, §7.3.4, §10.2, §10.5: a SIGTERM handler that takes the ready file away."""

    def ready(asked: Asked) -> ProbeOutcome:
        return ProbeOutcome.SUCCESS if asked.signalled is None else ProbeOutcome.FAILURE

    every = probe(period_seconds=1, failure_threshold=1)
    spec = beside("app", readiness_probe=every, liveness_probe=every)
    life = Life(spec, {"c": Run(stops_in=20)}, answers={"c readiness": ready}).delete(5.5)
    life.run(until=5.7)
    assert not gets_traffic(life.record)
    assert life.ready()[-1][1] is True
    life.run(until=6.2)
    assert life.ready()[-1] == (6, False)
    life.run()
    assert life.ends == [(25.5, "c/0", 143)]
    assert life.asked("c/0", "readiness")[-1] == 25
    assert life.asked("c/0", "liveness")[-1] == 5
    assert len(life.said("Killing")) == 1


def test_a_pod_that_is_deleted_before_it_has_started_does_not_become_ready():
    """§5.2.6, §7.3.1: its startup probe stops, and its readiness is not asked for any more."""
    spec = beside("app", startup_probe=probe(period_seconds=1), readiness_probe=probe())
    life = Life(spec, {"c": Run(stops_in=9)}, answers={"c startup": passes_from(4)}).delete(1.5)
    life.run()
    assert life.asked("c/0", "startup") == [0, 1]
    assert life.asked("c/0", "readiness") == []
    assert life.ready() == [(0, False)]
    assert not any(s.container_statuses[0].started for _, s in life.statuses)


def test_readiness_gates_hold_a_pod_back_that_its_probes_call_ready():
    """C27: §1.2.7, §10.4: at the very moment both gates are True, and not one is False again."""
    gates = tuple(v1.PodReadinessGate(condition_type=n) for n in ("x.org/a", "x.org/b"))
    life = Life(pod(container("c", readiness_probe=probe()), readiness_gates=gates))
    for when, gate, status in [
        (10, "x.org/a", "True"),
        (25, "x.org/b", "True"),
        (30, "x.org/a", "False"),
    ]:
        life.tell(when, lambda now, g=gate, s=status: facts.ConditionSet(now, g, s))
    life.run(until=60)
    assert life.ready() == [(0, False), (25, True), (30, False)]
    assert life.condition("ContainersReady").status == "True"
    assert life.condition("Ready").message == (
        'the status of pod readiness gate "x.org/a" is not "True", but False'
    )


# --- liveness ------------------------------------------------------------------------------------


@WHERE
def test_a_container_that_is_not_alive_is_stopped_and_run_again(where):
    """C03, C05, B14: §5.2.16, §7.6.2, §4.2.3: at the first failing attempt, no later."""
    spec = beside(where, liveness_probe=probe(initial_delay_seconds=15, failure_threshold=1))
    life = Life(
        spec,
        answers={"c liveness": fails_from(10)},
        says="HTTP probe failed with statuscode: 500",
    ).run(until=20)
    assert life.asked("c/0", "liveness") == [15]
    assert life.ends == [(15, "c/0", 143)]
    assert [w for w in life.starts if w[1].startswith("c")] == [(0, "c/0"), (15, "c/1")]
    told = [(t, e.message) for t, e in life.events if e.reason in ("Unhealthy", "Killing")]
    assert told == [
        (15, "Liveness probe failed: HTTP probe failed with statuscode: 500"),
        (
            15,
            "Container c failed liveness probe, will be restarted"
            if where == "app"
            else "Init container c failed liveness probe",
        ),
    ]
    assert {e.field_path for _, e in life.events if e.reason == "Killing"} == {place(where)}
    assert life.container("c").restart_count == 1
    last = life.container("c").last_state.terminated
    assert last is not None
    assert (last.reason, last.exit_code) == ("Error", 143)


@WHERE
def test_a_container_that_stays_alive_is_left_alone(where):
    """C04, C06, C08, B14: three periods and more."""
    spec = beside(where, liveness_probe=probe(initial_delay_seconds=15, failure_threshold=1))
    life = Life(spec, answers={"c liveness": PASSES}).run(until=120)
    assert life.asked("c/0", "liveness") == list(range(15, 120, 10))
    assert life.container("c").restart_count == 0
    assert life.said("Killing") == []


def test_the_restart_count_only_grows_and_waits_are_kept():
    """C07: §3.2.10, §3.2.1, §2.4.1: killed by a probe is an end as any other."""
    spec = beside("app", liveness_probe=probe(initial_delay_seconds=5, failure_threshold=1))
    life = Life(spec, answers={"c liveness": FAILS}).run(until=400)
    counts = [s.container_statuses[0].restart_count for _, s in life.statuses]
    assert counts == sorted(counts)
    assert life.waits("c")[:5] == [0, 10, 20, 40, 80]
    assert life.container("c").restart_count >= 5
    assert len(life.said("Killing")) == len(life.ends)


def test_an_answer_that_comes_late_counts_when_it_comes():
    """C09: §5.2.17: a probe that sleeps past its timeout fails when that is over."""
    spec = beside("app", liveness_probe=probe(initial_delay_seconds=15, failure_threshold=1))
    life = Life(spec, answers={"c liveness": FAILS}, slow=1).run(until=20)
    assert life.ends == [(16, "c/0", 143)]
    assert life.starts[-1] == (16, "c/1")


def test_errors_of_a_probe_never_count():
    """C28: §5.2.9, §5.3: told each time, and nothing else comes of them."""
    life = Life(
        beside("app", liveness_probe=probe(failure_threshold=1), readiness_probe=probe()),
        answers={"c liveness": ERRORS, "c readiness": pattern("+!")},
        says='no port "web"',
    ).run(until=55)
    texts = {
        f'{kind} probe errored and resulted in unknown state: no port "web"'
        for kind in ("Liveness", "Readiness")
    }
    assert set(life.said("Unhealthy")) == texts
    assert len(life.said("Unhealthy")) == 11
    assert life.container("c").restart_count == 0
    assert life.ready()[-1] == (0, True)


def test_a_warning_is_told_and_counts_as_a_success():
    """C12: §5.3: a redirect to somebody else."""
    life = Life(beside("app", readiness_probe=probe()), answers={"c readiness": pattern("w")})
    life.run(until=15)
    assert life.ready()[-1] == (0, True)
    assert life.said("ProbeWarning") == ["Readiness probe warning: no"] * 2


def test_failures_of_an_instance_are_not_counted_against_the_next_one():
    """§5.2.12: deliberately not as the kubelet, which would stop the second one at 27."""
    life = Life(
        beside("app", liveness_probe=probe()),
        {"c": [exits(1, 17), Run()]},
        answers={"c liveness": pattern("+-", "--+")},
    ).run(until=100)
    assert life.asked("c/0", "liveness") == [0, 10]
    assert life.asked("c/1", "liveness")[:3] == [17, 27, 37]
    assert life.said("Killing") == []
    assert life.container("c").restart_count == 1


# --- startup -------------------------------------------------------------------------------------


@WHERE
def test_a_container_that_does_not_start_in_time_is_run_again(where):
    """C14, B14: §5.2.15, §5.2.16: at the third failing attempt after the delay."""
    spec = beside(where, startup_probe=probe(initial_delay_seconds=15), liveness_probe=probe())
    life = Life(spec, answers={"c startup": FAILS}).run(until=40)
    assert life.asked("c/0", "startup") == [15, 25, 35]
    assert life.asked("c/0", "liveness") == []
    assert life.ends == [(35, "c/0", 143)]
    assert life.said("Killing") == [
        "Container c failed startup probe, will be restarted"
        if where == "app"
        else "Init container c failed startup probe"
    ]
    assert life.container("c").restart_count == 1
    assert not any(container_status(s, "c").started for _, s in life.statuses)


def test_liveness_is_not_asked_before_startup_has_succeeded():
    """C15: §5.2.8"""
    spec = beside(
        "app",
        startup_probe=probe(failure_threshold=60),
        liveness_probe=probe(failure_threshold=1),
    )
    life = Life(spec, answers={"c startup": FAILS, "c liveness": FAILS}).run(until=240)
    assert life.container("c").restart_count == 0
    assert life.asked("c/0", "liveness") == []
    assert len(life.asked("c/0", "startup")) == 25


def test_liveness_is_asked_as_soon_as_startup_has_succeeded():
    """C16: §5.2.8, §5.2.14: its own delay, counted from the container's start, is long over."""
    spec = beside(
        "app",
        startup_probe=probe(failure_threshold=60),
        liveness_probe=probe(failure_threshold=1, initial_delay_seconds=5),
        readiness_probe=probe(period_seconds=30),
    )
    life = Life(spec, answers={"c startup": passes_from(12), "c liveness": fails_from(12)}).run(
        until=25
    )
    assert life.asked("c/0", "startup") == [0, 10, 20]
    assert life.asked("c/0", "liveness") == [20]
    assert life.asked("c/0", "readiness") == [20]
    assert life.ends == [(20, "c/0", 143)]
    assert life.starts == [(0, "c/0"), (20, "c/1")]


def test_a_pod_is_ready_at_once_when_startup_has_succeeded():
    """C17 in part: §5.2.14, §2.4.2, §2.4.4"""
    spec = beside(
        "app",
        startup_probe=probe(period_seconds=1, failure_threshold=60),
        readiness_probe=probe(period_seconds=30),
    )
    life = Life(spec, answers={"c startup": passes_from(14)}).run(until=100)
    assert life.asked("c/0", "startup") == list(range(15))
    assert life.ready() == [(0, False), (14, True)]
    started = [t for t, s in life.statuses if s.container_statuses[0].started]
    assert started[0] == 14


@pytest.mark.parametrize("kind", ["liveness", "startup"])
def test_the_probes_own_grace_stands_for_the_pods(kind):
    """C18, C19: §5.8: SIGKILL comes 5 s after SIGTERM, not 500."""
    failing = probe(
        initial_delay_seconds=10, failure_threshold=1, termination_grace_period_seconds=5
    )
    spec = pod(container("c", **{f"{kind}_probe": failing}), termination_grace_period_seconds=500)
    life = Life(spec, {"c": STUBBORN}, answers={f"c {kind}": FAILS}).run(until=20)
    assert life.ends == [(15, "c/0", 137)]
    assert life.starts == [(0, "c/0"), (15, "c/1")]
    doing = [(t, type(a).__name__) for t, a in life.actions[2:4]]
    assert doing == [(10, "StopContainer"), (15, "KillContainer")]


# --- the pod around it ---------------------------------------------------------------------------


def test_init_containers_run_one_by_one_before_an_app_that_starts_slowly():
    """A01: §4.1.1, §2.4.2"""
    names = ("init-1", "init-2", "init-3")
    app = container("app", startup_probe=probe(period_seconds=1, failure_threshold=30))
    life = Life(
        pod(app, init=[container(n) for n in names], restart_policy="Never"),
        dict.fromkeys(names, exits(0, 1)) | {"app": exits(0, 10)},
        answers={"app startup": passes_from(5)},
    ).run()
    assert life.starts == [(0, "init-1/0"), (1, "init-2/0"), (2, "init-3/0"), (3, "app/0")]
    assert life.phases == [(0, "Pending"), (3, "Running"), (13, "Succeeded")]
    assert life.ready() == [(0, False), (8, True), (13, False)]
    assert all(life.container(n).restart_count == 0 for n in names)


def test_sidecars_start_one_by_one_each_when_it_says_that_it_has():
    """B02: §4.1.1, §2.4.2"""
    slow = {"startup_probe": probe(period_seconds=1, failure_threshold=30)}
    life = Life(
        pod(init=[sidecar("side1", **slow), sidecar("side2", **slow)]),
        answers={"side1 startup": passes_from(4), "side2 startup": passes_from(3)},
    ).run(until=20)
    assert life.starts == [(0, "side1/0"), (4, "side2/0"), (7, "app/0")]
    assert life.phases == [(0, "Pending"), (7, "Running")]
    for when, status in life.statuses:
        assert container_status(status, "side1").started is (when >= 4)
        assert container_status(status, "side2").started is (when >= 7)
    assert life.condition("Initialized").status == "True"


def test_nothing_starts_behind_a_sidecar_that_never_says_that_it_has_started():
    """B03 without its hook: §4.2.2, §4.2.3, §3.2.10"""
    failing = probe(initial_delay_seconds=5, failure_threshold=1)
    life = Life(
        pod(init=[sidecar("side", startup_probe=failing)]), answers={"side startup": FAILS}
    ).run(until=40)
    assert life.starts == [(0, "side/0"), (5, "side/1"), (20, "side/2")]
    assert life.phases == [(0, "Pending")]
    assert set(life.said("Killing")) == {"Init container side failed startup probe"}
    assert shown(life.container("app")) == "waiting PodInitializing"
    assert life.container("side").restart_count == 2


def test_an_app_starts_beside_a_sidecar_that_is_restarted_for_its_liveness():
    """B04: §4.2.3, §1.1.6: and the pod stays Running."""
    failing = probe(initial_delay_seconds=5, failure_threshold=1)
    life = Life(
        pod(init=[sidecar("side", liveness_probe=failing)]),
        {"side": Run(stops_in=2)},
        answers={"side liveness": FAILS},
    ).run(until=23)
    assert life.starts == [(0, "side/0"), (0, "app/0"), (7, "side/1")]
    assert life.phases == [(0, "Pending"), (0, "Running")]
    assert life.container("app").restart_count == 0
    assert life.ends == [(7, "side/0", 143), (14, "side/1", 143)]


@pytest.mark.parametrize(("code", "phase"), [(143, "Failed"), (0, "Succeeded")])
def test_under_never_a_failed_probe_is_the_end(code, phase):
    """E15: §5.2.16, §7.6.2, §1.1.4: stopped once, and nothing promised."""
    spec = pod(
        container("c", liveness_probe=probe(failure_threshold=1, initial_delay_seconds=3)),
        restart_policy="Never",
    )
    life = Life(spec, {"c": Run(stops_in=1, stop_code=code)}, answers={"c liveness": FAILS}).run()
    assert life.ends == [(4, "c/0", code)]
    assert life.said("Killing") == ["Container c failed liveness probe"]
    assert life.phases[-1] == (4, phase)
    assert life.container("c").restart_count == 0


def test_nobody_waits_while_another_container_is_being_stopped():
    """F11: §3.3, §7.6.3: deliberately not as the kubelet, where b would wait until 13."""
    spec = pod(
        container("a", liveness_probe=probe(initial_delay_seconds=3, failure_threshold=1)), "b"
    )
    life = Life(
        spec,
        {"a": Run(stops_in=10), "b": [exits(1, 5), Run()]},
        answers={"a liveness": pattern("-", "+")},
    ).run(until=30)
    assert life.starts == [(0, "a/0"), (0, "b/0"), (5, "b/1"), (13, "a/1")]


def test_a_container_that_ignores_its_stop_is_still_asked_whether_it_is_ready():
    """§7.6.3: readiness goes on, liveness is on hold."""
    every = probe(period_seconds=1, failure_threshold=1)
    spec = beside("app", liveness_probe=every, readiness_probe=every)
    life = Life(spec, {"c": Run(stops_in=4.5)}, answers={"c liveness": pattern("+-", "+")}).run(
        until=7
    )
    assert life.asked("c/0", "liveness") == [0, 1]
    assert life.asked("c/0", "readiness") == [0, 1, 2, 3, 4, 5]
    assert life.starts == [(0, "c/0"), (5.5, "c/1")]


def test_a_deletion_while_one_container_is_being_stopped():
    """§7.6.1, §7.2.4, §7.2.3: it ends by the earlier deadline and does not run again."""
    spec = beside("app", liveness_probe=probe(initial_delay_seconds=5, failure_threshold=1))
    life = Life(spec, {"c": STUBBORN}, answers={"c liveness": FAILS}).delete(10, 3).run()
    assert life.ends == [(13, "c/0", 137)]
    assert life.said("Killing") == [
        "Container c failed liveness probe, will be restarted",
        "Stopping container c",
    ]
    assert [type(a).__name__ for _, a in life.actions].count("StopContainer") == 1
    assert life.phases[-1] == (13, "Failed")


def test_a_sidecar_that_is_stopped_with_its_pod_is_not_probed_to_death():
    """§7.3.1, §7.4.5: its liveness stops when the pod begins to end."""
    failing = probe(period_seconds=1, failure_threshold=1)
    life = Life(
        pod(init=[sidecar("c", liveness_probe=failing)], restart_policy="Never"),
        {"c": Run(stops_in=5), "app": exits(0, 3.5)},
        answers={"c liveness": fails_from(4)},
    ).run()
    assert life.ends == [(3.5, "app/0", 0), (8.5, "c/0", 143)]
    assert life.said("Unhealthy") == []
    assert life.phases[-1] == (8.5, "Succeeded")


# --- nothing is lost -----------------------------------------------------------------------------


def test_results_and_counters_survive_the_supervisor():
    """§2.4.7, §5.2.4: an adopted pod stays ready, and two failures seen are two failures."""
    every = probe(period_seconds=10)
    spec = beside("app", startup_probe=every, liveness_probe=every, readiness_probe=every)
    life = Life(spec, answers={"c liveness": fails_from(5)}).run(until=25)
    before = decided(life)
    record = life.record
    for fact in life.relist():
        record = observe(record, fact)
    life.record = record
    assert decided(life) == before
    assert life.container("c").ready
    life.run(until=35)
    assert life.said("Killing") == ["Container c failed liveness probe, will be restarted"]
    assert life.asked("c/0", "liveness")[:3] == [0, 10, 20]
    assert 25 <= life.ends[0][0] < 35


def decided(life: Life) -> Any:
    plan = decide(life.record, at(life.now))
    return {(t.id, t.kind) for t in plan.probing}, plan.status, plan.actions


def test_a_kill_that_was_begun_keeps_its_deadline_over_a_crash():
    """§7.6.1: the supervisor comes back 3 s later and kills at the time that was promised."""
    failing = probe(failure_threshold=1, termination_grace_period_seconds=5)
    life = Life(
        beside("app", liveness_probe=failing),
        {"c": STUBBORN},
        answers={"c liveness": pattern("-", "+")},
    ).run(until=3)
    for fact in life.relist():
        life.record = observe(life.record, fact)
    life.run(until=6)
    assert life.ends == [(5, "c/0", 137)]
    assert len(life.said("Killing")) == 1
