"""The whole `podvisor run` for tests: real processes, as any user, in any mode of isolation.

A *way* is a user and a mode. As root, tests run podvisor as root and as an unprivileged uid. That
uid may be unable to read this repository or its environment (a clone in a folder of mode 0700);
then a copy that everybody can read is made once, to run on the environment's base Python.

A `Session` is one podvisor: started, looked at, signalled and waited for. It has a TMPDIR of its
own, and its end is checked each time: nothing in that folder, no process that came to us.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgspec import Struct

from supervisor import ports
from supervisor.kubelet.statedir import is_tmpfs
from supervisor.lifecycle.record import ContainerRecord, PodRecord
from supervisor.runtime.cri import Isolation
from supervisor.store import lock, sqlite
from supervisor.store.contract import Snapshot
from tests.runtime.nodes import NOBODY, PATIENCE, Way, wait_for

ROOT = pathlib.Path(__file__).resolve().parent.parent
IS_ROOT = os.getuid() == 0
USER = NOBODY if IS_ROOT else os.getuid()
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PYTHON = "python3" if shutil.which("python3", path=PATH) else os.path.realpath(sys.executable)

Manifest = dict[str, Any]


WAYS = [Way(0, mode) for mode in (Isolation.PIDNS, Isolation.GROUP)] if IS_ROOT else []
WAYS += [Way(USER, mode) for mode in (Isolation.PIDNS_ROOTLESS, Isolation.GROUP)]
BEST = WAYS[0]


def _of(needed: str, wanted: Callable[[Way], bool]) -> pytest.MarkDecorator:
    ways = [way for way in WAYS if wanted(way)]
    if not ways:
        return pytest.mark.skip(reason=f"needs {needed}")
    return pytest.mark.parametrize("way", ways, ids=str, indirect=True, scope="session")


# The tests of one kind of ways only; without a mark a test runs in each.
in_pidns = _of("namespaces", lambda way: way.namespaces)
in_group = _of("no namespaces", lambda way: not way.namespaces)
as_root = _of("root", lambda way: way.changes_users)
as_user = _of("a user", lambda way: way.uid != 0)
one_way = _of("any way", lambda way: way == BEST)  # for what no mode has to do with


def free_port() -> int:
    """A port that nobody listens at, and that the kernel hands out to nobody: one that it gave to
    us, and got back, is anybody's the next moment. Others who look seldom come to the same one.
    """
    return next(port for port in ports._candidates() if ports._is_free(port))


# --- the command, as a user ----------------------------------------------------------------------


class Command(Struct, frozen=True):
    """How podvisor is started as one user."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()


class CannotRunError(Exception):
    """This user cannot be made to run podvisor here."""


_commands: dict[int, Command | CannotRunError] = {}
_copies: list[str] = []
_able: dict[int, dict[str, str]] = {}


def command(uid: int) -> Command:
    """podvisor for this user. Raises CannotRunError with the reason."""
    if uid not in _commands:
        try:
            _commands[uid] = _find_command(uid)
        except CannotRunError as error:
            _commands[uid] = error
    found = _commands[uid]
    if isinstance(found, CannotRunError):
        raise found
    return found


def _find_command(uid: int) -> Command:
    script = os.path.join(os.path.dirname(sys.executable), "podvisor")
    own = Command((script,))
    trouble = _try(own, uid)
    if trouble is None:
        return own
    if uid == os.getuid():
        own = Command((sys.executable, "-m", "supervisor"), (("PYTHONPATH", str(ROOT)),))
        if (trouble := _try(own, uid)) is None:
            return own
        raise CannotRunError(trouble)
    # -B: the copy brings its byte code, and nobody may write more of it.
    base = os.path.realpath(sys.executable)
    copied = Command((base, "-B", "-m", "supervisor"), (("PYTHONPATH", _readable_copy()),))
    trouble = _try(copied, uid)
    if trouble is not None:
        raise CannotRunError(
            f"uid {uid} can run neither {script} nor a copy with {base}: {trouble}"
        )
    return copied


def _try(command: Command, uid: int) -> str | None:
    try:
        done = _call(command, uid, "--version")
    except OSError as error:
        return str(error)
    return done.stderr.strip()[-500:] or "no answer" if done.returncode else None


