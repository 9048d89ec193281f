"""Server-side apply: what each manager wants is there, and nobody loses what is theirs."""

import contextlib
import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.apiserver.apply import apply, track, unchanged
from supervisor.apiserver.contract import ApiError, Json
from supervisor.apiserver.resources import RESOURCES

PODS, CONFIG_MAPS = (
    next(each for each in RESOURCES if each.key == key) for key in ("pods", "configmaps")
)
NOW, LATER = "2026-01-31T12:00:00Z", "2026-01-31T12:05:00Z"


def applied(
    live: Json | None,
    config: Json,
    manager: str = "me",
    *,
    force: bool = False,
    now: str = NOW,
    subresource: str = "",
) -> Json:
    """The object after an apply, which leaves its inputs as they were."""
    before = copy.deepcopy((live, config))
    result = apply(
        live,
        config,
        manager,
        force=force,
        resource=PODS,
        now=now,
        subresource=subresource,
    )
    assert (live, config) == before
    return result


def updated(
    before: Json | None,
    after: Json,
    manager: str = "kubectl-edit",
    now: str = NOW,
    subresource: str = "",
) -> Json:
    copies = copy.deepcopy((before, after))
    result = track(before, after, manager, resource=PODS, now=now, subresource=subresource)
    assert (before, after) == copies
    return result


def pod(*containers: Json, labels: Json | None = None, **of: Any) -> Json:
    metadata: Json = {"name": "web"}
    if labels is not None:
        metadata["labels"] = labels
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        **({"spec": {"containers": list(containers)}} if containers else {}),
        **of,
    }


def bare(object: Json) -> Json:
    metadata = {k: v for k, v in object["metadata"].items() if k != "managedFields"}
    return {**object, "metadata": metadata}


def fields(object: Json, manager: str = "me", operation: str = "Apply") -> Any:
    for entry in object["metadata"].get("managedFields", ()):
        if (entry["manager"], entry["operation"]) == (manager, operation):
            return entry["fieldsV1"]
    return None


A = {"name": "a", "image": "1"}
B = {"name": "b", "image": "1"}


# --- who has what ------------------------------------------------------------------------------


def test_what_is_applied_anew_belongs_to_who_applies_it() -> None:
    web = pod({**A, "ports": [{"containerPort": 80}], "command": ["x"]}, labels={"app": "web"})
    web["metadata"]["finalizers"] = ["a/b"]
    web["metadata"]["creationTimestamp"] = None
    result = applied(None, web)
    del web["metadata"]["creationTimestamp"]
    assert bare(result) == web
    assert result["metadata"]["managedFields"] == [
        {
            "manager": "me",
            "operation": "Apply",
            "apiVersion": "v1",
            "time": NOW,
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:finalizers": {'v:"a/b"': {}}, "f:labels": {"f:app": {}}},
                "f:spec": {
                    "f:containers": {
                        'k:{"name":"a"}': {
                            ".": {},
                            "f:command": {},
                            "f:image": {},
                            "f:name": {},
                            "f:ports": {
                                'k:{"containerPort":80,"protocol":"TCP"}': {
                                    ".": {},
                                    "f:containerPort": {},
                                }
                            },
                        }
                    }
                },
            },
        }
    ]


def test_applying_the_same_again_changes_nothing_at_all() -> None:
    once = applied(None, pod(A, labels={"app": "web"}))
    assert applied(once, pod(A, labels={"app": "web"}), now=LATER) == once


def test_another_value_changes_the_object_and_the_time() -> None:
    once = applied(None, pod(A))
    twice = applied(once, pod({**A, "image": "2"}), now=LATER)
    assert twice["spec"] == {"containers": [{"name": "a", "image": "2"}]}
    assert twice["metadata"]["managedFields"][0]["time"] == LATER
    assert fields(twice) == fields(once)


def test_what_others_have_set_stays() -> None:
    live = updated(None, pod(A, B, labels={"app": "web"}), "kubectl-create")
    live = {**live, "status": {"phase": "Running"}}
    result = applied(live, pod({"name": "b", "env": [{"name": "X"}]}, labels={"tier": "front"}))
    assert bare(result) == {
        **pod(A, {**B, "env": [{"name": "X"}]}, labels={"app": "web", "tier": "front"}),
        "status": {"phase": "Running"},
    }


