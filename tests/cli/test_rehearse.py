"""`podvisor rehearse`: the verdict over a shutdown under load, from the command line."""

from __future__ import annotations

import json
import pathlib
import signal
import subprocess
from typing import Any

import pytest

from tests.support import PYTHON, Place, free_port, one_way, pod, sh

pytestmark = pytest.mark.usefixtures("nothing_left")

SERVER = pathlib.Path(__file__).parent.parent / "testing" / "server.py"
STOPS = "trap 'exit 0' TERM; echo up; while :; do sleep 0.02; done"


@pytest.fixture
def port() -> int:
    return free_port()


def web(place: Place, port: int, mode: str, grace: int = 60) -> dict[str, Any]:
    script = place.write("server.py", SERVER.read_text())
    probe = {"tcpSocket": {"port": port}, "periodSeconds": 1}
    container = {
        "name": "app",
        "command": [PYTHON, script, mode, str(port)],
        "ports": [{"containerPort": port}],
        "readinessProbe": probe,
    }
    return pod("web", container, terminationGracePeriodSeconds=grace)


def rehearse(place: Place, *manifests: dict[str, Any], words: tuple[str, ...] = ()) -> Any:
    items = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
    path = place.write("pods.json", items)
    return place.podvisor("rehearse", f"--isolation={place.way.isolation}", path, *words)


@one_way
def test_a_server_that_drains_passes(place: Place, port: int) -> None:
    finished = rehearse(place, web(place, port, "good")).wait(0)
    assert finished.out.startswith("rehearsal of web: ok\n  no request was lost\n")
    assert "\nshutdown of web: " in finished.out
    assert "web * deleting it under load" in finished.err
    assert ("mains are not pid 1 here" in finished.out) == (not place.way.namespaces)


@one_way
def test_a_server_that_does_not_drain_fails_and_is_told_why(place: Place, port: int) -> None:
    finished = rehearse(place, web(place, port, "deaf")).wait(1)
    assert finished.out.startswith("rehearsal of web: FAILED\n")
    assert "after SIGTERM: the server closed its listener before draining" in finished.out


@one_way
def test_without_lag_of_the_endpoints_it_passes(place: Place, port: int) -> None:
    rehearse(place, web(place, port, "deaf"), words=("--endpoint-lag", "0")).wait(0)


@one_way
def test_the_report_as_data(place: Place, port: int) -> None:
    finished = rehearse(place, web(place, port, "hasty"), words=("-o", "json")).wait(1)
    report = json.loads(finished.out)
    (each,) = report["pods"]
    assert (report["ok"], each["ok"], each["name"]) == (False, False, "web")
    assert each["load"]["outcomes"]["refused"] > 0
    assert each["problems"] == each["load"]["verdict"].splitlines()
    (container,) = each["termination"]["containers"]
    assert (container["name"], container["exit_code"], container["killed"]) == ("app", 0, False)
    events = [mark["event"] for mark in each["termination"]["timeline"]]
    assert events[0] == "stopping"
    assert events[-2:] == ["exit", "over"]


def test_a_deaf_main_is_explained(place: Place) -> None:
    deaf = sh("main", "trap '' TERM; echo up; while :; do sleep 0.02; done")
    finished = rehearse(place, pod("deaf", deaf), words=("--grace-period", "1")).wait(1)
    assert "ignores SIGTERM" in finished.out
    assert "it declares no port, so no request was made" in finished.out


def test_who_dies_of_its_stop_signal_has_ended_well(place: Place) -> None:
    script = "import os, signal\nsignal.signal(15, lambda *_: os._exit(143))\n"
    script += "print('up', flush=True)\nwhile True: signal.pause()"
    main = {"name": "main", "command": [PYTHON, "-c", script]}
    finished = rehearse(place, pod("web", main)).wait(0)
    assert "rehearsal of web: ok" in finished.out


@one_way
def test_another_exit_code_is_a_failure(place: Place) -> None:
    main = sh("main", "trap 'exit 3' TERM; echo up; while :; do sleep 0.02; done")
    finished = rehearse(place, pod("web", main)).wait(1)
    assert "main exited with code 3, not 0 or 143" in finished.out


