"""The API over HTTP: connections, paths, negotiation, and who does what is asked for.

`Server` answers the requests of any number of doors (auth.py says who may come in by which). It
knows no kind by itself: paths are read by the table of resources.py, reads are answered from the
cache, writes are the registry's, lists and watches are listing.py's, logs are logs.py's. What a
request may cost is bounded here: the size of its head and body, how many connections there are,
and how many of them may stay open for watches, logs and streams.

Every refusal is a Status object. An error of our own is one, too, is reported to the node as a bug,
and costs the one request. A write that has begun is brought to its end, even if its client hangs
up; what a client only listens to ends with the client.

This runs on asyncio, as aiohttp does. It starts with `open` and ends with `close`: then nobody is
let in any more, watches and logs end as after a timeout, and what is being written is waited for.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import socket
import ssl
import time
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from email.utils import formatdate
from functools import partial
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import unquote

import anyio
import msgspec
from aiohttp import HttpVersion11, web
from msgspec import Struct

from supervisor.api import workloads
from supervisor.apiserver import bodies, discovery, listing, logs, negotiation, openapi, records
from supervisor.apiserver.aside import LARGE, Aside
from supervisor.apiserver.auth import Gate
from supervisor.apiserver.bodies import Writer
from supervisor.apiserver.cache import Cache, Entry
from supervisor.apiserver.contract import (
    READING,
    Answer,
    ApiError,
    Cause,
    DeleteOptions,
    Json,
    Registry,
    Resource,
    WriteOptions,
    bad_request,
    not_allowed,
    not_found,
    too_large,
)
from supervisor.apiserver.door import Door
from supervisor.apiserver.listing import ListOptions, Watching
from supervisor.apiserver.negotiation import (
    JSON,
    Query,
    View,
    delete_options,
    indented,
    invalid_options,
    view,
    write_options,
)
from supervisor.apiserver.resources import find, groups, named
from supervisor.kubelet.node import Node
from supervisor.lifecycle.facts import rfc3339

T = TypeVar("T")

BODY_MAX = 3 << 20
_LINE_MAX = 1 << 20  # the words of an exec are in its first line
_HEADER_MAX = 64 << 10
LISTENERS = 1000  # watches, logs and streams in all
_IDLE = 120.0  # seconds between two requests of one connection
_YEAR = 365 * 86400.0
_ENDING = 2.0  # seconds that requests have to end in, when the server does

_PODS = named("pods")
_TEXT = "text/plain; charset=utf-8"
_HEALTH = ("healthz", "livez", "readyz")
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_OF_ONE = {"get", "update", "patch", "delete"}
_OF_ALL = {"list", "watch", "create", "deletecollection"}
_OF_ALL_NAMESPACES = {"list", "watch"}
_NOT_ALLOWED = "the server does not allow this method on the requested resource"

_encode = msgspec.json.encode
_quiet = logging.getLogger("podvisor.apiserver")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False  # a client that sends nonsense is told so, nobody else


class Request(web.BaseRequest):
    """A request whose body is asked for when it is wanted, if its client waits for that.

    Who sends `Expect: 100-continue` would rather not send a body in vain. It is asked for by who
    reads it first; whoever was refused before that may send it or not, so that what comes next on
    the connection could be either, and it ends.
    """

    _asked = False  # for its body

    @property
    def expects(self) -> str:
        """What the client wants to hear before it goes on; empty: nothing."""
        return self.headers.get("Expect", "").lower() if self.version >= HttpVersion11 else ""

    @property
    def keep_alive(self) -> bool:
        waits = self.expects and not self._asked and self.can_read_body
        return super().keep_alive and not waits

    async def read(self) -> bytes:
        """Raises HTTPRequestEntityTooLarge, also where only its length was sent yet."""
        if (size := self.content_length or 0) > BODY_MAX:
            raise web.HTTPRequestEntityTooLarge(max_size=BODY_MAX, actual_size=size)
        await self._ask()
        return await super().read()

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes, of any size."""
        await self._ask()
        async for piece in self.content.iter_any():
            yield piece

    async def _ask(self) -> None:
        if self.expects and self.can_read_body and not self._asked:
            await self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.writer.output_size = 0  # that is not the answer
        self._asked = True


