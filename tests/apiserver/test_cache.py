"""What reads and watches see of the store."""

from __future__ import annotations

import anyio
import pytest

from supervisor.apiserver import cache as caches
from supervisor.apiserver.cache import Cache
from supervisor.apiserver.contract import ApiError
from supervisor.store.contract import Edit
from supervisor.store.memory import MemoryStore
from tests.lifecycle.lives import at
from tests.store.conftest import change, event, gone, record

pytestmark = pytest.mark.anyio


def edit(name: str, value: str | None = "1", namespace: str = "default") -> Edit:
    body = {"metadata": {"name": name, "namespace": namespace}, "data": {"key": value}}
    return Edit(
        at=at(0),
        resource="configmaps",
        namespace=namespace,
        name=name,
        body=None if value is None else body,
    )


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def cache(store: MemoryStore) -> Cache:
    cache = Cache()
    await cache.start(store)
    return cache


async def seen(cache: Cache, since: int, count: int, kind: str = "configmaps") -> list[str]:
    """The next changes."""
    with cache.watch(kind, "", since) as watch, anyio.fail_after(60):
        found = [await anext(watch) for _ in range(count)]
    return [f"{change.type} {change.entry.name}" for change in found]


async def test_what_was_there_is_known_and_what_comes_is_followed(store: MemoryStore) -> None:
    await store.edit(edit("old"))
    await store.commit(change(record(), 0, event("a")))
    cache = Cache()
    await cache.start(store)
    version = await store.edit(edit("new"))
    assert [e.name for e in cache.list("configmaps")] == ["new", "old"]
    assert cache.version == version
    (pod,) = cache.list("pods")
    assert pod.object["kind"] == "Pod"
    assert pod.object["metadata"]["resourceVersion"] == str(pod.version)
    assert pod.uid == "u-1"
    assert [e.object["involvedObject"]["uid"] for e in cache.list("events")] == ["u-1"]


async def test_lists_are_ordered_and_cut_to_their_namespace(
    store: MemoryStore, cache: Cache
) -> None:
    for namespace, name in (("b", "z"), ("b", "a"), ("a", "m"), ("c", "x"), ("b", "k")):
        await store.edit(edit(name, namespace=namespace))
    await store.edit(edit("k", None, "b"))
    assert [(e.namespace, e.name) for e in cache.list("configmaps")] == [
        ("a", "m"),
        ("b", "a"),
        ("b", "z"),
        ("c", "x"),
    ]
    assert [e.name for e in cache.list("configmaps", "b")] == ["a", "z"]
    assert cache.list("configmaps", "nobody") == []
    assert cache.list("secrets") == []


async def test_a_watch_replays_from_its_version_and_goes_on(
    store: MemoryStore, cache: Cache
) -> None:
    first = await store.edit(edit("a"))
    await store.edit(edit("a", "2"))
    await store.commit(change(record()))
    await store.edit(edit("a", None))
    assert await seen(cache, first, 2) == ["MODIFIED a", "DELETED a"]
    assert await seen(cache, 0, 3) == ["ADDED a", "MODIFIED a", "DELETED a"]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.edit, edit("b"))
        assert await seen(cache, cache.version, 1) == ["ADDED b"]


async def test_a_deletion_shows_the_last_state_at_the_version_of_the_end(
    store: MemoryStore, cache: Cache
) -> None:
    known = await store.commit(change(record()))
    version = await store.commit(gone())
    with cache.watch("pods", "", known) as watch:
        change_ = await anext(watch)
    assert change_.type == "DELETED"
    assert change_.entry.object["metadata"]["uid"] == "u-1"
    assert change_.entry.object["metadata"]["resourceVersion"] == str(version)
    assert change_.before is not None
    assert change_.before.version == known


async def test_what_is_not_remembered_is_expired(
    store: MemoryStore, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = [await store.edit(edit("a", str(n))) for n in range(caches.REMEMBERED + 3)]
    with pytest.raises(ApiError) as told:
        cache.watch("configmaps", "", versions[0])
    assert (told.value.code, told.value.reason) == (410, "Expired")
    assert len(await seen(cache, versions[2], caches.REMEMBERED)) == caches.REMEMBERED


async def test_large_objects_are_remembered_for_a_shorter_time(
    store: MemoryStore, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caches, "REMEMBERED_BYTES", 5000)
    versions = [await store.edit(edit("a", f"{n:01000}")) for n in range(6)]
    versions.append(await store.edit(edit("a", None)))
    assert len(await seen(cache, versions[3], 3)) == 3
    with pytest.raises(ApiError) as told:
        cache.watch("configmaps", "", versions[1])
    assert (told.value.code, told.value.reason) == (410, "Expired")
    last = await store.edit(edit("b", "x" * 6000))  # one that is too large by itself
    with cache.watch("configmaps", "", last):
        pass
    with pytest.raises(ApiError):
        cache.watch("configmaps", "", versions[-1])


async def test_what_was_before_the_start_is_expired_too(store: MemoryStore) -> None:
    old = await store.edit(edit("a"))
    now = await store.edit(edit("b"))
    cache = Cache()
    await cache.start(store)
    with pytest.raises(ApiError):
        cache.watch("configmaps", "", old)
    with cache.watch("configmaps", "", now):
        pass


async def test_a_watch_that_is_not_read_ends_and_holds_nothing_back(
    store: MemoryStore, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caches, "BEHIND", 10)
    with cache.watch("configmaps", "", cache.version) as watch:
        for n in range(11):
            await store.edit(edit("a", str(n)))
        assert watch.is_behind
        with pytest.raises(ApiError) as told:
            await anext(watch)
    assert told.value.code == 410
    assert not any(cache._watches.values())


async def test_a_watch_that_is_not_read_holds_few_large_objects(
    store: MemoryStore, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caches, "BEHIND_BYTES", 5000)
    with cache.watch("configmaps", "", cache.version) as watch:
        for n in range(20):  # whoever reads gets them all
            await store.edit(edit("a", f"{n:06000}"))
            assert (await anext(watch)).type in ("ADDED", "MODIFIED")
        for n in range(2):
            await store.edit(edit("a", f"{n:03000}"))
        with pytest.raises(ApiError) as told:
            await anext(watch)
    assert told.value.code == 410
