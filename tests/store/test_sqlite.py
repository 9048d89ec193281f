"""A durable node's database: what it outlives, what it refuses, and that it leaves that alone."""

from __future__ import annotations

import os
import pathlib
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import anyio
import anyio.to_thread
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from supervisor.api import v1
from supervisor.errors import NodeError
from supervisor.lifecycle.record import PodRecord
from supervisor.store import sqlite
from supervisor.store.contract import Snapshot
from supervisor.store.sqlite import SQLiteStore, decode, encode, read
from tests.lifecycle.lives import Life
from tests.lifecycle.test_properties import SLOW, Nonsense, answers, nonsense, pods, scripts
from tests.store.conftest import change, event, gone, numbered, record
from tests.support import IS_ROOT, ROOT, USER

pytestmark = pytest.mark.anyio


def sql(path: str, *statements: str) -> list[Any]:
    """As somebody else, with the tool that Python brings."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        return [db.execute(statement).fetchall() for statement in statements][-1]


def files(path: str) -> dict[str, bytes]:
    """Everything in the state directory."""
    folder = pathlib.Path(path).parent
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


async def fill(path: str, *changes: Any) -> Snapshot:
    async with SQLiteStore(path) as store:
        for each in changes or (change(record(), 0, event("a")),):
            await store.commit(each)
        return await store.load()


async def refusal(path: str) -> str:
    """The message of the refusal, which must leave all files as they are."""
    before = files(path)
    with pytest.raises(NodeError) as caught:
        async with SQLiteStore(path):
            pass
    assert files(path) == before
    with pytest.raises(NodeError):
        read(path)
    assert files(path) == before
    assert path in str(caught.value)
    return str(caught.value)


# --- records -----------------------------------------------------------------------------------


@SLOW
@given(pods(), scripts, answers, st.sampled_from([1, 30, 900]))
def test_every_record_of_a_life_is_read_as_it_was_written(spec, script, answers, when):
    class Watched(Life):
        def _round(self, heard: list[Any]) -> None:
            super()._round(heard)
            assert decode(*encode(self.record)) == self.record

    Watched(spec, script, answers=answers, latency=0.3).delete(when).run(until=when + 100)


@SLOW
@given(st.data(), pods())
def test_every_record_is_read_as_it_was_written_whatever_happens(data, spec):
    world = Nonsense(spec)
    for _ in range(data.draw(st.integers(1, 25), label="steps")):
        world.hear(data.draw(nonsense(world.now), label="fact"))
        assert decode(*encode(world.record)) == world.record
        world.advance(data.draw(st.sampled_from([0.0, 2.0, 400.0]), label="time"))
        assert decode(*encode(world.record)) == world.record


def test_a_number_without_end_is_read_as_it_was_written() -> None:
    known = record()
    known = replace(known, policy=replace(known.policy, backoff_max=float("inf")))
    assert decode(*encode(known)) == known


# --- group commit ------------------------------------------------------------------------------


async def test_changes_that_wait_share_a_transaction(path: str) -> None:
    statements: list[str] = []
    async with SQLiteStore(path) as store:
        store._db.set_trace_callback(statements.append)
        async with anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(store.commit, change(record(f"u-{number}")))
        store._db.set_trace_callback(None)
        assert len((await store.load()).pods) == 50
    assert 1 <= statements.count("COMMIT") <= 3


async def test_a_commit_leaves_the_loop_free(path: str) -> None:
    """The disk is as slow as we like here: the loop goes on meanwhile, the caller does not."""
    go, writing = threading.Event(), anyio.Event()

    class Slow(SQLiteStore):
        def _write(self, batch: Any) -> None:
            anyio.from_thread.run_sync(writing.set)
            assert go.wait(30)
            super()._write(batch)

    async with Slow(path) as store, anyio.create_task_group() as tasks:
        ended = []

        async def commit() -> None:
            ended.append(await store.commit(change(record())))

        tasks.start_soon(commit)
        await writing.wait()
        assert not ended
        go.set()
    assert ended == [1]


async def test_without_a_thread_it_writes_all_the_same(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(anyio.to_thread, "run_sync", refuse)
    found = await fill(path)
    assert found == read(path)


async def test_what_waits_at_the_end_is_written(path: str) -> None:
    """Also when the node is cancelled; its callers are, but the changes were decided."""
    async with anyio.create_task_group() as tasks, SQLiteStore(path) as store:
        for number in range(10):
            tasks.start_soon(store.commit, change(record(f"u-{number}")))
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
        await anyio.sleep_forever()
    assert len(read(path).pods) == 10
    assert list(files(path)) == ["store.db"]


async def test_a_node_that_is_cancelled_at_once_leaves_the_database_closed(path: str) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with SQLiteStore(path):
            await anyio.sleep_forever()
    async with SQLiteStore(path) as store:
        scope = anyio.CancelScope()
        scope.cancel()
        with scope:
            async with SQLiteStore(path + "2"):
                pass
        await store.commit(change(record()))
    assert set(files(path)) <= {"store.db", "store.db2"}


async def test_an_error_in_the_block_comes_out_as_it_is(path: str) -> None:
    async def fail() -> None:
        async with SQLiteStore(path) as store:
            await store.commit(change(record()))
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert len(read(path).pods) == 1


async def test_a_record_that_cannot_be_written_is_its_own_callers_error(path: str) -> None:
    async with SQLiteStore(path) as store, anyio.create_task_group() as tasks:
        tasks.start_soon(store.commit, change(record("u-1")))
        with pytest.raises(UnicodeEncodeError):
            await store.commit(change(record("u-2", status=v1.PodStatus(message="\udcff"))))
    assert [stored.record for stored in read(path).pods] == [record("u-1")]


async def test_after_its_end_it_takes_nothing(path: str) -> None:
    async with SQLiteStore(path) as store:
        pass
    with pytest.raises(OSError, match="closed"):
        await store.commit(change(record()))


async def test_when_a_transaction_fails_each_caller_gets_the_cause_and_nothing_is_stored(
    path: str,
) -> None:
    errors: list[str] = []
    async with SQLiteStore(path) as store:
        await store.commit(change(numbered("u-0", 1)))

        async def commit(uid: str) -> None:
            with pytest.raises(OSError, match="cannot commit") as caught:
                await store.commit(change(numbered(uid, 2), 0, event(uid)))
            errors.append(str(caught.value))

        before = await store.load()
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            async with anyio.create_task_group() as tasks:
                for number in range(3):
                    tasks.start_soon(commit, f"u-{number}")
            other.execute("ROLLBACK")
        assert await store.load() == before
        assert len(errors) == 3
        assert all("database is locked" in error and path in error for error in errors)
        await store.commit(change(numbered("u-0", 2)))
        assert (await store.load()).pods[0].record == numbered("u-0", 2)


async def test_a_bug_in_the_middle_of_a_transaction_takes_all_of_it_back(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(batch: Any, version: int) -> None:
        raise ValueError("a bug")

    async with SQLiteStore(path) as store:
        with monkeypatch.context() as patch:
            patch.setattr(store, "_forget_events", fail)
            with pytest.raises(OSError, match="cannot commit: a bug"):
                await store.commit(change(record("u-1"), 0, event("a")))
        assert await store.load() == Snapshot()
        assert await store.commit(change(record("u-2"))) == 1


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
async def test_a_database_that_lost_its_name_takes_nothing(path: str, replaced: bool) -> None:
    """Nobody would find it again, so it must not be acted on."""
    async with SQLiteStore(path) as store:
        await store.commit(change(record("u-1")))
        for name in files(path):
            os.rename(path.replace("store.db", name), path.replace("store.db", f"old-{name}"))
        if replaced:
            shutil.copyfile(path.replace("store.db", "old-store.db"), path)
        with pytest.raises(OSError, match="the database was removed or replaced"):
            await store.commit(change(record("u-2")))
        await store.wait_gone()
        store.let_go()  # to end what there is
        await store.commit(gone("u-1"))
        assert (await store.load()).pods == ()


async def test_creates_and_deletes_are_synced_and_only_they(path: str) -> None:
    """The rule about power failures: synchronous is FULL for the transactions of these."""
    statements: list[str] = []
    async with SQLiteStore(path) as store:
        store._db.set_trace_callback(statements.append)
        await store.commit(change(record(), synced=True))
        await store.commit(change(record(), 1))
        await store.commit(gone())
        store._db.set_trace_callback(None)
    told = [s.rpartition(" ")[2] for s in statements if "synchronous" in s or s == "COMMIT"]
    assert told == ["FULL", "COMMIT", "NORMAL", "COMMIT", "FULL", "COMMIT"]


# --- sizes -------------------------------------------------------------------------------------


async def test_the_database_of_a_pod_that_restarts_for_ever_is_bounded(path: str) -> None:
    def size() -> int:
        return sum(entry.stat().st_size for entry in os.scandir(os.path.dirname(path)))

    sizes = []
    async with SQLiteStore(path) as store:
        for number in range(2000):
            told = (event(f"e{number}-{n}", number * 10) for n in range(3))
            await store.commit(change(numbered("u-1", number), number * 10, *told))
            if number in (1000, 1999):
                emptied = store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                assert emptied == (0, 0, 0)
                sizes.append(size())
    assert sizes[1] <= sizes[0] * 1.1
    assert size() < 500_000


# --- reading beside a node ---------------------------------------------------------------------


READER = """
import pathlib, sys
from supervisor.store.sqlite import read
def files():
    folder = pathlib.Path(sys.argv[1]).parent
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}
before = files()
found = read(sys.argv[1])
print(len(found.pods), len(found.events), files() == before)
"""


async def test_a_running_node_can_be_read_and_nothing_is_touched(path: str) -> None:
    def reader() -> str:
        argv = [sys.executable, "-c", READER, path]
        return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    async with SQLiteStore(path) as store:
        for number in range(1, 4):
            await store.commit(change(record(f"u-{number}"), 3, event(f"e{number}")))
            assert await anyio.to_thread.run_sync(reader) == f"{number} {number} True\n"
    assert await anyio.to_thread.run_sync(reader) == "3 3 True\n"


async def test_what_was_copied_while_the_log_began_anew_is_copied_again(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a change would be missing that had left the log and was not yet in the copy."""
    await fill(path)
    content, copied = sqlite._content, []

    with closing(sqlite3.connect(path, isolation_level=None)) as node:
        node.execute("UPDATE node SET resource_version = 77")

        def copy_slowly(source: str) -> bytes:
            found = content(source)
            copied.append(source)
            if len(copied) == 1:
                node.execute("PRAGMA wal_checkpoint(RESTART)")
                node.execute("DELETE FROM events")
            return found

        monkeypatch.setattr(sqlite, "_content", copy_slowly)
        found = read(path)
    assert copied == [path, path + "-wal"] * 2
    assert (found.resource_version, found.events) == (77, ())


