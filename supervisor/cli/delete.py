"""`podvisor delete`: the end of objects."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from supervisor.cli import options
from supervisor.cli.options import DryRun
from supervisor.errors import UsageError

NO_ARGS_IS_HELP = True


class Output(enum.StrEnum):
    NAME = "name"


class Cascade(enum.StrEnum):
    BACKGROUND = "background"
    FOREGROUND = "foreground"
    ORPHAN = "orphan"


def command(
    what: options.Objects = None,
    filename: options.Filename = None,
    recursive: options.Recursive = False,
    selector: options.Selector = "",
    field_selector: options.FieldSelector = "",
    all: options.All = False,
    namespace: options.Namespace = "default",
    all_namespaces: options.AllNamespaces = False,
    grace_period: Annotated[
        int,
        typer.Option(metavar="SECONDS", min=-1, max=2**31 - 1, help="Grace, if not its own (-1)."),
    ] = -1,
    now: Annotated[bool, typer.Option("--now", help="As --grace-period 1.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Kill at once, and forget the object: grace 0.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Return when they are gone.")
    ] = True,
    timeout: Annotated[
        str, typer.Option(metavar="DURATION", help="How long to wait (default: as it takes).")
    ] = "0s",
    ignore_not_found: Annotated[
        bool, typer.Option("--ignore-not-found", help="What is not there is no error.")
    ] = False,
    cascade: Annotated[
        Cascade, typer.Option(help="What becomes of what they own; accepted, as nothing is owned.")
    ] = Cascade.BACKGROUND,
    dry_run: Annotated[DryRun, typer.Option(help="Delete nothing, and say so.")] = DryRun.NONE,
    output: Annotated[
        Output | None, typer.Option("--output", "-o", help="Print only names.")
    ] = None,
    state_dir: options.StateDir = None,
) -> None:
    """Delete objects, pods gracefully: preStop, signal, grace, kill. Return when they are gone.

    A node that `serve` runs for files starts their pods again as long as they are in them.

    Examples:

      podvisor delete pod web

      podvisor delete -f deploy/ --ignore-not-found

      podvisor delete pods -l app=web --grace-period 5

      podvisor delete pod/web --force
    """
    given = bool(selector or field_selector)
    if filename and (what or given or all):
        raise UsageError("cannot use -f together with a TYPE, a selector or --all")
    if not filename and not what:
        raise UsageError("cannot delete nothing: name TYPE and NAME, or manifests with -f")
    if all and given:
        raise UsageError("cannot use --all together with a selector")
    if now and grace_period != -1:
        raise UsageError("cannot use --now together with --grace-period")
    if force and grace_period > 0:
        raise UsageError("cannot use --force together with a --grace-period greater than 0")
    if now and force:
        raise UsageError("cannot use --now together with --force")

    from supervisor.cli import complain, removing, written
    from supervisor.cli.asking import client, targets, targets_of
    from supervisor.project import manifests

    limit = manifests.duration("--timeout", timeout, zero=True) or None
    node = client(state_dir)
    found: list[removing.Target] = []
    if filename:
        documents = written.read(filename, recursive=recursive)
        for kind, name, where in targets_of(documents, node):
            where = (where or namespace) if kind.namespaced else ""
            found.append(removing.Target(kind, where, name))
    else:
        for kind, name, _ in targets(what or (), node):
            if name and (all or given):
                raise UsageError("cannot use a NAME together with --all or a selector")
            if name and all_namespaces:
                raise UsageError("cannot use a NAME together with --all-namespaces")
            if name:
                found.append(removing.Target(kind, namespace if kind.namespaced else "", name))
            elif all or given:
                where = "" if all_namespaces else namespace
                listed = node.list(kind, where, labels=selector, fields=field_selector)
                found += [removing.target(kind, each) for each in listed["items"]]
            else:
                raise UsageError(
                    f"cannot tell which {kind.plural} to delete: name them, or use -l or --all"
                )
        if not found:
            complain("No resources found")
            return
    if force:
        complain(
            "Warning: Immediate deletion does not wait for confirmation that the running resource "
            "has been terminated."
        )
    if dry_run is DryRun.CLIENT:
        for each in found:
            if node.find(each.kind, each.namespace, each.name) is not None:
                print(
                    each.kind.named(each.name)
                    if output is Output.NAME
                    else f"{each.shown} deleted (dry run)"
                )
            elif not ignore_not_found:
                node.get(each.kind, each.namespace, each.name)  # says that there is none
        return
    grace = 0 if force else 1 if now else None if grace_period < 0 else grace_period
    refused = removing.remove(
        node,
        found,
        grace=grace,
        force=force,
        dry_run=dry_run is DryRun.SERVER,
        ignore_missing=ignore_not_found,
        wait=wait,
        timeout=limit,
        propagation=cascade.value.capitalize(),
        names_only=output is Output.NAME,
    )
    for error in refused:
        complain(str(error))
    if refused:
        raise typer.Exit(max(error.code for error in refused))
