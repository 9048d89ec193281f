"""What earlier supervisors and launchers have left running, as far as spawn records tell.

The launcher writes a spawn record before a container's program runs, so whatever was started can
be found again by pid, start time and boot id, even if supervisor, launcher and logger were killed
in the same moment. `launch.py` asks here when no launcher can tell.

Reads files and /proc, opens pidfds, kills what it is told to. It decides nothing: whether a
survivor is taken on or ended is up to its caller. A record that cannot be read stands for a
process that is gone: what has a record was started once, whatever became of it.
"""

from __future__ import annotations

import glob
import os
import select
import signal as signals
from collections.abc import Iterator

from msgspec import Struct

from supervisor.lifecycle.facts import ContainerId, Instant
from supervisor.runtime.cri import Isolation

PF_EXITING = 4  # a flag of the kernel's, in /proc/PID/stat
SOME = 8  # members enough that one of them goes on until its user namespace is joined


class Process(Struct, frozen=True):
    """A process that may be gone, and whose pid may belong to another one by now."""

    pid: int
    start: str  # its start time, as in /proc/PID/stat

    def open(self) -> int:
        """A pidfd, also of one that has ended and is not reaped; -1 when it is gone."""
        try:
            pidfd = os.pidfd_open(self.pid)
        except OSError:
            return -1
        if _start_time(self.pid) == self.start:  # looked at while the pidfd was open already
            return pidfd
        os.close(pidfd)
        return -1

    @property
    def lives(self) -> bool:
        pidfd = self.open()
        if pidfd < 0:
            return False
        try:
            return not _has_ended(pidfd)
        finally:
            os.close(pidfd)

    @property
    def has_executed(self) -> bool:
        """It is not a copy of the launcher any more, which may have died without releasing it."""
        try:
            with open(f"/proc/{self.pid}/comm", "rb") as file:
                return file.read() != b"podvisor-launch\n"
        except OSError:
            return False

    @property
    def is_ending(self) -> bool:
        """Nothing can be started in its pid namespace any more, though it is not gone before the
        last process there is reaped."""
        try:
            with open(f"/proc/{self.pid}/stat", "rb") as file:
                flags = int(file.read().rpartition(b")")[2].split()[6])
        except (OSError, IndexError):
            return True
        return bool(flags & PF_EXITING)


class Spawned(Struct, frozen=True):
    """One spawn record."""

    path: str
    id: ContainerId
    main: Process
    boot: str
    mode: str
    at: Instant  # when it was about to run
    logger: str  # the launcher whose logger reads its output
    mark: str  # what that logger calls it
    reaper: Process | None = None  # group mode
    failed: bool = False  # its program could not be executed; the launcher says why if asked

    @property
    def of_this_boot(self) -> bool:
        return self.boot == boot_id()

    @property
    def processes(self) -> tuple[Process, ...]:
        return (self.main,) if self.reaper is None else (self.main, self.reaper)

    @property
    def lives(self) -> bool:
        return self.of_this_boot and any(process.lives for process in self.processes)

    @property
    def has_exit_code(self) -> bool:
        return os.path.exists(f"{self.path.removesuffix('.spawn')}.exit")

    @property
    def has_whole_log(self) -> bool:
        try:
            with open(f"{self.path.removesuffix('.spawn')}.drained", encoding="ascii") as file:
                return file.read().split(" ")[0] == self.mark
        except OSError:
            return False

    def end(self) -> list[int]:
        """Kill it, all that is below it included; return pidfds that tell when it is gone."""
        handles = []
        if self.of_this_boot:
            main = self.main.open()
            reaper = -1 if self.reaper is None else self.reaper.open()
            if self.reaper is not None and (reaper < 0 or _has_ended(reaper)) and main >= 0:
                _end_tree(self.main.pid)  # nobody is there to sweep
            if main >= 0:
                _signal(main, signals.SIGKILL)
            if reaper >= 0:
                _signal(reaper, signals.SIGCONT)  # the container may have stopped it
            handles = [pidfd for pidfd in (main, reaper) if pidfd >= 0]
        return handles

    def end_hard(self) -> None:
        """What a reaper has not swept in time."""
        if self.reaper is not None and self.reaper.lives:
            _end_tree(self.reaper.pid)


def record_path(log_path: str) -> str:
    """Where the launcher writes down what it is about to run."""
    return log_path.removesuffix(".log") + ".spawn"


def read(path: str) -> Spawned | None:
    """The record of an instance; None when there is none: it has never run."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    fields = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)

    def process(words: str) -> Process:
        pid, start = (*words.split(), "", "")[:2]
        return Process(int(pid) if pid.isdigit() else 0, start)

    wall, boot = (*map(float, fields.get("at", "").split()), 0.0, 0.0)[:2]
    attempt = fields.get("attempt", "")
    return Spawned(
        path=path,
        id=ContainerId(
            fields.get("uid", ""), fields.get("name", ""), int(attempt) if attempt.isdigit() else -1
        ),
        main=process(f"{fields.get('pid', '')} {fields.get('start', '')}"),
        boot=fields.get("boot", ""),
        mode=fields.get("mode", ""),
        at=Instant(wall, boot),
        logger=fields.get("logger", ""),
        mark=fields.get("mark", ""),
        reaper=process(fields["reaper"]) if "reaper" in fields else None,
        failed="failed" in fields,
    )


def read_all(state_dir: str) -> Iterator[Spawned]:
    """Every spawn record of a node."""
    for path in glob.iglob("logs/*/*/*.spawn", root_dir=state_dir):
        record = read(os.path.join(state_dir, path))
        if record is not None:
            yield record


def pause_path(state_dir: str, pod_uid: str) -> str:
    """Where the launcher writes down what it is that holds the pid namespace of a pod."""
    return os.path.join(state_dir, "pods", pod_uid, "pause.spawn")


def read_pauses(state_dir: str) -> Iterator[Spawned]:
    """What holds a pid namespace; of their ids, only the pod's uid means anything."""
    for path in glob.iglob("pods/*/pause.spawn", root_dir=state_dir):
        record = read(os.path.join(state_dir, path))
        if record is not None:
            yield record


def find_mode(state_dir: str) -> tuple[Isolation | None, list[int]]:
    """The mode of containers that live, and pidfds of some of them; None when none lives."""
    mode: Isolation | None = None
    members: list[int] = []
    for record in (*read_all(state_dir), *read_pauses(state_dir)):
        if record.mode in set(Isolation) and record.of_this_boot and record.main.lives:
            mode = Isolation(record.mode)
            if len(members) < SOME and (pidfd := record.main.open()) >= 0:
                members.append(pidfd)
    return mode, members


def has_logger(state_dir: str, record: Spawned) -> bool:
    """Whether its output is still read, though the launcher that held the pipes is dead."""
    path = os.path.join(state_dir, "loggers", record.logger)
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            pid, start = (*file.read().split(), "", "")[:2]
    except OSError:  # it ended, for all its pipes did; or it was never there
        return False
    return pid.isdigit() and Process(int(pid), start).lives


def boot_id() -> str:
    """Of the machine's present life: another one after each reboot."""
    global _boot_id
    if not _boot_id:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            _boot_id = file.read().strip()
    return _boot_id


_boot_id = ""


def _start_time(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return ""


def _has_ended(pidfd: int) -> bool:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(0))


def _signal(pidfd: int, signum: int) -> None:
    try:
        signals.pidfd_send_signal(pidfd, signum)
    except OSError:  # it has ended, or may not be signalled
        pass


def _end_tree(pid: int) -> None:
    from supervisor.runtime.launcher import end_tree

    end_tree(pid)
