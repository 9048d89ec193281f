"""Patches: from an object and what a client wants changed of it to the object that it wants.

There are three kinds. A JSON patch is a list of operations, a merge patch is a piece of the object
in which null removes, and a strategic merge patch is a piece of the object that also knows which
lists are merged item by item; that knowledge is the schema's. Server-side apply, the fourth kind
of PATCH, is `apply.py`'s, which shares the ways to walk an object by its schema.

Everything here is pure and leaves what it is given as it was; parts of it may appear in the
result. Whether the result is a valid object is for others to say. Errors do not repeat what an
object holds, since it may be a Secret.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jsonpatch
import jsonpointer
import msgspec

from supervisor.api import codec, schema
from supervisor.apiserver.contract import ApiError, Cause, Json, Resource, bad_request, too_large

MAX_OPERATIONS = 10_000  # of a JSON patch
MAX_BYTES = codec.MAX_BYTES  # of what its copies add up to, and of its result

K = TypeVar("K", bound=Hashable)

_DIRECTIVE = "$patch"
_RETAIN_KEYS = "$retainKeys"
_ORDER = "$setElementOrder/"
_DELETE = "$deleteFromPrimitiveList/"


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Objects nested too deeply to be walked are refused. Also a decorator."""
    try:
        yield
    except RecursionError:
        raise bad_request("the object is nested too deeply") from None


# --- JSON patch --------------------------------------------------------------------------------


@bounded()
def json_patch(_resource: Resource, object: Json, patch: Any) -> Json:
    """RFC 6902. Raises ApiError: 400 where the patch is none, 422 where it does not fit."""
    if not isinstance(patch, list):
        raise bad_request("a JSON patch must be a list of operations")
    if len(patch) > MAX_OPERATIONS:
        raise too_large(
            f"the allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(patch)}"
        )
    result = _copied(object)
    copies = 0
    for number, operation in enumerate(_copied(patch), 1):
        try:
            step = jsonpatch.JsonPatch([operation])
            if operation["op"] == "copy":
                # Copies of copies double, so they are measured before they are made.
                pointer = jsonpointer.JsonPointer(operation.get("from", ""))
                copies += len(msgspec.json.encode(pointer.resolve(result)))
                if copies > MAX_BYTES:
                    raise too_large(f"the copies of the JSON patch exceed {MAX_BYTES} bytes")
            result = step.apply(result, in_place=True)
        except jsonpatch.InvalidJsonPatch as error:
            raise bad_request(f"operation {number} of the JSON patch: {error}") from None
        except jsonpatch.JsonPatchTestFailed:
            raise _unfit(number, operation, "test failed: the value there is another") from None
        except (jsonpatch.JsonPatchConflict, jsonpointer.JsonPointerException):
            raise _unfit(number, operation, "there is no such place in the object") from None
    if not isinstance(result, dict):
        raise bad_request("the JSON patch makes something else of the object than a mapping")
    if len(msgspec.json.encode(result)) > MAX_BYTES:
        raise too_large(f"the object would exceed {MAX_BYTES} bytes")
    # Unlike the other patches, this one can make it deeper than any body that was read.
    if _depth(result) > codec.MAX_DEPTH:
        raise bad_request(f"the object would be nested deeper than {codec.MAX_DEPTH} levels")
    return result


def _copied(value: Any) -> Any:
    """A copy that shares nothing: JSON patches are carried out in place."""
    if isinstance(value, dict):
        return {key: _copied(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_copied(each) for each in value]
    return value


def _depth(value: Any) -> int:
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, below), default=0)


def _unfit(number: int, operation: Json, why: str) -> ApiError:
    what = f"{operation['op']} {operation['path']}"[:500]
    text = f"operation {number} of the JSON patch ({what}): {why}"
    # kubectl prints the field and the message of each cause, and older ones nothing else.
    cause = Cause("UnexpectedServerResponse", text, "patch")
    return ApiError(422, "Invalid", text, causes=(cause,))


# --- merge patch -------------------------------------------------------------------------------


