"""Options that several commands have."""

from __future__ import annotations

from typing import Any

import pytest
import typer

from supervisor.cli import COMMANDS, app
from supervisor.cli.options import IsolationChoice
from supervisor.runtime.cri import Isolation


@pytest.mark.parametrize(
    ("option", "commands"),
    [
        ("--map", "run serve up validate lint images probe rehearse"),
        ("--strict", "run serve up validate probe"),
        ("--timestamps", "run serve up logs"),
        ("--isolation", "run serve up rehearse"),
        ("--pass-env", "run serve up rehearse"),
        ("--backoff-initial", "run serve"),
        ("--backoff-max", "run serve"),
    ],
)
def test_an_option_of_several_commands_is_the_same_in_each(option: str, commands: str) -> None:
    group: Any = typer.main.get_command(app)
    told: dict[str, tuple[object, ...]] = {}
    for name in COMMANDS:
        for param in group.get_command(None, name).params:
            if option in param.opts:
                told[name] = (param.metavar, param.help, param.default, param.opts)
    assert " ".join(told) == commands
    assert len(set(map(str, told.values()))) == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_has_examples(name: str) -> None:
    group: Any = typer.main.get_command(app)
    told = group.get_command(None, name).help
    assert f"podvisor {name}" in told.partition("Examples:\n")[2]


def test_every_mode_of_isolation_can_be_chosen() -> None:
    assert [choice.value for choice in IsolationChoice] == ["auto", *Isolation]