class Call(Struct, frozen=True, kw_only=True):
    """A request, as far as it was understood."""

    request: Request
    resource: Resource
    namespace: str  # empty: of no namespace, or of all
    name: str = ""  # empty: about all of them
    subresource: str = ""
    rest: str = ""  # of the path, behind `proxy/`, as it was sent
    query: Query

    @property
    def verb(self) -> str:
        method = self.request.method
        if method in READING:
            if not self.name:
                return "watch" if self.query.flag("watch") else "list"
            return "get"
        if method == "DELETE" and not self.name:
            return "deletecollection"
        if method == "OPTIONS" and self.subresource == "proxy":
            return "get"  # for the other side to answer; clusters list no verb of its own either
        return _VERBS.get(method, "")

    @property
    def methods(self) -> tuple[str, ...]:
        """Those that this path takes."""
        verbs = set(self.resource.verbs)
        if self.subresource:
            verbs = set(self.resource.subresources[self.subresource][3])
        elif self.name:
            verbs &= _OF_ONE
        elif self.namespace or not self.resource.namespaced:
            verbs &= _OF_ALL
        else:
            verbs &= _OF_ALL_NAMESPACES
        reading = READING if verbs & {"get", "list", "watch"} else ()
        if "deletecollection" in verbs:
            verbs.add("delete")
        passed = ("OPTIONS",) if self.subresource == "proxy" else ()
        return (*reading, *(method for method, verb in _VERBS.items() if verb in verbs), *passed)


# Who serves exec, attach, portforward and proxy. Raises ApiError before it has answered.
Streams = Callable[[Call], Awaitable[web.StreamResponse]]
# A kind that is made when it is asked for (metrics): the objects in a namespace.
Made = Callable[[str], Awaitable[list[Json]]]


