"""Whether a container that ended runs again, and when.

The law (§3):

    Whether  a regular init container that exited 0 is done; a sidecar always runs again;
             otherwise the container's own rules, first match wins; otherwise its own policy;
             otherwise the pod's policy.
    All      if that rule says so, whatever kind of container it is: every container of the pod
             is killed, and the pod begins anew with its first one.
    Stopped  to be run anew, by a probe that failed: unless its own or else the pod's policy is
             Never, it runs again whatever its exit code.
    When     the end of the instance + the wait. The waits are 0, initial, 2 x initial, ... cap.
             Each decision to start again moves on to the next wait, once per instance. If the
             instance ended more than `reset` after the decision to start it, the waits begin anew.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from supervisor.api import v1

_ALL = "RestartAllContainers"


def runs_again(container: v1.Container, pod_policy: str, exit_code: int, *, init: bool) -> bool:
    """Whether policy lets an ended container run again, in a pod that is not ending.

    `init` is true for regular init containers and sidecars.
    """
    own = container.restart_policy
    if init and own == "Always":
        return True
    if init and exit_code == 0:
        return False
    if _action(container, exit_code) is not None:
        return True
    policy = own or pod_policy
    if policy == "Never":
        return False
    return exit_code != 0 if policy == "OnFailure" else True


def restarts_all(container: v1.Container, exit_code: int) -> bool:
    """Whether the end of this container is to restart its whole pod (§3.4)."""
    return _action(container, exit_code) == _ALL


def may_restart_all(containers: Iterable[v1.Container]) -> bool:
    """Whether the end of one of these containers may do so."""
    return any(rule.action == _ALL for c in containers for rule in c.restart_policy_rules)


def after_kill(container: v1.Container, pod_policy: str) -> bool:
    """Whether a container that the node stops for its own sake is to run again.

    Its exit code is not known when this is said, so its rules do not count (§7.6.2).
    """
    return (container.restart_policy or pod_policy) != "Never"


def _action(container: v1.Container, exit_code: int) -> str | None:
    """What the first of the container's rules that matches says."""
    for rule in container.restart_policy_rules:
        if rule.exit_codes and _matches(rule.exit_codes, exit_code):
            return rule.action
    return None


def _matches(wanted: v1.ContainerRestartRuleOnExitCodes, exit_code: int) -> bool:
    return (exit_code in wanted.values) == (wanted.operator != "NotIn")


class Backoff(Struct, frozen=True):
    """The last decision to start a container again."""

    attempt: int  # the instance it was about
    waited: float  # the wait before that instance
    delay: float  # the wait before the next one, unless it has expired by then
    at: float  # boot time of the decision


def wait_before(attempt: int, backoff: Backoff | None, *, finished: float, reset: float) -> float:
    """Seconds to wait after `finished`, the end of the newest instance, before `attempt`."""
    if backoff is None:
        return 0.0
    if backoff.attempt >= attempt:  # decided before, but the start was not carried out
        return backoff.waited
    if finished - backoff.at > reset:
        return 0.0
    return backoff.delay


def advance(
    attempt: int,
    backoff: Backoff | None,
    *,
    finished: float,
    now: float,
    initial: float,
    cap: float,
    reset: float,
) -> Backoff:
    """The record after deciding, at `now`, to start `attempt` again."""
    if backoff is not None and backoff.attempt >= attempt:
        return backoff
    if backoff is None or finished - backoff.at > reset:
        return Backoff(attempt, 0.0, min(initial, cap), now)
    return Backoff(attempt, backoff.delay, min(2 * backoff.delay, cap), now)
