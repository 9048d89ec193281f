"""Defaults and rules of pods, one table row a rule, with Kubernetes' own words."""

from typing import Any

import msgspec
import pytest

from supervisor.api import codec, v1, validation
from supervisor.api.problems import MAX_FINDINGS

LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
    "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex "
    "used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
    r"for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
C = {"name": "a", "command": ["true"]}


def pod(*, metadata: object = None, **spec: object) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web"} if metadata is None else metadata,
        "spec": {"containers": [C], **spec},
    }


def container(**fields: object) -> dict[str, Any]:
    return pod(containers=[{**C, **fields}])


def init(**fields: object) -> dict[str, Any]:
    return pod(initContainers=[{"name": "i", "command": ["true"], **fields}])


def env(**variable: object) -> dict[str, Any]:
    return container(env=[{"name": "A", **variable}])


def errors(data: object) -> list[str]:
    admitted, findings = validation.admit(data)
    found = [str(finding) for finding in findings if finding.severity == "error"]
    assert (admitted is None) == bool(found)
    return found


def warnings(data: object) -> list[str]:
    return [str(f) for f in validation.admit(data)[1] if f.severity == "warning"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(
            pod(metadata={}), ["metadata.name: Required value"], id="a pod has a name"
        ),
        pytest.param(
            pod(metadata={"name": "Web"}),
            [f'metadata.name: Invalid value: "Web": {SUBDOMAIN}'],
            id="a pod's name is a subdomain",
        ),
        pytest.param(
            pod(metadata={"name": "a" * 254}),
            [
                f'metadata.name: Invalid value: "{"a" * 199}…: '
                "must be no more than 253 characters"
            ],
            id="of 253 characters at most",
        ),
        pytest.param(
            pod(metadata={"generateName": "web-"}),
            [
                "metadata.generateName is refused: names are made by an API server: give the pod a "
                "name"
            ],
            id="names are made by an API server",
        ),
        pytest.param(
            pod(metadata={"name": "web", "namespace": "a.b"}),
            [f'metadata.namespace: Invalid value: "a.b": {LABEL}'],
            id="a namespace is a label",
        ),
        pytest.param(
            pod(metadata={"name": "web", "labels": {"/x": "y"}}),
            ['metadata.labels: Invalid value: "/x": prefix part must be non-empty'],
            id="a label's key is a qualified name",
        ),
        pytest.param(
            pod(metadata={"name": "web", "labels": {"x": "a" * 64}}),
            [
                f'metadata.labels[x]: Invalid value: "{"a" * 64}": '
                "must be no more than 63 characters"
            ],
            id="a label's value is short",
        ),
        pytest.param(pod(containers=[]), ["spec.containers: Required value"], id="one container"),
        pytest.param(
            pod(restartPolicy="always"),
            [
                'spec.restartPolicy: Unsupported value: "always": '
                'supported values: "Always", "OnFailure", "Never"'
            ],
            id="restart policies",
        ),
        pytest.param(
            pod(dnsPolicy="x"),
            [
                'spec.dnsPolicy: Unsupported value: "x": supported values: '
                '"ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"'
            ],
            id="dns policies",
        ),
        pytest.param(
            pod(activeDeadlineSeconds=0),
            [
                "spec.activeDeadlineSeconds: Invalid value: 0: "
                "must be between 1 and 2147483647, inclusive"
            ],
            id="a deadline is in the future",
        ),
        pytest.param(
            pod(ephemeralContainers=[C]),
            ["spec.ephemeralContainers: Forbidden: cannot be set on create"],
            id="ephemeral containers come later, and are not said to be refused as well",
        ),
        pytest.param(
            pod(os={}), ["spec.os.name: Required value: cannot be empty"], id="os has a name"
        ),
        pytest.param(
            pod(os={"name": "beos"}),
            ['spec.os: Unsupported value: "beos": supported values: "linux", "windows"'],
            id="os is one of two",
        ),
        pytest.param(
            pod(securityContext={"runAsUser": -1, "supplementalGroups": [1, 2**31]}),
            [
                "spec.securityContext.runAsUser: Invalid value: -1: "
                "must be between 0 and 2147483647, inclusive",
                "spec.securityContext.supplementalGroups[1]: Invalid value: 2147483648: "
                "must be between 0 and 2147483647, inclusive",
            ],
            id="ids have a range",
        ),
        pytest.param(
            pod(hostNetwork=True, hostnameOverride="x"),
            [
                "spec.hostnameOverride: Forbidden: "
                "may not be specified when hostNetwork is true"
            ],
            id="no other host name in the host's network",
        ),
        pytest.param(
            pod(nodeName="n", schedulingGates=[{"name": "g"}]),
            [
                "spec.nodeName: Forbidden: "
                "cannot be set until all schedulingGates have been cleared",
                "spec.schedulingGates is refused: there is no scheduler that would wait",
            ],
            id="scheduled although gated",
        ),
        pytest.param(
            {"apiVersion": "apps/v1", "kind": "Deployment"},
            ["kind Deployment is not run here: only pods and workloads are"],
            id="another kind",
        ),
        pytest.param(
            {"apiVersion": "v2", "kind": "Pod", "metadata": {"name": "x"}},
            [
                'apiVersion: Unsupported value: "v2": supported values: "v1"',
                "spec.containers: Required value",
            ],
            id="another version",
        ),
        pytest.param({"a": 1}, ["kind: Required value: such as Pod"], id="no kind"),
        pytest.param(
            {"apiVersion": "v1", "Kind": "Pod", "metadata": {"name": "x"}, "spec": {"a": 1}},
            [
                "Kind: Unknown field (did you mean kind?)",
                "spec.a: Unknown field",
                "spec.containers: Required value",
            ],
            id="a misnamed kind Pod beside all the rest",
        ),
        pytest.param(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "Spec": {}},
            ["Spec: Unknown field (did you mean spec?)"],
            id="nothing is missing of what is misnamed",
        ),
        pytest.param(
            {"kin": "Job", "spec": {"a": 1}},
            ["kin: Unknown field (did you mean kind?)"],
            id="another kind, misnamed",
        ),
        pytest.param(
            ["x"],
            ["Invalid value: must be a mapping with apiVersion, kind, metadata and spec"],
            id="no object: it may be a list of Secrets",
        ),
        pytest.param(
            "PASSWORD=hunter2",
            ["Invalid value: must be a mapping with apiVersion, kind, metadata and spec"],
            id="no object: it may be a file of variables",
        ),
    ],
)  # fmt: skip
def test_rules_of_the_pod(data: object, expected: list[str]) -> None:
    """What a pod may ask for as a whole."""
    assert errors(data) == expected


