"""Hooks as `podvisor run` runs them: one run of many pods, one SIGTERM, what each pod shows.

The names in brackets are those of the acceptance scenarios. Times are those that containers and
hooks wrote down themselves, and those of the timeline that `-o json` prints.
"""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trustme
from msgspec import Struct

from tests.support import (
    FOREVER,
    Finished,
    Manifest,
    Place,
    Pod,
    Session,
    Way,
    as_root,
    container,
    one_way,
    pod,
    python,
    sh,
    sidecar,
    step,
)

pytestmark = pytest.mark.usefixtures("nothing_left")

NEVER = {"restartPolicy": "Never"}
LINUX = {"os": {"name": "linux"}}


def note(name: str, *what: str) -> str:
    """Shell code that writes one of the pod's steps."""
    return "; ".join(f'echo "$(date +%s.%N) {name} {word}" >>steps' for word in what)


def program(script: str) -> Manifest:
    return {"exec": {"command": ["sh", "-c", script]}}


def noting(name: str, takes: float = 0, code: int = 0) -> Manifest:
    """A hook that writes down its beginning and its end."""
    nap = f"sleep {takes}" if takes else ":"
    return program(f"{note(name, 'began')}; {nap}; {note(name, 'ended')}; exit {code}")


def hooks(post: Manifest | None = None, pre: Manifest | None = None, **more: Any) -> Manifest:
    given = {"postStart": post, "preStop": pre, **more}
    return {"lifecycle": {name: value for name, value in given.items() if value is not None}}


def probe(script: str, **fields: int) -> Manifest:
    return {**program(script), "periodSeconds": 1, "failureThreshold": 1, **fields}


def grace(seconds: int) -> dict[str, int]:
    return {"terminationGracePeriodSeconds": seconds}


# --- who is asked over HTTP ----------------------------------------------------------------------


class Asked(Struct, frozen=True):
    """A request, and whose process sent it."""

    at: float
    path: str
    headers: dict[str, str]
    by_podvisor: bool
    processes: int  # of the pod that the path names, while it was asked


class Receiver:
    """Two servers, one of them behind TLS, that keep what they are asked."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.podvisor = 0
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                receiver._note(self)
                self.send_response(500)  # whatever it is, it is a success
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.plain = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.tls = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("elsewhere.example").configure_cert(context)
        self.tls.socket = context.wrap_socket(self.tls.socket, server_side=True)
        self._threads = [
            threading.Thread(target=server.serve_forever, args=(0.05,))
            for server in (self.plain, self.tls)
        ]

    @contextmanager
    def open(self) -> Iterator[Receiver]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            for server, thread in zip((self.plain, self.tls), self._threads, strict=True):
                server.shutdown()
                thread.join()
                server.server_close()

    def get(self, path: str, *, tls: bool = False) -> Manifest:
        """A hook that asks here."""
        server = self.tls if tls else self.plain
        port = server.server_address[1]
        return {"httpGet": {"port": port, "path": path, "scheme": "HTTPS" if tls else "HTTP"}}

    def of(self, path: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.path == path]

    def _note(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        port, to = handler.client_address[1], handler.server.server_address[1]
        asked = Asked(
            at=time.time(),
            path=handler.path,
            headers=dict(handler.headers.items()),
            by_podvisor=f"socket:[{socket_inode(port, int(to))}]" in descriptors(self.podvisor),
            processes=len(processes_of(handler.path.split("/")[1], self.podvisor)),
        )
        self.asked.append(asked)


def socket_inode(port: int, to: int) -> str:
    """Of the connection from this port to that one, at its beginning."""
    with open("/proc/net/tcp") as table:
        for row in table:
            fields = row.split()
            if fields[1:3] == [f"0100007F:{port:04X}", f"0100007F:{to:04X}"]:
                return fields[9]
    return "none"


def descriptors(pid: int) -> set[str]:
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except FileNotFoundError:
            continue
    return found


def processes_of(pod: str, podvisor: int) -> list[int]:
    """The processes that run a program in a container of this pod of this podvisor."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                environ = file.read().split(b"\0")
            if f"HOSTNAME={pod}".encode() in environ and podvisor in ancestors(int(pid)):
                found.append(int(pid))
        except OSError:
            continue
    return found


