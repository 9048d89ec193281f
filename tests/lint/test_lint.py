"""The rules of `podvisor lint`: what each one says, and where it keeps silent."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor import lint
from supervisor.api import v1, validation
from supervisor.api.problems import render
from supervisor.lint import Advice
from supervisor.runtime.images import Image

LIVE = {"httpGet": {"path": "/live", "port": 80}}
READY = {"httpGet": {"path": "/ready", "port": 80}}
STARTED = {"startupProbe": {**LIVE, "failureThreshold": 30}}


def pod(
    container: dict[str, Any], *, annotations: dict[str, str] | None = None, **spec: Any
) -> v1.Pod:
    data = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "labels": {"app": "web"}, "annotations": annotations or {}},
        "spec": {"containers": [{"name": "web", "command": ["web"], **container}], **spec},
    }
    admitted, findings = validation.admit(data)
    assert admitted is not None, [str(finding) for finding in findings]
    return admitted


def hook(*words: str) -> dict[str, Any]:
    return {"lifecycle": {"preStop": {"exec": {"command": list(words)}}}}


def sleep(seconds: int) -> dict[str, Any]:
    return {"lifecycle": {"preStop": {"sleep": {"seconds": seconds}}}}


def check(container: dict[str, Any], **spec: Any) -> list[Advice]:
    return list(lint.check(pod(container, **spec)))


def rules(container: dict[str, Any], **spec: Any) -> list[str]:
    return [advice.rule for advice in check(container, **spec)]


def only(container: dict[str, Any], **spec: Any) -> Advice:
    (advice,) = check(container, **spec)
    assert advice.rule in lint.RULES
    assert advice.why
    assert advice.fix
    return advice


def test_nothing_is_said_about_a_pod_that_does_everything_right() -> None:
    container = {
        **STARTED,
        "command": ["sh", "-c", "migrate && exec web"],
        "ports": [{"name": "http", "containerPort": 80}],
        "livenessProbe": {**LIVE, "failureThreshold": 6},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 5},
        "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
    }
    sidecar = {"name": "log", "command": ["tail", "-F", "log"], "restartPolicy": "Always"}
    wait = {"name": "wait", "command": ["sh", "-c", "until getent hosts db; do sleep 1; done"]}
    assert rules(container, initContainers=[sidecar, wait]) == []


def test_a_shell_in_front_of_the_program_is_told_with_when_sigkill_comes() -> None:
    """§7.9"""
    advice = only({"command": ["sh", "-c", "migrate && web"]})
    assert advice.rule == "shell-as-pid-1"
    assert render(advice.path) == "spec.containers[0].command[2]"
    assert advice.arithmetic == (
        "SIGTERM at 0 s after the deletion, taken by nobody; SIGKILL at 30 s "
        "(terminationGracePeriodSeconds 30), exit code 137, every time",
    )
    assert advice.fix == "write `exec` before the last command, the program that is to stay"


@pytest.mark.parametrize(
    ("container", "spec", "found"),
    [
        ({"command": ["sh", "-c", "web --port 80"]}, {}, "exec web --port 80"),
        ({"command": ["bash", "-c", "web --port 80"]}, {}, None),
        ({"command": ["bash", "-c", "web | tee log"]}, {}, "before the last command"),
        ({"command": ["sh", "-c", "while :; do web; done"]}, {}, "trap 'exit 0' TERM"),
        ({"command": ["sh", "-c", "trap 'kill $!' TERM; web & wait"]}, {}, None),
        ({"command": ["sh", "-c", "exec web"]}, {}, None),
        ({"command": ["sh", "-c"], "args": ["a; web"]}, {}, "before the last command"),
        ({"command": ["sh", "/entrypoint.sh"]}, {}, None),
        ({"command": ["sh", "-c", "a; web"]}, {"restartPolicy": "Never"}, None),
        ({"command": ["sh", "-c", "a; web"]}, {"restartPolicy": "OnFailure"}, None),
    ],
)
def test_a_shell_is_told_of_where_it_stays_and_the_container_is_to_stay(
    container: dict[str, Any], spec: dict[str, Any], found: str | None
) -> None:
    advice = check(container, **spec)
    assert [each.rule for each in advice] == ([] if found is None else ["shell-as-pid-1"])
    assert all(found is not None and found in each.fix for each in advice)


@pytest.mark.parametrize(
    ("container", "image", "path"),
    [
        ({"command": ["sh", "-c"], "args": ["a; b"]}, Image(), "spec.containers[0].args[0]"),
        ({"args": ["a; b"]}, Image(entrypoint=("sh", "-c")), "spec.containers[0].args[0]"),
        ({}, Image(entrypoint=("sh", "-c", "a; b")), "spec.containers[0].image"),
        ({"args": ["x"]}, Image(entrypoint=("sh", "-c", "a; b")), "spec.containers[0].image"),
    ],
)
def test_a_script_is_found_where_it_stands(
    container: dict[str, Any], image: Image, path: str
) -> None:
    data = {"image": "web", **container}
    if "command" not in data:
        data["command"] = None
    (advice,) = lint.check(pod(data), find_image=lambda _: image)
    assert render(advice.path) == path


def test_in_a_shared_pid_namespace_the_shell_ends_and_its_program_never_hears_of_it() -> None:
    """§9.4.5"""
    advice = only({"command": ["sh", "-c", "a; web"]}, shareProcessNamespace=True)
    assert "is not pid 1" in advice.why
    assert "30 s of grace" in advice.arithmetic[0]


@pytest.mark.parametrize(
    ("container", "grace", "path", "said"),
    [
        (sleep(30), None, "sleep.seconds", "preStop 30 s: 0 s are left"),
        (sleep(29), None, "sleep.seconds", "preStop 29 s: 1 s are left"),
        (sleep(28), None, None, ""),
        (sleep(5), 5, "sleep.seconds", "it is sent at 5 s, SIGKILL follows at 7 s"),
        (hook("sleep", "40"), None, "exec.command", "it is sent at 30 s, SIGKILL follows at 32 s"),
        (hook("sh", "-c", "sleep 20; sleep 10"), None, "exec.command", "preStop 30 s"),
        (hook("sleep", "infinity"), None, "exec.command", "preStop forever"),
        (hook("sh", "-c", "sleep 20"), None, None, ""),
        (hook("drain", "--timeout", "60"), None, None, ""),
    ],
)
def test_a_prestop_as_long_as_the_grace_period_is_an_error(
    container: dict[str, Any], grace: int | None, path: str | None, said: str
) -> None:
    """§6.2.4, §6.2.5"""
    spec = {} if grace is None else {"terminationGracePeriodSeconds": grace}
    advice = check(container, **spec)
    assert [each.rule for each in advice] == ([] if path is None else ["prestop-uses-grace"])
    for each in advice:
        assert render(each.path) == f"spec.containers[0].lifecycle.preStop.{path}"
        assert said in each.arithmetic[0]


def test_the_grace_period_of_a_probe_counts_for_prestop_too() -> None:
    """§5.8"""
    probe = {**LIVE, "terminationGracePeriodSeconds": 10}
    advice = only({**STARTED, "livenessProbe": probe, **sleep(10)})
    assert advice.rule == "prestop-uses-grace"
    assert render(advice.path) == "spec.containers[0].livenessProbe.terminationGracePeriodSeconds"


@pytest.mark.parametrize(
    ("probes", "found"),
    [
        ({"livenessProbe": {**LIVE, "periodSeconds": 3}}, "longer than 6 s"),
        ({"livenessProbe": {**LIVE, "failureThreshold": 1}}, "longer than 0 s"),
        ({"livenessProbe": {**LIVE, "initialDelaySeconds": 4, "periodSeconds": 3}}, None),
        ({"livenessProbe": LIVE}, None),
        (
            {
                "livenessProbe": {**LIVE, "failureThreshold": 5},
                "readinessProbe": {**LIVE, "initialDelaySeconds": 60},
            },
            "longer than 40 s",
        ),
        ({"livenessProbe": LIVE, "readinessProbe": {**READY, "initialDelaySeconds": 60}}, None),
        ({"livenessProbe": {**LIVE, "failureThreshold": 1}, **STARTED}, None),
    ],
)
def test_liveness_that_kills_a_slow_start_is_told_with_the_second(
    probes: dict[str, Any], found: str | None
) -> None:
    """§5.2.15"""
    advice = check(probes)
    assert [each.rule for each in advice] == ([] if found is None else ["liveness-before-startup"])
    assert all(found is not None and found in each.text for each in advice)


def test_the_startup_probe_that_is_advised_allows_what_the_manifest_expects() -> None:
    advice = only(
        {
            "livenessProbe": {**LIVE, "periodSeconds": 2},
            "readinessProbe": {**LIVE, "initialDelaySeconds": 90, "periodSeconds": 1},
        }
    )
    assert advice.arithmetic == (
        "liveness kills: first attempt at 0 s + (failureThreshold 3 - 1) x periodSeconds 2 = 4 s",
        "readiness does not even ask the same before 90 s (initialDelaySeconds 90), so the "
        "manifest itself expects a start of that length",
    )
    assert advice.fix.endswith("periodSeconds 2, failureThreshold 46 allow 90 s")


@pytest.mark.parametrize(
    ("startup", "liveness", "found"),
    [
        ({"periodSeconds": 1}, {}, "longer than 2 s"),
        ({}, {}, None),
        ({}, {"initialDelaySeconds": 60}, "longer than 20 s"),
        ({"failureThreshold": 30}, {"initialDelaySeconds": 60}, None),
        ({"failureThreshold": 1, "initialDelaySeconds": 10}, {}, None),
    ],
)
def test_a_startup_budget_below_the_delays_beside_it_is_told(
    startup: dict[str, Any], liveness: dict[str, Any], found: str | None
) -> None:
    """§5.2.8"""
    advice = check({"startupProbe": {**LIVE, **startup}, "livenessProbe": {**LIVE, **liveness}})
    assert [each.rule for each in advice] == ([] if found is None else ["startup-budget"])
    assert all(found is not None and found in each.text for each in advice)


def test_a_probe_that_asks_something_else_says_nothing_about_the_startup() -> None:
    startup = {"startupProbe": {"tcpSocket": {"port": 80}}}
    assert rules({**startup, "livenessProbe": {**LIVE, "initialDelaySeconds": 60}}) == []


@pytest.mark.parametrize(
    ("liveness", "readiness", "found"),
    [
        (LIVE, LIVE, True),
        (LIVE, {**LIVE, "initialDelaySeconds": 5}, True),
        (LIVE, {**LIVE, "failureThreshold": 5}, True),
        ({**LIVE, "failureThreshold": 6}, LIVE, False),
        (LIVE, {**LIVE, "periodSeconds": 5}, False),
        (LIVE, READY, False),
    ],
)
def test_liveness_that_is_no_more_patient_than_readiness_is_told(
    liveness: dict[str, Any], readiness: dict[str, Any], found: bool
) -> None:
    probes = {"livenessProbe": liveness, "readinessProbe": readiness}
    assert rules(probes) == (["liveness-equals-readiness"] if found else [])


def test_the_arithmetic_of_two_equal_probes_names_their_fields() -> None:
    advice = only({"livenessProbe": LIVE, "readinessProbe": LIVE})
    assert advice.arithmetic[1] == (
        "liveness kills it within failureThreshold 3 x periodSeconds 10 + timeoutSeconds 1 = 31 s"
    )


def test_a_timeout_above_the_period_is_told_with_what_it_costs() -> None:
    """§5.2.2"""
    advice = only({"readinessProbe": {**READY, "periodSeconds": 5, "timeoutSeconds": 12}})
    assert advice.rule == "timeout-above-period"
    assert render(advice.path) == "spec.containers[0].readinessProbe.timeoutSeconds"
    assert advice.arithmetic == (
        "meant: what hangs is noticed within 3 x 5 + 12 = 27 s",
        "in truth within periodSeconds 5 x (1 + (failureThreshold 3 - 1) x 3) + timeoutSeconds 12 "
        "= 47 s: attempts that time out are 15 s apart",
    )
    assert rules({"readinessProbe": {**READY, "periodSeconds": 5, "timeoutSeconds": 5}}) == []


@pytest.mark.parametrize("kind", ["startupProbe", "livenessProbe", "readinessProbe"])
@pytest.mark.parametrize("action", ["httpGet", "tcpSocket"])
def test_a_probe_of_a_port_that_is_not_there_is_an_error(kind: str, action: str) -> None:
    """§5.2.9"""
    container = {"ports": [{"name": "web", "containerPort": 80}], kind: {action: {"port": "http"}}}
    advice = only(container)
    assert advice.rule == "probe-port-unknown"
    assert render(advice.path) == f"spec.containers[0].{kind}.{action}.port"
    assert advice.fix == "name one of its ports http, or use web"
    container["ports"] = [{"name": "http", "containerPort": 80}]
    assert rules(container) == []


@pytest.mark.parametrize(
    ("words", "instead"),
    [
        (["curl", "-fsS", "http://localhost:8080/live?a=1"], "{path: /live?a=1, port: 8080}"),
        (["curl", "-f", "-o", "/dev/null", "localhost"], "httpGet: {path: /, port: 80}"),
        (["curl", "-kf", "https://[::1]/x"], "httpGet: {path: /x, port: 443, scheme: HTTPS}"),
        (
            ["sh", "-c", "curl --fail http://127.0.0.1:80/ || exit 1"],
            "httpGet: {path: /, port: 80}",
        ),
        (["wget", "-qO-", "http://localhost:3000/"], "httpGet: {path: /, port: 3000}"),
        (["wget", "--spider", "-q", "-T", "3", "localhost:3000"], "{path: /, port: 3000}"),
        (["nc", "-zv", "-w", "1", "127.0.0.1", "5432"], "tcpSocket: {port: 5432}"),
        (["grpc_health_probe", "-addr=:9000"], "grpc: {port: 9000}"),
        (["/bin/grpc_health_probe", "-addr", "localhost:9000"], "grpc: {port: 9000}"),
        (["curl", "-X", "POST", "http://localhost/"], None),
        (["curl", "-f", "--unix-socket", "/run/s", "http://localhost/"], None),
        (["curl", "-f", "http://elsewhere/"], None),
        (["curl", "-f", "http://me:secret@localhost/"], None),
        (["sh", "-c", "curl -f http://localhost/$STAGE"], None),
        (["sh", "-c", "curl -f http://localhost/ | grep ok"], None),
        (["curl", "-f", "http://localhost:99999/"], None),
        (["curl"], None),
        (["nc", "-z", "db", "5432"], None),
        (["grpc_health_probe", "-addr=:9000", "-service=x"], None),
        (["cat", "/tmp/healthy"], None),
        (["pg_isready"], None),
        (["python3", "check.py"], None),
    ],
)
def test_an_exec_probe_that_a_handler_can_replace_is_told_with_the_handler(
    words: list[str], instead: str | None
) -> None:
    advice = check({"readinessProbe": {"exec": {"command": words}}})
    assert [each.rule for each in advice] == ([] if instead is None else ["exec-probe-cost"])
    for each in advice:
        assert instead is not None
        assert instead + ": then no process is started" in each.fix


@pytest.mark.parametrize(
    ("words", "period", "hourly"),
    [
        (["python3", "-c", "import web"], 1, 3600),
        (["sh", "-c", "test -f /tmp/ok"], 2, 1800),
        (["bash", "-c", "ps aux | grep web"], 1, 3 * 3600),
        (["python3", "check.py"], 3, None),
        (["cat", "/tmp/ok"], 1, None),
    ],
)
def test_a_shell_or_interpreter_every_second_is_told_with_the_processes_of_an_hour(
    words: list[str], period: int, hourly: int | None
) -> None:
    probe = {"exec": {"command": words}, "periodSeconds": period}
    advice = check({"readinessProbe": probe})
    assert [each.rule for each in advice] == ([] if hourly is None else ["exec-probe-cost"])
    assert all(f"= {hourly} processes an hour" in each.arithmetic[0] for each in advice)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["nginx", "-s", "quit"], True),
        (["/usr/sbin/nginx", "-c", "x", "-s", "quit"], True),
        (["sh", "-c", "nginx -s quit"], True),
        (["sh", "-c", "sleep 5; nginx -s quit"], True),
        (["sh", "-c", "nginx -s quit; sleep 10"], False),
        (["sh", "-c", "nginx -s quit; while pgrep -x nginx; do sleep 1; done"], False),
        (["nginx", "-s", "reload"], False),
        (["kill", "1"], True),
        (["kill", "-TERM", "1"], True),
        (["sh", "-c", "kill -QUIT 1"], True),
        (["sh", "-c", "kill -QUIT $(cat /run/web.pid)"], True),
        (["sh", "-c", "kill -QUIT 1; tail --pid=1 -f /dev/null"], False),
        (["kill", "-0", "1"], False),
        (["kill", "-s", "0", "1"], False),
        (["kill", "-TERM", "17"], False),
        (["pkill", "-QUIT", "web"], True),
        (["killall", "web"], True),
        (["apachectl", "-k", "graceful-stop"], True),
        (["echo", "kill", "1"], False),
        (["sh", "-c", "echo 'kill 1'"], False),
        (["drain"], False),
    ],
)
def test_a_hook_that_signals_the_program_and_returns_is_told(words: list[str], found: bool) -> None:
    """§6.2.8"""
    assert rules(hook(*words)) == (["hook-signals-pid-1"] if found else [])


def test_the_stop_signal_that_follows_a_hook_is_the_containers_own() -> None:
    """§6.5"""
    container = hook("kill", "-QUIT", "1")
    container["lifecycle"]["stopSignal"] = "SIGUSR1"
    advice = only(container, os={"name": "linux"})
    assert advice.text == "preStop runs `kill -QUIT 1` and returns, so SIGUSR1 follows at once"


def test_an_image_that_nobody_has_mapped_may_have_a_stop_signal_of_its_own() -> None:
    container = pod({"image": "nginx", **hook("sh", "-c", "sleep 5; nginx -s quit")})
    (advice,) = lint.check(container)
    assert advice.arithmetic == (
        "hook's signal at 5 s, SIGTERM as soon as the hook has returned (unless the image asks "
        "for another), SIGKILL at 30 s (terminationGracePeriodSeconds 30)",
    )
    (advice,) = lint.check(container, find_image=lambda _: Image(stop_signal="SIGQUIT"))
    assert "SIGQUIT as soon as the hook has returned, SIGKILL" in advice.arithmetic[0]


@pytest.mark.parametrize("which", ["postStart", "preStop"])
def test_a_hook_by_tcp_socket_is_an_error(which: str) -> None:
    """§6.3.3"""
    advice = only({"lifecycle": {which: {"tcpSocket": {"port": 80}}}})
    assert advice.rule == "hook-always-fails"
    assert render(advice.path) == f"spec.containers[0].lifecycle.{which}.tcpSocket"


@pytest.mark.parametrize(("grace", "found"), [(0, True), (1, False), (30, False)])
def test_no_grace_is_told(grace: int, found: bool) -> None:
    """§7.2.1"""
    assert rules({}, terminationGracePeriodSeconds=grace) == (["no-grace"] if found else [])


# --- Services ------------------------------------------------------------------------------------

SERVICE: dict[str, Any] = {
    "kind": "Service",
    "metadata": {"name": "front"},
    "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
}
PORT = {"ports": [{"name": "http", "containerPort": 8080}]}


def behind(service: dict[str, Any], container: dict[str, Any], **spec: Any) -> list[Advice]:
    read = lint.service({**SERVICE, **service}, "web.yaml:4")
    services = lint.Services([read] if read is not None else [])
    return list(lint.check(pod(container, **spec), services))


def selects(**spec: Any) -> dict[str, Any]:
    return {"spec": {**SERVICE["spec"], **spec}}


def test_a_container_behind_a_service_without_readiness_is_told_with_the_service() -> None:
    """§5.2.18, §10.1"""
    (advice,) = behind({}, {"livenessProbe": LIVE})
    assert advice.rule == "no-readiness-behind-service"
    assert "Service front (web.yaml:4)" in advice.text
    assert advice.arithmetic == (
        "a process that hangs stays in the endpoints until it is killed: 31 s",
    )
    (advice,) = behind({}, {})
    assert advice.arithmetic == ("a process that hangs stays in the endpoints: without limit",)


@pytest.mark.parametrize(
    ("service", "container", "found"),
    [
        ({}, {"readinessProbe": READY}, False),
        (selects(selector={"app": "other"}), {}, False),
        (selects(selector={"app": "web", "tier": "front"}), {}, False),
        (selects(selector={}), {}, False),
        (selects(selector=None), {}, False),
        (selects(type="ExternalName"), {}, False),
        (selects(publishNotReadyAddresses=True), {}, False),
        ({"metadata": {"name": "front", "namespace": "other"}}, {}, False),
        ({"kind": "Ingress"}, {}, False),
        (selects(ports=[{"port": 80, "targetPort": "http"}]), PORT, True),
        (selects(ports=[{"port": 80, "targetPort": 8080}]), PORT, True),
        (selects(ports=[{"port": 80, "targetPort": "admin"}]), PORT, False),
        (selects(ports=[]), PORT, False),
        (selects(ports="?"), PORT, False),
        ({"spec": 5, "metadata": 7}, {}, False),
    ],
)
def test_only_what_a_service_sends_requests_to_needs_readiness(
    service: dict[str, Any], container: dict[str, Any], found: bool
) -> None:
    advice = behind(service, container)
    assert [each.rule for each in advice] == (["no-readiness-behind-service"] if found else [])


def test_a_container_behind_many_services_is_told_once() -> None:
    many = [lint.service({**SERVICE, "metadata": {"name": n}}, "web.yaml:4") for n in "ab"]
    services = lint.Services(each for each in many if each is not None)
    (advice,) = lint.check(pod({}), services)
    assert "Service a " in advice.text


def test_a_readiness_gate_is_readiness_enough() -> None:
    """§10.4"""
    gates = [{"conditionType": "example.com/ready"}]
    assert behind({}, {}, readinessGates=gates) == []


def test_the_port_of_a_sidecar_is_the_sidecars() -> None:
    """§10.6"""
    proxy = {"name": "proxy", "command": ["proxy"], "restartPolicy": "Always", **PORT}
    target = selects(ports=[{"port": 80, "targetPort": "http"}])
    assert behind(target, {}, initContainers=[proxy]) == []


# --- what is not to be said ----------------------------------------------------------------------


def test_a_pod_can_silence_rules_by_an_annotation() -> None:
    container = {"command": ["sh", "-c", "a; b"], **sleep(30)}
    both = ["shell-as-pid-1", "prestop-uses-grace"]
    assert rules(container) == both
    for text, left in (
        ("shell-as-pid-1", both[1:]),
        (" prestop-uses-grace ,\n shell-as-pid-1,", []),
        ("", both),
        ("shell", ["unknown-rule", *both]),
    ):
        silenced = pod(container, annotations={lint.IGNORE: text})
        assert [advice.rule for advice in lint.check(silenced)] == left


def test_rules_can_be_left_out_for_all() -> None:
    container = pod({"command": ["sh", "-c", "a; b"]})
    assert list(lint.check(container, ignored=["shell-as-pid-1"])) == []


def test_regular_init_containers_are_left_alone_and_sidecars_are_not() -> None:
    init = {"name": "init", "command": ["sh", "-c", "a; b"]}
    assert rules({}, initContainers=[init]) == []
    (advice,) = check({}, initContainers=[{**init, "restartPolicy": "Always"}])
    assert render(advice.path) == "spec.initContainers[0].command[2]"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (2.0, "2 s"), (0.25, "0.2 s"), (86400, "86400 s"), (1e300, "1e+300 s")],
)
def test_durations_are_in_the_unit_of_the_fields(seconds: float, said: str) -> None:
    assert lint.duration(seconds) == said
