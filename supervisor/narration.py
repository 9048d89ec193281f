"""What happened to a pod, in words for a person: one line a change, and a table at the end.

Pure: it compares two records of the same pod, or two of its objects where only the API is asked
(`seen`). The words are Kubernetes' own where it has one.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Sequence
from datetime import datetime

from msgspec import Struct

from supervisor.api import v1
from supervisor.api.problems import printable
from supervisor.lifecycle import hooks, reasons
from supervisor.lifecycle.facts import HookKind
from supervisor.lifecycle.hooks import Hook, HookEnd
from supervisor.lifecycle.probing import Probes, Result
from supervisor.lifecycle.record import (
    Cause,
    ContainerRecord,
    Ended,
    Kind,
    PodRecord,
    Running,
    specs,
)

_WIDEST_MESSAGE = 200
_HOOK_FAILED = " failed - error: "  # before it are hook, container and pod


class Line(Struct, frozen=True, kw_only=True):
    """One thing that happened."""

    container: str = ""  # empty: it concerns the pod
    text: str
    opens: int | None = None  # this attempt begins to write its log
    closes: int | None = None  # this attempt's log is complete


def changes(before: PodRecord, after: PodRecord) -> list[Line]:
    """What happened to a pod between two of its records, in order."""
    lines: list[Line] = []
    old, new = _back_offs(before.status), _back_offs(after.status)
    # Ephemeral containers come meanwhile, behind all others.
    added = after.containers[len(before.containers) :]
    known = (*before.containers, *(ContainerRecord(name=c.name, kind=c.kind) for c in added))
    for spec, was, now in zip(specs(after), known, after.containers, strict=True):
        if was is not now:
            lines += _container_changes(was, now, hooks.stop_signal(spec, now.stop_signal))
        text = new.get(now.name)
        if text is not None and text != old.get(now.name):
            lines.append(Line(container=now.name, text=f"CrashLoopBackOff: {text}"))
    if after.termination is not None and before.termination is None:
        lines += _ending(after, after.termination.cause)
    if after.status.phase != before.status.phase:
        why = f": {after.status.reason}" if after.status.reason else ""
        lines.append(Line(text=f"{after.status.phase}{why}"))
    return lines


def _container_changes(was: ContainerRecord, now: ContainerRecord, stop: str) -> list[Line]:
    lines: list[Line] = []
    ended = now.ended if now.ended != was.ended else None
    if now.attempt > was.attempt and not _never_ran(ended):
        again = f", restart {now.attempt}" if now.attempt else ""
        lines.append(Line(container=now.name, text=f"started{again}", opens=now.attempt))
    if ended is not None:
        line = Line(container=now.name, text=_end(was, now, ended, stop), closes=ended.attempt)
        # The end of one instance comes before the start of the next.
        lines.insert(0 if ended.attempt < now.attempt else len(lines), line)
    told = [Line(container=now.name, text=text) for text in _hook_changes(was, now)]
    if ended is None:
        lines += told + _probe_changes(was, now)
    else:
        # What is known of the hooks of this instance comes before its end.
        lines[:0] = told
    refusal = now.refusal
    if refusal is not None and (was.refusal is None or was.refusal.message != refusal.message):
        lines.append(Line(container=now.name, text=f"{refusal.reason}: {refusal.message}"))
    return lines


def _hook_changes(was: ContainerRecord, now: ContainerRecord) -> list[str]:
    """How hooks of one instance have ended since."""
    texts = []
    for hook in now.hooks:
        known = hooks.find(was.hooks, hook.which) if was.attempt == now.attempt else None
        if hook.ended is None or (known is not None and known.ended is not None):
            continue
        text = _hook_end(hook, hook.ended.boot - hook.intended.boot)
        if hook.runs > 1:
            text += f" (run {hook.runs} times: podvisor was interrupted)"
        kill = now.running.kill if now.running is not None else None
        if hook.which is HookKind.POST_START and hook.end is HookEnd.FAILED and kill is not None:
            text += f"; stopping it, grace {kill.deadline - kill.requested.boot:.0f} s"
        texts.append(text)
    return texts


def _hook_end(hook: Hook, took: float) -> str:
    match hook.end:
        case HookEnd.SUCCEEDED:
            return f"{hook.which} done in {seconds(took)}"
        case HookEnd.DEADLINE if hook.which is HookKind.POST_START:
            return (
                f"{hook.which} not waited for longer after {seconds(took)}: the container has ended"
            )
        case HookEnd.DEADLINE:
            return (
                f"{hook.which} has taken all of the grace, {seconds(took)}: not waited for longer"
            )
        case HookEnd.CANCELLED:
            return f"{hook.which} cancelled after {seconds(took)}: the pod is stopping"
        case HookEnd.GONE:
            return f"{hook.which} cut off after {seconds(took)}: the container has ended"
        case _:
            # The kubelet's text names container and pod first, which the line does already.
            why = hook.said.partition(_HOOK_FAILED)[2] or hook.said
            return f"{hook.which} failed after {seconds(took)}: {first_words(why)}"


def _probe_changes(was: ContainerRecord, now: ContainerRecord) -> list[Line]:
    """What the probes of one instance say now and did not say before."""
    running = now.running
    if running is None:
        return []
    known = was.running if was.attempt == now.attempt else None
    old = known.probes if known is not None else Probes()
    new = running.probes
    texts: list[str] = []
    if new.startup.result is not old.startup.result:
        if new.startup.result is Result.SUCCESS:
            texts.append("startup probe passed")
        else:
            texts.append(f"startup probe failed: {first_words(new.startup.because)}")
    if new.liveness.result is not old.liveness.result:
        texts.append(f"liveness probe failed: {first_words(new.liveness.because)}")
    if new.readiness.result is not old.readiness.result:
        if new.readiness.result is Result.SUCCESS:
            texts.append("ready")
        else:
            texts.append(f"not ready: {first_words(new.readiness.because)}")
    if running.kill is not None and (known is None or known.kill is None):
        grace = running.kill.deadline - running.kill.requested.boot
        texts[-1:] = [f"{text}; stopping it, grace {grace:.0f} s" for text in texts[-1:]]
    return [Line(container=now.name, text=text) for text in texts]


def first_words(text: str) -> str:
    """A text of somebody else's on one line, which cannot take over a terminal."""
    words = " ".join(text.split())
    return printable(f"{words[:_WIDEST_MESSAGE]}{'…' if len(words) > _WIDEST_MESSAGE else ''}")


