"""The durable node: who is killed, and what goes on all the same.

A child process plays the supervisor that is killed; the test itself is the one that comes after.
"""

from __future__ import annotations

import marshal
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress

import anyio
import pytest

from supervisor.errors import NodeError
from supervisor.runtime import launch, survivors
from supervisor.runtime.cri import (
    ExecError,
    ExecInterruptedError,
    ExecResult,
    Exit,
    LaunchSpec,
    Lost,
    Presence,
    StartError,
)
from supervisor.runtime.launch import connect_launcher, spawn_launcher
from tests.runtime.conftest import in_all_ways_on_both_loops, in_launchers
from tests.runtime.nodes import (
    PATIENCE,
    Node,
    Way,
    adopt,
    children,
    comm,
    durable_node,
    ended,
    gone,
    kill,
    logger_of,
    marked,
    read_log,
    reap_strays,
    supervised,
    supervisor,
    text_of,
    touch,
    until,
    wait_for,
    waits_for,
)
from tests.runtime.test_launcher_end import mark

pytestmark = pytest.mark.anyio
__all__ = ["mark"]


@pytest.fixture
def state(way: Way, folder: str) -> Iterator[str]:
    """The state directory of a durable node, of which nothing goes on after the test."""
    yield folder
    for pid in children():
        if comm(pid) == "podvisor-launch":  # a test that failed may have left it stopped
            os.kill(pid, signal.SIGCONT)
    # What was an orphan's: unreaped, it would hold the namespace that it was in.
    reap_strays()
    launcher = connect_launcher(folder)
    if launcher is not None:
        launcher.close()
    for record in survivors.read_all(folder):
        for handle in record.end():
            launch._readable(handle, PATIENCE)
            os.close(handle)
    for record in survivors.read_pauses(folder):
        for handle in record.end():
            reap_strays()  # what it waits for
            launch._readable(handle, PATIENCE)
            os.close(handle)


# --- the supervisor dies -------------------------------------------------------------------------


@in_all_ways_on_both_loops
async def test_containers_outlive_a_killed_supervisor(way: Way, state: str, mark: str) -> None:
    os.mkfifo(f"{state}/fifo")
    said = supervised(
        way,
        state,
        f"""
        words = ("/bin/sh", "-c", "while :; do read x < {state}/fifo; done", {mark!r})
        specs = [node.spec(*words) for _ in range(3)]
        said["pids"] = [await node.start(spec) for spec in specs]
        """,
    )
    async with durable_node(way, state) as node:
        assert node.launcher_pid == said["launcher"]
        words = ("/bin/sh", "-c", f"while :; do read x < {state}/fifo; done", mark)
        specs = [node.spec(*words) for _ in range(3)]
        assert [await adopt(node, spec) for spec in specs] == said["pids"]
        assert [await node.start(spec) for spec in specs] == said["pids"], "starting is harmless"
        node.runtime.signal(specs[0].id, signal.SIGKILL)
        assert (await ended(node, specs[0])).exit_code == 137
        assert sorted(marked(mark)) == sorted(said["pids"][1:])


async def test_the_exit_of_a_container_is_kept_until_somebody_takes_note(
    way: Way, state: str
) -> None:
    main = waits_for(f"{state}/go", "exit 7")
    said = supervised(way, state, f"await node.start(node.spec(*{main!r}))")
    touch(f"{state}/go")
    for again in range(2):
        async with durable_node(way, state) as node:
            assert node.launcher_pid == said["launcher"]
            spec = node.spec(*main)
            await adopt(node, spec)
            end = await node.exit(spec)
            assert (end.exit_code, end.drained) == (7, True)
            if again:
                node.runtime.acknowledge(spec.id)
    wait_for(lambda: gone(said["launcher"]), "the launcher's end: it holds nothing")


async def test_what_an_earlier_supervisor_has_committed_is_acknowledged_without_adoption(
    way: Way, state: str
) -> None:
    said = supervised(
        way,
        state,
        """
        specs = [node.spec("/bin/sh", "-c", "exit 3") for _ in range(2)]
        for spec in specs:
            await node.start(spec)
            await node.exit(spec)
        node.runtime.acknowledge(specs[0].id)
        """,
    )
    async with durable_node(way, state) as node:
        specs = [node.spec("/bin/sh", "-c", "exit 3") for _ in range(2)]
        await adopt(node, specs[0], Presence.GONE)
        node.runtime.acknowledge(specs[1].id)
    wait_for(lambda: gone(said["launcher"]), "the launcher's end: it holds nothing")


async def test_a_writer_does_not_stall_and_no_byte_is_lost_while_nobody_supervises(
    way: Way, state: str
) -> None:
    lines = 60_000
    line = f"of the long night {'x' * 60}"
    write = f"i=0; while [ $i -lt {lines} ]; do i=$((i+1)); echo line $i {line}"
    main = waits_for(f"{state}/go", f"{write}; done; touch {state}/done; exit 5")
    supervised(way, state, f"await node.start(node.spec(*{main!r}))")
    touch(f"{state}/go")
    wait_for(lambda: os.path.exists(f"{state}/done"), "the writer's end", 60)
    async with durable_node(way, state) as node:
        spec = node.spec(*main)
        await adopt(node, spec)
        end = await ended(node, spec)
    assert (end.exit_code, end.drained, end.dropped) == (5, True, 0)
    wanted = "".join(f"line {i} {line}\n" for i in range(1, lines + 1))
    assert text_of(read_log(spec.log_path), "stdout").decode() == f"up\n{wanted}"


