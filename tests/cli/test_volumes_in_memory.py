"""Where Secrets and emptyDirs in memory lie, end to end: on a tmpfs, over the lives of a node, and
nowhere once it has ended, however it did.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator

import pytest

from supervisor.kubelet.statedir import is_tmpfs
from tests import support
from tests.cli.test_configuration import Hold, hold
from tests.support import (
    Durable,
    Manifest,
    Place,
    Way,
    as_root,
    command,
    in_pidns,
    memory_folders,
    pod,
    sh,
    wait_for,
)

pytestmark = [
    pytest.mark.usefixtures("nothing_left"),
    pytest.mark.skipif(not is_tmpfs("/dev/shm"), reason="/dev/shm is no tmpfs"),
    pytest.mark.skipif(is_tmpfs(tempfile.gettempdir()), reason="temporary files are in memory"),
]
__all__ = ["hold"]

SECRET = f"m4rked-{uuid.uuid4()}"  # another worker may run the same beside us
TMPFS_MAGIC = "1021994"
# Of the projected volume, which has no Secret, only where it lies is looked at.
SCRIPT = (
    "for v in login all scratch disk; do stat -f -c %t /podvisor-$v; done;"
    "echo x >>/podvisor-scratch/runs; echo run $(wc -l </podvisor-scratch/runs);"
    "until rm again 2>/dev/null; do sleep 0.02; done;"
    "cmp -s /podvisor-login/password /podvisor-all/password && wc -c </podvisor-login/password"
)


def web(script: str, *, mounted: bool = True) -> Manifest:
    projected = {"sources": [{"secret": {"name": "login"}}]}
    volumes = {
        "login": {"secret": {"secretName": "login", "defaultMode": 0o400}},
        "all": {"projected": projected},
        "scratch": {"emptyDir": {"medium": "Memory"}},
        "disk": {"emptyDir": {}},
    }
    mounts = [{"name": name, "mountPath": f"/podvisor-{name}"} for name in volumes]
    return pod(
        "web",
        sh("app", script, volumeMounts=mounts if mounted else []),
        volumes=[{"name": name, **source} for name, source in volumes.items()],
        terminationGracePeriodSeconds=1,
    )


def magic(path: str) -> str:
    done = subprocess.run(["stat", "-f", "-c", "%t", path], capture_output=True, text=True)
    return done.stdout.strip()


def holding(folder: str) -> Iterator[str]:
    """The files below a folder that hold the Secret's value."""
    for path, _, names in os.walk(folder):
        for name in names:
            if os.path.isfile(f"{path}/{name}") and not os.path.islink(f"{path}/{name}"):
                try:
                    with open(f"{path}/{name}", "rb") as file:
                        if SECRET.encode() in file.read():
                            yield f"{path}/{name}"
                except FileNotFoundError:  # it is being removed
                    pass


@in_pidns
def test_a_served_secret_is_in_memory_only_and_outlives_its_node(node: Durable, hold: Hold) -> None:
    """§9.3.2, §9.3.4"""
    hold(Secret={"default/login": {"password": SECRET}})
    node.put("web.json", web(SCRIPT))
    session = node.serve()
    session.until_logged("run 1")
    seen = [line.split("| ", 1)[1] for line in session.out.splitlines()]
    assert [kind == TMPFS_MAGIC for kind in seen[:4]] == [True, True, True, False]
    with open(f"{node.state}/memory") as file:
        memory = file.read()
    assert magic(memory) == TMPFS_MAGIC
    assert len(list(holding(memory))) == 2
    assert not list(holding(node.state))
    pid = node.pid("web", "app")

    session.kill()
    session.wait(keeps=True)
    assert len(list(holding(memory))) == 2
    session = node.serve()
    session.until_said("taken on again")
    assert node.pid("web", "app") == pid
    node.place.write("again", "")
    session.until_logged(f"| {len(SECRET)}")
    session.until_logged("run 2")
    assert not list(holding(node.state))

    # A logout may empty it; a container that starts then has a Secret nevertheless.
    session.kill()
    session.wait(keeps=True)
    shutil.rmtree(memory)
    session = node.serve()
    session.until_said("taken on again")
    node.place.write("again", "")
    session.until_logged("run 1")
    assert len(list(holding(memory))) == 2
    session.signal(signal.SIGINT)
    session.wait(130)
    assert not os.path.exists(memory)
    assert not list(holding(node.state))


