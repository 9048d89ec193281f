"""What `pods/NAME/log` answers: which instance is meant, and its lines as they are asked for.

Which instance that is stands in the pod's status, as its readers see it. Its lines come from the
CRI log files that the logger writes (runtime/logs.py), also from those that were rotated away:
a kubelet shows the newest file only, and a log that is cut off in the middle of an incident is of
little use. Following goes on across rotations and ends with the instance: an end is only published
when its log is complete.

Whoever holds the node calls `grown` when log files have grown or pods have changed; besides,
whoever follows looks every few seconds, so a word that got lost delays a line and loses none.
Nothing here knows HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import operator
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from supervisor.apiserver.cache import Cache, Entry
from supervisor.apiserver.contract import Cause, Json, bad_request
from supervisor.apiserver.negotiation import Query, invalid_options
from supervisor.lifecycle.facts import ContainerId
from supervisor.runtime import logs
from supervisor.runtime.logs import Follower, Joiner, Record
from supervisor.runtime.spec import log_path

_AT_ONCE = 256 * 1024  # bytes of log that are read before others have their turn
_LOOK_EVERY = 2.0  # seconds

GAP = f"podvisor: {logs.GAP}\n".encode()


class LogOptions(Struct, frozen=True, kw_only=True):
    """What a request asks for. `tail` counts records, as they stand in the file."""

    container: str = ""
    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    since: datetime | None = None
    tail: int | None = None
    limit: int | None = None  # bytes
    stream: bytes = b""  # stdout or stderr; empty: both


_STREAMS = {"": b"", "All": b"", "Stdout": b"stdout", "Stderr": b"stderr"}


def options(query: Query, pod: str) -> LogOptions:
    """Raises ApiError."""
    wrong: list[Cause] = []

    def refuse(field: str, text: str, reason: str = "FieldValueInvalid") -> None:
        wrong.append(Cause(reason, text, field))

    def number(field: str, least: int) -> int | None:
        value = query.number(field)
        if value is not None and value < least:
            than = "greater than 0" if least else "greater than or equal to 0"
            refuse(field, f"Invalid value: {value}: must be {than}")
        return value

    tail, limit = number("tailLines", 0), number("limitBytes", 1)
    seconds, time = number("sinceSeconds", 1), query.text("sinceTime")
    stream = query.text("stream")
    since: datetime | None = None
    if seconds is not None and time:
        refuse(
            "sinceSeconds",
            "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified",
            "FieldValueForbidden",
        )
    elif seconds is not None:
        with contextlib.suppress(OverflowError):  # before all time
            since = datetime.now(UTC) - timedelta(seconds=seconds)
    elif time:
        try:
            since = datetime.fromisoformat(time)
            since = since if since.tzinfo is not None else since.replace(tzinfo=UTC)
        except ValueError:
            refuse("sinceTime", f'Invalid value: "{time}": must be a time as RFC 3339 writes it')
    if stream not in _STREAMS:
        text = f'Unsupported value: "{stream}": supported values: "All", "Stderr", "Stdout"'
        refuse("stream", text, "FieldValueNotSupported")
    elif _STREAMS[stream] and tail is not None:
        refuse(
            "tailLines",
            "Forbidden: `tailLines` and specific `stream` are mutually exclusive for now",
            "FieldValueForbidden",
        )
    if wrong:
        raise invalid_options("PodLogOptions", wrong, name=pod, group="")
    return LogOptions(
        container=query.text("container"),
        follow=query.flag("follow"),
        previous=query.flag("previous"),
        timestamps=query.flag("timestamps"),
        since=since,
        tail=tail,
        limit=limit,
        stream=_STREAMS[stream],
    )


# --- which instance -------------------------------------------------------------------------------


def instance(pod: Json, asked: LogOptions) -> ContainerId:
    """The one whose log is meant (§8.8, §8.9). Raises ApiError."""
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    container = asked.container or only_container(pod["spec"], name)
    find_container(pod, container)
    found = _status(pod, container)
    if found is None:
        raise bad_request(f'container "{container}" in pod "{name}" is not available')
    state, last = found.get("state") or {}, found.get("lastState") or {}
    before = (last.get("terminated") or {}).get("containerID") or ""
    if asked.previous:
        chosen = before
        if not chosen:
            raise bad_request(
                f'previous terminated container "{container}" in pod "{name}" not found'
            )
    elif "running" in state:
        chosen = found.get("containerID") or ""
    elif "terminated" in state:
        chosen = state["terminated"].get("containerID") or before
    else:
        chosen = before
    if not chosen:
        waiting = state.get("waiting") or {}
        why = (
            f"waiting to start: {waiting.get('reason') or 'ContainerCreating'}"
            if "terminated" not in state
            else "terminated"
        )
        raise bad_request(f'container "{container}" in pod "{name}" is {why}')
    return ContainerId(uid, container, int(chosen.rpartition("/")[2]))


def find_container(pod: Json, container: str) -> Json:
    """Its fields in the pod's spec, of whatever sort it is. Raises ApiError."""
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for each in pod["spec"].get(kind) or ():
            if each.get("name") == container:
                found: Json = each
                return found
    raise bad_request(f"container {container} is not valid for pod {pod['metadata']['name']}")


def running(pod: Json, container: str) -> ContainerId | None:
    """The instance that runs, as the pod's readers see it."""
    found = _status(pod, container) or {}
    if "running" not in (found.get("state") or {}):
        return None
    attempt = (found.get("containerID") or "").rpartition("/")[2]
    return ContainerId(pod["metadata"]["uid"], container, int(attempt)) if attempt else None


