"""What a node knows of a pod and Kubernetes has no field for: hooks, probes, how it ends.

The server answers with it under a path of its own, which discovery does not list, and
`podvisor describe` shows it. Of a node that does not run, the command reads the record itself and
asks here what is in it; so this is pure, and knows neither the server nor the store.
"""

from __future__ import annotations

from collections.abc import Iterable

from supervisor.apiserver.contract import Json
from supervisor.lifecycle import timeline
from supervisor.lifecycle.facts import ProbeKind, ProbeObserved, rfc3339
from supervisor.lifecycle.hooks import Hook
from supervisor.lifecycle.probing import probe_of
from supervisor.lifecycle.record import ContainerRecord, PodRecord, specs

PREFIX = "/podvisor/v1"


def path(namespace: str, name: str) -> str:
    """Where a node tells it. The names are those of objects, which need no quoting."""
    return f"{PREFIX}/namespaces/{namespace}/pods/{name}"


def plain(record: PodRecord, latest: Iterable[ProbeObserved] = ()) -> Json:
    """The answer; `latest` is what each probe gave last (PodWorker.latest_probes)."""
    meta = record.pod.metadata
    seen = {(fact.id.name, fact.kind): fact for fact in latest}
    return {
        "kind": "PodRecord",
        "apiVersion": "podvisor/v1",
        "metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
        "containers": [
            {
                "name": container.name,
                "attempt": container.attempt,
                "pid": container.running.pid if container.running is not None else 0,
                "hooks": [_hook(hook) for hook in container.hooks],
                "probes": [
                    _probe(container, kind, seen.get((container.name, kind)))
                    for kind in ProbeKind
                    if probe_of(spec, kind) is not None and container.running is not None
                ],
            }
            for spec, container in zip(specs(record), record.containers, strict=True)
        ],
        "termination": timeline.plain(record.trail),
    }


def _hook(hook: Hook) -> Json:
    """`end` is empty while the hook is owed."""
    ended = hook.ended
    return {
        "which": str(hook.which),
        "begun": rfc3339(hook.intended),
        "seconds": 0.0 if ended is None else round(ended.boot - hook.intended.boot, 3),
        "end": "" if hook.end is None else str(hook.end),
        "runs": hook.runs,
        "message": hook.said,
        "output": hook.output,
    }


def _probe(container: ContainerRecord, kind: ProbeKind, fact: ProbeObserved | None) -> Json:
    """`result` is what the probe says, thresholds applied; `outcome` what the last attempt gave,
    empty where there was none in this life of the node."""
    assert container.running is not None
    probes = container.running.probes
    state = {
        ProbeKind.STARTUP: probes.startup,
        ProbeKind.LIVENESS: probes.liveness,
        ProbeKind.READINESS: probes.readiness,
    }[kind]
    answer: Json = {
        "kind": str(kind),
        "result": str(state.result),
        "because": state.because,
        "last": str(state.last),
        "run": state.run,
        "outcome": "",
        "time": "",
        "output": "",
    }
    if fact is not None and fact.id.attempt == container.attempt:
        answer |= {
            "outcome": str(fact.outcome),
            "time": rfc3339(fact.at),
            "output": fact.output[:_REMEMBERED],
        }
    return answer


_REMEMBERED = 1024  # characters of what a probe said are told
