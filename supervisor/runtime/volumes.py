"""What the volumes hold that the node writes: configMap, secret, downwardAPI and projected.

`contents` says which files, with which bytes and modes; volume_files.py puts them on the disk and
keeps them so. What cannot be said, because something that is referred to does not exist, is a
VolumeError in the kubelet's words. No message holds a value.

Pure: ConfigMaps and Secrets come in with `NodeInfo`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct

from supervisor.api import quantity, v1
from supervisor.runtime.cri import StartError
from supervisor.runtime.spec import NodeInfo, field_value, resource_value

DEFAULT_MODE = 0o644

_GO_ESCAPES = {
    "\a": r"\a",
    "\b": r"\b",
    "\f": r"\f",
    "\n": r"\n",
    "\r": r"\r",
    "\t": r"\t",
    "\v": r"\v",
    '"': r"\"",
    "\\": r"\\",
}


class VolumeError(Exception):
    """A volume cannot be set up; the text is as in the kubelet's event."""


class File(Struct, frozen=True):
    """One file of a volume."""

    data: bytes
    mode: int


def contents(volume: v1.Volume, pod: v1.Pod, node: NodeInfo) -> dict[str, File]:
    """The files of a volume that the node writes, by their path in it. Raises VolumeError."""
    if volume.config_map is not None:
        source = volume.config_map
        held = _config_map(source.name, pod, node, optional=bool(source.optional))
        return _chosen(
            held, source.items, source.default_mode, _NO_CONFIG_KEY, optional=bool(source.optional)
        )
    if volume.secret is not None:
        secret = volume.secret
        held = _secret(secret.secret_name, pod, node, optional=bool(secret.optional))
        return _chosen(
            held, secret.items, secret.default_mode, _NO_SECRET_KEY, optional=bool(secret.optional)
        )
    if volume.downward_api is not None:
        downward = volume.downward_api
        return dict(_downward(downward.items, downward.default_mode, pod, node))
    assert volume.projected is not None, "a volume that nobody writes"
    return _projected(volume.projected, pod, node)


def size_limits(pod: v1.Pod) -> Iterator[tuple[v1.Volume, quantity.Quantity]]:
    """The volumes that may hold so much and no more."""
    for volume in pod.spec.volumes:
        if volume.empty_dir is not None and volume.empty_dir.size_limit is not None:
            limit = quantity.parse(volume.empty_dir.size_limit)
            if limit.nano > 0:  # as in the kubelet, 0 is no limit
                yield volume, limit


def hosts(host_file: str, address: str, own_name: str, aliases: Iterable[v1.HostAlias]) -> str:
    """The /etc/hosts of a pod that shares the host's network: the host's, and what is its own."""
    lines = ["# Kubernetes-managed hosts file (host network).\n", host_file]
    if host_file and not host_file.endswith("\n"):
        lines.append("\n")
    lines.append(f"{address}\t{own_name}\n")
    own = ["\t".join((alias.ip, *alias.hostnames)) + "\n" for alias in aliases]
    if own:
        lines += ["\n# Entries added by HostAliases.\n", *own]
    return "".join(lines)


_NO_CONFIG_KEY = "configmap references non-existent config key: "
_NO_SECRET_KEY = "references non-existent secret key: "  # noqa: S105


def _config_map(name: str, pod: v1.Pod, node: NodeInfo, *, optional: bool) -> Mapping[str, bytes]:
    held = node.configuration.config_maps.get((pod.metadata.namespace, name))
    if held is None and not optional:
        raise VolumeError(f'configmap "{name}" not found')
    return held or {}


def _secret(name: str, pod: v1.Pod, node: NodeInfo, *, optional: bool) -> Mapping[str, bytes]:
    held = node.configuration.secrets.get((pod.metadata.namespace, name))
    if held is None and not optional:
        raise VolumeError(f'secret "{name}" not found')
    return held or {}


def _chosen(
    held: Mapping[str, bytes],
    items: tuple[v1.KeyToPath, ...],
    mode: int | None,
    missing: str,
    *,
    optional: bool,
) -> dict[str, File]:
    """All keys, or those that are named, at the paths that are named with them."""
    usual = DEFAULT_MODE if mode is None else mode
    if not items:
        return {key: File(data, usual) for key, data in held.items()}
    files = {}
    for item in items:
        if item.key in held:
            own = usual if item.mode is None else item.mode
            files[item.path] = File(held[item.key], own)
        elif not optional:
            raise VolumeError(f"{missing}{item.key}")
    return files


def _downward(
    items: tuple[v1.DownwardAPIVolumeFile, ...], mode: int | None, pod: v1.Pod, node: NodeInfo
) -> Iterator[tuple[str, File]]:
    usual = DEFAULT_MODE if mode is None else mode
    for item in items:
        try:
            text = _said(item, pod, node)
        except StartError as error:
            raise VolumeError(error.message) from error
        data = text.encode("utf-8", "surrogateescape")
        yield item.path, File(data, usual if item.mode is None else item.mode)


def _said(item: v1.DownwardAPIVolumeFile, pod: v1.Pod, node: NodeInfo) -> str:
    if item.field_ref is not None:
        match item.field_ref.field_path:
            case "metadata.labels":
                return _lines(pod.metadata.labels)
            case "metadata.annotations":
                return _lines(pod.metadata.annotations)
            case path:
                return field_value(pod, path, node)
    assert item.resource_field_ref is not None, "an item without a source"
    return resource_value(pod, v1.Container(), item.resource_field_ref, node)


def _lines(entries: Mapping[str, str]) -> str:
    return "\n".join(f"{key}={_quoted(entries[key])}" for key in sorted(entries))


def _quoted(text: str) -> str:
    """As Go quotes it (%q)."""
    return f'"{"".join(_go(character) for character in text)}"'


def _go(character: str) -> str:
    if character in _GO_ESCAPES:
        return _GO_ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _projected(source: v1.ProjectedVolumeSource, pod: v1.Pod, node: NodeInfo) -> dict[str, File]:
    """All sources in one; of two files at one path the later one."""
    mode = source.default_mode
    files: dict[str, File] = {}
    errors: list[str] = []
    for part in source.sources:
        try:
            files |= _part(part, mode, pod, node)
        except VolumeError as error:
            errors.append(str(error))
    if errors:
        raise VolumeError(errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]")
    return files


def _part(
    part: v1.VolumeProjection, mode: int | None, pod: v1.Pod, node: NodeInfo
) -> dict[str, File]:
    if part.config_map is not None:
        source, missing, find = part.config_map, _NO_CONFIG_KEY, _config_map
    elif part.secret is not None:
        source, missing, find = part.secret, _NO_SECRET_KEY, _secret
    else:
        items = part.downward_api.items if part.downward_api is not None else ()
        return dict(_downward(items, mode, pod, node))
    optional = bool(source.optional)
    held = find(source.name, pod, node, optional=optional)
    return _chosen(held, source.items, mode, missing, optional=optional)
