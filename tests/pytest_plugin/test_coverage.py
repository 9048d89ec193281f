"""Coverage of Python programs in containers, with the real coverage package."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.pytest_plugin.conftest import PATIENCE

pytest_plugins = ["pytester"]

SERVICE = """
import signal, sys, time

def stop(*_):
    sys.exit(0)

def serve():
    print("up", flush=True)
    time.sleep(1000)  # pragma: no cover  (the signal may come before it)

if sys.argv[1] == "ends":
    print("done")
elif sys.argv[1] == "handles":
    signal.signal(signal.SIGTERM, stop)
    serve()
else:
    serve()
"""

TESTS = """
import pytest

@pytest.fixture(scope="session")
def podvisor_options():
    return {"isolation": MODE, "grace_period": 30}

def start(pod_factory, how):
    return pod_factory([PYTHON, "service.py", how], name="service")

def test_ends(pod_factory):
    start(pod_factory, "ends").wait()

@pytest.mark.parametrize("how", ["handles", "hears nothing"])
def test_is_told(pod_factory, how):
    pod = start(pod_factory, how)
    assert next(pod.logs(follow=True)).text == "up"
    # To save what was measured takes a while, which pid 1 has even if it does not end.
    code = pod.terminate(5 if EXPECTED[how] == 137 else 60).exit_code
    assert code == EXPECTED[how]
"""


@pytest.mark.parametrize(
    ("mode", "code"),
    # Pid 1 is not ended by a signal without a handler, which coverage's own handler leaves it with.
    [("auto", 137), ("group", 143)],
)
def test_data_of_what_ends_by_itself_or_by_sigterm_is_kept(
    mode: str, code: int, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # what is measured takes its time
    isolated = "PYTHON, MODE = " + repr((sys.executable, mode))
    expected = f"EXPECTED = {{'handles': 0, 'hears nothing': {code}}}"
    pytester.makepyfile(service=SERVICE, test_it=f"{isolated}\n{expected}\n{TESTS}")
    settings = "[run]\npatch = subprocess\nsigterm = true\n"
    pytester.path.joinpath(".coveragerc").write_text(settings)

    def coverage(*words: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "coverage", *words],
            cwd=pytester.path, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    coverage("run", "-m", "pytest", "-q", "-ppodvisor")
    measured = list(pytester.path.glob(".coverage.*"))
    assert len(measured) == 4, measured  # pytest, and a container of each test
    coverage("combine")
    coverage("json", "--include=service.py", "-o", "report.json")
    report = json.loads((pytester.path / "report.json").read_text())
    assert report["files"]["service.py"]["missing_lines"] == []
