"""Which objects a request is about: label selectors and field selectors.

Lists and watches are narrowed by these, on the server, so that a client that asks for the pods of
one application is told of no other. A selector is read once for a request and then asked about
every object. What cannot be read, or a field that cannot be selected by, is refused: to ignore it
would answer another question than the one asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from msgspec import Struct

from supervisor.api.validation import label_value, qualified_name
from supervisor.apiserver.contract import Json, Resource, at, bad_request

_Labels = dict[str, Any]


class Selector(Struct, frozen=True):
    """A label selector and a field selector, both of which have to be met."""

    labels: tuple[Callable[[_Labels], bool], ...] = ()
    fields: tuple[Callable[[Json], bool], ...] = ()
    name: str = ""  # the only name that matches, where one is asked for: a list may be a look-up

    def __bool__(self) -> bool:
        """Whether it leaves anything out."""
        return bool(self.labels or self.fields)

    def matches(self, object: Json) -> bool:
        if self.labels:
            labels = at(object, "metadata", "labels")
            labels = labels if isinstance(labels, dict) else {}
            if not all(meets(labels) for meets in self.labels):
                return False
        return all(meets(object) for meets in self.fields)


def parse(resource: Resource, labels: str = "", fields: str = "") -> Selector:
    """What `labelSelector` and `fieldSelector` of a request ask for; empty: everything.

    Raises ApiError 400.
    """
    terms = list(_field_terms(fields))
    known = {**_ALL, **_FIELDS.get(resource.key, {})}
    for field, _, _ in terms:
        if field not in known:
            raise bad_request(
                f"field label not supported: {field} (there are: {', '.join(sorted(known))})"
            )
    return Selector(
        labels=tuple(_Reader(labels).requirements()),
        fields=tuple(_compare(known[field], wanted, equal) for field, equal, wanted in terms),
        name=next((v for field, equal, v in terms if equal and field == "metadata.name"), ""),
    )


# --- fields ------------------------------------------------------------------------------------

_Field = Callable[[Json], str]


def _field(path: str, *, absent: str = "") -> _Field:
    """Reads one field as text. What is not there equals the zero value of its type."""
    names = tuple(path.split("."))

    def read(object: Json) -> str:
        value = at(object, *names)
        if value is None:
            return absent
        if isinstance(value, bool):
            return "true" if value else "false"
        return str(value)

    return read


def _source(event: Json) -> str:
    return _field("source.component")(event) or _field("reportingComponent")(event)


def _pod_ip(pod: Json) -> str:
    addresses = at(pod, "status", "podIPs")
    if isinstance(addresses, list) and addresses:
        return str(at(addresses[0], "ip") or "")
    return ""


def _by_path(*paths: str) -> dict[str, _Field]:
    return {path: _field(path) for path in paths}


_ALL = _by_path("metadata.name", "metadata.namespace")

# By the key of the resource.
_FIELDS: dict[str, dict[str, _Field]] = {
    "pods": {
        **_by_path(
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "status.phase",
            "status.nominatedNodeName",
        ),
        "spec.hostNetwork": _field("spec.hostNetwork", absent="false"),
        "status.podIP": _pod_ip,
    },
    "events": {
        **_by_path(
            "involvedObject.apiVersion",
            "involvedObject.fieldPath",
            "involvedObject.kind",
            "involvedObject.name",
            "involvedObject.namespace",
            "involvedObject.resourceVersion",
            "involvedObject.uid",
            "reason",
            "reportingComponent",
            "type",
        ),
        "source": _source,
    },
    "nodes": {"spec.unschedulable": _field("spec.unschedulable", absent="false")},
    "namespaces": _by_path("status.phase"),
    "secrets": _by_path("type"),
    "services": _by_path("spec.clusterIP", "spec.type"),
}


def _compare(read: _Field, wanted: str, equal: bool) -> Callable[[Json], bool]:
    return lambda it: (read(it) == wanted) is equal


def _field_terms(text: str) -> Iterator[tuple[str, bool, str]]:
    """Field, whether it is to be equal, value. A backslash takes `,`, `=` and itself literally."""
    # Each part is a pair that stays together, or one character.
    for term in re.findall(r"(?:\\.|[^,\\]|\\$)+", text, re.DOTALL):
        found = re.fullmatch(r"((?:\\.|[^=!\\]|!(?!=))*)(!=|==|=)(.*)", term, re.DOTALL)
        if not found:
            raise bad_request(
                f"fieldSelector: cannot understand {term!r}: write field=value or field!=value"
            )
        field, operator, value = found.groups()
        yield field, operator != "!=", _literal(value)


def _literal(value: str) -> str:
    bad = re.search(r"(?<!\\)(?:\\\\)*(\\(?![\\,=])|=)", value)
    if bad:
        raise bad_request(
            f"fieldSelector: the value {value!r} has to write a backslash, a comma or an equals "
            "sign with a backslash before it"
        )
    return re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)


# --- labels ------------------------------------------------------------------------------------


class _Reader:
    """Reads a label selector: `app=web,tier in (front, back),!canary`."""

    def __init__(self, text: str) -> None:
        self._text = text
        # Spaces part words and mean nothing else.
        self._tokens = re.findall(r"!=|==|[(),=!<>]|[^\s(),=!<>]+", text)
        self._at = 0

    def requirements(self) -> Iterator[Callable[[_Labels], bool]]:
        while self._tokens:
            yield self._requirement()
            if self._at == len(self._tokens):
                return
            if self._take() != ",":
                self._fail("a comma")

    def _requirement(self) -> Callable[[_Labels], bool]:
        if self._next() == "!":
            self._take()
            return _exists(self._key(), False)
        key = self._key()
        if self._next() in ("", ","):
            return _exists(key, True)
        match self._take():
            case "=" | "==":
                return _one_of(key, (self._value(),))
            case "!=":
                return _none_of(key, (self._value(),))
            case "in":
                return _one_of(key, self._values())
            case "notin":
                return _none_of(key, self._values())
            case "<":
                return _beyond(key, self._integer(), -1)
            case ">":
                return _beyond(key, self._integer(), 1)
        return self._fail("one of =, ==, !=, in, notin, <, >")

    def _next(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._next()
        self._at += 1
        return token

    def _fail(self, expected: str) -> NoReturn:
        """About the token that was taken last."""
        found = self._tokens[self._at - 1] if self._at <= len(self._tokens) else "its end"
        raise bad_request(
            f"labelSelector {self._text!r}: found {found!r} where {expected} was expected; write "
            'it like "app=web,tier in (front, back),!canary"'
        )

    def _key(self) -> str:
        key = self._take()
        if not key or key in _SYMBOLS:
            self._fail("the key of a label")
        for detail in qualified_name(key):
            raise bad_request(f"labelSelector: {key!r} is not the key of a label: {detail}")
        return key

    def _value(self) -> str:
        """One value; it may be empty."""
        if self._next() in ("", ",", ")"):
            return ""
        value = self._take()
        if value in _SYMBOLS:
            self._fail("a value")
        for detail in label_value(value):
            raise bad_request(f"labelSelector: {value!r} is not the value of a label: {detail}")
        return value

    def _values(self) -> tuple[str, ...]:
        if self._take() != "(":
            self._fail("(")
        values = [self._value()]
        while (mark := self._take()) == ",":
            values.append(self._value())
        if mark != ")":
            self._fail("a comma or )")
        return tuple(values)

    def _integer(self) -> int:
        value = self._value()
        if not re.fullmatch(r"[0-9]{1,19}", value):
            self._fail("a whole number")
        return int(value)


_SYMBOLS = frozenset({"!", "(", ")", ",", "=", "==", "!=", "<", ">"})


def _exists(key: str, wanted: bool) -> Callable[[_Labels], bool]:
    return lambda labels: (key in labels) is wanted


def _one_of(key: str, values: tuple[str, ...]) -> Callable[[_Labels], bool]:
    return lambda labels: key in labels and labels[key] in values


def _none_of(key: str, values: tuple[str, ...]) -> Callable[[_Labels], bool]:
    """Also met by what has no such label."""
    return lambda labels: key not in labels or labels[key] not in values


def _beyond(key: str, limit: int, side: int) -> Callable[[_Labels], bool]:
    def meets(labels: _Labels) -> bool:
        try:
            return (int(labels[key]) - limit) * side > 0
        except (KeyError, ValueError, TypeError):
            return False

    return meets
