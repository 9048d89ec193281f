"""Mounts: what a container finds at paths of its own, and what the host never sees of them."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from supervisor.runtime.cri import Mount, StartError
from tests.runtime.conftest import readable_by
from tests.runtime.nodes import (
    NOBODY,
    ROOT,
    Way,
    adopt,
    durable_node,
    ended,
    kill,
    open_node,
    supervised,
)
from tests.runtime.test_durable import state
from tests.runtime.test_exec import run, sleeper
from tests.runtime.test_launcher import AS_NOBODY, PYTHON, failure

pytestmark = pytest.mark.anyio
__all__ = ["state"]

# Directories of the host in or below which targets are missing, and what must not change there.
TOUCHED = ("/", "/dev", "/etc", "/run", "/tmp", "/usr", "/usr/share")


def listing(folder: str) -> dict[str, int]:
    with os.scandir(folder) as entries:
        return {entry.name: entry.inode() for entry in entries if "podvisor-" in entry.name}


def host_mounts() -> list[str]:
    """Without those that tests of other workers make meanwhile, which are called x."""
    with open("/proc/self/mountinfo") as file:
        return [line for line in file if " - tmpfs x " not in line]


@pytest.fixture
def unchanged() -> Iterator[None]:
    """No mount and no name of ours has appeared on the host."""
    mounts = host_mounts()
    before = {folder: listing(folder) for folder in TOUCHED if folder != "/tmp"}
    root = set(os.listdir("/"))
    yield
    assert host_mounts() == mounts
    assert {folder: listing(folder) for folder in before} == before
    assert set(os.listdir("/")) == root


def make(path: str, text: str) -> str:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
    return path


@contextmanager
def listening(path: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        yield server


@pytest.mark.parametrize(
    "target",
    [
        "/podvisor-data",
        "/podvisor-data/deep/er",
        "/tmp/podvisor-data",
        "/tmp",
        "/etc/podvisor-data",
        "/usr/share/podvisor-a/b",
        "/var/run/podvisor-secrets/x",
        "/run/podvisor-secrets/kubernetes.io/serviceaccount",
        "/dev/podvisor-data",
        "/usr/local/share",
        "/mnt",
    ],
)
async def test_a_directory_appears_at_any_path_and_nothing_on_the_host(
    namespaces: Way, unchanged: None, folder: str, target: str
) -> None:
    source = f"{folder}/source"
    make(f"{source}/file", "text")
    existed = os.path.exists(target)
    async with open_node(namespaces, folder) as node:
        done = await node.shell(
            f"cat {target}/file; ls {target}; echo new > {target}/new; echo x > /dev/null; pwd -P",
            mounts=(Mount(source, target),),
            cwd=target,
        )
    assert (done.out, done.err) == (f"textfile\n{os.path.realpath(target)}\n", "")
    assert sorted(os.listdir(source)) == ["file", "new"]
    assert os.path.exists(target) == existed


@pytest.mark.parametrize(
    "target", ["/etc/hosts", "/etc/podvisor-x", "/podvisor-x", "/tmp/podvisor-x/y", "/run/../x"]
)
async def test_a_file_appears_at_any_path(
    namespaces: Way, unchanged: None, folder: str, target: str
) -> None:
    source = make(f"{folder}/hosts", "127.0.0.1 here\n")
    async with open_node(namespaces, folder) as node:
        mounts = (Mount(source, target),)
        if ".." in target:
            error = await failure(node, "true", mounts=mounts)
            assert error.message.startswith(f'cannot mount "{target}": ')
            return
        done = await node.shell(f"cat {target}; echo more >> {target}", mounts=mounts)
        assert (done.out, done.err) == ("127.0.0.1 here\n", "")
    with open(source) as file:
        assert file.read() == "127.0.0.1 here\nmore\n"


async def test_sockets_and_fifos_and_devices_can_be_mounted(
    namespaces: Way, unchanged: None, folder: str
) -> None:
    os.mkfifo(f"{folder}/fifo")
    with listening(f"{folder}/socket") as server:
        mounts = (
            Mount(f"{folder}/socket", "/podvisor-socket"),
            Mount(f"{folder}/fifo", "/etc/podvisor-fifo"),
            Mount("/dev/zero", "/tmp/podvisor-zero"),
        )
        script = (
            "import os, socket, stat\n"
            "with socket.socket(socket.AF_UNIX) as c: c.connect('/podvisor-socket')\n"
            "print(stat.S_ISFIFO(os.stat('/etc/podvisor-fifo').st_mode))\n"
            "print(open('/tmp/podvisor-zero', 'rb').read(2))\n"
        )
        async with open_node(namespaces, folder) as node:
            done = await node.run(PYTHON, "-c", script, mounts=mounts)
        server.accept()[0].close()
    assert (done.out, done.err) == ("True\nb'\\x00\\x00'\n", "")


async def test_read_only_is_read_only_and_for_this_container_alone(
    namespaces: Way, unchanged: None, folder: str
) -> None:
    make(f"{folder}/source/file", "text")
    async with open_node(namespaces, folder) as node:
        done = await node.shell(
            "for d in /podvisor-ro /tmp/podvisor-ro /mnt; do"
            " echo x > $d/new; echo x > $d/file; cat $d/file; done; echo x > /tmp/podvisor-rw/new",
            mounts=(
                Mount(f"{folder}/source", "/podvisor-ro", read_only=True),
                Mount(f"{folder}/source", "/tmp/podvisor-ro", read_only=True),
                Mount(f"{folder}/source", "/mnt", read_only=True),
                Mount(f"{folder}/source", "/tmp/podvisor-rw"),
            ),
        )
    assert done.out == "texttexttext"
    assert done.err.count("Read-only file system") == 6, done.err
    assert sorted(os.listdir(f"{folder}/source")) == ["file", "new"]


LOCKED = """
import anyio, sys
sys.path.insert(0, {root!r})
from supervisor.runtime.cri import Isolation, Mount
from tests.runtime.nodes import Way, open_node
async def main():
    async with open_node(Way({uid}, Isolation({mode!r})), {folder!r} + "/state") as node:
        mounts = (Mount({folder!r} + "/source", "/podvisor-data", read_only=True),)
        print((await node.shell("grep /podvisor-data /proc/self/mountinfo", mounts=mounts)).out)
