"""The table of what is served is whole, and names things as kubectl looks them up."""

from __future__ import annotations

import pytest

from supervisor.apiserver import resources
from supervisor.apiserver.resources import RESOURCES


def test_no_resource_is_there_twice() -> None:
    keys = [resource.key for resource in RESOURCES]
    assert len(keys) == len(set(keys))


def test_a_short_name_stands_for_one_resource() -> None:
    names = [name for resource in RESOURCES for name in resource.short_names]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("group", "version", "plural", "kind", "key"),
    [
        ("", "v1", "pods", "Pod", "pods"),
        ("apps", "v1", "deployments", "Deployment", "deployments.apps"),
        ("coordination.k8s.io", "v1", "leases", "Lease", "leases.coordination.k8s.io"),
        ("metrics.k8s.io", "v1beta1", "pods", "PodMetrics", "pods.metrics.k8s.io"),
    ],
)
def test_a_path_finds_its_row(group: str, version: str, plural: str, kind: str, key: str) -> None:
    resource = resources.find(group, version, plural)
    assert resource is not None
    assert (resource.kind, resource.key) == (kind, key)


@pytest.mark.parametrize(
    ("group", "version", "plural"),
    [("", "v2", "pods"), ("apps", "v1", "pods"), ("", "v1", "persistentvolumeclaims")],
)
def test_what_is_not_served_is_not_found(group: str, version: str, plural: str) -> None:
    assert resources.find(group, version, plural) is None


def test_kinds_of_controllers_can_only_be_read() -> None:
    for resource in RESOURCES:
        if resource.group == "apps" or resource.plural == "replicationcontrollers":
            assert resource.verbs == ("get", "list", "watch")


def test_all_kinds_of_apps_are_there_for_those_who_count_them() -> None:
    assert [resource.plural for resource in RESOURCES if resource.group == "apps"] == [
        "controllerrevisions",
        "daemonsets",
        "deployments",
        "replicasets",
        "statefulsets",
    ]


def test_get_all_asks_for_what_a_cluster_would_show() -> None:
    everything = {resource.plural for resource in RESOURCES if "all" in resource.categories}
    assert everything == {
        "daemonsets",
        "deployments",
        "pods",
        "replicasets",
        "replicationcontrollers",
        "services",
        "statefulsets",
    }


def test_an_eviction_is_of_the_policy_group() -> None:
    pods = resources.find("", "v1", "pods")
    assert pods is not None
    assert pods.subresources["eviction"] == ("policy", "v1", "Eviction", ("create",))
