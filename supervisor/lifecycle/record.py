"""Everything known about one pod, and the fold of facts into it.

A `PodRecord` is all that `decide` looks at and all that must be stored to go on after a crash.
`observe` folds one fact: it never refuses one, and a fact that is late, doubled or about somebody
else changes nothing but what is in flight. So a record may be rebuilt from any stored one plus a
fresh list of what the runtime holds.

The law of an instance of a container:

    (not made) --ContainerStarted--> running --ContainerExited, ContainerLost--> ended
    (not made) --StartFailed, created--> ended        with StartError
    (not made) --StartFailed, not created--> (not made)    the attempt is not used up

    Attempts only grow, and there is at most one live instance: a newer attempt that runs proves
    that the one before has ended. An ended instance never changes again.

An instance may be stopped alone, because a probe of it has failed for good, or its postStart, or
because it was started for another image than its container has by now (`Running.kill`). That is
decided once for an instance and never taken back. If it was announced to be restarted, it is,
whatever its exit code (`Ended.replaced`). The attempts of a probe are counted, so each is told
once; probing.py says what they add up to. What a hook is owed, and until when, is
hooks.py's to say; the next instance of a container is made when the hooks of this one have ended.

The law of a restart of all containers (`PodRecord.restarting`), which the end of one asks for by a
rule of its own: whatever runs is killed, nothing starts, no hook is waited for; when nothing runs
any more the instances are removed (`ContainerRecord.removed`) and the pod begins with its first
container, as it once did. Only its sandbox and what counts restarts and waits are older. A pod that
is ending does not begin it, and does not go on with it when everything is killed.

The law of a termination: once begun it never ends but with the pod, and its deadline only ever
comes nearer. It includes what was being stopped alone, at the earlier of both deadlines.

An event is owed when a fold changes the record and is paid when a plan that carries it is
committed, so no event is lost in a crash, and none told twice.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable

from msgspec import Struct
from msgspec.structs import replace

from supervisor.api import v1
from supervisor.lifecycle import hooks, probing, reasons, restart, timeline
from supervisor.lifecycle.facts import (
    Action,
    ActionFailed,
    Adopted,
    ConditionRemoved,
    ConditionSet,
    ConfigurationChanged,
    ContainerExited,
    ContainerId,
    ContainerLost,
    ContainersRemoved,
    ContainerStarted,
    CreateSandbox,
    DeletionRequested,
    Fact,
    FinishPod,
    HookFinished,
    HookInterrupted,
    HookKind,
    HookTarget,
    Instant,
    KillContainer,
    KillSent,
    LogsDropped,
    NodeStopping,
    PodUpdated,
    ProbeObserved,
    ProbeOutcome,
    ProbeTarget,
    RemoveContainers,
    SandboxDied,
    SandboxLost,
    SandboxReady,
    SandboxStopped,
    StartContainer,
    StartFailed,
    StopContainer,
    StopSignalled,
    VolumeOverLimit,
    VolumesFailed,
    rfc3339,
)
from supervisor.lifecycle.qos import qos_class

RETRY = 10.0  # seconds until what failed on our side is tried again (§3.2.11)
REMOUNT = 2.0  # seconds until volumes that could not be set up are tried again (§9.3.1)
DEFAULT_GRACE = 30
MINIMUM_GRACE = 1  # of a termination, also when 0 is asked for (§7.2.1)


class NodePolicy(Struct, frozen=True, kw_only=True):
    """What the node decides for all its pods."""

    backoff_initial: float = 10.0
    backoff_max: float = 300.0
    backoff_reset: float = 600.0
    node_name: str
    host_ip: str = "127.0.0.1"


# --- what is known -----------------------------------------------------------------------------


class Kind(enum.StrEnum):
    """The part a container plays in its pod."""

    INIT = "init"  # runs to its end before the next one starts
    SIDECAR = "sidecar"  # an init container that goes on beside the app containers
    APP = "app"
    EPHEMERAL = "ephemeral"  # added to a live pod to look into it, and never run again

    @property
    def is_init(self) -> bool:
        """Whether it stands among the init containers."""
        return self in (Kind.INIT, Kind.SIDECAR)


class KillCause(enum.StrEnum):
    """Why one instance is being stopped alone."""

    STARTUP = "startup"  # the probe of that name was not passed
    LIVENESS = "liveness"
    POST_START = "postStart"  # the hook failed
    DEFINITION = "definition"  # the container was changed


class Kill(Struct, frozen=True, kw_only=True):
    """One instance is being stopped, alone: its container goes on with the next one, if it may."""

    cause: KillCause
    requested: Instant
    deadline: float  # boot time: from here on SIGKILL is due


class Running(Struct, frozen=True, kw_only=True):
    """The live instance of a container."""

    since: Instant
    pid: int  # on the host
    signalled: Instant | None = None  # the stop signal was sent
    killed: Instant | None = None  # SIGKILL was sent last
    announced: str = ""  # that it is being stopped was told, in these words
    log_dropped: bool = False  # that its log has gaps was told
    probes: probing.Probes = probing.Probes()
    adopted: probing.Adoption | None = None
    kill: Kill | None = None


class Ended(Struct, frozen=True, kw_only=True):
    """How an instance ended."""

    attempt: int
    exit_code: int
    reason: str
    message: str = ""
    started: Instant | None  # None: nobody saw it start
    finished: Instant
    log_dropped: int = 0  # records that could not be written
    replaced: bool = False  # stopped in order to run again, whatever its exit code
    hook_error: str = ""  # it was stopped because its postStart failed, and this is why


class Refusal(Struct, frozen=True):
    """Why the next instance could not be made; it is tried again at boot time `again`."""

    reason: str
    message: str
    again: float


class ContainerRecord(Struct, frozen=True, kw_only=True):
    """One container of the pod."""

    name: str
    kind: Kind
    attempt: int = -1  # of the newest instance that was made; -1: none yet
    first: int = 0  # attempt that was, or will be, the first one in the present sandbox
    running: Running | None = None  # the newest instance, while it lives
    hooks: tuple[hooks.Hook, ...] = ()  # of the newest instance
    ended: Ended | None = None  # the newest instance that has ended
    before: Ended | None = None  # the one before `ended`
    removed: bool = False  # the newest instance ended, and then its pod began anew
    refusal: Refusal | None = None
    backoff: restart.Backoff | None = None
    stop_signal: str = ""  # that the image of the newest instance asks for; empty: none
    image: str | None = None  # that the newest start was decided for; None: that of the spec

    @property
    def is_made(self) -> bool:
        """Whether any instance was made in the present sandbox."""
        return self.attempt >= self.first

    @property
    def owes(self) -> bool:
        """Whether a hook of the newest instance is owed."""
        return any(hook.is_owed for hook in self.hooks)

    @property
    def restarts(self) -> int:
        """The restart count; what was removed is counted at once (§3.4.4)."""
        return max(self.attempt + self.removed, 0)


class Sandbox(enum.StrEnum):
    """The pod's directories, and the pid namespace that its containers may share."""

    ABSENT = "absent"
    READY = "ready"
    DEAD = "dead"  # its pid namespace is gone; some containers have not been seen to end yet
    STOPPED = "stopped"


