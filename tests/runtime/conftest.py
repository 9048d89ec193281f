"""Real containers in every way this machine offers, and the proof that each test leaves nothing.

A *way* is a user and a mode of isolation. As root, the tests run as root and as an unprivileged
uid: the test process changes its own ids (the saved one stays root's) and the launcher that it
spawns is then that user's, with no way back.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import anyio
import pytest
from msgspec import Struct

from supervisor import runtime
from supervisor.lifecycle.facts import ContainerId
from supervisor.runtime import launch
from supervisor.runtime.cri import Exit, Isolation, LaunchSpec, LogDrop, Mount, SandboxGone
from supervisor.runtime.launch import ProcessRuntime, Trial, diagnose, spawn_launcher

NOBODY = 65534
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PATIENCE = 45.0  # of a busy machine; what is waited for comes in far less


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


_root = os.getuid() == 0
_ways = [Way(0, mode) for mode in Isolation] if _root else []
_ways += [
    Way(NOBODY if _root else os.getuid(), mode)
    for mode in (Isolation.PIDNS_ROOTLESS, Isolation.GROUP)
]
_trials: dict[int, dict[Isolation, Trial]] = {}


@contextmanager
def readable_by(uid: int) -> Iterator[None]:
    """Start Pythons that find what they need as this user, also where only root reads the checkout.

    Root's own home is such a place.
    """
    from tests.support import CannotRunError, command  # which imports this module

    try:
        found = command(uid)
    except CannotRunError as error:
        pytest.skip(f"this machine cannot: {error}")
    with pytest.MonkeyPatch.context() as patch:
        if copy := dict(found.env).get("PYTHONPATH"):
            patch.setattr(sys, "executable", found.argv[0])
            patch.setattr(launch, "_PROGRAM", f"{copy}/supervisor/runtime/launcher.py")
            patch.setenv("PYTHONPATH", copy)
            patch.chdir(copy)  # as that user nobody comes back to where the checkout is
            # What we import ourselves only when it is needed, as that user.
            patch.setattr(runtime, "__path__", [f"{copy}/supervisor/runtime"])
        yield


@contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """Be another user, as far as everything that we start is concerned."""
    if uid == os.geteuid():
        yield
        return
    with readable_by(uid):
        groups = os.getgroups()
        os.setgroups([])
        os.setresgid(uid, uid, 0)
        os.setresuid(uid, uid, 0)
        try:
            yield
        finally:
            os.setresuid(0, 0, 0)
            os.setresgid(0, 0, 0)
            os.setgroups(groups)


@pytest.fixture(params=_ways, ids=str)
def way(request: pytest.FixtureRequest, nothing_left: None) -> Iterator[Way]:
    way: Way = request.param
    with acting_as(way.uid):
        if way.uid not in _trials:
            _trials[way.uid] = {trial.isolation: trial for trial in diagnose()}
        trial = _trials[way.uid][way.isolation]
        if not trial.ok:
            pytest.skip(f"this machine cannot: {trial}")
        yield way


@pytest.fixture
def namespaces(way: Way) -> Way:
    if not way.namespaces:
        pytest.skip("needs namespaces of its own")
    return way


@pytest.fixture
def folder(way: Way) -> Iterator[str]:
    path = tempfile.mkdtemp(prefix="podvisor-test-")
    yield path
    for _ in range(100):  # an orphaned logger may still write its last word
        shutil.rmtree(path, ignore_errors=True)
        if not os.path.exists(path):
            return
        time.sleep(0.05)
    shutil.rmtree(path)


def children(pid: int | str = "self") -> list[int]:
    pid = os.getpid() if pid == "self" else pid
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


def wait_for(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for: {what}"
        time.sleep(0.005)


async def until(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for: {what}"
        await anyio.sleep(0.005)


def reap_strays() -> list[int]:
    """Reap what has come to us, the sub-reaper, and ended; return who is still there."""
    for pid in children():
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            pass
    return children()


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return "asyncio", {"use_uvloop": getattr(request, "param", "asyncio") == "uvloop"}


on_both_loops = pytest.mark.parametrize("anyio_backend", ["asyncio", "uvloop"], indirect=True)


@pytest.fixture(scope="session")
def _warm_loops() -> None:
    """libuv keeps a pipe of its own for the life of the process, from its first loop on."""
    anyio.run(anyio.sleep, 0, backend_options={"use_uvloop": True})


@pytest.fixture
def nothing_left(_warm_loops: None) -> Iterator[None]:
    """Every process is gone and every descriptor closed when the test is over."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans come to us
    before = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in _fds()}
    others = set(children())
    yield
    wait_for(lambda: not set(reap_strays()) - others, "the end of all processes")
    left = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in _fds() if fd not in before}
    assert not left


def _fds() -> list[str]:
    with os.scandir("/proc/self/fd") as entries:
        return [entry.name for entry in entries if not os.readlink(entry.path).startswith("/proc/")]


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


def in_launchers(patch: pytest.MonkeyPatch, code: str) -> None:
    """Run this in each launcher before its main; its module is `launcher` there."""
    begin, call, end = launch._BOOT.rpartition("launcher.main")
    patch.setattr(launch, "_BOOT", f"{begin}exec({code!r}); {call}{end}")


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
