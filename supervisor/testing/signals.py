"""Signals at a program: what it does with each, and what comes of a sequence of them."""

from __future__ import annotations

import signal as signals

from msgspec import Struct

from supervisor.embed import PodHandle
from supervisor.errors import PodError, UsageError
from supervisor.runtime import procfs
from supervisor.runtime.cri import Isolation

# Those that people send; of others a table has those that a process has an answer to.
_USUAL = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGTERM")
_NOTHING = frozenset({"SIGCHLD", "SIGCONT", "SIGURG", "SIGWINCH"})  # by default
_STOPS = frozenset({"SIGTSTP", "SIGTTIN", "SIGTTOU"})


class SignalRow(Struct, frozen=True):
    """What a process does with one signal."""

    name: str
    disposition: str  # caught, ignored or default
    blocked: bool  # by all its threads: it waits until somebody takes it
    pending: bool  # sent, and not taken yet
    effect: str  # in words


class SignalTable(Struct, frozen=True):
    """What the main process of a container does with signals, from /proc."""

    container: str
    pid: int
    is_pid1: bool
    command: str
    rows: tuple[SignalRow, ...]

    def __getitem__(self, name: str) -> SignalRow:
        for row in self.rows:
            if row.name == name:
                return row
        raise UsageError(f"cannot say what {self.container} does with {name!r}: not in the table")

    def __str__(self) -> str:
        number = "pid 1" if self.is_pid1 else f"process {self.pid}"
        lines = [f"signals of {self.container}, {number} `{self.command}`:"]
        for row in self.rows:
            blocked = ", blocked" if row.blocked else ""
            lines.append(f"  {row.name:<9}  {row.disposition + blocked:<17}  {row.effect}")
        return "\n".join(lines)


def signal_table(pod: PodHandle, container: str = "") -> SignalTable:
    """What the main process of a container does with each signal. Raises PodError."""
    name = container_name(pod, container)
    pid = pod.containers[name].pid
    disposition = procfs.signal_disposition(pid) if pid is not None else None
    if pid is None or disposition is None:
        raise PodError(f"cannot look at the signals of {name}: it does not run", pod=pod.name)
    is_pid1 = mains_are_pid1(pod)
    rows = []
    for signal in signals.Signals:
        if signal in (signals.SIGKILL, signals.SIGSTOP):
            continue
        answered = disposition.caught | disposition.ignored | disposition.blocked
        if signal.name in _USUAL or signal in answered:
            rows.append(_row(signal, disposition, is_pid1=is_pid1))
    rows.sort(key=lambda row: row.name not in _USUAL)
    return SignalTable(name, pid, is_pid1, procfs.command_line(pid, pod.veiled), tuple(rows))


def _row(
    signal: signals.Signals, disposition: procfs.SignalDisposition, *, is_pid1: bool
) -> SignalRow:
    blocked, pending = signal in disposition.blocked, signal in disposition.pending
    if signal in disposition.caught:
        has, effect = "caught", "runs a handler"
    elif signal in disposition.ignored:
        has, effect = "ignored", "nothing"
    elif is_pid1:
        has, effect = "default", "nothing: without a handler the kernel drops it, for pid 1"
    elif signal.name in _NOTHING:
        has, effect = "default", "nothing"
    else:
        has, effect = "default", "stops it" if signal.name in _STOPS else "ends it"
    if blocked:
        effect = "waits until it is taken (sigwait, signalfd) or unblocked"
    return SignalRow(signal.name, has, blocked, pending, effect + (", one waits" * pending))


def mains_are_pid1(pod: PodHandle) -> bool:
    """Whether each container's main process is the first one of a pid namespace."""
    shares = bool(pod.pod.spec.share_process_namespace)
    return not shares and pod.isolation is not Isolation.GROUP


def container_name(pod: PodHandle, container: str) -> str:
    """Raises UsageError where it names none, or none is named and there are several."""
    apps = [each.name for each in pod.pod.spec.containers]
    if not container and len(apps) == 1:
        return apps[0]
    if container not in pod.containers:
        asked = f"container {container!r}" if container else "a container without its name"
        known = ", ".join(pod.containers)
        raise UsageError(f"cannot find {asked} in pod {pod.name}: it has {known}")
    return container
