"""What clients are told is there: in both forms the same, and what their own models take."""

from __future__ import annotations

import pytest
from kubernetes import client

from supervisor.apiserver import discovery
from supervisor.apiserver.resources import RESOURCES, groups

NEWEST = (
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
)


@pytest.mark.parametrize(
    ("accept", "version"),
    [
        pytest.param(NEWEST, "v2", id="what kubectl 1.31 sends"),
        pytest.param(NEWEST.partition(",")[2], "v2beta1", id="what kubectl 1.27 sends"),
        pytest.param("application/json, */*", "", id="what kubectl 1.20 sends"),
        pytest.param("application/json," + NEWEST, "", id="the plain form first"),
        pytest.param("", "", id="nothing"),
        pytest.param("application/json;g=apidiscovery.k8s.io;v=v3;as=X", "", id="an unknown one"),
        pytest.param(NEWEST.replace(";", " ; "), "v2", id="with blanks"),
        pytest.param(";;=,,", "", id="nonsense"),
    ],
)
def test_the_form_is_what_the_client_likes_best(accept: str, version: str) -> None:
    assert discovery.aggregated_version(accept) == version


def test_both_forms_say_the_same() -> None:
    aggregated = set()
    for root in ("api", "apis"):
        for item in discovery.aggregated(root, "v2")["items"]:
            for version in item["versions"]:
                for resource in version["resources"]:
                    name = item["metadata"].get("name", ""), version["version"]
                    kind = resource["responseKind"]["kind"]
                    scoped = resource["scope"] == "Namespaced"
                    verbs = tuple(resource["verbs"])
                    aggregated.add((*name, resource["resource"], kind, scoped, verbs))
                    for sub in resource.get("subresources", ()):
                        path = f"{resource['resource']}/{sub['subresource']}"
                        kind, verbs = sub["responseKind"]["kind"], tuple(sub["verbs"])
                        aggregated.add((*name, path, kind, scoped, verbs))
    plain = set()
    for name, version in {"": "v1", **groups()}.items():
        document = discovery.api_resources(name, version)
        assert document is not None
        for r in document["resources"]:
            plain.add((name, version, r["name"], r["kind"], r["namespaced"], tuple(r["verbs"])))
    assert aggregated == plain
    assert len(plain) == len(RESOURCES) + sum(len(r.subresources) for r in RESOURCES)


def test_a_clients_models_take_the_plain_documents() -> None:
    versions = client.V1APIVersions.from_dict(discovery.api_versions("127.0.0.1:6443"))
    assert (versions.kind, versions.versions) == ("APIVersions", ["v1"])
    listed = client.V1APIGroupList.from_dict(discovery.api_groups())
    assert listed.kind == "APIGroupList"
    assert [group.name for group in listed.groups] == list(groups())
    for name, version in groups().items():
        group = client.V1APIGroup.from_dict(discovery.api_group(name))
        assert (group.kind, group.preferred_version.version) == ("APIGroup", version)
        resources = client.V1APIResourceList.from_dict(discovery.api_resources(name, version))
        assert (resources.kind, resources.group_version) == ("APIResourceList", f"{name}/{version}")
    client.VersionInfo.from_dict(discovery.version())


def test_an_eviction_is_found_in_its_group() -> None:
    document = discovery.api_resources("", "v1")
    assert document is not None
    (eviction,) = [r for r in document["resources"] if r["name"] == "pods/eviction"]
    assert (eviction["group"], eviction["version"]) == ("policy", "v1")
    assert (eviction["kind"], eviction["verbs"]) == ("Eviction", ["create"])


def test_the_core_group_has_no_name() -> None:
    (core,) = discovery.aggregated("api", "v2")["items"]
    assert core["metadata"] == {}
    names = [item["metadata"]["name"] for item in discovery.aggregated("apis", "v2beta1")["items"]]
    assert names == list(groups())


@pytest.mark.parametrize(("group", "version"), [("", "v2"), ("policy", "v1"), ("apps", "v1beta1")])
def test_what_is_not_served_has_no_document(group: str, version: str) -> None:
    assert discovery.api_resources(group, version) is None


def test_a_group_that_is_not_served_has_no_document() -> None:
    assert discovery.api_group("batch") is None
