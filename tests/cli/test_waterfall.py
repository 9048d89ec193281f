"""The end of a pod as a waterfall: what is drawn for whole lives, and when `run` shows it."""

from __future__ import annotations

import json
import re
import signal
from typing import Any

import pytest

from supervisor import waterfall
from supervisor.api import v1
from tests import support
from tests.lifecycle.lives import (
    FOREVER,
    HTTP,
    Life,
    Play,
    Run,
    container,
    exits,
    fails_from,
    pod,
    pre_stop,
    probe,
    sidecar,
)
from tests.support import Place, one_way, sh

DEAF = Run(stops_in=None, unkillable=0.25)


def ends(seconds: float, code: int = 0) -> Run:
    """So long after its stop signal."""
    return Run(stops_in=seconds, stop_code=code)


def drawn(life: Life) -> str:
    return waterfall.draw(life.run().record, "web")


# --- drawing -------------------------------------------------------------------------------------


def test_sidecars_wait_for_the_app_and_for_each_other():
    """§7.4.1, §6.2.7"""
    life = Life(
        pod(container("app", **pre_stop()), init=[sidecar("one"), sidecar("two")]),
        {"app": ends(1), "one": ends(0.5), "two": ends(2.5)},
        plays={"app preStop": Play(lasts=4)},
    ).delete(10)
    assert drawn(life) == (
        "shutdown of web: 8.0 s (deletion, grace 30 s; out of endpoints at once)\n"
        "  web/one  waits its turn  [======================================  ]"
        "  0.0 - 7.5 s\n"
        "  web/one  SIGTERM         [                                     ===]"
        "  7.5 - 8.0 s     exit 0 Completed\n"
        "  web/two  waits its turn  [=========================               ]"
        "  0.0 - 5.0 s\n"
        "  web/two  SIGTERM         [                         =============  ]"
        "  5.0 - 7.5 s     exit 0 Completed\n"
        "  web/app  preStop         [====================                    ]"
        "  0.0 - 4.0 s     succeeded\n"
        "  web/app  SIGTERM         [                    =====               ]"
        "  4.0 - 5.0 s     exit 0 Completed\n"
    )


def test_who_is_killed_was_alive_until_then_and_has_a_name():
    words = ("sh", "-c", "trap '' TERM;\nwhile sleep 1; do echo I shall not go; done")
    deaf = v1.Container(name="app", command=words, **pre_stop())
    life = Life(pod(deaf), {"app": DEAF}, plays={"app preStop": Play(lasts=1)}).delete(10, 3)
    assert drawn(life) == (
        "shutdown of web: 3.2 s (deletion, grace 3 s; out of endpoints at once)\n"
        "  web/app  preStop  [============                            ]"
        "  0.0 - 1.0 s     succeeded\n"
        "  web/app  SIGTERM  [            =========================   ]"
        "  1.0 - 3.0 s     still alive: pid 100, `sh -c trap '' TERM; while sleep 1; do ec…`\n"
        "  web/app  SIGKILL  [                                    ====]"
        "  3.0 - 3.2 s     exit 137 Error\n"
    )


def test_an_image_that_is_killed_is_called_one_and_not_a_command():
    deaf = v1.Container(name="app", image="registry.example/web:1", args=("8080",))
    told = drawn(Life(pod(deaf), {"app": DEAF}).delete(10, 2))
    assert "still alive: pid 100, image registry.example/web:1\n" in told


def test_a_grace_that_was_shortened_says_when_and_what_was_left():
    """§7.2.4"""
    life = Life(pod("app"), {"app": DEAF}).delete(10, 20).delete(12, 5)
    assert drawn(life) == (
        "shutdown of web: 7.2 s"
        " (deletion, grace 20 s; out of endpoints at once; shortened after 2.0 s: 5 s left)\n"
        "  web/app  SIGTERM  [======================================= ]"
        "  0.0 - 7.0 s     still alive: pid 100, `app`\n"
        "  web/app  SIGKILL  [                                      ==]"
        "  7.0 - 7.2 s     exit 137 Error\n"
    )


