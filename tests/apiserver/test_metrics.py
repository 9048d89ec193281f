"""What containers use: what is told of two looks, and what a look sees of real processes."""

from __future__ import annotations

import os
import subprocess
import sys

import anyio.from_thread
import anyio.to_thread
import pytest

from supervisor.apiserver import metrics
from supervisor.apiserver.metrics import Metrics, Usage
from supervisor.kubelet.clock import Clock
from tests.apiserver.worlds import api, pod
from tests.kubelet.conftest import Program, anyio_backend, fake_clock

__all__ = ["anyio_backend", "fake_clock"]
MEBI = 1024 * 1024


class Machine:
    """Uses half a core per process, a whole one by itself, and memory that grows."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.looks = 0

    def _now(self) -> float:
        return anyio.from_thread.run_sync(self.clock.now).boot  # looks are made in a thread

    def look(self, pid: int) -> Usage | None:
        return Usage(cpu=100 + self._now() / 2, memory=pid * MEBI)

    def whole(self) -> Usage:
        self.looks += 1
        return Usage(cpu=self._now(), memory=64 * MEBI)


@pytest.mark.anyio
async def test_use_is_told_per_container_of_the_pods_that_run(fake_clock: Clock) -> None:
    programs = {"a": Program(), "b": Program(), "c": Program()}
    async with api(fake_clock, programs) as a:
        machine = Machine(fake_clock)
        told = Metrics(a.cache, a.world.node, look=machine.look, machine=machine.whole)
        assert await told.pods() == []
        body = pod(containers=[{"name": n, "command": [n]} for n in "ab"])
        body["metadata"]["labels"] = {"app": "web"}
        await a.create("pods", body)
        await a.create("namespaces", {"metadata": {"name": "other"}})
        other = pod("late", containers=[{"name": "c", "command": ["c"]}])
        await a.create("pods", other, "other")
        await a.clock.sleep(10)
        found = await told.pods("default")
        [metric] = found
        assert metric["metadata"]["name"] == "web"
        assert metric["metadata"]["labels"] == {"app": "web"}
        assert [c["name"] for c in metric["containers"]] == ["a", "b"]
        assert {c["usage"]["cpu"] for c in metric["containers"]} == {"500000000n"}
        assert metric["window"] == "0.500s"
        pids = [
            c.running.pid
            for c in a.world.node.workers[0].record.containers
            if c.running is not None
        ]
        memory = [c["usage"]["memory"] for c in metric["containers"]]
        assert memory == [f"{pid * 1024}Ki" for pid in pids]
        assert len(await told.pods()) == 2
        [late] = await told.pods("other")
        assert late["metadata"]["name"] == "late"


@pytest.mark.anyio
async def test_a_look_that_is_not_too_old_is_the_beginning_of_the_window(
    fake_clock: Clock,
) -> None:
    async with api(fake_clock) as a:
        machine = Machine(fake_clock)
        told = Metrics(a.cache, a.world.node, look=machine.look, machine=machine.whole)
        [first] = await told.nodes()
        assert first["usage"] == {"cpu": "1000000000n", "memory": "65536Ki"}
        assert machine.looks == 2
        await a.clock.sleep(15)
        assert (await told.nodes())[0]["window"] == "15.000s"
        assert machine.looks == 3
        await a.clock.sleep(1000)
        assert (await told.nodes())[0]["window"] == "0.500s"


@pytest.mark.anyio
async def test_looks_are_made_also_where_no_thread_can_be_had(
    fake_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    async with api(fake_clock) as a:
        monkeypatch.setattr(anyio.to_thread, "run_sync", refuse)
        told = Metrics(a.cache, a.world.node, machine=lambda: Usage(1.0, MEBI))
        [node] = await told.nodes()
        assert node["usage"] == {"cpu": "0n", "memory": "1024Ki"}


def test_a_look_sees_what_runs_below_a_process() -> None:
    hungry = "x = bytearray(50 * 1024 * 1024); print(flush=True); input()"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hungry!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            used = metrics.usage(process.pid)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()
    assert used is not None
    assert used.memory > 50 * MEBI
    assert used.cpu > 0
    assert metrics.usage(process.pid) is None


def test_the_machine_is_busy_and_has_some_memory_in_use() -> None:
    now = metrics.machine()
    assert now.cpu > 0
    assert 0 < now.memory < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