@pytest.mark.parametrize(
    ("there", "wanted", "then"),
    [
        ("", "ba", "ba"),
        ("ab", "x", "abx"),
        ("ab", "cbd", "acbd"),
        ("abc", "cxa", "bcxa"),
        ("caz", "ac", "azc"),
        ("abc", "ba", "bca"),
        ("abc", "abc", "abc"),
    ],
)
def test_new_items_come_in_the_order_of_who_applies_them(
    there: str, wanted: str, then: str
) -> None:
    live = updated(None, pod(*({"name": name} for name in there)), "kubectl-create")
    result = applied(live, pod(*({"name": name} for name in wanted)))
    assert "".join(each["name"] for each in result["spec"]["containers"]) == then
    live = updated(None, {"metadata": {"finalizers": [*there]}}, "kubectl-create")
    result = applied(live, {"metadata": {"finalizers": [*wanted]}})
    assert "".join(result["metadata"]["finalizers"]) == then


def test_what_is_no_longer_applied_goes() -> None:
    once = applied(None, pod({**A, "tty": True}, B, labels={"app": "web"}))
    twice = applied(once, pod(A))
    assert bare(twice) == pod(A)
    assert fields(twice)["f:spec"] == {
        "f:containers": {'k:{"name":"a"}': {".": {}, "f:image": {}, "f:name": {}}}
    }


def test_what_is_no_longer_applied_stays_where_another_one_has_it() -> None:
    live = applied(None, pod(A, labels={"app": "web", "x": "1"}), "first")
    live = applied(live, pod(A, labels={"app": "web"}), "second")
    live = applied(live, pod(labels={}), "first")
    assert bare(live) == pod(A, labels={"app": "web"})
    assert applied(live, pod(), "second")["metadata"].keys() == {"name", "labels", "managedFields"}


def test_an_item_that_is_dropped_keeps_what_is_anothers_and_its_key() -> None:
    live = applied(None, pod(A, B), "first")
    live = applied(live, pod({"name": "b", "tty": True}), "second")
    live["spec"]["containers"][1] = {**live["spec"]["containers"][1], "stdin": False}
    result = applied(live, pod(A), "first")
    assert result["spec"]["containers"] == [A, {"name": "b", "tty": True, "stdin": False}]


def test_defaults_in_a_dropped_item_go_with_it() -> None:
    live = applied(None, pod(A, B))
    for each in live["spec"]["containers"]:
        each["imagePullPolicy"] = "Always"
    result = applied(live, pod(A))
    assert result["spec"]["containers"] == [{**A, "imagePullPolicy": "Always"}]


def test_members_of_a_set_belong_to_their_managers_one_by_one() -> None:
    def finalized(*names: str) -> Json:
        return {**pod(), "metadata": {"name": "web", "finalizers": list(names)}}

    live = applied(None, finalized("a/a", "b/b"), "first")
    live = applied(live, finalized("b/b", "c/c"), "second")
    assert live["metadata"]["finalizers"] == ["a/a", "b/b", "c/c"]
    live = applied(live, pod(), "first")
    assert live["metadata"]["finalizers"] == ["b/b", "c/c"]


def test_an_atomic_map_is_one_field() -> None:
    def selecting(**labels: str) -> Json:
        return {**pod(), "spec": {"nodeSelector": labels}}

    live = applied(None, selecting(a="1", b="2"))
    assert fields(live) == {"f:spec": {"f:nodeSelector": {}}}
    assert applied(live, selecting(c="3"))["spec"] == {"nodeSelector": {"c": "3"}}


def test_an_empty_map_says_nothing_of_what_is_in_it() -> None:
    live = applied(None, pod(A, labels={"app": "web"}), "first")
    result = applied(live, pod(labels={}), "second")
    assert bare(result) == bare(live)
    assert fields(result, "second") == {"f:metadata": {"f:labels": {}}}
    # Nor does it keep others from filling it.
    empty = applied(None, pod(A, labels={}), "first")
    assert applied(empty, pod(labels={"x": ""}), "second")["metadata"]["labels"] == {"x": ""}


