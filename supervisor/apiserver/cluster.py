"""What every cluster keeps by itself, and controllers and test frameworks expect of this one.

Namespaces that exist without being asked for, the account and the certificate that each has, the
end of one with all that is in it, the Service in front of the API, the node and its lease. Each is
put right when it was changed or is missing, from the cache's news; a store that cannot write is
tried again later.

Also from here: what ConfigMaps and Secrets of the API hold is told to the node at every change,
before whoever changed it is answered.

Owner references are stored and never followed: there is no garbage collector.
"""

from __future__ import annotations

import anyio

from supervisor.api import validation
from supervisor.apiserver import nodes, resources
from supervisor.apiserver.cache import Change, Entry
from supervisor.apiserver.contract import ApiError, DeleteOptions, Json, Resource
from supervisor.apiserver.registry import PROTECTED, ObjectRegistry
from supervisor.runtime.spec import Configuration, NodeInfo

ROOT_CA = "kube-root-ca.crt"
_AGAIN = 5.0  # seconds until what could not be stored is tried again
_RENEW_EVERY = 10.0
_REPORT_EVERY = 300.0  # the lease says in between that the node lives

_NAMESPACES = resources.named("namespaces")
_NODES = resources.named("nodes")
_LEASES = resources.named(nodes.LEASES)
_KEPT = {  # in every namespace
    "configmaps": ROOT_CA,
    "serviceaccounts": "default",
}
# What a namespace takes with it, pods apart: they take their time.
_INSIDE = tuple(
    resource
    for resource in resources.RESOURCES
    if resource.namespaced and "delete" in resource.verbs and resource.key != "pods"
)


