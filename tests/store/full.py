"""A node on a disk that fills up and gets room again: `python -m tests.store.full FOLDER WAY`.

The disk is a small tmpfs, mounted in a namespace of this process, or a limit to the size of files.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import anyio

from supervisor.store.sqlite import SQLiteStore, read
from tests.store.conftest import change, event, numbered


class Limit:
    def __init__(self, folder: str) -> None:
        del folder
        self.hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]

    def fill(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, self.hard))

    def make_room(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.hard, self.hard))


class Tmpfs:
    def __init__(self, folder: str) -> None:
        mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
        subprocess.run(mount, check=True)
        self.ballast = os.path.join(folder, "ballast")

    def fill(self) -> None:
        with open(self.ballast, "wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)) == 4096:
                    pass
            except OSError:
                pass

    def make_room(self) -> None:
        os.unlink(self.ballast)


async def main(folder: str, way: str) -> None:
    disk = Tmpfs(folder) if way == "tmpfs" else Limit(folder)
    path = os.path.join(folder, "store.db")
    number = 0
    async with SQLiteStore(path) as store:
        for _ in range(2):
            await store.commit(change(numbered("u-1", number)))
            disk.fill()
            try:
                while number < 10_000:
                    told = event(f"e{number + 1}", message="x" * 5000)
                    await store.commit(change(numbered(f"u-{number}", number + 1), 0, told))
                    number += 1
            except OSError as error:
                print(error)
            else:
                raise AssertionError("never full")
            found = await store.load()
            assert not any(e.metadata.name == f"e{number + 1}" for e in found.events)
            assert not number or found.events[-1].metadata.name == f"e{number}"
            disk.make_room()
            await store.commit(change(numbered("u-1", number)))
        found = await store.load()
    assert read(path) == found


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2])
