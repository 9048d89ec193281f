"""The JSON schemas of the kinds, held against a client's own models of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from kubernetes.client import models

from supervisor.api import codec, definitions, kinds, schema, v1, validation
from supervisor.api.problems import Type

ALL = definitions.definitions(schema.MODELS.values(), "#/$defs/")
# What both ConfigMaps and Secrets, or labels and fields, have is one type here.
SHARED = {
    kinds.SelectorAttributes: ["V1FieldSelectorAttributes", "V1LabelSelectorAttributes"],
    kinds.SelectorRequirement: ["V1FieldSelectorRequirement", "V1LabelSelectorRequirement"],
    v1.EnvSource: ["V1ConfigMapEnvSource", "V1SecretEnvSource"],
    v1.Event: ["CoreV1Event"],
    v1.KeySelector: ["V1ConfigMapKeySelector", "V1SecretKeySelector"],
    v1.ProjectionSource: ["V1ConfigMapProjection", "V1SecretProjection"],
    v1.ResourceClaim: ["CoreV1ResourceClaim"],
    kinds.EndpointPort: ["CoreV1EndpointPort"],
}
# Fields that this client's release does not have any more, or does not tell.
GONE = {
    "DeleteOptions": {"ignoreStoreReadErrorWithClusterBreakingPotential"},
    "PodSpec": {"workloadRef"},
    "PodStatus": {"resize"},
    "Volume": {"gitRepo"},
}
# Without a pod in them they are of no use, and validation refuses them.
STRICTER = {
    kinds.PodTemplateSpec: {"spec"},
    v1.Job: {"spec"},
    v1.Pod: {"spec"},
    v1.ReplicaSetSpec: {"template"},
}


def clients_models(type_: type[v1.Model]) -> Iterator[Any]:
    for name in SHARED.get(type_, [f"V1{type_.__name__}"]):
        found = getattr(models, name, None)
        if found is not None:
            yield found


def described() -> list[type[v1.Model]]:
    types = [t for module in (v1, kinds) for t in vars(module).values() if isinstance(t, type)]
    types = [t for t in types if t not in (v1.PodTemplate, v1.PodTemplateSpec)]  # of manifests
    return sorted(
        {t for t in types if issubclass(t, v1.Model) and definitions.schema_name(t) in ALL},
        key=lambda t: t.__name__,
    )


def test_fields_and_what_is_required_are_those_of_a_client() -> None:
    compared = 0
    for type_ in described():
        for model in clients_models(type_):
            theirs = {
                field.alias or name: field.is_required()
                for name, field in model.model_fields.items()
            }
            by_name = {normal(name): required for name, required in theirs.items()}
            ours = {normal(name): name for name in codec.fields(type_)}
            unknown = {ours[name] for name in set(ours) - set(by_name)}
            assert unknown <= GONE.get(type_.__name__, set()), type_
            required = {ours[name] for name, is_required in by_name.items() if is_required}
            stated = set(ALL[definitions.schema_name(type_)].get("required", ()))
            assert stated == required | STRICTER.get(type_, set()), type_
            compared += 1
    assert compared > 120


def normal(name: str) -> str:
    return name.replace("_", "").lower()


def test_every_kind_has_a_sentence_and_its_name() -> None:
    for (api_version, kind), type_ in schema.MODELS.items():
        told = ALL[definitions.schema_name(type_)]
        assert told["description"].endswith("."), kind
        assert told["x-kubernetes-group-version-kind"] == [
            definitions.group_version_kind(api_version, kind)
        ]


@pytest.mark.parametrize(
    ("type_", "field", "said"),
    [
        (v1.PodSpec, "nodeSelector", "Ignored (there is one node)."),
        (v1.Container, "startupProbe", "Honoured. In spec.initContainers.startupProbe: honoured "
         "(of sidecars only)."),
        (v1.PodSpec, "hostUsers", "Emulated (always so). false is ignored (users are the host's)."),
        (v1.PodOS, "name", 'Honoured. "windows" is refused (containers are Linux processes).'),
    ],
)  # fmt: skip
def test_a_field_says_what_is_done_with_it(type_: type[v1.Model], field: str, said: str) -> None:
    told = ALL[definitions.schema_name(type_)]["properties"][field]
    assert told["description"] == said


def test_lists_tell_how_they_merge() -> None:
    told = ALL["io.k8s.api.core.v1.Container"]["properties"]["ports"]
    assert {key: value for key, value in told.items() if key.startswith("x-")} == {
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["containerPort", "protocol"],
        "x-kubernetes-patch-strategy": "merge",
        "x-kubernetes-patch-merge-key": "containerPort",
    }


@pytest.mark.parametrize("type_", list(schema.MODELS.values()), ids=lambda t: t.__name__)
def test_a_schema_is_one(type_: type[v1.Model]) -> None:
    name = definitions.schema_name(type_)
    jsonschema_rs.Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": ALL})


def with_bogus_words() -> dict[str, Any]:
    """A pod that says `x` wherever a field has a list of words."""
    container = {
        "command": ["true"],
        "imagePullPolicy": "x",
        "terminationMessagePolicy": "x",
        "ports": [{"containerPort": 80, "protocol": "x"}],
        "readinessProbe": {"httpGet": {"port": 80, "scheme": "x"}},
        "restartPolicy": "x",
        "restartPolicyRules": [
            {"action": "x", "exitCodes": {"operator": "x", "values": [1]}},
        ],
        "volumeMounts": [
            {
                "name": "v",
                "mountPath": "/v",
                "mountPropagation": "x",
                "readOnly": True,
                "recursiveReadOnly": "x",
            }
        ],
    }
    stops = {"name": "b", "command": ["true"], "lifecycle": {"stopSignal": "x"}}
    spec = {
        "containers": [{"name": "a", **container}, stops],
        "dnsPolicy": "x",
        "os": {"name": "linux"},
        "restartPolicy": "x",
        "volumes": [{"name": "v", "hostPath": {"path": "/v", "type": "x"}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": spec}


def words_of_validation() -> Iterator[tuple[tuple[type[v1.Model], str], set[str]]]:
    other_os = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}}
    other_os["spec"] = {"containers": [{"name": "a", "command": ["a"]}], "os": {"name": "x"}}
    for document in (with_bogus_words(), other_os):
        for finding in validation.admit(document)[1]:
            if finding.type is Type.NOT_SUPPORTED:
                owner: type[v1.Model] = v1.Pod
                *around, name = (part for part in finding.path if isinstance(part, str))
                for part in around:
                    field = schema.field(owner, part)
                    assert field is not None
                    assert field.type is not None
                    owner = field.type
                if name == "os":  # Kubernetes says it of the parent
                    owner, name = v1.PodOS, "name"
                words = finding.text.partition("supported values: ")[2]
                yield (owner, name), set(json.loads(f"[{words}]"))


def test_words_are_those_of_validation() -> None:
    told = {at: set(words) for at, words in definitions._WORDS.items()}
    assert dict(words_of_validation()) == told
