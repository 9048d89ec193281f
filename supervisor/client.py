"""A small client of a node's API: what the command line asks it with.

It speaks HTTP/1.1 over the unix socket in the node's state folder, one connection a request. Each
command of `podvisor` begins by importing this, so it imports next to nothing; http.client alone
would cost more than the whole request (it brings ssl and email). It knows no kind of object but
pods: the node says which there are. Objects are the plain dictionaries of their JSON.

    client = Client(find_state_dir(os.getcwd()))
    client.get(PODS, "default", "web")
    for event in client.watch(PODS, "default", since=version): ...

What the node refuses is a StatusError, in the words of kubectl. Where no node answers, it is a
NodeError that names the command which starts one. Another user's node is never asked, and nothing
is tried twice: whoever wants to wait for a node does so.
"""

from __future__ import annotations

import _socket
import json
import os
import stat
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Self

from supervisor.errors import NodeError, StatusError, UsageError

Json = dict[str, Any]

STATE = ".podvisor"  # a project's state folder
SOCKET = "api.sock"  # in a state folder, as apiserver/auth.py makes it
KUBECONFIG = "kubeconfig"  # likewise
CONFIG = "podvisor.toml"

JSON = "application/json"
# What kubectl sends, too: the node draws the table.
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
_DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_PATCH = "application/strategic-merge-patch+json"
_APPLY = "application/apply-patch+yaml"
MANAGER = "podvisor"  # of the fields that the command line sets

_TIMEOUT = 30.0  # seconds without a byte of an answer
_MAX_PATH = 107  # bytes of a socket's path
_MAX_HEAD = 64 * 1024  # bytes of an answer's headers
_UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


def find_state_dir(start: str, override: str | None = None) -> str:
    """The state folder of the node that a folder belongs to. It need not be there.

    Upwards to the nearest `.podvisor` of this user's, but not out of a project: where
    podvisor.toml lies, its state folder belongs. Without either it is that of `start`.
    """
    if override is not None:
        return os.path.abspath(override)
    folder = os.path.abspath(start)
    while True:
        place = os.path.join(folder, STATE)
        if _is_own_folder(place) or os.path.lexists(os.path.join(folder, CONFIG)):
            return place
        parent = os.path.dirname(folder)
        if parent == folder:
            return os.path.join(os.path.abspath(start), STATE)
        folder = parent


def _is_own_folder(path: str) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


class NotRunningError(NodeError):
    """No node answers on that state folder; `state_dir` may hold what an earlier one has stored."""

    def __init__(self, message: str, state_dir: str) -> None:
        super().__init__(message)
        self.state_dir = state_dir


class Kind(NamedTuple):
    """One kind of object, as the node's discovery tells it."""

    plural: str
    singular: str
    kind: str
    group: str = ""  # empty: the core group
    version: str = "v1"
    namespaced: bool = True
    verbs: tuple[str, ...] = ()
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def key(self) -> str:
        """Its name in messages: pods, leases.coordination.k8s.io."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def named(self, name: str) -> str:
        """One object in what commands print: pod/web, lease.coordination.k8s.io/web."""
        return f"{self.singular}{f'.{self.group}' if self.group else ''}/{name}"

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Of one object, or of all of them; without a namespace, those of all namespaces."""
        parts = [f"apis/{self.group}" if self.group else "api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", _quoted(namespace)]
        parts.append(self.plural)
        parts += [_quoted(part) for part in (name, subresource) if part]
        return "/" + "/".join(parts)


PODS = Kind("pods", "pod", "Pod", short_names=("po",), categories=("all",))
EVENTS = Kind("events", "event", "Event", short_names=("ev",))


def kind_of(kinds: Iterable[Kind], manifest: Json) -> Kind:
    """Of an object, by its apiVersion and kind. Raises UsageError."""
    version, name = manifest.get("apiVersion"), manifest.get("kind")
    for kind in kinds:
        if (kind.api_version, kind.kind) == (version, name):
            return kind
    raise UsageError(f'no matches for kind "{name}" in version "{version}"')


def find_kind(kinds: Iterable[Kind], word: str) -> Kind:
    """The one that is called so. Raises UsageError."""
    name, _, rest = word.lower().partition(".")
    for kind in kinds:
        names = (kind.plural, kind.singular, kind.kind.lower(), *kind.short_names)
        group = rest.removeprefix(kind.version).removeprefix(".")
        if name and name in names and (not rest or group == kind.group):
            return kind
    raise UsageError(f'the server doesn\'t have a resource type "{word}"')


