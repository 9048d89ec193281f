"""What happened while a pod was stopping: the answer to "why did my shutdown take 30 seconds?".

From the moment on that a pod is ending, each fold of a fact is compared with the record before it,
and what a person would want to know later becomes a `Mark` in the record: it survives us as the
record does. Whoever shows a shutdown (a waterfall, JSON) reads marks and nothing else. Who was
alive and waited for at a moment follows from them: from its ALIVE until its EXIT.

Pure, and called by record.py alone; it decides nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from msgspec import Struct

from supervisor.api import v1
from supervisor.lifecycle import hooks, reasons
from supervisor.lifecycle.facts import (
    Action,
    HookKind,
    Instant,
    KillContainer,
    StopContainer,
    rfc3339,
)

if TYPE_CHECKING:
    from supervisor.lifecycle.record import ContainerRecord, PodRecord


class Moment(enum.StrEnum):
    """What a mark marks."""

    STOPPING = "stopping"  # the pod is ending from here on; `note`: why, and its grace
    SHORTENED = "grace shortened"
    ENDPOINTS_OFF = "endpoints off"  # no new traffic is sent to the pod
    ALIVE = "alive"  # runs, and is waited for; `note`: its command
    PRE_STOP = "preStop begins"
    PRE_STOP_ENDED = "preStop ends"  # `note`: how
    SIGNAL = "stop signal"  # `note`: which
    KILL = "SIGKILL"
    EXIT = "exit"  # `note`: code and reason
    OVER = "over"  # the terminal phase is published; `note`: which


class Mark(Struct, frozen=True, kw_only=True):
    """One moment of a shutdown."""

    at: Instant
    moment: Moment
    container: str = ""  # empty: it concerns the pod
    pid: int = 0  # on the host, of the main process
    note: str = ""


def trace(
    before: PodRecord, after: PodRecord, actions: Iterable[Action], at: Instant
) -> Iterator[Mark]:
    """What one more fact has added to the end of a pod; `actions`: those just committed.

    Signals are marked by the decision to send them, which is carried out at once: the end that
    they bring may be told before their answer, or instead of it.
    """
    termination, was = after.termination, before.termination
    if termination is None:
        return
    if was is None:
        grace = termination.deadline - termination.requested.boot
        note = f"{termination.cause}, grace {grace:.0f} s"
        yield Mark(at=at, moment=Moment.STOPPING, note=note)
    elif termination.deadline < was.deadline or (termination.kill and not was.kill):
        left = 0.0 if termination.kill else max(0.0, termination.deadline - at.boot)
        note = f"{left:.0f} s left"
        yield Mark(at=at, moment=Moment.SHORTENED, note=note)
    if gets_traffic(before) and not gets_traffic(after):
        yield Mark(at=at, moment=Moment.ENDPOINTS_OFF)
    specs = v1.containers(after.pod.spec)
    # An ephemeral container that has just been added comes last, and has done nothing yet.
    for spec, old, new in zip(specs, before.containers, after.containers, strict=False):
        if old is not new or was is None:
            yield from _of_container(spec, old, new, at, is_first=was is None)
    for action in actions:
        yield from _of_action(action, before, at)
    over = reasons.TERMINAL_PHASES
    if after.status.phase in over and before.status.phase not in over:
        yield Mark(at=at, moment=Moment.OVER, note=after.status.phase)


def plain(trail: tuple[Mark, ...]) -> list[dict[str, object]]:
    """The marks as plain data: `seconds` since the pod began to end, `time` in RFC 3339."""
    begin = trail[0].at.boot if trail else 0.0
    return [
        {
            "seconds": round(mark.at.boot - begin, 3),
            "time": rfc3339(mark.at),
            "event": str(mark.moment),
            **({"container": mark.container} if mark.container else {}),
            **({"pid": mark.pid} if mark.pid else {}),
            **({"note": mark.note} if mark.note else {}),
        }
        for mark in trail
    ]


def gets_traffic(record: PodRecord) -> bool:
    """Whether a service would send the pod new requests (§10.2)."""
    return record.deletion is None and any(
        c.type == reasons.READY and c.status == "True" for c in record.status.conditions
    )


def _of_container(
    spec: v1.Container, old: ContainerRecord, new: ContainerRecord, at: Instant, *, is_first: bool
) -> Iterator[Mark]:
    known = old.running if old.attempt == new.attempt else None
    running, name = new.running, new.name
    if running is not None and (is_first or known is None):
        # Which program an image stands for is not known here: its name has to do.
        words = " ".join((*(spec.command or (spec.image,)), *spec.args))
        yield Mark(at=at, moment=Moment.ALIVE, container=name, pid=running.pid, note=words)
    pid = running.pid if running is not None else known.pid if known is not None else 0
    hook = hooks.find(new.hooks, HookKind.PRE_STOP)
    was = None
    if old.attempt == new.attempt and not is_first:
        was = hooks.find(old.hooks, HookKind.PRE_STOP)
    if hook is not None and running is None and is_first and not hook.is_owed:
        hook = None  # of an instance that had ended before
    if hook is not None and was is None:
        yield Mark(at=hook.intended, moment=Moment.PRE_STOP, container=name, pid=pid)
    if hook is not None and hook.ended is not None and (was is None or was.ended is None):
        note = str(hook.end)
        yield Mark(at=hook.ended, moment=Moment.PRE_STOP_ENDED, container=name, pid=pid, note=note)
    if running is None and known is not None and new.ended is not None:
        note = f"{new.ended.exit_code} {new.ended.reason}"
        yield Mark(at=new.ended.finished, moment=Moment.EXIT, container=name, pid=pid, note=note)


def _of_action(action: Action, before: PodRecord, at: Instant) -> Iterator[Mark]:
    if not isinstance(action, StopContainer | KillContainer):
        return
    name = action.id.name
    running = next(c.running for c in before.containers if c.name == name)
    pid = running.pid if running is not None else 0
    is_stop = isinstance(action, StopContainer)
    moment = Moment.SIGNAL if is_stop else Moment.KILL
    if any(m.moment is moment and m.container == name and m.pid == pid for m in before.trail):
        return  # repeated, it is no news
    note = action.signal if isinstance(action, StopContainer) else ""
    yield Mark(at=at, moment=moment, container=name, pid=pid, note=note)
