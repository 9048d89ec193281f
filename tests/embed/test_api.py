"""The API of an embedded node: for kubectl beside a test, and for client libraries in it."""

from __future__ import annotations

import ssl
from typing import Any

import aiohttp
import pytest
import yaml

from supervisor import Supervisor, UsageError
from tests.embed.conftest import Make
from tests.runtime.nodes import until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("nothing_left")]

PODS = "http://localhost/api/v1/namespaces/default/pods"
WAITS = ["sh", "-c", "trap 'exit 0' TERM; echo begun; while :; do sleep 0.05; done"]


def client(node: Supervisor) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.UnixConnector(node.api_socket))


async def test_pods_of_the_program_and_of_the_api_are_seen_by_both(make: Make) -> None:
    body: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "asked"}}
    body["spec"] = {"containers": [{"name": "app", "command": WAITS}]}
    async with make(api=True) as node, client(node) as http:
        web = await node.run(WAITS, name="web")
        await web.wait_ready()
        async with http.post(PODS, json=body) as answer:
            assert answer.status == 201, await answer.text()
        await until(lambda: len(node.pods()) == 2, "the pod of the API")
        asked = node.pods()[1]
        await asked.wait_ready()
        async with http.get(PODS) as answer:
            items = (await answer.json())["items"]
            assert [o["metadata"]["name"] for o in items] == ["asked", "web"]
        log = f"{PODS}/asked/log?follow=1"
        async with http.get(log) as answer:
            assert await answer.content.readline() == b"begun\n"
            await node.delete("asked")
            assert await answer.content.read() == b""


async def test_kubectl_is_let_in_by_a_file_that_goes_with_the_node(make: Make) -> None:
    async with make(api=True) as node:
        with open(node.kubeconfig) as file:
            config = yaml.safe_load(file)
        url = config["clusters"][0]["cluster"]["server"]
        bearer = {"Authorization": f"Bearer {config['users'][0]['user']['token']}"}
        async with aiohttp.ClientSession() as http:
            async with http.get(f"{url}/version", headers=bearer, ssl=_unchecked()) as answer:
                assert answer.status == 200
            async with http.get(f"{url}/version", ssl=_unchecked()) as answer:
                assert answer.status == 401


def _unchecked() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def test_a_node_has_no_api_unless_it_is_asked_for(make: Make) -> None:
    async with make() as node:
        with pytest.raises(UsageError, match="it has none, without api=True"):
            _ = node.api_socket