AT = "spec.containers[0]"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(
            pod(containers=[{"command": ["x"]}]), [f"{AT}.name: Required value"], id="a name"
        ),
        pytest.param(
            container(name="A_"), [f'{AT}.name: Invalid value: "A_": {LABEL}'],
            id="that is a label",
        ),
        pytest.param(
            pod(containers=[C, C]), ['spec.containers[1].name: Duplicate value: "a"'],
            id="that is unique",
        ),
        pytest.param(
            pod(initContainers=[C]), ['spec.initContainers[0].name: Duplicate value: "a"'],
            id="among init containers too",
        ),
        pytest.param(
            pod(containers=[{"name": "a"}]),
            [
                f"{AT}.command: Required value: there is no image to take one from: "
                "give the container a command"
            ],
            id="a container needs a program",
        ),
        pytest.param(
            pod(containers=[{"name": "a", "args": ["x"]}]),
            [
                f"{AT}.command: Required value: there is no image, so args have no program: "
                "give the container a command"
            ],
            id="and args are none",
        ),
        pytest.param(
            pod(containers=[{"name": "a", "image": "nginx"}]), [],
            id="which program an image is depends on the place",
        ),
        pytest.param(
            container(command=[""]), [f'{AT}.command[0]: Invalid value: "": must name a program'],
            id="an empty word is no program",
        ),
        pytest.param(
            container(args=["a\0b"]),
            [f'{AT}.args[0]: Invalid value: "a\\u0000b": must not contain the character NUL'],
            id="no process can be given a NUL",
        ),
        pytest.param(
            container(image="nginx "),
            [
                f'{AT}.image: Invalid value: "nginx ": '
                "must not have leading or trailing whitespace"
            ],
            id="no blanks around an image",
        ),
        pytest.param(
            container(terminationMessagePolicy="x"),
            [
                f'{AT}.terminationMessagePolicy: Unsupported value: "x": '
                'supported values: "File", "FallbackToLogsOnError"'
            ],
            id="two termination message policies",
        ),
        pytest.param(
            container(imagePullPolicy="x"),
            [
                f'{AT}.imagePullPolicy: Unsupported value: "x": '
                'supported values: "Always", "IfNotPresent", "Never"'
            ],
            id="three pull policies",
        ),
        pytest.param(
            container(ports=[{"containerPort": 99999}, {}, {"containerPort": 1, "protocol": "x"}]),
            [
                f"{AT}.ports[0].containerPort: Invalid value: 99999: "
                "must be between 1 and 65535, inclusive",
                f"{AT}.ports[1].containerPort: Required value",
                f'{AT}.ports[2].protocol: Unsupported value: "x": '
                'supported values: "SCTP", "TCP", "UDP"',
            ],
            id="ports have a range and a protocol",
        ),
        pytest.param(
            container(ports=[{"containerPort": 1, "name": "-Web--"}]),
            [
                f'{AT}.ports[0].name: Invalid value: "-Web--": '
                "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
                f'{AT}.ports[0].name: Invalid value: "-Web--": '
                "must not contain consecutive hyphens",
                f'{AT}.ports[0].name: Invalid value: "-Web--": '
                "must not begin or end with a hyphen",
            ],
            id="a port's name has a form",
        ),
        pytest.param(
            container(ports=[{"containerPort": 1, "name": "8080"}]),
            [f'{AT}.ports[0].name: Invalid value: "8080": must contain at least one letter (a-z)'],
            id="and a letter",
        ),
        pytest.param(
            container(ports=[{"containerPort": n, "name": "http"} for n in (1, 2)]),
            [f'{AT}.ports[1].name: Duplicate value: "http"'],
            id="and is unique in its container",
        ),
        pytest.param(
            container(ports=[{"containerPort": n, "hostPort": 8080} for n in (1, 2)]),
            [f'{AT}.ports[1].hostPort: Duplicate value: "TCP//8080"'],
            id="a host port is claimed once",
        ),
        pytest.param(
            pod(hostNetwork=True, containers=[{**C, "ports": [
                {"containerPort": 80, "hostPort": 81}]}]),
            [
                f"{AT}.ports[0].hostPort: Invalid value: 81: "
                "must match `containerPort` when `hostNetwork` is true"
            ],
            id="and is the container's in the host's network",
        ),
        pytest.param(
            container(resources={"limits": {"cpu": "100m"}, "requests": {"cpu": 1}}),
            [
                f'{AT}.resources.requests: Invalid value: "1": '
                "must be less than or equal to cpu limit of 100m"
            ],
            id="requests do not exceed limits",
        ),
        pytest.param(
            container(resources={"limits": {"cpu": -1, "gpu": 1}}),
            [
                f'{AT}.resources.limits[cpu]: Invalid value: "-1": '
                "must be greater than or equal to 0",
                f'{AT}.resources.limits[gpu]: Invalid value: "gpu": '
                "must be a standard resource for containers",
            ],
            id="limits are known and not negative",
        ),
        pytest.param(
            pod(restartPolicy="Never", containers=[{**C, "resizePolicy": [
                {"resourceName": "cpu", "restartPolicy": "RestartContainer"}]}]),
            [
                f'{AT}.resizePolicy[0]: Invalid value: "RestartContainer": '
                "must be 'NotRequired' when pod `restartPolicy` is 'Never'"
            ],
            id="no restart for a resize where nothing is restarted",
        ),
        pytest.param(
            container(securityContext={"privileged": True, "allowPrivilegeEscalation": False}),
            [
                f"{AT}.securityContext: Invalid value: "
                '{"allowPrivilegeEscalation":false,"privileged":true}: '
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            ],
            id="privileged is the opposite of no escalation",
        ),
        pytest.param(
            container(volumeMounts=[{"name": "x", "mountPath": "/x"}]),
            [
                f'{AT}.volumeMounts[0].name: Not found: "x"',
            ],
            id="a mount of no volume",
        ),
    ],
)  # fmt: skip
def test_rules_of_containers(data: object, expected: list[str]) -> None:
    """Names, programs, ports and resources of containers."""
    assert errors(data) == expected


V = "spec.volumes[0]"
_MODE = "must be a number between 0 and 0777 (octal), both inclusive"


def volume(**source: Any) -> Any:
    return pod(volumes=[{"name": "v", **source}])


