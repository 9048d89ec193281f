"""One `podvisor run` on a terminal of its own, one end of it at a random moment, and the verdict.

podvisor leads a session whose controlling terminal is a real pty, in the foreground. Ctrl-C is the
byte 3 written to the other side, so that the kernel sends SIGINT to the foreground process group
as it does for a person. How far podvisor has come is recognised from outside: by what it has
printed, by its signal mask (blocked from our first line on) and by its children in /proc.

This process is a sub-reaper meanwhile: what podvisor leaves behind comes to us and is seen.
"""

from __future__ import annotations

import ctypes
import enum
import os
import pathlib
import random
import re
import select
import shutil
import signal
import sys
import tempfile
import termios
import time
from contextlib import suppress

from msgspec import Struct

PODVISOR = str(pathlib.Path(sys.executable).parent / "podvisor")
GRACE = 2.0
# Of machines that have much else to do; who waits for something that does not come waits longer.
SLACK = 12.0  # how much longer than the grace an end may take
_HANG = 60.0
_GONE = 15.0  # seconds until what is left counts as left behind
_SUBREAPER = 36

# Everything that can be waited for: an init container, a sidecar, an app deaf to SIGTERM, an app
# that crashes again and again.
_LONG = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 2
  initContainers:
  - name: prepare
    command: [sh, -c, "trap 'exit 1' TERM; echo preparing; sleep 0.4 & wait"]
  - name: side
    restartPolicy: Always
    command: [sh, -c, "trap 'exit 0' TERM; while :; do echo tick; sleep 0.05; done"]
  containers:
  - {name: deaf, command: [sh, -c, "trap '' TERM; while :; do sleep 0.2; done"]}
  - {name: crash, command: [sh, -c, "sleep 0.3; exit 3"]}
"""
# Ends by itself; its sidecar keeps it terminating for the whole grace.
_STUBBORN = """
apiVersion: v1
kind: Pod
metadata: {name: job}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 2
  initContainers:
  - name: side
    restartPolicy: Always
    command: [sh, -c, "trap '' TERM; while :; do echo tick; sleep 0.1; done"]
  containers:
  - {name: app, command: [sh, -c, "echo hello; sleep 0.1"]}
"""
# Ends by itself, at once.
_SHORT = """
apiVersion: v1
kind: Pod
metadata: {name: job}
spec:
  restartPolicy: Never
  containers:
  - {name: app, command: [echo, hello]}
