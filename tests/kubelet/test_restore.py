"""A node that comes back: two lives on one store, with what the runtime still holds of the first.

Leaving the first world is its kill -9: nothing is told to anybody. The names in brackets are those
of the acceptance scenarios.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import trio

from supervisor.api import v1
from supervisor.kubelet.clock import Clock
from supervisor.kubelet.handlers import Execute, HookResult
from supervisor.kubelet.worker import PodWorker
from supervisor.lifecycle.facts import ContainerId, Instant
from supervisor.runtime.cri import ExecResult, Found, Presence
from supervisor.store.contract import Change
from supervisor.store.memory import MemoryStore

from .conftest import START, Program, World, world

pytestmark = pytest.mark.anyio


def container(name: str, **fields: Any) -> v1.Container:
    return v1.Container(name=name, command=("x",), **fields)


def pod(
    *containers: v1.Container,
    inits: tuple[v1.Container, ...] = (),
    policy: str = "Always",
    grace: int = 30,
) -> v1.Pod:
    return v1.Pod(
        metadata=v1.ObjectMeta(name="web", namespace="default"),
        spec=v1.PodSpec(
            init_containers=inits,
            containers=containers or (container("app"),),
            restart_policy=policy,
            termination_grace_period_seconds=grace,
        ),
    )


def probe(command: str) -> v1.Probe:
    return v1.Probe(
        exec=v1.ExecAction(command=(command,)),
        period_seconds=10,
        timeout_seconds=1,
        success_threshold=1,
        failure_threshold=3,
    )


def now() -> float:
    """In seconds since the test began, as the fake runtime logs it."""
    return round(trio.current_time(), 3)


async def app_of(store: MemoryStore, attempt: int = 0, name: str = "app") -> ContainerId:
    """An instance of the only pod that is stored."""
    (stored,) = (await store.load()).pods
    return ContainerId(stored.record.pod.metadata.uid, name, attempt)


def running(since: float, pid: int = 7) -> Found:
    return Found(Presence.RUNNING, pid, Instant(START + since, since))


def done(w: World) -> list[tuple[float, str, str]]:
    """What the runtime was asked for, but for the cleaning up that comes first in each life."""
    return [entry for entry in w.runtime.log if entry[1] != "remove all but"]


async def restored(w: World) -> PodWorker:
    """Of the only pod."""
    await w.node.restore()
    (worker,) = w.node.workers
    return worker


async def ends(w: World) -> None:
    w.node.delete_all()
    await w.node.wait()


async def test_what_runs_goes_on_with_its_pid_its_count_and_the_count_of_its_events(
    fake_clock: Clock,
) -> None:
    """[F12] §2.4.7 §2.4.1 §11.3.4"""
    store = MemoryStore()
    crash = Program(runs=1, code=1)
    async with world(fake_clock, {"app": [crash, crash, Program()]}, store=store) as w:
        worker = w.node.run_pod(pod())
        await w.clock.sleep(20)
        assert w.runtime.times("start", "app") == [0, 1, 12]
        before = worker.status
    await fake_clock.sleep(100)
    id = await app_of(store, 2)
    async with world(fake_clock, {"app": Program()}, store=store, found={id: running(12)}) as w:
        worker = await restored(w)
        await w.clock.sleep(5)
        assert done(w) == [(120, "adopt", "app")]
        assert worker.status == before
        w.runtime.end(id, 1)
        await w.clock.sleep(30)
        assert w.runtime.times("start", "app") == [145]  # 20 s after its end: the third wait
        assert worker.status.container_statuses[0].restart_count == 3
        (started,) = [e for e in w.node.events() if e.reason == "Started"]
        assert started.count == 4
        await ends(w)


async def test_an_init_container_that_is_done_is_not_run_again(fake_clock: Clock) -> None:
    """[K01] §2.1.6 §4.3.4"""
    store = MemoryStore()
    programs: dict[str, Program | list[Program]] = {"init": Program(runs=1), "app": Program()}
    async with world(fake_clock, programs, store=store) as w:
        w.node.run_pod(pod(inits=(container("init"),)))
        await w.clock.sleep(5)
    id = await app_of(store)
    async with world(fake_clock, programs, store=store, found={id: running(1)}) as w:
        worker = await restored(w)
        await w.clock.sleep(5)
        assert done(w) == [(5, "adopt", "app")]
        init = worker.status.init_container_statuses[0]
        assert init.state.terminated is not None
        assert (init.state.terminated.reason, init.state.terminated.exit_code) == ("Completed", 0)
        assert (init.ready, init.restart_count) == (True, 0)
        assert ("Ready", "True") in [(c.type, c.status) for c in worker.status.conditions]
        await ends(w)


async def test_a_wait_that_had_begun_goes_on_with_what_is_left_of_it(fake_clock: Clock) -> None:
    """[K06] §3.2.3"""
    store = MemoryStore()
    crash = Program(runs=1, code=1)
    async with world(fake_clock, {"app": crash}, store=store) as w:
        w.node.run_pod(pod())
        await w.clock.sleep(50)
        assert w.runtime.times("start", "app") == [0, 1, 12, 33]  # the next wait is 40 s
    await fake_clock.sleep(10)
    async with world(fake_clock, {"app": crash}, store=store) as w:
        worker = await restored(w)
        await w.clock.sleep(1)
        waiting = worker.status.container_statuses[0].state.waiting
        assert waiting is not None
        assert waiting.reason == "CrashLoopBackOff"
        await w.clock.sleep(100)
        assert w.runtime.times("start", "app") == [74, 155]
        await ends(w)


@pytest.mark.parametrize("answer", [0, 1])
async def test_what_was_not_ready_becomes_ready_by_a_probe_alone(
    fake_clock: Clock, answer: int
) -> None:
    """[K03]"""
    store = MemoryStore()
    probed = container("app", readiness_probe=probe("ready"))
    async with world(fake_clock, {"app": Program()}, store=store) as w:
        w.runtime.execs["ready"] = lambda age: 1
        w.node.run_pod(pod(probed))
        await w.clock.sleep(15)
    id = await app_of(store)
    async with world(fake_clock, {"app": Program()}, store=store, found={id: running(0)}) as w:
        w.runtime.execs["ready"] = lambda age: answer if age >= 10 else 1
        worker = await restored(w)
        await w.clock.sleep(9)
        assert not worker.status.container_statuses[0].ready
        await w.clock.sleep(10)
        assert worker.status.container_statuses[0].ready is (answer == 0)
        await ends(w)


async def test_what_was_ready_stays_ready_until_its_probe_has_failed_often_enough(
    fake_clock: Clock,
) -> None:
    """§2.4.7"""
    store = MemoryStore()
    probed = container("app", readiness_probe=probe("ready"), startup_probe=probe("up"))
    async with world(fake_clock, {"app": Program()}, store=store) as w:
        w.runtime.execs |= {"ready": lambda age: int(age > 5), "up": lambda age: 0}
        worker = w.node.run_pod(pod(probed))
        await w.clock.sleep(15)  # one failure is counted
        assert worker.status.container_statuses[0].ready
        failed = len(w.runtime.times("exec ready", "app")) - 1
        assert failed == 1
    await fake_clock.sleep(1000)
    id = await app_of(store)
    async with world(fake_clock, {"app": Program()}, store=store, found={id: running(0)}) as w:
        w.runtime.execs["ready"] = lambda age: 1
        worker = await restored(w)
        await w.clock.sleep(5)
        assert worker.status.container_statuses[0].started
        assert worker.status.container_statuses[0].ready
        assert not any(not s.container_statuses[0].ready for s in w.seen.statuses)
        await w.clock.sleep(16)  # the third: the first one after the return is spread over a period
        assert not worker.status.container_statuses[0].ready
        assert w.runtime.times("exec up", "app") == []
        await ends(w)


@pytest.mark.parametrize(
    ("policy", "code", "phase", "restarts"),
    [("Always", 0, "Running", 1), ("OnFailure", 3, "Running", 1), ("Never", 3, "Failed", 0)],
)
async def test_an_exit_while_the_node_was_down_is_taken_note_of_once(
    fake_clock: Clock, policy: str, code: int, phase: str, restarts: int
) -> None:
    """[K04]"""
    store = MemoryStore()
    async with world(fake_clock, {"app": Program()}, store=store) as w:
        w.node.run_pod(pod(policy=policy))
        await w.clock.sleep(5)
    id = await app_of(store)
    async with world(fake_clock, {"app": Program()}, store=store, found={id: running(0)}) as w:
        w.runtime.end(id, code)  # its news waits to be heard
        worker = await restored(w)
        await w.clock.sleep(5)
        assert worker.status.phase == phase
        assert len(w.runtime.times("start", "app")) == restarts
        status = worker.status.container_statuses[0]
        ended = status.last_state.terminated if restarts else status.state.terminated
        assert ended is not None
        assert ended.exit_code == code
        assert status.restart_count == restarts
        await ends(w)


@pytest.mark.parametrize("found", [Found(Presence.GONE, logs_lost=True), Found(Presence.UNKNOWN)])
@pytest.mark.parametrize("policy", ["Always", "Never"])
async def test_an_end_that_nobody_knows_is_never_a_success(
    fake_clock: Clock, policy: str, found: Found
) -> None:
    """[K04] §2.1.5"""
    store = MemoryStore()
    async with world(fake_clock, {"app": Program()}, store=store) as w:
        w.node.run_pod(pod(policy=policy))
        await w.clock.sleep(5)
    id = await app_of(store)
    async with world(fake_clock, {"app": Program()}, store=store, found={id: found}) as w:
        worker = await restored(w)
        await w.clock.sleep(5)
        status = worker.status.container_statuses[0]
        again = policy == "Always"
        ended = status.last_state.terminated if again else status.state.terminated
        assert ended is not None
        assert (ended.exit_code, ended.reason) == (137, "ContainerStatusUnknown")
        assert (worker.status.phase, status.restart_count) == (
            ("Running", 1) if again else ("Failed", 0)
        )
        told = [e.reason for e in w.seen.recorded if e.reason == "LogsLost"]
        assert len(told) == found.logs_lost
        await ends(w)


@pytest.mark.parametrize(
    ("found", "starts", "attempt"),
    [
        (running(5), 0, 0),
        (Found(Presence.UNKNOWN), 1, 0),
        (Found(Presence.GONE), 1, 1),  # it has run: attempt 0 is never started again
    ],
    ids=["runs", "never ran", "is gone"],
)
async def test_a_start_whose_answer_was_lost_is_not_made_twice(
    fake_clock: Clock, found: Found, starts: int, attempt: int
) -> None:
    """§6.5: and its image's stop signal is known all the same"""
    store = MemoryStore()
    async with world(fake_clock, {"app": Program(start_takes=10)}, store=store) as w:
        w.node.run_pod(pod(container("app", image="quits")))
        await w.clock.sleep(5)
        assert done(w) == []
    id = await app_of(store)
    async with world(fake_clock, {"app": Program()}, store=store, found={id: found}) as w:
        worker = await restored(w)
        await w.clock.sleep(5)
        assert len(w.runtime.times("start", "app")) == starts
        status = worker.status.container_statuses[0]
        assert (status.restart_count, worker.status.phase) == (attempt, "Running")
        assert status.stop_signal == "SIGQUIT"
        if attempt:
            assert status.last_state.terminated is not None
            assert status.last_state.terminated.reason == "ContainerStatusUnknown"
        await ends(w)


