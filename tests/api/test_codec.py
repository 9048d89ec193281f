"""Text becomes data with places, data becomes pods or findings, and nothing is a traceback."""

import json
import re
import textwrap
import time
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.api import codec, v1, validation
from supervisor.api.problems import MAX_FINDINGS, Key, Path, parse, render


def data_of(text: str) -> list[Any]:
    documents, problems = codec.read(textwrap.dedent(text), "x")
    assert [str(problem) for problem in problems] == []
    return [document.data for document in documents]


def problems_of(text: str | bytes) -> list[str]:
    return [str(problem) for problem in codec.read(text, "pod.yaml")[1]]


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        pytest.param("yes", True, id="yes is a boolean"),
        pytest.param("n", False, id="n is a boolean, as kubectl reads it"),
        pytest.param("Off", False, id="off is a boolean"),
        pytest.param("'yes'", "yes", id="quotes make a string"),
        pytest.param("0777", 511, id="a leading zero is octal"),
        pytest.param("0x10", 16, id="hexadecimal"),
        pytest.param("1_000", 1000, id="underscores are dropped"),
        pytest.param("-0b11", -3, id="binary"),
        pytest.param("1:30", "1:30", id="no numbers to the base of sixty"),
        pytest.param("2024-01-31", "2024-01-31", id="a date stays text"),
        pytest.param("1e3", 1000.0, id="an exponent without a dot is a float"),
        pytest.param(".5", 0.5, id="a fraction without a zero"),
        pytest.param("~", None, id="tilde is null"),
        pytest.param("!!str 8080", "8080", id="a tag makes a string"),
        pytest.param("! 8080", "8080", id="so does the bare tag"),
        pytest.param("0o17", 15, id="octal of the newer kind"),
        pytest.param("09", 9.0, id="no octal digit: a float, as kubectl reads it"),
    ],
)
def test_scalars_mean_what_they_mean_to_kubectl(scalar: str, value: object) -> None:
    (data,) = data_of(f"a: {scalar}\n")
    assert data == {"a": value}
    assert type(data["a"]) is type(value)


def test_several_documents_and_empty_ones() -> None:
    assert data_of("---\na: 1\n---\n---\n# nothing\n---\nb: 2\n") == [{"a": 1}, {"b": 2}]


def test_merge_keys_give_way_to_own_keys() -> None:
    text = """
        base: &base {a: 1, b: 1}
        one:
          b: 2
          <<: *base
        two:
          <<: [{a: 3}, *base]
    """
    (data,) = data_of(text)
    assert data["one"] == {"a": 1, "b": 2}
    assert data["two"] == {"a": 3, "b": 1}


def test_keys_that_are_no_strings_become_strings() -> None:
    assert data_of("{8080: a, true: b, 1.5: c}") == [{"8080": "a", "true": "b", "1.5": "c"}]


def test_json_with_tabs_and_several_documents() -> None:
    assert data_of('{\n\t"a": 1\n}\n\n{"a": 2}') == [{"a": 1}, {"a": 2}]


