"""The session behind `podvisor up`: manifests in, pods of a background node out.

It asks the node's API like any other client, so it may die at any time: pods that were created go
on. What the manifests want is compared with what is there by a digest that each pod carries in an
annotation: it covers the manifest, and what podvisor.toml says about that pod. What is the same
stays, what differs is deleted gracefully and created again, as is what has ended.

The session is one thread that takes news (watching.py) and writes; nothing else asks or writes.
"""

from __future__ import annotations

import hashlib
import os
import select
import shlex
import signal
import sys
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from supervisor import narration
from supervisor.api import codec, problems, v1
from supervisor.apiserver import records
from supervisor.cli import background, complain, hints
from supervisor.cli.output import Labels
from supervisor.cli.signals import ENDING, SignalWatch
from supervisor.cli.sources import CONFIG_SOURCE, FROM_API, SOURCE, is_from_file
from supervisor.cli.watching import (
    EventTold,
    Failed,
    Instance,
    Lines,
    PodChanged,
    Signalled,
    Watching,
)
from supervisor.client import PODS, Client, Json, Kind, find_state_dir
from supervisor.errors import (
    ExitCode,
    ManifestError,
    NodeError,
    PodTimeout,
    StatusError,
    UsageError,
)
from supervisor.lifecycle import reasons
from supervisor.project import manifests
from supervisor.project.manifests import Loaded, LoadedPod

NAMESPACES = Kind("namespaces", "namespace", "Namespace", namespaced=False)
CONFIG_MAPS = Kind("configmaps", "configmap", "ConfigMap")
SECRETS = Kind("secrets", "secret", "Secret")

DIGEST = "podvisor/digest"

# Waiting for these, a container does not come up by itself, or not soon.
_STUCK = frozenset(
    {
        reasons.CRASH_LOOP_BACK_OFF,
        reasons.CREATE_CONTAINER_CONFIG_ERROR,
        reasons.CREATE_CONTAINER_ERROR,
    }
)
# Reasons of events that the lines about containers tell already.
_TOLD = frozenset({reasons.BACK_OFF, reasons.FAILED_EVENT})
_DRAIN = 2.0  # seconds that the end of a container waits for the last lines of its log
_REPLACED = 1.0  # seconds after its end in which a pod may come again (`podvisor restart`)
_GOING = 1.0  # seconds in which a node that ends watches stops listening
_SAME = 0.1  # seconds; `timeout` signals a process, and then its group
_LAST_RESORT = 3.0  # seconds that a kill is waited for
_PATIENCE = 2.0  # seconds after which we say what an end waits for


class Options(Struct, frozen=True, kw_only=True):
    detach: bool = False
    timeout: float | None = None  # seconds until all are ready, if detached
    timestamps: bool = False
    prefix: bool = True


class _Pod:
    """One pod that is wanted, and what is known of the one that is there."""

    def __init__(self, home: LoadedPod, label: str) -> None:
        self.home = home
        self.label = label
        self.body = _body(home)
        self.uid = ""  # of the one that is followed; empty: there is none yet, or none any more
        self.past = ""  # uid of the one that is gone
        self.awaited = ""  # uid of another one that must be gone before
        self.gone = 0.0  # when the one that was followed went, of the monotonic clock
        self.known: v1.Pod | None = None
        self.began = False  # whether it was there when we came: then its log is shown from now on
        self.unhealthy: set[str] = set()  # what was said
        self.hinted = False  # at its readiness gates
        self.pending: deque[tuple[narration.Line, float]] = deque()  # and until when each waits
        self.open: set[Instance] = set()  # whose logs are being read

    @property
    def key(self) -> tuple[str, str]:
        meta = self.home.pod.metadata
        return meta.namespace, meta.name

    @property
    def is_over(self) -> bool:
        if self.known is None or not self.uid:
            return bool(self.gone) and time.monotonic() >= self.gone + _REPLACED
        ended = self.known.status.phase in reasons.TERMINAL_PHASES
        return ended and not self.known.metadata.deletion_timestamp

    @property
    def is_up(self) -> bool:
        return bool(self.known is not None and self.uid and is_up(self.known))

    @property
    def trouble(self) -> str:
        """Why it does not come up, if that is so."""
        if self.gone:
            return "was deleted"
        if self.known is None or not self.uid:
            return ""
        return trouble(self.known)


