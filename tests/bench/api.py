"""What the API of a node costs: `python -m tests.bench.api`.

A node with a hundred pods, alone on one core; its clients are on the others. Told are requests per
second, the time from a process's end until a watcher knows of it, what many watchers cost, what
goes through streams, and how long `podvisor get pods` takes beside a program that does nothing.

The end of a process is taken to be the moment at which it is killed, so what the kernel needs for
it counts, too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

from supervisor.store import sqlite

PODVISOR = os.path.join(os.path.dirname(sys.executable), "podvisor")
CORES = sorted(os.sched_getaffinity(0))
PATIENCE = 120.0
HELLO = """
import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def hello(name: str = typer.Argument("world")) -> None:
    print(f"hello {name}")


app()
"""


def manifest(name: str, command: list[str]) -> dict[str, Any]:
    container = {"name": "app", "command": command}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


@contextlib.contextmanager
def node(folder: str) -> Iterator[int]:
    """A node alone on the first core; its pid."""
    with open(f"{folder}/podvisor.toml", "w", encoding="utf-8") as file:
        file.write('backoff-initial = "100ms"\nbackoff-max = "100ms"\n')
    words = ["taskset", "-c", str(CORES[0]), PODVISOR, "serve", "--state-dir", state(folder)]
    with open(f"{folder}/errors", "wb") as errors:
        process = subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=errors)
    try:
        until(lambda: os.path.exists(f"{state(folder)}/kubeconfig"), "kubeconfig")
        os.sched_setaffinity(0, set(CORES[1:]) or set(CORES))
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def state(folder: str) -> str:
    return f"{folder}/.podvisor"


def until(condition: Any, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"no {what}")
        time.sleep(0.005)


def pss(pid: int) -> int:
    """Memory in kB."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))


# --- a client that costs little ------------------------------------------------------------------


class Connection:
    """One connection over the unix socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, folder: str) -> Connection:
        path = f"{state(folder)}/api.sock"
        return cls(*await asyncio.open_unix_connection(path, limit=1 << 24))

    async def get(self, path: str) -> bytes:
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = await self.reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head.split(b"\r\n", 1)[0], head
        if b"chunked" in head.lower():
            whole = b""
            while chunk := await self.chunk():
                whole += chunk
            return whole
        lowered = head.lower()
        length = int(lowered.split(b"content-length:")[1].split(b"\r\n")[0])
        return await self.reader.readexactly(length)

    async def post(self, path: str, body: Any) -> None:
        data = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\n\r\n"
        )
        self.writer.write(head.encode() + data)
        answer = await self.reader.readuntil(b"\r\n\r\n")
        assert b" 201 " in answer.split(b"\r\n", 1)[0], answer
        length = int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await self.reader.readexactly(length)

    async def watch(self, path: str) -> None:
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = await self.reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head.split(b"\r\n", 1)[0], head

    async def chunk(self) -> bytes:
        size = int(await self.reader.readline(), 16)
        data = await self.reader.readexactly(size)
        await self.reader.readline()
        return data

    def close(self) -> None:
        self.writer.close()


PODS = "/api/v1/namespaces/default/pods"


async def rate(folder: str, path: str, seconds: float, connections: int) -> tuple[float, int]:
    """Requests per second, and the size of an answer."""
    clients = [await Connection.open(folder) for _ in range(connections)]
    size = len(await clients[0].get(path))
    end = time.perf_counter() + seconds
    begin = time.perf_counter()

    async def ask(client: Connection) -> int:
        count = 0
        while time.perf_counter() < end:
            await client.get(path)
            count += 1
        return count

    counts = await asyncio.gather(*(ask(client) for client in clients))
    taken = time.perf_counter() - begin
    for client in clients:
        client.close()
    return sum(counts) / taken, size


async def create(folder: str, count: int) -> None:
    client = await Connection.open(folder)
    for number in range(count):
        await client.post(PODS, manifest(f"p{number}", ["sleep", "100000"]))

    while True:
        items = json.loads(await client.get(PODS))["items"]
        if sum(item["status"]["phase"] == "Running" for item in items) == count:
            break
        await asyncio.sleep(0.1)
    client.close()


async def ends(folder: str, count: int, rounds: int) -> list[float]:
    """Seconds from the kill of a pod's process until the first event in which it runs no more."""
    client = await Connection.open(folder)
    version = json.loads(await client.get(PODS))["metadata"]["resourceVersion"]
    await client.watch(f"{PODS}?watch=true&resourceVersion={version}")
    times: list[float] = []
    waiting: tuple[str, asyncio.Event] = ("", asyncio.Event())
    running: set[str] = {f"p{n}" for n in range(count)}

    async def follow() -> None:
        rest = b""
        while True:
            rest += await client.chunk()
            now = time.perf_counter()
            *lines, rest = rest.split(b"\n")
            for line in lines:
                pod = json.loads(line)["object"]
                name = pod["metadata"]["name"]
                (container,) = pod["status"]["containerStatuses"]
                if "running" in container["state"]:
                    running.add(name)
                else:
                    running.discard(name)
                    if waiting[0] == name and not waiting[1].is_set():
                        times.append(now - begin)
                        waiting[1].set()

    following = asyncio.create_task(follow())
    begin = 0.0
    for _ in range(rounds):
        pids = {
            s.record.pod.metadata.name: s.record.containers[0].running.pid
            for s in sqlite.read(f"{state(folder)}/podvisor.db").pods
            if s.record.containers[0].running is not None
        }
        for name, pid in pids.items():
            waiting = (name, asyncio.Event())
            begin = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            await asyncio.wait_for(waiting[1].wait(), 30)
            await asyncio.sleep(0.01)
        while len(running) < count:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
    following.cancel()
    client.close()
    return sorted(times)


