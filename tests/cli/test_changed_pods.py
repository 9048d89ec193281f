"""Pods of a real `podvisor serve` that are changed, looked into and deleted by force."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from tests.cli.test_serve_api import PODS, ask, end, serve, status
from tests.support import Durable, one_way, pod, sh

pytestmark = pytest.mark.usefixtures("nothing_left")

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
DEAF = "trap '' TERM; echo begun; while :; do sleep 0.1; done"
OBEYS = "trap 'exit 0' TERM; while :; do sleep 0.1; done"


def is_alive(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")


def states(node: Durable, name: str, which: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(node, f"{PODS}/{name}")["status"].get(which, [])
    return found


@one_way
def test_another_image_restarts_its_container_alone_even_when_the_node_dies_meanwhile(
    node: Durable,
) -> None:
    """§7.6.1, §7.6.2, §6.2.2 [F02]"""
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "echo stopped >>stopped; sleep 1"]}}}
    session = serve(node)
    changing = sh("app", OBEYS, image="app:1", lifecycle=hook)
    ask(node, PODS, "POST", pod("web", changing, sh("other", OBEYS), restartPolicy="Never"))
    pid, other = node.running(session, "web", "app"), node.running(session, "web", "other")
    change = {"spec": {"containers": [{"name": "app", "image": "app:2"}]}}
    changed = ask(node, f"{PODS}/web", "PATCH", change, STRATEGIC)
    assert changed["metadata"]["generation"] == 2, changed
    session.kill()
    session = serve(node)
    session.until(lambda: node.pid("web", "app") not in (0, pid), "the next instance")
    assert not is_alive(pid)
    assert node.pid("web", "other") == other
    [app, beside] = states(node, "web", "containerStatuses")
    assert (app["image"], app["restartCount"], beside["restartCount"]) == ("app:2", 1, 0)
    events = ask(node, "/api/v1/namespaces/default/events")["items"]
    assert [e["message"] for e in events if e["reason"] == "Killing"] == [
        "Container app definition changed, will be restarted"
    ]
    assert os.path.exists(f"{node.place.folder}/stopped")
    ask(node, f"{PODS}/web", "DELETE", {"gracePeriodSeconds": 1})
    session.until(lambda: status(node, f"{PODS}/web") == 404, "the pod to be gone")
    end(session)


@one_way
def test_a_forced_deletion_frees_the_name_and_the_processes_end_in_any_life_of_the_node(
    node: Durable,
) -> None:
    """§7.1.5 [E10]"""
    session = serve(node)
    made = ask(node, PODS, "POST", pod("web", sh("app", DEAF), terminationGracePeriodSeconds=600))
    pid = node.running(session, "web", "app")
    ask(node, f"{PODS}/web", "DELETE", {"gracePeriodSeconds": 0})
    assert status(node, f"{PODS}/web") == 404
    again = ask(node, PODS, "POST", pod("web", sh("app", OBEYS), terminationGracePeriodSeconds=1))
    assert again["metadata"]["uid"] != made["metadata"]["uid"]
    session.kill()
    session = serve(node)
    assert [p["metadata"]["uid"] for p in ask(node, PODS)["items"]] == [again["metadata"]["uid"]]
    session.until(lambda: not is_alive(pid), "the process of the first one to end")
    second = node.running(session, "web", "app")
    assert second != pid
    session.until(lambda: len(node.snapshot.pods) == 1, "the first one to be forgotten")
    assert node.pid("web", "app") == second
    session.signal(signal.SIGTERM)
    session.wait(143)


@one_way
def test_a_container_is_added_to_look_into_a_pod_and_runs_once(node: Durable) -> None:
    """§4.1.3, §9.5 [H21]"""
    session = serve(node)
    ask(node, PODS, "POST", pod("web", sh("app", OBEYS), terminationGracePeriodSeconds=1))
    pid = node.running(session, "web", "app")
    debug = {"name": "debug", "image": "box", "command": ["sh", "-c", "echo looking; exit 3"]}
    change = {"spec": {"ephemeralContainers": [debug]}}
    added = ask(node, f"{PODS}/web/ephemeralcontainers", "PATCH", change, STRATEGIC)
    assert added["kind"] == "Pod", added
    refused = ask(node, f"{PODS}/web", "PATCH", {"spec": {"ephemeralContainers": []}}, MERGE)
    assert refused["code"] == 422, refused

    def ended() -> bool:
        [found] = states(node, "web", "ephemeralContainerStatuses")
        return "terminated" in found["state"]

    session.until(ended, "it to end")
    [found] = states(node, "web", "ephemeralContainerStatuses")
    assert (found["state"]["terminated"]["exitCode"], found["restartCount"]) == (3, 0)
    assert node.logged("web", "debug") == ["looking"]
    assert ask(node, f"{PODS}/web")["status"]["phase"] == "Running"
    assert node.pid("web", "app") == pid
    end(session)
