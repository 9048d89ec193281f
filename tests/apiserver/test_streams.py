"""exec, attach, port-forward and proxy through the server, to containers that really run."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import anyio
import pytest
from aiohttp import WSMsgType, web

from supervisor.apiserver import auth, streams
from supervisor.apiserver.streams import Streams
from supervisor.runtime.cri import Isolation, LaunchSpec
from tests.apiserver.served import PATIENCE, Served, edit, served
from tests.runtime.conftest import _warm_loops, anyio_backend, nothing_left, on_both_loops
from tests.runtime.nodes import Node, Way, open_node, until
from tests.support import free_port

__all__ = ["_warm_loops", "anyio_backend", "nothing_left"]
pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("nothing_left")]

POD = "/api/v1/namespaces/ns/pods/pod"
ALL = {"stdin": "1", "stdout": "1", "stderr": "1"}
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255


class World:
    """A server, a runtime, and one pod whose containers really run, as far as they are said to."""

    def __init__(self, api: Served, node: Node | None) -> None:
        self.api, self._node = api, node
        runtime: Any = node.runtime if node is not None else None
        self.streams = Streams(api.cache, runtime, api.logs)
        api.server._streams = self.streams

    @property
    def node(self) -> Node:
        assert self._node is not None
        return self._node

    async def run(self, *argv: str, **options: Any) -> LaunchSpec:
        """Its next container: c1, c2, …"""
        spec = self.node.spec(*(argv or ("sleep", "1000")), **options)
        await self.node.start(spec)
        return spec

    async def tell(
        self,
        *names: str,
        phase: str = "Running",
        waiting: tuple[str, ...] = (),
        ended: tuple[str, ...] = (),
        **fields: dict[str, Any],
    ) -> None:
        """What the pod's readers see. `fields`: of a container's spec, by its name."""
        statuses = []
        for name in names:
            id = f"podvisor://uid/{name}/0"
            state: dict[str, Any] = {"waiting": {}} if name in waiting else {"running": {}}
            if name in ended:
                state = {"terminated": {"containerID": id}}
            statuses.append({"name": name, "containerID": id, "state": state})
        body = {
            "kind": "Pod",
            "apiVersion": "v1",
            "metadata": {"uid": "uid", "namespace": "ns"},
            "spec": {"containers": [{"name": name} | fields.get(name, {}) for name in names]},
            "status": {"phase": phase, "podIP": "127.0.0.1", "containerStatuses": statuses},
        }
        await self.api.store.edit(edit("pods", "pod", body, "ns"))
        self.api.logs.grown()

    @contextlib.asynccontextmanager
    async def connect(
        self, what: str, *protocols: str, **query: Any
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        params = [
            (key, str(each))
            for key, value in query.items()
            for each in (value if isinstance(value, tuple) else (value,))
        ]
        connecting = self.api.client.ws_connect(
            f"{self.api.base}{POD}/{what}", protocols=protocols, params=params, max_msg_size=0
        )
        async with connecting as connection:
            yield connection

    async def exec(
        self, *argv: str, protocol: str = "v5.channel.k8s.io", given: bytes = b""
    ) -> tuple[dict[int, bytes], Any]:
        """What it says on each channel, and the last word."""
        async with self.connect("exec", protocol, command=argv, **ALL) as connection:
            await connection.send_bytes(bytes([STDIN]) + given)
            await connection.send_bytes(bytes([CLOSE, STDIN]))
            said = await everything(connection)
        return said, json.loads(said.pop(ERROR))


async def everything(connection: aiohttp.ClientWebSocketResponse) -> dict[int, bytes]:
    said: dict[int, bytes] = {}
    with anyio.fail_after(PATIENCE):
        async for message in connection:
            assert message.type is WSMsgType.BINARY
            said[message.data[0]] = said.get(message.data[0], b"") + message.data[1:]
    return said


def wire(connection: aiohttp.ClientWebSocketResponse) -> Any:
    """The transport under it: uvloop's are no asyncio.Transport."""
    under = connection._response.connection
    assert under is not None
    return under.transport


async def some(connection: aiohttp.ClientWebSocketResponse, channel: int, words: bytes) -> bytes:
    """What comes on a channel until these words have."""
    said = b""
    with anyio.fail_after(PATIENCE):
        while words not in said:
            data = await connection.receive_bytes()
            said += data[1:] if data[0] == channel else b""
    return said


