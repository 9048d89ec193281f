"""Defaults and rules of the kinds that are stored and not run: what the API server keeps as it is.

The registry asks here before it stores an object of such a kind: `RULES` has a row for each. All
is pure and about plain data whose names and types were checked before; texts are Kubernetes' own
wherever it has one. What clients see and nothing here does (a Service that forwards, an account
with a token) is said in warnings, once it matters.

ConfigMaps and Secrets have their rules in validation.py, since pods of files use them as well; here
is what an update of them may change. No text has a value of a Secret in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from msgspec import Struct

from supervisor.api import codec, v1, validation
from supervisor.api.problems import (
    Finding,
    Path,
    Severity,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
    said,
    too_long,
)

Json = dict[str, Any]

LOCAL = "127.0.0.1"  # the address of every pod, and so of every Service
_NO_CLUSTER_IP = "None"
_SERVICE_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_PROTOCOLS = ("SCTP", "TCP", "UDP")

_DNS_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_DNS_1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
    "alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', "
    f"regex used for validation is '{_DNS_1035}')"
)


def service_name(text: str) -> Iterator[str]:
    if len(text) > 63:
        yield "must be no more than 63 characters"
    if not re.fullmatch(_DNS_1035, text):
        yield _DNS_1035_TEXT


class Rules(Struct, frozen=True, kw_only=True):
    """What holds for one kind."""

    name: Callable[[str], Iterable[str]] = validation.dns_subdomain
    # Of an object that is new or changed; it may have been stored by an older podvisor.
    defaults: Callable[[Json], Json] = lambda body: body
    check: Callable[[Json], Iterable[Finding]] = lambda _: ()
    # From the object as it is to what is asked for, both with defaults.
    check_update: Callable[[Json, Json], Iterable[Finding]] = lambda _old, _new: ()
    has_status: bool = False  # its own subresource; else `status` is a field like others
    counts: str = ""  # the field whose changes metadata.generation counts; empty: it has none
    owned: tuple[str, ...] = ()  # fields that are the server's to change


def check_metadata(rules: Rules, body: Json, old: Json | None = None) -> Iterator[Finding]:
    """The rules of names, labels, annotations, finalizers and owners. `old`: what it was so far."""
    meta = body["metadata"]
    at: Path = ("metadata",)
    name = meta.get("name") or ""
    if not name:
        yield required((*at, "name"))
    else:
        for detail in rules.name(name):
            yield invalid((*at, "name"), name, detail)
    before = (old or {}).get("metadata") or {}
    yield from validation.check_metadata_update(_read(before), _read(meta))


def _read(meta: Json) -> v1.ObjectMeta:
    """What has the same rules for all kinds. A name may be of another form, and not all kinds have
    a namespace."""
    names = (
        "namespace",
        "labels",
        "annotations",
        "finalizers",
        "ownerReferences",
        "deletionTimestamp",
    )
    known = {key: meta[key] for key in names if meta.get(key)}
    read, _ = codec.decode({"namespace": "x"} | known | {"name": "x"}, v1.ObjectMeta)
    return read


# --- namespaces --------------------------------------------------------------------------------

KUBERNETES = "kubernetes"  # the finalizer of a namespace: what is in it goes first
NAME_LABEL = "kubernetes.io/metadata.name"


def _namespace(body: Json) -> Json:
    meta = body["metadata"]
    labels = (meta.get("labels") or {}) | {NAME_LABEL: meta.get("name") or ""}
    spec = body.get("spec") or {}
    status = body.get("status") or {}
    finalizers = list(spec.get("finalizers") or ())
    if "deletionTimestamp" not in meta and KUBERNETES not in finalizers:
        finalizers.append(KUBERNETES)
    return body | {
        "metadata": meta | {"labels": labels},
        "spec": spec | {"finalizers": finalizers},
        "status": status | {"phase": status.get("phase") or "Active"},
    }


# --- configmaps and secrets --------------------------------------------------------------------

_IMMUTABLE = "field is immutable when `immutable` is set"


def _check_config_map(body: Json) -> Iterable[Finding]:
    return validation.admit_config_map(body)[1]


def _check_secret(body: Json) -> Iterable[Finding]:
    return validation.admit_secret(body)[1]


def _secret(body: Json) -> Json:
    """With `stringData` merged into `data`, if all can be read; and its type."""
    body = body | {"type": body.get("type") or "Opaque"}
    if not body.get("stringData"):
        return {key: value for key, value in body.items() if key != "stringData"}
    secret, _ = validation.admit_secret(body)
    if secret is None:
        return body  # the rules say what is wrong
    kept = {key: value for key, value in body.items() if key != "stringData"}
    return kept | {"data": secret.data}


def _check_immutable(old: Json, new: Json, *names: str) -> Iterator[Finding]:
    if not old.get("immutable"):
        return
    if not new.get("immutable"):
        yield forbidden(("immutable",), _IMMUTABLE)
    for name in names:
        if (old.get(name) or {}) != (new.get(name) or {}):
            yield forbidden((name,), _IMMUTABLE)


def _update_config_map(old: Json, new: Json) -> Iterator[Finding]:
    return _check_immutable(old, new, "data", "binaryData")


def _update_secret(old: Json, new: Json) -> Iterator[Finding]:
    if old.get("type") != new.get("type"):
        yield invalid(("type",), new.get("type"), "field is immutable")
    yield from _check_immutable(old, new, "data")


# --- services and endpoints --------------------------------------------------------------------


def _service(body: Json) -> Json:
    spec = dict(body.get("spec") or {})
    spec["type"] = kind = spec.get("type") or "ClusterIP"
    spec["sessionAffinity"] = spec.get("sessionAffinity") or "None"
    if isinstance(spec.get("ports"), list):
        spec["ports"] = [_service_port(port) for port in spec["ports"]]
    if kind != "ExternalName":
        address = spec.get("clusterIP") or LOCAL
        spec |= {
            "clusterIP": address,
            "clusterIPs": [address],
            "internalTrafficPolicy": spec.get("internalTrafficPolicy") or "Cluster",
            "ipFamilies": spec.get("ipFamilies") or ["IPv4"],
            "ipFamilyPolicy": spec.get("ipFamilyPolicy") or "SingleStack",
        }
    return body | {"spec": spec, "status": body.get("status") or {"loadBalancer": {}}}


def _service_port(port: Json) -> Json:
    target = port.get("targetPort") or port.get("port")
    return port | {"protocol": port.get("protocol") or "TCP", "targetPort": target}


def _check_service(body: Json) -> Iterator[Finding]:
    spec: Json = body["spec"]
    at: Path = ("spec",)
    kind, address = spec["type"], spec.get("clusterIP")
    if kind not in _SERVICE_TYPES:
        yield not_supported((*at, "type"), kind, _SERVICE_TYPES)
    if kind == "ExternalName":
        if not spec.get("externalName"):
            yield required((*at, "externalName"))
    elif address not in (LOCAL, _NO_CLUSTER_IP):
        detail = f"must be empty, None or {LOCAL}: every pod has this address"
        yield invalid((*at, "clusterIP"), address, detail)
    elif address == _NO_CLUSTER_IP and kind != "ClusterIP":
        yield invalid((*at, "clusterIP"), address, f"may not be set to 'None' for {kind} services")
    ports = spec.get("ports") or []
    if not ports and kind != "ExternalName" and address != _NO_CLUSTER_IP:
        yield required((*at, "ports"))
    yield from _check_ports(ports, (*at, "ports"))


def _check_ports(ports: list[Json], at: Path) -> Iterator[Finding]:
    names: set[str] = set()
    numbers: set[tuple[object, object]] = set()
    for index, port in enumerate(ports):
        path = (*at, index)
        name, number, protocol = port.get("name", ""), port.get("port"), port["protocol"]
        if not name and len(ports) > 1:
            yield required((*path, "name"))
        elif name:
            for detail in validation.dns_label(name):
                yield invalid((*path, "name"), name, detail)
            if name in names:
                yield duplicate((*path, "name"), name)
            names.add(name)
        yield from _check_port((*path, "port"), number)
        target = port.get("targetPort")
        if isinstance(target, str):
            for detail in validation.port_name(target):
                yield invalid((*path, "targetPort"), target, detail)
        elif target is not None:
            yield from _check_port((*path, "targetPort"), target)
        if protocol not in _PROTOCOLS:
            yield not_supported((*path, "protocol"), protocol, _PROTOCOLS)
        if (number, protocol) in numbers:
            yield duplicate(path, {"port": number, "protocol": protocol})
        numbers.add((number, protocol))
        if isinstance(target, str) or target not in (None, number):
            text = (
                f"{target} is only noted: nothing forwards port {number}, and pods listen at "
                f"{LOCAL} themselves"
            )
            yield said((*path, "targetPort"), text, Severity.WARNING)


def _check_port(path: Path, number: object) -> Iterator[Finding]:
    if not isinstance(number, int) or not 1 <= number <= 65535:
        yield invalid(path, number or 0, "must be between 1 and 65535, inclusive")


def _update_service(old: Json, new: Json) -> Iterator[Finding]:
    before, after = old["spec"], new["spec"]
    types = before.get("type"), after.get("type")
    if "ExternalName" not in types and before.get("clusterIP") != after.get("clusterIP"):
        yield invalid(("spec", "clusterIP"), after.get("clusterIP"), "field is immutable")


def _check_endpoints(body: Json) -> Iterator[Finding]:
    for index, subset in enumerate(body.get("subsets") or ()):
        at: Path = ("subsets", index)
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            yield required(at, "must specify `addresses` or `notReadyAddresses`")
        for place, port in enumerate(subset.get("ports") or ()):
            yield from _check_port((*at, "ports", place, "port"), port.get("port"))


def _endpoints(body: Json) -> Json:
    subsets = [
        subset | {"ports": [p | {"protocol": p.get("protocol") or "TCP"} for p in subset["ports"]]}
        if subset.get("ports")
        else subset
        for subset in body.get("subsets") or ()
    ]
    return body | {"subsets": subsets} if subsets else body


# --- the rest ----------------------------------------------------------------------------------


_MAX_INT32 = 2**31 - 1  # clients cannot read a list in which something is larger


def _check_int32(path: Path, number: int | None) -> Iterator[Finding]:
    if number is not None and abs(number) > _MAX_INT32:
        yield invalid(path, number, "must fit into 32 bits")


def _check_lease(body: Json) -> Iterator[Finding]:
    spec = body.get("spec") or {}
    seconds, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    yield from _check_int32(("spec", "leaseDurationSeconds"), seconds)
    yield from _check_int32(("spec", "leaseTransitions"), transitions)
    if seconds is not None and seconds <= 0:
        yield invalid(("spec", "leaseDurationSeconds"), seconds, "must be greater than 0")
    if transitions is not None and transitions < 0:
        detail = "must be greater than or equal to 0"
        yield invalid(("spec", "leaseTransitions"), transitions, detail)


_EVENT_TEXT = 16 * 1024


def _check_event(body: Json) -> Iterator[Finding]:
    namespace = (body.get("involvedObject") or {}).get("namespace", "")
    own = body["metadata"].get("namespace", "")
    # An event about something without a namespace goes into the default one.
    if namespace not in (own, "") or (not namespace and own not in ("default", "kube-system", "")):
        path = ("involvedObject", "namespace")
        yield invalid(path, namespace, "does not match event.namespace")
    yield from _check_int32(("count",), body.get("count"))
    yield from _check_int32(("series", "count"), (body.get("series") or {}).get("count"))
    # Ten thousand are kept for an hour, and all of them in memory.
    for name in ("message", "reason"):
        if len(body.get(name) or "") > _EVENT_TEXT:
            yield too_long((name,), _EVENT_TEXT)


def _update_node(old: Json, new: Json) -> Iterator[Finding]:
    before, after = old.get("spec") or {}, new.get("spec") or {}
    for name in ("podCIDR", "providerID"):
        if before.get(name) and before[name] != after.get(name):
            yield forbidden(("spec", name), "node updates may not change it")
    if after.get("taints") and before.get("taints") != after["taints"]:
        text = "are only noted: nothing is scheduled by them; cordoning keeps new pods away"
        yield said(("spec", "taints"), text, Severity.WARNING)


RULES: dict[str, Rules] = {
    "ConfigMap": Rules(check=_check_config_map, check_update=_update_config_map),
    "Endpoints": Rules(defaults=_endpoints, check=_check_endpoints),
    "Event": Rules(check=_check_event),
    "Lease": Rules(check=_check_lease),
    "Namespace": Rules(
        name=validation.dns_label, defaults=_namespace, has_status=True, owned=("spec",)
    ),
    "Node": Rules(check_update=_update_node, has_status=True),
    "PodTemplate": Rules(counts="template"),
    "Secret": Rules(defaults=_secret, check=_check_secret, check_update=_update_secret),
    "Service": Rules(
        name=service_name,
        defaults=_service,
        check=_check_service,
        check_update=_update_service,
        has_status=True,
    ),
    "ServiceAccount": Rules(),
}
