"""`podvisor run` ends well whenever and however its end is asked for: a sample of `make torture`.

Each run is on a real terminal and is judged as there: its end within the grace and a little, the
exit code, no traceback, no process and no file left. The moments are random.
"""

from __future__ import annotations

import pathlib
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from tests.support import PATIENCE
from tests.torture import harness
from tests.torture.harness import PODVISOR, How, Phase, random_trial

CHATTY = """
apiVersion: v1
kind: Pod
metadata: {name: chatty}
spec:
  containers:
  - name: app
    command: [sh, -c, "trap 'exit 0' TERM; while :; do echo 0123456789012345678901234567890; done"]
"""
# A terminal's Ctrl-C, again and again, while launchers are started; they must all answer.
HAMMERED = """
import select, signal, subprocess, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
from supervisor.runtime.launch import spawn_launcher
hammer = subprocess.Popen(["sh", "-c", "trap '' INT; while :; do kill -INT 0; done"])
answers = []
for _ in range(20):
    launcher = spawn_launcher()
    select.select([launcher.channel], [], [])
    answers.append(bool(launcher.channel.recv(65536)))
    launcher.close()
hammer.kill()
hammer.wait()
sys.exit(not all(answers))
"""


@pytest.fixture(autouse=True)
def _orphans_come_to_us() -> None:
    harness.be_subreaper()


@pytest.fixture
def manifest(tmp_path: pathlib.Path) -> str:
    path = tmp_path / "pod.yaml"
    path.write_text(CHATTY)
    return str(path)


def judge(how: How, phase: Phase, presses: int = 1) -> None:
    result = harness.run(random_trial(how, phase, presses, random.Random()))
    assert not result.failures, f"{result.trial}, pressed in {result.phases}:\n{result.output}"


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.ENDED], ids=str)
def test_ctrl_c_ends_a_run_in_every_phase(phase: Phase):
    judge(How.CTRL_C, phase)


@pytest.mark.parametrize("presses", [2, 3])
def test_ctrl_c_again_ends_it_too(presses: int):
    judge(How.CTRL_C, random.choice([Phase.HANDSHAKE, Phase.RUNNING]), presses)


@pytest.mark.parametrize("how", [How.HANGUP, How.SIGHUP, How.SIGTERM, How.READER], ids=str)
def test_every_other_end_is_graceful_and_has_its_exit_code(how: How):
    judge(how, random.choice([Phase.START, Phase.INIT, Phase.RUNNING]))


def test_a_closed_terminal_hangs_up_twice_without_shortening_the_grace(tmp_path: pathlib.Path):
    """The kernel sends SIGHUP, and so does the shell."""
    path = tmp_path / "pod.yaml"
    path.write_text(
        CHATTY.replace(
            "trap 'exit 0' TERM; while", "trap 'sleep 1.3; echo ended; exit' TERM; while"
        )
    )
    with start(str(path)) as process:
        assert process.stdout
        process.stdout.read(1)
        process.send_signal(signal.SIGHUP)
        time.sleep(0.1)
        process.send_signal(signal.SIGHUP)
        out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 129
    assert out.rstrip().endswith(b"| ended")


def test_a_reader_that_stopped_reading_does_not_keep_it(manifest: str):
    """Once its pods have ended, one more Ctrl-C gives up what nobody reads."""
    with start(manifest) as process:
        assert process.stdout
        process.stdout.read(1)
        time.sleep(0.5)  # the pipe is full
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.5)
        assert process.poll() == 130
        process.stdout.read()


def test_ctrl_c_ends_it_while_it_waits_for_a_manifest_on_stdin():
    with start("-") as process:
        assert process.stdin
        process.stdin.write(b"#" * 200_000)  # more than a pipe holds: it is reading by now
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130


def test_a_ctrl_c_at_its_birth_does_not_end_the_launcher():
    """Until it has a session of its own, the terminal reaches it too."""
    subprocess.run(
        [sys.executable, "-c", HAMMERED], start_new_session=True, check=True, timeout=110
    )


class start:  # noqa: N801
    """A run without a terminal; killed if the test fails."""

    def __init__(self, manifest: str) -> None:
        self._process = subprocess.Popen(
            [PODVISOR, "run", manifest],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> subprocess.Popen[bytes]:
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        with self._process:
            pass