async def test_what_nobody_knows_is_ended_before_anything_is_started(fake_clock: Clock) -> None:
    store = MemoryStore()
    programs: dict[str, Program | list[Program]] = {"app": Program(runs=1, code=1)}
    async with world(fake_clock, programs, store=store) as w:
        w.node.run_pod(pod())
        await w.clock.sleep(5)
    async with world(fake_clock, programs, store=store) as w:
        w.runtime.strays = {ContainerId("somebody", "stray", 0)}
        await restored(w)
        await w.clock.sleep(20)
        assert [(what, name) for _, what, name in done(w)[:2]] == [
            ("stray", "stray"),
            ("start", "app"),
        ]
        await ends(w)


# --- the machine was started anew ---------------------------------------------------------------

INITS = (container("init"), container("side", restart_policy="Always"))
PROGRAMS: dict[str, Program | list[Program]] = {
    "init": Program(runs=1),
    "side": Program(),
    "app": Program(),
}


def after_reboot(before: float) -> Clock:
    """Its boot clock began at 0 when the test was so old."""

    def read() -> Instant:
        at = trio.current_time()
        return Instant(wall=START + at, boot=at - before)

    return Clock(read)


@pytest.mark.parametrize("policy", ["Always", "OnFailure"])
async def test_after_a_reboot_everything_begins_with_the_first_init_container(
    fake_clock: Clock, policy: str
) -> None:
    """[A09, B11] §4.3.3 §4.3.4"""
    store = MemoryStore()
    async with world(fake_clock, PROGRAMS, store=store, boot_id="one") as w:
        w.node.run_pod(pod(inits=INITS, policy=policy))
        await w.clock.sleep(5)
    clock = after_reboot(100)
    await fake_clock.sleep(100)
    async with world(clock, PROGRAMS, store=store, boot_id="two") as w:
        worker = await restored(w)
        await w.clock.sleep(5)
        assert [(what, name) for _, what, name in done(w)] == [
            ("start", "init"),
            ("exit 0", "init"),
            ("start", "side"),
            ("start", "app"),
        ]
        statuses = (
            *worker.status.init_container_statuses,
            *worker.status.container_statuses,
        )
        assert [s.restart_count for s in statuses] == [1, 1, 1]
        lost = statuses[2].last_state.terminated
        assert lost is not None
        assert (lost.exit_code, lost.reason) == (137, "ContainerStatusUnknown")
        assert worker.status.phase == "Running"
        assert [e.reason for e in w.seen.recorded].count("SandboxChanged") == 1
        assert worker.record.boot_id == "two"
        await ends(w)


