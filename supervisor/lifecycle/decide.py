"""What should be done next for one pod: the deciding core.

The law, in the order in which `decide` asks:

     1. A pod whose life is over wants nothing more.
     2. A pod ends when its deletion is asked for, when activeDeadlineSeconds have passed, when an
        init container has failed for good, or when no app container runs or will run again.
        Ending is one-way.
     3. While it is not ending:
        a. the sandbox comes first;
        b. one start at a time: of all containers that should run and whose wait is over, the
           first in spec order. A start that fails is tried again later and blocks nobody;
        c. init containers come one by one: the next one is owed when the one before has
           succeeded or, a sidecar, has started (passed its startup probe if it has one); app
           containers are owed when the last one has. An earlier sidecar that ended is owed again
           beside all that. A start includes the postStart: nobody starts while one is owed. An
           ephemeral container is owed from the moment it is added, until it was made once;
        d. an instance that failed its startup or liveness probe for good, or its postStart, or
           whose container was changed, is stopped, alone, by its own deadline, as in 4 a and b.
           Nobody else waits for it;
        e. when the end of one asks for a restart of all containers, nothing of the above: all get
           SIGKILL at once, without preStop, and when nothing runs any more the instances are
           removed, so that the first init container is owed again.
     4. While it is ending:
        a. a postStart is waited for no longer; everything that runs gets its preStop at once, all
           side by side, and then the stop signal once: app and init containers at once, a
           sidecar when it is its turn (no app container and no later sidecar runs any more), at
           the deadline at the latest. What was being stopped alone goes on being stopped;
        b. everything gets SIGKILL from the deadline on, but not within two seconds of its stop
           signal; and again every few seconds while the end does not come;
        c. when nothing runs and no hook is owed, the sandbox is stopped.
     5. Probes run for what runs, as probing.py says which; hooks as hooks.py says.
     6. Whatever is in flight is not asked for again; what failed on our side waits its time.

`decide` is level-triggered: it looks at the whole record each time and remembers nothing, so after
a crash it goes on from a stored record, and asking twice gives the same answer. All that it says
once (events) it finds unsaid in the record or in the status committed last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct

from supervisor.api import v1
from supervisor.lifecycle import hooks, probing, reasons, restart
from supervisor.lifecycle.facts import (
    Action,
    ContainerId,
    CreateSandbox,
    FinishPod,
    HookKind,
    HookTarget,
    Instant,
    KillContainer,
    ProbeTarget,
    RemoveContainers,
    StartContainer,
    StopContainer,
)
from supervisor.lifecycle.record import (
    MINIMUM_GRACE,
    Cause,
    ContainerRecord,
    EventDraft,
    HookClosed,
    Kill,
    KillCause,
    Kind,
    Plan,
    PodRecord,
    Restarting,
    Running,
    Sandbox,
    Termination,
    container_event,
    hooks_closed,
    spec_grace,
    specs,
)
from supervisor.lifecycle.status import (
    backing_off,
    nothing_runs,
    pod_id,
    project,
    runs_again,
    starting,
    wait_before_next,
)

__all__ = ["Awaited", "Plan", "decide", "waiting_for", "waiting_for_start"]

AFTER_SIGNAL = 2.0  # seconds a process has at least between stop signal and SIGKILL (§7.2.2)
KILL_AGAIN = 5.0  # seconds until SIGKILL is sent again to what does not end


def decide(record: PodRecord, now: Instant) -> Plan:
    """Everything that should be true or done next, given all that is known."""
    owed, end = _owed(record)
    termination = _termination(record, now, end)
    closed = frozenset(_overdue(record, now, termination))
    if closed:
        record = hooks_closed(record, closed, now)
        owed, _ = _owed(record)
    agenda = _Agenda(record, now, termination)
    _watch_deadline(agenda, termination)
    if termination is not None:
        _stop(agenda, termination)
    elif record.restarting is not None:
        _restart_all(agenda)
    else:
        _start(agenda, owed)
        _replace(agenda)
    for container in record.containers:
        if container.running is None:
            _await_hooks(agenda, container)
    status = project(record, now, termination)
    agenda.tell(*_back_offs(record, backing_off(status)))
    done = (
        status.phase in reasons.TERMINAL_PHASES
        and record.sandbox is Sandbox.STOPPED
        and not record.in_flight
        and nothing_runs(record)
        and not any(c.owes for c in record.containers)
    )
    return Plan(
        actions=tuple(agenda.actions),
        probing=_probing(record, ending=termination is not None or record.restarting is not None),
        hooks=frozenset(_hooks(record, now, termination)),
        closed=closed,
        status=status,
        events=(*record.owed_events, *agenda.events),
        wake_at=agenda.wake_at,
        termination=termination,
        done=done,
        gone=done and record.deletion is not None and not record.pod.metadata.finalizers,
    )


class Awaited(Struct, frozen=True):
    """A container that is being stopped, alone or with its pod, and has not ended yet."""

    id: ContainerId
    pid: int
    signalled: Instant | None  # the stop signal was sent; None: it waits for its turn, or its hook
    hook: Instant | None  # since when its preStop has been going on
    kill_at: float  # boot time of SIGKILL, at the latest


def waiting_for_start(record: PodRecord) -> tuple[tuple[ContainerId, Instant], ...]:
    """The instances that are not seen running yet, because their postStart has been going on
    since then."""
    uid = record.pod.metadata.uid
    return tuple(
        (ContainerId(uid, c.name, c.attempt), since)
        for c in record.containers
        if c.running is not None and (since := _owed_since(c, HookKind.POST_START)) is not None
    )


def waiting_for(record: PodRecord) -> tuple[Awaited, ...]:
    """What is being stopped; in a pod that is ending that is everything that runs."""
    uid = record.pod.metadata.uid
    return tuple(
        Awaited(
            id=ContainerId(uid, c.name, c.attempt),
            pid=c.running.pid,
            signalled=c.running.signalled,
            hook=_owed_since(c, HookKind.PRE_STOP),
            kill_at=_kill_at(c, c.running, end),
        )
        for c in record.containers
        if c.running is not None
        and (end := _end_of(record, c.running, record.termination)) is not None
    )


class _Agenda:
    """Collects one plan."""

    def __init__(self, record: PodRecord, now: Instant, termination: Termination | None) -> None:
        self.record = record
        self.now = now
        self.termination = termination
        self.actions: list[Action] = []
        self.events: list[EventDraft] = []
        self.wake_at: float | None = None
        self._retries = {r.action: r.again for r in record.retries}

    def want(self, action: Action) -> bool:
        """Ask for an action unless it is in flight or waits to be tried again."""
        if action in self.record.in_flight:
            return False
        again = self._retries.get(action)
        if again is not None and self.now.boot < again:
            self.wake(again)
            return False
        self.actions.append(action)
        return True

    def failed(self, action: Action) -> bool:
        return action in self._retries

    def wake(self, at: float) -> None:
        if self.wake_at is None or at < self.wake_at:
            self.wake_at = at

    def tell(self, *events: EventDraft) -> None:
        self.events.extend(events)


# --- does it end? ------------------------------------------------------------------------------


def _owed(record: PodRecord) -> tuple[list[ContainerRecord], Cause | None]:
    """The containers that should run and do not, in spec order; or why there is nothing left.

    How far the init containers have come is told by the last one of them that was ever made: all
    before it were done with then. An app container that was ever made says that all are (§4.3.2).
    """
    if record.termination is not None:
        return [], record.termination.cause
    if record.restarting is not None:
        return [], None
    parts = list(zip(record.containers, specs(record), strict=True))
    inits = [p for p in parts if p[0].kind.is_init]
    apps = [p for p in parts if p[0].kind is Kind.APP]
    # They wait for nobody, and run once.
    owed = [c for c, _ in parts if c.kind is Kind.EPHEMERAL and c.attempt < 0]
    past_init = any(c.is_made for c, _ in apps)
    reached = max((i for i, (c, _) in enumerate(inits) if c.is_made), default=-1)
    for container, spec in inits[: reached + 1]:
        ended = container.ended
        if container.running is not None or ended is None:
            continue
        if container.kind is Kind.SIDECAR:
            owed.append(container)
        elif ended.exit_code != 0 and not past_init:
            if not runs_again(record, spec, container):
                return [], Cause.INIT_FAILURE
            owed.append(container)
    if not past_init:
        if reached >= 0 and not _is_done(*inits[reached]):
            return owed, None
        if reached + 1 < len(inits):
            owed.append(inits[reached + 1][0])
            return owed, None
    alive = False
    for container, spec in apps:
        if container.running is not None:
            alive = True
        elif not container.is_made or runs_again(record, spec, container):
            alive = True
            owed.append(container)
    return (owed, None) if alive else ([], Cause.COMPLETION)


def _is_done(container: ContainerRecord, spec: v1.Container) -> bool:
    """Whether the next init container may start: this one succeeded or, a sidecar, started."""
    running, ended = container.running, container.ended
    if container.kind is Kind.SIDECAR:
        return (
            running is not None
            and not hooks.holds_back(spec, container.hooks)
            and probing.has_started(spec, running.probes)
        )
    return running is None and ended is not None and ended.exit_code == 0


def _termination(record: PodRecord, now: Instant, end: Cause | None) -> Termination | None:
    """How the pod is ending, as known or beginning now."""
    known = record.termination
    limit = record.pod.spec.active_deadline_seconds
    if (
        limit is not None
        and now.boot >= record.created.boot + limit
        and record.status.phase not in reasons.TERMINAL_PHASES
    ):
        end = Cause.DEADLINE
    if end is None:
        return None
    if known is None:
        grace = max(MINIMUM_GRACE, spec_grace(record))
        return Termination(cause=end, requested=now, deadline=now.boot + grace)
    if end is known.cause:
        return known
    return Termination(
        cause=end, requested=known.requested, deadline=known.deadline, kill=known.kill
    )


def _watch_deadline(agenda: _Agenda, termination: Termination | None) -> None:
    """Tell that activeDeadlineSeconds have passed, once, or wake when they will."""
    record = agenda.record
    limit = record.pod.spec.active_deadline_seconds
    if limit is None or record.status.phase in reasons.TERMINAL_PHASES:
        return
    if not _is_deadline(termination):
        agenda.wake(record.created.boot + limit)
    elif not _is_deadline(record.termination):
        agenda.tell(
            EventDraft(
                type=reasons.NORMAL,
                reason=reasons.DEADLINE_EXCEEDED,
                message=reasons.DEADLINE_EXCEEDED_MESSAGE,
            )
        )


def _is_deadline(termination: Termination | None) -> bool:
    return termination is not None and termination.cause is Cause.DEADLINE


# --- starting ----------------------------------------------------------------------------------


def _start(agenda: _Agenda, owed: Iterable[ContainerRecord]) -> None:
    record, now = agenda.record, agenda.now.boot
    if record.sandbox is Sandbox.DEAD:
        return  # what is left in it ends first
    if record.sandbox is not Sandbox.READY:
        agenda.want(CreateSandbox())
        return
    free = starting(record) is None and not _any_post_start(record)
    for container in owed:
        if container.owes:
            continue  # the next instance comes when the hooks of this one have ended
        due = 0.0
        if container.ended is not None:
            due = container.ended.finished.boot + wait_before_next(record, container)
        if container.refusal is not None:
            due = max(due, container.refusal.again)
        if now < due:
            agenda.wake(due)
        elif free:
            uid = record.pod.metadata.uid
            instance = ContainerId(uid, container.name, container.attempt + 1)
            free = not agenda.want(StartContainer(instance))


def _any_post_start(record: PodRecord) -> bool:
    """Whether the start of some instance is not over, because its postStart is not."""
    for spec, container in zip(specs(record), record.containers, strict=True):
        if container.running is not None and hooks.holds_back(spec, container.hooks):
            hook = hooks.find(container.hooks, HookKind.POST_START)
            if hook is None or hook.is_owed:
                return True
    return False


def _back_offs(record: PodRecord, shown: dict[str, int]) -> Iterator[EventDraft]:
    """One event for each wait that is shown for the first time (§3.2.7)."""
    if not shown:
        return
    told = backing_off(record.status)
    for container in record.containers:
        count = shown.get(container.name)
        if count is not None and told.get(container.name) != count:
            message = reasons.back_off(container.name, pod_id(record))
            yield container_event(container, reasons.WARNING, reasons.BACK_OFF, message)


# --- probes ------------------------------------------------------------------------------------


def _probing(record: PodRecord, *, ending: bool) -> frozenset[ProbeTarget]:
    """The probes that should be running: of app containers and sidecars that run."""
    uid = record.pod.metadata.uid
    return frozenset(
        ProbeTarget(
            id=(id := ContainerId(uid, container.name, container.attempt)),
            kind=kind,
            due=probing.first_due(id, kind, probe, running.since.boot, running.adopted),
        )
        for spec, container in zip(specs(record), record.containers, strict=True)
        if (running := container.running) is not None
        and container.kind is not Kind.INIT
        and not hooks.holds_back(spec, container.hooks)
        for kind, probe in probing.wanted(spec, running.probes, ending=ending)
    )


# --- hooks -------------------------------------------------------------------------------------


def _owed_since(container: ContainerRecord, which: HookKind) -> Instant | None:
    hook = hooks.find(container.hooks, which)
    return hook.intended if hook is not None and hook.is_owed else None


def _overdue(
    record: PodRecord, now: Instant, termination: Termination | None
) -> Iterator[HookClosed]:
    """The owed hooks that are waited for no longer."""
    uid = record.pod.metadata.uid
    for container in record.containers:
        id = ContainerId(uid, container.name, container.attempt)
        for hook in container.hooks:
            if not hook.is_owed:
                continue
            until = _hook_until(record, container, hook, termination)
            if record.restarting is not None or (
                hook.which is HookKind.POST_START
                and container.running is not None
                and termination is not None
            ):
                yield HookClosed(id, hook.which, hooks.HookEnd.CANCELLED)
            elif until is not None and now.boot >= until:
                yield HookClosed(id, hook.which, hooks.HookEnd.DEADLINE)


def _hook_until(
    record: PodRecord,
    container: ContainerRecord,
    hook: hooks.Hook,
    termination: Termination | None,
) -> float | None:
    """Boot time of an owed hook's deadline; None when it has none."""
    if termination is not None and termination.kill:
        return termination.requested.boot  # nothing is waited for
    limit = hook.until
    if hook.which is HookKind.PRE_STOP:
        if container.running is not None:
            end = _end_of(record, container.running, termination)
            limit = end.deadline if end is not None else limit
        elif limit is not None and termination is not None:
            limit = min(limit, termination.deadline)
    return hooks.deadline(hook, limit)


