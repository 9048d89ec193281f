"""Hard times: a launcher that dies or hangs, limits, full disks, containers that meddle."""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import anyio
import pytest
from msgspec.structs import replace

from supervisor.errors import NodeError
from supervisor.runtime import launch, launcher, survivors
from supervisor.runtime.cri import Isolation, LaunchSpec, StartError
from tests.runtime.conftest import in_launchers, on_both_loops, readable_by
from tests.runtime.nodes import PATIENCE, Node, Way, marked, open_node, until
from tests.runtime.test_launcher_end import mark

pytestmark = pytest.mark.anyio
__all__ = ["mark"]
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@pytest.fixture
def one(way: Way) -> Way:
    """For tests of what is the same in every mode."""
    if way.isolation is Isolation.GROUP or (way.uid == 0) != way.changes_users:
        pytest.skip("shown in another mode")
    return way


def attempt(spec: LaunchSpec, number: int) -> LaunchSpec:
    """The same container, another attempt."""
    return replace(
        spec,
        id=replace(spec.id, attempt=number),
        log_path=spec.log_path.replace("/0.log", f"/{number}.log"),
        termination_file=spec.termination_file.replace("/0/", f"/{number}/"),
    )


# --- the launcher dies or hangs ------------------------------------------------------------------


async def watch_logs(node: Node) -> None:
    """As the command line does, on a descriptor of the launcher's."""
    while True:
        await anyio.wait_readable(node.runtime.logs_fd)
        with suppress(BlockingIOError):
            os.eventfd_read(node.runtime.logs_fd)


