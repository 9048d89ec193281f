"""Every handler of a hook, HTTP against real servers, on asyncio and on uvloop. Texts in full."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping

import anyio
import pytest
import trustme
from trio.testing import MockClock

from supervisor.api import v1
from supervisor.kubelet.clock import Clock
from supervisor.kubelet.handlers import Handlers, HookResult
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
)

pytestmark = pytest.mark.anyio

POD = "web_default(u-1)"
FAILED = f'for Container "c" in Pod "{POD}" failed - error'
OK = HookResult(True)


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture
async def hooks() -> AsyncIterator[Handlers]:
    made = Handlers()
    yield made
    await made.close()


async def no_exec(argv: tuple[str, ...], *, timeout: float | None, limit: int) -> ExecResult:
    raise AssertionError("no program is to be run")


async def run(
    hooks: Handlers,
    handler: v1.LifecycleHandler,
    *,
    host: str = "127.0.0.1",
    ports: tuple[v1.ContainerPort, ...] = (),
    headers: Mapping[str, str] | None = None,
) -> HookResult:
    container = v1.Container(name="c", ports=ports)
    return await hooks.run_hook(
        handler, container, pod=POD, host=host, execute=no_exec, headers=headers or {}
    )


def http(port: int | str, path: str = "/", **more: object) -> v1.LifecycleHandler:
    return v1.LifecycleHandler(http_get=v1.HTTPGetAction(port=port, path=path, **more))  # type: ignore[arg-type]


async def get(hooks: Handlers, talk: Talk, path: str = "/", **more: object) -> HookResult:
    async with serve(talk) as port:
        ended = await run(hooks, http(port, path, **more))
        text = re.sub(r"127.0.0.1:\d+->", "127.0.0.1:LOCAL->", ended.message)
        port_text = str(port)
        return HookResult(
            ended.ok,
            text.replace(port_text, "PORT"),
            ended.output,
            ended.fallback.replace(port_text, "PORT"),
        )


def http_failed(why: str, path: str = "/", scheme: str = "http") -> HookResult:
    return HookResult(
        False,
        f'HTTP lifecycle hook ({path}) {FAILED}: Get "{scheme}://127.0.0.1:PORT{path}": {why}',
    )


# --- HTTP --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 204, 304, 404, 500, 503])
async def test_any_status_is_a_success(hooks: Handlers, status: int) -> None:
    """§6.3.2"""
    body = "" if status in (204, 304) else "whatever"
    assert await get(hooks, answer(response(status, body))) == OK


@pytest.mark.parametrize(
    ("talk", "why"),
    [
        (answer(""), "EOF"),
        (
            reset_after(b""),
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
    ],
    ids=["eof", "reset", "cut", "garbage"],
)
async def test_no_answer_is_a_failure_and_not_tried_again(
    hooks: Handlers, talk: Talk, why: str
) -> None:
    """§6.3.2"""
    count = 0

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        await talk(reader, writer)

    assert await get(hooks, counted, "/bye") == http_failed(why, "/bye")
    assert count == 1


async def test_a_refused_connection_is_a_failure(hooks: Handlers) -> None:
    """§6.3.2"""
    port = free_port()
    assert await run(hooks, http(port, "/x?y=1")) == HookResult(
        False,
        f'HTTP lifecycle hook (/x?y=1) {FAILED}: Get "http://127.0.0.1:{port}/x?y=1": '
        f"dial tcp 127.0.0.1:{port}: connect: connection refused",
    )
    assert await run(hooks, http(port, host="no.such.invalid")) == HookResult(
        False,
        f'HTTP lifecycle hook (/) {FAILED}: Get "http://no.such.invalid:{port}/": '
        "dial tcp: lookup no.such.invalid: no such host",
    )


async def test_a_port_without_a_number_is_a_failure(hooks: Handlers) -> None:
    """§6.3.2"""
    assert await run(hooks, http("web")) == HookResult(
        False,
        f'HTTP lifecycle hook (/) {FAILED}: strconv.Atoi: parsing "web": invalid syntax',
    )
    async with serve(answer(response(200))) as port:
        web = v1.ContainerPort(name="web", container_port=port)
        assert await run(hooks, http("web"), ports=(web,)) == OK
        assert await run(hooks, http(port), host="localhost") == OK
        assert await run(hooks, http(port, host="localhost"), host="no.such.invalid") == OK


@pytest.mark.parametrize(
    "talk",
    [
        answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nxx"),
        reset_after(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nxx"),
    ],
    ids=["cut", "reset"],
)
async def test_a_body_that_breaks_off_changes_nothing(hooks: Handlers, talk: Talk) -> None:
    """§6.3.2"""
    assert await get(hooks, talk) == OK


async def test_a_short_body_is_heard_out(hooks: Handlers) -> None:
    """§6.3.2 — or its sender would be cut off in the middle, and might die of it."""
    heard = False

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        await request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        await writer.drain()
        ended = asyncio.ensure_future(reader.read(1))
        done, _ = await asyncio.wait([ended], timeout=0.3)
        writer.write(b"cd")
        await writer.drain()
        heard = not done
        await ended

    assert await get(hooks, slow) == OK
    assert heard


async def test_a_long_body_is_not(hooks: Handlers) -> None:
    """§6.3.2"""

    async def stalled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10241\r\n\r\nx")
        await reader.read()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 4096)
            await writer.drain()

    with anyio.fail_after(60):
        assert await get(hooks, stalled) == OK
        assert await get(hooks, endless) == OK


async def asked(
    hooks: Handlers,
    headers: Mapping[str, str],
    *given: tuple[str, str],
) -> list[str]:
    seen: list[list[str]] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await request(reader))
        writer.write(response(200).encode())

    fields = tuple(v1.HTTPHeader(name=name, value=value) for name, value in given)
    async with serve(talk) as port:
        assert await run(hooks, http(port, "/a b?c", http_headers=fields), headers=headers) == OK
        (lines,) = seen
        return [line.replace(str(port), "PORT") for line in lines]


async def test_what_a_hook_sends(hooks: Handlers) -> None:
    """§6.3.2"""
    first, *headers = await asked(
        hooks, {"Idempotency-Key": "u-1/c/0/preStop", "Podvisor-Hook-Attempt": "2"}
    )
    assert first == "GET /a%20b?c HTTP/1.1"
    assert sorted(headers) == [
        "Accept: */*",
        "Connection: close",
        "Host: 127.0.0.1:PORT",
        "Idempotency-Key: u-1/c/0/preStop",
        "Podvisor-Hook-Attempt: 2",
        "User-Agent: kube-lifecycle/1.35",
    ]


async def test_what_the_manifest_says_comes_before_what_we_add(hooks: Handlers) -> None:
    """§6.3.2"""
    _, *headers = await asked(
        hooks,
        {"Idempotency-Key": "ours", "Podvisor-Hook-Attempt": "1"},
        ("idempotency-key", "theirs"),
        ("User-Agent", "mine"),
        ("Host", "web.example"),
        ("X-A", "1"),
        ("X-A", "2"),
    )
    assert sorted(headers) == [
        "Accept: */*",
        "Connection: close",
        "Host: web.example",
        "Idempotency-Key: theirs",
        "Podvisor-Hook-Attempt: 1",
        "User-Agent: mine",
        "X-A: 1",
        "X-A: 2",
    ]


async def test_redirects_on_the_same_host_are_followed(hooks: Handlers) -> None:
    """§6.3.2"""
    lines: list[str] = []

    async def last(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.extend(await request(reader))
        writer.write(response(500).encode())

    async with serve(last) as other:
        talk = answer(response(307, "", f"Location: http://127.0.0.1:{other}/there"))
        assert await get(hooks, talk) == OK
    assert lines[0] == "GET /there HTTP/1.1"
    assert "User-Agent: kube-lifecycle/1.35" in lines


async def test_a_redirect_to_another_host_is_the_answer(hooks: Handlers) -> None:
    """§6.3.2"""
    talk = answer(response(302, "", "Location: http://no.such.invalid/"))
    assert await get(hooks, talk) == OK


async def test_who_was_asked_last_is_told(hooks: Handlers) -> None:
    """§6.3.2"""
    other = free_port()
    talk = answer(response(302, "", f"Location: http://127.0.0.1:{other}/there"))
    assert await get(hooks, talk) == HookResult(
        False,
        f'HTTP lifecycle hook (/) {FAILED}: Get "http://127.0.0.1:{other}/there": '
        f"dial tcp 127.0.0.1:{other}: connect: connection refused",
    )


async def test_redirects_without_end_are_a_failure(hooks: Handlers) -> None:
    """§6.3.2"""
    ended = await get(hooks, answer(response(302, "", "Location: /again")))
    assert ended == HookResult(
        False, f'HTTP lifecycle hook (/) {FAILED}: Get "/again": stopped after 10 redirects'
    )


async def test_a_redirect_to_nowhere_is_a_failure(hooks: Handlers) -> None:
    """§6.3.2"""
    ended = await get(hooks, answer(response(302, "", "Location: http://127.0.0.1:99999/")))
    assert ended == http_failed(
        'failed to parse Location header "http://127.0.0.1:99999/": Port out of range 0-65535'
    )


async def test_proxies_are_not_used(hooks: Handlers, monkeypatch: pytest.MonkeyPatch) -> None:
    """§6.3.2"""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    assert await get(hooks, answer(response(200))) == OK


@pytest.fixture(scope="module")
def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("elsewhere.example").configure_cert(context)
    return context


async def test_https_checks_no_certificate(hooks: Handlers, tls: ssl.SSLContext) -> None:
    """§6.3.2"""
    async with serve(answer(response(200, "hi")), tls=tls) as port:
        assert await run(hooks, http(port, scheme="HTTPS")) == OK


class PlainServer:
    """Speaks HTTP only, as servers do that are asked over TLS; keeps what it was asked."""

    def __init__(self, said: str = "") -> None:
        self.said = said or response(200)
        self.asked: list[list[str]] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (await reader.readexactly(1)) == b"\x16":  # a TLS handshake
            await reader.read(4096)
            writer.write(response(400).encode())
            await reader.read()
        else:
            self.asked.append(await request(reader))
            writer.write(self.said.encode())


async def test_https_answered_in_plain_http_is_asked_so_once_more(hooks: Handlers) -> None:
    """§6.3.2 — without the authorization, and whoever answered is told."""
    server = PlainServer(response(500))
    headers = (
        v1.HTTPHeader(name="authorization", value="Bearer secret"),
        v1.HTTPHeader(name="X-A", value="1"),
    )
    async with serve(server) as port:
        ended = await run(
            hooks,
            http(port, "/bye", scheme="HTTPS", http_headers=headers),
            headers={"Idempotency-Key": "k"},
        )
    assert ended == HookResult(True, fallback=f"127.0.0.1:{port}")
    (lines,) = server.asked
    assert lines[0] == "ET /bye HTTP/1.1"  # its first letter was looked at
    assert sorted(lines[1:]) == [
        "Accept: */*",
        "Connection: close",
        f"Host: 127.0.0.1:{port}",
        "Idempotency-Key: k",
        "User-Agent: kube-lifecycle/1.35",
        "X-A: 1",
    ]


async def test_when_that_fails_too_the_first_failure_is_told(hooks: Handlers) -> None:
    """§6.3.2"""
    server = PlainServer("no HTTP at all\r\n")
    assert await get(hooks, server, scheme="HTTPS") == http_failed(
        "http: server gave HTTP response to HTTPS client", scheme="https"
    )
    assert len(server.asked) == 1


async def test_other_failures_over_https_are_not_asked_in_the_clear(hooks: Handlers) -> None:
    """§6.3.2"""
    count = 0

    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        await reader.read(100)

    ended = await get(hooks, closing, scheme="HTTPS")
    assert not ended.ok
    assert ended.fallback == ""
    assert count == 1


async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says the beginning of an answer, and no more."""
    await request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
    await reader.read()


