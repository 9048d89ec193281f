"""The volumes of this node's pods: set up before anything of a pod starts, kept, taken down.

The worker calls it where it performs actions, the node when ConfigMaps and Secrets have changed.
What a volume holds is runtime/volumes.py's to say, and how it lies on the disk that of
runtime/volume_files.py. Here is only that all this blocks, and is done on a thread, and that the
volumes of one pod are worked on by one at a time.

Nothing is remembered: whatever is to be done follows from the pod and from what lies on the disk,
so a node that comes back goes on with what it finds.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from msgspec.structs import replace

from supervisor.api import quantity, v1
from supervisor.lifecycle import reasons
from supervisor.lifecycle.facts import VolumeFailure
from supervisor.runtime import env_files, mounts, volume_files, volumes
from supervisor.runtime.cri import LaunchSpec, StartError
from supervisor.runtime.env_files import EnvFiles
from supervisor.runtime.mounts import Folders
from supervisor.runtime.spec import NodeInfo, hostname
from supervisor.runtime.volumes import VolumeError

_T = TypeVar("_T")


async def on_thread(work: Callable[[], Any], *, abandoned: bool = False) -> Any:
    """`abandoned`: who is cancelled does not wait for the end of it."""
    try:
        return await anyio.to_thread.run_sync(work, abandon_on_cancel=abandoned)
    except RuntimeError:  # no thread can be had (RLIMIT_NPROC, pids.max): it must be done anyway
        return work()


class VolumeManager:
    """`info` says what pods need to know of the machine, and the configuration as it is now.

    `folders` are those of the node that it names. `elsewhere` does what blocks.
    """

    def __init__(
        self,
        info: Callable[[v1.Pod], NodeInfo],
        folders: Folders,
        elsewhere: Callable[[Callable[[], Any]], Awaitable[Any]] = on_thread,
    ) -> None:
        self._info = info
        self._folders = folders
        self._elsewhere = elsewhere
        self._turns: dict[str, anyio.Lock] = {}  # by pod uid

    async def set_up(self, pod: v1.Pod) -> tuple[VolumeFailure, ...]:
        """Make all volumes of a pod ready; return what could not be. Doing it twice is harmless."""
        if not pod.spec.volumes:
            return ()
        return await self._in_turn(pod, partial(_set_up, pod, self._info(pod)))

    async def update(self, pod: v1.Pod) -> tuple[VolumeFailure, ...]:
        """Rewrite what the node has written, where it is to be otherwise now.

        What cannot be said any more stays as it is, and is returned.
        """
        if not any(mounts.is_written(volume) for volume in pod.spec.volumes):
            return ()
        return await self._in_turn(pod, partial(_update, pod, self._info(pod)))

    async def read_env_files(self, pod: v1.Pod, container: v1.Container) -> EnvFiles:
        """What the files hold now that a container's variables refer to."""
        wanted = {env_files.place(ref) for ref in env_files.references(container)}
        if not wanted:
            return {}
        return await self._in_turn(pod, partial(_read_env_files, pod, self._folders, wanted))

    async def open(self, pod: v1.Pod, spec: LaunchSpec) -> LaunchSpec:
        """What is to be started, with all that it mounts in place. Raises StartError."""
        if not spec.mounts:
            return spec
        return await self._in_turn(pod, partial(_open, pod, self._info(pod), spec))

    async def tear_down(self, pod: v1.Pod) -> None:
        """Remove the pod's own volumes. Nothing of the pod runs any more."""
        if pod.spec.volumes:
            await self._in_turn(pod, partial(_tear_down, pod.metadata.uid, self._folders))
        self._turns.pop(pod.metadata.uid, None)

    async def remove_others(self, known: frozenset[str]) -> None:
        """Remove the volumes of pods with other uids: an earlier life of the node has left them."""
        await self._elsewhere(partial(_remove_others, known, self._folders))

    async def over_limit(self, pod: v1.Pod) -> tuple[str, str] | None:
        """The first volume that holds more than it may, and how much that is."""
        over: tuple[str, str] | None = await self._elsewhere(
            partial(_over_limit, pod, self._folders)
        )
        return over

    async def _in_turn(self, pod: v1.Pod, work: Callable[[], _T]) -> _T:
        async with self._turns.setdefault(pod.metadata.uid, anyio.Lock()):
            done: _T = await self._elsewhere(work)
            return done


def _set_up(pod: v1.Pod, node: NodeInfo) -> tuple[VolumeFailure, ...]:
    return _each(pod.spec.volumes, lambda volume: _set_up_one(volume, pod, node))


def _update(pod: v1.Pod, node: NodeInfo) -> tuple[VolumeFailure, ...]:
    uid = pod.metadata.uid
    written = [
        volume
        for volume in pod.spec.volumes
        if mounts.is_written(volume)
        # Else it was never set up, or is torn down by now.
        and os.path.isdir(mounts.volume_folder(volume, node.folders, uid))
    ]
    return _each(written, lambda volume: _set_up_one(volume, pod, node))


def _each(
    wanted: Iterable[v1.Volume], work: Callable[[v1.Volume], None]
) -> tuple[VolumeFailure, ...]:
    failures = []
    for volume in wanted:
        try:
            work(volume)
        except OSError as error:
            failures.append(VolumeFailure(volume.name, volume_files.go_words(error)))
        except (VolumeError, ValueError) as error:
            failures.append(VolumeFailure(volume.name, str(error)))
    return tuple(failures)


