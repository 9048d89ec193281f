"""Files of variables: what a line means, and that nothing of them is repeated."""

from __future__ import annotations

import os
import pathlib

import pytest

from supervisor.project import envfile

NAME = (
    "the name of a variable must consist only of printable ASCII characters other than '=' and "
    "blanks, as in NAME=VALUE"
)

NUL = "the value of a variable must not contain the character NUL"


def parsed(content: str | bytes) -> tuple[dict[str, str], list[str]]:
    data = content.encode() if isinstance(content, str) else content
    found, problems = envfile.parse(data, "x.env", {"HERE": "of podvisor"})
    return dict(found), [str(problem) for problem in problems]


@pytest.mark.parametrize(
    ("content", "variables"),
    [
        ("A=1\nB=2\n", {"A": "1", "B": "2"}),
        ("A=1", {"A": "1"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("\ufeffA=1\n", {"A": "1"}),
        ("\n  \n# A=1\n  # A=2\n", {}),
        ("  A=1\n", {"A": "1"}),
        ("A= 1 # x \n", {"A": " 1 # x "}),
        ("A='1'\nB=\"2\"\n", {"A": "'1'", "B": '"2"'}),
        ("A=b=c\n", {"A": "b=c"}),
        ("A=\n", {"A": ""}),
        ("A=1\nA=2\n", {"A": "2"}),
        ("A=$HOME $(B)\n", {"A": "$HOME $(B)"}),
        ("HERE\nGONE\n", {"HERE": "of podvisor"}),
        ("HERE  \n", {"HERE": "of podvisor"}),
        ("a.b-c=1\n1=2\n", {"a.b-c": "1", "1": "2"}),
        ("A=wörd\n", {"A": "wörd"}),
        ("A=1\x0bB=2\n", {"A": "1\x0bB=2"}),  # lines end where kubectl ends them
    ],
)
def test_a_line_means_what_it_means_to_kubectl(content: str, variables: dict[str, str]) -> None:
    assert parsed(content) == (variables, [])


@pytest.mark.parametrize(
    ("content", "problems"),
    [
        ("A = 1\n", [f"x.env:1:1: error: {NAME}"]),
        ("A=1\nexport SECRET=topsecret\n", [f"x.env:2:1: error: {NAME}"]),
        ("  =topsecret\n", [f"x.env:1:3: error: {NAME}"]),
        ("top secret\nwörd=1\n", [f"x.env:1:1: error: {NAME}", f"x.env:2:1: error: {NAME}"]),
        ("A=top\0secret", [f"x.env:1:1: error: {NUL}"]),
        (b"A=1\nB=top\xffsecret", ["x.env:2:6: error: not UTF-8"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place_and_without_its_text(
    content: str | bytes, problems: list[str]
) -> None:
    found, said = parsed(content)
    assert said == problems
    assert "topsecret" not in "".join(said)
    assert set(found) <= {"A"}


def test_files_that_cannot_be_read_are_named(tmp_path: pathlib.Path) -> None:
    good, large, fifo = tmp_path / "good", tmp_path / "large", tmp_path / "fifo"
    good.write_text("A=1\nB=1\n")
    large.write_bytes(b"A=" + b"x" * envfile.MAX_BYTES)
    os.mkfifo(fifo)
    second = tmp_path / "second"
    second.write_text("B=2\n")
    paths = [str(good), str(tmp_path / "gone"), str(large), str(tmp_path), "\0", str(second)]
    found, problems = envfile.read_all(paths)
    assert dict(found) == {"A": "1", "B": "2"}
    assert [problem.text for problem in problems] == [
        "cannot read: No such file or directory",
        "cannot read: larger than 1024 KiB",
        "cannot read: Is a directory",
        "cannot read: there is no such file",
    ]
    _, (problem,) = envfile.read(str(fifo), "fifo", waits=False)
    assert str(problem) == "fifo: error: cannot read: not a regular file"
