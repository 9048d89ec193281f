"""`podvisor completion`: what makes a shell complete our words.

The mechanism is typer's: the script that is printed has the shell run podvisor on every Tab, with
what was typed in its environment. Which words there are is said where the options and arguments
are; names come from the node (completing.py).
"""

from __future__ import annotations

import enum
import sys
from typing import Annotated

import typer

from supervisor.cli.completing import VARIABLE

NO_ARGS_IS_HELP = True


class Shell(enum.StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def command(
    shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish", help="Yours.")],
) -> None:
    """Print the script by which a shell completes commands, options, types and names.

    Names of pods and containers are asked from the node of the project, at every Tab; without a
    node there are none.

    Examples:

      source <(podvisor completion bash)

      echo 'source <(podvisor completion zsh)' >> ~/.zshrc

      podvisor completion fish > ~/.config/fish/completions/podvisor.fish
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    script = get_completion_script(prog_name="podvisor", complete_var=VARIABLE, shell=shell.value)
    sys.stdout.write(script + "\n")
