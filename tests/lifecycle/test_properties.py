"""What holds for every pod, whatever happens, in whatever order, and wherever we die.

Two worlds: `Nonsense` feeds facts that no sane runtime would report, to see that the laws of the
core hold without anybody's good behaviour; `CrashyLife` lets the supervisor die between any two
of its steps while the world goes on, to see that each life still comes to its right end.
"""

from __future__ import annotations

import random
from math import inf
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from supervisor.api import v1
from supervisor.lifecycle import facts, hooks, probing, reasons, restart
from supervisor.lifecycle.decide import decide, waiting_for
from supervisor.lifecycle.facts import ContainerId, Fact, HookKind, ProbeKind, StartContainer
from supervisor.lifecycle.record import (
    Committed,
    KillCause,
    Kind,
    PodRecord,
    new_record,
    observe,
    specs,
)
from tests.lifecycle.lives import (
    BOOT,
    HTTP,
    POLICY,
    UID,
    Answer,
    Life,
    Play,
    Process,
    Run,
    Script,
    at,
    container,
    pattern,
    pod,
    probe,
    rule,
    sidecar,
)

SLOW = settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])

policies = st.sampled_from(["Always", "OnFailure", "Never"])


@st.composite
def probes(draw: st.DrawFn, often: int = 3) -> dict[str, v1.Probe]:
    """The probes of one container, most often none; `often` 0: all."""
    made = {}
    for kind in ProbeKind:
        if draw(st.integers(0, often)) == 0:
            made[f"{kind.value}_probe"] = probe(
                initial_delay_seconds=draw(st.sampled_from([0, 3])),
                period_seconds=draw(st.sampled_from([7, 30])),
                failure_threshold=draw(st.integers(1, 3)),
                success_threshold=draw(st.integers(1, 2)) if kind is ProbeKind.READINESS else 1,
                termination_grace_period_seconds=draw(st.sampled_from([None, 2, 40]))
                if kind is not ProbeKind.READINESS
                else None,
            )
    return made


@st.composite
def lifecycles(draw: st.DrawFn, often: int = 3) -> dict[str, v1.Lifecycle]:
    """The hooks of one container, most often none; `often` 0: both."""
    handlers = {}
    for name in ("post_start", "pre_stop"):
        if draw(st.integers(0, often)) == 0:
            program = {"exec": v1.ExecAction(command=("hook",))}
            handlers[name] = v1.LifecycleHandler(**draw(st.sampled_from([program, HTTP])))
    return {"lifecycle": v1.Lifecycle(**handlers)} if handlers else {}


@st.composite
def pods(draw: st.DrawFn) -> v1.Pod:
    def own(name: str) -> v1.Container:
        policy = draw(st.sampled_from([None, None, "OnFailure", "Never"]))
        rules = own_rules() if policy else ()
        return container(name, restart_policy=policy, restart_policy_rules=rules)

    def own_rules() -> tuple[v1.ContainerRestartRule, ...]:
        action = draw(st.sampled_from([None, "Restart", "RestartAllContainers"]))
        return (rule("In", 1, action=action),) if action else ()

    inits = [
        replace(
            sidecar(f"i{n}", restart_policy_rules=own_rules()),
            **draw(probes()),
            **draw(lifecycles()),
        )
        if draw(st.booleans())
        else own(f"i{n}")
        for n in range(draw(st.integers(0, 3)))
    ]
    apps = [
        replace(own(f"a{n}"), **draw(probes()), **draw(lifecycles()))
        for n in range(draw(st.integers(1, 3)))
    ]
    return pod(
        *apps,
        init=inits,
        restart_policy=draw(policies),
        termination_grace_period_seconds=draw(st.sampled_from([0, 1, 5, 30])),
        active_deadline_seconds=draw(st.sampled_from([None, None, None, 3, 60])),
    )


# --- the laws, under any facts -------------------------------------------------------------------


