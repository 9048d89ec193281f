"""SPDY/3.1: what comes in any pieces, what is refused, and what is answered."""

from __future__ import annotations

import contextlib
import itertools
import struct
import zlib
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.apiserver import spdy
from supervisor.apiserver.spdy import Connection, Data, Ended, Event, Opened, ProtocolError, Reset


class Client:
    """The other end, as far as tests need it."""

    def __init__(self) -> None:
        self._pack = zlib.compressobj(zdict=spdy.DICTIONARY)

    def control(self, kind: int, body: bytes, flags: int = 0, version: int = 3) -> bytes:
        return struct.pack("!HHI", 0x8000 | version, kind, flags << 24 | len(body)) + body

    def packed(self, plain: bytes) -> bytes:
        return self._pack.compress(plain) + self._pack.flush(zlib.Z_SYNC_FLUSH)

    def headers(self, headers: dict[str, str]) -> bytes:
        plain = struct.pack("!I", len(headers))
        for pair in headers.items():
            for word in pair:
                plain += struct.pack("!I", len(word)) + word.encode()
        return self.packed(plain)

    def open(self, stream: int, *, end: bool = False, **headers: str) -> bytes:
        body = struct.pack("!IIH", stream, 0, 0) + self.headers(headers)
        return self.control(1, body, flags=int(end))

    def data(self, stream: int, data: bytes, *, end: bool = False) -> bytes:
        return struct.pack("!II", stream, int(end) << 24 | len(data)) + data


def joined(events: Iterable[Event]) -> list[Event]:
    """Data that belongs together as one, however it came."""
    told: list[Event] = []
    for event in events:
        last = told[-1] if told else None
        if isinstance(event, Data) and isinstance(last, Data) and event.stream == last.stream:
            told[-1] = Data(event.stream, last.data + event.data)
        else:
            told.append(event)
    return told


def conversation() -> bytes:
    client = Client()
    return b"".join(
        [
            client.control(4, bytes(12)),  # SETTINGS
            client.open(1, streamtype="error", port="80", end=True),
            client.open(3, StreamType="data", port="80"),
            client.data(3, b"GET /" * 100),
            client.control(6, struct.pack("!I", 7)),
            client.control(8, struct.pack("!I", 3) + client.headers({"more": "x"})),
            client.control(9, struct.pack("!II", 3, 1000)),
            client.open(5, streamType="stdin"),
            client.data(5, b""),
            client.data(5, b"x", end=True),
            client.data(3, b" HTTP/1.1"),
            client.control(3, struct.pack("!II", 3, 5)),
            client.data(3, b"late"),
            client.control(7, bytes(8)),
        ]
    )


TOLD = [
    Opened(1, {"streamtype": "error", "port": "80"}),
    Ended(1),
    Opened(3, {"streamtype": "data", "port": "80"}),
    Data(3, b"GET /" * 100),
    Opened(5, {"streamtype": "stdin"}),
    Data(5, b"x"),
    Ended(5),
    Data(3, b" HTTP/1.1"),
    Reset(3),
]


@given(st.lists(st.integers(0, len(conversation())), max_size=20))
def test_pieces_of_any_size_tell_the_same(cuts: list[int]) -> None:
    sent, connection = conversation(), Connection()
    at = [0, *sorted(cuts), len(sent)]
    pieces = [sent[a:b] for a, b in itertools.pairwise(at)]
    events = [event for piece in pieces for event in connection.receive(piece)]
    assert joined(events) == TOLD
    assert connection.take() == Client().control(6, struct.pack("!I", 7))


