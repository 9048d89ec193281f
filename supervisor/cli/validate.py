"""`podvisor validate`: say everything that is wrong with manifests, and start nothing."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from supervisor.cli import complain, options
from supervisor.errors import ExitCode

NO_ARGS_IS_HELP = True


def command(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE|DIR|-...", help="Manifests, YAML or JSON.")
    ],
    maps: options.Map = None,
    strict: options.Strict = False,
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
    from supervisor.project import manifests

    loaded = manifests.load(files, maps=manifests.parse_maps(maps), strict=strict)
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
    for kind, metas in (
        ("ConfigMap", [each.metadata for each in loaded.config_maps]),
        ("Secret", [each.metadata for each in loaded.secrets]),
    ):
        for meta in metas:
            source = loaded.sources[kind, meta.namespace, meta.name]
            print(f"{printable(source)}: {kind} {meta.namespace}/{meta.name} is valid")
    applying = Counter(i.project.images.file for i in loaded.pods if i.project.found)
    for file, count in applying.items():
        print(f"{printable(file)}: applies to {count} pod{'s' if count > 1 else ''}")
