"""The API of a real `podvisor serve`: who reaches it, whose pods are whose, how it ends."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from contextlib import closing
from typing import Any

import pytest
import yaml

from tests.support import (
    IS_ROOT,
    Durable,
    Manifest,
    Session,
    as_root,
    as_user,
    identity,
    one_way,
    pod,
    sh,
)

pytestmark = pytest.mark.usefixtures("nothing_left")

PODS = "/api/v1/namespaces/default/pods"
MAPS = "/api/v1/namespaces/default/configmaps"
GRACE = {"terminationGracePeriodSeconds": 1}
WAITS = "trap 'exit 0' TERM; echo begun; while :; do sleep 0.1; done"


class _Local(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(self._path)


def ask(
    node: Durable, path: str, method: str = "GET", body: Any = None, kind: str = "application/json"
) -> Any:
    """The answer of the node, over its socket."""
    connection = _Local(f"{node.state}/api.sock")
    try:
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {"Content-Type": kind})
        response = connection.getresponse()
        content = response.read()
        return json.loads(content) if content.startswith(b"{") else content.decode()
    finally:
        connection.close()


def status(node: Durable, path: str) -> int:
    found = ask(node, path)
    return int(found["code"]) if found["kind"] == "Status" else 200


def serve(node: Durable, *words: str) -> Session:
    session = node.serve(*(words or ("--state-dir", node.state)))
    session.until_said("API at")
    return session


def end(session: Session, *, keeps: bool = False) -> str:
    session.signal(signal.SIGTERM)
    return session.wait(143, keeps=keeps).err


def waiting(name: str, **spec: Any) -> Manifest:
    return pod(name, sh("app", WAITS, **spec), **GRACE)


def is_running(node: Durable, name: str) -> bool:
    found = ask(node, f"{PODS}/{name}")
    return bool(found.get("status", {}).get("phase") == "Running")


# --- whose pods are whose -------------------------------------------------------------------------


@one_way
def test_pods_of_the_api_are_left_alone_by_the_files_and_go_on_in_the_next_life(
    node: Durable,
) -> None:
    node.put("file.json", waiting("file"))
    session = serve(node, node.pods)
    made = ask(node, PODS, "POST", waiting("asked"))
    assert made["kind"] == "Pod", made
    pid = node.running(session, "asked", "app")
    assert [p["metadata"]["name"] for p in ask(node, PODS)["items"]] == ["asked", "file"]
    session.kill()
    session = serve(node, node.pods)
    node.put("other.json", waiting("other"))
    node.running(session, "other", "app")  # the files were looked at meanwhile
    assert node.pid("asked", "app") == pid
    node.put("asked.json", waiting("asked"))
    session.until_said("pod default/asked is not taken: the API has one of that name")
    gone = ask(node, f"{PODS}/asked", "DELETE")
    assert gone["metadata"]["deletionTimestamp"]
    session.until(lambda: node.pid("asked", "app") not in (0, pid), "the file's pod in its place")
    end(session)


@one_way
def test_a_pod_of_a_file_that_was_labelled_is_still_the_one_of_its_file(node: Durable) -> None:
    node.put("web.json", waiting("web"))
    session = serve(node, node.pods)
    pid = node.running(session, "web", "app")
    patch = {"metadata": {"labels": {"seen": "yes"}}}
    labelled = ask(node, f"{PODS}/web", "PATCH", patch, "application/merge-patch+json")
    assert labelled["metadata"]["labels"] == {"seen": "yes"}, labelled
    for _ in range(2):
        node.put("other.json", waiting("other"))
        node.running(session, "other", "app")
        assert node.pid("web", "app") == pid
        session.kill()
        session = serve(node, node.pods)
    assert node.pid("web", "app") == pid
    node.put("web.json", waiting("web", env=[{"name": "NEW", "value": "1"}]))
    session.until(lambda: node.pid("web", "app") not in (0, pid), "the changed pod")
    end(session)


@one_way
def test_configuration_comes_from_the_api_where_no_file_has_it(node: Durable) -> None:
    def config_map(value: str) -> Manifest:
        meta = {"name": "settings"}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"key": value}}

    session = serve(node, node.pods)
    source = {"configMapKeyRef": {"name": "settings", "key": "key"}}
    script = 'echo "got $KEY"; ' + WAITS
    env = [{"name": "KEY", "valueFrom": source}]
    ask(node, PODS, "POST", pod("one", sh("app", script, env=env), **GRACE))
    session.until_said("Error: configmap")
    ask(node, MAPS, "POST", config_map("api"))
    session.until_logged("got api")
    node.put("settings.json", config_map("file"))
    node.put("seen.json", waiting("seen"))
    node.running(session, "seen", "app")  # the files were looked at meanwhile
    ask(node, PODS, "POST", pod("two", sh("app", script, env=env), **GRACE))
    session.until_logged("got file")
    assert ask(node, f"{MAPS}/settings")["data"] == {"key": "api"}
    end(session)


@one_way
def test_what_cannot_run_here_is_refused_and_nothing_is_stored(node: Durable) -> None:
    session = serve(node)
    image = pod("image", {"name": "app", "image": "ghost:1"})
    refused = ask(node, PODS, "POST", image)
    assert (refused["code"], refused["reason"]) == (422, "Invalid")
    assert "spec.containers[0].image" in refused["message"]
    assert ask(node, PODS)["items"] == []
    end(session)


# --- its end --------------------------------------------------------------------------------------


@one_way
def test_the_end_of_the_node_can_be_watched_to_its_end(node: Durable) -> None:
    session = serve(node)
    script = WAITS.replace("exit 0", "sleep 0.5; exit 3")
    ask(node, PODS, "POST", pod("web", sh("app", script)))
    session.until(lambda: is_running(node, "web"), "the pod to run")
    place = f"{node.state}/api.sock"
    with closing(_Local(place)) as watching, closing(_Local(place)) as following:
        watching.request("GET", f"{PODS}?watch=1")
        response = watching.getresponse()
        assert json.loads(response.readline())["type"] == "ADDED"
        following.request("GET", f"{PODS}/web/log?follow=1")
        log = following.getresponse()
        assert log.readline() == b"begun\n"
        session.signal(signal.SIGTERM)
        events = [json.loads(line) for line in response]  # to its clean end
        assert events[-1]["object"]["status"]["phase"] == "Failed"
        assert log.read() == b""
    session.wait(143)


# --- who reaches it -------------------------------------------------------------------------------


@one_way
def test_kubectl_gets_in_by_the_kubeconfig_and_the_token_is_told_nowhere(node: Durable) -> None:
    session = serve(node)
    with open(f"{node.state}/kubeconfig") as file:
        config = yaml.safe_load(file)
    url = config["clusters"][0]["cluster"]["server"]
    token = config["users"][0]["user"]["token"]
    with open(f"{node.state}/api/ca.crt") as file:
        context = ssl.create_default_context(cadata=file.read())
    host = url.removeprefix("https://")
    for header, code in (({"Authorization": f"Bearer {token}"}, 200), ({}, 401)):
        connection = http.client.HTTPSConnection(host, context=context, timeout=60)
        connection.request("GET", PODS, headers=header)
        assert connection.getresponse().status == code
        connection.close()
    for name in ("cmdline", "environ"):
        with open(f"/proc/{session.pid}/{name}") as file:
            assert token not in file.read()
    said = end(session)
    assert token not in said
    assert f"export KUBECONFIG={node.state}/kubeconfig" in said


@one_way
def test_doors_are_opened_as_the_command_line_says(node: Durable) -> None:
    words = ("--state-dir", node.state, "--port", "none", "--insecure-http", "127.0.0.1:0")
    session = node.serve(*words)
    session.until_said("is open: every user and program of this machine can run programs as you")
    session.until(lambda: os.path.exists(f"{node.state}/api.sock"), "the socket")
    assert ask(node, "/livez") == "ok"
    said = end(session)
    assert "warning: http://127.0.0.1:" in said
    assert "API at" not in said
    assert not os.path.exists(f"{node.state}/kubeconfig")
    for wrong in (("--port", "high"), ("--port", "99999"), ("--insecure-http", "0.0.0.0:80")):
        node.serve("--state-dir", node.state, *wrong).wait(2)


_REACH = """
import os, socket, sys
state = sys.argv[1]
def tried(deed):
    try:
        deed()
    except OSError as error:
        return type(error).__name__
    return "done"
