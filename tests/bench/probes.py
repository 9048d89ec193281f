"""What probes cost, beside bare calls with the same libraries: `python -m tests.bench.probes`.

Everything is measured in turn in one run, on one loop of one process; the servers are processes
of their own, and CPU is that of the measuring process alone, all its threads included.

* Steady: 1,000 HTTP probes with a period of 1 s, from the ticks of a node with 100 pods to their
  folded records. How late each begins, and the CPU of each.
* Saturation: attempts per second of CPU time, one kind at a time, with as many at once as the bare
  loop beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import itertools
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio

from supervisor.api import v1
from supervisor.kubelet.handlers import Execute, Handlers, Observation
from supervisor.kubelet.node import Node
from supervisor.lifecycle.facts import ContainerId, Instant, ProbeOutcome
from supervisor.lifecycle.record import NodePolicy
from supervisor.runtime.cri import ExecResult, Isolation, LaunchSpec, News
from supervisor.runtime.env_files import EnvFiles
from supervisor.runtime.launch import ProcessRuntime, spawn_launcher

SERVERS = """
import asyncio, os, sys, uvloop
ANSWER = b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\nok"
class Http(asyncio.Protocol):
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data):
        self.transport.write(ANSWER); self.transport.close()
async def http():
    server = await asyncio.get_running_loop().create_server(Http, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()
async def grpc():
    from grpc import aio
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc
    server, servicer = aio.server(), health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await asyncio.Event().wait()
uvloop.run(http()) if sys.argv[1] == "http" else asyncio.run(grpc())
"""


def start(kind: str) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVERS, kind], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# --- steady ------------------------------------------------------------------------------------


class NoRuntime:
    """Containers that are always there."""

    isolation = Isolation.GROUP

    async def create_sandbox(self, pod_uid: str) -> None: ...
    async def remove_sandbox(self, pod_uid: str) -> None: ...

    async def start(self, spec: LaunchSpec) -> tuple[int, Instant]:
        at = next(self.starts)
        return 1, Instant(wall=time.time(), boot=at)

    async def exec(
        self, id: ContainerId, argv: tuple[str, ...], *, timeout: float | None, limit: int
    ) -> ExecResult:
        raise AssertionError

    def signal(self, id: ContainerId, signum: int) -> bool:
        return True

    def termination_message(self, spec: LaunchSpec, policy: str, exit_code: int) -> str:
        return ""

    def acknowledge(self, id: ContainerId) -> None: ...

    async def news(self) -> AsyncIterator[News]:
        await anyio.sleep_forever()
        yield  # type: ignore[misc]

    def __init__(self, count: int) -> None:
        # Spread over a period, as containers do that have started one after the other.
        first = time.clock_gettime(time.CLOCK_BOOTTIME) + 4
        self.starts = (first + i / count for i in itertools.count())


async def steady(port: int, count: int, seconds: int) -> tuple[list[float], float]:
    """(how late each attempt began, CPU seconds for each)."""
    handlers = Handlers()
    late: list[float] = []
    runs = 0

    async def run_probe(
        probe: v1.Probe, container: v1.Container, *, host: str, execute: Execute
    ) -> Observation:
        nonlocal runs
        runs += 1
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        late.append((now - origin - offsets[id(container)]) % 1.0)
        return await handlers.run_probe(probe, container, host=host, execute=execute)

    probe = v1.Probe(
        http_get=v1.HTTPGetAction(port=port, path="/healthz"),
        period_seconds=1,
        timeout_seconds=5,
        success_threshold=1,
        failure_threshold=3,
    )
    runtime = NoRuntime(count)
    origin = next(NoRuntime(count).starts)
    runtime.starts = (origin + i / count for i in range(count))
    offsets: dict[int, float] = {}
    pods = []
    for i in range(count // 10):
        containers = tuple(
            v1.Container(name=f"c{j}", command=("x",), readiness_probe=probe) for j in range(10)
        )
        pods.append(
            v1.Pod(
                metadata=v1.ObjectMeta(name=f"p{i}", namespace="default"),
                spec=v1.PodSpec(containers=containers, restart_policy="Always"),
            )
        )
    order: list[v1.Container] = []

    def make_spec(
        pod: v1.Pod,
        container: v1.Container,
        id_: ContainerId,
        files: EnvFiles | None,
        *,
        runs: bool,
    ) -> LaunchSpec:
        offsets[id(container)] = len(order) / count
        order.append(container)
        return LaunchSpec(id_, ("x",), (), "/", "", "", "")

    node = Node(runtime, make_spec, policy=NodePolicy(node_name="here"), run_probe=run_probe)
    async with node:
        for pod in pods:
            node.run_pod(pod)
        await anyio.sleep(7)
        late.clear()
        begin_cpu, begin_runs = cpu(), runs
        await anyio.sleep(seconds)
        each = (cpu() - begin_cpu) / (runs - begin_runs)
        measured = late[:]
        ready = sum(c.ready for worker in node.workers for c in worker.status.container_statuses)
        assert ready == count, f"only {ready} of {count} are ready"
    await handlers.close()
    assert not node.bugs, node.bugs
    return measured, each


async def bare_aiohttp(port: int, count: int, seconds: int) -> float:
    """CPU seconds of each request, `count` of them a second, with one plain session."""
    import aiohttp

    done = 0
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True, limit=0),
        timeout=aiohttp.ClientTimeout(total=5),
    ) as session:

        async def one(offset: float) -> None:
            nonlocal done
            loop = asyncio.get_running_loop()
            at = loop.time() + offset
            while True:
                await asyncio.sleep(at - loop.time())
                at += 1
                async with session.get(f"http://127.0.0.1:{port}/healthz") as response:
                    assert response.status == 200
                    await response.read()
                done += 1

        tasks = [asyncio.create_task(one(1 + i / count)) for i in range(count)]
        await asyncio.sleep(4)
        begin, before = cpu(), done
        await asyncio.sleep(seconds)
        each = (cpu() - begin) / (done - before)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return each


# --- saturation --------------------------------------------------------------------------------

Call = Callable[[], Awaitable[None]]


async def per_core(
    call: Call, at_once: int, seconds: float, cpu: Callable[[], float] = cpu
) -> float:
    """Calls per second of CPU."""
    end = time.monotonic() + seconds
    done = 0

    async def again() -> None:
        nonlocal done
        while time.monotonic() < end:
            await call()
            done += 1

    await call()
    begin = cpu()
    await asyncio.gather(*(again() for _ in range(at_once)))
    return done / (cpu() - begin)


def ours(handlers: Handlers, probe: v1.Probe, execute: Execute | None = None) -> Call:
    async def none(argv: tuple[str, ...], *, timeout: float | None, limit: int) -> ExecResult:
        raise AssertionError

    container = v1.Container(name="c")

    async def call() -> None:
        seen = await handlers.run_probe(probe, container, host="127.0.0.1", execute=execute or none)
        assert seen.outcome is ProbeOutcome.SUCCESS, seen

    return call


@asynccontextmanager
async def bare_http(port: int) -> AsyncIterator[Call]:
    import aiohttp

    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True, limit=0),
        timeout=aiohttp.ClientTimeout(total=5),
    ) as session:

        async def call() -> None:
            async with session.get(f"http://127.0.0.1:{port}/healthz") as response:
                assert response.status == 200
                await response.read()

        yield call


def bare_tcp(port: int) -> Call:
    async def call() -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", port)
        transport.close()

    return call


def bare_grpc(port: int) -> Call:
    from grpc import aio
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    async def call() -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
            assert answer.status == 1

    return call


async def saturate_exec(rounds: int, seconds: float) -> None:
    """CPU is that of all processes here: ours, the launcher's, the programs'."""
    probe = v1.Probe(exec=v1.ExecAction(command=("/bin/true",)), timeout_seconds=5)

    async def bare() -> None:
        process = await asyncio.create_subprocess_exec(
            "/bin/true",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        await asyncio.wait_for(process.communicate(), 5)
        assert process.returncode == 0

    mine: list[float] = []
    plain: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        launcher = spawn_launcher("auto")
        try:
            async with ProcessRuntime(launcher, folder) as runtime:
                id = ContainerId("uid", "c", 0)
                await runtime.create_sandbox("uid")
                place = os.path.join(folder, "c")
                await runtime.start(
                    LaunchSpec(
                        id=id,
                        argv=("sleep", "1000"),
                        env=(("PATH", os.environ["PATH"]),),
                        cwd="/",
                        log_path=os.path.join(folder, "c.log"),
                        termination_path="/dev/termination-log",
                        termination_file=place,
                    )
                )
                execute = functools.partial(runtime.exec, id)
                for _ in range(rounds):
                    mine.append(await per_core(ours(Handlers(), probe, execute), 4, seconds, tree))
                    plain.append(await per_core(bare, 4, seconds, tree))
                runtime.signal(id, 9)
        finally:
            launcher.close()
    report("exec /bin/true, asyncio subprocess", mine, plain, 0.7)


def tree() -> float:
    """CPU of this process and all below it, also of those that were waited for."""
    ticks, pids = 0, [os.getpid()]
    for pid in pids:
        try:
            stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, stat[11:15]))
            children = pathlib.Path(f"/proc/{pid}/task").glob("*/children")
            pids += [int(word) for path in children for word in path.read_text().split()]
        except OSError:
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


def report(name: str, mine: list[float], bare: list[float], aim: float) -> None:
    ratio = statistics.median(mine) / statistics.median(bare)
    print(
        f"  {name:<34} {statistics.median(mine):8.0f} /s of CPU, bare "
        f"{statistics.median(bare):8.0f}: {ratio:.2f} (aim at least {aim})"
    )


async def saturate(http_port: int, rounds: int, seconds: float) -> None:
    handlers = Handlers()
    http = v1.Probe(http_get=v1.HTTPGetAction(port=http_port, path="/healthz"), timeout_seconds=5)
    tcp = v1.Probe(tcp_socket=v1.TCPSocketAction(port=http_port), timeout_seconds=5)
    results: dict[str, tuple[list[float], list[float]]] = {"HTTP": ([], []), "TCP": ([], [])}
    async with bare_http(http_port) as plain:
        for _ in range(rounds):
            results["HTTP"][0].append(await per_core(ours(handlers, http), 16, seconds))
            results["HTTP"][1].append(await per_core(plain, 16, seconds))
            results["TCP"][0].append(await per_core(ours(handlers, tcp), 16, seconds))
            results["TCP"][1].append(await per_core(bare_tcp(http_port), 16, seconds))
    await handlers.close()
    report("HTTP, aiohttp", *results["HTTP"], 0.7)
    report("TCP, create_connection", *results["TCP"], 0.5)


async def saturate_grpc(port: int, which: str, seconds: float) -> float:
    if which == "bare":
        return await per_core(bare_grpc(port), 8, seconds)
    probe = v1.Probe(grpc=v1.GRPCAction(port=port), timeout_seconds=5)
    return await per_core(ours(Handlers(), probe), 8, seconds)


def grpc_in_turn(port: int, rounds: int, seconds: float) -> None:
    """Each in a process of its own: grpc.aio belongs to the first loop that uses it."""
    results: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(rounds):
        for which, values in results.items():
            code = (
                "import anyio; from tests.bench.probes import saturate_grpc\n"
                f"print(anyio.run(saturate_grpc, {port}, {which!r}, {seconds}))"
            )
            done = subprocess.run(
                [sys.executable, "-c", code],
                cwd=pathlib.Path(__file__).parents[2],
                stdout=subprocess.PIPE,
                check=True,
                text=True,
            )
            values.append(float(done.stdout))
    report("gRPC, fresh channel", results["ours"], results["bare"], 0.7)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.probes")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    uvloop = {"use_uvloop": True}
    http, port = start("http")
    grpc, grpc_port = start("grpc")
    try:
        print(f"\n{options.count} HTTP probes with a period of 1 s, on {os.cpu_count()} cores")
        mine: list[float] = []
        bare: list[float] = []
        late: list[float] = []
        for _ in range(options.rounds):
            lateness, each = anyio.run(
                steady, port, options.count, options.seconds, backend_options=uvloop
            )
            late += lateness
            mine.append(each)
            bare.append(
                anyio.run(
                    bare_aiohttp, port, options.count, options.seconds, backend_options=uvloop
                )
            )
        late.sort()
        print(
            f"  lateness: p50 {late[len(late) // 2] * 1e3:.1f} ms, "
            f"p99 {late[len(late) * 99 // 100] * 1e3:.1f} ms (aim at most 50), "
            f"worst {late[-1] * 1e3:.1f} ms, {len(late)} attempts"
        )
        ratio = statistics.median(mine) / statistics.median(bare)
        print(
            f"  CPU each, all in: {statistics.median(mine) * 1e6:.0f} µs, bare aiohttp "
            f"{statistics.median(bare) * 1e6:.0f} µs: {ratio:.2f} (aim at most 1.25)"
        )
        print("\nSaturation on one loop")
        anyio.run(saturate, port, options.rounds, 2.0, backend_options=uvloop)
        grpc_in_turn(grpc_port, options.rounds, 2.0)
        anyio.run(saturate_exec, options.rounds, 2.0, backend_options=uvloop)
    finally:
        for process in (http, grpc):
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
