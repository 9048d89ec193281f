"""What cannot be meant is refused in words of our own, at once, and does no harm to the node."""

from __future__ import annotations

import functools
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import pytest

from supervisor import ManifestError, PodHandle, PodTimeout, Supervisor, UsageError
from supervisor.api import v1
from tests.embed.conftest import Make
from tests.embed.test_embed import PATIENT, one_way, said
from tests.runtime.nodes import Way

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"isolation": "none"}, "cannot use isolation 'none': auto, group, pidns, pidns-rootless"),
        ({"env": {"A=B": "x"}}, "cannot set variable 'A=B'"),
        ({"env": {"": "x"}}, "cannot set variable ''"),
        ({"env": {"A": "x\0"}}, "cannot set variable 'A'"),
        ({"env": {"A": 5}}, "cannot set variable 'A' to 5: both must be str"),
        ({"pass_env": "HOME"}, "cannot use 'HOME' as pass_env: it must be a list of words"),
        ({"images": {"web": "web --port 80"}}, "cannot use 'web --port 80' as the command of"),
        ({"images": {"web": ["web", 80]}}, "cannot use 80 in the command of image web"),
        ({"grace_period": -1}, "cannot give -1 of grace"),
        ({"grace_period": math.nan}, "cannot give nan of grace"),
        ({"backoff_initial": 0}, "cannot wait 0 before a restart"),
        ({"backoff_max": math.inf}, "cannot wait inf before a restart"),
        ({"backoff_max": "5"}, "cannot wait '5'"),
    ],
)
def test_options_of_a_node_are_looked_at_when_it_is_made(
    options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError) as told:
        Supervisor(**options)
    assert str(told.value).startswith(said)


def _cycle() -> Mapping[str, object]:
    manifest: dict[str, object] = {}
    manifest["metadata"] = manifest
    return manifest


def _deep() -> Mapping[str, object]:
    deepest: dict[str, object] = {}
    return functools.reduce(lambda inner, _: {"spec": inner}, range(100_000), deepest)


@pytest.mark.parametrize(
    ("source", "error", "said"),
    [
        (b"sleep 1", UsageError, "cannot use b'sleep 1' as a command"),
        ([], UsageError, "cannot run a command: it has no words"),
        ([""], UsageError, "cannot run a command: it has no words"),
        (["sleep", 1], UsageError, "cannot use 1 in a command: it must be a str"),
        (["echo", "\ud800"], ManifestError, "cannot read this as a manifest: 'utf-8'"),
        ("kind: Pod\n# \ud800", ManifestError, "cannot read manifest: 'utf-8'"),
        ("pod\0.yaml", ManifestError, "cannot read 'pod\\x00.yaml'"),
        (_cycle(), ManifestError, "cannot read this as a manifest: it contains itself"),
        (_deep(), ManifestError, "cannot read this as a manifest: it contains itself, or is too"),
        ({"kind": object()}, ManifestError, "cannot read this as a manifest: Encoding objects"),
        ({1, 2}, UsageError, "cannot run this: not a path"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_is_no_manifest_is_refused(
    make: Make, way: Way, source: Any, error: type[Exception], said: str
) -> None:
    one_way(way)
    async with make() as node:
        with pytest.raises(error) as told:
            await node.run(source)
        assert str(told.value).startswith(said)
        assert node.pods() == ()


async def test_a_variable_that_can_be_none_is_refused_for_a_command(make: Make, way: Way) -> None:
    one_way(way)
    async with make() as node:
        with pytest.raises(UsageError, match="cannot set variable 'A=B'"):
            await node.run(["env"], env={"A=B": "x"})


Asked = Callable[[PodHandle], Awaitable[object]]


async def _never(_: v1.PodStatus) -> bool:
    return False


_ASKED: Sequence[tuple[Asked, str]] = [
    (lambda pod: pod.wait(math.nan), "cannot wait nan: it must be a number of seconds, or None"),
    (lambda pod: pod.wait_ready("5"), "cannot wait '5'"),  # type: ignore[arg-type]
    (lambda pod: pod.wait_for("Ready=yes"), "cannot wait for 'Ready=yes': a condition is True"),
    (lambda pod: pod.wait_for(None), "cannot wait for this"),  # type: ignore[arg-type]
    (lambda pod: pod.wait_for(_never), "cannot wait for this"),  # type: ignore[arg-type]
    (lambda pod: pod.exec("", []), "cannot run a program: it has no words"),
    (lambda pod: pod.exec("", "echo hi"), "cannot use 'echo hi' as a program"),
    (lambda pod: pod.exec("", ["true"], timeout=math.nan), "cannot wait nan"),
    (lambda pod: pod.signal("", "TERMX"), "cannot send signal 'TERMX': there is none"),
    (lambda pod: pod.signal("", 999), "cannot send signal 999"),
    (lambda pod: pod.signal("", -1), "cannot send signal -1"),
    (lambda pod: pod.set_condition("a=b", True), "cannot set condition 'a=b'"),
    (lambda pod: pod.set_condition("", True), "cannot set condition ''"),
    (lambda pod: pod.set_condition("a", "1"), "cannot set condition a to '1': a condition is"),
    (lambda pod: pod.terminate(-5), "cannot give -5 of grace"),
    (lambda pod: pod.terminate(math.nan), "cannot give nan of grace"),  # type: ignore[arg-type]
    (lambda pod: pod.terminate("3"), "cannot give '3' of grace"),  # type: ignore[arg-type]
]


async def test_what_cannot_be_asked_of_a_pod_is_refused_and_changes_nothing(
    make: Make, way: Way
) -> None:
    one_way(way)
    async with make() as node:
        pod = await node.run(["sh", "-c", PATIENT])
        await said(pod, "up")
        for ask, words in _ASKED:
            with pytest.raises(UsageError) as told:
                await ask(pod)
            assert str(told.value).startswith(words)
        assert (await pod.terminate(5)).exit_code == 3


async def test_names_may_be_said_as_kill_and_kubectl_take_them(make: Make, way: Way) -> None:
    one_way(way)
    async with make() as node:
        pod = await node.run(["sh", "-c", f"trap 'echo usr' USR1; {PATIENT}"])
        await pod.wait_for("Ready=true")
        await said(pod, "up")
        await pod.signal("", "usr1")
        await said(pod, "usr")
        with pytest.raises(PodTimeout, match="no end within 0 s"):
            await pod.wait(timeout=-1)
