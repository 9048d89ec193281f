"""What `kubectl get` prints: objects as the rows of a `meta.k8s.io` Table.

kubectl prints the cells that the server sends, so the words of a STATUS column are made here and
nowhere else. The server asks for a table of one object, of a list, or of one event of a watch;
`podvisor get` asks the server.

Nothing here raises, whatever the objects look like: clients may write a status of their own, and
one odd object must not hide the others. What cannot be read is shown as if it were not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Literal

from msgspec import Struct

from supervisor.apiserver.contract import Json, Resource, as_list, as_map, at

NONE, UNKNOWN = "<none>", "<unknown>"

Cell = str | int
Include = Literal["None", "Metadata", "Object"]


class Column(Struct, frozen=True):
    """One column. Tools show those of priority 1 only when asked for wide output."""

    name: str
    type: str = "string"
    format: str = ""
    priority: int = 0


class Kind(Struct, frozen=True):
    """How the objects of one kind are shown. `cells` are as many as the columns."""

    columns: tuple[Column, ...]
    cells: Callable[[Json, float], list[Cell]]  # of the object, at a time


def table(
    resource: Resource,
    objects: Iterable[Json],
    now: float,
    *,
    include: Include = "Metadata",
    version: str = "v1",
    metadata: Json | None = None,
    columns: bool = True,
) -> Json:
    """The Table of some objects of one kind.

    `now` is the wall clock, for ages. `include` says how much of each object goes with its row,
    `version` is that of meta.k8s.io, `metadata` is that of the list (resourceVersion, continue).
    Without `columns`, as in all events of a watch but the first, they are left for the reader to
    remember.
    """
    kind = _KINDS.get(resource.key, _ANY)
    answer: Json = {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": metadata or {},
        "columnDefinitions": [_definition(column) for column in kind.columns] if columns else None,
        "rows": [_row(resource, kind, each, now, include, version) for each in objects],
    }
    return answer


def partial(object: Json, version: str = "v1") -> Json:
    """The object without all but its metadata."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": as_map(object.get("metadata")),
    }


