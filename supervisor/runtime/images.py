"""What an image stands for on this machine, and which program a container of it runs.

A manifest names images, and no image is ever fetched: podvisor.toml and `--map` say which local
command each one stands for. An entry is what an image's configuration is to a container runtime
(ENTRYPOINT, CMD, Env, User, WorkingDir, StopSignal), so a container's own fields combine with it
as they do in a cluster. project/manifests.py reads entries, and refuses pods whose containers have
no program; spec.py makes of a container and its entry what is started.

Pure: users are looked up and paths are made absolute by whoever reads the entries. What an entry
says is never expanded: the kubelet replaces `$(NAME)` in a manifest's words only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from supervisor.api import v1

_DEFAULT_DOMAIN = "docker.io"
_OFFICIAL = "library/"
_GLOB = re.compile(r"[*?[]")

_T = TypeVar("_T")


class ImageUser(Struct, frozen=True):
    """Whom the processes of an image belong to."""

    name: str  # as it was written: a number, or the name of a user of this machine
    uid: int
    gid: int  # of the user database; 0 for a number that is not in it

    @property
    def is_numeric(self) -> bool:
        return self.name.isdecimal()


class Image(Struct, frozen=True, kw_only=True):
    """What one entry says an image is."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    working_dir: str = ""  # absolute; empty: where containers of this pod begin anyway
    env: tuple[tuple[str, str], ...] = ()
    user: ImageUser | None = None  # none: as podvisor itself
    stop_signal: str = ""
    paths: tuple[tuple[str, str], ...] = ()  # in the container, on the host; both absolute


class Found(Struct, frozen=True):
    """The image that a reference stands for, and why."""

    image: Image
    rule: str  # the key of its entry, or the `--map` that gave its command


class Images(Struct, frozen=True):
    """All that is known about images: the entries of a podvisor.toml, the maps of a command line.

    The keys of both are references, with or without tag and digest, or globs.
    """

    entries: tuple[tuple[str, Image], ...] = ()
    maps: tuple[tuple[str, tuple[str, ...]], ...] = ()  # entrypoints, before those of entries
    file: str = "podvisor.toml"  # as one would type it: that has the entries, or would have them

    def find(self, reference: str) -> Found | None:
        """What an image stands for.

        A map replaces the words of its entry, as `docker run --entrypoint` does; the rest stays.
        """
        entry, words = _look_up(reference, self.entries), _look_up(reference, self.maps)
        if words is not None:
            image = entry[1] if entry is not None else Image()
            return Found(replace(image, entrypoint=words[1], command=()), f"--map {words[0]}")
        return Found(entry[1], entry[0]) if entry is not None else None


class Reference(Struct, frozen=True):
    """An image reference, taken apart: `nginx` is the name `docker.io/library/nginx`."""

    name: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}" + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """Take a reference apart as container runtimes do. What is none is a name."""
    rest, _, digest = text.partition("@")
    name, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:  # the colon was that of a registry's port
        name, tag = rest, ""
    domain, slash, path = name.partition("/")
    if not slash or not ("." in domain or ":" in domain or domain == "localhost"):
        domain, path = _DEFAULT_DOMAIN, name
    if domain in (_DEFAULT_DOMAIN, "index.docker.io"):
        domain = _DEFAULT_DOMAIN
        path = path if "/" in path else f"{_OFFICIAL}{path}"
    return Reference(f"{domain}/{path}", tag, digest)


def familiar(name: str) -> str:
    """The short form of a name: `nginx` for `docker.io/library/nginx`."""
    short = name.removeprefix(f"{_DEFAULT_DOMAIN}/")
    return short if short == name else short.removeprefix(_OFFICIAL)


def is_glob(key: str) -> bool:
    return _GLOB.search(key) is not None


def duplicates(keys: Iterable[str]) -> dict[str, str]:
    """Keys that name the same images as an earlier one, and which."""
    first: dict[str, str] = {}
    found: dict[str, str] = {}
    for key in keys:
        if not is_glob(key):
            meant = str(parse(key))
            if meant in first:
                found[key] = first[meant]
            first.setdefault(meant, key)
    return found


def _look_up(reference: str, entries: tuple[tuple[str, _T], ...]) -> tuple[str, _T] | None:
    """The entry for a reference: the reference itself, then without digest, then without tag, then
    globs, the longest first."""
    if not reference:
        return None
    meant = parse(reference)
    names = _forms(meant)
    plain = {str(parse(key)): (key, what) for key, what in entries if not is_glob(key)}
    for name in names:
        if name in plain:
            return plain[name]
    spellings = {reference, *names, *(familiar(name) for name in names)}
    globs = sorted((e for e in entries if is_glob(e[0])), key=lambda e: len(e[0]), reverse=True)
    for key, what in globs:
        if any(fnmatchcase(spelling, key) for spelling in spellings):
            return key, what
    return None


def _forms(meant: Reference) -> list[str]:
    """The ways in which entries can name this image, from the most exact one."""
    name, tag, digest = meant.name, meant.tag, meant.digest
    if not tag and not digest:
        tag = "latest"  # which is what a reference without either means
    forms = [Reference(name, tag, digest)]
    if digest:  # which says more than a tag
        forms.append(Reference(name, "", digest))
    if tag:
        forms.append(Reference(name, tag))
    forms.append(Reference(name))
    return list(dict.fromkeys(str(form) for form in forms))


# --- the words of a container --------------------------------------------------------------------


def words(
    container: v1.Container, image: Image | None, expand: Callable[[str], str] = str
) -> tuple[str, ...]:
    """What a container runs: its own words, and the image's where it has none (§9.2).

    `expand` is applied to the container's own. Empty when nothing names a program.
    """
    image = image or Image()
    command = tuple(expand(word) for word in container.command)
    args = tuple(expand(word) for word in container.args)
    if command:
        return command + args
    return image.entrypoint + (args or image.command)


def no_program(container: v1.Container, known: Images) -> str | None:
    """Why nothing is there that this container could run, and what to write where; else None."""
    found = known.find(container.image)
    if not container.image:
        return (
            None
            if container.command
            else "no command specified: there is no image to take one from"
        )
    if found is not None and words(container, found.image):
        return None
    if found is None and container.command:
        return None
    key = suggested_key(container.image)
    if found is None:
        return (
            f'"{container.image}" stands for no local command, and the container has none of its '
            f'own: add the lines `[images."{key}"]` and `entrypoint = ["PROGRAM"]` to '
            f"{known.file}, or use --map {key}=PROGRAM"
        )
    return (
        f'"{container.image}" is [images."{found.rule}"] in {known.file}, which names no program, '
        'and the container has no command: add the line `entrypoint = ["PROGRAM"]` to it'
    )


def suggested_key(reference: str) -> str:
    """The key to write for an image: without tag and digest, which change."""
    return familiar(parse(reference).name)
