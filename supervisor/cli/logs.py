"""`podvisor logs`: what containers have written.

The node reads the files; here it is said whose, and lines of several containers are put beside
each other. Each container that is followed has a thread and a connection of its own.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from supervisor.cli import asking, options
from supervisor.cli.asking import Reader
from supervisor.cli.completing import complete_container, complete_pod
from supervisor.client import PODS
from supervisor.errors import PodvisorError, StatusError, UsageError

NO_ARGS_IS_HELP = True

Json = dict[str, Any]

_OF_MANY = 10  # lines of each container, when several pods are meant and no --tail is given


def command(
    pod: Annotated[
        str | None,
        typer.Argument(
            metavar="POD",
            help="Whose; or several pods by -l.",
            autocompletion=complete_pod,
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="CONTAINER",
            help="Which of its containers (default: the first one).",
            autocompletion=complete_container,
            show_default=False,
        ),
    ] = None,
    container: Annotated[
        str,
        typer.Option(
            "--container",
            "-c",
            metavar="NAME",
            help="Which one.",
            autocompletion=complete_container,
        ),
    ] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it ends.")] = False,
    previous: Annotated[
        bool, typer.Option("--previous", "-p", help="Of the instance before this one.")
    ] = False,
    since: Annotated[
        str, typer.Option(metavar="DURATION", help="Only what is newer: 5s, 2m, 1h30m.")
    ] = "",
    since_time: Annotated[
        str, typer.Option(metavar="TIME", help="Only what is newer than that, in RFC 3339.")
    ] = "",
    tail: Annotated[
        int | None,
        typer.Option(
            min=-1, metavar="LINES", help="Only the last lines; -1: all (default; with -l: 10)."
        ),
    ] = None,
    timestamps: options.Timestamps = False,
    limit_bytes: Annotated[
        int, typer.Option(min=0, metavar="BYTES", help="No more than that; 0: all.")
    ] = 0,
    all_containers: Annotated[
        bool, typer.Option("--all-containers", help="Of all containers of the pod.")
    ] = False,
    prefix: Annotated[
        bool, typer.Option("--prefix", help="Pod and container before each line.")
    ] = False,
    max_log_requests: Annotated[
        int, typer.Option(min=1, metavar="NUMBER", help="With -f: of how many containers at most.")
    ] = 5,
    selector: options.Selector = "",
    namespace: options.Namespace = asking.DEFAULT,
    state_dir: options.StateDir = None,
) -> None:
    """Print the log of a container: all that is kept of it, rotated files included.

    Where no node runs, what it has left is shown; the exit code is 4 then.

    Examples:

      podvisor logs web

      podvisor logs web -c app -f --tail 20

      podvisor logs web --previous

      podvisor logs -l app=web --all-containers --prefix --since 10m
    """
    wanted = name or container
    if name and container:
        raise UsageError("cannot show two containers: name it once, or use --all-containers")
    if wanted and all_containers:
        raise UsageError("cannot show one container and all of them: leave out one of both")
    if (pod is None) == (not selector):
        raise UsageError("cannot tell whose log: name a pod, or select pods by -l")
    if since and since_time:
        raise UsageError("cannot use --since and --since-time at once: leave out one of them")
    query = {
        "follow": follow,
        "previous": previous,
        "timestamps": timestamps,
        "tailLines": None if tail == -1 else _OF_MANY if tail is None and selector else tail,
        "sinceSeconds": _seconds(since) if since else None,
        "sinceTime": since_time,
        "limitBytes": limit_bytes or None,
    }

    def show(reader: Reader) -> list[StatusError]:
        if pod is not None:
            pods = [reader.get(PODS, namespace, asking.pod(pod))]
        else:
            pods = reader.list(PODS, namespace, labels=selector)["items"]
        logs = [
            _Log(reader, each, chosen, query, prefix=prefix)
            for each in pods
            for chosen in _choose(each, wanted, everyone=all_containers)
        ]
        if not logs:
            asking.nothing_found(namespace)
        if follow and len(logs) > max_log_requests:
            raise UsageError(
                f"you are attempting to follow {len(logs)} log streams, but maximum allowed "
                f"concurrency is {max_log_requests}, use --max-log-requests to increase the limit"
            )
        with asking.once_begun():
            if follow and len(logs) > 1:
                _follow(logs)
            else:
                for log in logs:
                    log.show()
        return []

    asking.ask(state_dir, show)


def _choose(pod: Json, wanted: str, *, everyone: bool) -> list[str]:
    """Which containers of a pod."""
    if everyone:
        return list(asking.containers(pod))
    return [wanted or asking.default_container(pod)]


def _seconds(text: str) -> int:
    """A duration as Go writes it; at least a second. Raises UsageError."""
    from supervisor.project import manifests

    found = manifests.duration("--since", text)
    return max(1, -int(-(found or 0.0) // 1))


# --- showing -----------------------------------------------------------------------------------


class _Log:
    """The log of one container."""

    def __init__(
        self, reader: Reader, pod: Json, container: str, query: Json, *, prefix: bool
    ) -> None:
        meta = pod["metadata"]
        self._reader = reader
        self._namespace, self._pod = meta["namespace"], meta["name"]
        self._query = query | {"container": container}
        self._prefix = f"[pod/{self._pod}/{container}] ".encode() if prefix else b""

    def show(self) -> None:
        """To stdout, as it comes."""
        with self._reader.log(self._namespace, self._pod, self._query) as response:
            if self._prefix:
                for line in response.lines():
                    _write(self._prefix + line + b"\n")
            else:
                for chunk in response.chunks():
                    _write(chunk)

    def lines(self) -> Iterator[bytes]:
        """Whole lines: those of several containers must not be torn."""
        with self._reader.log(self._namespace, self._pod, self._query) as response:
            for line in response.lines():
                yield self._prefix + line + b"\n"


def _follow(logs: list[_Log]) -> None:
    """All of them at once, until each has ended; then raise what one of them could not do."""
    failed: list[PodvisorError | OSError] = []

    def run(log: _Log) -> None:
        try:
            for line in log.lines():
                _write(line)
        except (PodvisorError, OSError) as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(log,), daemon=True) for log in logs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in failed[:-1]:
        print(error, file=sys.stderr)
    if failed:
        raise failed[-1]


def _write(data: bytes) -> None:
    """At once: whoever reads it sees what the container has just written. As a whole: a buffered
    file takes from one thread at a time."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