def only_container(spec: Json, pod: str) -> str:
    """Which one is meant where none is named. Raises ApiError."""
    names = [str(each.get("name")) for each in spec.get("containers") or ()]
    if len(names) == 1:
        return names[0]
    text = f"a container name must be specified for pod {pod}, choose one of: [{' '.join(names)}]"
    for kind, what in (("initContainers", "init"), ("ephemeralContainers", "debug")):
        if others := [str(each.get("name")) for each in spec.get(kind) or ()]:
            text += f" or one of the {what} containers: [{' '.join(others)}]"
    raise bad_request(text)


def _status(pod: Json, container: str) -> Json | None:
    status: Json = pod.get("status") or {}
    for kind in (
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ):
        for each in status.get(kind) or ():
            if each.get("name") == container:
                found: Json = each
                return found
    return None


def _runs(pod: Entry | None, id: ContainerId) -> bool:
    """Whether an instance may still write."""
    if pod is None or pod.uid != id.pod_uid:
        return False
    found = _status(pod.object, id.name) or {}
    if f"/{found.get('containerID')}".rpartition("/")[2] != str(id.attempt):
        return False
    ends = (found.get(key) or {} for key in ("state", "lastState"))
    ended = [(end.get("terminated") or {}).get("containerID") for end in ends]
    return found.get("containerID") not in ended


# --- its lines ------------------------------------------------------------------------------------


class Logs:
    """The logs of one node's pods. Belongs to one event loop."""

    def __init__(self, cache: Cache, state_dir: str) -> None:
        self._cache = cache
        self._state_dir = state_dir
        self._grown = asyncio.Event()

    def grown(self) -> None:
        """There may be something new for who follows."""
        self._grown.set()
        self._grown = asyncio.Event()

    async def blocks(
        self, pod: Entry, id: ContainerId, asked: LogOptions
    ) -> AsyncGenerator[bytes, None]:
        """The log of an instance in pieces. Raises OSError where it cannot be read."""
        writer = _Writer(asked)
        every = self._records(pod, id, tail=asked.tail, follow=asked.follow)
        async with contextlib.aclosing(every):
            async for records in every:
                if block := writer.gap() if records is None else writer.write(records):
                    yield block
                if writer.full:
                    break
        if block := writer.finish():
            yield block

    def records(
        self, pod: Entry, id: ContainerId, *, from_start: bool
    ) -> AsyncGenerator[list[Record] | None, None]:
        """What an instance writes from now on, until it ends; and before it what it has written.

        Pieces of a line come when they are there. None stands where lines may be missing. Raises
        OSError where it cannot be read.
        """
        return self._records(pod, id, tail=None if from_start else 0, follow=True)

    async def _records(
        self, pod: Entry, id: ContainerId, *, tail: int | None, follow: bool
    ) -> AsyncGenerator[list[Record] | None, None]:
        path = log_path(self._state_dir, pod.namespace, pod.name, id)
        with Follower(path, limit=_AT_ONCE) as follower:
            if tail is not None:
                follower.skip(tail)
            lost = 0
            while True:
                grown = self._grown
                entry = self._cache.get("pods", pod.namespace, pod.name)
                over = not follow or not _runs(entry, id)
                records = follower.read(final=over)
                if follower.lost > lost:
                    lost = follower.lost
                    yield None
                if records:
                    yield records
                    await asyncio.sleep(0)  # whoever reads much does not stop all else
                elif over:
                    break
                else:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(grown.wait(), _LOOK_EVERY)


class _Writer:
    """Turns records into what is shown."""

    def __init__(self, asked: LogOptions) -> None:
        self._asked = asked
        self._joiner = Joiner()
        self._since = asked.since  # until the first that is new enough
        self._left = asked.limit

    @property
    def full(self) -> bool:
        return self._left == 0

    def write(self, records: list[Record]) -> bytes:
        return self._shown(self._joiner.feed(self._chosen(records)))

    def finish(self) -> bytes:
        """A last line that was never ended."""
        return self._shown(self._joiner.flush())

    def gap(self) -> bytes:
        """Lines are missing from here on; of one that was begun the end is."""
        if self._since is not None:  # they may be older than that
            return b""
        text = self.finish()
        stamp = f"{datetime.now(UTC).isoformat()} ".replace("+00:00", "Z")
        told = (stamp.encode() if self._asked.timestamps else b"") + GAP
        return text + self._limited(b"\n" + told if text and not text.endswith(b"\n") else told)

    def _chosen(self, records: list[Record]) -> list[Record]:
        if self._since is not None:
            new = next((i for i, each in enumerate(records) if self._is_new(each)), None)
            if new is None:
                return []
            records, self._since = records[new:], None
        if wanted := self._asked.stream:
            return [each for each in records if each.stream == wanted]
        return records

    def _is_new(self, record: Record) -> bool:
        try:
            return (
                self._since is None or datetime.fromisoformat(record.time.decode()) >= self._since
            )
        except ValueError:
            return True

    def _shown(self, lines: list[Record]) -> bytes:
        if self._asked.timestamps:
            texts = [each.time + b" " + each.content for each in lines]
        else:
            texts = [each.content for each in lines]
        if True in [each.partial for each in lines]:
            ends = [b"" if each.partial else b"\n" for each in lines]
            return self._limited(b"".join(map(operator.add, texts, ends)))
        return self._limited(b"\n".join(texts) + b"\n" if texts else b"")

    def _limited(self, text: bytes) -> bytes:
        if self._left is not None:
            text = text[: self._left]
            self._left -= len(text)
        return text
