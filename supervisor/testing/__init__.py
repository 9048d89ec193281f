"""A kit for tests of programs that run in pods: `supervisor.testing`.

Everything here takes pods of `supervisor.Supervisor` and needs its event loop.
"""

from __future__ import annotations

from supervisor.testing.fakeclock import FakeClock
from supervisor.testing.faults import Faults
from supervisor.testing.leaks import Storm, exec_storm, no_leaks
from supervisor.testing.pid1 import Behaviour, Comparison, compare_pid1
from supervisor.testing.script import Changed, Exits, Played, Survives, play
from supervisor.testing.shutdown import assert_graceful_shutdown
from supervisor.testing.signals import SignalRow, SignalTable, signal_table
from supervisor.testing.traffic import Load, LoadReport, Outcome, Phase, Request, load

__all__ = (
    "Behaviour",
    "Changed",
    "Comparison",
    "Exits",
    "FakeClock",
    "Faults",
    "Load",
    "LoadReport",
    "Outcome",
    "Phase",
    "Played",
    "Request",
    "SignalRow",
    "SignalTable",
    "Storm",
    "Survives",
    "assert_graceful_shutdown",
    "compare_pid1",
    "exec_storm",
    "load",
    "no_leaks",
    "play",
    "signal_table",
)