def test_the_status_belongs_to_its_subresource() -> None:
    live = applied(None, pod(A), "first")
    status = {"conditions": [{"type": "example.com/Up", "status": "True"}]}
    result = applied(live, pod(B, status=status), "second", subresource="status")
    assert bare(result) == pod(A, status=status)
    (entry,) = (e for e in result["metadata"]["managedFields"] if e["manager"] == "second")
    assert entry["subresource"] == "status"
    assert entry["fieldsV1"].keys() == {"f:status"}
    ignored = applied(live, pod(A, status=status), "third")
    assert "status" not in ignored
    assert fields(ignored, "third").keys() == {"f:spec"}


def test_ephemeral_containers_are_applied_through_their_subresource() -> None:
    live = applied(None, pod(A), "first")
    config = {**pod(B), "spec": {"containers": [B], "ephemeralContainers": [{"name": "debug"}]}}
    result = applied(live, config, "second", subresource="ephemeralcontainers")
    assert result["spec"] == {"containers": [A], "ephemeralContainers": [{"name": "debug"}]}


# --- conflicts ---------------------------------------------------------------------------------


def refusal(live: Json | None, config: Json, manager: str = "me") -> ApiError:
    with pytest.raises(ApiError) as caught:
        applied(live, config, manager)
    return caught.value


def test_a_value_that_another_one_applied_is_a_conflict() -> None:
    live = applied(None, pod(A, labels={"app": "web"}), "m1")
    error = refusal(live, pod(labels={"app": "api"}))
    assert (error.code, error.reason) == (409, "Conflict")
    assert error.message == (
        'Apply failed with 1 conflict: conflict with "m1": .metadata.labels.app'
    )
    assert error.details["causes"] == [
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "m1"',
            "field": ".metadata.labels.app",
        }
    ]


def test_all_conflicts_are_told_at_once() -> None:
    live = applied(None, pod({**A, "ports": [{"containerPort": 80, "name": "x"}]}), "m1")
    after = copy.deepcopy(live)
    after["spec"]["containers"][0] |= {"tty": True}
    live = updated(live, after, "m2", now=LATER)
    wanted = {**A, "image": "2", "tty": False, "ports": [{"containerPort": 80, "name": "y"}]}
    assert refusal(live, pod(wanted)).message == (
        "Apply failed with 3 conflicts: "
        'conflicts with "m1":\n'
        '- .spec.containers[name="a"].image\n'
        '- .spec.containers[name="a"].ports[containerPort=80,protocol="TCP"].name\n'
        'conflicts with "m2" using v1 at 2026-01-31T12:05:00Z:\n'
        '- .spec.containers[name="a"].tty'
    )


def test_a_forced_apply_takes_the_field_over() -> None:
    live = applied(None, pod(A, labels={"app": "web"}), "m1")
    live = applied(live, pod(labels={"app": "api"}), force=True)
    assert live["metadata"]["labels"] == {"app": "api"}
    assert "f:metadata" not in fields(live, "m1")
    # Its former manager does not remove it, and now has a conflict itself.
    assert 'with "me"' in refusal(live, pod(A, labels={"app": "web"}), "m1").message
    assert applied(live, pod(A), "m1")["metadata"]["labels"] == {"app": "api"}


def test_the_same_value_is_shared() -> None:
    live = applied(None, pod(A), "m1")
    live = applied(live, pod(A), "m2")
    assert fields(live, "m1") == fields(live, "m2")
    assert refusal(live, pod({**A, "image": "2"}), "m1").message.endswith(
        'conflict with "m2": .spec.containers[name="a"].image'
    )


def test_a_list_that_is_replaced_and_a_field_that_becomes_another_are_conflicts() -> None:
    live = applied(None, pod({**A, "command": []}, x={"y": 1}), "m1")
    assert refusal(live, pod({"name": "a", "command": ["c"]})).message.endswith("].command")
    assert refusal(live, pod(x=1)).message.endswith(": .x.y")


