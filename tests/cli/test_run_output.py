"""What `podvisor run` shows, to whom, and how it ends when it is asked to."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import threading
from datetime import datetime
from typing import Any, Self

import pytest
import yaml

from supervisor.cli.output import Labels
from tests.support import (
    FOREVER,
    PYTHON,
    Manifest,
    Place,
    Session,
    Way,
    container,
    in_pidns,
    one_way,
    pod,
    python,
    sh,
    sidecar,
    step,
)

pytestmark = pytest.mark.usefixtures("nothing_left")

NEVER = {"restartPolicy": "Never"}
ECHO = sh("app", "echo out; echo error >&2; sleep 0.2; echo last")


class Terminal:
    """The other side of a pty, read until it is closed."""

    def __init__(self) -> None:
        self.ours, self.theirs = pty.openpty()
        self.text = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            select.select([self.ours], [], [])
            try:
                data = os.read(self.ours, 65536)
            except OSError:  # EIO: nobody has it open
                return
            self.text += data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.theirs)
        self._reader.join()
        os.close(self.ours)

    @property
    def lines(self) -> list[str]:
        return self.text.decode().replace("\r\n", "\n").splitlines()


def on_terminal(place: Place, *words: Manifest | str, **env: str) -> list[str]:
    with Terminal() as terminal:
        end = {"stdin": terminal.theirs, "stdout": terminal.theirs, "stderr": terminal.theirs}
        place.start(*words, env={"TERM": "xterm", **env}, tty=True, **end).wait(0)
    return terminal.lines


# --- lines ---------------------------------------------------------------------------------------


@one_way
def test_lines_of_all_containers_are_prefixed_and_aligned(place: Place):
    finished = place.run(
        pod("web", ECHO, sh("a-longer-name", "echo here"), **NEVER),
        pod("db", ECHO, **NEVER),
        code=0,
    )
    lines = finished.out.splitlines()

    shown = [f"{name + '/app':<17} | {word}" for name in ("web", "db") for word in WORDS]
    assert sorted(lines) == sorted([*shown, "web/a-longer-name | here"])
    assert "web/app           * started" in finished.err
    assert "web               * Succeeded" in finished.err


WORDS = ("out", "error", "last")


@one_way
def test_a_plain_output_has_no_colours_and_no_control_characters(place: Place):
    finished = place.run(pod("web", ECHO, **NEVER), code=0, env={"TERM": "xterm"})

    assert "\x1b" not in finished.out + finished.err


def test_what_others_say_cannot_take_over_a_terminal():
    """Events and errors have words of containers, of paths and of clients of the API."""
    assert Labels().ours("web", "a\x1b[2Jb\r\n\tc") == "web * a^[[2Jb^M\n\tc"


@one_way
def test_prefixes_can_be_left_out(place: Place):
    finished = place.run(pod("web", ECHO, **NEVER), "--no-prefix", code=0)

    assert sorted(finished.out.splitlines()) == sorted(WORDS)


@one_way
def test_each_line_can_have_its_time(place: Place):
    finished = place.run(pod("web", ECHO, **NEVER), "--timestamps", code=0, env={"TZ": "UTC"})
    found = re.findall(r"^web/app \| (\S+) (\w+)$", finished.out, re.MULTILINE)

    assert sorted(word for _, word in found) == sorted(WORDS)
    times = {word: datetime.fromisoformat(re.sub(r"\.(\d{6})\d*", r".\1", t)) for t, word in found}
    assert (times["last"] - times["out"]).total_seconds() >= 0.1
    assert all(t.endswith("Z") for t, _ in found)


@one_way
def test_a_terminal_gets_colours_and_one_for_each_container(place: Place):
    lines = on_terminal(place, pod("web", ECHO, sh("two", "echo here"), **NEVER))
    prefixes = {
        m[2]: m[1] for line in lines if (m := re.match(r"\x1b\[(\d+)m(web/\w+) *\| ", line))
    }

    assert set(prefixes) == {"web/app", "web/two"}
    assert len(set(prefixes.values())) == 2


@one_way
@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_a_terminal_can_ask_for_no_colours(place: Place, env: dict[str, str]):
    lines = on_terminal(place, pod("web", ECHO, **NEVER), **env)

    assert not [line for line in lines if "\x1b" in line]
    assert {f"web/app | {word}" for word in WORDS} <= set(lines)


@one_way
def test_a_containers_last_lines_stand_before_its_end(place: Place):
    with Terminal() as terminal:
        end = {"stdout": terminal.theirs, "stderr": terminal.theirs}
        script = "for i in $(seq 2000); do echo line $i; done"
        place.start(pod("web", sh("app", script), **NEVER), env={"NO_COLOR": "1"}, **end).wait(0)
    lines = terminal.lines

    assert lines.index("web/app | line 2000") < next(
        i for i, line in enumerate(lines) if line.startswith("web/app * exited")
    )
    assert [line for line in lines if "| line" in line] == [
        f"web/app | line {i}" for i in range(1, 2001)
    ]


@one_way
def test_the_table_at_the_end_tells_restarts_code_reason_and_duration(place: Place):
    script = "if [ -e ran ]; then exit 0; else touch ran; exit 4; fi"
    finished = place.run(
        pod("web", sh("again", script), step("app", 0.3), restartPolicy="OnFailure"), code=0
    )
    table = finished.table()

    assert table["web/again"][:3] == ["1", "0", "Completed"]
    assert table["web/app"][:3] == ["0", "0", "Completed"]
    duration = re.fullmatch(r"(\d+\.\d) s", table["web/app"][3])
    assert duration is not None
    assert float(duration[1]) >= 0.3
    assert "web/again * exited with code 4 after" in finished.err
    assert "web/again * started, restart 1" in finished.err


# --- objects -------------------------------------------------------------------------------------


@one_way
@pytest.mark.parametrize(("form", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_the_final_object_is_on_stdout_and_the_logs_on_stderr(place: Place, form: str, read: Any):
    finished = place.run(pod("web", ECHO, **NEVER), "-o", form, code=0)
    found = read(finished.out)

    assert (found["apiVersion"], found["kind"]) == ("v1", "Pod")
    assert found["metadata"]["name"] == "web"
    assert found["metadata"]["uid"]
    assert found["spec"]["containers"][0]["command"][0] == "sh"
    assert found["status"]["phase"] == "Succeeded"
    (status,) = found["status"]["containerStatuses"]
    assert status["state"]["terminated"]["reason"] == "Completed"
    for word in WORDS:
        assert f"web/app | {word}" in finished.err


@one_way
@pytest.mark.parametrize(("form", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_several_pods_are_a_list(place: Place, form: str, read: Any):
    finished = place.run(
        pod("web", ECHO, **NEVER), pod("db", container("app", "false"), **NEVER), "-o", form, code=1
    )
    found = read(finished.out)

    assert (found["apiVersion"], found["kind"]) == ("v1", "List")
    assert [item["metadata"]["name"] for item in found["items"]] == ["web", "db"]
    assert [item["status"]["phase"] for item in found["items"]] == ["Succeeded", "Failed"]


# --- manifests -----------------------------------------------------------------------------------


@one_way
def test_files_folders_lists_documents_and_stdin_can_be_mixed(place: Place):
    def named(name: str) -> Manifest:
        return pod(name, sh("app", f"echo {name} in $PWD"), **NEVER)

    place.write("dir/one.yaml", yaml.safe_dump_all([named("a"), named("b")]))
    place.write("dir/two.json", named("c"))
    place.write("dir/notes.txt", "not a manifest")
    items = {"apiVersion": "v1", "kind": "List", "items": [named("d"), named("e")]}
    listed = place.write("list.json", items)
    place.write("in.yaml", yaml.safe_dump(named("f")))
    with open(f"{place.folder}/in.yaml") as stdin:
        finished = place.run(f"{place.folder}/dir", listed, "-", code=0, stdin=stdin)

    shown = {line.split(" | ")[1] for line in finished.out.splitlines()}
    assert shown == {
        *(f"{name} in {place.folder}/dir" for name in "abc"),
        *(f"{name} in {place.folder}" for name in "def"),
    }


BAD = """\
apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: app
    command: [touch, started]
    ports:
    - containerPort: 99999
    livenessProb: {}
