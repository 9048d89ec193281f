"""What a probe costs whose target means no good: at most its timeout, and 1 MiB.

The targets are processes of their own, so all memory that is traced here is the probe's.
"""

from __future__ import annotations

import subprocess
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from supervisor.api import v1
from supervisor.kubelet.handlers import Handlers, Observation
from supervisor.lifecycle.facts import ProbeOutcome
from supervisor.runtime.cri import ExecResult

pytestmark = pytest.mark.anyio

SECONDS = 1  # where the timeout is to come
PATIENCE = 30  # where something else is, on a machine that may be busy; all would go on for minutes
MIB = 1 << 20
TOO_LONG = (
    "net/http: HTTP/1.x transport connection broken: "
    "net/http: server response headers exceeded 131072 bytes; aborted"
)
WAITING = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
READING = "context deadline exceeded (Client.Timeout or context cancellation while reading body)"
CHUNKED = r'b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'

# What the target does, what the probe gives, and how its output ends.
HTTP = {
    "hangs": ("silent", "failure", WAITING),
    "trickles a body": (
        r'trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"x", 0.01)',
        "error",
        READING,
    ),
    "trickles headers": (r'trickle(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n", 0.01)', "failure", WAITING),
    "sends 1 GB": (
        r'flood(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n", b"x" * 65536)',
        "success",
        "x" * 10240,
    ),
    "sends 1 GB of headers": (
        r'flood(b"HTTP/1.1 200 OK\r\n", b"A: " + b"x" * 30000 + b"\r\n")',
        "failure",
        TOO_LONG,
    ),
    "sends 1 GB of one header": (
        r'flood(b"HTTP/1.1 200 OK\r\nA: ", b"x" * 65536)',
        "failure",
        TOO_LONG,
    ),
    "sends 1 GB of status": (r'flood(b"HTTP/1.1 200 ", b"x" * 65536)', "failure", TOO_LONG),
    "sends many small headers": (
        r'flood(b"HTTP/1.1 200 OK\r\n", b"A:\r\n" * 10000)',
        "failure",
        "Too many headers received",
    ),
    "is always about to answer": (
        r'flood(b"", b"HTTP/1.1 102 P\r\n\r\n" * 3000)',
        "failure",
        TOO_LONG,
    ),
    "sends chunks of one byte": (
        rf'flood({CHUNKED}", b"1\r\nx\r\n" * 10000)',
        "success",
        "x" * 10240,
    ),
    "sends a chunk without beginning": (
        rf'flood({CHUNKED}1;", b"x" * 65536)',
        "error",
        "unexpected EOF",
    ),
    "sends trailers without end": (
        rf'flood({CHUNKED}0\r\n", b"A: " + b"x" * 30000 + b"\r\n")',
        "error",
        "unexpected EOF",
    ),
    "talks garbage": (r'flood(b"\x00\xff", b"\x00\xff" * 32768)', "failure", r'\x00\xff"'),
    "resets in its headers": (
        r'reset_after(b"HTTP/1.1 200 OK\r\nConte")',
        "failure",
        "read: connection reset by peer",
    ),
}

TALKS = """
import asyncio, sys
from tests.kubelet.servers import *
async def main():
    async with serve({talk}) as port:
        print(port, flush=True)
        await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
"""

GRPC = """
import asyncio, grpc, sys
from grpc import aio
class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        async def answer(request, context):
            return {answer}
        return grpc.unary_unary_rpc_method_handler(answer)
async def main():
    server = aio.server(options=(("grpc.max_send_message_length", -1),))
    server.add_generic_rpc_handlers((Handler(),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)
asyncio.run(main())
"""
_FAILED = "error: health rpc probe failed: rpc error: code = "


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture
async def probes() -> AsyncIterator[Handlers]:
    made = Handlers()
    yield made
    await made.close()


@contextmanager
def target(program: str) -> Iterator[int]:
    """A process that prints its port and lives until its stdin ends."""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


async def no_exec(argv: tuple[str, ...], *, timeout: float | None, limit: int) -> ExecResult:
    raise AssertionError("no program is to be run")


async def cost(probes: Handlers, probe: v1.Probe) -> Observation:
    """What it gives; looks at what it costs."""
    container = v1.Container(name="c")
    # What is made for the first probe stays: modules, the session, gRPC's thread.
    await probes.run_probe(probe, container, host="127.0.0.1", execute=no_exec)
    begin = time.monotonic()
    tracemalloc.start()
    try:
        seen = await probes.run_probe(probe, container, host="127.0.0.1", execute=no_exec)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MIB
    assert time.monotonic() - begin < probe.timeout_seconds + 10
    return seen


@pytest.mark.parametrize("does", HTTP)
async def test_an_http_target_costs_at_most_the_timeout_and_one_mib(
    probes: Handlers, does: str
) -> None:
    """§5.4.1, §5.4.4, §5.2.9"""
    talk, outcome, ending = HTTP[does]
    seconds = SECONDS if ending in (WAITING, READING) else PATIENCE
    with target(TALKS.format(talk=talk)) as port:
        action = v1.HTTPGetAction(port=port, path="/")
        seen = await cost(probes, v1.Probe(http_get=action, timeout_seconds=seconds))
    assert seen.outcome == outcome
    assert seen.output.endswith(ending)
    assert len(seen.output) <= 20_000


@pytest.mark.parametrize(
    ("program", "text"),
    [
        (
            TALKS.format(talk="silent"),
            "timeout: failed to connect service {address} within 1s: context deadline exceeded",
        ),
        (
            TALKS.format(talk=r'flood(b"", b"\x00\xff" * 32768)'),
            "timeout: failed to connect service {address} within 1s: context deadline exceeded",
        ),
        (
            # The settings of HTTP/2, and pings for ever.
            TALKS.format(
                talk=r'flood(b"", b"\0\0\0\4\0\0\0\0\0" + b"\0\0\x08\6\0\0\0\0\0abcdefgh" * 4000)'
            ),
            "timeout: health rpc did not complete within 1s",
        ),
        (
            GRPC.format(answer=r'b"\xff\xff\xff\xff"'),
            _FAILED + "Internal desc = grpc: failed to unmarshal the received message: "
            "proto: cannot parse invalid wire-format data",
        ),
        (
            GRPC.format(answer="bytes(100 << 20)"),
            _FAILED + "ResourceExhausted desc = "
            "grpc: received message larger than max (104857600 vs. 65536)",
        ),
        (
            GRPC.format(answer="bytes(3 << 20)"),
            _FAILED + "ResourceExhausted desc = "
            "grpc: received message larger than max (3145728 vs. 65536)",
        ),
    ],
    ids=["silent", "garbage", "pings", "no-message", "huge", "large"],
)
async def test_a_grpc_target_costs_at_most_the_timeout_and_one_mib(
    probes: Handlers, program: str, text: str
) -> None:
    """§5.6.1, §5.6.3: of gRPC's own memory, below Python, only what reaches us is seen here."""
    seconds = SECONDS if text.startswith("timeout") else PATIENCE
    with target(program) as port:
        action = v1.GRPCAction(port=port)
        seen = await cost(probes, v1.Probe(grpc=action, timeout_seconds=seconds))
    assert seen == Observation(ProbeOutcome.FAILURE, text.format(address=f'"127.0.0.1:{port}"'))