class Cluster:
    """`authority` is the certificate (PEM) by which clients know the API, `port` where it is, and
    `version` the one that the API says of itself."""

    def __init__(
        self,
        registry: ObjectRegistry,
        info: NodeInfo,
        *,
        version: str,
        authority: str = "",
        port: int = 0,
    ) -> None:
        self._registry = registry
        self._cache = registry.cache
        self._clock = registry.pods.node.clock
        self._info = info
        self._machine = nodes.facts()
        self._version = version
        self._authority = authority
        self._port = port
        self._is_made = False  # all that must be there
        self._due: set[str] = set()  # namespaces to look at
        self._wake = anyio.Event()
        self._configuration = _Decoded()

    async def start(self) -> None:
        """Make what must be there before the first request. On a full disk that is later: the node
        goes on with its pods then, and what is there can be read."""
        await self._try_to_make()
        for resource in ("configmaps", "secrets"):
            for entry in self._cache.list(resource):
                self._configuration.take(entry)
        self._tell_configuration()
        self._cache.follow(self._changed)

    async def _try_to_make(self) -> None:
        try:
            await self._make()
        except ApiError:
            return
        self._is_made = True

    async def _make(self) -> None:
        """Raises ApiError where the store cannot."""
        for name in PROTECTED:
            await self._keep_namespace(name)
        for entry in self._cache.list("pods"):
            await self._keep_namespace(entry.namespace)
        for entry in self._cache.list("namespaces"):
            await self._tend(entry.name)
        await self._report()
        await self._renew()

    async def run(self) -> None:
        """Keep it so, until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_tending)
            tasks.start_soon(self._keep_renewing)

    # --- what has changed -----------------------------------------------------------------------

    def _changed(self, change: Change) -> None:
        entry = change.entry
        match entry.resource:
            case "events" | nodes.LEASES | "nodes":
                if change.type != "DELETED":
                    return
            case "configmaps" | "secrets":
                if change.type == "DELETED":
                    self._configuration.drop(entry)
                else:
                    self._configuration.take(entry)
                self._tell_configuration()
            case "pods" if change.type == "MODIFIED":
                return
        self._due.add(entry.name if entry.resource == "namespaces" else entry.namespace)
        self._wake.set()

    def _tell_configuration(self) -> None:
        self._registry.pods.configure(self._configuration.whole())

    async def _keep_tending(self) -> None:
        while not self._is_made:
            await self._clock.sleep(_AGAIN)
            await self._try_to_make()
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            due, self._due = self._due, set()
            for name in sorted(due - {""}):
                try:
                    await self._tend(name)
                except ApiError:
                    self._due.add(name)
            if self._due and not self._wake.is_set():
                await self._clock.wait(self._wake, self._clock.now().boot + _AGAIN)
                self._wake.set()

    # --- namespaces -----------------------------------------------------------------------------

    async def _keep_namespace(self, name: str) -> None:
        if self._cache.get("namespaces", "", name) is None:
            await self._registry.keep(_NAMESPACES, "", name, lambda old: old or _named(name))

    async def _tend(self, name: str) -> None:
        """Raises ApiError where something could not be stored."""
        entry = self._cache.get("namespaces", "", name)
        if entry is None and (name in PROTECTED or self._cache.list("pods", name)):
            # Pods of files ask for no namespace.
            await self._keep_namespace(name)
        elif entry is None or "deletionTimestamp" in entry.object["metadata"]:
            # Where there is none, something was on its way into it while it went.
            await self._empty(name)
            return
        await self._keep("serviceaccounts", name, _named("default"))
        ca = _named(ROOT_CA) | {"data": {"ca.crt": self._authority}}
        await self._keep("configmaps", name, ca)
        if name == "default":
            service, endpoints = nodes.kubernetes_service(self._port)
            await self._keep("services", name, service)
            await self._keep("endpoints", name, endpoints)

    async def _keep(self, plural: str, namespace: str, body: Json) -> None:
        """An object that is there, and whose fields are these; labels may be added to it."""
        fields = {key: value for key, value in body.items() if key != "metadata"}

        def right(old: Json | None) -> Json:
            return body if old is None else old | fields

        name = body["metadata"]["name"]
        await self._registry.keep(resources.named(plural), namespace, name, right)

    async def _empty(self, namespace: str) -> None:
        """Delete what is in it; when nothing is any more, it goes."""
        left = False
        for entry in self._cache.list("pods", namespace):
            left = True
            if "deletionTimestamp" not in entry.object["metadata"]:
                await self._delete(resources.named("pods"), entry)
        for resource in _INSIDE:
            for entry in self._cache.list(resource.key, namespace):
                await self._delete(resource, entry)
            left = left or bool(self._cache.list(resource.key, namespace))
        if self._comes(namespace):
            self._due.add(namespace)  # it is stored soon; nothing may tell when it cannot be
        elif not left:
            await self._registry.finalize(namespace)

    def _comes(self, namespace: str) -> bool:
        """Whether a pod was taken on in there that is not stored yet: it was asked for before the
        namespace began to go, and must not be left behind."""
        node = self._registry.pods.node
        return any(
            worker.pod.metadata.namespace == namespace and not node.has_stored(worker)
            for worker in node.workers
        )

    async def _delete(self, resource: Resource, entry: Entry) -> None:
        options = DeleteOptions(uid=entry.uid)
        try:
            await self._registry.delete(resource, entry.namespace, entry.name, options)
        except ApiError as error:
            if error.reason not in ("NotFound", "Conflict"):
                raise

    # --- the node -------------------------------------------------------------------------------

    async def _keep_renewing(self) -> None:
        report = self._clock.now().boot + _REPORT_EVERY
        while True:
            await self._clock.sleep(_RENEW_EVERY)
            try:
                await self._renew()
                if self._clock.now().boot >= report or self._is_missing():
                    report = self._clock.now().boot + _REPORT_EVERY
                    await self._report()
            except ApiError:
                pass  # the disk is full: a lease that is not renewed says so

    def _is_missing(self) -> bool:
        return self._cache.get("nodes", "", self._info.name) is None

    async def _report(self) -> None:
        at = self._clock.now()

        def now(old: Json | None) -> Json:
            return nodes.node(
                old, self._info, self._machine, port=self._port, version=self._version, at=at
            )

        await self._registry.keep(_NODES, "", self._info.name, now, synced=False)

    async def _renew(self) -> None:
        node = self._cache.get("nodes", "", self._info.name)
        if node is not None:
            name, uid, at = self._info.name, node.uid, self._clock.now()
            # Never synced: who has lost power has no lease, and the disk is not worn by it.
            await self._registry.keep(
                _LEASES,
                nodes.LEASE_NAMESPACE,
                name,
                lambda old: nodes.lease(old, name, uid, at),
                synced=False,
            )


class _Decoded:
    """What ConfigMaps and Secrets hold, as containers are given it."""

    def __init__(self) -> None:
        self._config_maps: dict[tuple[str, str], dict[str, bytes]] = {}
        self._secrets: dict[tuple[str, str], dict[str, bytes]] = {}
        self._binary: dict[tuple[str, str], frozenset[tuple[str, str, str]]] = {}

    def take(self, entry: Entry) -> None:
        key, body = (entry.namespace, entry.name), entry.object
        if entry.resource == "secrets":
            self._secrets[key] = _bytes(body.get("data"))
            return
        text = {k: value.encode() for k, value in (body.get("data") or {}).items()}
        binary = _bytes(body.get("binaryData"))
        self._config_maps[key] = text | binary
        self._binary[key] = frozenset((*key, each) for each in binary)

    def drop(self, entry: Entry) -> None:
        key = entry.namespace, entry.name
        if entry.resource == "secrets":
            self._secrets.pop(key, None)
        else:
            self._config_maps.pop(key, None)
            self._binary.pop(key, None)

    def whole(self) -> Configuration:
        return Configuration(
            config_maps=dict(self._config_maps),
            secrets=dict(self._secrets),
            binary_data=frozenset().union(*self._binary.values()),
        )


def _bytes(values: dict[str, str] | None) -> dict[str, bytes]:
    return {key: validation.unbase64(text) or b"" for key, text in (values or {}).items()}


def _named(name: str) -> Json:
    return {"metadata": {"name": name}}
