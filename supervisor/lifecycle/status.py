"""What the API shows of a record: phase, conditions, container statuses.

`project` is a projection: everything it says follows from the record, the status committed before
it (for what is sticky, and for the times of transitions) and `now`. It decides nothing.

A pod that is ending may look finished while a container of it still runs. Its conditions then
speak of the phase it will have, but that phase, with its reason and message, is withheld until
nothing runs (§1.1.9), because whoever reads a terminal phase takes the pod's ports and files for
free.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct
from msgspec.structs import replace

from supervisor.api import v1
from supervisor.lifecycle import hooks, probing, reasons, restart
from supervisor.lifecycle.facts import HookKind, Instant, StartContainer, rfc3339
from supervisor.lifecycle.record import (
    Cause,
    ContainerRecord,
    Ended,
    Kind,
    PodRecord,
    Sandbox,
    Termination,
    image_of,
    specs,
)

_MESSAGES = 12288  # bytes for the termination messages of a whole pod (§2.5.6)


def pod_id(record: PodRecord) -> str:
    """The pod as messages name it."""
    meta = record.pod.metadata
    return f"{meta.name}_{meta.namespace}({meta.uid})"


def starting(record: PodRecord) -> StartContainer | None:
    """The one start in flight."""
    for action in record.in_flight:
        if isinstance(action, StartContainer):
            return action
    return None


def nothing_runs(record: PodRecord) -> bool:
    """Whether no container of the pod runs or may be about to."""
    return starting(record) is None and all(c.running is None for c in record.containers)


def runs_again(record: PodRecord, spec: v1.Container, container: ContainerRecord) -> bool:
    """Whether policy lets a container that ended run again (§3.1)."""
    ended = container.ended
    if ended is None or container.kind is Kind.EPHEMERAL:
        return False
    policy, is_init = record.pod.spec.restart_policy, container.kind.is_init
    return (
        record.restarting is not None
        or container.removed
        or ended.replaced
        or restart.runs_again(spec, policy, ended.exit_code, init=is_init)
    )


def wait_before_next(record: PodRecord, container: ContainerRecord) -> float:
    """Seconds between the end of the newest instance and the start of the next (§3.2)."""
    if container.ended is None:
        return 0.0
    return restart.wait_before(
        container.attempt + 1,
        container.backoff,
        finished=container.ended.finished.boot,
        reset=record.policy.backoff_reset,
    )


def backing_off(status: v1.PodStatus) -> dict[str, int]:
    """The containers shown in back-off, each with its restart count."""
    return {
        c.name: c.restart_count
        for c in (*status.init_container_statuses, *status.container_statuses)
        if c.state.waiting is not None and c.state.waiting.reason == reasons.CRASH_LOOP_BACK_OFF
    }


def project(record: PodRecord, now: Instant, termination: Termination | None) -> v1.PodStatus:
    """The status to publish. `termination` is the pod's end, also one decided just now."""
    view = _View.of(record, now, termination)
    containers = _container_statuses(view)
    inits = len(record.pod.spec.init_containers)
    apps = inits + len(record.pod.spec.containers)
    phase, reason, message = _outcome(view)
    old = record.status
    host_ip = record.policy.host_ip
    status = v1.PodStatus(
        phase=phase,
        conditions=_conditions(view, phase, containers),
        reason=reason,
        message=message,
        host_ip=host_ip,
        host_ips=(v1.HostIP(ip=host_ip),),
        pod_ip=host_ip,
        pod_ips=(v1.PodIP(ip=host_ip),),
        start_time=rfc3339(record.created),
        init_container_statuses=tuple(containers[:inits]),
        container_statuses=tuple(sorted(containers[inits:apps], key=lambda c: c.name)),
        ephemeral_container_statuses=tuple(containers[apps:]),
        qos_class=record.qos_class,
        observed_generation=record.pod.metadata.generation,
    )
    if phase in reasons.TERMINAL_PHASES and not view.over and phase != old.phase:
        status = replace(status, phase=old.phase, reason=old.reason, message=old.message)
    return old if status == old else status


class _View(Struct, frozen=True):
    """What all parts of the projection look at."""

    record: PodRecord
    now: Instant
    termination: Termination | None
    over: bool  # the pod has ended and nothing of it runs

    @classmethod
    def of(cls, record: PodRecord, now: Instant, termination: Termination | None) -> _View:
        return cls(record, now, termination, termination is not None and nothing_runs(record))

    @property
    def ending(self) -> bool:
        return self.termination is not None


