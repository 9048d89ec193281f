"""What the shell adds to decided hooks: when one begins, who is told how it ended, and how often.

The runner alone first, then whole pods on a store that is slow or cannot write. Exact times.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import TaskGroup

from supervisor.api import v1
from supervisor.errors import NodeError
from supervisor.kubelet.clock import Clock
from supervisor.kubelet.handlers import Execute, Handlers, HookResult
from supervisor.kubelet.hooks import HookRunner, RunHook
from supervisor.kubelet.worker import PodWorker
from supervisor.lifecycle.facts import (
    ConditionSet,
    ContainerId,
    DeletionRequested,
    Fact,
    HookFinished,
    HookInterrupted,
    HookKind,
    HookTarget,
)
from supervisor.lifecycle.hooks import Hook, HookEnd
from supervisor.runtime.cri import ContainerGoneError, Runtime
from supervisor.store.contract import Change
from supervisor.store.memory import MemoryStore

from .conftest import FakeRuntime, Program, World, make_spec, world

pytestmark = pytest.mark.anyio

UID = "u-1"
POST, PRE = HookKind.POST_START, HookKind.PRE_STOP


def program(command: str) -> v1.LifecycleHandler:
    return v1.LifecycleHandler(exec=v1.ExecAction(command=(command,)))


def sleep(seconds: int) -> v1.LifecycleHandler:
    return v1.LifecycleHandler(sleep=v1.SleepAction(seconds=seconds))


REQUEST = v1.LifecycleHandler(http_get=v1.HTTPGetAction(port=80))


def pod(
    *,
    post: v1.LifecycleHandler | None = None,
    pre: v1.LifecycleHandler | None = None,
    grace: int = 30,
    policy: str = "Always",
    **more: v1.Probe,
) -> v1.Pod:
    lifecycle = v1.Lifecycle(post_start=post, pre_stop=pre)
    app = v1.Container(name="app", command=("x",), lifecycle=lifecycle, **more)  # type: ignore[arg-type]
    return v1.Pod(
        metadata=v1.ObjectMeta(name="web", namespace="default", uid=UID),
        spec=v1.PodSpec(
            containers=(app,), restart_policy=policy, termination_grace_period_seconds=grace
        ),
    )


# --- the runner alone ----------------------------------------------------------------------------


class Alone:
    """A runner without a worker: what it told, and whom it called settled."""

    def __init__(self, pod: v1.Pod, runtime: FakeRuntime, run_hook: RunHook | None) -> None:
        self.clock, self.runtime = runtime.clock, runtime
        self.run_hook: RunHook = run_hook or Handlers(runtime.clock).run_hook
        self.told: list[Fact] = []
        self.settled: list[ContainerId] = []
        self.bugs: list[str] = []
        host: _Host = self
        self.runner = HookRunner(pod, "127.0.0.1", host, self.told.append, self.settled.append)
        self.tasks: TaskGroup

    def report_bug(self, where: str, text: str) -> None:
        self.bugs.append(f"{where}: {text}")

    def want(self, *targets: HookTarget) -> None:
        self.runner.reconcile(targets, self.tasks.start_soon)

    @property
    def answers(self) -> list[tuple[float, str, bool]]:
        return [(f.at.boot, str(f.which), f.ok) for f in self.told if isinstance(f, HookFinished)]


class _Host:
    clock: Clock
    runtime: Runtime
    run_hook: RunHook

    def report_bug(self, where: str, text: str) -> None: ...


APP = ContainerId(UID, "app", 0)


@asynccontextmanager
async def alone(clock: Clock, pod: v1.Pod, run_hook: RunHook | None = None) -> AsyncIterator[Alone]:
    """With a container that runs."""
    async with FakeRuntime(clock, {"app": Program()}).open() as runtime:
        await runtime.start(make_spec(pod, pod.spec.containers[0], APP))
        runner = Alone(pod, runtime, run_hook)
        async with anyio.create_task_group() as runner.tasks:
            yield runner
            runner.tasks.cancel_scope.cancel()
        assert not runner.bugs


async def test_a_hook_is_run_once_and_answered_once_however_often_it_is_wanted(
    fake_clock: Clock,
) -> None:
    target = HookTarget(APP, POST, 1)
    async with alone(fake_clock, pod(post=program("up"))) as a:
        a.runtime.execs["up"] = lambda age: (0, 3)
        for _ in range(5):
            a.want(target)
            await a.clock.sleep(1)
        assert a.runtime.times("exec up", "app") == [0]
        assert a.answers == [(3, "postStart", True)]
        assert a.settled == [APP]


async def test_a_hook_that_is_wanted_no_longer_is_cancelled_and_tells_nothing(
    fake_clock: Clock,
) -> None:
    async with alone(fake_clock, pod(post=program("up"))) as a:
        a.runtime.execs["up"] = lambda age: (0, 60)
        a.want(HookTarget(APP, POST, 1))
        await a.clock.sleep(2)
        assert a.runner.is_unsettled(APP)
        a.want()
        await a.clock.sleep(1)
        assert a.runtime.executing == []
        assert a.runtime.forgotten == [(2, "postStart")]
        assert a.told == []
        assert a.settled == [APP]
        assert not a.runner.is_unsettled(APP)


async def test_what_fails_on_our_side_is_no_end_of_the_hook(fake_clock: Clock) -> None:
    async with alone(fake_clock, pod(pre=program("bye"))) as a:
        a.runtime.execs["bye"] = lambda age: 0
        a.runtime.broken_execs.append(NodeError("the launcher ended"))
        a.want(HookTarget(APP, PRE, 1))
        await a.clock.sleep(1)
        (told,) = a.told
        assert isinstance(told, HookInterrupted)
        assert (told.id, told.which) == (APP, PRE)
        a.want(HookTarget(APP, PRE, 2))
        await a.clock.sleep(1)
        assert a.answers == [(1, "preStop", True)]


async def test_a_bug_of_ours_fails_the_hook_and_is_reported(fake_clock: Clock) -> None:
    async def broken(*args: object, **more: object) -> HookResult:
        raise ZeroDivisionError

    async with alone(fake_clock, pod(post=program("up")), broken) as a:
        a.want(HookTarget(APP, POST, 1))
        await a.clock.sleep(1)
        assert a.answers == [(0, "postStart", False)]
        (bug,) = a.bugs
        assert "postStart hook of u-1/app/0" in bug
        a.bugs.clear()


@pytest.mark.parametrize(
    ("handler", "waits"),
    [
        pytest.param(program("up"), True, id="a program answers before its container's end"),
        pytest.param(sleep(9), False, id="a sleep of ours is no reason to wait"),
        pytest.param(REQUEST, False, id="nor is a request of ours"),
    ],
)
async def test_only_programs_have_an_answer_on_its_way(
    fake_clock: Clock, handler: v1.LifecycleHandler, waits: bool
) -> None:
    async def forever(*args: object, **more: object) -> HookResult:
        await anyio.Event().wait()
        raise AssertionError

    async with alone(fake_clock, pod(post=handler), forever) as a:
        a.want(HookTarget(APP, POST, 1))
        await a.clock.sleep(1)
        assert a.runner.is_unsettled(APP) is waits
        assert not a.runner.is_unsettled(ContainerId(UID, "app", 1))


# --- whole pods ----------------------------------------------------------------------------------


class SlowStore(MemoryStore):
    """Takes its time for each change, or cannot write."""

    def __init__(self, clock: Clock, takes: float = 0.0) -> None:
        super().__init__()
        self.clock, self.takes = clock, takes
        self.broken = False
        self.tries = 0

    async def commit(self, change: Change) -> int:
        self.tries += 1
        if self.takes:
            await self.clock.sleep(self.takes)
        if self.broken:
            raise OSError(28, "No space left on device")
        return await super().commit(change)

    @property
    def hooks(self) -> list[Hook]:
        """Of all containers, as stored."""
        return [h for p in self._pods.values() for c in p.record.containers for h in c.hooks]


def hook(worker: PodWorker, which: HookKind) -> Hook:
    return next(h for h in worker.record.containers[0].hooks if h.which is which)


def told(w: World, reason: str) -> list[tuple[str, int]]:
    return [(e.message, e.count) for e in w.seen.recorded if e.reason == reason]


async def end(w: World) -> None:
    w.node.delete_all(kill=True)
    await w.node.wait()


async def test_a_hook_begins_when_its_intent_is_stored(fake_clock: Clock) -> None:
    """§6.4.1, §6.1.1"""
    store = SlowStore(fake_clock, takes=0.5)
    known: list[list[bool]] = []

    def begins(age: float) -> int:
        known.append([hook.is_owed for hook in store.hooks])
        return 0

    async with world(fake_clock, {"app": Program()}, store=store) as w:
        w.runtime.execs |= {"up": begins, "bye": begins}
        w.node.run_pod(pod(post=program("up"), pre=program("bye")))
        await w.clock.sleep(10)
        # The sandbox, the start and the intent are stored one after the other.
        assert w.runtime.times("start", "app") == [1]
        assert w.runtime.times("exec up", "app") == [1.5]
        w.node.delete_all()
        await w.node.wait()
        assert w.runtime.times("exec bye", "app") == [10.5]
        assert known == [[True], [False, True]]


async def test_a_hook_that_ends_while_a_decision_is_being_stored_is_not_run_again(
    fake_clock: Clock,
) -> None:
    """§6.4.1 — that decision does not know of its end yet, and still wants it."""
    store = SlowStore(fake_clock)
    async with world(fake_clock, {"app": Program()}, store=store) as w:
        w.runtime.execs["bye"] = lambda age: (0, 5)
        worker = w.node.run_pod(pod(pre=program("bye")))
        await w.clock.sleep(10)
        w.node.delete_all()
        await w.clock.sleep(4.5)
        store.takes = 1
        worker.tell(ConditionSet(at=w.clock.now(), type="example.com/gate", status="True"))
        await w.clock.sleep(1.2)
        assert w.runtime.executing == []
        assert w.runtime.times("exec bye", "app") == [10]
        store.takes = 0
        await w.node.wait()
        assert hook(worker, PRE).end is HookEnd.SUCCEEDED
        assert w.runtime.times("exec bye", "app") == [10]


async def test_a_hook_that_ends_after_its_deadline_is_not_run_again(fake_clock: Clock) -> None:
    """§6.2.4 — it was left to itself until SIGKILL, and that it ended changes nothing."""
    async with world(fake_clock, {"app": Program(term=None)}) as w:
        w.runtime.execs["bye"] = lambda age: (0, 6)
        worker = w.node.run_pod(pod(pre=program("bye"), grace=5))
        await w.clock.sleep(10)
        w.node.delete_all()
        await w.node.wait()
        assert w.runtime.log[:-1] == [
            (0, "start", "app"),
            (10, "exec bye", "app"),
            (15, "TERM", "app"),
            (17, "KILL", "app"),
            (17, "exit 137", "app"),
        ]
        assert hook(worker, PRE).end is HookEnd.DEADLINE


async def test_a_hook_whose_container_is_found_ended_has_not_failed_and_nothing_is_killed_for_it(
    fake_clock: Clock,
) -> None:
    """§6.2.2 — of its own accord, while nobody was there: that news may take its time."""
    async with world(fake_clock, {"app": Program(runs=2, code=141)}) as w:
        w.runtime.broken_execs.append(ContainerGoneError('container "app" is not running'))
        worker = w.node.run_pod(pod(post=program("up"), pre=sleep(0), policy="Never"))
        await w.node.wait()
        assert hook(worker, POST).end is HookEnd.GONE
        assert [each.which for each in worker.record.containers[0].hooks] == [POST]
        assert w.runtime.times("TERM", "app") == []
        assert len(told(w, "FailedPostStartHook")) == 1
        assert told(w, "Killing") == []


async def test_programs_are_told_which_run_of_which_hook_they_are(fake_clock: Clock) -> None:
    """§6.4.3 — a repetition has the same id, and the next number."""
    async with world(fake_clock, {"app": Program()}) as w:
        w.runtime.execs |= {"up": lambda age: 0, "bye": lambda age: 0}
        w.runtime.broken_execs.append(NodeError("the launcher ended"))
        worker = w.node.run_pod(pod(post=program("up"), pre=program("bye")))
        await w.clock.sleep(5)
        uid = worker.pod.metadata.uid
        assert hook(worker, POST).runs == 2
        assert hook(worker, POST).output == "says 0"
        assert told(w, "FailedPostStartHook") == []
        w.node.delete_all()
        await w.node.wait()
        assert w.runtime.exec_env == [
            {"PODVISOR_HOOK_ID": f"{uid}/app/0/postStart", "PODVISOR_HOOK_ATTEMPT": "2"},
            {"PODVISOR_HOOK_ID": f"{uid}/app/0/preStop", "PODVISOR_HOOK_ATTEMPT": "1"},
        ]


async def test_receivers_are_told_which_run_of_which_hook_it_is(fake_clock: Clock) -> None:
    """§6.3.2, §6.4.3"""
    sent: list[dict[str, str]] = []

    async def send(
        handler: v1.LifecycleHandler,
        container: v1.Container,
        *,
        pod: str,
        host: str,
        execute: Execute,
        headers: Mapping[str, str],
    ) -> HookResult:
        sent.append(dict(headers))
        if len(sent) == 1:
            raise NodeError("the launcher ended")
        return HookResult(True)

    async with world(fake_clock, {"app": Program()}, run_hook=send) as w:
        worker = w.node.run_pod(pod(post=REQUEST))
        await w.clock.sleep(5)
        id = f"{worker.pod.metadata.uid}/app/0/postStart"
        assert sent == [
            {"Idempotency-Key": id, "Podvisor-Hook-Attempt": "1"},
            {"Idempotency-Key": id, "Podvisor-Hook-Attempt": "2"},
        ]
        assert hook(worker, POST).end is HookEnd.SUCCEEDED
        await end(w)


async def test_what_came_of_a_program_is_kept_until_it_is_stored(fake_clock: Clock) -> None:
    """§6.4.2"""
    store = SlowStore(fake_clock, takes=0.5)
    async with world(fake_clock, {"app": Program()}, store=store) as w:
        w.runtime.execs["up"] = lambda age: (0, 2)
        worker = w.node.run_pod(pod(post=program("up")))
        await w.clock.sleep(3.9)  # it ends at 3.5
        assert [hook.is_owed for hook in store.hooks] == [True]
        assert w.runtime.results
        await w.clock.sleep(1)
        assert w.runtime.forgotten == [(4, "postStart")]
        assert not w.runtime.results
        assert hook(worker, POST).output == "says 0"
        await end(w)


async def test_a_program_answers_before_the_end_of_its_container_is_heard(
    fake_clock: Clock,
) -> None:
    """§6.2.3 — else its own end would be lost."""
    async with world(fake_clock, {"app": Program(runs=12)}) as w:
        w.runtime.execs["bye"] = lambda age: (0, 9)
        w.runtime.exec_lag = 1
        worker = w.node.run_pod(pod(pre=program("bye")))
        await w.clock.sleep(10)
        w.node.delete_all()
        await w.clock.sleep(2.5)
        assert w.runtime.times("exit 0", "app") == [12]
        assert worker.status.container_statuses[0].state.running is not None
        await w.node.wait()
        assert w.clock.now().boot == 13
        assert hook(worker, PRE).end is HookEnd.FAILED
        ended = worker.record.containers[0].ended
        assert ended is not None
        assert (ended.exit_code, ended.finished.boot) == (0, 12)
        assert told(w, "FailedPreStopHook") == [("PreStopHook failed", 1)]


async def test_a_sleep_ends_with_its_container(fake_clock: Clock) -> None:
    """§6.2.3, §6.1.5"""
    async with world(fake_clock, {"app": Program(runs=12)}) as w:
        worker = w.node.run_pod(pod(pre=sleep(20), policy="Never"))
        await w.clock.sleep(10)
        w.node.delete_all()
        await w.node.wait()
        assert w.clock.now().boot == 12
        assert hook(worker, PRE).end is HookEnd.GONE


async def test_a_request_outlives_its_container(fake_clock: Clock) -> None:
    """§6.2.3"""

    async def slow(*args: object, **more: object) -> HookResult:
        await fake_clock.sleep(7)
        return HookResult(True)

    async with world(fake_clock, {"app": Program(runs=12)}, run_hook=slow) as w:
        worker = w.node.run_pod(pod(pre=REQUEST, policy="Never"))
        await w.clock.sleep(10)
        w.node.delete_all()
        await w.clock.sleep(3)
        assert worker.status.container_statuses[0].state.terminated is not None
        assert worker.status.phase == "Succeeded"
        await w.node.wait()
        assert w.clock.now().boot == 17
        assert hook(worker, PRE).end is HookEnd.SUCCEEDED


async def test_a_deletion_cancels_the_post_start_that_goes_on(fake_clock: Clock) -> None:
    """§6.1.6"""
    async with world(fake_clock, {"app": Program()}) as w:
        w.runtime.execs["up"] = lambda age: (0, 60)
        worker = w.node.run_pod(pod(post=program("up")))
        await w.clock.sleep(2)
        w.node.delete_all()
        await w.node.wait()
        assert w.clock.now().boot == 2
        assert hook(worker, POST).end is HookEnd.CANCELLED
        assert w.runtime.executing == []


# --- a store that cannot write -------------------------------------------------------------------


async def test_nothing_is_done_before_it_could_be_stored(fake_clock: Clock) -> None:
    """§6.4.1"""
    store = SlowStore(fake_clock)
    async with world(fake_clock, {"app": Program()}, store=store) as w:
        w.runtime.execs["bye"] = lambda age: (0, 2)
        worker = w.node.run_pod(pod(pre=program("bye")))
        await w.clock.sleep(10)
        store.broken = True
        w.node.delete_all()
        await w.clock.sleep(4.5)
        assert store.tries > 4
        assert w.runtime.executing == []
        assert worker.pod.metadata.uid in w.runtime.sandboxes
        assert [what for _, what, _ in w.runtime.log] == ["start"]
        store.broken = False
        await w.node.wait()
        assert w.runtime.log[1:-1] == [
            (15, "exec bye", "app"),
            (17, "TERM", "app"),
            (17, "exit 0", "app"),
        ]


async def test_that_the_store_cannot_write_is_told_once_each_time(fake_clock: Clock) -> None:
    store = SlowStore(fake_clock)
    async with world(fake_clock, {"app": Program()}, store=store) as w:
        worker = w.node.run_pod(pod())
        for _ in range(2):
            await w.clock.sleep(10)
            store.broken = True
            worker.tell(DeletionRequested(at=w.clock.now(), grace=30))
            await w.clock.sleep(5)
            store.broken = False
        text = (
            "cannot store the state of the pod, it goes on as it is: "
            "[Errno 28] No space left on device"
        )
        assert told(w, "FailedSync") == [(text, 1)]
        await w.node.wait()


async def test_an_end_is_not_acknowledged_before_it_is_stored(fake_clock: Clock) -> None:
    """§2.1.5"""
    store = SlowStore(fake_clock)
    async with world(fake_clock, {"app": Program(runs=3)}, store=store) as w:
        worker = w.node.run_pod(pod(policy="Never"))
        await w.clock.sleep(1)
        store.broken = True
        await w.clock.sleep(10)
        assert w.runtime.unacknowledged
        assert worker.status.phase == "Running"
        store.broken = False
        await w.node.wait()
        assert worker.status.phase == "Succeeded"


async def test_events_that_could_not_be_stored_are_told_once_when_they_can(
    fake_clock: Clock,
) -> None:
    """§11.3.1 — also when others have come before them meanwhile."""
    store = SlowStore(fake_clock)
    ready = v1.Probe(
        exec=v1.ExecAction(command=("ok",)),
        period_seconds=5,
        timeout_seconds=1,
        success_threshold=1,
        failure_threshold=3,
    )
    async with world(fake_clock, {"app": Program()}, store=store) as w:
        w.runtime.execs |= {"bye": lambda age: 0, "ok": lambda age: int(age > 11)}
        w.node.run_pod(pod(pre=program("bye"), readiness_probe=ready))
        await w.clock.sleep(11)
        store.broken = True
        w.node.delete_all()
        await w.clock.sleep(10)
        assert told(w, "Killing") == told(w, "Unhealthy") == []
        store.broken = False
        await w.node.wait()
        assert told(w, "Killing") == [("Stopping container app", 1)]
        assert told(w, "Unhealthy") == [
            ("Readiness probe failed: says 1", 1),
            ("Readiness probe failed: says 1", 2),
        ]
        assert {e.reason: e.count for e in w.node.events()} == {
            "Scheduled": 1,
            "Pulled": 1,
            "Created": 1,
            "Started": 1,
            "FailedSync": 1,
            "Killing": 1,
            "Unhealthy": 2,
        }