async def test_a_log_is_read_as_sqlite_reads_it_wherever_it_ends_or_is_damaged(
    path: str, tmp_path: pathlib.Path
) -> None:
    async with SQLiteStore(path) as store:
        for number in range(12):
            await store.commit(change(record(f"u-{number % 5}"), number, event(f"e{number}")))
            if number == 7:  # behind the new log is left what the earlier one had
                store._db.execute("PRAGMA wal_checkpoint(RESTART)")
        database, log = (pathlib.Path(path + end).read_bytes() for end in ("", "-wal"))
    there = tmp_path / "there"
    chosen = random.Random(7)
    logs = [log, b"", log[:31]]
    logs += [log[: chosen.randrange(len(log))] for _ in range(40)]
    for _ in range(40):
        at = chosen.randrange(len(log))
        logs.append(log[:at] + bytes([log[at] ^ 1]) + log[at + 1 :])
    told = set()
    for each in logs:
        (tmp_path / "there-shm").unlink(missing_ok=True)
        there.write_bytes(database)
        (tmp_path / "there-wal").write_bytes(each)
        with sqlite._copy(str(there)) as copy:
            ours = list(copy.iterdump())
        with closing(sqlite3.connect(there)) as db:
            assert ours == list(db.iterdump())
        told.add(tuple(ours))
    assert len(told) > 3