class Server:
    """The API of one node."""

    def __init__(
        self,
        cache: Cache,
        registry: Registry,
        logs: logs.Logs,
        *,
        node: Node,
        streams: Streams | None = None,
        made: dict[str, Made] | None = None,
    ) -> None:
        self._cache = cache
        self._registry = registry
        self._logs = logs
        self._node = node
        self._streams = streams
        self._made = made or {}
        self._doors: list[tuple[Door, web.Server]] = []
        self._listening: dict[anyio.CancelScope, anyio.Event] = {}  # who stays, until it has left
        self._writing: set[asyncio.Task[Any]] = set()
        self._closing = False
        self._aside = Aside()

    # --- connections ----------------------------------------------------------------------------

    async def open(
        self, listener: socket.socket, gate: Gate, context: ssl.SSLContext | None = None
    ) -> None:
        """Answer at one more door, from now on. The socket is ours then."""
        door = Door(listener, context)
        server = web.Server(
            partial(self._handle, gate),
            request_factory=partial(_make_request, door),
            handler_cancellation=True,
            access_log=None,
            logger=_quiet,
            max_line_size=_LINE_MAX,
            max_field_size=_HEADER_MAX,
            keepalive_timeout=_IDLE,
            # Bodies are small and taken as they are: what is packed may be of any size.
            auto_decompress=False,
        )

        door.open(server, lambda: len(server.connections))
        self._doors.append((door, server))

    async def close(self) -> None:
        self._closing = True
        for door, _ in self._doors:
            await door.close()
        for scope in tuple(self._listening):
            scope.cancel()
        if self._writing:
            _, late = await asyncio.wait(self._writing, timeout=_ENDING)
            for task in late:  # it waits for a store that has no room
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        with anyio.move_on_after(_ENDING):
            for left in tuple(self._listening.values()):  # they say goodbye
                await left.wait()
        for _, server in self._doors:
            server.pre_shutdown()  # else what is only kept open is waited for
        await asyncio.gather(*(server.shutdown(_ENDING) for _, server in self._doors))
        self._doors.clear()

    # --- one request ----------------------------------------------------------------------------

    async def _handle(self, gate: Gate, request: Request) -> web.StreamResponse:
        try:
            transport = request.transport
            peer = transport.get_extra_info("socket") if transport is not None else None
            try:
                gate.check(request.headers, peer)
            except ApiError as error:
                response = _refused(request, error)
                response.force_close()  # a stranger holds no connection
                return response
            return await self._answer(request)
        except ApiError as error:
            return _refused(request, error)
        except web.HTTPRequestEntityTooLarge:
            text = f"Request entity is too large: limit is {BODY_MAX} bytes"
            return _refused(request, too_large(text))
        except (ConnectionError, web.HTTPException):
            raise  # it has gone away, or speaks no HTTP
        except OSError as error:  # no descriptors, a disk that cannot be read
            text = f"Internal error occurred: {error.strerror or error}"
        except Exception:
            # Not the query: it may hold what only the client should know.
            where = f"{request.method} {request.rel_url.raw_path}"
            self._node.report_bug(where, traceback.format_exc())
            text = "Internal error occurred: a bug of podvisor's own; it was reported to the node"
        if request.writer.output_size and request.transport is not None:
            # In the middle of an answer there is no other one: that it is cut off has to be seen.
            request.transport.abort()
        return _refused(request, ApiError(500, "InternalError", text))

    async def _answer(self, request: Request) -> web.StreamResponse:
        if request.expects not in ("", "100-continue"):
            text = "nothing but 100-continue can be expected (header Expect)"
            raise ApiError(417, "ExpectationFailed", text)
        path = request.rel_url.raw_path
        parts = [unquote(part, errors="replace") for part in path.strip("/").split("/")]
        match parts:
            case ["api", "v1", _, *_]:
                return await self._about_objects(request, "", "v1", parts[2:])
            case ["apis", group, version, _, *_]:
                return await self._about_objects(request, group, version, parts[3:])
            case ["podvisor", "v1", "namespaces", namespace, "pods", name]:
                return self._record(request, namespace, name)
        if request.method not in READING:
            if parts[0] in ("api", "apis"):
                raise not_allowed(_NOT_ALLOWED, READING)
            raise _no_such_path()
        if parts[0] in _HEALTH and len(parts) <= 2:
            return _health(request, parts)
        accept = _accept(request)
        if parts[0] == "openapi":
            path = "/".join(parts[1:])
            found = await self._aside.run(LARGE, partial(openapi.document, path, accept))
            return _openapi(request, found)
        document, media = self._document(parts, accept, _header(request, "Host"))
        if document is None:
            raise _no_such_path()
        response = _json(request, document if isinstance(document, bytes) else _encode(document))
        if media:
            response.headers["Content-Type"] = media
        return response

    def _document(
        self, parts: list[str], accept: str, host: str
    ) -> tuple[Json | bytes | None, str]:
        """What tells of the server itself, and its media type if that is a special one."""
        match parts:
            case [""]:
                paths = ["/api", "/api/v1", "/apis", *(f"/{each}" for each in _HEALTH)]
                paths += [f"/apis/{g}{v}" for g, n in groups().items() for v in ("", f"/{n}")]
                return {"paths": [*paths, "/openapi/v2", "/openapi/v3", "/version"]}, ""
            case ["version"]:
                return discovery.version(), ""
            case ["api" | "apis" as root]:
                if version := discovery.aggregated_version(accept):
                    return discovery.aggregated(root, version), discovery.aggregated_type(version)
                plain = discovery.api_versions(host) if root == "api" else discovery.api_groups()
                return plain, ""
            case ["api", version]:
                return discovery.api_resources("", version), ""
            case ["apis", group]:
                return discovery.api_group(group), ""
            case ["apis", group, version]:
                return discovery.api_resources(group, version), ""
        return None, ""

    async def _about_objects(
        self, request: Request, group: str, version: str, parts: list[str]
    ) -> web.StreamResponse:
        call = _call(request, group, version, parts)
        if call.subresource:
            return await self._about_subresource(call)
        verb = call.verb
        # One object can be watched, too.
        watches = verb == "get" and call.query.flag("watch")
        if (verb := "watch" if watches else verb) not in call.resource.verbs:
            if (
                verb == "delete"
                and "get" in call.resource.verbs
                and call.resource.key not in self._made
            ):
                self._entry(call)  # 404 first: for who takes things down, that is as good as done
            raise _not_allowed(call)
        match verb:
            case "get":
                return await self._get(call)
            case "list":
                asked = listing.options(call.resource, call.query)
                return _json(request, await self._list(call, asked, _shows(call)))
            case "watch":
                return await self._watch(call)
            case "create":
                if call.name:
                    raise _not_allowed(call)
                return await self._create(call)
            case "update" | "patch":
                if not call.name:
                    raise _not_allowed(call)
                return await self._change(call)
            case "delete":
                return await self._delete(call)
            case "deletecollection":
                return await self._delete_collection(call)
        raise _not_allowed(call)

    async def _about_subresource(self, call: Call) -> web.StreamResponse:
        found = call.resource.subresources.get(call.subresource)
        if found is None:
            raise _no_such_path()
        if call.verb not in found[3]:
            raise _not_allowed(call)
        match call.subresource, call.verb:
            case "log", _:
                return await self._log(call)
            case (("exec" | "attach" | "portforward" | "proxy"), _):
                if self._streams is None:
                    raise _no_such_path()
                return await self._stream(self._streams, call)
            case _, "get":
                return await self._get(call)
            case _, "create":
                return await self._post(call)
            case _:
                return await self._change(call)

    # --- reading --------------------------------------------------------------------------------

    async def _get(self, call: Call) -> web.StreamResponse:
        shows = _shows(call)
        listing.check_version(self._cache, call.query.version())
        make = self._made.get(call.resource.key)
        if make is not None:
            made = await make(call.namespace)
            found = (o for o in made if o["metadata"]["name"] == call.name)
            object = next(found, None)
            if object is None:
                raise not_found(call.resource, call.name)
            return _json(call.request, listing.shown(call.resource, object, shows))
        entry = self._entry(call)
        if not shows.kind:
            return _json(call.request, entry.raw)
        include = listing.options(call.resource, call.query).include
        return _json(call.request, listing.shown(call.resource, entry.object, shows, include))

    def _entry(self, call: Call) -> Entry:
        entry = self._cache.get(call.resource.key, call.namespace, call.name)
        if entry is None:
            raise not_found(call.resource, call.name)
        return entry

    async def _list(self, call: Call, asked: ListOptions, shows: View) -> bytes:
        make = self._made.get(call.resource.key)
        if make is None:
            return listing.list_objects(self._cache, call.resource, call.namespace, asked, shows)
        objects = [o for o in await make(call.namespace) if asked.selector.matches(o)]
        metadata = {"resourceVersion": str(self._cache.version)}
        return listing.shown_objects(call.resource, objects, metadata, asked, shows)

    def _record(self, request: Request, namespace: str, name: str) -> web.StreamResponse:
        """What the node knows beyond the object (records.py)."""
        if request.method not in READING:
            raise not_allowed(_NOT_ALLOWED, READING)
        worker = self._node.find(namespace, name)
        if worker is None:
            raise not_found(_PODS, name)
        return _json(request, _encode(records.plain(worker.record, worker.latest_probes)))

    async def _watch(self, call: Call) -> web.StreamResponse:
        asked = listing.options(call.resource, call.query, name=call.name)
        watching = Watching(self._cache, call.resource, call.namespace, asked, _shows(call))
        return await self._streamed(call.request, JSON, watching.blocks(), asked.timeout)

    async def _log(self, call: Call) -> web.StreamResponse:
        asked, entry = logs.options(call.query, call.name), self._entry(call)
        id = logs.instance(entry.object, asked)
        blocks = self._logs.blocks(entry, id, asked)
        if call.request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._over_websocket(call.request, blocks)
        return await self._streamed(call.request, "text/plain", blocks)

    # --- answers that go on ---------------------------------------------------------------------

    async def _stream(self, streams: Streams, call: Call) -> web.StreamResponse:
        with self._listener():
            return await streams(call)
        # The server has ended meanwhile, and nothing more can be said: nor in HTTP, if it was left.
        if call.request.transport is not None:
            call.request.transport.close()
        return web.Response(status=503)

    async def _streamed(
        self,
        request: Request,
        media: str,
        blocks: AsyncGenerator[bytes, None],
        timeout: float | None = None,
    ) -> web.StreamResponse:
        """What comes is sent at once."""
        response = web.StreamResponse(headers={"Content-Type": media, "Cache-Control": "no-cache"})
        response.enable_chunked_encoding()
        with self._listener() as scope:
            if timeout is not None:  # they end by themselves, unless nobody reads them
                scope.deadline = anyio.current_time() + timeout + _ENDING
            async with contextlib.aclosing(blocks):
                await response.prepare(request)
                async for block in blocks:
                    await response.write(block)
        return response

    async def _over_websocket(
        self, request: Request, blocks: AsyncGenerator[bytes, None]
    ) -> web.StreamResponse:
        """Each block is a message; what the client says is not listened to."""
        response = web.WebSocketResponse(protocols=("binary.k8s.io", "base64.binary.k8s.io"))
        with self._listener():
            async with contextlib.aclosing(blocks):
                await response.prepare(request)
                as_text = response.ws_protocol == "base64.binary.k8s.io"
                listening = asyncio.ensure_future(_until_closed(response))
                sending = asyncio.ensure_future(_send(response, blocks, as_text=as_text))
                try:
                    await asyncio.wait((listening, sending), return_when=asyncio.FIRST_COMPLETED)
                    if sending.done():
                        sending.result()
                finally:
                    for task in (listening, sending):
                        task.cancel()
                    await asyncio.gather(listening, sending, return_exceptions=True)
        await response.close()
        return response

    def _listener(self) -> _Listener:
        """One who stays for a while, but not longer than the server. Raises ApiError 429."""
        if self._closing or len(self._listening) >= LISTENERS:
            text = f"Too many requests: {len(self._listening)} clients are watching already"
            raise ApiError(429, "TooManyRequests", text, retry_after=1)
        return _Listener(self._listening)

    # --- writing --------------------------------------------------------------------------------

    async def _create(self, call: Call) -> web.StreamResponse:
        shows = _shows(call)
        body, options = await self._body_and_options(call)
        if call.resource.verbs == ("create",):  # it is asked, and not stored
            work = self._registry.post(call.resource, call.namespace, "", "", body, options)
        else:
            work = self._registry.create(call.resource, call.namespace, body, options)
        return self._answered(call, shows, await self._to_its_end(work))

    def _writer(self, call: Call, manager: str) -> Writer:
        return Writer(
            resource=call.resource,
            name=call.name,
            subresource=call.subresource,
            manager=manager,
            now=rfc3339(self._node.clock.now()),
        )

    async def _post(self, call: Call) -> web.StreamResponse:
        shows = _shows(call)
        body, options = await self._body_and_options(call)
        work = self._registry.post(
            call.resource, call.namespace, call.name, call.subresource, body, options
        )
        return self._answered(call, shows, await self._to_its_end(work))

    async def _change(self, call: Call) -> web.StreamResponse:
        shows, media, applies = _shows(call), _media(call.request), False
        options = _write_options(call)
        writer = self._writer(call, options.field_manager)
        if call.request.method == "PUT":
            body, options = await self._body_and_options(call)
            change = writer.replaced(body)
        elif media == bodies.APPLY:
            applies = True
            body, options = await self._body_and_options(call)
            writer = self._writer(call, call.query.text("fieldManager"))
            options = msgspec.structs.replace(options, applied=True)
            change = writer.applied(body, force=options.force)
        else:
            raw = await call.request.read()
            read = partial(writer.patched, media, raw)
            change, repeated = await self._aside.run(len(raw), read)
            # After the media type: who is told 415 for an apply in CBOR sends it again as YAML.
            if "force" in call.query:
                text = "Forbidden: may not be specified for non-apply patch"
                raise invalid_options("PatchOptions", [Cause("FieldValueForbidden", text, "force")])
            options = msgspec.structs.replace(options, size=len(raw), repeated=repeated)
        work = self._registry.update(
            call.resource,
            call.namespace,
            call.name,
            change,
            options,
            subresource=call.subresource,
            upsert=applies,
        )
        return self._answered(call, shows, await self._to_its_end(work))

    async def _delete(self, call: Call) -> web.StreamResponse:
        shows, options = _shows(call), await self._delete_options(call)
        work = self._registry.delete(call.resource, call.namespace, call.name, options)
        return self._answered(call, shows, await self._to_its_end(work))

    async def _delete_collection(self, call: Call) -> web.StreamResponse:
        shows, options = _shows(call), await self._delete_options(call)
        asked = listing.options(call.resource, call.query)
        entries = self._cache.list(call.resource.key, call.namespace)
        chosen = [each for each in entries if asked.selector.matches(each.object)]

        async def delete_all() -> None:
            for each in chosen:
                try:
                    await self._registry.delete(call.resource, each.namespace, each.name, options)
                except ApiError as error:
                    if error.reason != "NotFound":  # somebody else has deleted it
                        raise

        await self._to_its_end(delete_all())
        metadata = {"resourceVersion": str(self._cache.version)}
        shown = listing.shown_list(call.resource, chosen, metadata, asked, shows)
        return _json(call.request, shown)

    async def _delete_options(self, call: Call) -> DeleteOptions:
        raw = await call.request.read()
        body = bodies.decode(_media(call.request), raw).body if raw.strip() else {}
        return delete_options(call.query, body)

    async def _body_and_options(self, call: Call) -> tuple[Json, WriteOptions]:
        options = _write_options(call)
        raw = await call.request.read()
        read = partial(bodies.decode, _media(call.request), raw)
        decoded = await self._aside.run(len(raw), read)
        repeated = decoded.duplicates
        return decoded.body, msgspec.structs.replace(options, size=len(raw), repeated=repeated)

    def _answered(self, call: Call, shows: View, answer: Answer) -> web.StreamResponse:
        if answer.object.get("kind") == "Status" or call.subresource in ("eviction", "binding"):
            raw = _encode(answer.object)
        else:
            raw = listing.shown(call.resource, answer.object, shows)
        response = _json(call.request, raw, 201 if answer.created else 200)
        for value in negotiation.warnings(answer.warnings):
            response.headers.add("Warning", value)
        return response

    async def _to_its_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Whoever hangs up meanwhile does not leave half of it behind."""
        task = asyncio.ensure_future(work)
        self._writing.add(task)
        task.add_done_callback(self._written)
        return await asyncio.shield(task)

    def _written(self, task: asyncio.Task[Any]) -> None:
        self._writing.discard(task)
        if not task.cancelled():
            task.exception()  # is told to who waits for it, if anybody does


class _Listener:
    """A scope that is cancelled when the server ends: what is in it is left then."""

    def __init__(self, among: dict[anyio.CancelScope, anyio.Event]) -> None:
        self._among = among
        self._scope = anyio.CancelScope()

    def __enter__(self) -> anyio.CancelScope:
        self._among[self._scope] = anyio.Event()
        return self._scope.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self._among.pop(self._scope).set()
        return self._scope.__exit__(kind, error, trace)


def _make_request(
    door: Door,
    message: Any,
    payload: Any,
    protocol: Any,
    writer: Any,
    task: asyncio.Task[None],
) -> Request:
    door.ask(protocol)
    loop = asyncio.get_running_loop()
    return Request(message, payload, protocol, writer, task, loop, client_max_size=BODY_MAX)


# --- requests -------------------------------------------------------------------------------------


def _call(request: Request, group: str, version: str, parts: list[str]) -> Call:
    """Raises ApiError where there is no such path."""
    query = _query(request)
    namespace = ""
    before = len(parts)
    if parts[0] == "namespaces" and len(parts) > 2 and find(group, version, parts[2]):
        _, namespace, *parts = parts
        if not namespace:
            raise _no_such_path()
    resource = find(group, version, parts[0])
    name = parts[1] if len(parts) > 1 else ""
    subresource = parts[2] if len(parts) > 2 else ""
    if resource is None or bool(namespace) > resource.namespaced or (len(parts) > 1 and not name):
        raise _no_such_path()
    rest = ""
    if subresource == "proxy":
        # As it was sent: what is percent-encoded in it is the other side's matter.
        root = 3 if group else 2
        raw = request.rel_url.raw_path.lstrip("/").split("/", root + before - len(parts) + 3)
        rest = raw[-1] if len(parts) > 3 else ""
    elif len(parts) > 3:
        raise _no_such_path()
    call = Call(
        request=request,
        resource=resource,
        namespace=namespace,
        name=name,
        subresource=subresource,
        rest=rest,
        query=query,
    )
    # All namespaces can be read at once, and nothing else.
    if resource.namespaced and not namespace and (name or call.verb not in ("list", "watch")):
        if resource.verbs == ("create",) or (call.verb == "create" and not name):
            text = "an empty namespace may not be set during creation"
            raise bad_request(text)
        raise _no_such_path() if name else _not_allowed(call)
    return call


def _shows(call: Call) -> View:
    """How the answer is wanted: known before anything is done. Raises ApiError 406."""
    return view(_accept(call.request), whole=call.resource.verbs == ("create",))


def _write_options(call: Call) -> WriteOptions:
    agent = _header(call.request, "User-Agent")
    return write_options(call.request.method, call.query, agent)


def _query(request: Request) -> Query:
    given = request.rel_url.query
    return Query(given, {name: given.getall(name) for name in given})


def _header(request: Request, name: str) -> str:
    """As it may stand in an answer: what is not UTF-8 in it is replaced."""
    return request.headers.get(name, "").encode("utf-8", "replace").decode()


def _accept(request: Request) -> str:
    return ",".join(request.headers.getall("Accept", ()))


def _takes_gzip(request: Request) -> bool:
    for each in ",".join(request.headers.getall("Accept-Encoding", ())).split(","):
        coding, _, quality = each.replace(" ", "").partition(";q=")
        if coding == "gzip":
            return not quality or bool(quality.strip("0."))
    return False


def _media(request: Request) -> str:
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower()


# --- answers --------------------------------------------------------------------------------------


def _json(request: Request, raw: bytes, status: int = 200) -> web.Response:
    if request.query_string and _query(request).flag("pretty"):
        raw = indented(raw)
    headers = {"Content-Type": JSON, "Cache-Control": "no-cache, private"}
    return web.Response(body=raw, status=status, headers=headers)


def _openapi(request: Request, found: openapi.Document | None) -> web.Response:
    if found is None:
        raise _no_such_path()
    headers = {"Content-Type": found.content_type, "ETag": found.etag}
    headers["Vary"] = "Accept, Accept-Encoding"
    if request.rel_url.query.get("hash") == found.hash:
        # Whoever names what he wants to see need not ask again: that is what kubectl keeps.
        headers["Cache-Control"] = "public, immutable"
        headers["Expires"] = formatdate(time.time() + _YEAR, usegmt=True)
    if request.headers.get("If-None-Match") == headers["ETag"]:
        return web.Response(status=304, headers=headers)
    if _takes_gzip(request):
        return web.Response(body=found.packed, headers=headers | {"Content-Encoding": "gzip"})
    return web.Response(body=found.body, headers=headers)


def _refused(request: Request, error: ApiError) -> web.Response:
    response = web.Response(
        body=_encode(error.status()), status=error.code, headers={"Content-Type": JSON}
    )
    if error.retry_after:
        response.headers["Retry-After"] = str(error.retry_after)
    if error.code == 405:
        response.headers["Allow"] = ", ".join(error.allow)
    if error.code in (403, 413) and request.can_read_body:
        response.force_close()  # what else is coming is not read
    return response


async def _until_closed(response: web.WebSocketResponse) -> None:
    async for _ in response:
        pass


async def _send(
    response: web.WebSocketResponse, blocks: AsyncGenerator[bytes, None], *, as_text: bool
) -> None:
    async for block in blocks:
        if as_text:
            await response.send_str(base64.b64encode(block).decode())
        else:
            await response.send_bytes(block)


def _health(request: Request, parts: list[str]) -> web.Response:
    what = parts[0]
    if len(parts) == 2 and parts[1] != "ping":
        raise _no_such_path()
    text = "ok"
    if len(parts) == 1 and "verbose" in request.rel_url.query:
        text = f"[+]ping ok\n{what} check passed\n"
    return web.Response(text=text, headers={"Content-Type": _TEXT})


def _no_such_path() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def _not_allowed(call: Call) -> ApiError:
    text, served = _NOT_ALLOWED, call.resource
    if workloads.is_workload({"apiVersion": served.api_version, "kind": served.kind}):
        text += (
            f": nothing here controls {served.plural}, they can only be listed; "
            "`podvisor up FILE` runs the pod of one"
        )
    return not_allowed(text, call.methods)
