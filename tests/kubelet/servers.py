"""Servers for probes to meet: good ones, slow ones, and those that break the rules."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serve(
    talk: Talk, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[int]:
    """Talk with whoever connects; gives the port."""
    tasks: set[asyncio.Task[None]] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, OSError):
                await talk(reader, writer)
        finally:
            tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, OSError, ssl.SSLError):
                await writer.wait_closed()

    server = await asyncio.start_server(one, host, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def request(reader: asyncio.StreamReader) -> list[str]:
    """The lines of a request, without the last empty one."""
    text = await reader.readuntil(b"\r\n\r\n")
    return text.decode("latin-1").split("\r\n")[:-2]


def answer(data: bytes | str, *, after: float = 0.0) -> Talk:
    """Read a request, wait, say this, close."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        await asyncio.sleep(after)
        writer.write(data.encode() if isinstance(data, str) else data)
        await writer.drain()

    return talk


def response(status: int, body: str = "", *headers: str) -> str:
    lines = [f"HTTP/1.1 {status} Because", f"Content-Length: {len(body.encode())}", *headers]
    return "\r\n".join(lines) + "\r\n\r\n" + body


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Half-open: takes everything and says nothing."""
    while await reader.read(4096):
        pass
    await asyncio.sleep(3600)


def reset_after(said: bytes) -> Talk:
    """Say the beginning and break the connection off with a RST."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(said)
        await writer.drain()
        if said:
            await asyncio.sleep(0.05)  # a RST overtakes what has not been read
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return talk


def trickle(head: bytes, piece: bytes, pause: float) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(head)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)

    return talk


def flood(head: bytes, piece: bytes, total: int = 1 << 30) -> Talk:
    """Say so much after the beginning, as fast as it is taken."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if head:
            await request(reader)
        writer.write(head)
        for _ in range(total // len(piece)):
            writer.write(piece)
            await writer.drain()

    return talk
