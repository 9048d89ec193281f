"""Server-side apply, and who set which field of an object: its managedFields.

An apply says what one manager wants of an object. What the manager wanted before and no longer
wants goes, unless somebody else wants it too; what another one has set differently is a conflict,
unless the manager insists. For that to be known, every other write is held against what was there
(`track`) and its changes are noted under the name of who made them. One of the two is called for
every write of a client; writes of the node itself have no manager.

An object is seen as its *leaves*: the fields that are set as a whole, by their paths. Items of a
list with keys are found by these keys, members of a set by their values; a list or map that the
schema calls atomic is one leaf. Paths are written as in a FieldsV1: `f:` a field, `k:` an item,
`v:` a value. Everything is pure, and leaves what it is given as it was.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Iterable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from supervisor.api import quantity, schema
from supervisor.apiserver.contract import ApiError, Cause, Json, Resource, bad_request
from supervisor.apiserver.negotiation import invalid_options
from supervisor.apiserver.patch import bounded, child, identity, item, root

Path = tuple[str, ...]

APPLY, UPDATE = "Apply", "Update"
MAX_UPDATERS = 10  # entries of updates that an object keeps apart; older ones become one
_ANCIENT = "ancient-changes"
_BEFORE = "before-first-apply"
_SELF = "."
_MANAGER = "fieldManager"

# What nobody manages: it says which object this is, or is the server's.
_UNMANAGED = frozenset(
    {
        ("f:apiVersion",),
        ("f:kind",),
        ("f:metadata",),
        *(
            ("f:metadata", f"f:{name}")
            for name in (
                "creationTimestamp",
                "deletionGracePeriodSeconds",
                "deletionTimestamp",
                "generation",
                "managedFields",
                "name",
                "namespace",
                "resourceVersion",
                "selfLink",
                "uid",
            )
        ),
    }
)
_ITEM = object()  # the value of a leaf that is an item's being there


class Entry(Struct, frozen=True, kw_only=True):
    """One entry of managedFields."""

    manager: str
    operation: str
    version: str
    subresource: str = ""
    time: str = ""
    paths: frozenset[Path] = frozenset()

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.manager, self.operation, self.version, self.subresource

    def __str__(self) -> str:
        """As conflicts name it."""
        text = json.dumps(self.manager)
        if self.subresource:
            text += f' with subresource "{self.subresource}"'
        if self.operation == UPDATE:
            text += f" using {self.version}" + (f" at {self.time}" if self.time else "")
        return text


# --- the two ways to write ---------------------------------------------------------------------


@bounded()
def apply(
    live: Json | None,
    config: Json,
    manager: str,
    *,
    force: bool,
    resource: Resource,
    now: str,
    subresource: str = "",
) -> Json:
    """The object as it is when `manager` wants `config` of it; `now` as objects hold times.

    Equal to `live` where nothing changes. Raises ApiError: 409 with all conflicts, 422 without a
    manager, 400 for what cannot be applied.
    """
    if not manager:
        cause = Cause("FieldValueRequired", "Required value: is required for apply patch", _MANAGER)
        raise invalid_options("PatchOptions", [cause])
    if not isinstance(config.get("metadata") or {}, dict):
        raise bad_request("metadata: must be a mapping")
    if _metadata(config).get("managedFields"):
        raise bad_request("metadata.managedFields must be nil: what is applied cannot set it")
    scope = _Scope(resource, subresource)
    config = _without_nulls(config)
    wanted = scope.leaves(config, strict=True)
    entries = [] if live is None else _entries(live)
    if live is not None and not entries:
        # Whoever made it is not known, but did set all of it.
        before = Entry(manager=_BEFORE, operation=UPDATE, version=resource.api_version, time=now)
        entries = [replace(before, paths=frozenset(_Scope(resource, "").leaves(live)))]
    mine = Entry(
        manager=manager,
        operation=APPLY,
        version=resource.api_version,
        subresource=subresource,
        paths=frozenset(wanted),
        time=now,
    )
    previous = next((entry for entry in entries if entry.key == mine.key), None)
    others = [entry for entry in entries if entry.key != mine.key]

    merged = scope.merged(live, config)
    overwritten = set() if live is None else _overwritten(scope.leaves(live), scope.leaves(merged))
    if not force:
        _refuse_conflicts(others, overwritten)
    others = [_less(entry, overwritten) for entry in others]

    dropped = (previous.paths if previous else frozenset()) - mine.paths
    kept = mine.paths.union(*(entry.paths for entry in others))
    merged = _pruned(merged, root(resource), dropped, kept) or {}
    if previous is not None:
        same_time = replace(mine, time=previous.time)
        if {*others, same_time} == set(entries) and _same(_bare(merged), _bare(live or {})):
            mine = same_time
    return _with_entries(merged, [*others, mine])


@bounded()
def track(
    before: Json | None,
    after: Json,
    manager: str,
    *,
    resource: Resource,
    now: str,
    subresource: str = "",
) -> Json:
    """`after`, in whose managedFields `manager` has all that a create, update or patch changed.

    `before` is None for a create. managedFields that `after` brings along are believed; a list of
    one empty entry takes all of them away, and no list, or an empty one, says nothing: it comes
    from clients that do not know of the field.
    """
    brought = _metadata(after).get("managedFields")
    if brought == [{}]:
        return _with_entries(after, [])
    entries = _entries(after) or ([] if before is None else _entries(before))
    scope = _Scope(resource, subresource)
    old = {} if before is None else scope.leaves(before)
    new = scope.leaves(after)
    changed = {
        path for path, value in new.items() if path not in old or not _same(old[path], value)
    }
    gone = _prefixes(old) - _prefixes(new)
    if changed or gone:
        mine = Entry(
            manager=manager,
            operation=UPDATE,
            version=resource.api_version,
            subresource=subresource,
            time=now,
        )
        previous = next((entry for entry in entries if entry.key == mine.key), mine)
        paths = (previous.paths | changed) - gone
        others = [_less(entry, changed | gone) for entry in entries if entry.key != mine.key]
        entries = [*others, replace(mine, paths=paths)]
    return _with_entries(after, entries)


def unchanged(before: Json, after: Json) -> bool:
    """Whether a write changes nothing but when somebody has set a field, and need not be one."""
    return _bare(before) == _bare(after) and _timeless(before) == _timeless(after)


def _refuse_conflicts(others: Iterable[Entry], conflicts: set[Path]) -> None:
    found = [(entry, path) for entry in others for path in sorted(conflicts & entry.paths)]
    if not found:
        return
    if len(found) == 1:
        entry, path = found[0]
        message = f"Apply failed with 1 conflict: conflict with {entry}: {_readable(path)}"
    else:
        by_entry: dict[str, list[str]] = defaultdict(list)
        for entry, path in found:
            by_entry[str(entry)].append(f"- {_readable(path)}")
        lines = [
            line
            for name in sorted(by_entry)
            for line in (f"conflicts with {name}:", *by_entry[name])
        ]
        message = f"Apply failed with {len(found)} conflicts: " + "\n".join(lines)
    causes = tuple(
        Cause("FieldManagerConflict", f"conflict with {entry}", _readable(path))
        for entry, path in found
    )
    raise ApiError(409, "Conflict", message, causes=causes)


# --- leaves ------------------------------------------------------------------------------------


class _Scope:
    """The part of an object that one request is about, seen through the schema of its kind."""

    def __init__(self, resource: Resource, subresource: str) -> None:
        self._root = root(resource)
        # A subresource is for its own part; without one, the status is nobody's.
        self._only: Path = {
            "": (),
            "ephemeralcontainers": ("f:spec", "f:ephemeralContainers"),
        }.get(subresource, (f"f:{subresource}",))
        self._has_status = "status" in resource.subresources

    def _includes(self, path: Path) -> bool:
        if not path or path in _UNMANAGED:
            return False
        if self._only:
            return path[: len(self._only)] == self._only
        return not (self._has_status and path[0] == "f:status")

    def leaves(self, object: Json, *, strict: bool = False) -> dict[Path, Any]:
        """Their values by their paths. `strict`: a list whose items cannot be told apart by their
        keys is refused (400), and not one leaf."""
        found: dict[Path, Any] = {}
        _add_leaves(object, self._root, (), found, strict)
        return {path: value for path, value in found.items() if self._includes(path)}

    def merged(self, live: Json | None, config: Json) -> Json:
        """The object with what is in scope of what is wanted of it."""
        if live is None:
            return config
        if self._only:
            config = _at_path(config, self._only)
        elif self._has_status:
            config = {name: value for name, value in config.items() if name != "status"}
        merged: Json = _merged(live, config, self._root)
        return merged


def _at_path(value: Json, path: Path) -> Json:
    """A mapping with nothing but what is at the path."""
    name = path[0].removeprefix("f:")
    below = value.get(name)
    if len(path) > 1:
        below = _at_path(below, path[1:]) if isinstance(below, dict) else None
    return {} if below is None else {name: below}


def _add_leaves(
    value: Any, field: schema.Field | None, at: Path, into: dict[Path, Any], strict: bool
) -> None:
    if isinstance(value, dict) and value and not _is_atomic(field):
        for name, each in value.items():
            if each is not None:
                _add_leaves(each, child(field, name), (*at, f"f:{name}"), into, strict)
        return
    if isinstance(value, list) and value and field is not None:
        if field.list_type == "set":
            into.update({(*at, _member(each)): each for each in value})
            return
        if field.list_type == "map":
            items = _items(value, field, at if strict else None)
            if items is not None:
                for key, each in items.items():
                    into[*at, key] = _ITEM
                    _add_leaves(each, item(field), (*at, key), into, strict)
                return
    into[at] = _canonical(value) if field is not None and field.quantity else value


def _canonical(value: Any) -> Any:
    """A quantity as it is stored, whichever way it is written."""
    if isinstance(value, (str, int, float)):
        try:
            return str(quantity.parse(str(value)))
        except ValueError:  # it is refused later
            pass
    return value


def _is_atomic(field: schema.Field | None) -> bool:
    return field is not None and field.atomic


def _overwritten(old: dict[Path, Any], new: dict[Path, Any]) -> set[Path]:
    """What was set and is set otherwise. A mapping that was empty may be filled."""
    return {
        path
        for path, value in old.items()
        if not (_same(value, new[path]) if path in new else _is_empty(value))
    }


def _is_empty(value: Any) -> bool:
    return isinstance(value, (dict, list)) and not value


def _member(value: Any) -> str:
    return f"v:{identity(value).decode()}"


def _items(
    values: list[Any], field: schema.Field, refuse: Path | None = None
) -> dict[str, Json] | None:
    """The items of a list by their keys; None: they cannot be told apart.

    Where `refuse` is the path of the list, that is an error instead.
    """
    items: dict[str, Json] = {}
    for index, each in enumerate(values):
        keys = {}
        for name in field.map_keys:
            value = each.get(name) if isinstance(each, dict) else None
            value = field.key_defaults.get(name) if value is None else value
            if value is None or isinstance(value, (dict, list)):
                if refuse is None:
                    return None
                raise bad_request(f"{_readable(refuse)}: element {index}: it has to have a {name}")
            keys[name] = value
        key = f"k:{json.dumps(keys, sort_keys=True, separators=(',', ':'), ensure_ascii=False)}"
        if key in items:
            if refuse is None:
                return None
            raise bad_request(f"duplicate entries for key {_readable((*refuse, key))}")
        items[key] = each
    return items


def _same(value: Any, other: Any) -> bool:
    return bool(value is other or identity(value) == identity(other))


def _less(entry: Entry, paths: Iterable[Path]) -> Entry:
    return replace(entry, paths=entry.paths.difference(paths))


# --- merging and removing ----------------------------------------------------------------------


def _without_nulls(value: Any) -> Any:
    """What is wanted to be nothing is not wanted."""
    if isinstance(value, dict):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_without_nulls(each) for each in value]
    return value


def _merged(live: Any, wanted: Any, field: schema.Field | None) -> Any:
    if _is_atomic(field):
        return wanted
    if isinstance(live, dict) and isinstance(wanted, dict):
        result = dict(live)
        for name, each in wanted.items():
            result[name] = _merged(live.get(name), each, child(field, name))
        return result
    if isinstance(live, list) and isinstance(wanted, list) and field is not None:
        if field.list_type == "set":
            values = {_member(each): each for each in [*live, *wanted]}
            order = _ordered(list(map(_member, live)), list(map(_member, wanted)))
            return [values[member] for member in order]
        if field.list_type == "map":
            found, asked = _items(live, field), _items(wanted, field)
            if found is not None and asked is not None:
                below = item(field)
                items = found | {
                    key: _merged(found.get(key), each, below) for key, each in asked.items()
                }
                return [items[key] for key in _ordered(list(found), list(asked))]
    return wanted


def _ordered(live: list[str], wanted: list[str]) -> list[str]:
    """The members of both lists: the wanted ones in their order, and before each of them what is
    not wanted and was before it, or what comes next, so far."""
    rest, asked = deque(dict.fromkeys(live)), dict.fromkeys(wanted)
    there = set(rest)
    shared = deque(each for each in asked if each in there)
    order: list[str] = []
    for each in asked:
        while rest and not (shared and rest[0] == shared[0]):
            other = rest.popleft()
            if other not in asked:
                order.append(other)
        if rest and rest[0] == each:
            rest.popleft()
        if shared and each == shared[0]:
            shared.popleft()
        order.append(each)
    return [*order, *(other for other in rest if other not in asked)]


def _pruned(
    value: Any, field: schema.Field | None, dropped: frozenset[Path], kept: frozenset[Path]
) -> Any:
    """The object without the dropped paths and all that is beneath them, unless some of it is kept.
    Then the rest stays as well."""
    return _Pruner(dropped, kept).prune(value, field, ()) if dropped else value


class _Pruner:
    def __init__(self, dropped: Iterable[Path], kept: frozenset[Path]) -> None:
        self._dropped = frozenset(dropped)
        self._kept = kept
        self._leads_to_dropped = _prefixes(self._dropped)
        self._leads_to_kept = _prefixes(kept)

    def prune(self, value: Any, field: schema.Field | None, at: Path) -> Any:
        """What is left of a value; None: nothing."""
        if at in self._dropped and at not in self._leads_to_kept:
            return None
        if at not in self._leads_to_dropped:
            return value
        left: Any = value
        if isinstance(value, dict) and not _is_atomic(field):
            left = {}
            for name, each in value.items():
                rest = self.prune(each, child(field, name), (*at, f"f:{name}"))
                if rest is not None or each is None:
                    left[name] = rest
        elif isinstance(value, list) and field is not None and field.list_type == "set":
            pairs = [(each, (*at, _member(each))) for each in value]
            left = [each for each, path in pairs if self.prune(each, None, path) is not None]
        elif isinstance(value, list) and field is not None and field.list_type == "map":
            items = _items(value, field)
            if items is not None:
                left = self._prune_items(items, field, at)
        gone = _is_empty(left) and not _is_empty(value) and at not in self._kept
        return None if gone else left

    def _prune_items(self, items: dict[str, Json], field: schema.Field, at: Path) -> list[Json]:
        left = []
        for key, each in items.items():
            rest = self.prune(each, item(field), (*at, key))
            if rest is not None:
                # It has to stay recognisable.
                keys = {name: each[name] for name in field.map_keys if name in each}
                left.append(
                    {name: each[name] for name in each if name in rest or name in keys} | rest
                )
        return left


def _prefixes(paths: Iterable[Path]) -> frozenset[Path]:
    return frozenset(path[:length] for path in paths for length in range(len(path) + 1))


# --- managedFields -----------------------------------------------------------------------------


def _metadata(object: Json) -> Json:
    metadata = object.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def _bare(object: Json) -> Json:
    """The object without its managedFields."""
    return object | {
        "metadata": {k: v for k, v in _metadata(object).items() if k != "managedFields"}
    }


def _timeless(object: Json) -> set[Entry]:
    """Its entries, whose order follows from their times."""
    return {replace(entry, time="") for entry in _entries(object)}


def _entries(object: Json) -> list[Entry]:
    """Those of an object; none where they cannot be read, as a client may have written them."""
    entries = []
    listed = _metadata(object).get("managedFields")
    for each in listed if isinstance(listed, list) else ():
        entry = _entry(each)
        if entry is None:
            return []
        entries.append(entry)
    return entries


def _entry(given: Any) -> Entry | None:
    if not isinstance(given, dict) or given.get("operation") not in (APPLY, UPDATE):
        return None
    texts = [given.get(name) or "" for name in ("manager", "apiVersion", "subresource", "time")]
    fields = given.get("fieldsV1")
    if not all(isinstance(text, str) for text in texts) or not isinstance(fields, dict):
        return None
    paths: set[Path] = set()
    if not _read_paths(fields, (), paths):
        return None
    manager, version, subresource, time = texts
    return Entry(
        manager=manager,
        operation=given["operation"],
        version=version,
        subresource=subresource,
        time=time,
        paths=frozenset(paths),
    )


def _read_paths(fields: Json, at: Path, into: set[Path]) -> bool:
    """The paths of a FieldsV1; whether it is one."""
    for name, below in fields.items():
        if not isinstance(below, dict):
            return False
        if name == _SELF:
            if at:
                into.add(at)
        elif name[:2] not in ("f:", "k:", "v:", "i:"):
            return False
        elif not below:
            into.add((*at, name))
        elif not _read_paths(below, (*at, name), into):
            return False
    return True


def _fields_v1(paths: Iterable[Path]) -> Json:
    top: Json = {}
    for path in sorted(paths):
        node = top
        for name in path[:-1]:
            if node.get(name) == {}:
                # Shorter paths come first: this one is a leaf, and has more beneath it.
                node[name][_SELF] = {}
            node = node.setdefault(name, {})
        node[path[-1]] = {}
    return top


def _with_entries(object: Json, entries: Iterable[Entry]) -> Json:
    """The object with these managedFields, in the order that clusters keep them in."""
    listed = sorted(
        _bounded_updates([entry for entry in entries if entry.paths]),
        key=lambda entry: (entry.operation, entry.time, entry.manager, entry.version),
    )
    metadata = {k: v for k, v in _metadata(object).items() if k != "managedFields"}
    if listed:
        metadata["managedFields"] = [_written(entry) for entry in listed]
    return object | {"metadata": metadata}


def _written(entry: Entry) -> Json:
    written: Json = {
        "manager": entry.manager,
        "operation": entry.operation,
        "apiVersion": entry.version,
        "time": entry.time,
        "fieldsType": "FieldsV1",
        "fieldsV1": _fields_v1(entry.paths),
        "subresource": entry.subresource,
    }
    return {name: value for name, value in written.items() if value != ""}


def _bounded_updates(entries: list[Entry]) -> list[Entry]:
    """So that an object does not grow with every program that ever touched it."""
    updates = sorted((e for e in entries if e.operation == UPDATE), key=lambda entry: entry.time)
    surplus = updates[: max(0, len(updates) - MAX_UPDATERS)]
    if not surplus:
        return entries
    surplus = updates[: len(surplus) + 1]
    ancient = Entry(
        manager=_ANCIENT,
        operation=UPDATE,
        version=surplus[-1].version,
        time=surplus[-1].time,
        paths=frozenset().union(*(entry.paths for entry in surplus)),
    )
    return [entry for entry in entries if entry not in surplus] + [ancient]


def _readable(path: Path) -> str:
    """As messages show it: .spec.containers[name="web"].image"""
    text = ""
    for element in path:
        kind, content = element[:2], element[2:]
        if kind == "f:":
            text += f".{content}"
        elif kind == "v:":
            text += f"[={content}]"
        elif kind == "i:":
            text += f"[{content}]"
        else:
            text += f"[{_readable_keys(content)}]"
    return text


def _readable_keys(content: str) -> str:
    try:
        keys = json.loads(content)
        return ",".join(f"{name}={json.dumps(value)}" for name, value in keys.items())
    except (ValueError, AttributeError):  # a client may have written it
        return content
