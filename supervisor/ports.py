"""Free ports that stay free: for `$(PORT_web)` in a manifest, and for `Supervisor.port("web")`.

A port that the kernel hands out (bind to 0) is free only until it is closed again, and then any
program of this machine may get it. So ports are taken from below those that the kernel hands out.
Each is reserved among all processes of this user by a record lock on one byte of a file, which ends
with the process however it ends, and tried with bind: no socket of ours stands in the way of the
container. The file stays: removing it would let two processes lock two files.

Closing any descriptor of a file gives up all the locks that a process has on it. So there is one
for all nodes of a process, closed when no port is held any more. A forked child has none of the
locks, and begins anew.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import re
import socket
import stat
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from supervisor.api import codec
from supervisor.errors import NodeError, UsageError
from supervisor.kubelet import statedir

_RANGE = "/proc/sys/net/ipv4/ip_local_port_range"
_FIRST = 1025
_QUIET = 10_000  # below it well-known programs live that may be started any time
_LAST = 65535
_NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)  # no IPv6 here

# Escaped dollar signs first: `$$(PORT_x)` is none of ours.
_REFERENCE = re.compile(r"\$\$|\$\(PORT_([A-Za-z0-9_-]+)\)")
_NUMBERS = ("containerPort", "hostPort", "port")  # fields that hold a port as a number


class Ports:
    """The ports of one node: for each name one, held until `close`. Any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ports: dict[str, int] = {}
        self._closed = False

    @property
    def by_name(self) -> dict[str, int]:
        return dict(self._ports)

    def port(self, name: str) -> int:
        """Raises UsageError for what is no name, NodeError where no port can be had."""
        if not _REFERENCE.fullmatch(f"$(PORT_{name})"):
            raise UsageError(f"cannot have a port {name!r}: letters, digits, - and _ make a name")
        with self._lock:
            if self._closed:
                raise UsageError(f"cannot have a port {name!r}: the node has ended")
            if name not in self._ports:
                self._ports[name] = _process.reserve()
            return self._ports[name]

    def fill(self, data: Any) -> Any:
        """Plain data of one object with ports in place of `$(PORT_name)`.

        Where the object defines a variable PORT_name itself, that name is Kubernetes' to expand.
        """
        own = set(_variables(data))

        def text(value: str, key: object) -> str:
            def number(match: re.Match[str]) -> str:
                name = match[1]
                return match[0] if name is None or f"PORT_{name}" in own else str(self.port(name))

            filled = _REFERENCE.sub(number, value) if "$(PORT_" in value else value
            # A whole field of numbers; what is a text nonetheless is read as one.
            return codec.Numeral(filled) if key in _NUMBERS and filled != value else filled

        def walk(value: Any, key: object) -> Any:
            if isinstance(value, dict):
                return {each: walk(inner, each) for each, inner in value.items()}
            if isinstance(value, list):
                return [walk(inner, None) for inner in value]
            return text(value, key) if isinstance(value, str) else value

        return walk(data, None)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for port in self._ports.values():
                _process.release(port)


def _variables(data: Any) -> Iterator[object]:
    """The names that containers in it give to variables."""
    if isinstance(data, list):
        for item in data:
            yield from _variables(item)
    elif isinstance(data, dict):
        for key, value in data.items():
            if key == "env" and isinstance(value, list):
                yield from (str(item.get("name")) for item in value if isinstance(item, dict))
            yield from _variables(value)


class _Process:
    """What this process holds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: set[int] = set()
        self._fd = -1

    def reserve(self) -> int:
        with self._lock:
            if self._fd < 0:
                self._fd = _open(f"{statedir.base_directory()}-ports")
            try:
                for port in _candidates():
                    if port not in self._held and self._take(port):
                        self._held.add(port)
                        return port
            finally:
                self._close_if_unused()
        raise NodeError(f"cannot find a free port: none is left outside of {_RANGE}")

    def _take(self, port: int) -> bool:
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except (BlockingIOError, PermissionError):  # POSIX allows either
            return False
        if _is_free(port):
            return True
        fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, port)
        return False

    def release(self, port: int) -> None:
        with self._lock:
            if port in self._held:
                self._held.discard(port)
                fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, port)
                self._close_if_unused()

    def _close_if_unused(self) -> None:
        if not self._held:
            os.close(self._fd)
            self._fd = -1

    def forked(self) -> None:
        """In the child, which has none of the locks; another thread may have held ours."""
        self._lock = threading.Lock()
        self._held.clear()
        if self._fd >= 0:
            os.close(self._fd)  # the parent's locks stay
            self._fd = -1


_process = _Process()
os.register_at_fork(after_in_child=_process.forked)


def _open(path: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd = os.open(path, flags, 0o600)
    except OSError as error:
        raise NodeError(f"cannot reserve ports in {path}: {error.strerror}") from error
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        os.close(fd)
        raise NodeError(f"cannot reserve ports in {path}: it is not a file of this user")
    return fd


def _candidates() -> Iterator[int]:
    """From somewhere on, so that processes that begin together do not try the same ones."""
    with open(_RANGE, encoding="ascii") as file:
        low, high = map(int, file.read().split())
    below = range(_FIRST, low) or range(high + 1, _LAST + 1)
    for part in _parts(below):
        if part:
            start = random.randrange(len(part))  # noqa: S311
            yield from part[start:]
            yield from part[:start]


def _parts(ports: range) -> Iterable[range]:
    middle = max(ports.start, min(_QUIET, ports.stop))
    return range(middle, ports.stop), range(ports.start, middle)


def _is_free(port: int) -> bool:
    """Whether a program could listen there at every address, for either transport."""
    for family in (socket.AF_INET, socket.AF_INET6):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            try:
                with socket.socket(family, kind | socket.SOCK_CLOEXEC) as tried:
                    if family == socket.AF_INET6:
                        tried.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    tried.bind(("", port))
            except OSError as error:
                if error.errno not in _NO_SUCH_FAMILY:
                    return False
    return True