@bounded()
def merge_patch(_resource: Resource, object: Json, patch: Any) -> Json:
    """RFC 7386. Raises ApiError 400."""
    merged: Json = _merged(object, _mapping(patch))
    return merged


def _mapping(patch: Any) -> Json:
    if not isinstance(patch, dict):
        raise bad_request("the patch must be a mapping")
    return patch


def _merged(value: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(value) if isinstance(value, dict) else {}
    for key, each in patch.items():
        if each is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), each)
    return result


# --- walking an object by its schema -----------------------------------------------------------


def root(resource: Resource) -> schema.Field:
    """An object of this kind as a whole."""
    model = schema.model(resource.api_version, resource.kind)
    return schema.Field(shape="object", type=model)


def child(of: schema.Field | None, name: str) -> schema.Field | None:
    """A field of an object or a value of a map; None: nothing is known of it."""
    if of is None:
        return None
    if of.shape == "map":
        return item(of)
    return schema.field(of.type, name)


def item(of: schema.Field) -> schema.Field | None:
    """An item of a list or a value of a map."""
    if of.quantity:
        return schema.Field(shape="scalar", quantity=True)
    return schema.Field(shape="object", type=of.type) if of.type is not None else None


def arranged(values: Mapping[K, Any], first: Iterable[K], before: Iterable[K]) -> list[Any]:
    """All the values: those that a client names `first` in its order, the others in theirs.

    `before` is the order that there was: one of the others stays before one of the first if it
    was before it.
    """
    was = {key: index for index, key in enumerate(before)}
    asked = dict.fromkeys(first)
    rest = deque(key for key in values if key not in asked)
    keys: list[K] = []
    for each in asked:
        while rest and each in was and was.get(rest[0], len(was)) < was[each]:
            keys.append(rest.popleft())
        keys.append(each)
    return [values[key] for key in (*keys, *rest)]


def identity(value: Any) -> bytes:
    """What tells one JSON value from another: 1 is not true."""
    return msgspec.json.encode(value, order="deterministic")


# --- strategic merge patch ---------------------------------------------------------------------


@bounded()
def strategic_merge_patch(resource: Resource, object: Json, patch: Any) -> Json:
    """A merge patch that merges lists as the schema says, with its `$` directives.

    Raises ApiError 400.
    """
    merged = _merged_object(object, _mapping(patch), root(resource), ())
    return {} if merged is None else merged


def _merged_object(
    value: Json | None, patch: Json, field: schema.Field | None, at: tuple[str, ...]
) -> Json | None:
    """`value` None: there is nothing yet. None: the patch deletes it."""
    directive = patch.get(_DIRECTIVE)
    if directive == "delete":
        return None if value is None else {}
    if directive not in (None, "merge", "replace"):
        raise _misused(at, f"{_DIRECTIVE} must be delete, merge or replace")
    result = {} if value is None or directive == "replace" else dict(value)
    if _RETAIN_KEYS in patch:
        result = _retained(result, patch, at)
    for name, wanted in patch.items():
        if name.startswith("$"):
            for prefix in (_ORDER, _DELETE):
                list_name = name.removeprefix(prefix)
                if list_name != name and list_name not in patch and list_name in result:
                    # A list of which only the order, or only deletions, are said.
                    merged = _merged_list(result, [], patch, list_name, child(field, list_name), at)
                    result[list_name] = merged
        elif wanted is None:
            result.pop(name, None)
        else:
            merged = _merged_field(result, wanted, patch, name, child(field, name), at)
            if merged is None:
                result.pop(name, None)
            else:
                result[name] = merged
    return result


def _merged_field(
    result: Json, wanted: Any, patch: Json, name: str, field: schema.Field | None, at: Any
) -> Any:
    """What one field of an object becomes; None: it goes."""
    value = result.get(name)
    if isinstance(wanted, dict):
        below = value if isinstance(value, dict) else None
        return _merged_object(below, wanted, field, (*at, name))
    if isinstance(wanted, list):
        return _merged_list(result, wanted, patch, name, field, at)
    return wanted


