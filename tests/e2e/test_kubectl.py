"""The real kubectl: every command that people have in their fingers, on local processes."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import KUBECTLS, Kubectl
from tests.support import free_port, wait_for

pytestmark = pytest.mark.usefixtures("nothing_left")

Manifest = dict[str, Any]

SLEEPS = ["sleep", "1000"]
# Ends at SIGTERM at once, as a good server does.
GOOD = ["python3", "-c", "import signal; signal.signal(15, lambda *_: exit(0)); signal.pause()"]


# Likewise; as the first process of its namespace it would hear no signal that it does not handle.
SERVES = (
    "import signal, sys; from http.server import HTTPServer, SimpleHTTPRequestHandler as Files\n"
    "signal.signal(15, lambda *_: exit(0))\n"
    "HTTPServer(('127.0.0.1', int(sys.argv[1])), Files).serve_forever()"
)


def sh(script: str, *words: str) -> list[str]:
    return ["sh", "-c", script, "sh", *words]


def pod(name: str, *containers: Manifest, **spec: Any) -> Manifest:
    labels = spec.pop("labels", {"app": name})
    given = containers or ({"name": "main", "command": GOOD},)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"terminationGracePeriodSeconds": 2, "containers": list(given), **spec},
    }


def applied(kubectl: Kubectl, *pods: Manifest) -> None:
    for each in pods:
        kubectl("apply", "-f", "-", input=each)
    for each in pods:
        ready(kubectl, each["metadata"]["name"])


def ready(kubectl: Kubectl, name: str) -> None:
    kubectl("wait", f"pod/{name}", "--for=condition=Ready", "--timeout=60s")


def gone(kubectl: Kubectl, name: str) -> None:
    """`wait --for=delete` of old ones fails when it has gone before."""
    shown = ("get", "pod", name, "--ignore-not-found", "-o", "name")
    wait_for(lambda: not kubectl(*shown), "its removal")


def rows(table: str) -> list[list[str]]:
    """The cells of a table without its head."""
    return [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()[1:]]


@contextlib.contextmanager
def in_background(kubectl: Kubectl, *words: str) -> Iterator[subprocess.Popen[str]]:
    process = kubectl.start(*words)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_there_is_a_kubectl_to_test_with() -> None:
    assert KUBECTLS, "Debian: apt install kubernetes-client"


# --- every version: where the wire differs ------------------------------------------------------


def test_every_kubectl_applies_reads_execs_forwards_and_deletes(each_kubectl: Kubectl) -> None:
    kubectl, port = each_kubectl, free_port()
    server = ["python3", "-c", SERVES, str(port)]
    web = pod("web", {"name": "main", "command": server}, {"name": "two", "command": GOOD})
    assert "pod/web created" in kubectl("apply", "-f", "-", input=web)
    ready(kubectl, "web")
    assert "pod/web unchanged" in kubectl("apply", "-f", "-", input=web)
    web["metadata"]["labels"]["tier"] = "front"
    assert "pod/web configured" in kubectl("apply", "-f", "-", input=web)
    assert rows(kubectl("get", "pods"))[0][:3] == ["web", "2/2", "Running"]
    assert kubectl("get", "pod", "web", "-o", "jsonpath={.metadata.labels.tier}") == "front"
    done = kubectl.run("exec", "-i", "web", "-c", "two", "--", *sh("cat; exit 3"), input="hello")
    assert (done.stdout, done.returncode) == ("hello", 3)
    wait_for(lambda: _answers(port), "the web server")
    local = free_port()
    with in_background(kubectl, "port-forward", "web", f"{local}:{port}") as forward:
        assert forward.stdout is not None
        assert "Forwarding from 127.0.0.1" in forward.stdout.readline()
        with urllib.request.urlopen(f"http://127.0.0.1:{local}/", timeout=60) as answer:
            assert b"Directory listing" in answer.read()
    assert "GET /" in kubectl("logs", "web", "-c", "main", "--tail=5") + _stderr(kubectl, "web")
    told = kubectl("create", "-f", "-", input=web, fails=True)
    assert "(AlreadyExists)" in told
    kubectl("create", "configmap", "settings", "--from-literal=a=1")
    kubectl("create", "secret", "generic", "secret", "--from-literal=b=2")
    assert kubectl("get", "cm", "settings", "-o", "jsonpath={.data.a}") == "1"
    assert kubectl("get", "secret", "secret", "-o", "jsonpath={.data.b}") == "Mg=="
    described = kubectl("describe", "pod", "web")
    assert re.search(r"Normal +Started", described)
    assert 'pod "web" deleted' in kubectl("delete", "pod", "web")
    assert "(NotFound)" in kubectl("get", "pod", "web", fails=True)


def test_every_kubectl_explains_compares_and_finds_mistakes(each_kubectl: Kubectl) -> None:
    """By documents of one form or the other; some find mistakes themselves, others ask."""
    kubectl = each_kubectl
    every = kubectl("explain", "pods.spec.containers", "--recursive")
    assert re.search(r"periodSeconds\s+<integer>", every)
    assert "Ignored" in kubectl("explain", "pods.spec.priority")
    wrong = pod("web")
    wrong["spec"]["containers"][0]["comand"] = ["true"]
    told = kubectl("apply", "-f", "-", input=wrong, fails=True)
    assert re.search(r'unknown field "(spec\.containers\[0\]\.)?comand"', told)
    wanted = pod("web", {"name": "main", "command": GOOD, "ports": [{"containerPort": 80}]})
    assert "created" in kubectl("apply", "-f", "-", input=wanted)
    wanted["metadata"]["labels"]["new"] = "label"
    assert "dry run" in kubectl("apply", "--dry-run=server", "-f", "-", input=wanted)
    done = kubectl.run("diff", "-f", "-", input=wanted)
    assert done.returncode == 1, done.stderr
    assert re.search(r"^\+ +new: label", done.stdout, re.MULTILINE)
    template = {"metadata": {"labels": {"a": "b"}}, "spec": wanted["spec"]}
    nobodys = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template},
    }
    assert "`podvisor up FILE`" in kubectl("apply", "-f", "-", input=nobodys, fails=True)
    if kubectl.version >= (1, 27):
        assert "Username" in kubectl("auth", "whoami")


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _stderr(kubectl: Kubectl, name: str) -> str:
    return kubectl("logs", name, "--all-containers")


# --- reading ------------------------------------------------------------------------------------


def test_the_cluster_introduces_itself(kubectl: Kubectl) -> None:
    assert "Server Version" in kubectl("version")
    assert "is running at" in kubectl("cluster-info")
    resources = kubectl("api-resources")
    for kind in ("configmaps", "events", "namespaces", "nodes", "pods", "secrets", "services"):
        assert re.search(rf"^{kind} ", resources, re.MULTILINE), kind
    assert {"v1", "coordination.k8s.io/v1"} <= set(kubectl("api-versions").split())
    assert kubectl("get", "--raw", "/healthz") == "ok"


def test_pods_are_shown_in_every_form(kubectl: Kubectl) -> None:
    applied(kubectl, pod("b", labels={"app": "b", "tier": "x"}), pod("a"))
    assert [row[:4] for row in rows(kubectl("get", "po"))] == [
        ["a", "1/1", "Running", "0"],
        ["b", "1/1", "Running", "0"],
    ]
    wide = kubectl("get", "pods", "-o", "wide")
    assert {"IP", "NODE"} <= set(wide.splitlines()[0].split())
    assert "127.0.0.1" in wide
    assert kubectl("get", "pods", "-o", "name").split() == ["pod/a", "pod/b"]
    assert kubectl("get", "pods", "-l", "tier=x", "-o", "name").split() == ["pod/b"]
    assert kubectl("get", "pods", "-l", "tier notin (x)", "-o", "name").split() == ["pod/a"]
    chosen = ("--field-selector=status.phase=Running,metadata.name!=a", "-o", "name")
    assert kubectl("get", "pods", *chosen).split() == ["pod/b"]
    sort = ("--sort-by=.metadata.labels.tier", "--no-headers")
    assert [line.split()[0] for line in kubectl("get", "pods", *sort).splitlines()] == ["a", "b"]
    assert "tier=x" in kubectl("get", "pods", "--show-labels")
    columns = "-o=custom-columns=N:.metadata.name,C:.spec.containers[0].name"
    assert kubectl("get", "pods", columns).split() == ["N", "C", "a", "main", "b", "main"]
    listed = kubectl.json("get", "pods")
    assert [item["metadata"]["name"] for item in listed["items"]] == ["a", "b"]
    assert "kind: Pod" in kubectl("get", "pod", "a", "-o", "yaml")
    assert kubectl.namespace in kubectl("get", "pods", "-A")
    every = kubectl("get", "all")
    assert "pod/a" in every
    assert kubectl("get", "pods", "--chunk-size=1", "-o", "name").split() == ["pod/a", "pod/b"]
    told = kubectl.run("get", "pods", "-l", "app=none")
    assert "No resources found" in told.stderr


def test_a_watch_shows_every_change(kubectl: Kubectl) -> None:
    applied(kubectl, pod("before"))
    with in_background(kubectl, "get", "pods", "-w", "--no-headers") as watch:
        assert watch.stdout is not None
        assert watch.stdout.readline().startswith("before ")  # it looks, from here on
        kubectl("apply", "-f", "-", input=pod("w"))
        ready(kubectl, "w")
        kubectl("delete", "pod", "w")
        words = []
        for line in watch.stdout:
            words.append(line.split()[2])
            if "Terminating" in words and words[-1] != "Running" and len(words) > 3:
                break
        assert words[0] in ("Pending", "ContainerCreating")
        assert "Running" in words


def test_a_pod_is_described_with_its_events(kubectl: Kubectl) -> None:
    probe = {"exec": {"command": ["true"]}, "periodSeconds": 1}
    main = {
        "name": "main",
        "command": GOOD,
        "env": [{"name": "A", "value": "b"}],
        "readinessProbe": probe,
    }
    applied(kubectl, pod("d", main))
    text = kubectl("describe", "pod", "d")
    for part in ("Status: +Running", "Readiness: +exec", "A: +b", "Ready +True", "Controlled|IP:"):
        assert re.search(part, text), part
    reasons = re.findall(r"Normal +(\w+)", text)
    assert reasons == ["Scheduled", "Pulled", "Created", "Started"]
    assert re.search(r"Scheduled +\S+ +default-scheduler", text)
    assert re.search(r"Started +\S+ +kubelet", text)
    if kubectl.version >= (1, 26):
        assert "Started" in kubectl("events", "--for", "pod/d")
    assert "Started" in kubectl("get", "events")


def test_node_and_namespace_are_described(kubectl: Kubectl) -> None:
    (node,) = kubectl.json("get", "nodes")["items"]
    name = node["metadata"]["name"]
    assert [row[:2] for row in rows(kubectl("get", "nodes"))] == [[name, "Ready"]]
    text = kubectl("describe", "node", name)
    for part in ("Ready +True", "Taints: +<none>", "Capacity:", "Allocated resources"):
        assert re.search(part, text), part
    assert "podvisor" in json.dumps(node["metadata"]["labels"])
    assert re.search("Status: +Active", kubectl("describe", "namespace", kubectl.namespace))


def test_explain_knows_the_fields(kubectl: Kubectl) -> None:
    text = kubectl("explain", "pod.spec.containers.livenessProbe")
    assert "periodSeconds" in text
    assert "FIELD" in kubectl("explain", "configmap.data")


# --- writing ------------------------------------------------------------------------------------


def test_objects_are_created_by_generators(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "c", "--from-literal=a=1")
    kubectl("create", "secret", "generic", "s", "--from-literal=a=1")
    kubectl("create", "serviceaccount", "sa")
    kubectl("create", "service", "clusterip", "svc", "--tcp=80:8080")
    assert next(row[:2] for row in rows(kubectl("get", "cm"))) == ["c", "1"]
    assert "sa" in kubectl("get", "sa", "-o", "name")
    assert "80/TCP" in kubectl("get", "svc", "svc")
    for kind in ("cm/c", "secret/s", "sa/sa", "svc/svc"):
        assert "deleted" in kubectl("delete", kind)


def test_the_server_says_what_it_would_do_and_does_nothing(kubectl: Kubectl) -> None:
    wanted = pod("dry")
    assert "created (server dry run)" in kubectl(
        "apply", "--dry-run=server", "-f", "-", input=wanted
    )
    assert "(NotFound)" in kubectl("get", "pod", "dry", fails=True)
    kubectl("apply", "-f", "-", input=wanted)
    wanted["metadata"]["labels"]["new"] = "label"
    done = kubectl.run("diff", "-f", "-", input=wanted)
    assert done.returncode == 1, done.stderr
    assert re.search(r"^\+ +new: label", done.stdout, re.MULTILINE)


def test_unknown_fields_are_refused_or_warned_about(kubectl: Kubectl) -> None:
    wrong = pod("wrong")
    wrong["spec"]["containers"][0]["comand"] = ["true"]
    wrong["spec"]["contaners"] = []
    told = kubectl("create", "-f", "-", input=wrong, fails=True)
    if kubectl.version < (1, 25):  # it looks by itself, in what the server says of itself
        assert 'unknown field "comand"' in told
        assert 'unknown field "contaners"' in told
        return
    assert 'unknown field "spec.containers[0].comand"' in told
    assert 'unknown field "spec.contaners"' in told
    done = kubectl.run("create", "--validate=warn", "-f", "-", input=wrong)
    assert done.returncode == 0
    assert 'Warning: unknown field "spec.contaners"' in done.stderr


def test_what_is_invalid_is_said_all_at_once(kubectl: Kubectl) -> None:
    wrong = pod("wrong", {"name": "UPPER", "command": ["true"]}, restartPolicy="Sometimes")
    told = kubectl("apply", "-f", "-", input=wrong, fails=True)
    assert 'The Pod "wrong" is invalid' in told
    assert "spec.restartPolicy" in told
    assert "spec.containers[0].name" in told


def test_a_pod_is_patched_in_every_way(kubectl: Kubectl) -> None:
    applied(kubectl, pod("p"))
    patch = ("patch", "pod", "p", "--type")
    kubectl(*patch, "strategic", "-p", '{"metadata":{"labels":{"a":"1"}}}')
    kubectl(*patch, "merge", "-p", '{"metadata":{"labels":{"b":"2"}}}')
    operation = [{"op": "add", "path": "/metadata/labels/c", "value": "3"}]
    kubectl(*patch, "json", "-p", json.dumps(operation))
    assert "pod/p labeled" in kubectl("label", "pod", "p", "d=4")
    assert "pod/p annotated" in kubectl("annotate", "pod", "p", "note=hello")
    labels = kubectl.json("get", "pod", "p")["metadata"]["labels"]
    assert labels == {"app": "p", "a": "1", "b": "2", "c": "3", "d": "4"}
    assert kubectl.json("get", "pod", "p")["status"]["containerStatuses"][0]["restartCount"] == 0
    refused = '{"spec":{"restartPolicy":"Never"}}'
    assert "pod updates may not change fields" in kubectl(
        *patch, "merge", "-p", refused, fails=True
    )
    edited = kubectl("edit", "pod", "p", KUBE_EDITOR="sed -i s/hello/changed/")
    assert "pod/p edited" in edited
    assert kubectl.json("get", "pod", "p")["metadata"]["annotations"]["note"] == "changed"


def test_a_pod_is_replaced_also_by_force(kubectl: Kubectl) -> None:
    applied(kubectl, pod("r"))
    live = kubectl.json("get", "pod", "r")
    live["metadata"]["labels"]["more"] = "yes"
    assert "pod/r replaced" in kubectl("replace", "-f", "-", input=live)
    live["metadata"]["resourceVersion"] = "1"
    assert "(Conflict)" in kubectl("replace", "-f", "-", input=live, fails=True)
    uid = live["metadata"]["uid"]
    changed = pod("r", {"name": "main", "command": SLEEPS})
    kubectl("replace", "--force", "-f", "-", input=changed)
    ready(kubectl, "r")
    assert kubectl.json("get", "pod", "r")["metadata"]["uid"] != uid


def test_managers_of_fields_are_kept_apart(kubectl: Kubectl) -> None:
    mine = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "shared"},
        "data": {"a": "1", "b": "1"},
    }
    apply = ("apply", "--server-side", "-f", "-")
    assert "serverside-applied" in kubectl(*apply, input=mine)
    theirs = mine | {"data": {"a": "2"}}
    told = kubectl(*apply, "--field-manager=other", input=theirs, fails=True)
    assert ".data.a" in told
    assert 'conflict with "kubectl"' in told
    kubectl(*apply, "--field-manager=other", "--force-conflicts", input=theirs)
    kubectl(*apply, input=mine | {"data": {"b": "3"}})
    assert kubectl.json("get", "cm", "shared")["data"] == {"a": "2", "b": "3"}


def test_a_stale_write_and_an_immutable_map_are_refused(kubectl: Kubectl) -> None:
    fixed = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "fixed"},
        "data": {"a": "1"},
        "immutable": True,
    }
    loose = {**fixed, "metadata": {"name": "loose"}, "immutable": False}
    kubectl("create", "-f", "-", input=loose)
    seen = kubectl.json("get", "cm", "loose")
    kubectl("label", "cm", "loose", "a=b")
    told = kubectl("replace", "-f", "-", input=seen, fails=True)
    assert "the object has been modified" in told
    kubectl("create", "-f", "-", input=fixed)
    told = kubectl("patch", "cm", "fixed", "-p", '{"data":{"a":"2"}}', fails=True)
    assert "field is immutable when `immutable` is set" in told


# --- deleting and waiting -----------------------------------------------------------------------


def test_deletions_keep_to_the_grace_that_is_asked_for(kubectl: Kubectl) -> None:
    deaf = {"name": "main", "command": sh("trap '' TERM; while :; do sleep 0.1; done")}
    names = ["one", "two", "three", "four"]
    applied(kubectl, *(pod(n, deaf, terminationGracePeriodSeconds=600) for n in names))
    kubectl("delete", "pod", "one", "--wait=false")
    assert rows(kubectl("get", "pod", "one"))[0][2] == "Terminating"
    kubectl("delete", "pod", "one", "--grace-period=1")
    kubectl("delete", "pod", "two", "--now")
    kubectl("delete", "pod", "three", "--force", "--grace-period=0")
    assert "(server dry run)" in kubectl("delete", "pod", "four", "--dry-run=server")
    gone(kubectl, "one")
    assert kubectl("get", "pods", "-o", "name").split() == ["pod/four"]
    kubectl("delete", "pods", "-l", "app=four", "--grace-period=1")
    assert kubectl("get", "pods", "-o", "name") == ""


def test_a_forced_name_is_free_at_once(kubectl: Kubectl) -> None:
    """E10"""
    deaf = {"name": "main", "command": sh("trap '' TERM; while :; do sleep 0.1; done")}
    applied(kubectl, pod("f", deaf))
    uid = kubectl.json("get", "pod", "f")["metadata"]["uid"]
    kubectl("delete", "pod", "f", "--force", "--grace-period=0", "--wait=false")
    kubectl("create", "-f", "-", input=pod("f"))
    ready(kubectl, "f")
    assert kubectl.json("get", "pod", "f")["metadata"]["uid"] != uid


def test_a_finalizer_keeps_the_object_after_its_processes(kubectl: Kubectl) -> None:
    """E09"""
    says = [*GOOD[:2], GOOD[2].replace("signal.pause", "print('up', flush=True); signal.pause")]
    main = {"name": "main", "command": says}
    held = pod("held", main, terminationGracePeriodSeconds=60)
    held["metadata"]["finalizers"] = ["example.com/hold"]
    applied(kubectl, held)
    wait_for(lambda: kubectl("logs", "held") == "up\n", "its handler")
    kubectl("delete", "pod", "held", "--wait=false")
    wait_for(
        lambda: kubectl.json("get", "pod", "held")["status"]["phase"] == "Succeeded",
        "the end of its containers",
    )
    kubectl("patch", "pod", "held", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    gone(kubectl, "held")


def test_a_wait_is_for_conditions_fields_and_ends(kubectl: Kubectl) -> None:
    once = pod("once", {"name": "main", "command": ["true"]}, restartPolicy="Never")
    kubectl("create", "-f", "-", input=once)
    if kubectl.version >= (1, 23):
        kubectl("wait", "pod/once", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
    kubectl("wait", "pod/once", "--for=condition=Ready=false", "--timeout=60s")
    told = kubectl("wait", "pod/once", "--for=condition=Ready", "--timeout=1s", fails=True)
    assert "timed out" in told
    assert rows(kubectl("get", "pod", "once"))[0][2] == "Completed"


def test_a_failed_hook_is_seen_as_in_a_cluster(kubectl: Kubectl) -> None:
    hook = {"preStop": {"exec": {"command": ["false"]}}}
    main = {
        "name": "main",
        "command": GOOD,
        "lifecycle": hook,
        "livenessProbe": {
            "exec": {"command": ["false"]},
            "periodSeconds": 1,
            "failureThreshold": 1,
            "initialDelaySeconds": 1,
        },
    }
    quiet = {"name": "main", "command": GOOD, "lifecycle": hook}
    applied(kubectl, pod("quiet", quiet))
    kubectl("create", "-f", "-", input=pod("sick", main))
    wait_for(
        lambda: "FailedPreStopHook" in kubectl("describe", "pod", "sick"), "the failure to be told"
    )
    kubectl("delete", "pod", "quiet")
    told = [line for line in kubectl("get", "events").splitlines() if "FailedPreStopHook" in line]
    assert any("pod/quiet" in line for line in told), "after the pod is gone"


# --- logs and streams ---------------------------------------------------------------------------


def test_logs_are_filtered_and_followed(kubectl: Kubectl) -> None:
    """G11, G12, G15"""
    script = 'for n in 1 2 3; do echo "line $n"; done; until [ -e "$1" ]; do sleep 0.05; done'
    talks = {"name": "main", "command": sh(script + "; echo last", "/nonexistent")}
    applied(kubectl, pod("logs", talks, {"name": "two", "command": GOOD}))
    logs = ("logs", "logs", "-c", "main")
    wait_for(lambda: kubectl(*logs) == "line 1\nline 2\nline 3\n", "all lines")
    assert kubectl(*logs, "--tail=1") == "line 3\n"
    assert kubectl(*logs, "--limit-bytes=4") == "line"
    assert re.match(r"\d{4}-\d\d-\d\dT\S+Z line 3\n$", kubectl(*logs, "--tail=1", "--timestamps"))
    assert kubectl(*logs, "--since=24h") == "line 1\nline 2\nline 3\n"
    assert "previous terminated container" in kubectl(*logs, "-p", fails=True)
    assert "container zz is not valid for pod logs" in kubectl(
        "logs", "logs", "-c", "zz", fails=True
    )
    assert "line 2" in kubectl("logs", "-l", "app=logs", "--all-containers")
    with in_background(kubectl, *logs, "-f", "--tail=1") as follow:
        assert follow.stdout is not None
        assert follow.stdout.readline() == "line 3\n"
        kubectl("delete", "pod", "logs")
        assert follow.wait(60) == 0


def test_the_log_of_the_instance_before_is_there(kubectl: Kubectl, tmp_path: pathlib.Path) -> None:
    mark = tmp_path / "mark"
    tmp_path.chmod(0o777)
    for folder in (*tmp_path.parents,)[:3]:
        with contextlib.suppress(OSError):
            folder.chmod(folder.stat().st_mode | 0o055)
    script = 'if [ -e "$1" ]; then echo second; exec sleep 1000; fi; touch "$1"; echo first; exit 1'
    kubectl(
        "create", "-f", "-", input=pod("prev", {"name": "main", "command": sh(script, str(mark))})
    )
    wait_for(lambda: kubectl.run("logs", "prev").stdout == "second\n", "the second instance")
    assert kubectl("logs", "prev", "-p") == "first\n"
    assert rows(kubectl("get", "pod", "prev"))[0][3].startswith("1 (")


def test_programs_run_in_containers(kubectl: Kubectl) -> None:
    """G16"""
    applied(kubectl, pod("x"))
    done = kubectl.run("exec", "x", "--", *sh("echo out; echo err >&2; exit 3"))
    assert (done.stdout, done.returncode) == ("out\n", 3)
    assert "err" in done.stderr
    assert "not found" in kubectl("exec", "x", "--", "no-such-program", fails=True)
    assert kubectl("exec", "x", "--", "cat", "/proc/1/comm").strip() == "python3"
    once = pod("once", {"name": "main", "command": ["true"]}, restartPolicy="Never")
    kubectl("create", "-f", "-", input=once)
    wait_for(
        lambda: kubectl.json("get", "pod", "once")["status"]["phase"] == "Succeeded", "its end"
    )
    told = kubectl("exec", "once", "--", "true", fails=True)
    assert "cannot exec into a container in a completed pod" in told


def test_what_is_execed_ends_with_its_client(kubectl: Kubectl) -> None:
    applied(kubectl, pod("x"))
    mark = f"10{os.getpid()}.5"
    with in_background(kubectl, "exec", "x", "--", "sleep", mark):
        wait_for(lambda: _runs(mark), "the program to run")
    wait_for(lambda: not _runs(mark), "the program to end")


def _runs(mark: str) -> bool:
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/cmdline", "rb") as file:
                if file.read() == b"sleep\0" + mark.encode() + b"\0":
                    return True
    return False


def test_files_are_copied_both_ways(kubectl: Kubectl, tmp_path: pathlib.Path) -> None:
    mounts = [{"name": "v", "mountPath": "/copied"}]
    main = {"name": "main", "command": GOOD, "volumeMounts": mounts}
    applied(kubectl, pod("cp", main, volumes=[{"name": "v", "emptyDir": {}}]))
    content = os.urandom(3_000_000)
    (tmp_path / "there").write_bytes(content)
    kubectl("cp", str(tmp_path / "there"), "cp:/copied/file")
    kubectl("cp", "cp:/copied/file", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == content


def test_a_terminal_is_one(kubectl: Kubectl) -> None:
    """`exec -it` under a terminal of its own (script(1))."""
    applied(kubectl, pod("t"))
    # The size is told right after the start.
    script = 'tty; until stty size | grep "33 91"; do sleep 0.05; done'
    words = kubectl.command("exec", "-it", "t", "--", "sh", "-c", f"'{script}'")
    command = f"stty rows 33 cols 91; {' '.join(words)}"
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"],
        env=kubectl._env,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert "/dev/pts/" in done.stdout or "/dev/console" in done.stdout, done
    assert "33 91" in done.stdout, done


def test_attach_shows_what_is_written_from_then_on(kubectl: Kubectl) -> None:
    ticks = {"name": "main", "command": sh("while :; do echo tick; sleep 0.1; done")}
    applied(kubectl, pod("a", ticks))
    with in_background(kubectl, "attach", "a") as attach:
        assert attach.stdout is not None
        assert [attach.stdout.readline() for _ in range(3)] == ["tick\n"] * 3


def test_a_pod_is_run_attached_and_removed(kubectl: Kubectl) -> None:
    words = ("--image=x", "--restart=Never", "--rm", "-i", "--quiet", "--command", "--")
    done = kubectl.run("run", "r", *words, *sh("read line; echo got $line; exit 4"), input="it\n")
    assert "got it" in done.stdout
    assert done.returncode == 4
    wait_for(lambda: kubectl("get", "pods", "-o", "name") == "", "its removal")


def test_an_ephemeral_container_sees_its_target(kubectl: Kubectl) -> None:
    """H21"""
    if kubectl.version < (1, 23):
        pytest.skip("this kubectl does not know `debug` as it is now")
    applied(kubectl, pod("e"))
    words = ("debug", "e", "--image=x", "--target=main", "-c", "dbg", "--")
    kubectl(*words, *sh("tr '\\0' ' ' </proc/1/cmdline; echo; sleep 1000"))
    wait_for(lambda: "python3" in kubectl.run("logs", "e", "-c", "dbg").stdout, "its output")
    status = kubectl.json("get", "pod", "e")["status"]
    assert [s["name"] for s in status["ephemeralContainerStatuses"]] == ["dbg"]
    assert status["phase"] == "Running"


# --- the rest -----------------------------------------------------------------------------------


def test_top_shows_what_processes_use(kubectl: Kubectl) -> None:
    applied(kubectl, pod("busy", {"name": "main", "command": sh("while :; do :; done")}))
    wait_for(lambda: kubectl.run("top", "pods").returncode == 0, "the first measurement")
    (row,) = rows(kubectl("top", "pods"))
    assert re.fullmatch(r"\d+m", row[1])
    assert re.fullmatch(r"\d+Mi", row[2])
    assert "%" in kubectl("top", "nodes")


def test_questions_about_rights_are_answered(kubectl: Kubectl) -> None:
    assert kubectl("auth", "can-i", "create", "pods").strip() == "yes"
    assert "*.*" in kubectl("auth", "can-i", "--list")


def test_a_node_is_drained_and_comes_back(kubectl: Kubectl) -> None:
    applied(kubectl, pod("gone"))
    (node,) = kubectl.json("get", "nodes")["items"]
    name = node["metadata"]["name"]
    try:
        flags = ("--force", "--grace-period=1", "--timeout=60s", "--pod-selector=app=gone")
        said = kubectl("drain", name, *flags)
        if kubectl.version >= (1, 22):  # before, it evicted by policy/v1beta1 alone, else deleted
            assert "evict" in said
        assert kubectl("get", "pods", "-o", "name") == ""
        assert "SchedulingDisabled" in kubectl("get", "nodes")
    finally:
        kubectl("uncordon", name)
    assert "SchedulingDisabled" not in kubectl("get", "nodes")


def test_a_new_namespace_is_furnished_and_takes_all_with_it(kubectl: Kubectl) -> None:
    own = kubectl.namespace
    assert kubectl("get", "sa", "default", "-o", "name").strip() == "serviceaccount/default"
    assert "ca.crt" in kubectl("get", "cm", "kube-root-ca.crt", "-o", "jsonpath={.data}")
    assert "kubernetes" in kubectl("get", "svc", "-n", "default", "-o", "name")
    name = f"{own}-more"
    kubectl("create", "namespace", name)
    kubectl("create", "-n", name, "-f", "-", input=pod("inside"))
    kubectl("create", "-n", name, "configmap", "c", "--from-literal=a=1")
    kubectl("delete", "namespace", name, "--timeout=60s")
    assert "(NotFound)" in kubectl("get", "namespace", name, fails=True)
    assert kubectl("get", "pods", "-n", name, "-o", "name") == ""
    assert "(NotFound)" in kubectl("create", "-n", name, "-f", "-", input=pod("late"), fails=True)


def test_readiness_gates_are_opened_from_outside(kubectl: Kubectl) -> None:
    """C27"""
    if kubectl.version < (1, 24):
        pytest.skip("this kubectl does not know --subresource")
    kubectl(
        "create", "-f", "-", input=pod("g", readinessGates=[{"conditionType": "example.com/ok"}])
    )
    wait_for(lambda: rows(kubectl("get", "pod", "g"))[0][2] == "Running", "it to run")
    assert rows(kubectl("get", "pod", "g"))[0][1] == "1/1"
    told = kubectl("wait", "pod/g", "--for=condition=Ready", "--timeout=1s", fails=True)
    assert "timed out" in told
    opened = {"status": {"conditions": [{"type": "example.com/ok", "status": "True"}]}}
    kubectl("patch", "pod", "g", "--subresource=status", "-p", json.dumps(opened))
    ready(kubectl, "g")


def test_a_changed_image_restarts_only_its_container(kubectl: Kubectl) -> None:
    """F02"""
    two = ({"name": n, "image": f"{n}:1", "command": GOOD} for n in ("main", "two"))
    applied(kubectl, pod("i", *two))
    kubectl("set", "image", "pod/i", "main=main:2")
    wait_for(
        lambda: (
            {
                s["name"]: s["restartCount"]
                for s in kubectl.json("get", "pod", "i")["status"]["containerStatuses"]
            }
            == {"main": 1, "two": 0}
        ),
        "the restart",
    )
    assert "definition changed, will be restarted" in kubectl("describe", "pod", "i")


def test_a_deadline_may_be_added(kubectl: Kubectl) -> None:
    """E06"""
    applied(kubectl, pod("d"))
    kubectl("patch", "pod", "d", "-p", '{"spec":{"activeDeadlineSeconds":1}}')
    reason = ("get", "pod", "d", "-o", "jsonpath={.status.reason}")
    wait_for(lambda: kubectl(*reason) == "DeadlineExceeded", "its end")


def test_configuration_reaches_pods_when_it_comes(kubectl: Kubectl) -> None:
    """H10"""
    source = {"configMapRef": {"name": "late"}}
    shows = {"name": "main", "command": sh("echo $GREETING; exec sleep 1000"), "envFrom": [source]}
    kubectl("create", "-f", "-", input=pod("c", shows))
    wait_for(
        lambda: rows(kubectl("get", "pod", "c"))[0][2] == "CreateContainerConfigError", "it to wait"
    )
    kubectl("create", "configmap", "late", "--from-literal=GREETING=hello")
    wait_for(lambda: kubectl.run("logs", "c").stdout == "hello\n", "it to start")


def test_a_proxy_passes_requests_through(kubectl: Kubectl) -> None:
    port = free_port()
    server = ["python3", "-c", SERVES, str(port)]
    applied(kubectl, pod("web", {"name": "main", "command": server}))
    wait_for(lambda: _answers(port), "the web server")
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods/web:{port}/proxy/"
    assert "Directory listing" in kubectl("get", "--raw", path)
    (node,) = kubectl.json("get", "nodes")["items"]
    pods = kubectl("get", "--raw", f"/api/v1/nodes/{node['metadata']['name']}/proxy/pods")
    assert "web" in [item["metadata"]["name"] for item in json.loads(pods)["items"]]


def test_a_pod_is_exposed_and_what_nobody_schedules_is_noted(kubectl: Kubectl) -> None:
    applied(kubectl, pod("web"))
    assert "exposed" in kubectl("expose", "pod", "web", "--port=80", "--name=front")
    (service,) = kubectl.json("get", "svc", "--field-selector=metadata.name=front")["items"]
    assert service["spec"]["selector"] == {"app": "web"}
    assert "tainted" in kubectl("taint", "node", "podvisor", "a=b:NoSchedule")
    assert "untainted" in kubectl("taint", "node", "podvisor", "a-")
    assert '"kind": "PodList"' in kubectl("cluster-info", "dump", "--namespaces", "default")
    assert "deleted" in kubectl("delete", "pod", "web", "--cascade=foreground")


def test_the_clients_own_proxy_leads_to_the_node(kubectl: Kubectl) -> None:
    with in_background(kubectl, "proxy", "--port=0") as proxy:
        assert proxy.stdout is not None
        port = proxy.stdout.readline().rsplit(":", 1)[1].strip()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/nodes", timeout=60) as answer:
            assert json.load(answer)["kind"] == "NodeList"


def test_the_shell_is_offered_names(kubectl: Kubectl) -> None:
    applied(kubectl, pod("complete-me"))
    if kubectl.version >= (1, 21):
        assert "complete-me" in kubectl("__complete", "get", "pods", "")
