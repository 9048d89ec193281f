"""Pods that end by themselves: one `podvisor run` of many pods, and what each of them shows.

The names in brackets are those of the acceptance scenarios.
"""

from __future__ import annotations

import os
from itertools import pairwise

import pytest

from tests.support import (
    NOBODY,
    Finished,
    Manifest,
    Place,
    Pod,
    Way,
    container,
    in_pidns,
    pod,
    python,
    sh,
    sidecar,
    step,
)

pytestmark = pytest.mark.usefixtures("nothing_left")

NEVER = {"restartPolicy": "Never"}
# Where last words go; in mode group nothing is mounted, and a variable names the file.
WORDS = "${PODVISOR_TERMINATION_LOG:-/dev/termination-log}"


def restarts(*codes: int, operator: str = "In") -> Manifest:
    rule = {"action": "Restart", "exitCodes": {"operator": operator, "values": list(codes)}}
    return {"restartPolicy": "Never", "restartPolicyRules": [rule]}


def restarts_all(code: int) -> Manifest:
    rule = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [code]}}
    return {"restartPolicy": "Never", "restartPolicyRules": [rule]}


def once(first: str, then: str) -> str:
    """A script that does one thing at its first run and another one later."""
    return f"if [ -e ran ]; then {then}; else touch ran; {first}; fi"


