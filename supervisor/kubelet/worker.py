"""One pod's life: the loop that feeds the deciding core and performs what it decides.

A `PodWorker` folds facts into the pod's record, asks `decide` for a plan, commits the plan, and
only then acts: each action runs as a task of its own and answers with exactly one fact. Between
rounds it sleeps until a fact arrives or the plan's `wake_at` passes. After each commit the probes
and hooks that run are made equal to those that the plan wants. No rule of the lifecycle is written
here; what the worker adds is order (commit before act, acknowledge after commit) and containment: a
bug in one pod parks that pod visibly and keeps its processes, and so does a store that cannot
write.

What happened is never forgotten because it could not be stored. What somebody asks for is another
matter (`ask`): it is stored with the next decision or was never told, and who asks learns which.
"""

from __future__ import annotations

import errno
import signal
import traceback
from collections.abc import Callable, Collection, Iterable
from typing import Protocol

import anyio

from supervisor.api import v1
from supervisor.errors import NodeError
from supervisor.kubelet import failpoints
from supervisor.kubelet.clock import Clock
from supervisor.kubelet.hooks import HookRunner, RunHook
from supervisor.kubelet.prober import Prober, RunProbe
from supervisor.kubelet.volumes import VolumeManager
from supervisor.lifecycle import reasons
from supervisor.lifecycle.decide import Plan, decide
from supervisor.lifecycle.facts import (
    Action,
    ActionFailed,
    ContainerExited,
    ContainerId,
    ContainerLost,
    ContainersRemoved,
    ContainerStarted,
    CreateSandbox,
    Fact,
    FinishPod,
    HookFinished,
    HookInterrupted,
    HookTarget,
    KillContainer,
    KillSent,
    LogsDropped,
    ProbeObserved,
    RemoveContainers,
    SandboxDied,
    SandboxReady,
    SandboxStopped,
    StartContainer,
    StartFailed,
    StopContainer,
    StopSignalled,
    VolumesFailed,
)
from supervisor.lifecycle.record import (
    Committed,
    EventDraft,
    PodRecord,
    observe,
)
from supervisor.runtime.cri import (
    Exit,
    LaunchSpec,
    LogDrop,
    Lost,
    News,
    Runtime,
    SandboxGone,
    StartError,
)
from supervisor.runtime.spec import signal_number

# After a bug in the core or here, the pod is left alone this long before the next attempt.
_PARKED = 10.0
# After the store could not write, the round is tried again this much later.
_UNWRITTEN = 1.0
# Whoever asks waits for this long, unless it is being stored by then.
_ASKED = 30.0


class Host(Protocol):
    """What a worker needs from its node."""

    clock: Clock
    runtime: Runtime
    volumes: VolumeManager | None  # None: pods have no volumes

    @property
    def run_probe(self) -> RunProbe: ...

    @property
    def run_hook(self) -> RunHook: ...

    async def launch_spec(self, pod: v1.Pod, id: ContainerId) -> LaunchSpec:
        """Raises StartError when the container's configuration cannot be honoured."""
        ...

    async def commit(
        self, worker: PodWorker, record: PodRecord, events: tuple[EventDraft, ...]
    ) -> None:
        """Store what a decision makes true. Raises OSError: nothing was stored."""
        ...

    async def forget(self, worker: PodWorker) -> None:
        """The life of a deleted pod is over: remove its object, then its files."""
        ...

    def record_events(self, pod: v1.Pod, events: tuple[EventDraft, ...]) -> None: ...

    def pod_changed(self, worker: PodWorker, before: PodRecord) -> None: ...

    def report_bug(self, where: str, text: str) -> None: ...


class UncertainError(OSError):
    """Something may have been stored or not, or may still be."""


class _Wish:
    """Facts that somebody tells at once and waits for; none: that the pod is there at all."""

    def __init__(self, facts: tuple[Fact, ...]) -> None:
        self.facts = facts
        self.answered = anyio.Event()
        self.error: OSError | None = None

    def is_among(self, facts: Iterable[Fact]) -> bool:
        return not self.facts or any(fact is self.facts[0] for fact in facts)

    def without(self, facts: list[Fact]) -> list[Fact]:
        mine = {id(fact) for fact in self.facts}
        return [fact for fact in facts if id(fact) not in mine]

    def answer(self, error: OSError | None = None) -> None:
        self.error = error
        self.answered.set()


