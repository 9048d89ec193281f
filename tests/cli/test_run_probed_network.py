"""Probes over the network as `podvisor run` makes them, as each user and in each mode.

A user who cannot read this environment gets a copy of it (tests/support.py), or the tests are
skipped with what stands in the way.
"""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import ROOT, Manifest, Place, pod, python, sh

pytestmark = pytest.mark.usefixtures("nothing_left")

# Answers every request, and says what came of connections to itself while it was not ready and
# while it was being stopped.
TALKATIVE = r"""
import http.server, signal, socket, sys, threading, time
PORT = int(sys.argv[1])
class Handler(http.server.BaseHTTPRequestHandler):
    ready = False
    def do_GET(self):
        self.send_response(200 if self.path != "/ready" or Handler.ready else 503)
        self.end_headers()
    def log_message(self, *words):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
def ask(when):
    with socket.create_connection(("127.0.0.1", PORT), 5) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        print(when, sock.recv(12).decode(), flush=True)
def stop(*_):
    Handler.ready = False
    ask("ending")
    raise SystemExit(0)
signal.signal(signal.SIGTERM, stop)
ask("not ready")
time.sleep(1.5)
ask("still not ready")
Handler.ready = True
while True:
    signal.pause()
"""


def http(path: str, **fields: int) -> Manifest:
    return {"httpGet": {"path": path, "port": "web"}, "periodSeconds": 1, **fields}


def talkative(port: int, **fields: Any) -> Manifest:
    made = python("app", TALKATIVE, ports=[{"name": "web", "containerPort": port}], **fields)
    return {**made, "command": [*made["command"], str(port)]}


def test_what_is_not_ready_or_ends_can_still_open_connections(place: Place):
    """§7.3.5, §5.4.2: nothing is cut, and any user's HTTP probes say how it is."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    app = talkative(port, readinessProbe=http("/ready"), livenessProbe=http("/"))
    session = place.start(pod("talker", app, restartPolicy="Never"))
    session.until_said("talker/app * ready")
    session.signal(signal.SIGINT)
    finished = session.wait(130)

    for when in ("not ready", "still not ready", "ending"):
        assert f"talker/app | {when} HTTP/1.0 200" in finished.out
    assert "Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 503" in (
        finished.err
    )
    # It is refused before the server listens and when it has ended, and that is all.
    failed = [line for line in finished.err.splitlines() if "iveness" in line]
    assert all("connection refused" in line for line in failed)


@pytest.fixture(scope="module")
def health_port() -> Iterator[int]:
    """Of a gRPC health service; the user in question may be unable to run one."""
    code = (
        "import sys; from tests.kubelet.test_handlers import HealthServer\n"
        "with HealthServer() as s: print(s.port, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.communicate()


def test_any_user_makes_grpc_probes(place: Place, health_port: int):
    """§5.6.2"""

    def grpc(service: str) -> Manifest:
        return {"grpc": {"port": health_port, "service": service}, "periodSeconds": 1}

    def sleeper(name: str, service: str) -> Manifest:
        app = sh("app", "sleep 1000", readinessProbe=grpc(service))
        return pod(name, app, restartPolicy="Never", terminationGracePeriodSeconds=1)

    session = place.start(sleeper("well", ""), sleeper("ill", "ill"))
    session.until(lambda: re.search(r"^well/app +\* ready$", session.err, re.MULTILINE), "ready")
    session.until_said('service unhealthy (responded with "NOT_SERVING")')
    session.signal(signal.SIGINT)
    finished = session.wait(130)

    assert not re.search(r"^ill/app +\* ready$", finished.err, re.MULTILINE)
