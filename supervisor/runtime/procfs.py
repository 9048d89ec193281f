"""What /proc tells about a process: why it does not stop, and who holds a port.

Most programs that seem to hang at shutdown never get the signal at all: the main process of a
container is pid 1 of its namespace, and the kernel drops every signal for which a pid 1 has no
handler. `explain_deaf` says so in words, from what the kernel shows; it never guesses from names.

All pids here are those of the host. Everything may vanish while it is looked at: a process that
is gone, or that this user may not look into, gives None, never an error.
"""

from __future__ import annotations

import os
import signal as signals
import socket
import sys
import time
from collections.abc import Iterable

from msgspec import Struct

from supervisor.runtime.cri import veil

_LOOKS, _BETWEEN_LOOKS = 10, 0.003  # seconds, at what may last only for the moment
_COMMAND_WIDTH = 40  # characters of a command line in a sentence


class SignalDisposition(Struct, frozen=True):
    """What a process does with signals, by number. What is in no set has the default action."""

    caught: frozenset[int]  # it has a handler
    ignored: frozenset[int]
    blocked: frozenset[int]  # by every thread of it: nobody there to take the signal
    pending: frozenset[int]  # sent to the process and not taken yet

    def of(self, signum: int) -> str:
        """ "blocked", "ignored", "caught" or "default"; a blocked signal may be any of them too."""
        if signum in self.blocked:
            return "blocked"
        if signum in self.ignored:
            return "ignored"
        return "caught" if signum in self.caught else "default"


class PortHolder(Struct, frozen=True):
    """A process that has a port of this host open."""

    uid: int  # of the socket's owner, always known
    pid: int | None = None  # None: a process of another user, which only root may look into
    command: str = ""  # shortened as by `command_line`; empty without a pid


def signal_disposition(pid: int) -> SignalDisposition | None:
    """What the process does with each signal; None when it is gone."""
    status = _status(f"/proc/{pid}/status")
    if status is None:
        return None
    # Blocking is a matter of each thread: a signal for the process goes to any that takes it.
    blocked = _signal_set(status.get("SigBlk", "0"))
    if blocked:
        try:
            threads = os.listdir(f"/proc/{pid}/task")
        except OSError:
            return None
        for thread in threads:
            if (of_thread := _status(f"/proc/{pid}/task/{thread}/status")) is not None:
                blocked &= _signal_set(of_thread.get("SigBlk", "0"))
    return SignalDisposition(
        caught=_signal_set(status.get("SigCgt", "0")),
        ignored=_signal_set(status.get("SigIgn", "0")),
        blocked=blocked,
        pending=_signal_set(status.get("ShdPnd", "0")) | _signal_set(status.get("SigPnd", "0")),
    )


def explain_deaf(
    pid: int, signal: int, *, is_pid1: bool, secrets: Iterable[str] = ()
) -> str | None:
    """Why this main process still lives although it was sent `signal`; None if nothing is known.

    `is_pid1`: it is the first process of its own pid namespace, which it then calls itself.
    `secrets`: what is not shown of its command.
    """
    status = _status(f"/proc/{pid}/status")
    disposition = _lasting_disposition(pid, signal)
    if status is None or disposition is None:
        return None
    state = status.get("State", "")[:1]
    if state in "ZX":
        return None
    name = signals.Signals(signal).name if signal in set(signals.Signals) else f"signal {signal}"
    number = "pid 1" if is_pid1 else f"process {pid}"
    who = f"{number} `{command_line(pid, secrets)}`"
    match disposition.of(signal):
        # First what throws the signal away at once, then what keeps it waiting.
        case "default" if is_pid1:
            return f"{who} has no {name} handler, so the kernel drops it"
        case "ignored":
            return f"{who} ignores {name}"
        case "blocked" if signal in disposition.pending:
            return f"{who} blocks {name}"
        case _ if state in "Tt":
            return f"{who} is stopped (state {state}), so {name} waits"
        case "blocked":
            # Taken without a handler: sigwait or a signalfd.
            return f"{who} has taken {name} and is still working"
        case "caught" if signal in disposition.pending:
            return f"{who} has a {name} handler that has not run yet"
        case "caught":
            return f"{who} has a {name} handler and is still working"
        case _:
            return None


def _lasting_disposition(pid: int, signal: int) -> SignalDisposition | None:
    """Shells block everything around a fork, and wait for its end where no signal reaches them:
    who seems to have taken a signal without a handler while he is busy is looked at again."""
    for _ in range(_LOOKS):
        disposition = signal_disposition(pid)
        if disposition is None or disposition.of(signal) != "blocked":
            break
        status = _status(f"/proc/{pid}/status") or {}
        if signal in disposition.pending or status.get("State", "")[:1] not in "RD":
            break
        time.sleep(_BETWEEN_LOOKS)
    return disposition


