"""Requests over real sockets: paths, lists, watches, negotiation, refusals, bounds."""

from __future__ import annotations

import asyncio
import base64
import errno
import io
import json
import socket
from collections.abc import AsyncIterator
from typing import Any, Self

import anyio
import msgspec
import pytest
from aiohttp import web

from supervisor.apiserver import cache as caches
from supervisor.apiserver import listing
from supervisor.apiserver import server as servers
from supervisor.apiserver.contract import ApiError, DeleteOptions, WriteOptions
from supervisor.apiserver.resources import RESOURCES
from tests.apiserver.served import PATIENCE, Served, edit, served
from tests.runtime.conftest import _warm_loops, nothing_left
from tests.runtime.nodes import until

__all__ = ["_warm_loops", "nothing_left"]
pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("nothing_left")]

MAPS = "/api/v1/namespaces/default/configmaps"
DEEP = base64.urlsafe_b64encode(b'{"x":' + b"[" * 20_000).decode()
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
PARTIAL = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def api(nothing_left: None) -> AsyncIterator[Served]:
    async with served() as api:
        yield api


# --- paths ----------------------------------------------------------------------------------------


async def test_a_server_tells_of_itself_with_and_without_a_trailing_slash(api: Served) -> None:
    for path in ("/version", "/version/"):
        assert (await api.ask(path)).json["major"] == "1"
    for path in ("/healthz", "/livez", "/readyz", "/readyz/ping"):
        reply = await api.ask(path)
        assert (reply.code, reply.text) == (200, "ok")
    assert "readyz check passed" in (await api.ask("/readyz?verbose")).text
    assert (await api.ask("/api/")).json["versions"] == ["v1"]
    assert (await api.ask("/apis")).json["kind"] == "APIGroupList"
    kinds = [r["name"] for r in (await api.ask("/api/v1")).json["resources"]]
    assert "pods/log" in kinds
    accept = {"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}
    found = await api.ask("/apis", headers=accept)
    assert found.json["kind"] == "APIGroupDiscoveryList"
    assert found.headers["Content-Type"] == accept["Accept"]


@pytest.mark.parametrize(
    ("method", "path", "code", "reason"),
    [
        ("GET", "/nowhere", 404, "NotFound"),
        ("GET", "/api/v2", 404, "NotFound"),
        ("GET", "/api/v1/gadgets", 404, "NotFound"),
        ("GET", "/apis/batch/v1/jobs", 404, "NotFound"),
        ("GET", f"{MAPS}/a/status", 404, "NotFound"),
        ("GET", f"{MAPS}/..%2f..%2fpasswd", 404, "NotFound"),
        ("GET", "/api/v1/namespaces/default/nodes", 404, "NotFound"),
        ("GET", "/api/v1/pods/a", 404, "NotFound"),
        ("POST", "/version", 404, "NotFound"),
        ("POST", "/api/v1", 405, "MethodNotAllowed"),
        ("POST", "/api/v1/configmaps", 400, "BadRequest"),
        ("PUT", MAPS, 405, "MethodNotAllowed"),
        ("POST", f"{MAPS}/a", 405, "MethodNotAllowed"),
        ("POST", "/apis/apps/v1/namespaces/default/deployments", 405, "MethodNotAllowed"),
        ("OPTIONS", f"{MAPS}/a", 405, "MethodNotAllowed"),
        ("GET", f"{MAPS}?limit=many", 400, "BadRequest"),
        ("GET", f"{MAPS}?watch=perhaps", 400, "BadRequest"),
        ("GET", f"{MAPS}?fieldSelector=data.key=1", 400, "BadRequest"),
        ("GET", f"{MAPS}?continue=garbage", 400, "BadRequest"),
        ("GET", f"{MAPS}?continue={DEEP}", 400, "BadRequest"),
        ("GET", f"{MAPS}?resourceVersionMatch=Exact", 422, "Invalid"),
        ("GET", f"{MAPS}?watch=1&sendInitialEvents=true", 422, "Invalid"),
        ("GET", f"{MAPS}?resourceVersion=999", 504, "Timeout"),
    ],
)
async def test_what_cannot_be_is_refused_with_a_status(
    api: Served, method: str, path: str, code: int, reason: str
) -> None:
    reply = await api.ask(path, method)
    assert reply.refusal[:2] == (code, reason)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/api", "GET, HEAD"),
        ("/podvisor/v1/namespaces/default/pods/a", "GET, HEAD"),
        ("/api/v1/configmaps", "GET, HEAD"),
        (MAPS, "GET, HEAD, POST, DELETE"),
        (f"{MAPS}/a", "GET, HEAD, PUT, PATCH, DELETE"),
        ("/api/v1/namespaces/default/pods/a/log", "GET, HEAD"),
        ("/api/v1/namespaces/default/pods/a/binding", "POST"),
        ("/api/v1/namespaces/default/pods/a/proxy", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        ("/apis/authentication.k8s.io/v1/selfsubjectreviews", "POST"),
        ("/apis/apps/v1/namespaces/default/deployments", "GET, HEAD"),
    ],
)
async def test_who_uses_a_wrong_method_is_told_the_right_ones(
    api: Served, path: str, allowed: str
) -> None:
    reply = await api.ask(path, "TRACE")
    assert (reply.code, reply.headers["Allow"]) == (405, allowed)