async def test_a_forked_child_of_the_dead_supervisor_holds_nobody_up(way: Way, state: str) -> None:
    said = supervised(
        way,
        state,
        """
        import ctypes
        await node.start(node.spec("sleep", "1000"))
        clib = ctypes.PyDLL(None)
        said["blind"] = clib.fork()  # Python does not see it: it holds copies of all descriptors
        if said["blind"] == 0:
            clib.pause()
        """,
    )
    async with durable_node(way, state) as node:
        await adopt(node, node.spec("sleep", "1000"))
        assert not gone(said["blind"])
    os.kill(said["blind"], signal.SIGKILL)


def test_a_second_supervisor_is_refused(way: Way, state: str) -> None:
    with supervisor(way, state, "") as other:
        other.hear()
        with pytest.raises(NodeError, match=f"it belongs to podvisor process {other.pid}"):
            connect_launcher(state)
        with pytest.raises(NodeError, match="there is one"):
            spawn_launcher(way.isolation.value, durable_in=state)


async def test_a_stopped_supervisor_stops_neither_starts_nor_exits(way: Way, state: str) -> None:
    main = waits_for(f"{state}/go", "exit 3")
    body = f"""
        spec = node.spec(*{main!r})
        await node.start(spec)
        print(json.dumps(said), flush=True)
        said["code"] = (await node.exit(spec)).exit_code
    """
    with supervisor(way, state, body) as other:
        other.hear()
        os.kill(other.pid, signal.SIGSTOP)
        touch(f"{state}/go")
        (record,) = survivors.read_all(state)
        wait_for(lambda: not record.main.lives, "the main's end")
        os.kill(other.pid, signal.SIGCONT)
        assert other.hear()["code"] == 3


def flood(channel: socket.socket, packet: bytes) -> None:
    """Ask and ask, until the other side hangs up."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            channel.send(packet)
        except BlockingIOError:
            time.sleep(0.001)
        except (BrokenPipeError, ConnectionResetError):
            return
    pytest.fail("the launcher keeps everything")


async def test_a_supervisor_that_takes_nothing_is_let_go_and_comes_back(
    way: Way, state: str
) -> None:
    async with durable_node(way, state) as node:
        spec = node.spec("sleep", "1000")
        pid = await node.start(spec)
        packet = marshal.dumps(("start", launch._key(spec.id), {}), 2)
        channel = node.runtime._launcher.channel
        flood(channel, packet)  # the loop stands still meanwhile, as in a stopped process
        assert (await node.shell("echo well; exit 4")).code == 4
        assert await node.start(spec) == pid
        assert node.runtime._launcher.channel is not channel
        node.runtime.signal(spec.id, signal.SIGKILL)
        assert (await ended(node, spec)).exit_code == 137


def test_a_launcher_that_holds_nothing_ends(way: Way, state: str) -> None:
    said = supervised(way, state, "await node.shell('exit 3')")
    wait_for(lambda: gone(said["launcher"]), "the launcher's end")
    assert connect_launcher(state) is None


async def test_leaving_the_context_keeps_containers_and_ends_an_idle_launcher(
    way: Way, state: str
) -> None:
    async with durable_node(way, state) as node:
        spec = node.spec("sleep", "1000")
        pid = await node.start(spec)
        launcher = node.launcher_pid
    assert not gone(pid)
    async with durable_node(way, state) as node:
        spec = node.spec("sleep", "1000")
        assert await adopt(node, spec) == pid
        node.runtime.signal(spec.id, signal.SIGKILL)
        await ended(node, spec)
    wait_for(lambda: gone(launcher), "the launcher's end")


async def test_a_launcher_that_is_told_to_end_takes_everything_along(
    way: Way, state: str, mark: str
) -> None:
    async with durable_node(way, state) as node:
        await node.start(node.spec("/bin/sh", "-c", "sleep 1000 & wait", mark))
    launcher = connect_launcher(state)
    assert launcher is not None
    launcher.close()
    assert marked(mark) == []


# --- the state folder goes -----------------------------------------------------------------------


@pytest.fixture
def outside(way: Way, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Another folder; and launchers look for theirs all the time."""
    in_launchers(monkeypatch, "launcher.HOME_LOOK = 0.02; launcher.KILL_AGAIN = 0.1")
    with tempfile.TemporaryDirectory(prefix="podvisor-test-") as path:
        os.mkfifo(f"{path}/fifo")
        yield path


def traps(outside: str, **commands: str) -> tuple[str, ...]:
    """A main that answers signals so, and prints when it does."""
    traps = "; ".join(f"trap '{command}' {name}" for name, command in commands.items())
    return ("/bin/sh", "-c", f"{traps}; echo up; while :; do read x < {outside}/fifo; done")


