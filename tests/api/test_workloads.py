"""Workloads: the one pod that is made of a template, and what is said about the rest."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

from supervisor.api import codec, v1, validation, workloads

C = {"name": "a", "command": ["true"]}
LABELS = {"app": "web"}


def template(**spec: object) -> dict[str, Any]:
    return {"metadata": {"labels": LABELS}, "spec": {"containers": [C], **spec}}


def workload(kind: str = "Deployment", *, spec: object = None, **fields: object) -> dict[str, Any]:
    version = "batch/v1" if kind == "Job" else "apps/v1"
    own = {"selector": {"matchLabels": LABELS}, "template": template(), **fields}
    data = {"apiVersion": version, "kind": kind, "metadata": {"name": "web"}}
    return {**data, "spec": own if spec is None else spec}


def job(**fields: object) -> dict[str, Any]:
    return workload("Job", spec={"template": template(restartPolicy="Never"), **fields})


def cron(**fields: object) -> dict[str, Any]:
    own = {"schedule": "* * * * *", "jobTemplate": {"spec": job()["spec"]}, **fields}
    return workload(spec=own) | {"apiVersion": "batch/v1", "kind": "CronJob"}


def admit(data: dict[str, Any]) -> tuple[v1.Pod | None, list[str], list[str]]:
    """The pod, errors, warnings."""
    assert workloads.is_workload(data)
    pod, findings = workloads.admit(data, validation.admit)
    errors = [str(f) for f in findings if f.severity == "error"]
    assert (pod is None) == bool(errors)
    return pod, errors, [str(f) for f in findings if f.severity == "warning"]


def errors(data: dict[str, Any]) -> list[str]:
    return admit(data)[1]


def warnings(data: dict[str, Any]) -> list[str]:
    return admit(data)[2]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(workload(), id="Deployment"),
        pytest.param(workload("StatefulSet", serviceName="web"), id="StatefulSet"),
        pytest.param(workload("DaemonSet"), id="DaemonSet"),
        pytest.param(workload("ReplicaSet", replicas=1), id="ReplicaSet"),
        pytest.param(job(completions=1, parallelism=1), id="Job"),
        pytest.param(
            workload(spec={"template": template()})
            | {"apiVersion": "v1", "kind": "ReplicationController"},
            id="ReplicationController",
        ),
        pytest.param(
            {
                "apiVersion": "v1",
                "kind": "PodTemplate",
                "metadata": {"name": "web"},
                "template": template(),
            },
            id="PodTemplate",
        ),
    ],
)
def test_each_kind_with_a_template_is_a_pod_of_its_own_name(data: dict[str, Any]) -> None:
    pod, errors, warnings = admit(data)
    assert pod is not None, errors
    assert (errors, warnings) == ([], [])
    assert (pod.kind, pod.api_version) == ("Pod", "v1")
    assert (pod.metadata.name, pod.metadata.namespace) == ("web", "default")
    assert pod.metadata.labels == LABELS
    assert pod.spec.restart_policy == ("Never" if data["kind"] == "Job" else "Always")


def test_the_pod_has_the_templates_metadata_and_the_workloads_name_and_namespace() -> None:
    own = template()
    own["metadata"] |= {"name": "no", "namespace": "no", "annotations": {"a": "b"}}
    data = workload(template=own)
    data["metadata"] = {"name": "web", "namespace": "shop", "labels": {"is": "mine"}}
    pod = admit(data)[0]
    assert pod is not None
    assert pod.metadata == v1.ObjectMeta(
        name="web", namespace="shop", labels=LABELS, annotations={"a": "b"}
    )


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (
            workload(replicas=3, strategy={"type": "Recreate"}),
            "spec.replicas, spec.strategy are ignored",
        ),
        (workload(replicas=0), "spec.replicas is ignored"),
        (cron(), "spec.schedule is ignored"),
        (
            cron(jobTemplate={"spec": job(backoffLimit=2)["spec"]}),
            "spec.schedule, spec.jobTemplate.spec.backoffLimit are ignored",
        ),
    ],
)
def test_what_only_a_controller_could_do_is_one_warning(data: dict[str, Any], named: str) -> None:
    assert warnings(data) == [f"{named}: the pod template runs once, as one pod"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(
            workload() | {"apiVersion": "apps/v1beta1"},
            ['apiVersion: Unsupported value: "apps/v1beta1": supported values: "apps/v1"'],
            id="an old version",
        ),
        pytest.param(
            {key: value for key, value in workload().items() if key != "apiVersion"},
            ["apiVersion: Required value"],
            id="no version",
        ),
        pytest.param(
            workload(replica=3),
            ["spec.replica: Unknown field (did you mean replicas?)"],
            id="an unknown field of its own",
        ),
        pytest.param(
            workload(replicas="3"),
            ['spec.replicas: Invalid value: "3": must be an integer: remove the quotes'],
            id="a wrong type of its own",
        ),
        pytest.param(
            workload(template=template(containers=[{**C, "livenessProb": {}}])),
            [
                "spec.template.spec.containers[0].livenessProb: Unknown field "
                "(did you mean livenessProbe?)"
            ],
            id="an unknown field of the pod",
        ),
        pytest.param(
            workload(template={**template(), "metadata": {"labels": {**LABELS, "x": "-"}}}),
            None,
            id="a label of the pod",
        ),
        pytest.param(workload(template=None), ["spec.template: Required value"], id="no template"),
        pytest.param(
            workload(spec={"selector": {"matchLabels": LABELS}, "templat": template()}),
            ["spec.templat: Unknown field (did you mean template?)"],
            id="a misnamed template",
        ),
        pytest.param(
            workload(template={"metadata": {"labels": LABELS}}),
            ["spec.template.spec: Required value"],
            id="a template without a spec",
        ),
        pytest.param(
            workload(template=template(restartPolicy="Never")),
            [
                'spec.template.spec.restartPolicy: Unsupported value: "Never": '
                'supported values: "Always"'
            ],
            id="what always runs is always restarted",
        ),
        pytest.param(
            workload(template=template(activeDeadlineSeconds=5)),
            [
                "spec.template.spec.activeDeadlineSeconds: Forbidden: "
                "activeDeadlineSeconds in ReplicaSet is not Supported"
            ],
            id="a deadline of what always runs",
        ),
        pytest.param(
            workload("Job", spec={"template": template()}),
            [
                "spec.template.spec.restartPolicy: Required value: "
                'valid values: "OnFailure", "Never"'
            ],
            id="a job that does not say whether it is tried again",
        ),
        pytest.param(
            cron(schedule=""), ["spec.schedule: Required value"], id="a schedule is required"
        ),
        pytest.param(
            workload(selector=None), ["spec.selector: Required value"], id="a selector is required"
        ),
        pytest.param(
            workload(selector={"matchLabels": {"app": "other"}}),
            [
                'spec.template.metadata.labels: Invalid value: {"app":"web"}: '
                "`selector` does not match template `labels`"
            ],
            id="a selector matches the template",
        ),
        pytest.param(
            workload(selector={"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}),
            [
                'spec.template.metadata.labels: Invalid value: {"app":"web"}: '
                "`selector` does not match template `labels`"
            ],
            id="a selector with expressions",
        ),
        pytest.param(
            workload(
                selector={"matchExpressions": [{"key": "app", "operator": "In", "values": 0.5}]}
            ),
            [
                'spec.template.metadata.labels: Invalid value: {"app":"web"}: '
                "`selector` does not match template `labels`"
            ],
            id="a selector whose values are no list",
        ),
        pytest.param(
            workload("StatefulSet", selector={}),
            ["spec.selector: Invalid value: {}: empty selector is invalid for statefulset"],
            id="a selector that selects everything",
        ),
        pytest.param(
            workload(
                "StatefulSet",
                template=template(
                    containers=[{**C, "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]
                ),
                volumeClaimTemplates=[{"metadata": {"name": "data"}}],
            ),
            None,
            id="claims",
        ),
        pytest.param(
            {**workload(), "metadata": {"name": "Web", "labels": {"a": "-"}}}, None, id="metadata"
        ),
        pytest.param({**workload(), "metadata": 1}, None, id="metadata that is none"),
    ],
)
def test_what_is_wrong_is_said_where_it_stands(
    data: dict[str, Any], expected: list[str] | None
) -> None:
    found = errors(data)
    if expected is not None:
        assert found == expected
    assert len(found) == len(set(found)) > 0


def test_claims_are_refused_and_their_mounts_are_not_said_to_be_missing() -> None:
    mounts = [{"name": "data", "mountPath": "/data"}]
    data = workload(
        "StatefulSet",
        template=template(containers=[{**C, "volumeMounts": mounts}]),
        volumeClaimTemplates=[{"metadata": {"name": "data"}}],
    )
    found = errors(data)
    assert "spec.volumeClaimTemplates is refused: not yet: there are no persistent volumes" in found
    assert not any("Not found" in line for line in found)


def test_a_wrong_name_is_said_once_and_where_it_stands() -> None:
    (found,) = errors({**workload(), "metadata": {"name": "Web"}})
    assert found.startswith('metadata.name: Invalid value: "Web"')


def test_a_kind_of_another_group_is_another_kind() -> None:
    assert not workloads.is_workload(job() | {"apiVersion": "batch.volcano.sh/v1alpha1"})
    assert not workloads.is_workload({"apiVersion": "v1", "kind": "Pod"})
    assert not workloads.is_workload({"apiVersion": "v1", "kind": ["Job"]})
    assert not workloads.is_workload("Job")


def test_places_are_those_of_the_document() -> None:
    text = """\
        apiVersion: v1
        kind: List
        items:
        - apiVersion: apps/v1
          kind: Deployment
          metadata:
            name: web
          spec:
            paused: true
            replicas: 2
            selector: {matchLabels: {app: web}}
            template:
              metadata:
                labels: {app: web}
              spec:
                nodeName: other
                containers:
                - name: a
                  command: true
        """
    (document,), _ = codec.read(textwrap.dedent(text), "web.yaml")
    _, findings = workloads.admit(document.data, validation.admit)
    assert sorted(str(document.problem(finding)) for finding in findings) == [
        "web.yaml:16:9: warning: items[0].spec.template.spec.nodeName is ignored: "
        "there is one node",
        "web.yaml:19:20: error: items[0].spec.template.spec.containers[0].command: "
        "Invalid value: true: must be a list of strings",
        "web.yaml:9:5: warning: items[0]: spec.paused, spec.replicas are ignored: "
        "the pod template runs once, as one pod",
    ]


def test_items_of_a_typed_list_have_its_version_and_kind() -> None:
    items = [{key: workload()[key] for key in ("metadata", "spec")}]
    text = codec.dump({"apiVersion": "apps/v1", "kind": "DeploymentList", "items": items}, "json")
    (document,), _ = codec.read(text, "web.json")
    assert admit(document.data)[1:] == ([], [])