anyio.run(main)
"""


@pytest.mark.parametrize(
    ("uid", "mode"), [(0, "pidns"), (0, "pidns-rootless"), (NOBODY, "pidns-rootless")]
)
def test_read_only_keeps_the_flags_that_the_source_is_mounted_with(
    nothing_left: None, unchanged: None, uid: int, mode: str
) -> None:
    """In a user namespace they are locked: without them the kernel refuses."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount such a source")
    script = 'mount -t tmpfs -o nosuid,nodev,noexec,noatime x "$0" && exec "$@"'
    user = AS_NOBODY if uid else ()
    with tempfile.TemporaryDirectory() as folder, readable_by(uid):
        os.chmod(folder, 0o777)
        os.mkdir(f"{folder}/source")
        code = LOCKED.format(root=ROOT, uid=uid, mode=mode, folder=folder)
        wrapper = ("unshare", "-m", "sh", "-c", script, f"{folder}/source", *user)
        done = subprocess.run(
            [*wrapper, sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[4:6] == ["/podvisor-data", "ro,nosuid,nodev,noexec,noatime"]


async def test_more_mounts_than_the_kernel_should_bear_are_refused(
    namespaces: Way, unchanged: None, folder: str
) -> None:
    os.mkdir(f"{folder}/many")
    for i in range(4096):
        os.mkdir(f"{folder}/many/{i}")
    async with open_node(namespaces, folder) as node:
        error = await failure(node, "true", mounts=(Mount("/mnt", f"{folder}/many/x"),))
    assert error.message == (
        f'cannot mount "{folder}/many/x": with {folder}/many there are more than 4096 mounts'
    )


async def test_a_mount_in_a_volume_gets_its_mount_point_in_the_volume(
    namespaces: Way, unchanged: None, folder: str
) -> None:
    make(f"{folder}/conf", "conf")
    for name in ("data", "sub"):
        make(f"{folder}/{name}/file", name)
    async with open_node(namespaces, folder) as node:
        done = await node.shell(
            "cat /podvisor-data/file /podvisor-data/a/b/file /podvisor-data/conf;"
            "echo -n x > /podvisor-data/new",
            mounts=(
                Mount(f"{folder}/data", "/podvisor-data"),
                Mount(f"{folder}/sub", "/podvisor-data/a/b", read_only=True),
                Mount(f"{folder}/conf", "/podvisor-data/conf"),
            ),
            termination_path="/podvisor-data/message",
        )
    assert (done.out, done.err) == ("datasubconf", "")
    assert sorted(os.listdir(f"{folder}/data")) == ["a", "conf", "file", "message", "new"]
    assert os.listdir(f"{folder}/data/a") == ["b"]
    assert stat.S_IMODE(os.stat(f"{folder}/data/a/b").st_mode) == 0o755
    assert os.listdir(f"{folder}/data/a/b") == []


async def test_a_read_only_volume_of_the_node_gets_mount_points_too(
    namespaces: Way, unchanged: None, folder: str
) -> None:
    """As the kubelet makes them for ConfigMap and Secret volumes."""
    make(f"{folder}/pods/uid/volumes/map/key", "value")
    make(f"{folder}/sub/file", "sub")
    async with open_node(namespaces, folder) as node:
        done = await node.shell(
            "cat /podvisor-map/key /podvisor-map/sub/file; echo x > /podvisor-map/new;"
            "echo x > /podvisor-map/sub/new",
            mounts=(
                Mount(f"{folder}/pods/uid/volumes/map", "/podvisor-map", read_only=True),
                Mount(f"{folder}/sub", "/podvisor-map/sub"),
            ),
        )
        assert done.out == "valuesub"
        assert done.err.count("Read-only file system") == 1
        assert sorted(os.listdir(f"{folder}/pods/uid/volumes/map")) == ["key", "sub"]
    assert sorted(os.listdir(f"{folder}/sub")) == ["file", "new"]


async def test_a_folder_of_the_user_that_is_read_only_gets_none(
    namespaces: Way, unchanged: None, folder: str
) -> None:
    make(f"{folder}/project/src/main.py", "main")
    make(f"{folder}/modules/file", "module")
    async with open_node(namespaces, f"{folder}/state") as node:
        done = await node.shell(
            "cat /podvisor-app/src/main.py /podvisor-app/node_modules/file;"
            "echo x > /podvisor-app/new; echo x > /podvisor-app/src/new;"
            "echo x > /podvisor-app/node_modules/new",
            mounts=(
                Mount(f"{folder}/project", "/podvisor-app", read_only=True),
                Mount(f"{folder}/modules", "/podvisor-app/node_modules"),
            ),
        )
    assert done.out == "mainmodule"
    assert done.err.count("Read-only file system") == 2, done.err
    assert os.listdir(f"{folder}/project") == ["src"]
    assert sorted(os.listdir(f"{folder}/modules")) == ["file", "new"]


async def test_a_folder_that_nobody_here_may_write_to_gets_none_either(
    namespaces: Way, unchanged: None, folder: str
) -> None:
    if namespaces.uid == 0:
        pytest.skip("root may write there")
    make(f"{folder}/source/file", "text")
    async with open_node(namespaces, folder) as node:
        done = await node.shell(
            "cat /podvisor-usr/podvisor-x/file; test -x /podvisor-usr/bin/env && echo there",
            mounts=(
                Mount("/usr", "/podvisor-usr"),
                Mount(f"{folder}/source", "/podvisor-usr/podvisor-x"),
            ),
        )
    assert (done.out, done.err) == ("textthere\n", "")


async def test_sockets_in_a_covered_directory_still_answer(
    namespaces: Way, unchanged: None, folder: str
) -> None:
    path = f"{folder}/d/socket"
    os.mkdir(f"{folder}/d")
    script = f"import socket; socket.socket(socket.AF_UNIX).connect({path!r})"
    with listening(path) as server:
        async with open_node(namespaces, folder) as node:
            mounts = (Mount("/mnt", f"{folder}/d/missing"),)
            done = await node.run(PYTHON, "-c", script, mounts=mounts, cwd=f"{folder}/d")
        server.accept()[0].close()
    assert (done.code, done.err) == (0, "")
    assert os.listdir(f"{folder}/d") == ["socket"]


async def test_a_link_in_a_volume_does_not_lead_to_the_making_of_anything_on_the_host(
    namespaces: Way, unchanged: None, folder: str
) -> None:
    make(f"{folder}/elsewhere/file", "host")
    make(f"{folder}/source/file", "source")
    os.makedirs(f"{folder}/data")
    os.symlink(f"{folder}/elsewhere", f"{folder}/data/link")
    async with open_node(namespaces, f"{folder}/state") as node:
        done = await node.shell(
            "cat /podvisor-data/link/x/file /podvisor-data/link/file",
            mounts=(
                Mount(f"{folder}/data", "/podvisor-data"),
                Mount(f"{folder}/source", "/podvisor-data/link/x"),
            ),
        )
    assert (done.out, done.err) == ("sourcehost", "")
    assert os.listdir(f"{folder}/elsewhere") == ["file"]


async def test_tmp_replaced_by_a_directory_hides_neither_sources_nor_the_state(
    namespaces: Way, unchanged: None, folder: str
) -> None:
    """Sources, the state directory and the termination file lie in the /tmp that is hidden."""
    os.makedirs(f"{folder}/tmp")
    make(f"{folder}/source/file", "text")
    async with open_node(namespaces, folder) as node:
        done = await node.shell(
            "ls /tmp; cat /tmp/sub/file /etc/hosts; echo x > /tmp/new;"
            "echo -n bye > /dev/termination-log",
            mounts=(
                Mount(f"{folder}/tmp", "/tmp"),
                Mount(f"{folder}/source", "/tmp/sub"),
                Mount(f"{folder}/source/file", "/etc/hosts", read_only=True),
            ),
        )
        assert (done.out, done.err, done.message) == ("sub\ntexttext", "", "bye")
    assert sorted(os.listdir(f"{folder}/tmp")) == ["new", "sub"]


async def test_hundreds_of_mounts_cost_one_cover(
    namespaces: Way, unchanged: None, folder: str
) -> None:
    for i in range(300):
        make(f"{folder}/sources/{'long' * 20}{i}/file", f"{i}\n")
    mounts = tuple(
        Mount(f"{folder}/sources/{'long' * 20}{i}", f"/etc/podvisor-x/{'name' * 20}{i}", i % 2 == 0)
        for i in range(300)
    )
    async with open_node(namespaces, folder) as node:
        done = await node.shell(
            "cat /etc/podvisor-x/*/file | sort -n | md5sum;"
            "grep -c ' /etc .*tmpfs' /proc/self/mountinfo",
            mounts=mounts,
        )
        check = await node.shell("seq 0 299 | md5sum")
    assert done.out == check.out + "1\n", done.err


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("/", "nothing can be mounted over the root directory"),
        ("/podvisor-x/..", "the path must be absolute and free of '..'"),
        ("podvisor-x", "the path must be absolute and free of '..'"),
        ("/proc", "nothing can be mounted in /proc"),
        ("/proc/sys/podvisor", "nothing can be mounted in /proc"),
        ("/dev/fd/7", "nothing can be mounted in /proc"),
        ("/sys/podvisor", "no such file or directory"),
        ("/etc/hosts", "not a directory"),
        ("/etc/hosts/x", "not a directory"),
    ],
)
async def test_an_impossible_target_is_a_start_error_that_names_it(
    namespaces: Way, unchanged: None, folder: str, target: str, words: str
) -> None:
    async with open_node(namespaces, folder) as node:
        error = await failure(node, "true", mounts=(Mount(folder, target),))
    assert error.message == f'cannot mount "{target}": {words}'
    assert (error.reason, error.created) == ("StartError", True)