def test_a_pre_stop_may_use_up_the_grace():
    """§6.2.4"""
    life = Life(
        pod(container("app", **pre_stop())),
        {"app": DEAF},
        plays={"app preStop": Play(lasts=60)},
    ).delete(10, 6)
    assert drawn(life) == (
        "shutdown of web: 8.2 s (deletion, grace 6 s; out of endpoints at once)\n"
        "  web/app  preStop  [=============================           ]"
        "  0.0 - 6.0 s     grace used up\n"
        "  web/app  SIGTERM  [                             ========== ]"
        "  6.0 - 8.0 s     still alive: pid 100, `app`\n"
        "  web/app  SIGKILL  [                                      ==]"
        "  8.0 - 8.2 s     exit 137 Error\n"
    )


def test_a_request_that_outlives_its_container_is_what_the_pod_waits_for():
    """§6.2.3"""
    life = Life(
        pod(container("app", **pre_stop(**HTTP))),
        {"app": exits(0, after=12)},
        plays={"app preStop": Play(lasts=8)},
    ).delete(10)
    assert drawn(life) == (
        "shutdown of web: 8.0 s (deletion, grace 30 s; out of endpoints at once)\n"
        "  web/app  preStop         [========================================]"
        "  0.0 - 8.0 s     succeeded\n"
        "  web/app  ends by itself  [          =                             ]"
        "  2.0 - 2.0 s     exit 0 Completed\n"
    )


def test_what_began_before_the_end_of_the_pod_is_drawn_from_its_edge():
    """§7.6.1"""
    live = probe(failure_threshold=1, period_seconds=5)
    life = Life(
        pod(container("app", liveness_probe=live, **pre_stop())),
        {"app": ends(6, 143)},
        answers={"app liveness": fails_from(5)},
        plays={"app preStop": Play(lasts=3)},
    ).delete(6)
    assert drawn(life) == (
        "shutdown of web: 8.0 s (deletion, grace 30 s; out of endpoints at once)\n"
        "  web/app  preStop  [==========                              ]"
        "  0.0 - 2.0 s     succeeded\n"
        "  web/app  SIGTERM  [          ==============================]"
        "  2.0 - 8.0 s     exit 143 Error\n"
    )


def test_hooks_of_an_instance_that_had_ended_before_are_not_shown():
    live = probe(failure_threshold=1, period_seconds=5)
    life = Life(
        pod(container("app", liveness_probe=live, **pre_stop())),
        {"app": ends(1)},
        answers={"app liveness": fails_from(5)},
        plays={"app preStop": Play(lasts=3)},
    ).delete(20)
    assert life.run().ends == [(9, "app/0", 0), (18, "app/1", 0)]
    assert waterfall.draw(life.record, "web") == "shutdown of web: 0.0 s (deletion, grace 30 s)\n"


def test_a_pod_that_ends_by_itself_has_a_shutdown_too():
    """§7.5"""
    life = Life(
        pod("app", init=[sidecar("log")], restart_policy="Never"),
        {"app": exits(0, after=3), "log": ends(2)},
    )
    assert drawn(life) == (
        "shutdown of web: 2.0 s (completion, grace 30 s; out of endpoints at once)\n"
        "  web/log  SIGTERM  [========================================]"
        "  0.0 - 2.0 s     exit 0 Completed\n"
    )


def test_a_pod_that_goes_on_has_none():
    life = Life(pod("app"), {"app": FOREVER}).run(until=10)
    assert waterfall.draw(life.record, "web") == ""
    assert not waterfall.is_remarkable(life.record)
    assert waterfall.annotated(life.record).metadata.annotations == {}


@pytest.mark.parametrize(
    ("run", "remarkable"),
    [
        pytest.param(ends(0.9), False, id="quick and clean"),
        pytest.param(ends(1.1), True, id="slow"),
        pytest.param(Run(stops_in=None, unkillable=0.1), True, id="killed"),
    ],
)
def test_a_slow_shutdown_or_a_kill_is_worth_a_look(run: Run, remarkable: bool):
    life = Life(pod("app"), {"app": run}).delete(5, 1)
    assert waterfall.is_remarkable(life.run().record) is remarkable


