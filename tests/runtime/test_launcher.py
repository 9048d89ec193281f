"""What a container finds when it starts, and what is said when it cannot."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys

import anyio
import pytest

from supervisor.errors import NodeError
from supervisor.lifecycle.facts import ContainerId
from supervisor.runtime import launch, survivors
from supervisor.runtime.cri import StartError
from supervisor.runtime.launch import ProcessRuntime, spawn_launcher
from tests.runtime.conftest import in_all_ways_on_both_loops, readable_by
from tests.runtime.nodes import NOBODY, Node, Way, open_node

pytestmark = pytest.mark.anyio
PYTHON = "/usr/bin/python3"
LOOK = """
import json, os, resource
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
try:
    os.close(os.open("/dev/tty", os.O_RDWR)); tty = True
except OSError:
    tty = False
print(json.dumps({
    "pid": os.getpid(), "sid": os.getsid(0), "pgid": os.getpgrp(), "tty": tty,
    "stdin": os.readlink("/proc/self/fd/0"), "fds": len(os.listdir("/proc/self/fd")) - 1,
    "blocked": int(status["SigBlk"], 16), "ignored": int(status["SigIgn"], 16),
    "umask": os.umask(0), "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
    "fsize": resource.getrlimit(resource.RLIMIT_FSIZE), "nice": os.nice(0),
    "oom": open("/proc/self/oom_score_adj").read().strip(), "cwd": os.getcwd(),
    "env": dict(os.environ), "uid": os.getresuid(), "gid": os.getresgid(),
    "groups": os.getgroups(),
}))
"""


# --- the start contract ----------------------------------------------------------------------


@in_all_ways_on_both_loops
async def test_a_container_starts_as_the_contract_says(way: Way, folder: str) -> None:
    """Clause by clause: pid 1, session, no tty, stdin, fds, signals, umask, limits, directory."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1000, limits[1]), limits[1]))
    umask = os.umask(0o077)
    try:
        async with open_node(way, folder) as node:
            # -I would hide SIGPIPE's state: the interpreter changes what it inherits
            status = await node.run("cat", "/proc/self/status")
            done = await node.run(
                PYTHON, "-S", "-c", LOOK, cwd="/usr", env={"A": "1", "LC_CTYPE": "C"}
            )
    finally:
        os.umask(umask)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    fields = dict(line.split(":", 1) for line in status.out.splitlines())
    assert int(fields["SigIgn"], 16) == 0
    assert int(fields["SigBlk"], 16) == 0
    seen = json.loads(done.out)
    assert seen["sid"] == seen["pgid"] == seen["pid"]
    assert (seen["pid"] == 1) == way.namespaces
    assert seen["stdin"] == "/dev/null"
    assert seen["tty"] is False
    assert seen["fds"] == 3
    assert seen["umask"] == 0o022
    assert seen["nofile"] == [min(1000, limits[1]), limits[1]]
    assert seen["fsize"] == list(resource.getrlimit(resource.RLIMIT_FSIZE))
    assert seen["nice"] == os.nice(0)
    with open("/proc/self/oom_score_adj") as file:
        assert seen["oom"] == file.read().strip()
    assert seen["cwd"] == "/usr"
    assert seen["uid"] == [way.uid] * 3
    extra = {} if way.namespaces else {"PODVISOR_MAIN_PID", "PODVISOR_TERMINATION_LOG"}
    assert set(seen["env"]) == {"PATH", "A", "LC_CTYPE", *extra}
    assert done.err == ""