def is_up(pod: v1.Pod) -> bool:
    return narration.is_ready(pod) or pod.status.phase == reasons.SUCCEEDED


def _how_it_is(pod: v1.Pod) -> str:
    """In one word or a few."""
    return trouble(pod) or (reasons.READY if narration.is_ready(pod) else pod.status.phase)


def open_gates(pod: v1.Pod) -> list[str]:
    """The readiness gates that alone keep a pod from being ready."""
    true = {each.type for each in pod.status.conditions if each.status == "True"}
    if reasons.CONTAINERS_READY not in true or pod.metadata.deletion_timestamp:
        return []
    gates = [gate.condition_type for gate in pod.spec.readiness_gates]
    return [gate for gate in gates if gate not in true]


def setting(pod: v1.Pod, place: str) -> str:
    """The command that sets conditions of a pod of the node on `place`, without them."""
    meta = pod.metadata
    words = ["podvisor", "condition", meta.name]
    words += ["-n", meta.namespace] if meta.namespace != "default" else []
    words += ["--state-dir", place] if find_state_dir(os.getcwd()) != place else []
    return shlex.join(words)


def trouble(pod: v1.Pod) -> str:
    """Why a pod does not come up; empty where it may yet."""
    if pod.status.phase == reasons.FAILED:
        return reasons.FAILED
    for status in narration.statuses(pod.status):
        waiting = status.state.waiting
        if waiting is not None and waiting.reason in _STUCK:
            return f"{status.name} is in {waiting.reason}"
    return ""


def _body(home: LoadedPod) -> Json:
    """What is sent for a pod, with its digest."""
    body = {key: value for key, value in codec.to_plain(home.pod).items() if key != "status"}
    project, containers = home.project, (*home.pod.spec.init_containers, *home.pod.spec.containers)
    images = [repr(project.images.find(c.image)) for c in containers]
    of_project = [home.directory, project.pass_env, project.given, project.private_tmp, images]
    digest = hashlib.sha256(msgspec.json.encode([body, of_project], order="sorted"))
    annotations = {
        **body["metadata"].get("annotations", {}),
        SOURCE: os.path.abspath(home.source),
        CONFIG_SOURCE: FROM_API,
        DIGEST: digest.hexdigest()[:32],
    }
    return {**body, "metadata": {**body["metadata"], "annotations": annotations}}


def _is_edited(wanted: Json, there: Json) -> bool:
    """Whether the API has made something else run than what was wanted when the pod was made. Who
    changes labels, or adds a debug container, means this pod and wants to keep it."""

    def of(spec: Json) -> list[Any]:
        groups = (spec.get("initContainers") or (), spec.get("containers") or ())
        images = [[(each["name"], each.get("image") or "") for each in group] for group in groups]
        return [images, spec.get("activeDeadlineSeconds")]

    return of(wanted) != of(there)


def checked(loaded: Loaded) -> Loaded:
    """What was loaded, after saying what is wrong with it. Raises ManifestError."""
    for problem in loaded.problems:
        complain(str(problem))
    if manifests.refused(loaded.problems):
        raise ManifestError(manifests.summary(loaded.problems))
    if not (loaded.pods or loaded.config_maps or loaded.secrets):
        raise ManifestError("nothing to bring up: the input has no pod to start")
    return loaded