async def test_what_nobody_can_find_any_more_is_ended_by_its_own_signal_and_grace(
    way: Way, state: str, outside: str, mark: str
) -> None:
    said = f"{outside}/said"
    mains = (
        (traps(outside, USR1=f"sleep 0.2; echo bye > {said}; exit", TERM=""), signal.SIGUSR1, 1000),
        (traps(outside, TERM=""), signal.SIGTERM, 1),
        (("/bin/sh", "-c", "exit 3"), signal.SIGTERM, 1000),
    )
    async with durable_node(way, state) as node:
        for words, *farewell in mains:
            spec = node.spec(*words, mark, farewell=tuple(farewell))
            await node.start(spec)
            if "trap" in words[-1]:
                await node.logged(spec, b"up\n")
    assert len(marked(mark)) >= 2

    def removed() -> bool:
        """The logger may write while we remove: then there is more to be removed."""
        shutil.rmtree(state, ignore_errors=True)
        return not os.path.exists(state)

    try:
        wait_for(removed, "the folder's removal")
        wait_for(lambda: gone(node.launcher_pid), "the launcher's end")
    finally:
        left = marked(mark)
        for pid in left:
            kill(pid)
    assert left == []
    with open(said) as file:
        assert file.read() == "bye\n"


async def test_a_state_folder_that_was_moved_is_not_one_that_was_removed(
    way: Way, state: str, outside: str
) -> None:
    words = traps(outside, TERM="exit 3")
    async with durable_node(way, state) as node:
        launcher, spec = node.launcher_pid, node.spec(*words)
        pid = await node.start(spec)
        await node.logged(spec, b"up\n")

    def looks() -> int:
        """How often it has begun to wait."""
        with open(f"/proc/{launcher}/status") as file:
            return int(file.read().partition("\nvoluntary_ctxt_switches:")[2].split()[0])

    os.rename(state, f"{outside}/elsewhere")
    try:
        before = looks()
        wait_for(lambda: looks() > before + 10, "some looks for it")
    finally:
        os.rename(f"{outside}/elsewhere", state)
    async with durable_node(way, state) as node:
        assert node.launcher_pid == launcher
        spec = node.spec(*words)
        assert await adopt(node, spec) == pid
        node.runtime.signal(spec.id, signal.SIGTERM)
        assert (await ended(node, spec)).exit_code == 3


async def test_while_somebody_supervises_it_is_his_matter_that_the_state_folder_is_removed(
    way: Way, state: str, outside: str
) -> None:
    said = f"{outside}/said"
    words = traps(outside, USR1=f"echo > {said}", TERM="exit 3")
    async with durable_node(way, state) as node:
        spec = node.spec(*words, farewell=(signal.SIGKILL, 1))
        await node.start(spec)
        await node.logged(spec, b"up\n")
        shutil.rmtree(state)
        for _ in range(3):  # looks of the launcher
            node.runtime.signal(spec.id, signal.SIGUSR1)
            await until(lambda: os.path.exists(said), "an answer")
            os.remove(said)
        node.runtime.signal(spec.id, signal.SIGTERM)
        assert (await ended(node, spec)).exit_code == 3


# --- the socket ----------------------------------------------------------------------------------


async def test_the_socket_is_private_and_its_path_may_be_long(way: Way, state: str) -> None:
    deep = f"{state}/{'d' * 100}/{'e' * 100}"
    os.makedirs(deep)
    async with durable_node(way, deep) as node:
        assert os.stat(f"{deep}/launcher.sock").st_mode & 0o777 == 0o600
        await node.start(node.spec("sleep", "1000"))
    launcher = connect_launcher(deep)
    assert launcher is not None
    launcher.close()