async def test_the_methods_that_a_path_is_said_to_take_are_those_that_it_takes(api: Served) -> None:
    async def streams(call: servers.Call) -> web.StreamResponse:
        return web.Response()

    api.server._streams = streams
    for resource in RESOURCES:
        root = f"/apis/{resource.group}" if resource.group else "/api"
        every = f"{root}/{resource.version}/{resource.plural}"
        one = every
        if resource.namespaced:
            one = f"{root}/{resource.version}/namespaces/default/{resource.plural}"
        for path in (every, one, f"{one}/a", *(f"{one}/a/{sub}" for sub in resource.subresources)):
            allowed = (await api.ask(path, "TRACE")).headers["Allow"].split(", ")
            for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
                # Nothing gets further than its body, which is none.
                reply = await api.ask(path, method, data=b"{", headers=JSON)
                if method in allowed:
                    assert reply.code != 405, (method, path, allowed)
                else:  # or refused before: what is not there is as good as deleted, for example
                    assert reply.code in (400, 404, 405), (method, path, allowed)


async def test_refusals_speak_as_kubectl_expects(api: Served) -> None:
    message = "the server could not find the requested resource"
    assert (await api.ask("/nowhere")).refusal[2] == message
    message = "the server does not allow this method on the requested resource"
    assert (await api.ask(f"{MAPS}/a", "POST")).refusal[2] == message
    assert (await api.ask(f"{MAPS}/a")).refusal[2] == 'configmaps "a" not found'
    path = "/apis/apps/v1/namespaces/default/deployments"
    advice = "nothing here controls deployments, they can only be listed; `podvisor up FILE` runs"
    assert advice in (await api.ask(path, "POST")).refusal[2]


@pytest.mark.parametrize(
    ("path", "rest"),
    [
        ("namespaces/proxy/pods/web/proxy/a/proxy%2Fb/", "a/proxy%2Fb/"),
        ("namespaces/proxy/pods/web/proxy", ""),
        ("nodes/podvisor/proxy/pods?x=1", "pods"),
    ],
)
async def test_streams_and_proxies_are_handed_on_with_what_was_understood(
    api: Served, path: str, rest: str
) -> None:
    seen: list[servers.Call] = []

    async def streams(call: servers.Call) -> web.StreamResponse:
        seen.append(call)
        return web.Response(text=call.request.method)

    api.server._streams = streams
    assert (await api.ask(f"/api/v1/{path}", "POST")).text == "POST"
    (call,) = seen
    assert (call.subresource, call.rest) == ("proxy", rest)
    assert (call.namespace, call.name) in {("proxy", "web"), ("", "podvisor")}


# --- reading --------------------------------------------------------------------------------------


