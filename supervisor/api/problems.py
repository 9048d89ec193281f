"""What is wrong with a manifest: findings at field paths, and problems at places in a file.

A `Finding` is said about a field, by the decoder, the rules or the support table; none of them
knows about files. A `Problem` is the same with the place where the user has to look, and prints
as one line. Both are data: nothing here raises, prints or decides whether to go on.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable

import msgspec
from msgspec import Struct


class Key(str):
    """A key of a map (a label, a resource name) inside a path; prints in brackets."""

    __slots__ = ()


Path = tuple[str | int, ...]  # field names, indexes, and Keys

SHOWN = 200  # characters of a bad value that a message repeats
MAX_FINDINGS = 1000  # in one text or object: who gets more has not written them by hand
THE_REST = f"more than {MAX_FINDINGS} problems: the rest is not shown"
_PATH = 500  # characters of a path that a line shows; Kubernetes' longest key has 317
_TEXT = 2000


class Severity(enum.StrEnum):
    ERROR = "error"
    WARNING = "warning"


class Type(enum.StrEnum):
    """Kubernetes' types of field errors with the words they print; the last three are ours."""

    REQUIRED = "Required value"
    INVALID = "Invalid value"
    NOT_SUPPORTED = "Unsupported value"
    FORBIDDEN = "Forbidden"
    DUPLICATE = "Duplicate value"
    NOT_FOUND = "Not found"
    TOO_LONG = "Too long"
    TOO_MANY = "Too many"
    UNKNOWN = "Unknown field"
    SYNTAX = "Syntax"  # about the text, not about a field
    SAID = "Said"  # a sentence whose subject is the field: "… is ignored: …"


# What is wrong with these is the field being there: the place is its name, not its value.
_AT_NAME = frozenset({Type.FORBIDDEN, Type.UNKNOWN, Type.SAID})


class Finding(Struct, frozen=True):
    """Something to say about one field of one object."""

    type: Type
    path: Path
    text: str
    severity: Severity = Severity.ERROR
    suggestion: str = ""  # of an unknown field: the name that was probably meant
    place: Path | None = None  # where it stands, for rules that Kubernetes says of a parent

    @property
    def at_name(self) -> bool:
        return self.type in _AT_NAME

    def __str__(self) -> str:
        return join(self.type, _shown(render(self.path), _PATH), _shown(self.text, _TEXT))


class Problem(Struct, frozen=True):
    """A finding with its place, or a file that cannot be read. Line 0: the file as a whole."""

    severity: Severity
    source: str
    line: int
    col: int
    path: str
    text: str
    type: Type = Type.SYNTAX

    def __str__(self) -> str:
        source = printable(self.source)
        place = f"{source}:{self.line}:{self.col}" if self.line else source
        said = join(self.type, _shown(self.path, _PATH), _shown(self.text, _TEXT))
        return f"{place}: {self.severity}: {said}" if place else f"{self.severity}: {said}"


def join(kind: Type, path: str, text: str) -> str:
    if not path:
        return text
    return f"{path} {text}" if kind is Type.SAID else f"{path}: {text}"


def printable(text: str) -> str:
    """As one line that cannot steer a terminal: other people write keys and names of files."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def _shown(text: str, limit: int) -> str:
    return printable(text if len(text) <= limit else text[:limit] + "…")


def render(path: Path) -> str:
    """`spec.containers[0].resources.limits[cpu]`."""
    out: list[str] = []
    for part in path:
        if isinstance(part, str) and not isinstance(part, Key):
            out.append(f".{part}" if out else part)
        else:
            out.append(f"[{part}]")
    return "".join(out)


def parse(text: str) -> Path:
    """The other way round, of what any API server says; a key with a dot or bracket in it may come
    in parts, which stand nowhere."""
    parts = re.findall(r"\[([^\]]*)\]|([^.\[\]]+)", text)
    return tuple(
        name or (int(inside) if inside.isascii() and inside.isdigit() else Key(inside))
        for inside, name in parts
    )


def show(value: object) -> str:
    """A bad value as Kubernetes prints it: strings quoted, numbers plain, the rest as JSON."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    try:
        text = msgspec.json.encode(value).decode()
    except (TypeError, ValueError, OverflowError, RecursionError):
        text = "a value that cannot be shown"
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


# --- Kubernetes' field errors, one function per type ------------------------------------------


def required(path: Path, detail: str = "") -> Finding:
    return Finding(Type.REQUIRED, path, _text(Type.REQUIRED, detail))


def invalid(path: Path, value: object, detail: str) -> Finding:
    return Finding(Type.INVALID, path, _text(Type.INVALID, show(value), detail))


def not_supported(path: Path, value: object, supported: Iterable[str]) -> Finding:
    names = ", ".join(f'"{name}"' for name in supported)
    detail = f"supported values: {names}"
    return Finding(Type.NOT_SUPPORTED, path, _text(Type.NOT_SUPPORTED, show(value), detail))


def forbidden(path: Path, detail: str) -> Finding:
    return Finding(Type.FORBIDDEN, path, _text(Type.FORBIDDEN, detail))


def duplicate(path: Path, value: object) -> Finding:
    return Finding(Type.DUPLICATE, path, _text(Type.DUPLICATE, show(value)))


def not_found(path: Path, value: object) -> Finding:
    return Finding(Type.NOT_FOUND, path, _text(Type.NOT_FOUND, show(value)))


def too_long(path: Path, limit: int) -> Finding:
    detail = f"may not be more than {limit} bytes"
    return Finding(Type.TOO_LONG, path, _text(Type.TOO_LONG, detail))


def too_many(path: Path, count: int, limit: int) -> Finding:
    detail = f"must have at most {limit} items"
    return Finding(Type.TOO_MANY, path, _text(Type.TOO_MANY, show(count), detail))


def said(path: Path, text: str, severity: Severity = Severity.ERROR) -> Finding:
    """A sentence whose subject is the field: `said(("spec", "volumes"), "is refused: …")`."""
    return Finding(Type.SAID, path, text, severity)


def of_cause(field: str, message: str) -> Finding:
    """One of the causes in a server's refusal."""
    kind = next((each for each in Type if message.startswith(each)), Type.SYNTAX)
    return Finding(kind, parse(field), message)


def _text(*parts: str) -> str:
    return ": ".join(part for part in parts if part)


# --- the closing line --------------------------------------------------------------------------


def has_errors(problems: Iterable[Problem | Finding]) -> bool:
    return any(problem.severity is Severity.ERROR for problem in problems)


def summary(problems: Iterable[Problem | Finding], outcome: str = "nothing was started") -> str:
    """`2 errors, 1 warning; nothing was started`; without errors only the counts."""
    severities = [problem.severity for problem in problems]
    errors = severities.count(Severity.ERROR)
    warnings = severities.count(Severity.WARNING)
    counts = [
        f"{count} {word}{'' if count == 1 else 's'}"
        for count, word in ((errors, "error"), (warnings, "warning"))
        if count
    ]
    text = ", ".join(counts) or "no problems"
    return f"{text}; {outcome}" if errors and outcome else text
