"""Probes and hooks made once: over HTTP, TCP, gRPC, and by a program run in the container.

One call of `Handlers.run_probe` is one probe as the kubelet makes it, and its texts are the
kubelet's, because they end up in events that people and scripts read. Some of them were written by
the Go libraries below the kubelet, so errors of Python's are said in Go's words here.

A failure says something about the container; an error says that the attempt could not be made
(§5.3). Errors are tried again at once, three attempts in all, within the one timeout of the probe.
Whatever the other side does, a probe costs at most that time, and 1 MiB.

    handler    success          failure                              error
    httpGet    200 to 399       other status, no answer in time      the body breaks off
    tcpSocket  connected        not connected in time                -
    grpc       SERVING          every other answer, or none          -
    exec       exit code 0      other exit codes, not ended in time  cannot be started

Besides, it is an error of any handler when this machine has no file descriptors or ports left,
which the kubelet counts as failure: it says nothing about the container.

One call of `Handlers.run_hook` is one run of a lifecycle hook (§6.3). It asks over HTTP with the
same code, but has no time limit and tries nothing again: whoever owes a hook knows until when it
may run, and cancels the call. What it says when it fails is for the container's status.

    handler    success                          failure
    exec       exit code 0                      other exit codes, cannot be started
    httpGet    any answer, whatever its status  none
    sleep      always                           -
    tcpSocket  -                                always, as in Kubernetes

aiohttp and grpc cost more to import than the rest of podvisor, so they are imported on a thread
by the first probe or hook that needs them, before its time runs. gRPC gets a thread with an event
loop for good: grpc.aio binds a poller of the whole process to the first loop that it meets, and
the loops of embedding programs come and go.
"""

from __future__ import annotations

import _socket
import asyncio
import contextlib
import errno
import functools
import importlib
import ipaddress
import json
import os
import re
import socket
import ssl
import threading
from collections.abc import Awaitable, Iterable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, unquote, urljoin, urlsplit

import anyio
import anyio.to_thread
from msgspec import Struct
from msgspec.structs import replace

from supervisor.api import v1
from supervisor.kubelet.clock import Clock, loop_time, time_limit
from supervisor.lifecycle import reasons
from supervisor.lifecycle.facts import ProbeOutcome
from supervisor.runtime.cri import (
    ContainerGoneError,
    ExecError,
    ExecInterruptedError,
    ExecResult,
)
from supervisor.runtime.spec import expand

if TYPE_CHECKING:
    import aiohttp
    from multidict import CIMultiDict
    from yarl import URL

# Of the Kubernetes release whose behaviour is imitated.
USER_AGENT = "kube-probe/1.35"
HOOK_USER_AGENT = "kube-lifecycle/1.35"
LIMIT = 10 * 1024  # bytes of output or body that are looked at (§5.4.4, §5.7.2)
ATTEMPTS = 3  # of a probe that ends in an error (§5.2.9)
_REDIRECTS = 10

# The machine's own shortages: they say nothing about the container.
_SHORTAGES = {
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ENOBUFS,
    errno.EADDRNOTAVAIL,
}


class Observation(Struct, frozen=True):
    """What one probe gave."""

    outcome: ProbeOutcome
    output: str = ""


class HookResult(Struct, frozen=True):
    """How one run of a hook ended."""

    ok: bool
    message: str = ""  # why it failed, as the kubelet puts it into the container's status
    output: str = ""  # of a program
    fallback: str = ""  # who was asked over https, answered in plain HTTP, and was asked so again


class Execute(Protocol):
    """Runs a program in the container: `Runtime.exec` of one instance. Raises ExecError."""

    def __call__(
        self, argv: tuple[str, ...], *, timeout: float | None, limit: int
    ) -> Awaitable[ExecResult]: ...


