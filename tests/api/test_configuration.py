"""ConfigMaps and Secrets: Kubernetes' rules, and that no value of a Secret is ever repeated."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from supervisor.api import codec, v1, validation

VALUE = "hunter2-hunter2"
MIB = 1024 * 1024


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def config_map(**fields: object) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, **fields}


def secret(**fields: object) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, **fields}


def errors(data: dict[str, Any]) -> list[str]:
    admit = validation.admit_secret if data["kind"] == "Secret" else validation.admit_config_map
    admitted, findings = admit(data)
    assert (admitted is None) == bool(findings)
    return [str(finding) for finding in findings]


def test_a_config_map_has_texts_and_bytes_and_a_namespace() -> None:
    data = config_map(data={"a": "1", "empty": None}, binaryData={"b": "aG\nk="}, immutable=True)
    admitted, findings = validation.admit_config_map(data)
    assert (admitted, findings) == (
        v1.ConfigMap(
            metadata=v1.ObjectMeta(name="c", namespace="default"),
            data={"a": "1", "empty": ""},
            binary_data={"b": "aG\nk="},
            immutable=True,
        ),
        [],
    )


def test_the_string_data_of_a_secret_goes_into_its_data_and_wins_there() -> None:
    data = secret(data={"a": b64("old"), "b": b64("kept")}, stringData={"a": "new"}, type="Opaque")
    admitted, findings = validation.admit_secret(data)
    assert findings == []
    assert admitted is not None
    assert admitted.data == {"a": b64("new"), "b": b64("kept")}
    assert (admitted.string_data, admitted.type) == ({}, "Opaque")


KEY = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(
            config_map(data={"a b": "x"}), f'data[a b]: Invalid value: "a b": {KEY}', id="key"
        ),
        pytest.param(
            config_map(binaryData={"..a": ""}),
            "binaryData[..a]: Invalid value: \"..a\": must not start with '..'",
            id="key of bytes",
        ),
        pytest.param(config_map(data={"": "x"}), f'data[]: Invalid value: "": {KEY}', id="no key"),
        pytest.param(
            config_map(data={"a": "x"}, binaryData={"a": "aGk="}),
            'data[a]: Invalid value: "a": duplicate of key present in binaryData',
            id="one key of two kinds",
        ),
        pytest.param(
            config_map(binaryData={"a": "hi!"}),
            "binaryData[a]: Invalid value: must be base64; text as it is belongs into data",
            id="base64",
        ),
        pytest.param(
            config_map(data={"a": 1}),
            "data[a]: Invalid value: 1: must be a string: put it in quotes",
            id="a number",
        ),
        pytest.param(
            config_map(data={"a": "x" * (MIB - 2)}, binaryData={"b": "aGk="} | {"c": "aGk="}),
            "Too long: may not be more than 1048576 bytes",
            id="too large",
        ),
        pytest.param(
            config_map(dat={}), "dat: Unknown field (did you mean data?)", id="unknown field"
        ),
        pytest.param(config_map(metadata={}), "metadata.name: Required value", id="no name"),
        pytest.param(
            config_map(metadata={"generateName": "c-"}),
            "metadata.generateName is refused: not yet: give the ConfigMap a name",
            id="a name to be made",
        ),
        pytest.param(
            secret(apiVersion="v2"),
            'apiVersion: Unsupported value: "v2": supported values: "v1"',
            id="version",
        ),
        pytest.param(
            secret(data={"a": "aGk"}),
            "data[a]: Invalid value: must be base64; text as it is belongs into stringData",
            id="base64 without its end",
        ),
        pytest.param(
            secret(stringData={"a/b": "x"}),
            f'stringData[a/b]: Invalid value: "a/b": {KEY}',
            id="key of a secret",
        ),
        pytest.param(
            secret(stringData={"a": "x" * (MIB + 1)}),
            "data: Too long: may not be more than 1048576 bytes",
            id="a secret too large",
        ),
        pytest.param(
            secret(type="kubernetes.io/tls", data={"tls.crt": ""}),
            "data[tls.key]: Required value",
            id="a type needs its keys",
        ),
    ],
)
def test_what_is_wrong_is_said(data: dict[str, Any], expected: str) -> None:
    """H10: an empty key is among it."""
    (found,) = errors(data)
    assert found.startswith(expected)


def test_a_password_alone_is_basic_auth() -> None:
    assert errors(secret(type="kubernetes.io/basic-auth", stringData={"password": "x"})) == []
    assert len(errors(secret(type="kubernetes.io/basic-auth"))) == 2


@pytest.mark.parametrize(
    "data",
    [
        secret(data=VALUE),
        secret(data=[VALUE]),
        secret(data={"a": VALUE}),
        secret(data={"a": [VALUE]}),
        secret(data={"a": {"b": VALUE}}),
        secret(stringData=VALUE),
        secret(stringData={"a": {"b": VALUE}}),
        secret(stringData={"a": VALUE, "b": VALUE * MIB}),
        secret(stringData={"a": [VALUE]}),
        secret(password=VALUE),
        secret(immutable=VALUE),
        secret(stringdata={"a": VALUE}),
        secret(metadata={"name": "s", "annotations": {"last-applied": {"a": VALUE}}}),
        secret(metadata={"name": "s", "annotations": VALUE}),
    ],
)
def test_no_value_of_a_secret_is_repeated(data: dict[str, Any]) -> None:
    found = errors(data)
    assert found
    assert not any("hunter" in line for line in found), found


def test_a_number_in_a_secret_is_not_repeated_and_the_way_out_is_said() -> None:
    assert errors(secret(data={"a": 4711})) == [
        "data[a]: Invalid value: must be a string: put it in quotes"
    ]


@pytest.mark.parametrize(
    "value",
    [
        f"*{VALUE}",
        f"!{VALUE}",
        f"!{VALUE}!x",
        f"!!int {VALUE}",
        f"&{VALUE} [*{VALUE}]",
        f'"{VALUE}',
    ],
)
def test_a_secret_that_is_no_yaml_is_not_repeated_either(value: str) -> None:
    text = f"apiVersion: v1\ndata:\n  a: {value}\nkind: Secret\n"
    documents, problems = codec.read(text, "s.yaml")
    found = [str(problem) for problem in problems]
    assert not any("hunter" in line for line in found), found
    assert found, documents


def test_what_was_admitted_can_be_written_and_read_again() -> None:
    admitted, _ = validation.admit_secret(secret(stringData={"a": VALUE}))
    assert admitted is not None
    again = json.loads(codec.dump(admitted, "json"))
    assert validation.admit_secret(again) == (admitted, [])
