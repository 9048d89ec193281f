"""Selectors find what a cluster finds, and refuse what they cannot read."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.apiserver import selectors
from supervisor.apiserver.contract import ApiError, Json, Resource


def resource(key: str = "pods") -> Resource:
    return Resource(plural=key, singular="", kind="", verbs=())


@pytest.mark.parametrize(
    ("selector", "labels", "found"),
    [
        ("", {}, True),
        ("app=web", {"app": "web"}, True),
        ("app==web", {"app": "web"}, True),
        ("app=web", {"app": "api"}, False),
        ("app=web", {}, False),
        ("app=", {"app": ""}, True),
        ("app=,x", {"app": "", "x": ""}, True),
        ("app!=web", {"app": "web"}, False),
        ("app!=web", {"app": "api"}, True),
        ("app!=web", {}, True),
        ("app", {"app": ""}, True),
        ("app", {}, False),
        ("!app", {}, True),
        ("! app", {"app": ""}, False),
        ("tier in (a, b)", {"tier": "b"}, True),
        ("tier in (a,b)", {"tier": "c"}, False),
        ("tier in (a)", {}, False),
        ("tier in ()", {"tier": ""}, True),
        ("tier in (,a)", {"tier": ""}, True),
        ("tier notin (a,b)", {"tier": "c"}, True),
        ("tier notin (a,b)", {"tier": "a"}, False),
        ("tier notin (a)", {}, True),
        ("n>3", {"n": "4"}, True),
        ("n>3", {"n": "3"}, False),
        ("n<3", {"n": "2"}, True),
        ("n<3", {"n": "x"}, False),
        ("n<3", {}, False),
        ("app=web,tier in (a),!old", {"app": "web", "tier": "a"}, True),
        ("app=web,tier in (a),!old", {"app": "web", "tier": "a", "old": ""}, False),
        (" app = web , x ", {"app": "web", "x": "1"}, True),
        ("in=x", {"in": "x"}, True),
        ("in in (in)", {"in": "in"}, True),
        ("kubernetes.io/role=a", {"kubernetes.io/role": "a"}, True),
    ],
)
def test_labels_are_selected_by(selector: str, labels: dict[str, str], found: bool) -> None:
    object = {"metadata": {"labels": labels}}
    assert selectors.parse(resource(), labels=selector).matches(object) is found


@pytest.mark.parametrize("object", [{}, {"metadata": {}}, {"metadata": {"labels": None}}])
def test_an_object_without_labels_has_none(object: Json) -> None:
    assert selectors.parse(resource(), labels="!app").matches(object)
    assert not selectors.parse(resource(), labels="app").matches(object)


@pytest.mark.parametrize(
    ("selector", "says"),
    [
        ("app=web,", "found 'its end' where the key of a label was expected"),
        (",", "found ',' where the key of a label was expected"),
        ("a b", "found 'b' where one of =, ==, !=, in, notin, <, > was expected"),
        ("a in b", "found 'b' where ( was expected"),
        ("a in (b", "found 'its end' where a comma or ) was expected"),
        ("a in (b c)", "found 'c' where a comma or ) was expected"),
        ("a=b c", "found 'c' where a comma was expected"),
        ("a==(", "found '(' where a value was expected"),
        ("a>x", "found 'x' where a whole number was expected"),
        ("a>", "where a whole number was expected"),
        ("a=b=c", "found '=' where a comma was expected"),
        ("!", "where the key of a label was expected"),
        ("-a=b", "'-a' is not the key of a label: name part must consist of"),
        ("a=-b", "'-b' is not the value of a label"),
    ],
)
def test_label_selectors_that_cannot_be_read_are_refused(selector: str, says: str) -> None:
    with pytest.raises(ApiError) as caught:
        selectors.parse(resource(), labels=selector)
    assert caught.value.code == 400
    assert says in caught.value.message


POD = {
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"nodeName": "here", "restartPolicy": "Always", "hostNetwork": True},
    "status": {"phase": "Running", "podIPs": [{"ip": "127.0.0.1"}]},
}
EVENT = {
    "metadata": {"name": "e"},
    "involvedObject": {"kind": "Pod", "name": "web", "uid": "1", "fieldPath": "spec.containers{a}"},
    "reason": "Started",
    "type": "Normal",
    "reportingComponent": "kubelet",
}


@pytest.mark.parametrize(
    ("key", "selector", "object", "found"),
    [
        ("pods", "", POD, True),
        ("pods", "metadata.name=web", POD, True),
        ("pods", "metadata.name=api", POD, False),
        ("pods", "metadata.name!=web", POD, False),
        ("pods", "metadata.name==web,metadata.namespace=default", POD, True),
        ("pods", "spec.nodeName=here,status.phase!=Succeeded,status.phase!=Failed", POD, True),
        ("pods", "spec.nodeName=", POD, False),
        ("pods", "spec.nodeName=", {}, True),
        ("pods", "status.podIP=127.0.0.1", POD, True),
        ("pods", "status.podIP=", {"status": {"podIPs": []}}, True),
        ("pods", "spec.hostNetwork=true", POD, True),
        ("pods", "spec.hostNetwork=false", {}, True),
        ("pods", "spec.restartPolicy=Never", POD, False),
        (
            "pods",
            "spec.schedulerName=,spec.serviceAccountName=,status.nominatedNodeName=",
            {},
            True,
        ),
        ("nodes", "spec.unschedulable=false", {}, True),
        ("nodes", "spec.unschedulable=false", {"spec": {"unschedulable": True}}, False),
        ("nodes", "spec.unschedulable!=true", {"spec": {"unschedulable": False}}, True),
        ("events", "involvedObject.name=web,involvedObject.uid=1", EVENT, True),
        ("events", "involvedObject.kind=Pod,involvedObject.apiVersion=v1", EVENT, False),
        ("events", "source=kubelet,reportingComponent=kubelet", EVENT, True),
        ("events", "source=me", {**EVENT, "source": {"component": "me"}}, True),
        ("events", r"involvedObject.fieldPath=spec.containers{a}", EVENT, True),
        ("events", r"reason=a\,b\=\\", {"reason": r"a,b=" + "\\"}, True),
        ("secrets", "type=Opaque", {"type": "Opaque"}, True),
        ("namespaces", "status.phase=Active", {"status": {"phase": "Terminating"}}, False),
        ("widgets", "metadata.name=w,,", {"metadata": {"name": "w"}}, True),
    ],
)
def test_fields_are_selected_by(key: str, selector: str, object: Json, found: bool) -> None:
    assert selectors.parse(resource(key), fields=selector).matches(object) is found


@pytest.mark.parametrize(
    ("selector", "says"),
    [
        ("foo=bar", "field label not supported: foo"),
        ("spec.unschedulable=true", "field label not supported: spec.unschedulable"),
        ("metadata.name", "cannot understand 'metadata.name'"),
        ("metadata.name=a=b", "with a backslash before it"),
        ("metadata.name=a\\b", "with a backslash before it"),
        ("metadata.name=a\\", "with a backslash before it"),
    ],
)
def test_field_selectors_that_cannot_be_met_are_refused(selector: str, says: str) -> None:
    with pytest.raises(ApiError) as caught:
        selectors.parse(resource(), fields=selector)
    assert caught.value.code == 400
    assert says in caught.value.message


def test_a_refused_field_is_said_with_those_that_there_are() -> None:
    with pytest.raises(ApiError) as caught:
        selectors.parse(resource("secrets"), labels="a=b", fields="foo=bar")
    assert caught.value.message == (
        "field label not supported: foo (there are: metadata.name, metadata.namespace, type)"
    )


def test_both_selectors_have_to_be_met() -> None:
    selector = selectors.parse(resource(), labels="app", fields="metadata.name=web")
    assert selector.name == "web"
    assert selector
    assert not selectors.parse(resource())
    assert not selector.matches(POD)
    assert selector.matches({"metadata": {"name": "web", "labels": {"app": ""}}})


_WORDS = st.sampled_from(["a", "in", "notin", "(", ")", ",", "=", "!=", "!", "<", ">", " ", "\\"])


@given(st.lists(_WORDS, max_size=8).map("".join) | st.text(max_size=8))
def test_any_text_is_read_or_refused(text: str) -> None:
    for labels, fields in ((text, ""), ("", text), ("", f"metadata.name={text}")):
        with contextlib.suppress(ApiError):
            selectors.parse(resource(), labels, fields).matches(POD)
