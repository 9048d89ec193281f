"""Text to typed objects and back: YAML as kubectl reads it, JSON, lists, source places.

Reading is in two steps, so that everything wrong with a file is found at once. `read` turns text
into `Document`s: plain data, plus where each value stands. `decode` turns plain data into the
types of `v1`, strictly: an unknown field or a wrong type is a `Finding`, and the rest is read
all the same. Mistakes of the text are told without what stands there: it may be a Secret's value.
`dump` writes objects as kubectl prints them. Callers are the command line and the
API; nobody else parses a manifest.

Scalars are read with kubectl's YAML 1.1 (`yes` and `on` are booleans, `0777` is octal, a date
stays text), not with the parser's own idea of it, because the manifest has to mean the same on
a cluster. What is refused: duplicate keys, text that is larger than a request to a cluster may
be, and more values than such a text holds, aliases followed. Time and memory are bounded for any
text at all: reading ends at `MAX_FINDINGS` mistakes, and no scan starts twice at one place.

The decoder walks the annotations of `v1` as text (its docstring says which forms there are)
instead of resolving them: that is done class by class, when a manifest first needs the class.
Only `yaml` parses YAML here, imported when there is some.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple, NoReturn, TypeVar

import msgspec

from supervisor.api import quantity, v1
from supervisor.api.problems import (
    MAX_FINDINGS,
    Finding,
    Key,
    Path,
    Problem,
    Severity,
    Type,
    invalid,
    not_supported,
    render,
    said,
    show,
)

MAX_BYTES = 3 * 1024 * 1024  # what an API server takes in one request
MAX_NODES = 250_000  # keys and values, after aliases are followed
MAX_DEPTH = 100
_TOO_MANY = f"cannot read: more than {MAX_NODES} values"
_TOO_DEEP = f"cannot read: nested deeper than {MAX_DEPTH} levels"

T = TypeVar("T", bound=v1.Model)


# --- documents ---------------------------------------------------------------------------------


class _Place(NamedTuple):
    """Where a value stands, and the places inside it: by key (with the key's own), by index."""

    line: int
    col: int
    keys: dict[str, tuple[tuple[int, int], _Place]]
    items: list[_Place]


class Document:
    """One object of a manifest: plain data and where each part of it stands."""

    def __init__(
        self, data: Any, source: str, places: Callable[[], _Place], prefix: Path = ()
    ) -> None:
        self.data = data
        self.source = source
        self.prefix = prefix  # ("items", 2) for the third item of a List
        self._places = places

    def locate(self, path: Path, *, name: bool = False) -> tuple[int, int]:
        """Line and column of the value at `path`, or of its field name.

        What is not in the text stands where the innermost object around it stands.
        """
        place = self._places()
        spot = place.line, place.col
        for part in path:
            if isinstance(part, int):
                if part >= len(place.items):
                    return spot
                place = place.items[part]
                spot = place.line, place.col
            else:
                entry = place.keys.get(part)
                if entry is None:
                    return spot
                key, place = entry
                spot = key if name else (place.line, place.col)
        return spot

    def problem(self, finding: Finding) -> Problem:
        at = finding.path if finding.place is None else finding.place
        line, col = self.locate(at, name=finding.at_name or finding.place is not None)
        path = render((*self.prefix, *finding.path))
        return Problem(finding.severity, self.source, line, col, path, finding.text, finding.type)

    def items(self) -> Iterator[Document]:
        """The objects of a List, or this one object."""
        data = self.data
        kind = str(data.get("kind")) if isinstance(data, dict) else ""
        items = data.get("items", ()) if kind.endswith("List") else ()
        if items is None:
            return  # as empty as []
        if not isinstance(items, list):
            yield self
            return
        for index, item in enumerate(items):
            if kind != "List" and isinstance(item, dict):  # items of typed lists are untyped
                own = {"apiVersion": data.get("apiVersion"), "kind": kind.removesuffix("List")}
                item = own | item
            yield Document(item, self.source, self._item(index), (*self.prefix, "items", index))

    def _item(self, index: int) -> Callable[[], _Place]:
        return lambda: self._places().keys["items"][1].items[index]


class _SyntaxError(Exception):
    """Raised inside the readers only; `read` turns it into a Problem."""

    def __init__(self, line: int, col: int, text: str) -> None:
        super().__init__(text)
        self.line, self.col, self.text = line, col, text
        self.before: list[Document] = []  # documents that end before the place


class _LimitError(_SyntaxError):
    """Of a limit, so there is no sense in reading the text in another way."""


def read(content: bytes | str, source: str) -> tuple[list[Document], list[Problem]]:
    """All documents of one file, items of lists one by one, and what is wrong with its text."""
    try:
        text = _text(content)
        documents, problems = _read_text(text, source)
    except _SyntaxError as error:
        documents = error.before
        problems = [_syntax(source, error.line, error.col, error.text)]
    return [item for document in documents for item in document.items()], problems


def read_body(content: bytes, form: str) -> tuple[Any, tuple[str, ...]]:
    """The one value of a request, `json` or `yaml`, and the paths of keys that are there twice.

    The last one of those counts. Raises ValueError with what is wrong with the text.
    """
    try:
        read_text = _read_json if form == "json" else _read_yaml
        documents, problems = read_text(_text(content), "")
    except _SyntaxError as error:
        place = f"line {error.line}, column {error.col}: " if error.line else ""
        raise ValueError(f"{place}{error.text}") from None
    if len(documents) != 1:
        raise ValueError(f"{'no value' if not documents else 'more than one value'} in the text")
    return documents[0].data, tuple(problem.path for problem in problems)


def _syntax(source: str, line: int, col: int, text: str, path: str = "") -> Problem:
    return Problem(Severity.ERROR, source, line, col, path, text)


def _already_set(source: str, path: Path, line: int, col: int, first: int) -> Problem:
    text = f"key {show(path[-1])} already set in line {first}"
    return _syntax(source, line, col, text, render(path))


def _text(content: bytes | str) -> str:
    if len(content) > MAX_BYTES:
        raise _SyntaxError(0, 0, f"cannot read: larger than {MAX_BYTES // 1024**2} MiB")
    if isinstance(content, str):
        return content
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode()
        line, col = _position(before, len(before))
        raise _SyntaxError(line, col, "cannot read: not UTF-8") from None


def _read_text(text: str, source: str) -> tuple[list[Document], list[Problem]]:
    try:
        return _read_either(text, source)
    except _LimitError:
        raise
    except _SyntaxError as error:
        # In YAML that can be read `{{` is rare, in the templates of a chart it is in every line.
        lines = text.split("\n")
        if 0 < error.line <= len(lines) and "{{" in lines[error.line - 1]:
            error.text += "; is it a template? `helm template` makes manifests of a chart"
        raise


def _read_either(text: str, source: str) -> tuple[list[Document], list[Problem]]:
    if not text.lstrip().startswith("{"):
        return _read_yaml(text, source)
    try:
        return _read_json(text, source)
    except _LimitError:
        raise
    except _SyntaxError as json_error:
        # A flow mapping is YAML as well; if it is neither, it was probably meant as JSON.
        try:
            return _read_yaml(text, source)
        except _SyntaxError:
            if "\n---" in text:  # only YAML has that
                raise
            raise json_error from None


# --- JSON --------------------------------------------------------------------------------------

# A string that does not end is a token too: else each of its quotes would be tried as a start.
_JSON_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[{}\[\]:,]|[^\s{}\[\]:,"]+', re.DOTALL)
_JSON_SPACE = re.compile(r"[ \t\r\n]*")


def _read_json(text: str, source: str) -> tuple[list[Document], list[Problem]]:
    import json

    depth = nodes = 0
    for token in _JSON_TOKEN.finditer(text):  # json itself would recurse
        word = token[0]
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(word, 0)
        nodes += word not in "}],:"
        if depth > MAX_DEPTH or nodes > MAX_NODES:
            message = _TOO_MANY if nodes > MAX_NODES else _TOO_DEEP
            raise _LimitError(*_position(text, token.start()), message)

    duplicates = False  # where they stand is found out afterwards

    def pairs(entries: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal duplicates
        mapping = dict(entries)
        duplicates = duplicates or len(mapping) < len(entries)
        return mapping

    def constant(name: str) -> Any:
        raise ValueError(f"{name} is not JSON")

    decoder = json.JSONDecoder(
        object_pairs_hook=pairs, parse_constant=constant, parse_int=_json_int
    )
    escapes = "\\u" in text
    documents: list[Document] = []
    at = _end_of_space(text, 0)
    while at < len(text):
        try:
            data, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            message = (error.msg[:1].lower() + error.msg[1:]).removesuffix(" at")
            raise _SyntaxError(error.lineno, error.colno, f"not JSON: {message}") from None
        except ValueError as error:
            raise _SyntaxError(*_position(text, at), f"not JSON: {error}") from None
        if escapes:
            _refuse_half_characters(data, text, at)
        documents.append(Document(data, source, _json_places(text, at, end)))
        at = _end_of_space(text, end)
    problems = []
    if duplicates:
        problems = [
            _already_set(source, path, line, col, first)
            for path, line, col, first in islice(_json_duplicates(text), MAX_FINDINGS)
        ]
    return documents, problems


def _end_of_space(text: str, at: int) -> int:
    match = _JSON_SPACE.match(text, at)
    return match.end() if match else at


def _json_int(digits: str) -> int | float:
    # Kubernetes reads numbers outside 64 bits as floats; Python would refuse thousands of digits.
    return int(digits) if len(digits) <= 20 else float(digits)


def _refuse_half_characters(data: Any, text: str, at: int) -> None:
    try:
        msgspec.json.encode(data)
    except (UnicodeEncodeError, ValueError):
        message = "not JSON: an escape is half of a surrogate pair"
        raise _SyntaxError(*_position(text, at), message) from None


def _position(text: str, index: int) -> tuple[int, int]:
    return text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)


class _Lines:
    """Turns increasing indexes of a text into lines and columns."""

    def __init__(self, text: str, first: int = 0) -> None:
        line, col = _position(text, first)
        self._text, self._line, self._start, self._seen = text, line, first - col + 1, first

    def at(self, index: int) -> tuple[int, int]:
        while (newline := self._text.find("\n", self._seen, index)) >= 0:
            self._line, self._start, self._seen = self._line + 1, newline + 1, newline + 1
        self._seen = index
        return self._line, index - self._start + 1


def _json_places(text: str, start: int, end: int) -> Callable[[], _Place]:
    """Computed only when something is wrong; the text is known to be JSON."""
    known: list[_Place] = []

    def places() -> _Place:
        if not known:
            known.append(_scan_json(text, start, end))
        return known[0]

    return places


def _scan_json(text: str, start: int, end: int) -> _Place:
    lines = _Lines(text, start)
    root = _Place(0, 0, {}, [])
    stack: list[tuple[_Place, bool]] = [(root, False)]  # container, whether it is an object
    key: tuple[str, tuple[int, int]] | None = None
    for token in _JSON_TOKEN.finditer(text, start, end):
        word = token[0]
        if word in "}]":
            stack.pop()
            continue
        if word in ",:":
            continue
        spot = lines.at(token.start())
        container, is_object = stack[-1]
        if is_object and key is None:
            key = _json_key(word), spot
            continue
        place = _Place(*spot, {}, [])
        if key is not None:
            container.keys[key[0]] = key[1], place
            key = None
        else:
            container.items.append(place)
        if word in "{[":
            stack.append((place, word == "{"))
    return root.items[0]


def _json_key(word: str) -> str:
    if "\\" not in word:
        return word[1:-1]
    import json

    key: str = json.loads(word)
    return key


def _json_duplicates(text: str) -> Iterator[tuple[Path, int, int, int]]:
    """Path, line, column, line of the first one; over all documents of the text."""
    lines = _Lines(text)
    stack: list[dict[str, int] | None] = []
    path: list[Any] = []  # of the value that is read, a part for each collection around it
    expects_key = False
    for token in _JSON_TOKEN.finditer(text):
        word = token[0]
        if word in "{[":
            expects_key = word == "{"
            stack.append({} if expects_key else None)
            path.append("" if expects_key else 0)
        elif word in "}]":
            stack.pop()
            path.pop()
            expects_key = False
        elif word == "," and stack:
            expects_key = stack[-1] is not None
            if not expects_key:
                path[-1] += 1
        elif expects_key and word != ":":
            keys = stack[-1]
            assert keys is not None
            name = path[-1] = _json_key(word)
            line, col = lines.at(token.start())
            if name in keys:
                yield tuple(path), line, col, keys[name]
            keys.setdefault(name, line)
            expects_key = False


# --- YAML --------------------------------------------------------------------------------------

_TRUE = frozenset(["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"])
_FALSE = frozenset(["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"])
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_INFINITE = {
    f"{sign}{word}": value
    for sign, value in (("", float("inf")), ("+", float("inf")), ("-", float("-inf")))
    for word in (".inf", ".Inf", ".INF")
} | {word: float("nan") for word in (".nan", ".NaN", ".NAN")}
_INT = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_STANDARD = "tag:yaml.org,2002:"
_LINE_ENDS = ("\n", "\r", "\x85", "\u2028", "\u2029")
_LINE_END = re.compile("[\n\r\x85\u2028\u2029]")


def _plain(text: str) -> Any:
    """The value of an unquoted scalar, by kubectl's rules."""
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if text[0] in "0123456789+-.":
        if text in _INFINITE:
            return _INFINITE[text]
        digits = text.replace("_", "")
        if len(digits) < 70 and _INT.fullmatch(digits):
            return _integer(digits)
        if _FLOAT.fullmatch(digits):
            return float(digits)
    return text


def _integer(digits: str) -> int | float:
    unsigned = digits.lstrip("+-").lower()
    base = {"0x": 16, "0b": 2, "0o": 8}.get(unsigned[:2])
    if base:
        value = int(unsigned[2:], base)
    else:
        value = int(unsigned, 8 if unsigned.startswith("0") else 10)
    value = -value if digits.startswith("-") else value
    return value if -(2**63) <= value < 2**64 else float(value)


_TAGS: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "null": (type(None),),
}


class _Merge:
    """The plain scalar `<<` as a key."""


_MERGE = _Merge()


class _Node(NamedTuple):
    data: Any
    place: _Place
    size: int  # nodes in it, aliases followed


class _Open(NamedTuple):
    """A collection that is being read."""

    data: Any  # dict or list
    place: _Place
    anchor: str | None
    sizes: list[int]
    key: list[tuple[str | _Merge, tuple[int, int]]]  # the key whose value comes next, or empty
    own: dict[str, int]  # keys written here, with their lines; merged ones give way
    merged: list[tuple[dict[str, Any], _Place]]


def _read_yaml(text: str, source: str) -> tuple[list[Document], list[Problem]]:
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    composer = _Composer(source)
    try:
        try:
            for event in yaml.parse(text, Loader=loader):
                composer.take(event)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, col = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            if mark and mark.index >= len(text) and not text.endswith(_LINE_ENDS):
                # The parser ends a last line that has no end, and looks for more in the next one.
                line, col = mark.line, len(_LINE_END.split(text)[-1]) + 1
            message = ", ".join(part for part in (error.context, error.problem) if part)
            lines = text.split("\n")
            if line <= len(lines) and lines[line - 1][col - 1 : col] == "\t":
                message = "a tab cannot indent, use blanks"
            raise _SyntaxError(line, col, f"not YAML: {message}") from None
        except yaml.reader.ReaderError as error:
            at = error.position
            line, col = _position(text, at) if isinstance(at, int) else (1, 1)
            raise _SyntaxError(line, col, f"not YAML: {error.reason}") from None
    except _SyntaxError as error:
        error.before = composer.documents
        raise
    return composer.documents, composer.problems


class _Composer:
    """Builds documents from the parser's events: no recursion, so no text can exhaust the stack."""

    def __init__(self, source: str) -> None:
        self.documents: list[Document] = []
        self.problems: list[Problem] = []
        self._source = source
        self._stack: list[_Open] = []
        self._anchors: dict[str, _Node | None] = {}  # None: still being read
        self._nodes = 0
        self._followed = 0  # nodes of the documents that are read, aliases followed

    def take(self, event: Any) -> None:
        handler = _HANDLERS.get(type(event).__name__)
        if handler is not None:
            handler(self, event)

    def document_start(self, event: Any) -> None:
        del event
        self._anchors.clear()

    def scalar(self, event: Any) -> None:
        data = self._scalar_value(event)
        if event.value == "<<" and event.implicit[0] and self._expects_key():
            data = _MERGE
        node = _Node(data, _place(event), 1)
        if event.anchor:
            self._anchors[event.anchor] = node
        self._add(node, event)

    def alias(self, event: Any) -> None:
        if event.anchor not in self._anchors:
            self._fail(event, "unknown alias: put it in quotes if it is text")
        node = self._anchors[event.anchor]
        if node is None:
            self._fail(event, "an alias stands inside its own anchor")
        self._add(node, event)

    def start(self, event: Any) -> None:
        is_mapping = type(event).__name__ == "MappingStartEvent"
        if event.tag not in (None, "!", _STANDARD + ("map" if is_mapping else "seq")):
            self._fail(event, "a tag that is not read here: put it in quotes if it is text")
        if len(self._stack) >= MAX_DEPTH:
            self._fail(event, _TOO_DEEP, kind="")
        if event.anchor:
            self._anchors[event.anchor] = None
        data: Any = {} if is_mapping else []
        self._stack.append(_Open(data, _place(event), event.anchor, [1], [], {}, []))

    def end(self, event: Any) -> None:
        done = self._stack.pop()
        for data, place in done.merged:
            for key, value in data.items():
                if key not in done.data:
                    done.data[key] = value
                    done.place.keys[key] = place.keys[key]
        node = _Node(done.data, done.place, sum(done.sizes))
        if done.anchor:
            self._anchors[done.anchor] = node
        self._add(node, event)

    def _expects_key(self) -> bool:
        return (
            bool(self._stack)
            and isinstance(self._stack[-1].data, dict)
            and not (self._stack[-1].key)
        )

    def _add(self, node: _Node, event: Any) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._fail(event, _TOO_MANY, kind="")
        if not self._stack:
            self._followed += node.size
            if node.data is not None:  # an empty document between two "---" is nothing
                place = node.place
                self.documents.append(Document(node.data, self._source, lambda: place))
            return
        parent = self._stack[-1]
        parent.sizes.append(node.size)
        if len(parent.sizes) > 256:
            parent.sizes[:] = [sum(parent.sizes)]
        if self._followed + sum(parent.sizes) > MAX_NODES:
            self._fail(event, f"{_TOO_MANY}, with aliases followed", kind="")
        if isinstance(parent.data, list):
            parent.data.append(node.data)
            parent.place.items.append(node.place)
        elif not parent.key:
            mark = event.start_mark
            spot = mark.line + 1, mark.column + 1
            key = node.data if isinstance(node.data, _Merge) else self._key(node.data, event)
            parent.key.append((key, spot))
        else:
            key, spot = parent.key.pop()
            if isinstance(key, _Merge):
                self._merge(parent, node, event)
                return
            if key in parent.own and len(self.problems) < MAX_FINDINGS:
                path = tuple(self._path(key))
                self.problems.append(_already_set(self._source, path, *spot, parent.own[key]))
            parent.own[key] = spot[0]
            parent.data[key] = node.data
            parent.place.keys[key] = spot, node.place

    def _merge(self, parent: _Open, node: _Node, event: Any) -> None:
        nodes = (
            list(zip(node.data, node.place.items, strict=True))
            if isinstance(node.data, list)
            else [(node.data, node.place)]
        )
        for data, place in nodes:
            if not isinstance(data, dict):
                self._fail(event, "<< merges mappings only")
            parent.merged.append((data, place))

    def _key(self, data: Any, event: Any) -> str:
        """Keys that are no strings become strings, as kubectl makes them."""
        if isinstance(data, str):
            return data
        if isinstance(data, bool):
            return "true" if data else "false"
        if isinstance(data, (int, float)):
            return f"{data:g}" if isinstance(data, float) else str(data)
        what = "empty" if data is None else "a list or a mapping"
        return self._fail(event, f"a key must be a string, it is {what}")

    def _path(self, key: str) -> Iterator[str | int]:
        for level in self._stack[:-1]:
            if isinstance(level.data, list):
                yield len(level.data)
            else:
                name = level.key[0][0] if level.key else ""
                yield name if isinstance(name, str) else "<<"
        yield key

    def _scalar_value(self, event: Any) -> Any:
        text, tag = event.value, event.tag
        if tag in (None, "!"):
            return _plain(text) if event.implicit[0] and tag is None else text
        kind = tag.removeprefix(_STANDARD)
        if kind in ("str", "timestamp"):
            return text
        value = _plain(text)
        expected = _TAGS.get(kind)
        if expected is None:
            self._fail(event, "a tag that is not read here: put it in quotes if it is text")
        if type(value) not in expected:
            self._fail(event, f"this is no !!{kind}")
        return value

    def _fail(self, event: Any, text: str, kind: str = "not YAML: ") -> NoReturn:
        mark = event.start_mark
        raise _SyntaxError(mark.line + 1, mark.column + 1, kind + text)


_HANDLERS: dict[str, Callable[[_Composer, Any], None]] = {
    "DocumentStartEvent": _Composer.document_start,
    "ScalarEvent": _Composer.scalar,
    "AliasEvent": _Composer.alias,
    "MappingStartEvent": _Composer.start,
    "SequenceStartEvent": _Composer.start,
    "MappingEndEvent": _Composer.end,
    "SequenceEndEvent": _Composer.end,
}


def _place(event: Any) -> _Place:
    mark = event.start_mark
    return _Place(mark.line + 1, mark.column + 1, {}, [])


# --- plain data to types -----------------------------------------------------------------------

_Reader = Callable[[Any, Path, list[Finding]], Any]


class _Field(NamedTuple):
    attribute: str
    read: _Reader


class _Shape(NamedTuple):
    fields: dict[str, _Field]  # by the wire's name
    zeros: dict[str, Any]  # of the fields that have no default


class _Findings(list[Finding]):
    """As many as anybody wants to see; then the reading ends."""

    def append(self, finding: Finding) -> None:
        if len(self) == MAX_FINDINGS:
            raise _EnoughError
        super().append(finding)


class _EnoughError(Exception):
    """Raised and caught in this module only."""


def decode(data: Any, type_: type[T]) -> tuple[T, list[Finding]]:
    """Read plain data strictly. What is wrong is a finding and counts as not set.

    With `MAX_FINDINGS` of them the object is an empty one: it was not read to its end.
    """
    findings = _Findings()
    try:
        value = _read_struct(type_, data, (), findings)
    except _EnoughError:
        value = _read_struct(type_, {}, (), findings)
    return value, list(findings)


_shapes: dict[type[v1.Model], _Shape] = {}
_readers: dict[tuple[str, str], _Reader] = {}


def fields(type_: type[v1.Model]) -> dict[str, tuple[str, str]]:
    """Wire name -> attribute and annotation, in the order of the model."""
    annotations: dict[str, str] = {}
    for base in reversed(type_.__mro__):
        annotations.update(inspect.get_annotations(base))
    names = zip(type_.__struct_encode_fields__, type_.__struct_fields__, strict=True)
    return {wire: (attribute, annotations[attribute]) for wire, attribute in names}


def _shape(type_: type[v1.Model]) -> _Shape:
    known = _shapes.get(type_)
    if known is None:
        table = fields(type_)
        defaults = type_.__struct_defaults__  # of the last fields
        without = len(table) - len(defaults)
        known = _shapes[type_] = _Shape(
            {
                wire: _Field(attribute, _reader(text, type_.__module__))
                for wire, (attribute, text) in table.items()
            },
            {
                attribute: _zero(text)
                for index, (attribute, text) in enumerate(table.values())
                if index < without or defaults[index - without] is msgspec.NODEFAULT
            },
        )
    return known


def _read_struct(type_: type[T], data: Any, path: Path, findings: list[Finding]) -> T:
    known, zeros = _shape(type_)
    values = dict(zeros)
    if not isinstance(data, dict):
        findings.append(_wrong(path, data, "must be a mapping"))
        data = {}
    for name, raw in data.items():
        field = known.get(name)
        if field is None:
            findings.append(_unknown(name, path, known))
        elif raw is not None:  # null is the same as absent
            value = field.read(raw, (*path, name), findings)
            if value is not None:
                values[field.attribute] = value
    return type_(**values)


_ZERO: dict[str, Any] = {"str": "", "Time": "", "int": 0, "bool": False}


def _zero(annotation: str) -> Any:
    collection, annotation = parts(annotation)
    return {"list": (), "map": {}}[collection] if collection else _ZERO[annotation]


def _unknown(name: str, path: Path, known: dict[str, _Field]) -> Finding:
    import difflib

    lower = {wire.lower(): wire for wire in known}
    close = [lower[name.lower()]] if name.lower() in lower else []
    close = close or difflib.get_close_matches(name, known, 1)
    suggestion = close[0] if close else ""
    text = "Unknown field"
    if suggestion:
        text += f" (did you mean {suggestion}?)"
    return Finding(Type.UNKNOWN, (*path, name), text, suggestion=suggestion)


def parts(annotation: str) -> tuple[str, str]:
    """`list`, `map` or empty, and the annotation of what is in it; without ` | None`."""
    annotation = annotation.removesuffix(" | None")
    if annotation.startswith("tuple["):
        return "list", annotation[len("tuple[") : -len(", ...]")]
    if annotation.startswith("dict["):
        return "map", annotation[len("dict[str, ") : -1]
    return "", annotation


def model(annotation: str, module: str) -> type[v1.Model] | None:
    """The type that an annotation names in the module where it stands; None of a scalar."""
    type_: type[v1.Model] | None = None
    if annotation not in _SCALARS:
        type_ = getattr(sys.modules[module], annotation)
    return type_


def _reader(annotation: str, module: str) -> _Reader:
    known = _readers.get((annotation, module))
    if known is None:
        known = _readers[annotation, module] = _make_reader(annotation, module)
    return known


def _make_reader(annotation: str, module: str) -> _Reader:
    collection, annotation = parts(annotation)
    if collection == "list":
        return _tuple_reader(annotation, module)
    if collection == "map":
        return _dict_reader(_reader(annotation, module))
    type_ = model(annotation, module)
    if type_ is None:
        return _SCALARS[annotation]

    def read_struct(data: Any, path: Path, findings: list[Finding]) -> Any:
        return _read_struct(type_, data, path, findings)

    return read_struct


def _tuple_reader(annotation: str, module: str) -> _Reader:
    # The element's reader is made when there is an element: types may refer to themselves.
    def read_tuple(data: Any, path: Path, findings: list[Finding]) -> Any:
        if not isinstance(data, list):
            detail = "must be a list"
            if annotation == "str":
                detail = "must be a list of strings"
                if isinstance(data, str) and data.split():
                    detail += f", such as {show(data.split())}"
            elif isinstance(data, dict):
                detail = 'must be a list: put "- " before each item'
            findings.append(_wrong(path, data, detail))
            return None
        read_item = _reader(annotation, module)
        out = []
        for index, item in enumerate(data):
            if item is None and annotation in ("str", "int"):
                detail = f"must be {'a string' if annotation == 'str' else 'an integer'}"
                findings.append(_wrong((*path, index), item, detail))
                value: Any = _ZERO[annotation]
            else:
                item = {} if item is None else item
                value = read_item(item, (*path, index), findings)
                if value is None:
                    value = _ZERO.get(annotation)
            # Wrong items keep their place, so that the indexes of later ones stay true.
            out.append(value)
        return tuple(out)

    return read_tuple


def _dict_reader(read_value: _Reader) -> _Reader:
    def read_dict(data: Any, path: Path, findings: list[Finding]) -> Any:
        if not isinstance(data, dict):
            findings.append(_wrong(path, data, "must be a mapping"))
            return None
        out = {}
        for key, raw in data.items():
            value = read_value("" if raw is None else raw, (*path, Key(key)), findings)
            if value is not None:
                out[key] = value
        return out

    return read_dict


class Numeral(str):
    """A text in plain data that is read as a number where a number is wanted."""

    __slots__ = ()


def _read_string(data: Any, path: Path, findings: list[Finding]) -> Any:
    if isinstance(data, str):
        return str(data)
    hint = ": put it in quotes" if isinstance(data, (bool, int, float)) else ""
    findings.append(_wrong(path, data, f"must be a string{hint}"))
    return None


_RFC_3339 = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[-+]\d\d:\d\d)", re.ASCII)