def test_a_flow_mapping_is_not_taken_for_broken_json() -> None:
    assert data_of("{a: b}") == [{"a": "b"}]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param(
            "a: 1\nb: [\n", "pod.yaml:3:1: error: not YAML: while parsing a flow node, did not "
            "find expected node content", id="an open bracket",
        ),
        pytest.param(
            "a:\n\tb: 1\n", "pod.yaml:2:1: error: not YAML: a tab cannot indent, use blanks",
            id="a tab that indents",
        ),
        pytest.param(
            "a: {{ .Values.a }}", "pod.yaml:1:17: error: not YAML: a key must be a string, it is "
            "a list or a mapping; is it a template? `helm template` makes manifests of a chart",
            id="a template",
        ),
        pytest.param(
            "{{ if .Values.a }}\na: b\n{{ end }}", "pod.yaml:1:2: error: not JSON: expecting "
            "property name enclosed in double quotes; is it a template? `helm template` makes "
            "manifests of a chart",
            id="a template that begins like JSON",
        ),
        pytest.param(
            "a: *x", "pod.yaml:1:4: error: not YAML: unknown alias: put it in quotes if it is "
            "text", id="an unknown alias"
        ),
        pytest.param(
            "a: &a [*a]", "pod.yaml:1:8: error: not YAML: an alias stands inside its own anchor",
            id="an alias inside its anchor",
        ),
        pytest.param(
            "? [a]\n: b", "pod.yaml:1:5: error: not YAML: a key must be a string, it is a list or "
            "a mapping", id="a list as key",
        ),
        pytest.param(
            "a: !ruby x", "pod.yaml:1:4: error: not YAML: a tag that is not read here: put it in "
            "quotes if it is text",
            id="a tag of some language",
        ),
        pytest.param(
            "a: !!int x", "pod.yaml:1:4: error: not YAML: this is no !!int", id="a tag that lies"
        ),
        pytest.param(
            "[" * 500, "pod.yaml:1:101: error: cannot read: nested deeper than 100 levels",
            id="deep YAML",
        ),
        pytest.param(
            '{"a":' * 500, "pod.yaml:1:501: error: cannot read: nested deeper than 100 levels",
            id="deep JSON",
        ),
        pytest.param(
            '{"a": 1,\n "a": 2}', 'pod.yaml:2:2: error: a: key "a" already set in line 1',
            id="a key twice in JSON",
        ),
        pytest.param(
            '{\n "a" 1}', "pod.yaml:2:6: error: not JSON: expecting ':' delimiter",
            id="broken JSON",
        ),
        pytest.param(
            '{"a": "\\ud800"}',
            "pod.yaml:1:1: error: not JSON: an escape is half of a surrogate pair",
            id="half a character",
        ),
        pytest.param(
            b"a: 1\nb: \xff", "pod.yaml:2:4: error: cannot read: not UTF-8", id="not UTF-8"
        ),
        pytest.param(
            "a: \x01", "pod.yaml:1:4: error: not YAML: control characters are not allowed",
            id="a control character",
        ),
        pytest.param(
            "a" * (codec.MAX_BYTES + 1), "pod.yaml: error: cannot read: larger than 3 MiB",
            id="too large",
        ),
        pytest.param(
            "metadata:\n  name: a\n  name: b\n",
            'pod.yaml:3:3: error: metadata.name: key "name" already set in line 2',
            id="a key twice in YAML",
        ),
        pytest.param(
            "l:\n- {}\n- {b: 1, b: 2}\n", 'pod.yaml:3:10: error: l[1].b: key "b" already set in '
            "line 3", id="a key twice inside a list",
        ),
    ],
)  # fmt: skip
def test_a_syntax_error_has_a_place(text: str | bytes, problem: str) -> None:
    assert problems_of(text) == [problem]


def test_aliases_cannot_grow_without_bound_over_documents() -> None:
    values = ", ".join("x" * 300)
    document = f"a: &a [{values}]\nb: [{', '.join(['*a'] * 300)}]\n"
    assert problems_of("---\n".join([document] * 2)) == []
    (problem,) = problems_of("---\n".join([document] * 3))
    assert problem.startswith("pod.yaml:8:")
    assert problem.endswith(": error: cannot read: more than 250000 values, with aliases followed")


def test_aliases_cannot_grow_without_bound() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]")
    (problem,) = problems_of("\n".join(lines))
    assert problem.endswith(": error: cannot read: more than 250000 values, with aliases followed")


