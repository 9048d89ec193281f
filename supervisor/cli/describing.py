"""What `describe` prints of one object: text made from its JSON, its events and, of a pod, what
only the node knows (apiserver/records.py).

Pure. The fields of a pod stand where kubectl has them, in its words; what kubectl has no words for
(the last answer of a probe, runs of hooks, how the pod ended) stands beside what it belongs to.
Fields that mean nothing on a node without images and networks are left out when they are empty.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from supervisor.apiserver import tables
from supervisor.apiserver.contract import as_list, as_map, at
from supervisor.cli.printing import Json, align, shown
from supervisor.lifecycle import reasons

Line = list[str]  # cells; the first one indented

_NONE = "<none>"


def describe(
    kind: str,
    object: Json,
    events: Sequence[Json] | None,
    now: float,
    record: Json | None = None,
    pods: Sequence[Json] = (),
) -> str:
    """`kind` as in the API; `record` is that of a pod, None where it cannot be known; `pods` are
    those on a node. Without events (None) nothing is said about them."""
    match kind:
        case "Pod":
            lines = _pod(object, now, record)
        case "Node":
            lines = [*_node(object), *_pods(pods, now)]
        case "Namespace":
            lines = [
                *_head(object, namespaced=False),
                _field("Status", at(object, "status", "phase")),
            ]
        case "ConfigMap":
            lines = [*_head(object), [], *_data(object)]
        case "Secret":
            lines = [*_head(object), [], *_secret(object)]
        case "Service":
            lines = [*_head(object), *_service(object)]
        case _:
            lines = [*_head(object), *_anything(object)]
    if events is not None:
        lines += list(_events(sorted(events, key=when), now))
    if record is not None and record.get("termination"):
        lines += [[], *([line] for line in _timeline(object, record, now))]
    return shown(align(lines))


# --- parts -------------------------------------------------------------------------------------


def _field(name: str, value: object, depth: int = 0) -> Line:
    text = "" if value is None else str(value)
    return [f"{'  ' * depth}{name}:", " ".join(text.splitlines())]


def _many(name: str, values: Sequence[str], depth: int = 0) -> Iterator[Line]:
    """The first beside the name, the others below."""
    first = f"{'  ' * depth}{name}:"
    for index, value in enumerate(values or [_NONE]):
        yield [first if index == 0 else " ", value]


def _pairs(name: str, values: Json, separator: str) -> Iterator[Line]:
    return _many(name, [f"{k}{separator}{_short(v)}" for k, v in sorted(values.items())])


def _short(value: object) -> str:
    text = " ".join(str(value).splitlines())
    return text if len(text) <= 140 else text[:140] + "..."


def _head(object: Json, *, namespaced: bool = True) -> Iterator[Line]:
    meta = as_map(object.get("metadata"))
    yield _field("Name", meta.get("name"))
    if namespaced:
        yield _field("Namespace", meta.get("namespace"))
    yield from _pairs("Labels", as_map(meta.get("labels")), "=")
    yield from _pairs("Annotations", as_map(meta.get("annotations")), ": ")
    if meta.get("deletionTimestamp"):
        yield _field("Deleted", _time(meta["deletionTimestamp"]))


def _events(events: Sequence[Json], now: float) -> Iterator[Line]:
    if not events:
        yield _field("Events", _NONE)
        return
    yield ["Events:"]
    rows = [("Type", "Reason", "Age", "From", "Message")]
    rows.append(("----", "------", "----", "----", "-------"))
    rows += [
        (
            str(event.get("type", "")),
            str(event.get("reason", "")),
            event_age(event, now),
            str(at(event, "source", "component") or event.get("reportingComponent") or ""),
            " ".join(str(event.get("message", "")).split()),
        )
        for event in events
    ]
    for row in rows:
        yield [f"  {row[0]}", *row[1:]]


def when(event: Json) -> str:
    """When an event was told last, to sort by; times of the API sort as text."""
    series = event.get("series")
    latest = series.get("lastObservedTime") if isinstance(series, dict) else None
    return str(latest or event.get("lastTimestamp") or event.get("eventTime") or "")


def event_age(event: Json, now: float) -> str:
    """When it was told last, and how often since when."""
    first = event.get("firstTimestamp") or event.get("eventTime")
    last, count = event.get("lastTimestamp") or first, event.get("count") or 1
    series = event.get("series")
    if isinstance(series, dict):
        last, count = series.get("lastObservedTime") or last, series.get("count") or count
    text = tables.age(last, now)
    return text if count == 1 else f"{text} (x{count} over {tables.age(first, now)})"


def _conditions(object: Json) -> Iterator[Line]:
    yield ["Conditions:"]
    rows = [("Type", "Status", "Reason", "Message")]
    for each in as_list(at(object, "status", "conditions")):
        message = " ".join(str(each.get("message") or "").split())
        rows.append(
            (str(each.get("type")), str(each.get("status")), str(each.get("reason") or ""), message)
        )
    columns = 4 if any(row[2] or row[3] for row in rows[1:]) else 2
    for type, *cells in rows:
        # Empty cells too: what stands in a column keeps it.
        yield [f"  {type}", *cells[: columns - 1]]


# --- pods --------------------------------------------------------------------------------------


def _pod(pod: Json, now: float, record: Json | None) -> list[Line]:
    meta, spec, status = (as_map(pod.get(key)) for key in ("metadata", "spec", "status"))
    node, account = spec.get("nodeName") or _NONE, spec.get("serviceAccountName")
    lines = [
        _field("Name", meta.get("name")),
        _field("Namespace", meta.get("namespace")),
        *([_field("Priority", spec["priority"])] if "priority" in spec else []),
        *([_field("Service Account", account)] if account else []),
        _field("Node", f"{node}/{status['hostIP']}" if status.get("hostIP") else node),
        _field("Start Time", _time(status.get("startTime"))),
        *_pairs("Labels", as_map(meta.get("labels")), "="),
        *_pairs("Annotations", as_map(meta.get("annotations")), ": "),
    ]
    if meta.get("deletionTimestamp") and status.get("phase") not in ("Succeeded", "Failed"):
        since = tables.age(meta["deletionTimestamp"], now)
        over = f" (grace over for {since})" if not since.startswith("<") else ""
        lines.append(_field("Status", f"Terminating{over}"))
        grace = meta.get("deletionGracePeriodSeconds")
        lines.append(_field("Termination Grace Period", f"{grace}s"))
    else:
        lines.append(_field("Status", status.get("phase")))
    said = [name for name in ("reason", "message") if status.get(name)]
    lines += [_field(name.capitalize(), status[name]) for name in said]
    ips = [str(each.get("ip")) for each in as_list(status.get("podIPs"))]
    lines.append(_field("IP", ips[0] if ips else ""))
    lines += [["IPs:"], *(_field("IP", ip, 1) for ip in ips)] if ips else [_field("IPs", _NONE)]
    for owner in as_list(meta.get("ownerReferences")):
        if owner.get("controller"):
            lines.append(_field("Controlled By", f"{owner.get('kind')}/{owner.get('name')}"))
    known = {each["name"]: each for each in (record or {}).get("containers") or ()}
    for title, key in _GROUPS:
        containers = as_list(spec.get(key))
        states = {each.get("name"): each for each in as_list(status.get(f"{key[:-1]}Statuses"))}
        if not containers:
            continue
        lines.append([f"{title}:"])
        for container in containers:
            name = container.get("name")
            lines += _container(
                pod, container, as_map(states.get(name)), as_map(known.get(name)), now
            )
    lines += list(_gates(pod))
    if status.get("conditions"):
        lines += list(_conditions(pod))
    lines += list(_volumes(spec))
    lines += [
        _field("QoS Class", status.get("qosClass")),
        *_pairs("Node-Selectors", as_map(spec.get("nodeSelector")), "="),
        *_many("Tolerations", [_toleration(each) for each in as_list(spec.get("tolerations"))]),
    ]
    return lines


_GROUPS = (
    ("Init Containers", "initContainers"),
    ("Containers", "containers"),
    ("Ephemeral Containers", "ephemeralContainers"),
)


def _container(pod: Json, container: Json, status: Json, known: Json, now: float) -> Iterator[Line]:
    yield [f"  {container.get('name')}:"]
    yield _field("Container ID", status.get("containerID"), 2)
    if known.get("pid"):
        yield _field("Host PID", known["pid"], 2)
    yield _field("Image", container.get("image"), 2)
    yield _field("Image ID", status.get("imageID"), 2)
    ports = [
        f"{p.get('containerPort')}/{p.get('protocol', 'TCP')}"
        for p in as_list(container.get("ports"))
    ]
    yield _field("Port" if len(ports) < 2 else "Ports", ", ".join(ports) or _NONE, 2)
    for name in ("command", "args"):
        words = as_list(container.get(name))
        if words:
            yield [f"    {name.capitalize()}:"]
        for word in words:
            for line in str(word).splitlines() or [""]:
                yield [f"      {line}"]
    if container.get("restartPolicy"):
        yield _field("Restart Policy", container["restartPolicy"], 2)
    yield from _state("State", as_map(status.get("state")))
    if status.get("lastState"):
        yield from _state("Last State", status["lastState"])
    yield _field("Ready", bool(status.get("ready")), 2)
    yield _field("Restart Count", status.get("restartCount", 0), 2)
    resources = as_map(container.get("resources"))
    for name in ("limits", "requests"):
        if resources.get(name):
            yield [f"    {name.capitalize()}:"]
            for key, value in sorted(resources[name].items()):
                yield _field(key, value, 3)
    probes = {each["kind"]: each for each in as_list(known.get("probes"))}
    for name in ("liveness", "readiness", "startup"):
        probe = container.get(f"{name}Probe")
        if isinstance(probe, dict):
            yield _field(name.capitalize(), probe_line(probe), 2)
            yield from _answer(probe, as_map(probes.get(name)), now)
    runs = {each["which"]: each for each in as_list(known.get("hooks"))}
    lifecycle = as_map(container.get("lifecycle"))
    for name, title in (("postStart", "Post Start"), ("preStop", "Pre Stop")):
        if isinstance(lifecycle.get(name), dict):
            yield _field(title, _handler(lifecycle[name]), 2)
            yield from _hook(as_map(runs.get(name)))
    yield from _environment(pod, container)
    mounts = as_list(container.get("volumeMounts"))
    if not mounts:
        yield _field("Mounts", _NONE, 2)
        return
    yield ["    Mounts:"]
    for mount in sorted(mounts, key=lambda each: str(each.get("mountPath"))):
        flags = "ro" if mount.get("readOnly") else "rw"
        if mount.get("subPath"):
            flags += f',path="{mount["subPath"]}"'
        yield [f"      {mount.get('mountPath')} from {mount.get('name')} ({flags})"]


def _state(title: str, state: Json) -> Iterator[Line]:
    for name in ("running", "waiting", "terminated"):
        details = state.get(name)
        if isinstance(details, dict):
            yield _field(title, name.capitalize(), 2)
            for key, words in _DETAILS:
                if key not in details or (key == "message" and not details[key]):
                    continue
                value = details[key]
                if key == "message":
                    yield from _many(words, str(value).splitlines(), 3)
                else:
                    yield _field(words, _time(value) if key.endswith("At") else value, 3)
            return
    yield _field(title, "Waiting", 2)


_DETAILS = (
    ("reason", "Reason"),
    ("message", "Message"),
    ("exitCode", "Exit Code"),
    ("signal", "Signal"),
    ("startedAt", "Started"),
    ("finishedAt", "Finished"),
)


def probe_line(probe: Json) -> str:
    """A probe in kubectl's one line."""
    return (
        f"{_handler(probe)} delay={probe.get('initialDelaySeconds', 0)}s "
        f"timeout={probe.get('timeoutSeconds', 1)}s period={probe.get('periodSeconds', 10)}s "
        f"#success={probe.get('successThreshold', 1)} #failure={probe.get('failureThreshold', 3)}"
    )