class Handlers:
    """Makes probes and runs hooks. Belongs to one event loop; `close` it there."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or Clock()
        self._http = _Http()

    async def prepare(self, probe: v1.Probe) -> None:
        """Import what the probe needs; otherwise the probe does, before its time runs."""
        if probe.http_get is not None:
            await _import("aiohttp")
        elif probe.grpc is not None:
            await _import("grpc")
            await _import("grpc_health.v1.health_pb2")

    async def run_probe(
        self, probe: v1.Probe, container: v1.Container, *, host: str, execute: Execute
    ) -> Observation:
        """Make one probe of a container of a pod whose address is `host`."""
        await self.prepare(probe)
        begun = loop_time()
        seen = await self._attempt(probe, container, host, execute)
        if seen.outcome is not ProbeOutcome.ERROR:
            return seen
        rest = time_limit(begun + probe.timeout_seconds - loop_time())
        with rest:  # an attempt that is cut off here says nothing: the error before it stands
            for _ in range(ATTEMPTS - 1):
                if rest.cancel_called or seen.outcome is not ProbeOutcome.ERROR:
                    break
                seen = await self._attempt(probe, container, host, execute)
        return seen

    async def _attempt(
        self, probe: v1.Probe, container: v1.Container, host: str, execute: Execute
    ) -> Observation:
        seconds = float(probe.timeout_seconds)
        if probe.exec is not None:
            command = static_command(probe.exec.command, container)
            return await _exec(command, seconds, execute)
        try:
            if probe.http_get is not None:
                return await self._http.get(probe.http_get, container, host, seconds)
            if probe.tcp_socket is not None:
                port = resolve_port(probe.tcp_socket.port, container)
                return await _tcp(probe.tcp_socket.host or host, port, seconds)
        except PortError as error:
            return _error(str(error))
        if probe.grpc is not None:
            return await _grpc(host, probe.grpc.port, probe.grpc.service or "", seconds)
        return _error("missing probe handler")

    async def run_hook(
        self,
        handler: v1.LifecycleHandler,
        container: v1.Container,
        *,
        pod: str,
        host: str,
        execute: Execute,
        headers: Mapping[str, str],
    ) -> HookResult:
        """Run a hook of a container to its end; `pod` is name_namespace(uid), `host` its address.

        `headers` are sent besides those of the manifest, which come first where both name one.
        """
        failed = f"for Container {_quoted(container.name)} in Pod {_quoted(pod)} failed - error"
        if handler.exec is not None:
            return await _exec_hook(handler.exec.command, failed, execute)
        if handler.http_get is not None:
            try:
                fallback = await self._http.send(handler.http_get, container, host, headers)
            except (PortError, _NoAnswerError) as error:
                path = handler.http_get.path
                return HookResult(False, f"HTTP lifecycle hook ({path}) {failed}: {error}")
            return HookResult(True, fallback=fallback)
        if handler.sleep is not None:
            await self._clock.sleep(handler.sleep.seconds)
            return HookResult(True)
        return HookResult(False, f"Cannot run handler: invalid handler: {_go_handler(handler)}")

    async def close(self) -> None:
        await self._http.close()


_imported: set[str] = set()  # to the end: sys.modules has what is still being imported, too


async def _import(name: str) -> None:
    """On a thread, so that the loop goes on meanwhile."""
    if name not in _imported:
        await anyio.to_thread.run_sync(importlib.import_module, name)
        _imported.add(name)


def describe(probe: v1.Probe, container: v1.Container, host: str) -> str:
    """What a probe does, in a few words: `http-get http://127.0.0.1:80/`, `exec [cat /ok]`."""
    try:
        if probe.exec is not None:
            return f"exec [{' '.join(static_command(probe.exec.command, container))}]"
        if probe.http_get is not None:
            port = resolve_port(probe.http_get.port, container)
            return f"http-get {http_url(probe.http_get, host, port)}"
        if probe.tcp_socket is not None:
            port = resolve_port(probe.tcp_socket.port, container)
            return f"tcp-socket {join_host_port(probe.tcp_socket.host or host, port)}"
    except PortError as error:
        return str(error)
    assert probe.grpc is not None
    return f"grpc {join_host_port(host, probe.grpc.port)} {probe.grpc.service or ''}".rstrip()


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _go_handler(handler: v1.LifecycleHandler) -> str:
    """A handler of tcpSocket as Go prints it."""
    assert handler.tcp_socket is not None
    port, host = handler.tcp_socket.port, handler.tcp_socket.host
    pair = f"{{1 0 {port}}}" if isinstance(port, str) else f"{{0 {port} }}"
    action = f"&TCPSocketAction{{Port:{pair},Host:{host},}}"
    return f"&LifecycleHandler{{Exec:nil,HTTPGet:nil,TCPSocket:{action},Sleep:nil,}}"


def _success(output: str) -> Observation:
    return Observation(ProbeOutcome.SUCCESS, output)


def _failure(output: str) -> Observation:
    return Observation(ProbeOutcome.FAILURE, output)


def _error(output: str) -> Observation:
    return Observation(ProbeOutcome.ERROR, output)


# --- ports and addresses -----------------------------------------------------------------------


class PortError(ValueError):
    """A port that means nothing. The text is Go's."""