def utc(text: str, *, micro: bool = False) -> str | None:
    """A time as objects hold it: in UTC, in whole seconds or microseconds. None: it is none."""
    found = _RFC_3339.fullmatch(text)
    if found is None:
        return None
    day, clock, fraction, zone = found.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{zone}").astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    # Years before 1000 have their zeros, too: clients without a clock send year 1.
    plain = moment.replace(tzinfo=None).isoformat()
    return f"{plain}.{(fraction or '')[:6]:0<6}Z" if micro else f"{plain}Z"


def _time_reader(*, micro: bool) -> _Reader:
    def read_time(data: Any, path: Path, findings: list[Finding]) -> Any:
        text = utc(data, micro=micro) if isinstance(data, str) else None
        # Nothing is no time, too: so it is written where there has to be one.
        if text is None and data != "":
            example = "2026-01-31T12:00:00.000000Z" if micro else "2026-01-31T12:00:00Z"
            findings.append(_wrong(path, data, f"must be a time, such as {example}"))
        return text

    return read_time


def _read_int(data: Any, path: Path, findings: list[Finding]) -> Any:
    if isinstance(data, Numeral) and data.isdecimal():
        return int(data)
    if isinstance(data, float) and data.is_integer() and abs(data) < 2**53:
        return int(data)
    if isinstance(data, int) and not isinstance(data, bool):
        if -(2**63) <= data < 2**63:
            return data
        findings.append(invalid(path, data, "must fit into 64 bits"))
        return None
    findings.append(_wrong(path, data, f"must be an integer{_unquote(data, int)}"))
    return None


