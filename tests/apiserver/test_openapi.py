"""The OpenAPI documents say what is served, hold together, and stay the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
import schemathesis

from supervisor.api import codec, v1
from supervisor.apiserver import openapi
from supervisor.apiserver.contract import Json
from supervisor.apiserver.resources import RESOURCES, groups

ROOTS = ["api/v1", *(f"apis/{name}/{version}" for name, version in groups().items())]


def load(path: str) -> Json:
    found = openapi.document(path, "application/json")
    assert found is not None, path
    loaded: Json = json.loads(found.body)
    return loaded


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield path, method, operation


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_the_index_names_each_document_with_its_hash() -> None:
    paths = load("v3")["paths"]
    assert list(paths) == ROOTS
    for root, entry in paths.items():
        found = openapi.document(f"v3/{root}", "*/*")
        assert found is not None
        assert entry == {"serverRelativeURL": f"/openapi/v3/{root}?hash={found.hash}"}
        assert found.etag == f'"{found.hash}"'


def test_a_document_is_made_once() -> None:
    assert openapi.document("v3/api/v1", "") is openapi.document("v3/api/v1", "a/b")


@pytest.mark.parametrize("path", ["", "v1", "v3/", "v3/api/v2", "v3/apis/batch/v1", "v4", "v2/x"])
def test_there_is_nothing_else(path: str) -> None:
    assert openapi.document(path, "application/json") is None


@pytest.mark.parametrize("root", ROOTS)
def test_a_document_holds_together(root: str) -> None:
    document = load(f"v3/{root}")
    prefix = "#/components/schemas/"
    assert {ref.removeprefix(prefix) for ref in references(document)} <= set(
        document["components"]["schemas"]
    )
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids))
    for path, _, operation in operations(document):
        declared = document["paths"][path].get("parameters", []) + operation.get("parameters", [])
        in_path = {one["name"] for one in declared if one["in"] == "path"}
        assert in_path == {part[1:-1] for part in path.split("/") if part.startswith("{")}
    schemathesis.openapi.from_dict(document)


def test_every_verb_of_the_table_has_an_operation() -> None:
    actions = {"create": "post", "update": "put"}
    for resource in RESOURCES:
        root = f"apis/{resource.group}/{resource.version}" if resource.group else "api/v1"
        told = {
            operation["x-kubernetes-action"]
            for path, _, operation in operations(load(f"v3/{root}"))
            if operation["x-kubernetes-group-version-kind"]["kind"] == resource.kind
            and resource.plural in path
        }
        expected = {actions.get(verb, verb) for verb in resource.verbs} - {"watch"}
        assert expected <= told, resource.key


@pytest.mark.parametrize("name", ["dryRun", "fieldManager", "fieldValidation", "force"])
def test_kubectl_finds_what_a_patch_of_a_pod_can_be_asked(name: str) -> None:
    """Without fieldValidation it checks by itself, with a document that is not there."""
    (patch,) = [
        operation
        for path, method, operation in operations(load("v3/api/v1"))
        if method == "patch" and path == "/api/v1/namespaces/{namespace}/pods/{name}"
    ]
    gvk = {"group": "", "kind": "Pod", "version": "v1"}
    assert patch["x-kubernetes-group-version-kind"] == gvk
    assert name in [one["name"] for one in patch["parameters"] if one["in"] == "query"]


def test_the_old_form_is_small_and_has_a_type_that_go_can_parse() -> None:
    accept = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
    found = openapi.document("v2", accept)
    assert found is not None
    assert found.body.hex() == "0a03322e3012150a0a4b756265726e65746573120776312e33332e3042004a00"
    assert "@" not in found.content_type
    definitions = load("v2")["definitions"]
    assert "io.k8s.api.core.v1.Pod" in definitions
    assert {ref.removeprefix("#/definitions/") for ref in references(definitions)} <= set(
        definitions
    )


def test_a_pod_that_the_node_would_show_fits_its_schema() -> None:
    document = load("v3/api/v1")
    schema = {"$ref": "#/components/schemas/io.k8s.api.core.v1.Pod"} | document
    status = v1.ContainerStatus(
        name="a",
        image="",
        image_id="",
        ready=False,
        restart_count=0,
        state=v1.ContainerState(terminated=v1.ContainerStateTerminated(exit_code=0)),
    )
    pod = v1.Pod(
        metadata=v1.ObjectMeta(name="web", creation_timestamp="2026-01-31T12:00:00Z"),
        spec=v1.PodSpec(containers=(v1.Container(name="a", command=("true",)),)),
        status=v1.PodStatus(container_statuses=(status,)),
    )
    validator = jsonschema_rs.Draft4Validator(schema)
    plain = codec.to_plain(pod)
    assert [str(error) for error in validator.iter_errors(plain)] == []
    plain["spec"]["containers"] = {}
    assert not validator.is_valid(plain)
