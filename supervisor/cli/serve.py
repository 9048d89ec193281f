"""`podvisor serve`: a durable node in the foreground.

This module reads the command line; what happens then is serving.py.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated

import typer

from supervisor.cli import options
from supervisor.errors import UsageError

if TYPE_CHECKING:
    from supervisor.apiserver.local import DoorOptions

NO_ARGS_IS_HELP = False


class OnExit(enum.StrEnum):
    STOP = "stop"
    KEEP = "keep"


def command(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE|DIR]...", help="Manifests, watched while the node runs."),
    ] = None,
    state_dir: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="What the node must not lose (default .podvisor in the project)."
        ),
    ] = None,
    on_exit: Annotated[
        OnExit, typer.Option(help="What Ctrl-C and SIGTERM do with the containers.")
    ] = OnExit.STOP,
    grace_period: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=2**31 - 1,
            metavar="SECONDS",
            help="Grace at the end, if shorter than a pod's.",
        ),
    ] = None,
    timestamps: options.Timestamps = False,
    isolation: options.IsolationMode = options.IsolationChoice.AUTO,
    pass_env: options.PassEnv = None,
    maps: options.Map = None,
    backoff_initial: options.BackoffInitial = None,
    backoff_max: options.BackoffMax = None,
    strict: options.Strict = False,
    port: Annotated[
        str | None,
        typer.Option(
            metavar="PORT|none",
            help="Of the API for kubectl, on 127.0.0.1 (default: the last one, or a free one).",
        ),
    ] = None,
    insecure_http: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS:PORT",
            help="Also the API without any protection, as 127.0.0.1:8001: whoever reaches it can "
            "run programs as you.",
        ),
    ] = None,
    background: Annotated[
        bool,
        typer.Option(
            "--background", help="As `up` starts it: shows no lines of containers, ends by `down`."
        ),
    ] = False,
) -> None:
    """Run a durable node: containers outlive it, and its next life takes them on again.

    Its pods are those of the files and folders named, which are watched: a new file starts its
    pods, a removed one deletes them gracefully, a changed one replaces them, a broken one changes
    nothing. Kill the node with -9 and start it again: the same processes run on, hooks that are
    owed are run, nothing is lost.

    While it runs, kubectl and the other commands of podvisor can ask it: over HTTPS by the file
    `kubeconfig` in its state folder, and over the socket `api.sock` there. Pods that they bring are
    left alone by the files.

    Examples:

      podvisor serve deploy/

      podvisor serve pod.yaml --on-exit keep
    """
    from supervisor.cli import foreground, serving
    from supervisor.project import manifests

    if "-" in (files or ()):
        raise UsageError("cannot serve standard input: name files or folders, which are watched")
    chosen = foreground.Options(
        grace_period=grace_period,
        timestamps=timestamps,
        shows_logs=not background,
        pass_env=manifests.variables("--pass-env", pass_env),
        maps=manifests.parse_maps(maps),
        backoff_initial=manifests.duration("--backoff-initial", backoff_initial),
        backoff_max=manifests.duration("--backoff-max", backoff_max),
    )
    code = serving.serve(
        files or [],
        state_dir,
        isolation.value,
        chosen,
        doors=_doors(port, insecure_http),
        keep=on_exit is OnExit.KEEP,
        strict=strict,
    )
    if code:
        raise typer.Exit(code)


def _doors(port: str | None, insecure_http: str | None) -> DoorOptions:
    from supervisor.apiserver.local import DoorOptions

    if port == "none":
        return DoorOptions(https=False, insecure=insecure_http or "")
    if port is not None and not (port.isascii() and port.isdecimal() and int(port) < 1 << 16):
        raise UsageError(f"cannot listen on port {port!r}: --port takes a number, or none")
    return DoorOptions(port=None if port is None else int(port), insecure=insecure_http or "")