NO_FILES = """
import resource, signal, sys
from supervisor.store.sqlite import read
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
sys.stdout.write(str(len(read(sys.argv[1]).pods)))
"""


async def test_reading_makes_no_file_that_a_killed_reader_could_leave(
    path: str, tmp_path: pathlib.Path
) -> None:
    dead = await abandoned(path, tmp_path)
    argv = [sys.executable, "-c", NO_FILES, dead]

    def reader() -> str:
        # What it says goes into a pipe, which has no size.
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    assert await anyio.to_thread.run_sync(reader) == "1"


async def test_a_node_does_not_read_its_own_database_from_beside(path: str) -> None:
    """It would lose its locks on it."""
    async with SQLiteStore(path) as store:
        await store.commit(change(record(), 3, event("a")))
        with pytest.raises(AssertionError):
            read(path)
    assert len(read(path).pods) == 1


async def abandoned(path: str, tmp_path: pathlib.Path, *, index: bool = True) -> str:
    """The files of a node that was killed: nothing of the log is in the database yet."""
    folder = tmp_path / "abandoned"
    folder.mkdir()
    async with SQLiteStore(path) as store:
        await store.commit(change(record(), 3, event("a")))
        for suffix in ("", "-wal", "-shm") if index else ("", "-wal"):
            shutil.copyfile(path + suffix, folder / f"store.db{suffix}")
    return str(folder / "store.db")


