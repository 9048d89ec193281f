"""Programs run in a container that is there already: what they find, what they leave, what they
cost everybody else when they do not end."""

from __future__ import annotations

import ast
import functools
import json
import os
import resource
import subprocess
import sys
import time
from contextlib import suppress

import anyio
import pytest

from supervisor.errors import NodeError
from supervisor.lifecycle.facts import ContainerId
from supervisor.runtime import launch
from supervisor.runtime.cri import ExecError, ExecResult, LaunchSpec
from tests.runtime.conftest import in_all_ways_on_both_loops, in_launchers
from tests.runtime.nodes import (
    PATIENCE,
    Node,
    Way,
    children,
    comm,
    marked,
    open_node,
    until,
    wait_for,
)
from tests.runtime.test_launcher import LOOK, PYTHON

pytestmark = pytest.mark.anyio

SLEEP = "import time; time.sleep(1000)"
REAPER = """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("up", flush=True)
while True:
    time.sleep(1000)
"""


async def run(
    node: Node,
    spec: LaunchSpec,
    *argv: str,
    timeout: float | None = PATIENCE,
    limit: int = 10240,
) -> ExecResult:
    with anyio.fail_after(PATIENCE * 2):
        return await node.runtime.exec(spec.id, argv, timeout=timeout, limit=limit)


async def sleeper(node: Node, **options: object) -> LaunchSpec:
    spec = node.spec("sleep", "1000", **options)  # type: ignore[arg-type]
    await node.start(spec)
    return spec


def launcher_fds(node: Node) -> int:
    return len(os.listdir(f"/proc/{node.launcher_pid}/fd"))


def below(pid: int) -> list[tuple[int, str, str]]:
    """Pid, name and state of every process below that one."""
    found = []
    try:
        for child in children(pid):
            with open(f"/proc/{child}/stat") as file:
                name, _, rest = file.read().partition("(")[2].rpartition(")")
            found.append((child, name, rest.split()[0]))
            found += below(child)
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        pass
    return found


def minders(node: Node) -> list[int]:
    return [pid for pid, name, _ in below(node.launcher_pid) if name == "podvisor-exec"]


def zombies_below(pid: int) -> list[str]:
    return [name for _, name, state in below(pid) if state == "Z"]


@pytest.fixture
def mark(request: pytest.FixtureRequest) -> str:
    return f"mark-{os.getpid()}-{time.monotonic_ns()}"


# --- what it finds -------------------------------------------------------------------------------


