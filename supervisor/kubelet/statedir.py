"""The folder of a node. A record lock in it says that the node lives: record locks are not
inherited over fork, so a forked child of an embedding program does not keep the folder of a dead
node.

That of an ephemeral node (`StateDir`) is made at its start, removed at its end, and swept if it
died: it holds logs and termination messages, nothing that must outlive the node. It lies under
XDG_RUNTIME_DIR, else TMPDIR, else /tmp, in a folder of this user's own.

That of a durable node (`DurableStateDir`) stays, and holds all that the next life of the node
needs: the database, logs and spawn records, the launcher's socket.

What must not reach a disk lies in the node's memory folder (`memory`): the same folder if that is
on a tmpfs, else one beside those of ephemeral nodes, but on a tmpfs. That of a durable node is
named after its state folder, so that its next life finds it, and is swept when there is no such
state folder any more and no container has a mount from it; a reboot takes it away, and pods are set
up anew then anyhow.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Self

from supervisor.errors import NodeError
from supervisor.runtime import volume_files
from supervisor.store import lock
from supervisor.store.lock import Lock, LockedError

_LOCK = "lock"
_KEPT = "kept"
_COMMAND = "command"
_MEMORY = "memory"  # of a durable node: where its memory folder is
_OWNER = "state-folder"  # of a memory folder: whose it is
_STABLE = "state-"  # how the names of memory folders of durable nodes begin
DATABASE = "podvisor.db"
# A folder without either file belongs to a node that is being made, or died while it was.
_UNFINISHED_AGE = 60.0


_turn = threading.Lock()


def _forget_turn() -> None:
    """Whoever had it is not in a forked child."""
    global _turn
    _turn = threading.Lock()


os.register_at_fork(after_in_child=_forget_turn)


class StateDir:
    """A private folder for one node. Raises NodeError where none can be made.

    `memory` is empty where there is no tmpfs.
    """

    def __init__(self) -> None:
        # Two threads of one process must not see each other between two steps: record locks tell
        # processes apart, and a sweep would take the other's new folder for a dead node's.
        with _turn:
            self._make()

    def _make(self) -> None:
        self.kept = False
        base = base_directory()
        in_memory = _memory_bases()
        for each in dict.fromkeys((base, *in_memory)):
            _sweep(each)
        self._folder = _Folder(base)
        self.path = self._folder.path
        self._memory: _Folder | None = None
        if is_tmpfs(self.path):
            self.memory = self.path
            return
        for each in in_memory:
            with contextlib.suppress(NodeError):
                self._memory = _Folder(each)
                break
        self.memory = "" if self._memory is None else self._memory.path

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
        if self._memory is not None:
            self._memory.close()
        self._folder.close(keep=self.kept)


class _Folder:
    """A folder with a name of its own, for as long as its node lives. Raises NodeError."""

    def __init__(self, base: str) -> None:
        self._base = base
        for _ in range(10):
            try:
                self._make()
            except OSError as error:
                if isinstance(error, FileNotFoundError) and os.path.isdir(os.path.dirname(base)):
                    continue  # another node's end removed the empty folder between two steps
                raise NodeError(
                    f"cannot make a state folder in {base}: {error.strerror}"
                ) from error
            return
        raise NodeError(f"cannot make a state folder in {base}: it keeps vanishing")

    def _make(self) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(self._base, mode=0o700)
        _require_own(self._base)
        try:
            self.path = tempfile.mkdtemp(prefix="node-", dir=self._base)
        except OSError:
            self._remove_base()
            raise
        # Locked before it has its name: a sweep must never find the name without the lock.
        unnamed = os.path.join(self.path, _LOCK + ".new")
        try:
            self._lock = Lock(unnamed)
        except OSError:
            with contextlib.suppress(OSError):
                os.rmdir(self.path)  # takes no descriptor, where there is none
            self._remove_base()
            raise
        os.rename(unnamed, os.path.join(self.path, _LOCK))
        # Containers of other users must reach their own files below, by name only.
        os.chmod(self._base, 0o711)  # noqa: S103
        os.chmod(self.path, 0o711)  # noqa: S103

    def _remove_base(self) -> None:
        with contextlib.suppress(OSError):  # other nodes have folders in it
            os.rmdir(self._base)

    def close(self, *, keep: bool = False) -> None:
        if keep:
            os.rename(os.path.join(self.path, _LOCK), os.path.join(self.path, _KEPT))
        else:
            volume_files.remove(self.path)
            self._remove_base()
        self._lock.close()


class DurableStateDir:
    """The folder of a durable node, made where it is not there; held until `close`.

    Raises NodeError where it cannot be made, is another user's, or has a node already. `memory` is
    empty where there is no tmpfs.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self._memory: _StableFolder | None = None
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
        self.memory = self._find_memory()

    def _find_memory(self) -> str:
        bases = _memory_bases()
        for each in bases:
            _sweep(each)
        if is_tmpfs(self.path):
            return self.path
        name = _stable_name(self.path)
        # Where it was last, whatever the environment says today.
        known = self._read(_MEMORY)
        is_ours = known.endswith(f"/{_own_name()}/{name}") and is_tmpfs(known)
        places = [known] if is_ours else []
        for place in dict.fromkeys((*places, *(os.path.join(base, name) for base in bases))):
            try:
                self._memory = _StableFolder(place, self.path)
                self._write(_MEMORY, place)
            except (OSError, NodeError):  # somebody else has that name, or it is full
                continue
            return place
        return ""

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
        if self._memory is not None:
            self._memory.close()
        self._lock.close()

    def _read(self, name: str) -> str:
        try:
            with open(
                os.path.join(self.path, name), encoding="utf-8", errors="surrogateescape"
            ) as file:
                return file.read()
        except OSError:
            return ""

    def _write(self, name: str, text: str) -> None:
        path = os.path.join(self.path, name)
        if not os.path.exists(path) or name != ".gitignore":
            # Whatever our umask is: the next life believes what stands there.
            with open(
                f"{path}.new", "w", encoding="utf-8", errors="surrogateescape", opener=_for_us
            ) as file:
                file.write(text)
            os.rename(f"{path}.new", path)


