"""The Python clients that people write controllers and tests with: kubernetes and kr8s."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.test_kubectl import pod, sh
from tests.support import Durable, free_port, wait_for

pytestmark = [
    pytest.mark.usefixtures("nothing_left"),
    # Of the clients' own.
    pytest.mark.filterwarnings("ignore"),
]

kubernetes = pytest.importorskip("kubernetes")
pytest.importorskip("kr8s")

_count = 0


@pytest.fixture
def api(cluster: Durable) -> Iterator[Any]:
    client = kubernetes.config.new_client_from_config(f"{cluster.state}/kubeconfig")
    with client:
        yield client
    client.rest_client.pool_manager.clear()  # which closing it does not
    gc.collect()  # its streams hold their connections in circles


@pytest.fixture
def namespace(api: Any) -> Iterator[str]:
    global _count
    _count += 1
    core = kubernetes.client.CoreV1Api(api)
    name = f"clients-{os.getpid()}-{_count}"
    core.create_namespace({"metadata": {"name": name}})
    yield name
    core.delete_namespace(name, grace_period_seconds=0)

    def is_gone() -> bool:
        return name not in [n.metadata.name for n in core.list_namespace().items]

    wait_for(is_gone, "the end of the namespace")


def phase(core: Any, namespace: str, name: str) -> str:
    found: str = core.read_namespaced_pod(name, namespace).status.phase
    return found


def test_kubernetes_goes_through_the_life_of_a_pod(api: Any, namespace: str) -> None:
    """E03, I03, I04"""
    core = kubernetes.client.CoreV1Api(api)
    seen: list[tuple[str, str]] = []
    watch = kubernetes.watch.Watch()

    def follow() -> None:
        for event in watch.stream(core.list_namespaced_pod, namespace, timeout_seconds=60):
            seen.append((event["type"], event["object"].metadata.name))
            if event["type"] == "DELETED":
                return

    thread = threading.Thread(target=follow)
    thread.start()
    created = core.create_namespaced_pod(namespace, pod("life"))
    assert created.metadata.uid
    wait_for(lambda: phase(core, namespace, "life") == "Running", "it to run")
    patched = core.patch_namespaced_pod("life", namespace, {"metadata": {"labels": {"x": "y"}}})
    assert patched.metadata.labels["x"] == "y"
    status = {"status": {"message": "from outside"}}
    told = core.patch_namespaced_pod_status("life", namespace, status)
    assert told.status.message == "from outside"
    listed = core.list_namespaced_pod(namespace, label_selector="x=y", limit=1)
    assert [item.metadata.name for item in listed.items] == ["life"]
    gone = core.delete_namespaced_pod("life", namespace, grace_period_seconds=2)
    assert gone.metadata.deletion_timestamp
    thread.join(90)
    assert not thread.is_alive()
    assert seen[0] == ("ADDED", "life")
    assert seen[-1] == ("DELETED", "life")
    assert ("MODIFIED", "life") in seen
    assert core.list_namespaced_pod(namespace).items == []


def test_kubernetes_deletes_a_collection(api: Any, namespace: str) -> None:
    """E05"""
    core = kubernetes.client.CoreV1Api(api)
    for name, which in (("a", "some"), ("b", "some"), ("c", "other")):
        core.create_namespaced_pod(namespace, pod(name, labels={"set": which}))
    core.delete_collection_namespaced_pod(
        namespace, label_selector="set=some", grace_period_seconds=1
    )
    wait_for(lambda: _names(core, namespace) == ["c"], "the end of those")
    assert core.read_namespaced_pod("c", namespace).metadata.deletion_timestamp is None


def _names(core: Any, namespace: str) -> list[str]:
    return [item.metadata.name for item in core.list_namespaced_pod(namespace).items]


def test_kubernetes_streams(api: Any, namespace: str) -> None:
    """G09, G10"""
    core = kubernetes.client.CoreV1Api(api)
    port = free_port()
    server = ["python3", "-u", "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    core.create_namespaced_pod(namespace, pod("s", {"name": "main", "command": server}))
    wait_for(lambda: "Serving" in _log(core, namespace), "it to serve")
    stream = kubernetes.stream.stream
    connect = core.connect_get_namespaced_pod_exec
    out = stream(connect, "s", namespace, command=["echo", "hello"], stdout=True, stderr=True)
    assert out.strip() == "hello"
    session = stream(
        connect,
        "s",
        namespace,
        command=sh("cat; echo err >&2; exit 5"),
        stdin=True,
        stdout=True,
        stderr=True,
        _preload_content=False,
    )
    session.write_stdin("in\n")
    wait_for(lambda: session.update(timeout=1) or session.peek_stdout(), "the echo")
    assert session.read_stdout() == "in\n"
    session.close()
    forward = kubernetes.stream.portforward(
        core.connect_get_namespaced_pod_portforward, "s", namespace, ports=str(port)
    )
    sock = forward.socket(port)
    sock.setblocking(True)
    sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
    answer = b""
    while part := sock.recv(65536):
        answer += part
    sock.close()
    forward.close()
    wait_for(lambda: not _forwarding(), "its thread to end")
    assert b"Directory listing" in answer


def _forwarding() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if "port forward" in each.name]


def _log(core: Any, namespace: str) -> str:
    try:
        text: str = core.read_namespaced_pod_log("s", namespace)
    except kubernetes.client.exceptions.ApiException:
        return ""
    return text


def test_kubernetes_speaks_of_every_kind(api: Any, namespace: str) -> None:
    """What its models refuse in an answer is an error of ours."""
    core = kubernetes.client.CoreV1Api(api)
    assert core.list_node().items[0].status.node_info.kubelet_version
    for read in (
        core.list_namespaced_config_map,
        core.list_namespaced_secret,
        core.list_namespaced_service,
        core.list_namespaced_service_account,
        core.list_namespaced_endpoints,
        core.list_namespaced_event,
        core.list_namespaced_replication_controller,
        core.list_namespaced_pod_template,
    ):
        read(namespace)
    apps = kubernetes.client.AppsV1Api(api)
    assert apps.list_namespaced_deployment(namespace).items == []
    assert apps.list_namespaced_replica_set(namespace).items == []
    assert kubernetes.client.VersionApi(api).get_code().major == "1"
    made = core.create_namespaced_config_map(
        namespace, {"metadata": {"generateName": "made-"}, "data": {"a": "1"}}
    )
    assert made.metadata.name.startswith("made-")
    lease = {"metadata": {"name": "leader"}, "spec": {"holderIdentity": "me"}}
    leases = kubernetes.client.CoordinationV1Api(api)
    assert leases.create_namespaced_lease(namespace, lease).spec.holder_identity == "me"


def test_the_dynamic_client_finds_and_applies(api: Any, namespace: str) -> None:
    dynamic = kubernetes.dynamic.DynamicClient(api)
    maps = dynamic.resources.get(api_version="v1", kind="ConfigMap")
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "applied"},
        "data": {"a": "1"},
    }
    maps.server_side_apply(body, namespace=namespace, field_manager="test")
    assert maps.get("applied", namespace=namespace).data["a"] == "1"


# In a process of its own: it keeps a thread, a loop and connections until the interpreter ends.
KR8S = """
import sys
import time
import urllib.request