class PodWorker:
    """Runs one pod until its plan is done. `tell` may be called from anywhere in the loop.

    The record is a new one, or what an earlier life of the node has left; then facts that say
    what became of the pod since are told before `run`.
    """

    def __init__(self, host: Host, record: PodRecord) -> None:
        self.host = host
        self.record = record
        self.finished = anyio.Event()
        self._mailbox: list[Fact] = []
        self._wishes: list[_Wish] = []  # not answered yet; their facts are in the mailbox
        self._mail = anyio.Event()
        self._specs: dict[ContainerId, LaunchSpec] = {}
        self._starting: set[ContainerId] = set()
        self._early_ends: dict[ContainerId, Exit | Lost] = {}
        self._early_drops: dict[ContainerId, LogsDropped] = {}
        self._unwritten = False  # that the store cannot write was told
        self._begun = False  # a first round is committed
        self._done = False  # the pod's life is over, as of the plan committed last
        self._gone = False  # and its object is gone
        host_ip = record.policy.host_ip
        self._prober = Prober(record.pod, host_ip, host, self.tell)
        self._hooks = HookRunner(record.pod, host_ip, host, self.tell, self._settled)
        self._wake_at: float | None = 0.0  # of the plan committed last

    @property
    def pod(self) -> v1.Pod:
        """Without its status: as it was taken on, with what was changed since."""
        return self.record.pod

    @property
    def status(self) -> v1.PodStatus:
        """The status last committed."""
        return self.record.status

    @property
    def is_there(self) -> bool:
        """Whether the pod's object is. Else its name is free, though what runs of it may still end
        (§7.1.5), or its files may still be removed."""
        return not self._gone and not self.record.is_hidden

    @property
    def latest_probes(self) -> Collection[ProbeObserved]:
        """What each probe of the pod gave last, in this life of the node."""
        return self._prober.latest.values()

    def tell(self, *facts: Fact) -> None:
        self._mailbox.extend(facts)
        self._mail.set()

    async def ask(self, *facts: Fact) -> None:
        """Tell facts, and return once what they lead to is stored. None: that the pod is there;
        only of a new one, before it runs.

        Raises OSError where it could not be stored: then they were never told, and a new pod is
        none. Only of UncertainError that cannot be said.
        """
        if self._gone:
            return
        wish = _Wish(facts)
        self._wishes.append(wish)
        self.tell(*facts)
        clock = self.host.clock
        if not await clock.wait(wish.answered, clock.now().boot + _ASKED):
            self._withdraw(wish)
        if wish.error is not None:
            raise wish.error

    def _withdraw(self, wish: _Wish) -> None:
        """It took too long."""
        self._wishes.remove(wish)
        if not wish.facts or not wish.is_among(self._mailbox):
            why = f"it is not stored after {_ASKED:.0f} s, and may still be"
            raise UncertainError(errno.ETIMEDOUT, why)
        self._mailbox = wish.without(self._mailbox)
        raise OSError(errno.EBUSY, f"the pod did not come to it in {_ASKED:.0f} s")

    def _answer(self, facts: list[Fact], error: OSError | None = None) -> list[Fact]:
        """Tell who asked for them what has become of it; return the facts that nobody asked for."""
        answered = [wish for wish in self._wishes if wish.is_among(facts)]
        self._wishes = [wish for wish in self._wishes if wish not in answered]
        for wish in answered:
            wish.answer(error)
        for wish in answered:
            facts = wish.without(facts)
        return facts

    def hear(self, news: News) -> None:
        """Take a runtime's news about this pod."""
        if isinstance(news, SandboxGone):
            self.tell(SandboxDied(at=news.at))
        elif isinstance(news, LogDrop):
            drop = LogsDropped(at=news.at, id=news.id, error=news.error)
            if news.id in self._starting:  # what was printed at once may overtake the answer
                self._early_drops[news.id] = drop
            else:
                self.tell(drop)
        elif not self._begun or news.id in self._starting or self._hooks.is_unsettled(news.id):
            # The answer to the start, or of a hook, is on its way through a task, or what was
            # found is still being told; it must be folded first.
            self._early_ends[news.id] = news
        else:
            self.tell(self._ended(news))

    def know(self, spec: LaunchSpec) -> None:
        """An instance that an earlier life of the node has started is about to be adopted."""
        self._specs[spec.id] = spec

    async def resume(
        self, facts: Iterable[Fact], running: Iterable[HookTarget], ended: Iterable[HookTarget]
    ) -> None:
        """Before `run`: what has become of the pod since its record was stored.

        `running` and `ended`: programs of hooks that an earlier life of the node has begun.
        """
        collected = [await self._hooks.collect(target) for target in ended]
        results = [result for result in collected if result is not None]
        self._hooks.expect(running)
        # What was heard while it was being found out comes after it.
        first, *others = facts
        self._mailbox[:0] = [first, *results, *others]

    def lose_containers(self) -> None:
        """The runtime is gone: how running containers end will never be known."""
        at = self.host.clock.now()
        self.tell(*(ContainerLost(at=at, id=id) for id in self._specs))

    async def run(self) -> None:
        try:
            # What has ended and stays as an object may be changed just then.
            while not self._gone and (self._mailbox or not self._done):
                async with anyio.create_task_group() as tasks:
                    while not await self._round(tasks.start_soon):
                        pass
        finally:
            self.finished.set()
            for wish in self._wishes:
                why = UncertainError(errno.ECANCELED, "the node has ended meanwhile")
                wish.answer(None if self._gone else why)

    async def _round(self, start_soon: Callable[..., object]) -> bool:
        """Fold, decide, commit, act, sleep; return whether the pod's life is over."""
        self._mail = anyio.Event()
        facts, self._mailbox = self._mailbox, []
        try:
            record = self._fold(facts)
            if record is self.record and not self._is_time() and not _any_end(facts):
                # Nothing has changed, as after most probes: the plan committed last still holds.
                self._answer(facts)
                if self._done:
                    return True
                await self.host.clock.wait(self._mail, self._wake_at)
                return False
            plan, record = self._plan(record)
            kinds = _kinds(plan)
            failpoints.hit("before-commit", kinds)
            await self.host.commit(self, record, plan.events)
        except Exception as error:
            return await self._put_off(facts, error)
        before, self.record = self.record, record
        self._unwritten = False
        self._answer(facts)
        # Committed: from here on the world may see it, and actions may follow.
        failpoints.hit("after-commit", kinds)
        self.host.pod_changed(self, before)
        if any(isinstance(fact, _ENDS) for fact in facts):
            failpoints.hit("before-ack", kinds)
        for fact in facts:
            if isinstance(fact, _ENDS):
                self._specs.pop(fact.id, None)
                self.host.runtime.acknowledge(fact.id)
            elif isinstance(fact, (HookFinished, HookInterrupted)):
                self._hooks.heard(fact)
                if isinstance(fact, HookFinished):
                    self.host.runtime.forget_exec(fact.id, str(fact.which))
        for action in plan.actions:
            if isinstance(action, StartContainer):
                self._starting.add(action.id)
            start_soon(self._perform, action, record.pod)
        self._wake_at = plan.wake_at
        self._prober.reconcile(plan.probing, start_soon)
        self._hooks.reconcile(plan.hooks, start_soon)
        if not self._begun:
            self._begun = True
            for id in list(self._early_ends):
                self._settled(id)
        self._done = plan.done
        if plan.done:
            failpoints.hit("after-terminal")
            if plan.gone:
                self._gone = True
                self._answer(self._mailbox)
                await self._forget()
            return True
        await self.host.clock.wait(self._mail, plan.wake_at)
        return False

    async def _put_off(self, facts: list[Fact], error: Exception) -> bool:
        """A round could not be made. Return whether the pod's life is over: one that was asked for
        and could not be stored has never begun."""
        is_new = any(not wish.facts for wish in self._wishes)
        is_due = self._is_time()
        if isinstance(error, OSError):
            pause, why = _UNWRITTEN, error
        else:
            pause, why = _PARKED, OSError(errno.EIO, f"error syncing pod: {error!r}")
        kept = self._answer(facts, why)
        if is_new:
            self._gone = True
            self._answer(self._mailbox, why)
        if isinstance(error, OSError):
            if kept or is_due:
                self._tell_unwritten(error)
        else:
            self._park(traceback.format_exc())
        if is_new:
            return True
        # The others are kept: after the pause they are folded again, with what came since.
        self._mailbox = [*kept, *self._mailbox]
        if kept or is_due:
            self._wake_at = 0.0
            await self.host.clock.sleep(pause)
        return False

    def _fold(self, facts: list[Fact]) -> PodRecord:
        record = self.record
        for fact in facts:
            record = observe(record, fact)
        return record

    def _is_time(self) -> bool:
        """Whether the time has come for which the plan committed last asked."""
        return self._wake_at is not None and self.host.clock.now().boot >= self._wake_at

    def _plan(self, record: PodRecord) -> tuple[Plan, PodRecord]:
        now = self.host.clock.now()
        plan = decide(record, now)
        return plan, observe(record, Committed(at=now, plan=plan))

    async def _forget(self) -> None:
        while True:
            try:
                await self.host.forget(self)
            except OSError as error:
                self._tell_unwritten(error)
                await self.host.clock.sleep(_UNWRITTEN)
            else:
                return

    def _tell_unwritten(self, error: OSError) -> None:
        if not self._unwritten:
            self._unwritten = True
            self.host.record_events(
                self.pod,
                (
                    EventDraft(
                        type=reasons.WARNING,
                        reason=reasons.FAILED_SYNC,
                        message=f"cannot store the state of the pod, it goes on as it is: {error}",
                    ),
                ),
            )

    def _park(self, text: str) -> None:
        self.host.report_bug(f"pod {self.pod.metadata.namespace}/{self.pod.metadata.name}", text)
        self.host.record_events(
            self.pod,
            (
                EventDraft(
                    type="Warning",
                    reason=reasons.FAILED_SYNC,
                    message=f"error syncing pod, trying again in {_PARKED:.0f}s: "
                    + text.strip().rsplit("\n", 1)[-1],
                ),
            ),
        )

    async def _perform(self, action: Action, pod: v1.Pod) -> None:
        """Perform one action and answer with exactly one fact, its own failure included.

        `pod`: as it was when that was decided. It may be changed while it is being done."""
        try:
            fact = await self._do(action, pod)
        except Exception as error:
            if not isinstance(error, (OSError, NodeError)):
                self.host.report_bug(repr(action), traceback.format_exc())
            fact = ActionFailed(
                at=self.host.clock.now(), action=action, error=str(error) or repr(error)
            )
        self.tell(fact)
        if isinstance(action, StartContainer):
            self._starting.discard(action.id)
            if (drop := self._early_drops.pop(action.id, None)) is not None:
                self.tell(drop)
            self._settled(action.id)

    def _settled(self, id: ContainerId) -> None:
        """No answer about this instance is on its way any more: its end may be folded."""
        if not self._begun or id in self._starting or self._hooks.is_unsettled(id):
            return
        early = self._early_ends.pop(id, None)
        if early is not None:
            self.tell(self._ended(early))

    async def _do(self, action: Action, pod: v1.Pod) -> Fact:
        runtime, clock, volumes = self.host.runtime, self.host.clock, self.host.volumes
        match action:
            case CreateSandbox():
                shares = bool(pod.spec.share_process_namespace)
                await runtime.create_sandbox(pod.metadata.uid, shares=shares)
                if volumes is not None and (failures := await volumes.set_up(pod)):
                    return VolumesFailed(at=clock.now(), failures=failures)
                return SandboxReady(at=clock.now())
            case StartContainer(id=id):
                try:
                    spec = await self.host.launch_spec(pod, id)
                    if volumes is not None:
                        spec = await volumes.open(pod, spec)
                    self._specs[id] = spec
                    pid, at = await runtime.start(spec)
                except StartError as error:
                    self._specs.pop(id, None)
                    return StartFailed(
                        at=clock.now(),
                        id=id,
                        reason=error.reason,
                        message=error.message,
                        created=error.created,
                    )
                return ContainerStarted(at=at, id=id, pid=pid, stop_signal=spec.stop_signal)
            case StopContainer(id=id, signal=name):
                runtime.signal(id, signal_number(name))
                return StopSignalled(at=clock.now(), id=id)
            case KillContainer(id=id):
                runtime.signal(id, signal.SIGKILL)
                return KillSent(at=clock.now(), id=id)
            case RemoveContainers():
                # Their logs are all that is left of them, and a step of its own shows that it was.
                return ContainersRemoved(at=clock.now())
            case FinishPod():
                if volumes is not None:
                    await volumes.tear_down(pod)
                await runtime.remove_sandbox(pod.metadata.uid)
                return SandboxStopped(at=clock.now())

    def _ended(self, news: Exit | Lost) -> ContainerExited | ContainerLost:
        if isinstance(news, Lost):
            return ContainerLost(at=news.at, id=news.id, logs_lost=news.logs_lost)
        spec = self._specs.get(news.id)
        message = ""
        if spec is not None:
            policy = self._container(news.id.name).termination_message_policy
            message = self.host.runtime.termination_message(spec, policy, news.exit_code)
        return ContainerExited(
            at=news.at,
            id=news.id,
            exit_code=news.exit_code,
            message=message,
            log_complete=news.drained,
            log_dropped=news.dropped,
        )

    def _container(self, name: str) -> v1.Container:
        spec = self.pod.spec
        return next(c for c in v1.containers(spec) if c.name == name)


_ENDS = (ContainerExited, ContainerLost)


def _any_end(facts: list[Fact]) -> bool:
    """Whether there is something to acknowledge."""
    return any(isinstance(fact, (*_ENDS, HookFinished, HookInterrupted)) for fact in facts)


def _kinds(plan: Plan) -> tuple[str, ...]:
    """What a plan does, for failpoints."""
    hooks = (f"RunHook-{target.which}" for target in plan.hooks)
    return (*(type(action).__name__ for action in plan.actions), *hooks)
