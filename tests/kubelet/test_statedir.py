"""Folders of nodes: where those in memory lie, whose they are, and who removes them."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator

import pytest

from supervisor.kubelet import statedir
from supervisor.kubelet.statedir import DurableStateDir, StateDir, memory_parents
from supervisor.store import lock

SHM = "/dev/shm"
# A mount namespace, as a container has one.
APART = ("unshare", "--map-root-user", "--mount") if os.geteuid() else ("unshare", "--mount")
needs_tmpfs = pytest.mark.skipif(
    not (statedir.is_tmpfs(SHM) and os.access(SHM, os.W_OK)), reason=f"{SHM} is no tmpfs"
)
needs_disk = pytest.mark.skipif(
    statedir.is_tmpfs(tempfile.gettempdir()), reason="temporary files are in memory here"
)


@pytest.mark.parametrize(
    ("runtime_dir", "programs_run", "parents"),
    [
        pytest.param("", {}, [], id="there is no tmpfs"),
        pytest.param("/xdg", {"/xdg": True, SHM: True}, ["/xdg", SHM], id="the user's comes first"),
        pytest.param("/xdg", {SHM: True}, [SHM], id="the user's is on a disk"),
        pytest.param("xdg", {"xdg": True, SHM: True}, [SHM], id="the user's is relative"),
        pytest.param("", {"/run": True, SHM: True}, ["/run", SHM], id="root"),
        pytest.param("/run", {"/run": True}, ["/run"], id="the user's is root's"),
        pytest.param(
            "/xdg",
            {"/xdg": False, "/run": False, SHM: True},
            [SHM, "/xdg", "/run"],
            id="where programs cannot be executed is taken last",
        ),
    ],
)
def test_a_memory_folder_lies_on_the_best_tmpfs(
    runtime_dir: str, programs_run: dict[str, bool], parents: list[str]
) -> None:
    assert memory_parents({"XDG_RUNTIME_DIR": runtime_dir}, programs_run.get) == parents


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    """A folder on a tmpfs, the only one that nodes know."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="podvisor-test-", dir=SHM))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(statedir, "memory_parents", lambda *_: [str(folder)])
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def on_disk(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def base(folder: pathlib.Path) -> pathlib.Path:
    return folder / f"podvisor-{os.geteuid()}"


@needs_tmpfs
@needs_disk
def test_an_ephemeral_node_has_a_folder_in_memory_that_goes_with_it(
    in_memory: pathlib.Path, on_disk: pathlib.Path
) -> None:
    with StateDir() as first, StateDir() as second:
        for state in (first, second):
            assert pathlib.Path(state.path).parent == base(on_disk)
            memory = pathlib.Path(state.memory)
            assert memory.parent == base(in_memory)
            assert [p.stat().st_mode & 0o777 for p in (memory, memory.parent)] == [0o711] * 2
        assert first.memory != second.memory
    assert not list(in_memory.iterdir())
    assert not list(on_disk.iterdir())


@needs_tmpfs
def test_a_state_folder_that_is_in_memory_is_all_there_is(
    in_memory: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(in_memory))
    with StateDir() as state:
        assert state.memory == state.path
        assert len(list(base(in_memory).iterdir())) == 1
    with DurableStateDir(str(in_memory / "state")) as durable:
        assert durable.memory == durable.path
        assert os.listdir(in_memory) == ["state"]


def test_without_a_tmpfs_there_is_no_folder_in_memory(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(statedir, "is_tmpfs", lambda _: False)
    with StateDir() as state, DurableStateDir(str(tmp_path / "state")) as durable:
        assert (state.memory, durable.memory) == ("", "")


@needs_tmpfs
@needs_disk
def test_what_somebody_else_has_made_there_is_not_used(
    in_memory: pathlib.Path, on_disk: pathlib.Path
) -> None:
    base(in_memory).symlink_to(on_disk)
    with StateDir() as state, DurableStateDir(str(on_disk / "state")) as durable:
        assert (state.memory, durable.memory) == ("", "")
        assert sorted(os.listdir(on_disk)) == [base(on_disk).name, "state"]


@needs_tmpfs
@needs_disk
def test_the_next_life_finds_the_folder_in_memory_again(
    in_memory: pathlib.Path, on_disk: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(on_disk / "state")
    with DurableStateDir(path) as state:
        memory = pathlib.Path(state.memory)
        (memory / "pods" / "uid").mkdir(parents=True)
    assert (memory / "pods" / "uid").is_dir()
    other = in_memory / "other"
    other.mkdir()
    monkeypatch.setattr(statedir, "memory_parents", lambda *_: [str(other)])
    with StateDir(), DurableStateDir(path) as state:  # whatever the environment says now
        assert state.memory == str(memory)
        (memory / "pods" / "uid").rmdir()
    assert not memory.exists()  # with no pod in it, it goes
    with DurableStateDir(path) as state:
        assert pathlib.Path(state.memory).parent == base(other)


@needs_tmpfs
@needs_disk
def test_only_a_folder_that_podvisor_has_made_is_found_again(
    in_memory: pathlib.Path, on_disk: pathlib.Path
) -> None:
    path = on_disk / "state"
    with DurableStateDir(str(path)) as state:
        memory = pathlib.Path(state.memory)
    other = in_memory / "other" / memory.name
    other.mkdir(parents=True)
    mode = other.parent.stat().st_mode
    (path / "memory").write_text(str(other))
    with DurableStateDir(str(path)) as state:
        assert state.memory == str(memory)
    assert (other.is_dir(), other.parent.stat().st_mode) == (True, mode)


@needs_tmpfs
@needs_disk
def test_a_folder_in_memory_is_swept_when_its_state_folder_is_gone(
    in_memory: pathlib.Path, on_disk: pathlib.Path
) -> None:
    path = str(on_disk / "state")
    with DurableStateDir(path) as state:
        memory = pathlib.Path(state.memory)
        (memory / "pods" / "uid").mkdir(parents=True)
        os.rename(path, f"{path}.moved")
        StateDir().close()
        assert memory.is_dir()  # its node lives
        os.rename(f"{path}.moved", path)
    StateDir().close()
    assert memory.is_dir()
    shutil.rmtree(path)
    StateDir().close()
    assert not memory.exists()


@needs_tmpfs
@needs_disk
@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run([*APART, "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0,
    reason="takes a mount namespace",
)
def test_what_a_container_still_has_is_not_swept_though_its_state_folder_was_moved(
    in_memory: pathlib.Path, on_disk: pathlib.Path
) -> None:
    path = str(on_disk / "state")
    with DurableStateDir(path) as state:
        memory = pathlib.Path(state.memory)
        volume = memory / "pods" / "uid" / "volume"
        volume.mkdir(parents=True)
    os.rename(path, f"{path}.moved")
    script = 'mount --bind "$0" /mnt && echo mounted && read -r line'
    with subprocess.Popen(
        [*APART, "sh", "-c", script, volume], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as container:
        assert container.stdout is not None
        assert container.stdout.readline() == b"mounted\n"
        StateDir().close()
        assert volume.is_dir()
        container.communicate(b"\n")
    StateDir().close()
    assert not memory.exists()


@needs_tmpfs
@needs_disk
def test_the_folder_of_a_dead_ephemeral_node_is_swept_in_memory_too(
    in_memory: pathlib.Path, on_disk: pathlib.Path
) -> None:
    left = base(in_memory) / "node-dead"
    left.mkdir(parents=True, mode=0o700)
    (left / "lock").touch()
    StateDir().close()
    assert not left.exists()


def test_nodes_of_one_process_that_are_made_on_two_threads_leave_each_others_folders_alone(
    on_disk: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Record locks tell only processes apart; the second sweeps while the first gives its lock
    the name that it is looked for by."""
    looked, named = threading.Event(), threading.Event()
    rename, refuse_own = os.rename, lock._refuse_own
    found = list[str]()

    def make() -> None:
        state = StateDir()
        found.append(state.path)
        state.close()

    second = threading.Thread(target=make)

    def look(path: str) -> None:
        refuse_own(path)
        if threading.current_thread() is second and os.path.basename(path) == "lock":
            looked.set()
            named.wait(10)

    def name(source: str, target: str) -> None:
        if threading.current_thread() is threading.main_thread():
            second.start()
            looked.wait(0.5)  # in vain where the second one waits for its turn
            rename(source, target)
            named.set()
        else:
            rename(source, target)

    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(statedir, "memory_parents", lambda *_: [])
    monkeypatch.setattr(lock, "_refuse_own", look)
    monkeypatch.setattr(os, "rename", name)
    with StateDir() as state:
        second.join()
        assert os.path.isdir(state.path)
    assert found
    assert not base(on_disk).exists()


def test_nobody_else_can_change_what_the_next_life_reads_whatever_the_umask(
    tmp_path: pathlib.Path,
) -> None:
    before = os.umask(0)
    try:
        with DurableStateDir(str(tmp_path / "state")) as state:
            state.note_command(["podvisor", "serve"], "/")
            modes = {each.name: each.stat().st_mode for each in os.scandir(state.path)}
    finally:
        os.umask(before)
    assert "command" in modes
    assert [name for name, mode in modes.items() if mode & 0o022] == []
