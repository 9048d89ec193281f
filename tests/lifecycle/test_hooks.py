"""Whole lives of pods with hooks, at exact times."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
from msgspec.structs import replace

from supervisor.api import v1
from supervisor.lifecycle import facts, hooks, reasons
from supervisor.lifecycle.decide import decide, waiting_for, waiting_for_start
from supervisor.lifecycle.facts import HookKind, HookTarget, StopContainer
from supervisor.lifecycle.hooks import HookEnd
from supervisor.lifecycle.record import Committed, Kill, KillCause, PodRecord, observe
from tests.lifecycle.lives import (
    BOOT,
    FAILS,
    FOREVER,
    HOOK_SAYS,
    HTTP,
    Life,
    Play,
    Run,
    at,
    container,
    exits,
    fails_from,
    pod,
    post_start,
    pre_stop,
    probe,
    shown,
    sidecar,
)
from tests.lifecycle.records import NOW, ended, ending, in_words, instance, record, running

DEAF = Run(stops_in=None)
BOTH = {
    "lifecycle": v1.Lifecycle(
        post_start=v1.LifecycleHandler(exec=v1.ExecAction(command=("hook",))),
        pre_stop=v1.LifecycleHandler(exec=v1.ExecAction(command=("hook",))),
    )
}


def states(life: Life, name: str) -> list[tuple[float, str]]:
    """The states shown of a container, each with the time of its beginning."""
    seen: list[tuple[float, str]] = []
    for when, status in life.statuses:
        for c in (*status.init_container_statuses, *status.container_statuses):
            if c.name == name and (not seen or seen[-1][1] != shown(c)):
                seen.append((when, shown(c)))
    return seen


def signals(life: Life) -> list[tuple[float, str]]:
    """Stop signals and kills, as they were asked for."""
    return [
        (round(t, 6), in_words((a,))[0])
        for t, a in life.actions
        if isinstance(a, (StopContainer, facts.KillContainer))
    ]


# --- postStart -----------------------------------------------------------------------------------


def test_a_container_is_not_seen_running_before_its_post_start_has_ended():
    """§2.4.3, §6.1.1, §6.1.2; D20: nor started, nor probed."""
    app = container("app", **post_start(), readiness_probe=probe(), liveness_probe=probe())
    life = Life(pod(app), plays={"app postStart": Play(lasts=5)}).run(until=6)
    assert life.hooks_of("app/0") == [(0, "postStart begins"), (5, "postStart ends")]
    assert states(life, "app") == [(0, "waiting ContainerCreating"), (5, "running")]
    assert {t for t, status in life.statuses if status.container_statuses[0].started} == {5}
    assert life.asked("app/0", "readiness")[0] == life.asked("app/0", "liveness")[0] == 5
    assert life.phases == [(0, "Pending"), (5, "Running")]


def test_the_next_container_starts_when_the_post_start_of_the_one_before_has_ended():
    """§4.1.2, §3.3; D07"""
    life = Life(
        pod(container("one", **post_start()), "two"), plays={"one postStart": Play(lasts=5)}
    ).run(until=6)
    assert life.starts == [(0, "one/0"), (5, "two/0")]


def test_init_containers_have_ended_before_a_post_start_begins():
    """§6.1.1; A03"""
    app = container("app", **post_start())
    life = Life(pod(app, init=[container("first")]), {"first": exits(0, after=2)}).run(until=3)
    assert life.ends == [(2, "first/0", 0)]
    assert life.hooks_of("app/0")[0] == (2, "postStart begins")


def test_a_failed_post_start_stops_the_container_which_is_then_restarted():
    """§6.1.3, §2.2, §3.2.10, §7.6.2, §6.2.1: its preStop runs, the reason is PostStartHookError"""
    life = Life(
        pod(container("app", **BOTH)),
        {"app": Run(stops_in=1)},
        plays={"app postStart": Play(lasts=2, ok=False), "app preStop": Play(lasts=3)},
    ).run(until=8.5)
    assert life.hooks_of("app/0") == [
        (0, "postStart begins"),
        (2, "postStart fails"),
        (2, "preStop begins"),
        (5, "preStop ends"),
    ]
    assert signals(life)[0] == (5, "stop app/0")
    assert states(life, "app")[:3] == [
        (0, "waiting ContainerCreating"),
        (2, "waiting PostStartHookError"),
        (6, "waiting ContainerCreating"),
    ]
    [waiting] = {
        s.container_statuses[0].state.waiting.message
        for _, s in life.statuses
        if s.container_statuses[0].state.waiting
        and s.container_statuses[0].state.waiting.reason == "PostStartHookError"
    }
    assert waiting == HOOK_SAYS
    assert life.said("FailedPostStartHook")[0] == "PostStartHook failed"
    assert life.said("Killing")[0] == "FailedPostStartHook"
    assert life.starts == [(0, "app/0"), (6, "app/1")]


def test_a_failed_post_start_is_still_the_reason_while_nothing_is_waited_for():
    """§2.2: until the next instance is made"""
    app = container("app", **post_start())
    known = record(
        pod(app),
        app=ended(143, hook_error=HOOK_SAYS) | {"refusal": None},
        fields={"in_flight": frozenset({facts.StartContainer(instance("app", 1))})},
    )
    [status] = decide(known, NOW).status.container_statuses
    assert shown(status) == "waiting PostStartHookError"
    assert status.last_state.terminated is not None
    never = record(pod(app, restart_policy="Never"), app=ended(143, hook_error=HOOK_SAYS))
    [status] = decide(never, NOW).status.container_statuses
    assert shown(status) == "terminated Error 143"


def test_a_container_stopped_for_its_post_start_ends_a_pod_that_never_restarts():
    """§6.1.3, §2.3"""
    life = Life(
        pod(container("app", **post_start()), restart_policy="Never"),
        plays={"app postStart": Play(ok=False)},
    ).run()
    assert life.status.phase == "Failed"
    assert shown(life.container("app")) == "terminated Error 143"


def test_a_failed_post_start_does_not_keep_other_containers_from_starting():
    """§4.1.2, §6.1.3"""
    life = Life(
        pod(container("one", **post_start()), "two"),
        {"one": DEAF},
        plays={"one postStart": Play(lasts=1, ok=False)},
    ).run(until=5)
    assert life.starts == [(0, "one/0"), (1, "two/0")]


def test_a_sidecar_whose_post_start_fails_holds_back_what_comes_after_it():
    """§4.1.4, §4.1.1: it is restarted; the next containers wait for an instance that passes"""
    side = sidecar("side", **post_start())
    life = Life(pod("app", init=[side]), plays={"side postStart": Play(lasts=1, ok=False)}).run(
        until=0.5
    )
    life.plays["side postStart"] = Play(lasts=1)
    life.run(until=4)
    assert life.starts == [(0, "side/0"), (1, "side/1"), (2, "app/0")]
    assert life.phases == [(0, "Pending"), (2, "Running")]
    assert life.said("Killing") == ["FailedPostStartHook"]


def test_a_sidecar_counts_as_started_when_its_post_start_has_ended():
    """§4.1.1"""
    side = sidecar("side", **post_start())
    life = Life(pod("app", init=[side]), plays={"side postStart": Play(lasts=4)}).run(until=5)
    assert life.starts == [(0, "side/0"), (4, "app/0")]
    assert life.condition("Initialized").status == "True"


def test_every_new_instance_gets_its_post_start():
    """§6.1.4"""
    life = Life(pod(container("app", **post_start())), {"app": [exits(1, 5), FOREVER]}).run(until=6)
    assert [w for _, w in life.hooked] == [
        "app/0 postStart begins",
        "app/0 postStart ends",
        "app/1 postStart begins",
        "app/1 postStart ends",
    ]


def test_a_container_that_ends_during_its_post_start_fails_it():
    """§6.1.5: and is restarted by its policy, as if by itself"""
    life = Life(
        pod(container("app", **post_start()), restart_policy="OnFailure"),
        {"app": exits(0, 2)},
        plays={"app postStart": Play(lasts=9)},
    ).run()
    assert life.hooks_of("app/0") == [(0, "postStart begins"), (2, "postStart fails")]
    assert life.said("FailedPostStartHook") == ["PostStartHook failed"]
    assert life.status.phase == "Succeeded"
    assert states(life, "app")[-1] == (2, "terminated Completed 0")


def test_deleting_a_pod_cancels_a_post_start_that_goes_on():
    """§6.1.6; D21: better than the kubelet, which waits for it"""
    life = Life(
        pod(container("app", **BOTH)),
        {"app": Run(stops_in=1)},
        plays={"app postStart": Play(lasts=inf), "app preStop": Play(lasts=1)},
    ).delete(10, grace=3)
    life.run()
    assert life.hooks_of("app/0") == [
        (0, "postStart begins"),
        (10, "postStart cancelled"),
        (10, "preStop begins"),
        (11, "preStop ends"),
    ]
    assert signals(life) == [(11, "stop app/0")]
    assert life.now == 12
    assert life.said("FailedPostStartHook") == []


def test_what_starts_while_its_pod_is_ending_gets_no_post_start():
    """§6.1.6: it is on its way when the deletion comes"""
    life = Life(pod(container("app", **post_start())), latency=1.0).delete(1.5, grace=5).run()
    assert life.starts == [(1, "app/0")]
    assert life.hooked == []


# --- preStop -------------------------------------------------------------------------------------

KILLS: dict[str, tuple[v1.Pod, dict[str, Any]]] = {
    "deletion": (pod(container("app", **pre_stop())), {}),
    "a failed liveness probe": (
        pod(
            container("app", **pre_stop(), liveness_probe=probe(failure_threshold=1)),
            restart_policy="Never",
        ),
        {"answers": {"app liveness": fails_from(10)}},
    ),
    "a failed startup probe": (
        pod(
            container("app", **pre_stop(), startup_probe=probe(failure_threshold=2)),
            restart_policy="Never",
        ),
        {"answers": {"app startup": FAILS}},
    ),
    "activeDeadlineSeconds": (
        pod(container("app", **pre_stop()), active_deadline_seconds=10),
        {},
    ),
    "the end of the app containers, for a sidecar": (
        pod("main", init=[sidecar("app", **pre_stop())], restart_policy="Never"),
        {"script": {"main": exits(0, 10)}},
    ),
    "an init container that failed for good, for a sidecar": (
        pod("main", init=[sidecar("app", **pre_stop()), container("next")], restart_policy="Never"),
        {"script": {"next": exits(1, 10)}},
    ),
}


@pytest.mark.parametrize("case", KILLS)
def test_a_container_stopped_by_the_node_gets_its_pre_stop_before_the_signal(case):
    """§6.2.1; C25, C26, B15"""
    spec, more = KILLS[case]
    life = Life(spec, plays={"app preStop": Play(lasts=3)}, **more)
    life.delete(10 if case == "deletion" else 200)
    life.run()
    assert life.hooks_of("app/0") == [(10, "preStop begins"), (13, "preStop ends")]
    assert signals(life)[0] == (13, "stop app/0")
    assert life.said("FailedPreStopHook") == []


@pytest.mark.parametrize("code", [0, 1, 137])
def test_a_container_that_ends_by_itself_gets_no_pre_stop(code):
    """§6.2.2; D10, D19"""
    life = Life(
        pod(container("app", **pre_stop()), restart_policy="Never"), {"app": exits(code, 3)}
    ).run()
    assert life.hooked == []


def test_a_container_that_is_killed_at_once_gets_no_pre_stop():
    """§6.2.2: the user insists, so no grace is left for one"""
    life = Life(pod(container("app", **pre_stop()))).delete(5, kill=True).run()
    assert life.hooked == []
    assert signals(life) == [(5, "kill app/0")]


# grace, what the hook takes -> stop signal, SIGKILL, seconds after the deletion
TIMES = {
    "what a hook took is taken off the grace": (30, 10, (10, 30)),
    "in whole seconds": (30, 10.4, (10.4, 30.4)),
    "and truncated": (30, 10.9, (10.9, 30.9)),
    "but two seconds are left at least": (30, 29.5, (29.5, 31.5)),
    "a hook that takes all of it is not waited for longer": (30, inf, (30, 32)),
    "a short grace": (3, 2.9, (2.9, 4.9)),
    "a hook that is over at once": (3, 0, (0, 3)),
    "the smallest grace": (0, inf, (1, 3)),
}


@pytest.mark.parametrize("case", TIMES)
def test_the_time_of_a_pre_stop_counts_against_the_grace(case):
    """§6.2.4, §6.2.5, §7.2.2; D11"""
    grace, takes, expected = TIMES[case]
    life = Life(
        pod(container("app", **pre_stop())),
        {"app": DEAF},
        plays={"app preStop": Play(lasts=takes)},
    ).delete(100, grace)
    life.run()
    [(stop, _), (kill, _)] = signals(life)
    assert (round(stop - 100, 6), round(kill - 100, 6)) == expected


def test_a_pre_stop_whose_time_is_over_goes_on_until_its_container_is_killed():
    """§6.2.4: nobody waits for it, and nobody kills it"""
    life = Life(
        pod(container("app", **pre_stop())),
        {"app": DEAF},
        plays={"app preStop": Play(lasts=inf)},
    ).delete(100, 5)
    life.run()
    assert life.hooks_of("app/0") == [(100, "preStop begins"), (107, "preStop fails")]
    assert signals(life) == [(105, "stop app/0"), (107, "kill app/0")]
    [hook] = life.record.containers[0].hooks
    assert hook.end is HookEnd.DEADLINE
    assert life.said("FailedPreStopHook") == []


def test_a_pre_stop_that_fails_is_told_and_the_signal_follows_at_once():
    """§6.2.6, §6.2.8; D16"""
    life = Life(
        pod(container("app", **pre_stop()), restart_policy="Never"),
        {"app": Run(stop_code=0)},
        plays={"app preStop": Play(lasts=1, ok=False)},
    ).delete(5)
    life.run()
    assert life.said("FailedPreStopHook") == ["PreStopHook failed"]
    assert signals(life) == [(6, "stop app/0")]
    assert life.status.phase == "Succeeded"


def test_a_container_that_ends_during_its_pre_stop_fails_it():
    """§6.2.3"""
    life = Life(
        pod(container("app", **pre_stop())),
        {"app": exits(0, 12)},
        plays={"app preStop": Play(lasts=9)},
    ).delete(10)
    life.run()
    assert life.hooks_of("app/0") == [(10, "preStop begins"), (12, "preStop fails")]
    assert life.said("FailedPreStopHook") == ["PreStopHook failed"]
    assert signals(life) == []
    assert life.now == 12


def test_all_pre_stops_run_at_once_and_only_the_signals_are_ordered():
    """§6.2.7, §7.4.1, §7.4.2; B09"""
    life = Life(
        pod(
            container("app", **pre_stop()),
            init=[sidecar("s1", **pre_stop()), sidecar("s2", **pre_stop())],
        ),
        {name: Run(stops_in=1) for name in ("app", "s1", "s2")},
        plays={f"{name} preStop": Play(lasts=1) for name in ("app", "s1", "s2")},
    ).delete(10)
    life.run()
    assert {t for t, what in life.hooked if what.endswith("begins")} == {10}
    assert [(t, who) for t, who, _ in life.ends] == [(12, "app/0"), (13, "s2/0"), (14, "s1/0")]


def test_a_pre_stop_does_not_delay_the_probe_that_comes_with_it():
    """§7.6.3; C24: while it runs readiness is asked for, liveness is not"""
    app = container(
        "app",
        **pre_stop(),
        liveness_probe=probe(period_seconds=1, failure_threshold=1),
        readiness_probe=probe(period_seconds=1),
    )
    life = Life(
        pod(app),
        answers={"app liveness": fails_from(10)},
        plays={"app preStop": Play(lasts=4)},
    ).run(until=13.5)
    assert [t for t in life.asked("app/0", "liveness") if t > 10] == []
    assert [t for t in life.asked("app/0", "readiness") if t > 10] == [11, 12, 13]


def test_a_sidecar_that_fails_its_startup_probe_gets_its_pre_stop_and_nothing_follows():
    """§4.2.3; B03"""
    side = sidecar("side", **pre_stop(), startup_probe=probe(failure_threshold=1))
    life = Life(
        pod("app", init=[side]),
        answers={"side startup": FAILS},
        plays={"side preStop": Play(lasts=2)},
    ).run(until=9)
    assert life.hooks_of("side/0") == [(0, "preStop begins"), (2, "preStop ends")]
    assert life.said("Killing")[0] == "Init container side failed startup probe"
    assert not any(who.startswith("app") for _, who in life.starts)
    assert life.phases == [(0, "Pending")]


def test_a_sidecar_that_fails_its_liveness_probe_gets_its_pre_stop_and_the_rest_goes_on():
    """§4.2.3; B04"""
    side = sidecar("side", **pre_stop(), liveness_probe=probe(failure_threshold=1))
    life = Life(
        pod("app", init=[side]),
        answers={"side liveness": fails_from(10)},
        plays={"side preStop": Play(lasts=2)},
    ).run(until=13)
    assert life.hooks_of("side/0") == [(10, "preStop begins"), (12, "preStop ends")]
    assert [w for _, w in life.starts] == ["side/0", "app/0", "side/1"]


def test_a_shorter_grace_reaches_a_pre_stop_that_goes_on():
    """§7.2.4 (better than the kubelet)"""
    life = Life(
        pod(container("app", **pre_stop())),
        {"app": DEAF},
        plays={"app preStop": Play(lasts=inf)},
    )
    life.delete(10).delete(12, grace=2).run()
    assert signals(life) == [(14, "stop app/0"), (16, "kill app/0")]


def test_a_probes_own_grace_limits_the_pre_stop_too():
    """§5.8, §7.6.1"""
    app = container(
        "app",
        **pre_stop(),
        liveness_probe=probe(failure_threshold=1, termination_grace_period_seconds=4),
    )
    life = Life(
        pod(app),
        {"app": DEAF},
        answers={"app liveness": fails_from(10)},
        plays={"app preStop": Play(lasts=inf)},
    ).run(until=17)
    assert signals(life)[:2] == [(14, "stop app/0"), (16, "kill app/0")]


def test_an_instance_that_is_being_stopped_gets_one_pre_stop_even_if_its_pod_is_deleted():
    """§6.2.1, §7.6.1"""
    app = container("app", **pre_stop(), liveness_probe=probe(failure_threshold=1))
    life = Life(
        pod(app),
        {"app": DEAF},
        answers={"app liveness": fails_from(10)},
        plays={"app preStop": Play(lasts=3)},
    )
    life.delete(12, grace=5).run()
    assert life.hooks_of("app/0") == [(10, "preStop begins"), (13, "preStop ends")]


def test_the_stop_signal_is_the_one_that_the_container_names():
    """§6.5; D12"""
    app = container("app", lifecycle=v1.Lifecycle(stop_signal="SIGUSR1"))
    life = Life(pod(app)).delete(5)
    life.run()
    stops = [a for _, a in life.actions if isinstance(a, StopContainer)]
    assert stops == [StopContainer(instance("app"), "SIGUSR1")]
    assert life.container("app").stop_signal == "SIGUSR1"


@pytest.mark.parametrize(("own", "expected"), [(None, "SIGQUIT"), ("SIGUSR1", "SIGUSR1")])
def test_without_one_the_image_of_the_instance_says_the_stop_signal(own: str | None, expected: str):
    """§6.5: and the status shows which one it is"""
    app = container("app", lifecycle=v1.Lifecycle(stop_signal=own))
    started = facts.ContainerStarted(at(1), instance("app"), 7, stop_signal="SIGQUIT")
    known = observe(record(pod(app)), started)
    plan = decide(observe(known, facts.DeletionRequested(at(2))), at(2))
    assert plan.actions == (StopContainer(instance("app"), expected),)
    assert plan.status.container_statuses[0].stop_signal == expected
    ended = observe(known, facts.ContainerExited(at(3), instance("app"), 0))
    assert decide(ended, at(3)).status.container_statuses[0].stop_signal == expected
    again = observe(ended, facts.ContainerStarted(at(9), instance("app", 1), 8))
    assert decide(again, at(9)).status.container_statuses[0].stop_signal == own


def test_who_waits_for_a_pre_stop_is_told_so():
    known = record(
        pod(container("app", **pre_stop())),
        app=running(),
        fields={"termination": ending()},
    )
    known = observe(known, Committed(NOW, decide(known, NOW)))
    [awaited] = waiting_for(known)
    assert awaited.hook == NOW
    assert awaited.signalled is None
    assert awaited.kill_at == BOOT + 100 + 30 + 2


def test_who_waits_for_a_post_start_is_told_so():
    known = record(pod(container("app", **post_start())), app=running())
    assert waiting_for_start(known) == ()
    known = observe(known, Committed(NOW, decide(known, NOW)))
    [(id, since)] = waiting_for_start(known)
    assert (id.name, since) == ("app", NOW)
    done = facts.HookFinished(NOW, id, HookKind.POST_START, ok=True)
    assert waiting_for_start(observe(known, done)) == ()


# --- hooks that are requests ---------------------------------------------------------------------


def test_a_request_outlives_its_container_until_the_grace_is_over():
    """§6.2.3: the pod is there until its hooks have ended"""
    life = Life(
        pod(container("app", **pre_stop(**HTTP))),
        {"app": exits(0, 12)},
        plays={"app preStop": Play(lasts=9)},
    ).delete(10)
    life.run()
    assert life.hooks_of("app/0") == [(10, "preStop begins"), (19, "preStop ends")]
    assert life.now == 19
    late = Life(
        pod(container("app", **pre_stop(**HTTP))),
        {"app": exits(0, 12)},
        plays={"app preStop": Play(lasts=inf)},
    ).delete(10, grace=8)
    late.run()
    assert late.now == 18
    assert late.record.containers[0].hooks[0].end is HookEnd.DEADLINE


@pytest.mark.parametrize("which", ["preStop", "postStart"])
def test_a_request_is_not_waited_for_when_its_pod_is_killed_at_once(which):
    """§7.2.2: the third Ctrl-C"""
    hooked = pre_stop(**HTTP) if which == "preStop" else post_start(**HTTP)
    life = Life(
        pod(container("app", **hooked)),
        {"app": exits(0, after=102)},
        plays={f"app {which}": Play(lasts=inf)},
    )
    if which == "preStop":
        life.delete(100, 60)
    life.delete(103, kill=True).run()
    assert life.now == 103
    [hook] = life.record.containers[0].hooks
    assert hook.end is HookEnd.DEADLINE
    assert life.hooks_of("app/0")[-1] == (103, f"{which} cancelled")


def test_the_next_instance_waits_for_the_hooks_of_the_one_before():
    life = Life(
        pod(container("app", **post_start(**HTTP))),
        {"app": [exits(1, 1), FOREVER]},
        plays={"app postStart": Play(lasts=inf)},
    ).run(until=5)
    assert life.starts == [(0, "app/0"), (3, "app/1")]
    assert life.hooks_of("app/0") == [(0, "postStart begins"), (3, "postStart cancelled")]


def test_a_hook_that_was_answered_without_encryption_is_told():
    """§6.3.2"""
    app = container("app", **pre_stop(**HTTP))
    known = record(pod(app), app=running(), fields={"termination": ending()})
    known = observe(known, Committed(NOW, decide(known, NOW)))
    fact = facts.HookFinished(NOW, instance("app"), HookKind.PRE_STOP, True, fallback="10.0.0.1")
    [told] = observe(known, fact).owed_events
    assert (told.type, told.reason) == ("Warning", "LifecycleHTTPFallback")
    assert told.message == (
        "request to HTTPS lifecycle hook 10.0.0.1 got HTTP response, retry with HTTP succeeded"
    )


# --- crashes of ours -----------------------------------------------------------------------------


def owing(which: HookKind = HookKind.PRE_STOP, **more: Any) -> PodRecord:
    """Deleted at 100 with 30 s; the hook of app is intended."""
    lifecycle = pre_stop(**more) if which is HookKind.PRE_STOP else post_start(**more)
    fields = {"termination": ending(), "deletion": NOW} if which is HookKind.PRE_STOP else {}
    known = record(pod(container("app", **lifecycle)), app=running(), fields=fields)
    return observe(known, Committed(NOW, decide(known, NOW)))


def test_a_hook_is_owed_from_its_intent_on():
    """§6.4.1, §6.4.2: what was committed is enough to run it"""
    known = owing()
    [hook] = known.containers[0].hooks
    assert hook.is_owed
    assert decide(known, at(101)).hooks == {HookTarget(instance("app"), HookKind.PRE_STOP, 1)}
    assert decide(known, at(101)).actions == ()


def test_a_hook_interrupted_by_our_crash_is_run_again():
    """§6.4.2; D23: and counts its runs"""
    for which in HookKind:
        back = observe(owing(which), facts.Adopted(at(103)))
        assert decide(back, at(103)).hooks == {HookTarget(instance("app"), which, 2)}


def test_a_hook_that_is_running_still_is_not_run_again():
    """§6.4.2"""
    target = HookTarget(instance("app"), HookKind.PRE_STOP, 1)
    back = observe(owing(), facts.Adopted(at(103), frozenset({target})))
    assert decide(back, at(103)).hooks == {target}


def test_a_finished_hook_is_not_run_again():
    """§6.4.2: each end is final"""
    for ok in (True, False):
        fact = facts.HookFinished(at(102), instance("app"), HookKind.PRE_STOP, ok)
        back = observe(observe(owing(), fact), facts.Adopted(at(103)))
        plan = decide(back, at(103))
        assert plan.hooks == frozenset()
        assert in_words(plan.actions) == ["stop app/0"]


def test_a_hook_whose_time_was_over_is_not_run_again():
    known = owing()
    known = observe(known, Committed(at(130), decide(known, at(130))))
    target = HookTarget(instance("app"), HookKind.PRE_STOP, 1)
    assert decide(known, at(130)).hooks == {target}
    assert decide(observe(known, facts.Adopted(at(131))), at(131)).hooks == frozenset()


def test_a_hook_that_ends_after_its_time_was_over_is_not_begun_again():
    """§6.2.4: it was left to itself, once"""
    known = owing()
    known = observe(known, Committed(at(130), decide(known, at(130))))
    id, which = instance("app"), HookKind.PRE_STOP
    for fact in (
        facts.HookFinished(at(131), id, which, True),
        facts.HookInterrupted(at(131), id, which),
    ):
        over = observe(known, fact)
        assert decide(over, at(131)).hooks == frozenset()
        assert over.containers[0].hooks[0].end is HookEnd.DEADLINE


def test_a_hook_that_was_running_still_when_its_time_was_over_is_left_to_itself():
    """§6.4.2, §6.2.4: a result that waits for us since is taken note of once"""
    target = HookTarget(instance("app"), HookKind.PRE_STOP, 1)
    late = observe(owing(), facts.Adopted(at(131), frozenset({target})))
    plan = decide(late, at(131))
    assert (plan.hooks, {c.end for c in plan.closed}) == ({target}, {HookEnd.DEADLINE})
    late = observe(late, Committed(at(131), plan))
    late = observe(late, facts.HookFinished(at(131), target.id, target.which, True))
    assert decide(late, at(131)).hooks == frozenset()


def test_a_hook_run_again_keeps_its_deadline_but_has_two_seconds():
    """§6.4.2, §7.2.1: the time while nobody was there counts"""
    soon = observe(owing(), facts.Adopted(at(110)))
    assert decide(soon, at(110)).wake_at == BOOT + 130
    late = observe(owing(), facts.Adopted(at(500)))
    plan = decide(late, at(500))
    assert plan.hooks == {HookTarget(instance("app"), HookKind.PRE_STOP, 2)}
    assert (plan.actions, plan.wake_at) == ((), BOOT + 502)
    assert in_words(decide(late, at(502)).actions) == ["stop app/0"]


def test_an_owed_program_whose_container_has_ended_is_closed_with_its_event():
    """§6.4.2"""
    back = observe(owing(), facts.Adopted(at(103)))
    back = observe(back, facts.ContainerExited(at(102), instance("app"), 0))
    [hook] = back.containers[0].hooks
    assert hook.end is HookEnd.GONE
    assert [e.reason for e in back.owed_events] == ["FailedPreStopHook"]
    assert decide(back, at(103)).hooks == frozenset()


def test_an_owed_request_is_sent_though_its_container_has_ended():
    """§6.4.2"""
    for which in HookKind:
        back = observe(owing(which, **HTTP), facts.Adopted(at(500)))
        back = observe(back, facts.ContainerExited(at(480), instance("app"), 0))
        plan = decide(back, at(500))
        assert plan.hooks == {HookTarget(instance("app"), which, 2)}
        assert not plan.done
        assert plan.wake_at == BOOT + 502
        over = decide(back, at(502))
        assert over.hooks == frozenset()
        assert {c.end for c in over.closed} == {HookEnd.DEADLINE}


def test_answers_to_hooks_that_nobody_waits_for_change_nothing():
    known = owing()
    fact = facts.HookFinished(at(102), instance("app"), HookKind.PRE_STOP, True)
    done = observe(known, fact)
    again = replace(fact, ok=False)
    for other in (
        again,
        replace(again, which=HookKind.POST_START),
        replace(again, id=instance("app", 1)),
        replace(again, id=facts.ContainerId("other", "app", 0)),
    ):
        assert observe(done, other) == done


def test_a_failed_post_start_begins_one_kill_and_no_other():
    known = owing(HookKind.POST_START)
    fact = facts.HookFinished(at(102), instance("app"), HookKind.POST_START, False, HOOK_SAYS)
    after = observe(known, fact)
    assert after.containers[0].running is not None
    assert after.containers[0].running.kill == Kill(
        cause=KillCause.POST_START, requested=at(102), deadline=BOOT + 132
    )
    assert hooks.holds_back(after.pod.spec.containers[0], after.containers[0].hooks)


# --- the machine starts anew ---------------------------------------------------------------------


def rebooted(known: PodRecord, when: float = 5.0) -> PodRecord:
    """The boot clock has begun again, an hour later by the wall clock."""
    back = facts.Instant(wall=at(3600).wall, boot=when)
    return observe(observe(known, facts.Adopted(back)), facts.SandboxLost(back))


def test_after_a_reboot_everything_begins_with_the_first_init_container():
    """§4.3.3, §4.3.4; A09, B11"""
    spec = pod("app", init=[container("first"), sidecar("side")])
    life = Life(spec, {"first": exits(0, 1)}).run(until=5)
    back = rebooted(life.record)
    assert [c.running for c in back.containers] == [None] * 3
    plan = decide(back, facts.Instant(at(3600).wall, 5.0))
    assert in_words(plan.actions) == ["sandbox"]
    assert "SandboxChanged" in [e.reason for e in plan.events]
    ready = observe(back, facts.SandboxReady(facts.Instant(at(3600).wall, 5.0)))
    assert in_words(decide(ready, facts.Instant(at(3600).wall, 5.0)).actions) == ["start first/1"]
    ended_first = observe(
        observe(ready, facts.ContainerStarted(facts.Instant(0, 6), instance("first", 1), 7)),
        facts.ContainerExited(facts.Instant(0, 7), instance("first", 1), 0),
    )
    assert in_words(decide(ended_first, facts.Instant(0, 7.0)).actions) == ["start side/1"]
    side = observe(ended_first, facts.ContainerStarted(facts.Instant(0, 8), instance("side", 1), 8))
    assert in_words(decide(side, facts.Instant(0, 8.0)).actions) == ["start app/1"]


def test_a_pod_that_must_not_run_again_does_not_after_a_reboot():
    """§4.3.3: Never with any earlier container; OnFailure when all have succeeded"""
    never = rebooted(record(pod("app", restart_policy="Never"), app=running()))
    plan = decide(never, facts.Instant(at(3600).wall, 5.0))
    assert plan.termination is not None
    assert plan.status.phase == "Failed"
    done = rebooted(record(pod("app", restart_policy="OnFailure"), app=ended(0)))
    assert decide(done, facts.Instant(at(3600).wall, 5.0)).status.phase == "Succeeded"
    again = rebooted(record(pod("app", restart_policy="OnFailure"), app=running()))
    assert decide(again, facts.Instant(at(3600).wall, 5.0)).termination is None


def test_a_reboot_ends_a_pod_that_was_ending():
    """§7.2.3"""
    known = record(pod("app"), app=running(), fields={"termination": ending(), "deletion": NOW})
    plan = decide(rebooted(known), facts.Instant(at(3600).wall, 5.0))
    assert in_words(plan.actions) == ["finish"]
    assert plan.status.phase == "Failed"


def test_waits_and_deadlines_are_not_counted_on_the_clock_of_before():
    """§3.2.3, §7.7: activeDeadlineSeconds are counted from the start of the pod all the same"""
    known = record(pod("app", active_deadline_seconds=4000), app=ended(1) | {"backoff": None})
    back = observe(rebooted(known), facts.SandboxReady(facts.Instant(at(3600).wall, 5.0)))
    plan = decide(back, facts.Instant(at(3600).wall, 5.0))
    assert in_words(plan.actions) == ["start app/1"]
    assert plan.wake_at == pytest.approx(5.0 + 400)
    assert reasons.SANDBOX_CHANGED in [e.reason for e in plan.events]
