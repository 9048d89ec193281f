"""`podvisor top`: how much processor and memory pods, containers and the node use now.

The node measures its process trees and tells it by the metrics API; here it is put into columns.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import typer

from supervisor.api import quantity
from supervisor.cli import asking, options
from supervisor.cli.completing import complete_pod
from supervisor.cli.printing import Table
from supervisor.client import Client, Kind
from supervisor.errors import UsageError

NO_ARGS_IS_HELP = True

Json = dict[str, Any]

_GROUP, _VERSION = "metrics.k8s.io", "v1beta1"
_PODS = Kind("pods", "pod", "PodMetrics", _GROUP, _VERSION)
_NODES = Kind("nodes", "node", "NodeMetrics", _GROUP, _VERSION, namespaced=False)
_WORDS = {"pod": _PODS, "pods": _PODS, "po": _PODS, "node": _NODES, "nodes": _NODES, "no": _NODES}
_MILLI = quantity.Quantity(quantity.NANO // 1000)


class SortBy(enum.StrEnum):
    CPU = "cpu"
    MEMORY = "memory"


class _Measured(NamedTuple):
    """What one row of pods tells."""

    meta: Json
    names: list[str]
    cpu: int  # thousandths of a processor
    memory: int  # bytes


def complete_what(incomplete: str) -> list[str]:
    return [word for word in ("pods", "nodes") if word.startswith(incomplete)]


def command(
    what: Annotated[
        str, typer.Argument(metavar="pods|nodes", help="Of what.", autocompletion=complete_what)
    ],
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Only this one.", autocompletion=complete_pod),
    ] = "",
    containers: Annotated[
        bool, typer.Option("--containers", help="Each container of the pods for itself.")
    ] = False,
    sort_by: Annotated[SortBy | None, typer.Option(help="The greatest first.")] = None,
    total: Annotated[bool, typer.Option("--sum", help="And all of them together.")] = False,
    namespace: options.Namespace = asking.DEFAULT,
    all_namespaces: options.AllNamespaces = False,
    selector: options.Selector = "",
    no_headers: Annotated[bool, typer.Option("--no-headers", help="Leave out headings.")] = False,
    state_dir: options.StateDir = None,
) -> None:
    """Show how much processor and memory pods or the node use now.

    Examples:

      podvisor top pods

      podvisor top pod web --containers

      podvisor top nodes
    """
    kind = _WORDS.get(what)
    if kind is None:
        raise UsageError(f"cannot show what {what} use: there is pods and nodes")
    client = asking.client(state_dir)
    place = "" if all_namespaces or kind is _NODES else namespace
    if name:
        found = [client.get(kind, place, name)]
    else:
        found = client.list(kind, place, labels=selector)["items"]
    if kind is _NODES:
        columns, rows = _nodes(client, found)
    else:
        columns, rows = _pods(found, split=containers, sort_by=sort_by, whole=total)
    if not rows:
        asking.nothing_found(place)
        return
    table = Table(namespaces=all_namespaces and kind is _PODS, headers=not no_headers)
    titles = [{"heading": column} for column in columns]
    print(table.text({"columnDefinitions": titles, "rows": rows}), end="")


def _pods(
    found: Sequence[Json], *, split: bool, sort_by: SortBy | None, whole: bool
) -> tuple[list[str], list[Json]]:
    measured: list[_Measured] = []
    for pod in found:
        meta = pod["metadata"]
        used = [(each["name"], *_usage(each["usage"])) for each in pod["containers"]]
        if split:
            measured += [_Measured(meta, [meta["name"], name], c, m) for name, c, m in used]
        else:
            cpu, memory = sum(c for _, c, _ in used), sum(m for _, _, m in used)
            measured.append(_Measured(meta, [meta["name"]], cpu, memory))
    if sort_by is not None:
        by_cpu = sort_by is SortBy.CPU
        measured.sort(key=lambda each: each.cpu if by_cpu else each.memory, reverse=True)
    if whole and measured:
        cpu, memory = sum(each.cpu for each in measured), sum(each.memory for each in measured)
        measured.append(_Measured({}, ["", ""][: 1 + split], cpu, memory))
    rows = [
        {"cells": [*each.names, *_cells(each.cpu, each.memory)], "object": {"metadata": each.meta}}
        for each in measured
    ]
    names = ["POD", "NAME"] if split else ["NAME"]
    return [*names, "CPU(cores)", "MEMORY(bytes)"], rows


def _nodes(client: Client, found: Sequence[Json]) -> tuple[list[str], list[Json]]:
    nodes = client.list(Kind("nodes", "node", "Node", namespaced=False))["items"]
    there = {node["metadata"]["name"]: node["status"].get("allocatable") or {} for node in nodes}
    rows: list[Json] = []
    for each in found:
        meta = each["metadata"]
        used = _usage(each["usage"])
        whole = _usage(there.get(meta["name"]) or {})
        cpu, memory = _cells(*used)
        parts = [f"{100 * a // b}%" if b else "<unknown>" for a, b in zip(used, whole, strict=True)]
        rows.append({"cells": [meta["name"], cpu, parts[0], memory, parts[1]]})
    return ["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"], rows


def _usage(usage: Json) -> tuple[int, int]:
    """Thousandths of a processor, and bytes."""
    cpu = quantity.parse(str(usage.get("cpu") or "0"))
    memory = quantity.parse(str(usage.get("memory") or "0"))
    return cpu.ceil(_MILLI), memory.nano // quantity.NANO


def _cells(cpu: int, memory: int) -> list[str]:
    return [f"{cpu}m", f"{memory // 2**20}Mi"]
