"""The API under fire: `python -m tests.torture.api`, ten thousand requests and frames of each wire.

A real `podvisor serve`, by its unix socket and its HTTPS port, hears what hostile.py makes, many at
once. Meanwhile somebody else asks for a pod twenty times a second, and is to be answered. Then all
must be as it was: nobody's bug, no answer 5xx, the same processes, no descriptor more, no more
memory than after the first tenth.

`campaign` is what `make test` calls as well, with some hundreds. What it finds it raises, with the
words that repeat it.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import itertools
import json
import os
import random
import signal
import socket
import ssl
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator

import yaml
from msgspec import Struct, field

from tests import support
from tests.support import BEST, Durable, Manifest, Session, pod, python, sh, wait_for
from tests.torture.hostile import Attempt, Door, Ending, Target, Wire, attempt

AT_ONCE = 24
GROWTH = 32 << 10  # kB of memory that an allocator may keep after the first tenth
_ANSWER = 20.0  # seconds
_LISTENS = 0.03  # seconds that a client stays after its last word
_ENDS = 0.3  # seconds that it waits for the server's
_LOOK_EVERY = 0.05

_ECHO = """
import asyncio, os, signal, sys
async def echo(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()
async def main():
    server = await asyncio.start_server(echo, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # as pid 1 it is to reap whoever has lost its parent
asyncio.run(main())
"""
# Whatever is typed or ended, there is somebody who listens.
_CAT = "trap '' INT QUIT TSTP HUP; trap 'exit 0' TERM; while :; do cat; sleep 0.1; done"


class Report(Struct):
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)  # by wire and code
    sessions: Counter[str] = field(default_factory=Counter)  # with an answer 101, by protocol
    frames: Counter[str] = field(default_factory=Counter)  # by wire
    doors: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)  # of the other's answers, in seconds
    memory: list[int] = field(default_factory=list)  # kB of PSS, at first and after each tenth


# --- the node -------------------------------------------------------------------------------------


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _web(port: int) -> Manifest:
    app = python("app", _ECHO)
    app["command"] = [*app["command"], str(port)]
    cats = (sh("cat", _CAT, stdin=True), sh("term", _CAT, stdin=True, tty=True))
    return pod("web", app, *cats, terminationGracePeriodSeconds=1)


def _spare() -> Manifest:
    script = "trap exit TERM; while :; do sleep 0.1; done"
    return pod("spare", sh("app", script), terminationGracePeriodSeconds=1)


class Node:
    """The node that is fired at."""

    def __init__(self, node: Durable) -> None:
        self._node = node
        port = _free_port()
        node.put("web.json", _web(port))
        self.session: Session = node.serve(node.pods)
        for name in ("app", "cat", "term"):
            node.running(self.session, "web", name)
        self.path = f"{node.state}/api.sock"
        self.session.until(lambda: os.path.exists(f"{node.state}/kubeconfig"), "the kubeconfig")
        with open(f"{node.state}/kubeconfig") as file:
            config = yaml.safe_load(file)
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self.context = ssl.create_default_context(cadata=authority)
        self.target = Target(port, user["token"], int(cluster["server"].rsplit(":", 1)[1]))
        self.session.until(self._echoes, "the echo")
        self.processes = Counter(name for _, name in _tree())
        self._own = {pid: _descriptors(pid) for pid, name in _tree() if "podvisor" in name}
        self._own[self.session.pid] = _descriptors(self.session.pid)
        self._spare = node.put("spare.json", _spare())
        node.running(self.session, "spare", "app")

    def _echoes(self) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.target.port), 1).close()
            return True
        return False

    def memory(self) -> int:
        """kB of what is podvisor's own."""
        return sum(map(_pss, self._own))

    def settle(self) -> None:
        """Wait until nothing more is there than before; AssertionError if it does not come so."""
        os.unlink(self._spare)
        try:
            wait_for(lambda: not self._more_descriptors(), "all connections to end")
            wait_for(lambda: not self.left(), "what was started to end")
        except AssertionError as error:
            found = f"more descriptors: {self._more_descriptors()}, processes: {dict(self.left())}"
            raise AssertionError(f"{error}; {found}; {self.session.err[-9000:]}") from None

    def left(self) -> Counter[str]:
        return Counter(name for _, name in _tree()) - self.processes

    def _more_descriptors(self) -> dict[int, Counter[str]]:
        """By process; one or two may come with what is used for the first time."""
        now = {pid: _descriptors(pid) - before for pid, before in self._own.items()}
        return {pid: more for pid, more in now.items() if more.total() > 2}


def _tree() -> Iterator[tuple[int, str]]:
    """All processes below this one, with their words."""
    parents: dict[int, int] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat") as file:
            parents[int(name)] = int(file.read().rpartition(")")[2].split()[1])
    for pid in parents:
        above = pid
        while above > 1 and above != os.getpid():
            above = parents.get(above, 0)
        if above == os.getpid() and pid != above:
            with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().replace(b"\0", b" ").decode(errors="replace")[:200]
                with open(f"/proc/{pid}/stat") as stat, open(f"/proc/{parents[pid]}/cmdline") as up:
                    yield pid, words or f"zombie {stat.read()[:60]} of {up.read()[:99]}"


def _descriptors(pid: int) -> Counter[str]:
    """What they are of, without numbers."""
    found: Counter[str] = Counter()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            found[os.readlink(f"/proc/{pid}/fd/{fd}").partition("[")[0]] += 1
    return found


def _pss(pid: int) -> int:
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))


