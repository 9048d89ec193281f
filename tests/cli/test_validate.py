"""`podvisor validate` and `podvisor fields`, from files to lines and exit codes."""

import io
import json
import os
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
import typer

from supervisor.api.problems import MAX_FINDINGS
from supervisor.cli import fields, selection, validate
from supervisor.errors import UsageError
from supervisor.project import manifests
from supervisor.runtime.images import Images

GOOD = """\
apiVersion: v1
kind: Pod
metadata:
  name: NAME
spec:
  containers:
  - name: a
    command: ["true"]
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name: str, text: str) -> str:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return name


def run(*args: str) -> int:
    try:
        validate.command(list(args))
    except typer.Exit as leaving:
        return int(leaving.exit_code)
    return 0


def problems(*paths: str, **more: Any) -> list[str]:
    return [str(problem) for problem in manifests.load(list(paths), **more).problems]


def test_a_valid_pod_is_one_line_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(write("pod.yaml", GOOD.replace("NAME", "web"))) == 0
    out, err = capsys.readouterr()
    assert out == "pod.yaml: pod default/web is valid\n"
    assert err == ""


def test_problems_have_places_and_a_closing_line(capsys: pytest.CaptureFixture[str]) -> None:
    name = write(
        "pod.yaml",
        """\
        apiVersion: v1
        kind: Pod
        metadata:
          name: web
        spec:
          nodeSelector:
            disk: ssd
          containers:
          - name: web
            command: ["true"]
            ports:
            - name: http
              containerPort: 99999
          - name: side
            command: ["true"]
            livenessProb:
              exec: {}
        """,
    )
    assert run(name) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "pod.yaml:6:3: warning: spec.nodeSelector is ignored: there is one node",
        "pod.yaml:13:22: error: spec.containers[0].ports[0].containerPort: Invalid value: 99999: "
        "must be between 1 and 65535, inclusive",
        "pod.yaml:16:5: error: spec.containers[1].livenessProb: "
        "Unknown field (did you mean livenessProbe?)",
        "2 errors, 1 warning; nothing was started",
    ]


def test_warnings_alone_are_valid(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(write("pod.yaml", GOOD + "  nodeName: other\n".replace("NAME", "web"))) == 3
    capsys.readouterr()
    text = GOOD.replace("NAME", "web") + "  nodeName: other\n"
    assert run(write("pod.yaml", text)) == 0
    out, err = capsys.readouterr()
    assert out == "pod.yaml: pod default/web is valid\n"
    assert err == (
        "pod.yaml:9:3: warning: spec.nodeName is ignored: there is one node\n1 warning\n"
    )


def test_other_files_are_checked_after_a_broken_one() -> None:
    broken = write("broken.yaml", "a: [\n")
    wrong = write("wrong.json", '{\n\t"apiVersion": "v1",\n\t"kind": "Service"\n}\n')
    assert problems("missing.yaml", broken, wrong) == [
        "missing.yaml: error: cannot read: No such file or directory",
        "broken.yaml:2:1: error: not YAML: while parsing a flow node, "
        "did not find expected node content",
        "wrong.json:3:2: error: kind Service is not run here: only pods and workloads are",
    ]


def test_a_folder_means_its_manifests_in_order() -> None:
    for name in ("b.yaml", "a.json", "c.yml", "d.txt", "e/f.yaml"):
        text = GOOD.replace("NAME", name[0])
        if name.endswith("json"):
            text = (
                '{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec":'
                '{"containers": [{"name": "a", "command": ["true"]}]}}'
            )
        write(f"pods/{name}", text)
    loaded = manifests.load(["pods"])
    assert loaded.problems == ()
    assert [(pod.source, pod.pod.metadata.name) for pod in loaded.pods] == [
        ("pods/a.json", "a"),
        ("pods/b.yaml", "b"),
        ("pods/c.yml", "c"),
    ]


def test_nothing_to_read_is_a_problem() -> None:
    Path("empty").mkdir()
    assert problems("empty", write("nothing.yaml", "# nothing\n---\n")) == [
        "empty: error: no manifests: no file is named *.yaml, *.yml, *.json",
        "nothing.yaml: error: no documents",
    ]


def test_a_fifo_in_a_folder_is_not_waited_for() -> None:
    write("pods/a.yaml", GOOD.replace("NAME", "a"))
    os.mkfifo("pods/b.yaml")
    loaded = manifests.load(["pods"])
    assert [str(problem) for problem in loaded.problems] == [
        "pods/b.yaml: error: cannot read: not a regular file"
    ]
    assert [pod.source for pod in loaded.pods] == ["pods/a.yaml"]


def test_a_fifo_that_is_named_is_read_to_its_end() -> None:
    os.mkfifo("made.yaml")
    text = GOOD.replace("NAME", "a")
    writer = threading.Thread(target=Path("made.yaml").write_text, args=(text,), daemon=True)
    writer.start()
    assert problems("made.yaml") == []
    writer.join()


def test_standard_input_starts_in_the_current_folder(here: Path) -> None:
    loaded = manifests.load(["-"], stdin=io.BytesIO(GOOD.replace("NAME", "web").encode()))
    (pod,) = loaded.pods
    assert (pod.source, pod.directory) == ("stdin", str(here))
    assert problems("-", stdin=io.BytesIO(b"kind: x")) == [
        "stdin:1:1: error: kind x is not run here: only pods and workloads are"
    ]


def test_two_pods_of_one_name_are_refused_across_files() -> None:
    one = write("one.yaml", GOOD.replace("NAME", "web"))
    two = write("two.yaml", GOOD.replace("NAME", "api") + "---\n" + GOOD.replace("NAME", "web"))
    assert problems(one, two) == [
        'two.yaml:13:9: error: metadata.name: Duplicate value: "web": '
        "namespace default has it from one.yaml:4 already"
    ]


def test_items_of_a_list_are_named_by_their_index() -> None:
    items = "".join(
        "- " + GOOD.replace("NAME", name).replace("\n", "\n  ").rstrip() + "\n"
        for name in ("one", "two")
    ).replace('["true"]', "x y")
    name = write("list.yaml", "apiVersion: v1\nkind: List\nitems:\n" + items)
    assert problems(name)[1] == (
        'list.yaml:19:16: error: items[1].spec.containers[0].command: Invalid value: "x y": '
        'must be a list of strings, such as ["x","y"]'
    )


# --- what this user cannot have ----------------------------------------------------------------

IDS = """\
  securityContext: {runAsUser: 1000, runAsGroup: 1000, supplementalGroups: [4, 27]}
