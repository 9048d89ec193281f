"""From the body of a request to a typed object, as strictly as the request asks for.

Wrong types are refused always; names that a kind does not have are refused, told or dropped, as
`fieldValidation` says. What is dropped is not stored either.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from supervisor.api import schema, v1, validation
from supervisor.apiserver.contract import Json, bad_request

T = TypeVar("T", bound=v1.Model)


def typed(
    model: type[T], body: Json, strictness: str, repeated: Iterable[str] = ()
) -> tuple[T, tuple[str, ...]]:
    """The object without what its kind does not have, and warnings.

    `strictness`: Strict, Warn or Ignore. `repeated`: paths of fields that were set more than once.
    Raises ApiError (BadRequest).
    """
    kind = model.__name__
    checked = schema.check(model, body)
    told = (*(f'duplicate field "{path}"' for path in repeated), *checked.unknown)
    if checked.wrong:
        wrong = checked.wrong
        if model is v1.Secret:
            wrong = tuple(validation.without_value(finding, body) for finding in wrong)
        found = [*map(str, wrong), *(told if strictness == "Strict" else ())]
        raise bad_request(f"the body cannot be read as a {kind}: {'; '.join(found)}")
    if told and strictness == "Strict":
        raise bad_request(f"strict decoding error: {', '.join(told)}")
    return checked.value, told if strictness == "Warn" else ()