class Response:
    """An answer whose body is read as it comes. A context manager, which closes it."""

    def __init__(self, reader: _Reader, status: int, headers: list[tuple[str, str]]) -> None:
        self.status = status
        self._reader = reader
        self._headers = headers
        self._body = reader.body(self.header("transfer-encoding"), self.header("content-length"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def header(self, name: str) -> str:
        """The first header of this name (in lower case), or nothing."""
        return next((value for each, value in self._headers if each == name), "")

    def headers(self, name: str) -> list[str]:
        return [value for each, value in self._headers if each == name]

    def chunks(self) -> Iterator[bytes]:
        """Pieces as they come. Raises TimeoutError, NodeError where the node ends in between."""
        yield from self._body

    def lines(self) -> Iterator[bytes]:
        """Whole lines without their newline; a last one that has none, too."""
        rest = b""
        for chunk in self._body:
            *lines, rest = (rest + chunk).split(b"\n") if b"\n" in chunk else (rest + chunk,)
            yield from lines
        if rest:
            yield rest

    def read(self) -> bytes:
        return b"".join(self._body)

    def json(self) -> Json:
        answer: Json = json.loads(self.read())
        return answer

    def set_timeout(self, seconds: float | None) -> None:
        """How long to wait for each further piece; None: for ever."""
        self._reader.socket.settimeout(seconds)

    @property
    def rest(self) -> bytes:
        """What has come behind the head of an answer without a body."""
        return self._reader.buffered

    def close(self) -> None:
        self._reader.socket.close()


class Upgraded(NamedTuple):
    """A connection that speaks another protocol now."""

    connection: _socket.socket
    rest: bytes  # what has come behind the answer
    protocol: str


class Client:
    """One node. `warn` is told the warnings of its answers, as plain text.

    Every method raises StatusError for what the node refuses and NodeError where it cannot be
    asked; `timeout` is how many seconds it may be silent.
    """

    def __init__(
        self,
        state_dir: str,
        *,
        timeout: float = _TIMEOUT,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self.state_dir = os.path.abspath(state_dir)
        self.timeout = timeout
        self.warn = warn
        self._kinds: list[Kind] | None = None  # nobody has asked yet

    # --- kinds ----------------------------------------------------------------------------------

    def kinds(self) -> list[Kind]:
        """All that the node serves."""
        if self._kinds is None:
            self._kinds = [
                *_discovered(self.json("GET", "/api", accept=_DISCOVERY)),
                *_discovered(self.json("GET", "/apis", accept=_DISCOVERY)),
            ]
        return self._kinds

    def kind(self, word: str) -> Kind:
        """By one of its names: po, pod, Pods, leases.coordination.k8s.io. Raises UsageError."""
        return PODS if word.lower() in ("po", "pod", "pods") else find_kind(self.kinds(), word)

    def kind_of(self, manifest: Json) -> Kind:
        """Of an object, by its apiVersion and kind. Raises UsageError."""
        said = manifest.get("apiVersion"), manifest.get("kind")
        is_pod = said == (PODS.api_version, PODS.kind)
        return PODS if is_pod else kind_of(self.kinds(), manifest)

    # --- objects --------------------------------------------------------------------------------

    def get(self, kind: Kind, namespace: str, name: str, *, table: bool = False) -> Json:
        path = kind.path(namespace, name)
        return self.json("GET", path, accept=TABLE if table else JSON)

    def find(self, kind: Kind, namespace: str, name: str) -> Json | None:
        """`get`, or None where there is no such object."""
        try:
            return self.get(kind, namespace, name)
        except StatusError as error:
            if error.reason == "NotFound":
                return None
            raise

    def list(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        table: bool = False,
        query: Mapping[str, object] | None = None,
    ) -> Json:
        """The List, or Table. `labels` and `fields` are selectors; no namespace: of all."""
        asked = {"labelSelector": labels, "fieldSelector": fields, **(query or {})}
        accept = TABLE if table else JSON
        return self.json("GET", kind.path(namespace), query=asked, accept=accept)

    def create(self, kind: Kind, namespace: str, body: Json, *, dry_run: bool = False) -> Json:
        """A new object; it is what is returned."""
        query = _writing(dry_run=dry_run)
        return self.json("POST", kind.path(namespace), query=query, body=body)

    def patch(
        self, kind: Kind, namespace: str, name: str, patch: Json, *, subresource: str = ""
    ) -> Json:
        """The object as it is after a strategic merge patch."""
        query, path = _writing(), kind.path(namespace, name, subresource)
        return self.json("PATCH", path, query=query, body=patch, content_type=_PATCH)

    def apply(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        body: Json,
        *,
        force: bool = False,
        dry_run: bool = False,
    ) -> tuple[Json, bool]:
        """Server-side apply; the object, and whether it is new."""
        query = _writing(dry_run=dry_run) | {"force": str(force).lower()}
        path = kind.path(namespace, name)
        with self.request("PATCH", path, query=query, body=body, content_type=_APPLY) as response:
            return response.json(), response.status == 201

    def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        grace: int | None = None,
        uid: str = "",
        propagation: str = "",
        dry_run: bool = False,
    ) -> Json:
        """Ask for the end of an object: it, or a Status, is what is returned. `grace` in seconds;
        `uid`: only that one."""
        body: Json = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        if uid:
            body["preconditions"] = {"uid": uid}
        if propagation:
            body["propagationPolicy"] = propagation
        if dry_run:
            body["dryRun"] = ["All"]
        return self.json("DELETE", kind.path(namespace, name), body=body)

    def watch(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        name: str = "",
        labels: str = "",
        fields: str = "",
        since: str = "",
        table: bool = False,
        timeout: float | None = None,
    ) -> Iterator[Json]:
        """Events `{type, object}` from after the version `since`; without one, all there is comes
        first as ADDED.

        Ends when the node ends it, and after `timeout` seconds. An ERROR event is raised as
        StatusError: reason Expired where `since` is too old.
        """
        by_name = f"metadata.name={name}" if name else ""
        asked: dict[str, object] = {
            "watch": "true",
            "labelSelector": labels,
            "fieldSelector": ",".join(filter(None, (by_name, fields))),
            "resourceVersion": since,
            "timeoutSeconds": "" if timeout is None else max(1, -int(-timeout // 1)),
        }
        end = None if timeout is None else time.monotonic() + timeout
        accept = TABLE if table else JSON
        with self.request("GET", kind.path(namespace), query=asked, accept=accept) as response:
            lines = response.lines()
            while True:
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    return
                response.set_timeout(left)
                try:
                    line = next(lines, None)
                except TimeoutError:
                    return
                if line is None:
                    return
                if not line.strip():
                    continue
                event: Json = json.loads(line)
                if event["type"] == "ERROR":
                    raise StatusError(event["object"])
                yield event

    def states(
        self, kind: Kind, namespace: str, name: str, *, timeout: float | None = None
    ) -> Iterator[Json | None]:
        """An object as it is now, and then as it becomes; None while there is none.

        Goes on until `timeout` (seconds) is over. A state may come twice.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            listed = self.list(kind, namespace, fields=f"metadata.name={name}")
            yield next(iter(listed["items"]), None)
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return
            since = listed["metadata"]["resourceVersion"]
            try:
                for event in self.watch(kind, namespace, name=name, since=since, timeout=left):
                    if event["type"] != "BOOKMARK":
                        yield None if event["type"] == "DELETED" else event["object"]
            except StatusError as error:
                if not error.is_expired:
                    raise

    def log(self, namespace: str, name: str, query: Mapping[str, object] | None = None) -> Response:
        """The log of a container, by the query of the API: container, follow, tailLines, ..."""
        asked = query or {}
        response = self.request("GET", PODS.path(namespace, name, "log"), query=asked, accept="*/*")
        if asked.get("follow"):
            response.set_timeout(None)
        return response

    # --- requests -------------------------------------------------------------------------------

    def json(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: Json | None = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> Json:
        """The whole answer of a request."""
        with self.request(
            method, path, query=query, body=body, content_type=content_type, accept=accept
        ) as response:
            try:
                return response.json()
            except TimeoutError as error:
                raise self._silent() from error
            except ValueError as error:
                raise NodeError(f"cannot read the answer to {method} {path}: {error}") from error

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: Json | bytes | None = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> Response:
        """Any request; the answer is 2xx. Empty values in `query` are left out; of a list each."""
        target = path + _query(query or {})
        headers = [f"{method} {target} HTTP/1.1", "Host: localhost", f"Accept: {accept}"]
        headers += ["User-Agent: podvisor", "Connection: close"]
        sent = body if isinstance(body, bytes) else b"" if body is None else _encoded(body)
        if body is not None:
            headers += [f"Content-Type: {content_type}", f"Content-Length: {len(sent)}"]
        connection = self.connect()
        try:
            response = _asked(connection, "\r\n".join(headers).encode() + b"\r\n\r\n" + sent)
            refusal = _refusal(response) if response.status >= 300 else None
        except TimeoutError as error:
            connection.close()
            raise self._silent() from error
        except OSError as error:
            connection.close()
            raise NodeError(f"cannot ask the node on {self.state_dir}: {error}") from error
        except BaseException:
            connection.close()
            raise
        for warning in response.headers("warning"):
            if self.warn is not None:
                self.warn(_warning(warning))
        if refusal is not None:
            response.close()
            raise refusal
        return response

    def upgrade(
        self, path: str, *, query: Mapping[str, object], protocols: tuple[str, ...]
    ) -> Upgraded:
        """Ask for a WebSocket; the connection is the caller's from then on."""
        # A key proves that no cache between us has answered; there is none on a unix socket.
        headers = [f"GET {path}{_query(query)} HTTP/1.1", "Host: localhost", "Connection: Upgrade"]
        headers += ["User-Agent: podvisor", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
        headers += ["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
        headers += [f"Sec-WebSocket-Protocol: {', '.join(protocols)}"]
        connection = self.connect()
        try:
            response = _asked(connection, "\r\n".join(headers).encode() + b"\r\n\r\n")
            refusal = _refusal(response) if response.status != 101 else None
        except TimeoutError as error:
            connection.close()
            raise self._silent() from error
        except BaseException:
            connection.close()
            raise
        if refusal is not None:
            response.close()
            raise refusal
        return Upgraded(connection, response.rest, response.header("sec-websocket-protocol"))

    def connect(self) -> _socket.socket:
        """A connection to the node's API, for whoever speaks on it himself. Raises NodeError."""
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        folder = -1
        try:
            connection.settimeout(self.timeout)
            path = os.path.join(self.state_dir, SOCKET)
            if len(os.fsencode(path)) > _MAX_PATH:
                folder = os.open(self.state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                path = f"/proc/self/fd/{folder}/{SOCKET}"
            connection.connect(path)
            asked = _CREDENTIALS.size
            credentials = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, asked)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
            connection.close()
            raise self._not_running() from error
        except TimeoutError as error:
            connection.close()
            raise self._silent() from error
        except OSError as error:
            connection.close()
            raise self._unreachable(error) from error
        finally:
            if folder >= 0:
                os.close(folder)
        _, owner, _ = _CREDENTIALS.unpack(credentials)
        if owner != os.geteuid():
            connection.close()
            raise NodeError(f"cannot use the node on {self.state_dir}: it is of user {owner}")
        return connection

    def _unreachable(self, error: OSError) -> NodeError:
        why = error.strerror or str(error)
        try:
            owner = os.stat(self.state_dir).st_uid
        except OSError:
            owner = os.geteuid()  # or whoever it is: that cannot be seen
        if isinstance(error, PermissionError) and owner != os.geteuid():
            why = f"it is of user {owner}"
        return NodeError(f"cannot reach the node on {self.state_dir}: {why}")

    def _silent(self) -> NodeError:
        return NodeError(
            f"cannot reach the node on {self.state_dir}: it has not answered for "
            f"{self.timeout:.0f} s; it may be stopped (kill -CONT goes on)"
        )

    def _not_running(self) -> NodeError:
        """Why nobody answers, and what to do about it."""
        from supervisor.kubelet import statedir

        place = self.state_dir
        try:
            pid = statedir.holder(place)
        except FileNotFoundError:
            return NotRunningError(
                f"cannot reach a node: none has ever run on {place}; `podvisor up FILE` starts "
                "one, --state-dir names another folder",
                place,
            )
        except OSError as error:
            return NodeError(f"cannot reach a node on {place}: {error.strerror or error}")
        except NodeError as error:
            return NodeError(f"cannot reach a node on {place}: {error}")
        if pid is not None:
            who = f"pid {pid}" if pid else "its pid cannot be seen from here"
            return NodeError(
                f"cannot reach the node on {place} ({who}): it does not serve its API, or not yet"
            )
        again = statedir.command_of(place) or f"podvisor serve --state-dir {place}"
        return NotRunningError(
            f"cannot reach a node: none runs on {place}; start it with: {again}", place
        )


def _asked(connection: _socket.socket, request: bytes) -> Response:
    try:
        # No signal: commands that write to pipes let it end them.
        connection.sendall(request, _socket.MSG_NOSIGNAL)
    except (BrokenPipeError, ConnectionResetError):
        pass  # it may have answered before it has read all of it
    reader = _Reader(connection)
    return Response(reader, *reader.head())


class _Reader:
    """What comes from a connection, piece by piece. Raises NodeError for what is no HTTP."""

    def __init__(self, connection: _socket.socket) -> None:
        self.socket = connection
        self.buffered = b""

    def _more(self) -> bytes:
        try:
            return self.socket.recv(65536)
        except ConnectionResetError:
            return b""

    def _line(self, most: int = _MAX_HEAD) -> str:
        while b"\n" not in self.buffered:
            more = self._more()
            if not more or len(self.buffered) > most:
                raise NodeError("the node has ended in the middle of its answer")
            self.buffered += more
        line, _, self.buffered = self.buffered.partition(b"\n")
        return line.rstrip(b"\r").decode("latin-1")

    def head(self) -> tuple[int, list[tuple[str, str]]]:
        """Status and headers, their names in lower case."""
        words = self._line().split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdecimal():
            raise NodeError("what answers on the node's socket is no node")
        headers: list[tuple[str, str]] = []
        while line := self._line():
            name, _, value = line.partition(":")
            headers.append((name.strip().lower(), value.strip()))
        return int(words[1]), headers

    def body(self, coding: str, length: str) -> Iterator[bytes]:
        if coding.lower() == "chunked":
            return self._chunked()
        return self._exactly(int(length)) if length.isdecimal() else self._to_the_end()

    def _chunked(self) -> Iterator[bytes]:
        while size := self._size():
            yield from self._exactly(size)
            self._line()
        while self._line():
            pass  # trailers

    def _size(self) -> int:
        """Of the next chunk."""
        try:
            return int(self._line().partition(";")[0], 16)
        except ValueError:
            raise NodeError("what answers on the node's socket is no node") from None

    def _exactly(self, size: int) -> Iterator[bytes]:
        while size > 0:
            piece = self.buffered or self._more()
            if not piece:
                raise NodeError("the node has ended in the middle of its answer")
            self.buffered = piece[size:]
            piece = piece[:size]
            size -= len(piece)
            yield piece

    def _to_the_end(self) -> Iterator[bytes]:
        while piece := self.buffered or self._more():
            self.buffered = b""
            yield piece


def _discovered(groups: Json) -> Iterable[Kind]:
    """The kinds of an APIGroupDiscoveryList."""
    for group in groups["items"]:
        for version in group["versions"]:
            for resource in version["resources"]:
                yield Kind(
                    plural=resource["resource"],
                    singular=resource["singularResource"],
                    kind=resource["responseKind"]["kind"],
                    group=group["metadata"].get("name", ""),
                    version=version["version"],
                    namespaced=resource["scope"] == "Namespaced",
                    verbs=tuple(resource["verbs"]),
                    short_names=tuple(resource.get("shortNames", ())),
                    categories=tuple(resource.get("categories", ())),
                    subresources=tuple(
                        each["subresource"] for each in resource.get("subresources", ())
                    ),
                )


def _refusal(response: Response) -> StatusError:
    content = response.read()
    try:
        status = json.loads(content)
        if status["kind"] == "Status":
            return StatusError(status)
    except (ValueError, KeyError, TypeError):
        pass  # not from the API, but from what is below it
    text = content.decode("utf-8", "replace").strip()[:500] or "no reason given"
    return StatusError({"code": response.status, "message": text})


def _writing(*, dry_run: bool = False) -> dict[str, object]:
    return {
        "fieldManager": MANAGER,
        "fieldValidation": "Strict",
        "dryRun": "All" if dry_run else "",
    }


def _encoded(body: Json) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _query(values: Mapping[str, object]) -> str:
    pairs: list[str] = []
    for name, value in values.items():
        if value is None or value is False or value == "":
            continue
        for each in value if isinstance(value, (list, tuple)) else (value,):
            text = "true" if each is True else str(each)
            pairs.append(f"{name}={_quoted(text)}")
    return "?" + "&".join(pairs) if pairs else ""


def _quoted(text: str) -> str:
    """Percent-encoded, as urllib.parse.quote with nothing safe; that is slow to import."""
    encoded = text.encode("utf-8", "surrogateescape")
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in encoded)


def _warning(header: str) -> str:
    """The text of a Warning header: 299 - "unknown field \\"spec.x\\""."""
    _, _, quoted = header.partition('"')
    return quoted.rpartition('"')[0].replace('\\"', '"').replace("\\\\", "\\") or header
