"""Connections that were a request: WebSocket, and whatever else HTTP was left for.

What is said over them is others' matter (remotes.py; of proxied requests, client and pod alone know
it). Here it is messages and bytes: each direction waits for its reader, what comes before it is
wanted is bounded, and whether the other side still lives can be asked without reading from it.

    open_websocket  answers a request for a WebSocket: a `Socket` of messages
    switched        answers a request for another protocol: a `RawWire`, the bytes behind its head
    pass_through    gives a client what another server has switched to, until either of them ends

A `GoneError` says that the client has hung up, or speaks another language than it said.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket as _net
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

import anyio
from aiohttp import ClientResponse, WSMsgType, web
from aiohttp.http import StreamWriter
from multidict import CIMultiDict

from supervisor.apiserver.contract import bad_request

HELD = 256 << 10  # bytes that are taken from a client before whom they are for takes them
FAREWELL = 2.0  # seconds for the client's own end
# Bytes of a WebSocket message: what other servers take. Python's clients put whole files into one.
_MESSAGE_MAX = 32 << 20


class GoneError(Exception):
    """Nobody is there any more to talk to."""


def upgrade_of(request: web.BaseRequest) -> str:
    """The protocol that is asked for instead of HTTP; empty: none."""
    if "upgrade" not in request.headers.get("Connection", "").lower():
        return ""
    return request.headers.get("Upgrade", "").strip()


def offered(request: web.BaseRequest, header: str) -> list[str]:
    """The words of a header that lists some."""
    lines = request.headers.getall(header, ())
    return [word.strip() for line in lines for word in line.split(",") if word.strip()]


class Wire(Protocol):
    """Bytes to and from a client, whatever they are wrapped in."""

    response: web.StreamResponse
    has_gone: Callable[[], bool]

    async def read(self) -> bytes:
        """Empty at the end."""
        ...

    async def write(self, data: bytes) -> None:
        """Raises GoneError."""
        ...

    async def close(self) -> None: ...


class _Watched:
    """Whether the other side of a socket still lives, though it is not read from.

    The end of a client that was sending comes after all that it had sent, so it is not seen by who
    does not read. But the other end of its connection is on this machine, too: the kernel tells.
    """

    def __init__(self, request: web.BaseRequest) -> None:
        transport = request.transport
        found = transport.get_extra_info("socket") if transport is not None else None
        self._fd, self._table, self._ends = -1, "", ("", "")
        if found is not None:
            self._fd = found.fileno()
            if found.family in _TABLES:
                # Of the client's end: its own port, then ours, as the table has them.
                with contextlib.suppress(OSError):  # it has gone already, which is seen soon enough
                    ends = (found.getpeername()[1], found.getsockname()[1])
                    self._ends = (f":{ends[0]:04X}", f":{ends[1]:04X}")
                    self._table = _TABLES[found.family]

    def has_gone(self) -> bool:
        if self._fd < 0:
            return True
        poller = select.poll()
        poller.register(self._fd, select.POLLRDHUP)
        if poller.poll(0):
            return True
        try:
            with open(self._table or "/dev/null", encoding="ascii") as table:
                states = [words[3] for line in table if self._is_clients(words := line.split())]
        except OSError:  # no descriptor to be had
            return False
        return bool(self._table) and _ESTABLISHED not in states

    def _is_clients(self, words: list[str]) -> bool:
        return words[1].endswith(self._ends[0]) and words[2].endswith(self._ends[1])


_TABLES = {_net.AF_INET: "/proc/net/tcp", _net.AF_INET6: "/proc/net/tcp6"}
_ESTABLISHED = "01"


# --- WebSocket ------------------------------------------------------------------------------------


class Socket:
    """A WebSocket, as far as it is used here."""

    def __init__(self, response: web.WebSocketResponse, protocol: str, watched: _Watched) -> None:
        self.response, self.protocol = response, protocol
        self.has_gone = watched.has_gone

    async def receive(self) -> bytes:
        try:
            message = await self.response.receive()
        except (OSError, RuntimeError) as error:
            raise GoneError from error
        if message.type is WSMsgType.BINARY:
            return bytes(message.data)
        if message.type is WSMsgType.TEXT:
            return str(message.data).encode("utf-8", "replace")
        raise GoneError

    async def send(self, data: bytes | str) -> None:
        try:
            if isinstance(data, str):
                await self.response.send_str(data)
            else:
                await self.response.send_bytes(data)
        except (OSError, RuntimeError) as error:
            raise GoneError from error

    async def close(self) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            await self.response.close()


async def open_websocket(
    request: web.BaseRequest, known: tuple[str, ...], *, default: str = ""
) -> Socket:
    names = offered(request, "Sec-WebSocket-Protocol")
    if names and not set(names) & set(known):
        raise bad_request(f"none of these subprotocols is spoken here: {names}")
    response = web.WebSocketResponse(
        protocols=known, max_msg_size=_MESSAGE_MAX, compress=False, timeout=FAREWELL
    )
    watched = _Watched(request)
    if not response.can_prepare(request).ok:
        raise bad_request("the WebSocket handshake is wrong")
    await response.prepare(request)
    return Socket(response, response.ws_protocol or default, watched)


class WebSocketWire:
    """Pieces of any size in messages; an empty one is nothing, and not the end."""

    def __init__(self, socket: Socket) -> None:
        self.response: web.StreamResponse = socket.response
        self._socket = socket
        self.has_gone = socket.has_gone

    async def read(self) -> bytes:
        try:
            while not (data := await self._socket.receive()):
                pass
        except GoneError:
            return b""
        return data

    async def write(self, data: bytes) -> None:
        await self._socket.send(data)

    async def close(self) -> None:
        await self._socket.close()


# --- bytes ----------------------------------------------------------------------------------------


class _Raw:
    """What comes over a connection whose HTTP is over.

    It stands where aiohttp has its parser of WebSockets (feed_data, feed_eof, set_exception).
    """

    def __init__(self, transport: asyncio.Transport | None) -> None:
        self._transport = transport
        self._parts: deque[bytes] = deque()
        self._size = 0
        self._ended = self._paused = False
        self._news = asyncio.Event()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._parts.append(data)
        self._size += len(data)
        if self._size > HELD and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._news.set()
        return False, b""

    def feed_eof(self) -> None:
        self._ended = True
        self._news.set()

    def set_exception(self, *_: object) -> None:
        self.feed_eof()

    async def read(self) -> bytes:
        while not self._parts:
            if self._ended:
                return b""
            self._news.clear()
            await self._news.wait()
        data = self._parts.popleft()
        self._size -= len(data)
        if self._paused and self._size <= HELD // 2 and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data


class RawWire(_Raw):
    """The client's connection, behind the head of its request."""

    def __init__(self, response: web.StreamResponse, request: web.BaseRequest) -> None:
        super().__init__(request.transport)
        self.response = response
        self.has_gone = _Watched(request).has_gone
        request.protocol.set_parser(self)  # type: ignore[arg-type]

    async def write(self, data: bytes) -> None:
        try:
            await self.response.write(data)
        except (OSError, RuntimeError) as error:
            raise GoneError from error

    async def close(self) -> None:
        """aiohttp closes it when the handler returns."""


