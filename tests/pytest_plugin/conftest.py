"""Runs of pytest in folders of their own, each in a process that has a deadline.

Of all plugins that are installed here they load ours and those they name, which is most of what
such a run takes. With all of them run the example and what is measured by coverage.
"""

from __future__ import annotations

import pathlib

import pytest

from tests.runtime.conftest import _warm_loops, nothing_left  # noqa: F401  (fixtures)

TALKER = """
apiVersion: v1
kind: Pod
metadata: {name: talker}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 2
  containers:
  - name: app
    command: [sh, -c, "trap 'echo bye; exit 0' TERM; echo hello; sleep 1000 & wait"]
"""
PATIENCE = 200.0  # of a busy machine


@pytest.fixture(autouse=True)
def _own_state(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """What nodes keep goes into this test's folder; no process is left."""
    request.getfixturevalue("nothing_left")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


# Where both are there, each has to leave the other's tests. One is called like what it stands upon,
# which pytest then cannot rewrite.
ASYNCHRONOUS = ("-panyio", "-pasyncio", "-Wignore:Module already imported")


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.path.joinpath("talker.yaml").write_text(TALKER)
    return pytester


def run(project: pytest.Pytester, *words: str, **files: str) -> pytest.RunResult:
    """pytest over these test files."""
    project.makepyfile(**files)
    return project.runpytest_subprocess("-q", "-ppodvisor", *words, timeout=PATIENCE)
