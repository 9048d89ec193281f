"""What a request to write does to an object: the API server's own say, between HTTP and the store.

Every write goes the same way, under a lock of its object: read what is there, have the change
made, restore what only the server may say (metadata.py), fill in defaults, check the rules, and
store it if anything is different. Who changes nothing gets the same resourceVersion again. A dry
run goes the same way and stops before the last step.

Pods go to the node (pods.py) and are stored by it alone; reviews are answered and never stored.
The server (server.py) calls this, and cluster.py, which keeps what every cluster has. Nothing here
knows HTTP or decides what becomes of a pod.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from functools import partial
from weakref import WeakValueDictionary

import anyio
import msgspec

from supervisor.api import codec, objects, schema
from supervisor.apiserver import apply, metadata, reading, resources, reviews
from supervisor.apiserver.aside import Aside
from supervisor.apiserver.cache import Cache, Entry
from supervisor.apiserver.contract import (
    Answer,
    ApiError,
    Cause,
    Change,
    DeleteOptions,
    Json,
    Pods,
    Resource,
    WriteOptions,
    already_exists,
    conflict,
    forbidden,
    not_found,
    unwritten,
)
from supervisor.apiserver.pods import PodStorage, check_preconditions
from supervisor.apiserver.quota import Quota
from supervisor.lifecycle.facts import rfc3339
from supervisor.store.contract import Edit, Store

PROTECTED = ("default", "kube-node-lease", "kube-public", "kube-system")
_NO_VERSION = (None, "", "0")  # whichever there is
_TRIES = 8  # to draw a name that is free


class ObjectRegistry:
    """Fulfils contract.Registry. `user` is who all requests come from; `is_token` knows the token
    that they come with."""

    def __init__(
        self,
        store: Store,
        cache: Cache,
        pods: Pods,
        *,
        user: str,
        is_token: Callable[[str], bool],
    ) -> None:
        self.cache = cache
        self.pods = pods
        self._store = store
        self._clock = pods.node.clock
        self._user = user
        self._is_token = is_token
        self._aside = Aside()
        self._quota = Quota(cache)
        self._of_pods = PodStorage(cache, pods, self._aside, self._quota)
        self._locks: WeakValueDictionary[tuple[str, str, str], anyio.Lock] = WeakValueDictionary()
        self._random = random.SystemRandom()

    # --- create ---------------------------------------------------------------------------------

    async def create(
        self, resource: Resource, namespace: str, body: Json, options: WriteOptions
    ) -> Answer:
        body = metadata.addressed(resource, namespace, "", body)
        meta = body["metadata"]
        if meta.get("resourceVersion") not in _NO_VERSION:
            raise ApiError(
                400, "BadRequest", "resourceVersion should not be set on objects to be created"
            )
        name, base = meta.get("name") or "", meta.get("generateName") or ""
        if name or not base:
            return await self._create_named(resource, namespace, name, body, options)
        for left in reversed(range(_TRIES)):
            letters = self._random.choices(metadata.SUFFIX_LETTERS, k=metadata.SUFFIX_LENGTH)
            name = metadata.generated(base, "".join(letters))
            try:
                return await self._create_named(resource, namespace, name, body, options)
            except ApiError as error:
                if error.reason != "AlreadyExists" or not left:
                    raise
        raise AssertionError("unreachable")

    async def _create_named(
        self, resource: Resource, namespace: str, name: str, body: Json, options: WriteOptions
    ) -> Answer:
        async with self._lock(resource, namespace, name):
            return await self._create(resource, namespace, name, body, options)

    async def _create(
        self, resource: Resource, namespace: str, name: str, body: Json, options: WriteOptions
    ) -> Answer:
        """Under its lock."""
        body = metadata.addressed(resource, namespace, name, body)
        self._check_namespace(resource, namespace, name)
        if resource.key == "pods":
            if self.cache.get("pods", namespace, name) is not None:
                raise already_exists(resource, name)
            check = partial(self._check_namespace, resource, namespace, name)
            return await self._of_pods.create(resource, namespace, name, body, options, check)
        stamp = rfc3339(self._clock.now())
        made = partial(self._made, resource, name, body, options, stamp)
        body, warnings = await self._aside.run(options.size, made)
        self._check_namespace(resource, namespace, name)  # it may have begun to go meanwhile
        if self.cache.get(resource.key, namespace, name) is not None:
            raise already_exists(resource, name)
        if not options.dry_run:
            with self._quota.room(resource, name, body):
                body = await self._store_object(resource, namespace, name, body)
        return Answer(object=body, created=True, warnings=warnings)

    def _made(
        self, resource: Resource, name: str, body: Json, options: WriteOptions, stamp: str
    ) -> tuple[Json, tuple[str, ...]]:
        """A new object as it is stored, and warnings. Pure."""
        rules = objects.RULES[resource.kind]
        if rules.has_status:
            body = {key: value for key, value in body.items() if key != "status"}
        body, warnings = self._typed(resource, body, options)
        body = metadata.begun(body, str(uuid.uuid4()), stamp, generation=1 if rules.counts else 0)
        body = metadata.noted(None, rules.defaults(body), resource, options, stamp)
        findings = [*objects.check_metadata(rules, body), *rules.check(body)]
        if metadata.errors(findings):
            raise metadata.invalid(resource, name, findings)
        return body, warnings + metadata.warnings(findings)

    def _check_namespace(self, resource: Resource, namespace: str, name: str) -> None:
        """Nothing new comes into a namespace that is not there, or is about to go."""
        if not resource.namespaced:
            return
        entry = self.cache.get("namespaces", "", namespace)
        if entry is None:
            message = f'namespaces "{namespace}" not found'
            raise ApiError(404, "NotFound", message, name=namespace, kind="namespaces")
        if "deletionTimestamp" in entry.object["metadata"]:
            why = (
                f"unable to create new content in namespace {namespace} because it is being "
                "terminated"
            )
            cause = Cause(
                "NamespaceTerminating",
                f"namespace {namespace} is being terminated",
                "metadata.namespace",
            )
            raise forbidden(resource, name, why, (cause,))

    # --- update ---------------------------------------------------------------------------------

    async def update(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        change: Change,
        options: WriteOptions,
        *,
        subresource: str = "",
        upsert: bool = False,
    ) -> Answer:
        async with self._lock(resource, namespace, name):
            entry = self.cache.get(resource.key, namespace, name)
            if entry is None:
                if not upsert or subresource:
                    raise not_found(resource, name)
                body = await self._aside.run(options.size, partial(change, None))
                if uid := metadata.of(body).get("uid"):
                    why = (
                        f"uid mismatch: the provided object specified uid {uid}, and no existing "
                        "object was found"
                    )
                    raise conflict(resource, name, why)
                return await self._create(resource, namespace, name, body, options)
            options = msgspec.structs.replace(options, size=options.size + len(entry.raw))
            asked = await self._aside.run(options.size, partial(change, entry.object))
            wanted = metadata.addressed(resource, namespace, name, asked)
            _check_current(resource, entry, wanted)
            if resource.key == "pods" and subresource == "status":
                return await self._of_pods.set_status(resource, entry, wanted, options)
            if resource.key == "pods":
                return await self._of_pods.update(resource, entry, wanted, options, subresource)
            return await self._update(resource, entry, wanted, options, subresource)

    async def _update(
        self,
        resource: Resource,
        entry: Entry,
        wanted: Json,
        options: WriteOptions,
        subresource: str,
    ) -> Answer:
        stamp = rfc3339(self._clock.now())
        changed = partial(self._changed, resource, entry, wanted, options, subresource, stamp)
        new, warnings = await self._aside.run(options.size, changed)
        if new is entry.object or options.dry_run:
            return Answer(object=new, warnings=warnings)
        place = resource, entry.namespace, entry.name
        if "deletionTimestamp" in new["metadata"] and not _is_held(resource, new):
            await self._remove(*place)
            return Answer(object=new, warnings=warnings)
        with self._quota.room(resource, entry.name, new, entry.object):
            return Answer(object=await self._store_object(*place, new), warnings=warnings)

    def _changed(
        self,
        resource: Resource,
        entry: Entry,
        wanted: Json,
        options: WriteOptions,
        subresource: str,
        stamp: str,
    ) -> tuple[Json, tuple[str, ...]]:
        """The object as it is from now on, the same one where nothing changes, and warnings.
        Pure."""
        rules, old = objects.RULES[resource.kind], entry.object
        if subresource == "status":
            wanted = metadata.only(old, wanted, "status")
        elif rules.has_status:
            wanted = wanted | {"status": old.get("status") or {}}
        wanted = wanted | {name: old[name] for name in rules.owned}
        wanted, warnings = self._typed(resource, wanted, options)
        new = rules.defaults(metadata.carried_over(old, wanted))
        new = metadata.noted(old, new, resource, options, stamp, subresource)
        findings = [
            *objects.check_metadata(rules, new, old),
            *rules.check(new),
            *rules.check_update(old, new),
        ]
        if metadata.errors(findings):
            raise metadata.invalid(resource, entry.name, findings)
        if apply.unchanged(old, new):
            return old, warnings
        if rules.counts and new.get(rules.counts) != old.get(rules.counts):
            count = new["metadata"].get("generation", 0) + 1
            new = new | {"metadata": new["metadata"] | {"generation": count}}
        return new, warnings + metadata.warnings(findings)

    def _typed(
        self, resource: Resource, body: Json, options: WriteOptions
    ) -> tuple[Json, tuple[str, ...]]:
        model = schema.MODELS[resource.api_version, resource.kind]
        value, warnings = reading.typed(model, body, options.validation, options.repeated)
        return codec.to_plain(value), warnings

    # --- delete ---------------------------------------------------------------------------------

    async def delete(
        self, resource: Resource, namespace: str, name: str, options: DeleteOptions
    ) -> Answer:
        async with self._lock(resource, namespace, name):
            if resource.key == "pods":
                return await self._of_pods.delete(resource, namespace, name, options)
            entry = self.cache.get(resource.key, namespace, name)
            if entry is None:
                raise not_found(resource, name)
            check_preconditions(resource, entry, options)
            if resource.key == "namespaces" and name in PROTECTED:
                raise forbidden(resource, name, "this namespace may not be deleted")
            old = entry.object
            if not _is_held(resource, old):
                if not options.dry_run:
                    await self._remove(resource, namespace, name)
                return Answer(object=_deleted(resource, entry))
            if "deletionTimestamp" in old["metadata"]:
                return Answer(object=old)
            new = _ending(resource, old, rfc3339(self._clock.now()))
            if not options.dry_run:
                new = await self._store_object(resource, namespace, name, new)
            return Answer(object=new)

    # --- the rest -------------------------------------------------------------------------------

    async def post(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        subresource: str,
        body: Json,
        options: WriteOptions,
    ) -> Answer:
        if not name:
            return reviews.answer(resource, body, options, self._user, self._is_token)
        if subresource == "eviction":
            async with self._lock(resource, namespace, name):
                return await self._of_pods.evict(resource, namespace, name, body, options)
        if self.cache.get("pods", namespace, name) is None:
            raise not_found(resource, name)
        here = self.pods.node.policy.node_name  # a binding: that is where it is already
        raise conflict(resource, name, f"pod {name} is already assigned to node {here!r}")

    # --- what the node itself writes ------------------------------------------------------------

    async def keep(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        make: Callable[[Json | None], Json],
        *,
        synced: bool = True,
    ) -> None:
        """Have an object as the node wants it, its status included: what `make` gives, of what is
        there, is taken to be right. Raises ApiError where it cannot be stored."""
        rules = objects.RULES[resource.kind]
        async with self._lock(resource, namespace, name):
            entry = self.cache.get(resource.key, namespace, name)
            old = None if entry is None else entry.object
            new = metadata.addressed(resource, namespace, name, make(old))
            if old is None:
                stamp = rfc3339(self._clock.now())
                new = metadata.begun(
                    new, str(uuid.uuid4()), stamp, generation=1 if rules.counts else 0
                )
            else:
                new = metadata.carried_over(old, new)
            new = rules.defaults(new)
            if new != old:
                await self._store_object(resource, namespace, name, new, synced=synced)

    async def finalize(self, namespace: str) -> None:
        """Nothing is in a namespace that is being deleted any more: it may go."""
        resource = resources.named("namespaces")
        async with self._lock(resource, "", namespace):
            entry = self.cache.get("namespaces", "", namespace)
            if entry is None:
                return
            spec = entry.object.get("spec") or {}
            left = [each for each in spec.get("finalizers") or () if each != objects.KUBERNETES]
            new = entry.object | {"spec": spec | {"finalizers": left}}
            if _is_held(resource, new):
                await self._store_object(resource, "", namespace, new)
            else:
                await self._remove(resource, "", namespace)

    # --- storing --------------------------------------------------------------------------------

    def _lock(self, resource: Resource, namespace: str, name: str) -> anyio.Lock:
        key = resource.key, namespace, name
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = anyio.Lock()
        return lock

    async def _store_object(
        self, resource: Resource, namespace: str, name: str, body: Json, *, synced: bool = True
    ) -> Json:
        """Store it; return it with its version."""
        body = metadata.without_version(body)
        await self._edit(resource, namespace, name, body, synced=synced)
        entry = self.cache.get(resource.key, namespace, name)
        # An event that came too late is gone at once.
        return body if entry is None else entry.object

    async def _remove(self, resource: Resource, namespace: str, name: str) -> None:
        await self._edit(resource, namespace, name, None, synced=True)

    async def _edit(
        self, resource: Resource, namespace: str, name: str, body: Json | None, *, synced: bool
    ) -> None:
        edit = Edit(
            at=self._clock.now(),
            resource=resource.key,
            namespace=namespace,
            name=name,
            body=body,
            synced=synced and resource.key != "events",
        )
        try:
            await self._store.edit(edit)
        except OSError as error:
            raise unwritten(resource, name, error) from error


def _check_current(resource: Resource, entry: Entry, wanted: Json) -> None:
    """Raises ApiError (Conflict) where what was changed is not what is there."""
    meta = metadata.of(wanted)
    version, uid = meta.get("resourceVersion"), meta.get("uid")
    if version not in _NO_VERSION and version != str(entry.version):
        raise conflict(resource, entry.name)
    if uid and uid != entry.uid:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {entry.uid}"
        raise conflict(resource, entry.name, why)


def _is_held(resource: Resource, body: Json) -> bool:
    """Whether somebody has to let go of it before it can be removed."""
    if body["metadata"].get("finalizers"):
        return True
    return resource.key == "namespaces" and bool(body["spec"].get("finalizers"))


def _ending(resource: Resource, old: Json, stamp: str) -> Json:
    meta = old["metadata"] | {"deletionTimestamp": stamp, "deletionGracePeriodSeconds": 0}
    if "generation" in meta:
        meta["generation"] += 1
    new = old | {"metadata": meta}
    if resource.key == "namespaces":
        new["status"] = (old.get("status") or {}) | {"phase": "Terminating"}
    return new


def _deleted(resource: Resource, entry: Entry) -> Json:
    details = {"name": entry.name, "group": resource.group, "kind": resource.plural}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {key: value for key, value in details.items() if value} | {"uid": entry.uid},
    }
