"""What a program sees that embeds podvisor: pods by handle, errors that help, a bounded end."""

from __future__ import annotations

import asyncio
import gc
import os
import pathlib
import re
import signal
import threading

import anyio
import pytest

import supervisor
from supervisor import (
    LogLine,
    ManifestError,
    NodeError,
    PodError,
    PodFailed,
    PodHandle,
    PodTimeout,
    Supervisor,
    UsageError,
)
from supervisor.api import v1
from tests.embed.conftest import Make, loop_policy
from tests.runtime.conftest import in_all_ways_on_both_loops
from tests.runtime.nodes import Way, children, until
from tests.support import BEST

pytestmark = pytest.mark.anyio

PATIENT = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.02; done"
DEAF = "trap '' TERM; echo up; while :; do sleep 0.02; done"

WEB = """\
apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  terminationGracePeriodSeconds: 5
  containers:
    - name: main
      command: [sh, -c, "trap 'exit 0' TERM; echo up; while :; do sleep 0.02; done"]
      ports: [{name: http, containerPort: 18123}]
"""


def one_way(way: Way) -> None:
    """For what no mode has to do with."""
    if way != BEST:
        pytest.skip("one way is enough")


async def said(pod: PodHandle, word: str, container: str = "") -> None:
    await until(lambda: word in pod.output(container), f"{word!r} of {pod.name}")


# --- one pod, from its start to its end ----------------------------------------------------------


@in_all_ways_on_both_loops
async def test_a_command_is_started_used_and_terminated(make: Make) -> None:
    async with make() as node:
        pod = await node.run(["sh", "-c", PATIENT], name="web", env={"COLOUR": "blue"}, port=18124)
        await pod.wait_ready()
        await said(pod, "up")
        assert (pod.name, pod.phase, pod.ready, pod.host_port) == ("web", "Running", True, 18124)
        assert pod.pid is not None
        assert os.path.exists(f"/proc/{pod.pid}")
        done = await pod.exec("web", ["sh", "-c", "echo $COLOUR; echo err >&2; exit 4"])
        assert (done.exit_code, done.output) == (4, "blue\nerr\n")
        report = await pod.terminate()
        assert (report.exit_code, report.killed, report.phase) == (3, (), "Failed")
        assert report.container("web").seconds is not None
        assert "SIGTERM" in str(report)
        assert str(report) == pod.timeline
        assert pod.output() == "up\nbye\n"
        assert (pod.pid, pod.exit_code, node.pods()) == (None, 3, ())


async def test_a_program_that_does_not_end_is_reported_as_killed(make: Make) -> None:
    async with make() as node:
        pod = await node.run(["sh", "-c", DEAF], name="deaf")
        await said(pod, "up")
        report = await pod.terminate(grace=1)
        assert (report.exit_code, report.killed) == (137, ("deaf",))
        assert report.seconds >= 1


async def test_a_program_run_in_a_container_that_takes_too_long_is_killed(make: Make) -> None:
    async with make() as node:
        pod = await node.run(["sh", "-c", PATIENT])
        await pod.wait_ready()
        done = await pod.exec("", ["sleep", "100"], timeout=0.2)
        assert done.exit_code is None
        with pytest.raises(PodError, match="cannot run 'no-such-program' in sh: "):
            await pod.exec("", ["no-such-program"])


async def test_signals_reach_the_main_process(make: Make) -> None:
    script = "trap 'echo one' USR1; trap 'echo two' HUP; echo up; while :; do sleep 0.02; done"
    async with make() as node:
        pod = await node.run(["sh", "-c", script])
        await said(pod, "up")
        await pod.signal("sh", "SIGUSR1")
        await said(pod, "one")
        await pod.signal("", signal.SIGHUP)
        await said(pod, "two")
        await pod.signal("", 9)
        assert (await pod.wait(check=False)).phase == "Failed"
        with pytest.raises(PodError, match="container sh of sh does not run"):
            await pod.signal("", 9)


async def test_kill_dash_nine_of_the_launcher_is_told_to_whoever_waits(
    make: Make, way: Way
) -> None:
    one_way(way)
    async with make() as node:
        pod = await node.run(["sh", "-c", PATIENT])
        await pod.wait_ready()
        (launcher,) = children()
        os.kill(launcher, signal.SIGKILL)
        with pytest.raises((NodeError, PodFailed)):
            await pod.wait_for("Never", timeout=10)
        with pytest.raises(NodeError, match="launcher"):
            await node.run(["true"])