async def test_after_a_reboot_a_pod_that_never_restarts_has_failed(fake_clock: Clock) -> None:
    """§4.3.3"""
    store = MemoryStore()
    async with world(fake_clock, PROGRAMS, store=store, boot_id="one") as w:
        w.node.run_pod(pod(inits=INITS, policy="Never"))
        await w.clock.sleep(5)
    async with world(after_reboot(5), PROGRAMS, store=store, boot_id="two") as w:
        worker = await restored(w)
        await w.node.wait()
        assert worker.status.phase == "Failed"
        assert done(w) == []
        assert "SandboxChanged" not in [e.reason for e in w.seen.recorded]
        app = worker.status.container_statuses[0].state.terminated
        assert app is not None
        assert (app.exit_code, app.reason) == (137, "ContainerStatusUnknown")


async def test_a_reboot_in_the_middle_of_a_deletion_ends_the_pod(fake_clock: Clock) -> None:
    """§4.3.3"""
    store = MemoryStore()
    async with world(fake_clock, {"app": Program(term=None)}, store=store, boot_id="one") as w:
        w.node.run_pod(pod(grace=600))
        await w.clock.sleep(5)
        w.node.delete_all()
        await w.clock.sleep(5)
    async with world(after_reboot(10), {"app": Program()}, store=store, boot_id="two") as w:
        await restored(w)
        await w.node.wait()
        assert now() == 10
        assert done(w) == [(0, "remove", "web")]
        assert (await store.load()).pods == ()


