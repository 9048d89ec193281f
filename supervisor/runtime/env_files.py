"""The env files that a pod's containers keep in its volumes: what `fileKeyRef` refers to.

A container writes such a file into an emptyDir, a later one gets variables from it. The format is
the kubelet's, stricter than that of any other env file: NAME='value', with the quotes, and nothing
that a shell would make of it. volume_files.py reads the files, spec.py asks here for their values.

Pure. What is wrong with a file is said with its line and without a word of its text.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping

from supervisor.api import v1

# By volume and path: what a file holds, or why that cannot be told.
EnvFiles = Mapping[tuple[str, str], bytes | OSError]

MAX_BYTES = 1024 * 1024
_LINE_BYTES = 64 * 1024 - 1  # what the kubelet can read of one


def references(container: v1.Container) -> Iterator[v1.FileKeySelector]:
    for variable in container.env:
        source = variable.value_from
        if source is not None and source.file_key_ref is not None:
            yield source.file_key_ref


def place(ref: v1.FileKeySelector) -> tuple[str, str]:
    """Which file is meant."""
    return ref.volume_name, posixpath.normpath(ref.path)


def find(content: bytes, name: str) -> bytes:
    """The value of the first variable of this name, empty if there is none.

    Raises ValueError for a file that is wrong, unless what is wrong comes after the value.
    """
    wanted = name.encode()
    lines = enumerate(_lines(content), 1)
    for number, line in lines:
        text = line.lstrip(b" \t")
        if not text or text.startswith(b"#"):
            continue
        found, equals, rest = text.partition(b"=")
        if not equals:
            raise _wrong(number, "missing '='")
        if not found.rstrip(b" \t"):
            raise _wrong(number, "empty variable name")
        if found.endswith((b" ", b"\t")):
            raise _wrong(number, "whitespace before '=' is not allowed")
        if rest.startswith((b" ", b"\t")):
            value = b""  # whatever follows: for a shell, that is another word
        elif rest.startswith(b"'"):
            value = _quoted(rest[1:], number, lines)
        else:
            raise _wrong(number, "value must be enclosed in single quotes")
        if found == wanted:
            return value
    return b""


def _quoted(rest: bytes, begin: int, lines: Iterator[tuple[int, bytes]]) -> bytes:
    """Up to the closing quote, which may be lines later."""
    parts = []
    number = begin
    while b"'" not in rest:
        parts.append(rest)
        number, rest = next(lines, (0, b""))
        if not number:
            raise ValueError(
                f"invalid environment variable format starting at line {begin}: "
                "unclosed single quote"
            )
    last, _, after = rest.partition(b"'")
    after = after.lstrip(b" \t")
    if after and not after.startswith(b"#"):
        raise _wrong(number, "unexpected content after closing quote")
    return b"\n".join([*parts, last])


def _lines(content: bytes) -> Iterator[bytes]:
    *lines, last = content.split(b"\n")
    for line in [*lines, last] if last else lines:
        if len(line) > _LINE_BYTES:
            raise ValueError("token too long")
        yield line.removesuffix(b"\r")


def _wrong(number: int, detail: str) -> ValueError:
    return ValueError(f"invalid environment variable format at line {number}: {detail}")
