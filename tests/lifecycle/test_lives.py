"""Whole lives at exact times: what a user of a pod would see from its first to its last moment."""

from __future__ import annotations

from math import inf

import pytest

from supervisor.lifecycle.facts import ConfigurationChanged, Instant
from supervisor.lifecycle.record import NodePolicy
from tests.lifecycle.lives import (
    FOREVER,
    Life,
    Run,
    container,
    container_status,
    exits,
    pod,
    rule,
    shown,
    sidecar,
)

STUBBORN = Run(stops_in=None)  # ignores SIGTERM


# --- init containers and phases ------------------------------------------------------------------


def test_a_failed_init_container_under_never_fails_the_pod_before_any_app_starts():
    """A02, A12: §4.2.1, §1.1.1, §1.1.4"""
    life = Life(pod(init=[container("init")], restart_policy="Never"), {"init": exits(1, 4)})
    life.run()
    assert life.phases == [(0, "Pending"), (4, "Failed")]
    assert life.starts == [(0, "init/0")]
    assert shown(life.container("init")) == "terminated Error 1"
    assert shown(life.container("app")) == "waiting PodInitializing"


def test_init_containers_run_one_by_one_and_the_pod_succeeds():
    """A04: §4.1.1, §2.4.5, §1.2.5"""
    life = Life(
        pod(init=[container("i1"), container("i2")], restart_policy="Never"),
        {"i1": exits(0, 1), "i2": exits(0, 2), "app": exits(0, 3)},
    ).run()
    assert life.starts == [(0, "i1/0"), (1, "i2/0"), (3, "app/0")]
    assert life.phases == [(0, "Pending"), (3, "Running"), (6, "Succeeded")]
    assert life.condition("Initialized").status == "True"
    for name in ("i1", "i2"):
        assert life.container(name).ready
        assert shown(life.container(name)) == "terminated Completed 0"
    for when, status in life.statuses:
        initialized = next(c for c in status.conditions if c.type == "Initialized")
        assert initialized.status in ("True", "False")
        assert initialized.last_transition_time
        if when < 3:
            assert shown(container_status(status, "app")) == "waiting PodInitializing"


def test_an_app_that_goes_on_after_init_keeps_the_pod_running():
    """A05: §1.1.4, §4.1.2"""
    life = Life(
        pod(init=[container("i1"), container("i2")]), {"i1": exits(0), "i2": exits(0, 1)}
    ).run(until=100)
    assert life.phases == [(0, "Pending"), (1, "Running")]
    assert life.condition("Initialized").status == "True"
    assert life.condition("Ready").status == "True"


def test_the_second_init_container_failing_is_named_as_incomplete():
    """A07: §1.2.5, §4.2.1"""
    life = Life(
        pod(init=[container("init1"), container("init2")], restart_policy="Never"),
        {"init1": exits(0, 1), "init2": exits(1, 1)},
    ).run()
    assert life.phases[-1] == (2, "Failed")
    assert life.condition("Initialized").message == "containers with incomplete status: [init2]"
    assert life.condition("Initialized").reason == "ContainersNotInitialized"
    assert shown(life.container("app")) == "waiting PodInitializing"


def test_app_restarts_never_run_init_containers_again():
    """A08: §4.3.1, §4.3.2"""
    life = Life(
        pod(init=[container("i1"), container("i2"), container("i3")]),
        {"i1": exits(0), "i2": exits(0), "i3": exits(0), "app": exits(1, 2)},
    ).run(until=60)
    assert [who for _, who in life.starts] == [
        "i1/0", "i2/0", "i3/0", "app/0", "app/1", "app/2", "app/3",
    ]  # fmt: skip


def test_an_init_program_that_cannot_be_executed_is_a_start_error():
    """A10: §2.3, §4.2.1. No process of the pod ever ran."""
    life = Life(
        pod(init=[container("init")], restart_policy="Never"),
        {"init": Run(broken='exec: "no-such": executable file not found in $PATH')},
    ).run()
    assert life.phases == [(0, "Pending"), (0, "Failed")]
    assert life.starts == []
    ended = life.container("init").state.terminated
    assert ended is not None
    assert (ended.reason, ended.exit_code) == ("StartError", 128)
    assert ended.started_at == "1970-01-01T00:00:00Z"
    assert "executable file not found" in ended.message


