"""How much clients may have stored: whoever has the token cannot fill this machine's memory.

All objects are in memory, and there they take up to ten times the size of their JSON (a map of
small words), with half a kilobyte at least for what clients and server note about each. So their
number is bounded and the sum of their bytes, pods included; and of pods, how many may live at once.
Who asks for more is refused as by a ResourceQuota. What frees room is always possible: deletions,
and changes that let a deleted object go, for which some room is set aside. The node's own objects
(leases, the accounts of namespaces, what becomes of pods) count, and are never refused.

Events have bounds of their own (store/contract.py), where new ones take the place of old ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from supervisor.apiserver.contract import Json, Resource, forbidden

if TYPE_CHECKING:
    from supervisor.apiserver.cache import Cache  # not for who only asks how many pods

OBJECTS = 10_000
BYTES = 64 << 20  # of JSON
ENDING = 1 << 20  # bytes more for changes of what is being deleted
PODS = 1000  # that have not ended, as the node's capacity says


class Quota:
    """Of one node."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        # Of what is on its way into the store.
        self._objects = 0
        self._bytes = 0

    @contextmanager
    def room(
        self, resource: Resource, name: str, body: Json, old: Json | None = None
    ) -> Iterator[None]:
        """For an object that is stored meanwhile, in place of an old one. Raises ApiError."""
        if resource.key == "events":
            yield
            return
        objects = int(old is None)
        size = len(msgspec.json.encode(body))
        if old is not None:
            size -= len(msgspec.json.encode(old))
        ending = old is not None and "deletionTimestamp" in old["metadata"]
        if objects:
            used = self._cache.objects + self._objects
            _require(resource, name, "objects", objects, used, OBJECTS)
        if size > 0:
            used = self._cache.bytes + self._bytes
            _require(resource, name, "bytes", size, used, BYTES, ENDING if ending else 0)
        size = max(size, 0)
        self._objects += objects
        self._bytes += size
        try:
            yield
        finally:
            self._objects -= objects
            self._bytes -= size


def check_pods(resource: Resource, name: str, living: int) -> None:
    """Whether one more may live beside these. Raises ApiError."""
    _require(resource, name, "pods", 1, living, PODS)


def _require(
    resource: Resource, name: str, what: str, asked: int, used: int, limit: int, more: int = 0
) -> None:
    if used + asked > limit + more:
        why = (
            f"exceeded quota: podvisor, requested: {what}={asked}, used: {what}={used}, "
            f"limited: {what}={limit}"
        )
        raise forbidden(resource, name, why)
