"""What the attempts of a container's probes add up to: has it started, must it go, is it ready?

The law, for each live instance and each kind of probe it has (§5.2):

    result      initial        becomes success, failure           once decided
    startup     unknown        after as many in a row as the      on hold
    liveness    success        probe's successThreshold,          on hold after a failure
    readiness   failure        failureThreshold say               goes on

    What counts   Attempts of this instance alone, one after the other; the other outcome begins
                  to count from 1. A warning counts as success; an error counts not at all.
    Who runs      Startup runs until it is decided, and the other two only when it has succeeded;
                  liveness and startup stop for good when the pod is ending, readiness goes on.
    What it is    Started: startup has succeeded; that never goes back, it is on hold by then.
                  Ready: started, and readiness says success. A probe it has not is no obstacle.
    Who goes      Failure of startup or liveness; no probe brings such an instance back, because
                  the one that failed is on hold.

The first attempt is due a probe's initial delay after the start of the instance, whenever the
probe begins to be wanted: after a slow startup the delays of the other two are long over. When an
instance is adopted, results and counters stay, and the next attempts are spread over one period,
so that a node that comes back does not probe everything at once; only what is not ready is asked
at once whether it is.

Nothing here knows pods or records: `record.py` keeps a `Probes` with each live instance.
"""

from __future__ import annotations

import enum
import zlib
from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from supervisor.api import v1
from supervisor.lifecycle.facts import ContainerId, ProbeKind, ProbeOutcome

_REMEMBERED = 256  # characters of what an attempt said are kept to explain its result


class Result(enum.StrEnum):
    """What a probe says at present, its thresholds applied."""

    UNKNOWN = "unknown"
    SUCCESS = "success"
    FAILURE = "failure"


class ProbeState(Struct, frozen=True, kw_only=True):
    """One probe of a live instance."""

    result: Result
    because: str = ""  # the beginning of what the attempt said that decided it
    last: Result = Result.UNKNOWN  # of the newest attempt that counts
    run: int = 0  # attempts in a row that gave `last`; never more than decide


class Probes(Struct, frozen=True, kw_only=True):
    """The probes of a live instance, those that it has not included."""

    startup: ProbeState = ProbeState(result=Result.UNKNOWN)
    liveness: ProbeState = ProbeState(result=Result.SUCCESS)
    readiness: ProbeState = ProbeState(result=Result.FAILURE)


class Adoption(Struct, frozen=True, kw_only=True):
    """The record of a live instance was loaded again."""

    at: float  # boot time
    ready: bool  # the instance was


def probe_of(container: v1.Container, kind: ProbeKind) -> v1.Probe | None:
    match kind:
        case ProbeKind.STARTUP:
            return container.startup_probe
        case ProbeKind.LIVENESS:
            return container.liveness_probe
        case ProbeKind.READINESS:
            return container.readiness_probe


def attempted(
    probes: Probes, kind: ProbeKind, probe: v1.Probe, outcome: ProbeOutcome, output: str
) -> Probes:
    """The probes after one more attempt of a probe that is wanted. The same object if nothing
    has changed, as is usual: then there is nothing to store or to decide."""
    match kind:
        case ProbeKind.STARTUP:
            state = _after(probes.startup, probe, outcome, output)
            return probes if state == probes.startup else replace(probes, startup=state)
        case ProbeKind.LIVENESS:
            state = _after(probes.liveness, probe, outcome, output)
            return probes if state == probes.liveness else replace(probes, liveness=state)
        case ProbeKind.READINESS:
            state = _after(probes.readiness, probe, outcome, output)
            return probes if state == probes.readiness else replace(probes, readiness=state)


def _after(state: ProbeState, probe: v1.Probe, outcome: ProbeOutcome, output: str) -> ProbeState:
    if outcome is ProbeOutcome.ERROR:
        return state
    failed = outcome is ProbeOutcome.FAILURE
    found = Result.FAILURE if failed else Result.SUCCESS
    threshold = probe.failure_threshold if failed else probe.success_threshold
    run = min(state.run + 1, threshold) if found is state.last else 1
    if run < threshold or found is state.result:
        return replace(state, last=found, run=run)
    return ProbeState(result=found, because=output[:_REMEMBERED], last=found, run=run)


def has_started(container: v1.Container, probes: Probes) -> bool:
    """Of a running instance."""
    return container.startup_probe is None or probes.startup.result is Result.SUCCESS


def is_ready(container: v1.Container, probes: Probes) -> bool:
    """Of a running instance."""
    return has_started(container, probes) and (
        container.readiness_probe is None or probes.readiness.result is Result.SUCCESS
    )


def must_go(probes: Probes, kind: ProbeKind) -> bool:
    """Whether what this probe says is the end of the instance."""
    match kind:
        case ProbeKind.STARTUP:
            return probes.startup.result is Result.FAILURE
        case ProbeKind.LIVENESS:
            return probes.liveness.result is Result.FAILURE
        case ProbeKind.READINESS:
            return False


def wanted(
    container: v1.Container, probes: Probes, *, ending: bool
) -> Iterator[tuple[ProbeKind, v1.Probe]]:
    """The probes of a running instance that should be running; `ending`: so is its pod."""
    started = has_started(container, probes)
    for kind in ProbeKind:
        probe = probe_of(container, kind)
        if probe is None:
            continue
        match kind:
            case ProbeKind.STARTUP:
                runs = not ending and probes.startup.result is Result.UNKNOWN
            case ProbeKind.LIVENESS:
                runs = started and not ending and probes.liveness.result is Result.SUCCESS
            case ProbeKind.READINESS:
                runs = started
        if runs:
            yield kind, probe


def first_due(
    id: ContainerId, kind: ProbeKind, probe: v1.Probe, since: float, adopted: Adoption | None
) -> float:
    """Boot time of the first attempt, of the instance that runs since then, or of the first one
    since its adoption."""
    due = since + probe.initial_delay_seconds
    if adopted is None or (kind is ProbeKind.READINESS and not adopted.ready):
        return due
    # Any number between 0 and 1 does that is another one for others and the same next time.
    part = zlib.crc32(f"{id.pod_uid}/{id.name}/{kind}".encode()) / 2**32
    return max(due, adopted.at + part * probe.period_seconds)