def test_no_second_sandbox_is_made_when_everything_is_done():
    """A13: §4.3.3 without a reboot: nothing is recreated."""
    life = Life(
        pod(init=[container("init")], restart_policy="OnFailure"),
        {"init": exits(0), "app": exits(0)},
    ).run()
    assert life.phases[-1][1] == "Succeeded"
    assert [type(a).__name__ for _, a in life.actions].count("CreateSandbox") == 1
    assert life.said("SandboxChanged") == []


def test_the_pod_fails_only_when_the_last_of_its_apps_has_ended():
    """A15: §1.1.5, §1.2.6, §1.1.3"""
    life = Life(
        pod("bad", "good", restart_policy="Never"), {"bad": exits(1), "good": exits(0, 3)}
    ).run()
    assert life.phases == [(0, "Pending"), (0, "Running"), (3, "Failed")]
    between = [s for t, s in life.statuses if t < 3][-1]
    ready = {c.type: c for c in between.conditions}
    assert ready["ContainersReady"].reason == "ContainersNotReady"
    assert ready["ContainersReady"].message == "containers with unready status: [bad]"
    assert ready["Ready"].reason == "ContainersNotReady"
    assert life.condition("ContainersReady").reason == "PodFailed"
    assert life.condition("Ready").reason == "PodFailed"


def test_the_conditions_of_a_succeeded_pod():
    """A16: §1.2.1, §1.2.2, §1.2.4, §1.2.5, §1.2.6, §1.2.7"""
    life = Life(pod(restart_policy="Never"), {"app": exits(0, 2.5)}).run()
    assert [(c.type, c.status, c.reason) for c in life.status.conditions] == [
        ("PodReadyToStartContainers", "False", ""),
        ("Initialized", "True", "PodCompleted"),
        ("Ready", "False", "PodCompleted"),
        ("ContainersReady", "False", "PodCompleted"),
        ("PodScheduled", "True", ""),
    ]
    assert all(c.last_probe_time is None for c in life.status.conditions)
    assert life.condition("Ready").last_transition_time == "2027-01-15T08:00:02Z"
    assert life.condition("PodScheduled").last_transition_time == "2027-01-15T08:00:00Z"


# --- sidecars ------------------------------------------------------------------------------------


def test_sidecars_start_between_the_init_containers_and_go_on_beside_the_app():
    """B01: §4.1.1, §7.5"""
    life = Life(
        pod(
            init=[
                container("init1"),
                sidecar("side1"),
                container("init2"),
                sidecar("side2"),
                container("init3"),
            ],
            restart_policy="Never",
        ),
        {f"init{n}": exits(0, 1) for n in (1, 2, 3)} | {"app": exits(0, 5)},
    ).run()
    assert life.starts == [
        (0, "init1/0"),
        (1, "side1/0"),
        (1, "init2/0"),
        (2, "side2/0"),
        (2, "init3/0"),
        (3, "app/0"),
    ]
    assert life.ends[3:] == [(8, "app/0", 0), (8, "side2/0", 143), (8, "side1/0", 143)]
    assert life.phases == [(0, "Pending"), (3, "Running"), (8, "Succeeded")]


def test_a_sidecar_behind_a_failing_init_container_never_starts():
    """B05: §4.2.1, §3.1.7: under Always the pod stays Pending and tries again."""
    life = Life(pod(init=[container("init"), sidecar("side")]), {"init": exits(1, 1)}).run(until=75)
    assert life.phases == [(0, "Pending")]
    assert life.container("init").restart_count == 4
    assert {who for _, who in life.starts if who.startswith(("side", "app"))} == set()


def test_a_crashing_sidecar_and_a_failing_init_container_restart_side_by_side():
    """B06: §4.2.4, §4.2.2"""
    life = Life(
        pod(init=[sidecar("side"), container("init")]),
        {"side": exits(1, 5), "init": exits(1, 1)},
    ).run(until=300)
    assert life.phases == [(0, "Pending")]
    assert life.waits("side")[:4] == [0, 10, 20, 40]
    assert life.waits("init")[:4] == [0, 10, 20, 40]
    assert not any(who.startswith("app") for _, who in life.starts)


