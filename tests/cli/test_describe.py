"""`podvisor describe`: the text made of an object, its events and what the node alone knows."""

from __future__ import annotations

import io
import json
import pathlib
import sys
import textwrap
from datetime import UTC, datetime

import anyio
import pytest
from msgspec.structs import replace

from supervisor.api import v1
from supervisor.apiserver import records
from supervisor.cli.describing import describe, event_age, probe_line
from supervisor.kubelet.statedir import DurableStateDir
from supervisor.lifecycle.facts import (
    ContainerId,
    HookKind,
    Instant,
    ProbeKind,
    ProbeObserved,
    ProbeOutcome,
    rfc3339,
)
from supervisor.lifecycle.hooks import Hook, HookEnd
from supervisor.lifecycle.probing import Probes, ProbeState, Result
from supervisor.lifecycle.record import NodePolicy, PodRecord, Running, new_record
from supervisor.lifecycle.timeline import Mark, Moment
from supervisor.store.contract import Change
from supervisor.store.sqlite import SQLiteStore
from tests.cli.asked import Json, podvisor
from tests.fake_api import FakeApi, answer, refusal

pytestmark = pytest.mark.usefixtures("nothing_left")

T = "2026-01-01T00:00:00Z"
NOW = datetime(2026, 1, 1, 0, 1, 0, tzinfo=UTC).timestamp()
AT = Instant(wall=NOW - 60, boot=1000.0)


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are shown in the zone of who reads them."""
    monkeypatch.setenv("TZ", "UTC0")


PROBE: Json = {"httpGet": {"path": "/h", "port": 80}, "periodSeconds": 5, "failureThreshold": 2}
POD: Json = {
    "metadata": {"name": "web", "namespace": "default", "labels": {"b": "2", "a": "1"}},
    "spec": {
        "nodeName": "here",
        "containers": [
            {
                "name": "app",
                "image": "app:1",
                "command": ["sh", "-c", "one\ntwo"],
                "ports": [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}],
                "resources": {"limits": {"memory": "64Mi"}},
                "env": [
                    {"name": "A", "value": "1"},
                    {"name": "P", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                ],
                "envFrom": [{"configMapRef": {"name": "settings"}, "prefix": "X_"}],
                "livenessProbe": PROBE,
                "lifecycle": {"preStop": {"exec": {"command": ["bye"]}}},
                "volumeMounts": [{"name": "d", "mountPath": "/d", "readOnly": True}],
            }
        ],
        "volumes": [{"name": "d", "configMap": {"name": "settings"}}],
        "tolerations": [{"key": "k", "operator": "Exists", "tolerationSeconds": 5}],
    },
    "status": {
        "phase": "Running",
        "hostIP": "127.0.0.1",
        "podIPs": [{"ip": "127.0.0.1"}],
        "startTime": T,
        "qosClass": "Burstable",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [
            {
                "name": "app",
                "ready": True,
                "restartCount": 1,
                "containerID": "podvisor://u/app/1",
                "state": {"running": {"startedAt": T}},
                "lastState": {
                    "terminated": {"exitCode": 3, "reason": "Error", "message": "a\nb\n"}
                },
            }
        ],
    },
}
EVENTS: list[Json] = [
    {
        "type": "Warning",
        "reason": "Unhealthy",
        "message": "Liveness probe failed:\n  no",
        "source": {"component": "kubelet"},
        "firstTimestamp": T,
        "lastTimestamp": "2026-01-01T00:00:50Z",
        "count": 3,
    },
    {"type": "Normal", "reason": "Started", "firstTimestamp": T, "lastTimestamp": T, "count": 1},
]


def lived(**app: object) -> PodRecord:
    """The record of a pod with one probed container that has a preStop."""
    container = v1.Container(
        name="app",
        command=("serve",),
        liveness_probe=v1.Probe(http_get=v1.HTTPGetAction(port=80)),
        lifecycle=v1.Lifecycle(pre_stop=v1.LifecycleHandler(exec=v1.ExecAction(command=("bye",)))),
    )
    pod = v1.Pod(
        metadata=v1.ObjectMeta(name="web", namespace="default", uid="u"),
        spec=v1.PodSpec(containers=(container,)),
    )
    made = new_record(pod, AT, NodePolicy(node_name="here"))
    return replace(made, containers=(replace(made.containers[0], attempt=0, **app),))


def test_a_pod_is_described_as_kubectl_does() -> None:
    expected = """\
        Name:         web
        Namespace:    default
        Node:         here/127.0.0.1
        Start Time:   Thu, 01 Jan 2026 00:00:00 +0000
        Labels:       a=1
                      b=2
        Annotations:  <none>
        Status:       Running
        IP:           127.0.0.1
        IPs:
          IP:  127.0.0.1
        Containers:
          app:
            Container ID:  podvisor://u/app/1
            Image:         app:1
            Image ID:
            Ports:         80/TCP, 53/UDP
            Command:
              sh
              -c
              one
              two
            State:          Running
              Started:      Thu, 01 Jan 2026 00:00:00 +0000
            Last State:     Terminated
              Reason:       Error
              Message:      a
                            b
              Exit Code:    3
            Ready:          True
            Restart Count:  1
            Limits:
              memory:  64Mi
            Liveness:  http-get http://:80/h delay=0s timeout=1s period=5s #success=1 #failure=2
            Pre Stop:  exec [bye]
            Environment Variables from:
              settings  ConfigMap with prefix 'X_'  Optional: false
            Environment:
              A:  1
              P:  web (v1:metadata.name)
              S:  <set to the key 'k' in secret 's'>  Optional: false
            Mounts:
              /d from d (ro)
        Conditions:
          Type   Status
          Ready  True
        Volumes:
          d:
            Type:        ConfigMap (a volume populated by a ConfigMap)
            Name:        settings
        QoS Class:       Burstable
        Node-Selectors:  <none>
        Tolerations:     k op=Exists for 5s
        Events:
          Type     Reason     Age                From     Message
          ----     ------     ----               ----     -------
          Normal   Started    60s
          Warning  Unhealthy  10s (x3 over 60s)  kubelet  Liveness probe failed: no
        """
    assert describe("Pod", POD, EVENTS, NOW) == textwrap.dedent(expected)


def test_files_of_volumes_are_told_as_kubectl_does() -> None:
    items = [{"key": "a", "path": "b"}, {"key": "c", "path": "d/e", "mode": 256}]
    labels = {"fieldRef": {"fieldPath": "metadata.labels"}, "path": "labels"}
    limit = {"resourceFieldRef": {"resource": "limits.cpu"}, "path": "cpu"}
    volumes = [
        {"name": "v", "configMap": {"name": "settings", "defaultMode": 420, "items": items}},
        {"name": "w", "downwardAPI": {"items": [labels, limit]}},
    ]
    pod = {**POD, "spec": {**POD["spec"], "volumes": volumes}}
    said = [" ".join(line.split()) for line in describe("Pod", pod, [], NOW).splitlines()]
    assert said[said.index("Volumes:") + 1 :][:9] == [
        "v:",
        "Type: ConfigMap (a volume populated by a ConfigMap)",
        "Name: settings",
        "Default Mode: 0644",
        "Items: a -> b",
        "c -> d/e (mode 0400)",
        "w:",
        "Type: DownwardAPI (a volume populated by information about the pod)",
        "Items: metadata.labels -> labels",
    ]


def test_what_only_the_node_knows_stands_beside_what_it_belongs_to() -> None:
    hook = Hook(
        which=HookKind.PRE_STOP,
        intended=AT,
        begun=AT,
        ended=AT.later(0.5),
        end=HookEnd.FAILED,
        said="exited with 3",
        output="bye\nnow\n",
    )
    state = ProbeState(result=Result.SUCCESS, because="200", last=Result.FAILURE, run=1)
    running = Running(since=AT, pid=77, probes=Probes(liveness=state))
    latest = ProbeObserved(
        at=AT.later(58.0),
        id=ContainerId("u", "app", 0),
        kind=ProbeKind.LIVENESS,
        outcome=ProbeOutcome.FAILURE,
        output="refused",
    )
    record = replace(
        lived(running=running, hooks=(hook,)),
        trail=(
            Mark(at=AT, moment=Moment.STOPPING, note="deletion, grace 30 s"),
            Mark(at=AT, moment=Moment.ALIVE, container="app", pid=77, note="serve"),
            Mark(at=AT, moment=Moment.SIGNAL, container="app", pid=77, note="SIGTERM"),
            Mark(at=AT.later(4.0), moment=Moment.EXIT, container="app", pid=77, note="0 Completed"),
        ),
    )
    text = describe("Pod", POD, [], NOW, records.plain(record, [latest]))
    begin = text.index("    Liveness:")
    assert text[begin : text.index("    Environment")] == (
        "    Liveness:       http-get http://:80/h delay=0s timeout=1s period=5s "
        "#success=1 #failure=2\n"
        "      Last Result:  failure, 2s ago: refused\n"
        "      Verdict:      success: 200; failure 1 of 2 in a row\n"
        "    Pre Stop:       exec [bye]\n"
        "      Result:       failed after 0.5 s\n"
        "      Began:        Thu, 01 Jan 2026 00:00:00 +0000\n"
        "      Message:      exited with 3\n"
        "      Output:       bye\n"
        "                    now\n"
    )
    assert "    Host PID:      77\n" in text
    assert text[text.index("Events:") :].splitlines()[:4] == [
        "Events:          <none>",
        "",
        "Termination:",
        "  shutdown of web: 4.0 s (deletion, grace 30 s)",
    ]
    assert text.endswith(" 0.0 - 4.0 s     exit 0 Completed\n")


@pytest.mark.parametrize(("phase", "took"), [("Running", "60.0 s so far"), ("Unknown", "2.0 s")])
def test_an_end_that_goes_on_is_drawn_until_now_where_a_node_sees_to_it(
    phase: str, took: str
) -> None:
    trail = (
        Mark(at=AT, moment=Moment.STOPPING, note="deletion, grace 90 s"),
        Mark(at=AT, moment=Moment.ALIVE, container="app", pid=77, note="serve"),
        Mark(at=AT.later(2.0), moment=Moment.PRE_STOP, container="app", pid=77),
    )
    record = records.plain(replace(lived(), trail=trail))
    pod = POD | {"status": POD["status"] | {"phase": phase}}
    text = describe("Pod", pod, None, NOW, record)
    assert f"shutdown of web: {took} (deletion, grace 90 s)" in text
    assert text.endswith("goes on\n")
    assert ("2.0 - 60.0 s" in text) == (phase == "Running")


def test_an_attempt_at_an_earlier_instance_is_not_told_of_this_one() -> None:
    seen = ProbeObserved(
        at=AT,
        id=ContainerId("u", "app", 7),
        kind=ProbeKind.LIVENESS,
        outcome=ProbeOutcome.FAILURE,
        output="of another",
    )
    plain = records.plain(lived(running=Running(since=AT, pid=1)), [seen])
    (probe,) = plain["containers"][0]["probes"]
    assert (probe["outcome"], probe["output"], probe["time"]) == ("", "", "")


@pytest.mark.parametrize(
    ("handler", "shown"),
    [
        ({"exec": {"command": ["cat", "/x y"]}}, "exec [cat /x y]"),
        ({"httpGet": {"port": "web"}}, "http-get http://:web/"),
        ({"httpGet": {"port": 1, "host": "h", "scheme": "HTTPS"}}, "http-get https://h:1/"),
        ({"tcpSocket": {"port": 5432}}, "tcp-socket :5432"),
        ({"grpc": {"port": 9, "service": "s"}}, "grpc <pod>:9 s"),
        ({}, "unknown"),
    ],
)
def test_a_probe_is_one_line(handler: Json, shown: str) -> None:
    expected = f"{shown} delay=0s timeout=1s period=10s #success=1 #failure=3"
    assert probe_line(handler) == expected


def test_the_age_of_an_event_is_that_of_its_last_time() -> None:
    series = {"count": 9, "lastObservedTime": "2026-01-01T00:00:58.000000Z"}
    assert event_age(EVENTS[0] | {"series": series}, NOW) == "2s (x9 over 60s)"
    assert event_age({"eventTime": T}, NOW) == "60s"
    assert event_age({}, NOW) == "<unknown>"


@pytest.mark.parametrize(
    ("kind", "object", "lines"),
    [
        ("Namespace", {"status": {"phase": "Active"}}, ["Status:       Active"]),
        (
            "ConfigMap",
            {"data": {"k": "one\ntwo"}, "binaryData": {"b": "AAEC"}},
            ["k:", "----", "one", "two", "b: 3 bytes"],
        ),
        ("Secret", {"type": "Opaque", "data": {"k": "c2VjcmV0"}}, ["Type:  Opaque", "k:  6 bytes"]),
        (
            "Service",
            {"spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}},
            ["Selector:          app=web", "TargetPort:        8080/TCP"],
        ),
        (
            "Node",
            {
                "status": {
                    "capacity": {"cpu": "2"},
                    "nodeInfo": {"kubeletVersion": "v1", "systemUUID": "x"},
                }
            },
            ["  cpu:  2", "  Kubelet Version:    v1", "  System UUID:        x"],
        ),
        (
            "Node",
            {
                "status": {
                    "conditions": [
                        {"type": "DiskPressure", "status": "False"},
                        {"type": "Ready", "status": "Unknown", "reason": "Gone", "message": "m"},
                        {"type": "X", "status": "True", "message": "no reason"},
                    ]
                }
            },
            [
                "  Type          Status   Reason  Message",
                "  DiskPressure  False",
                "  Ready         Unknown  Gone    m",
                "  X             True             no reason",
            ],
        ),
        ("Lease", {"spec": {"holderIdentity": "h"}}, ["Spec:", "  Holder Identity:  h"]),
    ],
)
def test_other_kinds_are_described(kind: str, object: Json, lines: list[str]) -> None:
    meta = {"metadata": {"name": "x", "namespace": "default"}}
    text = describe(kind, meta | object, None, NOW)
    assert [line for line in lines if line not in text.splitlines()] == []
    assert "c2VjcmV0" not in text


@pytest.mark.parametrize("odd", [None, 5, "x", [], [None], {"x": 1}])
def test_objects_of_any_shape_are_described(odd: object) -> None:
    meta = {"name": "x", "namespace": "default"}
    for kind in ("Pod", "Node", "Service", "ConfigMap", "Secret", "Namespace", "Lease"):
        assert describe(kind, {"metadata": meta, "spec": odd, "status": odd, "data": odd}, [], NOW)


def test_events_and_record_are_asked_for_by_what_the_object_is(tmp_path: pathlib.Path) -> None:
    pod = POD | {"metadata": POD["metadata"] | {"uid": "u"}}
    answers = {
        "GET /api/v1/namespaces/default/pods/web": answer(pod),
        "GET /api/v1/namespaces/default/events": answer({"items": EVENTS}),
        "GET /podvisor/v1/namespaces/default/pods/web": refusal(404, "NotFound", "an older node"),
    }
    with FakeApi(str(tmp_path), answers) as api:
        said = podvisor("describe", "pod", "web", "--state-dir", str(tmp_path))
    assert (said.code, said.err) == (0, "")
    assert "Liveness probe failed: no" in said.out
    assert [each.target for each in api.asked][1:] == [
        "/api/v1/namespaces/default/events?fieldSelector=involvedObject.kind%3DPod"
        "%2CinvolvedObject.name%3Dweb%2CinvolvedObject.namespace%3Ddefault"
        "%2CinvolvedObject.uid%3Du",
        "/podvisor/v1/namespaces/default/pods/web",
    ]


def test_of_a_dead_node_what_is_stored_is_described(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = Hook(which=HookKind.PRE_STOP, intended=AT, begun=AT)

    async def fill() -> None:
        async with SQLiteStore(state.database) as store:
            record = lived(running=Running(since=AT, pid=7), hooks=(hook,))
            await store.commit(Change(at=AT, uid="u", record=record))

    with DurableStateDir(str(tmp_path)) as state:
        anyio.run(fill)
    said = podvisor("describe", "pods", "--state-dir", str(tmp_path))
    manifest = json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}})
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(manifest.encode())))
    by_file = podvisor("describe", "-f", "-", "--state-dir", str(tmp_path))
    assert (by_file.code, by_file.out) == (4, said.out)
    assert said.code == 4
    assert "Status:       Unknown\n" in said.out
    assert "      Result:       not known yet\n" in said.out
    assert rfc3339(AT) == T