class Cause(enum.StrEnum):
    """Why a pod is ending."""

    DELETION = "deletion"
    DEADLINE = "deadline"  # activeDeadlineSeconds
    COMPLETION = "completion"  # no app container runs or will run again
    INIT_FAILURE = "init failure"  # a failed init container will not run again
    SHUTDOWN = "node shutdown"
    EVICTION = "eviction"  # a volume holds more than it may


class Termination(Struct, frozen=True, kw_only=True):
    """The pod is ending. Nothing starts any more."""

    cause: Cause
    requested: Instant
    deadline: float  # boot time: from here on SIGKILL is due
    kill: bool = False  # do not wait at all


class Restarting(Struct, frozen=True, kw_only=True):
    """All containers are being killed, to run again from the first one."""

    by: str  # the container whose end asked for it
    requested: Instant


class Retry(Struct, frozen=True):
    """An action that failed on our side. One entry per action, however often it fails."""

    action: Action
    again: float  # boot time
    error: str


class EventDraft(Struct, frozen=True, kw_only=True):
    """An event to record; the recorder adds pod, time and count (§11)."""

    type: str
    reason: str
    message: str
    field_path: str = ""  # of the container; empty for events of the pod
    component: str = reasons.KUBELET


class PodRecord(Struct, frozen=True, kw_only=True):
    """All that is known about one pod."""

    pod: v1.Pod  # as taken on, with what was changed since. Its status is not looked at
    policy: NodePolicy
    qos_class: str
    created: Instant  # the node took the pod on: status.startTime
    boot_id: str = ""  # of the machine's life to which the boot times in here belong
    sandbox: Sandbox = Sandbox.ABSENT
    containers: tuple[ContainerRecord, ...]  # init, app, ephemeral; each in spec order
    deletion: Instant | None = None  # first asked for
    forced: bool = False  # its deletion does not wait for what runs of it
    termination: Termination | None = None
    restarting: Restarting | None = None
    evicted: str = ""  # why, if the pod is ending for that
    in_flight: frozenset[Action] = frozenset()  # committed, not yet answered
    retries: tuple[Retry, ...] = ()
    conditions: tuple[v1.PodCondition, ...] = ()  # set from outside
    owed_events: tuple[EventDraft, ...] = ()
    trail: tuple[timeline.Mark, ...] = ()  # how it has been ending so far
    status: v1.PodStatus  # last committed

    @property
    def is_hidden(self) -> bool:
        """Whether the object is gone and its name free, while what runs of it still ends (§7.1.5).
        Finalizers keep it even so."""
        return self.forced and not self.pod.metadata.finalizers


class HookClosed(Struct, frozen=True):
    """A hook ends by decision: its time is over, or nobody needs it any more."""

    id: ContainerId
    which: HookKind
    end: hooks.HookEnd


class Plan(Struct, frozen=True, kw_only=True):
    """Everything that should be true or done next."""

    actions: tuple[Action, ...] = ()
    probing: frozenset[ProbeTarget] = frozenset()  # the probes that should be running
    hooks: frozenset[HookTarget] = frozenset()  # the hooks that should be running
    closed: frozenset[HookClosed] = frozenset()  # hooks that are waited for no longer
    status: v1.PodStatus
    events: tuple[EventDraft, ...] = ()
    wake_at: float | None = None  # boot time: decide again then, even if nothing happens
    termination: Termination | None = None
    done: bool = False  # the pod's life is over: terminal phase, nothing left
    gone: bool = False  # and its object goes: it was deleted, and no finalizer keeps it


class Committed(Struct, frozen=True, tag=True):
    """The shell has stored this plan; only now may its actions be performed."""

    at: Instant
    plan: Plan


def new_record(pod: v1.Pod, at: Instant, policy: NodePolicy, boot_id: str = "") -> PodRecord:
    """The record of a pod that the node takes on. The pod is defaulted and has its uid."""
    meta, spec = pod.metadata, pod.spec
    qos = qos_class(spec)
    return PodRecord(
        pod=pod,
        policy=policy,
        qos_class=qos,
        created=at,
        boot_id=boot_id,
        containers=(
            *(
                ContainerRecord(name=c.name, kind=Kind.SIDECAR if v1.is_sidecar(c) else Kind.INIT)
                for c in spec.init_containers
            ),
            *(ContainerRecord(name=c.name, kind=Kind.APP) for c in spec.containers),
        ),
        owed_events=(
            EventDraft(
                type=reasons.NORMAL,
                reason=reasons.SCHEDULED,
                message=reasons.scheduled(meta.namespace, meta.name, policy.node_name),
                component=reasons.SCHEDULER,
            ),
        ),
        status=v1.PodStatus(phase=reasons.PENDING, qos_class=qos),
    )


def specs(record: PodRecord) -> tuple[v1.Container, ...]:
    """The containers' specs, in the order of `record.containers`."""
    return v1.containers(record.pod.spec)