def mounted(*mounts: dict[str, Any]) -> Any:
    return pod(
        volumes=[{"name": "v"}],
        containers=[{**C, "volumeMounts": [{"name": "v", **mount} for mount in mounts]}],
    )


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(volume(), [], id="no source is an emptyDir"),
        pytest.param(
            pod(volumes=[{"name": "v"}, {"name": "v"}, {"name": "V"}, {}]),
            [
                'spec.volumes[1].name: Duplicate value: "v"',
                f'spec.volumes[2].name: Invalid value: "V": {validation._LABEL_TEXT}',
                "spec.volumes[3].name: Required value",
            ],
            id="names",
        ),
        pytest.param(
            volume(emptyDir={}, configMap={"name": "c"}, secret={"secretName": "s"}),
            [
                f"{V}.emptyDir: Forbidden: may not specify more than 1 volume type",
                f"{V}.secret: Forbidden: may not specify more than 1 volume type",
            ],
            id="two sources",
        ),
        pytest.param(
            volume(emptyDir={"sizeLimit": "-1"}),
            [
                f"{V}.emptyDir.sizeLimit: Forbidden: "
                "SizeLimit field must be a valid resource quantity"
            ],
            id="a negative limit",
        ),
        pytest.param(
            volume(hostPath={"path": "data/web"}),
            [
                f'{V}.hostPath.path: Invalid value: "data/web": '
                "must be an absolute path, such as /srv/data"
            ],
            id="a folder of the host by a relative path",
        ),
        pytest.param(
            volume(hostPath={"path": "/a/../b", "type": "Folder"}),
            [
                f"{V}.hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
                f'{V}.hostPath.type: Unsupported value: "Folder": supported values: "", '
                '"BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", '
                '"FileOrCreate", "Socket"',
            ],
            id="hostPath",
        ),
        pytest.param(
            volume(configMap={
                "defaultMode": 512,
                "items": [{"path": "/a"}, {"key": "k", "path": "../a", "mode": -1},
                          {"key": "k", "path": "..a"}, {"key": "k"}],
            }),
            [
                f"{V}.configMap.name: Required value",
                f"{V}.configMap.defaultMode: Invalid value: 512: {_MODE}",
                f"{V}.configMap.items[0].key: Required value",
                f'{V}.configMap.items[0].path: Invalid value: "/a": must be a relative path',
                f"{V}.configMap.items[1].path: Invalid value: \"../a\": must not contain '..'",
                f"{V}.configMap.items[1].mode: Invalid value: -1: {_MODE}",
                f"{V}.configMap.items[2].path: Invalid value: \"..a\": must not start with '..'",
                f"{V}.configMap.items[3].path: Required value",
            ],
            id="keys and paths",
        ),
        pytest.param(
            volume(secret={"secretName": "s", "defaultMode": 0o400}), [], id="a secret"
        ),
        pytest.param(
            volume(downwardAPI={"items": [
                {"path": "a", "fieldRef": {"fieldPath": "metadata.labels"}},
                {"path": "b", "fieldRef": {"fieldPath": "status.podIP"}},
                {"path": "c", "resourceFieldRef": {"resource": "limits.cpu"}},
                {"path": "d"},
            ]}),
            [
                f'{V}.downwardAPI.items[1].fieldRef.fieldPath: Unsupported value: "status.podIP": '
                'supported values: "metadata.annotations", "metadata.labels", "metadata.name", '
                '"metadata.namespace", "metadata.uid"',
                f"{V}.downwardAPI.items[2].resourceFieldRef.containerName: Required value",
                f"{V}.downwardAPI.items[3]: Required value: "
                "one of fieldRef and resourceFieldRef is required",
            ],
            id="the downward API of volumes has its own fields",
        ),
        pytest.param(
            volume(projected={"sources": [
                {"secret": {"name": "s", "items": [{"key": "k", "path": "p"}]}},
                {"configMap": {"name": "c", "items": [{"key": "k", "path": "p"}]}},
                {"secret": {"name": ""}, "configMap": {"name": "c"}},
            ]}),
            [
                f'{V}.projected.sources[1]: Invalid value: "c": conflicting duplicate paths',
                f"{V}.projected.sources[2].secret: Forbidden: "
                "may not specify more than 1 volume type",
                f"{V}.projected.sources[2].secret.name: Required value",
            ],
            id="projections",
        ),
        pytest.param(
            volume(projected={"sources": [{"serviceAccountToken": {"path": "token"}}]}),
            [
                f"{V}.projected.sources[0].serviceAccountToken is refused: "
                "there is no API server that issues tokens"
            ],
            id="a token",
        ),
        pytest.param(
            mounted({"mountPath": "/a"}, {"mountPath": "/a"}, {}, {"mountPath": "b"}),
            [
                f'{AT}.volumeMounts[1].mountPath: Invalid value: "/a": must be unique',
                f"{AT}.volumeMounts[2].mountPath: Required value",
            ],
            id="where it is mounted",
        ),
        pytest.param(
            mounted(
                {"mountPath": "/a", "subPath": "/x"},
                {"mountPath": "/b", "subPathExpr": "a/../b"},
                {"mountPath": "/c", "subPath": "a", "subPathExpr": "b"},
            ),
            [
                f'{AT}.volumeMounts.subPath: Invalid value: "/x": must be a relative path',
                f"{AT}.volumeMounts.subPathExpr: Invalid value: \"a/../b\": "
                "must not contain '..'",
                f'{AT}.volumeMounts[2].subPathExpr: Invalid value: "b": '
                "subPathExpr and subPath are mutually exclusive",
            ],
            id="what of it is mounted",
        ),
        pytest.param(
            pod(hostAliases=[{"ip": "nowhere", "hostnames": ["a"]}]),
            ['spec.hostAliases.ip: Invalid value: "nowhere": must be valid IP address'],
            id="an alias of no address",
        ),
    ],
)  # fmt: skip
def test_rules_of_volumes(data: object, expected: list[str]) -> None:
    """§9.3: names, sources, modes, paths and mounts."""
    assert errors(data) == expected


INIT = "spec.initContainers[0]"
RULE = {"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(init(restartPolicy="Always"), [], id="a sidecar"),
        pytest.param(init(restartPolicy="OnFailure"), [], id="an init container with a policy"),
        pytest.param(
            init(restartPolicy="x"),
            [
                f'{INIT}.restartPolicy: Unsupported value: "x": '
                'supported values: "Always", "Never", "OnFailure"'
            ],
            id="policies of containers are sorted otherwise than those of pods",
        ),
        pytest.param(
            init(livenessProbe={}, readinessProbe={}, startupProbe={}, lifecycle={}),
            [
                f"{INIT}.{name}: Forbidden: "
                "may not be set for init containers without restartPolicy=Always"
                for name in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")
            ],
            id="an init container has neither probes nor hooks",
        ),
        pytest.param(
            init(restartPolicy="Always", restartPolicyRules=[RULE]), [], id="a rule of a sidecar"
        ),
        pytest.param(container(restartPolicy="Never", restartPolicyRules=[RULE]), [], id="a rule"),
        pytest.param(
            container(restartPolicyRules=[RULE]),
            [
                f"{AT}.restartPolicy: Required value: "
                "must specify restartPolicy when restart rules are used"
            ],
            id="rules need a policy",
        ),
        pytest.param(
            container(restartPolicy="Never", restartPolicyRules=[RULE] * 21),
            [f"{AT}.restartPolicyRules: Too many: 21: must have at most 20 items"],
            id="at most twenty rules",
        ),
        pytest.param(
            container(
                restartPolicy="Never",
                restartPolicyRules=[
                    {"action": "Stop", "exitCodes": {"operator": "Is", "values": [1] * 256}},
                    {"action": "Restart"},
                ],
            ),
            [
                f'{AT}.restartPolicyRules[0].action: Unsupported value: "Stop": '
                'supported values: "Restart", "RestartAllContainers"',
                f'{AT}.restartPolicyRules[0].exitCodes.operator: Unsupported value: "Is": '
                'supported values: "In", "NotIn"',
                f"{AT}.restartPolicyRules[0].exitCodes.values: Too many: 256: "
                "must have at most 255 items",
                f"{AT}.restartPolicyRules[1].exitCodes: Required value: must be specified",
            ],
            id="what a rule says",
        ),
        pytest.param(
            container(
                restartPolicy="Never",
                restartPolicyRules=[{**RULE, "action": "RestartAllContainers"}],
            ),
            [],
            id="a rule that restarts the whole pod",
        ),
        pytest.param(
            container(
                restartPolicy="Never",
                restartPolicyRules=[
                    {"action": "Restart", "exitCodes": {"operator": "In", "values": [-1, 999, 999]}}
                ],
            ),
            [],
            id="the codes themselves are not checked",
        ),
    ],
)
def test_rules_of_restarts(data: object, expected: list[str]) -> None:
    """§3.1.4, §4.3.7: container restart policies, rules, init containers and sidecars."""
    assert errors(data) == expected