def ancestors(pid: int) -> list[int]:
    found = []
    while pid > 1:
        with open(f"/proc/{pid}/stat") as file:
            pid = int(file.read().rpartition(")")[2].split()[1])
        found.append(pid)
    return found


# --- the run -------------------------------------------------------------------------------------

# Says which signals came, and ends after the first one.
HEARS = """
import signal, sys, time
def heard(number, frame):
    print("heard", signal.Signals(number).name if number < 32 else f"RTMIN+{number - 34}")
    sys.exit(0)
for number in (signal.SIGTERM, signal.SIGUSR1, 37):
    signal.signal(number, heard)
print("up", flush=True)
time.sleep(1000)
"""
# Says what it is like to be here.
FACTS = """
echo "ids $(id -u) $(id -g) $(id -G)"
echo "cwd $(pwd), umask $(umask), greeting $GREETING"
for kind in pid mnt user net; do echo "$kind $(readlink /proc/self/ns/$kind)"; done
echo "session of $HOSTNAME"
while read -r line; do echo "limit $line"; done </proc/self/limits
echo end of facts
"""
LIMITS = {"limits": {"CORE": [4096, 8192]}}


def the_pods(way: Way, receiver: Receiver) -> list[Manifest]:
    own_output = "/proc/1/fd/1" if way.namespaces else "/proc/$PODVISOR_MAIN_PID/fd/1"
    lives = step("app", FOREVER)
    get = receiver.get
    return [
        # postStart and preStop over each handler, in app containers and sidecars
        pod("d01", {**lives, **hooks(noting("post"), noting("pre", 0.3))}),
        pod("d03", python("app", HEARS, **hooks(get("/d03/post"), get("/d03/pre")))),
        pod(
            "d05",
            python("app", HEARS, **hooks(get("/d05/post", tls=True), get("/d05/pre", tls=True))),
        ),
        pod(
            "b15",
            lives,
            init=(
                sidecar(step("side1", FOREVER) | hooks(noting("post"), noting("pre"))),
                sidecar(step("side2", FOREVER) | hooks(get("/b15/post"), get("/b15/pre"))),
                sidecar(
                    step("side3", FOREVER)
                    | hooks(get("/b15/tls-post", tls=True), get("/b15/tls-pre", tls=True))
                ),
            ),
        ),
        # what waits for a postStart
        pod("a03", step("app", FOREVER) | hooks(noting("post")), init=(step("init", 0.2),)),
        pod("d07", {**lives, **hooks(noting("post", 0.5))}, step("second", FOREVER)),
        pod(
            "d20",
            lives | hooks(noting("post", 1.3)) | {"readinessProbe": probe(note("probe", "asks"))},
        ),
        # Its preStop lets the shell come so far that it hears SIGTERM.
        pod("d18", lives | hooks({"tcpSocket": {"port": 80}}, noting("pre", 0.7))),
        pod("d21", lives | hooks({"exec": {"command": ["sleep", "600"]}}), **grace(60)),
        # no preStop for what ends by itself
        pod("d10", step("app", 0.3) | hooks(pre={"sleep": {"seconds": 10}}), **NEVER),
        pod("d19-zero", step("app", 0.3) | hooks(pre=noting("pre")), **NEVER),
        pod("d19-one", step("app", 0.3, 1) | hooks(pre=noting("pre")), **NEVER),
        pod("d19-killed", container("app", "sleep", "1000", **hooks(pre=noting("pre"))), **NEVER),
        # preStop and the grace
        pod("d11", lives | hooks(pre={"sleep": {"seconds": 0}}), **grace(60)),
        pod("d14", lives | hooks(pre=noting("pre", 1)), **grace(60)),
        pod("d16", step("app", FOREVER, stop_code=7) | hooks(pre=noting("pre", code=1))),
        pod("used", step("app", FOREVER, stop="deaf") | hooks(pre=noting("pre", 1.5)), **grace(2)),
        pod("overdue", lives | hooks(pre={"exec": {"command": ["sleep", "60"]}}), **grace(1)),
        # the stop signal
        pod("d12", python("app", HEARS, **hooks(stopSignal="SIGUSR1")), **LINUX),
        pod(
            "d12-rt",
            python("app", HEARS, **hooks(pre=noting("pre"), stopSignal="SIGRTMIN+3")),
            **LINUX,
        ),
        # what a hook runs in, and where its output goes
        pod(
            "place",
            sh(
                "app",
                f"{FACTS}\ntrap 'exit 0' TERM; while :; do sleep 0.05; done",
                env=[{"name": "GREETING", "value": "hello"}],
                **hooks(
                    program(f"exec >{own_output}; {FACTS}"),
                    program("echo nobody sees this; echo nor this >&2; exit 3"),
                ),
            ),
        ),
        # probes and hooks
        pod(
            "b03",
            lives,
            init=(
                sidecar(
                    step("side", FOREVER)
                    | hooks(pre=noting("pre", 0.2))
                    | {"startupProbe": probe("exit 1")}
                ),
            ),
        ),
        pod(
            "b04",
            lives,
            init=(
                sidecar(
                    step("side", FOREVER)
                    | hooks(pre=noting("pre", 0.2))
                    | {"livenessProbe": probe("exit 1", initialDelaySeconds=1)}
                ),
            ),
        ),
        pod(
            "b09",
            lives,
            init=(
                sidecar(step("side1", FOREVER, stop=0.1) | hooks(pre=noting("pre1", 1))),
                sidecar(step("side2", FOREVER, stop=0.1) | hooks(pre=noting("pre2", 1))),
            ),
        ),
        pod(
            "c24",
            lives
            | hooks(pre=noting("pre", 2.2))
            | {
                "livenessProbe": probe(note("live", "asks") + "; exit 1", initialDelaySeconds=1),
                "readinessProbe": probe(note("ready", "asks")),
            },
            **NEVER,
        ),
        pod(
            "c25",
            step("app", FOREVER, stop_code=3)
            | hooks(pre=noting("pre"))
            | {"startupProbe": probe("exit 1")},
            **NEVER,
        ),
        pod(
            "c26",
            step("app", FOREVER, stop_code=3)
            | hooks(pre=noting("pre"))
            | {"livenessProbe": probe("exit 1")},
            **NEVER,
        ),
    ]


