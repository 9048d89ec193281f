"""Every handler against real servers, on asyncio and on uvloop. Texts are given in full."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from typing import Self

import anyio
import msgspec
import pytest
import trustme

from supervisor.api import v1
from supervisor.kubelet import handlers
from supervisor.kubelet.handlers import Handlers, Observation
from supervisor.lifecycle.facts import ProbeOutcome
from supervisor.runtime.cri import ExecError, ExecResult
from tests.runtime.nodes import until
from tests.support import free_port

from .servers import (
    Talk,
    answer,
    request,
    reset_after,
    response,
    serve,
    silent,
    trickle,
)

pytestmark = pytest.mark.anyio

SUCCESS, WARNING = ProbeOutcome.SUCCESS, ProbeOutcome.WARNING
FAILURE, ERROR = ProbeOutcome.FAILURE, ProbeOutcome.ERROR


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture
async def probes() -> AsyncIterator[Handlers]:
    made = Handlers()
    yield made
    await made.close()


async def no_exec(argv: tuple[str, ...], *, timeout: float | None, limit: int) -> ExecResult:
    raise AssertionError("no program is to be run")


async def run(
    probes: Handlers,
    probe: v1.Probe,
    *,
    host: str = "127.0.0.1",
    container: v1.Container | None = None,
    seconds: int = 20,
) -> Observation:
    probe = msgspec.structs.replace(probe, timeout_seconds=seconds)
    return await probes.run_probe(
        probe, container or v1.Container(name="c"), host=host, execute=no_exec
    )


def http(port: int | str, path: str = "/", **more: object) -> v1.Probe:
    return v1.Probe(http_get=v1.HTTPGetAction(port=port, path=path, **more))  # type: ignore[arg-type]


async def get(
    probes: Handlers, talk: Talk, path: str = "/", *, seconds: int = 20, **more: object
) -> Observation:
    async with serve(talk) as port:
        seen = await run(probes, http(port, path, **more), seconds=seconds)
        text = re.sub(r"127.0.0.1:\d+->", "127.0.0.1:LOCAL->", seen.output)
        return Observation(seen.outcome, text.replace(str(port), "PORT"))


# --- HTTP --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 204, 299])
async def test_200_to_299_is_success_with_the_body(probes: Handlers, status: int) -> None:
    """§5.4.2"""
    body = "" if status == 204 else "fine"
    seen = await get(probes, answer(response(status, body)))
    assert seen == Observation(SUCCESS, body)


@pytest.mark.parametrize("status", [400, 404, 500, 503])
async def test_other_statuses_fail_without_the_body(probes: Handlers, status: int) -> None:
    """§5.4.2"""
    seen = await get(probes, answer(response(status, "secret")))
    assert seen == Observation(FAILURE, f"HTTP probe failed with statuscode: {status}")


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (300, ()),
        (304, ()),
        (302, ()),
        (302, ("Location: http://elsewhere.invalid/x",)),
        (301, ("Location: //localhost/x",)),
    ],
)
async def test_a_final_redirect_is_a_warning(
    probes: Handlers, status: int, headers: tuple[str, ...]
) -> None:
    """§5.4.2, §5.4.3"""
    body = "" if status == 304 else "moved"
    seen = await get(probes, answer(response(status, body, *headers)))
    assert seen == Observation(WARNING, f"Probe terminated redirects, Response body: {body}")


async def test_redirects_on_the_same_host_are_followed_over_ports(probes: Handlers) -> None:
    """§5.4.3"""
    asked: list[list[str]] = []

    async def last(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await request(reader))
        writer.write(response(500).encode())

    async with serve(last) as other:
        talk = answer(response(307, "", f"Location: http://127.0.0.1:{other}/healthz?a=%20b"))
        seen = await get(probes, talk, http_headers=(v1.HTTPHeader(name="X-Key", value="k"),))
    assert seen == Observation(FAILURE, "HTTP probe failed with statuscode: 500")
    (lines,) = asked
    assert lines[0] == "GET /healthz?a=%20b HTTP/1.1"
    assert "X-Key: k" in lines


async def test_the_tenth_redirect_is_one_too_many(probes: Handlers) -> None:
    """§5.4.3"""
    count = 0

    async def loop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        await answer(response(302, "", "Location: /again"))(reader, writer)

    seen = await get(probes, loop)
    assert seen == Observation(FAILURE, 'Get "/again": stopped after 10 redirects')
    assert count == 10


@pytest.mark.parametrize(
    ("talk", "why"),
    [
        (silent, "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"),
        (
            answer(response(200), after=60),
            "context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
        ),
        (
            trickle(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n", 0.05),
            "context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
        ),
        (answer(""), "EOF"),
        (
            reset_after(b""),
            "read tcp 127.0.0.1:LOCAL->127.0.0.1:PORT: read: connection reset by peer",
        ),
        (
            reset_after(b"HTTP/1.1 200 OK\r\nContent-Le"),
            "net/http: HTTP/1.x transport connection broken: "
            "read tcp 127.0.0.1:LOCAL->127.0.0.1:PORT: read: connection reset by peer",
        ),
        (
            answer("HTTP/1.1 200 OK\r\nContent-Le"),
            "net/http: HTTP/1.x transport connection broken: unexpected EOF",
        ),
        (
            answer("SSH-2.0-OpenSSH_9.6\r\n"),
            "net/http: HTTP/1.x transport connection broken: "
            'malformed HTTP response "SSH-2.0-OpenSSH_9.6"',
        ),
        (
            answer(b"\x00\xff'\"\r\n"),
            "net/http: HTTP/1.x transport connection broken: "
            r'''malformed HTTP response "\x00\xff'\""''',
        ),
    ],
    ids=[
        "silent",
        "slow",
        "trickle",
        "eof",
        "reset",
        "reset-in-headers",
        "cut",
        "garbage",
        "binary",
    ],
)
async def test_no_answer_in_time_is_a_failure(probes: Handlers, talk: Talk, why: str) -> None:
    """§5.4.2 — errors of the request itself are failures."""
    seen = await get(probes, talk, "/healthz", seconds=1 if "deadline" in why else 20)
    assert seen == Observation(FAILURE, f'Get "http://127.0.0.1:PORT/healthz": {why}')


@pytest.mark.parametrize(
    ("talk", "why"),
    [
        (answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nxx"), "unexpected EOF"),
        (
            reset_after(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nxx"),
            "read tcp 127.0.0.1:LOCAL->127.0.0.1:PORT: read: connection reset by peer",
        ),
    ],
    ids=["cut", "reset"],
)
async def test_a_body_that_breaks_off_is_an_error_and_tried_three_times(
    probes: Handlers, talk: Talk, why: str
) -> None:
    """§5.4.2, §5.2.9"""
    count = 0

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        await talk(reader, writer)

    seen = await get(probes, counted)
    assert seen == Observation(ERROR, why)
    assert count == 3


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"
READING = "context deadline exceeded (Client.Timeout or context cancellation while reading body)"


TRICKLE = trickle(HEAD, b"x", 0.05)
CUT_OFF = (silent, TRICKLE)


@pytest.mark.parametrize(
    ("talks", "seen"),
    [
        ([TRICKLE], Observation(ERROR, READING)),
        ([answer(HEAD), silent], Observation(ERROR, "unexpected EOF")),
        ([answer(HEAD), TRICKLE], Observation(ERROR, "unexpected EOF")),
        ([answer(HEAD), answer(HEAD), answer(response(200, "hi"))], Observation(SUCCESS, "hi")),
        (
            [answer(HEAD), answer(response(500))],
            Observation(FAILURE, "HTTP probe failed with statuscode: 500"),
        ),
    ],
    ids=["trickle", "then-silent", "then-trickle", "then-success", "then-failure"],
)
async def test_errors_are_tried_again_within_the_one_timeout(
    probes: Handlers, talks: list[Talk], seen: Observation
) -> None:
    """§5.2.9: and an attempt that this cuts off leaves the error before it, no failure."""
    met = 0

    async def next_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal met
        met += 1
        await talks[met - 1](reader, writer)

    cut_off = talks[-1] in CUT_OFF
    begin = time.monotonic()
    assert await get(probes, next_one, seconds=3 if cut_off else 20) == seen
    assert met == len(talks)
    assert not cut_off or time.monotonic() - begin < 8  # three times the timeout would be more


async def test_ten_kib_of_body_are_read_and_the_rest_is_left_alone(probes: Handlers) -> None:
    """§5.4.4"""
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while sent < 1_000_000_000:
            writer.write(b"x" * 4096)
            await writer.drain()
            sent += 4096

    seen = await get(probes, endless)
    assert seen == Observation(SUCCESS, "x" * 10240)


async def test_headers_without_end_are_cut_off_early(probes: Handlers) -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"A: " + b"x" * 1000 + b"\r\n")
            await writer.drain()
            sent += 1005

    seen = await get(probes, flood)
    assert seen.outcome is FAILURE
    assert "deadline" not in seen.output
    assert sent < 8 << 20  # most of it is in the kernel's buffers


async def asked(probes: Handlers, path: str = "/", *given: tuple[str, str]) -> list[str]:
    seen: list[list[str]] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await request(reader))
        writer.write(response(200).encode())

    headers = tuple(v1.HTTPHeader(name=name, value=value) for name, value in given)
    async with serve(talk) as port:
        got = await run(probes, http(port, path, http_headers=headers))
        assert got.outcome is SUCCESS
        return [line.replace(str(port), "PORT") for line in seen[0]]


async def test_what_a_probe_sends_by_itself(probes: Handlers) -> None:
    """C29: §5.4.5, §5.4.6 — nothing else: no Accept-Encoding."""
    first, *headers = await asked(probes)
    assert first == "GET / HTTP/1.1"
    assert sorted(headers) == [
        "Accept: */*",
        "Connection: close",
        "Host: 127.0.0.1:PORT",
        "User-Agent: kube-probe/1.35",
    ]


async def test_headers_that_are_given(probes: Handlers) -> None:
    """C29: §5.4.5"""
    _, *headers = await asked(
        probes,
        "/",
        ("x-custom-key", "one"),
        ("Host", "web.example"),
        ("X-Custom-Key", "two"),
        ("accept", ""),
        ("User-Agent", "mine"),
        ("Content-Length", "7"),
    )
    assert sorted(headers) == [
        "Connection: close",
        "Host: web.example",
        "User-Agent: mine",
        "X-Custom-Key: one",
        "X-Custom-Key: two",
    ]
    assert headers.index("X-Custom-Key: one") < headers.index("X-Custom-Key: two")


async def test_an_empty_host_header_is_the_one_of_the_url(probes: Handlers) -> None:
    """§5.4.5"""
    _, *headers = await asked(probes, "/", ("Host", ""))
    assert "Host: 127.0.0.1:PORT" in headers


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/a?b=c&d=%20e", "/a?b=c&d=%20e"),
        ("/a?b=c d", "/a?b=c%20d"),
        ("/with space", "/with%20space"),
        ("/ü", "/%C3%BC"),
        ("/a%2Fb", "/a%2Fb"),
        ("/a#fragment", "/a"),
        ("/bad%zz?x=1", "/bad%25zz%3Fx=1"),
        ("relative", "/relative"),
    ],
)
async def test_paths_are_escaped_as_go_does_it(probes: Handlers, path: str, line: str) -> None:
    """§5.4.7"""
    first, *_ = await asked(probes, path)
    assert first == f"GET {line} HTTP/1.1"


async def test_each_attempt_has_a_connection_of_its_own_and_only_one(probes: Handlers) -> None:
    """C29: §5.4.6"""
    peers: list[object] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(writer.get_extra_info("peername"))
        while True:
            await request(reader)
            writer.write(response(200).encode())

    async with serve(talk) as port:
        for _ in range(5):
            assert (await run(probes, http(port))).outcome is SUCCESS
    assert len(peers) == len(set(peers)) == 5

    count = 0

    async def drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1

    await get(probes, drop)
    assert count == 1


async def test_proxies_are_not_used(probes: Handlers, monkeypatch: pytest.MonkeyPatch) -> None:
    """§5.4.6"""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    assert (await get(probes, answer(response(200)))).outcome is SUCCESS


@pytest.fixture(scope="module")
def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("elsewhere.example").configure_cert(context)
    return context


async def test_https_checks_no_certificate(probes: Handlers, tls: ssl.SSLContext) -> None:
    """§5.4.1"""
    async with serve(answer(response(200, "hi")), tls=tls) as port:
        seen = await run(probes, http(port, scheme="HTTPS"))
    assert seen == Observation(SUCCESS, "hi")


async def test_https_to_a_plain_server(probes: Handlers) -> None:
    async def hasty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(response(400).encode())
        await reader.read()

    seen = await get(probes, hasty, scheme="HTTPS")
    assert seen == Observation(
        FAILURE,
        'Get "https://127.0.0.1:PORT/": http: server gave HTTP response to HTTPS client',
    )


@pytest.mark.parametrize(
    ("alert", "words"),
    [(70, "protocol version not supported"), (40, "handshake failure"), (80, "internal error")],
)
async def test_https_to_a_server_that_refuses(probes: Handlers, alert: int, words: str) -> None:
    """§5.4.2"""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"\x15\x03\x03\x00\x02\x02" + bytes([alert]))
        await reader.read()

    seen = await get(probes, refuse, scheme="HTTPS")
    assert seen == Observation(
        FAILURE, f'Get "https://127.0.0.1:PORT/": remote error: tls: {words}'
    )


async def test_https_to_a_server_that_says_nothing(probes: Handlers) -> None:
    seen = await get(probes, silent, scheme="HTTPS", seconds=1)
    assert seen == Observation(
        FAILURE,
        'Get "https://127.0.0.1:PORT/": context deadline exceeded '
        "(Client.Timeout exceeded while awaiting headers)",
    )


async def test_http_to_a_refusing_port(probes: Handlers) -> None:
    """§5.4.2"""
    port = free_port()
    assert await run(probes, http(port, "/x")) == Observation(
        FAILURE,
        f'Get "http://127.0.0.1:{port}/x": dial tcp 127.0.0.1:{port}: connect: connection refused',
    )
    assert await run(probes, http(port, "/x", host="no.such.invalid")) == Observation(
        FAILURE,
        f'Get "http://no.such.invalid:{port}/x": dial tcp: lookup no.such.invalid: no such host',
    )


async def test_named_ports_host_and_ipv6(probes: Handlers) -> None:
    """§5.1, §5.4.1"""
    container = v1.Container(
        name="c", ports=(v1.ContainerPort(name="web", container_port=free_port()),)
    )
    async with serve(answer(response(200, "six")), host="::1") as port:
        seen = await run(probes, http(port, host="::1"))
        assert seen == Observation(SUCCESS, "six")
        seen = await run(probes, http(port), host="::1")
        assert seen == Observation(SUCCESS, "six")
    async with serve(answer(response(200, "name"))) as port:
        container = v1.Container(
            name="c", ports=(v1.ContainerPort(name="web", container_port=port),)
        )
        seen = await run(probes, http("web"), container=container)
        assert seen == Observation(SUCCESS, "name")
        seen = await run(probes, http("other"), container=container)
        assert seen == Observation(ERROR, 'strconv.Atoi: parsing "other": invalid syntax')
        seen = await run(probes, http(port, host="localhost"))
        assert seen == Observation(SUCCESS, "name")


# --- TCP ---------------------------------------------------------------------------------------


def tcp(port: int | str, host: str = "") -> v1.Probe:
    return v1.Probe(tcp_socket=v1.TCPSocketAction(port=port, host=host))


async def test_tcp_connects_and_closes_at_once(probes: Handlers) -> None:
    """§5.5"""
    ended = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == b""
        ended.set()

    async with serve(talk) as port:
        assert await run(probes, tcp(port)) == Observation(SUCCESS, "")
        await asyncio.wait_for(ended.wait(), 20)
        assert await run(probes, tcp(port, "localhost")) == Observation(SUCCESS, "")
    async with serve(talk, host="::1") as port:
        assert await run(probes, tcp(port, "::1")) == Observation(SUCCESS, "")


async def test_tcp_refused(probes: Handlers) -> None:
    """§5.5"""
    port = free_port()
    assert await run(probes, tcp(port)) == Observation(
        FAILURE, f"dial tcp 127.0.0.1:{port}: connect: connection refused"
    )
    assert await run(probes, tcp(port, "::1")) == Observation(
        FAILURE, f"dial tcp [::1]:{port}: connect: connection refused"
    )
    assert await run(probes, tcp(port, "no.such.invalid")) == Observation(
        FAILURE, "dial tcp: lookup no.such.invalid: no such host"
    )
    assert await run(probes, tcp("web")) == Observation(
        ERROR, 'strconv.Atoi: parsing "web": invalid syntax'
    )


async def test_tcp_to_a_full_backlog_times_out(probes: Handlers) -> None:
    """§5.5"""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = []
        for _ in range(3):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
            waiting.append(sock)
        try:
            begin = time.monotonic()
            seen = await run(probes, tcp(port), seconds=1)
            assert seen == Observation(FAILURE, f"dial tcp 127.0.0.1:{port}: i/o timeout")
            assert time.monotonic() - begin > 0.9
            http_seen = await run(probes, http(port), seconds=1)
            assert http_seen == Observation(
                FAILURE,
                f'Get "http://127.0.0.1:{port}/": context deadline exceeded '
                "(Client.Timeout exceeded while awaiting headers)",
            )
        finally:
            for sock in waiting:
                sock.close()


async def test_a_connection_to_oneself_is_refused(
    probes: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A free port of the ephemeral range can be dialled from itself."""
    port = free_port()
    real = socket.socket

    class Bound(real):
        def __init__(self, *args: int) -> None:
            super().__init__(*args)
            self.bind(("127.0.0.1", port))

    monkeypatch.setattr(handlers.socket, "socket", Bound)
    assert await run(probes, tcp(port)) == Observation(
        FAILURE, f"dial tcp 127.0.0.1:{port}: connect: connection refused"
    )


