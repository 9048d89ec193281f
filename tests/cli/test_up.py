"""The whole `podvisor up` and `down`, with a node in the background: real processes, any user."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import (
    Durable,
    Finished,
    Manifest,
    Session,
    one_way,
    pod,
    sh,
)

pytestmark = pytest.mark.usefixtures("nothing_left")

GRACE = {"terminationGracePeriodSeconds": 3}
LISTENS = "trap 'echo told; exit 0' TERM; echo hello; while :; do sleep 0.05; done"


def server(name: str, **spec: object) -> Manifest:
    return pod(name, sh("app", LISTENS), **{**GRACE, **spec})


class Background:
    """Commands about the project in one place."""

    def __init__(self, node: Durable) -> None:
        self.node, self.place = node, node.place

    def start(self, *words: str, **options: Any) -> Session:
        if words[0] == "up":
            words = ("up", f"--isolation={self.place.way.isolation}", *words[1:])
        return self.place.podvisor(*words, **options)

    def run(self, *words: str, code: int = 0, keeps: bool = True) -> Finished:
        return self.start(*words).wait(code, keeps=keeps, leaves=True)

    def uid(self, name: str) -> str:
        record = self.node.record(name)
        return record.pod.metadata.uid if record else ""

    @property
    def pid(self) -> str:
        return self.run("status", code=0).out.split("pid ")[1].split(" ")[0]


@pytest.fixture
def project(node: Durable) -> Iterator[Background]:
    return Background(node)


def test_up_starts_a_node_with_the_pods_and_down_ends_both(project: Background) -> None:
    file = project.place.write("pod.json", server("web"))
    up = project.run("up", "-d", file)
    assert "node started" in up.err
    assert "web     * Ready" in up.err
    assert "web " in project.run("get", "pods").out
    again = project.run("up", "-d", file)
    assert "unchanged, Ready" in again.err
    down = project.run("down", keeps=False)
    assert down.out.splitlines() == ['pod "web" deleted', "node on .podvisor ended"]
    gone = project.run("wait", "pod/web", "--for=delete", code=4)
    assert f"start it with: cd {project.place.folder} && podvisor up -d" in gone.err
    assert "--state-dir" not in gone.err
    with open(f"{project.node.state}/serve.log") as log:
        assert "Traceback" not in log.read()


@one_way
def test_up_in_front_shows_lines_and_ctrl_c_ends_what_it_has_begun(project: Background) -> None:
    file = project.place.write("pod.json", server("web"))
    up = project.start("up", file)
    up.until_logged("web/app | hello")
    for _ in range(2):  # as `timeout` does: once the process, once its group
        up.signal(signal.SIGINT)
    ended = up.wait(130)
    assert "web/app | told" in ended.out
    assert "web     * stopping, grace 3 s" in ended.err
    assert "grace shortened" not in ended.err
    assert ended.err.index("exited with code 0") < ended.err.index("* deleted")


@one_way
def test_ctrl_c_while_the_node_starts_ends_the_node(project: Background) -> None:
    up = project.start("up", project.place.write("pod.json", server("web")))
    up.until(lambda: os.path.exists(f"{project.node.state}/serve.log"), "the start of the node")
    up.signal(signal.SIGINT)
    up.wait(130)
    project.run("status", code=4, keeps=False)


@one_way
def test_files_of_another_project_come_to_the_node_of_this_folder_and_not_to_that_ones(
    project: Background,
) -> None:
    """What is brought up here is seen from here, with what the files' own project says."""
    project.place.write("shop/podvisor.toml", '[images.web]\nentrypoint = ["./serve"]\n')
    script = project.place.write("shop/serve", f"#!/bin/sh\necho of the shop; {LISTENS}")
    os.chmod(script, 0o755)
    web = server("web")
    web["spec"]["containers"] = [{"name": "app", "image": "web"}]
    file = project.place.write("shop/pod.json", web)
    up = project.run("up", "-d", file)
    there = f"{project.place.folder}/shop/.podvisor"
    assert f"note: these files are of the project in {project.place.folder}/shop" in up.err
    assert f"--state-dir {there} is that project's own\n" in up.err
    assert "web " in project.run("get", "pods").out
    assert project.run("logs", "web").out.startswith("of the shop\n")
    missing = project.run("get", "pods", "--state-dir", there, code=4)
    assert "none has ever run" in missing.err
    down = project.run("down", file, keeps=False)
    assert down.out.splitlines() == ['pod "web" deleted', "node on .podvisor ended"]


