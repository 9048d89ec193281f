"""What a client is told when it asks what there is: `/api`, `/apis` and below, and `/version`.

All of it is made of the table in `resources.py`. There are two forms of everything. New clients
fetch two aggregated documents, `/api` and `/apis`, that say everything; older and simpler ones
get the plain ones and then ask for each group and version by itself. The server chooses by the
Accept header (`aggregated_version`); who does not know the aggregated form never sees it.

Pure: nothing here changes while a node runs.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from typing import Any

from supervisor._version import __version__
from supervisor.apiserver.contract import Json, Resource
from supervisor.apiserver.negotiation import JSON, media_ranges
from supervisor.apiserver.resources import RESOURCES, groups

# The release whose API is spoken. Clients compare it with their own: one minor release more or
# less is what they expect.
MAJOR, MINOR = "1", "33"
GIT_VERSION = f"v{MAJOR}.{MINOR}.0+podvisor-{__version__}"

_AGGREGATED = ("v2", "v2beta1")
_GROUP, _LIST = "apidiscovery.k8s.io", "APIGroupDiscoveryList"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def architecture() -> str:
    """This machine's, as Go calls it."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def version() -> Json:
    """`/version`. Clients insist on every field of it."""
    return {
        "major": MAJOR,
        "minor": MINOR,
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "",
        "platform": f"linux/{architecture()}",
    }


# --- plain documents ---------------------------------------------------------------------------


def api_versions(address: str) -> Json:
    """`/api`. `address` is the server's own: host and port."""
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }


def api_groups() -> Json:
    """`/apis`."""
    return {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [_group(name, version) for name, version in groups().items()],
    }


def api_group(name: str) -> Json | None:
    """`/apis/NAME`; None if it is not served."""
    version = groups().get(name)
    if version is None:
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, version)}


def _group(name: str, version: str) -> Json:
    served = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "versions": [served], "preferredVersion": served}


def api_resources(group: str, version: str) -> Json | None:
    """`/api/v1` and `/apis/GROUP/VERSION`; None if it is not served."""
    served = [r for r in RESOURCES if (r.group, r.version) == (group, version)]
    if not served:
        return None
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": served[0].api_version,
        "resources": [entry for resource in served for entry in _entries(resource)],
    }


def _entries(resource: Resource) -> Iterator[Json]:
    """The resource itself, then its subresources."""
    entry: Json = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    yield entry | _names(resource)
    for name, (group, version, kind, verbs) in resource.subresources.items():
        yield {
            "name": f"{resource.plural}/{name}",
            "singularName": "",
            "namespaced": resource.namespaced,
            # Of another group than the resource's own: an eviction.
            **({"group": group, "version": version} if group != resource.group else {}),
            "kind": kind,
            "verbs": list(verbs),
        }


def _names(resource: Resource) -> Json:
    names: Json = {}
    if resource.short_names:
        names["shortNames"] = list(resource.short_names)
    if resource.categories:
        names["categories"] = list(resource.categories)
    return names


# --- aggregated documents ----------------------------------------------------------------------


def aggregated_version(accept: str) -> str:
    """The version of the aggregated form that an Accept header asks for; empty: the plain form."""
    for media, parameters in media_ranges(accept):
        if media in (JSON, "*/*") and parameters.keys() <= {"q"}:
            return ""
        wanted = parameters.get("g"), parameters.get("as")
        version = parameters.get("v", "")
        if (media, *wanted) == (JSON, _GROUP, _LIST) and version in _AGGREGATED:
            return version
    return ""


def aggregated_type(version: str) -> str:
    """The Content-Type of the aggregated documents."""
    return f"{JSON};g={_GROUP};v={version};as={_LIST}"


def aggregated(root: str, version: str) -> Json:
    """The aggregated `/api` (root `api`: the core group, without a name) or `/apis`."""
    served = {"": "v1"} if root == "api" else groups()
    return {
        "kind": _LIST,
        "apiVersion": f"{_GROUP}/{version}",
        "metadata": {},
        "items": [
            {
                "metadata": {"name": name} if name else {},
                "versions": [
                    {
                        "version": of_group,
                        "freshness": "Current",
                        "resources": [_discovered(r) for r in RESOURCES if r.group == name],
                    }
                ],
            }
            for name, of_group in served.items()
        ],
    }


def _discovered(resource: Resource) -> Json:
    entry: Json = {
        "resource": resource.plural,
        "responseKind": _kind(resource.group, resource.version, resource.kind),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    subresources: list[Any] = [
        {
            "subresource": name,
            "responseKind": _kind(group, version, kind),
            "verbs": list(verbs),
        }
        for name, (group, version, kind, verbs) in resource.subresources.items()
    ]
    if subresources:
        entry["subresources"] = subresources
    return entry | _names(resource)


def _kind(group: str, version: str, kind: str) -> Json:
    return {"group": group, "version": version, "kind": kind}
