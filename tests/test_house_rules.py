"""Rules of this code base that no linter knows."""

from __future__ import annotations

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
WAITING = {"sleep", "sleep_until", "move_on_after", "move_on_at", "fail_after", "fail_at"}
WAITING |= {"current_time", "sleep_forever", "monotonic"}


# clock.py is the port, and a failpoint makes everything stand still on purpose.
EXEMPT = {"clock.py", "failpoints.py"}


@pytest.mark.parametrize(
    "path",
    [p for p in (ROOT / "supervisor" / "kubelet").glob("*.py") if p.name not in EXEMPT],
    ids=lambda p: p.name,
)
def test_the_shell_waits_only_through_the_clock(path: pathlib.Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert not (node.value.id in {"anyio", "time", "asyncio"} and node.attr in WAITING), (
                f"{path.name}:{node.lineno} waits past the Clock port"
            )


@pytest.mark.parametrize("path", sorted((ROOT / "supervisor").rglob("*.py")), ids=str)
def test_every_module_opens_with_its_story(path: pathlib.Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no module docstring"
