"""The launcher: parent of all containers. Beside it, forked from it, the logger and the reapers.

This file stands alone. It is run as ``python -I -S`` by `launch.py`, imports only C modules of
the standard library (every other import would be paid for at each ``podvisor run``), has one
thread and one loop, and never blocks on a child, on the supervisor or on a disk.

    supervisor --socket--> launcher --clone--> main process of a container (pid 1 in pidns modes)
                            | | \\---fork----> reaper --fork--> main process (group mode, pods that
                            | |                                share a pid namespace, and who joins
                            | |                                that of another container)
                            | |-----clone---> pause, pid 1 of such a pod
                            | \\----fork----> minder --vfork-> programs run in a container (exec)
                            \\------fork----> logger, reads every log pipe

Why a process of its own: it forks, and only a single-threaded program with little memory can fork
cheaply and safely; it is the parent, so exits are kept by the kernel as zombies until the
supervisor acknowledges them; and it outlives the supervisor: in an ephemeral node just long enough
to leave no orphan (it kills everything and ends when the supervisor closes the socket *or* dies;
the socket alone would not do, since a forked child of the supervisor keeps a copy of it open), in
a durable node until it holds nothing any more, or is told to end. There it listens on a socket,
takes one supervisor at a time, and tells each one all it holds; containers do not end with it
either, and a launcher that comes after a killed one is handed them ("adopt"). It is not their
parent then: their exits come from pidfds, their codes from whoever still knows (`learn_code`).

It decides nothing: no restart, no deadline (but for the wait for the logger), no policy.

Messages are tuples in marshal format 2, one per packet of a SOCK_SEQPACKET socket. To us:
``("start", key, fields or None when they travel in a memfd)``, perhaps with the main's stdin or
with both ends of its terminal, ``("signal", key, signum)``, ``("ack", key)``,
``("bequest", None)`` with a folder of an ephemeral node, in which we remove what is the pods'
should the supervisor die, ``("mind", key)`` with a socket,
``("exec", key, name, limit, request or None)``,
``("end-exec", key, name)``, ``("forget-exec", key, name)``, ``("lend-input", key)``: its stdin ends
with this supervisor, ``("end-input", key)``, ``("adopt", key, fields or None, survivor)`` with
pidfds and the input, ``("sandbox", pod uid, record)``, with a pidfd to take one on,
``("end-sandbox", pod uid)``, ``("end", None)``. From us: ``("hello", version, isolation or None,
trials)``, ``("input", key)`` with the end that its stdin is written to, or its terminal's master,
``("started", key, pid, wall, boot)`` with a pidfd, ``("failed", key, created, stage,
errno, detail)``, ``("exit", key, code or -1, wall, boot, drained, dropped)``, ``("drop", key, wall,
boot, errno)``, ``("execed", key, name, answer, stopped, output or None when it travels in a
memfd)``, ``("sandbox", pod uid)`` with a pidfd, ``("sandbox-failed", pod uid, errno)``,
``("sandbox-lost", pod uid)``, ``("sandbox-ended", pod uid)``. In a durable node the hello is
followed by all we hold, with ``("starting", key)`` and ``("executing", key, name)`` for what has
not ended, and then ``("listed", None)``; who comes while another supervisor is there gets
``("refused", pid)``.

The supervisor talks to a minder directly, through the socket that came with "mind"; in the case of
"exec" we do. To it: a request (argv, additional env), or None when it travels in a memfd, how many
of the program's streams come first (2: stdout, stderr; 3: stdin too, before them; 1: a terminal for
all), and whether a lock comes last that it is to hold; with these descriptors. The end of the
socket ends it and the program. From it: ``"ready"``, ``"running"`` once a program that was given
its stdin or a terminal executes, ``(exit code, whether it stays)``, ``(stage, errno, detail)`` of
what failed, ``"idle"`` when nothing was asked for a while.
"""

import _ctypes
import _posixsubprocess
import _signal  # type: ignore[import-not-found]
import _socket
import errno
import fcntl
import gc
import marshal
import mmap
import posix
import resource
import select
import sys
import time

TYPE_CHECKING = False  # importing typing would double the start-up time
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

VERSION = 6
PIDNS, ROOTLESS, GROUP = "pidns", "pidns-rootless", "group"
MODES = (PIDNS, ROOTLESS, GROUP)

# Our descriptors, as launch.py arranges them. 0 and 1 are /dev/null, 2 is a file. The last only in
# a durable node: the socket to listen on. After it come containers whose user namespace is to be
# joined: any will do, and some may have ended meanwhile.
SOCKET_FD, SUPERVISOR_FD, LOGS_FD, LISTEN_FD = 3, 4, 5, 6

MAX_PACKET = 65536
LINGER = 3.0  # seconds a minder waits for more before it offers to end
DRAIN_CAP = 2.0  # seconds an exit waits for the logger
END_CAP = 2.0  # seconds that our own end waits for containers
REMOVE_CAP = 10.0  # seconds that our own end takes for what a dead supervisor has left
NO_ROOM = 0.05  # seconds until a send is tried again that the socket cannot say when to
NUDGE = 0.2  # seconds between reminders to a reaper whose main has ended
CODE_CAP = 3.0  # seconds that whoever reaps an adopted container may take
PEEK = 0.02  # seconds between two looks for what only /proc or a file can tell
HOME_LOOK = 10.0  # seconds between two looks for the state folder while nobody supervises
KILL_AGAIN = 5.0  # seconds until SIGKILL is sent once more
QUEUE_MAX = 8192  # messages that wait for a supervisor which does not take them
CLOCK_BOOTTIME = 7

# --- what Python does not offer: a few libc functions, without the ctypes package ---------------
# `_ctypes` is the C half of ctypes; importing the Python half costs 5 ms.

CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER = 0x20000, 0x20000000, 0x10000000
CLONE_PIDFD, CLONE_PARENT, SIGCHLD = 0x1000, 0x8000, 17
SYS_CLONE3 = 435  # the same number on every architecture
SYS_CLONE = {"x86_64": 56, "aarch64": 220}.get(posix.uname().machine, -1)
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}.get(posix.uname().machine, -1)
SYS_SIGACTION = {"x86_64": 13, "aarch64": 134}.get(posix.uname().machine, -1)
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_SLAVE = 4096, 16384, 1 << 19
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 1, 4, 15, 36
PF_EXITING = 4  # in /proc/PID/stat
O_PATH = 0o10000000
P_PIDFD = 3
SIGKILL, SIGCONT, SIGSTOP = 9, 18, 19
FIONREAD, F_SETPIPE_SZ = 0x541B, 1031
TIOCSCTTY = 0x540E
PIDFD_GET_INFO, PIDFD_INFO_EXIT = 0xC040FF0B, 8  # Linux 6.13; the exit code since 6.15

_exit = posix._exit  # noqa: SLF001
_LIBC = _ctypes.dlopen(None, 2)  # type: ignore[arg-type]


class _Long(_ctypes._SimpleCData):  # type: ignore[type-arg]  # noqa: SLF001
    _type_ = "l"


class _Int(_ctypes._SimpleCData):  # type: ignore[type-arg]  # noqa: SLF001
    _type_ = "i"


class _IntFunction(_ctypes.CFuncPtr):
    # PYTHONAPI: the GIL stays held, so that a child forked by the call finds it held.
    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_PYTHONAPI | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = _Int


class _LongFunction(_IntFunction):
    _flags_ = _IntFunction._flags_
    _restype_ = _Long  # type: ignore[assignment]


class _HookFunction(_ctypes.CFuncPtr):
    # No USE_ERRNO: these run between a system call and the look at its errno.
    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_PYTHONAPI
    _restype_ = _Int


_syscall = _LongFunction(_ctypes.dlsym(_LIBC, "syscall"))
_mount = _IntFunction(_ctypes.dlsym(_LIBC, "mount"))
_umount2 = _IntFunction(_ctypes.dlsym(_LIBC, "umount2"))
_unshare = _IntFunction(_ctypes.dlsym(_LIBC, "unshare"))
_setns = _IntFunction(_ctypes.dlsym(_LIBC, "setns"))
_prctl = _IntFunction(_ctypes.dlsym(_LIBC, "prctl"))
_tee = _LongFunction(_ctypes.dlsym(_LIBC, "tee"))
_before_fork = _HookFunction(_ctypes.dlsym(_LIBC, "PyOS_BeforeFork"))
_after_fork_parent = _HookFunction(_ctypes.dlsym(_LIBC, "PyOS_AfterFork_Parent"))
_after_fork_child = _HookFunction(_ctypes.dlsym(_LIBC, "PyOS_AfterFork_Child"))


def call(function: "_ctypes.CFuncPtr", *arguments: "int | bytes | None") -> int:
    """Call a libc function; raise OSError when it answers -1."""
    # Wrapped: a bare Python int is passed as a 32-bit C int.
    wrapped = [_Long(a) if isinstance(a, int) else a for a in arguments]
    result: int = function(*wrapped)
    if result == -1:
        number = _ctypes.get_errno()
        raise OSError(number, posix.strerror(number))
    return result


def mount(
    source: "bytes | None", target: bytes, kind: "bytes | None", flags: int, data: bytes = b""
) -> None:
    call(_mount, source, target, kind, flags, data)


_clone3_refused = False


def fork_into(flags: int) -> "tuple[int, int]":
    """fork() into new namespaces, or as a sibling. Returns (pid, pidfd); (0, -1) in the child."""
    global _clone3_refused
    pidfd = _Int(-1)
    address = _ctypes.addressof(pidfd)
    flags |= CLONE_PIDFD
    number, pid = errno.ENOSYS, -1
    _before_fork()
    if not _clone3_refused:
        # A sibling's end is told as ours would be.
        words = (flags, address, 0, 0, 0 if flags & CLONE_PARENT else SIGCHLD, 0, 0, 0)
        arguments = b"".join([word.to_bytes(8, sys.byteorder) for word in words])
        pid = _syscall(_Long(SYS_CLONE3), arguments, _Long(len(arguments)))
        number = _ctypes.get_errno()
    if pid == -1 and number in (errno.ENOSYS, errno.EPERM) and SYS_CLONE > 0:
        # seccomp filters (Docker's among them) cannot look into clone3's struct and refuse it.
        refused = number == errno.ENOSYS
        zero = _Long(0)
        pid = _syscall(_Long(SYS_CLONE), _Long(flags | SIGCHLD), zero, _Long(address), zero, zero)
        number = _ctypes.get_errno()
        if pid != 0:
            _clone3_refused = refused or pid > 0
    if pid == 0:
        _after_fork_child()
        return 0, -1
    _after_fork_parent()
    if pid == -1:
        raise OSError(number, posix.strerror(number))
    return pid, pidfd.value


def boottime() -> float:
    return time.clock_gettime(CLOCK_BOOTTIME)


# --- failpoints: named moments at which a test lets the launcher die or stop ---------------------

# By name and kind: the action, and how often the place is still to be reached.
failpoints: "dict[tuple[str, str], list[Any]]" = {}
_failpoints_log = b""


def arm_failpoints(text: str, log: bytes = b"") -> None:
    """``name[@kind]=action[:nth],…`` as in kubelet/failpoints.py, which has the story."""
    global _failpoints_log
    _failpoints_log = log
    for word in text.split(","):
        place, _, what = word.partition("=")
        name, _, kind = place.partition("@")
        action, _, nth = what.partition(":")
        if action:
            failpoints[name, kind] = [action, int(nth or 1)]


def pass_failpoint(name: str, kind: str) -> None:
    for place in ((name, ""), (name, kind)):
        entry = failpoints.get(place)
        if entry is None:
            continue
        entry[1] -= 1
        if entry[1] == 0:
            fail(*place, entry[0])


def fail(name: str, kind: str, action: str) -> None:
    if _failpoints_log:
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND | posix.O_CLOEXEC
        fd = posix.open(_failpoints_log, flags, 0o644)
        posix.write(fd, f"{name} {kind or '-'} {action} {posix.getpid()}\n".encode())
        posix.close(fd)
    if action == "kill":
        posix.kill(posix.getpid(), SIGKILL)
    elif action == "stop":
        posix.kill(posix.getpid(), SIGSTOP)
    else:
        time.sleep(int(action) / 1000)


def close_all_but(keep: "set[int]") -> None:
    """In a forked child: drop the launcher's other business.

    Otherwise this process would hold ends of pipes whose closing somebody waits for.
    """
    low = 3
    for fd in sorted(keep):
        if fd >= 3:
            posix.closerange(low, fd)
            low = fd + 1
    posix.closerange(low, 0x7FFFFFFF)


def close(*fds: int) -> None:
    for fd in fds:
        if fd >= 0:
            posix.close(fd)


def set_process_name(name: bytes) -> None:
    call(_prctl, PR_SET_NAME, name)


class Channel:
    """One end of a SOCK_SEQPACKET pair that never blocks.

    What the peer does not take waits in a queue; a peer that is stopped stops nobody else.
    """

    def __init__(self, fd: int) -> None:
        self.socket = _socket.socket(
            _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC, 0, fd
        )
        self.socket.setblocking(False)
        self.fd = fd
        self.queue: list[tuple[bytes, tuple[int, ...]]] = []
        self.broken = False
        self.no_room = False  # what is queued waits for memory, not for the peer

    def send(self, message: "tuple[Any, ...] | str", *fds: int) -> None:
        self.queue.append((marshal.dumps(message, 2), fds))
        if len(self.queue) == 1:
            self.flush()

    def flush(self) -> None:
        while self.queue and not self.broken:
            packet, fds = self.queue[0]
            rights = b"".join([fd.to_bytes(4, sys.byteorder) for fd in fds])
            ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)] if fds else []
            try:
                self.socket.sendmsg([packet], ancillary)
            except OSError as error:
                # ETOOMANYREFS: too many descriptors of this user are in flight; they will land.
                # But the socket calls itself writable meanwhile: that is nothing to wait for.
                self.no_room = error.errno != errno.EAGAIN
                if error.errno in (errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS):
                    return
                self.broken = True  # the peer is gone; reading will say so
                return
            del self.queue[0]

    def events(self) -> int:
        """What to wait for."""
        waits = self.queue and not self.broken and not self.no_room
        return select.EPOLLIN | (select.EPOLLOUT if waits else 0)

    def receive(self) -> "tuple[bytes, list[int], bool] | None":
        """One packet, its descriptors, whether some were lost; None when there is none now.

        An empty packet means that the peer is gone.
        """
        try:
            packet, ancillary, flags, _ = self.socket.recvmsg(
                MAX_PACKET, _socket.CMSG_SPACE(16), _socket.MSG_CMSG_CLOEXEC
            )
        except OSError as error:
            return None if error.errno == errno.EAGAIN else (b"", [], False)
        fds = [
            int.from_bytes(data[i : i + 4], sys.byteorder)
            for level, kind, data in ancillary
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS)
            for i in range(0, len(data) - 3, 4)
        ]
        return packet, fds, bool(flags & _socket.MSG_CTRUNC)


# --- in the child: from the fork to the program -------------------------------------------------


class Order:
    """What the supervisor asked for, one instance of a container. All text is bytes."""

    __slots__ = (
        "argv", "cwd", "env", "farewell", "gid", "groups", "log", "memory_dir", "mounts", "record",
        "shares", "state_dir", "stdin", "stdin_once", "target", "termination_file",
        "termination_path", "tty", "uid",
    )  # fmt: skip

    argv: "list[bytes]"
    env: "list[tuple[bytes, bytes]]"
    cwd: bytes
    log: bytes
    memory_dir: bytes  # of the node; holds volumes; empty: there is none
    mounts: "list[tuple[bytes, bytes, bool]]"  # source on the host, target, whether read-only
    record: bytes  # where the spawn record goes
    shares: bool  # the pid namespace of its pod, where there are namespaces
    state_dir: bytes  # of the node; holds the termination file
    target: object  # the key of whose pid namespace it joins, where there are namespaces; or None
    termination_path: bytes
    termination_file: bytes
    uid: "int | None"
    gid: "int | None"
    groups: "list[int] | None"
    farewell: "tuple[int, int]"  # signal and seconds of grace where nobody finds us any more
    stdin: bool  # has one that somebody may write to
    stdin_once: bool  # and it ends when they say so
    tty: bool  # has a terminal for all three

    def __init__(self, fields: "dict[str, object]") -> None:
        for name in self.__slots__:
            setattr(self, name, fields[name])


class CannotStartError(Exception):
    def __init__(self, stage: str, number: int, detail: bytes = b"") -> None:
        self.stage, self.number, self.detail = stage, number, detail


DEFAULT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def look_up(program: bytes, path: bytes) -> bytes:
    """Find a program as the kubelet's runtimes do; the current directory is already set."""
    if b"/" in program:
        return program
    for directory in path.split(b":") if program else ():
        candidate = (directory or b".") + b"/" + program
        try:
            regular = posix.stat(candidate).st_mode & 0o170000 == 0o100000
        except OSError:
            continue
        if regular and posix.access(candidate, posix.X_OK):
            return candidate
    raise CannotStartError("lookup", errno.ENOENT)


def execute(argv: "list[bytes]", env: "dict[bytes, bytes]") -> None:
    program = look_up(argv[0], env.get(b"PATH", DEFAULT_PATH))
    try:
        posix.execve(program, argv, env)
    except OSError as error:
        raise cannot_execute(error.errno or 0, program, argv, env) from None