def resolve_port(port: v1.IntOrString | None, container: v1.Container) -> int:
    """The number of a port, or of a declared port of that name. Raises PortError."""
    number = port
    if isinstance(number, str):
        named = next((p.container_port for p in container.ports if p.name == number), None)
        if named is None:
            if not re.fullmatch(r"[+-]?[0-9]{1,18}", number, re.ASCII):
                raise PortError(f"strconv.Atoi: parsing {json.dumps(number)}: invalid syntax")
            named = int(number)
        number = named
    if number is None or not 0 < number < 65536:
        raise PortError(f"invalid port number: {number or 0}")
    return number


def join_host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@functools.lru_cache(1024)
def _family(host: str) -> socket.AddressFamily | None:
    """Of an address; None for a name."""
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return None
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _words(error: OSError) -> str:
    """An error of the system as Go says it."""
    if error.errno is None:
        return str(error)
    return os.strerror(error.errno).lower()


def _dial_error(address: str, error: OSError) -> str:
    """Why no connection was made, as Go's dialer says it."""
    if isinstance(error, socket.gaierror):
        return f"dial tcp: lookup {address.rpartition(':')[0]}: no such host"
    call = "socket" if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM) else "connect"
    return f"dial tcp {address}: {call}: {_words(error)}"


def _not_connected(text: str, error: OSError) -> Observation:
    return _error(text) if error.errno in _SHORTAGES else _failure(text)


# --- exec (§5.7) -------------------------------------------------------------------------------


def static_command(command: Iterable[str], container: v1.Container) -> tuple[str, ...]:
    """The command with `$(NAME)` replaced, from variables with a literal value only (§5.7.1)."""
    literal = {v.name: v.value for v in container.env if v.value_from is None}
    return tuple(expand(word, literal) for word in command)


async def _exec(command: tuple[str, ...], seconds: float, execute: Execute) -> Observation:
    try:
        result = await execute(command, timeout=seconds, limit=LIMIT)
    except ExecError as error:
        return _error(str(error))
    if result.exit_code is None:
        words = _quoted(" ".join(command))
        return _failure(
            f"command timed out: {words} timed out after {reasons.go_duration(seconds)}"
        )
    output = result.output[:LIMIT].decode("utf-8", "replace")
    return _success(output) if result.exit_code == 0 else _failure(output)


async def _exec_hook(command: tuple[str, ...], failed: str, execute: Execute) -> HookResult:
    """The command as it stands: nothing is replaced in it."""
    words, output = " ".join(command), ""
    try:
        result = await execute(command, timeout=None, limit=LIMIT)
        output = result.output[:LIMIT].decode("utf-8", "replace")
        if result.exit_code == 0:
            return HookResult(True, output=output)
        why = f"command '{words}' exited with {result.exit_code}"
    except (ContainerGoneError, ExecInterruptedError):
        raise  # no failure of the hook
    except ExecError as error:
        why = str(error)
    message = f"Exec lifecycle hook ([{words}]) {failed}: {why}, message: {_quoted(output)}"
    return HookResult(False, message, output)


# --- tcpSocket (§5.5) --------------------------------------------------------------------------


async def _tcp(host: str, port: int, seconds: float) -> Observation:
    address = join_host_port(host, port)
    with time_limit(seconds) as scope:
        try:
            await _dial(host, port)
        except OSError as error:
            return _not_connected(_dial_error(address, error), error)
        return _success("")
    assert scope.cancelled_caught
    return _failure(f"dial tcp {address}: i/o timeout")


async def _dial(host: str, port: int) -> None:
    """Connect and close. Tries all addresses of a name; the first one's error is raised."""
    loop = asyncio.get_running_loop()
    family = _family(host)
    if family is not None:
        await _connect(loop, family, (host, port))
        return
    first: OSError | None = None
    for found in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            await _connect(loop, found[0], found[4])
        except OSError as error:
            first = first or error
        else:
            return
    raise first or socket.gaierror(socket.EAI_NONAME, "no address")


