"""Whole lives of probed pods through worker, prober and exec handler, with exact times."""

from __future__ import annotations

import pytest

from supervisor.api import v1
from supervisor.kubelet.clock import Clock
from supervisor.lifecycle.facts import ConditionSet

from .conftest import Program, World, world

pytestmark = pytest.mark.anyio


def probe(command: str, **more: int) -> v1.Probe:
    given: dict[str, int] = {
        "period_seconds": 10,
        "timeout_seconds": 1,
        "success_threshold": 1,
        "failure_threshold": 3,
    }
    given.update(more)
    return v1.Probe(exec=v1.ExecAction(command=(command,)), **given)  # type: ignore[arg-type]


def pod(
    *containers: v1.Container,
    inits: tuple[v1.Container, ...] = (),
    policy: str = "Always",
    gates: tuple[str, ...] = (),
    grace: int = 30,
) -> v1.Pod:
    return v1.Pod(
        metadata=v1.ObjectMeta(name="web", namespace="default"),
        spec=v1.PodSpec(
            init_containers=inits,
            containers=containers,
            restart_policy=policy,
            readiness_gates=tuple(v1.PodReadinessGate(condition_type=g) for g in gates),
            termination_grace_period_seconds=grace,
        ),
    )


def app(**probes: v1.Probe) -> v1.Container:
    return v1.Container(name="app", command=("x",), **probes)  # type: ignore[arg-type]


def unhealthy(w: World) -> list[tuple[str, int]]:
    return [(e.message, e.count) for e in w.seen.recorded if e.reason == "Unhealthy"]


async def test_ready_after_the_initial_delay_and_never_restarted(fake_clock: Clock) -> None:
    """§5.2.7, §2.4.4"""
    async with world(fake_clock, {"app": Program()}) as w:
        w.runtime.execs["ok"] = lambda age: 0
        worker = w.node.run_pod(pod(app(readiness_probe=probe("ok", initial_delay_seconds=7))))
        await w.clock.sleep(6.9)
        assert not worker.status.container_statuses[0].ready
        await w.clock.sleep(0.2)
        assert worker.status.container_statuses[0].ready
        await w.clock.sleep(30)
        assert w.runtime.times("exec ok", "app") == [7, 17, 27, 37]
        assert worker.status.container_statuses[0].restart_count == 0
        w.node.delete_all()
        await w.node.wait()


async def test_a_failing_readiness_probe_keeps_the_pod_running_and_unready(
    fake_clock: Clock,
) -> None:
    """§5.2.10, §5.3"""
    async with world(fake_clock, {"app": Program()}) as w:
        w.runtime.execs["no"] = lambda age: 1
        worker = w.node.run_pod(pod(app(readiness_probe=probe("no"))))
        await w.clock.sleep(95)
        assert worker.status.phase == "Running"
        assert not worker.status.container_statuses[0].ready
        assert unhealthy(w)[-1] == ("Readiness probe failed: says 1", 10)
        w.node.delete_all()
        await w.node.wait()


async def test_a_failing_liveness_probe_restarts_the_container(fake_clock: Clock) -> None:
    """§5.2.11, §5.2.16"""
    async with world(fake_clock, {"app": Program(term=2, term_code=143)}) as w:
        w.runtime.execs["live"] = lambda age: int(age >= 10)
        live = probe("live", initial_delay_seconds=15, failure_threshold=1, timeout_seconds=5)
        worker = w.node.run_pod(pod(app(liveness_probe=live)))
        await w.clock.sleep(20)
        assert w.runtime.log == [
            (0, "start", "app"),
            (15, "exec live", "app"),
            (15, "TERM", "app"),
            (17, "exit 143", "app"),
            (17, "start", "app"),
        ]
        assert worker.status.container_statuses[0].restart_count == 1
        (killing,) = [e for e in w.seen.recorded if e.reason == "Killing"]
        assert killing.message == "Container app failed liveness probe, will be restarted"
        w.node.delete_all()
        await w.node.wait()


async def test_a_probe_that_takes_too_long_has_failed(fake_clock: Clock) -> None:
    """§5.7.3"""
    async with world(fake_clock, {"app": Program()}) as w:
        w.runtime.execs["slow"] = lambda age: (0, 10)
        w.node.run_pod(pod(app(liveness_probe=probe("slow", failure_threshold=1))))
        await w.clock.sleep(0.5)
        assert w.runtime.times("TERM", "app") == []
        await w.clock.sleep(1)
        assert w.runtime.times("TERM", "app") == [1]
        assert unhealthy(w)[0][0] == (
            'Liveness probe failed: command timed out: "slow" timed out after 1s'
        )
        w.node.delete_all()
        await w.node.wait()


async def test_a_probe_that_cannot_be_started_never_kills(fake_clock: Clock) -> None:
    """§5.2.9, §5.7.2"""
    async with world(fake_clock, {"app": Program()}) as w:
        w.runtime.execs["gone"] = lambda age: None
        worker = w.node.run_pod(pod(app(liveness_probe=probe("gone", failure_threshold=1))))
        await w.clock.sleep(45)
        assert (
            w.runtime.times("exec gone", "app")
            == [0] * 3 + [10] * 3 + [20] * 3 + [30] * 3 + [40] * 3
        )
        assert worker.status.container_statuses[0].restart_count == 0
        text, count = unhealthy(w)[-1]
        assert count == 5
        assert text == (
            "Liveness probe errored and resulted in unknown state: "
            'exec: "gone": executable file not found in $PATH'
        )
        w.node.delete_all()
        await w.node.wait()


