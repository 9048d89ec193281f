"""From one life of a node to the next: what must not get lost on the way. Exact times."""

from __future__ import annotations

import anyio
import pytest

from supervisor.api import v1
from supervisor.errors import NodeError
from supervisor.kubelet.clock import Clock
from supervisor.kubelet.node import Node
from supervisor.lifecycle import hooks
from supervisor.lifecycle.facts import ContainerId, HookKind
from supervisor.lifecycle.hooks import HookEnd
from supervisor.lifecycle.record import PodRecord
from supervisor.runtime.cri import ExecResult, Exit, Found, LaunchSpec, Presence
from supervisor.store.contract import Change
from supervisor.store.memory import MemoryStore

from .conftest import FakeRuntime, Program, world

pytestmark = pytest.mark.anyio

PRE_STOP = {
    "lifecycle": v1.Lifecycle(pre_stop=v1.LifecycleHandler(exec=v1.ExecAction(command=("bye",))))
}


def pod(*names: str, grace: int = 10, **fields: object) -> v1.Pod:
    return v1.Pod(
        metadata=v1.ObjectMeta(name="web", namespace="default"),
        spec=v1.PodSpec(
            containers=tuple(v1.Container(name=n, command=(n,), **fields) for n in names),  # type: ignore[arg-type]
            restart_policy="Never",
            termination_grace_period_seconds=grace,
        ),
    )


async def stored(store: MemoryStore) -> PodRecord:
    [known] = (await store.load()).pods
    return known.record


async def first_life(
    clock: Clock, store: MemoryStore, wanted: v1.Pod, *, deleted: bool = False
) -> str:
    """A node that takes on a pod, and is gone after a second; returns the pod's uid."""
    names = [c.name for c in wanted.spec.containers]
    async with world(clock, {name: Program() for name in names}, store=store) as w:
        w.runtime.execs["bye"] = lambda _: (0, 1000.0)
        worker = w.node.run_pod(wanted)
        await clock.sleep(1)
        if deleted:
            w.node.delete(worker)
            await clock.sleep(1)
        return worker.pod.metadata.uid


def running(uid: str, *names: str) -> dict[ContainerId, Found]:
    return {ContainerId(uid, name, 0): Found(Presence.RUNNING, pid=77) for name in names}


