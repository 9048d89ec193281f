"""Crashes of a durable node: `podvisor serve` is killed again and again while pods come and go.

Each process of the campaign has a node of its own, and is the one who writes manifests into its
folder, kills, starts the node again, and keeps the evidence: trails of what the pods did (pod.sh),
links to their logs, the objects as stored last, and a journal of the kills. It judges nothing but
that things happen in time; checker.py reads the evidence and decides.

A kill is at a failpoint (of supervisor or launcher) or at a random moment. Which failpoint is armed
depends on what was hit least, until the matrix of failpoints and kinds of action is full.
"""

from __future__ import annotations

import argparse
import contextlib
import enum
import json
import os
import pathlib
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from typing import Any

from msgspec import Struct, field

from supervisor.api import codec, v1
from supervisor.errors import NodeError
from supervisor.store import sqlite
from tests.torture.harness import PODVISOR, be_subreaper

_HERE = pathlib.Path(__file__).parent
_SH = str(_HERE / "pod.sh")
CHECKER = str(_HERE / "checker.py")
_SABOTAGED = str(_HERE / "sabotaged.py")
GRACE = 12  # of most pods: more than a campaign's crashes can use up
_STUCK = 90.0  # seconds that a pod may take to end once its file is gone, crashes and all
_TICK = 0.03

_KINDS = (
    "CreateSandbox",
    "StartContainer",
    "StopContainer",
    "KillContainer",
    "RemoveContainers",
    "FinishPod",
    "RunHook-postStart",
    "RunHook-preStop",
)
Cell = tuple[str, str]
# Where a failpoint and a kind of action can meet. An end cannot be acknowledged beside the making
# of the sandbox, which comes before everything that could end; the launcher's places have one kind
# of action each; at a pod's last two steps nothing else goes on.
SUPERVISOR_CELLS: tuple[Cell, ...] = (
    *(("before-commit", kind) for kind in _KINDS),
    *(("after-commit", kind) for kind in _KINDS),
    *(("before-ack", kind) for kind in _KINDS if kind != "CreateSandbox"),
    ("during-hook", "postStart"),
    ("during-hook", "preStop"),
    ("after-terminal", "-"),
    ("after-delete", "-"),
)
LAUNCHER_CELLS: tuple[Cell, ...] = (
    ("after-clone", "StartContainer"),
    ("after-spawn-record", "StartContainer"),
    ("before-release", "StartContainer"),
    ("after-spawn", "StartContainer"),
    ("after-exit-told", "ContainerExited"),
    ("during-exec", "probe"),
    ("during-exec", "postStart"),
    ("during-exec", "preStop"),
)
# In pods that share a pid namespace, which mode group does not have.
SHARED_CELLS: tuple[Cell, ...] = (
    ("after-clone", "CreateSandbox"),
    ("after-spawn-record", "CreateSandbox"),
    ("after-spawn", "CreateSandbox"),
    ("during-join", "StartContainer-shared"),
    ("after-clone", "StartContainer-shared"),
    ("after-spawn-record", "StartContainer-shared"),
    ("before-release", "StartContainer-shared"),
    ("after-spawn", "StartContainer-shared"),
    ("before-kill", "FinishPod"),
    ("after-kill", "FinishPod"),
    ("after-exit-told", "SandboxEnded"),
)
# An end and a SIGKILL meet in one decision only if the supervisor sleeps through both moments.
MET_BY_STALLING = ("before-ack", "KillContainer")
CELLS = SUPERVISOR_CELLS + LAUNCHER_CELLS + SHARED_CELLS


class Plan(enum.StrEnum):
    """How the present life of a node ends."""

    RANDOM = "supervisor, at random"
    FAILPOINT = "supervisor, at a failpoint"
    LAUNCHER_FAILPOINT = "launcher, at a failpoint"
    LAUNCHER = "launcher, at random"
    LOGGER = "logger, at random"
    BOTH = "supervisor and launcher"
    ALL = "supervisor, launcher and logger"
    PAST_DEADLINE = "supervisor, down over a deadline"
    NONE = "nobody"


class Options(Struct, frozen=True, kw_only=True):
    """Of one node."""

    folder: str
    lives: int
    seed: int
    isolation: str = "auto"
    pods: int = 12  # at the same time
    share: int = 1  # hits of each failpoint that this node is to contribute
    kills: int = 0  # of its supervisor at random moments; with them, it goes on for its share
    sabotage: str = ""
    limit: float = 900.0  # seconds after which no new pods are made
    only: tuple[str, ...] = ()  # plans, by name