def field_path(container: ContainerRecord) -> str:
    """Where the container stands in the spec, as events name it (§11.1)."""
    group = "containers" if container.kind is Kind.APP else "initContainers"
    if container.kind is Kind.EPHEMERAL:
        group = "ephemeralContainers"
    return f"spec.{group}{{{container.name}}}"


def image_of(container: ContainerRecord, spec: v1.Container) -> str:
    """The image that the newest instance was started for; its spec may say another one by now."""
    return spec.image if container.image is None else container.image


def container_event(
    container: ContainerRecord, severity: str, reason: str, message: str
) -> EventDraft:
    path = field_path(container)
    return EventDraft(type=severity, reason=reason, message=message, field_path=path)


def is_stopping(record: PodRecord) -> bool:
    """Whether everything that runs is being stopped."""
    return record.termination is not None or record.restarting is not None


def spec_grace(record: PodRecord) -> int:
    """The pod's own grace period in seconds."""
    return grace_of(record.pod.spec)


def grace_of(spec: v1.PodSpec, probe: v1.Probe | None = None) -> int:
    """The grace period in seconds, of a kill by this probe if there is one (§5.8); negative means
    1 (§7.1.2)."""
    grace = spec.termination_grace_period_seconds
    if probe is not None and probe.termination_grace_period_seconds is not None:
        return probe.termination_grace_period_seconds
    return DEFAULT_GRACE if grace is None else grace if grace >= 0 else MINIMUM_GRACE


# --- the fold ----------------------------------------------------------------------------------


def observe(record: PodRecord, fact: Fact | Committed) -> PodRecord:
    """The record after one more fact."""
    after = _folded(record, fact)
    if after.sandbox is Sandbox.DEAD:
        after = _out_of_sandbox(after)
    if after is record or after.termination is None:
        return after
    actions = fact.plan.actions if isinstance(fact, Committed) else ()
    marks = tuple(timeline.trace(record, after, actions, fact.at))
    return replace(after, trail=after.trail + marks) if marks else after


def _folded(record: PodRecord, fact: Fact | Committed) -> PodRecord:
    match fact:
        case Committed():
            return _committed(record, fact)
        case SandboxReady():
            record = _answered(record, CreateSandbox())
            if record.sandbox is Sandbox.ABSENT:
                return replace(record, sandbox=Sandbox.READY)
            return record
        case VolumesFailed():
            return _volumes_failed(record, fact)
        case VolumeOverLimit():
            return _over_limit(record, fact)
        case SandboxStopped():
            return replace(_answered(record, FinishPod()), sandbox=Sandbox.STOPPED)
        case ContainerStarted():
            return _started(_answered(record, StartContainer(fact.id)), fact)
        case StartFailed():
            after = _start_failed(_answered(record, StartContainer(fact.id)), fact)
            return _asked_to_restart(record, after, fact)
        case ContainerExited():
            return _asked_to_restart(record, _exited(record, fact), fact)
        case ContainerLost():
            return _asked_to_restart(record, _lost(record, fact), fact)
        case ContainersRemoved():
            return _begun_anew(_answered(record, RemoveContainers()))
        case StopSignalled():
            record = _answered(record, *_stops_in_flight(record, fact.id))
            return _update_running(
                record,
                fact.id,
                lambda r: r if r.signalled else replace(r, signalled=fact.at),
            )
        case KillSent():
            record = _answered(record, KillContainer(fact.id))
            return _update_running(record, fact.id, lambda r: replace(r, killed=fact.at))
        case ProbeObserved():
            return _probed(record, fact)
        case HookFinished():
            return _hook_finished(record, fact)
        case HookInterrupted():
            return _hook_interrupted(record, fact)
        case LogsDropped():
            return _logs_dropped(record, fact)
        case DeletionRequested():
            return _deletion_requested(record, fact)
        case NodeStopping():
            return _node_stopping(record, fact)
        case ConditionSet():
            return _condition_set(record, fact)
        case ConditionRemoved():
            others = tuple(c for c in record.conditions if c.type != fact.type)
            return replace(record, conditions=others)
        case PodUpdated():
            return _updated(record, fact)
        case ConfigurationChanged():
            return _configuration_changed(record, fact)
        case ActionFailed():
            return _action_failed(record, fact)
        case Adopted():
            return _adopted(record, fact)
        case SandboxDied():
            is_there = record.sandbox is Sandbox.READY
            return replace(record, sandbox=Sandbox.DEAD) if is_there else record
        case SandboxLost():
            return _sandbox_lost(record, fact)


def _answered(record: PodRecord, *actions: Action) -> PodRecord:
    """These actions are done: neither in flight nor to be tried again."""
    if record.in_flight.isdisjoint(actions) and not record.retries:
        return record
    return replace(
        record,
        in_flight=record.in_flight.difference(actions),
        retries=tuple(r for r in record.retries if r.action not in actions),
    )


def _stops_in_flight(record: PodRecord, instance: ContainerId) -> list[Action]:
    """The answer to a stop does not name the signal."""
    return [
        action
        for action in (*record.in_flight, *(r.action for r in record.retries))
        if isinstance(action, StopContainer) and action.id == instance
    ]


def _find(record: PodRecord, instance: ContainerId) -> int | None:
    """The place of the container that this is an instance of."""
    if instance.pod_uid == record.pod.metadata.uid:
        for index, container in enumerate(record.containers):
            if container.name == instance.name:
                return index
    return None


def _with(
    record: PodRecord, index: int, container: ContainerRecord, *events: EventDraft
) -> PodRecord:
    containers = record.containers
    return replace(
        record,
        containers=(*containers[:index], container, *containers[index + 1 :]),
        owed_events=(*record.owed_events, *events),
    )


def _update_running(
    record: PodRecord, instance: ContainerId, change: Callable[[Running], Running]
) -> PodRecord:
    index = _find(record, instance)
    if index is None:
        return record
    container = record.containers[index]
    if container.running is None or container.attempt != instance.attempt:
        return record
    return _with(record, index, replace(container, running=change(container.running)))