# --- what a pod is made of -----------------------------------------------------------------------


async def test_every_kind_of_source_is_a_pod(make: Make, folder: str, way: Way) -> None:
    one_way(way)
    path = pathlib.Path(folder, "web.yaml")
    path.write_text(WEB)
    data = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "plain"},
        "spec": {"containers": [{"name": "main", "command": ["true"]}], "restartPolicy": "Never"},
    }
    typed = v1.Pod(
        metadata=v1.ObjectMeta(name="typed"),
        spec=v1.PodSpec(
            containers=(v1.Container(name="main", command=("sleep", "100")),),
            termination_grace_period_seconds=0,
        ),
    )
    deployment = WEB.replace("name: web", "name: shop").partition("spec:\n")
    template = deployment[2].replace("\n", "\n    ").rstrip()
    workload = (
        deployment[0].replace("v1", "apps/v1").replace("kind: Pod", "kind: Deployment")
        + "spec:\n  selector: {matchLabels: {a: b}}\n  template:\n"
        + "    metadata: {labels: {a: b}}\n    spec:\n    "
        + template
        + "\n"
    )
    async with make() as node:
        by_path = await node.run(path)
        assert (by_path.name, by_path.port("http")) == ("web", 18123)
        await by_path.terminate()
        assert (await node.run(str(path))).name == "web"
        assert (await (await node.run(data)).wait()).phase == "Succeeded"
        assert (await (await node.run(typed)).wait_ready()).name == "typed"
        assert (await node.run(workload)).name == "shop"
        names = [(await node.run(["true"])).name for _ in range(2)]
        assert names == ["true", "true-2"]
        assert [pod.name for pod in node.pods()] == ["web", "plain", "typed", "shop", *names]


async def test_everything_that_is_wrong_with_a_manifest_is_said_and_nothing_started(
    make: Make, way: Way
) -> None:
    one_way(way)
    wrong = WEB.replace("containerPort: 18123", "containerPort: 99999").replace(
        "command:", "comand:"
    )
    async with make() as node:
        with pytest.raises(ManifestError) as caught:
            await node.run(wrong)
        assert "manifest:9:7: error: spec.containers[0].comand: Unknown field" in str(caught.value)
        assert "Invalid value: 99999" in str(caught.value)
        with pytest.raises(ManifestError, match=r"nowhere\.yaml: error: cannot read: No such file"):
            await node.run("nowhere.yaml")
        with pytest.raises(ManifestError, match="cannot run 2 pods as one: use apply"):
            await node.run(f"{WEB}---\n{WEB.replace('name: web', 'name: other')}")
        with pytest.raises(UsageError, match="but with a command"):
            await node.run(WEB, name="other")
        assert node.pods() == ()
        await node.run(WEB)
        with pytest.raises(ManifestError, match="there is one of this name"):
            await node.run(WEB)


async def test_apply_leaves_what_is_as_wanted_and_replaces_what_is_not(
    make: Make, way: Way
) -> None:
    one_way(way)
    other = WEB.replace("name: web", "name: other").replace("18123", "18124")
    async with make() as node:
        first = await node.apply(f"{WEB}---\n{other}")
        assert [pod.name for pod in first] == ["web", "other"]
        for pod in first:
            await said(pod, "up")
        again = await node.apply(f"{WEB}---\n{other.replace('echo up', 'echo more')}")
        assert again[0] is first[0]
        assert again[1] is not first[1]
        assert first[1].exit_code == 0
        await said(again[1], "more")
        report = await node.delete("web")
        assert report.exit_code == 0
        with pytest.raises(UsageError, match="cannot delete pod web: there is none"):
            await node.delete("web")


async def test_configuration_that_comes_later_lets_the_container_start(
    make: Make, way: Way
) -> None:
    one_way(way)
    needy = WEB.replace(
        "      ports", "      envFrom: [{configMapRef: {name: shared}}]\n      ports"
    ).replace("echo up", "echo $COLOUR")
    config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shared}\ndata: {COLOUR: green}\n"
    async with make() as node:
        pod = await node.run(needy)
        with pytest.raises(PodTimeout) as caught:
            await pod.wait_ready(timeout=0.2)
        assert isinstance(caught.value, TimeoutError)
        assert "main is CreateContainerConfigError" in str(caught.value)
        assert 'configmap "shared" not found' in str(caught.value)
        assert await node.apply(config) == ()
        await said(pod, "green")


