"""The command line's client of a node's API, against prepared answers."""

from __future__ import annotations

import _socket
import errno
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from supervisor.cli import asking
from supervisor.client import EVENTS, PODS, Client, Json, Kind, NotRunningError, find_state_dir
from supervisor.errors import ExitCode, NodeError, StatusError, UsageError
from tests.fake_api import FakeApi, answer, chunked, refusal

pytestmark = pytest.mark.usefixtures("nothing_left")

POD = "GET /api/v1/namespaces/default/pods/web"
PODS_PATH = "GET /api/v1/namespaces/default/pods"
LEASES = Kind("leases", "lease", "Lease", group="coordination.k8s.io")

Serve = Callable[..., FakeApi]


@pytest.fixture
def serve(tmp_path: pathlib.Path) -> Iterator[Serve]:
    served: list[FakeApi] = []

    def start(answers: dict[str, object]) -> FakeApi:
        api = FakeApi(str(tmp_path), answers)  # type: ignore[arg-type]
        served.append(api.__enter__())
        return api

    yield start
    for api in served:
        api.__exit__()


@pytest.fixture
def client(tmp_path: pathlib.Path) -> Client:
    return Client(str(tmp_path), timeout=5)


# --- which node ----------------------------------------------------------------------------------


def test_a_node_is_found_upwards_from_a_folder(tmp_path: pathlib.Path) -> None:
    (tmp_path / ".podvisor").mkdir()
    inside = tmp_path / "deploy" / "base"
    inside.mkdir(parents=True)
    assert find_state_dir(str(inside)) == str(tmp_path / ".podvisor")
    (tmp_path / "deploy" / ".podvisor").mkdir()
    assert find_state_dir(str(inside)) == str(tmp_path / "deploy" / ".podvisor")


def test_a_project_inside_the_folder_of_another_node_has_its_own(tmp_path: pathlib.Path) -> None:
    (tmp_path / ".podvisor").mkdir()
    inside = tmp_path / "other" / "base"
    inside.mkdir(parents=True)
    (tmp_path / "other" / "podvisor.toml").touch()
    assert find_state_dir(str(inside)) == str(tmp_path / "other" / ".podvisor")


def test_where_there_is_no_node_it_is_that_of_the_folder(tmp_path: pathlib.Path) -> None:
    assert find_state_dir(str(tmp_path)) == str(tmp_path / ".podvisor")
    assert find_state_dir(str(tmp_path), "/elsewhere") == "/elsewhere"


@pytest.mark.parametrize("planted", ["another user's folder", "a link", "a file"])
def test_what_is_no_folder_of_this_user_is_passed_by(tmp_path: pathlib.Path, planted: str) -> None:
    place, inside = tmp_path / ".podvisor", tmp_path / "inside"
    inside.mkdir()
    match planted:
        case "another user's folder" if os.getuid() == 0:
            place.mkdir()
            os.chown(place, 12345, 12345)
        case "another user's folder":
            pytest.skip("only root can give a folder away")
        case "a link":
            place.symlink_to(inside)
        case "a file":
            place.touch()
    assert find_state_dir(str(inside)) == str(inside / ".podvisor")


# --- nobody answers ------------------------------------------------------------------------------


def test_where_no_node_has_ever_run_it_says_what_starts_one(client: Client) -> None:
    with pytest.raises(NotRunningError, match=r"none has ever run on .*; `podvisor up FILE`") as no:
        client.get(PODS, "default", "web")
    assert no.value.code is ExitCode.NODE


def test_a_state_folder_that_is_none_is_said_in_words(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NodeError, match=r"cannot reach a node on .*/file: Not a directory$"):
        Client(str(tmp_path / "file")).list(PODS)


def test_where_a_node_has_ended_it_names_the_command_that_starts_it(
    client: Client, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / "command").write_text("cd /srv && podvisor serve web.yaml\n")
    (tmp_path / "api.sock").touch()  # what is left of a socket
    expected = r"start it with: cd /srv && podvisor serve web\.yaml$"
    with pytest.raises(NotRunningError, match=expected) as no:
        client.list(PODS)
    assert no.value.state_dir == str(tmp_path)


