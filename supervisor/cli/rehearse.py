"""`podvisor rehearse`: a pod's shutdown under load, and a verdict.

This module reads the command line; what happens then is rehearsing.py.
"""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from supervisor.cli import options

NO_ARGS_IS_HELP = True


class Output(enum.StrEnum):
    JSON = "json"


def command(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE|DIR|-", help="Manifests, YAML or JSON.", show_default=False),
    ],
    pod: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Rehearse this pod, and no others but more --pod."),
    ] = None,
    grace_period: Annotated[
        int | None,
        typer.Option(min=0, max=2**31 - 1, metavar="SECONDS", help="Grace instead of the pod's."),
    ] = None,
    endpoint_lag: Annotated[
        float,
        typer.Option(
            min=0,
            max=60,
            metavar="SECONDS",
            help="How long new connections still come after a pod has left the endpoints.",
        ),
    ] = 0.2,
    rate: Annotated[
        float, typer.Option(min=1, max=2000, metavar="N", help="Requests a second.")
    ] = 100.0,
    concurrency: Annotated[
        int, typer.Option(min=1, max=200, metavar="N", help="Requests at a time, at most.")
    ] = 10,
    path: Annotated[str, typer.Option(help="What is asked for.")] = "/",
    port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, help="Where pods serve HTTP, instead of what manifests say."
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="For pods to become ready.")
    ] = 60.0,
    maps: options.Map = None,
    pass_env: options.PassEnv = None,
    isolation: options.IsolationMode = options.IsolationChoice.AUTO,
    output: Annotated[
        Output | None, typer.Option("--output", "-o", help="Print the report as data.")
    ] = None,
) -> None:
    """Start pods, put each under load, delete it, and say what its users would have noticed.

    All pods of the input are started. When they are ready they are deleted one after the other, in
    their order, while the others run on. A pod that serves HTTP gets requests as from a Service:
    new connections until shortly after it has left the endpoints, kept ones until it closes them.

    Exit code 0: no request was lost, every container has ended by itself within its grace, with
    code 0 or by the signal it was sent, and has left no process behind. 1: something was not so.

    Examples:

      podvisor rehearse pod.yaml

      podvisor rehearse deploy/ --pod web --endpoint-lag 1 -o json
    """
    from supervisor.cli import rehearsing
    from supervisor.project import manifests

    code = rehearsing.run(
        rehearsing.Options(
            file=file,
            pods=tuple(pod or ()),
            grace_period=grace_period,
            endpoint_lag=endpoint_lag,
            rate=rate,
            concurrency=concurrency,
            path=path,
            port=port,
            timeout=timeout,
            maps=manifests.parse_maps(maps),
            pass_env=manifests.variables("--pass-env", pass_env),
            isolation=isolation.value,
            output=output.value if output else None,
        )
    )
    if code:
        raise typer.Exit(int(code))
