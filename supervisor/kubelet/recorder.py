"""Events as `kubectl get events` would show them: aggregated, limited, kept in memory.

Workers hand over what `decide` wants said; the recorder turns it into core/v1 Event objects with
the correlation rules of client-go (§11.3), so that a crash-looping pod here leaves the trace it
would leave in a cluster. It decides nothing about pods and never fails. An event is kept for an
hour after it was told last, as in a cluster.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from supervisor.api import v1
from supervisor.lifecycle.facts import Instant, rfc3339
from supervisor.lifecycle.record import EventDraft
from supervisor.store.contract import EVENT_TTL

_SIMILAR_LIMIT = 10  # distinct messages of one reason before they are merged (§11.3.2)
_SIMILAR_WINDOW = 600.0
_BURST = 25  # events of one type per pod before the rate limit holds (§11.3.3)
_REFILL = 300.0  # seconds for one more
_LOOK_EVERY = 60.0  # seconds between two looks for what is too old
_COMBINED = "(combined from similar events): "


class _Similar(Struct):
    """The distinct messages seen lately for one (source, object, type, reason)."""

    last: float
    messages: set[str]


class _Bucket(Struct):
    tokens: float
    at: float


class Recorder:
    """Keeps the events of one node."""

    def __init__(self, node_name: str) -> None:
        self._node_name = node_name
        self._events: dict[tuple[str, ...], v1.Event] = {}
        self._similar: dict[tuple[str, ...], _Similar] = {}
        self._buckets: dict[tuple[str, ...], _Bucket] = {}
        self._moment = 0  # in the name of the newest event
        self._look_at = 0.0  # boot time to look again for what is too old

    def restore(self, events: Iterable[v1.Event]) -> None:
        """Go on counting events that an earlier life of the node has recorded."""
        for event in events:
            about = event.involved_object
            key: tuple[str, ...] = (event.source.component, about.uid, event.type, event.reason)
            if not event.message.startswith(_COMBINED):
                key = (*key, about.field_path, event.message)
            self._events[key] = event

    def events(self, pod_uid: str | None = None) -> list[v1.Event]:
        """The events, oldest first; of one pod when asked."""
        return [
            event
            for event in self._events.values()
            if pod_uid is None or event.involved_object.uid == pod_uid
        ]

    def record(self, pod: v1.Pod, draft: EventDraft, at: Instant) -> v1.Event | None:
        """Record one event of a pod; None when the rate limit drops it (§11.3.3)."""
        uid = pod.metadata.uid
        group = (draft.component, uid, draft.type, draft.reason)
        if self._is_one_of_many(group, draft.message, at):
            message = f"{_COMBINED}{draft.message}"
            key: tuple[str, ...] = group
        else:
            message = draft.message
            key = (*group, draft.field_path, message)
        if not self._admit(group[:3], at):
            return None
        self._forget_old(at)
        stamp = rfc3339(at)
        known = self._events.get(key)
        if known is not None:
            event = msgspec.structs.replace(
                known, count=known.count + 1, last_timestamp=stamp, message=message
            )
        else:
            host = "" if draft.component == "default-scheduler" else self._node_name
            event = v1.Event(
                metadata=v1.ObjectMeta(
                    name=f"{pod.metadata.name}.{self._own_moment(at):x}",
                    namespace=pod.metadata.namespace,
                    creation_timestamp=stamp,
                    uid=str(uuid.uuid4()),
                ),
                involved_object=v1.ObjectReference(
                    api_version="v1",
                    kind="Pod",
                    namespace=pod.metadata.namespace,
                    name=pod.metadata.name,
                    uid=uid,
                    field_path=draft.field_path,
                ),
                reason=draft.reason,
                message=message,
                type=draft.type,
                count=1,
                first_timestamp=stamp,
                last_timestamp=stamp,
                source=v1.EventSource(component=draft.component, host=host),
                reporting_component=draft.component,
                reporting_instance=host,
            )
        self._events[key] = event
        return event

    def _forget_old(self, at: Instant) -> None:
        if at.boot < self._look_at:
            return
        self._look_at = at.boot + _LOOK_EVERY
        too_old = rfc3339(at.later(-EVENT_TTL))
        self._events = {
            key: event
            for key, event in self._events.items()
            if (event.last_timestamp or "") >= too_old
        }
        for kept in (self._similar, self._buckets):
            for group in [g for g in kept if at.boot - _last(kept[g]) > EVENT_TTL * 3]:
                del kept[group]

    def _own_moment(self, at: Instant) -> int:
        """Nanoseconds that no other event has in its name, though one plan may carry several."""
        self._moment = max(self._moment + 1, int(at.wall * 1e9))
        return self._moment

    def _is_one_of_many(self, group: tuple[str, ...], message: str, at: Instant) -> bool:
        """Whether this message is the tenth distinct one of its group, or a later one."""
        similar = self._similar.get(group)
        if similar is None or at.boot - similar.last > _SIMILAR_WINDOW:
            similar = self._similar[group] = _Similar(last=at.boot, messages=set())
        similar.last = at.boot
        if message in similar.messages:
            return False
        if len(similar.messages) + 1 >= _SIMILAR_LIMIT:
            return True
        similar.messages.add(message)
        return False

    def _admit(self, source: tuple[str, ...], at: Instant) -> bool:
        bucket = self._buckets.get(source)
        if bucket is None:
            bucket = self._buckets[source] = _Bucket(tokens=_BURST, at=at.boot)
        bucket.tokens = min(_BURST, bucket.tokens + max(0.0, at.boot - bucket.at) / _REFILL)
        bucket.at = at.boot
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True


def _last(kept: _Similar | _Bucket) -> float:
    return kept.last if isinstance(kept, _Similar) else kept.at