async def watched(folder: str, pid: int, watchers: int, count: int) -> None:
    before = pss(pid)
    clients = []
    probe = await Connection.open(folder)
    version = json.loads(await probe.get(PODS))["metadata"]["resourceVersion"]
    for _ in range(watchers):
        client = await Connection.open(folder)
        await client.watch(f"{PODS}?watch=true&resourceVersion={version}")
        clients.append(client)
    print(f"  {watchers} watches: {(pss(pid) - before) / watchers:.1f} kB each (PSS)")

    async def drain(client: Connection) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ValueError):
            while True:
                await client.chunk()

    drains = [asyncio.create_task(drain(client)) for client in clients]
    report("exit to event, 500 more watching", await ends(folder, count, 1))
    for task in drains:
        task.cancel()
    for client in (*clients, probe):
        client.close()


def report(what: str, times: list[float]) -> None:
    p50, p99 = times[len(times) // 2], times[min(len(times) - 1, len(times) * 99 // 100)]
    print(
        f"  {what}: p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms, worst"
        f" {times[-1] * 1000:.1f} ms ({len(times)} times)"
    )


# --- streams ------------------------------------------------------------------------------------


def streams(folder: str, megabytes: int) -> None:
    kubectl = shutil.which("kubectl")
    size = megabytes * 1_000_000
    tools = {"podvisor": [PODVISOR], "kubectl": [kubectl] if kubectl else []}
    for tool, words in tools.items():
        if not words:
            print("  kubectl is not installed")
            continue
        env = os.environ | {"KUBECONFIG": f"{state(folder)}/kubeconfig"}
        down = [*words, "exec", "p0", "--", "head", "-c", str(size), "/dev/zero"]
        taken = timed(down, folder, env)
        print(f"  {megabytes} MB down by {tool} exec: {megabytes / taken:.0f} MB/s")
        with tempfile.TemporaryFile() as file:
            file.truncate(size)
            up = [*words, "exec", "-i", "p0", "--", "wc", "-c"]
            taken = timed(up, folder, env, stdin=file, expected=str(size))
        print(f"  {megabytes} MB up by {tool} exec -i: {megabytes / taken:.0f} MB/s")
        with sending(size) as remote, socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            local = sock.getsockname()[1]
            sock.close()
            forward = subprocess.Popen(
                [*words, "port-forward", "p0", f"{local}:{remote}"],
                cwd=folder,
                env=env,
                stdout=subprocess.PIPE,
            )
            assert forward.stdout is not None
            forward.stdout.readline()
            begin = time.perf_counter()
            with urllib.request.urlopen(f"http://127.0.0.1:{local}/") as answer:
                received = 0
                while part := answer.read(1 << 20):
                    received += len(part)
            taken = time.perf_counter() - begin
            assert received == size
            forward.kill()
            forward.wait()
            forward.stdout.close()
        print(f"  {megabytes} MB by {tool} port-forward: {megabytes / taken:.0f} MB/s")


def timed(
    words: list[str], folder: str, env: dict[str, str], stdin: Any = None, expected: str = ""
) -> float:
    begin = time.perf_counter()
    done = subprocess.run(
        words,
        cwd=folder,
        env=env,
        stdin=stdin or subprocess.DEVNULL,
        stdout=subprocess.PIPE if expected else subprocess.DEVNULL,
        check=True,
    )
    assert not expected or done.stdout.split()[0].decode() == expected
    return time.perf_counter() - begin


@contextlib.contextmanager
def sending(size: int) -> Iterator[int]:
    """A server that answers everything with that many bytes; its port."""
    pid, (here, there) = 0, socket.socketpair()
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException), socket.create_server(("127.0.0.1", 0)) as server:
            here.close()
            there.sendall(str(server.getsockname()[1]).encode())
            block = bytes(1 << 20)
            while True:
                client, _ = server.accept()
                client.recv(65536)
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n"
                client.sendall(head.encode())
                left = size
                while left:
                    left -= client.send(block[: min(left, len(block))])
                client.close()
        os._exit(0)
    there.close()
    try:
        yield int(here.recv(16))
    finally:
        here.close()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


# --- starts -------------------------------------------------------------------------------------


def starts(folder: str, runs: int) -> None:
    script = f"{folder}/hello.py"
    with open(script, "w", encoding="utf-8") as file:
        file.write(HELLO)
    hello, get = [sys.executable, script], [PODVISOR, "get", "pods"]
    times: dict[str, list[float]] = {"hello": [], "get": []}
    for turn in range(runs + 2):
        for name, words in (("hello", hello), ("get", get)):
            taken = timed(words, folder, dict(os.environ))
            if turn >= 2:
                times[name].append(taken)
    first, second = (statistics.median(times[name]) for name in ("hello", "get"))
    print(
        f"  podvisor get pods {second * 1000:.0f} ms, a hello world of typer"
        f" {first * 1000:.0f} ms: {second / first:.2f} times"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pods", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--watches", type=int, default=500)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, node(folder) as pid:
        asyncio.run(create(folder, options.pods))
        print(f"a node with {options.pods} running pods, on one core:")
        for what, path in (("GET a pod", f"{PODS}/p0"), (f"LIST {options.pods} pods", PODS)):
            found, size = asyncio.run(rate(folder, path, options.seconds, 4))
            print(f"  {what}: {found:.0f} requests/s, {size} bytes each")
        report("exit to event", asyncio.run(ends(folder, options.pods, options.rounds)))
        asyncio.run(watched(folder, pid, options.watches, options.pods))
        streams(folder, options.megabytes)
        starts(folder, 15)


if __name__ == "__main__":
    main()
