"""Defaults and rules of Pods, as the API server applies them to a pod that is created.

`admit` is the whole way from plain data to a pod that may run: read strictly, say what the
support table says, fill in defaults, check every rule. `with_defaults` and `check` are its parts
for pods that were built in Python. Everything wrong comes out at once, as findings with
Kubernetes' own error types and texts, so that what is learnt here is true on a cluster.

Different from a cluster on purpose: `image` may be missing where there is a `command`, because
programs are run and images are not. Which image stands for which program is a rule of the place.
Rules of fields that the table refuses as a whole are not
written here: there is nothing to run by them. Nothing here looks at the machine; ids that an
unprivileged user cannot take are found by whoever knows the user.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any, TypeVar

from msgspec.structs import replace

from supervisor.api import codec, fields, quantity, v1
from supervisor.api.problems import (
    MAX_FINDINGS,
    Finding,
    Key,
    Path,
    Severity,
    Type,
    duplicate,
    forbidden,
    invalid,
    not_found,
    not_supported,
    render,
    required,
    said,
    show,
    too_long,
    too_many,
)

MAX_INT32 = 2**31 - 1
NAMESPACE_DEFAULT = "default"


def admit(
    data: Any, here: Callable[[v1.Pod], Iterable[Finding]] | None = None
) -> tuple[v1.Pod | None, list[Finding]]:
    """The pod with its defaults if nothing is wrong (warnings aside), and all findings.

    `here` has the rules of the place where the pod is to run. It sees a pod that may be refused,
    in which fields that could not be read are not set.
    """
    wrong_kind = _check_kind(data)
    if wrong_kind is not None:
        return None, [wrong_kind]
    pod, misread = codec.decode(data, v1.Pod)
    if len(misread) >= MAX_FINDINGS:
        return None, misread
    judged, found = _judge(pod)
    found = [*_check_version(data), *found]
    if here is not None:
        broken = {finding.path for finding in found if finding.severity is Severity.ERROR}
        of_place = (finding for finding in here(judged) if finding.path not in broken)
        found += islice(of_place, MAX_FINDINGS)
    findings = misread + [finding for finding in found if not follows_from(finding, misread)]
    failed = any(finding.severity is Severity.ERROR for finding in findings)
    return (None if failed else judged), findings


def check(pod: v1.Pod) -> tuple[v1.Pod, list[Finding]]:
    """The same for a pod built in Python: it with its defaults, and all findings."""
    return _judge(pod)


def _judge(pod: v1.Pod) -> tuple[v1.Pod, list[Finding]]:
    pod_with_defaults = with_defaults(pod)
    rules = list(islice(_check_pod(pod_with_defaults), MAX_FINDINGS))
    if len(rules) == MAX_FINDINGS:
        return pod_with_defaults, rules
    # A field that breaks a rule is not also said to be refused.
    broken = {finding.path for finding in rules if finding.severity is Severity.ERROR}
    table = [finding for finding in fields.findings(pod) if finding.path not in broken]
    return pod_with_defaults, rules + _merged(_stored_differently(pod) + table)


def _check_kind(data: Any) -> Finding | None:
    if not isinstance(data, dict):
        # Without what is there: it may be somebody's list of Secrets, or his file of variables.
        detail = "must be a mapping with apiVersion, kind, metadata and spec"
        return Finding(Type.INVALID, (), f"{Type.INVALID}: {detail}")
    kind, version = data.get("kind"), data.get("apiVersion")
    if kind is None:
        unknown = [finding for finding in codec.decode(data, v1.Pod)[1] if len(finding.path) == 1]
        misnamed = next((finding for finding in unknown if finding.suggestion == "kind"), None)
        if misnamed is None:
            return required(("kind",), "such as Pod")
        # `Kind: Pod` is a pod: the decoder says this again, beside all the rest.
        return None if data[misnamed.path[0]] == "Pod" else misnamed
    if not isinstance(kind, str) or not isinstance(version, (str, type(None))):
        return None  # a wrong type: the decoder says it better
    if kind in ("List", "PodList"):  # whose items could not be taken out
        if "items" not in data:
            return required(("items",))
        if isinstance(data["items"], list):
            return said(("kind",), "List is not read inside a List: only the outer one's items are")
        return Finding(Type.INVALID, ("items",), f"{Type.INVALID}: must be a list")
    return None if kind == "Pod" else codec.kind_finding(kind)


def _check_version(data: Any) -> Iterator[Finding]:
    # The classes have a default, for objects that are built in Python; a file needs its own.
    if isinstance(data, dict) and data.get("apiVersion") is None:
        yield required(("apiVersion",))


def follows_from(finding: Finding, misread: list[Finding]) -> bool:
    """Whether a broken rule is only the shadow of something that could not be read."""
    for cause in misread:
        length = len(cause.path)
        if finding.path[:length] == cause.path:
            return True
        place = finding.path if finding.place is None else finding.place
        if cause.type is Type.UNKNOWN and place == cause.path[:-1]:
            return True  # "must specify one of": the unknown one was meant
        if finding.type is Type.NOT_FOUND and cause.path[:2] == ("spec", "volumes"):
            return True
        meant = (*cause.path[:-1], cause.suggestion) if cause.suggestion else None
        if meant and finding.path[:length] == meant and finding.type is Type.REQUIRED:
            return True  # of the field that was meant, or beneath it
    return False


def _merged(findings: list[Finding]) -> list[Finding]:
    """The same warning about several containers is one warning."""
    groups: dict[tuple[Any, ...], list[Finding]] = {}
    for finding in findings:
        same: tuple[Any, ...] = (finding.path,)
        if finding.severity is Severity.WARNING:
            pattern = ["containers" if part == "initContainers" else part for part in finding.path]
            same = (*(part for part in pattern if not isinstance(part, int)), finding.text)
        groups.setdefault(same, []).append(finding)
    out = []
    for first, *others in groups.values():
        if others:
            places = "place" if len(others) == 1 else "places"
            first = replace(first, text=f"{first.text} (and in {len(others)} other {places})")
        out.append(first)
    return out


def _stored_differently(pod: v1.Pod) -> list[Finding]:
    grace = pod.spec.termination_grace_period_seconds
    if grace is None or grace >= 0:
        return []
    path = ("spec", "terminationGracePeriodSeconds")
    text = f"is stored as 1: {grace} is negative"
    return [said(path, text, Severity.WARNING)]


# --- defaults ----------------------------------------------------------------------------------


def with_defaults(pod: v1.Pod) -> v1.Pod:
    """What the API server would store. Fields that only the node may set are cleared."""
    meta = pod.metadata
    metadata = v1.ObjectMeta(
        name=meta.name,
        generate_name=meta.generate_name,
        namespace=meta.namespace or NAMESPACE_DEFAULT,
        labels=meta.labels,
        annotations=meta.annotations,
        finalizers=meta.finalizers,
        owner_references=meta.owner_references,
    )
    spec = pod.spec
    grace = spec.termination_grace_period_seconds
    account = spec.service_account_name or spec.service_account
    links = spec.enable_service_links
    host_network = spec.host_network
    return v1.Pod(
        api_version=pod.api_version,
        kind=pod.kind,
        metadata=metadata,
        spec=replace(
            spec,
            containers=tuple(_container(each, host_network) for each in spec.containers),
            init_containers=tuple(_container(each, host_network) for each in spec.init_containers),
            ephemeral_containers=tuple(
                _container(each, host_network) for each in spec.ephemeral_containers
            ),
            dns_policy=spec.dns_policy or "ClusterFirst",
            enable_service_links=True if links is None else links,
            restart_policy=spec.restart_policy or "Always",
            scheduler_name=spec.scheduler_name or "default-scheduler",
            security_context=spec.security_context or v1.PodSecurityContext(),
            service_account=account,
            service_account_name=account,
            termination_grace_period_seconds=30 if grace is None else grace if grace >= 0 else 1,
            volumes=tuple(_volume(each) for each in spec.volumes),
        ),
    )


_VOLUME_SOURCES = tuple(
    (wire, attribute)
    for wire, attribute in zip(
        v1.Volume.__struct_encode_fields__, v1.Volume.__struct_fields__, strict=True
    )
    if attribute != "name"
)
_DEFAULT_MODE = 0o644


def _volume(volume: v1.Volume) -> v1.Volume:
    if all(getattr(volume, attribute) is None for _, attribute in _VOLUME_SOURCES):
        return replace(volume, empty_dir=v1.EmptyDirVolumeSource())
    if volume.host_path is not None:
        kind = volume.host_path.type or ""
        volume = replace(volume, host_path=replace(volume.host_path, type=kind))
    if volume.config_map is not None:
        mode = _mode(volume.config_map.default_mode)
        volume = replace(volume, config_map=replace(volume.config_map, default_mode=mode))
    if volume.secret is not None:
        mode = _mode(volume.secret.default_mode)
        volume = replace(volume, secret=replace(volume.secret, default_mode=mode))
    if volume.downward_api is not None:
        downward = volume.downward_api
        items = _downward(downward.items)
        downward = replace(downward, default_mode=_mode(downward.default_mode), items=items)
        volume = replace(volume, downward_api=downward)
    if volume.projected is not None:
        projected = volume.projected
        sources = tuple(_projection(each) for each in projected.sources)
        mode = _mode(projected.default_mode)
        volume = replace(volume, projected=replace(projected, default_mode=mode, sources=sources))
    return volume


def _mode(mode: int | None) -> int:
    return _DEFAULT_MODE if mode is None else mode


def _projection(source: v1.VolumeProjection) -> v1.VolumeProjection:
    if source.downward_api is None:
        return source
    items = _downward(source.downward_api.items)
    return replace(source, downward_api=replace(source.downward_api, items=items))


def _downward(items: tuple[v1.DownwardAPIVolumeFile, ...]) -> tuple[v1.DownwardAPIVolumeFile, ...]:
    return tuple(
        replace(
            item, field_ref=replace(item.field_ref, api_version=item.field_ref.api_version or "v1")
        )
        if item.field_ref is not None
        else item
        for item in items
    )


_C = TypeVar("_C", bound=v1.Container)


def _container(container: _C, host_network: bool) -> _C:
    resources = container.resources
    limits = {name: _stored(text) for name, text in resources.limits.items()}
    requests = limits | {name: _stored(text) for name, text in resources.requests.items()}
    if limits or requests:
        resources = replace(resources, limits=limits, requests=requests)
    return replace(
        container,
        image_pull_policy=container.image_pull_policy or _pull_policy(container.image),
        termination_message_path=container.termination_message_path or "/dev/termination-log",
        termination_message_policy=container.termination_message_policy or "File",
        ports=tuple(
            replace(
                port,
                protocol=port.protocol or "TCP",
                host_port=port.host_port or (port.container_port if host_network else 0),
            )
            for port in container.ports
        ),
        env=tuple(_env(each) for each in container.env),
        resources=resources,
        lifecycle=_lifecycle(container.lifecycle),
        liveness_probe=_probe(container.liveness_probe),
        readiness_probe=_probe(container.readiness_probe),
        startup_probe=_probe(container.startup_probe),
    )


def _lifecycle(lifecycle: v1.Lifecycle | None) -> v1.Lifecycle | None:
    if lifecycle is None:
        return None
    return replace(
        lifecycle, post_start=_hook(lifecycle.post_start), pre_stop=_hook(lifecycle.pre_stop)
    )


def _hook(handler: v1.LifecycleHandler | None) -> v1.LifecycleHandler | None:
    return None if handler is None else replace(handler, http_get=_http_get(handler.http_get))


def _http_get(action: v1.HTTPGetAction | None) -> v1.HTTPGetAction | None:
    if action is None:
        return None
    return replace(action, path=action.path or "/", scheme=action.scheme or "HTTP")


def _probe(probe: v1.Probe | None) -> v1.Probe | None:
    if probe is None:
        return None
    grpc = probe.grpc
    if grpc is not None:
        grpc = replace(grpc, service=grpc.service or "")
    return replace(
        probe,
        http_get=_http_get(probe.http_get),
        grpc=grpc,
        timeout_seconds=probe.timeout_seconds or 1,
        period_seconds=probe.period_seconds or 10,
        success_threshold=probe.success_threshold or 1,
        failure_threshold=probe.failure_threshold or 3,
    )


def _pull_policy(image: str) -> str:
    if not image:
        return ""
    name, _, digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    return "Always" if tag == "latest" or not (tag or digest) else "IfNotPresent"


def _env(variable: v1.EnvVar) -> v1.EnvVar:
    source = variable.value_from
    if source is None or source.field_ref is None or source.field_ref.api_version:
        return variable
    field_ref = replace(source.field_ref, api_version="v1")
    return replace(variable, value_from=replace(source, field_ref=field_ref))


def _stored(text: str) -> str:
    try:
        return str(quantity.round_up_to_milli(quantity.parse(text)))
    except ValueError:
        return text  # of a pod built in Python; the rules say what is wrong


# --- formats -----------------------------------------------------------------------------------

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE = f"({_QUALIFIED})?"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"
_HEADER = "[-A-Za-z0-9]+"

_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
    "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', "
    f"regex used for validation is '{_LABEL}')"
)
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', "
    f"regex used for validation is '{_SUBDOMAIN}')"
)
_QUALIFIED_TEXT = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', "
    f"regex used for validation is '{_QUALIFIED}')"
)
_LABEL_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or "
    f"'my_value',  or '12345', regex used for validation is '{_LABEL_VALUE}')"
)
_ENV_NAME_TEXT = (
    "a valid environment variable name must consist only of printable ASCII characters other "
    "than '='"
)
_CONFIG_KEY_TEXT = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. "
    f"'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '{_CONFIG_KEY}')"
)
_HEADER_TEXT = (
    "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', "
    f"regex used for validation is '{_HEADER}')"
)


def dns_label(text: str) -> Iterator[str]:
    if len(text) > 63:
        yield "must be no more than 63 characters"
    if not re.fullmatch(_LABEL, text):
        yield _LABEL_TEXT


def dns_subdomain(text: str) -> Iterator[str]:
    if len(text) > 253:
        yield "must be no more than 253 characters"
    if not re.fullmatch(_SUBDOMAIN, text):
        yield _SUBDOMAIN_TEXT


def qualified_name(text: str) -> Iterator[str]:
    prefix, slash, name = text.rpartition("/")
    if "/" in prefix:
        yield (
            f"a qualified name {_QUALIFIED_TEXT} with an optional DNS subdomain prefix and '/' "
            "(e.g. 'example.com/MyName')"
        )
        return
    if slash and not prefix:
        yield "prefix part must be non-empty"
    elif slash:
        yield from (f"prefix part {detail}" for detail in dns_subdomain(prefix))
    if not name:
        yield "name part must be non-empty"
    elif len(name) > 63:
        yield "name part must be no more than 63 characters"
    if not re.fullmatch(_QUALIFIED, name):
        yield f"name part {_QUALIFIED_TEXT}"


def label_value(text: str) -> Iterator[str]:
    if len(text) > 63:
        yield "must be no more than 63 characters"
    if not re.fullmatch(_LABEL_VALUE, text):
        yield _LABEL_VALUE_TEXT


def port_name(text: str) -> Iterator[str]:
    if len(text) > 15:
        yield "must be no more than 15 characters"
    if not re.fullmatch("[-a-z0-9]+", text):
        yield "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
    if not re.search("[a-z]", text):
        yield "must contain at least one letter (a-z)"
    if "--" in text:
        yield "must not contain consecutive hyphens"
    if text.startswith("-") or text.endswith("-"):
        yield "must not begin or end with a hyphen"


def _env_name(text: str) -> Iterator[str]:
    if not re.fullmatch("[ -<>-~]+", text):
        yield _ENV_NAME_TEXT


def _config_key(text: str) -> Iterator[str]:
    if len(text) > 253:
        yield "must be no more than 253 characters"
    if not re.fullmatch(_CONFIG_KEY, text):
        yield _CONFIG_KEY_TEXT
    if text in (".", ".."):
        yield f"must not be '{text}'"
    elif text.startswith(".."):
        yield "must not start with '..'"


def _header_name(text: str) -> Iterator[str]:
    if not re.fullmatch(_HEADER, text):
        yield _HEADER_TEXT


def _all(path: Path, value: object, details: Iterable[str]) -> Iterator[Finding]:
    return (invalid(path, value, detail) for detail in details)


def _of_key(path: Path, key: str, details: Iterable[str]) -> Iterator[Finding]:
    """Kubernetes says it of the map; it stands at the key."""
    return (replace(invalid(path, key, detail), place=(*path, Key(key))) for detail in details)


def _named(path: Path, name: str, details: Iterable[str]) -> Iterator[Finding]:
    """A name that must be set and have a form."""
    if not name:
        yield required(path)
    else:
        yield from _all(path, name, details)


def _between(path: Path, value: int | None, low: int, high: int) -> Iterator[Finding]:
    if value is not None and not low <= value <= high:
        yield invalid(path, value, f"must be between {low} and {high}, inclusive")


def _port(path: Path, port: v1.IntOrString | None) -> Iterator[Finding]:
    """A number, or the name of a port; whether a container has a port of that name is not asked."""
    if isinstance(port, str):
        yield from _all(path, port, port_name(port))
    else:
        yield from _between(path, port or 0, 1, 65535)


def _one_of(path: Path, value: str | None, supported: tuple[str, ...]) -> Iterator[Finding]:
    if value is not None and value not in supported:
        yield not_supported(path, value, supported)


def _no_nul(path: Path, value: str) -> Iterator[Finding]:
    # Kubernetes lets it pass and the container then never starts; no process can be given one.
    if "\0" in value:
        yield invalid(path, value, "must not contain the character NUL")


# --- rules of the pod --------------------------------------------------------------------------


def _check_pod(pod: v1.Pod) -> Iterator[Finding]:
    if pod.api_version != "v1":
        path: Path = ("apiVersion",)
        yield (not_supported(path, pod.api_version, ["v1"]) if pod.api_version else required(path))
    yield from check_metadata(pod.metadata)
    yield from _check_spec(pod.spec)


def check_metadata(meta: v1.ObjectMeta) -> Iterator[Finding]:
    path: Path = ("metadata",)
    if not meta.name and not meta.generate_name:
        yield required((*path, "name"))
    elif meta.name:
        yield from _all((*path, "name"), meta.name, dns_subdomain(meta.name))
    yield from _all((*path, "namespace"), meta.namespace, dns_label(meta.namespace))
    for key, value in meta.labels.items():
        yield from _of_key((*path, "labels"), key, qualified_name(key))
        yield from _all((*path, "labels", Key(key)), value, label_value(value))
    for key in meta.annotations:
        yield from _of_key((*path, "annotations"), key, qualified_name(key.lower()))
    size = sum(len(key.encode()) + len(value.encode()) for key, value in meta.annotations.items())
    if size > 256 * 1024:
        yield too_long((*path, "annotations"), 256 * 1024)
    for index, finalizer in enumerate(meta.finalizers):
        place = (*path, "finalizers", index)
        wrong = [*qualified_name(finalizer)]
        if not wrong and "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS:
            wrong.append("name is neither a standard finalizer name nor is it fully qualified")
        yield from _all(place, finalizer, wrong)
    yield from _check_owners(meta.owner_references, (*path, "ownerReferences"))


def check_metadata_update(old: v1.ObjectMeta, new: v1.ObjectMeta) -> Iterator[Finding]:
    yield from check_metadata(new)
    added = sorted({*new.finalizers} - {*old.finalizers})
    if old.deletion_timestamp is not None and added:
        listed = ", ".join(f'"{each}"' for each in added)
        detail = (
            "no new finalizers can be added if the object is being deleted, found new finalizers "
            f"[]string{{{listed}}}"
        )
        yield forbidden(("metadata", "finalizers"), detail)


def _check_owners(owners: Iterable[v1.OwnerReference], path: Path) -> Iterator[Finding]:
    controller = ""
    for index, owner in enumerate(owners):
        place = (*path, index)
        for name, value, what in (
            ("apiVersion", owner.api_version.rpartition("/")[2], "version"),
            ("kind", owner.kind, "kind"),
            ("name", owner.name, "name"),
            ("uid", owner.uid, "uid"),
        ):
            if not value:
                yield invalid((*place, name), value, f"{what} must not be empty")
        if (owner.api_version, owner.kind) == ("v1", "Event"):
            yield invalid(place, "Event", "/v1, Kind=Event is disallowed from being an owner")
        if owner.controller:
            this = f"{owner.kind}/{owner.name}"
            if controller:
                detail = (
                    'Only one reference can have Controller set to true. Found "true" in '
                    f"references for {controller} and {this}"
                )
                yield invalid(path, this, detail)
            controller = controller or this


_STANDARD_FINALIZERS = ("foregroundDeletion", "kubernetes", "orphan")


def _check_spec(spec: v1.PodSpec) -> Iterator[Finding]:
    at: Path = ("spec",)
    yield from _check_volumes(spec, (*at, "volumes"))
    if not spec.containers:
        yield required((*at, "containers"))
    yield from _check_container_names(spec)
    for index, container in enumerate(spec.containers):
        yield from _check_container(container, spec, (*at, "containers", index), is_init=False)
    for index, container in enumerate(spec.init_containers):
        path = (*at, "initContainers", index)
        yield from _check_container(container, spec, path, is_init=True)
        yield from _check_host_ports([(path, container)])
    yield from _check_host_ports(
        ((*at, "containers", index), container) for index, container in enumerate(spec.containers)
    )
    if spec.ephemeral_containers:
        yield forbidden((*at, "ephemeralContainers"), "cannot be set on create")
    yield from _one_of(
        (*at, "restartPolicy"), spec.restart_policy, ("Always", "OnFailure", "Never")
    )
    yield from _one_of(
        (*at, "dnsPolicy"),
        spec.dns_policy,
        ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"),
    )
    yield from _between((*at, "activeDeadlineSeconds"), spec.active_deadline_seconds, 1, MAX_INT32)
    for index, gate in enumerate(spec.readiness_gates):
        path = (*at, "readinessGates", index, "conditionType")
        yield from _all(path, gate.condition_type, qualified_name(gate.condition_type))
    if spec.security_context is not None:
        yield from _check_pod_security(spec.security_context, (*at, "securityContext"))
    if spec.share_process_namespace and spec.host_pid:
        detail = "ShareProcessNamespace and HostPID cannot both be enabled"
        path = (*at, "securityContext", "shareProcessNamespace")  # its place in the API's model
        yield replace(invalid(path, True, detail), place=(*at, "shareProcessNamespace"))
    yield from _check_host_aliases(spec)
    yield from _check_names_of_spec(spec)
    if spec.os is not None and not spec.os.name:
        yield required((*at, "os", "name"), "cannot be empty")
    elif spec.os is not None and spec.os.name not in ("linux", "windows"):
        yield not_supported((*at, "os"), spec.os.name, ("linux", "windows"))
    if spec.node_name and spec.scheduling_gates:
        detail = "cannot be set until all schedulingGates have been cleared"
        yield forbidden((*at, "nodeName"), detail)


def _check_host_aliases(spec: v1.PodSpec) -> Iterator[Finding]:
    at: Path = ("spec", "hostAliases")
    for index, alias in enumerate(spec.host_aliases):
        if not _is_address(alias.ip):
            finding = invalid((*at, "ip"), alias.ip, "must be valid IP address")
            yield replace(finding, place=(*at, index, "ip"))
        for number, name in enumerate(alias.hostnames):
            path = (*at, "hostnames")
            for detail in dns_subdomain(name):
                yield replace(invalid(path, name, detail), place=(*at, index, "hostnames", number))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def _check_names_of_spec(spec: v1.PodSpec) -> Iterator[Finding]:
    at: Path = ("spec",)
    for name, value, form in (
        ("hostname", spec.hostname, dns_label),
        ("subdomain", spec.subdomain, dns_label),
        ("nodeName", spec.node_name, dns_subdomain),
        ("serviceAccountName", spec.service_account_name, dns_subdomain),
    ):
        if value:
            yield from _all((*at, name), value, form(value))
    override = spec.hostname_override
    if override:
        path = (*at, "hostnameOverride")
        if len(override) > 64:
            yield too_long(path, 64)
        yield from _all(path, override, dns_subdomain(override))
        if spec.host_network:
            yield forbidden(path, "may not be specified when hostNetwork is true")


def _check_pod_security(context: v1.PodSecurityContext, at: Path) -> Iterator[Finding]:
    for name, value in (
        ("runAsUser", context.run_as_user),
        ("runAsGroup", context.run_as_group),
        ("fsGroup", context.fs_group),
    ):
        yield from _between((*at, name), value, 0, MAX_INT32)
    for index, group in enumerate(context.supplemental_groups):
        yield from _between((*at, "supplementalGroups", index), group, 0, MAX_INT32)


_PROJECTIONS = tuple(
    zip(
        v1.VolumeProjection.__struct_encode_fields__,
        v1.VolumeProjection.__struct_fields__,
        strict=True,
    )
)


def _check_volumes(spec: v1.PodSpec, at: Path) -> Iterator[Finding]:
    known: dict[str, v1.Volume] = {}
    names: set[str] = set()
    for index, volume in enumerate(spec.volumes):
        path = (*at, index)
        wrong = list(_named((*path, "name"), volume.name, dns_label(volume.name)))
        if volume.name in names:
            wrong.append(duplicate((*path, "name"), volume.name))
        names.add(volume.name)
        sources = [wire for wire, name in _VOLUME_SOURCES if getattr(volume, name) is not None]
        wrong += [
            forbidden((*path, wire), "may not specify more than 1 volume type")
            for wire in sources[1:]
        ]
        if not sources:
            wrong.append(required(path, "must specify a volume type"))
        elif len(sources) == 1:
            wrong += _check_volume(volume, path)
        yield from wrong
        if not wrong:
            known[volume.name] = volume
    for place, index, container in _containers(spec):
        yield from _check_mounts(container, ("spec", place, index, "volumeMounts"), known)
        yield from _check_file_volumes(container, ("spec", place, index, "env"), known)


def _check_volume(volume: v1.Volume, at: Path) -> Iterator[Finding]:
    """Of volumes that are refused as a whole, nothing."""
    if volume.empty_dir is not None:
        yield from _check_empty_dir(volume.empty_dir, (*at, "emptyDir"))
    if volume.host_path is not None:
        yield from _check_host_path(volume.host_path, (*at, "hostPath"))
    if volume.config_map is not None:
        config, path = volume.config_map, (*at, "configMap")
        if not config.name:
            yield required((*path, "name"))
        yield from _check_mode((*path, "defaultMode"), config.default_mode)
        yield from _check_items(config.items, (*path, "items"))
    if volume.secret is not None:
        secret, path = volume.secret, (*at, "secret")
        if not secret.secret_name:
            yield required((*path, "secretName"))
        yield from _check_mode((*path, "defaultMode"), secret.default_mode)
        yield from _check_items(secret.items, (*path, "items"))
    if volume.downward_api is not None:
        path = (*at, "downwardAPI")
        yield from _check_mode((*path, "defaultMode"), volume.downward_api.default_mode)
        yield from _check_downward(volume.downward_api.items, (*path, "items"))
    if volume.projected is not None:
        path = (*at, "projected")
        yield from _check_mode((*path, "defaultMode"), volume.projected.default_mode)
        yield from _check_projections(volume.projected.sources, (*path, "sources"))


def _check_empty_dir(source: v1.EmptyDirVolumeSource, at: Path) -> Iterator[Finding]:
    if source.medium not in ("", "Memory"):
        detail = 'there are no huge pages for volumes here, only "" and "Memory"'
        yield invalid((*at, "medium"), source.medium, detail)
    if source.size_limit is not None:
        limit = _quantity(source.size_limit)
        if limit is None:
            yield invalid((*at, "sizeLimit"), source.size_limit, quantity.WRONG_FORMAT)
        elif limit.nano < 0:
            detail = "SizeLimit field must be a valid resource quantity"
            yield forbidden((*at, "sizeLimit"), detail)


_HOST_PATH_TYPES = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)


def _check_host_path(source: v1.HostPathVolumeSource, at: Path) -> Iterator[Finding]:
    if not source.path:
        yield required((*at, "path"))
    elif ".." in source.path.split("/"):
        yield invalid((*at, "path"), source.path, "must not contain '..'")
    elif not source.path.startswith("/"):
        # The API server takes it, and no pod with it would ever start.
        yield invalid((*at, "path"), source.path, "must be an absolute path, such as /srv/data")
    yield from _no_nul((*at, "path"), source.path)
    yield from _one_of((*at, "type"), source.type, _HOST_PATH_TYPES)


def _check_mode(path: Path, mode: int | None) -> Iterator[Finding]:
    if mode is not None and not 0 <= mode <= 0o777:
        yield invalid(path, mode, "must be a number between 0 and 0777 (octal), both inclusive")


def _descending(text: str) -> Iterator[str]:
    """A path below some folder."""
    if text.startswith("/"):
        yield "must be a relative path"
    if ".." in text.split("/"):
        yield "must not contain '..'"


def _file_of_volume(path: Path, text: str) -> Iterator[Finding]:
    if not text:
        yield required(path)
        return
    yield from _all(path, text, _descending(text))
    # The node has files of its own there whose names begin so.
    if text.startswith("..") and not text.startswith("../"):
        yield invalid(path, text, "must not start with '..'")
    yield from _no_nul(path, text)


def _check_items(items: tuple[v1.KeyToPath, ...], at: Path) -> Iterator[Finding]:
    for index, item in enumerate(items):
        path = (*at, index)
        if not item.key:
            yield required((*path, "key"))
        yield from _file_of_volume((*path, "path"), item.path)
        yield from _check_mode((*path, "mode"), item.mode)


def _check_downward(items: tuple[v1.DownwardAPIVolumeFile, ...], at: Path) -> Iterator[Finding]:
    for index, item in enumerate(items):
        path = (*at, index)
        yield from _file_of_volume((*path, "path"), item.path)
        if item.field_ref is not None:
            field_path = (*path, "fieldRef")
            yield from _check_field_ref(item.field_ref, field_path, _VOLUME_FIELDS)
            if item.resource_field_ref is not None:
                detail = "fieldRef and resourceFieldRef can not be specified simultaneously"
                yield invalid(path, "resource", detail)
        elif item.resource_field_ref is not None:
            resource_path = (*path, "resourceFieldRef")
            if not item.resource_field_ref.container_name:
                yield required((*resource_path, "containerName"))
            yield from _check_resource_ref(item.resource_field_ref, resource_path)
        else:
            yield required(path, "one of fieldRef and resourceFieldRef is required")
        yield from _check_mode((*path, "mode"), item.mode)


def _check_projections(sources: tuple[v1.VolumeProjection, ...], at: Path) -> Iterator[Finding]:
    taken: set[str] = set()
    for index, source in enumerate(sources):
        path = (*at, index)
        kinds = [wire for wire, name in _PROJECTIONS if getattr(source, name) is not None]
        for wire in kinds[1:]:
            yield forbidden((*path, wire), "may not specify more than 1 volume type")
        for wire, part in (("secret", source.secret), ("configMap", source.config_map)):
            if part is not None:
                if not part.name:
                    yield required((*path, wire, "name"))
                yield from _check_items(part.items, (*path, wire, "items"))
                yield from _once(taken, part.items, path, part.name)
        if source.downward_api is not None:
            items = source.downward_api.items
            yield from _check_downward(items, (*path, "downwardAPI", "items"))
            yield from _once(taken, items, path)


def _once(
    taken: set[str],
    items: Iterable[v1.KeyToPath | v1.DownwardAPIVolumeFile],
    at: Path,
    name: str | None = None,
) -> Iterator[Finding]:
    """No two files of a projected volume have the same path."""
    for item in items:
        if item.path and item.path in taken:
            value = item.path if name is None else name
            yield invalid(at, value, "conflicting duplicate paths")
        taken.add(item.path)


def _check_file_volumes(
    container: v1.Container, at: Path, known: Mapping[str, v1.Volume]
) -> Iterator[Finding]:
    """Where the env files are."""
    for index, variable in enumerate(container.env):
        ref = variable.value_from.file_key_ref if variable.value_from is not None else None
        if ref is None or not ref.volume_name:
            continue
        path = (*at, index, "valueFrom", "fileKeyRef", "volumeName")
        volume = known.get(ref.volume_name)
        if volume is None:
            yield not_found(path, ref.volume_name)
        elif volume.empty_dir is None:
            yield invalid(path, ref.volume_name, "referenced volume must be of type emptyDir")


def _check_mounts(
    container: v1.Container, at: Path, known: Mapping[str, v1.Volume]
) -> Iterator[Finding]:
    paths: set[str] = set()
    for number, mount in enumerate(container.volume_mounts):
        path = (*at, number)
        if not mount.name:
            yield required((*path, "name"))
        elif mount.name not in known:
            yield not_found((*path, "name"), mount.name)
        if not mount.mount_path:
            yield required((*path, "mountPath"))
        elif mount.mount_path in paths:
            yield invalid((*path, "mountPath"), mount.mount_path, "must be unique")
        paths.add(mount.mount_path)
        yield from _no_nul((*path, "mountPath"), mount.mount_path)
        for name, text in (("subPath", mount.sub_path), ("subPathExpr", mount.sub_path_expr)):
            for detail in _descending(text):  # Kubernetes says it of the list
                yield replace(invalid((*at, name), text, detail), place=(*path, name))
            yield from _no_nul((*path, name), text)
        if mount.sub_path and mount.sub_path_expr:
            detail = "subPathExpr and subPath are mutually exclusive"
            yield invalid((*path, "subPathExpr"), mount.sub_path_expr, detail)
        yield from _one_of(
            (*path, "mountPropagation"),
            mount.mount_propagation,
            ("Bidirectional", "HostToContainer", "None"),
        )
        yield from _one_of(
            (*path, "recursiveReadOnly"),
            mount.recursive_read_only,
            ("Disabled", "Enabled", "IfPossible"),
        )


# --- rules of containers -----------------------------------------------------------------------

_RESTART = ("Always", "Never", "OnFailure")


def _containers(spec: v1.PodSpec) -> Iterator[tuple[str, int, v1.Container]]:
    for index, container in enumerate(spec.containers):
        yield "containers", index, container
    for index, container in enumerate(spec.init_containers):
        yield "initContainers", index, container


def _check_container_names(spec: v1.PodSpec) -> Iterator[Finding]:
    """Of both lists together: an init container may not have the name of an app container."""
    seen: set[str] = set()
    for place, index, container in _containers(spec):
        path = ("spec", place, index, "name")
        if container.name and container.name in seen:
            yield duplicate(path, container.name)
        seen.add(container.name)
        yield from _named(path, container.name, dns_label(container.name))


def _check_container(
    container: v1.Container, spec: v1.PodSpec, at: Path, *, is_init: bool
) -> Iterator[Finding]:
    image = container.image
    if image != image.strip():
        yield invalid((*at, "image"), image, "must not have leading or trailing whitespace")
    yield from _check_command(container, at)
    yield from _no_nul((*at, "workingDir"), container.working_dir)
    yield from _one_of(
        (*at, "terminationMessagePolicy"),
        container.termination_message_policy,
        ("File", "FallbackToLogsOnError"),
    )
    yield from _one_of(
        (*at, "imagePullPolicy"),
        container.image_pull_policy or None,
        ("Always", "IfNotPresent", "Never"),
    )
    yield from _check_ports(container, (*at, "ports"), spec.host_network)
    yield from _check_env(container, (*at, "env"))
    yield from _check_env_from(container, (*at, "envFrom"))
    yield from _check_resources(container.resources, (*at, "resources"))
    for index, policy in enumerate(container.resize_policy):
        if spec.restart_policy == "Never" and policy.restart_policy != "NotRequired":
            path = (*at, "resizePolicy", index)
            detail = "must be 'NotRequired' when pod `restartPolicy` is 'Never'"
            yield invalid(path, policy.restart_policy, detail)
    yield from _check_restarts(container, at)
    if is_init and not v1.is_sidecar(container):
        for name, handler in (("lifecycle", container.lifecycle), *_probes(container)):
            if handler is not None:
                detail = "may not be set for init containers without restartPolicy=Always"
                yield forbidden((*at, name), detail)
    else:
        if container.lifecycle is not None:
            yield from _check_lifecycle(container.lifecycle, spec, (*at, "lifecycle"))
        for name, probe in _probes(container):
            if probe is not None:
                yield from _check_probe(name, probe, (*at, name))
    if container.security_context is not None:
        yield from _check_security(container.security_context, (*at, "securityContext"))


def _check_command(container: v1.Container, at: Path) -> Iterator[Finding]:
    if not container.command and not container.image:
        reason = "there is no image to take one from: give the container a command"
        if container.args:
            reason = "there is no image, so args have no program: give the container a command"
        yield required((*at, "command"), reason)
    elif container.command and not container.command[0]:
        yield invalid((*at, "command", 0), "", "must name a program")
    for name, words in (("command", container.command), ("args", container.args)):
        for index, word in enumerate(words):
            yield from _no_nul((*at, name, index), word)


def _check_ports(container: v1.Container, at: Path, host_network: bool) -> Iterator[Finding]:
    names: set[str] = set()
    for index, port in enumerate(container.ports):
        path = (*at, index)
        if port.name:
            yield from _all((*path, "name"), port.name, port_name(port.name))
            if port.name in names:
                yield duplicate((*path, "name"), port.name)
            names.add(port.name)
        if port.container_port == 0:
            yield required((*path, "containerPort"))
        else:
            yield from _between((*path, "containerPort"), port.container_port, 1, 65535)
        if port.host_port:
            yield from _between((*path, "hostPort"), port.host_port, 1, 65535)
            if host_network and port.host_port != port.container_port:
                detail = "must match `containerPort` when `hostNetwork` is true"
                yield invalid((*path, "hostPort"), port.host_port, detail)
        yield from _one_of((*path, "protocol"), port.protocol, ("SCTP", "TCP", "UDP"))


def _check_host_ports(containers: Iterable[tuple[Path, v1.Container]]) -> Iterator[Finding]:
    taken: set[str] = set()
    for at, container in containers:
        for index, port in enumerate(container.ports):
            if port.host_port:
                claim = f"{port.protocol}/{port.host_ip}/{port.host_port}"
                if claim in taken:
                    yield duplicate((*at, "ports", index, "hostPort"), claim)
                taken.add(claim)


def _check_restarts(container: v1.Container, at: Path) -> Iterator[Finding]:
    yield from _one_of((*at, "restartPolicy"), container.restart_policy, _RESTART)
    rules = container.restart_policy_rules
    if not rules:
        return
    if container.restart_policy is None:
        detail = "must specify restartPolicy when restart rules are used"
        yield required((*at, "restartPolicy"), detail)
    path = (*at, "restartPolicyRules")
    if len(rules) > 20:
        yield too_many(path, len(rules), 20)
    for index, rule in enumerate(rules):
        here = (*path, index)
        yield from _one_of((*here, "action"), rule.action, ("Restart", "RestartAllContainers"))
        codes = rule.exit_codes
        if codes is None:
            yield required((*here, "exitCodes"), "must be specified")
            continue
        yield from _one_of((*here, "exitCodes", "operator"), codes.operator, ("In", "NotIn"))
        if len(codes.values) > 255:
            yield too_many((*here, "exitCodes", "values"), len(codes.values), 255)


def _check_security(context: v1.SecurityContext, at: Path) -> Iterator[Finding]:
    yield from _between((*at, "runAsUser"), context.run_as_user, 0, MAX_INT32)
    yield from _between((*at, "runAsGroup"), context.run_as_group, 0, MAX_INT32)
    if context.allow_privilege_escalation is False and context.privileged:
        detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
        yield invalid(at, context, detail)


# --- hooks and probes --------------------------------------------------------------------------

_CLASSIC_SIGNALS = (
    "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT "
    "STOP SYS TERM TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ"
)
_REAL_TIME_SIGNALS = (
    "RTMIN",
    *(f"RTMIN+{number}" for number in range(1, 16)),
    *(f"RTMAX-{number}" for number in range(14, 0, -1)),
    "RTMAX",
)
STOP_SIGNALS = tuple(sorted(f"SIG{s}" for s in (*_CLASSIC_SIGNALS.split(), *_REAL_TIME_SIGNALS)))


def _check_lifecycle(lifecycle: v1.Lifecycle, spec: v1.PodSpec, at: Path) -> Iterator[Finding]:
    grace = spec.termination_grace_period_seconds
    for name, handler in (("postStart", lifecycle.post_start), ("preStop", lifecycle.pre_stop)):
        if handler is not None:
            yield from _check_handler(handler, (*at, name), grace)
    path = (*at, "stopSignal")
    if lifecycle.stop_signal is not None and spec.os is None:
        yield forbidden(path, "may not be set for containers with empty `spec.os.name`")
    elif spec.os is not None and spec.os.name == "linux":  # any other one is refused
        yield from _one_of(path, lifecycle.stop_signal, STOP_SIGNALS)


def _probes(container: v1.Container) -> tuple[tuple[str, v1.Probe | None], ...]:
    return (
        ("livenessProbe", container.liveness_probe),
        ("readinessProbe", container.readiness_probe),
        ("startupProbe", container.startup_probe),
    )


def _check_probe(name: str, probe: v1.Probe, at: Path) -> Iterator[Finding]:
    yield from _check_handler(probe, at)
    for field, value in (
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ):
        if value < 0:
            yield invalid((*at, field), value, "must be greater than or equal to 0")
    path, grace = (*at, "terminationGracePeriodSeconds"), probe.termination_grace_period_seconds
    if grace is not None and grace <= 0:
        yield invalid(path, grace, "must be greater than 0")
    if name != "readinessProbe":
        if probe.success_threshold != 1:
            yield invalid((*at, "successThreshold"), probe.success_threshold, "must be 1")
    elif grace is not None:
        yield invalid(path, grace, "must not be set for readinessProbes")


def _check_handler(
    handler: v1.Probe | v1.LifecycleHandler, at: Path, grace: int | None = None
) -> Iterator[Finding]:
    """One handler; of several the first in this order is meant, and the others are too many."""
    handlers: list[tuple[str, Iterator[Finding]]] = []
    if handler.exec is not None:
        handlers.append(("exec", _check_exec(handler.exec, (*at, "exec"))))
    if handler.http_get is not None:
        handlers.append(("httpGet", _check_http_get(handler.http_get, (*at, "httpGet"))))
    if handler.tcp_socket is not None:
        found = _port((*at, "tcpSocket", "port"), handler.tcp_socket.port)
        handlers.append(("tcpSocket", found))
    if isinstance(handler, v1.Probe):
        if handler.grpc is not None:
            handlers.append(("grpc", _port((*at, "grpc", "port"), handler.grpc.port)))
    elif handler.sleep is not None:
        handlers.append(("sleep", _check_sleep(handler.sleep, grace, (*at, "sleep"))))
    if not handlers:
        yield required(at, "must specify a handler type")
        return
    yield from handlers[0][1]
    for name, _ in handlers[1:]:
        yield forbidden((*at, name), "may not specify more than 1 handler type")


def _check_exec(action: v1.ExecAction, at: Path) -> Iterator[Finding]:
    if not action.command:
        yield required((*at, "command"))
    for index, word in enumerate(action.command):
        yield from _no_nul((*at, "command", index), word)


def _check_sleep(action: v1.SleepAction, grace: int | None, at: Path) -> Iterator[Finding]:
    if grace is not None and not 0 <= action.seconds <= grace:
        # The text says "less", but all of the grace period may be slept.
        detail = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
        yield replace(invalid(at, action.seconds, detail), place=(*at, "seconds"))


def _check_http_get(action: v1.HTTPGetAction, at: Path) -> Iterator[Finding]:
    yield from _port((*at, "port"), action.port)
    yield from _one_of((*at, "scheme"), action.scheme, ("HTTP", "HTTPS"))
    for header in action.http_headers:
        yield from _all((*at, "httpHeaders"), header.name, _header_name(header.name))


# --- environment -------------------------------------------------------------------------------

_SOURCES = (
    ("fieldRef", "field_ref"),
    ("resourceFieldRef", "resource_field_ref"),
    ("configMapKeyRef", "config_map_key_ref"),
    ("secretKeyRef", "secret_key_ref"),
    ("fileKeyRef", "file_key_ref"),
)
_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
# Fields that have a name in the downward API but may not become variables.
_FIELDS_ELSEWHERE = (
    "metadata.annotations",
    "metadata.labels",
    "spec.restartPolicy",
    "spec.schedulerName",
    "status.phase",
)
_VOLUME_FIELDS = (
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
)
_RESOURCES = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)
_CPU_DIVISORS = ("1m", "1")
_DIVISORS = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")


def _check_env(container: v1.Container, at: Path) -> Iterator[Finding]:
    for index, variable in enumerate(container.env):
        path = (*at, index)
        yield from _named((*path, "name"), variable.name, _env_name(variable.name))
        yield from _no_nul((*path, "value"), variable.value)
        if variable.value_from is not None:
            yield from _check_source(variable, variable.value_from, (*path, "valueFrom"))


def _check_env_from(container: v1.Container, at: Path) -> Iterator[Finding]:
    for index, source in enumerate(container.env_from):
        path = (*at, index)
        if source.prefix:
            yield from _all((*path, "prefix"), source.prefix, _env_name(source.prefix))
        refs = (("configMapRef", source.config_map_ref), ("secretRef", source.secret_ref))
        given = [(name, ref) for name, ref in refs if ref is not None]
        for name, ref in given:
            yield from _named((*path, name, "name"), ref.name, dns_subdomain(ref.name))
        if not given:
            detail = "must specify one of: `configMapRef` or `secretRef`"
            yield replace(invalid(at, "", detail), place=path)
        elif len(given) > 1:
            detail = "may not have more than one field specified at a time"
            yield replace(invalid(at, "", detail), place=path)


def _check_source(variable: v1.EnvVar, source: v1.EnvVarSource, at: Path) -> Iterator[Finding]:
    count = sum(getattr(source, attribute) is not None for _, attribute in _SOURCES)
    if source.field_ref is not None:
        yield from _check_field_ref(source.field_ref, (*at, "fieldRef"))
    if source.resource_field_ref is not None:
        yield from _check_resource_ref(source.resource_field_ref, (*at, "resourceFieldRef"))
    for name, ref in (
        ("configMapKeyRef", source.config_map_key_ref),
        ("secretKeyRef", source.secret_key_ref),
    ):
        if ref is not None:
            yield from _all((*at, name, "name"), ref.name, dns_subdomain(ref.name))
            yield from _named((*at, name, "key"), ref.key, _config_key(ref.key))
    if source.file_key_ref is not None:
        file, path = source.file_key_ref, (*at, "fileKeyRef")
        yield from _named((*path, "key"), file.key, _env_name(file.key))
        if not file.volume_name:
            yield required((*path, "volumeName"))
        yield from _file_of_volume((*path, "path"), file.path)
    if count == 0:
        names = [f"`{wire}`" for wire, _ in _SOURCES]
        detail = f"must specify one of: {', '.join(names[:-1])} or {names[-1]}"
        yield invalid(at, "", detail)
    elif variable.value:
        yield invalid(at, "", "may not be specified when `value` is not empty")
    elif count > 1:
        yield invalid(at, "", "may not have more than one field specified at a time")


def _check_field_ref(
    ref: v1.ObjectFieldSelector, at: Path, supported: tuple[str, ...] = _FIELDS
) -> Iterator[Finding]:
    path = (*at, "fieldPath")
    if not ref.field_path:
        yield required(path)
        return
    subscripted = re.fullmatch(r"([^\[]*)\['(.*)'\]", ref.field_path, re.DOTALL)
    if ref.api_version != "v1":
        detail = f"error converting fieldPath: unsupported pod version: {ref.api_version}"
        yield invalid(path, ref.field_path, detail)
    elif subscripted is not None:
        name, key = subscripted.groups()
        if name == "metadata.labels":
            yield from _all(path, key, qualified_name(key))
        elif name == "metadata.annotations":
            yield from _all(path, key, qualified_name(key.lower()))
        else:
            detail = f"field label does not support subscript: {ref.field_path}"
            yield invalid(path, ref.field_path, f"error converting fieldPath: {detail}")
    elif ref.field_path in supported:
        return
    elif ref.field_path in (*_FIELDS, *_FIELDS_ELSEWHERE):
        yield not_supported(path, ref.field_path, supported)
    else:
        detail = f"error converting fieldPath: field label not supported: {ref.field_path}"
        yield invalid(path, ref.field_path, detail)


def _check_resource_ref(ref: v1.ResourceFieldSelector, at: Path) -> Iterator[Finding]:
    resource = ref.resource
    if not resource:
        yield required((*at, "resource"))
        return
    kind = resource.partition(".")[2]
    if resource not in _RESOURCES and not (
        kind.startswith("hugepages-") and resource.startswith(("limits.", "requests."))
    ):
        yield not_supported((*at, "resource"), resource, _RESOURCES)
        return
    allowed = _CPU_DIVISORS if kind == "cpu" else _DIVISORS
    divisor = _quantity(ref.divisor or "0")
    if divisor is None or (divisor.nano and str(divisor) not in allowed):
        values = "1m and 1" if kind == "cpu" else ", ".join(allowed)
        detail = f"only divisor's values {values} are supported with the {kind} resource"
        yield invalid((*at, "divisor"), kind, detail)


# --- resources ---------------------------------------------------------------------------------

_STANDARD_RESOURCES = ("cpu", "memory", "ephemeral-storage")


def _quantity(text: str) -> quantity.Quantity | None:
    try:
        return quantity.parse(text)
    except ValueError:
        return None


def _check_resources(resources: v1.ResourceRequirements, at: Path) -> Iterator[Finding]:
    for place, amounts in (("limits", resources.limits), ("requests", resources.requests)):
        for name, text in amounts.items():
            # Requests that were copied from limits stand in no file; the limit says it all.
            if place == "requests" and resources.limits.get(name) == text:
                continue
            path = (*at, place, Key(name))
            yield from _all(path, name, qualified_name(name))
            standard = name in _STANDARD_RESOURCES or name.startswith("hugepages-")
            if "/" not in name and not standard:
                yield invalid(path, name, "must be a standard resource for containers")
            yield from _check_amount(name, text, path)
    for name, text in resources.requests.items():
        limit_text = resources.limits.get(name)
        request, limit = _quantity(text), _quantity(limit_text or "0")
        if limit_text is None or request is None or limit is None:
            continue
        if request.nano > limit.nano:
            relation = "less than or equal"
        elif "/" in name and request.nano != limit.nano:
            relation = "equal"
        else:
            continue
        detail = f"must be {relation} to {name} limit of {limit_text}"
        finding = invalid((*at, "requests"), text, detail)
        yield replace(finding, place=(*at, "requests", Key(name)))


def _check_amount(name: str, text: str, path: Path) -> Iterator[Finding]:
    amount = _quantity(text)
    if amount is None:
        yield invalid(path, text, quantity.WRONG_FORMAT)
    elif amount.nano < 0:
        yield invalid(path, text, "must be greater than or equal to 0")
    elif amount.nano % quantity.NANO:
        if "/" in name:
            yield invalid(path, text, "must be an integer")
        elif name in ("memory", "ephemeral-storage"):
            # The classic slip: 128m is 0.128 bytes, 128Mi was meant.
            said_text = f'fractional byte value "{text}" is invalid, must be an integer'
            yield Finding(Type.INVALID, path, said_text, Severity.WARNING)


# --- updates -----------------------------------------------------------------------------------

_UPDATES = (
    "pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only "
    "additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set "
    "to 1 if it was previously negative)"
)


def check_update(old: v1.Pod, new: v1.Pod) -> list[Finding]:
    """What forbids to change one pod into the other. Both are defaulted, the old one is valid."""
    before, after = old.spec, new.spec
    at: Path = ("spec",)
    findings = [*check_metadata_update(old.metadata, new.metadata)]
    findings += _check_deadline_update(before, after)
    findings += _check_images(before, after)
    known = {_without_seconds(each) for each in before.tolerations}
    if not known <= {_without_seconds(each) for each in after.tolerations}:
        detail = "existing toleration can not be modified except its tolerationSeconds"
        findings.append(forbidden((*at, "tolerations"), detail))
    allowed = replace(
        before,
        active_deadline_seconds=after.active_deadline_seconds,
        containers=_with_images(before.containers, after.containers),
        init_containers=_with_images(before.init_containers, after.init_containers),
        tolerations=after.tolerations,
    )
    for name, mine, others in (
        ("containers", allowed.containers, after.containers),
        ("initContainers", allowed.init_containers, after.init_containers),
    ):
        if len(mine) != len(others):
            detail = "pod updates may not add or remove containers"
            findings.append(forbidden((*at, name), detail))
            return findings
    if allowed != after:
        changed = ", ".join(_differences(at, allowed, after))
        findings.append(forbidden(at, f"{_UPDATES}; changed: {changed}"))
    return findings


def _without_seconds(toleration: v1.Toleration) -> v1.Toleration:
    return replace(toleration, toleration_seconds=None)


def _differences(at: Path, old: v1.Model, new: v1.Model) -> Iterator[str]:
    """The fields that differ, as deep as both have the same shape."""
    names = zip(old.__struct_fields__, old.__struct_encode_fields__, strict=True)
    for attribute, wire in names:
        path, was, now = (*at, wire), getattr(old, attribute), getattr(new, attribute)
        if isinstance(was, tuple) and isinstance(now, tuple) and len(was) == len(now):
            pairs: list[tuple[Path, Any, Any]] = [
                ((*path, i), *pair) for i, pair in enumerate(zip(was, now, strict=True))
            ]
        else:
            pairs = [(path, was, now)]
        for place, one, other in pairs:
            if one == other:
                continue
            if isinstance(one, v1.Model) and isinstance(other, v1.Model):
                yield from _differences(place, one, other)
            else:
                yield render(place)


def _check_deadline_update(before: v1.PodSpec, after: v1.PodSpec) -> Iterator[Finding]:
    path: Path = ("spec", "activeDeadlineSeconds")
    old, new = before.active_deadline_seconds, after.active_deadline_seconds
    if new is not None and old is not None and new > old:
        yield invalid(path, new, "must be less than or equal to previous value")
    elif new is None and old is not None:
        yield invalid(path, new, "must not update from a positive integer to nil value")
    else:
        yield from _between(path, new, 1, MAX_INT32)


def _check_images(before: v1.PodSpec, after: v1.PodSpec) -> Iterator[Finding]:
    known = {container.name: container.image for _, _, container in _containers(before)}
    for group, index, container in _containers(after):
        image, at = container.image, ("spec", group, index, "image")
        if image == known.get(container.name):
            continue
        if image != image.strip():
            yield invalid(at, image, "must not have leading or trailing whitespace")
        if not image:
            yield required(at)


def _with_images(
    old: tuple[v1.Container, ...], new: tuple[v1.Container, ...]
) -> tuple[v1.Container, ...]:
    """The containers as they were, with the images that are asked for."""
    if len(old) != len(new):
        return old
    return tuple(
        # Where there was no image, nothing was said of how to pull it either.
        replace(o, image=n.image, image_pull_policy=(o if o.image else n).image_pull_policy)
        for o, n in zip(old, new, strict=True)
    )


def check_ephemeral_update(old: v1.Pod, new: v1.Pod) -> list[Finding]:
    """The same of the ephemeral containers: they may come, and then stay as they are.

    New ones may also be warned about.
    """
    at: Path = ("spec", "ephemeralContainers")
    findings: list[Finding] = []
    there = {container.name: container for container in new.spec.ephemeral_containers}
    for container in old.spec.ephemeral_containers:
        now = there.get(container.name)
        if now != container:
            done = "removed" if now is None else "changed"
            text = f"existing ephemeral containers {show(container.name)} may not be {done}"
            findings.append(forbidden(at, text))
    seen = {container.name for _, _, container in _containers(new.spec)}
    known = {container.name for container in old.spec.ephemeral_containers}
    added = []
    for index, container in enumerate(new.spec.ephemeral_containers):
        path = (*at, index)
        if container.name and container.name in seen:
            findings.append(duplicate((*path, "name"), container.name))
        elif container.name not in known:
            added.append((index, container))
            findings += _check_ephemeral(container, seen, new.spec, path)
        seen.add(container.name)
    broken = {finding.path for finding in findings}
    for index, container in added:
        alone = v1.Pod(spec=v1.PodSpec(containers=(container,)))
        said_there = (
            replace(finding, path=(*at, index, *finding.path[3:]))
            for finding in fields.findings(alone)
        )
        findings += [finding for finding in said_there if finding.path not in broken]
    return findings


_NOT_EPHEMERAL = {
    "ports": "ports",
    "resources": "resources",
    "resize_policy": "resizePolicy",
    "liveness_probe": "livenessProbe",
    "readiness_probe": "readinessProbe",
    "startup_probe": "startupProbe",
    "lifecycle": "lifecycle",
    "restart_policy": "restartPolicy",
    "restart_policy_rules": "restartPolicyRules",
}
_FOR_OTHERS = "cannot be set for an Ephemeral Container"


def _check_ephemeral(
    container: v1.EphemeralContainer, others: set[str], spec: v1.PodSpec, at: Path
) -> Iterator[Finding]:
    yield from _named((*at, "name"), container.name, dns_label(container.name))
    target = container.target_container_name
    if target and target not in others:
        yield not_found((*at, "targetContainerName"), target)
    nothing = v1.EphemeralContainer()
    plain = container
    for attribute, wire in _NOT_EPHEMERAL.items():
        none = getattr(nothing, attribute)
        if getattr(container, attribute) != none:
            yield forbidden((*at, wire), _FOR_OTHERS)
            plain = replace(plain, **{attribute: none})
    mounts = []
    for number, mount in enumerate(container.volume_mounts):
        for wire, text in (("subPath", mount.sub_path), ("subPathExpr", mount.sub_path_expr)):
            if text:
                yield forbidden((*at, "volumeMounts", number, wire), _FOR_OTHERS)
        mounts.append(replace(mount, sub_path="", sub_path_expr=""))
    yield from _check_container(plain, spec, at, is_init=False)
    volumes = {volume.name: volume for volume in spec.volumes}
    plain = replace(plain, volume_mounts=tuple(mounts))
    yield from _check_mounts(plain, (*at, "volumeMounts"), volumes)


# --- ConfigMaps and Secrets --------------------------------------------------------------------

_MAX_DATA = 1024 * 1024  # bytes of all values
# Keys that a Secret of this type must have; of several lists, one.
_SECRET_KEYS = {
    "kubernetes.io/basic-auth": ("username", "password"),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}


def admit_config_map(data: Any) -> tuple[v1.ConfigMap | None, list[Finding]]:
    """The ConfigMap if nothing is wrong, with its namespace, and all findings."""
    read, misread = codec.decode(data, v1.ConfigMap)
    read = replace(read, metadata=_own_metadata(read.metadata))
    found = chain(_check_version(data), islice(_check_config_map(read), MAX_FINDINGS))
    findings = misread + [finding for finding in found if not follows_from(finding, misread)]
    return (None if findings else read), findings


def _check_config_map(read: v1.ConfigMap) -> Iterator[Finding]:
    yield from _check_object(read)
    contents = {key: unbase64(text) for key, text in read.binary_data.items()}
    size = sum(len(text.encode()) for text in read.data.values())
    if size + sum(len(content or b"") for content in contents.values()) > _MAX_DATA:
        yield too_long((), _MAX_DATA)
    for key in read.data:
        path: Path = ("data", Key(key))
        yield from _all(path, key, _config_key(key))
        if key in contents:
            yield invalid(path, key, "duplicate of key present in binaryData")
    for key, content in contents.items():
        path = ("binaryData", Key(key))
        yield from _all(path, key, _config_key(key))
        if content is None:
            yield _invalid_base64(path, "data")


def admit_secret(data: Any) -> tuple[v1.Secret | None, list[Finding]]:
    """The Secret if nothing is wrong, with its namespace and `stringData` merged into `data`, and
    all findings. No text has a value of the Secret in it, however wrong its type is."""
    read, shown = codec.decode(data, v1.Secret)
    misread = [without_value(finding, data) for finding in shown]
    meta = _own_metadata(read.metadata)
    read = replace(read, metadata=meta)
    values = {key: unbase64(text) for key, text in read.data.items()}
    found = chain(_check_version(data), islice(_check_secret(read, values), MAX_FINDINGS))
    findings = misread + [finding for finding in found if not follows_from(finding, misread)]
    if findings:
        return None, findings
    values |= {key: text.encode() for key, text in read.string_data.items()}
    merged = {key: base64.b64encode(content or b"").decode() for key, content in values.items()}
    return replace(read, data=merged, string_data={}), findings


def _check_secret(read: v1.Secret, decoded: dict[str, bytes | None]) -> Iterator[Finding]:
    yield from _check_object(read)
    values = decoded | {key: text.encode() for key, text in read.string_data.items()}
    if sum(len(content or b"") for content in values.values()) > _MAX_DATA:
        yield too_long(("data",), _MAX_DATA)
    needed = _SECRET_KEYS.get(read.type, ())
    missing = [key for key in needed if key not in values]
    if read.type != "kubernetes.io/basic-auth" or len(missing) == len(needed):
        yield from (required(("data", Key(key))) for key in missing)
    for key, content in decoded.items():
        if content is None:
            yield _invalid_base64(("data", Key(key)), "stringData")
    for name, keys in (("data", read.data), ("stringData", read.string_data)):
        for key in keys:
            yield from _all((name, Key(key)), key, _config_key(key))


def unbase64(text: str) -> bytes | None:
    """What a value of `data` of a Secret, or of `binaryData`, stands for; None if for nothing."""
    try:
        # As Go reads it: lines may be broken, and nothing else is forgiven.
        return binascii.a2b_base64(text.replace("\n", "").replace("\r", ""), strict_mode=True)
    except ValueError:
        return None


def _invalid_base64(path: Path, plain: str) -> Finding:
    text = f"{Type.INVALID}: must be base64; text as it is belongs into {plain}"
    return Finding(Type.INVALID, path, text)


def _own_metadata(meta: v1.ObjectMeta) -> v1.ObjectMeta:
    return replace(meta, namespace=meta.namespace or NAMESPACE_DEFAULT)


def _check_object(read: v1.ConfigMap | v1.Secret) -> Iterator[Finding]:
    if read.api_version != "v1":
        yield not_supported(("apiVersion",), read.api_version, ["v1"])
    yield from check_metadata(read.metadata)
    if not read.metadata.name and read.metadata.generate_name:
        yield said(
            ("metadata", "generateName"), f"is refused: not yet: give the {read.kind} a name"
        )


def without_value(finding: Finding, data: Any) -> Finding:
    """Of a Secret: what is wrong, without what is there."""
    if finding.type is not Type.INVALID:
        return finding
    for part in finding.path:
        data = data[part]
    prefix = invalid((), data, "").text
    detail = finding.text.removeprefix(prefix) if finding.text.startswith(prefix) else ""
    return replace(finding, text=f"{Type.INVALID}{detail}")
