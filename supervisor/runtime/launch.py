"""The supervisor's side of the launcher: starts it, talks to it, notices its death.

Two steps, because they happen at different times:

    launcher = spawn_launcher("auto")                      # at once: 1 ms, nothing heavy imported
    ...                                                    # read manifests, import the event loop
    async with ProcessRuntime(launcher, state_dir) as runtime:   # cri.Runtime
        ...
    launcher.close()                                       # harmless when it is closed already

The launcher needs 10 ms to start and to try what the machine allows. `podvisor run` spawns it
first of all, so that it is ready when the manifests are read; that is why anyio is imported by
the methods that need it, not by this module.

Leaving the context kills every container, waits for the launcher's end, which comes after
theirs, and leaves no descriptor behind. If the launcher dies under us, its containers die with it
(the kernel's parent-death signal, and we kill what that misses) and `news()` raises NodeError.

In a durable node the launcher outlives us:

    launcher = connect_launcher(state_dir) or spawn_launcher("auto", durable_in=state_dir)

Leaving the context then only hangs up. What the launcher holds is listed when we come, and waits
for `adopt`; what it does not hold is looked for by spawn records (survivors.py) and handed to it.
If the launcher dies under us, containers live on, and a new one takes them over.

Signals go straight to the main process through a pidfd, never through the launcher, and can
therefore hit nobody else.
"""

from __future__ import annotations

import _socket
import array
import errno
import fcntl
import marshal
import os
import re
import resource
import select
import shutil
import signal as signals
import stat
import sys
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

from msgspec import Struct
from msgspec.structs import replace

from supervisor.errors import NodeError, UsageError
from supervisor.lifecycle import reasons
from supervisor.lifecycle.facts import ContainerId, Instant
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
    SandboxGone,
    StartError,
    veil,
)

if TYPE_CHECKING:
    from anyio import CancelScope, Event
    from anyio.abc import TaskGroup

    from supervisor.runtime.survivors import Spawned

_PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "launcher.py")
# Imported, not run as a script: only imports are cached as byte code, and compiling that file
# takes longer than all else the launcher does at its start.
_BOOT = "import sys; sys.path.append(sys.argv.pop(1)); import launcher; launcher.main(sys.argv[1:])"
_PROTOCOL = 6
_SOCKET = "launcher.sock"
_INLINE = 32768  # larger requests travel in a memfd: a packet must fit the socket's buffer
_READY_TIMEOUT = 10.0
_STOP_TIMEOUT = 6.0  # a minder itself gives programs that it may not kill 5
_KILLED = 128 + signals.SIGKILL
# The launcher itself gives stubborn containers 2.
_CLOSE_TIMEOUT, _KILL_TIMEOUT = 3.0, 0.5
_REPLACEMENTS, _REPLACED_WITHIN = 5, 10.0  # more launchers than that in so many seconds: give up
_LETTING_GO = 0.1  # seconds that the end of a launcher's socket may come before its own
# Seconds a logger that was just forked may take to make itself known; longer than that on no busy
# machine, for containers that nobody reads from are ended.
_LOGGER_PATIENCE = 2.0
_NO_ROOM = 0.05  # seconds until a send is tried again that the socket cannot say when to
_DESCRIPTORS = 65536  # more than all containers need; what inherits a huge limit may loop over it
_FAILPOINTS = ("PODVISOR_FAILPOINTS", "PODVISOR_FAILPOINTS_LOG")
LOG_MAX_SIZE = 10 << 20
LOG_MAX_FILES = 5


class Trial(Struct, frozen=True):
    """What came of trying one mode of isolation on this machine."""

    isolation: Isolation
    step: str = ""  # the step that failed; empty: the mode works
    errno: int = 0

    @property
    def ok(self) -> bool:
        return not self.step

    def __str__(self) -> str:
        if self.ok:
            return f"{self.isolation}: ok"
        return f"{self.isolation}: cannot {self.step}: {os.strerror(self.errno)}"


def diagnose() -> tuple[Trial, ...]:
    """Try every mode of isolation, for `podvisor doctor`. Changes nothing, takes some 20 ms."""
    import subprocess

    try:
        done = subprocess.run(
            _command("doctor"), capture_output=True, text=True, env=_environment(), check=False
        )
    except OSError as error:
        raise NodeError(f"cannot run the launcher: {error.strerror}") from error
    if done.returncode:
        raise NodeError(f"cannot run the launcher: {done.stderr.strip()[-2000:]}")
    trials = []
    for line in done.stdout.splitlines():
        isolation, number, step = line.split("\t")
        trials.append(Trial(Isolation(isolation), step, int(number)))
    return tuple(trials)


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", _BOOT, os.path.dirname(_PROGRAM), *arguments]


def _environment() -> dict[str, str]:
    # TZ: log records carry local time. LD_LIBRARY_PATH: Pythons built with a shared library.
    keep = ("TZ", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in keep if name in os.environ}


class Launcher:
    """A launcher process and our ends of what connects us.

    Made by `spawn_launcher`, and in a durable node also by `connect_launcher`.
    """

    def __init__(
        self,
        pid: int,
        channel: int,
        logs_fd: int,
        panic_fd: int,
        *,
        durable_in: str | None = None,
        pidfd: int = -1,
        greeting: tuple[Any, ...] | None = None,
    ) -> None:
        self.pid = pid
        # Our child is not reaped: the pid is surely its own.
        self.pidfd = os.pidfd_open(pid) if pidfd < 0 else pidfd
        self.durable_in = durable_in
        self.greeting = greeting
        self.rotation = (LOG_MAX_SIZE, LOG_MAX_FILES)
        self.channel = _socket.socket(
            _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC, 0, channel
        )
        self.channel.setblocking(False)
        self.logs_fd = logs_fd  # eventfd, counts up when log files have grown
        self._panic_fd = panic_fd
        self._words: str | None = None  # what it said at its end
        self.closed = False
        self.forgotten = False
        _launchers.add(self)

    def hang_up(self) -> None:
        """Tell the launcher to kill everything and end. Does not wait."""
        try:
            self.channel.send(marshal.dumps(("end", None), 2))
        except OSError:  # it is gone already, or does not listen; then it is killed
            pass
        if self.durable_in is None:
            try:
                self.channel.shutdown(_socket.SHUT_RDWR)
            except OSError:
                pass
        self._signal(signals.SIGCONT)  # a stopped one would not hear of it

    def close(self) -> None:
        """End the launcher, and wait until it and every container are gone."""
        if self.closed:
            return
        self.hang_up()
        if not _readable(self.pidfd, _CLOSE_TIMEOUT):
            self.kill()
            _readable(self.pidfd, _KILL_TIMEOUT)
        self.free()

    def leave(self) -> None:
        """Durable: have the launcher go on without us."""
        try:
            self.channel.shutdown(_socket.SHUT_RDWR)  # a forked child of ours may hold a copy
        except OSError:
            pass
        self.free()

    def kill(self) -> None:
        """Kill a launcher that does not end, and whatever is below it."""
        # Stopped, so that it reaps nobody meanwhile; what reapers leave behind comes to it.
        self._signal(signals.SIGSTOP)
        deadline = time.monotonic() + _KILL_TIMEOUT
        while _kill_below(self.pid) and time.monotonic() < deadline:
            time.sleep(0.005)
        self._signal(signals.SIGKILL)

    def _signal(self, signum: int) -> None:
        try:
            signals.pidfd_send_signal(self.pidfd, signum)
        except OSError:
            pass

    def reap(self) -> str:
        """Collect the exit status of a launcher that has ended; return what it said at its end.

        Its descriptors stay: others still wait for them, and a number that is closed under a
        waiting event loop is an error there, or soon another file.
        """
        if self._words is None:
            self._words = ""
            try:
                # Not waited for: what cannot even be killed shall not hold us.
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                code = os.waitstatus_to_exitcode(status) if pid else 0
                if code:
                    self._words = f"exit code {code}" if code > 0 else signals.Signals(-code).name
            except ChildProcessError:  # not our child, or somebody's waitpid(-1) was faster
                pass
            panic = os.pread(self._panic_fd, 65536, 0).decode(errors="replace").strip()
            self._words = f"{self._words}\n{panic[-2000:]}".strip()
        return self._words

    def free(self) -> None:
        """Leave nothing of a launcher that has ended. Nobody waits for its descriptors now."""
        if not self.closed:
            self.closed = True
            self.reap()
            self._close_fds()
            _lower_descriptor_limit()

    def _close_fds(self) -> None:
        self.channel.close()
        _close(self.pidfd, self.logs_fd, self._panic_fd)

    def forget(self) -> None:
        """In a forked child of this process: it is not our launcher."""
        if not self.closed:
            self.closed = self.forgotten = True
            self._close_fds()


_launchers: weakref.WeakSet[Launcher] = weakref.WeakSet()


def _forget_all() -> None:
    for launcher in list(_launchers):
        launcher.forget()


# multiprocessing forks by default before Python 3.14; its workers shall not hold our descriptors.
os.register_at_fork(after_in_child=_forget_all)


def _kill_below(root: int) -> bool:
    """Kill the descendants of a process; False when none of them lives."""
    from supervisor.runtime.launcher import descendants

    handles: dict[int, int] = {}
    for pid in descendants(root):
        try:
            handles[pid] = os.pidfd_open(pid)
        except OSError:  # it ended, or we are out of descriptors
            pass
    still = descendants(root)  # by now these pids cannot come to mean somebody else
    alive = False
    for pid, handle in handles.items():
        if pid in still and not _readable(handle):
            alive = True
            try:
                signals.pidfd_send_signal(handle, signals.SIGKILL)
            except OSError:
                pass
        os.close(handle)
    return alive


class _Raised:
    """The soft limit of open files while there are launchers: one is needed per container."""

    launchers = 0
    original = 0
    now = 0


