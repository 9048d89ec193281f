"""What a fixture costs a test: `python -m tests.bench.fixtures`, part of `make bench`.

Each round is a test of a real run of pytest: start, wait until ready, stop; with podvisor's
fixtures and, for the same server, with mirakuru and pytest-xprocess. What is timed is the whole
test, from the set-up of its fixtures to the end of their tear-down. The server is a Python program;
how long such a program takes to listen is measured beside, since all pay it.

A readiness probe is made at the container's start and then once a second, as in a cluster; a server
that is not that quick is ready with the second probe. So podvisor is measured twice: waiting for
the probe, and, as pytest-xprocess does, for a line of the log.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

from tests.bench.__main__ import show

SERVER = """
import http.server, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(200)
        self.end_headers()
    do_GET = do_HEAD

server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print("listening", flush=True)
server.serve_forever()
"""

# Writes at its start, ends at once on SIGTERM.
TRIVIAL = """
apiVersion: v1
kind: Pod
metadata: {name: trivial}
spec:
  containers:
  - name: app
    command: [sh, -c, "trap 'exit 0' TERM; exec 3<>NEVER; echo up; read x <&3"]
"""

PROBED = """
apiVersion: v1
kind: Pod
metadata: {name: server}
spec:
  containers:
  - name: web
    command: [PYTHON, SERVER, $(PORT_web)]
    readinessProbe: {httpGet: {port: $(PORT_web)}, periodSeconds: 1}
"""

CONFTEST = """
import json, pathlib

durations = {}

def pytest_runtest_logreport(report):
    kind = report.nodeid.partition("test_")[2].partition("[")[0]
    kind = kind.partition(".py::test_")[2]
    kind and durations.setdefault((kind, report.nodeid), []).append(report.duration)

def pytest_sessionfinish(session):
    found = {}
    for (kind, _), phases in durations.items():
        found.setdefault(kind, []).append(sum(phases))
    pathlib.Path(RESULT).write_text(json.dumps(found))

def pytest_collection_modifyitems(items):
    # In turn: what the machine does beside meets all of them.
    items.sort(key=lambda item: item.callspec.params["number"])
"""

TESTS = """
import pathlib, socket, subprocess
import pytest

rounds = pytest.mark.parametrize("number", range(ROUNDS))

def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]

@rounds
def test_trivial(pod_factory, number):
    pod = pod_factory(TRIVIAL).wait_ready()
    assert next(pod.logs(follow=True)).text == "up"

@rounds
def test_probed(pod_factory, number):
    pod_factory(PROBED).wait_ready()

@rounds
def test_logged(podvisor, pod_factory, number):
    pod = pod_factory([PYTHON, SERVER, "$(PORT_web)"], name="server")
    assert next(pod.logs(follow=True)).text == "listening"

@rounds
def test_bare(number):
    words = [PYTHON, SERVER, str(free_port())]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"listening\\n"
        process.terminate()
"""

MIRAKURU = """
@rounds
def test_mirakuru(number):
    from mirakuru import HTTPExecutor
    port = free_port()
    with HTTPExecutor([PYTHON, SERVER, str(port)], f"http://127.0.0.1:{port}/", timeout=20):
        pass
"""

XPROCESS = """
@rounds
def test_xprocess(xprocess, number):
    from xprocess import ProcessStarter

    class Starter(ProcessStarter):
        pattern = "listening"
        args = [PYTHON, SERVER, str(free_port())]
        timeout = 20

    xprocess.ensure("server", Starter)
    xprocess.getinfo("server").terminate()
"""

SHOWN = {
    "trivial": "podvisor: a trivial pod, whole test",
    "bare": "the server alone: started, its line read, ended",
    "logged": "podvisor: the server, waited for by its line",
    "xprocess": "pytest-xprocess: the same",
    "probed": "podvisor: the server, ready by its probe",
    "mirakuru": "mirakuru: the server, waited for over HTTP",
}


def measure(folder: pathlib.Path, rounds: int) -> dict[str, list[float]]:
    never, server, result = folder / "never", folder / "server.py", folder / "result.json"
    os.mkfifo(never)
    server.write_text(SERVER)
    tests = TESTS
    for module, more in (("mirakuru", MIRAKURU), ("xprocess", XPROCESS)):
        if importlib.util.find_spec(module) is not None:
            tests += more
        else:
            print(f"  {module} is not installed: nothing to compare with (pip install '.[bench]')")
    words = {"PYTHON": sys.executable, "SERVER": str(server), "NEVER": str(never)}
    manifests = {"TRIVIAL": TRIVIAL, "PROBED": PROBED}
    for name, text in manifests.items():
        for word, meant in words.items():
            text = text.replace(word, meant)
        manifests[name] = text
    # The first round warms up.
    values = {**words, **manifests, "ROUNDS": rounds + 1}
    head = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    (folder / "test_fixtures.py").write_text(head + tests)
    (folder / "conftest.py").write_text(f"RESULT = {str(result)!r}\n{CONFTEST}")
    (folder / "pytest.ini").write_text("[pytest]\n")
    words_ = [sys.executable, "-m", "pytest", "-q", "-pno:asyncio", "-pno:anyio", str(folder)]
    done = subprocess.run(words_, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    found: dict[str, list[float]] = json.loads(result.read_text())
    return {kind: times[1:] for kind, times in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.fixtures")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    print("\nA fixture: start, ready, stop; the whole test")
    with tempfile.TemporaryDirectory(prefix="podvisor-bench-") as name:
        found = measure(pathlib.Path(name), options.rounds)
    for kind, text in SHOWN.items():
        if kind in found:
            show(text, found[kind])
    median = statistics.median(found["trivial"]) * 1e3
    print(f"  median of the trivial pod: {median:.0f} ms (target 150)")


if __name__ == "__main__":
    main()
