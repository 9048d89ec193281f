"""Processes of containers, as /proc shows them: who there is, and whether anything goes on.

All pids are those of the host. Everything may vanish while it is looked at; what is gone is no
error here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from msgspec import Struct

from supervisor.runtime import procfs

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