"""


def test_root_may_take_any_id() -> None:
    name = write("pod.yaml", GOOD.replace("NAME", "web") + IDS)
    assert problems(name, ids=manifests.Ids(0, 0, ())) == []


def test_own_ids_are_allowed_without_root() -> None:
    name = write("pod.yaml", GOOD.replace("NAME", "web") + IDS)
    assert problems(name, ids=manifests.Ids(1000, 1000, (4, 27))) == []


def test_other_ids_are_refused_without_root() -> None:
    name = write("pod.yaml", GOOD.replace("NAME", "web") + IDS)
    remedy = "run podvisor as root, or remove the field"
    at = "error: spec.securityContext"
    assert problems(name, ids=manifests.Ids(7, 8, (4,))) == [
        f"pod.yaml:9:32: {at}.runAsUser: Invalid value: 1000: "
        f"podvisor runs as user 7 and cannot change it: {remedy}",
        f"pod.yaml:9:50: {at}.runAsGroup: Invalid value: 1000: "
        f"podvisor runs as group 8 and cannot change it: {remedy}",
        f"pod.yaml:9:80: {at}.supplementalGroups[1]: Invalid value: 27: "
        f"podvisor is not in this group and cannot enter it: {remedy}",
    ]


def test_ids_and_names_are_checked_beside_other_errors() -> None:
    text = GOOD.replace("NAME", "web") + "  securityContext: {runAsUser: 1000, fsGroup: 1}\n"
    nameless = text.replace("name: web", "labels: {}")
    name = write("pods.yaml", f"{text}---\n{text}---\n{nameless}---\n{nameless}")
    found = [line.split(": ", 2)[2] for line in problems(name, ids=manifests.Ids(7, 8, ()))]
    both = ["spec.securityContext.runAsUser", "spec.securityContext.fsGroup: Invalid value: 1: "]
    wanted = [*both, "metadata.name: Duplicate", *both, *2 * ["metadata.name: Required", *both]]
    assert len(found) == len(wanted)
    assert all(map(str.startswith, found, wanted)), found
    name = write("pod.yaml", text.replace("1000", "-1"))
    assert [
        line for line in problems(name, ids=manifests.Ids(7, 8, ())) if "runAsUser" in line
    ] == [
        "pod.yaml:9:32: error: spec.securityContext.runAsUser: Invalid value: -1: "
        "must be between 0 and 2147483647, inclusive"
    ]


def test_a_file_named_twice_is_two_pods_of_one_name() -> None:
    name = write("pod.yaml", GOOD.replace("NAME", "web"))
    (problem,) = problems(name, name)
    assert problem.endswith(
        'Duplicate value: "web": namespace default has it from pod.yaml:4 already'
    )


def test_two_pods_of_one_name_in_one_line() -> None:
    pod = '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"},"spec":{"containers":[{"name":'
    write("pods.json", (pod + '"a","command":["true"]}]}}') * 2)
    assert [problem.partition(": namespace")[0] for problem in problems("pods.json")] == [
        'pods.json:1:166: error: metadata.name: Duplicate value: "web"'
    ]


def test_a_closed_standard_input_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert problems("-") == ["stdin: error: cannot read: it is closed"]


def test_a_deleted_current_folder_matters_only_where_it_is_needed(here: Path) -> None:
    write("pod.yaml", GOOD.replace("NAME", "web"))
    os.mkdir("gone")
    os.chdir("gone")
    os.rmdir(here / "gone")
    assert problems(str(here / "pod.yaml")) == []
    assert problems("pod.yaml") == ["pod.yaml: error: cannot read: the current folder is gone"]
    assert problems("-") == ["stdin: error: cannot read: the current folder is gone"]


def test_an_empty_name_is_shown() -> None:
    assert problems("") == ["'': error: cannot read: No such file or directory"]


def test_problems_of_one_file_end_somewhere() -> None:
    write("pods.yaml", "---\n{}\n" * (2 * MAX_FINDINGS))
    found = problems("pods.yaml")
    assert len(found) == MAX_FINDINGS + 1
    assert found[-1] == "pods.yaml: error: more than 1000 problems: the rest is not shown"


def test_a_name_that_is_not_utf8_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(write("\udcff.yaml", GOOD.replace("NAME", "web"))) == 0
    assert capsys.readouterr().out == "\\udcff.yaml: pod default/web is valid\n"


# --- podvisor.toml -----------------------------------------------------------------------------


def test_the_nearest_podvisor_toml_upwards_is_the_project(here: Path) -> None:
    write(
        "app/podvisor.toml",
        'pass-env = ["HTTP_PROXY"]\nbackoff-initial = "500ms"\nbackoff-max = 90\n',
    )
    name = write("app/deploy/pod.yaml", GOOD.replace("NAME", "web"))
    loaded = manifests.load([name])
    assert loaded.problems == ()
    assert loaded.project == manifests.Project(
        root=str(here / "app"),
        found=True,
        pass_env=("HTTP_PROXY",),
        backoff_initial=0.5,
        backoff_max=90.0,
        images=Images(file="app/podvisor.toml"),
    )
    assert loaded.pods[0].directory == str(here / "app")
    assert loaded.pods[0].project == loaded.project


def test_without_one_containers_start_in_the_manifests_folder(here: Path) -> None:
    loaded = manifests.load([write("deploy/pod.yaml", GOOD.replace("NAME", "web"))])
    assert loaded.pods[0].directory == str(here / "deploy")
    of_folder = Images(file="deploy/podvisor.toml")  # if there were one
    assert loaded.project == manifests.Project(root=str(here), images=of_folder)


def test_the_podvisor_toml_that_applies_is_named(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("podvisor.toml", "")
    write("deploy/podvisor.toml", "")
    write("deploy/b.yaml", named(GOOD, "b"))
    write("deploy/c.yaml", named(GOOD, "c") + "---\n" + named(CONFIG, "c"))
    assert run(write("a.yaml", named(GOOD, "a")), "deploy") == 0
    assert capsys.readouterr().out.splitlines() == [
        "a.yaml: pod default/a is valid",
        "deploy/b.yaml: pod default/b is valid",
        "deploy/c.yaml: pod default/c is valid",
        "deploy/c.yaml: ConfigMap default/c is valid",
        "podvisor.toml: applies to 1 pod",
        "deploy/podvisor.toml: applies to 2 pods",
    ]
    Path("deploy/podvisor.toml").unlink()
    monkeypatch.chdir("deploy")
    assert run("b.yaml") == 0
    assert capsys.readouterr().out.endswith(f"\n{here}/podvisor.toml: applies to 1 pod\n")


def test_what_is_wrong_with_podvisor_toml_has_a_line() -> None:
    write("podvisor.toml", '# ours\npass_env = ["A"]\nbackoff-max = "soon"\n')
    name = write("pod.yaml", GOOD.replace("NAME", "web"))
    assert problems(name) == [
        "podvisor.toml:2:1: error: pass_env: Unknown key (did you mean pass-env?)",
        "podvisor.toml:3:1: error: backoff-max: "
        "must be a duration greater than 0, such as 10s, 1m30s or 500ms",
    ]
    write("podvisor.toml", 'pass-env = "A"\n')
    assert problems(name) == [
        "podvisor.toml:1:1: error: pass-env: "
        'must be a list of names, such as ["HTTP_PROXY"]'
    ]  # fmt: skip
    write("podvisor.toml", "a = \n")
    (problem,) = problems(name)
    assert problem == "podvisor.toml:1:5: error: not TOML: invalid value"


def test_env_files_of_the_project_are_read_with_it(here: Path) -> None:
    write("app/a.env", "A=1\nB=1\n")
    write("app/b.env", "B=2\n")
    write("app/podvisor.toml", 'env-file = ["a.env", "b.env"]\n')
    name = write("app/pod.yaml", GOOD.replace("NAME", "web"))
    loaded = manifests.load([name])
    assert loaded.problems == ()
    assert dict(loaded.project.given) == {"A": "1", "B": "2"}
    write("app/a.env", "A = topsecret\n")
    write("app/podvisor.toml", 'env-file = "a.env"\n')
    assert problems(name) == [
        "app/a.env:1:1: error: the name of a variable must consist only of printable ASCII "
        "characters other than '=' and blanks, as in NAME=VALUE"
    ]
    write("app/podvisor.toml", 'env-file = "gone.env"\n')
    assert problems(name) == ["app/gone.env: error: cannot read: No such file or directory"]
    write("app/podvisor.toml", "env-file = [1]\n")
    assert problems(name) == [
        "app/podvisor.toml:1:1: error: env-file: "
        'must be a file or a list of files, such as ["service.env"]'
    ]


def test_configuration_that_is_not_among_the_documents_is_a_warning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = GOOD.replace("NAME", "web") + "    envFrom:\n    - secretRef: {name: login}\n"
    assert run(write("pod.yaml", text)) == 0
    said = capsys.readouterr().err.splitlines()
    line = len(text.splitlines())
    assert said == [
        f"pod.yaml:{line}:25: warning: spec.containers[0].envFrom[0].secretRef.name: Not found: "
        '"login": Secret default/login is not among the documents',
        "1 warning",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param(
            "backoff-max = " + "9" * 400,
            ":1:1: error: backoff-max: "
            "must be a duration greater than 0, such as 10s, 1m30s or 500ms",
            id="a number that no float holds",
        ),
        pytest.param(
            "a." * 5000 + "b = 1",
            ":1:1: error: cannot read: longer than 4096 characters",
            id="a key that would take long",
        ),
        pytest.param(
            "x = " + "[\n" * 5000,
            ": error: not TOML: a number is too long, or values are nested too deeply",
            id="brackets that exhaust the stack",
        ),
        pytest.param(
            "# long\n" * 50_000, ": error: cannot read: larger than 256 KiB", id="too large"
        ),
        pytest.param(
            'pass-env = ["A=B"]',
            ':1:1: error: pass-env: must be a list of names, such as ["HTTP_PROXY"]',
            id="no variable has such a name",
        ),
    ],
)
def test_no_podvisor_toml_is_too_much(text: str, problem: str) -> None:
    write("podvisor.toml", text)
    assert problems(write("pod.yaml", GOOD.replace("NAME", "web"))) == ["podvisor.toml" + problem]


def test_a_fifo_named_podvisor_toml_is_not_waited_for() -> None:
    os.mkfifo("podvisor.toml")
    assert problems(write("pod.yaml", GOOD.replace("NAME", "web"))) == [
        "podvisor.toml: error: cannot read: not a regular file"
    ]


def test_a_byte_order_mark_is_no_part_of_podvisor_toml() -> None:
    write("podvisor.toml", "\ufeffpass-env = []\n")
    assert problems(write("pod.yaml", GOOD.replace("NAME", "web"))) == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10.0), ("1m30s", 90.0), ("500ms", 0.5), ("1.5h", 5400.0), ("2", 2.0), ("0.5", 0.5)],
)
def test_durations(text: str, seconds: float) -> None:
    assert manifests.duration("--x", text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1s", "1d", "s", "1s2", "inf", "1 s", "0s"])
def test_what_is_no_duration_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match=r"^cannot use .*: must be a duration greater than 0"):
        manifests.duration("--x", text)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_a_problem() -> None:
    name = write("pod.yaml", GOOD)
    Path(name).chmod(0)
    assert problems(name) == ["pod.yaml: error: cannot read: Permission denied"]


# --- podvisor fields ---------------------------------------------------------------------------


def test_fields_are_columns(capsys: pytest.CaptureFixture[str]) -> None:
    fields.command("spec.os")
    assert capsys.readouterr().out.splitlines() == [
        "FIELD                  SUPPORT   NOTE",
        "spec.os                honoured",
        "spec.os.name           honoured",
        "spec.os.name: windows  refused   containers are Linux processes",
    ]


def test_fields_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    fields.command("spec.nodeSelector", fields.Output.JSON)
    assert json.loads(capsys.readouterr().out) == [
        {"path": "spec.nodeSelector", "support": "ignored", "note": "there is one node"}
    ]


def test_an_unknown_field_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as leaving:
        fields.command("spec.nodeSelektor")
    assert leaving.value.exit_code == 2
    assert capsys.readouterr().err == (
        "podvisor: cannot list spec.nodeSelektor: a Pod has no such field\n"
    )


# --- other kinds -------------------------------------------------------------------------------

DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME}
spec:
  replicas: 2
  selector: {matchLabels: {app: x}}
  template:
    metadata: {labels: {app: x}}
    spec:
      containers:
      - name: a
        command: ["true"]
"""


