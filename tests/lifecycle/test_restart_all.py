"""One container's end restarts its whole pod in place: who asks for it, what is killed, what begins
anew, and what the API shows of it."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from supervisor.api import v1
from supervisor.lifecycle import facts
from supervisor.lifecycle.decide import decide, waiting_for
from supervisor.lifecycle.facts import ContainerId
from supervisor.lifecycle.record import PodRecord, Restarting, observe
from tests.lifecycle.lives import (
    BOOT,
    FAILS,
    FOREVER,
    HTTP,
    UID,
    Life,
    Play,
    Run,
    at,
    container,
    container_status,
    exits,
    pod,
    post_start,
    pre_stop,
    probe,
    rule,
    shown,
    sidecar,
)
from tests.lifecycle.records import NOW, ended, ending, in_words, instance, record, running

ALL: dict[str, Any] = {"restart_policy_rules": (rule("In", 42, action="RestartAllContainers"),)}


def asking(name: str = "app", policy: str = "Never", **more: Any) -> v1.Container:
    """A container whose exit code 42 restarts its pod."""
    return container(name, restart_policy=policy, **ALL, **more)


def condition(status: v1.PodStatus) -> tuple[str, str, str]:
    found = next(c for c in status.conditions if c.type == "AllContainersRestarting")
    return found.status, found.reason, found.message


UNDER_WAY = ("True", "RestartAllContainersStarted", "container exited with restart policy rule")


def conditions(life: Life) -> list[tuple[float, tuple[str, str, str]]]:
    changes: list[tuple[float, tuple[str, str, str]]] = []
    for when, status in life.statuses:
        if not changes or changes[-1][1] != condition(status):
            changes.append((when, condition(status)))
    return changes


# --- who asks for it -----------------------------------------------------------------------------

BOTH = (rule("In", 1), rule("NotIn", 0, 7, action="RestartAllContainers"))
ASKING = {
    "an app": (pod(asking("a"), "b"), "a", 42, True),
    "an init container": (pod("a", init=[asking("i")]), "i", 42, True),
    "an init container that succeeded": (
        pod("a", init=[container("i", restart_policy="Never", restart_policy_rules=(
            rule("In", 0, action="RestartAllContainers"),))]), "i", 0, True,
    ),
    "a sidecar": (pod("a", init=[asking("i", "Always")]), "i", 42, True),
    "a program that cannot be executed, by its code": (
        pod(container("a", restart_policy="Never", restart_policy_rules=(
            rule("In", 128, action="RestartAllContainers"),))), "a", 128, True,
    ),
    "another exit code does not": (pod(asking("a"), "b"), "a", 41, False),
    "the first rule that matches decides: one container": (
        pod(container("a", restart_policy="Never", restart_policy_rules=BOTH)), "a", 1, False,
    ),
    "the first rule that matches decides: all": (
        pod(container("a", restart_policy="Never", restart_policy_rules=BOTH)), "a", 2, True,
    ),
    "no rule matches": (
        pod(container("a", restart_policy="Never", restart_policy_rules=BOTH)), "a", 7, False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ASKING)
def test_who_asks_for_a_restart_of_all(case):
    """§3.4.1, §3.1.2, §3.1.4"""
    spec, name, code, expected = ASKING[case]
    known = record(spec, **{name: running()})
    if code == 128:
        fact: facts.Fact = facts.StartFailed(NOW, instance(name, 1), "StartError", "no", True)
    else:
        fact = facts.ContainerExited(NOW, instance(name), code)
    after = observe(known, fact)
    assert after.restarting == (Restarting(by=name, requested=NOW) if expected else None)
    assert observe(after, fact) == after


def test_a_pod_that_is_ending_is_not_restarted():
    """§3.4.1, §7.2.3"""
    known = record(pod(asking("a"), "b"), fields={"termination": ending()}, a=running())
    after = observe(known, facts.ContainerExited(NOW, instance("a"), 42))
    assert after.restarting is None


def test_what_its_probe_has_stopped_does_not_restart_the_others():
    """§3.4.1, §7.6.2: it was told to be restarted, before its exit code was known."""
    app = asking("a", "Always", liveness_probe=probe(failure_threshold=1))
    life = Life(pod(app, "b"), {"a": Run(stop_code=42)}, answers={"a liveness": FAILS})
    life.run(until=1)
    assert life.starts == [(0, "a/0"), (0, "b/0"), (0, "a/1")]


# --- what is done about it -----------------------------------------------------------------------


def in_place(spec: v1.Pod, fields: dict[str, Any] | None = None, **states: Any) -> PodRecord:
    fields = {"restarting": Restarting(by="a", requested=at(99))} | (fields or {})
    return record(spec, fields=fields, **states)


HOOKED = replace(asking("a"), **pre_stop())
STEPS = {
    "everything that runs is killed at once, whatever it is": (
        in_place(
            pod(asking("a"), "b", "c", init=[container("i"), sidecar("s")]),
            a=ended(42), b=running(), c=ended(0), s=running(), i=ended(0),
        ),
        ["kill s/0", "kill b/0"],
    ),
    "without the stop signal and without preStop": (
        in_place(pod(HOOKED, "b"), a=running(), b=ended(42)), ["kill a/0"],
    ),
    "what was killed is waited for": (
        in_place(pod(asking("a"), "b"), a=ended(42), b=running(killed=at(99))), [],
    ),
    "but killed again when it does not end": (
        in_place(pod(asking("a"), "b"), a=ended(42), b=running(killed=at(90))), ["kill b/0"],
    ),
    "nothing starts beside it": (
        in_place(pod(asking("a"), "b", restart_policy="Always"), a=ended(42), b=ended(1)),
        ["remove"],
    ),
    "what is being started is waited for": (
        in_place(
            pod(asking("a"), "b"),
            {"in_flight": frozenset({facts.StartContainer(instance("b"))})},
            a=ended(42),
        ),
        [],
    ),
    "an init container that failed does not fail the pod": (
        in_place(pod("a", init=[asking("i")], restart_policy="Never"), i=ended(42)), ["remove"],
    ),
    "the instances are removed once": (
        in_place(
            pod(asking("a")), {"in_flight": frozenset({facts.RemoveContainers()})}, a=ended(42)
        ),
        [],
    ),
    "a deletion ends it, and kills on": (
        in_place(
            pod(HOOKED, "b"), {"termination": ending()}, a=running(), b=running(killed=at(99))
        ),
        ["kill a/0"],
    ),
    "a deletion when all is killed leaves nothing to begin anew": (
        in_place(pod(asking("a"), "b"), {"termination": ending()}, a=ended(42), b=ended(137)),
        ["finish"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", STEPS)
def test_restarting_all(case):
    """§3.4.2, §6.2.2"""
    known, expected = STEPS[case]
    plan = decide(known, NOW)
    assert in_words(plan.actions) == expected
    assert plan.hooks == frozenset()
    if known.termination is None:
        assert condition(plan.status) == UNDER_WAY


def test_what_is_killed_is_waited_for_until_the_moment_it_was_asked_for():
    known = in_place(pod(asking("a"), "b"), a=ended(42), b=running())
    (awaited,) = waiting_for(known)
    assert (awaited.id, awaited.kill_at) == (instance("b"), BOOT + 99)


def test_the_removal_belongs_to_a_restart_in_which_nothing_runs():
    """§3.4.2: an answer that comes late, or twice, changes nothing."""
    removed = facts.ContainersRemoved(NOW)
    for known in (
        record(pod(asking("a")), a=running()),
        in_place(pod(asking("a"), "b"), a=ended(42), b=running()),
        in_place(pod(asking("a")), {"termination": ending()}, a=ended(42)),
    ):
        assert observe(known, removed) == known


# --- whole lives ---------------------------------------------------------------------------------


def test_the_pod_begins_anew_with_its_first_init_container():
    """§3.4.2, §3.4.3, §3.4.4, §1.2.10, §1.1.6: those that had ended for good run again too."""
    life = Life(
        pod(
            asking("app"),
            "done",
            "other",
            init=[container("one"), sidecar("side"), container("two")],
            restart_policy="Never",
        ),
        {
            "one": exits(0, 1),
            "two": exits(0, 1),
            "done": exits(0, 1),
            "app": [exits(42, 10), FOREVER],
            "other": Run(stops_in=None),
        },
        latency=0.1,
    ).run(until=40)
    first, again = life.starts[:6], life.starts[6:]
    assert [who for _, who in first] == ["one/0", "side/0", "two/0", "app/0", "done/0", "other/0"]
    assert [who for _, who in again] == ["one/1", "side/1", "two/1", "app/1", "done/1", "other/1"]
    end = next(t for t, who, _ in life.ends if who == "app/0")
    killed = [(t, who, code) for t, who, code in life.ends if code == 137]
    assert killed == [(end, "side/0", 137), (end, "other/0", 137)]
    assert not [a for _, a in life.actions if isinstance(a, facts.StopContainer)]
    assert [t for t, what in conditions(life) if what == UNDER_WAY] == [pytest.approx(end)]
    assert [what[0] for _, what in conditions(life)] == ["False", "True", "False"]
    assert [phase for _, phase in life.phases] == ["Pending", "Running", "Pending", "Running"]
    for name in ("one", "side", "two", "app", "done", "other"):
        assert life.container(name).restart_count == 1
    lasts = {name: shown(v1_last(life, name)) for name in ("app", "done", "side", "other", "one")}
    assert lasts == {
        "app": "terminated Error 42",
        "done": "terminated Completed 0",
        "side": "terminated RestartingAllContainers 137",
        "other": "terminated RestartingAllContainers 137",
        "one": "terminated Completed 0",
    }
    assert life.said("Killing") == [
        "Container side is killed: all containers of the pod are restarted",
        "Container other is killed: all containers of the pod are restarted",
    ]
    assert len([a for _, a in life.actions if isinstance(a, facts.CreateSandbox)]) == 1


def v1_last(life: Life, name: str) -> v1.ContainerStatus:
    """The state before, as a status of its own."""
    status = life.container(name)
    return replace(status, state=status.last_state)


def test_while_it_begins_anew_what_was_removed_waits():
    """§2.2, §1.2.5, §3.4.3"""
    life = Life(
        pod(asking("app"), "other", init=[container("init")], restart_policy="Never"),
        {"init": [exits(0, 1), FOREVER], "app": [exits(42, 10), FOREVER]},
        latency=0.1,
    ).run(until=20)
    for name in ("app", "other"):
        status = life.container(name)
        assert shown(status) == "waiting RestartingAllContainers"
        assert status.state.waiting is not None
        text = "The container is removed because RestartAllContainers in place"
        assert status.state.waiting.message == text
        assert (status.restart_count, status.ready, status.started) == (1, False, False)
    assert shown(life.container("init")) == "running"
    initialized = life.condition("Initialized")
    assert (initialized.status, initialized.message) == (
        "False", "containers with incomplete status: [init]",
    )  # fmt: skip
    assert life.status.phase == "Pending"


def test_the_condition_is_shown_only_where_a_rule_could_bring_it_about():
    """§1.2.1, §1.2.10: the last one, False without a reason, and what the phase is at the end"""
    life = Life(pod(asking("app"), restart_policy="Never"), {"app": exits(0, 5)}).run(until=1)
    assert life.status.conditions[-1].type == "AllContainersRestarting"
    assert condition(life.status) == ("False", "", "")
    life.run()
    assert condition(life.status) == ("False", "PodCompleted", "")
    plain = Life(pod("app")).run(until=1)
    assert "AllContainersRestarting" not in [c.type for c in plain.status.conditions]
    failed = Life(pod(asking("app"), restart_policy="Never"), {"app": exits(1, 5)}).run()
    assert condition(failed.status) == ("False", "PodFailed", "")


def test_every_restart_of_all_waits_like_any_other():
    """§3.4.4, §3.2.1"""
    life = Life(
        pod(asking("app"), init=[container("init")], restart_policy="Never"),
        {"init": exits(0, 0), "app": exits(42, 0)},
    ).run(until=75)
    assert life.waits("init") == [0, 10, 20, 40]
    assert life.waits("app") == [0, 10, 20, 40]
    assert life.container("app").restart_count == 5  # the one that it waits for is counted
    assert shown(life.container("app")) == "waiting CrashLoopBackOff"
    # The init container waits for its turn like the app, for both are to run again.
    assert shown(life.container("init")) == "waiting CrashLoopBackOff"


def test_a_restart_of_all_does_not_wait_for_hooks():
    """§3.4.2, §6.2.2: postStart and preStop that are owed are cancelled."""
    slow = replace(asking("slow", "Always"), **post_start(**HTTP))
    stopped = container("stopped", liveness_probe=probe(failure_threshold=1), **pre_stop(**HTTP))
    life = Life(
        pod(stopped, slow, asking("app"), restart_policy="Always"),
        {"app": [exits(42, 3), FOREVER], "stopped": Run(stops_in=None)},
        answers={"stopped liveness": FAILS},
        plays={"slow postStart": Play(lasts=60), "stopped preStop": Play(lasts=60)},
    )
    life.tell(3, lambda now: facts.ContainerExited(now, ContainerId(UID, "app", 0), 42))
    life.run(until=4)
    assert life.hooks_of("slow/0") == [(0, "postStart begins"), (3, "postStart cancelled")]
    assert life.hooks_of("stopped/0") == [(0, "preStop begins"), (3, "preStop cancelled")]
    assert life.ends == [(3, "stopped/0", 137), (3, "slow/0", 137)]
    assert [who for t, who in life.starts if t == 3] == ["stopped/1", "slow/1"]


def test_probes_begin_anew_and_stop_while_everything_is_killed():
    """§3.4.3, §5.2.12"""
    app = container("app", startup_probe=probe(failure_threshold=2, period_seconds=4))
    life = Life(
        pod(app, asking("other"), restart_policy="Always"),
        {"app": Run(unkillable=9), "other": [exits(42, 1), FOREVER]},
        answers={"app startup": FAILS},
    ).run(until=13)
    assert life.asked("app/0", "startup") == [0]
    assert life.ends == [(1, "other/0", 42), (10, "app/0", 137)]
    assert life.asked("app/1", "startup") == [10]


def test_a_deletion_in_the_middle_ends_the_pod_without_another_start():
    """§3.4.3, §7.2.3"""
    life = Life(
        pod(asking("app"), "other", restart_policy="Always"),
        {"app": exits(42, 1), "other": Run(unkillable=9)},
    ).delete(5, 30)
    life.run()
    assert life.now == 10
    assert [who for _, who in life.starts] == ["app/0", "other/0"]
    assert life.status.phase == "Failed"
    assert condition(life.status) == ("False", "PodFailed", "")


def test_a_pod_deleted_before_it_has_begun_anew_ends_failed():
    """§3.4.3, §1.1.10: what was removed is shown as it had ended."""
    life = Life(pod(asking("app"), "other", restart_policy="Always"), {"app": exits(42, 0)}).delete(
        5, 30
    )
    life.run()
    assert life.status.phase == "Failed"
    assert [who for _, who in life.starts] == ["app/0", "app/1", "other/0"]
    assert shown(life.container("app")) == "terminated Error 42"


def test_the_deadline_of_the_pod_ends_a_restart_of_all():
    """§7.7"""
    life = Life(
        pod(asking("app"), restart_policy="Never", active_deadline_seconds=15),
        {"app": exits(42, 0)},
    ).run()
    assert [t for t, _ in life.starts] == [0, 0, 10]
    assert (life.now, life.status.reason) == (15, "DeadlineExceeded")


def test_a_machine_that_starts_anew_carries_the_restart_on():
    """§3.4.3, §4.3.3: though a pod that never restarts would not be run again."""
    spec = pod(asking("a"), "b", init=[container("i")], restart_policy="Never")
    known = in_place(spec, a=ended(42), b=running(), i=ended(0))
    known = observe(known, facts.SandboxLost(NOW, "another"))
    plan = decide(known, NOW)
    assert in_words(plan.actions) == ["start i/1"]
    assert plan.status.phase == "Pending"
    assert [c.restarts for c in known.containers] == [1, 1, 1]
    assert container_status(plan.status, "b").restart_count == 1
