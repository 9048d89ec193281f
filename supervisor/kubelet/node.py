"""The node: every pod's worker, the runtime's news, and the events, in one task group.

`async with Node(...)` is what `podvisor run` and embedding programs hold. It hands facts to
workers and reports to one observer; it decides nothing. Leaving the block ends the workers: pods
that must end gracefully are deleted and waited for before.

A node whose store outlives it comes back with `restore`: each pod goes on from its record and from
what the runtime still holds of it, told as facts. Nothing is started before that.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Protocol, Self

import anyio
import msgspec
from anyio.abc import TaskGroup

from supervisor.api import v1
from supervisor.errors import NodeError
from supervisor.kubelet import failpoints
from supervisor.kubelet.clock import Clock
from supervisor.kubelet.handlers import Handlers
from supervisor.kubelet.hooks import RunHook
from supervisor.kubelet.prober import RunProbe
from supervisor.kubelet.recorder import Recorder
from supervisor.kubelet.volumes import VolumeManager
from supervisor.kubelet.worker import PodWorker
from supervisor.lifecycle import reasons
from supervisor.lifecycle.facts import (
    Adopted,
    ConfigurationChanged,
    ContainerId,
    ContainerLost,
    ContainerStarted,
    DeletionRequested,
    Fact,
    HookTarget,
    NodeStopping,
    SandboxDied,
    SandboxLost,
    StartContainer,
    VolumeOverLimit,
    rfc3339,
)
from supervisor.lifecycle.record import EventDraft, NodePolicy, PodRecord, Sandbox, new_record
from supervisor.runtime.cri import LaunchSpec, Presence, Runtime, SandboxGone, StartError
from supervisor.runtime.env_files import EnvFiles
from supervisor.runtime.volumes import size_limits
from supervisor.store.contract import Change, Store
from supervisor.store.memory import MemoryStore

# A pod that an earlier life of the node has left, and its instances that run.
TakenOn = Callable[[PodWorker, frozenset[ContainerId]], None]

_MEASURE_EVERY = 10.0  # seconds between two looks at what volumes hold (§9.3.2)
_BUGS = 100  # that are kept
_AGAIN = 1.0  # seconds until a pod is looked at again that could not be taken on


class Observer(Protocol):
    """Who is told what changes, on the loop, right after it is committed. Must not block."""

    def pod_changed(self, worker: PodWorker, before: PodRecord) -> None:
        """The worker's record may differ from `before` now."""
        ...

    def event(self, event: v1.Event) -> None: ...


class SpecMaker(Protocol):
    """Turns a container of a pod into what the runtime starts; raises cri.StartError."""

    def __call__(
        self,
        pod: v1.Pod,
        container: v1.Container,
        id: ContainerId,
        files: EnvFiles | None,
        *,
        runs: bool,
    ) -> LaunchSpec:
        """`files`: those that its variables refer to, read just now; None: there are no volumes.

        `runs`: of an instance that is there already, whatever could be started now. Then it
        raises nothing."""
        ...


# What was to be told, each with the event that it became; None: the rate limit has dropped it.
_Noted = list[tuple[EventDraft, v1.Event | None]]