def test_sidecars_end_in_reverse_order_after_the_apps():
    """B07: §7.4.1, §4.3.5, §7.5"""
    slow = Run(stops_in=5, stop_code=0)
    life = Life(
        pod(init=[sidecar("s1"), sidecar("s2"), sidecar("s3")], restart_policy="Never"),
        {"s1": slow, "s2": slow, "s3": slow, "app": exits(0, 5)},
    ).run()
    assert [who for _, who in life.starts] == ["s1/0", "s2/0", "s3/0", "app/0"]
    assert life.ends == [(5, "app/0", 0), (10, "s3/0", 0), (15, "s2/0", 0), (20, "s1/0", 0)]
    assert life.phases[-1] == (20, "Succeeded")
    assert life.phases[-2][1] == "Running"


def test_a_sidecar_that_must_be_killed_does_not_spoil_the_success():
    """B16: §1.1.5, §7.4.4"""
    life = Life(
        pod(init=[sidecar("side")], restart_policy="Never"),
        {"side": STUBBORN, "app": exits(0, 1)},
    ).run()
    assert life.ends == [(1, "app/0", 0), (31, "side/0", 137)]
    assert life.phases[-1] == (31, "Succeeded")


def test_a_sidecar_runs_again_after_any_exit_while_the_app_runs():
    """B17: §3.1.6, §1.1.6, §1.2.5"""
    life = Life(
        pod(init=[sidecar("side")], restart_policy="Never"),
        {"side": [exits(0, 5), exits(0, 5), FOREVER], "app": exits(0, 60)},
    ).run()
    assert life.starts == [(0, "side/0"), (0, "app/0"), (5, "side/1"), (20, "side/2")]
    running = [s for t, s in life.statuses if 0 < t < 60]
    assert {s.phase for s in running} == {"Running"}
    for status in running:
        assert next(c for c in status.conditions if c.type == "Initialized").status == "True"
    assert life.phases[-1] == (60, "Succeeded")


def test_a_sidecar_that_was_never_seen_to_start_blocks_those_after_it():
    """§4.2.2, §1.1.2"""
    life = Life(
        pod(init=[sidecar("side"), container("init")]),
        {"side": [Run(broken="no such file"), Run(broken="no such file"), FOREVER]},
    ).run(until=30)
    assert life.starts == [(10, "side/2"), (10, "init/0")]
    assert life.phases == [(0, "Pending")]


def test_an_earlier_sidecar_that_is_down_does_not_hold_up_the_next_init_container():
    """§4.2.4: how far init has come is told by the last container that was made."""
    life = Life(
        pod(init=[sidecar("side"), container("init1"), container("init2")]),
        {"side": exits(1, 1), "init1": exits(0, 5), "init2": exits(0, 1)},
    ).run(until=8)
    assert life.starts == [
        (0, "side/0"), (0, "init1/0"), (1, "side/1"), (5, "init2/0"), (6, "app/0"),
    ]  # fmt: skip


# --- termination and deletion --------------------------------------------------------------------


def test_a_process_that_ignores_sigterm_is_killed_at_the_end_of_the_grace_period():
    """E01: §7.2.2, §7.3.2, §2.3.1"""
    life = Life(pod(), {"app": STUBBORN}).delete(10).run()
    assert life.ends == [(40, "app/0", 137)]
    assert life.phases[-1] == (40, "Failed")
    assert shown(life.container("app")) == "terminated Error 137"


@pytest.mark.parametrize(
    ("grace", "end"), [(-30, 12), (-1, 12), (0, 12), (1, 12), (2, 12), (3, 13), (30, 40)]
)
def test_the_grace_of_the_spec_is_at_least_one_second_and_sigkill_two_after_sigterm(grace, end):
    """E04: §7.1.2, §7.2.1, §7.2.2"""
    life = Life(pod(termination_grace_period_seconds=grace), {"app": STUBBORN}).delete(10).run()
    assert life.ends == [(end, "app/0", 137)]