class Report(Struct, kw_only=True):
    lives: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    cells: Counter[Cell] = field(default_factory=Counter)
    affected: int = 0  # lives that launcher or logger were killed in
    seconds: float = 0.0
    verdict: dict[str, Any] = field(default_factory=dict)


# --- manifests ------------------------------------------------------------------------------------


def _manifest(kind: str, name: str, base: str, port: int, luck: random.Random) -> dict[str, Any]:
    """One pod of this kind."""

    def container(label: str, how: str, *more: object, **others: Any) -> dict[str, Any]:
        words = ["/bin/sh", _SH, "main", label, how, *map(str, more)]
        env = [{"name": "TORTURE", "value": base}, {"name": "POD", "value": name}]
        if shares:
            env.append({"name": "SHARED", "value": "yes"})
        return {"name": label, "command": words, "env": env} | others

    def program(label: str, seconds: float, *more: str) -> dict[str, Any]:
        return {"exec": {"command": ["/bin/sh", _SH, "hook", label, f"{seconds:.2f}", *more]}}

    def request(label: str, seconds: float) -> dict[str, Any]:
        path = f"/{name}/{label}/{seconds:.2f}"
        return {"httpGet": {"host": "127.0.0.1", "port": port, "path": path}}

    def probe(label: str, *more: str, period: int = 1) -> dict[str, Any]:
        command = ["/bin/sh", _SH, "probe", label, *more]
        return {"exec": {"command": command}, "periodSeconds": period, "timeoutSeconds": 10}

    def hooks(post_start: Any = None, pre_stop: Any = None) -> dict[str, Any]:
        known = {"postStart": post_start, "preStop": pre_stop}
        return {"lifecycle": {k: v for k, v in known.items() if v is not None}}

    def span() -> float:
        return luck.uniform(0.05, 0.5)

    shares = kind.startswith("shared")
    spec: dict[str, Any] = {"terminationGracePeriodSeconds": GRACE}
    if shares:
        spec["shareProcessNamespace"] = True
    prepare = container("prepare", "short", "0.1")
    side = container(
        "side", "serve", restartPolicy="Always", **hooks(None, program("side", span()))
    )
    match kind:
        case "service":
            spec["initContainers"] = [prepare, side]
            spec["containers"] = [
                container(
                    "app",
                    "serve",
                    livenessProbe=probe("app"),
                    **hooks(program("app", span()), request("app", span())),
                ),
                container("web", "serve", **hooks(request("web", span()), program("web", span()))),
            ]
        case "shared":
            spec["initContainers"] = [prepare, side]
            spec["containers"] = [
                container(
                    "app",
                    "serve",
                    livenessProbe=probe("app"),
                    **hooks(program("app", span()), request("app", span())),
                ),
                container("web", "wild", f"{luck.uniform(0.2, 1):.2f}"),
            ]
        case "anew" | "shared-anew":
            rule = {"action": "RestartAllContainers", "exitCodes": _WHEN_ANEW}
            spec["initContainers"] = [prepare, side]
            spec["containers"] = [
                container("app", "serve", **hooks(program("app", span()), program("app", span()))),
                container(
                    "web",
                    "anew",
                    f"{luck.uniform(0.1, 0.8):.2f}",
                    restartPolicy="OnFailure",
                    restartPolicyRules=[rule],
                    **hooks(None, request("web", span())),
                ),
            ]
        case "job":
            spec["restartPolicy"] = "OnFailure"
            spec["initContainers"] = [side]
            spec["containers"] = [
                container("app", "job", "0.3", **hooks(program("app", 0.05))),
            ]
        case "crash":
            spec["containers"] = [
                container("app", "crash", f"{luck.uniform(0, 0.5):.2f}"),
                container(
                    "web", "slow", 1, **hooks(program("web", span()), request("web", span()))
                ),
            ]
        case "deaf":
            spec["terminationGracePeriodSeconds"] = 2
            spec["containers"] = [
                container("app", "deaf", **hooks(None, program("app", 0.05))),
                container("web", "slow", luck.choice((1.0, 1.8)), readinessProbe=probe("web")),
            ]
        case "sick":
            spec["containers"] = [
                container(
                    "app",
                    "serve",
                    livenessProbe=probe("app", "sick") | {"failureThreshold": 1},
                    **hooks(program("app", 0.1, "once"), program("app", 0.1)),
                ),
            ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"kind": kind}},
        "spec": spec,
    }


_WHEN_ANEW = {"operator": "In", "values": [42]}
_LIVES = {  # kind of pod: weight, seconds until its file is removed
    "service": (8, (1.0, 4.0)),
    "job": (5, (0.0, 0.6)),  # after its end was seen
    "crash": (3, (1.0, 4.0)),
    "deaf": (4, (0.5, 2.0)),
    "sick": (2, (1.0, 5.0)),
    "anew": (3, (1.0, 5.0)),
    "shared": (3, (1.0, 4.0)),
    "shared-anew": (2, (1.0, 5.0)),
}


