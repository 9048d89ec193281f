"""Places where a test can make the node die, stop or be slow; nothing when none is armed.

PODVISOR_FAILPOINTS arms them, separated by commas:

    NAME[@KIND]=ACTION[:NTH]      before-commit@StartContainer=kill:3

`NAME` is one of those that the code passes to `hit`, `KIND` the kind of action that is going on
there, any if none is given. The ACTION is done once, when the place is reached for the NTH time:
`kill` (SIGKILL to ourselves), `stop` (SIGSTOP), or a number of milliseconds to sleep. Where
PODVISOR_FAILPOINTS_LOG names a file, each action that is about to be done is written there first,
so that a test knows what was hit although nobody lives to tell. The launcher, which stands alone,
has the same for its own places.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable

_ANY = ""


def _parse(text: str) -> dict[tuple[str, str], list[str | int]]:
    """By place and kind: the action, and how often the place is still to be reached."""
    armed: dict[tuple[str, str], list[str | int]] = {}
    for entry in filter(None, text.split(",")):
        place, _, what = entry.partition("=")
        name, _, kind = place.partition("@")
        action, _, nth = what.partition(":")
        armed[name, kind or _ANY] = [action, int(nth or 1)]
    return armed


_ARMED = _parse(os.environ.get("PODVISOR_FAILPOINTS", ""))


def hit(name: str, kinds: Iterable[str] = ()) -> None:
    """The code has come to this place, with these kinds of action going on."""
    if not _ARMED:
        return
    for kind in (_ANY, *dict.fromkeys(kinds)):
        entry = _ARMED.get((name, kind))
        if entry is None:
            continue
        action, left = entry
        assert isinstance(left, int)
        entry[1] = left - 1
        if entry[1] == 0:
            _do(name, kind, str(action))


def _do(name: str, kind: str, action: str) -> None:
    log = os.environ.get("PODVISOR_FAILPOINTS_LOG")
    if log:
        fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        os.write(fd, f"{name} {kind or '-'} {action} {os.getpid()}\n".encode())
        os.close(fd)
    match action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case _:
            time.sleep(int(action) / 1000)
