"""What a request says beside its path, read once: what it takes, what it sends, its options.

Clients differ in how they say the same thing, and this is where that ends: the rest of the server
sees a `View`, a dictionary and options. Nothing here knows a connection; refusals are ApiErrors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from supervisor.apiserver.contract import (
    ApiError,
    Cause,
    DeleteOptions,
    Json,
    WriteOptions,
    bad_request,
)

JSON = "application/json"
_META = "meta.k8s.io"
_VIEWS = {
    "Table": "Table",
    "PartialObjectMetadata": "PartialObjectMetadata",
    "PartialObjectMetadataList": "PartialObjectMetadata",
}
_TRUE = {"1", "t", "T", "TRUE", "true", "True", ""}  # `?watch` alone asks for it, too
_WARNINGS, _WARNINGS_MAX = 50, 4096  # headers, and characters in all of them
_FALSE = {"0", "f", "F", "FALSE", "false", "False"}


class View(Struct, frozen=True):
    """How objects are answered: as they are, as a Table, or as PartialObjectMetadata."""

    kind: str = ""
    version: str = "v1"  # of meta.k8s.io


def view(accept: str, *, whole: bool = False) -> View:
    """The first of what a client takes that there is. Raises ApiError 406.

    `whole`: only as they are; what is asked and not stored has no columns and no metadata.
    """
    if not accept or accept == JSON:
        return View()
    for media, parameters in media_ranges(accept):
        if media not in (JSON, "*/*", "application/*"):
            continue
        wanted = parameters.get("as", "")
        if not wanted:
            return View()
        version = parameters.get("v", "v1")
        is_known = parameters.get("g") == _META and version in ("v1", "v1beta1")
        if wanted in _VIEWS and is_known and not whole:
            return View(_VIEWS[wanted], version)
    raise not_acceptable()


def not_acceptable() -> ApiError:
    text = f"only the following media types are accepted: {JSON}"
    return ApiError(406, "NotAcceptable", text)


def media_ranges(accept: str) -> list[tuple[str, Mapping[str, str]]]:
    """What an Accept header names, the most wanted first."""
    ranges: list[tuple[float, str, Mapping[str, str]]] = []
    for each in accept.split(","):
        media, *rest = (part.strip() for part in each.split(";"))
        pairs = (part.partition("=") for part in rest)
        parameters = {name.strip(): value.strip().strip('"') for name, _, value in pairs}
        try:
            weight = float(parameters.get("q", "1"))
        except ValueError:
            weight = 0.0
        if media and weight > 0:
            ranges.append((-weight, media, parameters))
    ranges.sort(key=lambda each: each[0])
    return [(media, parameters) for _, media, parameters in ranges]


# --- options --------------------------------------------------------------------------------------


class Query:
    """The parameters of a request. Unknown ones are ignored, as Kubernetes does."""

    def __init__(self, given: Mapping[str, str], several: Mapping[str, list[str]]) -> None:
        self._given = given
        self._several = several

    def __contains__(self, name: str) -> bool:
        return name in self._given

    def text(self, name: str) -> str:
        return self._given.get(name, "")

    def texts(self, name: str) -> list[str]:
        return self._several.get(name, [])

    def flag(self, name: str) -> bool:
        """As Go reads booleans. Raises ApiError 400."""
        value = self._given.get(name)
        if value is None or value in _FALSE:
            return False
        if value in _TRUE:
            return True
        raise bad_request(f'{name}: Invalid value: "{value}": must be true or false')

    def number(self, name: str) -> int | None:
        """None: not said. Raises ApiError 400."""
        value = self._given.get(name, "")
        if not value:
            return None
        digits = value.removeprefix("-").removeprefix("+")
        if not (digits.isascii() and digits.isdecimal() and len(digits) < 19):
            raise bad_request(f'{name}: Invalid value: "{value}": must be an integer')
        return int(value)

    def version(self, name: str = "resourceVersion") -> int | None:
        """A resourceVersion; None: not said. Raises ApiError 400."""
        number = self.number(name)
        if number is not None and number < 0:
            raise bad_request(f'{name}: Invalid value: "{number}": must not be negative')
        return number


_OPTIONS = {"PATCH": "PatchOptions", "POST": "CreateOptions", "PUT": "UpdateOptions"}
_MAX_MANAGER = 128  # bytes of its name


def write_options(method: str, query: Query, user_agent: str) -> WriteOptions:
    """Of a POST, PUT or PATCH. Raises ApiError 400 and 422."""
    validation = query.text("fieldValidation") or "Warn"
    manager = query.text("fieldManager")
    wrong = [*_wrong_manager(manager), *_wrong_dry_run(query.texts("dryRun"))]
    if validation not in ("Ignore", "Warn", "Strict"):
        wrong.append(
            Cause(
                "FieldValueNotSupported",
                f'Unsupported value: "{validation}": supported values: "Ignore", "Strict", "Warn"',
                "fieldValidation",
            )
        )
    if wrong:
        raise invalid_options(_OPTIONS[method], wrong)
    # Whoever does not say who it is, is called as its program.
    program = "".join(c for c in user_agent.partition("/")[0] if c.isprintable())
    return WriteOptions(
        dry_run=bool(query.texts("dryRun")),
        field_manager=manager or program[:_MAX_MANAGER],
        validation=validation,
        force=query.flag("force"),
    )


def _wrong_manager(manager: str) -> Iterator[Cause]:
    if len(manager.encode()) > _MAX_MANAGER:
        text = f"Too long: may not be more than {_MAX_MANAGER} bytes"
        yield Cause("FieldValueTooLong", text, "fieldManager")
    if not manager.isprintable():
        text = "Invalid value: should only contain printable characters"
        yield Cause("FieldValueInvalid", text, "fieldManager")


def delete_options(query: Query, body: Json) -> DeleteOptions:
    """From the body, or else from the query."""
    kind = body.get("kind")
    if kind not in (None, "", "DeleteOptions"):
        raise bad_request(f"a {kind} cannot be handled as DeleteOptions")
    conditions = body.get("preconditions") or {}
    grace = body.get("gracePeriodSeconds", query.number("gracePeriodSeconds"))
    dry_run = body.get("dryRun") or query.texts("dryRun")
    propagation = body.get("propagationPolicy") or query.text("propagationPolicy")
    if not isinstance(conditions, dict):
        raise bad_request("preconditions: must be a mapping")
    if not isinstance(dry_run, list) or isinstance(grace, bool):
        raise bad_request("dryRun: must be a list; gracePeriodSeconds: must be an integer")
    if grace is not None and not isinstance(grace, int):
        raise bad_request("gracePeriodSeconds: must be an integer")
    wrong = _wrong_dry_run(dry_run)
    if propagation not in ("", "Orphan", "Background", "Foreground"):
        wrong.append(
            Cause(
                "FieldValueNotSupported",
                f'Unsupported value: "{propagation}": supported values: "Background", '
                '"Foreground", "Orphan"',
                "propagationPolicy",
            )
        )
    if wrong:
        raise invalid_options("DeleteOptions", wrong)
    return DeleteOptions(
        grace=grace,
        uid=str(conditions.get("uid") or ""),
        resource_version=str(conditions.get("resourceVersion") or ""),
        propagation=propagation,
        dry_run=bool(dry_run),
    )


def _wrong_dry_run(given: Iterable[Any]) -> list[Cause]:
    return [
        Cause(
            "FieldValueNotSupported",
            f'Unsupported value: "{each}": supported values: "All"',
            "dryRun",
        )
        for each in given
        if each != "All"
    ]


def invalid_options(
    kind: str, causes: list[Cause], *, name: str = "", group: str = _META
) -> ApiError:
    """Options that cannot be meant."""
    texts = [f"{cause.field}: {cause.message}" for cause in causes]
    listed = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    full = f"{kind}.{group}" if group else kind
    text = f'{full} "{name}" is invalid: {listed}'
    return ApiError(422, "Invalid", text, group=group, kind=kind, name=name, causes=tuple(causes))


def indented(raw: bytes) -> bytes:
    """For `?pretty=true`."""
    return msgspec.json.format(raw, indent=2) + b"\n"


def warnings(texts: Iterable[str]) -> list[str]:
    """The values of Warning headers: each once, and no more than clients read of headers."""
    told, room = [], _WARNINGS_MAX
    for text in list(dict.fromkeys(texts))[:_WARNINGS]:
        plain = "".join(c if c.isprintable() else " " for c in text[:room])
        room -= len(plain)
        if plain:
            quoted = plain.replace("\\", "\\\\").replace('"', '\\"')
            told.append(f'299 - "{quoted}"')
    return told