"""


class Phase(enum.StrEnum):
    """How far a run has come, in order."""

    INTERPRETER = "Python's own start"  # before any line of ours
    START = "Python start"  # from our first line on
    HANDSHAKE = "launcher handshake"
    INIT = "init"
    RUNNING = "running"
    BACK_OFF = "back-off"
    TERMINATION = "termination"
    FINAL = "final table"
    ENDED = "ended"


class How(enum.StrEnum):
    """In which way a run is ended."""

    CTRL_C = "Ctrl-C"
    HANGUP = "terminal closed"
    SIGHUP = "SIGHUP to podvisor"
    SIGTERM = "SIGTERM to podvisor"
    READER = "reader of stdout gone"


_CODES = {
    How.CTRL_C: 130,
    How.HANGUP: 129,
    How.SIGHUP: 129,
    How.SIGTERM: 143,
    How.READER: 141,
}
_SIGNALS = {
    How.CTRL_C: signal.SIGINT,
    How.HANGUP: signal.SIGHUP,
    How.SIGHUP: signal.SIGHUP,
    How.SIGTERM: signal.SIGTERM,
}
# Which pod gets into a phase, and about how long it stays there.
_PODS = {Phase.TERMINATION: _STUBBORN, Phase.FINAL: _SHORT}
_SPANS = {
    Phase.INTERPRETER: 0.02,
    Phase.START: 0.08,
    Phase.HANDSHAKE: 0.10,
    Phase.INIT: 0.4,
    Phase.RUNNING: 0.25,
    Phase.BACK_OFF: 1.0,
    Phase.TERMINATION: 1.9,
    Phase.FINAL: 0.03,
}


class Trial(Struct, frozen=True, kw_only=True):
    """When and how one run is ended."""

    how: How
    phase: Phase
    delay: float  # after the beginning of the phase
    gaps: tuple[float, ...] = ()  # between further presses
    isolation: str = "auto"


def random_trial(how: How, phase: Phase, presses: int, luck: random.Random) -> Trial:
    gaps = tuple(luck.uniform(0, 1.5) for _ in range(presses - 1))
    return Trial(how=how, phase=phase, delay=luck.uniform(0, _SPANS[phase]), gaps=gaps)


class Result(Struct, kw_only=True):
    """What came of a trial. No `failures`: all is well."""

    trial: Trial
    phases: list[Phase]  # at each press; ENDED for one that came too late
    handler: bool = False  # Python's own SIGINT handler was the one in place at the first press
    taken: float = 0.0  # from the first press to the end
    status: int = 0  # exit code, or minus the signal that killed it
    start_up_traceback: bool = False  # printed by Python before any line of ours
    swallowed: bool = False  # by Python, before any line of ours: it went on, and was told again
    failures: list[str] = []
    output: str = ""


def be_subreaper() -> None:
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def run(trial: Trial) -> Result:
    """Run podvisor once. Needs `be_subreaper` before, and no other children being made."""
    folder = tempfile.mkdtemp(prefix="podvisor-torture-")
    try:
        return _Run(trial, folder).run()
    finally:
        shutil.rmtree(folder)


class _Run:
    def __init__(self, trial: Trial, folder: str) -> None:
        self.trial = trial
        self.tmp = os.path.join(folder, "tmp")
        os.mkdir(self.tmp)
        self.manifest = os.path.join(folder, "pod.yaml")
        with open(self.manifest, "w") as file:
            file.write(_PODS.get(trial.phase, _LONG))
        self.others = set(_children("self"))
        self.pipe = -1  # our end of its stdout, when that is no terminal
        self.output = b""
        self.parsed = 0
        self.begun = Phase.INTERPRETER
        self.said: Phase | None = None
        self.pressed: list[float] = []
        self.decided = False  # the pods had ended or were ending when the first press came
        self.result = Result(trial=trial, phases=[])

    def run(self) -> Result:
        self.spawn()
        try:
            self.watch()
            _, status = os.waitpid(self.pid, 0)
            self.result.taken = time.monotonic() - self.pressed[0] if self.pressed else 0.0
            self.read_rest()
        finally:
            for fd in (self.master, self.pipe, self.pidfd):
                if fd >= 0:
                    os.close(fd)
        self.result.status = os.waitstatus_to_exitcode(status)
        self.judge()
        return self.result

    def spawn(self) -> None:
        self.master, slave = os.openpty()
        attributes = termios.tcgetattr(slave)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        # A session leader that opens a terminal gets it as its controlling one.
        actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
            (os.POSIX_SPAWN_OPEN, 0, os.ttyname(slave), os.O_RDWR, 0),
            (os.POSIX_SPAWN_DUP2, 0, 1),
            (os.POSIX_SPAWN_DUP2, 0, 2),
        ]
        stdout = -1
        if self.trial.how is How.READER:
            self.pipe, stdout = os.pipe()
            actions.append((os.POSIX_SPAWN_DUP2, stdout, 1))
        env = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "PYTHON"))}
        command = [PODVISOR, "run", self.manifest, "--backoff-initial", "1s"]
        command += ["--isolation", self.trial.isolation]
        self.pid = os.posix_spawn(
            command[0],
            command,
            env | {"TMPDIR": self.tmp},
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE],
        )
        self.spawned = time.monotonic()
        self.pidfd = os.pidfd_open(self.pid)
        os.close(slave)
        if stdout >= 0:
            os.close(stdout)

    # --- what it does, seen from outside -------------------------------------------------------

    def watch(self) -> None:
        """Read what it prints and press when it is time to, until it ends."""
        due: float | None = None
        gaps = list(self.trial.gaps)
        while True:
            now = time.monotonic()
            if due is None and not self.pressed and self.reached(self.trial.phase):
                due = now + self.trial.delay
            if due is not None and now >= due:
                self.press()
                due = time.monotonic() + gaps.pop(0) if gaps else None
            if self.said is Phase.RUNNING and self.was_swallowed():
                self.result.swallowed = True
                self.pressed.clear()
                self.press()
            if now - self.spawned > _HANG:
                self.fail(f"still there after {_HANG:.0f} s")
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            wait = 0.0005 if self.said is None and not self.pressed else 0.02
            if due is not None:
                wait = min(wait, max(0.0, due - time.monotonic()))
            if self.read(wait):
                break
        if due is not None:
            self.result.phases.append(Phase.ENDED)

    def read(self, wait: float) -> bool:
        """Take what it has printed; return whether it has ended."""
        poller = select.poll()
        for fd in (self.master, self.pipe, self.pidfd):
            if fd >= 0:
                poller.register(fd, select.POLLIN)
        ready = dict(poller.poll(wait * 1000))
        for fd in (self.master, self.pipe):
            if fd in ready:
                with suppress(OSError):  # EIO: nobody holds the other side any more
                    self.take(os.read(fd, 65536), shown=fd == self.master)
        return self.pidfd in ready

    def read_rest(self) -> None:
        for fd in (self.master, self.pipe):
            if fd < 0:
                continue
            os.set_blocking(fd, False)
            with suppress(OSError):
                while data := os.read(fd, 65536):
                    self.take(data, shown=fd == self.master)

    def take(self, data: bytes, *, shown: bool) -> None:
        if not shown:  # only what podvisor itself says tells how far it is
            return
        self.output += data
        whole = self.output.rfind(b"\n") + 1
        lines = re.sub(rb"\x1b\[[0-9;]*m", b"", self.output[self.parsed : whole]).decode()
        self.parsed = whole
        for line in lines.splitlines():
            if match := re.match(r"(\S+)\s+\* (.*)", line):
                self.hear(*match.groups())

    def hear(self, label: str, text: str) -> None:
        if text in ("Succeeded", "Failed"):
            self.said = Phase.FINAL
        elif text.startswith(("stopping, grace", "all app containers have ended")):
            self.said = Phase.TERMINATION
        elif self.said in (Phase.TERMINATION, Phase.FINAL):
            pass
        elif text.startswith("CrashLoopBackOff"):
            self.said = Phase.BACK_OFF
        elif text == "Running" or text.startswith("started, restart"):
            self.said = Phase.RUNNING
        elif label.endswith("/prepare") and text == "started":
            self.said = Phase.INIT
        elif self.said is None and text == "started":
            self.said = Phase.RUNNING  # a pod without an init container to wait for

    def now_in(self) -> Phase:
        if self.said is not None:
            return self.said
        if _children(self.pid):
            self.begun = Phase.HANDSHAKE
        elif self.begun is Phase.INTERPRETER and _signal_masks(self.pid)[0]:
            self.begun = Phase.START
        return self.begun

    def reached(self, phase: Phase) -> bool:
        order = list(Phase)
        return phase is Phase.INTERPRETER or order.index(self.now_in()) >= order.index(phase)

    def was_swallowed(self) -> bool:
        """Python's handler raises wherever it is; some callbacks print that and go on."""
        first = self.result.phases[:1] == [Phase.INTERPRETER] and not self.trial.gaps
        return first and not self.result.swallowed and b"KeyboardInterrupt" in self.output

    def press(self) -> None:
        phase = self.now_in()
        if not self.result.phases:
            self.result.handler = phase is Phase.INTERPRETER and _signal_masks(self.pid)[1]
            self.decided = phase in (Phase.TERMINATION, Phase.FINAL)
        if select.select([self.pidfd], [], [], 0)[0]:
            phase = Phase.ENDED
        self.result.phases.append(phase)
        self.pressed.append(time.monotonic())
        how = self.trial.how
        if how is How.CTRL_C:
            os.write(self.master, b"\x03")
        elif how is How.HANGUP:
            os.close(self.master)
            self.master = -1
        elif how is How.READER:
            os.close(self.pipe)
            self.pipe = -1
        else:
            signal.pidfd_send_signal(self.pidfd, _SIGNALS[how])

    # --- the verdict ---------------------------------------------------------------------------

    def judge(self) -> None:
        result, how = self.result, self.trial.how
        result.output = self.output.decode(errors="replace")
        killed_early = Phase.INTERPRETER in result.phases and how in _SIGNALS
        words = ("Traceback", "Fatal Python error", "Exception ignored", "bug of podvisor")
        words += ("KeyboardInterrupt",)
        if any(word in result.output for word in words):
            its_own = ("KeyboardInterrupt", "Fatal Python error: init_")
            if killed_early and any(word in result.output for word in its_own):
                result.start_up_traceback = True
            else:
                self.fail("a traceback")
        right = {_CODES[how]}
        if self.decided or result.phases[0] is Phase.ENDED:
            right |= {0, 1}
        if killed_early:
            right.add(-_SIGNALS[how])
        # Python gives up with 1 when it is interrupted while it sets itself up.
        if result.status not in right and not (result.start_up_traceback and result.status == 1):
            self.fail(f"exit code {result.status} instead of {sorted(right)}")
        if result.taken > GRACE + SLACK:
            self.fail(f"took {result.taken:.1f} s")
        self.look_for_processes()
        left = [os.path.join(p, f) for p, ds, fs in os.walk(self.tmp) for f in (*ds, *fs)]
        if left:
            self.fail(f"files are left: {left}")

    def look_for_processes(self) -> None:
        deadline = time.monotonic() + _GONE
        while left := self.strays():
            if time.monotonic() > deadline:
                self.fail(f"processes are left: {[_command(pid) for pid in left]}")
                while left := self.strays():
                    for pid in left:
                        os.kill(pid, signal.SIGKILL)
                    time.sleep(0.01)
                return
            time.sleep(0.005)

    def strays(self) -> list[int]:
        """Who has come to us, its sub-reaper, and has not ended."""
        for pid in set(_children("self")) - self.others:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        return sorted(set(_children("self")) - self.others)

    def fail(self, text: str) -> None:
        self.result.failures = [*self.result.failures, text]


def _children(pid: int | str) -> list[int]:
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
        return [
            int(word)
            for task in tasks
            for word in pathlib.Path(f"/proc/{pid}/task/{task}/children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _signal_masks(pid: int) -> tuple[bool, bool]:
    """Whether the process blocks SIGINT, and whether it has a handler for it."""
    bit = 1 << (signal.SIGINT - 1)
    try:
        text = pathlib.Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False, False
    masks = dict(re.findall(r"^(SigBlk|SigCgt):\s*(\w+)$", text, re.MULTILINE))
    if len(masks) < 2:
        return False, False
    return bool(int(masks["SigBlk"], 16) & bit), bool(int(masks["SigCgt"], 16) & bit)


def _command(pid: int) -> str:
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return f"pid {pid}"
