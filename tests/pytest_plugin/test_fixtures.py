"""The fixtures in every kind of test, alone and in parallel, and what importing them costs."""

from __future__ import annotations

import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.pytest_plugin.conftest import ASYNCHRONOUS, run
from tests.runtime.nodes import wait_for

pytest_plugins = ["pytester"]

SYNC = """
    from supervisor import sync
    from supervisor.pytest_plugin import PodFactory

    def test_node(podvisor):
        assert type(podvisor) is sync.Supervisor
        pod = podvisor.run("talker.yaml").wait_ready()
        assert next(pod.logs(follow=True)).text == "hello"
        assert pod.terminate().exit_code == 0

    def test_factory(podvisor, pod_factory: PodFactory):
        one = pod_factory("talker.yaml").wait_ready()
        two = pod_factory(["sh", "-c", "exit $CODE"], name="two", env={"CODE": "3"})
        assert two.wait(check=False).phase == "Failed"
        assert podvisor.pods() == (one, two)
"""

# A test in either style, with its own fixture on top of ours.
ASYNC = """
    import asyncio
    import pytest
    import pytest_asyncio
    from supervisor import Supervisor

    {mark}

    @{fixture}
    async def talker(pod_factory):
        return await pod_factory("talker.yaml")

    async def test_node(podvisor):
        assert type(podvisor) is Supervisor
        pod = await podvisor.run("talker.yaml")
        await pod.wait_ready()
        async for line in pod.logs(follow=True):
            assert line.text == "hello"
            break
        report = await pod.terminate()
        assert report.exit_code == 0

    async def test_own_fixture(podvisor, talker):
        assert podvisor.pods() == (talker,)
        await talker.wait_ready()
        assert podvisor._main.get_loop() is asyncio.get_running_loop()

    def test_not_asynchronous(pod_factory):
        assert pod_factory(["true"]).wait().phase == "Succeeded"
"""


def test_synchronous_tests_have_a_blocking_node(project: pytest.Pytester) -> None:
    run(project, "-Werror", test_it=SYNC).assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("mark", "fixture", "words"),
    [
        ("pytestmark = pytest.mark.anyio", "pytest.fixture", ()),
        ("", "pytest.fixture", ("-oanyio_mode=auto",)),
        ("pytestmark = pytest.mark.asyncio", "pytest_asyncio.fixture", ()),
        ("", "pytest.fixture", ("-oasyncio_mode=auto",)),
        (
            "pytestmark = pytest.mark.asyncio(loop_scope='module')",
            "pytest_asyncio.fixture(loop_scope='module')",
            (),
        ),
        (
            "pytestmark = pytest.mark.asyncio",
            "pytest_asyncio.fixture(loop_scope='session')",
            ("-oasyncio_default_test_loop_scope=session",),
        ),
    ],
    ids=["anyio", "anyio auto", "asyncio", "asyncio auto", "module's loop", "session's loop"],
)
def test_asynchronous_tests_have_one_in_their_own_loop(
    mark: str, fixture: str, words: tuple[str, ...], project: pytest.Pytester
) -> None:
    backend = (
        "import pytest\n@pytest.fixture(scope='session')\ndef anyio_backend(): return 'asyncio'"
    )
    source = ASYNC.format(mark=mark, fixture=fixture)
    # The last test is none of theirs, and a mark on it would only be warned of.
    result = run(project, *ASYNCHRONOUS, *words, conftest=backend, test_it=source)
    result.assert_outcomes(passed=3, warnings="asyncio" in mark)


def test_uvloop_runs_it_as_well(project: pytest.Pytester) -> None:
    backend = """
        import pytest
        @pytest.fixture
        def anyio_backend():
            return "asyncio", {"use_uvloop": True}
    """
    source = ASYNC.format(mark="pytestmark = pytest.mark.anyio", fixture="pytest.fixture")
    run(project, *ASYNCHRONOUS, conftest=backend, test_it=source).assert_outcomes(passed=3)


def test_who_has_no_plugin_for_asynchronous_tests_is_told(project: pytest.Pytester) -> None:
    source = "async def test_it(podvisor): pass"
    result = run(project, "-panyio", test_it=source)
    result.stdout.fnmatch_lines(["*cannot tell who runs this asynchronous test: *"])


