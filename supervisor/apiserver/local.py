"""The API of one node, as whoever holds the node opens and ends it.

Three steps, because each has its time. `Doors` listen before anything is started: what cannot be
had, a port or a folder, is said while nothing runs yet, and who comes early waits. `follow` begins
before the node takes on its pods, so that watches can replay how it did. `start` lets requests in
once the node is there. aiohttp is imported only then.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import socket
import ssl
import traceback
from typing import TYPE_CHECKING, Self

from msgspec import Struct

from supervisor.apiserver import auth
from supervisor.apiserver.auth import Gate
from supervisor.apiserver.cache import Cache, Change
from supervisor.apiserver.contract import Pods
from supervisor.errors import NodeError
from supervisor.kubelet.node import Node
from supervisor.runtime.spec import NodeInfo
from supervisor.store.contract import Store

if TYPE_CHECKING:
    from supervisor.apiserver.cluster import Cluster
    from supervisor.apiserver.logs import Logs
    from supervisor.apiserver.server import Server
    from supervisor.apiserver.streams import Streams

_PAUSE = 10.0  # seconds after a bug of our own


class DoorOptions(Struct, frozen=True, kw_only=True):
    """Beside the unix socket. `port` None: the last one, or any that is free."""

    https: bool = True
    port: int | None = None
    insecure: str = ""  # ADDRESS:PORT of plain HTTP; empty: none


class Doors:
    """The listening sockets of a node. Raises NodeError and UsageError; a context manager."""

    def __init__(self, state_dir: str, options: DoorOptions) -> None:
        self.opened: list[tuple[socket.socket, Gate, ssl.SSLContext | None]] = []
        self.warnings: list[str] = []
        self.kubeconfig = ""  # where it is; empty: there is no HTTPS
        self.url = ""
        self.token = ""
        self.authority = ""
        self.port = 0
        try:
            if options.insecure:
                self._open_insecure(options.insecure)
            self._open_unix(state_dir)
            if options.https:
                self._open_https(state_dir, options.port)
            else:
                auth.remove_kubeconfig(state_dir)
        except OSError as error:
            self.close()
            why = error.strerror or error
            raise NodeError(f"cannot open the API of the node in {state_dir}: {why}") from error
        except BaseException:
            self.close()
            raise

    def _open_unix(self, state_dir: str) -> None:
        try:
            listener = auth.listen_unix(state_dir)
        except OSError as error:
            # Not every file system has sockets.
            self.warnings.append(
                f"no API for the command line: cannot make {auth.SOCKET} in {state_dir}: "
                f"{error.strerror or error}"
            )
        else:
            self.opened.append((listener, auth.gate_of(listener), None))

    def _open_https(self, state_dir: str, port: int | None) -> None:
        credentials = auth.credentials(state_dir)
        listener, warning = auth.listen_https(state_dir, port)
        if warning:
            self.warnings.append(warning)
        gate = auth.gate_of(listener, credentials.token, secure=True)
        self.opened.append((listener, gate, credentials.context))
        self.url, self.port, self.token = gate.url, gate.port, credentials.token
        self.authority = credentials.ca.decode()
        self.kubeconfig = auth.write_kubeconfig(state_dir, credentials, gate.url)

    def _open_insecure(self, place: str) -> None:
        listener = auth.listen_http(place)
        gate = auth.gate_of(listener)
        self.opened.append((listener, gate, None))
        self.warnings.append(
            f"{gate.url} is open: every user and program of this machine can run programs as you"
        )

    def close(self) -> None:
        """Whatever was not handed on."""
        while self.opened:
            self.opened.pop()[0].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load() -> None:
    """Import what `Api.start` needs. That takes a while: on a thread it holds nobody up."""
    importlib.import_module("supervisor.apiserver.server")


class Api:
    """Answers for one node. Belongs to one asyncio loop."""

    def __init__(self, store: Store, doors: Doors, state_dir: str) -> None:
        self.cache = Cache()
        self._store = store
        self._doors = doors
        self._state_dir = state_dir
        self._logs: Logs | None = None
        self._server: Server | None = None
        self._streams: Streams | None = None
        self._tending: asyncio.Task[None] | None = None

    async def follow(self) -> None:
        """Know what is stored, from now on."""
        await self.cache.start(self._store)

    async def start(self, pods: Pods, info: NodeInfo) -> None:
        """Let requests in."""
        from supervisor.apiserver.cluster import Cluster
        from supervisor.apiserver.discovery import GIT_VERSION
        from supervisor.apiserver.logs import Logs
        from supervisor.apiserver.metrics import Metrics
        from supervisor.apiserver.registry import ObjectRegistry
        from supervisor.apiserver.server import Server
        from supervisor.apiserver.streams import Streams

        doors = self._doors
        owner = info.user(info.uid)
        registry = ObjectRegistry(
            self._store,
            self.cache,
            pods,
            user=owner.name if owner is not None else str(info.uid),
            is_token=lambda text: auth.is_same(text, doors.token),
        )
        cluster = Cluster(
            registry, info, version=GIT_VERSION, authority=doors.authority, port=doors.port
        )
        await cluster.start()
        self._tending = asyncio.create_task(_tend(cluster, pods.node))
        self._logs = Logs(self.cache, self._state_dir)
        self.cache.follow(self._changed)
        metrics = Metrics(self.cache, pods.node)
        self._streams = Streams(self.cache, pods.node.runtime, self._logs)
        self._server = Server(
            self.cache,
            registry,
            self._logs,
            node=pods.node,
            streams=self._streams,
            made={"pods.metrics.k8s.io": metrics.pods, "nodes.metrics.k8s.io": metrics.nodes},
        )
        while doors.opened:
            await self._server.open(*doors.opened[-1])
            doors.opened.pop()

    def logs_grown(self) -> None:
        """Log files may have grown."""
        if self._logs is not None:
            self._logs.grown()

    def _changed(self, change: Change) -> None:
        if change.entry.resource == "pods":
            self.logs_grown()

    async def close(self) -> None:
        """Let nobody in any more, and end what goes on. Also where nothing was started."""
        if self._server is not None:
            await self._server.close()
        if self._streams is not None:
            await self._streams.close()
        if self._tending is not None:
            self._tending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._tending


async def _tend(cluster: Cluster, node: Node) -> None:
    """A bug in there costs what it was about to do, not the node."""
    while True:
        try:
            await cluster.run()
        except Exception:
            node.report_bug("the cluster's own objects", traceback.format_exc())
            await asyncio.sleep(_PAUSE)
