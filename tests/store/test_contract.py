"""What both stores promise."""

from __future__ import annotations

import anyio
import msgspec
import pytest
from msgspec.structs import replace

from supervisor.api import v1
from supervisor.store.contract import (
    EVENT_TTL,
    EVENTS,
    EVENTS_BYTES,
    EVENTS_PER_POD,
    Edit,
    Revision,
    Snapshot,
)
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


async def test_large_events_take_the_place_of_older_ones(reopen: Open) -> None:
    large = 1 << 20
    async with reopen() as store:
        for turn in range(EVENTS_BYTES // large + 10):
            told = event(f"e{turn}", uid=f"u-{turn}", message="x" * large)
            await store.commit(gone(f"u-{turn}", 0, told))
        found = (await store.load()).events
    kept = sum(len(each.message) for each in found)
    assert EVENTS_BYTES * 0.8 < kept <= EVENTS_BYTES * 1.2
    assert found[-1].metadata.name == f"e{EVENTS_BYTES // large + 9}"


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


# --- other objects, and who follows -------------------------------------------------------------


def config_map(name: str = "settings", value: str | None = "1", second: float = 0) -> Edit:
    body = {"metadata": {"name": name, "namespace": "default"}, "data": {"key": value}}
    return Edit(
        at=at(second),
        resource="configmaps",
        namespace="default",
        name=name,
        body=None if value is None else body,
    )


async def test_other_objects_are_kept_as_they_were_given(reopen: Open) -> None:
    async with reopen() as store:
        await store.edit(config_map("b"))
        version = await store.edit(config_map("a"))
    async with reopen() as store:
        found = (await store.load()).objects
    assert [each.name for each in found] == ["a", "b"]
    assert found[0].body == config_map("a").body
    assert found[0].object["metadata"]["resourceVersion"] == str(version)
    assert found[1].resource_version < version


async def test_an_object_that_is_edited_to_none_is_gone(reopen: Open) -> None:
    async with reopen() as store:
        first = await store.edit(config_map())
        assert await store.edit(config_map(value=None)) > first
        assert (await store.load()).objects == ()


async def test_an_edit_that_changes_nothing_gives_out_no_version(reopen: Open) -> None:
    async with reopen() as store:
        first = await store.edit(config_map())
        assert await store.edit(config_map()) == first
        assert await store.edit(config_map("other", None)) == first
        assert await store.edit(config_map(value="2")) > first


async def test_an_event_of_a_client_is_kept_like_the_nodes_own(reopen: Open) -> None:
    told = event("mine", 5)
    told = replace(told, metadata=replace(told.metadata, namespace="default"))
    body = msgspec.to_builtins(told)
    edit = Edit(at=at(5), resource="events", namespace="default", name="mine", body=body)
    async with reopen() as store:
        await store.edit(edit)
        (found,) = (await store.load()).events
        assert replace(found.metadata, resource_version="") == told.metadata
        await store.edit(replace(edit, body=None))
        assert (await store.load()).events == ()
        await store.edit(edit)
        await store.edit(config_map(second=EVENT_TTL + 6))
        assert (await store.load()).events == ()


async def test_who_follows_is_told_each_revision_in_order_before_its_writer(reopen: Open) -> None:
    heard: list[Revision] = []
    async with reopen() as store:
        store.follow(heard.append)
        version = await store.commit(change(record(), 0, event("a")))
        assert [(r.resource, r.object is None) for r in heard] == [
            ("events", False),
            ("pods", False),
        ]
        assert heard[-1].resource_version == version
        assert isinstance(heard[-1].object, v1.Pod)
        assert heard[-1].object.metadata.resource_version == str(version)
        await store.commit(change(record(), 1))
        assert len(heard) == 2
        await store.edit(config_map("b"))
        await store.edit(config_map("a"))
        assert [r.name for r in heard[2:]] == ["b", "a"]
        await store.commit(gone("u-1", 2))
        assert heard[-1].object is None
        await store.commit(gone("u-9", 3))
        assert len(heard) == 5
        await store.commit(change(record(), EVENT_TTL + 1))
        assert [(r.resource, r.object is None) for r in heard[5:]] == [
            ("pods", False),
            ("events", True),
        ]
        found = await store.load()
    versions = [r.resource_version for r in heard]
    assert versions == sorted(set(versions))
    assert found.resource_version == versions[-1]


async def test_a_pod_whose_deletion_was_forced_is_shown_as_gone_and_its_record_kept(
    reopen: Open,
) -> None:
    heard: list[Revision] = []
    known = record()
    forced = replace(known, forced=True)
    async with reopen() as store:
        store.follow(heard.append)
        await store.commit(change(known))
        await store.commit(change(forced, 1))
        other = record("u-2")
        await store.commit(change(other, 2))
        status = v1.PodStatus(phase="Failed")
        await store.commit(change(replace(forced, status=status), 3))
    async with reopen() as store:
        store.follow(heard.append)
        assert [s.record.forced for s in (await store.load()).pods] == [True, False]
        await store.commit(gone("u-1", 4))
    assert [r.object and r.object.metadata.uid for r in heard] == ["u-1", None, "u-2"]  # type: ignore[union-attr]


async def test_a_pod_that_was_never_shown_is_not_told_to_be_gone(reopen: Open) -> None:
    heard: list[Revision] = []
    async with reopen() as store:
        store.follow(heard.append)
        await store.commit(change(replace(record(), forced=True)))
        await store.commit(gone())
    assert heard == []