def test_trio_is_refused(project: pytest.Pytester) -> None:
    source = """
        import pytest
        @pytest.mark.anyio
        @pytest.mark.parametrize("anyio_backend", ["trio"])
        async def test_it(podvisor): pass
    """
    result = run(project, *ASYNCHRONOUS, test_it=source)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*cannot embed podvisor here: it needs asyncio*"])


def test_the_node_is_made_with_the_project_s_options(project: pytest.Pytester) -> None:
    options = """
        import pytest
        @pytest.fixture(scope="session")
        def podvisor_options():
            return {"images": {"shop/web": ["echo", "mapped"]}, "env": {"A": "given"}}
    """
    source = """
        def test_it(pod_factory):
            pod = pod_factory({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
                "spec": {"restartPolicy": "Never", "containers": [
                    {"name": "app", "image": "shop/web", "args": ["$(A)", "b"]}]},
            })
            pod.wait()
            assert pod.output() == "mapped $(A) b\\n"
            pod = pod_factory(["sh", "-c", "echo $A"])
            pod.wait()
            assert pod.output() == "given\\n"
    """
    run(project, conftest=options, test_it=source).assert_outcomes(passed=1)


def test_parallel_runs_have_nodes_and_ports_of_their_own(project: pytest.Pytester) -> None:
    source = """
        import socket, time
        import pytest

        SERVER = "import socket; s = socket.create_server(('', $(PORT_web))); s.accept()"

        @pytest.mark.parametrize("number", range(8))
        def test_it(podvisor, pod_factory, number):
            pod = pod_factory(["python3", "-c", SERVER], port=podvisor.port("web"))
            while pod.phase != "Succeeded":
                assert pod.phase in ("Pending", "Running"), pod.output()
                try:
                    socket.create_connection(("127.0.0.1", podvisor.port("web"))).close()
                except ConnectionError:  # it does not listen yet, or has ended just now
                    time.sleep(0.01)
            assert pod.wait().phase == "Succeeded"
            assert pod.host_port == podvisor.port("web")
    """
    run(project, "-pxdist", "-n2", test_it=source).assert_outcomes(passed=8)


_MODULES = """
import sys
import pytest

class Look:
    def pytest_sessionfinish(self):
        print("MODULES", *sys.modules)

pytest.main(sys.argv[1:], plugins=[Look()])
"""


def test_a_run_that_uses_no_fixture_imports_nothing_of_others(
    project: pytest.Pytester,
) -> None:
    project.makepyfile(test_it="def test_it(): pass")

    def modules(*words: str) -> set[str]:
        done = subprocess.run(
            [sys.executable, "-c", _MODULES, "-s", "test_it.py", *words],
            capture_output=True, text=True, timeout=60, check=True, cwd=project.path,
        )  # fmt: skip
        (line,) = (line for line in done.stdout.splitlines() if "MODULES" in line)
        return set(line.partition("MODULES")[2].split())

    more = modules("-p", "supervisor.pytest_plugin") - modules()
    ours = {name for name in more if name.partition(".")[0] == "supervisor"}
    assert ours == {"supervisor", "supervisor._version", "supervisor.pytest_plugin"}
    assert {name.partition(".")[0] for name in more - ours} <= sys.stdlib_module_names


def test_pytest_that_is_killed_takes_its_pods_with_it(project: pytest.Pytester) -> None:
    pids = project.path / "pids"
    source = f"""
        import multiprocessing, os, pathlib, time

        def test_it(podvisor):
            podvisor.run("talker.yaml").wait_ready()
            worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(2,))
            worker.start()
            note = " ".join(map(str, podvisor.processes()))
            pathlib.Path({str(pids)!r} + ".new").write_text(note)
            os.rename({str(pids)!r} + ".new", {str(pids)!r})
            time.sleep(1000)
    """
    project.makepyfile(test_it=source)
    command = [sys.executable, "-m", "pytest", "-q", "-ppodvisor"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=project.path, **quiet) as run:
        wait_for(pids.exists, "the test to run")
        of_node = [int(word) for word in pids.read_text().split()]
        assert len(of_node) >= 3  # launcher, logger, container
        run.send_signal(signal.SIGKILL)
    begin = time.monotonic()
    wait_for(lambda: not any(map(_runs, of_node)), "the end of all processes")
    print(f"after {time.monotonic() - begin:.3f} s")


def _runs(pid: int) -> bool:
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
