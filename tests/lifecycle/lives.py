"""Whole lives of pods in a fake world: programs that are only numbers, and a clock that jumps.

`Life` does what the shell does (fold, decide, commit, act) and what the world does (programs run,
answer signals and probes, end), at exact times. `script` says what each container's program does,
attempt by attempt, `answers` what it says to its probes, `plays` what its hooks do. Everything that
happened is in lists of (seconds since the pod was taken on, what).
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from supervisor.api import v1
from supervisor.lifecycle import facts, hooks, reasons
from supervisor.lifecycle.decide import Plan, decide
from supervisor.lifecycle.facts import (
    ContainerId,
    Fact,
    HookFinished,
    HookKind,
    HookTarget,
    Instant,
    ProbeKind,
    ProbeObserved,
    ProbeOutcome,
    ProbeTarget,
)
from supervisor.lifecycle.probing import probe_of
from supervisor.lifecycle.record import (
    Committed,
    EventDraft,
    NodePolicy,
    PodRecord,
    new_record,
    observe,
    specs,
)

UID = "u-1"
WALL = 1_800_000_000.0  # 2027-01-15T08:00:00Z
BOOT = 5_000.0
POLICY = NodePolicy(node_name="here")


def at(seconds: float) -> Instant:
    """The moment `seconds` after the pod was taken on."""
    return Instant(wall=WALL + seconds, boot=BOOT + seconds)


def container(name: str, **fields: Any) -> v1.Container:
    return v1.Container(name=name, command=(name,), **fields)


def sidecar(name: str, **fields: Any) -> v1.Container:
    return container(name, restart_policy="Always", **fields)


def probe(**fields: Any) -> v1.Probe:
    """A probe as validation hands it over, with the defaults of Kubernetes."""
    fields = {
        "exec": v1.ExecAction(command=("check",)),
        "failure_threshold": 3,
        "period_seconds": 10,
        "success_threshold": 1,
        "timeout_seconds": 1,
    } | fields
    return v1.Probe(**fields)


def rule(operator: str, *values: int, action: str = "Restart") -> v1.ContainerRestartRule:
    return v1.ContainerRestartRule(
        action=action,
        exit_codes=v1.ContainerRestartRuleOnExitCodes(operator=operator, values=values),
    )


def pod(*apps: v1.Container | str, init: Sequence[v1.Container] = (), **spec: Any) -> v1.Pod:
    """A pod as validation hands it over. Always, 30 s of grace, one container unless said."""
    spec.setdefault("restart_policy", "Always")
    spec.setdefault("termination_grace_period_seconds", 30)
    made = tuple(container(a) if isinstance(a, str) else a for a in apps or ("app",))
    return v1.Pod(
        metadata=v1.ObjectMeta(name="web", namespace="shop", uid=UID, generation=1),
        spec=v1.PodSpec(containers=made, init_containers=tuple(init), **spec),
    )


@dataclass(frozen=True)
class Run:
    """What one instance of a program does."""

    lasts: float = inf
    code: int = 0
    stops_in: float | None = 0.0  # seconds from SIGTERM to its end; None: ignores it
    stop_code: int = 143
    message: str = ""
    refused: str = ""  # it cannot be made (CreateContainerConfigError)
    broken: str = ""  # it is made, but its program cannot be executed (StartError)
    unkillable: float = 0.0  # seconds that SIGKILL takes


FOREVER = Run()

Heard = Fact | list[Fact] | None


def exits(code: int, after: float = 0.0, **more: Any) -> Run:
    return Run(lasts=after, code=code, **more)


@dataclass(frozen=True)
class Asked:
    """A program is asked by a probe."""

    attempt: int  # of the container
    count: int  # how often this probe has asked this instance before
    seconds: float  # since the instance was started
    signalled: float | None  # seconds since its stop signal


Answer = Callable[[Asked], ProbeOutcome]

_OUTCOMES = {
    "+": ProbeOutcome.SUCCESS,
    "w": ProbeOutcome.WARNING,
    "-": ProbeOutcome.FAILURE,
    "!": ProbeOutcome.ERROR,
}


def pattern(*instances: str) -> Answer:
    """For each instance, and the last one for those after it: what it answers to the first, second
    ... attempt; the last one goes on for ever. + success, w warning, - failure, ! error"""

    def answer(asked: Asked) -> ProbeOutcome:
        said = instances[min(asked.attempt, len(instances) - 1)]
        return _OUTCOMES[said[min(asked.count, len(said) - 1)]]

    return answer


def passes_from(seconds: float) -> Answer:
    return lambda asked: _OUTCOMES["+" if asked.seconds >= seconds else "-"]


def fails_from(seconds: float) -> Answer:
    return lambda asked: _OUTCOMES["-" if asked.seconds >= seconds else "+"]


PASSES, FAILS, ERRORS = pattern("+"), pattern("-"), pattern("!")


@dataclass(frozen=True)
class Play:
    """What a hook does."""

    lasts: float = 0.0
    ok: bool = True


@dataclass
class Begun:
    """A hook in the world: a program in the container, or a request or a sleep of the node's."""

    target: HookTarget
    ok: bool | None = None  # None: it goes on


