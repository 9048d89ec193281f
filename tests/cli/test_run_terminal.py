"""`podvisor run -i -t`: one container gets our stdin, or the terminal."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import termios
import threading
from typing import Any, Self

import pytest

from supervisor.cli import terminal
from supervisor.errors import UsageError
from supervisor.project import manifests
from tests.support import (
    FOREVER,
    Manifest,
    Place,
    Session,
    in_pidns,
    one_way,
    pod,
    python,
    sh,
    sidecar,
    step,
    wait_for,
)

pytestmark = pytest.mark.usefixtures("nothing_left")

NEVER = {"restartPolicy": "Never"}
DEBUGGED = "answer = 41\nbreakpoint()\nprint('the answer is', answer)"
WAITS = (
    "trap 'exit 3' INT; trap 'exit 0' TERM; echo began; while read word; do echo got $word; done"
)


class Screen:
    """The other side of a terminal: somebody who types and reads."""

    def __init__(self) -> None:
        self.ours, self.theirs = pty.openpty()
        self.text = ""
        self.attributes = termios.tcgetattr(self.theirs)
        self._over = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while not self._over.is_set():
            if not select.select([self.ours], [], [], 0.05)[0]:
                continue
            try:
                self.text += os.read(self.ours, 65536).decode()
            except OSError:  # EIO: nobody has it open
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._reader.join()
        for fd in (self.ours, self.theirs):
            if fd >= 0:
                os.close(fd)

    @property
    def ends(self) -> dict[str, Any]:
        ends = {"stdin": self.theirs, "stdout": self.theirs, "stderr": self.theirs}
        return ends | {"env": {"NO_COLOR": "1"}}

    @property
    def is_as_before(self) -> bool:
        return termios.tcgetattr(self.theirs) == self.attributes

    def type(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def until(self, text: str) -> None:
        wait_for(lambda: text in self.text, f"{text!r} on the screen", 12)


def on(screen: Screen, place: Place, *words: Manifest | str, tty: bool = False) -> Session:
    """`tty`: as its controlling terminal. Its end then resets that, whatever it had done to it."""
    return place.start("-it", *words, tty=tty, **screen.ends)


def is_stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


# --- a terminal -----------------------------------------------------------------------------------


def test_a_debugger_works_in_a_container(place: Place):
    with Screen() as screen:
        session = on(screen, place, pod("web", python("app", DEBUGGED), **NEVER))
        screen.until("(Pdb) ")
        screen.type("answer += 1\r")
        screen.until("(Pdb) answer += 1\r\n")
        screen.type("c\r")
        session.wait(0)
        assert screen.is_as_before
        screen.until("web/app  ")
    told, _, shown = screen.text.partition("web/app * started\r\n")
    assert "Pdb" not in told
    assert "the answer is 42\r\n" in shown
    assert "web/app |" not in screen.text, "what it shows is shown to the byte"
    assert shown.index("the answer") < shown.index("Running"), "our lines wait for its end"


@pytest.mark.parametrize(
    ("how", "code"), [("end", 0), ("ctrl-c", 1), ("crash", 1), ("SIGTERM", 143), ("SIGHUP", 129)]
)
@one_way
def test_the_terminal_is_as_before_on_every_way_out(place: Place, how: str, code: int):
    with Screen() as screen:
        session = on(screen, place, pod("web", sh("app", WAITS), **NEVER))
        screen.until("began")
        assert not screen.is_as_before
        if how == "end":
            screen.type("\x04")
        elif how == "ctrl-c":
            screen.type("\x03")
        elif how == "crash":
            with open(f"/proc/{session.pid}/task/{session.pid}/children") as file:
                launcher = file.read().split()[0]
            os.kill(int(launcher), signal.SIGKILL)
            code = 4
        else:
            session.signal(getattr(signal, how))
        session.wait(code, leaves=how == "crash")
        assert screen.is_as_before


def test_an_error_of_ours_leaves_the_terminal_as_it_was(monkeypatch: pytest.MonkeyPatch):
    with Screen() as screen:
        monkeypatch.setattr(terminal, "_KEYBOARD", screen.theirs)
        loaded = manifests.Loaded((), (), manifests.Project(root="/"))
        with pytest.raises(UsageError):
            terminal.attach(loaded, tty=True)
        about = manifests.v1.ObjectMeta(name="web")
        lent = terminal.Attachment(about, "app", tty=True)

        def fail() -> None:
            with lent:
                lent.raw()
                assert not screen.is_as_before
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail()
        assert screen.is_as_before


@in_pidns
def test_the_terminal_is_lent_again_to_the_next_instance(place: Place):
    """Between two of them it is ours, and so is Ctrl-C."""
    with Screen() as screen:
        restarted = pod("web", sh("app", "echo here; read word; echo got $word; exit 1"))
        session = on(screen, place, "--backoff-initial=1s", restarted, tty=True)
        for times in (1, 2):
            wait_for(lambda times=times: screen.text.count("here") == times, "its start")
            screen.type("word\r")
            wait_for(lambda times=times: screen.text.count("got word") == times, "its answer")
        screen.until("CrashLoopBackOff")  # the first restart comes at once
        wait_for(lambda: screen.is_as_before, "the terminal back")
        screen.type("\x03")
        session.wait(130)


def test_the_container_has_the_size_of_the_window(place: Place):
    with Screen() as screen:
        termios.tcsetwinsize(screen.theirs, (33, 77))
        sized = sh("app", "trap 'stty size' WINCH; stty size; while :; do read word && break; done")
        session = on(screen, place, pod("web", sized, **NEVER), tty=True)
        screen.until("33 77")
        termios.tcsetwinsize(screen.ours, (44, 88))
        screen.until("44 88")
        session.signal(signal.SIGKILL)
        session.wait(-9, leaves=True)


@one_way
def test_the_terminal_is_as_before_while_we_are_stopped(place: Place):
    with Screen() as screen:
        session = on(screen, place, pod("web", sh("app", WAITS), **NEVER), tty=True)
        screen.until("began")
        for word in ("one", "two"):
            wait_for(lambda: not screen.is_as_before, "raw mode")
            session.signal(signal.SIGTSTP)
            wait_for(lambda: is_stopped(session.pid), "its stop")
            assert screen.is_as_before
            session.signal(signal.SIGCONT)
            wait_for(lambda: not screen.is_as_before, "raw mode again")
            screen.type(f"{word}\r")
            screen.until(f"got {word}\r\n")
        screen.type("\x04")
        session.wait(0)


@one_way
def test_what_others_say_waits_until_the_terminal_is_free(place: Place):
    side = sidecar(sh("side", "until test -e go; do sleep 0.02; done; echo late; exec sleep 1000"))
    marked = {"stdin": True, "tty": True}
    with Screen() as screen:
        two = pod("web", sh("app", WAITS, **marked), init=(side,), **NEVER)
        session = place.start("-i", two, "--grace-period=1", tty=False, **screen.ends)
        screen.until("began")
        screen.type("one\r")
        screen.until("got one\r\n")
        place.write("web/go", "")
        screen.type("two\r")
        screen.until("got two\r\n")
        assert "Running" not in screen.text
        screen.type("\x04")
        screen.until("Running")
        session.signal(signal.SIGINT)
        session.wait()
    assert screen.text.index("web/side | late") > screen.text.index("got two")


@one_way
def test_a_closed_terminal_ends_the_pods_gracefully(place: Place):
    screen = Screen()
    with screen:
        session = on(screen, place, pod("web", step("app", FOREVER)), tty=True)
        os.close(screen.theirs)
        screen.theirs = -1
        session.until(lambda: session.steps("web"), "the container")
        screen._over.set()
        screen._reader.join()
        os.close(screen.ours)
        screen.ours = -1
        session.wait(129)
    assert [step.what for step in session.steps("web")] == ["began", "told", "ended"]


# --- stdin ----------------------------------------------------------------------------------------


def test_a_pipe_is_read_to_its_end(place: Place):
    session = place.start("-i", pod("web", sh("app", "cat"), **NEVER), stdin=subprocess.PIPE)
    session.process.stdin.write(b"one\n")
    session.process.stdin.flush()
    session.until_logged("web/app | one")
    session.process.stdin.write(b"two")
    session.process.stdin.close()
    assert session.wait(0).out == "web/app | one\nweb/app | two\n"


def test_lines_from_a_terminal_reach_a_container_without_one(place: Place):
    with Screen() as screen:
        reader = pod("web", sh("app", "test -t 0; echo $?; cat; exit 5"), **NEVER)
        session = place.start("-i", reader, stdin=screen.theirs)
        session.until_logged("web/app | 1")
        screen.type("hello\r")
        session.until_logged("web/app | hello")
        assert screen.is_as_before
        screen.type("\x04")
        assert session.wait(1).table()["web/app"][1] == "5"


def test_without_i_an_stdin_stays_open_and_a_terminal_is_nobodys(place: Place):
    quiet = sh("quiet", "timeout 0.3 cat; echo $?", stdin=True)
    typed = sh("typed", "test -t 0 && echo a terminal", tty=True)
    finished = place.run(pod("web", quiet, typed, **NEVER), stdin=subprocess.DEVNULL, code=0)
    assert "web/quiet | 124\n" in finished.out
    assert "web/typed | a terminal\r\n" in finished.out.replace("\r\r", "\r")


# --- usage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-t",), "cannot use -t without -i"),
        (("-i", "-"), "cannot read manifests from the stdin that -i gives to a container"),
        (("-it",), "cannot give web/app a terminal: our stdin is none"),
        (("-i", "two"), "cannot choose who gets our stdin (web/app, two/a, two/b)"),
    ],
)
@one_way
def test_what_cannot_be_lent_is_refused(place: Place, words: tuple[str, ...], said: str):
    two = pod("two", sh("a", "true"), sh("b", "true"))
    given = [two if word == "two" else word for word in words]
    finished = place.run(pod("web", sh("app", "true")), *given, code=2)
    assert said in finished.err
    assert "started" not in finished.err
