"""Lists and watches: what a client is told of many objects, and in which order.

Lists are answered from the cache as of one resourceVersion. The token to go on with names that
version and the last key, so the pages of one list fit together whatever changes meanwhile: what has
changed since is undone for it, as far back as the cache remembers. Later the token is refused, and
the client lists again.

A watch tells what becomes of the objects that a selector chooses. One that stops being chosen is
told as deleted, one that begins to be as added. What a watch ends with is its last line: an ERROR
when the client has to list again, a bookmark when it was asked for and the time is over.

Nothing here knows HTTP. Objects are passed on as the bytes of their JSON wherever nobody wants
them shown differently.
"""

from __future__ import annotations

import base64
import math
import random
import time
from collections.abc import AsyncGenerator, Iterable, Iterator
from typing import cast

import anyio
import msgspec
from msgspec import Struct

from supervisor.apiserver import selectors, tables
from supervisor.apiserver.cache import Cache, Change, Entry, Watch
from supervisor.apiserver.contract import ApiError, Cause, Json, Resource, bad_request, expired
from supervisor.apiserver.negotiation import Query, View, invalid_options
from supervisor.apiserver.selectors import Selector
from supervisor.store.contract import revised

_BOOKMARK_EVERY = 60.0  # seconds
_TOGETHER = 64  # events that are written at once, if there are so many
_TOGETHER_BYTES = 1 << 20  # when they are so many bytes already, no more are added
_INITIAL_END = "k8s.io/initial-events-end"
_TOO_OLD = "The resourceVersion for the provided list is too old."
_PAGE_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You must "
    "start a new list without the continue parameter."
)

_encode = msgspec.json.encode


class _Token(Struct, frozen=True):
    """Where a list goes on."""

    v: str
    rv: int
    start: str  # namespace/name of the last one told


class ListOptions(Struct, frozen=True, kw_only=True):
    """What a list or watch asks for. `version` None: as new as possible."""

    selector: Selector
    version: int | None = None
    match: str = ""  # Exact, NotOlderThan or empty
    limit: int = 0  # 0: all
    after: tuple[int, tuple[str, str]] | None = None  # version, and the last key told
    bookmarks: bool = False
    initial: bool | None = None  # sendInitialEvents
    timeout: float | None = None  # seconds
    include: tables.Include = "Metadata"  # of a Table


def options(resource: Resource, query: Query, *, name: str = "") -> ListOptions:
    """`name`: of the only object that is meant. Raises ApiError."""
    fields = query.text("fieldSelector")
    if name:
        fields = ",".join(filter(None, (fields, f"metadata.name={name}")))
    selector = selectors.parse(resource, query.text("labelSelector"), fields)
    version, match = query.version(), query.text("resourceVersionMatch")
    token, limit = query.text("continue"), query.number("limit") or 0
    initial = query.flag("sendInitialEvents") if "sendInitialEvents" in query else None
    wrong = list(_contradictions(query.flag("watch"), version, match, token, initial))
    if wrong:
        raise invalid_options("ListOptions", wrong)
    if token and version:
        raise bad_request("specifying resource version is not allowed when using continue")
    seconds = query.number("timeoutSeconds")
    include = query.text("includeObject") or "Metadata"
    if include not in ("Metadata", "Object", "None"):
        raise bad_request(
            f'includeObject: Invalid value: "{include}": must be Metadata, Object or None'
        )
    return ListOptions(
        selector=selector,
        version=version,
        match=match,
        limit=max(limit, 0),
        after=_read_token(token) if token else None,
        bookmarks=query.flag("allowWatchBookmarks"),
        initial=initial,
        timeout=float(seconds) if seconds is not None and seconds > 0 else None,
        include=cast("tables.Include", include),
    )


def _contradictions(
    watch: bool, version: int | None, match: str, token: str, initial: bool | None
) -> Iterator[Cause]:
    """What does not go together. Lists and watches have rules of their own."""
    field = "resourceVersionMatch"

    def forbidden(text: str, field: str = field) -> Cause:
        return Cause("FieldValueForbidden", f"Forbidden: {text}", field)

    known = ("NotOlderThan",) if watch else ("Exact", "NotOlderThan")
    if match and match not in known:
        listed = ", ".join(f'"{each}"' for each in known)
        text = f'Unsupported value: "{match}": supported values: {listed}'
        yield Cause("FieldValueNotSupported", text, field)
    if match and token:
        yield forbidden(f"{field} is forbidden when continue is provided")
    if watch and initial is not None and match != "NotOlderThan":
        yield forbidden(f"sendInitialEvents requires setting {field} to NotOlderThan")
    if watch and initial is None and match:
        yield forbidden(f"{field} is forbidden for watch unless sendInitialEvents is provided")
    if not watch and initial is not None:
        yield forbidden("sendInitialEvents is forbidden for list", "sendInitialEvents")
    if not watch and match and version is None:
        yield forbidden(f"{field} is forbidden unless resourceVersion is provided")
    if not watch and match == "Exact" and version == 0:
        yield forbidden(f'{field} "Exact" is forbidden for resourceVersion "0"')


