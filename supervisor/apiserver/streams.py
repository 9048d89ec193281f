"""exec, attach, portforward and proxy: what a client and a process say to each other.

`Streams` is called by the server with each such request. All that can be wrong is said before the
connection is turned into something else, as a Status; after that only the protocol's own ways are
left. How a client wants to speak is hidden by `remotes.py`; here it is programs, ports and bytes.

    exec         a program with pipes or a terminal of its own; its exit code is the last word
    attach       the main's stdin, and what it logs from now on; all of it for who comes first to
                 an stdin that is for one only
    portforward  TCP to the pod's address, which is the loopback's, any number of connections
    proxy        HTTP to the same, passed on as it comes, upgrades too

Nothing is held for a slow reader but what pipes and sockets hold: each direction waits. Whoever
hangs up takes what was started with it: programs with all that they have started, connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import json
import os
import sys
import termios
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Protocol, Self

import anyio
import msgspec
from aiohttp import web
from multidict import CIMultiDict

from supervisor.apiserver import door, logs
from supervisor.apiserver.cache import Cache, Entry
from supervisor.apiserver.contract import (
    READING,
    ApiError,
    Json,
    bad_request,
    not_allowed,
    not_found,
)
from supervisor.apiserver.logs import Logs
from supervisor.apiserver.remotes import (
    RESIZE,
    STDERR,
    STDIN,
    STDOUT,
    Remote,
    Tunnel,
    open_forwarding,
    open_remote,
    port_number,
)
from supervisor.apiserver.resources import named
from supervisor.apiserver.wires import GoneError, pass_through, upgrade_of
from supervisor.errors import NodeError
from supervisor.lifecycle import reasons
from supervisor.lifecycle.facts import ContainerId
from supervisor.runtime.cri import ExecError, ExecSession, Runtime
from supervisor.runtime.logs import Record

if TYPE_CHECKING:
    import aiohttp

    from supervisor.apiserver.server import Call

_PIECE = 64 << 10  # bytes that are read at once
_LOOK_EVERY = 1.0  # seconds between two looks whether a client that is not read from is still there
_AGAIN = 0.05  # seconds until a terminal is tried again that took nothing
_LINGER = 1.0  # seconds that a terminal may take to end after its program
_PORTS_MAX = 64  # of one request
_FORWARDED_MAX = 1000  # connections of one client; those of all are a share of the descriptors
_CONNECT = 10.0  # seconds
_PODS = named("pods")


class _Session(Protocol):
    """What exec and attach have in common."""

    stdin: int

    def close_stdin(self) -> None: ...

    def resize(self, columns: int, rows: int) -> None: ...


class Streams:
    """The streams of one node's pods. Belongs to one event loop."""

    def __init__(self, cache: Cache, runtime: Runtime, logs: Logs) -> None:
        self._cache = cache
        self._runtime = runtime
        self._logs = logs
        self._session: aiohttp.ClientSession | None = None
        self._greeted: set[ContainerId] = set()  # instances that somebody has been attached to
        self._forwarded = 0  # connections to pods

    async def __call__(self, call: Call) -> web.StreamResponse:
        """Raises ApiError before anything is answered."""
        if call.resource.plural == "nodes":
            return self._node_proxy(call)
        match call.subresource:
            case "exec":
                return await self._exec(call)
            case "attach":
                return await self._attach(call)
            case "portforward":
                return await self._port_forward(call)
            case _:
                return await self._proxy(call)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    # --- which pod, which container -------------------------------------------------------------

    def _pod(self, call: Call, name: str) -> Entry:
        entry = self._cache.get("pods", call.namespace, name)
        if entry is None:
            raise not_found(_PODS, name)
        return entry

    def _wanted(self, call: Call) -> dict[str, bool]:
        flags = {name: call.query.flag(name) for name in ("stdin", "stdout", "stderr", "tty")}
        if not any(flags[name] for name in ("stdin", "stdout", "stderr")):
            raise bad_request("you must specify at least 1 of stdin, stdout, stderr")
        if flags["tty"]:
            flags["stderr"] = False  # a terminal has one output
        return flags

    def _instance(self, call: Call, doing: str) -> tuple[Entry, Json, ContainerId]:
        """The pod, the container's own fields, and its running instance. Raises ApiError."""
        entry = self._pod(call, call.name)
        spec, status = entry.object["spec"], entry.object.get("status") or {}
        phase = status.get("phase")
        if phase in reasons.TERMINAL_PHASES:
            raise bad_request(
                f"cannot {doing} a container in a completed pod; current phase is {phase}"
            )
        name = call.query.text("container") or logs.only_container(spec, call.name)
        container = logs.find_container(entry.object, name)
        id = logs.running(entry.object, name)
        if id is None:
            raise bad_request(f'container not found ("{name}")')
        return entry, container, id

    # --- exec -----------------------------------------------------------------------------------

    async def _exec(self, call: Call) -> web.StreamResponse:
        argv = tuple(call.request.rel_url.query.getall("command", ()))
        if not argv:
            raise bad_request("you must specify at least 1 command for the container")
        wanted = self._wanted(call)
        _, _, id = self._instance(call, "exec into")
        remote = await open_remote(call.request, wanted)
        if remote is None:
            raise bad_request("Upgrade request required")
        with contextlib.suppress(GoneError):
            async with remote:
                await remote.finish(await self._run(remote, id, argv, wanted))
        return remote.response

    async def _run(
        self, remote: Remote, id: ContainerId, argv: tuple[str, ...], wanted: dict[str, bool]
    ) -> Json:
        try:
            session = await self._runtime.open_exec(id, argv, **wanted)
        except (ExecError, NodeError, OSError) as error:
            return _failure(error)
        async with session:
            return await self._converse(remote, session, lambda: _said(remote, session, wanted))

    async def _converse(self, remote: Remote, session: _Session, speak: Callable[[], Any]) -> Json:
        """Both directions at once, until `speak` is done, which gives the last word. Raises
        GoneError when the client has gone."""
        status: Json | None = None
        async with anyio.create_task_group() as tasks:

            async def listen() -> None:
                try:
                    await self._listen(remote, session)
                except GoneError:
                    tasks.cancel_scope.cancel()

            tasks.start_soon(listen)
            with contextlib.suppress(GoneError):
                status = await speak()
            tasks.cancel_scope.cancel()
        if status is None:
            raise GoneError
        return status

    async def _listen(self, remote: Remote, session: _Session) -> None:
        """Pass on what the client says. Raises GoneError when it has gone."""
        while True:
            channel, data = await remote.receive()
            if channel == RESIZE and data:
                for columns, rows in _sizes(data):
                    session.resize(columns, rows)
            elif channel == STDIN and data is None:
                session.close_stdin()
            elif channel == STDIN and data:
                await _write(session, data, remote)

    # --- attach ---------------------------------------------------------------------------------

    async def _attach(self, call: Call) -> web.StreamResponse:
        wanted = self._wanted(call)
        entry, container, id = self._instance(call, "attach to")
        if wanted["tty"] and not container.get("tty"):
            raise bad_request(f"container {id.name} has no terminal (tty) to attach to")
        wanted["tty"] = bool(container.get("tty"))
        first = bool(container.get("stdinOnce")) and id not in self._greeted
        remote = await open_remote(call.request, wanted)
        if remote is None:
            raise bad_request("Upgrade request required")
        self._greeted = {known for known in self._greeted if _is_there(self._cache, known)} | {id}

        async def shown() -> Json:
            every = self._logs.records(entry, id, from_start=first)
            async with contextlib.aclosing(every):
                async for records in every:
                    if records is None and (wanted["stdout"] or wanted["stderr"]):
                        await remote.send(STDOUT if wanted["stdout"] else STDERR, logs.GAP)
                    for stream, some in itertools.groupby(
                        records or (), lambda record: record.stream
                    ):
                        if wanted[stream.decode()]:
                            channel = STDERR if stream == b"stderr" else STDOUT
                            await remote.send(channel, b"".join(map(_line, some)))
            return _SUCCESS

        async def talk() -> Json:
            session: Any = _Nothing()
            if wanted["stdin"] and container.get("stdin"):
                try:
                    session = await self._runtime.open_attach(id)
                except (ExecError, OSError) as error:
                    return _failure(error)
            async with session:
                return await self._converse(remote, session, shown)

        with contextlib.suppress(GoneError):
            async with remote:
                await remote.finish(await talk())
        return remote.response

    # --- port-forward ---------------------------------------------------------------------------

    async def _port_forward(self, call: Call) -> web.StreamResponse:
        entry = self._pod(call, call.name)
        phase = (entry.object.get("status") or {}).get("phase")
        if phase != "Running":
            raise bad_request(
                f"unable to forward port because pod is not running. Current status={phase}"
            )
        ports = []
        for text in call.request.rel_url.query.getall("ports", ()):
            ports += [_port(word) for word in text.split(",") if word]
        if len(ports) > _PORTS_MAX:
            raise bad_request(f"at most {_PORTS_MAX} ports can be forwarded at once")
        forwarding = await open_forwarding(call.request, ports)
        if forwarding is None:
            raise bad_request("Upgrade request required")
        address = _address(entry)
        where = f"pod {entry.namespace}/{entry.name}"
        own = 0

        async def forward(tunnel: Tunnel) -> None:
            nonlocal own
            most = door.share()
            if own >= _FORWARDED_MAX or self._forwarded >= most:
                full = f"all clients together have {most}"
                if own >= _FORWARDED_MAX:
                    full = f"this client has {_FORWARDED_MAX}"
                text = f"{full} connections already, and there can be no more"
                await _fail(tunnel, where, text)
                return
            own, self._forwarded = own + 1, self._forwarded + 1
            try:
                await _forward(tunnel, address, where)
            finally:
                own, self._forwarded = own - 1, self._forwarded - 1

        async with forwarding, anyio.create_task_group() as tasks:
            try:
                async for tunnel in forwarding.tunnels():
                    tasks.start_soon(forward, tunnel)
            except GoneError:
                tasks.cancel_scope.cancel()
        return forwarding.response

    # --- proxy ----------------------------------------------------------------------------------

    def _node_proxy(self, call: Call) -> web.StreamResponse:
        """What kubelets answer, as far as it is asked for."""
        if self._cache.get("nodes", "", call.name) is None:
            raise not_found(named("nodes"), call.name)
        if call.request.method not in READING:
            raise not_allowed("the node answers GET only", READING)
        match call.rest.strip("/"):
            case "pods":
                items = [entry.object for entry in self._cache.list("pods")]
                body = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}
                return web.Response(
                    body=msgspec.json.encode(body), headers={"Content-Type": "application/json"}
                )
            case "healthz":
                return web.Response(text="ok")
            case path:
                raise ApiError(404, "NotFound", f"the node has nothing at /{path}")

    async def _proxy(self, call: Call) -> web.StreamResponse:
        import aiohttp
        from yarl import URL

        scheme, name, port = _named_port(call.name)
        if scheme not in ("", "http", "https"):
            raise bad_request(f"only http and https are passed on, not {scheme}")
        entry = self._pod(call, name)
        number = _container_port(entry, port)
        path, query = f"/{call.rest}", call.request.rel_url.raw_query_string
        host = f"{_address(entry)}:{number}"
        url = URL(f"{scheme or 'http'}://{host}{path}{'?' + query if query else ''}", encoded=True)
        request = call.request
        # Who waits to be asked for the body is asked by us, once the pod is connected to.
        headers = _passed_on(request.headers, "Host", "Authorization", "Content-Length", "Expect")
        headers["X-Forwarded-Uri"] = request.rel_url.raw_path
        upgrade = upgrade_of(request)
        if upgrade:
            headers["Connection"], headers["Upgrade"] = "Upgrade", upgrade
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT)
            self._session = aiohttp.ClientSession(
                # One that is kept open would hold up a pod that is to end.
                connector=aiohttp.TCPConnector(force_close=True),
                timeout=timeout,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            )
        body: Any = None
        if request.can_read_body:
            body = request.pieces()
            if request.content_length is not None:
                headers["Content-Length"] = str(request.content_length)
        try:
            answer = await self._session.request(
                request.method,
                url,
                headers=headers,
                data=body,
                allow_redirects=False,
                ssl=False,  # certificates of pods are their own
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else error
            if isinstance(error, aiohttp.ClientConnectorError):
                why = error.os_error.strerror or error.os_error
            text = f"error trying to reach service: {host}: {why or 'timed out'}"
            raise ApiError(503, "ServiceUnavailable", text) from error
        async with answer:
            given = _passed_on(answer.headers)
            location = given.get("Location", "")
            if location.startswith("/") and not location.startswith("//"):
                given["Location"] = f"{_prefix(call)}{location}"
            if answer.status == 101:
                if not upgrade:
                    text = f"error trying to reach service: {host}: it switches protocols unasked"
                    raise ApiError(503, "ServiceUnavailable", text)
                given["Upgrade"] = answer.headers.get("Upgrade", upgrade)
                return await pass_through(request, answer, given)
            response = web.StreamResponse(status=answer.status, headers=given)
            if "Content-Length" not in given and request.version >= (1, 1):
                response.enable_chunked_encoding()
            await response.prepare(request)
            if request.method != "HEAD":
                try:
                    async for piece in answer.content.iter_any():
                        await response.write(piece)
                except aiohttp.ClientError:
                    response.force_close()  # cut off: the client is not told that it was all
                    assert request.transport is not None
                    request.transport.abort()
        return response


# --- the last word --------------------------------------------------------------------------------

_SUCCESS: Json = {"metadata": {}, "status": "Success"}


def _exited(code: int) -> Json:
    if not code:
        return _SUCCESS
    message = f"command terminated with non-zero exit code: exit status {code}"
    causes = [{"reason": "ExitCode", "message": str(code)}]
    return {
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": "NonZeroExitCode",
        "details": {"causes": causes},
    }


def _failure(error: Exception) -> Json:
    text = f"Internal error occurred: error executing command in container: {error}"
    return {
        "metadata": {},
        "status": "Failure",
        "message": text,
        "reason": "InternalError",
        "details": {"causes": [{"message": str(error)}]},
        "code": 500,
    }


# --- what a program says --------------------------------------------------------------------------


class _Output:
    """One stream of a program, on its way to the client."""

    def __init__(self, fd: int, send: Callable[[bytes], Awaitable[None]]) -> None:
        self._fd, self._send = fd, send
        self._waiting: anyio.CancelScope | None = None
        self._left: int | None = None  # bytes that are still passed on; None: all up to the end
        self.over = anyio.Event()

    async def pass_on(self) -> None:
        """Raises GoneError."""
        while self._left is None or self._left > 0:
            try:
                data = os.read(self._fd, _PIECE if self._left is None else min(_PIECE, self._left))
            except BlockingIOError:
                if self._left is not None:
                    break
                with anyio.CancelScope() as self._waiting:
                    await anyio.wait_readable(self._fd)
                self._waiting = None
                continue
            except OSError:  # EIO: nobody has the terminal any more
                break
            if not data:
                break
            if self._left is not None:
                self._left -= len(data)
            await self._send(data)
        self.over.set()

    def finish(self) -> None:
        """Pass on what is there now, and no more: whoever the program has left behind may hold the
        other end, and write, for ever."""
        self._left = int.from_bytes(
            fcntl.ioctl(self._fd, termios.FIONREAD, bytes(4)), sys.byteorder
        )
        if self._waiting is not None:
            self._waiting.cancel()


async def _said(remote: Remote, session: ExecSession, wanted: dict[str, bool]) -> Json:
    """Pass on what a program says until it has ended; then how that was, as a Status. Raises
    GoneError."""
    outputs = [
        _Output(fd, partial(remote.send, channel))
        for fd, channel in ((session.stdout, STDOUT), (session.stderr, STDERR))
        if fd >= 0
    ]
    gone = False

    async def pass_on(output: _Output) -> None:
        nonlocal gone
        try:
            await output.pass_on()
        except GoneError:
            gone = True
            tasks.cancel_scope.cancel()

    status: Json = {}
    async with anyio.create_task_group() as tasks:
        for output in outputs:
            tasks.start_soon(pass_on, output)
        try:
            status = _exited(await session.wait())
        except (ExecError, NodeError) as error:
            status = _failure(error)
        if wanted["tty"]:
            # A terminal ends with its leader; what was written last comes a moment later.
            with anyio.move_on_after(_LINGER):
                for output in outputs:
                    await output.over.wait()
        for output in outputs:
            output.finish()
    if gone:
        raise GoneError
    return status


def _line(record: Record) -> bytes:
    return record.content if record.partial else record.content + b"\n"


# --- bytes to a program ---------------------------------------------------------------------------


async def _write(session: _Session, data: bytes, remote: Remote) -> None:
    """Wait for who reads slowly, but not for a client that has gone meanwhile: while it is not
    read from, nothing else tells. Raises GoneError."""
    view, looked, told = memoryview(data), anyio.current_time(), False
    while view and (fd := session.stdin) >= 0:
        try:
            view = view[os.write(fd, view) :]
            told = False
        except BlockingIOError:
            if told:
                # A terminal that its program has left is ready all the time, and takes nothing:
                # who believes it goes in circles, where not even the end of the client is heard.
                await anyio.sleep(_AGAIN)
            else:
                with anyio.move_on_after(_LOOK_EVERY):
                    await anyio.wait_writable(fd)
                    told = True
            if anyio.current_time() >= looked + _LOOK_EVERY:
                looked = anyio.current_time()
                if remote.has_gone():
                    raise GoneError from None
        except OSError:  # EPIPE: it reads no more
            return


def _sizes(data: bytes) -> Iterable[tuple[int, int]]:
    """Of terminals, as they are told: one or several JSON documents."""
    for line in data.split(b"\n"):
        try:
            size = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):
            continue
        if isinstance(size, dict):
            columns, rows = size.get("Width"), size.get("Height")
            if not (isinstance(columns, int) and isinstance(rows, int)):
                continue
            if 0 <= columns < 1 << 16 and 0 <= rows < 1 << 16:
                yield columns, rows


