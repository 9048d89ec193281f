"""`podvisor run` where the machine, the manifest or the caller is unreasonable."""

from __future__ import annotations

import os
import signal

import pytest

from supervisor.cli.output import _Source
from tests.support import Place, one_way, pod, sh

pytestmark = pytest.mark.usefixtures("nothing_left")

NEVER = {"restartPolicy": "Never"}
OBEDIENT = sh("app", "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done")


def children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


@one_way
def test_a_grace_period_beyond_all_calendars_ends_like_any_other(place: Place):
    session = place.start(
        pod("web", OBEDIENT, terminationGracePeriodSeconds=9223372036854775807, **NEVER)
    )
    session.until_logged("up")
    session.signal(signal.SIGTERM)
    finished = session.wait(143)
    assert "web * Succeeded" in " ".join(finished.err.split())


@one_way
def test_three_requests_end_a_node_whose_launcher_does_not_answer(place: Place):
    session = place.start(pod("web", OBEDIENT, **NEVER))
    session.until_logged("up")
    (launcher,) = children(session.pid)
    os.kill(launcher, signal.SIGSTOP)
    for text in ("stopping, grace", "grace shortened", "killing"):
        session.signal(signal.SIGTERM)
        session.until_said(text)
    session.wait(143)


@one_way
@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1], [0, 1, 2]], ids=str)
def test_closed_standard_descriptors_are_taken_by_nothing_of_ours(place: Place, closed: list[int]):
    """The next descriptor opened would take their place: the launcher's socket, say."""
    session = place.start(
        pod("web", sh("app", "echo hello; echo error >&2"), **NEVER), start={"closed": closed}
    )
    finished = session.wait(0)
    assert ("hello" in finished.out) == (1 not in closed)
    assert ("Succeeded" in finished.err) == (2 not in closed)


@one_way
def test_a_hang_up_that_is_ignored_at_the_start_stays_ignored(place: Place):
    session = place.start(pod("web", OBEDIENT, **NEVER), start={"ignored": [signal.SIGHUP]})
    session.until_logged("up")
    session.signal(signal.SIGHUP)
    session.signal(signal.SIGTERM)
    finished = session.wait(143)
    assert "grace shortened" not in finished.err


@one_way
def test_a_full_disk_behind_stdout_ends_the_pods_gracefully(place: Place):
    with open("/dev/full", "wb") as full:
        session = place.start(pod("web", OBEDIENT, **NEVER), stdout=full)
        finished = session.wait(141)
    assert "cannot write: No space left on device" in finished.err
    assert "exited with code 0" in finished.err


@one_way
def test_a_missing_temporary_folder_is_said(place: Place):
    session = place.start(
        pod("web", OBEDIENT, **NEVER), env={"TMPDIR": "/nonexistent", "XDG_RUNTIME_DIR": ""}
    )
    finished = session.wait(4)
    assert "cannot make a state folder in /nonexistent/podvisor-" in finished.err


@one_way
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--pass-env", ""), "--pass-env ''"),
        (("--pass-env", "A=B"), "--pass-env 'A=B'"),
        (("--backoff-max", "0"), "--backoff-max '0'"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(place: Place, words: tuple[str, ...], text: str):
    finished = place.run(pod("web", OBEDIENT), *words, code=2)
    assert f"podvisor: cannot use {text}" in finished.err


def test_the_end_of_a_long_line_that_was_never_ended_is_shown(tmp_path):
    log = tmp_path / "0.log"
    piece = b"2026-01-02T03:04:05Z stdout P " + b"x" * 16384 + b"\n"
    log.write_bytes(piece * 200 + b"2026-01-02T03:04:05Z stdout P end\n")
    source = _Source(str(log), b"web | ", timestamps=False)
    text = b"".join(source.finish())
    assert text.count(b"x") == 200 * 16384
    assert text.endswith(b"end\n")
    source.follower.close()


@one_way
def test_podvisor_started_while_a_reader_is_slow_shows_unended_lines(place: Place):
    read, write = os.pipe()
    try:
        session = place.start(
            *(pod(f"p{i}", sh("app", f"printf unended{i}"), **NEVER) for i in range(3)),
            stdout=write,
        )
        os.close(write)
        session.until_said("Succeeded")
        text = b""
        while part := os.read(read, 65536):
            text += part
        session.wait(0)
    finally:
        os.close(read)
    assert sorted(line.split(b"| ")[1] for line in text.splitlines()) == [
        b"unended0",
        b"unended1",
        b"unended2",
    ]
