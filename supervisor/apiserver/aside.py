"""Large objects are worked on beside the event loop, which has pods to look after.

Most requests are done in less than a millisecond. One of some megabytes can take seconds to be
read, merged, checked and compared, and every probe would wait as long, and be late. So what is pure
of it is done on a thread: the registry and the server hand it over with how large it is. One
thread for each of them, because more would only take turns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

T = TypeVar("T")

LARGE = 64 << 10  # bytes of JSON, about ten milliseconds


class Aside:
    """Does the work of one owner, one after the other."""

    def __init__(self) -> None:
        self._thread = anyio.CapacityLimiter(1)

    async def run(self, size: int, work: Callable[[], T]) -> T:
        """What `work` gives or raises. On the event loop where it is small or no thread can be
        had."""
        if size < LARGE:
            return work()
        begun = False

        def begin() -> T:
            nonlocal begun
            begun = True
            return work()

        try:
            return await anyio.to_thread.run_sync(begin, limiter=self._thread)
        except RuntimeError:
            if begun:
                raise
            return work()
