"""The foreground session behind `podvisor run`: what a person sees, and what Ctrl-C does.

It holds an ephemeral node, has the containers' log files shown, tells what happens to pods in one
line each, and turns signals into deletions. It decides nothing about pods: what it says about
waiting comes from the record, and why a process does not end from /proc. serving.py makes of it
the session of a durable node.
"""

from __future__ import annotations

import contextlib
import gc
import re
import signal
import ssl
from collections.abc import Callable, Iterable, Sequence

import anyio
from anyio.abc import TaskGroup
from msgspec import Struct
from msgspec.structs import replace

from supervisor import narration, waterfall
from supervisor.api import codec, v1
from supervisor.cli import complain, hints, selection
from supervisor.cli.output import Output
from supervisor.cli.signals import ENDING, SignalWatch
from supervisor.cli.terminal import Attachment, attach
from supervisor.errors import ExitCode, ManifestError, NodeError, PodvisorError, causes_of
from supervisor.kubelet.node import Node
from supervisor.kubelet.statedir import DurableStateDir, StateDir
from supervisor.kubelet.volumes import VolumeManager
from supervisor.kubelet.worker import PodWorker
from supervisor.lifecycle import hooks, reasons
from supervisor.lifecycle.decide import AFTER_SIGNAL, Awaited, waiting_for, waiting_for_start
from supervisor.lifecycle.facts import ContainerId, HookKind, ProbeKind
from supervisor.lifecycle.probing import probe_of
from supervisor.lifecycle.record import Cause, NodePolicy, PodRecord, specs
from supervisor.lifecycle.status import missing_gates, runs_again
from supervisor.project import envfile, manifests
from supervisor.project.homes import NODE_NAME, Homes, node_info
from supervisor.runtime import procfs, spec
from supervisor.runtime.cri import Isolation
from supervisor.runtime.launch import Launcher, ProcessRuntime
from supervisor.store.contract import Store

# Reasons of events that the lines about containers tell already.
_TOLD = frozenset(
    {
        reasons.BACK_OFF,
        reasons.FAILED_EVENT,
        reasons.FAILED_POST_START_HOOK,
        reasons.FAILED_PRE_STOP_HOOK,
    }
)
# How long a signalled process may take before it is told who it is and why it still lives.
_PATIENCE = 0.5
# How long a hook may take before it is said that it is waited for.
_HOOK_PATIENCE = 2.0
# How long killing may take before the node is left as it is: the launcher then kills the rest.
_LAST_RESORT = 3.0
# How long what is still to be written may take when the end is asked for again.
_LAST_WORDS = 0.5


class Options(Struct, frozen=True, kw_only=True):
    """What the command line of `run` said."""

    grace_period: int | None = None
    output: str | None = None  # json, yaml or None
    timestamps: bool = False
    prefix: bool = True
    shows_logs: bool = True
    pass_env: tuple[str, ...] = ()
    env_file: tuple[str, ...] = ()
    backoff_initial: float | None = None  # seconds
    backoff_max: float | None = None
    keep: bool = False
    maps: manifests.Maps = ()
    exit_code_from: str = ""  # a container, whose exit code is that of the run
    ends_with_it: bool = True  # whether the run ends when that container does
    stdin: bool = False  # one container gets ours
    tty: bool = False  # with a terminal
    timeline: bool = False  # of every shutdown, not only of those that are worth a look


def run(load: Callable[[], manifests.Loaded], launcher: Launcher, options: Options) -> int:
    """Run pods until they end; return the exit code. Raises ManifestError and NodeError, and what
    `load` raises."""
    gc.freeze()  # the modules are here to stay
    gc.enable()
    with SignalWatch() as signals:
        loaded = load()
        configuration = loaded.configuration()
        given, problems = envfile.read_all(options.env_file)
        # Nothing comes after the documents: what is missing in them would be waited for in vain.
        missing = manifests.unconfigured(loaded.pods, configuration)
        loaded = checked(replace(loaded, problems=(*problems, *loaded.problems, *missing)))
        if options.exit_code_from:
            home, container = selection.find(
                loaded.pods, "--exit-code-from", options.exit_code_from
            )
            if options.ends_with_it:
                loaded = replace(loaded, pods=_ending(loaded.pods, home, container))
        attachment: Attachment | None = None
        if options.stdin:
            loaded, attachment = attach(loaded, tty=options.tty)
        signals.hold()
        with StateDir() as state, attachment or contextlib.nullcontext():
            session = Session(loaded, launcher, state, signals, options, attachment)
            session.configure(configuration, given)
            return on_loop(session)