class Nonsense:
    """Folds any fact at any time and checks the laws after each."""

    def __init__(self, spec: v1.Pod) -> None:
        self.now = 0.0
        self.record = new_record(spec, at(0), POLICY)
        self.advance(0)

    def hear(self, fact: Fact) -> None:
        before, self.record = self.record, observe(self.record, fact)
        self.check_fold(before, self.record)

    def advance(self, seconds: float) -> None:
        self.now += seconds
        now, known = at(self.now), self.record
        plan = decide(known, now)
        assert plan == decide(known, now)
        self.check_plan(known, plan)
        self.record = observe(known, Committed(now, plan))
        self.check_fold(known, self.record)
        again = decide(self.record, now)
        assert (again.actions, again.events) == ((), ())
        assert (again.status, again.probing) == (plan.status, plan.probing)
        assert (again.hooks, again.closed) == (plan.hooks, frozenset())
        assert again.wake_at is None or again.wake_at > now.boot

    def check_fold(self, old: PodRecord, new: PodRecord) -> None:
        # Ephemeral containers come meanwhile, behind all others.
        assert len(old.containers) <= len(new.containers)
        parts = zip(specs(new), old.containers, new.containers, strict=False)
        for spec, before, after in parts:
            assert after.attempt >= before.attempt, "attempts only grow"
            if before.ended and after.ended and before.ended.attempt == after.ended.attempt:
                assert after.ended.exit_code == before.ended.exit_code, "an end is final"
            if after.running:
                assert after.ended is None or after.ended.attempt < after.attempt
                assert before.running or after.refusal is None, "what runs was not refused"
            was, now = before.running, after.running
            if was and now and before.attempt == after.attempt:
                assert was.kill in (None, now.kill), "what is being stopped stays so"
                assert probing.has_started(spec, now.probes) or not probing.has_started(
                    spec, was.probes
                ), "started never goes back"
                self.check_hooks(before.hooks, after.hooks)
            elif now:
                assert now.probes == probing.Probes(), "all begins anew"
                # It may have been changed while it was being started.
                assert now.kill is None or now.kill.cause is KillCause.DEFINITION
                assert after.hooks == (), "all begins anew"
        if old.termination is not None:
            assert new.termination is not None, "ending is one-way"
            assert new.termination.deadline <= old.termination.deadline, "grace never grows"
        grace = old.pod.metadata.deletion_grace_period_seconds
        if grace is not None:
            meta, before_meta = new.pod.metadata, old.pod.metadata
            assert meta.deletion_grace_period_seconds is not None
            assert meta.deletion_grace_period_seconds <= grace
            assert (meta.deletion_timestamp or "") <= (before_meta.deletion_timestamp or "")
        if old.status.phase in reasons.TERMINAL_PHASES:
            assert new.status.phase == old.status.phase, "a terminal phase is sticky"

    def check_hooks(self, before: tuple[hooks.Hook, ...], after: tuple[hooks.Hook, ...]) -> None:
        for old in before:
            new = hooks.find(after, old.which)
            assert new is not None, "an intent is not taken back"
            assert hooks.over(new) == hooks.over(old) or old.is_owed, "an end of a hook is final"
            assert old.left or not new.left or old.is_owed, "what was left alone is not begun"
            assert new.runs >= old.runs

    def check_plan(self, known: PodRecord, plan: Any) -> None:
        ending = known.termination is not None
        starts = [a for a in plan.actions if isinstance(a, StartContainer)]
        flying = [a for a in known.in_flight if isinstance(a, StartContainer)]
        assert len(starts) + len(flying) <= 1 or not starts, "one start at a time"
        assert not known.in_flight.intersection(plan.actions), "nothing in flight is repeated"
        if plan.termination is not None:
            assert not starts, "nothing starts in a pod that is ending"
        if known.restarting is not None:
            assert not starts, "nothing starts while everything is killed"
            assert not any(isinstance(a, facts.StopContainer) for a in plan.actions)
            assert not plan.hooks, "and no hook runs"
        if facts.RemoveContainers() in plan.actions:
            assert known.restarting is not None
            assert all(c.running is None for c in known.containers), "removed while it runs"
        for start in starts:
            mine = next(c for c in known.containers if c.name == start.id.name)
            assert mine.running is None, "two live attempts"
            assert start.id.attempt == mine.attempt + 1
            self.check_init_before_app(known, mine.kind)
        over = reasons.TERMINAL_PHASES
        if plan.status.phase in over and known.status.phase not in over:
            assert all(c.running is None for c in known.containers), "free while it runs"
        if plan.done:
            assert not plan.actions
        stopping = ending or known.restarting is not None
        stopped = [c for c in known.containers if c.running and (c.running.kill or stopping)]
        assert [a.id.name for a in waiting_for(known)] == [c.name for c in stopped]
        self.check_probing(known, plan)
        assert len({(t.id, t.which) for t in plan.hooks}) == len(plan.hooks)
        for target in plan.hooks:
            mine = next(c for c in known.containers if c.name == target.id.name)
            assert target.id == ContainerId(UID, mine.name, mine.attempt)
        conditions = [c.type for c in plan.status.conditions]
        assert len(conditions) == len(set(conditions))

    def check_probing(self, known: PodRecord, plan: Any) -> None:
        assert len({(t.id, t.kind) for t in plan.probing}) == len(plan.probing)
        statuses = (*plan.status.init_container_statuses, *plan.status.container_statuses)
        for target in plan.probing:
            mine = next(c for c in known.containers if c.name == target.id.name)
            assert mine.kind is not Kind.INIT
            assert mine.running is not None, "only what runs is probed"
            assert target.id == ContainerId(UID, mine.name, mine.attempt)
            assert target.due >= mine.running.since.boot
            started = next(s.started for s in statuses if s.name == mine.name)
            spec = next(c for c in specs(known) if c.name == mine.name)
            assert not hooks.holds_back(spec, mine.hooks), "its postStart comes before"
            assert started is (target.kind is not ProbeKind.STARTUP), "startup comes before"
            if target.kind is not ProbeKind.READINESS:
                assert plan.termination is None, "while ending only readiness is asked for"
                assert (
                    mine.running.kill is None or mine.running.kill.cause.value != target.kind.value
                )

    def check_init_before_app(self, known: PodRecord, kind: Kind) -> None:
        apps = [c for c in known.containers if c.kind is Kind.APP]
        if kind is not Kind.APP or any(c.is_made for c in apps):
            return
        inits = [c for c in known.containers if c.kind is not Kind.APP]
        # The last one that was ever made vouches for those before it.
        if inits:
            last = inits[-1]
            if last.kind is Kind.SIDECAR:
                assert last.running is not None, "init before app"
                spec = known.pod.spec.init_containers[-1]
                assert probing.has_started(spec, last.running.probes), "init before app"
                assert not hooks.holds_back(spec, last.hooks), "init before app"
            else:
                assert last.is_made, "init before app"
                assert last.ended is not None, "init before app"
                assert last.ended.exit_code == 0, "init before app"


