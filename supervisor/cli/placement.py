"""Where a durable node lives: what of this machine could take its containers away from it.

`serve` says it when it begins, `doctor` when it is asked. Nothing is decided or changed here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

_CGROUPS = "/sys/fs/cgroup"


def boot_id() -> str:
    """Of the machine's present life: another one after each reboot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def warnings(cgroup_file: str = "/proc/self/cgroup", root: str = _CGROUPS) -> Iterator[str]:
    """Who might end the containers together with this process, and what to do about it."""
    try:
        with open(cgroup_file, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    path = next((line.split(":", 2)[2] for line in lines if line.startswith("0::")), "")
    unit = os.path.basename(path)
    if unit.endswith(".service") and not unit.startswith("user@") and not _delegated(root + path):
        yield (
            f"this process is in the unit {unit}, which systemd empties when it stops: "
            "set KillMode=process and Delegate=yes in it, or the containers end with it"
        )
    elif unit.startswith("session-") and unit.endswith(".scope"):
        yield (
            f"this process is in the login session {unit}: where logind has KillUserProcesses=yes, "
            "the containers end with it; `systemd-run --user --scope` or a unit keeps them"
        )


def _delegated(cgroup: str) -> bool:
    """Whether systemd leaves what is below to us: it marks such cgroups."""
    for name in ("user.delegate", "trusted.delegate"):
        try:
            if os.getxattr(cgroup, name) == b"1":
                return True
        except OSError:
            pass
    return False
