"""What a shell is offered when Tab is pressed, and that nothing else ever comes with it."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.cli.asked import podvisor
from tests.fake_api import FakeApi, answer, refusal

pytestmark = pytest.mark.usefixtures("nothing_left")

NS = "/api/v1/namespaces/default"
POD = {"spec": {"containers": [{"name": "app"}, {"name": "side"}]}}


Complete = Callable[[str], list[str]]


@pytest.fixture
def complete(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Complete:
    """What bash is offered for the last of some words."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("_PODVISOR_COMPLETE", "complete_bash")

    def ask(words: str) -> list[str]:
        split = ["podvisor", *words.split(" ")]
        monkeypatch.setenv("COMP_WORDS", " ".join(split))
        monkeypatch.setenv("COMP_CWORD", str(len(split) - 1))
        said = podvisor()
        assert (said.code, said.err) == (0, "")
        return said.out.split()

    return ask


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("port", ["port-forward"]),
        ("get --show-l", ["--show-labels"]),
        ("get p", ["pods"]),
        ("get -o ", ["wide", "json", "yaml", "name", "jsonpath=", "custom-columns="]),
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
def test_words_are_completed(
    tmp_path: pathlib.Path, complete: Complete, words: str, offered: list[str]
) -> None:
    (tmp_path / ".podvisor").mkdir()
    named = [{"metadata": {"name": name}} for name in ("web", "worker", "a")]
    answers = {
        f"GET {NS}/pods": answer({"items": named}),
        f"GET {NS}/pods/web": answer(POD),
        "GET /api": refusal(500, "InternalError", "broken"),
    }
    with FakeApi(str(tmp_path / ".podvisor"), answers):
        assert complete(words) == offered


def test_without_a_node_types_are_offered_and_no_names(complete: Complete) -> None:
    assert complete("get po") == ["pods"]
    assert complete("get pods ") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_that_the_shell_can_read(tmp_path: pathlib.Path, shell: str) -> None:
    command = [sys.executable, "-m", "supervisor", "completion", shell]
    script = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True).stdout
    assert "_PODVISOR_COMPLETE=complete_" in script
    program = shutil.which(shell)
    if program is not None:
        (tmp_path / "script").write_text(script)
        subprocess.run([program, "-n", tmp_path / "script"], check=True, timeout=90)
