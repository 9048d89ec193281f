"""The ways in which clients of exec, attach and portforward talk: over WebSocket and over SPDY.

What is served over them (streams.py) sees none of it: a `Remote` has an input, outputs, sizes and a
last word, a `Forwarding` gives `Tunnel`s, each the client's end of one TCP connection. Nor does
what carries the messages and bytes (wires.py) or takes SPDY's frames apart (spdy.py) know of it.

    exec, attach   WebSocket: one message is one byte of channel and data; v5 can close the input,
                   v4 has a last word with an exit code, older ones only a text; or base64 of it
                   SPDY: a stream for each of error, stdin, stdout, stderr, resize
    portforward    SPDY, by itself or in pieces in WebSocket messages: two streams a connection
                   WebSocket: two channels for each port that the request names
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Protocol, Self

import anyio
import msgspec
from aiohttp import web

from supervisor.apiserver import spdy
from supervisor.apiserver.contract import ApiError, Json, bad_request
from supervisor.apiserver.wires import (
    FAREWELL,
    HELD,
    GoneError,
    RawWire,
    Socket,
    WebSocketWire,
    Wire,
    offered,
    open_websocket,
    switched,
    upgrade_of,
)

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
_CLOSE = 255  # v5: the channel that is named next has ended
_NAMES = {"stdin": STDIN, "stdout": STDOUT, "stderr": STDERR, "error": ERROR, "resize": RESIZE}

_V5, _V4, _V4_BASE64 = "v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io"
_OLD, _OLD_BASE64 = "channel.k8s.io", "base64.channel.k8s.io"
_CHANNELS = (_V5, _V4, _V4_BASE64, _OLD, _OLD_BASE64)
_SPDY = "SPDY/3.1"
_SPDY_CHANNELS = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io")
_PORT_FORWARD = "portforward.k8s.io"
_TUNNEL = f"{_SPDY}+{_PORT_FORWARD}"
_OFFERED = "X-Stream-Protocol-Version"

# Of one of several streams on a connection that much, and of all together: the client does not know
# that nobody takes them, and the others come behind them.
_HELD_OF_STREAM, _HELD_OF_ALL = 8 << 20, 32 << 20
_PATIENCE = 10.0  # seconds for the streams that were announced
_LOOK_EVERY = 1.0  # seconds between two looks for a client that is not read from
_HALVES_MAX = 256  # connections of which only one of two streams has come


class Remote(Protocol):
    """A client that talks to a program. An async context manager; entering raises GoneError."""

    response: web.StreamResponse

    async def receive(self) -> tuple[int, bytes | None]:
        """Of which channel (STDIN, RESIZE), and what; None: it has ended. Raises GoneError."""
        ...

    async def send(self, channel: int, data: bytes) -> None:
        """Waits for a client that reads slowly. Raises GoneError."""
        ...

    async def finish(self, status: Json) -> None:
        """The last word. Harmless when nobody hears it."""
        ...

    def has_gone(self) -> bool:
        """For who does not read from it just now: whether the connection has ended."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...


class Tunnel(Protocol):
    """The client's end of one forwarded connection. Its methods raise GoneError."""

    port: int
    half_closes: bool  # whether one direction can end before the other

    async def receive(self) -> bytes | None:
        """None: nothing more comes."""
        ...

    async def send(self, data: bytes) -> None: ...

    async def end(self) -> None:
        """Nothing more is sent."""
        ...

    async def fail(self, text: str) -> None:
        """There is no connection, and why."""
        ...

    async def finish(self, *, clean: bool) -> None:
        """It is over, in both directions."""
        ...