async def test_an_end_that_is_told_while_its_pod_is_still_being_looked_at_counts(
    fake_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K04: it is news as soon as its container is adopted, before the next one is."""
    store = MemoryStore()
    uid = await first_life(fake_clock, store, pod("a", "b"))
    first = ContainerId(uid, "a", 0)

    async def adopt(self: FakeRuntime, spec: LaunchSpec) -> Found:
        if spec.id == first:
            del self.running[first]
            self.unacknowledged.add(first)
            self._send.send_nowait(Exit(first, fake_clock.now(), 7))
        else:
            await fake_clock.sleep(1)  # the news is heard meanwhile
        return self.found[spec.id]

    monkeypatch.setattr(FakeRuntime, "adopt", adopt)
    programs: dict[str, Program | list[Program]] = {"a": Program(), "b": Program()}
    async with world(fake_clock, programs, store=store, found=running(uid, "a", "b")) as w:
        await w.node.restore()
        await fake_clock.sleep(1)
    [a, b] = (await stored(store)).containers
    assert a.ended is not None
    assert a.ended.exit_code == 7
    assert b.running is not None


async def test_a_durable_node_that_loses_its_runtime_leaves_its_pods_as_they_are(
    fake_clock: Clock,
) -> None:
    """Their processes run on: who comes next needs what is stored, and their files."""
    store = MemoryStore()
    async with world(fake_clock, {"app": Program()}, store=store) as w:
        w.node.run_pod(pod("app"))
        await fake_clock.sleep(1)
        before = await stored(store)
        w.runtime.break_down()
        with pytest.raises(NodeError):
            await w.node.wait()
        assert w.runtime.times("remove", "web") == []
        assert len(w.runtime.sandboxes) == 1
    assert await stored(store) == before
    assert before.containers[0].running is not None


async def test_a_durable_node_that_loses_its_runtime_waits_for_no_pod_that_it_never_took_on(
    fake_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    uid = await first_life(fake_clock, store, pod("app"))

    async def adopt(self: FakeRuntime, spec: LaunchSpec) -> Found:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(FakeRuntime, "adopt", adopt)
    found = running(uid, "app")
    async with world(fake_clock, {"app": Program()}, store=store, found=found) as w:
        await w.node.restore()
        await fake_clock.sleep(3)
        w.runtime.break_down()
        with anyio.fail_after(60), pytest.raises(NodeError):
            await w.node.wait()
    assert (await stored(store)).containers[0].running is not None


async def resume_with_result(
    clock: Clock, store: MemoryStore, uid: str, result: ExecResult, exits: int | None
) -> PodRecord:
    id = ContainerId(uid, "app", 0)
    kept = frozenset({(id, "preStop")})
    async with world(clock, {"app": Program()}, store=store, found=running(uid, "app")) as w:
        w.runtime.kept_execs = w.runtime.ended_execs = kept
        w.runtime.results[id, "preStop"] = result
        if exits is not None:
            w.runtime._end(id, exits)
        await w.node.restore()
        [worker] = w.node.workers
        await clock.sleep(0.5)
        assert w.runtime.results == {}, "what is committed is forgotten"
        return worker.record


async def test_what_a_hook_has_left_counts_though_its_container_has_ended_since(
    fake_clock: Clock,
) -> None:
    """§6.4.2: `nginx -s quit` succeeds, then nginx ends, and nobody was there"""
    store = MemoryStore()
    uid = await first_life(fake_clock, store, pod("app", **PRE_STOP), deleted=True)
    record = await resume_with_result(fake_clock, store, uid, ExecResult(0, b"quit"), exits=0)
    hook = hooks.find(record.containers[0].hooks, HookKind.PRE_STOP)
    assert hook is not None
    assert (hook.end, hook.output, hook.runs) == (HookEnd.SUCCEEDED, "quit", 1)


async def test_what_a_hook_has_left_counts_though_its_deadline_has_passed_since(
    fake_clock: Clock,
) -> None:
    """§6.4.2"""
    store = MemoryStore()
    uid = await first_life(fake_clock, store, pod("app", grace=3, **PRE_STOP), deleted=True)
    await fake_clock.sleep(60)
    record = await resume_with_result(fake_clock, store, uid, ExecResult(4, b""), exits=None)
    hook = hooks.find(record.containers[0].hooks, HookKind.PRE_STOP)
    assert hook is not None
    assert hook.end is HookEnd.FAILED


async def test_one_pod_that_cannot_be_taken_on_now_keeps_no_other_from_it(
    fake_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    uid = await first_life(fake_clock, store, pod("app"))
    failures = [OSError(24, "Too many open files")] * 2
    real = FakeRuntime.adopt

    async def adopt(self: FakeRuntime, spec: LaunchSpec) -> Found:
        if failures:
            raise failures.pop()
        return await real(self, spec)

    monkeypatch.setattr(FakeRuntime, "adopt", adopt)
    programs: dict[str, Program | list[Program]] = {"app": Program(), "new": Program()}
    async with world(fake_clock, programs, store=store, found=running(uid, "app")) as w:
        await w.node.restore()
        other = w.node.run_pod(pod("new"))
        await fake_clock.sleep(0.5)
        assert other.status.phase == "Running"
        told = [e.message for e in w.seen.recorded if e.reason == "FailedSync"]
        assert told == [
            "cannot look at what runs of the pod, trying again in 1s: "
            "[Errno 24] Too many open files"
        ]
        await fake_clock.sleep(3)
        [mine] = [w for w in w.node.workers if w.pod.metadata.uid == uid]
        assert mine.status.phase == "Running"
        assert w.runtime.times("start", "app") == []


async def test_a_pod_whose_state_cannot_even_be_written_down_is_parked_alone(
    fake_clock: Clock,
) -> None:
    """A bug in one pod parks that pod, also a bug in storing it."""

    class Picky(MemoryStore):
        refused = 0

        async def commit(self, change: Change) -> int:
            if change.record is not None and change.record.containers[0].name == "bad":
                self.refused += 1
                raise UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates not allowed")
            return await super().commit(change)

    programs: dict[str, Program | list[Program]] = {"bad": Program(), "good": Program()}
    store = Picky()
    async with world(fake_clock, programs, store=store) as w:
        w.node.run_pod(pod("bad"))
        good = w.node.run_pod(pod("good"))
        await fake_clock.sleep(15)
        assert good.status.phase == "Running"
        assert w.runtime.times("start", "bad") == []
        assert store.refused == 2
        assert len(w.node.bugs) == 1  # the same one is said once
        for number in range(1000):
            w.node.report_bug("somewhere", f"at 0x{number:x}")
        assert len(w.node.bugs) == 100
        w.node.bugs.clear()


async def test_a_node_that_is_stopping_stops_also_what_it_takes_on_later(
    fake_clock: Clock,
) -> None:
    """§7.8"""
    store = MemoryStore()
    uid = await first_life(fake_clock, store, pod("app"))
    async with world(
        fake_clock, {"app": Program(term=0.0)}, store=store, found=running(uid, "app")
    ) as w:
        w.node.stop_all()
        await w.node.restore()
        with anyio.fail_after(60):
            await w.node.wait()
    record = await stored(store)
    assert (record.status.phase, record.status.reason) == ("Failed", "Terminated")


async def test_news_about_a_pod_that_nobody_knows_is_no_trouble(fake_clock: Clock) -> None:
    async with world(fake_clock, {"app": Program()}) as w:
        assert isinstance(w.node, Node)
        w.runtime._send.send_nowait(Exit(ContainerId("nobody", "x", 0), fake_clock.now(), 0))
        worker = w.node.run_pod(pod("app"))
        await fake_clock.sleep(1)
        assert worker.status.phase == "Running"