async def test_where_no_socket_can_be_made_it_lies_in_the_runtime_directory(
    way: Way, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = f"{state}/runtime"
    os.mkdir(runtime)
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    os.mkdir(f"{state}/launcher.sock")  # what stands for a file system without sockets
    async with durable_node(way, state) as node:
        await node.start(node.spec("sleep", "1000"))
        (folder,) = os.listdir(runtime)
        assert os.stat(f"{runtime}/{folder}").st_mode & 0o777 == 0o700
    launcher = connect_launcher(state)
    assert launcher is not None
    launcher.close()


def test_another_user_is_not_served(way: Way, state: str) -> None:
    if way.uid == 0 or os.getresuid()[2] != 0:
        pytest.skip("needs two users")
    if way.namespaces:
        pytest.skip("whoever is not mapped looks like nobody, which is the user of these tests")
    with supervisor(way, state, "await node.start(node.spec('sleep', '1000'))") as other:
        other.hear()
    os.seteuid(0)
    try:
        assert connect_launcher(state) is None
    finally:
        os.seteuid(way.uid)


# --- what has run once ---------------------------------------------------------------------------


def fake_record(spec: LaunchSpec, text: str) -> None:
    os.makedirs(os.path.dirname(spec.log_path), exist_ok=True)
    with open(survivors.record_path(spec.log_path), "w") as file:
        file.write(text)


async def test_what_has_no_record_may_be_started(way: Way, state: str) -> None:
    async with durable_node(way, state) as node:
        spec = node.spec("/bin/sh", "-c", "exit 4")
        await adopt(node, spec, Presence.UNKNOWN)
        await node.start(spec)
        assert (await ended(node, spec)).exit_code == 4


@pytest.mark.parametrize("text", ["", "pid {pid}\nstart {start}\nboot another\n"])
async def test_after_a_reboot_what_ran_is_gone_and_is_not_started_again(
    way: Way, state: str, text: str
) -> None:
    async with durable_node(way, state) as node:
        spec = node.spec("touch", f"{state}/ran")
        me = survivors.Process(os.getpid(), survivors._start_time(os.getpid()))
        fake_record(spec, text.format(pid=me.pid, start=me.start))
        await adopt(node, spec, Presence.GONE)
        await node.start(spec)
        assert isinstance(await ended(node, spec), Lost)
        assert not os.path.exists(f"{state}/ran")
        assert await node.runtime.end_strays(frozenset()) == 0


async def test_a_failed_start_whose_answer_was_lost_is_answered_again(way: Way, state: str) -> None:
    body = """
        from supervisor.runtime import survivors
        spec = node.spec("/no/such/program")
        node.runtime._request_start(spec)
        record = survivors.record_path(spec.log_path)
        while not os.path.exists(record) or "failed" not in open(record).read():
            await anyio.sleep(0.01)
    """
    supervised(way, state, body)
    for _ in range(2):
        async with durable_node(way, state) as node:
            spec = node.spec("/no/such/program")
            await adopt(node, spec, Presence.UNKNOWN)
            with pytest.raises(StartError, match="no such file or directory") as caught:
                await node.start(spec)
            assert caught.value.created


async def test_a_start_that_left_nothing_may_be_tried_again(way: Way, state: str) -> None:
    async with durable_node(way, state) as node:
        spec = node.spec("true")
        os.makedirs(f"{state}/logs/ns_pod_uid")
        touch(f"{state}/logs/ns_pod_uid/{spec.id.name}")  # where a folder should be
        with pytest.raises(StartError) as caught:
            await node.start(spec)
        assert not caught.value.created
        os.unlink(f"{state}/logs/ns_pod_uid/{spec.id.name}")
        await node.start(spec)
        assert (await ended(node, spec)).exit_code == 0


async def test_a_start_under_way_when_the_supervisor_dies_is_found_as_it_is(
    way: Way, state: str
) -> None:
    body = """
        node.runtime._request_start(node.spec("sleep", "1000"))
        with open(f"/proc/{node.launcher_pid}/stat") as file:
            pass
        while open(f"/proc/{node.launcher_pid}/stat").read().rpartition(")")[2].split()[0] != "T":
            await anyio.sleep(0.01)
    """
    with supervisor(way, state, body, "before-release=stop") as other:
        launcher = other.hear()["launcher"]
    os.kill(launcher, signal.SIGCONT)
    async with durable_node(way, state) as node:
        assert node.launcher_pid == launcher
        spec = node.spec("sleep", "1000")
        assert not gone(await adopt(node, spec))


async def test_who_is_not_known_is_ended_and_who_is_known_is_not(
    way: Way, state: str, mark: str
) -> None:
    os.mkfifo(f"{state}/fifo")  # a shell that waits for it has no child that looks like it
    supervised(
        way,
        state,
        f"""
        for _ in range(3):
            await node.start(node.spec("sh", "-c", "read x < {state}/fifo", {mark!r}))
        """,
    )
    async with durable_node(way, state) as node:
        specs = [node.spec("sh", "-c", f"read x < {state}/fifo", mark) for _ in range(3)]
        adopted = await adopt(node, specs[0])
        assert await node.runtime.end_strays(frozenset({specs[1].id})) == 1
        assert len(marked(mark)) == 2
        assert adopted in marked(mark)
        assert await node.runtime.end_strays(frozenset()) == 1
        assert marked(mark) == [adopted]


# --- programs that are run in containers ---------------------------------------------------------


def hook(state: str) -> tuple[str, ...]:
    script = f"echo $HOOK >> {state}/runs; while [ ! -e {state}/go ]; do sleep 0.02; done; "
    return ("/bin/sh", "-c", f"{script} echo $HOOK done; echo oh >&2; exit 4")


BEGIN_HOOK = """
        spec = node.spec("sleep", "1000")
        said["pid"] = await node.start(spec)
        async def run():
            env = (("HOOK", "this"),)
            await node.runtime.exec(spec.id, {argv}, timeout=None, limit=1000, env=env, key="hook")
        node.runtime._tasks.start_soon(run)
        await until(lambda: os.path.exists({runs!r}), "the hook")
"""


def begin_hook(state: str, *argv: str) -> str:
    return BEGIN_HOOK.format(argv=argv or hook(state), runs=f"{state}/runs")


async def attach(node: Node, spec: LaunchSpec, *argv: str, key: str = "hook") -> ExecResult:
    with anyio.fail_after(PATIENCE):
        return await node.runtime.exec(spec.id, argv, timeout=None, limit=1000, key=key)


def runs(state: str) -> int:
    with open(f"{state}/runs") as file:
        return len(file.readlines())


async def test_a_hook_goes_on_when_the_supervisor_dies_and_is_found_running(
    way: Way, state: str
) -> None:
    supervised(way, state, begin_hook(state))
    async with durable_node(way, state) as node:
        spec = node.spec("sleep", "1000")
        await adopt(node, spec)
        assert node.runtime.kept_execs == {(spec.id, "hook")}
        touch(f"{state}/go")
        assert await attach(node, spec, *hook(state)) == ExecResult(4, b"this done\noh\n")
        assert runs(state) == 1
        node.runtime.forget_exec(spec.id, "hook")
        assert (await attach(node, spec, *hook(state))).exit_code == 4
        assert runs(state) == 2, "what is forgotten is run again"


async def test_what_came_of_a_hook_is_kept_until_it_is_forgotten(way: Way, state: str) -> None:
    said = supervised(way, state, begin_hook(state))
    touch(f"{state}/go")
    for _ in range(2):
        async with durable_node(way, state) as node:
            assert node.launcher_pid == said["launcher"]
            spec = node.spec("sleep", "1000")
            await adopt(node, spec)
            assert node.runtime.kept_execs == {(spec.id, "hook")}
            assert await attach(node, spec, *hook(state)) == ExecResult(4, b"this done\noh\n")
            node.runtime._kept.clear()  # the launcher knows, whatever it is asked
            assert await attach(node, spec, *hook(state)) == ExecResult(4, b"this done\noh\n")
    async with durable_node(way, state) as node:
        node.runtime.forget_exec(node.spec("sleep", "1000").id, "hook")
    async with durable_node(way, state) as node:
        assert node.runtime.kept_execs == frozenset()
    assert runs(state) == 1


async def test_a_hook_ends_with_its_container_and_its_result_stays(way: Way, state: str) -> None:
    said = supervised(way, state, begin_hook(state))
    os.kill(said["pid"], signal.SIGKILL)
    async with durable_node(way, state) as node:
        spec = node.spec("sleep", "1000")
        await adopt(node, spec)
        assert (await ended(node, spec)).exit_code == 137
        assert (await attach(node, spec, *hook(state))).exit_code == 137
        with pytest.raises(ExecError, match="not running"):
            await attach(node, spec, *hook(state), key="another")
        node.runtime.forget_exec(spec.id, "hook")
    wait_for(lambda: gone(said["launcher"]), "the launcher's end")


@pytest.mark.parametrize("how", ["timeout", "forgotten"])
async def test_a_hook_that_is_not_wanted_any_more_is_killed_with_all_it_started(
    way: Way, state: str, mark: str, how: str
) -> None:
    async with durable_node(way, state) as node:
        spec = node.spec("sleep", "1000")
        await node.start(spec)
        words = ("/bin/sh", "-c", "(setsid sleep 1000 &); echo up; sleep 1000; true", mark)

        async def run(timeout: float | None) -> ExecResult:
            return await node.runtime.exec(spec.id, words, timeout=timeout, limit=99, key="k")

        if how == "timeout":
            done = await run(1.0)
            assert done.exit_code is None
            assert await run(0.1) == done, "kept, as every result"
        else:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run, None)
                await until(lambda: marked(mark), "the program")
                tasks.cancel_scope.cancel()
            assert marked(mark) != [], "whoever waits no longer has not asked for its end"
        node.runtime.forget_exec(spec.id, "k")
        await until(lambda: not marked(mark), "its end")


