"""Pods that run on until they are deleted: one `podvisor run`, one SIGTERM, what each pod shows.

The names in brackets are those of the acceptance scenarios.
"""

from __future__ import annotations

import re
import signal
from collections import Counter
from itertools import pairwise

import pytest

from tests.support import (
    FOREVER,
    Finished,
    Manifest,
    Place,
    Pod,
    Session,
    Way,
    container,
    in_group,
    in_pidns,
    pod,
    python,
    sh,
    sidecar,
    step,
)

pytestmark = pytest.mark.usefixtures("nothing_left")

GRACE = {"terminationGracePeriodSeconds": 3}
ENOUGH = {"terminationGracePeriodSeconds": 60}  # for who ends by itself, on a busy machine too
NEVER = {"restartPolicy": "Never"}
# pid 1 that does nothing about signals.
BLUNT = ("sleep", str(FOREVER))


def the_pods() -> list[Manifest]:
    return [
        # init containers and restarts
        pod("a05", step("app", FOREVER), init=(step("one"), step("two")), **GRACE),
        pod("a08", step("app", 0.1, 1), init=tuple(step(f"init{i}") for i in (1, 2, 3)), **GRACE),
        pod("b05", step("app"), init=(step("init", 0, 1), sidecar(step("side"))), **GRACE),
        pod(
            "b06", step("app"), init=(sidecar(step("side", 0.4, 1)), step("init", 0.2, 1)), **GRACE
        ),
        pod("f01", step("app", 0.1, 1), **GRACE),
        pod("f05", step("app", 0), **GRACE),
        pod(
            "f09",
            step("final", 0, 1, **NEVER),
            step("again", 0.1, 1),
            restartPolicy="OnFailure",
            **GRACE,
        ),
        # the end
        pod("e01", step("deaf", FOREVER, stop="deaf"), **GRACE),
        pod("e04", step("deaf", FOREVER, stop="deaf"), terminationGracePeriodSeconds=-1),
        pod("e14-0", step("app", FOREVER), **ENOUGH),
        pod("e14-143", step("app", FOREVER, stop_code=143), **ENOUGH),
        # pid 1
        pod("blunt", container("app", *BLUNT), sh("shell", "sleep 1000; echo down"), **GRACE),
        pod(
            "handler",
            python(
                "app",
                "import signal, sys, time\n"
                "signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('closing')))\n"
                "print('serving', flush=True)\n"
                "time.sleep(1000)",
            ),
            **ENOUGH,
        ),
        pod(
            "sides",
            step("app", FOREVER, stop=0.2),
            init=tuple(sidecar(step(f"side{i}", FOREVER, stop=0.2)) for i in (1, 2)),
            **ENOUGH,
        ),
    ]


def is_under_way(session: Session) -> bool:
    """Whether every pod has come as far as its test wants."""
    counts = {
        (pod, step, what): count
        for pod in ("a05", "a08", "b05", "b06", "f01", "f05", "f09", "e01", "e04", "sides")
        for (step, what), count in Counter((s.name, s.what) for s in session.steps(pod)).items()
    }
    wanted = {
        ("a05", "app", "began"): 1,
        ("a08", "app", "began"): 4,
        ("b05", "init", "ended"): 4,
        ("b06", "side", "began"): 3,
        ("b06", "init", "ended"): 3,
        ("f01", "app", "began"): 5,
        ("f05", "app", "ended"): 4,
        ("f09", "again", "began"): 3,
        ("e01", "deaf", "began"): 1,
        ("e04", "deaf", "began"): 1,
        ("sides", "app", "began"): 1,
        ("sides", "side1", "began"): 1,
        ("sides", "side2", "began"): 1,
    }
    return all(counts.get(key, 0) >= number for key, number in wanted.items()) and all(
        f"{name} began" in [f"{s.name} {s.what}" for s in session.steps(pod)]
        for pod, name in (("e14-0", "app"), ("e14-143", "app"))
    )


@pytest.fixture(scope="module")
def finished(way: Way, shared_place: Place) -> Finished:
    session = shared_place.start(*the_pods(), "-o", "json", "--backoff-initial", "100ms")
    session.until(lambda: is_under_way(session), "all pods to be under way")
    session.until(lambda: "| serving" in session.err, "the handler to be in place")
    session.until(lambda: re.search(r"blunt/shell +\* started", session.err), "the shell")
    session.signal(signal.SIGTERM)
    return session.wait(143)