def test_a_workload_is_a_pod_of_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(write("web.yaml", DEPLOYMENT.replace("NAME", "web"))) == 0
    out, err = capsys.readouterr()
    assert out == "web.yaml: pod default/web is valid\n"
    assert err.splitlines() == [
        "web.yaml:5:3: warning: spec.replicas is ignored: the pod template runs once, as one pod",
        "1 warning",
    ]


CRON_JOB = """\
apiVersion: batch/v1
kind: CronJob
metadata: {name: NAME}
spec:
  schedule: 0 3 * * *
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers:
          - name: b
            command: ["true"]
"""


def pods(*paths: str, **more: Any) -> list[str]:
    loaded = manifests.load(list(paths), **more)
    assert not manifests.refused(loaded.problems), loaded.problems
    return [home.pod.metadata.name for home in loaded.pods]


def warned(*paths: str) -> list[str]:
    return [p for p in problems(*paths) if "is also that of" in p]


def test_workloads_of_one_name_have_pods_with_their_kind_in_the_name() -> None:
    """In any order, and in one file or two."""
    web, cron = named(DEPLOYMENT, "web"), named(CRON_JOB, "web")
    one = write("a.yaml", f"{web}---\n{cron}")
    other = write("b.yaml", f"{cron}---\n{web}")
    assert pods(one) == ["web-deployment", "web-cronjob"]
    assert pods(other) == ["web-cronjob", "web-deployment"]
    assert warned(one) == [
        "a.yaml:3:12: warning: metadata.name is also that of a CronJob: "
        "this Deployment runs as pod web-deployment",
        "a.yaml:16:12: warning: metadata.name is also that of a Deployment: "
        "this CronJob runs as pod web-cronjob",
    ]
    two = write("web.yaml", web), write("cron.yaml", cron)
    assert pods(*two) == pods(*reversed(two))[::-1] == ["web-deployment", "web-cronjob"]
    assert [text.split(":")[0] for text in warned(*two)] == ["web.yaml", "cron.yaml"]
    elsewhere = write("else.yaml", named(CRON_JOB, "web, namespace: jobs"))
    assert pods(two[0], elsewhere) == ["web", "web"]
    assert warned(two[0], elsewhere) == []


