"""Nodes for tests of the runtime, and short words for what is done with them.

pytest is not among the imports: hundreds of tests start a process that supervises a node until it
is killed, and would wait for it each time.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import anyio
from msgspec import Struct

from supervisor.lifecycle.facts import ContainerId
from supervisor.runtime import launch
from supervisor.runtime.cri import (
    Exit,
    Isolation,
    LaunchSpec,
    LogDrop,
    Lost,
    Mount,
    Presence,
    SandboxGone,
)
from supervisor.runtime.launch import ProcessRuntime, connect_launcher, spawn_launcher

NOBODY = 65534


PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


PATIENCE = 60.0  # of a busy machine; what is waited for comes in far less


class Way(Struct, frozen=True):
    uid: int
    isolation: Isolation

    def __str__(self) -> str:
        return f"{'root' if self.uid == 0 else 'user'}-{self.isolation}"

    @property
    def namespaces(self) -> bool:
        return self.isolation is not Isolation.GROUP

    @property
    def changes_users(self) -> bool:
        return self.uid == 0 and self.isolation is not Isolation.PIDNS_ROOTLESS


def children(pid: int | str = "self") -> list[int]:
    pid = os.getpid() if pid == "self" else pid
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


def comm(pid: int) -> str:
    """What it calls itself; "" when it is gone."""
    with suppress(OSError), open(f"/proc/{pid}/comm") as file:
        return file.read().strip()
    return ""


def gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def marked(mark: str) -> list[int]:
    """Processes that carry the mark in their command line, zombies not among them."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    if mark.encode() in file.read():
                        found.append(int(name))
            except (FileNotFoundError, ProcessLookupError):
                pass
    return found


def reap_strays() -> list[int]:
    """Reap what has come to us, the sub-reaper, and ended; return who is still there."""
    for pid in children():
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            pass
    return children()


class Looks:
    """Looks at a condition until it holds. However much one costs, all together take a tenth of a
    processor at most, which belongs to those who are waited for."""

    def __init__(self, condition: Callable[[], Any], what: str, seconds: float) -> None:
        self.found: Any = None
        self._condition, self._what = condition, what
        self._deadline = time.monotonic() + seconds

    def pauses(self, least: float) -> Iterator[float]:
        """Seconds to wait before each next look, at least so many."""
        while True:
            begun = time.thread_time()
            self.found = self._condition()
            if self.found:
                return
            assert time.monotonic() < self._deadline, f"waited in vain for: {self._what}"
            yield max(least, 9 * (time.thread_time() - begun))