async def test_large_requests_and_results_pass_whole(way: Way, state: str) -> None:
    async with durable_node(way, state) as node:
        spec = node.spec("sleep", "1000")
        await node.start(spec)
        env = (("LARGE", "x" * 100_000), ("PATH", "/usr/bin:/bin"))
        words = ("sh", "-c", 'printf %s "$LARGE$1"', "sh", "y" * 90_000)
        whole = b"x" * 100_000 + b"y" * 90_000
        for key in ("", "large"):
            done = await node.runtime.exec(
                spec.id, words, timeout=PATIENCE, limit=1 << 20, env=env, key=key
            )
            assert done == ExecResult(0, whole)
        node.runtime.forget_exec(spec.id, "large")


async def test_a_hook_that_cannot_be_started_is_an_error_that_is_kept(way: Way, state: str) -> None:
    async with durable_node(way, state) as node:
        spec = node.spec("sleep", "1000")
        await node.start(spec)
        for _ in range(2):
            with pytest.raises(ExecError, match="executable file not found"):
                await attach(node, spec, "no-such-program")
        node.runtime.forget_exec(spec.id, "hook")


async def test_a_probe_ends_with_the_supervisor(way: Way, state: str, mark: str) -> None:
    supervised(
        way,
        state,
        f"""
        spec = node.spec("sleep", "1000")
        await node.start(spec)
        async def probe():
            words = ("/bin/sh", "-c", "(setsid sleep 1000 &); sleep 1000; true", {mark!r})
            await node.runtime.exec(spec.id, words, timeout=None, limit=1000)
        node.runtime._tasks.start_soon(probe)
        await until(lambda: marked({mark!r}), "the probe")
        """,
    )
    wait_for(lambda: not marked(mark), "the probe's end")


# --- the launcher dies ---------------------------------------------------------------------------


@in_all_ways_on_both_loops
async def test_a_killed_launcher_is_replaced_and_its_containers_go_on(way: Way, state: str) -> None:
    async with durable_node(way, state) as node:
        main = waits_for(f"{state}/go", "echo last; exit 6")
        spec, other = node.spec(*main), node.spec("sleep", "1000")
        pids = [await node.start(spec), await node.start(other)]
        await node.logged(spec, b"up")
        logs = node.runtime.logs_fd
        os.kill(node.launcher_pid, signal.SIGKILL)
        await until(lambda: node.runtime._launcher.pid != node.launcher_pid, "another launcher")
        assert node.runtime.logs_fd == logs, "whoever waits for logs waits on"
        assert (await node.shell("echo well; exit 3")).code == 3, "new ones can be started"
        assert [await node.start(spec), await node.start(other)] == pids
        done = await node.runtime.exec(spec.id, ("id", "-u"), timeout=PATIENCE, limit=99)
        assert done == ExecResult(0, b"%d\n" % way.uid)
        seen = await node.runtime.exec(
            spec.id, ("readlink", "/proc/self/ns/pid"), timeout=PATIENCE, limit=99
        )
        assert seen.output.decode().strip() == os.readlink(f"/proc/{pids[0]}/ns/pid")
        touch(f"{state}/go")
        end = await ended(node, spec)
        assert isinstance(end, Exit)
        assert (end.exit_code, end.drained, end.dropped) == (6, True, 0)
        assert text_of(read_log(spec.log_path), "stdout") == b"up\nlast\n"
        node.runtime.signal(other.id, signal.SIGKILL)
        assert (await ended(node, other)).exit_code == 137


