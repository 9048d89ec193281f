"""What is done beside the event loop, and what on it."""

from __future__ import annotations

import threading

import anyio.to_thread
import pytest

from supervisor.apiserver.aside import LARGE, Aside

pytestmark = pytest.mark.anyio


async def test_only_what_is_large_leaves_the_loop() -> None:
    aside = Aside()
    assert await aside.run(LARGE - 1, threading.get_ident) == threading.get_ident()
    assert await aside.run(LARGE, threading.get_ident) != threading.get_ident()


async def test_what_goes_wrong_there_is_told_here() -> None:
    def fail() -> None:
        raise RecursionError("too deep")

    with pytest.raises(RecursionError):
        await Aside().run(LARGE, fail)


async def test_where_no_thread_can_be_had_it_is_done_on_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(anyio.to_thread, "run_sync", refuse)
    assert await Aside().run(LARGE, threading.get_ident) == threading.get_ident()