def test_documents_before_a_syntax_error_are_read() -> None:
    documents, problems = codec.read("a: 1\n---\nb: [\n", "x")
    assert [document.data for document in documents] == [{"a": 1}]
    assert len(problems) == 1


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_items_of_a_list_are_documents_with_their_own_places(form: str) -> None:
    items = [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": n}} for n in ("a", "b")]
    items[1]["spec"] = {"nodeName": 7}
    text = codec.dump({"apiVersion": "v1", "kind": "List", "items": items}, form)
    documents, _ = codec.read(text, "list")
    assert [document.data["metadata"]["name"] for document in documents] == ["a", "b"]
    _, findings = codec.decode(documents[1].data, v1.Pod)
    (problem,) = [documents[1].problem(finding) for finding in findings]
    line = next(n for n, line in enumerate(text.splitlines(), 1) if "nodeName" in line)
    col = text.splitlines()[line - 1].index("7") + 1
    assert str(problem) == (
        f"list:{line}:{col}: error: items[1].spec.nodeName: Invalid value: 7: "
        "must be a string: put it in quotes"
    )


def test_escaped_keys_of_json_have_places() -> None:
    (document,) = codec.read('{"a": [{},\n {"\\u0062\\"": 1}]}', "x")[0]
    assert document.data == {"a": [{}, {'b"': 1}]}
    assert document.locate(("a", 1, 'b"')) == (2, 15)
    assert document.locate(("a", 1, 'b"'), name=True) == (2, 3)
    assert document.locate(("a", 1, "absent")) == (2, 2)


def test_items_of_a_pod_list_need_no_kind() -> None:
    text = "apiVersion: v1\nkind: PodList\nitems:\n- metadata: {name: a}\n"
    (document,) = codec.read(text, "x")[0]
    assert document.data == {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}


@pytest.mark.parametrize(
    ("spec", "finding"),
    [
        pytest.param(
            {"containers": [{"name": "a", "env": [{"name": "A", "value": 8080}]}]},
            "spec.containers[0].env[0].value: Invalid value: 8080: "
            "must be a string: put it in quotes",
            id="an unquoted number",
        ),
        pytest.param(
            {"containers": [{"env": [{"value": True}]}]},
            "spec.containers[0].env[0].value: Invalid value: true: "
            "must be a string: put it in quotes",
            id="an unquoted boolean",
        ),
        pytest.param(
            {"containers": [{"env": {"A": "b"}}]},
            'spec.containers[0].env: Invalid value: {"A":"b"}: '
            'must be a list: put "- " before each item',
            id="variables as a mapping",
        ),
        pytest.param(
            {"containers": [{"command": "python3 app.py"}]},
            'spec.containers[0].command: Invalid value: "python3 app.py": '
            'must be a list of strings, such as ["python3","app.py"]',
            id="a command as one string",
        ),
        pytest.param(
            {"containers": [{"command": ["sleep", 5]}]},
            "spec.containers[0].command[1]: Invalid value: 5: must be a string: put it in quotes",
            id="a number in a command",
        ),
        pytest.param(
            {"containers": [{"command": ["sleep", None]}]},
            "spec.containers[0].command[1]: Invalid value: null: must be a string",
            id="nothing in a command",
        ),
        pytest.param(
            {"activeDeadlineSeconds": "5"},
            'spec.activeDeadlineSeconds: Invalid value: "5": must be an integer: remove the quotes',
            id="a quoted number",
        ),
        pytest.param(
            {"activeDeadlineSeconds": 1.5},
            "spec.activeDeadlineSeconds: Invalid value: 1.5: must be an integer",
            id="a fraction where an integer belongs",
        ),
        pytest.param(
            {"activeDeadlineSeconds": float("nan")},
            "spec.activeDeadlineSeconds: Invalid value: nan: must be an integer",
            id="no number at all",
        ),
        pytest.param(
            {"activeDeadlineSeconds": 2**64},
            "spec.activeDeadlineSeconds: Invalid value: 18446744073709551616: "
            "must fit into 64 bits",
            id="a number beyond 64 bits",
        ),
        pytest.param(
            {"hostNetwork": "true"},
            'spec.hostNetwork: Invalid value: "true": must be true or false: remove the quotes',
            id="a quoted boolean",
        ),
        pytest.param(
            {"os": "linux"},
            'spec.os: Invalid value: "linux": must be a mapping',
            id="text where an object belongs",
        ),
        pytest.param(
            {"os": ["linux"]},
            'spec.os: Invalid value: ["linux"]: must be a mapping, not a list',
            id="a list where an object belongs",
        ),
        pytest.param(
            {"containers": [{"resources": {"limits": {"cpu": "1x"}}}]},
            'spec.containers[0].resources.limits[cpu]: Invalid value: "1x": quantities must '
            "match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            id="no quantity",
        ),
        pytest.param(
            {"containers": [{"livenessProb": {}}]},
            "spec.containers[0].livenessProb: Unknown field (did you mean livenessProbe?)",
            id="an unknown field that is close to a known one",
        ),
        pytest.param(
            {"restartpolicy": "Never"},
            "spec.restartpolicy: Unknown field (did you mean restartPolicy?)",
            id="a field in the wrong case",
        ),
        pytest.param({"zzz": 1}, "spec.zzz: Unknown field", id="an unknown field like no other"),
        pytest.param(
            {"affinity": {"nodeAffinit": {}}},
            "spec.affinity.nodeAffinit: Unknown field (did you mean nodeAffinity?)",
            id="an unknown field inside an ignored one",
        ),
    ],
)
def test_what_cannot_be_read_is_a_finding(spec: dict[str, Any], finding: str) -> None:
    _, findings = codec.decode({"spec": spec}, v1.Pod)
    assert [str(one) for one in findings] == [finding]


def test_null_is_the_same_as_absent() -> None:
    data = {"spec": {"containers": [None, {"name": None, "env": None}], "volumes": None}}
    pod, findings = codec.decode(data, v1.Pod)
    assert findings == []
    assert pod.spec.containers == (v1.Container(), v1.Container())


def test_numbers_are_quantities_and_whole_floats_are_integers() -> None:
    resources = {"limits": {"cpu": 0.5, "memory": 1024}}
    spec = {"priority": 1e3, "containers": [{"resources": resources}]}
    pod, findings = codec.decode({"spec": spec}, v1.Pod)
    assert findings == []
    assert pod.spec.priority == 1000
    assert pod.spec.containers[0].resources.limits == {"cpu": "0.5", "memory": "1024"}


@pytest.mark.parametrize(
    ("text", "seconds", "micro"),
    [
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000000Z"),
        ("2026-01-31T12:00:00.5Z", "2026-01-31T12:00:00Z", "2026-01-31T12:00:00.500000Z"),
        (
            "2026-01-31T01:00:00.123456789+02:00",
            "2026-01-30T23:00:00Z",
            "2026-01-30T23:00:00.123456Z",
        ),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z"),
        ("0001-01-01T00:00:00+02:00", None, None),
        ("2026-01-31", None, None),
        ("2026-01-31T12:00:00", None, None),
        ("2026-02-30T12:00:00Z", None, None),
        ("now", None, None),
        ("", None, None),
    ],
)
def test_times_are_kept_as_every_client_reads_them(
    text: str, seconds: str | None, micro: str | None
) -> None:
    assert codec.utc(text) == seconds
    assert codec.utc(text, micro=True) == micro


def test_a_whole_pod_with_its_status_is_read_back() -> None:
    state = v1.ContainerState(terminated=v1.ContainerStateTerminated(exit_code=0))
    status = v1.ContainerStatus(
        name="a", image="", image_id="", ready=False, restart_count=0, state=state
    )
    pod = v1.Pod(
        metadata=v1.ObjectMeta(name="a", labels={"x": "yes"}),
        spec=v1.PodSpec(containers=(v1.Container(name="a", command=("x\ny\n",)),)),
        status=v1.PodStatus(phase="Running", container_statuses=(status,)),
    )
    for form in ("yaml", "json"):
        (document,) = codec.read(codec.dump(pod, form), "x")[0]
        assert codec.decode(document.data, v1.Pod) == (pod, [])


def test_yaml_is_written_as_kubectl_writes_it() -> None:
    container = v1.Container(name="a", command=("true",), args=("on", "0777", "a\nb"))
    pod = v1.Pod(metadata=v1.ObjectMeta(name="web"), spec=v1.PodSpec(containers=(container,)))
    assert codec.dump(pod, "yaml") == textwrap.dedent("""\
        apiVersion: v1
        kind: Pod
        metadata:
          name: web
        spec:
          containers:
          - args:
            - "on"
            - "0777"
            - |-
              a
              b
            command:
            - "true"
            name: a
        status: {}
    """).replace("status: {}\n", "")


def test_several_pods_are_written_as_a_list_without_anchors() -> None:
    pod = v1.Pod(metadata=v1.ObjectMeta(name="a", labels={"x": "y"}))
    data = yaml.safe_load(codec.encode_pods([pod, pod], "yaml"))
    assert list(data) == ["apiVersion", "items", "kind", "metadata"]
    assert data["kind"] == "List"
    assert "&" not in codec.encode_pods([pod, pod], "yaml")
    assert msgspec.json.decode(codec.encode_pods([pod], "json"))["kind"] == "Pod"


def test_every_annotation_of_the_model_has_a_reader() -> None:
    for value in vars(v1).values():
        if isinstance(value, type) and issubclass(value, v1.Model):
            instance, findings = codec.decode({}, value)
            assert isinstance(instance, value)
            assert findings == []


def test_names_on_the_wire_are_those_of_kubernetes() -> None:
    """The names that camel case alone would get wrong."""
    odd = {
        v1.PodSpec: {"hostIPC", "hostPID", "setHostnameAsFQDN", "hostNetwork"},
        v1.PodStatus: {"hostIP", "hostIPs", "podIP", "podIPs", "qosClass"},
        v1.ContainerStatus: {"containerID", "imageID"},
        v1.ContainerStateTerminated: {"containerID", "exitCode"},
        v1.ContainerPort: {"hostIP"},
        v1.Volume: {"downwardAPI", "scaleIO", "awsElasticBlockStore", "gcePersistentDisk"},
        v1.PodSecurityContext: {"fsGroup", "seLinuxOptions", "seccompProfile"},
        v1.Container: {"terminationMessagePath", "envFrom", "tty", "workingDir"},
        v1.ListMeta: {"continue", "selfLink"},
    }
    for type_, names in odd.items():
        assert names <= set(type_.__struct_encode_fields__)


# --- no input is a traceback -------------------------------------------------------------------

_scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["Always", "Pod", "v1", "1Gi", "metadata.name", "\0"])
)  # fmt: skip
_names = st.sampled_from(
    sorted(
        {
            name
            for value in vars(v1).values()
            if isinstance(value, type) and issubclass(value, v1.Model)
            for name in value.__struct_encode_fields__
        }
    )
)
_plain = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=4),
    max_leaves=25,
)


