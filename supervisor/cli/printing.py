"""What is printed in columns: the tables of `get`, and the fields of `describe`.

Columns are as wide as what stands in them, over as many lines as have that column: so kubectl
prints, and what reads its output reads ours. What others wrote (names of files, messages of
programs) is shown so that it cannot take over a terminal.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]

_GAP = 3  # between two columns of a table
_FIELD_GAP = 2  # between two cells of fields
_LEAST = 6  # wide is each of them, its gap included
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_BREAK = re.compile(r"[\n\r\f]")


def shown(text: str) -> str:
    """With control characters made visible; tabs and ends of lines stay."""
    return _CONTROL.sub(lambda found: f"^{chr(ord(found[0]) & 0x7F ^ 0x40)}", text)


def align(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells as text. The last cell of a line belongs to no column."""
    widths: list[list[int]] = [[] for _ in lines]

    def measure(first: int, last: int, column: int) -> None:
        begin = first
        while begin < last:
            end = begin
            while end < last and len(lines[end]) - 1 > column:
                end += 1
            if end > begin:
                width = max(len(line[column]) for line in lines[begin:end]) + _FIELD_GAP
                for each in widths[begin:end]:
                    each.append(width)
                measure(begin, end, column + 1)
            begin = max(end, begin + 1)

    measure(0, len(lines), 0)
    return "".join(
        ("".join(map(str.ljust, line, wide)) + line[-1]).rstrip() + "\n" if line else "\n"
        for line, wide in zip(lines, widths, strict=True)
    )


class Table:
    """Prints Table objects of the API, one after the other, in columns that stay.

    A table that is made here may give a column a `heading`, which is printed as it is.
    """

    def __init__(
        self,
        *,
        wide: bool = False,
        headers: bool = True,
        namespaces: bool = False,
        labels: bool = False,
        label_columns: Sequence[str] = (),
        prefix: str = "",
    ) -> None:
        self._wide = wide
        self._headers = headers
        self._namespaces = namespaces
        self._labels = labels
        self._label_columns = label_columns
        self._prefix = prefix  # of names: `pod/`
        self._columns: list[int] = []  # those of the table that are shown
        self._names: list[str] = []
        self._widths: list[int] = []

    def text(self, table: Json) -> str:
        """Its rows, with the headings before the first ones. A table may leave out its columns
        when they are those of the one before, as in a watch."""
        lines: list[list[str]] = []
        if table.get("columnDefinitions"):
            self._learn(table["columnDefinitions"])
        if self._headers and not self._widths:
            lines.append(list(self._names))
        lines += [self._cells(row) for row in table.get("rows") or ()]
        if not lines:
            return ""
        columns = len(lines[0]) - 1
        before = self._widths or [_LEAST] * columns
        self._widths = [
            max(before[at], *(len(line[at]) + _GAP for line in lines)) for at in range(columns)
        ]
        return "".join(
            "".join(map(str.ljust, line, self._widths)) + line[-1] + "\n" for line in lines
        )

    def _learn(self, columns: Sequence[Json]) -> None:
        self._columns = [
            at for at, column in enumerate(columns) if self._wide or not column.get("priority")
        ]
        self._names = [
            str(columns[at].get("heading") or columns[at]["name"].upper()) for at in self._columns
        ]
        if self._namespaces:
            self._names.insert(0, "NAMESPACE")
        self._names += [key.rpartition("/")[2].upper() for key in self._label_columns]
        if self._labels:
            self._names.append("LABELS")

    def _cells(self, row: Json) -> list[str]:
        cells = [cell(row["cells"][at]) for at in self._columns]
        if self._prefix and cells:
            cells[0] = self._prefix + cells[0]
        meta = (row.get("object") or {}).get("metadata") or {}
        if self._namespaces:
            cells.insert(0, meta.get("namespace", ""))
        labels = meta.get("labels") or {}
        cells += [shown(labels.get(key, "<none>")) for key in self._label_columns]
        if self._labels:
            cells.append(shown(pairs(labels)))
        return cells


def pairs(labels: Json) -> str:
    """Labels on one line."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or "<none>"


def cell(value: object) -> str:
    """One cell of a table, on one line."""
    text = "<none>" if value is None else str(value)
    found = _BREAK.search(text)
    return shown(text.replace("\t", " ") if found is None else text[: found.start()] + "...")