def test_a_bare_pod_keeps_its_name_beside_a_workload() -> None:
    files = write("web.yaml", named(DEPLOYMENT, "web")), write("pod.yaml", named(GOOD, "web"))
    assert pods(*files) == ["web-deployment", "web"]
    assert warned(*files) == [
        "web.yaml:3:12: warning: metadata.name is also that of a Pod: "
        "this Deployment runs as pod web-deployment"
    ]


def test_a_name_with_its_kind_can_be_taken_or_too_long() -> None:
    both = named(DEPLOYMENT, "web") + "---\n" + named(CRON_JOB, "web")
    third = write("third.yaml", named(GOOD, "web-cronjob") + "---\n" + both)
    assert problems(third)[-1] == (
        'third.yaml:25:18: error: metadata.name: Duplicate value: "web-cronjob": '
        "another pod has that name"
    )
    long = "a" * 250
    said = problems(write("long.yaml", both.replace("web", long)))
    found = next(text for text in said if "error" in text)
    assert found.startswith('long.yaml:3:18: error: metadata.name: Invalid value: "aaa')
    assert "must be no more than 253 characters" in found


def test_two_workloads_of_one_kind_and_name_are_refused() -> None:
    found = problems(write("web.yaml", "---\n".join([named(DEPLOYMENT, "web")] * 2)))
    assert [text for text in found if "error" in text] == [
        'web.yaml:16:18: error: metadata.name: Duplicate value: "web": '
        "namespace default has it from web.yaml:3 already"
    ]


