"""What holds for all tests, however they are started."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator

import pytest


def pytest_configure() -> None:
    """Start programs with the signals of a terminal, also under nohup or in a background job.

    What is ignored stays ignored over exec, and podvisor respects it: the tests of signals would
    wait in vain.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for signum in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(signum, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def _no_copies_left() -> Iterator[None]:
    """Of what another user needs to read, made where the checkout itself is for root alone."""
    yield
    if support := sys.modules.get("tests.support"):
        support.remove_copies()
