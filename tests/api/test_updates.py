"""What may change of a pod that is there, in Kubernetes' own words."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from supervisor.api import codec, v1, validation
from supervisor.api.problems import MAX_FINDINGS, Severity, has_errors

OTHER = (
    "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only "
    "additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set "
    "to 1 if it was previously negative); changed: "
)
A = {"name": "a", "image": "a:1", "command": ["true"]}
DEBUG = {"name": "debug", "image": "box", "command": ["sh"]}
TOLERATION = {"key": "k", "operator": "Exists", "effect": "NoExecute"}


def pod(**spec: Any) -> v1.Pod:
    plain = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web"},
        "spec": {"containers": [A], **spec},
    }
    made, wrong = codec.decode(plain, v1.Pod)
    assert len(wrong) < MAX_FINDINGS
    assert not has_errors(wrong)
    return validation.with_defaults(made)


def a(**fields: Any) -> list[dict[str, Any]]:
    return [{**A, **fields}]


CHANGES: list[Any] = [
    ({}, {"containers": a(image="a:2")}, [], "an image"),
    (
        {"initContainers": [{"name": "i", "image": "i:1"}]},
        {"initContainers": [{"name": "i", "image": "i:2"}]},
        [],
        "an init container's image",
    ),
    (
        {},
        {"containers": a(image=" a:2")},
        [
            'spec.containers[0].image: Invalid value: " a:2": '
            "must not have leading or trailing whitespace"
        ],
        "an image has no blanks around it",
    ),
    (
        {"containers": a(imagePullPolicy="Always")},
        {"containers": a(image="", imagePullPolicy="Always")},
        ["spec.containers[0].image: Required value"],
        "an image is not taken away",
    ),
    ({"containers": a(image="")}, {}, [], "an image is added"),
    ({}, {"activeDeadlineSeconds": 5}, [], "a deadline is added"),
    ({"activeDeadlineSeconds": 9}, {"activeDeadlineSeconds": 5}, [], "a deadline comes nearer"),
    (
        {"activeDeadlineSeconds": 5},
        {"activeDeadlineSeconds": 9},
        [
            "spec.activeDeadlineSeconds: Invalid value: 9: "
            "must be less than or equal to previous value"
        ],
        "a deadline does not go away from us",
    ),
    (
        {"activeDeadlineSeconds": 5},
        {},
        [
            "spec.activeDeadlineSeconds: Invalid value: null: "
            "must not update from a positive integer to nil value"
        ],
        "nor does it go",
    ),
    ({}, {"tolerations": [TOLERATION]}, [], "a toleration is added"),
    (
        {"tolerations": [TOLERATION]},
        {"tolerations": [{**TOLERATION, "tolerationSeconds": 3}]},
        [],
        "how long something is tolerated",
    ),
    (
        {"tolerations": [TOLERATION]},
        {"tolerations": []},
        [
            "spec.tolerations: Forbidden: "
            "existing toleration can not be modified except its tolerationSeconds"
        ],
        "a toleration stays",
    ),
    (
        {},
        {"containers": [A, {**A, "name": "b"}]},
        ["spec.containers: Forbidden: pod updates may not add or remove containers"],
        "no container comes",
    ),
    (
        {"initContainers": [{"name": "i", "image": "i"}]},
        {},
        ["spec.initContainers: Forbidden: pod updates may not add or remove containers"],
        "and none goes",
    ),
    (
        {},
        {"containers": a(command=["false"], env=[{"name": "E"}]), "restartPolicy": "Never"},
        [
            OTHER + "spec.containers[0].command[0], spec.containers[0].env, spec.restartPolicy",
        ],
        "all that may not change is named at once",
    ),
    (
        {},
        {"ephemeralContainers": [DEBUG]},
        [OTHER + "spec.ephemeralContainers"],
        "ephemeral containers have a way of their own",
    ),
]


@pytest.mark.parametrize(
    ("before", "after", "expected"), [pytest.param(*c[:3], id=c[3]) for c in CHANGES]
)
def test_an_update_of_a_pod(
    before: dict[str, Any], after: dict[str, Any], expected: list[str]
) -> None:
    found = validation.check_update(pod(**before), pod(**after))
    assert [str(finding) for finding in found] == expected


def test_labels_and_annotations_must_be_valid() -> None:
    old = pod()
    new = replace(old, metadata=replace(old.metadata, labels={"-": "x"}))
    assert [finding.path[:2] for finding in validation.check_update(old, new)] == [
        ("metadata", "labels")
    ]


def test_finalizers_have_names_of_somebody() -> None:
    old = pod()
    held = ("orphan", "example.org/hold", "hold", "a b")
    new = replace(old, metadata=replace(old.metadata, finalizers=held))
    found = [str(finding) for finding in validation.check_update(old, new)]
    assert found[0] == (
        'metadata.finalizers[2]: Invalid value: "hold": '
        "name is neither a standard finalizer name nor is it fully qualified"
    )
    assert [text.partition(":")[0] for text in found[1:]] == ["metadata.finalizers[3]"]


P = "spec.ephemeralContainers"
NOT_HERE = "Forbidden: cannot be set for an Ephemeral Container"
ADDED: list[Any] = [
    ([], [DEBUG], [], "one is added"),
    ([DEBUG], [DEBUG, {**DEBUG, "name": "more"}], [], "another one is added"),
    ([], [{**DEBUG, "targetContainerName": "a"}], [], "it looks at a container"),
    (
        [],
        [{**DEBUG, "targetContainerName": "z"}],
        [f'{P}[0].targetContainerName: Not found: "z"'],
        "it looks at one that is there",
    ),
    (
        [DEBUG],
        [],
        [f'{P}: Forbidden: existing ephemeral containers "debug" may not be removed'],
        "none is removed",
    ),
    (
        [DEBUG],
        [{**DEBUG, "image": "other"}],
        [f'{P}: Forbidden: existing ephemeral containers "debug" may not be changed'],
        "none is changed",
    ),
    ([], [{**DEBUG, "name": "a"}], [f'{P}[0].name: Duplicate value: "a"'], "a name of its own"),
    ([], [DEBUG, DEBUG], [f'{P}[1].name: Duplicate value: "debug"'], "also among themselves"),
    ([], [{"command": ["sh"]}], [f"{P}[0].name: Required value"], "it has a name"),
    (
        [],
        [
            {
                **DEBUG,
                "ports": [{"containerPort": 1}],
                "livenessProbe": {"exec": {"command": ["x"]}},
                "resources": {"limits": {"cpu": "1"}},
                "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
                "restartPolicy": "Always",
            }
        ],
        [
            f"{P}[0].ports: {NOT_HERE}",
            f"{P}[0].resources: {NOT_HERE}",
            f"{P}[0].livenessProbe: {NOT_HERE}",
            f"{P}[0].lifecycle: {NOT_HERE}",
            f"{P}[0].restartPolicy: {NOT_HERE}",
        ],
        "it is not served, probed, limited, restarted",
    ),
    (
        [],
        [{**DEBUG, "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "x"}]}],
        [
            f"{P}[0].volumeMounts[0].subPath: {NOT_HERE}",
            f'{P}[0].volumeMounts[0].name: Not found: "v"',
        ],
        "its mounts are whole volumes that are there",
    ),
    (
        [],
        [{**DEBUG, "terminationMessagePolicy": "No", "env": [{"name": ""}]}],
        [
            f'{P}[0].terminationMessagePolicy: Unsupported value: "No": '
            'supported values: "File", "FallbackToLogsOnError"',
            f"{P}[0].env[0].name: Required value",
        ],
        "the rules of all containers are its own",
    ),
]


@pytest.mark.parametrize(
    ("before", "after", "expected"), [pytest.param(*c[:3], id=c[3]) for c in ADDED]
)
def test_an_update_of_ephemeral_containers(
    before: list[dict[str, Any]], after: list[dict[str, Any]], expected: list[str]
) -> None:
    found = validation.check_ephemeral_update(
        pod(ephemeralContainers=before), pod(ephemeralContainers=after)
    )
    assert [str(f) for f in found if f.severity is Severity.ERROR] == expected


def test_what_the_table_says_of_containers_it_says_of_ephemeral_ones_too() -> None:
    fields = {"securityContext": {"capabilities": {"add": ["SYS_PTRACE"]}}}
    here, on_create = (
        validation.check_ephemeral_update(pod(), pod(ephemeralContainers=[{**DEBUG, **fields}])),
        validation.check(pod(containers=[{**A, **fields}]))[1],
    )
    assert [f.text for f in here] == [f.text for f in on_create]
    assert {f.path[:3] for f in here} == {("spec", "ephemeralContainers", 0)}
