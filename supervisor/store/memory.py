"""The store of a node that ends with its process: nothing outlives it, and nothing waits.

It keeps the same contract as the one on disk, without threads or files, so that tests can end a
node and start the next one on what was committed, on a clock that jumps.
"""

from __future__ import annotations

from collections import Counter

from msgspec.structs import replace

from supervisor.api import v1
from supervisor.lifecycle.facts import Instant, rfc3339
from supervisor.store.contract import (
    EVENT_TTL,
    EVENTS,
    EVENTS_PER_POD,
    Change,
    Snapshot,
    Stored,
)

_Key = tuple[str, str]  # namespace and name of an event


class MemoryStore:
    """Fulfils contract.Store."""

    def __init__(self) -> None:
        self._pods: dict[str, Stored] = {}
        self._events: dict[_Key, v1.Event] = {}  # the one told last is the last
        self._of_pod: Counter[str] = Counter()  # how many of them are about which pod
        self._version = 0
        self._committed: Instant | None = None

    async def commit(self, change: Change) -> int:
        for event in change.events:
            self._tell(event)
        self._forget_events(rfc3339(change.at.later(-EVENT_TTL)))
        self._committed = change.at
        record, known = change.record, self._pods.get(change.uid)
        if record is None:
            self._pods.pop(change.uid, None)
            return self._next()
        stored = Stored(record, known.resource_version if known else 0)
        if known is None or stored.pod != known.pod:
            stored = Stored(record, self._next())
        self._pods[change.uid] = stored
        return stored.resource_version

    async def load(self) -> Snapshot:
        return Snapshot(
            pods=tuple(self._pods.values()),
            events=tuple(self._events.values()),
            resource_version=self._version,
            committed=self._committed,
        )

    def _next(self) -> int:
        self._version += 1
        return self._version

    def _tell(self, event: v1.Event) -> None:
        meta, uid = event.metadata, event.involved_object.uid
        key = meta.namespace, meta.name
        if key in self._events:
            self._forget(key)
        meta = replace(meta, resource_version=str(self._next()))
        self._events[key] = replace(event, metadata=meta)
        self._of_pod[uid] += 1
        if self._of_pod[uid] > EVENTS_PER_POD:
            self._forget(next(k for k, e in self._events.items() if e.involved_object.uid == uid))

    def _forget_events(self, too_old: str) -> None:
        while self._events:
            key, oldest = next(iter(self._events.items()))
            if len(self._events) <= EVENTS and (oldest.last_timestamp or "") >= too_old:
                break
            self._forget(key)

    def _forget(self, key: _Key) -> None:
        uid = self._events.pop(key).involved_object.uid
        self._of_pod[uid] -= 1
        if not self._of_pod[uid]:
            del self._of_pod[uid]
