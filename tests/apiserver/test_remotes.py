"""The wires of exec and port-forward, spoken to the byte, by clients good and bad."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import pty
import random
import socket
import zlib
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, Self

import aiohttp
import anyio
import pytest
from aiohttp import web
from yarl import URL

from supervisor.apiserver import auth, remotes, spdy, streams, wires
from supervisor.apiserver.server import Server
from supervisor.apiserver.streams import Streams, _write
from supervisor.apiserver.wires import GoneError
from supervisor.errors import NodeError
from supervisor.lifecycle.facts import ContainerId
from supervisor.runtime.cri import ExecError
from tests.apiserver.served import PATIENCE, FakeNode, edit, served
from tests.runtime.conftest import _warm_loops, nothing_left

__all__ = ["_warm_loops", "nothing_left"]
pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("nothing_left")]

BASE = "/api/v1/namespaces/default/pods"
CAT = f"{BASE}/web/exec?container=app&command=cat&stdin=1&stdout=1&stderr=1"
TTY = f"{CAT}&tty=1"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Echo:
    """A program that says what it hears and ends with its input; `deaf`: hears nothing."""

    def __init__(self, runtime: Runtime, *, deaf: bool) -> None:
        self.runtime = runtime
        self.heard, self.stdin = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.stdout = os.dup(self.heard)
        self.said = -1
        if deaf:
            os.close(self.stdout)
            self.stdout, self.said = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.stderr = -1
        self.ended = anyio.Event()
        self.sizes: list[tuple[int, int]] = []

    async def wait(self) -> int:
        await self.ended.wait()
        return self.runtime.code

    def close_stdin(self) -> None:
        if self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = -1
            self.ended.set()

    def resize(self, columns: int, rows: int) -> None:
        self.sizes.append((columns, rows))

    async def __aenter__(self) -> Self:
        self.runtime.running.add(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.runtime.running.discard(self)
        for fd in (self.stdin, self.stdout, self.heard, self.said):
            if fd >= 0:
                os.close(fd)


class Runtime:
    def __init__(self) -> None:
        self.code = 0
        self.deaf = False
        self.running: set[Echo] = set()
        self.begun: list[Echo] = []

    async def open_exec(self, id: ContainerId, argv: tuple[str, ...], **_: bool) -> Echo:
        if argv[0] == "no-node":
            raise NodeError("the launcher has died")
        if argv[0] != "cat":
            raise ExecError(f'exec: "{argv[0]}": executable file not found in $PATH')
        self.begun.append(Echo(self, deaf=self.deaf))
        return self.begun[-1]


class World:
    def __init__(self, port: int, runtime: Runtime, node: FakeNode) -> None:
        self.port, self.runtime, self.node = port, runtime, node
        self.url = f"http://127.0.0.1:{port}"


@pytest.fixture
async def world(nothing_left: None) -> AsyncIterator[World]:
    async with served() as api:
        status = {
            "phase": "Running",
            "podIP": "127.0.0.1",
            "containerStatuses": [
                {"name": "app", "containerID": "podvisor://uid-web/app/0", "state": {"running": {}}}
            ],
        }
        body = {"spec": {"containers": [{"name": "app"}]}, "status": status}
        await api.store.edit(edit("pods", "web", body))
        done = {**body, "status": {"phase": "Succeeded"}}
        await api.store.edit(edit("pods", "done", done))
        runtime = Runtime()
        streams = Streams(api.cache, runtime, api.logs)  # type: ignore[arg-type]
        server = Server(api.cache, api.registry, api.logs, node=api.node, streams=streams)  # type: ignore[arg-type]
        listener = auth.listen_http("127.0.0.1:0")
        port = listener.getsockname()[1]
        await server.open(listener, auth.gate_of(listener))
        yield World(port, runtime, api.node)
        await server.close()
        await streams.close()
        assert not runtime.running, "a program is left"


async def until(condition: Callable[[], object], what: str) -> None:
    with anyio.fail_after(PATIENCE):
        while not condition():
            await anyio.sleep(0.01)


# --- SPDY, from the client's side -----------------------------------------------------------------


class Frames:
    """What a client sends."""

    def __init__(self) -> None:
        self.pack = zlib.compressobj(zdict=spdy.DICTIONARY)

    def control(self, kind: int, body: bytes, flags: int = 0) -> bytes:
        head = b"\x80\x03" + kind.to_bytes(2, "big") + bytes([flags])
        return head + len(body).to_bytes(3, "big") + body

    def open(self, stream: int, **headers: str) -> bytes:
        words = [word.encode() for pair in headers.items() for word in pair]
        plain = len(headers).to_bytes(4, "big")
        plain += b"".join(len(word).to_bytes(4, "big") + word for word in words)
        packed = self.pack.compress(plain) + self.pack.flush(zlib.Z_SYNC_FLUSH)
        return self.control(1, stream.to_bytes(4, "big") + bytes(6) + packed)

    def data(self, stream: int, data: bytes, *, end: bool = False) -> bytes:
        return stream.to_bytes(4, "big") + bytes([end]) + len(data).to_bytes(3, "big") + data


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.heard: dict[int, bytearray] = {}
        self.ended: set[int] = set()
        self.reset: set[int] = set()

    async def hear(self, condition: Callable[[], object]) -> None:
        """Take frames until that is so."""
        with anyio.fail_after(PATIENCE):
            while not condition():
                head = await self.reader.readexactly(8)
                body = await self.reader.readexactly(int.from_bytes(head[5:8], "big"))
                if head[0] < 0x80:
                    stream = int.from_bytes(head[:4], "big")
                    self.heard.setdefault(stream, bytearray()).extend(body)
                    if head[4] & 1:
                        self.ended.add(stream)
                elif head[3] == 3:
                    self.reset.add(int.from_bytes(body[:4], "big"))


@contextlib.asynccontextmanager
async def upgraded(world: World, path: str, protocol: str) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    try:
        lines = (
            f"POST {path} HTTP/1.1",
            f"Host: 127.0.0.1:{world.port}",
            "Connection: Upgrade",
            "Upgrade: SPDY/3.1",
            f"X-Stream-Protocol-Version: {protocol}",
        )
        writer.write("\r\n".join((*lines, "", "")).encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        assert head.startswith(b"HTTP/1.1 101"), head
        assert protocol.encode() in head
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


def announced(frames: Frames) -> bytes:
    """The streams of an exec: 1 error, 3 stdin, 5 stdout, 7 stderr."""
    kinds = {1: "error", 3: "stdin", 5: "stdout", 7: "stderr"}
    return b"".join(frames.open(number, streamtype=kind) for number, kind in kinds.items())


async def test_megabytes_pass_over_spdy_both_ways_and_an_exit_code_ends_it(world: World) -> None:
    world.runtime.code = 7
    sent = os.urandom(1 << 16) * 32
    async with upgraded(world, CAT, "v4.channel.k8s.io") as client:
        frames = Frames()
        client.writer.write(announced(frames))
        for at in range(0, len(sent), 40_000):
            client.writer.write(frames.data(3, sent[at : at + 40_000]))
        client.writer.write(frames.data(3, b"", end=True))
        await client.hear(lambda: {1, 5, 7} <= client.ended)
    assert client.heard[5] == sent
    status = json.loads(client.heard[1])
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "7"}]


@pytest.mark.parametrize(
    ("protocol", "encode"),
    [("v5.channel.k8s.io", False), ("channel.k8s.io", False), ("base64.channel.k8s.io", True)],
)
async def test_a_websocket_carries_input_sizes_and_a_last_word(
    world: World, protocol: str, encode: bool
) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{world.url}{CAT}", protocols=(protocol,)) as ws,
    ):
        assert ws.protocol == protocol
        size, words = b'{"Width":80,"Height":25}', b"hello\n"
        if encode:
            await ws.send_str("4" + base64.b64encode(size).decode())
            await ws.send_str("0" + base64.b64encode(words).decode())
            answer = await ws.receive_str(timeout=PATIENCE)
            assert (answer[0], base64.b64decode(answer[1:])) == ("1", words)
        else:
            await ws.send_bytes(b"\x04" + size)
            await ws.send_bytes(b"\x00" + words)
            assert await ws.receive_bytes(timeout=PATIENCE) == b"\x01" + words
        assert world.runtime.begun[0].sizes == [(80, 25)]
        if protocol == "v5.channel.k8s.io":
            await ws.send_bytes(b"\xff\x00")
            last = await ws.receive_bytes(timeout=PATIENCE)
            assert last == b'\x03{"metadata":{},"status":"Success"}'


# --- ports ----------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[int]:
    """A server that gives back all it has read, once nothing more comes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def connection(frames: Frames, first: int, port: int, sent: bytes) -> list[bytes]:
    """Two streams, `first` for errors, and all that is said on them."""
    about = {"port": str(port), "requestid": str(first)}
    return [
        frames.open(first, streamtype="error", **about),
        frames.control(9, first.to_bytes(4, "big") + bytes(4)),  # WINDOW_UPDATE
        frames.data(first, b"", end=True),
        frames.open(first + 2, streamtype="data", **about),
        frames.data(first + 2, sent),
        frames.data(first + 2, b"", end=True),
    ]