async def test_a_missing_source_and_a_file_over_a_directory_are_start_errors(
    namespaces: Way, unchanged: None, folder: str
) -> None:
    async with open_node(namespaces, folder) as node:
        error = await failure(node, "true", mounts=(Mount(f"{folder}/none", "/podvisor-x"),))
        assert error.message == (
            f'cannot mount "/podvisor-x": its source "{folder}/none": no such file or directory'
        )
        source = make(f"{folder}/file", "")
        error = await failure(node, "true", mounts=(Mount(source, "/mnt"),))
        assert error.message == 'cannot mount "/mnt": is a directory'


async def test_mode_group_refuses_mounts(way: Way, folder: str) -> None:
    if way.namespaces:
        pytest.skip("has mounts")
    async with open_node(way, folder) as node:
        with pytest.raises(StartError) as caught:
            await node.start(node.spec("true", mounts=(Mount(folder, "/mnt"),)))
        assert (await node.run("true")).code == 0
    assert caught.value.message == 'cannot mount "/mnt": there are no namespaces in mode group'
    assert not caught.value.created


async def test_another_user_writes_into_a_volume_below_the_private_state_directory(
    way: Way, unchanged: None, folder: str
) -> None:
    if not (way.changes_users and way.namespaces):
        pytest.skip("needs a change of user, and namespaces")
    os.makedirs(f"{folder}/pods/uid/volumes/data")
    os.chmod(f"{folder}/pods/uid/volumes/data", 0o777)
    os.chmod(f"{folder}/pods", 0o700)
    async with open_node(way, folder) as node:
        done = await node.shell(
            "echo x > /podvisor-data/new; cat /podvisor-data/new",
            mounts=(Mount(f"{folder}/pods/uid/volumes/data", "/podvisor-data"),),
            uid=NOBODY,
            gid=NOBODY,
            groups=(),
        )
        assert (done.out, done.err) == ("x\n", "")


