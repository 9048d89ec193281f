"""The events of a pod of real processes. `podvisor run` shows warnings only, so a node is asked."""

from __future__ import annotations

import os

import anyio
import pytest
from msgspec.structs import replace

from supervisor.api import v1, validation
from supervisor.cli.foreground import node_info
from supervisor.kubelet.node import Node
from supervisor.kubelet.volumes import VolumeManager
from supervisor.lifecycle.facts import ContainerId
from supervisor.lifecycle.record import NodePolicy
from supervisor.runtime import spec
from supervisor.runtime.cri import LaunchSpec
from supervisor.runtime.env_files import EnvFiles
from supervisor.runtime.launch import ProcessRuntime, spawn_launcher
from tests.support import PATH, Manifest, Place, Way, container, one_way, pod

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.anyio, one_way]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"use_uvloop": True}


async def events_of(manifest: Manifest, way: Way, folder: str) -> list[tuple[str, str, str]]:
    """(reason, field path, message) of each event, in order."""
    admitted, problems = validation.admit(manifest)
    assert admitted is not None
    assert not problems
    launcher = spawn_launcher(way.isolation.value)
    async with ProcessRuntime(launcher, folder) as runtime:
        info = replace(node_info(runtime.isolation, folder), environ=(("PATH", PATH),))

        def make_spec(
            pod: v1.Pod,
            container: v1.Container,
            id: ContainerId,
            files: EnvFiles | None,
            *,
            runs: bool,
        ) -> LaunchSpec:
            return spec.launch_spec(pod, container, id, info)

        volumes = VolumeManager(lambda _: info, info.folders)
        policy = NodePolicy(node_name="here")
        async with Node(runtime, make_spec, policy=policy, volumes=volumes) as node:
            node.run_pod(admitted)
            with anyio.fail_after(60):
                await node.wait()
            events = node.events()
    return [(e.reason, e.involved_object.field_path, e.message) for e in events]


async def test_the_happy_path_yields_pulled_created_started_for_each_container(
    place: Place, way: Way
):
    """[I07]"""
    manifest = pod(
        "web",
        container("app", "true"),
        init=(container("prepare", "true"),),
        restartPolicy="Never",
    )
    events = await events_of(manifest, way, place.folder)
    os.rmdir(f"{place.folder}/pods")

    assert [event[:2] for event in events if event[0] != "Scheduled"] == [
        (reason, f"spec.{field}")
        for field in ("initContainers{prepare}", "containers{app}")
        for reason in ("Pulled", "Created", "Started")
    ]


async def test_a_command_that_is_not_found_has_its_event(place: Place, way: Way):
    manifest = pod("web", container("app", "no-such-program"), restartPolicy="Never")
    events = await events_of(manifest, way, place.folder)

    assert [event[0] for event in events if event[0] != "Scheduled"] == [
        "Pulled",
        "Created",
        "Failed",
    ]
    reason, path, message = events[-1]
    assert (reason, path) == ("Failed", "spec.containers{app}")
    assert 'exec: "no-such-program": executable file not found in $PATH' in message
