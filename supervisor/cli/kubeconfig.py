"""`podvisor kubeconfig`: how kubectl finds the node."""

from __future__ import annotations

import os
import shlex
from typing import Annotated

import typer

from supervisor.cli import options
from supervisor.client import KUBECONFIG
from supervisor.errors import NodeError

NO_ARGS_IS_HELP = False


def command(
    path: Annotated[bool, typer.Option("--path", help="Print only the file's path.")] = False,
    state_dir: options.StateDir = None,
) -> None:
    """Print the line that has kubectl, and whatever reads KUBECONFIG, speak to the node.

    The file is only for this user, and good for as long as the node runs.

    Examples:

      eval "$(podvisor kubeconfig)" && kubectl get pods

      kubectl --kubeconfig "$(podvisor kubeconfig --path)" get pods
    """
    from supervisor.cli.asking import client

    node = client(state_dir)
    node.connect().close()  # says so where none runs
    file = os.path.join(node.state_dir, KUBECONFIG)
    if not os.path.exists(file):
        raise NodeError(
            f"cannot find {file}: the node on {node.state_dir} does not serve its API over HTTPS, "
            "or the file was removed: the node's next start writes it again"
        )
    print(file if path else f"export KUBECONFIG={shlex.quote(file)}")
