"""`podvisor run`: pods in the foreground on an ephemeral node.

This module reads the command line and starts the launcher first of all, because the launcher's
own start and its look at the machine go on beside the imports and the reading of manifests here.
What happens then is foreground.py.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from supervisor.cli import Command, fail_with, options
from supervisor.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from supervisor.project import manifests

NO_ARGS_IS_HELP = True


_ARGV = "podvisor.argv"  # of the command after `--`


class Parser(Command):
    """Takes what follows `--` for a command, which typer would take for more files."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--" not in args:
            return super().parse_args(ctx, args)
        at = args.index("--")
        ctx.meta[_ARGV] = args[at + 1 :]
        fail_with(ExitCode.ITSELF)
        if not at:
            raise UsageError("cannot run a command without --name, which its pod gets")
        try:
            return super().parse_args(ctx, args[:at])
        except Exception as error:
            # Of typer's errors only the common base has no public name.
            if getattr(error, "exit_code", None) == ExitCode.USAGE:
                vars(error)["exit_code"] = ExitCode.ITSELF
            raise


class Restart(enum.StrEnum):
    NEVER = "Never"
    ON_FAILURE = "OnFailure"
    ALWAYS = "Always"


class Output(enum.StrEnum):
    JSON = "json"
    YAML = "yaml"


def command(
    ctx: typer.Context,
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE|DIR|-",
            help="Manifests, YAML or JSON; or none and, after --, a command.",
            show_default=False,
        ),
    ] = None,
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
    timestamps: options.Timestamps = False,
    no_prefix: Annotated[
        bool, typer.Option("--no-prefix", help="Lines as the containers wrote them.")
    ] = False,
    isolation: options.IsolationMode = options.IsolationChoice.AUTO,
    pass_env: options.PassEnv = None,
    maps: options.Map = None,
    env_file: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="NAME=VALUE lines that every container gets too."),
    ] = None,
    backoff_initial: options.BackoffInitial = None,
    backoff_max: options.BackoffMax = None,
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
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[POD/]C,…", help="Run these containers, and no others but more --only."
        ),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option("--except", metavar="[POD/]C,…", help="Leave these containers out."),
    ] = None,
    exit_code_from: Annotated[
        str,
        typer.Option(
            metavar="[POD/]C",
            help="End when this container has ended for good, with its exit code; where "
            "restartPolicy is Always, it is not restarted.",
        ),
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the pods (-o yaml or json); start nothing.")
    ] = False,
    name: Annotated[str, typer.Option(help="Of the pod of `-- CMD`.")] = "",
    restart: Annotated[
        Restart | None, typer.Option(help="Restart policy of `-- CMD` (default Never).")
    ] = None,
    port: Annotated[
        list[int] | None, typer.Option(metavar="N", help="A port that `-- CMD` listens at.")
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="A variable of `-- CMD`.")
    ] = None,
    image: Annotated[
        str, typer.Option(metavar="IMAGE", help="Of `-- CMD`: named in its pod, not run.")
    ] = "",
    strict: options.Strict = False,
) -> None:
    """Run pods in the foreground, from their first process to their last.

    Lines of the containers go to stdout, what happens to them to stderr. Ctrl-C deletes the pods
    gracefully and says what it waits for; a second one shortens the grace to 1 s, a third kills.

    With `-- CMD` and --exit-code-from the exit code is the container's, and 125 stands for every
    failure of podvisor itself.

    Examples:

      podvisor run pod.yaml

      podvisor run deploy/ --grace-period 5 --timestamps

      podvisor run -it debug.yaml

      cat pod.json | podvisor run - -o yaml

      kustomize build overlays/dev | podvisor run -

      podvisor run shop.yaml --except web,mesh --exit-code-from tests

      podvisor run --name web --port 8000 -- python3 -m http.server 8000

      podvisor run --name web --dry-run -o yaml -- python3 -m http.server 8000 > web.yaml
    """
    argv: list[str] | None = ctx.meta.get(_ARGV)
    if exit_code_from:
        fail_with(ExitCode.ITSELF)
    own = (bool(name), restart is not None, bool(port), bool(env), bool(image))
    if argv is None and any(own):
        option = ("--name", "--restart", "--port", "--env", "--image")[own.index(True)]
        raise UsageError(f"cannot use {option} without a command: put it after --")
    if argv is not None and (files or only or without or exit_code_from):
        raise UsageError(
            "cannot run a command together with FILEs, --only, --except or --exit-code-from"
        )
    if argv is None and not files:
        raise UsageError("cannot run nothing: name a FILE, a folder or -, or a command after --")
    if tty and not stdin:
        raise UsageError("cannot use -t without -i")
    if stdin and "-" in (files or ()):
        raise UsageError("cannot read manifests from the stdin that -i gives to a container")
    made = _made(argv, name, restart, port, env, image)

    def load() -> manifests.Loaded:
        from supervisor.cli import selection
        from supervisor.project import manifests, oneoff

        if made is not None:
            return oneoff.load(made)
        chosen = selection.Selection(only or (), without or ())
        loaded = manifests.load(
            files or [], maps=manifests.parse_maps(maps), strict=strict, select=chosen.admit
        )
        if not manifests.refused(loaded.problems):
            chosen.check(loaded.pods)
        return loaded

    if dry_run:
        _print(load(), made, (output or Output.YAML).value)
        return

    from supervisor.runtime.launch import spawn_launcher

    launcher = spawn_launcher(isolation.value)
    try:
        from supervisor.cli import foreground
        from supervisor.project import manifests

        initial = manifests.duration("--backoff-initial", backoff_initial)
        longest = manifests.duration("--backoff-max", backoff_max)
        maps_given = manifests.parse_maps(maps)
        code = foreground.run(
            load,
            launcher,
            foreground.Options(
                grace_period=grace_period,
                output=output.value if output else None,
                timestamps=timestamps,
                prefix=not no_prefix,
                pass_env=manifests.variables("--pass-env", pass_env),
                maps=maps_given,
                env_file=tuple(env_file or ()),
                backoff_initial=initial,
                backoff_max=longest,
                keep=keep,
                stdin=stdin,
                tty=tty,
                timeline=timeline,
                exit_code_from=exit_code_from or (f"{name}/{name}" if made else ""),
                ends_with_it=made is None,
            ),
        )
    finally:
        launcher.close()
    if code:
        raise typer.Exit(int(code))


def _made(
    argv: list[str] | None,
    name: str,
    restart: Restart | None,
    port: list[int] | None,
    env: list[str] | None,
    image: str,
) -> dict[str, Any] | None:
    """The manifest of a command, if there is one."""
    if argv is None:
        return None
    from supervisor.project import oneoff

    policy = (restart or Restart.NEVER).value
    return oneoff.manifest(name, argv, policy, port or [], env or [], image)


def _print(loaded: manifests.Loaded, made: dict[str, Any] | None, form: str) -> None:
    """The manifest of a command as one would write it, pods of files as they would be run."""
    from supervisor.api import codec
    from supervisor.cli import foreground

    pods = [home.pod for home in foreground.checked(loaded).pods]
    print(codec.encode_pods(pods, form) if made is None else codec.dump(made, form), end="")
