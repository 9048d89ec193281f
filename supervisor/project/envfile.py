"""Files of variables that every container gets: `--env-file`, and `env-file` in podvisor.toml.

The format is that of `kubectl create configmap --from-env-file`, so one file serves both: a line is
NAME=VALUE, and the value goes from the first `=` to the end of the line as it is, with blanks and
quotes; blanks before a name are skipped, and lines that are empty or begin with `#` say nothing.
NAME alone takes the value from podvisor's own environment, and is nothing where that has none.

What such a file holds is as private as a Secret: what is wrong with it is said with its place and
without a word of its text. Nothing is raised.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping

from supervisor.api.problems import MAX_FINDINGS, THE_REST, Problem, Severity

Variables = tuple[tuple[str, str], ...]

MAX_BYTES = 1024 * 1024
# What a variable may be called (§9.1.5), but for blanks: `A = b` is a slip, and `export A=b` too.
_NAME = re.compile("[!-<>-~]+")
_WRONG_NAME = (
    "the name of a variable must consist only of printable ASCII characters other than '=' and "
    "blanks, as in NAME=VALUE"
)


def read(path: str, source: str, *, waits: bool) -> tuple[Variables, list[Problem]]:
    """One file's variables in the encoding of cri.LaunchSpec, and what is wrong with it.

    `source` names it then. `waits`: it may be a pipe (`--env-file <(decrypt …)`), whose writer is
    waited for.
    """
    from supervisor.runtime import spec

    try:
        with open(path, "rb", opener=None if waits else open_now) as stream:
            if not (waits or stat.S_ISREG(os.fstat(stream.fileno()).st_mode)):
                return (), [_problem(source, "cannot read: not a regular file")]
            content = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # a NUL in the name
        why = error.strerror if isinstance(error, OSError) else "there is no such file"
        return (), [_problem(source, f"cannot read: {why}")]
    if len(content) > MAX_BYTES:
        return (), [_problem(source, f"cannot read: larger than {MAX_BYTES // 1024} KiB")]
    return parse(content, source, spec.inherited(os.environ, os.environ))


def parse(
    content: bytes, source: str, environ: Mapping[str, str]
) -> tuple[Variables, list[Problem]]:
    """`environ` has the values of names that stand alone."""
    variables: dict[str, str] = {}
    problems: list[Problem] = []
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if len(problems) == MAX_FINDINGS:
            problems.append(_problem(source, THE_REST))
            break
        try:
            text = line.removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            problems.append(_problem(source, "not UTF-8", number, error.start + 1))
            continue
        stripped = text.lstrip()
        if not stripped or stripped.startswith("#"):
            continue
        column = len(text) - len(stripped) + 1
        name, equals, value = stripped.partition("=")
        if not _NAME.fullmatch(name if equals else name.rstrip()):
            problems.append(_problem(source, _WRONG_NAME, number, column))
        elif "\0" in value:
            text = "the value of a variable must not contain the character NUL"
            problems.append(_problem(source, text, number, column))
        elif equals:
            variables[name] = value
        elif name.rstrip() in environ:
            variables[name.rstrip()] = environ[name.rstrip()]
    return tuple(variables.items()), problems


def read_all(paths: Iterable[str]) -> tuple[Variables, list[Problem]]:
    """Those of a command line; of two that have a variable, the later one wins."""
    variables: dict[str, str] = {}
    problems: list[Problem] = []
    for path in paths:
        found, wrong = read(path, path or "''", waits=True)
        variables |= dict(found)
        problems += wrong
    return tuple(variables.items()), problems


def open_now(path: str, flags: int) -> int:
    """An opener that waits for nobody, as opening a FIFO does for who writes."""
    return os.open(path, flags | os.O_NONBLOCK)


def _problem(source: str, text: str, line: int = 0, col: int = 0) -> Problem:
    return Problem(Severity.ERROR, source, line, col, "", text)