def _read_bool(data: Any, path: Path, findings: list[Finding]) -> Any:
    if isinstance(data, bool):
        return data
    findings.append(_wrong(path, data, f"must be true or false{_unquote(data, bool)}"))
    return None


def _unquote(data: Any, wanted: type) -> str:
    return ": remove the quotes" if isinstance(data, str) and type(_plain(data)) is wanted else ""


def _read_int_or_string(data: Any, path: Path, findings: list[Finding]) -> Any:
    is_text = isinstance(data, str) and not isinstance(data, Numeral)
    return data if is_text else _read_int(data, path, findings)


def _read_quantity(data: Any, path: Path, findings: list[Finding]) -> Any:
    if isinstance(data, (int, float)) and not isinstance(data, bool):
        data = f"{data:.12g}" if isinstance(data, float) else str(data)
    if not isinstance(data, str):
        findings.append(_wrong(path, data, "must be a quantity, such as 500m or 1Gi"))
        return None
    try:
        quantity.parse(data)
    except ValueError as error:
        findings.append(invalid(path, data, str(error)))
        return None
    return data


def _read_opaque(data: Any, path: Path, findings: list[Finding]) -> Any:
    if isinstance(data, dict):
        return data
    findings.append(_wrong(path, data, "must be a mapping"))
    return None