def _pulled(record: PodRecord, container: ContainerRecord, index: int) -> EventDraft:
    message = reasons.pulled(image_of(container, specs(record)[index]))
    return container_event(container, reasons.NORMAL, reasons.PULLED, message)


def _ended(container: ContainerRecord, ended: Ended) -> ContainerRecord:
    """The newest instance has ended so."""
    return replace(
        container,
        attempt=ended.attempt,
        running=None,
        hooks=container.hooks if ended.attempt == container.attempt else (),
        ended=ended,
        before=container.ended,
        removed=False,
        refusal=None,
    )


def _ended_unseen(
    container: ContainerRecord, instance: ContainerId, at: Instant, started: Instant | None
) -> ContainerRecord:
    """How an instance ended is not known. Never a success."""
    return _ended(
        container,
        Ended(
            attempt=instance.attempt,
            exit_code=reasons.STATUS_UNKNOWN_CODE,
            reason=reasons.STATUS_UNKNOWN,
            message=reasons.LOST,
            started=started,
            finished=at,
        ),
    )


def _started(record: PodRecord, fact: ContainerStarted) -> PodRecord:
    index = _find(record, fact.id)
    if index is None:
        return record
    container = record.containers[index]
    ended = container.ended
    told = (
        _pulled(record, container, index),
        container_event(container, reasons.NORMAL, reasons.CREATED, reasons.CREATED_MESSAGE),
        container_event(container, reasons.NORMAL, reasons.STARTED, reasons.STARTED_MESSAGE),
    )
    if fact.id.attempt <= container.attempt:
        if ended and ended.attempt == fact.id.attempt and ended.started is None:
            # Its end was faster than the news of its start.
            ended = replace(ended, started=fact.at)
            container = replace(container, ended=ended, stop_signal=fact.stop_signal)
            return _with(record, index, container, *told)
        return record
    if container.running is not None:
        before = ContainerId(fact.id.pod_uid, fact.id.name, container.attempt)
        container = _ended_unseen(container, before, fact.at, container.running.since)
    container = replace(
        container,
        attempt=fact.id.attempt,
        running=Running(since=fact.at, pid=fact.pid),
        hooks=(),
        removed=False,
        refusal=None,
        stop_signal=fact.stop_signal,
    )
    # It may have been changed while it was being started.
    container = _outdated(record, container, specs(record)[index], fact.at)
    return _with(record, index, container, *told)


def _start_failed(record: PodRecord, fact: StartFailed) -> PodRecord:
    index = _find(record, fact.id)
    if index is None or fact.id.attempt <= record.containers[index].attempt:
        return record
    container = record.containers[index]
    failed = container_event(
        container, reasons.WARNING, reasons.FAILED_EVENT, reasons.error(fact.message)
    )
    pulled = _pulled(record, container, index)
    if not fact.created:
        refusal = Refusal(fact.reason, fact.message, fact.at.boot + RETRY)
        return _with(record, index, replace(container, refusal=refusal), pulled, failed)
    created = container_event(container, reasons.NORMAL, reasons.CREATED, reasons.CREATED_MESSAGE)
    container = _ended(
        container,
        Ended(
            attempt=fact.id.attempt,
            exit_code=reasons.START_ERROR_CODE,
            reason=fact.reason,
            message=fact.message,
            started=Instant(wall=0.0, boot=fact.at.boot),  # shown as containerd does: 1970
            finished=fact.at,
        ),
    )
    return _with(record, index, container, pulled, created, failed)


def _exited(record: PodRecord, fact: ContainerExited) -> PodRecord:
    index = _find(record, fact.id)
    if index is None:
        return record
    container = record.containers[index]
    if _is_past(container, fact.id):
        return record
    reason = reasons.COMPLETED if fact.exit_code == 0 else reasons.ERROR
    message = fact.message
    if record.restarting is not None and fact.exit_code == reasons.KILLED_CODE:
        reason, message = reasons.RESTARTING_ALL, message or reasons.RESTARTING_ALL_MESSAGE
    ended = Ended(
        attempt=fact.id.attempt,
        exit_code=fact.exit_code,
        reason=reason,
        message=message,
        started=_start_of(container, fact.id),
        finished=fact.at,
        log_dropped=fact.log_dropped,
        replaced=_is_replaced(record, container, index),
        hook_error=_hook_error(container),
    )
    container, told = _without_process(record, container, index, fact.at)
    if not fact.log_complete:
        message = reasons.log_incomplete(container.name)
        told.append(container_event(container, reasons.WARNING, reasons.LOGS_DROPPED, message))
    return _with(record, index, _ended(container, ended), *told)


def _lost(record: PodRecord, fact: ContainerLost) -> PodRecord:
    index = _find(record, fact.id)
    if index is None or _is_past(record.containers[index], fact.id):
        return record
    container = record.containers[index]
    started = _start_of(container, fact.id)
    container, told = _without_process(record, container, index, fact.at)
    if fact.logs_lost:
        message = reasons.logs_lost(container.name)
        told.append(container_event(container, reasons.WARNING, reasons.LOGS_LOST, message))
    return _with(record, index, _ended_unseen(container, fact.id, fact.at, started), *told)


def _asked_to_restart(
    before: PodRecord, after: PodRecord, fact: StartFailed | ContainerExited | ContainerLost
) -> PodRecord:
    """Whether an end that is news asks for a restart of all containers (§3.4.1).

    What was stopped to run again does not: its rules do not count (§7.6.2).
    """
    if after is before or after.termination is not None or after.restarting is not None:
        return after
    index = _find(after, fact.id)
    if index is None:
        return after
    ended = after.containers[index].ended
    if ended is None or ended is before.containers[index].ended or ended.replaced:
        return after
    if not restart.restarts_all(specs(after)[index], ended.exit_code):
        return after
    return replace(after, restarting=Restarting(by=fact.id.name, requested=fact.at))


def _begun_anew(record: PodRecord) -> PodRecord:
    """The instances that all were killed are removed: the pod begins with its first container."""
    if (
        record.restarting is None
        or record.termination is not None
        or any(c.running is not None for c in record.containers)
    ):
        return record
    containers = tuple(
        container
        if container.kind is Kind.EPHEMERAL
        else replace(
            container, first=container.attempt + 1, removed=container.attempt >= 0, refusal=None
        )
        for container in record.containers
    )
    return replace(record, restarting=None, containers=containers)