@in_all_ways_on_both_loops
async def test_a_program_finds_what_the_main_found(way: Way, folder: str) -> None:
    """Namespaces, session, no tty, stdin, descriptors, signals, umask, limits, directory, env."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1000, limits[1]), limits[1]))
    umask = os.umask(0o077)
    env = {"A": "1", "LC_CTYPE": "C", "LARGE": "x" * 100_000}
    try:
        async with open_node(way, folder) as node:
            script = f"exec {PYTHON} -S -c '{LOOK}'; "
            main = node.spec(
                "/bin/sh",
                "-c",
                f"{PYTHON} -S -c '{LOOK}'; exec sleep 1000",
                env=env,
                cwd="/usr",
            )
            pid = await node.start(main)
            await until(lambda: comm(pid) == "sleep", "the main to have looked")
            status = await run(node, main, "cat", "/proc/self/status")
            seen = json.loads(
                (await run(node, main, "/bin/sh", "-c", script, limit=1 << 20)).output
            )
            links = await run(node, main, "readlink", "/proc/self/ns/pid", "/proc/self/ns/mnt")
            for link, name in zip(links.output.split(), ("pid", "mnt"), strict=True):
                assert os.readlink(f"/proc/{pid}/ns/{name}") == link.decode()
            if way.namespaces:
                first = await run(node, main, "cat", "/proc/1/comm")
                assert first.output == b"sleep\n"
    finally:
        os.umask(umask)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    fields = dict(line.split(":", 1) for line in status.output.decode().splitlines())
    assert int(fields["SigIgn"], 16) == 0
    assert int(fields["SigBlk"], 16) == 0
    assert seen["sid"] == seen["pgid"] == seen["pid"]
    assert seen["stdin"] == "/dev/null"
    assert seen["tty"] is False
    assert seen["fds"] == 3
    assert seen["umask"] == 0o022
    assert seen["nofile"] == [min(1000, limits[1]), limits[1]]
    assert seen["fsize"] == list(resource.getrlimit(resource.RLIMIT_FSIZE))
    assert seen["cwd"] == "/usr"
    assert seen["uid"] == [way.uid] * 3
    assert seen["env"]["LARGE"] == env["LARGE"]
    extra = {"PWD"} if way.namespaces else {"PODVISOR_MAIN_PID", "PODVISOR_TERMINATION_LOG", "PWD"}
    assert set(seen["env"]) - {"OLDPWD", "SHLVL", "_"} == {"PATH", "A", "LC_CTYPE", "LARGE", *extra}
    if not way.namespaces:
        assert seen["env"]["PODVISOR_MAIN_PID"] == str(pid)


async def test_it_sees_the_containers_own_files(namespaces: Way, folder: str) -> None:
    async with open_node(namespaces, folder) as node:
        spec = await sleeper(node, termination_path="/no/such/place/message")
        done = await run(node, spec, "/bin/sh", "-c", "echo hello > /no/such/place/message")
        assert done == ExecResult(0, b"")
        assert node.runtime.termination_message(spec, "File", 0) == "hello\n"


async def test_it_takes_on_the_containers_user(way: Way, folder: str) -> None:
    if not way.changes_users:
        pytest.skip("needs the right to change users")
    async with open_node(way, folder) as node:
        spec = await sleeper(node, uid=1234, gid=2345, groups=(3456, 4567))
        done = await run(node, spec, "/bin/sh", "-c", "id -u; id -g; id -G; echo x > /dev/stdout")
        assert done == ExecResult(0, b"1234\n2345\n2345 3456 4567\nx\n")
        again = await run(node, spec, PYTHON, "-c", LOOK)
        assert json.loads(again.output)["uid"] == [1234] * 3


async def test_programs_are_looked_up_like_mains(way: Way, folder: str) -> None:
    tool = f"{folder}/tool"
    with open(tool, "w") as file:
        file.write("#!/bin/sh\necho found $1\n")
    os.chmod(tool, 0o755)
    os.chmod(folder, 0o755)
    async with open_node(way, folder) as node:
        spec = await sleeper(node, cwd=folder, env={"PATH": f"/nowhere:{folder}:/usr/bin:/bin"})
        assert await run(node, spec, "tool", "1") == ExecResult(0, b"found 1\n")
        assert await run(node, spec, "./tool", "2") == ExecResult(0, b"found 2\n")
        assert await run(node, spec, tool, "$HOME") == ExecResult(0, b"found $HOME\n"), "no shell"


async def test_a_long_command_arrives_whole(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        spec = await sleeper(node)
        words = ["x" * 100_000, "y" * 100_000]
        done = await run(node, spec, "printf", "%s", *words, limit=1 << 20)
        assert done == ExecResult(0, "".join(words).encode())


# --- what it gives -------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 127, 255])
async def test_exit_codes_pass_unchanged(way: Way, folder: str, code: int) -> None:
    async with open_node(way, folder) as node:
        spec = await sleeper(node)
        assert (await run(node, spec, "/bin/sh", "-c", f"exit {code}")).exit_code == code


async def test_death_by_a_signal_is_128_and_its_number(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        spec = await sleeper(node)
        for signum in (9, 15, 10):
            done = await run(node, spec, "/bin/sh", "-c", f"kill -{signum} $$")
            assert done.exit_code == 128 + signum


@in_all_ways_on_both_loops
async def test_output_is_stdout_then_stderr_cut_to_the_limit(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        spec = await sleeper(node)
        script = "echo 1 >&2; echo 2; echo 3 >&2; echo 4"
        for limit, expected in ((100, b"2\n4\n1\n3\n"), (5, b"2\n4\n1"), (2, b"2\n"), (0, b"")):
            done = await run(node, spec, "/bin/sh", "-c", script, limit=limit)
            assert done == ExecResult(0, expected)
        # More than a pipe holds, on both: nobody is blocked, and the end is not cut off.
        flood = "for c in b'ab': open(c - 96, 'wb').write(bytes([c]) * 1000000)"
        done = await run(node, spec, PYTHON, "-c", flood)
        assert done == ExecResult(0, b"a" * 10240)
        done = await run(node, spec, PYTHON, "-c", flood, limit=1_500_000)
        assert done == ExecResult(0, b"a" * 1_000_000 + b"b" * 500_000)


async def test_who_is_left_behind_with_the_output_delays_nothing(
    way: Way, folder: str, mark: str
) -> None:
    async with open_node(way, folder) as node:
        spec = await sleeper(node)
        pid = node.runtime._instances[spec.id].pid
        # Whoever waited would be cut off by the timeout, and tell no exit code.
        done = await run(node, spec, "/bin/sh", "-c", f"{PYTHON} -c '{SLEEP}' {mark} & echo done")
        assert done == ExecResult(0, b"done\n")
        done = await run(node, spec, "/bin/sh", "-c", f"yes {mark} & echo $!; exit 3", limit=10)
        assert done.exit_code == 3
        # It lives on, and belongs to the container's main, as in a cluster.
        if way.namespaces:
            await until(lambda: len(children(pid)) >= 1, "the main to get them")
        assert any("sleep" in line for line in commands(mark)), "it lives on"
        assert node.runtime.signal(spec.id, 9)
        await node.exit(spec)
        assert marked(mark) == []


def commands(mark: str) -> list[str]:
    lines = []
    for pid in marked(mark):
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                lines.append(file.read())
        except (FileNotFoundError, ProcessLookupError):
            pass
    return lines


# --- what does not end ---------------------------------------------------------------------------

STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            if os.fork() == 0:
                time.sleep(1000)
            while True:
                time.sleep(0.001)
        os._exit(0)
print("up", flush=True)
time.sleep(1000)
"""