@pytest.fixture(scope="module")
def _parsed(finished: Finished) -> dict[str, Pod]:
    return finished.pods


@pytest.fixture
def pods(_parsed: dict[str, Pod], finished: Finished) -> dict[str, Pod]:
    print(finished.err)  # shown when a test fails
    return _parsed


def before_the_end(lines: list[str]) -> list[str]:
    at = next(i for i, line in enumerate(lines) if line.startswith("stopping"))
    return lines[:at]


# --- while they ran ------------------------------------------------------------------------------


def test_a_long_running_app_follows_its_init_containers(pods: dict[str, Pod]):
    """[A05]"""
    pod = pods["a05"]

    assert pod.walk()[:5] == ["one began", "one ended", "two began", "two ended", "app began"]
    assert before_the_end(pod.said()) == ["Running"]
    assert pod.conditions["Initialized"]["status"] == "True"


def test_init_containers_do_not_run_again_when_the_app_is_restarted(pods: dict[str, Pod]):
    """[A08]"""
    pod = pods["a08"]
    began = Counter(step.name for step in pod.steps if step.what == "began")

    assert began["app"] >= 4
    assert [began[f"init{i}"] for i in (1, 2, 3)] == [1, 1, 1]
    assert [pod.containers[f"init{i}"]["restartCount"] for i in (1, 2, 3)] == [0, 0, 0]


def test_nothing_starts_behind_an_init_container_that_keeps_failing(pods: dict[str, Pod]):
    """[B05]"""
    pod = pods["b05"]

    assert pod.containers["init"]["restartCount"] >= 3
    assert {step.name for step in pod.steps} == {"init"}
    assert before_the_end(pod.said()) == []  # still Pending
    assert pod.state("side")["is"] == pod.state("app")["is"] == "waiting"


def test_a_failing_sidecar_and_a_failing_init_container_restart_side_by_side(
    pods: dict[str, Pod],
):
    """[B06]"""
    pod = pods["b06"]

    assert pod.containers["side"]["restartCount"] >= 2
    assert pod.containers["init"]["restartCount"] >= 2
    assert "app" not in {step.name for step in pod.steps}
    assert before_the_end(pod.said()) == []


def test_runs_of_a_failing_container_do_not_overlap(pods: dict[str, Pod]):
    """[F01]"""
    pod = pods["f01"]
    what = [step.what for step in pod.steps if step.what != "told"]

    assert pod.containers["app"]["restartCount"] >= 3
    assert what[0::2] == ["began"] * len(what[0::2])
    assert what[1::2] == ["ended"] * len(what[1::2])
    assert before_the_end(pod.said()) == ["Running"]


def test_the_waits_between_restarts_double_after_a_first_one_at_once(pods: dict[str, Pod]):
    """[F01]"""
    pod = pods["f01"]
    gaps = [
        began - ended
        for ended, began in zip(pod.at("app", "ended"), pod.at("app", "began")[1:], strict=False)
    ]

    # The machine may be slow, but never early.
    assert all(gap >= wait - 0.02 for gap, wait in zip(gaps, (0, 0.1, 0.2, 0.4), strict=False))
    said = [line for line in pod.said("app") if line.startswith("CrashLoopBackOff")]
    waits = [line.split("back-off ")[1].split()[0] for line in said]
    # One that is over before podvisor comes to look at the end is never told.
    assert len(waits) >= 2
    assert waits == [wait for wait in ("100ms", "200ms", "400ms", *waits[3:]) if wait in waits]


def test_a_container_that_exits_with_0_waits_like_a_failing_one(pods: dict[str, Pod]):
    """[F05]"""
    pod = pods["f05"]

    assert [s for s in pod.said("app") if s.startswith("CrashLoopBackOff: back-off ")]
    assert before_the_end(pod.said()) == ["Running"]
    assert pod.containers["app"]["lastState"]["terminated"]["reason"] == "Completed"
    assert pod.containers["app"]["lastState"]["terminated"]["exitCode"] == 0


def test_a_final_container_does_not_end_a_pod_whose_others_restart(pods: dict[str, Pod]):
    """[F09]"""
    pod = pods["f09"]

    assert before_the_end(pod.said()) == ["Running"]
    assert len(pod.at("final", "began")) == 1
    assert pod.end("final") == ("Error", 1)


# --- the end -------------------------------------------------------------------------------------