def _handler(handler: Json) -> str:
    """What a probe or a hook does."""
    if isinstance(handler.get("exec"), dict):
        return f"exec [{' '.join(map(str, as_list(handler['exec'].get('command'))))}]"
    if isinstance(handler.get("httpGet"), dict):
        get = handler["httpGet"]
        scheme = str(get.get("scheme") or "HTTP").lower()
        path = str(get.get("path") or "/")
        return (
            f"http-get {scheme}://{get.get('host') or ''}:{get.get('port')}"
            f"{path if path.startswith('/') else '/' + path}"
        )
    if isinstance(handler.get("tcpSocket"), dict):
        socket = handler["tcpSocket"]
        return f"tcp-socket {socket.get('host') or ''}:{socket.get('port')}"
    if isinstance(handler.get("grpc"), dict):
        return f"grpc <pod>:{handler['grpc'].get('port')} {handler['grpc'].get('service') or ''}"
    if isinstance(handler.get("sleep"), dict):
        return f"sleep {handler['sleep'].get('seconds')}s"
    return "unknown"


def _answer(probe: Json, known: Json, now: float) -> Iterator[Line]:
    """What the last attempt of a probe gave, and what the probe says."""
    if not known:
        return
    if known.get("time"):
        said = f": {_short(known['output'])}" if known.get("output") else ""
        ago = tables.age(known["time"], now)
        yield _field("Last Result", f"{known['outcome']}, {ago} ago{said}", 3)
    because = f": {_short(known['because'])}" if known.get("because") else ""
    counting = ""
    if known["last"] not in (known["result"], "unknown"):
        name, default = _THRESHOLDS[known["last"]]
        counting = f"; {known['last']} {known['run']} of {probe.get(name, default)} in a row"
    yield _field("Verdict", f"{known['result']}{because}{counting}", 3)


