"""`podvisor lint`, from files to lines and exit codes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest
import typer

from supervisor import lint as rules
from supervisor.cli import lint
from supervisor.errors import ManifestError, UsageError
from tests import support
from tests.cli import mutations
from tests.cli.mutations import ENCODED, HIDDEN, Breaking

ROOT = Path(__file__).resolve().parent.parent.parent

SHOP = """\
apiVersion: v1
kind: Service
metadata: {name: front}
spec:
  selector: {app: shop}
  ports: [{port: 80, targetPort: http}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
spec:
  selector: {matchLabels: {app: shop}}
  template:
    metadata:
      labels: {app: shop}
      annotations: {}
    spec:
      containers:
      - name: web
        image: registry.example/web:1
        command: ["sh", "-c", "migrate; web"]
        ports: [{name: http, containerPort: 80}]
        livenessProbe:
          httpGet: {port: http}
          periodSeconds: 5
          timeoutSeconds: 6
"""
FINE = """\
apiVersion: v1
kind: Pod
metadata: {name: fine}
spec:
  containers:
  - name: web
    command: ["web"]
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name: str, text: str) -> str:
    Path(name).write_text(textwrap.dedent(text))
    return name


def run(*files: str, **options: Any) -> int:
    try:
        lint.command(list(files), **options)
    except typer.Exit as leaving:
        return int(leaving.exit_code)
    return 0