def test_what_is_left_out_changes_no_name_and_is_named_by_it() -> None:
    both = write("web.yaml", named(DEPLOYMENT, "web") + "---\n" + named(CRON_JOB, "web"))
    for words, left in (
        (("web-cronjob/b",), ["web-cronjob"]),
        (("default/web-deployment/a",), ["web-deployment"]),
        (("web/b",), ["web-cronjob"]),
    ):
        assert pods(both, select=selection.Selection(words).admit) == left


def test_what_this_user_cannot_have_is_found_in_a_template() -> None:
    text = DEPLOYMENT.replace("NAME", "web") + "      securityContext: {runAsUser: 1000}\n"
    found = problems(write("web.yaml", text), ids=manifests.Ids(7, 8, ()))
    assert found[1].startswith(
        "web.yaml:13:36: error: spec.template.spec.securityContext.runAsUser: Invalid value: 1000"
    )


def hooked(occasions: str, text: str = GOOD, name: str = "web") -> str:
    annotated = f"  name: {name}\n  annotations:\n    helm.sh/hook: {occasions}\n"
    return text.replace("  name: NAME\n", annotated)


def test_a_hook_of_a_chart_starts_with_everything_and_says_so() -> None:
    file = write("hook.yaml", hooked("post-install,post-upgrade"))
    assert pods(file) == ["web"]
    assert problems(file) == [
        "hook.yaml:6:5: warning: metadata.annotations[helm.sh/hook] is ignored: helm runs this Pod "
        "at post-install, post-upgrade, here it starts with everything else"
    ]
    assert problems(write("none.yaml", hooked('""'))) == []


