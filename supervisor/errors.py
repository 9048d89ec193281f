"""Every error podvisor raises on purpose, and the one table that maps each to an exit code.

    PodvisorError
    ├── ManifestError       you: the manifest or podvisor.toml is refused; nothing was started
    ├── UsageError          you: the command line, or a platform that cannot run containers
    ├── NodeError           us or the machine: the node cannot be started or reached
    ├── StatusError         a node's API refuses a request
    └── PodError            a pod did not do what was waited for, or cannot do what was asked for
        ├── PodFailed       it has ended, or can never get there any more
        └── PodTimeout      it has not got there in time; a TimeoutError, too

Callers catch at the level they care about; the command line turns the class into an exit code
by `code` and prints `str(error)`. Outcomes of containers are not errors: they are facts and
travel in pod statuses. Only who embeds podvisor and waits for a pod is told by a PodError.
"""

from __future__ import annotations

import enum
from typing import Any


class ExitCode(enum.IntEnum):
    """Exit codes of the command line; a container's own code is passed through only where said."""

    OK = 0  # all pods Succeeded, or what was asked is true
    NEGATIVE = 1  # a pod Failed, or a verdict is negative
    USAGE = 2  # usage or platform
    REFUSED = 3  # manifest or config refused; nothing was started
    NODE = 4  # the node cannot be reached or started
    BUG = 70  # our own bug
    ITSELF = 125  # podvisor failed itself, where a container's code is passed through
    HANGUP = 129
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    TERMINATED = 143


class PodvisorError(Exception):
    """Base of all errors raised on purpose. The message starts with what cannot be done."""

    code: ExitCode = ExitCode.NODE


class ManifestError(PodvisorError):
    """A manifest or podvisor.toml is refused. The message lists every problem, one a line."""

    code = ExitCode.REFUSED


class UsageError(PodvisorError):
    """The command line asks for something impossible, or this platform cannot do it."""

    code = ExitCode.USAGE


class NodeError(PodvisorError):
    """The node cannot be started, or was lost: a launcher that does not answer, no disk."""

    code = ExitCode.NODE


class StatusError(PodvisorError):
    """A node's API has refused a request; the message is what kubectl prints.

    `status` is the Status object, `reason` and `http` its reason and code.
    """

    def __init__(self, status: dict[str, Any]) -> None:
        self.status = status
        self.reason: str = status.get("reason") or ""
        self.http: int = status.get("code") or 0
        self.code = ExitCode.REFUSED if self.reason == "Invalid" else ExitCode.NEGATIVE
        super().__init__(self._text())

    @property
    def is_expired(self) -> bool:
        """Whether a watch was to begin too long ago: what is there is to be listed again."""
        return self.http == 410

    @property
    def details(self) -> dict[str, Any]:
        return self.status.get("details") or {}

    def _text(self) -> str:
        message = self.status.get("message") or "unknown"
        if self.reason != "Invalid" or not self.details:
            of = f" ({self.reason})" if self.reason else ""
            return f"Error from server{of}: {message}"
        kind, name = self.details.get("kind", ""), self.details.get("name", "")
        subject = f'The {kind} "{name}" is invalid' if kind or name else "The request is invalid"
        causes = list(
            dict.fromkeys(
                f"{field}: {cause.get('message', '')}" if field else cause.get("message", "")
                for cause in self.details.get("causes") or ()
                for field in [cause.get("field")]
            )
        )
        if not causes:
            return subject if kind or name else f"{subject}: {message}"
        if len(causes) == 1:
            return f"{subject}: {causes[0]}"
        return "\n".join([f"{subject}:", *(f"* {cause}" for cause in causes)])


class PodError(PodvisorError):
    """What was asked of a pod, or waited for, is not so; the message says all that helps.

    `pod` is its name; `container`, `exit_code` and `reason` those of the container that tells most
    about it, as in its ContainerStatus. `events` are the pod's last ones, `log_lines` the last ones
    of that container, both oldest first.
    """

    code = ExitCode.NEGATIVE

    def __init__(
        self,
        message: str,
        *,
        pod: str = "",
        container: str = "",
        exit_code: int | None = None,
        reason: str = "",
        events: tuple[str, ...] = (),
        log_lines: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.pod = pod
        self.container = container
        self.exit_code = exit_code
        self.reason = reason
        self.events = events
        self.log_lines = log_lines

    def __str__(self) -> str:
        lines = [super().__str__()]
        if self.events:
            lines += ["events:", *(f"  {event}" for event in self.events)]
        if self.log_lines:
            lines += [f"last lines of {self.container}:", *(f"  {line}" for line in self.log_lines)]
        return "\n".join(lines)


class PodFailed(PodError):  # noqa: N818  a state of pods, by its Kubernetes name
    """The pod has ended, or is ending, so that what was waited for can never be."""


class PodTimeout(PodError, TimeoutError):  # noqa: N818  as above
    """The pod did not get there in the time given; it goes on."""


def causes_of(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """What a nest of task groups has wrapped."""
    causes = list[BaseException]()
    for each in group.exceptions:
        causes += causes_of(each) if isinstance(each, BaseExceptionGroup) else [each]
    return causes
