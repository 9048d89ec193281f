"""What goes wrong on a node, when a test says so: `Supervisor(faults=Faults())`.

    faults = Faults()
    faults.fail_start("app", times=2, message="no such device")
    async with Supervisor(faults=faults) as node:
        pod = await node.run("web.yaml")

Each fault says which container it is for; none named means every one. They may be set before the
node is entered and at any time later; what has happened stays so. Nothing is a pretence beyond the
fault itself: events, back-off and restarts are the node's own answers to it.

A start fails as it does when the runtime cannot make the container or execute its program. A full
disk is one for the logs: the container's lines meet ENOSPC, are dropped, and never seen. A probe
answers late, by podvisor's clock (so also by a fake one), or with an answer that is given.
"""

from __future__ import annotations

import contextlib
import os

from msgspec import Struct
from msgspec.structs import replace

from supervisor.api import v1
from supervisor.errors import UsageError
from supervisor.kubelet.clock import Clock
from supervisor.kubelet.handlers import Execute, Observation
from supervisor.kubelet.node import Node
from supervisor.kubelet.prober import RunProbe
from supervisor.lifecycle import reasons
from supervisor.lifecycle.facts import Instant, ProbeKind, ProbeOutcome
from supervisor.lifecycle.probing import probe_of
from supervisor.runtime.cri import LaunchSpec, Runtime, StartError
from supervisor.testing.between import Between

_FOR_GOOD = 1 << 60


class _Fault(Struct):
    """One thing that goes wrong, so many times more."""

    container: str
    times: int

    def hits(self, container: str) -> bool:
        return self.times > 0 and self.container in ("", container)


class _FailedStart(_Fault):
    reason: str
    message: str
    created: bool


class _ProbeFault(_Fault):
    kind: ProbeKind | None
    late: float
    answer: Observation | None


class Faults:
    """What goes wrong on a node. For one Supervisor."""

    def __init__(self) -> None:
        self._starts: list[_FailedStart] = []
        self._probes: list[_ProbeFault] = []
        self._disks: list[_Fault] = []

    def fail_start(
        self,
        container: str = "",
        *,
        times: int | None = None,
        reason: str = reasons.CREATE_CONTAINER_ERROR,
        message: str = "a fault of the test",
    ) -> None:
        """Let the next starts fail; `times` None: from now on all of them.

        `reason` is that of the container's state. With `StartError` the container was made and
        its program could not be executed: it has ended with exit code 128 and is restarted by its
        policy. With any other it was not made, and the node tries again in 10 s.
        """
        created = reason == reasons.START_ERROR
        self._starts.append(_FailedStart(container, _times(times), reason, message, created))

    def fill_log_disk(self, container: str = "") -> None:
        """No line of containers that start from now on can be written to their logs."""
        self._disks.append(_Fault(container, _FOR_GOOD))

    def delay_probe(
        self,
        seconds: float,
        container: str = "",
        kind: ProbeKind | str | None = None,
        *,
        times: int | None = None,
    ) -> None:
        """Let probes answer so much later. Later than their timeout is a failure then."""
        if not seconds >= 0:
            raise UsageError(f"cannot delay a probe by {seconds} s")
        self._probes.append(_ProbeFault(container, _times(times), _kind(kind), seconds, None))

    def answer_probe(
        self,
        outcome: ProbeOutcome | str,
        container: str = "",
        kind: ProbeKind | str | None = None,
        *,
        output: str = "a fault of the test",
        times: int | None = None,
    ) -> None:
        """Let probes give this outcome (`success`, `failure`, `error`), and ask nobody."""
        try:
            answer = Observation(ProbeOutcome(outcome), output)
        except ValueError:
            known = ", ".join(ProbeOutcome)
            raise UsageError(f"cannot answer a probe with {outcome!r}: {known}") from None
        self._probes.append(_ProbeFault(container, _times(times), _kind(kind), 0.0, answer))

    def clear(self) -> None:
        """Nothing goes wrong any more that has not yet; logs on the full disk stay lost."""
        for faults in (self._starts, self._probes, self._disks):
            faults.clear()

    # --- embed.Rig ------------------------------------------------------------------------------

    def install(self, node: Node) -> None:
        node.runtime = _Failing(node.runtime, self)
        node.run_probe = self._probing(node.run_probe, node.clock)

    async def leave(self, node: Node) -> None:
        self.clear()

    # --- what they do ---------------------------------------------------------------------------

    def check_start(self, container: str) -> None:
        """Raises StartError."""
        for fault in self._starts:
            if fault.hits(container):
                fault.times -= 1
                raise StartError(fault.reason, fault.message, created=fault.created)

    def has_room(self, container: str) -> bool:
        return not any(fault.hits(container) for fault in self._disks)

    def _probing(self, run_probe: RunProbe, clock: Clock) -> RunProbe:
        async def run(
            probe: v1.Probe, container: v1.Container, *, host: str, execute: Execute
        ) -> Observation:
            fault = self._fault_of(probe, container)
            if fault is None:
                return await run_probe(probe, container, host=host, execute=execute)
            fault.times -= 1
            if fault.answer is not None:
                return fault.answer
            limit = probe.timeout_seconds
            await clock.sleep(min(fault.late, limit))
            if fault.late >= limit:
                return Observation(ProbeOutcome.FAILURE, f"no answer within {limit} s")
            return await run_probe(probe, container, host=host, execute=execute)

        return run

    def _fault_of(self, probe: v1.Probe, container: v1.Container) -> _ProbeFault | None:
        for fault in self._probes:
            kinds = ProbeKind if fault.kind is None else (fault.kind,)
            if fault.hits(container.name) and any(probe_of(container, k) is probe for k in kinds):
                return fault
        return None


class _Failing(Between):
    """A runtime with faults."""

    def __init__(self, inner: Runtime, faults: Faults) -> None:
        super().__init__(inner)
        self._faults = faults

    async def start(self, spec: LaunchSpec) -> tuple[int, Instant]:
        self._faults.check_start(spec.id.name)
        if not self._faults.has_room(spec.id.name):
            spec = _on_full_disk(spec)
        return await self.inner.start(spec)


def _on_full_disk(spec: LaunchSpec) -> LaunchSpec:
    """Its log is written to a device that is always full, and read where nothing is."""
    folder, name = os.path.split(spec.log_path)
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, f"full.{name}")
    with contextlib.suppress(FileExistsError):  # the same attempt once more
        os.symlink("/dev/full", path)
    return replace(spec, log_path=path)


def _times(times: int | None) -> int:
    return _FOR_GOOD if times is None else times


def _kind(kind: ProbeKind | str | None) -> ProbeKind | None:
    try:
        return None if kind is None else ProbeKind(kind)
    except ValueError:
        raise UsageError(f"cannot find probe {kind!r}: {', '.join(ProbeKind)}") from None