def test_a_quantity_is_the_same_however_it_is_written() -> None:
    def limited(memory: Any, cpu: Any) -> Json:
        return pod({**A, "resources": {"limits": {"memory": memory, "cpu": cpu}}})

    live = updated(None, limited("1Gi", "1"), "kubectl-create")
    assert applied(live, limited("1024Mi", 1))
    assert applied(live, limited("1Gi", "1000m"))
    assert refusal(live, limited("1G", "1")).message.endswith(".resources.limits.memory")
    assert refusal(live, limited("1Gi", "x")).message.endswith(".resources.limits.cpu")


def test_one_is_not_the_same_as_true() -> None:
    live = applied(None, pod({**A, "x": 1}), "m1")
    assert ".x" in refusal(live, pod({**A, "x": True})).message


def test_an_object_that_nobody_manages_was_set_by_somebody() -> None:
    assert refusal(pod(A), pod({**A, "image": "2"})).message == (
        'Apply failed with 1 conflict: conflict with "before-first-apply" using v1 at '
        f'{NOW}: .spec.containers[name="a"].image'
    )
    assert bare(applied(pod(A), pod(labels={"a": "b"}))) == pod(A, labels={"a": "b"})


@pytest.mark.parametrize(
    ("config", "manager", "code", "says"),
    [
        (pod(A), "", 422, "fieldManager: Required value: is required for apply patch"),
        (
            {"metadata": {"managedFields": [{}]}},
            "me",
            400,
            "metadata.managedFields must be nil",
        ),
        ({"metadata": "x"}, "me", 400, "metadata: must be a mapping"),
        (pod(A, A), "me", 400, 'duplicate entries for key .spec.containers[name="a"]'),
        (pod(A, {}), "me", 400, ".spec.containers: element 1: it has to have a name"),
        (
            pod({**A, "ports": [{"containerPort": 1}, {"containerPort": 1, "protocol": "TCP"}]}),
            "me",
            400,
            'duplicate entries for key .spec.containers[name="a"].ports[containerPort=1,'
            'protocol="TCP"]',
        ),
    ],
)
def test_what_cannot_be_applied_is_refused(
    config: Json, manager: str, code: int, says: str
) -> None:
    error = refusal(pod(B), config, manager)
    assert error.code == code
    assert says in error.message


# --- other writes ------------------------------------------------------------------------------


def test_a_create_has_all_fields_and_an_update_those_it_changes() -> None:
    live = updated(None, pod(A, B, labels={"app": "web"}), "kubectl-create")
    after = copy.deepcopy(live)
    after["spec"]["containers"][1]["image"] = "2"
    del after["metadata"]["labels"]
    result = updated(live, after, now=LATER)
    assert bare(result) == bare(after)
    changed = {"f:containers": {'k:{"name":"b"}': {"f:image": {}}}}
    assert fields(result, "kubectl-edit", "Update") == {"f:spec": changed}
    left = fields(result, "kubectl-create", "Update")
    assert left.keys() == {"f:spec"}
    assert left["f:spec"]["f:containers"]['k:{"name":"b"}'] == {".": {}, "f:name": {}}
    assert [entry["time"] for entry in result["metadata"]["managedFields"]] == [NOW, LATER]


def test_applies_are_listed_before_updates() -> None:
    live = updated(None, pod(A), "a", now=NOW)
    live = applied(live, pod(labels={"x": ""}), "b", now=LATER)
    assert [entry["manager"] for entry in live["metadata"]["managedFields"]] == ["b", "a"]


def test_a_write_that_changes_nothing_leaves_managed_fields_alone() -> None:
    live = updated(None, pod(A), "kubectl-create")
    assert updated(live, bare(live), "other", now=LATER) == live
    again = updated(live, {**live, "metadata": {**live["metadata"], "resourceVersion": "7"}})
    assert again["metadata"]["managedFields"] == live["metadata"]["managedFields"]


def test_an_update_of_the_main_resource_does_not_have_the_status() -> None:
    result = updated(None, pod(A, status={"phase": "Running"}))
    assert fields(result, "kubectl-edit", "Update").keys() == {"f:spec"}
    after = {**result, "status": {"phase": "Failed"}}
    result = updated(result, after, "kubelet", subresource="status")
    assert fields(result, "kubelet", "Update") == {"f:status": {"f:phase": {}}}


