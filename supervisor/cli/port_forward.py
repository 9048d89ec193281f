"""`podvisor port-forward`: ports of this machine that lead to ports of a pod, through the node.

Each connection that comes in gets a stream of its own to the node and a thread that passes bytes
both ways; when one side has nothing more to say, the other learns it and may still go on.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import typer

from supervisor.cli import asking, options
from supervisor.cli.completing import complete_pod
from supervisor.cli.websocket import WebSocket
from supervisor.client import PODS, Client
from supervisor.errors import NodeError, PodvisorError, UsageError

NO_ARGS_IS_HELP = True

Json = dict[str, Any]

_DATA, _ERROR = 0, 1  # channels
_PIECE = 1 << 16
_UNREAD = 1 << 20  # bytes that may wait for a client that reads slowly
_SERVICES = ("svc", "service", "services")
_PAUSE = 1.0  # seconds after a connection that could not be taken: it waits, and is tried again
_HOSTS = {"localhost": ("127.0.0.1", "::1")}


class Forward(NamedTuple):
    """A local port (0: any that is free) and the pod's."""

    local: int
    remote: int


def command(
    pod: Annotated[
        str,
        typer.Argument(metavar="POD|svc/NAME", help="To which pod.", autocompletion=complete_pod),
    ],
    ports: Annotated[
        list[str],
        typer.Argument(
            metavar="LOCAL:REMOTE",
            help="Numbers, or names of the pod's; `80` is 80:80, `:80` takes any local one.",
        ),
    ],
    address: Annotated[
        str, typer.Option(metavar="ADDRESS,…", help="Where to listen.")
    ] = "localhost",
    namespace: options.Namespace = asking.DEFAULT,
    state_dir: options.StateDir = None,
) -> None:
    """Let local ports lead to ports of a pod, until Ctrl-C.

    Examples:

      podvisor port-forward web 8080:80

      podvisor port-forward svc/web :http
    """
    client = asking.client(state_dir)
    found, targets = find(client, namespace, pod)
    only = "/" in pod and pod.partition("/")[0] in _SERVICES
    forwards = [parse(text, targets, only_named=only) for text in ports]
    with contextlib.ExitStack() as stack:
        listeners = {
            stack.enter_context(listener): forward.remote
            for forward in forwards
            for listener in _listen(address, forward)
        }
        name = found["metadata"]["name"]
        _serve(client, PODS.path(namespace, name, "portforward"), listeners)


def find(client: Client, namespace: str, word: str) -> tuple[Json, dict[str, int]]:
    """The pod, and the numbers of ports by what they are called."""
    kind, _, name = word.rpartition("/")
    if kind not in _SERVICES:
        pod = client.get(PODS, namespace, asking.pod(word))
        return pod, _named_ports(pod)
    spec = client.get(client.kind("services"), namespace, name)["spec"]
    selector = ",".join(f"{key}={value}" for key, value in (spec.get("selector") or {}).items())
    pods = client.list(PODS, namespace, labels=selector)["items"] if selector else []
    ready = [pod for pod in pods if pod["status"].get("phase") == "Running"]
    if not ready:
        raise NodeError(f"cannot forward to {word}: none of its pods runs")
    named = _named_ports(ready[0])
    ports: dict[str, int] = {}
    for port in spec.get("ports") or ():
        target = port.get("targetPort", port["port"])
        number = named.get(target, 0) if isinstance(target, str) else target
        ports |= {str(port["port"]): number, port.get("name") or str(port["port"]): number}
    return ready[0], ports


def _named_ports(pod: Json) -> dict[str, int]:
    return {
        port["name"]: port["containerPort"]
        for container in asking.containers(pod).values()
        for port in container.get("ports") or ()
        if port.get("name")
    }


def parse(text: str, named: dict[str, int], *, only_named: bool = False) -> Forward:
    """LOCAL:REMOTE, :REMOTE or REMOTE. A Service has no ports but its own. Raises UsageError."""
    local, colon, remote = text.rpartition(":")
    if only_named and remote not in named:
        raise UsageError(
            f"cannot forward {text}: the Service has no port {remote}; it has "
            f"{', '.join(sorted(named)) or 'none'}"
        )
    there = named.get(remote) or (int(remote) if remote.isdecimal() else 0)
    here = (local or "0") if colon else remote if remote.isdecimal() else str(there)
    if not (here.isdecimal() and int(here) < 65536 and 0 < there < 65536):
        names = f"; it names {', '.join(sorted(named))}" if named else ""
        raise UsageError(
            f"cannot forward {text}: say LOCAL:REMOTE with ports from 1 to 65535{names}"
        )
    return Forward(int(here), there)


