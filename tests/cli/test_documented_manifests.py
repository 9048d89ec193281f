"""Manifests of the shapes that Kubernetes' own tasks and tutorials have, each run unchanged.

They are in `documented/`, with one podvisor.toml beside them. A pod that ends is run to its end; of
one that would go on, what it should show is waited for, then it is told to end. What a manifest has
that means less here than in a cluster is a part of what is expected, so that it cannot grow unseen.
"""

from __future__ import annotations

import os
import re
import shutil
import signal

import pytest
from msgspec import Struct

from tests.support import ROOT, Place, Session, Way, in_pidns, one_way

pytestmark = pytest.mark.usefixtures("nothing_left")

FOLDER = ROOT / "tests/cli/documented"
FINDING = re.compile(r"^[^\s:]+:\d+:\d+: (?:warning|error): (.*)$", re.MULTILINE)
FIELDS = re.compile(r"(.*?) (?:is|are) (ignored|emulated|refused): ")
SKIPPED = "skipped, since only pods and workloads are run: "


class Case(Struct, frozen=True):
    file: str
    logs: tuple[str, ...] = ()  # "CONTAINER: line", the first ones of each container
    says: tuple[str, ...] = ()  # by podvisor, in any order
    less: tuple[str, ...] = ()  # what means less here: fields, and documents that are skipped
    messages: tuple[str, ...] = ()  # "CONTAINER: message" of its termination
    code: int | None = None  # None: it goes on until it is told to end
    deaf: bool = False  # a main does not hear SIGTERM
    changes_users: bool = False


def limits(index: int = 0, template: str = "spec") -> str:
    return f"emulated: {template}.containers[{index}].resources.limits"


CASES = {
    case.file.partition("-")[2]: case
    for case in (
        Case(
            "01-command-and-arguments",
            logs=("command-demo-container: command-demo", "greeter: hello world"),
            code=0,
        ),
        Case(
            "02-dependent-variables",
            logs=(
                "demo: unchanged=$(PROTOCOL)://172.17.0.1:80",
                "demo: address=https://172.17.0.1:80",
                "demo: escaped=$(PROTOCOL)://172.17.0.1:80",
            ),
            deaf=True,
        ),
        Case(
            "03-configmap-variables",
            logs=(
                "all-keys: SPECIAL_LEVEL=very",
                "all-keys: SPECIAL_TYPE=charm",
                "one-key: level is INFO",
                "in-command: very charm",
            ),
            code=0,
        ),
        Case(
            "04-configmap-volume",
            logs=(
                "test-container: SPECIAL_LEVEL",
                "test-container: SPECIAL_TYPE",
                "test-container: very",
            ),
            code=0,
        ),
        Case(
            "05-secret",
            logs=(
                "as-files: my-group",
                "as-files: 400 my-group/my-username",
                "as-variables: my-app, a password of 12 characters",
            ),
            code=0,
        ),
        Case(
            "06-projected-volume",
            logs=(
                "test-projected-volume: ./labels",
                "test-projected-volume: ./my-group/my-config",
                "test-projected-volume: ./my-group/my-password",
                "test-projected-volume: ./username",
                'test-projected-volume: tier="demo"',
            ),
            deaf=True,
        ),
        Case(
            "07-downward-variables",
            logs=(
                "fields: dapi-envars",
                "fields: demo",
                "fields: 127.0.0.1",
                "fields: default",
                "fields: on a node",
                "resources: 1",
                "resources: 250",
                "resources: 33554432",
                "resources: 64",
            ),
            less=(limits(1),),
            deaf=True,
        ),
        Case(
            "08-downward-volume",
            logs=(
                'client-container: cluster="test-cluster1"',
                'client-container: zone="us-est-coast"',
                'client-container: build="two"',
                "client-container: 65536",
            ),
            less=(limits(),),
            deaf=True,
        ),
        Case("09-init-container", logs=("nginx: fetched by the init container",)),
        Case(
            "10-liveness-command",
            says=(
                "liveness probe failed: cat: /tmp/healthy: No such file or directory; stopping it",
            ),
            deaf=True,
        ),
        Case(
            "11-liveness-http",
            says=(
                "liveness probe failed: HTTP probe failed with statuscode: 500; stopping it",
                "* started, restart 1",
            ),
        ),
        Case("12-startup-probe", says=("* startup probe passed", "slow-start/server * ready")),
        Case(
            "13-lifecycle-handlers",
            logs=(
                "lifecycle-demo-container: hello from the postStart handler",
                "lifecycle-demo-container: it works",
                "lifecycle-demo-container: draining",
            ),
            says=("lifecycle-demo                          * Running",),
        ),
        Case(
            "14-job-with-sidecar",
            logs=("logshipper: logging",),
            says=(
                "all app containers have ended: stopping logshipper",
                "myjob            * Succeeded",
            ),
            less=("ignored: spec.backoffLimit",),
            code=0,
        ),
        Case(
            "15-cron-job",
            logs=("hello: Hello from the Kubernetes cluster",),
            less=("ignored: spec.schedule, spec.concurrencyPolicy",),
            code=0,
        ),
        Case(
            "16-deployment-and-service",
            logs=("nginx: it works",),
            less=("ignored: spec.replicas, spec.strategy", "skipped: Service my-nginx"),
        ),
        Case(
            "17-stateful-set",
            logs=("nginx: it works",),
            less=(
                "ignored: spec.replicas, spec.minReadySeconds, spec.podManagementPolicy",
                "skipped: Service nginx",
            ),
        ),
        Case(
            "18-sub-paths",
            logs=(
                "backup: ./html/index.php",
                "backup: ./logs/my-lamp-site/hello.txt",
                "backup: ./mysql/table",
            ),
            code=0,
        ),
        Case(
            "19-host-aliases",
            says=("| 127.0.0.1\tfoo.local\tbar.local", "| 10.1.2.3\tfoo.remote\tbar.remote"),
            code=0,
        ),
        Case(
            "20-resources",
            logs=("qos-demo-ctr: stress --vm 1 --vm-bytes 150M",),
            less=(limits(),),
            code=0,
        ),
        Case(
            "21-security-context",
            logs=(
                "sec-ctx-demo: 1000",
                "sec-ctx-demo: 3000",
                "sec-ctx-demo: 3000 2000 4000",
                "sec-ctx-demo: 1000:2000",
            ),
            less=(
                "ignored: spec.securityContext.seccompProfile",
                "ignored: spec.containers[0].securityContext.allowPrivilegeEscalation",
                "ignored: spec.containers[0].securityContext.readOnlyRootFilesystem",
                "ignored: spec.containers[0].securityContext.capabilities",
            ),
            deaf=True,
            changes_users=True,
        ),
        Case(
            "22-termination-message",
            logs=("by-log: the last line",),
            messages=("usual: Sleep expired", "elsewhere: said elsewhere", "by-log: the last line"),
            code=1,
        ),
        Case(
            "23-pod-failure-policy",
            logs=("main: Hello world! I'm going to exit with 42 to simulate a software bug.",),
            less=(
                "ignored: spec.completions, spec.parallelism, spec.activeDeadlineSeconds, "
                "spec.ttlSecondsAfterFinished, spec.backoffLimit, spec.podFailurePolicy",
            ),
            code=1,
        ),
        Case(
            "24-redis-with-configuration",
            logs=(
                "redis: redis reads /redis-master/redis.conf:",
                "redis: maxmemory 2mb",
                "redis: maxmemory-policy allkeys-lru",
            ),
            less=(limits(),),
        ),
        Case(
            "25-daemon-set",
            logs=("fluentd-elasticsearch: reading",),
            less=(
                "ignored: spec.updateStrategy",
                "ignored: spec.template.spec.tolerations",
                "ignored: spec.template.spec.nodeSelector",
                "ignored: spec.template.spec.priorityClassName",
                "ignored: spec.template.spec.affinity",
                "ignored: spec.template.spec.topologySpreadConstraints",
                limits(0, "spec.template.spec"),
            ),
            deaf=True,
        ),
        Case(
            "26-persistent-volume-claim",
            less=(
                "refused: spec.volumes[0].persistentVolumeClaim",
                "skipped: PersistentVolumeClaim task-pv-claim",
            ),
            code=3,
        ),
        Case(
            "27-service-account-token",
            less=("refused: spec.volumes[0].projected.sources[0].serviceAccountToken",),
            code=3,
        ),
    )
}


