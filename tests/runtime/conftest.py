"""Real containers in every way this machine offers, and the proof that each test leaves nothing.

A *way* is a user and a mode of isolation. As root, the tests run as root and as an unprivileged
uid: the test process changes its own ids (the saved one stays root's) and the launcher that it
spawns is then that user's, with no way back.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import pytest

from supervisor import runtime
from supervisor.runtime import launch
from supervisor.runtime.cri import Isolation
from supervisor.runtime.launch import Trial, diagnose
from tests.runtime.nodes import NOBODY, Way, children, reap_strays, wait_for

_root = os.getuid() == 0
_ways = [Way(0, mode) for mode in Isolation] if _root else []
_ways += [
    Way(NOBODY if _root else os.getuid(), mode)
    for mode in (Isolation.PIDNS_ROOTLESS, Isolation.GROUP)
]
_trials: dict[int, dict[Isolation, Trial]] = {}


@contextmanager
def readable_by(uid: int) -> Iterator[None]:
    """Start Pythons that find what they need as this user, also where only root reads the checkout.

    Root's own home is such a place.
    """
    from tests.support import CannotRunError, command  # which imports this module

    try:
        found = command(uid)
    except CannotRunError as error:
        pytest.skip(f"this machine cannot: {error}")
    with pytest.MonkeyPatch.context() as patch:
        if copy := dict(found.env).get("PYTHONPATH"):
            patch.setattr(sys, "executable", found.argv[0])
            patch.setattr(launch, "_PROGRAM", f"{copy}/supervisor/runtime/launcher.py")
            patch.setenv("PYTHONPATH", copy)
            patch.chdir(copy)  # as that user nobody comes back to where the checkout is
            # What we import ourselves only when it is needed, as that user.
            patch.setattr(runtime, "__path__", [f"{copy}/supervisor/runtime"])
        yield


@contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """Be another user, as far as everything that we start is concerned."""
    if uid == os.geteuid():
        yield
        return
    with readable_by(uid):
        groups = os.getgroups()
        os.setgroups([])
        os.setresgid(uid, uid, 0)
        os.setresuid(uid, uid, 0)
        try:
            yield
        finally:
            os.setresuid(0, 0, 0)
            os.setresgid(0, 0, 0)
            os.setgroups(groups)


@pytest.fixture(params=_ways, ids=str)
def way(request: pytest.FixtureRequest, nothing_left: None) -> Iterator[Way]:
    way: Way = request.param
    with acting_as(way.uid):
        if way.uid not in _trials:
            _trials[way.uid] = {trial.isolation: trial for trial in diagnose()}
        trial = _trials[way.uid][way.isolation]
        if not trial.ok:
            pytest.skip(f"this machine cannot: {trial}")
        yield way


@pytest.fixture
def namespaces(way: Way) -> Way:
    if not way.namespaces:
        pytest.skip("needs namespaces of its own")
    return way


@pytest.fixture
def folder(way: Way) -> Iterator[str]:
    path = tempfile.mkdtemp(prefix="podvisor-test-")
    yield path
    for _ in range(100):  # an orphaned logger may still write its last word
        shutil.rmtree(path, ignore_errors=True)
        if not os.path.exists(path):
            return
        time.sleep(0.05)
    shutil.rmtree(path)


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return "asyncio", {"use_uvloop": getattr(request, "param", "asyncio") == "uvloop"}


on_both_loops = pytest.mark.parametrize("anyio_backend", ["asyncio", "uvloop"], indirect=True)
# The loop is the supervisor's and the mode the launcher's, which know of each other what goes over
# a socket: so each of both, not each with each.
in_all_ways_on_both_loops = pytest.mark.parametrize(
    ("way", "anyio_backend"),
    [(_ways[0], "asyncio"), *((way, "uvloop") for way in _ways)],
    ids=str,
    indirect=True,
)


@pytest.fixture(scope="session")
def _warm_loops() -> None:
    """libuv keeps a pipe of its own for the life of the process, from its first loop on."""
    anyio.run(anyio.sleep, 0, backend_options={"use_uvloop": True})


@pytest.fixture
def nothing_left(_warm_loops: None) -> Iterator[None]:
    """Every process is gone and every descriptor closed when the test is over."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans come to us
    before = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in _fds()}
    others = set(children())
    yield
    wait_for(lambda: not set(reap_strays()) - others, "the end of all processes")
    left = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in _fds() if fd not in before}
    assert not left


def _fds() -> list[str]:
    with os.scandir("/proc/self/fd") as entries:
        return [entry.name for entry in entries if not os.readlink(entry.path).startswith("/proc/")]


def in_launchers(patch: pytest.MonkeyPatch, code: str) -> None:
    """Run this in each launcher before its main; its module is `launcher` there."""
    begin, call, end = launch._BOOT.rpartition("launcher.main")
    patch.setattr(launch, "_BOOT", f"{begin}exec({code!r}); {call}{end}")