def test_findings_have_places_reasons_numbers_and_remedies(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(write("shop.yaml", SHOP)) == 1
    out, err = capsys.readouterr()
    assert err == ""
    findings, tables, note, ends = out.split("\n\n")
    lines = findings.splitlines()
    assert [line for line in lines if not line.startswith("    ")] == [
        "shop.yaml:19:9: warning[no-readiness-behind-service]: container web: Service front "
        "(shop.yaml:3) sends requests to a container without readinessProbe",
        "shop.yaml:21:31: warning[shell-as-pid-1]: container web: sh is pid 1 in front of its "
        "program, and SIGTERM ends there",
        "shop.yaml:26:11: warning[timeout-above-period]: container web: timeoutSeconds 6 is above "
        "periodSeconds 5",
    ]
    assert lines[9:13] == [
        "    why: there is never more than one attempt at a time, and ticks that pass during one "
        "are dropped: when it matters, because nothing answers, the period is not kept",
        "    arithmetic: meant: what hangs is noticed within 3 x 5 + 6 = 21 s",
        "    arithmetic: in truth within periodSeconds 5 x (1 + (failureThreshold 3 - 1) x 2) + "
        "timeoutSeconds 6 = 31 s: attempts that time out are 10 s apart",
        "    fix: timeoutSeconds 5 or less, or periodSeconds 6 or more",
    ]
    assert tables.splitlines() == [
        "default/shop, container web",
        "  WHAT                  COUNTED FROM  EARLIEST  LATEST                    "
        "LATEST IN A CLUSTER",
        "  liveness fails, stop  start         10 s      26 s                      31 s",
        "  ready                 start         0 s       0 s                       0 s",
        "  out of the endpoints  hang          -         never: no readinessProbe",
        "  liveness fails, stop  hang          10 s      31 s                      31 s",
        "  SIGKILL               hang          40 s      61 s                      61 s",
        "  stop signal           deletion      0 s       0 s                       0 s",
        "  SIGKILL               deletion      30 s      30 s                      30 s",
    ]
    assert "up to a period later" in note
    assert ends.splitlines() == [
        "default/shop: a shutdown takes up to 30 s (grace 30 s)",
        "3 warnings in 1 pod",
    ]


def test_a_pod_without_findings_has_a_table_and_ends_well(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(write("fine.yaml", FINE)) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("\ndefault/fine, container web\n")
    assert "killed by liveness    hang          -         never: no livenessProbe\n" in out
    assert out.endswith("\nnothing found in 1 pod\n")


def test_errors_and_warnings_are_counted_apart(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = FINE + "    lifecycle: {preStop: {sleep: {seconds: 30}}}\n    stdin: true\n"
    assert run(write("shop.yaml", SHOP), write("wrong.yaml", wrong)) == 1
    assert capsys.readouterr().out.endswith("\n1 error, 3 warnings in 2 pods\n")


def test_everything_is_there_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(write("shop.yaml", SHOP), output=lint.Output.JSON) == 1
    report = json.loads(capsys.readouterr().out)
    assert list(report) == ["findings", "pods", "containers"]
    assert report["findings"][2] == {
        "rule": "timeout-above-period",
        "severity": "warning",
        "file": "shop.yaml",
        "line": 26,
        "column": 11,
        "path": "spec.template.spec.containers[0].livenessProbe.timeoutSeconds",
        "namespace": "default",
        "pod": "shop",
        "container": "web",
        "message": "timeoutSeconds 6 is above periodSeconds 5",
        "why": report["findings"][2]["why"],
        "arithmetic": report["findings"][2]["arithmetic"],
        "fix": "timeoutSeconds 5 or less, or periodSeconds 6 or more",
    }
    assert report["pods"] == [{"namespace": "default", "pod": "shop", "grace": 30, "latest": 30.0}]
    (timing,) = report["containers"]
    assert timing["moments"][0] == {
        "what": "liveness fails, stop",
        "countedFrom": "start",
        "earliest": 10.0,
        "latest": 26.0,
        "latestInCluster": 31.0,
        "note": "",
    }
    assert timing["moments"][2]["latest"] is None


def test_rules_are_silenced_on_the_command_line_and_in_the_template(
    capsys: pytest.CaptureFixture[str],
) -> None:
    silent = SHOP.replace(
        "annotations: {}",
        "annotations: {podvisor/lint-ignore: 'shell-as-pid-1, no-readiness-behind-service'}",
    )
    name = write("shop.yaml", silent)
    assert run(name) == 1
    assert "[timeout-above-period]" in capsys.readouterr().out
    assert run(name, ignore=["timeout-above-period"]) == 0
    assert "]: " not in capsys.readouterr().out
    assert run(write("shop.yaml", silent.replace("-pid-1", "-pid1"))) == 1
    out = capsys.readouterr().out
    assert "shop.yaml:16:21: warning[unknown-rule]: there is no such rule: shell-as-pid1\n" in out


def test_a_rule_that_is_not_there_cannot_be_ignored() -> None:
    with pytest.raises(UsageError, match="cannot ignore 'shell': no such rule"):
        run(write("fine.yaml", FINE), ignore=["shell"])
    with pytest.raises(UsageError, match="no manifest is named"):
        run()


def test_every_rule_is_listed_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(rules=True) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(rules.RULES)
    assert {line.split()[1] for line in lines} == {"error", "warning"}


def test_a_refused_manifest_is_judged_as_validate_does(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = FINE.replace("command", "comand")
    with pytest.raises(ManifestError, match="1 error, 1 warning; nothing was looked at"):
        run(write("wrong.yaml", wrong), write("shop.yaml", SHOP))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(
        "wrong.yaml:7:5: error: spec.containers[0].comand: Unknown field (did you mean command?)\n"
    )


def test_the_exit_code_tells_what_was_found() -> None:
    podvisor = support.command(os.getuid())
    write("fine.yaml", FINE)
    write("shop.yaml", SHOP)
    write("wrong.yaml", FINE.replace("command", "comand"))
    for words, code in (
        (["fine.yaml"], 0),
        (["fine.yaml", "shop.yaml"], 1),
        (["shop.yaml", "wrong.yaml"], 3),
        (["--ignore", "nothing", "fine.yaml"], 2),
        (["--rules"], 0),
    ):
        done = subprocess.run(
            [*podvisor.argv, "lint", *words],
            capture_output=True,
            env={"PATH": support.PATH, **dict(podvisor.env)},
            text=True,
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr


def test_services_alone_are_not_enough(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ManifestError):
        run(write("service.yaml", SHOP.split("---\n")[0]))
    assert "kind Service is not run here" in capsys.readouterr().err


def test_a_service_counts_from_any_file_but_only_in_its_namespace(
    capsys: pytest.CaptureFixture[str],
) -> None:
    service, deployment = SHOP.split("---\n")
    write("a.yaml", deployment)
    write("b.yaml", service)
    assert run(".") == 1
    assert "Service front (./b.yaml:3)" in capsys.readouterr().out
    write("b.yaml", service.replace("{name: front}", "{name: front, namespace: other}"))
    assert run(".") == 1
    assert "Service" not in capsys.readouterr().out


def test_an_image_of_the_project_tells_what_its_containers_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write("podvisor.toml", '[images.web]\nentrypoint = ["sh", "-c"]\nstop-signal = "SIGQUIT"\n')
    name = write("pod.yaml", FINE.replace('command: ["web"]', 'image: web\n    args: ["a; b"]'))
    assert run(name) == 1
    out = capsys.readouterr().out
    assert out.startswith("pod.yaml:8:12: warning[shell-as-pid-1]: ")
    assert "SIGQUIT at 0 s after the deletion" in out


def test_nobody_has_to_be_able_to_run_what_is_looked_at(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    text = FINE.replace("containers:", "securityContext: {runAsUser: 70}\n  containers:")
    text = text.replace('command: ["web"]', "image: registry.example/unknown")
    assert run(write("pod.yaml", text)) == 0
    assert capsys.readouterr().err == ""


def test_standard_input_is_a_file_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(SHOP.encode())))
    assert run("-") == 1
    assert capsys.readouterr().out.startswith("stdin:19:9: ")


# --- what people have ----------------------------------------------------------------------------

# Each of these is meant; whoever adds one has to look at it.
DOCUMENTED = {
    "02-dependent-variables": ["shell-as-pid-1"],
    "06-projected-volume": ["shell-as-pid-1"],
    "08-downward-volume": ["shell-as-pid-1"],
    "10-liveness-command": ["shell-as-pid-1", "liveness-before-startup"],
    "11-liveness-http": ["liveness-before-startup"],
    "14-job-with-sidecar": ["shell-as-pid-1"],
    "16-deployment-and-service": ["no-readiness-behind-service"],
    "17-stateful-set": ["no-readiness-behind-service"],
    "21-security-context": ["shell-as-pid-1"],
}
REFUSED = ("26-persistent-volume-claim", "27-service-account-token")
EXAMPLES = {"crashloop": ["shell-as-pid-1"], "pid1": ["shell-as-pid-1"]}


def found(path: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    code = run(str(path), output=lint.Output.JSON)
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert code == bool(findings)
    return [finding["rule"] for finding in findings]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tests/cli/documented").glob("*.yaml")), ids=lambda path: path.stem
)
def test_only_what_is_so_is_said_about_documented_manifests(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if path.stem in REFUSED:
        with pytest.raises(ManifestError):
            run(str(path))
        return
    assert found(path, capsys) == DOCUMENTED.get(path.stem, [])


@pytest.mark.parametrize(
    "path",
    # Those of the pytest example have ports that only a test knows.
    sorted({p.parent for p in (ROOT / "examples").glob("*/*.yaml") if p.parent.name != "pytest"}),
    ids=lambda path: path.name,
)
def test_only_what_is_meant_is_said_about_examples(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert found(path, capsys) == EXAMPLES.get(path.name, [])


# --- what nobody has written by hand -------------------------------------------------------------


@pytest.mark.parametrize(
    "how", [*mutations.IN_DATA, *mutations.IN_TEXT], ids=lambda how: how.__name__
)
def test_a_broken_manifest_is_refused_or_looked_at(
    how: Breaking, capsys: pytest.CaptureFixture[str]
) -> None:
    for content in mutations.twins(how, rounds=6):
        Path("pod.yaml").write_bytes(content)
        try:
            run("pod.yaml")
        except ManifestError as error:
            print(error)
        out, err = capsys.readouterr()
        assert HIDDEN not in out + err
        assert ENCODED not in out + err
        assert (out + err).replace("\n", "").isprintable()


NASTY = (
    "\x1b[2J\x07" * 2500,
    "$(" * 5000,
    "'" * 9999,
    "; sleep 9 " * 1000,
    "é&|;" * 2500,
    "1" * 9999,
)


@pytest.mark.parametrize("text", NASTY, ids=[repr(text[:6]) for text in NASTY])
def test_ten_kilobytes_of_anything_do_no_harm(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    probe = {"exec": {"command": ["sh", "-c", f"curl {text}"]}, "periodSeconds": 1}
    container = {
        "name": "web",
        "command": ["sh", "-c", text],
        "livenessProbe": {**probe, "periodSeconds": 2**31 - 1, "timeoutSeconds": 2**31 - 1},
        "readinessProbe": probe,
        "startupProbe": {"exec": {"command": ["curl", text]}, "failureThreshold": 2**31 - 1},
        "lifecycle": {
            "preStop": {"exec": {"command": ["sh", "-c", f"sleep {text}; kill -{text} 1"]}},
            "postStart": {"exec": {"command": ["kill", text]}},
        },
    }
    meta = {"name": "web", "annotations": {rules.IGNORE: text}, "labels": {"app": "web"}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 2**31},
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": text, "namespace": text},
        "spec": {"selector": {text: text}, "ports": [text, {"targetPort": [text]}]},
    }
    Path("pod.yaml").write_text(json.dumps(pod) + json.dumps(service))
    assert run("pod.yaml") == 1
    out = capsys.readouterr().out
    assert out.replace("\n", "").isprintable()
    assert "[unknown-rule]" in out
    assert len(out) < 20_000