ENDED = ("d10", "d19-zero", "d19-one", "d19-killed", "c24", "c25", "c26")  # by themselves


def is_under_way(session: Session, receiver: Receiver) -> bool:
    """Whether every pod has come as far as its test wants."""
    said = session.err
    began = {
        pod: [f"{step.name} {step.what}" for step in session.steps(pod)]
        for pod in ("d01", "a03", "b03", "b04", "b09", "b15", "d07", "d16", "d20", "used")
    }
    return (
        all("app began" in steps for name, steps in began.items() if name != "b03")
        and "post ended" in began["d20"]
        and "probe asks" in began["d20"]
        and "second began" in began["d07"]
        and began["b03"].count("side began") >= 3
        and began["b04"].count("side began") >= 2
        and said.count("d18/app        * started, restart 1") == 1
        and len(receiver.asked) >= 4
        and said.count("| up") >= 4
        and said.count("| end of facts") >= 2
    )


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver().open() as opened:
        yield opened


@pytest.fixture(scope="module")
def finished(way: Way, shared_place: Place, receiver: Receiver) -> Finished:
    receiver.asked.clear()
    session = shared_place.start(
        *the_pods(way, receiver), "-o", "json", "--backoff-initial", "100ms", start=LIMITS
    )
    receiver.podvisor = session.pid
    (main,) = session.until(lambda: processes_of("d19-killed", session.pid), "the one to be killed")
    session.until(lambda: comm(main) == "sleep", "its program")
    os.kill(main, signal.SIGKILL)
    session.until(lambda: is_under_way(session, receiver), "all pods to be under way")
    for name in ENDED:
        session.until(lambda name=name: has_ended(session, name), f"the end of {name}")
    session.signal(signal.SIGTERM)
    return session.wait(143)


def comm(pid: int) -> str:
    with open(f"/proc/{pid}/comm") as file:
        return file.read().strip()