names = st.sampled_from(["a0", "a1", "a2", "i0", "i1", "i2", "nobody"])
attempts = st.integers(0, 2)
codes = st.sampled_from([0, 1, 137])


@st.composite
def observations(draw: st.DrawFn, now: float) -> Fact:
    who = ContainerId(draw(st.sampled_from([UID, UID, UID, "other"])), draw(names), draw(attempts))
    kind, outcome = draw(st.sampled_from(ProbeKind)), draw(st.sampled_from(facts.ProbeOutcome))
    return facts.ProbeObserved(at(now), who, kind, outcome, "said")


@st.composite
def changed(draw: st.DrawFn) -> v1.Pod:
    """What somebody wants a pod to be from now on."""
    images = st.sampled_from(["", "one", "two"])
    return v1.Pod(
        metadata=v1.ObjectMeta(
            labels={"a": draw(images)}, finalizers=draw(st.sampled_from([(), (), ("x.org/hold",)]))
        ),
        spec=v1.PodSpec(
            active_deadline_seconds=draw(st.sampled_from([None, None, 500])),
            containers=tuple(container(draw(names), image=draw(images)) for _ in range(2)),
            ephemeral_containers=tuple(
                v1.EphemeralContainer(name=name) for name in draw(st.sets(debugging, max_size=2))
            ),
        ),
    )


debugging = st.sampled_from(["dbg", "dbg2"])


