"""The pid namespace that the containers of a pod share dies under them; the machine goes on."""

from __future__ import annotations

from typing import Any

from supervisor.lifecycle import facts
from supervisor.lifecycle.decide import decide
from supervisor.lifecycle.facts import StartContainer
from supervisor.lifecycle.record import PodRecord, Sandbox, observe
from tests.lifecycle.lives import container, pod, sidecar
from tests.lifecycle.records import NOW, ended, ending, in_words, instance, record, running


def known(policy: str = "Always", **states: Any) -> PodRecord:
    spec = pod(
        "app",
        init=[container("i"), sidecar("side")],
        restart_policy=policy,
        share_process_namespace=True,
    )
    fields = states.pop("fields", None)
    return record(spec, fields=fields, **states)


def died(before: PodRecord, *names: str) -> PodRecord:
    """With these containers."""
    after = observe(before, facts.SandboxDied(NOW))
    for name in names:
        end = facts.ContainerExited(NOW, instance(name), 137)
        after = observe(after, end)
    return after


def test_nothing_starts_before_all_that_was_in_it_is_seen_to_end():
    """§4.3.3, §9.4.5"""
    before = known(i=ended(0), side=running(), app=running())
    after = died(before, "app")
    assert after.sandbox is Sandbox.DEAD
    plan = decide(after, NOW)
    assert plan.actions == ()
    assert "SandboxChanged" not in [event.reason for event in plan.events]


def test_then_the_pod_begins_in_another_one_with_its_first_init_container():
    """§4.3.3, §9.4.5"""
    after = died(known(i=ended(0), side=running(), app=running()), "app", "side")
    plan = decide(after, NOW)
    assert in_words(plan.actions) == ["sandbox"]
    assert [event.reason for event in plan.events].count("SandboxChanged") == 1
    after = observe(after, facts.SandboxReady(NOW))
    assert in_words(decide(after, NOW).actions) == ["start i/1"]
    (app,) = [c for c in after.containers if c.name == "app"]
    assert app.ended is not None
    assert app.ended.exit_code == 137


def test_it_does_not_matter_that_the_ends_are_seen_first():
    """§4.3.3"""
    before = known(i=ended(0), side=ended(137), app=ended(137))
    assert in_words(decide(died(before), NOW).actions) == ["sandbox"]


def test_a_start_under_way_is_waited_for():
    """§4.3.3"""
    id = instance("app")
    before = known(
        i=ended(0), side=running(), fields={"in_flight": frozenset({StartContainer(id)})}
    )
    after = died(before, "side")
    assert after.sandbox is Sandbox.DEAD
    after = observe(after, facts.StartFailed(NOW, id, "CreateContainerError", "gone", False))
    assert after.sandbox is Sandbox.ABSENT
    after = observe(after, facts.SandboxReady(NOW))
    assert in_words(decide(after, NOW).actions) == ["start i/1"]


def test_a_pod_that_never_restarts_does_not_begin_anew():
    """§4.3.3"""
    before = known("Never", i=ended(0), side=running(), app=running())
    after = died(before, "side", "app")
    assert after.sandbox is Sandbox.ABSENT
    assert "SandboxChanged" not in [event.reason for event in after.owed_events]
    assert in_words(decide(after, NOW).actions) == ["finish"]


def test_a_pod_that_is_ending_goes_on_ending():
    """§7.1.1"""
    before = known(
        i=ended(0), side=running(), app=running(), fields={"termination": ending(since=90)}
    )
    after = died(before, "app", "side")
    assert in_words(decide(after, NOW).actions) == ["finish"]


def test_a_sandbox_that_was_not_there_cannot_die():
    before = known(fields={"sandbox": Sandbox.ABSENT})
    assert died(before) is before