def _call(command: Command, uid: int, *words: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": PATH, **dict(command.env)}
    return subprocess.run(
        [*command.argv, *words],
        capture_output=True,
        text=True,
        cwd="/",
        env=env,
        check=False,
        timeout=60,
        **identity(uid),
    )


def identity(uid: int) -> dict[str, Any]:
    """What Popen needs to start something as this user."""
    return {} if uid == os.getuid() else {"user": uid, "group": uid, "extra_groups": []}


def _readable_copy() -> str:
    import compileall

    folder = tempfile.mkdtemp(prefix="podvisor-copy-")
    _copies.append(folder)
    os.chmod(folder, 0o755)
    shutil.copytree(ROOT / "supervisor", f"{folder}/supervisor")
    shutil.copytree(ROOT / "tests", f"{folder}/tests")
    todo, seen = ["anyio", "msgspec", "pytest", "PyYAML", "typer", "uvloop"], set()
    todo += ["aiohttp", "cryptography", "grpcio", "grpcio-health-checking", "jsonpatch"]
    while todo:
        name = todo.pop()
        if name.lower() in seen:
            continue
        seen.add(name.lower())
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # for another platform or an older Python
        for file in distribution.files or ():
            if ".." in file.parts:
                continue
            os.makedirs(f"{folder}/{file.parent}", exist_ok=True)
            # With its time, by which the byte code that came with it is known to be true.
            shutil.copy2(str(file.locate()), f"{folder}/{file}")
        todo += [
            re.split(r"[^A-Za-z0-9._-]", need, maxsplit=1)[0]
            for need in distribution.requires or ()
            if "extra ==" not in need
        ]
    compileall.compile_dir(folder, quiet=2)
    for path, _, files in os.walk(folder):
        os.chmod(path, 0o755)
        for file in files:
            os.chmod(f"{path}/{file}", 0o644)
    return folder


def remove_copies() -> None:
    while _copies:
        shutil.rmtree(_copies.pop(), ignore_errors=True)


def obstacle(way: Way) -> str | None:
    """Why this machine cannot run podvisor in this way; None if it can."""
    if way.uid not in _able:
        try:
            done = _call(command(way.uid), way.uid, "doctor", "-o", "json")
        except CannotRunError as error:
            _able[way.uid] = dict.fromkeys(Isolation, str(error))
        else:
            assert done.stdout, done.stderr
            modes = json.loads(done.stdout)["modes"]
            _able[way.uid] = {
                mode["name"]: "" if mode["ok"] else f"{mode['step']}: {mode['error']}"
                for mode in modes
            }
    return _able[way.uid][way.isolation] or None


# --- manifests -----------------------------------------------------------------------------------


def container(name: str, *command: str, **fields: Any) -> Manifest:
    return {"name": name, "command": list(command), **fields}


def sh(name: str, script: str, **fields: Any) -> Manifest:
    return container(name, "sh", "-c", script, **fields)


def python(name: str, script: str, **fields: Any) -> Manifest:
    return container(name, PYTHON, "-c", script, **fields)


_STEP = r"""
# What a container does, written down with the time: step NAME LIFE CODE STOP STOP_CODE SIDES
name=$1 life=$2 code=$3 stop=$4 stop_code=$5 sides=$6
note() { echo "$(date +%s.%N) $name $1" >>steps; }
case $stop in
deaf) trap '' TERM ;;
*) trap 'note told; sleep $stop; note ended; exit $stop_code' TERM ;;
esac
note began
while [ "$(grep -c ' side.* began' steps)" -lt $sides ]; do sleep 0.02; done
sleep $life &
while kill -0 $! 2>/dev/null; do wait $!; done
note ended
exit $code
"""
FOREVER = 1000


def step(
    name: str,
    life: float = 0,
    code: int = 0,
    *,
    stop: float | str = 0,
    stop_code: int = 0,
    sides: int = 0,
    **fields: Any,
) -> Manifest:
    """Lives for so long and ends with `code`; ends so long after SIGTERM, or is "deaf" to it.

    With `sides`, its life is counted from when so many sidecars have begun, and hear SIGTERM.
    Its "began", "told" (by SIGTERM) and "ended" are in the pod's steps.
    """
    words = [name, str(life), str(code), str(stop), str(stop_code), str(sides)]
    return container(name, "sh", "-c", _STEP, "step", *words, **fields)


def sidecar(container: Manifest) -> Manifest:
    return {**container, "restartPolicy": "Always"}


def pod(name: str, *containers: Manifest, init: tuple[Manifest, ...] = (), **spec: Any) -> Manifest:
    if init:
        spec["initContainers"] = list(init)
    meta = {"name": name} | spec.pop("metadata", {})
    spec = {"containers": list(containers), **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


# --- how it went ---------------------------------------------------------------------------------


class Step(Struct, frozen=True):
    at: float
    name: str
    what: str


class Pod:
    """A pod's object, what its containers wrote down, and what podvisor said about it."""

    def __init__(self, object: Manifest, folder: str, said: str) -> None:
        self.object, self.folder = object, f"{folder}/{object['metadata']['name']}"
        self.name: str = object["metadata"]["name"]
        self.status: Manifest = object["status"]
        self.phase: str = self.status["phase"]
        self.conditions = {c["type"]: c for c in self.status["conditions"]}
        statuses = [*self.status.get("initContainerStatuses", ()), *self._apps()]
        self.containers: dict[str, Manifest] = {c["name"]: c for c in statuses}
        self._said = said

    def _apps(self) -> list[Manifest]:
        return list(self.status.get("containerStatuses", ()))

    def state(self, name: str) -> Manifest:
        """What is in the container's state, with its kind: {"terminated": …} flattened."""
        ((kind, state),) = self.containers[name]["state"].items()
        return {"is": kind, **state}

    def end(self, name: str) -> tuple[str, int]:
        state = self.state(name)
        assert state["is"] == "terminated", state
        return state["reason"], state["exitCode"]

    def message(self, name: str) -> str:
        return str(self.state(name).get("message", ""))

    @property
    def steps(self) -> list[Step]:
        return read_steps(self.folder)

    def walk(self) -> list[str]:
        return [f"{step.name} {step.what}" for step in self.steps]

    def at(self, name: str, what: str) -> list[float]:
        return [step.at for step in self.steps if (step.name, step.what) == (name, what)]

    def lines(self, container: str) -> list[str]:
        """What the container wrote, from podvisor's output."""
        return self._find(f"{self.name}/{container}", "|")

    def said(self, container: str = "") -> list[str]:
        """What podvisor said about the pod or one of its containers."""
        return self._find(self.name + (f"/{container}" if container else ""), "*")

    def _find(self, label: str, mark: str) -> list[str]:
        # The namespace stands before when there are several.
        namespace = re.escape(self.object["metadata"]["namespace"])
        line = rf"^(?:{namespace}/)?{re.escape(label)} *\{mark} (.*)$"
        return [str(found) for found in re.findall(line, self._said, re.MULTILINE)]


def read_steps(folder: str) -> list[Step]:
    try:
        with open(f"{folder}/steps", encoding="utf-8") as file:
            lines = [line.split() for line in file.read().splitlines()]
    except FileNotFoundError:
        return []
    return [Step(float(line[0]), line[1], line[2]) for line in lines if len(line) == 3]


class Finished:
    """How a run ended, and what it wrote."""

    def __init__(self, code: int, out: str, err: str, folder: str) -> None:
        self.code, self.out, self.err, self.folder = code, out, err, folder

    @property
    def pods(self) -> dict[str, Pod]:
        """The final objects that `-o json` prints."""
        printed = json.loads(self.out)
        items = printed["items"] if printed["kind"] == "List" else [printed]
        return {o["metadata"]["name"]: Pod(o, self.folder, self.err) for o in items}

    def table(self) -> dict[str, list[str]]:
        """The table at the end: container -> restarts, exit, reason, duration."""
        _, _, table = self.err.rpartition("CONTAINER ")
        table = table.partition("\n\n")[0]
        assert table, self.err
        rows = [re.split(r"  +", line) for line in table.splitlines()[1:] if "  " in line]
        return {row[0]: row[1:] for row in rows}


# Prepares the state in which podvisor starts, without a fork from a threaded test process.
_STARTER = """
import ctypes, fcntl, json, os, resource, signal, sys, termios
want = json.loads(sys.argv[1])
if "tty" in want:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
if "nice" in want:
    os.setpriority(os.PRIO_PROCESS, 0, want["nice"])
for name, limit in want.get("limits", {}).items():
    resource.setrlimit(getattr(resource, "RLIMIT_" + name), tuple(limit))
if "umask" in want:
    os.umask(want["umask"])
if "oom" in want:
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(want["oom"]))
for fd in want.get("fds", ()):
    os.dup2(1, fd)
for number in want.get("ignored", ()):
    signal.signal(number, signal.SIG_IGN)
for number in (signal.SIGPIPE, signal.SIGXFSZ):
    if number not in want.get("ignored", ()):
        signal.signal(number, signal.SIG_DFL)
if "net" in want:  # ports of its own, where that is allowed
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x40000000) == 0:
        import socket, struct
        with socket.socket() as s:
            fcntl.ioctl(s, 0x8914, struct.pack("16sh", b"lo", 1))
if "user" in want:
    os.setgroups([])
    os.setgid(want["user"])
    os.setuid(want["user"])
signal.pthread_sigmask(signal.SIG_SETMASK, want.get("blocked", ()))
for fd in want.get("closed", ()):
    os.close(fd)
os.execv(sys.argv[2], sys.argv[2:])
"""


class Session:
    """One podvisor, from its start to its end."""

    _alive: set[int] = set()  # noqa: RUF012

    def __init__(
        self,
        way: Way,
        folder: str,
        words: tuple[str, ...],
        *,
        env: dict[str, str] | None = None,
        cwd: str | None = None,
        stdin: Any = subprocess.DEVNULL,
        stdout: Any = None,
        stderr: Any = None,
        tty: bool = False,
        start: dict[str, Any] | None = None,
    ) -> None:
        self.folder, self.way = folder, way
        self.tmp = f"{folder}/tmp"
        if not os.path.isdir(self.tmp):
            os.mkdir(self.tmp)
            os.chown(self.tmp, way.uid, -1)
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans come to us
        self._before = set(_children())
        found = command(way.uid)
        argv = [*found.argv, *words]
        ids = identity(way.uid)
        if tty or start:
            want = (start or {}) | ({"tty": 1} if tty else {})
            if "net" in want and ids:  # root's to give; then the starter becomes the user
                want["user"], ids = way.uid, {}
            starter = [os.path.realpath(sys.executable), "-I", "-S", "-c", _STARTER]
            argv = [*starter, json.dumps(want), *argv]
        environ = {"PATH": PATH, "HOME": folder, "TMPDIR": self.tmp, **dict(found.env)}
        self._out, self._err = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115
        self.process = subprocess.Popen(
            argv,
            stdin=stdin,
            stdout=self._out if stdout is None else stdout,
            stderr=self._err if stderr is None else stderr,
            cwd=cwd or folder,
            env=environ | (env or {}),
            # Not in the foreground group of whoever runs the tests.
            start_new_session=True,
            **ids,
        )
        self.pid = self.process.pid
        Session._alive.add(self.pid)

    @property
    def out(self) -> str:
        return _content(self._out)

    @property
    def err(self) -> str:
        return _content(self._err)

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait for a condition while podvisor lives."""

        def met() -> Any:
            found = condition()
            assert found or self.process.poll() is None, self._story(f"ended before: {what}")
            return found

        try:
            return wait_for(met, what)
        except AssertionError as error:
            raise AssertionError(self._story(str(error))) from None

    def until_said(self, text: str) -> None:
        self.until(lambda: text in self.err, f"{text!r} on stderr")

    def until_logged(self, text: str) -> None:
        self.until(lambda: text in self.out, f"{text!r} on stdout")

    def steps(self, pod: str = "") -> list[Step]:
        return read_steps(f"{self.folder}/{pod}")

    def signal(self, signum: int) -> None:
        self.process.send_signal(signum)

    def wait(
        self, code: int | None = None, *, leaves: bool = False, keeps: bool = False
    ) -> Finished:
        """Wait for the end and look at what is left; `leaves`: its folder may be; `keeps`: its
        containers may run on."""
        try:
            self.process.wait(PATIENCE * 2)
        except subprocess.TimeoutExpired:
            raise AssertionError(self._story("does not end")) from None
        Session._alive.discard(self.pid)
        finished = Finished(self.process.returncode, self.out, self.err, self.folder)
        if not keeps:
            wait_for(self._is_alone, "the end of all processes")
        if not leaves:
            assert os.listdir(self.tmp) == [], "the temporary folder is empty"
        assert "Traceback" not in finished.err, finished.err
        assert code is None or finished.code == code, self._story(f"wanted exit code {code}")
        return finished

    def kill(self) -> None:
        """kill -9, and nothing else."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        Session._alive.discard(self.pid)

    def end(self) -> None:
        """Whatever the test did, nothing goes on after it."""
        self.kill()
        for pid in set(_children()) - self._before - Session._alive:
            os.kill(pid, signal.SIGKILL)  # only after a failure; it is a child of ours now
        for file in (self._out, self._err, self.process.stdin, self.process.stdout):
            if file is not None:
                file.close()

    def _is_alone(self) -> bool:
        for pid in set(_children()) - self._before - Session._alive:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass
        return not set(_children()) - self._before - Session._alive

    def _story(self, what: str) -> str:
        shown = f"--- stdout\n{self.out[-4000:]}\n--- stderr\n{self.err[-12000:]}"
        return f"{what}\nexit code: {self.process.returncode}\n{shown}"


def _content(file: Any) -> str:
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), size, 0).decode(errors="replace")