def _hooks(
    record: PodRecord, now: Instant, termination: Termination | None
) -> Iterator[HookTarget]:
    """The hooks that should be running: those owed, and those that this plan begins to owe."""
    uid = record.pod.metadata.uid
    for spec, container in zip(specs(record), record.containers, strict=True):
        id = ContainerId(uid, container.name, container.attempt)
        running = container.running
        for hook in container.hooks:
            if hook.is_owed or (hook.left and running is not None):
                yield HookTarget(id, hook.which, hook.runs)
        if running is None:
            continue
        end = _end_of(record, running, termination)
        wanted = HookKind.POST_START if end is None else HookKind.PRE_STOP
        if end is not None and (
            end.kill_now is not None or running.signalled is not None or now.boot >= end.deadline
        ):
            continue
        if hooks.handler_of(spec, wanted) and hooks.find(container.hooks, wanted) is None:
            yield HookTarget(id, wanted, 1)


# --- stopping ----------------------------------------------------------------------------------


class _End(Struct, frozen=True):
    """How one instance is being stopped."""

    deadline: float  # boot time
    kill_now: float | None = None  # boot time since when nothing is waited for


def _end_of(record: PodRecord, running: Running, termination: Termination | None) -> _End | None:
    if termination is not None:
        return _end_with_pod(record, running, termination)
    if record.restarting is not None:
        return _end_for_restart(record.restarting)
    return _End(running.kill.deadline) if running.kill is not None else None