async def _connect(loop: asyncio.AbstractEventLoop, family: int, address: tuple[Any, ...]) -> None:
    # Closed as any socket. The kubelet sets SO_LINGER to 1 s against TIME_WAIT, which on Linux
    # changes nothing about TIME_WAIT but lets close() block, here the loop, for up to a second.
    # Without Python's class around it, whose looks at its own kind cost as much as connecting.
    sock: Any = _socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        await loop.sock_connect(sock, address)
        own = sock.getsockname()
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno)) from None
    finally:
        sock.close()
    if own[:2] == address[:2]:
        # A free port of this host that happened to be ours, too: nobody listens there.
        raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))


# --- httpGet (§5.4, §6.3.2) --------------------------------------------------------------------

# What Go leaves alone in a path that is escaped already, and what it does not escape itself.
_VALID_PATH = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/\[\]]|%[0-9A-Fa-f]{2})*", re.ASCII)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})|[\x00-\x1f\x7f]")
_GO_UNESCAPED = "$&+,/:;=@-_.~"
# Written by the transport itself, never taken from the user.
_OWN_HEADERS = {"Content-Length", "Transfer-Encoding", "Trailer", "Connection"}
_RAW_LINE = re.compile(r"b(['\"])(.*?)(?<!\\)\1", re.DOTALL)

# An answer costs a few times the bytes and header fields that it has, so these are limited.
_MAX_ANSWER = 128 * 1024  # until enough of the body has come
_MAX_HEADERS = 1000
_MAX_INTERIM = 5  # answers with a status 1xx at once
_BUFFER = 16 * 1024
_PIECE = 4 * 1024  # is parsed before the limits are looked at again
_BROKEN = "net/http: HTTP/1.x transport connection broken: "
_TOO_LONG = f"{_BROKEN}net/http: server response headers exceeded {_MAX_ANSWER} bytes; aborted"


class _Exchange:
    """The HTTP exchange that this task is having: how far it is, what its errors are told with."""

    __slots__ = ("address", "answered", "local", "protocol", "url")

    def __init__(self, url: str) -> None:
        self.url = url  # asked last
        self.address: Any = None  # dialled first
        self.local: Any = None  # of our end, once connected
        self.protocol: Any = None  # the same; what it `heard`, and whether it `gave_up`
        self.answered = False  # the headers of the final answer have come

    @property
    def broken(self) -> str:
        """What Go says before an error that comes after the first byte of an answer."""
        return _BROKEN if self.protocol is not None and self.protocol.heard else ""


class _NoAnswerError(Exception):
    """There was no answer. The text is Go's."""

    def __init__(self, url: str, why: str, *, shortage: bool = False) -> None:
        super().__init__(f"Get {_quoted(url)}: {why}")
        self.shortage = shortage  # of this machine


_exchange: ContextVar[_Exchange] = ContextVar("exchange")


def _make_socket(info: tuple[Any, ...]) -> socket.socket:
    """Called by aiohttp for each connection."""
    family, kind, protocol, _, address = info
    exchange = _exchange.get()
    if exchange.address is None:
        exchange.address = address
    return socket.socket(family, kind, protocol)