# --- hooks that are requests ----------------------------------------------------------------------


class _Hooks(ThreadingHTTPServer):
    """Takes httpGet hooks: notes their beginning, waits, notes their end."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, base: str) -> None:
        self.base = base
        self.runs: dict[str, tuple[str, socket.socket]] = {}  # by id: which run, its connection
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Hook)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The supervisor was killed: it has hung up."""

    def note(self, pod: str, text: str) -> None:
        _append(os.path.join(self.base, "trail", pod), text)


class _Hook(BaseHTTPRequestHandler):
    server: _Hooks

    def do_GET(self) -> None:
        _, pod, _, seconds = self.path.split("/")
        id, run = self.headers["Idempotency-Key"], self.headers["Podvisor-Hook-Attempt"]
        hub = self.server
        flags = " ".join(sorted(os.listdir(os.path.join(hub.base, "flags", pod))))
        with hub.lock:
            before = hub.runs.get(id)
            if before is not None:
                # A run is over when its supervisor is; that may not have been noticed yet.
                gone = bool(select.select([before[1]], [], [], 0)[0])
                hub.note(pod, f"hook {id} {before[0] if gone else run} {_over(gone)}")
            hub.runs[id] = run, self.connection
            hub.note(pod, f"hook {id} {run} begin {flags}")
        hung_up = bool(select.select([self.connection], [], [], float(seconds))[0])
        with hub.lock:
            if hub.runs.get(id) == (run, self.connection):
                del hub.runs[id]
                hub.note(pod, f"hook {id} {run} {'cut' if hung_up else 'end'}")
        if not hung_up:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def _over(gone: bool) -> str:
    return "cut" if gone else "overlap"


def _uptime() -> str:
    with open("/proc/uptime") as file:
        return file.read().split()[0]


def _append(path: str, text: str, *, sync: bool = True, ago: float = 0.0) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    try:
        os.write(fd, f"{float(_uptime()) - ago:.2f} {text}\n".encode())
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)


# --- one node -------------------------------------------------------------------------------------


class _Pod:
    def __init__(self, name: str, kind: str, file: str, delay: float) -> None:
        self.name, self.kind, self.file, self.delay = name, kind, file, delay
        self.made = time.monotonic()
        self.seen = False
        self.due: float | None = None  # when its file is removed
        self.removed: float | None = None
        self.ended = False
        self.stalled = False
        self.affected = False


