"""Whole runs of pods that are configured: what containers get, what is waited for, and that what
a Secret holds is written nowhere.

The names in brackets are those of the acceptance scenarios.
"""

from __future__ import annotations

import base64
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests import support
from tests.support import (
    FOREVER,
    Durable,
    Manifest,
    Place,
    Session,
    container,
    one_way,
    pod,
    python,
    sh,
    step,
)

pytestmark = pytest.mark.usefixtures("nothing_left")

NEVER = {"restartPolicy": "Never"}
GRACE = {"terminationGracePeriodSeconds": 3}
# Neither is ever part of another word.
SECRET = "m4rked-s3cret"
Hold = Callable[..., None]


@pytest.fixture
def hold(place: Place, monkeypatch: pytest.MonkeyPatch) -> Hold:
    """Says what ConfigMaps and Secrets hold, now and later: hold(Secret={"default/x": {…}})."""
    start = place.start
    path = f"{place.folder}/held.json"

    def start_with(*pods: Manifest | str, **options: Any) -> Session:
        return start(*pods, *([path] if os.path.exists(path) else []), **options)

    def hold(**kinds: dict[str, dict[str, str]]) -> None:
        items = [
            document(kind, *name.split("/"), keys)
            for kind, held in kinds.items()
            for name, keys in held.items()
        ]
        made = place.write("held.json", {"apiVersion": "v1", "kind": "List", "items": items})
        if os.path.exists(f"{place.folder}/pods"):  # of a durable node
            os.rename(made, f"{place.folder}/pods/held.json")

    monkeypatch.setattr(place, "start", start_with)
    return hold


def document(kind: str, namespace: str, name: str, keys: dict[str, str]) -> Manifest:
    data = keys
    if kind == "Secret":
        data = {key: base64.b64encode(value.encode()).decode() for key, value in keys.items()}
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": kind, "metadata": meta, "data": data}


def of_config_map(name: str, of: str, key: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"configMapKeyRef": {"name": of, "key": key, **more}}}