async def test_a_node_that_died_before_its_first_commit_can_be_read(
    path: str, tmp_path: pathlib.Path
) -> None:
    """The log has a head and no entries, and its index is of the one before."""
    await fill(path)
    dead = await abandoned(path, tmp_path)
    os.truncate(dead + "-wal", 32)
    assert len(read(dead).pods) == 1
    async with SQLiteStore(dead) as store:
        assert len((await store.load()).pods) == 1


@pytest.mark.parametrize("index", [True, False], ids=["with index", "without index"])
async def test_a_dead_node_can_be_read_and_nothing_is_touched(
    path: str, tmp_path: pathlib.Path, index: bool
) -> None:
    dead = await abandoned(path, tmp_path, index=index)
    before = files(dead)
    assert [stored.record for stored in read(dead).pods] == [record()]
    assert files(dead) == before
    async with SQLiteStore(dead) as store:
        assert (await store.load()).pods == read(path).pods


AS_USER = """
import os, sys
from supervisor.store.sqlite import read
os.chdir(os.path.dirname(sys.argv[1]))
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(int(sys.argv[2]))
    os.setuid(int(sys.argv[2]))
try:
    open("new", "w")
except OSError:
    print(len(read("store.db").pods))
"""


@pytest.fixture
def open_folder() -> Iterator[pathlib.Path]:
    """One that other users reach; those of pytest are private."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield pathlib.Path(name)


async def test_reading_needs_no_right_to_write(path: str, open_folder: pathlib.Path) -> None:
    dead = await abandoned(path, open_folder)
    folder = pathlib.Path(dead).parent
    for file in folder.iterdir():
        if IS_ROOT:
            os.chown(file, USER, USER)
        file.chmod(0o400)
    folder.chmod(0o555)
    argv = [sys.executable, "-c", AS_USER, dead, str(USER)]

    def reader() -> str:
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    before = files(dead)
    assert await anyio.to_thread.run_sync(reader) == "1\n"
    assert files(dead) == before
    for suffix in ("-wal", "-shm"):
        folder.chmod(0o755)
        os.unlink(dead + suffix)
        folder.chmod(0o555)
    assert await anyio.to_thread.run_sync(reader) == "0\n"
    folder.chmod(0o755)


def test_where_no_node_was_there_is_nothing_to_read(path: str) -> None:
    with pytest.raises(NodeError, match="no node has stored anything"):
        read(path)
    assert files(path) == {}


async def test_a_path_may_have_any_name(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "a?b#c%20d é"
    folder.mkdir()
    assert await fill(str(folder / "store.db")) == read(str(folder / "store.db"))
    assert list(files(str(folder))) == ["a?b#c%20d é/store.db"]


async def test_only_its_owner_may_read_it(path: str) -> None:
    """Manifests have secrets."""
    async with SQLiteStore(path) as store:
        await store.commit(change(record()))
        for suffix in ("", "-wal", "-shm"):
            assert os.stat(path + suffix).st_mode & 0o777 == 0o600


# --- refusals ----------------------------------------------------------------------------------


async def test_garbage_is_refused_and_left_alone(path: str) -> None:
    pathlib.Path(path).write_bytes(b"this is not a database, " * 500)
    message = await refusal(path)
    assert "damaged: file is not a database" in message
    assert "move it away" in message


@pytest.mark.parametrize("left", [0, 100, 5000, 20_000])
async def test_a_truncated_database_is_refused_and_left_alone(path: str, left: int) -> None:
    await fill(path, *(change(record(f"u-{n}")) for n in range(30)))
    os.truncate(path, left)
    assert await refusal(path)


@pytest.mark.parametrize("part", ["pods", "events_of_pod"])
async def test_a_damaged_page_is_refused_and_left_alone(path: str, part: str) -> None:
    """Also one of an index, which nothing reads at the start."""
    await fill(path, *(change(record(f"u-{n}")) for n in range(30)))
    page = sql(path, f"SELECT rootpage FROM sqlite_schema WHERE name = '{part}'")[0][0]
    with open(path, "r+b") as file:
        file.seek(4096 * (page - 1))
        file.write(b"\xff" * 4096)
    assert "it is damaged" in await refusal(path)


async def test_somebody_elses_database_is_refused_and_left_alone(path: str) -> None:
    sql(path, "CREATE TABLE mine (precious)", "INSERT INTO mine VALUES (1)")
    assert "not a database of podvisor" in await refusal(path)


async def test_a_later_schema_is_refused_and_left_alone(path: str, tmp_path: pathlib.Path) -> None:
    await fill(path)
    sql(path, "PRAGMA user_version = 99")
    assert "a later podvisor has written it (schema 99, this one knows 2)" in await refusal(path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("PRAGMA user_version = 99", "schema 99"),
        ("UPDATE pods SET record = x'92'", "pod u-1 cannot be read"),
    ],
)
async def test_what_is_wrong_in_the_log_of_a_dead_node_is_refused(
    path: str, tmp_path: pathlib.Path, damage: str, message: str
) -> None:
    """Opening it for writing would move the log into the database."""
    await fill(path)
    folder = tmp_path / "dead"
    folder.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(damage)
        for suffix in ("", "-wal", "-shm"):
            shutil.copyfile(path + suffix, folder / f"store.db{suffix}")
    assert message in await refusal(str(folder / "store.db"))


async def test_a_log_without_its_database_is_refused(path: str, tmp_path: pathlib.Path) -> None:
    """It would be taken for the log of the new one."""
    dead = await abandoned(path, tmp_path)
    os.unlink(dead)
    assert "it is missing, but its log is there" in await refusal(dead)


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        ("UPDATE pods SET record = x'00'", "the record of pod u-1"),
        ("UPDATE pods SET record = x'92'", "the record of pod u-1"),
        ("UPDATE pods SET object = '{'", "the record of pod u-1"),
        ("UPDATE events SET object = '[]'", "event 1"),
    ],
)
async def test_what_cannot_be_read_is_refused(path: str, damage: str, what: str) -> None:
    await fill(path)
    sql(path, damage)
    assert f"{what} cannot be read" in await refusal(path)


async def test_a_directory_that_is_not_there_is_an_error_with_its_name(
    tmp_path: pathlib.Path,
) -> None:
    with pytest.raises(NodeError, match=r"gone/store\.db: No such file or directory"):
        await fill(str(tmp_path / "gone" / "store.db"))


async def test_a_half_made_database_is_made_anew(path: str) -> None:
    pathlib.Path(path + ".new").write_bytes(b"half")
    pathlib.Path(path + ".new-journal").write_bytes(b"half")
    await fill(path)
    assert list(files(path)) == ["store.db"]


# --- file systems ------------------------------------------------------------------------------

MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:21 / /proc rw - proc proc rw
40 22 0:50 / /mnt/c rw - 9p drvfs rw,aname=drvfs
41 22 0:51 / /home/me/my\\040files rw master:1 - nfs4 server:/me rw
42 22 0:52 / /over rw - ext4 /dev/vdb rw
43 22 0:53 / /over rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("directory", "kind"),
    [
        ("/srv/.podvisor", "ext4"),
        ("/mnt/c/project/.podvisor", "9p"),
        ("/mnt/c", "9p"),
        ("/mnt/cc", "ext4"),
        ("/home/me/my files/x", "nfs4"),
        ("/over/x", "tmpfs"),
    ],
)
def test_the_file_system_of_a_directory_is_found(directory: str, kind: str) -> None:
    assert sqlite.file_system(directory, MOUNTS) == kind


@pytest.mark.parametrize("kind", ["nfs4", "9p", "drvfs"])
async def test_a_remote_file_system_is_refused_by_name(
    path: str, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(sqlite, "file_system", lambda directory, mounts: kind)
    with pytest.raises(NodeError, match=rf"of type {kind}, .*--state-dir .*local disk"):
        await fill(path)
    assert files(path) == {}


@pytest.mark.parametrize("exists", [False, True], ids=["new", "moved there"])
async def test_where_there_can_be_no_log_the_database_is_refused(
    path: str, monkeypatch: pytest.MonkeyPatch, exists: bool
) -> None:
    """SQLite's way to keep locks without shared memory stands for such a file system."""
    if exists:
        await fill(path)
    before = files(path)
    uri = sqlite._uri

    def without_memory(asked: str) -> str:
        return uri(asked) + ("&vfs=unix-dotfile" if asked.startswith(path) else "")

    monkeypatch.setattr(sqlite, "_uri", without_memory)
    with pytest.raises(NodeError, match="share memory"):
        await fill(path)
    kept = {name: content for name, content in files(path).items() if not name.endswith(".new")}
    assert kept == before


