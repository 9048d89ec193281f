"""Pods that are changed while they live, and go when they may: the node's side of the API's writes.

The names in brackets are those of the acceptance scenarios.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from msgspec.structs import replace

from supervisor.api import v1
from supervisor.kubelet.clock import Clock
from supervisor.kubelet.worker import PodWorker
from supervisor.lifecycle import reasons
from supervisor.lifecycle.facts import ContainerId, PodUpdated
from supervisor.runtime.cri import Found, Presence
from supervisor.store.contract import Change, Revision
from supervisor.store.memory import MemoryStore

from .conftest import Program, World, world
from .test_pod_volumes import Machine, manager

pytestmark = pytest.mark.anyio

HELD = ("example.org/hold",)


def pod(*names: str, grace: int = 30, policy: str = "Always") -> v1.Pod:
    return v1.Pod(
        metadata=v1.ObjectMeta(name="web", namespace="default"),
        spec=v1.PodSpec(
            containers=tuple(
                v1.Container(name=name, command=("x",), image=f"{name}:1") for name in names
            ),
            restart_policy=policy,
            termination_grace_period_seconds=grace,
        ),
    )


def update(w: World, worker: PodWorker, pod: v1.Pod) -> PodWorker:
    return w.node.tell(worker, PodUpdated(at=w.clock.now(), pod=pod))


def imaged(pod: v1.Pod, **images: str) -> v1.Pod:
    containers = tuple(replace(c, image=images.get(c.name, c.image)) for c in pod.spec.containers)
    return replace(pod, spec=replace(pod.spec, containers=containers))


def marked(pod: v1.Pod, finalizers: tuple[str, ...] = (), **labels: str) -> v1.Pod:
    return replace(pod, metadata=replace(pod.metadata, finalizers=finalizers, labels=labels))


def debugged(pod: v1.Pod, target: str) -> v1.Pod:
    added = v1.EphemeralContainer(name="debug", command=("x",), target_container_name=target)
    return replace(pod, spec=replace(pod.spec, ephemeral_containers=(added,)))


def gone(revisions: list[Revision]) -> list[bool]:
    return [r.object is None for r in revisions if r.resource == "pods"]


async def test_another_image_restarts_one_container_by_its_grace(fake_clock: Clock) -> None:
    """§7.6.1, §7.6.2 [F02]"""
    async with world(fake_clock, {"a": Program(term=3), "b": Program()}) as w:
        worker = w.node.run_pod(pod("a", "b", policy="Never"))
        await w.clock.sleep(10)
        update(w, worker, imaged(worker.pod, a="a:2"))
        await w.clock.sleep(10)
        assert w.runtime.times("start", "a") == [0, 13]
        assert w.runtime.times("start", "b") == [0]
        assert [(c.image, c.restart_count) for c in worker.status.container_statuses] == [
            ("a:2", 1),
            ("b:1", 0),
        ]
        assert [e.message for e in w.seen.recorded if e.reason == reasons.KILLING] == [
            "Container a definition changed, will be restarted"
        ]


async def test_a_restart_for_another_image_goes_on_in_the_next_life_of_the_node(
    fake_clock: Clock,
) -> None:
    """§7.6.2 [F02]"""
    store = MemoryStore()
    async with world(fake_clock, {"a": Program(term=None)}, store=store) as w:
        worker = w.node.run_pod(pod("a", grace=9))
        await w.clock.sleep(10)
        update(w, worker, imaged(worker.pod, a="a:2"))
        await w.clock.sleep(4)
        uid = worker.pod.metadata.uid
    runs = {ContainerId(uid, "a", 0): Found(Presence.RUNNING, 1000)}
    async with world(fake_clock, {"a": Program(term=None)}, store=store, found=runs) as w:
        await w.node.restore()
        await w.clock.sleep(10)
        assert w.runtime.times("TERM", "a") == []  # it was sent by the first life
        assert w.runtime.times("KILL", "a") == [19]
        assert w.runtime.times("start", "a") == [19]


async def test_a_start_that_a_crash_has_hidden_is_known_to_be_of_the_image_before(
    fake_clock: Clock,
) -> None:
    store = MemoryStore()
    async with world(fake_clock, {"a": Program(start_takes=5)}, store=store) as w:
        worker = w.node.run_pod(pod("a"))
        await w.clock.sleep(2)
        update(w, worker, imaged(worker.pod, a="a:2"))
        await w.clock.sleep(1)
        uid = worker.pod.metadata.uid
    runs = {ContainerId(uid, "a", 0): Found(Presence.RUNNING, 1000)}
    async with world(fake_clock, {"a": Program()}, store=store, found=runs) as w:
        await w.node.restore()
        await w.clock.sleep(10)
        assert w.runtime.times("TERM", "a") == [3]
        assert w.runtime.times("start", "a") == [3]


async def test_labels_are_seen_in_volumes_and_restart_nothing(
    fake_clock: Clock, tmp_path: Path
) -> None:
    """§9.3.4 [I05]"""
    shown = v1.DownwardAPIVolumeFile(
        path="labels",
        field_ref=v1.ObjectFieldSelector(api_version="v1", field_path="metadata.labels"),
    )
    volume = v1.Volume(name="v", downward_api=v1.DownwardAPIVolumeSource(items=(shown,)))
    made = pod("a")
    made = replace(made, spec=replace(made.spec, volumes=(volume,)))
    async with world(fake_clock, {"a": Program()}, volumes=manager(Machine(tmp_path))) as w:
        worker = w.node.run_pod(made)
        await w.clock.sleep(1)
        update(w, worker, marked(worker.pod, colour="blue"))
        await w.clock.sleep(1)
        [file] = tmp_path.glob("**/v/labels")
        assert file.read_text() == 'colour="blue"'
        assert w.runtime.times("start", "a") == [0]
        assert worker.pod.metadata.generation == 1


async def test_a_finalizer_keeps_a_pod_also_over_a_restart_of_the_node(fake_clock: Clock) -> None:
    """§1.1.12, §7.1.6 [E09]"""
    store, heard = MemoryStore(), list[Revision]()
    store.follow(heard.append)
    async with world(fake_clock, {"a": Program()}, store=store) as w:
        worker = w.node.run_pod(marked(pod("a"), HELD))
        await w.clock.sleep(1)
        w.node.delete(worker)
        await worker.finished.wait()
        assert worker.status.phase in reasons.TERMINAL_PHASES
        assert w.node.workers == (worker,)
        # What has ended is changed as well.
        after = update(w, worker, marked(worker.pod, HELD, seen="yes"))
        await after.finished.wait()
        assert after.pod.metadata.labels == {"seen": "yes"}
    async with world(fake_clock, {"a": Program()}, store=store) as w:
        await w.node.restore()
        [worker] = w.node.workers
        await worker.finished.wait()
        assert len((await store.load()).pods) == 1
        assert not any(gone(heard))
        worker = update(w, worker, marked(worker.pod))
        await worker.finished.wait()
        assert w.node.workers == ()
        assert (await store.load()).pods == ()
        assert gone(heard)[-1]
        assert w.runtime.times("start", "a") == []


async def test_labels_of_a_pod_that_has_succeeded_may_change(fake_clock: Clock) -> None:
    async with world(fake_clock, {"a": Program(runs=1)}) as w:
        worker = w.node.run_pod(pod("a", policy="Never"))
        await worker.finished.wait()
        worker = update(w, worker, marked(worker.pod, done="yes"))
        await worker.finished.wait()
        assert (worker.status.phase, worker.pod.metadata.labels) == ("Succeeded", {"done": "yes"})


class SlowStore(MemoryStore):
    """Its commits take a second."""

    async def commit(self, change: Change) -> int:
        await trio.sleep(1)
        return await super().commit(change)


async def test_what_is_changed_while_the_end_is_being_stored_is_changed(fake_clock: Clock) -> None:
    async with world(fake_clock, {"a": Program(runs=10)}, store=SlowStore()) as w:
        worker = w.node.run_pod(marked(pod("a", policy="Never"), HELD))
        with trio.fail_after(60):
            while w.runtime.sandboxes or not w.runtime.times("start", "a"):
                await w.clock.sleep(0.1)
        # The last commit, that of the terminal phase, is on its way.
        await w.clock.sleep(0.5)
        assert not worker.finished.is_set()
        assert update(w, worker, marked(worker.pod, HELD, late="yes")) is worker
        await worker.finished.wait()
        assert worker.pod.metadata.labels == {"late": "yes"}


async def test_a_forced_deletion_frees_the_name_while_processes_still_end(
    fake_clock: Clock,
) -> None:
    """§7.1.5 [E10]"""
    store, heard = MemoryStore(), list[Revision]()
    store.follow(heard.append)

    async def forced(w: World) -> PodWorker:
        worker = w.node.run_pod(pod("a", grace=600))
        await w.clock.sleep(10)
        w.node.delete(worker, 0, force=True)
        await w.clock.sleep(0.5)
        return worker

    async with world(fake_clock, {"a": Program(term=None)}, store=store) as w:
        first = await forced(w)
        assert gone(heard)[-1]
        assert gone(heard).count(True) == 1
        assert w.runtime.times("KILL", "a") == []
        # Names are free: a pod with the same one has a uid, and so all else, of its own.
        second = w.node.run_pod(replace(pod("b"), metadata=first.pod.metadata))
        w.runtime.programs["b"] = Program()
        await first.finished.wait()
        assert w.runtime.times("KILL", "a") == [12]
        assert w.node.workers == (second,)
        assert gone(heard).count(True) == 1


async def test_what_a_forced_deletion_has_hidden_is_ended_by_the_next_life_of_the_node(
    fake_clock: Clock,
) -> None:
    """§7.1.5 [E10]"""
    store, heard = MemoryStore(), list[Revision]()
    async with world(fake_clock, {"a": Program(term=None)}, store=store) as w:
        worker = w.node.run_pod(pod("a"))
        await w.clock.sleep(10)
        w.node.delete(worker, 0, force=True)
        await w.clock.sleep(0.5)
        uid = worker.pod.metadata.uid
    store.follow(heard.append)
    runs = {ContainerId(uid, "a", 0): Found(Presence.RUNNING, 1000)}
    async with world(fake_clock, {"a": Program(term=None)}, store=store, found=runs) as w:
        await w.node.restore()
        await w.node.wait()
        assert w.runtime.times("KILL", "a") == [12]
        assert (await store.load()).pods == ()
        assert gone(heard) == []


async def test_an_ephemeral_container_is_started_for_the_instance_it_looks_at(
    fake_clock: Clock,
) -> None:
    """§4.1.3, §9.5 [H21]"""
    programs: dict[str, Program | list[Program]] = {
        "a": [Program(runs=5), Program()],
        "debug": Program(runs=3, code=4),
    }
    async with world(fake_clock, programs) as w:
        worker = w.node.run_pod(pod("a"))
        await w.clock.sleep(10)
        update(w, worker, debugged(worker.pod, "a"))
        await w.clock.sleep(100)
        assert w.runtime.times("start", "debug") == [10]
        assert w.runtime.targets["debug"] == ContainerId(worker.pod.metadata.uid, "a", 1)
        [status] = worker.status.ephemeral_container_statuses
        assert status.state.terminated is not None
        assert (status.state.terminated.exit_code, status.restart_count) == (4, 0)
        assert worker.status.phase == "Running"
        started = [e for e in w.seen.recorded if e.reason == reasons.STARTED]
        assert started[-1].involved_object.field_path == "spec.ephemeralContainers{debug}"


async def test_an_ephemeral_container_waits_for_what_it_is_to_look_at(fake_clock: Clock) -> None:
    """§9.5"""
    programs: dict[str, Program | list[Program]] = {
        "a": [Program(runs=1, code=1), Program(runs=1, code=1), Program()],
        "debug": Program(),
    }
    async with world(fake_clock, programs) as w:
        worker = w.node.run_pod(pod("a"))
        await w.clock.sleep(5)  # it is backing off
        update(w, worker, debugged(worker.pod, "a"))
        await w.clock.sleep(1)
        waiting = worker.status.ephemeral_container_statuses[0].state.waiting
        assert waiting is not None
        assert waiting.reason == reasons.CREATE_CONTAINER_CONFIG_ERROR
        await w.clock.sleep(60)
        assert len(w.runtime.times("start", "debug")) == 1
        assert w.runtime.targets["debug"] == ContainerId(worker.pod.metadata.uid, "a", 2)