_THRESHOLDS = {"success": ("successThreshold", 1), "failure": ("failureThreshold", 3)}


def _hook(hook: Json) -> Iterator[Line]:
    if not hook:
        return
    runs = f" (run {hook['runs']} times)" if hook.get("runs", 1) > 1 else ""
    if hook.get("end"):
        yield _field("Result", f"{hook['end']} after {hook['seconds']:.1f} s{runs}", 3)
    else:
        yield _field("Result", f"not known yet{runs}", 3)
    yield _field("Began", _time(hook["begun"]), 3)
    if hook.get("message"):
        yield from _many("Message", str(hook["message"]).splitlines(), 3)
    if hook.get("output"):
        yield from _many("Output", str(hook["output"]).splitlines(), 3)


def _field_of(pod: Json, path: str) -> str:
    """What a variable is given from a field of its pod, as far as that can be said from here."""
    found = _FIELD.fullmatch(path)
    if found is None:
        return ""
    value = at(pod, *found[1].split("."))
    if found[2] is not None:
        value = as_map(value).get(found[2])
    return "" if value is None or isinstance(value, (dict, list)) else str(value)


_FIELD = re.compile(r"([A-Za-z.]+)(?:\['([^']+)'\])?")


def _environment(pod: Json, container: Json) -> Iterator[Line]:
    sources = as_list(container.get("envFrom"))
    if sources:
        yield ["    Environment Variables from:"]
    for source in sources:
        for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
            if isinstance(source.get(key), dict):
                prefix = f" with prefix '{source['prefix']}'" if source.get("prefix") else ""
                optional = str(bool(source[key].get("optional"))).lower()
                yield [
                    f"      {source[key].get('name')}",
                    f"{kind}{prefix}",
                    f"Optional: {optional}",
                ]
    variables = as_list(container.get("env"))
    if not variables:
        yield _field("Environment", _NONE, 2)
        return
    yield ["    Environment:"]
    for variable in variables:
        source = variable.get("valueFrom")
        if not isinstance(source, dict):
            yield from _many(
                str(variable.get("name")), str(variable.get("value", "")).split("\n"), 3
            )
            continue
        text = ""
        if isinstance(source.get("fieldRef"), dict):
            ref = source["fieldRef"]
            text = f"({ref.get('apiVersion', 'v1')}:{ref.get('fieldPath')})"
            text = f"{_field_of(pod, str(ref.get('fieldPath')))} {text}"
        elif isinstance(source.get("resourceFieldRef"), dict):
            ref = source["resourceFieldRef"]
            text = f"{ref.get('containerName') or container.get('name')} ({ref.get('resource')})"
        for key, what in (("secretKeyRef", "in secret"), ("configMapKeyRef", "of config map")):
            if isinstance(source.get(key), dict):
                ref = source[key]
                text = (
                    f"<set to the key '{ref.get('key')}' {what} '{ref.get('name')}'>  "
                    f"Optional: {str(bool(ref.get('optional'))).lower()}"
                )
        yield _field(str(variable.get("name")), text, 3)


