"""The command line: a thin layer over the packages below, one module per command.

A command's module is imported when that command runs, and listing the commands imports none of
them: start-up time is felt at every call. Each module offers one function `command` with typer's
annotations; it returns, or raises `typer.Exit` or a `PodvisorError`.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import gc
import importlib
import io
import os
import signal
import sys
import traceback
import typing
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from supervisor._version import __version__
from supervisor.cli import completing
from supervisor.errors import ExitCode, ManifestError, PodvisorError, StatusError

# name -> what it does; the module has the command's name.
COMMANDS = {
    "run": "Run pods in the foreground, from their first process to their last.",
    "serve": "Run a durable node: containers outlive it, and it takes them on again.",
    "up": "Have pods run on the project's node in the background.",
    "down": "Delete pods, and end the node that `up` has started.",
    "get": "Show objects of a node: pods, events, nodes, configmaps and more.",
    "describe": "Show all about objects of a node, with events, probes, hooks and ends.",
    "logs": "Print what containers have written.",
    "events": "Show what was told about objects, the newest last.",
    "exec": "Run a command in a container that runs.",
    "attach": "Show what a container writes, and let it read what we type.",
    "port-forward": "Let local ports lead to ports of a pod.",
    "top": "Show how much processor and memory pods and the node use.",
    "apply": "Create or change objects as manifests say.",
    "delete": "Delete objects gracefully.",
    "wait": "Wait until something is so of objects.",
    "restart": "Replace pods by equal ones.",
    "condition": "Set conditions of a pod: its readiness gates.",
    "kubeconfig": "Print the line that has kubectl speak to the node.",
    "status": "Say what a durable node has stored, also when none runs.",
    "validate": "Check manifests and say everything that is wrong with them.",
    "lint": "Say what manifests get wrong about starts, probes and shutdowns, with numbers.",
    "images": "List the images of manifests, and what each stands for here.",
    "fields": "List what each manifest field does here.",
    "schema": "Print a JSON schema of manifests, for editors.",
    "probe": "Make one probe of a manifest now, and say what the kubelet would conclude.",
    "rehearse": "Delete pods under load, and say what their users would have noticed.",
    "completion": "Print what makes a shell complete commands, types and names.",
    "doctor": "Say what this machine can do, and what stands in the way.",
}

# Those that take the signals themselves, and have garbage looked for once all is imported.
_LONG = {"run", "serve", "up", "rehearse"}


class _Reader:
    """Makes values of the words for a parameter, where that needs no judgement.

    typer has pydantic do it, whose import alone takes as long as all else of a short command. What
    is not plain is left to typer, and so is every refusal.
    """

    def __init__(self, param: Any) -> None:
        self._kind = param.type_descriptor.annotation
        info = param.type_descriptor.parameter_info
        self._low, self._high, self._parser = info.min, info.max, info.parser
        self._theirs = param.get_runtime_param

    def coerce(self, value: Any, *, param: Any, ctx: Any) -> Any:
        """What typer's own would give."""
        several = param.multiple or param.nargs == -1
        if value is None:
            return () if several else None
        kind = typing.get_args(self._kind)[0] if several else self._kind
        found = [self._plain(kind, word) for word in (value if several else [value])]
        if self._parser is not None or None in found:
            return self._theirs().coerce(value, param=param, ctx=ctx)
        return found if several else found[0]

    def _plain(self, kind: Any, word: Any) -> Any:
        """None for what typer has to judge."""
        if type(word) is kind:
            return word if kind not in (int, float) or self._in_bounds(word) else None
        if not isinstance(word, str):
            return None
        if issubclass(kind, enum.Enum):
            return next((choice for choice in kind if choice.value == word), None)
        if kind is int and word.isascii() and word.isdigit() and len(word) < 10:
            return int(word) if self._in_bounds(int(word)) else None
        return None

    def _in_bounds(self, number: float) -> bool:
        above = self._low is None or self._low <= number
        return above and (self._high is None or number <= self._high)


def _read_plainly(params: list[Any]) -> list[Any]:
    """Have these parameters read by readers of ours; a typer without pydantic needs none.

    What a typer later than those tried has under other names is left to it: slower, not wrong.
    """
    for param in params:
        if hasattr(param, "get_runtime_param") and "get_runtime_param" not in vars(param):
            with contextlib.suppress(AttributeError):
                reader = _Reader(param)
                param.get_runtime_param = lambda reader=reader: reader
    return params


