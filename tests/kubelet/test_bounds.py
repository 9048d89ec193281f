"""What `lifecycle/bounds.py` computes is what pods do: whole lives on a clock that jumps.

An attempt that fails slowly ends `LAG` after its timeout, as killing a program takes its time;
nothing may come later than computed by more than that.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from itertools import cycle

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from supervisor.api import v1
from supervisor.kubelet.clock import Clock
from supervisor.kubelet.handlers import Execute, Observation
from supervisor.lifecycle import bounds
from supervisor.lifecycle.bounds import Span
from supervisor.lifecycle.facts import Instant, ProbeOutcome

from .conftest import START, Program, World, world

LAG = 0.001
DEAF = Program(term=None)

lengths = st.integers(1, 7)
shares = st.lists(st.floats(0, 1), min_size=1, max_size=5)  # of its timeout that an attempt takes
few = settings(max_examples=40, deadline=None)


def probes(name: str, **fixed: int) -> st.SearchStrategy[v1.Probe]:
    fields: dict[str, st.SearchStrategy[int]] = {
        "initial_delay_seconds": st.integers(0, 12),
        "period_seconds": lengths,
        "timeout_seconds": lengths,
        "failure_threshold": st.integers(1, 5),
        "success_threshold": st.just(1),
    }
    fields |= {key: st.just(value) for key, value in fixed.items()}
    command = v1.ExecAction(command=(name,))
    return st.builds(v1.Probe, exec=st.just(command), **fields)


def handler(length: float) -> v1.LifecycleHandler:
    """A program that takes this long."""
    return v1.LifecycleHandler(exec=v1.ExecAction(command=(f"takes {length}",)))


def sleep(seconds: int) -> v1.LifecycleHandler:
    return v1.LifecycleHandler(sleep=v1.SleepAction(seconds=seconds))


def length(hook: v1.LifecycleHandler | None) -> float:
    if hook is None:
        return 0.0
    if hook.sleep is not None:
        return hook.sleep.seconds
    assert hook.exec is not None
    return float(hook.exec.command[0].split()[1])


hooks = st.one_of(
    st.none(), st.integers(0, 6).map(sleep), st.floats(0, 9).map(lambda x: handler(round(x, 2)))
)


def pod(*apps: v1.Container, sidecars: tuple[v1.Container, ...] = (), grace: int = 30) -> v1.Pod:
    return v1.Pod(
        metadata=v1.ObjectMeta(name="web", namespace="default"),
        spec=v1.PodSpec(
            init_containers=sidecars,
            containers=apps,
            restart_policy="Never",
            termination_grace_period_seconds=grace,
        ),
    )


def container(
    name: str = "app",
    post: v1.LifecycleHandler | None = None,
    pre: v1.LifecycleHandler | None = None,
    policy: str | None = None,
    **probes: v1.Probe,
) -> v1.Container:
    return v1.Container(
        name=name,
        command=("x",),
        restart_policy=policy,
        lifecycle=v1.Lifecycle(post_start=post, pre_stop=pre),
        **probes,  # type: ignore[arg-type]
    )


# What a program says to a probe: whether it succeeds, and after how long. Asked with the name of
# the probe, the probe, and the seconds since the program's start.
Answer = Callable[[str, v1.Probe, float], tuple[bool, float]]


def in_world(
    answer: Answer, programs: dict[str, Program], act: Callable[[World], Awaitable[None]]
) -> None:
    clock = Clock(lambda: Instant(wall=START + trio.current_time(), boot=trio.current_time()))

    async def run_probe(
        probe: v1.Probe, container: v1.Container, *, host: str, execute: Execute
    ) -> Observation:
        assert probe.exec is not None
        ok, takes = answer(probe.exec.command[0], probe, clock.now().boot - began)
        await clock.sleep(takes)
        return Observation(ProbeOutcome.SUCCESS if ok else ProbeOutcome.FAILURE)

    async def whole() -> None:
        nonlocal began
        began = clock.now().boot
        programs_run = {name: [each] for name, each in programs.items()}
        async with world(clock, programs_run, run_probe=run_probe) as w:  # type: ignore[arg-type]
            for tenth in range(10 * 100):
                w.runtime.execs[f"takes {tenth / 100}"] = _taking(tenth / 100)
            await act(w)
            w.node.delete_all()
            await w.node.wait()

    began = 0.0
    trio.run(whole, clock=MockClock(autojump_threshold=0))


def _taking(seconds: float) -> Callable[[float], tuple[int, float]]:
    return lambda age: (0, seconds)


def first(w: World, what: str, name: str = "app") -> float:
    """When it first happened, in seconds since the container was started."""
    return w.runtime.times(what, name)[0] - w.runtime.times("start", name)[0]


def within(moment: float, span: Span) -> bool:
    return span.earliest - LAG <= moment <= span.latest + 2 * LAG


async def until(w: World, moment: float) -> None:
    await w.clock.sleep(max(0.0, moment - w.clock.now().boot))


# --- a hang --------------------------------------------------------------------------------------


def killed_after(probe: v1.Probe, hang: float, takes: float | None = None) -> float:
    """Seconds from a hang to the stop signal; without `takes`, attempts use up their timeout."""
    found: list[float] = []

    def answer(name: str, probe: v1.Probe, age: float) -> tuple[bool, float]:
        return age < hang, 0.0 if age < hang else timeout

    async def act(w: World) -> None:
        w.node.run_pod(pod(container(liveness_probe=probe), grace=2))
        await until(w, hang + 2 * bounds.unnoticed(probe).latest + 20)
        found.append(first(w, "TERM") - hang)

    timeout = probe.timeout_seconds + LAG if takes is None else takes
    in_world(answer, {"app": Program()}, act)
    return found[0]


@few
@given(probes("live"), st.floats(0, 30))
def test_what_hangs_is_never_noticed_later_or_earlier_than_computed(
    probe: v1.Probe, hang: float
) -> None:
    """§5.2.15"""
    hang += probe.initial_delay_seconds + LAG
    assert within(killed_after(probe, hang), bounds.unnoticed(probe))


@few
@given(probes("live"))
def test_what_hangs_just_after_an_attempt_is_noticed_at_the_latest_second_exactly(
    probe: v1.Probe,
) -> None:
    """§5.2.15"""
    took = killed_after(probe, probe.initial_delay_seconds + LAG)
    assert took == pytest.approx(bounds.unnoticed(probe).latest, abs=2 * LAG)


@few
@given(probes("live"))
def test_what_fails_at_once_just_before_an_attempt_is_noticed_at_the_earliest_second_exactly(
    probe: v1.Probe,
) -> None:
    took = killed_after(probe, probe.initial_delay_seconds + probe.period_seconds - LAG, takes=0)
    assert took == pytest.approx(bounds.unnoticed(probe).earliest, abs=2 * LAG)


@few
@given(probes("ready"))
def test_a_hang_is_out_of_the_endpoints_at_the_latest_second_and_not_before_it(
    probe: v1.Probe,
) -> None:
    hang = probe.initial_delay_seconds + LAG

    def answer(name: str, probe: v1.Probe, age: float) -> tuple[bool, float]:
        return age < hang, 0.0 if age < hang else probe.timeout_seconds + LAG

    async def act(w: World) -> None:
        worker = w.node.run_pod(pod(container(readiness_probe=probe)))
        latest = hang + bounds.unnoticed(probe).latest
        await until(w, latest - 3 * LAG)
        assert worker.status.container_statuses[0].ready
        await until(w, latest + 3 * LAG)
        assert not worker.status.container_statuses[0].ready

    in_world(answer, {"app": Program()}, act)


LIVENESS = v1.Probe(
    exec=v1.ExecAction(command=("live",)),
    period_seconds=4,
    timeout_seconds=2,
    failure_threshold=2,
    success_threshold=1,
)

# --- a start -------------------------------------------------------------------------------------


def speed(how: str, parts: list[float]) -> Callable[[str, v1.Probe], float]:
    """How long an attempt takes."""
    part = cycle(parts)

    def takes(name: str, probe: v1.Probe) -> float:
        if how == "fast":
            return 0.0
        return probe.timeout_seconds * (1.0 if how == "slow" else next(part)) + LAG

    return takes


def is_known(hook: v1.LifecycleHandler | None) -> bool:
    """Whether the manifest says how long it takes."""
    return hook is None or hook.sleep is not None


def begin(post: v1.LifecycleHandler | None) -> float:
    """From when on `bounds.start` counts, in seconds after the start."""
    return 0.0 if is_known(post) else length(post)


@few
@given(
    hooks,
    st.one_of(st.none(), probes("startup")),
    probes("live"),
    st.sampled_from(["fast", "slow", "mixed"]),
    shares,
    st.booleans(),
)
@example(sleep(6), None, LIVENESS, "fast", [1.0], False)
@example(sleep(6), None, LIVENESS, "slow", [1.0], True)
def test_liveness_kills_what_never_answers_between_the_computed_seconds(
    post: v1.LifecycleHandler | None,
    startup: v1.Probe | None,
    liveness: v1.Probe,
    how: str,
    parts: list[float],
    late: bool,
) -> None:
    """§5.2.7, §5.2.8, §5.2.15; a startup that succeeds at once, or at its last attempt."""
    asked: list[float] = []
    takes = speed(how, parts)

    def answer(name: str, probe: v1.Probe, age: float) -> tuple[bool, float]:
        if name == "live":
            return False, takes(name, probe)
        asked.append(age)
        last = not late or len(asked) == probe.failure_threshold
        # A success must come within its timeout.
        return last, min(takes(name, probe), probe.timeout_seconds if last else math.inf)

    more = {} if startup is None else {"startup_probe": startup}
    app = container(post=post, liveness_probe=liveness, **more)
    span = bounds.start(app).liveness_fails
    assert span is not None

    async def act(w: World) -> None:
        w.node.run_pod(pod(app, grace=2))
        await until(w, 2 * span.latest + 40)
        moment = first(w, "TERM") - begin(post)
        assert within(moment, span)
        if how == "slow" and late and is_known(post):
            assert moment == pytest.approx(span.latest, abs=3 * LAG)
        if how == "fast" and not late and is_known(post):
            assert moment == pytest.approx(span.earliest, abs=3 * LAG)

    in_world(answer, {"app": Program()}, act)


@few
@given(hooks, probes("startup"), st.sampled_from(["fast", "slow", "mixed"]), shares)
def test_startup_kills_what_never_answers_between_the_computed_seconds(
    post: v1.LifecycleHandler | None, startup: v1.Probe, how: str, parts: list[float]
) -> None:
    """§5.2.11"""
    takes = speed(how, parts)
    app = container(post=post, startup_probe=startup)
    span = bounds.start(app).startup_fails
    assert span is not None

    async def act(w: World) -> None:
        w.node.run_pod(pod(app, grace=2))
        await until(w, 2 * span.latest + 40)
        moment = first(w, "TERM") - begin(post)
        assert within(moment, span)
        if how == "slow" and is_known(post):
            assert moment == pytest.approx(span.latest, abs=3 * LAG)
        if how == "fast" and is_known(post):
            assert moment == pytest.approx(span.earliest, abs=3 * LAG)

    in_world(lambda name, probe, age: (False, takes(name, probe)), {"app": Program()}, act)


@few
@given(
    st.one_of(st.none(), probes("startup", failure_threshold=1)),
    st.integers(1, 4).flatmap(lambda count: probes("ready", success_threshold=count)),
    st.booleans(),
)
def test_a_container_is_ready_at_the_computed_second(
    startup: v1.Probe | None, readiness: v1.Probe, slow: bool
) -> None:
    """§2.4.4, §5.2.8"""
    more = {} if startup is None else {"startup_probe": startup}
    app = container(readiness_probe=readiness, **more)
    span = bounds.start(app).ready

    async def act(w: World) -> None:
        worker = w.node.run_pod(pod(app))
        moment = span.latest if slow else span.earliest
        if slow and readiness.timeout_seconds % readiness.period_seconds == 0:
            # Successes end with their timeout at the latest, and not after it.
            moment -= (readiness.success_threshold - 1) * readiness.period_seconds
        if moment > 3 * LAG:
            await until(w, moment - 3 * LAG)
            assert not worker.status.container_statuses[0].ready
        await until(w, moment + 3 * LAG)
        assert worker.status.container_statuses[0].ready

    in_world(
        lambda name, probe, age: (True, probe.timeout_seconds if slow else 0.0),
        {"app": Program()},
        act,
    )


# --- an end --------------------------------------------------------------------------------------


def ends(w: World, name: str, since: float) -> tuple[float, float]:
    """When it got its stop signal and its SIGKILL."""
    return w.runtime.times("TERM", name)[0] - since, w.runtime.times("KILL", name)[0] - since


@few
@given(st.integers(0, 8), hooks)
def test_what_is_deaf_gets_its_signals_at_the_computed_seconds(
    grace: int, pre: v1.LifecycleHandler | None
) -> None:
    """§6.2.4, §6.2.5, §7.2.1"""
    app = container(pre=pre)
    told = pod(app, grace=grace)
    ((_, stop),) = bounds.stops(told.spec)

    async def act(w: World) -> None:
        w.node.run_pod(told)
        await until(w, 3)
        w.node.delete_all()
        await w.node.wait()
        signal, kill = ends(w, "app", 3)
        assert within(signal, stop.signal)
        assert within(kill, stop.kill)
        if is_known(pre):
            assert stop.signal.earliest == stop.signal.latest
        if is_known(pre) or length(pre) > stop.grace:
            assert (signal, kill) == pytest.approx((stop.signal.latest, stop.kill.latest))

    in_world(lambda *_: (True, 0.0), {"app": DEAF}, act)


@few
@given(
    st.integers(0, 8),
    st.one_of(st.none(), st.integers(1, 8)),
    hooks,
    st.sampled_from(["liveness_probe", "startup_probe"]),
)
def test_what_a_probe_kills_gets_its_signals_at_the_computed_seconds(
    grace: int, own: int | None, pre: v1.LifecycleHandler | None, kind: str
) -> None:
    """§5.8, §7.6.1"""
    probe = v1.Probe(
        exec=v1.ExecAction(command=("live",)),
        period_seconds=3,
        timeout_seconds=1,
        failure_threshold=1,
        success_threshold=1,
        termination_grace_period_seconds=own,
    )
    app = container(pre=pre, **{kind: probe})
    told = pod(app, grace=grace)
    stop = bounds.stop_by(told.spec, app, probe)

    async def act(w: World) -> None:
        w.node.run_pod(told)
        await until(w, 30)
        signal, kill = ends(w, "app", 0)
        assert within(signal, stop.signal)
        assert within(kill, stop.kill)
        if is_known(pre):
            assert (signal, kill) == pytest.approx((stop.signal.latest, stop.kill.latest))

    in_world(lambda *_: (False, 0.0), {"app": DEAF}, act)


@few
@given(st.integers(1, 8), hooks, hooks, hooks, st.one_of(st.none(), st.floats(0, 9)), st.booleans())
def test_sidecars_get_their_signals_one_after_the_other_within_the_computed_seconds(
    grace: int,
    of_app: v1.LifecycleHandler | None,
    of_one: v1.LifecycleHandler | None,
    of_two: v1.LifecycleHandler | None,
    takes: float | None,
    deaf: bool,
) -> None:
    """§7.4.1, §7.4.2, §7.4.4"""
    one = container("one", pre=of_one, policy="Always")
    two = container("two", pre=of_two, policy="Always")
    app = container(pre=of_app)
    told = pod(app, sidecars=(one, two), grace=grace)
    computed = {of.name: stop for of, stop in bounds.stops(told.spec)}
    assert list(computed) == ["one", "two", "app"]

    async def act(w: World) -> None:
        w.node.run_pod(told)
        await until(w, 3)
        w.node.delete_all()
        await w.node.wait()
        for name, stop in computed.items():
            signals, kills = w.runtime.times("TERM", name), w.runtime.times("KILL", name)
            assert all(within(at - 3, stop.signal) for at in signals)
            assert all(within(at - 3, stop.kill) for at in kills)
        if takes is None:  # the app is deaf, and sidecars wait for it as long as they can
            stop = computed["two"]
            latest = (stop.signal.latest, stop.kill.latest)
            assert latest == (grace, grace + 2)
            if deaf:
                assert ends(w, "two", 3) == pytest.approx(latest)

    side = Program(term=None if deaf else 0.1)
    in_world(lambda *_: (True, 0.0), {"app": Program(term=takes), "one": side, "two": side}, act)


# --- a cluster -----------------------------------------------------------------------------------


def test_a_kubelet_may_begin_a_period_later_with_each_probe_that_comes_first() -> None:
    """§5.2.2: its probers keep the rhythm in which they were made."""
    startup = v1.Probe(
        period_seconds=5, timeout_seconds=1, failure_threshold=4, success_threshold=1
    )
    liveness = v1.Probe(
        period_seconds=10, timeout_seconds=1, failure_threshold=3, success_threshold=1
    )
    app = container(startup_probe=startup, liveness_probe=liveness)
    here, there = bounds.start(app), bounds.start(app, cluster=True)
    assert here.startup_fails == Span(15, 16)
    assert there.startup_fails == Span(15, 21)
    assert here.liveness_fails == Span(20, 16 + 21)
    assert there.liveness_fails == Span(20, 21 + 10 + 21)
    assert here.ready == here.started == Span(0, 16)
