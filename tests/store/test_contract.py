"""What both stores promise."""

from __future__ import annotations

import anyio
import pytest
from msgspec.structs import replace

from supervisor.api import v1
from supervisor.store.contract import EVENT_TTL, EVENTS, EVENTS_PER_POD, Snapshot
from tests.lifecycle.lives import at
from tests.store.conftest import Open, change, event, gone, numbered, record

pytestmark = pytest.mark.anyio


async def test_a_new_store_holds_nothing(reopen: Open) -> None:
    async with reopen() as store:
        assert await store.load() == Snapshot()


async def test_the_next_node_finds_what_was_committed(reopen: Open) -> None:
    first, second = record("u-1", "web"), record("u-2", "db")
    async with reopen() as store:
        await store.commit(change(first, 1, event("a")))
        version = await store.commit(change(second, 2))
    async with reopen() as store:
        found = await store.load()
    assert [stored.record for stored in found.pods] == [first, second]
    assert [e.metadata.name for e in found.events] == ["a"]
    assert found.committed == at(2)
    assert found.resource_version == version


async def test_a_pod_is_shown_with_its_status_and_resource_version(reopen: Open) -> None:
    known = record(status=v1.PodStatus(phase="Running"))
    async with reopen() as store:
        version = await store.commit(change(known))
        (stored,) = (await store.load()).pods
    assert stored.pod.status.phase == "Running"
    assert stored.pod.metadata.resource_version == str(version)
    assert stored.pod.spec == known.pod.spec


async def test_the_resource_version_moves_with_the_object_and_only_with_it(reopen: Open) -> None:
    known = record()
    async with reopen() as store:
        first = await store.commit(change(known))
        assert await store.commit(change(known)) == first
        known = replace(known, owed_events=())
        assert await store.commit(change(known)) == first
        assert (await store.load()).pods[0].record == known
        known = replace(known, status=v1.PodStatus(phase="Running"))
        second = await store.commit(change(known))
        assert second > first
        meta = replace(known.pod.metadata, deletion_timestamp="2027-01-15T08:00:00Z")
        known = replace(known, pod=replace(known.pod, metadata=meta))
        assert await store.commit(change(known)) > second


async def test_resource_versions_never_go_back(reopen: Open) -> None:
    """Also when the pod that had the highest is gone, and over the end of the node."""
    given = []
    for turn in range(3):
        async with reopen() as store:
            given.append(await store.commit(change(record(), turn, event(f"e{turn}"))))
            given.append(await store.commit(gone()))
            given.append((await store.load()).resource_version + 1)
    assert given[0] < given[1] < given[2] <= given[3] < given[4] < given[5] <= given[6]


async def test_each_event_has_a_resource_version_of_its_own(reopen: Open) -> None:
    async with reopen() as store:
        await store.commit(change(record(), 0, event("a"), event("b")))
        await store.commit(change(record("u-2"), 0, event("c", uid="u-2")))
        found = await store.load()
    versions = [int(e.metadata.resource_version) for e in found.events]
    versions += [stored.resource_version for stored in found.pods]
    assert len(set(versions)) == 5


async def test_an_event_that_is_told_again_replaces_itself(reopen: Open) -> None:
    async with reopen() as store:
        await store.commit(change(record(), 0, event("a", count=1), event("b", count=1)))
        await store.commit(change(record(), 5, event("a", 5, count=2)))
        found = await store.load()
    assert [(e.metadata.name, e.count) for e in found.events] == [("b", 1), ("a", 2)]


async def test_of_a_pod_that_is_gone_only_its_events_stay(reopen: Open) -> None:
    async with reopen() as store:
        await store.commit(change(record(), 0, event("a")))
        await store.commit(gone("u-1", 1, event("b")))
        found = await store.load()
        assert found.pods == ()
        assert [e.metadata.name for e in found.events] == ["a", "b"]


async def test_a_pod_may_go_that_was_never_stored(reopen: Open) -> None:
    async with reopen() as store:
        await store.commit(gone("u-9"))
        assert (await store.load()).pods == ()


async def test_events_are_forgotten_an_hour_after_they_were_told_last(reopen: Open) -> None:
    known = record()
    async with reopen() as store:
        await store.commit(change(known, 0, event("old"), event("again")))
        await store.commit(change(known, 60, event("again", 60)))
        await store.commit(change(known, EVENT_TTL))
        assert len((await store.load()).events) == 2
        await store.commit(change(known, EVENT_TTL + 1))
        assert [e.metadata.name for e in (await store.load()).events] == ["again"]
        await store.commit(gone("u-1", EVENT_TTL + 61))
        assert (await store.load()).events == ()


async def test_only_the_newest_events_of_a_pod_are_kept(reopen: Open) -> None:
    async with reopen() as store:
        await store.commit(change(record("u-2"), 0, event("other", uid="u-2")))
        for start in range(0, EVENTS_PER_POD + 100, 50):
            told = (event(f"e{start + n}") for n in range(50))
            await store.commit(change(record(), 0, *told))
        names = [e.metadata.name for e in (await store.load()).events]
    assert names == ["other", *(f"e{n}" for n in range(100, EVENTS_PER_POD + 100))]


async def test_events_of_pods_that_come_and_go_are_bounded(reopen: Open) -> None:
    count = 100  # of each pod
    async with reopen() as store:
        for turn in range(EVENTS // count + 20):
            told = (event(f"{turn}-{n}", uid=f"u-{turn}") for n in range(count))
            await store.commit(gone(f"u-{turn}", 0, *told))
        found = (await store.load()).events
    assert EVENTS <= len(found) < EVENTS + 500
    assert found[-1].metadata.name == f"{EVENTS // count + 19}-{count - 1}"


async def test_a_caller_that_is_cancelled_leaves_a_whole_change_or_none(reopen: Open) -> None:
    async with reopen() as store:
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(store.commit, change(numbered(f"u-{number}", 1)))
            await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        # The store goes on.
        await store.commit(change(numbered("u-0", 2)))
        found = await store.load()
    shown = {stored.record.pod.metadata.uid: stored.record for stored in found.pods}
    assert shown.pop("u-0") == numbered("u-0", 2)
    assert all(known == numbered(uid, 1) for uid, known in shown.items())
