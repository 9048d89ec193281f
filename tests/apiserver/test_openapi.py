"""The OpenAPI documents say what is served, hold together, and stay the same."""

from __future__ import annotations

import gzip
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


# --- the old form --------------------------------------------------------------------------------

V2 = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"


def test_the_old_form_has_every_path_and_kind_of_the_new_one() -> None:
    old = load("v2")
    assert old["swagger"] == "2.0"
    for root in ROOTS:
        new = load(f"v3/{root}")
        for path, method, operation in operations(new):
            assert old["paths"][path][method]["operationId"] == operation["operationId"]
        assert set(new["components"]["schemas"]) <= set(old["definitions"])
    assert {ref.removeprefix("#/definitions/") for ref in references(old)} <= set(
        old["definitions"]
    )


def test_the_old_form_holds_together() -> None:
    found = schemathesis.openapi.from_dict(load("v2"))
    assert len(list(found.get_all_operations())) > 100


def test_a_field_of_the_old_form_has_its_words_beside_its_reference() -> None:
    """A reader of that time knows no allOf, and takes a number where a text is expected."""
    definitions = load("v2")["definitions"]
    spec = definitions["io.k8s.api.core.v1.Pod"]["properties"]["spec"]
    assert spec["$ref"] == "#/definitions/io.k8s.api.core.v1.PodSpec"
    assert definitions["io.k8s.api.core.v1.PodSpec"]["properties"]["securityContext"]["description"]
    port = definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]
    assert port == {"type": "string", "format": "int-or-string"}
    told = json.dumps(definitions)
    assert "allOf" not in told
    assert "oneOf" not in told


@pytest.mark.parametrize("name", ["dryRun", "fieldValidation"])
def test_an_older_kubectl_finds_what_a_patch_of_a_pod_can_be_asked(name: str) -> None:
    patch = load("v2")["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"]
    assert patch["x-kubernetes-group-version-kind"]["kind"] == "Pod"
    assert name in [one["name"] for one in patch["parameters"] if one["in"] == "query"]
    assert "application/strategic-merge-patch+json" in patch["consumes"]


def test_the_old_form_says_as_protobuf_what_it_says_as_json() -> None:
    found = openapi.document("v2", V2)
    assert found is not None
    assert "@" not in found.content_type  # Go could not parse it
    assert gzip.decompress(found.packed) == found.body
    assert _message("Document", found.body) == load("v2")


# Of gnostic's OpenAPIv2.proto: number, name and type of each field. `[]` repeats; `{}` is a message
# of pairs of a name and a value; `first` is a message of one item. What has no name stands for the
# message that it is in.
_GNOSTIC = {
    "Document": "1:swagger:text 2:info:Info 8:paths:{}PathItem 9:definitions:{}Schema "
    "12:security:[]Requirement 13:securityDefinitions:{}SecurityDefinition",
    "Info": "1:title:text 2:version:text",
    "Requirement": "1::pair-list",
    "SecurityDefinition": "2::ApiKey",
    "ApiKey": "1:type:text 2:name:text 3:in:text",
    "PathItem": "2:get:Operation 3:put:Operation 4:post:Operation 5:delete:Operation "
    "8:patch:Operation 9:parameters:[]ParametersItem",
    "Operation": "1:tags:[]text 5:operationId:text 6:produces:[]text 7:consumes:[]text "
    "8:parameters:[]ParametersItem 9:responses:{}ResponseValue 13::pair-any",
    "ParametersItem": "1::Parameter",
    "Parameter": "1::Body 2::NonBody",
    "Body": "2:name:text 3:in:text 4:required:bool 5:schema:Schema",
    "NonBody": "3::Query 4::Path",
    "Path": "1:required:bool 2:in:text 4:name:text 5:type:text",
    "Query": "2:in:text 4:name:text 6:type:text 8:items:Items 21:enum:[]any",
    "Items": "1:type:text",
    "ResponseValue": "1::Response",
    "Response": "1:description:text 2:schema:SchemaItem",
    "SchemaItem": "1::Schema",
    "Schema": "1:$ref:text 2:format:text 4:description:text 19:required:[]text 20:enum:[]any "
    "21:additionalProperties:SchemaItem 22:type:first 23:items:SchemaItem "
    "25:properties:{}Schema 31::pair-any",
}


def _message(name: str, data: bytes) -> Json:
    fields = {}
    for entry in _GNOSTIC[name].split():
        number, key, type_ = entry.split(":")
        fields[int(number)] = (key, type_)
    out: Json = {}
    for number, value in _wire(data):
        key, type_ = fields[number]
        if type_.startswith("[]"):
            out.setdefault(key, []).append(_value(type_[2:], value))
        elif type_.startswith("{}"):
            out[key] = dict(_pair(type_[2:], pair) for _, pair in _wire(value))
        elif type_.startswith("pair-"):
            out |= [_pair(type_[5:], value)]
        elif key:
            out[key] = _value(type_, value)
        else:
            out |= _message(type_, value)
    return out


def _pair(type_: str, data: bytes) -> tuple[str, Any]:
    (_, name), (_, value) = _wire(data)
    return name.decode(), _value(type_, value)


def _value(type_: str, value: Any) -> Any:
    match type_:
        case "text":
            return value.decode()
        case "bool":
            return value == 1
        case "any":
            ((_, told),) = _wire(value)
            return json.loads(told)
        case "first":
            ((_, told),) = _wire(value)
            return told.decode()
        case "list":
            return [told.decode() for _, told in _wire(value)]
        case _:
            return _message(type_, value)


def _wire(data: bytes) -> Iterator[tuple[int, Any]]:
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = varint()
        value = varint()
        if key & 7:
            assert key & 7 == 2
            yield key >> 3, data[at : at + value]
            at += value
            assert at <= len(data)
        else:
            yield key >> 3, value


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