class _Nothing:
    """Attached, but only to listen."""

    stdin = -1

    def close_stdin(self) -> None: ...

    def resize(self, columns: int, rows: int) -> None: ...

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...


def _is_there(cache: Cache, id: ContainerId) -> bool:
    return any(entry.uid == id.pod_uid for entry in cache.list("pods"))


# --- ports ----------------------------------------------------------------------------------------


def _port(text: str) -> int:
    if (number := port_number(text)) is not None:
        return number
    raise bad_request(f'"{text}" is no port: must be between 1 and 65535')


def _address(entry: Entry) -> str:
    """Where the pod is reached; never beyond this machine's loopback."""
    address = str((entry.object.get("status") or {}).get("podIP") or "127.0.0.1")
    try:
        return address if ip_address(address).is_loopback else "127.0.0.1"
    except ValueError:
        return "127.0.0.1"


async def _connect(address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """What listens on ::1 alone, as servers for developers do, is found there: so do runtimes."""
    connect = partial(asyncio.open_connection, port=port, limit=1 << 17)
    try:
        return await connect(address)
    except ConnectionRefusedError:
        with contextlib.suppress(OSError):
            return await connect("::1")
        raise


async def _forward(tunnel: Tunnel, address: str, where: str) -> None:
    """One connection, from its beginning to its end in both directions."""
    try:
        async with asyncio.timeout(_CONNECT):
            reader, writer = await _connect(address, tunnel.port)
    except (OSError, TimeoutError) as error:
        why = getattr(error, "strerror", None) or str(error) or "timed out"
        await _fail(tunnel, where, f"{address}:{tunnel.port}: {why}")
        return
    clean = False
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_out, tunnel, writer, tasks.cancel_scope)
            with contextlib.suppress(GoneError, OSError):
                while data := await reader.read(_PIECE):
                    await tunnel.send(data)
                await tunnel.end()
                clean = True
            if not clean or not tunnel.half_closes:
                tasks.cancel_scope.cancel()
    finally:
        if clean:
            writer.close()  # when the rest is sent
        else:
            writer.transport.abort()
        with contextlib.suppress(GoneError):
            await tunnel.finish(clean=clean)


