"""`podvisor condition`: the conditions of a pod that somebody else than the node sets."""

from __future__ import annotations

import re
import time
from typing import Annotated, Any

import typer

from supervisor.cli import options
from supervisor.cli.completing import complete_pod
from supervisor.errors import UsageError

NO_ARGS_IS_HELP = True

_STATUSES = ("True", "False", "Unknown")
_TYPE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?/)?[A-Za-z0-9]([-\w.]*[A-Za-z0-9])?")


def command(
    pod: Annotated[
        str, typer.Argument(metavar="POD", help="Which one.", autocompletion=complete_pod)
    ],
    conditions: Annotated[
        list[str], typer.Argument(metavar="TYPE=True|False|Unknown", help="What is so.")
    ],
    reason: Annotated[
        str, typer.Option(metavar="WORD", help="Why, in one word: LoadBalancerReady.")
    ] = "",
    message: Annotated[str, typer.Option(metavar="TEXT", help="Why, for a person.")] = "",
    namespace: options.Namespace = "default",
    state_dir: options.StateDir = None,
) -> None:
    """Set conditions of a pod, as a controller does on a cluster: that is what readiness gates
    wait for.

    What the node itself says of a pod (Ready, Initialized, ...) cannot be set.

    Examples:

      podvisor condition web example.com/warm=True

      podvisor condition web example.com/warm=False --reason Cold --message "cache was dropped"
    """
    wanted = _read(conditions)

    from supervisor.cli import asking, complain
    from supervisor.client import PODS

    node, pod = asking.client(state_dir), asking.pod(pod)
    found = node.get(PODS, namespace, pod)
    gates = [gate["conditionType"] for gate in found["spec"].get("readinessGates", ())]
    known = {c["type"]: c for c in found["status"].get("conditions", ())}
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    patch: list[dict[str, Any]] = []
    for type, status in wanted.items():
        if type not in gates:
            complain(f"podvisor: note: no readiness gate of pod {pod} waits for {type}")
        same = type in known and known[type].get("status") == status
        since = known[type].get("lastTransitionTime") if same else None
        patch.append(
            {
                "type": type,
                "status": status,
                "reason": reason,
                "message": message,
                "lastTransitionTime": since or now,
            }
        )
    body = {"status": {"conditions": patch}}
    node.patch(PODS, namespace, pod, body, subresource="status")
    for type, status in wanted.items():
        print(f"pod/{pod} condition {type}={status}")


def _read(words: list[str]) -> dict[str, str]:
    """Raises UsageError."""
    from supervisor.lifecycle import reasons

    wanted: dict[str, str] = {}
    for word in words:
        type, equals, status = word.partition("=")
        status = status.capitalize()
        if not equals or status not in _STATUSES or not _TYPE.fullmatch(type):
            raise UsageError(
                f"cannot set {word!r}: must be TYPE=True, TYPE=False or TYPE=Unknown, such as "
                "example.com/warm=True"
            )
        if type in reasons.OWN_CONDITIONS or type in reasons.CONDITION_ALIASES:
            raise UsageError(f"cannot set {type}: that condition is the node's own")
        if wanted.setdefault(type, status) != status:
            raise UsageError(f"cannot set {type} to {wanted[type]} and to {status}")
    return wanted
