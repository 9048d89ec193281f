"""Defaults and rules of the kinds that are stored and not run."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.api import objects
from supervisor.api.problems import Severity

Json = dict[str, Any]


def errors(kind: str, body: Json) -> list[str]:
    rules = objects.RULES[kind]
    whole = rules.defaults({"apiVersion": "v1", "metadata": {"name": "x"}} | body)
    found = [*objects.check_metadata(rules, whole), *rules.check(whole)]
    return [str(finding) for finding in found if finding.severity is Severity.ERROR]


def service(*ports: Json, **spec: Any) -> Json:
    return {"spec": {"ports": list(ports)} | spec}


WRONG: dict[str, tuple[str, Json, list[str]]] = {
    "a namespace with dots": (
        "Namespace",
        {"metadata": {"name": "a.b"}},
        ["metadata.name: Invalid value"],
    ),
    "a finalizer that is no name": (
        "Lease",
        {"metadata": {"name": "x", "finalizers": ["a b"]}},
        ["metadata.finalizers[0]: Invalid value"],
    ),
    "two ports without names": (
        "Service",
        service({"port": 1}, {"port": 2}),
        ["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"],
    ),
    "two ports of one name": (
        "Service",
        service({"port": 1, "name": "a"}, {"port": 2, "name": "a"}),
        ["spec.ports[1].name: Duplicate value"],
    ),
    "one port twice": (
        "Service",
        service({"port": 1, "name": "a"}, {"port": 1, "name": "b"}),
        ["spec.ports[1]: Duplicate value"],
    ),
    "a port that cannot be": (
        "Service",
        service({"port": 0, "targetPort": 1}),
        ["spec.ports[0].port: Invalid value: 0: must be between 1 and 65535"],
    ),
    "a protocol that nobody speaks": (
        "Service",
        service({"port": 1, "protocol": "ICMP"}),
        ["spec.ports[0].protocol: Unsupported value"],
    ),
    "a type that is none": ("Service", service({"port": 1}, type="X"), ["spec.type: Unsupported"]),
    "an address that no pod has": (
        "Service",
        service({"port": 1}, clusterIP="10.0.0.1"),
        ["spec.clusterIP: Invalid value"],
    ),
    "a node port without an address": (
        "Service",
        service({"port": 1}, clusterIP="None", type="NodePort"),
        ["spec.clusterIP: Invalid value"],
    ),
    "an external name that is none": (
        "Service",
        {"spec": {"type": "ExternalName"}},
        ["spec.externalName: Required value"],
    ),
    "endpoints without addresses": (
        "Endpoints",
        {"subsets": [{"ports": [{"port": 70000}]}]},
        ["subsets[0]: Required value", "subsets[0].ports[0].port: Invalid value"],
    ),
    "a lease of no time": (
        "Lease",
        {"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}},
        ["spec.leaseDurationSeconds: Invalid", "spec.leaseTransitions: Invalid"],
    ),
    "a lease that is longer than any": (
        "Lease",
        {"spec": {"leaseDurationSeconds": 2**31}},
        ["spec.leaseDurationSeconds: Invalid value: 2147483648: must fit into 32 bits"],
    ),
    "an event that was seen too often": (
        "Event",
        {"metadata": {"name": "x", "namespace": "default"}, "series": {"count": 2**31}},
        ["series.count: Invalid value: 2147483648: must fit into 32 bits"],
    ),
    "an event about another namespace": (
        "Event",
        {"metadata": {"name": "x", "namespace": "a"}, "involvedObject": {"namespace": "b"}},
        ["involvedObject.namespace: Invalid value"],
    ),
    "a service account with a path": (
        "ServiceAccount",
        {"metadata": {"name": "../x"}},
        ["metadata.name: Invalid value"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_each_rule_names_the_field(case: str) -> None:
    kind, body, wanted = WRONG[case]
    found = errors(kind, body)
    assert len(found) == len(wanted), found
    for text, start in zip(found, wanted, strict=True):
        assert text.startswith(start)


RIGHT: dict[str, tuple[str, Json]] = {
    "a headless service": ("Service", {"spec": {"clusterIP": "None"}}),
    "one port for two protocols": (
        "Service",
        service(
            {"name": "a", "port": 53, "protocol": "UDP"},
            {"name": "b", "port": 53, "protocol": "TCP"},
        ),
    ),
    "a name for another": ("Service", {"spec": {"type": "ExternalName", "externalName": "a.b"}}),
    "an event about a node": ("Event", {"metadata": {"name": "x", "namespace": "default"}}),
    "an empty lease": ("Lease", {}),
    "an account": ("ServiceAccount", {}),
    "a template": ("PodTemplate", {"template": {}}),
}


@pytest.mark.parametrize("case", RIGHT)
def test_what_is_right_is_let_pass(case: str) -> None:
    kind, body = RIGHT[case]
    assert errors(kind, body) == []


def test_defaults_are_given_once_and_change_nothing_again() -> None:
    for kind, rules in objects.RULES.items():
        body: Json = {"metadata": {"name": "x"}, "spec": {"ports": [{"port": 1}]}}
        once = rules.defaults(body)
        assert rules.defaults(once) == once, kind
        assert body == {"metadata": {"name": "x"}, "spec": {"ports": [{"port": 1}]}}


def test_the_text_of_an_event_is_bounded() -> None:
    event = {"metadata": {"namespace": "default"}, "involvedObject": {"namespace": "default"}}
    check = objects.RULES["Event"].check
    assert list(check(event | {"message": "x" * 16384})) == []
    (finding,) = check(event | {"message": "x" * 16385})
    assert finding.path == ("message",)