HOOK_SAYS = "it said no"


def post_start(**handler: Any) -> dict[str, Any]:
    return {"lifecycle": v1.Lifecycle(post_start=_handler(handler))}


def pre_stop(**handler: Any) -> dict[str, Any]:
    return {"lifecycle": v1.Lifecycle(pre_stop=_handler(handler))}


def _handler(fields: dict[str, Any]) -> v1.LifecycleHandler:
    """exec unless said."""
    return v1.LifecycleHandler(**(fields or {"exec": v1.ExecAction(command=("hook",))}))


HTTP: dict[str, Any] = {"http_get": v1.HTTPGetAction(port=80)}


@dataclass
class Process:
    """An instance in the world."""

    run: Run
    started: Instant
    end: float = inf  # of a program told to stop, or of itself
    code: int = 0
    ended: Instant | None = None
    signalled: float | None = None


Script = dict[str, Run | Sequence[Run]]


@dataclass
class Life:
    """One pod in its world. `run` drives it; the lists tell what happened."""

    pod: v1.Pod
    script: Script = field(default_factory=dict)
    policy: NodePolicy = POLICY
    failing: Callable[[facts.Action, float], str] = lambda action, now: ""
    latency: float = 0.0  # from an action to its answer
    answers: dict[str, Answer] = field(default_factory=dict)  # "app liveness"; passes if not named
    plays: dict[str, Play] = field(default_factory=dict)  # "app preStop"; at once and well if not
    slow: float = 0.0  # seconds from an attempt of a probe to its answer
    says: str = "no"  # output of every attempt

    def __post_init__(self) -> None:
        self.now = 0.0
        self.record: PodRecord = new_record(self.pod, at(0), self.policy)
        self.plan: Plan | None = None
        self.processes: dict[ContainerId, Process] = {}
        self.statuses: list[tuple[float, v1.PodStatus]] = []
        self.events: list[tuple[float, EventDraft]] = []
        self.actions: list[tuple[float, facts.Action]] = []
        self.starts: list[tuple[float, str]] = []
        self.ends: list[tuple[float, str, int]] = []
        self.attempts: list[tuple[float, str]] = []  # "app/0 liveness", at their beginning
        self.hooked: list[tuple[float, str]] = []  # "app/0 preStop begins"; ends, fails, cancelled
        self.begun: dict[tuple[ContainerId, HookKind], Begun] = {}  # newest run of each hook
        self.epoch = 0  # of the supervisor: what is on its way to an earlier one reaches nobody
        self._probers: dict[ProbeTarget, object] = {}
        self._hooks: frozenset[HookTarget] = frozenset()  # that we run
        self._queue: list[tuple[float, int, Callable[[], Heard]]] = []
        self._count = itertools.count()

    # --- driving ---

    def tell(self, when: float, make: Callable[[Instant], Fact]) -> Life:
        self._push(when, lambda: make(at(self.now)))
        return self

    def delete(self, when: float, grace: int | None = None, *, kill: bool = False) -> Life:
        return self.tell(when, lambda now: facts.DeletionRequested(now, grace, kill))

    def run(self, until: float = inf) -> Life:
        """Go on until the life is over, or until the clock shows `until`."""
        self._round([])
        while not (self.plan and self.plan.done):
            wake = self.plan.wake_at if self.plan else None
            due = min(
                self._queue[0][0] if self._queue else inf, inf if wake is None else wake - BOOT
            )
            if due > until:
                self.now = until
                return self
            assert due < inf, f"nothing will ever happen again: {self.record}"
            assert len(self.statuses) < 20_000, "no end"
            self.now = max(self.now, due)
            heard: list[Fact] = []
            while self._queue and self._queue[0][0] <= self.now:
                news = heapq.heappop(self._queue)[2]()
                heard += news if isinstance(news, list) else [] if news is None else [news]
            self._round(heard)
        assert not self.living, "finished with living containers"
        return self

    def _push(self, when: float, make: Callable[[], Heard]) -> None:
        heapq.heappush(self._queue, (when, next(self._count), make))

    def _round(self, heard: list[Fact]) -> None:
        now = at(self.now)
        for fact in heard:
            self.record = observe(self.record, fact)
        plan = decide(self.record, now)
        assert plan == decide(self.record, now), "decide is not a function"
        self.record = observe(self.record, Committed(now, plan))
        again = decide(self.record, now)
        assert (again.actions, again.events) == ((), ()), "decide repeats what is committed"
        assert (again.status, again.probing) == (plan.status, plan.probing)
        assert (again.hooks, again.closed) == (plan.hooks, frozenset())
        assert again.wake_at is None or again.wake_at > now.boot, "wakes up for nothing"
        self.plan = plan
        if not self.statuses or self.statuses[-1][1] != plan.status:
            self.statuses.append((self.now, plan.status))
        self.events += [(self.now, e) for e in plan.events]
        for action in plan.actions:
            self.actions.append((self.now, action))
            self.perform(action)
        self.keep_probing(plan.probing)
        self.keep_hooks(plan.hooks)

    # --- the world ---

    def keep_probing(self, targets: frozenset[ProbeTarget]) -> None:
        """Probes at a fixed rate, never two of one kind at once for an instance."""
        assert len({(t.id, t.kind) for t in targets}) == len(targets)
        self._probers = {t: p for t, p in self._probers.items() if t in targets}
        for target in sorted(targets - self._probers.keys(), key=repr):
            assert target.id in self.processes, "probes what never ran"
            self._probers[target] = prober = object()
            self._attempt_at(max(self.now, target.due - BOOT), 0, target, prober)

    def _attempt_at(self, when: float, count: int, target: ProbeTarget, prober: object) -> None:
        def attempt() -> Fact | None:
            if self._probers.get(target) is not prober:
                return None
            id, kind, process = target.id, target.kind, self.processes[target.id]
            self.attempts.append((self.now, f"{id.name}/{id.attempt} {kind}"))
            probe = probe_of(self.spec(id.name), kind)
            assert probe is not None, "probes without a probe"
            period = probe.period_seconds
            missed = max(0.0, self.slow - 1e-9) // period  # ticks while the attempt goes on
            self._attempt_at(when + period * (1 + missed), count + 1, target, prober)
            told = process.signalled
            asked = Asked(
                attempt=id.attempt,
                count=count,
                seconds=at(self.now).boot - process.started.boot,
                signalled=None if told is None else self.now - told,
            )
            outcome = self.answers.get(f"{id.name} {kind}", PASSES)(asked)

            epoch = self.epoch

            def answer() -> Fact | None:
                if epoch != self.epoch:
                    return None
                return ProbeObserved(at(self.now), id, kind, outcome, self.says)

            if not self.slow:
                return answer()
            self._push(self.now + self.slow, answer)
            return None

        self._push(when, attempt)

    def keep_hooks(self, targets: frozenset[HookTarget]) -> None:
        """Begin what is new, or take on what runs already; cancel what is no longer wanted."""
        for target in self._hooks - targets:
            begun = self.begun[target.id, target.which]
            if begun.ok is None:
                begun.ok = False
                self._log_hook(target, "cancelled")
        for target in sorted(targets - self._hooks, key=repr):
            begun = self.begun.get((target.id, target.which))
            if begun is not None and begun.target == target:
                if begun.ok is not None:  # it ended while nobody was there
                    self._push(self.now, self._answer(begun))
                continue
            assert begun is None or begun.ok is not None, f"two runs of one hook overlap: {target}"
            self._begin(target)
        self._hooks = targets

    def _begin(self, target: HookTarget) -> None:
        known = next(c for c in self.record.containers if c.name == target.id.name)
        hook = hooks.find(known.hooks, target.which)
        assert known.attempt == target.id.attempt
        assert hook is not None, "run without an intent"
        assert hook.is_owed, "run though its end is known"
        assert target.run == hook.runs <= 1 + self.epoch, "runs again without a crash"
        begun = self.begun[target.id, target.which] = Begun(target)
        self._log_hook(target, "begins" if target.run == 1 else f"begins again ({target.run})")
        play = self.plays.get(f"{target.id.name} {target.which}", Play())
        process = self.processes[target.id]
        if process.ended is not None and not self._is_request(target):
            play = Play(ok=False)  # there is nothing to run it in

        def end() -> Fact | None:
            if begun.ok is not None:
                return None
            return self._end_hook(begun, play.ok)

        if play.lasts < inf:
            self._push(self.now + play.lasts, end)

    def _end_hook(self, begun: Begun, ok: bool) -> Fact | None:
        begun.ok = ok
        self._log_hook(begun.target, "ends" if ok else "fails")
        return self._answer(begun)() if begun.target in self._hooks else None

    def _answer(self, begun: Begun) -> Callable[[], Fact | None]:
        epoch = self.epoch

        def answer() -> Fact | None:
            if epoch != self.epoch or begun.target not in self._hooks:
                return None
            assert begun.ok is not None
            target, message = begun.target, "" if begun.ok else HOOK_SAYS
            return HookFinished(at(self.now), target.id, target.which, begun.ok, message)

        return answer

    def _is_request(self, target: HookTarget) -> bool:
        return hooks.outlives(self.spec(target.id.name), target.which)

    def _log_hook(self, target: HookTarget, what: str) -> None:
        who = f"{target.id.name}/{target.id.attempt} {target.which}"
        self.hooked.append((round(self.now, 6), f"{who} {what}"))

    def spec(self, name: str) -> v1.Container:
        return next(c for c in specs(self.record) if c.name == name)

    def perform(self, action: facts.Action) -> None:
        error = self.failing(action, self.now)
        fact = facts.ActionFailed(at(self.now), action, error) if error else self._do(action)
        epoch = self.epoch
        self._push(self.now + self.latency, lambda: fact if epoch == self.epoch else None)

    def _do(self, action: facts.Action) -> Fact:
        now = at(self.now)
        match action:
            case facts.CreateSandbox():
                return facts.SandboxReady(now)
            case facts.RemoveContainers():
                assert not self.living, "the pod begins anew beside living containers"
                return facts.ContainersRemoved(now)
            case facts.FinishPod():
                assert not self.living, "the sandbox is stopped under living containers"
                return facts.SandboxStopped(now)
            case facts.StartContainer(id=id):
                return self._start(id)
            case facts.StopContainer(id=id):
                mine = next(c for c in self.record.containers if c.name == id.name)
                hook = hooks.find(mine.hooks, HookKind.PRE_STOP)
                assert hook is None or not hook.is_owed, "the signal comes before the hook's end"
                process = self.processes[id]
                process.signalled = self.now
                if process.run.stops_in is not None and process.ended is None:
                    self._end(id, self.now + process.run.stops_in, process.run.stop_code)
                return facts.StopSignalled(now, id)
            case facts.KillContainer(id=id):
                process = self.processes[id]
                if process.ended is None:
                    self._end(id, self.now + process.run.unkillable, 137)
                return facts.KillSent(now, id)

    def _start(self, id: ContainerId) -> Fact:
        now = at(self.now)
        if id not in self.processes:
            assert all(p.name != id.name for p in self.living), f"two live instances: {id}"
            runs = self.script.get(id.name, FOREVER)
            run = runs if isinstance(runs, Run) else runs[min(id.attempt, len(runs) - 1)]
            if run.refused:
                reason = reasons.CREATE_CONTAINER_CONFIG_ERROR
                return facts.StartFailed(now, id, reason, run.refused, created=False)
            if run.broken:
                return facts.StartFailed(now, id, reasons.START_ERROR, run.broken, created=True)
            self.processes[id] = Process(run, now)
            self.starts.append((self.now, f"{id.name}/{id.attempt}"))
            if run.lasts < inf:
                self._end(id, self.now + run.lasts, run.code)
        return facts.ContainerStarted(self.processes[id].started, id, pid=100)

    def _end(self, id: ContainerId, when: float, code: int) -> None:
        process = self.processes[id]
        if when >= process.end:
            return
        process.end, process.code = when, code

        def end() -> Heard:
            if process.ended is not None or process.end != when:
                return None
            process.ended = at(self.now)
            self.ends.append((self.now, f"{id.name}/{id.attempt}", process.code))
            killed = [
                self._end_hook(begun, False)
                for begun in self.begun.values()
                if begun.target.id == id and begun.ok is None and not self._is_request(begun.target)
            ]
            return [*(fact for fact in killed if fact is not None), self._exit_fact(id)]

        self._push(when, end)

    def _exit_fact(self, id: ContainerId) -> Fact:
        process = self.processes[id]
        assert process.ended is not None
        return facts.ContainerExited(process.ended, id, process.code, message=process.run.message)

    def hang_up(self) -> None:
        """The supervisor is gone, and with it what it was sending itself."""
        self._hooks = frozenset()
        for begun in self.begun.values():
            if begun.ok is None and self._is_request(begun.target):
                begun.ok = False
                self._log_hook(begun.target, "dies with us")

    def relist(self) -> list[Fact]:
        """What the runtime holds, as facts, after the supervisor came back."""
        self.hang_up()
        resumed = frozenset(
            begun.target for begun in self.begun.values() if not self._is_request(begun.target)
        )
        listed: list[Fact] = [facts.Adopted(at(self.now), resumed)]
        for id, process in self.processes.items():
            listed.append(facts.ContainerStarted(process.started, id, pid=100))
            if process.ended is not None:
                listed.append(self._exit_fact(id))
        return listed

    @property
    def living(self) -> list[ContainerId]:
        return [id for id, p in self.processes.items() if p.ended is None]

    # --- looking ---

    @property
    def status(self) -> v1.PodStatus:
        return self.record.status

    @property
    def phases(self) -> list[tuple[float, str]]:
        """The phases published, each with the time of its beginning."""
        changes: list[tuple[float, str]] = []
        for when, status in self.statuses:
            if not changes or changes[-1][1] != status.phase:
                changes.append((when, status.phase))
        return changes

    def container(self, name: str) -> v1.ContainerStatus:
        return container_status(self.status, name)

    def condition(self, name: str) -> v1.PodCondition:
        return next(c for c in self.status.conditions if c.type == name)

    def waits(self, name: str) -> list[float]:
        """Seconds from each end of a container to its next start."""
        starts = [t for t, who in self.starts if who.startswith(f"{name}/")]
        ends = [t for t, who, _ in self.ends if who.startswith(f"{name}/")]
        return [round(start - end, 6) for end, start in zip(ends, starts[1:], strict=False)]

    def asked(self, who: str, kind: ProbeKind | str) -> list[float]:
        """When an instance ("app/0") was probed."""
        return [t for t, what in self.attempts if what == f"{who} {kind}"]

    def ready(self) -> list[tuple[float, bool]]:
        """The changes of the Ready condition, each with its time."""
        changes: list[tuple[float, bool]] = []
        for when, status in self.statuses:
            now = next(c.status == "True" for c in status.conditions if c.type == "Ready")
            if not changes or changes[-1][1] != now:
                changes.append((when, now))
        return changes

    def hooks_of(self, who: str) -> list[tuple[float, str]]:
        """What happened to the hooks of one instance ("app/0"), or to one of them."""
        return [
            (t, what.removeprefix(f"{who} ")) for t, what in self.hooked if what.startswith(who)
        ]

    def said(self, reason: str) -> list[str]:
        return [e.message for _, e in self.events if e.reason == reason]

    def story(self) -> list[str]:
        """The events of containers and the pod, without their texts."""
        return [f"{e.reason} {e.field_path}".strip() for _, e in self.events]


def container_status(status: v1.PodStatus, name: str) -> v1.ContainerStatus:
    every = (*status.init_container_statuses, *status.container_statuses)
    return next(c for c in every if c.name == name)


def shown(status: v1.ContainerStatus) -> str:
    """A container's state in a word or two."""
    state = status.state
    if state.running is not None:
        return "running"
    if state.terminated is not None:
        return f"terminated {state.terminated.reason} {state.terminated.exit_code}"
    assert state.waiting is not None
    return f"waiting {state.waiting.reason}"
