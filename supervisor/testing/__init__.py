"""A kit for tests of programs that run in pods: `supervisor.testing`.

Everything here takes pods of `supervisor.Supervisor` and needs its event loop.
"""

from __future__ import annotations

from supervisor.testing.fakeclock import FakeClock
from supervisor.testing.script import Changed, Exits, Played, Survives, play
from supervisor.testing.shutdown import assert_graceful_shutdown
from supervisor.testing.signals import SignalRow, SignalTable, signal_table
from supervisor.testing.traffic import Load, LoadReport, Outcome, Phase, Request, load

__all__ = (
    "Changed",
    "Exits",
    "FakeClock",
    "Load",
    "LoadReport",
    "Outcome",
    "Phase",
    "Played",
    "Request",
    "SignalRow",
    "SignalTable",
    "Survives",
    "assert_graceful_shutdown",
    "load",
    "play",
    "signal_table",
)
