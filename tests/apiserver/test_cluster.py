"""What every cluster keeps by itself. Exact times, no machine but for its facts."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from supervisor.api import v1
from supervisor.apiserver.cluster import Cluster
from supervisor.apiserver.contract import Json
from supervisor.kubelet.clock import Clock
from supervisor.runtime.cri import Isolation
from supervisor.runtime.spec import NodeInfo
from supervisor.store.contract import Change, Edit
from supervisor.store.memory import MemoryStore
from tests.apiserver.worlds import Api, api, config_map, pod, refusal, until
from tests.kubelet.conftest import Program, anyio_backend, fake_clock

__all__ = ["anyio_backend", "fake_clock"]
pytestmark = pytest.mark.anyio

INFO = NodeInfo(
    name="here",
    host_ip="127.0.0.1",
    isolation=Isolation.GROUP,
    state_dir="/nowhere",
    working_dir="/",
    uid=1000,
    gid=1000,
    groups=(),
    cpu_millis=4000,
    memory=8 * 1024**3,
    ephemeral_storage=1024**3,
)


@asynccontextmanager
async def cluster(
    clock: Clock, programs: dict[str, Program] | None = None, store: Any = None
) -> AsyncIterator[Api]:
    async with api(clock, programs, store) as a, anyio.create_task_group() as tasks:
        kept = Cluster(a.registry, INFO, version="v1.33.0", authority="PEM", port=6443)
        await kept.start()
        tasks.start_soon(kept.run)
        yield a
        tasks.cancel_scope.cancel()


async def test_the_namespaces_of_a_cluster_are_there_and_stay(fake_clock: Clock) -> None:
    async with cluster(fake_clock) as a:
        names = ["default", "kube-node-lease", "kube-public", "kube-system"]
        assert [entry.name for entry in a.cache.list("namespaces")] == names
        for name in names:
            error = await refusal(a.delete("namespaces", name))
            assert error.code == 403
            found = a.get("namespaces", name)
            assert found is not None
            assert found["metadata"]["labels"] == {"kubernetes.io/metadata.name": name}
            assert found["status"] == {"phase": "Active"}
            assert found["spec"] == {"finalizers": ["kubernetes"]}


async def test_each_namespace_has_an_account_and_the_certificate_again_and_again(
    fake_clock: Clock,
) -> None:
    async with cluster(fake_clock) as a:
        await a.create("namespaces", {"metadata": {"name": "mine"}})
        for name in ("default", "mine"):
            await until(a, lambda name=name: a.get("serviceaccounts", "default", name))
            found = await until(a, lambda name=name: a.get("configmaps", "kube-root-ca.crt", name))
            assert found["data"] == {"ca.crt": "PEM"}
        await a.delete("serviceaccounts", "default", "mine")
        await a.delete("configmaps", "kube-root-ca.crt", "mine")
        await until(a, lambda: a.get("serviceaccounts", "default", "mine"))
        await until(a, lambda: a.get("configmaps", "kube-root-ca.crt", "mine"))
        await a.change("configmaps", "kube-root-ca.crt", {"data": {"ca.crt": "other"}}, "mine")

        def right() -> bool:
            found = a.get("configmaps", "kube-root-ca.crt", "mine")
            return found is not None and found["data"] == {"ca.crt": "PEM"}

        await until(a, right)


async def test_a_namespace_takes_with_it_what_is_in_it(fake_clock: Clock) -> None:
    async with cluster(fake_clock, {"a": Program(term=5.0)}) as a:
        await a.create("namespaces", {"metadata": {"name": "mine"}})
        held = config_map()
        held["metadata"]["finalizers"] = ["example.com/wait"]
        await a.create("configmaps", held, "mine")
        await a.create("secrets", {"metadata": {"name": "s"}}, "mine")
        await a.create("pods", pod(), "mine")
        await a.clock.sleep(1)
        answer = await a.delete("namespaces", "mine")
        assert (answer["kind"], answer["status"]["phase"]) == ("Namespace", "Terminating")
        await until(a, lambda: a.get("secrets", "s", "mine") is None)
        going = a.get("pods", "web", "mine")
        assert going is not None
        assert going["metadata"]["deletionTimestamp"]
        await until(a, lambda: a.get("pods", "web", "mine") is None)
        # Who takes its own finalizer away takes nothing.
        await a.change("namespaces", "mine", {"spec": {"finalizers": []}})
        assert a.get("namespaces", "mine") is not None
        await a.change("configmaps", "settings", {"metadata": {"finalizers": None}}, "mine")
        await until(a, lambda: a.get("namespaces", "mine") is None)
        await a.clock.sleep(30)
        left = [
            entry.name
            for kind in ("configmaps", "serviceaccounts", "events", "namespaces")
            for entry in a.cache.list(kind, "mine" if kind != "namespaces" else "")
            if entry.namespace == "mine" or entry.name == "mine"
        ]
        assert left == []


async def test_what_comes_into_a_namespace_that_has_gone_goes_as_well(fake_clock: Clock) -> None:
    async with cluster(fake_clock) as a:
        meta = {"name": "late", "namespace": "gone", "uid": "u"}
        body: Json = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta}
        at = a.clock.now()
        edit = Edit(at=at, resource="configmaps", namespace="gone", name="late", body=body)
        await a.store.edit(edit)
        await until(a, lambda: a.get("configmaps", "late", "gone") is None)
        assert a.get("namespaces", "gone") is None


async def test_a_pod_of_a_file_brings_its_namespace(fake_clock: Clock) -> None:
    async with cluster(fake_clock) as a:
        container = v1.Container(name="a", command=("a",))
        meta = v1.ObjectMeta(name="x", namespace="of-files")
        a.world.node.run_pod(v1.Pod(metadata=meta, spec=v1.PodSpec(containers=(container,))))
        await until(a, lambda: a.get("serviceaccounts", "default", "of-files"))


async def test_the_service_of_the_api_is_there_and_comes_back(fake_clock: Clock) -> None:
    async with cluster(fake_clock) as a:
        for _ in range(2):
            found = await until(a, lambda: a.get("services", "kubernetes"))
            assert found["spec"]["clusterIP"] == "127.0.0.1"
            assert found["spec"]["ports"] == [
                {"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}
            ]
            behind = await until(a, lambda: a.get("endpoints", "kubernetes"))
            assert behind["subsets"][0]["addresses"] == [{"ip": "127.0.0.1"}]
            await a.delete("services", "kubernetes")


async def test_the_node_is_ready_and_says_what_it_is(fake_clock: Clock) -> None:
    async with cluster(fake_clock) as a:
        node = a.get("nodes", "here")
        assert node is not None
        labels = node["metadata"]["labels"]
        assert labels["podvisor/isolation"] == "group"
        assert labels["kubernetes.io/hostname"] == "here"
        assert "taints" not in node["spec"]
        status = node["status"]
        conditions = {c["type"]: c["status"] for c in status["conditions"]}
        assert conditions.pop("Ready") == "True"
        assert set(conditions.values()) == {"False"}
        assert status["capacity"]["cpu"] == "4"
        assert status["capacity"]["memory"] == "8388608Ki"
        assert len(status["nodeInfo"]) == 10
        assert status["nodeInfo"]["kubeletVersion"] == "v1.33.0"


async def test_what_clients_add_to_the_node_outlives_it(fake_clock: Clock) -> None:
    store = MemoryStore()
    async with cluster(fake_clock, store=store) as a:
        changes: Json = {"metadata": {"labels": {"disk": "ssd"}}, "spec": {"unschedulable": True}}
        await a.change("nodes", "here", changes | {"status": {"conditions": []}})
        dongles: Json = {"status": {"capacity": {"example.com/dongle": "4"}}}
        await a.change("nodes", "here", dongles, subresource="status")
        error = await refusal(a.create("pods", pod()))
        assert error.code == 403
        assert "node here is cordoned" in error.message
        await a.create("pods", pod("named", nodeName="here"))
        since = a.get("nodes", "here")
    await fake_clock.sleep(100)
    async with cluster(fake_clock, store=store) as a:
        node = a.get("nodes", "here")
        assert node is not None
        assert since is not None
        assert node["metadata"]["labels"]["disk"] == "ssd"
        assert node["spec"] == {"unschedulable": True}
        assert node["status"]["capacity"]["example.com/dongle"] == "4"
        assert node["status"]["allocatable"] == node["status"]["capacity"]
        was, now = since["status"]["conditions"][-1], node["status"]["conditions"][-1]
        assert now["lastTransitionTime"] == was["lastTransitionTime"]
        assert now["lastHeartbeatTime"] > was["lastHeartbeatTime"]


async def test_the_node_reports_now_and_then_and_keeps_what_names_it(fake_clock: Clock) -> None:
    async with cluster(fake_clock) as a:

        def beat() -> str:
            node = a.get("nodes", "here")
            assert node is not None
            return str(node["status"]["conditions"][0]["lastHeartbeatTime"])

        await a.change("nodes", "here", {"spec": {"providerID": "mine"}})
        error = await refusal(a.change("nodes", "here", {"spec": {"providerID": "yours"}}))
        assert error.code == 422
        taints = [{"key": "a", "effect": "NoSchedule"}]
        (warning,) = (await a.change("nodes", "here", {"spec": {"taints": taints}})).warnings
        assert warning.startswith("spec.taints are only noted")
        assert not (await a.change("nodes", "here", {"metadata": {"labels": {}}})).warnings
        first = beat()
        await a.clock.sleep(250)
        assert beat() == first
        await a.clock.sleep(70)
        second = beat()
        assert second > first
        await a.clock.sleep(250)
        assert beat() == second


class CountingStore(MemoryStore):
    """Knows what was to be synced."""

    def __init__(self) -> None:
        super().__init__()
        self.edits: list[Edit] = []

    async def edit(self, edit: Edit) -> int:
        self.edits.append(edit)
        return await super().edit(edit)


async def test_the_lease_is_renewed_and_wears_no_disk(fake_clock: Clock) -> None:
    store = CountingStore()
    async with cluster(fake_clock, store=store) as a:
        lease = "leases.coordination.k8s.io"
        first = a.get(lease, "here", "kube-node-lease")
        await a.clock.sleep(25)
        last = a.get(lease, "here", "kube-node-lease")
        assert first is not None
        assert last is not None
        assert first["spec"]["renewTime"] == "2023-11-14T22:13:20.000000Z"
        assert last["spec"]["renewTime"] == "2023-11-14T22:13:40.000000Z"
        assert last["metadata"]["uid"] == first["metadata"]["uid"]
        node = a.get("nodes", "here")
        assert node is not None
        assert last["metadata"]["ownerReferences"][0]["uid"] == node["metadata"]["uid"]
        renewals = [edit for edit in store.edits if edit.resource == lease]
        assert len(renewals) == 3
        assert not any(edit.synced for edit in renewals)


async def test_configuration_is_told_before_the_answer(fake_clock: Clock) -> None:
    async with cluster(fake_clock) as a:
        await a.create("configmaps", config_map(binaryData={"raw": "AAE="}))
        await a.create("secrets", {"metadata": {"name": "s"}, "stringData": {"k": "v"}})
        told = a.pods.configurations[-1]
        assert told.config_maps["default", "settings"] == {"key": b"value", "raw": b"\0\1"}
        assert told.binary_data == {("default", "settings", "raw")}
        assert told.secrets == {("default", "s"): {"k": b"v"}}
        await a.delete("secrets", "s")
        await a.delete("configmaps", "settings")
        told = a.pods.configurations[-1]
        assert told.secrets == {}
        assert ("default", "settings") not in told.config_maps


async def test_configuration_of_an_earlier_life_is_told_at_the_start(fake_clock: Clock) -> None:
    store = MemoryStore()
    async with api(fake_clock, store=store) as a:
        await a.create("configmaps", config_map())
    async with cluster(fake_clock, store=store) as a:
        assert a.pods.configurations[0].config_maps["default", "settings"] == {"key": b"value"}


async def test_what_could_not_be_stored_is_tried_again(
    fake_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster(fake_clock) as a:
        await a.create("namespaces", {"metadata": {"name": "mine"}})

        async def full(*_: Any) -> int:
            raise OSError(28, "no room")

        with monkeypatch.context() as patch:
            patch.setattr(a.store, "edit", full)
            await a.clock.sleep(20)
            assert a.get("serviceaccounts", "default", "mine") is None
        await until(a, lambda: a.get("serviceaccounts", "default", "mine"))


class FullStore(MemoryStore):
    """Its disk has room for one namespace, until it has more."""

    is_full = True

    async def edit(self, edit: Edit) -> int:
        if self.is_full and self._objects:
            raise OSError(errno.ENOSPC, "no space left")
        return await super().edit(edit)


async def test_a_full_disk_at_the_start_keeps_no_request_out(fake_clock: Clock) -> None:
    store = FullStore()
    async with cluster(fake_clock, store=store) as a:
        assert a.get("nodes", "here") is None
        store.is_full = False
        await until(a, lambda: a.get("leases.coordination.k8s.io", "here", "kube-node-lease"))
        assert a.get("serviceaccounts", "default") is not None
        assert a.get("nodes", "here") is not None
        await a.create("namespaces", {"metadata": {"name": "mine"}})
        await until(a, lambda: a.get("serviceaccounts", "default", "mine"))


class SlowToTakeOn(MemoryStore):
    """Pods are on their way for a while."""

    async def commit(self, change: Change) -> int:
        await anyio.sleep(1.0)
        return await super().commit(change)


async def test_a_namespace_waits_for_a_pod_that_is_on_its_way_into_it(fake_clock: Clock) -> None:
    async with cluster(fake_clock, store=SlowToTakeOn()) as a:
        await a.create("namespaces", {"metadata": {"name": "going"}})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(a.create, "pods", pod(), "going")
            await anyio.sleep(0.1)
            assert a.pods.node.workers
            await a.delete("namespaces", "going")
        await until(a, lambda: a.get("namespaces", "going") is None)
        assert a.pods.node.workers == ()
        await a.clock.sleep(30)
        assert a.get("namespaces", "going") is None
