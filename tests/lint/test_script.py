"""What is read in shell scripts, and that it is what shells do."""

from __future__ import annotations

import math
import shutil
import subprocess

import pytest

from supervisor import script

# The program tells its own pid: that of the shell if the shell has become it.
PROGRAM = "readlink /proc/self"
SCRIPTS = (
    "PROGRAM",
    "true; PROGRAM",
    "true && PROGRAM",
    "true && true && PROGRAM",
    "false || PROGRAM",
    "true; true && PROGRAM",
    "true\nPROGRAM\n",
    "# why\nPROGRAM # because",
    "true | PROGRAM",
    "true | true; PROGRAM",
    "PROGRAM; true",
    "PROGRAM; ",
    "PROGRAM && exit",
    "A=1 PROGRAM",
    "A=1; PROGRAM",
    "export A=1; PROGRAM",
    "set -e; cd / && PROGRAM",
    "PROGRAM </dev/null",
    "PROGRAM 2>&1",
    "exec PROGRAM",
    "true; exec PROGRAM",
    "exec 2>/dev/null; PROGRAM",
    "exec PROGRAM | cat",
    "if true; then exec PROGRAM; fi",
    "if true; then PROGRAM; fi",
    "{ PROGRAM; }",
    "(PROGRAM)",
    "while true; do PROGRAM; break; done",
    "while false; do true; done; PROGRAM",
    "for x in 1; do PROGRAM; done",
    "case x in x) PROGRAM;; esac",
    "! PROGRAM",
    "PROGRAM & wait",
    "true & PROGRAM",
    "trap true HUP; PROGRAM",
    "'readlink' \"/proc/self\"",
    "readlink /proc/self $(true)",
    "echo 'a; b' >/dev/null; PROGRAM",
    'echo "exec a" >/dev/null; PROGRAM',
    "echo $(echo ')' ; true) >/dev/null; PROGRAM",
)
HANDLES = ("trap true HUP; PROGRAM",)  # it stays, but a signal that it has a handler for it takes


def _has(name: str) -> bool:
    if shutil.which(name) is None:
        return False
    said = subprocess.run([name, "-c", "echo $BASH_VERSION"], capture_output=True, text=True).stdout
    return name != "bash" or said.startswith("5.2.")


@pytest.mark.parametrize("name", ["dash", "bash"])
@pytest.mark.parametrize("text", SCRIPTS)
def test_a_shell_stays_where_it_is_said_to_stay(name: str, text: str) -> None:
    if not _has(name):
        pytest.skip(f"there is no {name} of the version that was looked at")
    words = (name, "-c", text.replace("PROGRAM", PROGRAM))
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        said, _ = process.communicate()
    found = script.shell(words)
    assert found is not None
    stays = said.split()[-1] != str(process.pid)
    assert script.stays(found) == (stays and text not in HANDLES)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("sh", "-c", "a; b"), ("sh", "a; b", 2)),
        (("/bin/bash", "-euo", "pipefail", "-c", "a; b", "x"), ("bash", "a; b", 4)),
        (("bash", "--norc", "-lc", "a"), ("bash", "a", 3)),
        (("sh", "-ec", "a"), ("sh", "a", 2)),
        (("/usr/bin/env", "A=1", "sh", "-c", "a"), ("sh", "a", 4)),
        (("busybox", "sh", "-c", "a"), ("busybox", "a", 3)),
        (("busybox", "httpd", "-c", "a"), None),
        (("sh", "run.sh"), None),
        (("sh", "-e", "run.sh", "-c", "a"), None),
        (("sh", "-c"), None),
        (("sh",), None),
        (("tini", "--", "sh", "-c", "a; b"), None),  # it is not pid 1
        (("python3", "-c", "a; b"), None),
        (("zsh", "-c", "a; b"), None),  # nobody has looked at what it does
        (("env",), None),
        ((), None),
    ],
)
def test_a_shell_is_known_by_its_name_and_its_script(
    words: tuple[str, ...], found: tuple[str, str, int] | None
) -> None:
    shell = script.shell(words)
    assert (None if shell is None else (shell.name, shell.script, shell.index)) == found


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("sleep 30", 30),
        ("/bin/sleep 1m 5s", 65),
        ("sleep .5; sleep 0.5h", 1800.5),
        ("sleep infinity", math.inf),
        ("sleep 5 && nginx -s quit && sleep 10", 15),
        ("sleep 5 & sleep 7", 7),
        ("sleep 5 | cat; sleep 1", 1),
        ("test -f x || sleep 5", 0),
        ("while true; do sleep 5; done", 0),
        ("if a; then sleep 5; fi; sleep 2", 2),
        ("sleep 3; exit 0; sleep 4", 3),
        ("exec sleep 3", 3),
        ("sleep $DELAY", 0),
        ("sleep 5 # sleep 6", 5),
        ("echo 'sleep 5'", 0),
        ("cat <<END\nsleep 5\nEND", 0),
        ("", 0),
    ],
)
def test_a_script_sleeps_at_least_what_it_says_without_conditions(
    text: str, seconds: float
) -> None:
    assert script.least_sleep(("sh", "-c", text)) == seconds
    assert script.least_sleep(("echo", text)) == 0


def test_a_sleep_needs_no_shell() -> None:
    assert script.least_sleep(("sleep", "10")) == 10
    assert script.least_sleep(("sleep",)) == 0


@pytest.mark.parametrize(
    "text",
    [
        *("$(" * 5000, "`" * 9999, '"' * 9999, "'", "((" * 5000, "\\", ">&" * 5000, "if " * 4000),
        *(
            "}fi done)" * 999,
            ";;&&||" * 2000,
            "exec sh -c '" * 900,
            "\0\x1b[2J" * 2000,
            "é;" * 5000,
        ),
    ],
)
def test_any_text_is_read_to_its_end(text: str) -> None:
    words = ("sh", "-c", text)
    found = script.shell(words)
    assert found is not None
    script.stays(found)
    script.least_sleep(words)
    script.commands_of(words)
