"""The hooks of one instance of a container: what is owed, and how it ends (§6). Pure.

    Owed      from the commit of the intent (a plan that wants the hook) to the commit of its end.
              What is owed and not known to be running is run, again if need be: at least once,
              whatever dies of ours.
    The ends  succeeded and failed, told by the shell; deadline, the grace period is used up;
              cancelled, the pod ends and no longer waits for a postStart, or all its containers
              are killed to run again; gone, the container ended before its hook. Each is final:
              a hook that failed is not tried again.
    postStart is wanted as soon as the instance runs. Until it has succeeded the instance is held
              back: neither running nor started nor probed as far as the API says.
    preStop   is wanted when the node stops an instance by itself, and only then: a process that
              ends of its own accord gets none. The stop signal waits for it.
    Gone      exec and sleep end with their container. An httpGet is another program's business:
              it is waited for, and after a crash sent again, though the container has ended.

A hook whose deadline has passed is no longer waited for, but left to itself as long as its
container runs, for the two seconds or more until SIGKILL (§6.2.4).

Nothing here knows pods or records: `record.py` keeps a tuple of `Hook` with each container.
"""

from __future__ import annotations

import enum

from msgspec import Struct
from msgspec.structs import replace

from supervisor.api import v1
from supervisor.lifecycle.facts import HookKind, Instant

_REMEMBERED = 2048  # characters of what a program wrote are kept
LEAST = 2.0  # seconds that a hook has at least when a crash of ours interrupted it


class HookEnd(enum.StrEnum):
    """How a hook ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    GONE = "container gone"


class Hook(Struct, frozen=True, kw_only=True):
    """One hook of the newest instance, from its intent on."""

    which: HookKind
    intended: Instant
    begun: Instant  # the newest run: later than `intended` only after a crash
    runs: int = 1  # more only after crashes
    until: float | None = None  # boot time of its deadline, once its container has ended
    ended: Instant | None = None
    end: HookEnd | None = None
    left: bool = False  # nobody waits for it any more, but what runs of it may run on
    said: str = ""  # why it failed
    output: str = ""  # the beginning of what its program wrote

    @property
    def is_owed(self) -> bool:
        return self.end is None


def handler_of(container: v1.Container, which: HookKind) -> v1.LifecycleHandler | None:
    lifecycle = container.lifecycle
    if lifecycle is None:
        return None
    return lifecycle.post_start if which is HookKind.POST_START else lifecycle.pre_stop


def stop_signal(container: v1.Container, of_image: str) -> str:
    """The signal that asks the main process to end, after its preStop (§6.5).

    `of_image`: the one that its image asks for; empty if none.
    """
    lifecycle = container.lifecycle
    return (lifecycle.stop_signal if lifecycle is not None else None) or of_image or "SIGTERM"


def outlives(container: v1.Container, which: HookKind) -> bool:
    """Whether this hook goes on when its container has ended."""
    handler = handler_of(container, which)
    return handler is not None and handler.http_get is not None


def find(hooks: tuple[Hook, ...], which: HookKind) -> Hook | None:
    return next((hook for hook in hooks if hook.which is which), None)


def put(hooks: tuple[Hook, ...], hook: Hook) -> tuple[Hook, ...]:
    """With this hook in the place of the one of its kind."""
    return (*(other for other in hooks if other.which is not hook.which), hook)


def intend(hooks: tuple[Hook, ...], which: HookKind, at: Instant) -> tuple[Hook, ...]:
    """From here on the hook is owed. Intending twice changes nothing."""
    if find(hooks, which) is not None:
        return hooks
    return put(hooks, Hook(which=which, intended=at, begun=at))


def close(hook: Hook, end: HookEnd, at: Instant, said: str = "", output: str = "") -> Hook:
    """An end is final: the first one counts."""
    if not hook.is_owed:
        return hook
    left = end is HookEnd.DEADLINE
    return replace(hook, ended=at, end=end, left=left, said=said, output=output[:_REMEMBERED])


def interrupted(hook: Hook, at: Instant) -> Hook:
    """A crash of ours: what is owed begins anew, what was only left to itself does not."""
    return replace(hook, begun=at, runs=hook.runs + 1) if hook.is_owed else over(hook)


def over(hook: Hook) -> Hook:
    """Nothing of it runs any more."""
    return replace(hook, left=False) if hook.left else hook


def deadline(hook: Hook, limit: float | None) -> float | None:
    """Boot time from which on an owed hook is not waited for; `limit`: of what it belongs to."""
    if limit is None or hook.runs == 1:
        return limit
    return max(limit, hook.begun.boot + LEAST)


def holds_back(container: v1.Container, hooks: tuple[Hook, ...]) -> bool:
    """Whether an instance that runs is not to be seen running yet (§2.4.3)."""
    if handler_of(container, HookKind.POST_START) is None:
        return False
    hook = find(hooks, HookKind.POST_START)
    return hook is None or hook.end is not HookEnd.SUCCEEDED


def truncation(hooks: tuple[Hook, ...]) -> float:
    """Seconds by which SIGKILL comes later because of a preStop that ended in time: what it took
    is taken off the grace period in whole seconds (§6.2.4)."""
    hook = find(hooks, HookKind.PRE_STOP)
    if hook is None or hook.ended is None or hook.end not in (HookEnd.SUCCEEDED, HookEnd.FAILED):
        return 0.0
    return (hook.ended.boot - hook.intended.boot) % 1.0
