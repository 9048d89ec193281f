"""Whole lives of pods on the shell, with exact times: what the worker adds to decisions."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from supervisor.api import v1
from supervisor.errors import NodeError
from supervisor.kubelet import worker as worker_module
from supervisor.kubelet.clock import Clock
from supervisor.kubelet.handlers import HookResult
from supervisor.lifecycle.facts import ContainerId, DeletionRequested
from supervisor.runtime import spec
from supervisor.runtime.cri import (
    ExecInterruptedError,
    ExecResult,
    Found,
    Isolation,
    LaunchSpec,
    Presence,
    StartError,
)
from supervisor.runtime.env_files import EnvFiles
from supervisor.store.contract import Change
from supervisor.store.memory import MemoryStore

from .conftest import Program, World, world

pytestmark = pytest.mark.anyio


def pod(
    *names: str, inits: tuple[v1.Container, ...] = (), policy: str = "Always", grace: int = 30
) -> v1.Pod:
    return v1.Pod(
        metadata=v1.ObjectMeta(name="web", namespace="default"),
        spec=v1.PodSpec(
            init_containers=inits,
            containers=tuple(v1.Container(name=name, command=("x",)) for name in names),
            restart_policy=policy,
            termination_grace_period_seconds=grace,
        ),
    )


async def test_a_pod_runs_to_success_and_every_exit_is_acknowledged(fake_clock: Clock) -> None:
    inits = (v1.Container(name="init", command=("x",)),)
    async with world(fake_clock, {"init": Program(runs=2), "app": Program(runs=3)}) as w:
        worker = w.node.run_pod(pod("app", inits=inits, policy="Never"))
        await w.node.wait()
        assert worker.status.phase == "Succeeded"
        assert w.runtime.log == [
            (0, "start", "init"),
            (2, "exit 0", "init"),
            (2, "start", "app"),
            (5, "exit 0", "app"),
        ]
        assert not w.runtime.sandboxes


async def test_an_hour_of_crashes_keeps_the_back_off_to_the_tenth_of_a_second(
    fake_clock: Clock,
) -> None:
    """§3.2.1"""
    async with world(fake_clock, {"app": Program(runs=1, code=1)}) as w:
        worker = w.node.run_pod(pod("app"))
        await w.clock.sleep(3600)
        starts = w.runtime.times("start", "app")
        waits = [round(b - a - 1, 1) for a, b in itertools.pairwise(starts)]
        assert waits[:9] == [0, 10, 20, 40, 80, 160, 300, 300, 300]
        assert set(waits[9:]) == {300}
        assert worker.status.phase == "Running"
        w.node.delete_all()
        await w.node.wait()


async def test_deaf_mains_get_sigkill_at_the_end_of_the_grace_period(fake_clock: Clock) -> None:
    async with world(fake_clock, {"app": Program(term=None), "good": Program(term=1)}) as w:
        worker = w.node.run_pod(pod("app", "good"))
        await w.clock.sleep(5)
        w.node.delete_all()
        await w.node.wait()
        assert w.runtime.times("TERM", "app") == [5]
        assert w.runtime.times("exit 0", "good") == [6]
        assert w.runtime.times("KILL", "app") == [35]
        assert worker.status.phase == "Failed"
        assert w.clock.now().boot == 35


async def test_asking_again_shortens_and_a_third_time_kills(fake_clock: Clock) -> None:
    """§7.1.3"""
    async with world(fake_clock, {"app": Program(term=None)}) as w:
        w.node.run_pod(pod("app"))
        await w.clock.sleep(1)
        w.node.delete_all()
        await w.clock.sleep(4)
        w.node.delete_all(1)
        await w.node.wait()
        assert w.runtime.times("KILL", "app") == [6]
    async with world(fake_clock, {"app": Program(term=None)}) as w:
        begin = w.clock.now().boot
        w.node.run_pod(pod("app"))
        await w.clock.sleep(1)
        w.node.delete_all()
        w.node.delete_all(kill=True)
        await w.node.wait()
        assert w.clock.now().boot == begin + 1


async def test_a_deletion_during_a_slow_start_stops_what_was_being_started(
    fake_clock: Clock,
) -> None:
    async with world(fake_clock, {"app": Program(start_takes=4, term=1)}) as w:
        w.node.run_pod(pod("app"))
        await w.clock.sleep(1)
        w.node.delete_all()
        await w.node.wait()
        assert w.runtime.times("start", "app") == [4]
        assert w.runtime.times("TERM", "app") == [4]
        assert not w.runtime.running


async def test_a_program_that_cannot_be_executed_is_started_again_with_back_off(
    fake_clock: Clock,
) -> None:
    error = StartError("StartError", 'exec: "nope": executable file not found', created=True)
    async with world(fake_clock, {"app": Program(fails=error)}) as w:
        worker = w.node.run_pod(pod("app"))
        await w.clock.sleep(35)
        assert w.runtime.times("failed", "app") == [0, 0, 10, 30]
        state = worker.status.container_statuses[0].last_state.terminated
        assert state is not None
        assert (state.reason, state.exit_code) == ("StartError", 128)
        w.node.delete_all()
        await w.node.wait()


async def test_a_sandbox_that_cannot_be_made_is_tried_again_and_said(fake_clock: Clock) -> None:
    async with world(fake_clock, {"app": Program(runs=1)}) as w:
        w.runtime.broken_sandbox = OSError(28, "No space left on device")
        worker = w.node.run_pod(pod("app", policy="Never"))
        await w.clock.sleep(15)
        w.runtime.broken_sandbox = None
        await w.node.wait()
        assert worker.status.phase == "Succeeded"
        assert w.runtime.times("start", "app") == [20]
        (event,) = [e for e in w.seen.recorded if e.reason == "FailedCreatePodSandBox"][:1]
        assert "No space left on device" in event.message


async def test_a_bug_in_one_pod_parks_it_and_leaves_the_others_alone(
    fake_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = True
    decide = worker_module.decide

    def sometimes(record: worker_module.PodRecord, now: object) -> object:
        if broken and record.pod.metadata.name == "web" and record.containers[0].running:
            raise RuntimeError("a bug")
        return decide(record, now)  # type: ignore[arg-type]

    monkeypatch.setattr(worker_module, "decide", sometimes)
    async with world(fake_clock, {"app": Program(), "other": Program(runs=2)}) as w:
        bad = w.node.run_pod(pod("app"))
        other = v1.Pod(
            metadata=v1.ObjectMeta(name="other", namespace="default"),
            spec=pod("other", policy="Never").spec,
        )
        good = w.node.run_pod(other)
        await good.finished.wait()
        assert good.status.phase == "Succeeded"
        assert "app" in {id.name for id in w.runtime.running}
        assert any("RuntimeError: a bug" in bug for bug in w.node.bugs)
        assert any(e.reason == "FailedSync" for e in w.seen.recorded)
        broken = False
        w.node.bugs.clear()
        bad.tell(DeletionRequested(at=w.clock.now()))
        await w.node.wait()
        assert bad.status.phase == "Succeeded"


async def test_a_lost_runtime_ends_the_pods_with_unknown_status_never_success(
    fake_clock: Clock,
) -> None:
    """§2.1.5 — an exit nobody saw is 137."""
    async with world(fake_clock, {"app": Program()}) as w:
        worker = w.node.run_pod(pod("app"))
        await w.clock.sleep(1)
        w.runtime.break_down()
        with pytest.raises(NodeError):
            await w.node.wait()
        (status,) = worker.status.container_statuses
        assert status.state.terminated is not None
        assert status.state.terminated.exit_code == 137
        assert status.state.terminated.reason == "ContainerStatusUnknown"
        assert worker.status.phase == "Failed"


async def test_the_happy_path_yields_pulled_created_started_in_that_order(
    fake_clock: Clock,
) -> None:
    """§11.2"""
    async with world(fake_clock, {"app": Program(runs=1)}) as w:
        w.node.run_pod(pod("app", policy="Never"))
        await w.node.wait()
        told = [
            (e.reason, e.involved_object.field_path)
            for e in w.seen.recorded
            if e.involved_object.field_path
        ]
        assert told == [
            ("Pulled", "spec.containers{app}"),
            ("Created", "spec.containers{app}"),
            ("Started", "spec.containers{app}"),
        ]
        assert w.seen.recorded[0].reason == "Scheduled"
        assert w.seen.recorded[0].source.component == "default-scheduler"


async def test_a_log_that_may_lack_its_end_is_said(fake_clock: Clock) -> None:
    async with world(fake_clock, {"app": Program(runs=1)}) as w:
        w.runtime.undrained = True
        worker = w.node.run_pod(pod("app", policy="Never"))
        await w.node.wait()
        (event,) = [e for e in w.seen.recorded if e.type == "Warning"]
        assert event.message == (
            "the log of container app may lack its end: reading it took too long"
        )
        assert worker.status.phase == "Succeeded"


async def test_a_full_disk_is_said_once_and_the_container_goes_on(fake_clock: Clock) -> None:
    async with world(fake_clock, {"app": Program()}) as w:
        w.node.run_pod(pod("app"))
        await w.clock.sleep(1)
        (id,) = w.runtime.running
        w.runtime.drop_logs(id)
        w.runtime.drop_logs(id)
        await w.clock.sleep(1)
        assert len([e for e in w.seen.recorded if "log" in e.message]) == 1
        assert w.runtime.running
        w.node.delete_all()
        await w.node.wait()


async def test_a_full_disk_that_is_met_before_the_start_is_answered_is_said_too(
    fake_clock: Clock,
) -> None:
    async with world(fake_clock, {"app": Program(start_takes=2)}) as w:
        worker = w.node.run_pod(pod("app"))
        await w.clock.sleep(1)
        w.runtime.drop_logs(ContainerId(worker.pod.metadata.uid, "app", 0))
        await w.clock.sleep(2)
        assert len([e for e in w.seen.recorded if e.reason == "LogsDropped"]) == 1
        w.node.delete_all()
        await w.node.wait()


async def test_a_node_that_comes_back_removes_what_is_left_of_pods_that_are_gone(
    fake_clock: Clock,
) -> None:
    store = MemoryStore()
    async with world(fake_clock, {"app": Program()}, store=store) as w:
        w.node.run_pod(pod("app"))
        await w.clock.sleep(1)
    async with world(fake_clock, {"app": Program()}, store=store) as w:
        await w.node.restore()
        assert [who for _, did, who in w.runtime.log if did == "remove all but"] == ["web"]
        w.node.delete_all()
        await w.node.wait()


async def test_a_hook_whose_program_went_with_the_launcher_is_run_again(
    fake_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """§6.4.2: the signal waits for a run that came to its end"""
    web = pod("app")
    hook = v1.Lifecycle(pre_stop=v1.LifecycleHandler(exec=v1.ExecAction(command=("hook",))))
    app = msgspec.structs.replace(web.spec.containers[0], lifecycle=hook)
    web = v1.Pod(metadata=web.metadata, spec=v1.PodSpec(containers=(app,)))
    async with world(fake_clock, {"app": Program(term=0)}) as w:
        w.runtime.execs["hook"] = lambda _: (0, 3.0)
        execute, broken = w.runtime.exec, [True]

        async def sometimes(*args: Any, **more: Any) -> ExecResult:
            if broken:
                broken.clear()
                await w.clock.sleep(1)
                raise ExecInterruptedError("the launcher died")
            return await execute(*args, **more)

        monkeypatch.setattr(w.runtime, "exec", sometimes)
        worker = w.node.run_pod(web)
        await w.clock.sleep(5)
        w.node.delete_all()
        await w.node.wait()
        assert [h.runs for h in worker.record.containers[0].hooks] == [2]
        assert w.runtime.times("TERM", "app") == [9.1]


async def test_a_hook_that_ends_while_another_decision_is_being_stored_is_not_run_again(
    fake_clock: Clock,
) -> None:
    """§6.4.1: what is stored meanwhile does not know of the end yet"""

    class SlowStore(MemoryStore):
        async def commit(self, change: Change) -> int:
            await fake_clock.sleep(0.5)
            return await super().commit(change)

    web = pod("app", "other")
    hook = v1.Lifecycle(pre_stop=v1.LifecycleHandler(exec=v1.ExecAction(command=("hook",))))
    app = msgspec.structs.replace(web.spec.containers[0], lifecycle=hook)
    spec = msgspec.structs.replace(web.spec, containers=(app, *web.spec.containers[1:]))
    programs = {"app": Program(term=0), "other": Program(term=0.9)}
    async with world(fake_clock, programs, store=SlowStore()) as w:
        begun: list[float] = []

        async def run_hook(*_: object, **__: object) -> HookResult:
            begun.append(w.clock.now().boot)
            await w.clock.sleep(1)  # when it ends, the end of the other is being stored
            return HookResult(True)

        w.node.run_hook = run_hook
        w.node.run_pod(v1.Pod(metadata=web.metadata, spec=spec))
        await w.clock.sleep(10)
        w.node.delete_all()
        await w.node.wait()
        assert len(begun) == 1


async def test_what_ends_while_a_node_comes_back_is_not_missed(
    fake_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """§2.1.5: its exit may be news before the rest of its pod is adopted"""
    store = MemoryStore()
    async with world(fake_clock, {"one": Program(), "two": Program()}, store=store) as w:
        worker = w.node.run_pod(pod("one", "two", policy="Never"))
        await w.clock.sleep(1)
        one, two = (ContainerId(worker.pod.metadata.uid, name, 0) for name in ("one", "two"))
    there = Found(Presence.RUNNING, 1000, fake_clock.now())
    async with world(
        fake_clock,
        {"one": Program(), "two": Program(runs=None)},
        store=store,
        found={one: there, two: there},
    ) as w:
        adopt = w.runtime.adopt

        async def adopt_slowly(spec: LaunchSpec) -> Found:
            if spec.id == one:
                w.runtime._end(one, 3)
            else:
                await w.clock.sleep(1)
            return await adopt(spec)

        monkeypatch.setattr(w.runtime, "adopt", adopt_slowly)
        await w.node.restore()
        await w.clock.sleep(1)
        [worker] = w.node.workers
        ended = worker.record.containers[0].ended
        assert ended is not None
        assert ended.exit_code == 3
        assert w.runtime.unacknowledged == set()
        w.node.delete_all()
        await w.node.wait()


# --- configuration -------------------------------------------------------------------------------


class Held:
    """What there is of ConfigMaps, and the environment that each start has got from it."""

    def __init__(self) -> None:
        self.configuration = spec.Configuration()
        self.colors: list[str] = []

    def hold(self, world: World, **keys: bytes) -> None:
        self.configuration = spec.Configuration(config_maps={("default", "settings"): keys})
        world.node.configuration_changed()

    def make_spec(
        self,
        pod: v1.Pod,
        container: v1.Container,
        id: ContainerId,
        files: EnvFiles | None,
        *,
        runs: bool = False,
    ) -> LaunchSpec:
        node = msgspec.structs.replace(HERE, configuration=self.configuration)
        made = spec.launch_spec(pod, container, id, node, files)
        self.colors.append(dict(made.env)["COLOR"])
        return made


HERE = spec.NodeInfo(
    name="here",
    host_ip="127.0.0.1",
    isolation=Isolation.PIDNS,
    state_dir="/state",
    working_dir="/",
    uid=0,
    gid=0,
    groups=(),
    cpu_millis=1000,
    memory=1 << 30,
)


def colored() -> v1.Pod:
    ref = v1.KeySelector(name="settings", key="COLOR")
    color = v1.EnvVar(name="COLOR", value_from=v1.EnvVarSource(config_map_key_ref=ref))
    made = pod("app")
    app = msgspec.structs.replace(made.spec.containers[0], env=(color,))
    return msgspec.structs.replace(made, spec=msgspec.structs.replace(made.spec, containers=(app,)))


async def test_a_container_waits_for_its_config_map_and_starts_when_it_appears(
    fake_clock: Clock,
) -> None:
    """H18: §9.1.4"""
    held = Held()
    async with world(fake_clock, {"app": Program()}, make_spec=held.make_spec) as w:
        worker = w.node.run_pod(colored())
        await w.clock.sleep(12)
        (status,) = worker.status.container_statuses
        assert status.state.waiting is not None
        assert status.state.waiting.reason == "CreateContainerConfigError"
        assert status.state.waiting.message == 'configmap "settings" not found'
        held.hold(w, SIZE=b"1")
        await w.clock.sleep(1)
        held.hold(w, COLOR=b"blue")
        await w.clock.sleep(1)
        assert w.runtime.times("start", "app") == [13]
        assert worker.status.phase == "Running"
        assert worker.status.container_statuses[0].restart_count == 0
        assert worker.pod.metadata.uid == w.node.workers[0].pod.metadata.uid
        told = [(e.message, e.count) for e in w.node.events() if e.reason == "Failed"]
        assert told == [
            ('Error: configmap "settings" not found', 2),
            ("Error: couldn't find key COLOR in ConfigMap default/settings", 1),
        ]
        w.node.delete_all()
        await w.node.wait()


async def test_a_pod_that_waits_for_a_config_map_ends_failed_and_is_gone_at_once(
    fake_clock: Clock,
) -> None:
    """E12: §1.1.10"""
    async with world(fake_clock, {"app": Program()}, make_spec=Held().make_spec) as w:
        w.node.run_pod(colored())
        await w.clock.sleep(3)
        w.node.delete_all()
        await w.node.wait()
        assert w.clock.now().boot == 3
        assert w.seen.statuses[-1].phase == "Failed"
        assert w.node.workers == ()


async def test_a_change_of_a_config_map_is_seen_by_the_next_instance_only(
    fake_clock: Clock,
) -> None:
    """§9.1.7"""
    held = Held()
    runs = [Program(runs=5, code=1), Program()]
    async with world(fake_clock, {"app": runs}, make_spec=held.make_spec) as w:
        held.hold(w, COLOR=b"blue")
        w.node.run_pod(colored())
        await w.clock.sleep(2)
        held.hold(w, COLOR=b"red")
        await w.clock.sleep(10)
        assert w.runtime.times("start", "app") == [0, 5]
        assert held.colors == ["blue", "red"]
        w.node.delete_all()
        await w.node.wait()
