"""What /proc tells about real processes: why one does not stop, and who holds a port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from supervisor.runtime.procfs import (
    PortHolder,
    command_line,
    explain_deaf,
    port_holder,
    shorten,
    signal_disposition,
)

Start = Callable[..., int]


def until(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "condition not met in time"
        os.sched_yield()


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a Python program, waits for its word "ready", and returns its pid."""
    started: list[subprocess.Popen[bytes]] = []

    def start(program: str, *words: str) -> int:
        prelude = "import signal, sys, threading\nsay = lambda: print('ready', flush=True)\n"
        process = subprocess.Popen(
            [sys.executable, "-c", prelude + program, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process.pid

    yield start
    for process in started:
        process.kill()
        process.communicate()


READ = "say(); sys.stdin.read()"


def who(pid: int) -> str:
    return f"process {pid} `{os.path.basename(sys.executable)} -c …`"


def test_the_four_dispositions_are_told_apart(start: Start):
    """trap 24"""
    pid = start(
        "signal.signal(signal.SIGTERM, lambda *_: None)\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n" + READ
    )
    disposition = signal_disposition(pid)

    assert disposition is not None
    assert disposition.of(signal.SIGTERM) == "caught"
    assert disposition.of(signal.SIGHUP) == "ignored"
    assert disposition.of(signal.SIGUSR1) == "blocked"
    assert disposition.of(signal.SIGUSR2) == "default"


def test_a_signal_that_one_thread_takes_is_not_blocked(start: Start):
    pid = start(
        "threading.Thread(target=sys.stdin.read, daemon=True).start()\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
        "say(); threading.Event().wait()"
    )
    disposition = signal_disposition(pid)

    assert disposition is not None
    assert disposition.of(signal.SIGTERM) == "default"


def test_a_pid_1_without_a_handler_is_named_with_the_reason(start: Start):
    """§7.9, trap 24"""
    pid = start(READ)

    assert explain_deaf(pid, signal.SIGTERM, is_pid1=True) == (
        f"pid 1 `{os.path.basename(sys.executable)} -c …` has no SIGTERM handler, "
        "so the kernel drops it"
    )


def test_a_process_with_the_default_action_is_not_explained(start: Start):
    """The signal ends it: it is only not gone yet."""
    assert explain_deaf(start(READ), signal.SIGTERM, is_pid1=False) is None


def test_ignoring_is_said(start: Start):
    pid = start("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + READ)

    assert explain_deaf(pid, signal.SIGTERM, is_pid1=False) == f"{who(pid)} ignores SIGTERM"


def test_blocking_is_said_while_the_signal_waits(start: Start):
    pid = start("signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n" + READ)
    os.kill(pid, signal.SIGTERM)

    assert explain_deaf(pid, signal.SIGTERM, is_pid1=False) == f"{who(pid)} blocks SIGTERM"
    # Not even pid 1 loses a signal that it blocks: it might set a handler before it looks.
    assert explain_deaf(pid, signal.SIGTERM, is_pid1=True) == (
        f"pid 1 `{os.path.basename(sys.executable)} -c …` blocks SIGTERM"
    )


def test_a_signal_taken_without_a_handler_is_said(start: Start):
    """sigwait, as init programs use it."""
    pid = start(
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
        "say(); signal.sigwait([signal.SIGTERM]); sys.stdin.read()"
    )
    os.kill(pid, signal.SIGTERM)
    expected = f"{who(pid)} has taken SIGTERM and is still working"

    until(lambda: explain_deaf(pid, signal.SIGTERM, is_pid1=False) == expected)


def test_a_handler_at_work_is_said(start: Start):
    pid = start("signal.signal(signal.SIGTERM, lambda *_: None)\n" + READ)
    os.kill(pid, signal.SIGTERM)
    expected = f"{who(pid)} has a SIGTERM handler and is still working"

    until(lambda: explain_deaf(pid, signal.SIGTERM, is_pid1=False) == expected)


def test_a_stopped_process_is_said(start: Start):
    pid = start("signal.signal(signal.SIGTERM, lambda *_: None)\n" + READ)
    os.kill(pid, signal.SIGSTOP)
    expected = f"{who(pid)} is stopped (state T), so SIGTERM waits"

    until(lambda: explain_deaf(pid, signal.SIGTERM, is_pid1=False) == expected)


def test_nothing_is_said_about_a_process_that_has_ended():
    process = subprocess.Popen(["true"])
    zombie = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert zombie is not None
    assert explain_deaf(process.pid, signal.SIGTERM, is_pid1=True) is None
    process.wait()

    assert explain_deaf(process.pid, signal.SIGTERM, is_pid1=True) is None
    assert signal_disposition(process.pid) is None
    assert command_line(process.pid) == ""


@pytest.mark.parametrize(
    ("words", "short"),
    [
        (["sh", "-c", "echo up; python3 serve.py"], "sh -c …"),
        (["/bin/sleep", "1000"], "sleep 1000"),
        (["python3", "-m", "http.server", "8000"], "python3 -m http.server 8000"),
        (["java", "-jar", "x" * 40, "y"], "java -jar …"),
        (["cat", "a\nb", "c"], "cat …"),
        (["cat", ""], "cat …"),
        (["nginx: master process"], "nginx: master process"),
        (["x" * 50, "y"], "x" * 16 + "… y"),
        (["a\x1b[0m"], r"a\x1b[0m…"),
        ([], ""),
    ],
)
def test_a_command_line_becomes_a_few_words(words: list[str], short: str):
    assert shorten(words) == short


def test_what_secrets_have_put_into_a_command_is_not_shown():
    with subprocess.Popen(["sleep", "1000", "4.25"]) as process:
        until(lambda: command_line(process.pid) == "sleep 1000 4.25")
        assert command_line(process.pid, ["4.25", "100"]) == "sleep ***0 ***"
        process.kill()


def test_a_kernel_thread_has_its_name_only():
    if os.path.exists("/proc/2") and command_line(2):
        assert command_line(2) == "kthreadd"


LISTEN = (
    "import socket\n"
    "s = socket.socket({family}, {kind}); s.bind(({host!r}, 0)); {listen}\n"
    "sys.stderr.write(str(s.getsockname()[1]) + chr(10)); say(); sys.stdin.read()"
)


@pytest.mark.parametrize(
    ("protocol", "family", "host"),
    [
        ("TCP", socket.AF_INET, "127.0.0.1"),
        ("TCP", socket.AF_INET6, "::"),
        ("UDP", socket.AF_INET, "0.0.0.0"),
    ],
)
def test_who_holds_a_port_is_named(
    start: Start, capfd: pytest.CaptureFixture[str], protocol: str, family: int, host: str
):
    kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
    listen = "s.listen()" if protocol == "TCP" else "pass"
    pid = start(LISTEN.format(family=int(family), kind=int(kind), host=host, listen=listen))
    port = int(capfd.readouterr().err)
    command = f"{os.path.basename(sys.executable)} -c …"

    assert port_holder(port, protocol) == PortHolder(os.getuid(), pid, command)


def test_a_free_port_has_no_holder():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound, not listening: reserved, and nobody answers there
        port = bound.getsockname()[1]

        assert port_holder(port) is None
        assert port_holder(port, "SCTP") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a process of another user")
def test_the_process_of_another_user_stays_unnamed():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        program = (
            "import os, sys; sys.path.insert(0, sys.argv[1])\n"
            "from supervisor.runtime.procfs import port_holder\n"
            "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            f"print(port_holder({port}))"
        )
        said = subprocess.run(
            [sys.executable, "-c", program, os.getcwd()], capture_output=True, check=True
        )

        assert said.stdout == b"PortHolder(uid=0, pid=None, command='')\n"