def test_managed_fields_are_taken_from_who_brings_them() -> None:
    live = updated(None, pod(A), "kubectl-client-side-apply")
    brought = [{**live["metadata"]["managedFields"][0], "manager": "me", "operation": "Apply"}]
    after = {**live, "metadata": {**live["metadata"], "managedFields": brought}}
    result = updated(live, after)
    assert result["metadata"]["managedFields"] == brought
    # What it was moved for: the apply that follows removes what is no longer wanted.
    assert bare(applied(result, pod({"name": "a"}))) == pod({"name": "a"})


@pytest.mark.parametrize(
    ("brought", "expected"),
    [
        pytest.param([{}], None, id="one empty entry takes all away"),
        pytest.param([], "f:image", id="an empty list says nothing"),
        pytest.param("x", "f:image", id="nonsense says nothing"),
        pytest.param([{"manager": "x"}], "f:image", id="half an entry says nothing"),
        pytest.param(
            [{"manager": "x", "operation": "Update", "fieldsV1": {"g:x": {}}}],
            "f:image",
            id="paths that are none say nothing",
        ),
    ],
)
def test_managed_fields_of_clients_that_do_not_know_them(brought: Any, expected: Any) -> None:
    live = updated(None, pod(A))
    after = {**live, "metadata": {**live["metadata"], "managedFields": brought}}
    text = str(updated(live, after)["metadata"].get("managedFields"))
    assert (expected in text) if expected else text == "None"


def test_items_that_cannot_be_told_apart_are_one_field() -> None:
    twins = pod({**A, "env": [{"name": "X"}, {"name": "X"}]})
    result = updated(None, twins, "kubectl-create")
    paths = fields(result, "kubectl-create", "Update")["f:spec"]["f:containers"]['k:{"name":"a"}']
    assert paths["f:env"] == {}
    assert (
        applied(result, pod({**A, "tty": True}))["spec"]["containers"][0]["env"]
        == (twins["spec"]["containers"][0]["env"])
    )


def test_the_entries_of_updates_are_bounded() -> None:
    live = updated(None, pod(A), "kubectl-create")
    for number in range(30):
        labels = live["metadata"].get("labels", {}) | {f"l{number}": ""}
        after = {**live, "metadata": {**live["metadata"], "labels": labels}}
        live = updated(live, after, f"m{number}", now=f"2026-01-31T12:00:{number:02}Z")
    entries = live["metadata"]["managedFields"]
    assert len(entries) == 10
    assert [entry["manager"] for entry in entries][:2] == ["ancient-changes", "m21"]
    assert len(fields(live, "ancient-changes", "Update")["f:metadata"]["f:labels"]) == 21


def test_only_a_change_of_times_is_no_change() -> None:
    live = updated(None, pod(A))
    assert unchanged(live, updated(None, pod(A), now=LATER))
    assert not unchanged(live, updated(None, pod(B)))
    both = applied(applied(None, pod(A), "m1"), pod(labels={"x": ""}), "m2", now=LATER)
    reverse = applied(applied(None, pod(labels={"x": ""}), "m2"), pod(A), "m1", now=LATER)
    assert unchanged(both, reverse)
    assert not unchanged(live, updated(None, pod(A), "other"))


# --- properties --------------------------------------------------------------------------------

MANAGERS = ("m1", "m2", "m3")
LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from("12"), max_size=3)
CONTAINERS = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from("xyz")},
        optional={
            "image": st.sampled_from("12"),
            "tty": st.booleans(),
            "command": st.lists(st.sampled_from("ab"), max_size=2),
            "resources": st.dictionaries(st.just("limits"), LABELS, max_size=1),
            "env": st.lists(
                st.fixed_dictionaries({"name": st.sampled_from("AB")}, optional={"value": LABELS}),
                unique_by=lambda each: each["name"],
            ),
        },
    ),
    unique_by=lambda each: each["name"],
    max_size=3,
)


def _config(containers: list[Json], labels: Json | None, finalizers: list[str] | None) -> Json:
    result = pod(*containers, labels=labels)
    if finalizers is not None:
        result["metadata"]["finalizers"] = finalizers
    return result


