"""Probes as `podvisor run` makes them: real processes, and what each probe does to them.

The names in brackets are those of the acceptance scenarios.
"""

from __future__ import annotations

import os
import shutil
import sys
from datetime import datetime

import pytest

from tests.support import PATH, ROOT, Manifest, Place, Pod, Way, one_way, pod, sh

pytestmark = pytest.mark.usefixtures("nothing_left")

# Ends at once with this code when it is told to; else not at all.
OBEYS = "trap 'exit {}' TERM; while :; do sleep 0.05; done"


def probe(*command: str, **fields: int) -> Manifest:
    """One that may take its time: a busy machine may be slow to run a program."""
    timing = {"periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 20}
    return {"exec": {"command": list(command)}, **timing, **fields}


def the_pods() -> list[Manifest]:
    loses_file = f"if [ -e ran ]; then exit 0; fi; touch ran alive; sleep 1.5; rm alive; {OBEYS}"
    alive = probe("cat", "alive", initialDelaySeconds=1)
    fails = probe("false", initialDelaySeconds=1)
    starts_late = "sleep 1.2; touch warm; sleep 1.8"
    return [
        pod(
            "c03",
            sh("app", loses_file.format(1), livenessProbe=alive),
            restartPolicy="OnFailure",
        ),
        pod("c02", sh("app", "sleep 3", readinessProbe=fails), restartPolicy="Never"),
        pod("c01", sh("app", "sleep 5", readinessProbe=probe("true")), restartPolicy="Never"),
        pod(
            "c16",
            sh(
                "app",
                starts_late,
                startupProbe=probe("cat", "warm", failureThreshold=30),
                readinessProbe=probe("true"),
            ),
            restartPolicy="Never",
        ),
        pod("e15", sh("app", OBEYS.format(3), livenessProbe=fails), restartPolicy="Never"),
        pod("e15-zero", sh("app", OBEYS.format(0), livenessProbe=fails), restartPolicy="Never"),
    ]


@pytest.fixture(scope="module")
def pods(shared_place: Place) -> dict[str, Pod]:
    return shared_place.run(*the_pods(), "-o", "json", code=1).pods


def ready_since(pod: Pod) -> tuple[str, float]:
    """The condition Ready at the end, and how long before the end it became so."""
    ready = pod.conditions["Ready"]
    times = (pod.state("app")["finishedAt"], ready["lastTransitionTime"])
    end, change = (datetime.fromisoformat(time) for time in times)
    return ready["status"], (end - change).total_seconds()


def test_a_failed_liveness_probe_restarts_the_container(pods: dict[str, Pod]):
    """§5.2.16, §5.7.2, §7.6.1: the file that the probe looks for goes away (C03)."""
    pod = pods["c03"]
    app = pod.containers["app"]
    assert (pod.phase, app["restartCount"]) == ("Succeeded", 1)
    assert app["lastState"]["terminated"]["exitCode"] == 1
    failed = [line for line in pod.said("app") if line.startswith("liveness probe failed: ")]
    assert len(failed) == 1
    assert "No such file or directory; stopping it, grace 30 s" in failed[0]


def test_a_container_whose_readiness_fails_is_never_ready_and_not_restarted(pods: dict[str, Pod]):
    """§5.2.4, §5.3: Ready is False from the beginning to the end (C02)."""
    pod = pods["c02"]
    assert (pod.phase, pod.containers["app"]["restartCount"]) == ("Succeeded", 0)
    status, seconds = ready_since(pod)
    assert status == "False"
    assert seconds >= 2
    assert "ready" not in pod.said("app")
    unhealthy = [line.rstrip() for line in pod.said("app") if line.startswith("Unhealthy: ")]
    # The last attempt may find the container just ended: an error, which counts for nothing.
    assert [line for line in unhealthy if "probe errored" not in line] == [
        "Unhealthy: Readiness probe failed:"
    ]


def test_a_container_whose_readiness_succeeds_is_ready_until_its_end(pods: dict[str, Pod]):
    """§5.2.10, §1.2.7: the other side of the same (C01)."""
    assert "ready" in pods["c01"].said("app")
    status, seconds = ready_since(pods["c01"])
    assert status == "False"
    assert seconds <= 3


def test_startup_comes_before_readiness(pods: dict[str, Pod]):
    """§5.2.8, §5.2.14: and readiness is looked for at once when it has passed (C16)."""
    said = pods["c16"].said("app")
    assert said.index("startup probe passed") < said.index("ready")
    assert pods["c16"].containers["app"]["restartCount"] == 0


def test_under_never_a_failed_liveness_probe_ends_the_pod(pods: dict[str, Pod]):
    """§5.2.16, §7.6.2: killed once, and nobody says that it will be restarted (E15)."""
    for name, phase, end in (
        ("e15", "Failed", ("Error", 3)),
        ("e15-zero", "Succeeded", ("Completed", 0)),
    ):
        pod = pods[name]
        assert (pod.phase, pod.end("app")) == (phase, end)
        assert pod.containers["app"]["restartCount"] == 0
        failed = [line for line in pod.said("app") if line.startswith("liveness probe failed")]
        assert len(failed) == 1
        assert not [line for line in pod.said("app") if "restarted" in line]


@one_way
def test_the_health_example_becomes_ready_and_ends_by_itself(place: Place, way: Way):
    """§5.4.2, §5.5, §5.6.2, §5.7.2: each kind of probe, over each handler."""
    folder = f"{place.folder}/examples/health"
    shutil.copytree(ROOT / "examples" / "health", folder)
    path = f"{os.path.dirname(sys.executable)}:{PATH}"
    # Ports of its own: somebody else may be at the same.
    session = place.podvisor(
        "run",
        f"--isolation={way.isolation}",
        "-o",
        "json",
        f"{folder}/pod.yaml",
        env={"PATH": path},
        start={"net": True},
    )
    pod = session.wait(0).pods["health"]

    assert pod.phase == "Succeeded"
    assert {name: c["restartCount"] for name, c in pod.containers.items()} == {
        "store": 0,
        "service": 0,
    }
    assert "startup probe passed" in pod.said("store")
    said = [
        line
        for line in pod.said("service")
        if line.startswith(("startup", "liveness", "ready", "not ready"))
    ]
    # In between a slow machine may have been too slow for a probe and its one second.
    assert said[:2] == ["startup probe passed", "ready"]
    assert said[-1] == "not ready: HTTP probe failed with statuscode: 503"
    assert not [line for line in pod.said("store") if line.startswith(("liveness", "not"))]