@pytest.mark.parametrize("kind", ["http", "tcp"])
async def test_no_descriptors_left_says_nothing_about_the_container(
    probes: Handlers, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    async with serve(answer(response(200))) as port:
        probe = http(port) if kind == "http" else tcp(port)
        assert (await run(probes, probe)).outcome is SUCCESS

        def refuse(*args: object) -> None:
            raise OSError(24, "Too many open files")

        with monkeypatch.context() as patch:
            module = "socket" if kind == "http" else "_socket"
            patch.setattr(handlers, module, _Sockets(refuse))
            seen = await run(probes, probe)
    assert seen.outcome is ERROR
    assert seen.output.endswith(f"dial tcp 127.0.0.1:{port}: socket: too many open files")


class _Sockets:
    """The module socket, without sockets."""

    def __init__(self, refuse: object) -> None:
        self.socket = refuse

    def __getattr__(self, name: str) -> object:
        return getattr(socket, name)


# --- exec --------------------------------------------------------------------------------------


class Execs:
    def __init__(self, result: ExecResult | ExecError) -> None:
        self.result = result
        self.calls: list[tuple[tuple[str, ...], float | None, int]] = []

    async def __call__(
        self, argv: tuple[str, ...], *, timeout: float | None, limit: int
    ) -> ExecResult:
        self.calls.append((argv, timeout, limit))
        if isinstance(self.result, ExecError):
            raise self.result
        return self.result


@pytest.mark.parametrize(
    ("result", "seen", "calls"),
    [
        (ExecResult(0, b"ok"), Observation(SUCCESS, "ok"), 1),
        (ExecResult(1, b"out\nerr\xff"), Observation(FAILURE, "out\nerr\ufffd"), 1),
        (
            ExecResult(None, b"begun"),
            Observation(FAILURE, 'command timed out: "sleep a b" timed out after 1m30s'),
            1,
        ),
        (ExecError("no such file"), Observation(ERROR, "no such file"), 3),
    ],
)
async def test_what_a_program_gives(
    probes: Handlers, result: ExecResult | ExecError, seen: Observation, calls: int
) -> None:
    """§5.7.2, §5.7.3, §5.2.9"""
    execs = Execs(result)
    probe = v1.Probe(exec=v1.ExecAction(command=("sleep", "a b")), timeout_seconds=90)
    got = await probes.run_probe(probe, v1.Container(name="c"), host="127.0.0.1", execute=execs)
    assert got == seen
    assert execs.calls == [(("sleep", "a b"), 90.0, 10240)] * calls


async def test_only_literal_variables_are_expanded(probes: Handlers) -> None:
    """§5.7.1"""
    execs = Execs(ExecResult(0, b""))
    reference = v1.EnvVarSource(field_ref=v1.ObjectFieldSelector(field_path="metadata.name"))
    container = v1.Container(
        name="c",
        env=(
            v1.EnvVar(name="LIT", value="a$(OTHER)"),
            v1.EnvVar(name="FROM", value_from=reference),
        ),
    )
    command = ("x", "$(LIT)", "$(FROM)", "$(NONE)", "$$(LIT)")
    probe = v1.Probe(exec=v1.ExecAction(command=command), timeout_seconds=1)
    await probes.run_probe(probe, container, host="127.0.0.1", execute=execs)
    assert execs.calls[0][0] == ("x", "a$(OTHER)", "$(FROM)", "$(NONE)", "$(LIT)")


# --- gRPC --------------------------------------------------------------------------------------


class HealthServer:
    """A grpc.aio server with the health service, on a loop and a thread of its own."""

    def __init__(self) -> None:
        self.port = 0
        self.metadata: list[dict[str, str]] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self) -> None:
        from grpc import aio
        from grpc_health.v1 import health, health_pb2, health_pb2_grpc

        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        served = self

        class Servicer(health.aio.HealthServicer):
            async def Check(self, request, context):  # type: ignore[no-untyped-def]
                served.metadata.append(dict(context.invocation_metadata()))
                if request.service == "slow":
                    await asyncio.sleep(5)
                return await super().Check(request, context)

        server, servicer = aio.server(), Servicer()
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        status = health_pb2.HealthCheckResponse
        await servicer.set("", status.SERVING)
        await servicer.set("ill", status.NOT_SERVING)
        await servicer.set("unknown", status.UNKNOWN)
        self.port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        bare = aio.server()
        self.bare_port = bare.add_insecure_port("127.0.0.1:0")
        await bare.start()
        self._ready.set()
        await self._stop.wait()
        await server.stop(None)
        await bare.stop(None)