async def test_a_secret_that_cannot_be_in_memory_is_warned_of(
    make: Make, way: Way, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one_way(way)
    monkeypatch.setattr("supervisor.kubelet.statedir._memory_bases", list)
    monkeypatch.setattr("supervisor.kubelet.statedir.is_tmpfs", lambda _: False)
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: key}\nstringData: {a: b}\n"
    volume = "  volumes: [{name: hidden, secret: {secretName: key}}]\n  containers:"
    async with make() as node:
        await node.run(f"{secret}---\n{WEB.replace('  containers:', volume)}")
    assert "pod web: warning: there is no tmpfs to write to" in caplog.text
    assert caplog.text.rstrip().endswith(": hidden")


# --- waiting -------------------------------------------------------------------------------------


async def test_a_pod_that_fails_says_how_with_its_last_lines_and_events(make: Make) -> None:
    async with make() as node:
        pod = await node.run(["sh", "-c", "echo first; echo no database >&2; exit 5"], name="shop")
        with pytest.raises(PodFailed) as caught:
            await pod.wait()
        error = caught.value
        assert (error.pod, error.container, error.exit_code) == ("shop", "shop", 5)
        assert error.reason == "Error"
        assert error.log_lines == ("first", "no database")
        assert any("Started" in event for event in error.events)
        assert str(error).startswith("pod shop has failed: shop exited with code 5 (Error)\n")
        assert "  no database" in str(error)
        assert (await pod.wait(check=False)).phase == "Failed"
        with pytest.raises(PodFailed, match="pod shop has ended before Other=True"):
            await pod.wait_for("Other")


# A program that has ended when its start is told has never been Running.
UNTIL_SEEN = ["sh", "-c", "until [ -e seen ]; do sleep 0.01; done"]


async def test_every_status_is_shown_to_who_waits_however_short_it_was(
    make: Make, way: Way
) -> None:
    one_way(way)
    async with make() as node:
        pod = await node.run(UNTIL_SEEN)
        seen: list[str] = []

        def over(status: v1.PodStatus) -> bool:
            seen.append(status.phase)
            if status.phase == "Running":
                pathlib.Path("seen").touch()
            return status.phase == "Succeeded"

        await pod.wait_for(over)
        assert list(dict.fromkeys(seen)) == ["Pending", "Running", "Succeeded"]
        with pytest.raises(ZeroDivisionError):
            await pod.wait_for(lambda _: bool(1 / 0))


async def test_watching_ends_with_the_pod(make: Make, way: Way) -> None:
    one_way(way)
    async with make() as node:
        pod = await node.run(UNTIL_SEEN)
        phases = []
        async for each in pod.watch():
            phases.append(each.status.phase)
            if each.status.phase == "Running":
                pathlib.Path("seen").touch()
        assert list(dict.fromkeys(phases)) == ["Pending", "Running", "Succeeded"]
        assert [each.status.phase async for each in pod.watch()] == ["Succeeded"]


async def test_a_readiness_gate_is_opened_from_outside(make: Make, way: Way) -> None:
    one_way(way)
    gated = WEB.replace("  containers:", "  readinessGates: [{conditionType: warm}]\n  containers:")
    async with make() as node:
        pod = await node.run(
            gated.replace("terminationGracePeriodSeconds: 5", "terminationGracePeriodSeconds: 1")
        )
        await pod.wait_for("ContainersReady")
        assert not pod.ready
        await pod.set_condition("warm", True, "Filled", "the cache is full")
        await pod.wait_ready()
        await pod.set_condition("warm", "False")
        await pod.wait_for("Ready=False")
        with pytest.raises(UsageError, match="the node owns it"):
            await pod.set_condition("Ready", True)


# --- logs ----------------------------------------------------------------------------------------


async def test_logs_are_followed_to_the_end_of_the_instance(make: Make) -> None:
    async with make() as node:
        pod = await node.run(
            ["sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.05; done; printf unended >&2"]
        )
        lines = [line async for line in pod.logs(follow=True)]
        assert [(line.stream, line.text) for line in lines] == [
            ("stdout", "1"),
            ("stdout", "2"),
            ("stdout", "3"),
            ("stderr", "unended"),
        ]
        assert [line async for line in pod.logs()] == lines
        assert isinstance(lines[0], LogLine)
        assert pod.output() == "1\n2\n3\nunended\n"


