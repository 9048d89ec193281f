"""What the typed model says, for those who hold objects as plain JSON.

The API server patches, applies and stores objects as the dictionaries they came as. What it has
to know about their fields is asked here, and is the same for all: whether a list is merged by a
key or replaced (`field`), and whether a body fits its kind (`check`). It is derived from the types
of `v1.py` and `kinds.py`; the only facts of its own are which lists have keys.

Nothing here decides whether an object is valid: that is `validation.py`.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from msgspec import Struct

from supervisor.api import codec, kinds, v1
from supervisor.api.problems import Finding, Type, render

T = TypeVar("T", bound=v1.Model)

MODELS: dict[tuple[str, str], type[v1.Model]] = {
    ("v1", "Binding"): kinds.Binding,
    ("v1", "ConfigMap"): v1.ConfigMap,
    ("v1", "DeleteOptions"): kinds.DeleteOptions,
    ("v1", "Endpoints"): kinds.Endpoints,
    ("v1", "Event"): v1.Event,
    ("v1", "Namespace"): kinds.Namespace,
    ("v1", "Node"): kinds.Node,
    ("v1", "Pod"): v1.Pod,
    ("v1", "PodTemplate"): kinds.PodTemplate,
    ("v1", "ReplicationController"): v1.ReplicationController,
    ("v1", "Secret"): v1.Secret,
    ("v1", "Service"): kinds.Service,
    ("v1", "ServiceAccount"): kinds.ServiceAccount,
    ("v1", "Status"): kinds.Status,
    ("apps/v1", "ControllerRevision"): kinds.ControllerRevision,
    ("apps/v1", "DaemonSet"): v1.DaemonSet,
    ("apps/v1", "Deployment"): v1.Deployment,
    ("apps/v1", "ReplicaSet"): v1.ReplicaSet,
    ("apps/v1", "StatefulSet"): v1.StatefulSet,
    ("authentication.k8s.io/v1", "SelfSubjectReview"): kinds.SelfSubjectReview,
    ("authentication.k8s.io/v1", "TokenReview"): kinds.TokenReview,
    ("authorization.k8s.io/v1", "SelfSubjectAccessReview"): kinds.SelfSubjectAccessReview,
    ("authorization.k8s.io/v1", "SelfSubjectRulesReview"): kinds.SelfSubjectRulesReview,
    ("batch/v1", "CronJob"): v1.CronJob,
    ("batch/v1", "Job"): v1.Job,
    ("coordination.k8s.io/v1", "Lease"): kinds.Lease,
    ("metrics.k8s.io/v1beta1", "NodeMetrics"): kinds.NodeMetrics,
    ("metrics.k8s.io/v1beta1", "PodMetrics"): kinds.PodMetrics,
    ("policy/v1", "Eviction"): kinds.Eviction,
}


def model(api_version: str, kind: str) -> type[v1.Model] | None:
    return MODELS.get((api_version, kind))


# --- fields, for patches and for apply ---------------------------------------------------------


class Field(Struct, frozen=True, kw_only=True):
    """One field of an object, as whoever merges objects has to treat it."""

    shape: str  # object, list, map or scalar
    type: type[v1.Model] | None = None  # of the object, or of the items; None: not looked into
    # Strategic merge patch. Without `merge` a list is replaced as a whole. With `retainKeys` an
    # item may say which of its fields stay.
    strategy: tuple[str, ...] = ()
    merge_key: str = ""  # two items with the same value of it are one; empty: items are scalars
    # Server-side apply.
    list_type: str = ""  # of a list: map (by the keys that follow), set or atomic
    map_keys: tuple[str, ...] = ()
    key_defaults: dict[str, str] = {}  # of keys that an item may leave out
    atomic: bool = False  # an object or a map that has one owner as a whole
    quantity: bool = False  # a scalar, or each value of a map: 1024Mi is stored as 1Gi


class _Keys(Struct, frozen=True):
    """How the items of one list are told apart."""

    keys: tuple[str, ...] = ()  # for apply; none: the list is atomic there
    merge_key: str = ""  # for patches, where it is not the first of them; "-": none
    strategy: tuple[str, ...] = ("merge",)


_NAME = _Keys(("name",))
_TYPE = _Keys(("type",))
_RETAIN = _Keys(("name",), strategy=("merge", "retainKeys"))
_APPLIED_ONLY = _Keys(("name",), strategy=())

_KEYED: dict[type[v1.Model], dict[str, _Keys]] = {
    v1.ObjectMeta: {"ownerReferences": _Keys(("uid",))},
    v1.PodSpec: {
        "containers": _NAME,
        "ephemeralContainers": _NAME,
        "hostAliases": _Keys(("ip",)),
        "imagePullSecrets": _NAME,
        "initContainers": _NAME,
        "resourceClaims": _RETAIN,
        "schedulingGates": _NAME,
        "topologySpreadConstraints": _Keys(("topologyKey", "whenUnsatisfiable")),
        "volumes": _RETAIN,
    },
    v1.Container: {
        "env": _NAME,
        "ports": _Keys(("containerPort", "protocol")),
        "volumeDevices": _Keys(("devicePath",)),
        "volumeMounts": _Keys(("mountPath",)),
    },
    v1.ResourceRequirements: {"claims": _APPLIED_ONLY},
    v1.PodStatus: {
        "conditions": _TYPE,
        "hostIPs": _Keys((), "ip"),
        "podIPs": _Keys(("ip",)),
        "resourceClaimStatuses": _RETAIN,
    },
    v1.ContainerStatus: {
        "allocatedResourcesStatus": _NAME,
        "volumeMounts": _Keys(("mountPath",)),
    },
    kinds.NamespaceStatus: {"conditions": _TYPE},
    kinds.NodeStatus: {"addresses": _TYPE, "conditions": _TYPE},
    kinds.ServiceSpec: {"ports": _Keys(("port", "protocol"))},
    kinds.ServiceStatus: {"conditions": _TYPE},
    kinds.ServiceAccount: {"secrets": _NAME},
}
_SETS: dict[type[v1.Model], dict[str, tuple[str, ...]]] = {  # with their strategies
    v1.ObjectMeta: {"finalizers": ("merge",)},
    v1.ContainerRestartRuleOnExitCodes: {"values": ()},
    kinds.NodeSpec: {"podCIDRs": ("merge",)},
}
_ATOMIC_FIELDS = {
    (v1.PodSpec, "nodeSelector"),
    (v1.ReplicationControllerSpec, "selector"),
    (kinds.ServiceSpec, "selector"),
}
ATOMIC = frozenset(
    [
        v1.FileKeySelector,
        v1.KeySelector,
        v1.LabelSelector,
        v1.LocalObjectReference,
        v1.ObjectFieldSelector,
        v1.ObjectReference,
        v1.OwnerReference,
        v1.ResourceFieldSelector,
        kinds.EndpointAddress,
        kinds.EndpointPort,
    ]
)
_KEY_DEFAULTS = {"protocol": "TCP"}
_DEFAULTED = {(v1.ContainerPort, "protocol"), (kinds.ServicePort, "protocol")}

_fields: dict[type[v1.Model], dict[str, Field]] = {}


def field(type_: type[v1.Model] | None, name: str) -> Field | None:
    """The field of this name on the wire; None: there is none, or nobody knows the type.

    Of what nobody knows lists are atomic and objects are not, as in a cluster.
    """
    return fields(type_).get(name) if type_ is not None else None


def fields(type_: type[v1.Model]) -> dict[str, Field]:
    """All fields of an object, by their names on the wire."""
    known = _fields.get(type_)
    if known is None:
        known = _fields[type_] = {
            name: _field(type_, name, annotation)
            for name, (_, annotation) in codec.fields(type_).items()
        }
    return known


def _field(owner: type[v1.Model], name: str, annotation: str) -> Field:
    collection, inner = codec.parts(annotation)
    type_ = model_of(inner, owner)
    if collection == "list":
        return _list(owner, name, type_)
    if collection == "map" or inner == "Opaque":
        atomic, quantity = (owner, name) in _ATOMIC_FIELDS, inner == "Quantity"
        return Field(shape="map", type=type_, atomic=atomic, quantity=quantity)
    if type_ is None:
        return Field(shape="scalar", quantity=inner == "Quantity")
    return Field(shape="object", type=type_, atomic=type_ in ATOMIC)


def model_of(annotation: str, owner: type[v1.Model]) -> type[v1.Model] | None:
    """The type that an annotation of `owner` names; None of a scalar."""
    if "[" in annotation:
        return None  # a map of lists
    type_ = codec.model(annotation, owner.__module__)
    # Whoever reads manifests makes pods of templates, and does not look into them before.
    return kinds.PodTemplateSpec if type_ is v1.PodTemplateSpec else type_


def _list(owner: type[v1.Model], name: str, type_: type[v1.Model] | None) -> Field:
    for base in owner.__mro__:
        keyed = _KEYED.get(base, {}).get(name)
        if keyed is not None:
            merge_key = keyed.merge_key or keyed.keys[0]
            defaulted = (type_, "protocol") in _DEFAULTED
            return Field(
                shape="list",
                type=type_,
                strategy=keyed.strategy,
                merge_key=merge_key if keyed.strategy else "",
                list_type="map" if keyed.keys else "atomic",
                map_keys=keyed.keys,
                key_defaults=_KEY_DEFAULTS if defaulted else {},
            )
    strategy = _SETS.get(owner, {}).get(name)
    if strategy is not None:
        return Field(shape="list", type=type_, strategy=strategy, list_type="set")
    return Field(shape="list", type=type_, list_type="atomic")


# --- bodies ------------------------------------------------------------------------------------


class Checked(Struct, Generic[T], frozen=True):
    """A body as its kind has it, and what is wrong with it. What is unknown may be overlooked
    (`fieldValidation`), the rest not.

    `unknown` is worded as the API server does: `unknown field "spec.contaners"`.
    """

    value: T  # without what is unknown or wrong
    unknown: tuple[str, ...]
    wrong: tuple[Finding, ...]  # values that their fields cannot hold


def check(type_: type[T], body: dict[str, Any]) -> Checked[T]:
    """Hold a body against its kind."""
    value, findings = codec.decode(body, type_)
    return Checked(
        value,
        tuple(f'unknown field "{render(f.path)}"' for f in findings if f.type is Type.UNKNOWN),
        tuple(f for f in findings if f.type is not Type.UNKNOWN),
    )
