"""`podvisor get`: objects as a table, as names, or as data; and how they change.

The node draws the tables. Here it is said which objects, and put into columns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, NoReturn

import typer

from supervisor.cli import asking, options
from supervisor.cli.asking import Reader, Target
from supervisor.cli.completing import complete_objects
from supervisor.cli.printing import Table
from supervisor.client import PODS, Client, Kind
from supervisor.errors import StatusError, UsageError

if TYPE_CHECKING:
    from supervisor.cli.jsonpath import JSONPath

NO_ARGS_IS_HELP = False

Json = dict[str, Any]


_FORMS = ("wide", "json", "yaml", "name", "jsonpath=", "custom-columns=")


def complete_output(incomplete: str) -> list[str]:
    return [form for form in _FORMS if form.startswith(incomplete)]


class _Asked:
    """What is to be shown of what is found, and how."""

    def __init__(
        self,
        *,
        namespace: str,
        labels: str,
        fields: str,
        output: str,
        sort_by: str,
        everywhere: bool,
        show_labels: bool,
        label_columns: tuple[str, ...],
        headers: bool,
        missing_ok: bool,
        managed_fields: bool,
    ) -> None:
        self.namespace = "" if everywhere else namespace
        self.labels = labels
        self.fields = fields
        self.output = output
        form, equals, text = output.partition("=")
        if output and form + equals not in _FORMS:
            raise UsageError(
                f"cannot use -o {output}: there is {', '.join(_FORMS[:4])}, jsonpath=TEMPLATE, "
                "custom-columns=HEADING:PATH,…"
            )
        self.template = _Template(text) if form == "jsonpath" else None
        self.columns = _Columns(text) if form == "custom-columns" else None
        self.managed_fields = managed_fields
        self.order = _Order(sort_by) if sort_by else None
        self.missing_ok = missing_ok
        self._everywhere = everywhere
        self._show_labels = show_labels
        self._label_columns = label_columns
        self._headers = headers

    @property
    def as_table(self) -> bool:
        return self.output in ("", "wide")

    def table(self, kind: Kind, *, prefixed: bool) -> Table:
        return Table(
            wide=self.output == "wide",
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
            metavar="TYPE|TYPE/NAME|NAME",
            help="Which objects: pods, no, ns, ev, cm, all… (default: pods).",
            autocompletion=complete_objects,
            show_default=False,
        ),
    ] = None,
    filename: options.Filename = None,
    recursive: options.Recursive = False,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="wide|json|yaml|name|jsonpath=TEMPLATE|custom-columns=HEADING:PATH,…",
            help="More columns, data, only names, or parts of the data.",
            autocompletion=complete_output,
        ),
    ] = "",
    sort_by: Annotated[
        str, typer.Option(metavar="PATH", help="In the order of a field: .status.startTime.")
    ] = "",
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
    show_managed_fields: Annotated[
        bool, typer.Option("--show-managed-fields", help="In data, also who has set which field.")
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

      podvisor get pods -o jsonpath='{.items[*].status.podIP}'

      podvisor get pods -o custom-columns=NAME:.metadata.name,IP:.status.podIP

      podvisor get events -w -l app=web

      podvisor get -f deploy/
    """
    selected = bool(selector or field_selector)
    documents = asking.described(
        filename,
        recursive=recursive,
        named=bool(what),
        selected=selected,
        everywhere=all_namespaces,
    )
    watch = watch or watch_only
    asked = _Asked(
        namespace=namespace,
        labels=selector,
        fields=field_selector,
        output=output,
        sort_by=sort_by,
        everywhere=all_namespaces,
        show_labels=show_labels,
        label_columns=tuple(key for each in label_columns or () for key in each.split(",")),
        headers=not no_headers,
        missing_ok=ignore_not_found,
        managed_fields=show_managed_fields,
    )

    def show(reader: Reader) -> list[StatusError]:
        targets = (
            asking.targets_of(documents, reader)
            if documents
            else asking.targets(what or ["pods"], reader)
        )
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
    if watch and asked.order is not None:
        raise UsageError("cannot watch in an order: leave out --sort-by or -w")
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
        if asked.order is not None:
            rows = asked.order.ordered(rows, lambda row: row["object"])
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
    if asked.order is not None:
        found = asked.order.ordered(found, lambda item: item)
    if asked.output == "name":
        _print_names(targets, found)
        return missing
    if asked.columns is not None:
        print(asked.table(PODS, prefixed=False).text(asked.columns.table(found)), end="")
        return missing
    if not asked.managed_fields:
        _hide_managed_fields(found)
    meta = {"resourceVersion": ""}
    whole: Json = {"apiVersion": "v1", "items": found, "kind": "List", "metadata": meta}
    if len(targets) == 1 and targets[0].name:
        if not found:
            return missing
        whole = found[0]
    if asked.template is not None:
        print(asked.template.text(whole), end="")
    elif found or not missing:
        print(codec.dump(whole, asked.output), end="")
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
    namespace = _namespace(target, asked)
    if not target.name:
        query = {"includeObject": "Object"} if table and asked.order is not None else None
        return reader.list(
            kind, namespace, labels=asked.labels, fields=asked.fields, table=table, query=query
        )
    try:
        return reader.get(kind, namespace, target.name, table=table)
    except StatusError as error:
        if error.reason != "NotFound":
            raise
        if not asked.missing_ok:
            missing.append(error)
        return None


