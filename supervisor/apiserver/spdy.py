"""SPDY/3.1 as clients of Kubernetes speak it: frames to events, and answers to frames. No I/O.

Older kubectl sends exec, attach and port-forward over it, newer ones wrap it into a WebSocket for
port-forward. Of the protocol they use streams that the client opens, data, half-close, resets and
pings; nothing is pushed, and no request is made by SPDY itself.

`Connection.receive` takes whatever pieces the wire gives and returns events; what is to be sent
collects in `take`. Data comes as it arrives, also out of the middle of a frame, so a frame costs no
more memory than a piece of it. Everything else is bounded: control frames, headers when they are
unpacked, streams. What breaks a bound, or is no SPDY, is a `ProtocolError`, after which the
connection is of no use.

Windows are not kept. The library that all these clients use never grants any and does not respect
ours, so a server that waited for WINDOW_UPDATE would wait for ever after 64 KiB. Such frames are
checked and passed over. Who holds what is received bounds it for each stream, and then holds up the
wire below, with all its streams.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from msgspec import Struct

CONTROL_MAX = 64 << 10  # bytes of a control frame
HEADERS_MAX = 64 << 10  # bytes of headers, unpacked
STREAMS_MAX = 4000  # open at once

_VERSION = 3
_SYN_REPLY, _RST_STREAM, _PING, _GOAWAY = 2, 3, 6, 7
_FIN = 1
_DATA_MAX = 1 << 16  # bytes of data that we put into one frame
_STREAM_ID = 0x7FFFFFFF
REFUSED_STREAM, CANCEL = 3, 5

_NAMES = (
    *b"""options head post put delete trace accept accept-charset accept-encoding
    accept-language accept-ranges age allow authorization cache-control connection content-base
    content-encoding content-language content-length content-location content-md5 content-range
    content-type date etag expect expires from host if-match if-modified-since if-none-match
    if-range if-unmodified-since last-modified location max-forwards pragma proxy-authenticate
    proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade
    user-agent vary via warning www-authenticate method get status""".split(),
    *(b"200 OK", b"version", b"HTTP/1.1", b"url", b"public", b"set-cookie", b"keep-alive"),
    b"origin",
)
# What both sides begin the compression of headers with; part of the protocol.
DICTIONARY = b"".join(len(name).to_bytes(4, "big") + name for name in _NAMES) + (
    b"100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    b"203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request"
    b"401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented"
    b"503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 "
    b"Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,"
    b"application/xml,application/xhtml+xml,text/plain,text/javascript,public"
    b"privatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


class ProtocolError(Exception):
    """What came is no SPDY, or more than is taken."""


class Opened(Struct, frozen=True):
    """The peer has opened a stream."""

    stream: int
    headers: dict[str, str]  # names in lower case


class Data(Struct, frozen=True):
    stream: int
    data: bytes


class Ended(Struct, frozen=True):
    """The peer sends nothing more on a stream."""

    stream: int


class Reset(Struct, frozen=True):
    """The peer has given up a stream."""

    stream: int


Event = Opened | Data | Ended | Reset


class _Stream:
    def __init__(self) -> None:
        self.receives = self.sends = True


class Connection:
    """The server's end of one connection."""

    def __init__(self) -> None:
        self._unpack = zlib.decompressobj(zdict=DICTIONARY)
        self._pack = zlib.compressobj(zdict=DICTIONARY)
        self._pending = bytearray()  # of a control frame, or of the head of any
        self._data_left = 0  # bytes to come of a frame of data
        self._data_of = 0
        self._data_ends = False
        self._streams: dict[int, _Stream] = {}
        self._last = 0  # the number of the stream that was opened last
        self._out = bytearray()

    # --- what comes -----------------------------------------------------------------------------

    def receive(self, data: bytes) -> list[Event]:
        """Raises ProtocolError."""
        events: list[Event] = []
        view = memoryview(data)
        while view:
            if self._data_left:
                view = self._take_data(view, events)
                continue
            need = 8
            if len(self._pending) >= 8:
                need += int.from_bytes(self._pending[5:8], "big")
            part = view[: need - len(self._pending)]
            self._pending += part
            view = view[len(part) :]
            if len(self._pending) == need:
                self._take_head(events) if need == 8 else self._take_control(events)
        return events

    def _take_data(self, view: memoryview, events: list[Event]) -> memoryview:
        part = view[: self._data_left]
        self._data_left -= len(part)
        stream = self._streams.get(self._data_of)
        if stream is not None and stream.receives:  # else it was reset, and this was on its way
            events.append(Data(self._data_of, bytes(part)))
        if not self._data_left:
            self._end_of_frame(events)
        return view[len(part) :]

    def _end_of_frame(self, events: list[Event]) -> None:
        if self._data_ends:
            self._ended(self._data_of, events)

    def _ended(self, number: int, events: list[Event]) -> None:
        stream = self._streams.get(number)
        if stream is not None and stream.receives:
            stream.receives = False
            events.append(Ended(number))
            self._settle(number, stream)

    def _settle(self, number: int, stream: _Stream) -> None:
        if not stream.receives and not stream.sends:
            del self._streams[number]

    def _take_head(self, events: list[Event]) -> None:
        word = int.from_bytes(self._pending[:4], "big")
        flags, size = self._pending[4], int.from_bytes(self._pending[5:8], "big")
        if word >> 31:
            version = word >> 16 & 0x7FFF
            if version != _VERSION:
                raise ProtocolError(f"version {version} of SPDY is not spoken here")
            if size > CONTROL_MAX:
                raise ProtocolError(f"a control frame of {size} bytes")
            if size == 0:
                self._take_control(events)
            return
        self._pending.clear()
        if not 0 < word <= self._last or word % 2 == 0:
            raise ProtocolError(f"data for stream {word}, which was never opened")
        self._data_of, self._data_ends, self._data_left = word, bool(flags & _FIN), size
        if not size:
            self._end_of_frame(events)

    def _take_control(self, events: list[Event]) -> None:
        kind = int.from_bytes(self._pending[2:4], "big")
        flags, body = self._pending[4], bytes(self._pending[8:])
        self._pending.clear()
        match kind:
            case 1:  # SYN_STREAM
                self._take_syn_stream(flags, body, events)
            case 8:  # HEADERS
                number = _number(body, 4)
                # Unpacked all the same: the compression goes on over all frames.
                self._headers(body[4:])
                if flags & _FIN:
                    self._ended(number, events)
            case 2:  # SYN_REPLY: nothing was opened by us
                _number(body, 4)
                self._headers(body[4:])
            case 3:  # RST_STREAM
                number = _number(body, 8)
                if self._streams.pop(number, None) is not None:
                    events.append(Reset(number))
            case 6:  # PING
                ping = _number(body, 4)
                if ping % 2:  # else it is the answer to one of ours
                    self._control(_PING, 0, body[:4])
            case 7 | 9:  # GOAWAY, WINDOW_UPDATE
                _number(body, 8)
            case _:  # SETTINGS, CREDENTIAL and what may come later mean nothing to us
                pass

    def _take_syn_stream(self, flags: int, body: bytes, events: list[Event]) -> None:
        number = _number(body, 10)
        headers = self._headers(body[10:])
        if number % 2 == 0 or number <= self._last:
            raise ProtocolError(f"a stream was opened with the number {number}")
        self._last = number
        if len(self._streams) >= STREAMS_MAX:
            self._reset(number, REFUSED_STREAM)
            return
        self._streams[number] = _Stream()
        events.append(Opened(number, headers))
        if flags & _FIN:
            self._ended(number, events)

    def _headers(self, packed: bytes) -> dict[str, str]:
        try:
            plain = self._unpack.decompress(packed, HEADERS_MAX)
        except zlib.error as error:
            raise ProtocolError(f"headers that cannot be unpacked: {error}") from None
        if self._unpack.unconsumed_tail:
            raise ProtocolError(f"more than {HEADERS_MAX} bytes of headers")
        at = 4
        count = int.from_bytes(plain[:4], "big")
        if len(plain) < 4 + count * 8:
            raise ProtocolError("headers that are cut off")
        headers: dict[str, str] = {}
        for _ in range(count):
            words = []
            for _ in range(2):
                size = int.from_bytes(plain[at : at + 4], "big")
                if at + 4 + size > len(plain):
                    raise ProtocolError("headers that are cut off")
                words.append(plain[at + 4 : at + 4 + size].decode("utf-8", "replace"))
                at += 4 + size
            headers[words[0].lower()] = words[1]
        return headers

    # --- what goes ------------------------------------------------------------------------------

    def take(self) -> bytes:
        """What is to be sent now."""
        out = bytes(self._out)
        self._out.clear()
        return out

    @property
    def waiting(self) -> int:
        """Bytes of it."""
        return len(self._out)

    def is_open(self, stream: int) -> bool:
        """Whether anything can be sent on it."""
        found = self._streams.get(stream)
        return found is not None and found.sends

    def accept(self, stream: int) -> None:
        """Answer a stream that was opened."""
        if self.is_open(stream):
            packed = self._pack.compress(bytes(4)) + self._pack.flush(zlib.Z_SYNC_FLUSH)
            self._control(_SYN_REPLY, 0, stream.to_bytes(4, "big") + packed)

    def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Nothing is sent on a stream that is over."""
        found = self._streams.get(stream)
        if found is None or not found.sends:
            return
        pieces: Iterable[bytes] = (
            data[at : at + _DATA_MAX] for at in range(0, max(len(data), 1), _DATA_MAX)
        )
        sent = 0
        for piece in pieces:
            sent += len(piece)
            fin = _FIN if end and sent == len(data) else 0
            self._out += stream.to_bytes(4, "big") + bytes([fin]) + len(piece).to_bytes(3, "big")
            self._out += piece
        if end:
            found.sends = False
            self._settle(stream, found)

    def reset(self, stream: int) -> None:
        """Give up a stream, in both directions."""
        if self._streams.pop(stream, None) is not None:
            self._reset(stream, CANCEL)

    def _reset(self, stream: int, status: int) -> None:
        body = stream.to_bytes(4, "big") + status.to_bytes(4, "big")
        self._control(_RST_STREAM, 0, body)

    def go_away(self) -> None:
        body = self._last.to_bytes(4, "big") + bytes(4)
        self._control(_GOAWAY, 0, body)

    def _control(self, kind: int, flags: int, body: bytes) -> None:
        head = (0x8000 | _VERSION).to_bytes(2, "big") + kind.to_bytes(2, "big")
        self._out += head + bytes([flags]) + len(body).to_bytes(3, "big") + body


def _number(body: bytes, least: int) -> int:
    """What a control frame begins with: of which stream it is, or which ping."""
    if len(body) < least:
        raise ProtocolError("a control frame that is cut off")
    return int.from_bytes(body[:4], "big") & _STREAM_ID
