"""What a report says of a failure, and what is an error although the test has passed."""

from __future__ import annotations

import pathlib
import re

import pytest

from tests.pytest_plugin.conftest import ASYNCHRONOUS, run

pytest_plugins = ["pytester"]

SEEN = [
    "*podvisor: pod talker, Running*",
    "events:",
    "  Normal Started: *",
    "last lines of app:",
    "  hello",
]


def test_a_failure_shows_what_the_pods_did(project: pytest.Pytester) -> None:
    source = """
        def test_it(pod_factory):
            pod = pod_factory("talker.yaml").wait_ready()
            gone = pod_factory(["sh", "-c", "echo first; echo second; exit 3"], name="gone")
            gone.wait(check=False)
            gone.terminate()
            assert next(pod.logs(follow=True)).text == "nothing"
    """
    result = run(project, test_it=source)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(SEEN)
    text = result.stdout.str()
    gone = text[text.index("podvisor: pod gone, Failed") :]
    assert re.search(r"events:\n(  .*\n)+", gone)
    assert "last lines of app" not in gone  # its container has the pod's name
    assert "last lines of gone:\n  first\n  second\n" in gone


def test_a_failure_after_the_end_of_a_pod_shows_how_it_ended(project: pytest.Pytester) -> None:
    source = """
        def test_it(pod_factory):
            pod = pod_factory("talker.yaml").wait_ready()
            for line in pod.logs(follow=True):
                break
            report = pod.terminate()
            assert report.exit_code == 5
    """
    result = run(project, test_it=source)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["timeline:", "  shutdown of talker: *", "*SIGTERM*exit 0 Completed", "  hello", "  bye"]
    )


@pytest.mark.parametrize("mark", ["anyio", "asyncio"])
def test_an_asynchronous_failure_shows_the_same(mark: str, project: pytest.Pytester) -> None:
    source = f"""
        import pytest

        @pytest.fixture
        def anyio_backend(): return "asyncio"

        @pytest.mark.{mark}
        async def test_it(pod_factory):
            pod = await pod_factory("talker.yaml")
            await pod.wait_ready()
            async for line in pod.logs(follow=True):
                assert line.text == "nothing"
    """
    result = run(project, *ASYNCHRONOUS, test_it=source)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(SEEN)


def test_a_failure_before_or_after_the_test_shows_it_too(project: pytest.Pytester) -> None:
    source = """
        import pytest

        @pytest.fixture
        def before(pod_factory):
            pod = pod_factory("talker.yaml").wait_ready()
            next(pod.logs(follow=True))
            raise RuntimeError("before")

        @pytest.fixture
        def after(pod_factory):
            pod = pod_factory("talker.yaml").wait_ready()
            next(pod.logs(follow=True))
            yield
            raise RuntimeError("after")

        def test_before(before): pass
        def test_after(after): pass
    """
    result = run(project, test_it=source)
    result.assert_outcomes(errors=2, passed=1)
    result.stdout.fnmatch_lines(["*ERROR at setup of test_before*", "*RuntimeError: before", *SEEN])
    result.stdout.fnmatch_lines(
        ["*ERROR at teardown of test_after*", "*RuntimeError: after", "*podvisor: pod talker, *",
         "events:", "timeline:", "last lines of app:", "  hello"]
    )  # fmt: skip


def test_who_waits_in_vain_is_told_why_and_shown_the_rest(project: pytest.Pytester) -> None:
    source = """
        def test_it(pod_factory):
            pod_factory(["sh", "-c", "echo cannot bind; exit 4"], name="web").wait()
    """
    result = run(project, test_it=source)
    result.stdout.fnmatch_lines(
        ["*PodFailed: pod web has failed: web exited with code 4 (Error)*",
         "*podvisor: pod web, Failed*"]
    )  # fmt: skip


def test_nothing_is_said_of_a_test_that_passes_or_uses_no_pod(project: pytest.Pytester) -> None:
    source = """
        def test_passes(podvisor): pass
        def test_fails(): assert False
        def test_without_pods(podvisor): assert False
    """
    result = run(project, "-rA", test_it=source)
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.no_fnmatch_line("*podvisor: *")


# --- what is left --------------------------------------------------------------------------------

LEAKS = {
    "file descriptor * socket:*": "os.dup(node._node._open.launcher.channel.fileno())",
    "file descriptor * anon_inode:?pidfd?": "os.pidfd_open(pod.pid)",
    "process *: sleep 4.5": "node.processes = lambda: (subprocess.Popen(['sleep', '4.5']).pid,)",
    "a socket that listens at port * (PORT_web): *": (
        "kept.append(socket.create_server(('', node.port('web'))))"
    ),
}


@pytest.mark.parametrize(("said", "leak"), LEAKS.items(), ids=["socket", "pidfd", "pid", "port"])
def test_what_a_test_leaves_of_its_node_is_its_error(
    said: str, leak: str, project: pytest.Pytester
) -> None:
    source = f"""
        import os, socket, subprocess, warnings
        kept = []
        def test_it(podvisor):
            node, pod = podvisor, podvisor.run("talker.yaml").wait_ready()
            {leak}
    """
    result = run(project, test_it=source)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*the test has left something of its node behind:", f"  {said}"])


def test_what_the_test_leaves_of_its_own_is_its_own(project: pytest.Pytester) -> None:
    source = """
        import os, socket, subprocess
        kept = []
        def test_it(podvisor, tmp_path):
            podvisor.run("talker.yaml").wait_ready()
            kept.append(open(tmp_path / "file", "w"))
            kept.append(socket.socket())
            kept.append(os.pipe())
            kept.append(os.eventfd(0))
            kept.append(subprocess.Popen(["sleep", "0.5"]))
        def test_end():
            kept[-1].wait()
    """
    run(project, test_it=source).assert_outcomes(passed=2)


# --- what is kept --------------------------------------------------------------------------------


def test_the_state_of_failed_tests_is_kept_on_demand(
    project: pytest.Pytester, tmp_path: pathlib.Path
) -> None:
    source = """
        def test_fails(pod_factory):
            pod = pod_factory("talker.yaml").wait_ready()
            assert next(pod.logs(follow=True)).text == "nothing"

        def test_passes(pod_factory):
            pod_factory("talker.yaml").wait_ready()
    """
    run(project, test_it=source).assert_outcomes(passed=1, failed=1)
    assert not list(tmp_path.glob("podvisor-*/node-*"))
    result = run(project, "--podvisor-keep", test_it=source)
    result.assert_outcomes(passed=1, failed=1)
    found = re.findall(r"^kept in (.*)$", result.stdout.str(), re.MULTILINE)
    assert [str(path) for path in tmp_path.glob("podvisor-*/node-*")] == found
    logs = list(pathlib.Path(found[0]).rglob("*.log"))
    assert any("hello" in log.read_text() for log in logs)
