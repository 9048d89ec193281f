"""Pods inside somebody else's program: `async with Supervisor() as node:`.

    async with Supervisor() as node:
        web = await node.run("web.yaml")
        await web.wait_ready(timeout=10)
        ...
        report = await web.terminate(grace=5)

It is the node of `podvisor run`, held by a program instead of a terminal: ephemeral, so whatever
becomes of the program, its containers end with it. Needs an asyncio event loop and leaves it as it
was: no signal handler, no child watcher, no policy is touched, and nothing is forked from here.

The node lives in one task of its own from entering the block to leaving it, so that the block may
be entered and left in different tasks (test fixtures are), and a cancellation in the program stops
pods gracefully instead of tearing the node apart. Leaving the block stops what still runs, what was
started last first, each pod within its grace period; being cancelled once more meanwhile kills. So
does a program that cancels every task of its loop at once, as asyncio.run does with those that are
left: its main task should be one that leaves the block.

A child that is forked inside the block must end by os._exit, as those of multiprocessing do. One
that comes out of the block instead takes nothing from the node, but closes the loop for both.

What a pod does is decided below, as always; here are only the names to ask for it by, and errors
that say why it did not.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import logging
import math
import os
import re
import signal as signals
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TypeVar, runtime_checkable

import anyio
import anyio.lowlevel
import anyio.to_thread
from msgspec import Struct
from msgspec.structs import replace

from supervisor import waterfall
from supervisor.api import codec, v1
from supervisor.api.problems import Finding
from supervisor.errors import (
    ManifestError,
    NodeError,
    PodError,
    PodFailed,
    PodTimeout,
    PodvisorError,
    UsageError,
    causes_of,
)
from supervisor.kubelet.clock import Clock
from supervisor.kubelet.node import Node
from supervisor.kubelet.statedir import StateDir
from supervisor.kubelet.volumes import VolumeManager
from supervisor.kubelet.worker import PodWorker
from supervisor.lifecycle import reasons
from supervisor.lifecycle.facts import ConditionSet, ContainerId
from supervisor.lifecycle.record import ContainerRecord, NodePolicy, PodRecord
from supervisor.lifecycle.timeline import Mark, Moment
from supervisor.ports import Ports
from supervisor.project import manifests, oneoff
from supervisor.project.homes import NODE_NAME, Homes, node_info
from supervisor.runtime import procfs, volume_files
from supervisor.runtime.cri import ExecError, Isolation
from supervisor.runtime.launch import Launcher, ProcessRuntime, spawn_launcher
from supervisor.runtime.logs import GAP, Follower, Joiner, Record, latest
from supervisor.runtime.spec import Configuration, log_folder, signal_number

if TYPE_CHECKING:
    from supervisor.apiserver.local import Api

# A manifest: a path, its text, plain data, a typed object, or a command as a list of its words.
Source = str | os.PathLike[str] | Mapping[str, object] | v1.Pod | Sequence[str]

_CONDITION_TYPE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9./_-]*[A-Za-z0-9])?")

_Error = TypeVar("_Error", bound=PodError)
_Result = TypeVar("_Result")
_log = logging.getLogger("podvisor")

_LINES, _EVENTS = 20, 10  # that errors show
_OUTPUT_LIMIT = 16 << 20  # bytes of what a program run in a container prints
_AT_ONCE, _OUTPUT_AT_ONCE = 1 << 16, 1 << 20  # bytes of log that are read while the loop waits
_KEPT_LOGS = 50  # pods that are gone, whose logs can still be read
# A pod that should have ended takes at most this much longer before it is killed, and then left
# to the launcher, which kills everything at its own end.
_MARGIN, _LAST_RESORT = 5.0, 3.0
_TIMEOUT = 60.0  # seconds that is waited for a pod where nothing else is said


class LogLine(Struct, frozen=True):
    """One line that a container has printed, without its newline.

    One of `stream` podvisor was not printed: it stands where lines are missing, because the log was
    rotated away faster than it was read, and says so.
    """

    time: str  # RFC 3339, with nanoseconds
    stream: str  # stdout or stderr; podvisor
    text: str  # what is not UTF-8 is replaced


class ExecResult(Struct, frozen=True):
    """What a program gave that was run in a container."""

    exit_code: int | None  # None: it took too long, and was killed with all it had started
    output: str  # stdout, then stderr


class ContainerView(Struct, frozen=True):
    """One container of a pod, as it is now."""

    name: str
    pid: int | None  # on the host, of the main process; None: it does not run
    exit_code: int | None  # of the last instance that ended; death by signal n is 128+n
    reason: str  # as in its ContainerStatus: why it waits, or how it ended; empty while it runs
    restarts: int
    ready: bool


class ContainerEnd(Struct, frozen=True):
    """How one container came to its end in a termination."""

    name: str
    exit_code: int
    reason: str
    killed: bool  # it took SIGKILL
    seconds: float | None  # from the stop signal to the end; None: it ended without one


class Termination(Struct, frozen=True):
    """How a pod ended. As text it is the waterfall that `podvisor run` shows."""

    pod: str
    phase: str
    seconds: float  # from the deletion to the end of the last container
    containers: tuple[ContainerEnd, ...]  # those that ran when the pod began to end
    timeline: tuple[Mark, ...]
    text: str

    @property
    def exit_code(self) -> int:
        """That of the only container that ran. Raises UsageError when there were several."""
        if len(self.containers) != 1:
            raise UsageError(
                f"cannot say the one exit code of pod {self.pod}: {len(self.containers)} containers"
                " ran; ask for container(NAME).exit_code"
            )
        return self.containers[0].exit_code

    @property
    def killed(self) -> tuple[str, ...]:
        """The containers that SIGKILL was needed for."""
        return tuple(end.name for end in self.containers if end.killed)

    def container(self, name: str) -> ContainerEnd:
        for end in self.containers:
            if end.name == name:
                return end
        raise UsageError(f"cannot say how {name!r} ended: no such container ran in pod {self.pod}")

    def __str__(self) -> str:
        return self.text


@runtime_checkable
class Rig(Protocol):
    """What a test puts between the node and the world: a clock or faults of supervisor.testing."""

    def install(self, node: Node) -> None:
        """Before the node is entered: its `runtime` and `run_probe` may be replaced."""
        ...

    async def leave(self, node: Node) -> None:
        """While the pods are being stopped, at the end of the block: hold up nothing any more.

        Cancelled when they have ended.
        """
        ...


class Supervisor:
    """A node for as long as the block lasts. Use as an async context manager, once.

    `isolation` is as for `podvisor run`. `env` are variables for every container, `pass_env` the
    names of those that containers get from this process. `images` maps image references to the
    words of local commands, before podvisor.toml. `grace_period` (seconds), if given, replaces the
    pods' own when the block is left. `backoff_initial` and `backoff_max` are the delays of restarts
    in seconds. With `api` the node has a Kubernetes API: `kubeconfig` is what kubectl needs for it,
    `api_socket` is for other programs of this user; pods that come by it end with the block, too.
    `clock` and `faults` are for tests (supervisor.testing).
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
        if isolation not in ("auto", *Isolation):
            raise UsageError(
                f"cannot use isolation {isolation!r}: auto, {', '.join(sorted(Isolation))}"
            )
        self._isolation = isolation
        self._env = tuple(_variables(env or {}).items())
        self._pass_env = _words(pass_env, "pass_env")
        self._images = tuple(
            (image, _words(words, f"the command of image {image}"))
            for image, words in (images or {}).items()
        )
        self._grace_period = _grace(grace_period)
        self._delays = _delay(backoff_initial), _delay(backoff_max)
        self._wants_api = api
        self._api: Api | None = None
        self._of_api = Configuration()  # what its ConfigMaps and Secrets hold
        self._clock = clock or Clock()
        self._ports = Ports()
        self._rigs = [rig for rig in (self._clock, faults) if isinstance(rig, Rig)]
        self._pods: dict[str, _Life] = {}  # by uid, in the order of their start
        self._batches: list[list[_Life]] = []  # what ends together
        self._config_maps: dict[tuple[str, str], v1.ConfigMap] = {}
        self._secrets: dict[tuple[str, str], v1.Secret] = {}
        self._promised: list[str] = []  # names of pods that are about to be started
        self._main: asyncio.Task[None] | None = None
        self._pid: int
        self._end: asyncio.Event
        self._open: _Open

    # --- life -----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Raises NodeError where no containers can be run, UsageError outside of asyncio."""
        if self._main is not None:
            raise UsageError("cannot enter a Supervisor again: make another one")
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise UsageError(
                "cannot embed podvisor here: it needs asyncio (uvloop or not)"
            ) from None
        self._end = asyncio.Event()
        up: asyncio.Future[None] = loop.create_future()
        self._main = loop.create_task(self._live(up), name="podvisor")
        try:
            await asyncio.wait((self._main, up), return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            self._main.cancel()
            await self._settle()
            raise
        if self._main.done():
            up.cancel()
            self._main.result()
        self._pid = os.getpid()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if os.getpid() != self._pid:
            return  # a forked child comes out of the block, too; the node is not its own
        self._end.set()
        await self._settle()
        assert self._main is not None
        if error is None:
            self._main.result()

    async def _settle(self) -> None:
        """Wait for the node's end, also while this task is being cancelled."""
        assert self._main is not None
        cancelled: asyncio.CancelledError | None = None
        with anyio.CancelScope(shield=True):
            while not self._main.done():
                try:
                    await asyncio.wait((self._main,))
                except asyncio.CancelledError as again:
                    if self._end.is_set() and hasattr(self, "_open") and not self._main.done():
                        self._open.node.delete_all(kill=True)
                    cancelled = again
        if not self._main.cancelled():
            self._main.exception()  # seen: whatever is raised instead of it
        if cancelled is not None:
            raise cancelled

    async def _live(self, up: asyncio.Future[None]) -> None:
        """Raises PodvisorError, and what a signal handler raised here."""
        pid = os.getpid()
        try:
            state = await self._on_thread(StateDir)
            try:
                await self._keep(state, up)
            finally:
                self._close()
                self._ports.close()
                if os.getpid() == pid:  # not in a forked child that ends as this program does
                    await self._on_thread(state.close)
        except BaseExceptionGroup as group:
            raise _only_cause(group) from None
        except OSError as error:
            raise NodeError(f"cannot keep a node: {error}") from error

    async def _keep(self, state: StateDir, up: asyncio.Future[None]) -> None:
        launcher = spawn_launcher(self._isolation)
        try:
            async with _Runtime(launcher, state.path, state.memory) as runtime:
                await self._hold(runtime, launcher, state, up)
        finally:
            if not launcher.closed:
                await self._on_thread(launcher.close)

    async def _on_thread(self, call: Callable[[], _Result]) -> _Result:
        """What may take its time, of the node's own. It is waited for whatever comes: being
        cancelled meanwhile is as if the block was left."""
        threads = ThreadPoolExecutor(1)  # that of the loop may be busy with the program's own
        try:
            done = asyncio.wrap_future(threads.submit(call))
        except RuntimeError:  # no thread to be had
            return call()
        finally:
            threads.shutdown(wait=False)
        while not done.done():
            try:
                await asyncio.wait((done,))
            except asyncio.CancelledError:
                self._end.set()
        threads.shutdown()
        return done.result()

    def _close(self) -> None:
        if hasattr(self, "_open"):
            self._open.closed = True
            self._open.wake()
        for pod in self._pods.values():
            pod.lose(UsageError("cannot wait for a pod: the Supervisor was left"))

    async def _hold(
        self, runtime: _Runtime, launcher: Launcher, state: StateDir, up: asyncio.Future[None]
    ) -> None:
        initial, longest = self._delays
        homes = Homes(
            node_info(runtime.isolation, state.path, state.memory),
            given=self._env,
            pass_env=self._pass_env,
            backoff_initial=initial,
            backoff_max=longest,
        )
        node = Node(
            runtime,
            homes.make_spec,
            policy=NodePolicy(node_name=NODE_NAME),
            clock=self._clock,
            observer=self,
            volumes=VolumeManager(homes.node_info, homes.info.folders),
        )
        for rig in self._rigs:
            rig.install(node)
        async with node, anyio.create_task_group() as tasks:
            self._open = _Open(runtime, homes, node, launcher, state)
            tasks.start_soon(self._watch_logs, launcher.logs_fd)
            tasks.start_soon(self._watch_node)
            try:
                if self._wants_api:
                    await self._open_api()
                if not up.done():
                    up.set_result(None)
                await self._end.wait()
                for rig in self._rigs:
                    tasks.start_soon(rig.leave, node)
                await self._stop()
            finally:
                if self._api is not None:
                    with anyio.CancelScope(shield=True):
                        await self._api.close()
            tasks.cancel_scope.cancel()
        for bug in node.bugs:
            _log.error("a bug of podvisor's own: %s", bug)

    async def _open_api(self) -> None:
        from supervisor.apiserver import local

        there = self._open
        await self._on_thread(local.load)
        place = there.state.path
        with await self._on_thread(lambda: local.Doors(place, local.DoorOptions())) as doors:
            self._api = api = local.Api(there.node.store, doors, place)
            await api.follow()
            await api.start(_ApiPods(self, there), there.homes.info)

    async def _stop(self) -> None:
        """What was started last ends first; nothing is waited for longer than it may take.

        What was started before anything of the batch before was ready ends together with that.
        """
        node = self._open.node
        for batch in reversed(self._batches):
            left = [pod for pod in batch if not pod.worker.finished.is_set()]
            for pod in left:
                node.delete(pod.worker, self._grace_period)
            longest = max((pod.grace(self._grace_period) for pod in left), default=0)
            with anyio.move_on_after(longest + _MARGIN):
                await _all_finished(left)
        node.delete_all(kill=True)
        with anyio.move_on_after(_LAST_RESORT):
            await _all_finished(self._pods.values())

    async def _watch_node(self) -> None:
        node = self._open.node
        await node.wait_lost()
        for pod in self._pods.values():
            pod.lose(node.lost or NodeError("the node was lost"))

    async def _watch_logs(self, logs_fd: int) -> None:
        while True:
            await anyio.wait_readable(logs_fd)
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(logs_fd)
            self._open.wake()
            if self._api is not None:
                self._api.logs_grown()

    # --- pods -----------------------------------------------------------------------------------

    async def run(
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
        typed Pod; or a command as a list of words, for which alone the other arguments
        are: `name` is the pod's (that of the program, if not given), `restart` its restartPolicy.
        Raises ManifestError, whose message has every problem on a line of its own; then nothing
        was started.
        """
        if isinstance(source, Sequence) and not isinstance(source, str):
            return await self._run_command(source, name, env, port, restart)
        if name or env or port is not None or restart != "Never":
            raise UsageError("cannot use name, env, port or restart but with a command")
        return await self._run_one(source)

    async def _run_command(
        self,
        command: Sequence[str],
        name: str,
        env: Mapping[str, str] | None,
        port: int | None,
        restart: str,
    ) -> PodHandle:
        words = list(_words(command, "a command"))
        if not words or not words[0]:
            raise UsageError("cannot run a command: it has no words")
        variables = [f"{key}={value}" for key, value in _variables(env or {}).items()]
        ports = [port] if port is not None else []
        own_name = name or self._free_name(words)
        self._promised.append(own_name)
        try:
            return await self._run_one(
                oneoff.manifest(own_name, words, restart, ports, variables, "")
            )
        finally:
            self._promised.remove(own_name)

    async def _run_one(self, source: Source) -> PodHandle:
        loaded = await self._load(source)
        if len(loaded.pods) != 1:
            raise ManifestError(
                f"cannot run {len(loaded.pods)} pods as one: use apply, which returns all of them"
            )
        taken = self._find(loaded.pods[0].pod.metadata)
        if taken is not None:
            raise ManifestError(
                f"cannot run pod {taken.name}: there is one of this name, {taken.handle.phase}; "
                "delete it first, or use apply, which replaces it"
            )
        self._configure(loaded)
        return self._start(loaded.pods)[0]

    async def apply(self, source: Source) -> tuple[PodHandle, ...]:
        """Have all pods of a manifest, or of a folder of them, run as it says.

        One that is there unchanged is left alone; one that has changed is terminated and replaced.
        Returns when all have been taken on. Raises ManifestError; then nothing was changed.
        """
        loaded = await self._load(source)
        self._configure(loaded)
        # Looked for again after each wait: others may start and delete pods meanwhile.
        while changed := [
            known
            for home in loaded.pods
            if (known := self._find(home.pod.metadata)) is not None
            and not (_is_same(known.home, home) and not known.is_leaving)
        ]:
            for known in changed:  # they end at the same time
                known.end()
            for known in changed:
                await known.handle.terminate()
            self._check_open()
        there = {
            _key(home.pod.metadata): known.handle
            for home in loaded.pods
            if (known := self._find(home.pod.metadata)) is not None
        }
        new = [home for home in loaded.pods if _key(home.pod.metadata) not in there]
        both = there | {_key(handle.pod.metadata): handle for handle in self._start(new)}
        return tuple(both[_key(home.pod.metadata)] for home in loaded.pods)

    async def delete(self, pod: PodHandle | str, grace: int | None = None) -> Termination:
        """Terminate a pod, as `PodHandle.terminate`; its name is free then."""
        if isinstance(pod, str):
            namespace, _, name = pod.rpartition("/")
            found = self._find(v1.ObjectMeta(name=name, namespace=namespace or "default"))
            if found is None:
                raise UsageError(f"cannot delete pod {pod}: there is none")
            pod = found.handle
        return await pod.terminate(grace)

    def pods(self, *, gone: bool = False) -> tuple[PodHandle, ...]:
        """Those that were not deleted, in the order of their start; `gone`: also the others, of
        which the last ones are known."""
        return tuple(pod.handle for pod in self._pods.values() if gone or not pod.is_gone)

    @property
    def ports(self) -> dict[str, int]:
        """Those that `port` and `$(PORT_name)` have given, by name."""
        return self._ports.by_name

    def processes(self) -> tuple[int, ...]:
        """The pids on this host of all that runs for this node: its own and its containers'."""
        self._check_open()
        return tuple(procfs.tree(self._open.launcher.pid))

    def keep_state(self) -> str:
        """Keep the folder with the logs when the block is left; return its path."""
        self._check_open()
        self._open.state.kept = True
        return self._open.state.path

    @property
    def kubeconfig(self) -> str:
        """The file that lets kubectl and client libraries in (`export KUBECONFIG=`)."""
        from supervisor.apiserver.auth import KUBECONFIG

        return self._api_file(KUBECONFIG)

    @property
    def api_socket(self) -> str:
        """The unix socket of the API, for programs of this user."""
        from supervisor.apiserver.auth import SOCKET

        return self._api_file(SOCKET)

    def _api_file(self, name: str) -> str:
        if not self._wants_api:
            raise UsageError("cannot ask this node by its API: it has none, without api=True")
        self._check_open()
        return os.path.join(self._open.state.path, name)

    def port(self, name: str) -> int:
        """A free port that is this node's until its end: the one that `$(PORT_name)` stands for
        in manifests and commands. Nothing has to listen there. Raises NodeError.
        """
        self._check_open()
        return self._ports.port(name)

    async def _load(self, source: Source) -> manifests.Loaded:
        """Raises ManifestError with everything that is wrong."""
        self._check_open()
        match source:
            case v1.Pod():
                text, said = _json(source), f"pod {source.metadata.name}"
            case Mapping():
                text, said = _json(dict(source)), "manifest"
            case str() if "\n" in source or source.lstrip().startswith("{"):
                text, said = source, "manifest"
            case str() | os.PathLike():
                path = os.fsdecode(source)
                loaded = await _on_a_thread(lambda: self._load_path(path))
                return self._checked(loaded)
            case _:
                raise UsageError("cannot run this: not a path, a text, a dict, a Pod or a command")
        try:
            content = text.encode(errors="surrogateescape")
        except UnicodeEncodeError as error:
            raise ManifestError(f"cannot read {said}: {error}") from None
        loaded = await _on_a_thread(lambda: self._load_text(content, said))
        return self._checked(loaded)

    def _load_path(self, path: str) -> manifests.Loaded:
        if path == "-":
            raise UsageError("cannot read manifests from the stdin of this program")
        if "\0" in path:
            raise ManifestError(f"cannot read {path!r}: no path has the character NUL")
        return manifests.load([path], maps=self._images, fill=self._ports.fill)

    def _load_text(self, content: bytes, said: str) -> manifests.Loaded:
        return manifests.load_text(content, said, maps=self._images, fill=self._ports.fill)

    def _checked(self, loaded: manifests.Loaded) -> manifests.Loaded:
        if manifests.refused(loaded.problems):
            lines = [str(problem) for problem in loaded.problems]
            raise ManifestError("\n".join([*lines, manifests.summary(loaded.problems)]))
        problems = [
            text for home in loaded.pods for text in self._open.homes.needs_namespaces(home)
        ]
        if problems:
            raise ManifestError("\n".join([*problems, "nothing was started"]))
        for problem in loaded.problems:
            _log.warning("%s", problem)
        self._check_open()
        return loaded

    def _check_open(self) -> None:
        if self._main is None or self._end.is_set():
            raise UsageError("cannot start pods: the Supervisor is not entered, or was left")
        self._open.check()

    def _configure(self, loaded: manifests.Loaded) -> None:
        self._config_maps |= {_key(each.metadata): each for each in loaded.config_maps}
        self._secrets |= {_key(each.metadata): each for each in loaded.secrets}
        self._reconfigure()

    def _reconfigure(self) -> None:
        """What the program has said is so, whatever the API says."""
        own = manifests.configuration(self._config_maps.values(), self._secrets.values())
        configuration = own.over(self._of_api)
        if configuration != self._open.homes.configuration:
            self._open.homes.configuration = configuration
            self._open.node.configuration_changed()

    def _start(self, homes: Iterable[manifests.LoadedPod]) -> list[PodHandle]:
        self._forget_gone()
        batch = []
        for home in homes:
            if warning := self._open.homes.on_disk(home.pod):
                _log.warning("pod %s: %s", home.pod.metadata.name, warning)
            policy = self._open.homes.policy(home.project, self._open.node.policy)
            worker = self._open.node.run_pod(home.pod, policy)
            uid = worker.pod.metadata.uid
            self._open.homes.add(uid, home)
            pod = self._pods[uid] = _Life(self._open, worker, home)
            batch.append(pod)
        last = [pod for pod in self._batches[-1] if not pod.is_over] if self._batches else []
        if last and not any(pod.handle.ready for pod in last):
            self._batches[-1] += batch  # nobody has waited for those, so these do not need them
        elif batch:
            self._batches.append(batch)
        return [pod.handle for pod in batch]

    # --- what the API asks for (_ApiPods) -------------------------------------------------------

    def _home_of(self, pod: v1.Pod) -> manifests.LoadedPod:
        project = manifests.project_of([], self._images)
        return manifests.LoadedPod(pod, "API", project.root, project)

    def _run_for_api(self, pod: v1.Pod) -> PodWorker:
        self._start([self._home_of(pod)])
        return next(reversed(self._pods.values())).worker

    def _configure_api(self, configuration: Configuration) -> None:
        self._of_api = configuration
        self._reconfigure()

    def _forget_gone(self) -> None:
        """Pods come and go for long: of those that are gone the last ones are kept."""
        gone = [uid for uid, pod in self._pods.items() if pod.is_gone]
        for uid in gone[:-_KEPT_LOGS]:
            del self._pods[uid]
            self._open.homes.forget(uid)
        left = [[pod for pod in batch if not pod.is_gone] for batch in self._batches]
        self._batches = [batch for batch in left if batch]

    def _find(self, meta: v1.ObjectMeta) -> _Life | None:
        """The pod of a name; the newest, where others are not gone yet."""
        pods = reversed(self._pods.values())
        return next(
            (p for p in pods if not p.is_gone and _key(p.home.pod.metadata) == _key(meta)), None
        )

    def _free_name(self, words: list[str]) -> str:
        """Of a pod for a command: its program's, with a number where that is taken."""
        program = os.path.basename(words[0]) if words else ""
        base = re.sub(r"[^a-z0-9]+", "-", program.lower()).strip("-")[:40].strip("-") or "command"
        taken = {*(pod.name for pod in self.pods()), *self._promised}
        names = itertools.chain((base,), (f"{base}-{number}" for number in itertools.count(2)))
        return next(name for name in names if name not in taken)

    # --- what happens (node.Observer) -----------------------------------------------------------

    def pod_changed(self, worker: PodWorker, before: PodRecord) -> None:
        pod = self._pods.get(worker.pod.metadata.uid)
        if pod is not None and worker.record is not before:
            pod.worker = worker  # another one sees to a pod that had ended
            pod.changed(before)
            self._open.wake()  # what is read may have come to its end

    def event(self, event: v1.Event) -> None:
        """Asked for, where somebody wants to know."""


class _ApiPods:
    """Fulfils apiserver.contract.Pods."""

    def __init__(self, supervisor: Supervisor, open: _Open) -> None:
        self.node = open.node
        self._supervisor = supervisor
        self._homes = open.homes

    def admit(self, pod: v1.Pod) -> list[Finding]:
        return self._homes.unobtainable(self._supervisor._home_of(pod))  # noqa: SLF001  its half

    def owned(self, old: v1.Pod | None, new: v1.Pod) -> v1.Pod:
        return new

    def run(self, pod: v1.Pod) -> PodWorker:
        return self._supervisor._run_for_api(pod)  # noqa: SLF001  likewise

    def configure(self, configuration: Configuration) -> None:
        self._supervisor._configure_api(configuration)  # noqa: SLF001  likewise


class PodHandle:
    """A pod that was started, also after its end. Made by `Supervisor.run` and `apply`.

    Where a `container` is asked for, none means the only one of the pod's app containers. Handles
    belong to the event loop of their Supervisor; from another thread ask for something with
    asyncio.run_coroutine_threadsafe.
    """

    def __init__(self, life: _Life) -> None:
        self._life = life

    def __repr__(self) -> str:
        return f"<PodHandle {self.namespace}/{self.name} {self.phase}>"

    # --- what it is -----------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self._life.worker.pod.metadata.name

    @property
    def namespace(self) -> str:
        return self._life.worker.pod.metadata.namespace

    @property
    def uid(self) -> str:
        return self._life.worker.pod.metadata.uid

    @property
    def pod(self) -> v1.Pod:
        """The object, with its status."""
        return _object(self._life.worker.record)

    @property
    def status(self) -> v1.PodStatus:
        return self._life.worker.record.status

    @property
    def phase(self) -> str:
        return self._life.worker.record.status.phase

    @property
    def ready(self) -> bool:
        return _condition(self._life.worker.record, reasons.READY) == "True"

    @property
    def containers(self) -> dict[str, ContainerView]:
        """By name: init containers, then app containers."""
        return _views(self._life.worker.record)

    @property
    def pid(self) -> int | None:
        """On the host, of the only container's main process; None while it does not run."""
        return self.containers[self._life.container("")].pid

    @property
    def exit_code(self) -> int | None:
        """That of the only container's last instance that ended; None: none has."""
        return self.containers[self._life.container("")].exit_code

    @property
    def host_port(self) -> int:
        """The first port that the manifest declares; containers have the host's network."""
        for container in self._life.worker.pod.spec.containers:
            for port in container.ports:
                return port.container_port
        raise UsageError(f"cannot say a port of pod {self.name}: its manifest declares none")

    def port(self, name: str) -> int:
        """The port that the manifest declares by this name."""
        spec = self._life.worker.pod.spec
        for container in (*spec.init_containers, *spec.containers):
            for port in container.ports:
                if port.name == name:
                    return port.container_port
        raise UsageError(f"cannot say port {name!r} of pod {self.name}: its manifest has none")

    @property
    def record(self) -> PodRecord:
        """All that the node knows of it. For supervisor.testing; it may change with any version."""
        return self._life.worker.record

    @property
    def clock(self) -> Clock:
        """What the moments in `record` are read from."""
        return self._life.open.node.clock

    @property
    def isolation(self) -> Isolation:
        """How its containers are kept apart."""
        return self._life.open.runtime.isolation

    @property
    def veiled(self) -> tuple[str, ...]:
        """Values of Secrets in the command lines of its containers: said in no text of ours."""
        specs = self._life.open.homes.specs
        return tuple(text for id in specs if id.pod_uid == self.uid for text in specs[id].veiled)

    def events(self) -> tuple[v1.Event, ...]:
        """As `kubectl get events` shows them, oldest first."""
        return tuple(self._life.open.node.events(self.uid))

    @property
    def timeline(self) -> str:
        """How it ended, or has come towards that, as `podvisor run` shows it; empty before."""
        return waterfall.draw(self._life.worker.record, self.name)

    # --- waiting --------------------------------------------------------------------------------

    async def wait_ready(self, timeout: float | None = _TIMEOUT) -> Self:
        """Wait until the pod is Ready. Raises PodFailed when it has ended, PodTimeout."""
        return await self.wait_for(reasons.READY, timeout)

    async def wait_for(
        self,
        condition: str | Callable[[v1.PodStatus], bool],
        timeout: float | None = _TIMEOUT,
    ) -> Self:
        """Wait for a condition by its type (`"Ready"`, `"Ready=False"`), or until a function says
        so of a status; each one that the pod has is shown to it. Raises PodFailed when the pod
        ends first, PodTimeout.
        """
        if isinstance(condition, str):
            type_, _, value = condition.partition("=")
            wanted = _truth(value or "True", f"wait for {condition!r}")
            name = reasons.CONDITION_ALIASES.get(type_, type_)
            said = f"{type_}={wanted}"

            def test(record: PodRecord) -> bool:
                return (_condition(record, name) or "Unknown") == wanted
        elif not callable(condition) or inspect.iscoroutinefunction(condition):
            raise UsageError("cannot wait for this: not a condition's type or a plain function")
        else:
            said, of_status = "what was waited for", condition

            def test(record: PodRecord) -> bool:
                return of_status(record.status)

        def look(record: PodRecord) -> bool:
            if test(record):
                return True
            if self._life.is_over:
                raise self._life.problem(PodFailed, f"pod {self.name} has ended before {said}")
            return False

        await self._life.until(look, timeout, said)
        return self

    async def wait(self, timeout: float | None = _TIMEOUT, *, check: bool = True) -> v1.PodStatus:
        """Wait until the pod has Succeeded or Failed, or is gone; return its status.

        Raises PodFailed when it Failed, unless `check` is False; PodTimeout.
        """
        await self._life.until(lambda _: self._life.is_over, timeout, "end")
        if check and self.phase == reasons.FAILED:
            raise self._life.problem(PodFailed, f"pod {self.name} has failed")
        return self.status

    async def terminate(self, grace: int | None = None, *, kill: bool = False) -> Termination:
        """Delete the pod as `kubectl delete` does, and wait until it is gone.

        `grace` in seconds; None: as the pod says; containers always have 2. With `kill` they get
        SIGKILL at once, and no preStop. Never raises for how they took it: the report says that.
        Logs and status can be read on.
        """
        life, grace = self._life, _grace(grace)
        if not self._life.is_gone:
            life.end(grace, kill=kill)
            longest = self._life.grace(grace) + _MARGIN
            with anyio.move_on_after(longest):
                await self._life.worker.finished.wait()
            if not self._life.worker.finished.is_set():
                raise self._life.problem(
                    PodTimeout, f"pod {self.name}: no end within {longest:g} s"
                )
        return _termination(self.name, self._life.worker.record, self.timeline)

    async def watch(self) -> AsyncIterator[v1.Pod]:
        """The pod as it is, then after every change, until it is over."""
        queue: asyncio.Queue[v1.Pod | None] = asyncio.Queue()
        self._life.watchers.add(queue)
        try:
            yield self.pod
            if not self._life.is_over:
                self._life.open.check()
            while not self._life.is_over or not queue.empty():
                pod = await queue.get()
                if pod is None:
                    return
                yield pod
        finally:
            self._life.watchers.discard(queue)

    # --- what can be done with it ---------------------------------------------------------------

    async def exec(
        self, container: str, argv: Sequence[str], *, timeout: float | None = None
    ) -> ExecResult:
        """Run a program in a running container, without a shell. Raises PodError."""
        words, timeout = _words(argv, "a program"), _seconds(timeout)
        if not words or not words[0]:
            raise UsageError("cannot run a program: it has no words")
        id = self._life.running(container)
        try:
            done = await self._life.open.runtime.exec(
                id, words, timeout=timeout, limit=_OUTPUT_LIMIT
            )
        except ExecError as error:
            raise self._life.problem(
                PodError, f"cannot run {words[0]!r} in {id.name}: {error}"
            ) from None
        return ExecResult(done.exit_code, done.output.decode(errors="replace"))

    async def signal(self, container: str, sig: int | str | signals.Signals) -> None:
        """Send a signal to the main process, and to it alone. Raises PodError.

        By its name (`"SIGHUP"`, `"HUP"`, `"SIGRTMIN+3"`) or its number.
        """
        number = _signal(sig)
        id = self._life.running(container)
        if not self._life.open.runtime.signal(id, number):
            raise self._life.problem(PodError, f"cannot signal {id.name}: it has ended")

    async def set_condition(
        self, type: str, status: str | bool, reason: str = "", message: str = ""
    ) -> None:
        """Set a condition that the node does not own, as a controller does for a readiness gate."""
        if reasons.CONDITION_ALIASES.get(type, type) in reasons.OWN_CONDITIONS:
            raise UsageError(f"cannot set condition {type}: the node owns it")
        if not _CONDITION_TYPE.fullmatch(type):
            raise UsageError(f"cannot set condition {type!r}: no condition can have that type")
        value = _truth(status, f"set condition {type} to {status!r}")
        if self._life.is_over:
            raise self._life.problem(
                PodFailed, f"cannot set condition {type}: pod {self.name} is over"
            )
        self._life.open.check()
        now = self._life.open.node.clock.now()
        self._life.worker.tell(
            ConditionSet(at=now, type=type, status=value, reason=reason, message=message)
        )
        await self.wait_for(f"{type}={value}")

    # --- what it printed ------------------------------------------------------------------------

    async def logs(
        self,
        container: str = "",
        *,
        follow: bool = False,
        previous: bool = False,
    ) -> AsyncIterator[LogLine]:
        """Lines that a container has printed, from its newest instance's first on.

        `follow`: until that instance has ended. `previous`: those of the instance before. Who reads
        more slowly than the log is rotated away finds a line of `stream` podvisor in the gap.
        """
        name, joiner = self._life.container(container), Joiner()
        worker = self._life.worker
        there = self._life.open
        while follow and self._life.record_of(name).attempt < 0 and not worker.finished.is_set():
            there.check()
            await there.grown.wait()
        attempt = self._life.record_of(name).attempt - previous
        path = self._life.log_path(name, attempt)
        if path is None:
            return
        with Follower(path, limit=_AT_ONCE) as follower:
            lost = 0
            while True:
                grown = there.grown
                over = not follow or there.closed or self._life.has_ended(name, attempt)
                with self._life.reading(name):
                    records = follower.read(final=over)
                if follower.lost > lost:
                    lost = follower.lost
                    for record in joiner.flush():  # its end is missing, too
                        yield _line(record)
                    now = datetime.fromtimestamp(there.node.clock.now().wall, UTC)
                    yield LogLine(f"{now:%Y-%m-%dT%H:%M:%S.%f}000Z", "podvisor", GAP)
                for record in joiner.feed(records):
                    yield _line(record)
                if not records and over:
                    break
                if records:
                    await anyio.lowlevel.checkpoint()  # whoever reads much does not stop all else
                else:
                    await grown.wait()
        for record in joiner.flush():
            yield _line(record)

    def output(self, container: str = "", *, previous: bool = False) -> str:
        """What a container's newest instance has printed until now, as text: the end of it, from a
        MiB of log on, so that it is had at once. `logs` gives all."""
        lines = self._life.lines(
            self._life.container(container), previous=previous, most=_OUTPUT_AT_ONCE
        )
        return "".join(f"{line.text}\n" for line in lines)


class _Open:
    """What there is while a Supervisor is open.

    `grown` is set, and is another one then, whenever logs have grown or pods have changed.
    """

    def __init__(
        self, runtime: _Runtime, homes: Homes, node: Node, launcher: Launcher, state: StateDir
    ) -> None:
        self.runtime, self.homes, self.node = runtime, homes, node
        self.launcher, self.state = launcher, state
        self.grown = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.closed = False

    def wake(self) -> None:
        self.grown.set()
        self.grown = asyncio.Event()

    def check(self) -> None:
        """Raises what keeps pods from being looked after."""
        if _running_loop() not in (None, self.loop):  # None: between two runs of it
            raise UsageError(
                "cannot do this with pods here: their Supervisor was entered in another event loop"
            )
        if self.closed:
            raise UsageError("cannot do this with pods: the Supervisor was left")
        if self.node.lost is not None:
            raise self.node.lost


class _Life:
    """One pod, as its handle and its Supervisor know it."""

    def __init__(self, open: _Open, worker: PodWorker, home: manifests.LoadedPod) -> None:
        self.open, self.worker, self.home = open, worker, home
        self.name, self.uid = worker.pod.metadata.name, worker.pod.metadata.uid
        self.watchers: set[asyncio.Queue[v1.Pod | None]] = set()
        self._waiters: set[_Waiter] = set()
        self.handle = PodHandle(self)

    @property
    def is_over(self) -> bool:
        record = self.worker.record
        return record.status.phase in reasons.TERMINAL_PHASES or self.is_gone

    @property
    def is_leaving(self) -> bool:
        return self.worker.record.deletion is not None

    @property
    def is_gone(self) -> bool:
        return self.is_leaving and self.worker.finished.is_set()

    def end(self, grace: int | None = None, *, kill: bool = False) -> None:
        self.open.check()
        self.worker = self.open.node.delete(self.worker, grace, kill=kill)

    def grace(self, grace: int | None) -> int:
        own = self.worker.pod.spec.termination_grace_period_seconds
        return (30 if own is None else own) if grace is None else grace

    def container(self, container: str) -> str:
        """Raises UsageError where it names none, or none is named and there are several."""
        spec = self.worker.pod.spec
        names = [c.name for c in spec.containers]
        if not container and len(names) == 1:
            return names[0]
        names = [*(c.name for c in spec.init_containers), *names]
        if container in names:
            return container
        asked = f"container {container!r}" if container else "a container without its name"
        raise UsageError(f"cannot find {asked} in pod {self.name}: it has {', '.join(names)}")

    def record_of(self, name: str) -> ContainerRecord:
        return next(c for c in self.worker.record.containers if c.name == name)

    def running(self, container: str) -> ContainerId:
        """Raises PodError where it does not run."""
        record = self.record_of(self.container(container))
        if record.running is None or self.worker.finished.is_set():
            raise self.problem(PodError, f"container {record.name} of {self.name} does not run")
        self.open.check()
        return ContainerId(self.uid, record.name, record.attempt)

    def has_ended(self, name: str, attempt: int) -> bool:
        record = self.record_of(name)
        ended = record.ended
        return (
            record.attempt > attempt
            or (ended is not None and ended.attempt >= attempt)
            or self.worker.finished.is_set()
        )

    def log_path(self, name: str, attempt: int) -> str | None:
        launched = self.open.homes.specs.get(ContainerId(self.uid, name, attempt))
        return None if launched is None else launched.log_path

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise NodeError(
                f"cannot read the log of {name} in pod {self.name}: {error.strerror}"
            ) from error

    def lines(self, name: str, *, previous: bool = False, most: int = _AT_ONCE) -> list[LogLine]:
        """Of the last so many bytes of log. Raises NodeError."""
        path = self.log_path(name, self.record_of(name).attempt - previous)
        if path is None:
            return []
        joiner = Joiner()
        with self.reading(name):
            lines = joiner.feed(latest(path, most))
        return [_line(record) for record in lines + joiner.flush()]

    def changed(self, before: PodRecord) -> None:
        record = self.worker.record
        for waiter in list(self._waiters):
            waiter.look(record)
        if record.status != before.status or record.pod is not before.pod:
            for queue in self.watchers:
                queue.put_nowait(_object(self.worker.record))
        for c in record.containers:  # of instances before the previous one nothing is asked
            self.open.homes.specs.pop(ContainerId(self.uid, c.name, c.attempt - 2), None)

    def lose(self, error: Exception) -> None:
        """There is no node any more: what is waited for will not be."""
        for waiter in list(self._waiters):
            waiter.fail(error)
        for queue in self.watchers:
            queue.put_nowait(None)

    async def until(
        self, test: Callable[[PodRecord], bool], timeout: float | None, said: str
    ) -> None:
        """Wait until the record is so; every one is looked at. Raises what the test does."""
        timeout = _seconds(timeout)
        if test(self.worker.record):
            return
        self.open.check()
        waiter = _Waiter(test)
        self._waiters.add(waiter)
        try:
            with anyio.move_on_after(timeout):
                await waiter.seen
                return
        finally:
            self._waiters.discard(waiter)
        raise self.problem(
            PodTimeout, f"pod {self.name}: no {said} within {timeout:g} s{self.why_not()}"
        )

    def why_not(self) -> str:
        """What each container that is not ready does instead."""
        texts = []
        for view in _views(self.worker.record).values():
            if not view.ready and view.reason != reasons.COMPLETED:
                state = view.reason or ("not ready" if view.pid else "not started")
                code = f", exit code {view.exit_code}" if view.exit_code else ""
                texts.append(f"{view.name} is {state}{code}")
        return (
            f": {self.worker.record.status.phase}; {'; '.join(texts)}"
            if texts
            else f": {self.worker.record.status.phase}"
        )

    def problem(self, kind: type[_Error], message: str) -> _Error:
        """An error with all that helps: of the containers, the one that tells most."""
        views = list(_views(self.worker.record).values())
        by_worth = sorted(views, key=_worth)
        worst = by_worth[-1]
        lines = list[LogLine]()
        with contextlib.suppress(NodeError):  # there is a worse one to tell
            lines = self.lines(worst.name) or self.lines(worst.name, previous=True)
        events = [
            f"{e.type} {e.reason}: {e.message}" + (f" (x{e.count})" if e.count > 1 else "")
            for e in self.open.node.events(self.uid)
        ]
        if worst.exit_code is not None and kind is PodFailed:
            message += f": {worst.name} exited with code {worst.exit_code} ({worst.reason})"
        return kind(
            message,
            pod=self.name,
            container=worst.name,
            exit_code=worst.exit_code,
            reason=worst.reason or self.worker.record.status.reason,
            events=tuple(events[-_EVENTS:]),
            log_lines=tuple(line.text for line in lines[-_LINES:]),
        )


class _Waiter:
    """Somebody who waits until a record is as wanted."""

    def __init__(self, test: Callable[[PodRecord], bool]) -> None:
        self._test = test
        self.seen: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def look(self, record: PodRecord) -> None:
        if self.seen.done():
            return
        try:
            if self._test(record):
                self.seen.set_result(None)
        except StopIteration as error:  # a future takes any but this
            self.seen.set_exception(RuntimeError(f"what was waited for raised {error!r}"))
        except BaseException as error:
            # Whatever it is, it belongs to who waits, not to the worker of the pod.
            self.seen.set_exception(error)

    def fail(self, error: Exception) -> None:
        if not self.seen.done():
            self.seen.set_exception(error)


class _Runtime(ProcessRuntime):
    """Keeps the logs of pods that are gone, of the last ones: they are read after the end."""

    def __init__(self, launcher: Launcher, state_dir: str, memory_dir: str) -> None:
        super().__init__(launcher, state_dir, memory_dir=memory_dir)
        self._logs = state_dir
        self._gone: deque[tuple[str, str, str]] = deque()

    async def remove_pod(self, namespace: str, name: str, uid: str) -> None:
        # Of an ephemeral node the runtime itself removes none: its folder goes as a whole.
        self._gone.append((namespace, name, uid))
        if len(self._gone) > _KEPT_LOGS:
            folder = log_folder(self._logs, *self._gone.popleft())
            await _on_a_thread(lambda: volume_files.remove(folder))


def _words(words: Iterable[str], what: str) -> tuple[str, ...]:
    """Raises UsageError; above all for a str, which is an Iterable of str, too."""
    if isinstance(words, (str, bytes)):
        raise UsageError(f"cannot use {words!r} as {what}: it must be a list of words")
    given = tuple(words)
    for word in given:
        if not isinstance(word, str):
            raise UsageError(f"cannot use {word!r} in {what}: it must be a str")
    return given


def _variables(env: Mapping[str, str]) -> Mapping[str, str]:
    """Raises UsageError."""
    for name, value in env.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise UsageError(f"cannot set variable {name!r} to {value!r}: both must be str")
        if not name or "=" in name or "\0" in name + value:
            raise UsageError(f"cannot set variable {name!r}: no variable can be like that")
    return env


def _seconds(timeout: float | None) -> float | None:
    """Raises UsageError. What is negative has passed."""
    if timeout is not None and (not isinstance(timeout, (int, float)) or math.isnan(timeout)):
        raise UsageError(f"cannot wait {timeout!r}: it must be a number of seconds, or None")
    return None if timeout is None else max(timeout, 0)


def _grace(grace: int | None) -> int | None:
    """Raises UsageError."""
    if grace is not None and (not isinstance(grace, int) or grace < 0):
        raise UsageError(f"cannot give {grace!r} of grace: whole seconds, 0 or more, or None")
    return grace


def _delay(seconds: float | None) -> float | None:
    """Raises UsageError."""
    if _seconds(seconds) is not None and not 0 < float(seconds or 0) < math.inf:
        raise UsageError(f"cannot wait {seconds!r} before a restart: more than 0 seconds, or None")
    return seconds


def _signal(sig: int | str | signals.Signals) -> int:
    """Raises UsageError."""
    if isinstance(sig, str):
        name = sig.upper()
        try:
            return signal_number(name if name.startswith("SIG") else f"SIG{name}")
        except ValueError:
            pass
    elif isinstance(sig, int) and (sig == 0 or sig in signals.valid_signals()):
        return int(sig)
    raise UsageError(f"cannot send signal {sig!r}: there is none")


def _truth(status: str | bool, doing: str) -> str:
    """The status of a condition. Raises UsageError."""
    value = str(status).capitalize()
    if not isinstance(status, (str, bool)) or value not in ("True", "False", "Unknown"):
        raise UsageError(f"cannot {doing}: a condition is True, False or Unknown")
    return value


def _json(manifest: v1.Pod | dict[str, object]) -> str:
    """Raises ManifestError."""
    try:
        return codec.dump(manifest, "json")
    except RecursionError:
        raise ManifestError(
            "cannot read this as a manifest: it contains itself, or is too deep"
        ) from None
    except (TypeError, ValueError, OverflowError) as error:
        raise ManifestError(f"cannot read this as a manifest: {error}") from None


async def _on_a_thread(call: Callable[[], _Result]) -> _Result:
    """Where none can be had, it is done here all the same."""
    try:
        return await anyio.to_thread.run_sync(call)
    except RuntimeError as error:
        if "start new thread" not in str(error):
            raise
    return call()


async def _all_finished(pods: Iterable[_Life]) -> None:
    for pod in pods:
        await pod.worker.finished.wait()


def _is_same(known: manifests.LoadedPod, wanted: manifests.LoadedPod) -> bool:
    """Whether both start the same, wherever in its source the pod stands."""
    return replace(known, source="", document=None) == replace(wanted, source="", document=None)


def _key(meta: v1.ObjectMeta) -> tuple[str, str]:
    return meta.namespace, meta.name


def _only_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Of what a nest of task groups wrapped, the one error that says most."""
    causes = causes_of(group)
    ours = (e for e in causes if isinstance(e, PodvisorError) or not isinstance(e, Exception))
    for error in ours:
        return error
    return NodeError(f"cannot keep a node: {'; '.join(map(repr, causes))}")


def _condition(record: PodRecord, type: str) -> str:
    """The status of a condition; empty where there is none."""
    return next((c.status for c in record.status.conditions if c.type == type), "")


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _object(record: PodRecord) -> v1.Pod:
    return replace(record.pod, status=record.status)


def _views(record: PodRecord) -> dict[str, ContainerView]:
    told = {s.name: s for s in v1.container_statuses(record.status)}
    return {c.name: _view(c, told.get(c.name)) for c in record.containers}


def _view(record: ContainerRecord, status: v1.ContainerStatus | None) -> ContainerView:
    reason, ready = "", False
    if status is not None:
        ready, state = status.ready, status.state
        if state.waiting is not None:
            reason = state.waiting.reason
        elif state.terminated is not None:
            reason = state.terminated.reason
    return ContainerView(
        name=record.name,
        pid=record.running.pid if record.running is not None else None,
        exit_code=record.ended.exit_code if record.ended is not None else None,
        reason=reason,
        restarts=record.restarts,
        ready=ready,
    )


def _worth(view: ContainerView) -> tuple[bool, bool, bool]:
    """How much one container tells about why a pod is not as it should be: more is later."""
    failed = view.exit_code not in (None, 0)
    return failed, bool(view.reason) and view.reason != reasons.COMPLETED, not view.ready


def _line(record: Record) -> LogLine:
    return LogLine(
        time=record.time.decode(),
        stream=record.stream.decode(),
        text=record.content.decode(errors="replace"),
    )


def _termination(name: str, record: PodRecord, text: str) -> Termination:
    trail = record.trail
    alive = {mark.container for mark in trail if mark.moment is Moment.ALIVE}
    apps = {c.name for c in record.pod.spec.containers}
    ends = []
    for c in record.containers:
        if c.ended is None or c.name not in (alive or apps):
            continue
        marks = {mark.moment: mark for mark in trail if mark.container == c.name}
        took: float | None = None
        if Moment.SIGNAL in marks and Moment.EXIT in marks:
            took = marks[Moment.EXIT].at.boot - marks[Moment.SIGNAL].at.boot
        ends.append(
            ContainerEnd(c.name, c.ended.exit_code, c.ended.reason, Moment.KILL in marks, took)
        )
    length = max(m.at.boot for m in trail) - trail[0].at.boot if trail else 0.0
    return Termination(name, record.status.phase, length, tuple(ends), trail, text)