def _read_any(data: Any, path: Path, findings: list[Finding]) -> Any:
    del path, findings
    return data


def _wrong(path: Path, data: Any, detail: str) -> Finding:
    if isinstance(data, (dict, list)):
        what = "a mapping" if isinstance(data, dict) else "a list"
        return invalid(path, data, f"{detail}, not {what}" if ":" not in detail else detail)
    return invalid(path, data, detail)


_SCALARS: dict[str, _Reader] = {
    "str": _read_string,
    "Time": _time_reader(micro=False),
    "MicroTime": _time_reader(micro=True),
    "int": _read_int,
    "bool": _read_bool,
    "IntOrString": _read_int_or_string,
    "Quantity": _read_quantity,
    "Opaque": _read_opaque,
    "Any": _read_any,
}


# --- types to text -----------------------------------------------------------------------------


def to_plain(value: v1.Model) -> dict[str, Any]:
    """Plain data with the wire's names; keys sorted at every level, as kubectl prints them."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(value, order="sorted"))
    return plain


def as_list(pods: tuple[v1.Pod, ...]) -> dict[str, Any]:
    """What kubectl prints for several pods: a List of them."""
    items = [to_plain(pod) for pod in pods]
    return {"apiVersion": "v1", "items": items, "kind": "List", "metadata": {}}


def dump(value: v1.Model | dict[str, Any], form: str) -> str:
    """One object, or plain data of one, as `yaml` or `json` text that ends with a newline."""
    plain = to_plain(value) if isinstance(value, v1.Model) else value
    return _dump_json(plain) if form == "json" else _dump_yaml(plain)


def _dump_json(plain: dict[str, Any]) -> str:
    text = msgspec.json.format(msgspec.json.encode(plain, order="sorted"), indent=4)
    return text.decode() + "\n"


def _dump_yaml(plain: dict[str, Any]) -> str:
    import yaml

    base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

    class Dumper(base):  # type: ignore[misc]
        def ignore_aliases(self, data: Any) -> bool:
            del data
            return True  # the same object twice is written twice: no anchors

    def string(dumper: Any, text: str) -> Any:
        # A text of several lines reads as one; what another reader could take for a boolean, a
        # number or a time is quoted by our rules as well as by the dumper's, and as kubectl does.
        tag = dumper.resolve(yaml.ScalarNode, text, (True, False))
        taken = tag != "tag:yaml.org,2002:str" or not isinstance(_plain(text), str)
        style = "|" if "\n" in text else '"' if taken else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(str, string)
    text: str = yaml.dump(
        plain,
        Dumper=Dumper,
        default_flow_style=False,
        sort_keys=True,
        allow_unicode=True,
        width=2**20,
    )
    return text


def encode_pods(pods: list[v1.Pod], form: str) -> str:
    """One pod as itself, several as a List: `yaml` or `json` text."""
    return dump(pods[0] if len(pods) == 1 else as_list(tuple(pods)), form)


_KINDS = [
    "Pod",
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "ReplicaSet",
    "ReplicationController",
    "Job",
    "CronJob",
    "PodTemplate",
    "ConfigMap",
    "Secret",
]


def kind_finding(kind: str) -> Finding:
    """A kind that is read but not run."""
    lower = kind.lower()
    meant = [known for known in _KINDS if lower in (known.lower(), f"{known.lower()}s")]
    if meant and kind not in meant:
        return not_supported(("kind",), kind, meant)
    return said(("kind",), f"{kind} is not run here: only pods and workloads are")