import kr8s

kubeconfig, namespace, port = sys.argv[1:]
api = kr8s.api(kubeconfig=kubeconfig, namespace=namespace)
command = ["python3", "-u", "-m", "http.server", "--bind", "127.0.0.1", port]
spec = {
    "terminationGracePeriodSeconds": 1,
    "containers": [{"name": "main", "command": command}],
}
body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "k"}, "spec": spec}
pod = kr8s.objects.Pod(body, namespace=namespace, api=api)
pod.create()
pod.wait("condition=Ready", timeout=90)
assert pod.ready()
assert pod.exec(["echo", "hello"]).stdout == b"hello\\n"
pod.label({"x": "y"})
assert [found.name for found in api.get("pods", label_selector={"x": "y"})] == ["k"]
while "Serving" not in "\\n".join(pod.logs()):
    time.sleep(0.05)
with pod.portforward(remote_port=int(port), local_port="auto") as local:
    with urllib.request.urlopen(f"http://127.0.0.1:{local}/", timeout=60) as answer:
        assert b"Directory listing" in answer.read()
pod.delete()
while pod.exists():
    time.sleep(0.05)
print("gone")
"""


def test_kr8s_goes_through_the_life_of_a_pod(cluster: Durable, namespace: str) -> None:
    words = [sys.executable, "-c", KR8S, f"{cluster.state}/kubeconfig", namespace]
    done = subprocess.run(
        [*words, str(free_port())], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.stdout == "gone\n", done.stderr