def _raise_descriptor_limit() -> int:
    """Make room for many containers. Returns the soft limit that they are to get."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if not _Raised.launchers or soft != _Raised.now:  # else it is our own doing
        wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
        _Raised.original = soft
        if soft != resource.RLIM_INFINITY and soft < wanted:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            except (OSError, ValueError):  # above fs.nr_open
                pass
        _Raised.now = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    _Raised.launchers += 1
    return _Raised.original


def _lower_descriptor_limit() -> None:
    _Raised.launchers -= 1
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if not _Raised.launchers and soft == _Raised.now:  # else somebody else has set it since
        resource.setrlimit(resource.RLIMIT_NOFILE, (_Raised.original, hard))


def spawn_launcher(
    isolation: str = "auto",
    *,
    durable_in: str | None = None,
    log_max_size: int = LOG_MAX_SIZE,
    log_max_files: int = LOG_MAX_FILES,
) -> Launcher:
    """Start a launcher for this process. Cheap, synchronous, needs no event loop.

    It ends with this process, however that ends. `log_max_size` below 1: no rotation.
    While there is a launcher, this process may open as many files as its hard limit allows;
    containers get the limit of before. Raises UsageError where there is no Linux, NodeError where
    no process can be started.

    `durable_in` makes it the launcher of a durable node, whose state directory that is: it
    outlives this process for as long as it holds anything. Containers that a killed launcher has
    left there decide about the isolation.
    """
    if sys.platform != "linux":
        raise UsageError("cannot start processes on this platform: podvisor needs Linux")
    rotation = (log_max_size, log_max_files)
    members: list[int] = []
    if durable_in is not None:
        from supervisor.runtime import survivors

        mode, members = survivors.find_mode(durable_in)
        if isolation == "auto" and mode is not None:
            isolation = mode.value
    try:
        return _spawn(isolation, durable_in, rotation, members)
    finally:
        _close(*members)


def _spawn(
    isolation: str,
    durable_in: str | None,
    rotation: tuple[int, int],
    members: Sequence[int] = (),
    logs_fd: int = -1,
) -> Launcher:
    """`members`: pidfds of containers that it is to take on. `logs_fd`: of the launcher before."""
    pid = ours = theirs = panic = me = listener = -1
    logs = logs_fd
    high: list[int] = []
    soft_limit = _raise_descriptor_limit()
    environment = _environment()
    if logs_fd < 0:  # else every launcher would end as the first did
        environment |= {name: os.environ[name] for name in _FAILPOINTS if name in os.environ}
    try:
        pair = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
        ours, theirs = (end.detach() for end in pair)
        if logs < 0:
            logs = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        panic = os.memfd_create("podvisor-launcher-stderr", os.MFD_CLOEXEC)
        # The socket does not end while a forked child of ours holds a copy; this does.
        me = os.pidfd_open(os.getpid())
        given = [panic, theirs, me, logs]
        command = _command(isolation, *map(str, rotation), str(soft_limit))
        if durable_in is not None:
            listener = _listen(durable_in)
            given += [listener, *members]
            command += [os.path.abspath(durable_in), str(2 + len(given))]
        # Moved up first: none of them may lie where another is going to.
        # By extend: those that there were are closed below, also when there is not one for all.
        high.extend(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in given)
        actions: list[tuple[Any, ...]] = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
            *((os.POSIX_SPAWN_DUP2, fd, place) for place, fd in enumerate(high, 2)),
        ]
        pid = os.posix_spawn(
            command[0],
            command,
            environment,
            file_actions=actions,
            setsid=True,  # the terminal's Ctrl-C reaches only us
            # A Ctrl-C from before it left our group waits in it. It drops that, then unblocks.
            setsigmask=signals.valid_signals(),
        )
        launcher = Launcher(pid, ours, logs, panic, durable_in=durable_in)
        launcher.rotation = rotation
    except BaseException as error:
        for fd in (ours, logs if logs_fd < 0 else -1, panic):
            _close(fd)
        _lower_descriptor_limit()
        if pid > 0:  # it ends at once: nobody is there to talk to
            os.waitpid(pid, 0)
        if isinstance(error, OSError):
            raise NodeError(f"cannot start the launcher: {error.strerror}") from error
        raise
    finally:
        for fd in (theirs, me, listener, *high):
            _close(fd)
    return launcher


def connect_launcher(state_dir: str) -> Launcher | None:
    """Reach the launcher of a durable node; None when there is none. Needs no event loop.

    Raises NodeError when it belongs to another supervisor, or does not answer.
    """
    for home in _homes(state_dir):
        channel = _dial(home)
        if channel is None:
            continue
        if not _readable(channel.fileno(), _READY_TIMEOUT):
            channel.close()
            raise NodeError(
                f"cannot reach the launcher in {state_dir}: no answer in "
                f"{_READY_TIMEOUT:.0f} s (is it stopped?)"
            )
        fds: list[int] = []
        try:
            packet, fds = _take_packet(channel, 3)
        except OSError:
            packet = b""
        greeting = marshal.loads(packet) if packet else ("end",)  # noqa: S302
        if greeting[0] == "hello" and len(fds) == 3:
            _raise_descriptor_limit()
            channel.setblocking(False)
            logs, panic, pidfd = fds
            return Launcher(
                _pid_of(pidfd),
                channel.detach(),
                logs,
                panic,
                durable_in=state_dir,
                pidfd=pidfd,
                greeting=greeting,
            )
        channel.close()
        _close(*fds)
        match greeting:
            case ("refused", pid):
                raise NodeError(f"cannot use {state_dir}: it belongs to podvisor process {pid}")
            case ("hello", *_):
                raise NodeError("cannot reach the launcher: too many open files")
            case _:  # it was about to end
                pass
    return None


def _take_packet(channel: _socket.socket, most: int = 1) -> tuple[bytes, list[int]]:
    """A packet and its descriptors, as far as there were any to be had."""
    packet, ancillary, _, _ = channel.recvmsg(
        65536, _socket.CMSG_SPACE(4 * most), _socket.MSG_CMSG_CLOEXEC
    )
    fds = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return packet, fds.tolist()


def _homes(state_dir: str) -> list[str]:
    """Where the socket may be: not every file system has sockets (NFS in parts, 9p, drvfs)."""
    import hashlib

    base = os.environ.get("XDG_RUNTIME_DIR") or ""
    if not os.path.isabs(base):
        base = os.path.abspath(os.environ.get("TMPDIR") or "/tmp")
    digest = hashlib.sha256(os.fsencode(os.path.realpath(state_dir))).hexdigest()[:16]
    return [state_dir, os.path.join(base, f"podvisor-{os.geteuid()}-{digest}")]


def _dial(home: str) -> _socket.socket | None:
    channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    try:
        folder = os.open(home, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # By way of the descriptor: a path of over 107 bytes cannot be said.
            channel.connect(f"/proc/self/fd/{folder}/{_SOCKET}")
        finally:
            os.close(folder)
    except OSError:
        channel.close()
        return None
    return channel


def _listen(state_dir: str) -> int:
    """A socket in the state directory, or where else it can be, for the launcher to listen on."""
    own, elsewhere = _homes(state_dir)
    problem: OSError | None = None
    for home in (own, elsewhere):
        other = _dial(home)
        if other is not None:
            other.close()
            raise NodeError(f"cannot start a launcher in {state_dir}: there is one")
        listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
        try:
            if home == elsewhere:
                _make_private(home)
            folder = os.open(home, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                name = f"/proc/self/fd/{folder}/{_SOCKET}"
                if os.path.lexists(name):
                    os.unlink(name)
                listener.bind(name)
                os.chmod(name, 0o600)  # before anybody can connect
            finally:
                os.close(folder)
            listener.listen(16)
            return listener.detach()
        except OSError as error:
            problem = problem or error
            listener.close()
    assert problem is not None
    raise NodeError(f"cannot make a socket in {own} or {elsewhere}: {problem.strerror}")


def _make_private(path: str) -> None:
    """In a world-writable parent somebody else may have made the folder first."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        found = os.lstat(path)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise


def _pid_of(pidfd: int) -> int:
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pid:"))


class _ReplacedError(ConnectionResetError):
    """The launcher that was asked has died, and there is, or will be, another one."""


class _Instance:
    """A started instance, until its exit is acknowledged. `pidfd` -1: there was none to be had."""

    def __init__(self, pid: int, pidfd: int, at: Instant, spec: LaunchSpec) -> None:
        self.pid, self.pidfd, self.at, self.spec = pid, pidfd, at, spec
        self.ended = False
        self.stdin_ended = False  # we have said so


class _Pending:
    """A start, or an adoption, that is not answered yet."""

    def __init__(self, ready: Event, spec: LaunchSpec, *, adopts: bool = False) -> None:
        self.ready, self.spec, self.adopts = ready, spec, adopts
        self.error: Exception | None = None
        self.instance: _Instance | None = None


class _Sandbox:
    """The pid namespace of a pod, from when it is asked for until it is gone."""

    def __init__(self, ready: Event, ended: Event) -> None:
        self.ready, self.ended = ready, ended
        self.pidfd = -1  # of its pid 1
        self.is_listed = True  # by the launcher, the last time that it said what it holds
        self.unwanted = False  # it is being ended
        self.error: Exception | None = None

    def gone(self) -> None:
        _close(self.pidfd)
        self.pidfd = -1
        self.ended.set()


class _Exec:
    """A program that runs in a container, until it is known what came of it."""

    def __init__(self, limit: int, begun: Event, ended: Event, outputs: Sequence[int]) -> None:
        self.limit, self.ended = limit, ended
        self.begun = begun  # of a session: it executes, or has ended
        self.kept = {fd: bytearray() for fd in outputs}  # the beginning of each, in order
        # Exit code, (stage, errno, detail) of what failed, or None: it was killed.
        self.answer: int | tuple[str, int, bytes] | None = None
        self.error: Exception | None = None


class _Kept:
    """A program that belongs to the launcher, as far as we know of it."""

    def __init__(self, ended: Event) -> None:
        self.ended = ended
        self.answer: Any = None  # as of _Exec
        self.stopped = False
        self.output = b""
        self.error: Exception | None = None
        self.request = b""  # the packet that asked for it


