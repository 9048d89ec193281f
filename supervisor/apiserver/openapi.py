"""The OpenAPI documents: what kubectl reads before it creates, applies or explains anything.

There is an index and one document for each group and version, made of the table in `resources.py`
and of the schemas of the kinds. The paths matter as much as the schemas: kubectl looks there for
what the server can check by itself (`fieldValidation`, `dryRun`). Older clients read the same in
the old form (openapi_v2.py).

A document is made when it is asked for first and kept as bytes: it depends on nothing that
changes while a node runs. Its URL in the index holds its hash, so clients may keep it for good.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Iterator
from functools import partial

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from supervisor.api import definitions, kinds, schema, v1
from supervisor.apiserver import openapi_v2
from supervisor.apiserver.contract import Json, Resource
from supervisor.apiserver.discovery import GIT_VERSION
from supervisor.apiserver.resources import RESOURCES, groups

JSON = "application/json"
# Go's parser of media types takes the name with dots only.
PROTOBUF_V2 = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"

_REFERENCE = "#/components/schemas/"
_STATUS = definitions.schema_name(kinds.Status)
_PATCHES: Json = {
    "application/apply-patch+yaml": {"schema": {"type": "object"}},
    "application/json-patch+json": {"schema": {"type": "array", "items": {"type": "object"}}},
    "application/merge-patch+json": {"schema": {"type": "object"}},
    "application/strategic-merge-patch+json": {"schema": {"type": "object"}},
}
_HASH = 32  # hexadecimal digits


class Document(Struct, frozen=True):
    """An answer. Who asks with `?hash=` and this hash may keep it for good."""

    body: bytes
    packed: bytes  # the same with gzip: about a tenth
    content_type: str
    hash: str

    @property
    def etag(self) -> str:
        return f'"{self.hash}"'


_documents: dict[tuple[str, str], Document] = {}


def document(path: str, accept: str) -> Document | None:
    """What stands under `/openapi/`: `v2`, `v3`, `v3/api/v1`, `v3/apis/apps/v1`; None: nothing.

    The first time takes up to some tenths of a second. May be called on any thread.
    """
    content_type = PROTOBUF_V2 if path == "v2" and "protobuf" in accept else JSON
    known = _documents.get((path, content_type))
    if known is None:
        make = _makers().get((path, content_type))
        if make is None:
            return None
        body = make()
        digest = hashlib.sha256(body).hexdigest()[:_HASH].upper()
        packed = gzip.compress(body, mtime=0)
        known = _documents[path, content_type] = Document(body, packed, content_type, digest)
    return known


def _makers() -> dict[tuple[str, str], Callable[[], bytes]]:
    out: dict[tuple[str, str], Callable[[], bytes]] = {
        ("v2", PROTOBUF_V2): lambda: openapi_v2.encoded(_v2()),
        ("v2", JSON): lambda: msgspec.json.encode(_v2()),
        ("v3", JSON): _index,
    }
    for root, group, version in _roots():
        out[f"v3/{root}", JSON] = partial(_encoded, group, version)
    return out


def _v2() -> Json:
    return openapi_v2.converted(_v3(group, version) for _, group, version in _roots())


def _encoded(group: str, version: str) -> bytes:
    return msgspec.json.encode(_v3(group, version))


def _roots() -> Iterator[tuple[str, str, str]]:
    yield "api/v1", "", "v1"
    for group, version in groups().items():
        yield f"apis/{group}/{version}", group, version


def _index() -> bytes:
    paths = {}
    for root, _, _ in _roots():
        found = document(f"v3/{root}", JSON)
        assert found is not None
        paths[root] = {"serverRelativeURL": f"/openapi/v3/{root}?hash={found.hash}"}
    return msgspec.json.encode({"paths": paths})


# --- version 3 ---------------------------------------------------------------------------------

_INFO = {"title": "Kubernetes", "version": GIT_VERSION}


def _v3(group: str, version: str) -> Json:
    served = [r for r in RESOURCES if (r.group, r.version) == (group, version)]
    paths: Json = {}
    types: list[type[v1.Model]] = [kinds.Status, kinds.DeleteOptions, v1.ListMeta]
    for resource in served:
        types.append(schema.MODELS[resource.api_version, resource.kind])
        for api_version, kind in _kinds_of_subresources(resource):
            if (api_version, kind) in schema.MODELS:
                types.append(schema.MODELS[api_version, kind])
        paths |= _paths(resource)
    schemas = definitions.definitions(types, _REFERENCE)
    for resource in served:
        if "list" in resource.verbs:
            schemas[_list_name(resource)] = _list_schema(resource)
    out: Json = {
        "openapi": "3.0.0",
        "info": _INFO,
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {"BearerToken": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"BearerToken": []}],
    }
    return out


def _kinds_of_subresources(resource: Resource) -> Iterator[tuple[str, str]]:
    for group, version, kind, _ in resource.subresources.values():
        yield f"{group}/{version}" if group else version, kind


def _name(resource: Resource) -> str:
    return definitions.schema_name(schema.MODELS[resource.api_version, resource.kind])


def _list_name(resource: Resource) -> str:
    return f"{_name(resource)}List"


def _list_schema(resource: Resource) -> Json:
    metadata = _REFERENCE + definitions.schema_name(v1.ListMeta)
    gvk = definitions.group_version_kind(resource.api_version, f"{resource.kind}List")
    return {
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string"},
            "items": {"type": "array", "items": {"$ref": _REFERENCE + _name(resource)}},
            "kind": {"type": "string"},
            "metadata": {"$ref": metadata},
        },
        "required": ["items"],
        "x-kubernetes-group-version-kind": [gvk],
    }


# --- paths -------------------------------------------------------------------------------------

_METHODS = {
    "create": "post",
    "delete": "delete",
    "deletecollection": "delete",
    "get": "get",
    "list": "get",
    "patch": "patch",
    "update": "put",
}
_ACTIONS = {"create": "post", "update": "put"}  # the others are called as their verbs
_OF_COLLECTION = ("create", "deletecollection", "list")
_SELECTING = {
    "fieldSelector": "string",
    "labelSelector": "string",
    "limit": "integer",
    "continue": "string",
    "resourceVersion": "string",
    "resourceVersionMatch": "string",
    "timeoutSeconds": "integer",
}
_WATCHING = {"allowWatchBookmarks": "boolean", "sendInitialEvents": "boolean", "watch": "boolean"}
_WRITING = {"dryRun": "string", "fieldManager": "string", "fieldValidation": "string"}
_DELETING = {
    "dryRun": "string",
    "gracePeriodSeconds": "integer",
    "orphanDependents": "boolean",
    "propagationPolicy": "string",
}
_STREAMING = {"container": "string"} | dict.fromkeys(
    ("stderr", "stdin", "stdout", "tty"), "boolean"
)
_QUERIES: dict[str, dict[str, str]] = {  # by verb
    "create": _WRITING,
    "delete": _DELETING,
    "deletecollection": _SELECTING | _DELETING,
    "get": {"resourceVersion": "string"},
    "list": _SELECTING | _WATCHING,
    "patch": _WRITING | {"force": "boolean"},
    "update": _WRITING,
}
_QUERIES_OF_SUBRESOURCES: dict[str, dict[str, str]] = {
    "attach": _STREAMING,
    "exec": _STREAMING | {"command": "array"},
    "log": {
        "container": "string",
        "follow": "boolean",
        "insecureSkipTLSVerifyBackend": "boolean",
        "limitBytes": "integer",
        "previous": "boolean",
        "sinceSeconds": "integer",
        "sinceTime": "string",
        "stream": "string",
        "tailLines": "integer",
        "timestamps": "boolean",
    },
    "portforward": {"ports": "integer"},
    "proxy": {},
}
_ENUMS = {
    "dryRun": ["All"],
    "fieldValidation": ["Ignore", "Warn", "Strict"],
    "propagationPolicy": ["Orphan", "Background", "Foreground"],
    "resourceVersionMatch": ["Exact", "NotOlderThan"],
}


class _Operation(Struct, frozen=True):
    """One verb at one path."""

    resource: Resource
    verb: str
    schema: str  # name of the schema of what it takes and gives; empty: something else
    gvk: Json
    scope: str = ""  # Namespaced, or what else tells it from another of its kind
    subresource: str = ""
    rest: bool = False  # the path goes on

    def describe(self) -> Json:
        action = "connect" if self._is_connection else _ACTIONS.get(self.verb, self.verb)
        of_group = self.resource.group.partition(".")[0] or "core"
        out: Json = {
            "tags": [f"{of_group}_{self.resource.version}"],
            "operationId": self._id(of_group),
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": self.gvk,
        }
        names = _QUERIES_OF_SUBRESOURCES.get(self.subresource, _QUERIES[self.verb])
        parameters = [_query(name, type_) for name, type_ in names.items()]
        if parameters:
            out["parameters"] = parameters
        body = self._body()
        if body is not None:
            out["requestBody"] = body
        out["responses"] = self._responses()
        return out

    def _id(self, of_group: str) -> str:
        parts = [of_group, self.resource.version, self.subresource, "path" if self.rest else ""]
        group, version, subresource, rest = (part.capitalize() for part in parts)
        of_kind = self.resource.kind if self._is_foreign else ""
        return (
            f"{self.verb}{group}{version}{self.scope}{self.gvk['kind']}{of_kind}{subresource}{rest}"
        )

    @property
    def _is_connection(self) -> bool:
        return self.subresource in ("attach", "exec", "portforward", "proxy")

    @property
    def _is_foreign(self) -> bool:
        return bool(self.gvk["kind"] != self.resource.kind)

    def _body(self) -> Json | None:
        if self._is_connection:
            return None
        if self.verb in ("create", "update"):
            given = {"schema": {"$ref": _REFERENCE + self.schema}}
            return {"content": {JSON: given}, "required": True}
        if self.verb == "patch":
            return {"content": _PATCHES, "required": True}
        if self.verb.startswith("delete"):
            options = _REFERENCE + definitions.schema_name(kinds.DeleteOptions)
            return {"content": {JSON: {"schema": {"$ref": options}}}}
        return None

    def _responses(self) -> Json:
        failure = {
            "description": "Why it was refused.",
            "content": {JSON: {"schema": {"$ref": _REFERENCE + _STATUS}}},
        }
        success: Json
        if self.subresource == "log":
            success = {"description": "OK", "content": {"text/plain": {"schema": _STRING}}}
        elif self._is_connection:
            success = {"description": "OK", "content": {"*/*": {"schema": _STRING}}}
        else:
            # A deletion gives the object or a Status.
            name = self.schema if not self.verb.startswith("delete") else ""
            given: Json = {"$ref": _REFERENCE + name} if name else {"type": "object"}
            success = {"description": "OK", "content": {JSON: {"schema": given}}}
        by_verb = {"create": ["201"], "update": ["200", "201"], "patch": ["200", "201"]}
        codes = ["101", "200"] if self._is_connection else by_verb.get(self.verb, ["200"])
        return {**dict.fromkeys(codes, success), "default": failure}


_STRING = {"type": "string"}


def _query(name: str, type_: str) -> Json:
    of_value: Json = {"type": type_}
    if type_ == "array":
        of_value["items"] = _STRING
    if name in _ENUMS:
        of_value["enum"] = _ENUMS[name]
    return {"name": name, "in": "query", "schema": of_value}


def _in_path(*names: str) -> list[Json]:
    return [{"name": name, "in": "path", "required": True, "schema": _STRING} for name in names]


def _paths(resource: Resource) -> Json:
    root = f"/apis/{resource.group}/{resource.version}" if resource.group else "/api/v1"
    own = definitions.group_version_kind(resource.api_version, resource.kind)
    scope, base, names = "", f"{root}/{resource.plural}", []
    out: Json = {}

    def add(path: str, parameters: list[Json], operations: list[_Operation]) -> None:
        if operations:
            out[path] = {_METHODS[one.verb]: one.describe() for one in operations}
            if parameters:
                out[path]["parameters"] = parameters

    def of(verb: str, in_scope: str) -> _Operation:
        name = _list_name(resource) if verb == "list" else _name(resource)
        return _Operation(resource, verb, name, own, in_scope)

    if resource.namespaced:
        if "list" in resource.verbs:
            add(base, [], [of("list", "AllNamespaces")])
        scope, names = "Namespaced", ["namespace"]
        base = f"{root}/namespaces/{{namespace}}/{resource.plural}"
    collection = [verb for verb in resource.verbs if verb in _OF_COLLECTION]
    add(base, _in_path(*names), [of(verb, scope) for verb in collection])
    single = [verb for verb in resource.verbs if verb not in (*_OF_COLLECTION, "watch")]
    add(f"{base}/{{name}}", _in_path(*names, "name"), [of(verb, scope) for verb in single])
    for name, (group, version, kind, verbs) in resource.subresources.items():
        api_version = f"{group}/{version}" if group else version
        type_ = schema.MODELS.get((api_version, kind))
        of_schema = definitions.schema_name(type_) if type_ is not None else ""
        gvk = definitions.group_version_kind(api_version, kind)
        operations = [_Operation(resource, verb, of_schema, gvk, scope, name) for verb in verbs]
        add(f"{base}/{{name}}/{name}", _in_path(*names, "name"), operations)
        if name == "proxy":
            deeper = [replace(one, rest=True) for one in operations]
            add(f"{base}/{{name}}/proxy/{{path}}", _in_path(*names, "name", "path"), deeper)
    return out