@pytest.fixture
async def world(nothing_left: None) -> AsyncIterator[World]:
    async with (
        served() as api,
        open_node(Way(os.getuid(), Isolation.GROUP), api.folder) as node,
    ):
        world = World(api, node)
        yield world
        await api.server.close()
        await world.streams.close()


@pytest.fixture
async def bare(nothing_left: None) -> AsyncIterator[World]:
    """One in which nothing runs."""
    async with served() as api:
        world = World(api, None)
        yield world
        await world.streams.close()


def runs(mark: str) -> bool:
    """Whether there is a process with this word in its arguments."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/cmdline", "rb") as file:
                if mark.encode() in file.read().split(b"\0"):
                    return True
    return False


def new_mark() -> str:
    return f"1000.{time.monotonic_ns()}"


# --- exec -----------------------------------------------------------------------------------------


@on_both_loops
async def test_a_program_hears_says_and_ends(world: World) -> None:
    await world.run()
    await world.tell("c1")
    script = "cat; echo oh >&2; exit 7"
    said, status = await world.exec("sh", "-c", script, given=b"x" * 300_000)
    assert said == {STDOUT: b"x" * 300_000, STDERR: b"oh\n"}
    assert (status["status"], status["reason"]) == ("Failure", "NonZeroExitCode")
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "7"}]
    assert await world.exec("true") == ({}, {"metadata": {}, "status": "Success"})
    _, status = await world.exec("sh", "-c", "kill -9 $$")
    assert status["details"]["causes"][0]["message"] == "137"


async def test_a_program_that_cannot_start_is_the_last_word(world: World) -> None:
    await world.run()
    await world.tell("c1")
    said, status = await world.exec("no-such-program")
    assert said == {}
    assert status["reason"] == "InternalError"
    assert 'exec: "no-such-program": executable file not found' in status["message"]


async def test_who_is_left_behind_keeps_nobody(world: World) -> None:
    mark = new_mark()
    await world.run()
    await world.tell("c1")
    said, _ = await world.exec("sh", "-c", f"sleep {mark} & echo done")
    assert said == {STDOUT: b"done\n"}
    await until(lambda: runs(mark), "it to run")
    # And who goes on talking is not listened to for ever.
    said, status = await world.exec("sh", "-c", "(yes || :) & sleep 0.1")
    assert status["status"] == "Success"
    assert set(said) <= {STDOUT}


@on_both_loops
async def test_a_terminal_has_a_size_and_says_its_last_words(world: World) -> None:
    await world.run()
    await world.tell("c1")
    script = "read line; stty size; echo last"
    query = ALL | {"tty": "true"}
    async with world.connect(
        "exec", "v4.channel.k8s.io", command=("sh", "-c", script), **query
    ) as connection:
        await connection.send_bytes(bytes([RESIZE]) + b'{"Width": 91, "Height": 17}')
        await connection.send_bytes(bytes([STDIN]) + b"go\n")
        said = await everything(connection)
    assert said[STDOUT].replace(b"\r", b"").endswith(b"17 91\nlast\n")
    assert json.loads(said[ERROR])["status"] == "Success"


async def _hang_up(connection: aiohttp.ClientWebSocketResponse) -> None:
    wire(connection).abort()


async def _stuff(connection: aiohttp.ClientWebSocketResponse) -> None:
    """Give it more than it takes, and hang up then."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.5):
            while True:
                await connection.send_bytes(bytes([STDIN]) + bytes(100_000))
    await _hang_up(connection)


async def _close(connection: aiohttp.ClientWebSocketResponse) -> None:
    await connection.close()


async def _garbage(connection: aiohttp.ClientWebSocketResponse) -> None:
    wire(connection).write(os.urandom(4) + b"\xff" * 100)


@on_both_loops
@pytest.mark.parametrize("leave", [_close, _hang_up, _stuff, _garbage])
async def test_a_program_ends_with_its_client(
    world: World, leave: Callable[[aiohttp.ClientWebSocketResponse], Awaitable[None]]
) -> None:
    mark = new_mark()
    await world.run()
    await world.tell("c1")
    script = f"sh -c 'sleep {mark}; :' & sleep {mark}"
    async with world.connect(
        "exec", "v5.channel.k8s.io", command=("sh", "-c", script), **ALL
    ) as connection:
        await until(lambda: runs(mark), "it to run")
        await leave(connection)
        await until(lambda: not runs(mark), "its end")