def _shaped(annotation: str, depth: int) -> st.SearchStrategy[Any]:
    """Mostly what the model wants, sometimes something else."""
    annotation = annotation.removesuffix(" | None")
    if annotation.startswith("tuple["):
        inner = _shaped(annotation[6:-6], depth)
        wanted: st.SearchStrategy[Any] = st.lists(inner, max_size=2)
    elif annotation.startswith("dict["):
        wanted = st.dictionaries(st.text(max_size=5), _scalars, max_size=2)
    elif hasattr(v1, annotation) and isinstance(getattr(v1, annotation), type) and depth:
        type_ = getattr(v1, annotation)
        if not issubclass(type_, v1.Model):
            return _scalars
        shapes = {wire: _shaped(text, depth - 1) for wire, (_, text) in codec.fields(type_).items()}
        wanted = st.dictionaries(st.sampled_from(sorted(shapes)), st.none(), max_size=5).flatmap(
            lambda keys: st.fixed_dictionaries({key: shapes[key] for key in keys})
        )
    else:
        return _scalars
    return st.one_of(wanted, wanted, wanted, _scalars)


@settings(max_examples=150, deadline=None)
@given(_plain | _shaped("Pod", 5))
def test_any_data_ends_in_findings_or_in_a_pod(data: Any) -> None:
    if isinstance(data, dict):
        data = {**data, "apiVersion": "v1", "kind": "Pod"}
    _, findings = validation.admit(data)
    for finding in findings:
        str(finding)