LIFECYCLE = f"{AT}.lifecycle"
MORE = "Forbidden: may not specify more than 1 handler type"
SIGNALS = (
    '"SIGABRT", "SIGALRM", "SIGBUS", "SIGCHLD", "SIGCLD", "SIGCONT", "SIGFPE", "SIGHUP", "SIGILL", '
    '"SIGINT", "SIGIO", "SIGIOT", "SIGKILL", "SIGPIPE", "SIGPOLL", "SIGPROF", "SIGPWR", "SIGQUIT", '
    '"SIGRTMAX", "SIGRTMAX-1", "SIGRTMAX-10", "SIGRTMAX-11", "SIGRTMAX-12", "SIGRTMAX-13", '
    '"SIGRTMAX-14", "SIGRTMAX-2", "SIGRTMAX-3", "SIGRTMAX-4", "SIGRTMAX-5", "SIGRTMAX-6", '
    '"SIGRTMAX-7", "SIGRTMAX-8", "SIGRTMAX-9", "SIGRTMIN", "SIGRTMIN+1", "SIGRTMIN+10", '
    '"SIGRTMIN+11", "SIGRTMIN+12", "SIGRTMIN+13", "SIGRTMIN+14", "SIGRTMIN+15", "SIGRTMIN+2", '
    '"SIGRTMIN+3", "SIGRTMIN+4", "SIGRTMIN+5", "SIGRTMIN+6", "SIGRTMIN+7", "SIGRTMIN+8", '
    '"SIGRTMIN+9", "SIGSEGV", "SIGSTKFLT", "SIGSTOP", "SIGSYS", "SIGTERM", "SIGTRAP", "SIGTSTP", '
    '"SIGTTIN", "SIGTTOU", "SIGURG", "SIGUSR1", "SIGUSR2", "SIGVTALRM", "SIGWINCH", "SIGXCPU", '
    '"SIGXFSZ"'
)


def post_start(**handler: object) -> dict[str, Any]:
    return container(lifecycle={"postStart": handler})


def sleeps(seconds: int, **spec: object) -> dict[str, Any]:
    hook = {"preStop": {"sleep": {"seconds": seconds}}}
    return pod(containers=[{**C, "lifecycle": hook}], **spec)


def stop_signal(name: str, **spec: object) -> dict[str, Any]:
    return pod(containers=[{**C, "lifecycle": {"stopSignal": name}}], **spec)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(container(lifecycle={}), [], id="neither hook"),
        pytest.param(
            container(lifecycle={"postStart": {}, "preStop": {}}),
            [
                f"{LIFECYCLE}.postStart: Required value: must specify a handler type",
                f"{LIFECYCLE}.preStop: Required value: must specify a handler type",
            ],
            id="a hook has a handler",
        ),
        pytest.param(
            post_start(sleep={"seconds": 99}, tcpSocket={}, httpGet={}, exec={"command": ["true"]}),
            [f"{LIFECYCLE}.postStart.{name}: {MORE}" for name in ("httpGet", "tcpSocket", "sleep")],
            id="and only one: the first counts, the others are not looked into",
        ),
        pytest.param(
            post_start(exec={}),
            [f"{LIFECYCLE}.postStart.exec.command: Required value"],
            id="a program",
        ),
        pytest.param(
            post_start(httpGet={"port": 0, "scheme": "https", "httpHeaders": [{"name": "X_Bad"}]}),
            [
                f"{LIFECYCLE}.postStart.httpGet.port: Invalid value: 0: "
                "must be between 1 and 65535, inclusive",
                f'{LIFECYCLE}.postStart.httpGet.scheme: Unsupported value: "https": '
                'supported values: "HTTP", "HTTPS"',
                f'{LIFECYCLE}.postStart.httpGet.httpHeaders: Invalid value: "X_Bad": a valid HTTP '
                "header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', "
                "regex used for validation is '[-A-Za-z0-9]+')",
            ],
            id="HTTP as in probes",
        ),
        pytest.param(post_start(tcpSocket={"port": "web"}), [], id="TCP is accepted"),
        pytest.param(
            post_start(tcpSocket={"port": 70000}),
            [
                f"{LIFECYCLE}.postStart.tcpSocket.port: Invalid value: 70000: "
                "must be between 1 and 65535, inclusive"
            ],
            id="with a port that could be one",
        ),
        pytest.param(
            post_start(grpc={"port": 80}),
            [f"{LIFECYCLE}.postStart.grpc: Unknown field"],
            id="gRPC is for probes",
        ),
        pytest.param(
            init(restartPolicy="Always", lifecycle={"preStop": {}}),
            [f"{INIT}.lifecycle.preStop: Required value: must specify a handler type"],
            id="the same of a sidecar",
        ),
        pytest.param(sleeps(30), [], id="all of the grace period may be slept"),
        pytest.param(sleeps(0), [], id="or nothing of it"),
        pytest.param(
            sleeps(31),
            [
                f"{LIFECYCLE}.preStop.sleep: Invalid value: 31: "
                "must be non-negative and less than terminationGracePeriodSeconds (30)"
            ],
            id="but not more",
        ),
        pytest.param(
            sleeps(-1, terminationGracePeriodSeconds=5),
            [
                f"{LIFECYCLE}.preStop.sleep: Invalid value: -1: "
                "must be non-negative and less than terminationGracePeriodSeconds (5)"
            ],
            id="or less than nothing",
        ),
        pytest.param(
            stop_signal("SIGUSR1"),
            [
                f"{LIFECYCLE}.stopSignal: Forbidden: "
                "may not be set for containers with empty `spec.os.name`"
            ],
            id="a stop signal is one of a system",
        ),
        pytest.param(
            stop_signal("SIGUSR1", os={}),
            ["spec.os.name: Required value: cannot be empty"],
            id="that has a name",
        ),
        *(
            pytest.param(stop_signal(name, os={"name": "linux"}), [], id=name)
            for name in ("SIGUSR1", "SIGRTMIN+15", "SIGRTMAX-14", "SIGKILL", "SIGCLD")
        ),
        *(
            pytest.param(
                stop_signal(name, os={"name": "linux"}),
                [
                    f'{LIFECYCLE}.stopSignal: Unsupported value: "{name}": '
                    f"supported values: {SIGNALS}"
                ],
                id=f"not {name}",
            )
            for name in ("USR1", "sigterm", "SIGRTMIN+16", "SIGRTMAX-15", "SIGEMT", "15", "")
        ),
        pytest.param(
            stop_signal("SIGUSR1", os={"name": "windows"}),
            ["spec.os.name is refused: containers are Linux processes"],
            id="of a system that is not run nothing is said",
        ),
    ],
)
def test_rules_of_hooks(data: object, expected: list[str]) -> None:
    """§6.3.3, §6.3.4, §6.3.5, §6.5: handlers of hooks, and the stop signal."""
    assert errors(data) == expected