class _Listed:
    """What the launcher holds of an instance that is not adopted."""

    def __init__(self, known: Event, ended: Event) -> None:
        self.known = known  # that it has started, or that it has not
        self.ended = ended
        self.pid, self.pidfd, self.at = 0, -1, Instant(0, 0)
        self.drop: LogDrop | None = None
        self.exit: Exit | Lost | None = None


class _Minder:
    """Our end of the process in a container that runs programs there, one at a time."""

    def __init__(self, id: ContainerId, channel: _socket.socket) -> None:
        self.id, self.channel = id, channel
        self.ready = self.leaving = False
        self.run: _Exec | None = None  # None: it waits for more


class ProcessRuntime:
    """cri.Runtime on top of a launcher. An async context manager; see the module's story.

    `memory_dir`: the folder of the node on a tmpfs, if there is one.

    `attached` is asked, at each start of a container with stdin or tty, what somebody gives it:
    its stdin, or master and slave of its terminal, to be closed here; nothing if nobody is there.
    """

    def __init__(
        self,
        launcher: Launcher,
        state_dir: str,
        attached: Callable[[ContainerId], Sequence[int]] = lambda _: (),
        *,
        memory_dir: str = "",
    ) -> None:
        self._launcher = launcher
        self._state_dir = state_dir
        self._memory_dir = memory_dir
        self._attached = attached
        self._isolation: Isolation | None = None
        self.trials: tuple[Trial, ...] = ()
        self._instances: dict[ContainerId, _Instance] = {}
        self._pending: dict[ContainerId, _Pending] = {}
        self._news: deque[News] = deque()
        self._outbox: deque[tuple[bytes, tuple[int, ...]]] = deque()  # packet, its descriptors
        self._minders: dict[int, _Minder] = {}  # by descriptor
        self._outputs: dict[int, _Exec] = {}  # by descriptor
        self._sandboxes: dict[str, _Sandbox] = {}  # by pod uid
        self._inputs: dict[ContainerId, int] = {}  # what stdins and terminals are written to
        self._kept: dict[tuple[ContainerId, str], _Kept] = {}
        self._listed: dict[ContainerId, _Listed] = {}
        self._was_kept: frozenset[tuple[ContainerId, str]] = frozenset()
        self._had_ended = self._was_kept
        self._kept_seen: set[tuple[ContainerId, str]] = set()  # in the list that came last
        self._all_listed = launcher.durable_in is None
        self._absent = False  # the launcher is being replaced
        self._deaf: set[str] = set()  # launchers whose logger is dead, too
        self._seen: set[ContainerId] = set()  # what the launcher has told of since we came
        self._replaced: deque[float] = deque(maxlen=_REPLACEMENTS)
        self._lost: NodeError | None = None
        self._closing = False
        self._no_room = False  # what waits in the outbox waits for memory, not for the launcher
        self._wake: Event
        self._outgoing: Event
        self._tasks: TaskGroup

    # --- life ---------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        import anyio

        self._wake, self._outgoing = anyio.Event(), anyio.Event()
        self._poll = select.epoll()  # minders and outputs: a task for each would cost more
        try:
            await self._shake_hands()
        except BaseException:
            await self._end_launcher()
            raise
        if self._launcher.durable_in is None:
            self._bequeath()
        # As of now, also when another launcher takes over: what runs then is our own.
        self._was_kept = frozenset(self._kept)
        self._had_ended = frozenset(name for name, k in self._kept.items() if k.ended.is_set())
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._attend)
        self._tasks.start_soon(self._watch_minders)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        self._tasks.cancel_scope.cancel()
        try:
            # Not told of the body's exception, or it would come out wrapped into a group.
            await self._tasks.__aexit__(None, None, None)
        finally:
            await self._end_launcher()
            self._fail_pending(NodeError("cannot start a program: the node is closed"))
            self._wake.set()

    async def _shake_hands(self) -> None:
        import anyio

        channel = self._launcher.channel
        greeting, self._launcher.greeting = self._launcher.greeting, None
        if greeting is None:
            with anyio.move_on_after(_READY_TIMEOUT):
                await anyio.wait_readable(channel)
            try:
                packet = channel.recv(65536)
            except BlockingIOError:
                raise NodeError(
                    f"cannot start the launcher: no answer in {_READY_TIMEOUT:.0f} s"
                ) from None
            if not packet:
                await anyio.wait_readable(self._launcher.pidfd)
                words = self._launcher.reap()
                raise NodeError(f"cannot start the launcher: it ended at once ({words})")
            greeting = marshal.loads(packet)  # noqa: S302
        _, version, isolation, trials = greeting
        if version != _PROTOCOL:
            pid = self._launcher.pid
            raise NodeError(
                f"cannot talk to the launcher (pid {pid}): another podvisor has started it "
                f"(protocol {version}, here {_PROTOCOL}); use that one, or end it with "
                f"kill -9 {pid}: its containers run on, and are taken on by the next start"
            )
        self.trials = tuple(Trial(Isolation(mode), step, number) for mode, step, number in trials)
        if isolation is None:
            problems = "; ".join(str(trial) for trial in self.trials)
            raise NodeError(f"cannot run containers on this machine ({problems})")
        if self._isolation not in (None, isolation):
            raise NodeError(
                f"cannot run containers as before: {isolation} is not {self._isolation}"
            )
        self._isolation = Isolation(isolation)
        if self._launcher.durable_in is not None:
            await self._take_list()

    def _bequeath(self) -> None:
        """What pods have in our folders the launcher removes if we die: nobody else may come."""
        # What must not reach a disk first: the removal may be cut short.
        folders = dict.fromkeys(f for f in (self._memory_dir, self._state_dir) if f)
        for folder in folders:
            try:
                held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError:  # no descriptor to be had; then the next node's start does it
                continue
            self._post(marshal.dumps(("bequest", None), 2), held)

    async def _take_list(self) -> None:
        """What the launcher holds: all there is of it comes before anything else."""
        import anyio

        self._all_listed = False
        self._seen.clear()
        for sandbox in self._sandboxes.values():
            sandbox.is_listed = False
        try:
            with anyio.fail_after(_READY_TIMEOUT):
                while self._take_all() and not self._all_listed:
                    await anyio.wait_readable(self._launcher.channel)
        except TimeoutError:
            pass
        if not self._all_listed:
            raise NodeError("cannot reach the launcher: it did not say what it holds")

    async def _end_launcher(self) -> None:
        import anyio

        launcher = self._launcher
        with anyio.CancelScope(shield=True):
            if launcher.closed:
                pass
            elif launcher.durable_in is not None:
                await self._leave_launcher()
            else:
                launcher.hang_up()
                with anyio.move_on_after(_CLOSE_TIMEOUT) as waiting:
                    await anyio.wait_readable(launcher.pidfd)
                if waiting.cancelled_caught:
                    launcher.kill()
                    with anyio.move_on_after(_KILL_TIMEOUT):
                        await anyio.wait_readable(launcher.pidfd)
                launcher.free()
        self._drop_instances()
        self._poll.close()
        while self._outbox:
            _close(*self._outbox.popleft()[1])

    async def _leave_launcher(self) -> None:
        """It goes on without us; and ends, if there is nothing that it could go on with."""
        import anyio

        launcher = self._launcher
        self._flush()
        try:
            launcher.channel.shutdown(_socket.SHUT_WR)
        except OSError:  # it is gone
            pass
        held = self._instances or self._listed or self._kept or self._pending or self._sandboxes
        if not held:
            with anyio.move_on_after(_CLOSE_TIMEOUT):
                await anyio.wait_readable(launcher.pidfd)
        launcher.leave()

    def _drop_instances(self) -> None:
        for instance in self._instances.values():
            if instance.pidfd < 0:
                continue
            # For what the parent-death signal missed: programs that are set-uid lose it.
            if self._launcher.durable_in is None and not self._launcher.forgotten:
                try:
                    signals.pidfd_send_signal(instance.pidfd, signals.SIGKILL)
                except OSError:
                    pass
            os.close(instance.pidfd)
        self._instances.clear()
        _close(*self._inputs.values())
        self._inputs.clear()
        for listed in self._listed.values():
            _close(listed.pidfd)
        self._listed.clear()
        for sandbox in self._sandboxes.values():
            sandbox.gone()
        self._sandboxes.clear()

    async def _attend(self) -> None:
        """Its death is noticed by its pidfd, since reapers and logger outlive it for a moment."""
        import anyio

        while True:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._receive, tasks.cancel_scope)
                tasks.start_soon(self._transmit)
                await anyio.wait_readable(self._launcher.pidfd)
                tasks.cancel_scope.cancel()
            self._take_all()  # what it said before it died counts
            words = "it does not hear us"
            try:
                if _readable(self._launcher.pidfd):
                    words = f"it died ({self._launcher.reap()})"
                    if await self._replace_launcher():
                        continue
                elif await self._reconnect():
                    continue
            except NodeError as error:
                words = f"{words}; {error}"
            self._drop_instances()
            self._lost = NodeError(f"cannot reach the launcher any more: {words}")
            self._fail_pending(self._lost)
            self._wake.set()
            self._outgoing.set()
            return

    async def _reconnect(self) -> bool:
        """It let us go while we were stopped and did not take what it said. False: it ended."""
        launcher = self._launcher
        assert launcher.durable_in is not None
        fresh = connect_launcher(launcher.durable_in)
        if fresh is None:
            return await self._replace_launcher()
        self._swap(fresh)
        self._kept_seen.clear()
        waiting = self._listed.keys() | set()
        await self._shake_hands()
        for uid, sandbox in list(self._sandboxes.items()):
            if not sandbox.ready.is_set():
                self._request_sandbox(uid)
            elif not sandbox.is_listed:
                self._lose_sandbox(uid)
        for id, instance in list(self._instances.items()):
            if id not in self._seen and not instance.ended:
                self._lose(id)
        for pending in self._pending.values():
            if not pending.adopts:
                self._request_start(pending.spec)
        unsent = {packet for packet, _ in self._outbox}
        for name, kept in list(self._kept.items()):
            if not (name in self._kept_seen or kept.request in unsent or kept.ended.is_set()):
                kept.error = ExecInterruptedError("the launcher did not hear of it")
                kept.ended.set()
                del self._kept[name]
        for id in self._listed.keys() - waiting:
            self.acknowledge(id)  # it did not hear the first time
        self._absent = False
        self._flush()
        return True

    async def _replace_launcher(self) -> bool:
        """Durable: have a new one take on what the dead one has left."""
        old = self._launcher
        now = time.monotonic()
        if old.durable_in is None or (
            len(self._replaced) == _REPLACEMENTS and now - self._replaced[0] < _REPLACED_WITHIN
        ):
            return False
        self._replaced.append(now)
        self._absent = True
        while self._outbox:
            _close(*self._outbox.popleft()[1])
        self._fail_pending(_ReplacedError("the launcher died; there is a new one"))
        for listed in self._listed.values():
            # Not adopted yet: from here on their spawn records are what there is.
            _close(listed.pidfd)
            listed.known.set()
            listed.ended.set()
        self._listed.clear()
        self._swap(await self._spawn_another(old))
        await self._shake_hands()
        for id, instance in list(self._instances.items()):
            if not instance.ended:
                await self._pass_on(id, instance)
        for uid, sandbox in list(self._sandboxes.items()):
            if not sandbox.ready.is_set():
                continue  # asked for since: the new one is told so below
            if sandbox.pidfd < 0 or _readable(sandbox.pidfd):
                self._lose_sandbox(uid)
                continue
            self._request_sandbox(uid, os.dup(sandbox.pidfd), first=True)
            if sandbox.unwanted:
                self._send(("end-sandbox", uid))
        self._absent = False
        return True

    async def _spawn_another(self, old: Launcher) -> Launcher:
        import anyio

        from supervisor.runtime import survivors

        assert old.durable_in is not None
        # Also those that were not taken on yet, or whose start was never answered.
        _, found = survivors.find_mode(old.durable_in)
        held = [i.pidfd for i in self._instances.values() if i.pidfd >= 0]
        held += [s.pidfd for s in self._sandboxes.values() if s.pidfd >= 0]
        living = [pidfd for pidfd in held if not _readable(pidfd)]
        members = [*living[: survivors.SOME], *found]
        deadline = time.monotonic() + _READY_TIMEOUT
        try:
            while True:
                try:
                    return _spawn(
                        self.isolation.value, old.durable_in, old.rotation, members, old.logs_fd
                    )
                except NodeError:  # a child that it has just forked may still hold its socket
                    if time.monotonic() > deadline:
                        raise
                await anyio.sleep(0.01)
        finally:
            _close(*found)

    def _swap(self, fresh: Launcher) -> None:
        """Talk to another launcher from here on. Whoever waits for logs waits on as before."""
        old, self._launcher = self._launcher, fresh
        if fresh.logs_fd != old.logs_fd:  # the same file: it came over the socket
            os.close(fresh.logs_fd)
        fresh.logs_fd, old.logs_fd = old.logs_fd, -1
        fresh.rotation = old.rotation
        old.free()

    async def _pass_on(self, id: ContainerId, instance: _Instance) -> None:
        """A container of ours to a new launcher. It is never its parent."""
        from supervisor.runtime import survivors

        record = survivors.read(survivors.record_path(instance.spec.log_path))
        if record is None:  # somebody has removed it
            main = survivors.Process(instance.pid, "")
            record = survivors.Spawned(
                path=survivors.record_path(instance.spec.log_path),
                id=id,
                main=main,
                boot=survivors.boot_id(),
                mode=self.isolation.value,
                at=instance.at,
                logger="",
                mark="",
            )
        if not await self._has_reader(record):
            await self._end_survivor(record)
            self._lose(id, logs_lost=True)
            return
        reaper = -1 if record.reaper is None else record.reaper.open()
        try:
            held = record.main.open() if instance.pidfd < 0 else os.dup(instance.pidfd)
            self._request_adoption(instance.spec, record, instance.at, held, reaper)
        except (OSError, StartError):  # no descriptor to be had
            await self._end_survivor(record)
            self._lose(id)

    def _fail_pending(self, error: Exception) -> None:
        for pending in self._pending.values():
            pending.error = error
            pending.ready.set()
        self._pending.clear()
        for uid, sandbox in list(self._sandboxes.items()):
            if not sandbox.ready.is_set():
                del self._sandboxes[uid]
                sandbox.error = error
                sandbox.ready.set()
        broken = error if isinstance(error, NodeError) else ExecInterruptedError(str(error))
        for minder in list(self._minders.values()):
            if minder.run is not None:
                minder.run.error = broken
            self._dismiss(minder)
        for key, kept in list(self._kept.items()):
            if not kept.ended.is_set():
                kept.error = (
                    error if isinstance(error, NodeError) else ExecInterruptedError(str(error))
                )
                kept.ended.set()
                del self._kept[key]

    # --- cri.Runtime --------------------------------------------------------------------------

    @property
    def isolation(self) -> Isolation:
        assert self._isolation is not None, "the runtime is not entered"
        return self._isolation

    @property
    def logs_fd(self) -> int:
        """An eventfd that counts up whenever log files have grown. For one reader."""
        return self._launcher.logs_fd

    async def create_sandbox(self, pod_uid: str, *, shares: bool = False) -> None:
        sandbox = self._sandbox(pod_uid)
        # Containers of other users reach their own files below, by name; nobody else writes there.
        os.makedirs(os.path.dirname(sandbox), mode=0o711, exist_ok=True)
        os.makedirs(sandbox, mode=0o700, exist_ok=True)
        if not shares or self.isolation is Isolation.GROUP:
            return
        while True:
            try:
                is_there = await self._adopt_sandbox(pod_uid)
                if not is_there:
                    await self._ask_for_sandbox(pod_uid)
            except _ReplacedError:
                continue
            return

    async def adopt_sandbox(self, pod_uid: str) -> bool:
        while True:
            try:
                return self.isolation is Isolation.GROUP or await self._adopt_sandbox(pod_uid)
            except _ReplacedError:
                continue

    async def _adopt_sandbox(self, pod_uid: str) -> bool:
        import anyio

        from supervisor.runtime import survivors

        if pod_uid in self._sandboxes:
            await self._ask_for_sandbox(pod_uid)
            return True
        if self._launcher.durable_in is None:
            return False
        record = survivors.read(survivors.pause_path(self._state_dir, pod_uid))
        if record is None:
            return False
        while True:
            if not record.lives or record.main.is_ending:
                return False
            if record.main.has_executed:
                break
            await anyio.sleep(0.005)  # it does so, or ends if its launcher died before that
        if record.mode != self.isolation:
            await self._end_survivor(record)
            return False
        pidfd = record.main.open()
        if pidfd < 0:
            return False
        await self._ask_for_sandbox(pod_uid, pidfd)
        return True

    async def _ask_for_sandbox(self, pod_uid: str, pidfd: int = -1) -> None:
        import anyio

        if self._lost is not None:
            _close(pidfd)
            raise self._lost
        sandbox = self._sandboxes.get(pod_uid)
        if sandbox is None:
            sandbox = self._sandboxes[pod_uid] = _Sandbox(anyio.Event(), anyio.Event())
            self._request_sandbox(pod_uid, pidfd)
        else:
            _close(pidfd)
        await sandbox.ready.wait()
        if sandbox.error is not None:
            raise sandbox.error

    def _request_sandbox(self, pod_uid: str, pidfd: int = -1, *, first: bool = False) -> None:
        """`pidfd`: of its pid 1, if there is one."""
        path = os.fsencode(os.path.join(self._sandbox(pod_uid), "pause.spawn"))
        packet = marshal.dumps(("sandbox", pod_uid, path), 2)
        self._post(packet, *([pidfd] if pidfd >= 0 else []), first=first)

    def _lose_sandbox(self, pod_uid: str) -> None:
        sandbox = self._sandboxes.pop(pod_uid)
        sandbox.gone()
        if not sandbox.unwanted:
            self._tell(SandboxGone(pod_uid, _now()))

    async def _end_sandbox(self, pod_uid: str) -> None:
        import anyio

        from supervisor.runtime import survivors

        if self._lost is not None:
            return
        sandbox = self._sandboxes.get(pod_uid)
        if sandbox is None:
            # Made in another life, and nobody has come to take it on.
            record = None
            if self._launcher.durable_in is not None:
                record = survivors.read(survivors.pause_path(self._state_dir, pod_uid))
            if record is not None and record.lives:
                await self._end_survivor(record)
            return
        sandbox.unwanted = True
        self._send(("end-sandbox", pod_uid))
        with anyio.move_on_after(_STOP_TIMEOUT) as waiting:
            await sandbox.ended.wait()
        if waiting.cancelled_caught and sandbox.pidfd >= 0:  # the launcher is stopped
            signals.pidfd_send_signal(sandbox.pidfd, signals.SIGKILL)
        if self._sandboxes.get(pod_uid) is sandbox:
            del self._sandboxes[pod_uid]
            sandbox.gone()

    async def remove_sandbox(self, pod_uid: str) -> None:
        await self._end_sandbox(pod_uid)
        await _remove_tree(self._sandbox(pod_uid))

    async def remove_pod(self, namespace: str, name: str, uid: str) -> None:
        # The folder of an ephemeral node goes as a whole, and somebody may still show its logs.
        if self._launcher.durable_in is not None:
            from supervisor.runtime.spec import log_folder

            await _remove_tree(log_folder(self._state_dir, namespace, name, uid))

    async def remove_other_pods(self, known: frozenset[tuple[str, str, str]]) -> None:
        from supervisor.runtime import survivors
        from supervisor.runtime.spec import log_folder

        if self._launcher.durable_in is None:
            return
        uids = {uid for _, _, uid in known}
        for uid in self._sandboxes.keys() - uids:
            await self._end_sandbox(uid)
        for record in survivors.read_pauses(self._state_dir):
            if record.id.pod_uid not in uids and record.lives:
                await self._end_survivor(record)
        kept = {log_folder(self._state_dir, *pod) for pod in known}
        root = os.path.join(self._state_dir, "logs")
        try:
            names = os.listdir(root)
        except FileNotFoundError:
            return
        for path in (os.path.join(root, name) for name in names):
            if path not in kept:
                await _remove_tree(path)

    def _sandbox(self, pod_uid: str) -> str:
        return os.path.join(self._state_dir, "pods", pod_uid)

    async def start(self, spec: LaunchSpec) -> tuple[int, Instant]:
        while True:
            try:
                return await self._start(spec)
            except _ReplacedError:
                # It may have run by now or not. It must not be left at that: nobody might ask for
                # it again.
                continue

    async def _start(self, spec: LaunchSpec) -> tuple[int, Instant]:
        import anyio

        id = spec.id
        instance = self._instances.get(id)
        if instance is None:
            pending = self._pending.get(id)
            if pending is None:
                if self._lost is not None:
                    raise self._lost
                if self._launcher.durable_in is not None:
                    found = await self._find_started(spec)
                    if found is not None:
                        return found
                    pending = self._pending.get(id)
            if pending is None:
                pending = _Pending(anyio.Event(), spec)
                _forget_attempts(spec)
                self._request_start(spec)
                self._pending[id] = pending
            instance = await self._answer(pending)
        return instance.pid, instance.at

    async def _answer(self, pending: _Pending) -> _Instance:
        await pending.ready.wait()
        if pending.error is not None:
            raise pending.error
        # Not looked up: the launcher may have died since, and its instances be dropped.
        assert pending.instance is not None
        return pending.instance

    async def _find_started(self, spec: LaunchSpec) -> tuple[int, Instant] | None:
        """Durable: what has run once is not run again, though its answer may have been lost."""
        from supervisor.runtime import survivors

        found = await self.adopt(spec)
        if found.started is not None:
            return found.pid, found.started
        if found.state is Presence.UNKNOWN:
            return None
        record = survivors.read(survivors.record_path(spec.log_path))
        self._tell(Lost(spec.id, _now(), logs_lost=found.logs_lost))
        return (0, _now()) if record is None else (record.main.pid, record.at)

    async def adopt(self, spec: LaunchSpec) -> Found:
        while True:
            try:
                return await self._adopt(spec)
            except _ReplacedError:
                continue  # its spawn record is there as before

    async def _adopt(self, spec: LaunchSpec) -> Found:
        import anyio

        from supervisor.runtime import survivors

        id = spec.id
        listed = self._listed.get(id)
        if listed is not None:
            await listed.known.wait()
            if listed.pid and self._listed.pop(id, None) is not None:
                self._instances[id] = _Instance(listed.pid, listed.pidfd, listed.at, spec)
                if listed.drop is not None:
                    self._tell(listed.drop)
                if listed.exit is not None:
                    self._take_end(listed.exit)
        instance = self._instances.get(id)
        if instance is not None:
            return Found(Presence.RUNNING, instance.pid, instance.at)
        if self._lost is not None:
            raise self._lost
        record = survivors.read(survivors.record_path(spec.log_path))
        if record is None or record.failed:  # of a failed one, a start says why it failed
            return Found(Presence.UNKNOWN)
        main = reaper = -1
        if record.of_this_boot:
            main = record.main.open()
            reaper = -1 if record.reaper is None else record.reaper.open()
        # Group mode: it left its exit code. Else a main that is not reaped, or lives.
        is_there = main >= 0 if record.reaper is None else record.has_exit_code or reaper >= 0
        logs_lost = not await self._has_reader(record)
        lives = record.lives
        if lives and (logs_lost or record.mode != self.isolation or not is_there):
            await self._end_survivor(record)
        elif is_there and record.of_this_boot and record.mode == self.isolation:
            pending = self._pending[id] = _Pending(anyio.Event(), spec, adopts=True)
            self._request_adoption(spec, record, record.at, main, reaper)
            instance = await self._answer(pending)
            return Found(Presence.RUNNING, instance.pid, instance.at, logs_lost)
        _close(main, reaper)
        return Found(Presence.GONE, logs_lost=logs_lost)

    async def _has_reader(self, record: Spawned) -> bool:
        """Whether somebody reads what it prints, or all of that was read."""
        import anyio

        from supervisor.runtime import survivors

        deadline = time.monotonic() + _LOGGER_PATIENCE
        while not (
            record.has_whole_log
            or (record.of_this_boot and survivors.has_logger(self._state_dir, record))
        ):
            if (
                not record.of_this_boot
                or time.monotonic() > deadline
                or record.logger in self._deaf
            ):
                self._deaf.add(record.logger)
                return False
            await anyio.sleep(0.02)
        return True

    async def end_strays(self, known: frozenset[ContainerId]) -> int:
        import anyio

        from supervisor.runtime import survivors

        ours = known | self._instances.keys() | self._pending.keys()
        ended: set[ContainerId] = set()

        async def end(record: Spawned) -> None:
            await self._end_survivor(record)
            _close(self._inputs.pop(record.id, -1))
            ended.add(record.id)

        async with anyio.create_task_group() as tasks:
            for id in [id for id in self._listed if id not in ours]:
                tasks.start_soon(self._end_listed, id, ended)
        async with anyio.create_task_group() as tasks:
            for record in survivors.read_all(self._state_dir):
                if record.id not in ours and record.lives:
                    tasks.start_soon(end, record)
        return len(ended)

    async def _end_listed(self, id: ContainerId, ended: set[ContainerId]) -> None:
        """One that the launcher holds. It keeps what has ended until somebody takes note."""
        import anyio

        listed = self._listed[id]
        with anyio.move_on_after(_STOP_TIMEOUT):
            await listed.known.wait()
            if listed.pid and listed.exit is None:
                self._send(("signal", _key(id), int(signals.SIGKILL)))
                ended.add(id)
                await listed.ended.wait()
        if listed.exit is not None and self._listed.pop(id, None) is not None:
            _close(listed.pidfd, self._inputs.pop(id, -1))
            self._send(("ack", _key(id)))

    async def _end_survivor(self, record: Spawned) -> None:
        """Kill an instance that nobody can take on, and wait until it is gone."""
        import anyio

        handles = record.end()
        try:
            with anyio.move_on_after(_STOP_TIMEOUT) as waiting:
                for pidfd in handles:
                    await anyio.wait_readable(pidfd)
            if waiting.cancelled_caught:
                record.end_hard()
        finally:
            _close(*handles)

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
        import anyio

        if self._lost is not None:
            raise self._lost
        if key:
            if resume and (id, key) not in self._kept:
                raise ExecInterruptedError("the launcher that ran it has died")
            return await self._exec_kept(id, argv, timeout, limit, env, key)
        instance = self._running(id, argv)
        minder, run = self._request_exec(instance.spec, argv, env, limit)
        stopped = False
        try:
            with anyio.move_on_after(timeout):
                await run.ended.wait()
        finally:
            if not run.ended.is_set():
                stopped = True
                await self._stop(minder, run)
        if run.error is not None:
            raise run.error
        output = b"".join(run.kept.values())[:limit]
        return _exec_result(id, instance.spec, argv, run.answer, stopped, output)

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
        if self._lost is not None:
            raise self._lost
        spec = self._running(id, argv).spec
        session = _Session(self, spec, argv)
        theirs: list[int] = []
        try:
            try:
                if tty:
                    theirs = session.open_terminal(stdin=stdin)
                else:
                    theirs = session.open_pipes(stdin=stdin, stdout=stdout, stderr=stderr)
                session.begin(theirs)
            except OSError as error:
                text = f"cannot run a program in the container: {error}"
                raise ExecError(text) from error
            finally:
                _close(*theirs)
            await session.begun()
        except BaseException:
            await session.__aexit__()
            raise
        return session

    async def open_attach(self, id: ContainerId) -> AttachSession:
        instance = self._instances.get(id)
        if instance is None or instance.ended or self._closing:
            raise _not_running(id)
        spec = instance.spec
        given = self._inputs.get(id, -1)
        held = -1 if given < 0 else fcntl.fcntl(given, fcntl.F_DUPFD_CLOEXEC, 3)
        ends = spec.stdin_once and not spec.tty
        if ends:
            self._send(("lend-input", _key(id)))

        def end() -> None:
            if ends and not instance.stdin_ended:
                instance.stdin_ended = True
                _close(self._inputs.pop(id, -1))
                self._send(("end-input", _key(id)))

        return _Attachment(held, spec, end)

    async def _stop(self, minder: _Minder, run: _Exec) -> None:
        """End a program and all that it has started."""
        import anyio

        minder.leaving = True
        minder.channel.shutdown(_socket.SHUT_WR)
        with anyio.move_on_after(_STOP_TIMEOUT, shield=True):
            await run.ended.wait()
        self._dismiss(minder)

    def _running(self, id: ContainerId, argv: tuple[str, ...]) -> _Instance:
        instance = self._instances.get(id)
        if instance is None or instance.ended or self._closing:
            raise _not_running(id)
        if not argv:
            raise ExecError("cannot run a program in the container: no command")
        return instance

    async def _exec_kept(
        self,
        id: ContainerId,
        argv: tuple[str, ...],
        timeout: float | None,
        limit: int,
        env: tuple[tuple[str, str], ...],
        key: str,
    ) -> ExecResult:
        import anyio

        kept = self._kept.get((id, key))
        if kept is None:
            self._running(id, argv)
            request, memfd = self._exec_request(argv, env)
            kept = self._kept[id, key] = _Kept(anyio.Event())
            kept.request = marshal.dumps(("exec", _key(id), key, limit, request), 2)
            self._post(kept.request, *([] if memfd < 0 else [memfd]))
        with anyio.move_on_after(timeout):
            await kept.ended.wait()
        if not kept.ended.is_set():
            self._send(("end-exec", _key(id), key))
            with anyio.move_on_after(_STOP_TIMEOUT):
                await kept.ended.wait()
        if kept.error is not None:
            raise kept.error
        instance = self._instances.get(id)
        spec = None if instance is None else instance.spec
        stopped = kept.stopped or not kept.ended.is_set()
        return _exec_result(id, spec, argv, kept.answer, stopped, kept.output)

    @property
    def kept_execs(self) -> frozenset[tuple[ContainerId, str]]:
        return self._was_kept

    @property
    def ended_execs(self) -> frozenset[tuple[ContainerId, str]]:
        return self._had_ended

    def forget_exec(self, id: ContainerId, key: str) -> None:
        kept = self._kept.pop((id, key), None)
        if kept is not None and not kept.ended.is_set():
            kept.error = ExecError("the program was forgotten")
            kept.ended.set()
        self._send(("forget-exec", _key(id), key))

    def signal(self, id: ContainerId, signum: int) -> bool:
        instance = self._instances.get(id)
        if instance is None:
            if id not in self._pending:
                return False
            # Its pidfd is still on the way: the launcher has one.
            self._send(("signal", _key(id), int(signum)))
            return True
        # A zombie takes signals without a word: ask whether it has ended.
        if instance.ended:
            return False
        if instance.pidfd < 0:
            self._send(("signal", _key(id), int(signum)))
            return True
        if _readable(instance.pidfd):
            return False
        try:
            signals.pidfd_send_signal(instance.pidfd, signum)
        except ProcessLookupError:
            return False
        return True

    def termination_message(self, spec: LaunchSpec, policy: str, exit_code: int) -> str:
        from supervisor.runtime import logs

        return logs.termination_message(spec.termination_file, policy, exit_code, "", spec.log_path)

    def acknowledge(self, id: ContainerId) -> None:
        instance = self._instances.get(id)
        if instance is not None and instance.ended:
            del self._instances[id]
            _close(instance.pidfd, self._inputs.pop(id, -1))
            self._send(("ack", _key(id)))
        elif (listed := self._listed.get(id)) is not None and listed.exit is not None:
            del self._listed[id]  # committed by an earlier supervisor
            _close(listed.pidfd)
            self._send(("ack", _key(id)))

    async def news(self) -> AsyncIterator[News]:
        import anyio

        while True:
            while self._news:
                yield self._news.popleft()
            if self._lost is not None:
                raise self._lost
            if self._closing:
                return
            await self._wake.wait()
            if not self._closing and self._lost is None:
                self._wake = anyio.Event()

    # --- to the launcher ----------------------------------------------------------------------

    def _request_start(self, spec: LaunchSpec) -> None:
        given: Sequence[int] = ()
        if spec.stdin or spec.tty:
            try:
                given = self._attached(spec.id)
            except OSError as error:
                raise _cannot_create(error) from error
        self._post_order("start", spec, fds=given)

    def _request_adoption(
        self, spec: LaunchSpec, record: Spawned, at: Instant, main: int, reaper: int
    ) -> None:
        """Hand a container to a launcher that is not its parent, with these pidfds (or -1), and
        with what its stdin is written to, if we have that."""
        given: list[int] = []
        try:
            if spec.id in self._inputs:
                given = [os.dup(self._inputs[spec.id])]
        except OSError:  # no descriptor to be had: it is ours alone then
            pass
        child = record.main if record.reaper is None else record.reaper
        survivor = {
            "started": (at.wall, at.boot),
            "main": record.main.pid,
            "reaper": child.pid,
            "start": child.start.encode(),
            "mark": record.mark.encode(),
            "has_main": main >= 0,
            "has_reaper": reaper >= 0,
            "has_input": bool(given),
        }
        spec = replace(spec, argv=(), mounts=())
        fds = [*(fd for fd in (main, reaper) if fd >= 0), *given]
        self._post_order("adopt", spec, survivor, fds=fds)

    def _post_order(self, verb: str, spec: LaunchSpec, *words: Any, fds: Sequence[int]) -> None:
        # What waits for a launcher that is being replaced may be about what it has to be told of.
        first = verb == "adopt"
        key = _key(spec.id)
        try:
            fields = {
                "argv": [_encode(word) for word in spec.argv],
                "env": [(_encode(k), _encode(v)) for k, v in spec.env],
                "cwd": _encode(spec.cwd),
                "log": os.fsencode(spec.log_path),
                "mounts": [
                    (_encode(mount.source), _encode(mount.target), mount.read_only)
                    for mount in spec.mounts
                ],
                "record": os.fsencode(spec.log_path.removesuffix(".log") + ".spawn"),
                "shares": spec.shares,
                "target": None if spec.target is None else _key(spec.target),
                "state_dir": os.fsencode(self._state_dir),
                "memory_dir": os.fsencode(self._memory_dir),
                "termination_path": _encode(spec.termination_path),
                "termination_file": os.fsencode(spec.termination_file),
                "uid": spec.uid,
                "gid": spec.gid,
                "groups": None if spec.groups is None else list(spec.groups),
                "stdin": spec.stdin,
                "stdin_once": spec.stdin_once,
                "tty": spec.tty,
                "farewell": tuple(map(int, spec.farewell)),
            }
            packet = marshal.dumps((verb, key, fields, *words), 2)
            if len(packet) <= _INLINE:
                self._post(packet, *fds, first=first)
                return
            memfd = _memfd(marshal.dumps(fields, 2))
        except (OSError, ValueError) as error:  # ValueError: not encodable
            _close(*fds)
            raise _cannot_create(error) from error
        self._post(marshal.dumps((verb, key, None, *words), 2), memfd, *fds, first=first)

    def _exec_request(
        self, argv: tuple[str, ...], env: tuple[tuple[str, str], ...]
    ) -> tuple[tuple[Any, ...] | None, int]:
        """The request, or None and a memfd that holds it because it is large."""
        try:
            words = [_encode(word) for word in argv]
            request = (words, [(_encode(k), _encode(v)) for k, v in env])
            packet = marshal.dumps(request, 2)
            return (request, -1) if len(packet) <= _INLINE else (None, _memfd(packet))
        except (OSError, ValueError) as error:
            raise ExecError(f"cannot run a program in the container: {error}") from error

    def _request_exec(
        self,
        spec: LaunchSpec,
        argv: tuple[str, ...],
        env: tuple[tuple[str, str], ...],
        limit: int,
    ) -> tuple[_Minder, _Exec]:
        readers: list[int] = []
        rights: list[int] = []
        try:
            for _ in range(2):
                reader, writer = os.pipe2(os.O_CLOEXEC)
                readers.append(reader)
                rights.append(writer)
                os.set_blocking(reader, False)
                _give(writer, spec)
            minder, run = self._begin(spec, argv, env, rights, readers, limit)
        except (OSError, ExecError) as error:
            _close(*readers)
            if isinstance(error, ExecError):
                raise
            raise ExecError(f"cannot run a program in the container: {error}") from error
        finally:
            _close(*rights)
        for reader in readers:
            self._outputs[reader] = run
            self._poll.register(reader, select.EPOLLIN)
        return minder, run

    def _begin(
        self,
        spec: LaunchSpec,
        argv: tuple[str, ...],
        env: tuple[tuple[str, str], ...],
        streams: Sequence[int],
        outputs: Sequence[int] = (),
        limit: int = 0,
    ) -> tuple[_Minder, _Exec]:
        """Have a minder run it with these streams, as the launcher's story counts them.

        Of `outputs` we keep what comes, up to the limit. Raises OSError, ExecError.
        """
        import anyio

        request, memfd = self._exec_request(argv, env)
        try:
            rights = [*streams, *([] if memfd < 0 else [memfd])]
            packet = marshal.dumps((request, len(streams), False), 2)
            minder = self._hand_over(spec.id, packet, array.array("i", rights))
        finally:
            _close(memfd)
        run = minder.run = _Exec(limit, anyio.Event(), anyio.Event(), outputs)
        return minder, run

    def _hand_over(self, id: ContainerId, packet: bytes, rights: array.array[int]) -> _Minder:
        """Give a request to a minder of that container: one that waits for more, or a new one."""
        ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)]
        waiting = [m for m in self._minders.values() if m.id == id and m.run is None]
        for minder in waiting:
            try:
                if not minder.leaving:
                    minder.channel.sendmsg([packet], ancillary)
                    return minder
            except (BrokenPipeError, ConnectionResetError):  # killed meanwhile
                self._dismiss(minder)
        ours, theirs = _socket.socketpair(
            _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
        )
        try:
            ours.setblocking(False)
            ours.sendmsg([packet], ancillary)  # it waits in the socket
            self._poll.register(ours, select.EPOLLIN)
        except OSError:
            ours.close()
            theirs.close()
            raise
        minder = self._minders[ours.fileno()] = _Minder(id, ours)
        self._post(marshal.dumps(("mind", _key(id)), 2), theirs.detach())
        return minder

    def _send(self, message: tuple[object, ...]) -> None:
        self._post(marshal.dumps(message, 2))  # type: ignore[arg-type]

    def _post(self, packet: bytes, *fds: int, first: bool = False) -> None:
        (self._outbox.appendleft if first else self._outbox.append)((packet, fds))
        if len(self._outbox) == 1 and not self._flush():
            self._outgoing.set()

    def _flush(self) -> bool:
        """Send what the socket takes; False when something is left."""
        while self._outbox and not self._absent:
            packet, fds = self._outbox[0]
            rights = array.array("i", fds)
            ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)] if fds else []
            try:
                if self._lost is None and not self._launcher.closed:
                    self._launcher.channel.sendmsg([packet], ancillary)
            except OSError as error:
                # ENOBUFS, ETOOMANYREFS: the socket would call itself writable all the time.
                self._no_room = error.errno != errno.EAGAIN
                if error.errno in (errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS):
                    return False
                # It is gone, or has let us go; _attend sees to it. What is said meanwhile waits
                # for the one that we talk to next.
                if self._launcher.durable_in is not None:
                    self._absent = True
                    return True
            self._outbox.popleft()
            _close(*fds)
        return True

    async def _transmit(self) -> None:
        import anyio

        while True:
            if self._flush():
                self._outgoing = anyio.Event()
                await self._outgoing.wait()
            if self._no_room:
                await anyio.sleep(_NO_ROOM)
            await anyio.wait_writable(self._launcher.channel)

    # --- from the launcher --------------------------------------------------------------------

    async def _receive(self, attending: CancelScope) -> None:
        import anyio

        while True:
            await anyio.wait_readable(self._launcher.channel)
            if not self._take_all():
                break
        if self._launcher.durable_in is not None:
            # It has let us go; or it is dying, and then its pidfd tells first.
            await anyio.sleep(_LETTING_GO)
            attending.cancel()

    def _take_all(self) -> bool:
        """Take what has come; False at the end."""
        while self._lost is None:
            try:
                packet, fds = _take_packet(self._launcher.channel)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not packet:
                return False
            message = marshal.loads(packet)  # noqa: S302  (our own launcher)
            if message[0] == "listed":
                self._all_listed = True
            elif message[0].startswith("sandbox"):
                self._take_sandbox(message, fds)
            else:
                self._take(message, fds)
        return False

    def _take(self, message: tuple[Any, ...], fds: list[int]) -> None:
        id = ContainerId(*message[1])
        self._seen.add(id)
        match message:
            case ("starting", _):
                if id not in self._pending:
                    self._list(id)
            case ("input", _):
                known = self._instances.get(id)
                if known is not None and known.stdin_ended:  # it has not heard of that yet
                    _close(*fds)
                elif fds:  # else they were lost: nobody can write there
                    _close(self._inputs.get(id, -1))
                    self._inputs[id] = fds[0]
            case ("started", _, pid, wall, boot):
                self._take_started(id, pid, Instant(wall, boot), fds)
            case ("failed", _, created, stage, number, detail):
                pending = self._pending.pop(id, None)
                if pending is not None and pending.adopts:
                    pending.error = OSError(number, os.strerror(number))
                    pending.ready.set()
                elif pending is not None:
                    pending.error = _start_error(pending.spec, created, stage, number, detail)
                    pending.ready.set()
                elif (listed := self._listed.pop(id, None)) is not None:
                    listed.known.set()
            case ("exit", _, code, wall, boot, drained, dropped):
                at = Instant(wall, boot)
                end: Exit | Lost = Lost(id, at, logs_lost=not drained)
                if code >= 0:
                    end = Exit(id, at, code, drained=drained, dropped=dropped)
                if id in self._listed:
                    self._listed[id].exit = end
                    self._listed[id].ended.set()
                elif id in self._instances:
                    self._take_end(end)
                else:  # started, but nobody wants to know
                    self._send(("ack", _key(id)))
            case ("drop", _, wall, boot, number):
                drop = LogDrop(id, Instant(wall, boot), os.strerror(number))
                if id in self._listed:
                    self._listed[id].drop = drop
                else:
                    self._tell(drop)
            case ("executing", _, name):
                self._kept_seen.add((id, name))
                if not self._all_listed:
                    self._kept.setdefault((id, name), self._new_kept())
            case ("execed", _, name, answer, stopped, output):
                self._kept_seen.add((id, name))
                if self._all_listed and (id, name) not in self._kept:  # forgotten meanwhile
                    _close(*fds)
                    return
                kept = self._kept.setdefault((id, name), self._new_kept())
                kept.answer, kept.stopped = answer, stopped
                if output is None:
                    kept.output = _read_memfd(fds[0]) if fds else b""
                    _close(*fds)
                else:
                    kept.output = output
                kept.ended.set()

    def _take_sandbox(self, message: tuple[Any, ...], fds: list[int]) -> None:
        import anyio

        uid = message[1]
        sandbox = self._sandboxes.get(uid)
        match message:
            case ("sandbox", _):
                if sandbox is None:
                    sandbox = self._sandboxes[uid] = _Sandbox(anyio.Event(), anyio.Event())
                _close(sandbox.pidfd)
                sandbox.pidfd, sandbox.is_listed = fds[0] if fds else -1, True
                sandbox.ready.set()
            case ("sandbox-failed", _, number) if sandbox is not None:
                del self._sandboxes[uid]
                sandbox.error = OSError(number, os.strerror(number) if number else "it was killed")
                sandbox.ready.set()
            case ("sandbox-lost", _) if sandbox is not None:
                self._lose_sandbox(uid)
            case ("sandbox-ended", _) if sandbox is not None:
                sandbox.ended.set()

    def _new_kept(self) -> _Kept:
        import anyio

        return _Kept(anyio.Event())

    def _list(self, id: ContainerId) -> _Listed:
        import anyio

        if id not in self._listed:
            self._listed[id] = _Listed(anyio.Event(), anyio.Event())
        return self._listed[id]

    def _take_started(self, id: ContainerId, pid: int, at: Instant, fds: list[int]) -> None:
        pending = self._pending.pop(id, None)
        if pending is None:
            if self._launcher.durable_in is None or id in self._instances:
                _close(*fds)  # only what we asked for is started
                return
            listed = self._list(id)
            _close(listed.pidfd)
            listed.pid, listed.at, listed.pidfd = pid, at, fds[0] if fds else -1
            listed.known.set()
            return
        if id in self._instances:
            _close(*fds)
        else:
            # None when we are out of descriptors, or were. It runs all the same: reporting a
            # failure would have it run once more. One that was adopted may be gone by now.
            fd = fds[0] if fds else -1 if pending.adopts else self._open_pidfd(pid)
            self._instances[id] = _Instance(pid, fd, at, pending.spec)
        pending.instance = self._instances[id]
        pending.ready.set()

    def _take_end(self, end: Exit | Lost) -> None:
        instance = self._instances[end.id]
        if instance.ended:  # told again
            return
        instance.ended = True
        self._tell(end)
        # Whatever ran in it is gone, though a forked child of ours may hold a socket of it.
        for minder in [m for m in self._minders.values() if m.id == end.id]:
            while self._hear(minder):
                pass
            self._dismiss(minder)

    def _lose(self, id: ContainerId, *, logs_lost: bool = False) -> None:
        self._take_end(Lost(id, _now(), logs_lost=logs_lost))

    # --- from programs run in containers ------------------------------------------------------

    async def _watch_minders(self) -> None:
        import anyio

        while True:
            await anyio.wait_readable(self._poll.fileno())
            for fd, _ in self._poll.poll(0):
                if fd in self._outputs:
                    if not self._take_output(self._outputs[fd], fd):
                        self._unwatch(fd)
                elif fd in self._minders:  # else ended by what came before it in this round
                    self._hear(self._minders[fd])

    def _hear(self, minder: _Minder) -> bool:
        """Take one message; False when there is none now, or none any more."""
        packet, taken = b"", minder.ready
        try:
            try:
                packet = minder.channel.recv(65536)
            except ConnectionResetError:  # it ended before it took the request; perhaps it said why
                taken = False
                packet = minder.channel.recv(65536)
        except BlockingIOError:
            return False
        except OSError:
            pass
        if not packet:
            if minder.run is not None and not taken:
                minder.run.answer = ("minder", 0, b"")
            self._dismiss(minder)
            return False
        run = minder.run
        match marshal.loads(packet):  # noqa: S302
            case "ready":
                minder.ready = True
            case "running" if run is not None:
                run.begun.set()
            case "idle" if run is None:
                self._dismiss(minder)
            case (code, stays) if run is not None:
                run.answer = code
                minder.run = None
                self._finish(run)
                if not stays or minder.leaving:
                    self._dismiss(minder)
            case (stage, number, detail) if run is not None:
                run.answer = (stage, number, detail)
                self._dismiss(minder)
        return True

    def _dismiss(self, minder: _Minder) -> None:
        """Have it end, and all that runs below it; what it was asked for ends as far as it is."""
        fd = minder.channel.fileno()
        if self._minders.pop(fd, None) is None:
            return
        if not self._poll.closed:
            self._poll.unregister(fd)
        try:
            minder.channel.shutdown(_socket.SHUT_RDWR)  # a forked child of ours may hold a copy
        except OSError:  # it is gone
            pass
        minder.channel.close()
        if minder.run is not None:
            run, minder.run = minder.run, None
            self._finish(run)

    def _finish(self, run: _Exec) -> None:
        """Take what output there is and wait for no more: somebody left behind may hold it."""
        for fd, kept in run.kept.items():
            while len(kept) < run.limit and self._take_output(run, fd):
                pass
            self._unwatch(fd)
            os.close(fd)
        run.begun.set()
        run.ended.set()

    def _take_output(self, run: _Exec, fd: int) -> bool:
        """Read once; False when there is nothing now, or nothing any more."""
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            return False
        kept = run.kept[fd]
        if len(kept) < run.limit:
            kept += data[: run.limit - len(kept)]
        return bool(data)

    def _unwatch(self, fd: int) -> None:
        # Explicitly: closing does not do it while a forked child of ours holds a copy.
        if self._outputs.pop(fd, None) is not None and not self._poll.closed:
            self._poll.unregister(fd)

    def _open_pidfd(self, pid: int) -> int:
        """-1 when there is no descriptor to be had; signals then go through the launcher."""
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            return -1
        if _readable(self._launcher.pidfd):
            # It keeps pids from being reused, and it may have been gone already.
            os.close(fd)
            return -1
        return fd

    def _tell(self, news: News) -> None:
        self._news.append(news)
        self._wake.set()


