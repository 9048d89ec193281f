"""No process outlives its container, no container outlives podvisor, however either ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess

import pytest

from supervisor.runtime.cri import Isolation
from tests import support
from tests.support import (
    FOREVER,
    IS_ROOT,
    NOBODY,
    USER,
    WAYS,
    Manifest,
    Place,
    Session,
    as_user,
    identity,
    one_way,
    pod,
    sh,
    sidecar,
    step,
)

pytestmark = pytest.mark.usefixtures("nothing_left")

NEVER = {"restartPolicy": "Never"}
# All of them hold the lock while they live. They hide: deaf, orphaned, in sessions of their own.
_TREE = """
exec 9>lock; flock 9
sh -c "trap '' TERM HUP INT; echo deaf >>tree; while :; do sleep 1000; done" &
(setsid sh -c 'echo session >>tree; sleep 1000' &)
(sh -c '(sleep 1000 & echo orphan >>tree) &' &)
setsid sh -c "trap '' TERM; (setsid sleep 1000 & echo deep >>tree) & sleep 1000" &
while [ $(wc -l <tree) -lt 4 ]; do sleep 0.01; done
"""
LOOK = "flock --nonblock lock echo gone || echo alive"


def tree(name: str, then: str) -> Manifest:
    return sh(name, f": >tree; {_TREE} {then}")


# --- a container ends ----------------------------------------------------------------------------


def test_every_process_is_gone_before_the_end_of_its_main_is_reported(place: Place):
    # The app is started when the init container is reported to have ended.
    web = pod("web", sh("app", LOOK), init=(tree("init", "exit 0"),), **NEVER)
    # A next attempt is started when the one before is reported to have ended.
    again = sh("app", f"if [ -e tree ]; then {LOOK}; else : >tree; {_TREE} exit 1; fi")
    again = pod("again", again, restartPolicy="OnFailure")
    pods = place.run(web, again, "-o", "json", code=0).pods

    assert pods["web"].lines("app") == ["gone"]
    assert pods["again"].lines("app") == ["gone"]
    assert pods["again"].containers["app"]["restartCount"] == 1


def test_every_process_is_gone_when_a_main_is_killed_from_outside(place: Place):
    script = f"if [ -e tree ]; then {LOOK}; else : >tree; {_TREE} touch ready; sleep 1000; fi"
    session = place.start(pod("web", sh("app", script), restartPolicy="OnFailure"), "-o", "json")
    session.until(lambda: os.path.exists(f"{place.folder}/web/ready"), "the tree")
    os.kill(main_of(session), signal.SIGKILL)
    web = session.wait(0).pods["web"]

    assert web.lines("app") == ["gone"]
    assert web.containers["app"]["lastState"]["terminated"]["exitCode"] == 137


def main_of(session: Session) -> int:
    """The host's pid of the only container's main process."""
    (launcher,) = kids(session.pid)
    (main,) = [pid for pid in kids(launcher) if comm(pid) != "podvisor-logger"]
    if comm(main) == "podvisor-reaper":
        (main,) = [pid for pid in kids(main) if os.getsid(pid) == pid and is_first(pid)]
    return main


def is_first(pid: int) -> bool:
    with open(f"/proc/{pid}/cmdline") as file:
        return "touch ready" in file.read()


def kids(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


def comm(pid: int) -> str:
    with open(f"/proc/{pid}/comm") as file:
        return file.read().strip()


def test_deleting_a_pod_leaves_nothing_of_its_trees(place: Place):
    spec = {"terminationGracePeriodSeconds": 1, **NEVER}
    session = place.start(
        pod("web", tree("app", "echo up; sleep 1000"), init=(sidecar(step("side", 1000)),), **spec),
        "-o",
        "json",
    )
    session.until_said("| up")
    session.signal(signal.SIGTERM)
    web = session.wait(143).pods["web"]  # looks at what is left

    done = subprocess.run(
        ["sh", "-c", LOOK], cwd=web.folder, capture_output=True, text=True, check=True
    )
    assert done.stdout == "gone\n"


# --- podvisor ends -------------------------------------------------------------------------------


def test_podvisor_killed_with_9_leaves_no_process_and_its_folder_is_swept(place: Place):
    web = pod("web", tree("app", "echo up; sleep 1000"), init=(sidecar(step("side", 1000)),))
    session = place.start(web)
    session.until_logged("| up")
    session.signal(signal.SIGKILL)
    session.wait(-signal.SIGKILL, leaves=True)  # waits until no process is left

    (base,) = os.listdir(session.tmp)
    (left,) = os.listdir(f"{session.tmp}/{base}")
    assert left.startswith("node-")
    later = place.run(pod("later", sh("app", "exit 0"), **NEVER), code=0)
    assert "Succeeded" in later.err  # and its end has found the temporary folder empty


def test_the_folder_of_a_living_node_is_not_swept(place: Place):
    script = "trap 'echo words >${PODVISOR_TERMINATION_LOG:-/dev/termination-log}; exit 3' TERM; "
    script += "echo up; while :; do sleep 0.05; done"
    session = place.start(pod("web", sh("app", script)), "-o", "json")
    session.until_said("| up")
    place.start(pod("later", sh("app", "exit 0"), **NEVER)).wait(0, leaves=True)
    session.signal(signal.SIGTERM)

    assert session.wait(143).pods["web"].message("app") == "words\n"


@one_way
def test_a_launcher_that_dies_ends_the_run_with_the_reason(place: Place):
    session = place.start(pod("web", step("app", FOREVER)), "-o", "json")
    session.until(lambda: session.steps("web"), "the container")
    (launcher,) = kids(session.pid)
    os.kill(launcher, signal.SIGKILL)
    finished = session.wait(4)

    assert "cannot reach the launcher any more" in finished.err
    assert finished.pods["web"].end("app") == ("ContainerStatusUnknown", 137)


# --- the ways to run -----------------------------------------------------------------------------


def test_no_way_that_the_machine_offers_is_left_out():
    """What the other tests skip is measured without podvisor's own judgement."""
    tool = shutil.which("unshare")
    if tool is None:
        pytest.skip("no unshare(1) to ask")
    base = [tool, "--mount", "--pid", "--fork", "--mount-proc"]
    asked = {
        Isolation.PIDNS: base,
        Isolation.PIDNS_ROOTLESS: [*base, "--map-current-user"],
        Isolation.GROUP: [],
    }
    for way in WAYS:
        try:
            support.command(way.uid)
        except support.CannotRunError:
            continue  # this user cannot be had here: see its reason
        able = subprocess.run(
            [*asked[way.isolation], "true"], capture_output=True, check=False, **identity(way.uid)
        )
        if able.returncode == 0:
            assert support.obstacle(way) is None, f"{way} works here, and is skipped"


def test_root_is_tested_as_an_unprivileged_user_too():
    assert USER != 0
    if IS_ROOT:
        assert {way.uid for way in WAYS} == {0, NOBODY}


@as_user
def test_a_user_who_asks_for_roots_namespaces_is_refused_with_the_step(place: Place):
    path = place.write("web/pod.json", pod("web", step("app"), **NEVER))
    finished = place.podvisor("run", "--isolation=pidns", path).wait(4)

    assert "cannot run containers on this machine (pidns: cannot " in finished.err
    assert not os.path.exists(f"{place.folder}/web/steps")
