"""The quality-of-service class of a pod (§9.4.3): pure arithmetic over its resources."""

from __future__ import annotations

from supervisor.api import v1
from supervisor.api.quantity import parse

GUARANTEED = "Guaranteed"
BURSTABLE = "Burstable"
BEST_EFFORT = "BestEffort"

_COMPUTE = ("cpu", "memory")


def qos_class(spec: v1.PodSpec) -> str:
    """Guaranteed: cpu and memory limited everywhere, requests equal. BestEffort: nothing set."""
    parts = [c.resources for c in (*spec.init_containers, *spec.containers)]
    if spec.resources is not None:
        parts = [spec.resources]  # the pod's own stand for all its containers
    requests: dict[str, int] = {}
    limits: dict[str, int] = {}
    limited = True
    for part in parts:
        _add(requests, part.requests)
        limited &= _add(limits, part.limits) == len(_COMPUTE)
    if not requests and not limits:
        return BEST_EFFORT
    return GUARANTEED if limited and requests == limits else BURSTABLE


def _add(total: dict[str, int], amounts: dict[str, v1.Quantity]) -> int:
    """Add what is positive; return how many of cpu and memory were."""
    found = 0
    for name in _COMPUTE:
        amount = parse(amounts[name]).nano if name in amounts else 0
        if amount > 0:
            total[name] = total.get(name, 0) + amount
            found += 1
    return found
