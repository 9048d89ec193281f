"""Between which moments can a container's probes decide, and how long can its end take?

Arithmetic on the laws of `probing.py`, `decide.py` and of the rhythm in which probes are made, for
somebody who only has the manifest. `supervisor/lint.py` explains with it; nothing here decides what
happens. What comes out are seconds, the earliest and the latest:

    The first attempt   At the initial delay after the start of the container, or when the probe
                        begins to be wanted: after the postStart, and after startup has succeeded.
                        A kubelet's probers keep a rhythm of their own, so there it can be a period
                        later (§5.2.2); `cluster` asks for that.
    The next ones       A period later, or when an attempt lasts longer, at the first tick after it.
    A decision          The earliest: every attempt answers at once. The latest: every one of them
                        uses up its timeout.
    What hangs          was fine until then, and hangs just after an attempt, or just before one.
    A stop              Stop signal after the preStop, which ends with the grace period; SIGKILL
                        when that is over, but not within two seconds of the stop signal.

Not in it: attempts that cannot be made at all (they are errors and count for nothing, §5.2.9), and
a restart of podvisor or of the kubelet in between, which puts an attempt off by up to a period.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from msgspec import Struct

from supervisor.api import v1
from supervisor.lifecycle.decide import AFTER_SIGNAL
from supervisor.lifecycle.facts import HookKind
from supervisor.lifecycle.hooks import handler_of
from supervisor.lifecycle.record import MINIMUM_GRACE, grace_of


class Span(Struct, frozen=True):
    """Seconds, from the same moment on."""

    earliest: float
    latest: float


class Start(Struct, frozen=True, kw_only=True):
    """What probes can decide about a container that has just started; None: there is no probe.

    Counted from the start of the container, or `from_hook`: from the end of its postStart, of which
    nobody knows how long it takes.
    """

    from_hook: bool
    started: Span  # at once where nothing has to succeed for it
    startup_fails: Span | None
    liveness_fails: Span | None  # if it never succeeds
    ready: Span  # if readiness succeeds from its first attempt on


class Stop(Struct, frozen=True, kw_only=True):
    """How one container is stopped, counted from the moment when that begins."""

    grace: int
    signal: Span
    kill: Span  # if it has not ended before


def attempts(probe: v1.Probe, count: int, first: Span) -> Span:
    """When that many attempts in a row are over, of which the first one is made then."""
    apart = probe.period_seconds * (probe.timeout_seconds // probe.period_seconds + 1)
    return Span(
        first.earliest + (count - 1) * probe.period_seconds,
        first.latest + (count - 1) * apart + probe.timeout_seconds,
    )


def start(container: v1.Container, *, cluster: bool = False) -> Start:
    hook = _hook_length(handler_of(container, HookKind.POST_START))
    from_hook = math.isinf(hook.latest)
    begin = Span(0, 0) if from_hook else hook

    def first(probe: v1.Probe, after: Span) -> Span:
        delay = probe.initial_delay_seconds
        late = probe.period_seconds if cluster else 0
        earliest = after.earliest if from_hook else max(delay, after.earliest)
        return Span(earliest, max(delay, after.latest) + late)

    started, startup_fails, liveness_fails = begin, None, None
    startup, liveness = container.startup_probe, container.liveness_probe
    if startup is not None:
        due = first(startup, begin)
        startup_fails = attempts(startup, startup.failure_threshold, due)
        started = Span(due.earliest, startup_fails.latest)
    if liveness is not None:
        liveness_fails = attempts(liveness, liveness.failure_threshold, first(liveness, started))
    ready, readiness = started, container.readiness_probe
    if readiness is not None:
        ready = attempts(readiness, readiness.success_threshold, first(readiness, started))
    return Start(
        from_hook=from_hook,
        started=started,
        startup_fails=startup_fails,
        liveness_fails=liveness_fails,
        ready=ready,
    )


def unnoticed(probe: v1.Probe) -> Span:
    """How long liveness or readiness takes to fail after its container began to hang."""
    return attempts(probe, probe.failure_threshold, Span(0, probe.period_seconds))


def stop_by(spec: v1.PodSpec, container: v1.Container, probe: v1.Probe) -> Stop:
    """The stop of one container, alone, because of this probe of it."""
    return _stop(container, grace_of(spec, probe))


def stops(spec: v1.PodSpec) -> Iterator[tuple[v1.Container, Stop]]:
    """The stop of every app container and sidecar when the pod is deleted, in spec order."""
    grace = max(MINIMUM_GRACE, grace_of(spec))
    apps = [(container, _stop(container, grace)) for container in spec.containers]
    # A sidecar's turn comes when all of these have ended, with the grace period at the latest.
    turn = max((stop.signal.earliest for _, stop in apps), default=0.0)
    sidecars: list[tuple[v1.Container, Stop]] = []
    for container in reversed(spec.init_containers):
        if v1.is_sidecar(container):
            turn = max(turn, _stop(container, grace).signal.earliest)
            sidecars.append((container, _stopped(Span(turn, grace), grace)))
    yield from reversed(sidecars)
    yield from apps


def _stop(container: v1.Container, grace: int) -> Stop:
    hook = _hook_length(handler_of(container, HookKind.PRE_STOP))
    return _stopped(Span(min(hook.earliest, grace), min(hook.latest, grace)), grace)


def _stopped(signal: Span, grace: int) -> Stop:
    # A preStop that ends in the middle of a second puts SIGKILL off, too, but by less than one.
    kill = Span(
        max(grace, signal.earliest + AFTER_SIGNAL), max(grace, signal.latest + AFTER_SIGNAL)
    )
    return Stop(grace=grace, signal=signal, kill=kill)


def _hook_length(handler: v1.LifecycleHandler | None) -> Span:
    if handler is None:
        return Span(0, 0)
    if handler.sleep is not None:
        return Span(handler.sleep.seconds, handler.sleep.seconds)
    return Span(0, math.inf)
