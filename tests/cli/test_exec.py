"""`podvisor exec`, `attach` and `port-forward`, against a node that only streams."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import pathlib
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from supervisor.cli import port_forward
from supervisor.cli.websocket import WebSocket
from supervisor.client import Client, Upgraded
from supervisor.errors import NodeError, UsageError
from tests.cli.asked import Json, podvisor
from tests.cli.fake_streams import FakeStreams, Handler, status
from tests.fake_api import FakeApi, answer

pytestmark = pytest.mark.usefixtures("nothing_left")

POD: Json = {
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {
        "containers": [
            {"name": "app", "ports": [{"name": "http", "containerPort": 80}]},
            {"name": "shell", "stdin": True, "tty": True},
        ]
    },
}
PATIENCE = 60

Serve = Callable[[Handler], FakeStreams]


@pytest.fixture
def serve(tmp_path: pathlib.Path, nothing_left: None) -> Iterator[Serve]:
    with contextlib.ExitStack() as stack:
        yield lambda handler: stack.enter_context(FakeStreams(str(tmp_path), POD, handler))


def start(tmp_path: pathlib.Path, *words: str, **streams: int) -> subprocess.Popen[bytes]:
    at = words.index("--") if "--" in words else len(words)
    words = (*words[:at], "--state-dir", str(tmp_path), *words[at:])
    chosen = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-m", "supervisor", *words]
    return subprocess.Popen(command, **(chosen | streams))  # type: ignore[call-overload,no-any-return]


def ended(process: subprocess.Popen[bytes], given: bytes = b"") -> tuple[int, bytes, bytes]:
    out, err = process.communicate(given, timeout=PATIENCE)
    return process.returncode, out, err


async def echo(socket: web.WebSocketResponse, request: web.Request) -> None:
    """What it reads it writes, until the end of it."""
    async for message in socket:
        if message.data == b"\xff\x00":
            break
        if message.data[:1] == b"\0":
            await socket.send_bytes(b"\1" + message.data[1:])
    await socket.send_bytes(status(0))


# --- exec ----------------------------------------------------------------------------------------


def test_output_and_exit_code_are_those_of_the_command(
    tmp_path: pathlib.Path, serve: Serve
) -> None:
    async def handle(socket: web.WebSocketResponse, request: web.Request) -> None:
        for begun in (b"\1", b"\2", b"\3"):  # as some servers do
            await socket.send_bytes(begun)
        await socket.ping()
        await socket.send_bytes(b"\1out\n")
        await socket.send_bytes(b"\2err\n")
        await socket.send_bytes(status(7))

    api = serve(handle)
    process = start(tmp_path, "exec", "web", "--", "sh", "-c", "", "a b")
    code, out, err = ended(process)
    assert (code, out) == (7, b"out\n")
    first, *rest = err.decode().splitlines()
    assert first == 'Defaulted container "app" out of: app, shell'
    assert rest == ["err", "command terminated with exit code 7"]
    query = api.asked[0].query
    assert query.getall("command") == ["sh", "-c", "", "a b"]
    assert [query.get(key) for key in ("container", "stdin", "stdout", "stderr", "tty")] == [
        *("app", None, "true", "true", None)
    ]


def test_what_is_piped_in_arrives_whole_and_comes_back(
    tmp_path: pathlib.Path, serve: Serve
) -> None:
    serve(echo)
    sent = os.urandom(1 << 20) * 6
    process = start(tmp_path, "exec", "-i", "web", "-q", "--", "cat")
    assert ended(process, sent) == (0, sent, b"")


def test_a_file_as_stdin_has_an_end(tmp_path: pathlib.Path, serve: Serve) -> None:
    serve(echo)
    (tmp_path / "file").write_bytes(b"content")
    with open(tmp_path / "file", "rb") as file:
        process = start(tmp_path, "exec", "-iqc", "app", "web", "--", "cat", stdin=file.fileno())
        assert ended(process) == (0, b"content", b"")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("exec web -q -- refused", "Error from server (BadRequest): no"),
        ("exec web -q -- broken", "Error from server (InternalError): no such file"),
        ("exec web -q -- lost", "podvisor: cannot say how it ended"),
        ("exec web ls", "put it behind `--`"),
        ("exec web", "put it behind `--`"),
        ("exec -- ls", "Missing argument"),
        ("exec nope -- ls", "404"),
        ("exec web --nope -- ls", "No such option: --nope"),
    ],
)
def test_every_failure_of_our_own_has_one_code(
    tmp_path: pathlib.Path, serve: Serve, words: str, said: str
) -> None:
    async def handle(socket: web.WebSocketResponse, request: web.Request) -> None:
        if "broken" in request.query.getall("command"):
            failure = {"status": "Failure", "reason": "InternalError", "message": "no such file"}
            await socket.send_bytes(b"\3" + json.dumps(failure).encode())

    serve(handle)
    at = words.index("--") if "--" in words.split() else len(words)
    done = podvisor(*words[:at].split(), "--state-dir", str(tmp_path), *words[at:].split())
    assert done.code == 125
    assert said in done.err


class Terminal:
    """A pseudo-terminal whose slave is a program's stdin, stdout and stderr."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self._unread = b""
        self.resize(100, 30)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def read_until(self, text: bytes) -> None:
        """What comes after it is for the next one."""
        deadline = time.monotonic() + PATIENCE
        while text not in self._unread:
            assert time.monotonic() < deadline, self._unread
            if select.select([self.master], [], [], 0.1)[0]:
                self._unread += os.read(self.master, 4096)
        self._unread = self._unread.partition(text)[2]

    def is_raw(self) -> bool:
        return not termios.tcgetattr(self.slave)[3] & termios.ICANON

    def close(self) -> None:
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(nothing_left: None) -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