def _children() -> list[int]:
    found: list[int] = []
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/children") as file:
                found += map(int, file.read().split())
        except FileNotFoundError:
            continue
    return found


class Place:
    """A folder of the way's user, and the sessions that were started there."""

    def __init__(self, way: Way, folder: str) -> None:
        self.way, self.folder = way, folder
        self._sessions: list[Session] = []

    def write(self, name: str, content: str | Manifest | list[Manifest]) -> str:
        path = f"{self.folder}/{name}"
        self._make_folders(os.path.dirname(path))
        # There as a whole, or not at all: a container may wait for it, and remove it at once.
        with open(f"{path}.new", "w") as file:
            file.write(content if isinstance(content, str) else json.dumps(content))
        os.chown(f"{path}.new", self.way.uid, -1)
        os.rename(f"{path}.new", path)
        return path

    def _make_folders(self, path: str) -> None:
        if not os.path.isdir(path):
            self._make_folders(os.path.dirname(path))
            os.mkdir(path)
            os.chown(path, self.way.uid, -1)

    def start(self, *pods: Manifest | str, **options: Any) -> Session:
        """`podvisor run` with these pods (each in a folder of its own) and words."""
        words = [
            word
            if isinstance(word, str)
            else self.write(f"{word['metadata']['name']}/pod.json", word)
            for word in pods
        ]
        return self.podvisor("run", f"--isolation={self.way.isolation}", *words, **options)

    def podvisor(self, *words: str, **options: Any) -> Session:
        session = Session(self.way, self.folder, words, **options)
        self._sessions.append(session)
        return session

    def run(self, *pods: Manifest | str, code: int | None = None, **options: Any) -> Finished:
        return self.start(*pods, **options).wait(code)

    def end(self) -> None:
        for session in self._sessions:
            session.end()


