"""What may change of a pod: images, deadlines, metadata, and containers to look into it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from supervisor.api import v1
from supervisor.lifecycle import facts, reasons
from supervisor.lifecycle.decide import decide
from supervisor.lifecycle.record import Kind, observe
from tests.lifecycle.lives import (
    FOREVER,
    PASSES,
    Life,
    Run,
    at,
    container,
    exits,
    pod,
    pre_stop,
    probe,
    sidecar,
)


def imaged(name: str, image: str = "a:1", **fields: Any) -> v1.Container:
    return container(name, image=image, **fields)


def update(life: Life, when: float, **spec: Any) -> Life:
    """With these fields of the spec; images by container."""
    images = spec.pop("images", {})

    def change(now: facts.Instant) -> facts.Fact:
        new = life.record.pod.spec
        new = replace(
            new,
            containers=_with(new.containers, images),
            init_containers=_with(new.init_containers, images),
            **spec,
        )
        return facts.PodUpdated(now, replace(life.record.pod, spec=new))

    return life.tell(when, change)


def _with(containers: tuple[v1.Container, ...], images: dict[str, str]) -> tuple[v1.Container, ...]:
    return tuple(replace(c, image=images.get(c.name, c.image)) for c in containers)


def mark(life: Life, when: float, **metadata: Any) -> Life:
    def change(now: facts.Instant) -> facts.Fact:
        new = replace(life.record.pod.metadata, **metadata)
        return facts.PodUpdated(now, replace(life.record.pod, metadata=new))

    return life.tell(when, change)


def added(life: Life, when: float, *names: str) -> Life:
    more = tuple(v1.EphemeralContainer(name=name, command=(name,)) for name in names)
    return update(life, when, ephemeral_containers=more)


def killings(life: Life) -> list[str]:
    return [e.message for _, e in life.events if e.reason == reasons.KILLING]


def starts(life: Life) -> list[tuple[float, str]]:
    return [(round(when, 3), what) for when, what in life.starts]


@pytest.mark.parametrize("policy", ["Always", "OnFailure", "Never"])
def test_a_changed_image_restarts_its_container_alone_whatever_the_policy(policy: str) -> None:
    """§7.6.2"""
    life = Life(pod(imaged("a"), imaged("b"), restart_policy=policy))
    update(life, 100, images={"a": "a:2"}).run(200)
    assert starts(life) == [(0, "a/0"), (0, "b/0"), (100, "a/1")]
    assert killings(life) == ["Container a definition changed, will be restarted"]
    assert life.record.pod.metadata.generation == 2
    assert life.record.status.observed_generation == 2
    assert life.record.status.container_statuses[0].image == "a:2"


def test_a_changed_container_has_its_pre_stop_and_its_grace() -> None:
    """§7.6.1"""
    app = imaged("a", **pre_stop())
    life = Life(
        pod(app, termination_grace_period_seconds=7), script={"a": [Run(stops_in=None), FOREVER]}
    )
    update(life, 100, images={"a": "a:2"}).run(200)
    assert [what for _, what in life.hooked] == ["a/0 preStop begins", "a/0 preStop ends"]
    assert starts(life) == [(0, "a/0"), (107, "a/1")]


def test_back_off_begins_anew_with_another_image() -> None:
    """§3.2.3"""
    life = Life(pod(imaged("a")), script={"a": exits(1)})
    update(life, 100, images={"a": "a:2"}).run(200)
    times = [when for when, _ in starts(life)]
    assert times[:5] == [0, 0, 10, 30, 70]
    assert times[5:8] == [100, 110, 130]


def test_a_container_that_is_changed_while_it_is_started_starts_once_more() -> None:
    life = Life(pod(imaged("a")), latency=1.0)
    update(life, 1.5, images={"a": "a:2"}).run(100)
    assert [what for _, what in starts(life)] == ["a/0", "a/1"]


def test_two_changes_at_once_restart_it_once() -> None:
    life = Life(pod(imaged("a")), script={"a": [Run(stops_in=5.0), FOREVER]})
    update(life, 50, images={"a": "a:2"})
    update(life, 52, images={"a": "a:3"}).run(200)
    assert starts(life) == [(0, "a/0"), (55, "a/1")]


def test_a_container_that_is_done_stays_done() -> None:
    life = Life(pod(imaged("a"), imaged("b"), restart_policy="Never"), script={"a": exits(0, 10.0)})
    update(life, 100, images={"a": "a:2"}).run(200)
    assert starts(life) == [(0, "a/0"), (0, "b/0")]


def test_what_is_ending_is_not_restarted_for_its_image() -> None:
    life = Life(pod(imaged("a")), script={"a": Run(stops_in=5.0)})
    life.delete(10)
    update(life, 12, images={"a": "a:2"}).run()
    assert starts(life) == [(0, "a/0")]


def test_the_sandbox_of_a_changed_sidecar_stays() -> None:
    side = replace(sidecar("s"), image="s:1")
    life = Life(pod(imaged("a"), init=(side,)))
    update(life, 100, images={"s": "s:2"}).run(200)
    assert starts(life) == [(0, "s/0"), (0, "a/0"), (100, "s/1")]
    assert killings(life) == ["Init container s definition changed"]


def test_an_init_container_that_runs_goes_on_and_has_the_image_when_it_runs_again() -> None:
    """§7.6.2"""
    init = imaged("i", "i:1")
    life = Life(pod(imaged("a"), init=(init,)), script={"i": [Run(50.0, 1), Run(5.0, 0)]})
    update(life, 20, images={"i": "i:2"}).run(30)
    assert life.record.status.init_container_statuses[0].image == "i:1"
    life.run(100)
    assert starts(life) == [(0, "i/0"), (50, "i/1"), (55, "a/0")]
    assert killings(life) == []
    assert life.record.status.init_container_statuses[0].image == "i:2"


def test_the_status_says_the_image_of_what_runs() -> None:
    life = Life(pod(imaged("a")), script={"a": [Run(stops_in=5.0), FOREVER]})
    update(life, 50, images={"a": "a:2"}).run(52)
    assert life.record.status.container_statuses[0].image == "a:1"
    life.run(100)
    assert life.record.status.container_statuses[0].image == "a:2"


def test_a_change_that_is_taken_back_before_the_start_is_over_restarts_nothing() -> None:
    life = Life(pod(imaged("a")), latency=1.0)
    update(life, 1.2, images={"a": "a:2"})
    update(life, 1.4, images={"a": "a:1"}).run(100)
    assert [what for _, what in starts(life)] == ["a/0"]


def test_what_could_not_start_is_tried_at_once_with_another_image() -> None:
    """§3.2.3"""
    life = Life(pod(imaged("a")), failing=_no_start_before(2))
    update(life, 3, images={"a": "a:2"}).run(100)
    assert starts(life)[-1] == (3, "a/0")


def _no_start_before(moment: float) -> Callable[[facts.Action, float], str]:
    def fails(action: facts.Action, now: float) -> str:
        return "no" if isinstance(action, facts.StartContainer) and now < moment else ""

    return fails


def test_labels_restart_nothing_and_count_no_generation() -> None:
    life = Life(pod(imaged("a")))
    mark(life, 50, labels={"x": "y"}, annotations={"n": "m"}).run(100)
    assert starts(life) == [(0, "a/0")]
    meta = life.record.pod.metadata
    assert (meta.labels, meta.annotations, meta.generation) == ({"x": "y"}, {"n": "m"}, 1)


def test_what_may_not_change_stays() -> None:
    life = Life(pod(imaged("a")))
    update(life, 50, restart_policy="Never", host_network=True)
    mark(life, 51, name="other", uid="other", deletion_timestamp="2027-01-15T08:00:00Z").run(100)
    assert life.record.pod == life.pod


def test_a_deadline_may_be_added() -> None:
    """§7.7"""
    life = Life(pod(imaged("a")))
    update(life, 50, active_deadline_seconds=60).run()
    status = life.record.status
    assert (status.phase, status.reason) == ("Failed", "DeadlineExceeded")
    assert life.ends[0][0] == 60


def test_finalizers_do_not_keep_anything_running() -> None:
    """§7.1.6"""
    life = Life(pod(imaged("a")))
    mark(life, 1, finalizers=("x.org/hold",))
    life.delete(10).run()
    assert life.plan is not None
    assert (life.plan.done, life.plan.gone) == (True, False)
    free = replace(life.record.pod, metadata=replace(life.record.pod.metadata, finalizers=()))
    record = observe(life.record, facts.PodUpdated(at(100), free))
    assert decide(record, at(100)).gone


@pytest.mark.parametrize("held", [False, True], ids=["nothing", "a finalizer"])
def test_a_forced_deletion_hides_the_object_unless_it_is_held_by(held: bool) -> None:
    """§7.1.5"""
    life = Life(pod(imaged("a")), script={"a": Run(stops_in=None)})
    if held:
        mark(life, 1, finalizers=("x.org/hold",))
    life.tell(10, lambda now: facts.DeletionRequested(now, force=True)).run()
    assert life.record.is_hidden is not held
    assert life.ends[0][0] == 12  # the least: 2 s after the signal
    assert life.plan is not None
    assert life.plan.gone is not held
    if held:
        free = replace(life.record.pod, metadata=replace(life.record.pod.metadata, finalizers=()))
        assert observe(life.record, facts.PodUpdated(at(100), free)).is_hidden


def test_a_deletion_may_be_forced_afterwards() -> None:
    """§7.1.3"""
    life = Life(
        pod(imaged("a"), termination_grace_period_seconds=600), script={"a": Run(stops_in=None)}
    )
    life.delete(10).tell(20, lambda now: facts.DeletionRequested(now, force=True)).run()
    assert life.record.is_hidden
    assert life.ends[0][0] == 21


# --- ephemeral containers -----------------------------------------------------------------------


def test_an_ephemeral_container_starts_once_and_changes_nothing_else() -> None:
    """§2.4.6, §9.5"""
    app = imaged("a", readiness_probe=probe())
    life = Life(pod(app), script={"dbg": exits(3, 5.0)}, answers={"a readiness": PASSES})
    added(life, 100, "dbg").run(1000)
    assert starts(life) == [(0, "a/0"), (100, "dbg/0")]
    status = life.record.status
    assert status.phase == "Running"
    assert [c.name for c in status.container_statuses] == ["a"]
    (shown,) = status.ephemeral_container_statuses
    assert shown.state.terminated is not None
    assert shown.state.terminated.exit_code == 3
    assert (shown.ready, shown.started, shown.restart_count) == (False, None, 0)
    ready = [c.status for c in status.conditions if c.type in ("Ready", "ContainersReady")]
    assert ready == ["True", "True"]
    paths = {e.field_path for _, e in life.events if "dbg" in e.field_path}
    assert paths == {"spec.ephemeralContainers{dbg}"}
    assert life.record.pod.metadata.generation == 2


def test_an_ephemeral_container_may_come_while_the_pod_initializes() -> None:
    """§9.5"""
    life = Life(pod(imaged("a"), init=(container("i"),)), script={"i": Run(lasts=50.0)})
    added(life, 10, "dbg").run(100)
    assert starts(life) == [(0, "i/0"), (10, "dbg/0"), (50, "a/0")]


def test_ephemeral_containers_end_with_their_pod() -> None:
    life = Life(pod(imaged("a"), restart_policy="Never"), script={"a": exits(0, 100.0)})
    added(life, 10, "dbg").run()
    assert life.record.status.phase == "Succeeded"
    assert [(when, name) for when, name, _ in life.ends] == [(100, "a/0"), (100, "dbg/0")]


def test_sidecars_do_not_wait_for_ephemeral_containers() -> None:
    """§7.4"""
    life = Life(
        pod(imaged("a"), init=(sidecar("s"),), termination_grace_period_seconds=20),
        script={"dbg": Run(stops_in=None)},
    )
    added(life, 10, "dbg")
    life.delete(100).run()
    assert [name for _, name, _ in life.ends] == ["a/0", "s/0", "dbg/0"]
    assert life.ends[1][0] == 100


def test_of_ephemeral_containers_only_new_ones_are_taken_over() -> None:
    life = Life(pod(imaged("a")))
    added(life, 10, "one")
    added(life, 20, "two")  # without the first
    added(life, 30, "one", "a")
    life.run(100)
    kinds = [(c.name, c.kind) for c in life.record.containers]
    assert kinds == [("a", Kind.APP), ("one", Kind.EPHEMERAL), ("two", Kind.EPHEMERAL)]
    names = list(itertools.chain(what for _, what in starts(life)))
    assert names == ["a/0", "one/0", "two/0"]
