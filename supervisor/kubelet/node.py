"""The node: every pod's worker, the runtime's news, and the events, in one task group.

`async with Node(...)` is what `podvisor run` and embedding programs hold. It hands facts to
workers and reports to one observer; it decides nothing. Leaving the block ends the workers: pods
that must end gracefully are deleted and waited for before.
"""

from __future__ import annotations

import uuid
from types import TracebackType
from typing import Protocol, Self

import anyio
import msgspec
from anyio.abc import TaskGroup

from supervisor.api import v1
from supervisor.errors import NodeError
from supervisor.kubelet.clock import Clock
from supervisor.kubelet.handlers import Handlers
from supervisor.kubelet.prober import RunProbe
from supervisor.kubelet.recorder import Recorder
from supervisor.kubelet.worker import PodWorker
from supervisor.lifecycle.facts import ContainerId, DeletionRequested, rfc3339
from supervisor.lifecycle.record import EventDraft, NodePolicy, PodRecord
from supervisor.runtime.cri import LaunchSpec, Runtime


class Observer(Protocol):
    """Who is told what changes, on the loop, right after it is committed. Must not block."""

    def pod_changed(self, worker: PodWorker, before: PodRecord) -> None:
        """The worker's record may differ from `before` now."""
        ...

    def event(self, event: v1.Event) -> None: ...


class SpecMaker(Protocol):
    """Turns a container of a pod into what the runtime starts; raises cri.StartError."""

    def __call__(self, pod: v1.Pod, container: v1.Container, id: ContainerId) -> LaunchSpec: ...


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
    ) -> None:
        self._handlers = Handlers()
        self.run_probe = run_probe or self._handlers.run_probe
        self.runtime = runtime
        self.policy = policy
        self.clock = clock or Clock()
        self.bugs: list[str] = []  # tracebacks of our own errors, for the exit code and the user
        self.lost: NodeError | None = None  # set when the runtime went away under us
        self._make_spec = make_spec
        self._observer = observer
        self._recorder = Recorder(policy.node_name, observer.event if observer else None)
        self._workers: dict[str, PodWorker] = {}
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
        worker = PodWorker(pod, self, policy or self.policy)
        self._workers[pod.metadata.uid] = worker
        self._tasks.start_soon(worker.run)
        return worker

    @property
    def workers(self) -> tuple[PodWorker, ...]:
        return tuple(self._workers.values())

    def delete_all(self, grace: int | None = None, *, kill: bool = False) -> None:
        """Ask for the deletion of every pod that has not ended. Asking again only shortens."""
        at = self.clock.now()
        for worker in self._workers.values():
            if not worker.finished.is_set():
                worker.tell(DeletionRequested(at=at, grace=grace, kill=kill))

    async def wait(self) -> None:
        """Wait until every pod has ended. Raises NodeError when the runtime was lost."""
        for worker in self.workers:
            await worker.finished.wait()
        if self.lost is not None:
            raise self.lost

    def events(self, pod_uid: str | None = None) -> list[v1.Event]:
        return self._recorder.events(pod_uid)

    # --- what workers ask of their host ---------------------------------------------------------

    def launch_spec(self, pod: v1.Pod, id: ContainerId) -> LaunchSpec:
        spec = pod.spec
        container = next(c for c in (*spec.init_containers, *spec.containers) if c.name == id.name)
        return self._make_spec(pod, container, id)

    def record_events(self, pod: v1.Pod, events: tuple[EventDraft, ...]) -> None:
        now = self.clock.now()
        for draft in events:
            self._recorder.record(pod, draft, now)

    def pod_changed(self, worker: PodWorker, before: PodRecord) -> None:
        if self._observer is not None:
            self._observer.pod_changed(worker, before)

    def report_bug(self, where: str, text: str) -> None:
        self.bugs.append(f"{where}: {text}")

    async def _pump_news(self) -> None:
        try:
            async for news in self.runtime.news():
                worker = self._workers.get(news.id.pod_uid)
                if worker is not None:
                    worker.hear(news)
        except NodeError as error:
            self.lost = error
            at = self.clock.now()
            for worker in self._workers.values():
                worker.lose_containers()
                worker.tell(DeletionRequested(at=at, kill=True))