@pytest.mark.parametrize("boot_id", ["one", "two"])
async def test_what_has_ended_stays_as_it_is(fake_clock: Clock, boot_id: str) -> None:
    """§4.3.3"""
    store = MemoryStore()
    programs: dict[str, Program | list[Program]] = {"app": Program(runs=1)}
    async with world(fake_clock, programs, store=store, boot_id="one") as w:
        before = w.node.run_pod(pod(policy="OnFailure"))
        await w.node.wait()
        assert before.status.phase == "Succeeded"
    async with world(fake_clock, programs, store=store, boot_id=boot_id) as w:
        worker = await restored(w)
        await w.node.wait()
        assert worker.status == before.status
        assert done(w) == []
        assert w.seen.recorded == []
        # It is an object that somebody may delete.
        w.node.delete(worker)
        await w.clock.sleep(1)
        assert (await store.load()).pods == ()
        assert w.node.workers == ()


# --- ends that were under way -------------------------------------------------------------------


async def test_a_deletion_goes_on_with_its_own_deadline(fake_clock: Clock) -> None:
    """§7.1.3 §7.2.2"""
    store = MemoryStore()
    deaf = Program(term=None)
    async with world(fake_clock, {"app": deaf}, store=store) as w:
        w.node.run_pod(pod())
        await w.clock.sleep(5)
        w.node.delete_all()
        await w.clock.sleep(5)
        assert w.runtime.times("TERM", "app") == [5]
    await fake_clock.sleep(2)
    id = await app_of(store)
    async with world(fake_clock, {"app": deaf}, store=store, found={id: running(0)}) as w:
        await restored(w)
        await w.node.wait()
        assert [(at, what) for at, what, _ in done(w)] == [
            (12, "adopt"),
            (35, "KILL"),
            (35, "exit 137"),
            (35, "remove"),
        ]
        assert (await store.load()).pods == ()