def _gates(pod: Json) -> Iterator[Line]:
    gates = as_list(at(pod, "spec", "readinessGates"))
    if not gates:
        return
    now = {
        each.get("type"): each.get("status") for each in as_list(at(pod, "status", "conditions"))
    }
    yield ["Readiness Gates:"]
    yield ["  Type", "Status"]
    for gate in gates:
        type = gate.get("conditionType")
        yield [f"  {type}", str(now.get(type, _NONE))]


def _volumes(spec: Json) -> Iterator[Line]:
    volumes = as_list(spec.get("volumes"))
    if not volumes:
        yield _field("Volumes", _NONE)
        return
    yield ["Volumes:"]
    for volume in volumes:
        yield [f"  {volume.get('name')}:"]
        kind, source = next(((k, v) for k, v in volume.items() if k != "name"), ("emptyDir", {}))
        source = as_map(source)
        yield _field("Type", _VOLUMES.get(kind, kind), 2)
        if kind == "emptyDir":
            yield _field("Medium", source.get("medium"), 2)
            yield _field("SizeLimit", source.get("sizeLimit") or "<unset>", 2)
        else:
            for key, value in source.items():
                if key == "items":
                    yield from _many(
                        _title(key), [_item(as_map(each)) for each in as_list(value)], 2
                    )
                    continue
                text = _sources(value) if key == "sources" else value
                text = _mode(text) if key == "defaultMode" else text
                text = str(text).lower() if isinstance(text, bool) else text
                yield _field(_title(key), _short(text), 2)