"""


@one_way
def test_all_mistakes_are_told_with_their_places_and_nothing_is_started(place: Place):
    place.write("web.yaml", BAD)
    good = pod("good", container("app", "touch", "started"), **NEVER)
    finished = place.run("web.yaml", "missing.yaml", good, code=3)

    assert finished.out == ""
    assert (
        "web.yaml:10:22: error: spec.containers[0].ports[0].containerPort: Invalid value: 99999"
    ) in finished.err
    assert re.search(
        r"^web\.yaml:11:5: error: .*livenessProb.*did you mean livenessProbe",
        finished.err,
        re.MULTILINE,
    )
    assert "missing.yaml" in finished.err
    assert "3 errors; nothing was started" in finished.err
    assert not os.path.exists(f"{place.folder}/good/started")
    assert not os.path.exists(f"{place.folder}/started")


@one_way
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--no-such-option", "x.yaml"], "--no-such-option"),
        (["--output", "xml", "x.yaml"], "xml"),
        (["--grace-period", "-1", "x.yaml"], "--grace-period"),
        (["--isolation", "vm", "x.yaml"], "vm"),
        (["{good}", "--backoff-initial", "soon"], "cannot use --backoff-initial 'soon'"),
        (["{good}", "--backoff-max", "0"], "cannot use --backoff-max '0'"),
    ],
    ids=str,
)
def test_a_wrong_command_line_is_2(place: Place, words: list[str], message: str):
    good = place.write("good/pod.json", pod("good", step("app"), **NEVER))
    finished = place.podvisor("run", *(word.format(good=good) for word in words)).wait(2)

    assert message in finished.err
    assert finished.out == ""
    assert not os.path.exists(f"{place.folder}/good/steps")


@one_way
def test_warnings_do_not_keep_a_pod_from_running(place: Place):
    finished = place.run(pod("web", ECHO, nodeSelector={"disk": "ssd"}, **NEVER), code=0)

    assert re.search(r"pod\.json:1:\d+: warning: spec\.nodeSelector", finished.err)
    assert "web/app | out" in finished.out


@one_way
def test_the_back_off_of_podvisor_toml_holds_and_the_command_line_wins(place: Place):
    place.write("podvisor.toml", 'backoff-initial = "600ms"\nbackoff-max = "900ms"\n')
    crash = pod("web", step("app", 0, 1))
    session = place.start(crash)
    session.until(lambda: session.err.count("CrashLoopBackOff") >= 3, "three waits")
    session.signal(signal.SIGTERM)
    waits = re.findall(r"back-off (\S+) restarting", session.wait(143).err)
    assert waits[:3] == ["600ms", "900ms", "900ms"]

    session = place.start(crash, "--backoff-initial", "400ms")
    session.until(lambda: session.err.count("CrashLoopBackOff") >= 2, "two waits")
    session.signal(signal.SIGTERM)
    assert re.findall(r"back-off (\S+) restarting", session.wait(143).err)[:2] == ["400ms", "800ms"]


# --- asked to end --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
@one_way
def test_a_signal_deletes_gracefully_and_decides_the_exit_code(
    place: Place, signum: int, code: int
):
    session = place.start(pod("web", step("app", FOREVER, stop_code=7)), "-o", "json")
    session.until(lambda: session.steps("web"), "the container")
    session.signal(signum)
    web = session.wait(code).pods["web"]

    assert web.walk() == ["app began", "app told", "app ended"]
    assert web.end("app") == ("Error", 7)


def start_deaf(place: Place, *words: str, grace: int = 600, **options: Any) -> Session:
    deaf = step("app", FOREVER, stop="deaf")
    session = place.start(pod("web", deaf, terminationGracePeriodSeconds=grace), *words, **options)
    session.until(lambda: session.steps("web"), "the container")
    return session


@one_way
def test_asking_twice_shortens_the_grace_to_a_second(place: Place):
    session = start_deaf(place, "-o", "json")
    session.signal(signal.SIGINT)
    session.until_said("web     * stopping, grace 600 s")
    session.signal(signal.SIGINT)
    finished = session.wait(130)

    assert "grace shortened to 1 s; once more kills" in finished.err
    assert finished.pods["web"].end("app") == ("Error", 137)


@one_way
def test_asking_a_third_time_kills(place: Place):
    # Stopped, podvisor takes all three at once; no grace is over by then.
    session = start_deaf(place, "-o", "json")
    session.signal(signal.SIGINT)
    session.until_said("Ctrl-C again to shorten")
    for signum in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
        session.signal(signum)
    finished = session.wait(130)  # the first one decides

    assert "grace shortened to 1 s; once more kills" in finished.err
    assert "killing" in finished.err
    assert finished.pods["web"].end("app") == ("Error", 137)


@one_way
def test_what_is_waited_for_is_said_once_with_the_time_that_is_left(place: Place):
    python_deaf = python(
        "works",
        "import signal, time\n"
        "signal.signal(15, print)\n"
        "print('up', flush=True)\n"
        "while True: time.sleep(9)",
    )
    session = place.start(
        pod("web", step("deaf", FOREVER, stop="deaf"), python_deaf, terminationGracePeriodSeconds=3)
    )
    session.until_logged("web/works | up")
    session.until(lambda: session.steps("web"), "the container")
    session.signal(signal.SIGINT)
    err = session.wait(130).err

    number = "pid 1" if place.way.namespaces else r"process \d+"
    why = rf"^web/deaf  \* {number} `sh -c …` ignores SIGTERM; SIGKILL in (\d) s; Ctrl-C again to"
    ignores = re.findall(why, err, re.MULTILINE)
    assert len(ignores) == 1
    assert int(ignores[0]) in (2, 3)
    works = [line for line in err.splitlines() if line.startswith("web/works *")]
    assert (
        len([line for line in works if "has a SIGTERM handler and is still working; " in line]) == 1
    )
    assert re.search(
        r"^web/deaf  \* SIGKILL (\d\.\d) s after SIGTERM, exit 137$", err, re.MULTILINE
    )


@one_way
def test_the_grace_of_the_command_line_wins_over_the_pods(place: Place):
    session = start_deaf(place, "--grace-period", "1", "-o", "json")
    session.signal(signal.SIGTERM)
    finished = session.wait(143)

    assert "stopping, grace 1 s" in finished.err
    assert finished.pods["web"].end("app") == ("Error", 137)


@one_way
def test_a_reader_of_stdout_that_goes_away_ends_the_run_gracefully(place: Place):
    reading, writing = os.pipe()
    script = "trap 'echo told >>told; exit 0' TERM; while :; do echo line; sleep 0.02; done"
    session = place.start(pod("web", sh("app", script)), stdout=writing)
    os.close(writing)
    with open(reading) as reader:  # as `| head -1`
        assert reader.readline() == "web/app | line\n"
    finished = session.wait(141)

    assert os.path.exists(f"{place.folder}/web/told")
    assert "Broken pipe" not in finished.err
    assert "BrokenPipe" not in finished.err


@one_way
def test_a_reader_that_is_slow_delays_nothing_but_what_is_shown(place: Place):
    reading, writing = os.pipe()
    script = "for i in $(seq 20000); do echo a line that fills the pipe $i; done; echo done >done"
    session = place.start(pod("web", sh("app", script), **NEVER), stdout=writing)
    os.close(writing)
    session.until(lambda: os.path.exists(f"{place.folder}/web/done"), "the container's end")
    with open(reading) as reader:
        lines = reader.read().splitlines()
    session.wait(0)

    assert lines == [f"web/app | a line that fills the pipe {i}" for i in range(1, 20001)]


# --- kept folder ---------------------------------------------------------------------------------


@one_way
def test_the_folder_of_a_failed_pod_can_be_kept_and_is_named(place: Place):
    words = sh("app", "echo something; exit 5")
    session = place.start(pod("web", words, **NEVER), "--keep")
    finished = session.wait(1, leaves=True)
    (folder,) = re.findall(r"logs and files are kept in (\S+)", finished.err)

    assert folder.startswith(session.tmp)
    found = [f"{path}/{name}" for path, _, names in os.walk(folder) for name in names]
    (log,) = [name for name in found if name.endswith("/app/0.log")]
    assert re.fullmatch(r"default_web_[0-9a-f-]{36}", log.split("/")[-3])
    with open(log) as file:
        assert re.fullmatch(r"\S+ stdout F something\n", file.read())
    # It is not swept by the next run, and that one keeps nothing: its pod does not fail.
    place.start(pod("good", sh("app", "exit 0"), **NEVER), "--keep").wait(0, leaves=True)
    assert os.path.exists(log)
    assert len(os.listdir(os.path.dirname(folder))) == 1


@one_way
def test_nothing_is_kept_when_that_was_not_asked_for(place: Place):
    place.run(pod("web", container("app", "false"), **NEVER), code=1)  # looks at the folder


# --- hints ---------------------------------------------------------------------------------------


@one_way
def test_hints_are_given_once_each(place: Place):
    silent = "import time; print('held back'); time.sleep(1000)"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # nobody else gets it, and nobody listens
        taken = {"containerPort": server.getsockname()[1]}
        free = {"containerPort": reserved.getsockname()[1]}
        session = place.start(
            pod(
                "web",
                python("silent", silent),
                container("flag", PYTHON, "-u", "-c", silent.replace("held", "not held")),
                step("taken", FOREVER, ports=[taken]),
                step("first", FOREVER, ports=[free]),
                step("second", FOREVER, ports=[free]),
            ),
            pod("job", step("ends", 0.1)),
            pod("task", step("ends", 0.1), restartPolicy="OnFailure"),
            "--backoff-initial",
            "100ms",
            "--grace-period",
            "0",
        )
        session.until_said("web/silent * hint: nothing written for 5 s")
        session.until(lambda: session.err.count("job/ends   * started") >= 3, "restarts")
        session.signal(signal.SIGINT)
        err = session.wait(130).err

    hints = re.findall(r"^(\S+) +\* hint: (.*)$", err, re.MULTILINE)
    by_label = dict(hints)
    assert sorted(label for label, _ in hints) == [
        "job/ends",
        "web/second",
        "web/silent",
        "web/taken",
    ]
    assert "PYTHONUNBUFFERED" in by_label["web/silent"]
    port = taken["containerPort"]
    assert (
        f"containerPort {port} is already held by process {os.getpid()} (" in by_label["web/taken"]
    )
    port = free["containerPort"]
    assert f"containerPort {port} is declared by web/first too" in by_label["web/second"]
    assert "restartPolicy is Always" in by_label["job/ends"]


@one_way
def test_hints_name_the_namespace_where_there_are_several(place: Place):
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = {"containerPort": reserved.getsockname()[1]}
        web = container("app", "true", ports=[port])
        finished = place.run(
            pod("web", web, **NEVER),
            pod("shop", web, metadata={"namespace": "shop"}, **NEVER),
            code=0,
        )

    assert re.search(
        r"^shop/shop/app +\* hint: .* declared by default/web/app", finished.err, re.MULTILINE
    )


# --- logs ----------------------------------------------------------------------------------------

_LOUD = """
import os, threading
def write(fd, name):
    for start in range(0, 125_000, 500):
        block = b"".join(b"%s %08d %s\\n" % (name, i, b"x" * 60) for i in range(start, start + 500))
        view = memoryview(block)
        while view:
            view = view[os.write(fd, view):]