def test_a_manifest_says_its_api_version_as_a_cluster_wants_it() -> None:
    """Named beside all else, and not a second time where it is only misspelt."""
    unversioned = {k: v for k, v in pod(restartPolicy="always").items() if k != "apiVersion"}
    restart = 'spec.restartPolicy: Unsupported value: "always": supported values: '
    restart += '"Always", "OnFailure", "Never"'
    assert errors(unversioned) == ["apiVersion: Required value", restart]
    assert errors(unversioned | {"apiVersion": None}) == ["apiVersion: Required value", restart]
    misspelt = "apiVersoin: Unknown field (did you mean apiVersion?)"
    assert errors(unversioned | {"apiVersoin": "v1"}) == [misspelt, restart]
    named = {"metadata": {"name": "conf"}}
    for admit in (validation.admit_config_map, validation.admit_secret):
        assert [str(finding.path) for finding in admit(named)[1]] == ["('apiVersion',)"]


def test_a_sleep_that_is_too_long_is_shown_at_its_seconds() -> None:
    (finding,) = validation.admit(sleeps(31))[1]
    assert finding.place is not None
    assert finding.place[-2:] == ("sleep", "seconds")


LIVENESS = f"{AT}.livenessProbe"
READINESS = f"{AT}.readinessProbe"
STARTUP = f"{AT}.startupProbe"
RANGE = "must be between 1 and 65535, inclusive"
TRUE = {"exec": {"command": ["true"]}}


def live(**probe: object) -> dict[str, Any]:
    return container(livenessProbe=probe)


def http(**action: object) -> dict[str, Any]:
    return live(httpGet={"port": 80, **action})


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(
            live(periodSeconds=5),
            [f"{LIVENESS}: Required value: must specify a handler type"],
            id="a handler",
        ),
        pytest.param(
            live(grpc={"port": 0}, tcpSocket={}, httpGet={"port": 80}, **TRUE),
            [
                f"{LIVENESS}.{name}: Forbidden: may not specify more than 1 handler type"
                for name in ("httpGet", "tcpSocket", "grpc")
            ],
            id="and only one: the first counts, the others are not looked into",
        ),
        pytest.param(
            live(tcpSocket={"port": 0}, grpc={"port": 80}),
            [
                f"{LIVENESS}.tcpSocket.port: Invalid value: 0: {RANGE}",
                f"{LIVENESS}.grpc: Forbidden: may not specify more than 1 handler type",
            ],
            id="the first is checked",
        ),
        pytest.param(
            live(exec={}), [f"{LIVENESS}.exec.command: Required value"], id="a program"
        ),
        pytest.param(
            live(exec={"command": ["a", "b\0"]}),
            [
                f'{LIVENESS}.exec.command[1]: Invalid value: "b\\u0000": '
                "must not contain the character NUL"
            ],
            id="whose words can be given to a process",
        ),
        pytest.param(http(port="no-such-port"), [], id="that a name exists is not checked"),
        pytest.param(
            http(port="8080"),
            [
                f'{LIVENESS}.httpGet.port: Invalid value: "8080": '
                "must contain at least one letter (a-z)"
            ],
            id="a number in quotes is no name",
        ),
        pytest.param(
            live(tcpSocket={"port": "a_much--too-long-name"}),
            [
                f'{LIVENESS}.tcpSocket.port: Invalid value: "a_much--too-long-name": {detail}'
                for detail in (
                    "must be no more than 15 characters",
                    "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
                    "must not contain consecutive hyphens",
                )
            ],
            id="a name has the form of a port's",
        ),
        pytest.param(
            http(port=70000),
            [f"{LIVENESS}.httpGet.port: Invalid value: 70000: {RANGE}"],
            id="a number has the range of a port",
        ),
        pytest.param(
            live(httpGet={}), [f"{LIVENESS}.httpGet.port: Invalid value: 0: {RANGE}"], id="a port"
        ),
        pytest.param(
            live(grpc={}), [f"{LIVENESS}.grpc.port: Invalid value: 0: {RANGE}"], id="also of gRPC"
        ),
        pytest.param(
            live(grpc={"port": "grpc"}),
            [f'{LIVENESS}.grpc.port: Invalid value: "grpc": must be an integer'],
            id="where it has no name",
        ),
        pytest.param(
            http(scheme="https"),
            [
                f'{LIVENESS}.httpGet.scheme: Unsupported value: "https": '
                'supported values: "HTTP", "HTTPS"'
            ],
            id="schemes are in upper case",
        ),
        pytest.param(
            http(httpHeaders=[{"name": "X-Fine"}, {"name": "X_Bad", "value": "x"}]),
            [
                f'{LIVENESS}.httpGet.httpHeaders: Invalid value: "X_Bad": a valid HTTP header must '
                "consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for "
                "validation is '[-A-Za-z0-9]+')"
            ],
            id="names of headers",
        ),
        pytest.param(
            container(
                startupProbe={
                    **TRUE,
                    "initialDelaySeconds": -1,
                    "timeoutSeconds": -2,
                    "periodSeconds": -3,
                    "successThreshold": -4,
                    "failureThreshold": -5,
                }
            ),
            [
                *(
                    f"{STARTUP}.{name}: Invalid value: {value}: "
                    "must be greater than or equal to 0"
                    for name, value in (
                        ("initialDelaySeconds", -1),
                        ("timeoutSeconds", -2),
                        ("periodSeconds", -3),
                        ("successThreshold", -4),
                        ("failureThreshold", -5),
                    )
                ),
                f"{STARTUP}.successThreshold: Invalid value: -4: must be 1",
            ],
            id="nothing is negative",
        ),
        pytest.param(
            container(**{
                f"{kind}Probe": {**TRUE, "successThreshold": 2}
                for kind in ("liveness", "readiness", "startup")
            }),
            [
                f"{LIVENESS}.successThreshold: Invalid value: 2: must be 1",
                f"{STARTUP}.successThreshold: Invalid value: 2: must be 1",
            ],
            id="only readiness may need several successes",
        ),
        pytest.param(
            container(**{
                f"{kind}Probe": {**TRUE, "terminationGracePeriodSeconds": 0}
                for kind in ("liveness", "readiness", "startup")
            }),
            [
                f"{LIVENESS}.terminationGracePeriodSeconds: Invalid value: 0: "
                "must be greater than 0",
                f"{READINESS}.terminationGracePeriodSeconds: Invalid value: 0: "
                "must be greater than 0",
                f"{READINESS}.terminationGracePeriodSeconds: Invalid value: 0: "
                "must not be set for readinessProbes",
                f"{STARTUP}.terminationGracePeriodSeconds: Invalid value: 0: "
                "must be greater than 0",
            ],
            id="a grace of its own is more than nothing",
        ),
        pytest.param(
            container(readinessProbe={**TRUE, "terminationGracePeriodSeconds": 5}),
            [
                f"{READINESS}.terminationGracePeriodSeconds: Invalid value: 5: "
                "must not be set for readinessProbes"
            ],
            id="readiness kills nobody",
        ),
        pytest.param(
            init(restartPolicy="Always", startupProbe={}),
            [f"{INIT}.startupProbe: Required value: must specify a handler type"],
            id="probes of sidecars are checked alike",
        ),
        pytest.param(
            live(sleep={"seconds": 1}, **TRUE),
            [f"{LIVENESS}.sleep: Unknown field"],
            id="sleep is a handler of hooks alone",
        ),
    ],
)  # fmt: skip
def test_rules_of_probes(data: object, expected: list[str]) -> None:
    """§5.1, §4.3.7: one handler, its ports and names, numbers and who may have which (C32)."""
    assert errors(data) == expected


