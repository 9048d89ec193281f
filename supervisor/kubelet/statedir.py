"""The folder of a node. A record lock in it says that the node lives: record locks are not
inherited over fork, so a forked child of an embedding program does not keep the folder of a dead
node.

That of an ephemeral node (`StateDir`) is made at its start, removed at its end, and swept if it
died: it holds logs and termination messages, nothing that must outlive the node. It lies under
XDG_RUNTIME_DIR, else TMPDIR, else /tmp, in a folder of this user's own.

That of a durable node (`DurableStateDir`) stays, and holds all that the next life of the node
needs: the database, logs and spawn records, the launcher's socket.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
import tempfile
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from supervisor.errors import NodeError
from supervisor.runtime import volume_files
from supervisor.store import lock
from supervisor.store.lock import Lock, LockedError

_LOCK = "lock"
_KEPT = "kept"
_COMMAND = "command"
DATABASE = "podvisor.db"
# A folder without either file belongs to a node that is being made, or died while it was.
_UNFINISHED_AGE = 60.0


class StateDir:
    """A private folder for one node. Raises NodeError where none can be made."""

    def __init__(self) -> None:
        self.kept = False
        self._base = base_directory()
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
            volume_files.remove(self.path)
            with contextlib.suppress(OSError):
                os.rmdir(self._base)
        self._lock.close()


class DurableStateDir:
    """The folder of a durable node, made where it is not there; held until `close`.

    Raises NodeError where it cannot be made, is another user's, or has a node already.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            _require_own(self.path)
            # Containers of other users must reach their own files below, by name only.
            os.chmod(self.path, 0o711)  # noqa: S103
            self._lock = Lock(os.path.join(self.path, _LOCK))
        except OSError as error:
            raise NodeError(f"cannot use {self.path}: {error.strerror}") from error
        try:
            self._write(".gitignore", "*\n")
        except OSError as error:
            self.close()
            raise NodeError(f"cannot write into {self.path}: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def database(self) -> str:
        return os.path.join(self.path, DATABASE)

    def note_command(self, words: Iterable[str], folder: str) -> None:
        """Leave how this node was started, for whoever finds it gone."""
        with contextlib.suppress(OSError):
            self._write(_COMMAND, f"cd {shlex.quote(folder)} && {shlex.join(words)}\n")

    def close(self) -> None:
        self._lock.close()

    def _write(self, name: str, text: str) -> None:
        path = os.path.join(self.path, name)
        if not os.path.exists(path) or name == _COMMAND:
            with open(f"{path}.new", "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)
            os.rename(f"{path}.new", path)


def holder(path: str) -> int | None:
    """The pid of the node that runs on this folder; 0 if it cannot be seen, None if there is none.

    Raises OSError where no node has ever been.
    """
    return lock.holder(os.path.join(path, _LOCK))


def command_of(path: str) -> str | None:
    """How the node of this folder was started last, as a shell takes it."""
    try:
        with open(os.path.join(path, _COMMAND), encoding="utf-8", errors="surrogateescape") as file:
            return file.read().strip()
    except OSError:
        return None


def base_directory() -> str:
    """Where the folders of this user's ephemeral nodes lie. It need not be there."""
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
            held = Lock(os.path.join(path, _LOCK), create=False)
        except LockedError:
            continue  # its node lives
        except OSError:
            if _is_unfinished(path):
                volume_files.remove(path)
            continue
        volume_files.remove(path)
        held.close()


def _is_unfinished(path: str) -> bool:
    try:
        return (
            not os.path.lexists(os.path.join(path, _KEPT))
            and os.lstat(path).st_mtime < time.time() - _UNFINISHED_AGE
        )
    except OSError:
        return False