@one_way
def test_what_an_end_waits_for_is_said_and_how_to_wait_less(project: Background) -> None:
    hook = {"lifecycle": {"preStop": {"exec": {"command": ["sleep", "1000"]}}}}
    web = pod("web", sh("app", "echo hello; exec sleep 1000", **hook))
    up = project.start("up", project.place.write("pod.json", web))
    up.until_logged("hello")
    up.signal(signal.SIGINT)
    up.until_said("web/app * preStop goes on; Ctrl-C again shortens the grace to 1 s")
    up.signal(signal.SIGINT)
    up.until_said("grace shortened")
    time.sleep(0.2)  # what comes sooner is taken for the same one
    up.signal(signal.SIGINT)
    assert "web/app    0         -     killed" in up.wait(130).err


@one_way
def test_up_is_ended_also_while_nobody_reads_what_it_shows(project: Background) -> None:
    reading, writing = os.pipe()
    lines = "for i in $(seq 20000); do echo a line that fills the pipe $i; done"
    web = pod("web", sh("app", f"{lines}; exec sleep 1000"), terminationGracePeriodSeconds=0)
    up = project.start("up", project.place.write("pod.json", web), stdout=writing)
    up.until(lambda: not select.select([], [writing], [], 0)[1], "a full pipe")
    up.signal(signal.SIGTERM)
    up.wait(143)
    os.close(writing)
    os.close(reading)


@one_way
def test_up_says_which_readiness_gates_it_waits_for_and_warns_once(project: Background) -> None:
    gated = server("web", readinessGates=[{"conditionType": "a.b/warm"}])
    gated["spec"]["containers"][0]["resources"] = {"limits": {"memory": "64Mi"}}
    up = project.start("up", "-d", project.place.write("pod.json", gated))
    up.until_said("by hand: podvisor condition web a.b/warm=True")
    project.run("condition", "web", "a.b/warm=True")
    ended = up.wait(0, keeps=True, leaves=True)
    assert ended.err.count("is emulated") == 1
    assert ended.err.count("by hand") == 1
    project.run("down", keeps=False)


@one_way
def test_up_in_front_goes_on_with_a_pod_that_is_restarted_and_ends_with_it(
    project: Background,
) -> None:
    file = project.place.write("pod.json", server("web"))
    up = project.start("up", file)
    up.until_logged("hello")
    project.run("restart", "web")
    up.until(lambda: up.out.count("hello") == 2, "the second one's first line")
    project.run("down", keeps=True)
    assert "was deleted" not in up.wait(0).err


@one_way
def test_up_in_front_says_that_the_node_is_gone(project: Background) -> None:
    file = project.place.write("pod.json", server("web"))
    up = project.start("up", file)
    up.until_logged("hello")
    os.kill(int(project.pid), signal.SIGKILL)
    ended = up.wait(4, keeps=True, leaves=True)
    assert "the node is gone, and its pods may run on" in ended.err
    again = project.run("up", "-d", file)
    assert "node started" in again.err
    assert "unchanged" in again.err
    project.run("down", keeps=False)


@one_way
def test_up_that_is_killed_leaves_its_pods_alone(project: Background) -> None:
    file = project.place.write("pod.json", server("web"))
    up = project.start("up", file)
    up.until_logged("hello")
    uid = project.uid("web")
    up.kill()
    assert "unchanged" in project.run("up", "-d", file).err
    assert project.uid("web") == uid
    project.run("down", keeps=False)


@one_way
def test_up_replaces_what_has_changed_or_ended_and_nothing_else(project: Background) -> None:
    job = pod("job", sh("job", "exit 0"), restartPolicy="Never")
    file = project.place.write(
        "pods.json", {"kind": "List", "items": [server("a"), server("b"), job]}
    )
    project.run("up", "-d", file)
    before = {name: project.uid(name) for name in ("a", "b", "job")}
    changed = server("b", metadata={"labels": {"new": "yes"}})
    project.place.write("pods.json", {"kind": "List", "items": [server("a"), changed, job]})
    up = project.run("up", "-d", file)
    assert "has changed: replacing it" in up.err
    assert "has ended: running it again" in up.err
    after = {name: project.uid(name) for name in before}
    assert {name for name in before if before[name] != after[name]} == {"b", "job"}
    project.run("down", keeps=False)


