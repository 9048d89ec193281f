"""Protobuf bodies are read as the JSON they stand for, and what is none is refused."""

from __future__ import annotations

import base64
import re
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.api import codec, kinds, v1
from supervisor.apiserver import protobuf
from supervisor.apiserver.contract import ApiError
from supervisor.apiserver.protobuf_messages import MESSAGES

# As kubectl 1.33 sent them: `create service clusterip s --tcp=80:http`, `auth can-i get pods`.
SERVICE = (
    b'k8s\x00\n\r\n\x02v1\x12\x07Service\x12f\n\x1b\n\x01s\x12\x00\x1a\x00"\x00*\x002\x008\x00B'
    b'\x00Z\x08\n\x03app\x12\x01s\x12C\n\x1e\n\x0780-http\x12\x03TCP\x18P"\n\x08\x01\x10\x00'
    b'\x1a\x04http(\x00\x12\x08\n\x03app\x12\x01s\x1a\x00"\tClusterIP:\x00B\x00R\x00Z\x00`\x00h'
    b'\x00\x1a\x02\n\x00\x1a\x00"\x00'
)
REVIEW = (
    b"k8s\x00\n2\n\x17authorization.k8s.io/v1\x12\x17SelfSubjectAccessReview\x12<\n\x10\n\x00\x12"
    b'\x00\x1a\x00"\x00*\x002\x008\x00B\x00\x12\x1e\n\x1c\n\x07default\x12\x03get\x1a\x00"\x00*'
    b'\x04pods2\x00:\x00\x1a\x08\x08\x00\x12\x00\x1a\x00 \x00\x1a\x00"\x00'
)


# --- an encoder, as Go's is ----------------------------------------------------------------------


def varint(value: int) -> bytes:
    value %= 2**64
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def tagged(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def encoded_value(type_: str, value: Any) -> int | bytes:
    match type_:
        case "s":
            return str(value).encode()
        case "i" | "b":
            return int(value)
        case "y":
            return base64.b64decode(value)
        case "time" | "micro":
            at = datetime.fromisoformat(value)
            return tagged(1, int(at.timestamp())) + tagged(2, at.microsecond * 1000)
        case "quantity":
            return tagged(1, value.encode())
        case "int-or-string":
            if isinstance(value, int):
                return tagged(1, 0) + tagged(2, value) + tagged(3, b"")
            return tagged(1, 1) + tagged(2, 0) + tagged(3, value.encode())
        case _:
            return encoded(type_, value)


def encoded(message: str, value: dict[str, Any]) -> bytes:
    out = b""
    left = dict(value)
    for number, field in protobuf._table(message).items():
        if not field.name:
            names = [f.name for f in protobuf._table(field.type).values()]
            inner = {name: left.pop(name) for name in names if name in left}
            out += tagged(number, encoded(field.type, inner))
        elif field.name not in left:
            if not field.shape and not field.zero_counts and field.type in ("s", "i", "b"):
                out += tagged(number, b"" if field.type == "s" else 0)  # Go writes zeros
        elif field.shape == "list":
            for item in left.pop(field.name):
                out += tagged(number, encoded_value(field.type, item))
        elif field.shape == "map":
            for key, item in left.pop(field.name).items():
                entry = tagged(1, key.encode()) + tagged(2, encoded_value(field.type, item))
                out += tagged(number, entry)
        else:
            out += tagged(number, encoded_value(field.type, left.pop(field.name)))
    assert not left, (message, left)
    return out


def body(api_version: str, kind: str, raw: bytes) -> bytes:
    meta = tagged(1, api_version.encode()) + tagged(2, kind.encode())
    return b"k8s\x00" + tagged(1, meta) + tagged(2, raw) + tagged(3, b"") + tagged(4, b"")


# --- what is read --------------------------------------------------------------------------------


def test_what_kubectl_sends_is_read_without_its_zeros() -> None:
    assert protobuf.decode(SERVICE) == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s", "labels": {"app": "s"}},
        "spec": {
            "ports": [{"name": "80-http", "protocol": "TCP", "port": 80, "targetPort": "http"}],
            "selector": {"app": "s"},
            "type": "ClusterIP",
        },
        "status": {"loadBalancer": {}},
    }
    attributes = {"namespace": "default", "verb": "get", "resource": "pods"}
    assert protobuf.decode(REVIEW)["spec"] == {"resourceAttributes": attributes}