def test_deleting_a_crash_looping_pod_ends_it_at_once():
    """E08: §3.1.1, §1.1.10. No container runs, so there is nothing to wait for."""
    life = Life(pod(), {"app": exits(1, 1)}).delete(15).run()
    assert life.now == 15
    assert life.phases[-1] == (15, "Failed")
    assert shown(life.container("app")) == "terminated Error 1"
    assert life.container("app").restart_count == 2


@pytest.mark.parametrize(("code", "phase"), [(0, "Succeeded"), (143, "Failed")])
def test_how_a_deleted_pod_ended_follows_from_its_exit_codes(code, phase):
    """E14: §1.1.10, §1.1.4, §2.3"""
    life = Life(pod(), {"app": Run(stops_in=2, stop_code=code)}).delete(5).run()
    assert life.phases[1:] == [(0, "Running"), (7, phase)]
    reason = "Completed" if code == 0 else "Error"
    assert shown(life.container("app")) == f"terminated {reason} {code}"


def test_a_pod_deleted_before_anything_ran_ends_failed():
    """E12: §1.1.10, §1.1.11"""
    life = Life(pod(), {"app": Run(refused='configmap "settings" not found')}).delete(5).run()
    assert life.phases == [(0, "Pending"), (5, "Failed")]
    ended = life.container("app").state.terminated
    assert ended is not None
    assert (ended.reason, ended.exit_code, ended.message) == (
        "ContainerStatusUnknown",
        137,
        "The container could not be located when the pod was terminated",
    )


def test_a_container_stays_ready_until_it_ends_and_the_sandbox_goes_last():
    """§7.3.1, §7.3.3, §7.3.4: nothing is said of a pod that is ending but what is true."""
    life = Life(pod(), {"app": Run(stops_in=4, stop_code=0)}).delete(10).run(until=13)
    assert life.container("app").ready
    assert (life.status.phase, life.condition("Ready").status) == ("Running", "True")
    assert life.condition("PodReadyToStartContainers").status == "True"
    life.run()
    assert not life.container("app").ready
    assert (life.status.phase, life.condition("Ready").status) == ("Succeeded", "False")
    assert life.condition("PodReadyToStartContainers").status == "False"
    assert type(life.actions[-1][1]).__name__ == "FinishPod"


def test_apps_that_use_up_the_grace_leave_sidecars_two_seconds():
    """§7.4.2, §7.4.4"""
    life = (
        Life(
            pod(init=[sidecar("s1"), sidecar("s2")], termination_grace_period_seconds=10),
            {"app": STUBBORN, "s1": STUBBORN, "s2": Run(stops_in=1)},
        )
        .delete(100)
        .run()
    )
    # At the deadline app is killed, so the sidecars' turn and their last call come together.
    assert life.ends == [(110, "app/0", 137), (111, "s2/0", 143), (112, "s1/0", 137)]


def test_a_pod_deleted_while_it_initialises_stops_everything_that_runs():
    """§7.4.3, §7.3.2: a regular init container waits for nobody."""
    life = (
        Life(pod(init=[sidecar("side"), container("init")]), {"init": Run(stops_in=3)})
        .delete(10)
        .run()
    )
    assert life.ends == [(10, "side/0", 143), (13, "init/0", 143)]
    assert life.phases == [(0, "Pending"), (13, "Failed")]
    assert shown(life.container("app")) == "waiting PodInitializing"


def test_sidecars_that_end_during_termination_stay_down():
    """§7.4.5, §7.2.3"""
    life = (
        Life(pod(init=[sidecar("side")]), {"app": Run(stops_in=20), "side": exits(1, 15)})
        .delete(10)
        .run()
    )
    assert life.ends == [(15, "side/0", 1), (30, "app/0", 143)]
    assert [who for _, who in life.starts] == ["side/0", "app/0"]


def test_a_shorter_grace_applies_to_the_running_termination():
    """§7.2.4 (better than the kubelet), §7.1.3"""
    life = Life(pod(), {"app": STUBBORN}).delete(10).delete(15, 3).delete(16, 20).run()
    assert life.ends == [(18, "app/0", 137)]
    meta = life.record.pod.metadata
    assert meta.deletion_grace_period_seconds == 3
    assert meta.deletion_timestamp == "2027-01-15T08:00:13Z"  # from the first request on


