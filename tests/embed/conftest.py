"""Embedded nodes as any user, in any mode of isolation, on asyncio's loop and on uvloop's."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable

import pytest

from supervisor import Supervisor
from tests.runtime.conftest import (  # noqa: F401  (fixtures)
    _warm_loops,
    anyio_backend,
    folder,
    namespaces,
    nothing_left,
    way,
)
from tests.runtime.nodes import Way

Make = Callable[..., Supervisor]


@pytest.fixture
def make(way: Way, folder: str, monkeypatch: pytest.MonkeyPatch) -> Make:  # noqa: F811
    """A Supervisor of this way, whose state is in a folder of the test."""
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("TMPDIR", folder)
    monkeypatch.chdir(folder)

    def make(**options: object) -> Supervisor:
        return Supervisor(isolation=way.isolation.value, **options)  # type: ignore[arg-type]

    return make


def loop_policy() -> object:
    """Deprecated since Python 3.14, but a program around us may still have set one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return asyncio.get_event_loop_policy()
