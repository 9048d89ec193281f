"""`podvisor run`: pods in the foreground on an ephemeral node.

This module reads the command line and starts the launcher first of all, because the launcher's
own start and its look at the machine go on beside the imports and the reading of manifests here.
What happens then is foreground.py.
"""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from supervisor.errors import ExitCode, UsageError
from supervisor.runtime.cri import Isolation

NO_ARGS_IS_HELP = True


class Output(enum.StrEnum):
    JSON = "json"
    YAML = "yaml"


class IsolationChoice(enum.StrEnum):
    AUTO = "auto"
    PIDNS = Isolation.PIDNS
    PIDNS_ROOTLESS = Isolation.PIDNS_ROOTLESS
    GROUP = Isolation.GROUP


def command(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE|DIR|-...", help="Manifests, YAML or JSON.")
    ],
    grace_period: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=2**31 - 1,
            metavar="SECONDS",
            help="Grace at Ctrl-C instead of each pod's own.",
        ),
    ] = None,
    output: Annotated[
        Output | None,
        typer.Option("--output", "-o", help="Print the final Pod objects; logs go to stderr."),
    ] = None,
    timestamps: Annotated[
        bool, typer.Option("--timestamps", help="Time before each line.")
    ] = False,
    no_prefix: Annotated[
        bool, typer.Option("--no-prefix", help="Lines as the containers wrote them.")
    ] = False,
    isolation: Annotated[
        IsolationChoice, typer.Option(help="How containers are kept apart; `doctor` says more.")
    ] = IsolationChoice.AUTO,
    pass_env: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A variable of yours that containers get too."),
    ] = None,
    backoff_initial: Annotated[
        str | None, typer.Option(metavar="DURATION", help="First restart delay (default 10s).")
    ] = None,
    backoff_max: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Longest restart delay (default 5m).")
    ] = None,
    stdin: Annotated[
        bool, typer.Option("--stdin", "-i", help="Give one container our stdin.")
    ] = False,
    tty: Annotated[
        bool, typer.Option("--tty", "-t", help="With -i: and a terminal, so that a debugger works.")
    ] = False,
    timeline: Annotated[
        bool, typer.Option("--timeline", help="Show how every pod ended, not only slow ends.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the node's folder when a pod failed, and name it.")
    ] = False,
) -> None:
    """Run pods in the foreground, from their first process to their last.

    Lines of the containers go to stdout, what happens to them to stderr. Ctrl-C deletes the pods
    gracefully and says what it waits for; a second one shortens the grace to 1 s, a third kills.

    Examples:

      podvisor run pod.yaml

      podvisor run deploy/ --grace-period 5 --timestamps

      podvisor run -it debug.yaml

      cat pod.json | podvisor run - -o yaml
    """
    from supervisor.runtime.launch import spawn_launcher

    launcher = spawn_launcher(isolation.value)
    try:
        from supervisor.cli import foreground, manifests

        initial = manifests.duration("--backoff-initial", backoff_initial)
        longest = manifests.duration("--backoff-max", backoff_max)
        if tty and not stdin:
            raise UsageError("cannot use -t without -i")
        if stdin and "-" in files:
            raise UsageError("cannot read manifests from the stdin that -i gives to a container")
        code = foreground.run(
            files,
            launcher,
            foreground.Options(
                grace_period=grace_period,
                output=output.value if output else None,
                timestamps=timestamps,
                prefix=not no_prefix,
                pass_env=manifests.variables("--pass-env", pass_env),
                backoff_initial=initial,
                backoff_max=longest,
                keep=keep,
                stdin=stdin,
                tty=tty,
                timeline=timeline,
            ),
        )
    finally:
        launcher.close()
    if code is not ExitCode.OK:
        raise typer.Exit(int(code))
