"""What requests to write do: to objects that are stored, and to pods, which the node runs."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import msgspec
import pytest

from supervisor.api import v1
from supervisor.api.problems import Severity, required, said
from supervisor.apiserver import apply, aside, quota, resources
from supervisor.apiserver.contract import ApiError, Json, WriteOptions
from supervisor.kubelet.clock import Clock
from supervisor.lifecycle.facts import DeletionRequested
from supervisor.store.contract import Change, Edit
from supervisor.store.memory import MemoryStore
from tests.apiserver.worlds import (
    DRY,
    PLAIN,
    STRICT,
    Api,
    _resource,
    api,
    config_map,
    merged,
    pod,
    refusal,
    until,
)
from tests.kubelet.conftest import Program, anyio_backend, fake_clock

__all__ = ["anyio_backend", "fake_clock"]
pytestmark = pytest.mark.anyio


# --- how much there may be ----------------------------------------------------------------------


async def test_more_objects_than_there_is_room_for_are_refused_until_some_are_deleted(
    fake_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with api(fake_clock) as a:
        monkeypatch.setattr(quota, "OBJECTS", 4)  # one of them is the namespace
        for name in ("one", "two"):
            await a.create("configmaps", config_map(name))
        await a.create("pods", pod())
        for plural, body in (("configmaps", config_map("three")), ("pods", pod("more"))):
            error = await refusal(a.create(plural, body))
            assert (error.code, error.reason) == (403, "Forbidden")
            assert error.message == (
                f'{plural} "{body["metadata"]["name"]}" is forbidden: exceeded quota: podvisor, '
                "requested: objects=1, used: objects=4, limited: objects=4"
            )
        await a.change("configmaps", "one", {"data": {"key": "another"}})
        event = {"metadata": {"name": "e"}, "involvedObject": {"namespace": "default"}}
        await a.create("events", event)
        await a.delete("configmaps", "two")
        await a.create("configmaps", config_map("three"))
        await a.delete("pods", "web")
        await until(a, lambda: a.get("pods", "web") is None)
        await a.create("configmaps", config_map("four"))


async def test_more_bytes_than_there_is_room_for_are_refused_and_what_frees_some_is_not(
    fake_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with api(fake_clock, {"a": Program(runs=1000)}) as a:
        held = {"metadata": {"name": "held", "finalizers": ["example.com/hold"]}}
        await a.create("configmaps", held | {"data": {"large": "x" * 4000}})
        await a.create("configmaps", config_map("other"))
        await a.create("pods", pod())
        await a.clock.sleep(1)
        monkeypatch.setattr(quota, "BYTES", a.cache.bytes + 500)
        large = {"large": "x" * 600}
        for ask in (
            a.create("configmaps", config_map(data=large)),
            a.change("configmaps", "other", {"data": large}),
            a.change("pods", "web", {"metadata": {"annotations": large}}),
            a.create("pods", pod("more") | {"metadata": {"name": "more", "annotations": large}}),
        ):
            error = await refusal(ask)
            assert (error.code, error.reason) == (403, "Forbidden")
            assert "exceeded quota: podvisor, requested: bytes=" in error.message
        await a.change("configmaps", "other", {"data": {"key": "as long"}})
        monkeypatch.setattr(quota, "BYTES", a.cache.bytes)
        await a.delete("configmaps", "held")
        # Who lets go of it is noted in it first: that needs room, and frees more.
        gone = {"metadata": {"finalizers": None, "annotations": {"seen-by": "a controller"}}}
        await a.change("configmaps", "held", gone)
        assert a.get("configmaps", "held") is None
        await a.change("configmaps", "other", {"data": large})


async def test_writes_at_once_get_no_more_room_than_one_after_the_other(
    fake_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SlowStore(MemoryStore):
        async def edit(self, edit: Edit) -> int:
            await anyio.sleep(1)
            return await super().edit(edit)

    async with api(fake_clock, store=SlowStore()) as a:
        monkeypatch.setattr(quota, "OBJECTS", 3)
        refused: list[str] = []

        async def create(name: str) -> None:
            try:
                await a.create("configmaps", config_map(name))
            except ApiError as error:
                refused.append(error.reason)

        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(create, f"c{number}")
        assert refused == ["Forbidden"] * 8
        assert len(a.cache.list("configmaps")) == 2


async def test_a_pod_beyond_what_the_node_has_room_for_is_refused(
    fake_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with api(fake_clock, {"a": Program(runs=10), "b": Program(runs=10)}) as a:
        monkeypatch.setattr(quota, "PODS", 2)
        for name, container in (("one", "a"), ("two", "b")):
            containers = [{"name": container, "command": ["x"]}]
            await a.create("pods", pod(name, restartPolicy="Never", containers=containers))
        error = await refusal(a.create("pods", pod("three")))
        assert (error.code, error.reason) == (403, "Forbidden")
        assert error.message == (
            'pods "three" is forbidden: exceeded quota: podvisor, requested: pods=1, used: pods=2, '
            "limited: pods=2"
        )
        await a.clock.sleep(20)  # what has ended takes no place
        await a.create("pods", pod("three"))


# --- stored kinds ------------------------------------------------------------------------------


async def test_what_was_created_can_be_read_back_with_what_the_server_adds(
    fake_clock: Clock,
) -> None:
    async with api(fake_clock) as a:
        answer = await a.create("configmaps", config_map())
        assert answer.created
        found = a.get("configmaps", "settings")
        assert found == answer.object
        meta = found["metadata"]
        assert meta["namespace"] == "default"
        assert meta["uid"]
        assert meta["creationTimestamp"] == "2023-11-14T22:13:20Z"
        assert meta["resourceVersion"] == str(a.cache.version)
        assert (found["apiVersion"], found["kind"]) == ("v1", "ConfigMap")


async def test_the_client_has_no_say_in_what_is_the_servers(fake_clock: Clock) -> None:
    async with api(fake_clock) as a:
        body = config_map()
        body["metadata"] |= {
            "uid": "mine",
            "creationTimestamp": "1999-01-01T00:00:00Z",
            "deletionTimestamp": "1999-01-01T00:00:00Z",
            "generation": 100,
            "selfLink": "/me",
        }
        made = (await a.create("configmaps", body)).object
        assert made["metadata"]["uid"] != "mine"
        assert made["metadata"]["creationTimestamp"] != "1999-01-01T00:00:00Z"
        assert not {"deletionTimestamp", "generation", "selfLink"} & set(made["metadata"])
        body["data"] = {"key": "other"}
        body["metadata"]["uid"] = made["metadata"]["uid"]
        changed = (await a.replace("configmaps", "settings", body)).object
        kept = ("uid", "creationTimestamp")
        assert [changed["metadata"][k] for k in kept] == [made["metadata"][k] for k in kept]
        assert changed["data"] == {"key": "other"}


async def test_who_changes_nothing_gets_the_same_resource_version(fake_clock: Clock) -> None:
    async with api(fake_clock) as a:
        made = (await a.create("configmaps", config_map())).object
        same = await a.change("configmaps", "settings", {"data": {"key": "value"}})
        assert same.object["metadata"] == made["metadata"]
        assert a.cache.version == int(made["metadata"]["resourceVersion"])


async def test_a_stale_change_is_a_conflict_and_one_without_a_version_is_not(
    fake_clock: Clock,
) -> None:
    async with api(fake_clock) as a:
        old = (await a.create("configmaps", config_map())).object
        await a.change("configmaps", "settings", {"data": {"key": "1"}})
        error = await refusal(a.replace("configmaps", "settings", old))
        assert (error.code, error.reason) == (409, "Conflict")
        assert error.message.startswith(
            'Operation cannot be fulfilled on configmaps "settings": the object has been modified'
        )
        unconditional = config_map()
        unconditional["metadata"]["resourceVersion"] = "0"
        await a.replace("configmaps", "settings", unconditional)
        found = a.get("configmaps", "settings")
        assert found is not None
        assert found["data"] == {"key": "value"}
        other = config_map()
        other["metadata"]["uid"] = "of an earlier one"
        error = await refusal(a.replace("configmaps", "settings", other))
        assert error.code == 409
        assert "Precondition failed: UID" in error.message


async def test_changes_of_a_spec_are_counted_where_the_kind_has_a_generation(
    fake_clock: Clock,
) -> None:
    async with api(fake_clock) as a:
        await a.create("podtemplates", {"metadata": {"name": "x"}, "template": pod("")})
        labels = await a.change("podtemplates", "x", {"metadata": {"labels": {"a": "b"}}})
        assert labels.object["metadata"]["generation"] == 1
        for generation in (2, 3):
            spec = {"activeDeadlineSeconds": generation}
            changed = await a.change("podtemplates", "x", {"template": {"spec": spec}})
            assert changed.object["metadata"]["generation"] == generation


async def test_a_dry_run_says_what_would_be_and_stores_nothing(fake_clock: Clock) -> None:
    async with api(fake_clock) as a:
        before = a.cache.version
        made = await a.create("configmaps", config_map(), options=DRY)
        assert made.object["metadata"]["uid"]
        assert a.get("configmaps", "settings") is None
        error = await refusal(a.create("configmaps", config_map("No"), options=DRY))
        assert error.code == 422
        assert (await a.create("pods", pod(), options=DRY)).object["spec"]["nodeName"] == "here"
        assert a.world.node.workers == ()
        assert a.cache.version == before


OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "1", "controller": True}
BAD: dict[str, tuple[Json, int, str]] = {
    "another kind": ({"kind": "Secret"}, 400, "cannot be handled as a ConfigMap"),
    "another version": ({"apiVersion": "v2"}, 400, "does not match the expected API version (v1)"),
    "another namespace": (
        {"metadata": {"name": "x", "namespace": "other"}},
        400,
        "the namespace of the provided object (other) does not match the namespace sent on the "
        "request (default)",
    ),
    "no name": ({"metadata": {}}, 422, "metadata.name: Required value"),
    "a path for a name": ({"metadata": {"name": "../x"}}, 422, "metadata.name: Invalid value"),
    "metadata that is a list": ({"metadata": []}, 400, "metadata: must be a mapping"),
    "a name that is a number": ({"metadata": {"name": 1}}, 400, "metadata.name: must be a string"),
    "a path for the beginning of a name": (
        {"metadata": {"generateName": "../x-"}},
        422,
        "metadata.name: Invalid value",
    ),
    "a resourceVersion": (
        {"metadata": {"name": "x", "resourceVersion": "1"}},
        400,
        "resourceVersion should not be set",
    ),
    "a wrong type": ({"data": {"a": 1}}, 400, "data[a]"),
    "a wrong label": (
        {"metadata": {"name": "x", "labels": {"a b": ""}}},
        422,
        "metadata.labels: Invalid value",
    ),
    "an owner without a uid": (
        {"metadata": {"name": "x", "ownerReferences": [OWNER | {"uid": ""}]}},
        422,
        'metadata.ownerReferences[0].uid: Invalid value: "": uid must not be empty',
    ),
    "two controllers": (
        {"metadata": {"name": "x", "ownerReferences": [OWNER, OWNER | {"name": "b"}]}},
        422,
        'Only one reference can have Controller set to true. Found "true" in references for '
        "ConfigMap/a and ConfigMap/b",
    ),
    "a manager that is a number": (
        {"metadata": {"name": "x", "managedFields": [{"manager": 1}]}},
        400,
        "metadata.managedFields[0].manager: must be a string",
    ),
    "a time that is none": (
        {"metadata": {"name": "x", "managedFields": [{"time": "now"}]}},
        400,
        "metadata.managedFields[0].time: must be a time",
    ),
    "a wrong key": ({"data": {"a b": ""}}, 422, "data[a b]: Invalid value"),
    "too much": ({"data": {"a": "x" * (1024 * 1024 + 1)}}, 422, "Too long"),
}


@pytest.mark.parametrize("case", BAD)
async def test_what_is_refused_names_the_field(fake_clock: Clock, case: str) -> None:
    changes, code, text = BAD[case]
    async with api(fake_clock) as a:
        error = await refusal(a.create("configmaps", config_map("x") | changes))
        assert error.code == code
        assert text in error.message
        assert a.cache.list("configmaps") == []


async def test_unknown_fields_are_refused_told_or_dropped(fake_clock: Clock) -> None:
    async with api(fake_clock) as a:
        body = config_map() | {"dota": 1, "spec": {}}
        error = await refusal(a.create("configmaps", body, options=STRICT))
        assert error.code == 400
        assert error.message == (
            'strict decoding error: unknown field "dota", unknown field "spec"'
        )
        wrong = await refusal(a.create("configmaps", body | {"data": 5}, options=STRICT))
        assert wrong.message.startswith("the body cannot be read as a ConfigMap: data: ")
        assert wrong.message.endswith('; unknown field "dota"; unknown field "spec"')
        made = await a.create("configmaps", body)
        assert made.warnings == ('unknown field "dota"', 'unknown field "spec"')
        assert "dota" not in made.object
        quiet = WriteOptions(validation="Ignore")
        assert not (await a.create("configmaps", body | config_map("b"), options=quiet)).warnings


async def test_fields_that_are_set_twice_are_refused_told_or_overlooked(fake_clock: Clock) -> None:
    twice = ("data.key",)
    strict = WriteOptions(validation="Strict", repeated=twice)
    async with api(fake_clock) as a:
        error = await refusal(a.create("configmaps", config_map() | {"x": 1}, options=strict))
        assert error.message == (
            'strict decoding error: duplicate field "data.key", unknown field "x"'
        )
        told = WriteOptions(repeated=twice)
        for plural, body in (("configmaps", config_map()), ("pods", pod())):
            made = await a.create(plural, body, options=told)
            assert 'duplicate field "data.key"' in made.warnings
            name = body["metadata"]["name"]
            changed = await a.change(plural, name, {}, options=told)
            assert 'duplicate field "data.key"' in changed.warnings
            error = await refusal(a.change(plural, name, {}, options=strict))
            assert error.code == 400
        quiet = WriteOptions(validation="Ignore", repeated=twice)
        assert not (await a.create("configmaps", config_map("b"), options=quiet)).warnings


async def test_names_are_made_up_where_only_their_beginning_is_given(fake_clock: Clock) -> None:
    async with api(fake_clock) as a:
        body = {"metadata": {"generateName": "web-"}}
        names = {(await a.create("configmaps", body)).object["metadata"]["name"] for _ in range(20)}
        assert len(names) == 20
        assert all(len(name) == 9 and name.startswith("web-") for name in names)
        made = (await a.create("pods", pod() | {"metadata": {"generateName": "web-"}})).object
        assert made["metadata"]["generateName"] == "web-"
        assert made["metadata"]["name"].startswith("web-")


async def test_nothing_comes_into_a_namespace_that_is_not_there_or_is_going(
    fake_clock: Clock,
) -> None:
    async with api(fake_clock) as a:
        error = await refusal(a.create("pods", pod(), "nowhere"))
        assert (error.code, error.message) == (404, 'namespaces "nowhere" not found')
        await a.create("namespaces", {"metadata": {"name": "going"}})
        gone = await a.delete("namespaces", "going")
        assert gone["status"]["phase"] == "Terminating"
        error = await refusal(a.create("configmaps", config_map(), "going"))
        assert (error.code, error.reason) == (403, "Forbidden")
        # Controllers look for this one, and do not try again.
        assert error.details["causes"] == [
            {
                "reason": "NamespaceTerminating",
                "message": "namespace going is being terminated",
                "field": "metadata.namespace",
            }
        ]
        assert "because it is being terminated" in error.message


async def test_a_second_object_of_a_name_already_exists(fake_clock: Clock) -> None:
    async with api(fake_clock) as a:
        for plural, body in (("configmaps", config_map()), ("pods", pod())):
            await a.create(plural, body)
            error = await refusal(a.create(plural, body))
            assert (error.code, error.reason) == (409, "AlreadyExists")


class SlowStore(MemoryStore):
    """Others have their turn while it writes."""

    async def edit(self, edit: Edit) -> int:
        await anyio.sleep(0.01)
        return await super().edit(edit)


@pytest.mark.parametrize("large", [0, aside.LARGE], ids=["beside the loop", "on the loop"])
async def test_many_writers_of_one_object_lose_nothing(
    fake_clock: Clock, monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    monkeypatch.setattr(aside, "LARGE", large)
    async with api(fake_clock, store=SlowStore()) as a:
        await a.create("configmaps", config_map(data={}))
        async with anyio.create_task_group() as tasks:
            for n in range(20):
                tasks.start_soon(a.change, "configmaps", "settings", {"data": {f"k{n}": "v"}})
        found = a.get("configmaps", "settings")
        assert found is not None
        assert len(found["data"]) == 20


async def test_a_pod_that_is_large_is_judged_beside_the_loop_and_runs(
    fake_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aside, "LARGE", 0)
    async with api(fake_clock) as a:
        await a.create("pods", pod())
        await a.change("pods", "web", {"metadata": {"labels": {"a": "b"}}})
        found = a.get("pods", "web")
        assert found is not None
        assert found["metadata"]["labels"] == {"a": "b"}
        assert (await refusal(a.create("pods", pod()))).reason == "AlreadyExists"
        assert (await refusal(a.create("pods", pod(), "nowhere"))).code == 404


async def test_a_pod_of_a_file_has_its_name_before_it_is_stored(fake_clock: Clock) -> None:
    async with api(fake_clock) as a:
        answer = await a.create("pods", pod(), options=WriteOptions(dry_run=True))
        a.pods.run(msgspec.convert(answer.object, v1.Pod))
        assert a.get("pods", "web") is None
        assert (await refusal(a.create("pods", pod()))).reason == "AlreadyExists"
        assert len(a.pods.node.workers) == 1


async def test_an_apply_makes_what_is_not_there(fake_clock: Clock) -> None:
    async with api(fake_clock) as a:

        async def applied(body: Json) -> bool:
            resource = _resource("configmaps")
            answer = await a.registry.update(
                resource, "default", "settings", lambda _: body, PLAIN, upsert=True
            )
            return answer.created

        of_another = {"metadata": {"name": "settings", "uid": "1"}}
        error = await refusal(applied(config_map() | of_another))
        assert error.code == 409
        assert "uid mismatch: the provided object specified uid 1, and no existing" in error.message
        assert await applied(config_map())
        assert not await applied(config_map(data={"a": "b"}))


async def test_a_deleted_object_is_gone_and_its_preconditions_are_kept(fake_clock: Clock) -> None:
    async with api(fake_clock) as a:
        made = (await a.create("configmaps", config_map())).object
        uid = made["metadata"]["uid"]
        error = await refusal(a.delete("configmaps", "settings", uid="other"))
        assert error.code == 409
        assert "Precondition failed: UID" in error.message
        error = await refusal(a.delete("configmaps", "settings", resource_version="1"))
        assert error.code == 409
        assert (await a.delete("configmaps", "settings", dry_run=True))["status"] == "Success"
        status = await a.delete("configmaps", "settings", uid=uid, propagation="Foreground")
        assert status["status"] == "Success"
        assert status["details"] == {"name": "settings", "kind": "configmaps", "uid": uid}
        assert a.get("configmaps", "settings") is None
        error = await refusal(a.delete("configmaps", "settings"))
        assert (error.code, error.message) == (404, 'configmaps "settings" not found')


async def test_finalizers_keep_an_object_until_they_are_removed(fake_clock: Clock) -> None:
    async with api(fake_clock) as a:
        body = config_map()
        body["metadata"]["finalizers"] = ["example.com/wait"]
        await a.create("configmaps", body)
        going = await a.delete("configmaps", "settings")
        assert going["metadata"]["deletionTimestamp"]
        again = await a.delete("configmaps", "settings")
        assert again["metadata"]["resourceVersion"] == going["metadata"]["resourceVersion"]
        more = ["example.com/wait", "example.com/more"]
        error = await refusal(
            a.change("configmaps", "settings", {"metadata": {"finalizers": more}})
        )
        assert (error.code, error.message) == (422, f'ConfigMap "settings" is invalid: {NO_MORE}')
        await a.change("configmaps", "settings", {"metadata": {"finalizers": None}})
        assert a.get("configmaps", "settings") is None


NO_MORE = (
    "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being "
    'deleted, found new finalizers []string{"example.com/more"}'
)


IMMUTABLE: dict[str, tuple[str, Json, Json, str]] = {
    "data of an immutable ConfigMap": (
        "configmaps",
        {"immutable": True, "data": {"a": "b"}},
        {"data": {"a": "c"}},
        "data: Forbidden: field is immutable when `immutable` is set",
    ),
    "the mark itself": (
        "configmaps",
        {"immutable": True},
        {"immutable": None},
        "immutable: Forbidden: field is immutable when `immutable` is set",
    ),
    "data of an immutable Secret": (
        "secrets",
        {"immutable": True},
        {"stringData": {"a": "hidden"}},
        "data: Forbidden: field is immutable when `immutable` is set",
    ),
    "the type of a Secret": ("secrets", {}, {"type": "x"}, "type: Invalid value"),
    "the address of a Service": (
        "services",
        {"spec": {"ports": [{"port": 80}]}},
        {"spec": {"clusterIP": "None"}},
        "spec.clusterIP: Invalid value",
    ),
}


@pytest.mark.parametrize("case", IMMUTABLE)
async def test_what_is_fixed_stays(fake_clock: Clock, case: str) -> None:
    plural, body, changes, text = IMMUTABLE[case]
    async with api(fake_clock) as a:
        await a.create(plural, {"metadata": {"name": "x"}} | body)
        error = await refusal(a.change(plural, "x", changes))
        assert error.code == 422
        assert text in error.message
        assert "hidden" not in error.message
        await a.change(plural, "x", {"metadata": {"labels": {"still": "possible"}}})


async def test_a_secret_is_stored_as_data_and_said_in_no_error(fake_clock: Clock) -> None:
    async with api(fake_clock) as a:
        body = {"metadata": {"name": "x"}, "stringData": {"a": "b"}}
        made = (await a.create("secrets", body)).object
        assert (made["data"], made["type"]) == ({"a": "Yg=="}, "Opaque")
        assert "stringData" not in made
        for wrong in ({"data": {"a": "hidden!"}}, {"data": {"a": ["hidden!"]}}):
            error = await refusal(a.create("secrets", {"metadata": {"name": "y"}} | wrong))
            assert error.code in (400, 422)
            assert "hidden" not in error.message


async def test_a_service_is_stored_with_an_address_and_says_what_nobody_does(
    fake_clock: Clock,
) -> None:
    async with api(fake_clock) as a:
        body: Json = {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}
        made = await a.create("services", body)
        assert made.object["spec"]["clusterIP"] == "127.0.0.1"
        assert made.object["spec"]["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
        assert not made.warnings
        body = {"metadata": {"name": "b"}, "spec": {"ports": [{"port": 80, "targetPort": 8080}]}}
        (warning,) = (await a.create("services", body)).warnings
        assert "nothing forwards port 80" in warning
        error = await refusal(a.create("services", {"metadata": {"name": "9"}, "spec": {}}))
        assert "DNS-1035" in error.message
        assert "spec.ports: Required value" in error.message


async def test_status_is_changed_only_by_itself(fake_clock: Clock) -> None:
    async with api(fake_clock) as a:
        await a.create("services", {"metadata": {"name": "x"}, "spec": {"ports": [{"port": 1}]}})
        status = {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}}
        await a.change("services", "x", {"status": status, "metadata": {"labels": {"a": "b"}}})
        found = a.get("services", "x")
        assert found is not None
        assert found["status"] == {"loadBalancer": {}}
        labels: Json = {"metadata": {"labels": {"a": "c"}}, "spec": {"type": "NodePort"}}
        changed = await a.change("services", "x", labels | {"status": status}, subresource="status")
        assert changed.object["status"] == status
        assert changed.object["metadata"]["labels"] == {"a": "c"}
        assert changed.object["spec"]["type"] == "ClusterIP"


async def test_a_full_disk_is_an_error_and_nothing_is_changed(
    fake_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with api(fake_clock) as a:

        async def full(*_: Any) -> int:
            raise OSError(28, "no room")

        with monkeypatch.context() as patch:
            patch.setattr(a.store, "edit", full)
            error = await refusal(a.create("configmaps", config_map()))
        assert error.code == 500
        assert 'cannot store configmaps "settings": no room' in error.message
        await a.create("configmaps", config_map())


async def test_who_has_set_which_field_is_noted(fake_clock: Clock) -> None:
    async with api(fake_clock) as a:
        made = (await a.create("configmaps", config_map())).object
        [entry] = made["metadata"]["managedFields"]
        assert (entry["manager"], entry["operation"]) == ("test", "Update")
        assert entry["fieldsV1"] == {"f:data": {"f:key": {}}}
        other = WriteOptions(field_manager="other")
        changed = await a.change("configmaps", "settings", {"data": {"b": "c"}}, options=other)
        managers = {
            entry["manager"]: entry["fieldsV1"]
            for entry in changed.object["metadata"]["managedFields"]
        }
        assert managers["other"] == {"f:data": {"f:b": {}}}
        pods = (await a.create("pods", pod())).object["metadata"]["managedFields"]
        set_by_creator = pods[0]["fieldsV1"]["f:spec"]
        assert "f:dnsPolicy" in set_by_creator
        assert not set_by_creator.keys() & {"f:nodeName", "f:serviceAccountName"}
        # An apply has seen to it itself.
        applied = WriteOptions(field_manager="x", applied=True)
        await a.change("configmaps", "settings", {"data": {"b": "d"}}, options=applied)
        found = a.get("configmaps", "settings")
        assert found is not None
        assert {e["manager"] for e in found["metadata"]["managedFields"]} == {"test", "other"}


async def test_who_applies_a_status_is_noted(fake_clock: Clock) -> None:
    async with api(fake_clock) as a:
        await a.create("services", {"metadata": {"name": "x"}, "spec": {"ports": [{"port": 1}]}})
        entry = {"manager": "me", "operation": "Apply", "subresource": "status", "fieldsV1": {}}
        changes: Json = {
            "metadata": {"managedFields": [entry]},
            "status": {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}},
        }
        applied = WriteOptions(field_manager="me", applied=True)
        changed = await a.change("services", "x", changes, options=applied, subresource="status")
        assert changed.object["metadata"]["managedFields"] == [entry]


@pytest.mark.parametrize("applied", [False, True])
async def test_many_small_writes_do_not_make_an_object_too_large(
    fake_clock: Clock, applied: bool
) -> None:
    async with api(fake_clock) as a:
        await a.create("configmaps", config_map())
        entry = {"manager": "x" * 4_000_000, "operation": "Apply", "fieldsV1": {"f:data": {}}}
        change = a.change(
            "configmaps",
            "settings",
            {"metadata": {"managedFields": [entry]}},
            options=WriteOptions(applied=applied),
        )
        error = await refusal(change)
        assert (error.code, error.reason) == (413, "RequestEntityTooLarge")


# --- pods --------------------------------------------------------------------------------------


async def test_a_created_pod_is_stored_before_the_answer_and_runs(fake_clock: Clock) -> None:
    async with api(fake_clock, {"a": Program(runs=5.0)}) as a:
        body = pod(restartPolicy="Never")
        body["metadata"] |= {"generation": 100, "uid": "mine", "labels": {"app": "web"}}
        answer = await a.create("pods", body)
        assert answer.created
        assert not answer.warnings
        made = answer.object
        assert made["metadata"]["generation"] == 1
        assert made["metadata"]["uid"] not in ("", "mine")
        assert made["metadata"]["labels"] == {"app": "web"}
        assert made["spec"]["nodeName"] == "here"
        assert made["spec"]["serviceAccountName"] == "default"
        assert made["spec"]["terminationGracePeriodSeconds"] == 30
        assert made["status"]["phase"] == "Pending"
        [stored] = (await a.store.load()).pods
        assert stored.pod.metadata.uid == made["metadata"]["uid"]
        await a.world.node.wait()
        found = a.get("pods", "web")
        assert found is not None
        assert found["status"]["phase"] == "Succeeded"


async def test_a_pod_that_could_not_be_stored_is_not_there_later(
    fake_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with api(fake_clock) as a:

        async def full(*_: Any) -> int:
            raise OSError(28, "no room")

        with monkeypatch.context() as patch:
            patch.setattr(a.store, "commit", full)
            error = await refusal(a.create("pods", pod()))
        assert (error.code, error.reason) == (500, "InternalError")
        assert error.message == 'cannot store pods "web": no room'
        await a.clock.sleep(60)
        assert a.get("pods", "web") is None
        assert a.world.node.workers == ()
        assert a.world.runtime.times("start", "a") == []
        await a.create("pods", pod())


class FullStore(MemoryStore):
    """Has no room for changes of pods, as often as it is told."""

    full = 0

    async def commit(self, change: Change) -> int:
        if self.full:
            self.full -= 1
            raise OSError(errno.ENOSPC, "no room")
        return await super().commit(change)


CONDITION = {"type": "example.com/ok", "status": "True"}


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda a: a.delete("pods", "web"), id="a deletion"),
        pytest.param(lambda a: a.delete("pods", "web", grace=0), id="a forced deletion"),
        pytest.param(
            lambda a: a.post("pods", "web", "eviction", {"metadata": {"name": "web"}}),
            id="an eviction",
        ),
        pytest.param(
            lambda a: a.change("pods", "web", {"metadata": {"labels": {"new": "one"}}}),
            id="a label",
        ),
        pytest.param(
            lambda a: a.change("pods", "web", {"spec": {"activeDeadlineSeconds": 1}}),
            id="a deadline",
        ),
        pytest.param(
            lambda a: a.change(
                "pods", "web", {"status": {"conditions": [CONDITION]}}, subresource="status"
            ),
            id="a condition",
        ),
    ],
)
async def test_what_could_not_be_stored_of_a_pod_is_refused_at_once_and_does_not_happen_later(
    fake_clock: Clock, ask: Callable[[Api], Awaitable[object]]
) -> None:
    store = FullStore()
    async with api(fake_clock, {"a": Program(runs=1000)}, store=store) as a:
        await a.create("pods", pod())
        await a.clock.sleep(5)
        before, at = a.get("pods", "web"), a.clock.now()
        store.full = 1
        error = await refusal(ask(a))
        assert (error.code, error.reason) == (500, "InternalError")
        assert error.message == 'cannot store pods "web": no room'
        assert a.clock.now() == at
        await a.clock.sleep(100)
        assert a.get("pods", "web") == before
        assert [event.reason for event in a.world.node.events()].count("FailedSync") == 0
        await ask(a)
        await a.clock.sleep(100)
        assert a.get("pods", "web") != before


async def test_what_has_happened_meanwhile_is_stored_when_there_is_room(fake_clock: Clock) -> None:
    """The refused deletion was told together with the end of the container, which did happen."""
    store = FullStore()
    async with api(fake_clock, {"a": Program(runs=10)}, store=store) as a:
        await a.create("pods", pod(restartPolicy="Never"))
        await a.clock.sleep(9.5)
        store.full = 2
        await a.clock.sleep(1)  # the end could not be stored, and is tried again every second
        assert store.full == 1
        error = await refusal(a.delete("pods", "web"))
        assert error.code == 500
        await a.clock.sleep(5)
        found = a.get("pods", "web")
        assert found is not None
        assert found["status"]["phase"] == "Succeeded"
        assert "deletionTimestamp" not in found["metadata"]


async def test_a_store_that_does_not_answer_is_not_waited_for_without_end(
    fake_clock: Clock,
) -> None:
    class StuckStore(MemoryStore):
        stuck: anyio.Event | None = None

        async def commit(self, change: Change) -> int:
            if self.stuck is not None:
                await self.stuck.wait()
            return await super().commit(change)

    store = StuckStore()
    async with api(fake_clock, {"a": Program(runs=1000)}, store=store) as a:
        await a.create("pods", pod())
        await a.clock.sleep(5)
        store.stuck = anyio.Event()
        errors: list[ApiError] = []

        async def change() -> None:
            labels = {"metadata": {"labels": {"being": "stored"}}}
            errors.append(await refusal(a.change("pods", "web", labels)))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(change)
            await a.clock.sleep(1)
            [worker] = a.world.node.workers
            with pytest.raises(OSError, match="did not come to it in 30 s"):
                await a.world.node.ask(worker, DeletionRequested(at=a.clock.now()))
        [error] = errors
        assert (error.code, error.reason) == (504, "Timeout")
        assert "may still be" in error.message
        store.stuck.set()
        await a.clock.sleep(1)
        found = a.get("pods", "web")
        assert found is not None
        assert found["metadata"]["labels"] == {"being": "stored"}
        assert "deletionTimestamp" not in found["metadata"]


async def test_a_pod_is_refused_with_every_reason(fake_clock: Clock) -> None:
    async with api(fake_clock) as a:
        body = pod(restartPolicy="Sometimes", nodeName="elsewhere")
        body["spec"]["containers"][0]["name"] = "A"
        error = await refusal(a.create("pods", body))
        status = error.status()
        assert (status["code"], status["reason"]) == (422, "Invalid")
        assert status["message"].startswith('Pod "web" is invalid: [')
        fields = {cause["field"]: cause for cause in status["details"]["causes"]}
        assert set(fields) == {"spec.containers[0].name", "spec.restartPolicy", "spec.nodeName"}
        cause = fields["spec.restartPolicy"]
        assert cause["reason"] == "FieldValueNotSupported"
        assert cause["message"].startswith('Unsupported value: "Sometimes"')
        a.pods.findings = [required(("spec", "x")), said(("spec", "y"), "hm", Severity.WARNING)]
        error = await refusal(a.create("pods", pod()))
        assert error.message == 'Pod "web" is invalid: spec.x: Required value'
        assert a.world.node.workers == ()


async def test_what_is_not_done_with_a_pod_is_a_warning(fake_clock: Clock) -> None:
    async with api(fake_clock) as a:
        made = await a.create("pods", pod(nodeName="here", nodeSelector={"a": "b"}))
        (warning,) = made.warnings
        assert warning.startswith("spec.nodeSelector is ignored")


async def test_a_deleted_pod_ends_gracefully_and_is_gone(fake_clock: Clock) -> None:
    """§7.1.1, §7.1.3"""
    async with api(fake_clock, {"a": Program(term=5.0)}) as a:
        uid = (await a.create("pods", pod())).object["metadata"]["uid"]
        await a.clock.sleep(1)
        error = await refusal(a.delete("pods", "web", uid="other"))
        assert error.code == 409
        going = await a.delete("pods", "web", grace=20)
        assert going["metadata"]["deletionGracePeriodSeconds"] == 20
        assert going["metadata"]["deletionTimestamp"]
        longer = await a.delete("pods", "web", grace=25)
        assert longer["metadata"]["deletionGracePeriodSeconds"] == 20
        shorter = await a.delete("pods", "web", grace=10)
        assert shorter["metadata"]["deletionGracePeriodSeconds"] == 10
        least = await a.delete("pods", "web", grace=-5)
        assert least["metadata"]["deletionGracePeriodSeconds"] == 1
        await until(a, lambda: a.get("pods", "web") is None)
        [change] = [c for c in a.cache._since(0) if c.type == "DELETED"]
        assert change.entry.uid == uid


async def test_what_was_asked_of_a_pod_that_goes_meanwhile_is_refused(fake_clock: Clock) -> None:
    async with api(fake_clock, {"a": Program(term=0.0)}) as a:
        uid = (await a.create("pods", pod())).object["metadata"]["uid"]
        await a.clock.sleep(1)
        entry = a.cache.get("pods", "default", "web")
        assert entry is not None
        await a.delete("pods", "web")
        while a.world.node.worker(uid) is not None:
            await a.clock.sleep(1)
        pods, labelled = (
            a.registry._of_pods,
            merged(entry.object, {"metadata": {"labels": {"a": "b"}}}),
        )
        gate = entry.object | {"status": {"conditions": [{"type": "x.org/a", "status": "True"}]}}
        resource = _resource("pods")
        for asked in (
            pods.update(resource, entry, labelled, PLAIN, ""),
            pods.set_status(resource, entry, gate, PLAIN),
        ):
            assert (await refusal(asked)).code == 404


async def test_a_name_is_free_as_soon_as_its_pod_is_seen_to_be_gone(
    fake_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with api(fake_clock, {"a": Program(term=0.0)}) as a:
        old = (await a.create("pods", pod())).object["metadata"]["uid"]
        await a.clock.sleep(1)
        removed = anyio.Event()

        async def remove_slowly(*_: str) -> None:
            await removed.wait()

        monkeypatch.setattr(a.world.runtime, "remove_pod", remove_slowly)
        await a.delete("pods", "web")
        await until(a, lambda: a.get("pods", "web") is None)
        assert a.world.node.worker(old) is not None
        assert a.world.node.find("default", "web") is None
        new = (await a.create("pods", pod())).object["metadata"]["uid"]
        removed.set()
        worker = a.world.node.find("default", "web")
        assert worker is not None
        assert worker.pod.metadata.uid == new != old


async def test_an_eviction_is_a_deletion_with_its_options(fake_clock: Clock) -> None:
    async with api(fake_clock, {"a": Program(term=None)}) as a:
        await a.create("pods", pod())
        await a.clock.sleep(1)
        body = {"metadata": {"name": "web"}, "deleteOptions": {"gracePeriodSeconds": 3}}
        status = await a.post("pods", "web", "eviction", body)
        assert (status["kind"], status["status"], status["code"]) == ("Status", "Success", 201)
        found = a.get("pods", "web")
        assert found is not None
        assert found["metadata"]["deletionGracePeriodSeconds"] == 3
        error = await refusal(a.post("pods", "nothing", "eviction", {}))
        assert error.code == 404


@pytest.mark.parametrize("place", ["of the request", "of its delete options"])
async def test_an_eviction_that_is_a_dry_run_evicts_nothing(fake_clock: Clock, place: str) -> None:
    async with api(fake_clock) as a:
        await a.create("pods", pod())
        await a.clock.sleep(1)
        body = {"metadata": {"name": "web"}}
        options = DRY
        if place == "of its delete options":
            body["deleteOptions"] = {"dryRun": ["All"]}  # type: ignore[dict-item]
            options = PLAIN
        status = await a.post("pods", "web", "eviction", body, options=options)
        assert status["status"] == "Success"
        found = a.get("pods", "web")
        assert found is not None
        assert "deletionTimestamp" not in found["metadata"]


async def test_a_pod_is_bound_already(fake_clock: Clock) -> None:
    async with api(fake_clock) as a:
        await a.create("pods", pod())
        error = await refusal(a.post("pods", "web", "binding", {"target": {"name": "here"}}))
        assert error.code == 409
        assert "is already assigned to node" in error.message


async def test_readiness_gates_are_set_by_status_and_the_nodes_own_conditions_are_not(
    fake_clock: Clock,
) -> None:
    """§1.2.8"""
    async with api(fake_clock) as a:
        await a.create("pods", pod(readinessGates=[{"conditionType": "example.com/one"}]))
        await a.clock.sleep(1)

        def ready() -> str:
            found = a.get("pods", "web")
            assert found is not None
            conditions = {c["type"]: c["status"] for c in found["status"]["conditions"]}
            return str(conditions["Ready"])

        assert ready() == "False"
        gate = {"type": "example.com/one", "status": "True", "reason": "Asked"}
        changes = {"status": {"conditions": [gate], "message": "hello"}}
        await a.change("pods", "web", changes, subresource="status", options=DRY)
        assert ready() == "False"
        answer = await a.change("pods", "web", changes, subresource="status")
        assert answer.object["status"]["message"] == "hello"
        assert ready() == "True"
        found = a.get("pods", "web")
        assert found is not None
        assert "message" not in found["status"]
        own = {"status": {"conditions": [{"type": "Ready", "status": "False"}, gate]}}
        answer = await a.change("pods", "web", own, subresource="status")
        assert answer.object["status"]["conditions"][0]["status"] == "False"
        assert answer.warnings == (
            "status.conditions[Ready] is set by the node, which overwrites it",
        )
        await a.clock.sleep(1)
        assert ready() == "True"
        twice = {"status": {"conditions": [gate | {"status": "False"}, gate | {"reason": "Again"}]}}
        await a.change("pods", "web", twice, subresource="status")
        assert ready() == "True"
        # It is gone as it is answered, and what is the node's is not.
        answer = await a.change("pods", "web", {"status": None}, subresource="status")
        assert not answer.object["status"].get("conditions")
        assert ready() == "False"
        found = a.get("pods", "web")
        assert found is not None
        types = [each["type"] for each in found["status"]["conditions"]]
        assert "example.com/one" not in types
        assert "PodScheduled" in types
        meta = {"labels": {"via": "status"}, "ownerReferences": [OWNER]}
        await a.change("pods", "web", {"metadata": meta}, subresource="status")
        found = a.get("pods", "web")
        assert found is not None
        assert found["metadata"]["labels"] == {"via": "status"}
        assert "ownerReferences" not in found["metadata"]
        bad = {"metadata": {"labels": {"a b": ""}}}
        assert (await refusal(a.change("pods", "web", bad, subresource="status"))).code == 422
        wrong = {"status": {"conditions": [{"type": "x", "status": "Maybe"}]}}
        error = await refusal(a.change("pods", "web", wrong, subresource="status"))
        assert error.code == 422
        assert "status.conditions[0].status: Unsupported value" in error.message


async def test_who_applies_a_condition_of_a_pod_is_noted_and_takes_it_away_again(
    fake_clock: Clock,
) -> None:
    async with api(fake_clock) as a:
        await a.create("pods", pod())
        await a.clock.sleep(1)

        async def applied(manager: str, *conditions: Json) -> Json:
            config = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}}
            config |= {"status": {"conditions": [*conditions]}}
            resource = _resource("pods")
            now = "2026-01-31T12:00:00Z"

            def change(live: Json | None) -> Json:
                return apply.apply(
                    live,
                    config,
                    manager,
                    force=False,
                    resource=resource,
                    now=now,
                    subresource="status",
                )

            options = WriteOptions(applied=True)
            await a.registry.update(
                resource, "default", "web", change, options, subresource="status"
            )
            found = a.get("pods", "web")
            assert found is not None
            return found

        gate = {"type": "example.com/gate", "status": "True"}
        set_ = await applied("gatekeeper", gate)
        assert gate["type"] in [each["type"] for each in set_["status"]["conditions"]]
        managers = {m["manager"]: m for m in set_["metadata"]["managedFields"]}
        assert managers["gatekeeper"]["subresource"] == "status"
        assert managers["gatekeeper"]["operation"] == "Apply"
        assert await applied("gatekeeper", gate) == set_
        error = await refusal(applied("other", gate | {"status": "False"}))
        assert 'conflict with "gatekeeper" with subresource "status"' in error.message
        without = await applied("gatekeeper")
        assert gate["type"] not in [each["type"] for each in without["status"]["conditions"]]


async def test_labels_of_a_pod_change_and_it_runs_on(fake_clock: Clock) -> None:
    """§1.2.11"""
    async with api(fake_clock) as a:
        made = (await a.create("pods", pod())).object
        await a.clock.sleep(1)
        meta = {"labels": {"a": "b"}, "annotations": {"c": "d"}, "uid": "mine", "generation": 9}
        error = await refusal(a.change("pods", "web", {"metadata": meta}))
        assert error.code == 409
        del meta["uid"]
        changed = (await a.change("pods", "web", {"metadata": meta})).object
        assert changed == a.get("pods", "web")
        assert changed["metadata"]["labels"] == {"a": "b"}
        assert changed["metadata"]["annotations"] == {"c": "d"}
        assert changed["metadata"]["generation"] == 1
        assert changed["metadata"]["uid"] == made["metadata"]["uid"]
        assert changed["status"]["phase"] == "Running"
        assert a.world.runtime.times("start", "a") == [0.0]
        same = (await a.change("pods", "web", {"metadata": {"labels": {"a": "b"}}})).object
        assert same["metadata"] == changed["metadata"]
        again = (await a.replace("pods", "web", pod())).object
        assert "labels" not in again["metadata"]
        assert again["spec"] == made["spec"]
        [stored] = (await a.store.load()).pods
        assert stored.pod.metadata.labels == {}


async def test_a_deadline_can_be_added_and_lowered(fake_clock: Clock) -> None:
    """§7.7"""
    async with api(fake_clock) as a:
        await a.create("pods", pod())
        await a.clock.sleep(1)
        for seconds in (100, 10):
            spec = {"activeDeadlineSeconds": seconds}
            changed = (await a.change("pods", "web", {"spec": spec})).object
        assert changed["metadata"]["generation"] == 3
        error = await refusal(a.change("pods", "web", {"spec": {"activeDeadlineSeconds": 20}}))
        assert "must be less than or equal to previous value" in error.message
        await a.clock.sleep(12)
        found = a.get("pods", "web")
        assert found is not None
        assert found["status"]["reason"] == "DeadlineExceeded"


FIXED: dict[str, tuple[Json, str]] = {
    "the restart policy": (
        {"restartPolicy": "Never"},
        "spec: Forbidden: pod updates may not change fields other than",
    ),
    "the containers": (
        {"containers": [{"name": "a", "command": ["a"]}, {"name": "b", "command": ["b"]}]},
        "spec.containers: Forbidden: pod updates may not add or remove containers",
    ),
}


@pytest.mark.parametrize("case", FIXED)
async def test_most_of_a_pod_stays_as_it_was_created(fake_clock: Clock, case: str) -> None:
    spec, text = FIXED[case]
    async with api(fake_clock) as a:
        await a.create("pods", pod())
        await a.clock.sleep(1)
        before = a.cache.version
        error = await refusal(a.change("pods", "web", {"spec": spec}))
        assert error.code == 422
        assert text in error.message
        assert a.cache.version == before


async def test_a_finalizer_keeps_a_pod_that_has_ended(fake_clock: Clock) -> None:
    """§1.1.12"""
    async with api(fake_clock) as a:
        body = pod()
        body["metadata"]["finalizers"] = ["example.com/wait"]
        answer = await a.create("pods", body)
        assert not answer.warnings
        await a.clock.sleep(1)
        await a.delete("pods", "web", grace=5)
        await a.clock.sleep(60)
        held = a.get("pods", "web")
        assert held is not None
        assert held["status"]["phase"] in ("Failed", "Succeeded")
        assert a.world.runtime.running == {}
        more = ["example.com/wait", "example.com/more"]
        error = await refusal(a.change("pods", "web", {"metadata": {"finalizers": more}}))
        assert (error.code, error.message) == (422, f'Pod "web" is invalid: {NO_MORE}')
        await a.change("pods", "web", {"metadata": {"finalizers": None}})
        await until(a, lambda: a.get("pods", "web") is None)


async def test_a_pod_that_has_ended_can_be_labelled_and_deleted(fake_clock: Clock) -> None:
    async with api(fake_clock, {"a": Program(runs=1.0)}) as a:
        await a.create("pods", pod(restartPolicy="Never"))
        await a.world.node.wait()
        changed = await a.change("pods", "web", {"metadata": {"labels": {"a": "b"}}})
        assert changed.object["metadata"]["labels"] == {"a": "b"}
        assert changed.object["status"]["phase"] == "Succeeded"
        await a.delete("pods", "web")
        await until(a, lambda: a.get("pods", "web") is None)


async def test_a_new_image_replaces_the_container_whatever_its_policy(fake_clock: Clock) -> None:
    """§7.6.2"""
    programs = {"a": Program(term=2.0), "b": Program()}
    async with api(fake_clock, programs) as a:
        containers = [{"name": n, "image": "x:1", "command": [n]} for n in "ab"]
        await a.create("pods", pod(containers=containers, restartPolicy="Never"))
        await a.clock.sleep(1)
        spec: Json = {"containers": [containers[0] | {"image": "x:2"}, containers[1]]}
        a.pods.findings = [required(("spec", "containers", 0, "image"), "it stands for nothing")]
        error = await refusal(a.change("pods", "web", {"spec": spec}))
        assert "it stands for nothing" in error.message
        a.pods.findings = []
        assert (await a.change("pods", "web", {"spec": spec}, options=DRY)).object["metadata"][
            "generation"
        ] == 2
        assert a.world.runtime.times("TERM", "a") == []
        changed = (await a.change("pods", "web", {"spec": spec})).object
        assert changed["metadata"]["generation"] == 2
        await a.clock.sleep(10)
        assert a.world.runtime.times("TERM", "a") == [1.0]
        assert a.world.runtime.times("start", "a") == [0.0, 3.0]
        assert a.world.runtime.times("start", "b") == [0.0]
        found = a.get("pods", "web")
        assert found is not None
        assert found["status"]["phase"] == "Running"
        status = found["status"]["containerStatuses"][0]
        assert (status["image"], status["restartCount"]) == ("x:2", 1)
        messages = [entry.object["message"] for entry in a.cache.list("events")]
        assert "Container a definition changed, will be restarted" in messages


async def test_an_image_that_changes_while_the_old_one_starts_wins(fake_clock: Clock) -> None:
    async with api(fake_clock, {"a": Program(start_takes=5.0)}) as a:
        container = {"name": "a", "image": "x:1", "command": ["a"]}
        await a.create("pods", pod(containers=[container]))
        await a.clock.sleep(1)
        spec = {"containers": [container | {"image": "x:2"}]}
        await a.change("pods", "web", {"spec": spec})
        await a.clock.sleep(30)
        assert a.world.runtime.times("start", "a") == [5.0, 10.0]


async def test_who_deletes_by_force_has_the_name_free_at_once(fake_clock: Clock) -> None:
    """§7.1.5"""
    async with api(fake_clock, {"a": Program(term=None), "b": Program()}) as a:
        first = (await a.create("pods", pod())).object["metadata"]["uid"]
        await a.clock.sleep(1)
        await a.delete("pods", "web", grace=0)
        assert a.get("pods", "web") is None
        assert a.world.runtime.running
        other = pod(containers=[{"name": "b", "command": ["b"]}])
        second = (await a.create("pods", other)).object["metadata"]["uid"]
        assert second != first
        await a.clock.sleep(10)
        assert [id.name for id in a.world.runtime.running] == ["b"]
        found = a.get("pods", "web")
        assert found is not None
        assert found["metadata"]["uid"] == second


REVIEWS: dict[str, tuple[Json, Json]] = {
    "selfsubjectaccessreviews.authorization.k8s.io": (
        {"resourceAttributes": {"verb": "get", "resource": "pods"}},
        {"allowed": True},
    ),
    "selfsubjectrulesreviews.authorization.k8s.io": ({"namespace": "x"}, {"incomplete": False}),
    "selfsubjectreviews.authentication.k8s.io": ({}, {}),
    "tokenreviews.authentication.k8s.io": ({"token": "no"}, {"authenticated": False}),
}


@pytest.mark.parametrize("plural", REVIEWS)
async def test_reviews_are_answered(fake_clock: Clock, plural: str) -> None:
    spec, status = REVIEWS[plural]
    async with api(fake_clock) as a:
        answer = await a.post(plural, "", "", {"spec": spec})
        assert status.items() <= answer["status"].items()
        assert answer["kind"] == _resource(plural).kind
        if plural.startswith("selfsubjectreviews"):
            assert answer["status"]["userInfo"]["username"] == "me"
        if plural.startswith("tokenreviews"):
            mine = await a.post(plural, "", "", {"spec": {"token": "mine"}})
            assert mine["status"]["authenticated"] is True


@pytest.mark.parametrize("version", ["v1alpha1", "v1beta1"])
async def test_older_clients_are_told_who_they_are(fake_clock: Clock, version: str) -> None:
    resource = resources.find("authentication.k8s.io", version, "selfsubjectreviews")
    assert resource is not None
    async with api(fake_clock) as a:
        body = {"apiVersion": resource.api_version, "kind": resource.kind}
        answer = (await a.registry.post(resource, "", "", "", body, WriteOptions())).object
        assert answer["apiVersion"] == f"authentication.k8s.io/{version}"
        assert answer["status"]["userInfo"]["username"] == "me"
