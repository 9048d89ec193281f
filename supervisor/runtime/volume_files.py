"""The files of volumes on the disk: made, rewritten, measured and removed.

What the node writes is swapped as a whole, as the kubelet's atomic writer does it: the files lie
in a folder named after the time, `..data` is a link to that folder and is replaced by a rename,
and what containers open is a link through `..data`. So a container sees all files as they were, or
all as they are, and never half of them.

A subPath is resolved once, when its container starts, and must lie within its volume then.
Containers have the same root folder as the host, so a link that leads out of a volume gets nobody
anywhere; it is refused because it does not in a cluster.

Everything here blocks: kubelet/volumes.py calls it on a thread. What fails is a VolumeError, for
one container a StartError, and env files' an OSError. The texts are the kubelet's, so those of Go
(`mkdir /x: permission denied`), and equal whenever the same thing fails again, or each try would be
an event of its own: what has another name each time is called as containers see it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping

from supervisor.api import v1
from supervisor.lifecycle import reasons
from supervisor.runtime.cri import Mount, StartError
from supervisor.runtime.env_files import MAX_BYTES
from supervisor.runtime.volumes import File, VolumeError

_DATA = "..data"
_NEW = "..data_tmp"


def native(text: str) -> str:
    """Text of a manifest as a path of `os`. Raises ValueError for what is none."""
    return os.fsdecode(text.encode("utf-8", "surrogateescape"))


# --- the pod's own volumes -----------------------------------------------------------------------


def make_empty(folder: str, fs_group: int | None) -> None:
    """The folder of an emptyDir; what it holds already stays."""
    _make_volume(folder)
    if fs_group is not None:
        with _told_as("lchown", folder):
            for path in _everything(folder):
                _give(path, fs_group, writable=True)


def _make_volume(folder: str) -> None:
    with _told_as("mkdir", folder):
        os.makedirs(folder, exist_ok=True)
    with _told_as("chmod", folder):
        os.chmod(folder, 0o777)  # noqa: S103


def write(folder: str, files: Mapping[str, File], fs_group: int | None) -> bool:
    """Have exactly these files in a volume; return whether they had to be written."""
    _make_volume(folder)
    with _told_as("open", folder):
        return _rewrite(folder, files, fs_group)


def _rewrite(folder: str, files: Mapping[str, File], fs_group: int | None) -> bool:
    link = os.path.join(folder, _DATA)
    name = os.readlink(link) if os.path.islink(link) else None
    wanted = {os.path.normpath(native(path)): file for path, file in files.items()}
    as_before = name is not None and _is_so(os.path.join(folder, name), wanted, fs_group)
    if not as_before:
        name = _swap(folder, wanted, fs_group)
    visible = {path.partition("/")[0] for path in wanted}
    # Even if nothing was written: whoever wrote it may not have come to its end.
    for entry in os.listdir(folder):
        path = os.path.join(folder, entry)
        if entry.startswith("..") and entry not in (_DATA, name):
            shutil.rmtree(path, ignore_errors=True)
        elif entry not in visible and _is_visible(path):
            os.unlink(path)
    for entry in visible:
        path = os.path.join(folder, entry)
        if not os.path.islink(path):
            os.symlink(os.path.join(_DATA, entry), path)
    return not as_before


def _swap(folder: str, files: Mapping[str, File], fs_group: int | None) -> str:
    """Write all files aside, then put them in place at once; return the name of their folder."""
    name = time.strftime("..%Y_%m_%d_%H_%M_%S.", time.gmtime()) + secrets.token_hex(4)
    try:
        _fill(folder, os.path.join(folder, name), files, fs_group)
    except (OSError, VolumeError):  # it is tried again and again: nothing may pile up
        shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
        raise
    temporary = os.path.join(folder, _NEW)
    with _told_as("symlink", temporary):
        if os.path.lexists(temporary):
            os.unlink(temporary)
        os.symlink(name, temporary)
    with _told_as("rename", temporary):
        os.rename(temporary, os.path.join(folder, _DATA))
    return name


def _is_visible(path: str) -> bool:
    """Whether it is a link of `write`; else it is where another volume is mounted."""
    return os.path.islink(path) and os.readlink(path).startswith(_DATA + "/")


def _fill(volume: str, folder: str, files: Mapping[str, File], fs_group: int | None) -> None:
    with _told_as("mkdir", volume):
        os.mkdir(folder)
        os.chmod(folder, 0o755)  # noqa: S103
    for name, file in files.items():
        path = os.path.join(folder, name)
        with _told_as("open", os.path.join(volume, name)):
            _make_folders(os.path.dirname(path))
            with open(path, "xb", opener=_private) as stream:
                stream.write(file.data)
            os.chmod(path, file.mode)
    if fs_group is not None:
        with _told_as("lchown", volume):
            for path in _everything(folder):
                _give(path, fs_group, writable=False)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _is_so(folder: str, wanted: Mapping[str, File], fs_group: int | None) -> bool:
    """Whether a folder holds these files and no others."""
    held = set()
    for path in _everything(folder):
        found = os.lstat(path)
        if stat.S_ISDIR(found.st_mode):
            continue
        name = os.path.relpath(path, folder)
        file = wanted.get(name)
        if file is None or not stat.S_ISREG(found.st_mode) or found.st_size != len(file.data):
            return False
        mode = file.mode if fs_group is None else file.mode | _bits(writable=False)
        if stat.S_IMODE(found.st_mode) != mode:
            return False
        with open(path, "rb") as stream:
            if stream.read() != file.data:
                return False
        held.add(name)
    return held == wanted.keys()


def _give(path: str, group: int, *, writable: bool) -> None:
    """To a group, as fsGroup says it."""
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        return
    os.chown(path, -1, group, follow_symlinks=False)
    mode = stat.S_IMODE(found.st_mode) | _bits(writable=writable)
    if stat.S_ISDIR(found.st_mode):
        mode |= stat.S_ISGID | 0o110
    os.chmod(path, mode)


def _bits(*, writable: bool) -> int:
    return 0o660 if writable else 0o440


def _everything(folder: str) -> Iterator[str]:
    """A folder and all that is in it."""
    yield folder
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            yield os.path.join(parent, name)


def used(folder: str) -> int:
    """The bytes of disk that a folder and all in it take, each file once."""
    total = 0
    seen: set[tuple[int, int]] = set()
    for path in _everything(folder):
        try:
            found = os.lstat(path)
        except OSError:  # it has gone meanwhile
            continue
        if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
            if (found.st_dev, found.st_ino) in seen:
                continue
            seen.add((found.st_dev, found.st_ino))
        total += 512 * found.st_blocks
    return total


def remove(folder: str) -> None:
    """Remove a folder, also what a container has closed to its own user."""
    shutil.rmtree(folder, ignore_errors=True)
    if os.path.isdir(folder):
        for parent, folders, _ in os.walk(folder):
            for name in folders:
                path = os.path.join(parent, name)
                if not os.path.islink(path):
                    with contextlib.suppress(OSError):  # of another user: then we are root
                        os.chmod(path, 0o700)
        shutil.rmtree(folder, ignore_errors=True)


# --- the host's ----------------------------------------------------------------------------------


def check_host_path(source: v1.HostPathVolumeSource) -> None:
    """See that there is what a hostPath's type says, or make it. Raises VolumeError."""
    path, kind = native(source.path), source.type or ""
    if not os.path.isabs(path):
        raise VolumeError(f"hostPath must be an absolute path: {path}")
    found = _mode(path)
    if found is None and kind in ("", "DirectoryOrCreate"):
        # Without a type it is the container runtime that makes it.
        try:
            _make_folders(path)
        except OSError as error:
            raise VolumeError(f"mkdir {error.filename}: {go_words(error)}") from error
        return
    if found is None and kind == "FileOrCreate":
        with _told_as("open", path):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
            os.chmod(path, 0o644)
        return
    words, matches = _TYPES[kind]
    if found is None or not matches(found):
        raise VolumeError(f"hostPath type check failed: {path} is not a {words}")