class _Http:
    """Makes HTTP requests with one aiohttp session, whose connections serve one request each."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def get(
        self, action: v1.HTTPGetAction, container: v1.Container, pod_host: str, seconds: float
    ) -> Observation:
        host = action.host or pod_host
        port = resolve_port(action.port, container)
        if self._session is None:
            self._session = _new_session()
        url, headers = _request(action, host, port, USER_AGENT)
        exchange = _Exchange(str(url))
        with time_limit(seconds):
            return await _http_get(self._session, exchange, url, headers)
        if exchange.answered:
            return _error(
                "context deadline exceeded "
                "(Client.Timeout or context cancellation while reading body)"
            )
        why = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        return _failure(str(_NoAnswerError(exchange.url, why)))

    async def send(
        self,
        action: v1.HTTPGetAction,
        container: v1.Container,
        pod_host: str,
        more: Mapping[str, str],
    ) -> str:
        """Make the request of a hook (§6.3.2). Raises PortError, _NoAnswerError.

        Gives the host and port that were asked over https, understood only plain HTTP, and got the
        request that way; else nothing.
        """
        host = action.host or pod_host
        port = resolve_port(action.port, container)
        await _import("aiohttp")
        if self._session is None:
            self._session = _new_session()
        session = self._session
        url, headers = _request(action, host, port, HOOK_USER_AGENT)
        headers = headers.copy()
        for name, value in more.items():
            headers.setdefault(name, value)
        try:
            await _deliver(session, url, headers)
        except _NoAnswerError as error:
            if _PLAIN_HTTP not in str(error):
                raise
            plain, _ = _request(replace(action, scheme="HTTP"), host, port, HOOK_USER_AGENT)
            headers.popall("Authorization", None)  # it was not meant to be read on the way
            try:
                await _deliver(session, plain, headers)
            except _NoAnswerError:
                raise error from None
            return join_host_port(host, port)
        return ""

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def _new_session() -> aiohttp.ClientSession:
    import aiohttp
    from aiohttp.client_proto import ResponseHandler

    class Protocol(ResponseHandler):
        """Listens no longer to who talks on without saying anything."""

        heard = 0
        gave_up = False

        def data_received(self, data: bytes) -> None:
            for start in range(0, len(data), _PIECE) or (0,):
                if self._reading_paused:  # by the body, and the rest is kept until it is wanted
                    super().data_received(data[start:])
                    return
                self.heard += min(len(data) - start, _PIECE)
                if self.heard > _MAX_ANSWER or len(self) > _MAX_INTERIM:
                    self.gave_up = True
                    self.set_exception(aiohttp.ClientError(_TOO_LONG))
                    if self.transport is not None:
                        self.transport.close()
                    return
                super().data_received(data[start : start + _PIECE])

    class Connector(aiohttp.TCPConnector):
        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            make: Any = functools.partial(Protocol, loop=self._loop)
            self._factory = make

    class Request(aiohttp.ClientRequest):
        async def send(self, conn: Any) -> aiohttp.ClientResponse:
            exchange = _exchange.get()
            exchange.protocol = conn.protocol
            exchange.local = conn.transport.get_extra_info("sockname")
            return await super().send(conn)

    session = aiohttp.ClientSession(
        connector=Connector(
            force_close=True,
            limit=0,
            use_dns_cache=False,
            ssl=False,  # no certificate is checked (§5.4.1)
            socket_factory=_make_socket,
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
        auto_decompress=False,
        request_class=Request,
        read_bufsize=_BUFFER,
        max_line_size=_MAX_ANSWER,
        max_field_size=_MAX_ANSWER,
        max_headers=_MAX_HEADERS,
    )
    # aiohttp would ask a second time when the connection breaks, thinking of kept connections.
    session._retry_connection = False  # noqa: SLF001
    return session


async def _ask(
    session: aiohttp.ClientSession, exchange: _Exchange, url: URL, headers: CIMultiDict[str]
) -> aiohttp.ClientResponse:
    """The final answer, whose body is still to come: close it. Raises _NoAnswerError."""
    import aiohttp

    host = url.host
    token = _exchange.set(exchange)
    try:
        for count in range(1, _REDIRECTS + 1):
            try:
                response = await session.get(url, headers=headers, allow_redirects=False)
            except (aiohttp.ClientError, OSError, ValueError) as error:
                raise _no_answer(exchange, error, tls=url.scheme == "https") from error
            location = response.headers.get("Location")
            if not location or response.status not in (301, 302, 303, 307, 308):
                break
            try:
                target = urljoin(exchange.url, location)
                if urlsplit(target).hostname != host:
                    break
                url, headers = _redirected(url, target, location, headers)
            except ValueError as error:
                response.close()
                why = f"failed to parse Location header {json.dumps(location)}: {error}"
                raise _NoAnswerError(exchange.url, why) from error
            response.close()
            if count == _REDIRECTS:
                raise _NoAnswerError(location, f"stopped after {_REDIRECTS} redirects")
            exchange.url = target
            exchange.address = exchange.local = exchange.protocol = None
    finally:
        _exchange.reset(token)
    exchange.answered = True
    return response


async def _http_get(
    session: aiohttp.ClientSession, exchange: _Exchange, url: URL, headers: CIMultiDict[str]
) -> Observation:
    try:
        response = await _ask(session, exchange, url, headers)
    except _NoAnswerError as error:
        return _error(str(error)) if error.shortage else _failure(str(error))
    try:
        return await _conclude(response, exchange)
    finally:
        response.close()


async def _deliver(session: aiohttp.ClientSession, url: URL, headers: CIMultiDict[str]) -> None:
    """A hook is done when it is answered; the rest is heard out, if it is short, and forgotten."""
    import aiohttp

    response = await _ask(session, _Exchange(str(url)), url, headers)
    try:
        if (response.content_length or 0) <= LIMIT:
            with contextlib.suppress(aiohttp.ClientError, OSError):
                await _read_at_most(response.content, LIMIT)
    finally:
        response.close()


async def _conclude(response: aiohttp.ClientResponse, exchange: _Exchange) -> Observation:
    """What an answer to a probe means (§5.4.2)."""
    import aiohttp

    try:
        body = await _read_at_most(response.content, LIMIT)
    except (aiohttp.ClientError, OSError) as error:
        broken = ConnectionResetError(errno.ECONNRESET, "")
        if isinstance(error, OSError) or type(broken).__name__ in str(error):
            url = response.url
            return _error(_read_error(exchange, url.host or "", url.port or 0, broken))
        return _error("unexpected EOF")
    text = body.decode("utf-8", "replace")
    if 300 <= response.status < 400:
        return Observation(
            ProbeOutcome.WARNING, f"Probe terminated redirects, Response body: {text}"
        )
    if 200 <= response.status < 300:
        return _success(text)
    return _failure(f"HTTP probe failed with statuscode: {response.status}")


async def _read_at_most(content: aiohttp.StreamReader, limit: int) -> bytes:
    body = await content.read(limit)
    if not body or len(body) == limit:
        return body
    while len(body) < limit:
        more = await content.read(limit - len(body))
        if not more:
            break
        body += more
    return body


@functools.lru_cache(4096)
def _request(
    action: v1.HTTPGetAction, host: str, port: int, agent: str
) -> tuple[URL, CIMultiDict[str]]:
    """URL and headers of the first request; the same for all attempts."""
    from multidict import CIMultiDict
    from yarl import URL

    return URL(http_url(action, host, port), encoded=True), CIMultiDict(
        http_headers(action.http_headers, agent)
    )


def http_url(action: v1.HTTPGetAction, host: str, port: int) -> str:
    """The URL of a probe or hook, escaped as Go does it (§5.4.7)."""
    path = action.path or "/"
    query = ""
    if not _BAD_ESCAPE.search(path):  # else it is no URL to Go, and is taken for a path as it is
        path = path.partition("#")[0]
        path, mark, query = path.partition("?")
        query = mark + quote(query, safe="%!$&'()*+,;=:@/?[]{}|\\^`~-._\"<>")
        escaped = path if _VALID_PATH.fullmatch(path) else quote(unquote(path), _GO_UNESCAPED)
    else:
        escaped = quote(path, _GO_UNESCAPED)
    if not escaped.startswith("/"):
        escaped = "/" + escaped
    scheme = (action.scheme or "HTTP").lower()
    return f"{scheme}://{join_host_port(host, port)}{escaped}{query}"


def http_headers(given: Iterable[v1.HTTPHeader], agent: str) -> list[tuple[str, str]]:
    """The headers of the request of a probe or hook (§5.4.5)."""
    headers: dict[str, list[str]] = {}
    for header in given:
        headers.setdefault(_canonical(header.name), []).append(header.value)
    headers.setdefault("User-Agent", [agent])
    for single in ("User-Agent", "Host"):  # Go takes the first one
        headers[single] = [value for value in headers.get(single, [])[:1] if value]
    if not headers.setdefault("Accept", ["*/*"])[0]:
        del headers["Accept"]
    for own in _OWN_HEADERS:
        headers.pop(own, None)
    headers["Connection"] = ["close"]
    return [(name, value) for name, values in headers.items() for value in values]


def _canonical(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+", name, re.ASCII):
        return name
    return "-".join(part[:1].upper() + part[1:].lower() for part in name.split("-"))


def _redirected(
    url: URL, target: str, location: str, headers: CIMultiDict[str]
) -> tuple[URL, CIMultiDict[str]]:
    """The next request. As Go's client, it says where it comes from."""
    from yarl import URL

    after = URL(target)
    headers = headers.copy()
    if urlsplit(location).netloc:
        headers.pop("Host", None)  # it was for the first place
    if not (url.scheme == "https" and after.scheme == "http"):
        headers.setdefault("Referer", str(url.with_user(None)))
    return after, headers