async def test_an_object_is_shown_as_it_is_asked_for(api: Served) -> None:
    version = await api.config_map("a", app="web")
    found = await api.ask(f"{MAPS}/a")
    assert found.headers["Content-Type"] == "application/json"
    assert found.json["data"] == {"key": "1"}
    assert found.json["metadata"]["resourceVersion"] == str(version)
    table = (await api.ask(f"{MAPS}/a", headers={"Accept": TABLE})).json
    assert table["kind"] == "Table"
    assert table["rows"][0]["cells"][0] == "a"
    assert table["rows"][0]["object"]["metadata"]["labels"] == {"app": "web"}
    some = {"Accept": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"}
    partial = (await api.ask(f"{MAPS}/a", headers=some)).json
    assert (partial["kind"], "data" in partial) == ("PartialObjectMetadata", False)
    assert b"\n  " in (await api.ask(f"{MAPS}/a?pretty=true")).content
    typed = {"Accept": "application/vnd.kubernetes.protobuf, application/json"}
    assert (await api.ask(f"{MAPS}/a", headers=typed)).json["kind"] == "ConfigMap"
    only = {"Accept": "application/vnd.kubernetes.protobuf"}
    assert (await api.ask(f"{MAPS}/a", headers=only)).refusal[:2] == (406, "NotAcceptable")


async def test_lists_are_chosen_from_and_shown_in_every_form(api: Served) -> None:
    for name, app in (("a", "web"), ("b", "db"), ("c", "web")):
        await api.config_map(name, app=app)
    whole = (await api.ask("/api/v1/configmaps")).json
    assert (whole["kind"], whole["metadata"]["resourceVersion"]) == ("ConfigMapList", "3")
    assert [o["metadata"]["name"] for o in whole["items"]] == ["a", "b", "c"]
    web = (await api.ask(f"{MAPS}?labelSelector=app%3Dweb")).json
    assert [o["metadata"]["name"] for o in web["items"]] == ["a", "c"]
    named = (await api.ask(f"{MAPS}?fieldSelector=metadata.name%3Db")).json
    assert [o["metadata"]["name"] for o in named["items"]] == ["b"]
    table = (await api.ask(f"{MAPS}?includeObject=Object", headers={"Accept": TABLE})).json
    assert [row["object"]["kind"] for row in table["rows"]] == ["ConfigMap"] * 3
    assert table["metadata"]["resourceVersion"] == "3"
    partial = (await api.ask(MAPS, headers={"Accept": PARTIAL})).json
    assert partial["kind"] == "PartialObjectMetadataList"
    empty = (await api.ask("/apis/apps/v1/deployments?limit=500")).json
    assert (empty["kind"], empty["items"]) == ("DeploymentList", [])


async def test_pages_of_one_list_fit_together_whatever_changes_meanwhile(api: Served) -> None:
    for name in "abcde":
        await api.config_map(name)
    first = (await api.ask(f"{MAPS}?limit=2")).json
    assert first["metadata"]["remainingItemCount"] == 3
    await api.store.edit(edit("configmaps", "c", None))
    await api.config_map("d", "changed")
    await api.config_map("bb")
    found, token = first["items"], first["metadata"]["continue"]
    while token:
        page = (await api.ask(f"{MAPS}?limit=2&continue={token}")).json
        assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        found += page["items"]
        token = page["metadata"].get("continue")
    assert [(o["metadata"]["name"], o["data"]["key"]) for o in found] == [(n, "1") for n in "abcde"]


async def test_a_list_can_be_of_an_earlier_version(api: Served) -> None:
    then = await api.config_map("a")
    await api.config_map("a", "2")
    exact = await api.ask(f"{MAPS}?resourceVersion={then}&resourceVersionMatch=Exact")
    assert [o["data"]["key"] for o in exact.json["items"]] == ["1"]
    newer = await api.ask(f"{MAPS}?resourceVersion={then}&resourceVersionMatch=NotOlderThan")
    assert [o["data"]["key"] for o in newer.json["items"]] == ["2"]
    anything = await api.ask(f"{MAPS}?resourceVersion=0")
    assert [o["data"]["key"] for o in anything.json["items"]] == ["2"]


async def test_what_is_not_remembered_any_more_cannot_be_listed(
    api: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        await api.config_map(name)
    first = (await api.ask(f"{MAPS}?limit=2")).json["metadata"]
    then, token = first["resourceVersion"], first["continue"]
    monkeypatch.setattr(caches, "REMEMBERED", 1)
    for value in "23":
        await api.config_map("a", value)
    exact = await api.ask(f"{MAPS}?resourceVersion={then}&resourceVersionMatch=Exact")
    text = "The resourceVersion for the provided list is too old."
    assert exact.refusal == (410, "Expired", text)
    page = await api.ask(f"{MAPS}?limit=2&continue={token}")
    assert page.refusal[:2] == (410, "Expired")
    assert page.refusal[2].startswith("The provided continue parameter is too old")


# --- watches --------------------------------------------------------------------------------------


async def test_a_watch_replays_from_a_version_and_goes_on(api: Served) -> None:
    since = await api.config_map("a")
    await api.config_map("a", "2")
    async with api.watch(f"{MAPS}?watch=True&resourceVersion={since}") as watch:
        assert await watch.told(1) == ["MODIFIED a"]
        await api.config_map("b")
        gone = await api.store.edit(edit("configmaps", "a", None))
        assert await watch.told(1) == ["ADDED b"]
        event = await watch.next()
        assert event["type"] == "DELETED"
        assert event["object"]["metadata"]["resourceVersion"] == str(gone)


@pytest.mark.parametrize("version", ["", "&resourceVersion=0"])
async def test_a_watch_without_a_version_begins_with_what_is_there(
    api: Served, version: str
) -> None:
    await api.config_map("a")
    async with api.watch(f"{MAPS}?watch=1{version}") as watch:
        await api.config_map("b")
        assert await watch.told(2) == ["ADDED a", "ADDED b"]


async def test_initial_events_end_with_a_bookmark(api: Served) -> None:
    version = await api.config_map("a")
    query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    async with api.watch(f"{MAPS}?watch=1&{query}") as watch:
        assert await watch.told(1) == ["ADDED a"]
        event = await watch.next()
    assert event["type"] == "BOOKMARK"
    meta = event["object"]["metadata"]
    assert meta["resourceVersion"] == str(version)
    assert meta["annotations"] == {"k8s.io/initial-events-end": "true"}


@pytest.mark.parametrize(
    ("accept", "kind"),
    [("", "ConfigMap"), ("PartialObjectMetadata", "PartialObjectMetadata"), ("Table", "Table")],
)
async def test_a_bookmark_has_the_form_of_all_else(api: Served, accept: str, kind: str) -> None:
    version = await api.config_map("a")
    query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    headers = {"Accept": f"application/json;as={accept};v=v1;g=meta.k8s.io"} if accept else {}
    async with api.watch(f"{MAPS}?watch=1&{query}", headers=headers) as watch:
        await watch.told(1)
        event = await watch.next()
    assert (event["type"], event["object"]["kind"]) == ("BOOKMARK", kind)
    told = event["object"]["rows"][0]["object"] if kind == "Table" else event["object"]
    assert told["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert event["object"]["metadata"]["resourceVersion"] == str(version)


CONTRADICTIONS = {
    "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=0": (
        "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"
    ),
    "resourceVersionMatch=Exact": "forbidden unless resourceVersion is provided",
    "resourceVersionMatch=Exact&resourceVersion=0": 'forbidden for resourceVersion "0"',
    "resourceVersionMatch=New&resourceVersion=1": 'values: "Exact", "NotOlderThan"',
    "watch=1&sendInitialEvents=true": "requires setting resourceVersionMatch to NotOlderThan",
    "watch=1&resourceVersionMatch=NotOlderThan&resourceVersion=0": (
        "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
    ),
    "watch=1&sendInitialEvents=true&resourceVersionMatch=Exact": 'values: "NotOlderThan"',
}


@pytest.mark.parametrize("query", CONTRADICTIONS)
async def test_options_that_do_not_go_together_are_refused(api: Served, query: str) -> None:
    reply = await api.ask(f"{MAPS}?{query}")
    assert reply.refusal[:2] == (422, "Invalid")
    assert reply.refusal[2].startswith('ListOptions.meta.k8s.io "" is invalid: ')
    assert CONTRADICTIONS[query] in reply.refusal[2]
    details = reply.json["details"]
    assert (details["group"], details["kind"]) == ("meta.k8s.io", "ListOptions")


async def test_a_watch_without_initial_events_begins_now(api: Served) -> None:
    await api.config_map("a")
    query = "sendInitialEvents=false&resourceVersionMatch=NotOlderThan"
    async with api.watch(f"{MAPS}?watch=1&{query}") as watch:
        await api.config_map("b")
        assert await watch.told(1) == ["ADDED b"]


async def test_what_stops_being_chosen_is_told_as_deleted_and_what_begins_as_added(
    api: Served,
) -> None:
    await api.config_map("a", app="web")
    async with api.watch(f"{MAPS}?watch=1&labelSelector=app%3Dweb") as watch:
        assert await watch.told(1) == ["ADDED a"]
        left = await api.config_map("a", "2", app="db")
        await api.config_map("a", "3", app="db")
        await api.config_map("a", "4", app="web")
        await api.config_map("a", "5", app="web")
        event = await watch.next()
        assert (event["type"], event["object"]["data"]["key"]) == ("DELETED", "1")
        assert event["object"]["metadata"]["resourceVersion"] == str(left)
        assert await watch.told(2) == ["ADDED a", "MODIFIED a"]


async def test_a_watch_ends_in_time_and_says_up_to_where_it_told_all(api: Served) -> None:
    version = await api.config_map("a")
    query = "watch=1&timeoutSeconds=1&allowWatchBookmarks=1&resourceVersion=1"
    async with api.watch(f"{MAPS}?{query}") as watch:
        event = await watch.next()
        assert event["type"] == "BOOKMARK"
        assert event["object"]["metadata"]["resourceVersion"] == str(version)
        assert await watch.next() is None


async def test_who_asks_for_bookmarks_gets_one_now_and_then(
    api: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_BOOKMARK_EVERY", 0.1)
    await api.config_map("a")
    query = "watch=1&allowWatchBookmarks=1&resourceVersion=1&labelSelector=app%3Dweb"
    async with api.watch(f"{MAPS}?{query}") as watch:
        version = await api.config_map("b")  # which is not told
        versions = [(await watch.next())["object"]["metadata"]["resourceVersion"] for _ in "123"]
    assert versions[-1] == str(version)


async def test_who_comes_too_late_is_told_in_the_stream(api: Served) -> None:
    await api.config_map("a")
    async with api.watch(f"{MAPS}?watch=1&resourceVersion=999") as watch:
        event = await watch.next()
        assert event["type"] == "ERROR"
        assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")
        assert await watch.next() is None


async def test_one_object_can_be_watched_and_rows_of_tables_too(api: Served) -> None:
    await api.config_map("a")
    await api.config_map("b")
    async with api.watch(f"{MAPS}/a?watch=1", headers={"Accept": TABLE}) as watch:
        await api.config_map("b", "2")
        await api.config_map("a", "2")
        events = [await watch.next() for _ in range(2)]
    assert [e["object"]["rows"][0]["cells"][0] for e in events] == ["a", "a"]
    assert [bool(e["object"]["columnDefinitions"]) for e in events] == [True, False]


async def test_watches_end_with_the_server_and_leave_when_their_client_does(
    api: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "LISTENERS", 1)
    async with api.watch(f"{MAPS}?watch=1"):
        await until(lambda: api.server._listening, "the watch to begin")
        reply = await api.ask(f"{MAPS}?watch=1")
        assert reply.refusal[:2] == (429, "TooManyRequests")
        assert reply.headers["Retry-After"] == "1"
    await until(lambda: not api.server._listening, "the watch to be forgotten")
    async with api.watch(f"{MAPS}?watch=1") as watch:
        ending = asyncio.ensure_future(api.server.close())
        assert await watch.next() is None
        await ending


async def test_a_connection_that_is_only_kept_open_holds_up_no_end(
    api: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "_ENDING", 1000.0)
    await api.config_map("a")
    assert (await api.ask(f"{MAPS}/a")).code == 200
    with anyio.fail_after(PATIENCE):
        await api.server.close()


async def test_hundreds_of_clients_may_come_at_once(api: Served) -> None:
    loop = asyncio.get_running_loop()
    sockets = [socket.socket(socket.AF_UNIX) for _ in range(300)]
    try:
        for each in sockets:
            each.setblocking(False)
            each.connect(f"{api.folder}/api.sock")  # raises where the others wait in line
        for each in sockets:
            await loop.sock_sendall(each, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for each in sockets:
            assert (await loop.sock_recv(each, 4096)).startswith(b"HTTP/1.1 200")
    finally:
        for each in sockets:
            each.close()


# --- writing --------------------------------------------------------------------------------------


def config(name: str = "a", **data: str) -> dict[str, Any]:
    return {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}, "data": data}


async def test_objects_are_created_replaced_and_deleted(api: Served) -> None:
    made = await api.ask(MAPS, "POST", json=config(key="1"))
    assert (made.code, made.json["data"]) == (201, {"key": "1"})
    assert (await api.ask(MAPS, "POST", json=config())).refusal[:2] == (409, "AlreadyExists")
    put = await api.ask(f"{MAPS}/a", "PUT", json=config(key="2"))
    assert (put.code, put.json["data"]) == (200, {"key": "2"})
    deleted = await api.ask(f"{MAPS}/a", "DELETE")
    assert deleted.code == 200
    assert (await api.ask(f"{MAPS}/a", "DELETE")).refusal[:2] == (404, "NotFound")


async def test_a_collection_is_deleted_as_far_as_it_is_chosen(api: Served) -> None:
    for name, app in (("a", "web"), ("b", "db"), ("c", "web")):
        await api.config_map(name, app=app)
    gone = await api.ask(f"{MAPS}?labelSelector=app%3Dweb", "DELETE")
    assert [o["metadata"]["name"] for o in gone.json["items"]] == ["a", "c"]
    assert [e.name for e in api.cache.list("configmaps")] == ["b"]


@pytest.mark.parametrize(
    ("media", "patch"),
    [
        ("application/json-patch+json", [{"op": "add", "path": "/data/b", "value": "2"}]),
        ("application/merge-patch+json", {"data": {"b": "2"}}),
        ("application/strategic-merge-patch+json", {"data": {"b": "2"}}),
    ],
)
async def test_objects_are_patched(api: Served, media: str, patch: object) -> None:
    await api.config_map("a")
    options = {"data": json.dumps(patch), "headers": {"Content-Type": media}}
    reply = await api.ask(f"{MAPS}/a", "PATCH", **options)
    assert (reply.code, reply.json["data"]) == (200, {"key": "1", "b": "2"})
    assert (await api.ask(f"{MAPS}/zz", "PATCH", **options)).refusal[:2] == (404, "NotFound")
    reply = await api.ask(f"{MAPS}/a?force=true", "PATCH", **options)
    assert reply.refusal == (
        422,
        "Invalid",
        'PatchOptions.meta.k8s.io "" is invalid: force: Forbidden: may not be specified for '
        "non-apply patch",
    )
    options["headers"] = JSON
    assert (await api.ask(f"{MAPS}/a", "PATCH", **options)).refusal[0] == 415


async def test_what_cannot_be_there_can_be_deleted_as_if_it_were_gone(api: Served) -> None:
    """helm deletes all of a release, also what could never be made."""
    gone = await api.ask("/apis/apps/v1/namespaces/default/deployments/d", "DELETE")
    assert gone.refusal == (404, "NotFound", 'deployments.apps "d" not found')
    for path in ("/apis/apps/v1/namespaces/default/deployments", "/api/v1/nodes"):
        assert (await api.ask(path, "DELETE")).refusal[:2] == (405, "MethodNotAllowed")
    review = "/apis/authentication.k8s.io/v1/selfsubjectreviews/a"
    assert (await api.ask(review, "DELETE")).refusal[:2] == (405, "MethodNotAllowed")


async def test_there_are_no_definitions_of_kinds_and_nobody_is_told_to_look(api: Served) -> None:
    """kubectl asks for them before it sends a kind that has no PATCH."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    found = await api.ask(path)
    assert (found.json["kind"], found.json["items"]) == ("CustomResourceDefinitionList", [])
    assert (await api.ask(path, "POST", json={})).refusal[:2] == (405, "MethodNotAllowed")
    assert "apiextensions" not in (await api.ask("/apis")).text
    assert "apiextensions" not in (await api.ask("/openapi/v3")).text


async def test_an_apply_in_a_form_that_is_not_known_is_told_so_before_its_options(
    api: Served,
) -> None:
    """Go's clients send CBOR, and YAML only after a 415."""
    cbor = {"data": b"\xa0", "headers": {"Content-Type": "application/apply-patch+cbor"}}
    path = f"{MAPS}/a?fieldManager=me&force=true"
    reply = await api.ask(path, "PATCH", **cbor)
    assert reply.refusal[:2] == (415, "UnsupportedMediaType")
    assert "application/apply-patch+yaml" in reply.refusal[2]


async def test_an_apply_creates_and_changes_and_says_who_set_what(api: Served) -> None:
    kind = {"Content-Type": "application/apply-patch+yaml"}
    text = "kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}\ndata: {key: '1'}\n"
    made = await api.ask(f"{MAPS}/a?fieldManager=me", "PATCH", data=text, headers=kind)
    assert (made.code, made.json["data"]) == (201, {"key": "1"})
    assert made.json["metadata"]["managedFields"][0]["manager"] == "me"
    other = text.replace("'1'", "'2'")
    path = f"{MAPS}/a?fieldManager=you"
    conflict = await api.ask(path, "PATCH", data=other, headers=kind)
    assert conflict.refusal[:2] == (409, "Conflict")
    forced = await api.ask(f"{path}&force=true", "PATCH", data=other, headers=kind)
    assert (forced.code, forced.json["data"]) == (200, {"key": "2"})
    nobody = await api.ask(f"{MAPS}/a", "PATCH", data=text, headers=kind)
    assert nobody.refusal[:2] == (422, "Invalid")


async def test_an_apply_is_told_from_other_changes(api: Served) -> None:
    await api.ask(f"{MAPS}?fieldManager=me", "POST", json=config(key="1"))
    patch = {"json": {"data": {"b": "2"}}, "headers": {"Content-Type": MERGE}}
    await api.ask(f"{MAPS}/a?fieldManager=you", "PATCH", **patch)
    assert api.registry.options == WriteOptions(
        field_manager="you", size=len('{"data": {"b": "2"}}')
    )
    kind = {"Content-Type": "application/apply-patch+yaml"}
    text = "kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}\n"
    await api.ask(f"{MAPS}/a?fieldManager=it", "PATCH", data=text, headers=kind)
    expected = WriteOptions(field_manager="it", applied=True, size=len(text))
    assert api.registry.options == expected


MERGE = "application/merge-patch+json"


def _without_size(options: Any) -> Any:
    assert options.size
    return msgspec.structs.replace(options, size=0)


async def test_the_documents_of_the_api_can_be_kept_by_who_names_them(api: Served) -> None:
    paths = (await api.ask("/openapi/v3")).json["paths"]
    url = paths["api/v1"]["serverRelativeURL"]
    found = await api.ask(url)
    assert "immutable" in found.headers["Cache-Control"]
    assert "components" in found.json
    etag = {"If-None-Match": found.headers["ETag"]}
    assert (await api.ask("/openapi/v3/api/v1", headers=etag)).code == 304
    proto = {"Accept": "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"}
    old = await api.ask("/openapi/v2", headers=proto)
    kind = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    assert old.headers["Content-Type"] == kind
    again = proto | {"If-None-Match": old.headers["ETag"]}
    assert (await api.ask("/openapi/v2", headers=again)).code == 304


@pytest.mark.parametrize("asked", ["gzip", "br;q=1, gzip;q=0.5", "deflate, gzip; q=1.0"])
async def test_the_documents_of_the_api_come_packed_to_who_can_unpack_them(
    api: Served, asked: str
) -> None:
    plain = await api.ask("/openapi/v2", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    assert "Accept-Encoding" in plain.headers["Vary"]
    packed = await api.ask("/openapi/v2", headers={"Accept-Encoding": asked})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.json == plain.json
    never = await api.ask("/openapi/v2", headers={"Accept-Encoding": "gzip;q=0.0"})
    assert "Content-Encoding" not in never.headers


async def test_options_come_from_the_query_and_those_of_a_deletion_also_from_the_body(
    api: Served,
) -> None:
    query = "dryRun=All&fieldManager=me&fieldValidation=Ignore"
    await api.ask(f"{MAPS}?{query}", "POST", json=config())
    expected = WriteOptions(dry_run=True, field_manager="me", validation="Ignore")
    assert _without_size(api.registry.options) == expected
    await api.ask(MAPS, "POST", json=config("b"), headers={"User-Agent": "kubectl/v1.33 (linux)"})
    assert _without_size(api.registry.options) == WriteOptions(field_manager="kubectl")
    await api.ask(f"{MAPS}/a?gracePeriodSeconds=3&propagationPolicy=Background", "DELETE")
    assert api.registry.options == DeleteOptions(grace=3, propagation="Background")
    body = {"gracePeriodSeconds": 0, "dryRun": ["All"], "preconditions": {"uid": "u"}}
    await api.ask(f"{MAPS}/b", "DELETE", json=body)
    assert api.registry.options == DeleteOptions(grace=0, uid="u", dry_run=True)
    for method, kind in (
        ("POST", "CreateOptions"),
        ("PUT", "UpdateOptions"),
        ("PATCH", "PatchOptions"),
        ("DELETE", "DeleteOptions"),
    ):
        path = MAPS if method == "POST" else f"{MAPS}/a"
        reply = await api.ask(f"{path}?dryRun=Some", method, json=config())
        if method == "DELETE":
            reply = await api.ask(f"{path}?dryRun=Some", method)
        assert reply.refusal == (
            422,
            "Invalid",
            f'{kind}.meta.k8s.io "" is invalid: dryRun: Unsupported value: "Some": supported '
            'values: "All"',
        )
    reply = await api.ask(f"{MAPS}/a", "DELETE", json=config())
    assert reply.refusal == (400, "BadRequest", "a ConfigMap cannot be handled as DeleteOptions")


@pytest.mark.parametrize(
    ("manager", "says"),
    [
        ("x" * 129, "Too long: may not be more than 128 bytes"),
        ("a%0Ab", "Invalid value: should only contain printable characters"),
    ],
)
async def test_a_manager_has_a_name_that_can_be_shown(api: Served, manager: str, says: str) -> None:
    reply = await api.ask(f"{MAPS}?fieldManager={manager}", "POST", json=config())
    assert reply.refusal[2] == f'CreateOptions.meta.k8s.io "" is invalid: fieldManager: {says}'
    reply = await api.ask(MAPS, "POST", json=config(), headers={"User-Agent": f"{'x' * 200}/1"})
    assert reply.code == 201
    assert isinstance(api.registry.options, WriteOptions)
    assert api.registry.options.field_manager == "x" * 128


async def test_bodies_are_read_as_json_and_yaml_and_nothing_else(api: Served) -> None:
    yaml = {"data": "metadata: {name: y}\n", "headers": {"Content-Type": "application/yaml"}}
    assert (await api.ask(MAPS, "POST", **yaml)).code == 201
    csv = {"data": "a,b", "headers": {"Content-Type": "text/csv"}}
    assert (await api.ask(MAPS, "POST", **csv)).refusal[:2] == (415, "UnsupportedMediaType")
    for text in (b"{", b"[]", b"", b"\xff", b"[" * 100_000, b'{"a":"\\ud800"}'):
        assert (await api.ask(MAPS, "POST", data=text, headers=JSON)).refusal[0] == 400
    large = json.dumps(config(key="x" * servers.BODY_MAX)).encode()
    reply = await api.ask(MAPS, "POST", data=io.BytesIO(large), headers=JSON)
    assert reply.refusal[:2] == (413, "RequestEntityTooLarge")


JSON = {"Content-Type": "application/json"}


async def test_the_last_one_of_two_keys_counts_and_the_registry_is_told(api: Served) -> None:
    text = b'{"metadata":{"name":"a"},"data":{"key":"1","key":"2"}}'
    for method, path, kind in (
        ("POST", MAPS, "application/json"),
        ("PUT", f"{MAPS}/a", "application/json"),
        ("PATCH", f"{MAPS}/a", "application/merge-patch+json"),
        ("PATCH", f"{MAPS}/a", "application/strategic-merge-patch+json"),
        ("PATCH", f"{MAPS}/a?fieldManager=me", "application/apply-patch+yaml"),
    ):
        reply = await api.ask(path, method, data=text, headers={"Content-Type": kind})
        assert reply.json["data"] == {"key": "2"}
        assert isinstance(api.registry.options, WriteOptions)
        assert api.registry.options.repeated == ("data.key",)
    steps = b'[{"op":"add","path":"/data/b","value":"1","value":"2"}]'
    patch = {"Content-Type": "application/json-patch+json"}
    await api.ask(f"{MAPS}/a", "PATCH", data=steps, headers=patch)
    assert api.registry.options.repeated == ("[0].value",)


async def test_warnings_of_the_registry_are_passed_on(api: Served) -> None:
    api.registry.warnings = ('unknown field "spec.x"', "two\nlines")
    reply = await api.ask(MAPS, "POST", json=config())
    assert reply.headers.getall("Warning") == [
        '299 - "unknown field \\"spec.x\\""',
        '299 - "two lines"',
    ]


async def test_warnings_are_no_more_than_clients_take(api: Served) -> None:
    """http.client reads a hundred headers, aiohttp eight thousand bytes of one."""
    api.registry.warnings = tuple(f"{number} is odd" for number in range(1000))
    many = (await api.ask(MAPS, "POST", json=config())).headers.getall("Warning")
    assert len(many) == 50
    assert many[0] == f'299 - "{api.registry.warnings[0]}"'
    api.registry.warnings = ("x" * 1_000_000, "y")
    (long,) = (await api.ask(MAPS, "POST", json=config("b"))).headers.getall("Warning")
    assert long == f'299 - "{"x" * 4096}"'


async def test_a_refusal_of_the_registry_is_the_answer(api: Served) -> None:
    api.registry.trouble = ApiError(422, "Invalid", "no", name="a", retry_after=3)
    reply = await api.ask(MAPS, "POST", json=config())
    assert reply.refusal == (422, "Invalid", "no")
    assert reply.headers["Retry-After"] == "3"


async def test_a_bug_of_our_own_costs_one_request_and_is_reported(api: Served) -> None:
    api.registry.trouble = ZeroDivisionError("oh")
    reply = await api.ask(MAPS, "POST", json=config())
    assert reply.refusal[:2] == (500, "InternalError")
    assert "ZeroDivisionError: oh" in api.bugs.pop()
    assert (await api.ask("/version")).code == 200


async def _raw(
    api: Served, request: bytes, *headers: bytes, host: bytes = b"localhost", body: bytes = b""
) -> bytes:
    """All that is answered before the connection ends."""
    reader, writer = await asyncio.open_unix_connection(f"{api.folder}/api.sock")
    head = [
        request + b" HTTP/1.1",
        b"Host: " + host,
        b"Connection: close",
        b"Content-Length: %d" % len(body),
    ]
    writer.write(b"\r\n".join((*head, *headers)) + b"\r\n\r\n" + body)
    with anyio.fail_after(PATIENCE):
        said = await reader.read()
    writer.close()
    return said


class Waiting:
    """Who sends nothing but the head of a request, and waits for what is said to it."""

    def __init__(self, api: Served, request: str, *headers: str) -> None:
        self._api = api
        self._head = [f"{request} HTTP/1.1", "Host: localhost", *headers]

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_unix_connection(
            f"{self._api.folder}/api.sock"
        )
        self.send(("\r\n".join(self._head) + "\r\n\r\n").encode())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def head(self) -> str:
        with anyio.fail_after(PATIENCE):
            return (await self._reader.readuntil(b"\r\n\r\n")).decode()


LONG = "Content-Length: 1000000000"


async def test_who_waits_with_a_body_is_asked_for_it_when_it_is_wanted(api: Served) -> None:
    body = json.dumps(config()).encode()
    size = f"Content-Length: {len(body)}"
    async with Waiting(api, f"POST {MAPS}", size, "Expect: 100-Continue") as client:
        assert await client.head() == "HTTP/1.1 100 Continue\r\n\r\n"
        client.send(body)
        answer = await client.head()
        assert answer.startswith("HTTP/1.1 201 ")
        assert "connection: close" not in answer.lower()


@pytest.mark.parametrize(
    ("request_", "headers", "code"),
    [
        ("POST /nowhere", [LONG], 404),
        (f"PATCH {MAPS}", [LONG], 405),
        (f"POST {MAPS}", [LONG, "Accept: text/html"], 406),
        (f"POST {MAPS}?dryRun=perhaps", [LONG], 422),
        (f"POST {MAPS}", [LONG], 413),
    ],
)
async def test_a_body_that_is_not_wanted_is_not_asked_for(
    api: Served, request_: str, headers: list[str], code: int
) -> None:
    async with Waiting(api, request_, *headers, "Expect: 100-continue") as client:
        answer = await client.head()
        assert answer.startswith(f"HTTP/1.1 {code} ")
        assert "connection: close" in answer.lower(), "what comes next may be its body or not"


async def test_who_expects_what_nobody_knows_is_told_so(api: Served) -> None:
    async with Waiting(api, f"POST {MAPS}", LONG, "Expect: miracles") as client:
        assert (await client.head()).startswith("HTTP/1.1 417 ")


async def test_who_expects_something_and_has_no_body_is_answered_as_ever(api: Served) -> None:
    async with Waiting(api, "GET /version", "Expect: 100-continue") as client:
        answer = await client.head()
        assert answer.startswith("HTTP/1.1 200 ")
        assert "connection: close" not in answer.lower()


@pytest.fixture
async def torn(api: Served, monkeypatch: pytest.MonkeyPatch) -> str:
    """The path of a log that can be read up to its first line."""

    async def blocks(*_: object) -> AsyncIterator[bytes]:
        yield b"one\n"
        raise OSError(errno.EIO, "Input/output error")

    body = {"kind": "Pod", "apiVersion": "v1", "spec": {"containers": [{"name": "c"}]}}
    running = {"name": "c", "containerID": "podvisor://uid-p/c/0", "state": {"running": {}}}
    body["status"] = {"containerStatuses": [running]}
    await api.store.edit(edit("pods", "p", body))
    monkeypatch.setattr(api.logs, "blocks", blocks)
    return "/api/v1/namespaces/default/pods/p/log"


async def test_an_answer_that_fails_in_the_middle_is_cut_off(api: Served, torn: str) -> None:
    said = await _raw(api, f"GET {torn}".encode())
    assert said.endswith(b"\r\n\r\n4\r\none\n\r\n")


async def test_a_websocket_that_fails_in_the_middle_does_not_end_as_if_that_were_all(
    api: Served, torn: str
) -> None:
    async with api.client.ws_connect(api.base + torn, protocols=("binary.k8s.io",)) as socket:
        assert await socket.receive_bytes() == b"one\n"
        await socket.receive()
        assert socket.close_code == 1006


async def test_what_this_machine_does_not_give_is_said_and_is_no_bug(api: Served) -> None:
    api.registry.trouble = OSError(errno.EMFILE, "Too many open files")
    reply = await api.ask(MAPS, "POST", json=config())
    message = "Internal error occurred: Too many open files"
    assert reply.refusal == (500, "InternalError", message)


async def test_headers_may_hold_anything(api: Served) -> None:
    assert b'"serverAddress":"h?"' in await _raw(api, b"GET /api", host=b"h\xff")
    body = json.dumps(config()).encode()
    asked = await _raw(api, f"POST {MAPS}".encode(), b"User-Agent: a\xff/1", body=body)
    assert b" 201 " in asked
    assert _without_size(api.registry.options) == WriteOptions(field_manager="a?")


async def test_a_write_that_cannot_end_does_not_outlive_the_server(
    api: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def create(*_: object) -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(servers, "_ENDING", 0.05)
    monkeypatch.setattr(api.registry, "create", create)
    asking = asyncio.ensure_future(api.ask(MAPS, "POST", json=config()))
    await begun.wait()
    await api.server.close()
    assert ended.is_set()
    await asyncio.gather(asking, return_exceptions=True)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_what_cannot_be_answered_as_it_is_wanted_is_not_done(
    api: Served, method: str
) -> None:
    await api.config_map("a")
    headers = {"Accept": "application/yaml", "Content-Type": "application/json"}
    if method == "PATCH":
        headers["Content-Type"] = "application/merge-patch+json"
    for path in (MAPS, f"{MAPS}/a"):
        body = b"" if method == "DELETE" else json.dumps(config("a", key="2")).encode()
        reply = await api.ask(path, method, data=body, headers=headers)
        assert reply.code in (405, 406)
    assert [each.name for each in api.cache.list("configmaps")] == ["a"]
    assert (await api.ask(f"{MAPS}/a")).json["data"] == {"key": "1"}


async def test_what_is_only_asked_has_no_columns(api: Served) -> None:
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    reply = await api.ask(path, "POST", json={"spec": {}}, headers={"Accept": TABLE})
    assert (reply.code, reply.json["asked"]) == (201, ["", "", ""])
    only = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    assert (await api.ask(path, "POST", json={"spec": {}}, headers=only)).code == 406


async def test_a_collection_that_is_deleted_is_shown_as_it_is_wanted(api: Served) -> None:
    await api.config_map("a")
    only = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    assert (await api.ask(MAPS, "DELETE", headers=only)).json["kind"] == "Table"


async def test_what_is_only_asked_is_not_stored(api: Served) -> None:
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    reply = await api.ask(path, "POST", json={"spec": {}})
    assert (reply.code, reply.json["asked"]) == (201, ["", "", ""])
    reply = await api.ask("/api/v1/namespaces/n/pods/p/eviction", "POST", json={"kind": "Eviction"})
    assert reply.json["asked"] == ["n", "p", "eviction"]
