"""kill -9 of the program that embeds podvisor, in every company: nothing of its pods lives on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.runtime.nodes import Way, children, reap_strays, wait_for

PROGRAM = """
import asyncio, multiprocessing, os, sys, time
from supervisor import Supervisor

async def main():
    async with Supervisor(isolation=sys.argv[1]) as node:
        script = "setsid sleep 1000 & (trap '' TERM; sleep 1000 &); exec sleep 1000"
        pods = [await node.run(["sh", "-c", script], name=f"pod-{n}") for n in range(3)]
        for pod in pods:
            await pod.wait_ready()
        if sys.argv[2] == "forked":
            worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
            worker.start()
        print("up", flush=True)
        await asyncio.sleep(1000)

asyncio.run(main())
"""


Program = subprocess.Popen[str]


@pytest.fixture
def program(way: Way, folder: str, request: pytest.FixtureRequest) -> Iterator[Program]:
    environ = os.environ | {"TMPDIR": folder, "XDG_RUNTIME_DIR": ""}
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, way.isolation.value, request.param]
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "up\n"
        yield program
        program.kill()


def names() -> dict[int, str]:
    """Of all that came to us, with what they have started."""
    found: dict[int, str] = {}
    todo = children()
    while todo:
        pid = todo.pop()
        try:
            with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
                found[pid] = file.read().strip()
            todo += children(pid)
        except OSError:  # it has ended
            found.pop(pid, None)
    return found


def sleepers() -> list[int]:
    reap_strays()
    return [pid for pid, name in names().items() if name in ("sleep", "sh")]


@pytest.mark.parametrize("program", ["alone"], indirect=True)
def test_kill_dash_nine_of_the_program_ends_its_pods(program: Program) -> None:
    wait_for(lambda: len(sleepers()) == 9, "all to run")
    program.kill()
    wait_for(lambda: not sleepers(), "the end of all containers")


@pytest.mark.parametrize("program", ["forked"], indirect=True)
def test_also_while_a_forked_worker_of_it_lives(program: Program, way: Way) -> None:
    (worker,) = (pid for pid in children(program.pid) if "python" in _command(pid))
    program.kill()
    wait_for(lambda: not sleepers(), "the end of all containers")
    assert os.path.exists(f"/proc/{worker}")
    os.kill(worker, signal.SIGKILL)


@pytest.mark.parametrize("program", ["alone"], indirect=True)
def test_also_when_it_and_its_launcher_are_killed_in_one_moment(program: Program, way: Way) -> None:
    if not way.namespaces:
        pytest.skip("without namespaces nothing but the launcher can end containers")
    (launcher,) = children(program.pid)
    for pid in (program.pid, launcher):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not sleepers(), "the end of all containers")


def _command(pid: int) -> str:
    with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
        text = file.read()
    return text if "launcher" not in text else ""
