"""Many at once, and much: tasks that ask together, threads that must not, logs that are long."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import Coroutine

import anyio
import pytest

from supervisor import NodeError, PodFailed, UsageError, embed
from supervisor.runtime import logs
from tests.embed.conftest import Make
from tests.embed.test_embed import PATIENT, WEB, one_way, said
from tests.runtime.nodes import Way, until

pytestmark = pytest.mark.anyio

CHATTY = "i=0; while [ $i -lt 40000 ]; do echo line $i; i=$((i + 1)); done; exit 1"
LINES = 40_000


async def test_commands_that_are_run_at_once_get_names_of_their_own(make: Make, way: Way) -> None:
    one_way(way)
    async with make() as node:
        pods = await asyncio.gather(*(node.run(["sh", "-c", PATIENT]) for _ in range(5)))
        assert sorted(pod.name for pod in pods) == ["sh", *(f"sh-{n}" for n in range(2, 6))]
        await asyncio.gather(*(said(pod, "up") for pod in pods))


async def test_applying_at_once_makes_one_pod_of_a_name(make: Make, way: Way) -> None:
    one_way(way)
    changed = WEB.replace("echo up", "echo again")
    async with make() as node:
        (first,) = await node.apply(WEB)
        await said(first, "up")
        one, two = await asyncio.gather(node.apply(changed), node.apply(changed))
        assert one == two
        assert node.pods() == one
        await said(one[0], "again")


async def test_who_applies_while_the_block_is_left_is_told(make: Make, way: Way) -> None:
    one_way(way)
    async with make() as node:
        (pod,) = await node.apply(WEB)
        await said(pod, "up")
        applying = asyncio.create_task(node.apply(WEB.replace("echo up", "echo again")))
        await until(lambda: pod.pod.metadata.deletion_timestamp is not None, "the end")
    with pytest.raises(UsageError, match="the Supervisor is not entered, or was left"):
        await applying
    assert node.pods() == ()


async def test_another_loop_is_refused_instead_of_waiting_for_ever(make: Make, way: Way) -> None:
    one_way(way)
    async with make() as node:
        pod = await node.run(["sh", "-c", PATIENT])
        await said(pod, "up")
        asked: tuple[Coroutine[object, object, object], ...] = (
            pod.wait(5),
            node.run(["true"]),
            pod.exec("", ["true"]),
        )
        for ask in asked:
            with pytest.raises(UsageError, match="was entered in another event loop"):
                await asyncio.to_thread(asyncio.run, ask)
        assert node.pods() == (pod,)


async def test_of_a_long_log_the_end_is_shown_and_all_of_it_can_be_read_beside_other_tasks(
    make: Make, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_way(way)
    read = list[int]()
    parse = logs.parse

    def noted(block: bytes) -> list[logs.Record]:
        read.append(len(block))
        return parse(block)

    monkeypatch.setattr(logs, "parse", noted)
    turns = 0

    async def beside() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with make() as node:
        pod = await node.run(["sh", "-c", CHATTY])
        await pod.wait(check=False)
        with pytest.raises(PodFailed) as told:
            await pod.wait()
        assert told.value.log_lines == tuple(f"line {n}" for n in range(LINES - 20, LINES))
        assert max(read) <= 1 << 16
        output = pod.output().splitlines()
        assert output[-1] == f"line {LINES - 1}"
        assert len(output) < LINES
        assert max(read) <= 1 << 20
        read.clear()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(beside)
            texts = [line.text async for line in pod.logs()]
            tasks.cancel_scope.cancel()
        assert texts == [f"line {n}" for n in range(LINES)]
        assert turns > 20
        assert max(read) <= 1 << 17


async def test_of_many_pods_that_are_gone_only_the_last_ones_logs_are_kept(
    make: Make, way: Way, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_way(way)
    monkeypatch.setattr(embed, "_KEPT_LOGS", 2)
    async with make() as node:
        for number in range(4):
            pod = await node.run(["echo", str(number)])
            await pod.wait()
            await pod.terminate()
        assert pod.output() == "3\n"
        kept = pathlib.Path(folder).glob("*/node-*/logs/*")
        assert len(list(kept)) == 2


async def test_a_log_that_cannot_be_read_is_said_to_be(
    make: Make, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_way(way)

    def broken(*_: object) -> None:
        raise OSError(24, "Too many open files")

    async with make() as node:
        pod = await node.run(["sh", "-c", "echo hi; exit 3"])
        await pod.wait(check=False)
        monkeypatch.setattr(logs.Follower, "files", broken)
        with pytest.raises(NodeError, match="cannot read the log of sh in pod sh: Too many open"):
            pod.output()
        with pytest.raises(NodeError, match="cannot read the log of sh in pod sh: Too many open"):
            await anext(pod.logs())
        with pytest.raises(PodFailed, match="exited with code 3"):
            await pod.wait()