@one_way
def test_a_broken_manifest_starts_nothing(project: Background) -> None:
    bad = server("bad")
    bad["spec"]["containers"][0]["livenessProb"] = {}
    project.place.write("deploy/good.json", server("good"))
    project.place.write("deploy/bad.json", bad)
    up = project.run("up", "-d", "deploy", code=3, keeps=False)
    assert "livenessProb" in up.err
    assert "nothing was started" in up.err
    assert not os.path.exists(project.node.state)


@one_way
def test_what_the_node_refuses_is_told_of_each_pod_and_starts_nothing(project: Background) -> None:
    mount = {"volumeMounts": [{"name": "d", "mountPath": "/nowhere-yet"}]}
    volumes = {"volumes": [{"name": "d", "emptyDir": {}}]}
    bad = [pod(name, sh("app", "exit", **mount), **volumes) for name in ("one", "two")]
    items = [server("good"), *bad]
    file = project.place.write("pods.json", {"kind": "List", "items": items})
    up = project.start("up", "-d", "--isolation=group", file).wait(3)
    for name in ("one", "two"):
        assert f'The Pod "{name}" is invalid: Forbidden: spec.containers[0].volumeMounts' in up.err
    assert up.err.endswith("2 errors; nothing was started\n")
    assert not project.uid("good")


@one_way
def test_up_says_what_does_not_come_up_and_leaves_it_there(project: Background) -> None:
    probe = {"exec": {"command": ["true"]}, "initialDelaySeconds": 60}
    crashing = pod("bad", sh("app", "exit 7", readinessProbe=probe))
    file = project.place.write("pods.json", {"kind": "List", "items": [server("good"), crashing]})
    up = project.run("up", "-d", file, code=1)
    assert "does not come up: app is in CrashLoopBackOff" in up.err
    assert "exited with code 7" in up.err
    assert project.uid("bad")
    project.run("down", keeps=False)


@one_way
def test_ups_at_once_start_one_node_and_each_pod_once(project: Background) -> None:
    files = [project.place.write(f"{name}.json", server(name)) for name in ("a", "b")]
    ups = [project.start("up", "-d", *which) for which in (files, files[:1], files[1:])]
    ended = [up.wait(0, keeps=True, leaves=True) for up in ups]
    assert sorted("node started" in up.err for up in ended) == [False, False, True]
    assert sum(up.err.count("* created") for up in ended) == 2
    project.run("down", files[0])
    assert project.uid("b")
    assert not project.uid("a")
    project.run("down", keeps=False)


@one_way
def test_pods_of_files_that_serve_watches_are_left_alone(project: Background) -> None:
    file = project.node.put("web.json", server("web"))
    session = project.node.serve()
    project.node.running(session, "web", "app")
    assert "`serve` has a pod of that name" in project.run("up", "-d", file, code=2).err
    uid = project.uid("web")
    down = project.run("down")
    assert f"pod web stays: `serve` has it from {file}" in down.err
    assert project.uid("web") == uid
    restarted = project.run("restart", "web")
    assert restarted.out.splitlines() == ['pod "web" deleted', "pod/web ready"]
    assert project.uid("web") not in ("", uid)
    session.signal(signal.SIGTERM)
    session.wait(143)


@one_way
def test_configuration_comes_with_the_pods(project: Background) -> None:
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}}
    web = pod("web", sh("app", f"echo greeting=$GREETING; {LISTENS}"), **GRACE)
    source = {"configMapKeyRef": {"name": "settings", "key": "greeting"}}
    web["spec"]["containers"][0]["env"] = [{"name": "GREETING", "valueFrom": source}]
    items = [{**settings, "data": {"greeting": "hi"}}, web]
    file = project.place.write("all.json", {"kind": "List", "items": items})
    up = project.run("up", "-d", file)
    assert "configmap/settings" in up.err
    assert project.node.logged("web", "app") == ["greeting=hi", "hello"]
    assert "unchanged" in project.run("up", "-d", file).err
    project.run("down", file, keeps=False)