class Command(TyperCommand):
    """Reads options as kubectl does, too: `-o=yaml`, `--watch=true`, `--wait=false`."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _read_plainly(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        at = args.index("--") if "--" in args else len(args)
        known = {name: option for option in self.params for name in option.opts}
        read = [word for arg in args[:at] for word in _as_typer_has_it(arg, known)]
        return super().parse_args(ctx, read + args[at:])


def _as_typer_has_it(arg: str, known: dict[str, Any]) -> list[str]:
    name, sign, value = arg.partition("=")
    option = known.get(name) if name.startswith("-") and sign else None
    if option is not None and option.is_flag and value in ("true", "false"):
        return [name] if value == "true" else option.secondary_opts[:1]
    if option is not None and not option.is_flag and not name.startswith("--"):
        return [name, value]
    return [arg]


class _LazyGroup(TyperGroup):
    """A group whose commands are imported when they are looked up."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _read_plainly(super().get_params(ctx))

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module("supervisor.cli." + cmd_name.replace("-", "_"))
        if cmd_name not in _LONG and not gc.isenabled():
            gc.freeze()  # the modules are here to stay
            gc.enable()
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(
            cmd_name,
            cls=getattr(module, "Parser", Command),
            no_args_is_help=getattr(module, "NO_ARGS_IS_HELP", False),
        )(module.command)
        return typer.main.get_command(app)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


app = typer.Typer(
    cls=_LazyGroup,
    name="podvisor",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Run Kubernetes Pod manifests as plain local processes: no image, no engine, no cluster.",
)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"podvisor {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", is_eager=True, callback=_print_version, help="Show the version."
    ),
) -> None: ...


_failure: ExitCode | None = None  # instead of the code of any failure of ours


def fail_with(code: ExitCode) -> None:
    """From here on every failure of podvisor's own leaves with this code: the other codes are the
    container's, which is passed through."""
    global _failure
    _failure = code


def die_silently_on_signals(*, also_of_pipes: bool) -> None:
    """Let the signals that end a program do so without a traceback, also pending ones.

    `also_of_pipes`: then `podvisor fields | head -1` ends as `ls` would. Not for commands that
    talk to other programs: a socket whose other end is gone raises the same signal.
    """
    ending = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for signum in ending:
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, signal.SIG_DFL)
    if also_of_pipes:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ending)


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    ours = sys.argv[: sys.argv.index("--")] if "--" in sys.argv else sys.argv
    if not _LONG.intersection(sys.argv[1:2]) or not {"-h", "--help"}.isdisjoint(ours):
        die_silently_on_signals(also_of_pipes=sys.argv[1:2] != ["probe"])  # others take them
    for stream in (sys.stdout, sys.stderr):
        # File names and manifests may hold what the locale's encoding cannot say.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(int(_guarded()))


def _guarded() -> int:
    command: Any = typer.main.get_command(app)
    unwritten = False  # whether it was said that stdout cannot be written
    if completing.VARIABLE in os.environ:
        completing.prepare()
    try:
        # Usage errors, --help and typer.Exit leave through SystemExit.
        command(args=sys.argv[1:], prog_name="podvisor")
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else ExitCode.USAGE
    except PodvisorError as error:
        # What is wrong with manifests was told line by line; only the sum is left to say. What a
        # node's API says is said as kubectl says it.
        prefix = "" if isinstance(error, (ManifestError, StatusError)) else "podvisor: "
        complain(f"{prefix}{error}")
        code = _failure or error.code
    except OSError as error:  # a full disk behind stdout, no descriptors, no processes
        unwritten = error.errno in _UNWRITTEN and error.filename is None
        about = "" if error.filename is None else f"{error.filename}: "
        why = error.strerror or str(error)
        complain(f"podvisor: cannot {'write' if unwritten else 'go on'}: {about}{why}")
        code = _failure or (ExitCode.BROKEN_PIPE if unwritten else ExitCode.NODE)
    except Exception:
        complain(traceback.format_exc())
        left = "its containers run on" if sys.argv[1:2] == ["serve"] else "nothing is left running"
        complain(f"podvisor: this is a bug of podvisor's own; {left}")
        code = _failure or ExitCode.BUG
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        if not unwritten:
            complain(f"podvisor: cannot write: {error.strerror}")
        # What could not be written must not be tried again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = code or _failure or ExitCode.BROKEN_PIPE
    return code


# Of a file that is open: nothing but our output is written here without its name being told.
_UNWRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def complain(text: str) -> None:
    """One message on stderr; where that cannot be written, the exit code has to do."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
