"""What is done next, as tables: a base pod, what is known of it, and the actions that follow."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from supervisor.lifecycle.decide import decide, waiting_for
from supervisor.lifecycle.facts import (
    CreateSandbox,
    FinishPod,
    KillContainer,
    StartContainer,
    StopContainer,
)
from supervisor.lifecycle.record import Cause, Refusal, Retry, Sandbox
from tests.lifecycle.lives import BOOT, Life, at, container, exits, pod, rule, sidecar
from tests.lifecycle.records import (
    NOW,
    ended,
    ending,
    in_words,
    instance,
    record,
    running,
    waited,
)

# One pod with everything: two regular init containers around a sidecar, and two apps.
INIT = [container("i1"), sidecar("s1"), container("i2")]
DONE = {"i1": ended(0), "s1": running(), "i2": ended(0)}


def full(policy: str = "Always", **states: Any) -> Any:
    return record(pod("a", "b", init=INIT, restart_policy=policy), **states)


def plain(policy: str = "Always", **states: Any) -> Any:
    return record(pod("a", "b", restart_policy=policy), **states)


STARTING = {
    "a new pod gets its sandbox first": (
        plain(fields={"sandbox": Sandbox.ABSENT}),
        ["sandbox"],
    ),
    "a sandbox that is being made is not asked for twice": (
        plain(fields={"sandbox": Sandbox.ABSENT, "in_flight": frozenset({CreateSandbox()})}),
        [],
    ),
    "the first app starts alone": (plain(), ["start a/0"]),
    "no second start while one is in flight": (
        plain(fields={"in_flight": frozenset({StartContainer(instance("a"))})}),
        [],
    ),
    "the second app starts when the first one has": (plain(a=running()), ["start b/0"]),
    "nothing to do when all run": (plain(a=running(), b=running()), []),
    "the first init container starts first": (full(), ["start i1/0"]),
    "nothing starts while a regular init container runs": (full(i1=running()), []),
    "a sidecar starts when the init container before it has succeeded": (
        full(i1=ended(0)),
        ["start s1/0"],
    ),
    "the next init container starts when the sidecar before it runs": (
        full(i1=ended(0), s1=running()),
        ["start i2/0"],
    ),
    "the next init container waits while the sidecar before it is down": (
        full(i1=ended(0), s1=ended(1) | waited(0, 40)),
        [],
    ),
    "a failed init container is run again before anything else": (
        full(i1=ended(1)),
        ["start i1/1"],
    ),
    "a failed init container is run again under OnFailure": (
        full("OnFailure", i1=ended(1)),
        ["start i1/1"],
    ),
    "a failed init container ends a pod under Never": (
        full("Never", i1=ended(1)),
        ["finish"],
    ),
    "a failed init container under Never has the sidecars before it stopped": (
        full("Never", i1=ended(0), s1=running(), i2=ended(1)),
        ["stop s1/0"],
    ),
    "a succeeded init container is never run again, whatever the policy": (
        full(i1=ended(0), s1=running(), i2=running()),
        [],
    ),
    "apps start when the last init container has succeeded": (full(**DONE), ["start a/0"]),
    "a sidecar that is down comes before the apps": (
        full(**DONE | {"s1": ended(0)}),
        ["start s1/1"],
    ),
    "an app that ever ran says that init is done": (
        full(a=running(), i1={}, i2={}),
        ["start b/0"],
    ),
    "init containers are not run again beside apps that crash": (
        full(**DONE | {"i2": ended(1)}, a=ended(1), b=running()),
        ["start a/1"],
    ),
    "a sidecar runs again under Never while an app runs": (
        full("Never", **DONE | {"s1": ended(0)}, a=running(), b=ended(0)),
        ["start s1/1"],
    ),
    "a sidecar is stopped when no app runs or will": (
        full("Never", **DONE, a=ended(1), b=ended(0)),
        ["stop s1/0"],
    ),
    "a sidecar that is down stays down when no app runs or will": (
        full("Never", **DONE | {"s1": ended(0)}, a=ended(1), b=ended(0)),
        ["finish"],
    ),
    "exited apps start again under Always": (plain(a=ended(0), b=ended(1)), ["start a/1"]),
    "only failed apps start again under OnFailure": (
        plain("OnFailure", a=ended(0), b=ended(1)),
        ["start b/1"],
    ),
    "no app starts again under Never": (plain("Never", a=ended(0), b=ended(1)), ["finish"]),
    "an app that never ran starts under Never beside one that ended": (
        plain("Never", a=ended(0)),
        ["start b/0"],
    ),
    "an app in back-off waits": (plain(a=ended(1, 1) | waited(1, 10), b=running()), []),
    "an app whose wait is over starts again": (
        plain(a=ended(1, 1, when=90) | waited(1, 10), b=running()),
        ["start a/2"],
    ),
    "one in back-off does not hold up the next one": (
        plain(a=ended(1, 1) | waited(1, 10)),
        ["start b/0"],
    ),
    "a start decided before a crash is not made to wait again": (
        plain(a=ended(1, 1, when=60) | waited(2, 80), b=running()),
        ["start a/2"],
    ),
    "a refused start does not hold up the next one": (
        plain(a={"refusal": Refusal("CreateContainerConfigError", "no", BOOT + 105)}),
        ["start b/0"],
    ),
    "a refused start of an init container holds up all that come after it": (
        full(i1={"refusal": Refusal("CreateContainerConfigError", "no", BOOT + 105)}),
        [],
    ),
    "a refused start of a sidecar holds up all that come after it": (
        full(i1=ended(0), s1={"refusal": Refusal("CreateContainerConfigError", "no", BOOT + 105)}),
        [],
    ),
    "a refused start is tried again when its time has come": (
        plain(a={"refusal": Refusal("CreateContainerConfigError", "no", BOOT + 100)}),
        ["start a/0"],
    ),
}


@pytest.mark.parametrize("case", STARTING)
def test_starting(case):
    """§4.1.1, §4.1.2, §4.2.1, §4.2.2, §4.3.1, §4.3.2, §4.3.5, §3.1.1, §3.1.3, §3.1.6, §3.1.7"""
    known, expected = STARTING[case]
    assert in_words(decide(known, NOW).actions) == expected


STOPPING = {
    "all apps get the stop signal at once": (
        plain(a=running(), b=running(), fields={"termination": ending()}),
        ["stop a/0", "stop b/0"],
    ),
    "the stop signal is sent once": (
        plain(a=running(signalled=100), b=running(), fields={"termination": ending()}),
        ["stop b/0"],
    ),
    "nothing that has not started starts any more": (
        plain(fields={"termination": ending()}),
        ["finish"],
    ),
    "nothing that ended starts again": (
        plain(a=ended(1), b=ended(0), fields={"termination": ending()}),
        ["finish"],
    ),
    "a sidecar waits for the apps": (
        full(**DONE, a=running(signalled=100), fields={"termination": ending()}),
        [],
    ),
    "a sidecar waits for an app that is just being started": (
        full(
            **DONE,
            fields={
                "termination": ending(),
                "in_flight": frozenset({StartContainer(instance("a"))}),
            },
        ),
        [],
    ),
    "the last sidecar is stopped when the apps have ended": (
        full(**DONE, a=ended(0), b=ended(0), fields={"termination": ending()}),
        ["stop s1/0"],
    ),
    "a regular init container waits for nobody, a sidecar not for it": (
        full(i1=ended(0), s1=running(), i2=running(), fields={"termination": ending()}),
        ["stop s1/0", "stop i2/0"],
    ),
    "at the deadline a sidecar is stopped before its turn": (
        full(
            **DONE,
            a=running(signalled=70, killed=at(100)),
            fields={"termination": ending(70, 30)},
        ),
        ["stop s1/0"],
    ),
    "no kill before the deadline": (
        plain(a=running(signalled=71), b=ended(0), fields={"termination": ending(71)}),
        [],
    ),
    "kill at the deadline": (
        plain(a=running(signalled=70), b=ended(0), fields={"termination": ending(70)}),
        ["kill a/0"],
    ),
    "no kill within two seconds of the stop signal": (
        plain(a=running(signalled=98.5), b=ended(0), fields={"termination": ending(70)}),
        [],
    ),
    "kill two seconds after a late stop signal": (
        plain(a=running(signalled=98), b=ended(0), fields={"termination": ending(70)}),
        ["kill a/0"],
    ),
    "no second kill while the first one is in flight": (
        plain(
            a=running(signalled=70),
            b=ended(0),
            fields={
                "termination": ending(70),
                "in_flight": frozenset({KillContainer(instance("a"))}),
            },
        ),
        [],
    ),
    "no second kill right after the first": (
        plain(
            a=running(signalled=70, killed=at(96)),
            b=ended(0),
            fields={"termination": ending(70)},
        ),
        [],
    ),
    "a second kill when the end does not come": (
        plain(
            a=running(signalled=70, killed=at(95)),
            b=ended(0),
            fields={"termination": ending(70)},
        ),
        ["kill a/0"],
    ),
    "kill at once, also what was not signalled, sidecars too": (
        full(**DONE, a=running(), b=running(), fields={"termination": ending(kill=True)}),
        ["kill s1/0", "kill a/0", "kill b/0"],
    ),
    "the sandbox is not stopped under a start in flight": (
        plain(
            fields={
                "termination": ending(),
                "in_flight": frozenset({StartContainer(instance("a"))}),
            }
        ),
        [],
    ),
    "the sandbox is not stopped before all answers are in": (
        plain(
            a=ended(143),
            fields={
                "termination": ending(),
                "in_flight": frozenset({StopContainer(instance("a"))}),
            },
        ),
        [],
    ),
    "the sandbox is stopped also when it was never ready": (
        plain(fields={"termination": ending(), "sandbox": Sandbox.ABSENT}),
        ["finish"],
    ),
    "the sandbox is not stopped twice": (
        plain(fields={"termination": ending(), "sandbox": Sandbox.STOPPED}),
        [],
    ),
    "a failed stop of the sandbox waits its time": (
        plain(
            fields={
                "termination": ending(),
                "retries": (Retry(FinishPod(), BOOT + 101, "busy"),),
            }
        ),
        [],
    ),
}


@pytest.mark.parametrize("case", STOPPING)
def test_stopping(case):
    """§7.2.2, §7.2.3, §7.3.2, §7.4.1, §7.4.2, §7.4.3, §7.5"""
    known, expected = STOPPING[case]
    assert in_words(decide(known, NOW).actions) == expected


RULES = (rule("In", 3), rule("NotIn", 0, 3, 4))
OWN_POLICIES = {
    "a rule matches": (container("a", restart_policy="Never", restart_policy_rules=RULES), 3, True),
    "a later rule matches": (
        container("a", restart_policy="Never", restart_policy_rules=RULES), 5, True,
    ),
    "no rule matches, own Never": (
        container("a", restart_policy="Never", restart_policy_rules=RULES), 4, False,
    ),
    "no rule matches, own OnFailure": (
        container("a", restart_policy="OnFailure", restart_policy_rules=RULES), 4, True,
    ),
    "own OnFailure and a success": (container("a", restart_policy="OnFailure"), 0, False),
    "own Always and a success": (container("a", restart_policy="Always"), 0, True),
    "own Never": (container("a", restart_policy="Never"), 1, False),
}  # fmt: skip


@pytest.mark.parametrize("policy", ["Always", "OnFailure", "Never"])
@pytest.mark.parametrize("case", OWN_POLICIES)
def test_a_containers_own_policy_comes_before_the_pods(case, policy):
    """§3.1.2, §3.1.4"""
    spec, code, again = OWN_POLICIES[case]
    known = record(pod(spec, restart_policy=policy), a=ended(code))
    assert in_words(decide(known, NOW).actions) == (["start a/1"] if again else ["finish"])


def test_a_lost_container_is_a_failure_to_every_policy():
    """§2.1.5, §3.1.3"""
    for policy, expected in (("Always", ["start a/1"]), ("OnFailure", ["start a/1"]), ("Never", ["finish"])):  # fmt: skip  # noqa: E501
        known = record(
            pod("a", restart_policy=policy), a=ended(137, reason="ContainerStatusUnknown")
        )
        plan = decide(known, NOW)
        assert in_words(plan.actions) == expected
        assert plan.status.phase == ("Failed" if policy == "Never" else "Running")


WAKING = {
    "never when nothing is due": (plain(a=running(), b=running()), None),
    "at the end of the shortest back-off": (
        plain(a=ended(1, 1, when=95) | waited(1, 10), b=ended(1, 2, when=96) | waited(2, 20)),
        105,
    ),
    "when a refused start is tried again": (
        plain(a={"refusal": Refusal("X", "no", BOOT + 107)}, b=running()),
        107,
    ),
    "at the active deadline": (
        record(pod("a", active_deadline_seconds=130), a=running()),
        130,
    ),
    "at the kill": (
        plain(a=running(signalled=80), fields={"termination": ending(80)}),
        110,
    ),
    "at the kill again": (
        plain(a=running(signalled=70, killed=at(99)), fields={"termination": ending(70)}),
        104,
    ),
    "at the deadline for a sidecar whose turn has not come": (
        full(**DONE, a=running(signalled=70, killed=at(99)), fields={"termination": ending(73)}),
        103,
    ),
    "when a failed action is tried again": (
        plain(
            fields={
                "sandbox": Sandbox.ABSENT,
                "retries": (Retry(CreateSandbox(), BOOT + 109, "disk full"),),
            }
        ),
        109,
    ),
}


@pytest.mark.parametrize("case", WAKING)
def test_the_next_look_is(case):
    """§3.2.8, §3.2.11, §7.7: exactly when it is due, without jitter."""
    known, expected = WAKING[case]
    wake = decide(known, NOW).wake_at
    assert wake == (None if expected is None else BOOT + expected)


def test_a_termination_that_nobody_asked_for_takes_the_grace_of_the_spec():
    """§7.5, §4.2.1, §7.2.1"""
    for cause, known in {
        Cause.COMPLETION: full("Never", **DONE, a=ended(0), b=ended(0)),
        Cause.INIT_FAILURE: full("Never", i1=ended(0), s1=running(), i2=ended(1)),
    }.items():
        termination = decide(known, NOW).termination
        assert termination is not None
        assert termination.cause is cause
        assert termination.deadline == BOOT + 130
    hasty = record(
        pod("a", init=[sidecar("s")], restart_policy="Never", termination_grace_period_seconds=0),
        s=running(),
        a=ended(0),
    )
    termination = decide(hasty, NOW).termination
    assert termination is not None
    assert termination.deadline == BOOT + 101


def test_a_pod_that_has_ended_does_not_exceed_its_deadline_any_more():
    """§7.7, §1.1.7"""
    life = Life(pod(active_deadline_seconds=5, restart_policy="Never"), {"app": exits(0, 1)}).run()
    plan = decide(life.record, NOW)
    assert plan.termination is not None
    assert plan.termination.cause is Cause.COMPLETION
    assert (plan.events, plan.wake_at, plan.status.phase) == ((), None, "Succeeded")


def test_what_a_termination_waits_for_is_told():
    """§7.4.2, §7.2.2: who has the signal, who waits for its turn, and when SIGKILL comes."""
    known = full(
        **DONE | {"s1": running(2)},
        a=running(1, signalled=100),
        b=ended(0),
        fields={"termination": ending(100, 1)},
    )
    first, second = waiting_for(known)
    assert (first.id, first.signalled, first.kill_at) == (instance("s1", 2), None, BOOT + 103)
    assert (second.id, second.signalled, second.kill_at) == (instance("a", 1), at(100), BOOT + 102)
    assert second.pid == 101
    assert waiting_for(full(**DONE)) == ()


def test_done_means_that_the_sandbox_is_stopped_and_nothing_is_in_flight():
    """§1.1.12"""
    over = plain("Never", a=ended(0), b=ended(0))
    assert not decide(over, NOW).done
    stopped = replace(over, sandbox=Sandbox.STOPPED, termination=ending(cause=Cause.COMPLETION))
    assert decide(stopped, NOW).done
    late = replace(stopped, in_flight=frozenset({KillContainer(instance("a"))}))
    assert not decide(late, NOW).done