# --- phase (§1.1) ------------------------------------------------------------------------------


def _outcome(view: _View) -> tuple[str, str, str]:
    """The phase that the pod has or, once nothing runs, will have; its reason and message."""
    old = view.record.status
    if old.phase in reasons.TERMINAL_PHASES:
        return old.phase, old.reason, old.message
    if view.termination is not None and view.termination.cause is Cause.DEADLINE:
        return reasons.FAILED, reasons.DEADLINE_EXCEEDED, reasons.DEADLINE_EXCEEDED_MESSAGE
    if view.termination is not None and view.termination.cause is Cause.SHUTDOWN:
        return reasons.FAILED, reasons.TERMINATED, reasons.SHUTDOWN_MESSAGE
    if view.termination is not None and view.termination.cause is Cause.EVICTION:
        return reasons.FAILED, reasons.EVICTED, view.record.evicted
    phase = _phase(view)
    if view.over and phase not in reasons.TERMINAL_PHASES:
        phase = reasons.FAILED
    return phase, "", ""


def _phase(view: _View) -> str:
    """Counts first, then the first rule that matches (§1.1.4)."""
    record = view.record
    pending_init = waiting = running = stopped = succeeded = restarting = 0
    for spec, container in zip(specs(record), record.containers, strict=True):
        ended = container.ended
        again = not view.ending and runs_again(record, spec, container)
        if container.removed:
            ended = None  # as if it had never run (§1.1.6)
        if container.kind is Kind.EPHEMERAL:
            continue
        if container.kind is Kind.INIT:
            if container.running or ended is None:
                pending_init += 1
            elif ended.exit_code != 0 and not again:
                return reasons.FAILED
        elif container.running and not hooks.holds_back(spec, container.hooks):
            running += 1
        elif ended is None:
            waiting += 1
        elif container.kind is Kind.APP:
            stopped += 1
            succeeded += ended.exit_code == 0
            restarting += again or container.running is not None
    if pending_init or waiting:
        return reasons.PENDING
    if running or restarting:
        return reasons.RUNNING
    if stopped:
        return reasons.SUCCEEDED if succeeded == stopped else reasons.FAILED
    return reasons.PENDING


# --- conditions (§1.2) -------------------------------------------------------------------------


def _conditions(
    view: _View, phase: str, statuses: list[v1.ContainerStatus]
) -> tuple[v1.PodCondition, ...]:
    record = view.record
    before = {c.type: c for c in record.status.conditions}
    generation = record.pod.metadata.generation
    now = rfc3339(view.now)

    def condition(name: str, status: bool, reason: str = "", message: str = "") -> v1.PodCondition:
        text, old = str(status), before.get(name)
        return v1.PodCondition(
            type=name,
            status=text,
            reason=reason,
            message=message,
            last_transition_time=old.last_transition_time if old and old.status == text else now,
            observed_generation=generation,
        )

    to_start = condition(reasons.READY_TO_START, record.sandbox is Sandbox.READY)
    initialized = condition(reasons.INITIALIZED, *_initialized(record, phase, statuses))
    containers_ready = _containers_ready(record, phase, statuses)
    known = (*record.conditions, to_start, initialized)
    made = (
        *record.conditions,
        to_start,
        initialized,
        condition(reasons.READY, *_ready(record.pod.spec, containers_ready, known)),
        condition(reasons.CONTAINERS_READY, *containers_ready),
        condition(reasons.POD_SCHEDULED, True),
    )
    if restart.may_restart_all(specs(record)):
        made = (*made, condition(reasons.ALL_RESTARTING, *_all_restarting(record, phase)))
    return made


_Verdict = tuple[bool, str, str]  # status, reason, message
_YES: _Verdict = (True, "", "")


def _all_restarting(record: PodRecord, phase: str) -> _Verdict:
    if phase == reasons.SUCCEEDED:
        return False, reasons.POD_COMPLETED, ""
    if phase == reasons.FAILED:
        return False, reasons.POD_FAILED, ""
    if record.restarting is None:
        return False, "", ""
    return True, reasons.RESTART_ALL_STARTED, reasons.RESTART_ALL_MESSAGE