async def shell(socket: web.WebSocketResponse, request: web.Request) -> None:
    """Tells what it is told, and ends at `q`."""
    async for message in socket:
        if message.type is WSMsgType.BINARY:
            text = message.data[1:].decode()
            await socket.send_bytes(f"\1[{message.data[0]} {text!r}]".encode())
            if text == "q":
                await socket.send_bytes(status(3))


def on(terminal: Terminal) -> dict[str, int]:
    return dict.fromkeys(("stdin", "stdout", "stderr"), terminal.slave)


def test_a_terminal_is_lent_with_its_size_and_every_key(
    tmp_path: pathlib.Path, serve: Serve, terminal: Terminal
) -> None:
    api = serve(shell)
    process = start(tmp_path, "exec", "-itq", "web", "--", "sh", **on(terminal))
    terminal.read_until(b'[4 \'{"Width": 100, "Height": 30}\']')
    assert api.asked[0].query["tty"] == "true"
    assert "stderr" not in api.asked[0].query
    os.write(terminal.master, b"\x03")
    terminal.read_until(rb"[0 '\x03']")
    terminal.resize(50, 10)
    process.send_signal(signal.SIGWINCH)
    terminal.read_until(b'"Width": 50')
    assert terminal.is_raw()
    os.write(terminal.master, b"q")
    assert process.wait(PATIENCE) == 3
    assert termios.tcgetattr(terminal.slave) == terminal.before


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_us_leaves_the_terminal_as_it_was(
    tmp_path: pathlib.Path, serve: Serve, terminal: Terminal, signum: signal.Signals
) -> None:
    serve(shell)
    process = start(tmp_path, "exec", "-itq", "web", "--", "sh", **on(terminal))
    terminal.read_until(b"Height")
    process.send_signal(signum)
    assert process.wait(PATIENCE) == -signum
    assert termios.tcgetattr(terminal.slave) == terminal.before


def test_without_a_terminal_ctrl_c_ends_us_and_our_connection(
    tmp_path: pathlib.Path, serve: Serve
) -> None:
    gone = threading.Event()

    async def handle(socket: web.WebSocketResponse, request: web.Request) -> None:
        await socket.send_bytes(b"\1begun\n")
        try:
            async for _ in socket:
                pass
        finally:
            gone.set()

    serve(handle)
    process = start(tmp_path, "exec", "web", "--", "sleep", "9")
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    process.send_signal(signal.SIGINT)
    assert ended(process)[0] == -signal.SIGINT
    assert gone.wait(PATIENCE)


# --- attach --------------------------------------------------------------------------------------


def test_attach_uses_a_terminal_only_where_the_container_has_one(
    tmp_path: pathlib.Path, serve: Serve, terminal: Terminal
) -> None:
    api = serve(shell)
    process = start(tmp_path, "attach", "-it", "web", "-c", "shell", **on(terminal))
    terminal.read_until(b"If you don't see a command prompt, try pressing enter.")
    terminal.read_until(b"Height")
    os.write(terminal.master, b"q")
    assert process.wait(PATIENCE) == 3
    assert api.asked[0].path.endswith("/web/attach")
    refused = podvisor("attach", "-i", "web", "-c", "app", "--state-dir", str(tmp_path))
    assert refused.code == 2
    assert "stdin: true" in refused.err
    unknown = podvisor("attach", "web", "-c", "nope", "--state-dir", str(tmp_path))
    assert "container nope not found in pod web" in unknown.err