async def test_a_program_ends_with_the_server(world: World) -> None:
    mark = new_mark()
    await world.run()
    await world.tell("c1")
    async with world.connect(
        "exec", "v5.channel.k8s.io", command=("sleep", mark), **ALL
    ) as connection:
        await until(lambda: runs(mark), "it to run")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.api.server.close)
            assert await everything(connection) == {}
    assert not runs(mark)


@on_both_loops
async def test_who_does_not_read_holds_up_the_program(world: World, tmp_path: Any) -> None:
    await world.run()
    await world.tell("c1")
    count = tmp_path / "count"
    script = f"""
import os
total = 0
while True:
    total += os.write(1, bytes(65536))
    with open({str(count)!r}, "w") as file: file.write(str(total))
"""
    sizes: list[str] = []

    def stopped() -> bool:
        sizes.append(count.read_text() if count.exists() else "")
        return len(sizes) > 40 and sizes[-1] != "" and len(set(sizes[-40:])) == 1

    async with world.connect(
        "exec", "v5.channel.k8s.io", command=("python3", "-c", script), **ALL
    ) as connection:
        wire(connection).pause_reading()
        await until(stopped, "it to be held up")
        assert int(sizes[-1]) < 4 << 20
        wire(connection).resume_reading()


# --- what is refused ------------------------------------------------------------------------------

WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Protocol": "v5.channel.k8s.io",
}
COMPLETED = "cannot exec into a container in a completed pod; current phase is Succeeded"
CHOICE = "a container name must be specified for pod pod, choose one of: [c1 c2]"


@pytest.mark.parametrize(
    ("path", "phase", "message"),
    [
        ("exec?container=c1&stdout=1", "Running", "you must specify at least 1 command"),
        ("exec?container=c1&command=ls", "Running", "at least 1 of stdin, stdout, stderr"),
        ("exec?command=ls&stdout=1", "Running", CHOICE),
        ("exec?command=ls&stdout=perhaps", "Running", "stdout: Invalid value"),
        ("exec?container=c9&command=ls&stdout=1", "Running", "container c9 is not valid"),
        ("exec?container=c2&command=ls&stdout=1", "Running", 'container not found ("c2")'),
        ("exec?container=c1&command=ls&stdout=1", "Succeeded", COMPLETED),
        ("attach?container=c1&stdout=1", "Failed", "cannot attach to a container in a completed"),
        ("attach?stdout=1", "Running", CHOICE),
        ("attach?container=c1&stdout=1&tty=1", "Running", "no terminal"),
        ("portforward?ports=80", "Pending", "pod is not running. Current status=Pending"),
        ("portforward?ports=80,x", "Running", '"x" is no port'),
        ("portforward?ports=70000", "Running", '"70000" is no port'),
        ("portforward", "Running", "at least one port"),
    ],
)
async def test_a_refusal_comes_before_the_upgrade(
    bare: World, path: str, phase: str, message: str
) -> None:
    await bare.tell("c1", "c2", phase=phase, waiting=("c2",))
    reply = await bare.api.ask(f"{POD}/{path}", headers=WEBSOCKET)
    code, reason, text = reply.refusal
    assert (code, reason) == (400, "BadRequest")
    assert message in text


@pytest.mark.parametrize(
    ("headers", "code", "message"),
    [
        ({}, 400, "Upgrade request required"),
        ({"Connection": "Upgrade", "Upgrade": "h2c"}, 400, "Upgrade request required"),
        (WEBSOCKET | {"Sec-WebSocket-Protocol": "chat"}, 400, "chat"),
        (WEBSOCKET | {"Sec-WebSocket-Key": "short"}, 400, "handshake"),
        ({"Connection": "Upgrade", "Upgrade": "SPDY/3.1"}, 403, "unable to negotiate protocol"),
    ],
)
async def test_who_cannot_speak_is_told_so(
    bare: World, headers: dict[str, str], code: int, message: str
) -> None:
    await bare.tell("c1")
    path = f"{POD}/exec?command=ls&stdout=1"
    reply = await bare.api.ask(path, "POST" if "SPDY" in str(headers) else "GET", headers=headers)
    assert reply.code == code
    assert message in reply.refusal[2]


async def test_who_offers_no_words_is_told_so_in_words(bare: World) -> None:
    await bare.tell("c1")
    reader, writer = await asyncio.open_unix_connection(f"{bare.api.folder}/api.sock")
    headers = WEBSOCKET | {"Host": "localhost", "Sec-WebSocket-Protocol": "\udcff"}
    lines = [f"{name}: {value}" for name, value in headers.items()]
    request = [f"GET {POD}/exec?command=ls&stdout=1 HTTP/1.1", *lines, "", ""]
    writer.write("\r\n".join(request).encode(errors="surrogateescape"))
    assert b" 400 " in await reader.readline()
    writer.close()