@on_both_loops
@pytest.mark.parametrize(("containers", "rounds"), [(1, 15), (100, 1)])
async def test_the_launchers_death_is_a_node_error_whoever_waits_for_its_descriptors(
    one: Way, folder: str, containers: int, rounds: int
) -> None:
    for _ in range(rounds):
        async with open_node(one, folder) as node, anyio.create_task_group() as tasks:
            tasks.start_soon(watch_logs, node)
            script = "while :; do echo tick; sleep 0.01; done"
            specs = [node.spec("/bin/sh", "-c", script)]
            specs += [node.spec("sleep", "1000") for _ in range(containers - 1)]
            for spec in specs:
                await node.start(spec)
            await anyio.sleep(0.01)
            os.kill(node.launcher_pid, signal.SIGKILL)
            with pytest.raises(NodeError, match="it died"):
                await node.exit(specs[0])
            # Whoever waited still waits: nobody took its descriptor away, no other got its number.
            os.close(os.dup(node.runtime.logs_fd))
            await anyio.sleep(0.01)
            with pytest.raises(NodeError):
                await node.start(node.spec("true"))
            tasks.cancel_scope.cancel()


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The launchers that had to be killed, as they did not end in time."""
    pids: list[int] = []
    kill = launch.Launcher.kill

    def note(self: launch.Launcher) -> None:
        pids.append(self.pid)
        kill(self)

    monkeypatch.setattr(launch.Launcher, "kill", note)
    return pids


async def test_a_stopped_launcher_ends_when_the_context_is_left(
    way: Way, folder: str, mark: str, killed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_CLOSE_TIMEOUT", PATIENCE)
    async with open_node(way, folder) as node:
        await node.start(node.spec("sleep", "1000", mark))
        os.kill(node.launcher_pid, signal.SIGSTOP)
    assert killed == []
    assert marked(mark) == []


async def test_a_launcher_that_stays_stopped_is_killed_with_all_below_it(
    way: Way, folder: str, mark: str, killed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As by a debugger: it does not go on when it is told to.
    monkeypatch.setattr(launch.signals, "SIGCONT", 0)
    monkeypatch.setattr(launch, "_CLOSE_TIMEOUT", 0.5)
    monkeypatch.setattr(launch, "_KILL_TIMEOUT", PATIENCE)
    script = "trap '' TERM; (setsid sleep 1000 &); while :; do sleep 1000; done"
    async with open_node(way, folder) as node:
        for _ in range(3):
            await node.start(node.spec("/bin/sh", "-c", script, mark))
        os.kill(node.launcher_pid, signal.SIGSTOP)
    assert killed == [node.launcher_pid]
    assert marked(mark) == []


async def test_leaving_the_context_does_not_wait_for_stopped_reapers(
    way: Way, folder: str, mark: str, killed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if way.namespaces:
        pytest.skip("about mode group")
    monkeypatch.setattr(launch, "_CLOSE_TIMEOUT", PATIENCE)
    in_launchers(monkeypatch, f"launcher.END_CAP = {10 * PATIENCE}")
    async with open_node(way, folder) as node:
        for _ in range(3):
            await node.start(node.spec("/bin/sh", "-c", "sleep 1000 & wait", mark))
        for pid in os.listdir("/proc"):
            try:
                with open(f"/proc/{pid}/stat") as file:
                    if f"(podvisor-reaper) S {node.launcher_pid} " in file.read():
                        os.kill(int(pid), signal.SIGSTOP)
            except (OSError, ValueError):
                pass
    assert killed == []
    assert marked(mark) == []


@pytest.mark.parametrize("last", ["exit 3", "sleep 1000"])
async def test_a_container_that_stops_its_reaper_still_ends(
    way: Way, folder: str, last: str
) -> None:
    if way.namespaces:
        pytest.skip("about mode group")
    async with open_node(way, folder) as node:
        spec = node.spec("/bin/sh", "-c", f"kill -STOP $PPID; echo done; {last}")
        await node.start(spec)
        await node.logged(spec, b"done")
        node.runtime.signal(spec.id, signal.SIGKILL)
        assert (await node.exit(spec)).exit_code in (3, 137)


async def test_a_stopped_reaper_does_not_outlive_a_killed_launcher(
    way: Way, folder: str, mark: str
) -> None:
    if way.namespaces:
        pytest.skip("about mode group")
    async with open_node(way, folder) as node:
        spec = node.spec("/bin/sh", "-c", "kill -STOP $PPID; echo up; sleep 1000", mark)
        await node.start(spec)
        await node.logged(spec, b"up")
        os.kill(node.launcher_pid, signal.SIGKILL)
        with pytest.raises(NodeError):
            await node.exit(spec)
    await until(lambda: not marked(mark), "the end of its containers")


# --- limits --------------------------------------------------------------------------------------


@contextmanager
def open_files(soft: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_more_containers_run_than_the_soft_limit_of_descriptors_allows(
    one: Way, folder: str
) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 8000:
        pytest.skip("the hard limit is low too")
    with open_files(256):
        async with open_node(one, folder) as node:
            specs = [node.spec("/bin/sh", "-c", "ulimit -Sn; exec sleep 1000") for _ in range(180)]
            logs = []
            try:
                for spec in specs:
                    await node.start(spec)
                    logs.append(os.open(spec.log_path, os.O_RDONLY))  # as the command line does
            finally:
                for fd in logs:
                    os.close(fd)
            for spec in (specs[0], specs[-1]):
                await node.logged(spec, b"stdout F 256\n")
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 256, "given back at the end"


async def test_what_was_started_without_a_descriptor_is_started_once_and_ends_as_it_is_told(
    way: Way, folder: str
) -> None:
    async with open_node(way, folder) as node:
        spec = node.spec("/bin/sh", "-c", f"echo x >> {folder}/runs; echo up; exec sleep 1000")
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = max(map(int, os.listdir("/proc/self/fd")))
        filler = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, limits[1]))
        try:
            while True:
                try:
                    filler.append(os.dup(1))
                except OSError:
                    break
            pid = await node.start(spec)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            for fd in filler:
                os.close(fd)
        assert pid > 0
        assert await node.start(spec) == pid, "the same instance"
        await node.logged(spec, b"up")
        assert node.runtime.signal(spec.id, signal.SIGKILL)
        done = await node.finish(spec)
        assert done.code == 137
        with open(f"{folder}/runs") as file:
            assert file.read() == "x\n"
        assert not node.runtime.signal(spec.id, signal.SIGKILL)


def try_limited(limits: str, *, uid: int | None = None) -> subprocess.CompletedProcess[str]:
    code = f"""
