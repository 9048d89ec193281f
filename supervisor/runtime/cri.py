"""The contract between the kubelet shell and whatever runs containers (words of CRI and OCI).

The shell knows only this protocol. `launch.py` fulfils it with the launcher process, the tests
of the shell with a fake. Implementations report what happened and decide nothing: no restart, no
deadline, no policy.
"""

from __future__ import annotations

import enum
import signal
from collections.abc import AsyncIterator, Iterable
from typing import Protocol, Self

from msgspec import Struct

from supervisor.lifecycle.facts import ContainerId, Instant


class Isolation(enum.StrEnum):
    """How containers are kept apart; chosen once at start by trying it."""

    PIDNS = "pidns"  # pid and mount namespaces, made by root
    PIDNS_ROOTLESS = "pidns-rootless"  # the same inside one user namespace
    GROUP = "group"  # no namespaces: session, sub-reaper, descendant sweep


class Mount(Struct, frozen=True):
    """A file or directory of the host that a container sees at a path of its own.

    Where the target lies in another mount and is missing, it is made there: in a mount that may be
    written to, and in one of the node's own, whose source is spelled below one of its folders.
    """

    source: str  # on the host, absolute; it exists
    target: str  # in the container, absolute and normal; it need not exist on the host
    read_only: bool = False
    sub_path: str = ""  # what of `source` is meant; the launcher is given it as `source`


class LaunchSpec(Struct, frozen=True):
    """Everything needed to start one instance; made by spec.py, pure data.

    Text stands for its UTF-8 bytes, other bytes for their surrogate escapes, whatever the locale;
    only log_path and termination_file are paths as `os` takes them.
    """

    id: ContainerId
    argv: tuple[str, ...]  # argv[0] is looked up in PATH of `env`, relative to `cwd`
    env: tuple[tuple[str, str], ...]
    cwd: str
    log_path: str  # CRI log file of this attempt on the host
    termination_path: str  # where the container finds its termination message file
    termination_file: str  # that file on the host, made by the runtime: empty, mode 0666
    uid: int | None = None  # None: as the node
    gid: int | None = None
    groups: tuple[int, ...] | None = None  # supplementary groups; None: as the node
    mounts: tuple[Mount, ...] = ()  # parents come before what lies in them
    shares: bool = False  # the pid namespace of its sandbox; not in mode group
    # Whose pid namespace it joins, and with which it ends; not in mode group, nor if it `shares`.
    target: ContainerId | None = None
    stdin: bool = False  # it stays open, and somebody may write to it; else it is /dev/null
    stdin_once: bool = False  # it ends with the first who has attached to it
    tty: bool = False  # a terminal for stdin, stdout and stderr
    stop_signal: str = ""  # that the image asks for, for whoever stops it; empty: none
    # What it is ended with where no node will ever find it again: a signal, and after how many
    # seconds SIGKILL.
    farewell: tuple[int, int] = (signal.SIGTERM, 30)
    veiled: tuple[str, ...] = ()  # values of Secrets that stand in argv: said in no text of ours

    def __repr__(self) -> str:
        # Reports of bugs end where anybody reads them, and variables hold secrets.
        return f"LaunchSpec({self.id})"


def veil(text: str, secrets: Iterable[str]) -> str:
    """The text without these values."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


class StartError(Exception):
    """The instance did not start. `reason` and `message` are as in ContainerStatus.

    `created` False: nothing was created. True: made, but its program could not be executed.
    """

    def __init__(self, reason: str, message: str, *, created: bool) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.created = created


class Exit(Struct, frozen=True):
    """The main process ended and every process of the container is gone."""

    id: ContainerId
    at: Instant
    exit_code: int  # 0-255; death by signal n is 128+n
    drained: bool = True  # False: the log was not complete when the wait for it was given up
    dropped: int = 0  # log records that could not be written


class LogDrop(Struct, frozen=True):
    """Log records of a running container could not be written. Sent once per instance."""

    id: ContainerId
    at: Instant
    error: str


class Lost(Struct, frozen=True):
    """The instance has ended and nobody knows how. Acknowledged like an exit."""

    id: ContainerId
    at: Instant  # when it was noticed
    logs_lost: bool = False  # what it printed last was read by nobody


class SandboxGone(Struct, frozen=True):
    """A shared pid namespace is gone, or going. The end of each instance in it is other news."""

    pod_uid: str
    at: Instant


News = Exit | LogDrop | Lost | SandboxGone


class Presence(enum.StrEnum):
    """What there is of an instance that an earlier supervisor started or may have started."""

    RUNNING = "running"  # or it has ended meanwhile: its exit is news
    UNKNOWN = "unknown"  # nothing of it runs or ever ran: it may be started
    GONE = "gone"  # it ran, and how it ended is not known


class Found(Struct, frozen=True):
    """What became of an instance."""

    state: Presence
    pid: int = 0  # of the main on the host, when it is running
    started: Instant | None = None
    logs_lost: bool = False  # nobody has read what it printed since its launcher died


class ExecError(Exception):
    """A program could not be started in a container; it says nothing about the container."""


class ContainerGoneError(ExecError):
    """There is no such instance, or it has ended: that is news, or was, or is about to be."""


class ExecInterruptedError(ExecError):
    """A program was begun, or may have been, and was ended for a reason on our side."""


class ExecResult(Struct, frozen=True):
    """What a program run in a container gave."""

    exit_code: int | None  # None: it did not end in time, and was killed with all it had started
    output: bytes  # stdout, then stderr, together at most the limit asked for


class ExecSession(Protocol):
    """A program that runs in a container, and our ends of its streams.

    An async context manager: leaving it kills the program and all that it has started, if it has
    not ended by itself, and closes the descriptors, which nobody may be waiting for by then. What
    a program that ended by itself has left behind goes on. The descriptors do not block.

    With a terminal `stdout` is its master, for reading and writing, and reading says EIO where a
    pipe ends; `stdin` is then a duplicate of it, if it was asked for.
    """

    stdin: int  # what the program reads is written here; -1: it reads /dev/null
    stdout: int  # what the program writes is read here; -1: it writes to /dev/null
    stderr: int  # as stdout; -1 with a terminal, too

    async def wait(self) -> int:
        """The exit code; death by signal n is 128+n.

        What it wrote last is still to be read then, up to the end if nobody that it has left
        behind holds the other end. Raises ExecInterruptedError, NodeError.
        """
        ...

    def close_stdin(self) -> None:
        """The program finds the end of its input; at a terminal it does not. Twice is harmless."""
        ...

    def resize(self, columns: int, rows: int) -> None:
        """Set the size of the terminal. Without one it does nothing."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...