@one_way
def test_a_port_that_speaks_something_else_gets_no_requests(place: Place, port: int) -> None:
    script = (
        "import signal, socket, sys\n"
        "signal.signal(15, lambda *_: sys.exit(0))\n"
        f"s = socket.create_server(('127.0.0.1', {port}))\n"
        "while True: c, _ = s.accept(); c.sendall(b'hello\\r\\n\\r\\n'); c.close()\n"
    )
    ports = [{"containerPort": port}]
    main = {"name": "main", "command": [PYTHON, "-c", script], "ports": ports}
    finished = rehearse(place, pod("db", main)).wait(0)
    assert f"port {port} does not answer HTTP, so no request was made" in finished.out


@one_way
def test_pods_are_rehearsed_one_after_the_other_while_the_others_run(place: Place) -> None:
    first, second = pod("first", sh("a", STOPS)), pod("second", sh("b", STOPS))
    finished = rehearse(place, first, second).wait(0)
    assert [line for line in finished.out.splitlines() if line.startswith("rehearsal")] == [
        "rehearsal of first: ok",
        "rehearsal of second: ok",
    ]
    finished = rehearse(place, first, second, words=("--pod", "second")).wait(0)
    assert "rehearsal of first" not in finished.out
    assert "first * started" in finished.err


@one_way
def test_a_pod_that_has_done_its_work_has_no_shutdown(place: Place) -> None:
    finished = rehearse(place, pod("job", sh("main", "true"), restartPolicy="Never")).wait(0)
    assert "it has ended by itself" in finished.out


@one_way
def test_a_pod_that_is_never_ready_fails_with_what_it_said(place: Place) -> None:
    main = sh("main", "echo no luck; exit 4")
    finished = rehearse(place, pod("web", main, restartPolicy="Never")).wait(1)
    assert "it was not ready" in finished.out
    assert "exited with code 4" in finished.out
    assert "no luck" in finished.out


@one_way
def test_manifests_come_from_stdin_too(place: Place) -> None:
    text = json.dumps(pod("web", sh("main", STOPS)))
    with subprocess.Popen(["echo", text], stdout=subprocess.PIPE) as echo:
        session = place.podvisor("rehearse", "-", stdin=echo.stdout)
        assert "rehearsal of web: ok" in session.wait(0).out


@one_way
def test_what_is_refused_starts_nothing(place: Place) -> None:
    session = rehearse(place, pod("web", sh("main", "true"), restartPolicy="Perhaps"))
    assert "Unsupported value" in session.wait(3).err
    session = rehearse(place, pod("web", sh("main", "true")), words=("--pod", "wbe"))
    assert "cannot rehearse pod 'wbe': there is web" in session.wait(2).err
    session = rehearse(place, pod("web", sh("main", "true")), words=("--path", "healthz"))
    assert "cannot ask for 'healthz'" in session.wait(2).err


@one_way
@pytest.mark.parametrize(
    ("moment", "signum"),
    [
        ("* started", signal.SIGINT),
        ("* ready", signal.SIGHUP),
        ("* ready", signal.SIGINT),
        ("* deleting", signal.SIGTERM),
        ("* deleting", signal.SIGINT),
    ],
)
def test_a_signal_at_any_moment_leaves_nothing(
    place: Place, port: int, moment: str, signum: int
) -> None:
    session = rehearse(place, web(place, port, "good", grace=2))
    session.until_said(moment)
    session.signal(signum)
    session.wait({signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}[signum])


@one_way
def test_a_signal_before_anything_has_begun_gives_its_exit_code_too(place: Place) -> None:
    path = place.write("pod.json", pod("web", sh("main", STOPS)))
    session = place.podvisor("rehearse", path, start={"blocked": [signal.SIGTERM]})

    def is_blocked() -> bool:
        status = pathlib.Path(f"/proc/{session.pid}/status").read_text()
        (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigBlk"))
        return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)

    session.until(is_blocked, "the signal to be blocked")
    session.signal(signal.SIGTERM)
    session.wait(143)


@one_way
def test_a_second_signal_kills(place: Place) -> None:
    deaf = sh("main", "trap '' TERM; while :; do sleep 0.02; done")
    session = rehearse(place, pod("deaf", deaf, terminationGracePeriodSeconds=600))
    session.until_said("* ready")
    session.signal(signal.SIGINT)
    session.until_said("stopping; once more kills")
    session.signal(signal.SIGINT)
    session.wait(130)