_valid_container = st.fixed_dictionaries(
    {"name": st.sampled_from(["a", "b", "c"]), "command": st.just(["true"])},
    optional={
        "image": st.sampled_from(["nginx", "a:1"]),
        "resources": _shaped("ResourceRequirements", 1),
        "env": _shaped("tuple[EnvVar, ...]", 3),
        "restartPolicy": st.sampled_from(["Always", "Never"]),
        "securityContext": _shaped("SecurityContext", 2),
        "ports": st.lists(
            st.fixed_dictionaries({"containerPort": st.integers(1, 9)}, optional={
                "hostPort": st.integers(0, 9)}), max_size=2),
    },
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    st.lists(_valid_container, min_size=1, max_size=2),
    st.lists(_valid_container, max_size=1),
    st.fixed_dictionaries(
        {},
        optional={
            "hostNetwork": st.booleans(),
            "terminationGracePeriodSeconds": st.integers(-9, 9),
            "securityContext": _shaped("PodSecurityContext", 2),
            "serviceAccount": st.just("me"),
            "hostUsers": st.booleans(),
        },
    ),
)
def test_an_admitted_pod_is_admitted_again_as_it_is(
    containers: list[Any], init: list[Any], rest: dict[str, Any]
) -> None:
    spec = {**rest, "containers": containers, "initContainers": init}
    data = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": spec}
    pod, findings = validation.admit(data)
    if pod is None:
        assert findings
    else:
        again, more = validation.admit(codec.to_plain(pod))
        assert again == pod, more


