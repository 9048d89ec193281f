"""What holds for all tests, however they are started."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import pathlib
import signal
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

_HERE = pathlib.Path(__file__).parent


def pytest_sessionstart(session: pytest.Session) -> None:
    """Of several workers each first imports its share of all tests, so that in a fresh clone the
    byte code of each file is made once, not by all of them at the same time."""
    worker = getattr(session.config, "workerinput", None)
    if worker is None or [pathlib.Path(word).name for word in session.config.args] != ["tests"]:
        return
    number = int(worker["workerid"].removeprefix("gw"))
    for path in sorted(_HERE.rglob("test_*.py"))[number :: worker["workercount"]]:
        # What cannot be imported is told when the file is collected.
        with contextlib.suppress(Exception, pytest.skip.Exception):
            importlib.import_module(".".join(path.relative_to(_HERE.parent).with_suffix("").parts))


def pytest_configure() -> None:
    """Examples as Hypothesis makes them, the umask, byte code as `make` has it, and the signals
    that programs are started with: those of a terminal, also under nohup or in a background job.

    What is ignored stays ignored over exec, and podvisor respects it: the tests of signals would
    wait in vain. Where no byte code was kept, each worker would compile all tests, and so would
    what they start.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    # The same examples each time, whatever else the machine does: a failure belongs to a change.
    # Others: pytest --hypothesis-profile=default.
    settings.register_profile(
        "same", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("same")
    os.umask(0o022)  # other users read what tests write
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for signum in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(signum, signal.SIG_DFL)


def pytest_collection_finish() -> None:
    """Have nobody look through thousands of tests for garbage: they stay."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _no_copies_left() -> Iterator[None]:
    """Of what another user needs to read, made where the checkout itself is for root alone."""
    yield
    if support := sys.modules.get("tests.support"):
        support.remove_copies()