def _read_token(token: str) -> tuple[int, tuple[str, str]]:
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        read = msgspec.json.decode(raw, type=_Token)
        namespace, _, name = read.start.partition("/")
    except (ValueError, RecursionError) as error:  # it is no base64, or no JSON of ours
        raise bad_request(
            "continue key is not valid: it was not given out by this server"
        ) from error
    return read.rv, (namespace, name)


def _token(version: int, last: Entry) -> str:
    raw = _encode(_Token("meta.k8s.io/v1", version, f"{last.namespace}/{last.name}"))
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


# --- lists ----------------------------------------------------------------------------------------


def check_version(cache: Cache, version: int | None) -> None:
    """A version that was not given out yet cannot be waited for: nothing may ever change again."""
    if version is not None and version > cache.version:
        text = f"Too large resource version: {version}, current: {cache.version}"
        raise ApiError(
            504,
            "Timeout",
            f"Timeout: {text}",
            retry_after=1,
            causes=(Cause("ResourceVersionTooLarge", "Too large resource version"),),
        )


def list_objects(
    cache: Cache, resource: Resource, namespace: str, asked: ListOptions, view: View
) -> bytes:
    """The List, or Table. Raises ApiError."""
    version = cache.version
    exact = asked.after[0] if asked.after is not None else None
    if asked.match == "Exact" or (asked.limit and asked.version and not asked.match):
        exact = asked.version
    check_version(cache, exact if exact is not None else asked.version)
    if exact is not None:
        version = exact
        try:
            entries = _as_of(cache, resource, namespace, exact)
        except ApiError as error:
            raise expired(_TOO_OLD if asked.after is None else _PAGE_TOO_OLD) from error
    else:
        entries = cache.list(resource.key, namespace)
    if asked.selector:
        entries = [entry for entry in entries if asked.selector.matches(entry.object)]
    if asked.after is not None:
        last = asked.after[1]
        entries = [entry for entry in entries if (entry.namespace, entry.name) > last]
    metadata: Json = {"resourceVersion": str(version)}
    if asked.limit and len(entries) > asked.limit:
        left = len(entries) - asked.limit
        entries = entries[: asked.limit]
        metadata["continue"] = _token(version, entries[-1])
        if not asked.selector:
            metadata["remainingItemCount"] = left
    return shown_list(resource, entries, metadata, asked, view)


def _as_of(cache: Cache, resource: Resource, namespace: str, version: int) -> list[Entry]:
    """What there was at an earlier version. Raises ApiError (Expired)."""
    there = {(e.namespace, e.name): e for e in cache.list(resource.key, namespace)}
    for change in reversed(cache.since(resource.key, namespace, version)):
        key = change.entry.namespace, change.entry.name
        if change.before is None:
            there.pop(key, None)
        else:
            there[key] = change.before
    return [there[key] for key in sorted(there)]


def shown_list(
    resource: Resource, entries: Iterable[Entry], metadata: Json, asked: ListOptions, view: View
) -> bytes:
    if view.kind:
        objects = (entry.object for entry in entries)
        return shown_objects(resource, objects, metadata, asked, view)
    return _list(resource, [entry.raw for entry in entries], metadata)


def shown_objects(
    resource: Resource, objects: Iterable[Json], metadata: Json, asked: ListOptions, view: View
) -> bytes:
    """The same of objects that are in no cache."""
    if not view.kind:
        return _list(resource, [_encode(object) for object in objects], metadata)
    api_version = f"meta.k8s.io/{view.version}"
    if view.kind == "Table":
        table = tables.table(
            resource,
            objects,
            time.time(),
            include=asked.include,
            version=view.version,
            metadata=metadata,
        )
        return _encode(table)
    items = [tables.partial(object, view.version) for object in objects]
    kind = "PartialObjectMetadataList"
    return _encode({"kind": kind, "apiVersion": api_version, "metadata": metadata, "items": items})


def _list(resource: Resource, items: list[bytes], metadata: Json) -> bytes:
    kind, api_version = f"{resource.kind}List", resource.api_version
    head = _encode({"kind": kind, "apiVersion": api_version, "metadata": metadata})
    return b'%b,"items":[%b]}' % (head[:-1], b",".join(items))