ENV = "spec.containers[0].env[0]"
SOURCES = "`fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"


def field_ref(path: str, **more: str) -> dict[str, Any]:
    return env(valueFrom={"fieldRef": {"fieldPath": path, **more}})


def resource_ref(resource: str, divisor: object = None) -> dict[str, Any]:
    return env(valueFrom={"resourceFieldRef": {"resource": resource, "divisor": divisor}})


def key_ref(kind: str, **ref: object) -> dict[str, Any]:
    return env(valueFrom={kind: ref})


FILE = f"{ENV}.valueFrom.fileKeyRef"


def file_ref(**ref: object) -> dict[str, Any]:
    made = key_ref("fileKeyRef", **({"volumeName": "v", "path": "app.env", "key": "K"} | ref))
    made["spec"]["volumes"] = [{"name": "v"}, {"name": "conf", "configMap": {"name": "conf"}}]
    return made


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(env(name=""), [f"{ENV}.name: Required value"], id="a name"),
        pytest.param(env(name="1 ~.-x"), [], id="of almost any characters"),
        pytest.param(
            env(name="A=B"),
            [
                f'{ENV}.name: Invalid value: "A=B": a valid environment variable name must '
                "consist only of printable ASCII characters other than '='"
            ],
            id="but for the equals sign",
        ),
        pytest.param(
            env(valueFrom={}),
            [f'{ENV}.valueFrom: Invalid value: "": must specify one of: {SOURCES}'],
            id="a source",
        ),
        pytest.param(
            env(
                valueFrom={
                    "fieldRef": {"fieldPath": "metadata.name"},
                    "resourceFieldRef": {"resource": "limits.cpu"},
                }
            ),
            [
                f'{ENV}.valueFrom: Invalid value: "": '
                "may not have more than one field specified at a time"
            ],
            id="not two sources",
        ),
        pytest.param(
            env(value="x", valueFrom={"fieldRef": {"fieldPath": "metadata.name"}}),
            [f'{ENV}.valueFrom: Invalid value: "": may not be specified when `value` is not empty'],
            id="not a source and a value",
        ),
        pytest.param(field_ref("metadata.labels['example.com/x']"), [], id="one label"),
        pytest.param(field_ref("status.podIPs"), [], id="the addresses"),
        pytest.param(
            field_ref("metadata.labels"),
            [
                f'{ENV}.valueFrom.fieldRef.fieldPath: Unsupported value: "metadata.labels": '
                'supported values: "metadata.name", "metadata.namespace", "metadata.uid", '
                '"spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", '
                '"status.podIP", "status.podIPs"'
            ],
            id="not all labels",
        ),
        pytest.param(
            field_ref("spec.replicas"),
            [
                f'{ENV}.valueFrom.fieldRef.fieldPath: Invalid value: "spec.replicas": '
                "error converting fieldPath: field label not supported: spec.replicas"
            ],
            id="not any field",
        ),
        pytest.param(
            field_ref("metadata.name['x']"),
            [
                f"{ENV}.valueFrom.fieldRef.fieldPath: Invalid value: \"metadata.name['x']\": "
                "error converting fieldPath: "
                "field label does not support subscript: metadata.name['x']"
            ],
            id="no part of a name",
        ),
        pytest.param(
            env(valueFrom={"fieldRef": {}}),
            [f"{ENV}.valueFrom.fieldRef.fieldPath: Required value"],
            id="a field is named",
        ),
        pytest.param(resource_ref("limits.memory", "1Mi"), [], id="memory in MiB"),
        pytest.param(resource_ref("requests.hugepages-2Mi"), [], id="huge pages"),
        pytest.param(
            resource_ref("limits.gpu"),
            [
                f'{ENV}.valueFrom.resourceFieldRef.resource: Unsupported value: "limits.gpu": '
                'supported values: "limits.cpu", "limits.ephemeral-storage", "limits.memory", '
                '"requests.cpu", "requests.ephemeral-storage", "requests.memory"'
            ],
            id="a resource is one of some",
        ),
        pytest.param(
            resource_ref("limits.cpu", "1k"),
            [
                f'{ENV}.valueFrom.resourceFieldRef.divisor: Invalid value: "cpu": '
                "only divisor's values 1m and 1 are supported with the cpu resource"
            ],
            id="processors are counted whole or in thousandths",
        ),
        pytest.param(
            resource_ref("limits.memory", "2"),
            [
                f'{ENV}.valueFrom.resourceFieldRef.divisor: Invalid value: "memory": '
                "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei "
                "are supported with the memory resource"
            ],
            id="bytes in one of the units",
        ),
        pytest.param(
            key_ref("configMapKeyRef", name="x.y", key="a_B-1.", optional=True), [], id="a key"
        ),
        pytest.param(key_ref("secretKeyRef", name="x", key=".a"), [], id="of a secret"),
        pytest.param(
            key_ref("configMapKeyRef", key="a"),
            [f'{ENV}.valueFrom.configMapKeyRef.name: Invalid value: "": {SUBDOMAIN}'],
            id="the name of the ConfigMap",
        ),
        pytest.param(
            key_ref("secretKeyRef", name="x"),
            [f"{ENV}.valueFrom.secretKeyRef.key: Required value"],
            id="the key is named",
        ),
        pytest.param(
            key_ref("secretKeyRef", name="x", key="..a"),
            [f"{ENV}.valueFrom.secretKeyRef.key: Invalid value: \"..a\": must not start with '..'"],
            id="no key leads upwards",
        ),
        pytest.param(
            key_ref("configMapKeyRef", name="x", key="a b"),
            [
                f'{ENV}.valueFrom.configMapKeyRef.key: Invalid value: "a b": a valid config key '
                "must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or "
                "'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
            ],
            id="no key with a blank",
        ),
        pytest.param(file_ref(), [], id="a key of a file"),
        pytest.param(file_ref(path="a/.b", key="1 ~", optional=True), [], id="wherever it is"),
        pytest.param(
            file_ref(volumeName="", path="", key=""),
            [
                f"{FILE}.key: Required value",
                f"{FILE}.volumeName: Required value",
                f"{FILE}.path: Required value",
            ],
            id="all three parts",
        ),
        pytest.param(
            file_ref(key="A=B"),
            [
                f'{FILE}.key: Invalid value: "A=B": a valid environment variable name must '
                "consist only of printable ASCII characters other than '='"
            ],
            id="a key that may be the name of a variable",
        ),
        pytest.param(
            file_ref(path="/a"),
            [f'{FILE}.path: Invalid value: "/a": must be a relative path'],
            id="a path within the volume",
        ),
        pytest.param(
            file_ref(path="a/../../b"),
            [f"{FILE}.path: Invalid value: \"a/../../b\": must not contain '..'"],
            id="that does not lead out of it",
        ),
        pytest.param(
            file_ref(path="..a"),
            [f"{FILE}.path: Invalid value: \"..a\": must not start with '..'"],
            id="nor to what the node keeps there",
        ),
        pytest.param(
            file_ref(volumeName="other"),
            [f'{FILE}.volumeName: Not found: "other"'],
            id="a volume that there is",
        ),
        pytest.param(
            file_ref(volumeName="conf"),
            [
                f'{FILE}.volumeName: Invalid value: "conf": '
                "referenced volume must be of type emptyDir"
            ],
            id="that containers can write to",
        ),
    ],
)
def test_rules_of_variables(data: object, expected: list[str]) -> None:
    """§9.1.5: what a variable may be called and where it may come from."""
    assert errors(data) == expected


