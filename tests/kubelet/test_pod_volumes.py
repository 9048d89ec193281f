"""Pods and their volumes: what waits for them, what is rewritten, who is evicted. Exact times.

The files are real, below tmp_path; the containers are not.
"""

from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from supervisor.api import v1, validation
from supervisor.kubelet.clock import Clock
from supervisor.kubelet.volumes import VolumeManager
from supervisor.kubelet.worker import PodWorker
from supervisor.lifecycle.facts import ContainerId
from supervisor.runtime.cri import Isolation, LaunchSpec, StartError
from supervisor.runtime.env_files import EnvFiles
from supervisor.runtime.mounts import Folders
from supervisor.runtime.spec import Configuration, NodeInfo, launch_spec

from .conftest import Program, World, world

pytestmark = pytest.mark.anyio


class Machine:
    """What pods need to know of it, and the configuration, which may change."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder / "state"
        self.memory = folder / "memory"
        self.folder.mkdir()
        self.private_tmp = False
        self.maps: dict[str, dict[str, bytes]] = {}
        self.secrets: dict[str, dict[str, bytes]] = {}

    @property
    def folders(self) -> Folders:
        return Folders(str(self.folder), str(self.memory) if self.memory.is_dir() else "")

    def __call__(self, pod: v1.Pod) -> NodeInfo:
        secrets = {("shop", name): held for name, held in self.secrets.items()}
        maps = {("shop", name): held for name, held in self.maps.items()}
        return NodeInfo(
            name="here",
            host_ip="127.0.0.1",
            isolation=Isolation.PIDNS,
            state_dir=str(self.folder),
            working_dir="/",
            uid=os.geteuid(),
            gid=os.getegid(),
            groups=(),
            cpu_millis=1000,
            memory=1 << 30,
            configuration=Configuration(config_maps=maps, secrets=secrets),
            private_tmp=self.private_tmp,
            memory_dir=self.folders.memory,
        )

    def volume(self, worker: PodWorker, kind: str) -> pathlib.Path:
        return self.folder / "pods" / worker.pod.metadata.uid / "volumes" / f"kubernetes.io~{kind}"


@pytest.fixture
def machine(tmp_path: pathlib.Path) -> Machine:
    return Machine(tmp_path)


def manager(machine: Machine) -> VolumeManager:
    """Without threads: the clock of these tests jumps while one is waited for."""

    async def here(work: Callable[[], Any]) -> Any:
        return work()

    return VolumeManager(machine, machine.folders, here)


def pod(*volumes: v1.Volume, init: tuple[str, ...] = (), **spec: object) -> v1.Pod:
    def named(name: str) -> v1.Container:
        return v1.Container(name=name, command=(name,))

    made = v1.Pod(
        metadata=v1.ObjectMeta(name="web", namespace="shop"),
        spec=v1.PodSpec(
            containers=(named("app"),),
            init_containers=tuple(map(named, init)),
            volumes=volumes,
            restart_policy="Never",
            **spec,  # type: ignore[arg-type]
        ),
    )
    return validation.with_defaults(made)


def config(name: str = "conf") -> v1.Volume:
    return v1.Volume(name="v", config_map=v1.ConfigMapVolumeSource(name=name))


def events(w: World, reason: str) -> list[str]:
    return [event.message for event in w.seen.recorded if event.reason == reason]


def condition(status: v1.PodStatus, name: str) -> v1.PodCondition:
    return next(c for c in status.conditions if c.type == name)


async def test_nothing_starts_until_all_volumes_are_there(
    fake_clock: Clock, machine: Machine
) -> None:
    """A17, §9.3.1"""
    path = machine.folder / "data"
    source = v1.HostPathVolumeSource(path=str(path), type="Directory")
    wanted = pod(v1.Volume(name="data", host_path=source), config(), init=("first",))
    machine.maps["conf"] = {}
    programs: dict[str, Program | list[Program]] = {"first": Program(runs=1), "app": Program()}
    async with world(fake_clock, programs, volumes=manager(machine)) as w:
        worker = w.node.run_pod(wanted)
        await fake_clock.sleep(6.5)
        status = worker.status
        assert status.phase == "Pending"
        text = f"hostPath type check failed: {path} is not a directory"
        text = f'MountVolume.SetUp failed for volume "data" : {text}'
        assert set(events(w, "FailedMount")) == {text}
        assert condition(status, "PodScheduled").status == "True"
        assert condition(status, "PodReadyToStartContainers").status == "False"
        assert condition(status, "Initialized").status == "False"
        [app] = status.container_statuses
        assert app.state.waiting is not None
        assert app.state.waiting.reason == "PodInitializing"
        assert not w.runtime.times("start", "first")

        path.mkdir()
        await fake_clock.sleep(5)
        # Tried again every other second (§9.3.1).
        assert w.runtime.times("start", "first") == [8.0]
        assert w.runtime.times("start", "app") == [9.0]
        changed = [
            condition(worker.status, name).last_transition_time or ""
            for name in ("PodReadyToStartContainers", "Initialized", "ContainersReady")
        ]
        assert changed == sorted(changed)
        w.runtime.end(next(iter(w.runtime.running)), 0)
        await w.node.wait()
    assert not machine.volume(worker, "configmap").exists()


async def test_a_pod_without_its_config_map_starts_when_that_comes(
    fake_clock: Clock, machine: Machine
) -> None:
    """A17, §9.3.1, §9.3.4"""
    async with world(fake_clock, {"app": Program(runs=1)}, volumes=manager(machine)) as w:
        worker = w.node.run_pod(pod(config()))
        await fake_clock.sleep(0.5)
        assert {c.type: c.status for c in worker.status.conditions} == {
            "PodScheduled": "True",
            "PodReadyToStartContainers": "False",
            "Initialized": "True",  # there is nothing to wait for
            "ContainersReady": "False",
            "Ready": "False",
        }
        text = 'MountVolume.SetUp failed for volume "v" : configmap "conf" not found'
        assert events(w, "FailedMount") == [text]
        machine.maps["conf"] = {"key": b"1"}
        w.node.configuration_changed()
        await fake_clock.sleep(0.1)
        assert w.runtime.times("start", "app") == [0.5]
        assert (machine.volume(worker, "configmap") / "v" / "key").read_bytes() == b"1"
        await w.node.wait()
        over = ("PodReadyToStartContainers", "ContainersReady", "Ready")
        assert {condition(worker.status, name).status for name in over} == {"False"}
        assert condition(worker.status, "Initialized").reason == "PodCompleted"


async def test_what_fails_again_and_again_is_one_event_that_is_counted(
    fake_clock: Clock, machine: Machine
) -> None:
    """§9.3.1, §11.3.1: and no text has a path that is another one at each try."""
    (machine.folder / "file").touch()
    machine.maps["conf"] = {"key": b"1"}
    long = "x" * 300
    source = v1.ConfigMapVolumeSource(name="conf", items=(v1.KeyToPath(key="key", path=long),))
    below = v1.HostPathVolumeSource(path=f"{machine.folder}/file/a")
    wanted = pod(v1.Volume(name="v", config_map=source), v1.Volume(name="data", host_path=below))
    async with world(fake_clock, {"app": Program()}, volumes=manager(machine)) as w:
        worker = w.node.run_pod(wanted)
        await fake_clock.sleep(7)
        told = {
            e.message: e.count
            for e in w.node.events(worker.pod.metadata.uid)
            if e.reason == "FailedMount"
        }
        folder = machine.volume(worker, "configmap") / "v"
        failed = "MountVolume.SetUp failed for volume"
        assert told == {
            f'{failed} "v" : open {folder}/{long}: file name too long': 4,
            f'{failed} "data" : mkdir {machine.folder}/file: not a directory': 4,
        }
        w.node.delete(worker)
        await w.node.wait()


async def test_what_changes_is_rewritten_and_what_vanishes_stays(
    fake_clock: Clock, machine: Machine
) -> None:
    """§9.3.4"""
    machine.maps["conf"] = {"key": b"1"}
    async with world(fake_clock, {"app": Program(runs=10)}, volumes=manager(machine)) as w:
        worker = w.node.run_pod(pod(config()))
        await fake_clock.sleep(1)
        file = machine.volume(worker, "configmap") / "v" / "key"
        data = file.parent / "..data"
        first = os.readlink(data)
        w.node.configuration_changed()
        await fake_clock.sleep(1)
        assert os.readlink(data) == first
        machine.maps["conf"] = {"key": b"2"}
        w.node.configuration_changed()
        await fake_clock.sleep(1)
        assert file.read_bytes() == b"2"
        del machine.maps["conf"]
        w.node.configuration_changed()
        await fake_clock.sleep(1)
        assert file.read_bytes() == b"2"
        assert len(events(w, "FailedMount")) == 1
        await w.node.wait()
        w.node.configuration_changed()  # nothing is made again of what has gone
        await fake_clock.sleep(1)
        assert not file.parent.exists()


async def test_a_pod_whose_volume_grows_too_large_is_evicted(
    fake_clock: Clock, machine: Machine
) -> None:
    """§9.3.2"""
    source = v1.EmptyDirVolumeSource(size_limit="1Mi")
    async with world(fake_clock, {"app": Program(term=None)}, volumes=manager(machine)) as w:
        worker = w.node.run_pod(pod(v1.Volume(name="v", empty_dir=source)))
        await fake_clock.sleep(15)
        assert worker.status.phase == "Running"
        folder = machine.volume(worker, "empty-dir") / "v"
        (folder / "file").write_bytes(b"x" * (1 << 20) + b"x")
        await w.node.wait()
        message = 'Usage of EmptyDir volume "v" exceeds the limit "1Mi". '
        status = worker.status
        assert (status.phase, status.reason, status.message) == ("Failed", "Evicted", message)
        assert events(w, "Evicted") == [message]
        assert w.runtime.times("TERM", "app") == [20.0]
        assert w.runtime.times("KILL", "app") == [22.0]
        assert not folder.exists()


async def test_an_update_that_comes_late_makes_nothing_again(
    fake_clock: Clock, machine: Machine
) -> None:
    machine.maps["conf"] = {"key": b"1"}
    volumes, wanted = manager(machine), pod(config())
    assert await volumes.set_up(wanted) == ()
    await volumes.tear_down(wanted)
    assert await volumes.update(wanted) == ()
    assert not list(machine.folder.rglob("key"))


def of_secret() -> v1.Pod:
    secret = v1.SecretVolumeSource(secret_name="login")
    source = v1.EmptyDirVolumeSource(medium="Memory", size_limit="1Mi")
    made = pod(v1.Volume(name="v", secret=secret), v1.Volume(name="scratch", empty_dir=source))
    [app] = made.spec.containers
    shown = tuple(v1.VolumeMount(name=v.name, mount_path=f"/{v.name}") for v in made.spec.volumes)
    containers = (replace(app, volume_mounts=shown),)
    spec = replace(made.spec, containers=containers)
    return replace(made, metadata=replace(made.metadata, uid="u-1"), spec=spec)


def held_below(folder: pathlib.Path) -> list[str]:
    return sorted({p.name for p in folder.rglob("*") if not p.is_dir()})


async def test_a_secret_lies_in_memory_only_and_goes_from_there_with_its_pod(
    fake_clock: Clock, machine: Machine
) -> None:
    """§9.3.2"""
    machine.memory.mkdir()
    machine.secrets["login"] = {"password": b"1"}
    volumes, wanted = manager(machine), of_secret()
    assert await volumes.set_up(wanted) == ()
    assert held_below(machine.folder) == []
    assert held_below(machine.memory) == ["password"]
    assert (machine.memory / "pods" / "u-1").stat().st_mode & 0o777 == 0o700
    machine.secrets["login"] = {"token": b"2"}
    assert await volumes.update(wanted) == ()
    assert held_below(machine.memory) == ["token"]
    [scratch] = machine.memory.rglob("scratch")
    (scratch / "file").write_bytes(b"x" * ((1 << 20) + 1))
    assert await volumes.over_limit(wanted) == ("scratch", "1Mi")
    await volumes.tear_down(wanted)
    assert not list((machine.memory / "pods").iterdir())


async def test_a_secret_that_an_earlier_life_has_put_on_the_disk_goes_with_its_pod_too(
    fake_clock: Clock, machine: Machine
) -> None:
    machine.secrets["login"] = {"password": b"1"}
    wanted = of_secret()
    assert await manager(machine).set_up(wanted) == ()
    assert held_below(machine.folder) == ["password"]
    machine.memory.mkdir()
    volumes = manager(machine)
    assert await volumes.set_up(wanted) == ()
    assert held_below(machine.memory) == ["password"]
    await volumes.tear_down(wanted)
    assert held_below(machine.folder) == held_below(machine.memory) == []


async def test_volumes_of_pods_that_nobody_knows_are_removed_from_both_folders(
    fake_clock: Clock, machine: Machine
) -> None:
    machine.memory.mkdir()
    machine.secrets["login"] = {"password": b"1"}
    machine.maps["conf"] = {"key": b"1"}
    volumes, one = manager(machine), of_secret()
    two = replace(config_pod := pod(config()), metadata=replace(config_pod.metadata, uid="u-2"))
    for each in (one, two):
        assert await volumes.set_up(each) == ()
    await volumes.remove_others(frozenset({"u-1", "u-2"}))
    assert held_below(machine.folder) == ["key"]
    assert held_below(machine.memory) == ["password"]
    await volumes.remove_others(frozenset())
    assert held_below(machine.folder) == held_below(machine.memory) == []


async def test_what_has_vanished_from_memory_is_there_again_when_a_container_starts(
    fake_clock: Clock, machine: Machine
) -> None:
    machine.memory.mkdir()
    machine.secrets["login"] = {"password": b"1"}
    volumes, wanted = manager(machine), of_secret()
    assert await volumes.set_up(wanted) == ()
    (machine.folder / "pods" / "u-1").mkdir(parents=True)  # by the runtime
    shutil.rmtree(machine.memory / "pods")
    [app] = wanted.spec.containers
    await volumes.open(
        wanted, launch_spec(wanted, app, ContainerId("u-1", "app", 1), machine(wanted))
    )
    assert held_below(machine.memory) == ["password"]
    assert len(list(machine.memory.rglob("scratch"))) == 1
    shutil.rmtree(machine.memory / "pods")
    machine.secrets.clear()
    spec = launch_spec(wanted, app, ContainerId("u-1", "app", 2), machine(wanted))
    with pytest.raises(StartError) as caught:
        await volumes.open(wanted, spec)
    assert caught.value.message == 'secret "login" not found'


async def test_a_deletion_does_not_wait_for_volumes(fake_clock: Clock, machine: Machine) -> None:
    """§9.3.1"""
    async with world(fake_clock, {"app": Program()}, volumes=manager(machine)) as w:
        worker = w.node.run_pod(pod(config()))
        await fake_clock.sleep(0.5)
        w.node.delete(worker)
        with anyio.fail_after(5):
            await w.node.wait()
        assert not w.runtime.times("start", "app")


async def test_mounts_are_told_in_the_status(fake_clock: Clock, machine: Machine) -> None:
    """§9.3.6"""
    wanted = pod(v1.Volume(name="v"))
    mounts = (
        v1.VolumeMount(name="v", mount_path="/a"),
        v1.VolumeMount(name="v", mount_path="/b", read_only=True),
    )
    [app] = wanted.spec.containers
    spec = replace(wanted.spec, containers=(replace(app, volume_mounts=mounts),))
    async with world(fake_clock, {"app": Program(runs=1)}, volumes=manager(machine)) as w:
        worker = w.node.run_pod(replace(wanted, spec=spec))
        await w.node.wait()
        assert worker.status.container_statuses[0].volume_mounts == (
            v1.VolumeMountStatus(name="v", mount_path="/a"),
            v1.VolumeMountStatus(
                name="v", mount_path="/b", read_only=True, recursive_read_only="Disabled"
            ),
        )


async def test_a_container_waits_for_its_env_file_and_starts_when_that_says_it(
    fake_clock: Clock, machine: Machine
) -> None:
    """H17, H19, §9.1.4: read anew at each start, and tried again like all configuration."""
    ref = v1.FileKeySelector(volume_name="v", path="app.env", key="K")
    variable = v1.EnvVar(name="A", value_from=v1.EnvVarSource(file_key_ref=ref))
    made = pod(v1.Volume(name="v", empty_dir=v1.EmptyDirVolumeSource()))
    app = replace(made.spec.containers[0], env=(variable,))
    made = replace(made, spec=replace(made.spec, containers=(app,), restart_policy="Always"))
    seen: list[str] = []

    def make_spec(
        pod: v1.Pod,
        container: v1.Container,
        id: ContainerId,
        files: EnvFiles | None,
        *,
        runs: bool = False,
    ) -> LaunchSpec:
        launched = launch_spec(pod, container, id, machine(pod), files)
        seen.append(dict(launched.env)["A"])
        return launched

    programs: dict[str, Program | list[Program]] = {"app": [Program(runs=5, code=1), Program()]}
    async with world(fake_clock, programs, volumes=manager(machine), make_spec=make_spec) as w:
        worker = w.node.run_pod(made)
        await fake_clock.sleep(1)
        file = machine.volume(worker, "empty-dir") / "v" / "app.env"
        [status] = worker.status.container_statuses
        assert status.state.waiting is not None
        assert status.state.waiting.reason == "CreateContainerConfigError"
        said = f'failed to open environment variable file "{file}": no such file or directory'
        assert status.state.waiting.message == f"couldn't parse env file: {said}"
        file.write_bytes(b"K='1'\n")
        await fake_clock.sleep(10)
        assert seen == ["1"]
        assert worker.status.phase == "Running"
        file.write_bytes(b"K='2'\n")
        await fake_clock.sleep(20)
        assert seen == ["1", "2"]
        assert file.exists()
        w.node.delete_all()
        await w.node.wait()
        assert not file.parent.exists()


async def test_an_instance_with_a_tmp_of_its_own_takes_away_that_of_the_one_before(
    machine: Machine,
) -> None:
    wanted = replace(pod(), metadata=v1.ObjectMeta(name="web", namespace="shop", uid="u-1"))
    machine.private_tmp = True
    volumes = manager(machine)
    for attempt in range(3):
        id = ContainerId("u-1", "app", attempt)
        await volumes.open(
            wanted, launch_spec(wanted, wanted.spec.containers[0], id, machine(wanted))
        )
        (machine.folder / f"pods/u-1/containers/app/{attempt}/tmp/file").touch()
    left = machine.folder.glob("pods/u-1/containers/app/*/tmp/*")
    assert [path.parts[-3:-1] for path in left] == [("2", "tmp")]