def the_pods(way: Way) -> list[Manifest]:
    own = {"securityContext": {"runAsUser": NOBODY if way.changes_users else way.uid}}
    custom = "/dev/termination-custom-log"
    return [
        # init containers and phases
        pod("a02", step("app"), init=(step("prepare", 0.2, 1),), **NEVER),
        pod("a04", step("app", 0.1), init=(step("one"), step("two")), **NEVER),
        pod("a07", step("app"), init=(step("init1"), step("init2", 0, 1)), **NEVER),
        pod("a10", step("app"), init=(container("lost", "no-such-program"),), **NEVER),
        pod("a15", step("fails", 0, 1), step("works", 1.0), **NEVER),
        pod("a16", sh("app", "exit 0"), init=(sh("prepare", "exit 0"),), **NEVER),
        # sidecars
        pod(
            "b01",
            step("app", 0.3, sides=2),
            init=(
                step("init1", 0.1),
                sidecar(step("side1", 1000)),
                step("init2", 0.1),
                sidecar(step("side2", 1000)),
                step("init3", 0.1),
            ),
            **NEVER,
        ),
        pod(
            "b07",
            step("app", 0.3, sides=3),
            init=tuple(sidecar(step(f"side{i}", 1000, stop=0.2)) for i in (1, 2, 3)),
            **NEVER,
        ),
        pod(
            "b16",
            step("app", 0.2, sides=1),
            init=(sidecar(step("side", 1000, stop="deaf")),),
            terminationGracePeriodSeconds=1,
            **NEVER,
        ),
        pod(
            "b17",
            sh(
                "app",
                ": >>steps; while [ $(grep -c 'side began' steps) -lt 3 ]; do sleep 0.05; done",
            ),
            init=(sidecar(step("side", 0.1)),),
            **NEVER,
        ),
        # restart
        pod(
            "all",
            sh(
                "watcher",
                "n=1; [ -e ran ] && n=2; touch ran;"
                " until [ -e up ] && [ $(grep -c 'side began' steps) = $n ]; do sleep 0.05; done;"
                " [ $n = 2 ] || exit 42",
                **restarts_all(42),
            ),
            sh("other", "[ -e up ] && exit 0; trap '' TERM; touch up; sleep 1000"),
            init=(step("prepare"), sidecar(step("side", 1000))),
            **NEVER,
        ),
        pod("f07", sh("app", once("exit 42", "exit 0"), **restarts(42)), **NEVER),
        pod("f07-no-rule", sh("app", "exit 1", **restarts(42)), **NEVER),
        pod("f08", sh("app", once("exit 7", "exit 3"), **restarts(3, operator="NotIn")), **NEVER),
        pod("f09", step("app"), init=(sh("once", "exit 1", **NEVER),), restartPolicy="Always"),
        # termination messages and logs
        pod(
            "g01",
            sh(
                "app",
                "printf DONE; false",
                terminationMessagePolicy="FallbackToLogsOnError",
            ),
            **NEVER,
        ),
        pod(
            "g02",
            sh("app", "printf DONE", terminationMessagePolicy="FallbackToLogsOnError"),
            **NEVER,
        ),
        pod(
            "g03",
            sh(
                "app",
                f"echo log; printf OK >{WORDS}",
                terminationMessagePolicy="FallbackToLogsOnError",
            ),
            **NEVER,
        ),
        pod(
            "g04",
            sh(
                "app",
                f"printf DONE >${{PODVISOR_TERMINATION_LOG:-{custom}}}",
                terminationMessagePath=custom,
            ),
            **NEVER,
            **own,
        ),
        pod("g05", sh("app", f"printf DONE >{WORDS}"), **NEVER),
        pod("g07", container("app", "echo", "Hello World"), **NEVER),
        pod("g08", container("app", "false"), **NEVER),
        pod(
            "g-nowhere",
            sh(
                "app",
                "printf DONE >${PODVISOR_TERMINATION_LOG:-/no/such/folder/words}",
                terminationMessagePath="/no/such/folder/words",
            ),
            **NEVER,
        ),
        # environment, command, identity
        pod(
            "h01",
            container(
                "app",
                "env",
                env=[
                    {"name": "FOO", "value": "foo"},
                    {"name": "BAR", "value": "bar"},
                    {"name": "FOOBAR", "value": "$(FOO);;$(BAR)"},
                ],
            ),
            **NEVER,
        ),
        pod(
            "h02",
            container("app", "echo", "$(WHO) $$(WHO) $(NOBODY)", env=[var("WHO", "me")]),
            **NEVER,
        ),
        pod(
            "h03",
            container("app", "echo", args=["args", "$(WHO)"], env=[var("WHO", "me")]),
            **NEVER,
        ),
        pod(
            "h12",
            container(
                "app",
                "env",
                env=[
                    field("NAME", "metadata.name"),
                    field("NAMESPACE", "metadata.namespace"),
                    field("IP", "status.podIP"),
                    field("HOST", "status.hostIP"),
                    field("HOSTS", "status.hostIPs"),
                    field("ID", "metadata.uid"),
                    field("TEAM", "metadata.labels['team']"),
                ],
            ),
            metadata={"namespace": "shop", "labels": {"team": "blue"}},
            **NEVER,
        ),
        pod(
            "h13",
            container(
                "app",
                "env",
                env=[
                    resource("CPU", "limits.cpu"),
                    resource("MEMORY", "limits.memory"),
                    resource("CPU_WISH", "requests.cpu", "1m"),
                    resource("MEMORY_WISH", "requests.memory", "1Mi"),
                ],
                resources={
                    "limits": {"cpu": "1250m", "memory": "64Mi"},
                    "requests": {"cpu": "250m", "memory": "32Mi"},
                },
            ),
            container(
                "unlimited",
                "env",
                env=[resource("CPU", "limits.cpu"), resource("MEMORY", "limits.memory")],
            ),
            **NEVER,
        ),
        pod("h16", sh("app", "id -u; id -g; echo $HOME"), **NEVER, **own),
        # partial lines
        pod(
            "long",
            python("app", "print('x' * 40_000); print('unended', end='', flush=True)"),
            **NEVER,
        ),
    ]


def var(name: str, value: str) -> Manifest:
    return {"name": name, "value": value}


def field(name: str, path: str) -> Manifest:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def resource(name: str, of: str, divisor: str = "0") -> Manifest:
    return {"name": name, "valueFrom": {"resourceFieldRef": {"resource": of, "divisor": divisor}}}


@pytest.fixture(scope="module")
def finished(way: Way, shared_place: Place) -> Finished:
    done = shared_place.run(*the_pods(way), "-o", "json", "--backoff-initial", "100ms")
    assert done.code == 1, done.err  # some pods fail, as they shall
    return done


@pytest.fixture(scope="module")
def _parsed(finished: Finished) -> dict[str, Pod]:
    return finished.pods


@pytest.fixture
def pods(_parsed: dict[str, Pod], finished: Finished) -> dict[str, Pod]:
    print(finished.err)  # shown when a test fails
    return _parsed


