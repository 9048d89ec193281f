"""The example, run as its first line says."""

from __future__ import annotations

import pathlib
import shutil

import pytest

from tests.pytest_plugin.conftest import PATIENCE

pytest_plugins = ["pytester"]

EXAMPLE = pathlib.Path(__file__).parent.parent.parent / "examples" / "pytest"


def test_one_manifest_fails_its_shutdown_test_and_the_repaired_one_passes(
    pytester: pytest.Pytester,
) -> None:
    folder = pytester.path / "example"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    result = pytester.runpytest_subprocess("-v", str(folder), timeout=PATIENCE)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*test_a_report_that_was_begun_is_finished?broken.yaml? FAILED*",
            "*test_a_report_that_was_begun_is_finished?repaired.yaml? PASSED*",
            "*AssertionError: SIGKILL was needed",
            "*podvisor: pod reports, Failed*",
            "timeline:",
            "  shutdown of reports: * s (deletion, grace 2 s; *",
            "*SIGTERM*still alive: pid *, `sh -c python3 service.py *`",
            "*SIGKILL*exit 137 Error",
            "last lines of web:",
            "  report begun",
        ]
    )
