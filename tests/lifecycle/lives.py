"""Whole lives of pods in a fake world: programs that are only numbers, and a clock that jumps.

`Life` does what the shell does (fold, decide, commit, act) and what the world does (programs run,
answer signals and probes, end), at exact times. `script` says what each container's program does,
attempt by attempt, and `answers` what it says to its probes. Everything that happened is in lists
of (seconds since the pod was taken on, what).
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from supervisor.api import v1
from supervisor.lifecycle import facts, reasons
from supervisor.lifecycle.decide import Plan, decide
from supervisor.lifecycle.facts import (
    ContainerId,
    Fact,
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


def rule(operator: str, *values: int) -> v1.ContainerRestartRule:
    return v1.ContainerRestartRule(
        action="Restart",
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
        self.epoch = 0  # of the supervisor: what is on its way to an earlier one reaches nobody
        self._probers: dict[ProbeTarget, object] = {}
        self._queue: list[tuple[float, int, Callable[[], Fact | None]]] = []
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
                fact = heapq.heappop(self._queue)[2]()
                if fact is not None:
                    heard.append(fact)
            self._round(heard)
        assert not self.living, "finished with living containers"
        return self

    def _push(self, when: float, make: Callable[[], Fact | None]) -> None:
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
        assert again.wake_at is None or again.wake_at > now.boot, "wakes up for nothing"
        self.plan = plan
        if not self.statuses or self.statuses[-1][1] != plan.status:
            self.statuses.append((self.now, plan.status))
        self.events += [(self.now, e) for e in plan.events]
        for action in plan.actions:
            self.actions.append((self.now, action))
            self.perform(action)
        self.keep_probing(plan.probing)

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
            case facts.FinishPod():
                assert not self.living, "the sandbox is stopped under living containers"
                return facts.SandboxStopped(now)
            case facts.StartContainer(id=id):
                return self._start(id)
            case facts.StopContainer(id=id):
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

        def end() -> Fact | None:
            if process.ended is not None or process.end != when:
                return None
            process.ended = at(self.now)
            self.ends.append((self.now, f"{id.name}/{id.attempt}", process.code))
            return self._exit_fact(id)

        self._push(when, end)

    def _exit_fact(self, id: ContainerId) -> Fact:
        process = self.processes[id]
        assert process.ended is not None
        return facts.ContainerExited(process.ended, id, process.code, message=process.run.message)

    def relist(self) -> list[Fact]:
        """What the runtime holds, as facts, after the supervisor came back."""
        listed: list[Fact] = [facts.Adopted(at(self.now))]
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
