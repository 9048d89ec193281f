"""The session of a durable node, behind `podvisor serve`.

Its pods are those of files (sources.py), and it goes on until it is told to end. Between one life
of it and the next, the containers run on under their launcher; what is owed to them stands in the
store (store/sqlite.py). So it begins by taking on what an earlier life has left, and only then
looks whether that is what the files want.

Everything else is the session of `podvisor run`.
"""

from __future__ import annotations

import gc
import os
import shlex
import sys
from collections.abc import Iterable

import anyio
import anyio.to_thread
from msgspec.structs import replace

from supervisor.api import v1
from supervisor.api.problems import MAX_FINDINGS, Finding, Problem
from supervisor.apiserver import local
from supervisor.apiserver.local import Api, DoorOptions, Doors
from supervisor.cli import background, complain, foreground, placement
from supervisor.cli.foreground import Options, Session
from supervisor.cli.signals import SignalWatch
from supervisor.cli.sources import SOURCE, Sources, is_from_file, is_same, owned, sourced
from supervisor.client import STATE
from supervisor.errors import ExitCode, ManifestError
from supervisor.kubelet.node import Node, instances
from supervisor.kubelet.statedir import DATABASE, DurableStateDir
from supervisor.kubelet.worker import PodWorker
from supervisor.lifecycle import reasons
from supervisor.lifecycle.facts import ContainerId
from supervisor.lifecycle.record import PodRecord, Sandbox
from supervisor.project import manifests
from supervisor.project.manifests import LoadedPod
from supervisor.runtime import survivors
from supervisor.runtime.cri import StartError
from supervisor.runtime.images import Images
from supervisor.runtime.launch import Launcher, ProcessRuntime, connect_launcher, spawn_launcher
from supervisor.runtime.spec import Configuration, launch_spec
from supervisor.store.sqlite import SQLiteStore

_LOOK_EVERY = 1.0  # seconds between two looks at the files


def serve(
    paths: list[str],
    state_dir: str | None,
    isolation: str,
    options: Options,
    *,
    doors: DoorOptions,
    keep: bool,
    strict: bool = False,
) -> int:
    """Run a durable node until a signal ends it; return the exit code.

    `doors`: where its API is. `keep`: its containers run on then. Raises ManifestError, NodeError,
    UsageError.
    """
    gc.freeze()
    gc.enable()
    with SignalWatch() as signals:
        sources = Sources(paths, options.maps, strict=strict)
        problems = sources.look()
        for problem in problems:
            complain(str(problem))
        place = state_dir or default_place(paths)
        if manifests.refused(problems) and not os.path.exists(os.path.join(place, DATABASE)):
            raise ManifestError(manifests.summary(problems))
        with DurableStateDir(place) as state, Doors(state.path, doors) as opened:
            signals.hold()
            state.note_command(["podvisor", *_again(sys.argv[1:])], os.getcwd())
            launcher = connect_launcher(state.path) or spawn_launcher(
                isolation, durable_in=state.path
            )
            try:
                session = _Serving(
                    sources, launcher, state, signals, options, isolation, opened, keep=keep
                )
                return foreground.on_loop(session)
            finally:
                if not launcher.closed:
                    launcher.leave()


def _again(words: list[str]) -> list[str]:
    """What starts this node again: of one that `up` has started, another `up`."""
    if background.OPTION not in words:
        return words
    words = [word for word in words[1:] if word != background.OPTION]
    at = words.index("--state-dir") if "--state-dir" in words else len(words)
    if words[at + 1 : at + 2] == [os.path.join(os.getcwd(), STATE)]:
        del words[at : at + 2]  # there `up` finds it
    return ["up", "-d", *words]


def default_place(paths: list[str]) -> str:
    """`.podvisor` in the folder of the project; where there is none, in the current folder, so
    that `status` finds it whatever was served."""
    project = manifests.project_of(paths)
    return os.path.join(project.root if project.found else os.getcwd(), STATE)


