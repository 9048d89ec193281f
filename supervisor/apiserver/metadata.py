"""What the server owns in an object of any kind, and how findings become refusals.

Names, uids, times, versions and generations: whatever a client sends for them, `begun` and
`carried_over` give an object the true ones. Pure; the registry calls it, with what it has drawn
and read. Rules of single kinds are api/objects.py's and api/validation.py's.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from supervisor.api import codec
from supervisor.api.problems import Finding, Severity, Type, join, render
from supervisor.apiserver import apply
from supervisor.apiserver.contract import (
    ApiError,
    Cause,
    Json,
    Resource,
    WriteOptions,
    bad_request,
    too_large,
)

SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # no words, and nothing to mistake for another
SUFFIX_LENGTH = 5
_NAMELESS = "unknown"  # manager of fields
_LONGEST_BASE = 63 - SUFFIX_LENGTH

# Of metadata; the client's own say counts for nothing. Who set which field is for apply.py to say.
_OF_SERVER = (
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "resourceVersion",
    "selfLink",
    "uid",
)
_REASONS = {
    Type.REQUIRED: "FieldValueRequired",
    Type.INVALID: "FieldValueInvalid",
    Type.NOT_SUPPORTED: "FieldValueNotSupported",
    Type.DUPLICATE: "FieldValueDuplicate",
    Type.NOT_FOUND: "FieldValueNotFound",
    Type.TOO_LONG: "FieldValueTooLong",
    Type.TOO_MANY: "FieldValueTooMany",
}


def of(body: Json) -> Json:
    """The metadata of what a client has sent. Raises ApiError where it is none."""
    meta = body.get("metadata")
    if meta is None:
        return {}
    if not isinstance(meta, dict):
        raise bad_request("metadata: must be a mapping")
    for name in ("name", "generateName", "namespace", "uid", "resourceVersion"):
        if not isinstance(meta.get(name), (str, type(None))):
            raise bad_request(f"metadata.{name}: must be a string")
    managed = meta.get("managedFields")
    for index, entry in enumerate(managed if isinstance(managed, list) else ()):
        if isinstance(entry, dict):
            _check_manager(entry, f"metadata.managedFields[{index}]")
    return meta


def _check_manager(entry: Json, place: str) -> None:
    """Who else reads the object must be able to read this, too. Raises ApiError (BadRequest)."""
    for name in ("apiVersion", "fieldsType", "manager", "operation", "subresource", "time"):
        if not isinstance(entry.get(name), (str, type(None))):
            raise bad_request(f"{place}.{name}: must be a string")
    if entry.get("time") and codec.utc(entry["time"]) is None:
        raise bad_request(f"{place}.time: must be a time, such as 2026-01-31T12:00:00Z")


def addressed(resource: Resource, namespace: str, name: str, body: Json) -> Json:
    """The body with its kind, name and namespace, which must be those of the path.

    `name` is empty where the path has none. Raises ApiError (BadRequest).
    """
    if not isinstance(body, dict):
        raise bad_request(f"the body must be a mapping: an object of kind {resource.kind}")
    version, kind = body.get("apiVersion"), body.get("kind")
    if version not in (None, "", resource.api_version):
        raise bad_request(
            f"the API version in the data ({version}) does not match the expected API version "
            f"({resource.api_version})"
        )
    if kind not in (None, "", resource.kind):
        raise bad_request(
            f'{kind} in version "{resource.api_version}" cannot be handled as a {resource.kind}'
        )
    meta = of(body)
    if namespace and meta.get("namespace") not in (None, "", namespace):
        raise bad_request(
            f"the namespace of the provided object ({meta['namespace']}) does not match the "
            f"namespace sent on the request ({namespace})"
        )
    if name and meta.get("name") not in (None, "", name):
        raise bad_request(
            f"the name of the object ({meta['name']}) does not match the name on the URL ({name})"
        )
    placed = {key: value for key, value in meta.items() if key != "namespace"}
    if namespace:
        placed["namespace"] = namespace
    if name:
        placed["name"] = name
    return body | {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": placed,
    }


def generated(base: str, suffix: str) -> str:
    """A name that begins as `generateName` says."""
    return f"{base[:_LONGEST_BASE]}{suffix}"


def begun(body: Json, uid: str, stamp: str, *, generation: int) -> Json:
    """A new object. `generation` 0: its kind has none."""
    meta = {key: value for key, value in body["metadata"].items() if key not in _OF_SERVER}
    meta |= {"uid": uid, "creationTimestamp": stamp}
    if generation:
        meta["generation"] = generation
    return body | {"metadata": meta}


def carried_over(old: Json, new: Json) -> Json:
    """What is asked for, with all that is the server's as it was."""
    before = old["metadata"]
    meta = {key: value for key, value in new["metadata"].items() if key not in _OF_SERVER}
    meta |= {key: before[key] for key in _OF_SERVER if key in before}
    for key in ("name", "namespace", "generateName"):
        meta.pop(key, None)
        if key in before:
            meta[key] = before[key]
    return new | {"metadata": meta}


def only(old: Json, new: Json, field: str) -> Json:
    """The old object with one field of the new one, and its metadata, but for its owners: that is
    what a write to a subresource may change."""
    meta = {key: value for key, value in new["metadata"].items() if key != "ownerReferences"}
    owners = {key: old["metadata"][key] for key in ("ownerReferences",) if key in old["metadata"]}
    return carried_over(old, old | {"metadata": meta | owners, field: new.get(field) or {}})


def noted(
    old: Json | None,
    new: Json,
    resource: Resource,
    options: WriteOptions,
    stamp: str,
    subresource: str = "",
) -> Json:
    """With who has set what: also defaults belong to whoever did not say otherwise.

    Raises ApiError (RequestEntityTooLarge) where many small writes have made too much of it.
    """
    if not options.applied:
        manager = options.field_manager or _NAMELESS
        new = apply.track(old, new, manager, resource=resource, now=stamp, subresource=subresource)
    if len(msgspec.json.encode(new)) > codec.MAX_BYTES:
        raise too_large(
            f"the object would be too large to keep: the limit is {codec.MAX_BYTES} bytes"
        )
    return new


def without_version(body: Json) -> Json:
    """As a store wants it."""
    meta = {key: value for key, value in body["metadata"].items() if key != "resourceVersion"}
    return body | {"metadata": meta}


# --- refusals ----------------------------------------------------------------------------------


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """Each once: some rules are those of several places."""
    return [f for f in dict.fromkeys(findings) if f.severity is Severity.ERROR]


def warnings(findings: Iterable[Finding]) -> tuple[str, ...]:
    return tuple(str(finding) for finding in findings if finding.severity is Severity.WARNING)


def invalid(resource: Resource, name: str, findings: Iterable[Finding]) -> ApiError:
    """These errors are what is wrong with the object."""
    wrong = errors(findings)
    texts = [join(finding.type, render(finding.path), finding.text) for finding in wrong]
    listed = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    return ApiError(
        422,
        "Invalid",
        f'{kind} "{name}" is invalid: {listed}',
        name=name,
        group=resource.group,
        kind=resource.kind,
        causes=tuple(
            Cause(_REASONS.get(f.type, "FieldValueForbidden"), f.text, render(f.path))
            for f in wrong
        ),
    )