async def test_supervisor_and_launcher_killed_the_next_ones_take_the_containers_over(
    way: Way, state: str, mark: str
) -> None:
    main = waits_for(f"{state}/go", "echo last; exit 6")
    said = supervised(way, state, f"said['pid'] = await node.start(node.spec(*{main!r}, {mark!r}))")
    kill(said["launcher"])
    assert said["pid"] in marked(mark)
    async with durable_node(way, state) as node:
        assert node.launcher_pid != said["launcher"]
        spec = node.spec(*main, mark)
        assert await adopt(node, spec) == said["pid"]
        assert await node.runtime.end_strays(frozenset()) == 0
        done = await node.runtime.exec(spec.id, ("echo", "in"), timeout=PATIENCE, limit=99)
        assert done == ExecResult(0, b"in\n")
    async with durable_node(way, state) as node:
        assert await adopt(node, spec) == said["pid"], "and holds it like any other"
        touch(f"{state}/go")
        end = await ended(node, spec)
        assert isinstance(end, Exit)
        assert (end.exit_code, end.drained) == (6, True)
        assert text_of(read_log(spec.log_path), "stdout") == b"up\nlast\n"


async def test_the_exit_code_is_known_though_it_came_while_both_were_dead(
    way: Way, state: str
) -> None:
    """Group mode has a reaper that writes it down; else it is the kernel that must still know."""
    main = waits_for(f"{state}/go", "echo last; exit 6")
    said = supervised(way, state, f"said['pid'] = await node.start(node.spec(*{main!r}))")
    kill(said["launcher"])
    touch(f"{state}/go")
    wait_for(lambda: gone(said["pid"]), "the main's end")
    if way.namespaces:
        wait_for(lambda: said["pid"] not in reap_strays(), "its parent to reap it")
    async with durable_node(way, state) as node:
        spec = node.spec(*main)
        if way.namespaces:
            await adopt(node, spec, Presence.GONE)
            return
        await adopt(node, spec)
        end = await ended(node, spec)
        assert isinstance(end, Exit)
        assert (end.exit_code, end.drained) == (6, True)
        assert text_of(read_log(spec.log_path), "stdout") == b"up\nlast\n"


async def test_the_kernel_knows_the_code_of_what_was_reaped_before_anybody_looked(
    namespaces: Way, state: str
) -> None:
    async with durable_node(namespaces, state) as node:
        main = waits_for(f"{state}/go", "exit 6")
        spec = node.spec(*main)
        pid = await node.start(spec)
        os.kill(node.launcher_pid, signal.SIGKILL)
        await until(lambda: node.runtime._launcher.pid != node.launcher_pid, "another launcher")
        assert (await node.shell("exit 0")).code == 0, "it has been told of the container, too"
        launcher = node.runtime._launcher.pid
        os.kill(launcher, signal.SIGSTOP)
        touch(f"{state}/go")
        await until(lambda: gone(pid) and pid not in reap_strays(), "its parent to reap it")
        os.kill(launcher, signal.SIGCONT)
        end = await ended(node, spec)
        if isinstance(end, Lost):
            release = tuple(int(n) for n in os.uname().release.split(".")[:2])
            assert release < (6, 15), "older kernels do not know"
        else:
            assert end.exit_code == 6


async def test_a_start_under_way_when_the_launcher_dies_is_tried_again_or_found(
    way: Way, state: str
) -> None:
    async with durable_node(way, state) as node:
        os.kill(node.launcher_pid, signal.SIGSTOP)
        spec = node.spec("sleep", "1000")
        pids: list[int] = []
        async with anyio.create_task_group() as tasks:

            async def start() -> None:
                pids.append(await node.start(spec))

            tasks.start_soon(start)
            await anyio.sleep(0.01)
            os.kill(node.launcher_pid, signal.SIGKILL)
        assert not gone(pids[0])


async def test_an_adoption_under_way_when_the_launcher_dies_is_tried_again(
    way: Way, state: str
) -> None:
    main = ("sleep", "1000")
    said = supervised(way, state, f"await node.start(node.spec(*{main!r}))")
    kill(said["launcher"])
    async with durable_node(way, state) as node:
        spec = node.spec(*main)
        os.kill(node.launcher_pid, signal.SIGSTOP)
        found: list[Presence] = []
        async with anyio.create_task_group() as tasks:

            async def adopt_it() -> None:
                found.append((await node.runtime.adopt(spec)).state)

            tasks.start_soon(adopt_it)
            await until(lambda: node.runtime._pending, "the request")
            os.kill(node.launcher_pid, signal.SIGKILL)
        assert found == [Presence.RUNNING]
        # Without privileges that takes a launcher in the container's user namespace.
        done = await node.runtime.exec(spec.id, ("echo", "in"), timeout=PATIENCE, limit=99)
        assert done == ExecResult(0, b"in\n")


