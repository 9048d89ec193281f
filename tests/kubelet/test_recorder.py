"""Events are aggregated and limited as in a cluster."""

from __future__ import annotations

from supervisor.api import v1
from supervisor.kubelet.recorder import Recorder
from supervisor.lifecycle.facts import Instant
from supervisor.lifecycle.record import EventDraft

POD = v1.Pod(metadata=v1.ObjectMeta(name="web", namespace="default", uid="u1"))


def at(seconds: float) -> Instant:
    return Instant(wall=1_700_000_000 + seconds, boot=seconds)


def draft(message: str, reason: str = "BackOff", type: str = "Warning") -> EventDraft:
    return EventDraft(type=type, reason=reason, message=message, field_path="spec.containers{a}")


def test_the_same_event_again_raises_its_count_and_last_time() -> None:
    """§11.3.1"""
    recorder = Recorder("here")
    recorder.record(POD, draft("again"), at(0))
    event = recorder.record(POD, draft("again"), at(7))
    assert event is not None
    assert event.count == 2
    assert event.first_timestamp == "2023-11-14T22:13:20Z"
    assert event.last_timestamp == "2023-11-14T22:13:27Z"
    assert len(recorder.events("u1")) == 1


def test_the_tenth_distinct_message_within_ten_minutes_is_combined() -> None:
    """§11.3.2"""
    recorder = Recorder("here")
    events = [recorder.record(POD, draft(f"message {i}"), at(i)) for i in range(12)]
    messages = [event.message for event in events if event is not None]
    assert messages[8] == "message 8"
    assert messages[9] == "(combined from similar events): message 9"
    assert messages[11] == "(combined from similar events): message 11"
    combined = recorder.events()[-1]
    assert combined.count == 3
    assert combined.message.endswith("message 11")


def test_after_ten_quiet_minutes_messages_stand_alone_again() -> None:
    """§11.3.2"""
    recorder = Recorder("here")
    for i in range(10):
        recorder.record(POD, draft(f"message {i}"), at(0))
    event = recorder.record(POD, draft("another"), at(601))
    assert event is not None
    assert event.message == "another"


def test_a_burst_of_25_is_let_through_and_then_one_in_five_minutes() -> None:
    """§11.3.3"""
    recorder = Recorder("here")
    passed = [recorder.record(POD, draft("m"), at(i / 100)) is not None for i in range(40)]
    assert passed == [True] * 25 + [False] * 15
    assert recorder.record(POD, draft("m"), at(299)) is None
    assert recorder.record(POD, draft("m"), at(302)) is not None
    assert recorder.record(POD, draft("m"), at(303)) is None


def test_an_event_names_its_object_component_and_time() -> None:
    """§11.1"""
    recorder = Recorder("here")
    event = recorder.record(POD, draft("m", "Started", "Normal"), at(0.5))
    assert event is not None
    assert event.metadata.name == f"web.{int((1_700_000_000.5) * 1e9):x}"
    assert event.involved_object.kind == "Pod"
    assert event.involved_object.uid == "u1"
    assert event.involved_object.field_path == "spec.containers{a}"
    assert (event.source.component, event.source.host) == ("kubelet", "here")
    assert event.reporting_component == "kubelet"


def test_events_of_one_moment_have_names_of_their_own() -> None:
    recorder = Recorder("here")
    events = [recorder.record(POD, draft(f"message {i}"), at(1)) for i in range(5)]
    assert len({event.metadata.name for event in events if event is not None}) == 5