def age(since: object, now: float) -> str:
    """How long ago that was, in two units at most. `since` is a time as objects hold it."""
    began = _seconds(since)
    if began is None:
        return UNKNOWN
    seconds = int(now - began)  # towards zero
    if seconds < -1:
        return "<invalid>"
    seconds = max(seconds, 0)
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return _units(minutes, "m", seconds % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _units(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _units(days, "d", hours % 24, "h")
    if days < 2 * 365:
        return f"{days}d"
    if days < 8 * 365:
        return _units(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _units(large: int, unit: str, small: int, below: str) -> str:
    return f"{large}{unit}{small}{below}" if small else f"{large}{unit}"


def _definition(column: Column) -> Json:
    return {
        "name": column.name,
        "type": column.type,
        "format": column.format,
        "description": "",
        "priority": column.priority,
    }


def _row(
    resource: Resource, kind: Kind, object: Json, now: float, include: Include, version: str
) -> Json:
    row: Json = {"cells": kind.cells(object, now)}
    if include == "Metadata":
        row["object"] = partial(object, version)
    elif include == "Object":
        row["object"] = object
    if resource.key == "pods":
        row["conditions"] = _ENDS.get(_text(at(object, "status", "phase")), [])
    return row


# What tells readers that a pod's row is of one that is over.
_ENDS: dict[str, list[Json]] = {
    phase: [{"type": "Completed", "status": "True", "reason": phase, "message": message}]
    for phase, message in (
        ("Succeeded", "The pod has completed successfully."),
        ("Failed", "The pod failed."),
    )
}


# --- reading what may be anything --------------------------------------------------------------


def _text(value: Any) -> str:
    return str(value) if isinstance(value, (str, int, float)) else ""


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _seconds(time: object) -> float | None:
    try:
        read = datetime.fromisoformat(time if isinstance(time, str) else "")
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _name(object: Json) -> str:
    return _text(at(object, "metadata", "name"))


def _age(object: Json, now: float) -> str:
    return age(at(object, "metadata", "creationTimestamp"), now)


def _pairs(value: Any) -> str:
    """Labels as a selector says them."""
    return ",".join(f"{key}={_text(each)}" for key, each in sorted(as_map(value).items())) or NONE


def _first(values: list[Any], key: str = "") -> str:
    """The first of a list, or one of its fields."""
    return _text(at(values[0], key) if key else values[0]) or NONE if values else NONE


def _condition(object: Json, type: str) -> Json | None:
    for condition in as_list(at(object, "status", "conditions")):
        if at(condition, "type") == type:
            return as_map(condition)
    return None


def _holds(object: Json, type: str) -> bool:
    return bool(at(_condition(object, type), "status") == "True")


# --- pods --------------------------------------------------------------------------------------


class _Restarts:
    """How often containers ran again, and when the newest of those runs before ended."""

    def __init__(self) -> None:
        self.count = 0
        self.newest: tuple[float, str] | None = None

    def add(self, status: Any) -> None:
        self.count += _number(at(status, "restartCount"))
        finished = at(status, "lastState", "terminated", "finishedAt")
        seconds = _seconds(finished)
        if seconds is not None and (self.newest is None or seconds > self.newest[0]):
            self.newest = (seconds, finished)

    def cell(self, now: float) -> str:
        if not self.count or self.newest is None:
            return str(self.count)
        return f"{self.count} ({age(self.newest[1], now)} ago)"


def _pod(pod: Json, now: float) -> list[Cell]:
    word, ready, restarts = _pod_words(pod)
    sidecars = _sidecars(pod)
    total = len(sidecars) + len(as_list(at(pod, "spec", "containers")))
    return [
        _name(pod),
        f"{ready}/{total}",
        word,
        restarts.cell(now),
        _age(pod, now),
        _first(as_list(at(pod, "status", "podIPs")), "ip"),
        _text(at(pod, "spec", "nodeName")) or NONE,
        _text(at(pod, "status", "nominatedNodeName")) or NONE,
        _gates(pod),
    ]


def _sidecars(pod: Json) -> set[str]:
    return {
        _text(at(spec, "name"))
        for spec in as_list(at(pod, "spec", "initContainers"))
        if at(spec, "restartPolicy") == "Always"
    }


def _pod_words(pod: Json) -> tuple[str, int, _Restarts]:
    """STATUS, how many containers are ready, and RESTARTS."""
    status = as_map(pod.get("status"))
    word = _text(status.get("reason")) or _text(status.get("phase"))
    if at(_condition(pod, "PodScheduled"), "reason") == "SchedulingGated":
        word = "SchedulingGated"

    sidecars = _sidecars(pod)
    initial = len(as_list(at(pod, "spec", "initContainers")))
    ready, restarts, of_sidecars = 0, _Restarts(), _Restarts()
    initializing = False
    for index, each in enumerate(as_list(status.get("initContainerStatuses"))):
        restarts.add(each)
        is_sidecar = _text(at(each, "name")) in sidecars
        if is_sidecar:
            of_sidecars.add(each)
        blocked = _init_word(each, index, initial)
        if blocked and is_sidecar and at(each, "started") is True:
            ready += at(each, "ready") is True
        elif blocked:
            word, initializing = blocked, True
            break

    # A sidecar that starts again after init does not hide the main containers.
    if not initializing or _holds(pod, "Initialized"):
        word, running = _main_words(status, word, of_sidecars)
        ready += running
        if word == "Completed" and running:
            word = "Running" if _holds(pod, "Ready") else "NotReady"
        restarts = of_sidecars

    if at(pod, "metadata", "deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            word = "Unknown"
        elif _text(status.get("phase")) not in _ENDS:
            # One that is over and waits for its finalizers goes on to say how it ended.
            word = "Terminating"
    return word, ready, restarts


def _init_word(status: Any, index: int, total: int) -> str:
    """What one init container makes of the pod's STATUS; empty when it is done."""
    ended = at(status, "state", "terminated")
    if isinstance(ended, dict):
        if _number(ended.get("exitCode")) == 0:
            return ""
        return f"Init:{_end(ended)}"
    waits_for = _text(at(status, "state", "waiting", "reason"))
    if waits_for not in ("", "PodInitializing"):
        return f"Init:{waits_for}"
    return f"Init:{index}/{total}"


def _main_words(status: Json, word: str, restarts: _Restarts) -> tuple[str, int]:
    """The word of the app containers, the first of them last, and how many run and are ready."""
    running = 0
    for each in reversed(as_list(status.get("containerStatuses"))):
        restarts.add(each)
        waits_for = _text(at(each, "state", "waiting", "reason"))
        ended = at(each, "state", "terminated")
        if waits_for:
            word = waits_for
        elif isinstance(ended, dict):
            word = _end(ended)
        elif at(each, "ready") is True and isinstance(at(each, "state", "running"), dict):
            running += 1
    return word, running


def _end(terminated: Json) -> str:
    if reason := _text(terminated.get("reason")):
        return reason
    if signal := _number(terminated.get("signal")):
        return f"Signal:{signal}"
    return f"ExitCode:{_number(terminated.get('exitCode'))}"


def _gates(pod: Json) -> str:
    gates = as_list(at(pod, "spec", "readinessGates"))
    passed = sum(_holds(pod, _text(at(gate, "conditionType"))) for gate in gates)
    return f"{passed}/{len(gates)}" if gates else NONE


# --- the others --------------------------------------------------------------------------------


def _event(event: Json, now: float) -> list[Cell]:
    first = age(event.get("firstTimestamp") or event.get("eventTime"), now)
    last = age(event["lastTimestamp"], now) if event.get("lastTimestamp") else first
    count = _number(event.get("count"))
    series = event.get("series")
    if isinstance(series, dict):
        last, count = age(series.get("lastObservedTime"), now), _number(series.get("count"))
    about = as_map(event.get("involvedObject"))
    kind, name = _text(about.get("kind")).lower(), _text(about.get("name"))
    component = _text(at(event, "source", "component")) or _text(event.get("reportingComponent"))
    host = _text(at(event, "source", "host")) or _text(event.get("reportingInstance"))
    return [
        last,
        _text(event.get("type")),
        _text(event.get("reason")),
        f"{kind}/{name}" if name else kind,
        _text(about.get("fieldPath")),
        f"{component}, {host}" if host else component,
        _text(event.get("message")).strip(),
        first,
        count or 1,
        _name(event),
    ]


def _node(node: Json, now: float) -> list[Cell]:
    ready = _condition(node, "Ready")
    word = "Unknown"
    if ready is not None:
        word = "Ready" if ready.get("status") == "True" else "NotReady"
    if at(node, "spec", "unschedulable") is True:
        word += ",SchedulingDisabled"
    prefix = "node-role.kubernetes.io/"
    labels = as_map(at(node, "metadata", "labels"))
    roles = {key.removeprefix(prefix) for key in labels if key.startswith(prefix)}
    roles.add(_text(labels.get("kubernetes.io/role")))
    info = as_map(at(node, "status", "nodeInfo"))
    return [
        _name(node),
        word,
        ",".join(sorted(roles - {""})) or NONE,
        _age(node, now),
        _text(info.get("kubeletVersion")),
        _address(node, "InternalIP"),
        _address(node, "ExternalIP"),
        _text(info.get("osImage")) or UNKNOWN,
        _text(info.get("kernelVersion")) or UNKNOWN,
        _text(info.get("containerRuntimeVersion")) or UNKNOWN,
    ]


def _address(node: Json, type: str) -> str:
    addresses = as_list(at(node, "status", "addresses"))
    return _first([each for each in addresses if at(each, "type") == type], "address")


def _service(service: Json, now: float) -> list[Cell]:
    spec = as_map(service.get("spec"))
    return [
        _name(service),
        _text(spec.get("type")),
        _first(as_list(spec.get("clusterIPs"))),
        _external(service, spec),
        ",".join(_service_port(each) for each in as_list(spec.get("ports"))) or NONE,
        _age(service, now),
        _pairs(spec.get("selector")),
    ]


def _external(service: Json, spec: Json) -> str:
    external = [_text(each) for each in as_list(spec.get("externalIPs"))]
    type = spec.get("type")
    if type in ("ClusterIP", "NodePort"):
        return ",".join(external) or NONE
    if type == "LoadBalancer":
        points = as_list(at(service, "status", "loadBalancer", "ingress"))
        balanced = {_text(at(each, "ip")) or _text(at(each, "hostname")) for each in points}
        return ",".join(sorted(balanced - {""}) + external) or "<pending>"
    if type == "ExternalName":
        return _text(spec.get("externalName"))
    return UNKNOWN


def _service_port(port: Any) -> str:
    number, outside = _text(at(port, "port")), _number(at(port, "nodePort"))
    protocol = _text(at(port, "protocol"))
    return f"{number}:{outside}/{protocol}" if outside else f"{number}/{protocol}"


def _endpoints(endpoints: Json, now: float) -> list[Cell]:
    found = [
        f"{_text(at(address, 'ip'))}:{_text(at(port, 'port'))}"
        for subset in as_list(endpoints.get("subsets"))
        for port in as_list(at(subset, "ports"))
        for address in as_list(at(subset, "addresses"))
    ]
    more = f" + {len(found) - 3} more..." if len(found) > 3 else ""
    return [_name(endpoints), ",".join(found[:3]) + more or NONE, _age(endpoints, now)]


def _config_map(object: Json, now: float) -> list[Cell]:
    count = len(as_map(object.get("data"))) + len(as_map(object.get("binaryData")))
    return [_name(object), count, _age(object, now)]


def _secret(object: Json, now: float) -> list[Cell]:
    data = len(as_map(object.get("data")))
    return [_name(object), _text(object.get("type")), data, _age(object, now)]


def _service_account(object: Json, now: float) -> list[Cell]:
    return [_name(object), len(as_list(object.get("secrets"))), _age(object, now)]


def _namespace(object: Json, now: float) -> list[Cell]:
    return [_name(object), _text(at(object, "status", "phase")), _age(object, now)]


def _lease(object: Json, now: float) -> list[Cell]:
    return [_name(object), _text(at(object, "spec", "holderIdentity")), _age(object, now)]


def _containers(spec: Any) -> list[Cell]:
    """Names and images of a pod's containers."""
    containers = as_list(at(spec, "containers"))
    return [
        ",".join(_text(at(each, "name")) for each in containers),
        ",".join(_text(at(each, "image")) for each in containers),
    ]


def _pod_template(object: Json, _now: float) -> list[Cell]:
    template = object.get("template")
    labels = _pairs(at(template, "metadata", "labels"))
    return [_name(object), *_containers(at(template, "spec")), labels]


def _other(object: Json, now: float) -> list[Cell]:
    return [_name(object), _age(object, now)]


_WIDE = 1
_NAME, _AGE = Column("Name", format="name"), Column("Age")


def _wide(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, priority=_WIDE) for name in names)


_ANY = Kind((_NAME, _AGE), _other)

# By the key of the resource; all others are shown by name and age, as far as there are any.
_KINDS: dict[str, Kind] = {
    "pods": Kind(
        (
            _NAME,
            Column("Ready"),
            Column("Status"),
            Column("Restarts"),
            _AGE,
            *_wide("IP", "Node", "Nominated Node", "Readiness Gates"),
        ),
        _pod,
    ),
    "events": Kind(
        (
            Column("Last Seen"),
            Column("Type"),
            Column("Reason"),
            Column("Object"),
            *_wide("Subobject", "Source"),
            Column("Message"),
            Column("First Seen", priority=_WIDE),
            Column("Count", "integer", priority=_WIDE),
            Column("Name", format="name", priority=_WIDE),
        ),
        _event,
    ),
    "nodes": Kind(
        (
            _NAME,
            Column("Status"),
            Column("Roles"),
            _AGE,
            Column("Version"),
            *_wide("Internal-IP", "External-IP", "OS-Image", "Kernel-Version", "Container-Runtime"),
        ),
        _node,
    ),
    "namespaces": Kind((_NAME, Column("Status"), _AGE), _namespace),
    "services": Kind(
        (
            _NAME,
            Column("Type"),
            Column("Cluster-IP"),
            Column("External-IP"),
            Column("Port(s)"),
            _AGE,
            *_wide("Selector"),
        ),
        _service,
    ),
    "configmaps": Kind((_NAME, Column("Data"), _AGE), _config_map),
    "secrets": Kind((_NAME, Column("Type"), Column("Data"), _AGE), _secret),
    "serviceaccounts": Kind((_NAME, Column("Secrets"), _AGE), _service_account),
    "endpoints": Kind((_NAME, Column("Endpoints"), _AGE), _endpoints),
    "leases.coordination.k8s.io": Kind((_NAME, Column("Holder"), _AGE), _lease),
    "podtemplates": Kind(
        (_NAME, Column("Containers"), Column("Images"), Column("Pod Labels")), _pod_template
    ),
}
