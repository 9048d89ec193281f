"""`podvisor probe`, and what `run` says about probes."""

from __future__ import annotations

import http.server
import pathlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from supervisor import narration
from supervisor.api import v1
from supervisor.cli import hints
from supervisor.cli.probing import conclusion
from supervisor.lifecycle.facts import (
    ContainerId,
    ContainerStarted,
    Instant,
    ProbeKind,
    ProbeObserved,
    ProbeOutcome,
)
from supervisor.lifecycle.record import NodePolicy, PodRecord, new_record, observe

PODVISOR = str(pathlib.Path(sys.executable).parent / "podvisor")

MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {{name: web}}
spec:
  containers:
  - name: app
    command: [x]
    env: [{{name: WORD, value: hello}}]
    ports: [{{name: http, containerPort: {port}}}]
    readinessProbe: {{httpGet: {{port: http, path: /}}}}
    livenessProbe: {{exec: {{command: [sh, -c, 'echo $WORD; pwd; exit 3']}}}}
    lifecycle: {{preStop: {{exec: {{command: [sh, -c, 'echo bye >/proc/1/fd/1']}}}}}}
  - name: other
    command: [x]
    readinessProbe: {{exec: {{command: [no-such-program]}}}}
    livenessProbe: {{exec: {{command: [sh, -c, 'sleep 60 & sleep 60']}}}}
    startupProbe: {{exec: {{command: [sh, -c, 'grep SigIgn /proc/$PPID/status']}}}}