class Unwilling(MemoryStore):
    """Fails while it is told to, all changes or only the last ones of pods."""

    def __init__(self) -> None:
        super().__init__()
        self.fails = self.fails_to_forget = False

    async def commit(self, change: Change) -> int:
        if self.fails or (self.fails_to_forget and change.record is None):
            raise OSError(28, "No space left on device")
        return await super().commit(change)


async def test_a_pod_whose_end_is_stored_but_not_its_removal_is_removed(fake_clock: Clock) -> None:
    store = Unwilling()
    store.fails_to_forget = True
    async with world(fake_clock, {"app": Program()}, store=store) as w:
        w.node.run_pod(pod())
        await w.clock.sleep(5)
        w.node.delete_all()
        await w.clock.sleep(5)
        assert w.runtime.times("remove", "web") == []
    (stored,) = (await store.load()).pods
    assert stored.record.status.phase == "Succeeded"
    store.fails_to_forget = False
    async with world(fake_clock, {"app": Program()}, store=store) as w:
        await restored(w)
        await w.node.wait()
        assert done(w) == [(10, "remove", "web")]
        assert (await store.load()).pods == ()


async def test_while_nothing_can_be_stored_nothing_is_done_and_nothing_forgotten(
    fake_clock: Clock,
) -> None:
    store = Unwilling()
    programs: dict[str, Program | list[Program]] = {"app": [Program(runs=10, code=3), Program()]}
    async with world(fake_clock, programs, store=store) as w:
        worker = w.node.run_pod(pod())
        await w.clock.sleep(5)
        store.fails = True
        await w.clock.sleep(15)
        assert w.runtime.unacknowledged == {ContainerId(worker.pod.metadata.uid, "app", 0)}
        assert w.runtime.times("start", "app") == [0]
        assert worker.status.container_statuses[0].state.running is not None
        told = [e.message for e in w.seen.recorded if e.reason == "FailedSync"]
        assert told == [
            "cannot store the state of the pod, it goes on as it is: "
            "[Errno 28] No space left on device"
        ]
        store.fails = False
        await w.clock.sleep(2)
        assert w.runtime.unacknowledged == set()
        assert w.runtime.times("start", "app")[1:] in ([20], [21])
        status = worker.status.container_statuses[0]
        assert status.last_state.terminated is not None
        assert status.last_state.terminated.exit_code == 3
        started = [e.count for e in w.seen.recorded if e.reason == "Started"]
        assert started == [1, 2]  # each is told once
        await ends(w)


