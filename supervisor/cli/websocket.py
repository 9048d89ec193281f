"""The little of WebSocket that streams of a node need: binary messages, both ways, never waiting.

Who uses it has a loop of its own (poll) over the connection and over what the bytes come from. The
peer is always a node on its unix socket, so nothing is compressed, and frames are masked with
zeros: masks protect proxies, of which there are none.

    socket.send(data)          queued; flush() sends as much as goes
    for message in socket.receive(): ...     what has come; `ended` when there will be no more
"""

from __future__ import annotations

import select
import struct
from collections.abc import Iterator

from supervisor.client import Client, Upgraded
from supervisor.errors import NodeError

CHANNELS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
CLOSE = 255  # the channel on which v5 tells the end of another one

_CONTINUED, _BINARY, _CLOSE, _PING, _PONG = 0, 2, 8, 9, 10
_FINAL, _MASKED = 0x80, 0x80
_NO_SIGNAL = 0x4000  # MSG_NOSIGNAL: the peer's end is no reason to die
_MOST = 16 << 20  # bytes of a message
_QUEUED = 1 << 20  # bytes that may wait for the node


class WebSocket:
    """One connection. `close` it."""

    def __init__(self, upgraded: Upgraded) -> None:
        self.protocol = upgraded.protocol
        self.ended = False  # nothing will come any more
        self._connection = upgraded.connection
        self._connection.setblocking(False)
        self._in = bytearray(upgraded.rest)
        self._out = bytearray()
        self._message = bytearray()  # the fragments of one that is not whole yet

    @classmethod
    def open(cls, client: Client, path: str, query: dict[str, object]) -> WebSocket:
        """Raises StatusError when the node refuses, NodeError when it cannot be asked."""
        return cls(client.upgrade(path, query=query, protocols=CHANNELS))

    def fileno(self) -> int:
        return self._connection.fileno()

    @property
    def events(self) -> int:
        """What to poll for."""
        return select.POLLIN | (select.POLLOUT if self._out else 0)

    @property
    def is_full(self) -> bool:
        """Whether so much waits to be sent that nothing should be added."""
        return len(self._out) >= _QUEUED

    def send(self, channel: int, data: bytes) -> None:
        self._frame(_BINARY, bytes([channel]) + data)
        self.flush()

    def end(self, channel: int) -> None:
        """Tell that nothing more comes on this channel, where the protocol knows how to."""
        if self.protocol == CHANNELS[0]:
            self.send(CLOSE, bytes([channel]))

    def flush(self) -> None:
        while self._out:
            try:
                sent = self._connection.send(self._out, _NO_SIGNAL)
            except BlockingIOError:
                return
            except OSError:  # it has gone; what it has said is still read
                self._out.clear()
                return
            del self._out[:sent]

    def receive(self) -> Iterator[tuple[int, bytes]]:
        """Channel and content of each message that has come. Raises NodeError for nonsense."""
        yield from self._messages()  # what had come before is not polled for
        while not self.ended:
            try:
                data = self._connection.recv(1 << 18)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.ended = True
            self._in += data
            yield from self._messages()
            if len(data) < 1 << 16:
                return  # others have their turn

    def close(self) -> None:
        if not self.ended:
            self._frame(_CLOSE, b"\x03\xe8")
            self.flush()
        self._connection.close()

    # --- frames ---------------------------------------------------------------------------------

    def _frame(self, kind: int, data: bytes) -> None:
        size = len(data)
        self._out.append(_FINAL | kind)
        if size < 126:
            self._out.append(_MASKED | size)
        elif size < 1 << 16:
            self._out += struct.pack("!BH", _MASKED | 126, size)
        else:
            self._out += struct.pack("!BQ", _MASKED | 127, size)
        self._out += b"\0\0\0\0"
        self._out += data

    def _messages(self) -> Iterator[tuple[int, bytes]]:
        while not self.ended and (frame := self._next()) is not None:
            first, data = frame
            kind = first & 0x0F
            if kind == _CLOSE:
                self.ended = True
            elif kind == _PING:
                self._frame(_PONG, data)
                self.flush()
            elif kind in (_CONTINUED, 1, _BINARY):
                self._message += data
                if first & _FINAL:
                    message, self._message = self._message, bytearray()
                    if message:
                        yield message[0], bytes(message[1:])

    def _next(self) -> tuple[int, bytes] | None:
        """First byte and content of the next frame, when it is whole."""
        buffer = self._in
        if len(buffer) < 2:
            return None
        size, at = buffer[1], 2
        if size & _MASKED:
            raise NodeError("what answers on the node's socket speaks no WebSocket")
        if size == 126:
            if len(buffer) < 4:
                return None
            size, at = int.from_bytes(buffer[2:4], "big"), 4
        elif size == 127:
            if len(buffer) < 10:
                return None
            size, at = int.from_bytes(buffer[2:10], "big"), 10
        if size > _MOST:
            raise NodeError(f"the node has sent a message of {size} bytes, which is too much")
        if len(buffer) < at + size:
            return None
        frame = buffer[0], bytes(buffer[at : at + size])
        del buffer[: at + size]
        return frame