def labels(homes: Iterable[LoadedPod]) -> dict[tuple[str, str], str]:
    """What pods are called: with their namespaces where there are several."""
    keys = [(home.pod.metadata.namespace, home.pod.metadata.name) for home in homes]
    several = len({namespace for namespace, _ in keys}) > 1
    return {key: "/".join(key) if several else key[1] for key in keys}


def convert(object: Json) -> v1.Pod:
    return msgspec.convert(object, v1.Pod)


class Session:
    """One `podvisor up`. `started`: it has started the node, which may end with its pods."""

    def __init__(
        self,
        client: Client,
        loaded: Loaded,
        options: Options,
        signals: SignalWatch,
        *,
        started: bool,
    ) -> None:
        self._client = client
        client.warn = self._warn
        self._loaded = loaded
        self._warned = {problems.join(p.type, p.path, p.text) for p in loaded.problems}
        self._options = options
        self._signals = signals
        self._started = started
        self._watching = Watching(client)
        self._labels = Labels()
        names = labels(loaded.pods)
        self._pods = {key: _Pod(home, names[key]) for home in loaded.pods for key in [_key(home)]}
        self._asked = 0  # how often the end was asked for
        self._asked_at = 0.0  # when that was last
        self._code: ExitCode | None = None  # decided by a signal or a vanished reader
        self._leaves = False  # the pods to themselves
        self._give_up = 0.0  # when nothing more is waited for
        self._unread = False  # what we write is waited for no more
        self._explain_at = 0.0  # when to say what the end waits for; 0: that is not asked, or done

    def run(self) -> int:
        """Return the exit code. Raises ManifestError, NodeError, StatusError, PodTimeout."""
        self._labels.reserve(
            [
                f"{pod.label}/{container.name}"
                for pod in self._pods.values()
                for container in (
                    *pod.home.pod.spec.init_containers,
                    *pod.home.pod.spec.containers,
                )
            ]
        )
        try:
            if self._started:
                self._say("podvisor", f"node started, state in {self._client.state_dir}")
            self._prepare()
        except (ManifestError, StatusError, UsageError):
            self._end_node()
            raise
        self._watching.signals(self._signals)
        namespaces = sorted({namespace for namespace, _ in self._pods})
        for namespace in namespaces:
            # Before anything is done: what comes of it must not be missed.
            self._watching.events(namespace)
            self._watching.pods(namespace)
        for pod in self._pods.values():
            self._begin(pod)
        self._follow()
        return self._conclude()

    # --- before anything starts -----------------------------------------------------------------

    def _prepare(self) -> None:
        """What pods need, once all of them are known to be right."""
        client, loaded = self._client, self._loaded
        others = [
            *((CONFIG_MAPS, each.metadata, codec.to_plain(each)) for each in loaded.config_maps),
            *((SECRETS, each.metadata, codec.to_plain(each)) for each in loaded.secrets),
        ]
        wanted = {namespace for namespace, _ in self._pods}
        for namespace in sorted(wanted | {meta.namespace for _, meta, _ in others}):
            if client.find(NAMESPACES, "", namespace) is None:
                self._create_namespace(namespace)
        self._refuse_pods_of_files()
        refused: list[StatusError] = []
        for pod in self._pods.values():
            # Under another name: the one that is there may have to go first.
            named = {**pod.body["metadata"], "generateName": f"{pod.key[1]}-"}
            body = {**pod.body, "metadata": {k: v for k, v in named.items() if k != "name"}}
            try:
                client.create(PODS, pod.key[0], body, dry_run=True)
            except StatusError as error:
                refused.append(_about(error, pod.key[1]))
        for kind, meta, body in others:
            try:
                client.apply(kind, meta.namespace, meta.name, body, force=True, dry_run=True)
            except StatusError as error:
                refused.append(error)
        if refused:
            for each in refused:
                complain(str(each))
            count = f"{len(refused)} error{'s' if len(refused) > 1 else ''}"
            raise ManifestError(f"{count}; nothing was started")
        for kind, meta, body in others:
            before = client.find(kind, meta.namespace, meta.name)
            after, _ = client.apply(kind, meta.namespace, meta.name, body, force=True)
            self._say(kind.named(meta.name), outcome(before, after))
        self._warn_of_missing()

    def _refuse_pods_of_files(self) -> None:
        """Raises UsageError where the node's own files have pods of these names."""
        for pod in self._pods.values():
            there = self._client.find(PODS, *pod.key)
            if there is not None and is_from_file(convert(there)):
                file = there["metadata"]["annotations"][SOURCE]
                raise UsageError(
                    f"cannot bring up {pod.label}: `serve` has a pod of that name from {file}, "
                    "which it watches"
                )

    def _create_namespace(self, name: str) -> None:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        try:
            self._client.create(NAMESPACES, "", body)
        except StatusError as error:
            if error.reason != "AlreadyExists":
                raise
        else:
            self._say("podvisor", f"namespace {name} created")

    def _warn_of_missing(self) -> None:
        """ConfigMaps and Secrets that pods refer to and that are not there."""
        client = self._client
        if not manifests.unconfigured(self._loaded.pods, self._loaded.configuration()):
            return
        namespaces = sorted({namespace for namespace, _ in self._pods})
        maps = [o for n in namespaces for o in client.list(CONFIG_MAPS, n)["items"]]
        hidden = [o for n in namespaces for o in client.list(SECRETS, n)["items"]]
        there = manifests.configuration(
            msgspec.convert(maps, list[v1.ConfigMap]), msgspec.convert(hidden, list[v1.Secret])
        )
        for problem in manifests.as_warnings(manifests.unconfigured(self._loaded.pods, there)):
            complain(f"{problem}; waiting for it")

    def _begin(self, pod: _Pod) -> None:
        """Have one pod as it is wanted, now or once another one is gone."""
        pod.awaited = ""
        there = self._client.find(PODS, *pod.key)
        if there is None:
            self._create(pod)
            return
        meta = there["metadata"]
        over = there["status"].get("phase") in reasons.TERMINAL_PHASES
        digest = meta.get("annotations", {}).get(DIGEST)
        if meta.get("deletionTimestamp"):
            self._say(pod.label, "is being deleted: waiting for its end")
        elif digest == pod.body["metadata"]["annotations"][DIGEST] and not (
            over or _is_edited(pod.body["spec"], there["spec"])
        ):
            self._say(pod.label, f"unchanged, {_how_it_is(convert(there))}")
            pod.uid, pod.began = meta["uid"], True
            return
        else:
            grace = there["spec"].get("terminationGracePeriodSeconds")
            why = f"has changed: replacing it; the old one is stopping, grace {grace} s"
            self._say(pod.label, "has ended: running it again" if over else why)
            try:
                self._client.delete(PODS, *pod.key, uid=meta["uid"])
            except StatusError as error:
                if error.reason != "NotFound":
                    raise
                self._create(pod)  # it has gone by itself
                return
        pod.awaited = meta["uid"]

    def _create(self, pod: _Pod) -> None:
        try:
            created = self._client.create(PODS, pod.key[0], pod.body)
        except StatusError as error:
            if error.reason != "AlreadyExists":
                raise
            self._begin(pod)  # another `up` was quicker, perhaps with the same
            return
        pod.uid, pod.awaited = created["metadata"]["uid"], ""
        self._say(pod.label, "created")

    # --- what happens ---------------------------------------------------------------------------

    def _follow(self) -> None:
        """Until there is nothing more to wait for."""
        limit = self._options.timeout
        end = None if limit is None else time.monotonic() + limit
        while not self._is_done():
            news = self._watching.take(self._wake_at(end))
            match news:
                case PodChanged(object=object, gone=gone):
                    self._pod_changed(object, gone=gone)
                case EventTold(object=object):
                    self._event(object)
                case Lines():
                    self._show(news)
                case Signalled():
                    for received in self._signals.take():
                        self._signalled(received)
                case Failed(error=error):
                    if not any(pod.uid or pod.awaited for pod in self._pods.values()):
                        return  # who has ended the pods has ended the node, too
                    raise self._lost(error)
            for pod in self._pods.values():
                self._tell(pod)
            now = time.monotonic()
            if self._explain_at and now >= self._explain_at:
                self._explain_end()
            if end is not None and now >= end and not self._asked:
                waited = ", ".join(p.label for p in self._pods.values() if not p.is_up)
                raise PodTimeout(f"not ready after {limit:.0f} s, and still coming up: {waited}")

    def _lost(self, error: Exception) -> Exception:
        """What is to be said of it."""
        end = time.monotonic() + _GOING
        while isinstance(error, NodeError) and time.monotonic() < end:
            try:
                self._client.connect().close()
            except NodeError as why:
                return NodeError(f"the node is gone, and its pods may run on: {why}")
            time.sleep(0.05)
        return error

    def _wake_at(self, end: float | None) -> float | None:
        times = [until for pod in self._pods.values() for _, until in list(pod.pending)[:1]]
        back = [pod.gone + _REPLACED for pod in self._pods.values() if pod.gone]
        times += [each for each in back if each > time.monotonic()]
        times += [end] if end is not None else []
        times += [each for each in (self._give_up, self._explain_at) if each]
        return min(times, default=None)

    def _is_done(self) -> bool:
        pods = self._pods.values()
        if self._leaves or (self._give_up and time.monotonic() >= self._give_up):
            return True
        if any(pod.pending for pod in pods):
            return False
        if self._asked:
            return all(not pod.uid and not pod.awaited for pod in pods)
        if any(pod.awaited for pod in pods):
            return False
        if self._options.detach:
            return all(pod.is_up or pod.trouble for pod in pods)
        return all(pod.is_over for pod in pods)

    def _pod_changed(self, object: Json, *, gone: bool) -> None:
        meta = object["metadata"]
        pod = self._pods.get((meta["namespace"], meta["name"]))
        if pod is None:
            return
        if gone and meta["uid"] == pod.awaited:
            pod.awaited = ""
            if not self._asked:
                self._create(pod)
            return
        if pod.gone and not gone and meta["uid"] != pod.past:
            # Somebody has replaced it: that one is followed from now on.
            pod.uid, pod.known, pod.gone, pod.began = meta["uid"], None, 0.0, False
        if meta["uid"] != pod.uid:
            return
        before, after = pod.known, convert(object)
        if before is None and pod.began:
            for instance in _running(after):
                self._open(pod, object, instance, from_end=True)
        else:
            until = time.monotonic() + _DRAIN
            for line in narration.seen(before, after):
                if line.opens is not None:
                    instance = Instance(pod.uid, line.container, line.opens)
                    newest = _numbers(after)[line.container]
                    self._open(pod, object, instance, previous=line.opens < newest)
                pod.pending.append((line, until))
        pod.known = after
        if (gates := open_gates(after)) and not (gone or pod.hinted):
            pod.hinted = True
            text = hints.gates_of_api(gates, setting(after, self._client.state_dir))
            pod.pending.append((narration.Line(text=f"hint: {text}"), time.monotonic() + _DRAIN))
        if gone:
            pod.pending.append((narration.Line(text="deleted"), time.monotonic() + _DRAIN))
            pod.uid, pod.past, pod.gone = "", pod.uid, time.monotonic()

    def _open(
        self,
        pod: _Pod,
        object: Json,
        instance: Instance,
        *,
        from_end: bool = False,
        previous: bool = False,
    ) -> None:
        if self._options.detach:
            return
        pod.open.add(instance)
        self._watching.log(
            object,
            instance,
            from_end=from_end,
            previous=previous,
            timestamps=self._options.timestamps,
        )

    def _tell(self, pod: _Pod) -> None:
        """What has happened, each end of a container after the last line of its log."""
        while pod.pending:
            line, until = pod.pending[0]
            ended = [
                i for i in pod.open if (i.container, i.number) == (line.container, line.closes)
            ]
            if ended and time.monotonic() < until:
                return
            pod.pending.popleft()
            label = f"{pod.label}/{line.container}" if line.container else pod.label
            self._say(label, line.text)

    def _show(self, news: Lines) -> None:
        for pod in self._pods.values():
            if news.instance in pod.open:
                break
        else:
            return
        label = f"{pod.label}/{news.instance.container}"
        if news.error:
            self._say(label, news.error)
        elif not news.lines:
            pod.open.discard(news.instance)
        prefix = self._labels.of_log(label).encode() if self._options.prefix else b""
        if news.lines:
            self._write(b"".join([b"%b%b\n" % (prefix, line) for line in news.lines]))

    def _event(self, event: Json) -> None:
        involved = event.get("involvedObject", {})
        key = involved.get("namespace", ""), involved.get("name", "")
        pod = self._pods.get(key)
        if pod is None or event.get("type") != reasons.WARNING or event["reason"] in _TOLD:
            return
        if involved.get("uid") != pod.uid:
            return
        container = involved.get("fieldPath", "").partition("{")[2].rstrip("}")
        message = event.get("message", "").rpartition("similar events): ")[2]
        text = f"{event['reason']}: {narration.first_words(message)}"
        if f"{container} {text}" not in pod.unhealthy:
            pod.unhealthy.add(f"{container} {text}")
            until = time.monotonic() + _DRAIN
            pod.pending.append((narration.Line(container=container, text=text), until))

    # --- asked to end ---------------------------------------------------------------------------

    def _signalled(self, received: signal.Signals) -> None:
        if received is signal.SIGHUP or self._options.detach:
            if not self._asked:
                self._leave(ENDING[received])
            return
        now = time.monotonic()
        if self._asked and now - self._asked_at < _SAME:
            return
        self._asked, self._asked_at = self._asked + 1, now
        self._code = self._code or ENDING[received]
        self._explain_at = 0.0
        if self._asked == 1:
            self._stop(None)
            self._explain_at = now + _PATIENCE
        elif self._asked == 2:
            self._say("podvisor", "grace shortened to 1 s; once more kills")
            self._stop(1)
        else:
            self._say("podvisor", "killing")
            self._stop(0)
            self._give_up = time.monotonic() + _LAST_RESORT

    def _stop(self, grace: int | None) -> None:
        for pod in self._pods.values():
            if pod.uid:
                try:
                    self._client.delete(PODS, *pod.key, uid=pod.uid, grace=grace)
                except StatusError as error:
                    if error.reason not in ("NotFound", "Conflict"):
                        raise
                    pod.uid = ""

    def _explain_end(self) -> None:
        """What the pods that are still there wait for, and how to wait less."""
        self._explain_at = 0.0
        for pod in self._pods.values():
            if not pod.uid:
                continue
            try:
                record = self._client.json("GET", records.path(*pod.key))
            except StatusError:
                continue  # it has just gone
            for container in record["containers"]:
                if not container["pid"]:
                    continue
                owed = [each["which"] for each in container["hooks"] if not each["end"]]
                why = f"{owed[-1]} goes on" if owed else f"goes on, pid {container['pid']}"
                text = f"{why}; Ctrl-C again shortens the grace to 1 s"
                self._say(f"{pod.label}/{container['name']}", text)

    def _leave(self, code: ExitCode) -> None:
        """Without the pods: they go on."""
        self._code, self._leaves = code, True

    def _conclude(self) -> int:
        if not self._options.detach and not self._leaves:
            rows = [row for pod in self._pods.values() for row in _rows(pod)]
            if rows:
                heading = ("CONTAINER", "RESTARTS", "EXIT", "REASON", "DURATION")
                complain("\n" + narration.table([heading, *rows]).rstrip())
        if self._asked:
            self._end_node()
        elif self._leaves:
            self._say("podvisor", "the pods run on; `podvisor down` ends them")
        if self._code is not None:
            return self._code
        trouble = [(pod.label, pod.trouble) for pod in self._pods.values() if pod.trouble]
        failed = [each for each in trouble if not self._is_plain_end(each[1])]
        if self._options.detach:
            for label, why in failed:
                self._say(label, f"does not come up: {why}")
        return ExitCode.NEGATIVE if failed else ExitCode.OK

    def _is_plain_end(self, why: str) -> bool:
        return why == "was deleted" and not self._options.detach

    def _end_node(self) -> None:
        """The node that was started for these pods, if it has no others."""
        if self._started and not self._client.list(PODS)["items"]:
            background.stop(self._client)

    # --- writing --------------------------------------------------------------------------------

    def _warn(self, text: str) -> None:
        """A warning of the node, once: it warns at the dry run and at the creation. What our own
        look at the files has said, with its place there, is not said again."""
        if not any(said.endswith(text) for said in self._warned):
            self._warned.add(text)
            complain(f"Warning: {text}")

    def _say(self, label: str, text: str) -> None:
        complain(self._labels.ours(label, text))

    def _write(self, data: bytes) -> None:
        """Waits for whoever reads it, but not longer than until we are told to end."""
        out, view = sys.stdout.fileno(), memoryview(data)
        try:
            while view and not self._unread:
                patience = _PATIENCE if self._asked else None
                told, takes, _ = select.select([self._signals.fd], [out], [], patience)
                if takes:
                    view = view[os.write(out, view[: select.PIPE_BUF]) :]
                elif told:
                    return  # the signal is behind others in the news, which have to be gone through
                else:
                    self._unread = True
        except OSError:
            if not self._asked:
                self._leave(ExitCode.BROKEN_PIPE)


