"""The commands that change what a node has, against prepared answers: what they ask and say.

What becomes of it on a real node is in test_up.py.
"""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable, Iterator

import pytest
import typer

from supervisor.cli import apply, condition, delete, down, jsonpath, kubeconfig, restart, wait
from supervisor.errors import ManifestError, NodeError, StatusError, UsageError
from tests.fake_api import Answer, Asked, FakeApi, answer, chunked, refusal

pytestmark = pytest.mark.usefixtures("nothing_left")

PODS = "/api/v1/namespaces/default/pods"
WEB = f"{PODS}/web"

Serve = Callable[..., FakeApi]


@pytest.fixture
def place(tmp_path: pathlib.Path) -> str:
    return str(tmp_path)


@pytest.fixture
def serve(place: str) -> Iterator[Serve]:
    served: list[FakeApi] = []

    def start(answers: dict[str, Answer | Callable[[Asked], Answer]]) -> FakeApi:
        api = FakeApi(place, answers)
        served.append(api.__enter__())
        return api

    yield start
    for api in served:
        api.__exit__()


def pod(version: str = "1", uid: str = "u", **more: object) -> dict[str, object]:
    meta = {"name": "web", "namespace": "default", "uid": uid, "resourceVersion": version}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {}, "status": {}, **more}


def pods(*items: object) -> list[bytes]:
    return answer({"kind": "PodList", "metadata": {"resourceVersion": "9"}, "items": list(items)})


def said(type: str, object: object) -> bytes:
    return json.dumps({"type": type, "object": object}).encode() + b"\n"


def not_found(name: str = "web") -> list[bytes]:
    return refusal(404, "NotFound", f'pods "{name}" not found', name=name, kind="pods")


def code_of(call: Callable[[], None]) -> int:
    with pytest.raises(typer.Exit) as exit:
        call()
    return int(exit.value.exit_code)


# --- apply ---------------------------------------------------------------------------------------

MANIFEST = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {}}
OUTCOMES = {
    "created": (not_found(), pod("1"), 201),
    "configured": (answer(pod("1")), pod("2"), 200),
    "unchanged": (answer(pod("1")), pod("1"), 200),
}