async def test_who_reads_slower_than_files_are_rotated_away_is_told_of_the_gap(
    make: Make, way: Way
) -> None:
    one_way(way)
    async with make() as node:
        pod = await node.run(["sh", "-c", "trap exit TERM; echo one; sleep 600 & wait"])
        lines = pod.logs(follow=True)
        assert (await anext(lines)).text == "one"
        path = pod._life.log_path(*pod.containers, 0)
        assert path is not None

        def write(name: str, *records: str) -> None:
            with open(name, "a") as file:
                file.writelines(f"2026-01-02T03:04:05Z stdout {record}\n" for record in records)

        # Nobody else has a turn in between.
        write(path, "P cut")
        os.rename(path, f"{path}.20260102-030401")
        write(f"{path}.20260102-030402", "F lost")
        for stamp in ("01", "02"):
            os.remove(f"{path}.20260102-0304{stamp}")
        write(path, "F four")
        with anyio.fail_after(60):
            found = [await anext(lines) for _ in range(3)]
        assert [(line.stream, line.text) for line in found] == [
            ("stdout", "cut"),
            (
                "podvisor",
                "lines are missing here: their log files were rotated away before they were read",
            ),
            ("stdout", "four"),
        ]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", found[1].time)
        await lines.aclose()


async def test_the_previous_instance_can_be_read(make: Make, way: Way) -> None:
    one_way(way)
    async with make(backoff_initial=0.05, backoff_max=0.05) as node:
        pod = await node.run(
            ["sh", "-c", "echo $$ $(date +%N); exit 1"], name="loop", restart="Always"
        )
        await until(lambda: pod.containers["loop"].restarts >= 2, "the second restart")
        before = pod.output(previous=True)
        assert before
        assert before != pod.output()


# --- the end of the block ------------------------------------------------------------------------


async def test_what_was_started_last_ends_first(make: Make, folder: str, way: Way) -> None:
    one_way(way)
    at_end = "sleep 0.1; echo $NAME >>order; exit 0"
    script = f"trap '{at_end}' TERM; echo up; while :; do sleep 0.02; done"
    async with make() as node:
        for name in ("one", "two", "three"):
            pod = await node.run(["sh", "-c", script], name=name, env={"NAME": name})
            await said(pod, "up")
    assert pathlib.Path(folder, "order").read_text().split() == ["three", "two", "one"]


async def test_what_was_started_without_waiting_ends_together(make: Make, way: Way) -> None:
    """Else many deaf programs would take their graces one after the other."""
    one_way(way)
    deaf = {
        "name": "main",
        "command": ["sh", "-c", DEAF],
        # Never ready, however long a busy machine takes from one start to the next.
        "readinessProbe": {"exec": {"command": ["false"]}},
    }
    async with make(grace_period=1) as node:
        pods = [
            await node.run(
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": f"deaf-{number}"},
                    "spec": {"containers": [deaf]},
                }
            )
            for number in range(5)
        ]
        for pod in pods:
            await said(pod, "up")
    begun = [pod.record.trail[0].at.boot for pod in pods]
    over = [pod.record.trail[-1].at.boot for pod in pods]
    assert max(begun) < min(over)


@in_all_ways_on_both_loops
@pytest.mark.parametrize("how", ["error", "cancel", "scope"])
async def test_pods_end_gracefully_however_the_block_is_left(make: Make, how: str) -> None:
    async def block() -> None:
        nonlocal pod
        async with make() as node:
            pod = await node.run(["sh", "-c", PATIENT])
            await said(pod, "up")
            if how == "error":
                raise ZeroDivisionError
            up.set()
            await anyio.sleep(60)

    pod: PodHandle | None = None
    up = anyio.Event()
    if how == "error":
        with pytest.raises(ZeroDivisionError):
            await block()
    elif how == "cancel":
        task = asyncio.ensure_future(block())
        await up.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(block)
            await up.wait()
            tasks.cancel_scope.cancel()
    assert pod is not None
    assert (pod.exit_code, pod.phase) == (3, "Failed")