def cannot_execute(
    number: int, program: bytes, argv: "list[bytes]", env: "dict[bytes, bytes]"
) -> CannotStartError:
    if number == errno.E2BIG:
        return CannotStartError("size", number, measure(argv, env))
    if number == errno.ENOENT and program and posix.access(program, posix.F_OK):
        return CannotStartError("interpreter", number, program)
    return CannotStartError("exec", number, program)


def measure(argv: "list[bytes]", env: "dict[bytes, bytes]") -> bytes:
    """Why the kernel answered E2BIG: one string over 32 pages, or all over their sum."""
    limit = 32 * resource.getpagesize() - 1
    strings = [(b"argument %d" % i, len(a)) for i, a in enumerate(argv)]
    strings += [
        (b"environment variable " + name, len(name) + 1 + len(value)) for name, value in env.items()
    ]
    name, size = max(strings, key=lambda pair: pair[1])
    if size > limit:
        return b"%s is %d bytes long, the kernel takes at most %d" % (name, size, limit)
    total = sum([size + 1 + 8 for _, size in strings])
    stack = resource.getrlimit(resource.RLIMIT_STACK)[0]
    most = 6 << 20 if stack < 0 else min(6 << 20, stack // 4)
    return b"arguments and environment together are %d bytes, the kernel takes at most %d" % (
        total,
        max(most, 131072),
    )


class Origin:
    """How we were started: what containers get back although the launcher changed it."""

    def __init__(self, soft_files: int, durable: bool) -> None:
        self.durable = durable  # containers outlive us and the supervisor
        # Descriptors and logs must not fail on limits meant for programs. The supervisor has
        # raised its own limit of descriptors, which we inherited, and says what it was.
        self.limits = []
        for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE):
            soft, hard = resource.getrlimit(kind)
            original = soft_files if kind == resource.RLIMIT_NOFILE else soft
            self.limits.append((kind, original, hard))
            try:
                resource.setrlimit(kind, (hard, hard))
            except (OSError, ValueError):  # a hard limit above fs.nr_open
                pass
        ignore = [1, 2, 3, 10, 12, 13, 14, 15, 20, 21, 22]  # HUP INT QUIT USR* PIPE ALRM TERM T*
        for number in ignore:
            _signal.signal(number, _signal.SIG_IGN)
        self.not_default = [
            number
            for number in _signal.valid_signals()
            if number not in (SIGKILL, SIGSTOP) and _signal.getsignal(number) != _signal.SIG_DFL
        ]
        _signal.pthread_sigmask(_signal.SIG_SETMASK, [])
        for number in (32, 33):  # glibc's own; its posix_spawn leaves them ignored
            _syscall(_Long(SYS_SIGACTION), _Long(number), b"\0" * 32, _Long(0), _Long(8))
        posix.umask(0o077)

    def restore(self) -> None:
        for number in self.not_default:  # SIGPIPE and SIGXFSZ too, which Python ignores
            _signal.signal(number, _signal.SIG_DFL)
        for kind, soft, hard in self.limits:
            resource.setrlimit(kind, (soft, hard))
        posix.umask(0o022)