def test_a_node_that_runs_and_does_not_listen_is_no_node_that_does_not_run(
    client: Client, tmp_path: pathlib.Path
) -> None:
    code = (
        "import sys; from supervisor.store.lock import Lock; l = Lock(sys.argv[1]);"
        "print(flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(NodeError, match=rf"\(pid {holder.pid}\): it does not serve") as no:
            client.list(PODS)
        assert not isinstance(no.value, NotRunningError)
        holder.communicate()


def test_a_node_in_a_folder_that_may_not_be_used_is_told_with_its_owner(
    client: Client, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Denied(_socket.socket):
        def connect(self, address: object) -> None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), address)

    owner = tmp_path.stat().st_uid
    monkeypatch.setattr(_socket, "socket", Denied)
    with pytest.raises(NodeError, match=r"cannot reach the node on .*: Permission denied$"):
        client.list(PODS)
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(NodeError, match=rf"cannot reach the node on .*: it is of user {owner}$"):
        client.list(PODS)


def test_a_node_that_is_silent_is_not_waited_for_for_ever(
    serve: Serve, tmp_path: pathlib.Path
) -> None:
    def keep_silent(_: object) -> list[bytes]:
        time.sleep(1.5)
        return []

    serve({POD: keep_silent})
    with pytest.raises(NodeError, match="has not answered for 0 s"):
        Client(str(tmp_path), timeout=0.05).get(PODS, "default", "web")


CUT = {
    "in its head": [b"HTTP/1.1 200 O"],
    "in its body": [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"],
    "between chunks": chunked(b"{", ended=False),
    "at once": [],
}


@pytest.mark.parametrize("sent", CUT.values(), ids=CUT)
def test_an_answer_that_is_cut_off_is_an_error(
    serve: Serve, client: Client, sent: list[bytes]
) -> None:
    serve({POD: sent})
    with pytest.raises(NodeError, match="in the middle of its answer"):
        client.get(PODS, "default", "web")


@pytest.mark.parametrize(
    "sent",
    [
        b"220 mail\r\n\r\n",
        b"HTTP/1.1 2OO\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nlots\r\n",
    ],
)
def test_what_is_no_http_is_no_node(serve: Serve, client: Client, sent: bytes) -> None:
    serve({POD: [sent]})
    with pytest.raises(NodeError, match="is no node"):
        client.get(PODS, "default", "web")


def test_a_path_that_no_socket_address_can_hold_is_no_obstacle(tmp_path: pathlib.Path) -> None:
    place = tmp_path / ("long" * 40)
    place.mkdir()
    with FakeApi(str(place), {POD: answer({"kind": "Pod"})}):
        assert Client(str(place)).get(PODS, "default", "web") == {"kind": "Pod"}


# --- what is asked -------------------------------------------------------------------------------

REQUESTS: dict[str, tuple[Callable[[Client], object], str, object]] = {
    "get": (lambda c: c.get(PODS, "default", "web"), POD, None),
    "get with a name that needs quoting": (
        lambda c: c.get(EVENTS, "default", "a b/ü"),
        "GET /api/v1/namespaces/default/events/a%20b%2F%C3%BC",
        None,
    ),
    "list in all namespaces": (
        lambda c: c.list(PODS, labels="a=b,c in (d)", query={"limit": 500}),
        "GET /api/v1/pods?labelSelector=a%3Db%2Cc%20in%20%28d%29&limit=500",
        None,
    ),
    "list of a group": (
        lambda c: c.list(LEASES, "kube-node-lease"),
        "GET /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases",
        None,
    ),
    "create": (
        lambda c: c.create(PODS, "default", {"a": 1}, dry_run=True),
        "POST /api/v1/namespaces/default/pods?fieldManager=podvisor&fieldValidation=Strict"
        "&dryRun=All",
        {"a": 1},
    ),
    "patch of a subresource": (
        lambda c: c.patch(PODS, "default", "web", {"b": 2}, subresource="status"),
        "PATCH /api/v1/namespaces/default/pods/web/status"
        "?fieldManager=podvisor&fieldValidation=Strict",
        {"b": 2},
    ),
    "delete": (
        lambda c: c.delete(PODS, "default", "web", grace=0, uid="u"),
        "DELETE /api/v1/namespaces/default/pods/web",
        {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": "u"},
        },
    ),
}


@pytest.mark.parametrize(("call", "expected", "body"), REQUESTS.values(), ids=REQUESTS)
def test_a_request_says_what_is_meant(
    serve: Serve, client: Client, call: Callable[[Client], object], expected: str, body: object
) -> None:
    api = serve({expected: answer({"kind": "Said"})})
    assert call(client) == {"kind": "Said"}
    asked = api.asked[0]
    assert (json.loads(asked.body) if asked.body else None) == body
    assert asked.headers["host"] == "localhost"


def test_an_apply_tells_whether_the_object_is_new(serve: Serve, client: Client) -> None:
    path = "PATCH /api/v1/namespaces/default/pods/web"
    api = serve({path: answer({"kind": "Pod"}, 201)})
    assert client.apply(PODS, "default", "web", {"a": 1}) == ({"kind": "Pod"}, True)
    api.answers[path] = answer({"kind": "Pod"})
    assert client.apply(PODS, "default", "web", {"a": 1}, force=True) == ({"kind": "Pod"}, False)
    assert api.asked[0].headers["content-type"] == "application/apply-patch+yaml"
    assert [asked.target[-12:] for asked in api.asked] == ["&force=false", "t&force=true"]


def test_warnings_are_told(serve: Serve, tmp_path: pathlib.Path) -> None:
    said: list[str] = []
    header = 'Warning: 299 - "unknown field \\"spec.x\\""'
    serve({POD: answer({}, 200, header, 'Warning: 299 - "two"')})
    Client(str(tmp_path), warn=said.append).get(PODS, "default", "web")
    assert said == ['unknown field "spec.x"', "two"]


# --- kinds ---------------------------------------------------------------------------------------


def discovery(group: str, *resources: dict[str, object]) -> object:
    versions = [{"version": "v1", "resources": resources}]
    return {"items": [{"metadata": {"name": group} if group else {}, "versions": versions}]}


def resource(kind: str, *short: str, **more: object) -> dict[str, object]:
    names = {"resource": f"{kind.lower()}s", "singularResource": kind.lower()}
    rest = {"responseKind": {"kind": kind}, "scope": "Namespaced", "verbs": ["get"]}
    return {**names, **rest, "shortNames": list(short), **more}


DISCOVERED = {
    "GET /api": answer(
        discovery(
            "",
            resource("Pod", "po", categories=["all"]),
            resource("ConfigMap", "cm"),
            resource("Service", "svc", categories=["all"]),
        )
    ),
    "GET /apis": answer(discovery("coordination.k8s.io", resource("Lease"))),
}


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("po", "pods"),
        ("Pod", "pods"),
        ("cm", "configmaps"),
        ("ConfigMaps", "configmaps"),
        ("lease", "leases.coordination.k8s.io"),
        ("leases.coordination.k8s.io", "leases.coordination.k8s.io"),
        ("leases.v1.coordination.k8s.io", "leases.coordination.k8s.io"),
        ("configmaps.v1.", "configmaps"),
    ],
)
def test_a_kind_is_found_by_each_of_its_names(
    serve: Serve, client: Client, word: str, key: str
) -> None:
    serve(DISCOVERED)
    assert client.kind(word).key == key


