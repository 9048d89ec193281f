"""The support table: what podvisor does with every field of a Pod. The only place that says so.

Validation turns the rows into warnings and refusals, and `podvisor fields` prints them; a
test holds the table against the model in both directions, so a field cannot be added to one and
forgotten in the other. A row speaks for everything beneath it, unless it is honoured or emulated
and its value is an object: then each of the object's fields has its own row.

The four words: *honoured* fields do here what they do on a cluster; *emulated* ones are accepted
and seen where a program looks for them (environment, status), and what they ask for is either
always so or makes no difference on one machine; *ignored* ones would make a difference and are
warned about; *refused* ones would be a lie if the pod ran all the same.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from supervisor.api import v1
from supervisor.api.problems import Finding, Path, Severity, said


class Support(enum.StrEnum):
    HONOURED = "honoured"
    EMULATED = "emulated"
    IGNORED = "ignored"
    REFUSED = "refused"


class Row(Struct, frozen=True, omit_defaults=True):
    """What is done with one field, or with one of its values."""

    path: str  # spec.containers[].command
    support: Support
    note: str = ""
    value: str | bool | None = None  # the row speaks for this value of the field only
    warn: bool = False  # an emulated field that is worth a warning when it is set


HONOURED, EMULATED = Support.HONOURED, Support.EMULATED
IGNORED, REFUSED = Support.IGNORED, Support.REFUSED

_ONE_NODE = "there is one node"
_NO_SCHEDULER = "there is no scheduler"
_NO_PULL = "images are not pulled"
_HOST_NET = "containers use the host's network"
_HOST_NAMES = "containers use the host's name resolution"
_HOST_NAME = "containers have the host's name"
_NO_CONFINEMENT = "processes are not confined"
_NO_WINDOWS = "containers are Linux processes"
_NODE_SETS = "set by the node, not by the manifest"
_NO_COLLECTOR = "kept and shown; there is no garbage collector"
_NO_CLAIM = "not yet: use hostPath for what must stay, emptyDir for what may go with the pod"
_NO_DRIVER = "there are no volume drivers: use hostPath, with what it would bring already there"
_NO_CLOUD = "it needs a cloud, or a storage system, that is not here: use hostPath"
_DEVICES = "there are no device drivers"

_METADATA = (
    Row("metadata", HONOURED),
    Row("metadata.annotations", HONOURED),
    Row("metadata.creationTimestamp", EMULATED, _NODE_SETS),
    Row("metadata.deletionGracePeriodSeconds", EMULATED, _NODE_SETS),
    Row("metadata.deletionTimestamp", EMULATED, _NODE_SETS),
    Row("metadata.finalizers", HONOURED, "a pod stays until the API has taken them away"),
    Row("metadata.generateName", REFUSED, "names are made by an API server: give the pod a name"),
    Row("metadata.generation", EMULATED, _NODE_SETS),
    Row("metadata.labels", HONOURED),
    Row("metadata.managedFields", EMULATED, _NODE_SETS),
    Row("metadata.name", HONOURED),
    Row("metadata.namespace", HONOURED, "a name only: nothing has to exist"),
    Row("metadata.ownerReferences", EMULATED, _NO_COLLECTOR),
    *(
        Row(f"metadata.ownerReferences[].{name}", EMULATED, _NO_COLLECTOR)
        for name in ("apiVersion", "blockOwnerDeletion", "controller", "kind", "name", "uid")
    ),
    Row("metadata.resourceVersion", EMULATED, _NODE_SETS),
    Row("metadata.selfLink", EMULATED, _NODE_SETS),
    Row("metadata.uid", EMULATED, _NODE_SETS),
)


def _items(name: str) -> tuple[Row, ...]:
    return (
        Row(f"{name}.items", HONOURED),
        Row(f"{name}.items[].key", HONOURED),
        Row(f"{name}.items[].mode", HONOURED),
        Row(f"{name}.items[].path", HONOURED),
    )


def _downward(name: str) -> tuple[Row, ...]:
    item = f"{name}.items[]"
    return (
        Row(f"{name}.items", HONOURED),
        Row(f"{item}.fieldRef", HONOURED),
        Row(f"{item}.fieldRef.apiVersion", HONOURED),
        Row(f"{item}.fieldRef.fieldPath", HONOURED),
        Row(f"{item}.mode", HONOURED),
        Row(f"{item}.path", HONOURED),
        Row(f"{item}.resourceFieldRef", HONOURED),
        Row(f"{item}.resourceFieldRef.containerName", HONOURED),
        Row(f"{item}.resourceFieldRef.divisor", HONOURED),
        Row(f"{item}.resourceFieldRef.resource", HONOURED),
    )


_V = "spec.volumes[]"
_VOLUMES = (
    Row("spec.volumes", HONOURED, "their mounts not in isolation mode group"),
    *(
        Row(f"{_V}.{name}", REFUSED, _NO_CLOUD)
        for name in ("awsElasticBlockStore", "azureDisk", "azureFile", "cephfs", "cinder")
    ),
    Row(f"{_V}.configMap", HONOURED),
    Row(f"{_V}.configMap.defaultMode", HONOURED),
    *_items(f"{_V}.configMap"),
    Row(f"{_V}.configMap.name", HONOURED),
    Row(f"{_V}.configMap.optional", HONOURED),
    Row(f"{_V}.csi", REFUSED, _NO_DRIVER),
    Row(f"{_V}.downwardAPI", HONOURED),
    Row(f"{_V}.downwardAPI.defaultMode", HONOURED),
    *_downward(f"{_V}.downwardAPI"),
    Row(f"{_V}.emptyDir", HONOURED, "in podvisor's state folder"),
    Row(f"{_V}.emptyDir.medium", HONOURED, "Memory: on a tmpfs, where there is one to write to"),
    Row(f"{_V}.emptyDir.sizeLimit", HONOURED, "measured every 10 s"),
    Row(f"{_V}.ephemeral", REFUSED, _NO_CLAIM),
    Row(f"{_V}.fc", REFUSED, _NO_CLOUD),
    Row(f"{_V}.flexVolume", REFUSED, _NO_DRIVER),
    Row(f"{_V}.flocker", REFUSED, _NO_CLOUD),
    Row(f"{_V}.gcePersistentDisk", REFUSED, _NO_CLOUD),
    Row(f"{_V}.gitRepo", REFUSED, "it is gone from Kubernetes: clone in an init container"),
    Row(f"{_V}.glusterfs", REFUSED, _NO_CLOUD),
    Row(f"{_V}.hostPath", HONOURED),
    Row(f"{_V}.hostPath.path", HONOURED),
    Row(f"{_V}.hostPath.type", HONOURED, "without one, a missing path becomes a folder"),
    Row(f"{_V}.image", REFUSED, "images are not pulled: use hostPath with the files of the image"),
    Row(f"{_V}.iscsi", REFUSED, _NO_CLOUD),
    Row(f"{_V}.name", HONOURED),
    Row(f"{_V}.nfs", REFUSED, "not yet: mount it on this machine and use hostPath"),
    Row(f"{_V}.persistentVolumeClaim", REFUSED, _NO_CLAIM),
    Row(f"{_V}.photonPersistentDisk", REFUSED, _NO_CLOUD),
    Row(f"{_V}.portworxVolume", REFUSED, _NO_CLOUD),
    Row(f"{_V}.projected", HONOURED),
    Row(f"{_V}.projected.defaultMode", HONOURED),
    Row(f"{_V}.projected.sources", HONOURED),
    Row(f"{_V}.projected.sources[].clusterTrustBundle", REFUSED, "there is no cluster"),
    Row(f"{_V}.projected.sources[].configMap", HONOURED),
    *_items(f"{_V}.projected.sources[].configMap"),
    Row(f"{_V}.projected.sources[].configMap.name", HONOURED),
    Row(f"{_V}.projected.sources[].configMap.optional", HONOURED),
    Row(f"{_V}.projected.sources[].downwardAPI", HONOURED),
    *_downward(f"{_V}.projected.sources[].downwardAPI"),
    Row(f"{_V}.projected.sources[].podCertificate", REFUSED, "nobody signs certificates here"),
    Row(f"{_V}.projected.sources[].secret", HONOURED),
    *_items(f"{_V}.projected.sources[].secret"),
    Row(f"{_V}.projected.sources[].secret.name", HONOURED),
    Row(f"{_V}.projected.sources[].secret.optional", HONOURED),
    Row(
        f"{_V}.projected.sources[].serviceAccountToken",
        REFUSED,
        "there is no API server that issues tokens",
    ),
    Row(f"{_V}.quobyte", REFUSED, _NO_CLOUD),
    Row(f"{_V}.rbd", REFUSED, _NO_CLOUD),
    Row(f"{_V}.scaleIO", REFUSED, _NO_CLOUD),
    Row(f"{_V}.secret", HONOURED),
    Row(f"{_V}.secret.defaultMode", HONOURED),
    *_items(f"{_V}.secret"),
    Row(f"{_V}.secret.optional", HONOURED),
    Row(f"{_V}.secret.secretName", HONOURED),
    Row(f"{_V}.storageos", REFUSED, _NO_CLOUD),
    Row(f"{_V}.vsphereVolume", REFUSED, _NO_CLOUD),
)

_SPEC = (
    Row("spec", HONOURED),
    Row("spec.activeDeadlineSeconds", HONOURED),
    Row("spec.affinity", IGNORED, _ONE_NODE),
    Row("spec.automountServiceAccountToken", EMULATED, "there are no tokens"),
    Row("spec.containers", HONOURED),
    Row("spec.dnsConfig", IGNORED, _HOST_NAMES),
    Row("spec.dnsPolicy", EMULATED, _HOST_NAMES),
    Row("spec.dnsPolicy", IGNORED, _HOST_NAMES, value="None"),
    Row("spec.enableServiceLinks", EMULATED, "there are no services"),
    Row("spec.ephemeralContainers", REFUSED, "they are added to a running pod"),
    Row("spec.hostAliases", HONOURED, "not in isolation mode group"),
    Row("spec.hostAliases[].hostnames", HONOURED),
    Row("spec.hostAliases[].ip", HONOURED),
    Row("spec.hostIPC", EMULATED, "always so"),
    Row("spec.hostNetwork", EMULATED, "always so"),
    Row("spec.hostPID", REFUSED, "not yet: a container sees its own processes only"),
    Row("spec.hostUsers", EMULATED, "always so"),
    Row("spec.hostUsers", IGNORED, "users are the host's", value=False),
    Row("spec.hostname", EMULATED, "HOSTNAME says it; the host's own name stays"),
    Row("spec.hostnameOverride", IGNORED, _HOST_NAME),
    Row("spec.imagePullSecrets", EMULATED, _NO_PULL),
    Row("spec.imagePullSecrets[].name", EMULATED, _NO_PULL),
    Row("spec.initContainers", HONOURED),
    Row("spec.nodeName", IGNORED, _ONE_NODE),
    Row("spec.nodeSelector", IGNORED, _ONE_NODE),
    Row("spec.os", HONOURED),
    Row("spec.os.name", HONOURED),
    Row("spec.os.name", REFUSED, _NO_WINDOWS, value="windows"),
    Row("spec.overhead", IGNORED, "there is no runtime class"),
    Row("spec.preemptionPolicy", IGNORED, "pods do not displace each other"),
    Row("spec.preemptionPolicy", EMULATED, "the default", value="PreemptLowerPriority"),
    Row("spec.priority", IGNORED, "pods do not displace each other"),
    Row("spec.priorityClassName", IGNORED, "pods do not displace each other"),
    Row("spec.readinessGates", HONOURED),
    Row("spec.readinessGates[].conditionType", HONOURED),
    Row("spec.resourceClaims", REFUSED, _DEVICES),
    Row("spec.resources", IGNORED, "resources of a pod as a whole are not counted"),
    Row("spec.restartPolicy", HONOURED),
    Row("spec.runtimeClassName", IGNORED, "containers are plain processes"),
    Row("spec.schedulerName", IGNORED, _NO_SCHEDULER),
    Row("spec.schedulerName", EMULATED, "the default", value="default-scheduler"),
    Row("spec.schedulingGates", REFUSED, "there is no scheduler that would wait"),
    Row("spec.schedulingGroup", IGNORED, _NO_SCHEDULER),
    Row("spec.securityContext", HONOURED),
    Row("spec.securityContext.appArmorProfile", IGNORED, _NO_CONFINEMENT),
    Row("spec.securityContext.fsGroup", HONOURED, "without root, own groups only"),
    Row("spec.securityContext.fsGroupChangePolicy", EMULATED, "the pod's own volumes are new"),
    Row("spec.securityContext.runAsGroup", HONOURED),
    Row("spec.securityContext.runAsNonRoot", HONOURED),
    Row("spec.securityContext.runAsUser", HONOURED),
    Row("spec.securityContext.seLinuxChangePolicy", IGNORED, _NO_CONFINEMENT),
    Row("spec.securityContext.seLinuxOptions", IGNORED, _NO_CONFINEMENT),
    Row("spec.securityContext.seccompProfile", IGNORED, _NO_CONFINEMENT),
    Row("spec.securityContext.supplementalGroups", HONOURED),
    Row("spec.securityContext.supplementalGroupsPolicy", EMULATED, "no image adds groups"),
    Row("spec.securityContext.sysctls", IGNORED, "the kernel's settings are the host's"),
    Row("spec.securityContext.windowsOptions", IGNORED, _NO_WINDOWS),
    Row("spec.serviceAccount", EMULATED, "old name of serviceAccountName"),
    Row("spec.serviceAccountName", EMULATED, "a name only: there are no tokens"),
    Row("spec.setHostnameAsFQDN", IGNORED, _HOST_NAME),
    Row("spec.shareProcessNamespace", HONOURED, "in mode group they see each other anyway"),
    Row("spec.subdomain", IGNORED, _HOST_NAME),
    Row("spec.terminationGracePeriodSeconds", HONOURED),
    Row("spec.tolerations", IGNORED, _ONE_NODE),
    Row("spec.topologySpreadConstraints", IGNORED, _ONE_NODE),
    *_VOLUMES,
    Row("spec.workloadRef", IGNORED, _NO_SCHEDULER),
)


def _exec(name: str) -> tuple[Row, ...]:
    return (
        Row(f"{name}.exec", HONOURED),
        Row(f"{name}.exec.command", HONOURED, "run in the container, without a shell"),
    )


def _http_get(name: str) -> tuple[Row, ...]:
    return (
        Row(f"{name}.httpGet", HONOURED),
        Row(f"{name}.httpGet.host", HONOURED, "default: the pod's address, 127.0.0.1"),
        Row(f"{name}.httpGet.httpHeaders", HONOURED),
        Row(f"{name}.httpGet.httpHeaders[].name", HONOURED),
        Row(f"{name}.httpGet.httpHeaders[].value", HONOURED),
        Row(f"{name}.httpGet.path", HONOURED),
        Row(f"{name}.httpGet.port", HONOURED),
        Row(f"{name}.httpGet.scheme", HONOURED),
    )


def _hook(name: str) -> tuple[Row, ...]:
    return (
        Row(name, HONOURED),
        *_exec(name),
        *_http_get(name),
        Row(f"{name}.sleep", HONOURED),
        Row(f"{name}.sleep.seconds", HONOURED),
        Row(f"{name}.tcpSocket", HONOURED, "accepted, and always fails, as in Kubernetes"),
        Row(f"{name}.tcpSocket.host", HONOURED, "never connected to"),
        Row(f"{name}.tcpSocket.port", HONOURED, "never connected to"),
    )


def _probe(name: str) -> tuple[Row, ...]:
    return (
        Row(name, HONOURED),
        *_exec(name),
        Row(f"{name}.failureThreshold", HONOURED),
        Row(f"{name}.grpc", HONOURED),
        Row(f"{name}.grpc.port", HONOURED),
        Row(f"{name}.grpc.service", HONOURED),
        *_http_get(name),
        Row(f"{name}.initialDelaySeconds", HONOURED, "counted from the start of the container"),
        Row(f"{name}.periodSeconds", HONOURED),
        Row(f"{name}.successThreshold", HONOURED),
        Row(f"{name}.tcpSocket", HONOURED),
        Row(f"{name}.tcpSocket.host", HONOURED, "default: the pod's address, 127.0.0.1"),
        Row(f"{name}.tcpSocket.port", HONOURED),
        Row(f"{name}.terminationGracePeriodSeconds", HONOURED),
        Row(f"{name}.timeoutSeconds", HONOURED),
    )


# Written once for both lists of containers.
_CONTAINER = (
    Row("args", HONOURED, "default: the image's"),
    Row("command", HONOURED, "default: the image's; required without an image"),
    Row("env", HONOURED),
    Row("env[].name", HONOURED),
    Row("env[].value", HONOURED),
    Row("env[].valueFrom", HONOURED),
    Row("env[].valueFrom.configMapKeyRef", HONOURED, "of the same input; of data only"),
    Row("env[].valueFrom.configMapKeyRef.key", HONOURED),
    Row("env[].valueFrom.configMapKeyRef.name", HONOURED),
    Row("env[].valueFrom.configMapKeyRef.optional", HONOURED),
    Row("env[].valueFrom.fieldRef", HONOURED),
    Row("env[].valueFrom.fieldRef.apiVersion", HONOURED),
    Row("env[].valueFrom.fieldRef.fieldPath", HONOURED),
    Row("env[].valueFrom.fileKeyRef", HONOURED, "read when the container starts"),
    Row("env[].valueFrom.fileKeyRef.key", HONOURED),
    Row("env[].valueFrom.fileKeyRef.optional", HONOURED),
    Row("env[].valueFrom.fileKeyRef.path", HONOURED),
    Row("env[].valueFrom.fileKeyRef.volumeName", HONOURED),
    Row("env[].valueFrom.resourceFieldRef", HONOURED),
    Row("env[].valueFrom.resourceFieldRef.containerName", HONOURED),
    Row("env[].valueFrom.resourceFieldRef.divisor", HONOURED),
    Row("env[].valueFrom.resourceFieldRef.resource", HONOURED),
    Row("env[].valueFrom.secretKeyRef", HONOURED, "of the same input"),
    Row("env[].valueFrom.secretKeyRef.key", HONOURED),
    Row("env[].valueFrom.secretKeyRef.name", HONOURED),
    Row("env[].valueFrom.secretKeyRef.optional", HONOURED),
    Row("envFrom", HONOURED),
    Row("envFrom[].configMapRef", HONOURED, "of the same input; of data only"),
    Row("envFrom[].configMapRef.name", HONOURED),
    Row("envFrom[].configMapRef.optional", HONOURED),
    Row("envFrom[].prefix", HONOURED),
    Row("envFrom[].secretRef", HONOURED, "of the same input"),
    Row("envFrom[].secretRef.name", HONOURED),
    Row("envFrom[].secretRef.optional", HONOURED),
    Row("image", EMULATED, "stands for a local command, see podvisor images; never pulled"),
    Row("imagePullPolicy", EMULATED, _NO_PULL),
    Row("lifecycle", HONOURED),
    *_hook("lifecycle.postStart"),
    *_hook("lifecycle.preStop"),
    Row("lifecycle.stopSignal", HONOURED, "default: the image's, else SIGTERM; needs spec.os.name"),
    *_probe("livenessProbe"),
    Row("name", HONOURED),
    Row("ports", EMULATED, "information only: " + _HOST_NET),
    Row("ports[].containerPort", EMULATED, "information only"),
    Row("ports[].hostIP", IGNORED, _HOST_NET),
    Row("ports[].hostPort", IGNORED, _HOST_NET + ", a port is not mapped"),
    Row("ports[].name", EMULATED, "information only"),
    Row("ports[].protocol", EMULATED, "information only"),
    *_probe("readinessProbe"),
    Row("resizePolicy", EMULATED, "resources are not enforced"),
    Row("resizePolicy[].resourceName", EMULATED, "resources are not enforced"),
    Row("resizePolicy[].restartPolicy", EMULATED, "resources are not enforced"),
    Row("resources", EMULATED, "seen by env and the QoS class"),
    Row("resources.claims", REFUSED, _DEVICES),
    Row("resources.limits", EMULATED, "seen by env and the QoS class, not enforced", warn=True),
    Row("resources.requests", EMULATED, "seen by env and the QoS class, nothing is reserved"),
    Row("restartPolicy", HONOURED),
    Row("restartPolicyRules", HONOURED),
    Row("restartPolicyRules[].action", HONOURED),
    Row("restartPolicyRules[].exitCodes", HONOURED),
    Row("restartPolicyRules[].exitCodes.operator", HONOURED),
    Row("restartPolicyRules[].exitCodes.values", HONOURED),
    Row("securityContext", HONOURED),
    Row("securityContext.allowPrivilegeEscalation", EMULATED, "always so"),
    Row(
        "securityContext.allowPrivilegeEscalation",
        IGNORED,
        "setuid programs keep their effect",
        value=False,
    ),
    Row("securityContext.appArmorProfile", IGNORED, _NO_CONFINEMENT),
    Row("securityContext.capabilities", IGNORED, "capabilities are those of podvisor"),
    Row("securityContext.privileged", IGNORED, "capabilities are those of podvisor"),
    Row("securityContext.procMount", IGNORED, "/proc is shown as it is"),
    Row("securityContext.procMount", EMULATED, "the default", value="Default"),
    Row("securityContext.readOnlyRootFilesystem", IGNORED, "containers see the host's files"),
    Row("securityContext.runAsGroup", HONOURED),
    Row("securityContext.runAsNonRoot", HONOURED),
    Row("securityContext.runAsUser", HONOURED),
    Row("securityContext.seLinuxOptions", IGNORED, _NO_CONFINEMENT),
    Row("securityContext.seccompProfile", IGNORED, _NO_CONFINEMENT),
    Row("securityContext.windowsOptions", IGNORED, _NO_WINDOWS),
    *_probe("startupProbe"),
    Row("stdin", HONOURED, "`run -i` and attach write to it; without, it stays open and empty"),
    Row("stdinOnce", HONOURED, "it ends with the first who attached; `run -i` is the only one"),
    Row("terminationMessagePath", HONOURED),
    Row("terminationMessagePolicy", HONOURED),
    Row("tty", HONOURED, "`run -i -t` types at it; without, nobody does"),
    Row("volumeDevices", REFUSED, "there are no block volumes"),
    Row("volumeMounts", HONOURED, "not in isolation mode group"),
    Row("volumeMounts[].mountPath", HONOURED),
    Row("volumeMounts[].mountPropagation", EMULATED, "always HostToContainer"),
    Row("volumeMounts[].mountPropagation", REFUSED, "mounts stay inside", value="Bidirectional"),
    Row("volumeMounts[].name", HONOURED),
    Row("volumeMounts[].readOnly", HONOURED),
    Row("volumeMounts[].recursiveReadOnly", EMULATED, "always Disabled"),
    Row("volumeMounts[].recursiveReadOnly", REFUSED, "not yet", value="Enabled"),
    Row("volumeMounts[].subPath", HONOURED),
    Row("volumeMounts[].subPathExpr", HONOURED),
    Row("workingDir", HONOURED, "default: podvisor.toml's folder, else the manifest's"),
)

_INIT_NOTES = {
    "lifecycle": "of sidecars only",
    "livenessProbe": "of sidecars only",
    "readinessProbe": "of sidecars only",
    "restartPolicy": "Always makes the container a sidecar",
    "startupProbe": "of sidecars only",
}


def _rows() -> Iterator[Row]:
    yield Row("apiVersion", HONOURED, "v1")
    yield Row("kind", HONOURED, "Pod")
    yield from _METADATA
    for row in _SPEC:
        yield row
        if row.path in ("spec.containers", "spec.initContainers"):
            is_init = row.path == "spec.initContainers"
            for inner in _CONTAINER:
                note = (is_init and _INIT_NOTES.get(inner.path)) or inner.note
                path = f"{row.path}[].{inner.path}"
                yield Row(path, inner.support, note, inner.value, inner.warn)
    yield Row("status", EMULATED, _NODE_SETS)


ROWS: tuple[Row, ...] = tuple(_rows())


# --- the table applied to a pod ----------------------------------------------------------------

_by_path: dict[str, Row] = {row.path: row for row in ROWS if row.value is None}
_by_value: dict[tuple[str, str | bool], Row] = {
    (row.path, row.value): row for row in ROWS if row.value is not None
}


def findings(pod: v1.Pod) -> list[Finding]:
    """What the table has to say about the fields that the manifest sets."""
    out: list[Finding] = []
    for wire, attribute in _names(pod):
        if wire not in ("apiVersion", "kind", "status"):
            _visit(wire, (wire,), getattr(pod, attribute), out)
    return out


def _names(value: v1.Model) -> Iterator[tuple[str, str]]:
    return zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)


def _visit(pattern: str, path: Path, value: Any, out: list[Finding]) -> None:
    row = _by_path[pattern]
    if isinstance(value, (str, bool)):
        row = _by_value.get((pattern, value), row)
    if not value and row.value is None:
        return  # false, "", [] and {} ask for nothing, unless a row says that they do
    if row.support is IGNORED or row.warn:
        out.append(said(path, f"is {row.support}: {row.note}", Severity.WARNING))
    elif row.support is REFUSED:
        out.append(said(path, f"is {row.support}: {row.note}"))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            _descend(f"{pattern}[]", (*path, index), item, out)
    else:
        _descend(pattern, path, value, out)


def _descend(pattern: str, path: Path, value: Any, out: list[Finding]) -> None:
    if not isinstance(value, v1.Model):
        return
    for wire, attribute in _names(value):
        inner = f"{pattern}.{wire}"
        if inner in _by_path and not _is_so(value, wire):
            _visit(inner, (*path, wire), getattr(value, attribute), out)


def _is_so(value: v1.Model, wire: str) -> bool:
    """A host port that is the container's port asks for what is the case anyway."""
    if not isinstance(value, v1.ContainerPort) or wire != "hostPort":
        return False
    return value.host_port == value.container_port


def select(prefix: str = "") -> list[Row]:
    """The rows of one field and of what is beneath it; all of them for an empty prefix.

    `spec.containers[0].env`, `spec.containers.env` and `containers.env` mean the same.
    """
    wanted = _plain_path(prefix)
    rows = [row for row in ROWS if _is_beneath(_plain_path(row.path), wanted)]
    if not rows:
        rows = [row for row in ROWS if _is_beneath(_plain_path(row.path), ["spec", *wanted])]
    return rows


def _plain_path(path: str) -> list[str]:
    return [part.partition("[")[0] for part in path.strip(".").split(".") if part]


def _is_beneath(parts: list[str], wanted: list[str]) -> bool:
    return parts[: len(wanted)] == wanted