_TYPES: dict[str, tuple[str, Callable[[int], bool]]] = {
    "": ("path", lambda _: True),
    "DirectoryOrCreate": ("directory", stat.S_ISDIR),
    "Directory": ("directory", stat.S_ISDIR),
    "FileOrCreate": ("file", lambda mode: not stat.S_ISDIR(mode)),
    "File": ("file", lambda mode: not stat.S_ISDIR(mode)),
    "Socket": ("socket file", stat.S_ISSOCK),
    "CharDevice": ("character device", stat.S_ISCHR),
    "BlockDevice": ("block device", stat.S_ISBLK),
}


def _mode(path: str) -> int | None:
    """None also of what cannot be looked at: as in the kubelet, it is not there then."""
    try:
        return os.stat(path).st_mode
    except OSError:
        return None


def _make_folders(path: str) -> None:
    """With mode 0755 each, whatever our umask is."""
    missing = []
    while not os.path.isdir(path):
        if os.path.exists(path):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        missing.append(path)
        path = os.path.dirname(path)
    for folder in reversed(missing):
        os.mkdir(folder)
        os.chmod(folder, 0o755)  # noqa: S103


# --- what failed, as Go says it ------------------------------------------------------------------


def go_words(error: OSError) -> str:
    """The words of an errno."""
    return (error.strerror or str(error)).lower()