# --- one client -----------------------------------------------------------------------------------


class _Client:
    def __init__(self, node: Node, report: Report) -> None:
        self._node, self._report = node, report

    async def __call__(self, wire: Wire, seed: int, number: int) -> None:
        what = attempt(self._node.target, wire, seed, number)
        report = self._report
        try:
            code = await self._ask(what)
        except TimeoutError:
            code = "none in time"
        report.answers[wire, code] += 1
        report.doors[what.door] += 1
        report.frames[wire] += what.frames
        if code == "101":
            report.sessions[what.name] += 1
        # Kubernetes' word for a version that has not come yet.
        is_early = code == "504" and b"resourceVersion=" in what.head
        # Whoever goes on talking to a refusal may lose it: its connection ends with much unread.
        is_due = what.intact and not what.early
        wrong = (code.startswith("5") and not is_early) or code == "none in time"
        if wrong or (is_due and not code):
            again = f"--seed {seed} --only {wire}:{number}"
            report.wrong.append(f"{again}: {what.name}: answer {code!r} to {what.head[:300]!r}")

    async def _ask(self, what: Attempt) -> str:
        """The code of the answer; empty: the connection has ended without."""
        port = self._node.target.api
        context = self._node.context if what.door is Door.HTTPS else None
        opening = (
            asyncio.open_unix_connection(self._node.path)
            if what.door is Door.UNIX
            else asyncio.open_connection("127.0.0.1", port, ssl=context)
        )
        try:
            async with asyncio.timeout(_ANSWER):
                reader, writer = await opening
        except (ConnectionError, ssl.SSLError):
            return ""
        listening: asyncio.Task[None] | None = None
        try:
            writer.write(what.head)
            if what.early:
                writer.writelines(what.pieces)
            code = await self._code(what, reader)
            if code == "101" and what.listens:
                listening = asyncio.ensure_future(_hear(reader))
            if code == "101" and not what.early:
                for piece in what.pieces:
                    writer.write(piece)
                    with contextlib.suppress(TimeoutError):  # it is not read: so much for it
                        async with asyncio.timeout(_LISTENS * 5):
                            await writer.drain()
            await self._end(what, writer, listening)
        except (ConnectionError, ssl.SSLError):
            pass
        finally:
            if listening is not None:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        return code

    async def _code(self, what: Attempt, reader: asyncio.StreamReader) -> str:
        """Whoever sends no request soon hangs up."""
        first = b""
        try:
            async with asyncio.timeout(_ANSWER if what.intact else _LISTENS):
                first = await reader.readline()
                while (await reader.readline()).strip():
                    pass
                if what.intact and b"\r\nConnection: close" in what.head:
                    await reader.read()
        except TimeoutError:
            if what.intact:
                raise
        except (ConnectionError, ssl.SSLError, ValueError):
            pass
        words = first.split()
        return words[1].decode(errors="replace") if len(words) > 1 else ""

    async def _end(
        self, what: Attempt, writer: asyncio.StreamWriter, listening: asyncio.Task[None] | None
    ) -> None:
        if what.ending is Ending.ABORT:
            peer = writer.get_extra_info("socket")
            if peer.family != socket.AF_UNIX:  # a reset, not an end
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        if what.ending is Ending.HALF and writer.can_write_eof():
            writer.write_eof()
        wait = _LISTENS if what.ending is Ending.CLOSE else _ENDS
        if listening is not None:
            await asyncio.wait((listening,), timeout=wait)
        elif what.pieces:
            await asyncio.sleep(_LISTENS)


