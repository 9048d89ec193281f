"""`podvisor down`: the end of what `podvisor up` has begun."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from supervisor.cli import options

NO_ARGS_IS_HELP = False


def command(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE|DIR|-", help="Only what these describe.", show_default=False),
    ] = None,
    grace_period: Annotated[
        int | None,
        typer.Option(min=0, max=2**31 - 1, metavar="SECONDS", help="Grace, if not each pod's own."),
    ] = None,
    keep_node: Annotated[
        bool, typer.Option("--keep-node", help="Leave the node running without pods.")
    ] = False,
    state_dir: options.StateDir = None,
) -> None:
    """Delete the pods of a node gracefully, wait for their end, and end the node.

    Without FILEs all pods of all namespaces are deleted, with FILEs what these describe: their
    pods, ConfigMaps and Secrets. Pods of files that `serve` watches stay. A node that `up` has
    started ends when no pod is left on it; one of `podvisor serve` goes on. Who ends `down` early
    ends only the waiting.

    Examples:

      podvisor down

      podvisor down deploy/ --grace-period 5
    """
    from supervisor.api.problems import Severity
    from supervisor.cli import background, complain, removing
    from supervisor.cli.asking import client
    from supervisor.cli.bringing import CONFIG_MAPS, SECRETS, convert
    from supervisor.cli.sources import SOURCE, is_from_file
    from supervisor.client import PODS
    from supervisor.errors import ManifestError
    from supervisor.project import manifests

    chosen: list[removing.Target] | None = None
    if files:
        loaded = manifests.load(files, without_programs=True)
        wrong = [problem for problem in loaded.problems if problem.severity is Severity.ERROR]
        for problem in wrong:
            complain(str(problem))
        if wrong:
            raise ManifestError(manifests.summary(wrong))
        chosen = [
            removing.Target(PODS, home.pod.metadata.namespace, home.pod.metadata.name)
            for home in loaded.pods
        ]
        for kind, objects in ((CONFIG_MAPS, loaded.config_maps), (SECRETS, loaded.secrets)):
            metas = [each.metadata for each in objects]
            chosen += [removing.Target(kind, meta.namespace, meta.name) for meta in metas]
    node = client(state_dir)
    if chosen is None:
        chosen = []
        for pod in node.list(PODS)["items"]:
            if is_from_file(convert(pod)):
                name, file = pod["metadata"]["name"], pod["metadata"]["annotations"][SOURCE]
                complain(f"podvisor: pod {name} stays: `serve` has it from {file}")
            else:
                chosen.append(removing.target(PODS, pod))
    refused = removing.remove(node, chosen, grace=grace_period, ignore_missing=True)
    for error in refused:
        complain(str(error))
    if refused:
        raise typer.Exit(max(error.code for error in refused))
    if not keep_node and not node.list(PODS)["items"] and background.stop(node):
        typer.echo(f"node on {os.path.relpath(node.state_dir)} ended")