# --- port-forward --------------------------------------------------------------------------------


async def ported(socket: web.WebSocketResponse, request: web.Request) -> None:
    """A service that answers when it has read everything; port 81 leads nowhere."""
    port = int(request.query["ports"])
    for channel in (b"\0", b"\1"):
        await socket.send_bytes(channel + struct.pack("<H", port))
    if port == 81:
        await socket.send_bytes(b"\1nobody listens")
        return
    got = b""
    async for message in socket:
        if message.data == b"\xff\x00":
            break
        got += message.data[1:]
    await socket.send_bytes(b"\0" + got[::-1])


@contextlib.contextmanager
def forwarding(
    tmp_path: pathlib.Path, *ports: str
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    process = start(tmp_path, "port-forward", "web", *ports, "--address", "127.0.0.1")
    try:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        yield int(line.split("127.0.0.1:")[1].split()[0]), process
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


def received(connection: socket.socket) -> bytes:
    got = bytearray()
    while piece := connection.recv(1 << 16):
        got += piece
    return bytes(got)


def test_a_connection_leads_to_the_port_and_ends_half_by_half(
    tmp_path: pathlib.Path, serve: Serve
) -> None:
    api = serve(ported)
    with forwarding(tmp_path, ":http") as (port, _):
        for sent in (b"hello", os.urandom(1 << 20) * 2):
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
                connection.sendall(sent)
                connection.shutdown(socket.SHUT_WR)
                assert received(connection) == sent[::-1]
    assert {request.query["ports"] for request in api.asked} == {"80"}


def test_a_client_that_does_not_read_is_heard_and_holds_up_nobody(
    tmp_path: pathlib.Path, serve: Serve
) -> None:
    much = os.urandom(1 << 20) * 16  # more than all that is between them holds
    heard: dict[str, int] = {}

    async def chatter(socket: web.WebSocketResponse, request: web.Request) -> None:
        port = request.query["ports"]
        await socket.send_bytes(b"\0" + struct.pack("<H", int(port)))

        async def talk() -> None:
            for at in range(0, len(much), 1 << 16):
                await socket.send_bytes(b"\0" + much[at : at + (1 << 16)])

        talking = asyncio.ensure_future(talk())
        async for message in socket:
            heard[port] = heard.get(port, 0) + len(message.data) - 1
            if heard[port] == len(much):
                break
        await talking

    serve(chatter)
    with forwarding(tmp_path, ":80", ":81") as (port, process):
        assert process.stdout is not None
        other = int(process.stdout.readline().decode().split("127.0.0.1:")[1].split()[0])
        with (
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as deaf,
            socket.create_connection(("127.0.0.1", other), timeout=PATIENCE) as busy,
        ):
            deaf.sendall(much)
            writing = threading.Thread(target=busy.sendall, args=(much,))
            writing.start()
            assert received(busy) == much
            writing.join()
            assert received(deaf) == much
    assert heard == {"80": len(much), "81": len(much)}


def test_a_client_that_does_not_read_does_not_hold_up_the_end(
    tmp_path: pathlib.Path, serve: Serve
) -> None:
    async def flood(socket: web.WebSocketResponse, request: web.Request) -> None:
        await socket.send_bytes(b"\0" + struct.pack("<H", 80))
        while True:
            await socket.send_bytes(b"\0" + bytes(1 << 16))

    serve(flood)
    with (
        forwarding(tmp_path, ":80") as (port, process),
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as deaf,
    ):
        deaf.recv(1)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == -signal.SIGINT


def test_what_the_node_cannot_connect_to_is_said(tmp_path: pathlib.Path, serve: Serve) -> None:
    serve(ported)
    with forwarding(tmp_path, ":81") as (port, process):
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
            assert connection.recv(10) == b""
        assert process.stderr is not None
        line = process.stderr.readline().decode()
        assert line == "podvisor: cannot forward to port 81: nobody listens\n"


@pytest.mark.parametrize("ports", ["80:nope", "70000:80", "80:0", "a:80", "", ":"])
def test_ports_that_are_none_are_refused(tmp_path: pathlib.Path, serve: Serve, ports: str) -> None:
    serve(ported)
    said = podvisor("port-forward", "web", ports, "--state-dir", str(tmp_path))
    assert said.code == 2
    assert "it names http" in said.err


def test_a_port_that_is_taken_is_said(tmp_path: pathlib.Path, serve: Serve) -> None:
    serve(ported)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = ("port-forward", "web", f"{port}:80", "--address", "127.0.0.1")
        said = podvisor(*words, "--state-dir", str(tmp_path))
    assert said.code == 4
    assert f"cannot listen on port {port}: 127.0.0.1: Address already in use" in said.err


class Exhausted(socket.socket):
    def accept(self) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")


def test_a_connection_for_which_there_is_no_descriptor_is_not_tried_again_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class PausedError(Exception):
        """It waits."""

    def sleep(_: float) -> None:
        raise PausedError

    monkeypatch.setattr(time, "sleep", sleep)
    with Exhausted() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.create_connection(listener.getsockname()), pytest.raises(PausedError):
            port_forward._serve(None, "", {listener: 80})  # type: ignore[arg-type]
    assert capsys.readouterr().err == "podvisor: cannot take a connection: Too many open files\n"


# --- frames --------------------------------------------------------------------------------------


@pytest.fixture
def pair(nothing_left: None) -> Iterator[tuple[WebSocket, socket.socket]]:
    ours, theirs = socket.socketpair()
    stream = WebSocket(Upgraded(ours, b"\x82\x02\x01a", "v5.channel.k8s.io"))
    with theirs, contextlib.closing(stream):
        yield stream, theirs


def test_messages_are_whole_however_they_are_cut(pair: tuple[WebSocket, socket.socket]) -> None:
    stream, theirs = pair
    long = b"\x82\x7e\x01\x00\x01" + b"x" * 255
    sent = b"\x02\x02\x01b" + b"\x89\x01p" + b"\x80\x01c" + long + b"\x88\x00"
    got = [*stream.receive()]
    for byte in sent:
        theirs.sendall(bytes([byte]))
        got += stream.receive()
    assert got == [(1, b"a"), (1, b"bc"), (1, b"x" * 255)]
    assert stream.ended
    assert theirs.recv(100) == b"\x8a\x81\0\0\0\0p"  # the answer to the ping


def test_frames_that_no_node_sends_are_refused(pair: tuple[WebSocket, socket.socket]) -> None:
    stream, theirs = pair
    theirs.sendall(b"\x82\x81\0\0\0\0x")
    with pytest.raises(NodeError, match="speaks no WebSocket"):
        [*stream.receive()]


def test_a_service_leads_to_a_pod_of_its_that_runs(tmp_path: pathlib.Path) -> None:
    ns = "/api/v1/namespaces/default"
    ports = [{"port": 8080, "name": "web", "targetPort": "http"}, {"port": 443}]
    runs = POD | {"status": {"phase": "Running"}}
    discovered = {
        "resource": "services",
        "singularResource": "service",
        "responseKind": {"kind": "Service"},
        "scope": "Namespaced",
        "verbs": [],
        "shortNames": ["svc"],
    }
    versions = [{"version": "v1", "resources": [discovered]}]
    answers = {
        "GET /api": answer({"items": [{"metadata": {}, "versions": versions}]}),
        "GET /apis": answer({"items": []}),
        f"GET {ns}/services/s": answer({"spec": {"selector": {"app": "a"}, "ports": ports}}),
        f"GET {ns}/services/none": answer({"spec": {}}),
        f"GET {ns}/pods?labelSelector=app%3Da": answer({"items": [POD | {"status": {}}, runs]}),
    }
    with FakeApi(str(tmp_path), answers):
        found, named = port_forward.find(Client(str(tmp_path)), "default", "svc/s")
        assert found == runs
        assert named == {"8080": 80, "web": 80, "443": 443}
        assert port_forward.parse(":web", named) == port_forward.Forward(0, 80)
        assert port_forward.parse("8080", named) == port_forward.Forward(8080, 80)
        assert port_forward.parse("9:443", named) == port_forward.Forward(9, 443)
        with pytest.raises(UsageError, match="the Service has no port 81; it has 443, 8080, web"):
            port_forward.parse("81", named, only_named=True)
        with pytest.raises(NodeError, match="none of its pods runs"):
            port_forward.find(Client(str(tmp_path)), "default", "svc/none")