async def test_connections_are_forwarded_beside_each_other_with_an_end_each_way(
    world: World,
) -> None:
    sent = [os.urandom(300_000), b"", b"short"]
    async with (
        listening() as port,
        upgraded(world, f"{BASE}/web/portforward", "portforward.k8s.io") as client,
    ):
        frames = Frames()
        for number, data in enumerate(sent):
            client.writer.writelines(connection(frames, 1 + 4 * number, port, data))
        await client.hear(lambda: {1, 3, 5, 7, 9, 11} <= client.ended)
    assert [bytes(client.heard[number]) for number in (3, 7, 11)] == sent
    assert not any(client.heard[number] for number in (1, 5, 9)), "no errors"


async def test_a_pod_that_says_no_more_is_still_spoken_to(world: World) -> None:
    heard = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")
        writer.write_eof()
        heard.set_result(await reader.read())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with (
        server,
        upgraded(world, f"{BASE}/web/portforward", "portforward.k8s.io") as client,
    ):
        frames = Frames()
        *opened, said, end = connection(frames, 1, server.sockets[0].getsockname()[1], b"more")
        client.writer.writelines(opened)
        await client.hear(lambda: 3 in client.ended)
        client.writer.writelines((said, end))
        assert await asyncio.wait_for(heard, PATIENCE) == b"more"
    assert client.heard[3] == b"bye"