with socket.socket(socket.AF_UNIX) as s:
    print(tried(lambda: s.connect(state + "/api.sock")))
for name in ("kubeconfig", "api/token", "api/tls.key"):
    print(tried(lambda: open(state + "/" + name).close()))
"""


def reached(node: Durable, uid: int) -> set[str]:
    """What a program of this user gets of the node's doors and keys."""
    python = os.path.realpath(sys.executable)
    argv = [python, "-I", "-S", "-c", _REACH, node.state]
    done = subprocess.run(
        argv, capture_output=True, text=True, check=True, timeout=60, cwd="/", **identity(uid)
    )
    return set(done.stdout.split())


@as_user
def test_another_user_cannot_reach_a_users_node_and_root_can(node: Durable) -> None:
    session = serve(node)
    assert reached(node, node.place.way.uid) == {"done"}
    if IS_ROOT:
        assert reached(node, 65533) == {"PermissionError"}
        assert ask(node, "/livez") == "ok"
    end(session)


@as_root
def test_a_user_cannot_reach_the_node_of_root(node: Durable) -> None:
    session = serve(node)
    assert reached(node, 65533) == {"PermissionError"}
    end(session)


# --- what it costs --------------------------------------------------------------------------------


def test_run_does_not_import_what_only_the_api_needs() -> None:
    code = (
        "import sys, supervisor.cli.run, supervisor.cli.foreground;"
        "print([m for m in sys.modules if m.startswith('supervisor.apiserver')]);"
        "import supervisor.cli.serving;"
        "print([m for m in ('aiohttp', 'cryptography', 'jsonpatch') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n[]\n"


# --- what is taken from under it ------------------------------------------------------------------


@one_way
@pytest.mark.parametrize("on_exit", ["stop", "keep"])
@pytest.mark.parametrize("told", [False, True], ids=["found out", "at the end"])
def test_a_node_whose_state_folder_is_removed_stops_its_pods_and_ends(
    node: Durable, told: bool, on_exit: str
) -> None:
    """Nobody could find them again: neither `down` nor a next life."""
    session = serve(node, "--state-dir", node.state, "--on-exit", on_exit)
    assert ask(node, PODS, "POST", waiting("web"))["kind"] == "Pod"
    pid = node.running(session, "web", "app")
    while os.path.exists(node.state):  # the node may write meanwhile
        shutil.rmtree(node.state, ignore_errors=True)
    if told:
        session.signal(signal.SIGTERM)
    elif on_exit == "stop":
        os.mkdir(node.state)  # as the next `up` does
    done = session.wait(143 if told else 4)
    assert "podvisor.db was removed or replaced: nobody could find these pods again" in done.err
    assert not os.path.exists(f"/proc/{pid}")