async def test_stdout_and_stderr_are_kept_apart(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        done = await node.shell("echo one; echo two >&2; echo three")
    assert (done.out, done.err) == ("one\nthree\n", "two\n")


@pytest.mark.parametrize("code", [0, 1, 3, 127, 255])
async def test_exit_codes_pass_unchanged(way: Way, folder: str, code: int) -> None:
    async with open_node(way, folder) as node:
        assert (await node.shell(f"exit {code}")).code == code


@in_all_ways_on_both_loops
async def test_death_by_a_signal_is_128_and_its_number(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        spec = node.spec("sleep", "1000")
        await node.start(spec)
        assert node.runtime.signal(spec.id, 9)
        exit = await node.exit(spec)
        assert exit.exit_code == 137
        assert exit.drained
        assert not node.runtime.signal(spec.id, 9), "it has ended"
        node.runtime.acknowledge(spec.id)
        assert not node.runtime.signal(spec.id, 9), "it is forgotten"


async def test_a_program_that_aborts_is_reported_by_its_signal(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        done = await node.run(PYTHON, "-c", "import os; os.abort()")
    # pid 1 is immune to its own SIGABRT; glibc then makes it crash for good
    assert done.code == (139 if way.namespaces else 134)


async def test_pid_1_without_a_handler_is_deaf_to_sigterm(namespaces: Way, folder: str) -> None:
    async with open_node(namespaces, folder) as node:
        deaf = node.spec("/bin/sh", "-c", "echo up; read line < /proc/1/fd/9; sleep 1000 & wait")
        polite = node.spec(
            "/bin/sh", "-c", "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done"
        )
        for spec in (deaf, polite):
            await node.start(spec)
            await node.logged(spec, b"up")
            assert node.runtime.signal(spec.id, 15)
        assert (await node.finish(polite)).code == 5
        assert deaf.id not in node.exits
        assert node.runtime.signal(deaf.id, 15), "it still lives"
        node.runtime.signal(deaf.id, 9)
        assert (await node.finish(deaf)).code == 137


async def test_without_namespaces_sigterm_ends_the_main(way: Way, folder: str) -> None:
    if way.namespaces:
        pytest.skip("about mode group")
    async with open_node(way, folder) as node:
        spec = node.spec("sleep", "1000")
        await node.start(spec)
        node.runtime.signal(spec.id, 15)
        assert (await node.finish(spec)).code == 143


async def test_the_program_is_found_relative_to_the_working_directory(
    way: Way, folder: str
) -> None:
    os.makedirs(f"{folder}/work/bin")
    for name in ("tool", "bin/inner"):
        with open(f"{folder}/work/{name}", "w") as file:
            file.write('#!/bin/sh\necho "$0"\n')
        os.chmod(f"{folder}/work/{name}", 0o755)
    async with open_node(way, folder) as node:
        cwd = f"{folder}/work"
        assert (await node.run("./tool", cwd=cwd)).out == "./tool\n"
        assert (await node.run("inner", cwd=cwd, env={"PATH": "/none:bin"})).out == "bin/inner\n"
        assert (await node.run("tool", cwd=cwd, env={"PATH": "/none:"})).out == "./tool\n"


# --- starts that fail ------------------------------------------------------------------------


async def failure(node: Node, *argv: str, **options: object) -> StartError:
    with pytest.raises(StartError) as caught:
        await node.start(node.spec(*argv, **options))  # type: ignore[arg-type]
    return caught.value


async def test_what_cannot_be_executed_is_a_start_error_in_known_words(
    way: Way, folder: str
) -> None:
    for name, text, mode in (
        ("noexec", "#!/bin/sh\n", 0o644),
        ("nonsense", "what is this", 0o755),
        ("orphan", "#!/no/such/shell\n", 0o755),
    ):
        with open(f"{folder}/{name}", "w") as file:
            file.write(text)
        os.chmod(f"{folder}/{name}", mode)
    async with open_node(way, folder) as node:
        for program, message in (
            ("nope", 'exec: "nope": executable file not found in $PATH'),
            ("", 'exec: "": executable file not found in $PATH'),
            ("/x/y", 'exec: "/x/y": stat /x/y: no such file or directory'),
            (f"{folder}/noexec", f'exec: "{folder}/noexec": permission denied'),
            ("/usr", 'exec: "/usr": permission denied'),
            ("./nonsense", 'exec: "./nonsense": exec format error'),
            (
                "./orphan",
                'exec: "./orphan": the interpreter that its first line names does not exist',
            ),
        ):
            error = await failure(node, program, cwd=folder)
            assert (error.reason, error.message, error.created) == ("StartError", message, True)
        error = await failure(node, "true", cwd="/no/where")
        assert error.message == (
            'cannot change to the working directory "/no/where": no such file or directory'
        )
        assert (await node.shell("echo well")).out == "well\n"


async def test_a_large_environment_works_and_a_too_large_one_says_its_size(
    way: Way, folder: str
) -> None:
    async with open_node(way, folder) as node:
        big = {f"V{i}": "x" * 100_000 for i in range(10)}
        assert (await node.shell("echo ${#V9}", env=big)).out == "100000\n"
        most = "y" * (131072 - len("V=") - 1)
        assert (await node.shell("echo ${#V}", env={"V": most})).out == f"{len(most)}\n"
        error = await failure(node, "true", env={"V": most + "y"})
        assert (error.reason, error.created) == ("StartError", True)
        assert "environment variable V is 131072 bytes long" in error.message
        assert "at most 131071" in error.message
        error = await failure(node, "true", env={f"V{i}": "z" * 100_000 for i in range(100)})
        assert "together are 100" in error.message
        assert (await node.shell("echo well")).out == "well\n"


async def test_text_that_no_program_can_take_is_refused(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        error = await failure(node, "echo", "a\0b")
        assert error.message == "cannot execute echo: ValueError('embedded null byte')"


async def test_a_log_folder_that_cannot_be_made_means_nothing_was_created(
    way: Way, folder: str
) -> None:
    async with open_node(way, folder) as node:
        with open(f"{folder}/logs", "w"):
            pass
        error = await failure(node, "true")
    assert (error.reason, error.created) == ("CreateContainerError", False)
    assert "not a directory" in error.message


async def test_out_of_processes_means_nothing_was_created(way: Way, folder: str) -> None:
    if way.uid == 0:
        pytest.skip("the limit does not hold root")
    async with open_node(way, folder) as node:
        before = resource.prlimit(node.launcher_pid, resource.RLIMIT_NPROC)
        resource.prlimit(node.launcher_pid, resource.RLIMIT_NPROC, (1, before[1]))
        error = await failure(node, "true")
        assert (error.reason, error.created) == ("CreateContainerError", False)
        assert error.message == "cannot create a process: resource temporarily unavailable"
        resource.prlimit(node.launcher_pid, resource.RLIMIT_NPROC, before)
        assert (await node.shell("echo well")).out == "well\n"


async def test_out_of_descriptors_means_nothing_was_created(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        assert (await node.shell("echo well")).out == "well\n"
        limits = resource.prlimit(node.launcher_pid, resource.RLIMIT_NOFILE)
        used = len(os.listdir(f"/proc/{node.launcher_pid}/fd")) if way.uid == os.getuid() else 16
        for room in range(14):
            resource.prlimit(
                node.launcher_pid, resource.RLIMIT_NOFILE, (used + room - 4, limits[1])
            )
            spec = node.spec("true")
            error: StartError | None = None
            try:
                await node.start(spec)
            except StartError as refused:
                error = refused
            else:
                await node.finish(spec)
            if error is not None:
                assert (error.reason, error.created) == ("CreateContainerError", False)
                assert "too many open files" in error.message
        resource.prlimit(node.launcher_pid, resource.RLIMIT_NOFILE, limits)
        assert (await node.shell("echo well")).out == "well\n"


async def test_an_asked_mode_that_is_impossible_is_refused_with_the_step(way: Way) -> None:
    if way.uid == 0:
        pytest.skip("root may")
    launcher = spawn_launcher("pidns")
    with pytest.raises(NodeError, match="pidns: cannot create a mount namespace: Operation not"):
        async with ProcessRuntime(launcher, "/nowhere"):
            pass


# --- users -----------------------------------------------------------------------------------


async def test_a_container_takes_on_its_user_and_groups(way: Way, folder: str) -> None:
    if not way.changes_users:
        pytest.skip("only root changes users")
    os.chmod(folder, 0o755)
    async with open_node(way, folder) as node:
        done = await node.run(PYTHON, "-S", "-c", LOOK, uid=1234, gid=2345, groups=(7, 8))
    seen = json.loads(done.out)
    assert seen["uid"] == [1234] * 3
    assert seen["gid"] == [2345] * 3
    assert seen["groups"] == [7, 8]


async def test_ones_own_user_is_honoured_without_privileges(way: Way, folder: str) -> None:
    ids = {"uid": way.uid, "gid": way.uid, "groups": ()}
    async with open_node(way, folder) as node:
        if os.getgroups() and not way.changes_users:
            ids["groups"] = tuple(os.getgroups())
        assert (await node.run("id", "-u", **ids)).out == f"{way.uid}\n"


async def test_another_user_without_privileges_is_a_clear_error(way: Way, folder: str) -> None:
    if way.changes_users:
        pytest.skip("root may")
    async with open_node(way, folder) as node:
        error = await failure(node, "true", uid=1234)
        assert "cannot become user 1234" in error.message


@pytest.mark.parametrize("uid", [None, NOBODY])
async def test_every_process_can_write_to_the_log_through_proc_1(
    namespaces: Way, folder: str, uid: int | None
) -> None:
    if uid is not None and not namespaces.changes_users and namespaces.uid != uid:
        pytest.skip("only root changes users")
    async with open_node(namespaces, folder) as node:
        done = await node.shell(
            "(echo a > /proc/1/fd/1; echo b > /proc/1/fd/2) > /dev/null 2>&1 & wait; echo c",
            uid=uid,
            gid=uid,
        )
    assert (done.out, done.err) == ("a\nc\n", "b\n")


async def test_in_mode_group_the_environment_names_the_main(way: Way, folder: str) -> None:
    if way.namespaces:
        pytest.skip("about mode group")
    async with open_node(way, folder) as node:
        done = await node.shell(
            "(echo x > /proc/$PODVISOR_MAIN_PID/fd/1) > /dev/null & wait; "
            "echo last words > $PODVISOR_TERMINATION_LOG; echo $$ $PODVISOR_MAIN_PID"
        )
    assert done.out.splitlines()[0] == "x"
    assert len(set(done.out.splitlines()[1].split())) == 1
    assert done.message == "last words\n"


async def test_in_mode_group_another_user_reaches_its_termination_file(
    way: Way, folder: str
) -> None:
    if way.namespaces or not way.changes_users:
        pytest.skip("about mode group as root")
    async with open_node(way, folder) as node:
        done = await node.shell('echo -n x > "$PODVISOR_TERMINATION_LOG"', uid=NOBODY, gid=NOBODY)
    assert done.message == "x"


# --- termination messages --------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/dev/termination-log",
        "/tmp/podvisor-x/y",
        "/podvisor-message",
        "/podvisor-x/deep/er/message",
        "/dev/podvisor/message",
        "/usr/share/podvisor-message",
        "//tmp/./podvisor-z",
    ],
)
async def test_the_message_path_works_anywhere_and_leaves_nothing_on_the_host(
    namespaces: Way, folder: str, path: str
) -> None:
    """§2.5.2"""
    here = os.stat("/tmp").st_ino
    async with open_node(namespaces, folder) as node:
        script = f"echo -n DONE > {path}; stat -c '%a %s' {path}; echo x > /dev/null; ls /proc/1"
        done = await node.shell(script, termination_path=path)
        assert done.message == "DONE"
        assert done.out.splitlines()[0] == "666 4", (done.out, done.err)
        assert not os.path.exists(path)
        again = await node.shell(f"cat {path}", termination_path=path)
        assert (again.out, again.err, again.message) == ("", "", "")
    assert os.stat("/tmp").st_ino == here


async def test_a_message_path_that_exists_is_covered_and_not_changed(
    namespaces: Way, folder: str
) -> None:
    with open(f"{folder}/mine", "w") as file:
        file.write("host")
    async with open_node(namespaces, folder) as node:
        done = await node.shell(
            f"cat {folder}/mine; echo -n c > {folder}/mine", termination_path=f"{folder}/mine"
        )
    assert (done.out, done.message) == ("", "c")
    with open(f"{folder}/mine") as file:
        assert file.read() == "host"


async def test_a_covered_directory_keeps_its_entries(namespaces: Way, folder: str) -> None:
    os.makedirs(f"{folder}/d/sub")
    os.symlink("sub", f"{folder}/d/link")
    with open(f"{folder}/d/file", "w") as file:
        file.write("text")
    os.chmod(f"{folder}/d", 0o751)
    async with open_node(namespaces, folder) as node:
        done = await node.shell(
            "cat file; readlink link; echo new > file; echo new > sub/file; stat -c %a .",
            cwd=f"{folder}/d",
            termination_path=f"{folder}/d/message",
        )
    assert done.out == "textsub\n751\n"
    assert sorted(os.listdir(f"{folder}/d")) == ["file", "link", "sub"]
    with open(f"{folder}/d/file") as file:
        assert file.read() == "new\n"
    assert os.path.exists(f"{folder}/d/sub/file")


@pytest.mark.parametrize("path", ["/usr", "/etc/passwd/x", "/a/../b", "/proc/x", "/dev/null"])
async def test_an_impossible_message_path_is_a_start_error(
    namespaces: Way, folder: str, path: str
) -> None:
    async with open_node(namespaces, folder) as node:
        error = await failure(node, "true", termination_path=path)
        assert f'cannot provide terminationMessagePath "{path}"' in error.message


TERMINAL = """
import os, pty
master, slave = pty.openpty()
again = os.open("/dev/pts/" + os.path.basename(os.ttyname(slave)), os.O_RDWR | os.O_NOCTTY)
os.write(master, b"hello\\n")
print(os.read(again, 100).decode(), end="")
"""


async def test_devices_and_terminals_work_in_the_private_dev(namespaces: Way, folder: str) -> None:
    async with open_node(namespaces, folder) as node:
        done = await node.shell(
            "head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; echo x > /dev/null;"
            "ls -d /dev/shm /dev/pts; echo err > /dev/stderr; test -c /dev/null && echo device"
        )
        terminal = await node.run(PYTHON, "-c", TERMINAL)
    assert done.out == "3\n3\n/dev/pts\n/dev/shm\ndevice\n"
    assert done.err == "err\n"
    assert terminal.out == "hello\n", terminal.err


# --- the machine refuses ---------------------------------------------------------------------

TRY = """
import anyio, sys, tempfile
sys.path.insert(0, {root!r})
from supervisor.lifecycle.facts import ContainerId
from supervisor.runtime.cri import LaunchSpec
from supervisor.runtime.launch import ProcessRuntime, diagnose, spawn_launcher
async def main():
    for trial in diagnose():
        print(trial)
    with tempfile.TemporaryDirectory() as folder:
        async with ProcessRuntime(spawn_launcher("auto"), folder) as runtime:
            spec = LaunchSpec(
                id=ContainerId("u", "c", 0), argv=("sh", "-c", "exit 7"),
                env=(("PATH", "/usr/bin:/bin"),), cwd="/", log_path=folder + "/l/0.log",
                termination_path="/dev/termination-log", termination_file=folder + "/t/t")
            await runtime.start(spec)
            async for news in runtime.news():
                print(runtime.isolation, news.exit_code)
                break
anyio.run(main)
"""


def try_under(*command: str) -> list[str]:
    if os.geteuid() != 0:
        pytest.skip("only root can simulate it")
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    done = subprocess.run(
        [*command, sys.executable, "-c", TRY.format(root=root)],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
MASKED = ("unshare", "-m", "sh", "-c", 'mount --bind /dev/null /proc/timer_list && exec "$@"', "x")
NO_ADMIN = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")


def test_masked_parts_of_proc_leave_mode_group_to_users(nothing_left: None) -> None:
    with readable_by(NOBODY):
        said = try_under(*MASKED, *AS_NOBODY)
    assert said[1] == "pidns-rootless: cannot mount /proc: Operation not permitted"
    assert said[-1] == "group 7"


def test_masked_parts_of_proc_do_not_hinder_root(nothing_left: None) -> None:
    assert try_under(*MASKED)[-1] == "pidns 7"


def test_root_without_the_right_to_mount_gets_a_user_namespace(nothing_left: None) -> None:
    said = try_under(*NO_ADMIN)
    assert said[0] == "pidns: cannot create a mount namespace: Operation not permitted"
    assert said[-1] == "pidns-rootless 7"


CHROOT = 'mount -t tmpfs x /mnt && mkdir /mnt/r && mount --rbind / /mnt/r && chroot /mnt/r "$@"'


def test_without_rights_and_without_user_namespaces_there_is_mode_group(
    nothing_left: None,
) -> None:
    # A user namespace cannot be created in a chroot.
    said = try_under("unshare", "-m", "sh", "-c", CHROOT, "x", *NO_ADMIN)
    assert said[1].startswith("pidns-rootless: cannot create a user namespace")
    assert said[-1] == "group 7"


# --- many ------------------------------------------------------------------------------------


@pytest.mark.parametrize("anyio_backend", ["uvloop"], indirect=True)
async def test_a_hundred_containers_start_run_and_end(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        specs = [node.spec("/bin/sh", "-c", f"echo {i}; exec sleep 1000") for i in range(100)]
        async with anyio.create_task_group() as tasks:
            for spec in specs:
                tasks.start_soon(node.start, spec)
        for i, spec in enumerate(specs):
            await node.logged(spec, f"stdout F {i}\n".encode())
            assert node.runtime.signal(spec.id, 9)
        for i, spec in enumerate(specs):
            done = await node.finish(spec)
            assert (done.code, done.out) == (137, f"{i}\n")


@in_all_ways_on_both_loops
async def test_starting_twice_returns_the_running_instance(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        spec = node.spec("sleep", "1000")
        results: list[tuple[int, object]] = []

        async def start() -> None:
            results.append(await node.runtime.start(spec))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(start)
            tasks.start_soon(start)
        await start()
        assert len(set(results)) == 1


@in_all_ways_on_both_loops
async def test_a_cancelled_start_is_not_forgotten(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        spec = node.spec("sleep", "1000")
        with anyio.move_on_after(0):
            await node.runtime.start(spec)
        await node.start(spec)
        node.runtime.signal(spec.id, 9)
        assert (await node.finish(spec)).code == 137


async def test_the_spawn_record_names_the_process(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        spec = node.spec("sleep", "1000")
        pid = await node.start(spec)
        record = survivors.read(survivors.record_path(spec.log_path))
        assert record is not None
        assert record.id == spec.id
        assert record.main.pid == pid
        assert record.mode == way.isolation
        assert record.lives
        with open(f"/proc/{pid}/stat") as file:
            assert record.main.start == file.read().rpartition(")")[2].split()[19]
        with open("/proc/sys/kernel/random/boot_id") as file:
            assert record.boot == file.read().strip()


async def test_what_has_no_spawn_record_never_runs(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        spec = node.spec("/bin/sh", "-c", f"echo > {folder}/ran; exec sleep 1000")
        os.makedirs(spec.log_path.removesuffix("0.log") + "0.spawn/in the way")
        with pytest.raises(StartError, match=r"^cannot write the spawn record: ") as caught:
            await node.start(spec)
        assert not caught.value.created
        assert (await node.shell("echo well")).out == "well\n"
    assert not os.path.exists(f"{folder}/ran")


async def test_unknown_instances_take_no_signal(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        assert not node.runtime.signal(ContainerId("x", "y", 3), 9)


async def test_a_sandbox_is_made_and_removed(way: Way, folder: str) -> None:
    async with open_node(way, folder) as node:
        await node.runtime.create_sandbox("uid")
        await node.runtime.create_sandbox("uid")
        assert os.path.isdir(f"{folder}/pods/uid")
        os.makedirs(f"{folder}/pods/uid/closed/file")
        os.chmod(f"{folder}/pods/uid/closed", 0)
        await node.runtime.remove_sandbox("uid")
        assert not os.path.exists(f"{folder}/pods/uid")
        await node.runtime.remove_sandbox("uid")


def test_a_launcher_that_is_never_used_can_be_closed(way: Way) -> None:
    launcher = spawn_launcher(way.isolation.value)
    launcher.close()
    launcher.close()


async def test_seccomp_may_refuse_clone3(way: Way) -> None:
    """Docker's filter answers ENOSYS; clone does the same."""
    code = (
        "import launcher as l\nl._clone3_refused = True\n"
        "print(l.attempt('group'), l.attempt('pidns-rootless'), l.attempt('pidns'))"
    )
    here = os.path.dirname(launch._PROGRAM)
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {here!r})\n{code}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"('{way.isolation.value}', '', 0)" in done.stdout, done.stderr


async def test_host_mounts_come_and_go_while_a_container_runs(namespaces: Way, folder: str) -> None:
    """Mounts of containers are slaves: new ones appear there, old ones are not pinned."""
    if namespaces.uid != 0:
        pytest.skip("mounting needs root")

    def mount(*words: str) -> None:
        subprocess.run(words, check=True)

    shared, inner = f"{folder}/shared", f"{folder}/shared/m"
    os.mkdir(shared)
    mount("mount", "-t", "tmpfs", "x", shared)
    mount("mount", "--make-shared", shared)  # as systemd does with "/"
    try:
        os.mkdir(inner)
        async with open_node(namespaces, folder) as node:
            script = "until test -e m/file; do sleep 0.01; done; echo seen; sleep 1000"
            spec = node.spec("/bin/sh", "-c", script, cwd=shared)
            await node.start(spec)
            mount("mount", "-t", "tmpfs", "x", inner)
            with open(f"{inner}/file", "w"):
                pass
            await node.logged(spec, b"seen")
            mount("umount", inner)
            with open(f"/proc/{node.launcher_pid}/mountinfo") as file:
                assert inner not in file.read()
            os.rmdir(inner)
    finally:
        mount("umount", "--recursive", shared)