class _StableFolder:
    """The memory folder of a durable node; made where it is not there. Raises OSError, NodeError.

    It outlives its node where pods have something in it: their containers run on.
    """

    def __init__(self, path: str, state: str) -> None:
        self.path = path
        self._base = os.path.dirname(path)
        for attempt in range(10):
            try:
                for folder in (self._base, path):
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(folder, mode=0o700)
                    _require_own(folder)
                    os.chmod(folder, 0o711)  # noqa: S103
                break
            except FileNotFoundError:  # as above
                if attempt == 9:
                    raise
        # Whose it is comes first: from then on no sweep takes it while there is that state folder.
        owner = os.path.join(path, _OWNER)
        with open(f"{owner}.new", "wb") as file:
            file.write(os.fsencode(os.path.realpath(state)))
        os.rename(f"{owner}.new", owner)
        # Of two nodes the state folder's lock knows. With this one no other node's sweep takes a
        # state folder for removed that it only cannot see, being in another mount namespace.
        self._lock = Lock(os.path.join(path, _LOCK))

    def close(self) -> None:
        try:
            os.rmdir(os.path.join(self.path, "pods"))
        except FileNotFoundError:
            pass
        except OSError:  # pods have something in it
            self._lock.close()
            return
        volume_files.remove(self.path)
        with contextlib.suppress(OSError):
            os.rmdir(self._base)
        self._lock.close()


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
    return os.path.join(parent, _own_name())


def _own_name() -> str:
    """Of what holds this user's folders."""
    return f"podvisor-{os.geteuid()}"


def memory_parents(
    environ: Mapping[str, str], programs_run_on: Callable[[str], bool | None]
) -> list[str]:
    """The folders in which a memory folder may lie, the best first.

    `programs_run_on` says of a folder whether programs may be executed from it; None: it is no
    tmpfs, or may not be written to.
    """
    wanted = dict.fromkeys((environ.get("XDG_RUNTIME_DIR", ""), "/run", "/dev/shm"))
    found = {path: programs_run_on(path) for path in wanted if os.path.isabs(path)}
    usable = [path for path, runs in found.items() if runs is not None]
    # An emptyDir in memory may be given programs.
    return sorted(usable, key=lambda path: not found[path])


def _memory_bases() -> list[str]:
    parents = memory_parents(os.environ, _programs_run_on)
    return [os.path.join(parent, _own_name()) for parent in parents]


def _programs_run_on(path: str) -> bool | None:
    if not (is_tmpfs(path) and os.access(path, os.W_OK | os.X_OK)):
        return None
    return not os.statvfs(path).f_flag & os.ST_NOEXEC


def is_tmpfs(path: str) -> bool:
    """Whether what lies in that folder is in memory only. Not where there is no such folder."""
    try:
        device = os.stat(path).st_dev
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            mounted = file.read().splitlines()
    except OSError:
        return False
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in mounted:
        fields, _, kind = line.partition(" - ")
        if fields.split(" ", 3)[2] == number:
            return kind.startswith("tmpfs ")
    return False


def _stable_name(state: str) -> str:
    digest = hashlib.sha256(os.fsencode(os.path.realpath(state))).hexdigest()
    return _STABLE + digest[:16]


def _for_us(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _require_own(path: str) -> None:
    """In a world-writable parent somebody else may have made the folder first."""
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise NodeError(f"cannot use {path}: it is not a folder of this user")


def _sweep(base: str) -> None:
    """Remove the folders of nodes that died without their end."""
    try:
        _require_own(base)
        names = os.listdir(base)
    except (OSError, NodeError):
        return
    for name in names:
        path = os.path.join(base, name)
        if name.startswith(_STABLE) and not _is_masterless(path):
            continue
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


def _is_masterless(path: str) -> bool:
    """Whether the state folder that a memory folder belongs to is no more, or is not told yet."""
    try:
        with open(os.path.join(path, _OWNER), "rb") as file:
            os.stat(file.read())
    except (FileNotFoundError, NotADirectoryError):
        return not _is_in_use(path)
    except (OSError, ValueError):  # we cannot see it now
        return False
    return False


def _is_in_use(path: str) -> bool:
    """Whether a container runs on that has something of this folder: its state folder was moved."""
    name = b"/%b/" % os.fsencode(os.path.basename(path))
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with (
            contextlib.suppress(OSError),  # it has ended, or is another user's
            open(f"/proc/{pid}/mountinfo", "rb") as file,
        ):
            if name in file.read():
                return True
    return False


def _is_unfinished(path: str) -> bool:
    try:
        return (
            not os.path.lexists(os.path.join(path, _KEPT))
            and os.lstat(path).st_mtime < time.time() - _UNFINISHED_AGE
        )
    except OSError:
        return False
