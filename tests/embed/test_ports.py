"""Free ports: reserved among processes, filled into manifests, given back."""

from __future__ import annotations

import multiprocessing
import os
import pathlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from supervisor import ManifestError, NodeError, UsageError, ports, sync
from supervisor.api import codec, v1, validation
from supervisor.ports import Ports
from tests.runtime.conftest import (  # noqa: F401  (fixtures)
    _warm_loops,
    nothing_left,
)

pytestmark = pytest.mark.usefixtures("nothing_left", "private")

ROOT = pathlib.Path(__file__).parent.parent.parent


@pytest.fixture
def private(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return f"{tmp_path}/podvisor-{os.geteuid()}-ports"


@pytest.fixture
def own() -> Iterator[Ports]:
    own = Ports()
    yield own
    own.close()


def only(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_candidates", lambda: iter((port,)))


# --- reserving -----------------------------------------------------------------------------------


def test_a_name_has_one_port_outside_of_those_the_kernel_hands_out(own: Ports) -> None:
    low, high = map(int, pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    web, db = own.port("web"), own.port("db")
    assert own.port("web") == web != db
    for port in (web, db):
        assert 1024 < port < 65536
        assert not low <= port <= high


def test_nothing_of_ours_keeps_the_container_from_listening(own: Ports) -> None:
    with socket.socket() as one:
        one.bind(("", own.port("web")))
        one.listen()


def test_two_nodes_of_one_process_never_have_the_same(own: Ports) -> None:
    other = Ports()
    both = [each.port(f"p{number}") for number in range(100) for each in (own, other)]
    assert len(set(both)) == 200
    other.close()


def test_a_port_that_is_given_back_can_be_had_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Ports()
    only(first.port("web"), monkeypatch)
    port, second = first.port("web"), Ports()
    with pytest.raises(NodeError, match="cannot find a free port"):
        second.port("web")
    first.close()
    assert second.port("web") == port
    with pytest.raises(UsageError, match="the node has ended"):
        first.port("web")
    second.close()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["tcp", "udp"])
@pytest.mark.parametrize("address", ["", "127.0.0.1", "::1"])
def test_a_port_that_somebody_uses_is_not_handed_out(
    address: str, kind: socket.SocketKind, own: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        used = socket.socket(family, kind)
        used.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        used.bind((address, own.port("probe")))
    except OSError:
        pytest.skip("no IPv6 here")
    with used:
        if kind == socket.SOCK_STREAM:
            used.listen()
        own.close()
        only(used.getsockname()[1], monkeypatch)
        with pytest.raises(NodeError, match="cannot find a free port"):
            Ports().port("web")


_TAKE = """
import sys
from supervisor.ports import Ports
ports = Ports()
sys.stdin.readline()
print(*(ports.port(f"p{number}") for number in range(int(sys.argv[1]))), flush=True)
sys.stdin.readline()
"""


def taker(count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _TAKE, str(count)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip


def take(process: subprocess.Popen[str]) -> list[int]:
    assert process.stdout is not None
    return [int(word) for word in process.stdout.readline().split()]


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_processes_that_race_for_many_ports_get_different_ones(own: Ports) -> None:
    takers = [taker(400) for _ in range(3)]
    for each in takers:
        go_on(each)
    mine = [own.port(f"p{number}") for number in range(400)]
    taken = [mine, *map(take, takers)]
    for each in takers:
        with each:
            go_on(each)
    assert [len(each) for each in taken] == [400] * 4
    assert len(set().union(*taken)) == 1600


def test_what_a_killed_process_held_can_be_had_again(
    own: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    with taker(1) as process:
        go_on(process)
        (port,) = take(process)
        only(port, monkeypatch)
        with pytest.raises(NodeError):
            own.port("web")
        process.send_signal(signal.SIGKILL)
    assert own.port("web") == port


def _in_child(port: int, answers: Any) -> None:
    ports._candidates = lambda: iter((port,))
    try:
        Ports().port("web")
    except NodeError:
        ports._candidates = lambda: iter((port + 1, port + 2, port + 3, port + 4))
        other = Ports()
        answers.send(other.port("web"))
        other.close()


def test_a_forked_process_neither_has_the_ports_nor_gives_them_back(own: Ports) -> None:
    port = own.port("web")
    here, there = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_in_child, args=(port, there))
    child.start()
    assert here.poll(30)
    assert here.recv() in range(port + 1, port + 5)
    child.join(30)
    child.close()
    here.close()
    there.close()
    code = f"from supervisor import ports; ports._candidates = lambda: [{port}]; {_TAKE}"
    done = subprocess.run(
        [sys.executable, "-c", code, "1"],
        input="\n\n", capture_output=True, text=True, cwd=ROOT, timeout=90, check=False,
    )  # fmt: skip
    assert "cannot find a free port" in done.stderr


def test_a_file_that_is_not_our_own_is_refused(private: str, own: Ports) -> None:
    os.mkfifo(private)
    with pytest.raises(NodeError, match="it is not a file of this user"):
        own.port("web")
    os.unlink(private)
    os.symlink("/etc/hostname", private)
    with pytest.raises(NodeError, match="cannot reserve ports"):
        own.port("web")
    os.unlink(private)
    own.port("web")
    assert os.stat(private).st_mode & 0o777 == 0o600


def test_a_machine_that_hands_out_all_ports_has_none_for_us(
    own: Ports, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = tmp_path / "range"
    everything.write_text("1024\t65535\n")
    monkeypatch.setattr(ports, "_RANGE", str(everything))
    with pytest.raises(NodeError, match="none is left outside of"):
        own.port("web")
    everything.write_text("1024\t65533\n")
    assert own.port("web") in (65534, 65535)


@pytest.mark.parametrize("name", ["", "a b", "a)", "ä", "a.b"])
def test_what_cannot_be_written_into_a_manifest_is_no_name(name: str, own: Ports) -> None:
    with pytest.raises(UsageError, match="make a name"):
        own.port(name)


# --- filling -------------------------------------------------------------------------------------


def test_references_are_filled_wherever_they_stand(own: Ports) -> None:
    a, b = own.port("a"), own.port("b-2")
    for given, meant in {
        "$(PORT_a)": f"{a}",
        "x:$(PORT_a)/$(PORT_b-2)": f"x:{a}/{b}",
        "$$(PORT_a)": "$$(PORT_a)",
        "$$$(PORT_a)": f"$${a}",
        "$(PORT_)": "$(PORT_)",
        "$(port_a)": "$(port_a)",
        "$(OTHER)": "$(OTHER)",
        "$(PORT_a": "$(PORT_a",
    }.items():
        assert own.fill({"x": [given, {"y": given}]}) == {"x": [meant, {"y": meant}]}
    assert own.fill({"x": 1, "y": None, "z": [True]}) == {"x": 1, "y": None, "z": [True]}


def test_what_a_manifest_defines_itself_is_left_to_kubernetes(own: Ports) -> None:
    container = {
        "args": ["$(PORT_a)", "$(PORT_b)"],
        "env": [{"name": "PORT_a", "value": "80"}],
    }
    filled = own.fill({"spec": {"containers": [container]}})
    assert filled["spec"]["containers"][0]["args"] == ["$(PORT_a)", str(own.port("b"))]
    assert own.by_name.keys() == {"b"}


POD = """
apiVersion: v1
kind: Pod
metadata: {name: web, annotations: {port: $(PORT_web)}}
spec:
  restartPolicy: Never
  containers:
  - name: app
    command: [sh, -c, "echo $0 $ADDRESS", "$(PORT_web)"]
    env: [{name: ADDRESS, value: "here:$(PORT_web)"}]
    ports: [{name: http, containerPort: $(PORT_web)}]
    readinessProbe: {httpGet: {port: $(PORT_web)}}
    livenessProbe: {grpc: {port: "$(PORT_web)"}}
"""


def test_numbers_and_texts_are_read_from_one_notation(own: Ports) -> None:
    documents, problems = codec.read(POD, "pod.yaml")
    assert problems == []
    pod, findings = validation.admit(own.fill(documents[0].data))
    assert findings == []
    assert pod is not None
    port, app = own.port("web"), pod.spec.containers[0]
    assert type(app.ports[0].container_port) is int
    assert app.ports[0].container_port == port
    assert app.readiness_probe is not None
    assert app.readiness_probe.http_get is not None
    assert app.readiness_probe.http_get.port == port
    assert app.liveness_probe is not None
    assert app.liveness_probe.grpc is not None
    assert app.liveness_probe.grpc.port == port
    assert pod.metadata.annotations == {"port": str(port)}
    assert type(pod.metadata.annotations["port"]) is str
    codec.dump(pod, "yaml")


def test_only_a_node_that_is_embedded_fills() -> None:
    documents, _ = codec.read(POD, "pod.yaml")
    _, findings = validation.admit(documents[0].data)
    assert any("containerPort" in finding.path for finding in findings)


# --- in a node -----------------------------------------------------------------------------------


def test_every_kind_of_source_is_filled(tmp_path: pathlib.Path) -> None:
    plain = POD.replace("    readinessProbe", "    # ").replace("    livenessProbe", "    # ")
    file = tmp_path / "pod.yaml"
    file.write_text(plain)
    (document,), _ = codec.read(plain, "")
    typed = v1.Pod(
        metadata=v1.ObjectMeta(name="typed"),
        spec=v1.PodSpec(
            restart_policy="Never",
            containers=(v1.Container(name="app", command=("echo", "$(PORT_web)")),),
        ),
    )
    with sync.Supervisor() as node:
        port = node.port("web")
        for source in (file, plain, document.data):
            pod = node.run(source)
            pod.wait()
            assert pod.output() == f"{port} here:{port}\n"
            assert pod.host_port == pod.port("http") == port
            node.delete(pod)
        pod = node.run(typed)
        pod.wait()
        assert pod.output() == f"{port}\n"
        words = ["sh", "-c", "echo $0 $X $PORT_own", "$(PORT_web)"]
        pod = node.run(words, env={"X": "$(PORT_web)", "PORT_own": "$$(PORT_web)"})
        pod.wait()
        assert pod.output() == f"{port} {port} $(PORT_web)\n"


def test_one_name_is_one_port_for_all_pods_of_a_node_and_free_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with sync.Supervisor() as node, sync.Supervisor() as other:
        pods = [node.run(["echo", "$(PORT_web)"]) for _ in range(2)]
        for pod in pods:
            pod.wait()
            assert pod.output() == f"{node.port('web')}\n"
        assert other.port("web") != node.port("web")
        port = node.port("web")
    only(port, monkeypatch)
    with sync.Supervisor() as third:
        assert third.port("web") == port
    with pytest.raises(UsageError, match="not entered, or was left"):
        third.port("web")


def test_mistakes_are_told_at_their_places_in_the_text_as_it_was(tmp_path: pathlib.Path) -> None:
    wrong = POD.replace("{name: http, containerPort", "{hostPort: $(PORT_x), bad: 1, containerPort")
    with sync.Supervisor() as node, pytest.raises(ManifestError) as caught:
        node.run(wrong)
    line = next(n for n, text in enumerate(wrong.splitlines(), 1) if "bad" in text)
    column = wrong.splitlines()[line - 1].index("bad") + 1
    assert f":{line}:{column}: error: spec.containers[0].ports[0].bad" in str(caught.value)
