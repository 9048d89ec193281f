"""The example of README, executed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.runtime.nodes import Way
from tests.support import BEST, ROOT

pytestmark = pytest.mark.usefixtures("nothing_left")


def test_a_pod_in_a_program_prints_what_readme_says(way: Way) -> None:
    if way != BEST:
        pytest.skip("one way is enough")
    program = [sys.executable, str(ROOT / "examples/embed/shutdown.py")]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=True)
    readme = (ROOT / "README.md").read_text()
    shown = readme.partition("    $ python examples/embed/shutdown.py\n")[2].partition("\n\n")[0]
    assert done.stdout == "".join(f"{line.strip()}\n" for line in shown.splitlines())
    assert done.stderr == ""
