"""One program as pid 1 and as an ordinary process, and what makes the difference.

    comparison = await testing.compare_pid1(["python3", "worker.py"], until="ready")
    assert not comparison.differences, comparison

In a container the main process is pid 1 of its namespace, and pid 1 is special: a signal that it
has no handler for is dropped, and orphans of the whole container are its to wait for. So a program
that ends well in a terminal hangs in a cluster until SIGKILL. Here it is run twice, in a namespace
of its own and in none (isolation mode `group`), used in the same way, and sent the same signal.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping

import anyio
from msgspec import Struct

from supervisor.embed import PodHandle, Source, Supervisor
from supervisor.errors import PodError, PodTimeout, UsageError
from supervisor.runtime import procfs
from supervisor.runtime.spec import signal_number
from supervisor.testing import processes
from supervisor.testing.shutdown import child_of_shell
from supervisor.testing.signals import (
    SignalTable,
    container_name,
    mains_are_pid1,
    signal_table,
)

_ORPHAN = ("sh", "-c", "(sleep 0.05 &)")  # leaves a process that ends a moment later
_WAITED_FOR = 0.5  # seconds after that, in which somebody waits for it
_LOOK = 0.01


class Behaviour(Struct, frozen=True):
    """What a program did in one of the two ways."""

    table: SignalTable
    exit_code: int | None  # after the signal; None: it went on
    seconds: float | None  # that its end took
    reaps: bool | None  # orphans are waited for; None: that could not be tried
    why: str = ""  # it went on
    child: str = ""  # the program that its shell had started

    def __str__(self) -> str:
        if self.exit_code is None:
            return "goes on"
        return f"ends with code {self.exit_code}"


class Comparison(Struct, frozen=True):
    """Both ways."""

    signal: str
    as_pid1: Behaviour
    as_child: Behaviour
    differences: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"as pid 1: {self.as_pid1} after {self.signal}",
            f"not as pid 1: {self.as_child} after {self.signal}",
            *(self.differences or ("no difference",)),
            "",
            str(self.as_pid1.table),
        ]
        return "\n".join(lines)


async def compare_pid1(
    source: Source,
    signal: str = "SIGTERM",
    *,
    container: str = "",
    until: str = "",
    settle: float = 0.5,
    timeout: float = 3.0,
    env: Mapping[str, str] | None = None,
) -> Comparison:
    """Run a program as pid 1, then not as pid 1, and send its main process a signal each time.

    `until` is a text that it prints when it is up; without one it is given `settle` seconds.
    `timeout`: how long its end may take until it is said to go on. Raises UsageError where no
    namespaces can be made.
    """
    ways = []
    for isolation in ("auto", "group"):
        async with Supervisor(isolation=isolation, env=env, grace_period=0) as node:
            pod = await node.run(source)
            if isolation == "auto" and not mains_are_pid1(pod):
                raise UsageError(
                    "cannot run anything as pid 1 here: no namespaces can be made, or the pod "
                    "shares one; `podvisor doctor` says why"
                )
            name = container_name(pod, container)
            await _be_up(pod, name, until, settle)
            ways.append(await _behaviour(pod, name, signal, timeout))
    as_pid1, as_child = ways
    return Comparison(signal, as_pid1, as_child, explain(signal, as_pid1, as_child))


def explain(signal: str, as_pid1: Behaviour, as_child: Behaviour) -> tuple[str, ...]:
    """What is different and why, one sentence each."""
    differences = []
    if as_pid1.exit_code is None and as_child.exit_code is not None:
        cause = as_pid1.why or "it does not end"
        what = f"{signal} ends it with code {as_child.exit_code} where it is not pid 1; as pid 1 "
        advice = "install a handler, or let an init be pid 1"
        if as_pid1.child:
            advice = f"`{as_pid1.child}`, its child, never gets the signal; start it with exec"
        differences.append(f"{what}it goes on: {cause}; {advice}")
    elif as_pid1.exit_code != as_child.exit_code:
        differences.append(f"{signal}: as pid 1 it {as_pid1}, else it {as_child}")
    if as_pid1.reaps is False and as_child.reaps is not False:
        differences.append(
            "as pid 1 it does not wait for orphans, which stay zombies; else somebody else does"
        )
    return tuple(differences)


async def _be_up(pod: PodHandle, name: str, until: str, settle: float) -> None:
    """Raises PodError when it ends before."""
    await pod.wait_for(lambda _: bool(pod.containers[name].pid))
    if not until:
        await anyio.sleep(settle)
        return
    with anyio.move_on_after(30):
        async for line in pod.logs(name, follow=True):
            if until in line.text:
                return
    raise PodError(f"cannot compare: {name} has never printed {until!r}", pod=pod.name)


async def _behaviour(pod: PodHandle, name: str, signal: str, timeout: float) -> Behaviour:
    table = signal_table(pod, name)
    child = child_of_shell(table.pid, pod.veiled)
    reaps = await _reaps(pod, name, table.pid)
    attempt = next(c.attempt for c in pod.record.containers if c.name == name)

    def exit_code() -> int | None:
        record = next(c for c in pod.record.containers if c.name == name)
        ended = [e for e in (record.ended, record.before) if e and e.attempt == attempt]
        return ended[0].exit_code if ended else None

    begin = time.monotonic()
    await pod.signal(name, signal)
    try:
        await pod.wait_for(lambda _: exit_code() is not None, timeout)
    except PodTimeout:
        why = procfs.explain_deaf(
            table.pid, signal_number(signal), is_pid1=table.is_pid1, secrets=pod.veiled
        )
        return Behaviour(table, None, None, reaps, why or "", child)
    return Behaviour(table, exit_code(), time.monotonic() - begin, reaps, "", child)


async def _reaps(pod: PodHandle, name: str, main: int) -> bool | None:
    """Whether a process that nobody has waited for when its parent ended is waited for."""
    root = processes.root_of(main, is_pid1=mains_are_pid1(pod))

    def zombies() -> set[tuple[int, int]]:
        below = processes.descendants(root)
        return {(each.pid, each.started) for each in below if each.state in "ZX"}

    before = zombies()
    with contextlib.suppress(PodError):
        done = await pod.exec(name, _ORPHAN, timeout=5)
        if done.exit_code:
            return None
        await asyncio.sleep(0.1)  # until the orphan has ended
        for _ in range(round(_WAITED_FOR / _LOOK)):
            if zombies() <= before:
                return True
            await asyncio.sleep(_LOOK)
        return False
    return None