def _is_past(container: ContainerRecord, instance: ContainerId) -> bool:
    """Whether this instance is known to have ended."""
    if instance.attempt == container.attempt:
        return container.running is None
    return instance.attempt < container.attempt


def _start_of(container: ContainerRecord, instance: ContainerId) -> Instant | None:
    if container.running is not None and container.attempt == instance.attempt:
        return container.running.since
    return None


def _is_replaced(record: PodRecord, container: ContainerRecord, index: int) -> bool:
    """Whether the instance that ends now was being stopped to run again."""
    running = container.running
    if running is None or running.kill is None:
        return False
    if running.kill.cause is KillCause.DEFINITION:
        return True  # whatever the policy (§7.6.2)
    return (
        running.kill.cause is not KillCause.POST_START  # that promises nothing
        and restart.after_kill(specs(record)[index], record.pod.spec.restart_policy)
    )


def _hook_error(container: ContainerRecord) -> str:
    running = container.running
    if running is None or running.kill is None or running.kill.cause is not KillCause.POST_START:
        return ""
    hook = hooks.find(container.hooks, HookKind.POST_START)
    return hook.said if hook is not None else ""


def _without_process(
    record: PodRecord, container: ContainerRecord, index: int, at: Instant
) -> tuple[ContainerRecord, list[EventDraft]]:
    """The instance has ended: what becomes of the hooks it owes, and the events of that."""
    told, kept = [], []
    for hook in container.hooks:
        if hook.is_owed and not hooks.outlives(specs(record)[index], hook.which):
            hook = hooks.close(hook, hooks.HookEnd.GONE, at)
            told.append(_hook_event(container, hook.which))
        elif hook.is_owed:
            until = at.boot + hooks.LEAST
            running = container.running
            if hook.which is HookKind.PRE_STOP and running is not None:
                until = max(until, _deadline(record, running))
            hook = replace(hook, until=until)
        kept.append(hook)
    return replace(container, hooks=tuple(kept)), told


def _deadline(record: PodRecord, running: Running) -> float:
    """Boot time of the deadline that an instance is being stopped by; 0 if it is not."""
    deadlines = [end.deadline for end in (running.kill, record.termination) if end is not None]
    return min(deadlines, default=0.0)


def _hook_event(container: ContainerRecord, which: HookKind) -> EventDraft:
    return container_event(container, reasons.WARNING, *reasons.HOOK_FAILED[which])


def _hook_finished(record: PodRecord, fact: HookFinished) -> PodRecord:
    """It counts only while it is owed: an end is final."""
    index = _find(record, fact.id)
    if index is None or record.containers[index].attempt != fact.id.attempt:
        return record
    container = record.containers[index]
    hook = hooks.find(container.hooks, fact.which)
    if hook is None or not hook.is_owed:
        return _hook_over(record, index, hook)
    end = hooks.HookEnd.SUCCEEDED if fact.ok else hooks.HookEnd.FAILED
    closed = hooks.close(hook, end, fact.at, fact.message, fact.output)
    container = replace(container, hooks=hooks.put(container.hooks, closed))
    told = []
    if fact.fallback:
        message = reasons.hook_fallback(fact.fallback)
        told.append(
            container_event(container, reasons.WARNING, reasons.LIFECYCLE_HTTP_FALLBACK, message)
        )
    if not fact.ok:
        told.append(_hook_event(container, fact.which))
        running = container.running
        if fact.which is HookKind.POST_START and running is not None and running.kill is None:
            kill = Kill(
                cause=KillCause.POST_START,
                requested=fact.at,
                deadline=fact.at.boot + max(MINIMUM_GRACE, spec_grace(record)),
            )
            container = replace(container, running=replace(running, kill=kill))
    return _with(record, index, container, *told)


def _hook_interrupted(record: PodRecord, fact: HookInterrupted) -> PodRecord:
    index = _find(record, fact.id)
    if index is None or record.containers[index].attempt != fact.id.attempt:
        return record
    container = record.containers[index]
    hook = hooks.find(container.hooks, fact.which)
    if hook is None or not hook.is_owed:
        return _hook_over(record, index, hook)
    again = hooks.put(container.hooks, hooks.interrupted(hook, fact.at))
    return _with(record, index, replace(container, hooks=again))


def _hook_over(record: PodRecord, index: int, hook: hooks.Hook | None) -> PodRecord:
    """A hook that was left to itself has ended: it is not begun again."""
    if hook is None or not hook.left:
        return record
    container = record.containers[index]
    return _with(
        record, index, replace(container, hooks=hooks.put(container.hooks, hooks.over(hook)))
    )


def hooks_closed(record: PodRecord, closed: Iterable[HookClosed], at: Instant) -> PodRecord:
    """The record when these hooks have ended so, by decision."""
    for entry in closed:
        index = _find(record, entry.id)
        assert index is not None, "the hook of a container that is not there"
        container = record.containers[index]
        hook = hooks.find(container.hooks, entry.which)
        assert hook is not None, "a hook that was never intended"
        ended = hooks.close(hook, entry.end, at)
        container = replace(container, hooks=hooks.put(container.hooks, ended))
        record = _with(record, index, container)
    return record


def _adopted(record: PodRecord, fact: Adopted) -> PodRecord:
    """What is probed goes on from where it was, but not all at once; what is owed begins again."""

    def known(container: ContainerRecord, spec: v1.Container) -> ContainerRecord:
        id = ContainerId(record.pod.metadata.uid, container.name, container.attempt)
        if container.hooks:
            owed = tuple(
                hook
                if HookTarget(id, hook.which, hook.runs) in fact.resumed
                else hooks.interrupted(hook, fact.at)
                for hook in container.hooks
            )
            container = replace(container, hooks=owed)
        running = container.running
        if running is not None:
            ready = probing.is_ready(spec, running.probes)
            adoption = probing.Adoption(at=fact.at.boot, ready=ready)
            container = replace(container, running=replace(running, adopted=adoption))
        return container

    parts = zip(record.containers, specs(record), strict=True)
    return replace(
        record,
        containers=tuple(known(*part) for part in parts),
        in_flight=frozenset(),
        retries=(),
    )


