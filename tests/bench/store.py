"""What it costs to lose nothing: `python -m tests.bench.store`.

* Latency: from a decision to its durable commit, with 1, 10 and 100 pods that commit again as soon
  as they may; against kill -9, and against a power failure (synced). Beside it one bare
  write and fsync of as many bytes, on the same disk.
* Size: the files after 100,000 restarts of a pod with three containers, as a real life of it gives
  them: each with its records, its status and its events.
* Start: opening that database again, and reading it from beside.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator

import anyio
import uvloop
from msgspec.structs import replace

from supervisor.kubelet.recorder import Recorder
from supervisor.lifecycle.record import NodePolicy, PodRecord
from supervisor.store.contract import Change
from supervisor.store.sqlite import SQLiteStore, encode, read
from tests.lifecycle.lives import BOOT, WALL, Instant, Life, container, exits, pod

COMMITTERS = (1, 10, 100)


def show(what: str, seconds: list[float]) -> None:
    seconds = sorted(seconds)
    p99 = seconds[int(len(seconds) * 0.99)]
    print(f"  {what:<52} p50 {statistics.median(seconds) * 1e3:8.3f} ms  p99 {p99 * 1e3:8.3f} ms")


def restarting() -> Life:
    """A pod of three containers, one of which ends a second after its start."""
    apps = (container("app"), container("proxy"), container("crashing"))
    policy = NodePolicy(node_name="here", backoff_initial=1, backoff_max=1)
    return Life(pod(*apps), {"crashing": exits(1, 1)}, policy)


def records_of_a_life(until: float) -> list[PodRecord]:
    """The record after each round."""
    life, records = restarting(), []
    original = life._round

    def watched(heard: list[object]) -> None:
        original(heard)  # type: ignore[arg-type]
        records.append(life.record)

    life._round = watched  # type: ignore[assignment,method-assign]
    life.run(until=until)
    return records


def rename(record: PodRecord, uid: str) -> PodRecord:
    meta = replace(record.pod.metadata, uid=uid, name=uid)
    return replace(record, pod=replace(record.pod, metadata=meta))


async def latency(folder: str, committers: int, seconds: float, *, synced: bool) -> None:
    took: list[float] = []
    records = records_of_a_life(500)
    async with SQLiteStore(os.path.join(folder, f"{committers}-{synced}.db")) as store:
        end = time.perf_counter() + seconds

        async def commit(uid: str) -> None:
            mine = [rename(record, uid) for record in records]
            number = 0
            while time.perf_counter() < end:
                record = mine[number % len(mine)]
                at = Instant(WALL + number, BOOT + number)
                begin = time.perf_counter()
                await store.commit(Change(at=at, uid=uid, record=record, synced=synced))
                took.append(time.perf_counter() - begin)
                number += 1

        async with anyio.create_task_group() as tasks:
            for index in range(committers):
                tasks.start_soon(commit, f"u-{index}")
    kind = "synced" if synced else "against kill -9"
    show(f"{committers:>3} at once, {kind}", took)
    print(f"  {'':<52} {len(took) / seconds:8.0f} commits/s")


def bare(folder: str, size: int, *, synced: bool) -> None:
    took = []
    with open(os.path.join(folder, "bare"), "wb", buffering=0) as file:
        for _ in range(300):
            begin = time.perf_counter()
            file.write(bytes(size))
            if synced:
                os.fdatasync(file.fileno())
            took.append(time.perf_counter() - begin)
    show("a bare write" + (" and fdatasync" if synced else ""), took)


def restarts() -> Iterator[Change]:
    """One life for ever: after each round what it decided, and what was told."""
    life, recorder = restarting(), Recorder("here")
    changes: list[Change] = []
    original = life._round

    def watched(heard: list[object]) -> None:
        told = len(life.events)
        original(heard)  # type: ignore[arg-type]
        at = Instant(WALL + life.now, BOOT + life.now)
        events = [recorder.record(life.pod, draft, at) for _, draft in life.events[told:]]
        made = tuple(event for event in events if event is not None)
        uid = life.pod.metadata.uid
        changes.append(Change(at=at, uid=uid, record=life.record, events=made))

    life._round = watched  # type: ignore[assignment,method-assign]
    until = 0.0
    while True:
        until += 3600
        for kept in (life.statuses, life.events, life.actions, life.starts, life.ends):
            kept.clear()
        life.attempts.clear()
        life.processes = {id: p for id, p in life.processes.items() if p.ended is None}
        life.run(until=until)
        yield from changes
        changes.clear()


async def size(folder: str, count: int) -> None:
    path = os.path.join(folder, "store.db")
    largest, commits, begin, attempts = 0, 0, time.perf_counter(), 0
    async with SQLiteStore(path) as store:
        for change in restarts():
            assert change.record is not None
            await store.commit(change)
            commits += 1
            attempts = change.record.containers[2].attempt
            if commits % 1000 == 0:
                largest = max(largest, measure(folder))
            if attempts >= count:
                break
    took = time.perf_counter() - begin
    print(f"\n{attempts:,} restarts of one container in {commits:,} commits, {took:.0f} s")
    print(f"  all files, at most while it ran     {largest / 1024:8.0f} kB")
    print(f"  the database when it was closed     {os.path.getsize(path) / 1024:8.0f} kB")
    print(f"  events kept                         {len(read(path).events):8}")


def measure(folder: str) -> int:
    return sum(e.stat().st_size for e in os.scandir(folder) if e.name.startswith("store.db"))


async def start(folder: str, pods: int) -> None:
    path = os.path.join(folder, "start.db")
    records = records_of_a_life(500)
    at = Instant(WALL, BOOT)
    async with SQLiteStore(path) as store, anyio.create_task_group() as tasks:
        for index in range(pods):
            record = rename(records[-1], f"u-{index}")
            change = Change(at=at, uid=f"u-{index}", record=record)
            tasks.start_soon(functools.partial(store.commit, change))
    opened, looked = [], []
    for _ in range(20):
        begin = time.perf_counter()
        async with SQLiteStore(path) as store:
            await store.load()
            opened.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        read(path)
        looked.append(time.perf_counter() - begin)
    print(f"\n{pods} pods")
    show("opened, checked and loaded", opened)
    show("read from beside", looked)


def run(work: Callable[..., object], *args: object, **options: object) -> None:
    uvloop.run(work(*args, **options))  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.store")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--restarts", type=int, default=100_000)
    options = parser.parse_args()
    # Not TMPDIR, which is often in memory.
    with tempfile.TemporaryDirectory(prefix="podvisor-bench-", dir="/var/tmp") as folder:
        sizes = [len(part) for record in records_of_a_life(100)[-1:] for part in encode(record)]
        print(f"commits of one pod's record ({sizes[0]} bytes of object, {sizes[1]} of record)")
        for synced in (False, True):
            bare(folder, sum(sizes), synced=synced)
            for committers in COMMITTERS:
                run(latency, folder, committers, options.seconds, synced=synced)
        run(start, folder, 200)
        run(size, folder, options.restarts)


if __name__ == "__main__":
    main()
