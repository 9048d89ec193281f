"""`podvisor get`: what is asked of a node, what is printed, and what is left without a node."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator

import anyio
import pytest
import yaml

from supervisor.cli import printing
from supervisor.kubelet.statedir import DurableStateDir
from supervisor.store.contract import Change
from supervisor.store.sqlite import SQLiteStore
from tests.cli.asked import Json, Said, podvisor, table
from tests.cli.test_status import AT, record
from tests.fake_api import Answer, Asked, FakeApi, answer, chunked, refusal

pytestmark = pytest.mark.usefixtures("nothing_left")

PODS = "/api/v1/namespaces/default/pods"
TWO = table(("web", "1/1", "Running", "127.0.0.1"), ("a-job", "0/1", "Completed", "127.0.0.1"))
POD: Json = {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "web"}, "spec": {"a": None}}

Get = Callable[..., Said]


@pytest.fixture
def api(tmp_path: pathlib.Path, nothing_left: None) -> Iterator[FakeApi]:
    answers: dict[str, Answer | Callable[[Asked], Answer]] = {
        f"GET {PODS}": answer(TWO),
        f"GET {PODS}/web": answer(POD),
        f"GET {PODS}/nope": refusal(404, "NotFound", 'pods "nope" not found'),
        "GET /api/v1/pods": answer(TWO),
    }
    with FakeApi(str(tmp_path), answers) as api:
        yield api


@pytest.fixture
def get(tmp_path: pathlib.Path) -> Get:
    return lambda *words: podvisor("get", *words, "--state-dir", str(tmp_path))


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (
            "pods",
            ["NAME    READY   STATUS", "web     1/1     Running", "a-job   0/1     Completed"],
        ),
        ("", ["NAME    READY   STATUS", "web     1/1     Running", "a-job   0/1     Completed"]),
        (
            "po --no-headers -o=wide -n=default",
            ["web     1/1   Running     127.0.0.1", "a-job   0/1   Completed   127.0.0.1"],
        ),
        (
            "po --no-headers=true -A=false --show-labels=false",
            ["web     1/1   Running", "a-job   0/1   Completed"],
        ),
        ("po --no-headers", ["web     1/1   Running", "a-job   0/1   Completed"]),
        (
            "pods -o wide",
            [
                "NAME    READY   STATUS      IP",
                "web     1/1     Running     127.0.0.1",
                "a-job   0/1     Completed   127.0.0.1",
            ],
        ),
        (
            "pods -A --no-headers",
            ["default   web     1/1   Running", "default   a-job   0/1   Completed"],
        ),
        (
            "pods --show-labels -L tier,nope --no-headers",
            [
                "web     1/1   Running     x     <none>   app=web,tier=x",
                "a-job   0/1   Completed   x     <none>   app=a-job,tier=x",
            ],
        ),
    ],
)
def test_tables_are_printed_as_kubectl_prints_them(
    api: FakeApi, get: Get, words: str, printed: list[str]
) -> None:
    said = get(*words.split())
    assert (said.code, said.err) == (0, "")
    assert said.lines == printed


def test_selectors_are_the_nodes_to_apply(api: FakeApi, get: Get) -> None:
    get("pods", "-l", "app in (a,b)", "--field-selector", "status.phase!=Failed", "-A")
    (asked,) = api.asked
    assert asked.target == (
        "/api/v1/pods?labelSelector=app%20in%20%28a%2Cb%29&fieldSelector=status.phase%21%3DFailed"
    )
    assert asked.headers["accept"].startswith("application/json;as=Table;v=v1;g=meta.k8s.io")


def test_an_empty_list_is_said_and_is_no_error(api: FakeApi, get: Get) -> None:
    api.answers[f"GET {PODS}"] = answer(table())
    assert get("pods") == Said(0, "", "No resources found in default namespace.\n")
    api.answers["GET /api/v1/pods"] = answer(table())
    assert get("pods", "-A") == Said(0, "", "No resources found\n")


def test_what_is_not_there_does_not_hide_the_rest(api: FakeApi, get: Get) -> None:
    said = get("pod/web", "pod/nope", "-o", "name")
    missing = 'Error from server (NotFound): pods "nope" not found\n'
    assert said == Said(1, "pod/web\n", missing)
    assert get("pod", "nope", "--ignore-not-found") == Said(0, "", "")


def test_what_manifests_describe_is_shown_in_their_namespaces(
    api: FakeApi, get: Get, tmp_path: pathlib.Path
) -> None:
    manifests = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "db", "namespace": "shop"}},
    ]
    missing = refusal(404, "NotFound", 'pods "db" not found')
    api.answers["GET /api/v1/namespaces/shop/pods/db"] = missing
    file = tmp_path / "two.json"
    file.write_text(json.dumps({"kind": "List", "apiVersion": "v1", "items": manifests}))
    said = get("-f", str(file), "-o", "name")
    assert said.lines == ["pod/web"]
    assert said.code == 1
    assert [each.target for each in api.asked] == [f"{PODS}/web", "/api/v1/namespaces/shop/pods/db"]


def test_one_object_is_printed_as_itself_and_several_as_a_list(api: FakeApi, get: Get) -> None:
    assert json.loads(get("pod", "web", "-o", "json").out) == POD
    assert yaml.safe_load(get("pod/web", "-o", "yaml").out) == POD
    listed = {"items": [{"metadata": {"name": "web"}}], "metadata": {"resourceVersion": "7"}}
    api.answers[f"GET {PODS}"] = answer(listed)
    assert json.loads(get("pods", "-o", "json").out) == {
        "apiVersion": "v1",
        "kind": "List",
        "metadata": {"resourceVersion": ""},
        "items": [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}}],
    }


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        ("pod/web -o jsonpath={.metadata.name}", "web"),
        ("pods -o jsonpath={.items[*].metadata.name}", "b a"),
        ('pods -o jsonpath=first:{"\\t"}{.items[0].metadata.name}{"\\n"}', "first:\tb\n"),
        (
            "pods -o jsonpath={range|.items[*]}{.metadata.name}{'\\t'}{.n}{'\\n'}{end}.",
            "b\t2\na\t10\n.",
        ),
        (
            "pods -o custom-columns=N:.metadata.name,X:.x[*],Nr:.n",
            "N     X        Nr\nb     <none>   2\na     1,z      10\n",
        ),
        ("pods -o custom-columns=N:.metadata.name --no-headers", "b\na\n"),
        ("pods -o name --sort-by .metadata.name", "pod/a\npod/b\n"),
        ("pods -o name --sort-by {.n}", "pod/b\npod/a\n"),
    ],
)
def test_parts_of_objects_are_printed_and_their_order_is_chosen(
    api: FakeApi, get: Get, words: str, printed: str
) -> None:
    items = [
        {"metadata": {"name": "b"}, "n": 2},
        {"metadata": {"name": "a"}, "n": 10, "x": [1, "z"]},
    ]
    api.answers[f"GET {PODS}"] = answer({"items": items})
    assert get(*(word.replace("|", " ") for word in words.split())) == Said(0, printed, "")


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_who_has_set_which_field_is_shown_only_if_asked_for(
    api: FakeApi, get: Get, form: str
) -> None:
    meta = {"name": "web", "managedFields": [{"manager": "me"}]}
    api.answers[f"GET {PODS}/web"] = answer(POD | {"metadata": meta})
    assert yaml.safe_load(get("pod", "web", "-o", form).out) == POD
    shown = yaml.safe_load(get("pod", "web", "-o", form, "--show-managed-fields").out)
    assert shown["metadata"] == meta


def test_data_is_printed_in_kubectls_order_and_quotes(api: FakeApi, get: Get) -> None:
    data = {"b": "2026-01-02T03:04:05Z", "a": "", "on": "yes", "d": "1e3", "c": "a: b"}
    api.answers[f"GET {PODS}/web"] = answer({"metadata": data, "kind": "Pod"})
    assert get("pod", "web", "-o", "yaml").lines == [
        "kind: Pod",
        "metadata:",
        '  a: ""',
        '  b: "2026-01-02T03:04:05Z"',
        "  c: 'a: b'",
        '  d: "1e3"',
        '  "on": "yes"',
    ]


@pytest.mark.parametrize("words", ["get pods", "get pods -o yaml", "schema", "--version"])
def test_what_cannot_be_written_is_said_once_and_in_words(
    api: FakeApi, tmp_path: pathlib.Path, words: str
) -> None:
    place = ["--state-dir", str(tmp_path)] if words.startswith("get") else []
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "supervisor", *words.split(), *place],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    assert done.stderr == b"podvisor: cannot write: No space left on device\n"
    assert done.returncode == 141


def test_a_table_is_sorted_by_its_objects(api: FakeApi, get: Get) -> None:
    said = get("pods", "--sort-by", ".metadata.name", "--no-headers")
    assert [line.split()[0] for line in said.lines] == ["a-job", "web"]
    assert "includeObject=Object" in api.asked[0].target


@pytest.mark.parametrize("form", ["wide", "name"])
def test_a_field_that_nothing_has_is_no_order(api: FakeApi, get: Get, form: str) -> None:
    items = [{"metadata": {"name": "b"}}]
    if form == "name":
        api.answers[f"GET {PODS}"] = answer({"items": items})
    said = get("pods", "-o", form, "--sort-by", ".status.strat")
    assert (said.code, said.out) == (2, "")
    assert "cannot sort by .status.strat: none of these has such a field" in said.err
    api.answers[f"GET {PODS}"] = answer({"items": []})
    assert get("pods", "-o", form, "--sort-by", ".status.strat").code == 0


def test_asking_for_pods_loads_nothing_heavy(api: FakeApi, tmp_path: pathlib.Path) -> None:
    """Start-up time is felt at every call; typer's own is the greater part."""
    code = (
        "import sys; from supervisor import cli\n"
        f"sys.argv = ['podvisor', 'get', 'pods', '--state-dir', {str(tmp_path)!r}]\n"
        "assert vars(cli)['_guarded']() == 0\n"
        "heavy = {'asyncio', 'anyio', 'aiohttp', 'sqlite3', 'ssl', 'yaml', 'http.client'}\n"
        "heavy |= {'supervisor.api.v1', 'supervisor.lifecycle.record', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=90, check=True
    )
    assert done.stderr == "[]\n"