async def _fail(tunnel: Tunnel, where: str, why: str) -> None:
    with contextlib.suppress(GoneError):
        await tunnel.fail(f"error forwarding port {tunnel.port} to {where}: {why}")


async def _out(tunnel: Tunnel, writer: asyncio.StreamWriter, scope: anyio.CancelScope) -> None:
    try:
        while (data := await tunnel.receive()) is not None:
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except (GoneError, OSError, RuntimeError):  # uvloop's word for a connection that has gone
        scope.cancel()


# --- proxied requests -----------------------------------------------------------------------------

_HOP_BY_HOP = frozenset(
    (
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization"),
        *("proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
    )
)


def _passed_on(headers: Any, *without: str) -> CIMultiDict[str]:
    named_here = {word.strip().lower() for word in headers.get("Connection", "").split(",")}
    dropped = _HOP_BY_HOP | named_here | {name.lower() for name in without}
    return CIMultiDict(
        (name, value) for name, value in headers.items() if name.lower() not in dropped
    )


def _prefix(call: Call) -> str:
    """Of the path, up to what the pod sees."""
    return call.request.rel_url.raw_path.removesuffix(call.rest).rstrip("/")


def _named_port(name: str) -> tuple[str, str, str]:
    """[SCHEME:]NAME[:PORT]"""
    match name.split(":"):
        case [pod]:
            return "", pod, ""
        case [pod, port]:
            return "", pod, port
        case [scheme, pod, port]:
            return scheme, pod, port
    raise bad_request(f'"{name}" is not NAME, NAME:PORT or SCHEME:NAME:PORT')


def _container_port(entry: Entry, port: str) -> int:
    known: Sequence[Json] = [
        each
        for container in entry.object["spec"].get("containers") or ()
        for each in container.get("ports") or ()
    ]
    if not port:
        return int(known[0]["containerPort"]) if known else 80
    for each in known:
        if each.get("name") == port:
            return int(each["containerPort"])
    return _port(port)