def test_kill_does_not_wait_for_anything():
    """§7.2.2: the one way to end a pod without SIGTERM and two seconds."""
    life = (
        Life(pod(init=[sidecar("side")]), {"app": STUBBORN, "side": STUBBORN})
        .delete(10)
        .delete(11, 1)
        .delete(11.5, kill=True)
        .run()
    )
    assert [(t, code) for t, _, code in life.ends] == [(11.5, 137), (11.5, 137)]


def test_a_container_that_was_being_started_when_the_deletion_came_is_stopped():
    """§7.2.3, §7.3.2"""
    life = Life(pod(), {"app": Run(stops_in=1)}, latency=2).delete(3).run()
    # sandbox 0..2, the start is asked for at 2 and answered at 4
    assert life.starts == [(2, "app/0")]
    assert life.ends == [(5, "app/0", 143)]
    assert life.phases[-1][1] == "Failed"


def test_sigkill_is_sent_again_while_the_end_does_not_come():
    """§7.2.2. Every few seconds, and visibly."""
    life = Life(pod(), {"app": Run(stops_in=None, unkillable=12)}).delete(1, 2).run()
    kills = [t for t, a in life.actions if type(a).__name__ == "KillContainer"]
    assert kills == [3, 8, 13]
    assert (
        life.said("FailedKillPod")
        == ["error killing pod: container app still runs 5s after SIGKILL"] * 2
    )
    assert life.now == 15


def test_a_pod_that_is_active_too_long_fails_and_stays():
    """E06: §7.7, §1.1.8, §1.1.9"""
    life = Life(pod(active_deadline_seconds=5), {"app": Run(stops_in=3, stop_code=0)}).run()
    assert life.phases == [(0, "Pending"), (0, "Running"), (8, "Failed")]
    assert life.status.reason == "DeadlineExceeded"
    assert life.status.message == ("Pod was active on the node longer than the specified deadline")
    assert life.ends == [(8, "app/0", 0)]
    stopping = next(s for t, s in life.statuses if t == 5)
    ready = {c.type: (c.status, c.reason) for c in stopping.conditions}
    assert (stopping.phase, stopping.reason) == ("Running", "")
    assert ready["Ready"] == ready["ContainersReady"] == ("False", "PodFailed")
    told = [e for _, e in life.events if e.reason == "DeadlineExceeded"]
    assert [(e.type, e.message) for e in told] == [("Normal", life.status.message)]
    assert life.record.pod.metadata.deletion_timestamp is None


def test_the_active_deadline_counts_init_and_restarts_and_ends_a_back_off():
    """§7.7"""
    life = Life(pod(active_deadline_seconds=25), {"app": exits(1, 1)}).run()
    assert life.now == 25
    assert life.phases[-1] == (25, "Failed")
    assert life.status.reason == "DeadlineExceeded"


def test_a_deletion_after_the_active_deadline_only_shortens():
    """§7.7, §7.2.1"""
    life = Life(pod(active_deadline_seconds=5), {"app": STUBBORN}).delete(10, 4).run()
    assert life.ends == [(14, "app/0", 137)]
    assert life.status.reason == "DeadlineExceeded"


# --- restart and back-off ------------------------------------------------------------------------


def test_a_failing_container_runs_again_and_its_runs_do_not_overlap():
    """F01: §3.2.1, §3.2.2, §3.2.8: at the very end of the wait."""
    life = Life(pod(), {"app": exits(1, 3)}).run(until=60)
    assert life.starts == [(0, "app/0"), (3, "app/1"), (16, "app/2"), (39, "app/3")]


def test_the_back_off_doubles_from_ten_seconds_and_stays_at_five_minutes():
    """F03: §3.2.1"""
    life = Life(pod(), {"app": exits(1, 1)}).run(until=3000)
    assert life.waits("app")[:10] == [0, 10, 20, 40, 80, 160, 300, 300, 300, 300]