# --- init containers and phases ------------------------------------------------------------------


def test_a_failed_init_container_fails_a_pod_that_never_restarts(pods: dict[str, Pod]):
    """[A02, A12]"""
    pod = pods["a02"]

    assert pod.phase == "Failed"
    assert pod.walk() == ["prepare began", "prepare ended"]
    assert pod.end("prepare") == ("Error", 1)
    assert pod.state("app") == {"is": "waiting", "reason": "PodInitializing"}
    assert pod.said() == ["Failed"]  # neither Running nor Succeeded before
    assert pod.said("app") == []


def test_init_containers_run_in_order_before_the_app(pods: dict[str, Pod]):
    """[A04]"""
    pod = pods["a04"]

    assert pod.phase == "Succeeded"
    assert pod.walk() == [f"{name} {what}" for name in ("one", "two", "app") for what in WAYPOINTS]
    assert [s["ready"] for s in pod.status["initContainerStatuses"]] == [True, True]
    assert pod.end("one") == pod.end("two") == ("Completed", 0)
    assert pod.conditions["Initialized"]["status"] == "True"
    assert all(c["lastTransitionTime"] for c in pod.conditions.values())


WAYPOINTS = ("began", "ended")


def test_the_pod_says_which_init_container_is_not_complete(pods: dict[str, Pod]):
    """[A07]"""
    pod = pods["a07"]
    initialized = pod.conditions["Initialized"]

    assert pod.phase == "Failed"
    assert initialized["status"] == "False"
    assert initialized["message"] == "containers with incomplete status: [init2]"
    assert pod.state("app")["is"] == "waiting"


def test_an_init_command_that_does_not_exist_starts_nothing(pods: dict[str, Pod]):
    """[A10]"""
    pod = pods["a10"]

    assert pod.phase == "Failed"
    assert pod.end("lost") == ("StartError", 128)
    why = 'exec: "no-such-program": executable file not found in $PATH'
    assert pod.message("lost") == why
    assert pod.said("lost")[0] == f"cannot start: {why}"
    assert pod.steps == []
    assert pod.state("app") == {"is": "waiting", "reason": "PodInitializing"}


def test_a_pod_with_a_failed_app_fails_when_the_others_have_ended(pods: dict[str, Pod]):
    """[A15]"""
    pod = pods["a15"]

    assert pod.said() == ["Running", "Failed"]
    assert pod.end("fails") == ("Error", 1)
    assert pod.end("works") == ("Completed", 0)
    (failed,), (worked,) = pod.at("fails", "ended"), pod.at("works", "ended")
    assert failed < worked
    assert pod.conditions["ContainersReady"]["reason"] == "PodFailed"


def test_a_completed_pod_has_its_conditions_in_order(pods: dict[str, Pod]):
    """[A16]"""
    pod = pods["a16"]

    found = [(c["type"], c["status"], c.get("reason")) for c in pod.status["conditions"]]
    assert found == [
        ("PodReadyToStartContainers", "False", None),
        ("Initialized", "True", "PodCompleted"),
        ("Ready", "False", "PodCompleted"),
        ("ContainersReady", "False", "PodCompleted"),
        ("PodScheduled", "True", None),
    ]
    assert [c.get("lastProbeTime") for c in pod.status["conditions"]] == [None] * 5


# --- sidecars ------------------------------------------------------------------------------------


def test_sidecars_start_in_their_place_and_run_until_the_app_has_ended(pods: dict[str, Pod]):
    """[B01]"""
    pod = pods["b01"]
    walk = pod.walk()

    assert pod.phase == "Succeeded"
    order = [step.removesuffix(" began") for step in walk if step.endswith("began")]
    # A sidecar is started, not waited for: the next one may be as quick as it.
    assert [name for name in order if "side" not in name] == ["init1", "init2", "init3", "app"]
    assert walk.index("side1 began") > walk.index("init1 ended")
    assert walk.index("side2 began") > walk.index("init2 ended")
    for side in ("side1", "side2"):
        assert walk.index(f"{side} told") > walk.index("app ended")
        assert len(pod.at(side, "ended")) == 1
    starts = [pod.containers[n]["state"]["terminated"]["startedAt"] for n in B01]
    assert starts == sorted(starts)


