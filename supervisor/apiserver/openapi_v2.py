"""The OpenAPI documents in the old form: one of version 2, for everything, also as protobuf.

kubectl before 1.27 reads it to explain a kind, to check a manifest by itself, and to see whether
the server knows `dryRun` and `fieldValidation`; all versions may merge by it. They insist on
protobuf, in the messages of gnostic's OpenAPIv2.proto. All that it says comes from the documents
of version 3: a path or schema is only written otherwise here.

Pure. What these documents hold is our own, so what is converted is what openapi.py makes, not all
that OpenAPI allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from supervisor.apiserver.contract import Json

_OLD, _NEW = "#/definitions/", "#/components/schemas/"


def converted(documents: Iterable[Json]) -> Json:
    """Documents of version 3 (one at least) as one of version 2."""
    paths: Json = {}
    definitions: Json = {}
    info: Json = {}
    for document in documents:
        info = document["info"]
        paths |= {path: _item(item) for path, item in document["paths"].items()}
        for name, schema in document["components"]["schemas"].items():
            definitions[name] = _schema(schema)
    return {
        "swagger": "2.0",
        "info": info,
        "paths": paths,
        "definitions": dict(sorted(definitions.items())),
        "securityDefinitions": {
            "BearerToken": {"type": "apiKey", "name": "authorization", "in": "header"}
        },
        "security": [{"BearerToken": []}],
    }


def _schema(schema: Json) -> Json:
    out: Json = {}
    for key, value in schema.items():
        if key == "$ref":
            out[key] = value.replace(_NEW, _OLD)
        elif key == "allOf":  # a reference, beside which the new form allows nothing
            out |= _schema(value[0])
        elif key == "oneOf":  # a number or its text
            out["type"] = "string"
        elif key in ("items", "additionalProperties"):
            out[key] = _schema(value)
        elif key == "properties":
            out[key] = {name: _schema(one) for name, one in value.items()}
        else:
            out[key] = value
    return out


def _item(item: Json) -> Json:
    out: Json = {method: _operation(one) for method, one in item.items() if method != "parameters"}
    if "parameters" in item:
        out["parameters"] = [_parameter(one) for one in item["parameters"]]
    return out


def _operation(operation: Json) -> Json:
    out = dict(operation)
    body = out.pop("requestBody", None)
    parameters = [_parameter(one) for one in out.get("parameters", [])]
    if body is not None:
        out["consumes"] = list(body["content"])
        first = next(iter(body["content"].values()))
        told = {"name": "body", "in": "body", "schema": _schema(first["schema"])}
        parameters.insert(0, told | ({"required": True} if body.get("required") else {}))
    if parameters:
        out["parameters"] = parameters
    responses: Json = {}
    produces: dict[str, None] = {}
    for code, response in operation["responses"].items():
        ((media, given),) = response["content"].items()
        produces[media] = None
        responses[code] = {
            "description": response["description"],
            "schema": _schema(given["schema"]),
        }
    return out | {"produces": list(produces), "responses": responses}


def _parameter(parameter: Json) -> Json:
    out = dict(parameter)
    return out | _schema(out.pop("schema"))


# --- protobuf ----------------------------------------------------------------------------------


def encoded(document: Json) -> bytes:
    """A document of `converted` as the message Document."""
    info = document["info"]
    return b"".join(
        [
            _text(1, document["swagger"]),
            _bytes(2, _text(1, info["title"]) + _text(2, info["version"])),
            _bytes(8, _named(2, document["paths"], _item_message)),
            _bytes(9, _named(1, document["definitions"], _schema_message)),
            *(_bytes(12, _named(1, each, _texts)) for each in document["security"]),
            _bytes(13, _named(1, document["securityDefinitions"], _key_message)),
        ]
    )


def _bytes(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _text(number: int, value: str) -> bytes:
    return _bytes(number, value.encode())


def _true(number: int) -> bytes:
    return _varint(number << 3) + b"\x01"


def _texts(values: Iterable[str]) -> bytes:
    return b"".join(_text(1, value) for value in values)


def _named(number: int, values: Mapping[str, Any], message: Callable[[Any], bytes]) -> bytes:
    """A map: pairs of a name and a message, each in field `number`."""
    pairs = (_text(1, name) + _bytes(2, message(value)) for name, value in values.items())
    return b"".join(_bytes(number, pair) for pair in pairs)


def _any(value: Any) -> bytes:
    """What may be anything is told as YAML, of which JSON is a part."""
    return _bytes(2, msgspec.json.encode(value))


def _extensions(number: int, of: Json) -> bytes:
    told = {name: value for name, value in of.items() if name.startswith("x-")}
    return _named(number, told, _any)


def _schema_message(schema: Json) -> bytes:
    return b"".join(_schema_fields(schema)) + _extensions(31, schema)


def _schema_fields(schema: Json) -> Iterator[bytes]:
    for number, name in ((1, "$ref"), (2, "format"), (4, "description")):
        if name in schema:
            yield _text(number, schema[name])
    for name in schema.get("required", ()):
        yield _text(19, name)
    for value in schema.get("enum", ()):
        yield _bytes(20, _any(value))
    if "additionalProperties" in schema:
        yield _bytes(21, _bytes(1, _schema_message(schema["additionalProperties"])))
    if "type" in schema:
        yield _bytes(22, _text(1, schema["type"]))
    if "items" in schema:
        yield _bytes(23, _bytes(1, _schema_message(schema["items"])))
    if "properties" in schema:
        yield _bytes(25, _named(1, schema["properties"], _schema_message))


_METHODS = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}


def _item_message(item: Json) -> bytes:
    operations = (
        _bytes(number, _operation_message(item[method]))
        for method, number in _METHODS.items()
        if method in item
    )
    return b"".join((*operations, *_parameters(9, item)))


def _operation_message(operation: Json) -> bytes:
    return b"".join(
        [
            *(_text(1, tag) for tag in operation["tags"]),
            _text(5, operation["operationId"]),
            *(_text(6, media) for media in operation["produces"]),
            *(_text(7, media) for media in operation.get("consumes", ())),
            *_parameters(8, operation),
            _bytes(9, _named(1, operation["responses"], _response_message)),
            _extensions(13, operation),
        ]
    )


def _parameters(number: int, of: Json) -> Iterator[bytes]:
    for each in of.get("parameters", ()):
        yield _bytes(number, _bytes(1, _parameter_message(each)))


def _parameter_message(told: Json) -> bytes:
    required = told.get("required", False)
    if told["in"] == "body":
        out = _text(2, told["name"]) + _text(3, "body") + (_true(4) if required else b"")
        return _bytes(1, out + _bytes(5, _schema_message(told["schema"])))
    in_path = told["in"] == "path"
    first = 5 if in_path else 6  # of the fields that both have, shifted by one
    out = (_true(1) if required else b"") + _text(2, told["in"]) + _text(4, told["name"])
    out += _text(first, told["type"])
    if "items" in told:
        out += _bytes(first + 2, _text(1, told["items"]["type"]))
    for value in told.get("enum", ()):
        out += _bytes(first + 15, _any(value))
    return _bytes(2, _bytes(4 if in_path else 3, out))


def _response_message(response: Json) -> bytes:
    schema = _bytes(1, _schema_message(response["schema"]))
    return _bytes(1, _text(1, response["description"]) + _bytes(2, schema))


def _key_message(told: Json) -> bytes:
    return _bytes(2, _text(1, told["type"]) + _text(2, told["name"]) + _text(3, told["in"]))