def _sandbox_lost(record: PodRecord, fact: SandboxLost) -> PodRecord:
    """All processes are gone, and what the boot clock said before means nothing any more.

    A pod that may run again begins with its first init container (§4.3.3).
    """
    uid = record.pod.metadata.uid
    for container in record.containers:
        if container.running is not None:
            id = ContainerId(uid, container.name, container.attempt)
            record = _lost(record, ContainerLost(at=fact.at, id=id))
    record = _begun_anew(record)  # what is gone with the machine needs not be killed
    termination = record.termination
    known = record.containers
    anew = _begins_anew(record)
    # What goes on without beginning anew needs its namespace all the same.
    shared = record.sandbox is Sandbox.READY and record.pod.spec.share_process_namespace
    containers = tuple(
        replace(
            container,
            first=container.attempt + 1 if anew else container.first,
            ended=_moved(container.ended, fact.at),
            hooks=tuple(
                replace(hook, intended=fact.at, begun=fact.at, until=fact.at.boot + hooks.LEAST)
                if hook.is_owed
                else hook
                for hook in container.hooks
            ),
            refusal=None,
            backoff=None,
        )
        for container in known
    )
    if termination is not None:
        termination = replace(termination, requested=fact.at, deadline=fact.at.boot)
    return replace(
        record,
        created=_before(record.created, fact.at),
        deletion=None if record.deletion is None else Instant(record.deletion.wall, fact.at.boot),
        termination=termination,
        boot_id=fact.boot_id,
        sandbox=Sandbox.ABSENT if anew or shared else record.sandbox,
        containers=containers,
        in_flight=frozenset(),
        retries=(),
        owed_events=(*record.owed_events, _CHANGED) if anew else record.owed_events,
        trail=tuple(replace(mark, at=_before(mark.at, fact.at)) for mark in record.trail),
    )


_CHANGED = EventDraft(
    type=reasons.NORMAL,
    reason=reasons.SANDBOX_CHANGED,
    message=reasons.SANDBOX_CHANGED_MESSAGE,
)


def _begins_anew(record: PodRecord) -> bool:
    """Whether a pod that has lost its sandbox, and all that ran in it, begins in another one."""
    known = [c for c in record.containers if c.kind is not Kind.EPHEMERAL]
    policy = record.pod.spec.restart_policy
    made = any(c.is_made for c in known)
    over = (policy == "Never" and made) or (
        policy == "OnFailure" and all(c.ended and c.ended.exit_code == 0 for c in known)
    )
    return made and not over and record.termination is None


def _out_of_sandbox(record: PodRecord) -> PodRecord:
    """Its pid namespace is gone: when all that was in it has ended, the pod needs another one,
    and begins with its first init container (§4.3.3)."""
    starts = any(isinstance(action, StartContainer) for action in record.in_flight)
    if starts or any(c.running is not None for c in record.containers):
        return record
    record = replace(_begun_anew(record), sandbox=Sandbox.ABSENT)
    if not _begins_anew(record):
        return record
    containers = tuple(
        replace(container, first=container.attempt + 1, refusal=None)
        for container in record.containers
    )
    return replace(record, containers=containers, owed_events=(*record.owed_events, _CHANGED))


def _before(moment: Instant, at: Instant) -> Instant:
    """A moment of the machine's life before, on the boot clock of the present one."""
    return Instant(moment.wall, at.boot - max(0.0, at.wall - moment.wall))


def _moved(ended: Ended | None, at: Instant) -> Ended | None:
    """An end before the machine was started anew: long enough ago for everything."""
    if ended is None:
        return None
    return replace(ended, finished=Instant(ended.finished.wall, at.boot))


def _probed(record: PodRecord, fact: ProbeObserved) -> PodRecord:
    """One more attempt of a probe. It counts only if that probe should be running (§5.2)."""
    index = _find(record, fact.id)
    if index is None or record.containers[index].kind is Kind.INIT:
        return record
    container, spec = record.containers[index], specs(record)[index]
    running = container.running
    if running is None or container.attempt != fact.id.attempt:
        return record
    if hooks.holds_back(spec, container.hooks):
        return record
    wanted = probing.wanted(spec, running.probes, ending=is_stopping(record))
    probe = dict(wanted).get(fact.kind)
    if probe is None:
        return record
    probes = probing.attempted(running.probes, fact.kind, probe, fact.outcome, fact.output)
    told = _told_of_attempt(container, fact)
    if probes is running.probes and not told:
        return record
    kill = running.kill
    if probing.must_go(probes, fact.kind):
        grace = grace_of(record.pod.spec, probe)
        kill = Kill(cause=KillCause(fact.kind), requested=fact.at, deadline=fact.at.boot + grace)
    running = replace(running, probes=probes, kill=kill)
    return _with(record, index, replace(container, running=running), *told)


def _told_of_attempt(container: ContainerRecord, fact: ProbeObserved) -> tuple[EventDraft, ...]:
    """Every attempt is told that is not a plain success (§5.3)."""
    kind, output = fact.kind, fact.output
    match fact.outcome:
        case ProbeOutcome.SUCCESS:
            return ()
        case ProbeOutcome.WARNING:
            reason, message = reasons.PROBE_WARNING, reasons.probe_warning(kind, output)
        case ProbeOutcome.FAILURE:
            reason, message = reasons.UNHEALTHY, reasons.probe_failed(kind, output)
        case ProbeOutcome.ERROR:
            reason, message = reasons.UNHEALTHY, reasons.probe_errored(kind, output)
    return (container_event(container, reasons.WARNING, reason, message),)