def test_a_container_that_succeeds_under_always_also_backs_off():
    """F05: §3.2.5, §2.2, §1.1.5"""
    life = Life(pod(), {"app": exits(0, 1)}).run(until=40)
    assert life.waits("app") == [0, 10, 20]
    life = Life(pod(), {"app": exits(0, 1)}).run(until=5)
    status = life.container("app")
    assert shown(status) == "waiting CrashLoopBackOff"
    assert status.last_state.terminated is not None
    assert status.last_state.terminated.reason == "Completed"
    assert status.restart_count == 1
    assert life.phases[-1][1] == "Running"


def test_a_back_off_is_shown_until_the_next_instance_runs():
    """§2.1.4: also while that is being started; the first crash shows no back-off at all."""
    life = Life(pod(), {"app": [exits(1, 1), exits(1, 1), FOREVER]}, latency=0.5).run(until=60)
    states = [shown(container_status(status, "app")) for _, status in life.statuses]
    assert list(dict.fromkeys(zip(states, [*states[1:], ""], strict=True))) == [
        ("waiting ContainerCreating", "waiting ContainerCreating"),
        ("waiting ContainerCreating", "running"),
        ("running", "terminated Error 1"),
        ("terminated Error 1", "running"),
        ("running", "waiting CrashLoopBackOff"),
        ("waiting CrashLoopBackOff", "running"),
        ("running", ""),
    ]
    assert [t for t, a in life.actions if type(a).__name__ == "StartContainer"] == [0.5, 1.5, 12.5]


def test_a_rule_of_the_container_restarts_it_in_a_pod_that_never_does():
    """F07: §3.1.2, §3.1.4"""
    app = container("app", restart_policy="Never", restart_policy_rules=(rule("In", 42),))
    life = Life(pod(app, restart_policy="Never"), {"app": [exits(42, 1), exits(1, 1)]}).run()
    assert life.starts == [(0, "app/0"), (1, "app/1")]
    assert life.phases[-1] == (2, "Failed")
    assert life.container("app").restart_count == 1


def test_the_first_matching_rule_decides_and_notin_is_its_opposite():
    """F08: §3.1.2"""
    app = container("app", restart_policy="Never", restart_policy_rules=(rule("NotIn", 1, 2),))
    life = Life(
        pod(app, restart_policy="Always"), {"app": [exits(3, 1), exits(0, 1), exits(2, 1)]}
    ).run()
    assert [code for _, _, code in life.ends] == [3, 0, 2]
    assert life.phases[-1][1] == "Failed"


def test_an_init_container_that_may_not_restart_fails_a_pod_that_always_does():
    """F09: §3.1.5, §3.1.2"""
    init = container("init", restart_policy="Never")
    life = Life(pod(init=[init]), {"init": exits(1, 1)}).run()
    assert life.phases[-1] == (1, "Failed")


def test_an_app_that_may_not_restart_stays_down_beside_one_that_does():
    """F09: §3.1.2, §1.1.5"""
    life = Life(
        pod(container("once", restart_policy="Never"), "again", restart_policy="OnFailure"),
        {"once": exits(1, 1), "again": exits(1, 1)},
    ).run(until=60)
    assert life.container("once").restart_count == 0
    assert life.container("again").restart_count > 1
    assert life.phases[-1][1] == "Running"


def test_onfailure_restarts_until_the_first_success():
    """§3.1.3"""
    life = Life(
        pod(restart_policy="OnFailure"), {"app": [exits(1, 1), exits(1, 1), exits(0, 1)]}
    ).run()
    assert [code for _, _, code in life.ends] == [1, 1, 0]
    assert life.phases[-1] == (13, "Succeeded")


def test_a_container_that_ran_longer_than_ten_minutes_starts_its_back_off_anew():
    """§3.2.4: the end must be more than 600 s after the decision to start."""
    script = [exits(1, 1), exits(1, 1), exits(1, 1), exits(1, 600.001), exits(1, 1), FOREVER]
    life = Life(pod(), {"app": script}).run(until=2000)
    assert life.waits("app") == [0, 10, 20, 0, 10]
    script[3] = exits(1, 600)
    life = Life(pod(), {"app": script}).run(until=2000)
    assert life.waits("app") == [0, 10, 20, 40, 80]


