"""The node as an object: what clients are told about the machine, and the lease that it renews.

Pure, but for `facts`, which asks the machine once. Conditions are those of a healthy kubelet: a
node that could not run pods would not answer, either.
"""

from __future__ import annotations

import platform
from datetime import UTC, datetime

from msgspec import Struct

from supervisor._version import __version__
from supervisor.api import objects
from supervisor.apiserver import quota
from supervisor.apiserver.contract import Json, as_map
from supervisor.apiserver.discovery import architecture
from supervisor.lifecycle.facts import Instant, rfc3339
from supervisor.runtime.spec import NodeInfo

LEASES = "leases.coordination.k8s.io"
LEASE_NAMESPACE = "kube-node-lease"
LEASE_SECONDS = 40
ISOLATION_LABEL = "podvisor/isolation"

_CONDITIONS = (
    (
        "MemoryPressure",
        "False",
        "KubeletHasSufficientMemory",
        "kubelet has sufficient memory available",
    ),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
)


class Machine(Struct, frozen=True, kw_only=True):
    """What there is to say about it."""

    architecture: str
    boot_id: str
    kernel: str
    machine_id: str
    os_image: str


def facts() -> Machine:
    """Ask the machine. What it does not say is empty."""
    return Machine(
        architecture=architecture(),
        boot_id=_first_line("/proc/sys/kernel/random/boot_id"),
        kernel=platform.release(),
        machine_id=_first_line("/etc/machine-id"),
        os_image=_os_image(),
    )


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""


def _os_image() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return ""


def node(
    old: Json | None, info: NodeInfo, machine: Machine, *, port: int, version: str, at: Instant
) -> Json:
    """The node as it is now. `old`: as it was stored; what clients have added to it stays."""
    known = old or {"metadata": {"name": info.name}, "spec": {}}
    labels = known["metadata"].get("labels") or {}
    own = {
        "kubernetes.io/arch": machine.architecture,
        "kubernetes.io/hostname": info.name,
        "kubernetes.io/os": "linux",
        ISOLATION_LABEL: str(info.isolation),
    }
    before = known.get("status") or {}
    return known | {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": known["metadata"] | {"labels": labels | own},
        "status": _status(before, info, machine, port=port, version=version, at=at),
    }


def _status(
    before: Json, info: NodeInfo, machine: Machine, *, port: int, version: str, at: Instant
) -> Json:
    # Resources that somebody has advertised have the name of a domain.
    advertised = {key: n for key, n in as_map(before.get("capacity")).items() if "/" in key}
    capacity = advertised | {
        "cpu": str(info.cpu_millis // 1000),
        "ephemeral-storage": f"{info.ephemeral_storage // 1024}Ki",
        "memory": f"{info.memory // 1024}Ki",
        "pods": str(quota.PODS),
    }
    status: Json = {
        "addresses": [
            {"address": info.host_ip, "type": "InternalIP"},
            {"address": info.name, "type": "Hostname"},
        ],
        "allocatable": capacity,
        "capacity": capacity,
        "conditions": _conditions(before.get("conditions") or [], at),
        "nodeInfo": {
            "architecture": machine.architecture,
            "bootID": machine.boot_id,
            "containerRuntimeVersion": f"podvisor://{__version__}",
            "kernelVersion": machine.kernel,
            "kubeProxyVersion": "",
            "kubeletVersion": version,
            "machineID": machine.machine_id,
            "operatingSystem": "linux",
            "osImage": machine.os_image,
            "systemUUID": "",
        },
    }
    if port:
        status["daemonEndpoints"] = {"kubeletEndpoint": {"Port": port}}
    return status


def _conditions(before: list[Json], at: Instant) -> list[Json]:
    """Those of the node, then those that somebody else has set."""
    now = rfc3339(at)
    known = {condition.get("type"): condition for condition in before}
    own = []
    for kind, status, reason, message in _CONDITIONS:
        last = known.pop(kind, {})
        since = last.get("lastTransitionTime") if last.get("status") == status else None
        own.append(
            {
                "lastHeartbeatTime": now,
                "lastTransitionTime": since or now,
                "message": message,
                "reason": reason,
                "status": status,
                "type": kind,
            }
        )
    return [*own, *known.values()]


def lease(old: Json | None, name: str, uid: str, at: Instant) -> Json:
    """The node's lease, renewed. `old`: as it is."""
    known = old or {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": LEASE_NAMESPACE},
    }
    meta = {key: value for key, value in known["metadata"].items() if key != "resourceVersion"}
    owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}
    spec = {
        "holderIdentity": name,
        "leaseDurationSeconds": LEASE_SECONDS,
        "renewTime": micro_time(at),
    }
    return known | {"metadata": meta | {"ownerReferences": [owner]}, "spec": spec}


def micro_time(at: Instant) -> str:
    return datetime.fromtimestamp(at.wall, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def kubernetes_service(port: int) -> tuple[Json, Json]:
    """The Service `default/kubernetes`, behind which the API is, and its Endpoints."""
    meta = {
        "name": "kubernetes",
        "namespace": "default",
        "labels": {"component": "apiserver", "provider": "kubernetes"},
    }
    ports = [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port or 443}]
    service: Json = {"metadata": meta, "spec": {"ports": ports}}
    addresses = [{"ip": objects.LOCAL}]
    behind = [{"name": "https", "port": port or 443, "protocol": "TCP"}]
    endpoints = {"metadata": meta, "subsets": [{"addresses": addresses, "ports": behind}]}
    return service, endpoints