class Forwarding(Protocol):
    """A client that forwards ports. An async context manager."""

    response: web.StreamResponse

    def tunnels(self) -> AsyncIterator[Tunnel]:
        """Until there will be no more. Raises GoneError."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...


async def open_remote(request: web.BaseRequest, wanted: dict[str, bool]) -> Remote | None:
    """Answer a request for exec or attach as it asks for; None where it asks for no upgrade.

    `wanted`: which of stdin, stdout and stderr, and whether there is a terminal (tty).
    """
    match upgrade_of(request).lower():
        case "websocket":
            return _WebSocketRemote(await open_websocket(request, _CHANNELS, default=_OLD))
        case "spdy/3.1":
            protocol = _negotiate(request, _SPDY_CHANNELS)
            names = ["error", *(name for name in ("stdin", "stdout", "stderr") if wanted[name])]
            if wanted["tty"] and protocol != "v2.channel.k8s.io":
                names.append("resize")
            wire = await _open_spdy(request, protocol)
            return _SpdyRemote(_Session(wire), names, speaks_status=protocol == _V4)
    return None


async def open_forwarding(request: web.BaseRequest, ports: list[int]) -> Forwarding | None:
    """Answer a request for portforward as it asks for; None where it asks for no upgrade."""
    match upgrade_of(request).lower():
        case "websocket" if _TUNNEL in offered(request, "Sec-WebSocket-Protocol"):
            socket = await open_websocket(request, (_TUNNEL,))
            return _SpdyForwarding(_Session(WebSocketWire(socket)))
        case "websocket":
            if not ports:
                raise bad_request("you must specify at least one port (ports=PORT)")
            known = tuple(name for name in _CHANNELS if "base64" not in name)
            return _ChannelForwarding(await open_websocket(request, known, default=_OLD), ports)
        case "spdy/3.1":
            protocol = _negotiate(request, (_PORT_FORWARD,))
            return _SpdyForwarding(_Session(await _open_spdy(request, protocol)))
    return None


def port_number(text: str) -> int | None:
    """None where it is no port that can be forwarded."""
    if text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 1 << 16:
        return int(text)
    return None


def _negotiate(request: web.BaseRequest, known: tuple[str, ...]) -> str:
    """The first that is known here of what the client offers. Raises ApiError."""
    names = offered(request, _OFFERED)
    chosen = next((name for name in known if name in names), None)
    if chosen is None:
        text = (
            f"unable to upgrade: unable to negotiate protocol: client supports {names}, "
            f"server accepts {list(known)}"
        )
        raise ApiError(403, "Forbidden", text)
    return chosen


# --- WebSocket ------------------------------------------------------------------------------------


class _WebSocketRemote:
    def __init__(self, socket: Socket) -> None:
        self.response: web.StreamResponse = socket.response
        self._socket = socket
        self._base64 = "base64" in socket.protocol
        self._speaks_status = socket.protocol in (_V5, _V4, _V4_BASE64)
        self.has_gone = socket.has_gone

    async def receive(self) -> tuple[int, bytes | None]:
        while True:
            message = await self._socket.receive()
            if not message:
                continue
            channel, data = message[0], message[1:]
            if self._base64:
                channel -= ord("0")
                try:
                    data = base64.b64decode(data, validate=True)
                except binascii.Error as error:
                    raise GoneError from error
            if channel == _CLOSE and self._socket.protocol == _V5:
                if data == bytes([STDIN]):
                    return STDIN, None
            elif channel in (STDIN, RESIZE):
                return channel, data

    async def send(self, channel: int, data: bytes) -> None:
        if self._base64:
            await self._socket.send(f"{channel}{base64.b64encode(data).decode()}")
        else:
            await self._socket.send(bytes([channel]) + data)

    async def finish(self, status: Json) -> None:
        with contextlib.suppress(GoneError):
            if word := _last_word(status, speaks_status=self._speaks_status):
                await self.send(ERROR, word)
        await self._socket.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.move_on_after(FAREWELL, shield=True):
            await self._socket.close()


def _last_word(status: Json, *, speaks_status: bool) -> bytes:
    if speaks_status:
        return msgspec.json.encode(status)
    return str(status.get("message") or "").encode()


class _Held:
    """What all streams of one connection hold."""

    def __init__(self) -> None:
        self.size = 0  # bytes


class _Queue:
    """Bytes on their way from a client to whom they are for; bounded."""

    def __init__(self, held: _Held) -> None:
        self._held = held
        self._parts: deque[bytes] = deque()
        self._size = 0
        self._changed = asyncio.Event()
        self._ended = False
        self._gone = False
        self.discards = False  # nobody wants them

    async def put(self, data: bytes, has_gone: Callable[[], bool]) -> None:
        """Waits while there is too much; raises GoneError, if the client goes meanwhile."""
        while self._is_full() and not self.discards:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY):
                    await self._changed.wait()
                continue
            if has_gone():
                raise GoneError
        if data and not self.discards:
            self._parts.append(data)
            self._add(len(data))

    def _is_full(self) -> bool:
        together = self._held.size > _HELD_OF_ALL
        return self._size > (HELD if together else _HELD_OF_STREAM)

    def _add(self, size: int) -> None:
        self._size += size
        self._held.size += size
        self._wake()

    async def get(self) -> bytes | None:
        """None at the end. Raises GoneError."""
        while not self._parts:
            if self._gone:
                raise GoneError
            if self._ended:
                return None
            await self._changed.wait()
        data = self._parts.popleft()
        self._add(-len(data))
        return data

    def end(self) -> None:
        self._ended = True
        self._wake()

    def go(self) -> None:
        self._gone = True
        self._wake()

    def discard(self) -> None:
        self.discards = True
        self._parts.clear()
        self._add(-self._size)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class _ChannelTunnel:
    half_closes = False

    def __init__(self, owner: _ChannelForwarding, number: int, port: int) -> None:
        self._owner, self._number, self.port = owner, number, port
        self.queue = _Queue(owner.held)

    async def begin(self) -> None:
        """Each channel starts with its port."""
        for channel in (2 * self._number, 2 * self._number + 1):
            await self._owner.send(channel, self.port.to_bytes(2, "little"))

    async def receive(self) -> bytes | None:
        return await self.queue.get()

    async def send(self, data: bytes) -> None:
        await self._owner.send(2 * self._number, data)

    async def end(self) -> None:
        """There is no word for it that all clients bear: the connection ends as a whole."""

    async def fail(self, text: str) -> None:
        await self._owner.send(2 * self._number + 1, text.encode())
        await self.finish(clean=False)

    async def finish(self, *, clean: bool) -> None:
        self.queue.discard()
        await self._owner.finished()


class _ChannelForwarding:
    """Two channels for each port; when the last connection is over, so is the WebSocket."""

    def __init__(self, socket: Socket, ports: list[int]) -> None:
        self.response: web.StreamResponse = socket.response
        self._socket = socket
        self.held = _Held()
        self._tunnels = [_ChannelTunnel(self, number, port) for number, port in enumerate(ports)]
        self._left = len(ports)
        self._over = asyncio.Event()

    async def send(self, channel: int, data: bytes) -> None:
        await self._socket.send(bytes([channel]) + data)

    async def finished(self) -> None:
        self._left -= 1
        if not self._left:
            self._over.set()

    async def tunnels(self) -> AsyncIterator[Tunnel]:
        for tunnel in self._tunnels:
            await tunnel.begin()
            yield tunnel
        listening = asyncio.ensure_future(self._listen())
        over = asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait((listening, over), return_when=asyncio.FIRST_COMPLETED)
            if listening.done():
                listening.result()
        finally:
            for task in (listening, over):
                task.cancel()
            await asyncio.gather(listening, over, return_exceptions=True)

    async def _listen(self) -> None:
        try:
            while True:
                message = await self._socket.receive()
                if not message:
                    continue
                channel, data = message[0], message[1:]
                if channel == _CLOSE and self._socket.protocol == _V5 and len(data) == 1:
                    if data[0] % 2 == 0 and data[0] // 2 < len(self._tunnels):
                        self._tunnels[data[0] // 2].queue.end()
                elif channel // 2 >= len(self._tunnels):
                    raise GoneError
                elif channel % 2 == 0:
                    await self._tunnels[channel // 2].queue.put(data, self._socket.has_gone)
        finally:
            for tunnel in self._tunnels:
                tunnel.queue.go()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.move_on_after(FAREWELL, shield=True):
            await self._socket.close()


# --- SPDY -----------------------------------------------------------------------------------------


async def _open_spdy(request: web.BaseRequest, protocol: str) -> RawWire:
    return await switched(request, {"Upgrade": _SPDY, _OFFERED: protocol})


class _SpdyStream:
    def __init__(self, session: _Session, number: int, headers: dict[str, str]) -> None:
        self._session, self._number, self.headers = session, number, headers
        self.queue = _Queue(session.held)

    @property
    def kind(self) -> str:
        return self.headers.get("streamtype", "")

    async def receive(self) -> bytes | None:
        return await self.queue.get()

    @property
    def is_open(self) -> bool:
        """Whether the client still hears what is said on it."""
        return self._session.connection.is_open(self._number)

    async def send(self, data: bytes, *, end: bool = False) -> None:
        if not end and not self.is_open:
            raise GoneError
        self._session.connection.send(self._number, data, end=end)
        await self._session.flush()

    async def reset(self) -> None:
        self.queue.discard()
        await self._session.reset(self._number)


class _Session:
    """Streams over a wire. An async context manager, which reads while it is entered."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.connection = spdy.Connection()
        self.held = _Held()
        self._streams: dict[int, _SpdyStream] = {}
        self._opened: deque[_SpdyStream] = deque()
        self._news = asyncio.Event()
        self.over = asyncio.Event()
        self._sending = asyncio.Lock()
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._reading = asyncio.ensure_future(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._reading is not None
        with anyio.move_on_after(FAREWELL, shield=True):
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            await self.wire.close()

    async def flush(self) -> None:
        """Raises GoneError."""
        async with self._sending:
            while data := self.connection.take():
                await self.wire.write(data)

    async def reset(self, number: int) -> None:
        """Give up a stream. Raises GoneError."""
        self._streams.pop(number, None)
        self.connection.reset(number)
        await self.flush()

    async def opened(self) -> _SpdyStream:
        """The next stream that the client has opened. Raises GoneError."""
        while not self._opened:
            if self.over.is_set():
                raise GoneError
            self._news.clear()
            await self._news.wait()
        return self._opened.popleft()

    async def _read(self) -> None:
        try:
            while data := await self.wire.read():
                for event in self.connection.receive(data):
                    await self._take(event)
                # Whoever sends just now takes our answers along. A client that does not read for
                # a while must be heard all the same: it may wait for what it says to have come.
                if not self._sending.locked() or self.connection.waiting > _HELD_OF_STREAM:
                    await self.flush()
        except spdy.ProtocolError:
            self.connection.go_away()
            with contextlib.suppress(GoneError):
                await self.flush()
        except GoneError:
            pass
        finally:
            self.over.set()
            self._news.set()
            for stream in self._streams.values():
                stream.queue.go()

    async def _take(self, event: spdy.Event) -> None:
        number = event.stream
        if isinstance(event, spdy.Opened):
            stream = self._streams[number] = _SpdyStream(self, number, event.headers)
            self.connection.accept(number)
            self._opened.append(stream)
            self._news.set()
            return
        known = self._streams.get(number)
        if known is None:
            return
        match event:
            case spdy.Data(data=data):
                await known.queue.put(data, self.wire.has_gone)
            case spdy.Ended():
                known.queue.end()
                del self._streams[number]
            case spdy.Reset():
                known.queue.go()
                del self._streams[number]
                # Whoever opens and resets for ever must not fill what nobody asks for.
                with contextlib.suppress(ValueError):
                    self._opened.remove(known)


class _SpdyRemote:
    def __init__(self, session: _Session, names: list[str], *, speaks_status: bool) -> None:
        self.response = session.wire.response
        self._session = session
        self._names = names
        self._speaks_status = speaks_status
        self._streams: dict[int, _SpdyStream] = {}
        self._coming: dict[asyncio.Task[bytes | None], int] = {}
        self.has_gone = session.wire.has_gone

    async def __aenter__(self) -> Self:
        await self._session.__aenter__()
        try:
            await self._gather()
        except BaseException:
            await self._session.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._coming:
            task.cancel()
        await asyncio.gather(*self._coming, return_exceptions=True)
        await self._session.__aexit__()

    async def _gather(self) -> None:
        """Wait for all the streams that the request announces. Raises GoneError."""
        try:
            async with asyncio.timeout(_PATIENCE):
                while len(self._streams) < len(self._names):
                    stream = await self._session.opened()
                    channel = _NAMES.get(stream.kind, -1)
                    if stream.kind not in self._names or channel in self._streams:
                        raise GoneError
                    if channel not in (STDIN, RESIZE):
                        stream.queue.discard()
                    self._streams[channel] = stream
        except TimeoutError as error:
            raise GoneError from error

    async def receive(self) -> tuple[int, bytes | None]:
        coming = self._coming
        for channel in (STDIN, RESIZE):
            stream = self._streams.get(channel)
            if stream is not None and channel not in coming.values():
                coming[asyncio.ensure_future(stream.receive())] = channel
        over = asyncio.ensure_future(self._session.over.wait())
        try:
            await asyncio.wait((*coming, over), return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
        for task in list(coming):
            if task.done():
                channel = coming.pop(task)
                data = task.result()
                if data is None:
                    del self._streams[channel]
                return channel, data
        raise GoneError

    async def send(self, channel: int, data: bytes) -> None:
        stream = self._streams.get(channel)
        if stream is not None:
            await stream.send(data)

    async def finish(self, status: Json) -> None:
        with contextlib.suppress(GoneError):
            for channel in (STDOUT, STDERR):
                if (stream := self._streams.get(channel)) is not None:
                    await stream.send(b"", end=True)
            word = _last_word(status, speaks_status=self._speaks_status)
            await self._streams[ERROR].send(word, end=True)
        for channel in (STDIN, RESIZE):
            if (stream := self._streams.get(channel)) is not None:
                stream.queue.discard()
        # The client ends the connection when it has heard all.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL):
                await self._session.over.wait()


class _SpdyTunnel:
    half_closes = True

    def __init__(self, port: int, data: _SpdyStream, error: _SpdyStream) -> None:
        self.port, self._data, self._error = port, data, error
        error.queue.discard()

    async def receive(self) -> bytes | None:
        return await self._data.receive()

    async def send(self, data: bytes) -> None:
        await self._data.send(data)

    async def end(self) -> None:
        await self._data.send(b"", end=True)
        # Older clients wait for it before they end their side.
        await self._error.send(b"", end=True)

    async def fail(self, text: str) -> None:
        await self._error.send(text.encode(), end=True)
        await self._data.send(b"", end=True)
        self._data.queue.discard()

    async def finish(self, *, clean: bool) -> None:
        self._data.queue.discard()
        await self._error.send(b"", end=True)
        if not clean:
            await self._data.reset()


class _SpdyForwarding:
    def __init__(self, session: _Session) -> None:
        self.response = session.wire.response
        self._session = session

    async def __aenter__(self) -> Self:
        await self._session.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.__aexit__()

    async def tunnels(self) -> AsyncIterator[Tunnel]:
        halves: dict[str, _SpdyStream] = {}
        while True:
            stream = await self._session.opened()
            request, port = stream.headers.get("requestid", ""), stream.headers.get("port", "")
            number = port_number(port)
            if stream.kind not in ("data", "error") or number is None:
                await stream.reset()
                continue
            other = halves.pop(request, None)
            if other is None:
                if len(halves) >= _HALVES_MAX:
                    halves = {key: half for key, half in halves.items() if half.is_open}
                if len(halves) >= _HALVES_MAX:
                    await stream.reset()
                    continue
                halves[request] = stream
            elif {other.kind, stream.kind} != {"data", "error"}:
                await stream.reset()
                await other.reset()
            else:
                data, error = (stream, other) if stream.kind == "data" else (other, stream)
                yield _SpdyTunnel(number, data, error)
