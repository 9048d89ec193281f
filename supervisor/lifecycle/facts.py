"""What happened and what is to be done: the vocabulary between the deciding core and the shell.

A `Fact` says what happened and when; `observe` folds facts into a `PodRecord`. An `Action` says
what should be done next; `decide` returns actions in a `Plan` and the shell performs them. Every
action is answered by exactly one fact, its own failure included (`ActionFailed`).

This module holds data only: no rule of the lifecycle is written here.
"""

from __future__ import annotations

import enum
from datetime import UTC, datetime

from msgspec import Struct

from supervisor.api import v1


class Instant(Struct, frozen=True):
    """One moment on two clocks."""

    wall: float  # seconds since the Unix epoch, UTC: for display only
    boot: float  # CLOCK_BOOTTIME seconds: for deadlines and back-off (goes on in suspend)

    def later(self, seconds: float) -> Instant:
        return Instant(self.wall + seconds, self.boot + seconds)


_LAST_SECOND = 253_402_300_799


def rfc3339(at: Instant) -> str:
    """The time as the API shows it: UTC, whole seconds, the fraction cut off."""
    # A grace period may be any number; a date ends with the year 9999.
    return datetime.fromtimestamp(min(int(at.wall), _LAST_SECOND), UTC).strftime(
        "%Y-%m-%dT%H:%M:%SZ"
    )


class ContainerId(Struct, frozen=True, order=True):
    """Identity of one instance of a container. Deterministic, so starting twice is harmless."""

    pod_uid: str
    name: str
    attempt: int  # 0 for the first instance; equals restartCount

    def __str__(self) -> str:
        return f"{self.pod_uid}/{self.name}/{self.attempt}"


# --- actions -----------------------------------------------------------------------------------


class CreateSandbox(Struct, frozen=True, tag=True):
    """Make the pod's directories and volumes. Answered by SandboxReady, VolumesFailed or
    ActionFailed."""


class StartContainer(Struct, frozen=True, tag=True):
    """Create and start one instance. Answered by ContainerStarted or StartFailed."""

    id: ContainerId


class StopContainer(Struct, frozen=True, tag=True):
    """Send the stop signal once, to the main process only. Answered by StopSignalled."""

    id: ContainerId
    signal: str = "SIGTERM"


class KillContainer(Struct, frozen=True, tag=True):
    """SIGKILL the main process and with it the whole tree. Answered by KillSent."""

    id: ContainerId


class RemoveContainers(Struct, frozen=True, tag=True):
    """Forget the instances that have ended, for the pod begins anew; their logs stay.

    Nothing of it runs. Answered by ContainersRemoved.
    """


class FinishPod(Struct, frozen=True, tag=True):
    """Stop the sandbox: nothing of the pod runs any more. Answered by SandboxStopped."""


Action = (
    CreateSandbox | StartContainer | StopContainer | KillContainer | RemoveContainers | FinishPod
)


# --- facts -------------------------------------------------------------------------------------


class SandboxReady(Struct, frozen=True, tag_field="fact"):
    at: Instant


class VolumeFailure(Struct, frozen=True):
    """Why a volume could not be set up."""

    name: str
    error: str


class VolumesFailed(Struct, frozen=True, tag_field="fact"):
    """Some volumes could not be set up, so nothing of the pod can start; it is tried again."""

    at: Instant
    failures: tuple[VolumeFailure, ...]


class VolumeOverLimit(Struct, frozen=True, tag_field="fact"):
    """An emptyDir holds more than its sizeLimit."""

    at: Instant
    name: str
    limit: str  # as quantities are written


class SandboxStopped(Struct, frozen=True, tag_field="fact"):
    at: Instant


class ContainersRemoved(Struct, frozen=True, tag_field="fact"):
    at: Instant


class ContainerStarted(Struct, frozen=True, tag_field="fact"):
    """The main process executes its program (execve succeeded)."""

    at: Instant
    id: ContainerId
    pid: int  # on the host
    stop_signal: str = ""  # that its image asks for; empty: none


class StartFailed(Struct, frozen=True, tag_field="fact"):
    """The instance did not start.

    `created` False: nothing was created, no attempt is used up (CreateContainerConfigError,
    CreateContainerError). True: the container was made but its program could not be executed
    (StartError, exit code 128).
    """

    at: Instant
    id: ContainerId
    reason: str
    message: str
    created: bool


class ContainerExited(Struct, frozen=True, tag_field="fact"):
    """The main process ended, every process of the container is gone, its log is complete."""

    at: Instant
    id: ContainerId
    exit_code: int  # 0-255; death by signal n is 128+n
    message: str = ""  # termination message, already cut to its limits
    log_complete: bool = True  # False: the wait for the last of its log was given up
    log_dropped: int = 0  # log records that could not be written


class ContainerLost(Struct, frozen=True, tag_field="fact"):
    """The runtime no longer knows an instance that was running; how it ended is unknown."""

    at: Instant
    id: ContainerId
    logs_lost: bool = False  # some of what it wrote may be in no log


class StopSignalled(Struct, frozen=True, tag_field="fact"):
    at: Instant
    id: ContainerId


class KillSent(Struct, frozen=True, tag_field="fact"):
    at: Instant
    id: ContainerId