def _namespace(target: Target, asked: _Asked) -> str:
    return (target.namespace or asked.namespace) if target.kind.namespaced else ""


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


def _hide_managed_fields(objects: Iterable[Json]) -> None:
    """Who reads an object seldom wants them, and they are half of it."""
    for each in objects:
        each["metadata"].pop("managedFields", None)


class _Order:
    """By a field of each object; what has none comes first."""

    def __init__(self, text: str) -> None:
        from supervisor.cli.jsonpath import JSONPath

        self._text = text
        self._path = JSONPath(text)

    def ordered(self, items: list[Json], object_of: Callable[[Json], Json]) -> list[Json]:
        """Objects, or rows of a table that has its objects. Raises UsageError where none has the
        field: it is misspelt."""
        if items and not any(self._path.find(object_of(item)) for item in items):
            raise UsageError(f"cannot sort by {self._text}: none of these has such a field")
        return sorted(items, key=lambda item: self._key(object_of(item)))

    def _key(self, object: Json) -> tuple[bool, bool, float, str]:
        values = self._path.find(object)
        value = values[0] if values else None
        if isinstance(value, (int, float)):
            return True, False, value, ""
        return value is not None, True, 0.0, str(value)


class _Template:
    """Text with paths in braces, and text in braces and quotes, as kubectl's -o jsonpath; what
    stands between {range PATH} and {end} is said of each of its values."""

    def __init__(self, text: str) -> None:
        left = list(filter(None, _PIECE.split(text)))
        self._pieces = _pieces(left, inside=False)

    def text(self, object: Json) -> str:
        return "".join(_said(self._pieces, object))


class _Range(NamedTuple):
    path: JSONPath
    pieces: list[str | JSONPath | _Range]


def _pieces(left: list[str], *, inside: bool) -> list[str | JSONPath | _Range]:
    """Up to the end of a range, or of all. Raises UsageError."""
    from supervisor.cli.jsonpath import JSONPath

    pieces: list[str | JSONPath | _Range] = []
    while left:
        piece = left.pop(0)
        words = piece[1:-1].split(maxsplit=1) if piece.startswith("{") else []
        if words == ["end"] and inside:
            return pieces
        if words and words[0][0] in "\"'" and piece[-2:-1] == words[0][0]:
            quoted = piece[2:-2].encode("latin-1", "backslashreplace")
            pieces.append(quoted.decode("unicode_escape"))
        elif words[:1] == ["range"] and len(words) > 1:
            pieces.append(_Range(JSONPath(f"{{{words[1]}}}"), _pieces(left, inside=True)))
        elif piece.startswith("{"):
            pieces.append(JSONPath(piece))
        else:
            pieces.append(piece)
    if inside:
        raise UsageError("cannot read the JSONPath: a {range …} has no {end}")
    return pieces


def _said(pieces: list[str | JSONPath | _Range], object: Any) -> Iterator[str]:
    from supervisor.cli import jsonpath

    for piece in pieces:
        if isinstance(piece, str):
            yield piece
        elif isinstance(piece, _Range):
            for each in piece.path.find(object):
                yield from _said(piece.pieces, each)
        else:
            yield " ".join(jsonpath.text(value) for value in piece.find(object))


_PIECE = re.compile(r"""(\{(?:"[^"]*"|'[^']*'|[^}"'])*\})""")


class _Columns:
    """HEADING:PATH,…, as kubectl's -o custom-columns."""

    def __init__(self, text: str) -> None:
        from supervisor.cli.jsonpath import JSONPath

        self._columns: list[tuple[str, JSONPath]] = []
        for word in text.split(","):
            heading, colon, path = word.partition(":")
            if not colon or not path:
                raise UsageError(
                    f"cannot read the column {word!r}: say HEADING:PATH, as in NAME:.metadata.name"
                )
            self._columns.append((heading, JSONPath(path)))

    def table(self, objects: Iterable[Json]) -> Json:
        from supervisor.cli import jsonpath

        def cell(object: Json, path: JSONPath) -> str:
            return ",".join(map(jsonpath.text, path.find(object))) or "<none>"

        return {
            "columnDefinitions": [{"heading": heading} for heading, _ in self._columns],
            "rows": [
                {"cells": [cell(each, path) for _, path in self._columns]} for each in objects
            ],
        }


# --- as it changes -----------------------------------------------------------------------------


def _watch(client: Client, target: Target, asked: _Asked, *, only: bool) -> NoReturn:
    """Until we are told to end. A node that ends the watch is asked to go on."""
    kind, namespace = target.kind, _namespace(target, asked)
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
                if not error.is_expired:
                    raise
            listed = _list(client, target, asked, fields)
            show(listed)


def _list(client: Client, target: Target, asked: _Asked, fields: str) -> Json:
    namespace = _namespace(target, asked)
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
        found = _items(kind, answer, named="items" not in answer)
        if asked.columns is not None:
            print(table.text(asked.columns.table(found)), end="", flush=True)
            return
        if not asked.managed_fields:
            _hide_managed_fields(found)
        for each in found:
            if asked.output == "name":
                print(kind.named(each["metadata"]["name"]), flush=True)
            elif asked.template is not None:
                print(asked.template.text(each), end="", flush=True)
            else:
                separator = "---\n" if asked.output == "yaml" else ""
                print(separator + codec.dump(each, asked.output), end="", flush=True)

    return show