def has_ended(session: Session, name: str) -> bool:
    return any(
        line.split()[:2] == [name, "*"] and line.split()[2] in ("Succeeded", "Failed")
        for line in session.err.splitlines()
        if len(line.split()) > 2
    )


@pytest.fixture(scope="module")
def _parsed(finished: Finished) -> dict[str, Pod]:
    return finished.pods


@pytest.fixture
def pods(_parsed: dict[str, Pod], finished: Finished) -> dict[str, Pod]:
    print(finished.err)  # shown when a test fails
    return _parsed


class Timeline:
    """Of the end of a pod: when what happened to a container, in seconds since it began."""

    def __init__(self, pod: Pod) -> None:
        text = pod.object["metadata"]["annotations"]["podvisor/termination-timeline"]
        self.marks: list[dict[str, Any]] = json.loads(text)

    def at(self, event: str, container: str = "app") -> float:
        return float(self._find(event, container)["seconds"])

    def note(self, event: str, container: str = "app") -> str:
        return str(self._find(event, container)["note"])

    def has(self, event: str) -> bool:
        return any(mark["event"] == event for mark in self.marks)

    def _find(self, event: str, container: str) -> dict[str, Any]:
        (found,) = [
            mark
            for mark in self.marks
            if mark["event"] == event and mark.get("container", "") == container
        ]
        return found


def order(pod: Pod, *steps: str) -> bool:
    """Whether these steps came in this order, each of them once."""
    walk = pod.walk()
    assert [walk.count(step) for step in steps] == [1] * len(steps), walk
    places = [walk.index(step) for step in steps]
    return places == sorted(places)


# --- postStart and preStop -----------------------------------------------------------------------


def test_programs_run_once_after_the_start_and_before_the_stop_signal(pods: dict[str, Pod]):
    """§6.1.1, §6.2.1, §6.3.1 [D01 D02 D13]"""
    pod = pods["d01"]
    assert order(pod, "app began", "pre began", "pre ended", "app told", "app ended")
    assert order(pod, "post began", "post ended", "pre began")
    said = pod.said("app")
    assert said[0] == "started"
    assert said[1].startswith("postStart done in ")
    assert [line for line in said if line.startswith("preStop done in ")]
    assert pod.end("app") == ("Completed", 0)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        pytest.param("d03", "/d03/", id="http"),
        pytest.param("d05", "/d05/", id="https with a certificate of its own"),
        pytest.param("b15", "/b15/", id="http of a sidecar"),
        pytest.param("b15", "/b15/tls-", id="https of a sidecar"),
    ],
)
def test_requests_are_sent_once_by_podvisor_itself(
    pods: dict[str, Pod], receiver: Receiver, name: str, path: str
):
    """§6.3.2, §6.4.1, §6.4.3 [D03 D04 D05 D06 D13 B15]: any status is a success."""
    for which, hook in (("post", "postStart"), ("pre", "preStop")):
        (asked,) = receiver.of(f"{path}{which}")
        assert asked.by_podvisor
        assert asked.headers["User-Agent"].startswith("kube-lifecycle/")
        assert asked.headers["Podvisor-Hook-Attempt"] == "1"
        uid = pods[name].object["metadata"]["uid"]
        container = {"b15/": "side2", "b15/tls-": "side3"}.get(path[1:], "app")
        assert asked.headers["Idempotency-Key"] == f"{uid}/{container}/0/{hook}"


def test_a_request_costs_its_container_nothing(pods: dict[str, Pod], receiver: Receiver):
    """§6.3.2: nothing ran in the container but its main, which needs no shell."""
    for path in ("/d03/post", "/d03/pre", "/d05/post", "/d05/pre"):
        assert [asked.processes for asked in receiver.of(path)] == [1]
    assert pods["d03"].lines("app") == ["up", "heard SIGTERM"]
    assert pods["d03"].end("app") == ("Completed", 0)


def test_hooks_of_sidecars_run_as_those_of_apps(pods: dict[str, Pod], receiver: Receiver):
    """§6.2.1, §6.2.7 [B15]: preStops at once, signals in turn."""
    pod = pods["b15"]
    assert order(pod, "side1 began", "pre began", "pre ended", "side1 told")
    assert order(pod, "app ended", "side3 told")
    assert order(pod, "post ended", "side2 began", "side3 began", "app began")
    assert order(pod, "side3 ended", "side2 told", "side2 ended", "side1 told", "side1 ended")
    (asked,) = receiver.of("/b15/pre")
    assert asked.at <= pod.at("side2", "told")[0]


