"""From the body of a request to a typed object, as strictly as the request asks for.

Wrong types are refused always; names that a kind does not have are refused, told or dropped, as
`fieldValidation` says. What is dropped is not stored either.
"""

from __future__ import annotations

from typing import TypeVar

from supervisor.api import codec, v1, validation
from supervisor.api.problems import Type, join, render
from supervisor.apiserver.contract import Json, Resource, bad_request

T = TypeVar("T", bound=v1.Model)


def typed(
    resource: Resource, model: type[T], body: Json, strictness: str
) -> tuple[T, tuple[str, ...]]:
    """The object without what its kind does not have, and warnings.

    `strictness`: Strict, Warn or Ignore. Raises ApiError (BadRequest).
    """
    value, findings = codec.decode(body, model)
    if resource.kind == "Secret":
        findings = [validation.without_value(finding, body) for finding in findings]
    unknown = [f'unknown field "{render(f.path)}"' for f in findings if f.type is Type.UNKNOWN]
    wrong = [f for f in findings if f.type is not Type.UNKNOWN]
    if wrong:
        texts = "; ".join(join(f.type, render(f.path), f.text) for f in wrong)
        raise bad_request(
            f'{resource.kind} in version "{resource.version}" cannot be handled as a '
            f"{resource.kind}: {texts}"
        )
    if unknown and strictness == "Strict":
        raise bad_request(f"strict decoding error: {', '.join(unknown)}")
    return value, tuple(unknown) if strictness == "Warn" else ()