@in_all_ways_on_both_loops
async def test_at_the_timeout_nothing_of_it_is_left(way: Way, folder: str, mark: str) -> None:
    """Neither what changed its session, nor what lost its parent, nor what ignores SIGTERM."""
    async with open_node(way, folder) as node:
        spec = await sleeper(node)
        pid = node.runtime._instances[spec.id].pid
        for timeout in (0.7, 20):  # a slow machine may not have brought it up in the first
            begin = time.monotonic()
            done = await run(node, spec, PYTHON, "-c", STUBBORN, mark, timeout=timeout)
            took = time.monotonic() - begin
            assert marked(mark) == []
            if done.output:
                break
        assert done == ExecResult(None, b"up\n")
        assert took >= timeout
        assert zombies_below(pid) == []
        assert await run(node, spec, "echo", "again") == ExecResult(0, b"again\n")


async def test_cancelling_the_call_ends_all_of_it(way: Way, folder: str, mark: str) -> None:
    async with open_node(way, folder) as node:
        spec = await sleeper(node)
        with anyio.move_on_after(0.5) as scope:
            await run(node, spec, PYTHON, "-c", STUBBORN, mark, timeout=None)
        assert scope.cancelled_caught
        assert marked(mark) == []
        with anyio.move_on_after(0):
            await run(node, spec, PYTHON, "-c", SLEEP, mark)
        assert marked(mark) == []
        assert await run(node, spec, "true") == ExecResult(0, b"")


RUNNERS = """
import os, time
for _ in range(5):
    if os.fork() == 0:
        while True:
            if os.fork():
                os._exit(0)
time.sleep(1000)
"""


async def test_a_program_that_forks_without_end_is_ended(way: Way, folder: str, mark: str) -> None:
    async with open_node(way, folder) as node:
        spec = await sleeper(node)
        done = await run(node, spec, PYTHON, "-c", RUNNERS, mark, timeout=0.5)
        assert done.exit_code is None
        assert marked(mark) == []


async def test_a_timeout_ends_only_its_own_program(way: Way, folder: str, mark: str) -> None:
    async with open_node(way, folder) as node:
        spec = await sleeper(node)
        results: dict[str, ExecResult] = {}

        async def one(name: str, timeout: float, *argv: str) -> None:
            results[name] = await run(node, spec, *argv, timeout=timeout)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one, "slow", 10, "/bin/sh", "-c", f": {mark}; sleep 0.8; echo ok")
            tasks.start_soon(one, "hung", 0.3, "sleep", "1000")
        assert results == {"slow": ExecResult(0, b"ok\n"), "hung": ExecResult(None, b"")}


# --- many ----------------------------------------------------------------------------------------


async def test_sixty_programs_that_leave_a_child_behind_cause_no_growth(
    way: Way, folder: str
) -> None:
    """C33: §5.7.4"""
    async with open_node(way, folder) as node:
        spec = node.spec(PYTHON, "-c", REAPER)
        pid = await node.start(spec)
        await node.logged(spec, b"up")
        before = launcher_fds(node)
        for _ in range(60):
            done = await run(node, spec, "/bin/sh", "-c", "sleep 0.05 & exit 0")
            assert done.exit_code == 0
        await until(lambda: not children(pid), "the end of what was left behind")
        await until(lambda: not zombies_below(node.launcher_pid), "no zombies")
        await until(lambda: not minders(node), "the end of the minders")
        assert launcher_fds(node) == before