@st.composite
def nonsense(draw: st.DrawFn, now: float) -> Fact:
    who = ContainerId(draw(st.sampled_from([UID, UID, UID, "other"])), draw(names), draw(attempts))
    when = at(now)
    kind = draw(st.integers(0, 18))
    actions: tuple[facts.Action, ...] = (
        facts.CreateSandbox(),
        facts.StartContainer(who),
        facts.StopContainer(who),
        facts.KillContainer(who),
        facts.RemoveContainers(),
        facts.FinishPod(),
    )
    makers = (
        lambda: facts.SandboxReady(when),
        lambda: facts.SandboxStopped(when),
        lambda: facts.SandboxDied(when),
        lambda: facts.ContainerStarted(when, who, 1),
        lambda: facts.ContainerStarted(when, who, 1),
        lambda: facts.StartFailed(
            when,
            who,
            draw(st.sampled_from(["StartError", "CreateContainerConfigError"])),
            "no",
            draw(st.booleans()),
        ),
        lambda: facts.ContainerExited(when, who, draw(codes), log_complete=draw(st.booleans())),
        lambda: facts.ContainerExited(when, who, draw(codes)),
        lambda: facts.ContainerLost(when, who, draw(st.booleans())),
        lambda: facts.StopSignalled(when, who),
        lambda: facts.KillSent(when, who),
        lambda: draw(observations(now)),
        lambda: draw(observations(now)),
        lambda: facts.ConditionSet(when, draw(names), draw(st.sampled_from(["True", "False"]))),
        lambda: facts.ActionFailed(when, draw(st.sampled_from(actions)), "no"),
        lambda: facts.HookFinished(
            when, who, draw(st.sampled_from(HookKind)), draw(st.booleans()), "no"
        ),
        lambda: facts.HookFinished(when, who, draw(st.sampled_from(HookKind)), True),
        lambda: facts.ContainersRemoved(when),
        lambda: draw(
            st.sampled_from(
                [
                    facts.Adopted(when),
                    facts.LogsDropped(when, who, "full"),
                    facts.ConfigurationChanged(when),
                    facts.VolumesFailed(when, (facts.VolumeFailure("v", "no"),)),
                    facts.VolumeOverLimit(when, "v", "1Mi"),
                    facts.DeletionRequested(when, draw(st.sampled_from([None, 0, 3, 40, -1]))),
                    facts.DeletionRequested(when, kill=True),
                    facts.DeletionRequested(when, force=True),
                    facts.PodUpdated(when, draw(changed())),
                ]
            )
        ),
    )
    return makers[kind]()


@SLOW
@given(st.data(), pods())
def test_the_laws_hold_under_any_facts_in_any_order(data, spec):
    """§2.1.8, §2.4.1, §3.1.1, §4.1.1, §7.2.1, §7.2.3, §1.1.7, §1.1.9, §5.2.6, §5.2.8"""
    world = Nonsense(spec)
    for _ in range(data.draw(st.integers(1, 25), label="steps")):
        step = data.draw(st.integers(0, 5), label="step")
        if step == 3 and (owed := decide(world.record, at(world.now)).hooks):
            hook = data.draw(st.sampled_from(sorted(owed, key=repr)), label="hook")
            ok = data.draw(st.booleans(), label="ok")
            world.hear(facts.HookFinished(at(world.now), hook.id, hook.which, ok, "said"))
        elif step == 0:
            world.advance(data.draw(st.sampled_from([0.0, 0.5, 2.0, 15.0, 400.0]), label="time"))
        elif step == 1 and world.record.in_flight:
            flying = sorted(world.record.in_flight, key=repr)
            action = data.draw(st.sampled_from(flying), label="answered")
            world.hear(answer(action, world.now))
        elif step == 2 and (targets := decide(world.record, at(world.now)).probing):
            asked = data.draw(st.sampled_from(sorted(targets, key=repr)), label="probed")
            outcome = data.draw(st.sampled_from(facts.ProbeOutcome), label="outcome")
            fact = facts.ProbeObserved(at(world.now), asked.id, asked.kind, outcome, "said")
            world.hear(fact)
        else:
            world.hear(data.draw(nonsense(world.now), label="fact"))
        world.advance(0)


def answer(action: facts.Action, now: float) -> Fact:
    when = at(now)
    match action:
        case facts.CreateSandbox():
            return facts.SandboxReady(when)
        case facts.RemoveContainers():
            return facts.ContainersRemoved(when)
        case facts.FinishPod():
            return facts.SandboxStopped(when)
        case facts.StartContainer(id=id):
            return facts.ContainerStarted(when, id, 1)
        case facts.StopContainer(id=id):
            return facts.StopSignalled(when, id)
        case facts.KillContainer(id=id):
            return facts.KillSent(when, id)


# --- whole lives ---------------------------------------------------------------------------------