B01 = ("init1", "side1", "init2", "side2", "init3", "app")


def test_sidecars_are_stopped_in_reverse_order_after_the_app(pods: dict[str, Pod]):
    """[B07]"""
    pod = pods["b07"]
    names = ("app", "side3", "side2", "side1")

    assert pod.phase == "Succeeded"
    assert [s.name for s in pod.steps if s.what == "ended"] == list(names)
    for before, after in pairwise(names):
        if after != "side3":
            assert pod.at(before, "ended")[0] <= pod.at(after, "told")[0]


def test_a_deaf_sidecar_is_killed_and_the_pod_still_succeeds(pods: dict[str, Pod]):
    """[B16]"""
    pod = pods["b16"]

    assert pod.phase == "Succeeded"
    assert pod.end("side") == ("Error", 137)
    assert pod.end("app") == ("Completed", 0)


def test_a_sidecar_that_exits_is_restarted_whatever_the_pods_policy(pods: dict[str, Pod]):
    """[B17]"""
    pod = pods["b17"]

    assert pod.containers["side"]["restartCount"] >= 2
    assert len(pod.at("side", "began")) >= 3
    assert pod.said()[0] == "Running"
    assert pod.phase == "Succeeded"


# --- restart -------------------------------------------------------------------------------------


def test_a_rule_that_matches_restarts_the_container(pods: dict[str, Pod]):
    """[F07]"""
    pod = pods["f07"]

    assert pod.phase == "Succeeded"
    assert pod.containers["app"]["restartCount"] == 1
    assert pod.containers["app"]["lastState"]["terminated"]["exitCode"] == 42


def test_without_a_matching_rule_the_containers_policy_decides(pods: dict[str, Pod]):
    """[F07, F08]"""
    assert pods["f07-no-rule"].phase == "Failed"
    assert pods["f07-no-rule"].containers["app"]["restartCount"] == 0
    assert pods["f08"].phase == "Failed"
    assert pods["f08"].containers["app"]["restartCount"] == 1
    assert pods["f08"].end("app") == ("Error", 3)


def test_the_end_of_one_container_restarts_the_whole_pod(pods: dict[str, Pod]):
    """§3.4.2, §3.4.3, §3.4.4: [H19] in part"""
    pod = pods["all"]

    assert pod.phase == "Succeeded"
    assert {name: c["restartCount"] for name, c in pod.containers.items()} == dict.fromkeys(
        ("prepare", "side", "watcher", "other"), 1
    )
    lasts = {name: c["lastState"]["terminated"] for name, c in pod.containers.items()}
    assert {name: (last["reason"], last["exitCode"]) for name, last in lasts.items()} == {
        "prepare": ("Completed", 0),
        "side": ("RestartingAllContainers", 137),
        "watcher": ("Error", 42),
        "other": ("RestartingAllContainers", 137),
    }
    walk = [what for what in pod.walk() if not what.startswith("side told")]
    began = ["prepare began", "prepare ended", "side began"]
    assert walk == [*began, *began, "side ended"], "the first life of the sidecar was cut off"
    *_, last = pod.object["status"]["conditions"]
    assert (last["type"], last["status"]) == ("AllContainersRestarting", "False")


def test_an_init_container_that_never_restarts_fails_a_pod_that_always_does(
    pods: dict[str, Pod],
):
    """[F09]"""
    pod = pods["f09"]

    assert pod.phase == "Failed"
    assert pod.steps == []
    assert pod.containers["once"]["restartCount"] == 0


# --- termination messages and logs ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "phase", "message"),
    [
        pytest.param("g01", "Failed", "DONE", id="G01: from the log on error"),
        pytest.param("g02", "Succeeded", "", id="G02: not from the log on success"),
        pytest.param("g03", "Succeeded", "OK", id="G03: from the file"),
        pytest.param("g04", "Succeeded", "DONE", id="G04: as another user, at another path"),
        pytest.param("g05", "Succeeded", "DONE", id="G05: at the default path"),
        pytest.param("g-nowhere", "Succeeded", "DONE", id="where no folder is"),
    ],
)
def test_last_words_are_in_the_status(pods: dict[str, Pod], name: str, phase: str, message: str):
    assert pods[name].phase == phase
    assert pods[name].message("app") == message


