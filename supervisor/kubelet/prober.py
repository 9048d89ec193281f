"""The probes of one pod that run: kept equal to what the plan wants, a desired set.

`Prober.reconcile` is told after every commit which probes should run. Each has one task, which
waits for the next tick, has the probe made and tells the worker what it gave; it knows nothing of
thresholds. The law of a probe:

    The first attempt is made when it is due, or at once. The next ones follow at a fixed rate;
    ticks that pass while an attempt goes on, or while the machine is suspended, are dropped.
    There is never more than one attempt of a kind at a container, also not of two instances: the
    next one waits until the one before has been cleaned up.
    What is no longer wanted is cancelled, and tells nothing any more.
"""

from __future__ import annotations

import functools
import math
import traceback
from collections.abc import Callable, Iterable
from typing import Protocol

import anyio

from supervisor.api import v1
from supervisor.kubelet.clock import Clock
from supervisor.kubelet.handlers import Execute, Observation
from supervisor.lifecycle.facts import (
    Fact,
    ProbeKind,
    ProbeObserved,
    ProbeOutcome,
    ProbeTarget,
)
from supervisor.runtime.cri import Runtime


class RunProbe(Protocol):
    """Makes one probe (handlers.Handlers.run_probe)."""

    async def __call__(
        self, probe: v1.Probe, container: v1.Container, *, host: str, execute: Execute
    ) -> Observation: ...


class Host(Protocol):
    """What probing needs from the node."""

    clock: Clock
    runtime: Runtime

    @property
    def run_probe(self) -> RunProbe: ...

    def report_bug(self, where: str, text: str) -> None: ...


class Prober:
    """Runs the probes of one pod; `host_ip` is the pod's address."""

    def __init__(self, pod: v1.Pod, host_ip: str, host: Host, tell: Callable[[Fact], None]) -> None:
        self._pod = pod
        self._host_ip = host_ip
        self._host = host
        self._tell = tell
        self._running: dict[tuple[str, ProbeKind], _Running] = {}
        self._bugs_told: set[tuple[str, ProbeKind]] = set()
        self._wanted: Iterable[ProbeTarget] = ()
        # What each probe gave last. Only for people: what counts of it is in the record, which is
        # not written at every attempt.
        self.latest: dict[tuple[str, ProbeKind], ProbeObserved] = {}

    @property
    def count(self) -> int:
        """How many tasks there are."""
        return len(self._running)

    def reconcile(self, wanted: Iterable[ProbeTarget], start_soon: Callable[..., object]) -> None:
        """Make what runs equal to `wanted`; new tasks are started with `start_soon`."""
        if wanted == self._wanted:
            return  # nearly always
        self._wanted = wanted
        targets = {(target.id.name, target.kind): target for target in wanted}
        for key, running in self._running.items():
            running.want(targets.pop(key, None))
        for key, target in targets.items():
            running = self._running[key] = _Running(target)
            start_soon(self._run, key, running)

    async def _run(self, key: tuple[str, ProbeKind], running: _Running) -> None:
        clock = self._host.clock
        # Until the end of the loop there is no await after the test, so nobody is overlooked.
        while (target := running.target) is not None:
            probe, container = self._find(target)
            period = max(1, probe.period_seconds)
            tick = base = max(target.due, clock.now().boot)
            ticks = 0
            while running.target is target:
                if await clock.wait(running.changed, tick):
                    break
                fact = await self._attempt(running, target, probe, container)
                if fact is not None:
                    self.latest[key] = fact
                    self._tell(fact)
                # The first tick that is still to come, counted from the first one: no drift.
                ticks = max(ticks + 1, math.ceil((clock.now().boot - base) / period))
                tick = base + ticks * period
            running.changed = anyio.Event()
        del self._running[key]

    async def _attempt(
        self,
        running: _Running,
        target: ProbeTarget,
        probe: v1.Probe,
        container: v1.Container,
    ) -> ProbeObserved | None:
        """Make one probe; None when it was cancelled because it is no longer wanted."""
        seen: Observation | None = None
        with running.attempting():
            try:
                seen = await self._host.run_probe(
                    probe,
                    container,
                    host=self._host_ip,
                    execute=functools.partial(self._host.runtime.exec, target.id),
                )
            except Exception as error:
                self._report_bug(target, traceback.format_exc())
                seen = Observation(ProbeOutcome.ERROR, f"a bug of podvisor's own: {error!r}")
        if seen is None:
            return None
        return ProbeObserved(
            at=self._host.clock.now(),
            id=target.id,
            kind=target.kind,
            outcome=seen.outcome,
            output=seen.output,
        )

    def _report_bug(self, target: ProbeTarget, text: str) -> None:
        """Once for each probe: a bug that comes every second is one bug."""
        key = (target.id.name, target.kind)
        if key not in self._bugs_told:
            self._bugs_told.add(key)
            self._host.report_bug(f"{target.kind} probe of {target.id}", text)

    def _find(self, target: ProbeTarget) -> tuple[v1.Probe, v1.Container]:
        spec = self._pod.spec
        containers = v1.containers(spec)
        container = next(c for c in containers if c.name == target.id.name)
        probe = {
            ProbeKind.STARTUP: container.startup_probe,
            ProbeKind.LIVENESS: container.liveness_probe,
            ProbeKind.READINESS: container.readiness_probe,
        }[target.kind]
        assert probe is not None, f"{target} names no probe"
        return probe, container


class _Running:
    """One task: the probe it is for, and the attempt that is going on."""

    def __init__(self, target: ProbeTarget) -> None:
        self.target: ProbeTarget | None = target
        self.changed = anyio.Event()  # `target` is another one
        self._attempt: anyio.CancelScope | None = None

    def want(self, target: ProbeTarget | None) -> None:
        """Be for this probe from now on; None: for none."""
        before = self.target
        if target == before:
            return
        self.target = target
        self.changed.set()
        # An attempt at the same instance is as good for a probe that is due at another time.
        same = target is not None and before is not None and target.id == before.id
        if self._attempt is not None and not same:
            self._attempt.cancel()

    def attempting(self) -> anyio.CancelScope:
        self._attempt = anyio.CancelScope()
        return self._attempt