# --- what waits for a postStart ------------------------------------------------------------------


def test_a_post_start_follows_the_last_init_container(pods: dict[str, Pod]):
    """§6.1.1 [A03]"""
    assert order(pods["a03"], "init began", "init ended", "post began", "post ended")


def test_the_next_container_starts_when_the_post_start_has_ended(pods: dict[str, Pod]):
    """§6.1.2 [D07]"""
    assert order(pods["d07"], "post began", "post ended", "second began")


def test_nobody_sees_or_probes_a_container_before_its_post_start_has_ended(pods: dict[str, Pod]):
    """§6.1.2, §2.4.3 [D20]"""
    pod = pods["d20"]
    (ended,) = pod.at("post", "ended")
    assert min(pod.at("probe", "asks")) >= ended
    said = pod.said("app")
    assert said.index("ready") > next(i for i, s in enumerate(said) if s.startswith("postStart"))


def test_a_post_start_that_fails_stops_its_container_which_is_restarted(pods: dict[str, Pod]):
    """§6.1.3, §6.1.4, §6.3.3 [D18]: a tcpSocket is accepted and always fails."""
    pod = pods["d18"]
    assert pod.containers["app"]["restartCount"] >= 1
    assert [step for step in pod.walk() if not step.startswith("pre ")][:4] == [
        "app began",
        "app told",
        "app ended",
        "app began",
    ]
    assert pod.at("pre", "ended")[0] <= pod.at("app", "told")[0]
    failed = [line for line in pod.said("app") if line.startswith("postStart failed after ")]
    assert len(failed) >= 2
    assert "Cannot run handler: invalid handler" in failed[0]
    assert failed[0].endswith("; stopping it, grace 30 s")


def test_a_deletion_waits_for_no_post_start(pods: dict[str, Pod]):
    """§6.1.6 [D21]: it is cancelled, and its program is gone with it."""
    pod = pods["d21"]
    assert any(line.startswith("postStart cancelled after ") for line in pod.said("app"))
    timeline = Timeline(pod)
    assert timeline.at("over", "") < 60
    assert not timeline.has("SIGKILL")
    assert pod.end("app") == ("Completed", 0)


# --- no preStop ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "end"),
    [
        pytest.param("d10", ("Completed", 0), id="a sleep would take ten seconds"),
        pytest.param("d19-zero", ("Completed", 0), id="success"),
        pytest.param("d19-one", ("Error", 1), id="failure"),
        pytest.param("d19-killed", ("Error", 137), id="killed by somebody else"),
    ],
)
def test_what_ends_by_itself_gets_no_pre_stop(
    pods: dict[str, Pod], name: str, end: tuple[str, int]
):
    """§6.2.2 [D10 D19]"""
    pod = pods[name]
    assert pod.end("app") == end
    assert not [line for line in pod.said("app") if "preStop" in line]
    assert pod.at("pre", "began") == []
    assert not Timeline(pod).has("preStop begins")


# --- preStop and the grace -----------------------------------------------------------------------


def test_a_sleep_may_take_no_time(pods: dict[str, Pod]):
    """§6.3.4 [D11]"""
    timeline = Timeline(pods["d11"])
    assert timeline.note("preStop ends") == "succeeded"
    assert timeline.at("over", "") < 60
    assert not timeline.has("SIGKILL")


def test_a_container_runs_on_while_its_pre_stop_does(pods: dict[str, Pod]):
    """§6.2.1 [D14]"""
    pod = pods["d14"]
    assert order(pod, "pre began", "pre ended", "app told", "app ended")
    assert pod.at("app", "told")[0] - pod.at("pre", "began")[0] >= 1
    assert pod.end("app") == ("Completed", 0)