async def test_a_pod_that_is_not_there_has_no_streams(bare: World) -> None:
    for what in ("exec?command=ls&stdout=1", "attach?stdout=1", "portforward?ports=1", "proxy/"):
        reply = await bare.api.ask(f"{POD}/{what}", headers=WEBSOCKET)
        assert reply.refusal == (404, "NotFound", 'pods "pod" not found')


# --- attach ---------------------------------------------------------------------------------------


async def test_attach_shows_what_is_said_from_then_on_and_passes_stdin(world: World) -> None:
    script = "echo before; while read line; do echo got $line; echo oh >&2; done; echo over"
    spec = await world.run("sh", "-c", script, stdin=True)
    await world.tell("c1", c1={"stdin": True})
    await world.node.logged(spec, b"before")
    async with world.connect("attach", "v4.channel.k8s.io", **ALL) as connection:
        await connection.send_bytes(bytes([STDIN]) + b"this\n")
        await world.node.logged(spec, b"oh")
        world.api.logs.grown()
        said = await some(connection, STDOUT, b"got this\n")
        assert b"before" not in said
    # Who leaves takes nothing with him: the main is there for the next one.
    async with world.connect("attach", "v4.channel.k8s.io", **ALL) as connection:
        await connection.send_bytes(bytes([STDIN]) + b"that\n")
        await world.node.logged(spec, b"got that")
        world.api.logs.grown()
        assert await some(connection, STDOUT, b"\n") == b"got that\n"
        world.node.runtime.signal(spec.id, 9)
        await world.node.exit(spec)
        await world.tell("c1", ended=("c1",))
        rest = await everything(connection)
    assert json.loads(rest[ERROR]) == {"metadata": {}, "status": "Success"}


# --- port-forward ---------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def shouting(host: str = "127.0.0.1") -> AsyncIterator[int]:
    """A server that says in capitals what it has heard when it has heard all."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data.upper())
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, host, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@on_both_loops
async def test_ports_are_forwarded_side_by_side(bare: World) -> None:
    await bare.tell("c1")
    async with shouting() as one, shouting() as two:
        closed = free_port()
        ports = (f"{one},{two}", closed)
        async with bare.connect("portforward", "v5.channel.k8s.io", ports=ports) as connection:
            for channel, word in ((2, b"two" * 100_000), (0, b"one")):
                await connection.send_bytes(bytes([channel]) + word)
            for channel in (0, 2):
                await connection.send_bytes(bytes([CLOSE, channel]))
            said = await everything(connection)
    heads = [port.to_bytes(2, "little") for port in (one, two, closed)]
    assert said[0] == heads[0] + b"ONE"
    assert said[2] == heads[1] + b"TWO" * 100_000
    assert (said[1], said[3], said[4]) == (heads[0], heads[1], heads[2])
    assert said[5].startswith(heads[2] + f"error forwarding port {closed} to pod".encode())


class _Late:
    """A client of one forwarded connection that says more in the moment in which that has gone."""

    half_closes = True

    def __init__(self, port: int) -> None:
        self.port = port
        self.gone: Callable[[], bool] = bool
        self.clean: bool | None = None

    async def receive(self) -> bytes:
        while not self.gone():
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        return b"more"

    async def finish(self, *, clean: bool) -> None:
        self.clean = clean


@on_both_loops
async def test_a_pod_that_resets_a_connection_ends_no_other(
    nothing_left: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken = writer.get_extra_info("socket")
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    connect = asyncio.open_connection

    async def connected(*args: Any, **options: Any) -> Any:
        reader, writer = await connect(*args, **options)
        late.gone = writer.transport.is_closing
        return reader, writer

    server = await asyncio.start_server(reset, "127.0.0.1", 0)
    monkeypatch.setattr(asyncio, "open_connection", connected)
    async with server:
        late = _Late(server.sockets[0].getsockname()[1])
        with anyio.fail_after(PATIENCE):
            await streams._forward(late, "127.0.0.1", "pod ns/pod")  # type: ignore[arg-type]
    assert late.clean is False


@pytest.mark.skipif(not os.path.exists("/proc/net/if_inet6"), reason="IPv6 is switched off here")
@on_both_loops
async def test_what_listens_on_the_loopback_of_ipv6_alone_is_forwarded_to(bare: World) -> None:
    """Where `localhost` is ::1, the servers that developers start listen there."""
    await bare.tell("c1")
    async with (
        shouting("::1") as port,
        bare.connect("portforward", "v5.channel.k8s.io", ports=port) as connection,
    ):
        await connection.send_bytes(b"\x00hello")
        await connection.send_bytes(bytes([CLOSE, 0]))
        said = await everything(connection)
    head = port.to_bytes(2, "little")
    assert (said[0], said[1]) == (head + b"HELLO", head)


async def test_forwarded_connections_end_with_their_client(bare: World) -> None:
    await bare.tell("c1")
    ended = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        ended.set()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with bare.connect("portforward", ports=port) as connection:
            await some(connection, 0, b"hello")
            await _hang_up(connection)
            with anyio.fail_after(PATIENCE):
                await ended.wait()


# --- proxy ----------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def mirror(context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """An HTTP server that tells what it was asked."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/moved":
            return web.Response(status=302, headers={"Location": "/there"})
        if request.path == "/nothing":
            return web.Response(status=204)
        if request.path == "/cut":
            response = web.StreamResponse(headers={"Content-Length": "100"})
            await response.prepare(request)
            await response.write(b"x" * 10)
            assert request.transport is not None
            request.transport.close()
            return response
        body = 0
        async for piece in request.content.iter_any():
            body += len(piece)
        told = {
            "method": request.method,
            "path": request.raw_path,
            "headers": {key.lower(): value for key, value in request.headers.items()},
            "body": body,
        }
        return web.json_response(
            told, status=418, headers={"X-Mine": "1", "Keep-Alive": "timeout=5"}
        )

    server = web.Server(answer, access_log=None)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0, ssl=context)
    async with listening:
        yield listening.sockets[0].getsockname()[1]
        await server.shutdown(1.0)


