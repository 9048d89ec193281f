"""What a type checker at its strictest makes of a program that embeds podvisor."""

from __future__ import annotations

import pathlib
import re
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


WITHOUT_A_LOOP = """\
from supervisor.sync import Supervisor

with Supervisor(images={"a": ["b"]}) as node:
    pod = node.run({"kind": "Pod"})
    reveal_type(pod.wait_ready().wait(1))
    for line in pod.logs(follow=True):
        reveal_type(line)
    for each in pod.watch():
        reveal_type(each)
    reveal_type(pod.terminate().exit_code)
    reveal_type(node.apply("x")[0].containers)
"""


@pytest.mark.timeout(300)  # it reads all there is, and a busy machine takes its time
def test_a_strict_user_sees_no_any(tmp_path: pathlib.Path) -> None:
    """With an event loop and without one; in one go, for it reads all that we have each time."""
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "without_a_loop.py").write_text(WITHOUT_A_LOOP)
    checks = ["--strict", "--disallow-any-expr", "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *checks, "program.py", "without_a_loop.py"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    *revealed, sum_ = done.stdout.splitlines()
    assert sum_ == "Success: no issues found in 2 source files"
    assert [re.findall(r'^without_a_loop.py.* type is "([^"]*)"', line) for line in revealed] == [
        ["supervisor.api.v1.PodStatus"],
        ["supervisor.embed.LogLine"],
        ["supervisor.api.v1.Pod"],
        ["int"],
        ["dict[str, supervisor.embed.ContainerView]"],
    ]