@pytest.mark.parametrize("talk", [silent, half])
async def test_a_hook_that_is_cancelled_leaves_nothing(hooks: Handlers, talk: Talk) -> None:
    """§6.3.2 — it has no time limit of its own."""

    async def cancelled(times: int) -> int:
        async with serve(talk) as port:
            for _ in range(times):
                with anyio.move_on_after(0.05) as scope:
                    await run(hooks, http(port))
                assert scope.cancelled_caught
        await anyio.sleep(0.2)
        return len(os.listdir("/proc/self/fd"))

    before = await cancelled(2)
    await cancelled(10)
    # The loop has some of its own.
    await until(lambda: len(os.listdir("/proc/self/fd")) <= before + 3, "their end")
    assert not hooks._http._session.connector._acquired  # type: ignore[union-attr]


LOADED = """
import sys, anyio
from supervisor.api import v1
from supervisor.kubelet.handlers import Handlers
from supervisor.runtime.cri import ExecResult
from tests.kubelet.servers import answer, response, serve

async def execute(argv, *, timeout, limit):
    return ExecResult(0, b"")

async def main():
    hooks = Handlers()
    async with serve(answer(response(200))) as port:
        for handler in (
            v1.LifecycleHandler(exec=v1.ExecAction(command=("x",))),
            v1.LifecycleHandler(sleep=v1.SleepAction(seconds=0)),
            v1.LifecycleHandler(tcp_socket=v1.TCPSocketAction(port=port)),
            v1.LifecycleHandler(http_get=v1.HTTPGetAction(port=port, path="/")),
        ):
            ended = await hooks.run_hook(
                handler, v1.Container(), pod="p", host="127.0.0.1", execute=execute, headers={}
            )
            print(ended.ok, "aiohttp" in sys.modules)
    await hooks.close()

anyio.run(main)
"""


