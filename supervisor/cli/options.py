"""Options that several commands have, each written down once.

Nothing but their names, types and help: this is imported before anything else of a command is.
What their values mean is said where they are read (manifests.py).
"""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from supervisor.cli.completing import complete_namespace, complete_objects


class IsolationChoice(enum.StrEnum):
    """`auto`, and what cri.Isolation has; that is not imported, being slow to."""

    AUTO = "auto"
    PIDNS = "pidns"
    PIDNS_ROOTLESS = "pidns-rootless"
    GROUP = "group"


class DryRun(enum.StrEnum):
    NONE = "none"
    CLIENT = "client"
    SERVER = "server"


Map = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="IMAGE=COMMAND", help="What an image runs, for this once."),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse kinds that are not run, instead of skipping.")
]
Timestamps = Annotated[bool, typer.Option("--timestamps", help="Time before each line.")]
IsolationMode = Annotated[
    IsolationChoice, typer.Option(help="How containers are kept apart; `doctor` says more.")
]
PassEnv = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="A variable of yours that containers get too."),
]
BackoffInitial = Annotated[
    str | None, typer.Option(metavar="DURATION", help="First restart delay (default 10s).")
]
BackoffMax = Annotated[
    str | None, typer.Option(metavar="DURATION", help="Longest restart delay (default 5m).")
]
StateDir = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="The node's (default: .podvisor, found upwards from here)."),
]
Objects = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TYPE[/NAME]|NAME",
        help="Which objects.",
        autocompletion=complete_objects,
        show_default=False,
    ),
]
All = Annotated[bool, typer.Option("--all", help="All objects of the TYPE.")]
Filename = Annotated[
    list[str] | None,
    typer.Option(
        "--filename", "-f", metavar="FILE|DIR|-", help="Manifests of the objects, YAML or JSON."
    ),
]
Recursive = Annotated[
    bool, typer.Option("--recursive", "-R", help="Also what lies in folders of a DIR.")
]
Namespace = Annotated[
    str,
    typer.Option(
        "--namespace",
        "-n",
        metavar="NAME",
        help="Where the objects are.",
        autocompletion=complete_namespace,
    ),
]
Selector = Annotated[
    str,
    typer.Option("--selector", "-l", metavar="SELECTOR", help="Only those with such labels: a=b."),
]
AllNamespaces = Annotated[
    bool, typer.Option("--all-namespaces", "-A", help="Of all namespaces, not of one.")
]
FieldSelector = Annotated[
    str,
    typer.Option(metavar="SELECTOR", help="Only those with such fields: status.phase=Running."),
]
