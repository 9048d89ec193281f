"""What is remembered of a shutdown: marks at exact times."""

from __future__ import annotations

from supervisor.api import v1
from supervisor.lifecycle import facts
from supervisor.lifecycle.facts import NodeStopping
from supervisor.lifecycle.record import observe
from supervisor.lifecycle.timeline import Moment
from tests.lifecycle.lives import (
    BOOT,
    Life,
    Play,
    Run,
    at,
    container,
    exits,
    pod,
    pre_stop,
    shown,
    sidecar,
)

DEAF = Run(stops_in=None)


def marks(life: Life) -> list[tuple[float, str]]:
    """Seconds, moment, container and note of each mark."""
    return [
        (
            round(m.at.boot - BOOT, 3),
            f"{m.moment} {m.container} {m.note}".replace("  ", " ").strip(),
        )
        for m in life.record.trail
    ]


def test_a_shutdown_is_remembered_step_by_step():
    life = Life(
        pod(container("app", **pre_stop())), {"app": DEAF}, plays={"app preStop": Play(lasts=2)}
    ).delete(10, grace=5)
    life.run()
    assert marks(life) == [
        (10, "stopping deletion, grace 5 s"),
        (10, "endpoints off"),
        (10, "alive app app"),
        (10, "preStop begins app"),
        (12, "preStop ends app succeeded"),
        (12, "stop signal app SIGTERM"),
        (15, "SIGKILL app"),
        (15, "exit app 137 Error"),
        (15, "over Failed"),
    ]
    assert {m.pid for m in life.record.trail if m.container} == {100}


def test_who_is_alive_is_known_for_every_moment():
    """From ALIVE to EXIT, each container that was waited for."""
    life = Life(
        pod("app", init=[sidecar("side")]), {"app": Run(stops_in=1), "side": Run(stops_in=2)}
    ).delete(10)
    life.run()
    assert marks(life) == [
        (10, "stopping deletion, grace 30 s"),
        (10, "endpoints off"),
        (10, "alive side side"),
        (10, "alive app app"),
        (10, "stop signal app SIGTERM"),
        (11, "exit app 143 Error"),
        (11, "stop signal side SIGTERM"),
        (13, "exit side 143 Error"),
        (13, "over Failed"),
    ]


def test_a_shorter_grace_is_remembered():
    life = Life(pod("app"), {"app": DEAF}).delete(10).delete(12, grace=3).run()
    assert (12, "grace shortened 3 s left") in marks(life)
    assert (15, "SIGKILL app") in marks(life)


def test_a_pod_that_never_stops_has_no_marks():
    assert Life(pod("app")).run(until=100).record.trail == ()


def test_the_end_of_a_pod_that_completes_is_remembered_too():
    life = Life(
        pod("app", init=[sidecar("side")], restart_policy="Never"), {"app": exits(0, 5)}
    ).run()
    assert marks(life) == [
        (5, "stopping completion, grace 30 s"),
        (5, "endpoints off"),
        (5, "alive side side"),
        (5, "stop signal side SIGTERM"),
        (5, "exit side 143 Error"),
        (5, "over Succeeded"),
    ]


def test_the_stop_signal_is_named():
    app = container("app", lifecycle=v1.Lifecycle(stop_signal="SIGUSR1"))
    life = Life(pod(app)).delete(5).run()
    assert (5, "stop signal app SIGUSR1") in marks(life)


def test_of_a_container_without_a_command_the_image_is_named():
    app = v1.Container(name="app", args=("--port", "80"), image="web:1")
    life = Life(pod(app)).delete(5).run()
    assert (5, "alive app web:1 --port 80") in marks(life)


def test_marks_survive_a_crash_and_none_comes_twice():
    life = Life(
        pod(container("app", **pre_stop())), {"app": DEAF}, plays={"app preStop": Play(lasts=9)}
    ).delete(10, grace=20)
    life.run(until=14)
    known = life.record
    for fact in life.relist():
        known = observe(known, fact)
    assert known.trail == life.record.trail
    assert [m.moment for m in known.trail].count(Moment.PRE_STOP) == 1


# --- the node ends (§7.8) ------------------------------------------------------------------------


def test_a_node_that_shuts_down_fails_its_pods_with_their_own_grace():
    """§7.8; E16"""
    life = Life(
        pod(container("app", **pre_stop()), restart_policy="Never"),
        {"app": Run(stops_in=1, stop_code=0)},
        plays={"app preStop": Play(lasts=1)},
    )
    life.tell(10, NodeStopping).run()
    assert life.now == 12
    assert life.status.phase == "Failed"
    assert life.status.reason == "Terminated"
    assert life.status.message == "Pod was terminated in response to imminent node shutdown."
    told = life.condition("DisruptionTarget")
    assert (told.status, told.reason) == ("True", "TerminationByKubelet")
    assert life.record.pod.metadata.deletion_timestamp is None
    assert marks(life)[0] == (10, "stopping node shutdown, grace 30 s")


def test_a_node_that_shuts_down_leaves_finished_pods_as_they_are():
    """§7.8: Succeeded stays so"""
    life = Life(pod("app", restart_policy="Never"), {"app": exits(0, 1)}).run()
    assert observe(life.record, NodeStopping(at(5))) == life.record


def test_asking_again_shortens_the_shutdown_of_a_node_and_never_lengthens_it():
    """§7.8, §7.2.4"""
    life = Life(pod("app"), {"app": DEAF})
    life.tell(10, NodeStopping).tell(12, lambda now: NodeStopping(now, grace=1))
    life.tell(12.5, lambda now: NodeStopping(now, grace=60)).run()
    assert [t for t, a in life.actions if isinstance(a, facts.KillContainer)] == [13]
    killed = Life(pod("app"), {"app": DEAF}).tell(10, lambda now: NodeStopping(now, kill=True))
    killed.run()
    assert killed.now == 10
    assert shown(killed.container("app")) == "terminated Error 137"