def _never_ran(ended: Ended | None) -> bool:
    return ended is not None and ended.reason == reasons.START_ERROR


def how_it_is_over(ended: Ended | None) -> str:
    """What a container has done of which nothing more will come; `ended` is its newest end."""
    if ended is None:
        return "has never started"
    return "could not be started" if _never_ran(ended) else "has ended"


def final_table(records: Iterable[PodRecord], label: dict[str, str]) -> str:
    """How every container ended; `label` gives the pod's shown name by uid."""
    rows = [("CONTAINER", "RESTARTS", "EXIT", "REASON", "DURATION")]
    for record in records:
        pod = label[record.pod.metadata.uid]
        rows += [(f"{pod}/{c.name}", *_row(record, c)) for c in record.containers]
    return table(rows)


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Columns that align; the first row is their heading."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        + "\n"
        for row in rows
    )


def seconds(span: float) -> str:
    """A duration for a person: 0.3 s, 12.0 s, 2 min 5 s."""
    if span < 100:
        return f"{max(0.0, span):.1f} s"
    minutes, rest = divmod(round(span), 60)
    return f"{minutes} min {rest} s"


def _row(record: PodRecord, container: ContainerRecord) -> tuple[str, str, str, str]:
    ended = container.ended
    restarts = str(max(0, container.attempt))
    if ended is None:
        shown = v1.container_statuses(record.status)
        state = next(s.state for s in shown if s.name == container.name)
        if state.waiting is not None:
            return (restarts, "-", state.waiting.reason, "-")
        if state.terminated is not None:
            return (restarts, str(state.terminated.exit_code), state.terminated.reason, "-")
        return (restarts, "-", "running", "-")
    return (restarts, str(ended.exit_code), ended.reason, _duration(ended) or "-")