@pytest.mark.parametrize("occasion", ["test", "test-success", "pre-delete", "post-rollback"])
def test_a_hook_that_no_install_runs_is_left_out(
    occasion: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever it holds, and without taking a name from anybody."""
    broken = hooked(occasion).replace("command", "comand")
    both = named(GOOD, "web") + "---\n" + broken + "---\n" + hooked(f'"{occasion}"')
    assert run(write("all.yaml", both)) == 0
    out, err = capsys.readouterr()
    assert out == "all.yaml: pod default/web is valid\n"
    assert err.splitlines() == [
        f"all.yaml:{line}:5: warning: metadata.annotations[helm.sh/hook] leaves this Pod out: "
        f"helm does not run it at an install, only at {occasion}"
        for line in (15, 26)
    ] + ["2 warnings"]


SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: NAME}\nspec: {ports: [{port: 80}]}\n"
CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: NAME}\ndata: {a: b}\n"
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: NAME}\nstringData: {a: hunter2}\n"


def named(text: str, name: str) -> str:
    return text.replace("NAME", name)


def rendered() -> str:
    """What a chart's rendering looks like."""
    account = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: web}\n"
    custom = "apiVersion: batch.volcano.sh/v1alpha1\nkind: Job\nmetadata: {name: x}\n"
    return (
        "---\n---\n# Source: shop/templates/account.yaml\n"
        + account
        + "---\n# Source: shop/templates/empty.yaml\n---\nnull\n---\n"
        + named(SERVICE, "web")
        + "---\n"
        + named(SERVICE, "db")
        + "---\n# Source: shop/templates/web.yaml\n"
        + named(DEPLOYMENT, "web").replace("replicas: 2", "replicas: 1")
        + "---\n"
        + named(SECRET, "s")
        + "---\n"
        + custom
        + "---\n"
        + named(CONFIG, "c")
        + "---\n"
    )


