"""metrics.k8s.io: what containers use, from the processes that run below their mains.

Nothing is measured while nobody asks. Who asks gets the CPU time since the last look, if that is
neither too old nor too fresh to say anything; else he waits for a second look. Memory is the
proportional set size where the kernel tells it, so that what processes share counts once, and the
resident set size where it does not.

A program that `exec` runs beside a main is a child of the launcher and is not counted.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import anyio
from msgspec import Struct

from supervisor.apiserver.cache import Cache
from supervisor.apiserver.contract import Json
from supervisor.kubelet.node import Node
from supervisor.kubelet.volumes import on_thread
from supervisor.lifecycle.facts import ContainerId, Instant, rfc3339
from supervisor.runtime import procfs

_FRESH, _OLD = 0.5, 60.0  # seconds between two looks that tell the use of CPU
_TICK = os.sysconf("SC_CLK_TCK")


class Usage(Struct, frozen=True):
    """Of some processes: CPU seconds until now, and bytes of memory."""

    cpu: float
    memory: int


class Sample(Struct, frozen=True):
    """One look at all of them."""

    at: Instant
    containers: dict[ContainerId, Usage]
    machine: Usage


# The usage of the process and of all below it; None: it has ended.
Look = Callable[[int], Usage | None]


def usage(pid: int) -> Usage | None:
    """What a process and all below it use."""
    found = [each for each in map(_of_process, procfs.tree(pid)) if each is not None]
    if not found:
        return None
    return Usage(sum(each.cpu for each in found), sum(each.memory for each in found))


def machine() -> Usage:
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _idle, _iowait, irq, soft, steal = map(
            int, file.readline().split()[1:9]
        )
    with open("/proc/meminfo", encoding="ascii") as file:
        sizes = {line.split(":")[0]: int(line.split()[1]) for line in file}
    used = sizes["MemTotal"] - sizes.get("MemAvailable", sizes["MemFree"])
    busy = user + nice + system + irq + soft + steal
    return Usage(busy / _TICK, used * 1024)


def _of_process(pid: int) -> Usage | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name before may hold anything, blanks and brackets as well.
            fields = file.read().rpartition(b")")[2].split()
        # Those that it has waited for count as well: user, system, and both of children.
        ticks = sum(map(int, fields[11:15]))
        memory = _memory(pid)
    except (OSError, ValueError, IndexError):
        return None
    return Usage(ticks / _TICK, memory)


def _memory(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:  # another user's, or an old kernel
        pass
    with open(f"/proc/{pid}/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Metrics:
    """Of one node. `look` and `machine` are how processes and the machine are looked at."""

    def __init__(
        self,
        cache: Cache,
        node: Node,
        *,
        look: Look = usage,
        machine: Callable[[], Usage] = machine,
    ) -> None:
        self._cache = cache
        self._node = node
        self._look = look
        self._machine = machine
        self._last: Sample | None = None
        self._asking = anyio.Lock()

    async def pods(self, namespace: str = "") -> list[Json]:
        """PodMetrics of those that run, ordered as pods are."""
        before, now = await self._samples()
        used = _by_pod(before, now)
        found = []
        for entry in self._cache.list("pods", namespace):
            containers = used.get(entry.uid)
            if containers:
                meta = entry.object["metadata"]
                found.append(
                    {
                        "apiVersion": "metrics.k8s.io/v1beta1",
                        "kind": "PodMetrics",
                        "metadata": _metadata(meta, now),
                        **_moment(before, now),
                        "containers": containers,
                    }
                )
        return found

    async def nodes(self, namespace: str = "") -> list[Json]:
        """NodeMetrics: of the whole machine, as its one node. Nodes have no namespace."""
        del namespace
        before, now = await self._samples()
        name = self._node.policy.node_name
        entry = self._cache.get("nodes", "", name)
        meta = entry.object["metadata"] if entry is not None else {"name": name}
        window = now.at.boot - before.at.boot
        return [
            {
                "apiVersion": "metrics.k8s.io/v1beta1",
                "kind": "NodeMetrics",
                "metadata": _metadata(meta, now),
                **_moment(before, now),
                "usage": _quantities(before.machine, now.machine, window),
            }
        ]

    async def _samples(self) -> tuple[Sample, Sample]:
        """Two looks far enough from each other, the second just now. Who asks at the same time
        gets the same."""
        clock = self._node.clock
        async with self._asking:
            before, now = self._last, await self._sample()
            age = now.at.boot - before.at.boot if before is not None else 0.0
            if before is None or not _FRESH <= age <= _OLD or _knows_less(before, now):
                before = now
                await clock.sleep(_FRESH)
                now = await self._sample()
            self._last = now
            return before, now

    async def _sample(self) -> Sample:
        at = self._node.clock.now()
        mains = {
            ContainerId(worker.pod.metadata.uid, each.name, each.attempt): each.running.pid
            for worker in self._node.workers
            for each in worker.record.containers
            if each.running is not None
        }

        def look() -> Sample:
            looks = {id: self._look(pid) for id, pid in mains.items()}
            found = {id: each for id, each in looks.items() if each is not None}
            return Sample(at, found, self._machine())

        sample: Sample = await on_thread(look)
        return sample


def _knows_less(before: Sample, now: Sample) -> bool:
    return not now.containers.keys() <= before.containers.keys()


def _by_pod(before: Sample, now: Sample) -> dict[str, list[Json]]:
    """Per uid, the use of each of its containers that both have seen."""
    window = now.at.boot - before.at.boot
    found: dict[str, list[Json]] = {}
    for id, used in now.containers.items():
        earlier = before.containers.get(id)
        if earlier is not None:
            quantities = _quantities(earlier, used, window)
            found.setdefault(id.pod_uid, []).append({"name": id.name, "usage": quantities})
    return found


def _quantities(before: Usage, now: Usage, window: float) -> Json:
    cpu = max(0.0, now.cpu - before.cpu) / window
    return {"cpu": f"{round(cpu * 1e9)}n", "memory": f"{now.memory // 1024}Ki"}


def _metadata(meta: Json, now: Sample) -> Json:
    kept = {key: meta[key] for key in ("name", "namespace", "labels") if meta.get(key)}
    return kept | {"creationTimestamp": rfc3339(now.at)}


def _moment(before: Sample, now: Sample) -> Json:
    return {"timestamp": rfc3339(now.at), "window": f"{now.at.boot - before.at.boot:.3f}s"}
