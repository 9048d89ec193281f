"""What is said of hooks: one line for each end, whatever else the same round has brought."""

from __future__ import annotations

from math import inf

import pytest
from msgspec import Struct

from supervisor import narration
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
