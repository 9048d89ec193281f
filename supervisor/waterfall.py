"""The end of a pod as a waterfall: what it waited for, for how long, and who needed to be killed.

Pure: it reads the marks that a record has kept of its shutdown (lifecycle/timeline.py), or those
marks as the API tells them, and draws one line for each stretch of time of each container.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from supervisor.api import v1
from supervisor.lifecycle import timeline
from supervisor.lifecycle.facts import Instant
from supervisor.lifecycle.hooks import HookEnd
from supervisor.lifecycle.record import PodRecord
from supervisor.lifecycle.timeline import Mark, Moment
from supervisor.narration import first_words, seconds

# The key under which the marks are written into a Pod that is printed as data.
ANNOTATION = "podvisor/termination-timeline"

_WIDTH = 40  # of the bars, and of a command
_WORTH_A_LINE = 0.05  # seconds that a sidecar waits for its turn


class _Span(Struct, frozen=True):
    """One container in one state of ending, in seconds from the beginning of the end."""

    container: str
    what: str
    begin: float  # at the earliest 0, though it may have begun before the pod's end did
    end: float
    note: str


def is_remarkable(record: PodRecord) -> bool:
    """Whether a shutdown is worth a look: over a second, or cut by SIGKILL."""
    if not record.trail:
        return False
    return _length(record.trail) > 1.0 or any(m.moment is Moment.KILL for m in record.trail)


def draw(record: PodRecord, label: str) -> str:
    """Lines for a person; empty when the pod never began to end."""
    spec = record.pod.spec
    # Which program an image stands for is not in the record: it is called an image then.
    images = {c.name: c.image for c in v1.containers(spec) if not c.command}
    return _drawn(record.trail, images, label)


def draw_plain(
    marks: Sequence[Mapping[str, Any]], images: Mapping[str, str], label: str, until: float = 0.0
) -> str:
    """`draw` of marks as plain data. `images`: of the containers that have no command; `until`: of
    an end that goes on, how many seconds it has taken so far."""
    trail = tuple(
        Mark(
            # Only how long after the first one they came is drawn.
            at=Instant(wall=0.0, boot=float(mark["seconds"])),
            moment=Moment(mark["event"]),
            container=str(mark.get("container", "")),
            pid=int(mark.get("pid", 0)),
            note=str(mark.get("note", "")),
        )
        for mark in marks
    )
    return _drawn(trail, images, label, until)


def _drawn(
    trail: tuple[Mark, ...], images: Mapping[str, str], label: str, until: float = 0.0
) -> str:
    if not trail:
        return ""
    length = max(_length(trail), until)
    begin = trail[0].at.boot
    notes = [trail[0].note]
    for mark in trail:
        after = mark.at.boot - begin
        when = f"after {seconds(after)}" if after >= _WORTH_A_LINE else "at once"
        if mark.moment is Moment.SHORTENED:
            notes.append(f"shortened {when}: {mark.note}")
        elif mark.moment is Moment.ENDPOINTS_OFF:
            notes.append(f"out of endpoints {when}")
    so_far = " so far" if until else ""
    lines = [f"shutdown of {label}: {seconds(length)}{so_far} ({'; '.join(notes)})"]
    spans = list(_spans(trail, images, length))
    names = [f"{label}/{span.container}" for span in spans]
    wide = max(map(len, names), default=0)
    what = max((len(span.what) for span in spans), default=0)
    for name, span in zip(names, spans, strict=True):
        times = f"{span.begin:.1f} - {span.end:.1f} s"
        bar = _bar(span, max(length, 0.001))
        lines.append(f"  {name:<{wide}}  {span.what:<{what}}  [{bar}]  {times:<14}  {span.note}")
    return "\n".join(line.rstrip() for line in lines) + "\n"


def annotated(record: PodRecord) -> v1.Pod:
    """The pod as it was at the end, with the marks of its shutdown in an annotation, as JSON."""
    pod = replace(record.pod, status=record.status)
    if not record.trail:
        return pod
    text = msgspec.json.encode(timeline.plain(record.trail)).decode()
    annotations = pod.metadata.annotations | {ANNOTATION: text}
    return replace(pod, metadata=replace(pod.metadata, annotations=annotations))


def _length(trail: tuple[Mark, ...]) -> float:
    return max(mark.at.boot for mark in trail) - trail[0].at.boot


def _bar(span: _Span, length: float) -> str:
    first = min(_WIDTH - 1, int(span.begin / length * _WIDTH))
    last = max(first + 1, min(_WIDTH, round(span.end / length * _WIDTH)))
    return " " * first + "=" * (last - first) + " " * (_WIDTH - last)


def _spans(trail: tuple[Mark, ...], images: Mapping[str, str], length: float) -> Iterable[_Span]:
    begin = trail[0].at.boot
    end = begin + length
    names = dict.fromkeys(mark.container for mark in trail if mark.container)
    for name in names:
        mine = {mark.moment: mark for mark in trail if mark.container == name}

        def when(moment: Moment, mine: dict[Moment, Mark] = mine) -> float | None:
            return max(begin, mine[moment].at.boot) if moment in mine else None

        def span(what: str, since: float, until: float, note: str, name: str = name) -> _Span:
            return _Span(name, what, since - begin, until - begin, note)

        exited = when(Moment.EXIT)
        over = end if exited is None else exited
        how = _how(mine)
        at = when(Moment.ALIVE) or begin
        hook = when(Moment.PRE_STOP)
        if hook is not None:
            ended = when(Moment.PRE_STOP_ENDED) or end
            goes_on = "" if exited is not None else "goes on"
            note = mine[Moment.PRE_STOP_ENDED].note if Moment.PRE_STOP_ENDED in mine else goes_on
            note = "grace used up" if note == HookEnd.DEADLINE else note
            yield span("preStop", hook, ended, note)
            at = min(ended, over)
        told = when(Moment.SIGNAL)
        killed = when(Moment.KILL)
        if told is None:
            if exited is not None and killed is None:
                yield span("ends by itself", at, exited, how)
        else:
            if told - at > _WORTH_A_LINE:
                yield span("waits its turn", at, told, "")
            until = over if killed is None else min(killed, over)
            alive = (
                f"still alive: pid {mine[Moment.SIGNAL].pid}, {_program(mine, images.get(name))}"
            )
            note = how if killed is None else alive
            yield span(mine[Moment.SIGNAL].note, told, until, note)
        if killed is not None:
            yield span("SIGKILL", killed, over, how)


def _how(mine: dict[Moment, Mark]) -> str:
    mark = mine.get(Moment.EXIT)
    return f"exit {mark.note}" if mark is not None else "still runs"


def _program(mine: dict[Moment, Mark], image: str | None) -> str:
    if image is not None:
        return f"image {image}"
    words = first_words(mine[Moment.ALIVE].note) if Moment.ALIVE in mine else ""
    return f"`{words if len(words) <= _WIDTH else words[:_WIDTH] + '…'}`"