def _logs_dropped(record: PodRecord, fact: LogsDropped) -> PodRecord:
    index = _find(record, fact.id)
    if index is None:
        return record
    container = record.containers[index]
    running = container.running
    if running is None or container.attempt != fact.id.attempt or running.log_dropped:
        return record
    event = container_event(
        container,
        reasons.WARNING,
        reasons.LOGS_DROPPED,
        reasons.logs_dropped(container.name, fact.error),
    )
    running = replace(running, log_dropped=True)
    return _with(record, index, replace(container, running=running), event)


def _deletion_requested(record: PodRecord, fact: DeletionRequested) -> PodRecord:
    """The API's side (metadata, §7.1) and the node's side (termination, §7.2)."""
    meta = record.pod.metadata
    over = record.status.phase in reasons.TERMINAL_PHASES
    asked = 0 if fact.kill or fact.force or over else fact.grace
    if asked is not None and asked < 0:
        asked = MINIMUM_GRACE
    if fact.force and not record.forced:
        record = replace(record, forced=True)
    in_force = meta.deletion_grace_period_seconds
    if record.deletion is None:
        first, grace = fact.at, spec_grace(record) if asked is None else asked
        generation = meta.generation + 1 if meta.generation > 0 else meta.generation
    elif asked is not None and in_force is not None and asked < in_force:
        first, grace, generation = record.deletion, asked, meta.generation
    elif fact.kill and record.termination is not None:
        return replace(record, termination=replace(record.termination, kill=True))
    else:
        return record
    # The date moves from the first request on, but what is left to the containers is counted
    # from this one.
    meta = replace(
        meta,
        deletion_timestamp=rfc3339(first.later(grace)),
        deletion_grace_period_seconds=grace,
        generation=generation,
    )
    termination = Termination(
        cause=Cause.DELETION,
        requested=fact.at,
        deadline=fact.at.boot + max(MINIMUM_GRACE, grace),
        kill=fact.kill,
    )
    return replace(
        record,
        pod=replace(record.pod, metadata=meta),
        deletion=first,
        termination=_sooner(record.termination, termination),
    )


def _node_stopping(record: PodRecord, fact: NodeStopping) -> PodRecord:
    """As a graceful shutdown of a cluster's node does it (§7.8)."""
    if record.status.phase in reasons.TERMINAL_PHASES:
        return record
    grace = spec_grace(record)
    if fact.grace is not None:
        grace = min(grace, fact.grace)
    termination = Termination(
        cause=Cause.SHUTDOWN,
        requested=fact.at,
        deadline=fact.at.boot + max(MINIMUM_GRACE, grace),
        kill=fact.kill,
    )
    if record.termination is None:
        told = v1.PodCondition(
            type=reasons.DISRUPTION_TARGET,
            status="True",
            reason=reasons.TERMINATION_BY_KUBELET,
            message=reasons.SHUTDOWN_MESSAGE,
            last_transition_time=rfc3339(fact.at),
        )
        others = (c for c in record.conditions if c.type != reasons.DISRUPTION_TARGET)
        record = replace(record, conditions=(*others, told))
    return replace(record, termination=_sooner(record.termination, termination))


def _sooner(old: Termination | None, new: Termination | None) -> Termination | None:
    """Two terminations in one: it began with the old one and ends with the earlier deadline.

    A passed activeDeadlineSeconds stays the cause whatever else happens.
    """
    if old is None or new is None:
        return new or old
    return Termination(
        cause=Cause.DEADLINE if new.cause is Cause.DEADLINE else old.cause,
        requested=old.requested,
        deadline=min(old.deadline, new.deadline),
        kill=old.kill or new.kill,
    )


def _condition_set(record: PodRecord, fact: ConditionSet) -> PodRecord:
    """Conditions that the node owns are its own to write; others are kept as set (§1.2.8)."""
    name = reasons.CONDITION_ALIASES.get(fact.type, fact.type)
    if name in reasons.OWN_CONDITIONS:
        return record
    changed = rfc3339(fact.at)
    conditions = list(record.conditions)
    place = next((i for i, c in enumerate(conditions) if c.type == name), len(conditions))
    if place < len(conditions) and conditions[place].status == fact.status:
        changed = conditions[place].last_transition_time or changed
    conditions[place : place + 1] = [
        v1.PodCondition(
            type=name,
            status=fact.status,
            reason=fact.reason,
            message=fact.message,
            last_transition_time=changed,
        )
    ]
    return replace(record, conditions=tuple(conditions))


def _updated(record: PodRecord, fact: PodUpdated) -> PodRecord:
    """What may change of a pod that is there is changed (§7.6.2, §3.2.3); all else stays."""
    pod, new = record.pod, fact.pod
    meta = replace(
        pod.metadata,
        annotations=new.metadata.annotations,
        finalizers=new.metadata.finalizers,
        labels=new.metadata.labels,
        managed_fields=new.metadata.managed_fields,
        owner_references=new.metadata.owner_references,
    )
    wanted = {c.name: c for c in (*new.spec.init_containers, *new.spec.containers)}
    there = {c.name for c in v1.containers(pod.spec)}
    added = tuple(c for c in new.spec.ephemeral_containers if c.name not in there)
    spec = replace(
        pod.spec,
        active_deadline_seconds=new.spec.active_deadline_seconds,
        containers=tuple(_with_image(c, wanted.get(c.name, c)) for c in pod.spec.containers),
        ephemeral_containers=(*pod.spec.ephemeral_containers, *added),
        init_containers=tuple(
            _with_image(c, wanted.get(c.name, c)) for c in pod.spec.init_containers
        ),
        tolerations=new.spec.tolerations,
    )
    if spec != pod.spec:
        meta = replace(meta, generation=meta.generation + 1)
    known = zip(v1.containers(pod.spec), v1.containers(spec), strict=False)  # the new ones are last
    record = replace(
        record,
        pod=replace(pod, metadata=meta, spec=spec),
        containers=(
            *record.containers,
            *(ContainerRecord(name=c.name, kind=Kind.EPHEMERAL) for c in added),
        ),
    )
    for index, (old, now) in enumerate(known):
        if old.image != now.image:
            container = record.containers[index]
            image = image_of(container, old)
            container = replace(container, image=image, backoff=None, refusal=None)
            record = _with(record, index, _outdated(record, container, now, fact.at))
    return record


