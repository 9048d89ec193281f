"""The JSON schemas of the kinds, for clients and editors.

They say what a manifest may look like, not whether it is right: that is `validation.py`. Clients
of the API read them for `explain`, and to learn how lists merge; editors complete and check
manifests with them. What a schema says about a field is what the support table says: what
podvisor does with it. Names and extensions (`x-kubernetes-...`) are those of Kubernetes.

All of it is derived from the types; facts of its own are only which fields are required, which
words they may hold, in which package a type is, and a sentence for each kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from supervisor.api import codec, kinds, schema, v1, validation
from supervisor.api import fields as support
from supervisor.api.problems import show
from supervisor.api.schema import MODELS, Field

Json = dict[str, Any]

_CORE = "io.k8s.api.core.v1"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1"
_PACKAGES: dict[str, tuple[type[v1.Model], ...]] = {
    "io.k8s.api.apps.v1": (
        kinds.ControllerRevision,
        v1.DaemonSet,
        v1.DaemonSetSpec,
        v1.Deployment,
        v1.DeploymentSpec,
        v1.ReplicaSet,
        v1.ReplicaSetSpec,
        v1.StatefulSet,
        v1.StatefulSetSpec,
    ),
    "io.k8s.api.authentication.v1": (
        kinds.SelfSubjectReview,
        kinds.SelfSubjectReviewStatus,
        kinds.TokenReview,
        kinds.TokenReviewSpec,
        kinds.TokenReviewStatus,
        kinds.UserInfo,
    ),
    "io.k8s.api.authorization.v1": (
        kinds.NonResourceAttributes,
        kinds.NonResourceRule,
        kinds.ResourceAttributes,
        kinds.ResourceRule,
        kinds.SelfSubjectAccessReview,
        kinds.SelfSubjectAccessReviewSpec,
        kinds.SelfSubjectRulesReview,
        kinds.SelfSubjectRulesReviewSpec,
        kinds.SubjectAccessReviewStatus,
        kinds.SubjectRulesReviewStatus,
    ),
    "io.k8s.api.batch.v1": (
        v1.CronJob,
        v1.CronJobSpec,
        v1.Job,
        v1.JobSpec,
        v1.JobTemplateSpec,
    ),
    "io.k8s.api.coordination.v1": (kinds.Lease, kinds.LeaseSpec),
    "io.k8s.api.policy.v1": (kinds.Eviction,),
    _META: (
        kinds.Condition,
        kinds.DeleteOptions,
        kinds.Preconditions,
        kinds.SelectorAttributes,
        kinds.SelectorRequirement,
        kinds.Status,
        kinds.StatusCause,
        kinds.StatusDetails,
        v1.LabelSelector,
        v1.ListMeta,
        v1.ObjectMeta,
        v1.OwnerReference,
    ),
    "io.k8s.metrics.pkg.apis.metrics.v1beta1": (
        kinds.ContainerMetrics,
        kinds.NodeMetrics,
        kinds.PodMetrics,
    ),
}
_package_of = {type_: name for name, types in _PACKAGES.items() for type_ in types}

_REQUIRED: dict[type[v1.Model], tuple[str, ...]] = {
    kinds.AttachedVolume: ("devicePath", "name"),
    kinds.Binding: ("target",),
    kinds.Condition: ("lastTransitionTime", "message", "reason", "status", "type"),
    kinds.ContainerMetrics: ("name", "usage"),
    kinds.ControllerRevision: ("data",),
    kinds.DaemonEndpoint: ("Port",),
    kinds.EndpointAddress: ("ip",),
    kinds.EndpointPort: ("port",),
    kinds.NamespaceCondition: ("status", "type"),
    kinds.NodeAddress: ("address", "type"),
    kinds.NodeCondition: ("status", "type"),
    kinds.NodeMetrics: ("timestamp", "usage", "window"),
    kinds.NodeSystemInfo: (
        "architecture",
        "bootID",
        "containerRuntimeVersion",
        "kernelVersion",
        "kubeProxyVersion",
        "kubeletVersion",
        "machineID",
        "operatingSystem",
        "osImage",
        "systemUUID",
    ),
    kinds.NonResourceRule: ("verbs",),
    kinds.PodMetrics: ("containers", "timestamp", "window"),
    kinds.PodTemplateSpec: ("spec",),
    kinds.PortStatus: ("port", "protocol"),
    kinds.ResourceRule: ("verbs",),
    kinds.SelectorRequirement: ("key", "operator"),
    kinds.SelfSubjectAccessReview: ("spec",),
    kinds.SelfSubjectRulesReview: ("spec",),
    kinds.ServicePort: ("port",),
    kinds.SubjectAccessReviewStatus: ("allowed",),
    kinds.SubjectRulesReviewStatus: ("incomplete", "nonResourceRules", "resourceRules"),
    kinds.Taint: ("effect", "key"),
    kinds.TokenReview: ("spec",),
    kinds.TokenReviewSpec: ("token",),
    v1.AppArmorProfile: ("type",),
    v1.CSIVolumeSource: ("driver",),
    v1.Container: ("name",),
    v1.ContainerPort: ("containerPort",),
    v1.ContainerResizePolicy: ("resourceName", "restartPolicy"),
    v1.ContainerRestartRule: ("action",),
    v1.ContainerRestartRuleOnExitCodes: ("operator",),
    v1.ContainerStateTerminated: ("exitCode",),
    v1.ContainerStatus: ("image", "imageID", "name", "ready", "restartCount"),
    v1.CronJob: ("spec",),
    v1.CronJobSpec: ("jobTemplate", "schedule"),
    v1.DaemonSet: ("spec",),
    v1.DaemonSetSpec: ("selector", "template"),
    v1.Deployment: ("spec",),
    v1.DeploymentSpec: ("selector", "template"),
    v1.DownwardAPIVolumeFile: ("path",),
    v1.EnvVar: ("name",),
    v1.EphemeralContainer: ("name",),
    v1.Event: ("involvedObject", "metadata"),
    v1.FileKeySelector: ("key", "path", "volumeName"),
    v1.GRPCAction: ("port",),
    v1.HTTPGetAction: ("port",),
    v1.HTTPHeader: ("name", "value"),
    v1.HostAlias: ("ip",),
    v1.HostIP: ("ip",),
    v1.HostPathVolumeSource: ("path",),
    v1.Job: ("spec",),
    v1.JobSpec: ("template",),
    v1.KeySelector: ("key",),
    v1.KeyToPath: ("key", "path"),
    v1.NFSVolumeSource: ("path", "server"),
    v1.ObjectFieldSelector: ("fieldPath",),
    v1.OwnerReference: ("apiVersion", "kind", "name", "uid"),
    v1.PersistentVolumeClaimVolumeSource: ("claimName",),
    v1.Pod: ("spec",),
    v1.PodCondition: ("status", "type"),
    v1.PodIP: ("ip",),
    v1.PodOS: ("name",),
    v1.PodReadinessGate: ("conditionType",),
    v1.PodResourceClaim: ("name",),
    v1.PodSchedulingGate: ("name",),
    v1.PodSpec: ("containers",),
    v1.ReplicaSet: ("spec",),
    v1.ReplicaSetSpec: ("selector", "template"),
    v1.ResourceClaim: ("name",),
    v1.ResourceFieldSelector: ("resource",),
    v1.SeccompProfile: ("type",),
    v1.ServiceAccountTokenProjection: ("path",),
    v1.SleepAction: ("seconds",),
    v1.StatefulSet: ("spec",),
    v1.StatefulSetSpec: ("selector", "template"),
    v1.Sysctl: ("name", "value"),
    v1.TCPSocketAction: ("port",),
    v1.TopologySpreadConstraint: ("maxSkew", "topologyKey", "whenUnsatisfiable"),
    v1.Volume: ("name",),
    v1.VolumeDevice: ("devicePath", "name"),
    v1.VolumeMount: ("mountPath", "name"),
    v1.VolumeMountStatus: ("mountPath", "name"),
}

_KIND_DOCS: dict[type[v1.Model], str] = {
    kinds.Binding: "Puts a pod on a node. Refused: there is one node, and each pod is on it.",
    kinds.ControllerRevision: "What a controller remembers of a template. There is none.",
    kinds.DeleteOptions: "How an object is to be deleted.",
    kinds.Endpoints: "Addresses of a service. Stored as given: nobody fills it in.",
    kinds.Eviction: "Asks for the deletion of a pod; drain does so.",
    kinds.Lease: "Says who holds something, and until when. The node renews one of its own.",
    kinds.Namespace: "A name that objects are kept under. Deleting it deletes them.",
    kinds.Node: "The machine that the pods run on. There is one, which podvisor keeps up to date.",
    kinds.NodeMetrics: "What the whole machine uses now.",
    kinds.PodMetrics: "What the processes of each container use now.",
    kinds.PodTemplate: "A pod that is written down and not run.",
    kinds.SelfSubjectAccessReview: "Asks whether the client may do something.",
    kinds.SelfSubjectReview: "Asks who the client is.",
    kinds.SelfSubjectRulesReview: "Asks for all that the client may do.",
    kinds.Service: "A name for a set of pods. Stored as given: the network is the host's.",
    kinds.ServiceAccount: "A name that a pod runs under. No tokens are issued for it.",
    kinds.Status: "What became of a request.",
    kinds.TokenReview: "Asks whose a token is.",
    v1.ConfigMap: "Settings for containers, as environment or files.",
    v1.CronJob: "A job with a schedule. Manifests only: its template runs once, as one pod.",
    v1.DaemonSet: "A pod for each node. Manifests only: its template runs once, as one pod.",
    v1.Deployment: "Pods of one template. Manifests only: its template runs once, as one pod.",
    v1.Event: "Something that happened to an object. Kept for an hour.",
    v1.Job: "Pods that end. Manifests only: its template runs once, as one pod.",
    v1.Pod: "Containers that live and end together; here each is a tree of processes.",
    v1.ReplicaSet: "Pods of one template. Manifests only: its template runs once, as one pod.",
    v1.ReplicationController: "The old form of a ReplicaSet.",
    v1.Secret: "Like a ConfigMap, for what is not to be shown.",
    v1.StatefulSet: "Pods with names. Manifests only: its template runs once, as one pod.",
}

# The words that a field may hold; a test holds them against those of validation.
_WORDS: dict[tuple[type[v1.Model], str], tuple[str, ...]] = {
    (v1.Container, "imagePullPolicy"): ("Always", "IfNotPresent", "Never"),
    (v1.Container, "restartPolicy"): ("Always", "Never", "OnFailure"),
    (v1.Container, "terminationMessagePolicy"): ("FallbackToLogsOnError", "File"),
    (v1.ContainerPort, "protocol"): ("SCTP", "TCP", "UDP"),
    (v1.ContainerRestartRule, "action"): ("Restart", "RestartAllContainers"),
    (v1.ContainerRestartRuleOnExitCodes, "operator"): ("In", "NotIn"),
    (v1.HTTPGetAction, "scheme"): ("HTTP", "HTTPS"),
    (v1.HostPathVolumeSource, "type"): (
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ),
    (v1.Lifecycle, "stopSignal"): validation.STOP_SIGNALS,
    (v1.PodOS, "name"): ("linux", "windows"),
    (v1.PodSpec, "dnsPolicy"): ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
    (v1.PodSpec, "restartPolicy"): ("Always", "Never", "OnFailure"),
    (v1.VolumeMount, "mountPropagation"): ("Bidirectional", "HostToContainer", "None"),
    (v1.VolumeMount, "recursiveReadOnly"): ("Disabled", "Enabled", "IfPossible"),
}

_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_TIME, _MICRO_TIME = f"{_META}.Time", f"{_META}.MicroTime"
_SCALARS: dict[str, Json] = {
    "str": {"type": "string"},
    "int": {"type": "integer", "format": "int64"},
    "bool": {"type": "boolean"},
    "Opaque": {"type": "object"},
}
_NAMED_SCALARS: dict[str, tuple[str, Json]] = {
    "IntOrString": (
        _INT_OR_STRING,
        {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
    ),
    "MicroTime": (_MICRO_TIME, {"type": "string", "format": "date-time"}),
    "Quantity": (_QUANTITY, {"oneOf": [{"type": "string"}, {"type": "number"}]}),
    "Time": (_TIME, {"type": "string", "format": "date-time"}),
}


def schema_name(type_: type[v1.Model]) -> str:
    """`io.k8s.api.core.v1.Pod`."""
    return f"{_package_of.get(type_, _CORE)}.{type_.__name__}"


def definitions(types: Iterable[type[v1.Model]], prefix: str) -> dict[str, Json]:
    """The schemas of these types and of all that they refer to, by name.

    A schema refers to another one as `prefix` and its name.
    """
    building = _Building(prefix)
    for type_ in types:
        building.add(type_)
    return dict(sorted(building.done.items()))


class _Building:
    """Schemas that are being collected."""

    def __init__(self, prefix: str) -> None:
        self.done: dict[str, Json] = {}
        self._prefix = prefix

    def add(self, type_: type[v1.Model]) -> Json:
        """See to the schema of a type; return a reference to it."""
        name = schema_name(type_)
        if name not in self.done:
            self.done[name] = {}  # types may refer to themselves
            self.done[name] = self._object(type_)
        return {"$ref": self._prefix + name}

    def _object(self, type_: type[v1.Model]) -> Json:
        out: Json = {"description": _KIND_DOCS[type_]} if type_ in _KIND_DOCS else {}
        out |= {"type": "object", "properties": {}}
        for name, (_, annotation) in codec.fields(type_).items():
            value = self._value(annotation, type_) | _merging(schema.fields(type_)[name])
            if (type_, name) in _WORDS:
                value["enum"] = list(_WORDS[type_, name])
            description = _described().get((type_, name))
            if description:
                if "$ref" in value:  # which may have no neighbours
                    value["allOf"] = [{"$ref": value.pop("$ref")}]
                value = {"description": description, **value}
            out["properties"][name] = value
        if type_ in _REQUIRED:
            out["required"] = list(_REQUIRED[type_])
        if type_ in schema.ATOMIC:
            out["x-kubernetes-map-type"] = "atomic"
        if type_ in _gvk_of:
            out["x-kubernetes-group-version-kind"] = [_gvk_of[type_]]
        return out

    def _value(self, annotation: str, owner: type[v1.Model]) -> Json:
        collection, inner = codec.parts(annotation)
        if collection == "list":
            return {"type": "array", "items": self._value(inner, owner)}
        if collection == "map":
            return {"type": "object", "additionalProperties": self._value(inner, owner)}
        if inner in _SCALARS:
            return dict(_SCALARS[inner])
        if inner in _NAMED_SCALARS:
            name, self.done[name] = _NAMED_SCALARS[inner]
            return {"$ref": self._prefix + name}
        type_ = schema.model_of(inner, owner)
        assert type_ is not None, inner
        return self.add(type_)


def _merging(found: Field) -> Json:
    """The extensions that tell clients how to merge a field."""
    out: Json = {}
    if found.list_type:
        out["x-kubernetes-list-type"] = found.list_type
    if found.map_keys:
        out["x-kubernetes-list-map-keys"] = list(found.map_keys)
    if found.strategy:
        out["x-kubernetes-patch-strategy"] = ",".join(found.strategy)
    if found.merge_key:
        out["x-kubernetes-patch-merge-key"] = found.merge_key
    if found.atomic and found.shape == "map":
        out["x-kubernetes-map-type"] = "atomic"
    return out


def group_version_kind(api_version: str, kind: str) -> Json:
    group, _, version = api_version.rpartition("/")
    return {"group": group, "kind": kind, "version": version}


_gvk_of = {type_: group_version_kind(*name) for name, type_ in MODELS.items()}


# --- what a schema says about a field ----------------------------------------------------------

_descriptions: dict[tuple[type[v1.Model], str], str] = {}


def _described() -> dict[tuple[type[v1.Model], str], str]:
    """What the support table says, by type and field.

    A type stands in many places. What is said of the first of them comes first, and what is said
    differently elsewhere is added once, with the first such place.
    """
    if not _descriptions:
        rows: dict[str, list[support.Row]] = {}
        for row in support.ROWS:
            rows.setdefault(row.path, []).append(row)
        said: dict[tuple[type[v1.Model], str], dict[str, str]] = {}
        for type_, name, path in _places(v1.Pod, "", rows):
            text = " ".join(_sentence(row) for row in rows[path])
            said.setdefault((type_, name), {}).setdefault(text, path.replace("[]", ""))
        for at, texts in said.items():
            first, *others = texts
            more = [f"In {texts[text]}: {text[0].lower()}{text[1:]}" for text in others]
            _descriptions[at] = " ".join([first, *more])
    return _descriptions


def _places(
    type_: type[v1.Model], prefix: str, rows: dict[str, Any]
) -> Iterator[tuple[type[v1.Model], str, str]]:
    for name, found in schema.fields(type_).items():
        path = f"{prefix}{name}"
        if path in rows:
            yield type_, name, path
            if found.type is not None:
                inner = f"{path}[]." if found.shape == "list" else f"{path}."
                yield from _places(found.type, inner, rows)


def _sentence(row: support.Row) -> str:
    """`Ignored (there is one node).`, of a value `"windows" is refused (…).`"""
    note = f" ({row.note})" if row.note else ""
    if row.value is None:
        return f"{row.support.capitalize()}{note}."
    return f"{show(row.value)} is {row.support}{note}."


# --- for editors -------------------------------------------------------------------------------

# What manifests hold that is run, and what those refer to.
_MANIFESTS: tuple[type[v1.Model], ...] = (
    v1.Pod,
    v1.Deployment,
    v1.StatefulSet,
    v1.DaemonSet,
    v1.ReplicaSet,
    v1.ReplicationController,
    v1.Job,
    v1.CronJob,
    kinds.PodTemplate,
    v1.ConfigMap,
    v1.Secret,
)
_REFERENCE = "#/definitions/"
# An apiVersion of Kubernetes' own: other groups have the name of a domain.
_BUILT_IN = r"^(?![^/]*\.[^/]*/)"


def for_editors() -> Json:
    """One schema (draft 7) of everything that a manifest may be.

    Unlike the server's it knows no other fields than those of the model, so that a typing error
    shows. Kinds that are not run may look like anything. Null is the same as absent everywhere.
    """
    of_types = {name: _strict(value) for name, value in definitions(_MANIFESTS, _REFERENCE).items()}
    by_type = {type_: name for name, type_ in MODELS.items()}
    names = [by_type[type_] for type_ in _MANIFESTS]
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Kubernetes manifests, as podvisor runs them",
        "type": "object",
        "required": ["apiVersion", "kind"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"anyOf": [{"enum": [kind for _, kind in names]}, {"type": "string"}]},
        },
        "allOf": [
            *(
                _when(kind, _reference_to(type_), api_version)
                for type_, (api_version, kind) in zip(_MANIFESTS, names, strict=True)
            ),
            _when("List", {"properties": {"items": {"type": "array", "items": {"$ref": "#"}}}}),
        ],
        "definitions": of_types,
    }


def _reference_to(type_: type[v1.Model]) -> Json:
    return {"allOf": [{"$ref": _REFERENCE + schema_name(type_)}]}


def _when(kind: str, then: Json, api_version: str = "v1") -> Json:
    condition: Json = {
        "required": ["kind"],
        "properties": {"apiVersion": {"pattern": _BUILT_IN}, "kind": {"const": kind}},
    }
    properties = {"apiVersion": {"const": api_version}, **then.get("properties", {})}
    return {"if": condition, "then": {**then, "properties": properties}}


def _strict(value: Any) -> Any:
    """A schema without what only clients of the API understand, strict about names of fields."""
    if isinstance(value, list):
        return [_strict(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    out: Json = {}
    for key, inner in value.items():
        if key == "oneOf":  # of scalars
            out["type"] = [*(one["type"] for one in inner), "null"]
        elif key == "type":
            out["type"] = [inner, "null"]
        elif key == "enum":
            out[key] = [*inner, None]
        elif key == "properties":  # whose names may be the words of a schema
            out[key] = {name: _strict(one) | _port(name, one) for name, one in inner.items()}
            out["additionalProperties"] = False
        elif key == "format" and inner != "date-time":
            continue  # editors do not know them
        elif not key.startswith("x-"):
            out[key] = _strict(inner)
    return out


def _port(name: str, value: Json) -> Json:
    """Where manifests of tests may ask for a free port by a name: `$(PORT_web)`."""
    if name not in ("containerPort", "hostPort", "port") or value.get("type") != "integer":
        return {}
    return {"type": ["integer", "string", "null"], "pattern": r"^\$\(PORT_[A-Za-z0-9_-]+\)$"}
