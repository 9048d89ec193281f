"""Signals at programs: the table of what they do with each, and scripts of several."""

from __future__ import annotations

import pathlib
import re
import sys

import pytest

from supervisor import PodError, PodHandle, Supervisor, UsageError
from supervisor.testing import Changed, Exits, Survives, play, signal_table
from tests.testing.conftest import Manifest, manifest, printed, shell

pytestmark = pytest.mark.anyio


def python(script: str) -> Manifest:
    return {"name": "main", "command": [sys.executable, "-c", script]}


async def running(node: Supervisor, container: Manifest, **spec: object) -> PodHandle:
    pod = await node.run(manifest("pod", container, **spec))
    await printed(pod, "up")
    return pod


SIGNALS = """
import signal, time
signal.signal(signal.SIGHUP, lambda *_: None)
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
print("up", flush=True)
while True:
    time.sleep(1000)
"""


async def test_the_table_says_what_becomes_of_each_signal(node: Supervisor) -> None:
    pod = await running(node, python(SIGNALS))
    table = signal_table(pod)
    assert (table.container, table.pid, table.is_pid1) == ("main", pod.pid, True)
    assert (table["SIGHUP"].disposition, table["SIGHUP"].effect) == ("caught", "runs a handler")
    assert (table["SIGUSR1"].disposition, table["SIGUSR1"].effect) == ("ignored", "nothing")
    assert table["SIGTERM"].effect == "nothing: without a handler the kernel drops it, for pid 1"
    assert table["SIGUSR2"].blocked
    assert not table["SIGUSR2"].pending
    await pod.signal("main", "SIGUSR2")
    assert signal_table(pod)["SIGUSR2"].pending
    assert re.search(r"SIGUSR2 +default, blocked +waits until it is taken", str(table))
    with pytest.raises(UsageError, match="SIGWINCH"):
        _ = table["SIGWINCH"]


async def test_who_is_not_pid_1_is_ended_by_what_it_does_not_handle(nothing_left: None) -> None:
    async with Supervisor(isolation="group", grace_period=1) as node:
        table = signal_table(await running(node, python(SIGNALS)))
    assert not table.is_pid1
    assert table["SIGTERM"].effect == "ends it"
    assert str(table).startswith(f"signals of main, process {table.pid} `")


async def test_the_signals_of_what_does_not_run_are_not_known(node: Supervisor) -> None:
    pod = await node.run(["true"])
    await pod.wait()
    with pytest.raises(PodError, match="does not run"):
        signal_table(pod)


SERVICE = """
count=0
trap 'count=$((count+1)); echo "reload $count"; echo $count >"$FILE"' HUP
trap 'echo draining; sleep 0.05; echo drained; exit 0' TERM
echo up
while :; do sleep 0.02; done
"""


def service(path: pathlib.Path) -> Manifest:
    return shell("main", SERVICE, env=[{"name": "FILE", "value": str(path)}])


async def test_a_script_is_played_and_all_that_it_should_bring_comes(
    node: Supervisor, tmp_path: pathlib.Path
) -> None:
    file = tmp_path / "count"
    pod = await running(node, service(file))
    played = await play(
        pod,
        [(0.0, "SIGHUP"), (1.0, "SIGHUP"), (1.1, "SIGTERM")],
        expect=["reload 1", "reload 2", Changed(str(file)), "drained", Exits(0)],
    )
    assert played.lines == ("reload 1", "reload 2", "draining", "drained")
    assert played.exit_code == 0
    assert played.seconds >= 1.1


async def test_what_does_not_come_is_named(node: Supervisor, tmp_path: pathlib.Path) -> None:
    pod = await running(node, service(tmp_path / "count"))
    with pytest.raises(AssertionError) as told:
        await play(
            pod,
            [(0.0, "SIGUSR1")],
            expect=["rotated", Changed(str(tmp_path / "log")), Exits()],
            timeout=0.3,
        )
    text = str(told.value)
    assert "the line 'rotated' was not printed" in text
    assert f"a change of {tmp_path}/log did not come, within 0.3 s" in text
    assert "an end did not come" in text
    assert "has no SIGUSR1 handler, so the kernel drops it" in text
    assert "before: signals of main, pid 1 `sh -c …`:" in text


async def test_an_order_that_is_not_kept_is_a_failure(
    node: Supervisor, tmp_path: pathlib.Path
) -> None:
    pod = await running(node, service(tmp_path / "count"))
    script = [(0.0, "SIGHUP"), (1.0, "SIGTERM")]
    with pytest.raises(AssertionError, match="'reload 1' was not printed, or not in this order"):
        await play(pod, script, expect=["drained", "reload 1"], timeout=2)


async def test_another_exit_code_is_a_failure_at_once(node: Supervisor) -> None:
    pod = await running(
        node, shell("main", "trap 'exit 3' TERM; echo up; while sleep 0.02; do :; done")
    )
    with pytest.raises(AssertionError, match="it exited with code 3, not 0"):
        await play(pod, [(0.0, "SIGTERM")], expect=[Exits(0)])


async def test_who_should_survive_and_does_not_is_a_failure(
    node: Supervisor, tmp_path: pathlib.Path
) -> None:
    pod = await running(node, service(tmp_path / "count"))
    await play(pod, [(0.0, "SIGHUP"), (0.0, "SIGUSR1")], expect=["reload 1", Survives()])
    with pytest.raises(AssertionError, match="and should go on"):
        await play(pod, [(0.0, "SIGTERM")], expect=["drained", Survives(2)])


async def test_a_signal_to_who_has_ended_is_a_failure(
    node: Supervisor, tmp_path: pathlib.Path
) -> None:
    pod = await running(node, service(tmp_path / "count"))
    with pytest.raises(AssertionError, match=r"SIGHUP, 2 s after .* could not be sent, since"):
        await play(pod, [(0.0, "SIGTERM"), (2.0, "SIGHUP")])


async def test_an_end_is_seen_also_when_the_container_runs_again(
    node: Supervisor, tmp_path: pathlib.Path
) -> None:
    # Each instance writes a file a while after its start.
    later = tmp_path / "count.later"
    main = shell("main", f"sleep 0.2; echo >>{later}; {SERVICE}")
    pod = await running(node, main, restartPolicy="Always")
    again = Changed(str(later))
    played = await play(pod, [(0.0, "SIGTERM")], expect=["drained", Exits(0), again])
    assert played.lines == ("draining", "drained")


async def test_what_cannot_be_played_is_refused(node: Supervisor) -> None:
    pod = await node.run(["sleep", "1000"])
    for script in ([], [(-1.0, "SIGTERM")], [(0.0, "SIGTREM")]):
        with pytest.raises(UsageError):
            await play(pod, script)