@pytest.mark.parametrize(
    ("api_version", "kind", "value"),
    [
        pytest.param(
            "v1",
            "Pod",
            {
                "metadata": {
                    "name": "web",
                    "creationTimestamp": "2026-01-31T12:00:00Z",
                    "generation": 3,
                    "labels": {"a": "b", "": "c"},
                    "annotations": {"é": "ü"},
                    "ownerReferences": [{"kind": "Job", "uid": "u", "controller": False}],
                },
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "hostUsers": False,
                    "securityContext": {"supplementalGroups": [1, 0, -1]},
                    "containers": [
                        {
                            "name": "a",
                            "command": ["sh", ""],
                            "resources": {"limits": {"cpu": "500m"}},
                            "env": [
                                {
                                    "name": "A",
                                    "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}},
                                }
                            ],
                            "envFrom": [{"secretRef": {"name": "s", "optional": True}}],
                            "livenessProbe": {
                                "httpGet": {"port": 80, "path": "/"},
                                "periodSeconds": 5,
                            },
                            "readinessProbe": {"httpGet": {"port": "http"}},
                            "restartPolicyRules": [
                                {
                                    "action": "Restart",
                                    "exitCodes": {"operator": "In", "values": [0, 42]},
                                }
                            ],
                            "securityContext": {"runAsUser": 0, "privileged": False},
                        }
                    ],
                    "ephemeralContainers": [{"name": "d", "targetContainerName": "a"}],
                    "volumes": [
                        {"name": "e", "emptyDir": {}},
                        {"name": "c", "configMap": {"name": "c", "defaultMode": 0}},
                        {"name": "g", "emptyDir": {"sizeLimit": "1Gi"}},
                    ],
                },
                "status": {
                    "containerStatuses": [
                        {
                            "name": "a",
                            "ready": False,
                            "restartCount": 0,
                            "image": "",
                            "imageID": "",
                            "state": {"terminated": {"exitCode": 0}},
                        }
                    ]
                },
            },
            id="a pod with embedded structs, pointers to zeros and every shape of field",
        ),
        pytest.param(
            "v1",
            "Secret",
            {"data": {"k": base64.b64encode(b"\x00\xff").decode()}, "immutable": False},
            id="bytes are base64",
        ),
        pytest.param(
            "coordination.k8s.io/v1",
            "Lease",
            {"spec": {"holderIdentity": "", "renewTime": "2026-01-31T12:00:00.000001Z"}},
            id="a time with microseconds",
        ),
        pytest.param(
            "policy/v1",
            "Eviction",
            {"metadata": {"name": "web"}, "deleteOptions": {"gracePeriodSeconds": 0}},
            id="an eviction that asks for no grace",
        ),
        pytest.param(
            "authentication.k8s.io/v1",
            "TokenReview",
            {"spec": {"token": "t", "audiences": ["a", ""]}},
            id="a list with an empty text",
        ),
    ],
)
def test_an_object_is_read_as_it_was(api_version: str, kind: str, value: dict[str, Any]) -> None:
    read = protobuf.decode(body(api_version, kind, encoded(kind, value)))
    assert without_empty(read) == {"apiVersion": api_version, "kind": kind} | value


def without_empty(value: Any) -> Any:
    """Structs that Go writes although nothing is in them."""
    if isinstance(value, list):
        return [without_empty(item) for item in value]
    if not isinstance(value, dict):
        return value
    out = {key: without_empty(inner) for key, inner in value.items()}
    return {key: inner for key, inner in out.items() if inner != {} or key == "emptyDir"}


def test_managed_fields_are_the_json_that_they_hold() -> None:
    raw = tagged(1, b'{"f:data":{}}')
    entry = tagged(1, b"me") + tagged(7, raw)
    read = protobuf.decode(body("v1", "ConfigMap", tagged(1, tagged(17, entry))))
    assert read["metadata"]["managedFields"] == [{"manager": "me", "fieldsV1": {"f:data": {}}}]


def test_packed_integers_are_read_as_well() -> None:
    security = tagged(4, varint(7) + varint(0))
    read = protobuf.decode(body("v1", "Pod", tagged(2, tagged(14, security))))
    assert read["spec"]["securityContext"] == {"supplementalGroups": [7, 0]}