def _listen(address: str, forward: Forward) -> Iterator[socket.socket]:
    """Raises NodeError where no address can be listened on."""
    wanted = [host for word in address.split(",") for host in _HOSTS.get(word, (word,))]
    local, refused = forward.local, []
    listening = 0
    for host in wanted:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((host, local))
            listener.listen()
        except OSError as error:
            listener.close()
            refused.append(f"{host}: {error.strerror}")
            continue
        local = listener.getsockname()[1]  # the same number on all addresses
        listening += 1
        shown = f"[{host}]" if family == socket.AF_INET6 else host
        print(f"Forwarding from {shown}:{local} -> {forward.remote}", flush=True)
        yield listener
    if not listening:
        raise NodeError(f"cannot listen on port {local}: {'; '.join(refused)}")


def _serve(client: Client, path: str, listeners: dict[socket.socket, int]) -> None:
    """Until we are told to end, or the pod or the node is gone."""
    poll = select.poll()
    by_fd = {listener.fileno(): listener for listener in listeners}
    for fd in by_fd:
        poll.register(fd, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            listener = by_fd[fd]
            try:
                connection, _ = listener.accept()
            except OSError as error:  # it has gone again, or there are no descriptors
                print(f"podvisor: cannot take a connection: {error.strerror}", file=sys.stderr)
                time.sleep(_PAUSE)
                continue
            print(f"Handling connection for {listener.getsockname()[1]}", flush=True)
            arguments = (client, path, listeners[listener], connection)
            threading.Thread(target=_carry, args=arguments, daemon=True).start()


def _carry(client: Client, path: str, port: int, connection: socket.socket) -> None:
    with connection:
        try:
            stream = WebSocket.open(client, path, {"ports": port})
            with contextlib.closing(stream):
                _pass(stream, connection)
        except (PodvisorError, OSError) as error:
            print(f"podvisor: {error}", file=sys.stderr, flush=True)


def _pass(stream: WebSocket, connection: socket.socket) -> None:
    """Bytes both ways, until both sides have ended or one of them is gone: neither direction waits
    for the other, whoever does not read. Raises NodeError for what the node says on the channel for
    errors, OSError for a client that is gone."""
    connection.setblocking(False)
    ports_seen = {_DATA: b"", _ERROR: b""}  # each channel begins with its port
    reads, errors, unread = True, b"", bytearray()  # what the client has not taken yet
    while not stream.ended or unread:
        wanted = select.POLLIN if reads and not stream.is_full and not stream.ended else 0
        wanted |= select.POLLOUT if unread else 0
        heard = stream.events if len(unread) < _UNREAD else stream.events & ~select.POLLIN
        ready = _ready((connection, wanted), (stream, 0 if stream.ended else heard))
        if ready.get(connection.fileno(), 0) & ~select.POLLOUT and wanted & select.POLLIN:
            data = connection.recv(_PIECE)
            if data:
                stream.send(_DATA, data)
            else:
                reads = False
                stream.end(_DATA)
        if ready.get(stream.fileno(), 0) & select.POLLOUT:
            stream.flush()
        _give(connection, unread)
        for channel, received in stream.receive() if len(unread) < _UNREAD else ():
            content = received
            if channel in ports_seen and len(ports_seen[channel]) < 2:
                head = ports_seen[channel] + content
                ports_seen[channel], content = head[:2], head[2:]
            if channel == _DATA:
                unread += content
                _give(connection, unread)
            elif channel == _ERROR:
                errors += content
            if len(unread) >= _UNREAD:
                break  # what else has come is kept by the stream
    if errors:
        raise NodeError(
            f"cannot forward to port {int.from_bytes(ports_seen[_ERROR][:2], 'little')}: "
            f"{errors.decode('utf-8', 'replace').strip()}"
        )


def _ready(*wanted: tuple[WebSocket | socket.socket, int]) -> dict[int, int]:
    """Wait for one of these events. Of whom nothing is wanted, not even the end is of interest: it
    would be there again and again."""
    poll = select.poll()
    for each, events in wanted:
        if events:
            poll.register(each, events)
    return dict(poll.poll())


def _give(connection: socket.socket, unread: bytearray) -> None:
    """As much as goes. Raises OSError."""
    while unread:
        try:
            sent = connection.send(unread, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return
        del unread[:sent]
