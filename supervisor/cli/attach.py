"""`podvisor attach`: the output of a container as it comes, and its stdin."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from supervisor.cli import asking, options
from supervisor.cli.completing import complete_container, complete_pod
from supervisor.client import PODS
from supervisor.errors import UsageError

NO_ARGS_IS_HELP = True


def command(
    pod: Annotated[
        str, typer.Argument(metavar="POD", help="Whose container.", autocompletion=complete_pod)
    ],
    container: Annotated[
        str,
        typer.Option(
            "--container",
            "-c",
            metavar="NAME",
            help="Which one (default: the first one).",
            autocompletion=complete_container,
        ),
    ] = "",
    stdin: Annotated[
        bool, typer.Option("--stdin", "-i", help="Give it our stdin; it must have `stdin: true`.")
    ] = False,
    tty: Annotated[
        bool, typer.Option("--tty", "-t", help="With -i: and our terminal, if it has `tty: true`.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing ourselves.")] = False,
    namespace: options.Namespace = asking.DEFAULT,
    state_dir: options.StateDir = None,
) -> None:
    """Show what a container writes from now on, until it ends, and let it read what we type.

    Without -t, Ctrl-C ends only this command; the container runs on.

    Examples:

      podvisor attach web

      podvisor attach -it web -c shell
    """
    from supervisor.cli import streaming
    from supervisor.cli.websocket import WebSocket

    client = asking.client(state_dir)
    name = asking.pod(pod)
    found = client.get(PODS, namespace, name)
    chosen = container or asking.default_container(found, quiet=quiet)
    spec = asking.containers(found).get(chosen)
    if spec is None:
        raise UsageError(f"container {chosen} not found in pod {name}")
    if stdin and not spec.get("stdin"):
        raise UsageError(
            f"cannot give container {chosen} our stdin: it has none; "
            "leave out -i, or set stdin: true in its manifest"
        )
    tty = streaming.can_use_terminal(stdin=stdin, tty=tty)
    if tty and not spec.get("tty"):
        text = f"Unable to use a TTY - container {chosen} did not allocate one"
        print(text, file=sys.stderr)
        tty = False
    query: dict[str, object] = {
        "container": chosen,
        "stdin": stdin,
        "stdout": True,
        "stderr": not spec.get("tty"),  # a terminal has one output
        "tty": bool(spec.get("tty")),
    }
    socket = WebSocket.open(client, PODS.path(namespace, name, "attach"), query)
    if tty and not quiet:
        print("If you don't see a command prompt, try pressing enter.", file=sys.stderr)
    if code := streaming.converse(socket, stdin=stdin, tty=tty):
        raise typer.Exit(code)
