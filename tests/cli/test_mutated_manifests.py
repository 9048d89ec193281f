"""`podvisor validate` on manifests that were broken in every way: exit code 0 or 3 and places."""

from __future__ import annotations

import os
import re
import resource
import subprocess
from pathlib import Path

import pytest
import typer

from supervisor.api import validation
from supervisor.api.problems import MAX_FINDINGS
from supervisor.cli import validate
from supervisor.project import manifests
from tests import support
from tests.cli import mutations
from tests.cli.mutations import ENCODED, HIDDEN, Breaking

CPU_SECONDS = 60  # a runner may be slow; unbounded is more than this on any
MEMORY = 1024**3  # of addresses; the program itself needs a third of it

_PROBLEM = re.compile(
    r"(?P<file>[^:]+)(:(?P<line>\d+):(?P<col>\d+))?: (error|warning): (?P<text>.*)"
)
_SUM = re.compile(r"(\d+ errors?)?(, )?(\d+ warnings?)?(; nothing was started)?")
# What is said about a file as a whole.
_WHOLE = re.compile(
    r"cannot read: larger than .*|no documents|more than 1000 problems: the rest is not shown"
)
_YAML_LINE = re.compile("\r\n|[\n\r\x85\u2028\u2029]")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _lines(name: str) -> list[str]:
    text = Path(name).read_bytes().decode("utf-8-sig", "replace")
    is_yaml = name.endswith(".yaml") and not text.lstrip().startswith("{")
    return _YAML_LINE.split(text) if is_yaml else text.split("\n")


def check(code: int, out: str, err: str) -> None:
    """What is promised for any text at all."""
    said = err[-2000:]
    assert code in (0, 3), said
    assert "Traceback" not in err
    assert HIDDEN not in out + err, said
    assert ENCODED not in out + err, said
    *problems, closing = err.splitlines() or [""]
    files = {name: _lines(name) for name in os.listdir()}
    for problem in problems:
        match = _PROBLEM.fullmatch(problem)
        assert match is not None, problem
        if match["line"] is None:
            assert _WHOLE.fullmatch(match["text"]), problem
            continue
        lines, line, col = files[match["file"]], int(match["line"]), int(match["col"])
        assert 1 <= line <= len(lines), problem
        assert 1 <= col <= len(lines[line - 1]) + 1, problem
    assert _SUM.fullmatch(closing), said
    assert (code == 3) == any(": error: " in problem for problem in problems), said
    assert code == 3 or out, said


def in_process(capsys: pytest.CaptureFixture[str], name: str) -> int:
    code = 0
    try:
        validate.command([name], maps=["registry.example/shop=sleep 1000"])
    except typer.Exit as leaving:
        code = int(leaving.exit_code)
    out, err = capsys.readouterr()
    check(code, out, err)
    return code


def _named(how: Breaking) -> str:
    return how.__name__.replace("_", " ")


