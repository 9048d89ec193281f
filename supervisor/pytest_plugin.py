"""Fixtures for pytest: pods in tests, what they did in reports of failures, nothing left behind.

    def test_shutdown(pod_factory):
        web = pod_factory("web.yaml").wait_ready()
        assert web.terminate(grace=5).exit_code == 0

`podvisor` is a node for one test, `pod_factory` starts pods on it. A test function that is a
coroutine function gets the asynchronous ones, entered and left in the loop that runs it (anyio's or
pytest-asyncio's plugin); any other the blocking ones of supervisor/sync.py. What counts is the
test, not who asks: its fixtures get the same node.

pytest imports this module in every run of everybody who has podvisor installed. So it imports
nothing but pytest and the standard library before a fixture is used.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
import time
import types
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import pytest

if TYPE_CHECKING:
    from supervisor import embed, sync
    from supervisor.api import v1
    from supervisor.kubelet.clock import Clock

    Supervisor = embed.Supervisor | sync.Supervisor

_GONE = -1
_LINES = 20  # of each container, that a report shows
_PATIENCE = 2.0  # seconds until what is still there is called left behind
_ASYNCIO = "podvisor-asyncio"  # the plugin with the fixtures for pytest-asyncio
# Coverage of a subprocess is measured where these are set: its own way, and the older one.
_COVERAGE = ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")


class Options(TypedDict, total=False):
    """What the fixture `podvisor_options` may return: arguments of `supervisor.Supervisor`."""

    isolation: str
    env: Mapping[str, str]
    pass_env: Sequence[str]
    images: Mapping[str, Sequence[str]]
    grace_period: int
    backoff_initial: float
    backoff_max: float
    clock: Clock
    faults: embed.Rig


class PodFactory:
    """Starts pods that end with the test, what was started last first."""

    def __init__(self, node: sync.Supervisor) -> None:
        self._node = node

    def __call__(
        self,
        source: embed.Source,
        *,
        name: str = "",
        env: Mapping[str, str] | None = None,
        port: int | None = None,
        restart: str = "Never",
    ) -> sync.PodHandle:
        """The arguments are those of `Supervisor.run`."""
        return self._node.run(source, name=name, env=env, port=port, restart=restart)


class AsyncPodFactory:
    """Starts pods that end with the test, what was started last first."""

    def __init__(self, node: embed.Supervisor) -> None:
        self._node = node

    async def __call__(
        self,
        source: embed.Source,
        *,
        name: str = "",
        env: Mapping[str, str] | None = None,
        port: int | None = None,
        restart: str = "Never",
    ) -> embed.PodHandle:
        """The arguments are those of `Supervisor.run`."""
        return await self._node.run(source, name=name, env=env, port=port, restart=restart)


# --- fixtures ------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def podvisor_options() -> Options:
    """Arguments of the node of each test; define a fixture of this name to have others."""
    return {}


@pytest.fixture
def podvisor(request: pytest.FixtureRequest) -> Supervisor:
    """A node for this test: a `supervisor.Supervisor` if the test is asynchronous, else a
    `supervisor.sync.Supervisor`."""
    name = f"_podvisor_{_driver(request)}"
    node: Supervisor = request.getfixturevalue(name)
    return node


@pytest.fixture
def pod_factory(podvisor: Supervisor) -> PodFactory | AsyncPodFactory:
    """Starts pods on the node of this test: `pod_factory("web.yaml")`; to be awaited if the test
    is asynchronous."""
    from supervisor import sync

    if isinstance(podvisor, sync.Supervisor):
        return PodFactory(podvisor)
    return AsyncPodFactory(podvisor)


def _driver(request: pytest.FixtureRequest) -> str:
    """Who runs the test: "sync", "anyio", or "asyncio_SCOPE" with the scope of the loop."""
    function = getattr(request.node, "obj", None)
    function = getattr(getattr(function, "hypothesis", None), "inner_test", function)
    if not inspect.iscoroutinefunction(function):
        return "sync"
    if "anyio_backend" in request.fixturenames:
        return "anyio"
    mark = request.node.get_closest_marker("asyncio")
    if mark is None or not request.config.pluginmanager.has_plugin(_ASYNCIO):
        raise pytest.UsageError(
            "cannot tell who runs this asynchronous test: podvisor's fixtures know the plugins of "
            "anyio (pytest.mark.anyio) and pytest-asyncio (pytest.mark.asyncio)"
        )
    scope = mark.kwargs.get("loop_scope") or mark.kwargs.get("scope")
    return f"asyncio_{scope or request.config.getini('asyncio_default_test_loop_scope')}"


@pytest.fixture
def _podvisor_sync(
    request: pytest.FixtureRequest, podvisor_options: Options
) -> Iterator[sync.Supervisor]:
    from supervisor import sync

    watch = _Watch(request.node)
    with sync.Supervisor(**_completed(podvisor_options)) as node:
        watch.entered(node)
        yield node
        watch.leaving()
    watch.left()


@contextlib.asynccontextmanager
async def _asynchronous(item: pytest.Item, options: Options) -> AsyncIterator[embed.Supervisor]:
    from supervisor import embed

    watch = _Watch(item)
    async with embed.Supervisor(**_completed(options)) as node:
        watch.entered(node)
        yield node
        watch.leaving()
    watch.left()


@pytest.fixture
async def _podvisor_anyio(
    request: pytest.FixtureRequest, podvisor_options: Options
) -> AsyncIterator[embed.Supervisor]:
    async with _asynchronous(request.node, podvisor_options) as node:
        yield node


def _asyncio_fixtures(decorator: Callable[..., Any]) -> types.ModuleType:
    """One fixture for each loop that pytest-asyncio may run a test in, named by its scope."""
    plugin = types.ModuleType(_ASYNCIO)
    for scope in ("function", "class", "module", "package", "session"):
        name = f"_podvisor_asyncio_{scope}"

        async def fixture(
            request: pytest.FixtureRequest, podvisor_options: Options
        ) -> AsyncIterator[embed.Supervisor]:
            async with _asynchronous(request.node, podvisor_options) as node:
                yield node

        setattr(plugin, name, decorator(loop_scope=scope, name=name)(fixture))
    return plugin


def _completed(options: Options) -> Options:
    given = options.get("pass_env", ())
    measured = (name for name in _COVERAGE if name in os.environ and name not in given)
    return {**options, "pass_env": (*given, *measured)}


# --- hooks ---------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("podvisor").addoption(
        "--podvisor-keep",
        action="store_true",
        help="keep the state of failed tests (container logs), and name its folder in the report",
    )


def pytest_configure(config: pytest.Config) -> None:
    plugin = sys.modules.get("pytest_asyncio")
    if plugin is not None and config.pluginmanager.has_plugin("asyncio"):
        config.pluginmanager.register(_asyncio_fixtures(plugin.fixture), _ASYNCIO)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    watch = item.stash.get(_WATCH, None)
    if watch is not None and report.failed:
        report.sections += watch.sections(keep=item.config.getoption("podvisor_keep"))
    return report


# --- what a node did, and leaves -----------------------------------------------------------------


class _Watch:
    """Looks at the node of one test from before it is entered until after it was left."""

    def __init__(self, item: pytest.Item) -> None:
        self._before = _descriptors()
        self._node: Supervisor
        self._opened: dict[int, str] = {}  # by entering
        self._processes: dict[int, int] = {}  # pid -> start time, when it is being left
        self._lines: dict[str, dict[str, list[str]]] = {}  # by uid and container, likewise
        self._state = ""
        self._is_open = False
        item.stash[_WATCH] = self

    def entered(self, node: Supervisor) -> None:
        self._node = node
        self._opened = dict(_descriptors().items() - self._before.items())
        self._is_open = True

    def leaving(self) -> None:
        from supervisor import PodvisorError

        self._is_open = False
        self._lines = {pod.uid: _last_lines(pod) for pod in self._node.pods(gone=True)}
        with contextlib.suppress(PodvisorError):  # there is no node any more: leaving says so
            self._processes = {pid: _start_time(pid) for pid in self._node.processes()}

    def left(self) -> None:
        """Fail the test for what should have gone with the node."""
        deadline = time.monotonic() + _PATIENCE
        while (found := self._leftovers()) and time.monotonic() < deadline:
            time.sleep(0.005)
        if found:
            lines = "\n".join(f"  {each}" for each in found)
            pytest.fail(f"the test has left something of its node behind:\n{lines}", pytrace=False)

    def _leftovers(self) -> list[str]:
        from supervisor.runtime import procfs

        found = [
            f"process {pid}: {procfs.command_line(pid)}"
            for pid, start in self._processes.items()
            if start and _start_time(pid) == start
        ]
        for fd, link in _descriptors().items():
            if self._is_of_node(fd, link):
                found.append(f"file descriptor {fd}: {link}")
        for name, port in self._node.ports.items():
            holder = procfs.port_holder(port)
            if holder is not None:
                found.append(f"a socket that listens at port {port} (PORT_{name}): {holder}")
        return found

    def _is_of_node(self, fd: int, link: str) -> bool:
        if link.startswith("socket:"):
            return link in self._opened.values()  # also a duplicate
        if link == "anon_inode:[pidfd]" and self._before.get(fd) != link:
            return _pid_of(fd) in (_GONE, *self._processes)
        return self._opened.get(fd) == link

    def sections(self, *, keep: bool) -> list[tuple[str, str]]:
        """What each pod did, for the report of a failure."""
        if not hasattr(self, "_node"):
            return []  # it could not be entered
        sections = []
        for pod in self._node.pods(gone=True):
            events = (f"  {_event(event)}" for event in pod.events())
            lines = ["events:", *events]
            if pod.timeline:
                lines += ["timeline:", *(f"  {line}" for line in pod.timeline.splitlines())]
            last = _last_lines(pod) if self._is_open else self._lines.get(pod.uid, {})
            for container, texts in last.items():
                lines += [f"last lines of {container}:", *(f"  {text}" for text in texts)]
            sections.append((f"podvisor: pod {pod.name}, {pod.phase}", "\n".join(lines)))
        if keep and self._is_open:
            self._state = self._node.keep_state()
        if self._state:
            sections.append(("podvisor: state", f"kept in {self._state}"))
        return sections


_WATCH = pytest.StashKey[_Watch]()


def _event(event: v1.Event) -> str:
    times = f" (x{event.count})" if event.count > 1 else ""
    return f"{event.type} {event.reason}: {event.message}{times}"


def _last_lines(pod: embed.PodHandle | sync.PodHandle) -> dict[str, list[str]]:
    last = {name: pod.output(name).splitlines()[-_LINES:] for name in pod.containers}
    return {name: lines for name, lines in last.items() if lines}


def _descriptors() -> dict[int, str]:
    """What this process has open: by number, what it is."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def _pid_of(pidfd: int) -> int | None:
    """_GONE: of a process that has ended."""
    with contextlib.suppress(OSError), open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key == "Pid":
                return int(value)
    return None


def _start_time(pid: int) -> int:
    """In ticks since the machine's start: with the pid it names a process. 0: it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state, parent, *rest = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    # A zombie is its parent's; whose parent has ended is nobody's that looks after it.
    return 0 if state == b"Z" and int(parent) != os.getpid() else int(rest[17])