@one_way
def test_the_commands_that_change_what_runs(project: Background) -> None:
    gated = server("web", readinessGates=[{"conditionType": "a.b/warm"}])
    file = project.place.write("pod.json", gated)
    project.run("up", "-d")
    applied = project.run("apply", "-f", file)
    assert applied.out == "pod/web created\n"
    late = project.run("wait", "pod/web", "--for=condition=Ready", "--timeout=0", code=1)
    assert "timed out waiting for the condition on pods/web" in late.err
    project.run("condition", "web", "a.b/warm=True")
    met = project.run("wait", "pod/web", "--for=condition=Ready")
    assert met.out == "pod/web condition met\n"
    path = "jsonpath={.status.phase}=Running"
    project.run("wait", "pod/web", f"--for={path}")
    uid = project.uid("web")
    project.place.write("pod.json", server("web"))
    project.run("delete", "-f", file)
    assert not project.uid("web")
    project.run("apply", "-f", file)
    restarted = project.run("restart", "web")
    assert restarted.out.splitlines() == ['pod "web" deleted', "pod/web created", "pod/web ready"]
    assert project.uid("web") not in ("", uid)
    missing = project.run("delete", "pod", "nothing", code=1)
    assert missing.err == 'Error from server (NotFound): pods "nothing" not found\n'
    project.run("down", keeps=False)


@one_way
def test_apply_changes_a_pod_where_that_is_allowed(project: Background) -> None:
    file = project.place.write("pod.json", server("web"))
    project.run("up", "-d")
    project.run("apply", "-f", file)
    assert project.run("apply", "-f", file).out == "pod/web unchanged\n"
    project.place.write("pod.json", server("web", metadata={"labels": {"tier": "front"}}))
    assert project.run("apply", "-f", file).out == "pod/web configured\n"
    project.place.write("pod.json", server("web", hostname="other"))
    refused = project.run("apply", "-f", file, code=3)
    assert "error: spec: Forbidden: pod updates may not change" in refused.err
    project.run("down", keeps=False)


@one_way
def test_apply_changes_what_up_has_made(project: Background) -> None:
    file = project.place.write("pod.json", server("web", metadata={"labels": {"tier": "back"}}))
    project.run("up", "-d", file)
    moved = server("web", metadata={"labels": {"tier": "front"}})
    copy = project.place.write("copy.json", moved)
    dry = project.run("apply", "-f", copy, "--dry-run=server")
    assert dry.out == "pod/web configured (server dry run)\n"
    assert project.run("apply", "-f", copy).out == "pod/web configured\n"
    labels = project.run("get", "pod", "web", "-o", "jsonpath={.metadata.labels}")
    assert labels.out == '{"tier":"front"}'
    project.run("down", keeps=False)


@one_way
def test_up_replaces_a_pod_that_was_made_to_run_something_else(project: Background) -> None:
    container = {**sh("app", LISTENS), "image": "app:1"}
    file = project.place.write("pod.json", pod("web", container, **GRACE))
    project.run("up", "-d", file)
    uid = project.uid("web")
    changed = {**container, "image": "app:2"}
    other = project.place.write("other.json", pod("web", changed, **GRACE))
    project.run("apply", "-f", other)
    again = project.run("up", "-d", file)
    assert "has changed: replacing it" in again.err
    assert project.uid("web") not in ("", uid)
    image = project.run("get", "pod", "web", "-o", "jsonpath={.spec.containers[0].image}")
    assert image.out == "app:1"
    assert "unchanged, Ready" in project.run("up", "-d", file).err
    project.run("down", keeps=False)


@one_way
def test_ctrl_c_at_a_restart_says_where_the_pod_has_gone(project: Background) -> None:
    go = f"{project.place.folder}/go"
    ends = f"trap 'until test -e {go}; do sleep 0.05; done; exit' TERM"
    file = project.place.write(
        "pod.json", pod("web", sh("app", f"{ends}; while :; do sleep 0.05; done"))
    )
    project.run("up", "-d", file)
    restart = project.start("restart", "web")
    restart.until_logged('pod "web" deleted')
    restart.signal(signal.SIGINT)
    kept = f"{project.node.state}/restart-default-web.json"
    said = restart.wait(130, keeps=True, leaves=True).err
    assert f"was not created again: `podvisor apply -f {kept}` does that" in said
    project.place.write("go", "")
    project.run("wait", "pod/web", "--for=delete")
    assert project.run("apply", "-f", kept).out == "pod/web created\n"
    assert "unchanged" in project.run("up", "-d", file).err
    project.run("down", keeps=False)
