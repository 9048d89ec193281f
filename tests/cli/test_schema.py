"""`podvisor schema`: editors take it, and it agrees with what podvisor runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from supervisor.api import codec, definitions

ROOT = Path(__file__).resolve().parent.parent.parent
SCHEMA = definitions.for_editors()
VALIDATOR = jsonschema_rs.Draft7Validator(SCHEMA)


def said(document: Any) -> list[str]:
    return [str(error).partition("\n")[0] for error in VALIDATOR.iter_errors(document)]


def pod(**container: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "a", "command": ["true"], **container}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": spec}


def test_the_command_prints_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "supervisor", "schema"],
        capture_output=True,
        check=True,
        cwd=ROOT,
        timeout=60,
    )
    assert json.loads(done.stdout) == SCHEMA
    assert done.stderr == b""


@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples").rglob("*.yaml")), ids=lambda p: p.parent.name + "-" + p.stem
)
def test_every_example_conforms(path: Path) -> None:
    documents, problems = codec.read(path.read_bytes(), path.name)
    assert problems == []
    for document in documents:
        assert said(document.data) == []


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(pod(env=None, livenessProbe=None, tty=None), id="null is the same as absent"),
        pytest.param(
            pod(
                ports=[{"containerPort": 80}],
                readinessProbe={"httpGet": {"port": "http"}},
                livenessProbe={"tcpSocket": {"port": 80}},
                resources={"limits": {"cpu": 1, "memory": "1Gi"}},
            ),
            id="ports and quantities are numbers or texts",
        ),
        pytest.param(
            pod(ports=[{"containerPort": "$(PORT_web)"}]), id="a free port of a test's choice"
        ),
        pytest.param({"apiVersion": "v1", "kind": "Service", "spec": {"x": 1}}, id="another kind"),
        pytest.param(
            {"apiVersion": "batch.volcano.sh/v1alpha1", "kind": "Job", "tasks": []},
            id="a kind of an operator's own that has the name of a built-in one",
        ),
        pytest.param({"apiVersion": "v1", "kind": "List", "items": [pod(), pod()]}, id="a list"),
        pytest.param(
            {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "metadata": {"name": "a"},
                "spec": {"template": {"spec": {"restartPolicy": "Never", **pod()["spec"]}}},
            },
            id="a job",
        ),
    ],
)
def test_what_can_be_read_conforms(document: dict[str, Any]) -> None:
    assert said(document) == []


@pytest.mark.parametrize(
    ("document", "error"),
    [
        pytest.param(
            pod(livenessProb={}),
            "Additional properties are not allowed ('livenessProb' was unexpected)",
            id="a typing error",
        ),
        pytest.param(
            pod(ports=[{"containerPort": "80"}]),
            '"80" does not match "^\\$\\(PORT_[A-Za-z0-9_-]+\\)$"',
            id="a text as a number",
        ),
        pytest.param(pod(name=1), '1 is not of types "null", "string"', id="a number as a name"),
        pytest.param(
            pod(volumeMounts=[{"name": "a"}]), '"mountPath" is a required property', id="too little"
        ),
        pytest.param(
            {"apiVersion": "v1", "kind": "List", "items": [pod(), pod(comand=[])]},
            "Additional properties are not allowed ('comand' was unexpected)",
            id="inside a list",
        ),
        pytest.param(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "spec": {"selector": {}, "template": {"spec": {"containers": [{}]}}},
            },
            '"name" is a required property',
            id="inside the template of a workload",
        ),
        pytest.param(
            pod() | {"apiVersion": "apps/v1"}, '"v1" was expected', id="a wrong apiVersion"
        ),
        pytest.param({"kind": "Pod", "spec": {"containers": []}}, '"apiVersion" is a required '
                     "property", id="none"),
    ],
)  # fmt: skip
def test_mistakes_are_shown(document: dict[str, Any], error: str) -> None:
    assert said(document) == [error]


def test_a_field_tells_what_podvisor_does_with_it() -> None:
    spec = SCHEMA["definitions"]["io.k8s.api.core.v1.PodSpec"]["properties"]
    assert spec["nodeSelector"]["description"] == "Ignored (there is one node)."
