"""An HTTP server that shuts down in the way its first argument says. Run as a program.

good           goes on for a while, tells kept connections to go, finishes everything
deaf           closes its listener at once, and itself later
hasty          ends at once, with requests on their way
early          finishes what it has, and ends before everybody knows that it is going
errors         answers with 503 for a while
breaks         sends half of each response
idle           closes kept connections that have no request on them, also none that was not read yet
drops          closes kept connections with requests on them
hangs          does not answer any more, and does not end
slow           answers late
chunked        as good, with chunked responses
"""

import asyncio
import fcntl
import os
import signal
import socket
import ssl
import sys
import termios

mode, port = sys.argv[1], int(sys.argv[2])
ending = False
writers: dict[asyncio.StreamWriter, asyncio.StreamReader] = {}
busy: set[asyncio.StreamWriter] = set()
served: set[asyncio.StreamWriter] = set()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writers[writer] = reader
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            busy.add(writer)
            goes_on = await respond(head, writer)
            busy.discard(writer)
            served.add(writer)
            if not goes_on:
                break
    except (OSError, EOFError):
        pass
    busy.discard(writer)
    writers.pop(writer, None)
    writer.close()


def is_idle(writer: asyncio.StreamWriter) -> bool:
    if writer in busy or writer not in served or writers[writer]._buffer:
        return False
    unread = fcntl.ioctl(writer.get_extra_info("socket").fileno(), termios.FIONREAD, bytes(4))
    return unread == bytes(4)


async def respond(head: bytes, writer: asyncio.StreamWriter) -> bool:
    if mode in ("hasty", "drops"):
        await asyncio.sleep(0.03)
    if mode == "hangs" and ending:
        await asyncio.sleep(1000)
    if mode == "slow" and ending:
        await asyncio.sleep(0.3)
    status = b"503 Service Unavailable" if mode == "errors" and ending else b"200 OK"
    goes_on = not ending and b"Connection: close" not in head
    lines = [b"HTTP/1.1 " + status, *([] if goes_on else [b"Connection: close"])]
    if mode == "chunked":
        body = b"3\r\nfin\r\n2;a=b\r\ne.\r\n0\r\nX-Trailer: 1\r\n\r\n"
        lines.append(b"Transfer-Encoding: chunked")
    else:
        body = b"x" * 1000
        lines.append(b"Content-Length: 1000")
    if mode == "breaks" and ending:
        body, goes_on = body[:500], False
    writer.write(b"\r\n".join([*lines, b"", body]))
    await writer.drain()
    return goes_on


async def main() -> None:
    global ending
    context = None
    if len(sys.argv) > 3:  # a certificate
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(sys.argv[3])
    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=context, reuse_address=True)
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    print("serving", flush=True)
    await told.wait()
    ending = True
    if mode == "hasty":
        os._exit(0)
    if mode == "hangs":
        await asyncio.sleep(1000)
    if mode == "deaf":
        server.close()
        await asyncio.sleep(2.5)
    if mode in ("drops", "idle"):
        for writer in list(filter(is_idle, writers) if mode == "idle" else writers):
            sock: socket.socket = writer.get_extra_info("socket")
            sock.shutdown(socket.SHUT_RDWR)
    if mode != "early":
        await asyncio.sleep(0.5)
    server.close()
    for _ in range(200):
        if not busy:
            break
        await asyncio.sleep(0.005)
    os._exit(0)


asyncio.run(main())