class _Serving(Session):
    def __init__(
        self,
        sources: Sources,
        launcher: Launcher,
        state: DurableStateDir,
        signals: SignalWatch,
        options: Options,
        isolation: str,
        doors: Doors,
        *,
        keep: bool,
    ) -> None:
        nothing = manifests.Loaded((), (), manifests.Project(root=os.getcwd()))
        super().__init__(nothing, launcher, state, signals, options)
        self._sources = sources
        self._doors = doors
        self._keep = keep
        self._api: Api | None = None
        self._of_api = Configuration()  # what its ConfigMaps and Secrets hold
        self._database = state.database
        self._durable: SQLiteStore
        self._boot_id = survivors.boot_id()
        self._wished = isolation
        self._ending = anyio.Event()
        self._guessed: set[str] = set()  # uids of pods whose files are not known yet
        self._refused: set[str] = set()  # what was said about pods that are not taken on
        self._missing: frozenset[str] = frozenset()  # ConfigMaps and Secrets, as was said last

    async def _run_pods(self, runtime: ProcessRuntime) -> int:
        async with SQLiteStore(self._database) as store:
            self._store = self._durable = store
            self._api = api = Api(store, self._doors, self._state.path)
            await api.follow()
            return await super()._run_pods(runtime)

    def _logs_grown(self) -> None:
        if self._api is not None:
            self._api.logs_grown()

    async def _start(self, node: Node) -> None:
        warning = placement.warning(placement.look())
        if warning is not None:
            self._output.say("podvisor", f"warning: {warning}")
        self._say_what_mode()
        mode = self._homes.info.isolation
        if self._wished not in ("auto", mode):
            self._output.say(
                "podvisor",
                f"warning: the containers that run are in isolation mode {mode}: "
                f"{self._wished} only when this node starts with none",
            )
        self._several |= len({home.pod.metadata.namespace for home in self._wanted()}) > 1
        self._homes.configuration = self._merged()
        self._homes.find = self._find_home
        await node.restore(self._restored)
        node.configuration_changed()  # since the last life, perhaps
        self._say_missing(node)
        again = f": {_count(len(self._taken_on), 'pod')} taken on again" if self._taken_on else ""
        self._output.say("podvisor", f"state in {self._state.path}{again}")
        if self._asked:
            # Before there was a node to tell. What an earlier life has left is stopped, too.
            self._stop(node, self._options.grace_period)
        self._reconcile(node)
        await self._open_api(node)
        self._tasks.start_soon(self._follow, node)
        self._tasks.start_soon(self._watch_store, node)

    async def _open_api(self, node: Node) -> None:
        for warning in self._doors.warnings:
            self._output.say("podvisor", f"warning: {warning}")
        assert self._api is not None, "there is a store"
        # On a thread: the node has pods to look after already.
        await anyio.to_thread.run_sync(local.load)
        await self._api.start(_ApiPods(self, node), self._homes.info)
        if self._doors.kubeconfig:
            where = f"export KUBECONFIG={shlex.quote(self._doors.kubeconfig)}"
            self._output.say("podvisor", f"API at {self._doors.url} for kubectl: {where}")

    async def _wait(self, node: Node) -> None:
        """Until the end is asked for, and then until all pods have ended, unless they are kept."""
        try:
            await self._until_ended(node)
        finally:
            # While pods end, their end can be watched; and requests are brought to their end.
            assert self._api is not None, "there is a store"
            with anyio.CancelScope(shield=True):
                await self._api.close()

    async def _until_ended(self, node: Node) -> None:
        lost = anyio.Event()

        async def watch() -> None:
            await node.wait_lost()
            lost.set()
            self._ending.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await self._ending.wait()
            tasks.cancel_scope.cancel()
        if self._keep and not lost.is_set() and self._durable.is_gone:
            self._stop_for_good(node)
        if lost.is_set() or not self._keep:
            await node.wait()

    async def _watch_store(self, node: Node) -> None:
        await self._durable.wait_gone()
        self._stop_for_good(node)

    def _stop_for_good(self, node: Node) -> None:
        """No next life would find what runs here, so nothing must be left running."""
        text = f"{self._database} was removed or replaced: nobody could find these pods again"
        self._output.say("podvisor", f"{text}, so all are stopped")
        self._durable.let_go()
        self._keep = False
        if not self._asked:
            self._asked, self._code = 1, ExitCode.NODE
        self._ending.set()
        node.stop_all(self._options.grace_period)

    def _end(self, code: ExitCode) -> None:
        if not self._keep:
            super()._end(code)
        elif not self._asked:  # asking again changes nothing: nobody is waited for
            self._asked, self._code = 1, code
            if self._node is not None:
                self._stop(self._node, None)

    def _stop(self, node: Node, grace: int | None, *, kill: bool = False) -> None:
        self._ending.set()
        if self._keep:
            running = sum(1 for worker in node.workers for _ in instances(worker.record))
            runs = f"{_count(running, 'container')} run{'s' if running == 1 else ''} on"
            self._output.say("podvisor", f"{runs}; serve takes over again")
        else:
            node.stop_all(grace, kill=kill)

    # --- what the files want --------------------------------------------------------------------

    def _wanted(self) -> list[LoadedPod]:
        return list(self._sources.wanted.values())

    def _find_home(self, pod: v1.Pod) -> LoadedPod:
        """Of a pod that an earlier life has left, by its name; or what can be said without.

        A pod of the API is at home where its file is, if it came with one, else with the node.
        """
        meta = pod.metadata
        home = None
        if is_from_file(pod):
            home = self._sources.wanted.get((meta.namespace, meta.name))
        if home is None:
            source = meta.annotations.get(SOURCE, "")
            above, name = os.path.split(self._state.path)
            folder = os.path.dirname(source) or (above if name == STATE else os.getcwd())
            project = manifests.project_of([folder], self._options.maps)
            home = LoadedPod(pod, source, project.root if project.found else folder, project)
        return home

    def _restored(self, worker: PodWorker, runs: frozenset[ContainerId]) -> None:
        """An earlier life has left this pod."""
        pod = worker.pod
        self._reserve([pod])
        self._know(worker)
        self._homes.add(pod.metadata.uid, self._find_home(pod))
        if foreground.full_name(pod) not in self._sources.wanted:
            self._guessed.add(pod.metadata.uid)
        label = self._name(pod)
        for container in worker.record.containers:
            running = container.running
            id = ContainerId(pod.metadata.uid, container.name, container.attempt)
            if running is not None and id in runs:
                self._output.say(
                    f"{label}/{container.name}", f"taken on again, pid {running.pid} on this host"
                )
                self._opened(id, f"{label}/{container.name}", from_end=True)

    async def _follow(self, node: Node) -> None:
        while True:
            await anyio.sleep(_LOOK_EVERY)
            if self._asked:
                return
            self._output.look()
            for problem in await self._sources.look_aside():
                self._output.print(f"{problem}\n")
            self._configure(node)
            self._reconcile(node)

    def _merged(self) -> Configuration:
        """Of the files and of the API. What stands in a file is so, whoever else says otherwise."""
        return self._sources.configuration.over(self._of_api)

    def configure_api(self, node: Node, configuration: Configuration) -> None:
        """ConfigMaps and Secrets of the API have changed."""
        self._of_api = configuration
        self._configure(node)

    def _configure(self, node: Node) -> None:
        """What starts from now on gets this, and what has waited for it starts now."""
        configuration = self._merged()
        if configuration != self._homes.configuration:
            self._homes.configuration = configuration
            node.configuration_changed()
        self._say_missing(node)

    def _say_missing(self, node: Node) -> None:
        """What the wanted pods refer to and is in no file, and what that means for each."""
        there = {
            foreground.full_name(worker.pod): worker.record
            for worker in node.workers
            if worker.record.deletion is None
        }
        said: set[str] = set()
        for home in self._wanted():
            record = there.get(foreground.full_name(home.pod))
            missing = manifests.unconfigured([home], self._homes.configuration)
            for problem in manifests.as_warnings(missing):
                text = str(problem)
                if text not in self._missing and len(said) < MAX_FINDINGS:
                    self._output.print(f"{text}; {_without(problem, record)}\n")
                said.add(text)
        self._missing = frozenset(said)

    def _reconcile(self, node: Node) -> None:
        """Have what is wanted, and nothing else; a pod that must go first goes first."""
        self._forget_gone(node)
        if self._asked or not self._sources.paths:
            return
        wanted = dict(self._sources.wanted)
        for worker in node.workers:
            if not worker.is_there:
                continue  # its name is free
            meta = worker.pod.metadata
            home = wanted.pop((meta.namespace, meta.name), None)
            deleted = worker.record.deletion is not None
            if not is_from_file(worker.pod):
                self._say_taken(home)
                continue
            if home is None:
                broken = self._sources.is_broken(meta.annotations.get(SOURCE, ""))
                if not deleted and not broken:
                    self._output.say(self._name(worker.pod), "is in no manifest any more: deleting")
                    node.delete(worker)
            elif not deleted and worker.status.reason == reasons.TERMINATED:
                node.delete(worker)  # it ended with an earlier life of the node, and runs again
            elif not deleted and not is_same(worker.pod, home.pod):
                self._output.say(self._name(worker.pod), "its manifest has changed: replacing it")
                node.delete(worker)
            elif not deleted and not self._goes_on_with(node, worker, home):
                text = "what podvisor.toml says of it has changed: replacing it"
                self._output.say(self._name(worker.pod), text)
                node.delete(worker)
        self._run(node, [sourced(home) for home in wanted.values() if self._is_possible(home)])

    def _say_taken(self, home: LoadedPod | None) -> None:
        """The name that a file wants belongs to a pod that came by the API, and stays its."""
        if home is not None:
            meta = home.pod.metadata
            text = f"pod {meta.namespace}/{meta.name} is not taken: the API has one of that name"
            problem = f"{home.source}: error: {text}"
            if problem not in self._refused:
                self._refused.add(problem)
                self._output.print(f"{problem}\n")

    def _goes_on_with(self, node: Node, worker: PodWorker, home: LoadedPod) -> bool:
        """Whether a pod would be started as it was, also by what podvisor.toml says now."""
        pod, uid = worker.pod, worker.pod.metadata.uid
        before = self._homes.by_uid(uid)
        known = uid not in self._guessed
        self._guessed.discard(uid)
        if known:
            if (before.project, before.directory) == (home.project, home.directory):
                return True
            if not self._is_possible(home):
                return True
            if self._launched(pod, before) != self._launched(pod, home):
                return False
            old, new = (self._homes.policy(each.project, node.policy) for each in (before, home))
            if old != new:
                self._output.say(self._name(pod), "goes on with the back-off it has started with")
        self._homes.add(uid, home)
        return True

    def _launched(self, pod: v1.Pod, home: LoadedPod) -> list[object]:
        """What its containers are started with from there, or else what that would come from."""
        info = self._homes.info_of(home)
        made: list[object] = []
        for container in (*pod.spec.init_containers, *pod.spec.containers):
            id = ContainerId(pod.metadata.uid, container.name, 0)
            try:
                made.append(launch_spec(pod, container, id, info))
            except StartError as error:
                image = info.images.find(container.image)
                made.append((error.message, image, replace(info, images=Images())))
        return made

    def _forget_gone(self, node: Node) -> None:
        """Pods come and go for months: of those that are gone nothing is kept."""
        if len(self._taken_on) > len(node.workers):
            self._taken_on = list(node.workers)
            uids = {worker.pod.metadata.uid for worker in self._taken_on}
            self._labels = {uid: label for uid, label in self._labels.items() if uid in uids}
            for uid in self._homes.uids - uids:
                self._homes.forget(uid)
            self._guessed &= uids
            self._unhealthy = {said for said in self._unhealthy if said[0] in uids}

    def _is_possible(self, home: LoadedPod) -> bool:
        problems = self._homes.needs_namespaces(home)
        for problem in problems:
            if problem not in self._refused:
                self._refused.add(problem)
                self._output.print(f"{problem}\n")
        return not problems

    # --- what the API wants ---------------------------------------------------------------------

    def admit(self, pod: v1.Pod) -> list[Finding]:
        """What is wrong with a valid pod here."""
        return self._homes.unobtainable(self._find_home(pod))

    def run_for_api(self, node: Node, pod: v1.Pod) -> PodWorker:
        home = self._find_home(pod)
        self._output.say(self._name(pod), "created by the API")
        (worker,) = self._run(node, [home])
        return worker

    # --- what happens ---------------------------------------------------------------------------

    def pod_changed(self, worker: PodWorker, before: PodRecord) -> None:
        super().pod_changed(worker, before)
        over = reasons.TERMINAL_PHASES
        if worker.status.phase in over and before.status.phase not in over:
            super()._tell_shutdowns([worker.record])

    def _tell_shutdowns(self, records: Iterable[PodRecord]) -> None:
        """Each was told when it was over."""


class _ApiPods:
    """Fulfils apiserver.contract.Pods."""

    def __init__(self, session: _Serving, node: Node) -> None:
        self.node = node
        self._session = session

    def admit(self, pod: v1.Pod) -> list[Finding]:
        return self._session.admit(pod)

    def owned(self, old: v1.Pod | None, new: v1.Pod) -> v1.Pod:
        return owned(old, new)

    def run(self, pod: v1.Pod) -> PodWorker:
        return self._session.run_for_api(self.node, pod)

    def configure(self, configuration: Configuration) -> None:
        self._session.configure_api(self.node, configuration)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _without(problem: Problem, record: PodRecord | None) -> str:
    """What a pod does that misses something: it may have had it before."""
    if record is not None and record.sandbox is not Sandbox.ABSENT:
        if ".volumes[" in f".{problem.path}":
            return "its volume keeps what it has"
        if any(container.running is not None for container in record.containers):
            return (
                "containers that run keep their variables; one that starts now waits for it "
                "(CreateContainerConfigError)"
            )
    return "waiting for it"
