"""The names of podvisor without an event loop: real containers, threads, interruptions."""

from __future__ import annotations

import asyncio
import inspect
import os
import pathlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from supervisor import NodeError, PodFailed, PodTimeout, UsageError, embed, sync, testing
from tests.embed.conftest import loop_policy
from tests.runtime.conftest import (  # noqa: F401  (fixtures)
    _warm_loops,
    nothing_left,
)
from tests.runtime.nodes import wait_for

pytestmark = pytest.mark.usefixtures("nothing_left")

ROOT = pathlib.Path(__file__).parent.parent.parent
TALKER = """
apiVersion: v1
kind: Pod
metadata: {name: talker}
spec:
  restartPolicy: Never
  containers:
  - name: app
    command: [sh, -c, "trap 'echo bye; exit 0' TERM; echo one; echo two; sleep 1000 & wait"]
"""


@pytest.fixture
def node(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[sync.Supervisor]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    before = set(threading.enumerate())
    with sync.Supervisor() as node:
        yield node
    assert set(threading.enumerate()) <= before
    assert os.listdir(tmp_path) == []


# --- the same names ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Supervisor", "PodHandle"])
def test_every_name_takes_the_same_arguments_as_the_asynchronous_one(name: str) -> None:
    ours, theirs = getattr(sync, name), getattr(embed, name)

    def public(type_: type) -> dict[str, object]:
        return {n: v for n, v in vars(type_).items() if not n.startswith("_")}

    # What the node calls, and what the kit for tests needs, which sees the other one.
    others = {"pod_changed", "event", "record", "clock", "isolation", "veiled"}
    assert set(public(ours)) - {"use"} == set(public(theirs)) - others
    if name == "Supervisor":
        assert inspect.signature(ours.__init__) == inspect.signature(theirs.__init__)
    for each, mine in public(ours).items():
        if each == "use":
            continue
        other = public(theirs)[each]
        if isinstance(mine, property):
            assert isinstance(other, property), each
            continue
        assert callable(mine)
        assert callable(other)
        found, meant = inspect.signature(mine), inspect.signature(other)
        assert found.parameters == meant.parameters, each
        expected = str(meant.return_annotation).replace("Async", "")
        assert found.return_annotation == expected, each
        assert not inspect.iscoroutinefunction(mine), each


# --- what it does --------------------------------------------------------------------------------


def test_a_pod_is_run_waited_for_and_terminated(node: sync.Supervisor) -> None:
    pod = node.run(TALKER).wait_ready()
    assert (pod.phase, pod.ready) == ("Running", True)
    lines = pod.logs(follow=True)
    assert [next(lines).text, next(lines).text] == ["one", "two"]
    assert pod.pid == pod.containers["app"].pid
    assert pod.exec("", ["echo", "hello"]).output == "hello\n"
    assert node.pods() == (pod,)
    report = pod.terminate()
    assert (report.exit_code, report.killed) == (0, ())
    assert [line.text for line in lines] == ["bye"]
    assert pod.output() == "one\ntwo\nbye\n"
    assert "Started" in {event.reason for event in pod.events()}
    assert pod.timeline == str(report)
    assert node.pods() == ()


def test_what_is_wrong_is_told_as_by_the_asynchronous_one(node: sync.Supervisor) -> None:
    pod = node.run(["sh", "-c", "echo why; exit 3"])
    with pytest.raises(PodFailed, match="exited with code 3") as caught:
        pod.wait()
    assert caught.value.log_lines == ("why",)
    other = node.run(["sleep", "1000"])
    with pytest.raises(PodTimeout):
        other.wait(timeout=0.05)
    assert other.terminate(kill=True).exit_code == 137


def test_a_pod_is_watched_until_its_end(node: sync.Supervisor) -> None:
    phases = [pod.status.phase for pod in node.run(["true"]).watch()]
    assert phases[0] == "Pending"
    assert phases[-1] == "Succeeded"


def test_leaving_an_iteration_in_the_middle_ends_it(node: sync.Supervisor) -> None:
    pod = node.run(TALKER)
    for _ in pod.watch():
        break
    for line in pod.logs(follow=True):
        assert line.text == "one"
        break
    assert pod._pod._life.watchers == set()


def test_many_threads_use_one_supervisor(node: sync.Supervisor) -> None:
    def one(number: int) -> str:
        pod = node.run(["sh", "-c", f"echo {number}"], name=f"p{number}")
        pod.wait()
        return pod.output().strip()

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(one, range(16))) == [str(number) for number in range(16)]