def _initialized(record: PodRecord, phase: str, statuses: list[v1.ContainerStatus]) -> _Verdict:
    if phase == reasons.SUCCEEDED:
        return True, reasons.POD_COMPLETED, ""
    missing = []
    for container, status in zip(record.containers, statuses, strict=True):
        if container.kind is Kind.APP and container.attempt >= 0 and not container.removed:
            return _YES
        done = status.ready if container.kind is Kind.INIT else status.started
        if container.kind.is_init and not done:
            missing.append(container.name)
    if missing:
        return False, reasons.CONTAINERS_NOT_INITIALIZED, reasons.incomplete(missing)
    return _YES


def _containers_ready(
    record: PodRecord, phase: str, statuses: list[v1.ContainerStatus]
) -> _Verdict:
    if phase == reasons.SUCCEEDED:
        return False, reasons.POD_COMPLETED, ""
    if phase == reasons.FAILED:
        return False, reasons.POD_FAILED, ""
    unready = [
        container.name
        for container, status in zip(record.containers, statuses, strict=True)
        if container.kind in (Kind.SIDECAR, Kind.APP) and not status.ready
    ]
    if unready:
        return False, reasons.CONTAINERS_NOT_READY, reasons.unready(unready)
    return _YES


def _ready(
    spec: v1.PodSpec, containers_ready: _Verdict, known: Iterable[v1.PodCondition]
) -> _Verdict:
    if containers_ready != _YES or not spec.readiness_gates:
        return containers_ready
    problems = [
        reasons.gate_missing(gate) if value is None else reasons.gate_not_true(gate, value)
        for gate, value in _gates_not_true(spec, known)
    ]
    if problems:
        return False, reasons.READINESS_GATES_NOT_READY, ", ".join(problems)
    return _YES


def _gates_not_true(
    spec: v1.PodSpec, known: Iterable[v1.PodCondition]
) -> Iterator[tuple[str, str | None]]:
    """The readiness gates that keep the pod from being ready, with the status they have."""
    values = {c.type: c.status for c in known}
    for gate in spec.readiness_gates:
        name = gate.condition_type
        value = values.get(reasons.CONDITION_ALIASES.get(name, name))
        if value != "True":
            yield name, value


def missing_gates(record: PodRecord) -> tuple[str, ...]:
    """The readiness gates whose condition is not True, or does not exist, in spec order."""
    gates = _gates_not_true(record.pod.spec, record.status.conditions)
    return tuple(name for name, _ in gates)


# --- containers (§2) ---------------------------------------------------------------------------


def _container_statuses(view: _View) -> list[v1.ContainerStatus]:
    """In the order of `record.containers`."""
    record = view.record
    prefix = f"podvisor://{record.pod.metadata.uid}/"
    limit = _MESSAGES // max(1, len(record.containers))
    shown_backing_off = backing_off(record.status)
    never_located = _never_located(record) if view.over else frozenset()
    has_init = bool(record.pod.spec.init_containers)
    made = []
    for spec, container in zip(specs(record), record.containers, strict=True):
        name, running, ended = container.name, container.running, container.ended
        last = ended
        held = running is not None and hooks.holds_back(spec, container.hooks)
        if running is not None and held:
            state = _held_back(container, has_init=has_init)
        elif running is not None:
            state = v1.ContainerState(
                running=v1.ContainerStateRunning(started_at=rfc3339(running.since))
            )
        elif container.refusal is not None and not view.ending:
            refusal = container.refusal
            state = _waiting(refusal.reason, refusal.message)
        elif ended is not None:
            wait = _shown_wait(view, spec, container, shown_backing_off)
            if wait:
                text = reasons.crash_loop(wait, name, pod_id(record))
                state = _waiting(reasons.CRASH_LOOP_BACK_OFF, text)
            elif ended.hook_error and not view.ending and runs_again(record, spec, container):
                state = _waiting(reasons.POST_START_HOOK_ERROR, ended.hook_error)
            elif container.removed and not view.over:
                state = _waiting(reasons.RESTARTING_ALL, reasons.RESTARTING_ALL_MESSAGE)
            else:
                state = _terminated(ended, f"{prefix}{name}/", limit)
                last = container.before
        elif name in never_located:
            state = _NOT_LOCATED
        else:
            state = _INITIALIZING if has_init else _CREATING
        lifecycle = spec.lifecycle or v1.Lifecycle()
        started: bool | None = running is not None and not held
        ready = bool(started)
        if container.kind is Kind.EPHEMERAL:
            started, ready = None, False  # nobody asks
        elif container.kind is Kind.INIT:
            is_over = running is None and not container.removed
            ready = is_over and ended is not None and ended.exit_code == 0
        elif running is not None and not held:
            started = probing.has_started(spec, running.probes)
            ready = probing.is_ready(spec, running.probes)
        made.append(
            v1.ContainerStatus(
                name=name,
                state=state,
                last_state=_terminated(last, f"{prefix}{name}/", limit) if last else _NO_STATE,
                ready=ready,
                restart_count=container.restarts,
                image=_shown_image(record, spec, container),
                image_id="",
                container_id=f"{prefix}{name}/{container.attempt}"
                if container.attempt >= 0
                else "",
                started=started,
                stop_signal=lifecycle.stop_signal or container.stop_signal or None,
                volume_mounts=tuple(_mounted(mount) for mount in spec.volume_mounts),
            )
        )
    return made


