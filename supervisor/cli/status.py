"""`podvisor status`: what a durable node has stored, whether it runs or not.

It reads the database and asks nobody, so it also tells about a node that is dead. What such a node
says of pods that had not ended is then shown as Unknown, a phase that no node ever writes, and as
not ready.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Annotated

import typer

from supervisor.cli import options
from supervisor.cli.run import Output
from supervisor.client import KUBECONFIG, SOCKET, find_state_dir
from supervisor.errors import NodeError

if TYPE_CHECKING:
    from supervisor.api import v1
    from supervisor.lifecycle.facts import Instant
    from supervisor.lifecycle.record import PodRecord

NO_ARGS_IS_HELP = False


def command(
    state_dir: options.StateDir = None,
    output: Annotated[
        Output | None, typer.Option("--output", "-o", help="The Pod objects as stored.")
    ] = None,
) -> None:
    """Say what a durable node has stored: pods, containers, hooks that are owed.

    Of a node that runs it also says for how long, and where its API is.

    Exit code 0 when the node runs; 4 when none does: then pods that had not ended are shown as
    Unknown and not ready, with the command that starts the node again.

    Examples:

      podvisor status

      podvisor status --state-dir /var/lib/web -o json
    """
    from supervisor import narration
    from supervisor.api import codec
    from supervisor.cli import stored
    from supervisor.kubelet import statedir
    from supervisor.store import sqlite

    place = find_state_dir(os.getcwd(), state_dir)
    try:
        pid = statedir.holder(place)
    except FileNotFoundError as error:
        again = "`podvisor serve` starts one, --state-dir names another folder"
        raise NodeError(f"cannot read {place}: no node has ever run there; {again}") from error
    except OSError as error:
        raise NodeError(f"cannot read {place}: {error.strerror}") from error
    snapshot = sqlite.read(os.path.join(place, statedir.DATABASE))
    shown = [each for each in snapshot.pods if not each.record.is_hidden]
    pods = [each.pod for each in shown]
    if pid is None:
        pods = [stored.unsure(pod) for pod in pods]
    if output is not None:
        print(codec.encode_pods(pods, output.value), end="")
    else:
        _print_node(place, pid, snapshot.committed)
        rows: list[tuple[str, ...]] = [
            ("POD", "PHASE", "CONTAINER", "STATE", "RESTARTS", "READY", "OWED")
        ]
        for pod, each in zip(pods, shown, strict=True):
            rows += _rows(pod, each.record)
        # Before what follows on stderr, also where both go into one pipe.
        print(narration.table(rows), end="", flush=True)
    if pid is None:
        started = statedir.command_of(place)
        again = f"; start it with: {started}" if started else ""
        raise NodeError(f"cannot say more: no node runs on {place}{again}")


def _print_node(place: str, pid: int | None, committed: Instant | None) -> None:
    who = "no node" if pid is None else f"node, pid {pid}" if pid else "node"
    age = ""
    if committed is not None:
        age = f", last commit {max(0.0, time.time() - committed.wall):.1f} s ago"
    since = f", up {_span(pid)}" if pid and _span(pid) else ""
    print(f"{who} on {place}{since}{age}")
    door = os.path.join(place, SOCKET)
    if pid is not None and os.path.exists(door):
        config = os.path.join(place, KUBECONFIG)
        also = f", for kubectl by {config}" if os.path.exists(config) else ""
        print(f"API at {door}{also}")


def _span(pid: int) -> str:
    """How long a process has run; empty where that cannot be seen."""
    from supervisor import narration

    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as file:
            began = int(file.read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return ""
    return narration.seconds(time.clock_gettime(time.CLOCK_BOOTTIME) - began)


def _rows(pod: v1.Pod, record: PodRecord) -> list[tuple[str, ...]]:
    from supervisor.api.v1 import container_statuses

    meta = pod.metadata
    statuses = {status.name: status for status in container_statuses(pod.status)}
    rows: list[tuple[str, ...]] = []
    for index, container in enumerate(record.containers):
        status = statuses.get(container.name)
        owed = [str(hook.which) for hook in container.hooks if hook.is_owed]
        rows.append(
            (
                f"{meta.namespace}/{meta.name}" if index == 0 else "",
                pod.status.phase if index == 0 else "",
                container.name,
                _state(status) if status is not None else "-",
                str(max(0, container.attempt)),
                "yes" if status is not None and status.ready else "no",
                ",".join(owed) or "-",
            )
        )
    return rows


def _state(status: v1.ContainerStatus) -> str:
    state = status.state
    if state.running is not None:
        return "running"
    if state.terminated is not None:
        return f"{state.terminated.reason} ({state.terminated.exit_code})"
    return state.waiting.reason if state.waiting is not None else "-"