def test_a_pre_stop_that_fails_changes_nothing_else(pods: dict[str, Pod]):
    """§6.2.6 [D16]"""
    pod = pods["d16"]
    assert order(pod, "pre began", "pre ended", "app told")
    (said,) = [line for line in pod.said("app") if line.startswith("preStop failed after ")]
    assert " s: command 'sh -c " in said
    assert Timeline(pod).note("preStop ends") == "failed"
    assert pod.end("app") == ("Error", 7)


def test_what_a_pre_stop_takes_is_taken_from_the_grace_but_two_seconds_are_left(
    pods: dict[str, Pod],
):
    """§6.2.4, §6.2.5"""
    timeline = Timeline(pods["used"])
    ended, told = timeline.at("preStop ends"), timeline.at("stop signal")
    assert 1.5 <= ended <= told
    assert timeline.at("SIGKILL") - told >= 2 - 0.002
    assert pods["used"].end("app") == ("Error", 137)


def test_a_pre_stop_is_not_waited_for_when_the_grace_is_over(pods: dict[str, Pod]):
    """§6.2.4, §6.2.5: the signal comes then, and the hook dies with its container."""
    pod = pods["overdue"]
    timeline = Timeline(pod)
    assert timeline.note("preStop ends") == "deadline"
    assert 1 <= timeline.at("preStop ends") <= timeline.at("stop signal")
    assert pod.end("app") == ("Completed", 0)
    assert [s for s in pod.said("app") if s.startswith("preStop has taken all of the grace, ")]


# --- the stop signal -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shown", "heard"),
    [("d12", "SIGUSR1", "SIGUSR1"), ("d12-rt", "SIGRTMIN+3", "RTMIN+3")],
)
def test_the_stop_signal_comes_instead_of_sigterm(
    pods: dict[str, Pod], name: str, shown: str, heard: str
):
    """§6.5 [D12]"""
    pod = pods[name]
    assert pod.lines("app") == ["up", f"heard {heard}"]
    assert Timeline(pod).note("stop signal") == shown
    assert pod.containers["app"]["stopSignal"] == shown
    assert pod.end("app") == ("Completed", 0)


@one_way
def test_a_stop_signal_needs_to_know_the_system(place: Place):
    """§6.5 [D12]"""
    one = pod("d12", container("app", "sleep", "1", **hooks(stopSignal="SIGUSR1")))
    assert "spec.os.name" in place.run(one, code=3).err


# --- what a hook runs in -------------------------------------------------------------------------


def facts(lines: list[str]) -> tuple[list[str], list[str]]:
    """What the main and the hook found: both wrote into one log, each of the lines twice."""
    once = list(dict.fromkeys(lines))
    return once, [line for line in once if lines.count(line) != 2]


def test_a_program_runs_as_its_container_does(pods: dict[str, Pod], way: Way):
    """§6.3.1: user, environment, folder, namespaces, limits."""
    found, different = facts(pods["place"].lines("app"))
    assert different == []
    assert found[0].startswith(f"ids {way.uid} ")
    assert any(line.startswith("cwd ") and "greeting hello" in line for line in found)
    (cores,) = [line.split() for line in found if line.startswith("limit Max core file size")]
    assert cores[5:7] == ["4096", "8192"]


@as_root
def test_a_program_runs_as_the_user_of_its_container(place: Place, way: Way):
    """§6.3.1"""
    out = "/proc/1/fd/1" if way.namespaces else "/proc/$PODVISOR_MAIN_PID/fd/1"
    app = sh(
        "app",
        "sleep 0.5; id -u",
        securityContext={"runAsUser": 65534, "runAsGroup": 65533},
        **hooks(program(f'echo "hook $(id -u) $(id -g) $(id -G)" >{out}')),
    )
    found = place.run(pod("user", app, **NEVER), "-o", "json", code=0).pods["user"]
    assert found.lines("app") == ["hook 65534 65533 65533", "65534"]


def test_what_a_hook_prints_is_not_in_the_log(pods: dict[str, Pod]):
    """§6.4.3: but for what it writes there itself."""
    pod = pods["place"]
    assert pod.lines("app").count("end of facts") == 2
    assert not [line for line in pod.lines("app") if "this" in line]
    (said,) = [line for line in pod.said("app") if line.startswith("preStop failed")]
    assert r"nobody sees this\nnor this\n" in said


# --- hooks and probes ----------------------------------------------------------------------------


