"""What is said of hooks: one line for each end, whatever else the same round has brought."""

from __future__ import annotations

from math import inf

import msgspec
import pytest
from msgspec import Struct
from msgspec.structs import replace

from supervisor import narration
from supervisor.api import v1
from supervisor.lifecycle import facts
from supervisor.lifecycle.facts import ContainerId, HookKind
from supervisor.lifecycle.record import observe
from tests.lifecycle.lives import (
    HTTP,
    UID,
    Life,
    Play,
    Run,
    at,
    container,
    exits,
    pod,
    post_start,
    pre_stop,
)

DEAF = Run(stops_in=None)


class Case(Struct):
    hooked: dict[str, object]
    play: Play
    main: Run
    said: str


PRE, POST = pre_stop(), post_start()
CASES = {
    "success": Case(PRE, Play(lasts=2), DEAF, "preStop done in 2.0 s"),
    "failure": Case(PRE, Play(lasts=1, ok=False), DEAF, "preStop failed after 1.0 s: it said no"),
    "the grace is used up": Case(
        PRE,
        Play(lasts=inf),
        DEAF,
        "preStop has taken all of the grace, 5.0 s: not waited for longer",
    ),
    "cancelled": Case(
        POST, Play(lasts=inf), DEAF, "postStart cancelled after 10.0 s: the pod is stopping"
    ),
    "a failed postStart says what follows": Case(
        POST,
        Play(lasts=1, ok=False),
        DEAF,
        "postStart failed after 1.0 s: it said no; stopping it, grace 30 s",
    ),
    "a request without a container": Case(
        post_start(**HTTP),
        Play(lasts=inf),
        exits(0, after=3),
        "postStart not waited for longer after 5.0 s: the container has ended",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_an_end_of_a_hook_is_one_line(case: str):
    """§6.1.3, §6.1.6, §6.2.4, §6.2.6"""
    given = CASES[case]
    which = "preStop" if given.hooked is PRE else "postStart"
    life = Life(
        pod(container("app", **given.hooked), restart_policy="Never"),
        {"app": given.main},
        plays={f"app {which}": given.play},
    ).delete(10, 5)
    said: list[str] = []
    before = life.run(until=0).record
    for second in range(1, 20):
        if life.plan is not None and life.plan.done:
            break
        after = life.run(until=second).record
        said += [line.text for line in narration.changes(before, after)]
        before = after
    assert [line for line in said if line.startswith(which)] == [given.said]


def test_the_end_of_its_container_is_said_after_that_of_a_hook():
    """§6.2.3"""
    life = Life(pod(container("app", **PRE)), plays={"app preStop": Play(lasts=inf)}).delete(10)
    before = life.run(until=12).record
    gone = facts.ContainerExited(at(12), ContainerId(UID, "app", 0), 0)
    assert [line.text for line in narration.changes(before, observe(before, gone))] == [
        "preStop cut off after 2.0 s: the container has ended",
        "exited with code 0 after 12.0 s",
    ]


def test_a_repetition_is_said():
    """§6.4.2"""
    life = Life(pod(container("app", **PRE)), plays={"app preStop": Play(lasts=inf)}).delete(10)
    before = observe(life.run(until=12).record, facts.Adopted(at(12)))
    done = facts.HookFinished(at(13), ContainerId(UID, "app", 0), HookKind.PRE_STOP, ok=True)
    assert [line.text for line in narration.changes(before, observe(before, done))] == [
        "preStop done in 3.0 s (run 2 times: podvisor was interrupted)"
    ]


@pytest.mark.parametrize(
    ("code", "said"),
    [(0, "exited with code 0 after 12.0 s: all 7 sent"), (3, "exited with code 3 after 12.0 s: x")],
)
def test_the_last_words_of_a_container_are_said_however_it_ended(code: int, said: str):
    before = Life(pod(container("app"))).run(until=12).record
    words = said.rpartition(": ")[2]
    gone = facts.ContainerExited(at(12), ContainerId(UID, "app", 0), code, message=f"{words}\n")
    assert said in [line.text for line in narration.changes(before, observe(before, gone))]


# --- where only objects are known ----------------------------------------------------------------


def status(number: int, *, ready: bool = False, last: int | None = None, **state: object) -> object:
    """Of the container `app`, whose instance `last` ended with that exit code."""
    made = {"name": "app", "image": "", "imageID": "", "ready": ready, "restartCount": number}
    ended = {} if last is None else {"lastState": {"terminated": end(last)}}
    return {**made, "state": state, **ended}


def end(code: int, reason: str = "Error") -> dict[str, object]:
    times = {"startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:07Z"}
    return {"exitCode": code, "reason": reason, **times}


def seen(status: object | None, phase: str = "Running", *, ready: str = "False") -> v1.Pod:
    probe = {"readinessProbe": {"tcpSocket": {"port": 1}}}
    return msgspec.convert(
        {
            "metadata": {"name": "web"},
            "spec": {"containers": [{"name": "app", **probe}]},
            "status": {
                "phase": phase,
                "conditions": [{"type": "Ready", "status": ready}],
                "containerStatuses": [] if status is None else [status],
            },
        },
        v1.Pod,
    )


RUNS: dict[str, object] = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
BACK_OFF: dict[str, object] = {
    "waiting": {
        "reason": "CrashLoopBackOff",
        "message": "back-off 10s restarting failed container=app pod=web",
    }
}
SEEN: dict[str, tuple[v1.Pod | None, v1.Pod, list[tuple[str, int | None, int | None]]]] = {
    "a first start": (
        seen(None, "Pending"),
        seen(status(0, **RUNS)),
        [("started", 0, None), ("Running", None, None)],
    ),
    "a pod that is new and over": (
        None,
        seen(status(0, terminated=end(0, "Completed")), "Succeeded"),
        [
            ("started", 0, None),
            ("exited with code 0 after 7 s", None, 0),
            ("Succeeded", None, None),
        ],
    ),
    "an end": (
        seen(status(0, **RUNS)),
        seen(status(0, terminated=end(137, "OOMKilled"))),
        [("exited with code 137 (SIGKILL) after 7 s (OOMKilled)", None, 0)],
    ),
    "an end that was waited out already": (
        seen(status(0, **RUNS)),
        seen(status(0, last=1, **BACK_OFF)),
        [
            ("exited with code 1 after 7 s", None, 0),
            ("CrashLoopBackOff: back-off 10s restarting", None, None),
        ],
    ),
    "a restart after it": (
        seen(status(0, last=1, **BACK_OFF)),
        seen(status(1, last=1, **RUNS)),
        [("started, restart 1", 1, None)],
    ),
    "an end and the start after it at once": (
        seen(status(0, **RUNS)),
        seen(status(1, last=1, **RUNS)),
        [("exited with code 1 after 7 s", None, 0), ("started, restart 1", 1, None)],
    ),
    "instances that came and went unseen": (
        seen(status(0, **RUNS)),
        seen(status(3, last=2, **RUNS)),
        [
            ("started, restart 2", 2, None),
            ("exited with code 2 after 7 s", None, 2),
            ("started, restart 3", 3, None),
        ],
    ),
    "a start that failed": (
        seen(None),
        seen(status(0, terminated={**end(128, "StartError"), "message": "no such file"})),
        [("cannot start: no such file", None, 0)],
    ),
    "an end without a start, of a pod that was deleted while it initialized": (
        seen(status(0, waiting={"reason": "PodInitializing"})),
        seen(status(0, terminated={"exitCode": 137, "reason": "ContainerStatusUnknown"}), "Failed"),
        [("has never started", None, None), ("Failed", None, None)],
    ),
    "what it waits for": (
        seen(status(0, waiting={"reason": "ContainerCreating"})),
        seen(status(0, waiting={"reason": "CreateContainerConfigError", "message": "no secret"})),
        [("CreateContainerConfigError: no secret", None, None)],
    ),
    "the hook that has failed": (
        seen(status(0, waiting={"reason": "ContainerCreating"})),
        seen(
            status(
                0,
                waiting={
                    "reason": "PostStartHookError",
                    "message": 'Exec lifecycle hook ([x]) for Container "app" in Pod '
                    "\"web_default(u)\" failed - error: command 'x' exited with 3: no",
                },
            )
        ),
        [("PostStartHookError: command 'x' exited with 3: no", None, None)],
    ),
    "ready": (
        seen(status(0, **RUNS)),
        seen(status(0, ready=True, **RUNS), ready="True"),
        [("ready", None, None), ("Ready", None, None)],
    ),
    "not ready any more": (
        seen(status(0, ready=True, **RUNS), ready="True"),
        seen(status(0, **RUNS)),
        [("not ready", None, None)],
    ),
    "nothing": (seen(status(0, **RUNS)), seen(status(0, **RUNS)), []),
}


@pytest.mark.parametrize(("before", "after", "told"), SEEN.values(), ids=SEEN)
def test_what_happened_between_two_objects_of_a_pod(
    before: v1.Pod | None, after: v1.Pod, told: list[tuple[str, int | None, int | None]]
) -> None:
    lines = narration.seen(before, after)
    assert [(line.text, line.opens, line.closes) for line in lines] == told


def test_a_container_that_was_added_meanwhile_is_told_like_the_others():
    life = Life(pod(container("app")), script={"dbg": exits(0, after=5)}).run(10)
    spec = replace(
        life.record.pod.spec,
        ephemeral_containers=(v1.EphemeralContainer(name="dbg", command=("x",)),),
    )
    said, before = [], life.record
    new = replace(life.record.pod, spec=spec)
    life.tell(10, lambda now: facts.PodUpdated(now, new))
    for moment in range(11, 18):
        life.run(moment)
        said += [(line.container, line.text) for line in narration.changes(before, life.record)]
        before = life.record
    assert said == [("dbg", "started"), ("dbg", "exited with code 0 after 5.0 s")]


def test_what_a_container_says_cannot_take_over_a_terminal() -> None:
    """A probe's output and a termination message are the container's own words."""
    said = narration.first_words("gone\x1b]0;mine\x07 \x1b[2J\x9b31m\n\tand back")
    assert said == r"gone\x1b]0;mine\x07 \x1b[2J\x9b31m and back"
