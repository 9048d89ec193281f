"""A pod out of a command line: `podvisor run --name web -- CMD ARGS`.

It is the manifest that one would have written, so that `--dry-run` can print it and the rules of
manifests hold for it. What they say is said as a mistake of the command line.
"""

from __future__ import annotations

import os
from typing import Any

from msgspec.structs import replace

from supervisor.api import validation
from supervisor.api.problems import Severity
from supervisor.errors import UsageError
from supervisor.project import manifests


def manifest(
    name: str, argv: list[str], restart: str, ports: list[int], env: list[str], image: str
) -> dict[str, Any]:
    """As plain data. Raises UsageError."""
    if not argv or not argv[0]:
        raise UsageError("cannot run a command: there is none after --")
    if not name:
        raise UsageError("cannot run a command without --name, which its pod gets")
    variables = []
    for each in env:
        variable, equals, value = each.partition("=")
        if not equals:
            raise UsageError(f"cannot use --env {each!r}: must be NAME=VALUE")
        variables.append({"name": variable, "value": value})
    container: dict[str, Any] = {"command": argv}
    container |= {"env": variables} if variables else {}
    container |= {"image": image} if image else {}
    container["name"] = name
    container |= {"ports": [{"containerPort": port} for port in ports]} if ports else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"labels": {"run": name}, "name": name},
        "spec": {"containers": [container], "restartPolicy": restart},
    }


def load(data: dict[str, Any]) -> manifests.Loaded:
    """The pod, started in the current folder. Raises UsageError."""
    pod, findings = validation.admit(data)
    for finding in findings:
        if finding.severity is Severity.ERROR:
            raise UsageError(f"cannot make a pod of this command line: {finding}")
    assert pod is not None
    here = manifests.load([])  # no file, but what is wrong with podvisor.toml
    return replace(here, pods=(manifests.LoadedPod(pod, "", os.getcwd(), here.project),))
