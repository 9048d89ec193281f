"""What Kubernetes' own suites expect of a node, asked of ours through its API by a stock client.

Each test names its scenario; what kubectl is needed for is in test_kubectl.py.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.e2e.test_clients import api, namespace
from tests.e2e.test_kubectl import GOOD, SLEEPS, _runs, pod, sh
from tests.support import wait_for

__all__ = ["api", "namespace"]
pytestmark = [
    pytest.mark.usefixtures("nothing_left"),
    # Of the client's own.
    pytest.mark.filterwarnings("ignore"),
]

kubernetes = pytest.importorskip("kubernetes")
websocket = pytest.importorskip("websocket")

Manifest = dict[str, Any]

# In a container: says so in the log of its main process.
TELLS = "echo $1 >/proc/${PODVISOR_MAIN_PID:-1}/fd/1"


class Pods:
    """Those of one namespace."""

    def __init__(self, api: Any, namespace: str) -> None:
        self.api, self.namespace = api, namespace
        self.core = kubernetes.client.CoreV1Api(api)

    def create(self, name: str, *containers: Manifest, **spec: Any) -> Any:
        meta = spec.pop("metadata", {})
        made = pod(name, *containers, **spec)
        made["metadata"] |= meta
        return self.core.create_namespaced_pod(self.namespace, made)

    def get(self, name: str) -> Any:
        return self.core.read_namespaced_pod(name, self.namespace)

    def patch(self, name: str, patch: Manifest) -> Any:
        return self.core.patch_namespaced_pod(name, self.namespace, patch)

    def delete(self, name: str, **options: Any) -> Any:
        return self.core.delete_namespaced_pod(name, self.namespace, **options)

    def log(self, name: str, **options: Any) -> str:
        text: str = self.core.read_namespaced_pod_log(name, self.namespace, **options)
        return text

    def events(self, name: str, **fields: str) -> list[Any]:
        wanted = {"involvedObject.name": name, **fields}
        selector = ",".join(f"{key}={value}" for key, value in wanted.items())
        found = self.core.list_namespaced_event(self.namespace, field_selector=selector)
        return list(found.items)

    def status(self, name: str, container: str = "main") -> Any:
        return next(s for s in self.get(name).status.container_statuses if s.name == container)

    def condition(self, name: str, type: str) -> Any:
        return next(c for c in self.get(name).status.conditions or () if c.type == type)

    def until(self, name: str, condition: Callable[[Any], object], what: str) -> Any:
        return wait_for(lambda: (found := self.get(name)) and condition(found) and found, what)

    def ready(self, name: str) -> Any:
        wait_for(lambda: self.get(name).status.conditions, "its conditions")
        wait_for(lambda: self.condition(name, "Ready").status == "True", f"{name} to be ready")
        return self.get(name)

    @contextlib.contextmanager
    def watched(self, **options: Any) -> Iterator[list[tuple[str, Any]]]:
        """What a watch tells, until a pod is deleted."""
        seen: list[tuple[str, Any]] = []
        watch = kubernetes.watch.Watch()

        def follow() -> None:
            lists = self.core.list_namespaced_pod
            for event in watch.stream(lists, self.namespace, timeout_seconds=60, **options):
                seen.append((event["type"], event["object"]))
                if event["type"] == "DELETED":
                    return

        thread = threading.Thread(target=follow)
        thread.start()
        yield seen
        thread.join(60)
        assert not thread.is_alive()

    @contextlib.contextmanager
    def connect(self, path: str, protocol: str) -> Iterator[Any]:
        """A WebSocket to a subresource of a pod, to be spoken on by hand."""
        config = self.api.configuration
        context = ssl.create_default_context(cafile=config.ssl_ca_cert)
        url = f"{config.host}/api/v1/namespaces/{self.namespace}/pods/{path}"
        socket = websocket.create_connection(
            url.replace("https://", "wss://"),
            subprotocols=[protocol],
            header={"Authorization": next(iter(config.api_key.values()))},
            sslopt={"context": context},
            timeout=30,
        )
        try:
            yield socket
        finally:
            socket.close()
            socket.shutdown()  # which close() leaves undone where the other side was first


@pytest.fixture
def pods(api: Any, namespace: str) -> Pods:
    return Pods(api, namespace)


def exec_hook(*command: str) -> Manifest:
    return {"preStop": {"exec": {"command": list(command)}}}


def refused(call: Callable[[], object]) -> tuple[int, str]:
    try:
        call()
    except kubernetes.client.exceptions.ApiException as error:
        return error.status, error.body
    raise AssertionError("it was not refused")


# --- ends -----------------------------------------------------------------------------------------


def test_a_sleeping_pre_stop_delays_the_end_and_counts_against_the_grace(pods: Pods) -> None:
    """D08"""
    main = {"name": "main", "command": GOOD, "lifecycle": {"preStop": {"sleep": {"seconds": 3}}}}
    held = {"finalizers": ["example.com/hold"]}
    pods.create("sleeps", main, terminationGracePeriodSeconds=30, metadata=held)
    pods.ready("sleeps")
    told = pods.delete("sleeps")
    asked = told.metadata.deletion_timestamp - timedelta(seconds=30)
    done = pods.until("sleeps", lambda it: it.status.phase == "Succeeded", "its end")
    ended = done.status.container_statuses[0].state.terminated
    # Times are published in whole seconds.
    assert timedelta(seconds=2) <= ended.finished_at - asked <= timedelta(seconds=31)
    assert ended.exit_code == 0
    pods.patch("sleeps", {"metadata": {"finalizers": None}})


def test_a_pod_is_submitted_seen_and_removed(pods: Pods) -> None:
    """E03, I02"""
    listed = lambda: pods.core.list_namespaced_pod(pods.namespace, label_selector="time=now").items  # noqa: E731
    assert listed() == []
    with pods.watched(label_selector="time=now") as seen:
        made = pods.create("p", metadata={"labels": {"time": "now"}, "generation": 100})
        assert made.metadata.generation == 1
        assert [each.metadata.name for each in listed()] == ["p"]
        pods.ready("p")
        told = pods.delete("p", grace_period_seconds=30)
        assert told.metadata.deletion_timestamp
        assert told.metadata.deletion_grace_period_seconds == 30
        assert told.metadata.generation == 2
        assert told.spec.termination_grace_period_seconds != 0
    types = [type for type, _ in seen]
    assert (types[0], types[-1]) == ("ADDED", "DELETED")
    assert set(types[1:-1]) == {"MODIFIED"}
    assert listed() == []


def test_a_deadline_that_is_added_ends_the_pod_and_keeps_the_object(pods: Pods) -> None:
    """E06"""
    main = {"name": "main", "command": GOOD, "lifecycle": exec_hook(*sh(TELLS, "stopping"))}
    pods.create("late", main, terminationGracePeriodSeconds=20)
    pods.ready("late")
    pods.patch("late", {"spec": {"activeDeadlineSeconds": 1}})
    done = pods.until("late", lambda it: it.status.phase == "Failed", "its end")
    assert done.status.reason == "DeadlineExceeded"
    assert done.metadata.deletion_timestamp is None
    assert pods.log("late") == "stopping\n", "its preStop has run"


def test_a_forced_deletion_frees_the_name_and_its_processes_end_all_the_same(pods: Pods) -> None:
    """E10"""
    mark = f"10{os.getpid()}.{time.monotonic_ns()}"
    mounts = [{"name": "data", "mountPath": "/data-of-pod"}]
    script = "ls /data-of-pod; echo >/data-of-pod/$1; exec sleep $1"
    volumes = [{"name": "data", "emptyDir": {}}]
    deaf = {"name": "main", "command": sh(script, mark), "volumeMounts": mounts}
    before = pods.create("name", deaf, volumes=volumes, terminationGracePeriodSeconds=1)
    wait_for(lambda: _runs(mark), "the first one")
    pods.delete("name", grace_period_seconds=0)
    assert refused(lambda: pods.get("name"))[0] == 404
    other = deaf | {"command": sh(script, f"{mark}1")}
    after = pods.create("name", other, volumes=volumes)
    assert after.metadata.uid != before.metadata.uid
    wait_for(lambda: _runs(f"{mark}1"), "the second one")
    assert pods.log("name") == "", "its directory is its own"
    wait_for(lambda: not _runs(mark), "the end of the first one")
    assert _runs(f"{mark}1")


# --- restarts and readiness -----------------------------------------------------------------------


def test_another_image_begins_the_back_off_anew_for_its_container_only(pods: Pods) -> None:
    """F02"""
    crashing = {"name": "main", "image": "x:1", "command": ["false"]}
    pods.create("backs-off", crashing, {"name": "other", "image": "x:1", "command": GOOD})

    def back_offs(seen: list[tuple[str, Any]]) -> list[str]:
        waiting = [it.status.container_statuses[0].state.waiting for _, it in seen if it]
        texts = [each.message.split()[1] for each in waiting if each and each.message]
        return list(dict.fromkeys(texts))

    with pods.watched() as seen:
        grown = wait_for(
            lambda: len(found := back_offs(seen)) >= 3 and found, "two back-offs to have grown"
        )
        pods.patch("backs-off", {"spec": {"containers": [{"name": "main", "image": "x:2"}]}})
        changed = lambda: [each for each in seen if each[1].spec.containers[0].image == "x:2"]  # noqa: E731
        anew = wait_for(lambda: [t for t in back_offs(changed()) if t == grown[0]], "the first one")
        assert anew
        assert pods.status("backs-off", "other").restart_count == 0
        told = [e.message for e in pods.events("backs-off", reason="Killing")]
        assert not [text for text in told if "other" in text]
        pods.delete("backs-off", grace_period_seconds=1)


def test_gates_hold_a_pod_back_until_all_are_open(pods: Pods) -> None:
    """C27, §1.2.7"""
    gates = ["example.com/one", "example.com/two"]
    pods.create("gated", readinessGates=[{"conditionType": type} for type in gates])
    pods.until("gated", lambda it: it.status.phase == "Running", "it to run")
    wait_for(lambda: pods.condition("gated", "ContainersReady").status == "True", "its containers")

    def set_gate(type: str, status: str) -> None:
        conditions = [{"type": type, "status": status}]
        patch = {"status": {"conditions": conditions}}
        pods.core.patch_namespaced_pod_status("gated", pods.namespace, patch)

    def is_held(*lines: str) -> bool:
        found = pods.condition("gated", "Ready")
        told = (found.status, found.reason, found.message)
        return told == ("False", "ReadinessGatesNotReady", ", ".join(lines))

    missing = 'corresponding condition of pod readiness gate "{}" does not exist.'
    wait_for(lambda: is_held(*map(missing.format, gates)), "both to be missing")
    set_gate(gates[0], "True")
    wait_for(lambda: is_held(missing.format(gates[1])), "the second to be missing")
    set_gate(gates[1], "True")
    pods.ready("gated")
    set_gate(gates[0], "False")
    shut = 'the status of pod readiness gate "{}" is not "True", but False'
    wait_for(lambda: is_held(shut.format(gates[0])), "the first to hold it back again")


# --- logs and programs ----------------------------------------------------------------------------


def test_a_log_comes_over_a_websocket(pods: Pods) -> None:
    """G09"""
    pods.create("says", {"name": "main", "command": sh("echo container is alive; exec sleep 1000")})
    wait_for(lambda: pods.status("says").state.running, "it to run")
    wait_for(lambda: pods.log("says"), "its line")
    with pods.connect("says/log", "binary.k8s.io") as socket:
        assert socket.subprotocol == "binary.k8s.io"
        assert socket.recv() == b"container is alive\n"


def test_a_program_runs_over_a_websocket(pods: Pods) -> None:
    """G10"""
    pods.create("runs")
    pods.ready("runs")
    words = "&command=".join(("", "echo", "remote%20execution%20test"))
    frames = []
    with (
        pods.connect(f"runs/exec?stdout=1&stderr=1{words}", "channel.k8s.io") as socket,
        contextlib.suppress(websocket.WebSocketConnectionClosedException),
    ):
        while frame := socket.recv():
            frames.append(frame)
    said = [frame[1:] for frame in frames if frame[0] == 1]
    assert b"".join(said) == b"remote execution test\n"


def test_a_log_is_cut_by_age_lines_and_bytes(pods: Pods) -> None:
    """G11"""
    pods.create("old", {"name": "main", "command": sh("echo one; echo two; exec sleep 1000")})
    wait_for(lambda: pods.status("old").state.running, "it to run")
    wait_for(lambda: pods.log("old") == "one\ntwo\n", "its lines")
    stamp, _, line = pods.log("old", tail_lines=1, timestamps=True).partition(" ")
    assert line == "two\n"
    written = datetime.fromisoformat(stamp)
    wait_for(lambda: datetime.now(UTC) - written > timedelta(seconds=2), "them to be old")
    assert pods.log("old", since_seconds=1) == ""
    assert pods.log("old", since_seconds=24 * 3600) == "one\ntwo\n"
    assert pods.log("old", limit_bytes=1) == "o"


def test_following_loses_and_doubles_nothing_across_rotations(pods: Pods) -> None:
    """G14"""
    count, width = 300_000, 80  # 36 MB as they are logged: three files are put aside
    script = f"for n in range({count}): print(f'{{n:0{width}}}')"
    main = {"name": "main", "command": ["python3", "-c", script]}
    pods.create("long", main, restartPolicy="Never")
    wait_for(lambda: pods.status("long").state.waiting is None, "it to start")
    answer = pods.core.read_namespaced_pod_log(
        "long", pods.namespace, follow=True, _preload_content=False
    )
    seen, rest = 0, b""
    for piece in answer.stream(1 << 16):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            assert line == b"%0*d" % (width, seen)
            seen += 1
    answer.close()
    assert (seen, rest) == (count, b"")


def test_the_log_of_what_does_not_run_is_the_last_ones_or_says_why_there_is_none(
    pods: Pods,
) -> None:
    """G12, G15"""
    mounts = [{"name": "v", "mountPath": "/v"}]
    volumes = [{"name": "v", "configMap": {"name": "missing"}}]
    waits = {"name": "main", "command": SLEEPS, "volumeMounts": mounts}
    pods.create("waits", waits, volumes=volumes)
    wait_for(lambda: pods.get("waits").status.container_statuses, "its status")
    code, text = refused(lambda: pods.log("waits"))
    assert code == 400
    assert 'container \\"main\\" in pod \\"waits\\" is waiting to start: ContainerCreating' in text
    pods.create("crashes", {"name": "main", "command": sh("echo tried; exit 1")})

    def is_waiting() -> bool:
        found = pods.status("crashes")
        return found.restart_count >= 5 and bool(found.state.waiting)

    wait_for(is_waiting, "a long back-off")
    assert pods.log("crashes") == "tried\n"
    assert pods.log("crashes", previous=True) == "tried\n"


def test_what_is_execed_ends_with_the_instance_of_its_container(pods: Pods) -> None:
    """G16"""
    pods.create("x", {"name": "main", "image": "x:1", "command": GOOD})
    pods.ready("x")
    mark = f"10{os.getpid()}.{time.monotonic_ns()}"
    with pods.connect(f"x/exec?stdout=1&command=sleep&command={mark}", "v5.channel.k8s.io") as said:
        wait_for(lambda: _runs(mark), "it to run")
        pods.patch("x", {"spec": {"containers": [{"name": "main", "image": "x:2"}]}})
        wait_for(lambda: pods.status("x").restart_count == 1, "the next instance")
        wait_for(lambda: not _runs(mark), "its end")
        assert said.recv()[0] == 3, "its last word"
    pods.create("over", {"name": "main", "command": ["true"]}, restartPolicy="Never")
    pods.until("over", lambda it: it.status.phase == "Succeeded", "its end")
    over = pods.connect("over/exec?stdout=1&command=true", "v5.channel.k8s.io")
    with pytest.raises(websocket.WebSocketBadStatusException) as error, over:
        pass
    assert error.value.status_code == 400
    assert b"cannot exec into a container in a completed pod" in error.value.resp_body


def test_ephemeral_containers_come_later_and_change_nothing_of_the_pod(pods: Pods) -> None:
    """H21"""
    pods.create("e")
    pods.ready("e")
    add = pods.core.patch_namespaced_pod_ephemeralcontainers
    debug = [{"name": "one", "image": "x", "command": sh("echo here; exit 3")}]
    add("e", pods.namespace, {"spec": {"ephemeralContainers": debug}})

    def ended(it: Any, name: str) -> Any:
        known = it.status.ephemeral_container_statuses or ()
        return next((s.state.terminated for s in known if s.name == name), None)

    found = pods.until("e", lambda it: ended(it, "one"), "its end")
    assert ended(found, "one").exit_code == 3
    assert pods.log("e", container="one") == "here\n"
    more = [{"name": "two", "image": "x", "command": ["true"]}]
    add("e", pods.namespace, {"spec": {"ephemeralContainers": more}})
    found = pods.until("e", lambda it: ended(it, "two"), "the end of the other one")
    assert [c.name for c in found.spec.ephemeral_containers] == ["one", "two"]
    assert [s.restart_count for s in found.status.ephemeral_container_statuses] == [0, 0]
    assert found.status.phase == "Running"
    assert pods.condition("e", "Ready").status == "True"


# --- objects and events ---------------------------------------------------------------------------


def test_a_pod_and_its_status_go_through_their_lives(pods: Pods) -> None:
    """I03, I04, I05"""
    with pods.watched() as seen:
        pods.create("life", {"name": "main", "image": "x:1", "command": GOOD})
        running = pods.ready("life")
        assert running.status.host_ip
        changed = pods.patch("life", {"metadata": {"labels": {"more": "yes"}}})
        assert changed.metadata.labels == {"app": "life", "more": "yes"}
        assert pods.status("life").restart_count == 0
        pods.patch("life", {"spec": {"containers": [{"name": "main", "image": "x:2"}]}})
        wait_for(lambda: pods.status("life").image == "x:2", "the other image")
        ready = pods.ready("life")
        told = {"status": {"message": "patched", "reason": "test"}}
        after = pods.core.patch_namespaced_pod_status("life", pods.namespace, told)
        assert (after.status.message, after.status.reason) == ("patched", "test")
        mine = pods.core.read_namespaced_pod_status("life", pods.namespace)
        for each in mine.status.conditions:
            each.status = "False" if each.type == "Ready" else each.status
        pods.core.replace_namespaced_pod_status("life", pods.namespace, mine)
        pods.ready("life")
        assert ready.metadata.uid == pods.get("life").metadata.uid
        pods.delete("life", grace_period_seconds=1)
    types = [type for type, _ in seen]
    assert (types[0], types[-1]) == ("ADDED", "DELETED")
    assert set(types[1:-1]) == {"MODIFIED"}


def test_equal_events_are_counted_and_many_are_combined_and_then_dropped(pods: Pods) -> None:
    """I06, §11.3"""
    pods.create("crashes", {"name": "main", "command": ["false"]})
    # Six different texts a second.
    attempts = "read -r n _ </proc/uptime; echo $n $1; exit 1"
    failing = [
        {
            "name": f"c{n}",
            "command": SLEEPS,
            "readinessProbe": {"exec": {"command": sh(attempts, str(n))}, "periodSeconds": 1},
        }
        for n in range(6)
    ]
    pods.create("fails", *failing)

    def counted(name: str, reason: str) -> list[int]:
        return [event.count for event in pods.events(name, reason=reason)]

    grown = wait_for(
        lambda: (found := counted("crashes", "BackOff")) and found[0] >= 3 and found, "a count"
    )
    assert len(grown) == 1

    def combined() -> list[Any]:
        found = pods.events("fails", reason="Unhealthy")
        return [e for e in found if e.message.startswith("(combined from similar events): ")]

    (event,) = wait_for(combined, "many to be combined")
    assert "Readiness probe failed: " in event.message
    single = [
        e for e in pods.events("fails", reason="Unhealthy") if e.metadata.uid != event.metadata.uid
    ]
    assert len(single) <= 10
    # Six more a second would come; one in five minutes does, after the first 25.
    every = wait_for(lambda: (n := sum(counted("fails", "Unhealthy"))) >= 24 and n, "the bucket")
    made = time.monotonic() + 5
    wait_for(lambda: time.monotonic() > made, "thirty more attempts")
    assert sum(counted("fails", "Unhealthy")) <= every + 2


def test_a_happy_start_is_told_in_three_events_for_each_container(pods: Pods) -> None:
    """I07"""
    init = [{"name": "prepare", "command": ["true"]}]
    pods.create(
        "happy",
        {"name": "one", "command": GOOD},
        {"name": "two", "command": GOOD},
        initContainers=init,
    )
    pods.ready("happy")
    told = pods.events("happy")
    scheduled = [e for e in told if e.reason == "Scheduled"]
    assert [e.source.component for e in scheduled] == ["default-scheduler"]
    for path in ("spec.initContainers{prepare}", "spec.containers{one}", "spec.containers{two}"):
        own = [e for e in told if e.involved_object.field_path == path]
        assert [e.reason for e in own] == ["Pulled", "Created", "Started"]
        assert {(e.type, e.count, e.reporting_component) for e in own} == {("Normal", 1, "kubelet")}
    assert len(told) == 10
