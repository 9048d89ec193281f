"""A stand-in for a node's API: a unix socket that gives prepared answers, and keeps what it was
asked."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any, Self

from msgspec import Struct


class Asked(Struct, frozen=True):
    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


# What is sent, piece by piece: a whole answer with its head.
Answer = Iterable[bytes]


def answer(body: object, status: int = 200, *headers: str) -> list[bytes]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(content)}", *headers]
    return ["\r\n".join(head).encode() + b"\r\n\r\n", content]


def chunked(*pieces: bytes, ended: bool = True) -> list[bytes]:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    sent = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    return [head, *sent, *([b"0\r\n\r\n"] if ended else [])]


def refusal(code: int, reason: str, message: str, **details: object) -> list[bytes]:
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
        "details": details,
    }
    return answer(status, code)


class FakeApi:
    """`answers` maps METHOD PATH, with or without its query, to an answer or to who makes it."""

    def __init__(
        self, state_dir: str, answers: dict[str, Answer | Callable[[Asked], Answer]]
    ) -> None:
        self.asked: list[Asked] = []
        self.answers = answers
        self._listener = socket.socket(socket.AF_UNIX)
        here = os.open(state_dir, os.O_PATH | os.O_DIRECTORY)
        self._listener.bind(f"/proc/self/fd/{here}/api.sock")
        os.close(here)
        self._path = os.path.join(state_dir, "api.sock")
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        os.unlink(self._path)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as incoming:
                asked = _read(incoming)
                if asked is None:
                    continue
                self.asked.append(asked)
                path = asked.target.partition("?")[0]
                for name in (f"{asked.method} {asked.target}", f"{asked.method} {path}"):
                    if name in self.answers:
                        found = self.answers[name]
                        break
                else:
                    found = refusal(404, "NotFound", f"nobody answers {asked.method} {path}")
                try:
                    for piece in found(asked) if callable(found) else found:
                        connection.sendall(piece)
                except OSError:
                    pass  # the client has seen enough


def _read(incoming: Any) -> Asked | None:
    """None when nothing is asked."""
    first = incoming.readline()
    if not first:
        return None
    method, target, _ = first.decode().split()
    headers: dict[str, str] = {}
    while line := incoming.readline().strip():
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    return Asked(method, target, headers, incoming.read(int(headers.get("content-length", 0))))
