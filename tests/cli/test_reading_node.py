"""The commands that read, and those that stream, against a real node: what it has, they show."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

from tests.cli.asked import Said, podvisor
from tests.cli.test_exec import Terminal, ended, forwarding, on, start
from tests.support import FOREVER, Durable, one_way, pod, python, sh

HOOKS = {
    "postStart": {"exec": {"command": ["sh", "-c", "echo hello"]}},
    "preStop": {"exec": {"command": ["sh", "-c", "echo farewell; exit 3"]}},
}
WAIT = f"while :; do sleep {FOREVER}; done"
READY = {"exec": {"command": ["sh", "-c", "echo fine"]}, "periodSeconds": 1}


@one_way
def test_a_running_pod_and_its_end_can_be_read(node: Durable) -> None:
    node.put(
        "pods.json",
        [
            pod(
                "web",
                sh("app", f"echo one; echo two; {WAIT}", readinessProbe=READY, lifecycle=HOOKS),
                sh("side", WAIT),
                terminationGracePeriodSeconds=1,
            ),
            pod("job", sh("job", "echo done"), restartPolicy="Never"),
        ],
    )
    session = node.serve()

    def run(*words: str) -> Said:
        return podvisor(*words, "--state-dir", node.state)

    def is_ready() -> bool:
        return run("get", "pod", "web", "--no-headers").out.split()[1:3] == ["2/2", "Running"]

    session.until(is_ready, "web to be ready")
    watch = subprocess.Popen(
        [sys.executable, "-m", "supervisor", "get", "pods", "-w", "--state-dir", node.state],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watch.stdout is not None
    assert watch.stdout.readline().split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    session.until(lambda: "Completed" in run("get", "pods").out, "the end of the job")
    assert run("get", "pods", "-o", "name").lines == ["pod/job", "pod/web"]
    assert run("get", "no,ns", "-o", "name").lines[0] == "node/podvisor"
    assert json.loads(run("get", "po", "-A", "-o", "json").out)["items"][1]["kind"] == "Pod"
    assert run("logs", "web", "-c", "app").lines == ["one", "two"]
    assert run("logs", "web", "app", "--tail", "1", "--prefix").out == "[pod/web/app] two\n"
    assert run("logs", "job", "-f").lines == ["done"]
    assert "Started" in run("events", "--for", "pod/job").out
    text = run("describe", "pod", "web").out
    assert "Last Result:  success, " in text
    assert "Verdict:      success: fine" in text
    assert "Output:       hello" in text
    assert "Termination:" not in text
    described = run("describe", "node")
    assert described.code == 0
    assert "web" in described.out

    node.put("pods.json", [pod("job", sh("job", "echo done"), restartPolicy="Never")])
    session.until(lambda: run("get", "pod", "web").code == 1, "the end of web")
    assert "FailedPreStopHook" in run("events", "--types", "Warning").out
    session.signal(signal.SIGTERM)
    ends = watch.communicate(timeout=60)[0]
    session.wait(143)
    assert "Terminating" in ends
    assert watch.returncode == 4
    left = run("logs", "job")
    assert (left.code, left.out) == (4, "done\n")
    assert run("logs", "job", "--tail", "0", "-f").out == ""
    assert run("get", "no", "--no-headers").out.split()[:2] == ["podvisor", "NotReady"]
    assert run("describe", "node").code == 4


@one_way
def test_an_end_can_be_looked_at_while_it_goes_on(node: Durable) -> None:
    app = sh("app", f"trap '' TERM; {WAIT}", lifecycle=HOOKS)
    path = node.put("web.json", pod("web", app, terminationGracePeriodSeconds=20))
    session = node.serve()
    node.running(session, "web", "app")
    words = ("describe", "pod", "web", "--state-dir", node.state)
    session.until(lambda: "succeeded after" in podvisor(*words).out, "postStart to be told")
    os.unlink(path)
    said = session.until(
        lambda: (found := podvisor(*words).out) and "SIGTERM" in found and found,
        "the termination to be told",
    )
    assert "Status:                    Terminating" in said
    assert "farewell" in said
    assert "exited with 3" in said
    assert "still runs" in said


SERVER = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    connection, _ = listener.accept()
    with connection:
        got = b""
        while piece := connection.recv(1 << 16):
            got += piece
        connection.sendall(got[::-1])
"""


@one_way
def test_processes_and_ports_of_a_pod_are_reached(node: Durable) -> None:
    shell = {"name": "shell", "command": ["sh"], "stdin": True, "tty": True}
    server = python("app", SERVER)
    node.put("web.json", pod("web", server, shell, terminationGracePeriodSeconds=1))
    session = node.serve()
    node.running(session, "web", "shell")
    state = pathlib.Path(node.state)
    session.until(
        lambda: podvisor("logs", "web", "-c", "app", "--state-dir", node.state).out.strip(),
        "the server to listen",
    )
    port = podvisor("logs", "web", "-c", "app", "--state-dir", node.state).out.strip()

    process = start(state, "exec", "web", "-q", "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert ended(process) == (3, b"out\n", b"err\n")
    sent = os.urandom(1 << 21)
    assert ended(start(state, "exec", "-iq", "web", "--", "cat"), sent) == (0, sent, b"")
    code, _, err = ended(start(state, "exec", "web", "-q", "--", "/nowhere"))
    assert (code, b"/nowhere" in err) == (125, True)

    with contextlib.closing(Terminal()) as terminal:
        # The size comes behind the start, as with every client.
        script = "until [ \"$(stty size)\" = '30 100' ]; do sleep 0.05; done; echo sized; read x"
        process = start(state, "exec", "-itq", "web", "--", "sh", "-c", script, **on(terminal))
        terminal.read_until(b"sized")
        os.write(terminal.master, b"\x03")
        assert process.wait(20) == 130
        process = start(state, "attach", "-it", "web", "-c", "shell", **on(terminal))
        terminal.read_until(b"pressing enter")
        os.write(terminal.master, b"echo $((40 + 2))\r")
        terminal.read_until(b"\r\n42\r\n")
        os.write(terminal.master, b"exit\r")
        assert process.wait(20) == 0

    with forwarding(state, f":{port}") as (local, _):
        with socket.create_connection(("127.0.0.1", local), timeout=60) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            got = b""
            while piece := connection.recv(1 << 16):
                got += piece
        assert got == sent[::-1]