@pytest.mark.parametrize("where", ["on disk", "in memory"])
def test_no_secret_outlives_a_run_that_is_killed(
    place: Place, way: Way, hold: Hold, where: str
) -> None:
    """§9.3.2: also in mode group, where volumes are made though nothing can be mounted."""
    folder = tempfile.mkdtemp(prefix="podvisor-test-", dir="/dev/shm")
    os.chown(folder, way.uid, -1)
    try:
        hold(Secret={"default/login": {"password": SECRET}})
        before = set(memory_folders(way.uid))
        session = place.start(
            web("echo began; exec sleep 1000", mounted=way.namespaces),
            env={"XDG_RUNTIME_DIR": folder} if where == "in memory" else {},
        )
        session.until_logged("began")

        def found() -> list[str]:
            new = set(memory_folders(way.uid)) - before
            return [path for root in (session.tmp, folder, *new) for path in holding(root)]

        paths = found()
        assert {magic(os.path.dirname(path)) for path in paths} == {TMPFS_MAGIC}
        if where == "in memory":
            assert all(path.startswith(folder) for path in paths)
            assert not os.listdir(session.tmp)
        session.kill()
        wait_for(lambda: not found(), "the end of the Secret's files")
        session.wait(leaves=True)
        left = [
            os.path.join(path, name)
            for root in (session.tmp, folder)
            for path, folders, names in os.walk(root)
            for name in (*folders, *names)
        ]
        assert not [path for path in left if "/pods/" in path]
        assert [path for path in left if path.endswith(".log")]  # logs wait for the next start
        place.run(pod("other", sh("app", "true"), restartPolicy="Never"), code=0)
        assert not os.listdir(session.tmp) or where == "in memory"
    finally:
        shutil.rmtree(folder)


@in_pidns
def test_the_node_folder_in_memory_goes_with_the_end_of_a_run(
    place: Place, way: Way, hold: Hold
) -> None:
    hold(Secret={"default/login": {"password": SECRET}})
    before = memory_folders(way.uid)
    session = place.start(web("echo began; exec sleep 1000"))
    session.until_logged("began")
    # Other tests may run beside this one.
    mine = [path for path in memory_folders(way.uid) if path not in before]
    [memory] = [path for path in mine if any(holding(path))]
    session.signal(signal.SIGINT)
    session.wait(130)
    assert not os.path.exists(memory)


# Nothing but a disk where a tmpfs may be.
ON_DISK = 'for f in /run /dev/shm; do mount --bind "$0" $f || exit 99; done; exec "$@"'


@as_root
def test_without_a_tmpfs_volumes_lie_on_the_disk_with_a_warning(
    place: Place, way: Way, hold: Hold
) -> None:
    """§9.3.2"""
    hold(Secret={"default/login": {"password": SECRET}})
    script = "stat -f -c %t /podvisor-login" if way.namespaces else "echo began"
    wanted = web(script, mounted=way.namespaces)
    wanted["spec"]["restartPolicy"] = "Never"
    manifest, covering = place.write("web.json", wanted), f"{place.folder}/disk"
    os.mkdir(covering)
    words = ["run", f"--isolation={way.isolation}", manifest, f"{place.folder}/held.json"]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", ON_DISK, covering, *command(0).argv, *words],
        env={"PATH": support.PATH, "TMPDIR": place.folder, **dict(command(0).env)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode in (1, 99) and "podvisor" not in done.stderr:
        pytest.skip(f"cannot mount: {done.stderr}")
    assert done.returncode == 0, done.stderr
    assert TMPFS_MAGIC not in done.stdout
    warning = "web     * warning: there is no tmpfs to write to (XDG_RUNTIME_DIR, /run, /dev/shm)"
    [said] = [line for line in done.stderr.splitlines() if "tmpfs" in line]
    assert said.startswith(warning)
    assert said.endswith(": login, all, scratch")
    for folder in (place.folder, covering):
        assert not [name for name in os.listdir(folder) if name.startswith("podvisor-")]