@st.composite
def runs(draw: st.DrawFn) -> Run:
    return Run(
        lasts=draw(st.sampled_from([0.0, 1.0, 7.0, 700.0, inf])),
        code=draw(codes),
        stops_in=draw(st.sampled_from([None, 0.0, 1.0, 20.0])),
        stop_code=draw(st.sampled_from([0, 143])),
        refused=draw(st.sampled_from(["", "", "", "", "no such key"])),
        broken=draw(st.sampled_from(["", "", "", "", "no such file"])),
    )


scripts = st.fixed_dictionaries(
    {f"{kind}{n}": st.lists(runs(), min_size=1, max_size=3) for kind in "ai" for n in range(3)}
)


said = st.lists(st.text("++-w!", min_size=1, max_size=6), min_size=1, max_size=3)
answers = st.fixed_dictionaries(
    {
        f"{k}{n} {kind}": said.map(lambda s: pattern(*s))
        for k in "ai"
        for n in range(3)
        for kind in ProbeKind
    }
)


plays = st.fixed_dictionaries(
    {
        f"{k}{n} {which}": st.builds(
            Play, st.sampled_from([0.0, 1.0, 2.5, 20.0, inf]), st.sampled_from([True, True, False])
        )
        for k in "ai"
        for n in range(3)
        for which in HookKind
    }
)


@SLOW
@given(
    pods(),
    scripts,
    answers,
    plays,
    st.sampled_from([0.0, 0.3, 2.0]),
    st.sampled_from([1, 30, 900, 5000]),
    st.sampled_from([None, 0, 10]),
    st.booleans(),
    st.lists(st.tuples(st.sampled_from([0.5, 1.0, 8.0, 30.5, 899.0]), changed()), max_size=3),
)
def test_every_deleted_pod_ends_in_time(
    spec, script, answers, plays, latency, when, grace, force, changes
):
    """§7.2.2, §1.1.10, §1.1.12: every owed action leads on, and grace plus little is enough."""
    life = Life(spec, script, latency=latency, answers=answers, plays=plays)
    for moment, new in changes:
        life.tell(moment, lambda now, new=new: facts.PodUpdated(now, new))
    if force:
        grace = 0
    life.tell(when, lambda now: facts.DeletionRequested(now, grace, force=force)).run()
    held = bool(life.record.pod.metadata.finalizers)
    if life.record.deletion is not None:  # it did not end before
        assert life.record.is_hidden == (force and not held)
        assert life.plan.gone is not held
    assert all(c.attempt <= 0 for c in life.record.containers if c.kind is Kind.EPHEMERAL)
    check_hooks(life)
    own = spec.spec.termination_grace_period_seconds or 0
    longest = max(1, own if grace is None else grace)
    # Actions of a termination are at most: a late start, stop, last call of the sidecars, end.
    assert life.now <= when + longest + 2 + 8 * latency
    assert life.status.phase in reasons.TERMINAL_PHASES
    assert life.record.in_flight == frozenset()
    assert life.record.owed_events == ()
    check_order(life)


def check_order(life: Life) -> None:
    """What the world saw: no overlap, back-off kept, init before app, no start while ending."""
    ends = {who: t for t, who, _ in life.ends}
    deleted = life.record.deletion
    for when, who in life.starts:
        name, attempt = who.rsplit("/", 1)
        previous = ends.get(f"{name}/{int(attempt) - 1}", 0.0)
        assert when >= previous, "an instance starts before the one before has ended"
        if deleted is not None:
            assert when <= deleted.boot - BOOT + 1e-6, "a start after the deletion"
    for _, who in life.starts:
        started = [w for _, w in life.starts]
        assert started.count(who) == 1
    check_started(life)


def check_started(life: Life) -> None:
    """What was published as started stays so for that instance, as long as it runs."""
    started: dict[tuple[str, int], bool] = {}
    for _, status in life.statuses:
        for c in (*status.init_container_statuses, *status.container_statuses):
            if c.state.running is not None:
                key = c.name, c.restart_count
                assert c.started or not started.get(key), f"{key} was started before"
                started[key] = c.started