def _shown_image(record: PodRecord, spec: v1.Container, container: ContainerRecord) -> str:
    """Of the instance that is shown; what is to start has the image that the spec says."""
    stays = container.ended is not None and not runs_again(record, spec, container)
    return image_of(container, spec) if container.running or stays else spec.image


def _mounted(mount: v1.VolumeMount) -> v1.VolumeMountStatus:
    return v1.VolumeMountStatus(
        mount_path=mount.mount_path,
        name=mount.name,
        read_only=mount.read_only,
        recursive_read_only="Disabled" if mount.read_only else None,  # others are refused
    )


def _held_back(container: ContainerRecord, *, has_init: bool) -> v1.ContainerState:
    """The state of an instance that runs, but whose postStart has not succeeded."""
    hook = hooks.find(container.hooks, HookKind.POST_START)
    if hook is not None and hook.end is hooks.HookEnd.FAILED:
        return _waiting(reasons.POST_START_HOOK_ERROR, hook.said)
    return _INITIALIZING if has_init else _CREATING


def _waiting(reason: str, message: str = "") -> v1.ContainerState:
    return v1.ContainerState(waiting=v1.ContainerStateWaiting(reason=reason, message=message))


_NO_STATE = v1.ContainerState()
_CREATING = _waiting(reasons.CONTAINER_CREATING)
_INITIALIZING = _waiting(reasons.POD_INITIALIZING)
_NOT_LOCATED = v1.ContainerState(
    terminated=v1.ContainerStateTerminated(
        exit_code=reasons.STATUS_UNKNOWN_CODE,
        reason=reasons.STATUS_UNKNOWN,
        message=reasons.NOT_LOCATED,
    )
)


def _terminated(ended: Ended, prefix: str, limit: int) -> v1.ContainerState:
    message = ended.message
    if len(message) * 4 > limit:
        message = message.encode()[:limit].decode(errors="ignore")
    return v1.ContainerState(
        terminated=v1.ContainerStateTerminated(
            container_id=f"{prefix}{ended.attempt}",
            exit_code=ended.exit_code,
            reason=ended.reason,
            message=message,
            started_at=rfc3339(ended.started) if ended.started is not None else None,
            finished_at=rfc3339(ended.finished),
        )
    )


def _shown_wait(
    view: _View, spec: v1.Container, container: ContainerRecord, shown: dict[str, int]
) -> float:
    """The back-off to show; 0 when the container stays terminated (§2.1.4).

    A wait that was shown goes on being shown until the next instance runs; one that was over
    before anybody could see it is not shown at all.
    """
    if view.ending or container.ended is None or not runs_again(view.record, spec, container):
        return 0.0
    if view.record.restarting is not None:
        return 0.0  # it is not its turn to wait yet
    wait = wait_before_next(view.record, container)
    goes_on = view.now.boot < container.ended.finished.boot + wait
    return wait if goes_on or shown.get(container.name) == container.restarts else 0.0


def _never_located(record: PodRecord) -> frozenset[str]:
    """The containers that a pod which is over leaves without any instance (§1.1.11).

    In a pod that got as far as its app containers, all those; and of the init containers those
    before the last one that started, but the first one in any case.
    """
    inits = [c for c in record.containers if c.kind.is_init]
    apps = [c for c in record.containers if c.kind is Kind.APP]
    started = max((i for i, c in enumerate(inits) if c.attempt >= 0), default=0)
    names = {c.name for c in inits[: started + 1]}
    last = inits[-1].ended if inits else None
    if not inits or any(c.attempt >= 0 for c in apps) or (last and last.exit_code == 0):
        names.update(c.name for c in apps)
    return frozenset(names)
