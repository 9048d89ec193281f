"""Who has a state directory: a record lock on a file in it.

Record locks are those of a process: they end with it however it ends, and a forked child does not
have them. They have two traps. A process may lock a file that it has locked already, and closing
any descriptor of a file gives up the process's locks on it. So what this process holds is
remembered, and a file is not even opened then.
"""

from __future__ import annotations

import fcntl
import os
import struct

from supervisor.errors import NodeError

# struct flock of fcntl(2) on 64-bit Linux: type, whence, start, length, pid.
_FLOCK = struct.Struct("@hhqqi4x")

_held: set[tuple[int, int, int]] = set()  # (pid, device, inode): a forked child starts with none


class LockedError(NodeError):
    """Another node has the directory."""

    def __init__(self, path: str, pid: int | None) -> None:
        self.pid = pid
        who = "its pid cannot be seen from here" if pid is None else f"pid {pid}"
        super().__init__(f"cannot use {os.path.dirname(path)}: a node runs on it already ({who})")


class Lock:
    """Held from its making to `close`. Raises LockedError, or OSError where there is no file."""

    def __init__(self, path: str, *, create: bool = True) -> None:
        self._fd = -1
        _refuse_own(path)
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
        self._fd = os.open(path, flags, 0o600)
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # POSIX allows either
            pid = _locker(self._fd)
            os.close(self._fd)
            raise LockedError(path, pid or None) from None
        self._key = _key(os.fstat(self._fd))
        _held.add(self._key)

    def close(self) -> None:
        if self._fd >= 0:
            _held.discard(self._key)
            os.close(self._fd)
            self._fd = -1


def holder(path: str) -> int | None:
    """The process that holds the lock, 0 if it cannot be seen from here; None: nobody does.

    Raises OSError where there is no such file.
    """
    _refuse_own(path)  # closing it would give up our own lock
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return _locker(fd)
    finally:
        os.close(fd)


def _key(found: os.stat_result) -> tuple[int, int, int]:
    return os.getpid(), found.st_dev, found.st_ino


def _refuse_own(path: str) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if _key(found) in _held:
        raise LockedError(path, os.getpid())


def _locker(fd: int) -> int | None:
    """The process whose lock is in the way, 0 if it is in another pid namespace."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    return max(0, pid) if kind != fcntl.F_UNLCK else None
