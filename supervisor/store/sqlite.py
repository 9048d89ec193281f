"""The store of a durable node: one SQLite database in its state directory.

When a change is durable: `commit` returns when the change is in the write-ahead log, so it
outlives the end of this process at any instruction. A power failure is another matter: it takes
what was not synced, and then the database is what it was at an earlier moment, never a mixture. A
change that is `synced` (an acknowledged create or delete) outlives that as well, and with it
everything that was committed before it.

Group commit: one task writes. It takes all changes that wait, stores them in one transaction on
a thread, and wakes their callers; meanwhile the next ones gather. So the event loop never waits for
a disk, and a hundred pods share what a transaction costs. If the transaction fails, all of it
failed: each caller gets an OSError with the cause, and tries again when it likes.

What is refused: a database that is damaged, somebody else's, or of a later schema is looked at
in a copy and left as it is, byte for byte: what it knows may be the only trace of processes that
still run. A new one is made under another name and renamed, so an empty file is a damaged one. File
systems without shared memory mappings (or with some that lie) are refused by name.

The schema has a version. Each step of `_MIGRATIONS` leads from one version to the next, in one
transaction; a new database takes all of them. Records are stored as maps of their fields, so a
field that is new and has a default, or is gone, needs no step.

Whoever imports this module pays for sqlite3. An ephemeral node does not.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
import anyio.to_thread
import msgspec
from anyio.abc import TaskGroup
from msgspec.structs import replace

from supervisor.api import v1
from supervisor.errors import NodeError
from supervisor.lifecycle.facts import Instant, rfc3339
from supervisor.lifecycle.record import PodRecord
from supervisor.store.contract import (
    EVENT_TTL,
    EVENTS,
    EVENTS_BYTES,
    EVENTS_PER_POD,
    Change,
    Edit,
    Object,
    Revision,
    Snapshot,
    Stored,
    revised,
    told,
)

T = TypeVar("T")

_APPLICATION_ID = 0x706F6476  # "podv"
_BUSY = 1.0  # seconds to wait for somebody else's lock, a user's sqlite3 for example
_WAL_BYTES = 4 * 1024 * 1024  # what the log is cut to after it was larger
# Events, and bytes of them, between two looks at how many there are.
_TRIM_EVERY, _TRIM_BYTES = 500, EVENTS_BYTES // 8
_MAGIC = b"SQLite format 3\0"
_WAL_HEAD = 32  # bytes that tell one log from the next
_TRIES, _PAUSE = 20, 0.05  # of a reader whose log begins anew under its hands
# Shared memory does not work on them, or only on one of the machines that see the file.
_REMOTE = ("9p", "afs", "ceph", "cifs", "drvfs", "fuse.sshfs", "nfs", "nfs4", "smb3", "vboxsf")


# --- the schema --------------------------------------------------------------------------------


def _first_schema(db: sqlite3.Connection) -> None:
    # One row: the counter, and the time of the last change.
    db.execute(
        "CREATE TABLE node (one INTEGER PRIMARY KEY CHECK (one = 1),"
        " resource_version INTEGER NOT NULL, wall REAL, boot REAL)"
    )
    db.execute("INSERT INTO node VALUES (1, 0, NULL, NULL)")
    # The object as the API shows it, but for its resourceVersion, as JSON; the rest of the record
    # as MessagePack, which has all floating-point numbers.
    db.execute(
        "CREATE TABLE pods (place INTEGER PRIMARY KEY, uid TEXT NOT NULL UNIQUE,"
        " namespace TEXT NOT NULL, name TEXT NOT NULL, resource_version INTEGER NOT NULL,"
        " object TEXT NOT NULL, record BLOB NOT NULL)"
    )
    db.execute(
        "CREATE TABLE events (resource_version INTEGER PRIMARY KEY, namespace TEXT NOT NULL,"
        " name TEXT NOT NULL, uid TEXT NOT NULL, told TEXT NOT NULL, object TEXT NOT NULL,"
        " UNIQUE (namespace, name))"
    )
    db.execute("CREATE INDEX events_of_pod ON events (uid)")
    db.execute("CREATE INDEX events_by_age ON events (told)")


def _other_objects(db: sqlite3.Connection) -> None:
    # All that is no pod and no event, as the API shows it but for its resourceVersion.
    db.execute(
        "CREATE TABLE objects (resource TEXT NOT NULL, namespace TEXT NOT NULL,"
        " name TEXT NOT NULL, resource_version INTEGER NOT NULL, object TEXT NOT NULL,"
        " PRIMARY KEY (resource, namespace, name))"
    )
    # Of a pod whose deletion was forced: its object is gone, its record is still needed.
    db.execute("ALTER TABLE pods ADD COLUMN forced INTEGER NOT NULL DEFAULT 0")


_MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_first_schema, _other_objects)


def _migrate(db: sqlite3.Connection) -> None:
    for version in range(_pragma(db, "user_version"), len(_MIGRATIONS)):
        with _transaction(db):
            _MIGRATIONS[version](db)
            db.execute(f"PRAGMA user_version = {version + 1}")


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # some errors have ended it
            db.execute("ROLLBACK")
        raise


def _pragma(db: sqlite3.Connection, name: str) -> int:
    value: int = db.execute(f"PRAGMA {name}").fetchone()[0]
    return value


# --- records to rows and back ------------------------------------------------------------------

_NO_POD, _NO_STATUS = v1.Pod(), v1.PodStatus()
_decode_pod = msgspec.json.Decoder(v1.Pod).decode
_decode_event = msgspec.json.Decoder(v1.Event).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode
_decode_record = msgspec.msgpack.Decoder(PodRecord).decode


def encode(record: PodRecord) -> tuple[str, bytes]:
    """The object with its status, and what else is known."""
    pod = replace(record.pod, status=record.status)
    rest = replace(record, pod=_NO_POD, status=_NO_STATUS)
    return msgspec.json.encode(pod).decode(), msgspec.msgpack.encode(rest)


def decode(pod: str, rest: bytes) -> PodRecord:
    found = _decode_pod(pod)
    return replace(_decode_record(rest), pod=replace(found, status=_NO_STATUS), status=found.status)


class _GoneError(OSError):
    """The database has lost its name."""


class _Write:
    """What waits to be stored, and what becomes of it."""

    def __init__(self, at: Instant, *, synced: bool) -> None:
        self.at = at
        self.synced = synced
        self.events: list[_EventRow] = []
        self.ended = anyio.Event()
        self.version = 0
        self.revisions: list[Revision] = []
        self.error: OSError | None = None


class _Commit(_Write):
    """A change on its way. It is encoded by its caller: what cannot be is that one's error."""

    def __init__(self, change: Change) -> None:
        super().__init__(change.at, synced=change.synced)
        self.uid = change.uid
        self.record = change.record
        self.pod: tuple[str, str, str, bytes] | None = None
        if change.record is not None:
            meta = change.record.pod.metadata
            self.pod = (meta.namespace, meta.name, *encode(change.record))
        self.events = [_EventRow(event) for event in change.events]