def test_the_reset_does_not_follow_a_lower_cap():
    """§3.2.4, §3.2.9"""
    policy = NodePolicy(node_name="here", backoff_initial=1, backoff_max=3)
    life = Life(pod(), {"app": exits(1, 20)}, policy=policy).run(until=150)
    assert life.waits("app")[:5] == [0, 1, 2, 3, 3]


def test_every_container_backs_off_for_itself():
    """§3.2.6, §3.3: a restart of one does not wait for another."""
    life = Life(
        pod("one", "two", init=[sidecar("side")]),
        {"one": exits(1, 1), "two": exits(0, 3), "side": exits(1, 7)},
    ).run(until=200)
    assert life.waits("one")[:4] == [0, 10, 20, 40]
    assert life.waits("two")[:4] == [0, 10, 20, 40]
    assert life.waits("side")[:4] == [0, 10, 20, 40]


def test_a_start_that_is_refused_is_tried_every_ten_seconds_without_using_an_attempt():
    """§2.4.1, §3.2.11, §2.2"""
    no = Run(refused='configmap "settings" not found')
    life = Life(pod("bad", "good"), {"bad": no}).run(until=25)
    status = life.container("bad")
    assert shown(status) == "waiting CreateContainerConfigError"
    assert status.state.waiting is not None
    assert status.state.waiting.message == 'configmap "settings" not found'
    assert status.restart_count == 0
    tries = [t for t, a in life.actions if getattr(getattr(a, "id", None), "name", "") == "bad"]
    assert tries == [0, 10, 20]
    assert life.said("Failed") == ['Error: configmap "settings" not found'] * 3
    assert life.starts == [(0, "good/0")]
    assert life.phases == [(0, "Pending")]


def test_a_container_that_waits_for_its_configuration_starts_when_it_appears():
    """H18: §9.1.4; a change that does not bring it is one more try, and no attempt is used up."""
    no = Run(refused='configmap "settings" not found')
    life = Life(pod(), {"app": no})

    def appears(now: Instant) -> ConfigurationChanged:
        life.script["app"] = FOREVER
        return ConfigurationChanged(now)

    life.tell(13, ConfigurationChanged).tell(17, appears).run(until=30)
    tries = [t for t, a in life.actions if type(a).__name__ == "StartContainer"]
    assert tries == [0, 10, 13, 17]
    assert life.phases == [(0, "Pending"), (17, "Running")]
    assert life.container("app").restart_count == 0
    assert len(life.said("Failed")) == 3


def test_changed_configuration_shortens_no_back_off_and_restarts_nothing():
    """§9.1.7, §3.2.1"""
    script = {"bad": exits(1, 1), "good": FOREVER}
    life = Life(pod("bad", "good"), script)
    for when in range(1, 40):
        life.tell(when + 0.5, ConfigurationChanged)
    life.run(until=35)
    assert life.waits("bad") == [0, 10, 20]
    assert [who for _, who in life.starts if who.startswith("good")] == ["good/0"]


def test_a_start_error_uses_an_attempt_and_backs_off_like_any_failure():
    """§2.3, §3.2.1, §2.2"""
    life = Life(pod(), {"app": Run(broken="permission denied")}).run(until=45)
    tries = [t for t, a in life.actions if type(a).__name__ == "StartContainer"]
    assert tries == [0, 0, 10, 30]
    status = life.container("app")
    assert status.restart_count == 3
    assert shown(status) == "waiting CrashLoopBackOff"
    assert life.said("Failed") == ["Error: permission denied"] * 4


def test_what_fails_on_our_side_is_said_and_tried_again_after_ten_seconds():
    """§3.2.11, §11.2"""

    def failing(action, now):
        kind = type(action).__name__
        return f"{kind} is out of order" if now < 5 or 30 <= now < 35 else ""

    life = Life(pod(), {"app": Run(stops_in=1)}, failing=failing).delete(30).run()
    assert life.starts == [(10, "app/0")]
    assert life.said("FailedCreatePodSandBox") == [
        "Failed to create pod sandbox: CreateSandbox is out of order"
    ]
    assert life.said("FailedKillPod") == ["error killing pod: StopContainer is out of order"]
    assert life.ends == [(41, "app/0", 143)]