class LogsDropped(Struct, frozen=True, tag_field="fact"):
    """The log of a container could not be written (disk full); the container goes on."""

    at: Instant
    id: ContainerId
    error: str


class ProbeKind(enum.StrEnum):
    """What a probe decides."""

    STARTUP = "startup"  # that the container has started; the other two wait for it
    LIVENESS = "liveness"  # that it must be restarted
    READINESS = "readiness"  # that it may get traffic


class ProbeOutcome(enum.StrEnum):
    """What one attempt of a probe gave (§5.3)."""

    SUCCESS = "success"
    WARNING = "warning"  # counts as success, with an event
    FAILURE = "failure"
    ERROR = "error"  # the attempt itself could not be made: it says nothing about the container


class ProbeObserved(Struct, frozen=True, tag_field="fact"):
    """One attempt of a probe has ended."""

    at: Instant
    id: ContainerId
    kind: ProbeKind
    outcome: ProbeOutcome
    output: str


class ProbeTarget(Struct, frozen=True):
    """A probe that should be running: part of a plan, reconciled by the shell.

    Its first attempt is made at boot time `due` or at once if that has passed, the next ones a
    period after the one before, at a fixed rate.
    """

    id: ContainerId
    kind: ProbeKind
    due: float


class HookKind(enum.StrEnum):
    """The hooks of a container."""

    POST_START = "postStart"
    PRE_STOP = "preStop"


class HookTarget(Struct, frozen=True):
    """A hook that should be running: part of a plan, reconciled by the shell.

    A target that is new is begun, but only after its plan is committed; one that is gone is
    cancelled, and tells nothing any more. Else it is answered by HookFinished or HookInterrupted.
    """

    id: ContainerId
    which: HookKind
    run: int  # 1, and one more for each time that a crash of ours interrupted it


class HookFinished(Struct, frozen=True, tag_field="fact"):
    """A hook has ended by itself."""

    at: Instant
    id: ContainerId
    which: HookKind
    ok: bool
    message: str = ""  # why it failed
    output: str = ""  # of a program
    fallback: str = ""  # the host that answered HTTPS with plain HTTP, and was asked so again


class HookInterrupted(Struct, frozen=True, tag_field="fact"):
    """A hook could not be run to its end for a reason on our side: it is owed as before."""

    at: Instant
    id: ContainerId
    which: HookKind


class DeletionRequested(Struct, frozen=True, tag_field="fact"):
    """Somebody wants the pod gone.

    `grace` in seconds; None means the pod's own. A repeated request can only shorten.
    `kill`: do not wait at all, SIGKILL now (the third Ctrl-C of `podvisor run`).
    `force`: its object goes at once, and frees its name, while its processes still end.
    """

    at: Instant
    grace: int | None = None
    kill: bool = False
    force: bool = False


class NodeStopping(Struct, frozen=True, tag_field="fact"):
    """The node ends for good and takes its pods with it; they stay as objects, failed.

    `grace` in seconds, if it is to be shorter than the pod's own; asking again only shortens.
    `kill` as for a deletion.
    """

    at: Instant
    grace: int | None = None
    kill: bool = False


class ConditionSet(Struct, frozen=True, tag_field="fact"):
    """A condition that the node does not own is set from outside (readiness gates)."""

    at: Instant
    type: str
    status: str  # True, False, Unknown
    reason: str = ""
    message: str = ""


class ConditionRemoved(Struct, frozen=True, tag_field="fact"):
    """A condition that the node does not own is taken away from outside."""

    at: Instant
    type: str


class PodUpdated(Struct, frozen=True, tag_field="fact"):
    """The object was changed from outside. What may change of a pod is taken over from `pod`."""

    at: Instant
    pod: v1.Pod


class ConfigurationChanged(Struct, frozen=True, tag_field="fact"):
    """What ConfigMaps and Secrets hold has changed: what could not be made may be now."""

    at: Instant


class ActionFailed(Struct, frozen=True, tag_field="fact"):
    """An action could not be performed for a reason on our side; it is tried again later."""

    at: Instant
    action: Action
    error: str


class Adopted(Struct, frozen=True, tag_field="fact"):
    """The record was loaded again: what was in flight is forgotten, what the runtime holds
    follows as facts. Hooks that are owed are run again, but for those that are running still or
    have left their result."""

    at: Instant
    resumed: frozenset[HookTarget] = frozenset()


class SandboxDied(Struct, frozen=True, tag_field="fact"):
    """The pid namespace that the pod's containers share is gone. How each of them has ended is told
    apart from this."""

    at: Instant


class SandboxLost(Struct, frozen=True, tag_field="fact"):
    """The machine has been started anew: nothing of the pod runs, and the boot clock began at 0."""

    at: Instant
    boot_id: str = ""  # of its new life


Fact = (
    SandboxReady
    | VolumesFailed
    | VolumeOverLimit
    | SandboxStopped
    | ContainersRemoved
    | ContainerStarted
    | StartFailed
    | ContainerExited
    | ContainerLost
    | StopSignalled
    | KillSent
    | LogsDropped
    | ProbeObserved
    | HookFinished
    | HookInterrupted
    | DeletionRequested
    | NodeStopping
    | ConditionSet
    | ConditionRemoved
    | PodUpdated
    | ConfigurationChanged
    | ActionFailed
    | Adopted
    | SandboxDied
    | SandboxLost
)
