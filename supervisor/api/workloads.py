"""Workloads: the kinds that have a pod template, and the one pod that is made of it.

On a cluster a controller makes pods of the template, again and again. Here it is made into a pod
once, under the workload's own name, and that pod goes the way of any other (`validation.py`). So
the template is judged as a pod, and everything said about that pod is moved to where it stands in
the document. What only a controller could do (replicas, schedules, updates) is named in one
warning. What the API server would refuse about the pair of workload and template is refused here.

Called with the plain data of one document; raises nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from supervisor.api import codec, v1, validation
from supervisor.api.problems import (
    MAX_FINDINGS,
    Finding,
    Path,
    Severity,
    Type,
    forbidden,
    has_errors,
    invalid,
    not_supported,
    render,
    required,
    said,
)

_TEMPLATE: Path = ("spec", "template")


class _Kind(Struct, frozen=True):
    type: type[v1.Workload]
    version: str = "apps/v1"
    template: Path = _TEMPLATE
    specs: tuple[Path, ...] = (("spec",),)  # what holds fields for the controller
    selects: bool = True  # a selector is required, and has to match
    ends: bool = False  # its pods may end: jobs
    owner: str = ""  # who makes the pods, in Kubernetes' texts


_KINDS = {
    "Deployment": _Kind(v1.Deployment, owner="ReplicaSet"),
    "StatefulSet": _Kind(v1.StatefulSet, owner="StatefulSet"),
    "DaemonSet": _Kind(v1.DaemonSet, owner="DaemonSet"),
    "ReplicaSet": _Kind(v1.ReplicaSet, owner="ReplicaSet"),
    "ReplicationController": _Kind(
        v1.ReplicationController, "v1", selects=False, owner="ReplicationController"
    ),
    "Job": _Kind(v1.Job, "batch/v1", selects=False, ends=True),
    "CronJob": _Kind(
        v1.CronJob,
        "batch/v1",
        ("spec", "jobTemplate", "spec", "template"),
        (("spec",), ("spec", "jobTemplate", "spec")),
        selects=False,
        ends=True,
    ),
    "PodTemplate": _Kind(v1.PodTemplate, "v1", ("template",), (), selects=False),
}
# Fields whose absence nobody could tell with a single pod that is made once.
_IMMATERIAL = frozenset(
    [
        "failedJobsHistoryLimit",
        "jobTemplate",
        "manualSelector",
        "revisionHistoryLimit",
        "selector",
        "serviceName",
        "successfulJobsHistoryLimit",
        "template",
        "volumeClaimTemplates",
    ]
)
_COUNTS = frozenset(("completions", "parallelism", "replicas"))
_OF_WORKLOAD = ("generateName", "name", "namespace")  # metadata that the pod has from it


def is_workload(data: Any) -> bool:
    """Whether this is one of our kinds, and not another one of the same name (a Job of an
    operator's own API group)."""
    kind = data.get("kind") if isinstance(data, dict) else None
    return isinstance(kind, str) and kind in _KINDS and is_builtin(data)


def is_builtin(data: dict[str, Any]) -> bool:
    """Whether an object is of Kubernetes' own: other API groups have the name of a domain."""
    group, slash, _ = str(data.get("apiVersion")).partition("/")
    return not slash or "." not in group


def pod_data(data: dict[str, Any]) -> dict[str, Any] | None:
    """The plain data of the pod, if there is any."""
    kind = _KINDS[data["kind"]]
    template = _at(data, kind.template)
    if not isinstance(template, dict) or not isinstance(template.get("spec"), dict):
        return None
    metadata = _mapping(template.get("metadata"))
    own = _mapping(data.get("metadata"))
    named = {name: own[name] for name in _OF_WORKLOAD if isinstance(own.get(name), str)}
    kept = {name: value for name, value in metadata.items() if name not in _OF_WORKLOAD}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": kept | named, "spec": template["spec"]}


def admit(
    data: dict[str, Any],
    admit_pod: Callable[[dict[str, Any]], tuple[v1.Pod | None, list[Finding]]],
) -> tuple[v1.Pod | None, list[Finding]]:
    """The pod of a workload if nothing is wrong (warnings aside), and all findings.

    `admit_pod` judges the pod: `validation.admit`, with what the place adds to it.
    """
    kind = _KINDS[data["kind"]]
    workload, misread = codec.decode(data, kind.type)
    if len(misread) >= MAX_FINDINGS:
        return None, misread
    found = list(_check(data, workload, kind))
    wrong = {finding.path for finding in misread}
    ignored = [path for path in _ignored(data, kind.specs) if path not in wrong]
    if ignored:
        found.append(_warning(ignored))
    pod: v1.Pod | None = None
    of_pod = pod_data(data)
    if of_pod is not None:
        pod, findings = admit_pod(of_pod)
        claims = _at(data, ("spec", "volumeClaimTemplates"))
        found += [
            finding
            for finding in (_moved(finding, kind.template) for finding in findings)
            if finding not in found and not (claims and finding.type is Type.NOT_FOUND)
        ]
    elif _at(data, kind.template) is None:
        found.append(required(kind.template))
    else:
        found.append(required((*kind.template, "spec")))
    findings = misread + [f for f in found if not validation.follows_from(f, misread)]
    return (None if has_errors(findings) else pod), findings


def placed(finding: Finding, data: Any) -> Finding:
    """What is said about the pod of a document, said about what the document holds."""
    return _moved(finding, _KINDS[data["kind"]].template) if is_workload(data) else finding


def _moved(finding: Finding, template: Path) -> Finding:
    """What is said about the pod, said about the workload."""
    place = None if finding.place is None else _path(finding.place, template)
    return replace(finding, path=_path(finding.path, template), place=place)


def _path(path: Path, template: Path) -> Path:
    is_own = path[:1] == ("metadata",) and path[1:2] in [(name,) for name in _OF_WORKLOAD]
    inside = path[:1] in (("spec",), ("metadata",)) and not is_own
    return (*template, *path) if inside else path


def _at(data: Any, path: Path) -> Any:
    for part in path:
        data = data.get(part) if isinstance(data, dict) else None
    return data


def _mapping(data: Any) -> dict[str, Any]:
    return data if isinstance(data, dict) else {}


# --- rules -------------------------------------------------------------------------------------


def _check(data: dict[str, Any], workload: v1.Workload, kind: _Kind) -> Iterator[Finding]:
    if not workload.api_version:
        yield required(("apiVersion",))
    elif workload.api_version != kind.version:
        yield not_supported(("apiVersion",), workload.api_version, [kind.version])
    yield from validation.check_metadata(
        replace(workload.metadata, namespace=workload.metadata.namespace or "default")
    )
    if isinstance(workload, v1.CronJob) and not (workload.spec and workload.spec.schedule):
        yield required(("spec", "schedule"))
    if kind.selects:
        yield from _check_selector(data, kind)
    yield from _check_pod(_mapping(_at(data, (*kind.template, "spec"))), kind)
    if _at(data, ("spec", "volumeClaimTemplates")):
        text = "is refused: not yet: there are no persistent volumes"
        yield said(("spec", "volumeClaimTemplates"), text)


def _warning(ignored: list[Path]) -> Finding:
    names = ", ".join(render(path) for path in ignored)
    verb = "is" if len(ignored) == 1 else "are"
    text = f"{names} {verb} ignored: the pod template runs once, as one pod"
    # About several fields: it stands at the first, and none of them is its subject.
    return Finding(Type.SYNTAX, (), text, Severity.WARNING, place=ignored[0])


def _ignored(data: dict[str, Any], specs: Iterable[Path]) -> Iterator[Path]:
    for at in specs:
        for name, value in _mapping(_at(data, at)).items():
            if name in _COUNTS:
                if value is not None and value != 1:
                    yield (*at, name)
            elif value and name not in _IMMATERIAL:
                yield (*at, name)


def _check_pod(spec: dict[str, Any], kind: _Kind) -> Iterator[Finding]:
    """What the template of this kind may not ask for."""
    policy = spec.get("restartPolicy")
    path = (*kind.template, "spec", "restartPolicy")
    if kind.ends:
        if spec and policy in (None, "", "Always"):
            yield required(path, 'valid values: "OnFailure", "Never"')
    elif kind.owner:
        if policy in ("OnFailure", "Never"):  # any other one no pod may have
            yield not_supported(path, policy, ["Always"])
        if spec.get("activeDeadlineSeconds") is not None:
            text = f"activeDeadlineSeconds in {kind.owner} is not Supported"
            yield forbidden((*kind.template, "spec", "activeDeadlineSeconds"), text)


def _check_selector(data: dict[str, Any], kind: _Kind) -> Iterator[Finding]:
    selector, template = _at(data, ("spec", "selector")), _at(data, kind.template)
    if selector is None:
        yield required(("spec", "selector"))
        return
    read, misread = codec.decode(selector, v1.LabelSelector)
    labels = _mapping(_at(data, (*kind.template, "metadata", "labels")))
    if misread:
        return  # which is said already
    if not read.match_labels and not read.match_expressions:
        what = "deployment" if kind.owner == "ReplicaSet" else kind.owner.lower()
        yield invalid(("spec", "selector"), selector, f"empty selector is invalid for {what}")
    elif isinstance(template, dict) and not _selects(read, labels):
        text = "`selector` does not match template `labels`"
        yield invalid((*kind.template, "metadata", "labels"), labels, text)


def _selects(selector: v1.LabelSelector, labels: dict[str, Any]) -> bool:
    for expression in selector.match_expressions:
        value, values = labels.get(str(expression.get("key"))), expression.get("values")
        values = values if isinstance(values, list) else []
        chosen = {
            "In": value is not None and value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not chosen.get(str(expression.get("operator")), True):
            return False
    return all(labels.get(key) == value for key, value in selector.match_labels.items())
