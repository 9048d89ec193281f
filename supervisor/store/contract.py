"""What a store promises: the contract between the node and the places where it keeps its pods.

A worker hands over each decision as one `Change`, and acts only after `commit` has returned. What
is committed is found again as a whole or not at all: the pod as the API shows it, the record that
the next decision is made from, and the events that were told about it. There are two stores:
memory.py for nodes that end with their process, sqlite.py for those that do not.

Objects of all other kinds (ConfigMaps, Namespaces) are kept as the API shows them; what they mean
is nothing to a store. They change by `edit`.

Resource versions come from one counter, shared by all objects as in a cluster. A pod's changes
only when the object changes, not when the record alone does. Whoever follows the store is told each
change after it is stored, in the order of these numbers: that is what watches are made of.

Nothing grows without end. Events are kept for an hour, as a cluster keeps them, and only the newest
of each pod and of all pods. Of a pod that is gone nothing stays but its events. How many other
objects there may be is for who writes them to say. No clock is read here: the time is that of the
change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from msgspec import Struct
from msgspec.structs import replace

from supervisor.api import v1
from supervisor.lifecycle.facts import Instant
from supervisor.lifecycle.record import PodRecord

EVENT_TTL = 3600.0  # seconds since an event was last told
EVENTS_PER_POD = 200
EVENTS = 10_000  # of all pods, also of those that are gone
EVENTS_BYTES = 32 << 20  # of their JSON


class Change(Struct, frozen=True, kw_only=True):
    """All that one decision makes true."""

    at: Instant
    uid: str
    record: PodRecord | None  # None: the pod is gone
    events: tuple[v1.Event, ...] = ()  # new ones, and known ones that were told again
    synced: bool = False  # must outlive a power failure (acknowledged creates and deletes)


class Stored(Struct, frozen=True):
    """One pod as it was committed last."""

    record: PodRecord
    resource_version: int

    @property
    def pod(self) -> v1.Pod:
        """The object as the API shows it."""
        pod = self.record.pod
        meta = replace(pod.metadata, resource_version=str(self.resource_version))
        return replace(pod, metadata=meta, status=self.record.status)


class Object(Struct, frozen=True, kw_only=True):
    """An object that is neither a Pod nor an event of the node's, as the API shows it."""

    resource: str  # plural, and the group if it has one: configmaps, leases.coordination.k8s.io
    namespace: str  # empty: of no namespace
    name: str
    body: dict[str, Any]  # without metadata.resourceVersion
    resource_version: int = 0

    @property
    def object(self) -> dict[str, Any]:
        """The object with its resourceVersion."""
        meta = self.body.get("metadata", {}) | {"resourceVersion": str(self.resource_version)}
        return self.body | {"metadata": meta}


class Edit(Struct, frozen=True, kw_only=True):
    """What becomes of one object. An event (resource `events`) is kept like the node's own."""

    at: Instant
    resource: str
    namespace: str
    name: str
    body: dict[str, Any] | None  # None: it is gone
    synced: bool = True  # must outlive a power failure


class Revision(Struct, frozen=True, kw_only=True):
    """One change of what the API shows."""

    resource_version: int
    resource: str
    namespace: str
    name: str
    # As it is from now on, with its resourceVersion; None: it is gone.
    object: v1.Pod | v1.Event | dict[str, Any] | None


def revised(
    key: tuple[str, str, str], version: int, object: v1.Pod | v1.Event | dict[str, Any] | None
) -> Revision:
    """`key`: resource, namespace and name."""
    resource, namespace, name = key
    return Revision(
        resource_version=version,
        resource=resource,
        namespace=namespace,
        name=name,
        object=object,
    )


def told(event: v1.Event) -> str:
    """When an event was told last, as far as it says so; what says nothing is the oldest."""
    return event.last_timestamp or event.event_time or event.metadata.creation_timestamp or ""


class Snapshot(Struct, frozen=True, kw_only=True):
    """All that a store holds at one moment."""

    pods: tuple[Stored, ...] = ()  # in the order in which they came
    events: tuple[v1.Event, ...] = ()  # the one told last is the last
    objects: tuple[Object, ...] = ()
    resource_version: int = 0  # the highest that was given out
    committed: Instant | None = None  # the time of the last change


class Store(Protocol):
    async def commit(self, change: Change) -> int:
        """Store a change; return the pod's resource version.

        Raises OSError when it could not be written: then nothing of it was, and it may be tried
        again. A caller that is cancelled meanwhile does not learn which it was.
        """
        ...

    async def edit(self, edit: Edit) -> int:
        """Change one object; return the resource version given out last.

        Raises OSError as `commit` does. An edit that changes nothing gives out no version.
        """
        ...

    def follow(self, listener: Callable[[Revision], None]) -> None:
        """Tell each revision from now on, on the event loop and in order: after it is stored, and
        before its `commit` or `edit` returns."""
        ...

    async def load(self) -> Snapshot:
        """All that is stored."""
        ...
