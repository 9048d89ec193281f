"""A store that other containers ask over TCP; with --ping, the program that asks whether it works.

That a port accepts connections is enough for a startup probe. The liveness probe wants an answer.
"""

import argparse
import asyncio
import signal
import sys


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        if await reader.readline() == b"PING\n":
            writer.write(b"PONG\n")
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def serve(port: int) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    server = await asyncio.start_server(answer, "127.0.0.1", port)
    print(f"the store listens on {port}", flush=True)
    await stopped.wait()
    server.close()


async def ping(port: int) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"PING\n")
    reply = await reader.readline()
    writer.close()
    if reply != b"PONG\n":
        print(f"the store answers {reply!r}")
        return 1
    return 0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ping", action="store_true")
    options = parser.parse_args()
    if options.ping:
        sys.exit(asyncio.run(ping(options.port)))
    asyncio.run(serve(options.port))


if __name__ == "__main__":
    main()