def seen(before: v1.Pod | None, after: v1.Pod) -> list[Line]:
    """What happened to a pod between two of its objects, in order; of a new one, all it tells.

    An object says less than a record: times are whole seconds, and of the instances of a container
    only the last one but one is known, so those that came and went in between are left out.
    """
    lines: list[Line] = []
    known = {} if before is None else {s.name: s for s in statuses(before.status)}
    for status in statuses(after.status):
        was = known.get(status.name)
        lines += [
            Line(container=status.name, text=line.text, opens=line.opens, closes=line.closes)
            for line in _seen_instances(was, status)
        ]
        lines += [
            Line(container=status.name, text=text) for text in _seen_waits(was, status, after.spec)
        ]
    meta = after.metadata
    if meta.deletion_timestamp and (before is None or not before.metadata.deletion_timestamp):
        lines.append(Line(text=f"stopping, grace {meta.deletion_grace_period_seconds or 0} s"))
    phase = after.status.phase
    if phase and phase != (before.status.phase if before is not None else reasons.PENDING):
        why = f": {after.status.reason}" if after.status.reason else ""
        lines.append(Line(text=f"{phase}{why}"))
    if is_ready(after) and (before is None or not is_ready(before)):
        lines.append(Line(text=reasons.READY))
    return lines


def is_ready(pod: v1.Pod) -> bool:
    return any(c.type == reasons.READY and c.status == "True" for c in pod.status.conditions)


def statuses(status: v1.PodStatus) -> tuple[v1.ContainerStatus, ...]:
    """Of the containers that are told of, which ephemeral ones are not."""
    return (*status.init_container_statuses, *status.container_statuses)


def _seen_instances(was: v1.ContainerStatus | None, now: v1.ContainerStatus) -> list[Line]:
    """Starts and ends; an instance's number is that of the restarts before it."""
    lines: list[Line] = []
    started = -1 if was is None else _newest(was)
    over = -1 if was is None else max(_ends(was), default=-1)
    for number, ended in sorted(_ends(now).items()):
        if number <= over:
            continue
        unseen = number > started and ended.reason != reasons.START_ERROR
        if unseen and not ended.started_at:
            # The node says of it only that it cannot succeed any more: the pod is over.
            lines.append(Line(text="has never started"))
            continue
        if unseen:
            lines.append(_seen_start(number))
        lines.append(Line(text=_seen_end(ended), closes=number))
    if now.state.running is not None and now.restart_count > started:
        lines.append(_seen_start(now.restart_count))
    return lines


def _seen_start(number: int) -> Line:
    return Line(text=f"started{f', restart {number}' if number else ''}", opens=number)


def _newest(status: v1.ContainerStatus) -> int:
    """The number of the last instance that has started, -1 if none has."""
    running = status.restart_count if status.state.running is not None else -1
    return max([running, *_ends(status)])


def _ends(status: v1.ContainerStatus) -> dict[int, v1.ContainerStateTerminated]:
    """How instances have ended, by their numbers."""
    number, state = status.restart_count, status.state
    found = {} if state.terminated is None else {number: state.terminated}
    if status.last_state.terminated is not None:
        # While it waits for its restart, that is not counted yet.
        found[number if state.waiting is not None else number - 1] = status.last_state.terminated
    return found


def _seen_end(ended: v1.ContainerStateTerminated) -> str:
    if ended.reason == reasons.START_ERROR:
        return f"cannot start: {first_words(ended.message)}"
    text = f"exited with code {ended.exit_code}{_signal_note(ended.exit_code)}"
    if (span := seen_span(ended)) is not None:
        text += f" after {span} s"
    if ended.reason not in (reasons.COMPLETED, reasons.ERROR, ""):
        text += f" ({ended.reason})"
    return f"{text}: {first_words(ended.message)}" if ended.message else text