async def test_a_request_is_passed_on_as_it_was_made(bare: World) -> None:
    async with mirror() as port:
        await bare.tell("c1", c1={"ports": [{"name": "web", "containerPort": port}]})
        for name in (f"pod:{port}", "pod", "pod:web", f"http:pod:{port}"):
            reply = await bare.api.ask(
                f"/api/v1/namespaces/ns/pods/{name}/proxy/a/b%2Fc?q=%20x",
                "PUT",
                data=io.BytesIO(b"y" * 5_000_000),
                headers={
                    "Authorization": "Bearer secret",
                    "Connection": "X-Hop",
                    "X-Hop": "1",
                    "X-Kept": "1",
                },
            )
            assert reply.code == 418, reply.text
            assert reply.headers["X-Mine"] == "1"
            assert "Keep-Alive" not in reply.headers
            told = reply.json
            assert (told["method"], told["path"]) == ("PUT", "/a/b%2Fc?q=%20x")
            assert told["body"] == 5_000_000
            assert told["headers"]["x-kept"] == "1"
            assert not {"authorization", "x-hop"} & told["headers"].keys()
        path = f"/api/v1/namespaces/ns/pods/pod:{port}/proxy"
        head = await bare.api.ask(path, "HEAD")
        assert (head.code, head.content) == (418, b"")
        preflight = (await bare.api.ask(path, "OPTIONS")).json  # of a page in a browser
        assert (preflight["method"], preflight["path"]) == ("OPTIONS", "/")
        assert (await bare.api.ask(path)).json["path"] == "/"
        moved = await bare.api.ask(f"{path}/moved", allow_redirects=False)
        assert moved.headers["Location"] == f"{path}/there"
        assert (await bare.api.ask(f"{path}/nothing")).code == 204
        with pytest.raises(aiohttp.ClientError):
            await bare.api.ask(f"{path}/cut")


async def test_a_pod_that_speaks_tls_is_asked_so(bare: World, tmp_path: Any) -> None:
    await bare.tell("c1")
    async with mirror(auth.credentials(str(tmp_path)).context) as port:
        for name, code in ((f"https:pod:{port}", 418), (f"pod:{port}", 503)):
            reply = await bare.api.ask(f"/api/v1/namespaces/ns/pods/{name}/proxy/")
            assert reply.code == code, reply.text


