"""The JSONPath of `wait --for=jsonpath=…`, `get -o jsonpath=…` and `get --sort-by`: which values of
an object are meant.

    {.status.phase}    {.status.conditions[?(@.type=="Ready")].status}    {.spec.containers[*].name}

A path begins at the object. After it come names (`.name`, `['a.b']`, `.a\\.b`), places (`[0]`,
`[-1]`, `[*]`, `[1:3]`) and filters (`[?(@.path=="value")]`, also with != < <= > >=, or with a path
alone for what has it). What is beyond that is refused.
"""

from __future__ import annotations

import json
import operator
import re
from typing import Any, NamedTuple

from supervisor.errors import UsageError

_STEP = re.compile(
    r"""\.(?P<every>\*)
    |\.(?P<name>(?:[^.\[\]\\'"{}\s]|\\.)+)
    |\[(?P<index>-?[0-9]+)\]
    |\[(?P<all>\*)\]
    |\[(?P<first>-?[0-9]*):(?P<end>-?[0-9]*)\]
    |\['(?P<single>[^']*)'\]
    |\["(?P<double>[^"]*)"\]
    |\[\?\(\s*@(?P<key>[.\[](?:[^\\'"{}=!<>()\s]|\\.|'[^']*'|"[^"]*")+)
        (?:\s*(?P<how>[=!<>]=|[<>])\s*(?P<value>"[^"]*"|'[^']*'|[^\s()]+))?\s*\)\]
    """,
    re.VERBOSE,
)


class _Step(NamedTuple):
    name: str | None = None
    place: int | None = None
    places: slice | None = None  # none of the three: all items
    key: JSONPath | None = None  # of a filter
    how: str = ""  # empty: those that have it
    value: str = ""


class JSONPath:
    """Raises UsageError for a text that is none."""

    def __init__(self, text: str) -> None:
        path = text.removeprefix("{").removesuffix("}")
        path = path.removeprefix("$").removeprefix("@")
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
        value = (found["value"] or "").strip("\"'")
        return _Step(key=JSONPath(found["key"]), how=found["how"] or "", value=value)
    if found["first"] is not None:
        ends = (int(text) if text else None for text in (found["first"], found["end"]))
        return _Step(places=slice(*ends))
    return _Step()


def _take(step: _Step, value: Any) -> list[Any]:
    if step.name is not None:
        return [value[step.name]] if isinstance(value, dict) and step.name in value else []
    items = value if isinstance(value, list) else []
    if step.place is not None:
        return [items[step.place]] if -len(items) <= step.place < len(items) else []
    if step.places is not None:
        return items[step.places]
    if step.key is not None:
        return [item for item in items if any(_fits(step, each) for each in step.key.find(item))]
    return list(value.values()) if isinstance(value, dict) else items


def _fits(step: _Step, found: Any) -> bool:
    if not step.how:
        return True
    here: Any = text(found)
    there: Any = step.value
    if step.how not in ("==", "!="):
        try:
            here, there = float(here), float(there)
        except ValueError:
            pass  # then as texts
    return bool(_HOW[step.how](here, there))


_HOW = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