def test_what_would_wait_for_itself_is_refused(node: sync.Supervisor) -> None:
    pod = node.run(["sleep", "1000"])
    with pytest.raises(UsageError, match="would wait for itself"):
        pod.wait_for(lambda _: bool(pod.terminate()))
    pod.terminate(kill=True)


def test_the_event_loop_around_it_is_left_alone(node: sync.Supervisor) -> None:
    policy = loop_policy()

    async def main() -> sync.PodHandle:
        return node.run(["true"])

    pod = asyncio.run(main())
    assert pod.wait().phase == "Succeeded"
    assert loop_policy() is policy
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# --- its end -------------------------------------------------------------------------------------


def test_who_waits_in_another_thread_when_it_is_left_is_told() -> None:
    caught: list[BaseException] = []
    with sync.Supervisor() as node:
        pod = node.run(TALKER)

        def wait() -> None:
            try:
                pod.wait_for("Never=True", None)
            except Exception as error:
                caught.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        wait_for(lambda: "two" in pod.output(), "its lines")  # it hears SIGTERM now
    thread.join(30)
    assert not thread.is_alive()
    assert isinstance(caught[0], (UsageError, PodFailed))
    assert pod.phase in ("Succeeded", "Failed")
    assert node.pods() == ()
    with pytest.raises(UsageError, match="was left"):
        node.run(["true"])
    with pytest.raises(UsageError, match="cannot enter a Supervisor again"):
        node.__enter__()


def test_a_node_that_cannot_start_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/proc/nowhere")
    before = set(threading.enumerate())
    with pytest.raises(NodeError), sync.Supervisor():
        pass
    assert set(threading.enumerate()) <= before


_INTERRUPTED = """
import sys, threading
from supervisor.sync import Supervisor
try:
    with Supervisor() as node:
        pod = node.run(sys.argv[1])
        for line in pod.logs(follow=True):
            print(line.text, pod.pid, flush=True)
            {what}
finally:
    print("left", [thread.name for thread in threading.enumerate()], pod.exit_code, flush=True)
"""


def start(what: str, manifest: str) -> tuple[subprocess.Popen[str], int]:
    """A program that waits in this way, and the pid of its container."""
    program = subprocess.Popen(
        [sys.executable, "-c", _INTERRUPTED.format(what=what), manifest],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert program.stdout is not None
    return program, int(program.stdout.readline().split()[1])


@pytest.mark.parametrize("what", ["pass", "pod.wait(None)", "threading.Event().wait()"])
def test_an_interruption_stops_the_pods_gracefully(what: str) -> None:
    program, pid = start(what, TALKER)
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=60)
    assert "left ['MainThread'] 0" in out, (out, err)
    assert "KeyboardInterrupt" in err.splitlines()[-1]
    assert not os.path.exists(f"/proc/{pid}")


@pytest.mark.parametrize("begun", [False, True], ids=["before", "after"])
def test_an_interruption_just_around_the_asking_leaves_nothing_going_on(
    node: sync.Supervisor, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    loop, said = node._loop, []
    submit, up = loop._submit, threading.Event()

    async def work() -> None:
        try:
            up.set()
            await asyncio.sleep(600)
        finally:
            said.append("ended")

    def interrupted(*words: Any) -> None:
        monkeypatch.undo()
        if begun:
            submit(*words)
            assert up.wait(60)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "_submit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loop.run(work())
    assert said == (["ended"] if begun else [])
    assert node.pods() == ()


def test_an_interruption_of_the_leaving_kills(tmp_path: pathlib.Path) -> None:
    told = tmp_path / "told"
    deaf = TALKER.replace("echo bye; exit 0", f"touch {told}").replace("wait", "wait; sleep 1000")
    deaf = deaf.replace("spec:", "spec:\n  terminationGracePeriodSeconds: 600")
    program, _ = start("break", deaf)
    wait_for(told.exists, "SIGTERM to the container")
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=90)  # its grace is longer
    assert "left ['MainThread'] 137" in out, (out, err)
    assert "KeyboardInterrupt" in err.splitlines()[-1]


# --- the kit for tests ---------------------------------------------------------------------------


def test_the_kit_for_tests_can_be_used(node: sync.Supervisor) -> None:
    script = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.02; done"
    pod = node.run(["sh", "-c", script])
    wait_for(lambda: "up" in pod.output(), "its line")
    table = pod.use(_table)
    assert "SIGTERM" in table
    ended = pod.use(testing.assert_graceful_shutdown, 5, lines=["bye"])
    assert (ended.exit_code, pod.exit_code) == (0, 0)


async def _table(pod: embed.PodHandle) -> str:
    return str(testing.signal_table(pod))
