"""The table of everything that is served: the one place that knows which kinds there are.

Discovery, OpenAPI and the paths of the server are made from it, so that what a client is told
and what it can ask for are the same. A verb that is not in a row is answered with 405. What a
kind means and who owns it is the registry's matter.

Few groups are listed, because plain clients fetch each of them at their start. Kinds of
controllers that a single node does not run (replicasets, daemonsets) can be read, and are always
empty: a client that counts them gets a number, not an error.
"""

from __future__ import annotations

from msgspec.structs import replace

from supervisor.apiserver.contract import Resource

_READ = ("get", "list", "watch")
_NO_COLLECTION = ("create", "delete", "get", "list", "patch", "update", "watch")
_ALL = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
_ASK = ("create",)  # of kinds that are asked and never stored
_CHANGE = ("get", "patch", "update")
_STREAM = ("create", "get")
_PROXY = ("create", "delete", "get", "patch", "update")

RESOURCES: tuple[Resource, ...] = (
    Resource(
        plural="configmaps",
        singular="configmap",
        kind="ConfigMap",
        verbs=_ALL,
        short_names=("cm",),
    ),
    Resource(
        plural="endpoints",
        singular="endpoints",
        kind="Endpoints",
        verbs=_ALL,
        short_names=("ep",),
    ),
    Resource(plural="events", singular="event", kind="Event", verbs=_ALL, short_names=("ev",)),
    Resource(
        plural="namespaces",
        singular="namespace",
        kind="Namespace",
        namespaced=False,
        verbs=_NO_COLLECTION,
        short_names=("ns",),
        subresources={"status": ("", "v1", "Namespace", _CHANGE)},
    ),
    # There is one, which the node itself makes.
    Resource(
        plural="nodes",
        singular="node",
        kind="Node",
        namespaced=False,
        verbs=("get", "list", "patch", "update", "watch"),
        short_names=("no",),
        subresources={
            "proxy": ("", "v1", "NodeProxyOptions", _PROXY),
            "status": ("", "v1", "Node", _CHANGE),
        },
    ),
    Resource(
        plural="pods",
        singular="pod",
        kind="Pod",
        verbs=_ALL,
        short_names=("po",),
        categories=("all",),
        subresources={
            "attach": ("", "v1", "PodAttachOptions", _STREAM),
            "binding": ("", "v1", "Binding", _ASK),
            "ephemeralcontainers": ("", "v1", "Pod", _CHANGE),
            "eviction": ("policy", "v1", "Eviction", _ASK),
            "exec": ("", "v1", "PodExecOptions", _STREAM),
            "log": ("", "v1", "Pod", ("get",)),
            "portforward": ("", "v1", "PodPortForwardOptions", _STREAM),
            "proxy": ("", "v1", "PodProxyOptions", _PROXY),
            "status": ("", "v1", "Pod", _CHANGE),
        },
    ),
    Resource(plural="podtemplates", singular="podtemplate", kind="PodTemplate", verbs=_ALL),
    Resource(
        plural="replicationcontrollers",
        singular="replicationcontroller",
        kind="ReplicationController",
        verbs=_READ,
        short_names=("rc",),
        categories=("all",),
    ),
    Resource(plural="secrets", singular="secret", kind="Secret", verbs=_ALL),
    Resource(
        plural="serviceaccounts",
        singular="serviceaccount",
        kind="ServiceAccount",
        verbs=_ALL,
        short_names=("sa",),
    ),
    Resource(
        plural="services",
        singular="service",
        kind="Service",
        verbs=_ALL,
        short_names=("svc",),
        categories=("all",),
        subresources={"status": ("", "v1", "Service", _CHANGE)},
    ),
    Resource(
        group="apps",
        plural="controllerrevisions",
        singular="controllerrevision",
        kind="ControllerRevision",
        verbs=_READ,
    ),
    Resource(
        group="apps",
        plural="daemonsets",
        singular="daemonset",
        kind="DaemonSet",
        verbs=_READ,
        short_names=("ds",),
        categories=("all",),
    ),
    Resource(
        group="apps",
        plural="deployments",
        singular="deployment",
        kind="Deployment",
        verbs=_READ,
        short_names=("deploy",),
        categories=("all",),
    ),
    Resource(
        group="apps",
        plural="replicasets",
        singular="replicaset",
        kind="ReplicaSet",
        verbs=_READ,
        short_names=("rs",),
        categories=("all",),
    ),
    Resource(
        group="apps",
        plural="statefulsets",
        singular="statefulset",
        kind="StatefulSet",
        verbs=_READ,
        short_names=("sts",),
        categories=("all",),
    ),
    Resource(
        group="authentication.k8s.io",
        plural="selfsubjectreviews",
        singular="selfsubjectreview",
        kind="SelfSubjectReview",
        namespaced=False,
        verbs=_ASK,
    ),
    Resource(
        group="authentication.k8s.io",
        plural="tokenreviews",
        singular="tokenreview",
        kind="TokenReview",
        namespaced=False,
        verbs=_ASK,
    ),
    Resource(
        group="authorization.k8s.io",
        plural="selfsubjectaccessreviews",
        singular="selfsubjectaccessreview",
        kind="SelfSubjectAccessReview",
        namespaced=False,
        verbs=_ASK,
    ),
    Resource(
        group="authorization.k8s.io",
        plural="selfsubjectrulesreviews",
        singular="selfsubjectrulesreview",
        kind="SelfSubjectRulesReview",
        namespaced=False,
        verbs=_ASK,
    ),
    Resource(
        group="coordination.k8s.io",
        plural="leases",
        singular="lease",
        kind="Lease",
        verbs=_ALL,
    ),
    # Without a singular: `pod` and `node` mean the core kinds.
    Resource(
        group="metrics.k8s.io",
        version="v1beta1",
        plural="nodes",
        singular="",
        kind="NodeMetrics",
        namespaced=False,
        verbs=("get", "list"),
    ),
    Resource(
        group="metrics.k8s.io",
        version="v1beta1",
        plural="pods",
        singular="",
        kind="PodMetrics",
        verbs=("get", "list"),
    ),
)

_by_name = {(r.group, r.version, r.plural): r for r in RESOURCES}
_by_key = {r.key: r for r in RESOURCES}
# Answered, and announced nowhere. Reviews: by older versions kubectl 1.26 and 1.27 ask who they
# are. Definitions: kubectl and helm look among them for a kind without PATCH before they send it.
_REVIEW = _by_key["selfsubjectreviews.authentication.k8s.io"]
_UNANNOUNCED = (
    replace(_REVIEW, version="v1alpha1"),
    replace(_REVIEW, version="v1beta1"),
    Resource(
        group="apiextensions.k8s.io",
        plural="customresourcedefinitions",
        singular="customresourcedefinition",
        kind="CustomResourceDefinition",
        namespaced=False,
        verbs=_READ,
    ),
)
_by_name |= {(r.group, r.version, r.plural): r for r in _UNANNOUNCED}


def find(group: str, version: str, plural: str) -> Resource | None:
    """The row that a path names: `find("", "v1", "pods")`."""
    return _by_name.get((group, version, plural))


def named(key: str) -> Resource:
    """One that is there, by its name in the store: `leases.coordination.k8s.io`."""
    return _by_key[key]


def groups() -> dict[str, str]:
    """The groups beside the core one, each with the version it is served in."""
    return {r.group: r.version for r in RESOURCES if r.group}