def test_a_watch_goes_on_where_the_list_ended_and_again_when_that_is_too_old(
    api: FakeApi, get: Get
) -> None:
    def event(type: str, object: Json) -> bytes:
        return json.dumps({"type": type, "object": object}).encode() + b"\n"

    changed = table(("web", "1/1", "Terminating", "127.0.0.1")) | {"columnDefinitions": None}
    expired = {"kind": "Status", "reason": "Expired", "message": "too old", "code": 410}
    forbidden = {"kind": "Status", "reason": "Forbidden", "message": "enough", "code": 403}
    api.answers[f"GET {PODS}?watch=true&resourceVersion=7"] = chunked(event("MODIFIED", changed))
    again = iter([chunked(event("ERROR", expired)), chunked(event("ERROR", forbidden))])
    api.answers[f"GET {PODS}?watch=true&resourceVersion=10"] = lambda _: next(again)
    newer = iter([answer(TWO), answer(TWO | {"metadata": {"resourceVersion": "10"}})])
    api.answers[f"GET {PODS}"] = lambda _: next(newer)
    said = get("pods", "-w", "--no-headers")
    assert (said.code, said.err) == (1, "Error from server (Forbidden): enough\n")
    assert said.lines == [
        "web     1/1   Running",
        "a-job   0/1   Completed",
        "web     1/1   Terminating",
        "web     1/1   Running",
        "a-job   0/1   Completed",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("pod/web nope", "cannot tell what nope is"),
        ("pods -f x.yaml", "cannot use -f together with a TYPE, a selector or -A"),
        ("-f x.yaml -l a=b", "cannot use -f together with a TYPE, a selector or -A"),
        ("pods web -A", "cannot look for a name in all namespaces"),
        ("pods web -l app=web", "cannot select by labels or fields what is named already"),
        ("pods web db -w", "cannot watch several names at once"),
        ("pods -o xml", "cannot use -o xml: there is wide, json, yaml, name, jsonpath=TEMPLATE"),
        ("pods -o wide=1", "cannot use -o wide=1"),
        ("pods -o custom-columns=a", "cannot read the column 'a': say HEADING:PATH"),
        ("pods -o jsonpath={range|.items[*]}x", "a {range …} has no {end}"),
        ("pods -o jsonpath={.a", "cannot read the JSONPath"),
        ("pods -w --sort-by .a", "cannot watch in an order"),
    ],
)
def test_what_does_not_go_together_is_refused(
    api: FakeApi, get: Get, words: str, message: str
) -> None:
    said = get(*(word.replace("|", " ") for word in words.split()))
    assert said.code == 2
    assert message in said.err
    assert api.asked == []