def _end_for_restart(restarting: Restarting) -> _End:
    return _End(restarting.requested.boot, restarting.requested.boot)


def _end_with_pod(record: PodRecord, running: Running, termination: Termination) -> _End:
    """Of two deadlines the earlier one; what is killed to run again goes on being killed."""
    if record.restarting is not None:
        return _end_for_restart(record.restarting)
    deadline = termination.deadline
    if running.kill is not None:
        deadline = min(deadline, running.kill.deadline)
    return _End(deadline, termination.requested.boot if termination.kill else None)


def _replace(agenda: _Agenda) -> None:
    """Stop the instances that failed a probe or their postStart, or that are out of date."""
    record = agenda.record
    for spec, container in zip(specs(record), record.containers, strict=True):
        running = container.running
        if running is None or running.kill is None:
            continue
        message = _kill_message(record, spec, container, running.kill)
        end = _End(running.kill.deadline)
        _stop_one(agenda, end, spec, container, running, message, is_turn=True)


def _restart_all(agenda: _Agenda) -> None:
    """Kill everything, without order or delay; then the pod begins anew (§3.4.2)."""
    record = agenda.record
    assert record.restarting is not None
    end = _end_for_restart(record.restarting)
    for spec, container in zip(specs(record), record.containers, strict=True):
        if container.running is not None:
            message = reasons.restarting_all(container.name)
            _stop_one(agenda, end, spec, container, container.running, message, is_turn=True)
    if nothing_runs(record) and not any(c.owes for c in record.containers):
        agenda.want(RemoveContainers())


