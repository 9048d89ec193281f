"""Stores for tests, on both loops, and lives to put into them."""

from __future__ import annotations

import pathlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from supervisor.api import v1
from supervisor.lifecycle.facts import rfc3339
from supervisor.lifecycle.record import PodRecord, new_record
from supervisor.store.contract import Change, Store
from supervisor.store.memory import MemoryStore
from supervisor.store.sqlite import SQLiteStore
from tests.lifecycle.lives import POLICY, at, pod

Open = Callable[[], AbstractAsyncContextManager[Store]]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def path(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / "store.db")


@pytest.fixture(params=["memory", "sqlite"])
def reopen(request: pytest.FixtureRequest, path: str) -> Open:
    """Opens the same store again and again, as one node after another does."""
    memory = MemoryStore()

    @asynccontextmanager
    async def open_it() -> AsyncIterator[Store]:
        if request.param == "memory":
            yield memory
        else:
            async with SQLiteStore(path) as store:
                yield store

    return open_it


def record(uid: str = "u-1", name: str = "web", **fields: Any) -> PodRecord:
    """Of a pod that was just taken on."""
    made = pod()
    made = replace(made, metadata=replace(made.metadata, uid=uid, name=name))
    return replace(new_record(made, at(0), POLICY), **fields)


def numbered(uid: str, number: int) -> PodRecord:
    """A record whose object and rest both carry a number."""
    known = record(uid, f"pod-{uid}")
    status = replace(known.status, message=str(number))
    condition = v1.PodCondition(type="number", status=str(number))
    return replace(known, status=status, conditions=(condition,))


def event(name: str, seconds: float = 0, uid: str = "u-1", **fields: Any) -> v1.Event:
    """Told so many seconds after the first pod was taken on."""
    return v1.Event(
        metadata=v1.ObjectMeta(name=name, namespace="shop"),
        involved_object=v1.ObjectReference(kind="Pod", uid=uid),
        last_timestamp=rfc3339(at(seconds)),
        **fields,
    )


def change(known: PodRecord, seconds: float = 0, *events: v1.Event, synced: bool = False) -> Change:
    uid = known.pod.metadata.uid
    return Change(at=at(seconds), uid=uid, record=known, events=events, synced=synced)


def gone(uid: str = "u-1", seconds: float = 0, *events: v1.Event) -> Change:
    return Change(at=at(seconds), uid=uid, record=None, events=events, synced=True)
