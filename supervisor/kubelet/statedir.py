"""The folder of an ephemeral node: made at its start, removed at its end, swept if it died.

It holds logs and termination messages, nothing that must outlive the node. It lies under
XDG_RUNTIME_DIR, else TMPDIR, else /tmp, in a folder of this user's own. A record lock held by the
node says that it lives: record locks are not inherited over fork, so a forked child of an
embedding program does not keep the folder of a dead node.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
from types import TracebackType
from typing import Self

from supervisor.errors import NodeError
from supervisor.store.lock import Lock, LockedError

_LOCK = "lock"
_KEPT = "kept"
# A folder without either file belongs to a node that is being made, or died while it was.
_UNFINISHED_AGE = 60.0


class StateDir:
    """A private folder for one node. Raises NodeError where none can be made."""

    def __init__(self) -> None:
        self.kept = False
        self._base = _base_directory()
        _sweep(self._base)
        for _ in range(10):
            try:
                self._make()
            except OSError as error:
                if isinstance(error, FileNotFoundError) and os.path.isdir(
                    os.path.dirname(self._base)
                ):
                    continue  # another node's end removed the empty folder between two steps
                raise NodeError(
                    f"cannot make a state folder in {self._base}: {error.strerror}"
                ) from error
            return
        raise NodeError(f"cannot make a state folder in {self._base}: it keeps vanishing")

    def _make(self) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(self._base, mode=0o700)
        _require_own(self._base)
        self.path = tempfile.mkdtemp(prefix="node-", dir=self._base)
        # Locked before it has its name: a sweep must never find the name without the lock.
        unnamed = os.path.join(self.path, _LOCK + ".new")
        self._lock = Lock(unnamed)
        os.rename(unnamed, os.path.join(self.path, _LOCK))
        # Containers of other users must reach their own files below, by name only.
        os.chmod(self._base, 0o711)  # noqa: S103
        os.chmod(self.path, 0o711)  # noqa: S103

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the folder, unless it is kept. A kept folder is not swept later either."""
        if self.kept:
            os.rename(os.path.join(self.path, _LOCK), os.path.join(self.path, _KEPT))
        else:
            shutil.rmtree(self.path, ignore_errors=True)
            with contextlib.suppress(OSError):
                os.rmdir(self._base)
        self._lock.close()


def _base_directory() -> str:
    parent = os.environ.get("XDG_RUNTIME_DIR") or ""
    if not (os.path.isabs(parent) and os.access(parent, os.W_OK | os.X_OK)):
        # Not tempfile.gettempdir: that falls back to the current folder without a word.
        parent = os.path.abspath(os.environ.get("TMPDIR") or "/tmp")
    return os.path.join(parent, f"podvisor-{os.geteuid()}")


def _require_own(path: str) -> None:
    """In a world-writable parent somebody else may have made the folder first."""
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise NodeError(f"cannot use {path}: it is not a folder of this user")


def _sweep(base: str) -> None:
    """Remove the folders of nodes that died without their end."""
    try:
        names = os.listdir(base)
    except OSError:
        return
    for name in names:
        path = os.path.join(base, name)
        try:
            lock = Lock(os.path.join(path, _LOCK), create=False)
        except LockedError:
            continue  # its node lives
        except OSError:
            if _is_unfinished(path):
                shutil.rmtree(path, ignore_errors=True)
            continue
        shutil.rmtree(path, ignore_errors=True)
        lock.close()


def _is_unfinished(path: str) -> bool:
    try:
        return (
            not os.path.lexists(os.path.join(path, _KEPT))
            and os.lstat(path).st_mtime < time.time() - _UNFINISHED_AGE
        )
    except OSError:
        return False
