"""Every error podvisor raises on purpose, and the one table that maps each to an exit code.

    PodvisorError
    ├── ManifestError       you: the manifest or podvisor.toml is refused; nothing was started
    ├── UsageError          you: the command line, or a platform that cannot run containers
    └── NodeError           us or the machine: the node cannot be started or reached

Callers catch at the level they care about; the command line turns the class into an exit code
by `exit_code` and prints `str(error)`. Outcomes of containers are not errors: they are facts and
travel in pod statuses.
"""

from __future__ import annotations

import enum


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

    exit_code: ExitCode = ExitCode.NODE


class ManifestError(PodvisorError):
    """A manifest or podvisor.toml is refused. The message lists every problem, one a line."""

    exit_code = ExitCode.REFUSED


class UsageError(PodvisorError):
    """The command line asks for something impossible, or this platform cannot do it."""

    exit_code = ExitCode.USAGE


class NodeError(PodvisorError):
    """The node cannot be started, or was lost: a launcher that does not answer, no disk."""

    exit_code = ExitCode.NODE