def _retained(result: Json, patch: Json, at: tuple[str, ...]) -> Json:
    keys = patch[_RETAIN_KEYS]
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise _misused(at, f"{_RETAIN_KEYS} must be a list of names")
    for name, wanted in patch.items():
        if not name.startswith("$") and wanted is not None and name not in keys:
            raise _misused(at, f"{_RETAIN_KEYS} must name {name}, which the patch sets")
    return {name: each for name, each in result.items() if name in keys}


def _merged_list(
    result: Json, wanted: list[Any], patch: Json, name: str, field: schema.Field | None, at: Any
) -> list[Any]:
    """What a list becomes, which may be replaced, merged by key, or a set of scalars."""
    here = (*at, name)
    value = result.get(name)
    found = value if isinstance(value, list) else []
    if field is None or "merge" not in field.strategy:
        return [_plain(each, here) for each in wanted if not _directive(each)]
    order = patch.get(_ORDER + name)
    if order is not None and not isinstance(order, list):
        raise _misused(here, f"{_ORDER}{name} must be a list")
    if not field.merge_key:
        return _merged_set(found, wanted, patch.get(_DELETE + name), order, here)
    return _merged_items(found, wanted, order, field, here)


def _plain(value: Any, at: tuple[str, ...]) -> Any:
    """A value of a patch without its directives."""
    return _merged_object(None, value, None, at) if isinstance(value, dict) else value


def _directive(value: Any) -> Any:
    return value.get(_DIRECTIVE) if isinstance(value, dict) else None


def _merged_set(
    found: list[Any], wanted: list[Any], gone: Any, order: list[Any] | None, at: tuple[str, ...]
) -> list[Any]:
    if gone is not None and not isinstance(gone, list):
        raise _misused(at, f"{_DELETE}{at[-1]} must be a list")
    if any(isinstance(each, (dict, list)) for each in [*wanted, *(order or ())]):
        raise _misused(at, "must be a list of scalars")
    dropped = {identity(each) for each in gone or ()}
    values = {identity(each): each for each in [*found, *wanted] if identity(each) not in dropped}
    before = [identity(each) for each in found]
    first = [key for key in map(identity, wanted if order is None else order) if key in values]
    return arranged(values, first, before)


def _merged_items(
    found: list[Any],
    wanted: list[Any],
    order: list[Any] | None,
    field: schema.Field,
    at: tuple[str, ...],
) -> list[Any]:
    if any(_directive(each) == "replace" for each in wanted):
        # Then nothing of the old list stays.
        found, order = [], None
        wanted = [each for each in wanted if each != {_DIRECTIVE: "replace"}]
    key = field.merge_key
    # Of items with the same key (ports that differ in their protocol) the first is merged with; the
    # others, and those of odd objects that have no key, go by their index.
    items: dict[Hashable, Any] = {}
    alike: dict[Hashable, list[int]] = {}
    for index, each in enumerate(found):
        this = identity(each.get(key)) if isinstance(each, dict) else b"null"
        if this == b"null" or this in items:
            items[index] = each
            alike.setdefault(this, []).append(index)
        else:
            items[this] = each
    before = list(items)
    listed = []
    for each in wanted:
        if not isinstance(each, dict) or each.get(key) is None:
            raise _misused(at, f"each item must be a mapping with its key, {key}")
        this = identity(each[key])
        if _directive(each) == "delete":
            for gone in (this, *alike.get(this, ())):
                items.pop(gone, None)
            continue
        if _directive(each) == "replace":
            items.pop(this, None)
        listed.append(this)
        items[this] = _merged_object(items.get(this), each, item(field), at)
    if order is not None:
        ordered = [identity(each[key]) for each in order if isinstance(each, dict) and key in each]
        if not set(listed) <= set(ordered):
            raise _misused(at, f"{_ORDER}{at[-1]} must name all items of the patch")
        listed = ordered
    return arranged(items, [this for this in listed if this in items], before)


def _misused(at: Sequence[str], what: str) -> ApiError:
    return bad_request(f"the patch cannot be applied: {'.'.join(at) or 'the object'}: {what}")