@in_all_ways_on_both_loops
async def test_fifty_at_once(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        specs = [await sleeper(node) for _ in range(5)]
        before = launcher_fds(node)
        results: list[bytes] = []

        async def one(number: int) -> None:
            script = f"sleep 0.2; echo {number}"
            results.append((await run(node, specs[number % 5], "/bin/sh", "-c", script)).output)

        for _ in range(2):
            async with anyio.create_task_group() as tasks:
                for number in range(50):
                    tasks.start_soon(one, number)
            assert sorted(map(int, results)) == list(range(50))
            results.clear()
        await until(lambda: not minders(node), "the minders to end when nobody asks for more")
        await until(lambda: launcher_fds(node) == before, "the launcher to close all")


async def test_one_program_after_the_other_is_run_by_one_minder(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        spec = await sleeper(node)
        await run(node, spec, "true")
        first = minders(node)
        for _ in range(20):
            assert (await run(node, spec, "true")).exit_code == 0
        assert minders(node) == first
        assert len(first) == 1


async def test_a_program_may_signal_everybody(way: Way, folder: str) -> None:
    """As stop hooks do: the process that minds it is not meant."""
    if not way.namespaces:
        pytest.skip("it would reach the whole machine")
    async with open_node(way, folder) as node:
        spec = node.spec("/bin/sh", "-c", "trap : TERM; echo up; while :; do sleep 0.05; done")
        await node.start(spec)
        await node.logged(spec, b"up")
        for name in ("TERM", "HUP", "USR1", "INT"):
            done = await run(
                node, spec, PYTHON, "-c", f"import os, signal; os.kill(-1, signal.SIG{name})"
            )
            assert done == ExecResult(0, b""), name


# --- what cannot be ------------------------------------------------------------------------------


async def test_what_cannot_be_executed_is_an_error_in_known_words(way: Way, folder: str) -> None:
    for name, text in (("plain", "x"), ("lost", "#!/no/such/interpreter\n")):
        with open(f"{folder}/{name}", "w") as file:
            file.write(text)
    os.chmod(f"{folder}/lost", 0o755)
    os.chmod(folder, 0o755)
    cases = {
        "nosuch": 'exec: "nosuch": executable file not found in $PATH',
        "/no/such": 'exec: "/no/such": stat /no/such: no such file or directory',
        f"{folder}/plain": f'exec: "{folder}/plain": permission denied',
        "/": 'exec: "/": permission denied',
        f"{folder}/lost": (
            f'exec: "{folder}/lost": the interpreter that its first line names does not exist'
        ),
        "": 'exec: "": executable file not found in $PATH',
    }
    async with open_node(way, folder) as node:
        spec = await sleeper(node)
        before = launcher_fds(node)
        for program, text in cases.items():
            with pytest.raises(ExecError) as caught:
                await run(node, spec, program)
            assert str(caught.value) == text
        with pytest.raises(ExecError, match=r"argument 1 is 200000 bytes long, the kernel takes"):
            await run(node, spec, "echo", "x" * 200_000)
        for argv in ((), ("a\0b",), ("echo", "\0"), ("\ud800",)):
            with pytest.raises(ExecError):
                await run(node, spec, *argv)
        assert await run(node, spec, "echo", "fine") == ExecResult(0, b"fine\n")
        await run(node, spec, "true")
        await until(lambda: len(minders(node)) == 1, "the others to end")
        await until(lambda: launcher_fds(node) <= before + 1, "the launcher to close all")


async def test_a_directory_that_is_gone_is_an_error(way: Way, folder: str) -> None:
    os.chmod(folder, 0o755)
    os.mkdir(f"{folder}/work")
    async with open_node(way, folder) as node:
        spec = await sleeper(node, cwd=f"{folder}/work")
        os.rmdir(f"{folder}/work")
        with pytest.raises(ExecError, match="cannot change to the working directory"):
            await run(node, spec, "true")


async def test_a_container_that_does_not_run_is_an_error(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        with pytest.raises(ExecError, match='container "none" is not running'):
            await node.runtime.exec(ContainerId("u", "none", 0), ("true",), timeout=1, limit=1)
        spec = await sleeper(node)
        node.runtime.signal(spec.id, 9)
        # At any moment of its end: an error, or killed along with it.
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(node.exit, spec)
            while spec.id not in node.exits:
                try:
                    assert (await run(node, spec, "true")).exit_code in (0, 137)
                except ExecError:
                    await anyio.sleep(0.001)
        with pytest.raises(ExecError, match="is not running"):
            await run(node, spec, "true")
        node.runtime.acknowledge(spec.id)
        with pytest.raises(ExecError, match="is not running"):
            await run(node, spec, "true")


async def test_out_of_processes_is_an_error(way: Way, folder: str) -> None:
    if way.uid == 0:
        pytest.skip("root has no limit")
    async with open_node(way, folder) as node:
        spec = await sleeper(node)
        resource.prlimit(node.launcher_pid, resource.RLIMIT_NPROC, (1, 4096))
        if not way.namespaces:
            pid = node.helper("podvisor-reaper")
            assert pid is not None
            resource.prlimit(pid, resource.RLIMIT_NPROC, (1, 4096))
        with pytest.raises(ExecError, match="resource temporarily unavailable"):
            await run(node, spec, "true")


async def test_out_of_descriptors_is_an_error(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        spec = await sleeper(node)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = len(os.listdir("/proc/self/fd"))
        said: list[str] = []
        for room in range(1, 9):
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + room, limits[1]))
            try:
                done = await run(node, spec, "true")
                assert done == ExecResult(0, b"")
            except ExecError as error:
                said.append(str(error))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert said
        assert all("Too many open files" in text for text in said)
        assert await run(node, spec, "echo", "fine") == ExecResult(0, b"fine\n")


# --- ends ----------------------------------------------------------------------------------------


# A minder that ends only because nobody asks for more would come too late.
LINGERING = f"launcher.LINGER = {10 * PATIENCE}"


@in_all_ways_on_both_loops
async def test_a_program_ends_with_its_container(
    way: Way, folder: str, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_launchers(monkeypatch, LINGERING)
    async with open_node(way, folder) as node:
        spec = await sleeper(node)
        results = []

        async def one() -> None:
            results.append(await run(node, spec, PYTHON, "-c", SLEEP, mark, timeout=None))

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(one)
            await until(lambda: len(marked(mark)) == 3, "the programs")
            node.runtime.signal(spec.id, 9)
            await node.exit(spec)  # zombies hold no pid 1
            assert marked(mark) == []
        assert results == [ExecResult(137, b"")] * 3


async def test_an_idle_minder_does_not_outlive_its_container(
    way: Way, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_launchers(monkeypatch, LINGERING)
    async with open_node(way, folder) as node:
        spec = await sleeper(node)
        await run(node, spec, "true")
        node.runtime.signal(spec.id, 9)
        await node.exit(spec)
        await until(lambda: not minders(node), "the minder's end")


async def test_a_killed_minder_takes_its_program_for_killed(
    way: Way, folder: str, mark: str
) -> None:
    async with open_node(way, folder) as node:
        spec = await sleeper(node)
        await run(node, spec, "true")
        (idle,) = minders(node)
        os.kill(idle, 9)
        await until(lambda: not minders(node), "its end")
        assert await run(node, spec, "echo", "fine") == ExecResult(0, b"fine\n")

        async def kill() -> None:
            await until(lambda: marked(mark), "the program")
            os.kill(minders(node)[-1], 9)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kill)
            done = await run(node, spec, PYTHON, "-c", SLEEP, mark)
        assert done == ExecResult(137, b"")
        assert await run(node, spec, "echo", "fine") == ExecResult(0, b"fine\n")


SUPERVISOR = """
import anyio, ctypes, sys
sys.path.insert(0, {root!r})
from tests.runtime.nodes import Isolation, Way, open_node
async def main():
    async with open_node(Way({uid}, Isolation({mode!r})), {folder!r}) as node:
        spec = node.spec("sleep", "1000")
        await node.start(spec)
        async with anyio.create_task_group() as tasks:
            async def one():
                await node.runtime.exec(
                    spec.id, ({python!r}, "-c", {program!r}, {mark!r}), timeout=None, limit=1)
            tasks.start_soon(one)
            await anyio.sleep(0.5)
            # A fork that Python does not see: it holds copies of all descriptors.
            clib = ctypes.PyDLL(None)
            blind = clib.fork()
            if blind == 0:
                clib.pause()
            print(node.launcher_pid, blind, flush=True)
anyio.run(main)
"""


@pytest.mark.parametrize("launcher_too", [False, True])
def test_a_killed_supervisor_leaves_nothing(
    way: Way, folder: str, mark: str, launcher_too: bool
) -> None:
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = SUPERVISOR.format(
        root=root,
        uid=way.uid,
        mode=way.isolation.value,
        folder=folder,
        mark=mark,
        python=PYTHON,
        program=STUBBORN,
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    launcher, blind = (int(word) for word in process.stdout.readline().split())
    wait_for(lambda: len(marked(mark)) > 8, "the program")
    if launcher_too:
        os.kill(launcher, 9)
    process.kill()
    process.wait()
    process.stdout.close()
    wait_for(lambda: set(marked(mark)) <= {blind}, "the end of all")
    os.kill(blind, 9)


def test_a_kernel_that_cannot_join_containers_is_told(nothing_left: None) -> None:
    """Linux before 5.8, or a filter that refuses it: no program could be run in a container."""
    code = (
        "import launcher as l\nplain = l.call\n"
        "def call(function, *arguments):\n"
        "    if function is l._setns: raise OSError(22, '')\n"
        "    return plain(function, *arguments)\n"
        "l.call = call\n"
        "print([l.attempt(mode) for mode in ('pidns', 'pidns-rootless', 'group')])"
    )
    here = os.path.dirname(os.path.abspath(launch.__file__))
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {here!r})\n{code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    trials = ast.literal_eval(done.stdout)
    assert trials[2] == ("group", "", 0)
    able = {t.isolation for t in launch.diagnose() if t.ok}
    for mode, step, number in trials[:2]:
        if mode in able:
            assert (step, number) == ("enter the namespaces of a container (needs Linux 5.8)", 22)


async def test_leaving_the_context_ends_what_runs(way: Way, folder: str, mark: str) -> None:
    errors: list[Exception] = []

    async def one(node: Node, spec: LaunchSpec) -> None:
        try:
            await run(node, spec, PYTHON, "-c", STUBBORN, mark, timeout=None)
        except NodeError as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        async with open_node(way, folder) as node:
            spec = await sleeper(node)
            tasks.start_soon(one, node, spec)
            await until(lambda: len(marked(mark)) > 3, "the program")
        assert marked(mark) == []
    assert len(errors) == 1


async def test_a_killed_launcher_takes_it_along(way: Way, folder: str, mark: str) -> None:
    ends: list[object] = []

    async def one(node: Node, spec: LaunchSpec) -> None:
        try:
            done = await run(node, spec, PYTHON, "-c", STUBBORN, mark, timeout=None)
            ends.append(done.exit_code)
        except NodeError:
            ends.append(NodeError)

    async def again_and_again(node: Node, spec: LaunchSpec) -> None:
        while True:  # the end of what the launcher held may be known before its own
            with suppress(ExecError):
                await run(node, spec, "true")
            await anyio.sleep(0.01)

    async with open_node(way, folder) as node:
        spec = await sleeper(node)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one, node, spec)
            await until(lambda: len(marked(mark)) > 3, "the program")
            os.kill(node.launcher_pid, 9)
        # Its own end may be known before the launcher's.
        assert ends in ([NodeError], [137])
        await until(lambda: not marked(mark), "all to end")
        with anyio.fail_after(PATIENCE), pytest.raises(NodeError):
            await again_and_again(node, spec)


async def test_others_environments_are_not_to_be_read(way: Way, folder: str) -> None:
    """The minder is a fork of the launcher, and a process among the container's own."""
    if way.uid == 0:
        pytest.skip("root may read all memory there is")
    async with open_node(way, folder) as node:
        spec = await sleeper(node)
        script = (
            "import os\n"
            "name = open(f'/proc/{os.getppid()}/comm').read().strip()\n"
            "try: open(f'/proc/{os.getppid()}/mem', 'rb')\n"
            "except PermissionError: print(name, 'closed')\n"
        )
        assert (await run(node, spec, PYTHON, "-c", script)).output == b"podvisor-exec closed\n"


async def test_starts_are_not_delayed_by_hanging_programs(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        spec = await sleeper(node)
        words = (PYTHON, "-c", STUBBORN)
        async with anyio.create_task_group() as tasks:
            for _ in range(8):  # for longer than a start is waited for
                tasks.start_soon(functools.partial(run, node, spec, *words, timeout=None))
            for _ in range(10):
                assert (await node.shell("exit 2")).code == 2
            tasks.cancel_scope.cancel()