class _Session:
    """cri.ExecSession: the streams are ours, the program is a minder's."""

    def __init__(self, runtime: ProcessRuntime, spec: LaunchSpec, argv: tuple[str, ...]) -> None:
        self._runtime, self._spec, self._argv = runtime, spec, argv
        self._minder: _Minder | None = None
        self._run: _Exec | None = None
        self._has_terminal = False
        self.stdin = self.stdout = self.stderr = -1

    def open_pipes(self, *, stdin: bool, stdout: bool, stderr: bool) -> list[int]:
        """Make our ends; returns the program's. Raises OSError, and leaves what was made to us."""
        theirs: list[int] = []
        try:
            for name, wanted in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
                if not wanted:
                    theirs.append(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
                    continue
                reader, writer = os.pipe2(os.O_CLOEXEC)
                ours, far = (writer, reader) if name == "stdin" else (reader, writer)
                setattr(self, name, ours)
                theirs.append(far)
                os.set_blocking(ours, False)
                _give(far, self._spec)
        except OSError:
            _close(*theirs)
            raise
        return theirs

    def open_terminal(self, *, stdin: bool) -> list[int]:
        """As open_pipes."""
        from supervisor.runtime.launcher import find_terminal

        self._has_terminal = True
        self.stdout, made = os.openpty()
        try:
            slave = find_terminal(made)
        finally:
            os.close(made)
        try:
            os.set_blocking(self.stdout, False)
            _give(slave, self._spec)
            if stdin:
                self.stdin = fcntl.fcntl(self.stdout, fcntl.F_DUPFD_CLOEXEC, 3)
        except OSError:
            _close(slave)
            raise
        return [slave]

    def begin(self, streams: Sequence[int]) -> None:
        runtime, spec = self._runtime, self._spec
        # As the CRI runtimes have it: what draws on a terminal asks for its kind.
        lacks_term = self._has_terminal and "TERM" not in dict(spec.env)
        env = (("TERM", "xterm"),) if lacks_term else ()
        self._minder, self._run = runtime._begin(spec, self._argv, env, streams)  # noqa: SLF001

    async def begun(self) -> None:
        assert self._run is not None
        await self._run.begun.wait()
        if self._run.error is not None or isinstance(self._run.answer, tuple):
            await self.wait()  # says why

    async def wait(self) -> int:
        assert self._run is not None
        run = self._run
        await run.ended.wait()
        if run.error is not None:
            raise run.error
        result = _exec_result(self._spec.id, self._spec, self._argv, run.answer, False, b"")
        assert result.exit_code is not None
        return result.exit_code

    def close_stdin(self) -> None:
        fd, self.stdin = self.stdin, -1
        _close(fd)

    def resize(self, columns: int, rows: int) -> None:
        if self._has_terminal:
            _resize(self.stdout, columns, rows)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            if self._run is not None and not self._run.ended.is_set():
                assert self._minder is not None
                await self._runtime._stop(self._minder, self._run)  # noqa: SLF001
        finally:
            _close(self.stdin, self.stdout, self.stderr)
            self.stdin = self.stdout = self.stderr = -1


class _Attachment:
    """cri.AttachSession. `held` is -1 or becomes its own; `end` is called when nobody writes."""

    def __init__(self, held: int, spec: LaunchSpec, end: Callable[[], None]) -> None:
        self.stdin = held if spec.stdin else -1
        self._terminal = held if spec.tty else -1
        self._held, self._end = held, end

    def close_stdin(self) -> None:
        fd, self.stdin = self.stdin, -1
        if fd >= 0 and fd != self._terminal:
            os.close(fd)
            self._held = -1
            self._end()

    def resize(self, columns: int, rows: int) -> None:
        _resize(self._terminal, columns, rows)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close_stdin()
        _close(self._held)
        self._held = self._terminal = -1


def _resize(terminal: int, columns: int, rows: int) -> None:
    import termios

    if terminal >= 0:
        termios.tcsetwinsize(terminal, (rows, columns))


async def _remove_tree(path: str) -> None:
    """In a thread: it may hold many files."""
    import anyio

    from supervisor.runtime import volume_files

    try:
        await anyio.to_thread.run_sync(volume_files.remove, path)
    except RuntimeError:  # no thread can be had (RLIMIT_NPROC, pids.max): it must go anyway
        volume_files.remove(path)


def _now() -> Instant:
    return Instant(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME))


