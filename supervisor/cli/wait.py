"""`podvisor wait`: until something is so of objects."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from supervisor.cli import options
from supervisor.errors import ExitCode, PodTimeout, UsageError

if TYPE_CHECKING:
    from supervisor.client import Client, Kind

NO_ARGS_IS_HELP = True

_A_WEEK = 7 * 24 * 3600.0


def command(
    condition: Annotated[
        str,
        typer.Option(
            "--for",
            metavar="condition=TYPE[=STATUS]|jsonpath={.PATH}[=VALUE]|create|delete",
            help="What is waited for.",
        ),
    ],
    what: options.Objects = None,
    filename: options.Filename = None,
    recursive: options.Recursive = False,
    timeout: Annotated[
        str,
        typer.Option(metavar="DURATION", help="How long; 0 looks once, -1s is a week."),
    ] = "30s",
    selector: options.Selector = "",
    field_selector: options.FieldSelector = "",
    all: options.All = False,
    namespace: options.Namespace = "default",
    all_namespaces: options.AllNamespaces = False,
    state_dir: options.StateDir = None,
) -> None:
    """Wait until something is so of each of these objects; exit code 1 when it is not in time.

    Examples:

      podvisor wait pod/web --for=condition=Ready

      podvisor wait pod web db --for=delete --timeout 1m

      podvisor wait pod/job --for=jsonpath='{.status.phase}'=Succeeded

      podvisor wait pods -l app=web --for=condition=Ready=False

      podvisor wait -f deploy/ --for=condition=Ready
    """
    given = bool(selector or field_selector)
    if all and given:
        raise UsageError("cannot use --all together with a selector")
    if filename and (what or given or all):
        raise UsageError("cannot use -f together with a TYPE, a selector or --all")
    if not filename and not what:
        raise UsageError("cannot wait for nothing: name TYPE and NAME, or manifests with -f")
    is_so = _read(condition)
    seconds = _seconds(timeout)

    from supervisor.cli import complain, written
    from supervisor.cli.asking import client, targets, targets_of

    node = client(state_dir)
    found: list[tuple[Kind, str, str]] = []
    documents = written.read(filename, recursive=recursive) if filename else []
    for kind, name, where in targets_of(documents, node):
        found.append((kind, (where or namespace) if kind.namespaced else "", name))
    for kind, name, _ in targets(what, node) if what else ():
        if name:
            found.append((kind, namespace if kind.namespaced else "", name))
        elif all or given:
            where = "" if all_namespaces else namespace
            for each in node.list(kind, where, labels=selector, fields=field_selector)["items"]:
                meta = each["metadata"]
                found.append((kind, meta.get("namespace", ""), meta["name"]))
        else:
            raise UsageError(f"cannot tell which {kind.plural} are meant: name them, or use -l")
    if not found and condition != "delete":
        complain("error: no matching resources found")
        raise typer.Exit(ExitCode.NEGATIVE)
    end = time.monotonic() + seconds
    late: list[PodTimeout] = []
    for kind, where, name in found:
        try:
            _wait(node, kind, where, name, condition, is_so, end)
        except PodTimeout as error:
            late.append(error)
        else:
            print(f"{kind.named(name)} condition met", flush=True)
    for each_late in late:
        complain(f"error: {each_late}")
    if late:
        raise typer.Exit(ExitCode.NEGATIVE)


def _wait(
    node: Client,
    kind: Kind,
    namespace: str,
    name: str,
    condition: str,
    is_so: Callable[[Any], bool],
    end: float,
) -> None:
    """Raises PodTimeout; StatusError where there is no such object, or not any more."""
    from supervisor.cli.removing import Target, await_end

    if condition == "delete":
        there = node.find(kind, namespace, name)
        if there is not None:
            await_end(node, Target(kind, namespace, name, there["metadata"]["uid"]), end)
        return
    for object in node.states(kind, namespace, name, timeout=end - time.monotonic()):
        if object is not None and is_so(object):
            return
        if object is None and condition != "create":
            node.get(kind, namespace, name)  # says that there is none
    raise PodTimeout(f"timed out waiting for the condition on {kind.plural}/{name}")


def _read(condition: str) -> Callable[[Any], bool]:
    """What --for asks of an object. Raises UsageError."""
    if condition in ("delete", "create"):
        return bool
    what, _, rest = condition.partition("=")
    if what == "condition" and rest:
        type, _, status = rest.partition("=")
        wanted = type.lower(), (status or "true").lower()
        return lambda it: wanted in _conditions(it)
    if what == "jsonpath" and rest:
        return _read_path(rest)
    raise UsageError(
        f"cannot wait for {condition!r}: say condition=TYPE, jsonpath={{.PATH}}=VALUE, create or "
        "delete"
    )


def _conditions(it: Any) -> list[tuple[str, str]]:
    conditions = (it.get("status") or {}).get("conditions") or ()
    return [(c["type"].lower(), c["status"].lower()) for c in conditions]


def _read_path(text: str) -> Callable[[Any], bool]:
    from supervisor.cli import jsonpath

    # A filter in the path has signs of equality, too.
    path, brace, rest = text.rpartition("}")
    if not brace:
        path, equals, rest = text.partition("=")
        rest = equals + rest
    found = jsonpath.JSONPath(f"{path}{brace}")
    if not rest:
        return lambda it: bool(found.find(it))
    wanted = rest.removeprefix("=").strip("\"'")
    return lambda it: [jsonpath.text(value) for value in found.find(it)] == [wanted]


def _seconds(text: str) -> float:
    """Raises UsageError."""
    from supervisor.project import manifests

    if text.startswith("-"):
        return _A_WEEK
    return manifests.duration("--timeout", text, zero=True) or 0.0