def test_other_kinds_beside_a_workload_are_skipped_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(write("all.yaml", rendered())) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "all.yaml: pod default/web is valid",
        "all.yaml: ConfigMap default/c is valid",
        "all.yaml: Secret default/s is valid",
    ]
    assert err.splitlines() == [
        "all.yaml:5:1: warning: skipped, since only pods and workloads are run: "
        "ServiceAccount web; Service web, db; Job x",
        "1 warning",
    ]


def test_strict_refuses_other_kinds() -> None:
    found = problems(write("all.yaml", rendered()), strict=True)
    assert [line.partition(" is not run")[0] for line in found] == [
        "all.yaml:5:1: error: kind ServiceAccount",
        "all.yaml:13:1: error: kind Service",
        "all.yaml:18:1: error: kind Service",
        "all.yaml:42:1: error: kind Job",
    ]


def test_what_is_run_is_looked_for_in_all_files() -> None:
    write("d/a-service.yaml", named(SERVICE, "web"))
    write("d/b-config.yaml", named(CONFIG, "c"))
    assert problems("d") == [
        "d/a-service.yaml:2:1: error: kind Service is not run here: only pods and workloads are"
    ]
    write("d/c-more.yaml", named(SERVICE, "db"))
    write("d/d-pod.yaml", named(GOOD, "web"))
    assert problems("d") == [
        "warning: skipped, since only pods and workloads are run: Service web, db"
    ]
    write("d/d-pod.yaml", named(GOOD, "web").replace("command", "comand"))
    assert len(problems("d")) == 2, "it is meant to be run, broken as it is"


def test_a_part_of_an_input_may_have_nothing_to_run() -> None:
    name = write("service.yaml", named(SERVICE, "web"))
    (found,) = problems(name, part=True)
    assert found.startswith("service.yaml:2:1: warning: skipped")
    (found,) = problems(name, part=True, strict=True)
    assert "error: kind Service is not run here" in found


def test_a_kind_that_is_only_written_wrongly_is_not_skipped() -> None:
    text = named(GOOD, "web") + "---\n" + named(DEPLOYMENT, "api").replace("Deploy", "deploy")
    (found,) = problems(write("pods.yaml", text))
    assert found == (
        'pods.yaml:11:7: error: kind: Unsupported value: "deployment": '
        'supported values: "Deployment"'
    )


def test_configuration_is_collected_in_any_order_and_decoded() -> None:
    items = "".join(
        "- " + text.replace("\n", "\n  ").rstrip() + "\n"
        for text in (named(SECRET, "s"), named(CONFIG, "c"))
    )
    listed = write("list.yaml", "apiVersion: v1\nkind: List\nitems:\n" + items)
    pods = write("pods.yaml", named(GOOD, "web"))
    binary = named(CONFIG, "d").replace("data: {a: b}", "binaryData: {a: /w==}")
    other = write("other.yaml", binary.replace("{name: d}", "{name: d, namespace: shop}"))
    loaded = manifests.load([listed, pods, other])
    assert loaded.problems == ()
    assert [each.metadata.name for each in loaded.config_maps] == ["c", "d"]
    configuration = loaded.configuration()
    assert configuration.config_maps == {
        ("default", "c"): {"a": b"b"},
        ("shop", "d"): {"a": b"\xff"},
    }
    assert configuration.secrets == {("default", "s"): {"a": b"hunter2"}}


def test_two_objects_of_one_kind_and_name_are_refused() -> None:
    text = "---\n".join([named(CONFIG, "x"), named(SECRET, "x"), named(CONFIG, "x")])
    assert problems(write("x.yaml", named(GOOD, "x") + "---\n" + text)) == [
        'x.yaml:22:18: error: metadata.name: Duplicate value: "x": '
        "namespace default has it from x.yaml:12 already"
    ]
