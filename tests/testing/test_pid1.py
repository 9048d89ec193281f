"""The same program as pid 1 and not, and why it behaves otherwise."""

from __future__ import annotations

import sys

import pytest

from supervisor import PodError, Supervisor, UsageError
from supervisor.testing import compare_pid1
from tests.testing.conftest import manifest, shell

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("nothing_left")]


@pytest.fixture(autouse=True)
async def _namespaces(anyio_backend: object, nothing_left: None) -> None:
    try:
        async with Supervisor(isolation="pidns"):
            return
    except UsageError as error:
        pytest.skip(f"needs namespaces: {error}")


async def test_a_signal_without_a_handler_is_dropped_for_pid_1() -> None:
    comparison = await compare_pid1(["sleep", "1000"], timeout=2, settle=0.1)
    assert comparison.as_pid1.exit_code is None
    assert comparison.as_child.exit_code == 143
    assert comparison.as_pid1.table.is_pid1
    assert not comparison.as_child.table.is_pid1
    assert comparison.differences[0] == (
        "SIGTERM ends it with code 143 where it is not pid 1; as pid 1 it goes on: "
        "pid 1 `sleep 1000` has no SIGTERM handler, so the kernel drops it; "
        "install a handler, or let an init be pid 1"
    )


async def test_a_shell_that_passes_nothing_on_is_told_apart() -> None:
    up = "until grep -q sleep /proc/$!/comm; do :; done; echo up"  # no shell any more
    script = ["sh", "-c", f"sleep 1000 & {up}; wait; true"]
    comparison = await compare_pid1(script, until="up", timeout=2)
    assert comparison.differences[0].endswith(
        "`sleep 1000`, its child, never gets the signal; start it with exec"
    )


HANDLER = """
import os, signal
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
{more}
print("ready", flush=True)
while True:
    signal.pause()
"""


async def test_orphans_that_pid_1_does_not_wait_for_are_a_difference() -> None:
    command = [sys.executable, "-c", HANDLER.format(more="")]
    comparison = await compare_pid1(command, until="ready")
    assert (comparison.as_pid1.reaps, comparison.as_child.reaps) == (False, True)
    (difference,) = comparison.differences
    assert "does not wait for orphans" in difference


async def test_a_program_that_does_both_is_the_same_in_both_ways() -> None:
    reaping = "signal.signal(signal.SIGCHLD, signal.SIG_IGN)"
    command = [sys.executable, "-c", HANDLER.format(more=reaping)]
    comparison = await compare_pid1(command, until="ready")
    assert comparison.differences == (), comparison
    assert (comparison.as_pid1.exit_code, comparison.as_child.exit_code) == (0, 0)
    assert "\nno difference\n" in str(comparison)


async def test_a_manifest_may_be_compared_and_restarts_do_not_hide_the_end() -> None:
    # In a manifest $$ stands for one $.
    script = "trap '[ $$$$ = 1 ]; exit $?' TERM; echo up; while :; do sleep 0.02; done"
    pod = manifest("pod", shell("main", script), restartPolicy="Always")
    comparison = await compare_pid1(pod, until="up")
    assert (comparison.as_pid1.exit_code, comparison.as_child.exit_code) == (0, 1)
    assert "SIGTERM: as pid 1 it ends with code 0, else it ends with code 1" in str(comparison)


async def test_who_never_comes_up_cannot_be_compared() -> None:
    with pytest.raises(PodError, match="never printed 'ready'"):
        await compare_pid1(["sh", "-c", "sleep 0.2; echo no"], until="ready")


async def test_a_pod_that_shares_its_pids_has_no_pid_1_of_its_own() -> None:
    pod = manifest("pod", shell("main", "sleep 1000"), shareProcessNamespace=True)
    with pytest.raises(UsageError, match="cannot run anything as pid 1"):
        await compare_pid1(pod)