def _key(id: ContainerId) -> tuple[str, str, int]:
    return (id.pod_uid, id.name, id.attempt)


def _close(*fds: int) -> None:
    """Close what there is; -1 stands for none."""
    for fd in fds:
        if fd >= 0:
            os.close(fd)


def _give(pipe: int, spec: LaunchSpec) -> None:
    """To the container's user, who could not open it again as /proc/self/fd/1 otherwise."""
    if spec.uid is None and spec.gid is None:
        return
    uid, gid = (-1 if id is None else id for id in (spec.uid, spec.gid))
    try:
        os.fchown(pipe, uid, gid)
    except OSError:  # an unprivileged node, which cannot have another user's container either
        pass


def _memfd(content: bytes) -> int:
    memfd = os.memfd_create("podvisor-request", os.MFD_CLOEXEC)
    with open(memfd, "wb", closefd=False) as file:
        file.write(content)
    return memfd


def _read_memfd(memfd: int) -> bytes:
    with open(memfd, "rb", closefd=False) as file:
        file.seek(0)
        return file.read()


def _readable(fd: int, patience: float = 0) -> bool:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(patience * 1000))


def _forget_attempts(spec: LaunchSpec) -> None:
    """Before an attempt starts, remove what older ones left, but for the one before it."""
    last = spec.id.attempt - 2
    if last < 0:
        return
    logs = os.path.dirname(spec.log_path)
    own = os.path.dirname(spec.termination_file)
    for folder, names in (
        (logs, r"(\d+)\.(?:log(?:\..*)?|(?:spawn|exit|drained)(?:\.tmp)?|lock-.*)"),
        (os.path.dirname(own), r"(\d+)"),
    ):
        try:
            entries = os.listdir(folder)
        except OSError:
            continue
        for entry in entries:
            match = re.fullmatch(names, entry)
            if match is None or int(match[1]) > last:
                continue
            path = os.path.join(folder, entry)
            try:
                if folder != logs:
                    shutil.rmtree(path)
                elif entry.endswith(".spawn"):
                    # The next one takes its place on the disk if the disk is full by then.
                    os.rename(path, os.path.join(folder, "spare"))
                else:
                    os.unlink(path)
            except OSError:  # the next attempt tries again
                pass