_VOLUMES = {
    "emptyDir": "EmptyDir (a temporary directory that shares a pod's lifetime)",
    "hostPath": "HostPath (bare host directory volume)",
    "configMap": "ConfigMap (a volume populated by a ConfigMap)",
    "secret": "Secret (a volume populated by a Secret)",
    "downwardAPI": "DownwardAPI (a volume populated by information about the pod)",
    "projected": "Projected (a volume that contains injected data from multiple sources)",
    "persistentVolumeClaim": "PersistentVolumeClaim (a reference to a PersistentVolumeClaim)",
}


def _item(item: Json) -> str:
    """What becomes which file, in the manner of kubectl: `metadata.labels -> labels`."""
    origin = item.get("key") or at(item, "fieldRef", "fieldPath")
    origin = origin or at(item, "resourceFieldRef", "resource")
    mode = f" (mode {_mode(item['mode'])})" if item.get("mode") is not None else ""
    return _short(f"{origin} -> {item.get('path')}{mode}")


def _mode(mode: Any) -> str:
    """Permissions as `ls` and `chmod` have them; JSON knows no octal numbers."""
    return f"{mode:04o}" if isinstance(mode, int) else str(mode)


def _sources(sources: Any) -> str:
    return ", ".join(
        f"{kind} {as_map(of).get('name', '')}".strip()
        for each in as_list(sources)
        for kind, of in as_map(each).items()
    )


def _toleration(toleration: Json) -> str:
    key, effect = toleration.get("key") or "", toleration.get("effect") or ""
    value = f"={toleration['value']}" if toleration.get("value") else ""
    text = f"{key}{value}{':' if effect and key else ''}{effect}"
    if toleration.get("operator") == "Exists" and not value:
        text += f" op={toleration['operator']}".replace(" ", "" if not text else " ", 1)
    if toleration.get("tolerationSeconds") is not None:
        text += f" for {toleration['tolerationSeconds']}s"
    return text


def _timeline(pod: Json, record: Json, now: float) -> list[str]:
    """How the pod has been ending, as `podvisor run` shows it: until now where a node runs."""
    from supervisor import waterfall

    marks, until = record["termination"], 0.0
    alive, over = (
        {mark.get("container") for mark in marks if mark["event"] == event}
        for event in ("alive", "exit")
    )
    if alive - over and at(pod, "status", "phase") != reasons.UNKNOWN:
        until = max(0.0, now - datetime.fromisoformat(marks[0]["time"]).timestamp())
    spec = as_map(pod.get("spec"))
    images = {
        str(each.get("name")): str(each.get("image") or "")
        for key in ("initContainers", "containers")
        for each in as_list(spec.get(key))
        if not each.get("command")
    }
    text = waterfall.draw_plain(marks, images, _name(pod), until)
    return ["Termination:", *(f"  {line}" for line in text.splitlines())]


# --- other kinds -------------------------------------------------------------------------------