@pytest.mark.parametrize("word", OUTCOMES)
def test_apply_says_what_has_become_of_each_object(
    serve: Serve, place: str, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    before, after, code = OUTCOMES[word]
    api = serve({f"GET {WEB}": before, f"PATCH {WEB}": answer(after, code)})
    file = os.path.join(place, "web.json")
    pathlib.Path(file).write_text(json.dumps(MANIFEST))
    apply.command(filename=[file], state_dir=place)
    assert capsys.readouterr().out == f"pod/web {word}\n"
    sent = api.asked[-1]
    assert sent.headers["content-type"] == "application/apply-patch+yaml"
    assert sent.json["metadata"]["annotations"] == {
        "podvisor/source": file,
        "kubernetes.io/config.source": "api",
    }


def test_apply_goes_on_after_a_refusal_and_ends_with_its_code(
    serve: Serve, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {**MANIFEST, "metadata": {"name": "db"}}
    causes = [{"field": "spec.x", "message": "Required value", "reason": "FieldValueRequired"}]
    serve(
        {
            f"GET {WEB}": not_found(),
            f"PATCH {WEB}": refusal(422, "Invalid", "", kind="Pod", name="web", causes=causes),
            f"GET {PODS}/db": not_found("db"),
            f"PATCH {PODS}/db": answer(pod(), 201),
        }
    )
    file = os.path.join(place, "two.json")
    pathlib.Path(file).write_text(json.dumps({"kind": "List", "items": [MANIFEST, other]}))
    assert code_of(lambda: apply.command(filename=[file], state_dir=place)) == 3
    out, err = capsys.readouterr()
    assert out == "pod/db created\n"
    assert err == f"{file}:1:101: error: items[0].spec.x: Required value\n"


_FAULTY = """\
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {good.example/a: b}
spec:
  contaners: []
  containers:
  - name: main
    command: sleep 5
"""


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        (
            refusal(400, "BadRequest", "the first fault"),
            [
                "7:3: error: spec.contaners: Unknown field (did you mean containers?)",
                "10:14: error: spec.containers[0].command: Invalid value: "
                '"sleep 5": must be a list of strings, such as ["sleep","5"]',
            ],
        ),
        (
            refusal(
                422,
                "Invalid",
                "all of them",
                causes=[
                    {"field": "spec.containers[0].name", "message": 'Invalid value: "main": no'},
                    {"field": "metadata.labels[good.example/a]", "message": "Too long: so long"},
                    {"field": "spec.contaners", "message": "Forbidden: not here"},
                ],
            ),
            [
                "5:28: error: metadata.labels[good.example/a]: Too long: so long",
                "7:3: error: spec.contaners: Forbidden: not here",
                '9:11: error: spec.containers[0].name: Invalid value: "main": no',
            ],
        ),
    ],
    ids=["unreadable", "invalid"],
)
def test_apply_says_where_the_faults_stand(
    serve: Serve, place: str, capsys: pytest.CaptureFixture[str], refused: Answer, told: list[str]
) -> None:
    serve({f"GET {WEB}": not_found(), f"PATCH {WEB}": refused})
    file = os.path.join(place, "web.yaml")
    pathlib.Path(file).write_text(_FAULTY)
    assert code_of(lambda: apply.command(filename=[file], state_dir=place)) == 3
    assert capsys.readouterr().err.splitlines() == [f"{file}:{line}" for line in told]


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        (refusal(400, "BadRequest", "not so"), "Error from server (BadRequest): not so"),
        (
            refusal(
                422, "Invalid", "x", kind="Pod", name="web",
                causes=[{"field": "spec", "message": "Forbidden: two\nlines"}],
            ),
            'The Pod "web" is invalid: spec: Forbidden: two',
        ),
    ],
    ids=["not in the file, of which a part is enough", "more than a line"],
)  # fmt: skip
def test_apply_repeats_what_only_the_node_can_say(
    serve: Serve, place: str, capsys: pytest.CaptureFixture[str], refused: Answer, told: str
) -> None:
    serve({f"GET {WEB}": not_found(), f"PATCH {WEB}": refused})
    file = os.path.join(place, "web.json")
    pathlib.Path(file).write_text(json.dumps(MANIFEST))
    assert code_of(lambda: apply.command(filename=[file], state_dir=place)) == 3
    assert capsys.readouterr().err.startswith(f"{file}: {told}")