def test_a_deaf_container_is_killed_at_the_end_of_its_grace(pods: dict[str, Pod]):
    """[E01]"""
    pod = pods["e01"]
    waited = [line for line in pod.said("deaf") if line.startswith("SIGKILL")]

    assert pod.end("deaf") == ("Error", 137)
    assert len(waited) == 1
    # The grace counts from the deletion, which a busy machine makes a SIGTERM of later.
    assert float(waited[0].split()[1]) >= 1.9
    (status,) = pod.object["status"]["containerStatuses"]
    due = pod.object["metadata"]["deletionTimestamp"]
    assert status["state"]["terminated"]["finishedAt"] >= due
    assert pod.at("deaf", "ended") == []


def test_a_negative_grace_is_stored_as_one_second(pods: dict[str, Pod], finished: Finished):
    """[E04]"""
    pod = pods["e04"]

    assert pod.object["spec"]["terminationGracePeriodSeconds"] == 1
    assert "e04/pod.json:1:" in finished.err
    assert "terminationGracePeriodSeconds" in finished.err
    assert pod.end("deaf") == ("Error", 137)


def test_a_pod_waiting_in_back_off_is_deleted_at_once(place: Place):
    """[E08]"""
    session = place.start(pod("e08", step("app", 0, 1)), "-o", "json", "--backoff-initial", "1h")
    session.until_said("CrashLoopBackOff: back-off 1h0m0s")  # the longest there is
    session.signal(signal.SIGTERM)
    found = session.wait(143).pods["e08"]

    assert found.containers["app"]["restartCount"] == 1
    assert len(found.at("app", "began")) == 2


def test_a_deleted_pod_succeeds_or_fails_by_how_its_main_ended(pods: dict[str, Pod]):
    """[E14]"""
    assert pods["e14-0"].end("app") == ("Completed", 0)
    assert pods["e14-0"].phase == "Succeeded"
    assert pods["e14-143"].end("app") == ("Error", 143)
    assert pods["e14-143"].phase == "Failed"
    assert pods["e14-0"].walk() == ["app began", "app told", "app ended"]


def test_every_container_that_ran_has_ended(pods: dict[str, Pod]):
    assert {pod.phase for pod in pods.values()} <= {"Succeeded", "Failed"}
    assert not [pod.name for pod in pods.values() if "running" in str(pod.containers.values())]


def test_sidecars_stop_in_reverse_order_when_the_pod_is_deleted(pods: dict[str, Pod]):
    pod = pods["sides"]

    for before, after in pairwise(("app", "side2", "side1")):
        assert pod.at(before, "ended")[0] <= pod.at(after, "told")[0]


def test_a_stopping_pod_says_its_grace(pods: dict[str, Pod]):
    assert "stopping, grace 3 s" in pods["e01"].said()
    assert "stopping, grace 1 s" in pods["e04"].said()


# --- pid 1 ---------------------------------------------------------------------------------------


@in_pidns
def test_pid_1_without_a_handler_ignores_sigterm_until_sigkill(pods: dict[str, Pod]):
    pod = pods["blunt"]

    assert pod.end("app") == pod.end("shell") == ("Error", 137)
    assert pod.lines("shell") == []  # `echo down` never came


@in_pidns
def test_podvisor_says_why_it_waits(pods: dict[str, Pod]):
    (why,) = [line for line in pods["blunt"].said("app") if "handler" in line]
    assert why.startswith("pid 1 `sleep 1000` has no SIGTERM handler, so the kernel drops it; ")
    assert why.endswith(" s; Ctrl-C again to shorten")
    (why,) = [line for line in pods["blunt"].said("shell") if "handler" in line]
    assert why.startswith("pid 1 `sh -c …` has no SIGTERM handler, so the kernel drops it; ")
    assert [line for line in pods["e01"].said("deaf") if "ignores SIGTERM" in line]


@in_group
def test_without_namespaces_sigterm_ends_a_main_without_a_handler(pods: dict[str, Pod]):
    pod = pods["blunt"]

    assert pod.end("app") == pod.end("shell") == ("Error", 143)
    assert "exited with code 143 (SIGTERM)" in "\n".join(pod.said("app"))


@in_group
def test_mode_group_says_once_what_it_does_not_show(pods: dict[str, Pod], finished: Finished):
    assert finished.err.count("isolation mode group: mains are not pid 1 here") == 1


def test_a_main_with_a_handler_ends_by_itself(pods: dict[str, Pod]):
    pod = pods["handler"]

    assert pod.end("app") == ("Completed", 0)
    assert pod.lines("app") == ["serving", "closing"]