async def test_a_connection_that_its_server_does_not_read_holds_up_no_other(world: World) -> None:
    async with (
        listening() as port,
        deaf() as other,
        upgraded(world, f"{BASE}/web/portforward", "portforward.k8s.io") as client,
    ):
        frames = Frames()
        client.writer.writelines(connection(frames, 1, other, b""))
        client.writer.writelines(connection(frames, 5, other, b"x" * (1 << 20))[:-1])
        for _ in range(7):
            client.writer.write(frames.data(7, bytes(1 << 20)))
        client.writer.writelines(connection(frames, 9, port, b"hello"))
        await client.hear(lambda: {9, 11} <= client.ended)
    assert client.heard[11] == b"hello"


@contextlib.asynccontextmanager
async def deaf() -> AsyncIterator[int]:
    """A server that nobody calls to the connections that come: the kernel takes little of them."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


async def test_a_port_where_nobody_listens_is_said_on_the_error_stream(world: World) -> None:
    async with upgraded(world, f"{BASE}/web/portforward", "portforward.k8s.io") as client:
        client.writer.writelines(connection(Frames(), 1, 1, b"hello"))
        await client.hear(lambda: {1, 3} <= client.ended)
    assert b"error forwarding port 1 to pod default/web" in client.heard[1]


@pytest.mark.parametrize("bound", ["own", "all"])
async def test_one_connection_too_many_is_refused_on_its_error_stream_and_costs_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    if bound == "own":
        monkeypatch.setattr(streams, "_FORWARDED_MAX", 2)
    else:
        monkeypatch.setattr(streams.door, "share", lambda: 2)
    words = {"own": b"this client has 2 connections", "all": b"all clients together have 2"}

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(5):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with (
        server,
        upgraded(world, f"{BASE}/web/portforward", "portforward.k8s.io") as client,
    ):
        frames = Frames()
        first, second = (connection(frames, number, port, b"hello") for number in (1, 5))
        client.writer.writelines((*first[:-1], *second[:-1]))
        await client.hear(lambda: client.heard.get(3) == client.heard.get(7) == b"hello")
        client.writer.writelines(connection(frames, 9, port, b"hello"))
        await client.hear(lambda: {9, 11} <= client.ended)
        assert words[bound] in client.heard[9]
        assert not client.heard[11]
        client.writer.write(second[-1])
        await client.hear(lambda: {5, 7} <= client.ended)
        number = 13
        with anyio.fail_after(PATIENCE):
            while client.heard.get(number + 2) != b"hello":  # it may be told before there is room
                number += 4
                client.writer.writelines(connection(frames, number, port, b"hello"))
                both = {number, number + 2}
                await client.hear(lambda both=both: both <= client.ended)  # type: ignore[misc]
        client.writer.write(first[-1])
        await client.hear(lambda: {1, 3} <= client.ended)
    assert (client.heard[3], client.heard[1]) == (b"hello", b"")


async def test_half_connections_that_were_given_up_make_room_for_others(world: World) -> None:
    async with upgraded(world, f"{BASE}/web/portforward", "portforward.k8s.io") as client:
        frames = Frames()
        numbers = range(1, 2 * remotes._HALVES_MAX + 2, 2)
        for number in numbers:
            about = {"streamtype": "error", "port": "1", "requestid": str(number)}
            client.writer.write(frames.open(number, **about))
        await client.hear(lambda: client.reset == {numbers[-1]})
        for number in numbers[:-1]:
            client.writer.write(frames.control(3, number.to_bytes(4) + (5).to_bytes(4)))
        first = numbers[-1] + 2
        client.writer.writelines(connection(frames, first, 1, b"hello"))
        await client.hear(lambda: {first, first + 2} <= client.ended)


async def test_a_number_that_is_no_port_costs_its_own_streams_only(world: World) -> None:
    async with upgraded(world, f"{BASE}/web/portforward", "portforward.k8s.io") as client:
        frames = Frames()
        for first, port in ((1, "0"), (5, "000000080999"), (9, "1" * 5000), (13, "1")):
            for stream, kind in ((first, "error"), (first + 2, "data")):
                about = {"streamtype": kind, "port": port, "requestid": str(first)}
                client.writer.write(frames.open(stream, **about))
        await client.hear(lambda: {13, 15} <= client.ended)
    assert client.ended == {13, 15}
    assert world.node.bugs == []


async def test_spdy_may_come_in_any_pieces_of_websocket_messages_also_empty_ones(
    world: World,
) -> None:
    heard = bytearray()
    async with (
        listening() as port,
        aiohttp.ClientSession() as session,
        session.ws_connect(
            f"{world.url}{BASE}/web/portforward", protocols=("SPDY/3.1+portforward.k8s.io",)
        ) as ws,
    ):
        said = b"".join(connection(Frames(), 1, port, b"hello"))
        for at in range(0, len(said), 7):
            await ws.send_bytes(said[at : at + 7])
            await ws.send_bytes(b"")
        with anyio.fail_after(PATIENCE):
            while b"hello" not in heard:
                heard += await ws.receive_bytes()


async def test_channels_of_older_clients_begin_with_their_port_and_end_with_the_connection(
    world: World,
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    mark = port.to_bytes(2, "little")
    async with (
        server,
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{world.url}{BASE}/web/portforward?ports={port}") as ws,
    ):
        assert [await ws.receive_bytes() for _ in range(2)] == [b"\0" + mark, b"\1" + mark]
        await ws.send_bytes(b"\0hello\n")
        assert await ws.receive_bytes(timeout=PATIENCE) == b"\0HELLO\n"
        assert (await ws.receive(timeout=PATIENCE)).type is aiohttp.WSMsgType.CLOSE


async def test_requests_are_passed_on_with_their_bodies_and_without_our_token(world: World) -> None:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        assert "Authorization" not in request.headers
        if request.path == "/moved":
            return web.Response(status=302, headers={"Location": "/there"})
        body = await request.read()
        return web.Response(body=body, status=201, headers={"X-Path": request.raw_path})

    server = web.Server(handle)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    place = f"{world.url}{BASE}/web:{port}/proxy"
    sent = os.urandom(1 << 20)

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(sent), 1 << 16):
            yield sent[at : at + (1 << 16)]

    headers = {"Authorization": "Bearer secret"}
    async with aiohttp.ClientSession(headers=headers) as session:
        url = URL(f"{place}/a%2Fb?x=%20y", encoded=True)
        async with session.put(url, data=pieces()) as response:
            assert (response.status, await response.read()) == (201, sent)
            assert response.headers["X-Path"] == "/a%2Fb?x=%20y"
        async with session.get(f"{place}/moved", allow_redirects=False) as response:
            assert response.headers["Location"] == f"{BASE}/web:{port}/proxy/there"
        async with session.get(f"{world.url}{BASE}/web:1/proxy/") as response:
            assert response.status == 503
            assert "error trying to reach service" in (await response.json())["message"]
    listener.close()
    await server.shutdown(1)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        ("/done/exec?command=cat&stdout=1", 400, "completed pod; current phase is Succeeded"),
        ("/web/exec?stdout=1", 400, "at least 1 command"),
        ("/web/exec?command=cat", 400, "at least 1 of stdin, stdout, stderr"),
        ("/web/exec?command=cat&stdout=1&container=x", 400, "container x is not valid for pod web"),
        ("/gone/exec?command=cat&stdout=1", 404, 'pods "gone" not found'),
        ("/web/exec?command=cat&stdout=1", 400, "Upgrade request required"),
        ("/web/portforward?ports=0", 400, '"0" is no port'),
        (f"/web/portforward?ports={'1' * 5000}", 400, "must be between 1 and 65535"),
        ("/done/portforward?ports=80", 400, "Current status=Succeeded"),
        ("/ftp:web:80/proxy/", 400, "only http and https are passed on"),
    ],
)
async def test_what_is_wrong_is_said_before_anything_is_changed(
    world: World, path: str, code: int, words: str
) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{world.url}{BASE}{path}") as response,
    ):
        status = await response.json()
    assert (response.status, status["kind"]) == (code, "Status")
    assert words in status["message"]


@pytest.mark.parametrize(
    ("program", "why"),
    [("no-such", "executable file not found"), ("no-node", "the launcher has died")],
)
async def test_a_program_that_cannot_start_is_the_last_word(
    world: World, program: str, why: str
) -> None:
    url = f"{world.url}{CAT.replace('=cat', f'={program}')}"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, protocols=("v4.channel.k8s.io",)) as ws,
    ):
        said = await ws.receive_bytes(timeout=PATIENCE)
    assert said[0] == 3
    assert why in json.loads(said[1:])["message"]


# --- clients that go, and worse ones --------------------------------------------------------------


async def test_a_client_that_goes_while_nobody_takes_its_input_ends_the_program(
    world: World,
) -> None:
    world.runtime.deaf = True
    async with upgraded(world, CAT, "v4.channel.k8s.io") as client:
        frames = Frames()
        client.writer.write(announced(frames))
        # More than anybody on the way holds: its end does not reach who does not read.
        for _ in range(600):
            client.writer.write(frames.data(3, bytes(1 << 16)))
        await until(lambda: world.runtime.running, "the program")
        left = [-1, client.writer.transport.get_write_buffer_size()]
        while left[-1] != left[-2]:
            await anyio.sleep(0.05)
            left.append(client.writer.transport.get_write_buffer_size())
        assert left[-1] > 0, "it is full"
    await until(lambda: not world.runtime.running, "its end")


async def test_a_client_that_does_not_read_is_heard(world: World) -> None:
    """What it says may be what ends the flood that it does not read."""
    world.runtime.deaf = True
    async with upgraded(world, TTY, "v4.channel.k8s.io") as client:
        frames = Frames()
        for number, kind in ((1, "error"), (3, "stdin"), (5, "stdout"), (7, "resize")):
            client.writer.write(frames.open(number, streamtype=kind))
        await until(lambda: world.runtime.running, "the program")
        (program,) = world.runtime.begun
        while await _flooded(program.said):
            pass
        for columns in (70, 80, 90):
            size = json.dumps({"Width": columns, "Height": 25}).encode()
            client.writer.write(frames.data(7, size))
            await until(lambda columns=columns: (columns, 25) in program.sizes, "its being heard")


async def _flooded(fd: int) -> bool:
    """Whether more is taken of what is written, however long one waits."""
    for _ in range(50):
        with contextlib.suppress(BlockingIOError):
            return bool(os.write(fd, bytes(1 << 16)))
        await anyio.sleep(0.01)
    return False


class Silent:
    """A client of whom nothing is heard."""

    is_gone = False

    def has_gone(self) -> bool:
        return self.is_gone


async def test_who_types_on_a_terminal_after_its_end_waits_for_the_client_only(
    world: World,
) -> None:
    """It is ready all the time, and takes nothing: who believes it goes in circles for ever."""
    ours, theirs = pty.openpty()
    os.close(theirs)
    os.set_blocking(ours, False)
    session, client = SimpleNamespace(stdin=ours), Silent()
    try:
        with anyio.move_on_after(0.1) as scope:  # whoever waits can be told to stop
            await _write(session, bytes(1 << 20), client)  # type: ignore[arg-type]
        assert scope.cancelled_caught
        client.is_gone = True
        with anyio.fail_after(PATIENCE), pytest.raises(GoneError):
            await _write(session, bytes(1 << 20), client)  # type: ignore[arg-type]
    finally:
        os.close(ours)


def test_a_client_that_has_gone_before_it_is_looked_at_has_gone() -> None:
    with socket.socket() as nobodys:
        transport = SimpleNamespace(get_extra_info=lambda _: nobodys)
        watched = wires._Watched(SimpleNamespace(transport=transport))  # type: ignore[arg-type]
        assert watched.has_gone()


class Recorded:
    """A wire on which all has been said."""

    response = None
    has_gone = bool  # never

    def __init__(self, *said: bytes) -> None:
        self.said = list(said)

    async def read(self) -> bytes:
        return self.said.pop(0) if self.said else b""

    async def write(self, data: bytes) -> None: ...

    async def close(self) -> None: ...


async def test_streams_that_are_given_up_are_not_kept_for_who_never_asks(world: World) -> None:
    frames = Frames()
    said = [
        frames.open(number, streamtype="stdin") + frames.control(3, number.to_bytes(4) + bytes(4))
        for number in range(1, 99, 2)
    ]
    async with remotes._Session(Recorded(*said, frames.open(99))) as session:  # type: ignore[arg-type]
        await session.over.wait()
        assert (await session.opened()).headers == {}
        with pytest.raises(GoneError):
            await session.opened()


def mutated(rnd: random.Random, pieces: list[bytes]) -> bytes:
    pieces = list(pieces)
    for _ in range(rnd.randrange(1, 5)):
        place = rnd.randrange(len(pieces))
        piece = bytearray(pieces[place])
        match rnd.randrange(4):
            case 0 if piece:
                piece[rnd.randrange(len(piece))] = rnd.randrange(256)
                pieces[place] = bytes(piece)
            case 1:
                pieces[place] = bytes(piece[: rnd.randrange(len(piece) + 1)])
            case 2:
                pieces.insert(place, rnd.randbytes(rnd.randrange(1, 60)))
            case _:
                pieces.insert(place, pieces[rnd.randrange(len(pieces))])
    return b"".join(pieces)


async def test_nonsense_breaks_nothing_and_leaves_nothing(world: World) -> None:
    rnd = random.Random(1)

    async def exec_over_spdy() -> None:
        async with upgraded(world, CAT, "v4.channel.k8s.io") as client:
            frames = Frames()
            good = [announced(frames), frames.data(3, b"hello\n"), frames.data(3, b"", end=True)]
            client.writer.write(mutated(rnd, good))
            with contextlib.suppress(OSError):
                await client.writer.drain()

    async def forward_over_spdy() -> None:
        path = f"{BASE}/web/portforward"
        async with upgraded(world, path, "portforward.k8s.io") as client:
            frames = Frames()
            good = [
                frames.open(1, streamtype="error", port="1", requestid="0"),
                frames.open(3, streamtype="data", port="1", requestid="0"),
                frames.data(3, b"hello", end=True),
                frames.control(6, (1).to_bytes(4, "big")),
            ]
            client.writer.write(mutated(rnd, good))
            with contextlib.suppress(OSError):
                await client.writer.drain()

    async def exec_over_websocket(session: aiohttp.ClientSession) -> None:
        known = ("v5.channel.k8s.io", "base64.channel.k8s.io")
        messages: list[Any] = [b"", b"\xff\x00", b'\x04{"Width":-1,"Height":1e99}', b"\x04[", "?"]
        messages.append(b"\x04" + b"[" * 60_000)
        messages += [rnd.randbytes(rnd.randrange(99)) for _ in range(3)]
        rnd.shuffle(messages)
        async with session.ws_connect(f"{world.url}{CAT}", protocols=(rnd.choice(known),)) as ws:
            with contextlib.suppress(OSError, RuntimeError):
                for message in messages:
                    send = ws.send_str if isinstance(message, str) else ws.send_bytes
                    await send(message)

    async with aiohttp.ClientSession() as session:
        for _ in range(40):
            await exec_over_spdy()
            await forward_over_spdy()
            await exec_over_websocket(session)
    await until(lambda: not world.runtime.running, "the end of all programs")
    assert world.node.bugs == []
