"""What the parts of the API server say to each other.

    server.py     HTTP: connections, who may ask, negotiation, lists and watches. Knows no kind
    registry.py   what a request does to an object: names, defaults, validation, who owns what
    cache.py      all objects as of the last stored change, and the changes that led there

Objects travel as the plain dictionaries of their JSON. An object that is handed over is never
changed afterwards by either side: changing means copying. Every refusal is an `ApiError`, which is
a Status object and nothing else, so that no layer invents HTTP codes of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

if TYPE_CHECKING:
    # Only named: the command line reads the table of kinds, and its start-up time is felt.
    from supervisor.api import v1
    from supervisor.api.problems import Finding
    from supervisor.kubelet.node import Node
    from supervisor.kubelet.worker import PodWorker
    from supervisor.runtime.spec import Configuration

Json = dict[str, Any]


# --- reading what may be anything: clients write a status, and more, of their own ---------------


def at(value: Any, *path: str) -> Any:
    """What is at the end of the path, or None."""
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def as_map(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


# --- what is served, and how it is refused ------------------------------------------------------


class Resource(Struct, frozen=True, kw_only=True):
    """One kind of object that is served, as discovery tells it."""

    group: str = ""  # empty: the core group
    version: str = "v1"
    plural: str
    singular: str
    kind: str
    namespaced: bool = True
    verbs: tuple[str, ...]
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    # By name: group, version and kind of what it takes and gives, and its verbs.
    subresources: dict[str, tuple[str, str, str, tuple[str, ...]]] = {}

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def key(self) -> str:
        """Its name in the store and in messages: configmaps, leases.coordination.k8s.io."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


class Cause(Struct, frozen=True):
    """One of the reasons of a refusal, for `details.causes`."""

    reason: str  # FieldValueInvalid, FieldManagerConflict
    message: str
    field: str = ""


class ApiError(Exception):
    """A request is refused. `message` is what kubectl prints."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        name: str = "",
        group: str = "",
        kind: str = "",
        causes: tuple[Cause, ...] = (),
        retry_after: int = 0,
        allow: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.retry_after = retry_after  # seconds
        self.allow = allow  # of a 405: the methods that would have been right
        details: Json = {"name": name, "group": group, "kind": kind}
        details["causes"] = [
            {"reason": c.reason, "message": c.message, "field": c.field} for c in causes
        ]
        details["retryAfterSeconds"] = retry_after
        self.details: Json = {key: value for key, value in details.items() if value}

    def status(self) -> Json:
        """The Status object that is the answer."""
        status: Json = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if self.details:
            status["details"] = self.details
        return status


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


READING = ("GET", "HEAD")


def not_allowed(message: str, allow: tuple[str, ...]) -> ApiError:
    """Another method is asked for than one of these."""
    return ApiError(405, "MethodNotAllowed", message, allow=allow)


def not_found(resource: Resource, name: str) -> ApiError:
    message = f'{resource.key} "{name}" not found'
    return ApiError(404, "NotFound", message, name=name, group=resource.group, kind=resource.plural)


def already_exists(resource: Resource, name: str) -> ApiError:
    message = f'{resource.key} "{name}" already exists'
    return ApiError(
        409, "AlreadyExists", message, name=name, group=resource.group, kind=resource.plural
    )


STALE = (
    "the object has been modified; please apply your changes to the latest version and try again"
)


def conflict(resource: Resource, name: str, why: str = STALE) -> ApiError:
    message = f'Operation cannot be fulfilled on {resource.key} "{name}": {why}'
    return ApiError(409, "Conflict", message, name=name, group=resource.group, kind=resource.plural)


def forbidden(resource: Resource, name: str, why: str, causes: tuple[Cause, ...] = ()) -> ApiError:
    message = f'{resource.key} "{name}" is forbidden: {why}'
    group, kind = resource.group, resource.plural
    return ApiError(403, "Forbidden", message, name=name, group=group, kind=kind, causes=causes)


def unwritten(resource: Resource, name: str, error: OSError) -> ApiError:
    """Nothing of it was stored, unless the error says otherwise."""
    message = f'cannot store {resource.key} "{name}": {error.strerror or error}'
    return ApiError(
        500, "InternalError", message, name=name, group=resource.group, kind=resource.plural
    )


def too_large(message: str) -> ApiError:
    """A body, or what it would make of an object."""
    return ApiError(413, "RequestEntityTooLarge", message)


def expired(message: str) -> ApiError:
    """A resourceVersion, or a token to continue with, that is too old."""
    return ApiError(410, "Expired", message)


class WriteOptions(Struct, frozen=True, kw_only=True):
    """What a request that creates or changes an object asks for beside it."""

    dry_run: bool = False
    field_manager: str = ""
    validation: str = "Warn"  # of unknown and repeated fields: Strict, Warn or Ignore
    force: bool = False  # of an apply: take fields over from other managers
    # The change is an apply: it gives managedFields itself. Those of all others are noted after.
    applied: bool = False
    size: int = 0  # bytes of its body: what is large is worked on beside the event loop
    repeated: tuple[str, ...] = ()  # paths of fields that its body sets more than once


class DeleteOptions(Struct, frozen=True, kw_only=True):
    grace: int | None = None  # seconds; None: the object's own
    uid: str = ""  # preconditions; empty: none
    resource_version: str = ""
    propagation: str = ""
    dry_run: bool = False


class Answer(Struct, frozen=True, kw_only=True):
    """What a write gave."""

    object: Json  # as it is now; of a deletion it may be a Status
    created: bool = False
    warnings: tuple[str, ...] = ()  # for `Warning:` headers


# From the object as it is, or None where there is none, to what is asked for. Raises ApiError. It
# is called again with a newer object when that has changed meanwhile.
Change = Callable[[Json | None], Json]


class Registry(Protocol):
    """The objects that can be written; reading is the cache's. Raises ApiError."""

    async def create(
        self, resource: Resource, namespace: str, body: Json, options: WriteOptions
    ) -> Answer:
        """Also sees to generateName. `namespace` is that of the path; empty: none."""
        ...

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
        """PUT and PATCH of any kind: `change` is the replacement, the patch or the apply.

        A resourceVersion in what `change` gives must be the current one. `upsert`: where there is
        no such object, `change(None)` is created (apply).
        """
        ...

    async def delete(
        self, resource: Resource, namespace: str, name: str, options: DeleteOptions
    ) -> Answer: ...

    async def post(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        subresource: str,
        body: Json,
        options: WriteOptions,
    ) -> Answer:
        """POST to a subresource (eviction, binding), or of a kind that is only asked and never
        stored (selfsubjectaccessreviews): then `name` is empty."""
        ...


class Pods(Protocol):
    """The node that an API server belongs to, as whoever runs it offers it."""

    node: Node

    def admit(self, pod: v1.Pod) -> list[Finding]:
        """What is wrong with a valid pod on this machine; errors refuse it."""
        ...

    def owned(self, old: v1.Pod | None, new: v1.Pod) -> v1.Pod:
        """The pod as a client wants it, with what it has no say in: where the pod came from. `old`
        is None for a new one."""
        ...

    def run(self, pod: v1.Pod) -> PodWorker:
        """Take on a pod that is defaulted, valid and admitted."""
        ...

    def configure(self, configuration: Configuration) -> None:
        """ConfigMaps and Secrets of the API, all of them, have changed."""
        ...