def looker(folder: str) -> tuple[Mount, ...]:
    make(f"{folder}/source/file", "text")
    return (
        Mount(f"{folder}/source", "/podvisor-data", read_only=True),
        Mount(f"{folder}/source/file", "/etc/hosts"),
    )


LOOK = "cat /podvisor-data/file /etc/hosts; echo x > /podvisor-data/new || echo read-only"


async def test_programs_run_in_a_container_see_its_mounts(
    namespaces: Way, unchanged: None, folder: str
) -> None:
    async with open_node(namespaces, folder) as node:
        spec = await sleeper(node, mounts=looker(folder), cwd="/podvisor-data")
        result = await run(node, spec, "sh", "-c", f"pwd; {LOOK}")
        assert result.output.startswith(b"/podvisor-data\ntexttextread-only\n")


async def test_they_do_after_a_new_launcher_has_taken_the_container_on(
    namespaces: Way, unchanged: None, state: str
) -> None:
    said = supervised(
        namespaces,
        state,
        f"""
        from tests.runtime.test_mounts import looker
        said["pid"] = await node.start(node.spec("sleep", "1000", mounts=looker({state!r})))
        """,
    )
    kill(said["launcher"])
    async with durable_node(namespaces, state) as node:
        spec = node.spec("sleep", "1000", mounts=looker(state))
        assert await adopt(node, spec) == said["pid"]
        result = await run(node, spec, "sh", "-c", LOOK)
        assert result.output.startswith(b"texttextread-only\n")
        node.runtime.signal(spec.id, 9)
        await ended(node, spec)
