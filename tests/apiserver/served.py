"""A server over real sockets in this process, on a store in memory, with a registry of a few lines.

What requests do to objects is tested with the registry itself; here it only has to be asked right.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from supervisor.apiserver import auth
from supervisor.apiserver.cache import Cache
from supervisor.apiserver.contract import (
    Answer,
    Change,
    DeleteOptions,
    Json,
    Resource,
    WriteOptions,
    already_exists,
    not_found,
)
from supervisor.apiserver.logs import Logs
from supervisor.apiserver.server import Server
from supervisor.kubelet.clock import Clock
from supervisor.store.contract import Edit
from supervisor.store.memory import MemoryStore
from tests.lifecycle.lives import at

PATIENCE = 60.0


class FakeRegistry:
    """Stores what it is given, and remembers how it was asked."""

    def __init__(self, store: MemoryStore, cache: Cache) -> None:
        self.store, self.cache = store, cache
        self.options: WriteOptions | DeleteOptions | None = None
        self.warnings: tuple[str, ...] = ()
        self.trouble: Exception | None = None

    async def create(
        self, resource: Resource, namespace: str, body: Json, options: WriteOptions
    ) -> Answer:
        self._asked(options)
        name = body["metadata"]["name"]
        if self.cache.get(resource.key, namespace, name) is not None:
            raise already_exists(resource, name)
        return await self._put(resource, namespace, name, body, created=True)

    async def update(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        change: Change,
        options: WriteOptions,
        *,
        subresource: str = "",
        upsert: bool = False,
    ) -> Answer:
        self._asked(options)
        entry = self.cache.get(resource.key, namespace, name)
        if entry is None and not upsert:
            raise not_found(resource, name)
        body = change(entry.object if entry is not None else None)
        return await self._put(resource, namespace, name, body, created=entry is None)

    async def delete(
        self, resource: Resource, namespace: str, name: str, options: DeleteOptions
    ) -> Answer:
        self._asked(options)
        entry = self.cache.get(resource.key, namespace, name)
        if entry is None:
            raise not_found(resource, name)
        await self.store.edit(edit(resource.key, name, None, namespace))
        return Answer(object=entry.object)

    async def post(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        subresource: str,
        body: Json,
        options: WriteOptions,
    ) -> Answer:
        self._asked(options)
        return Answer(object=body | {"asked": [namespace, name, subresource]}, created=True)

    def _asked(self, options: WriteOptions | DeleteOptions) -> None:
        self.options = options
        if self.trouble is not None:
            raise self.trouble

    async def _put(
        self, resource: Resource, namespace: str, name: str, body: Json, *, created: bool
    ) -> Answer:
        await self.store.edit(edit(resource.key, name, body, namespace))
        entry = self.cache.get(resource.key, namespace, name)
        assert entry is not None
        return Answer(object=entry.object, created=created, warnings=self.warnings)


class FakeNode:
    """Nothing but what a server asks of it."""

    def __init__(self) -> None:
        self.bugs: list[str] = []
        self.clock = Clock()

    def find(self, namespace: str, name: str) -> None:
        """There are no pods."""

    def report_bug(self, where: str, text: str) -> None:
        self.bugs.append(f"{where}: {text}")


def edit(resource: str, name: str, body: Json | None, namespace: str = "default") -> Edit:
    if body is not None:
        meta = {"name": name, "namespace": namespace, "uid": f"uid-{name}"}
        body = body | {"metadata": meta | body.get("metadata", {})}
    return Edit(at=at(0), resource=resource, namespace=namespace, name=name, body=body)


class Reply:
    """An answer that was read to its end."""

    def __init__(self, response: aiohttp.ClientResponse, content: bytes) -> None:
        self.code, self.headers, self.content = response.status, response.headers, content

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def text(self) -> str:
        return self.content.decode()

    @property
    def refusal(self) -> tuple[int, str, str]:
        status = self.json
        assert (status["kind"], status["status"]) == ("Status", "Failure"), status
        assert status["code"] == self.code
        return self.code, status["reason"], status["message"]


class Watched:
    """The events of a watch, one by one."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self) -> Any:
        line = await self.response.content.readline()
        return json.loads(line) if line else None

    async def told(self, count: int) -> list[str]:
        events = [await self.next() for _ in range(count)]
        return [f"{e['type']} {e['object']['metadata'].get('name', '')}" for e in events]


class Served:
    def __init__(self, folder: str, store: MemoryStore, cache: Cache) -> None:
        self.folder, self.store, self.cache = folder, store, cache
        self.registry = FakeRegistry(store, cache)
        self.logs = Logs(cache, folder)
        self.node = FakeNode()
        self.bugs = self.node.bugs
        self.server = Server(cache, self.registry, self.logs, node=self.node)  # type: ignore[arg-type]
        self.client: aiohttp.ClientSession
        self.base = "http://localhost"

    async def ask(self, path: str, method: str = "GET", **options: Any) -> Reply:
        async with self.client.request(method, self.base + path, **options) as response:
            return Reply(response, await response.read())

    @contextlib.asynccontextmanager
    async def watch(self, path: str, **options: Any) -> AsyncIterator[Watched]:
        async with self.client.get(self.base + path, **options) as response:
            assert response.status == 200, await response.text()
            yield Watched(response)

    async def config_map(self, name: str, value: str = "1", **labels: str) -> int:
        body = {"kind": "ConfigMap", "apiVersion": "v1", "data": {"key": value}}
        body["metadata"] = {"labels": labels}  # type: ignore[assignment]
        return await self.store.edit(edit("configmaps", name, body))


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[Served]:
    """Behind its unix socket."""
    folder = tempfile.mkdtemp(prefix="podvisor-test-")
    try:
        store, cache = MemoryStore(), Cache()
        await cache.start(store)
        api = Served(folder, store, cache)
        listener = auth.listen_unix(folder)
        await api.server.open(listener, auth.gate_of(listener))
        connector = aiohttp.UnixConnector(os.path.join(folder, auth.SOCKET))
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as api.client:
            yield api
        await api.server.close()
        assert api.bugs == []
    finally:
        shutil.rmtree(folder)
