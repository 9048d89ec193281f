"""`podvisor exec`: another process in a container that runs.

The exit code is that of the process; 125 stands for every failure of podvisor's own.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from supervisor.cli import Command, asking, fail_with, options
from supervisor.cli.completing import complete_container, complete_pod
from supervisor.client import PODS
from supervisor.errors import ExitCode, UsageError

NO_ARGS_IS_HELP = True

_ARGV = "podvisor.argv"  # of the command after `--`


class Parser(Command):
    """Takes what follows `--` for the command, whose options are its own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        at = args.index("--") if "--" in args else len(args)
        ctx.meta[_ARGV] = args[at + 1 :]
        fail_with(ExitCode.ITSELF)
        asks_for_help = not {"-h", "--help"}.isdisjoint(args[:at])
        if args and not args[at + 1 :] and not asks_for_help and not ctx.resilient_parsing:
            raise UsageError(
                "cannot tell which command to run: put it behind `--`, as in "
                "podvisor exec web -- ls"
            )
        try:
            return super().parse_args(ctx, args[:at])
        except Exception as error:
            # Of typer's errors only the common base has no public name.
            if getattr(error, "exit_code", None) == ExitCode.USAGE:
                vars(error)["exit_code"] = ExitCode.ITSELF
            raise


def command(
    ctx: typer.Context,
    pod: Annotated[
        str,
        typer.Argument(metavar="POD -- COMMAND", help="In which pod.", autocompletion=complete_pod),
    ],
    container: Annotated[
        str,
        typer.Option(
            "--container",
            "-c",
            metavar="NAME",
            help="In which of its containers (default: the first one).",
            autocompletion=complete_container,
        ),
    ] = "",
    stdin: Annotated[bool, typer.Option("--stdin", "-i", help="Give it our stdin.")] = False,
    tty: Annotated[bool, typer.Option("--tty", "-t", help="With -i: and our terminal.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Only what the process says.")
    ] = False,
    namespace: options.Namespace = asking.DEFAULT,
    state_dir: options.StateDir = None,
) -> None:
    """Run a command in a container: as its user, in its namespaces, with its variables.

    The exit code is the command's own; 125 when podvisor itself fails.

    Examples:

      podvisor exec web -- ls -l /data

      podvisor exec -it web -c app -- sh

      podvisor exec -i web -- tar xf - -C /data < data.tar
    """
    from supervisor.cli import streaming
    from supervisor.cli.websocket import WebSocket

    client = asking.client(state_dir)
    name = asking.pod(pod)
    chosen = container or asking.default_container(client.get(PODS, namespace, name), quiet=quiet)
    tty = streaming.can_use_terminal(stdin=stdin, tty=tty)
    query: dict[str, object] = {
        "container": chosen,
        "command": ctx.meta[_ARGV],
        "stdin": stdin,
        "stdout": True,
        "stderr": not tty,  # a terminal has one output
        "tty": tty,
    }
    socket = WebSocket.open(client, PODS.path(namespace, name, "exec"), query)
    if code := streaming.converse(socket, stdin=stdin, tty=tty):
        if not quiet:
            print(f"command terminated with exit code {code}", file=sys.stderr)
        raise typer.Exit(code)