def test_aiohttp_is_loaded_by_the_first_hook_that_needs_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["True False", "True False", "False False", "True True"]


# --- exec --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "ended"),
    [
        (ExecResult(0, b"ready\n"), HookResult(True, output="ready\n")),
        (
            ExecResult(3, b'out "x"\nerr\xff'),
            HookResult(
                False,
                f"Exec lifecycle hook ([sh -c $(A) $$]) {FAILED}: "
                "command 'sh -c $(A) $$' exited with 3, "
                'message: "out \\"x\\"\\nerr\ufffd"',
                'out "x"\nerr\ufffd',
            ),
        ),
        (
            ExecError('exec: "sh": executable file not found in $PATH'),
            HookResult(
                False,
                f"Exec lifecycle hook ([sh -c $(A) $$]) {FAILED}: "
                'exec: "sh": executable file not found in $PATH, message: ""',
            ),
        ),
        (ExecResult(0, b"x" * 20000), HookResult(True, output="x" * 10240)),
    ],
    ids=["0", "3", "cannot be started", "much output"],
)
async def test_what_a_program_gives(
    hooks: Handlers, result: ExecResult | ExecError, ended: HookResult
) -> None:
    """§6.3.1 — nothing is replaced in its words, and it has all the time it needs."""
    calls = []

    async def execute(argv: tuple[str, ...], *, timeout: float | None, limit: int) -> ExecResult:
        calls.append((argv, timeout, limit))
        if isinstance(result, ExecError):
            raise result
        return result

    container = v1.Container(name="c", env=(v1.EnvVar(name="A", value="a"),))
    handler = v1.LifecycleHandler(exec=v1.ExecAction(command=("sh", "-c", "$(A) $$")))
    got = await hooks.run_hook(
        handler, container, pod=POD, host="127.0.0.1", execute=execute, headers={"X": "y"}
    )
    assert got == ended
    assert calls == [(("sh", "-c", "$(A) $$"), None, 10240)]


