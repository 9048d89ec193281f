"""One node for one state directory."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from supervisor.errors import NodeError
from supervisor.store.lock import Lock, LockedError
from tests.support import ROOT

HOLDER = """
import sys
from supervisor.store.lock import Lock
held = Lock(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / "lock")


@pytest.fixture
def holder(path: str) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-c", HOLDER, path]
    with subprocess.Popen(
        argv, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_the_second_node_is_refused_with_the_pid_of_the_first(
    path: str, holder: subprocess.Popen[str]
) -> None:
    with pytest.raises(LockedError) as caught:
        Lock(path)
    assert isinstance(caught.value, NodeError)
    assert str(caught.value) == (
        f"cannot use {os.path.dirname(path)}: a node runs on it already (pid {holder.pid})"
    )


def test_the_lock_ends_with_its_process(path: str, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    Lock(path).close()


def test_a_process_refuses_itself_and_keeps_its_lock(path: str) -> None:
    held = Lock(path)
    try:
        with pytest.raises(LockedError, match=f"pid {os.getpid()}"):
            Lock(path)
        # A lock that was opened and closed by the second would be gone now.
        assert f" {os.getpid()} " in pathlib.Path("/proc/locks").read_text()
        assert other_process(path) == f"pid {os.getpid()}"
    finally:
        held.close()
    assert other_process(path) == "free"
    Lock(path).close()


FORK = """
import os, sys
from supervisor.store.lock import Lock
held = Lock(sys.argv[1])
child = os.fork()
if not child:
    try:
        Lock(sys.argv[1])
    except Exception as error:
        os._exit(0 if f"(pid {os.getppid()})" in str(error) else 1)
    os._exit(2)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_does_not_have_it(path: str) -> None:
    """It is refused because of its parent, as any other process is."""
    argv = [sys.executable, "-c", FORK, path]
    done = subprocess.run(argv, cwd=ROOT, text=True, capture_output=True, check=True)
    assert done.stdout == "0\n"


def test_it_may_be_asked_not_to_make_the_file(path: str) -> None:
    with pytest.raises(FileNotFoundError):
        Lock(path, create=False)
    assert not os.path.exists(path)


def other_process(path: str) -> str:
    code = (
        "import sys\nfrom supervisor.store.lock import Lock\n"
        "try:\n    Lock(sys.argv[1])\n    print('free')\n"
        "except Exception as error:\n    print(str(error).rpartition('(')[2].rstrip(')'))\n"
    )
    argv = [sys.executable, "-c", code, path]
    return subprocess.run(argv, cwd=ROOT, text=True, capture_output=True, check=True).stdout.strip()