@pytest.mark.parametrize("word", ["nothing", "leases.apps", "configmaps.apps", ""])
def test_an_unknown_kind_is_refused_in_the_words_of_kubectl(
    serve: Serve, client: Client, word: str
) -> None:
    serve(DISCOVERED)
    with pytest.raises(UsageError, match=f'the server doesn\'t have a resource type "{word}"'):
        client.kind(word)


def test_all_is_what_has_that_category(serve: Serve, client: Client) -> None:
    serve(DISCOVERED)
    found = asking.targets(["all,cm,svc"], client)
    assert [target.kind.plural for target in found] == ["pods", "services", "configmaps"]


# --- refusals ------------------------------------------------------------------------------------

REFUSALS = {
    "a reason": (
        refusal(404, "NotFound", 'pods "web" not found', name="web", kind="pods"),
        'Error from server (NotFound): pods "web" not found',
        ExitCode.NEGATIVE,
    ),
    "no reason": (
        refusal(500, "", "it broke"),
        "Error from server: it broke",
        ExitCode.NEGATIVE,
    ),
    "one cause": (
        refusal(
            422,
            "Invalid",
            "all of it",
            name="web",
            kind="Pod",
            causes=[{"field": "spec.x", "message": "Required value"}],
        ),
        'The Pod "web" is invalid: spec.x: Required value',
        ExitCode.REFUSED,
    ),
    "several causes": (
        refusal(
            422,
            "Invalid",
            "all of it",
            name="web",
            kind="Pod",
            causes=[{"field": "a", "message": "A"}, {"field": "", "message": "B"}] * 2,
        ),
        'The Pod "web" is invalid:\n* a: A\n* B',
        ExitCode.REFUSED,
    ),
    "no Status": (answer(b"400: Bad Request", 400), "Error from server: 400: Bad Request", 1),
}