# --- why an HTTP request failed, in Go's words --------------------------------------------------


_PLAIN_HTTP = "http: server gave HTTP response to HTTPS client"


def _no_answer(exchange: _Exchange, error: Exception, *, tls: bool) -> _NoAnswerError:
    parts = urlsplit(exchange.url)
    host, port = parts.hostname or "", parts.port or (443 if tls else 80)
    cause = getattr(error, "os_error", error)
    shortage = isinstance(cause, OSError) and cause.errno in _SHORTAGES
    return _NoAnswerError(exchange.url, _http_error(error, exchange, host, port), shortage=shortage)


def _http_error(error: Exception, exchange: _Exchange, host: str, port: int) -> str:
    import aiohttp

    if exchange.protocol is not None and exchange.protocol.gave_up:
        return _TOO_LONG
    address = join_host_port(host, port)
    if exchange.address is not None:
        address = join_host_port(*exchange.address[:2])
    if isinstance(error, aiohttp.ClientSSLError):
        return _tls_error(error)
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
        if isinstance(cause, (ConnectionResetError, ConnectionAbortedError)):  # in the handshake
            return "EOF" if cause.errno is None else _read_error(exchange, host, port, cause)
        return _dial_error(address, cause)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        if isinstance(error.message, str):
            return "EOF"
        return f"{_BROKEN}unexpected EOF"
    if isinstance(error, OSError) and error.errno is not None:
        return exchange.broken + _read_error(exchange, host, port, error)
    if isinstance(error, aiohttp.ClientResponseError):
        raw = _RAW_LINE.search(error.message)
        if raw is None:
            return _BROKEN + error.message.strip()
        # Python's escapes are nearly those of Go's %q.
        line = raw[2].replace("\\'", "'").replace('"', '\\"')
        return f'{_BROKEN}malformed HTTP response "{line}"'
    if isinstance(error, (aiohttp.NonHttpUrlClientError, aiohttp.InvalidURL)):
        scheme = str(error).partition(":")[0]
        return f"unsupported protocol scheme {json.dumps(scheme)}"
    return str(error) or type(error).__name__