def _about(error: StatusError, name: str) -> StatusError:
    """What was refused of a pod under a name that the node has made, told of the pod."""
    made = error.details.get("name")
    if not made:
        return error
    told = error.status["message"].replace(made, name)
    return StatusError(
        {**error.status, "message": told, "details": {**error.details, "name": name}}
    )


def outcome(before: Json | None, after: Json) -> str:
    """In kubectl's words."""
    if before is None:
        return "created"
    versions = [each["metadata"].get("resourceVersion") for each in (before, after)]
    return "unchanged" if versions[0] == versions[1] else "configured"


def _key(home: LoadedPod) -> tuple[str, str]:
    return home.pod.metadata.namespace, home.pod.metadata.name


def _numbers(pod: v1.Pod) -> dict[str, int]:
    """Of the newest instance of each container."""
    return {status.name: status.restart_count for status in narration.statuses(pod.status)}


def _running(pod: v1.Pod) -> list[Instance]:
    uid = pod.metadata.uid
    return [
        Instance(uid, status.name, status.restart_count)
        for status in narration.statuses(pod.status)
        if status.state.running is not None
    ]


def _rows(pod: _Pod) -> list[tuple[str, ...]]:
    if pod.known is None:
        return []
    rows: list[tuple[str, ...]] = []
    for status in narration.statuses(pod.known.status):
        label, restarts = f"{pod.label}/{status.name}", str(status.restart_count)
        state = status.state
        ended = state.terminated or (status.last_state.terminated if state.waiting else None)
        if ended is not None:
            span = narration.seen_span(ended)
            took = "-" if span is None else f"{span} s"
            rows.append((label, restarts, str(ended.exit_code), ended.reason, took))
        else:
            # Of what was killed the node forgets the pod before it has ended.
            now = "running" if pod.uid else "killed"
            reason = state.waiting.reason if state.waiting else now
            rows.append((label, restarts, "-", reason, "-"))
    return rows
