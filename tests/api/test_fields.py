"""The support table and the model know the same fields, and the table is applied as it reads."""

from collections.abc import Iterator

import pytest

from supervisor.api import codec, fields, v1, validation
from supervisor.api.fields import EMULATED, HONOURED, IGNORED, REFUSED


def model_paths(type_: type[v1.Model], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every path of the model that the table has to speak about, with its annotation.

    What is beneath a field that is ignored or refused, or dropped as a whole, is not walked.
    """
    whole = {"status", "spec.ephemeralContainers"}
    for wire, (_, annotation) in codec.fields(type_).items():
        path = f"{prefix}{wire}"
        yield path, annotation
        row = next((r for r in fields.ROWS if r.path == path and r.value is None), None)
        if row is None or row.support in (IGNORED, REFUSED) or path in whole:
            continue
        inner = annotation.removesuffix(" | None")
        is_list = inner.startswith("tuple[")
        inner = inner[6:-6] if is_list else inner
        model = getattr(v1, inner, None)
        if isinstance(model, type) and issubclass(model, v1.Model):
            yield from model_paths(model, f"{path}[]." if is_list else f"{path}.")


def test_every_field_of_the_model_has_a_row_and_every_row_a_field() -> None:
    in_model = {path for path, _ in model_paths(v1.Pod)}
    in_table = {row.path for row in fields.ROWS}
    assert in_model - in_table == set()
    assert in_table - in_model == set()


def test_no_row_is_there_twice() -> None:
    keys = [(row.path, row.value) for row in fields.ROWS]
    assert len(keys) == len(set(keys))


def test_what_is_ignored_or_refused_says_why() -> None:
    for row in fields.ROWS:
        if row.support in (IGNORED, REFUSED) or row.warn:
            assert row.note, row.path


@pytest.mark.parametrize(
    ("path", "support"),
    [
        ("spec.containers[].command", HONOURED),
        ("spec.initContainers[].restartPolicy", HONOURED),
        ("spec.containers[].image", EMULATED),
        ("spec.hostNetwork", EMULATED),
        ("spec.nodeSelector", IGNORED),
        ("spec.tolerations", IGNORED),
        ("spec.containers[].livenessProbe.httpGet.host", HONOURED),
        ("spec.initContainers[].readinessProbe.grpc.service", HONOURED),
        ("spec.containers[].lifecycle.postStart.exec.command", HONOURED),
        ("spec.initContainers[].lifecycle.preStop.sleep.seconds", HONOURED),
        ("spec.containers[].lifecycle.stopSignal", HONOURED),
        ("spec.volumes[].configMap.items[].mode", HONOURED),
        ("spec.volumes[].persistentVolumeClaim", REFUSED),
        ("spec.initContainers[].env[].valueFrom.secretKeyRef", HONOURED),
        ("spec.containers[].env[].valueFrom.configMapKeyRef.optional", HONOURED),
        ("spec.containers[].envFrom[].prefix", HONOURED),
        ("spec.containers[].env[].valueFrom.fileKeyRef.optional", HONOURED),
    ],
)
def test_what_this_release_does(path: str, support: fields.Support) -> None:
    (row,) = [row for row in fields.ROWS if row.path == path]
    assert row.support is support


def said_about(**spec: object) -> list[str]:
    container = {"name": "a", "command": ["true"]}
    data = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web"},
        "spec": {"containers": [container], **spec},
    }
    return [f"{finding.severity}: {finding}" for finding in validation.admit(data)[1]]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        pytest.param(
            {"nodeSelector": {"disk": "ssd"}},
            ["warning: spec.nodeSelector is ignored: there is one node"],
            id="an ignored field is a warning",
        ),
        pytest.param(
            {"volumes": [{"name": "a", "persistentVolumeClaim": {"claimName": "a"}}]},
            [
                "error: spec.volumes[0].persistentVolumeClaim is refused: not yet: use hostPath "
                "for what must stay, emptyDir for what may go with the pod"
            ],
            id="a refused field is an error",
        ),
        pytest.param(
            {
                "dnsPolicy": "ClusterFirst",
                "schedulerName": "default-scheduler",
                "serviceAccountName": "default",
                "enableServiceLinks": True,
                "preemptionPolicy": "PreemptLowerPriority",
                "priority": 0,
                "hostNetwork": True,
                "nodeSelector": {},
                "volumes": [],
                "imagePullSecrets": [{"name": "registry"}],
                "automountServiceAccountToken": False,
            },
            [],
            id="what makes no difference here is quiet",
        ),
        pytest.param({"hostUsers": True}, [], id="hostUsers true is so"),
        pytest.param(
            {"hostUsers": False},
            ["warning: spec.hostUsers is ignored: users are the host's"],
            id="hostUsers false asks for something",
        ),
        pytest.param({"os": {"name": "linux"}}, [], id="linux is what there is"),
        pytest.param(
            {"os": {"name": "windows"}},
            ["error: spec.os.name is refused: containers are Linux processes"],
            id="windows is not",
        ),
        pytest.param(
            {"schedulerName": "mine"},
            ["warning: spec.schedulerName is ignored: there is no scheduler"],
            id="another scheduler is missed",
        ),
        pytest.param(
            {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"]}},
            [
                "warning: spec.dnsConfig is ignored: containers use the host's name resolution",
                "warning: spec.dnsPolicy is ignored: containers use the host's name resolution",
            ],
            id="own name servers are missed",
        ),
        pytest.param(
            {
                "containers": [
                    {"name": "a", "command": ["x"], "securityContext": {"privileged": True}},
                    {"name": "b", "command": ["x"], "securityContext": {"privileged": True}},
                ],
                "initContainers": [
                    {"name": "c", "command": ["x"], "securityContext": {"privileged": True}},
                ],
            },
            [
                "warning: spec.containers[0].securityContext.privileged is ignored: "
                "capabilities are those of podvisor (and in 2 other places)"
            ],
            id="the same about several containers is said once",
        ),
        pytest.param(
            {
                "containers": [
                    {
                        "name": "a",
                        "command": ["x"],
                        "securityContext": {"allowPrivilegeEscalation": False},
                        "resources": {"limits": {"memory": "64Mi"}},
                        "ports": [{"containerPort": 80, "hostPort": 80, "name": "http"}],
                    }
                ]
            },
            [
                "warning: spec.containers[0].resources.limits is emulated: "
                "seen by env and the QoS class, not enforced",
                "warning: spec.containers[0].securityContext.allowPrivilegeEscalation is ignored: "
                "setuid programs keep their effect",
            ],
            id="false that asks for something, limits, and a host port that is so",
        ),
        pytest.param(
            {
                "containers": [
                    {
                        "name": "a",
                        "command": ["x"],
                        "ports": [{"containerPort": 80, "hostPort": 8080}],
                    }
                ]
            },
            [
                "warning: spec.containers[0].ports[0].hostPort is ignored: "
                "containers use the host's network, a port is not mapped"
            ],
            id="a host port that would be mapped",
        ),
        pytest.param(
            {
                "containers": [
                    {
                        "name": "a",
                        "command": ["x"],
                        "startupProbe": {"exec": {"command": ["x"]}, "failureThreshold": 30},
                        "livenessProbe": {
                            "httpGet": {
                                "host": "10.0.0.1",
                                "httpHeaders": [{"name": "Host", "value": "web"}],
                                "path": "/healthz",
                                "port": "http",
                                "scheme": "HTTPS",
                            },
                            "terminationGracePeriodSeconds": 5,
                        },
                        "readinessProbe": {"grpc": {"port": 80, "service": "web"}},
                    }
                ]
            },
            [],
            id="probes are made as they stand",
        ),
        pytest.param(
            {
                "initContainers": [
                    {
                        "name": "b",
                        "command": ["x"],
                        "restartPolicy": "Always",
                        "lifecycle": {"postStart": {"exec": {"command": ["x"]}}},
                    }
                ]
            },
            [],
            id="and hooks are run",
        ),
    ],
)
def test_the_table_speaks_about_what_is_set(spec: dict[str, object], said: list[str]) -> None:
    assert said_about(**spec) == said


def test_selecting_a_field_and_what_is_beneath_it() -> None:
    paths = [row.path for row in fields.select("spec.containers[0].env.valueFrom.fieldRef")]
    inner = "spec.containers[].env[].valueFrom.fieldRef"
    assert paths == [inner, f"{inner}.apiVersion", f"{inner}.fieldPath"]
    assert fields.select("containers.env") == fields.select("spec.containers.env")
    assert fields.select("spec.nothing") == []
    assert fields.select() == list(fields.ROWS)