class Node:
    """Runs pods until they end. Use as an async context manager."""

    def __init__(
        self,
        runtime: Runtime,
        make_spec: SpecMaker,
        *,
        policy: NodePolicy,
        clock: Clock | None = None,
        observer: Observer | None = None,
        run_probe: RunProbe | None = None,
        run_hook: RunHook | None = None,
        store: Store | None = None,
        boot_id: str = "",
        volumes: VolumeManager | None = None,
    ) -> None:
        self.runtime = runtime
        self.policy = policy
        self.clock = clock or Clock()
        self.volumes = volumes
        self._handlers = Handlers(self.clock)
        self.run_probe = run_probe or self._handlers.run_probe
        self.run_hook = run_hook or self._handlers.run_hook
        self.bugs: list[str] = []  # tracebacks of our own errors, for the exit code and the user
        self.lost: NodeError | None = None  # set when the runtime went away under us
        self._gone = anyio.Event()  # so is `lost`
        self._make_spec = make_spec
        self._observer = observer
        self._recorder = Recorder(policy.node_name)
        # Events of commits that could not be written: they are told when they can, and once.
        self._untold: dict[str, _Noted] = {}
        self._store: Store = store or MemoryStore()
        self._boot_id = boot_id
        self._stored: set[str] = set()  # the pods that the store knows
        self._workers: dict[str, PodWorker] = {}
        self._working: set[anyio.CancelScope] = set()  # of each worker
        self._stopping: NodeStopping | None = None
        self._is_durable = store is not None
        self._tasks: TaskGroup

    async def __aenter__(self) -> Self:
        self._tasks = await anyio.create_task_group().__aenter__()
        self._tasks.start_soon(self._pump_news)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        self._tasks.cancel_scope.cancel()
        try:
            return await self._tasks.__aexit__(kind, error, trace)
        finally:
            await self._handlers.close()

    def run_pod(self, pod: v1.Pod, policy: NodePolicy | None = None) -> PodWorker:
        """Start a pod (defaulted and valid); give it its UID and creation time.

        `policy` replaces the node's for this pod.
        """
        now = self.clock.now()
        pod = msgspec.structs.replace(
            pod,
            metadata=msgspec.structs.replace(
                pod.metadata,
                uid=str(uuid.uuid4()),
                generation=1,
                creation_timestamp=rfc3339(now),
            ),
        )
        record = new_record(pod, now, policy or self.policy, self._boot_id)
        return self._work(PodWorker(self, record))

    def _work(self, worker: PodWorker) -> PodWorker:
        self._workers[worker.pod.metadata.uid] = worker
        self._begin(worker)
        return worker

    def _begin(self, worker: PodWorker) -> None:
        if self._stopping is not None:
            worker.tell(self._stopping)
        self._tasks.start_soon(self._work_on, worker)
        if self.volumes is not None and any(size_limits(worker.pod)):
            self._tasks.start_soon(self._measure, self.volumes, worker)

    async def _measure(self, volumes: VolumeManager, worker: PodWorker) -> None:
        while not await self.clock.wait(worker.finished, self.clock.now().boot + _MEASURE_EVERY):
            if worker.record.sandbox is Sandbox.READY and worker.record.termination is None:
                over = await volumes.over_limit(worker.pod)
                if over is not None:
                    name, limit = over
                    worker.tell(VolumeOverLimit(at=self.clock.now(), name=name, limit=limit))

    async def _work_on(self, worker: PodWorker) -> None:
        working = anyio.CancelScope()
        self._working.add(working)
        with working:
            await worker.run()
        self._working.discard(working)
        uid = worker.pod.metadata.uid
        if uid not in self._stored and not worker.is_there:
            self._workers.pop(uid, None)  # it was asked for, and could not be stored

    async def restore(self, taken_on: TakenOn = lambda _worker, _runs: None) -> None:
        """Take on every pod that the store knows, and what runs of it. Once, at the beginning.

        `taken_on` is called for each before any goes on, with its instances that run: what the
        first ones have to do (and import) must not keep us from knowing the others.
        """
        snapshot = await self._store.load()
        self._recorder.restore(snapshot.events)
        records = [stored.record for stored in snapshot.pods]
        self._stored.update(record.pod.metadata.uid for record in records)
        here = [record for record in records if record.boot_id == self._boot_id]
        known = frozenset(id for record in here for id in instances(record))
        await self.runtime.end_strays(known)
        pods = (record.pod.metadata for record in records)
        await self.runtime.remove_other_pods(
            frozenset((meta.namespace, meta.name, meta.uid) for meta in pods)
        )
        if self.volumes is not None:
            await self.volumes.remove_others(
                frozenset(record.pod.metadata.uid for record in records)
            )
        resumed: list[PodWorker] = []
        for record in records:
            worker = self._workers[record.pod.metadata.uid] = PodWorker(self, record)
            try:
                await self._resume(worker, taken_on)
            except (OSError, StartError) as error:
                # One pod that cannot be looked at now keeps no other from going on.
                self._cannot_resume(worker, error)
                self._tasks.start_soon(self._resume_later, worker, taken_on)
            else:
                resumed.append(worker)
        for worker in resumed:
            self._begin(worker)
        owed = {(t.id, str(t.which)) for record in here for t in _owed(record)}
        for id, key in self.runtime.kept_execs - owed:
            self.runtime.forget_exec(id, key)

    async def _resume_later(self, worker: PodWorker, taken_on: TakenOn) -> None:
        waiting = anyio.CancelScope()
        self._working.add(waiting)
        with waiting:
            while True:
                await self.clock.sleep(_AGAIN)
                try:
                    await self._resume(worker, taken_on)
                except (OSError, StartError) as error:
                    self._cannot_resume(worker, error)
                else:
                    self._begin(worker)
                    break
        self._working.discard(waiting)
        if waiting.cancelled_caught:
            worker.finished.set()  # it never began, and never will in this life of the node

    def _cannot_resume(self, worker: PodWorker, error: Exception) -> None:
        message = f"cannot look at what runs of the pod, trying again in {_AGAIN:.0f}s: {error}"
        event = EventDraft(type=reasons.WARNING, reason=reasons.FAILED_SYNC, message=message)
        self.record_events(worker.pod, (event,))

    async def _resume(self, worker: PodWorker, taken_on: TakenOn) -> None:
        """Raises OSError and StartError where that cannot be done now."""
        record, now = worker.record, self.clock.now()
        if record.boot_id != self._boot_id:
            lost = SandboxLost(at=now, boot_id=self._boot_id)
            await worker.resume([Adopted(at=now), lost], (), ())
            taken_on(worker, frozenset())
            return
        runtime = self.runtime
        resumed = [t for t in _owed(record) if (t.id, str(t.which)) in runtime.kept_execs]
        ended = [t for t in resumed if (t.id, str(t.which)) in runtime.ended_execs]
        facts: list[Fact] = [Adopted(at=now, resumed=frozenset(resumed))]
        shares = record.sandbox is Sandbox.READY and worker.pod.spec.share_process_namespace
        if shares and not await runtime.adopt_sandbox(record.pod.metadata.uid):
            facts.append(SandboxDied(at=now))
        known = {c.name: c.attempt for c in record.containers if c.running is not None}
        runs = set()
        for id in instances(record):
            spec = await self.launch_spec(worker.pod, id, runs=True)
            worker.know(spec)  # its end may be news before we are back here
            found = await runtime.adopt(spec)
            if found.state is Presence.RUNNING:
                runs.add(id)
                started = found.started or now
                facts.append(
                    ContainerStarted(at=started, id=id, pid=found.pid, stop_signal=spec.stop_signal)
                )
            elif found.state is Presence.GONE or known.get(id.name) == id.attempt:
                facts.append(ContainerLost(at=now, id=id, logs_lost=found.logs_lost))
        await worker.resume(facts, [t for t in resumed if t not in ended], ended)
        taken_on(worker, frozenset(runs))

    @property
    def store(self) -> Store:
        return self._store

    @property
    def workers(self) -> tuple[PodWorker, ...]:
        return tuple(self._workers.values())

    def worker(self, uid: str) -> PodWorker | None:
        """Who sees to a pod, also to one whose object is gone."""
        return self._workers.get(uid)

    def find(self, namespace: str, name: str) -> PodWorker | None:
        """Who sees to the pod that has this name now, also to one that is not stored yet."""
        for worker in self._workers.values():
            meta = worker.pod.metadata
            if (meta.namespace, meta.name) == (namespace, name) and worker.is_there:
                return worker
        return None

    def has_stored(self, worker: PodWorker) -> bool:
        """Whether the store knows its pod, which it does a moment after it was taken on."""
        return worker.pod.metadata.uid in self._stored

    def delete_all(self, grace: int | None = None, *, kill: bool = False) -> None:
        """Ask for the deletion of every pod that has not ended. Asking again only shortens."""
        at = self.clock.now()
        for worker in self._workers.values():
            if not worker.finished.is_set():
                worker.tell(DeletionRequested(at=at, grace=grace, kill=kill))

    def stop_all(self, grace: int | None = None, *, kill: bool = False) -> None:
        """The node ends for good: its pods fail, gracefully. Asking again only shortens."""
        self._stopping = NodeStopping(at=self.clock.now(), grace=grace, kill=kill)
        for worker in self._workers.values():
            if not worker.finished.is_set():
                worker.tell(self._stopping)

    def delete(
        self,
        worker: PodWorker,
        grace: int | None = None,
        *,
        kill: bool = False,
        force: bool = False,
    ) -> PodWorker:
        """Ask for the deletion of one pod, also of one that has ended; return who sees to it.

        Asking again only shortens. `force`: the object goes at once, its processes in time.
        """
        at = self.clock.now()
        return self.tell(worker, DeletionRequested(at=at, grace=grace, kill=kill, force=force))

    def tell(self, worker: PodWorker, fact: Fact) -> PodWorker:
        """Tell a fact about a pod, also about one that has ended; return who sees to it."""
        worker = self._working_on(worker)
        worker.tell(fact)
        return worker

    async def ask(self, worker: PodWorker, *facts: Fact) -> None:
        """The same for somebody who waits until it is stored; what cannot be was never told.
        Without facts: that a pod is there, right after `run_pod`. Raises as `PodWorker.ask`."""
        await self._working_on(worker).ask(*facts)

    def _working_on(self, worker: PodWorker) -> PodWorker:
        """Who sees to a pod from now on, also to one that has ended."""
        uid = worker.pod.metadata.uid
        if worker.finished.is_set() and self._workers.get(uid) is worker:
            return self._work(PodWorker(self, worker.record))
        return worker

    def configuration_changed(self) -> None:
        """What ConfigMaps and Secrets hold has changed: containers that wait for it do not any
        longer, and volumes that show it are rewritten. Variables stay as they were when their
        container started."""
        at = self.clock.now()
        for worker in self._workers.values():
            if not worker.finished.is_set():
                worker.tell(ConfigurationChanged(at=at))
                if self.volumes is not None:
                    self._tasks.start_soon(self._rewrite, self.volumes, worker.pod)

    async def _rewrite(self, volumes: VolumeManager, pod: v1.Pod) -> None:
        failures = await volumes.update(pod)
        self.record_events(
            pod,
            tuple(
                EventDraft(
                    type=reasons.WARNING,
                    reason=reasons.FAILED_MOUNT,
                    message=reasons.mount_failed(failure.name, failure.error),
                )
                for failure in failures
            ),
        )

    async def wait(self) -> None:
        """Wait until every pod has ended. Raises NodeError when the runtime was lost."""
        for worker in self.workers:
            await worker.finished.wait()
        if self.lost is not None:
            raise self.lost

    async def wait_lost(self) -> None:
        """Wait until the runtime is lost."""
        await self._gone.wait()

    def events(self, pod_uid: str | None = None) -> list[v1.Event]:
        return self._recorder.events(pod_uid)

    # --- what workers ask of their host ---------------------------------------------------------

    async def launch_spec(self, pod: v1.Pod, id: ContainerId, *, runs: bool = False) -> LaunchSpec:
        spec = pod.spec
        container = next(c for c in v1.containers(spec) if c.name == id.name)
        files = None
        if self.volumes is not None:
            files = await self.volumes.read_env_files(pod, container)
        made = self._make_spec(pod, container, id, files, runs=runs)
        if runs or not isinstance(container, v1.EphemeralContainer):
            return made
        return msgspec.structs.replace(made, target=self._target(container, id))

    def _target(self, container: v1.EphemeralContainer, id: ContainerId) -> ContainerId | None:
        """The instance that an ephemeral container is to look at. Raises StartError."""
        name = container.target_container_name
        for other in self._workers[id.pod_uid].record.containers:
            if other.name == name and other.running is not None:
                return ContainerId(id.pod_uid, name, other.attempt)
        if not name:
            return None
        raise StartError(
            reasons.CREATE_CONTAINER_CONFIG_ERROR,
            f"unable to find target container {name}: it does not run",
            created=False,
        )

    async def commit(
        self, worker: PodWorker, record: PodRecord, events: tuple[EventDraft, ...]
    ) -> None:
        now = self.clock.now()
        uid, before = record.pod.metadata.uid, worker.record
        # What somebody was told is so must outlive a power failure: that the pod is taken on, and
        # that it is to go.
        synced = uid not in self._stored or record.deletion != before.deletion
        untold = self._untold.pop(uid, [])
        noted: _Noted = []
        for draft in events:
            known = next((entry for entry in untold if entry[0] == draft), None)
            if known is None:
                noted.append((draft, self._recorder.record(record.pod, draft, now)))
            else:
                untold.remove(known)
                noted.append(known)
        told = tuple(event for _, event in noted if event is not None)
        try:
            await self._store.commit(
                Change(at=now, uid=uid, record=record, events=told, synced=synced)
            )
        except OSError:
            self._untold[uid] = noted
            raise
        self._stored.add(uid)
        self._publish(told)

    async def forget(self, worker: PodWorker) -> None:
        uid = worker.pod.metadata.uid
        await self._store.commit(Change(at=self.clock.now(), uid=uid, record=None, synced=True))
        failpoints.hit("after-delete")
        meta = worker.pod.metadata
        await self.runtime.remove_pod(meta.namespace, meta.name, uid)
        self._workers.pop(uid, None)
        self._stored.discard(uid)

    def record_events(self, pod: v1.Pod, events: tuple[EventDraft, ...]) -> None:
        now = self.clock.now()
        noted = (self._recorder.record(pod, draft, now) for draft in events)
        self._publish(tuple(event for event in noted if event is not None))

    def _publish(self, events: tuple[v1.Event, ...]) -> None:
        if self._observer is not None:
            for event in events:
                self._observer.event(event)

    def pod_changed(self, worker: PodWorker, before: PodRecord) -> None:
        if self.volumes is not None and _downward(worker.record.pod) != _downward(before.pod):
            self._tasks.start_soon(self._rewrite, self.volumes, worker.pod)
        if self._observer is not None:
            self._observer.pod_changed(worker, before)

    def report_bug(self, where: str, text: str) -> None:
        bug = f"{where}: {text}"
        # A parked pod has the same one every time; other texts may differ in an address only.
        if bug not in self.bugs and len(self.bugs) < _BUGS:
            self.bugs.append(bug)

    async def _pump_news(self) -> None:
        try:
            async for news in self.runtime.news():
                uid = news.pod_uid if isinstance(news, SandboxGone) else news.id.pod_uid
                worker = self._workers.get(uid)
                if worker is not None:
                    worker.hear(news)
        except NodeError as error:
            self.lost = error
            self._gone.set()
            if self._is_durable:
                # Its containers run on; what is stored is right, and the next life needs it.
                for working in self._working:
                    working.cancel()
                return
            at = self.clock.now()
            for worker in self._workers.values():
                worker.lose_containers()
                worker.tell(DeletionRequested(at=at, kill=True))


def _downward(pod: v1.Pod) -> tuple[dict[str, str], dict[str, str]]:
    """What volumes may show of a pod and what may change."""
    return pod.metadata.labels, pod.metadata.annotations


def instances(record: PodRecord) -> Iterator[ContainerId]:
    """Those that may be running: of one that is being started only the launcher knows that."""
    uid = record.pod.metadata.uid
    for container in record.containers:
        if container.running is not None:
            yield ContainerId(uid, container.name, container.attempt)
    for action in record.in_flight:
        if isinstance(action, StartContainer):
            yield action.id


def _owed(record: PodRecord) -> Iterator[HookTarget]:
    """The hooks of a stored record that may be running."""
    uid = record.pod.metadata.uid
    for container in record.containers:
        for hook in container.hooks:
            if hook.is_owed:
                id = ContainerId(uid, container.name, container.attempt)
                yield HookTarget(id, hook.which, hook.runs)
