"""What a shell is offered when Tab is pressed, and that nothing else ever comes with it."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from tests.fake_api import FakeApi, answer, refusal

pytestmark = pytest.mark.usefixtures("nothing_left")

NS = "/api/v1/namespaces/default"
POD = {"spec": {"containers": [{"name": "app"}, {"name": "side"}]}}


def completed(tmp_path: pathlib.Path, words: str) -> list[str]:
    """What bash is offered for the last of these words."""
    split = ["podvisor", *words.split(" ")]
    environment = os.environ | {
        "_PODVISOR_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(split),
        "COMP_CWORD": str(len(split) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-c", "import supervisor.cli; supervisor.cli.main()"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("port", ["port-forward"]),
        ("get --show", ["--show-labels"]),
        ("get p", ["pods"]),
        ("get -o ", ["wide", "json", "yaml", "name", "jsonpath="]),
        ("get pods w", ["web", "worker"]),
        ("get pods web w", ["worker"]),
        ("describe pod/w", ["pod/web", "pod/worker"]),
        ("logs wo", ["worker"]),
        ("logs web ", ["app", "side"]),
        ("exec web -c s", ["side"]),
        ("exec web -c app -- l", []),
        ("events --for pod/we", ["pod/web"]),
        ("top n", ["nodes"]),
        ("completion f", ["fish"]),
        ("get nonsense ", []),
    ],
)
def test_words_are_completed(tmp_path: pathlib.Path, words: str, offered: list[str]) -> None:
    (tmp_path / ".podvisor").mkdir()
    named = [{"metadata": {"name": name}} for name in ("web", "worker", "a")]
    answers = {
        f"GET {NS}/pods": answer({"items": named}),
        f"GET {NS}/pods/web": answer(POD),
        "GET /api": refusal(500, "InternalError", "broken"),
    }
    with FakeApi(str(tmp_path / ".podvisor"), answers):
        assert completed(tmp_path, words) == offered


def test_without_a_node_types_are_offered_and_no_names(tmp_path: pathlib.Path) -> None:
    assert completed(tmp_path, "get po") == ["pods"]
    assert completed(tmp_path, "get pods ") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_that_the_shell_can_read(tmp_path: pathlib.Path, shell: str) -> None:
    command = [sys.executable, "-m", "supervisor", "completion", shell]
    script = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    assert "_PODVISOR_COMPLETE=complete_" in script
    program = shutil.which(shell)
    if program is not None:
        (tmp_path / "script").write_text(script)
        subprocess.run([program, "-n", tmp_path / "script"], check=True, timeout=30)
