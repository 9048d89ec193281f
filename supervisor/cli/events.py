"""`podvisor events`: what was told about objects, in the order in which it was told last."""

from __future__ import annotations

import enum
import sys
import time
from typing import Annotated, Any, NoReturn

import typer

from supervisor.cli import asking, options
from supervisor.cli.asking import Reader
from supervisor.cli.completing import complete_objects
from supervisor.cli.printing import Table
from supervisor.client import EVENTS, Client
from supervisor.errors import StatusError, UsageError

NO_ARGS_IS_HELP = False

Json = dict[str, Any]

_TYPES = ("Normal", "Warning")
_COLUMNS = [{"name": name} for name in ("Last Seen", "Type", "Reason", "Object", "Message")]


class Output(enum.StrEnum):
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


def command(
    about: Annotated[
        str,
        typer.Option(
            "--for",
            metavar="TYPE/NAME",
            help="Only about this object.",
            autocompletion=complete_objects,
        ),
    ] = "",
    types: Annotated[
        str, typer.Option(metavar="TYPE,…", help="Only Warning, or only Normal.")
    ] = "",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on, and show new ones.")] = False,
    output: Annotated[
        Output | None, typer.Option("--output", "-o", help="The events as data, or their names.")
    ] = None,
    namespace: options.Namespace = asking.DEFAULT,
    all_namespaces: options.AllNamespaces = False,
    no_headers: Annotated[bool, typer.Option("--no-headers", help="Leave out headings.")] = False,
    state_dir: options.StateDir = None,
) -> None:
    """Show events, the newest last. A node keeps each for an hour, also of pods that are gone.

    Where no node runs, those that it has stored are shown; the exit code is 4 then.

    Examples:

      podvisor events

      podvisor events --for pod/web -w

      podvisor events --types=Warning -A
    """
    wanted = [word.strip().capitalize() for word in types.split(",") if word.strip()]
    if unknown := sorted(set(wanted) - set(_TYPES)):
        raise UsageError(f"cannot use --types {','.join(unknown)}: there are Normal and Warning")
    place = "" if all_namespaces else namespace

    def show(reader: Reader) -> list[StatusError]:
        fields = _fields(reader, about)
        listed = reader.list(EVENTS, place, fields=fields)
        found = [each for each in listed["items"] if not wanted or each.get("type") in wanted]
        printer = _Printer(output, namespaces=all_namespaces, headers=not no_headers)
        printer.print(found)
        if watch and isinstance(reader, Client):
            version = listed["metadata"]["resourceVersion"]
            _watch(reader, place, fields, version, wanted, printer)
        elif not found and output is None:
            sys.stdout.flush()
            where = f" in {place} namespace." if place else "."
            print(f"No events found{where}", file=sys.stderr)
        return []

    asking.ask(state_dir, show)


def _fields(reader: Reader, about: str) -> str:
    if not about:
        return ""
    target = asking.one(about, reader)
    involved = {
        "kind": target.kind.kind,
        "apiVersion": target.kind.api_version,
        "name": target.name,
    }
    return ",".join(f"involvedObject.{key}={value}" for key, value in involved.items())


def _watch(
    client: Client, place: str, fields: str, since: str, wanted: list[str], printer: _Printer
) -> NoReturn:
    """Until we are told to end."""
    with asking.once_begun():
        while True:
            try:
                for event in client.watch(EVENTS, place, fields=fields, since=since):
                    since = event["object"]["metadata"]["resourceVersion"]
                    told = event["type"] in ("ADDED", "MODIFIED")
                    if told and (not wanted or event["object"].get("type") in wanted):
                        printer.print([event["object"]])
            except StatusError as error:
                if not error.is_expired:
                    raise
                since = client.list(EVENTS, place, fields=fields)["metadata"]["resourceVersion"]


class _Printer:
    def __init__(self, output: Output | None, *, namespaces: bool, headers: bool) -> None:
        self._output = output
        self._table = Table(namespaces=namespaces, headers=headers)

    def print(self, events: list[Json]) -> None:
        from supervisor.cli.describing import when

        events = sorted(events, key=when)
        if self._output is None:
            rows = [_row(each, time.time()) for each in events]
            if rows:
                text = self._table.text({"columnDefinitions": _COLUMNS, "rows": rows})
                print(text, end="", flush=True)
        elif self._output is Output.NAME:
            for each in events:
                print(EVENTS.named(each["metadata"]["name"]), flush=True)
        else:
            from supervisor.api import codec

            head = {"apiVersion": "v1", "kind": "Event"}
            items = [head | each for each in events]
            meta = {"resourceVersion": ""}
            whole: Json = {"apiVersion": "v1", "items": items, "kind": "List", "metadata": meta}
            print(codec.dump(whole, str(self._output)), end="", flush=True)


def _row(event: Json, now: float) -> Json:
    from supervisor.cli.describing import event_age

    about = event.get("involvedObject") or {}
    cells = [
        event_age(event, now),
        event.get("type", ""),
        event.get("reason", ""),
        f"{about.get('kind', '')}/{about.get('name', '')}",
        " ".join(str(event.get("message", "")).split()),
    ]
    return {"cells": cells, "object": {"metadata": event.get("metadata") or {}}}