@pytest.mark.parametrize(
    ("point", "then"),
    [
        ("after-clone", Presence.UNKNOWN),
        ("after-spawn-record", Presence.GONE),
        ("before-release", Presence.GONE),
        ("after-spawn", Presence.RUNNING),
        ("after-exit-told", Presence.RUNNING),
    ],
)
async def test_wherever_the_launcher_dies_nothing_runs_twice_and_no_success_is_made_up(
    way: Way, state: str, monkeypatch: pytest.MonkeyPatch, point: str, then: Presence
) -> None:
    kind = "ContainerExited" if point == "after-exit-told" else "StartContainer"
    monkeypatch.setenv("PODVISOR_FAILPOINTS", f"{point}@none=kill,{point}@{kind}=kill:1")
    monkeypatch.setenv("PODVISOR_FAILPOINTS_LOG", f"{state}/hits")
    async with durable_node(way, state) as node:
        spec = node.spec("/bin/sh", "-c", f"echo ran >> {state}/ran; exit 9")
        first = node.runtime._launcher.pid
        for _ in range(100):
            with suppress(OSError):
                await node.start(spec)
                break
        end = await ended(node, spec)
        await until(lambda: node.runtime._launcher.pid != first, "another launcher")
        with open(f"{state}/hits") as file:
            assert file.read() == f"{point} {kind} kill {first}\n"
        if then is Presence.GONE:
            assert isinstance(end, Lost) or end.exit_code == 137
            assert not os.path.exists(f"{state}/ran")
        else:
            assert isinstance(end, Lost) or end.exit_code == 9
            with open(f"{state}/ran") as file:
                assert file.read() == "ran\n"
        assert (await node.shell("exit 3")).code == 3


async def test_programs_in_containers_end_as_errors_when_the_launcher_dies(
    way: Way, state: str, mark: str
) -> None:
    async with durable_node(way, state) as node:
        os.mkfifo(f"{state}/fifo")
        spec = node.spec("sleep", "1000", cwd=state)
        words = ("/bin/sh", "-c", "read x < fifo", mark)
        await node.start(spec)
        async with anyio.create_task_group() as tasks:

            async def run(key: str) -> None:
                with pytest.raises(ExecInterruptedError, match="the launcher died"):
                    await node.runtime.exec(spec.id, words, timeout=None, limit=99, key=key)

            tasks.start_soon(run, "")
            tasks.start_soon(run, "hook")
            await until(lambda: len(marked(mark)) == 2, "the programs")
            os.kill(node.launcher_pid, signal.SIGKILL)
        await until(lambda: not marked(mark), "their end")
        assert (await attach(node, spec, "echo", "again")).output == b"again\n"
        node.runtime.forget_exec(spec.id, "hook")


async def test_a_hook_is_not_run_again_before_its_last_run_is_over(way: Way, state: str) -> None:
    async with durable_node(way, state) as node:
        spec = node.spec("sleep", "1000")
        await node.start(spec)
        done: list[ExecResult] = []

        async def run() -> None:
            with suppress(ExecError):
                done.append(await attach(node, spec, *hook(state)))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await until(lambda: os.path.exists(f"{state}/runs"), "the hook")
            (record,) = survivors.read_all(state)
            parent = node.launcher_pid if record.reaper is None else record.reaper.pid
            (minder,) = (pid for pid in children(parent) if comm(pid) == "podvisor-exec")
            os.kill(minder, signal.SIGSTOP)  # it cannot end the program now
            os.kill(node.launcher_pid, signal.SIGKILL)
        assert done == []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            assert (await node.shell("exit 0")).code == 0, "the launcher has heard of it before"
            assert runs(state) == 1
            os.kill(minder, signal.SIGCONT)
            await until(lambda: runs(state) == 2, "the second run")
            assert gone(minder)
            touch(f"{state}/go")
        assert [result.exit_code for result in done] == [4]
        node.runtime.forget_exec(spec.id, "hook")