def test_of_a_dead_node_pods_that_had_not_ended_are_unknown(
    tmp_path: pathlib.Path, get: Get
) -> None:
    async def fill() -> None:
        async with SQLiteStore(state.database) as store:
            for pod in (record("web", "Running"), record("job", "Failed")):
                await store.commit(Change(at=AT, uid=pod.pod.metadata.uid, record=pod))

    with DurableStateDir(str(tmp_path)) as state:
        state.note_command(["podvisor", "serve", "pod.yaml"], "/srv")
        anyio.run(fill)
    said = get("po")
    assert said.code == 4
    assert [line.split()[:3] for line in said.lines] == [
        ["NAME", "READY", "STATUS"],
        ["job", "0/2", "Init:Error"],
        ["web", "0/2", "Unknown"],
    ]
    assert said.err == (
        f"podvisor: cannot reach a node: none runs on {tmp_path}; "
        "start it with: cd /srv && podvisor serve pod.yaml\n"
    )
    assert get("pods", "--field-selector", "status.phase=Unknown", "-o", "name").lines == [
        "pod/web"
    ]
    assert get("pod", "nope").err.startswith('Error from server (NotFound): pods "nope" not found')


def test_where_no_node_has_ever_been_the_way_to_one_is_said(get: Get) -> None:
    said = get("pods")
    assert said.code == 4
    assert said.out == ""
    assert "none has ever run" in said.err
    assert "podvisor up FILE" in said.err


def test_what_others_wrote_cannot_take_over_a_terminal() -> None:
    assert printing.cell("a\x1b[31mred\nsecond") == "a^[[31mred..."
    assert printing.shown("tab\tbell\x07\x9b") == "tab\tbell^G^["


def test_columns_end_where_lines_do_not_have_them() -> None:
    lines = [["Name:", "x"], ["Containers:"], ["  a:", "b", "c"], ["  long:", "bb", "c"]]
    assert printing.align(lines).splitlines() == [
        "Name:  x",
        "Containers:",
        "  a:     b   c",
        "  long:  bb  c",
    ]
