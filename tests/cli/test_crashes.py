"""A durable node that is killed again and again loses nothing: a sample of `make torture`.

And the judge is judged: evidence of each broken promise, made up here, must be found.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from typing import Any

import pytest

from tests.torture import crashes

ID = "uid/app/0"
BEGUN = ["1.00 made", "2.00 main app 1 begin"]
STOPPED = ["8.00 main app 1 term", "8.10 main app 1 end 7 1"]
POST_START = [f"2.10 hook {ID}/postStart 1 begin *", f"2.20 hook {ID}/postStart 1 end"]
PRE_STOP = [f"6.00 hook {ID}/preStop 1 begin asked", f"7.00 hook {ID}/preStop 1 end"]
WHOLE = [*BEGUN, *POST_START, "5.00 asked", *PRE_STOP, *STOPPED]


def without(*lines: str) -> list[str]:
    return [line for line in WHOLE if line not in lines]


def after(line: str, *more: str) -> list[str]:
    place = WHOLE.index(line) + 1
    return [*WHOLE[:place], *more, *WHOLE[place:]]


def test_a_node_that_is_killed_again_and_again_keeps_its_promises(tmp_path: pathlib.Path) -> None:
    options = crashes.nodes(str(tmp_path), 16, 1, 20, "auto", pods=8, limit=30.0)
    reports = crashes.campaign(options)
    assert crashes.violations(reports) == []
    assert reports[0].lives == 16
    assert sum(reports[0].kills.values()) > 0


def judged(
    folder: pathlib.Path, trail: list[str], log: list[int] | None = None, code: int = 7
) -> list[str]:
    """The rules that the checker finds broken. `log`: the counters in the log of app."""
    for place in ("trail", "objects", "logs/pod", "state"):
        (folder / place).mkdir(parents=True)
    (folder / "journal").write_text("0.50 up\n1.00 ready\n9.00 down 143\n")
    (folder / "trail/pod").write_text("".join(f"{line}\n" for line in trail))
    app: dict[str, Any] = {
        "name": "app",
        "command": ["sh", "pod.sh", "main", "app", "serve"],
        "lifecycle": {"postStart": {"exec": {}}, "preStop": {"exec": {}}},
    }
    spec = {"terminationGracePeriodSeconds": 12, "containers": [app]}
    (folder / "objects/pod.manifest").write_text(json.dumps({"spec": spec}))
    state = {"terminated": {"exitCode": code, "reason": "Error"}}
    status = {"containerStatuses": [{"name": "app", "restartCount": 0, "state": state}]}
    (folder / "objects/pod.json").write_text(json.dumps({"status": status}))
    (folder / "logs/pod/app.0.log").write_text(
        "".join(
            f"2026-01-01T00:00:00.0Z {stream} F pod app 1 {stream} {count}\n"
            for count in ([1] if log is None else log)
            for stream in ("stdout", "stderr")
        )
    )
    done = subprocess.run(
        [sys.executable, "-I", crashes.CHECKER, str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    found = json.loads(done.stdout)["violations"]
    assert done.returncode == (1 if found else 0)
    return sorted({violation["rule"] for violation in found})


@pytest.mark.parametrize(
    ("trail", "rule"),
    [
        (WHOLE, None),
        (without(*PRE_STOP), "no hook missed"),
        (without(PRE_STOP[1]), "no hook missed"),
        (without(*POST_START), "no hook missed"),
        (
            [
                *BEGUN,
                *POST_START,
                f"3.00 hook {ID}/preStop 1 begin *",
                f"3.10 hook {ID}/preStop 1 end",
                "5.00 asked",
                *STOPPED,
            ],
            "no hook that is not owed",
        ),
        (after(PRE_STOP[0], f"6.50 hook {ID}/preStop 1 overlap"), "no overlap of hooks"),
        (after(PRE_STOP[1], f"7.50 hook {ID}/preStop 1 begin asked"), "repetitions"),
        (after(POST_START[1], f"4.00 hook {ID}/postStart 2 begin *"), "repetitions"),
        (
            after(
                POST_START[0],
                "2.15 kill launcher random",
                f"2.16 hook {ID}/postStart 2 begin *",
            ),
            None,
        ),
        (
            after(
                POST_START[1],
                "4.90 kill launcher random",
                f"4.95 hook {ID}/postStart 2 begin *",
            ),
            "repetitions",
        ),
        (after(BEGUN[1], "2.05 main app 0 overlap"), "one live attempt"),
    ],
    ids=[
        "all is well",
        "a preStop did not run",
        "a preStop did not end",
        "a postStart did not run",
        "a preStop ran for no reason",
        "two runs of a hook at once",
        "a hook ran again under the same number",
        "a hook ran again though nobody had died",
        "a launcher died and took a hook with it",
        "a hook ran again though its end was long known",
        "two attempts at once",
    ],
)
def test_the_checker_finds(tmp_path: pathlib.Path, trail: list[str], rule: str | None) -> None:
    assert judged(tmp_path, trail) == ([] if rule is None else [rule])


def test_the_checker_finds_a_gap_in_a_log(tmp_path: pathlib.Path) -> None:
    assert judged(tmp_path, WHOLE, [1, 3]) == ["logs"]


def test_the_checker_finds_a_log_that_lacks_its_end(tmp_path: pathlib.Path) -> None:
    assert judged(tmp_path, WHOLE, []) == ["logs"]


def test_the_checker_finds_an_exit_code_that_was_made_up(tmp_path: pathlib.Path) -> None:
    assert judged(tmp_path, WHOLE, code=0) == ["exit codes"]
