"""What a container leaves behind while it runs: processes, zombies, descriptors.

    async with testing.no_leaks(pod):
        ...                              # use the service
    await testing.exec_storm(pod, ["true"], count=200, concurrency=20)

The end of a container takes all its processes with it, so leaks are of the time before: a main that
starts helpers and forgets them, or that is pid 1 and does not wait for orphans, runs into limits
after a week. What there is is counted at the beginning and at the end of the block; at its end it
is given a while to come back to that.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
from msgspec import Struct

from supervisor.embed import PodHandle
from supervisor.errors import UsageError
from supervisor.runtime import procfs
from supervisor.testing import processes
from supervisor.testing.signals import container_name, mains_are_pid1

_LOOK = 0.02  # seconds between two looks
_SHOWN = 10


class Holdings(Struct, frozen=True):
    """What a container has at one moment."""

    main: int  # its pid on the host
    processes: dict[tuple[int, int], str]  # pid and start of all others that live: their commands
    zombies: dict[tuple[int, int], int]  # of those that have ended, the parent that did not wait
    descriptors: Counter[str]  # of the main process, by what they lead to; empty where unknown


def holdings(pod: PodHandle, container: str = "") -> Holdings:
    """What a running container has now. Raises AssertionError where it does not run."""
    name = container_name(pod, container)
    main = pod.containers[name].pid
    if main is None:
        raise AssertionError(f"cannot look for leaks: container {name} does not run")
    living: dict[tuple[int, int], str] = {}
    zombies: dict[tuple[int, int], int] = {}
    root = processes.root_of(main, is_pid1=mains_are_pid1(pod))
    for process in processes.descendants(root):
        key = (process.pid, process.started)
        if process.state in "ZX":
            zombies[key] = process.ppid
        elif process.pid != main:
            living[key] = procfs.command_line(process.pid, pod.veiled)
    return Holdings(main, living, zombies, _descriptors(main))


@asynccontextmanager
async def no_leaks(
    pod: PodHandle, container: str = "", *, settle: float = 2.0, descriptors: int = 0
) -> AsyncIterator[None]:
    """Raise AssertionError if a container has more at the end of the block than at its beginning.

    That is: processes, zombies, and open descriptors of the main process; of these so many more are
    allowed as `descriptors` says (a pool of connections that fills). `settle`: the seconds that it
    has to come back to what it was.
    """
    before = holdings(pod, container)
    yield
    deadline = time.monotonic() + settle
    while leaks := compare(before, after := holdings(pod, container), descriptors):
        if after.main != before.main or time.monotonic() > deadline:
            name = container_name(pod, container)
            lines = [f"{name} has left something behind:", *(f"  {leak}" for leak in leaks)]
            raise AssertionError("\n".join(lines))
        await anyio.sleep(_LOOK)


def compare(before: Holdings, after: Holdings, descriptors: int = 0) -> list[str]:
    """What there is more, one sentence each."""
    if before.main != after.main:
        return ["it was restarted meanwhile, so nothing can be compared"]
    leaks = []
    new = [command for key, command in after.processes.items() if key not in before.processes]
    # One that has replaced another is no leak.
    if len(after.processes) > len(before.processes):
        leaks.append(f"{_count(len(new), 'process', 'processes')}: {_some(new)}")
    zombies = [parent for key, parent in after.zombies.items() if key not in before.zombies]
    if len(after.zombies) > len(before.zombies):
        parents = [
            f"process {parent} `{procfs.command_line(parent)}`" for parent in dict.fromkeys(zombies)
        ]
        leaks.append(
            f"{_count(len(zombies), 'zombie', 'zombies')}, not waited for by {_some(parents)}"
        )
    more = after.descriptors.total() - before.descriptors.total()
    if before.descriptors and more > descriptors:
        added = (after.descriptors - before.descriptors).elements()
        leaks.append(f"{_count(more, 'descriptor', 'descriptors')}: {_some(list(added))}")
    return leaks


class Storm(Struct, frozen=True):
    """What came of many programs."""

    count: int
    seconds: float
    exit_codes: dict[int | None, int]  # None: it took too long, and was killed


async def exec_storm(
    pod: PodHandle,
    argv: Sequence[str],
    count: int = 100,
    concurrency: int = 10,
    *,
    container: str = "",
    exit_code: int | None = 0,
    timeout: float = 10.0,
    settle: float = 2.0,
) -> Storm:
    """Run a program in a container many times, as exec probes do in the course of weeks.

    Raises AssertionError if any ends with another code than `exit_code` (None: any) or takes
    longer than `timeout` seconds, or if the container has more processes, zombies or descriptors
    than before when all have ended; PodError where it does not run any more.
    """
    if count < 1 or concurrency < 1:
        raise UsageError("cannot run a storm of no programs")
    name = container_name(pod, container)
    codes: Counter[int | None] = Counter()
    outputs: dict[int | None, str] = {}
    left = iter(range(count))

    async def run_some() -> None:
        for _ in left:
            done = await pod.exec(name, argv, timeout=timeout)
            codes[done.exit_code] += 1
            outputs.setdefault(done.exit_code, done.output)

    begin = time.monotonic()
    async with no_leaks(pod, name, settle=settle):
        runs = [asyncio.ensure_future(run_some()) for _ in range(min(concurrency, count))]
        try:
            # Not a task group: what a run raises is to come out of here as it is.
            await asyncio.gather(*runs)
        finally:
            for run in runs:
                run.cancel()
            await asyncio.wait(runs)
        seconds = time.monotonic() - begin
    wrong = {code: n for code, n in codes.items() if code is None or exit_code not in (None, code)}
    if wrong:
        lines = [f"{sum(wrong.values())} of {count} programs in {name} went wrong:"]
        for code, n in wrong.items():
            how = f"not ended in {timeout:g} s" if code is None else f"exit code {code}"
            lines.append(f"  {n} times {how}; printed: {outputs[code].strip()[:200]!r}")
        raise AssertionError("\n".join(lines))
    return Storm(count, seconds, dict(codes))


def _descriptors(pid: int) -> Counter[str]:
    """By what they lead to: sockets and pipes without their numbers."""
    found: Counter[str] = Counter()
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:  # another user's
        return found
    for name in names:
        try:
            link = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue
        found[link.partition(":[")[0]] += 1
    return found


def _count(number: int, one: str, many: str) -> str:
    return f"1 {one} more" if number == 1 else f"{number} {many} more"


def _some(texts: Sequence[str]) -> str:
    counted = [f"{n} x {text}" if n > 1 else text for text, n in Counter(texts).items()]
    rest = ", …" if len(counted) > _SHOWN else ""
    return ", ".join(counted[:_SHOWN]) + rest
