"""Protobuf bodies of requests, as the JSON that they stand for.

Typed clients of Go, newer kubectls among them, send the objects of built-in kinds this way, and do
not fall back to JSON when it is refused. Answers are always JSON, which all of them take, so there
is a decoder only. It is driven by the table in `protobuf_messages.py`; the envelope around an
object (four magic bytes, then its kind and its bytes) is the only thing it knows by itself.

Go writes the zero of every field that is no pointer, and JSON leaves it out: so does the decoder.
What it is given may be anything. A body that is no such message is refused with 400, one whose
content it would lose with 415, and no body makes it run long, deep or large.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from msgspec import Struct

from supervisor.api import codec
from supervisor.apiserver.contract import ApiError, Json, bad_request
from supervisor.apiserver.protobuf_messages import MESSAGES

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
_VARINT, _BYTES = 0, 2  # wire types
_FIXED = {1: 8, 5: 4}  # the others that exist, with their lengths; no field of ours has them
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ZEROS: dict[str, Any] = {"s": "", "i": 0, "b": False, "y": "", "quantity": "0"}

KINDS = frozenset(
    [
        "Binding",
        "ConfigMap",
        "DeleteOptions",
        "Endpoints",
        "Event",
        "Eviction",
        "Lease",
        "Namespace",
        "Node",
        "Pod",
        "PodTemplate",
        "Secret",
        "SelfSubjectAccessReview",
        "SelfSubjectReview",
        "SelfSubjectRulesReview",
        "Service",
        "ServiceAccount",
        "TokenReview",
    ]
)


class _Field(Struct, frozen=True):
    name: str  # empty: its fields are those of the outer message
    type: str
    shape: str = ""  # list or map
    zero_counts: bool = False


def decode(body: bytes) -> Json:
    """The object of a body, with its apiVersion and kind. Raises ApiError."""
    if body[:4] != _MAGIC:
        raise bad_request("cannot read the body: it is no protobuf of Kubernetes")
    decoder = _Decoder()
    api_version = kind = encoding = ""
    raw = memoryview(b"")
    for number, value in decoder.fields(memoryview(body)[4:]):
        if number == 1:
            api_version, kind = decoder.type_meta(value)
        elif number == 2:
            raw = decoder.bytes(value)
        elif number == 3:
            encoding = decoder.string(value)
    if encoding:
        raise _unsupported(f"cannot read the body: its content is encoded: {encoding[:100]}")
    if kind not in KINDS:
        raise _unsupported(f'cannot read "{kind[:100]}" from protobuf: send it as JSON')
    return {"apiVersion": api_version, "kind": kind} | decoder.message(kind, raw)


def _unsupported(message: str) -> ApiError:
    return ApiError(415, "UnsupportedMediaType", message)


def _malformed(why: str) -> NoReturn:
    raise bad_request(f"cannot read the body: malformed protobuf: {why}")


class _Decoder:
    """Of one body. A value on the wire is an integer, or a view of bytes."""

    def __init__(self) -> None:
        self._values = 0
        self._at: list[str] = []  # names of messages and fields, for errors

    def type_meta(self, value: int | memoryview) -> tuple[str, str]:
        api_version = kind = ""
        for number, inner in self.fields(self.bytes(value)):
            if number == 1:
                api_version = self.string(inner)
            elif number == 2:
                kind = self.string(inner)
        return api_version, kind

    def message(self, name: str, data: memoryview) -> Json:
        table = _table(name)
        out: Json = {}
        for number, value in self.fields(data):
            field = table.get(number)
            if field is None:
                continue  # of a newer release
            self._at.append(f"{name}.{field.name}")
            if not field.name:
                out |= self.message(field.type, self.bytes(value))
            elif field.shape == "map":
                key, item = self._entry(field.type, self.bytes(value))
                out.setdefault(field.name, {})[key] = item
            elif field.shape == "list":
                out.setdefault(field.name, []).extend(self._items(field.type, value))
            else:
                single = self._value(field.type, value)
                if single or field.zero_counts or isinstance(single, dict | list):
                    out[field.name] = single
            self._at.pop()
        return out

    def _items(self, type_: str, value: int | memoryview) -> Iterator[Any]:
        if type_ == "i" and isinstance(value, memoryview):  # packed
            at = 0
            while at < len(value):
                number, at = self._varint(value, at)
                yield self._value("i", number)
        else:
            item = self._value(type_, value)
            yield {} if item is None else item

    def _entry(self, type_: str, data: memoryview) -> tuple[str, Any]:
        key, item = "", _ZEROS.get(type_, {})
        for number, value in self.fields(data):
            if number == 1:
                key = self.string(value)
            elif number == 2:
                item = self._value(type_, value)
        return key, item

    def _value(self, type_: str, value: int | memoryview) -> Any:
        match type_:
            case "s":
                return self.string(value)
            case "i":
                return self._integer(value)
            case "b":
                return self._integer(value) != 0
            case "y":
                return base64.b64encode(self.bytes(value)).decode()
            case "time" | "micro":
                return self._time(
                    self.bytes(value), "seconds" if type_ == "time" else "microseconds"
                )
            case "quantity":
                return self._first(self.bytes(value)) or "0"
            case "int-or-string":
                return self._int_or_string(self.bytes(value))
            case "fields":
                return self._json(self.bytes(value))
            case "opaque":
                if len(self.bytes(value)):
                    names = [part.rpartition(".")[2] for part in self._at]
                    where = ".".join(name for name in names if name)
                    raise _unsupported(f"cannot read {where} from protobuf: send it as JSON")
                return {}
            case _:
                return self.message(type_, self.bytes(value))

    # --- messages that JSON writes as one value ---

    def _time(self, data: memoryview, precision: str) -> str | None:
        numbers = {number: self._integer(value) for number, value in self.fields(data)}
        if not numbers:
            return None
        seconds, nanos = numbers.get(1, 0), numbers.get(2, 0)
        try:
            time = _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000)
        except OverflowError:
            self._fail("a time that no calendar has")
        return time.isoformat(timespec=precision).replace("+00:00", "Z")

    def _int_or_string(self, data: memoryview) -> int | str:
        fields = dict(self.fields(data))
        if self._integer(fields.get(1, 0)):
            return self.string(fields.get(3, memoryview(b"")))
        return self._integer(fields.get(2, 0))

    def _first(self, data: memoryview) -> str:
        found = ""
        for number, value in self.fields(data):
            if number == 1:
                found = self.string(value)
        return found

    def _json(self, data: memoryview) -> Any:
        raw = next((value for number, value in self.fields(data) if number == 1), None)
        if raw is None:
            return {}
        try:
            return codec.read_body(bytes(self.bytes(raw)), "json")[0]
        except ValueError as error:
            self._fail(str(error))

    # --- the wire ---

    def fields(self, data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
        at = 0
        while at < len(data):
            self._values += 1
            if self._values > codec.MAX_NODES:
                self._fail(f"more than {codec.MAX_NODES} values")
            key, at = self._varint(data, at)
            number, wire_type = key >> 3, key & 7
            value: int | memoryview
            if wire_type == _VARINT:
                value, at = self._varint(data, at)
            else:
                if wire_type == _BYTES:
                    length, at = self._varint(data, at)
                elif wire_type in _FIXED:
                    length = _FIXED[wire_type]
                else:
                    self._fail("an unknown wire type")
                if number == 0 or length > len(data) - at:
                    self._fail("it ends too early" if number else "a field has the number 0")
                value = data[at : at + length]
                at += length
            yield number, value

    def _varint(self, data: memoryview, at: int) -> tuple[int, int]:
        value = shift = 0
        byte = 0x80
        while byte >= 0x80:
            if at >= len(data):
                self._fail("it ends too early")
            if shift >= 70:
                self._fail("a number is too long")
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
        return value & (2**64 - 1), at

    def _integer(self, value: int | memoryview) -> int:
        if not isinstance(value, int):
            self._fail("a number is expected")
        return value - 2**64 if value >= 2**63 else value

    def bytes(self, value: int | memoryview) -> memoryview:
        if isinstance(value, int):
            self._fail("bytes are expected")
        return value

    def string(self, value: int | memoryview) -> str:
        try:
            return str(self.bytes(value), "utf-8")
        except UnicodeDecodeError:
            self._fail("a text that is not UTF-8")

    def _fail(self, why: str) -> NoReturn:
        where = f" in {self._at[-1].rstrip('.')}" if self._at else ""
        _malformed(f"{why}{where}")


# --- the table ---------------------------------------------------------------------------------

_lines: dict[str, str] = {}
_tables: dict[str, dict[int, _Field]] = {}


def _table(name: str) -> dict[int, _Field]:
    """The fields of one message; what is never sent is never parsed."""
    known = _tables.get(name)
    if known is None:
        if not _lines:
            for line in MESSAGES.replace("\n  ", " ").strip().split("\n"):
                message, _, rest = line.partition(" ")
                _lines[message] = rest
        known = _tables[name] = dict(_parsed(entry) for entry in _lines[name].split())
    return known


def _parsed(entry: str) -> tuple[int, _Field]:
    number, name, type_ = entry.split(":")
    shape = {"[": "list", "{": "map"}.get(type_[0], "")
    return int(number), _Field(name, type_.strip("[]{}?"), shape, type_.endswith("?"))