def _set_up_one(volume: v1.Volume, pod: v1.Pod, node: NodeInfo) -> None:
    if volume.host_path is not None:
        volume_files.check_host_path(volume.host_path)
        return
    if mounts.belongs_in_memory(volume) and node.memory_dir:
        _make_pod_folder(node.memory_dir, pod.metadata.uid)
    folder = mounts.volume_folder(volume, node.folders, pod.metadata.uid)
    group = _fs_group(pod, node)
    if mounts.is_written(volume):
        volume_files.write(folder, volumes.contents(volume, pod, node), group)
    else:
        volume_files.make_empty(folder, group)


def _make_pod_folder(memory: str, uid: str) -> None:
    """In memory, for nobody else, as the runtime makes the one in the state folder.

    The node's own folder is not made again: whoever has removed it will do so another time.
    """
    for folder, mode in (
        (mounts.pods_folder(memory), 0o711),
        (mounts.pod_folder(memory, uid), 0o700),
    ):
        try:
            os.mkdir(folder, mode)
        except FileExistsError:
            pass
        except OSError as error:
            raise VolumeError(f"mkdir {folder}: {volume_files.go_words(error)}") from error


def _tear_down(uid: str, folders: Folders) -> None:
    # Whatever belongs in memory may still lie on the disk: there was no tmpfs in an earlier life.
    volume_files.remove(mounts.volumes_folder(folders.state, uid))
    if folders.memory not in ("", folders.state):
        volume_files.remove(mounts.pod_folder(folders.memory, uid))


def _remove_others(known: frozenset[str], folders: Folders) -> None:
    for folder in {folders.state, folders.memory} - {""}:
        try:
            uids = set(os.listdir(mounts.pods_folder(folder)))
        except OSError:  # nothing has been there
            continue
        for uid in uids - known:
            _tear_down(uid, folders)


def _fs_group(pod: v1.Pod, node: NodeInfo) -> int | None:
    """The group that volumes are given to; one that cannot be had keeps containers from starting,
    which says so better."""
    security = pod.spec.security_context
    group = security.fs_group if security is not None else None
    possible = node.changes_users or group in (node.gid, *node.groups)
    return group if possible else None


def _read_env_files(pod: v1.Pod, folders: Folders, wanted: Iterable[tuple[str, str]]) -> EnvFiles:
    places = {
        volume.name: mounts.volume_folder(volume, folders, pod.metadata.uid)
        for volume in pod.spec.volumes
        if volume.empty_dir is not None
    }
    found: dict[tuple[str, str], bytes | OSError] = {}
    for name, path in wanted:
        try:
            found[name, path] = volume_files.read_env_file(places[name], path)
        except OSError as error:
            found[name, path] = error
        except ValueError:  # a path that no file can have
            found[name, path] = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return found


def _open(pod: v1.Pod, node: NodeInfo, spec: LaunchSpec) -> LaunchSpec:
    uid = pod.metadata.uid
    hosts_file = mounts.hosts_file(node.state_dir, uid)
    tmp_folder = mounts.tmp_folder(node.state_dir, spec.id)
    container = next(c for c in v1.containers(pod.spec) if c.name == spec.id.name)
    for failure in _restore_memory(pod, container, node):
        raise StartError(reasons.CREATE_CONTAINER_CONFIG_ERROR, failure.error, created=False)
    opened = []
    try:
        for mount in spec.mounts:
            if mount.source == mounts.as_mounted(hosts_file):
                host_file = volume_files.read_hosts(mounts.HOSTS)
                aliases = pod.spec.host_aliases
                text = volumes.hosts(host_file, node.host_ip, hostname(pod), aliases)
                volume_files.write_hosts(hosts_file, text)
            elif mount.source == mounts.as_mounted(tmp_folder):
                # It may be much: else the runtime would have to remove it, and not on a thread.
                earlier = replace(spec.id, attempt=spec.id.attempt - 1)
                volume_files.remove(mounts.tmp_folder(node.state_dir, earlier))
                volume_files.make_tmp(tmp_folder)
            if mount.sub_path:
                volume = mounts.volume_at(container, mount.target)
                source = volume_files.resolve(mount, volume, container.name)
                opened.append(replace(mount, source=source, sub_path=""))
            else:
                opened.append(mount)
    except (VolumeError, ValueError) as error:
        raise StartError(reasons.CREATE_CONTAINER_ERROR, str(error), created=False) from error
    return replace(spec, mounts=tuple(opened))


def _restore_memory(
    pod: v1.Pod, container: v1.Container, node: NodeInfo
) -> tuple[VolumeFailure, ...]:
    """Make again what has vanished of memory while the pod lived: a logout may empty it."""
    mounted = {mount.name for mount in container.volume_mounts}
    uid = pod.metadata.uid
    vanished = [
        volume
        for volume in filter(mounts.belongs_in_memory, pod.spec.volumes)
        if volume.name in mounted
        and not os.path.isdir(mounts.volume_folder(volume, node.folders, uid))
    ]
    return _each(vanished, lambda volume: _set_up_one(volume, pod, node))


def _over_limit(pod: v1.Pod, folders: Folders) -> tuple[str, str] | None:
    for volume, limit in volumes.size_limits(pod):
        folder = mounts.volume_folder(volume, folders, pod.metadata.uid)
        if volume_files.used(folder) * quantity.NANO > limit.nano:
            return volume.name, str(limit)
    return None
