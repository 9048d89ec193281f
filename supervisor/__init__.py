"""podvisor: run Kubernetes Pod manifests as plain local processes.

The public names of the package. Importing it costs next to nothing: what is behind a name is
imported when the name is used.
"""

from supervisor._version import __version__

__all__ = ("__version__",)