def _kill_message(
    record: PodRecord, spec: v1.Container, container: ContainerRecord, kill: Kill
) -> str:
    if kill.cause is KillCause.POST_START:
        return reasons.FAILED_POST_START_HOOK
    if kill.cause is KillCause.DEFINITION:
        return reasons.definition_changed(container.name, sidecar=container.kind is Kind.SIDECAR)
    return reasons.probe_kill(
        container.name,
        kill.cause,
        sidecar=container.kind.is_init,
        again=restart.after_kill(spec, record.pod.spec.restart_policy),
    )


def _stop(agenda: _Agenda, termination: Termination) -> None:
    record = agenda.record
    start = starting(record)
    turns = []
    occupied = False  # somebody runs, or is about to, for whom sidecars before it wait
    for spec, container in zip(reversed(specs(record)), reversed(record.containers), strict=True):
        running = container.running
        if running is not None:
            is_turn = container.kind is not Kind.SIDECAR or not occupied or running.kill is not None
            turns.append((spec, container, running, is_turn))
        elif start is None or start.id.name != container.name:
            continue
        occupied |= container.kind in (Kind.SIDECAR, Kind.APP)
    for spec, container, running, is_turn in reversed(turns):
        end = _end_with_pod(record, running, termination)
        message = reasons.stopping(container.name)
        _stop_one(agenda, end, spec, container, running, message, is_turn=is_turn)
    # What is in flight besides is answered first, so that nothing reaches a finished pod.
    quiet = (
        nothing_runs(record)
        and record.in_flight <= {FinishPod()}
        and not any(c.owes for c in record.containers)
    )
    if quiet and record.sandbox is not Sandbox.STOPPED:
        agenda.want(FinishPod())