def test_a_stop_that_never_succeeds_does_not_keep_the_kill_away():
    """§7.2.2, §3.2.11"""

    def failing(action, now):
        return "gone" if type(action).__name__ == "StopContainer" else ""

    life = Life(pod(), {"app": FOREVER}, failing=failing).delete(10, 15).run()
    assert life.ends == [(27, "app/0", 137)]


def test_apps_start_one_after_the_other_and_a_failing_start_stops_nobody():
    """§4.1.2"""
    life = Life(pod("a", "b", "c"), {"b": Run(broken="no such file")}, latency=0.25).run(until=2)
    tries = [(t, a.id.name) for t, a in life.actions if type(a).__name__ == "StartContainer"]
    assert tries[:4] == [(0.25, "a"), (0.5, "b"), (0.75, "b"), (1.0, "c")]
    assert life.container("c").state.running is not None


def test_the_terminated_reason_of_a_failing_command():
    """G08: §2.3"""
    life = Life(pod(restart_policy="Never"), {"app": exits(1, 1)}).run()
    ended = life.container("app").state.terminated
    assert ended is not None
    assert ended.reason == "Error"
    assert ended.signal == 0


# --- events --------------------------------------------------------------------------------------


def test_a_happy_pod_says_pulled_created_started_for_each_container():
    """I07: §11.2, §11.1"""
    life = Life(
        pod(
            container("app", image="registry/app:1"),
            init=[container("init")],
            restart_policy="Never",
        ),
        {"init": exits(0, 1), "app": exits(0, 1)},
    ).run()
    assert life.story() == [
        "Scheduled",
        "Pulled spec.initContainers{init}",
        "Created spec.initContainers{init}",
        "Started spec.initContainers{init}",
        "Pulled spec.containers{app}",
        "Created spec.containers{app}",
        "Started spec.containers{app}",
    ]
    assert life.events[0][1].component == "default-scheduler"
    assert life.said("Scheduled") == ["Successfully assigned shop/web to here"]
    assert life.said("Pulled")[1] == (
        'Container image "registry/app:1" already present on machine and can be accessed by the pod'
    )
    assert life.said("Created") == ["Container created"] * 2
    assert life.said("Started") == ["Container started"] * 2
    assert {e.type for _, e in life.events} == {"Normal"}
    assert {e.component for _, e in life.events[1:]} == {"kubelet"}


def test_each_back_off_is_said_once():
    """§3.2.7, §11.2"""
    life = Life(pod("app", "other"), {"app": exits(1, 1), "other": exits(0, 0.3)}).run(until=33)
    assert [t for t, e in life.events if e.reason == "BackOff" and "{app}" in e.field_path] == [
        2, 13,
    ]  # fmt: skip
    assert set(life.said("BackOff")) == {
        "Back-off restarting failed container app in pod web_shop(u-1)",
        "Back-off restarting failed container other in pod web_shop(u-1)",
    }


def test_stopping_is_said_of_every_running_container_at_once():
    """§7.3.2, §11.2"""
    life = (
        Life(
            pod("one", "two", init=[sidecar("side")]),
            {"one": exits(1, 1000), "two": Run(stops_in=4)},
        )
        .delete(10)
        .run()
    )
    killing = [(t, e.field_path, e.message) for t, e in life.events if e.reason == "Killing"]
    assert killing == [
        (10, "spec.initContainers{side}", "Stopping container side"),
        (10, "spec.containers{one}", "Stopping container one"),
        (10, "spec.containers{two}", "Stopping container two"),
    ]


def test_a_life_without_an_end_stays_quiet():
    """§3.2.11: there is no periodic resync; nothing happens when nothing is to be done."""
    life = Life(pod()).run(until=10_000)
    assert life.plan is not None
    assert life.plan.wake_at is None
    assert len(life.statuses) <= 4
    assert inf not in [t for t, _ in life.statuses]