def of_secret(name: str, of: str, key: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": of, "key": key}}}


def files_below(folder: str) -> Iterator[str]:
    for path, _, names in os.walk(folder):
        yield from (f"{path}/{name}" for name in names)


@one_way
def test_a_container_gets_what_config_maps_secrets_and_env_files_hold(
    place: Place, hold: Hold
) -> None:
    """H09, H11: §9.1"""
    hold(
        ConfigMap={"default/settings": {"COLOR": "blue", "SIZE": "1"}},
        Secret={"default/login": {"USER": "alice", "PASSWORD": SECRET}},
    )
    place.write("web/podvisor.toml", 'env-file = "project.env"\n')
    place.write("web/project.env", "SIZE=0\nA=project\nB=project\n")
    line = place.write("line.env", "B=line\nHERE\n")
    names = ("A", "B", "COLOR", "GONE", "HERE", "SIZE", "URL", "my-USER")
    web = pod(
        "web",
        container(
            "app",
            "env",
            envFrom=[
                {"configMapRef": {"name": "settings"}},
                {"secretRef": {"name": "login"}, "prefix": "my-"},
                {"secretRef": {"name": "gone", "optional": True}},
            ],
            env=[
                of_config_map("GONE", "settings", "k", optional=True),
                {"name": "URL", "value": "$(my-USER)@$(COLOR)/$(A)"},
            ],
        ),
        **NEVER,
    )
    session = place.start(web, "--env-file", line, "--no-prefix", env={"HERE": "here"})
    finished = session.wait(0)
    shown = sorted(line for line in finished.out.splitlines() if line.partition("=")[0] in names)
    assert shown == [
        "A=project",
        "B=line",
        "COLOR=blue",
        "HERE=here",
        "SIZE=1",
        "URL=alice@blue/$(A)",
        "my-USER=alice",
    ]


@one_way
def test_run_refuses_what_its_documents_can_never_give(place: Place, hold: Hold) -> None:
    """§9.1.4: nothing could bring it any more."""
    web = pod("web", sh("app", "env", env=[of_config_map("A", "settings", "COLOR")]), **NEVER)
    bad = place.write("bad.env", f"A={SECRET}\n{SECRET} B\n")
    finished = place.run(web, "--env-file", bad, code=3)
    assert "1 error" not in finished.err
    assert (
        "spec.containers[0].env[0].valueFrom.configMapKeyRef.name: Not found: "
        '"settings": ConfigMap default/settings is not among the documents'
    ) in finished.err
    assert "web/pod.json:1:" in finished.err
    assert "bad.env:2:1: error: the name of a variable must" in finished.err
    assert "2 errors; nothing was started" in finished.err
    assert SECRET not in finished.err


@one_way
def test_a_program_of_a_probe_sees_literal_variables_in_its_words_and_all_in_its_environment(
    place: Place, hold: Hold
) -> None:
    """C34: §5.7.1"""
    hold(ConfigMap={"default/settings": {"COLOR": "blue"}})
    probe = {
        "exec": {"command": ["sh", "-c", 'echo "$0 $1 $FROMCM" >seen', "$(LIT)", "$(FROMCM)"]},
        "periodSeconds": 1,
    }
    web = pod(
        "web",
        sh(
            "app",
            "until [ -s seen ]; do sleep 0.02; done",
            env=[{"name": "LIT", "value": "lit"}, of_config_map("FROMCM", "settings", "COLOR")],
            readinessProbe=probe,
        ),
        **NEVER,
    )
    place.run(web, code=0)
    with open(f"{place.folder}/web/seen") as file:
        assert file.read() == "lit $(FROMCM) blue\n"


@one_way
def test_serve_waits_for_a_config_map_and_goes_on_when_it_appears_or_changes(
    node: Durable, hold: Hold
) -> None:
    """H10, H18, E12: §9.1.4, §9.1.7, §1.1.10"""
    color = of_config_map("COLOR", "settings", "COLOR")
    script = 'echo "got $COLOR"; until [ -e end ]; do sleep 0.02; done; rm end; exit 1'
    node.put("web.json", pod("web", sh("app", script, env=[color]), **GRACE))
    stuck = node.put(
        "stuck.json", pod("stuck", step("app", FOREVER, env=[of_secret("A", "s", "k")]))
    )
    session = node.serve()
    session.until_said("ConfigMap default/settings is not among the documents; waiting for it")
    session.until_said('CreateContainerConfigError: configmap "settings" not found')
    session.until_said('CreateContainerConfigError: secret "s" not found')
    os.unlink(stuck)
    session.until(lambda: node.record("stuck") is None, "the end of what waits for ever")
    assert "stuck * Failed" in " ".join(session.err.split())
    hold(ConfigMap={"default/settings": {"COLOR": "blue"}})
    session.until_logged("got blue")
    assert node.container("web", "app").attempt == 0
    pid = node.running(session, "web", "app")
    # That a pod has got it shows that the node has seen the change.
    node.put(
        "seen.json", pod("seen", sh("app", "sleep 1000", env=[of_secret("A", "s", "k")]), **GRACE)
    )
    session.until(
        lambda: "seen/app * CreateContainerConfigError" in " ".join(session.err.split()), "it waits"
    )
    hold(ConfigMap={"default/settings": {"COLOR": "red"}}, Secret={"default/s": {"k": "1"}})
    node.running(session, "seen", "app")
    assert node.pid("web", "app") == pid
    node.place.write("end", "")
    session.until_logged("got red")
    assert node.pid("web", "app") != pid
    session.signal(signal.SIGTERM)
    session.wait(143)


@one_way
def test_what_runs_does_not_wait_for_what_is_taken_from_it(node: Durable, hold: Hold) -> None:
    """§9.1.4, §9.3.4"""
    settings = {"default/settings": {"COLOR": "blue"}}
    hold(ConfigMap=settings, Secret={"default/s": {"k": "1"}})
    node.put(
        "web.json",
        pod(
            "web",
            sh("app", "sleep 1000", env=[of_config_map("COLOR", "settings", "COLOR")]),
            volumes=[{"name": "v", "secret": {"secretName": "s"}}],
            **GRACE,
        ),
    )
    session = node.serve()
    node.running(session, "web", "app")
    hold(ConfigMap={"default/other": {}})
    keeps = "ConfigMap default/settings is not among the documents; containers that run keep their"
    volume = "Secret default/s is not among the documents; its volume keeps what it has"
    session.until_said(keeps)
    session.until_said(volume)
    session.kill()
    session = node.serve()
    session.until_said(keeps)
    session.until_said(volume)
    session.until_said("taken on again")
    hold(ConfigMap=settings, Secret={"default/s": {"k": "1"}})
    session.signal(signal.SIGTERM)
    assert "waiting for it" not in session.wait(143).err


@one_way
def test_what_a_secret_holds_is_written_nowhere(place: Place, hold: Hold) -> None:
    hold(Secret={"default/login": {"PASSWORD": SECRET, "PROGRAM": f"/no/{SECRET}"}})
    get = {
        "envFrom": [{"secretRef": {"name": "login"}}],
        "env": [of_secret("P", "login", "PASSWORD"), {"name": "URL", "value": "x://$(P)@y"}],
    }
    fails = {"exec": {"command": ["false", "$(P)"]}, "periodSeconds": 1, "failureThreshold": 1}
    hook = {"exec": {"command": ["sh", "-c", "exit 3", "$(URL)"]}}
    web = pod(
        "web",
        # Its words are the user's own wish; what is said about it is ours.
        python(
            "deaf",
            "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); "
            "time.sleep(1000)",
            args=["--url=$(URL)"],
            readinessProbe=fails,
            **get,
        ),
        sh("hooked", "sleep 1000", lifecycle={"postStart": hook}, **get),
        {"name": "broken", "command": ["$(PROGRAM)", "$(P)"], **get},
        {"name": "lost", "command": ["no-$(P)"], **get},
        {"name": "long", "command": ["true", "$(P)" * 20000], **get},
        restartPolicy="Never",
        terminationGracePeriodSeconds=2,
    )
    session = place.start(web, "-o", "json", "--keep", "--timeline")
    for text in ("deaf | up", "Readiness probe failed", "postStart failed", "deaf"):
        session.until(lambda text=text: text in " ".join(session.err.split()), text)
    for name in ("broken", "lost", "long"):
        session.until(
            lambda n=name: f"web/{n} * cannot start" in " ".join(session.err.split()), name
        )
    ours = [*support._children(), session.pid]
    for pid in [*ours, *descendants(session.pid)]:
        words = read(f"/proc/{pid}/cmdline")
        assert SECRET.encode() not in words or b"--url=" in words
    session.signal(signal.SIGTERM)
    finished = session.wait(143, leaves=True)
    said = finished.err + finished.out
    assert "ignores SIGTERM" in said
    assert 'exec: "/no/***"' in said or 'exec: "***"' in said
    assert 'exec: "no-***": executable file not found in $PATH' in said
    assert SECRET not in said
    kept = [path for path in files_below(session.tmp) if os.path.isfile(path)]
    assert kept
    for path in kept:
        assert SECRET.encode() not in read(path), path


@one_way
def test_what_a_secret_holds_is_not_in_the_state_of_a_durable_node(
    node: Durable, hold: Hold
) -> None:
    hold(Secret={"default/login": {"PASSWORD": SECRET}})
    get = {"envFrom": [{"secretRef": {"name": "login"}}]}
    hooks = {
        "postStart": {"exec": {"command": ["sh", "-c", 'test -n "$PASSWORD"']}},
        "preStop": {"exec": {"command": ["false"]}},
    }
    containers = (
        step("app", FOREVER, lifecycle=hooks, **get),
        {"name": "lost", "command": ["no-$(PASSWORD)"], **get},
    )
    node.put("web.json", pod("web", *containers, **GRACE))
    session = node.serve()
    node.running(session, "web", "app")
    session.until_said("web/lost * cannot start")
    session.kill()
    session = node.serve()
    session.until_said("web/app  * taken on again")
    session.signal(signal.SIGTERM)
    finished = session.wait(143)
    assert SECRET not in finished.err + finished.out
    paths = list(files_below(node.state))
    assert any(path.endswith("podvisor.db") for path in paths)
    for path in paths:
        assert SECRET.encode() not in read(path), path


def read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:  # it has gone, or is a socket
        return b""


def descendants(pid: int) -> list[int]:
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for thread in threads:
        for child in read(f"/proc/{pid}/task/{thread}/children").split():
            found += [int(child), *descendants(int(child))]
    return found
