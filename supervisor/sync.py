"""The names of `supervisor` for programs without an event loop: `with Supervisor() as node:`.

    with Supervisor() as node:
        web = node.run("web.yaml")
        web.wait_ready(timeout=10)
        ...
        report = web.terminate(grace=5)

Everything is supervisor/embed.py's; here it is waited for. A Supervisor has one thread with an
event loop of its own for as long as the block lasts, and may be used by many threads. Who is
interrupted while he waits (Ctrl-C) stops waiting, no more: the pods go on, and end as always when
the block is left. Interrupting that kills them, so it takes a few seconds at most.

Nothing here may be called from a function that the loop itself calls (`wait_for`): it would wait
for itself, and is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal as signals
import threading
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from supervisor import embed
from supervisor.api import v1
from supervisor.embed import (
    _TIMEOUT,
    ContainerEnd,
    ContainerView,
    ExecResult,
    LogLine,
    Rig,
    Source,
    Termination,
)
from supervisor.errors import UsageError
from supervisor.kubelet.clock import Clock

__all__ = (
    "ContainerEnd",
    "ContainerView",
    "ExecResult",
    "LogLine",
    "PodHandle",
    "Source",
    "Supervisor",
    "Termination",
)

_T = TypeVar("_T")
_P = ParamSpec("_P")

_PATIENCE = 1.0  # seconds until a thread is left alone that still reads a file


class Supervisor:
    """A node for as long as the block lasts. Use as a context manager, once.

    The arguments are those of `supervisor.Supervisor`.
    """

    def __init__(
        self,
        *,
        isolation: str = "auto",
        env: Mapping[str, str] | None = None,
        pass_env: Iterable[str] = (),
        images: Mapping[str, Sequence[str]] | None = None,
        grace_period: int | None = None,
        backoff_initial: float | None = None,
        backoff_max: float | None = None,
        api: bool = False,
        clock: Clock | None = None,
        faults: Rig | None = None,
    ) -> None:
        self._node = embed.Supervisor(
            isolation=isolation,
            env=env,
            pass_env=pass_env,
            images=images,
            grace_period=grace_period,
            backoff_initial=backoff_initial,
            backoff_max=backoff_max,
            api=api,
            clock=clock,
            faults=faults,
        )
        self._loop = _Loop()

    def __enter__(self) -> Self:
        """Raises NodeError where no containers can be run."""
        self._loop.start()
        try:
            self._loop.run(self._node.__aenter__())
        except BaseException:
            self._loop.end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._loop.run(self._node.__aexit__(kind, error, trace))
        finally:
            self._loop.end()

    def run(
        self,
        source: Source,
        *,
        name: str = "",
        env: Mapping[str, str] | None = None,
        port: int | None = None,
        restart: str = "Never",
    ) -> PodHandle:
        """Start one pod; return at once. ConfigMaps and Secrets may stand beside it.

        `source` is a path; the text of a manifest (a str of several lines, or JSON); a dict; a
        typed Pod or workload; or a command as a list of words, for which alone the other arguments
        are: `name` is the pod's (that of the program, if not given), `restart` its restartPolicy.
        Raises ManifestError, whose message has every problem on a line of its own; then nothing
        was started.
        """
        starting = self._node.run(source, name=name, env=env, port=port, restart=restart)
        return self._handle(self._loop.run(starting))

    def apply(self, source: Source) -> tuple[PodHandle, ...]:
        """Have all pods of a manifest, or of a folder of them, run as it says.

        One that is there unchanged is left alone; one that has changed is terminated and replaced.
        Returns when all have been taken on. Raises ManifestError; then nothing was changed.
        """
        return tuple(map(self._handle, self._loop.run(self._node.apply(source))))

    def delete(self, pod: PodHandle | str, grace: int | None = None) -> Termination:
        """Terminate a pod, as `PodHandle.terminate`; its name is free then."""
        if isinstance(pod, str):
            return self._loop.run(self._node.delete(pod, grace))
        return pod.terminate(grace)

    def pods(self, *, gone: bool = False) -> tuple[PodHandle, ...]:
        """Those that were not deleted, in the order of their start; `gone`: also the others, of
        which the last ones are known."""
        pods = self._loop.ask(lambda: self._node.pods(gone=gone))
        return tuple(map(self._handle, pods))

    @property
    def ports(self) -> dict[str, int]:
        """Those that `port` and `$(PORT_name)` have given, by name."""
        return self._node.ports

    @property
    def kubeconfig(self) -> str:
        """The file that lets kubectl and client libraries in (`export KUBECONFIG=`)."""
        return self._node.kubeconfig

    @property
    def api_socket(self) -> str:
        """The unix socket of the API, for programs of this user."""
        return self._node.api_socket

    def processes(self) -> tuple[int, ...]:
        """The pids on this host of all that runs for this node: its own and its containers'."""
        return self._node.processes()

    def keep_state(self) -> str:
        """Keep the folder with the logs when the block is left; return its path."""
        return self._node.keep_state()

    def port(self, name: str) -> int:
        """A free port that is this node's until its end: the one that `$(PORT_name)` stands for
        in manifests and commands. Nothing has to listen there. Raises NodeError.
        """
        return self._loop.ask(lambda: self._node.port(name))

    def _handle(self, pod: embed.PodHandle) -> PodHandle:
        return PodHandle(pod, self._loop)


