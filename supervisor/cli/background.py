"""The node that `podvisor up` starts in the background, and `podvisor down` ends.

It is a `podvisor serve` like any other, in a session of its own, so that no terminal takes it
away. What it says goes to a file in its state folder. Two `up` at once start one node: they take
turns by a lock on another file there, and whoever comes second finds a node that answers.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import select
import shlex
import signal
import stat
import subprocess
import sys
import time

from supervisor.cli.signals import SignalWatch
from supervisor.client import STATE, Client, NotRunningError
from supervisor.errors import ExitCode, NodeError, StatusError, UsageError
from supervisor.kubelet import statedir

LOG = "serve.log"
OPTION = "--background"  # of serve
_TURN = "up.lock"
_PATIENCE = 60.0  # seconds until a node that starts has to answer
_LOOK_EVERY = 0.02
_MAX_LOG = 1024 * 1024  # bytes; a longer one is put aside at the next start
_SHOWN = 2000  # characters of it


class InterruptedStartError(Exception):
    """Asked to end while a node started. It has been ended."""


def ensure(client: Client, options: list[str], signals: SignalWatch) -> bool:
    """Have a node run there that answers; return whether this has started it.

    `options` are more words for `serve`; a node that runs already must have been started with
    each. `signals` are held from when there is a node that we have started. Raises NodeError where
    it does not start, UsageError, InterruptedStartError.
    """
    place = client.state_dir
    try:
        os.makedirs(place, mode=0o700, exist_ok=True)
        found = os.lstat(place)
    except OSError as error:
        raise NodeError(f"cannot start a node on {place}: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise NodeError(f"cannot use {place}: it is not a folder of this user")
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        turn = os.open(os.path.join(place, _TURN), flags, 0o600)
    except OSError as error:
        raise NodeError(f"cannot start a node on {place}: {error.strerror}") from error
    try:
        fcntl.flock(turn, fcntl.LOCK_EX)  # until another one has started it
        if _holder(place) is not None:
            _await(client, None, 0, signals.fd)
            _compare(place, options)
            return False
        said = _open_log(place)
        try:
            begin = os.fstat(said).st_size
            signals.hold()
            started = _spawn(place, options, said)
        finally:
            os.close(said)
        if not _await(client, started, begin, signals.fd):
            started.terminate()
            started.wait()
            raise InterruptedStartError
        return True
    finally:
        os.close(turn)


def _holder(place: str) -> int | None:
    try:
        return statedir.holder(place)
    except FileNotFoundError:
        return None


def _open_log(place: str) -> int:
    path = os.path.join(place, LOG)
    with contextlib.suppress(FileNotFoundError):
        if os.lstat(path).st_size > _MAX_LOG:
            os.rename(path, f"{path}.1")
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags, 0o600)
    except OSError as error:
        raise NodeError(f"cannot write {path}: {error.strerror}") from error


def _spawn(place: str, options: list[str], said: int) -> subprocess.Popen[bytes]:
    # The folder of the project, whatever folder in it we were called in: pods that name no other
    # start there. -P: what lies in it must not be taken for our modules.
    folder = os.path.dirname(place) if os.path.basename(place) == STATE else os.getcwd()
    words = ["serve", OPTION, "--state-dir", place, *options]
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "supervisor", *words],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    except OSError as error:
        raise NodeError(f"cannot start a node on {place}: {error.strerror}") from error


def _await(
    client: Client, started: subprocess.Popen[bytes] | None, begin: int, interrupted: int
) -> bool:
    """Until the API answers, or a descriptor is readable: then False. Raises NodeError where it
    will not answer."""
    place = client.state_dir
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            client.request("GET", "/readyz", accept="*/*").close()
        except (NodeError, StatusError) as error:
            trouble = error
        else:
            return True
        if started is not None and started.poll() is not None and _holder(place) is None:
            raise _not_started(place, started.returncode, begin)
        if started is None and isinstance(trouble, NotRunningError):
            raise trouble  # it has ended meanwhile
        if time.monotonic() > end:
            raise NodeError(
                f"cannot reach the node on {place}: its API does not answer after "
                f"{_PATIENCE:.0f} s; {os.path.join(place, LOG)} may say why ({trouble})"
            )
        if select.select([interrupted], [], [], _LOOK_EVERY)[0]:
            return False


def _not_started(place: str, code: int, begin: int) -> NodeError | UsageError:
    try:
        with open(os.path.join(place, LOG), encoding="utf-8", errors="replace") as file:
            file.seek(begin)
            said = file.read().strip()[-_SHOWN:].removeprefix("podvisor: ")
    except OSError:
        said = ""
    text = f"cannot start a node on {place}: {said or f'it has ended with code {code}'}"
    return UsageError(text) if code == ExitCode.USAGE else NodeError(text)


def _compare(place: str, options: list[str]) -> None:
    """Raises UsageError where the node was started with other options."""
    has: list[str] = []
    for word in shlex.split(statedir.command_of(place) or ""):
        option, equals, value = word.partition("=")
        has += [option, value] if equals and option.startswith("--") else [word]
    pairs = list(zip(options[::2], options[1::2], strict=True))
    for option, value in pairs:
        if (option, value) not in itertools.pairwise(has):
            raise UsageError(
                f"cannot use {option} {value}: a node runs on {place} already, without it; "
                "`podvisor down` ends it"
            )


def is_own(place: str) -> bool:
    """Whether the node there was started by `up`."""
    words = shlex.split(statedir.command_of(place) or "")
    return ("podvisor", "up") in itertools.pairwise(words)


def stop(client: Client) -> bool:
    """End a node that `up` has started; whether there was one. Raises NodeError."""
    place = client.state_dir
    pid = _holder(place)
    if not pid or not is_own(place):
        return False
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if _holder(place) != pid:
            return False  # that was another one's number
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        if not select.select([pidfd], [], [], _PATIENCE)[0]:
            raise NodeError(f"cannot end the node on {place} (pid {pid}): it goes on")
    finally:
        os.close(pidfd)
    return True