@pytest.mark.parametrize("how", [*mutations.IN_DATA, *mutations.IN_TEXT], ids=_named)
def test_a_broken_manifest_is_judged_with_places(
    how: Breaking, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, content in enumerate(mutations.twins(how)):
        Path(f"{number}.yaml").write_bytes(content)
        in_process(capsys, f"{number}.yaml")
        os.remove(f"{number}.yaml")


def test_there_are_five_hundred_of_them_and_the_unbroken_ones_are_valid(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert len([*mutations.IN_DATA, *mutations.IN_TEXT]) * mutations.ROUNDS == 500
    for seed in mutations.SEEDS:
        Path("seed.yaml").write_text(seed)
        assert in_process(capsys, "seed.yaml") == 0


# --- what belongs to them ------------------------------------------------------------------------


@pytest.mark.parametrize("how", mutations.IN_TEXT, ids=_named)
def test_a_broken_project_is_judged_with_places(
    how: Breaking, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("pod.yaml").write_text(mutations.WORKLOADS)
    Path("service.env").write_text("A=b\n")
    for content in mutations.twins(how, (mutations.PROJECT,), 5):
        Path("podvisor.toml").write_bytes(content)
        in_process(capsys, "pod.yaml")


@pytest.mark.parametrize("how", mutations.IN_TEXT, ids=_named)
def test_a_broken_file_of_variables_is_judged_with_places(
    how: Breaking, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("pod.yaml").write_text(mutations.WORKLOADS)
    Path("podvisor.toml").write_text(mutations.PROJECT)
    for content in mutations.twins(how, (mutations.VARIABLES,), 5):
        Path("service.env").write_bytes(content)
        in_process(capsys, "pod.yaml")


# --- in a process of their own -------------------------------------------------------------------


def _limits() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))


def in_a_process(name: str) -> int:
    podvisor = support.command(os.getuid())
    done = subprocess.run(
        [*podvisor.argv, "validate", "--map=registry.example/shop=sleep 1000", name],
        capture_output=True,
        check=False,
        env={"PATH": support.PATH, **dict(podvisor.env)},
        preexec_fn=_limits,
        text=True,
    )
    check(done.returncode, done.stdout, done.stderr)
    return done.returncode


@pytest.mark.parametrize("bomb", mutations.BOMBS)
def test_time_and_memory_are_bounded_whatever_is_validated(bomb: str) -> None:
    Path("bomb.yaml").write_text(mutations.BOMBS[bomb]())
    in_a_process("bomb.yaml")


def test_time_and_memory_are_bounded_for_a_file_of_variables() -> None:
    Path("pod.yaml").write_text(mutations.POD)
    Path("podvisor.toml").write_text('env-file = "service.env"\n')
    Path("service.env").write_text("=\n" * 500_000)
    assert in_a_process("pod.yaml") == 3


@pytest.mark.parametrize(
    "how",
    [mutations.a_type_replaced, mutations.an_odd_text, mutations.cut_off, mutations.far_too_much],
    ids=_named,
)
def test_the_program_says_what_its_parts_say(how: Breaking) -> None:
    content = next(mutations.twins(how))
    Path("pod.yaml").write_bytes(content)
    in_a_process("pod.yaml")


# --- what was found in this way ------------------------------------------------------------------


def test_a_text_that_ends_too_early_has_its_place_in_the_last_line() -> None:
    for text, place in [
        ("a: [b", "1:6"),
        ("a: [b\n", "2:1"),
        ("a:\u2028  [b", "2:5"),
        ("{", "1:2"),
    ]:
        Path("pod.yaml").write_text(text)
        (problem,) = manifests.load(["pod.yaml"]).problems
        assert str(problem).startswith(f"pod.yaml:{place}: error: not ")


def test_the_place_of_bytes_that_are_no_text_is_counted_in_characters() -> None:
    Path("pod.yaml").write_bytes("\ufeffa: 1\nnäme: ".encode() + b"\xff\n")
    assert [str(problem) for problem in manifests.load(["pod.yaml"]).problems] == [
        "pod.yaml:2:7: error: cannot read: not UTF-8"
    ]


def test_variables_that_are_nowhere_are_said_a_thousand_times_at_most() -> None:
    Path("pod.yaml").write_text(mutations.BOMBS["variables of nothing"]())
    loaded = manifests.load(["pod.yaml"])
    assert loaded.problems == ()
    missing = manifests.unconfigured(loaded.pods, loaded.configuration())
    assert len(missing) == MAX_FINDINGS + 1
    assert str(missing[-1]) == ("pod.yaml: error: more than 1000 problems: the rest is not shown")


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
def test_wrong_keys_are_said_a_thousand_times_at_most(kind: str) -> None:
    data = {f"wrong key {number}": "" for number in range(2 * MAX_FINDINGS)}
    document = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "a"}, "data": data}
    admit = validation.admit_secret if kind == "Secret" else validation.admit_config_map
    read, findings = admit(document)
    assert read is None
    assert len(findings) == MAX_FINDINGS
