"""A registry on a store in memory and a node whose containers are timers: no process, no file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from supervisor.api import v1
from supervisor.api.problems import Finding
from supervisor.apiserver import resources
from supervisor.apiserver.cache import Cache
from supervisor.apiserver.contract import Answer, ApiError, DeleteOptions, Json, WriteOptions
from supervisor.apiserver.registry import ObjectRegistry
from supervisor.kubelet.clock import Clock
from supervisor.kubelet.node import Node
from supervisor.kubelet.worker import PodWorker
from supervisor.runtime.spec import Configuration
from supervisor.store.memory import MemoryStore
from tests.kubelet.conftest import Program, World, world

PLAIN, DRY = WriteOptions(field_manager="test"), WriteOptions(field_manager="test", dry_run=True)
STRICT = WriteOptions(field_manager="test", validation="Strict")


class FakePods:
    """Fulfils contract.Pods."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.configurations: list[Configuration] = []
        self.findings: list[Finding] = []  # what is wrong with each pod on this machine

    def admit(self, pod: v1.Pod) -> list[Finding]:
        return self.findings

    def owned(self, old: v1.Pod | None, new: v1.Pod) -> v1.Pod:
        return new

    def run(self, pod: v1.Pod) -> PodWorker:
        return self.node.run_pod(pod)

    def configure(self, configuration: Configuration) -> None:
        self.configurations.append(configuration)


class Api:
    """The registry as a client sees it, by the names of its kinds."""

    def __init__(self, registry: ObjectRegistry, pods: FakePods, store: Any, w: World) -> None:
        self.registry = registry
        self.cache = registry.cache
        self.pods = pods
        self.store = store
        self.world = w
        self.clock = w.clock

    async def create(
        self, plural: str, body: Json, namespace: str = "default", options: WriteOptions = PLAIN
    ) -> Answer:
        resource = _resource(plural)
        place = namespace if resource.namespaced else ""
        return await self.registry.create(resource, place, body, options)

    async def change(
        self,
        plural: str,
        name: str,
        changes: Json,
        namespace: str = "default",
        options: WriteOptions = PLAIN,
        subresource: str = "",
    ) -> Answer:
        """A merge patch; None removes."""
        resource = _resource(plural)

        def merge(body: Json | None) -> Json:
            assert body is not None
            return merged(body, changes)

        place = namespace if resource.namespaced else ""
        return await self.registry.update(
            resource, place, name, merge, options, subresource=subresource
        )

    async def replace(
        self, plural: str, name: str, body: Json, namespace: str = "default"
    ) -> Answer:
        resource = _resource(plural)
        place = namespace if resource.namespaced else ""
        return await self.registry.update(resource, place, name, lambda _: body, PLAIN)

    async def delete(
        self, plural: str, name: str, namespace: str = "default", **options: Any
    ) -> Json:
        resource = _resource(plural)
        place = namespace if resource.namespaced else ""
        answer = await self.registry.delete(resource, place, name, DeleteOptions(**options))
        return answer.object

    async def post(
        self,
        plural: str,
        name: str,
        subresource: str,
        body: Json,
        namespace: str = "default",
        options: WriteOptions = PLAIN,
    ) -> Json:
        resource = _resource(plural)
        answer = await self.registry.post(resource, namespace, name, subresource, body, options)
        return answer.object

    def get(self, plural: str, name: str, namespace: str = "default") -> Json | None:
        resource = _resource(plural)
        place = namespace if resource.namespaced else ""
        entry = self.cache.get(resource.key, place, name)
        return None if entry is None else entry.object


def _resource(plural: str) -> Any:
    name, _, group = plural.partition(".")
    found = [r for r in resources.RESOURCES if (r.plural, r.group) == (name, group)]
    return found[0]


def merged(body: Any, changes: Any) -> Any:
    if not isinstance(changes, dict) or not isinstance(body, dict):
        return changes
    out = {key: value for key, value in body.items() if key not in changes}
    for key, value in changes.items():
        if value is not None:
            out[key] = merged(body.get(key, {}), value)
    return out


async def refusal(coroutine: Any) -> ApiError:
    """The error that a request ends with."""
    try:
        await coroutine
    except ApiError as error:
        return error
    raise AssertionError("it was not refused")


def pod(name: str = "web", **spec: Any) -> Json:
    container = {"name": "a", "command": ["a"]}
    return {"metadata": {"name": name}, "spec": {"containers": [container]} | spec}


def config_map(name: str = "settings", **fields: Any) -> Json:
    return {"metadata": {"name": name}, "data": {"key": "value"}} | fields


@asynccontextmanager
async def api(
    clock: Clock, programs: dict[str, Program] | None = None, store: Any = None
) -> AsyncIterator[Api]:
    """With a namespace `default`, and nothing else of what a cluster keeps."""
    store = store or MemoryStore()
    cache = Cache()
    async with world(clock, dict(programs or {"a": Program()}), store=store) as w:
        await cache.start(store)
        pods = FakePods(w.node)
        registry = ObjectRegistry(store, cache, pods, user="me", is_token=lambda t: t == "mine")
        client = Api(registry, pods, store, w)
        if cache.get("namespaces", "", "default") is None:
            await client.create("namespaces", {"metadata": {"name": "default"}})
        yield client


async def until(a: Api, test: Callable[[], object]) -> Any:
    """Wait until something is so, a minute at most of the clock that jumps."""
    for _ in range(600):
        found = test()
        if found:
            return found
        await a.clock.sleep(0.1)
    raise AssertionError("it never was so")
