"""Who comes in at one listening socket, before anything is understood of what he says.

Anybody on this machine may connect to a port, as often as he likes, and say nothing or half of
it. Each connection costs a descriptor, of which the node's probes and programs need some. So
connections are accepted here, one by one, and not by asyncio's servers, which count none that is
still about to begin with TLS: there are never more than `CONNECTIONS`, and not more than a quarter
of the descriptors that this process may have.

Silence is borne for some seconds. Whoever means it asks at once, so where there are many silent
connections, the one that is silent longest makes room for a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import ssl
from collections.abc import Callable

CONNECTIONS = 2000
SILENT = 500  # of them, those that have asked for nothing yet
SILENCE = 20.0  # seconds until a first request must be there, of whoever it is
_HANDSHAKE = 10.0  # seconds that TLS may take to begin
_PAUSE = 0.2  # seconds after a connection that could not be taken: there is no descriptor for it


class Door:
    """Takes connections from `open` to `close`. The socket is its own then."""

    def __init__(self, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        self._listener, self._context = listener, context
        self._most = min(CONNECTIONS, share())
        self._entering: set[asyncio.Task[None]] = set()
        # Of each silent connection, the oldest first.
        self._silent: dict[asyncio.Protocol, tuple[asyncio.TimerHandle, socket.socket]] = {}
        self._accepting: asyncio.Task[None] | None = None

    def open(self, make: Callable[[], asyncio.Protocol], known: Callable[[], int]) -> None:
        """`make` gives the protocol of one more connection; `known` says how many have begun."""
        self._accepting = asyncio.ensure_future(self._accept(make, known))

    def ask(self, protocol: asyncio.Protocol) -> None:
        """This one has asked for something."""
        if protocol in self._silent:
            self._silent.pop(protocol)[0].cancel()

    async def close(self) -> None:
        """Take no more, and end those that have asked for nothing."""
        if self._accepting is not None:
            self._accepting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._accepting
        self._listener.close()
        while self._silent:
            self._end_oldest()
        if self._entering:
            await asyncio.wait(self._entering)

    async def _accept(self, make: Callable[[], asyncio.Protocol], known: Callable[[], int]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except OSError:
                await asyncio.sleep(_PAUSE)
                continue
            if known() + len(self._entering) >= self._most:
                connection.close()
            else:
                task = asyncio.ensure_future(self._enter(connection, make()))
                self._entering.add(task)
                task.add_done_callback(self._entering.discard)
            await asyncio.sleep(0)  # others have their turn, however many come

    async def _enter(self, connection: socket.socket, protocol: asyncio.Protocol) -> None:
        loop = asyncio.get_running_loop()
        while len(self._silent) >= max(1, min(SILENT, self._most // 2)):
            self._end_oldest()
        self._silent[protocol] = loop.call_later(SILENCE, self._end, protocol), connection
        secure = self._context is not None
        try:
            await loop.connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=_HANDSHAKE if secure else None,
            )
        except OSError:  # it has gone, or does not speak TLS
            self.ask(protocol)
            connection.close()

    def _end_oldest(self) -> None:
        self._end(next(iter(self._silent)))

    def _end(self, protocol: asyncio.Protocol) -> None:
        timer, connection = self._silent.pop(protocol)
        timer.cancel()
        # Whoever has it by now, the loop or TLS, sees its end.
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def share() -> int:
    """How many descriptors may be used for what clients bring about, of one kind."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else max(1, soft // 4)