def _with_image(container: v1.Container, wanted: v1.Container) -> v1.Container:
    # A container that had no image had no default of how to pull it either.
    pulled = container if container.image else wanted
    return replace(container, image=wanted.image, image_pull_policy=pulled.image_pull_policy)


def _outdated(
    record: PodRecord, container: ContainerRecord, spec: v1.Container, at: Instant
) -> ContainerRecord:
    """An instance that was started for another image than the container has now is stopped, and
    the next one takes its place. What runs to its end does, and has the image when it runs again.
    """
    running = container.running
    if running is None or running.kill is not None or is_stopping(record):
        return container
    if container.kind is Kind.INIT or image_of(container, spec) == spec.image:
        return container
    deadline = at.boot + max(MINIMUM_GRACE, spec_grace(record))
    kill = Kill(cause=KillCause.DEFINITION, requested=at, deadline=deadline)
    return replace(container, running=replace(running, kill=kill))


def _configuration_changed(record: PodRecord, fact: ConfigurationChanged) -> PodRecord:
    """What could not be made of what there was is tried again at once (§9.1.4, §9.3.1)."""
    now = fact.at.boot
    retries = tuple(r for r in record.retries if r.action != CreateSandbox())
    if len(retries) < len(record.retries):
        record = replace(record, retries=retries)
    for index, container in enumerate(record.containers):
        refusal = container.refusal
        if (
            refusal is not None
            and refusal.reason == reasons.CREATE_CONTAINER_CONFIG_ERROR
            and refusal.again > now
        ):
            record = _with(record, index, replace(container, refusal=replace(refusal, again=now)))
    return record


def _action_failed(record: PodRecord, fact: ActionFailed) -> PodRecord:
    action = fact.action
    record = _answered(record, action)
    if isinstance(action, StartContainer):
        return _start_failed(
            record,
            StartFailed(
                at=fact.at,
                id=action.id,
                reason=reasons.CREATE_CONTAINER_ERROR,
                message=fact.error,
                created=False,
            ),
        )
    if isinstance(action, CreateSandbox):
        reason, message = reasons.FAILED_CREATE_SANDBOX, reasons.sandbox_failed(fact.error)
    else:
        reason, message = reasons.FAILED_KILL_POD, reasons.kill_failed(fact.error)
    retry = Retry(action, fact.at.boot + RETRY, fact.error)
    event = EventDraft(type=reasons.WARNING, reason=reason, message=message)
    return replace(
        record,
        retries=(*record.retries, retry),
        owed_events=(*record.owed_events, event),
    )


def _volumes_failed(record: PodRecord, fact: VolumesFailed) -> PodRecord:
    """Each volume is told, and all are tried again (§9.3.1)."""
    record = _answered(record, CreateSandbox())
    if record.sandbox is not Sandbox.ABSENT:
        return record
    told = (
        EventDraft(
            type=reasons.WARNING,
            reason=reasons.FAILED_MOUNT,
            message=reasons.mount_failed(failure.name, failure.error),
        )
        for failure in fact.failures
    )
    error = "; ".join(failure.error for failure in fact.failures)
    retry = Retry(CreateSandbox(), fact.at.boot + REMOUNT, error)
    return replace(
        record,
        retries=(*record.retries, retry),
        owed_events=(*record.owed_events, *told),
    )


def _over_limit(record: PodRecord, fact: VolumeOverLimit) -> PodRecord:
    """The pod fails, and is ended almost at once (§9.3.2)."""
    if record.termination is not None or record.status.phase in reasons.TERMINAL_PHASES:
        return record
    message = reasons.over_limit(fact.name, fact.limit)
    told = EventDraft(type=reasons.WARNING, reason=reasons.EVICTED, message=message)
    deadline = fact.at.boot + MINIMUM_GRACE
    return replace(
        record,
        termination=Termination(cause=Cause.EVICTION, requested=fact.at, deadline=deadline),
        evicted=message,
        owed_events=(*record.owed_events, told),
    )


def _committed(record: PodRecord, fact: Committed) -> PodRecord:
    plan = fact.plan
    starts = {a.id.name: a.id for a in plan.actions if isinstance(a, StartContainer)}
    stopping = {e.field_path: e.message for e in plan.events if e.reason == reasons.KILLING}
    containers = record.containers
    if starts or stopping:
        containers = tuple(
            _carried_out(c, spec, starts.get(c.name), stopping, fact.at.boot, record.policy)
            for c, spec in zip(containers, specs(record), strict=True)
        )
    owed = list(record.owed_events)
    for event in plan.events:
        if event in owed:
            owed.remove(event)
    record = replace(record, containers=containers)
    record = hooks_closed(record, plan.closed, fact.at)
    for target in plan.hooks:
        index = _find(record, target.id)
        assert index is not None, "a hook of a container that is not there"
        container = record.containers[index]
        intended = hooks.intend(container.hooks, target.which, fact.at)
        if intended is not container.hooks:
            record = _with(record, index, replace(container, hooks=intended))
    return replace(
        record,
        termination=_sooner(record.termination, plan.termination),
        in_flight=record.in_flight.union(plan.actions),
        owed_events=tuple(owed),
        status=plan.status,
    )


def _carried_out(
    container: ContainerRecord,
    spec: v1.Container,
    start: ContainerId | None,
    stopping: dict[str, str],
    now: float,
    policy: NodePolicy,
) -> ContainerRecord:
    """What committing a plan means for one container."""
    again = container.is_made or container.removed
    if start is not None:
        container = replace(container, image=spec.image)
    if start is not None and container.ended is not None and again:
        container = replace(
            container,
            backoff=restart.advance(
                start.attempt,
                container.backoff,
                finished=container.ended.finished.boot,
                now=now,
                initial=policy.backoff_initial,
                cap=policy.backoff_max,
                reset=policy.backoff_reset,
            ),
        )
    running = container.running
    told = stopping.get(field_path(container)) if stopping else None
    if running is not None and told is not None:
        container = replace(container, running=replace(running, announced=told))
    return container
