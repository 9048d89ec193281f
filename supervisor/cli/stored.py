"""What a node that does not run has stored, asked in the same words as a node that does.

It reads the database and asks nobody. What was stored of pods that had not ended is not the truth
any more: their containers may run on under a launcher, or not. So their phase is Unknown, which no
node ever writes, and nothing of them is ready; nor is the node. All else is as it was left.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

import anyio
from msgspec.structs import replace

from supervisor.api import codec, v1
from supervisor.apiserver import logs, records, selectors, tables
from supervisor.apiserver.cache import Cache, Entry
from supervisor.apiserver.contract import ApiError, Resource, not_found
from supervisor.apiserver.negotiation import Query
from supervisor.apiserver.resources import RESOURCES, named
from supervisor.cli.asking import Kinds
from supervisor.client import PODS, Kind, find_kind, kind_of
from supervisor.errors import StatusError
from supervisor.kubelet import statedir
from supervisor.lifecycle import reasons
from supervisor.store import sqlite
from supervisor.store.contract import Snapshot, revised

Json = dict[str, Any]


def is_there(state_dir: str) -> bool:
    """Whether a node has stored anything there."""
    return os.path.exists(os.path.join(state_dir, statedir.DATABASE))


def read(state_dir: str) -> Stored:
    """Raises NodeError where nothing is stored that can be read."""
    return Stored(state_dir, sqlite.read(os.path.join(state_dir, statedir.DATABASE)))


class Stored:
    """An asking.Reader. Raises StatusError for what a node would refuse."""

    def __init__(self, state_dir: str, snapshot: Snapshot) -> None:
        self._state_dir = state_dir
        self._version = snapshot.resource_version
        pods = [pod for pod in snapshot.pods if not pod.record.is_hidden]
        self._records = {
            (pod.record.pod.metadata.namespace, pod.record.pod.metadata.name): pod.record
            for pod in pods
        }
        self._objects: dict[str, list[Json]] = {
            "pods": [codec.to_plain(unsure(pod.pod)) for pod in pods],
            "events": [codec.to_plain(event) for event in snapshot.events],
        }
        for each in snapshot.objects:
            self._objects.setdefault(each.resource, []).append(each.object)
        for node in self._objects.get("nodes", ()):
            _doubt(node["status"])
        for objects in self._objects.values():
            objects.sort(key=_name)

    def kinds(self) -> Kinds:
        return [_kind(each) for each in RESOURCES if "list" in each.verbs]

    def kind(self, word: str) -> Kind:
        return find_kind(self.kinds(), word)

    def kind_of(self, manifest: Json) -> Kind:
        return kind_of(self.kinds(), manifest)

    def get(self, kind: Kind, namespace: str, name: str, *, table: bool = False) -> Json:
        resource = named(kind.key)
        for each in self._of(resource, namespace if resource.namespaced else ""):
            if _name(each)[1] == name:
                return _table(resource, [each], {}) if table else each
        raise StatusError(not_found(resource, name).status())

    def list(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        table: bool = False,
        query: Mapping[str, object] | None = None,
    ) -> Json:
        resource = named(kind.key)
        try:
            selector = selectors.parse(resource, labels, fields)
        except ApiError as error:
            raise StatusError(error.status()) from error
        found = [each for each in self._of(resource, namespace) if selector.matches(each)]
        meta = {"resourceVersion": str(self._version)}
        if table:
            return _table(resource, found, meta)
        return {
            "kind": f"{kind.kind}List",
            "apiVersion": kind.api_version,
            "metadata": meta,
            "items": found,
        }

    def log(self, namespace: str, name: str, query: Mapping[str, object] | None = None) -> _Log:
        """Nobody writes any more that we know of, so nothing is followed."""
        pod = self.get(PODS, namespace, name)
        given = {
            key: "true" if value is True else str(value)
            for key, value in (query or {}).items()
            if key != "follow" and value is not None and value is not False and value != ""
        }
        try:
            asked = logs.options(Query(given, {}), name)
            id = logs.instance(pod, asked)
        except ApiError as error:
            raise StatusError(error.status()) from error
        entry = Entry(revised(("pods", namespace, name), 0, pod))
        blocks = logs.Logs(Cache(), self._state_dir).blocks(entry, id, asked)

        async def read() -> list[bytes]:
            return [block async for block in blocks]

        return _Log(anyio.run(read))

    def json(self, method: str, path: str) -> Json:
        """Only what records.py tells of a pod."""
        for name, record in self._records.items():
            if path == records.path(*name):
                return records.plain(record)
        raise StatusError({"reason": "NotFound", "message": f"{path} is not stored", "code": 404})

    def _of(self, resource: Resource, namespace: str) -> Iterable[Json]:
        for each in self._objects.get(resource.key, ()):
            if not namespace or not resource.namespaced or _name(each)[0] == namespace:
                yield each


class _Log:
    """An asking.Log, and a context manager as that of a node is."""

    def __init__(self, blocks: list[bytes]) -> None:
        self._blocks = blocks

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def chunks(self) -> Iterator[bytes]:
        yield from self._blocks

    def lines(self) -> Iterator[bytes]:
        text = b"".join(self._blocks)
        yield from text.removesuffix(b"\n").split(b"\n") if text else ()


def _kind(resource: Resource) -> Kind:
    return Kind(
        plural=resource.plural,
        singular=resource.singular,
        kind=resource.kind,
        group=resource.group,
        version=resource.version,
        namespaced=resource.namespaced,
        verbs=resource.verbs,
        short_names=resource.short_names,
        categories=resource.categories,
    )


def _name(object: Json) -> tuple[str, str]:
    meta = object["metadata"]
    return meta.get("namespace", ""), meta["name"]


def _table(resource: Resource, objects: Iterable[Json], meta: Json) -> Json:
    made = tables.table(resource, objects, time.time(), include="Object", metadata=meta)
    if resource.key == "pods":
        status = next(
            at for at, each in enumerate(made["columnDefinitions"]) if each["name"] == "Status"
        )
        for row in made["rows"]:
            if row["object"]["status"]["phase"] == reasons.UNKNOWN:
                row["cells"][status] = reasons.UNKNOWN  # whatever its containers did last
    return made


def unsure(pod: v1.Pod) -> v1.Pod:
    """As it is shown when nobody knows how it is: with a phase that no node ever writes."""
    status = pod.status
    if status.phase in reasons.TERMINAL_PHASES:
        return pod

    def idle(statuses: tuple[v1.ContainerStatus, ...]) -> tuple[v1.ContainerStatus, ...]:
        return tuple(replace(each, ready=False) for each in statuses)

    doubted = replace(
        status,
        phase=reasons.UNKNOWN,
        init_container_statuses=idle(status.init_container_statuses),
        container_statuses=idle(status.container_statuses),
        ephemeral_container_statuses=idle(status.ephemeral_container_statuses),
        conditions=tuple(
            replace(each, status=reasons.UNKNOWN) if each.type in _DOUBTFUL else each
            for each in status.conditions
        ),
    )
    return replace(pod, status=doubted)


def _doubt(status: Json) -> None:
    """Of a node."""
    for condition in status.get("conditions", ()):
        if condition["type"] == reasons.READY:
            condition["status"] = reasons.UNKNOWN


_DOUBTFUL = (reasons.READY, reasons.CONTAINERS_READY)
