"""Records in the middle of a life, for tables: a base pod, and what is known of its containers."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from supervisor.api import v1
from supervisor.lifecycle import facts, reasons
from supervisor.lifecycle.record import (
    Cause,
    ContainerRecord,
    Ended,
    PodRecord,
    Running,
    Sandbox,
    Termination,
    new_record,
)
from supervisor.lifecycle.restart import Backoff
from tests.lifecycle.lives import BOOT, POLICY, UID, at

NOW = at(100)


def running(attempt: int = 0, *, signalled: float | None = None, **fields: Any) -> dict[str, Any]:
    """Runs since 10 s; `signalled` seconds after the pod was taken on."""
    told = None if signalled is None else at(signalled)
    run = Running(since=at(10), pid=100 + attempt, signalled=told, **fields)
    return {"attempt": attempt, "running": run}


def ended(code: int, attempt: int = 0, *, when: float = 100.0, **fields: Any) -> dict[str, Any]:
    fields.setdefault("reason", "Completed" if code == 0 else "Error")
    return {
        "attempt": attempt,
        "ended": Ended(
            attempt=attempt, exit_code=code, started=at(10), finished=at(when), **fields
        ),
    }


def waited(attempt: int, delay: float, decided: float = 50.0) -> dict[str, Any]:
    """The start of `attempt` was decided `decided` seconds after the pod was taken on."""
    return {"backoff": Backoff(attempt, delay / 2, delay, BOOT + decided)}


def ending(
    since: float = 100.0, grace: float = 30.0, cause: Cause = Cause.DELETION, *, kill: bool = False
) -> Termination:
    return Termination(cause=cause, requested=at(since), deadline=BOOT + since + grace, kill=kill)


def record(pod: v1.Pod, *, fields: dict[str, Any] | None = None, **states: Any) -> PodRecord:
    """A record with a ready sandbox, nothing left to tell, and these states of containers."""
    new = new_record(pod, at(0), POLICY)

    def known(container: ContainerRecord) -> ContainerRecord:
        container = replace(container, **states.get(container.name, {}))
        run = container.running
        if run is not None and run.signalled is not None and not run.announced:
            run = replace(run, announced=reasons.stopping(container.name))
        return replace(container, running=run)

    return replace(
        new,
        owed_events=(),
        containers=tuple(known(c) for c in new.containers),
        **{"sandbox": Sandbox.READY} | (fields or {}),
    )


def in_words(actions: tuple[facts.Action, ...]) -> list[str]:
    """start app/1, stop app/1, kill app/1, sandbox, finish"""
    words = {
        facts.StartContainer: "start",
        facts.StopContainer: "stop",
        facts.KillContainer: "kill",
        facts.CreateSandbox: "sandbox",
        facts.RemoveContainers: "remove",
        facts.FinishPod: "finish",
    }
    return [
        words[type(a)] + (f" {a.id.name}/{a.id.attempt}" if hasattr(a, "id") else "")
        for a in actions
    ]


def instance(name: str, attempt: int = 0) -> facts.ContainerId:
    return facts.ContainerId(UID, name, attempt)
