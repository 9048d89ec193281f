"""The bodies of requests, as objects; and of a PUT or PATCH, the change that it means.

Bodies come as JSON, as YAML, and from newer kubectls as protobuf. What they mean to a kind is not
looked at here, only that they are objects, and not built to hurt: not nested deeper than any kind
is. A key that is there twice is noticed, because nobody downstream could; the last one counts.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
from msgspec import Struct

from supervisor.api import codec
from supervisor.api.problems import render
from supervisor.apiserver.contract import (
    ApiError,
    Change,
    Json,
    Resource,
    WriteOptions,
    bad_request,
)
from supervisor.apiserver.negotiation import JSON

_YAML = ("application/yaml", "application/x-yaml", "text/yaml")
PROTOBUF = "application/vnd.kubernetes.protobuf"
_JSON_TYPES = ("", JSON, "text/json", "application/octet-stream", "*/*")
_DUPLICATES_TOLD = 20


class Decoded(Struct, frozen=True):
    """The object of a body. `duplicates`: paths that it says more than once."""

    body: Json
    duplicates: tuple[str, ...] = ()

    def judged(self, validation: str) -> tuple[str, ...]:
        """The warnings about it. Raises ApiError where it was to be read strictly."""
        found = tuple(f'duplicate field "{path}"' for path in self.duplicates)
        if found and validation == "Strict":
            raise bad_request(f"strict decoding error: {', '.join(found)}")
        return found if validation == "Warn" else ()


def decode(media: str, raw: bytes) -> Decoded:
    """Raises ApiError 400, and 415 for other media types."""
    if media in _YAML:
        decoded = Decoded(_from_yaml(raw))
    elif media in _JSON_TYPES:
        decoded = _from_json(raw)
    else:
        text = (
            "the body of the request was in an unknown format - accepted media types include: "
            f"{JSON}, {_YAML[0]}, {PROTOBUF}"
        )
        raise ApiError(415, "UnsupportedMediaType", text)
    if not isinstance(decoded.body, dict):
        raise bad_request("the body must be an object")
    return decoded


def replacement(body: Json) -> Change:
    """What a PUT means."""
    return lambda _: body


def _from_json(raw: bytes) -> Decoded:
    body = plain(raw)
    found: dict[int, list[str]] = {}

    def pairs(entries: list[tuple[str, Any]]) -> Json:
        made = dict(entries)
        if len(made) < len(entries):
            names = [name for name, _ in entries]
            found[id(made)] = [name for name in made if names.count(name) > 1]
        return made

    if raw.count(b'"') <= 2 * codec.MAX_NODES:
        twice = json.loads(raw, object_pairs_hook=pairs)
        if found:
            return Decoded(body, tuple(_paths(twice, found))[:_DUPLICATES_TOLD])
    return Decoded(body)


def plain(raw: bytes) -> Any:
    """The value of a JSON text, whatever it is. Raises ApiError 400."""
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_request(f"the body is not JSON: {error}") from error
    except RecursionError:
        raise _too_deep() from None
    _check_depth(body)
    return body


def _from_yaml(raw: bytes) -> Any:
    documents, problems = codec.read(raw, "body")
    if problems:
        raise bad_request("; ".join(str(problem) for problem in problems[:_DUPLICATES_TOLD]))
    if len(documents) != 1:
        raise bad_request("the body must be one object")
    return documents[0].data


def _check_depth(body: Any) -> None:
    level = [body]
    for _ in range(codec.MAX_DEPTH):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner += value.values()
            elif isinstance(value, list):
                inner += value
        level = [each for each in inner if isinstance(each, (dict, list))]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> ApiError:
    return bad_request(f"the body is nested deeper than {codec.MAX_DEPTH} levels")


def _paths(value: Any, found: dict[int, list[str]], path: tuple[str | int, ...] = ()) -> Any:
    if isinstance(value, dict):
        for name in found.get(id(value), ()):
            yield render((*path, name))
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        if isinstance(inner, (dict, list)):
            yield from _paths(inner, found, (*path, key))
