"""The shell on a fake runtime and a clock that jumps: exact times, no processes, no files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from msgspec import Struct
from trio.testing import MockClock

from supervisor.api import v1
from supervisor.errors import NodeError
from supervisor.kubelet.clock import Clock
from supervisor.kubelet.hooks import RunHook
from supervisor.kubelet.node import Node, SpecMaker
from supervisor.kubelet.prober import RunProbe
from supervisor.kubelet.volumes import VolumeManager
from supervisor.kubelet.worker import PodWorker
from supervisor.lifecycle.facts import ContainerId, Instant
from supervisor.lifecycle.record import NodePolicy, PodRecord
from supervisor.runtime.cri import (
    AttachSession,
    ContainerGoneError,
    ExecError,
    ExecInterruptedError,
    ExecResult,
    ExecSession,
    Exit,
    Found,
    Isolation,
    LaunchSpec,
    LogDrop,
    Lost,
    News,
    Presence,
    StartError,
)
from supervisor.runtime.env_files import EnvFiles
from supervisor.store.contract import Store

START = 1_700_000_000.0


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


class Program(Struct, frozen=True):
    """What a fake main does: how long it runs, how it ends, what it does with SIGTERM."""

    runs: float | None = None  # seconds; None: until it is told to end
    code: int = 0
    term: float | None = 0.0  # seconds from SIGTERM to its end; None: deaf
    term_code: int = 0
    fails: StartError | None = None
    start_takes: float = 0.0
    message: str = ""


# What a program run in a container gives: an exit code, and how long it takes; None: it cannot be
# started. Asked with the seconds since the container started.
Answer = Callable[[float], tuple[int, float] | int | None]


class FakeRuntime:
    """Fulfils cri.Runtime with timers. `programs` maps container names to what they do, and
    `execs` the first word of a command run in a container."""

    isolation = Isolation.PIDNS

    def __init__(self, clock: Clock, programs: dict[str, Program | list[Program]]) -> None:
        self.clock = clock
        self.programs = programs
        self.log: list[tuple[float, str, str]] = []  # (seconds, what, container)
        self.unacknowledged: set[ContainerId] = set()
        self.running: dict[ContainerId, tuple[Program, float]] = {}
        self.targets: dict[str, ContainerId | None] = {}  # by container, of its newest instance
        self.execs: dict[str, Answer] = {}
        self.executing: list[tuple[str, str]] = []  # (container, first word)
        self.found: dict[ContainerId, Found] = {}  # what an earlier supervisor has left
        self.strays: set[ContainerId] = set()
        self.exec_env: list[dict[str, str]] = []  # of each program that was run under a key
        self.exec_lag = 0.0  # seconds from a container's end to the answers of its programs
        self.broken_execs: list[Exception] = []  # what the next programs get for an answer
        self.forgotten: list[tuple[float, str]] = []  # (seconds, key)
        self.kept_execs: frozenset[tuple[ContainerId, str]] = frozenset()
        self.ended_execs: frozenset[tuple[ContainerId, str]] = frozenset()
        self.results: dict[tuple[ContainerId, str], ExecResult] = {}  # until they are forgotten
        self.there_at: dict[tuple[ContainerId, str], float] = {}  # boot time of some of them
        self._gone: dict[ContainerId, anyio.Event] = {}  # whose programs are running
        self.sandboxes: set[str] = set()
        self.broken_sandbox: OSError | None = None
        self.undrained = False
        self._tasks: TaskGroup
        self._send: MemoryObjectSendStream[News | NodeError]
        self._receive: MemoryObjectReceiveStream[News | NodeError]
        self._send, self._receive = anyio.create_memory_object_stream(1000)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[FakeRuntime]:
        async with anyio.create_task_group() as self._tasks:
            yield self
            self._tasks.cancel_scope.cancel()
        self._send.close()
        self._receive.close()

    def note(self, what: str, name: str) -> None:
        self.log.append((round(self.clock.now().boot, 3), what, name))

    def times(self, what: str, name: str) -> list[float]:
        return [at for at, did, who in self.log if (did, who) == (what, name)]

    async def create_sandbox(self, pod_uid: str, *, shares: bool = False) -> None:
        if self.broken_sandbox is not None:
            raise self.broken_sandbox
        self.sandboxes.add(pod_uid)

    async def adopt_sandbox(self, pod_uid: str) -> bool:
        return pod_uid in self.sandboxes

    async def remove_sandbox(self, pod_uid: str) -> None:
        self.sandboxes.discard(pod_uid)

    async def remove_pod(self, namespace: str, name: str, uid: str) -> None:
        self.note("remove", name)

    async def remove_other_pods(self, known: frozenset[tuple[str, str, str]]) -> None:
        self.note("remove all but", ", ".join(sorted(name for _, name, _ in known)))

    async def start(self, spec: LaunchSpec) -> tuple[int, Instant]:
        program = self.programs[spec.id.name]
        if isinstance(program, list):
            program = program[min(spec.id.attempt, len(program) - 1)]
        if program.start_takes:
            await self.clock.sleep(program.start_takes)
        if program.fails is not None:
            self.note("failed", spec.id.name)
            raise program.fails
        assert not any(id.name == spec.id.name for id in self.running), "two live attempts"
        self.running[spec.id] = (program, self.clock.now().boot)
        self.targets[spec.id.name] = spec.target
        self.note("start", spec.id.name)
        if program.runs is not None:
            self._tasks.start_soon(self._end_later, spec.id, program.runs, program.code)
        return 1000 + len(self.log), self.clock.now()

    def take_over(self, found: dict[ContainerId, Found]) -> None:
        """What an earlier supervisor has started runs here."""
        self.found = found
        for id, what in found.items():
            if what.state is Presence.RUNNING:
                programs = self.programs[id.name]
                last = programs[-1] if isinstance(programs, list) else programs
                self.running[id] = (last, self.clock.now().boot)

    async def adopt(self, spec: LaunchSpec) -> Found:
        self.note("adopt", spec.id.name)
        return self.found.get(spec.id, Found(Presence.UNKNOWN))

    async def end_strays(self, known: frozenset[ContainerId]) -> int:
        ended = self.strays - known
        self.strays -= ended
        for id in ended:
            self.note("stray", id.name)
        return len(ended)

    async def exec(
        self,
        id: ContainerId,
        argv: tuple[str, ...],
        *,
        timeout: float | None,
        limit: int,
        env: tuple[tuple[str, str], ...] = (),
        key: str = "",
        resume: bool = False,
    ) -> ExecResult:
        if key and (id, key) in self.results:
            await self.clock.wait(anyio.Event(), self.there_at.get((id, key), 0.0))
            return self.results[id, key]
        if resume:
            raise ExecInterruptedError("its launcher has died")
        if self.broken_execs:
            raise self.broken_execs.pop()
        if key:
            self.exec_env.append(dict(env))
        result = await self._exec(id, argv, timeout, limit)
        if key:
            self.results[id, key] = result
        return result

    async def open_exec(
        self,
        id: ContainerId,
        argv: tuple[str, ...],
        *,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        tty: bool,
    ) -> ExecSession:
        raise ExecError("no core asks for streams")

    async def open_attach(self, id: ContainerId) -> AttachSession:
        raise ContainerGoneError("no core asks for streams")

    def forget_exec(self, id: ContainerId, key: str) -> None:
        self.forgotten.append((round(self.clock.now().boot, 3), key))
        self.results.pop((id, key), None)

    async def _exec(
        self, id: ContainerId, argv: tuple[str, ...], timeout: float | None, limit: int
    ) -> ExecResult:
        self.note(f"exec {argv[0]}", id.name)
        running = (id.name, argv[0])
        assert running not in self.executing, "two at once"
        if id not in self.running:
            raise ExecError("container not running")
        answer = self.execs[argv[0]](self.clock.now().boot - self.running[id][1])
        if answer is None:
            raise ExecError(f'exec: "{argv[0]}": executable file not found in $PATH')
        code, takes = answer if isinstance(answer, tuple) else (answer, 0.0)
        self.executing.append(running)
        gone = self._gone.setdefault(id, anyio.Event())
        try:
            if timeout is not None and takes > timeout:
                await self.clock.sleep(timeout)
                return ExecResult(None, b"")
            if takes and await self.clock.wait(gone, self.clock.now().boot + takes):
                await self.clock.sleep(self.exec_lag)
                return ExecResult(137, b"")
        finally:
            self.executing.remove(running)
        return ExecResult(code, f"says {code}".encode()[:limit])

    def signal(self, id: ContainerId, signum: int) -> bool:
        if id not in self.running:
            return False
        program, _ = self.running[id]
        self.note({15: "TERM", 9: "KILL"}.get(signum, str(signum)), id.name)
        if signum == 9:
            self._end(id, 137)
        elif program.term is not None:
            self._tasks.start_soon(self._end_later, id, program.term, program.term_code)
        return True

    def termination_message(self, spec: LaunchSpec, policy: str, exit_code: int) -> str:
        program = self.programs[spec.id.name]
        if isinstance(program, list):
            program = program[min(spec.id.attempt, len(program) - 1)]
        return program.message

    def acknowledge(self, id: ContainerId) -> None:
        self.unacknowledged.discard(id)

    async def news(self) -> AsyncIterator[News]:
        async for item in self._receive:
            if isinstance(item, NodeError):
                raise item
            yield item

    def lose(self, id: ContainerId) -> None:
        """It ends, and nobody knows how."""
        del self.running[id]
        self.unacknowledged.add(id)
        self._send.send_nowait(Lost(id=id, at=self.clock.now()))

    def end(self, id: ContainerId, code: int) -> None:
        """It ends."""
        self._end(id, code)

    def drop_logs(self, id: ContainerId) -> None:
        self._send.send_nowait(LogDrop(id=id, at=self.clock.now(), error="disk full"))

    def break_down(self) -> None:
        self._send.send_nowait(NodeError("the launcher ended unexpectedly"))

    async def _end_later(self, id: ContainerId, seconds: float, code: int) -> None:
        await self.clock.sleep(seconds)
        self._end(id, code)

    def _end(self, id: ContainerId, code: int) -> None:
        if self.running.pop(id, None) is None:
            return
        self.note(f"exit {code}", id.name)
        self._gone.setdefault(id, anyio.Event()).set()
        self.unacknowledged.add(id)
        self._send.send_nowait(
            Exit(id=id, at=self.clock.now(), exit_code=code, drained=not self.undrained)
        )


def make_spec(
    pod: v1.Pod,
    container: v1.Container,
    id: ContainerId,
    files: EnvFiles | None = None,
    *,
    runs: bool = False,
) -> LaunchSpec:
    return LaunchSpec(
        id=id,
        argv=container.command,
        env=(),
        cwd="/",
        log_path="/nowhere/log",
        termination_path="/dev/termination-log",
        termination_file="/nowhere/message",
        stop_signal="SIGQUIT" if container.image == "quits" else "",
    )


class Watcher:
    """An observer that keeps every published status and event."""

    def __init__(self) -> None:
        self.statuses: list[v1.PodStatus] = []
        self.recorded: list[v1.Event] = []

    def pod_changed(self, worker: PodWorker, before: PodRecord) -> None:
        if worker.status != before.status:
            self.statuses.append(worker.status)

    def event(self, event: v1.Event) -> None:
        self.recorded.append(event)


class World:
    """A node on a fake runtime, and what was seen of it."""

    def __init__(self, node: Node, runtime: FakeRuntime, watcher: Watcher) -> None:
        self.node = node
        self.runtime = runtime
        self.seen = watcher
        self.clock = node.clock


@pytest.fixture
def fake_clock() -> Iterator[Clock]:
    import trio

    def read() -> Instant:
        now = trio.current_time()
        return Instant(wall=START + now, boot=now)

    return Clock(read)


@asynccontextmanager
async def world(
    clock: Clock,
    programs: dict[str, Program | list[Program]],
    *,
    run_probe: RunProbe | None = None,
    run_hook: RunHook | None = None,
    store: Store | None = None,
    found: dict[ContainerId, Found] | None = None,
    boot_id: str = "",
    make_spec: SpecMaker = make_spec,
    volumes: VolumeManager | None = None,
    **policy: float,
) -> AsyncIterator[World]:
    """`store` and `found`: what an earlier life of the node has left."""
    watcher = Watcher()
    async with FakeRuntime(clock, programs).open() as runtime:
        runtime.take_over(found or {})
        node = Node(
            runtime,
            make_spec,
            policy=NodePolicy(node_name="here", **policy),
            clock=clock,
            observer=watcher,
            run_probe=run_probe,
            run_hook=run_hook,
            store=store,
            boot_id=boot_id,
            volumes=volumes,
        )
        async with node:
            yield World(node, runtime, watcher)
        assert not node.bugs, node.bugs
    assert not runtime.unacknowledged
