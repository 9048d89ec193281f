"""What completes a word of the command line: types, and names of objects, pods and containers.

A shell asks on every Tab, so a node is asked with a short timeout, and whatever goes wrong there is
nothing to complete: no word is ever printed beside the answer.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import typer

VARIABLE = "_PODVISOR_COMPLETE"  # of the environment: a shell asks, and how

_PATIENCE = 1.0  # seconds

# The types that people name, by the shortest names they have in full; a node may know more.
_TYPES = ("all", "configmaps", "events", "namespaces", "nodes", "pods", "secrets", "services")


def prepare() -> None:
    """Before the command line is read: let typer answer a shell that asks. Which it does not by
    itself, without options of its own to install that, which would be in every --help."""
    from typer.completion import completion_init  # type: ignore[attr-defined]

    completion_init()


def complete_objects(ctx: typer.Context, incomplete: str) -> list[str]:
    """For TYPE[/NAME] [NAME…]: a type first, then names of that type."""
    words = ctx.params.get("what") or []
    if "/" in incomplete:
        kind, _, begin = incomplete.partition("/")
        return [f"{kind}/{name}" for name in _names(ctx, kind) if name.startswith(begin)]
    if not words:
        return [type for type in _TYPES if type.startswith(incomplete)]
    if "/" in words[0]:
        return [f"{type}/" for type in _TYPES[1:] if type.startswith(incomplete)]
    given = words[1:]
    return [
        name for name in _names(ctx, words[0]) if name.startswith(incomplete) and name not in given
    ]


def complete_pod(ctx: typer.Context, incomplete: str) -> list[str]:
    if incomplete.startswith(("pod/", "pods/", "po/")):
        return complete_objects(ctx, incomplete)
    return [name for name in _names(ctx, "pods") if name.startswith(incomplete)]


def complete_container(ctx: typer.Context, incomplete: str) -> list[str]:
    """Of the pod that is named before."""
    # With an option that has no value yet, the words are not told apart.
    word = ctx.params.get("pod") or next(iter(ctx.args), "")
    pod = str(word).rpartition("/")[2]

    def find(client: Any) -> list[str]:
        from supervisor.cli import asking
        from supervisor.client import PODS

        return list(asking.containers(client.get(PODS, _namespace(ctx), pod)))

    return [name for name in _ask(ctx, find) if name.startswith(incomplete)] if pod else []


def complete_namespace(ctx: typer.Context, incomplete: str) -> list[str]:
    return [name for name in _names(ctx, "namespaces") if name.startswith(incomplete)]


def _names(ctx: typer.Context, word: str) -> list[str]:
    def find(client: Any) -> list[str]:
        kind = client.kind(word)
        namespace = _namespace(ctx) if kind.namespaced else ""
        return [each["metadata"]["name"] for each in client.list(kind, namespace)["items"]]

    return _ask(ctx, find)


def _namespace(ctx: typer.Context) -> str:
    return str(ctx.params.get("namespace") or "default")


def _ask(ctx: typer.Context, find: Callable[[Any], list[str]]) -> list[str]:
    from supervisor.client import Client, find_state_dir

    try:
        place = find_state_dir(os.getcwd(), ctx.params.get("state_dir"))
        return find(Client(place, timeout=_PATIENCE))
    except Exception:
        return []  # there is no node, or it has no such object: nothing to offer