def checked(loaded: manifests.Loaded) -> manifests.Loaded:
    """What was loaded, after saying what is wrong with it. Raises ManifestError."""
    for problem in loaded.problems:
        complain(str(problem))
    if manifests.refused(loaded.problems):
        raise ManifestError(manifests.summary(loaded.problems))
    if not loaded.pods:
        raise ManifestError("nothing to run: the input has no pod to start")
    return loaded


def _ending(
    pods: tuple[manifests.LoadedPod, ...], home: manifests.LoadedPod, container: v1.Container
) -> tuple[manifests.LoadedPod, ...]:
    """Pods in which this container, if always restarted, is not: the run ends with its first end.

    A sidecar cannot be had without its restarts.
    """
    spec = home.pod.spec
    if (container.restart_policy or spec.restart_policy) != "Always":
        return pods
    once = tuple(
        replace(each, restart_policy="Never") if each is container else each
        for each in spec.containers
    )
    other = replace(home, pod=replace(home.pod, spec=replace(spec, containers=once)))
    return tuple(other if each is home else each for each in pods)


def _nothing(self: ssl.SSLContext) -> None: ...


def on_loop(session: Session) -> int:
    """Run a session on an event loop of its own, in a process of its own."""
    # aiohttp reads every authority of the machine when it is imported, 0.1 s long, for clients that
    # check certificates. A node checks none, neither a probe's (§5.4.1) nor a proxied pod's.
    ssl.SSLContext.set_default_verify_paths = _nothing  # type: ignore[method-assign]
    try:
        return anyio.run(session.run, backend="asyncio", backend_options={"use_uvloop": True})
    except BaseExceptionGroup as group:
        causes = causes_of(group)
        if len(causes) == 1 and isinstance(causes[0], PodvisorError):
            raise causes[0] from None
        raise