def check_hooks(life: Life) -> None:
    """Each hook that was ever owed was run, at least once, unless there was no way to.

    That none is run unowed, without a crash run twice, or beside itself, the world has seen to.
    """
    for mine in life.record.containers:
        for hook in mine.hooks:
            who = f"{mine.name}/{mine.attempt} {hook.which}"
            assert not hook.is_owed, f"{who} is owed for ever"
            if any(what.startswith(f"{who} begins") for _, what in life.hooked):
                continue
            assert hook.end in (hooks.HookEnd.GONE, hooks.HookEnd.CANCELLED), f"{who} was missed"
            spec = life.spec(mine.name)
            if hook.end is hooks.HookEnd.GONE:
                assert not hooks.outlives(spec, hook.which), f"{who} could have been sent"
            elif not restart.may_restart_all(specs(life.record)):
                assert hook.which is HookKind.POST_START


@SLOW
@given(pods(), scripts, answers, plays, st.sampled_from([0.0, 0.3]), st.data())
def test_replay_from_every_commit_converges(spec, script, answers, plays, latency, data):
    """K04, K06: a stored record plus what the runtime holds is all that recovery needs."""
    life = Recorded(spec, script, latency=latency, answers=answers, plays=plays).delete(400, 5)
    life.run()
    for stored in data.draw(st.lists(st.sampled_from(life.commits), min_size=1, max_size=5)):
        known = stored
        for fact in life.relist():
            known = observe(known, fact)
        for mine, real in zip(known.containers, life.record.containers, strict=True):
            if ContainerId(UID, real.name, real.attempt) in life.processes:
                assert mine.attempt == real.attempt
                assert mine.running is None
                assert mine.ended is not None
                assert real.ended is not None
                assert mine.ended.exit_code == real.ended.exit_code
                assert mine.ended.finished == real.ended.finished


class Recorded(Life):
    """A life that keeps every record that was ever committed."""

    def __post_init__(self) -> None:
        self.commits: list[PodRecord] = []
        super().__post_init__()

    def _round(self, heard: list[Fact]) -> None:
        super()._round(heard)
        self.commits.append(self.record)


# --- the supervisor dies anywhere ----------------------------------------------------------------


class DiedError(Exception):
    """The supervisor was killed here."""


class CrashyLife(Life):
    """A life whose supervisor dies between any two steps; world and store survive.

    What was folded but not committed is forgotten, answers on their way are lost, and what comes
    back is the last committed record, Adopted, and the list of what the runtime holds.
    """

    def __init__(
        self,
        spec: v1.Pod,
        script: Script,
        rnd: random.Random,
        deletion: float,
        answers: dict[str, Answer],
        plays: dict[str, Play],
    ) -> None:
        latency, slow = rnd.choice([0.0, 0.2]), rnd.choice([0.0, 0.1])
        super().__init__(spec, script, latency=latency, slow=slow, answers=answers, plays=plays)
        self.rnd = rnd
        self.deletion = deletion
        self.store = self.record
        self.crashes = 0
        self.delete(deletion, 10)

    def maybe_die(self) -> None:
        if self.crashes < 12 and self.rnd.random() < 0.08:
            raise DiedError

    def _round(self, heard: list[Fact]) -> None:
        try:
            self.attempt_round(heard)
        except DiedError:
            self.recover()

    def attempt_round(self, heard: list[Fact]) -> None:
        now = at(self.now)
        for fact in heard:
            self.record = observe(self.record, fact)
        self.maybe_die()  # before anything is decided
        plan = decide(self.record, now)
        committed = observe(self.record, Committed(now, plan))
        self.maybe_die()  # before the commit
        self.record = self.store = committed
        again = decide(committed, now)
        assert (again.actions, again.events) == ((), ())
        self.plan = plan
        self.statuses.append((self.now, plan.status))
        self.events += [(self.now, e) for e in plan.events]
        for action in plan.actions:
            self.maybe_die()  # between actions
            self.actions.append((self.now, action))
            self.perform(action)
        self.keep_probing(plan.probing)
        self.keep_hooks(plan.hooks)
        if plan.actions or plan.hooks:
            self.maybe_die()  # after the last action, before any answer

    def _begin(self, target: facts.HookTarget) -> None:
        self.maybe_die()  # between the commit of the intent and the hook
        super()._begin(target)

    def recover(self) -> None:
        self.crashes += 1
        self.epoch += 1
        self.hang_up()
        self._probers = {}
        self.plan = None
        back = self.now + self.rnd.choice([0.0, 0.0, 1.0, 20.0])
        while self._queue and self._queue[0][0] <= back:  # the world goes on without us
            self.now = max(self.now, self._queue[0][0])
            make = self._queue.pop(0)[2]
            make()
        self._queue.sort()
        self.now = back
        self.record = self.store
        if self.now >= self.deletion and self.record.deletion is None:
            self.delete(self.now, 10)  # whoever asked and got no answer asks again
        held = self.relist()
        back_again = self.record
        for fact in held:
            back_again = observe(back_again, fact)
        for was, now in zip(self.record.containers, back_again.containers, strict=True):
            if was.running and now.running and was.attempt == now.attempt:
                same = replace(now.running, adopted=was.running.adopted)
                assert same == was.running, "results and kills survive us"
        self._round(held)