@given(st.binary(max_size=300))
def test_garbage_is_one_error_or_nothing(garbage: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        Connection().receive(garbage)


@settings(max_examples=300)
@given(st.data())
def test_a_conversation_that_is_damaged_is_one_error_or_another_conversation(
    data: st.DataObject,
) -> None:
    sent = bytearray(conversation())
    for _ in range(data.draw(st.integers(1, 4))):
        sent[data.draw(st.integers(0, len(sent) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ProtocolError):
        Connection().receive(bytes(sent[: data.draw(st.integers(1, len(sent)))]))


def opened(*streams: int) -> tuple[Connection, Client]:
    connection, client = Connection(), Client()
    for stream in streams:
        connection.receive(client.open(stream))
    return connection, client


OPENING = struct.pack("!IIH", 3, 0, 0)  # of stream 3, without its headers
WRONG: dict[str, Callable[[Client], bytes]] = {
    "another version": lambda c: c.control(1, bytes(10), version=2),
    "a large control frame": lambda c: struct.pack("!HHI", 0x8003, 4, 1 << 20),
    "headers that grow": lambda c: c.control(1, OPENING + c.packed(bytes(1 << 20))),
    "no headers at all": lambda c: c.control(1, OPENING),
    "cut headers": lambda c: c.control(1, OPENING + c.packed(b"\0\0\0\1")),
    "headers of another kind": lambda c: c.control(1, OPENING + b"plain"),
    "a frame without a number": lambda c: c.control(3, b""),
    "a number of the server's": lambda c: c.open(4),
    "a number that was": lambda c: c.open(1),
    "data for a stream that never was": lambda c: c.data(9, b"x"),
    "data for no stream": lambda c: c.data(0, b"x"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_spdy_is_refused(what: str) -> None:
    connection, client = opened(1)
    with pytest.raises(ProtocolError):
        connection.receive(WRONG[what](client))


def test_too_many_streams_are_refused_one_by_one() -> None:
    connection, client = Connection(), Client()
    frames = [client.open(number) for number in range(1, 2 * spdy.STREAMS_MAX, 2)]
    assert len(connection.receive(b"".join(frames))) == spdy.STREAMS_MAX
    assert connection.receive(client.open(2 * spdy.STREAMS_MAX + 1)) == []
    refused = struct.pack("!II", 2 * spdy.STREAMS_MAX + 1, spdy.REFUSED_STREAM)
    assert connection.take() == client.control(3, refused)


def test_a_frame_that_does_not_end_costs_no_memory() -> None:
    connection, _ = opened(1)
    head = struct.pack("!II", 1, (1 << 24) - 1)
    assert connection.receive(head) == []
    for _ in range(10):
        assert connection.receive(b"x" * 1000) == [Data(1, b"x" * 1000)]


def test_streams_are_answered_ended_and_reset_each_for_itself() -> None:
    connection, client = opened(1, 3, 5)
    connection.accept(1)
    connection.send(1, b"hello")
    connection.send(1, b"", end=True)
    connection.send(1, b"nothing more")
    connection.reset(3)
    connection.send(3, b"nothing more")
    out = connection.take()
    assert out.endswith(
        client.data(1, b"hello")
        + client.data(1, b"", end=True)
        + client.control(3, struct.pack("!II", 3, spdy.CANCEL))
    )
    assert [connection.is_open(stream) for stream in (1, 3, 5, 7)] == [False, False, True, False]
    assert connection.take() == b""
    # Half of it goes on.
    assert connection.receive(client.data(1, b"more", end=True)) == [Data(1, b"more"), Ended(1)]


def test_an_answer_can_be_unpacked_by_who_opened_the_streams() -> None:
    connection, _ = opened(1, 3)
    unpack = zlib.decompressobj(zdict=spdy.DICTIONARY)
    for stream in (1, 3):
        connection.accept(stream)
        out = connection.take()
        kind, size = struct.unpack("!HI", out[2:8])
        assert (kind, size & 0xFFFFFF, out[8:12]) == (2, len(out) - 8, struct.pack("!I", stream))
        assert unpack.decompress(out[12:]) == bytes(4)  # no headers


def test_much_is_sent_in_frames_that_others_can_come_between() -> None:
    connection, _ = opened(1)
    connection.send(1, b"x" * 100_000, end=True)
    out, sizes = connection.take(), []
    while out:
        stream, word = struct.unpack("!II", out[:8])
        assert stream == 1
        sizes.append((word & 0xFFFFFF, word >> 24))
        out = out[8 + (word & 0xFFFFFF) :]
    assert sizes == [(65536, 0), (34464, 1)]