async def test_being_cancelled_again_kills(make: Make, way: Way) -> None:
    one_way(way)

    async def block() -> None:
        nonlocal pod
        async with make() as node:
            pod = await node.run(["sh", "-c", DEAF])
            await said(pod, "up")
            up.set()
            await asyncio.sleep(60)

    pod: PodHandle | None = None
    up = asyncio.Event()
    task = asyncio.ensure_future(block())
    await up.wait()
    task.cancel()
    await asyncio.sleep(0.05)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert pod is not None
    assert pod.exit_code == 137


async def test_a_grace_period_for_the_end_of_the_block_replaces_that_of_the_pods(
    make: Make, way: Way
) -> None:
    one_way(way)
    async with make(grace_period=1) as node:
        pod = await node.run(["sh", "-c", DEAF])
        await said(pod, "up")
    assert pod.exit_code == 137


async def test_a_handle_of_a_node_that_is_gone_says_so(make: Make, way: Way) -> None:
    one_way(way)
    node = make()
    with pytest.raises(UsageError, match="is not entered, or was left"):
        await node.run(["true"])
    async with node:
        pod = await node.run(["sh", "-c", PATIENT])
        waiting = asyncio.ensure_future(pod.wait_for("Never", timeout=None))
        await pod.wait_ready()
    with pytest.raises((PodFailed, UsageError)):
        await waiting
    with pytest.raises((PodFailed, UsageError)):
        await pod.wait_for("Never", timeout=None)
    with pytest.raises(PodError):
        await pod.exec("", ["true"])
    with pytest.raises(UsageError, match="cannot enter a Supervisor again"):
        await node.__aenter__()


async def test_the_block_may_be_entered_and_left_in_different_tasks(make: Make, way: Way) -> None:
    """As fixtures of tests are."""
    one_way(way)
    node = make()
    await asyncio.create_task(node.__aenter__())
    pod = await asyncio.create_task(node.run(["sh", "-c", PATIENT]))
    await said(pod, "up")
    await asyncio.create_task(node.__aexit__(None, None, None))
    assert pod.exit_code == 3


# --- the program around it -----------------------------------------------------------------------


async def test_the_program_around_it_keeps_its_loop_as_it_was(make: Make, way: Way) -> None:
    one_way(way)

    def look() -> tuple[object, ...]:
        handlers = [signal.getsignal(n) for n in signal.valid_signals()]
        loop = asyncio.get_running_loop()
        return (
            handlers,
            signal.pthread_sigmask(signal.SIG_BLOCK, []),
            type(loop_policy()),
            loop.get_exception_handler(),
            loop.get_task_factory(),
            len(asyncio.all_tasks()),
        )

    before = look()
    async with make() as node:
        pod = await node.run(["sh", "-c", PATIENT])
        await pod.wait_ready()
        assert look()[:-1] == before[:-1]
        child = await asyncio.create_subprocess_exec("true")
        assert await child.wait() == 0
    assert look() == before


async def test_two_hundred_nodes_one_after_the_other_leave_nothing(make: Make, way: Way) -> None:
    """Processes and descriptors are looked for after each test."""
    one_way(way)

    async def live() -> None:
        async with make() as node:
            pod = await node.run(["sleep", "60"])
            await pod.wait_ready()
            await pod.terminate(kill=True)

    def objects() -> int:
        gc.collect()
        return len(gc.get_objects())

    threads = threading.active_count()  # other tests may have left some that stay for good
    for _ in range(10):
        await live()
    fds, tasks, before = len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks()), objects()
    for _ in range(190):
        await live()
    assert len(os.listdir("/proc/self/fd")) == fds
    assert len(asyncio.all_tasks()) == tasks
    assert threading.active_count() <= threads + 2
    assert objects() - before < 190  # less than one for each


async def test_nodes_live_side_by_side(make: Make, way: Way) -> None:
    one_way(way)
    async with make() as one, make() as two:
        first, second = await one.run(["sh", "-c", PATIENT]), await two.run(["sh", "-c", PATIENT])
        await first.wait_ready()
        await second.wait_ready()
        assert len(one.pods()) == len(two.pods()) == 1
        assert first.pid != second.pid


def test_the_public_names_are_all_there_and_cost_nothing_until_they_are_used() -> None:
    assert sorted(supervisor.__all__) == list(supervisor.__all__)
    for name in supervisor.__all__:
        assert getattr(supervisor, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = supervisor.Nonsense  # type: ignore[attr-defined]
    assert Supervisor is supervisor.Supervisor