class Session:
    """One `podvisor run`, from the first signal taken to the last line written."""

    def __init__(
        self,
        loaded: manifests.Loaded,
        launcher: Launcher,
        state: StateDir | DurableStateDir,
        signals: SignalWatch,
        options: Options,
        attachment: Attachment | None = None,
    ) -> None:
        self._loaded = loaded
        self._attachment = attachment
        self._launcher = launcher
        self._state = state
        self._signals = signals
        self._options = options
        self._asked = 0  # how often the end was asked for
        self._code: ExitCode | None = None  # decided by a signal or a vanished reader
        self._passed: int | None = None  # exit code of the container that the run ends with
        self._followed = False  # whether that container has ended
        self._labels: dict[str, str] = {}  # by pod uid
        self._explained: set[tuple[ContainerId, str]] = set()  # what is waited for
        self._unhealthy: set[tuple[str, str, str]] = set()  # pod uid, container, what was said
        self._taken_on: list[PodWorker] = []
        self._several = False  # pods of more than one namespace
        self._node: Node | None = None
        self._store: Store | None = None  # none: the node keeps everything in memory
        self._boot_id = ""
        self._over = False  # no pod runs any more
        self._configuration = spec.Configuration()  # for what starts from now on
        self._given: envfile.Variables = ()  # for every container
        self._homes: Homes
        self._output: Output
        self._hint: hints.Once
        self._tasks: TaskGroup
        self._life: anyio.CancelScope  # of the node

    def configure(self, configuration: spec.Configuration, given: envfile.Variables) -> None:
        """Before `run`: what containers get that comes from no manifest of a pod."""
        self._configuration, self._given = configuration, given

    async def run(self) -> int:
        async with anyio.create_task_group() as self._tasks:
            self._tasks.start_soon(self._take_signals)
            if self._attachment is not None:
                self._tasks.start_soon(self._attachment.run)
            code = await self._live()
            self._tasks.cancel_scope.cancel()
        return code

    async def _live(self) -> int:
        async with ProcessRuntime(
            self._launcher, self._state.path, self._lend, memory_dir=self._state.memory
        ) as runtime:
            self._output = Output(
                log_event=runtime.logs_fd,
                logs_to_stderr=self._options.output is not None,
                timestamps=self._options.timestamps,
                prefix=self._options.prefix,
                grown=self._logs_grown,
            )
            self._hint = hints.Once(self._output.say)
            async with anyio.create_task_group() as writing:
                writing.start_soon(self._output.run)
                try:
                    code = await self._run_pods(runtime)
                finally:
                    self._over = True
                    self._output.close()
        return code

    async def _run_pods(self, runtime: ProcessRuntime) -> int:
        options = self._options
        self._homes = Homes(
            node_info(runtime.isolation, self._state.path, self._state.memory),
            pass_env=options.pass_env,
            given=self._given,
            backoff_initial=options.backoff_initial,
            backoff_max=options.backoff_max,
        )
        self._homes.configuration = self._configuration
        if self._loaded.pods:
            self._say_what_mode()
            self._refuse_what_needs_namespaces()
        node = Node(
            runtime,
            self._homes.make_spec,
            policy=NodePolicy(node_name=NODE_NAME),
            observer=self,
            store=self._store,
            boot_id=self._boot_id,
            volumes=VolumeManager(self._homes.node_info, self._homes.info.folders),
        )
        lost: NodeError | None = None
        with anyio.CancelScope() as self._life:
            async with node:
                self._node = node
                await self._start(node)
                self._tasks.start_soon(self._explain, node)
                self._tasks.start_soon(self._watch_reader)
                try:
                    await self._wait(node)
                except NodeError as error:
                    lost = error
        self._over = True
        return self._conclude(node, lost)

    def _say_what_mode(self) -> None:
        if self._homes.info.isolation is Isolation.GROUP:
            self._output.say(
                "podvisor",
                "isolation mode group: mains are not pid 1 here, so a missing SIGTERM handler "
                "will not show; `podvisor doctor` says why",
            )

    def _refuse_what_needs_namespaces(self) -> None:
        """Raises ManifestError."""
        problems = [
            text for home in self._loaded.pods for text in self._homes.needs_namespaces(home)
        ]
        for problem in problems:
            complain(problem)
        if problems:
            count = f"{len(problems)} error{'s' if len(problems) > 1 else ''}"
            raise ManifestError(f"{count}; nothing was started")

    async def _start(self, node: Node) -> None:
        if not self._asked:
            self._run(node, self._loaded.pods)

    async def _wait(self, node: Node) -> None:
        """Until nothing is left to do. Raises NodeError when the runtime was lost."""
        await node.wait()

    def _logs_grown(self) -> None:
        """Nobody but the output shows them."""

    def _run(self, node: Node, homes: Iterable[manifests.LoadedPod]) -> list[PodWorker]:
        """Have pods run that come from manifests."""
        homes = list(homes)
        pods = [home.pod for home in homes]
        self._several |= len({pod.metadata.namespace for pod in pods}) > 1
        labels = [self._name(pod) for pod in pods]
        self._reserve(pods)
        secrets = {secret for launched in self._homes.specs.values() for secret in launched.veiled}
        for label, text in hints.port_conflicts(zip(labels, pods, strict=True), secrets):
            self._hint(label, text)
        for label, pod in zip(labels, pods, strict=True):
            if warning := self._homes.on_disk(pod):
                self._output.say(label, warning)
        workers = []
        for home in homes:
            worker = node.run_pod(home.pod, self._homes.policy(home.project, node.policy))
            self._homes.add(worker.pod.metadata.uid, home)
            self._know(worker)
            workers.append(worker)
        return workers

    def _know(self, worker: PodWorker) -> None:
        self._taken_on.append(worker)
        self._labels[worker.pod.metadata.uid] = self._name(worker.pod)

    def _reserve(self, pods: Iterable[v1.Pod]) -> None:
        """Room for the labels of their containers, before the first line."""
        self._output.reserve(
            [
                f"{self._name(pod)}/{container.name}"
                for pod in pods
                for container in (*pod.spec.init_containers, *pod.spec.containers)
            ]
        )

    def _name(self, pod: v1.Pod) -> str:
        meta = pod.metadata
        return f"{meta.namespace}/{meta.name}" if self._several else meta.name

    def _conclude(self, node: Node, lost: NodeError | None) -> int:
        records = [worker.record for worker in self._taken_on]
        if records:
            self._output.print("\n" + narration.final_table(records, self._labels))
        self._tell_shutdowns(records)
        if self._options.output is not None:
            pods = [waterfall.annotated(r) for r in records]
            self._output.print(codec.encode_pods(pods, self._options.output), stdout=True)
        failed = any(record.status.phase == reasons.FAILED for record in records)
        if failed and self._options.keep and isinstance(self._state, StateDir):
            self._state.kept = True
            self._output.say("podvisor", f"logs and files are kept in {self._state.path}")
        for bug in node.bugs:
            self._output.print(f"podvisor: a bug of podvisor's own: {bug}\n")
        passes = bool(self._options.exit_code_from)
        if node.bugs:
            return ExitCode.ITSELF if passes else ExitCode.BUG
        if lost is not None:
            self._output.say("podvisor", str(lost))
            return ExitCode.ITSELF if passes else lost.code
        if self._code is not None:
            return self._code
        if passes and self._passed is not None:
            return self._passed
        return ExitCode.NEGATIVE if failed else ExitCode.OK

    def _tell_shutdowns(self, records: Iterable[PodRecord]) -> None:
        for record in records:
            if self._options.timeline or waterfall.is_remarkable(record):
                drawn = waterfall.draw(record, self._labels[record.pod.metadata.uid])
                self._output.print(f"\n{drawn}" if drawn else "")

    # --- asked to end ---------------------------------------------------------------------------

    async def _take_signals(self) -> None:
        while True:
            await anyio.wait_readable(self._signals.fd)
            for received in self._signals.take():
                if self._over:
                    # All pods have ended; only writing is left, and its reader may have stopped.
                    self._tasks.start_soon(self._hurry)
                elif received is not signal.SIGHUP or not self._asked:
                    # A closed terminal hangs up twice: the kernel does, and the shell.
                    self._end(ENDING[received])

    async def _hurry(self) -> None:
        await anyio.sleep(_LAST_WORDS)
        self._output.abandon()

    async def _watch_reader(self) -> None:
        await self._output.reader_gone.wait()
        if not self._asked:
            self._end(ExitCode.HANGUP if self._output.hung_up else ExitCode.BROKEN_PIPE)

    def _end(self, code: ExitCode) -> None:
        """Delete all pods; asking again shortens the grace, a third time kills."""
        self._asked += 1
        if self._code is None:
            self._code = code
        if self._node is None:
            return  # nothing was started yet, and nothing will be
        if self._asked == 1:
            for worker in self._node.workers:
                if not worker.finished.is_set():
                    self._say_stopping(worker.record)
            self._stop(self._node, self._options.grace_period)
        elif self._asked == 2:
            self._output.say("podvisor", "grace shortened to 1 s; once more kills")
            self._stop(self._node, 1)
        else:
            self._output.say("podvisor", "killing")
            self._stop(self._node, 0, kill=True)
            self._tasks.start_soon(self._give_up)

    def _stop(self, node: Node, grace: int | None, *, kill: bool = False) -> None:
        node.delete_all(grace, kill=kill)

    async def _give_up(self) -> None:
        """Leave a node that cannot even kill: a stopped launcher, a parked pod."""
        await anyio.sleep(_LAST_RESORT)
        if not self._over:
            self._output.say("podvisor", "the node does not answer: leaving it to be killed")
            self._life.cancel()

    def _say_stopping(self, record: PodRecord) -> None:
        grace = self._options.grace_period
        if grace is None:
            grace = record.pod.spec.termination_grace_period_seconds
        self._output.say(self._labels[record.pod.metadata.uid], f"stopping, grace {grace} s")

    async def _explain(self, node: Node) -> None:
        """Say who is waited for and why, once each."""
        while True:
            await anyio.sleep(_PATIENCE / 2)
            now = node.clock.now().boot
            for worker in node.workers:
                for id, since in waiting_for_start(worker.record):
                    if now - since.boot >= _HOOK_PATIENCE and self._is_new(id, "postStart"):
                        text = (
                            "postStart goes on; until it has ended, the container is not seen "
                            "running and nothing starts after it"
                        )
                        self._output.say(self._label(id), text)
                for awaited in waiting_for(worker.record):
                    self._explain_end(worker.record, awaited, now)

    def _explain_end(self, record: PodRecord, awaited: Awaited, now: float) -> None:
        id, hook, signalled = awaited.id, awaited.hook, awaited.signalled
        of_image = next(c.stop_signal for c in record.containers if c.name == id.name)
        stop = hooks.stop_signal(_spec(record, id), of_image)
        text: str | None = None
        if hook is not None:
            if now - hook.boot < _HOOK_PATIENCE or not self._is_new(id, "preStop"):
                return
            left = max(0.0, awaited.kill_at - AFTER_SIGNAL - now)
            text = f"preStop goes on; {stop} in {left:.0f} s at the latest"
        elif signalled is not None:
            if now - signalled.boot < _PATIENCE or not self._is_new(id, "end"):
                return
            shares = bool(record.pod.spec.share_process_namespace)
            is_pid1 = not shares and self._homes.info.isolation is not Isolation.GROUP
            launched = self._homes.specs.get(id)
            why = procfs.explain_deaf(
                awaited.pid,
                spec.signal_number(stop),
                is_pid1=is_pid1,
                secrets=launched.veiled if launched is not None else (),
            )
            if why is not None:
                text = f"{why}; SIGKILL in {max(0.0, awaited.kill_at - now):.0f} s"
        if text is not None:
            if record.termination is not None and record.termination.cause is Cause.DELETION:
                text += "; Ctrl-C again to shorten" if self._asked == 1 else ""
            self._output.say(self._label(id), text)

    def _is_new(self, id: ContainerId, what: str) -> bool:
        """Whether this was not explained before; now it is."""
        if (id, what) in self._explained:
            return False
        self._explained.add((id, what))
        return True

    # --- what happens (node.Observer) -----------------------------------------------------------

    def pod_changed(self, worker: PodWorker, before: PodRecord) -> None:
        uid = worker.pod.metadata.uid
        pod = self._labels[uid]
        for line in narration.changes(before, worker.record):
            label = f"{pod}/{line.container}" if line.container else pod
            if line.closes is not None:
                ended = ContainerId(uid, line.container, line.closes)
                self._output.end(ended)
                if (attachment := self._attached(ended)) is not None:
                    attachment.take_back()
                self._homes.specs.pop(ended, None)
                self._explained = {told for told in self._explained if told[0] != ended}
                self._hint_about_end(worker, line.container)
            self._output.say(label, line.text)
            if line.opens is not None:
                self._opened(ContainerId(uid, line.container, line.opens), label)
        # Ephemeral containers, which come meanwhile behind all others, have no hooks.
        for was, now in zip(before.containers, worker.record.containers, strict=False):
            if was is not now:
                hook = hooks.find(now.hooks, HookKind.POST_START)
                self._hint(f"{pod}/{now.name}", hints.post_start_refused(hook))
        if self._options.exit_code_from:
            self._follow_code(worker)
        status = worker.status
        if status.conditions != before.status.conditions and _waits_for_gates(status):
            self._hint(pod, hints.readiness_gates(missing_gates(worker.record)))

    def _follow_code(self, worker: PodWorker) -> None:
        """Keep the exit code that is asked for; end the run once the container has ended."""
        target = self._options.exit_code_from
        home, container = selection.find(self._loaded.pods, "--exit-code-from", target)
        meta, record = worker.pod.metadata, worker.record
        if (meta.namespace, meta.name) != full_name(home.pod):
            return
        state = next(c for c in record.containers if c.name == container.name)
        over = record.status.phase in reasons.TERMINAL_PHASES
        if not self._options.ends_with_it:
            self._passed = state.ended.exit_code if state.ended is not None else None
            return
        if self._followed or (state.ended is None and not over):
            return
        if state.ended is not None:
            is_sidecar = v1.is_sidecar(container)
            if not over and not is_sidecar and runs_again(record, container, state):
                return
            self._passed = state.ended.exit_code
        self._followed = True
        node = self._node
        if node is not None and not self._asked:
            what = narration.how_it_is_over(state.ended)
            self._output.say(self._labels[meta.uid], f"{container.name} {what}: stopping all")
            self._stop(node, self._options.grace_period)

    def event(self, event: v1.Event) -> None:
        if event.type != reasons.WARNING or event.reason in _TOLD:
            return
        involved = event.involved_object
        pod = self._labels.get(involved.uid, involved.name)
        if event.reason in (reasons.UNHEALTHY, reasons.PROBE_WARNING):
            self._say_unhealthy(pod, event)
        elif event.reason == reasons.FAILED_MOUNT:
            # It is tried again every other second; that is worth one line.
            said = (involved.uid, "", event.message.rpartition("similar events): ")[2])
            if said not in self._unhealthy:
                self._unhealthy.add(said)
                self._output.say(pod, f"{event.reason}: {event.message}")
        else:
            self._output.say(pod, f"{event.reason}: {event.message}")

    def _say_unhealthy(self, pod: str, event: v1.Event) -> None:
        """Attempts of probes that failed: what is said again and again is shown once."""
        uid = event.involved_object.uid
        name = event.involved_object.field_path.partition("{")[2].rstrip("}")
        message = event.message.rpartition("(combined from similar events): ")[2]
        # The text may hold a port of ours, which is another one each time.
        said = (uid, name, re.sub(r"[0-9]+->", "->", message))
        if said in self._unhealthy:
            return
        self._unhealthy.add(said)
        self._output.say(f"{pod}/{name}", f"{event.reason}: {narration.first_words(event.message)}")
        if "connection refused" in message:
            kind = ProbeKind(message.partition(" ")[0].lower())
            self._tasks.start_soon(self._hint_about_refusal, uid, name, kind)

    async def _hint_about_refusal(self, uid: str, name: str, kind: ProbeKind) -> None:
        """Once the program has had time to listen, say if it does so elsewhere."""
        await anyio.sleep(hints.LISTENS_AFTER)
        assert self._node is not None, "events come from it"
        worker = next(w for w in self._taken_on if w.pod.metadata.uid == uid)
        spec = worker.pod.spec
        container = next(c for c in v1.containers(spec) if c.name == name)
        running = next(c for c in worker.record.containers if c.name == name).running
        probe = probe_of(container, kind)
        if running is not None and probe is not None:
            text = hints.refused_elsewhere(probe, container, running.pid)
            self._hint(f"{self._labels[uid]}/{name}", text)

    def _opened(self, id: ContainerId, label: str, *, from_end: bool = False) -> None:
        if not self._options.shows_logs:
            return
        launched = self._homes.specs[id]
        terminal = self._attached(id) if launched.tty else None
        self._output.open(id, label, launched.log_path, from_end=from_end, terminal=terminal)
        if from_end or launched.tty:
            return
        text = hints.python_buffers(launched)
        if text is not None:
            self._tasks.start_soon(self._hint_if_silent, id, label, text)

    async def _hint_if_silent(self, id: ContainerId, label: str, text: str) -> None:
        await anyio.sleep(hints.SILENT_AFTER)
        if self._output.is_silent(id):
            self._hint(label, text)

    def _hint_about_end(self, worker: PodWorker, name: str) -> None:
        container = next((c for c in worker.pod.spec.containers if c.name == name), None)
        record = next(c for c in worker.record.containers if c.name == name)
        ended = record.ended
        if container is None or ended is None or ended.exit_code != 0:
            return
        if ended.replaced or ended.hook_error:
            return  # it was stopped
        if worker.record.termination is None:
            uid = worker.pod.metadata.uid
            label = f"{self._labels[uid]}/{name}"
            self._hint(label, hints.always_restarts(container, worker.pod))

    def _attached(self, id: ContainerId) -> Attachment | None:
        """What is lent to this instance, if it is the one."""
        attachment = self._attachment
        if attachment is None or not attachment.is_about(
            self._homes.by_uid(id.pod_uid).pod, id.name
        ):
            return None
        return attachment

    def _lend(self, id: ContainerId) -> Sequence[int]:
        attachment = self._attached(id)
        return () if attachment is None else attachment.lend()

    def _label(self, id: ContainerId) -> str:
        return f"{self._labels[id.pod_uid]}/{id.name}"


def full_name(pod: v1.Pod) -> tuple[str, str]:
    return pod.metadata.namespace, pod.metadata.name


def _spec(record: PodRecord, id: ContainerId) -> v1.Container:
    return next(c for c in specs(record) if c.name == id.name)


def _waits_for_gates(status: v1.PodStatus) -> bool:
    return any(
        c.type == reasons.READY and c.reason == reasons.READINESS_GATES_NOT_READY
        for c in status.conditions
    )
