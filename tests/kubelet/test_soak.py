"""A hundred probed containers for an hour, or for a day, on a clock that jumps.

`make test` has the hour. `make soak` sets PODVISOR_SOAK_HOURS to 24.
"""

from __future__ import annotations

import gc
import itertools
import os
import sys

import pytest
import trio

from supervisor.api import v1
from supervisor.kubelet.clock import Clock
from supervisor.kubelet.handlers import Observation
from supervisor.lifecycle.facts import ProbeOutcome

from .conftest import Program, World, world

pytestmark = pytest.mark.anyio

HOURS = int(os.environ.get("PODVISOR_SOAK_HOURS", "1"))
PERIODS = {"liveness": 10, "readiness": 7}
GROWTH = 2000  # blocks of memory, of which there are one or more for each object; 200 probes run


def live_blocks(w: World) -> int:
    """Tracing them one by one would triple the time that this takes."""
    w.seen.statuses.clear()  # the tests' own memory of what was published and told
    w.seen.recorded.clear()
    gc.collect()
    return sys.getallocatedblocks()


def probe(period: int) -> v1.Probe:
    return v1.Probe(
        exec=v1.ExecAction(command=("x",)),
        period_seconds=period,
        success_threshold=1,
        failure_threshold=3,
        timeout_seconds=1,
    )


@pytest.mark.timeout(1200 * HOURS)  # of a busy machine; it takes less than one minute else
async def test_a_hundred_probed_containers_have_no_drift_and_nothing_that_grows(
    fake_clock: Clock,
) -> None:
    """§5.2.2: each tenth one fails now and then, too, so there are events and changes of mind."""
    last: dict[tuple[str, str], float] = {}
    gaps: dict[str, set[float]] = {kind: set() for kind in PERIODS}
    attempts = dict.fromkeys(itertools.product(map(str, range(100)), PERIODS), 0)

    async def run_probe(
        probe: v1.Probe, container: v1.Container, *, host: str, execute: object
    ) -> Observation:
        now, kind = fake_clock.now().boot, "liveness"
        if probe is container.readiness_probe:
            kind = "readiness"
        key = (container.name, kind)
        attempts[key] += 1
        if key in last:
            gaps[kind].add(round(now - last[key], 6))
        last[key] = now
        await fake_clock.sleep(0.1)
        unready = kind == "readiness" and container.name.endswith("0") and attempts[key] % 20 < 3
        return Observation(ProbeOutcome.FAILURE if unready else ProbeOutcome.SUCCESS)

    programs: dict[str, Program | list[Program]] = {str(i): Program() for i in range(100)}
    async with world(fake_clock, programs, run_probe=run_probe) as w:
        pod = v1.Pod(
            metadata=v1.ObjectMeta(name="web", namespace="default"),
            spec=v1.PodSpec(
                containers=tuple(
                    v1.Container(
                        name=name,
                        command=("x",),
                        liveness_probe=probe(PERIODS["liveness"]),
                        readiness_probe=probe(PERIODS["readiness"]),
                    )
                    for name in programs
                ),
                restart_policy="Always",
                termination_grace_period_seconds=30,
            ),
        )
        w.node.run_pod(pod)
        await fake_clock.sleep(600)
        tasks, blocks = trio.lowlevel.current_statistics().tasks_living, live_blocks(w)
        for _ in range(HOURS * 6 - 1):
            await fake_clock.sleep(600)
            live_blocks(w)
        assert live_blocks(w) - blocks < GROWTH
        assert trio.lowlevel.current_statistics().tasks_living == tasks
        assert gaps == {kind: {period} for kind, period in PERIODS.items()}
        for (_, kind), count in attempts.items():
            assert count - HOURS * 3600 // PERIODS[kind] in (0, 1)
        assert w.node.bugs == []
        w.node.delete_all()
        await w.node.wait()
