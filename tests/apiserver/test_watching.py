"""Whoever lists and then watches knows at every moment what there is."""

from __future__ import annotations

import json
import random
from typing import Any

import anyio
import pytest

from supervisor.apiserver import listing
from supervisor.apiserver.cache import Cache
from supervisor.apiserver.listing import Watching
from supervisor.apiserver.negotiation import Query, View
from supervisor.apiserver.resources import named
from supervisor.store.memory import MemoryStore
from tests.apiserver.served import edit

pytestmark = pytest.mark.anyio

MAPS = named("configmaps")
Known = dict[tuple[str, str], str]  # the resourceVersion of each object


def query(**fields: str) -> Query:
    return Query(fields, {key: [value] for key, value in fields.items()})


def listed(cache: Cache, selector: str) -> tuple[int, list[Any]]:
    answer = page(cache, labelSelector=selector)
    return int(answer["metadata"]["resourceVersion"]), answer["items"]


def page(cache: Cache, **fields: str) -> Any:
    asked = listing.options(MAPS, query(**fields))
    return json.loads(listing.list_objects(cache, MAPS, "", asked, View()))


def versions(items: list[Any]) -> Known:
    return {key(item): item["metadata"]["resourceVersion"] for item in items}


def key(item: Any) -> tuple[str, str]:
    return item["metadata"]["namespace"], item["metadata"]["name"]


class Watcher:
    """Lists, watches from there, and keeps what it knows."""

    def __init__(self, cache: Cache, selector: str) -> None:
        self.selector = selector
        self.version, items = listed(cache, selector)
        self.known = versions(items)
        asked = listing.options(
            MAPS, query(labelSelector=selector, resourceVersion=str(self.version), watch="true")
        )
        self.blocks = Watching(cache, MAPS, "", asked, View()).blocks()

    async def run(self) -> None:
        async for block in self.blocks:
            for line in block.splitlines():
                self.take(**json.loads(line))

    def take(self, type: str, object: Any) -> None:
        version = int(object["metadata"]["resourceVersion"])
        assert version > self.version, "changes come in order, and once"
        self.version = version
        assert (type == "ADDED") == (key(object) not in self.known)
        if type == "DELETED":
            del self.known[key(object)]
        else:
            self.known[key(object)] = str(version)


async def write(store: MemoryStore, seed: int) -> None:
    chance = random.Random(seed)
    for n in range(150):
        name, namespace = chance.choice("abcdef"), chance.choice(("one", "two"))
        labels = {"side": chance.choice(("left", "right"))}
        body = {"metadata": {"labels": labels}, "data": {"by": f"{seed}-{n}"}}
        gone = chance.random() < 0.3
        await store.edit(edit("configmaps", name, None if gone else body, namespace))
        if chance.random() < 0.5:
            await anyio.sleep(0)


@pytest.mark.parametrize("seed", range(5))
async def test_many_writers_and_each_watcher_knows_what_a_list_says(seed: int) -> None:
    store, cache = MemoryStore(), Cache()
    await cache.start(store)
    await store.edit(edit("configmaps", "first", {}))  # to watch from 0 is to begin anywhere
    watchers = []
    async with anyio.create_task_group() as watching:
        async with anyio.create_task_group() as writing:
            for writer in range(4):
                writing.start_soon(write, store, seed * 10 + writer)
            for n in range(12):
                await anyio.sleep(0)
                watchers.append(Watcher(cache, ("", "side=left", "side!=left")[n % 3]))
                watching.start_soon(watchers[-1].run)
        with anyio.fail_after(60):
            for watcher in watchers:
                while watcher.known != versions(listed(cache, watcher.selector)[1]):
                    await anyio.sleep(0)
        watching.cancel_scope.cancel()


async def test_pages_are_of_one_moment_while_others_write() -> None:
    store, cache = MemoryStore(), Cache()
    await cache.start(store)
    await write(store, 1)
    first = page(cache, limit="2")
    version, expected = listed(cache, "")
    token, items = first["metadata"]["continue"], first["items"]
    await write(store, 2)
    while token:
        more = page(cache, limit="2", **{"continue": token})
        assert int(more["metadata"]["resourceVersion"]) == version
        items += more["items"]
        token = more["metadata"].get("continue")
    assert items == expected