class _Switched(web.StreamResponse):
    """101, and no body that HTTP knows of."""

    _length_check = False


async def switched(request: web.BaseRequest, headers: Mapping[str, str]) -> RawWire:
    headers = CIMultiDict(headers)
    headers["Connection"] = "Upgrade"
    response = _Switched(status=101, reason="Switching Protocols", headers=headers)
    response.force_close()
    wire = RawWire(response, request)
    await response.prepare(request)
    return wire


async def pass_through(
    request: web.BaseRequest, answer: ClientResponse, headers: Mapping[str, str]
) -> web.StreamResponse:
    """Give the client the 101 that somebody else has answered to it, and then all that either of
    them says to the other, until one of them ends."""
    connection = answer.connection
    assert connection is not None
    protocol, transport = connection.protocol, connection.transport
    assert protocol is not None
    assert transport is not None
    wire = await switched(request, headers)
    there, writer = _Raw(transport), StreamWriter(protocol, asyncio.get_running_loop())
    protocol.set_parser(there, there)
    async with anyio.create_task_group() as tasks:

        async def give() -> None:
            with contextlib.suppress(GoneError):
                while data := await there.read():
                    await wire.write(data)
            tasks.cancel_scope.cancel()

        async def take() -> None:
            with contextlib.suppress(OSError):
                while data := await wire.read():
                    await writer.write(data)  # which waits for who reads slowly
            tasks.cancel_scope.cancel()

        tasks.start_soon(give)
        tasks.start_soon(take)
    transport.close()  # when what was written is sent
    return wire.response