class Node:
    """One node and its pods, until all lives are through."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.luck = random.Random(options.seed)
        self.base = options.folder
        for name in ("pods", "trail", "run", "flags", "logs", "objects", "pauses"):
            os.makedirs(os.path.join(self.base, name))
            os.chmod(os.path.join(self.base, name), 0o777)
        self.state = os.path.join(self.base, "state")
        self.points = os.path.join(self.base, "failpoints")
        self.report = Report()
        self.pods: dict[str, _Pod] = {}
        self.made = 0
        cells = LAUNCHER_CELLS if options.isolation == "group" else LAUNCHER_CELLS + SHARED_CELLS
        self.cells = {"supervisor": SUPERVISOR_CELLS, "launcher": cells}
        self.complete = False  # no more pods are made
        self.hits_read = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.plan = Plan.RANDOM
        self.armed: Cell | None = None
        self.due = 0.0  # when the plan is carried out
        self.start_at = 0.0  # when the node is started again
        self.fresh_launcher = True
        self.launcher_spared_until = 0.0
        self.linked: set[str] = set()
        self.stuck: list[str] = []
        self.next_look = 0.0
        self.ready, self.spawned = False, 0.0
        self.settled, self.read_to = False, 0  # all pods are taken on; how far its output was read
        self.early = True
        self.over = threading.Event()

    def run(self) -> Report:
        begin = time.monotonic()
        self.hooks = _Hooks(self.base)
        thread = threading.Thread(target=self.hooks.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        linking = threading.Thread(target=self.keep_logs)
        linking.start()
        try:
            while not self.complete or self.pods:
                self.complete |= time.monotonic() - begin > self.options.limit or self.has_all()
                self.step()
                time.sleep(_TICK)
            self.finish()
        finally:
            self.over.set()
            linking.join()
            self.clean_up()
            self.hooks.shutdown()
            self.hooks.server_close()
        self.report.seconds = time.monotonic() - begin
        return self.report

    # --- the node's lives ------------------------------------------------------------------------

    def has_all(self) -> bool:
        return (
            self.made >= self.options.lives
            and self.report.kills["supervisor, random"] >= self.options.kills
            and not (
                self.options.kills and (self.is_open("supervisor") or self.is_open("launcher"))
            )
        )

    def step(self) -> None:
        now = time.monotonic()
        self.make_pods()
        self.reap()
        self.note_hits()
        if self.process is None:
            if now >= self.start_at:
                self.start()
        elif self.process.poll() is not None:
            self.ended(self.process.returncode)
        elif now >= self.due:
            self.carry_out()
        if self.process is not None and self.armed == MET_BY_STALLING:
            self.stall()
        if self.process is not None and not self.ready:
            self.look_whether_ready()
        if self.process is not None and not self.settled:
            self.look_whether_settled()
        if now >= self.next_look:
            self.next_look = now + 0.25
            self.look(now)

    def start(self) -> None:
        self.choose()
        command = [PODVISOR]
        if self.options.sabotage:
            command = [sys.executable, _SABOTAGED, self.options.sabotage]
        command += ["serve", os.path.join(self.base, "pods"), "--state-dir", self.state]
        command += ["--isolation", self.options.isolation]
        command += ["--timestamps", "--backoff-initial", "200ms", "--backoff-max", "1s"]
        # Nor what keeps Python from using what it has compiled: each life would begin with that.
        env = {k: v for k, v in os.environ.items() if not k.startswith(("PODVISOR_", "PYTHON"))}
        env["PYTHONPATH"] = str(_HERE.parent.parent)
        if self.armed is not None:
            name, kind = self.armed
            nth = 1 if kind in ("KillContainer", "-") else self.luck.choice((1, 1, 2, 3))
            at = "" if kind == "-" else f"@{kind}"
            env["PODVISOR_FAILPOINTS"] = f"{name}{at}=kill:{nth}"
            env["PODVISOR_FAILPOINTS_LOG"] = self.points
        with open(os.path.join(self.base, "output"), "ab") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output, env=env)
            self.read_to = output.tell()
        self.ready, self.settled, self.spawned = False, False, time.time()
        self.early = self.luck.random() < 0.25  # it may be killed while it takes on its pods
        self.journal("up")

    def stall(self) -> None:
        """Stop the supervisor from before the end of a container to after another's deadline."""
        assert self.process is not None
        now = float(_uptime())
        for pod in self.pods.values():
            if pod.kind == "deaf" and pod.removed is not None and not pod.stalled:
                with open(os.path.join(self.base, "trail", pod.name)) as file:
                    told = [line for line in file if " main web " in line and " term" in line]
                told_at = float(told[-1].split()[0]) if told else now
                if 1.4 < now - told_at < 1.7:
                    pod.stalled = True
                    self.process.send_signal(signal.SIGSTOP)
                    time.sleep(max(0.0, told_at + 2.4 - now))
                    self.process.send_signal(signal.SIGCONT)
                    return

    def look_whether_ready(self) -> None:
        """What its imports take says something about this machine only."""
        with contextlib.suppress(OSError):
            noted = os.stat(os.path.join(self.state, "command")).st_mtime
            if noted >= self.spawned - 0.01:
                self.ready = True
                if self.early:
                    self.set_due()

    def look_whether_settled(self) -> None:
        """From when it has taken on its pods it commits what happens to them."""
        with open(os.path.join(self.base, "output"), "rb") as output:
            output.seek(self.read_to)
            text = output.read()
        if b"* state in " in text:
            self.settled = True
            self.journal("ready")
            if not self.early:
                self.set_due()
        self.read_to += text.rfind(b"\n") + 1

    def choose(self) -> None:
        """How the life that begins now is to end."""
        luck, now = self.luck, time.monotonic()
        self.armed = None
        if self.fresh_launcher and self.is_open("launcher") and luck.random() < 0.8:
            self.plan = Plan.LAUNCHER_FAILPOINT
            self.armed = self.least(self.cells["launcher"])
        else:
            weights = {
                Plan.RANDOM: 40,
                Plan.FAILPOINT: 45 if self.is_open("supervisor") else 0,
                Plan.LAUNCHER: 5,
                Plan.LOGGER: 5,
                Plan.BOTH: 30 if self.is_open("launcher") else 3,
                Plan.ALL: 2,
                Plan.PAST_DEADLINE: 4,
            }
            if self.options.only:
                weights = {p: w for p, w in weights.items() if p.name in self.options.only} or {
                    Plan.NONE: 1
                }
            self.plan = luck.choices([*weights], [*weights.values()])[0]
            if self.plan is Plan.FAILPOINT:
                self.armed = self.least(self.cells["supervisor"])
        self.fresh_launcher = False
        self.due = now + (20.0 if self.plan is not Plan.NONE else float("inf"))
        if self.plan is Plan.RANDOM and luck.random() < 0.1:  # while it is coming up
            self.due = now + luck.uniform(0.0, 0.5)

    def set_due(self) -> None:
        """It is up: when is its end, unless a failpoint comes first?"""
        luck = self.luck
        patience = {
            Plan.FAILPOINT: 3.0,
            Plan.LAUNCHER_FAILPOINT: 3.0,
            Plan.PAST_DEADLINE: 4.0,
            Plan.NONE: float("inf"),
        }
        wait = patience.get(self.plan, luck.uniform(0.0, 1.0))
        if self.armed == MET_BY_STALLING:
            wait += 3.0
        self.due = min(self.due, time.monotonic() + wait)
        if self.plan in (Plan.LAUNCHER, Plan.LOGGER):
            self.due = max(self.due, self.launcher_spared_until)

    def is_open(self, whose: str) -> bool:
        return not self.options.only and any(self.need(cell) > 0 for cell in self.cells[whose])

    def need(self, cell: Cell) -> float:
        """How much this cell is still wanted: each once and again, and its failpoint often."""
        had = self.report.cells[cell]
        of_point = sum(n for (name, _), n in self.report.cells.items() if name == cell[0])
        share = self.options.share
        return max(1 - had, 0) + max(share - of_point, 0) / share

    def least(self, cells: tuple[Cell, ...]) -> Cell:
        weights = [self.need(cell) + 0.02 for cell in cells]
        return self.luck.choices(cells, weights)[0]

    def carry_out(self) -> None:
        assert self.process is not None
        self.due = float("inf")
        match self.plan:
            case Plan.LAUNCHER:
                self.kill("launcher", *self.helpers("podvisor-launch")[:1])
                self.next_plan()
            case Plan.LOGGER:
                self.kill("logger", *self.helpers("podvisor-logger")[:1])
                self.next_plan()
            case Plan.BOTH:
                self.kill("both", self.process.pid, *self.helpers("podvisor-launch"))
                self.fresh_launcher = True
            case Plan.ALL:
                self.kill("all", *self.helpers("podvisor-launch"), self.process.pid,
                          *self.helpers("podvisor-logger"))  # fmt: skip
                self.fresh_launcher = True
            case _:
                self.kill("supervisor", self.process.pid)

    def next_plan(self) -> None:
        """The supervisor lives on, and will be killed like any other."""
        self.launcher_spared_until = time.monotonic() + 3.0
        self.plan, self.armed = Plan.RANDOM, None
        self.due = time.monotonic() + self.luck.uniform(0.05, 1.2)

    def kill(self, what: str, *pids: int) -> None:
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP if len(pids) > 1 else signal.SIGKILL)
        if len(pids) > 1:  # in the same moment, as far as they can tell
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.note_kill(what, "random")

    def note_kill(self, what: str, how: str, ago: float = 0.0) -> None:
        self.report.kills[f"{what}, {how}"] += 1
        text = f"kill {what} {how}"
        self.journal(text, ago)
        for pod in self.pods.values():
            _append(os.path.join(self.base, "trail", pod.name), text, sync=False, ago=ago)
            pod.affected |= what != "supervisor"

    def ended(self, status: int) -> None:
        """The supervisor has ended."""
        self.process = None
        self.note_hits()
        self.journal(f"down {status}")
        if status != -signal.SIGKILL:
            self.stuck.append(f"serve ended with {status}")
        luck = self.luck
        down = luck.choice((0.0, 0.0, luck.uniform(0, 0.4), luck.uniform(0, 1.5)))
        if self.plan is Plan.PAST_DEADLINE:
            down = 4.2
        self.start_at = time.monotonic() + down

    def note_hits(self) -> None:
        """Failpoints that were hit since we looked last."""
        try:
            with open(self.points) as file:
                hits = file.read().splitlines()
                ago = max(0.0, time.time() - os.fstat(file.fileno()).st_mtime)
        except FileNotFoundError:
            return
        for hit in hits[self.hits_read :]:
            name, kind, *_ = hit.split()
            cell = name, kind
            self.report.cells[cell] += 1
            if cell in self.cells["launcher"]:
                self.note_kill("launcher", name, ago)
                self.next_plan()
            else:
                self.note_kill("supervisor", name, ago)
        self.hits_read = len(hits)

    def helpers(self, name: str) -> list[int]:
        """Launchers or loggers of this node."""
        found = []
        mark = self.state.encode()
        for pid in _pids():
            with contextlib.suppress(OSError):
                with open(f"/proc/{pid}/comm") as file:
                    if file.read().strip() != name[:15]:
                        continue
                with open(f"/proc/{pid}/cmdline", "rb") as raw:
                    if mark in raw.read().split(b"\0"):
                        found.append(pid)
        return found

    # --- pods ------------------------------------------------------------------------------------

    def make_pods(self) -> None:
        while not self.complete and len(self.pods) < self.options.pods:
            if self.has_all():
                return
            kinds = [*_LIVES]
            if self.options.isolation == "group":
                kinds = [kind for kind in kinds if not kind.startswith("shared")]
            kind = self.luck.choices(kinds, [_LIVES[k][0] for k in kinds])[0]
            name = f"{kind}-{self.made}"
            self.made += 1
            file = os.path.join(self.base, "pods", f"{name}.yaml")
            pod = _Pod(name, kind, file, self.luck.uniform(*_LIVES[kind][1]))
            os.mkdir(os.path.join(self.base, "flags", name))
            os.chmod(os.path.join(self.base, "flags", name), 0o777)
            port = self.hooks.server_address[1]
            manifest = _manifest(kind, name, self.base, port, self.luck)
            with open(os.path.join(self.base, "objects", f"{name}.manifest"), "w") as copy:
                json.dump(manifest, copy)
            _append(os.path.join(self.base, "trail", name), "made", sync=False)
            os.chmod(os.path.join(self.base, "trail", name), 0o666)
            with open(f"{file}.new", "w") as out:
                json.dump(manifest, out)
            os.rename(f"{file}.new", file)
            self.pods[name] = pod

    def look(self, now: float) -> None:
        """At what is stored: objects to keep, pods that have come, ended, gone."""
        try:
            snapshot = sqlite.read(os.path.join(self.state, "podvisor.db"))
        except NodeError:
            return
        stored = {s.pod.metadata.name: s.pod for s in snapshot.pods}
        self.keep_events(snapshot.events)
        for name, pod in list(self.pods.items()):
            found = stored.get(name)
            if found is not None:
                if not pod.seen:
                    pod.seen = True
                    pod.due = None if pod.kind == "job" else now + pod.delay
                final = found.status.phase in ("Succeeded", "Failed")
                if final and not pod.ended:
                    pod.ended = True
                    if pod.kind == "job" and pod.due is None:
                        pod.due = now + pod.delay
                    path = os.path.join(self.base, "objects", f"{name}.json")
                    with open(path, "w") as file:
                        file.write(codec.encode_pods([found], "json"))
                if pod.kind == "job" and pod.due is None and now - pod.made > _STUCK:
                    self.stuck.append(f"{name} did not come to its end in {_STUCK:.0f} s")
                    pod.due = now
                if pod.due is not None and now >= pod.due and pod.removed is None:
                    self.remove(pod, now)
            elif pod.removed is not None:
                self.report.lives += 1
                self.report.affected += pod.affected
                del self.pods[name]
                continue
            since = pod.removed
            if since is not None and now - since > _STUCK:
                self.stuck.append(f"{name} was not gone after {_STUCK:.0f} s")
                self.report.lives += 1
                del self.pods[name]

    def keep_events(self, events: Iterable[v1.Event]) -> None:
        """Of each pod that is there: nobody judges them, but they say why something happened."""
        booted = time.time() - float(_uptime())
        told: dict[str, list[str]] = {}
        for event in events:
            at = event.metadata.creation_timestamp or event.first_timestamp
            if at is not None and event.involved_object.name in self.pods:
                when = datetime.fromisoformat(at).timestamp() - booted
                text = f"{when:.2f} event {event.involved_object.field_path} {event.reason}"
                text = f"{text} x{event.count} {event.message}".replace("\n", " ")
                told.setdefault(event.involved_object.name, []).append(text)
        for name, lines in told.items():
            with open(os.path.join(self.base, "objects", f"{name}.events"), "w") as file:
                file.writelines(f"{line}\n" for line in lines)

    def remove(self, pod: _Pod, now: float) -> None:
        with open(os.path.join(self.base, "flags", pod.name, "asked"), "w"):
            pass
        _append(os.path.join(self.base, "trail", pod.name), "asked")
        os.unlink(pod.file)
        pod.removed = now
        if self.plan is Plan.PAST_DEADLINE and pod.kind == "deaf" and self.process is not None:
            self.due = now + 1.6  # noticed, its hook run, its sibling about to end
            self.armed = None

    def keep_logs(self) -> None:
        """On a thread of its own: a pod may be gone with its logs before we look again."""
        while not self.over.wait(_TICK / 3):
            self.link_logs()
            self.link_pauses()

    def link_logs(self) -> None:
        """Logs are removed with their pods: keep them."""
        root = os.path.join(self.state, "logs")
        with contextlib.suppress(OSError):
            for folder in os.scandir(root):
                pod = folder.name.split("_")[1]
                for container in os.scandir(folder.path):
                    for entry in os.scandir(container.path):
                        place = f"{pod}/{container.name}.{entry.name}"
                        if place in self.linked or not entry.name.endswith(".log"):
                            continue
                        os.makedirs(os.path.join(self.base, "logs", pod), exist_ok=True)
                        os.link(entry.path, os.path.join(self.base, "logs", place))
                        self.linked.add(place)

    def link_pauses(self) -> None:
        """Who holds pid namespaces: nothing about these processes says that they are a node's."""
        with contextlib.suppress(OSError):
            for folder in os.scandir(os.path.join(self.state, "pods")):
                record = os.path.join(folder.path, "pause.spawn")
                with contextlib.suppress(FileNotFoundError, FileExistsError):
                    place = f"{folder.name}.{os.stat(record).st_ino}"
                    if place not in self.linked:
                        os.link(record, os.path.join(self.base, "pauses", place))
                        self.linked.add(place)

    # --- the end ---------------------------------------------------------------------------------

    def finish(self) -> None:
        """All pods are gone: the node is ended as a person would, and must leave nothing."""
        if self.process is None:
            self.plan, self.armed = Plan.RANDOM, None
            self.start()
            self.armed = None
        assert self.process is not None
        time.sleep(1.5)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.stuck.append("serve did not end")
            self.process.kill()
            self.process.wait()
            status = 0
        self.note_hits()
        self.journal(f"down {status}")
        self.process = None
        self.reap()

    def clean_up(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        for text in self.stuck:
            self.journal(f"stuck {text}")
        verdict = subprocess.run(
            [sys.executable, "-I", CHECKER, self.base], capture_output=True, text=True, check=False
        )
        if verdict.stderr:
            raise RuntimeError(verdict.stderr)
        self.report.verdict = json.loads(verdict.stdout)
        # What should not be there was counted; now it goes.
        for pid in _marked(self.base):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.reap()

    def reap(self) -> None:
        """As an init does: what a dead launcher or supervisor has left comes to us."""
        with contextlib.suppress(ChildProcessError):
            while True:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if found is None:
                    return
                if self.process is not None and found.si_pid == self.process.pid:
                    self.process.poll()
                    return
                os.waitpid(found.si_pid, 0)

    def journal(self, text: str, ago: float = 0.0) -> None:
        _append(os.path.join(self.base, "journal"), text, sync=False, ago=ago)


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _marked(base: str) -> Iterator[int]:
    """Processes of this node: its containers, and what it consists of."""
    mark = base.encode()
    for pid in _pids():
        with contextlib.suppress(OSError):
            for name in ("environ", "cmdline"):
                with open(f"/proc/{pid}/{name}", "rb") as file:
                    if pid != os.getpid() and mark in file.read():
                        yield pid
                        break


def run_node(options: Options) -> Report:
    be_subreaper()
    return Node(options).run()


# --- the campaign ---------------------------------------------------------------------------------


def campaign(options: list[Options]) -> list[Report]:
    """So many nodes side by side, each in a process of its own."""
    with ProcessPoolExecutor(len(options), get_context("spawn")) as pool:
        return list(pool.map(run_node, options))


def nodes(
    folder: str, lives: int, count: int, seed: int, isolation: str, **more: Any
) -> list[Options]:
    """Options of `count` nodes that share so many lives."""
    luck = random.Random(seed)
    shares = [lives // count + (index < lives % count) for index in range(count)]
    found = []
    for index, share in enumerate(shares):
        place = os.path.join(folder, f"{isolation}-{more.get('sabotage', '')}{index}")
        os.mkdir(place)
        os.chmod(place, 0o755)
        found.append(
            Options(
                folder=place,
                lives=share,
                seed=luck.randrange(1 << 32),
                isolation=isolation,
                **more,
            )
        )
    return found


def violations(reports: list[Report]) -> list[dict[str, Any]]:
    return [found for report in reports for found in report.verdict["violations"]]


def show(reports: list[Report]) -> None:
    """What was done, and what came of it."""
    kills = sum((report.kills for report in reports), Counter())
    cells = sum((report.cells for report in reports), Counter())
    total = {
        name: sum(report.verdict[name] for report in reports)
        for name in ("hooks", "repeated", "runs", "lines", "gaps", "codes", "unknown")
    }
    print(f"\n{'failpoint':<22}{'kind of action':<22}{'kills':>6}")
    for name, kind in CELLS:
        print(f"{name:<22}{kind:<22}{cells[name, kind]:>6}")
    print(f"\n{'killed':<30}{'kills':>6}")
    for what in ("supervisor", "launcher", "logger", "both", "all"):
        at_random = kills[f"{what}, random"]
        at_points = sum(n for k, n in kills.items() if k.startswith(f"{what}, ")) - at_random
        print(f"{what + ', at random':<30}{at_random:>6}")
        if at_points:
            print(f"{what + ', at failpoints':<30}{at_points:>6}")
    share = 100 * total["repeated"] / max(1, total["hooks"])
    print(
        f"\n{sum(r.lives for r in reports)} lives of pods, "
        f"{sum(r.affected for r in reports)} of them with launcher or logger killed; "
        f"{total['runs']} runs of containers\n"
        f"{total['hooks']} hooks, {total['repeated']} of them repeated ({share:.1f} %)\n"
        f"{total['lines']} log lines, {total['gaps']} gaps\n"
        f"{total['codes']} exit codes compared, {total['unknown']} unknown to everybody"
    )
    found = violations(reports)
    for rule, count in Counter(v["rule"] for v in found).items():
        print(f"BROKEN {rule}: {count} times")
    for violation in found[:40]:
        print(f"  {violation['rule']}: {violation['text'][:300]}")
    for violation in found[:5]:
        print("", violation["text"][:300], *violation["story"], sep="\n    ")


def empty(reports: list[Report], share: int) -> list[str]:
    """What the campaign has not come to: cells of the matrix, failpoints with too few hits."""
    cells = sum((report.cells for report in reports), Counter())
    points = Counter[str]()
    for (name, _), count in cells.items():
        points[name] += count
    return [
        *(f"{name} with {kind} was never hit" for name, kind in CELLS if not cells[name, kind]),
        *(
            f"{name} was hit {points[name]} times, not {share}"
            for name in dict.fromkeys(name for name, _ in CELLS)
            if points[name] < share
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.crashes", description=__doc__)
    parser.add_argument("--lives", type=int, default=2000, help="lives of pods, in all modes")
    parser.add_argument("--nodes", type=int, default=5, help="at the same time")
    parser.add_argument("--pods", type=int, default=20, help="of one node at the same time")
    parser.add_argument("--others", type=int, default=200, help="lives in each other mode")
    parser.add_argument("--sabotage", type=int, default=100, help="lives of each sabotage")
    parser.add_argument("--kills", type=int, default=500, help="of supervisors at random moments")
    parser.add_argument("--limit", type=float, default=900, help="seconds, of each mode")
    parser.add_argument("--isolation", default="", help="only this mode, and no sabotage")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--keep", action="store_true", help="the evidence")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}, {options.nodes} nodes with {options.pods} pods each", flush=True)
    begin = time.monotonic()
    folder = tempfile.mkdtemp(prefix="podvisor-crashes-")
    os.chmod(folder, 0o755)
    wrong: list[str] = []
    more: dict[str, Any]
    if options.isolation:
        modes = {options.isolation: options.lives}
    else:
        first = "pidns" if os.geteuid() == 0 else "pidns-rootless"
        modes = {m: options.others for m in ("pidns-rootless", "group") if m != first}
        modes = {first: options.lives - sum(modes.values()), **modes}
    reports = []
    for mode, lives in modes.items():
        count = options.nodes if mode == next(iter(modes)) else options.nodes // 2
        count = max(1, min(count, lives // options.pods))
        share = -(-20 // options.nodes) + 1
        more = {"pods": options.pods, "limit": options.limit}
        if mode == next(iter(modes)):
            more |= {"share": share, "kills": -(-options.kills // count)}
        done = campaign(nodes(folder, lives, count, seed, mode, **more))
        reports += done
        taken = time.monotonic() - begin
        print(f"{mode}: {sum(r.lives for r in done)} lives, {taken:.0f} s so far", flush=True)
    show(reports)
    wrong += [f"{len(violations(reports))} promises were broken"] if violations(reports) else []
    if not options.isolation and options.lives >= 2000:
        wrong += empty(reports, 20)
    for part in ("intent", "ends") if options.sabotage and not options.isolation else ():
        done = campaign(nodes(folder, options.sabotage, 1, seed, mode, sabotage=part))
        found = Counter(v["rule"] for v in violations(done))
        print(f"\nwithout the recording of {part}, {done[0].lives} lives: ", end="")
        print(", ".join(f"{rule}: {count}" for rule, count in found.items()) or "nothing was found")
        if not found:
            wrong.append(f"the checker does not miss the recording of {part}")
    print(f"\n{time.monotonic() - begin:.0f} s")
    for text in wrong:
        print(f"FAILED: {text}")
    if options.keep:
        print(f"the evidence is in {folder}")
    else:
        shutil.rmtree(folder)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
