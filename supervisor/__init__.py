"""podvisor: run Kubernetes Pod manifests as plain local processes.

The public names of the package. Importing it costs next to nothing: what is behind a name is
imported when the name is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor._version import __version__

if TYPE_CHECKING:
    from supervisor.embed import (
        ContainerEnd,
        ContainerView,
        ExecResult,
        LogLine,
        PodHandle,
        Supervisor,
        Termination,
    )
    from supervisor.errors import (
        ManifestError,
        NodeError,
        PodError,
        PodFailed,
        PodTimeout,
        PodvisorError,
        UsageError,
    )

__all__ = (
    "ContainerEnd",
    "ContainerView",
    "ExecResult",
    "LogLine",
    "ManifestError",
    "NodeError",
    "PodError",
    "PodFailed",
    "PodHandle",
    "PodTimeout",
    "PodvisorError",
    "Supervisor",
    "Termination",
    "UsageError",
    "__version__",
)


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from supervisor import embed, errors

    return getattr(errors, name) if hasattr(errors, name) else getattr(embed, name)
