"""The store of a node that ends with its process: nothing outlives it, and nothing waits.

It keeps the same contract as the one on disk, without threads or files, so that tests can end a
node and start the next one on what was committed, on a clock that jumps.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from supervisor.api import v1
from supervisor.lifecycle.facts import Instant, rfc3339
from supervisor.store.contract import (
    EVENT_TTL,
    EVENTS,
    EVENTS_BYTES,
    EVENTS_PER_POD,
    Change,
    Edit,
    Object,
    Revision,
    Snapshot,
    Stored,
    revised,
    told,
)

_Key = tuple[str, str]  # namespace and name of an event


class MemoryStore:
    """Fulfils contract.Store."""

    def __init__(self) -> None:
        self._pods: dict[str, Stored] = {}
        self._events: dict[_Key, v1.Event] = {}  # the one told last is the last
        self._of_pod: Counter[str] = Counter()  # how many of them are about which pod
        self._sizes: dict[_Key, int] = {}  # of their JSON
        self._bytes = 0  # of all of them
        self._objects: dict[tuple[str, str, str], Object] = {}
        self._version = 0
        self._committed: Instant | None = None
        self._listeners: list[Callable[[Revision], None]] = []

    async def commit(self, change: Change) -> int:
        revisions = [self._tell(event) for event in change.events]
        record, known = change.record, self._pods.get(change.uid)
        if record is None:
            self._pods.pop(change.uid, None)
            version = self._next()
            if known is not None and not known.record.is_hidden:
                revisions.append(_of_pod(known, version, gone=True))
        else:
            stored = Stored(record, known.resource_version if known else 0)
            was_shown = known is not None and not known.record.is_hidden
            if known is None or stored.pod != known.pod or record.is_hidden == was_shown:
                stored = Stored(record, self._next())
                if not record.is_hidden:
                    revisions.append(_of_pod(stored, stored.resource_version))
                elif was_shown:
                    revisions.append(_of_pod(stored, stored.resource_version, gone=True))
            self._pods[change.uid] = stored
            version = stored.resource_version
        self._end(change.at, revisions)
        return version

    async def edit(self, edit: Edit) -> int:
        revision = self._change(edit)
        version = self._version
        self._end(edit.at, [] if revision is None else [revision])
        return version

    def follow(self, listener: Callable[[Revision], None]) -> None:
        self._listeners.append(listener)

    def _change(self, edit: Edit) -> Revision | None:
        key = edit.resource, edit.namespace, edit.name
        if edit.resource == "events":
            if edit.body is not None:
                return self._tell(msgspec.convert(edit.body, v1.Event))
            about = edit.namespace, edit.name
            return self._forget(about) if about in self._events else None
        known = self._objects.get(key)
        if edit.body is None:
            if self._objects.pop(key, None) is None:
                return None
            return revised(key, self._next(), None)
        if known is not None and known.body == edit.body:
            return None
        stored = Object(
            resource=edit.resource,
            namespace=edit.namespace,
            name=edit.name,
            body=copy.deepcopy(edit.body),
            resource_version=self._next(),
        )
        self._objects[key] = stored
        return revised(key, stored.resource_version, stored.object)

    def _end(self, at: Instant, revisions: list[Revision]) -> None:
        revisions += self._forget_events(rfc3339(at.later(-EVENT_TTL)))
        self._committed = at
        for revision in revisions:
            for listener in self._listeners:
                listener(revision)

    async def load(self) -> Snapshot:
        return Snapshot(
            pods=tuple(self._pods.values()),
            events=tuple(self._events.values()),
            objects=tuple(self._objects[key] for key in sorted(self._objects)),
            resource_version=self._version,
            committed=self._committed,
        )

    def _next(self) -> int:
        self._version += 1
        return self._version

    def _tell(self, event: v1.Event) -> Revision:
        meta, uid = event.metadata, event.involved_object.uid
        key = meta.namespace, meta.name
        if key in self._events:
            self._drop(key)
        meta = replace(meta, resource_version=str(self._next()))
        self._events[key] = event = replace(event, metadata=meta)
        self._of_pod[uid] += 1
        self._sizes[key] = len(msgspec.json.encode(event))
        self._bytes += self._sizes[key]
        return revised(("events", *key), self._version, event)

    def _forget_events(self, too_old: str) -> list[Revision]:
        """Those that are too old, and too many: of one pod, and of all."""
        last: list[Revision] = []
        for uid in [uid for uid, number in self._of_pod.items() if number > EVENTS_PER_POD]:
            own = [key for key, event in self._events.items() if event.involved_object.uid == uid]
            last += [self._forget(key) for key in own[:-EVENTS_PER_POD]]
        while self._events:
            key, oldest = next(iter(self._events.items()))
            is_over = len(self._events) > EVENTS or self._bytes > EVENTS_BYTES
            if not is_over and told(oldest) >= too_old:
                break
            last.append(self._forget(key))
        return last

    def _forget(self, key: _Key) -> Revision:
        self._drop(key)
        return revised(("events", *key), self._next(), None)

    def _drop(self, key: _Key) -> None:
        uid = self._events.pop(key).involved_object.uid
        self._bytes -= self._sizes.pop(key)
        self._of_pod[uid] -= 1
        if not self._of_pod[uid]:
            del self._of_pod[uid]


def _of_pod(stored: Stored, version: int, *, gone: bool = False) -> Revision:
    meta = stored.record.pod.metadata
    key = "pods", meta.namespace, meta.name
    return revised(key, version, None if gone else stored.pod)