@pytest.mark.parametrize(("sent", "text", "code"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_is_told_as_kubectl_tells_it(
    serve: Serve, client: Client, sent: list[bytes], text: str, code: int
) -> None:
    serve({POD: sent})
    with pytest.raises(StatusError) as refused:
        client.get(PODS, "default", "web")
    assert (str(refused.value), refused.value.code) == (text, code)


def test_find_gives_nothing_where_nothing_is(serve: Serve, client: Client) -> None:
    api = serve({POD: refusal(404, "NotFound", "not there")})
    assert client.find(PODS, "default", "web") is None
    api.answers[POD] = refusal(403, "Forbidden", "not for you")
    with pytest.raises(StatusError, match="not for you"):
        client.find(PODS, "default", "web")


# --- watches and logs ----------------------------------------------------------------------------


def test_a_watch_gives_event_after_event_however_the_bytes_are_cut(
    serve: Serve, client: Client
) -> None:
    events = [{"type": "ADDED", "object": {"a": "x" * 50}}, {"type": "DELETED", "object": {}}]
    sent = b"".join(json.dumps(event).encode() + b"\n" for event in events)
    serve({PODS_PATH: chunked(*(sent[i : i + 7] for i in range(0, len(sent), 7)))})
    assert list(client.watch(PODS, "default", name="web", since="7")) == events


def test_a_watch_ends_when_its_time_is_over(serve: Serve, client: Client) -> None:
    def go_on(_: object) -> Iterator[bytes]:
        yield from chunked(b'{"type": "ADDED", "object": {}}\n', ended=False)
        time.sleep(1.5)

    api = serve({PODS_PATH: go_on})
    assert len(list(client.watch(PODS, "default", timeout=0.2))) == 1
    assert api.asked[0].target.endswith("?watch=true&timeoutSeconds=1")


def test_an_error_in_a_watch_is_raised(serve: Serve, client: Client) -> None:
    status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
    serve({PODS_PATH: chunked(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")})
    with pytest.raises(StatusError) as ended:
        list(client.watch(PODS, "default"))
    assert (ended.value.reason, ended.value.http) == ("Expired", 410)


def test_the_states_of_an_object_go_on_when_a_watch_ends_or_has_begun_too_late(
    serve: Serve, client: Client
) -> None:
    def named(number: int) -> Json:
        return {"metadata": {"name": "web", "resourceVersion": str(number)}}

    def said(type: str, object: Json) -> bytes:
        return json.dumps({"type": type, "object": object}).encode() + b"\n"

    lists = iter(([], [named(3)], [named(3)]))
    late = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
    watches = iter(
        (
            (said("ADDED", named(1)), said("BOOKMARK", named(9)), said("DELETED", named(2))),
            (said("ERROR", late),),
            (said("MODIFIED", named(4)),),
        )
    )
    api = serve(
        {
            f"{PODS_PATH}?fieldSelector=metadata.name%3Dweb": lambda _: answer(
                {"items": next(lists), "metadata": {"resourceVersion": "5"}}
            ),
            PODS_PATH: lambda _: chunked(*next(watches)),
        }
    )
    states = client.states(PODS, "default", "web")
    seen = [next(states) for _ in range(6)]
    assert seen == [None, named(1), None, named(3), named(3), named(4)]
    assert all("resourceVersion=5" in each.target for each in api.asked if "watch" in each.target)


def test_a_node_that_ends_ends_a_watch_with_an_error(serve: Serve, client: Client) -> None:
    serve({PODS_PATH: chunked(b'{"type": "ADDED", "object": {}}\n', ended=False)})
    events = client.watch(PODS, "default")
    next(events)
    with pytest.raises(NodeError, match="in the middle"):
        next(events)


def test_a_log_comes_as_it_is(serve: Serve, client: Client) -> None:
    path = "GET /api/v1/namespaces/default/pods/web/log?container=c&follow=true&tailLines=0"
    serve({path: chunked(b"one\ntw", b"o\xff\nthree")})
    query = {"container": "c", "follow": True, "tailLines": 0, "previous": False}
    with client.log("default", "web", query) as log:
        assert list(log.lines()) == [b"one", b"two\xff", b"three"]


def test_the_client_brings_nothing_that_is_slow_to_import() -> None:
    code = (
        "import sys; before = set(sys.modules); import supervisor.client;"
        "print(*sorted({m.partition('.')[0] for m in sys.modules} - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    slow = {"aiohttp", "anyio", "asyncio", "email", "http", "msgspec", "sqlite3", "ssl", "yaml"}
    assert not slow & set(done.stdout.split())
