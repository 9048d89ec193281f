"""The end of a command: at once, but nothing that is left to do is left out."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}

_COMMAND = """
import sys
from supervisor.__main__ import main
sys.argv = ["podvisor", *{words!r}]
{before}
main()
"""
_LATER = """
def later():
    threading.main_thread().join()
    print("late")
import threading
threading.Thread(target=later).start()
"""


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("print('early', end='')", "earlypodvisor"),
        ("import atexit; atexit.register(print, 'late')", "late"),
        (_LATER, "late"),
    ],
    ids=["buffered", "exit function", "thread"],
)
def test_what_is_left_to_do_is_done(before: str, said: str) -> None:
    done = _run("-c", _COMMAND.format(words=("--version",), before=before))
    assert done.returncode == 0, done.stderr
    assert said in done.stdout


def test_the_code_is_the_commands() -> None:
    done = _run("-c", _COMMAND.format(words=("validate", "/no/such/file"), before=""))
    assert done.returncode == 3, done.stderr
    assert "/no/such/file" in done.stderr


def test_a_profiler_has_the_last_word() -> None:
    assert "function calls" in _run("-m", "cProfile", "-m", "supervisor", "--version").stdout


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, env=BUFFERED
    )