def test_a_sidecar_that_fails_its_startup_probe_gets_its_pre_stop_and_nothing_follows(
    pods: dict[str, Pod],
):
    """§6.2.1, §7.6.3 [B03]"""
    pod = pods["b03"]
    walk = [step for step in pod.walk() if step != "side ended"]
    assert walk[:8] == ["side began", "pre began", "pre ended", "side told"] * 2
    assert pod.at("app", "began") == []
    assert "Running" not in pod.said()
    assert pod.containers["side"]["restartCount"] >= 2


def test_a_sidecar_that_fails_its_liveness_probe_gets_its_pre_stop_and_the_app_starts(
    pods: dict[str, Pod],
):
    """§6.2.1, §7.6.3 [B04]"""
    pod = pods["b04"]
    walk = [step for step in pod.walk() if step.startswith(("side", "pre"))]
    assert walk[:6] == [
        "side began",
        "pre began",
        "pre ended",
        "side told",
        "side ended",
        "side began",
    ]
    assert pod.at("app", "began")[0] <= pod.at("pre", "began")[0]


def test_pre_stops_of_sidecars_run_at_once_and_their_ends_in_reverse_order(pods: dict[str, Pod]):
    """§6.2.7, §7.4.1 [B09]"""
    pod = pods["b09"]
    assert max(pod.at("pre1", "began") + pod.at("pre2", "began")) <= min(
        pod.at("pre1", "ended") + pod.at("pre2", "ended")
    )
    timeline = Timeline(pod)
    begins = [timeline.at("preStop begins", name) for name in ("side1", "side2")]
    assert begins[0] == begins[1]
    assert order(pod, "app ended", "side2 told", "side2 ended", "side1 told", "side1 ended")


def test_readiness_is_probed_during_a_pre_stop_and_liveness_is_not(pods: dict[str, Pod]):
    """§7.6.3, §5.2.11 [C24]"""
    pod = pods["c24"]
    began, ended = pod.at("pre", "began")[0], pod.at("pre", "ended")[0]
    assert [at for at in pod.at("ready", "asks") if began < at < ended]
    assert max(pod.at("live", "asks")) <= began
    assert len(pod.at("live", "asks")) == 1


@pytest.mark.parametrize(
    ("name", "probe"), [("c25", "startup"), ("c26", "liveness")], ids=["startup", "liveness"]
)
def test_under_never_a_failed_probe_ends_the_pod_after_the_pre_stop(
    pods: dict[str, Pod], name: str, probe: str
):
    """§6.2.1, §7.6.3 [C25 C26]"""
    pod = pods[name]
    assert order(pod, "pre began", "pre ended", "app told", "app ended")
    assert (pod.phase, pod.end("app")) == ("Failed", ("Error", 3))
    assert [line for line in pod.said("app") if line.startswith(f"{probe} probe failed")]


# --- what is said meanwhile ----------------------------------------------------------------------


@one_way
def test_podvisor_says_which_hooks_it_waits_for_and_what_a_refused_one_means(place: Place):
    ends = "trap 'exit 0' TERM; while :; do sleep 0.02; done"
    slow = hooks(program("sleep 3"), program("sleep 100"))
    refused = hooks({"httpGet": {"port": 1}}, {"sleep": {"seconds": 1}})
    session = place.start(
        pod("web", sh("slow", ends, **slow), sh("refused", ends, **refused), **grace(100)),
        "--backoff-initial=1h",
    )
    session.until_said("web/refused * CrashLoopBackOff")
    session.signal(signal.SIGINT)
    session.until_said("web/slow    * preStop goes on; SIGTERM in ")
    session.signal(signal.SIGINT)
    said = session.wait(130).err

    assert (
        "web/slow    * postStart goes on; until it has ended, the container is not seen running "
        "and nothing starts after it\n"
    ) in said
    assert "; Ctrl-C again to shorten\npodvisor    * grace shortened to 1 s" in said
    (hint,) = [line for line in said.splitlines() if "hint: " in line]
    assert hint.startswith("web/refused * hint: a postStart runs beside the main")
    assert len(re.findall(r"^web/slow +\* .* goes on", said, re.MULTILINE)) == 2
