"""What a container sees at paths of its own, and where on the host that lies.

A volume that is the pod's own has a folder in the pod's, named as the kubelet names it; it is
there before any container of the pod starts. What must not reach a disk lies in a folder of the
same layout in memory. `spec.py` asks this module what to mount from it. A
subPath is only said here: it is looked for, and made where it is missing, when the container is
about to start (volume_files.py).

Pure, and below spec.py. What cannot be mounted is a StartError with reason
CreateContainerConfigError, in the kubelet's words.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterator

from msgspec import Struct

from supervisor.api import v1
from supervisor.lifecycle import reasons
from supervisor.lifecycle.facts import ContainerId
from supervisor.runtime.cri import Mount, StartError

HOSTS = "/etc/hosts"

# Of a pod's own volumes: the attribute of their source, the folder of their kind.
_KINDS = {
    "empty_dir": "kubernetes.io~empty-dir",
    "config_map": "kubernetes.io~configmap",
    "secret": "kubernetes.io~secret",
    "downward_api": "kubernetes.io~downward-api",
    "projected": "kubernetes.io~projected",
}
_GROUP_REMEDY = (
    "is not possible in isolation mode group, where nothing can be mounted for one container; "
    "use a mode that podvisor doctor shows how to get"
)


class Folders(Struct, frozen=True):
    """Where a node keeps what belongs to its pods, as `os` takes it."""

    state: str
    memory: str = ""  # on a tmpfs, perhaps the same; empty: there is none


def mounts(
    pod: v1.Pod,
    container: v1.Container,
    id: ContainerId,
    folders: Folders,
    expand: Callable[[str], str],
    paths: tuple[tuple[str, str], ...] = (),
    *,
    private_tmp: bool,
) -> tuple[Mount, ...]:
    """Everything that is mounted for one instance; `expand` replaces `$(NAME)` in a subPathExpr.

    `paths`: of its image, target and source; a volume at the same target wins. Parents come before
    what lies in them.
    """
    volumes = {volume.name: volume for volume in pod.spec.volumes}
    uid = pod.metadata.uid
    found = {HOSTS: Mount(source=as_mounted(hosts_file(folders.state, uid)), target=HOSTS)}
    if private_tmp:
        found["/tmp"] = Mount(source=as_mounted(tmp_folder(folders.state, id)), target="/tmp")
    found |= {target: Mount(as_mounted(path), target) for target, path in paths}
    for mount in container.volume_mounts:
        volume = volumes[mount.name]
        sub_path = expand(mount.sub_path_expr) if mount.sub_path_expr else mount.sub_path
        _require_inside(sub_path, mount.sub_path_expr or sub_path)
        target = _absolute(mount.mount_path)
        if target == "/" or target == "/proc" or target.startswith("/proc/"):
            raise _refused(f"nothing can be mounted at {target}")
        found[target] = Mount(
            source=source(volume, folders, uid),
            target=target,
            read_only=mount.read_only or is_written(volume),
            sub_path=sub_path,
        )
    return tuple(sorted(found.values(), key=lambda mount: mount.target.count("/")))


def is_written(volume: v1.Volume) -> bool:
    """Whether what it holds is written by the node, and only read by containers."""
    return bool(volume.config_map or volume.secret or volume.downward_api or volume.projected)


def belongs_in_memory(volume: v1.Volume) -> bool:
    """Whether it must not reach a disk, if that can be had."""
    if volume.empty_dir is not None:
        return volume.empty_dir.medium == "Memory"
    if volume.projected is not None:
        return any(part.secret is not None for part in volume.projected.sources)
    return volume.secret is not None


def source(volume: v1.Volume, folders: Folders, pod_uid: str) -> str:
    """Where a volume lies, in the encoding of Mount."""
    if volume.host_path is not None:
        return volume.host_path.path
    return as_mounted(volume_folder(volume, folders, pod_uid))


def volume_folder(volume: v1.Volume, folders: Folders, pod_uid: str) -> str:
    """The folder of a volume that is the pod's own, as `os` takes it."""
    kind = next(kind for name, kind in _KINDS.items() if getattr(volume, name) is not None)
    folder = folders.memory if belongs_in_memory(volume) else ""
    return posixpath.join(volumes_folder(folder or folders.state, pod_uid), kind, volume.name)


def volumes_folder(folder: str, pod_uid: str) -> str:
    """Where the pod's own volumes are, in one of the node's folders."""
    return posixpath.join(pod_folder(folder, pod_uid), "volumes")


def pod_folder(folder: str, pod_uid: str) -> str:
    """What one of the node's folders has of a pod."""
    return posixpath.join(pods_folder(folder), pod_uid)


def pods_folder(folder: str) -> str:
    return posixpath.join(folder, "pods")


def hosts_file(state_dir: str, pod_uid: str) -> str:
    """The file that the pod's containers have as /etc/hosts."""
    return posixpath.join(pod_folder(state_dir, pod_uid), "etc-hosts")


def tmp_folder(state_dir: str, id: ContainerId) -> str:
    """The folder that an instance has as /tmp, if it is to have its own."""
    # Beside its termination message: it goes when that goes.
    return posixpath.join(
        pod_folder(state_dir, id.pod_uid), "containers", id.name, str(id.attempt), "tmp"
    )


def volume_at(container: v1.Container, target: str) -> str:
    """The name of the volume that a container has there."""
    return next(m.name for m in container.volume_mounts if _absolute(m.mount_path) == target)


def group_problems(pod: v1.Pod, *, private_tmp: bool) -> Iterator[tuple[str, str]]:
    """What a pod asks for that cannot be had in `group` mode: field, and why not."""
    if pod.spec.host_aliases:
        yield "spec.hostAliases", f"hostAliases {_GROUP_REMEDY}"
    for place, containers in (
        ("containers", pod.spec.containers),
        ("initContainers", pod.spec.init_containers),
    ):
        for index, container in enumerate(containers):
            for number, mount in enumerate(container.volume_mounts):
                path = f"spec.{place}[{index}].volumeMounts[{number}]"
                yield path, f"mounting volume {mount.name} at {mount.mount_path} {_GROUP_REMEDY}"
    if private_tmp:
        yield "private-tmp", f"private-tmp {_GROUP_REMEDY}"


def as_mounted(path: str) -> str:
    """A path of `os`, in the encoding of Mount."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")


def _absolute(path: str) -> str:
    """A mountPath may be relative: to the root, as in Kubernetes."""
    absolute = posixpath.normpath(posixpath.join("/", path))
    return "/" + absolute.lstrip("/")  # two slashes at the beginning mean nothing on Linux


def _require_inside(sub_path: str, written: str) -> None:
    """`written`: as the manifest has it. What it became may be a Secret's value."""
    if sub_path.startswith("/"):
        raise _refused(f"error SubPath `{written}` must not be an absolute path")
    if ".." in sub_path.split("/"):
        raise _refused(f"unable to provision SubPath `{written}`: must not contain '..'")


def _refused(message: str) -> StartError:
    return StartError(reasons.CREATE_CONTAINER_CONFIG_ERROR, message, created=False)