def shown(
    resource: Resource,
    object: Json,
    view: View,
    include: tables.Include = "Metadata",
    *,
    columns: bool = True,
) -> bytes:
    """One object as it is wanted. `columns`: whether a Table tells which it has."""
    if view.kind == "Table":
        version = object.get("metadata", {}).get("resourceVersion", "")
        return _encode(
            tables.table(
                resource,
                [object],
                time.time(),
                include=include,
                version=view.version,
                metadata={"resourceVersion": version},
                columns=columns,
            )
        )
    if view.kind:
        return _encode(tables.partial(object, view.version))
    return _encode(object)


# --- watches --------------------------------------------------------------------------------------


def _is_full(lines: list[bytes]) -> bool:
    return len(lines) >= _TOGETHER or sum(map(len, lines)) >= _TOGETHER_BYTES


class Watching:
    """One watch, as the blocks of lines to send: `async for block in watching.blocks()`."""

    def __init__(
        self, cache: Cache, resource: Resource, namespace: str, asked: ListOptions, view: View
    ) -> None:
        self._cache = cache
        self._resource = resource
        self._namespace = namespace
        self._asked = asked
        self._view = view
        self._columns = True  # are still to be told, of a Table

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        """Ends with an error, or when the time is over that was asked for."""
        asked, cache = self._asked, self._cache
        first: list[Entry] = []
        since = asked.version or cache.version
        if asked.initial or (asked.initial is None and not asked.version):
            first, since = cache.list(self._resource.key, self._namespace), cache.version
        try:
            if since > cache.version:
                raise expired(f"too large resource version: {since} ({cache.version})")
            with cache.watch(self._resource.key, self._namespace, since) as watch:
                chosen = [entry for entry in first if asked.selector.matches(entry.object)]
                lines: list[bytes] = []
                for entry in chosen:
                    lines.append(self._line("ADDED", entry))
                    if _is_full(lines):
                        yield b"".join(lines)
                        lines = []
                if lines:
                    yield b"".join(lines)
                if asked.initial and asked.bookmarks:
                    yield self._bookmark(since, {_INITIAL_END: "true"})
                async for block in self._follow(watch):
                    yield block
        except ApiError as error:
            yield b'{"type":"ERROR","object":%b}\n' % _encode(error.status())

    async def _follow(self, watch: Watch) -> AsyncGenerator[bytes, None]:
        asked, now = self._asked, anyio.current_time()
        end = math.inf if asked.timeout is None else now + asked.timeout
        due = self._next_bookmark(now)
        while True:
            change: Change | None = None
            with anyio.CancelScope(deadline=min(due, end)):
                change = await anext(watch)
            if change is not None:
                lines = [self._told(change)]
                while watch.is_behind and not _is_full(lines):
                    lines.append(self._told(await anext(watch)))
                if block := b"".join(lines):
                    yield block
            now = anyio.current_time()
            is_time = now >= due or (now >= end and asked.bookmarks)
            if is_time and not watch.is_behind:  # all up to now was told
                yield self._bookmark(self._cache.version, {})
                due = self._next_bookmark(now)
            if now >= end:
                return

    def _next_bookmark(self, now: float) -> float:
        if not self._asked.bookmarks:
            return math.inf
        # Not of all watches at the same moment.
        return now + _BOOKMARK_EVERY * random.uniform(0.8, 1.0)  # noqa: S311

    def _bookmark(self, version: int, annotations: dict[str, str]) -> bytes:
        meta: Json = {"resourceVersion": str(version)}
        if annotations:
            meta["annotations"] = annotations
        object = {
            "kind": self._resource.kind,
            "apiVersion": self._resource.api_version,
            "metadata": meta,
        }
        # In the form of all else: who asks for metadata only cannot read another kind.
        return b'{"type":"BOOKMARK","object":%b}\n' % self._shown(object)

    def _told(self, change: Change) -> bytes:
        """The line about a change; empty: it is none to this watch."""
        selector, before, entry = self._asked.selector, change.before, change.entry
        if not selector:
            return self._line(change.type, entry)
        if selector.name and selector.name != entry.name:
            return b""
        was = before is not None and selector.matches(before.object)
        if change.type == "DELETED":
            return self._line("DELETED", entry) if was else b""
        now = selector.matches(entry.object)
        if now:
            return self._line("MODIFIED" if was else "ADDED", entry)
        if before is None or not was:
            return b""
        # As it was chosen last, at the version at which that has ended.
        meta = before.object["metadata"] | {"resourceVersion": str(entry.version)}
        key = entry.resource, entry.namespace, entry.name
        last = Entry(revised(key, entry.version, before.object | {"metadata": meta}))
        return self._line("DELETED", last)

    def _line(self, type: str, entry: Entry) -> bytes:
        object = self._shown(entry.object) if self._view.kind else entry.raw
        return b'{"type":"%b","object":%b}\n' % (type.encode(), object)

    def _shown(self, object: Json) -> bytes:
        include, columns = self._asked.include, self._columns
        self._columns = False
        return shown(self._resource, object, self._view, include, columns=columns)