ENV_FROM = "spec.containers[0].envFrom"


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        pytest.param([{"configMapRef": {"name": "x", "optional": True}}], [], id="a ConfigMap"),
        pytest.param([{"secretRef": {"name": "x.y"}, "prefix": "1 ~-"}], [], id="a Secret"),
        pytest.param(
            [{"secretRef": {"name": "x"}}, {"prefix": "A_"}],
            [f'{ENV_FROM}: Invalid value: "": must specify one of: `configMapRef` or `secretRef`'],
            id="one of the two",
        ),
        pytest.param(
            [{"secretRef": {"name": "x"}, "configMapRef": {"name": "x"}}],
            [
                f'{ENV_FROM}: Invalid value: "": '
                "may not have more than one field specified at a time"
            ],
            id="not both",
        ),
        pytest.param(
            [{"configMapRef": {}}],
            [f"{ENV_FROM}[0].configMapRef.name: Required value"],
            id="a name",
        ),
        pytest.param(
            [{"secretRef": {"name": "X"}}],
            [f'{ENV_FROM}[0].secretRef.name: Invalid value: "X": {SUBDOMAIN}'],
            id="of lower case",
        ),
        pytest.param(
            [{"secretRef": {"name": "x"}, "prefix": "A="}],
            [
                f'{ENV_FROM}[0].prefix: Invalid value: "A=": a valid environment variable name '
                "must consist only of printable ASCII characters other than '='"
            ],
            id="a prefix begins the names of variables",
        ),
        pytest.param(
            [{"configmapRef": {"name": "x"}}],
            [f"{ENV_FROM}[0].configmapRef: Unknown field (did you mean configMapRef?)"],
            id="what was meant by a slip is not said to be missing",
        ),
    ],
)
def test_rules_of_all_variables_at_once(sources: object, expected: list[str]) -> None:
    """§9.1.1, §9.1.5"""
    assert errors(container(envFrom=sources)) == expected


def test_readiness_gates_are_qualified_names() -> None:
    (error,) = errors(pod(readinessGates=[{"conditionType": "a.b/c"}, {"conditionType": "-"}]))
    assert error.startswith(
        'spec.readinessGates[1].conditionType: Invalid value: "-": name part must consist of '
    )


def test_fractional_bytes_are_a_warning() -> None:
    assert warnings(container(resources={"requests": {"memory": "128m"}})) == [
        f'{AT}.resources.requests[memory]: fractional byte value "128m" is invalid, '
        "must be an integer"
    ]


def test_everything_wrong_is_said_at_once_and_nothing_twice() -> None:
    broken = {"name": "a", "comand": ["x"], "ports": [{"containerPort": "80"}]}
    assert errors(pod(containers=[broken], restartPolicy=True, terminationGracePeriod=1)) == [
        f"{AT}.comand: Unknown field (did you mean command?)",
        f'{AT}.ports[0].containerPort: Invalid value: "80": must be an integer: remove the quotes',
        "spec.restartPolicy: Invalid value: true: must be a string: put it in quotes",
        "spec.terminationGracePeriod: Unknown field (did you mean terminationGracePeriodSeconds?)",
    ]


# --- defaults ----------------------------------------------------------------------------------


def admitted(data: object) -> v1.Pod:
    result, findings = validation.admit(data)
    assert result is not None, findings
    return result


def test_defaults_are_those_of_the_api_server() -> None:
    """§7.1.1, §2.5.1: what a minimal pod is stored as."""
    stored = codec.to_plain(admitted(container(image="nginx", ports=[{"containerPort": 80}])))
    assert stored == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "containers": [
                {
                    "command": ["true"],
                    "image": "nginx",
                    "imagePullPolicy": "Always",
                    "name": "a",
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File",
                }
            ],
            "dnsPolicy": "ClusterFirst",
            "enableServiceLinks": True,
            "restartPolicy": "Always",
            "schedulerName": "default-scheduler",
            "securityContext": {},
            "terminationGracePeriodSeconds": 30,
        },
    }


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        pytest.param(
            {"httpGet": {"port": 80}},
            {"httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}},
            id="http",
        ),
        pytest.param({"grpc": {"port": 80}}, {"grpc": {"port": 80, "service": ""}}, id="grpc"),
        pytest.param({"tcpSocket": {"port": "web"}}, {"tcpSocket": {"port": "web"}}, id="tcp"),
        pytest.param(TRUE, TRUE, id="exec"),
    ],
)
@pytest.mark.parametrize("name", ["livenessProbe", "readinessProbe", "startupProbe"])
def test_defaults_of_probes(name: str, given: dict[str, Any], stored: dict[str, Any]) -> None:
    """§5.1: zero means the default, but for the delay (C32: period 0 is stored as 10)."""
    numbers = {
        "failureThreshold": 3,
        "periodSeconds": 10,
        "successThreshold": 1,
        "timeoutSeconds": 1,
    }
    for data in (given, {**given, "initialDelaySeconds": 0} | dict.fromkeys(numbers, 0)):
        pod = codec.to_plain(admitted(container(**{name: data})))
        assert pod["spec"]["containers"][0][name] == {**stored, **numbers}


