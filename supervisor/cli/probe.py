"""`podvisor probe`: make one probe of a manifest against whatever listens now.

This module reads the command line; what happens then is probing.py.
"""

from __future__ import annotations

import enum
import sys
from typing import Annotated

import typer

from supervisor.cli import options
from supervisor.errors import ExitCode, ManifestError

NO_ARGS_IS_HELP = True


class Kind(enum.StrEnum):
    LIVENESS = "liveness"
    READINESS = "readiness"
    STARTUP = "startup"


def command(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A manifest, YAML or JSON.")],
    target: Annotated[str, typer.Argument(metavar="POD/CONTAINER", help="Whose probe.")],
    kind: Annotated[Kind, typer.Argument(help="Which of its probes.")],
    maps: options.Map = None,
    strict: options.Strict = False,
) -> None:
    """Make one probe of a manifest now, and say what the kubelet would conclude.

    Nothing is started: the probe meets whatever listens at 127.0.0.1, and an exec probe runs as
    a plain local process with the container's environment and folder. Exit code 0 when the probe
    succeeds, 1 when it does not.

    Examples:

      podvisor probe pod.yaml web/app readiness
    """
    from supervisor.cli import probing
    from supervisor.lifecycle.facts import ProbeKind
    from supervisor.project import manifests

    loaded = manifests.load([file], maps=manifests.parse_maps(maps), strict=strict)
    for problem in loaded.problems:
        print(problem, file=sys.stderr)
    if manifests.refused(loaded.problems):
        raise ManifestError(manifests.summary(loaded.problems))
    if not probing.probe_now(loaded, target, ProbeKind(kind.value)):
        raise typer.Exit(int(ExitCode.NEGATIVE))
