"""`podvisor fields`: print the support table, whole or beneath one field."""

from __future__ import annotations

import enum
import sys
from typing import Annotated

import typer

from supervisor.errors import ExitCode


class Output(enum.StrEnum):
    TEXT = "text"
    JSON = "json"


def command(
    prefix: Annotated[
        str, typer.Argument(metavar="[FIELD]", help="Only this field and what is beneath it.")
    ] = "",
    output: Annotated[
        Output, typer.Option("--output", "-o", help="Columns, or a list of objects.")
    ] = Output.TEXT,
) -> None:
    """List what each manifest field does here.

    honoured: as on a cluster. emulated: accepted; always so, or seen only where programs look.
    ignored: makes a difference on a cluster, and is warned about. refused: the pod does not run.

    Examples:

      podvisor fields

      podvisor fields spec.containers.securityContext

      podvisor fields -o json
    """
    from supervisor.api import fields

    rows = fields.select(prefix)
    if not rows:
        print(f"podvisor: cannot list {prefix}: a Pod has no such field", file=sys.stderr)
        raise typer.Exit(ExitCode.USAGE)
    if output is Output.JSON:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode())
        return
    cells = [(name(row), row.support.value, row.note) for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in (0, 1)]
    for field, support, note in (("FIELD", "SUPPORT", "NOTE"), *cells):
        print(f"{field:{widths[0]}}  {support:{max(widths[1], 8)}}  {note}".rstrip())


def name(row: object) -> str:
    """`spec.os.name: windows` for a row about one value."""
    from supervisor.api.fields import Row

    assert isinstance(row, Row)
    if row.value is None:
        return row.path
    value = str(row.value).lower() if isinstance(row.value, bool) else row.value
    return f"{row.path}: {value}"