def command_line(pid: int, secrets: Iterable[str] = ()) -> str:
    """The command of a process in a few words: ``sh -c …``; its kernel name if it has no words."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(4096).decode(errors="replace").split("\0")[:-1]
        if not words:
            with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                return file.read().strip()
    except OSError:
        return ""
    secrets = tuple(secrets)
    return shorten([veil(word, secrets) for word in words])


def shorten(words: list[str]) -> str:
    """A command line for use inside a sentence: no path before the program, no scripts."""
    shown = os.path.basename(words[0]) if words else ""
    if not shown.isprintable() or len(shown) > _COMMAND_WIDTH:
        shown = shown[:16].encode("unicode_escape").decode() + "…"
    for word in words[1:]:
        if not word or " " in word or not word.isprintable():
            return f"{shown} …"
        if len(shown) + 1 + len(word) > _COMMAND_WIDTH:
            return f"{shown} …"
        shown += f" {word}"
    return shown


def port_holder(port: int, protocol: str = "TCP", secrets: Iterable[str] = ()) -> PortHolder | None:
    """Who already has this port of the host open, listening (TCP) or bound (UDP).

    Any local address counts: a program that binds all addresses would collide with each. None
    also for protocols that /proc does not list.
    """
    tables, wanted = {
        "TCP": (("tcp", "tcp6"), "0A"),  # LISTEN
        "UDP": (("udp", "udp6"), "07"),  # UDP sockets without a peer
    }.get(protocol.upper(), ((), ""))
    uids: dict[str, int] = {}  # inode of the socket -> owner
    for table in tables:
        try:
            with open(f"/proc/net/{table}", encoding="ascii") as file:
                lines = file.readlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, local, _, state, _, _, _, uid, _, inode, *_ = line.split()
            if state == wanted and int(local.rpartition(":")[2], 16) == port:
                uids[inode] = int(uid)
    if not uids:
        return None
    sockets = {f"socket:[{inode}]" for inode in uids}
    for pid in _pids():
        if (held := _holds(pid, sockets)) is not None:
            inode = held[len("socket:[") : -1]
            return PortHolder(uids[inode], pid, command_line(pid, secrets))
    return PortHolder(next(iter(uids.values())))


def listening(pid: int) -> list[tuple[str, int]]:
    """(address, port) of each TCP socket that this process or one below it listens at."""
    places: dict[str, tuple[str, int]] = {}  # by descriptor target
    for table in ("tcp", "tcp6"):
        try:
            with open(f"/proc/{pid}/net/{table}", encoding="ascii") as file:
                lines = file.readlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, local, _, state, _, _, _, _, _, inode, *_ = line.split()
            if state == "0A":  # LISTEN
                address, _, port = local.partition(":")
                places[f"socket:[{inode}]"] = (_address(address), int(port, 16))
    found: dict[tuple[str, int], None] = {}
    for member in tree(pid):
        for link, place in places.items():
            if place not in found and _holds(member, {link}) is not None:
                found[place] = None
    return list(found)


def tree(pid: int) -> list[int]:
    """The process and all below it, parents first."""
    family = [pid]
    for member in family:
        family += children(member)
    return family


def _address(text: str) -> str:
    """`0100007F` is 127.0.0.1: words of four bytes, each in the machine's order."""
    raw = bytes.fromhex(text)
    words = [raw[i : i + 4] for i in range(0, len(raw), 4)]
    if sys.byteorder == "little":
        words = [word[::-1] for word in words]
    family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
    return socket.inet_ntop(family, b"".join(words))


def children(pid: int) -> list[int]:
    """Of all threads of a process; also those that it has not waited for yet."""
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                found += map(int, file.read().split())
    except OSError:  # it has ended meanwhile, or the kernel does not say
        pass
    return found


def _holds(pid: int, links: set[str]) -> str | None:
    """Which of these descriptor targets the process has open, if we may look."""
    directory = f"/proc/{pid}/fd"
    try:
        names = os.listdir(directory)
    except OSError:
        return None
    for name in names:
        try:
            link = os.readlink(f"{directory}/{name}")
        except OSError:
            continue
        if link in links:
            return link
    return None


def _pids() -> list[int]:
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def _status(path: str) -> dict[str, str] | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:  # ESRCH too: it can end between open and read
        return None
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _signal_set(mask: str) -> frozenset[int]:
    bits = int(mask, 16)
    return frozenset(number for number in range(1, 65) if bits >> (number - 1) & 1)