def wait_for(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """What the condition has found."""
    looks = Looks(condition, what, seconds)
    for pause in looks.pauses(0.005):
        time.sleep(pause)
    return looks.found


async def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """What the condition has found."""
    looks = Looks(condition, what, seconds)
    for pause in looks.pauses(0.005):
        await anyio.sleep(pause)
    return looks.found


def touch(path: str) -> None:
    with open(path, "w"):
        pass


def waits_for(path: str, then: str) -> tuple[str, ...]:
    """A main that waits for a file."""
    return ("/bin/sh", "-c", f"echo up; while [ ! -e {path} ]; do sleep 0.02; done; {then}")


class Outcome(Struct):
    exit: Exit
    out: str
    err: str
    message: str

    @property
    def code(self) -> int:
        return self.exit.exit_code


class Record(Struct):
    time: str
    stream: str
    tag: str
    content: bytes


def read_log(path: str) -> list[Record]:
    with open(path, "rb") as file:
        data = file.read()
    assert not data or data.endswith(b"\n"), "the last record is whole"
    records = []
    for line in data.split(b"\n")[:-1]:
        time, stream, tag, content = line.split(b" ", 3)
        records.append(Record(time.decode(), stream.decode(), tag.decode(), content))
    return records


def text_of(records: list[Record], stream: str) -> bytes:
    """What the stream carried, as far as records can tell (the very last newline may be ours)."""
    parts = [r.content + (b"\n" if r.tag == "F" else b"") for r in records if r.stream == stream]
    return b"".join(parts)


class Node:
    """A runtime, and short words for what tests do with it."""

    def __init__(self, runtime: ProcessRuntime, launcher_pid: int, folder: str) -> None:
        self.runtime, self.launcher_pid, self.folder = runtime, launcher_pid, folder
        self.exits: dict[ContainerId, Exit] = {}
        self.drops: list[LogDrop] = []
        self.gone: list[str] = []  # sandboxes
        self._count = 0
        self._news = runtime.news()

    def spec(
        self,
        *argv: str,
        env: dict[str, str] | None = None,
        cwd: str = "/",
        termination_path: str = "/dev/termination-log",
        uid: int | None = None,
        gid: int | None = None,
        groups: tuple[int, ...] | None = None,
        mounts: tuple[Mount, ...] = (),
        stdin: bool = False,
        stdin_once: bool = False,
        tty: bool = False,
        shares: bool = False,
        target: ContainerId | None = None,
        farewell: tuple[int, int] = (signal.SIGTERM, 30),
    ) -> LaunchSpec:
        self._count += 1
        id = ContainerId("uid", f"c{self._count}", 0)
        return LaunchSpec(
            id=id,
            argv=argv,
            env=tuple(({"PATH": PATH} | (env or {})).items()),
            cwd=cwd,
            log_path=f"{self.folder}/logs/ns_pod_uid/{id.name}/0.log",
            termination_path=termination_path,
            termination_file=f"{self.folder}/pods/uid/containers/{id.name}/0/termination",
            uid=uid,
            gid=gid,
            groups=groups,
            mounts=mounts,
            stdin=stdin,
            stdin_once=stdin_once,
            tty=tty,
            shares=shares,
            target=target,
            farewell=farewell,
        )

    async def start(self, spec: LaunchSpec) -> int:
        with anyio.fail_after(PATIENCE):
            pid, _ = await self.runtime.start(spec)
        return pid

    async def exit(self, spec: LaunchSpec) -> Exit:
        with anyio.fail_after(PATIENCE):
            while spec.id not in self.exits:
                news = await anext(self._news)
                if isinstance(news, LogDrop):
                    self.drops.append(news)
                elif isinstance(news, SandboxGone):
                    self.gone.append(news.pod_uid)
                else:
                    self.exits[news.id] = news
        return self.exits[spec.id]

    async def finish(self, spec: LaunchSpec) -> Outcome:
        exit = await self.exit(spec)
        message = self.runtime.termination_message(spec, "File", exit.exit_code)
        self.runtime.acknowledge(spec.id)
        records = read_log(spec.log_path)
        out, err = (text_of(records, name).decode() for name in ("stdout", "stderr"))
        return Outcome(exit, out, err, message)

    async def run(self, *argv: str, **options: object) -> Outcome:
        spec = self.spec(*argv, **options)  # type: ignore[arg-type]
        await self.start(spec)
        return await self.finish(spec)

    async def shell(self, script: str, **options: object) -> Outcome:
        return await self.run("/bin/sh", "-c", script, **options)

    def helper(self, name: str) -> int | None:
        """The pid of the launcher's logger, or of a reaper; None when there is none just now."""
        for pid in children(self.launcher_pid):
            try:
                with open(f"/proc/{pid}/comm") as file:
                    if file.read().strip() == name:
                        return pid
            except (FileNotFoundError, ProcessLookupError):
                pass
        return None

    async def logger(self) -> int:
        """Its pid, from when it has come so far that it calls itself one."""
        await until(lambda: self.helper("podvisor-logger"), "the logger")
        pid = self.helper("podvisor-logger")
        assert pid is not None
        return pid

    def kill_logger(self, signum: int = signal.SIGKILL) -> bool:
        pid = self.helper("podvisor-logger")
        if pid is None:
            return False
        try:
            os.kill(pid, signum)
        except ProcessLookupError:  # one that was killed before has just been reaped
            return False
        return True

    async def logged(self, spec: LaunchSpec, text: bytes) -> None:
        """Wait until the container has printed that."""

        def there() -> bool:
            with open(spec.log_path, "rb") as file:
                return text in file.read()

        await until(there, f"{text!r} in the log")


@asynccontextmanager
async def open_node(
    way: Way,
    folder: str,
    attached: Callable[[ContainerId], Sequence[int]] = lambda _: (),
    **options: int,
) -> AsyncIterator[Node]:
    launcher = spawn_launcher(way.isolation.value, **options)
    pid = launcher.pid
    async with ProcessRuntime(launcher, folder, attached) as runtime:
        assert runtime.isolation is way.isolation
        yield Node(runtime, pid, folder)
    launcher.close()


@asynccontextmanager
async def durable_node(way: Way, folder: str, **options: int) -> AsyncIterator[Node]:
    """A supervisor of the durable node there."""
    launcher = connect_launcher(folder)
    if launcher is None:
        launcher = spawn_launcher(way.isolation.value, durable_in=folder, **options)
    async with ProcessRuntime(launcher, folder) as runtime:
        assert runtime.isolation is way.isolation
        yield Node(runtime, launcher.pid, folder)


async def adopt(node: Node, spec: LaunchSpec, state: Presence = Presence.RUNNING) -> int:
    with anyio.fail_after(PATIENCE):
        found = await node.runtime.adopt(spec)
    assert found.state is state, found
    return found.pid


async def ended(node: Node, spec: LaunchSpec) -> Exit | Lost:
    """Its end, with whoever it has become a child of reaping it."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep_reaping)
        end = await node.exit(spec)
        tasks.cancel_scope.cancel()
    node.runtime.acknowledge(spec.id)
    return end


async def keep_reaping() -> None:
    while True:
        reap_strays()
        await anyio.sleep(0.01)


def logger_of(launcher: int) -> int:
    return next((pid for pid in children(launcher) if comm(pid) == "podvisor-logger"), 0)


def kill(pid: int) -> None:
    """Kill what may not be our child, and wait until it is dead."""
    pidfd = os.pidfd_open(pid)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert launch._readable(pidfd, PATIENCE)
    os.close(pidfd)
    reap_strays()


ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


SUPERVISOR = """
import anyio, json, os, sys
sys.path.insert(0, {root!r})
from supervisor.runtime.cri import Isolation
from tests.runtime import nodes
globals().update(vars(nodes))
async def main():
    async with durable_node(Way({uid}, Isolation({mode!r})), {folder!r}) as node:
        said = {{"launcher": node.launcher_pid}}
{body}
        print(json.dumps(said), flush=True)
        await anyio.sleep(1000)
anyio.run(main)
"""


class Supervisor:
    """Another process that supervises the node. `body` is run there; what it puts into `said` is
    told when it is through."""

    def __init__(self, way: Way, folder: str, body: str, failpoints: str = "") -> None:
        code = SUPERVISOR.format(
            root=ROOT,
            uid=way.uid,
            mode=way.isolation.value,
            folder=folder,
            body=textwrap.indent(textwrap.dedent(body), " " * 8),
        )
        env = os.environ | ({"PODVISOR_FAILPOINTS": failpoints} if failpoints else {})
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env
        )
        self.pid = self.process.pid

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        said: dict[str, Any] = json.loads(self.process.stdout.readline())
        return said

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def supervisor(way: Way, folder: str, body: str, failpoints: str = "") -> Iterator[Supervisor]:
    other = Supervisor(way, folder, body, failpoints)
    try:
        yield other
    finally:
        other.kill()


def supervised(way: Way, folder: str, body: str) -> dict[str, Any]:
    """What a supervisor said that has been killed since."""
    with supervisor(way, folder, body) as other:
        return other.hear()