def _read_error(exchange: _Exchange, host: str, port: int, error: OSError) -> str:
    peer = join_host_port(*(exchange.address or (host, port))[:2])
    ends = f"{join_host_port(*exchange.local[:2])}->{peer}" if exchange.local else peer
    return f"read tcp {ends}: read: {_words(error)}"


# The alerts that Go words otherwise than OpenSSL.
_ALERTS = {
    "BAD_RECORD_MAC": "bad record MAC",
    "CERTIFICATE_EXPIRED": "expired certificate",
    "CERTIFICATE_REVOKED": "revoked certificate",
    "CERTIFICATE_UNKNOWN": "unknown certificate",
    "DECODE_ERROR": "error decoding message",
    "DECRYPT_ERROR": "error decrypting message",
    "INSUFFICIENT_SECURITY": "insufficient security level",
    "PROTOCOL_VERSION": "protocol version not supported",
    "UNKNOWN_CA": "unknown certificate authority",
    "USER_CANCELLED": "user canceled",
}


def _tls_error(error: Exception) -> str:
    cause = getattr(error, "os_error", error)
    reason = getattr(cause, "reason", "") or ""
    if reason == "WRONG_VERSION_NUMBER":
        return _PLAIN_HTTP
    if isinstance(cause, ssl.SSLEOFError):
        return "EOF"
    if "ALERT" in reason:
        name = reason.partition("ALERT_")[2]
        return f"remote error: tls: {_ALERTS.get(name) or name.lower().replace('_', ' ')}"
    return f"tls: {reason.lower().replace('_', ' ') or cause}"


# --- grpc (§5.6) -------------------------------------------------------------------------------