def test_fields_of_newer_releases_are_passed_over() -> None:
    assert protobuf.decode(body("v1", "ConfigMap", tagged(99, b"x") + tagged(98, 1))) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
    }


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code", "said"),
    [
        (b"", 400, "it is no protobuf of Kubernetes"),
        (b'{"kind": "Pod"}', 400, "it is no protobuf of Kubernetes"),
        (b"k8s\x00", 415, 'cannot read "" from protobuf: send it as JSON'),
        (body("apps/v1", "Deployment", b""), 415, 'cannot read "Deployment" from protobuf'),
        (SERVICE[:-20], 400, "it ends too early"),
        (b"k8s\x00" + b"\xff" * 11, 400, "a number is too long"),
        (b"k8s\x00\x0b", 400, "an unknown wire type"),
        (b"k8s\x00\x02\x00", 400, "a field has the number 0"),
        (b"k8s\x00" + tagged(1, 7), 400, "bytes are expected"),
        (
            body("v1", "ConfigMap", tagged(1, tagged(1, b"\xff"))),
            400,
            "a text that is not UTF-8 in ObjectMeta.name",
        ),
        (
            body("v1", "ConfigMap", tagged(4, b"")),
            400,
            "a number is expected in ConfigMap.immutable",
        ),
        (
            body("v1", "ConfigMap", tagged(1, tagged(8, tagged(1, 2**62)))),
            400,
            "a time that no calendar has in ObjectMeta.creationTimestamp",
        ),
        (
            body("v1", "ConfigMap", tagged(1, tagged(17, tagged(7, tagged(1, b"{"))))),
            400,
            "not JSON",
        ),
        (
            body("v1", "Pod", tagged(2, tagged(1, tagged(2, tagged(11, tagged(1, b"x")))))),
            415,
            "cannot read spec.volumes.rbd from protobuf: send it as JSON",
        ),
        (b"k8s\x00" + tagged(2, b"") + tagged(3, b"gzip"), 415, "its content is encoded: gzip"),
        (
            body("v1", "Pod", tagged(2, tagged(2, b"") * codec.MAX_NODES)),
            400,
            f"more than {codec.MAX_NODES} values",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(data: bytes, code: int, said: str) -> None:
    with pytest.raises(ApiError, match=re.escape(said)) as caught:
        protobuf.decode(data)
    assert caught.value.code == code


def mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from([SERVICE, REVIEW])))
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(4, len(data) - 1))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(data)


anything = st.one_of(
    st.binary(max_size=200),
    st.builds(
        body, st.just("v1"), st.sampled_from(sorted(protobuf.KINDS)), st.binary(max_size=200)
    ),
    st.composite(mutated)(),
)


@settings(max_examples=1000, deadline=None)
@given(anything)
def test_no_body_makes_the_decoder_fail_in_another_way(data: bytes) -> None:
    code = 0
    try:
        assert isinstance(protobuf.decode(data), dict)
    except ApiError as error:
        code = error.code
    assert code in (0, 400, 415)


# --- the table -----------------------------------------------------------------------------------

NAMES = re.findall(r"^(\w+)", MESSAGES, re.MULTILINE)
SCALARS = {"s", "i", "b", "y", "time", "micro", "quantity", "int-or-string", "fields", "opaque"}


def test_the_table_is_whole_and_no_message_holds_itself() -> None:
    assert set(NAMES) >= protobuf.KINDS
    assert len(NAMES) == len(set(NAMES))

    def walk(name: str, around: tuple[str, ...]) -> None:
        assert name not in around
        fields = protobuf._table(name).values()
        assert len({field.name for field in fields}) == len(fields)
        for type_ in {field.type for field in fields} - SCALARS:
            walk(type_, (*around, name))

    for kind in protobuf.KINDS:
        walk(kind, ())


def test_the_table_knows_the_fields_of_the_model() -> None:
    # Of pods that only a node writes, or that clients of this release cannot send.
    missing = {
        "NodeStatus": {"declaredFeatures"},
        "PodSpec": {"schedulingGroup"},
        "PodStatus": {"allocatedResources", "extendedResourceClaimStatus", "resources"},
    }
    compared = 0
    for name in NAMES:
        type_ = getattr(kinds, name, None) or getattr(v1, name, None)
        if not (isinstance(type_, type) and issubclass(type_, v1.Model)):
            continue
        known: set[str] = set()
        for field in protobuf._table(name).values():
            inner = protobuf._table(field.type).values() if not field.name else [field]
            known |= {one.name for one in inner}
        expected = set(codec.fields(type_))
        if name in protobuf.KINDS:
            expected -= {"apiVersion", "kind"}
        assert expected - known == missing.get(name, set()), name
        compared += 1
    assert compared > 100
