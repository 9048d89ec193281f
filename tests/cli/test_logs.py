"""`podvisor logs`, `events` and `top`: what is asked of a node, and what is made of the answers."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator

import pytest

from tests.cli.asked import Json, Said, podvisor
from tests.fake_api import Answer, Asked, FakeApi, answer, chunked, refusal

pytestmark = pytest.mark.usefixtures("nothing_left")

NS = "/api/v1/namespaces/default"
WEB: Json = {
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"containers": [{"name": "app"}, {"name": "side"}], "initContainers": [{"name": "i"}]},
}
ONE: Json = {
    "metadata": {"name": "one", "namespace": "default"},
    "spec": {"containers": [{"name": "c"}]},
}


def log(asked: Asked) -> Answer:
    """Says whose log was asked for."""
    name = asked.target.split("container=")[-1].split("&")[0]
    return chunked(f"first of {name}\nsec".encode(), f"ond of {name}\n".encode())


@pytest.fixture
def api(tmp_path: pathlib.Path, nothing_left: None) -> Iterator[FakeApi]:
    answers: dict[str, Answer | Callable[[Asked], Answer]] = {
        f"GET {NS}/pods/web": answer(WEB),
        f"GET {NS}/pods/one": answer(ONE),
        f"GET {NS}/pods": answer({"items": [WEB, ONE]}),
        f"GET {NS}/pods/web/log": log,
        f"GET {NS}/pods/one/log": log,
    }
    with FakeApi(str(tmp_path), answers) as api:
        yield api


@pytest.fixture
def run(tmp_path: pathlib.Path) -> Callable[..., Said]:
    return lambda *words: podvisor(*words, "--state-dir", str(tmp_path))


Run = Callable[..., Said]


# --- logs ----------------------------------------------------------------------------------------


def test_the_first_container_is_shown_and_that_is_said_where_there_are_more(
    api: FakeApi, run: Run
) -> None:
    assert run("logs", "one") == Said(0, "first of c\nsecond of c\n", "")
    said = run("logs", "pod/web")
    assert said.out == "first of app\nsecond of app\n"
    assert said.err == 'Defaulted container "app" out of: app, side, i (init)\n'
    assert run("logs", "web", "side").out == run("logs", "web", "-c", "side").out


def test_options_are_those_of_the_api(api: FakeApi, run: Run) -> None:
    run(
        *("logs", "one", "-p", "--timestamps", "--tail", "0", "--since", "1m30s"),
        *("--limit-bytes", "7"),
    )
    assert api.asked[-1].target == (
        f"{NS}/pods/one/log?previous=true&timestamps=true&tailLines=0&sinceSeconds=90"
        "&limitBytes=7&container=c"
    )


def test_all_containers_come_one_after_the_other_with_their_names(api: FakeApi, run: Run) -> None:
    said = run("logs", "web", "--all-containers", "--prefix")
    assert said.lines == [
        f"[pod/web/{name}] {which} of {name}"
        for name in ("i", "app", "side")
        for which in ("first", "second")
    ]


def test_several_that_are_followed_never_tear_each_others_lines(api: FakeApi, run: Run) -> None:
    said = run("logs", "-l", "app=web", "--all-containers", "-f")
    assert sorted(said.lines) == sorted(
        f"{which} of {name}" for name in ("i", "app", "side", "c") for which in ("first", "second")
    )
    assert "follow=true" in api.asked[-1].target


@pytest.mark.parametrize("follow", [(), ("-f",)])
def test_of_several_pods_only_the_last_lines_are_shown(
    api: FakeApi, run: Run, follow: tuple[str, ...]
) -> None:
    run("logs", "-l", "app=web", *follow)
    assert "labelSelector=app%3Dweb" in api.asked[0].target
    assert "tailLines=10" in api.asked[-1].target
    run("logs", "-l", "app=web", "--tail=-1", *follow)
    assert "tailLines" not in api.asked[-1].target
    run("logs", "one", *follow)
    assert "tailLines" not in api.asked[-1].target


def test_one_log_that_cannot_be_followed_does_not_end_the_others(api: FakeApi, run: Run) -> None:
    api.answers[f"GET {NS}/pods/one/log"] = refusal(400, "BadRequest", "it is waiting to start")
    said = run("logs", "-l", "a", "--all-containers", "-f")
    assert said.code == 1
    assert len(said.lines) == 6
    assert said.err == "Error from server (BadRequest): it is waiting to start\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("logs", "cannot tell whose log"),
        ("logs web -l a=b", "cannot tell whose log"),
        ("logs web app -c app", "cannot show two containers"),
        ("logs web app --all-containers", "cannot show one container and all of them"),
        ("logs web --since 1m --since-time 2026-01-01T00:00:00Z", "--since and --since-time"),
        ("logs web --since soon", "cannot use --since 'soon'"),
        ("logs -l a=b -f --max-log-requests 1", "follow 2 log streams"),
        ("logs svc/web", "cannot tell which pod svc/web is"),
        ("events --for web", "cannot tell which object web is"),
        ("events --types Bad", "there are Normal and Warning"),
        ("top disks", "there is pods and nodes"),
    ],
)
def test_what_does_not_go_together_is_refused(
    api: FakeApi, run: Run, words: str, message: str
) -> None:
    said = run(*words.split())
    assert said.code == 2
    assert message in said.err


# --- events --------------------------------------------------------------------------------------


def event(name: str, type: str, last: str) -> Json:
    return {
        "metadata": {"name": name, "namespace": "default", "resourceVersion": "9"},
        "involvedObject": {"kind": "Pod", "name": "web"},
        "type": type,
        "reason": name.capitalize(),
        "message": f"{name}\nhappened",
        "firstTimestamp": last,
        "lastTimestamp": last,
    }


def test_events_are_told_in_the_order_of_their_last_time(api: FakeApi, run: Run) -> None:
    items = [
        event("late", "Normal", "2020-01-01T00:00:02Z"),
        event("early", "Warning", "2020-01-01T00:00:01Z"),
    ]
    api.answers[f"GET {NS}/events"] = answer({"items": items})
    said = run("events", "--for", "pod/web", "--no-headers")
    assert [line.split()[1:] for line in said.lines] == [
        ["Warning", "Early", "Pod/web", "early", "happened"],
        ["Normal", "Late", "Pod/web", "late", "happened"],
    ]
    assert api.asked[0].target == (
        f"{NS}/events?fieldSelector=involvedObject.kind%3DPod%2CinvolvedObject.apiVersion%3Dv1"
        "%2CinvolvedObject.name%3Dweb"
    )
    assert run("events", "--types", "warning", "-o", "name").lines == ["event/early"]


def test_without_events_that_is_said(api: FakeApi, run: Run) -> None:
    api.answers[f"GET {NS}/events"] = answer({"items": []})
    assert run("events") == Said(0, "", "No events found in default namespace.\n")


# --- top -----------------------------------------------------------------------------------------


@pytest.fixture
def metrics(api: FakeApi) -> None:
    base = "/apis/metrics.k8s.io/v1beta1"

    def pod(name: str, *used: tuple[str, str]) -> Json:
        containers = [
            {"name": f"c{at}", "usage": {"cpu": cpu, "memory": memory}}
            for at, (cpu, memory) in enumerate(used)
        ]
        return {"metadata": {"name": name, "namespace": "default"}, "containers": containers}

    pods = [pod("a", ("1500u", "1024Ki"), ("10m", "1Mi")), pod("b", ("2", "1Gi"))]
    node = {"metadata": {"name": "here"}, "usage": {"cpu": "500m", "memory": "1Gi"}}
    whole = {"cpu": "2", "memory": "4Gi"}
    api.answers[f"GET {base}/namespaces/default/pods"] = answer({"items": pods})
    api.answers[f"GET {base}/nodes"] = answer({"items": [node]})
    nodes = [{"metadata": {"name": "here"}, "status": {"allocatable": whole}}]
    api.answers["GET /api/v1/nodes"] = answer({"items": nodes})


@pytest.mark.usefixtures("metrics")
@pytest.mark.parametrize(
    ("words", "rows"),
    [
        ("pods", ["NAME CPU(cores) MEMORY(bytes)", "a 12m 2Mi", "b 2000m 1024Mi"]),
        ("po --sort-by cpu --no-headers", ["b 2000m 1024Mi", "a 12m 2Mi"]),
        ("pods --sum --no-headers", ["a 12m 2Mi", "b 2000m 1024Mi", "2012m 1026Mi"]),
        (
            "pods --containers",
            [
                "POD NAME CPU(cores) MEMORY(bytes)",
                "a c0 2m 1Mi",
                "a c1 10m 1Mi",
                "b c0 2000m 1024Mi",
            ],
        ),
        (
            "nodes",
            ["NAME CPU(cores) CPU(%) MEMORY(bytes) MEMORY(%)", "here 500m 25% 1024Mi 25%"],
        ),
    ],
)
def test_usage_is_shown_in_kubectls_units(run: Run, words: str, rows: list[str]) -> None:
    said = run("top", *words.split())
    assert (said.code, said.err) == (0, "")
    assert [" ".join(line.split()) for line in said.lines] == rows
