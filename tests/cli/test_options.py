"""Options that several commands have."""

from __future__ import annotations

from typing import Any

import pytest
import typer

from supervisor.cli import COMMANDS, Command, app
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
        ("--filename", "get describe apply delete wait"),
        ("--recursive", "get describe apply delete wait"),
        ("--all", "delete wait"),
        ("--selector", "get describe logs top delete wait"),
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


WORDS = ["", "a", "0", "5", "200", "65536", "2147483648", "9999999999", "-1", "+5", " 5 ", "1_0"]
WORDS += ["٣", "0.5", "1e3", "inf", "true", "none", "json", "JSON", "group", "Never", "bash"]


@pytest.mark.parametrize("name", COMMANDS)
def test_words_mean_what_typer_makes_of_them(name: str) -> None:
    group: Any = typer.main.get_command(app)
    command = group.get_command(None, name)
    context = command.context_class(command)
    assert isinstance(command, Command)

    def read(reader: Any, value: Any) -> tuple[type, object]:
        try:
            found = reader.coerce(value, param=param, ctx=context)
        except Exception as error:
            found = error
        return type(found), str(found) if isinstance(found, Exception) else found

    for param in command.get_params(context):
        ours, theirs = param.get_runtime_param(), type(param).get_runtime_param(param)
        assert type(ours) is not type(theirs)
        several = param.multiple or param.nargs == -1
        for word in (None, True, 5, 0.5, -1, param.default, *WORDS):
            for value in ([word], [word, "5"], None) if several else (word,):
                assert read(ours, value) == read(theirs, value), (param.name, value)