import anyio, sys, tempfile
sys.path.insert(0, {ROOT!r})
from supervisor.errors import NodeError
from supervisor.lifecycle.facts import ContainerId
from supervisor.runtime.cri import LaunchSpec
from supervisor.runtime.launch import ProcessRuntime, spawn_launcher
async def main():
    with tempfile.TemporaryDirectory() as folder:
        async with ProcessRuntime(spawn_launcher("auto"), folder) as runtime:
            await runtime.create_sandbox("u")
            spec = LaunchSpec(
                id=ContainerId("u", "c", 0), argv=("sh", "-c", "ulimit -f; exit 7"),
                env=(("PATH", "/usr/bin:/bin"),), cwd="/", log_path=folder + "/l/0.log",
                termination_path="/dev/termination-log", termination_file=folder + "/t/t")
            await runtime.start(spec)
            async for news in runtime.news():
                print(open(spec.log_path).read().split()[-1], news.exit_code)
                break
            await runtime.remove_sandbox("u")
            import os
            print(os.path.exists(folder + "/pods/u"))
try:
    anyio.run(main)
except NodeError as error:
    print("NodeError:", error)
"""
    command = ["/bin/bash", "-c", f'{limits}; exec "$@"', "x", sys.executable, "-c", code]
    if uid is not None and uid != os.geteuid():
        command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *command]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)


def test_a_hard_limit_of_file_sizes_does_not_hinder_the_node(nothing_left: None) -> None:
    done = try_limited("ulimit -f 2000")  # KiB; the container's shell counts in halves
    assert done.stdout.splitlines() == ["4000 7", "False"], done.stdout + done.stderr


def test_too_little_memory_for_logs_is_a_node_error(nothing_left: None) -> None:
    done = try_limited("ulimit -v 100000")
    assert "cannot reserve memory for logs: Cannot allocate memory" in done.stdout, done.stderr
    assert done.returncode == 0


def test_no_process_for_the_launcher_is_a_node_error(nothing_left: None) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be a user without processes")
    with readable_by(51234):
        done = try_limited("ulimit -u 1", uid=51234)
    said = "NodeError: cannot start the launcher: Resource temporarily unavailable\n"
    assert done.stdout == said, done.stderr


async def test_a_sandbox_is_removed_without_a_thread(
    one: Way, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    async with open_node(one, folder) as node:
        await node.runtime.create_sandbox("uid")
        monkeypatch.setattr(anyio.to_thread, "run_sync", refuse)
        await node.runtime.remove_sandbox("uid")
        assert not os.path.exists(f"{folder}/pods/uid")


# --- dead attempts -------------------------------------------------------------------------------


async def test_only_the_last_dead_attempt_is_kept(way: Way, folder: str) -> None:
    async with open_node(way, folder, log_max_size=3000, log_max_files=3) as node:
        first = node.spec("/bin/sh", "-c", "i=0; while [ $((i+=1)) -lt 300 ]; do echo $i; done")
        other = node.spec("true")
        await node.start(other)
        await node.finish(other)
        for number in range(5):
            spec = attempt(first, number)
            if number == 3:  # one that cannot be executed counts as one that ran
                spec = replace(spec, argv=("/no/such/program",))
                with pytest.raises(StartError):
                    await node.start(spec)
                continue
            await node.start(spec)
            await node.finish(spec)
    logs = os.listdir(os.path.dirname(first.log_path))
    assert {name.split(".")[0] for name in logs} == {"3", "4", "spare"}, logs
    container = os.path.dirname(os.path.dirname(first.termination_file))
    assert set(os.listdir(container)) == {"3", "4"}
    assert os.path.exists(other.log_path), "another container's"


async def test_services_are_restarted_on_a_full_disk(way: Way, folder: str) -> None:
    if way.uid != 0:
        pytest.skip("mounting a small disk needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "x", folder], check=True)
    try:
        async with open_node(way, folder) as node:
            first = node.spec("/bin/sh", "-c", "echo up; exit 3")
            for number in range(6):
                spec = attempt(first, number)
                await node.start(spec)
                assert (await node.finish(spec)).code == 3
                record = survivors.read(survivors.record_path(spec.log_path))
                assert record is not None
                assert (record.id, record.boot) == (spec.id, survivors.boot_id())
                with open(f"{folder}/filler", "ab", buffering=0) as file, suppress(OSError):
                    while True:
                        file.write(b"x" * 4096)
            with pytest.raises(StartError) as caught:
                await node.start(node.spec("true"))
            assert not caught.value.created
            said = "cannot write the spawn record: no space left on device"
            assert caught.value.message == said
            os.unlink(f"{folder}/filler")
            assert (await node.shell("echo well")).out == "well\n"
    finally:
        subprocess.run(["umount", folder], check=True)


# --- text ----------------------------------------------------------------------------------------

LATIN = """
import anyio, os, sys, tempfile
sys.path.insert(0, {root!r})
from supervisor.lifecycle.facts import ContainerId
from supervisor.runtime import spec as specs
from supervisor.runtime.cri import LaunchSpec
from supervisor.runtime.launch import ProcessRuntime, spawn_launcher
async def main():
    print(sys.getfilesystemencoding(), file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        async with ProcessRuntime(spawn_launcher("auto"), folder) as runtime:
            inherited = specs.inherited(os.environ, ["X"])
            spec = LaunchSpec(
                id=ContainerId("u", "c", 0), argv=("sh", "-c", "echo \\u00e9 $X $Y"),
                env=(("PATH", "/usr/bin:/bin"), ("X", inherited["X"]), ("Y", "\\u20ac")),
                cwd="/", log_path=folder + "/l/0.log",
                termination_path="/dev/termination-log", termination_file=folder + "/t/t")
            await runtime.start(spec)
            async for news in runtime.news():
                sys.stdout.buffer.write(open(spec.log_path, "rb").read().split(b" F ")[1])
                break
anyio.run(main)
"""


@pytest.mark.parametrize("raw", [b"\xc3\xa9", b"\xe9"])
def test_programs_get_the_manifests_text_whatever_the_locale(
    nothing_left: None, raw: bytes
) -> None:
    environment = {b"LC_ALL": b"C", b"PYTHONUTF8": b"0", b"PYTHONCOERCECLOCALE": b"0", b"X": raw}
    done = subprocess.run(
        [sys.executable, "-c", LATIN.format(root=ROOT)],
        env=environment,
        capture_output=True,
        check=False,
    )
    assert b"utf-8" not in done.stderr, "the test shows something"
    assert done.stdout == b"\xc3\xa9 " + raw + b" \xe2\x82\xac\n", done.stderr


# --- the machine refuses within the launcher -----------------------------------------------------


class Refusing:
    """A socket that says that too many descriptors are in flight."""

    def sendmsg(self, *_: object) -> int:
        raise OSError(errno.ETOOMANYREFS, "")


def test_a_socket_that_is_writable_but_takes_nothing_is_not_waited_for() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        channel = launcher.Channel(ours.detach())
        real, channel.socket = channel.socket, Refusing()  # type: ignore[assignment]
        channel.send(("hello",))
        assert channel.queue
        assert channel.no_room
        assert channel.events() == launcher.select.EPOLLIN
        channel.socket = real
        channel.flush()
        assert theirs.recv(100)
        assert not channel.queue
        real.close()


REFUSE = """
import errno
counted = 0
watch = launcher.Launcher.watch
def refuse(self, fd, handler):
    global counted
    if self.containers:
        counted += 1
        if counted == {number}:
            raise OSError(errno.ENOSPC, "")
    watch(self, fd, handler)
launcher.Launcher.watch = refuse
"""


@pytest.mark.parametrize("number", [1, 2, 3, 4])
async def test_a_child_that_cannot_be_watched_is_answered_and_ended(
    way: Way, folder: str, mark: str, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """fs.epoll.max_user_watches: registering fails after the clone."""
    if number > (2 if way.namespaces else 4):
        pytest.skip("nothing more is watched")
    in_launchers(monkeypatch, REFUSE.format(number=number))
    async with open_node(way, folder) as node:
        with pytest.raises(StartError) as caught:
            await node.start(node.spec("sleep", "1000", mark))
        assert not caught.value.created
        assert "no space left" in caught.value.message
        assert marked(mark) == []
        assert (await node.shell("echo well")).out == "well\n"