@pytest.fixture(scope="module")
def health_server() -> object:
    # A process of its own: grpc.aio knows one loop a process, and the client has it.
    code = (
        "import sys; from tests.kubelet.test_handlers import HealthServer\n"
        "with HealthServer() as s: print(s.port, s.bare_port, flush=True); sys.stdin.read()\n"
        "print(s.metadata, flush=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    yield [int(word) for word in process.stdout.readline().split()]
    said, _ = process.communicate()
    assert "'user-agent': 'kube-probe/1.35 grpc-python-asyncio" in said


def grpc(port: int, service: str | None = None) -> v1.Probe:
    return v1.Probe(grpc=v1.GRPCAction(port=port, service=service))


@pytest.mark.parametrize(
    ("service", "seen"),
    [
        (None, Observation(SUCCESS, "service healthy")),
        ("", Observation(SUCCESS, "service healthy")),
        ("ill", Observation(FAILURE, 'service unhealthy (responded with "NOT_SERVING")')),
        ("unknown", Observation(FAILURE, 'service unhealthy (responded with "UNKNOWN")')),
        (
            "missing",
            Observation(
                FAILURE, "error: health rpc probe failed: rpc error: code = NotFound desc = "
            ),
        ),
        ("slow", Observation(FAILURE, "timeout: health rpc did not complete within 1s")),
    ],
)
async def test_what_a_health_service_answers(
    probes: Handlers, health_server: list[int], service: str | None, seen: Observation
) -> None:
    """C20, C30: §5.6.1, §5.6.2, §5.6.3"""
    seconds = 1 if service == "slow" else 20
    assert await run(probes, grpc(health_server[0], service), seconds=seconds) == seen


async def test_a_grpc_server_without_health_service(
    probes: Handlers, health_server: list[int]
) -> None:
    """C30: §5.6.3"""
    assert await run(probes, grpc(health_server[1])) == Observation(
        FAILURE,
        "error: this server does not implement the grpc health protocol "
        "(grpc.health.v1.Health): Method not found!",
    )


@pytest.mark.parametrize(
    "talk", [None, silent, answer(response(200))], ids=["refused", "silent", "http"]
)
async def test_no_grpc_server(probes: Handlers, talk: Talk | None) -> None:
    """C21: §5.6.3"""
    if talk is None:
        port = free_port()
        seen = await run(probes, grpc(port), seconds=1)
    else:
        async with serve(talk) as port:
            seen = await run(probes, grpc(port), seconds=1)
    assert seen == Observation(
        FAILURE,
        f'timeout: failed to connect service "127.0.0.1:{port}" within 1s: '
        "context deadline exceeded",
    )


async def test_a_grpc_check_that_is_cancelled_leaves_nothing(probes: Handlers) -> None:
    async with serve(silent) as port:
        with anyio.move_on_after(0.1):
            await run(probes, grpc(port))
        loop = handlers._grpc_loop()
        with anyio.fail_after(60):
            while asyncio.run_coroutine_threadsafe(_tasks(), loop).result(20) > 1:
                await anyio.sleep(0.01)


async def _tasks() -> int:
    return len(asyncio.all_tasks())


# --- cost and cleanliness ----------------------------------------------------------------------


async def test_nothing_is_left_open(probes: Handlers) -> None:
    async def cut_off(times: int) -> int:
        async with serve(silent) as port:
            for _ in range(times):
                with anyio.move_on_after(0.02):
                    await run(probes, http(port))
                with anyio.move_on_after(0.02):
                    await run(probes, tcp(port))
        await anyio.sleep(0.2)
        return len(os.listdir("/proc/self/fd"))

    before = await cut_off(2)
    await cut_off(20)
    # Of the 40 attempts; the loop has some of its own.
    await until(lambda: len(os.listdir("/proc/self/fd")) <= before + 3, "their end")
    assert not probes._http._session.connector._acquired  # type: ignore[union-attr]


def test_linger_does_nothing_against_time_wait() -> None:
    """Why probe sockets are closed as any other: on Linux a linger of 1 s changes nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        for _ in range(50):
            with socket.create_connection(server.getsockname()) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 1))
                peer, _ = server.accept()
                sock.close()
                peer.close()
        assert _time_wait(server.getsockname()[1]) >= 40


def _time_wait(port: int) -> int:
    """How many connections to a port of 127.0.0.1 linger; others' come and go all the time."""
    with open("/proc/net/tcp") as lines:
        rows = [line.split() for line in lines][1:]
    # remote address and state: 06 is TIME_WAIT, include/net/tcp_states.h
    return sum(row[2] == f"0100007F:{port:04X}" and row[3] == "06" for row in rows)


LOADED = """
import sys, anyio
from supervisor.api import v1
from supervisor.kubelet.node import Node
from supervisor.kubelet.handlers import Handlers
from supervisor.runtime.cri import ExecResult
from tests.kubelet.servers import answer, response, serve

async def execute(argv, *, timeout, limit):
    return ExecResult(0, b"")

def loaded():
    print(*(name in sys.modules for name in ("aiohttp", "grpc")))

async def main():
    probes = Handlers()
    async with serve(answer(response(200))) as port:
        for probe in (
            v1.Probe(timeout_seconds=9, exec=v1.ExecAction(command=("x",))),
            v1.Probe(timeout_seconds=9, tcp_socket=v1.TCPSocketAction(port=port)),
            v1.Probe(timeout_seconds=9, http_get=v1.HTTPGetAction(port=port, path="/")),
            v1.Probe(timeout_seconds=1, grpc=v1.GRPCAction(port=port)),
        ):
            await probes.run_probe(probe, v1.Container(), host="127.0.0.1", execute=execute)
            loaded()
    await probes.close()

loaded()
anyio.run(main)
"""


def test_aiohttp_and_grpc_are_loaded_by_the_first_probe_that_needs_them() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:-1] == [
        "False False",
        "False False",
        "False False",
        "True False",
        "True True",
    ]