def _await_hooks(agenda: _Agenda, container: ContainerRecord) -> None:
    """Wake up when an owed hook's time is over."""
    for hook in container.hooks:
        if not hook.is_owed:
            continue
        until = _hook_until(agenda.record, container, hook, agenda.termination)
        if until is not None:
            agenda.wake(until)


def _stop_one(
    agenda: _Agenda,
    end: _End,
    spec: v1.Container,
    container: ContainerRecord,
    running: Running,
    message: str,
    *,
    is_turn: bool,
) -> None:
    now = agenda.now.boot
    instance = ContainerId(agenda.record.pod.metadata.uid, container.name, container.attempt)
    stop = StopContainer(instance, hooks.stop_signal(spec, container.stop_signal))
    pre_stop = hooks.find(container.hooks, HookKind.PRE_STOP)
    if pre_stop is None and now < end.deadline and hooks.handler_of(spec, HookKind.PRE_STOP):
        comes_first = True  # this plan begins to owe it
    else:
        comes_first = pre_stop is not None and pre_stop.is_owed
    if running.announced != message:
        agenda.tell(container_event(container, reasons.NORMAL, reasons.KILLING, message))
    if end.kill_now is not None:
        _kill(agenda, container, running, instance)
    elif running.signalled is None and comes_first:
        if now < end.deadline:
            agenda.wake(end.deadline)
        _await_hooks(agenda, container)
    elif running.signalled is None and not (now >= end.deadline and agenda.failed(stop)):
        if is_turn or now >= end.deadline:
            agenda.want(stop)
        if now < end.deadline:
            agenda.wake(end.deadline)
    elif now < (kill_at := _kill_at(container, running, end)):
        agenda.wake(kill_at)
    else:
        _kill(agenda, container, running, instance)


def _kill(
    agenda: _Agenda, container: ContainerRecord, running: Running, instance: ContainerId
) -> None:
    if running.killed is not None:
        again = running.killed.boot + KILL_AGAIN
        if agenda.now.boot < again:
            agenda.wake(again)
            return
    if agenda.want(KillContainer(instance)) and running.killed is not None:
        message = reasons.still_runs(container.name, KILL_AGAIN)
        agenda.tell(container_event(container, reasons.WARNING, reasons.FAILED_KILL_POD, message))


def _kill_at(container: ContainerRecord, running: Running, end: _End) -> float:
    """Boot time of SIGKILL, at the latest."""
    if end.kill_now is not None:
        return end.kill_now
    if running.signalled is None:
        return end.deadline + AFTER_SIGNAL
    deadline = end.deadline + hooks.truncation(container.hooks)
    return max(deadline, running.signalled.boot + AFTER_SIGNAL)