@settings(max_examples=150, deadline=None)
@given(st.text("ab:-[]{}&*<!|>'\"\n\t #?,0", max_size=40) | st.binary(max_size=20))
def test_any_text_ends_in_documents_or_in_problems(text: str | bytes) -> None:
    documents, problems = codec.read(text, "x")
    for document in documents:
        for finding in validation.admit(document.data)[1]:
            assert document.problem(finding).line >= 1
    for problem in problems:
        assert str(problem).startswith("x")


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=4))
def test_any_strings_survive_writing_and_reading(labels: dict[str, str]) -> None:
    plain = v1.Pod(metadata=v1.ObjectMeta(labels=labels))
    (document,), problems = codec.read(codec.dump(plain, "yaml"), "x")
    assert problems == []
    assert codec.decode(document.data, v1.Pod) == (plain, [])


MIB = 1024**2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param(
            '{"a": "' + '\\"' * MIB, "pod.yaml:1:7: error: not JSON: unterminated string starting",
            id="a string of quotes that does not end",
        ),
        pytest.param(
            '{"\\u0061": 1}' + "{}" * MIB, f"cannot read: more than {codec.MAX_NODES} values",
            id="a million JSON documents",
        ),
        pytest.param(
            '{"kind": "List", "items": [' + "{}," * 900_000 + "{}]}",
            f"cannot read: more than {codec.MAX_NODES} values", id="a list of a million objects",
        ),
        pytest.param(
            "---\na\n" * 500_000, f"cannot read: more than {codec.MAX_NODES} values",
            id="half a million YAML documents",
        ),
    ],
)  # fmt: skip
def test_time_is_bounded_for_any_text(text: str, problem: str) -> None:
    started = time.thread_time()  # what others do on this machine does not count
    assert problems_of(text)[-1].endswith(problem)
    assert time.thread_time() - started < 20  # an attack took minutes; it takes less than two