threads = [threading.Thread(target=write, args=one) for one in ((1, b"out"), (2, b"err"))]
for thread in threads: thread.start()
for thread in threads: thread.join()
os._exit(3)
"""


@one_way
def test_no_byte_of_20_mb_on_both_streams_is_lost_or_mixed(place: Place):
    session = place.start(pod("web", python("app", _LOUD), **NEVER), "--no-prefix", "--keep")
    finished = session.wait(1, leaves=True)
    lines = finished.out.splitlines()

    for name in ("out", "err"):
        expected = [f"{name} {i:08d} {'x' * 60}" for i in range(125_000)]
        assert [line for line in lines if line.startswith(name)] == expected
    assert len(lines) == 250_000
    # The files hold the same bytes, in order, over their rotations.
    folder = re.findall(r"kept in (\S+)", finished.err)[0]
    (logs,) = [path for path, _, names in os.walk(f"{folder}/logs") if "0.log" in names]
    names = sorted(os.listdir(logs))
    rotated = [name for name in names if name.startswith("0.log.")]
    assert rotated  # it was more than 10 MiB
    stored: dict[str, list[str]] = {"stdout": [], "stderr": []}
    for name in [*rotated, "0.log"]:
        with open(f"{logs}/{name}") as file:
            for line in file:
                _, stream, tag, content = line.rstrip("\n").split(" ", 3)
                assert tag == "F"
                stored[stream].append(content)
    assert [line for line in lines if line.startswith("out")] == stored["stdout"]
    assert [line for line in lines if line.startswith("err")] == stored["stderr"]


# --- terminal ------------------------------------------------------------------------------------


@one_way
def test_a_closed_terminal_deletes_gracefully(place: Place):
    ours, theirs = pty.openpty()
    end = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    session = place.start(pod("web", step("app", FOREVER)), tty=True, **end)
    os.close(theirs)
    session.until(lambda: session.steps("web"), "the container")
    os.close(ours)  # SIGHUP, and writing fails from now on

    assert session.wait().code == 129
    assert [step.what for step in session.steps("web")] == ["began", "told", "ended"]


@in_pidns
def test_the_whole_story_reads_like_this(place: Place, way: Way):
    init = sh("migrate", "echo schema ready")
    side = sidecar(step("side", FOREVER))
    hello = sh("app", "until grep -qs 'side began' steps; do sleep 0.02; done; echo hello")
    finished = place.run(pod("web", hello, init=(init, side), **NEVER), code=0)

    story = re.sub(r"\d+\.\d s", "N s", finished.err.split("\nCONTAINER")[0])
    lines = story.splitlines()
    assert lines[:3] == [
        "web/migrate * started",
        "web/migrate * init done after N s",
        "web/side    * started",
    ]
    assert [line for line in lines if line.startswith("web  ")] == [
        "web         * Running",
        "web         * all app containers have ended: stopping side",
        "web         * Succeeded",
    ]
    assert lines[-2:] == ["web/side    * exited with code 0 after N s", "web         * Succeeded"]
    assert finished.out == "web/migrate | schema ready\nweb/app     | hello\n"


@one_way
def test_the_run_needs_no_terminal_and_no_stdin(place: Place):
    finished = place.run(pod("web", ECHO, **NEVER), stdin=subprocess.DEVNULL, code=0)

    assert "web/app | last" in finished.out