@in_pidns
def test_last_words_leave_no_file_on_the_host(pods: dict[str, Pod]):
    assert pods["g04"].message("app") == "DONE"
    assert not os.path.exists("/dev/termination-custom-log")
    assert not os.path.exists("/no")
    assert not os.path.exists("/dev/termination-log")


def test_what_a_container_writes_is_shown(pods: dict[str, Pod]):
    """[G07]"""
    assert pods["g07"].lines("app") == ["Hello World"]


def test_a_failed_container_has_a_reason(pods: dict[str, Pod]):
    """[G08]"""
    assert pods["g08"].end("app") == ("Error", 1)


def test_long_and_unended_lines_are_shown_whole(pods: dict[str, Pod]):
    assert pods["long"].lines("app") == ["x" * 40_000, "unended"]


# --- environment, command, identity --------------------------------------------------------------


def environment(pod: Pod, name: str = "app") -> dict[str, str]:
    return dict(line.split("=", 1) for line in pod.lines(name))  # type: ignore[misc]


def test_variables_are_composed_of_variables(pods: dict[str, Pod]):
    """[H01]"""
    assert environment(pods["h01"])["FOOBAR"] == "foo;;bar"


def test_variables_are_substituted_in_command_and_args(pods: dict[str, Pod]):
    """[H02, H03]"""
    assert pods["h02"].lines("app") == ["me $(WHO) $(NOBODY)"]
    assert pods["h03"].lines("app") == ["args me"]


def test_a_container_can_know_about_its_pod(pods: dict[str, Pod]):
    """[H12]"""
    pod = pods["h12"]
    told = environment(pod)

    assert {name: told[name] for name in ("NAME", "NAMESPACE", "IP", "HOST", "HOSTS", "TEAM")} == {
        "NAME": "h12",
        "NAMESPACE": "shop",
        "IP": "127.0.0.1",
        "HOST": "127.0.0.1",
        "HOSTS": "127.0.0.1",
        "TEAM": "blue",
    }
    assert told["ID"] == pod.object["metadata"]["uid"]
    assert pod.status["podIP"] == pod.status["hostIP"] == "127.0.0.1"


def test_a_container_can_know_its_resources(pods: dict[str, Pod]):
    """[H13]"""
    told = environment(pods["h13"])
    names = ("CPU", "MEMORY", "CPU_WISH", "MEMORY_WISH")

    assert [told[name] for name in names] == ["2", str(64 << 20), "250", "32"]
    unlimited = environment(pods["h13"], "unlimited")
    assert int(unlimited["CPU"]) == len(os.sched_getaffinity(0))
    assert int(unlimited["MEMORY"]) == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_the_main_process_runs_as_the_user_asked_for(pods: dict[str, Pod], way: Way):
    """[H16]"""
    uid, gid, home = pods["h16"].lines("app")

    if way.changes_users:
        # A user without a group gets group 0, and the home of the user database.
        assert (uid, gid) == (str(NOBODY), "0")
        assert home == "/nonexistent"
    else:
        assert uid == str(way.uid)


# --- the whole run -------------------------------------------------------------------------------


def test_the_exit_code_says_that_a_pod_failed(finished: Finished):
    assert finished.code == 1


def test_several_pods_are_printed_as_a_list(finished: Finished, way: Way):
    assert list(finished.pods) == [manifest["metadata"]["name"] for manifest in the_pods(way)]
    assert {pod.phase for pod in finished.pods.values()} == {"Succeeded", "Failed"}


def test_the_table_at_the_end_has_every_container(finished: Finished, way: Way):
    table = finished.table()

    assert table["default/a02/prepare"][:3] == ["0", "1", "Error"]
    assert table["default/a02/app"] == ["0", "-", "PodInitializing", "-"]
    assert table["default/a10/lost"] == ["0", "128", "StartError", "-"]
    assert table["default/f07/app"][:3] == ["1", "0", "Completed"]
    containers = sum(
        len(manifest["spec"]["containers"]) + len(manifest["spec"].get("initContainers", ()))
        for manifest in the_pods(way)
    )
    assert len(table) == containers
