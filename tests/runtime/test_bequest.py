"""What the launcher of an ephemeral node removes when its supervisor has died: everything that pods
have in the node's folders, and nothing else.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest

from supervisor.runtime import launcher
from tests.runtime.nodes import Way, open_node

SECRET = "pods/u-1/volumes/kubernetes.io~secret/login"
EMPTY = "pods/u-1/volumes/kubernetes.io~empty-dir/data"


def remove(folder: pathlib.Path, seconds: float = 30.0) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        launcher.remove_pods(handle, launcher.boottime() + seconds)
    finally:
        os.close(handle)


@pytest.fixture
def node(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "node"
    for name in (SECRET, EMPTY, "logs/web"):
        (folder / name).mkdir(parents=True)
    (folder / SECRET / "password").write_text("1")
    (folder / "logs/web/0.log").write_text("1")
    return folder


def test_what_pods_have_goes_and_logs_stay(node: pathlib.Path) -> None:
    (node / EMPTY / "a" / "b").mkdir(parents=True)
    (node / EMPTY / "a" / "file").write_text("1")
    os.mkfifo(node / EMPTY / "a" / "b" / "fifo")
    (node / EMPTY / "a").chmod(0)  # by its container
    remove(node)
    assert not list((node / "pods").iterdir())
    assert (node / "logs/web/0.log").read_text() == "1"
    remove(node)
    (node / "pods").rmdir()
    remove(node)


@pytest.mark.parametrize(
    "name",
    [EMPTY, f"{EMPTY}/a", SECRET, os.path.dirname(SECRET), "pods/u-1/volumes", "pods/u-1", "pods"],
)
def test_no_link_is_followed(tmp_path: pathlib.Path, node: pathlib.Path, name: str) -> None:
    other = tmp_path / "other" / "volumes" / "kubernetes.io~secret"
    other.mkdir(parents=True)
    (other / "kept").write_text("1")
    for target in (other, other.parent.parent):
        if os.path.lexists(node / name):
            (node / name).rename(tmp_path / f"aside-{target.name}")
        (node / name).parent.mkdir(parents=True, exist_ok=True)
        (node / name).symlink_to(target)
        remove(node)
        assert (other / "kept").read_text() == "1"
        assert os.path.lexists(node / name) == (name == "pods")


def test_no_depth_is_too_deep(node: pathlib.Path) -> None:
    depth, handles = 3000, os.open(node / EMPTY, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=handles)
        os.close(os.open("..1", os.O_CREAT | os.O_WRONLY, dir_fd=handles))  # as we name them
        below = os.open("d", os.O_RDONLY, dir_fd=handles)
        os.close(handles)
        handles = below
    os.close(handles)
    remove(node)
    assert not list((node / "pods").iterdir())


def test_what_cannot_be_removed_keeps_nothing_else_there(
    node: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink: Callable[..., None] = os.unlink

    def refuse(name: str, *, dir_fd: int) -> None:
        if name == "stuck":
            raise PermissionError
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(launcher.posix, "unlink", refuse)
    for number in range(5):
        data = node / EMPTY.replace("u-1", f"u-{number}")
        data.mkdir(parents=True, exist_ok=True)
        for name in ("a", "stuck", "z"):
            (data / name).write_text("1")
    remove(node)
    assert [p.name for p in (node / "pods").rglob("*") if not p.is_dir()] == ["stuck"] * 5


def test_secrets_go_first_and_nothing_after_the_deadline(
    node: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove(node, 0.0)
    assert (node / SECRET / "password").exists()
    later = node / "pods/u-2/volumes/kubernetes.io~secret/login"
    later.mkdir(parents=True)
    (later / "password").write_text("1")
    unlink: Callable[..., None] = os.unlink
    gone = []

    def note(name: str, *, dir_fd: int) -> None:
        gone.append(name)
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(launcher.posix, "unlink", note)
    for number in range(10):
        (node / EMPTY / f"file{number}").write_text("1")
    remove(node)
    assert gone[:2] == ["password", "password"]
    assert len(gone) == 12


@pytest.mark.anyio
async def test_a_supervisor_that_ends_in_order_removes_its_folders_itself(
    way: Way, folder: str
) -> None:
    secret = pathlib.Path(folder) / SECRET
    secret.mkdir(parents=True)
    async with open_node(way, folder):
        (secret / "password").write_text("1")
    assert (secret / "password").read_text() == "1"


MOUNTED = """\
import os, sys
from supervisor.runtime import launcher, volume_files
if sys.argv[1] == "launcher":
    folder = os.open("node", os.O_RDONLY)
    launcher.remove_pods(folder, launcher.boottime() + 30)
else:
    volume_files.remove("node/pods")
"""


@pytest.mark.skipif(
    os.geteuid() != 0
    or shutil.which("unshare") is None
    or subprocess.run(["unshare", "-m", "true"], stderr=subprocess.DEVNULL, check=False).returncode,
    reason="takes a mount namespace",
)
@pytest.mark.parametrize("who", ["launcher", "node"])
@pytest.mark.parametrize(
    "place", [f"{EMPTY}/a b", EMPTY, SECRET, os.path.dirname(SECRET), "pods/u-1", "pods"]
)
def test_what_somebody_has_mounted_there_stays_as_it_was(
    tmp_path: pathlib.Path, node: pathlib.Path, place: str, who: str
) -> None:
    """Also from the same file system: the kubelet does not look into it either."""
    kept = tmp_path / "kept"
    for name in ("volumes/kubernetes.io~secret/login", "kubernetes.io~secret/login", "login"):
        (kept / name).mkdir(parents=True)
        (kept / name / "file").write_text("1")
    (kept / "login").chmod(0o750)
    kept.chmod(0o750)
    (node / place).mkdir(exist_ok=True)
    (node / "pods/u-2").mkdir()
    before = seen(kept)
    script = 'mount --bind kept "$0" && exec "$@"'
    words = ("unshare", "-m", "sh", "-c", script, f"node/{place}", sys.executable, "-c", MOUNTED)
    done = subprocess.run([*words, who], cwd=tmp_path, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert seen(kept) == before
    assert (node / "pods/u-2").exists() == (place == "pods")


def seen(folder: pathlib.Path) -> list[tuple[str, int]]:
    return sorted((str(p), p.stat().st_mode) for p in (folder, *folder.rglob("*")))