@contextlib.contextmanager
def _told_as(operation: str, path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise VolumeError(f"{operation} {path}: {go_words(error)}") from error


# --- what one container gets ---------------------------------------------------------------------


def resolve(mount: Mount, volume: str, container: str) -> str:
    """What of a volume is mounted, as Mount.source has it; made if it is missing.

    Raises StartError.
    """
    base = os.path.realpath(native(mount.source))
    path = os.path.join(base, native(mount.sub_path))
    try:
        if not os.path.lexists(path):
            _make_within(base, path)
        real = os.path.realpath(path, strict=True)
    except OSError as error:
        text = (
            f'failed to create subPath directory for volumeMount "{volume}" '
            f'of container "{container}"'
        )
        raise _refused(text) from error
    if real != base and not real.startswith(base.rstrip("/") + "/"):
        text = f'failed to prepare subPath for volumeMount "{volume}" of container "{container}"'
        raise _refused(text)
    return os.fsencode(real).decode("utf-8", "surrogateescape")


def _make_within(base: str, path: str) -> None:
    """Folders below a volume, each with the volume's own mode.

    By handles: we may be root, and whoever has the volume may exchange what lies in it meanwhile.
    """
    mode = stat.S_IMODE(os.stat(base).st_mode)
    missing = []
    while not os.path.lexists(path):
        missing.append(os.path.basename(path))
        path = os.path.dirname(path)
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    handle = os.open(path, flags)
    try:
        real = os.readlink(f"/proc/self/fd/{handle}")
        if real != base and not real.startswith(base.rstrip("/") + "/"):
            raise OSError("it lies outside the volume")
        for name in reversed(missing):
            os.mkdir(name, dir_fd=handle)
            made = os.open(name, flags | os.O_NOFOLLOW, dir_fd=handle)
            os.close(handle)
            handle = made
            os.chmod(f"/proc/self/fd/{handle}", mode)
    finally:
        os.close(handle)


def read_env_file(folder: str, path: str) -> bytes:
    """What a file of a volume holds, which containers may have put there as they like."""
    base = os.path.realpath(folder)
    real = os.path.realpath(os.path.join(base, native(path)), strict=True)
    with open(real, "rb", opener=_at_once) as stream:
        # Folders above it may have become links meanwhile: what counts is what was opened.
        opened = os.readlink(f"/proc/self/fd/{stream.fileno()}")
        if not opened.startswith(base + "/"):
            raise OSError("it lies outside the volume")
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError("not a regular file")
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise OSError(f"larger than {MAX_BYTES // 1024} KiB")
    return content


def _at_once(path: str, flags: int) -> int:
    """Nobody is waited for, as by opening a FIFO."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY)


def write_hosts(path: str, text: str) -> None:
    """In place: containers that run have this very file."""
    data = text.encode("utf-8", "surrogateescape")
    with _told_as("open", path):
        try:
            with open(path, "rb") as stream:
                if stream.read() == data:
                    return
        except FileNotFoundError:
            pass
        with open(path, "wb") as stream:
            os.fchmod(stream.fileno(), 0o644)
            stream.write(data)


def read_hosts(path: str) -> str:
    try:
        with open(path, "rb") as stream:
            return stream.read().decode("utf-8", "surrogateescape")
    except OSError:  # there are machines without
        return ""


def make_tmp(folder: str) -> None:
    """An empty /tmp."""
    with _told_as("mkdir", folder):
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o1777)  # noqa: S103


def _refused(message: str) -> StartError:
    return StartError(reasons.CREATE_CONTAINER_CONFIG_ERROR, message, created=False)
