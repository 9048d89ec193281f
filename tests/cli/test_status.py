"""`podvisor status`: what it says of a node that runs, of a dead one, and of none."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import time

import anyio
import pytest
import yaml
from msgspec.structs import replace

from supervisor.api import v1
from supervisor.cli import status
from supervisor.cli.run import Output
from supervisor.errors import NodeError
from supervisor.kubelet.statedir import DurableStateDir
from supervisor.lifecycle.facts import HookKind, Instant
from supervisor.lifecycle.hooks import Hook, HookEnd
from supervisor.lifecycle.record import NodePolicy, PodRecord, Running, new_record
from supervisor.store.contract import Change
from supervisor.store.sqlite import SQLiteStore
from tests.support import FOREVER, Durable, Place, as_user, one_way, pod, sh, step

AT = Instant(wall=time.time() - 90, boot=1000.0)
HOOKS = (
    Hook(which=HookKind.POST_START, intended=AT, begun=AT, ended=AT, end=HookEnd.SUCCEEDED),
    Hook(which=HookKind.PRE_STOP, intended=AT, begun=AT),
)


def record(name: str, phase: str, *, hooks: tuple[Hook, ...] = ()) -> PodRecord:
    """Of a pod whose first container runs, for the second time."""
    running = v1.ContainerState(running=v1.ContainerStateRunning(started_at="2026-01-01T00:00:00Z"))
    waiting = v1.ContainerState(waiting=v1.ContainerStateWaiting(reason="CrashLoopBackOff"))
    ended = v1.ContainerState(
        terminated=v1.ContainerStateTerminated(exit_code=3, reason="Error", message="")
    )
    made = new_record(
        v1.Pod(
            metadata=v1.ObjectMeta(name=name, namespace="default", uid=f"u-{name}"),
            spec=v1.PodSpec(
                init_containers=(v1.Container(name="init", command=("x",)),),
                containers=tuple(v1.Container(name=n, command=("x",)) for n in ("app", "other")),
            ),
        ),
        AT,
        NodePolicy(node_name="here"),
    )
    init, app, other = made.containers
    app = replace(app, attempt=1, running=Running(since=AT, pid=7), hooks=hooks)
    return replace(
        made,
        containers=(replace(init, attempt=0), app, other),
        status=v1.PodStatus(
            phase=phase,
            init_container_statuses=(shown("init", ended),),
            container_statuses=(shown("app", running, ready=True), shown("other", waiting)),
        ),
    )


def shown(name: str, state: v1.ContainerState, *, ready: bool = False) -> v1.ContainerStatus:
    return v1.ContainerStatus(
        name=name, state=state, ready=ready, restart_count=0, image="", image_id=""
    )


@pytest.fixture
def dead(tmp_path: pathlib.Path) -> str:
    """The state directory of a node that is gone."""
    path = str(tmp_path / "state")

    async def fill() -> None:
        async with SQLiteStore(state.database) as store:
            for pod in (record("web", "Running", hooks=HOOKS), record("job", "Failed")):
                uid = pod.pod.metadata.uid
                await store.commit(Change(at=AT, uid=uid, record=pod))

    with DurableStateDir(path) as state:
        state.note_command(["podvisor", "serve", "a pod.yaml"], "/srv/my pods")
        anyio.run(fill)
    return path


def say(path: str, capsys: pytest.CaptureFixture[str], output: Output | None = None) -> str:
    with pytest.raises(NodeError) as refused:
        status.command(path, output)
    assert str(refused.value) == (
        f"cannot say more: no node runs on {path}; "
        "start it with: cd '/srv/my pods' && podvisor serve 'a pod.yaml'"
    )
    assert int(refused.value.code) == 4
    return capsys.readouterr().out


def test_of_a_dead_node_what_had_not_ended_is_unknown(
    dead: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *table = say(dead, capsys).splitlines()
    age = re.fullmatch(rf"no node on {dead}, last commit ([0-9.]+) s ago", first)
    assert age is not None
    assert float(age[1]) >= 90
    assert [re.split("  +", line) for line in table] == [
        ["POD", "PHASE", "CONTAINER", "STATE", "RESTARTS", "READY", "OWED"],
        ["default/web", "Unknown", "init", "Error (3)", "0", "no", "-"],
        ["", "app", "running", "1", "no", "preStop"],
        ["", "other", "CrashLoopBackOff", "0", "no", "-"],
        ["default/job", "Failed", "init", "Error (3)", "0", "no", "-"],
        ["", "app", "running", "1", "yes", "-"],
        ["", "other", "CrashLoopBackOff", "0", "no", "-"],
    ]


@pytest.mark.parametrize("output", list(Output))
def test_objects_are_printed_as_stored_but_unknown_and_not_ready(
    dead: str, capsys: pytest.CaptureFixture[str], output: Output
) -> None:
    text = say(dead, capsys, output)
    printed = json.loads(text) if output is Output.JSON else yaml.safe_load(text)
    assert printed["kind"] == "List"
    phases = {o["metadata"]["name"]: o["status"]["phase"] for o in printed["items"]}
    assert phases == {"web": "Unknown", "job": "Failed"}
    assert printed["items"][0]["metadata"]["resourceVersion"]
    ready = [o["status"]["containerStatuses"][0]["ready"] for o in printed["items"]]
    assert ready == [False, True]


def test_where_no_node_has_ever_been_that_is_said(tmp_path: pathlib.Path) -> None:
    with pytest.raises(NodeError, match=f"cannot read {tmp_path}: no node has ever run there"):
        status.command(str(tmp_path), None)
    assert os.listdir(tmp_path) == []


def test_a_place_that_cannot_be_read_is_not_called_one_without_a_node(
    tmp_path: pathlib.Path,
) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(NodeError, match=f"cannot read {file}: Not a directory"):
        status.command(str(file), None)


def test_a_node_that_has_stored_nothing_yet_is_an_error_with_its_name(
    tmp_path: pathlib.Path,
) -> None:
    with DurableStateDir(str(tmp_path)):
        pass
    with pytest.raises(NodeError, match=f"{tmp_path}/podvisor.db"):
        status.command(str(tmp_path), None)


@pytest.mark.usefixtures("nothing_left")
@one_way
def test_a_running_node_and_the_same_node_killed(node: Durable) -> None:
    node.put(
        "pods.json",
        [
            pod("web", step("app", FOREVER), terminationGracePeriodSeconds=3),
            pod("job", sh("job", "exit 3"), restartPolicy="Never"),
        ],
    )
    session = node.serve()
    pid = node.running(session, "web", "app")
    session.until(lambda: node.phase("job") == "Failed", "the end of the job")
    place = node.place
    alive = place.podvisor("status").wait(0, keeps=True)
    lines = alive.out.splitlines()
    head = rf"node, pid {session.pid} on {node.state}, up [0-9.]+ s, last commit [0-9.]+ s ago"
    assert re.fullmatch(head, lines[0])
    assert [re.split("  +", line) for line in lines[-2:]] == [
        ["default/web", "Running", "app", "running", "0", "yes", "-"],
        ["default/job", "Failed", "job", "Error (3)", "0", "no", "-"],
    ]
    session.kill()
    dead = place.podvisor("status").wait(4, keeps=True)
    assert [line.split()[1] for line in dead.out.splitlines()[2:]] == ["Unknown", "Failed"]
    command = f"start it with: cd {place.folder} && podvisor serve"
    assert command in dead.err
    again = place.podvisor("status", "--state-dir", node.state, "-o", "json").wait(4, keeps=True)
    assert {n: p.phase for n, p in again.pods.items()} == {"web": "Unknown", "job": "Failed"}
    with open(f"/proc/{pid}/stat") as file:  # nobody has touched it
        assert file.read().rpartition(")")[2].split()[0] == "S"
    session = node.serve()
    session.until_said(f"taken on again, pid {pid} ")
    session.signal(signal.SIGTERM)
    session.wait(143)


@pytest.mark.usefixtures("nothing_left")
@as_user
def test_reading_needs_no_right_to_write_but_the_right_to_read(place: Place, dead: str) -> None:
    state = f"{place.folder}/state"
    os.rename(dead, state)
    for path in (state, *(f"{state}/{name}" for name in os.listdir(state))):
        os.chown(path, place.way.uid, -1)
        os.chmod(path, 0o500 if path == state else 0o400)
    finished = place.podvisor("status", "--state-dir", state).wait(4)
    assert "default/web  Unknown" in finished.out
    os.chmod(f"{state}/podvisor.db", 0)
    finished = place.podvisor("status", "--state-dir", state).wait(4)
    assert (finished.out, "Permission denied" in finished.err) == ("", True)
    os.chmod(state, 0)
    finished = place.podvisor("status", "--state-dir", state).wait(4)
    assert "Permission denied" in finished.err