_NO_RPC = "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"
_RPC_FAILED = "error: health rpc probe failed: rpc error: code ="
_MAX_MESSAGE = 64 * 1024  # an answer has two bytes
_MESSAGE_TOO_LARGE = re.compile(r"[Mm]essage larger than max (\(.*?\))")


async def _grpc(host: str, port: int, service: str, seconds: float) -> Observation:
    check = _grpc_check(join_host_port(host, port), service, seconds)
    future = asyncio.run_coroutine_threadsafe(check, _grpc_loop())
    return await asyncio.wrap_future(future)


_loop: asyncio.AbstractEventLoop | None = None
_loop_lock = threading.Lock()


def _grpc_loop() -> asyncio.AbstractEventLoop:
    """The loop on which all gRPC of this process happens, on a thread of its own."""
    global _loop
    with _loop_lock:
        if _loop is None:
            _loop = asyncio.SelectorEventLoop()
            _loop.call_soon(_keep_grpc)
            threading.Thread(target=_loop.run_forever, name="podvisor-grpc", daemon=True).start()
        return _loop


def _keep_grpc() -> None:
    """Else it is shut down with each last channel, waiting for a poller that a peer may hold up."""
    from grpc import aio

    aio.init_grpc_aio()


def _forget_grpc_loop() -> None:
    """A forked child has no threads but the one that forked."""
    global _loop, _loop_lock
    _loop, _loop_lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget_grpc_loop)


@functools.cache
def _grpc_options() -> tuple[tuple[str, Any], ...]:
    return (
        ("grpc.primary_user_agent", USER_AGENT),
        ("grpc.use_local_subchannel_pool", 1),  # else channels share their connections
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.max_receive_message_length", _MAX_MESSAGE),
    )


async def _grpc_check(address: str, service: str, seconds: float) -> Observation:
    """Ask a health service, on the gRPC loop. One deadline for dial and call."""
    import grpc
    from google.protobuf.message import DecodeError
    from grpc import aio
    from grpc_health.v1 import health_pb2 as pb

    request = pb.HealthCheckRequest(service=service).SerializeToString()
    async with aio.insecure_channel(f"dns:///{address}", options=_grpc_options()) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        name, details = "DEADLINE_EXCEEDED", ""
        try:
            # A peer that floods the connection keeps gRPC from looking at its own deadline. (It
            # words its cancellation in its own way, so only asyncio's time limits know it again.)
            async with asyncio.timeout(seconds):
                # Refused connections are dialled again until the deadline, as by a blocking dial.
                answer: bytes = await check(request, timeout=seconds, wait_for_ready=True)
                name = "OK"
        except TimeoutError:
            pass
        except aio.AioRpcError as error:
            name, details = error.code().name, error.details() or ""
        if name != "OK":
            connected = channel.get_state() is grpc.ChannelConnectivity.READY
            return _failure(_grpc_failure(name, details, address, seconds, connected=connected))
    try:
        status = pb.HealthCheckResponse.FromString(answer).status
    except DecodeError:
        return _failure(
            f"{_RPC_FAILED} Internal desc = grpc: failed to unmarshal the received message: "
            "proto: cannot parse invalid wire-format data"
        )
    if status == pb.HealthCheckResponse.SERVING:
        return _success("service healthy")
    names = pb.HealthCheckResponse.ServingStatus
    name = names.Name(status) if status in names.values() else str(status)
    return _failure(f'service unhealthy (responded with "{name}")')


def _grpc_failure(name: str, details: str, address: str, seconds: float, *, connected: bool) -> str:
    within = reasons.go_duration(seconds)
    if name == "DEADLINE_EXCEEDED":
        if connected:
            return f"timeout: health rpc did not complete within {within}"
        return (
            f'timeout: failed to connect service "{address}" within {within}: '
            "context deadline exceeded"
        )
    if name == "UNIMPLEMENTED":
        return f"{_NO_RPC}: {details}"
    if not connected and name == "UNAVAILABLE" and "name resolution" in details.lower():
        return f'error: failed to connect service at "{address}": {details}'
    if (sizes := _MESSAGE_TOO_LARGE.search(details)) is not None:
        details = f"grpc: received message larger than max {sizes[1]}"
    code = "".join(part.capitalize() for part in name.split("_"))
    code = {"Cancelled": "Canceled"}.get(code, code)
    return f"{_RPC_FAILED} {code} desc = {details}"
