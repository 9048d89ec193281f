"""What a type checker at its strictest makes of a program that embeds podvisor."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

PROGRAM = """\
import asyncio
import pathlib

from supervisor import LogLine, PodFailed, PodHandle, PodTimeout, Supervisor, Termination
from supervisor.api import v1


def runs(status: v1.PodStatus) -> bool:
    return status.phase == "Running"


async def main() -> None:
    async with Supervisor(env={"A": "b"}, images={"web": ["python3"]}) as node:
        pod: PodHandle = await node.run(pathlib.Path("pod.yaml"))
        await pod.wait_ready(timeout=3)
        await pod.wait_for(runs)
        line: LogLine
        async for line in pod.logs("main", follow=True):
            print(line.time, line.stream, line.text)
        async for seen in pod.watch():
            print(seen.metadata.labels, seen.status.phase, seen.spec.containers[0].command)
        for event in pod.events():
            print(event.reason, event.message, event.count)
        done = await pod.exec("main", ["true"], timeout=1)
        print(done.exit_code, done.output, pod.containers["main"].restarts, pod.pid)
        await pod.signal("main", "SIGTERM")
        await pod.set_condition("warm", True)
        report: Termination = await pod.terminate(grace=3)
        print(report.exit_code, report.killed, report.containers[0].seconds, str(report))
        for other in await node.apply({"kind": "Pod", "spec": {"containers": []}}):
            print(other.name, other.ready, other.host_port)
        await node.run(["sleep", "1"], name="nap", port=8080)
        await node.run(v1.Pod(metadata=v1.ObjectMeta(name="typed")))
        try:
            await pod.wait()
        except PodFailed as error:
            print(error.exit_code, error.reason, error.events, error.log_lines)
        except PodTimeout as late:
            print(late.pod)


asyncio.run(main())
"""


@pytest.mark.timeout(300)  # it reads all there is, and a busy machine takes its time
def test_a_strict_user_sees_no_any(tmp_path: pathlib.Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    checks = ["--strict", "--disallow-any-expr", "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *checks, str(program)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=280,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "Success: no issues found in 1 source file\n")