# --- migration ---------------------------------------------------------------------------------


STEPS = sqlite._MIGRATIONS


def earliest_schema(db: sqlite3.Connection) -> None:
    """As if an earlier release had kept pods and their statuses apart, and no events."""
    db.execute("CREATE TABLE whole (uid TEXT PRIMARY KEY, pod TEXT, rest BLOB)")
    db.execute("CREATE TABLE counter (value INTEGER)")


def to_this_schema(db: sqlite3.Connection) -> None:
    for step in STEPS:
        step(db)
    db.execute(
        "INSERT INTO pods (uid, namespace, name, resource_version, object, record)"
        " SELECT uid, pod ->> '$.metadata.namespace', pod ->> '$.metadata.name', 7, pod, rest"
        " FROM whole"
    )
    db.execute("UPDATE node SET resource_version = coalesce((SELECT value FROM counter), 0)")
    db.execute("DROP TABLE whole")
    db.execute("DROP TABLE counter")


def of_an_earlier_release(path: str, known: PodRecord) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"PRAGMA application_id = {sqlite._APPLICATION_ID}")
        earliest_schema(db)
        pod, rest = encode(known)
        db.execute("INSERT INTO whole VALUES (?, ?, ?)", ("u-1", pod, rest))
        db.execute("INSERT INTO counter VALUES (41)")
        db.execute("PRAGMA user_version = 1")


