"""Tables show what `kubectl get` prints for a cluster's objects, cell for cell."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.apiserver import tables
from supervisor.apiserver.contract import Json, Resource

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()
CREATED = "2026-01-31T11:55:00Z"


def resource(key: str) -> Resource:
    plural, _, group = key.partition(".")
    return Resource(group=group, plural=plural, singular="", kind="", verbs=())


def cells(key: str, object: Json) -> dict[str, Any]:
    """The row of an object by the names of the columns."""
    object = {"metadata": {"name": "it", "creationTimestamp": CREATED}, **object}
    answer = tables.table(resource(key), [object], NOW)
    names = [column["name"] for column in answer["columnDefinitions"]]
    (row,) = answer["rows"]
    assert len(names) == len(row["cells"])
    return dict(zip(names, row["cells"], strict=True))


@pytest.mark.parametrize(
    ("elapsed", "text"),
    [
        (-2.5, "<invalid>"),
        (-1.5, "0s"),
        (0.9, "0s"),
        (119.9, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (599, "9m59s"),
        (600, "10m"),
        (179 * 60 + 59, "179m"),
        (180 * 60, "3h"),
        (3 * 3600 + 60, "3h1m"),
        (8 * 3600 + 60, "8h"),
        (48 * 3600, "2d"),
        (49 * 3600, "2d1h"),
        (8 * 86400 + 3600, "8d"),
        (729 * 86400, "729d"),
        (730 * 86400, "2y"),
        (731 * 86400, "2y1d"),
        (8 * 365 * 86400 + 86400, "8y"),
    ],
)
def test_ages_have_two_units_at_most(elapsed: float, text: str) -> None:
    assert tables.age("2026-01-31T12:00:00Z", NOW + elapsed) == text


@pytest.mark.parametrize("time", [None, "", "yesterday", 5, "2026-99-99T00:00:00Z", {}])
def test_the_age_of_what_has_no_time_is_unknown(time: object) -> None:
    assert tables.age(time, NOW) == "<unknown>"


def test_times_of_events_may_have_fractions() -> None:
    assert tables.age("2026-01-31T11:59:50.123456Z", NOW) == "9s"


# --- pods --------------------------------------------------------------------------------------


def container(name: str = "c", **of: Any) -> Json:
    return {"name": name, "ready": False, "restartCount": 0, "state": {}, **of}


def waiting(reason: str = "", **of: Any) -> Json:
    return container(**{"state": {"waiting": {"reason": reason}}, **of})


def running(ready: bool = True, **of: Any) -> Json:
    return container(**{"ready": ready, "state": {"running": {}}, **of})


def ended(code: int = 0, **of: Any) -> Json:
    reason = {"reason": "Completed" if code == 0 else "Error"} if "reason" not in of else {}
    detail = {key: of.pop(key) for key in ("reason", "signal") if key in of}
    return container(**{"state": {"terminated": {"exitCode": code, **reason, **detail}}, **of})


def pod(
    *apps: Json,
    init: tuple[Json, ...] = (),
    sidecars: tuple[str, ...] = (),
    phase: str = "Running",
    holds: tuple[str, ...] = (),
    **status: Any,
) -> Json:
    conditions = [{"type": each, "status": "True"} for each in holds]
    return {
        "spec": {
            "containers": [{"name": each["name"]} for each in apps],
            "initContainers": [
                {
                    "name": each["name"],
                    **({"restartPolicy": "Always"} if each["name"] in sidecars else {}),
                }
                for each in init
            ],
        },
        "status": {
            "phase": phase,
            "containerStatuses": list(apps),
            "initContainerStatuses": list(init),
            "conditions": [*conditions, *status.pop("conditions", [])],
            **status,
        },
    }


def deleted(pod: Json) -> Json:
    at = {"deletionTimestamp": CREATED, "name": "it", "creationTimestamp": CREATED}
    return {**pod, "metadata": at}


AGO = {"lastState": {"terminated": {"finishedAt": "2026-01-31T11:59:00Z"}}}
EARLIER = {"lastState": {"terminated": {"finishedAt": "2026-01-31T11:00:00Z"}}}
GATED = {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}


@pytest.mark.parametrize(
    ("of", "status", "ready", "restarts"),
    [
        pytest.param(pod(phase="Pending"), "Pending", "0/0", "0", id="nothing but a phase"),
        pytest.param(pod(running()), "Running", "1/1", "0", id="one that runs and is ready"),
        pytest.param(pod(running(False)), "Running", "0/1", "0", id="one that is not ready"),
        pytest.param(
            pod(waiting("ContainerCreating"), phase="Pending"),
            "ContainerCreating",
            "0/1",
            "0",
            id="the reason of waiting is the word",
        ),
        pytest.param(pod(waiting()), "Running", "0/1", "0", id="waiting without a reason says no"),
        pytest.param(
            pod(waiting("CrashLoopBackOff", restartCount=3, **AGO)),
            "CrashLoopBackOff",
            "0/1",
            "3 (60s ago)",
            id="restarts tell when the newest was",
        ),
        pytest.param(
            pod(running(name="a", restartCount=1, **EARLIER), running(name="b", **AGO)),
            "Running",
            "2/2",
            "1 (60s ago)",
            id="restarts of all containers are added",
        ),
        pytest.param(pod(running(restartCount=2)), "Running", "1/1", "2", id="no time, no ago"),
        pytest.param(
            pod(waiting("ErrImagePull", name="a"), waiting("CrashLoopBackOff", name="b")),
            "ErrImagePull",
            "0/2",
            "0",
            id="the first container has the last word",
        ),
        pytest.param(pod(ended(0), phase="Succeeded"), "Completed", "0/1", "0", id="succeeded"),
        pytest.param(pod(ended(1), phase="Failed"), "Error", "0/1", "0", id="failed says Error"),
        pytest.param(
            pod(ended(9, reason="", signal=9), phase="Failed"), "Signal:9", "0/1", "0", id="signal"
        ),
        pytest.param(
            pod(ended(7, reason=""), phase="Failed"), "ExitCode:7", "0/1", "0", id="exit code"
        ),
        pytest.param(
            pod(ended(name="a"), running(name="b")),
            "NotReady",
            "1/2",
            "0",
            id="one completed beside one that is ready: NotReady",
        ),
        pytest.param(
            pod(ended(name="a"), running(name="b"), holds=("Ready",)),
            "Running",
            "1/2",
            "0",
            id="unless the pod is ready",
        ),
        pytest.param(
            pod(ended(name="a"), running(False, name="b")),
            "Completed",
            "0/2",
            "0",
            id="one completed beside one that is not ready: Completed",
        ),
        pytest.param(
            pod(phase="Failed", reason="Evicted"), "Evicted", "0/0", "0", id="the pod's own reason"
        ),
        pytest.param(
            pod(phase="Pending", **GATED), "SchedulingGated", "0/0", "0", id="scheduling is gated"
        ),
        pytest.param(
            pod(waiting("PodInitializing"), init=(running(False, name="i"),), phase="Pending"),
            "Init:0/1",
            "0/1",
            "0",
            id="init runs",
        ),
        pytest.param(
            pod(
                waiting("PodInitializing"),
                init=(ended(name="i"), waiting("PodInitializing", name="j")),
                phase="Pending",
            ),
            "Init:1/2",
            "0/1",
            "0",
            id="the second init waits",
        ),
        pytest.param(
            pod(
                waiting("PodInitializing"),
                init=(waiting("CrashLoopBackOff", name="i", restartCount=2),),
                phase="Pending",
            ),
            "Init:CrashLoopBackOff",
            "0/1",
            "2",
            id="init waits to be tried again, and its restarts count meanwhile",
        ),
        pytest.param(
            pod(waiting("PodInitializing"), init=(ended(1, name="i"),), phase="Pending"),
            "Init:Error",
            "0/1",
            "0",
            id="init failed",
        ),
        pytest.param(
            pod(waiting("PodInitializing"), init=(ended(2, reason="", name="i"),), phase="Pending"),
            "Init:ExitCode:2",
            "0/1",
            "0",
            id="init failed, no reason",
        ),
        pytest.param(
            pod(
                waiting("PodInitializing"),
                init=(ended(137, reason="", signal=9, name="i"),),
                phase="Pending",
            ),
            "Init:Signal:9",
            "0/1",
            "0",
            id="init was killed",
        ),
        pytest.param(
            pod(waiting("PodInitializing"), init=(ended(name="i"),), phase="Pending"),
            "PodInitializing",
            "0/1",
            "0",
            id="between init and the first start",
        ),
        pytest.param(
            pod(running(), init=(ended(name="i", restartCount=4, **AGO),)),
            "Running",
            "1/1",
            "0",
            id="restarts of init are forgotten after it",
        ),
        pytest.param(
            pod(
                running(),
                init=(running(name="s", started=True, restartCount=2, **AGO),),
                sidecars=("s",),
            ),
            "Running",
            "2/2",
            "2 (60s ago)",
            id="sidecars count as containers",
        ),
        pytest.param(
            pod(
                waiting("PodInitializing"),
                init=(running(False, name="s", started=False), waiting(name="i")),
                sidecars=("s",),
                phase="Pending",
            ),
            "Init:0/2",
            "0/2",
            "0",
            id="a sidecar that has not started blocks",
        ),
        pytest.param(
            pod(
                running(),
                init=(waiting("CrashLoopBackOff", name="s", started=False, restartCount=1),),
                sidecars=("s",),
                holds=("Initialized",),
            ),
            "Init:CrashLoopBackOff",
            "1/2",
            "1",
            id="a sidecar that crashes after init lets the apps count",
        ),
        pytest.param(deleted(pod(running())), "Terminating", "1/1", "0", id="being deleted"),
        pytest.param(
            deleted(pod(running(), reason="NodeLost")), "Unknown", "1/1", "0", id="its node is lost"
        ),
        pytest.param(
            deleted(pod(ended(), phase="Succeeded")),
            "Completed",
            "0/1",
            "0",
            id="over, and kept by a finalizer",
        ),
    ],
)
def test_words_of_pods(of: Json, status: str, ready: str, restarts: str) -> None:
    """§1.3"""
    row = cells("pods", of)
    assert (row["Status"], row["Ready"], row["Restarts"]) == (status, ready, restarts)
    assert (row["Name"], row["Age"]) == ("it", "5m")


def test_wide_columns_of_pods() -> None:
    plain = cells("pods", pod(running()))
    wide = ("IP", "Node", "Nominated Node", "Readiness Gates")
    assert [plain[name] for name in wide] == ["<none>"] * 4
    full = pod(running(), podIPs=[{"ip": "127.0.0.1"}, {"ip": "::1"}], holds=("example.com/a",))
    full["spec"] |= {
        "nodeName": "here",
        "readinessGates": [{"conditionType": "example.com/a"}, {"conditionType": "example.com/b"}],
    }
    full["status"]["nominatedNodeName"] = "there"
    assert [cells("pods", full)[name] for name in wide] == ["127.0.0.1", "here", "there", "1/2"]


# --- other kinds -------------------------------------------------------------------------------

EVENT = {
    "type": "Warning",
    "reason": "BackOff",
    "message": " Back-off restarting\n",
    "count": 3,
    "firstTimestamp": "2026-01-31T11:50:00Z",
    "lastTimestamp": "2026-01-31T11:59:50Z",
    "involvedObject": {"kind": "Pod", "name": "web", "fieldPath": "spec.containers{c}"},
    "source": {"component": "kubelet", "host": "here"},
}


@pytest.mark.parametrize(
    ("key", "object", "expected"),
    [
        pytest.param(
            "events",
            EVENT,
            "10s|Warning|BackOff|pod/web|spec.containers{c}|kubelet, here|Back-off restarting|10m|3"
            "|it",
            id="an event that was counted",
        ),
        pytest.param(
            "events",
            {"eventTime": "2026-01-31T11:59:00.5Z", "reportingComponent": "me"},
            "59s||||" + "|me||59s|1|it",
            id="an event with a precise time happened once",
        ),
        pytest.param(
            "events",
            {**EVENT, "series": {"count": 9, "lastObservedTime": "2026-01-31T11:59:59Z"}},
            "1s|Warning|BackOff|pod/web|spec.containers{c}|kubelet, here|Back-off restarting|10m|9"
            "|it",
            id="the series of an event counts",
        ),
        pytest.param(
            "nodes",
            {},
            "it|Unknown|<none>|5m||<none>|<none>|<unknown>|<unknown>|<unknown>",
            id="a node without a status",
        ),
        pytest.param(
            "nodes",
            {
                "metadata": {
                    "name": "it",
                    "creationTimestamp": CREATED,
                    "labels": {"node-role.kubernetes.io/b": "", "kubernetes.io/role": "a"},
                },
                "spec": {"unschedulable": True},
                "status": {
                    "conditions": [{"type": "Ready", "status": "True"}],
                    "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                    "nodeInfo": {
                        "kubeletVersion": "v1.33.0",
                        "osImage": "Debian",
                        "kernelVersion": "6.18",
                        "containerRuntimeVersion": "podvisor://1",
                    },
                },
            },
            "it|Ready,SchedulingDisabled|a,b|5m|v1.33.0|127.0.0.1|<none>|Debian|6.18|podvisor://1",
            id="a cordoned node",
        ),
        pytest.param(
            "nodes",
            {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}},
            "it|NotReady|<none>|5m||<none>|<none>|<unknown>|<unknown>|<unknown>",
            id="a node nobody hears of",
        ),
        pytest.param("namespaces", {"status": {"phase": "Active"}}, "it|Active|5m", id="namespace"),
        pytest.param(
            "services",
            {
                "spec": {
                    "type": "ClusterIP",
                    "clusterIPs": ["None"],
                    "ports": [{"port": 80, "protocol": "TCP"}],
                    "selector": {"b": "2", "a": "1"},
                }
            },
            "it|ClusterIP|None|<none>|80/TCP|5m|a=1,b=2",
            id="a headless service",
        ),
        pytest.param(
            "services",
            {
                "spec": {
                    "type": "LoadBalancer",
                    "clusterIPs": ["10.0.0.1"],
                    "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}],
                }
            },
            "it|LoadBalancer|10.0.0.1|<pending>|80:30080/TCP|5m|<none>",
            id="a service that waits for its balancer",
        ),
        pytest.param(
            "services",
            {"spec": {"type": "ExternalName", "externalName": "example.com"}},
            "it|ExternalName|<none>|example.com|<none>|5m|<none>",
            id="a service that is a name",
        ),
        pytest.param(
            "configmaps", {"data": {"a": ""}, "binaryData": {"b": ""}}, "it|2|5m", id="config"
        ),
        pytest.param(
            "secrets", {"type": "Opaque", "data": {"a": ""}}, "it|Opaque|1|5m", id="secret"
        ),
        pytest.param("serviceaccounts", {}, "it|0|5m", id="service account"),
        pytest.param("endpoints", {}, "it|<none>|5m", id="endpoints of nothing"),
        pytest.param(
            "endpoints",
            {
                "subsets": [
                    {
                        "addresses": [{"ip": f"10.0.0.{n}"} for n in range(5)],
                        "ports": [{"port": 80}],
                    }
                ]
            },
            "it|10.0.0.0:80,10.0.0.1:80,10.0.0.2:80 + 2 more...|5m",
            id="many endpoints are cut",
        ),
        pytest.param(
            "leases.coordination.k8s.io",
            {"spec": {"holderIdentity": "here"}},
            "it|here|5m",
            id="lease",
        ),
        pytest.param(
            "podtemplates",
            {
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b"}]},
                }
            },
            "it|a,b|x,|app=web",
            id="pod template",
        ),
        pytest.param("widgets.example.com", {}, "it|5m", id="all others have a name and an age"),
    ],
)
def test_cells_of_other_kinds(key: str, object: Json, expected: str) -> None:
    assert "|".join(str(cell) for cell in cells(key, object).values()) == expected


# --- around the rows ---------------------------------------------------------------------------


def test_a_row_carries_as_much_of_its_object_as_is_asked_for() -> None:
    meta = {"name": "it", "labels": {"app": "web"}}
    object = {"kind": "Pod", "apiVersion": "v1", "metadata": meta, "spec": {}}

    def carried(include: tables.Include) -> Any:
        answer = tables.table(
            resource("pods"), [object], NOW, include=include, version="v1beta1", columns=False
        )
        assert answer["apiVersion"] == "meta.k8s.io/v1beta1"
        return answer["rows"][0].get("object")

    assert carried("None") is None
    assert carried("Object") == object
    assert carried("Metadata") == {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1beta1",
        "metadata": meta,
    }


def test_columns_are_sent_once_and_say_which_are_wide() -> None:
    first = tables.table(resource("pods"), [], NOW, metadata={"resourceVersion": "7"})
    assert first["metadata"] == {"resourceVersion": "7"}
    assert [each["name"] for each in first["columnDefinitions"] if each["priority"] == 0] == [
        "Name",
        "Ready",
        "Status",
        "Restarts",
        "Age",
    ]
    assert tables.table(resource("pods"), [], NOW, columns=False)["columnDefinitions"] is None


def test_rows_of_pods_that_are_over_say_so() -> None:
    answer = tables.table(resource("pods"), [pod(phase="Failed"), pod()], NOW)
    assert [len(row["conditions"]) for row in answer["rows"]] == [1, 0]


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.just("2026-01-01"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
_KEYS = sorted(tables._KINDS)
_BASE = [
    deleted(pod(running(), init=(ended(1, name="i"), waiting("X", name="s")), sidecars=("s",))),
    EVENT,
    {"spec": {"ports": [{}], "type": "LoadBalancer"}, "status": {"nodeInfo": {}}, "metadata": {}},
    {"status": {"conditions": [{}], "addresses": [{}]}, "subsets": [{"ports": [{}]}]},
]


@st.composite
def odd_objects(draw: st.DrawFn) -> Json:
    """A plausible object with something else somewhere in it."""

    def spoil(value: Any) -> Any:
        if draw(st.integers(0, 7)) == 0:
            return draw(ODD)
        if isinstance(value, dict):
            return {key: spoil(each) for key, each in value.items()}
        if isinstance(value, list):
            return [spoil(each) for each in value]
        return value

    return {key: spoil(each) for key, each in draw(st.sampled_from(_BASE)).items()}


@given(odd_objects())
def test_odd_objects_have_rows_too(object: Json) -> None:
    for key in _KEYS:
        (row,) = tables.table(resource(key), [object], NOW)["rows"]
        assert all(isinstance(cell, str | int) for cell in row["cells"])