@settings(SLOW, max_examples=200)
@given(
    pods(),
    scripts,
    answers,
    plays,
    st.sampled_from([0.5, 3.0, 15.0, 60.0, 900.0]),
    st.integers(0, 2**32),
)
def test_the_supervisor_may_die_anywhere(spec, script, answers, plays, deletion, seed):
    """K04, K06, F12: §2.4.1, §2.4.7 in part: nothing is restarted because we were."""
    check_death(CrashyLife(spec, script, random.Random(seed), deletion, answers, plays))


@st.composite
def probed_pods(draw: st.DrawFn) -> v1.Pod:
    """A sidecar and an app with all probes and hooks: which go on until one ends."""
    return pod(
        container("a0", **draw(probes(often=0)), **draw(lifecycles(often=0))),
        init=[sidecar("i0", **draw(probes(often=0)), **draw(lifecycles(often=0)))],
        restart_policy=draw(policies),
        termination_grace_period_seconds=draw(st.sampled_from([1, 5, 30])),
    )


lasting = st.lists(
    st.builds(Run, stops_in=st.sampled_from([None, 0.0, 1.0, 20.0]), stop_code=codes),
    min_size=1,
    max_size=3,
)


@settings(SLOW, max_examples=200)
@given(
    probed_pods(),
    st.fixed_dictionaries({"a0": lasting, "i0": lasting}),
    answers,
    plays,
    st.sampled_from([15.0, 60.0, 600.0]),
    st.integers(0, 2**32),
)
def test_the_supervisor_may_die_between_any_two_answers(
    spec, script, answers, plays, deletion, seed
):
    """K04: §2.4.7, §5.2.4, §6.4.2, §7.6.1: results, kills, hooks, their deadlines are kept."""
    check_death(CrashyLife(spec, script, random.Random(seed), deletion, answers, plays))


def check_death(life: CrashyLife) -> None:
    """The supervisor dies often; the life comes to its right end all the same."""
    life.run()
    assert life.status.phase in reasons.TERMINAL_PHASES
    check_order(life)
    check_ends(life)
    check_hooks(life)
    # However often we died, each thing is said once.
    assert len(life.said("Scheduled")) == 1
    for process in life.processes:
        kind = "initContainers" if process.name.startswith("i") else "containers"
        path = f"spec.{kind}{{{process.name}}}"
        said = [e for _, e in life.events if e.field_path == path]
        instances = sum(p.name == process.name for p in life.processes)
        assert sum(e.reason == "Started" for e in said) == instances
        killing = [e.message for e in said if e.reason == "Killing"]
        assert killing.count(f"Stopping container {process.name}") <= 1
        assert all(killing.count(text) <= instances for text in killing)


def check_ends(life: Life) -> None:
    """What is shown at the end is what really happened in the world."""
    for mine in life.record.containers:
        real: Process | None = life.processes.get(ContainerId(UID, mine.name, mine.attempt))
        if real is not None:
            assert mine.ended is not None
            assert real.ended is not None
            assert mine.ended.exit_code == real.code
            assert mine.ended.reason != reasons.STATUS_UNKNOWN


def test_a_back_off_goes_on_where_it_was_after_a_crash():
    """K06: §3.2.3 (better than the kubelet, which forgets it)"""
    life = Life(pod("app"), {"app": Run(lasts=1, code=1)}).run(until=20)
    due = life.plan.wake_at if life.plan else None
    adopted = replace(life.record, in_flight=frozenset({facts.CreateSandbox()}))
    for fact in life.relist():
        adopted = observe(adopted, fact)
    assert decide(adopted, at(20)).wake_at == due == BOOT + 33
    assert decide(adopted, at(20)).status == life.status
