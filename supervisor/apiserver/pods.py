"""Pods, as far as the API has a say in them: the node runs them and tells what becomes of them.

A pod is never written to the store from here. What a client asks for is checked as a manifest is,
handed to the node, and awaited: whoever was answered that a pod is there can read it, and finds it
again after a crash; what could not be stored was never asked for. The registry holds the lock of
the name and knows the namespace.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from functools import partial

from msgspec.structs import replace

from supervisor.api import codec, kinds, v1, validation
from supervisor.api.problems import Finding, not_supported
from supervisor.apiserver import apply, metadata, reading
from supervisor.apiserver.aside import Aside
from supervisor.apiserver.cache import Cache, Entry
from supervisor.apiserver.contract import (
    Answer,
    ApiError,
    DeleteOptions,
    Json,
    Pods,
    Resource,
    WriteOptions,
    already_exists,
    bad_request,
    conflict,
    forbidden,
    not_found,
    unwritten,
)
from supervisor.apiserver.quota import Quota, check_pods
from supervisor.kubelet.worker import PodWorker, UncertainError
from supervisor.lifecycle import reasons
from supervisor.lifecycle.facts import (
    ConditionRemoved,
    ConditionSet,
    DeletionRequested,
    Fact,
    Instant,
    PodUpdated,
    rfc3339,
)

_STATUSES = ("False", "True", "Unknown")


class PodStorage:
    """Creates, changes and deletes the pods of one node."""

    def __init__(self, cache: Cache, pods: Pods, aside: Aside, quota: Quota) -> None:
        self._quota = quota
        self._cache = cache
        self._aside = aside
        self._pods = pods
        self._node = pods.node

    async def create(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: Json,
        options: WriteOptions,
        check: Callable[[], None],
    ) -> Answer:
        """`body` has its name and place. There is no pod of this name. `check`: whether it may
        come to be, right before it does."""
        asked = {key: value for key, value in body.items() if key != "status"}
        here = self._node.policy.node_name

        def judge() -> tuple[v1.Pod, tuple[str, ...], v1.Pod, list[Finding]]:
            pod, warnings = reading.typed(v1.Pod, asked, options.validation, options.repeated)
            return pod, warnings, *_judged(pod, here)

        pod, warnings, judged, findings = await self._aside.run(options.size, judge)
        judged = self._pods.owned(None, judged)
        if not metadata.errors(findings):
            findings = findings + self._pods.admit(judged)
        refused = metadata.errors(findings)
        if refused:
            raise metadata.invalid(resource, name, refused)
        stamp = rfc3339(self._node.clock.now())
        admit = partial(self._admitted, resource, pod, judged, options, stamp)
        judged = await self._aside.run(options.size, admit)
        warnings += metadata.warnings(findings)
        self._check_schedulable(resource, name, pod)
        check()
        # Also by a pod of a file that is not stored yet.
        taken = self._node.find(namespace, name) or self._cache.get("pods", namespace, name)
        if taken is not None:
            raise already_exists(resource, name)
        if options.dry_run:
            return Answer(object=self._imagined(judged), created=True, warnings=warnings)
        living = sum(1 for worker in self._node.workers if not worker.finished.is_set())
        check_pods(resource, name, living)
        with self._quota.room(resource, name, codec.to_plain(judged)):
            worker = self._pods.run(judged)
            try:
                await self._ask(resource, name, worker)
            except ApiError:
                # Who was told that it is not there must not find it if it is stored late after all.
                self._node.delete(worker, kill=True)
                raise
        entry = self._cache.get("pods", namespace, name)
        made = entry.object if entry is not None else codec.to_plain(worker.pod)
        return Answer(object=made, created=True, warnings=warnings)

    def _admitted(
        self, resource: Resource, asked: v1.Pod, judged: v1.Pod, options: WriteOptions, stamp: str
    ) -> v1.Pod:
        """With what the server and a scheduler add to a valid pod."""
        given = asked.metadata
        meta = replace(
            judged.metadata,
            generate_name=given.generate_name,
            managed_fields=given.managed_fields,
        )
        spec = replace(judged.spec, **_account(judged.spec))
        # What is added here is nobody's: who applies a pod later and does not name it cannot be
        # taken to want it gone.
        plain = codec.to_plain(replace(judged, metadata=meta))
        noted = metadata.noted(None, plain, resource, options, stamp)
        managed = tuple(noted["metadata"].get("managedFields") or ())
        return replace(
            judged,
            metadata=replace(meta, managed_fields=managed),
            spec=replace(spec, node_name=self._node.policy.node_name),
        )

    def _check_schedulable(self, resource: Resource, name: str, pod: v1.Pod) -> None:
        here = self._node.policy.node_name
        node = self._cache.get("nodes", "", here)
        cordoned = node is not None and (node.object.get("spec") or {}).get("unschedulable")
        # Who names the node asks no scheduler.
        if cordoned and pod.spec.node_name != here:
            why = f"node {here} is cordoned, and there is no other: kubectl uncordon {here}"
            raise forbidden(resource, name, why)

    def _imagined(self, pod: v1.Pod) -> Json:
        """As it would be, if it were not only asked what if."""
        plain = codec.to_plain(replace(pod, status=v1.PodStatus(phase="Pending")))
        stamp = rfc3339(self._node.clock.now())
        return metadata.begun(plain, str(uuid.uuid4()), stamp, generation=1)

    # --- changes --------------------------------------------------------------------------------

    async def update(
        self,
        resource: Resource,
        entry: Entry,
        wanted: Json,
        options: WriteOptions,
        subresource: str,
    ) -> Answer:
        """Of the pod itself, or of its ephemeral containers and nothing else."""
        old = entry.object
        judge = partial(_changed, entry, wanted, options, subresource)
        known, pod, warnings, findings = await self._aside.run(options.size, judge)
        pod = self._pods.owned(known, pod)
        if not subresource and not findings and pod.spec != known.spec:
            findings = self._pods.admit(pod)
        if metadata.errors(findings):
            raise metadata.invalid(resource, entry.name, findings)
        warnings += metadata.warnings(findings)
        stamp = rfc3339(self._node.clock.now())

        def change() -> tuple[Json, v1.Pod]:
            new = codec.to_plain(pod)
            new = metadata.noted(old, new, resource, options, stamp, subresource)
            if apply.unchanged(old, new):
                return old, pod
            if new["spec"] != old["spec"]:
                count = old["metadata"].get("generation", 0) + 1
                new = new | {"metadata": new["metadata"] | {"generation": count}}
            return new, reading.typed(v1.Pod, new, "Ignore")[0]

        new, pod = await self._aside.run(options.size, change)
        if new is old:
            return Answer(object=old, warnings=warnings)
        if options.dry_run:
            return Answer(object=new, warnings=warnings)
        worker = self._worker(resource, entry)
        updated = PodUpdated(at=self._node.clock.now(), pod=pod)
        with self._quota.room(resource, entry.name, new, old):
            await self._ask(resource, entry.name, worker, updated)
        now = self._cache.get("pods", entry.namespace, entry.name)
        done = now is not None and now.uid == entry.uid
        return Answer(object=now.object if now is not None and done else new, warnings=warnings)

    # --- status -----------------------------------------------------------------------------------

    async def set_status(
        self, resource: Resource, entry: Entry, wanted: Json, options: WriteOptions
    ) -> Answer:
        """The conditions that the node does not own become those that are asked for. All else is
        answered as it was asked for, and stays as the node knows it to be."""
        old = entry.object
        body = metadata.only(old, wanted, "status")
        asked, warnings = reading.typed(v1.Pod, body, options.validation, options.repeated)
        known, _ = reading.typed(v1.Pod, old, "Ignore")
        asked = self._pods.owned(known, asked)
        findings = [
            *validation.check_metadata_update(known.metadata, asked.metadata),
            *_check_conditions(asked),
        ]
        if metadata.errors(findings):
            raise metadata.invalid(resource, entry.name, findings)
        there = _conditions(entry)
        # Of a type that is there twice the last one counts.
        new = {each.type: each for each in asked.status.conditions}
        gone = there.keys() - new.keys() - reasons.OWN_CONDITIONS
        new = {type: each for type, each in new.items() if there.get(type) != _says(each)}
        for type in tuple(new):
            if _own_name(type) in reasons.OWN_CONDITIONS:
                new.pop(type)
                name = _own_name(type)
                warnings += (f"status.conditions[{name}] is set by the node, which overwrites it",)
        answer = codec.to_plain(asked)
        at = self._node.clock.now()
        kept = _with_conditions(old, answer, new, gone)
        kept = metadata.noted(old, kept, resource, options, rfc3339(at), subresource="status")
        if options.dry_run or apply.unchanged(old, kept):
            return Answer(object=answer, warnings=warnings)
        facts: list[Fact] = [_condition_set(condition, at) for condition in new.values()]
        facts += [ConditionRemoved(at=at, type=type) for type in gone]
        facts.append(PodUpdated(at=at, pod=reading.typed(v1.Pod, kept, "Ignore")[0]))
        with self._quota.room(resource, entry.name, kept, old):
            await self._ask(resource, entry.name, self._worker(resource, entry), *facts)
        now = self._cache.get("pods", entry.namespace, entry.name) or entry
        return Answer(object=now.object | {"status": answer["status"]}, warnings=warnings)

    # --- the end --------------------------------------------------------------------------------

    async def delete(
        self, resource: Resource, namespace: str, name: str, options: DeleteOptions
    ) -> Answer:
        entry = self._cache.get("pods", namespace, name)
        if entry is None:
            raise not_found(resource, name)
        check_preconditions(resource, entry, options)
        if options.dry_run:
            return Answer(object=entry.object)
        grace = options.grace
        worker, at = self._worker(resource, entry), self._node.clock.now()
        deletion = DeletionRequested(at=at, grace=grace, force=grace == 0)
        await self._ask(resource, name, worker, deletion)
        now = self._cache.get("pods", namespace, name)
        is_there = now is not None and now.uid == entry.uid
        return Answer(object=now.object if now is not None and is_there else entry.object)

    async def evict(
        self, resource: Resource, namespace: str, name: str, body: Json, asked: WriteOptions
    ) -> Answer:
        """A deletion that a budget might forbid, if there were any."""
        eviction, warnings = reading.typed(kinds.Eviction, body, asked.validation, asked.repeated)
        if eviction.metadata.name not in ("", name):
            raise bad_request("name in URL does not match name in Eviction object")
        given = eviction.delete_options or kinds.DeleteOptions()
        wanted = given.preconditions or kinds.Preconditions()
        options = DeleteOptions(
            grace=given.grace_period_seconds,
            uid=wanted.uid or "",
            resource_version=wanted.resource_version or "",
            # It may be said of the eviction or of the deletion.
            dry_run=asked.dry_run or bool(given.dry_run),
        )
        await self.delete(resource, namespace, name, options)
        done = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "code": 201,
        }
        return Answer(object=done, created=True, warnings=warnings)

    # --- what they share ------------------------------------------------------------------------

    def _worker(self, resource: Resource, entry: Entry) -> PodWorker:
        """Who sees to a pod. Raises ApiError where it has gone meanwhile."""
        worker = self._node.worker(entry.uid)
        if worker is None:
            raise not_found(resource, entry.name)
        return worker

    async def _ask(self, resource: Resource, name: str, worker: PodWorker, *facts: Fact) -> None:
        """Have the node told, and all of it stored, or nothing of it."""
        try:
            await self._node.ask(worker, *facts)
        except UncertainError as error:
            why = f'{resource.key} "{name}": {error.strerror}'
            raise ApiError(504, "Timeout", why, name=name, kind=resource.plural) from error
        except OSError as error:
            raise unwritten(resource, name, error) from error


def check_preconditions(resource: Resource, entry: Entry, options: DeleteOptions) -> None:
    """Raises ApiError (Conflict) unless the object is the one that is meant."""
    for what, wanted, there in (
        ("UID", options.uid, entry.uid),
        ("ResourceVersion", options.resource_version, str(entry.version)),
    ):
        if wanted and wanted != there:
            why = (
                f"Precondition failed: {what} in precondition: {wanted}, {what} in object meta: "
                f"{there}"
            )
            raise conflict(resource, entry.name, why)


def _judged(pod: v1.Pod, here: str) -> tuple[v1.Pod, list[Finding]]:
    """The pod with its defaults, and what is wrong with it on the node `here`."""
    # What is so already needs no warning, and the name was made by the server.
    spec = pod.spec
    asked = replace(
        pod,
        metadata=replace(
            pod.metadata, generate_name="", managed_fields=(), resource_version="", uid=""
        ),
        spec=replace(spec, node_name="") if spec.node_name == here else spec,
    )
    judged, findings = validation.check(asked)
    if spec.node_name not in ("", here):
        path = ("spec", "nodeName")
        findings = [f for f in findings if f.path != path]
        findings.append(not_supported(path, spec.node_name, [here]))
    return judged, findings


def _changed(
    entry: Entry, wanted: Json, options: WriteOptions, subresource: str
) -> tuple[v1.Pod, v1.Pod, tuple[str, ...], list[Finding]]:
    """The pod as it is and as it is wanted, warnings, and what is wrong with the change."""
    old = entry.object
    if subresource:
        spec = wanted.get("spec")
        asked = spec.get("ephemeralContainers") if isinstance(spec, dict) else None
        wanted = old | {"spec": old["spec"] | {"ephemeralContainers": asked or []}}
    wanted = metadata.carried_over(old, _placed(old, wanted))
    wanted = wanted | {"status": old.get("status") or {}}
    read, warnings = reading.typed(v1.Pod, wanted, options.validation, options.repeated)
    known, _ = reading.typed(v1.Pod, old, "Ignore")
    spec = validation.with_defaults(read).spec
    # Those that are there stay where they are: a patch may put what is new before them.
    place = {each.name: at for at, each in enumerate(known.spec.ephemeral_containers)}
    debug = sorted(spec.ephemeral_containers, key=lambda each: place.get(each.name, len(place)))
    pod = replace(read, spec=replace(spec, ephemeral_containers=tuple(debug)))
    check = validation.check_ephemeral_update if subresource else validation.check_update
    return known, pod, warnings, check(known, pod)


def _placed(old: Json, wanted: Json) -> Json:
    """A manifest that is put in place of a pod names neither its node nor its account."""
    spec = wanted.get("spec")
    if not isinstance(spec, dict):
        return wanted
    names = ("nodeName", "serviceAccount", "serviceAccountName")
    known = {name: old["spec"][name] for name in names if name in old["spec"]}
    return wanted | {"spec": known | spec}


_Said = tuple[str, str, str]  # status, reason and message


def _says(condition: v1.PodCondition) -> _Said:
    return condition.status, condition.reason, condition.message


def _conditions(entry: Entry) -> dict[str, _Said]:
    listed = (entry.object.get("status") or {}).get("conditions") or []
    return {
        each["type"]: (each["status"], each.get("reason", ""), each.get("message", ""))
        for each in listed
    }


def _own_name(type: str) -> str:
    return reasons.CONDITION_ALIASES.get(type, type)


def _check_conditions(pod: v1.Pod) -> Iterator[Finding]:
    for index, condition in enumerate(pod.status.conditions):
        if condition.status not in _STATUSES:
            path = ("status", "conditions", index, "status")
            yield not_supported(path, condition.status, _STATUSES)


def _with_conditions(
    old: Json, wanted: Json, new: dict[str, v1.PodCondition], gone: set[str]
) -> Json:
    """The pod that is wanted with what of its status is a client's to say."""
    status = old.get("status") or {}
    others = [
        each
        for each in status.get("conditions") or []
        if each["type"] not in new and each["type"] not in gone
    ]
    conditions = [*others, *map(codec.to_plain, new.values())]
    return wanted | {"status": status | {"conditions": conditions}}


def _condition_set(condition: v1.PodCondition, at: Instant) -> ConditionSet:
    return ConditionSet(
        at=at,
        type=condition.type,
        status=condition.status,
        reason=condition.reason,
        message=condition.message,
    )


def _account(spec: v1.PodSpec) -> dict[str, str]:
    account = spec.service_account_name or "default"
    return {"service_account": account, "service_account_name": account}
