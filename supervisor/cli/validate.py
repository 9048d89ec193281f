"""`podvisor validate`: say everything that is wrong with manifests, and start nothing."""

from __future__ import annotations

from typing import Annotated

import typer

from supervisor.cli import complain
from supervisor.errors import ExitCode

NO_ARGS_IS_HELP = True


def command(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE|DIR|-...", help="Manifests, YAML or JSON.")
    ],
) -> None:
    """Check manifests and say everything that is wrong with them.

    A folder means its *.yaml, *.yml and *.json files, - is standard input. Problems go to stderr,
    one a line with file, line and column; exit code 3 when a manifest would be refused.

    Examples:

      podvisor validate pod.yaml

      podvisor validate deploy/

      kubectl get pod web -o yaml | podvisor validate -
    """
    from supervisor.api.problems import printable
    from supervisor.cli import manifests

    loaded = manifests.load(files)
    # What is missing here may be there where the manifest is used.
    missing = manifests.unconfigured(loaded.pods, loaded.configuration())
    problems = [*loaded.problems, *manifests.as_warnings(missing)]
    for problem in problems:
        complain(str(problem))
    if problems:
        complain(manifests.summary(problems))
    if manifests.refused(problems):
        raise typer.Exit(ExitCode.REFUSED)
    for item in loaded.pods:
        meta = item.pod.metadata
        print(f"{printable(item.source)}: pod {meta.namespace}/{meta.name} is valid")