"""


class Quiet(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"fine\nreally")

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def probe(folder: pathlib.Path, port: int, *words: str) -> tuple[int, str]:
    (folder / "pod.yaml").write_text(MANIFEST.format(port=port))
    return run_probe(folder, *words)


def run_probe(folder: pathlib.Path, *words: str) -> tuple[int, str]:
    done = subprocess.run(
        [PODVISOR, "probe", "pod.yaml", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_probe_that_succeeds_is_0(tmp_path: pathlib.Path, port: int) -> None:
    code, said = probe(tmp_path, port, "web/app", "readiness")
    first, second, third = said.splitlines()
    assert first == f"web/app readiness: http-get http://127.0.0.1:{port}/"
    assert second.startswith("success after 0.")
    assert second.endswith(" s: fine really")
    assert third == "the kubelet: a success; the container is ready"
    assert code == 0


def test_an_exec_probe_runs_here_with_the_containers_environment(tmp_path: pathlib.Path) -> None:
    code, said = probe(tmp_path, 1, "default/web/app", "liveness")
    assert code == 1
    assert said.splitlines()[1] == (
        "run as a plain local process: no container of this manifest is looked for"
    )
    assert f"s: hello\n{tmp_path}\nthe kubelet: a failure; after 3 in a row, 20 s after" in said


def test_an_exec_probe_is_not_made_where_what_its_container_mounts_is_missing(
    tmp_path: pathlib.Path,
) -> None:
    def mounting(container: str) -> tuple[int, str]:
        head = f"  - name: {container}\n"
        mounted = head + "    volumeMounts: [{{name: v, mountPath: /data}}]\n"
        manifest = MANIFEST.replace(head, mounted).format(port=1)
        (tmp_path / "pod.yaml").write_text(manifest + "  volumes: [{name: v, emptyDir: {}}]\n")
        return run_probe(tmp_path, "web/app", "liveness")

    code, said = mounting("app")
    assert (code, said) == (
        2,
        "podvisor: cannot run the liveness probe of web/app here: only its container has what is "
        "mounted at /data\n",
    )
    code, said = mounting("other")
    assert (code, "s: hello\n" in said) == (1, True)


def test_a_program_that_is_not_there_is_an_error(tmp_path: pathlib.Path) -> None:
    code, said = probe(tmp_path, 1, "web/other", "readiness")
    assert code == 1
    assert 's: exec: "no-such-program": executable file not found in $PATH' in said
    assert "the kubelet: nothing: the probe itself cannot be made" in said


def test_a_program_that_takes_too_long_is_killed(tmp_path: pathlib.Path) -> None:
    code, said = probe(tmp_path, 1, "web/other", "liveness")
    assert code == 1
    assert 'command timed out: "sh -c sleep 60 & sleep 60" timed out after 1s' in said


def test_a_peer_that_goes_away_does_not_end_podvisor(tmp_path: pathlib.Path) -> None:
    # Seen as exit code -13: sockets whose other end is gone raise SIGPIPE.
    _, said = probe(tmp_path, 1, "web/other", "startup")
    ignored = int(said.split("SigIgn:")[1].split()[0], 16)
    assert ignored & 1 << signal.SIGPIPE - 1


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("web/app", "startup"), "it has no startup probe, but liveness and readiness"),
        (("web/none", "liveness"), "there is web/app, web/other"),
    ],
)
def test_what_is_not_there_is_a_usage_error(
    tmp_path: pathlib.Path, words: tuple[str, ...], why: str
) -> None:
    code, said = probe(tmp_path, 1, *words)
    assert code == 2
    assert why in said


def test_conclusions() -> None:
    probe = v1.Probe(failure_threshold=1, success_threshold=2, period_seconds=10)
    assert conclusion(ProbeKind.LIVENESS, probe, ProbeOutcome.FAILURE) == (
        "a failure; at once the container is killed, and restarted by its policy"
    )
    assert conclusion(ProbeKind.READINESS, probe, ProbeOutcome.WARNING) == (
        "a success, with a ProbeWarning event; after 2 in a row it is ready"
    )


# --- what `run` says ---------------------------------------------------------------------------


def life(*outcomes: tuple[ProbeKind, ProbeOutcome, str]) -> list[str]:
    probe = v1.Probe(
        exec=v1.ExecAction(command=("x",)),
        period_seconds=1,
        failure_threshold=1,
        success_threshold=1,
    )
    pod = v1.Pod(
        metadata=v1.ObjectMeta(name="web", namespace="default", uid="u"),
        spec=v1.PodSpec(
            containers=(
                v1.Container(
                    name="app",
                    startup_probe=probe if outcomes[0][0] is ProbeKind.STARTUP else None,
                    liveness_probe=probe,
                    readiness_probe=probe,
                ),
            ),
            restart_policy="Always",
            termination_grace_period_seconds=30,
        ),
    )
    at, app = Instant(0.0, 0.0), ContainerId("u", "app", 0)
    record: PodRecord = new_record(pod, at, NodePolicy(node_name="here"))
    record = observe(record, ContainerStarted(at=at, id=app, pid=1))
    said: list[str] = []
    for kind, outcome, output in outcomes:
        after = observe(
            record, ProbeObserved(at=at, id=app, kind=kind, outcome=outcome, output=output)
        )
        said += [line.text for line in narration.changes(record, after)]
        record = after
    return said


def test_each_change_of_mind_is_one_line_with_its_reason() -> None:
    ok, bad = ProbeOutcome.SUCCESS, ProbeOutcome.FAILURE
    assert life(
        (ProbeKind.STARTUP, ok, ""),
        (ProbeKind.READINESS, ok, ""),
        (ProbeKind.READINESS, ok, ""),
        (ProbeKind.READINESS, bad, "no\nway"),
        (ProbeKind.READINESS, bad, "no way"),
        (ProbeKind.LIVENESS, bad, "HTTP probe failed with statuscode: 500"),
    ) == [
        "startup probe passed",
        "ready",
        "not ready: no way",
        "liveness probe failed: HTTP probe failed with statuscode: 500; stopping it, grace 30 s",
    ]
    assert life((ProbeKind.STARTUP, bad, "x")) == [
        "startup probe failed: x; stopping it, grace 30 s"
    ]


def test_a_program_that_listens_elsewhere_is_hinted_at() -> None:
    code = (
        "import socket, sys; s = socket.socket(); s.bind(('127.0.0.2', 0)); s.listen();"
        "print(s.getsockname()[1], flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        port = int(process.stdout.readline())
        probe = v1.Probe(tcp_socket=v1.TCPSocketAction(port="web"))
        container = v1.Container(
            name="app", ports=(v1.ContainerPort(name="web", container_port=port),)
        )
        hint = hints.refused_elsewhere(probe, container, process.pid)
        assert hint is not None
        assert f"listens at 127.0.0.2:{port}; let it listen at 0.0.0.0:{port}" in hint
        other = v1.Probe(tcp_socket=v1.TCPSocketAction(port=port, host="10.0.0.1"))
        assert hints.refused_elsewhere(other, container, process.pid) is None
        process.stdin.close()
