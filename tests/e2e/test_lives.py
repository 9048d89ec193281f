"""What clients of the API find again after the node was killed with -9 and started again."""

from __future__ import annotations

import os
import signal

import pytest

from tests.e2e.conftest import KUBECTLS, Kubectl
from tests.e2e.test_kubectl import GOOD, gone, pod, ready, rows
from tests.support import BEST, Durable, Place, places, wait_for

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture
def node() -> object:
    made = places(BEST)
    place: Place = next(made)
    node = Durable(place)
    try:
        yield node
    finally:
        node.kill_everything()
        next(made, None)


def kubectl_of(node: Durable, home: str) -> Kubectl:
    if not KUBECTLS:
        pytest.skip("there is no kubectl on this machine (Debian: apt install kubernetes-client)")
    version, binary = KUBECTLS[-1]
    return Kubectl(binary, version, f"{node.state}/kubeconfig", home)


def test_pods_objects_events_and_the_way_to_the_node_outlive_it(
    node: Durable, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """§11: events are kept for an hour, whatever dies."""
    session = node.serve("--state-dir", node.state)
    wait_for(lambda: os.path.exists(f"{node.state}/kubeconfig"), "the kubeconfig")
    kubectl = kubectl_of(node, str(tmp_path_factory.mktemp("home")))
    hook = {"preStop": {"exec": {"command": ["false"]}}}
    kubectl("create", "configmap", "kept", "--from-literal=a=1")
    kubectl("create", "-f", "-", input=pod("stays"))
    failing = {"name": "main", "command": GOOD, "lifecycle": hook}
    kubectl("create", "-f", "-", input=pod("gone", failing))
    ready(kubectl, "stays")
    ready(kubectl, "gone")
    kubectl("delete", "pod", "gone")
    deaf = {"name": "main", "command": ["sleep", "1000"]}
    held = pod("held", deaf, terminationGracePeriodSeconds=600)
    held["metadata"]["finalizers"] = ["example.com/hold"]
    kubectl("create", "-f", "-", input=held)
    ready(kubectl, "held")
    kubectl("delete", "pod", "held", "--wait=false")
    before = kubectl.json("get", "pod", "stays")
    with open(f"{node.state}/kubeconfig") as file:
        config = file.read()
    session.signal(signal.SIGKILL)
    session.wait(-signal.SIGKILL, keeps=True)
    assert kubectl("get", "pods", fails=True)
    session = node.serve("--state-dir", node.state)
    wait_for(lambda: kubectl.run("get", "pods").returncode == 0, "the node's next life")
    with open(f"{node.state}/kubeconfig") as file:
        assert file.read() == config, "the same port, token and authority"
    after = kubectl.json("get", "pod", "stays")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["containerStatuses"] == before["status"]["containerStatuses"]
    assert kubectl.json("get", "cm", "kept")["data"] == {"a": "1"}
    told = [line for line in kubectl("get", "events").splitlines() if "FailedPreStopHook" in line]
    assert any("pod/gone" in line for line in told), "events outlive their pod"
    assert rows(kubectl("get", "pod", "held"))[0][2] == "Terminating"
    kubectl("delete", "pod", "held", "--grace-period=1", "--wait=false")
    wait_for(lambda: kubectl.json("get", "pod", "held")["status"]["phase"] == "Failed", "its end")
    kubectl("patch", "pod", "held", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    gone(kubectl, "held")


def test_a_forced_deletion_goes_on_after_a_kill(
    node: Durable, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """§7.1.5, E10: the object is gone at once, and no process of it is left in the end."""
    session = node.serve("--state-dir", node.state)
    wait_for(lambda: os.path.exists(f"{node.state}/kubeconfig"), "the kubeconfig")
    kubectl = kubectl_of(node, str(tmp_path_factory.mktemp("home")))
    kubectl("create", "-f", "-", input=pod("f", {"name": "main", "command": ["sleep", "1000"]}))
    ready(kubectl, "f")
    pid = node.pid("f", "main")
    kubectl("delete", "pod", "f", "--force", "--grace-period=0", "--wait=false")
    session.signal(signal.SIGKILL)
    session.wait(-signal.SIGKILL, keeps=True)
    node.serve("--state-dir", node.state)
    wait_for(lambda: kubectl.run("get", "pods").returncode == 0, "the node's next life")
    assert kubectl("get", "pods", "-o", "name") == ""
    wait_for(lambda: not os.path.exists(f"/proc/{pid}"), "the end of its process")
    wait_for(lambda: not node.snapshot.pods, "its record to go")