class _Edited(_Write):
    """An edit on its way, encoded by its caller, too."""

    def __init__(self, edit: Edit) -> None:
        super().__init__(edit.at, synced=edit.synced)
        self.key = edit.resource, edit.namespace, edit.name
        self.text: str | None = None  # the object; none: it is gone, or an event
        if edit.resource == "events" and edit.body is not None:
            self.events = [_EventRow(msgspec.convert(edit.body, v1.Event))]
        elif edit.body is not None:
            self.text = _encode_object(edit.body)


class _EventRow:
    """An event as it is stored."""

    def __init__(self, event: v1.Event) -> None:
        self.event = event
        self.row = (
            event.metadata.namespace,
            event.metadata.name,
            event.involved_object.uid,
            told(event),
            msgspec.json.encode(event).decode(),
        )


def _encode_object(body: dict[str, Any]) -> str:
    """Equal objects give equal texts."""
    return msgspec.json.encode(body, order="sorted").decode()


def _load(db: sqlite3.Connection, path: str) -> Snapshot:
    pods = []
    for uid, version, pod, rest in db.execute(
        "SELECT uid, resource_version, object, record FROM pods ORDER BY place"
    ):
        try:
            pods.append(Stored(decode(pod, rest), version))
        except msgspec.DecodeError as error:
            raise _unusable(path, f"the record of pod {uid} cannot be read: {error}") from error
    events = []
    for version, text in db.execute(
        "SELECT resource_version, object FROM events ORDER BY resource_version"
    ):
        try:
            event = _decode_event(text)
        except msgspec.DecodeError as error:
            raise _unusable(path, f"event {version} cannot be read: {error}") from error
        meta = replace(event.metadata, resource_version=str(version))
        events.append(replace(event, metadata=meta))
    objects = []
    for resource, namespace, name, version, text in db.execute(
        "SELECT resource, namespace, name, resource_version, object FROM objects"
        " ORDER BY resource, namespace, name"
    ):
        try:
            body = _decode_object(text)
        except msgspec.DecodeError as error:
            what = f"{resource} {namespace}/{name}"
            raise _unusable(path, f"{what} cannot be read: {error}") from error
        objects.append(
            Object(
                resource=resource,
                namespace=namespace,
                name=name,
                body=body,
                resource_version=version,
            )
        )
    version, wall, boot = db.execute("SELECT resource_version, wall, boot FROM node").fetchone()
    return Snapshot(
        pods=tuple(pods),
        events=tuple(events),
        objects=tuple(objects),
        resource_version=version,
        committed=None if wall is None else Instant(wall, boot),
    )