def test_defaults_of_hooks() -> None:
    """§6.3.2: those of probes."""
    for data in (container, lambda **given: init(restartPolicy="Always", **given)):
        given = {name: {"httpGet": {"port": 80}} for name in ("postStart", "preStop")}
        pod = admitted(data(lifecycle=given))
        (one,) = pod.spec.init_containers or pod.spec.containers
        assert codec.to_plain(one)["lifecycle"] == {
            name: {"httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}} for name in given
        }


def test_what_a_probe_says_is_kept() -> None:
    """§5.1: also of a sidecar."""
    said = {
        "failureThreshold": 1,
        "httpGet": {
            "host": "localhost",
            "httpHeaders": [{"name": "Accept"}, {"name": "X-A", "value": "b"}],
            "path": "/x?y",
            "port": 443,
            "scheme": "HTTPS",
        },
        "initialDelaySeconds": 1,
        "periodSeconds": 2,
        "successThreshold": 3,
        "timeoutSeconds": 4,
    }
    pod = admitted(init(restartPolicy="Always", readinessProbe=said))
    stored = codec.to_plain(pod)["spec"]["initContainers"][0]["readinessProbe"]
    assert stored["httpGet"].pop("httpHeaders")[1] == {"name": "X-A", "value": "b"}
    said["httpGet"].pop("httpHeaders")  # type: ignore[attr-defined]
    assert stored == said


def test_a_negative_grace_period_is_stored_as_one() -> None:
    """§7.1.1"""
    data = pod(terminationGracePeriodSeconds=-5)
    assert admitted(data).spec.termination_grace_period_seconds == 1
    assert warnings(data) == ["spec.terminationGracePeriodSeconds is stored as 1: -5 is negative"]
    assert admitted(pod(terminationGracePeriodSeconds=0)).spec.termination_grace_period_seconds == 0


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("localhost:5000/nginx", "Always"),
        ("nginx:1.27", "IfNotPresent"),
        ("nginx@sha256:0123", "IfNotPresent"),
        ("localhost:5000/nginx:1.27", "IfNotPresent"),
        ("", ""),
    ],
)
def test_the_pull_policy_follows_the_tag(image: str, policy: str) -> None:
    stored = admitted(container(image=image))
    assert stored.spec.containers[0].image_pull_policy == policy


def test_requests_default_to_limits_resource_by_resource() -> None:
    resources = {"limits": {"cpu": "1000m", "memory": "1024Mi"}, "requests": {"cpu": 0.25}}
    stored = admitted(container(resources=resources)).spec.containers[0].resources
    assert stored.limits == {"cpu": "1", "memory": "1Gi"}
    assert stored.requests == {"cpu": "250m", "memory": "1Gi"}


def test_the_host_port_is_the_containers_in_the_hosts_network() -> None:
    data = pod(hostNetwork=True, containers=[{**C, "ports": [{"containerPort": 80}]}])
    assert admitted(data).spec.containers[0].ports[0].host_port == 80


def test_what_only_the_node_may_set_is_dropped() -> None:
    when = "2026-01-31T12:00:00Z"
    data = pod(metadata={"name": "web", "uid": "x", "creationTimestamp": when, "generation": 3})
    data["status"] = {"phase": "Running", "containerStatuses": [{"name": "a"}]}
    stored = admitted(data)
    assert stored.metadata == v1.ObjectMeta(name="web", namespace="default")
    assert stored.status == v1.PodStatus()


def test_defaults_of_defaults_are_the_same() -> None:
    probe = {"httpGet": {"port": 80}}
    once = admitted(
        container(image="x", resources={"limits": {"cpu": "1500m"}}, livenessProbe=probe)
    )
    assert validation.with_defaults(once) == once


def test_a_pod_built_in_python_is_judged_alike() -> None:
    built = v1.Pod(
        metadata=v1.ObjectMeta(name="web"),
        spec=v1.PodSpec(containers=(v1.Container(name="a"),), node_name="n"),
    )
    stored, findings = validation.check(built)
    assert stored.metadata.namespace == "default"
    assert [str(finding) for finding in findings] == [
        f"{AT}.command: Required value: there is no image to take one from: "
        "give the container a command",
        "spec.nodeName is ignored: there is one node",
    ]
    with pytest.raises(AttributeError):
        stored.kind = "x"  # type: ignore[misc]
    assert msgspec.structs.replace(stored) == stored


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(
            {"apiVersion": "apps/v1", **{k: v for k, v in pod().items() if k != "apiVersion"}},
            ['apiVersion: Unsupported value: "apps/v1": supported values: "v1"'],
            id="a Pod of another group",
        ),
        pytest.param(
            pod() | {"kind": "pod"},
            ['kind: Unsupported value: "pod": supported values: "Pod"'],
            id="kinds are written as they are",
        ),
        pytest.param(
            pod() | {"kind": "Service"},
            ["kind Service is not run here: only pods and workloads are"],
            id="another kind",
        ),
        pytest.param(
            {"kind": "List", "items": {}},
            ["items: Invalid value: must be a list"],
            id="items that are no list: they may be a Secret",
        ),
        pytest.param(
            {"kind": "List", "items": [{"kind": "Secret"}]},
            ["kind List is not read inside a List: only the outer one's items are"],
            id="a List inside a List",
        ),
        pytest.param({"kind": "PodList"}, ["items: Required value"], id="a list without items"),
        pytest.param(
            env(valueFrom={"fieldReff": {}}),
            [
                "spec.containers[0].env[0].valueFrom.fieldReff: Unknown field "
                "(did you mean fieldRef?)"
            ],
            id="a misspelt source is not also a missing one",
        ),
    ],
)
def test_one_mistake_is_one_problem(data: object, expected: list[str]) -> None:
    assert errors(data) == expected


def test_a_mount_of_a_volume_that_cannot_be_read_is_not_also_lost() -> None:
    data = pod(
        volumes=[{"name": 1, "emptyDir": {}}],
        containers=[{**C, "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
    )
    assert not any("Not found" in error for error in errors(data))


def test_there_are_never_more_findings_than_anybody_reads() -> None:
    many = [{"name": "A=B"}] * (2 * MAX_FINDINGS)
    assert len(errors(container(env=many))) == MAX_FINDINGS


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param("metadata: {name: a, labels: {\n a: b,\n -c: d}}", 3, id="a label's key"),
        pytest.param(
            "spec: {containers: [{name: a, command: [a], resources: {limits: {cpu: 1},\n"
            " requests: {\n memory: 1,\n cpu: 2}}}]}",
            4,
            id="a request",
        ),
        pytest.param(
            "spec: {containers: [],\n shareProcessNamespace: true,\n hostPID: true}",
            2,
            id="a field that Kubernetes keeps elsewhere",
        ),
    ],
)
def test_what_kubernetes_says_of_a_parent_has_its_own_place(text: str, line: int) -> None:
    (document,) = codec.read(f"{{kind: Pod, apiVersion: v1, {text}}}", "pod.yaml")[0]
    lines = [document.problem(finding).line for finding in validation.admit(document.data)[1]]
    assert line in lines
