"""Does a program end as the cluster will demand: `assert_graceful_shutdown`, and why it does not.

What a report of the node cannot say is seen from outside, while the pod ends: what the main process
does with its stop signal, and which of the container's processes were still there when the main one
ended. Those are killed without a word, here and in a cluster, and their work is lost. On Linux
before 6.15 nobody but their parent knows how they ended, and nothing is said about them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Self

import anyio
from msgspec import Struct

from supervisor.embed import LogLine, PodHandle, Termination
from supervisor.lifecycle.timeline import Moment
from supervisor.runtime import procfs
from supervisor.runtime.spec import signal_number
from supervisor.testing import processes
from supervisor.testing.signals import SignalTable, mains_are_pid1, signal_table

_SAMPLE = 0.003  # seconds between two looks
_DEAF_AFTER = 0.1  # seconds after its stop signal a process is asked why it still lives
_TOGETHER = 0.01  # seconds in which ends count as one
_SWEPT = 2.0  # seconds that sweeping may take
_SIGKILL = 9
_LINES = 20  # of what was printed that are shown
_SHELLS = frozenset({"sh", "bash", "dash", "ash", "busybox", "zsh", "ksh"})


ExitCodes = int | Collection[int] | Mapping[str, int | Collection[int]] | None


class Seen(Struct):
    """What was seen of one container while its pod ended."""

    why: str = ""  # it still lived although it had got its stop signal
    table: SignalTable | None = None  # of its main process
    swept: list[str] = []  # the commands of what was left when it ended


class Shutdown(Struct, frozen=True):
    """How a pod ended, as reported and as seen."""

    termination: Termination
    seen: dict[str, Seen]
    printed: tuple[LogLine, ...]  # meanwhile, by all containers

    def __str__(self) -> str:
        parts = [str(self.termination).rstrip("\n")]
        for end in self.termination.containers:
            seen = self.seen.get(end.name)
            if end.killed and seen is not None and seen.table is not None:
                parts += ["", str(seen.table)]
        if self.printed:
            parts += ["", "printed meanwhile:"]
            parts += [f"  {line.text}" for line in self.printed[-_LINES:]]
        return "\n".join(parts)


async def assert_graceful_shutdown(
    pod: PodHandle,
    grace: int | None = None,
    *,
    within: float | None = None,
    exit_code: ExitCodes = 0,
    lines: Iterable[str] = (),
) -> Termination:
    """Terminate a pod, and raise AssertionError unless all of it ends well; return how it ended.

    That is: no SIGKILL, the exit code (one, several that will do, those of each container by its
    name, or None: any) of every container that ran, all within `within` seconds (the grace, if not
    given), and no process of a container left when its main one ended. `lines` must be printed
    meanwhile, each as part of a line, in this order. The error says what happened instead, with the
    waterfall.
    """
    if not any(view.pid for view in pod.containers.values()):
        raise AssertionError(f"cannot shut down pod {pod.name}: nothing of it runs ({pod.phase})")
    shutdown = await observe_shutdown(pod, grace)
    allowed = within if within is not None else pod.pod.metadata.deletion_grace_period_seconds
    problems = judge(shutdown, exit_code=exit_code, within=allowed)
    problems += missing_lines(lines, [line.text for line in shutdown.printed])
    if problems:
        parts = [f"pod {pod.name} did not shut down gracefully:"]
        parts += [*(f"  {problem}" for problem in problems), "", str(shutdown)]
        raise AssertionError("\n".join(parts))
    return shutdown.termination


async def observe_shutdown(pod: PodHandle, grace: int | None = None) -> Shutdown:
    """Terminate a pod and look at it meanwhile."""
    before = {name: len([line async for line in pod.logs(name)]) for name in pod.containers}
    with Witness(pod) as witness:
        watching = asyncio.ensure_future(witness.watch())
        try:
            termination = await pod.terminate(grace)
            await witness.conclude()
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
    printed: list[LogLine] = []
    for name, count in before.items():
        printed += [line async for line in pod.logs(name)][count:]
    printed.sort(key=lambda line: line.time)
    return Shutdown(termination, witness.seen, tuple(printed))


def judge(shutdown: Shutdown, *, exit_code: ExitCodes, within: float | None) -> list[str]:
    """What was not graceful about it, one sentence each."""
    problems = []
    termination = shutdown.termination
    for end in termination.containers:
        seen = shutdown.seen.get(end.name, Seen())
        if end.killed:
            why = f": {seen.why}" if seen.why else ""
            problems.append(f"{end.name} needed SIGKILL{why}")
            continue
        if (wanted := _wanted(exit_code, end.name)) and end.exit_code not in wanted:
            told = " or ".join(map(str, wanted))
            problems.append(f"{end.name} exited with code {end.exit_code}, not {told}")
        if seen.swept:
            some = ", ".join(f"`{command}`" for command in seen.swept)
            problems.append(
                f"{end.name} left processes behind, which were killed when its main one ended: "
                f"{some}; it has to end them, or wait for them, first"
            )
    if within is not None and termination.seconds > within and not termination.killed:
        problems.append(f"it took {termination.seconds:.2f} s, more than {within:g} s")
    return problems


def _wanted(exit_code: ExitCodes, name: str) -> tuple[int, ...]:
    """The exit codes that will do; none: any."""
    match exit_code:
        case None:
            return ()
        case int():
            return (exit_code,)
        case Mapping():
            return _wanted(exit_code.get(name), name)
        case _:
            return tuple(exit_code)


def missing_lines(wanted: Iterable[str], printed: Iterable[str]) -> list[str]:
    """Which of these were not printed in this order, each as part of a line."""
    left = iter(printed)
    missing = []
    for text in wanted:
        seen = []
        for line in left:
            seen.append(line)
            if text in line:
                break
        else:
            missing.append(f"the line {text!r} was not printed, or not in this order")
            left = iter(seen)
    return missing


def child_of_shell(pid: int, secrets: Iterable[str]) -> str:
    """The command that a shell waits for; empty if the process is none, or waits for nothing."""
    if procfs.command_line(pid).split(" ")[0] not in _SHELLS:
        return ""
    secrets = tuple(secrets)
    commands = (procfs.command_line(child, secrets) for child in procfs.children(pid))
    return next(filter(None, commands), "")


class _Container:
    """One container that runs when the end begins."""

    def __init__(self, pod: PodHandle, name: str, pid: int, *, is_pid1: bool) -> None:
        self.pod, self.name, self.is_pid1 = pod, name, is_pid1
        self.seen = Seen()
        process = processes.look(pid)
        self.main = None if process is None else processes.Watched(process)
        self.root = processes.root_of(pid, is_pid1=is_pid1)
        self.pid = pid
        self.ended = 0.0  # when the main one's end was seen
        self._members: dict[tuple[int, int], processes.Watched] = {}
        self._doubtful: list[tuple[float, processes.Watched]] = []  # ended, with the main one there

    def close(self) -> None:
        for each in (self.main, *self._members.values(), *(each for _, each in self._doubtful)):
            if each is not None:
                each.close()

    def sample(self) -> None:
        if self.main is None or self.ended:
            return
        for process in processes.descendants(self.root):
            if process.pid == self.pid or process.state in "ZX":
                continue
            key = (process.pid, process.started)
            if key not in self._members:
                with contextlib.suppress(OSError):
                    self._members[key] = processes.Watched(process)
            if key in self._members:
                command = procfs.command_line(process.pid, self.pod.veiled)
                now_there = processes.look(process.pid)
                if now_there is not None and not now_there.exiting:
                    self._members[key].command = command  # another one after exec
        now = time.monotonic()
        main = processes.look(self.pid)
        if main is None or main.exiting or self.main.has_ended():
            self.ended = now
            return
        for key, member in list(self._members.items()):
            if not member.over and member.has_ended():
                self._doubtful.append((now, member))
                del self._members[key]

    def explain(self, signum: int) -> None:
        """Why it still lives."""
        if self.ended:
            return
        self.seen.table = signal_table(self.pod, self.name)
        why = procfs.explain_deaf(self.pid, signum, is_pid1=self.is_pid1, secrets=self.pod.veiled)
        if why is not None:
            child = child_of_shell(self.pid, self.pod.veiled)
            deaf = f"; `{child}`, its child, never gets the signal: start it with exec"
            self.seen.why = why + (deaf if child else "")

    async def conclude(self) -> None:
        """The main one is over: who had to be killed with it?"""
        if self.main is None:
            return
        self.sample()
        suspects = list(self._members.values())
        suspects += [each for at, each in self._doubtful if self.ended - at <= _TOGETHER]
        for _ in range(round(_SWEPT / _SAMPLE)):
            if all(each.has_ended() for each in suspects):
                break
            await anyio.sleep(_SAMPLE)
        self.seen.swept = [each.command for each in suspects if each.signal() == _SIGKILL]


class Witness:
    """Looks at the processes of a pod while it ends. Use as a context manager."""

    def __init__(self, pod: PodHandle) -> None:
        self._pod = pod
        is_pid1 = mains_are_pid1(pod)
        self._containers = [
            _Container(pod, view.name, view.pid, is_pid1=is_pid1)
            for view in pod.containers.values()
            if view.pid
        ]
        self.seen = {each.name: each.seen for each in self._containers}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._containers:
            each.close()

    async def watch(self) -> None:
        asked: dict[str, float] = {}  # when a container was last asked why it lives
        while True:
            told = {m.container: m for m in self._pod.record.trail if m.moment is Moment.SIGNAL}
            now = time.monotonic()
            for each in self._containers:
                each.sample()
                if each.name in told and now - asked.setdefault(each.name, now) >= _DEAF_AFTER:
                    asked[each.name] = now
                    each.explain(signal_number(told[each.name].note))
            await anyio.sleep(_SAMPLE)

    async def conclude(self) -> None:
        for each in self._containers:
            await each.conclude()