# --- looking without touching ------------------------------------------------------------------


def read(path: str) -> Snapshot:
    """What a node has stored, whether it runs or not. Nothing beside it is made or changed.

    Raises NodeError where there is no database that can be read. A node does not read its own: it
    has `load`.
    """
    # Closing any descriptor of the file would take this process's locks on it from SQLite.
    assert os.path.abspath(path) not in _open_here
    try:
        with _copy(path) as db:
            return _load_any(db, path)
    except FileNotFoundError:
        raise NodeError(f"cannot read {path}: no node has stored anything there") from None
    except sqlite3.Error as error:
        raise _refusal(path, error) from error
    except OSError as error:
        raise NodeError(f"cannot read {path}: {error.strerror}") from error


_open_here: set[str] = set()


def _load_any(copy: sqlite3.Connection, path: str) -> Snapshot:
    """Of any schema that is known. Only for copies: it migrates."""
    _require_usable(copy, path)
    _migrate(copy)
    return _load(copy, path)


@contextmanager
def _copy(path: str) -> Iterator[sqlite3.Connection]:
    """A copy of the database with its log, in memory, which SQLite may do with as it likes.

    The original cannot be asked: of a log that nobody has open SQLite makes an index beside it,
    and where it may not, it gives up on some that it could read (3.40 on a log without entries).
    A copy in files would stay when its reader is killed. So the log is read here.

    What is copied under a running node is whole unless the log began anew meanwhile: until then
    it has all that is not yet in the database, and what is half written at its end is ignored.
    """
    for left in reversed(range(_TRIES)):
        log = _log(path)
        try:
            database, entries = _content(path), b""
            if os.path.exists(path + "-wal"):
                entries = _content(path + "-wal")
        except FileNotFoundError:
            if log == _log(path) or not left:
                raise
        else:
            if log == _log(path):
                break
        time.sleep(_PAUSE)
    else:
        raise OSError(errno.EAGAIN, "it never stays as it is")
    image = _replayed(database, entries)
    if image.startswith(_MAGIC):
        image[18:20] = b"\1\1"  # in memory there is no log
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        if image:
            db.deserialize(bytes(image))
        yield db


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _replayed(database: bytes, log: bytes) -> bytearray:
    """The database with all that was committed to its log, which may end in the middle of a
    transaction, and behind that have what is left of an earlier log.

    The format is that of https://sqlite.org/fileformat2.html#the_write_ahead_log.
    """
    image = bytearray(database)
    if len(log) < _WAL_HEAD:
        return image
    magic, _, size, _, salts, *told = struct.unpack(">IIII8sII", log[:_WAL_HEAD])
    order = {0x377F0682: "<", 0x377F0683: ">"}.get(magic, "")
    if not order or [*_checksum(order, log[:24], 0, 0)] != told:
        return image
    first, second = told
    coming: dict[int, int] = {}  # where the newest content of each page is
    for at in range(_WAL_HEAD, len(log) - size - 23, 24 + size):
        page, pages, own, *told = struct.unpack(">II8sII", log[at : at + 24])
        if own != salts or not page:
            break
        first, second = _checksum(order, log[at : at + 8], first, second)
        first, second = _checksum(order, log[at + 24 : at + 24 + size], first, second)
        if [first, second] != told:
            break
        coming[page] = at + 24
        if pages:  # a commit, and how large the database is after it
            image += bytes(max(0, pages * size - len(image)))
            for number, start in coming.items():
                image[(number - 1) * size : number * size] = log[start : start + size]
            del image[pages * size :]
            coming.clear()
    return image