def _node(node: Json) -> list[Line]:
    status = as_map(node.get("status"))
    roles = sorted(
        key.partition("/")[2]
        for key in as_map(at(node, "metadata", "labels"))
        if key.startswith("node-role.kubernetes.io/")
    )
    lines = [*_head(node, namespaced=False)]
    lines.insert(1, _field("Roles", ",".join(roles) or _NONE))
    lines.append(_field("CreationTimestamp", _time(at(node, "metadata", "creationTimestamp"))))
    taints = [
        f"{t.get('key')}{'=' + t['value'] if t.get('value') else ''}:{t.get('effect')}"
        for t in as_list(at(node, "spec", "taints"))
    ]
    lines += list(_many("Taints", taints))
    unschedulable = bool(at(node, "spec", "unschedulable"))
    lines.append(_field("Unschedulable", str(unschedulable).lower()))
    lines += list(_conditions(node))
    lines.append(["Addresses:"])
    lines += [
        _field(str(a.get("type")), a.get("address"), 1) for a in as_list(status.get("addresses"))
    ]
    for title, key in (("Capacity", "capacity"), ("Allocatable", "allocatable")):
        lines.append([f"{title}:"])
        lines += [_field(k, v, 1) for k, v in sorted(as_map(status.get(key)).items())]
    lines.append(["System Info:"])
    lines += [_field(_title(k), v, 1) for k, v in as_map(status.get("nodeInfo")).items()]
    return lines


def _pods(pods: Sequence[Json], now: float) -> Iterator[Line]:
    yield _field("Non-terminated Pods", f"({len(pods)} in total)")
    rows = [("Namespace", "Name", "Age"), ("---------", "----", "---")]
    for pod in pods:
        meta = as_map(pod.get("metadata"))
        age = tables.age(meta.get("creationTimestamp"), now)
        rows.append((str(meta.get("namespace")), str(meta.get("name")), age))
    for row in rows:
        yield [f"  {row[0]}", *row[1:]]


def _data(config: Json) -> Iterator[Line]:
    yield ["Data"]
    yield ["===="]
    for key, value in sorted(as_map(config.get("data")).items()):
        yield [f"{key}:"]
        yield ["----"]
        for line in str(value).split("\n"):
            yield [line]
        yield []
    binary = as_map(config.get("binaryData"))
    if binary:
        yield ["BinaryData"]
        yield ["===="]
        for key, value in sorted(binary.items()):
            yield [f"{key}: {_size(value)} bytes"]
        yield []


def _secret(secret: Json) -> Iterator[Line]:
    yield _field("Type", secret.get("type"))
    yield []
    yield ["Data"]
    yield ["===="]
    for key, value in sorted(as_map(secret.get("data")).items()):
        yield [f"{key}:", f"{_size(value)} bytes"]


def _size(text: object) -> int:
    try:
        return len(base64.b64decode(str(text)))
    except binascii.Error:
        return 0


def _service(service: Json) -> Iterator[Line]:
    spec = as_map(service.get("spec"))
    yield from _pairs("Selector", as_map(spec.get("selector")), "=")
    yield _field("Type", spec.get("type") or "ClusterIP")
    yield _field("IP", spec.get("clusterIP") or "")
    for port in as_list(spec.get("ports")):
        name, protocol = port.get("name") or "<unset>", port.get("protocol") or "TCP"
        yield _field("Port", f"{name}  {port.get('port')}/{protocol}")
        yield _field("TargetPort", f"{port.get('targetPort', port.get('port'))}/{protocol}")
    yield _field("Session Affinity", spec.get("sessionAffinity") or "None")


def _anything(object: Json) -> Iterator[Line]:
    """All that is left of an object of any kind, field by field."""
    meta = as_map(object.get("metadata"))
    yield _field("Created", _time(meta.get("creationTimestamp")))
    for key, value in object.items():
        if key not in ("apiVersion", "kind", "metadata"):
            yield from _value(key, value, 0)


def _value(key: str, value: Any, depth: int) -> Iterator[Line]:
    title = _title(key)
    if isinstance(value, dict) and value:
        yield [f"{'  ' * depth}{title}:"]
        for name, each in value.items():
            yield from _value(name, each, depth + 1)
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        yield [f"{'  ' * depth}{title}:"]
        for each in value:
            yield from _value("-", each, depth + 1)
    elif isinstance(value, list):
        yield from _many(title, [str(each) for each in value], depth)
    else:
        yield _field(title, value, depth)


def _title(key: str) -> str:
    """A field's name in words: containerPort is Container Port."""
    words = _WORD.sub(" ", key)
    return words[:1].upper() + words[1:]


# Where a word begins: fieldPath, systemUUID, TCPSocket.
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


# --- reading what may be anything --------------------------------------------------------------


def _name(object: Json) -> str:
    return str(at(object, "metadata", "name") or "")


def _time(value: object) -> str:
    """A time as people read it, in their own zone."""
    if not value:
        return ""
    try:
        return datetime.fromisoformat(str(value)).astimezone().strftime("%a, %d %b %Y %H:%M:%S %z")
    except ValueError:
        return str(value)
