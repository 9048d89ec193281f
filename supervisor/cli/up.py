"""`podvisor up`: pods on a node in the background.

This module reads the command line; background.py starts the node, bringing.py has the pods there.
"""

from __future__ import annotations

import gc
from typing import Annotated

import typer

from supervisor.cli import options
from supervisor.errors import UsageError

NO_ARGS_IS_HELP = True


def command(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE|DIR|-",
            help="Manifests, YAML or JSON; none with -d: only the node.",
            show_default=False,
        ),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return once each pod is Ready, or will not be.")
    ] = False,
    timeout: Annotated[
        str | None, typer.Option(metavar="DURATION", help="With -d: how long to wait for that.")
    ] = None,
    timestamps: options.Timestamps = False,
    no_prefix: Annotated[
        bool, typer.Option("--no-prefix", help="Lines as the containers wrote them.")
    ] = False,
    state_dir: options.StateDir = None,
    isolation: options.IsolationMode = options.IsolationChoice.AUTO,
    pass_env: options.PassEnv = None,
    maps: options.Map = None,
    strict: options.Strict = False,
) -> None:
    """Have the pods of manifests run on the project's node, which is started if none runs.

    It is the node of the folder that we are in, as for all commands: the nearest .podvisor upwards,
    but not out of a project (podvisor.toml). Files of another project come to it, too, with what
    their own podvisor.toml says.

    Pods that are there and unchanged stay, others are created; what has changed or has ended is
    deleted gracefully and created again. Then the containers' lines are shown until all pods have
    ended. Ctrl-C deletes the pods of these files, changed or not; a second one shortens the grace
    to 1 s, a third kills. If `up` ends in any other way (closed terminal, broken pipe, kill -9),
    its pods run on.

    With -d it returns once each pod is Ready, has succeeded, or has failed or does not come up
    (CrashLoopBackOff): then the exit code is 1, and the pod stays there to be looked at.

    Examples:

      podvisor up pod.yaml

      podvisor up -d deploy/ --timeout 1m

      podvisor up -d
    """
    from supervisor.cli import background, bringing, complain
    from supervisor.cli.asking import client
    from supervisor.cli.signals import ENDING, SignalWatch
    from supervisor.client import find_state_dir
    from supervisor.project import manifests

    if not files and not detach:
        raise UsageError(
            "cannot bring up nothing: name a FILE, a folder or -; with -d only the node is started"
        )
    if timeout is not None and not detach:
        raise UsageError("cannot use --timeout without -d")
    limit = manifests.duration("--timeout", timeout)
    parsed = manifests.parse_maps(maps)
    manifests.variables("--pass-env", pass_env)
    words = [word for each in maps or () for word in ("--map", each)]
    words += [word for each in pass_env or () for word in ("--pass-env", each)]
    if isolation is not options.IsolationChoice.AUTO:
        words += ["--isolation", isolation.value]
    gc.enable()
    with SignalWatch() as signals:
        loaded = None
        if files:
            loaded = bringing.checked(manifests.load(files, maps=parsed, strict=strict))
        # Found as every other command finds it from here, wherever the files are: else what is
        # brought up here would not be seen here.
        node = client(state_dir)
        if state_dir is None and loaded is not None and loaded.project.found:
            other = find_state_dir(loaded.project.root)
            if other != node.state_dir:
                complain(
                    f"podvisor: note: these files are of the project in {loaded.project.root}, and "
                    f"their pods come to the node of this folder, {node.state_dir}; "
                    f"--state-dir {other} is that project's own"
                )
        try:
            started = background.ensure(node, words, signals)
        except background.InterruptedStartError:
            raise typer.Exit(ENDING[signals.take()[0]]) from None
        if loaded is None:
            typer.echo(f"node {'started' if started else 'runs'}, state in {node.state_dir}")
            return
        signals.hold()
        chosen = bringing.Options(
            detach=detach, timeout=limit, timestamps=timestamps, prefix=not no_prefix
        )
        code = bringing.Session(node, loaded, chosen, signals, started=started).run()
    if code:
        raise typer.Exit(code)