def test_every_documented_manifest_is_expected_to_do_something():
    files = sorted(case.file for case in CASES.values())
    assert sorted(file[:-5] for file in os.listdir(FOLDER) if file.endswith(".yaml")) == files


MOUNTED = ("projected-volume", "init-container", "sub-paths")


@one_way
@pytest.mark.parametrize("name", [name for name in CASES if name not in MOUNTED])
def test_a_documented_manifest_runs_unchanged(place: Place, way: Way, name: str):
    run_unchanged(place, way, CASES[name])


@in_pidns
@pytest.mark.parametrize("name", MOUNTED)
def test_a_documented_manifest_with_volumes_runs_unchanged_without_root_too(
    place: Place, way: Way, name: str
):
    run_unchanged(place, way, CASES[name])


def run_unchanged(place: Place, way: Way, case: Case) -> None:
    if case.changes_users and not way.changes_users:
        pytest.skip("only root can take on the users of this manifest")
    shutil.copytree(FOLDER, f"{place.folder}/documented")
    session = place.podvisor(
        "run",
        f"--isolation={way.isolation}",
        f"documented/{case.file}.yaml",
        "-o",
        "json",
        start={"net": True},  # several of them listen at the same port
    )
    if case.code is None:
        for line in case.logs:
            if "draining" not in line:
                session.until_said(f"| {line.partition(': ')[2]}\n")
        for text in case.says:
            session.until_said(text)
        tell_to_end(session, case)
    finished = session.wait(130 if case.code is None else case.code)
    assert means_less(finished.err) == sorted(case.less)
    for text in case.says:
        assert text in finished.err
    if case.code == 3:
        assert finished.out == ""
        return
    (pod,) = finished.pods.values()
    expected: dict[str, list[str]] = {}
    for line in case.logs:
        container, _, text = line.partition(": ")
        expected.setdefault(container, []).append(text)
    for container, lines in expected.items():
        assert pod.lines(container)[: len(lines)] == lines
    for line in case.messages:
        container, _, text = line.partition(": ")
        assert pod.message(container).strip() == text


def tell_to_end(session: Session, case: Case) -> None:
    session.signal(signal.SIGINT)
    if case.deaf:  # 30 s of grace are for those who hear
        session.until_said("* stopping, grace")
        session.signal(signal.SIGINT)
        session.until_said("* grace shortened")
        session.signal(signal.SIGINT)


def means_less(said: str) -> list[str]:
    """What podvisor says about fields and documents that it does not fully honour."""
    found = []
    for text in FINDING.findall(said):
        if text.startswith(SKIPPED):
            found.append(f"skipped: {text.removeprefix(SKIPPED)}")
        else:
            match = FIELDS.match(text)
            assert match is not None, text
            found.append(f"{match[2]}: {match[1]}")
    return sorted(found)