class AttachSession(Protocol):
    """What somebody has of a main's stdin or terminal. What it says is in its log.

    An async context manager: leaving it closes the descriptor, which nobody may be waiting for by
    then, and ends a main's stdin that is there for one only. The descriptor does not block; what
    has ended reads no more: EPIPE, at a terminal EIO.
    """

    stdin: int  # what the main reads is written here; -1: it has no stdin, or that has ended

    def close_stdin(self) -> None:
        """Write no more, as at the end. Twice is harmless."""
        ...

    def resize(self, columns: int, rows: int) -> None:
        """Set the size of the terminal. Without one it does nothing."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...


class Runtime(Protocol):
    """What the kubelet shell asks of a runtime. Methods raise OSError where the machine refuses."""

    @property
    def isolation(self) -> Isolation: ...

    async def create_sandbox(self, pod_uid: str, *, shares: bool = False) -> None:
        """Make the pod's own directories. Doing it twice is harmless.

        `shares`: and a pid namespace for all of its containers, unless the mode is group.
        """
        ...

    async def adopt_sandbox(self, pod_uid: str) -> bool:
        """Take on the pid namespace that an earlier supervisor made; False when it is gone.

        Before its containers are adopted.
        """
        ...

    async def remove_sandbox(self, pod_uid: str) -> None:
        """Remove the pod's own directories (not its logs), and end its pid namespace.

        Nothing of the pod runs any more.
        """
        ...

    async def remove_pod(self, namespace: str, name: str, uid: str) -> None:
        """Remove what is left of a pod that is gone: its logs and all that is kept about it."""
        ...

    async def remove_other_pods(self, known: frozenset[tuple[str, str, str]]) -> None:
        """Remove what is left of all pods but these (namespace, name, uid). Nothing runs of them.

        For when the node comes up: an earlier one may have died before it could do so.
        """
        ...

    async def start(self, spec: LaunchSpec) -> tuple[int, Instant]:
        """Start one instance; return the main's host pid and when it executed its program.

        Raises StartError. Starting an id that already runs returns the running instance. In a
        durable node an id that ran once is never run again: if it ended meanwhile, that is news.
        """
        ...

    async def adopt(self, spec: LaunchSpec) -> Found:
        """Take on an instance that an earlier supervisor started or may have started."""
        ...

    async def end_strays(self, known: frozenset[ContainerId]) -> int:
        """Kill every instance that runs here but is neither adopted nor known; count them.

        Returns when they are gone. For when the node comes up, before anything is started.
        """
        ...

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
        """Run a program in a running instance: its namespaces, user, environment and folder.

        No shell. At the timeout (seconds), and when the call is cancelled, the program and all
        that it has started are killed. Output beyond `limit` bytes is read and thrown away, and a
        process that was left behind and holds the output delays nothing. `env` is added to the
        environment. Raises ExecError.

        With a `key` the program outlives the supervisor, however that ends, and the call: a
        cancelled one only waits no longer. What came of it is kept until `forget_exec`; a call
        with the key of one that is there waits for that one and runs nothing. `limit` is then that
        of the call which ran it. Raises ExecInterruptedError when whoever ran it has died; with
        `resume` also when there is none with this key: then nothing is run at all.
        """
        ...

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
        """Run a program in a running instance, as `exec` without a key does, and talk to it.

        It has no limits of time or output. `tty`: its streams are a terminal, of which it is the
        session's leader, and what is not asked for is only not ours. Returns when the program
        executes; raises ExecError when it cannot.
        """
        ...

    async def open_attach(self, id: ContainerId) -> AttachSession:
        """Write to the main of a running instance. Raises ContainerGoneError, OSError."""
        ...

    @property
    def kept_execs(self) -> frozenset[tuple[ContainerId, str]]:
        """The instances and keys of the programs that an earlier supervisor left, when we came."""
        ...

    @property
    def ended_execs(self) -> frozenset[tuple[ContainerId, str]]:
        """Those of them that had ended then: `exec` answers at once."""
        ...

    def forget_exec(self, id: ContainerId, key: str) -> None:
        """Nobody wants to know any more what comes of a program with a key; end it if it runs."""
        ...

    def signal(self, id: ContainerId, signum: int) -> bool:
        """Send a signal to the main process; False when it has already ended."""
        ...

    def termination_message(self, spec: LaunchSpec, policy: str, exit_code: int) -> str:
        """What the ended container left as its termination message (terminationMessagePolicy)."""
        ...

    def acknowledge(self, id: ContainerId) -> None:
        """The end of this instance is committed: free what is kept for it.

        An earlier supervisor may have committed it and died before it could say so: then without
        adopting it first.
        """
        ...

    def news(self) -> AsyncIterator[News]:
        """What happens, in order, until the runtime is closed. One consumer."""
        ...