class PodHandle:
    """A pod that was started, also after its end. Made by `Supervisor.run` and `apply`.

    Where a `container` is asked for, none means the only one of the pod's app containers. Handles
    of one pod are equal.
    """

    def __init__(self, pod: embed.PodHandle, loop: _Loop) -> None:
        self._pod = pod
        self._loop = loop

    def __repr__(self) -> str:
        return repr(self._pod)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PodHandle) and other._pod is self._pod

    def __hash__(self) -> int:
        return hash(self._pod)

    # --- what it is -----------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self._pod.name

    @property
    def namespace(self) -> str:
        return self._pod.namespace

    @property
    def uid(self) -> str:
        return self._pod.uid

    @property
    def pod(self) -> v1.Pod:
        """The object, with its status."""
        return self._pod.pod

    @property
    def status(self) -> v1.PodStatus:
        return self._pod.status

    @property
    def phase(self) -> str:
        return self._pod.phase

    @property
    def ready(self) -> bool:
        return self._pod.ready

    @property
    def containers(self) -> dict[str, ContainerView]:
        """By name: init containers, then app containers."""
        return self._pod.containers

    @property
    def pid(self) -> int | None:
        """On the host, of the only container's main process; None while it does not run."""
        return self._pod.pid

    @property
    def exit_code(self) -> int | None:
        """That of the only container's last instance that ended; None: none has."""
        return self._pod.exit_code

    @property
    def host_port(self) -> int:
        """The first port that the manifest declares; containers have the host's network."""
        return self._pod.host_port

    def port(self, name: str) -> int:
        """The port that the manifest declares by this name."""
        return self._pod.port(name)

    def events(self) -> tuple[v1.Event, ...]:
        """As `kubectl get events` shows them, oldest first."""
        return self._loop.ask(self._pod.events)

    @property
    def timeline(self) -> str:
        """How it ended, or has come towards that, as `podvisor run` shows it; empty before."""
        return self._pod.timeline

    # --- waiting --------------------------------------------------------------------------------

    def wait_ready(self, timeout: float | None = _TIMEOUT) -> Self:
        """Wait until the pod is Ready. Raises PodFailed when it has ended, PodTimeout."""
        self._loop.run(self._pod.wait_ready(timeout))
        return self

    def wait_for(
        self,
        condition: str | Callable[[v1.PodStatus], bool],
        timeout: float | None = _TIMEOUT,
    ) -> Self:
        """Wait for a condition by its type (`"Ready"`, `"Ready=False"`), or until a function says
        so of a status; each one that the pod has is shown to it, in the node's thread. Raises
        PodFailed when the pod ends first, PodTimeout.
        """
        self._loop.run(self._pod.wait_for(condition, timeout))
        return self

    def wait(self, timeout: float | None = _TIMEOUT, *, check: bool = True) -> v1.PodStatus:
        """Wait until the pod has Succeeded or Failed, or is gone; return its status.

        Raises PodFailed when it Failed, unless `check` is False; PodTimeout.
        """
        return self._loop.run(self._pod.wait(timeout, check=check))

    def terminate(self, grace: int | None = None, *, kill: bool = False) -> Termination:
        """Delete the pod as `kubectl delete` does, and wait until it is gone.

        `grace` in seconds; None: as the pod says; containers always have 2. With `kill` they get
        SIGKILL at once, and no preStop. Never raises for how they took it: the report says that.
        Logs and status can be read on.
        """
        return self._loop.run(self._pod.terminate(grace, kill=kill))

    def watch(self) -> Iterator[v1.Pod]:
        """The pod as it is, then after every change, until it is over."""
        return self._loop.iterate(self._pod.watch())

    # --- what can be done with it ---------------------------------------------------------------

    def exec(
        self, container: str, argv: Sequence[str], *, timeout: float | None = None
    ) -> ExecResult:
        """Run a program in a running container, without a shell. Raises PodError."""
        return self._loop.run(self._pod.exec(container, argv, timeout=timeout))

    def signal(self, container: str, sig: int | str | signals.Signals) -> None:
        """Send a signal to the main process, and to it alone. Raises PodError."""
        self._loop.run(self._pod.signal(container, sig))

    def set_condition(
        self, type: str, status: str | bool, reason: str = "", message: str = ""
    ) -> None:
        """Set a condition that the node does not own, as a controller does for a readiness gate."""
        self._loop.run(self._pod.set_condition(type, status, reason, message))

    def use(
        self,
        function: Callable[Concatenate[embed.PodHandle, _P], Coroutine[Any, Any, _T]],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """What a coroutine function returns for this pod, which runs in the node's loop: those of
        supervisor.testing, such as `pod.use(testing.assert_graceful_shutdown, grace=5)`."""
        return self._loop.run(function(self._pod, *args, **kwargs))

    # --- what it printed ------------------------------------------------------------------------

    def logs(
        self,
        container: str = "",
        *,
        follow: bool = False,
        previous: bool = False,
    ) -> Iterator[LogLine]:
        """Lines that a container has printed, from its newest instance's first on.

        `follow`: until that instance has ended. `previous`: those of the instance before. Who reads
        more slowly than the log is rotated away finds a line of `stream` podvisor in the gap.
        """
        lines = self._pod.logs(container, follow=follow, previous=previous)
        return self._loop.iterate(lines)

    def output(self, container: str = "", *, previous: bool = False) -> str:
        """All that a container's newest instance has printed until now, as text."""
        return self._loop.ask(lambda: self._pod.output(container, previous=previous))


class _Loop:
    """An event loop in a thread of its own, and waiting for it from others.

    Nobody waits in vain: what the loop has not finished at its end fails then.
    """

    def __init__(self) -> None:
        # Reentrant: the collector may close an abandoned iteration anywhere, also in `_submit`.
        self._lock = threading.RLock()
        self._open = False
        self._waiting: set[Future[Any]] = set()
        self._loop: asyncio.AbstractEventLoop
        self._over: asyncio.Event
        # Who forgets to leave the block must not hang at the end of his program.
        self._thread = threading.Thread(target=self._live, name="podvisor", daemon=True)
        self._pid = os.getpid()

    def start(self) -> None:
        if self._thread.ident is not None:
            raise UsageError("cannot enter a Supervisor again: make another one")
        up: Future[None] = Future()
        self._up = up
        self._thread.start()
        up.result()

    def end(self) -> None:
        """End the loop and its thread."""
        with self._lock:
            if self._open:
                self._open = False
                self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def _live(self) -> None:
        # Not the policy's loop: that may be of a kind that is not made for threads.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(self._until_over())
        for done in list(self._waiting):
            if not done.done():
                done.set_exception(_left())
        for thread in threading.enumerate():  # anyio tells its own to end, and does not wait
            if getattr(thread, "loop", None) is self._loop:
                thread.join(_PATIENCE)

    async def _until_over(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        self._open = True
        self._up.set_result(None)
        await self._over.wait()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Have it done by the loop, and wait. Whatever interrupts the waiting cancels it."""
        done: Future[_T] = Future()
        tasks: list[asyncio.Task[_T]] = []

        def begin() -> None:
            task = self._loop.create_task(work)
            task.add_done_callback(lambda task: _pass_on(task, done))
            tasks.append(task)

        def cancel() -> None:
            if tasks:
                tasks[0].cancel()
            else:  # interrupted before it was asked for
                work.close()
                done.set_exception(_left())

        try:
            self._submit(begin, done)  # an interruption may come while it is already being done
            _wait(done)
        except BaseException:
            try:
                self._submit(cancel, done)
                _wait(done)
            except UsageError:
                if not tasks:
                    work.close()
            raise
        finally:
            self._waiting.discard(done)
        return done.result()

    def _submit(self, call: Callable[[], None], done: Future[Any]) -> None:
        """Raises UsageError where nobody would ever do it."""
        if threading.get_ident() == self._thread.ident:
            raise UsageError("cannot wait here: the node's own thread would wait for itself")
        if os.getpid() != self._pid:
            raise UsageError("cannot do this with pods in a forked process: it has no Supervisor")
        with self._lock:
            if not self._open:
                raise _left()
            self._waiting.add(done)
            self._loop.call_soon_threadsafe(call)

    def ask(self, question: Callable[[], _T]) -> _T:
        """What only the loop may look at; nobody changes it after the loop's end."""

        async def answer() -> _T:
            return question()

        with self._lock:
            is_open = self._open
        return self.run(answer()) if is_open else question()

    def iterate(self, source: AsyncIterator[_T]) -> Iterator[_T]:
        async def following() -> tuple[_T] | None:
            try:
                return (await anext(source),)
            except StopAsyncIteration:
                return None

        async def close() -> None:
            if isinstance(source, AsyncGenerator):
                await source.aclose()

        try:
            while (found := self.run(following())) is not None:
                yield found[0]
        finally:
            with contextlib.suppress(UsageError):  # the loop closes what is left at its end
                self.run(close())


def _pass_on(task: asyncio.Task[_T], done: Future[_T]) -> None:
    """How the task has ended. It is cancelled by an interruption, or by the loop's end."""
    if task.cancelled():
        done.set_exception(_left())
    elif (error := task.exception()) is not None:
        done.set_exception(error)
    else:
        done.set_result(task.result())


def _wait(done: Future[Any]) -> None:
    over = threading.Event()
    done.add_done_callback(lambda _: over.set())
    over.wait()


def _left() -> UsageError:
    return UsageError("cannot do this with pods: the Supervisor is not entered, or was left")
