"""What happens to pods of a node, for a command that shows it to a person.

A watch and a log are answers that go on for as long as one listens. Each is read by a thread of its
own, and all of them put what they hear into one queue, which a single thread takes from and writes.
The queue is bounded: who cannot write holds up the readers, and so the node stops sending.

Watches that end are begun again. A node that ends is said once, as the error that it is.
"""

from __future__ import annotations

import queue
import select
import threading
import time
from collections.abc import Callable, Iterator

from msgspec import Struct

from supervisor.cli.signals import SignalWatch
from supervisor.client import EVENTS, PODS, Client, Json, Kind
from supervisor.errors import PodvisorError, StatusError

_MOST = 256  # pieces of news that wait to be told
_LINES = 512  # of a log, in one piece
_AFTER_WATCH = 0.1  # seconds


class Instance(Struct, frozen=True):
    """One run of a container."""

    uid: str
    container: str
    number: int  # of restarts before it


class PodChanged(Struct, frozen=True):
    object: Json
    gone: bool = False


class EventTold(Struct, frozen=True):
    object: Json


class Lines(Struct, frozen=True):
    """What a container wrote; without any: its log is read to the end."""

    instance: Instance
    lines: list[bytes] = []
    error: str = ""


class Failed(Struct, frozen=True):
    """The node cannot be asked any more, or this is a bug of ours."""

    error: Exception


class Signalled(Struct, frozen=True):
    """There is a signal to take."""


News = PodChanged | EventTold | Lines | Failed | Signalled


class Watching:
    """The news of some namespaces; its threads are daemons, and end with the program."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._news: queue.Queue[News] = queue.Queue(_MOST)

    def take(self, until: float | None) -> News | None:
        """The next one, or None when `until` (of the monotonic clock) has come."""
        try:
            left = None if until is None else max(0.0, until - time.monotonic())
            return self._news.get(timeout=left)
        except queue.Empty:
            return None

    def signals(self, signals: SignalWatch) -> None:
        def wait() -> None:
            while True:
                select.select([signals.fd], [], [])
                self._news.put(Signalled())
                time.sleep(0.05)  # until it was taken

        self._start(wait)

    def pods(self, namespace: str) -> None:
        """Those that are there now, and all that becomes of them, and of others, from now on."""
        first = self._client.list(PODS, namespace)

        def watch() -> None:
            listed = first
            there: dict[str, Json] = {}  # by uid
            while True:
                now = {pod["metadata"]["uid"]: pod for pod in listed["items"]}
                for uid in there.keys() - now.keys():  # while nobody watched
                    self._news.put(PodChanged(there[uid], gone=True))
                for pod in now.values():
                    self._news.put(PodChanged(pod))
                there = now
                since = listed["metadata"]["resourceVersion"]
                for type, pod in self._changes(PODS, namespace, since):
                    gone = type == "DELETED"
                    there[pod["metadata"]["uid"]] = pod
                    if gone:
                        del there[pod["metadata"]["uid"]]
                    self._news.put(PodChanged(pod, gone))
                listed = self._client.list(PODS, namespace)

        self._start(watch)

    def events(self, namespace: str) -> None:
        """Those from now on."""

        def now() -> str:
            listed = self._client.list(EVENTS, namespace, query={"limit": 1})
            return str(listed["metadata"]["resourceVersion"])

        begin = now()

        def watch() -> None:
            version = begin
            while True:
                for _, event in self._changes(EVENTS, namespace, version):
                    self._news.put(EventTold(event))
                version = now()

        self._start(watch)

    def _changes(self, kind: Kind, namespace: str, since: str) -> Iterator[tuple[str, Json]]:
        """Until the watch has ended, and a moment longer: a node may be ending them all."""
        try:
            for event in self._client.watch(kind, namespace, since=since):
                if event["type"] != "BOOKMARK":
                    yield event["type"], event["object"]
        except StatusError as error:
            if not error.is_expired:
                raise
        time.sleep(_AFTER_WATCH)

    def log(
        self, pod: Json, instance: Instance, *, from_end: bool, previous: bool, timestamps: bool
    ) -> None:
        """Of one instance, to its end. `previous`: it is the last but one already."""
        meta = pod["metadata"]
        query = {
            "container": instance.container,
            "follow": not previous,
            "previous": previous,
            "timestamps": timestamps,
            "tailLines": 0 if from_end else None,
        }

        def read() -> None:
            try:
                with self._client.log(meta["namespace"], meta["name"], query) as response:
                    rest = b""
                    for chunk in response.chunks():
                        *lines, rest = (rest + chunk).split(b"\n")
                        for at in range(0, len(lines), _LINES):
                            self._news.put(Lines(instance, lines[at : at + _LINES]))
                    if rest:
                        self._news.put(Lines(instance, [rest]))
            except StatusError as error:
                # It is another instance's already, or its pod is gone.
                told = "" if error.http in (400, 404) else str(error)
                self._news.put(Lines(instance, error=told))
            except PodvisorError:
                pass  # of a node that has ended, which the watches say
            self._news.put(Lines(instance))

        self._start(read)

    def _start(self, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            except Exception as error:  # whoever takes it raises it
                self._news.put(Failed(error))

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