class Durable:
    """A durable node over its lives: its manifests are those of the folder `pods`, its containers
    begin in the place's own."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.pods = f"{place.folder}/pods"
        self.state = f"{place.folder}/.podvisor"
        place.write("podvisor.toml", 'backoff-initial = "100ms"\n')
        place.write("pods/README", "")
        self._before = set(_children())
        self._files: list[tuple[int, int, int]] = []  # as they were before they were read
        self._read = Snapshot()

    def put(self, name: str, content: str | Manifest | list[Manifest]) -> str:
        """A manifest, there as a whole or not at all."""
        if isinstance(content, list):
            content = {"apiVersion": "v1", "kind": "List", "items": content}
        new = self.place.write(f"new/{name}", content)
        path = f"{self.pods}/{name}"
        os.rename(new, path)
        return path

    def serve(self, *words: str, **options: Any) -> Session:
        isolation = f"--isolation={self.place.way.isolation}"
        return self.place.podvisor("serve", isolation, *(words or (self.pods,)), **options)

    @property
    def snapshot(self) -> Snapshot:
        """What is stored now. To look again and again costs little while nothing is written."""
        path = f"{self.state}/podvisor.db"
        begun = time.time_ns()
        files = [(s.st_ino, s.st_size, s.st_mtime_ns) for s in _stats(path, f"{path}-wal")]
        if not files:
            return Snapshot()
        if files != self._files:
            self._read = sqlite.read(path)
            # The clock of files is a coarse one: just after they were written, more may have been
            # written since then that does not show.
            settled = all(begun - written > 100_000_000 for _, _, written in files)
            self._files = files if settled else []
        return self._read

    def record(self, name: str) -> PodRecord | None:
        """What is stored of the pod of that name; of the newest, if there are several."""
        found = [s.record for s in self.snapshot.pods if s.record.pod.metadata.name == name]
        return found[-1] if found else None

    def container(self, pod: str, name: str) -> ContainerRecord | None:
        record = self.record(pod)
        return record and next((c for c in record.containers if c.name == name), None)

    def pid(self, pod: str, name: str) -> int:
        """On this host; 0 when it does not run."""
        container = self.container(pod, name)
        return container.running.pid if container and container.running else 0

    def phase(self, pod: str) -> str:
        record = self.record(pod)
        return record.status.phase if record else ""

    def running(self, session: Session, pod: str, name: str) -> int:
        """Wait until the container runs in the eyes of the store; return its pid."""
        pid: int = session.until(lambda: self.pid(pod, name), f"{pod}/{name} to run")
        return pid

    def logged(self, pod: str, name: str) -> list[str]:
        """All that the container has written to stdout, over all instances and files."""
        (folder,) = (
            f"{self.state}/logs/{entry}/{name}"
            for entry in os.listdir(f"{self.state}/logs")
            if entry.split("_")[1] == pod
        )
        files = [file for file in os.listdir(folder) if re.search(r"\.log(\.|$)", file)]
        # Of one instance, 0.log.20260101-000000 is older than 0.log.
        files.sort(key=lambda file: (int(file.split(".")[0]), file.endswith(".log"), file))
        lines, begun = [], {"stdout": "", "stderr": ""}
        for file in files:
            with open(f"{folder}/{file}", newline="\n") as log:
                for record in log:
                    if record.endswith("\n"):
                        _, stream, tag, text = record.removesuffix("\n").split(" ", 3)
                        begun[stream] += text
                        if tag != "P":
                            lines.append(begun[stream])
                            begun[stream] = ""
        return lines

    def kill_everything(self) -> None:
        """Supervisor, launcher, logger and containers, as a power failure does."""

        def are_gone() -> bool:
            ours = set(_children()) - self._before
            for pid in ours:
                os.kill(pid, signal.SIGKILL)  # a child of ours
            # Not one after the other: pid 1 of a namespace ends when all else in it is reaped.
            gone = {pid for pid in ours if os.waitpid(pid, os.WNOHANG)[0]}
            Session._alive -= gone
            return not ours

        wait_for(are_gone, "the end of all processes")


def _stats(*paths: str) -> list[os.stat_result]:
    found = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            found.append(os.stat(path))
    return found


# Where podvisor may find a tmpfs, as long as XDG_RUNTIME_DIR is not set.
IN_MEMORY = [path for path in ("/run", "/dev/shm") if is_tmpfs(path)]


def memory_folders(uid: int) -> list[str]:
    """The memory folders of all nodes of a user."""
    bases = [f"{parent}/podvisor-{uid}" for parent in IN_MEMORY]
    return [f"{base}/{name}" for base in bases if os.path.isdir(base) for name in os.listdir(base)]


def _clear_memory(folder: str, uid: int) -> None:
    """What nodes that were killed have left, which the next one would remove."""
    for path in memory_folders(uid):
        try:
            with open(f"{path}/state-folder") as file:
                is_ours = file.read().startswith(folder)
        except OSError:
            is_ours = _is_dead(path)
        if is_ours:
            shutil.rmtree(path, ignore_errors=True)
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(path))


def _is_dead(path: str) -> bool:
    try:
        return lock.holder(f"{path}/lock") is None
    except OSError:  # it is being made, or removed
        return False


def places(way: Way) -> Iterator[Place]:
    """The body of a fixture."""
    folder = tempfile.mkdtemp(prefix="podvisor-test-")
    os.chmod(folder, 0o755)
    os.chown(folder, way.uid, -1)
    place = Place(way, folder)
    try:
        yield place
    finally:
        place.end()
        shutil.rmtree(folder)
        _clear_memory(folder, way.uid)