# --- sleep and tcpSocket -----------------------------------------------------------------------


@pytest.mark.parametrize("anyio_backend", [("trio", {"clock": MockClock(autojump_threshold=0)})])
@pytest.mark.parametrize("seconds", [0, 50])
async def test_a_sleep_takes_its_time(fake_clock: Clock, seconds: int) -> None:
    """§6.3.4"""
    hooks = Handlers(fake_clock)
    begin = fake_clock.now().boot
    handler = v1.LifecycleHandler(sleep=v1.SleepAction(seconds=seconds))
    assert await run(hooks, handler) == OK
    assert fake_clock.now().boot - begin == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("port", "host", "shown"),
    [(80, "", "{0 80 },Host:,"), ("web", "localhost", "{1 0 web},Host:localhost,")],
)
async def test_tcp_always_fails(hooks: Handlers, port: int | str, host: str, shown: str) -> None:
    """§6.3.3"""
    handler = v1.LifecycleHandler(tcp_socket=v1.TCPSocketAction(port=port, host=host))
    assert await run(hooks, handler) == HookResult(
        False,
        "Cannot run handler: invalid handler: &LifecycleHandler{Exec:nil,HTTPGet:nil,"
        f"TCPSocket:&TCPSocketAction{{Port:{shown}}},Sleep:nil,}}",
    )