IMPORTING = """
import asyncio, builtins, sys, threading, anyio
from supervisor.api import v1
from supervisor.kubelet.handlers import Handlers
from tests.kubelet.servers import answer, response, serve

plain, on_the_loop = builtins.__import__, []
def noting(name, *rest):
    if name.startswith("aiohttp") and threading.current_thread() is threading.main_thread():
        spec = getattr(sys.modules.get("aiohttp"), "__spec__", None)
        if spec is None or getattr(spec, "_initializing", False):
            on_the_loop.append(name)
    return plain(name, *rest)
builtins.__import__ = noting

async def main():
    probes = Handlers()
    async with serve(answer(response(200))) as port, anyio.create_task_group() as tasks:
        probe = v1.Probe(timeout_seconds=60, http_get=v1.HTTPGetAction(port=port, path="/"))
        async def one(after):
            await anyio.sleep(after)
            seen = await probes.run_probe(probe, v1.Container(), host="127.0.0.1", execute=None)
            print(seen.outcome)
        for after in (0, 0, 0.02):
            tasks.start_soon(one, after)
    await probes.close()

anyio.run(main)
print(on_the_loop)
"""


def test_probes_wait_for_an_import_that_is_going_on_without_holding_up_the_loop() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTING], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["success", "success", "success", "[]"]


@pytest.mark.parametrize("uv", [False, True])
def test_grpc_survives_twenty_loops_in_a_row(health_server: list[int], uv: bool) -> None:
    async def once() -> Observation:
        probes = Handlers()
        try:
            return await run(probes, grpc(health_server[0]))
        finally:
            await probes.close()

    for _ in range(20):
        seen = anyio.run(once, backend="asyncio", backend_options={"use_uvloop": uv})
        assert seen == Observation(SUCCESS, "service healthy")
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("podvisor-grpc") == 1