# --- hooks --------------------------------------------------------------------------------------

HOOK = v1.LifecycleHandler(exec=v1.ExecAction(command=("hook",)))
REQUEST = v1.LifecycleHandler(http_get=v1.HTTPGetAction(port=80))


async def interrupted(clock: Clock, store: MemoryStore, hook: v1.LifecycleHandler) -> ContainerId:
    """A life that ended in the middle of a preStop; return whose."""
    app = container("app", lifecycle=v1.Lifecycle(pre_stop=hook))
    async with world(clock, {"app": Program()}, store=store, run_hook=takes(100)) as w:
        w.node.run_pod(pod(app))
        await w.clock.sleep(5)
        w.node.delete_all()
        await w.clock.sleep(5)
        assert w.runtime.times("TERM", "app") == []
    return await app_of(store)


class takes:  # noqa: N801
    """A handler that needs so long for each hook, and remembers what it was asked with."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.asked: list[Mapping[str, str]] = []

    async def __call__(
        self,
        handler: v1.LifecycleHandler,
        container: v1.Container,
        *,
        pod: str,
        host: str,
        execute: Execute,
        headers: Mapping[str, str],
    ) -> HookResult:
        self.asked.append(headers)
        await trio.sleep(self.seconds)
        return HookResult(True)


@pytest.mark.parametrize(
    ("there_at", "ends_at"), [(7, 10), (20, 20)], ids=["it has ended", "it still runs"]
)
async def test_a_program_that_is_kept_is_waited_for_and_not_run_again(
    fake_clock: Clock, there_at: float, ends_at: float
) -> None:
    store = MemoryStore()
    id = await interrupted(fake_clock, store, HOOK)
    key = (id, "preStop")
    async with world(fake_clock, {"app": Program()}, store=store, found={id: running(0)}) as w:
        w.runtime.kept_execs = frozenset({key})
        w.runtime.results[key] = ExecResult(0, b"done")
        w.runtime.there_at[key] = there_at
        worker = await restored(w)
        await w.node.wait()
        assert w.runtime.times("exec hook", "app") == []
        assert w.runtime.times("TERM", "app") == [ends_at]
        assert w.runtime.results == {}
        (hook,) = worker.record.containers[0].hooks
        assert (hook.runs, str(hook.end)) == (1, "succeeded")


@pytest.mark.parametrize("had_ended", [True, False], ids=["it had ended", "it ran"])
async def test_a_program_whose_launcher_dies_while_the_node_comes_up_begins_a_new_run(
    fake_clock: Clock, *, had_ended: bool
) -> None:
    """§6.4.2: what came of it is unknown, so it is neither a failure nor the same run again."""
    store = MemoryStore()
    id = await interrupted(fake_clock, store, HOOK)
    async with world(fake_clock, {"app": Program()}, store=store, found={id: running(0)}) as w:
        w.runtime.kept_execs = frozenset({(id, "preStop")})  # listed, and then lost
        w.runtime.ended_execs = w.runtime.kept_execs if had_ended else frozenset()
        w.runtime.execs["hook"] = lambda age: (0, 3)
        worker = await restored(w)
        await w.node.wait()
        assert len(w.runtime.times("exec hook", "app")) == 1
        assert w.runtime.exec_env == [
            {"PODVISOR_HOOK_ID": f"{id}/preStop", "PODVISOR_HOOK_ATTEMPT": "2"}
        ]
        (hook,) = worker.record.containers[0].hooks
        assert (hook.runs, str(hook.end)) == (2, "succeeded")


async def test_a_program_that_nobody_kept_is_run_again_and_can_tell(fake_clock: Clock) -> None:
    store = MemoryStore()
    id = await interrupted(fake_clock, store, HOOK)
    async with world(fake_clock, {"app": Program()}, store=store, found={id: running(0)}) as w:
        w.runtime.execs["hook"] = lambda age: (0, 3)
        worker = await restored(w)
        await w.node.wait()
        assert w.runtime.times("exec hook", "app") == [10]
        assert w.runtime.times("TERM", "app") == [13]
        assert w.runtime.exec_env == [
            {"PODVISOR_HOOK_ID": f"{id}/preStop", "PODVISOR_HOOK_ATTEMPT": "2"}
        ]
        (hook,) = worker.record.containers[0].hooks
        assert hook.runs == 2


async def test_a_request_is_sent_again_though_its_container_has_ended(fake_clock: Clock) -> None:
    store = MemoryStore()
    id = await interrupted(fake_clock, store, REQUEST)
    again = takes(1)
    found = {id: running(0)}
    async with world(fake_clock, {"app": Program()}, store=store, found=found, run_hook=again) as w:
        w.runtime.end(id, 0)
        worker = await restored(w)
        await w.node.wait()
        assert again.asked == [
            {"Idempotency-Key": f"{id}/preStop", "Podvisor-Hook-Attempt": "2"},
        ]
        (hook,) = worker.record.containers[0].hooks
        assert str(hook.end) == "succeeded"
        assert now() == 11


async def test_a_program_whose_container_has_ended_is_not_run_again(fake_clock: Clock) -> None:
    store = MemoryStore()
    id = await interrupted(fake_clock, store, HOOK)
    async with world(
        fake_clock, {"app": Program()}, store=store, found={id: Found(Presence.GONE)}
    ) as w:
        worker = await restored(w)
        await w.node.wait()
        assert w.runtime.times("exec hook", "app") == []
        (hook,) = worker.record.containers[0].hooks
        assert str(hook.end) == "container gone"
        assert [e.reason for e in w.seen.recorded].count("FailedPreStopHook") == 1


async def test_what_is_kept_of_a_hook_that_is_not_owed_is_forgotten(fake_clock: Clock) -> None:
    store = MemoryStore()
    async with world(fake_clock, {"app": Program()}, store=store) as w:
        w.node.run_pod(pod())
        await w.clock.sleep(5)
    id = await app_of(store)
    key = (id, "postStart")
    async with world(fake_clock, {"app": Program()}, store=store, found={id: running(0)}) as w:
        w.runtime.kept_execs = frozenset({key})
        w.runtime.results[key] = ExecResult(0, b"")
        await restored(w)
        assert w.runtime.results == {}
        await ends(w)


async def test_the_observer_learns_of_each_pod_before_it_goes_on(fake_clock: Clock) -> None:
    """What has vanished is not known as running then."""
    store = MemoryStore()
    apps = (container("app"), container("gone"))
    programs: dict[str, Program | list[Program]] = {"app": Program(), "gone": Program()}
    async with world(fake_clock, programs, store=store) as w:
        w.node.run_pod(pod(*apps))
        await w.clock.sleep(5)
    app, gone = await app_of(store), await app_of(store, name="gone")
    async with world(fake_clock, programs, store=store, found={app: running(0)}) as w:
        told: list[tuple[str, frozenset[ContainerId]]] = []

        def taken_on(worker: PodWorker, runs: frozenset[ContainerId]) -> None:
            told.append((worker.status.phase, runs))

        await w.node.restore(taken_on)
        assert gone != app
        assert told == [("Running", frozenset({app}))]
        await ends(w)