# --- data ----------------------------------------------------------------------------------------


def test_the_same_as_data():
    life = Life(
        pod(container("app", **pre_stop())), {"app": DEAF}, plays={"app preStop": Play(lasts=1.5)}
    ).delete(10, 3)
    annotated = waterfall.annotated(life.run().record)
    assert list(annotated.metadata.annotations) == ["podvisor/termination-timeline"]
    marks: list[dict[str, Any]] = json.loads(annotated.metadata.annotations[waterfall.ANNOTATION])
    assert {mark.pop("pid", 100) for mark in marks} == {100}
    began = marks[0]["time"]
    assert marks == [
        {"seconds": 0.0, "time": began, "event": "stopping", "note": "deletion, grace 3 s"},
        {"seconds": 0.0, "time": began, "event": "endpoints off"},
        {"seconds": 0.0, "time": began, "event": "alive", "container": "app", "note": "app"},
        {"seconds": 0.0, "time": began, "event": "preStop begins", "container": "app"},
        {
            "seconds": 1.5,
            "time": "2027-01-15T08:00:11Z",
            "event": "preStop ends",
            "container": "app",
            "note": "succeeded",
        },
        {
            "seconds": 1.5,
            "time": "2027-01-15T08:00:11Z",
            "event": "stop signal",
            "container": "app",
            "note": "SIGTERM",
        },
        {
            "seconds": 3.5,
            "time": "2027-01-15T08:00:13Z",
            "event": "SIGKILL",
            "container": "app",
        },
        {
            "seconds": 3.75,
            "time": "2027-01-15T08:00:13Z",
            "event": "exit",
            "container": "app",
            "note": "137 Error",
        },
        {"seconds": 3.75, "time": "2027-01-15T08:00:13Z", "event": "over", "note": "Failed"},
    ]


# --- when `run` shows it -------------------------------------------------------------------------

OBEYS = "trap 'exit 0' TERM; echo up; while :; do sleep 0.02; done"
REFUSES = "trap '' TERM; echo up; while :; do sleep 0.02; done"


def shutdown(place: Place, *words: str, code: str) -> str:
    """What `run` prints of the shutdown of a pod with a second of grace."""
    one = support.pod("web", sh("app", code), terminationGracePeriodSeconds=1)
    session = place.start(one, *words)
    session.until_logged("web/app | up")
    session.signal(signal.SIGTERM)
    _, _, shown = session.wait(143).err.partition("\nshutdown of ")
    return shown


@one_way
@pytest.mark.usefixtures("nothing_left")
def test_run_shows_a_shutdown_that_needed_sigkill_or_when_it_is_asked_to(place: Place):
    killed = shutdown(place, code=REFUSES)
    assert killed.startswith("web: ")
    rows = [re.sub(r"[\[\]= ]+", " ", row).split() for row in killed.splitlines()[1:]]
    assert [row[:2] for row in rows] == [["web/app", "SIGTERM"], ["web/app", "SIGKILL"]]
    assert "still alive: pid" in killed
    assert "`sh -c trap '' TERM" in killed
    assert killed.splitlines()[-1].endswith("exit 137 Error")

    asked = shutdown(place, "--timeline", code=OBEYS)
    assert asked.startswith("web: 0.")
    assert asked.splitlines()[1].endswith("exit 0 Completed")


@one_way
@pytest.mark.usefixtures("nothing_left")
def test_run_says_nothing_of_a_quick_and_clean_one(place: Place):
    session = place.start(support.pod("web", sh("app", OBEYS)))
    session.until_logged("web/app | up")
    session.signal(signal.SIGTERM)
    finished = session.wait(143)
    duration = float(finished.table()["web/app"][3].split()[0])
    assert "web/app * exited with code 0" in finished.err
    # On a machine so slow that it took over a second it is worth a look after all.
    assert "shutdown of web" not in finished.err or duration > 1
