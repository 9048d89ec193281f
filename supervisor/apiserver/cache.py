"""All objects of a node as of the last stored change, and the changes that led there.

Every read of the API is answered from here, without asking the store: it is told each revision
right after it is stored, in order, so what a writer was answered can be read back at once. A watch
replays what has happened since a resourceVersion, as far as that is remembered (the newest changes
of all kinds: not more than `REMEMBERED`, and not more than `REMEMBERED_BYTES` of JSON, because
objects may be large), and then goes on with what comes.

A watcher that does not read is not waited for: when as much waits for it, it is ended as one that
came too late, and lists again. Nothing here decides or writes anything.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Self

import anyio
import msgspec

from supervisor.apiserver.contract import Json, expired
from supervisor.store.contract import Revision, Snapshot, Store, revised

REMEMBERED = 5000
REMEMBERED_BYTES = 32 << 20
BEHIND = REMEMBERED
BEHIND_BYTES = REMEMBERED_BYTES

_Key = tuple[str, str]  # namespace and name


class Entry:
    """One object at one resourceVersion. Never changed; `object` and `raw` are made when needed."""

    __slots__ = ("_made", "_object", "_raw", "name", "namespace", "resource", "version")

    def __init__(self, revision: Revision) -> None:
        self.resource = revision.resource
        self.namespace = revision.namespace
        self.name = revision.name
        self.version = revision.resource_version
        self._made: Any = revision.object
        self._object: Json | None = self._made if isinstance(self._made, dict) else None
        self._raw: bytes | None = None

    @property
    def object(self) -> Json:
        """As the API shows it."""
        if self._object is None:
            self._object = msgspec.json.decode(self.raw)
        return self._object

    @property
    def raw(self) -> bytes:
        """Its JSON."""
        if self._raw is None:
            self._raw = msgspec.json.encode(self._made)
        return self._raw

    @property
    def uid(self) -> str:
        uid: str = self.object["metadata"].get("uid", "")
        return uid


class Change:
    """What became of one object."""

    __slots__ = ("before", "entry", "type")

    def __init__(self, type: str, entry: Entry, before: Entry | None) -> None:
        self.type = type  # ADDED, MODIFIED or DELETED
        self.entry = entry  # of a deletion: the last state, at the version of its end
        self.before = before

    @property
    def version(self) -> int:
        return self.entry.version

    @property
    def size(self) -> int:
        """What it takes to remember it, about: `before` was mostly the entry of another change."""
        return len(self.entry.raw)


class Cache:
    """Follows one store."""

    def __init__(self) -> None:
        self.version = 0  # of the last change that is in here
        self.objects = 0  # how many there are, without events
        self.bytes = 0  # of their JSON
        self._kinds: dict[str, dict[_Key, Entry]] = {}
        self._order: dict[str, list[_Key]] = {}
        self._changes: deque[Change] = deque()
        self._size = 0  # of all of them
        self._oldest = 0  # changes after this one are remembered
        self._watches: dict[str, set[Watch]] = {}
        self._listeners: list[Callable[[Change], None]] = []

    async def start(self, store: Store) -> None:
        """Begin with all that is stored, and follow from there. Once.

        What is stored meanwhile is told too early or twice, and counts once.
        """
        early: list[Revision] | None = []

        def listen(revision: Revision) -> None:
            if early is None:
                self._take(revision)
            else:
                early.append(revision)

        store.follow(listen)
        snapshot = await store.load()
        self._begin(snapshot)
        missed, early = early or [], None
        for revision in missed:
            if revision.resource_version > snapshot.resource_version:
                self._take(revision)

    def get(self, resource: str, namespace: str, name: str) -> Entry | None:
        return self._kinds.get(resource, {}).get((namespace, name))

    def list(self, resource: str, namespace: str = "") -> list[Entry]:
        """Ordered by namespace and name; of all namespaces when none is given."""
        entries = self._kinds.get(resource, {})
        order = self._order.get(resource, [])
        if not namespace:
            return [entries[key] for key in order]
        first = bisect.bisect_left(order, (namespace, ""))
        found = []
        for key in order[first:]:
            if key[0] != namespace:
                break
            found.append(entries[key])
        return found

    def since(self, resource: str, namespace: str, version: int) -> tuple[Change, ...]:
        """What has changed after a version, oldest first. Raises ApiError (Expired) when that is
        not remembered any more."""
        if version < self._oldest:
            raise expired(f"too old resource version: {version} ({self._oldest})")
        return tuple(
            change
            for change in self._since(version)
            if change.entry.resource == resource and namespace in ("", change.entry.namespace)
        )

    def watch(self, resource: str, namespace: str, since: int) -> Watch:
        """What has happened since a resourceVersion, and from now on. Use as a context manager.

        Raises ApiError (Expired) as `since` does.
        """
        changes = self.since(resource, namespace, since)
        watch = Watch(resource, namespace, self._watches.setdefault(resource, set()))
        for change in changes:
            watch.take(change)
        return watch

    def follow(self, listener: Callable[[Change], None]) -> None:
        """Tell every change of every kind, at once. Must not block."""
        self._listeners.append(listener)

    # --- what the store tells -------------------------------------------------------------------

    def _begin(self, snapshot: Snapshot) -> None:
        for stored in snapshot.pods:
            if stored.record.is_hidden:
                continue
            meta = stored.record.pod.metadata
            key = "pods", meta.namespace, meta.name
            self._put(Entry(revised(key, stored.resource_version, stored.pod)))
        for event in snapshot.events:
            version = int(event.metadata.resource_version)
            key = "events", event.metadata.namespace, event.metadata.name
            self._put(Entry(revised(key, version, event)))
        for each in snapshot.objects:
            key = each.resource, each.namespace, each.name
            self._put(Entry(revised(key, each.resource_version, each.object)))
        self.version = self._oldest = snapshot.resource_version

    def _take(self, revision: Revision) -> None:
        key = revision.namespace, revision.name
        before = self._kinds.get(revision.resource, {}).get(key)
        self.version = revision.resource_version
        if revision.object is not None:
            entry = Entry(revision)
            self._put(entry)
            change = Change("MODIFIED" if before is not None else "ADDED", entry, before)
        elif before is not None:
            del self._kinds[revision.resource][key]
            self._count(before, -1)
            order = self._order[revision.resource]
            del order[bisect.bisect_left(order, key)]
            change = Change("DELETED", _ended(before, revision), before)
        else:
            return
        self._remember(change)
        for listener in self._listeners:
            listener(change)
        for watch in tuple(self._watches.get(revision.resource, ())):
            watch.take(change)

    def _remember(self, change: Change) -> None:
        self._changes.append(change)
        self._size += change.size
        while len(self._changes) > REMEMBERED or self._size > REMEMBERED_BYTES:
            forgotten = self._changes.popleft()
            self._size -= forgotten.size
            self._oldest = forgotten.version

    def _put(self, entry: Entry) -> None:
        entries = self._kinds.setdefault(entry.resource, {})
        key = entry.namespace, entry.name
        if key not in entries:
            bisect.insort(self._order.setdefault(entry.resource, []), key)
        else:
            self._count(entries[key], -1)
        entries[key] = entry
        self._count(entry, 1)

    def _count(self, entry: Entry, by: int) -> None:
        if entry.resource != "events":
            self.objects += by
            self.bytes += by * len(entry.raw)

    def _since(self, version: int) -> Iterator[Change]:
        """The remembered changes after a version, oldest first."""
        newer = []
        for change in reversed(self._changes):
            if change.version <= version:
                break
            newer.append(change)
        return reversed(newer)


class Watch:
    """The changes of one kind, in one namespace or in all."""

    def __init__(self, resource: str, namespace: str, among: set[Watch]) -> None:
        self.resource = resource
        self._namespace = namespace
        self._among = among
        self._changes: deque[Change] = deque()
        self._size = 0  # of all of them
        self._wake = anyio.Event()
        self._late = False
        among.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._among.discard(self)

    def take(self, change: Change) -> None:
        if self._namespace and change.entry.namespace != self._namespace:
            return
        self._changes.append(change)
        self._size += change.size
        if len(self._changes) > BEHIND or (self._size > BEHIND_BYTES and len(self._changes) > 1):
            self._late = True
            self._changes.clear()
            self._among.discard(self)
        self._wake.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        """The next one. Raises ApiError (Expired) for a reader that is too slow."""
        while not self._changes:
            if self._late:
                raise expired("too old resource version: this watch was read too slowly")
            self._wake = anyio.Event()
            await self._wake.wait()
        change = self._changes.popleft()
        self._size -= change.size
        return change

    @property
    def is_behind(self) -> bool:
        """Whether there is one that was not read yet."""
        return bool(self._changes) or self._late


def _ended(before: Entry, gone: Revision) -> Entry:
    """The last state of an object that is gone, at the version of its end."""
    last = before.object
    meta = last["metadata"] | {"resourceVersion": str(gone.resource_version)}
    key = gone.resource, gone.namespace, gone.name
    return Entry(revised(key, gone.resource_version, last | {"metadata": meta}))
