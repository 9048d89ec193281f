"""Processes of containers, as /proc shows them: who there is, and whether anything goes on.

All pids are those of the host. Everything may vanish while it is looked at; what is gone is no
error here.
"""

from __future__ import annotations

import fcntl
import os
import select
import sys
from collections.abc import Iterable

from msgspec import Struct

from supervisor.runtime import procfs

_GET_INFO, _INFO_EXIT = 0xC040FF0B, 8  # PIDFD_GET_INFO
_EXITING = 0x4  # PF_EXITING, in the flags of /proc/PID/stat


class Process(Struct, frozen=True):
    """One look at a process."""

    pid: int
    ppid: int
    state: str  # as in /proc: R runs, S sleeps, D waits for a device, Z is a zombie, T is stopped
    exiting: bool  # it is on its way out, and will be a zombie
    started: int  # in ticks since the machine's start: tells two of one pid apart


def look(pid: int) -> Process | None:
    """None: it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # The name of the program, in parentheses, may hold anything.
            words = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    state, ppid, flags, started = words[0], int(words[1]), int(words[6]), int(words[19])
    return Process(pid, ppid, state, state in "ZX" or bool(flags & _EXITING), started)


def descendants(pid: int) -> list[Process]:
    """All that this process and those below it have started, and that have kept their parents."""
    found: list[Process] = []
    family = [pid]
    for member in family:
        for child in procfs.children(member):
            process = look(child)
            if process is not None:
                found.append(process)
                family.append(child)
    return found


def is_active(pids: Iterable[int]) -> bool:
    """Whether any of these, or of those below them, has something to do right now."""
    for pid in pids:
        main = look(pid)
        family = ([] if main is None else [main]) + descendants(pid)
        if any(process.state in "RD" for process in family):
            return True
    return False


def descriptors(pid: int) -> int | None:
    """How many a process has open; None: it is gone, or we may not look."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None


def root_of(main: int, *, is_pid1: bool) -> int:
    """Below whom the processes of a container are, given its main process.

    A main that is not pid 1 has a reaper of ours for parent, and orphans come to that.
    """
    process = look(main)
    return main if is_pid1 or process is None else process.ppid


class Watched:
    """A process that is looked at until its end is known. Close it."""

    def __init__(self, process: Process) -> None:
        self.pid = process.pid
        self.command = ""
        self._pidfd = os.pidfd_open(process.pid)
        self.over = False

    def close(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def has_ended(self) -> bool:
        self.over = self.over or bool(select.select([self._pidfd], [], [], 0)[0])
        return self.over

    def signal(self) -> int | None:
        """What it has died of: a signal, 0 if of none; None while nobody knows, or if nobody will.

        Before Linux 6.15 nobody knows but its parent.
        """
        question = _INFO_EXIT.to_bytes(8, sys.byteorder) + bytes(56)
        try:
            answer = fcntl.ioctl(self._pidfd, _GET_INFO, question)
        except OSError:
            return None
        if not int.from_bytes(answer[:8], sys.byteorder) & _INFO_EXIT:
            return None
        return int.from_bytes(answer[60:64], sys.byteorder) & 0x7F
