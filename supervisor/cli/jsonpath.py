"""The JSONPath of `wait --for=jsonpath=…`, `get -o jsonpath=…` and `get --sort-by`: which values of
an object are meant.

    {.status.phase}    {.status.conditions[?(@.type=="Ready")].status}    {.spec.containers[*].name}

A path begins at the object. After it come names (`.name`, `['a.b']`, `.a\\.b`), places (`[0]`,
`[-1]`, `[*]`) and filters (`[?(@.name=="value")]`). What is beyond that is refused.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from supervisor.errors import UsageError

_STEP = re.compile(
    r"""\.(?P<name>(?:[^.\[\]\\'"{}\s]|\\.)+)
    |\[(?P<index>-?[0-9]+)\]
    |\[(?P<all>\*)\]
    |\['(?P<single>[^']*)'\]
    |\["(?P<double>[^"]*)"\]
    |\[\?\(@\.(?P<key>(?:[^.\[\]\\'"{}=!]|\\.)+?)\s*(?P<how>==|!=)\s*(?P<value>"[^"]*"|'[^']*'|[^\s()]+)\)\]
    """,
    re.VERBOSE,
)


class _Step(NamedTuple):
    name: str | None = None
    place: int | None = None  # neither of the two: all items
    key: str | None = None  # of a filter
    value: str = ""
    equal: bool = True


class JSONPath:
    """Raises UsageError for a text that is none."""

    def __init__(self, text: str) -> None:
        path = text.removeprefix("{").removesuffix("}")
        path = path.removeprefix("$")
        if path and path[0] not in ".[":
            path = f".{path}"
        self._steps: list[_Step] = []
        at = 0
        while at < len(path):
            found = _STEP.match(path, at)
            if found is None or text.startswith("{") is not text.endswith("}"):
                raise UsageError(
                    f"cannot read the JSONPath {text!r} at {path[at:]!r}: say a path such as "
                    "{.status.phase}"
                )
            self._steps.append(_step(found))
            at = found.end()
        if not self._steps:
            raise UsageError(
                "cannot read a JSONPath that is empty: say one such as {.status.phase}"
            )

    def find(self, object: Any) -> list[Any]:
        values = [object]
        for step in self._steps:
            values = [found for value in values for found in _take(step, value)]
        return values


def text(value: Any) -> str:
    """As kubectl prints a value that was found."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _step(found: re.Match[str]) -> _Step:
    name = found["name"] or found["single"] or found["double"]
    if name is not None:
        return _Step(name=re.sub(r"\\(.)", r"\1", name))
    if found["index"] is not None:
        return _Step(place=int(found["index"]))
    if found["key"] is not None:
        value = found["value"].strip("\"'")
        key = re.sub(r"\\(.)", r"\1", found["key"])
        return _Step(key=key, value=value, equal=found["how"] == "==")
    return _Step()


def _take(step: _Step, value: Any) -> list[Any]:
    if step.name is not None:
        return [value[step.name]] if isinstance(value, dict) and step.name in value else []
    items = value if isinstance(value, list) else []
    if step.place is not None:
        return [items[step.place]] if -len(items) <= step.place < len(items) else []
    if step.key is not None:
        objects = [item for item in items if isinstance(item, dict) and step.key in item]
        return [item for item in objects if (text(item[step.key]) == step.value) is step.equal]
    return list(value.values()) if isinstance(value, dict) else items