async def test_a_program_whose_launcher_died_on_it_can_be_run_again(
    way: Way, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PODVISOR_FAILPOINTS", "during-exec=kill:2")
    async with durable_node(way, state) as node:
        spec = node.spec("sleep", "1000")
        await node.start(spec)
        assert (await attach(node, spec, "echo", "one", key="one")).output == b"one\n"
        with pytest.raises(ExecError, match="the launcher died"):
            await attach(node, spec, *hook(state), key="two")
        touch(f"{state}/go")
        assert (await attach(node, spec, *hook(state), key="two")).exit_code == 4
        assert node.runtime.kept_execs == frozenset(), "all are ours, another launcher or not"
        for key in ("one", "two"):
            node.runtime.forget_exec(spec.id, key)


async def test_a_launcher_that_cannot_be_kept_alive_is_given_up_and_containers_are_not(
    way: Way, state: str
) -> None:
    async with durable_node(way, state) as node:
        spec = node.spec("sleep", "1000")
        pid = await node.start(spec)
        async with anyio.create_task_group() as tasks:

            async def keep_killing() -> None:
                while True:
                    with suppress(OSError):
                        os.kill(node.runtime._launcher.pid, signal.SIGKILL)
                    await anyio.sleep(0.01)

            tasks.start_soon(keep_killing)
            with pytest.raises(NodeError, match="cannot reach the launcher any more: it died"):
                await node.exit(spec)
            tasks.cancel_scope.cancel()
    assert not gone(pid)


# --- the logger dies, or everybody ---------------------------------------------------------------


async def test_a_killed_logger_loses_nothing_while_nobody_supervises(way: Way, state: str) -> None:
    script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo line $i; done; exit 2"
    main = waits_for(f"{state}/go", script)
    said = supervised(way, state, f"await node.start(node.spec(*{main!r}))")
    touch(f"{state}/go")
    for _ in range(5):
        # The launcher may have reaped the one before in just this moment.
        with suppress(ProcessLookupError):
            if pid := logger_of(said["launcher"]):
                kill(pid)
    async with durable_node(way, state) as node:
        spec = node.spec(*main)
        await adopt(node, spec)
        end = await ended(node, spec)
    assert (end.exit_code, end.drained) == (2, True)
    wanted = "".join(f"line {i}\n" for i in range(1, 20001))
    assert text_of(read_log(spec.log_path), "stdout").decode() == f"up\n{wanted}"


async def test_launcher_and_logger_killed_ends_containers_whose_output_nobody_reads(
    way: Way, state: str, mark: str
) -> None:
    async with durable_node(way, state) as node:
        spec = node.spec("/bin/sh", "-c", "sleep 1000; true", mark)
        await node.start(spec)
        logger = await node.logger()
        os.kill(node.launcher_pid, signal.SIGSTOP)
        kill(logger)
        os.kill(node.launcher_pid, signal.SIGKILL)
        end = await ended(node, spec)
        assert end == Lost(spec.id, end.at, logs_lost=True)
        assert marked(mark) == []
        assert (await node.shell("exit 3")).code == 3


async def test_after_all_three_were_killed_survivors_are_ended_and_their_logs_are_lost(
    way: Way, state: str, mark: str
) -> None:
    body = f"""
        for _ in range(3):
            words = ("/bin/sh", "-c", "(setsid sleep 1000 &); sleep 1000; true", {mark!r})
            await node.start(node.spec(*words))
        said["logger"] = await node.logger()
    """
    with supervisor(way, state, body) as other:
        said = other.hear()
        os.kill(said["launcher"], signal.SIGSTOP)
        kill(said["logger"])
        kill(said["launcher"])
    assert marked(mark)
    async with durable_node(way, state) as node:
        specs = [node.spec("sleep", "1000") for _ in range(3)]
        found = await node.runtime.adopt(specs[0])
        assert (found.state, found.logs_lost) == (Presence.GONE, True)
        assert await node.runtime.end_strays(frozenset({specs[1].id})) == 1
        assert await node.runtime.end_strays(frozenset()) == 1
        assert marked(mark) == []
        reap_strays()
        # In group mode its reaper has left word of how it ended.
        await adopt(node, specs[2], Presence.GONE if way.namespaces else Presence.RUNNING)


async def test_a_word_about_another_try_does_not_make_a_log_complete(way: Way, state: str) -> None:
    async with durable_node(way, state) as node:
        main = waits_for(f"{state}/go", "echo last; exit 6")
        spec = node.spec(*main)
        await node.start(spec)
        await node.logged(spec, b"up")
        with open(spec.log_path.replace(".log", ".drained"), "w") as file:
            file.write("another-try-1 0\n")
        logger = await node.logger()
        os.kill(node.launcher_pid, signal.SIGKILL)
        await until(lambda: node.runtime._launcher.pid != node.launcher_pid, "another launcher")
        assert (await node.shell("exit 0")).code == 0
        os.kill(logger, signal.SIGSTOP)  # now, for the launcher's death has it go on
        touch(f"{state}/go")
        end = await ended(node, spec)
        os.kill(logger, signal.SIGCONT)
        assert isinstance(end, Exit)
        assert (end.exit_code, end.drained) == (6, False)
        await node.logged(spec, b"last")


async def test_what_is_left_of_pods_that_are_gone_is_removed(way: Way, state: str) -> None:
    async with durable_node(way, state) as node:
        for uid in ("one", "two"):
            os.makedirs(f"{state}/logs/ns_pod_{uid}/app")
        await node.runtime.remove_other_pods(frozenset({("ns", "pod", "two")}))
        assert os.listdir(f"{state}/logs") == ["ns_pod_two"]


async def test_a_killed_reaper_of_a_dead_launcher_ends_its_container(
    way: Way, state: str, mark: str
) -> None:
    if way.namespaces:
        pytest.skip("about mode group")
    main = ("/bin/sh", "-c", "sleep 1000 & wait", mark)
    said = supervised(way, state, f"await node.start(node.spec(*{main!r}))")
    kill(said["launcher"])
    async with durable_node(way, state) as node:
        spec = node.spec(*main)
        await adopt(node, spec)
        (record,) = survivors.read_all(state)
        assert record.reaper is not None
        os.kill(record.reaper.pid, signal.SIGKILL)
        assert (await ended(node, spec)).exit_code == 137
        await until(lambda: not marked(mark), "the container's end")