async def _hear(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while await reader.read(1 << 16):
            pass


# --- the other ------------------------------------------------------------------------------------


class _Other(threading.Thread):
    """Asks for a pod all the time, by a connection of its own."""

    def __init__(self, path: str, report: Report) -> None:
        super().__init__()
        self._path, self._report = path, report
        self.enough = threading.Event()

    def run(self) -> None:
        raw = b"GET /api/v1/namespaces/default/pods/web HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(_ANSWER)
            try:
                peer.connect(self._path)
                stream = peer.makefile("rb")
                over = False
                while not over:
                    begin = time.monotonic()
                    peer.sendall(raw)
                    status, size = stream.readline(), 0
                    while line := stream.readline().strip():
                        name, _, value = line.partition(b":")
                        if name.lower() == b"content-length":
                            size = int(value)
                    found = json.loads(stream.read(size))
                    assert status.split()[1] == b"200"
                    assert found["metadata"]["name"] == "web"
                    self._report.delays.append(time.monotonic() - begin)
                    over = self.enough.wait(_LOOK_EVERY)
                stream.close()
            except (OSError, ValueError, AssertionError) as error:
                self._report.wrong.append(f"who asked for a pod meanwhile: {error!r}")


# --- all ------------------------------------------------------------------------------------------


def _numbers(node: Node, seed: int, requests: int, frames: int) -> Iterator[tuple[Wire, int]]:
    """What there is to do: so many requests, and sessions with so many frames of either wire."""
    kinds: list[Iterator[tuple[Wire, int]]] = [((Wire.HTTP, n) for n in range(requests))]
    for wire in (Wire.WEBSOCKET, Wire.SPDY):
        made, count = 0, 0
        while made < frames:
            made += attempt(node.target, wire, seed, count).frames
            count += 1
        kinds.append(zip(itertools.repeat(wire), range(count)))
    # Evenly mixed: as many tenths of each.
    listed = [list(kind) for kind in kinds]
    placed = [(at / len(some), each) for some in listed for at, each in enumerate(some)]
    return iter([each for _, each in sorted(placed)])


async def _fire(client: _Client, seed: int, these: list[tuple[Wire, int]]) -> None:
    left = iter(these)

    async def some() -> None:
        for wire, number in left:
            await client(wire, seed, number)

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))


def campaign(durable: Durable, seed: int, requests: int, frames: int, only: str = "") -> Report:
    """Raises AssertionError with all that was found wrong."""
    node, report = Node(durable), Report()
    client = _Client(node, report)
    if only:
        wire, _, number = only.partition(":")
        todo = [(Wire(wire), int(number))]
    else:
        todo = list(_numbers(node, seed, requests, frames))
    other = _Other(node.path, report)
    other.start()
    report.memory.append(node.memory())
    try:
        tenth = len(todo) // 10 + 1
        for at in range(0, len(todo), tenth):
            asyncio.run(_fire(client, seed, todo[at : at + tenth]))
            report.memory.append(node.memory())
    finally:
        other.enough.set()
        other.join()
    node.settle()
    node.session.signal(signal.SIGTERM)
    node.session.wait(143)  # a bug of its own would be 70
    if report.memory[-1] > report.memory[1] + GROWTH:
        report.wrong.append(f"memory (PSS, kB) has grown: {report.memory}")
    assert not report.wrong, "\n".join(report.wrong)
    return report


def show(report: Report) -> None:
    for wire in Wire:
        codes = sorted((code, n) for (each, code), n in report.answers.items() if each == wire)
        total, frames = sum(n for _, n in codes), report.frames[wire]
        print(
            f"{wire}: {total}{f' sessions, {frames} frames' if frames else ''}; answers: ", end=""
        )
        print(", ".join(f"{code or 'none'} {n}" for code, n in codes))
    print("doors: " + ", ".join(f"{door} {n}" for door, n in report.doors.items()))
    print("conversations:")
    for name, n in sorted(report.sessions.items()):
        print(f"  {name:<44}{n:>6}")
    delays = sorted(report.delays)
    p50, p99 = (delays[int(share * (len(delays) - 1))] * 1e3 for share in (0.5, 0.99))
    print(
        f"another client meanwhile: {len(delays)} answers, p50 {p50:.1f} ms, p99 {p99:.1f} ms,",
        end="",
    )
    print(f" slowest {delays[-1] * 1e3:.1f} ms")
    first, *tenths = report.memory
    print(f"PSS, kB: {first} at first, after each tenth: {', '.join(map(str, tenths))}")
    print("processes left: 0, descriptors left: 0")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.api", description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000, help="and as many frames per wire")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", default="", metavar="WIRE:NUMBER", help="one of that seed's")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    begin = time.monotonic()
    places = support.places(BEST)
    node = Durable(next(places))
    try:
        show(campaign(node, seed, options.requests, options.requests, options.only))
    except AssertionError as error:
        print(f"FAILED, seed {seed}:\n{error}")
        sys.exit(1)
    finally:
        node.kill_everything()
        next(places, None)
    print(f"{time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