async def test_an_earlier_schema_is_brought_up_to_date(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = record()
    of_an_earlier_release(path, known)
    monkeypatch.setattr(sqlite, "_MIGRATIONS", (earliest_schema, to_this_schema))
    before = files(path)
    assert [stored.record for stored in read(path).pods] == [known]
    assert files(path) == before, "a reader changes nothing"
    async with SQLiteStore(path) as store:
        found = await store.load()
        assert [stored.record for stored in found.pods] == [known]
        assert found.pods[0].resource_version == 7
        assert await store.commit(change(record("u-2"))) == 42
    assert sql(path, "PRAGMA user_version") == [(2,)]
    assert len(read(path).pods) == 2


async def test_a_step_that_fails_changes_nothing(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_an_earlier_release(path, record())

    def fails(db: sqlite3.Connection) -> None:
        to_this_schema(db)
        if db.execute("PRAGMA database_list").fetchone()[2]:  # on the disk, not in the copy
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sqlite, "_MIGRATIONS", (earliest_schema, fails))
    with pytest.raises(NodeError, match="No space left"):
        await fill(path)
    assert sql(path, "PRAGMA user_version") == [(1,)]
    assert sql(path, "SELECT uid FROM whole") == [("u-1",)]
    monkeypatch.setattr(sqlite, "_MIGRATIONS", (earliest_schema, to_this_schema))
    assert len((await fill(path)).pods) == 1


async def test_a_new_database_takes_all_steps(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_MIGRATIONS", (earliest_schema, to_this_schema))
    assert len((await fill(path)).pods) == 1


def test_every_schema_from_the_first_release_on_is_known() -> None:
    """What has been released is never edited: the next schema is one more step."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        sqlite._migrate(db)
        tables = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    assert sorted(name for (name,) in tables) == [
        "events",
        "node",
        "objects",
        "pods",
    ]


# --- processes ---------------------------------------------------------------------------------


def test_an_ephemeral_node_does_not_load_sqlite3(tmp_path: pathlib.Path) -> None:
    manifest = tmp_path / "pod.yaml"
    manifest.write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n"
        "spec: {restartPolicy: Never, containers: [{name: a, command: ['true']}]}\n"
    )
    code = (
        "import sys, supervisor.store.memory\n"
        "from supervisor.cli import main\n"
        f"sys.argv = ['podvisor', 'run', {str(manifest)!r}]\n"
        "try:\n    main()\n"
        "finally:\n    print('sqlite3' in sys.modules, 'anyio' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["False True"], done


@pytest.mark.parametrize("way", ["limit", "tmpfs"])
def test_a_full_disk_is_an_error_with_its_cause_and_room_ends_it(
    tmp_path: pathlib.Path, way: str
) -> None:
    if way == "tmpfs" and subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("may not mount a small file system")
    argv = [sys.executable, "-m", "tests.store.full", str(tmp_path), way]
    if way == "tmpfs":
        argv = ["unshare", "--mount", *argv]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    cause = "database or disk is full" if way == "tmpfs" else "disk I/O error"
    assert f"cannot commit: {cause}" in done.stdout


def test_a_reader_sees_whole_decisions_whatever_the_node_does(path: str) -> None:
    """It commits, ends, is killed and starts again, some ten times."""
    argv = [sys.executable, "-m", "tests.store.beside", path, "3"]
    newest, reads = -1, 0
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL) as node:
        try:
            while node.poll() is None:
                if not os.path.exists(path):
                    continue
                found = read(path)
                if found.pods:
                    number = int(found.pods[0].record.status.message)
                    assert found.events[-1].metadata.name == f"e{number}"
                    assert number >= newest
                    newest, reads = number, reads + 1
                    if reads == 20:
                        pathlib.Path(f"{path}.enough").touch()
        finally:
            pathlib.Path(f"{path}.enough").touch()
            node.wait()
    assert reads >= 20


def test_what_was_acknowledged_outlives_kill_9(tmp_path: pathlib.Path) -> None:
    """Fifty nodes are killed, each while it commits or opens; the next one goes on with it."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.store.killed", str(tmp_path), "50"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "50 killed" in done.stdout