def test_apply_says_how_to_take_over_what_another_manager_has_set(
    serve: Serve, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    why = 'Apply failed with 1 conflict: conflict with "kubectl": .metadata.labels.app'
    causes = [{"reason": "FieldManagerConflict", "message": "", "field": ".metadata.labels.app"}]
    api = serve(
        {
            f"GET {WEB}": answer(pod()),
            f"PATCH {WEB}": refusal(409, "Conflict", why, causes=causes),
        }
    )
    file = os.path.join(place, "web.json")
    pathlib.Path(file).write_text(json.dumps(MANIFEST))
    assert code_of(lambda: apply.command(filename=[file], state_dir=place)) == 1
    said = f"{file}: error: {why}; --force-conflicts takes these fields over\n"
    assert capsys.readouterr().err == said
    with pytest.raises(typer.Exit):
        apply.command(filename=[file], force_conflicts=True, state_dir=place)
    assert [asked.target[-10:] for asked in api.asked[1::2]] == ["orce=false", "force=true"]


@pytest.mark.parametrize(
    ("managers", "asked"),
    [
        (["podvisor"], ["orce=false", "force=true"]),  # `up` has created it
        (["podvisor", "kubectl"], ["orce=false"]),
        (["podvisors"], ["orce=false"]),
    ],
)
def test_apply_takes_over_what_our_own_commands_have_set_and_nothing_else(
    serve: Serve, place: str, managers: list[str], asked: list[str]
) -> None:
    causes = [
        {"reason": "FieldManagerConflict", "message": f'conflict with "{each}" using v1'}
        for each in managers
    ]
    api = serve(
        {
            f"GET {WEB}": answer(pod()),
            f"PATCH {WEB}": refusal(409, "Conflict", "1 conflict", causes=causes),
        }
    )
    file = os.path.join(place, "web.json")
    pathlib.Path(file).write_text(json.dumps(MANIFEST))
    assert code_of(lambda: apply.command(filename=[file], state_dir=place)) == 1
    assert [each.target[-10:] for each in api.asked if each.method == "PATCH"] == asked


def test_apply_asks_nothing_when_a_file_is_broken(
    serve: Serve, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    api = serve({})
    good, bad = os.path.join(place, "a.json"), os.path.join(place, "b.json")
    pathlib.Path(good).write_text(json.dumps(MANIFEST))
    pathlib.Path(bad).write_text('{"kind": "Pod"}')
    with pytest.raises(ManifestError, match="1 error"):
        apply.command(filename=[good, bad, "nowhere.yaml"][:2], state_dir=place)
    assert "b.json" in capsys.readouterr().err
    assert not api.asked


def test_apply_reads_folders_and_the_folders_in_them(
    serve: Serve, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    serve({f"GET {WEB}": not_found(), f"GET {PODS}/db": not_found("db")})
    inside = pathlib.Path(place, "deploy", "base")
    inside.mkdir(parents=True)
    (inside.parent / "web.json").write_text(json.dumps(MANIFEST))
    (inside / "db.yaml").write_text("{apiVersion: v1, kind: Pod, metadata: {name: db}}")
    folder = str(inside.parent)
    apply.command(filename=[folder], recursive=True, dry_run=apply.DryRun.CLIENT, state_dir=place)
    assert capsys.readouterr().out == "pod/web created (dry run)\npod/db created (dry run)\n"


# --- delete --------------------------------------------------------------------------------------


def test_delete_returns_when_the_object_is_gone(
    serve: Serve, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    left = [pod()]

    def watch(_: Asked) -> Answer:
        left.clear()
        return chunked(said("MODIFIED", pod()), said("DELETED", pod(uid="another one of its name")))

    api = serve(
        {
            f"DELETE {WEB}": answer(pod()),
            f"GET {PODS}?fieldSelector=metadata.name%3Dweb": lambda _: pods(*left),
            f"GET {PODS}": watch,
        }
    )
    delete.command(what=["pod", "web"], state_dir=place)
    assert capsys.readouterr().out == 'pod "web" deleted\n'
    assert api.asked[0].json["propagationPolicy"] == "Background"
    assert "gracePeriodSeconds" not in api.asked[0].json
    # Nobody has its name but it: that another one goes means that it is gone.
    assert ["watch=true" in asked.target for asked in api.asked[1:]] == [False, True]


@pytest.mark.parametrize(
    ("how", "grace"), [({"now": True}, 1), ({"force": True}, 0), ({"grace_period": 7}, 7)]
)
def test_delete_passes_the_grace_on(
    serve: Serve, place: str, how: dict[str, object], grace: int
) -> None:
    api = serve({f"DELETE {WEB}": answer(pod())})
    delete.command(what=["pod/web"], wait=False, state_dir=place, **how)  # type: ignore[arg-type]
    assert api.asked[0].json["gracePeriodSeconds"] == grace


def test_delete_says_each_refusal_and_deletes_the_rest(
    serve: Serve, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    serve({f"DELETE {PODS}/no": not_found("no"), f"DELETE {WEB}": answer(pod())})
    what = ["pods", "no", "web"]
    assert code_of(lambda: delete.command(what=what, wait=False, state_dir=place)) == 1
    out, err = capsys.readouterr()
    assert (out, err) == (
        'pod "web" deleted\n',
        'Error from server (NotFound): pods "no" not found\n',
    )
    delete.command(what=["pods", "no"], ignore_not_found=True, wait=False, state_dir=place)
    assert capsys.readouterr().err == ""


WRONG_DELETES: dict[str, dict[str, object]] = {
    "nothing": {},
    "no name": {"what": ["pods"]},
    "a name and --all": {"what": ["pods", "web"], "all": True},
    "a file and a type": {"what": ["pods"], "filename": ["x.yaml"]},
    "two graces": {"what": ["pods", "web"], "now": True, "grace_period": 3},
    "force with a grace": {"what": ["pods", "web"], "force": True, "grace_period": 3},
}


@pytest.mark.parametrize("given", WRONG_DELETES.values(), ids=WRONG_DELETES)
def test_delete_refuses_what_is_not_clear(
    serve: Serve, place: str, given: dict[str, object]
) -> None:
    api = serve({})
    with pytest.raises(UsageError, match="cannot"):
        delete.command(**given, state_dir=place)  # type: ignore[arg-type]
    assert not api.asked


def test_down_deletes_the_pods_of_all_namespaces(
    serve: Serve, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    left = [pod()]

    def end(_: Asked) -> Answer:
        left.clear()
        return answer(pod())

    serve(
        {
            "GET /api/v1/pods": lambda _: pods(*left),
            f"DELETE {WEB}": end,
            f"GET {PODS}": lambda _: pods(*left),
        }
    )
    down.command(state_dir=place)
    assert capsys.readouterr().out == 'pod "web" deleted\n'


# --- wait ----------------------------------------------------------------------------------------


def with_condition(type: str, status: str) -> dict[str, object]:
    return pod(status={"phase": "Running", "conditions": [{"type": type, "status": status}]})


MET = {
    "condition=Ready": with_condition("Ready", "True"),
    "condition=ready=false": with_condition("Ready", "False"),
    "jsonpath={.status.phase}=Running": with_condition("Ready", "True"),
    "jsonpath={.status.phase}": with_condition("Ready", "True"),
    'jsonpath={.status.conditions[?(@.type=="Ready")].status}=True': with_condition(
        "Ready", "True"
    ),
    "create": pod(),
}


@pytest.mark.parametrize("condition", MET)
def test_wait_returns_once_a_change_makes_it_so(
    serve: Serve, place: str, capsys: pytest.CaptureFixture[str], condition: str
) -> None:
    first = [] if condition == "create" else [pod()]
    serve(
        {
            f"GET {PODS}?fieldSelector=metadata.name%3Dweb": pods(*first),
            f"GET {PODS}": chunked(said("MODIFIED", MET[condition]), ended=False),
        }
    )
    wait.command(what=["pod/web"], condition=condition, state_dir=place)
    assert capsys.readouterr().out == "pod/web condition met\n"


def test_wait_for_what_is_so_already_does_not_wait(serve: Serve, place: str) -> None:
    api = serve({f"GET {PODS}": pods(with_condition("Ready", "True"))})
    wait.command(what=["pod/web"], condition="condition=Ready", timeout="0", state_dir=place)
    assert len(api.asked) == 1


def test_wait_is_for_what_a_file_describes(
    serve: Serve, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    api = serve({f"GET {PODS}": pods(with_condition("Ready", "True"))})
    file = os.path.join(place, "web.json")
    pathlib.Path(file).write_text(json.dumps(MANIFEST))
    wait.command(filename=[file], condition="condition=Ready", state_dir=place)
    assert "metadata.name%3Dweb" in api.asked[0].target
    assert capsys.readouterr().out == "pod/web condition met\n"
    with pytest.raises(UsageError, match="cannot use -f together"):
        wait.command(filename=[file], what=["pods"], condition="delete", state_dir=place)
    with pytest.raises(UsageError, match="cannot wait for nothing"):
        wait.command(condition="delete", state_dir=place)


def test_wait_says_what_was_not_so_in_time(
    serve: Serve, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    serve({f"GET {PODS}": pods(pod())})
    call = lambda: wait.command(  # noqa: E731
        what=["pod/web"], condition="condition=Ready", timeout="0s", state_dir=place
    )
    assert code_of(call) == 1
    said = "error: timed out waiting for the condition on pods/web\n"
    assert capsys.readouterr().err == said


def test_wait_for_a_pod_that_is_not_there_fails_unless_its_end_is_awaited(
    serve: Serve, place: str
) -> None:
    serve({f"GET {PODS}": pods(), f"GET {WEB}": not_found()})
    with pytest.raises(StatusError, match='pods "web" not found'):
        wait.command(what=["pod/web"], condition="condition=Ready", state_dir=place)
    wait.command(what=["pod/web"], condition="delete", state_dir=place)


@pytest.mark.parametrize("condition", ["", "condition=", "Ready", "jsonpath=", "jsonpath={.a"])
def test_wait_refuses_what_is_no_condition(place: str, condition: str) -> None:
    with pytest.raises(UsageError, match="cannot"):
        wait.command(what=["pod/web"], condition=condition, state_dir=place)


OBJECT = {
    "a": {"b.c": 1, "list": [{"n": "x", "v": True}, {"n": "y", "v": [1, 2]}]},
    "text": "t",
    "sizes": [{"of": {"web": size}} for size in (9, 10, 9000)],
}
PATHS = {
    "{.text}": ["t"],
    "text": ["t"],
    "{.a['b.c']}": [1],
    "{.a.b\\.c}": [1],
    "{.a.list[0].n}": ["x"],
    "{.a.list[-1].n}": ["y"],
    "{.a.list[*].n}": ["x", "y"],
    '{.a.list[?(@.n=="y")].v}': [[1, 2]],
    "{.a.list[?(@.n!='y')].v}": [True],
    "{.a.list[7]}": [],
    "{.a.list[1:].n}": ["y"],
    "{.a.list[:-1].n}": ["x"],
    "{.a.list[?(@.v)].n}": ["x", "y"],
    '{.a.list[?(@.v[0]==1)]["n"]}': ["y"],
    "{.sizes[?(@.of.web >= 10)].of.web}": [10, 9000],
    "{.sizes.*.of.web}": [9, 10, 9000],
    "{.nothing.at.all}": [],
}


@pytest.mark.parametrize("path", PATHS)
def test_a_jsonpath_finds_what_it_means(path: str) -> None:
    assert jsonpath.JSONPath(path).find(OBJECT) == PATHS[path]


@pytest.mark.parametrize("path", ["", "{}", "{.a", ".a}", "{.a[}", "{.a[?(1)]}", "{range .a}"])
def test_a_text_that_is_no_jsonpath_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match="JSONPath"):
        jsonpath.JSONPath(path)


# --- condition, restart, kubeconfig --------------------------------------------------------------


def test_condition_sets_what_a_readiness_gate_waits_for(
    serve: Serve, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = {"readinessGates": [{"conditionType": "a.b/warm"}]}
    api = serve({f"GET {WEB}": answer(pod(spec=spec)), f"PATCH {WEB}/status": answer(pod())})
    condition.command("web", ["a.b/warm=true"], reason="Hot", state_dir=place)
    out, err = capsys.readouterr()
    assert (out, err) == ("pod/web condition a.b/warm=True\n", "")
    (sent,) = api.asked[-1].json["status"]["conditions"]
    assert (sent["type"], sent["status"], sent["reason"]) == ("a.b/warm", "True", "Hot")
    condition.command("pod/web", ["other=False"], state_dir=place)
    assert "no readiness gate of pod web waits for other" in capsys.readouterr().err


@pytest.mark.parametrize(
    "word", ["Ready=True", "PodHasNetwork=True", "warm", "warm=maybe", "=True", "a b=True"]
)
def test_condition_refuses_what_the_node_says_itself_and_what_is_none(
    serve: Serve, place: str, word: str
) -> None:
    api = serve({})
    with pytest.raises(UsageError, match="cannot set"):
        condition.command("web", [word], state_dir=place)
    assert not api.asked


def test_restart_creates_an_equal_pod_once_the_old_one_is_gone(
    serve: Serve, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    old = pod(spec={"containers": [{"name": "c"}], "nodeName": "n"})
    new = pod(uid="v", status={"conditions": [{"type": "Ready", "status": "True"}]})
    new["spec"] = {"containers": [{"name": "c"}]}
    kept: list[str] = []

    def listed(asked: Asked) -> Answer:
        if "watch=true" in asked.target:
            return chunked(said("ADDED", old), said("MODIFIED", new), ended=False)
        kept.extend(name for name in os.listdir(place) if name.startswith("restart-"))
        return pods()

    api = serve(
        {
            f"GET {WEB}": answer(old),
            f"DELETE {WEB}": answer(old),
            f"GET {PODS}": listed,
            f"POST {PODS}": answer(new, 201),
        }
    )
    restart.command(["web/c"], state_dir=place)
    assert capsys.readouterr().out == 'pod "web" deleted\npod/web created\npod/web ready\n'
    (sent,) = [asked.json for asked in api.asked if asked.method == "POST"]
    assert sent == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"containers": [{"name": "c"}]},
    }
    assert kept == ["restart-default-web.json"]
    assert "restart-default-web.json" not in os.listdir(place)


def test_restart_says_once_that_only_a_readiness_gate_is_waited_for(
    serve: Serve, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    containers = {"type": "ContainersReady", "status": "True"}
    spec = {"containers": [{"name": "c"}], "readinessGates": [{"conditionType": "a/b"}]}
    new = pod(uid="v", spec=spec, status={"conditions": [containers]})
    ready = {"conditions": [containers, {"type": "Ready", "status": "True"}]}
    events = [said("ADDED", new), said("MODIFIED", new), said("MODIFIED", {**new, "status": ready})]

    def listed(asked: Asked) -> Answer:
        return chunked(*events, ended=False) if "watch=true" in asked.target else pods()

    answers = {f"GET {WEB}": answer(pod(spec=spec)), f"DELETE {WEB}": answer(pod(spec=spec))}
    serve({**answers, f"GET {PODS}": listed, f"POST {PODS}": answer(new, 201)})
    restart.command(["web"], state_dir=place)
    told = capsys.readouterr().err
    assert told.count("by hand: podvisor condition web --state-dir") == 1
    assert told.endswith("a/b=True\n")


def test_restart_keeps_the_manifest_of_a_pod_that_it_could_not_create_again(
    serve: Serve, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(
        {
            f"GET {WEB}": answer(pod()),
            f"DELETE {WEB}": answer(pod()),
            f"GET {PODS}": pods(),
            f"POST {PODS}": refusal(500, "InternalError", "disk full"),
        }
    )
    with pytest.raises(StatusError, match="disk full"):
        restart.command(["web"], state_dir=place)
    kept = os.path.join(place, "restart-default-web.json")
    assert f"the manifest of pod web is in {kept}" in capsys.readouterr().err
    with open(kept) as file:
        assert json.load(file)["metadata"]["name"] == "web"
    assert os.stat(kept).st_mode & 0o777 == 0o600


def test_restart_refuses_a_container_that_the_pod_does_not_have(serve: Serve, place: str) -> None:
    spec = {"containers": [{"name": "c"}]}
    api = serve({f"GET {WEB}": answer(pod(spec=spec))})
    with pytest.raises(UsageError, match="pod web has c"):
        restart.command(["web/d"], state_dir=place)
    assert [asked.method for asked in api.asked] == ["GET"]


def test_kubeconfig_prints_the_line_that_a_shell_takes(
    serve: Serve, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NodeError, match="none has ever run"):
        kubeconfig.command(state_dir=place)
    serve({})
    with pytest.raises(NodeError, match="does not serve its API over HTTPS"):
        kubeconfig.command(state_dir=place)
    pathlib.Path(place, "kubeconfig").touch()
    kubeconfig.command(state_dir=place)
    kubeconfig.command(path=True, state_dir=place)
    assert capsys.readouterr().out == f"export KUBECONFIG={place}/kubeconfig\n{place}/kubeconfig\n"