def test_reading_ends_at_so_many_mistakes() -> None:
    unknown = {f"field{index}": 1 for index in range(MAX_FINDINGS + 50)}
    pod, findings = codec.decode({"metadata": {"name": "web"}, "spec": unknown}, v1.Pod)
    assert len(findings) == MAX_FINDINGS
    assert pod == codec.decode({}, v1.Pod)[0]
    assert len(problems_of("{" + '"a": 1, ' * (MAX_FINDINGS + 50) + '"a": 1}')) == MAX_FINDINGS
    assert len(problems_of("a: 1\n" * (MAX_FINDINGS + 50))) == MAX_FINDINGS


def test_the_place_of_a_mistake_after_a_document_marker_is_yamls() -> None:
    assert problems_of('{"a": 1}\n---\n{"b": ]}\n')[-1].startswith("pod.yaml:3:7: error: not YAML")


@pytest.mark.parametrize("items", ["", " []"])
def test_a_list_without_items_has_no_documents(items: str) -> None:
    assert data_of(f"kind: List\nitems:{items}\n") == []


def test_a_message_is_one_line_that_cannot_steer_a_terminal() -> None:
    key = "\x1b[2Jname\n\u202e\x9b"
    (document,) = codec.read(json.dumps({"metadata": {key: 1, "n" * 5000: 1}}), "x\x1b.json")[0]
    _, findings = codec.decode(document.data, v1.Pod)
    assert [str(document.problem(finding)) for finding in findings] == [
        r"x\x1b.json:1:15: error: metadata.\x1b[2Jname\n\u202e\x9b: Unknown field",
        rf"x\x1b.json:1:49: error: metadata.{'n' * 491}…: Unknown field",
    ]
    assert str(findings[0]) == r"metadata.\x1b[2Jname\n\u202e\x9b: Unknown field"


@pytest.mark.parametrize("form", ["json", "yaml"])
@pytest.mark.parametrize(
    ("text", "repeated"),
    [
        ('{"spec": {"a": 1, "b": {"a": 2}}}', ()),
        ('{"spec": {"a": 1, "a": 2}}', ("spec.a",)),
        ('{"l": [{"a": 1}, {"b": [1, 2], "a": 1, "b": []}], "l": 1}', ("l[1].b", "l")),
        ('[{"op": "remove", "op": "add"}]', ("[0].op",)),
    ],
)
def test_a_body_is_one_value_and_the_paths_of_its_repeated_keys(
    form: str, text: str, repeated: tuple[str, ...]
) -> None:
    data, found = codec.read_body(text.encode(), form)
    assert data == json.loads(text)
    assert found == repeated


@pytest.mark.parametrize(
    ("form", "text", "said"),
    [
        ("json", b"", "no value in the text"),
        ("json", b"{} {}", "more than one value in the text"),
        ("yaml", b"a: 1\n---\nb: 1\n", "more than one value in the text"),
        ("json", b"a: 1", "line 1, column 1: not JSON: expecting value"),
        ("json", b'{"a": NaN}', "line 1, column 1: not JSON: NaN is not JSON"),
        ("json", b'{"a": "\xff"}', "line 1, column 8: cannot read: not UTF-8"),
        ("json", b"[" * 200, "line 1, column 101: cannot read: nested deeper than 100 levels"),
        (
            "yaml",
            b"a: {{",
            "line 1, column 6: not YAML: while parsing a flow node, did not find expected "
            "node content",
        ),
        ("json", b" " * (codec.MAX_BYTES + 1), "cannot read: larger than 3 MiB"),
    ],
)
def test_a_body_that_cannot_be_read_says_where(form: str, text: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        codec.read_body(text, form)


@given(
    st.lists(
        st.one_of(
            st.from_regex(r"[a-z][A-Za-z]*", fullmatch=True),
            st.integers(min_value=0),
            st.from_regex(r"[a-z][a-z./-]*", fullmatch=True).map(Key),
        )
    ).map(tuple)
)
def test_a_path_that_was_written_down_is_read_again(path: Path) -> None:
    again = parse(render(path))
    assert again == path
    assert list(map(type, again)) == list(map(type, path))
