"""Patches give what a cluster gives, leave their inputs alone, and are refused with reasons."""

import contextlib
import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.apiserver import patch
from supervisor.apiserver.contract import ApiError, Json
from supervisor.apiserver.resources import RESOURCES

PODS, NAMESPACES = (
    next(each for each in RESOURCES if each.key == key) for key in ("pods", "namespaces")
)


ALL = (patch.json_patch, patch.merge_patch, patch.strategic_merge_patch)


def strategic(object: Json, change: Json) -> Json:
    """The patched object; the inputs stay as they were."""
    before = copy.deepcopy((object, change))
    result = patch.strategic_merge_patch(PODS, object, change)
    assert (object, change) == before
    return result


# --- strategic merge ---------------------------------------------------------------------------


def containers(*items: Any, **directives: Any) -> Json:
    return {"spec": {"containers": list(items), **directives}}


def named_items(*names: str) -> list[Json]:
    return [{"name": name} for name in names]


A1, A2 = {"name": "a", "image": "1"}, {"name": "a", "image": "2"}
B = {"name": "b", "image": "1"}


@pytest.mark.parametrize(
    ("object", "change", "result"),
    [
        pytest.param({"a": 1, "b": 2}, {"a": 3}, {"a": 3, "b": 2}, id="fields are replaced"),
        pytest.param({"a": 1, "b": 2}, {"b": None}, {"a": 1}, id="null removes"),
        pytest.param({"a": {"b": 1}}, {"a": {"c": 2}}, {"a": {"b": 1, "c": 2}}, id="maps merge"),
        pytest.param({}, {"a": {"b": None, "c": 1}}, {"a": {"c": 1}}, id="null of nothing"),
        pytest.param({"a": [1]}, {"a": [2]}, {"a": [2]}, id="unknown lists are replaced"),
        pytest.param({"a": 1}, {"a": {"b": 1}}, {"a": {"b": 1}}, id="a scalar becomes a map"),
        pytest.param(
            {"a": {"b": 1}}, {"a": {"$patch": "delete"}}, {"a": {}}, id="a map is emptied"
        ),
        pytest.param({}, {"a": {"$patch": "delete"}}, {}, id="emptying nothing makes nothing"),
        pytest.param(
            {"a": {"b": 1}},
            {"a": {"$patch": "replace", "c": 2}},
            {"a": {"c": 2}},
            id="a map is replaced",
        ),
        pytest.param(
            {"a": {"b": 1}},
            {"a": {"$patch": "merge", "c": 2}},
            {"a": {"b": 1, "c": 2}},
            id="a map is merged as it would be",
        ),
        pytest.param(
            containers(A1, B), containers(A2), containers(A2, B), id="items merge by their key"
        ),
        pytest.param(
            containers(A1, B),
            containers({"name": "b", "image": None}),
            containers(A1, {"name": "b"}),
            id="null removes a field of an item",
        ),
        pytest.param(
            containers(A1), containers(B), containers(B, A1), id="new items come first unless said"
        ),
        pytest.param(
            containers(A1),
            containers(B, **{"$setElementOrder/containers": named_items("a", "b")}),
            containers(A1, B),
            id="the order of items is said",
        ),
        pytest.param(
            containers(A1, B),
            {"spec": {"$setElementOrder/containers": named_items("b", "a")}},
            containers(B, A1),
            id="nothing but the order is said",
        ),
        pytest.param(
            containers(A1, B),
            containers({"name": "c"}, **{"$setElementOrder/containers": named_items("c", "b")}),
            containers({"name": "c"}, A1, B),
            id="items that the order does not name stay before what they were before",
        ),
        pytest.param(
            containers(A1, B),
            containers({"name": "a", "$patch": "delete"}),
            containers(B),
            id="an item is deleted",
        ),
        pytest.param(
            containers(A1),
            containers({"name": "x", "$patch": "delete"}),
            containers(A1),
            id="an item that is not there is deleted",
        ),
        pytest.param(
            containers(A1, B),
            containers({"$patch": "replace"}, {"name": "c"}),
            containers({"name": "c"}),
            id="a list is replaced",
        ),
        pytest.param(
            containers(
                {"name": "a", "ports": [{"containerPort": 53, "protocol": "UDP"}, {"x": 1}]}
            ),
            containers({"name": "a", "ports": [{"containerPort": 53, "name": "dns"}]}),
            containers(
                {
                    "name": "a",
                    "ports": [{"containerPort": 53, "protocol": "UDP", "name": "dns"}, {"x": 1}],
                }
            ),
            id="lists within items have keys, and odd items stay",
        ),
        pytest.param(
            containers({"name": "a", "ports": [{"containerPort": 1, "name": n} for n in "xy"]}),
            containers({"name": "a", "ports": [{"containerPort": 1, "hostPort": 2}]}),
            containers(
                {
                    "name": "a",
                    "ports": [
                        {"containerPort": 1, "name": "x", "hostPort": 2},
                        {"containerPort": 1, "name": "y"},
                    ],
                }
            ),
            id="of items with one key the first is merged with",
        ),
        pytest.param(
            containers({"name": "a", "ports": [{"containerPort": 1, "name": n} for n in "xy"]}),
            containers({"name": "a", "ports": [{"containerPort": 1, "$patch": "delete"}]}),
            containers({"name": "a", "ports": []}),
            id="all items with the key are deleted",
        ),
        pytest.param(
            containers({"name": "a", "command": ["x", "y"]}),
            containers({"name": "a", "command": ["z"]}),
            containers({"name": "a", "command": ["z"]}),
            id="lists without a key are replaced",
        ),
        pytest.param(
            {"spec": {"tolerations": [{"key": "a"}]}},
            {"spec": {"tolerations": [{"key": "b", "x": None, "$patch": "merge"}, {"key": "c"}]}},
            {"spec": {"tolerations": [{"key": "c"}]}},
            id="directives are not stored",
        ),
        pytest.param(
            {"metadata": {"finalizers": ["a/a", "b/b"]}},
            {"metadata": {"finalizers": ["c/c", "a/a"]}},
            {"metadata": {"finalizers": ["c/c", "a/a", "b/b"]}},
            id="sets are united",
        ),
        pytest.param(
            {"metadata": {"finalizers": ["a/a", "b/b"]}},
            {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/a"]}},
            {"metadata": {"finalizers": ["b/b"]}},
            id="members of sets are deleted",
        ),
        pytest.param(
            {"metadata": {"finalizers": ["a/a"]}},
            {
                "metadata": {
                    "$deleteFromPrimitiveList/finalizers": ["a/a"],
                    "$setElementOrder/finalizers": ["c/c", "b/b"],
                    "finalizers": ["b/b", "c/c"],
                }
            },
            {"metadata": {"finalizers": ["c/c", "b/b"]}},
            id="sets have an order, too",
        ),
        pytest.param(
            {"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}},
            {
                "spec": {
                    "volumes": [
                        {
                            "name": "v",
                            "hostPath": {"path": "/x"},
                            "$retainKeys": ["name", "hostPath"],
                        }
                    ]
                }
            },
            {"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}},
            id="a volume changes its source",
        ),
    ],
)
def test_strategic_merge(object: Json, change: Json, result: Json) -> None:
    assert strategic(object, change) == result


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ([], "the patch must be a mapping"),
        ({"spec": {"$patch": "x"}}, "spec: $patch must be delete, merge or replace"),
        (containers({"image": "x"}), "spec.containers: each item must be a mapping with its key"),
        (containers("a"), "spec.containers: each item must be a mapping with its key, name"),
        (
            containers({"name": "a"}, **{"$setElementOrder/containers": [{"name": "b"}]}),
            "$setElementOrder/containers must name all items of the patch",
        ),
        (containers(**{"$setElementOrder/containers": 1}), "must be a list"),
        ({"metadata": {"finalizers": [{}]}}, "metadata.finalizers: must be a list of scalars"),
        ({"spec": {"$retainKeys": [], "a": 1}}, "$retainKeys must name a, which the patch sets"),
        ({"spec": {"$retainKeys": "x"}}, "$retainKeys must be a list of names"),
    ],
)
def test_strategic_merges_that_mean_nothing_are_refused(change: Any, says: str) -> None:
    with pytest.raises(ApiError) as caught:
        patch.strategic_merge_patch(PODS, {"spec": {}}, change)
    assert caught.value.code == 400
    assert says in caught.value.message


# --- merge patch -------------------------------------------------------------------------------


def test_merge_patches_replace_lists_and_remove_by_null() -> None:
    object = {"a": [1, 2], "b": {"c": 1, "d": 2}, "e": 1}
    change = {"a": [3], "b": {"c": None}, "f": {"g": None}}
    assert patch.merge_patch(PODS, object, change) == {"a": [3], "b": {"d": 2}, "e": 1, "f": {}}
    with pytest.raises(ApiError, match="must be a mapping"):
        patch.merge_patch(PODS, object, [change])


# --- JSON patch --------------------------------------------------------------------------------


def test_json_patches_are_carried_out_in_order_and_in_a_copy() -> None:
    object = {"a": {"b": [1, 2]}}
    operations = [
        {"op": "test", "path": "/a/b/0", "value": 1},
        {"op": "add", "path": "/a/c", "value": {}},
        {"op": "add", "path": "/a/c/d", "value": 5},
        {"op": "copy", "from": "/a/c", "path": "/e"},
        {"op": "move", "from": "/a/b", "path": "/e/b"},
        {"op": "replace", "path": "/a/c/d", "value": None},
        {"op": "remove", "path": "/e/b/0"},
    ]
    before = copy.deepcopy((object, operations))
    result = patch.json_patch(PODS, object, operations)
    assert result == {"a": {"c": {"d": None}}, "e": {"d": 5, "b": [2]}}
    assert (object, operations) == before


SECRET = {"data": {"password": "c2VjcmV0"}}


@pytest.mark.parametrize(
    ("operations", "code", "says"),
    [
        ({}, 400, "a JSON patch must be a list of operations"),
        (["x"], 400, "operation 1 of the JSON patch"),
        ([{"op": "fly", "path": "/a"}], 400, "operation 1 of the JSON patch"),
        ([{"op": "add", "path": "/a"}], 400, "operation 1 of the JSON patch"),
        ([{"op": "replace", "path": "", "value": 1}], 400, "something else of the object"),
        (
            [{"op": "test", "path": "/data/password", "value": "x"}],
            422,
            "operation 1 of the JSON patch (test /data/password): test failed",
        ),
        (
            [{"op": "remove", "path": "/data/x"}],
            422,
            "operation 1 of the JSON patch (remove /data/x): there is no such place in the object",
        ),
        ([{"op": "add", "path": "/x/y", "value": 1}], 422, "no such place in the object"),
        ([{"op": "copy", "from": "/x", "path": "/y"}], 422, "no such place in the object"),
        ([{"op": "add", "path": "x", "value": 1}], 422, "no such place in the object"),
        ([{"op": "add", "path": "/a", "value": 1}] * 10_001, 413, "10000, got 10001"),
        (
            [{"op": "copy", "from": "", "path": f"/{number}"} for number in range(40)],
            413,
            "copies of the JSON patch exceed",
        ),
    ],
)
def test_json_patches_that_do_not_fit_are_refused(operations: Any, code: int, says: str) -> None:
    with pytest.raises(ApiError) as caught:
        patch.json_patch(PODS, SECRET, operations)
    assert caught.value.code == code
    assert says in caught.value.message
    assert "c2VjcmV0" not in caught.value.message
    if code == 422:
        [cause] = caught.value.details["causes"]
        assert says in cause["message"]
        assert cause["field"]  # kubectl prints it before the message, with a colon


def test_moves_that_nest_too_deeply_are_refused() -> None:
    object = {str(number): {} for number in range(120)}
    moves = [
        {"op": "move", "from": f"/{number}", "path": f"/{number + 1}/a"} for number in range(119)
    ]
    assert patch.json_patch(PODS, object, moves[:90])
    with pytest.raises(ApiError, match="nested deeper than 100 levels"):
        patch.json_patch(PODS, object, moves)


def test_what_is_nested_too_deeply_is_refused() -> None:
    deep: Json = {}
    for _ in range(3000):
        deep = {"a": deep}
    for apply in ALL:
        with pytest.raises(ApiError) as caught:
            apply(PODS, {}, deep if apply is not patch.json_patch else [deep])
        assert caught.value.code == 400


# --- properties --------------------------------------------------------------------------------

SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "b"])
KEYS = st.sampled_from(
    [
        "a",
        "name",
        "spec",
        "metadata",
        "containers",
        "env",
        "ports",
        "containerPort",
        "finalizers",
        "labels",
        "$patch",
        "$retainKeys",
        "$setElementOrder/containers",
        "$deleteFromPrimitiveList/finalizers",
    ]
)
JSON = st.recursive(
    SCALARS | st.just("delete") | st.just("replace"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(KEYS, JSON, max_size=4)
NAMED = st.lists(st.sampled_from("abc"), unique=True, max_size=3).map(lambda n: named_items(*n))
PODS_OF_ALL_KINDS = st.builds(
    lambda items, finalizers, odd: {
        "metadata": {"finalizers": finalizers},
        "spec": {"containers": items, **odd},
    },
    NAMED,
    st.lists(st.sampled_from("xyz"), unique=True),
    OBJECTS,
)
OPERATIONS = st.lists(
    st.fixed_dictionaries(
        {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"])},
        optional={
            "path": st.lists(st.sampled_from(["a", "0", "-", "spec", "~2"]), max_size=3).map(
                lambda parts: "".join(f"/{part}" for part in parts)
            ),
            "from": st.sampled_from(["", "/a", "/spec/a", "/spec", 5]),
            "value": JSON,
        },
    )
    | JSON,
    max_size=5,
)


@given(PODS_OF_ALL_KINDS | OBJECTS, PODS_OF_ALL_KINDS | OBJECTS | OPERATIONS)
def test_any_patch_is_carried_out_or_refused_and_changes_no_input(
    object: Json, change: Any
) -> None:
    before = copy.deepcopy((object, change))
    for apply in ALL:
        with contextlib.suppress(ApiError):
            assert isinstance(apply(PODS, object, change), dict)
        assert (object, change) == before


def _difference(old: Any, new: Any) -> Any:
    """The merge patch from one value to another."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    gone = dict.fromkeys(old.keys() - new.keys())
    return gone | {
        key: _difference(old.get(key), each)
        for key, each in new.items()
        if key not in old or old[key] != each
    }


def _nothing_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _nothing_null(each) for key, each in value.items() if each is not None}
    return value


@given(OBJECTS.map(_nothing_null), OBJECTS.map(_nothing_null))
def test_the_merge_patch_of_a_difference_gives_the_target(old: Json, new: Json) -> None:
    assert patch.merge_patch(NAMESPACES, old, _difference(old, new)) == new


@given(PODS_OF_ALL_KINDS, PODS_OF_ALL_KINDS)
def test_a_strategic_merge_does_nothing_the_second_time(object: Json, change: Json) -> None:
    try:
        once = patch.strategic_merge_patch(PODS, object, change)
    except ApiError:
        return
    assert patch.strategic_merge_patch(PODS, once, change) == once