@contextlib.asynccontextmanager
async def chat(context: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[str]]]:
    """A server that gives back what it hears over a WebSocket, and to others says what it is.

    Also what it was asked with, and of whom it has seen the end.
    """
    seen: list[str] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(f"{request.raw_path} {request.headers.get('Authorization')}")
        socket = web.WebSocketResponse(protocols=("chat",), max_msg_size=0)
        if request.path == "/refused":
            return web.Response(status=401, text="not you")
        await socket.prepare(request)
        async for message in socket:
            if message.data == b"end":
                break
            await socket.send_bytes(message.data)
        await socket.close()
        seen.append("end")
        return socket

    server = web.Server(answer, access_log=None)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0, ssl=context)
    async with listening:
        yield listening.sockets[0].getsockname()[1], seen
        await server.shutdown(1.0)


@on_both_loops
@pytest.mark.parametrize("scheme", ["", "https:"])
async def test_a_websocket_goes_through_the_proxy(bare: World, tmp_path: Any, scheme: str) -> None:
    await bare.tell("c1")
    context = auth.credentials(str(tmp_path)).context if scheme else None
    async with chat(context) as (port, seen):
        path = f"/api/v1/namespaces/ns/pods/{scheme}pod:{port}/proxy"

        def connect(what: str) -> Any:
            url = f"{bare.api.base}{path}{what}"
            secret = {"Authorization": "Bearer secret"}
            return bare.api.client.ws_connect(
                url, protocols=("chat",), headers=secret, max_msg_size=0
            )

        async with connect("/a%2Fb?q=1") as socket:
            assert socket.protocol == "chat"
            for sent in (b"hello", os.urandom(3_000_000)):
                await socket.send_bytes(sent)
                assert await socket.receive_bytes(timeout=PATIENCE) == sent
            await socket.send_bytes(b"end")
            assert (await socket.receive(timeout=PATIENCE)).type is WSMsgType.CLOSE
        await until(lambda: seen[-1] == "end", "its end")
        assert seen == ["/a%2Fb?q=1 None", "end"], "our token is not passed on"
        async with connect("/") as socket:
            await socket.send_bytes(b"hello")
            await socket.receive_bytes(timeout=PATIENCE)
            wire(socket).abort()
            await until(lambda: seen[-1] == "end", "the end to be passed on")
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await connect("/refused")
        assert refused.value.status == 401


async def test_who_waits_to_be_asked_for_a_body_is_asked_once_the_pod_is_reached(
    bare: World,
) -> None:
    await bare.tell("c1")

    async def post(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
        path = f"/api/v1/namespaces/ns/pods/pod:{port}/proxy/"
        reader, writer = await asyncio.open_unix_connection(f"{bare.api.folder}/{auth.SOCKET}")
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        head += "Expect: 100-continue\r\nContent-Length: 4\r\n\r\n"
        writer.write(head.encode())
        return reader, writer, await reader.readuntil(b"\r\n\r\n")

    async with mirror() as port:
        with anyio.fail_after(PATIENCE):
            reader, writer, first = await post(port)
            assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"body")
            answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 418 ")
        assert json.loads(answer.partition(b"{")[1] + answer.partition(b"{")[2])["body"] == 4
    with anyio.fail_after(PATIENCE):
        _, writer, first = await post(free_port())
    writer.close()
    assert first.startswith(b"HTTP/1.1 503 ")


async def test_where_nobody_listens_the_proxy_says_so(bare: World) -> None:
    await bare.tell("c1")
    reply = await bare.api.ask(f"/api/v1/namespaces/ns/pods/pod:{free_port()}/proxy/")
    assert reply.refusal[:2] == (503, "ServiceUnavailable")
    assert "127.0.0.1" in reply.refusal[2]
    for name in ("pod:nope", "pod:0", "ftp:pod:80", "a:b:c:d"):
        reply = await bare.api.ask(f"/api/v1/namespaces/ns/pods/{name}/proxy/")
        assert reply.refusal[:2] == (400, "BadRequest")


async def test_the_node_tells_of_its_pods(bare: World) -> None:
    await bare.tell("c1")
    await bare.api.store.edit(edit("nodes", "here", {"kind": "Node", "apiVersion": "v1"}, ""))
    pods = (await bare.api.ask("/api/v1/nodes/here/proxy/pods")).json
    assert [item["metadata"]["name"] for item in pods["items"]] == ["pod"]
    assert (await bare.api.ask("/api/v1/nodes/here/proxy/healthz")).text == "ok"
    assert (await bare.api.ask("/api/v1/nodes/here/proxy/logs")).code == 404
    assert (await bare.api.ask("/api/v1/nodes/there/proxy/pods")).code == 404
