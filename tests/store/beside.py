"""A node that commits, ends and starts again: `python -m tests.store.beside PATH SECONDS`.

Every second life ends with SIGKILL. Somebody else reads meanwhile, and makes PATH.enough when he
has read enough: it goes on for so many seconds, and until then.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
import time

import anyio

from supervisor.store.sqlite import SQLiteStore
from tests.store.conftest import change, event, numbered


async def node(path: str, turn: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    async with SQLiteStore(path) as store:
        stored = (await store.load()).pods
        first = int(stored[0].record.status.message) + 1 if stored else 0
        for number in itertools.count(first):
            told = event(f"e{number}", message="x" * 2000)  # so that the log begins anew often
            await store.commit(change(numbered("u-1", number), 0, told))
            if time.monotonic() > end:
                break
        if turn % 2:
            os.kill(os.getpid(), signal.SIGKILL)


def main(path: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    turn = 0
    while time.monotonic() < end or not os.path.exists(f"{path}.enough"):
        turn += 1
        child = os.fork()
        if not child:
            try:
                anyio.run(node, path, turn, random.uniform(0, 0.2))
            finally:
                os._exit(0)
        os.waitpid(child, 0)
    print(turn)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