def run_main(
    order: Order,
    isolation: str,
    origin: Origin,
    streams: "list[int]",
    status: int,
    release: int,
) -> None:
    """The forked child becomes the container's main process. Never returns.

    What goes wrong is written to `status`, which the kernel closes when the program is executed.
    """
    stage = "setup"
    try:
        close_all_but({*streams, status, release})
        posix.setsid()
        if order.tty:
            fcntl.ioctl(streams[0], TIOCSCTTY, 0)
        if isolation != GROUP:
            stage = "mount"
            arrange(order)
            stage = "proc"
            mount(b"proc", b"/proc", b"proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
        stage = "setup"
        for number, fd in enumerate(streams):
            posix.dup2(fd, number)
        env = environment(order, isolation, posix.getpid())
        origin.restore()
        stage = "user"
        take_ids(order)
        stage = "setup"
        # After the change of ids, which clears it. The launcher's death kills the main and with
        # it the container; a death before this line is seen as the end of `release`. Not in a
        # durable node, where containers outlive the launcher; nor does a reaper's death kill the
        # main there, for what is below it can be found only while it lives.
        if not origin.durable:
            call(_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
        if posix.read(release, 1) != b"r":
            _exit(137)  # never a success: nothing was run
        stage = "cwd"
        posix.chdir(order.cwd)
        stage = "exec"
        execute(order.argv, env)
    except BaseException as error:
        report(status, stage, error)
    finally:
        _exit(127)


def environment(order: Order, isolation: str, main: int) -> "dict[bytes, bytes]":
    env = dict(order.env)
    if isolation == GROUP:
        env[b"PODVISOR_TERMINATION_LOG"] = order.termination_file
        env[b"PODVISOR_MAIN_PID"] = b"%d" % main
    return env


def report(fd: int, stage: str, error: BaseException) -> None:
    """Tell a pipe or socket, in which there is room, what went wrong."""
    number, detail = 0, b""
    if isinstance(error, CannotStartError):
        stage, number, detail = error.stage, error.number, error.detail
    elif isinstance(error, OSError):
        number = error.errno or 0
    else:
        detail = repr(error).encode("utf-8", "replace")
    try:
        posix.write(fd, marshal.dumps((stage, number, detail[:2000]), 2))
    except OSError:  # nobody listens any more
        pass


def take_ids(order: Order) -> None:
    # Rootless, setgroups is denied whatever the list: ask only for what is not so already.
    if order.groups is not None and sorted(order.groups) != sorted(posix.getgroups()):
        posix.setgroups(order.groups)
    if order.gid is not None and posix.getresgid() != (order.gid,) * 3:
        posix.setresgid(order.gid, order.gid, order.gid)
    if order.uid is not None and posix.getresuid() != (order.uid,) * 3:
        posix.setresuid(order.uid, order.uid, order.uid)


# --- what appears in a container but not on the host ---------------------------------------------


def arrange(order: Order) -> None:
    """In the container's own mount namespace: put everything where its programs look for it."""
    posix.umask(0o022)
    view = View(order.state_dir, order.memory_dir)
    target, stage = order.termination_path, "mount"
    try:
        # First: once the root is another one, what was opened before cannot be bound any more.
        for target in [target for _, target, _ in order.mounts] + [order.termination_path]:
            if starts_at_root(target):
                view.replace_root(parent(order.termination_file))
                break
        # All at once: a mount may hide where the next one comes from.
        stage, sources = "source", []
        for wanted in order.mounts:
            target = wanted[1]
            sources.append(posix.open(wanted[0], O_PATH | posix.O_CLOEXEC))
        message = posix.open(order.termination_file, O_PATH | posix.O_CLOEXEC)
        stage = "mount"
        for handle, (source, target, read_only) in zip(sources, order.mounts, strict=True):
            view.bind(handle, source, target, read_only)
        # After them, so that it is found where a volume is.
        stage, target = "termination", order.termination_path
        view.bind(message, order.termination_file, target, False, is_new=True)
        # Until now mount points may have been made there.
        stage = "mount"
        while view.unsealed:
            target = view.unsealed[0]
            view.seal(target)
        close(message, *sources)
    except OSError as error:
        raise CannotStartError(stage, error.errno or 0, target) from None
    except RefusedError as error:
        words = error.words if stage == "termination" else b'"%s": %s' % (target, error.words)
        raise CannotStartError(stage, 0, words) from None


class RefusedError(Exception):
    def __init__(self, words: bytes) -> None:
        self.words = words


class View:
    """What one container sees of the host's files, while it is put together.

    A mount point must exist, and making one on the host is what must not happen: so the nearest
    existing directory is covered, in this container's mount namespace only, by a tmpfs into which
    all its entries are bound back. New files directly in that directory then are the container's
    own, as they would be in an image. But in a volume the mount point is made as container
    runtimes make it, in the volume: covered, it would lose what the container writes there.
    """

    def __init__(self, *folders: bytes) -> None:
        self.folders = tuple([folder + b"/" for folder in folders if folder])  # of the node
        self.own: set[int] = set()  # devices of the tmpfs mounts that we made
        # By where they are, without links: whether read-only, whether mount points may be made.
        self.volumes: dict[bytes, tuple[bool, bool]] = {}
        self.unsealed: list[bytes] = []  # what is to be read-only and is not yet
        self.binds = 0

    def replace_root(self, place: bytes) -> None:
        """A directory that is missing in "/", which cannot be covered: build a new root aside."""
        entries = self.list_entries(b"/")
        mount_tmpfs(place, posix.stat(b"/"))
        bind_entries(b"", place, entries)
        switch_root(place)
        self.own.add(posix.stat(b"/").st_dev)

    def bind(
        self, source: int, path: bytes, target: bytes, read_only: bool, is_new: bool = False
    ) -> None:
        """Bind what `source` is a handle on (it was opened by `path`) to the target.

        `is_new`: the target is no more than a file that the container is to find.
        """
        self.count(1, target)
        is_folder = posix.fstat(source).st_mode & 0o170000 == 0o040000
        handle, place, missing = find(target)
        if not place and not missing:
            raise RefusedError(b"nothing can be mounted over the root directory")
        spot = handle
        if missing:
            spot, place = self.provide(handle, place, missing, is_folder)
        else:
            kind = posix.fstat(handle).st_mode & 0o170000
            if is_folder != (kind == 0o040000):
                raise OSError(errno.ENOTDIR if is_folder else errno.EISDIR, "")
            if is_new and kind != 0o100000:
                raise RefusedError(b"there is something else")
        mount(fd_path(source), fd_path(spot), None, MS_BIND | MS_REC)
        close(*{handle, spot})
        # The kubelet's own volumes get mount points even when the container may not write.
        makes = not read_only or path.startswith(self.folders)
        self.volumes[place] = read_only, makes
        if read_only:
            self.unsealed.append(place)
            if not makes:
                self.seal(place)

    def provide(
        self, handle: int, place: bytes, missing: "list[bytes]", is_folder: bool
    ) -> "tuple[int, bytes]":
        """Make a mount point below a directory, given by handle and path; return the same of it.

        The handle that was given stays open.
        """
        path = b"/".join((place, *missing))
        if posix.fstat(handle).st_dev not in self.own:
            volume = self.volume_of(place)
            read_only, makes = self.volumes.get(volume, (False, False))
            if makes:
                try:
                    return create(handle, missing, is_folder), path
                except OSError as error:
                    if read_only or error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                        raise
            if not place or place == b"/sys" or place.startswith(b"/sys/"):
                raise FileNotFoundError(errno.ENOENT, "")
            # What is bound back from a read-only volume is so already.
            self.own.add(cover(place, self.list_entries(place)))
            if read_only:
                self.unsealed.append(place)
            handle, _, missing = find(path)
            made = create(handle, missing, is_folder)
            posix.close(handle)
            return made, path
        return create(handle, missing, is_folder), path

    def volume_of(self, place: bytes) -> bytes:
        inside = [v for v in self.volumes if place == v or place.startswith(v + b"/")]
        return max(inside, key=len, default=b"")

    def list_entries(self, directory: bytes) -> "list[bytes]":
        entries = posix.listdir(directory)
        self.count(len(entries), directory)
        return entries

    def count(self, binds: int, where: bytes) -> None:
        self.binds += binds
        if self.binds > MAX_BINDS:
            raise RefusedError(b"with %s there are more than %d mounts" % (where, MAX_BINDS))

    def seal(self, place: bytes) -> None:
        """Make the mount at that place read-only."""
        handle, _, _ = find(place)
        # What came with the mount is locked in a user namespace: leaving it out would be EPERM.
        # How access times are kept stays as it is when nothing is said about it.
        kept = posix.fstatvfs(handle).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC)
        flags = MS_BIND | MS_REMOUNT | MS_RDONLY | kept
        mount(None, fd_path(handle), None, flags)
        posix.close(handle)
        self.unsealed.remove(place)


def starts_at_root(target: bytes) -> bool:
    """Whether the very first directory of a path is missing."""
    try:
        handle, place, missing = find(target)
    except (OSError, RefusedError):  # it will be said when its turn comes
        return False
    posix.close(handle)
    return bool(missing) and not place


def find(target: bytes) -> "tuple[int, bytes, list[bytes]]":
    """Follow a path, its links too, as the container's programs will.

    Returns a handle on the last that exists, its path without links ("" for the root), and what
    is missing below it. By handles: what a volume's other users exchange meanwhile leads nowhere.
    """
    todo = target.split(b"/")[::-1]
    if todo.pop() or b".." in todo:
        raise RefusedError(b"the path must be absolute and free of '..'")
    handle, place, links = posix.open(b"/", O_PATH | posix.O_CLOEXEC), b"", 0
    while todo:
        name = todo.pop()
        if name in (b"", b"."):
            continue
        try:
            found = posix.open(name, O_PATH | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=handle)
        except FileNotFoundError:
            missing = [c for c in (name, *todo[::-1]) if c not in (b"", b".")]
            if b".." in missing:  # of a link that leads nowhere
                raise
            return handle, place, missing
        if posix.fstat(found).st_mode & 0o170000 == 0o120000:
            posix.close(found)
            links += 1
            if links > 40:
                raise OSError(errno.ELOOP, "")
            link = posix.readlink(name, dir_fd=handle)
            todo += link.split(b"/")[::-1]
            if not link.startswith(b"/"):
                continue
            found, place = posix.open(b"/", O_PATH | posix.O_CLOEXEC), b""
        elif name == b"..":
            place = place[: place.rfind(b"/")] if place else b""
        else:
            place += b"/" + name
            if place == b"/proc":
                raise RefusedError(b"nothing can be mounted in /proc")
        posix.close(handle)
        handle = found
    return handle, place, []


def create(handle: int, missing: "list[bytes]", is_folder: bool) -> int:
    """Make a path below the directory that `handle` is for; return a handle on its end."""
    below = handle
    for number, name in enumerate(missing, 1):
        if number < len(missing) or is_folder:
            try:
                posix.mkdir(name, 0o755, dir_fd=below)
            except FileExistsError:
                pass
        else:
            flags = posix.O_CREAT | posix.O_WRONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC
            posix.close(posix.open(name, flags, 0o644, dir_fd=below))
        made = posix.open(name, O_PATH | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=below)
        if below != handle:
            posix.close(below)
        below = made
    return below


def fd_path(fd: int) -> bytes:
    return b"/proc/self/fd/%d" % fd


def parent(path: bytes) -> bytes:
    return path[: path.rfind(b"/")] or b"/"


def touch(path: bytes, mode: int) -> None:
    fd = posix.open(path, posix.O_CREAT | posix.O_WRONLY | posix.O_CLOEXEC, mode)
    posix.fchmod(fd, mode)
    posix.close(fd)


MAX_BINDS = 4096  # far below fs.mount-max, the kernel's limit for one mount namespace


def cover(directory: bytes, entries: "list[bytes]") -> int:
    """Put a tmpfs over `directory` and bind the entries back; return the device of the tmpfs."""
    old = posix.open(directory, O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        mount_tmpfs(directory, posix.fstat(old))
        # The magic link leads to the covered directory, with all that is mounted below it.
        bind_entries(fd_path(old), directory, entries)
    finally:
        posix.close(old)
    return posix.stat(directory).st_dev


def switch_root(new: bytes) -> None:
    posix.chdir(new)
    call(_syscall, SYS_PIVOT_ROOT, b".", b".")  # the old root comes to lie over the new one
    call(_umount2, b".", MNT_DETACH)
    posix.chdir(b"/")
    try:  # the new root was bound back too, along with the directory it was built in
        call(_umount2, new, MNT_DETACH)
    except OSError:
        pass


def mount_tmpfs(target: bytes, like: posix.stat_result) -> None:
    mount(b"podvisor", target, b"tmpfs", MS_NOSUID, b"mode=%o" % (like.st_mode & 0o7777))
    try:
        posix.chown(target, like.st_uid, like.st_gid)
    except OSError:  # rootless: an owner outside of the namespace
        pass


def bind_entries(old: bytes, new: bytes, entries: "list[bytes]") -> None:
    for name in entries:
        source, target = old + b"/" + name, new + b"/" + name
        try:
            status = posix.lstat(source)
        except OSError:  # gone since the listing
            continue
        kind = status.st_mode & 0o170000
        if kind == 0o120000:
            posix.symlink(posix.readlink(source), target)
        elif kind == 0o040000:
            posix.mkdir(target)
            mount(source, target, None, MS_BIND | MS_REC)
        elif kind in (0o020000, 0o060000):
            provide_device(source, target, status)
        else:
            touch(target, 0o600)
            mount(source, target, None, MS_BIND)


def provide_device(source: bytes, target: bytes, status: posix.stat_result) -> None:
    """A copy of the node where we may make one: each mount is copied for every container."""
    try:
        acl = posix.listxattr(source)
    except OSError:
        acl = []
    if not acl:
        try:
            posix.mknod(target, status.st_mode, status.st_rdev)
            posix.chmod(target, status.st_mode & 0o7777)
            posix.chown(target, status.st_uid, status.st_gid)
            return
        except OSError:  # in a user namespace, or a device cgroup forbids it
            pass
        try:
            posix.unlink(target)
        except OSError:
            pass
        if not posix.access(source, posix.R_OK) and not posix.access(source, posix.W_OK):
            return  # nobody in here may open it
    if target.endswith(b"/ptmx"):
        # The kernel looks for "pts" beside the multiplexer, and sees nothing beside a bind of
        # the multiplexer alone: bind all that it stands in.
        aside = parent(target) + b"/.podvisor"
        posix.mkdir(aside, 0o755)
        mount(parent(source), aside, None, MS_BIND | MS_REC)
        call(_umount2, aside, MNT_DETACH)  # the cover, bound along with what it covers
        posix.symlink(b".podvisor/ptmx", target)
        return
    touch(target, 0o600)
    mount(source, target, None, MS_BIND)


TERMINATION_LOG = b"/dev/termination-log"


def prepare_dev() -> None:
    """Give the launcher's own mount namespace a /dev with a place for the default message file.

    Containers start with a copy of that namespace, so each needs one bind only.
    """
    try:
        if posix.lstat(TERMINATION_LOG).st_mode & 0o170000 == 0o100000:
            return
    except OSError:
        pass
    cover(b"/dev", posix.listdir(b"/dev"))
    touch(TERMINATION_LOG, 0o600)


# --- a pod whose containers share a pid namespace ------------------------------------------------

PAUSE = b"""
import _signal, posix
comm = posix.open("/proc/self/comm", posix.O_WRONLY)
posix.write(comm, b"pause")
posix.close(comm)
while True:
    _signal.pause()
"""


def run_pause(durable: bool, status: int, release: int) -> None:
    """Become pid 1 of a pod's pid namespace, which ends with it. Never returns.

    It executes something, because our memory holds what is not for the pod. What nobody else reaps
    there, the kernel reaps for it; no signal from inside reaches it.
    """
    try:
        close_all_but({status, release})
        posix.setsid()
        posix.dup2(1, 2)
        _signal.set_wakeup_fd(-1)
        _signal.signal(SIGCHLD, _signal.SIG_IGN)
        if not durable:
            call(_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
        if posix.read(release, 1) == b"r":
            python = sys.executable.encode(sys.getfilesystemencoding(), "surrogateescape")
            posix.execve(python, [python, b"-I", b"-S", b"-c", PAUSE], dict(posix.environ))
    except BaseException as error:
        report(status, "pause", error)
    finally:
        _exit(127)


def fork_beside(pidfd: int, answer: int) -> bool:
    """In a child of the launcher: fork a sibling into that pid namespace; True there."""
    said = (0, errno.ENOMEM)
    try:
        # Others in there may have our user, and must not look into our memory's copy.
        call(_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0)
        call(_setns, pidfd, CLONE_NEWPID)
        pid, _ = fork_into(CLONE_PARENT | CLONE_NEWNS)
        if pid == 0:
            return True
        said = (pid, 0)
    except BaseException as error:
        number = error.errno if isinstance(error, OSError) else 0
        said = (0, number or errno.EIO)
    posix.write(answer, marshal.dumps(said, 2))
    return False


def mount_namespace(pid: int) -> "tuple[int, int] | None":
    """Which one a process is in; None when it is gone, or nobody may know."""
    try:
        status = posix.stat(b"/proc/%d/ns/mnt" % pid)
    except OSError:
        return None
    return status.st_dev, status.st_ino


# --- a reaper per container: in group mode, and where a pid namespace is shared ------------------


def run_reaper(
    order: Order,
    isolation: str,
    origin: Origin,
    control: int,
    streams: "list[int]",
    status: int,
) -> None:
    """Parent of one main process that is not pid 1 of a namespace. Never returns.

    It is a sub-reaper: whatever the container forks, daemonises or puts into another session
    stays below it, and below nobody else, so it can be found and ended when the main process
    ends. Its exit code is the main's. It ends the container when the launcher dies; in a durable
    node it goes on then, and leaves the exit code in a file for the next launcher.
    """
    try:
        close_all_but({control, *streams, status})
        set_process_name(b"podvisor-reaper")
        call(_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        # The container may have stopped us by the time that the launcher dies.
        call(_prctl, PR_SET_PDEATHSIG, SIGCONT, 0, 0, 0)
        release, release_write = posix.pipe2(posix.O_CLOEXEC)
        stage = "proc"
        try:
            if isolation != GROUP:  # we see, and look for, what is in our pid namespace
                mount(b"proc", b"/proc", b"proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
            stage = "fork"
            main, pidfd = fork_into(0 if isolation == GROUP else CLONE_NEWNS)
        except OSError as error:
            report(status, stage, error)
            _exit(127)
        if main == 0:
            run_main(order, isolation, origin, streams, status, release)
        close(*streams, status, release)
        wake, wake_write = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
        _signal.signal(SIGCHLD, lambda *_: None)
        _signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        # Until the answer the main is not reaped, even if dead: its pid means nobody else.
        while True:
            try:
                send_fd(control, pidfd)
                break
            except OSError as error:  # too many descriptors of this user are in flight
                if error.errno not in (errno.ETOOMANYREFS, errno.ENOBUFS):
                    raise
            time.sleep(NO_ROOM)
        released = False
        if posix.read(control, 1) == b"g":
            try:
                posix.write(release_write, b"r")
                released = True
            except OSError:  # it failed before it waited
                pass
        posix.close(release_write)
        channel = Channel(control)
        poller = select.poll()
        poller.register(control, select.POLLIN)
        poller.register(wake, select.POLLIN)
        while True:
            dead = reap()
            if main in dead:
                code = dead[main]
                break
            ready = [fd for fd, _ in poller.poll()]
            if wake in ready:
                posix.read(wake, 4096)
            if control in ready and not fork_minders(
                channel, order, isolation, origin, main, pidfd
            ):
                if not origin.durable:
                    code = 137  # the launcher is gone
                    break
                poller.unregister(control)
        sweep(lambda: pause(wake))
        if origin.durable and released:
            try:
                replace_file(beside(order.record, b"exit"), b"%d\n" % code)
            except OSError:  # the launcher knows it from us, if it lives
                pass
        _exit(code)
    finally:
        _exit(137)


def fork_minders(
    channel: Channel, order: Order, isolation: str, origin: Origin, main: int, pidfd: int
) -> bool:
    """As many as a reaper was asked for; False when nobody is there to ask."""
    while (received := channel.receive()) is not None:
        packet, fds, _ = received
        if not packet:
            return False
        for fd in fds:
            try:
                pid = posix.fork()
            except OSError as error:
                report(fd, "fork", error)
            else:
                if pid == 0:
                    try:
                        if isolation != GROUP:
                            call(_setns, pidfd, CLONE_NEWNS)
                    except OSError as error:
                        report(fd, "gone" if error.errno == errno.ESRCH else "join", error)
                        _exit(0)
                    run_minder(order, isolation, origin, main, fd)
            posix.close(fd)
    return True


def send_fd(control: int, fd: int) -> None:
    """By a socket that has a number only."""
    channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, control)
    try:
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fd.to_bytes(4, sys.byteorder))
        channel.sendmsg([b"m"], [rights], _socket.MSG_DONTWAIT)
    finally:
        channel.detach()


def take_fd(control: int) -> int:
    """The descriptor that came; -1 at the end of the socket. Raises OSError, if it was lost."""
    channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, control)
    try:
        packet, ancillary, _, _ = channel.recvmsg(
            64, _socket.CMSG_SPACE(4), _socket.MSG_DONTWAIT | _socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionResetError:
        return -1
    finally:
        channel.detach()
    if packet and not ancillary:
        raise OSError(errno.EMFILE, "")
    return int.from_bytes(ancillary[0][2][:4], sys.byteorder) if packet else -1


def pause(wake: int) -> None:
    poller = select.poll()
    poller.register(wake, select.POLLIN)
    if poller.poll(20):
        posix.read(wake, 4096)


def reap() -> "dict[int, int]":
    """Reap every dead child; return their exit codes."""
    dead: dict[int, int] = {}
    while True:
        try:
            pid, status = posix.waitpid(-1, posix.WNOHANG)
        except ChildProcessError:
            return dead
        if pid == 0:
            return dead
        dead[pid] = shell_code(status)


def shell_code(status: int) -> int:
    code = posix.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def sweep(pause: "Callable[[], None]") -> None:
    """End all descendants. Stops them first, until no new one is found: a process that forks as
    fast as we kill would otherwise win."""
    give_up = boottime() + 5.0
    while True:
        stopped: set[int] = set()
        hopeless: set[int] = set()
        while freeze(posix.getpid(), stopped):
            # Their pids may mean others from here on. Kept, they would slow down the walk until
            # a chain of short-lived processes is never caught up with.
            stopped.difference_update(reap())
        for pid in stopped:
            if not send(pid, SIGKILL):
                hopeless.add(pid)
        if not stopped:
            # Walks miss who moves; without a child there is nobody, for orphans become children.
            reap()
            if not has_children() or boottime() > give_up:
                return
            pause()
            continue
        # A set-uid program of another user cannot be killed without privileges.
        if stopped == hopeless and boottime() > give_up:
            return
        deadline = boottime() + 0.05
        while boottime() < deadline:
            reap()
            if not has_children():
                return
            pause()


def freeze(root: int, stopped: "set[int]") -> bool:
    """Stop all descendants, each when it is found and before its children are looked for.

    True when there was one that is not in `stopped` yet.
    """
    found: set[int] = set()
    todo = [root]
    while todo:
        for child in children(todo.pop()):
            if child not in found:
                found.add(child)
                if child not in stopped:
                    send(child, SIGSTOP)
                todo.append(child)
    new = not found <= stopped
    stopped |= found
    return new


def end_tree(root: int) -> None:
    """End a process, which must not be reaped meanwhile, and all that is below it."""
    send(root, SIGSTOP)
    stopped = {root}
    while freeze(root, stopped):
        pass
    for pid in stopped:
        send(pid, SIGKILL)


def has_children() -> bool:
    try:
        posix.waitid(posix.P_ALL, 0, posix.WEXITED | posix.WNOHANG | posix.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def send(pid: int, signum: int) -> bool:
    """False when the process may not be signalled."""
    try:
        posix.kill(pid, signum)
    except PermissionError:
        return False
    except ProcessLookupError:
        pass
    return True


def descendants(root: int) -> "set[int]":
    found: set[int] = set()
    todo = [root]
    while todo:
        for child in children(todo.pop()):
            if child not in found:
                found.add(child)
                todo.append(child)
    return found


def children(pid: int) -> "list[int]":
    result: list[int] = []
    try:
        for thread in posix.listdir(f"/proc/{pid}/task"):
            fd = posix.open(f"/proc/{pid}/task/{thread}/children", posix.O_RDONLY)
            try:
                while part := posix.read(fd, 65536):
                    text = part
                    while len(part) == 65536 and not text.endswith(b" "):
                        part = posix.read(fd, 1)
                        text += part
                    result += [int(word) for word in text.split()]
            finally:
                posix.close(fd)
    except (FileNotFoundError, ProcessLookupError):  # it ended while we looked
        pass
    return result


# --- programs run in a container that is there already ------------------------------------------


def join(
    order: Order, isolation: str, origin: Origin, main: int, pidfd: int, fd: int, tidy: bool
) -> int:
    """In a forked child of the launcher: leave a minder in the container's namespaces.

    It becomes our sibling, so that the launcher is its parent. Returns its pid, 0 if there is none.
    """
    try:
        call(_setns, pidfd, CLONE_NEWPID | CLONE_NEWNS)
        minder, _ = fork_into(CLONE_PARENT)
    except OSError as error:
        report(fd, "gone" if error.errno == errno.ESRCH else "join", error)
        return 0
    if minder == 0:
        run_minder(order, isolation, origin, main, fd, tidy)
    return minder


def run_minder(
    order: Order, isolation: str, origin: Origin, main: int, fd: int, tidy: bool = False
) -> None:
    """Parent of programs that are run in a container, one at a time. Never returns.

    It is a process of the container (its pid and mount namespaces, where there are such, its user,
    its directory) and a sub-reaper: whatever the program starts, daemonises or puts into another
    session stays below it, so all of it can be ended in time. A program that ends by itself may
    leave others behind: these go on to the container's main process, as in a cluster, because the
    minder then ends too. It stays for more only when it has no children left; forking it costs
    several times what the vfork of a program does. `tidy`: nothing may be left behind, because
    there is no reaper above us to which it would go.
    """
    boss = posix.getppid()  # 0 when it is outside of our pid namespace
    stage = "setup"
    try:
        _signal.set_wakeup_fd(-1)
        close_all_but({fd})
        set_process_name(b"podvisor-exec")
        posix.setsid()
        origin.restore()
        # Programs that signal everybody they can (kill -1) do not mean us. Not ignored: that
        # would be inherited.
        wake, wake_write = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
        for number in {SIGCHLD, *origin.not_default}:
            _signal.signal(number, lambda *_: None)
        _signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        stage = "user"
        take_ids(order)
        stage = "setup"
        # Our memory still holds other containers' environments: not for this one's processes.
        call(_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0)
        call(_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        call(_prctl, PR_SET_PDEATHSIG, 10, 0, 0, 0)  # SIGUSR1: to wake up and see
        env = environment(order, isolation, main)
        Minder(Channel(fd), order, env, tidy).run(boss, wake)
    except BaseException as error:
        report(fd, stage, error)
    finally:
        _exit(127)


class Minder:
    def __init__(
        self, channel: Channel, order: Order, env: "dict[bytes, bytes]", tidy: bool
    ) -> None:
        self.channel, self.order, self.env, self.tidy = channel, order, env, tidy
        self.words = [name + b"=" + value for name, value in env.items()]
        self.program = 0
        self.lock = -1

    def run(self, boss: int, wake: int) -> None:
        self.channel.send("ready")
        poller = select.poll()
        poller.register(wake, select.POLLIN)
        poller.register(self.channel.fd, select.POLLIN)
        patience: float | None = LINGER * 1000
        while True:
            dead = reap()
            if self.program in dead:
                code, self.program = dead[self.program], 0
                if self.tidy and has_children():
                    sweep(lambda: pause(wake))
                stays = not has_children()
                self.channel.send((code, stays))
                if not stays:
                    return
                patience = LINGER * 1000
            ready = [fd for fd, _ in poller.poll(None if self.program else patience)]
            if not ready:
                self.channel.send("idle")  # it may have asked for more just now: it decides
                patience = None
            if wake in ready:
                posix.read(wake, 4096)
            if posix.getppid() != boss or (self.channel.fd in ready and not self.obey()):
                sweep(lambda: pause(wake))
                return

    def obey(self) -> bool:
        """False when nobody is there to ask for more."""
        received = self.channel.receive()
        if received is None:
            return True
        packet, fds, truncated = received
        if not packet:
            return False
        try:
            request, count, has_lock = marshal.loads(packet)
            if truncated or len(fds) < count + (request is None) + has_lock:
                raise CannotStartError("fork", errno.EMFILE)
            if has_lock:
                self.lock = fds.pop()  # let go by our end: then nothing of the program is left
            argv, extra = request or marshal.loads(read_all(fds[count]))
            self.program = self.spawn(argv, extra, fds[:count])
            if count != 2:
                self.channel.send("running")
        except Exception as error:
            report(self.channel.fd, "exec", error)
        close(*fds)
        return True

    def spawn(
        self, argv: "list[bytes]", extra: "list[tuple[bytes, bytes]]", streams: "list[int]"
    ) -> int:
        order, env, words = self.order, self.env, self.words
        if extra:
            env = env | dict(extra)
            words = [name + b"=" + value for name, value in env.items()]
        try:
            posix.chdir(order.cwd)
        except OSError as error:
            raise CannotStartError("cwd", error.errno or 0) from None
        path = look_up(argv[0], env.get(b"PATH", DEFAULT_PATH))
        stdin, out, err = streams * 3 if len(streams) == 1 else [-1, *streams][-3:]
        failed, failed_write = posix.pipe2(posix.O_CLOEXEC)
        try:
            # What `subprocess` is made of. posix_spawn would leave two signals of glibc ignored.
            pid = _posixsubprocess.fork_exec(
                argv, [path], False, (failed_write,), None, words,  # type: ignore[arg-type]
                stdin, -1, -1, out, -1, err, failed, failed_write,
                True, True, -1, None, None, None, -1,
                take_terminal if len(streams) == 1 else None, *ALLOW_VFORK,  # type: ignore[arg-type]
            )  # fmt: skip
        except OSError as error:
            posix.close(failed)
            raise CannotStartError("fork", error.errno or 0) from None
        finally:
            posix.close(failed_write)
        said = b""  # b"OSError:<errno in hex>:", written bit by bit
        while part := posix.read(failed, 4096):
            said += part
        posix.close(failed)
        if said:
            posix.waitpid(pid, 0)
            raise cannot_execute(int(said.split(b":")[1], 16), path, argv, env)
        return pid


def take_terminal() -> None:
    """In a program's own session, before it is executed."""
    fcntl.ioctl(0, TIOCSCTTY, 0)


ALLOW_VFORK = (True,) if sys.version_info < (3, 14) else ()  # later always


# --- the logger ---------------------------------------------------------------------------------
# One read of a pipe at a time goes through an area of memory that the launcher shares with every
# logger it forks. The order of stores makes every kill -9 resolvable:
#
#   IDLE     nothing is under way
#   READING  the last bytes of the area to be read hold a nonce. Only what is surely there is asked
#            for, so the kernel delivers all or nothing: nonce there = nothing was read, nonce
#            gone = all was
#   WRITING  all was read, and the log file was `offset` bytes long: cut it there and write again
#
# A container can break the word "surely": it may read its own pipe, or turn it into one of packets
# (O_DIRECT). So the number of bytes that came is what counts, no read ever blocks, and nothing
# beyond them is looked at: the area holds what other containers printed. Only a container that
# does so can lose anything by it: what a logger had read in the very moment of its death.
#
# The unfinished last line of a stream (`tail`) has two places; one byte, stored last, says which
# counts. That store is the commit: it turns "read and written" into "done".

IDLE, READING, WRITING = 0, 1, 2
MAX_LINE = 16384  # longer lines are cut into P records, as by the CRI runtimes
READ_SIZE = 262144
SLOTS = 2048
# Of a stream: which tail counts 1, drop was told 1, length of either 2 + 2, unused 2, records
# dropped 8.
STREAM_BYTES = 16
AREA_STREAMS = 4096
AREA_BUFFER = AREA_STREAMS + SLOTS * 2 * STREAM_BYTES
AREA_TAILS = AREA_BUFFER + READ_SIZE
AREA_SIZE = AREA_TAILS + SLOTS * 2 * 2 * MAX_LINE  # about 130 MiB, of which little is ever touched
NONCE = 16
UNKNOWN = 2**64 - 1  # the size of a log file that cannot be asked for it: nothing is cut off then


class LogFile:
    """The log file of one container instance: appended to, rotated, dropped from when full."""

    def __init__(self, slot: int, path: bytes, max_size: int, max_files: int) -> None:
        self.slot, self.path = slot, path
        self.mark = b""
        self.max_size, self.max_files = max_size, max_files
        self.fd = -1

    def open(self) -> None:
        if self.fd < 0:
            flags = posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND | posix.O_CLOEXEC
            self.fd = posix.open(self.path, flags, 0o640)

    def size(self) -> int:
        try:
            self.open()
            return posix.lseek(self.fd, 0, 2)
        except OSError:
            return UNKNOWN

    def append(self, records: bytes, offset: int) -> "tuple[int, int]":
        """Write all, or as many whole records as there is room for.

        Returns the errno, or 0, and the number of bytes that are in the file.
        """
        written = 0
        try:
            self.open()
            with memoryview(records) as view:
                while written < len(records):
                    written += posix.write(self.fd, view[written:])
        except OSError as error:
            kept = records.rfind(b"\n", 0, written) + 1
            if written and offset != UNKNOWN:
                try:
                    posix.ftruncate(self.fd, offset + kept)
                except OSError:
                    pass
            return error.errno or errno.EIO, kept
        return 0, written

    def cut(self, offset: int) -> None:
        if UNKNOWN != offset < self.size():
            try:
                posix.ftruncate(self.fd, offset)
            except OSError:  # then records come twice, which is better than no logger
                pass

    def rotate(self) -> None:
        """Put the full file aside under the time of day and begin a new one."""
        folder, base = parent(self.path), self.path[self.path.rfind(b"/") + 1 :] + b"."
        try:
            rotated = sorted([n for n in posix.listdir(folder) if n.startswith(base)])
            # Names grow strictly, though their resolution is a second and clocks are set back.
            moment = time.time()
            while (name := base + stamp(moment)) <= (rotated[-1] if rotated else b""):
                moment += 1
            posix.rename(self.path, folder + b"/" + name)
            for old in [*rotated, name][: -max(self.max_files - 1, 1)]:
                posix.unlink(folder + b"/" + old)
            self.close()
            self.open()  # readers may look for it at any time
        except OSError:
            pass  # tried again after the next record; the file grows meanwhile

    def close(self) -> None:
        close(self.fd)
        self.fd = -1


def stamp(moment: float) -> bytes:
    return time.strftime("%Y%m%d-%H%M%S", time.localtime(moment)).encode()


class Stream:
    """A pipe, or the master of a terminal. What a terminal shows is logged to the byte and at
    once: somebody may look on, and a prompt has no end of line."""

    __slots__ = ("fd", "file", "index", "name", "tty")

    def __init__(self, fd: int, file: LogFile, index: int, name: bytes, tty: bool) -> None:
        self.fd, self.file, self.index, self.name, self.tty = fd, file, index, name, tty


def format_records(
    data: bytes, prefix: bytes, final: bool, tty: bool = False
) -> "tuple[bytes, bytes]":
    """Turn raw output into log records; return them and the unfinished last line."""
    cut = data.rfind(b"\n") + 1
    lines, rest = data[:cut], data[cut:]
    if not tty and b"\r\n" in lines:
        lines = lines.replace(b"\r\n", b"\n")
    full, part = prefix + b"F ", prefix + b"P "
    if has_long_line(lines):
        pieces: list[bytes] = []
        for line in lines[:-1].split(b"\n"):
            start = 0
            while len(line) - start > MAX_LINE:
                pieces += (part, line[start : start + MAX_LINE], b"\n")
                start += MAX_LINE
            pieces += (full, line[start:], b"\n")
        records = b"".join(pieces)
    elif lines:
        records = full + lines[:-1].replace(b"\n", b"\n" + full) + b"\n"
    else:
        records = b""
    while len(rest) > MAX_LINE or ((final or tty) and rest):
        records += part + rest[:MAX_LINE] + b"\n"
        rest = rest[MAX_LINE:]
    return records, rest


def has_long_line(lines: bytes) -> bool:
    start, end = 0, len(lines)
    while end - start > MAX_LINE:
        found = lines.rfind(b"\n", start, start + MAX_LINE + 1)
        if found < 0:
            return True
        start = found + 1
    return False


class Logger:
    """Reads every log pipe, writes CRI log files. A process of its own; never returns."""

    def __init__(self, control: Channel, area: "mmap.mmap", durable: bool) -> None:
        self.control, self.durable = control, durable
        self.map = area
        self.view = memoryview(self.map)
        # Fault the pages in now: a fault in the middle of a read could tear it when killed.
        for at in (0, *range(AREA_BUFFER, AREA_TAILS, 4096), AREA_TAILS - 1):
            self.map[at] = self.map[at]
        self.nonce = posix.urandom(NONCE)
        self.peek, self.peek_write = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
        self.poll = select.epoll()
        self.streams: dict[int, Stream] = {}  # by descriptor
        self.files: dict[int, LogFile] = {}  # by slot
        self.second, self.zone, self.minute = -1, b"", b""
        self.orphaned = False
        # By slot, until it is used again: what can be said of a complete log, and where.
        self.complete: dict[int, tuple[bytes, bytes, int]] = {}

    # -- one read, resolvable at every instant --

    def pump(self, stream: Stream) -> int:
        """Move what one stream has, at most the read size. 0: there was nothing."""
        want = self.available(stream)
        if want <= 0:
            return 0
        want = min(want, READ_SIZE)
        area, end = self.map, AREA_BUFFER + want
        nonce = self.nonce
        if want < NONCE:
            # Few bytes could equal a random nonce: look at them first and take their complement.
            seen = self.look(stream, want)
            nonce = bytes([byte ^ 0xFF for byte in seen]) + nonce[want:] if seen else nonce
        area[end - min(want, NONCE) : end] = nonce[: min(want, NONCE)]
        selected = area[self.at(stream)]
        self.note(stream, selected, want, final=False)
        area[32 : 32 + NONCE] = nonce
        area[0] = READING
        try:
            got = posix.readv(stream.fd, [self.view[AREA_BUFFER:end]])
        except OSError:  # EAGAIN; EIO: nobody has the terminal any more
            got = 0
        if got <= 0:
            area[0] = IDLE
            return 0
        if got < want:
            area[12:16] = got.to_bytes(4, "little")
        self.finish(stream, selected, got, final=False)
        return got

    def available(self, stream: Stream) -> int:
        if stream.tty:
            self.closed(stream.fd)  # has the kernel deliver what is still on its way through it
        answer = fcntl.ioctl(stream.fd, FIONREAD, b"\0\0\0\0")
        return int.from_bytes(answer, sys.byteorder)

    def look(self, stream: Stream, want: int) -> bytes:
        seen = b""
        try:
            call(_tee, stream.fd, self.peek_write, want, 2)
            while part := posix.read(self.peek, want):  # to the end: several if they are packets
                seen += part
        except OSError:
            pass
        return seen if len(seen) == want else b""

    def note(self, stream: Stream, selected: int, want: int, *, final: bool) -> None:
        self.map[1] = selected
        self.map[2] = final
        self.map[8:16] = stream.index.to_bytes(4, "little") + want.to_bytes(4, "little")

    def at(self, stream: Stream) -> int:
        return AREA_STREAMS + stream.index * STREAM_BYTES

    def tail_at(self, stream: Stream, which: int) -> int:
        return AREA_TAILS + (stream.index * 2 + which) * MAX_LINE

    def finish(self, stream: Stream, selected: int, want: int, *, final: bool) -> None:
        """Write what was read, keep the unfinished line, commit."""
        area, at = self.map, self.at(stream)
        data = area[AREA_BUFFER : AREA_BUFFER + want]
        length = int.from_bytes(area[at + 2 + selected * 2 : at + 4 + selected * 2], "little")
        if length:
            place = self.tail_at(stream, selected)
            data = area[place : place + length] + data
        records, rest = format_records(data, self.prefix(stream), final, stream.tty)
        if records:
            offset = stream.file.size()
            area[16:24] = offset.to_bytes(8, "little")
            area[0] = WRITING
            failed, kept = stream.file.append(records, offset)
            if failed:
                self.count_dropped(stream, records.count(b"\n", kept))
                told = AREA_STREAMS + stream.file.slot * 2 * STREAM_BYTES + 1
                if not area[told]:
                    area[told] = 1
                    self.control.send(("drop", stream.file.slot, failed))
                stream.file.close()  # and open it anew next time: its folder may have moved
        else:
            offset = 0
        other = selected ^ 1
        if rest:
            place = self.tail_at(stream, other)
            area[place : place + len(rest)] = rest
        area[at + 2 + other * 2 : at + 4 + other * 2] = len(rest).to_bytes(2, "little")
        area[at] = other  # the commit
        area[0] = IDLE
        if offset != UNKNOWN and 0 < stream.file.max_size <= offset + len(records):
            stream.file.rotate()

    def count_dropped(self, stream: Stream, records: int) -> None:
        at = self.at(stream) + 8
        count = int.from_bytes(self.map[at : at + 8], "little") + records
        self.map[at : at + 8] = count.to_bytes(8, "little")

    def dropped(self, slot: int) -> int:
        """How many records of a container could not be written."""
        places = [AREA_STREAMS + (slot * 2 + i) * STREAM_BYTES + 8 for i in (0, 1)]
        return sum([int.from_bytes(self.map[at : at + 8], "little") for at in places])

    def recover(self) -> None:
        """Finish what a killed logger had begun."""
        area = self.map
        state, selected, final = area[0], area[1], bool(area[2])
        if state == IDLE:
            return
        index, want = (int.from_bytes(area[i : i + 4], "little") for i in (8, 12))
        stream = next((s for s in self.streams.values() if s.index == index), None)
        if stream is not None and area[self.at(stream)] == selected:
            end, size = AREA_BUFFER + want, min(want, NONCE)
            if state == WRITING:
                stream.file.cut(int.from_bytes(area[16:24], "little"))
                self.finish(stream, selected, want, final=final)
            elif area[end - size : end] != area[32 : 32 + size]:
                self.finish(stream, selected, want, final=final)
        area[0] = IDLE

    def prefix(self, stream: Stream) -> bytes:
        """`<RFC 3339 local time, zeros at the end of the fraction dropped> <stream> `."""
        seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        if seconds != self.second:
            self.second = seconds
            local = time.localtime(seconds)
            self.minute = time.strftime("%Y-%m-%dT%H:%M:%S", local).encode()
            offset = local.tm_gmtoff // 60
            hours, minutes = divmod(abs(offset), 60)
            sign = b"-" if offset < 0 else b"+"
            self.zone = b"%s%02d:%02d" % (sign, hours, minutes) if offset else b"Z"
        fraction = (b".%09d" % nanoseconds).rstrip(b"0") if nanoseconds else b""
        return self.minute + fraction + self.zone + stream.name

    # -- the loop --

    def attach(
        self,
        slot: int,
        path: bytes,
        mark: bytes,
        tty: bool,
        size: int,
        files: int,
        out: int,
        err: int,
    ) -> None:
        self.complete.pop(slot, None)
        file = self.files[slot] = LogFile(slot, path, size, files)
        file.mark = mark
        for index, fd, name in ((0, out, b" stdout "), (1, err, b" stderr ")):
            self.streams[fd] = Stream(fd, file, slot * 2 + index, name, tty)
            self.poll.register(fd, select.EPOLLIN)

    def detach(self, stream: Stream) -> None:
        """End of a stream: what is left of an unfinished line becomes a P record."""
        selected = self.map[self.at(stream)]
        self.note(stream, selected, 0, final=True)
        self.finish(stream, selected, 0, final=True)
        self.poll.unregister(stream.fd)
        del self.streams[stream.fd]
        posix.close(stream.fd)
        if self.orphaned:
            self.mark_complete(stream.file)

    def mark_complete(self, file: LogFile) -> None:
        """Orphaned: nobody can be told that a log is complete, so leave word beside it."""
        if self.durable and not any(stream.file is file for stream in self.streams.values()):
            leave_word(file.path, file.mark, self.dropped(file.slot))

    def end(self, slot: int) -> None:
        """The container is gone: take what is left and say so."""
        for stream in [s for s in self.streams.values() if s.index // 2 == slot]:
            budget = 4 << 20  # nobody of the container writes any more, but an escaped one might
            while budget > 0 and (moved := self.pump(stream)):
                budget -= moved
            self.detach(stream)
        file = self.files.pop(slot, None)
        if file is not None:
            file.close()
            self.complete[slot] = (file.path, file.mark, self.dropped(slot))
        self.bump()
        self.control.send(("drained", slot, self.dropped(slot)))

    def bump(self) -> None:
        try:
            posix.eventfd_write(LOGS_FD, 1)
        except OSError:  # full: its reader has enough to wake up for
            pass

    def run(self) -> None:
        control = self.control
        self.poll.register(control.fd, select.EPOLLIN)
        while not (self.orphaned and not self.streams):
            patience = NO_ROOM if control.queue and control.no_room else None
            if self.orphaned and not self.durable:
                patience = 5.0
            ready = self.poll.poll(patience)
            if self.orphaned and not ready:
                return
            moved = 0
            for fd, _ in ready:  # one read each, then the next: no stream starves another
                if fd == control.fd:
                    self.obey()
                elif fd in self.streams:
                    stream = self.streams[fd]
                    count = self.pump(stream)
                    moved += count
                    if not count and self.closed(fd):
                        self.detach(stream)
                        moved += 1
            if moved:
                self.bump()
            if control.queue and not self.orphaned:
                control.flush()
                self.poll.modify(control.fd, control.events())

    def closed(self, fd: int) -> bool:
        """All writers are gone and nothing is left (asked anew: the last may just have written)."""
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        return [event & (select.POLLIN | select.POLLHUP) for _, event in poller.poll(0)] == [
            select.POLLHUP
        ]

    def obey(self) -> None:
        while (received := self.control.receive()) is not None:
            packet, fds, _ = received
            if not packet:  # the launcher died: go on until all pipes end
                self.poll.unregister(self.control.fd)
                self.orphaned = True
                if self.durable:
                    # The launcher may have died before it heard of these.
                    for word in self.complete.values():
                        leave_word(*word)
                for file in self.files.values():
                    self.mark_complete(file)
                return
            message = marshal.loads(packet)
            if message[0] == "attach" and len(fds) == 2:
                self.attach(*message[1:], *fds)
            elif message[0] == "attach":  # descriptors were lost: a new logger inherits them
                _exit(75)
            else:
                self.end(message[1])


def leave_word(log: bytes, mark: bytes, dropped: int) -> None:
    """`mark`: of what was started. The same attempt may have been tried before, in vain."""
    try:
        replace_file(beside(log, b"drained"), b"%s %d\n" % (mark, dropped))
    except OSError:  # the folder is gone, or the disk is full: the wait for it is given up then
        pass


# --- the launcher -------------------------------------------------------------------------------


class Container:
    """One instance: from its fork until its exit is acknowledged and its log is complete."""

    def __init__(self, key: "Any", order: Order, has_reaper: bool) -> None:
        self.key, self.order, self.has_reaper = key, order, has_reaper
        self.slot = -1
        self.mark = b""  # tells what one launcher has started from everything else
        self.child, self.child_pidfd = 0, -1  # the main, or its reaper if it has one
        self.main, self.main_pidfd = 0, -1  # the same descriptor as above without a reaper
        # Read ends of the log pipes; with a terminal its master, and a pipe that stays empty.
        self.out = self.err = -1
        self.status = -1  # ends when the program is executed, else tells what failed
        self.release = -1  # write end of the pipe that the main waits on (without a reaper)
        self.control = -1  # socket to the reaper
        self.input = -1  # where its stdin is written to, or its terminal's master, for who asks
        self.is_lent = False  # a supervisor has somebody write there, with whom it ends
        self.started: tuple[float, float] | None = None
        self.failure: tuple[bool, str, int, bytes] | None = None
        self.exit: tuple[int, float, float] | None = None
        self.drained: bool | None = None
        self.dropped = 0  # log records that could not be written
        self.deadline = 0.0
        self.nudge_at = 0.0
        self.told = False
        self.dropping: tuple[float, float, int] | None = None  # what the logger said about it
        self.survivor: dict[str, Any] | None = None  # adopted: who its processes are
        self.is_guest = False  # in a pid namespace that is not its own
        self.pause: Pause | None = None  # whose it is in a pod that shares one
        self.view = -1  # its mount namespace, then

    @property
    def starting(self) -> str:
        """What kind of action its start is, as failpoints name it."""
        return "StartContainer-shared" if self.is_guest else "StartContainer"

    def close(self) -> None:
        """Close what belongs to the process; the log pipes are closed when they are drained."""
        if self.main_pidfd != self.child_pidfd:
            close(self.main_pidfd)
        close(self.child_pidfd, self.status, self.release, self.control, self.view)
        self.main_pidfd = self.child_pidfd = self.status = self.release = self.control = -1
        self.view = -1
        self.end_input()

    def end_input(self) -> None:
        close(self.input)
        self.input = -1


class Pause:
    """Pid 1 of a pod's pid namespace, until it is gone."""

    def __init__(self, uid: str, record: bytes, pidfd: int, is_child: bool) -> None:
        self.uid, self.record, self.pidfd, self.is_child = uid, record, pidfd, is_child
        self.pid = pid_of(pidfd)
        self.status = -1  # ends when it is what it is to be, else tells what failed
        self.ready = self.unwanted = False


class KeptExec:
    """A program in a container that is ours, not the supervisor's: it goes on when that one dies,
    and what came of it is kept until it is told to be forgotten."""

    def __init__(
        self, key: object, name: str, limit: int, request: object, given: "list[int]"
    ) -> None:
        self.key, self.name, self.limit = key, name, limit
        self.request, self.given = request, given  # until it is begun
        self.channel: Channel | None = None  # to its minder
        self.ready = self.stopped = self.done = False
        self.outputs: dict[int, bytearray] = {}  # by descriptor: stdout, stderr
        self.answer: object = None  # exit code, (stage, errno, detail), None: it was killed
        self.output = b""
        self.memfd = -1  # holds the output if that does not fit a packet


class Launcher:
    def __init__(
        self,
        channel: Channel,
        isolation: str,
        origin: Origin,
        area: "mmap.mmap",
        rotation: "tuple[int, int]",
        trials: "tuple[tuple[str, str, int], ...]",
        state_dir: bytes,
    ) -> None:
        self.channel: Channel | None = channel
        self.isolation, self.origin, self.durable = isolation, origin, origin.durable
        self.rotation, self.trials, self.state_dir = rotation, trials, state_dir
        self.supervisor = SUPERVISOR_FD  # a pidfd
        self.poll = select.epoll()
        self.handlers: dict[int, Callable[[], object]] = {}
        self.containers: dict[object, Container] = {}  # until acknowledged
        self.kept: dict[tuple[object, str], KeptExec] = {}  # until forgotten
        self.held_back: set[KeptExec] = set()  # until another run of it has ended
        self.slots: dict[int, Container] = {}  # until drained
        # By pidfd: pid and container (those of containers with a reaper are below that).
        self.minders: dict[int, tuple[int, object]] = {}
        self.dying: dict[Container, float] = {}  # adopted, ended; until when its code is looked for
        self.draining: set[Container] = set()  # adopted, its code known, its log not complete yet
        # By pidfd of a joining child: where it tells the minder, and the container.
        self.joining: dict[int, tuple[int, object]] = {}
        self.pauses: dict[str, Pause] = {}  # by pod uid
        self.leaving: set[Pause] = set()  # dying: until the last process of the pod is reaped
        self.free = list(range(SLOTS - 1, -1, -1))
        self.headless: set[Container] = set()  # the main has ended, its reaper not
        self.ending = False
        self.orphaned = False  # the supervisor of an ephemeral node went without a word
        self.bequest: list[int] = []  # its folders
        self.home = -1  # the state folder of a durable node
        self.home_look = 0.0  # when it is looked for
        self.is_lost = False  # it was removed: no supervisor will come any more
        self.farewells: dict[Container, float] = {}  # until when it may end by itself then
        self.boot_id = b""
        self.generation = b"%d-%s" % (posix.getpid(), start_time(posix.getpid()))
        self.forked = 0
        self.area = area
        self.logger = self.logger_pidfd = -1
        self.logger_channel: Channel | None = None
        self.logger_started = 0.0
        self.logger_due: float | None = None
        self.watch(channel.fd, self.on_supervisor)
        self.watch(self.supervisor, self.on_supervisor_death)
        if self.durable:
            self.listener = _socket.socket(
                _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC, 0, LISTEN_FD
            )
            self.listener.setblocking(False)
            self.me = posix.pidfd_open(posix.getpid(), 0)
            self.watch(LISTEN_FD, self.on_connection)
            self.home = open_counted(state_dir)
            self.list_all()

    # -- the loop --

    def watch(self, fd: int, handler: "Callable[[], object]") -> None:
        self.poll.register(fd, select.EPOLLIN)  # fails where fs.epoll.max_user_watches is reached
        self.handlers[fd] = handler

    def unwatch(self, fd: int) -> None:
        if self.handlers.pop(fd, None) is not None:
            self.poll.unregister(fd)

    def run(self) -> None:
        while not self.ending:
            for fd, _ in self.poll.poll(self.timeout()):
                handler = self.handlers.get(fd)
                if handler is not None:
                    handler()
            self.expire()
            for channel in (self.channel, self.logger_channel):
                if channel is not None:
                    self.rearm(channel)
            if self.durable and self.is_idle():
                self.on_connection()  # somebody may be at the door
                self.ending = self.ending or self.is_idle()

    def is_idle(self) -> bool:
        return not (self.channel or self.containers or self.kept or self.pauses)

    def rearm(self, channel: Channel) -> None:
        """Wait for room only while something waits for it."""
        channel.flush()
        if channel.fd in self.handlers:
            self.poll.modify(channel.fd, channel.events())

    def timeout(self) -> "float | None":
        deadlines = [
            c.deadline for c in self.slots.values() if c.exit is not None and c.drained is None
        ]
        if self.logger_due is not None:
            deadlines.append(self.logger_due)
        deadlines += [c.nudge_at for c in self.headless]
        if self.home >= 0 and self.channel is None:
            deadlines += self.farewells.values() if self.is_lost else [self.home_look]
        if self.dying or self.draining or self.held_back:
            deadlines.append(boottime() + PEEK)
        for channel in (self.channel, self.logger_channel):
            if channel is not None and channel.queue and channel.no_room:
                deadlines.append(boottime() + NO_ROOM)
        return max(0.0, min(deadlines) - boottime()) + 0.001 if deadlines else None

    def expire(self) -> None:
        now = boottime()
        for container in self.headless:
            if now >= container.nudge_at:
                self.nudge(container)
        for container in list(self.dying):
            self.learn_code(container)
        for container in list(self.draining):
            self.look_for_word(container)
        for kept in list(self.held_back):
            self.begin(kept)
        if self.logger_due is not None and now >= self.logger_due:
            self.logger_due = None
            self.start_logger()
        for container in list(self.slots.values()):
            if container.exit is not None and container.drained is None:
                if now >= container.deadline:
                    container.drained = False
                    self.tell_exit(container)
        if self.home >= 0 and self.channel is None:
            self.look_for_home(now)

    def look_for_home(self, now: float) -> None:
        """Whose state folder is removed while nobody supervises is found by no supervisor any more,
        and holds what nobody can reach: all of it is asked to end, and we end after it.

        A folder that was only moved counts its links as before; one without any is removed, and
        can never come back.
        """
        if not self.is_lost:
            if now < self.home_look:
                return
            self.home_look = now + HOME_LOOK
            self.is_lost = links_of(self.home) == 0
            if not self.is_lost:
                return
        live = [c for c in self.containers.values() if c.exit is None]
        due = self.farewells
        self.farewells = {c: due[c] for c in live if c in due}
        for container in live:
            signum, grace = container.order.farewell
            if container not in due and container.started is not None:
                send_by(container.main_pidfd, signum)
                self.farewells[container] = now + grace
            elif container in due and now >= due[container]:
                send_by(container.main_pidfd, SIGKILL)
                self.farewells[container] = now + KILL_AGAIN
        self.ending = self.ending or not live

    # -- the supervisor --

    def tell(self, message: "tuple[Any, ...]", *fds: int) -> None:
        """To whom it may concern. Nothing is lost if nobody is there: who comes is told all."""
        if self.channel is not None:
            self.channel.send(message, *fds)
            if self.durable and len(self.channel.queue) > QUEUE_MAX + 4 * len(self.containers):
                self.drop_supervisor()

    def on_connection(self) -> None:
        """A supervisor comes. There is one at a time: a second one could start things twice."""
        try:
            fd, _ = self.listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001
        except OSError:
            return
        while self.channel is not None and readable(self.channel.fd, 0.0):
            self.on_supervisor()  # it may have hung up before
        channel = Channel(fd)
        credentials = channel.socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
        pid, uid = (int.from_bytes(credentials[i : i + 4], sys.byteorder) for i in (0, 4))
        if self.channel is not None and readable(self.supervisor, 0.0):
            self.drop_supervisor()  # though a forked child of it holds the socket
        try:
            if uid != posix.geteuid():
                raise OSError(errno.EPERM, "")
            if self.channel is not None:
                channel.send(("refused", pid_of(self.supervisor)))
                raise OSError(errno.EBUSY, "")
            pidfd = posix.pidfd_open(pid, 0)
        except OSError:
            channel.socket.close()
            return
        self.channel, self.supervisor = channel, pidfd
        self.is_lost, self.farewells = False, {}  # somebody has found us all the same
        self.watch(channel.fd, self.on_supervisor)
        self.watch(pidfd, self.on_supervisor_death)
        greeting = ("hello", VERSION, self.isolation, self.trials)
        channel.send(greeting, LOGS_FD, 2, self.me)
        self.list_all()

    def list_all(self) -> None:
        for pause in self.pauses.values():
            if pause.ready:
                self.tell(("sandbox", pause.uid), pause.pidfd)
        for container in list(self.containers.values()):
            if container.started is None:
                self.tell(("starting", container.key))
                continue
            self.tell_started(container)
            if container.dropping is not None:
                self.tell(("drop", container.key, *container.dropping))
            self.tell_exit(container, again=True)
        for kept in self.kept.values():
            self.tell_kept(kept)
        self.tell(("listed", None))

    def on_supervisor_death(self) -> None:
        if self.durable:
            self.drop_supervisor()
        else:
            self.ending = self.orphaned = True

    def drop_supervisor(self) -> None:
        """It is gone, or takes nothing any more. What it has asked for before still counts."""
        channel = self.channel
        if channel is None:
            return
        self.channel = None
        while (received := channel.receive()) is not None and received[0]:
            self.obey(*received)
        for container in self.containers.values():
            if container.is_lent:
                container.end_input()
        self.unwatch(channel.fd)
        self.unwatch(self.supervisor)
        channel.socket.close()
        close(self.supervisor)
        self.supervisor = -1
        self.home_look = boottime() + HOME_LOOK

    def on_supervisor(self) -> None:
        for _ in range(16):  # others want their turn too
            received = self.channel.receive() if self.channel is not None else None
            if received is None:
                return
            if not received[0]:
                self.on_supervisor_death()
                return
            self.obey(*received)
            if self.ending:  # what comes after its last word is no death
                return

    def obey(self, packet: bytes, fds: "list[int]", truncated: bool) -> None:
        message = marshal.loads(packet)
        verb, key = message[0], message[1]
        try:
            if verb == "start":
                self.start(key, message[2], fds, truncated)
            elif verb == "signal":
                container = self.containers.get(key)
                if container is not None and container.main_pidfd >= 0:
                    send_by(container.main_pidfd, message[2])
            elif verb == "ack":
                self.acknowledge(key)
            elif verb == "mind" and fds:  # else they were lost; the other end sees the end
                self.mind(key, fds[0])
            elif verb == "exec":
                self.execute(key, message[2], message[3], message[4], fds, truncated)
            elif verb == "end-exec":
                self.end_exec((key, message[2]))
            elif verb == "forget-exec":
                self.forget_exec((key, message[2]))
            elif verb in ("lend-input", "end-input"):
                container = self.containers.get(key)
                if container is not None and verb == "lend-input":
                    container.is_lent = True
                elif container is not None:
                    container.end_input()
            elif verb == "adopt":
                self.adopt(key, message[2], message[3], fds, truncated)
            elif verb == "sandbox":
                self.create_sandbox(key, message[2], fds)
            elif verb == "end-sandbox":
                self.end_sandbox(key)
            elif verb == "bequest" and fds:
                self.bequest.append(fds.pop(0))
            elif verb == "end":
                self.ending = True
        finally:
            close(*fds)

    def acknowledge(self, key: object) -> None:
        container = self.containers.get(key)
        if container is None or container.exit is None:
            return
        del self.containers[key]
        if container.survivor is None and (container.pause or not container.is_guest):
            posix.waitid(P_PIDFD, container.child_pidfd, posix.WEXITED)
        if self.durable:
            unlink(beside(container.order.record, b"exit"))  # so that nobody finds it again
        container.close()

    # -- starting --

    def start(self, key: object, fields: object, fds: "list[int]", truncated: bool) -> None:
        known = self.containers.get(key)
        if known is not None:
            if known.started is not None:
                self.tell_started(known)
            return  # else the answer is on its way
        try:
            order = self.order(fields, fds, truncated)
            if truncated:
                raise OSError(errno.EMFILE, "")
        except OSError as error:
            self.tell(("failed", key, False, "prepare", error.errno or 0, b""))
            return
        container = Container(key, order, self.needs_reaper(order))
        if self.durable and (past := read_if_there(order.record)) is not None:
            # It has run, or how it failed has been said before and not been heard.
            failure = past.partition(b"\nfailed ")[2].split()
            told = marshal.loads(bytes.fromhex(failure[0].decode())) if failure else None
            self.tell(("failed", key, *(told or (False, "spawned", 0, b""))))
            return
        if self.isolation == GROUP and order.mounts:
            target = order.mounts[0][1]
            words = b'"%s": there are no namespaces in mode group' % target
            self.tell(("failed", key, False, "mount", 0, words))
            return
        host = -1
        if container.has_reaper and self.isolation != GROUP:
            host = self.find_host(container)
            if host < 0:
                stage = "sandbox" if order.shares else "target"
                self.tell(("failed", key, False, stage, 0, b""))
                return
        stage = "prepare"
        ends: list[int] = []  # descriptors that only the child needs
        try:
            self.prepare(container, fds, ends)
            stage = "fork"
            self.fork(container, ends, host)
            stage = "record"
            if failpoints:
                pass_failpoint("after-clone", container.starting)
            if not container.has_reaper:
                self.record(container)
                try:
                    posix.write(container.release, b"r")
                except BrokenPipeError:  # it failed before it waited, and says why
                    pass
                close(container.release)
                container.release = -1
                self.set_aside(container)
        except Exception as error:
            number = (error.errno or 0) if isinstance(error, OSError) else 0
            detail = b"" if number else repr(error).encode("utf-8", "replace")
            container.failure = (False, stage, number, detail)
            self.abandon(container)
        finally:
            close(*ends)

    def needs_reaper(self, order: Order) -> bool:
        """Whether the kernel would not end all of that container's processes with its main."""
        return self.isolation == GROUP or order.shares or order.target is not None

    def find_host(self, container: Container) -> int:
        """A pidfd of pid 1 of the namespace that it joins; -1 when that is gone."""
        container.is_guest = True
        if container.order.shares:
            pause = container.pause = self.pauses.get(container.key[0])
            return -1 if pause is None or not pause.ready else pause.pidfd
        target = self.containers.get(container.order.target)
        if target is None or target.started is None or target.exit is not None:
            return -1
        return target.main_pidfd

    def order(self, fields: object, fds: "list[int]", truncated: bool) -> Order:
        if fields is None:
            if truncated or not fds:
                raise OSError(errno.EMFILE, "")
            memfd = fds.pop(0)
            try:
                fields = marshal.loads(read_all(memfd))
            finally:
                posix.close(memfd)
        return Order(fields)  # type: ignore[arg-type]

    def prepare(self, container: Container, given: "list[int]", ends: "list[int]") -> None:
        """Make all that the child needs, while a failure still costs nothing.

        Into `ends` come its stdin, stdout, stderr, the pipe or socket that it answers by, and what
        it waits on.
        """
        order = container.order
        for path in (order.log, order.termination_file):
            make_folders(parent(path))
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_CLOEXEC
        posix.close(posix.open(order.log, flags | posix.O_APPEND, 0o640))
        fd = posix.open(order.termination_file, flags | posix.O_TRUNC, 0o666)
        posix.fchmod(fd, 0o666)
        posix.close(fd)
        if self.isolation == GROUP and order.uid not in (None, posix.geteuid()):
            let_pass(parent(order.termination_file), order.state_dir)
        if not self.free:
            raise OSError(errno.EMFILE, "")
        if order.tty:
            self.open_terminal(container, given, ends)
        else:
            self.open_pipes(container, given, ends)
        container.status, status = posix.pipe2(posix.O_CLOEXEC)
        # The read ends of the log pipes too: a container may have read them empty itself.
        for end in (container.out, container.err, container.status):
            posix.set_blocking(end, False)
        ends.append(status)
        if container.has_reaper:
            ours, theirs = _socket.socketpair(
                _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
            )
            container.control = ours.detach()
            posix.set_blocking(container.control, False)
            ends.append(theirs.detach())
        else:
            release, container.release = posix.pipe2(posix.O_CLOEXEC)
            ends.append(release)

    def open_pipes(self, container: Container, given: "list[int]", ends: "list[int]") -> None:
        if given:
            ends.append(given.pop())
        elif container.order.stdin:
            reader, container.input = posix.pipe2(posix.O_CLOEXEC)
            ends.append(reader)
            posix.set_blocking(container.input, False)
            give(reader, container.order)
            if not container.order.stdin_once:
                # It does not end, whoever dies: who reads it is a writer of it, too.
                ends[0] = posix.open(f"/proc/self/fd/{reader}", posix.O_RDWR | posix.O_CLOEXEC)
                posix.close(reader)
        else:
            ends.append(fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3))
        container.out, out = posix.pipe2(posix.O_CLOEXEC)
        ends.append(out)
        container.err, err = posix.pipe2(posix.O_CLOEXEC)
        ends.append(err)
        for end in (out, err):
            give(end, container.order)
            if len(self.slots) < 32:  # the kernel allows a user 64 MiB, then gives 8 KiB pipes
                try:
                    fcntl.fcntl(end, F_SETPIPE_SZ, READ_SIZE)
                except OSError:  # EPERM: over the budget; the default does
                    pass

    def open_terminal(self, container: Container, given: "list[int]", ends: "list[int]") -> None:
        """Its master may have come with the request, from somebody who types there."""
        container.out, slave = (given.pop(0), given.pop()) if given else posix.openpty()
        try:
            ends.append(find_terminal(slave))
        finally:
            posix.close(slave)
        container.input = fcntl.fcntl(container.out, fcntl.F_DUPFD_CLOEXEC, 3)
        slave = ends[0]
        give(slave, container.order)
        ends += [fcntl.fcntl(slave, fcntl.F_DUPFD_CLOEXEC, 3) for _ in (1, 2)]
        container.err, nobody = posix.pipe2(posix.O_CLOEXEC)
        posix.close(nobody)

    def fork(self, container: Container, ends: "list[int]", host: int) -> None:
        *streams, status, hold = ends
        order, origin = container.order, self.origin
        if container.has_reaper:
            pid, pidfd = self.fork_in(host) if container.is_guest else fork_into(0)
            if pid == 0:
                run_reaper(order, self.isolation, origin, hold, streams, status)
        else:
            pid, pidfd = fork_into(CLONE_NEWPID | CLONE_NEWNS)
            if pid == 0:
                run_main(order, self.isolation, origin, streams, status, hold)
            container.main, container.main_pidfd = pid, pidfd
        container.child, container.child_pidfd = pid, pidfd
        slot = container.slot = self.free.pop()
        self.forked += 1
        container.mark = b"%s-%d" % (self.generation, self.forked)
        at, length = AREA_STREAMS + slot * 2 * STREAM_BYTES, 2 * STREAM_BYTES
        self.area[at : at + length] = b"\0" * length
        self.slots[slot] = container
        self.containers[container.key] = container
        self.watch(container.status, lambda: self.on_status(container))
        self.watch(pidfd, lambda: self.on_exit(container))
        if container.control >= 0:
            self.watch(container.control, lambda: self.on_reaper(container))
        if self.logger_channel is not None:
            self.logger_channel.send(
                ("attach", slot, order.log, container.mark, order.tty, *self.rotation),
                container.out,
                container.err,
            )

    def fork_in(self, host: int) -> "tuple[int, int]":
        """fork_into() for the pid namespace of who has that pidfd, and a new mount namespace.

        By a child of ours, which has no more to do than that: who has forked into another pid
        namespace cannot, rootless, come back to its own.
        """
        answer, answer_write = posix.pipe2(posix.O_CLOEXEC)
        try:
            middle, middle_pidfd = fork_into(0)
        except OSError:
            close(answer, answer_write)
            raise
        if middle == 0:
            if fork_beside(host, answer_write):
                return 0, -1
            _exit(0)
        posix.close(answer_write)
        if failpoints:
            pass_failpoint("during-join", "StartContainer-shared")
        data = posix.read(answer, 64)
        close(answer)
        posix.waitid(P_PIDFD, middle_pidfd, posix.WEXITED)
        posix.close(middle_pidfd)
        pid, number = marshal.loads(data) if data else (0, errno.ENOMEM)
        if not pid:
            raise OSError(number, posix.strerror(number))
        try:
            return pid, posix.pidfd_open(pid, 0)  # our child, not reaped: the pid is its own
        except OSError:  # what cannot be watched must not be
            posix.kill(pid, SIGKILL)
            posix.waitpid(pid, 0)
            raise

    def record(self, container: Container) -> None:
        """The spawn record: written before the program runs, so that no instance that might have
        run can be unknown to whoever comes after a crash."""
        text = self.identify(container.main, container.main_pidfd)
        # The key too, because names of folders may be hashed; and who reads the log.
        uid, name, attempt = container.key
        text += b"uid %s\nname %s\nattempt %d\n" % (uid.encode(), name.encode(), attempt)
        now = (time.time(), boottime(), self.generation)
        text += b"at %.6f %.6f\nlogger %s\nmark %s\n" % (*now, container.mark)
        if container.has_reaper:
            text += b"reaper %d %s\n" % (container.child, start_time(container.child))
        path = container.order.record
        temporary, spare = path + b".tmp", spare_of(path)
        try:
            write_new(temporary, text)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            # A full disk must not end services: an earlier start has set this aside.
            try:
                posix.rename(spare, temporary)
            except OSError:
                raise error from None
            fd = posix.open(temporary, posix.O_WRONLY | posix.O_CLOEXEC)
            try:
                posix.write(fd, text)
                posix.ftruncate(fd, len(text))
            finally:
                posix.close(fd)
        posix.rename(temporary, path)
        if failpoints:
            pass_failpoint("after-spawn-record", container.starting)
            pass_failpoint("before-release", container.starting)

    def identify(self, pid: int, pidfd: int) -> bytes:
        """What a process can be found again by."""
        if not self.boot_id:
            self.boot_id = read_file(b"/proc/sys/kernel/random/boot_id").strip()
        words = (pid, start_time(pid), self.boot_id, posix.fstat(pidfd).st_ino)
        text = b"pid %d\nstart %s\nboot %s\npidfs %d\n" % words
        return text + b"mode %s\n" % self.isolation.encode()

    def set_aside(self, container: Container) -> None:
        """Have room for the record of the container's next start, if there is any now.

        Later ones get the place of a record that is no longer needed (launch.py sees to it).
        """
        spare = spare_of(container.order.record)
        if not posix.access(spare, posix.F_OK):
            try:
                write_new(spare, b"\n" * 512)
            except OSError:
                pass

    def abandon(self, container: Container) -> None:
        """A start that failed on our side. The child, if there is one, ends for want of a word."""
        if container.child_pidfd >= 0:
            if container.release >= 0:
                close(container.release)
                container.release = -1
            if container.control >= 0:
                self.unwatch(container.control)
                close(container.control)
                container.control = -1
            send_by(container.child_pidfd, SIGKILL)
            if container.child_pidfd not in self.handlers:
                # Its end cannot be watched, but it comes soon: nothing was executed.
                readable(container.child_pidfd, boottime() + 1.0)
                self.on_exit(container)
            return  # on_exit tells
        close(container.out, container.err)
        container.close()
        assert container.failure is not None
        self.tell(("failed", container.key, *container.failure))

    def on_reaper(self, container: Container) -> None:
        """The reaper says who the main is and waits for our word."""
        try:
            pidfd = take_fd(container.control)
        except BlockingIOError:
            return
        except OSError:
            pidfd = -2
        self.unwatch(container.control)  # from here on its death shows by its pidfd
        if pidfd == -1:
            return
        try:
            if pidfd < 0:
                raise OSError(errno.EMFILE, "")
            container.main, container.main_pidfd = pid_of(pidfd), pidfd
            self.watch(container.main_pidfd, lambda: self.on_main(container))
            self.record(container)
            posix.write(container.control, b"g")
            self.set_aside(container)
        except OSError as error:
            container.failure = (False, "record", error.errno or 0, b"")
            close(container.control)
            container.control = -1

    def on_main(self, container: Container) -> None:
        """The main has ended. Its reaper ends next, if nobody keeps it stopped."""
        self.unwatch(container.main_pidfd)
        self.headless.add(container)
        self.nudge(container)

    def nudge(self, container: Container) -> None:
        # Over and over: whoever stops it (`kill -STOP $PPID`) may do so again until it is swept.
        container.nudge_at = boottime() + NUDGE
        if container.exit is None:
            send_by(container.child_pidfd, SIGCONT)

    def on_status(self, container: Container) -> None:
        if container.status < 0:
            return
        try:
            answer = posix.read(container.status, MAX_PACKET)
        except BlockingIOError:
            return
        self.unwatch(container.status)
        close(container.status)
        container.status = -1
        if answer:
            stage, number, detail = marshal.loads(answer)
            if container.failure is None:
                container.failure = (stage != "fork", stage, number, detail)
        elif container.failure is None and container.main_pidfd >= 0:
            container.started = (time.time(), boottime())
            self.look_at_view(container)
            container.order.argv = []  # may be large
            if container.has_reaper:  # else programs run in it later get it from us
                container.order.env = []
            self.tell_started(container)
            if failpoints:
                pass_failpoint("after-spawn", container.starting)

    def tell_started(self, container: Container) -> None:
        assert container.started is not None
        pidfds = [container.main_pidfd] if container.main_pidfd >= 0 else []
        if container.input >= 0:
            self.tell(("input", container.key), container.input)
        self.tell(("started", container.key, container.main, *container.started), *pidfds)

    # -- running programs in containers --

    def mind(self, key: object, fd: int, kind: str = "probe") -> None:
        """Fork a minder into a container; `kind` is what for, as failpoints name it."""
        container = self.containers.get(key)
        if container is None or container.started is None or container.exit is not None:
            report(fd, "gone", ProcessLookupError())
            return
        try:
            if not container.has_reaper:
                self.fork_joining(container, fd)
            elif container.survivor is None:
                send_fd(container.control, fd)  # all of a container's processes are to be below it
            elif container.is_guest:
                self.fork_joining(container, fd)
            else:
                self.fork_minder(container, fd)
            if failpoints:
                pass_failpoint("during-exec", kind)
        except OSError as error:
            report(fd, "gone" if error.errno == errno.EPIPE else "fork", error)

    def fork_joining(self, container: Container, fd: int) -> None:
        answer, answer_write = posix.pipe2(posix.O_CLOEXEC)
        try:
            pid, pidfd = fork_into(0)
            if pid == 0:
                try:
                    minder = join(
                        container.order, self.isolation, self.origin,
                        container.main, container.main_pidfd, fd, container.has_reaper,
                    )  # fmt: skip
                    posix.write(answer_write, b"%d" % minder)
                finally:
                    _exit(0)
        except OSError:
            posix.close(answer)
            raise
        finally:
            posix.close(answer_write)
        self.joining[pidfd] = (answer, container.key)
        self.watch(pidfd, lambda: self.on_joined(pidfd))

    def fork_minder(self, container: Container, fd: int) -> None:
        """Group mode, adopted: its reaper hears only the launcher that has forked it."""
        pid, pidfd = fork_into(0)
        if pid == 0:
            run_minder(container.order, GROUP, self.origin, container.main, fd, tidy=True)
        self.minders[pidfd] = (pid, container.key)
        self.watch(pidfd, lambda: self.on_minder(pidfd))

    def on_joined(self, pidfd: int) -> None:
        if posix.waitid(P_PIDFD, pidfd, posix.WEXITED | posix.WNOHANG) is None:
            return
        self.unwatch(pidfd)
        answer, key = self.joining.pop(pidfd)
        minder = int(posix.read(answer, 16) or b"0")
        close(pidfd, answer)
        if not minder:
            return
        try:
            pidfd = posix.pidfd_open(minder, 0)  # our child, not reaped: the pid is its own
        except OSError:  # what cannot be watched must not be
            posix.kill(minder, SIGKILL)
            posix.waitpid(minder, 0)
            return
        self.minders[pidfd] = (minder, key)
        self.watch(pidfd, lambda: self.on_minder(pidfd))

    def on_minder(self, pidfd: int) -> None:
        # At once: pid 1 of its namespace cannot end while any process there is a zombie.
        if posix.waitid(P_PIDFD, pidfd, posix.WEXITED | posix.WNOHANG) is None:
            return
        del self.minders[pidfd]
        self.unwatch(pidfd)
        posix.close(pidfd)

    # -- programs that are ours --

    def execute(
        self, key: object, name: str, limit: int, request: object, fds: "list[int]", lost: bool
    ) -> None:
        """Run a program of our own in a container; running or ended, it is the same one."""
        kept = self.kept.get((key, name))
        if kept is not None:
            self.tell_kept(kept)
            return
        kept = self.kept[key, name] = KeptExec(key, name, limit, request, fds[:])
        fds.clear()
        if lost or (request is None and not kept.given):
            kept.answer = ("fork", errno.EMFILE, b"")
            self.finish_kept(kept)
        else:
            self.begin(kept)

    def begin(self, kept: KeptExec) -> None:
        """At once, but for a run of it that a killed launcher has left and that is just ending."""
        container = self.containers.get(kept.key)
        lock = -1
        writers: list[int] = []
        try:
            if container is not None:
                lock = self.lock(container, kept.name)
            self.held_back.discard(kept)
            for _ in range(2):
                reader, writer = posix.pipe2(posix.O_CLOEXEC)
                kept.outputs[reader] = bytearray()
                writers.append(writer)
                posix.set_blocking(reader, False)
                if container is not None:
                    give(writer, container.order)
            ours, theirs = _socket.socketpair(
                _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
            )
            kept.channel = Channel(ours.detach())
            ends = [*writers, *kept.given, *([lock] if lock >= 0 else [])]
            kept.channel.send((kept.request, 2, lock >= 0), *ends)
            if kept.channel.queue:
                raise OSError(errno.ETOOMANYREFS, "")
            close(lock, *writers)
            lock, writers = -1, []
            self.watch(kept.channel.fd, lambda: self.on_kept(kept))
            for reader in kept.outputs:
                self.watch_output(kept, reader)
            self.mind(kept.key, theirs.fileno(), kept.name)
            theirs.close()
        except BlockingIOError:
            self.held_back.add(kept)
            return
        except OSError as error:
            kept.answer = ("fork", error.errno or 0, b"")
            self.finish_kept(kept)
        finally:
            close(lock, *writers)
        close(*kept.given)
        kept.request, kept.given = None, []

    def lock(self, container: Container, name: str) -> int:
        """-1: it cannot be had (a full disk). Raises BlockingIOError."""
        path = beside(container.order.record, b"lock-" + name.encode().hex()[:200].encode())
        try:
            fd = posix.open(path, posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC, 0o600)
        except OSError:
            return -1
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            posix.close(fd)
            raise
        except OSError:  # a file system without locks
            posix.close(fd)
            return -1
        return fd

    def watch_output(self, kept: KeptExec, fd: int) -> None:
        self.watch(fd, lambda: self.on_output(kept, fd))

    def on_output(self, kept: KeptExec, fd: int) -> bool:
        """Read once; False when there is nothing now, or nothing any more."""
        try:
            data = posix.read(fd, 65536)
        except BlockingIOError:
            return False
        taken = kept.outputs[fd]
        if len(taken) < kept.limit:
            taken += data[: kept.limit - len(taken)]
        if not data:
            self.unwatch(fd)
        return bool(data)

    def on_kept(self, kept: KeptExec) -> None:
        while kept.channel is not None:
            received = kept.channel.receive()
            if received is None:
                return
            if not received[0]:  # if the minder ended before it took the request, a word may follow
                last = None if kept.ready else kept.channel.receive()
                if last is None or not last[0]:
                    if not kept.ready:
                        kept.answer = ("minder", 0, b"")
                    self.finish_kept(kept)
                    return
                received = last
            message = marshal.loads(received[0])
            if message == "ready":
                kept.ready = True
            elif message != "idle":
                kept.answer = message[0] if len(message) == 2 else message
                self.finish_kept(kept)

    def finish_kept(self, kept: KeptExec) -> None:
        """Take what output there is and wait for no more: somebody left behind may hold it."""
        for fd, taken in kept.outputs.items():
            while len(taken) < kept.limit and self.on_output(kept, fd):
                pass
            self.unwatch(fd)
            close(fd)
        kept.done = True
        self.held_back.discard(kept)
        close(*kept.given)
        kept.given = []
        kept.output = b"".join(kept.outputs.values())[: kept.limit]
        kept.outputs.clear()
        if kept.channel is not None:
            self.unwatch(kept.channel.fd)
            kept.channel.socket.close()
            kept.channel = None
        if len(kept.output) > MAX_PACKET // 2:
            try:
                kept.memfd = posix.memfd_create("podvisor-output", posix.MFD_CLOEXEC)
                with memoryview(kept.output) as view:
                    at = 0
                    while at < len(view):
                        at += posix.write(kept.memfd, view[at:])
                kept.output = b""
            except OSError:
                kept.output = kept.output[: MAX_PACKET // 2]
        self.tell_kept(kept)

    def tell_kept(self, kept: KeptExec) -> None:
        if not kept.done:
            self.tell(("executing", kept.key, kept.name))
            return
        output, fds = (kept.output, []) if kept.memfd < 0 else (None, [kept.memfd])
        self.tell(("execed", kept.key, kept.name, kept.answer, kept.stopped, output), *fds)

    def end_exec(self, name: "tuple[object, str]") -> None:
        kept = self.kept.get(name)
        if kept is None or kept.done:
            return
        kept.stopped = True
        if kept.channel is None:
            self.finish_kept(kept)
            return
        try:
            kept.channel.socket.shutdown(_socket.SHUT_WR)
        except OSError:  # it is gone
            pass

    def forget_exec(self, name: "tuple[object, str]") -> None:
        kept = self.kept.pop(name, None)
        if kept is not None:
            if not kept.done:
                self.finish_kept(kept)  # its minder sees the end and ends the program
            close(kept.memfd)

    # -- containers of a launcher that was killed --

    def adopt(
        self,
        key: object,
        fields: object,
        survivor: "dict[str, Any]",
        fds: "list[int]",
        truncated: bool,
    ) -> None:
        """Take on a container that is not our child. With it come pidfds, as far as there are any,
        of the main and of the reaper, if it has one: they were opened while it lived; and what its
        stdin is written to."""
        known = self.containers.get(key)
        if known is not None:
            self.tell_started(known)
            return
        try:
            order = self.order(fields, fds, truncated)
            if truncated:
                raise OSError(errno.EMFILE, "")
        except OSError as error:
            self.tell(("failed", key, False, "adopt", error.errno or 0, b""))
            return
        has_reaper = survivor["reaper"] != survivor["main"] or self.needs_reaper(order)
        container = Container(key, order, has_reaper)
        container.survivor = survivor
        container.is_guest = has_reaper and self.isolation != GROUP
        if container.is_guest and order.shares:
            container.pause = self.pauses.get(key[0])  # type: ignore[index]
        container.started = survivor["started"]
        container.main = survivor["main"]
        container.main_pidfd = fds.pop(0) if survivor["has_main"] else -1
        container.child, container.child_pidfd = container.main, container.main_pidfd
        self.look_at_view(container)
        if container.has_reaper:
            container.child = survivor["reaper"]
            container.child_pidfd = fds.pop(0) if survivor["has_reaper"] else -1
        if survivor["has_input"]:
            container.input = fds.pop(0)
        if container.has_reaper and container.main_pidfd >= 0:
            self.watch(container.main_pidfd, lambda: self.on_main(container))
        self.containers[key] = container
        self.tell_started(container)
        if container.child_pidfd >= 0:
            self.watch(container.child_pidfd, lambda: self.on_survivors_end(container))
        else:
            self.on_survivors_end(container)

    def on_survivors_end(self, container: Container) -> None:
        if container in self.dying or container.exit is not None:
            return
        if container.child_pidfd >= 0 and not readable(container.child_pidfd, 0.0):
            return
        self.unwatch(container.child_pidfd)
        self.unwatch(container.main_pidfd)
        self.headless.discard(container)
        for pid, key in self.minders.values():
            if key == container.key and container.has_reaper:
                end_tree(pid)
        if container.main_pidfd >= 0 and not readable(container.main_pidfd, 0.0):
            # Its reaper was killed. Who has left the main's tree cannot be found any more, but for
            # the mount namespace that it may have.
            end_tree(container.main)
        self.look_at_pause(container)
        if container.is_guest:
            self.sweep_view(container)
        self.dying[container] = boottime() + CODE_CAP
        self.learn_code(container)

    def learn_code(self, container: Container) -> None:
        """How an adopted container ended. -1: nobody knows any more."""
        code = self.look_for_code(container)
        if code is None:
            if boottime() < self.dying[container]:
                return
            code = -1
        del self.dying[container]
        container.exit = (code, time.time(), boottime())
        container.deadline = boottime() + DRAIN_CAP
        self.draining.add(container)
        self.look_for_word(container)

    def look_for_code(self, container: Container) -> "int | None":
        assert container.survivor is not None
        if container.has_reaper:
            word = read_if_there(beside(container.order.record, b"exit"))
            if word is not None:
                return int(word)
        if container.child_pidfd < 0:
            return -1
        # Known to the kernel from when its parent has reaped it, for as long as we hold the pidfd.
        try:
            question = PIDFD_INFO_EXIT.to_bytes(8, sys.byteorder) + bytes(56)
            answer = fcntl.ioctl(container.child_pidfd, PIDFD_GET_INFO, question)
            if int.from_bytes(answer[:8], sys.byteorder) & PIDFD_INFO_EXIT:
                return shell_code(int.from_bytes(answer[60:64], sys.byteorder))
        except OSError:  # an older kernel
            pass
        # Its parent may take a while, and until then everybody can see.
        stat = read_if_there(b"/proc/%d/stat" % container.child)
        if stat is not None:
            words = stat.rpartition(b")")[2].split()
            if words[0] == b"Z" and words[19] == container.survivor["start"]:
                code = shell_code(int(words[-1]))
                # To whom it is not shown, it is 0: ask for what the same right is needed for.
                if code or may_look_into(container.child):
                    return code
        return None

    def look_for_word(self, container: Container) -> None:
        """The logger of the launcher before us reads on, and says when a log is complete."""
        word = read_if_there(beside(container.order.record, b"drained"))
        mark, dropped = (word or b" 0").split(b" ")
        assert container.survivor is not None
        container.drained = mark == container.survivor["mark"]
        if not container.drained and boottime() < container.deadline:
            return
        container.dropped = int(dropped) if container.drained else 0
        self.draining.discard(container)
        self.tell_exit(container)

    # -- ending --

    def on_exit(self, container: Container) -> None:
        info = posix.waitid(
            P_PIDFD, container.child_pidfd, posix.WEXITED | posix.WNOWAIT | posix.WNOHANG
        )
        if info is None:
            return
        self.unwatch(container.child_pidfd)
        if container.control >= 0 and container.control in self.handlers:
            self.on_reaper(container)
        self.unwatch(container.main_pidfd)
        self.headless.discard(container)
        self.on_status(container)
        if container.status >= 0:  # held by somebody who cannot be: never wait for it
            self.unwatch(container.status)
            close(container.status)
            container.status = -1
        code = info.si_status if info.si_code == posix.CLD_EXITED else 128 + info.si_status
        container.exit = (code, time.time(), boottime())
        container.deadline = boottime() + DRAIN_CAP
        if info.si_code != posix.CLD_EXITED:
            self.look_at_pause(container)
            if self.isolation == GROUP:
                self.sweep_orphans()
            elif container.is_guest:
                self.sweep_view(container)
        if container.is_guest and container.pause is None:
            # At once: its host, pid 1 there, cannot end while any process there is a zombie. A
            # launcher that comes after us has the code from a file, as of every reaper that swept.
            posix.waitid(P_PIDFD, container.child_pidfd, posix.WEXITED)
            if self.durable and info.si_code != posix.CLD_EXITED:
                try:
                    replace_file(beside(container.order.record, b"exit"), b"%d\n" % code)
                except OSError:  # then it is lost, if we die before it is acknowledged
                    pass
        if container.started is None:
            if container.failure is None:
                container.failure = (True, "killed", 0, b"%d" % code)
            if self.durable:
                self.note_failure(container)
            self.tell(("failed", container.key, *container.failure))
            container.told = True
            self.acknowledge(container.key)
        if self.logger_channel is not None:
            self.logger_channel.send(("end", container.slot))

    def note_failure(self, container: Container) -> None:
        """The answer to a start may never be heard; it is asked for again then. What has used up
        its attempt stays on record, what left nothing may be tried again."""
        assert container.failure is not None
        record = container.order.record
        try:
            if container.failure[0]:
                failure = marshal.dumps(container.failure, 2).hex().encode()
                replace_file(record, read_file(record) + b"failed %s\n" % failure)
            else:
                posix.unlink(record)
        except OSError:  # no record had been written, or there is no room for more
            pass

    def tell_exit(self, container: Container, again: bool = False) -> None:
        if container.exit is not None and container.told is again:
            container.told = True
            logs = (bool(container.drained), container.dropped)
            self.tell(("exit", container.key, *container.exit, *logs))
            if failpoints:
                if self.channel is not None:
                    self.channel.flush()
                pass_failpoint("after-exit-told", "ContainerExited")

    def sweep_orphans(self, patience: float = 1.0) -> None:
        """A reaper was killed: what it left behind has come to us, its own sub-reaper."""
        known = {self.logger} | {c.child for c in self.containers.values()}
        known |= {pid for pid, _ in self.minders.values()}
        give_up = boottime() + patience
        while boottime() < give_up:
            lost = [pid for pid in children(posix.getpid()) if pid not in known]
            if not lost:
                return
            for pid in lost:
                for below in (pid, *descendants(pid)):
                    send(below, SIGKILL)
                try:
                    posix.waitpid(pid, posix.WNOHANG)
                except ChildProcessError:
                    pass

    def sweep_view(self, container: Container) -> None:
        """A reaper in a shared pid namespace was killed: what it left behind has come to its pid 1.
        Whose each is, their mount namespaces tell. Looked for among all processes: below pid 1,
        who is handed from a parent that ends to the next one can be missed."""
        send_by(container.main_pidfd, SIGKILL)
        if container.view < 0:
            return
        status = posix.fstat(container.view)
        view = status.st_dev, status.st_ino
        give_up = boottime() + 1.0
        while boottime() < give_up:
            pids = [int(name) for name in posix.listdir("/proc") if name.isdigit()]
            left = [pid for pid in pids if mount_namespace(pid) == view]
            if not left:
                return
            for pid in left:
                try:
                    pidfd = posix.pidfd_open(pid, 0)
                except OSError:
                    continue
                if mount_namespace(pid) == view:  # it means whom we hold
                    send_by(pidfd, SIGKILL)
                posix.close(pidfd)

    def look_at_view(self, container: Container) -> None:
        """Held open, no other mount namespace can get its number."""
        if container.is_guest and container.main > 0:
            try:
                flags = posix.O_RDONLY | posix.O_CLOEXEC
                container.view = posix.open(b"/proc/%d/ns/mnt" % container.main, flags)
            except OSError:  # it has ended, or we are out of descriptors
                pass

    # -- pods that share a pid namespace --

    def create_sandbox(self, uid: str, record: bytes, fds: "list[int]") -> None:
        """Start the pause of a pod, or take on the one that a killed launcher has left."""
        known = self.pauses.get(uid)
        if known is not None:
            if known.ready:
                self.tell(("sandbox", uid), known.pidfd)
            return  # else the answer is on its way
        try:
            if fds:
                pause = Pause(uid, record, fds.pop(0), False)
                pause.ready = True
            else:
                pause = self.fork_pause(uid, record)
        except OSError as error:
            self.tell(("sandbox-failed", uid, error.errno or 0))
            return
        self.pauses[uid] = pause
        self.watch(pause.pidfd, lambda: self.on_pause(pause))
        if pause.ready:
            self.tell(("sandbox", uid), pause.pidfd)
        else:
            self.watch(pause.status, lambda: self.on_pause_status(pause))

    def fork_pause(self, uid: str, record: bytes) -> Pause:
        ends: list[int] = []
        try:
            ends += posix.pipe2(posix.O_CLOEXEC)
            ends += posix.pipe2(posix.O_CLOEXEC)
            status, status_write, release, release_write = ends
            pid, pidfd = fork_into(CLONE_NEWPID)
            if pid == 0:
                run_pause(self.durable, status_write, release)
            try:
                pause = Pause(uid, record, pidfd, True)
                if failpoints:
                    pass_failpoint("after-clone", "CreateSandbox")
                replace_file(record, self.identify(pid, pidfd) + b"uid %s\n" % uid.encode())
                if failpoints:
                    pass_failpoint("after-spawn-record", "CreateSandbox")
                posix.write(release_write, b"r")
            except OSError:
                send_by(pidfd, SIGKILL)
                posix.waitpid(pid, 0)
                posix.close(pidfd)
                raise
            posix.set_blocking(status, False)
            pause.status = status
            ends.remove(status)
            return pause
        finally:
            close(*ends)

    def on_pause_status(self, pause: Pause) -> None:
        try:
            answer = posix.read(pause.status, MAX_PACKET)
        except BlockingIOError:
            return
        self.unwatch(pause.status)
        close(pause.status)
        pause.status = -1
        if answer or readable(pause.pidfd, 0.0):
            number = marshal.loads(answer)[1] if answer else 0
            pause.unwanted = True
            self.tell(("sandbox-failed", pause.uid, number))
            self.lose_pause(pause)
        else:
            pause.ready = True
            self.tell(("sandbox", pause.uid), pause.pidfd)
            if failpoints:
                pass_failpoint("after-spawn", "CreateSandbox")

    def end_sandbox(self, uid: str) -> None:
        pause = self.pauses.get(uid)
        if pause is None:
            self.tell(("sandbox-ended", uid))
            return
        pause.unwanted = True
        if failpoints:
            pass_failpoint("before-kill", "FinishPod")
        send_by(pause.pidfd, SIGKILL)
        if failpoints:
            pass_failpoint("after-kill", "FinishPod")

    def on_pause(self, pause: Pause) -> None:
        """It is gone, and with it every process of its namespace."""
        if pause.is_child and not posix.waitid(P_PIDFD, pause.pidfd, posix.WEXITED | posix.WNOHANG):
            return
        if pause.status >= 0:
            self.on_pause_status(pause)
        self.lose_pause(pause)
        self.leaving.discard(pause)
        self.unwatch(pause.pidfd)
        close(pause.pidfd)
        pause.pidfd = -1
        if pause.uid not in self.pauses:
            unlink(pause.record)
            if pause.unwanted:
                self.tell(("sandbox-ended", pause.uid))
                if failpoints:
                    if self.channel is not None:
                        self.channel.flush()
                    pass_failpoint("after-exit-told", "SandboxEnded")

    def look_at_pause(self, container: Container) -> None:
        """It cannot be gone before its namespace's last process is reaped, and reapers that it has
        taken with it wait for acknowledgement: so see whether it is dying."""
        pause = container.pause
        if pause is None or pause not in self.pauses.values():
            return
        stat = read_if_there(b"/proc/%d/stat" % pause.pid)
        if stat is None or int(stat.rpartition(b")")[2].split()[6]) & PF_EXITING:
            self.lose_pause(pause)

    def lose_pause(self, pause: Pause) -> None:
        """Nothing can be started in its namespace any more."""
        if self.pauses.get(pause.uid) is pause:
            del self.pauses[pause.uid]
            self.leaving.add(pause)
            send_by(pause.pidfd, SIGKILL)
            if not pause.unwanted:
                self.tell(("sandbox-lost", pause.uid))

    # -- the logger --

    def start_logger(self) -> None:
        """Fork a logger. It inherits our table, so a new one needs no telling what there is."""
        pair: tuple[_socket.socket, ...] = ()
        try:
            pair = _socket.socketpair(
                _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
            )
            pid, pidfd = fork_into(0)
        except OSError:
            for end in pair:
                end.close()
            self.logger_due = boottime() + 0.2
            return
        ours, theirs = pair
        if pid == 0:
            self.become_logger(theirs.detach())
        theirs.close()
        self.logger, self.logger_pidfd, self.logger_started = pid, pidfd, boottime()
        self.logger_channel = Channel(ours.detach())
        self.watch(self.logger_channel.fd, self.on_logger)
        self.watch(pidfd, self.on_logger_death)

    def become_logger(self, control: int) -> None:
        try:
            set_process_name(b"podvisor-logger")
            pipes = {fd for c in self.slots.values() for fd in (c.out, c.err)}
            call(_prctl, PR_SET_PDEATHSIG, SIGCONT, 0, 0, 0)  # stopped, it would outlive us
            close_all_but({control, LOGS_FD} | pipes)
            logger = Logger(Channel(control), self.area, self.durable)
            if self.durable:
                # Who finds this launcher dead must know whether its pipes still have a reader.
                place = self.state_dir + b"/loggers/" + self.generation
                try:
                    make_folders(parent(place))
                    replace_file(place, b"%d %s\n" % (posix.getpid(), start_time(posix.getpid())))
                except OSError:  # a full disk: then nobody knows, and a crash ends containers
                    pass
            for container in self.slots.values():
                what = (container.order.log, container.mark, container.order.tty)
                ends = (container.out, container.err)
                logger.attach(container.slot, *what, *self.rotation, *ends)
            logger.recover()
            for container in self.slots.values():
                if container.exit is not None:
                    logger.end(container.slot)
            logger.run()
            if self.durable:
                unlink(place)
        except BaseException:
            if posix.fstat(2).st_size < MAX_PACKET:  # it may fail over and over
                sys.excepthook(*sys.exc_info())
            _exit(70)
        _exit(0)

    def on_logger(self) -> None:
        channel = self.logger_channel
        while channel is not None and (received := channel.receive()) is not None:
            if not received[0]:
                return  # its pidfd tells
            message = marshal.loads(received[0])
            container = self.slots.get(message[1])
            if container is None:
                continue
            if message[0] == "drop":
                container.dropping = (time.time(), boottime(), message[2])
                self.tell(("drop", container.key, *container.dropping))
            else:
                del self.slots[container.slot]
                self.free.append(container.slot)
                close(container.out, container.err)
                if container.drained is None:
                    container.drained = True
                    container.dropped = message[2]
                self.tell_exit(container)

    def on_logger_death(self) -> None:
        self.on_logger()  # what it said before it died counts
        posix.waitid(P_PIDFD, self.logger_pidfd, posix.WEXITED)
        self.unwatch(self.logger_pidfd)
        close(self.logger_pidfd)
        if self.logger_channel is not None:
            self.unwatch(self.logger_channel.fd)
            self.logger_channel.socket.close()
        self.logger_channel, self.logger, self.logger_pidfd = None, -1, -1
        # At once, unless it keeps dying.
        lived = boottime() - self.logger_started
        self.logger_due = boottime() + (0.0 if lived > 0.02 else 0.05)

    # -- the end --

    def shut_down(self) -> None:
        """Kill everything, and end only when it is gone: our end is the supervisor's proof.

        But not for ever: what cannot be killed (a disk that does not answer, another user's
        program) is left after a while.
        """
        deadline = boottime() + END_CAP
        # Minders before the mains, which their zombies would hold.
        for pidfd in list(self.joining):
            if readable(pidfd, min(deadline, boottime() + 1.0)):
                self.on_joined(pidfd)
        for pidfd, (pid, _) in self.minders.items():
            if self.isolation == GROUP:
                end_tree(pid)
            send_by(pidfd, SIGKILL)
        for pidfd in list(self.minders):
            if readable(pidfd, min(deadline, boottime() + 1.0)):
                self.on_minder(pidfd)
        pauses = [*self.pauses.values(), *self.leaving]
        for pause in pauses:
            send_by(pause.pidfd, SIGKILL)
        live = [c for c in self.containers.values() if c.exit is None]
        for container in live:
            # A reaper ends by itself, after its sweep, once the main or its socket is gone.
            send_by(container.main_pidfd, SIGKILL)
            close(container.control)
            container.control = -1
            send_by(container.child_pidfd, SIGCONT if container.has_reaper else SIGKILL)
        for container in sorted(live, key=lambda container: not container.is_guest):
            while not readable(container.child_pidfd, min(deadline, boottime() + NUDGE)):
                if boottime() >= deadline:
                    break
                send_by(container.child_pidfd, SIGCONT)
            if container.is_guest:
                reap()  # what its host waits for
        if self.isolation == GROUP:
            for container in live:
                if not readable(container.child_pidfd, 0.0):
                    for pid in descendants(container.child):
                        send(pid, SIGKILL)
                    send_by(container.child_pidfd, SIGKILL)
            self.sweep_orphans(0.3)
        if pauses:
            reap()  # what they wait for
            for pause in pauses:
                readable(pause.pidfd, deadline)
        if self.logger_channel is not None:
            self.logger_channel.socket.close()  # it ends when it has read all pipes to their end
            if not readable(self.logger_pidfd, boottime() + 0.5):
                send_by(self.logger_pidfd, SIGKILL)
                readable(self.logger_pidfd, boottime() + 0.2)
        if self.durable:
            unlink(self.state_dir + b"/loggers/" + self.generation)
        if self.orphaned and readable(self.supervisor, boottime() + 1.0):
            deadline = boottime() + REMOVE_CAP
            for folder in self.bequest:
                remove_pods(folder, deadline)
        reap()  # leave no zombie to an init that is slow or none


def open_counted(folder: bytes) -> int:
    """A descriptor of the folder that tells when it is removed; -1 where that cannot be told, as on
    file systems that never count a folder's links."""
    try:
        fd = posix.open(folder, O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except OSError:
        return -1
    if links_of(fd) > 0:
        return fd
    posix.close(fd)
    return -1


def links_of(fd: int) -> int:
    """How many names what is open has; -1 where nobody can say."""
    try:
        return posix.fstat(fd).st_nlink
    except OSError:  # a file system of another machine, or one that was taken away
        return -1


def send_by(pidfd: int, signum: int) -> None:
    if pidfd >= 0:
        try:
            _signal.pidfd_send_signal(pidfd, signum)
        except OSError:  # it has ended, or may not be signalled
            pass


def readable(fd: int, deadline: float) -> bool:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(max(0, int((deadline - boottime()) * 1000))))


def spare_of(record: bytes) -> bytes:
    return parent(record) + b"/spare"


def beside(path: bytes, suffix: bytes) -> bytes:
    """What else is written down about an attempt, next to its log and its spawn record."""
    return path[: path.rfind(b".") + 1] + suffix


def find_terminal(slave: int) -> int:
    """Open it where containers find it too: our multiplexer may stand elsewhere."""
    found = posix.ttyname(slave)
    path = "/dev/pts" + found[found.rfind("/") :]
    fd = posix.open(path, posix.O_RDWR | posix.O_NOCTTY | posix.O_CLOEXEC)
    if posix.fstat(fd).st_rdev == posix.fstat(slave).st_rdev:
        return fd
    posix.close(fd)
    raise OSError(errno.ENXIO, "")


def give(pipe: int, order: Order) -> None:
    """To the container's user, who could not open it as /proc/1/fd/1 otherwise."""
    if order.uid is not None or order.gid is not None:
        try:
            posix.fchown(
                pipe,
                -1 if order.uid is None else order.uid,
                -1 if order.gid is None else order.gid,
            )
        except OSError:  # not ours to give: the start will fail on setuid, and say so
            pass


def pid_of(pidfd: int) -> int:
    """As we number it; -1 when it is gone."""
    info = read_file(b"/proc/self/fdinfo/%d" % pidfd)
    return int(info.partition(b"Pid:")[2].split()[0])


def start_time(pid: int) -> bytes:
    """With the pid and the boot id, the identity of a process."""
    return read_file(b"/proc/%d/stat" % pid).rpartition(b")")[2].split()[19]


def may_look_into(pid: int) -> bool:
    try:
        posix.readlink(f"/proc/{pid}/ns/user")
    except OSError:
        return False
    return True


def read_if_there(path: bytes) -> "bytes | None":
    try:
        return read_file(path)
    except OSError:
        return None


def replace_file(path: bytes, text: bytes) -> None:
    write_new(path + b".tmp", text)
    posix.rename(path + b".tmp", path)


def unlink(path: bytes) -> None:
    try:
        posix.unlink(path)
    except OSError:
        pass


def write_new(path: bytes, text: bytes) -> None:
    """Write a file that is not there, or leave none."""
    try:
        posix.unlink(path)
    except FileNotFoundError:
        pass
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC
    fd = posix.open(path, flags, 0o600)
    try:
        if posix.write(fd, text) != len(text):
            raise OSError(errno.ENOSPC, "")
    except OSError:
        posix.unlink(path)
        raise
    finally:
        posix.close(fd)


def make_folders(path: bytes) -> None:
    try:
        posix.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except FileNotFoundError:
        make_folders(parent(path))
        make_folders(path)


def let_pass(path: bytes, top: bytes) -> None:
    """Group mode, another user: no bind leads past our private folders, so open a way through."""
    while path.startswith(top):
        posix.chmod(path, 0o711)
        path = parent(path)


def read_file(path: bytes) -> bytes:
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return posix.read(fd, MAX_PACKET)
    finally:
        posix.close(fd)


def read_all(fd: int) -> bytes:
    size = posix.fstat(fd).st_size
    parts, offset = [], 0
    while offset < size and (part := posix.pread(fd, size - offset, offset)):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


# --- what a dead supervisor has left -------------------------------------------------------------

SECRET_KINDS = ("kubernetes.io~secret", "kubernetes.io~projected")


def remove_pods(folder: int, deadline: float) -> None:
    """Remove what pods have in a folder of the node. Secrets first: it may be too much for all."""
    try:
        pods = step(folder, "pods")
    except OSError:  # none has come so far
        return
    for kind in SECRET_KINDS:
        for uid in posix.listdir(pods):
            opened = [pods]
            try:
                for name in (uid, "volumes", kind):
                    opened.append(step(opened[-1], name))
                clear(opened[-1], deadline)
            except OSError:  # it has none
                pass
            close(*opened[1:])
    clear(pods, deadline)
    close(pods)


def step(folder: int, name: str) -> int:
    """Open a directory in a directory, whoever may read it: all is ours here. Never a link."""
    flags = posix.O_DIRECTORY | posix.O_CLOEXEC
    handle = posix.open(name, O_PATH | posix.O_NOFOLLOW | flags, dir_fd=folder)
    try:
        if mount_of(handle) != mount_of(folder):
            raise OSError(errno.EXDEV, "")  # somebody has mounted something there
        posix.chmod(fd_path(handle), 0o700)
        return posix.open(fd_path(handle), posix.O_RDONLY | flags)
    finally:
        posix.close(handle)


def mount_of(fd: int) -> int:
    """What lies on one file system may have been mounted from elsewhere in it."""
    info = read_file(b"/proc/self/fdinfo/%d" % fd)
    return int(info.partition(b"mnt_id:")[2].split()[0])


def clear(folder: int, deadline: float) -> None:
    """Remove all that is in a directory, as far as that is possible, and not after the deadline.

    What lies deeper is moved up before it is removed, so that no depth costs descriptors or stack.
    """
    stuck: set[str] = set()
    moved = 0
    found = True
    while found:
        found = False
        with posix.scandir(folder) as entries:
            for entry in entries:
                if entry.name in stuck:
                    continue
                if boottime() >= deadline:
                    return
                found = True
                try:
                    if entry.is_dir(follow_symlinks=False):
                        moved = lift(folder, entry.name, moved, deadline)
                    else:
                        posix.unlink(entry.name, dir_fd=folder)
                except OSError:
                    stuck.add(entry.name)


def lift(folder: int, name: str, moved: int, deadline: float) -> int:
    """Remove a directory in a directory; what directories it has come to stand beside it, with
    numbers for names. Returns the last of these. Raises OSError if something stays."""
    inner = step(folder, name)
    try:
        stays = False
        with posix.scandir(inner) as entries:
            for entry in entries:
                if boottime() >= deadline:
                    return moved
                try:
                    if entry.is_dir(follow_symlinks=False):
                        posix.close(step(inner, entry.name))  # else it may not be moved
                        moved += 1
                        new = f"..{moved}"
                        posix.rename(entry.name, new, src_dir_fd=inner, dst_dir_fd=folder)
                    else:
                        posix.unlink(entry.name, dir_fd=inner)
                except OSError:
                    stays = True
        if stays:
            raise OSError(errno.ENOTEMPTY, "")
    finally:
        posix.close(inner)
    posix.rmdir(name, dir_fd=folder)
    return moved


# --- which isolation does this machine allow? ---------------------------------------------------


class TrialError(Exception):
    def __init__(self, step: str, number: int) -> None:
        self.step, self.number = step, number


def enter(isolation: str, survivors: "tuple[int, ...]" = ()) -> None:
    """Bring this process where containers of that mode can be forked. Raises TrialError.

    `survivors`: pidfds of containers that were forked there already.
    """
    step = ""
    try:
        if isolation == GROUP:
            step = "become a sub-reaper"
            call(_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            step = "list child processes in /proc"
            posix.close(posix.open(f"/proc/self/task/{posix.getpid()}/children", posix.O_RDONLY))
            return
        if isolation == ROOTLESS:
            step = "join the user namespace of the containers"
        if isolation == ROOTLESS and not join_any(survivors):
            uid, gid = posix.geteuid(), posix.getegid()
            step = "create a user namespace"
            call(_unshare, CLONE_NEWUSER)
            step = "map the user into its namespace"
            for name, text in (
                ("setgroups", b"deny"),
                ("uid_map", b"%d %d 1" % (uid, uid)),
                ("gid_map", b"%d %d 1" % (gid, gid)),
            ):
                fd = posix.open("/proc/self/" + name, posix.O_WRONLY | posix.O_CLOEXEC)
                try:
                    posix.write(fd, text)
                finally:
                    posix.close(fd)
        step = "create a mount namespace"
        call(_unshare, CLONE_NEWNS)
        step = "make all mounts slaves"
        # Not private: private copies would pin the host's mounts and never see new ones.
        mount(None, b"/", None, MS_REC | MS_SLAVE)
    except OSError as error:
        raise TrialError(step, error.errno or 0) from None


def join_any(members: "tuple[int, ...]") -> bool:
    """Join a user namespace: containers of two could not be entered by one launcher.

    False when all members have ended.
    """
    for member in members:
        try:
            call(_setns, member, CLONE_NEWUSER)
        except ProcessLookupError:
            continue
        return True
    return False


def rehearse() -> None:
    """Fork one container without a program. Masked parts of /proc forbid only the last step."""
    answer, answer_write = posix.pipe2(posix.O_CLOEXEC)
    release, release_write = posix.pipe2(posix.O_CLOEXEC)
    try:
        pid, pidfd = fork_into(CLONE_NEWPID | CLONE_NEWNS)
    except OSError as error:
        close(answer, answer_write, release, release_write)
        raise TrialError("create a pid namespace", error.errno or 0) from None
    if pid == 0:
        step, number = "be pid 1", 0
        try:
            posix.close(release_write)
            if posix.getpid() == 1:
                step = "bind a file"
                mount(b"/dev/null", b"/dev/null", None, MS_BIND)
                step = "mount /proc"
                mount(b"proc", b"/proc", b"proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
                step = "read /proc/1/comm"
                read_file(b"/proc/1/comm")
                step = ""
        except OSError as error:
            number = error.errno or 0
        finally:
            posix.write(answer_write, marshal.dumps((step, number), 2))
            posix.read(release, 1)
            _exit(0)
    close(answer_write, release)
    joined = rehearse_join(pidfd)  # meanwhile
    data = posix.read(answer, 4096)
    close(answer, release_write, pidfd)
    posix.waitpid(pid, 0)
    step, number = marshal.loads(data) if data else ("run a process as pid 1", 0)
    if not step:
        step, number = joined
    if step:
        raise TrialError(step, number)


def rehearse_join(member: int) -> "tuple[str, int]":
    """Join a container that is there already. Returns what could not be done and the errno."""
    try:
        pid, pidfd = fork_into(0)
    except OSError as error:
        return "create a process", error.errno or 0
    if pid == 0:
        number = 255
        try:
            call(_setns, member, CLONE_NEWPID | CLONE_NEWNS)
            number = 0
        except OSError as error:
            number = error.errno or 0
        finally:
            _exit(number)
    posix.close(pidfd)
    number = posix.waitstatus_to_exitcode(posix.waitpid(pid, 0)[1])
    step = "enter the namespaces of a container (needs Linux 5.8)" if number else ""
    return step, max(number, 0)


def attempt(isolation: str) -> "tuple[str, str, int]":
    """Try a mode in a child of its own, leaving this process as it is: (mode, step, errno).

    `step` is empty when all of it works.
    """
    answer, answer_write = posix.pipe2(posix.O_CLOEXEC)
    pid = posix.fork()
    if pid == 0:
        result = (isolation, "run", 0)
        try:
            enter(isolation)
            if isolation != GROUP:
                rehearse()
            result = (isolation, "", 0)
        except TrialError as failure:
            result = (isolation, failure.step, failure.number)
        finally:
            posix.write(answer_write, marshal.dumps(result, 2))
            _exit(0)
    close(answer_write)
    data = posix.read(answer, 4096)
    close(answer)
    posix.waitpid(pid, 0)
    return marshal.loads(data) if data else (isolation, "run", 0)


def choose(
    wanted: str, survivors: "tuple[int, ...]" = ()
) -> "tuple[str | None, list[tuple[str, str, int]]]":
    """Enter the best mode that works, or the wanted one, or none; with what was tried."""
    trials: list[tuple[str, str, int]] = []
    modes = MODES if wanted == "auto" else (wanted,)
    for isolation in modes:
        if isolation == ROOTLESS and wanted == "auto":
            # There is no way back out of a user namespace: try it aside.
            trials.append(attempt(isolation))
            if trials[-1][1]:
                continue
            trials.pop()
        try:
            enter(isolation, survivors)
            if isolation == PIDNS or (isolation == ROOTLESS and wanted != "auto"):
                rehearse()
        except TrialError as failure:
            trials.append((isolation, failure.step, failure.number))
            continue
        trials.append((isolation, "", 0))
        return isolation, trials
    return None, trials


def main(arguments: "list[str]") -> None:
    """`launcher doctor`, or, with our descriptors in place, MODE LOG_SIZE LOG_FILES SOFT_NOFILE,
    and in a durable node STATE_DIR and the number after our last descriptor."""
    if arguments == ["doctor"]:
        for mode, step, number in map(attempt, MODES):
            sys.stdout.write(f"{mode}\t{number}\t{step}\n")
        sys.stdout.flush()
        return
    wanted = arguments[0]
    size, files, soft_files = (int(word) for word in arguments[1:4])
    durable = len(arguments) > 4
    end = int(arguments[5]) if durable else LISTEN_FD
    state_dir = b""
    if durable:
        state_dir = arguments[4].encode(sys.getfilesystemencoding(), "surrogateescape")
    posix.closerange(end, 0x7FFFFFFF)
    for fd in range(SOCKET_FD, end):
        posix.set_inheritable(fd, False)
    posix.chdir("/")
    set_process_name(b"podvisor-launch")
    arm_failpoints(
        posix.environ.pop(b"PODVISOR_FAILPOINTS", b"").decode(),
        posix.environ.pop(b"PODVISOR_FAILPOINTS_LOG", b""),
    )
    origin = Origin(soft_files, durable)
    channel = Channel(SOCKET_FD)
    isolation, trials = choose(wanted, tuple(range(LISTEN_FD + 1, end)))
    close(*range(LISTEN_FD + 1, end))
    try:
        # Not a memfd: RLIMIT_FSIZE is for all files, and a hard one cannot be raised. Of its 130
        # MiB only what is touched takes memory.
        area = mmap.mmap(-1, AREA_SIZE)
    except OSError as error:  # RLIMIT_AS
        trials.append((isolation or wanted, "reserve memory for logs", error.errno or 0))
        isolation = None
    channel.send(("hello", VERSION, isolation, tuple(trials)))
    if isolation is None:
        return
    # The supervisor has its own work now: all below is off its critical path.
    gc.disable()
    if isolation != GROUP:
        try:
            prepare_dev()
        except (OSError, CannotStartError):
            pass  # then each container makes the place for itself, or says why it cannot
    launcher = Launcher(channel, isolation, origin, area, (size, files), tuple(trials), state_dir)
    gc.freeze()
    launcher.start_logger()
    try:
        launcher.run()
    finally:
        launcher.shut_down()
        sys.stderr.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
