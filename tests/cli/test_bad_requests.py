"""Thousands of requests that make no sense, to a real node: each is answered or ends, none costs
it anything. A bug of its own would be its exit code."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal

import pytest

from tests.support import Durable, one_way, pod, sh

pytestmark = pytest.mark.usefixtures("nothing_left")

REQUESTS = 3000
AT_ONCE = 40
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
NAMED = "/api/v1/namespaces/default"
PATHS = (
    "/",
    "/api",
    "/api/v1",
    "/version",
    "/readyz",
    "/openapi/v2",
    "/openapi/v3/api/v1",
    "/apis/apps/v1/deployments",
    "/apis/metrics.k8s.io/v1beta1/nodes",
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    "/apis/authentication.k8s.io/v1/tokenreviews",
    "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/podvisor",
    "/api/v1/namespaces/other",
    "/api/v1/nodes/podvisor/status",
    "/podvisor/v1/namespaces/default/pods/web",
    *(
        f"{NAMED}/{rest}"
        for rest in (
            "pods",
            "pods/web",
            "pods/web/status",
            "pods/web/log",
            "pods/web/eviction",
            "pods/web/binding",
            "pods/web/ephemeralcontainers",
            "configmaps",
            "configmaps/a",
            "secrets",
            "events",
            "services/kubernetes",
            "serviceaccounts/default",
        )
    ),
)
QUERIES = (
    "",
    "limit=-1",
    "limit=1",
    "continue=e30",
    "continue=%00",
    "resourceVersion=1&resourceVersionMatch=Exact",
    "watch=1&resourceVersion=99999",
    "watch=yes",
    "fieldSelector=a",
    "labelSelector=a%20in%20(",
    "dryRun=All",
    "dryRun=",
    "fieldManager=x&force=true",
    "fieldManager=%FF%00",
    "fieldValidation=Strict",
    "pretty=1",
    "tailLines=-1",
    "sinceTime=x",
    "sinceSeconds=99999999999999999",
    "gracePeriodSeconds=-5",
    "propagationPolicy=x",
    "container=" + "x" * 5000,
)
TYPES = (
    "application/json",
    "application/yaml",
    "application/merge-patch+json",
    "application/json-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "application/vnd.kubernetes.protobuf",
    "x",
)
BODIES = (
    b"",
    b"{}",
    b"null",
    b"[1]",
    b"[" * 3000,
    b'{"a":' * 300 + b"1" + b"}" * 300,
    b'{"metadata":{"name":"a"}}',
    b'{"metadata":{"name":"../../a"}}',
    b'{"metadata":{"name":5,"labels":[]},"data":{"a":1}}',
    b'{"metadata":null,"spec":[],"kind":3}',
    b'{"metadata":{"resourceVersion":[],"finalizers":"x","ownerReferences":{}}}',
    b'{"metadata":{"managedFields":[{"fieldsV1":{"f:a":3}},5]}}',
    b'{"spec":{"containers":[{"name":{}}]}}',
    b'{"spec":{"containers":{"$patch":"delete"}}}',
    b'{"spec":{"$retainKeys":[1]},"status":{"conditions":[[]]}}',
    b'[{"op":"add","path":"/data","value":{}}]',
    b'[{"op":"copy","from":"","path":"/metadata/annotations/a"},{"op":"test"}]',
    b'{"deleteOptions":5,"preconditions":[]}',
    b'{"gracePeriodSeconds":"x","dryRun":"All"}',
    b'{"spec":{"ephemeralContainers":[{"name":"web"}]}}',
    b"k8s\0\x0a\x04\x0a\x02v1",
    b"k8s\0" + b"\xff" * 200,
    b"a: &a [*a]",
    b"a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]",
    "metadata: {name: \N{SNOWMAN}}".encode(),
)


def request_of(dice: random.Random) -> tuple[bytes, bool]:
    """The bytes of a request, and whether they are one."""
    body, query = dice.choice(BODIES), dice.choice(QUERIES)
    lines = [
        f"{dice.choice(METHODS)} {dice.choice(PATHS)}{'?' if query else ''}{query} HTTP/1.1",
        "Host: localhost",
        f"Content-Type: {dice.choice(TYPES)}",
        f"Accept: {dice.choice(('application/json', '*/*', 'x/y', 'application/json;as=Table'))}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    raw = "\r\n".join([*lines, "", ""]).encode() + body
    if dice.random() < 0.7:
        return raw, True
    broken = bytearray(raw)
    for _ in range(dice.randint(1, 6)):
        place = dice.randrange(len(broken) or 1)
        match dice.randrange(4):
            case 0:
                broken[place : place + 1] = dice.randbytes(1)
            case 1:
                del broken[place : place + dice.randint(1, 8)]
            case 2:
                broken[place:place] = dice.randbytes(dice.randint(1, 8))
            case 3:
                del broken[place:]
    return bytes(broken), False


async def answers(path: str, requests: list[tuple[bytes, bool]]) -> list[tuple[bytes, bytes]]:
    """What was answered to each, as far as it was; who sends no request soon hangs up."""
    found: list[tuple[bytes, bytes]] = []

    async def ask(raw: bytes, *, is_one: bool) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        answer = b""
        try:
            writer.write(raw)
            async with asyncio.timeout(20 if is_one else 0.05):
                answer = await reader.read()
        except (TimeoutError, ConnectionError):
            assert not is_one or b"watch=" in raw, raw
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        found.append((raw, answer))

    async def some(mine: list[tuple[bytes, bool]]) -> None:
        for raw, is_one in mine:
            await ask(raw, is_one=is_one)

    await asyncio.gather(*(some(requests[start::AT_ONCE]) for start in range(AT_ONCE)))
    return found


@one_way
def test_nonsense_is_answered_or_ends_and_costs_nothing(node: Durable) -> None:
    node.put("web.json", pod("web", sh("app", "trap exit TERM; while :; do sleep 0.1; done")))
    session = node.serve(node.pods, "--port", "none")
    path = f"{node.state}/api.sock"
    node.running(session, "web", "app")
    session.until(lambda: os.path.exists(path), "the socket")
    dice = random.Random(7)
    requests = [request_of(dice) for _ in range(REQUESTS)]
    asyncio.run(answers(path, requests[:100]))  # what is opened once and for all
    before = len(os.listdir(f"/proc/{session.pid}/fd"))
    found = asyncio.run(answers(path, requests))
    assert [raw for raw, answer in found if answer.startswith(b"HTTP/1.1 500")] == []
    intact = {raw for raw, is_one in requests if is_one}
    assert all(answer.startswith(b"HTTP/1.1 ") for raw, answer in found if raw in intact)
    session.until(
        lambda: len(os.listdir(f"/proc/{session.pid}/fd")) <= before + 2, "all connections to end"
    )
    session.signal(signal.SIGTERM)
    session.wait(143)
