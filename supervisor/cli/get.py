"""`podvisor get`: objects as a table, as names, or as data; and how they change.

The node draws the tables. Here it is said which objects, and put into columns.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Annotated, Any, NoReturn

import typer

from supervisor.cli import asking, options
from supervisor.cli.asking import Reader, Target
from supervisor.cli.completing import complete_objects
from supervisor.cli.printing import Table
from supervisor.client import Client, Kind
from supervisor.errors import StatusError, UsageError

NO_ARGS_IS_HELP = False

Json = dict[str, Any]


class Output(enum.StrEnum):
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


class _Asked:
    """What is to be shown of what is found, and how."""

    def __init__(
        self,
        *,
        namespace: str,
        labels: str,
        fields: str,
        output: Output | None,
        everywhere: bool,
        show_labels: bool,
        label_columns: tuple[str, ...],
        headers: bool,
        missing_ok: bool,
    ) -> None:
        self.namespace = "" if everywhere else namespace
        self.labels = labels
        self.fields = fields
        self.output = output
        self.missing_ok = missing_ok
        self._everywhere = everywhere
        self._show_labels = show_labels
        self._label_columns = label_columns
        self._headers = headers

    @property
    def as_table(self) -> bool:
        return self.output in (None, Output.WIDE)

    def table(self, kind: Kind, *, prefixed: bool) -> Table:
        return Table(
            wide=self.output is Output.WIDE,
            headers=self._headers,
            namespaces=self._everywhere and kind.namespaced,
            labels=self._show_labels,
            label_columns=self._label_columns,
            prefix=kind.named("") if prefixed else "",
        )


def command(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TYPE[/NAME] [NAME]...]",
            help="Which objects: pods, no, ns, ev, cm, all… (default: pods).",
            autocompletion=complete_objects,
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Output | None, typer.Option("--output", "-o", help="More columns, data, or only names.")
    ] = None,
    namespace: options.Namespace = asking.DEFAULT,
    all_namespaces: options.AllNamespaces = False,
    selector: options.Selector = "",
    field_selector: options.FieldSelector = "",
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on, and show each change.")
    ] = False,
    watch_only: Annotated[
        bool, typer.Option("--watch-only", help="Show only what changes from now on.")
    ] = False,
    show_labels: Annotated[
        bool, typer.Option("--show-labels", help="All labels in a last column.")
    ] = False,
    label_columns: Annotated[
        list[str] | None,
        typer.Option("--label-columns", "-L", metavar="LABEL", help="A column for that label."),
    ] = None,
    no_headers: Annotated[
        bool, typer.Option("--no-headers", help="Leave out the headings of tables.")
    ] = False,
    ignore_not_found: Annotated[
        bool, typer.Option("--ignore-not-found", help="What is not there is no error.")
    ] = False,
    state_dir: options.StateDir = None,
) -> None:
    """Show objects of the node: pods, events, nodes, configmaps and more.

    Where no node runs, what it has stored is shown, pods that had not ended as Unknown; the exit
    code is 4 then.

    Examples:

      podvisor get pods

      podvisor get pods,services -A -o wide

      podvisor get pod/web -o yaml

      podvisor get events -w -l app=web
    """
    watch = watch or watch_only
    asked = _Asked(
        namespace=namespace,
        labels=selector,
        fields=field_selector,
        output=output,
        everywhere=all_namespaces,
        show_labels=show_labels,
        label_columns=tuple(key for each in label_columns or () for key in each.split(",")),
        headers=not no_headers,
        missing_ok=ignore_not_found,
    )

    def show(reader: Reader) -> list[StatusError]:
        targets = asking.targets(what or ["pods"], reader)
        _check(targets, asked, watch=watch)
        if watch and isinstance(reader, Client):
            _watch(reader, targets[0], asked, only=watch_only)
        return (_show_tables if asked.as_table else _show_objects)(reader, targets, asked)

    asking.ask(state_dir, show)


def _check(targets: list[Target], asked: _Asked, *, watch: bool) -> None:
    """Raises UsageError for what does not go together."""
    if any(target.name for target in targets):
        if asked.labels or asked.fields:
            raise UsageError("cannot select by labels or fields what is named already")
        if not asked.namespace and any(target.kind.namespaced for target in targets):
            raise UsageError("cannot look for a name in all namespaces: say its own by -n")
    if watch and len({target.kind for target in targets}) > 1:
        raise UsageError("cannot watch more than one type at once: name one")
    if watch and len(targets) > 1:
        raise UsageError("cannot watch several names at once: use a selector, or name one")


# --- once --------------------------------------------------------------------------------------


def _show_tables(reader: Reader, targets: list[Target], asked: _Asked) -> list[StatusError]:
    """One table of each kind; return what was not found."""
    missing: list[StatusError] = []
    kinds = list(dict.fromkeys(target.kind for target in targets))
    shown = False
    for kind in kinds:
        table = asked.table(kind, prefixed=len(kinds) > 1)
        rows: list[Json] = []
        columns: object = None
        for target in targets:
            found = None
            if target.kind == kind:
                found = _find(reader, target, asked, missing, table=True)
            if found is not None and found.get("rows"):
                columns = columns or found["columnDefinitions"]
                rows += found["rows"]
        # A table without rows is not shown, not even its headings.
        text = table.text({"columnDefinitions": columns, "rows": rows}) if rows else ""
        if text:
            print(f"\n{text}" if shown else text, end="")
            shown = True
    if not shown and not missing and not any(target.name for target in targets):
        asking.nothing_found(asked.namespace if any(kind.namespaced for kind in kinds) else "")
    return missing


def _show_objects(reader: Reader, targets: list[Target], asked: _Asked) -> list[StatusError]:
    from supervisor.api import codec

    missing: list[StatusError] = []
    found: list[Json] = []
    for target in targets:
        answer = _find(reader, target, asked, missing)
        if answer is not None:
            found += _items(target.kind, answer, named=bool(target.name))
    if asked.output is Output.NAME:
        _print_names(targets, found)
    elif len(targets) == 1 and targets[0].name:
        if found:
            print(codec.dump(found[0], _form(asked)), end="")
    elif found or not missing:
        meta = {"resourceVersion": ""}
        whole: Json = {"apiVersion": "v1", "items": found, "kind": "List", "metadata": meta}
        print(codec.dump(whole, _form(asked)), end="")
    return missing


def _find(
    reader: Reader,
    target: Target,
    asked: _Asked,
    missing: list[StatusError],
    *,
    table: bool = False,
) -> Json | None:
    """One object or all of a kind. What is not there is added to what is missing."""
    kind = target.kind
    namespace = asked.namespace if kind.namespaced else ""
    if not target.name:
        return reader.list(kind, namespace, labels=asked.labels, fields=asked.fields, table=table)
    try:
        return reader.get(kind, namespace, target.name, table=table)
    except StatusError as error:
        if error.reason != "NotFound":
            raise
        if not asked.missing_ok:
            missing.append(error)
        return None


def _items(kind: Kind, answer: Json, *, named: bool) -> list[Json]:
    if named:
        return [answer]
    # The items of a list need not say what they are.
    head = {"apiVersion": kind.api_version, "kind": kind.kind}
    return [head | item for item in answer.get("items") or ()]


def _print_names(targets: Iterable[Target], found: Iterable[Json]) -> None:
    kinds = {(t.kind.api_version, t.kind.kind): t.kind for t in targets}
    for each in found:
        print(kinds[each["apiVersion"], each["kind"]].named(each["metadata"]["name"]))


def _form(asked: _Asked) -> str:
    return "json" if asked.output is Output.JSON else "yaml"


# --- as it changes -----------------------------------------------------------------------------


def _watch(client: Client, target: Target, asked: _Asked, *, only: bool) -> NoReturn:
    """Until we are told to end. A node that ends the watch is asked to go on."""
    kind, namespace = target.kind, asked.namespace if target.kind.namespaced else ""
    fields = f"metadata.name={target.name}" if target.name else asked.fields
    table = asked.table(kind, prefixed=False)
    show = _shower(kind, table, asked)
    if target.name and not only:
        client.get(kind, namespace, target.name)  # what is not there is an error, not a long wait
    listed = _list(client, target, asked, fields)
    if not only:
        show(listed)
    with asking.once_begun():
        while True:
            version = listed["metadata"]["resourceVersion"]
            try:
                while True:
                    for event in client.watch(
                        kind,
                        namespace,
                        labels=asked.labels,
                        fields=fields,
                        since=version,
                        table=asked.as_table,
                    ):
                        version = _version(event["object"]) or version
                        if event["type"] != "BOOKMARK":
                            show(event["object"])
            except StatusError as error:
                if error.reason not in ("Expired", "Gone"):
                    raise
            listed = _list(client, target, asked, fields)
            show(listed)


def _list(client: Client, target: Target, asked: _Asked, fields: str) -> Json:
    namespace = asked.namespace if target.kind.namespaced else ""
    return client.list(
        target.kind, namespace, labels=asked.labels, fields=fields, table=asked.as_table
    )


def _version(object: Json) -> str:
    rows = object.get("rows")
    at = rows[0].get("object") if rows else object
    version: str = ((at or {}).get("metadata") or {}).get("resourceVersion", "")
    return version


def _shower(kind: Kind, table: Table, asked: _Asked) -> Any:
    """What shows an answer: a list, a table, or one object."""
    if asked.as_table:

        def show_table(answer: Json) -> None:
            print(table.text(answer), end="", flush=True)

        return show_table

    from supervisor.api import codec

    def show(answer: Json) -> None:
        for each in _items(kind, answer, named="items" not in answer):
            if asked.output is Output.NAME:
                print(kind.named(each["metadata"]["name"]), flush=True)
            else:
                separator = "---\n" if asked.output is Output.YAML else ""
                print(separator + codec.dump(each, _form(asked)), end="", flush=True)

    return show
