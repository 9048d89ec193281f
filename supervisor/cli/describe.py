"""`podvisor describe`: all about an object that a person may want to know, events included.

Here it is asked for; describing.py makes the text.
"""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from supervisor.cli import asking, options
from supervisor.cli.asking import Reader, Target
from supervisor.cli.completing import complete_objects
from supervisor.client import EVENTS, PODS, Kind
from supervisor.errors import StatusError

NO_ARGS_IS_HELP = True

Json = dict[str, Any]


def command(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TYPE|TYPE/NAME|NAME",
            help="Which objects, as in `pod web`, `pod/web cm/settings` or `pods`.",
            autocompletion=complete_objects,
        ),
    ] = None,
    filename: options.Filename = None,
    recursive: options.Recursive = False,
    namespace: options.Namespace = asking.DEFAULT,
    all_namespaces: options.AllNamespaces = False,
    selector: options.Selector = "",
    show_events: Annotated[
        bool, typer.Option("--show-events/--no-events", help="With what was told about it.")
    ] = True,
    state_dir: options.StateDir = None,
) -> None:
    """Show all about objects: spec, status and events, as kubectl does.

    Of a pod also what the node alone knows: what each probe gave last, how hooks ran and what
    they wrote, and how the pod has been ending, moment by moment. Where no node runs, what it has
    stored is shown; the exit code is 4 then.

    Examples:

      podvisor describe pod web

      podvisor describe pods -l app=web

      podvisor describe node

      podvisor describe -f pod.yaml
    """
    documents = asking.described(
        filename,
        recursive=recursive,
        named=bool(what),
        selected=bool(selector),
        everywhere=all_namespaces,
    )
    everywhere = "" if all_namespaces else namespace

    def show(reader: Reader) -> list[StatusError]:
        missing: list[StatusError] = []
        shown = 0
        for target in (
            asking.targets_of(documents, reader)
            if documents
            else asking.targets(what or [], reader)
        ):
            try:
                found = _find(reader, target, everywhere, selector)
            except StatusError as error:
                if error.reason != "NotFound":
                    raise
                missing.append(error)
                continue
            for object in found:
                text = _text(reader, target.kind, object, show_events=show_events)
                print(f"\n\n{text}" if shown else text, end="")
                shown += 1
        if not shown and not missing:
            asking.nothing_found(everywhere)
        return missing

    asking.ask(state_dir, show)


def _find(reader: Reader, target: Target, namespace: str, labels: str) -> list[Json]:
    wanted = (target.namespace or namespace) if target.kind.namespaced else ""
    if target.name:
        return [reader.get(target.kind, wanted, target.name)]
    found: list[Json] = reader.list(target.kind, wanted, labels=labels)["items"]
    return found


def _text(reader: Reader, kind: Kind, object: Json, *, show_events: bool) -> str:
    from supervisor.cli.describing import describe

    meta = object["metadata"]
    namespace = meta.get("namespace", "")
    events: list[Json] | None = None
    if show_events:
        about = {"kind": kind.kind, "name": meta["name"], "namespace": namespace}
        if kind.namespaced:  # a node's own events have its name for a uid
            about["uid"] = meta.get("uid", "")
        fields = ",".join(f"involvedObject.{key}={value}" for key, value in about.items() if value)
        events = reader.list(EVENTS, namespace, fields=fields)["items"]
    record, pods = None, []
    if kind.key == "pods":
        record = _record(reader, namespace, meta["name"])
    elif kind.key == "nodes":
        fields = f"spec.nodeName={meta['name']},status.phase!=Succeeded,status.phase!=Failed"
        pods = reader.list(PODS, fields=fields)["items"]
    return describe(kind.kind, object, events, time.time(), record, pods)


def _record(reader: Reader, namespace: str, name: str) -> Json | None:
    from supervisor.apiserver import records

    try:
        return reader.json("GET", records.path(namespace, name))
    except StatusError:
        return None  # the pod has just gone, or the node is an older one
