"""What `pods/NAME/log` shows: which instance, which lines, and until when."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from supervisor.apiserver import logs
from supervisor.lifecycle.facts import ContainerId
from supervisor.runtime.spec import log_path
from tests.apiserver.served import Served, edit, served
from tests.runtime.conftest import _warm_loops, nothing_left

__all__ = ["_warm_loops", "nothing_left"]
pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("nothing_left")]

LOG = "/api/v1/namespaces/default/pods/web/log"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def api(nothing_left: None) -> AsyncIterator[Served]:
    async with served() as api:
        yield api


def id_of(name: str, attempt: int) -> str:
    return f"podvisor://uid-web/{name}/{attempt}"


def running(name: str = "app", attempt: int = 0) -> dict[str, Any]:
    last = {"terminated": {"containerID": id_of(name, attempt - 1)}} if attempt else {}
    return {
        "name": name,
        "state": {"running": {}},
        "lastState": last,
        "containerID": id_of(name, attempt),
    }


def ended(name: str = "app", attempt: int = 0) -> dict[str, Any]:
    state = {"terminated": {"containerID": id_of(name, attempt), "exitCode": 0}}
    return {"name": name, "state": state, "containerID": id_of(name, attempt)}


def backing_off(name: str = "app", attempt: int = 0) -> dict[str, Any]:
    return {
        "name": name,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"containerID": id_of(name, attempt)}},
        "containerID": id_of(name, attempt),
    }


async def pod(api: Served, *statuses: dict[str, Any], init: tuple[str, ...] = ()) -> None:
    names = [status["name"] for status in statuses if status["name"] not in init]
    body = {
        "kind": "Pod",
        "apiVersion": "v1",
        "spec": {
            "containers": [{"name": name} for name in names],
            "initContainers": [{"name": name} for name in init],
        },
        "status": {"containerStatuses": list(statuses)},
    }
    await api.store.edit(edit("pods", "web", body))
    api.logs.grown()


def write(api: Served, *lines: str, name: str = "app", attempt: int = 0, rotated: str = "") -> None:
    """Records of the log: seconds of their time, stream, tag, text."""
    path = log_path(api.folder, "default", "web", ContainerId("uid-web", name, attempt)) + rotated
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "a") as file:
        for line in lines:
            second, _, rest = line.partition(" ")
            file.write(f"2026-01-02T03:04:{second}.123456789Z {rest}\n")
    api.logs.grown()


WHOLE = "one\ntwo\nlong line\nfour\n"


def write_all(api: Served) -> None:
    write(api, "01 stdout F one", rotated=".20260102-030401")
    write(api, "02 stderr F two", "03 stdout P long ", "03 stdout F line", "04 stdout F four")


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", WHOLE),
        ("container=app&pretty=true", WHOLE),
        ("tailLines=1", "four\n"),
        ("tailLines=3", "long line\nfour\n"),
        ("tailLines=5", WHOLE),
        ("tailLines=0", ""),
        ("tailLines=100&limitBytes=6", "one\ntw"),
        ("sinceTime=2026-01-02T03:04:03Z", "long line\nfour\n"),
        ("sinceTime=2026-01-02T04:04:04%2B01:00", "four\n"),
        ("sinceSeconds=1", ""),
        ("sinceSeconds=999999999999", WHOLE),
        ("stream=Stderr", "two\n"),
        ("tailLines=1&timestamps=true", "2026-01-02T03:04:04.123456789Z four\n"),
    ],
)
async def test_a_log_is_shown_as_far_as_it_is_asked_for(api: Served, query: str, text: str) -> None:
    await pod(api, running())
    write_all(api)
    reply = await api.ask(f"{LOG}?{query}")
    assert (reply.code, reply.headers["Content-Type"]) == (200, "text/plain")
    assert reply.text == text


@pytest.mark.parametrize(
    ("query", "code", "message"),
    [
        ("", 400, "a container name must be specified for pod web, choose one of: [app side] or "
                  "one of the init containers: [prepare]"),
        ("container=zz", 400, "container zz is not valid for pod web"),
        ("container=app&previous=true", 400,
         'previous terminated container "app" in pod "web" not found'),
        ("container=side", 400,
         'container "side" in pod "web" is waiting to start: PodInitializing'),
        ("container=prepare", 400, 'container "prepare" in pod "web" is not available'),
        ("container=app&tailLines=-1", 422, 'PodLogOptions "web" is invalid: tailLines: Invalid '
                                            "value: -1: must be greater than or equal to 0"),
        ("container=app&sinceTime=2026-01-01T00:00:00Z&sinceSeconds=1", 422,
         'PodLogOptions "web" is invalid: sinceSeconds: Forbidden: at most one of `sinceTime` or '
         "`sinceSeconds` may be specified"),
    ],
)  # fmt: skip
async def test_a_log_that_cannot_be_shown_is_refused_in_the_kubelets_words(
    api: Served, query: str, code: int, message: str
) -> None:
    """§8.8, §8.9: which instance there is."""
    waiting = {"name": "side", "state": {"waiting": {"reason": "PodInitializing"}}}
    await pod(api, running(), waiting, init=("prepare",))
    reply = await api.ask(f"{LOG}?{query}")
    assert (reply.code, reply.refusal[2]) == (code, message)


@pytest.mark.parametrize(
    ("status", "query", "text"),
    [
        (running(attempt=1), "", "second\n"),
        (running(attempt=1), "previous=true", "first\n"),
        (ended(attempt=1), "", "second\n"),
        (backing_off(attempt=1), "", "second\n"),
        (backing_off(attempt=1), "previous=true", "second\n"),
        (backing_off(attempt=1), "follow=true", "second\n"),
    ],
)
async def test_the_newest_instance_is_shown_or_the_one_before(
    api: Served, status: dict[str, Any], query: str, text: str
) -> None:
    """§8.8, §8.9."""
    write(api, "01 stdout F first")
    write(api, "02 stdout F second", attempt=1)
    await pod(api, status)
    assert (await api.ask(f"{LOG}?{query}")).text == text


async def test_following_goes_on_across_rotations_and_ends_with_the_instance(api: Served) -> None:
    """§8.6, §8.10."""
    await pod(api, running())
    write(api, "01 stdout F one", "02 stdout F two")
    async with api.client.get(f"{api.base}{LOG}?follow=true&tailLines=1") as response:
        assert await response.content.readline() == b"two\n"
        path = log_path(api.folder, "default", "web", ContainerId("uid-web", "app", 0))
        write(api, "03 stdout F three")
        assert await response.content.readline() == b"three\n"
        write(api, "04 stdout F four")
        os.rename(path, f"{path}.20260102-030405")
        write(api, "05 stdout F five", "06 stdout P last")
        assert await response.content.readline() == b"four\n"
        assert await response.content.readline() == b"five\n"
        write(api, "01 stdout F of the next", attempt=1)
        await pod(api, running(attempt=1))
        assert await response.content.read() == b"last"


@pytest.mark.parametrize(
    ("query", "cut"),
    [
        ("", "cut"),
        ("&timestamps=true", "2026-01-02T03:04:02.123456789Z cut"),
        ("&stream=Stdout", "cut"),
    ],
)
async def test_who_reads_slower_than_files_are_rotated_away_is_told_of_the_gap(
    api: Served, query: str, cut: str
) -> None:
    """In its place: behind what was still read, of which the last line is cut off."""
    await pod(api, running())
    write(api, "01 stdout F one")
    path = log_path(api.folder, "default", "web", ContainerId("uid-web", "app", 0))
    async with api.client.get(f"{api.base}{LOG}?follow=true{query}") as response:
        assert (await response.content.readline()).endswith(b"one\n")
        # Nobody else has a turn in between.
        write(api, "02 stdout P cut")
        os.rename(path, f"{path}.20260102-030401")
        write(api, "03 stdout F lost", rotated=".20260102-030402")
        for stamp in ("01", "02"):
            os.remove(f"{path}.20260102-0304{stamp}")
        write(api, "04 stdout F four")
        assert await response.content.readline() == f"{cut}\n".encode()
        told = (await response.content.readline()).decode()
        assert told.endswith(logs.GAP.decode())
        assert bool(re.match(r"\d{4}-\d\d-\d\dT\S+Z podvisor: ", told)) == ("timestamps" in query)
        assert (await response.content.readline()).endswith(b"four\n")


async def test_following_ends_with_its_pod_and_with_its_client(api: Served) -> None:
    await pod(api, running())
    write(api, "01 stdout F one")
    async with api.client.get(f"{api.base}{LOG}?follow=true") as response:
        assert await response.content.readline() == b"one\n"
        await api.store.edit(edit("pods", "web", None))
        api.logs.grown()
        assert await response.content.read() == b""
    await pod(api, running())
    async with api.client.get(f"{api.base}{LOG}?follow=true") as response:
        assert await response.content.readline() == b"one\n"
    # That nothing is left of it, the fixture sees.


@pytest.mark.parametrize("protocol", ["binary.k8s.io", "base64.binary.k8s.io"])
async def test_a_log_comes_over_a_websocket_too(api: Served, protocol: str) -> None:
    await pod(api, ended())
    write_all(api)
    url = f"{api.base}{LOG}?follow=true"
    received = b""
    async with api.client.ws_connect(url, protocols=(protocol,)) as socket:
        assert socket.protocol == protocol
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                received += base64.b64decode(message.data)
            else:
                received += message.data
    assert received.decode() == WHOLE


async def test_what_is_read_while_it_is_rotated_comes_once(api: Served) -> None:
    await pod(api, running())
    lines = [f"{number:02} stdout F {number}" for number in range(40)]
    for start in range(0, 40, 10):
        write(api, *lines[start : start + 10], rotated=f".20260102-0304{start:02}")
    found = await api.ask(f"{LOG}?tailLines=25")
    assert re.findall(r"\d+", found.text) == [str(number) for number in range(15, 40)]
