"""The kit on real nodes, which leave nothing behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from supervisor import PodHandle, Supervisor
from supervisor.testing import FakeClock
from tests.runtime.conftest import _warm_loops, anyio_backend, nothing_left

__all__ = ("_warm_loops", "anyio_backend", "nothing_left")

Manifest = dict[str, Any]


def manifest(name: str, *containers: Manifest, **spec: Any) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"restartPolicy": "Never", "containers": list(containers)} | spec,
    }


def shell(name: str, script: str, **more: Any) -> Manifest:
    return {"name": name, "command": ["sh", "-c", script]} | more


@pytest.fixture
async def node(nothing_left: None, anyio_backend: object) -> AsyncIterator[Supervisor]:
    async with Supervisor(grace_period=1) as node:
        yield node


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def timeless(
    nothing_left: None, anyio_backend: object, clock: FakeClock
) -> AsyncIterator[Supervisor]:
    """A node on the fake clock."""
    async with Supervisor(clock=clock, grace_period=1) as node:
        yield node


async def printed(pod: PodHandle, text: str, container: str = "") -> None:
    """Wait until a container has printed this."""
    async for line in pod.logs(container, follow=True):
        if text in line.text:
            return
    raise AssertionError(f"{pod.name} has ended and never printed {text!r}")