CONFIGS = st.builds(
    _config,
    CONTAINERS,
    st.none() | LABELS,
    st.none() | st.lists(st.sampled_from("fgh"), unique=True, max_size=3),
)
WRITES = st.lists(
    st.tuples(st.sampled_from(MANAGERS), CONFIGS, st.sampled_from(["Apply", "Update"])), max_size=5
)


def _lived(writes: list[tuple[str, Json, str]]) -> Json | None:
    """An object with a past."""
    live: Json | None = None
    for manager, config, operation in writes:
        if operation == "Apply":
            live = applied(live, config, manager, force=True)
        else:
            live = updated(live, config, manager)
    return live


def _paths(entry: Json) -> set[tuple[str, ...]]:
    def walk(fields: Json, at: tuple[str, ...]) -> set[tuple[str, ...]]:
        found = set()
        for name, below in fields.items():
            path = at if name == "." else (*at, name)
            found |= walk(below, path) if below else {path}
        return found

    return walk(entry["fieldsV1"], ())


def _there(value: Any, path: tuple[str, ...]) -> bool:
    """Whether the object has the field, found without the code under test."""
    for element in path:
        kind, _, name = element.partition(":")
        if kind == "f":
            if not isinstance(value, dict) or name not in value:
                return False
            value = value[name]
        elif kind == "v":
            return name.strip('"') in value
        else:
            matching = [each for each in value if f'"{each["name"]}"' in name]
            if not matching:
                return False
            value = matching[0]
    return True


@given(WRITES, CONFIGS)
def test_applying_twice_is_applying_once(writes: list[Any], config: Json) -> None:
    once = applied(_lived(writes), config, force=True)
    assert applied(once, config, force=True, now=LATER) == once
    assert applied(once, config, now=LATER) == once


@given(WRITES, CONFIGS)
def test_what_was_applied_is_there_and_its_managers_own_it(writes: list[Any], config: Json) -> None:
    live = applied(_lived(writes), config, force=True)
    assert applied(live, config) == live
    for entry in live["metadata"].get("managedFields", ()):
        for path in _paths(entry):
            assert _there(live, path), (entry["manager"], path)


@given(WRITES, CONFIGS)
def test_no_apply_takes_away_what_is_anothers(writes: list[Any], config: Json) -> None:
    live = _lived(writes)
    try:
        result = applied(live, config, MANAGERS[0])
    except ApiError:
        return
    for entry in [] if live is None else live["metadata"].get("managedFields", ()):
        if (entry["manager"], entry["operation"]) != (MANAGERS[0], "Apply"):
            assert entry in result["metadata"]["managedFields"]
            for path in _paths(entry):
                assert _there(result, path), path


NAMES = ["metadata", "managedFields", "fieldsV1", "f:spec", "k:1", "v:", ".", "manager"]
NAMES += ["operation", "spec", "containers", "name", "ports", "finalizers", "status"]
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "a", "Apply", "Update"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.sampled_from(["metadata", "spec", "status", "a"]), ODD, max_size=3)


@given(OBJECTS, OBJECTS, st.sampled_from(["", "status", "ephemeralcontainers"]))
def test_any_object_is_written_or_refused(live: Json, config: Json, subresource: str) -> None:
    for force in (False, True):
        with contextlib.suppress(ApiError):
            result = applied(live, config, force=force, subresource=subresource)
            again = applied(result, config, force=force, subresource=subresource)
            assert applied(again, config, force=force, subresource=subresource) == again
    tracked = updated(live, config, subresource=subresource)
    assert updated(tracked, tracked, subresource=subresource) == tracked


def test_what_is_nested_too_deeply_is_refused() -> None:
    deep: Json = {}
    for _ in range(3000):
        deep = {"a": deep}
    with pytest.raises(ApiError, match="nested too deeply"):
        apply(None, deep, "me", force=False, resource=CONFIG_MAPS, now=NOW)
    with pytest.raises(ApiError, match="nested too deeply"):
        track(None, deep, "me", resource=CONFIG_MAPS, now=NOW)