def seen_span(ended: v1.ContainerStateTerminated) -> int | None:
    """How many seconds an instance has run."""
    if not ended.started_at or not ended.finished_at:
        return None
    start, end = (datetime.fromisoformat(at) for at in (ended.started_at, ended.finished_at))
    return max(0, round((end - start).total_seconds()))


def _seen_waits(
    was: v1.ContainerStatus | None, now: v1.ContainerStatus, spec: v1.PodSpec
) -> list[str]:
    texts: list[str] = []
    container = next(c for c in v1.containers(spec) if c.name == now.name)
    before = was.state.waiting if was is not None else None
    waiting = now.state.waiting
    if waiting is not None and waiting.message and waiting != before:
        # The message of a back-off ends with names that the line has, that of a hook begins so.
        why = waiting.message.split(" failed container=")[0]
        why = why.partition(_HOOK_FAILED)[2] or why
        texts.append(f"{waiting.reason}: {first_words(why)}")
    if now.state.running is not None:
        same = was is not None and was.restart_count == now.restart_count
        if (
            container.startup_probe is not None
            and now.started
            and not (same and was is not None and was.started)
        ):
            texts.append("startup probe passed")
        if container.readiness_probe is not None and now.ready != bool(
            same and was is not None and was.ready
        ):
            texts.append("ready" if now.ready else "not ready")
    return texts


def _back_offs(status: v1.PodStatus) -> dict[str, str]:
    """What containers in CrashLoopBackOff wait for, without the names in the message."""
    return {
        s.name: s.state.waiting.message.split(" failed container=")[0]
        for s in statuses(status)
        if s.state.waiting is not None and s.state.waiting.reason == reasons.CRASH_LOOP_BACK_OFF
    }


def _duration(ended: Ended) -> str:
    if ended.started is None or _never_ran(ended):
        return ""
    return seconds(ended.finished.boot - ended.started.boot)


def _end(was: ContainerRecord, now: ContainerRecord, ended: Ended, stop: str) -> str:
    if _never_ran(ended):
        return f"cannot start: {ended.message}"
    after = _duration(ended)
    after = f" after {after}" if after else ""
    code = ended.exit_code
    running = was.running
    if running is not None and running.killed is not None and code == 137:
        text = f"SIGKILL{_since_signal(running, ended, stop)}, exit 137"
    elif code == 0 and now.kind is Kind.INIT:
        text = f"init done{after}"
    else:
        text = f"exited with code {code}{_signal_note(code)}{after}"
        if ended.reason not in (reasons.COMPLETED, reasons.ERROR):
            text += f" ({ended.reason})"
    if ended.log_dropped:
        text += f"; {ended.log_dropped} log records could not be written"
    if ended.message:
        text += f": {first_words(ended.message)}"
    return text


def _since_signal(running: Running, ended: Ended, stop: str) -> str:
    if running.signalled is None:
        return ""
    return f" {seconds(ended.finished.boot - running.signalled.boot)} after {stop}"


def _signal_note(code: int) -> str:
    try:
        return f" ({signal.Signals(code - 128).name})"
    except ValueError:
        return ""


def _ending(record: PodRecord, cause: Cause) -> list[Line]:
    alive = ", ".join(c.name for c in record.containers if c.running is not None)
    match cause:
        case Cause.DEADLINE:
            limit = record.pod.spec.active_deadline_seconds
            text = f"active for more than {limit} s (activeDeadlineSeconds): stopping"
            return [Line(text=text)]
        case Cause.INIT_FAILURE if alive:
            return [Line(text=f"an init container failed for good: stopping {alive}")]
        case Cause.COMPLETION if alive:
            return [Line(text=f"all app containers have ended: stopping {alive}")]
    return []
