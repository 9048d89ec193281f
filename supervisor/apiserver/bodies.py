"""The bodies of requests, as objects; and of a PUT or PATCH, the change that it means.

Bodies come as JSON, as YAML, and from newer kubectls as protobuf. What they mean to a kind is not
looked at here, only that they are objects. Keys that are there twice are told, because nobody
downstream could notice them; the last one counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from supervisor.api import codec
from supervisor.apiserver import apply, patch, protobuf
from supervisor.apiserver.contract import ApiError, Change, Json, Resource, bad_request, not_found
from supervisor.apiserver.negotiation import JSON

YAML = "application/yaml"
APPLY = "application/apply-patch+yaml"
_PATCHES: dict[str, Callable[[Resource, Json, Any], Json]] = {
    "application/json-patch+json": patch.json_patch,
    "application/merge-patch+json": patch.merge_patch,
    "application/strategic-merge-patch+json": patch.strategic_merge_patch,
}
_FORMS = {"": "json", JSON: "json", "text/json": "json", YAML: "yaml", "text/yaml": "yaml"}
_FORMS[APPLY] = "yaml"  # which JSON is, too


class Decoded(Struct, frozen=True):
    """The object of a body. `duplicates`: paths that it says more than once."""

    body: Json
    duplicates: tuple[str, ...] = ()


def decode(media: str, raw: bytes) -> Decoded:
    """Raises ApiError 400, and 415 for other media types."""
    if media == protobuf.MEDIA_TYPE:
        return Decoded(protobuf.decode(raw))
    form = _FORMS.get(media)
    if form is None:
        raise _unsupported((JSON, YAML, protobuf.MEDIA_TYPE))
    body, duplicates = _read(raw, form)
    if not isinstance(body, dict):
        raise bad_request("cannot read the body: it must be an object")
    return Decoded(body, duplicates)


def _read(raw: bytes, form: str) -> tuple[Any, tuple[str, ...]]:
    try:
        return codec.read_body(raw, form)
    except ValueError as error:
        raise bad_request(f"cannot read the body: {error}") from error


def _unsupported(known: tuple[str, ...]) -> ApiError:
    text = "the body of the request was in an unknown format - accepted media types include: "
    return ApiError(415, "UnsupportedMediaType", text + ", ".join(known))


# --- what a write means ---------------------------------------------------------------------------


class Writer(Struct, frozen=True, kw_only=True):
    """Who writes to what; `now` is the time that is noted with it."""

    resource: Resource
    name: str
    subresource: str
    manager: str
    now: str

    def replaced(self, body: Json) -> Change:
        """What a PUT means."""
        return lambda _: body

    def patched(self, media: str, raw: bytes) -> tuple[Change, tuple[str, ...]]:
        """What a PATCH means, and the paths that it says more than once.

        Raises ApiError 400, and 415 for media types that are no patch.
        """
        make = _PATCHES.get(media)
        if make is None:
            raise _unsupported((*_PATCHES, APPLY))
        wanted, duplicates = _read(raw, "json")

        def change(live: Json | None) -> Json:
            if live is None:
                raise not_found(self.resource, self.name)
            return make(self.resource, live, wanted)

        return change, duplicates

    def applied(self, config: Json, *, force: bool) -> Change:
        """What an apply means."""
        return lambda live: apply.apply(
            live,
            config,
            self.manager,
            force=force,
            resource=self.resource,
            now=self.now,
            subresource=self.subresource,
        )