def _checksum(order: str, data: bytes, first: int, second: int) -> tuple[int, int]:
    for even, odd in struct.iter_unpack(f"{order}II", data):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second


def _log(path: str) -> tuple[bytes, int]:
    """Which log it is: the head that is written when it begins anew. Without one, the database
    has all, and its time counts."""
    try:
        with open(path + "-wal", "rb") as file:
            head = file.read(_WAL_HEAD)
    except FileNotFoundError:
        head = b""
    return head, 0 if head else os.stat(path).st_mtime_ns


def _uri(path: str) -> str:
    """For writing; never makes a file."""
    name = os.path.abspath(path)
    for character in "%?#":
        name = name.replace(character, f"%{ord(character):02x}")
    return f"file:{name}?mode=rw"


def _require_usable(db: sqlite3.Connection, path: str) -> None:
    if _pragma(db, "application_id") != _APPLICATION_ID:
        raise _unusable(path, "it is not a database of podvisor")
    version, known = _pragma(db, "user_version"), len(_MIGRATIONS)
    if version > known:
        raise _unusable(
            path, f"a later podvisor has written it (schema {version}, this one knows {known})"
        )
    found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise _unusable(path, f"it is damaged: {found}")


def _refusal(path: str, error: sqlite3.Error) -> NodeError:
    if _primary(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _unusable(path, f"it is damaged: {error}")
    return NodeError(f"cannot open {path}: {error}")


def _primary(error: sqlite3.Error) -> int:
    """The error's code without its detail."""
    code: int = getattr(error, "sqlite_errorcode", 0)  # not of errors that Python found itself
    return code & 0xFF


def _unusable(path: str, why: str) -> NodeError:
    return NodeError(
        f"cannot use {path}: {why}. It was left as it is. To begin anew, end all processes of its "
        f"pods, then move it away together with {os.path.basename(path)}-wal, if that is there: "
        "no process that still runs would be found again"
    )


# --- file systems ------------------------------------------------------------------------------


def file_system(directory: str, mounts: str) -> str:
    """The type of the file system a directory is on, by the text of /proc/self/mountinfo."""
    found, longest = "unknown", -1
    for line in mounts.splitlines():
        fields, _, kind = line.partition(" - ")
        point = fields.split(" ")[4]
        for escape in ("\\040", "\\011", "\\012", "\\134"):
            point = point.replace(escape, chr(int(escape[1:], 8)))
        inside = point == "/" or (directory + "/").startswith(point + "/")
        if inside and len(point) >= longest:  # a later mount covers an earlier one
            found, longest = kind.split(" ")[0], len(point)
    return found


def _own_file_system(path: str) -> str:
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            return file_system(os.path.realpath(os.path.dirname(path)), file.read())
    except OSError:
        return "unknown"


def _no_wal(path: str) -> NodeError:
    return NodeError(
        f"cannot keep pods in {os.path.dirname(path)}: processes cannot share memory through a "
        f"file system of type {_own_file_system(path)}, which the database needs; "
        "use --state-dir with a directory on a local disk"
    )


# --- the writer --------------------------------------------------------------------------------


class SQLiteStore:
    """Fulfils contract.Store. Use as an async context manager; raises NodeError when entered.

    Only one at a time may have a database: whoever opens it holds the directory's lock.
    """

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)
        self._thread = anyio.CapacityLimiter(1)  # of our own: others may have taken all threads
        self._waiting: list[_Write] = []
        self._listeners: list[Callable[[Revision], None]] = []
        self._wake = anyio.Event()
        self._closing = False
        self._gone = anyio.Event()  # the database has lost its name
        self._let_go = False
        self._untrimmed, self._untrimmed_bytes = _TRIM_EVERY, 0
        self._db: sqlite3.Connection
        self._file: tuple[int, int] | None
        self._tasks: TaskGroup

    async def __aenter__(self) -> Self:
        self._db = await self._apart(self._open)
        self._tasks = await anyio.create_task_group().__aenter__()
        self._tasks.start_soon(self._keep_writing)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Everything that waits is written first, also when the block was cancelled."""
        self._closing = True
        self._wake.set()
        try:
            await self._tasks.__aexit__(None, None, None)
        finally:
            with anyio.CancelScope(shield=True):
                await self._apart(self._close)

    async def commit(self, change: Change) -> int:
        return await self._stored(_Commit(change))

    async def edit(self, edit: Edit) -> int:
        return await self._stored(_Edited(edit))

    def follow(self, listener: Callable[[Revision], None]) -> None:
        self._listeners.append(listener)

    @property
    def is_gone(self) -> bool:
        """Whether the database was removed or replaced: it takes nothing any more, for nobody would
        find it again."""
        return _identity(self._path) != self._file

    async def wait_gone(self) -> None:
        """Wait until something could not be stored for that reason."""
        await self._gone.wait()

    def let_go(self) -> None:
        """Take everything all the same: what is to be ended can only be ended with a store."""
        self._let_go = True

    async def _stored(self, mine: _Write) -> int:
        if self._closing:
            raise OSError(errno.EBADF, "cannot commit: the store is closed", self._path)
        self._waiting.append(mine)
        self._wake.set()
        await mine.ended.wait()
        if mine.error is not None:
            raise mine.error
        return mine.version

    async def load(self) -> Snapshot:
        return await self._apart(lambda: _load(self._db, self._path))

    async def _keep_writing(self) -> None:
        with anyio.CancelScope(shield=True):
            while self._waiting or not self._closing:
                await self._wake.wait()
                self._wake = anyio.Event()
                batch, self._waiting = self._waiting, []
                if batch:
                    await self._apart(partial(self._write, batch))
                    if any(isinstance(write.error, _GoneError) for write in batch):
                        self._gone.set()
                for write in batch:
                    if write.error is None:
                        self._tell(write.revisions)
                    write.ended.set()

    def _tell(self, revisions: list[Revision]) -> None:
        for revision in revisions:
            for listener in self._listeners:
                listener(revision)

    async def _apart(self, work: Callable[[], T]) -> T:
        """Away from the event loop; on it where no thread can be had. Never cut off half-way."""
        begun = False

        def run() -> T:
            nonlocal begun
            begun = True
            return work()

        try:
            return await anyio.to_thread.run_sync(run, limiter=self._thread)
        except RuntimeError:
            if begun:
                raise
            async with self._thread:
                return work()

    # --- on the thread --------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        path = self._path
        if _own_file_system(path) in _REMOTE:
            raise _no_wal(path)
        try:
            if os.path.exists(path):
                # All that may go wrong goes wrong in a copy, before anything is touched.
                with _copy(path) as copy:
                    _load_any(copy, path)
            else:
                self._make()
            db = _connect(path)
            try:
                _use_wal(db, path)
                db.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
                _migrate(db)
            except BaseException:
                db.close()
                raise
        except sqlite3.Error as error:
            raise _refusal(path, error) from error
        except OSError as error:
            raise NodeError(f"cannot open {path}: {error.strerror}") from error
        self._file = _identity(path)
        _open_here.add(path)
        return db

    def _make(self) -> None:
        """A new database gets its name when it is complete and on the disk."""
        path, new = self._path, self._path + ".new"
        if os.path.exists(path + "-wal"):
            # It would be taken for the new one's.
            raise _unusable(path, "it is missing, but its log is there")
        for name in (new, new + "-journal", new + "-wal", new + "-shm"):
            if os.path.exists(name):
                os.unlink(name)
        os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with closing(_connect(new)) as db:
            db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            _migrate(db)
            _use_wal(db, path)
        os.rename(new, path)
        directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _close(self) -> None:
        try:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error:
            pass  # a full disk: the next start finds everything in the log
        self._db.close()
        _open_here.discard(self._path)

    def _write(self, batch: list[_Write]) -> None:
        """Store all of them or none."""
        db = self._db
        try:
            self._require_file()
            level = "FULL" if any(write.synced for write in batch) else "NORMAL"
            db.execute(f"PRAGMA synchronous = {level}")
            with _transaction(db):
                version = _counter(db)
                for write in batch:
                    version = self._store(write, version)
                version = self._forget_events(batch, version)
                last = batch[-1].at
                db.execute(
                    "UPDATE node SET resource_version = ?, wall = ?, boot = ?",
                    (version, last.wall, last.boot),
                )
        except Exception as error:
            code, cause = errno.EIO, str(error) or repr(error)
            if isinstance(error, sqlite3.Error) and _primary(error) == sqlite3.SQLITE_FULL:
                code = errno.ENOSPC
            kind = _GoneError if isinstance(error, _GoneError) else OSError
            for write in batch:
                write.error = kind(code, f"cannot commit: {cause}", self._path)

    def _require_file(self) -> None:
        """A database without its name would go on taking what nobody finds again."""
        if self.is_gone and not self._let_go:
            raise _GoneError("the database was removed or replaced")

    def _store(self, write: _Write, version: int) -> int:
        """Store one of them; return the highest resource version given out."""
        if isinstance(write, _Commit):
            return self._store_change(write, version)
        assert isinstance(write, _Edited)
        store = self._store_events if write.events else self._store_object
        version = write.version = store(write, version)
        return version

    def _store_change(self, commit: _Commit, version: int) -> int:
        db, uid = self._db, commit.uid
        version = self._store_events(commit, version)
        if commit.pod is None:
            known = db.execute(
                "SELECT namespace, name FROM pods WHERE uid = ? AND NOT forced", (uid,)
            ).fetchone()
            db.execute("DELETE FROM pods WHERE uid = ?", (uid,))
            version = commit.version = version + 1
            if known is not None:
                commit.revisions.append(revised(("pods", *known), version, None))
            return version
        namespace, name, pod, rest = commit.pod
        assert commit.record is not None
        forced = commit.record.is_hidden
        known = db.execute(
            "SELECT resource_version, object = ? AND forced = ?, forced FROM pods WHERE uid = ?",
            (pod, forced, uid),
        ).fetchone()
        if known is not None and known[1]:
            db.execute("UPDATE pods SET record = ? WHERE uid = ?", (rest, uid))
            commit.version = known[0]
            return version
        version = commit.version = version + 1
        if known is not None:
            db.execute(
                "UPDATE pods SET resource_version = ?, object = ?, record = ?, forced = ?"
                " WHERE uid = ?",
                (version, pod, rest, forced, uid),
            )
        else:
            db.execute(
                "INSERT INTO pods (uid, namespace, name, resource_version, object, record, forced)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (uid, namespace, name, version, pod, rest, forced),
            )
        key = "pods", namespace, name
        if not forced:
            shown = Stored(commit.record, version).pod
            commit.revisions.append(revised(key, version, shown))
        elif known is not None and not known[2]:
            commit.revisions.append(revised(key, version, None))
        return version

    def _store_events(self, write: _Write, version: int) -> int:
        for row in write.events:
            version += 1
            self._db.execute(
                "INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?, ?)", (version, *row.row)
            )
            meta = replace(row.event.metadata, resource_version=str(version))
            event = replace(row.event, metadata=meta)
            key = "events", meta.namespace, meta.name
            write.revisions.append(revised(key, version, event))
        return version

    def _store_object(self, write: _Edited, version: int) -> int:
        db, key, text = self._db, write.key, write.text
        if text is None:
            if key[0] == "events":
                gone = db.execute("DELETE FROM events WHERE namespace = ? AND name = ?", key[1:])
            else:
                gone = db.execute(_DELETE_OBJECT, key)
            if gone.rowcount:
                version += 1
                write.revisions.append(revised(key, version, None))
            return version
        known = db.execute(_SAME_OBJECT, (text, *key)).fetchone()
        if known is not None and known[0]:
            return version
        version += 1
        db.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)", (*key, version, text))
        resource, namespace, name = key
        stored = Object(
            resource=resource,
            namespace=namespace,
            name=name,
            body=_decode_object(text),
            resource_version=version,
        )
        write.revisions.append(revised(key, version, stored.object))
        return version

    def _forget_events(self, batch: list[_Write], version: int) -> int:
        """Those that are too old, and too many: of one pod, and of all."""
        written = [row for write in batch for row in write.events]
        rows: list[tuple[int, str, str]] = []
        find = "SELECT resource_version, namespace, name FROM events"
        for uid in {row.event.involved_object.uid for row in written}:
            rows += self._db.execute(
                f"{find} WHERE uid = ? ORDER BY resource_version DESC LIMIT -1 OFFSET ?",
                (uid, EVENTS_PER_POD),
            )
        too_old = rfc3339(batch[-1].at.later(-EVENT_TTL))
        rows += self._db.execute(f"{find} WHERE told < ?", (too_old,))
        self._untrimmed += len(written)
        self._untrimmed_bytes += sum(len(row.row[-1]) for row in written)
        if self._untrimmed >= _TRIM_EVERY or self._untrimmed_bytes >= _TRIM_BYTES:
            self._untrimmed = self._untrimmed_bytes = 0
            rows += self._db.execute(
                f"{find} ORDER BY resource_version DESC LIMIT -1 OFFSET ?", (EVENTS,)
            )
            rows += self._db.execute(_OVERSIZED, (EVENTS_BYTES,))
        for found, namespace, name in sorted(set(rows)):
            self._db.execute("DELETE FROM events WHERE resource_version = ?", (found,))
            version += 1
            key = "events", namespace, name
            batch[-1].revisions.append(revised(key, version, None))
        return version


_DELETE_OBJECT = "DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?"
_OVERSIZED = (
    "SELECT resource_version, namespace, name FROM (SELECT resource_version, namespace, name,"
    " SUM(LENGTH(CAST(object AS BLOB))) OVER (ORDER BY resource_version DESC) AS newer"
    " FROM events) WHERE newer > ?"
)
_SAME_OBJECT = "SELECT object = ? FROM objects WHERE resource = ? AND namespace = ? AND name = ?"


def _connect(path: str) -> sqlite3.Connection:
    """Transactions are begun and ended by us."""
    return sqlite3.connect(
        _uri(path),
        uri=True,
        timeout=_BUSY,
        isolation_level=None,
        check_same_thread=False,
    )


def _identity(path: str) -> tuple[int, int] | None:
    """Which file has the name."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _use_wal(db: sqlite3.Connection, path: str) -> None:
    """Keep a write-ahead log; whether it can be is up to the file system."""
    try:
        answer = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    except sqlite3.OperationalError as error:
        if _primary(error) not in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
            raise
        answer = "none"
    if answer != "wal":
        raise _no_wal(path)


def _counter(db: sqlite3.Connection) -> int:
    version: int = db.execute("SELECT resource_version FROM node").fetchone()[0]
    return version