async def test_startup_holds_back_the_others_and_ready_follows_at_once(fake_clock: Clock) -> None:
    """§5.2.8, §5.2.14"""
    async with world(fake_clock, {"app": Program()}) as w:
        w.runtime.execs |= {"up": lambda age: int(age < 25), "ok": lambda age: 0}
        worker = w.node.run_pod(
            pod(
                app(
                    startup_probe=probe("up", failure_threshold=60),
                    liveness_probe=probe("ok", period_seconds=30, initial_delay_seconds=35),
                    readiness_probe=probe("ok", period_seconds=30),
                )
            )
        )
        await w.clock.sleep(29.9)
        assert worker.status.container_statuses[0].started is False
        await w.clock.sleep(0.2)
        (status,) = worker.status.container_statuses
        assert (status.started, status.ready) == (True, True)
        assert w.runtime.times("exec up", "app") == [0, 10, 20, 30]
        await w.clock.sleep(35)
        assert w.runtime.times("exec ok", "app") == [30, 35, 60, 65]
        w.node.delete_all()
        await w.node.wait()


async def test_a_failed_startup_probe_kills_with_its_own_grace(fake_clock: Clock) -> None:
    """§5.8"""
    async with world(fake_clock, {"app": Program(term=None)}) as w:
        w.runtime.execs["no"] = lambda age: 1
        startup = probe("no", initial_delay_seconds=15, termination_grace_period_seconds=5)
        w.node.run_pod(pod(app(startup_probe=startup), grace=500))
        await w.clock.sleep(41)
        assert w.runtime.times("exec no", "app") == [15, 25, 35]
        assert w.runtime.times("TERM", "app") == [35]
        assert w.runtime.times("KILL", "app") == [40]
        assert w.runtime.times("start", "app") == [0, 40]
        w.node.delete_all(kill=True)
        await w.node.wait()


async def test_readiness_is_probed_to_the_end_and_liveness_is_not(fake_clock: Clock) -> None:
    """§5.2.6, §7.3.1"""
    async with world(fake_clock, {"app": Program(term=25)}) as w:
        w.runtime.execs |= {"live": lambda age: 0, "ready": lambda age: int(age > 15)}
        worker = w.node.run_pod(
            pod(
                app(
                    liveness_probe=probe("live"),
                    readiness_probe=probe("ready", failure_threshold=1),
                )
            )
        )
        await w.clock.sleep(12)
        w.node.delete_all()
        await w.clock.sleep(8.1)
        assert not worker.status.container_statuses[0].ready
        await w.node.wait()
        assert w.runtime.times("exec live", "app") == [0, 10]
        assert w.runtime.times("exec ready", "app") == [0, 10, 20, 30]


async def test_sidecars_start_serially_by_their_startup_probes(fake_clock: Clock) -> None:
    """§4.1.1, §5.2.1"""
    sidecar = {"command": ("x",), "restart_policy": "Always"}
    one = v1.Container(name="one", startup_probe=probe("up"), **sidecar)  # type: ignore[arg-type]
    two = v1.Container(name="two", startup_probe=probe("up"), **sidecar)  # type: ignore[arg-type]
    programs: dict[str, Program | list[Program]] = {n: Program() for n in ("one", "two", "app")}
    async with world(fake_clock, programs) as w:
        w.runtime.execs["up"] = lambda age: int(age < 5)
        w.node.run_pod(pod(app(), inits=(one, two)))
        await w.clock.sleep(30)
        assert [entry for entry in w.runtime.log if entry[1] == "start"] == [
            (0, "start", "one"),
            (10, "start", "two"),
            (20, "start", "app"),
        ]
        w.node.delete_all()
        await w.node.wait()


async def test_never_restarted_a_killed_container_ends_the_pod(fake_clock: Clock) -> None:
    """§5.2.16, §7.6.2"""
    async with world(fake_clock, {"app": Program(term=1, term_code=143)}) as w:
        w.runtime.execs["no"] = lambda age: 1
        live = probe("no", failure_threshold=2)
        worker = w.node.run_pod(pod(app(liveness_probe=live), policy="Never"))
        await w.node.wait()
        assert w.clock.now().boot == 11
        assert worker.status.phase == "Failed"
        (killing,) = [e for e in w.seen.recorded if e.reason == "Killing"]
        assert killing.message == "Container app failed liveness probe"


async def test_readiness_gates_hold_the_pod_back_until_they_are_true(fake_clock: Clock) -> None:
    """§1.2.8, §1.2.7"""
    async with world(fake_clock, {"app": Program()}) as w:
        worker = w.node.run_pod(pod(app(), gates=("a/one", "a/two")))

        def ready() -> bool:
            return any(c.type == "Ready" and c.status == "True" for c in worker.status.conditions)

        async def put(gate: str, status: str) -> None:
            worker.tell(ConditionSet(at=w.clock.now(), type=gate, status=status))
            await w.clock.sleep(0.1)

        await w.clock.sleep(1)
        assert not ready()
        await put("a/one", "True")
        assert not ready()
        await put("a/two", "True")
        assert ready()
        await put("a/one", "False")
        assert not ready()
        w.node.delete_all()
        await w.node.wait()
