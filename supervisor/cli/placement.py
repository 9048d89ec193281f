"""Where a durable node lives: what of this machine could take its containers away from it.

`serve` says it when it begins, `doctor` when it is asked. Nothing is decided or changed here.
"""

from __future__ import annotations

import os

from msgspec import Struct

_CGROUPS = "/sys/fs/cgroup"


class Placement(Struct, frozen=True, rename="camel"):
    """The systemd unit or login session of this process."""

    unit: str = ""  # empty if none
    delegated: bool = False  # systemd leaves what is below it to us


def look(cgroup_file: str = "/proc/self/cgroup", root: str = _CGROUPS) -> Placement:
    """Where this process is."""
    try:
        with open(cgroup_file, encoding="utf-8", errors="replace") as file:
            path = cgroup_of(file.read())
    except OSError:
        return Placement()
    last = path.rpartition("/")[2]
    if last.endswith(".service") or (last.endswith(".scope") and last != "init.scope"):
        return Placement(unit=last, delegated=_delegated(root + path))
    return Placement()


def cgroup_of(text: str) -> str:
    """The cgroup that systemd has put a process into, from its /proc/PID/cgroup."""
    for line in text.splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if (hierarchy == "0" or controllers == "name=systemd") and path != "/":
            return path
    return ""


def warning(place: Placement) -> str | None:
    """Who might end the containers of a durable node with it, and what to do about it."""
    if place.unit.endswith(".service") and not place.delegated:
        return (
            f"this process is in the unit {place.unit}, which systemd empties when it stops: "
            "set KillMode=process and Delegate=yes in it, or the containers end with it"
        )
    if place.unit.startswith("session-"):
        return (
            f"this process is in the login session {place.unit}: where logind has "
            "KillUserProcesses=yes, the containers end with it; `systemd-run --user --scope` or a "
            "unit keeps them"
        )
    return None


def _delegated(cgroup: str) -> bool:
    """Whether systemd leaves what is below to us: it marks such cgroups."""
    for name in ("user.delegate", "trusted.delegate"):
        try:
            if os.getxattr(cgroup, name) == b"1":
                return True
        except OSError:
            pass
    return False