def _encode(text: str) -> bytes:
    """What manifests say is Unicode: the same bytes for the program whatever our own locale is."""
    return text.encode("utf-8", "surrogateescape")


def _decode(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def _exec_result(
    id: ContainerId,
    spec: LaunchSpec | None,
    argv: tuple[str, ...],
    answer: int | tuple[str, int, bytes] | None,
    stopped: bool,
    output: bytes,
) -> ExecResult:
    if isinstance(answer, tuple):
        if answer[0] == "gone":
            raise _not_running(id)
        raise ExecError(_explain(spec, argv, *answer))
    code = _KILLED if answer is None and not stopped else answer
    return ExecResult(code, output)


def _not_running(id: ContainerId) -> ContainerGoneError:
    return ContainerGoneError(f'container "{id.name}" is not running')


def _cannot_create(error: Exception) -> StartError:
    text = f"cannot create the container: {error}"
    return StartError(reasons.CREATE_CONTAINER_ERROR, text, created=False)


def _start_error(
    spec: LaunchSpec, created: bool, stage: str, number: int, detail: bytes
) -> StartError:
    reason = reasons.START_ERROR if created else reasons.CREATE_CONTAINER_ERROR
    text = _explain(spec, spec.argv, stage, number, detail)
    return StartError(reason, text, created=created)


def _explain(
    spec: LaunchSpec | None, argv: tuple[str, ...], stage: str, number: int, detail: bytes
) -> str:
    """Put the launcher's (stage, errno) into the words users know from container runtimes."""
    # The kernel's sentences begin with a capital, Go's do not.
    why = os.strerror(number) if number else ""
    why = why[:1].lower() + why[1:] or _decode(detail)
    program = argv[0] if argv else ""
    path = _decode(detail) or program
    if spec is not None and (shown := veil(program, spec.veiled)) != program:
        program = path = shown
    match stage:
        case "lookup":
            return f'exec: "{program}": executable file not found in $PATH'
        case "size":
            return f"cannot execute {program}: {_decode(detail)}"
        case "interpreter":
            return f'exec: "{path}": the interpreter that its first line names does not exist'
        case "exec" if not number:
            return f"cannot execute {program}: {why}"
        case "exec" if number == errno.ENOENT:
            return f'exec: "{path}": stat {path}: no such file or directory'
        case "exec":
            return f'exec: "{path}": {why}'
        case "cwd" if spec is not None:
            # It may well exist on the host, under what the container has there instead.
            covers = [m.target for m in spec.mounts if spec.cwd.startswith(f"{m.target}/")]
            if covers and number == errno.ENOENT:
                why += f" in what is mounted at {max(covers, key=len)}"
            return f'cannot change to the working directory "{spec.cwd}": {why}'
        case "user" if spec is not None:
            ids = f"user {spec.uid}, group {spec.gid}, supplementary groups {spec.groups}"
            return f"cannot become {ids}: {why}"
        case "mount":
            return f'cannot mount "{path}": {why}' if number else f"cannot mount {why}"
        case "source" if spec is not None:
            source = next((m.source for m in spec.mounts if m.target == path), "")
            return f'cannot mount "{path}": its source "{source}": {why}'
        case "termination" if spec is not None:
            return f'cannot provide terminationMessagePath "{spec.termination_path}": {why}'
        case "proc":
            return f"cannot mount /proc: {why}"
        case "fork":
            return f"cannot create a process: {why}"
        case "join":
            return f"cannot enter the container's namespaces: {why}"
        case "minder":
            return f"cannot execute {program}: the container is ending, or resources are exhausted"
        case "spawned":
            return "the container was started before, and is never started again"
        case "sandbox":
            return "the pid namespace of the pod is gone"
        case "target" if spec is not None and spec.target is not None:
            return f'cannot join container "{spec.target.name}": it is not running'
        case "record":
            return f"cannot write the spawn record: {why}"
        case "killed":
            return f"the process was killed before it executed {program} (exit code {why})"
        case _:
            return f"cannot prepare the container: {why}"
