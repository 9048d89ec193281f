"""Nodes that are killed while they commit: `python -m tests.store.killed FOLDER COUNT`.

Each is a fork of this process, which has everything loaded. It opens the store, then some pods
commit numbers and say on a pipe what was acknowledged. It is killed at a random moment; then the
database must hold each number that was acknowledged, or the next one, and nothing half. Now and
then the database is begun anew, so that some die while it is made.
"""

from __future__ import annotations

import os
import random
import select
import signal
import sys
import time
from collections import Counter

import anyio

from supervisor.store.contract import Snapshot
from supervisor.store.sqlite import SQLiteStore, read
from tests.store.conftest import change, event, numbered

PODS = 5
BACKENDS = ("asyncio", "trio")


async def node(path: str, known: dict[str, int], said: int) -> None:
    async with SQLiteStore(path) as store:
        found = numbers(await store.load())
        assert all(found[uid] >= number for uid, number in known.items()), (found, known)

        async def commit(uid: str) -> None:
            for number in range(found.get(uid, 0) + 1, sys.maxsize):
                told = event(f"{uid}.{number}", uid=uid)
                await store.commit(change(numbered(uid, number), 0, told, synced=number % 5 == 0))
                os.write(said, f"{uid} {number}\n".encode())

        async with anyio.create_task_group() as tasks:
            for index in range(PODS):
                tasks.start_soon(commit, f"u-{index}")


def numbers(found: Snapshot) -> dict[str, int]:
    """The number of each pod, which all that is stored of it must agree on."""
    newest = {e.involved_object.uid: e.metadata.name for e in found.events}
    given = {}
    for stored in found.pods:
        uid, number = stored.record.pod.metadata.uid, int(stored.record.status.message)
        assert stored.record.conditions[0].status == str(number), "half a record"
        assert newest[uid] == f"{uid}.{number}", "a record without its event"
        given[uid] = number
    assert len(newest) == len(given), "an event without its record"
    return given


def live(
    path: str, known: dict[str, int], backend: str, seconds: float, *, busy: bool
) -> dict[str, int]:
    """One node's life, and what it acknowledged. It ends so many seconds after its beginning, or,
    if it is to be busy, after its first commit."""
    hear, said = os.pipe()
    child = os.fork()
    if not child:
        try:
            anyio.run(node, path, known, said, backend=backend)
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
        os._exit(1)
    os.close(said)
    text = os.read(hear, 65536) if busy else b""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if select.select([hear], [], [], left)[0]:
            part = os.read(hear, 65536)
            text += part
            if not part:
                break
    os.kill(child, signal.SIGKILL)
    while part := os.read(hear, 65536):
        text += part
    os.close(hear)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    given = dict(known)
    for line in text.decode().split("\n")[:-1]:
        uid, _, number = line.partition(" ")
        assert int(number) == given.get(uid, 0) + 1, "numbers are acknowledged in their order"
        given[uid] = int(number)
    return given


def main(folder: str, count: int) -> None:
    chance = random.Random()
    seen: Counter[str] = Counter()
    for backend in BACKENDS:
        anyio.run(anyio.sleep, 0, backend=backend)  # what that imports, each fork has then
    path, known = "", dict[str, int]()
    for turn in range(count):
        if turn % 5 == 0:
            os.mkdir(os.path.join(folder, str(turn)))
            path, known = os.path.join(folder, str(turn), "store.db"), {}
        before = known
        busy = turn % 5 in (1, 2, 3)
        backend, seconds = chance.choice(BACKENDS), chance.uniform(0, 0.03 if busy else 0.1)
        known = live(path, known, backend, seconds, busy=busy)
        if not os.path.exists(path):
            assert not known, "the database is lost"
            seen["before there was a database"] += 1
            continue
        found = numbers(read(path))
        for uid, number in found.items():
            assert number - known.get(uid, 0) in (0, 1), (uid, number, known)
        assert found.keys() >= known.keys(), "a pod is lost"
        seen["while committing" if known != before else "while opening"] += 1
        known = found
    print(f"{count} killed: {dict(seen)}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
