"""What the model says about fields, bodies and schemas, held against a client's own models."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.api import codec, kinds, schema, v1
from supervisor.api.schema import Field


def at(type_: type[v1.Model], *path: str) -> Field:
    """The field at the end of a path."""
    found: Field | None = None
    for name in path:
        found = schema.field(type_ if found is None else found.type, name)
        assert found is not None, path
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("type_", "path", "merge_key", "map_keys"),
    [
        (v1.Pod, "metadata.ownerReferences", "uid", ("uid",)),
        (v1.Pod, "spec.containers", "name", ("name",)),
        (v1.Pod, "spec.initContainers", "name", ("name",)),
        (v1.Pod, "spec.ephemeralContainers", "name", ("name",)),
        (v1.Pod, "spec.ephemeralContainers.env", "name", ("name",)),
        (v1.Pod, "spec.containers.env", "name", ("name",)),
        (v1.Pod, "spec.containers.ports", "containerPort", ("containerPort", "protocol")),
        (v1.Pod, "spec.containers.volumeMounts", "mountPath", ("mountPath",)),
        (v1.Pod, "spec.containers.volumeDevices", "devicePath", ("devicePath",)),
        (v1.Pod, "spec.imagePullSecrets", "name", ("name",)),
        (v1.Pod, "spec.schedulingGates", "name", ("name",)),
        (v1.Pod, "spec.volumes", "name", ("name",)),
        (v1.Pod, "spec.resourceClaims", "name", ("name",)),
        (v1.Pod, "spec.hostAliases", "ip", ("ip",)),
        (
            v1.Pod,
            "spec.topologySpreadConstraints",
            "topologyKey",
            ("topologyKey", "whenUnsatisfiable"),
        ),
        (v1.Pod, "status.conditions", "type", ("type",)),
        (v1.Pod, "status.podIPs", "ip", ("ip",)),
        (v1.Pod, "status.hostIPs", "ip", ()),
        (v1.Pod, "spec.containers.resources.claims", "", ("name",)),
        (v1.Pod, "spec.tolerations", "", ()),
        (v1.Pod, "spec.containers.command", "", ()),
        (v1.Pod, "spec.containers.envFrom", "", ()),
        (kinds.PodTemplate, "template.spec.containers.env", "name", ("name",)),
        (v1.Deployment, "spec.template.spec.containers.env", "name", ("name",)),
        (kinds.Node, "status.conditions", "type", ("type",)),
        (kinds.Node, "status.addresses", "type", ("type",)),
        (kinds.Node, "spec.taints", "", ()),
        (kinds.Service, "spec.ports", "port", ("port", "protocol")),
        (kinds.ServiceAccount, "secrets", "name", ("name",)),
    ],
)
def test_a_list_is_merged_by_its_key(
    type_: type[v1.Model], path: str, merge_key: str, map_keys: tuple[str, ...]
) -> None:
    found = at(type_, *path.split("."))
    assert (found.shape, found.merge_key, found.map_keys) == ("list", merge_key, map_keys)
    assert found.list_type == ("map" if map_keys else "atomic")
    assert ("merge" in found.strategy) == bool(merge_key)


def test_finalizers_are_a_set_that_patches_add_to() -> None:
    found = at(v1.Pod, "metadata", "finalizers")
    assert (found.list_type, found.strategy, found.merge_key) == ("set", ("merge",), "")


def test_volumes_are_patched_with_the_keys_to_retain() -> None:
    assert at(v1.Pod, "spec", "volumes").strategy == ("merge", "retainKeys")


def test_a_port_without_a_protocol_is_a_tcp_port() -> None:
    assert at(v1.Pod, "spec", "containers", "ports").key_defaults == {"protocol": "TCP"}
    assert at(kinds.Service, "spec", "ports").key_defaults == {"protocol": "TCP"}
    assert at(v1.Pod, "spec", "volumes").key_defaults == {}


@pytest.mark.parametrize(
    ("path", "shape", "atomic"),
    [
        ("metadata.labels", "map", False),
        ("spec.nodeSelector", "map", True),
        ("spec.containers.resources.limits", "map", False),
        ("spec.containers.livenessProbe", "object", False),
        ("spec.containers.env.valueFrom.secretKeyRef", "object", True),
        ("spec.affinity.nodeAffinity", "map", False),
        ("spec.restartPolicy", "scalar", False),
        ("spec.containers.livenessProbe.httpGet.port", "scalar", False),
    ],
)
def test_objects_and_maps_have_one_owner_or_one_for_each_field(
    path: str, shape: str, atomic: bool
) -> None:
    found = at(v1.Pod, *path.split("."))
    assert (found.shape, found.atomic) == (shape, atomic)


def test_what_nobody_knows_has_no_field() -> None:
    assert schema.field(v1.Pod, "speck") is None
    assert schema.field(None, "spec") is None


def test_every_list_with_keys_is_a_field_of_the_model() -> None:
    for tables in (schema._KEYED, schema._SETS):
        for type_, names in tables.items():
            assert set(names) <= set(codec.fields(type_)), type_
    for type_, name in schema._ATOMIC_FIELDS:
        assert name in codec.fields(type_)


# --- bodies --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "unknown"),
    [
        ({"spec": {"contaners": []}}, ['unknown field "spec.contaners"']),
        (
            {"spec": {"containers": [{"name": "a", "comand": []}]}, "speck": {}},
            ['unknown field "spec.containers[0].comand"', 'unknown field "speck"'],
        ),
        ({"metadata": {"labels": {"any.thing/goes": "x"}}}, []),
    ],
)
def test_unknown_fields_are_told_with_their_paths(body: dict[str, Any], unknown: list[str]) -> None:
    checked = schema.check(v1.Pod, body)
    assert list(checked.unknown) == unknown
    assert checked.wrong == ()


@pytest.mark.parametrize(
    ("type_", "body", "wrong"),
    [
        (
            v1.Pod,
            {"spec": {"containers": {"name": "a"}}},
            'spec.containers: Invalid value: {"name":"a"}: must be a list: put "- " before '
            "each item",
        ),
        (
            kinds.Node,
            {"status": {"capacity": {"cpu": "two"}}},
            'status.capacity[cpu]: Invalid value: "two": quantities must match the regular '
            "expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            kinds.Service,
            {"spec": {"ports": [{"port": "80"}]}},
            'spec.ports[0].port: Invalid value: "80": must be an integer: remove the quotes',
        ),
        (
            kinds.PodTemplate,
            {"template": {"spec": {"hostPID": "yes"}}},
            'template.spec.hostPID: Invalid value: "yes": must be true or false: remove the quotes',
        ),
        (
            v1.Event,
            {"lastTimestamp": "yesterday"},
            'lastTimestamp: Invalid value: "yesterday": must be a time, such as '
            "2026-01-31T12:00:00Z",
        ),
        (
            kinds.Lease,
            {"spec": {"renewTime": "2026-13-01T00:00:00Z"}},
            'spec.renewTime: Invalid value: "2026-13-01T00:00:00Z": must be a time, such as '
            "2026-01-31T12:00:00.000000Z",
        ),
    ],
)
def test_a_value_of_a_wrong_type_is_wrong_and_not_unknown(
    type_: type[v1.Model], body: dict[str, Any], wrong: str
) -> None:
    checked = schema.check(type_, body)
    assert [str(finding) for finding in checked.wrong] == [wrong]
    assert checked.unknown == ()


def test_every_kind_can_be_read_from_nothing_and_from_what_it_writes() -> None:
    for (api_version, kind), type_ in schema.MODELS.items():
        empty, findings = codec.decode({}, type_)
        assert findings == []
        plain = codec.to_plain(empty) | {"apiVersion": api_version, "kind": kind}
        again: Any = schema.check(type_, plain)
        assert (again.unknown, again.wrong) == ((), ())
        assert (again.value.api_version, again.value.kind) == (api_version, kind)


def test_a_body_becomes_a_typed_pod() -> None:
    body = {
        "metadata": {"name": "web", "unknown": 1},
        "spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": 0.5}}}]},
    }
    pod = schema.check(v1.Pod, body).value
    assert pod.metadata.name == "web"
    assert pod.spec.containers[0].resources.limits == {"cpu": "0.5"}
