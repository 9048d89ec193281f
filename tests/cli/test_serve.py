"""The whole `podvisor serve`: lives of a durable node, its files, and its ends, with kill -9.

The names in brackets are those of the acceptance scenarios.
"""

from __future__ import annotations

import os
import re
import signal
import time

import anyio
import pytest
from msgspec.structs import replace

from supervisor.lifecycle.record import PodRecord
from supervisor.store.contract import Change
from supervisor.store.sqlite import SQLiteStore
from tests.support import (
    FOREVER,
    Durable,
    Manifest,
    in_group,
    one_way,
    pod,
    python,
    read_steps,
    sh,
    sidecar,
    step,
    wait_for,
)

pytestmark = pytest.mark.usefixtures("nothing_left")

GRACE = {"terminationGracePeriodSeconds": 3}
# Ends with code 3 when a file of its name is there, which it removes.
ENDS_WHEN_TOLD = 'until [ -e "$0" ]; do sleep 0.02; done; rm "$0"; exit 3'


def ends_when_told(name: str, **fields: object) -> Manifest:
    return {"name": name, "command": ["sh", "-c", ENDS_WHEN_TOLD, name], **fields}


def tell(node: Durable, name: str) -> None:
    node.place.write(name, "")


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def walk(node: Durable) -> list[str]:
    return [f"{step.name} {step.what}" for step in read_steps(node.place.folder)]


def uid(node: Durable, name: str) -> str:
    record = node.record(name)
    return record.pod.metadata.uid if record else ""


def events(node: Durable, reason: str) -> list[str]:
    return [e.message for e in node.snapshot.events if e.reason == reason]


def children_of(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def child_of(pid: int) -> int:
    (child,) = children_of(pid)
    return child


def environ(node: Durable, pod: str, container: str) -> dict[str, str]:
    """What it has been started with; nothing when it does not run."""
    try:
        with open(f"/proc/{node.pid(pod, container)}/environ") as file:
            return dict(entry.split("=", 1) for entry in file.read().split("\0") if entry)
    except OSError:
        return {"FROM_FILE": ""}


def conditions(record: PodRecord | None) -> dict[str, tuple[str, str]]:
    assert record is not None
    return {c.type: (c.status, c.reason) for c in record.status.conditions}


# --- files ---------------------------------------------------------------------------------------


@one_way
def test_a_new_file_starts_its_pods_and_a_removed_one_deletes_them_gracefully(
    node: Durable,
) -> None:
    first = node.put("first.json", pod("first", step("one", FOREVER)))
    session = node.serve()
    one = node.running(session, "first", "one")
    with open(f"{node.state}/.gitignore") as file:
        assert file.read() == "*\n"
    node.put(
        "second.json",
        [pod("second", step("two", FOREVER), **GRACE), pod("third", step("three", FOREVER))],
    )
    two = node.running(session, "second", "two")
    node.running(session, "third", "three")
    assert node.pid("first", "one") == one
    session.until(lambda: "one began" in walk(node), "the first to have begun")
    os.unlink(first)
    session.until(lambda: node.record("first") is None, "the end of the first")
    assert walk(node)[-2:] == ["one told", "one ended"]
    session.until(
        lambda: not [f for f in os.listdir(f"{node.state}/logs") if "_first_" in f],
        "the end of its logs",
    )
    assert node.pid("second", "two") == two
    session.signal(signal.SIGTERM)
    session.wait(143)


@one_way
def test_a_changed_spec_replaces_its_pod_once_the_old_one_has_ended(node: Durable) -> None:
    kept = pod("kept", step("kept", FOREVER), **GRACE)
    changed = pod("changed", step("app", FOREVER, stop=0.3))
    path = node.put("both.json", [kept, changed])
    session = node.serve()
    before = node.running(session, "changed", "app"), node.running(session, "kept", "kept")
    first = uid(node, "changed")
    session.until(lambda: "app began" in walk(node), "it to have begun")
    os.utime(path)  # touched, and nothing else
    changed["spec"]["containers"][0]["env"] = [{"name": "NEW", "value": "1"}]
    node.put("both.json", [kept, changed])
    session.until(lambda: node.pid("changed", "app") not in (0, before[0]), "the new one")
    assert uid(node, "changed") != first
    session.until(lambda: walk(node).count("app began") == 2, "the new one to have begun")
    steps = [step for step in walk(node) if step.startswith("app")]
    assert steps == ["app began", "app told", "app ended", "app began"]
    assert node.pid("kept", "kept") == before[1]
    assert "kept" not in re.findall(
        r"^(\S+) +\* its manifest has changed", session.err, re.MULTILINE
    )
    session.signal(signal.SIGTERM)
    session.wait(143)


@one_way
def test_a_changed_project_file_replaces_the_pods_that_it_starts_otherwise(node: Durable) -> None:
    def project(*more: str, image: str = "") -> None:
        shop = ('[images."shop"]', 'entrypoint = ["sleep", "1000"]', image)
        lines = (*more, 'env-file = "service.env"', *shop)
        new = node.place.write("new.toml", "\n".join(lines))
        os.rename(new, f"{node.place.folder}/podvisor.toml")

    env_file = node.place.write("service.env", "FROM_FILE=1\n")
    project()
    fixed = {"name": "fixed", "command": ["sleep", "1000"], "env": [{"name": "A", "value": "1"}]}
    node.put("shop.json", pod("shop", {"name": "app", "image": "shop"}, **GRACE))
    node.put("kept.json", pod("kept", fixed, **GRACE))
    session = node.serve()
    pids = node.running(session, "shop", "app"), node.running(session, "kept", "fixed")
    project('backoff-max = "1m"', 'pass-env = ["PODVISOR_NO_SUCH_VARIABLE"]')
    for name in ("shop", "kept"):
        session.until(
            lambda n=name: f"{n} * goes on with the back-off" in " ".join(session.err.split()),
            "its going on",
        )
    project("backoff-max = 1", "= ")
    session.until_said("podvisor.toml:2:1: error: not TOML")
    project(image='env = { FROM_IMAGE = "1" }')
    session.until(lambda: node.pid("shop", "app") not in (0, pids[0]), "the next one")
    assert environ(node, "shop", "app")["FROM_IMAGE"] == "1"
    assert session.err.count("what podvisor.toml says of it has changed: replacing it") == 1
    assert node.pid("kept", "fixed") == pids[1]
    with open(env_file, "w") as file:
        file.write("A=0\n")  # which only one of them has otherwise
    session.until(lambda: "FROM_FILE" not in environ(node, "kept", "fixed"), "the next one")
    assert environ(node, "kept", "fixed")["A"] == "1"
    session.signal(signal.SIGTERM)
    session.wait(143)


@one_way
def test_a_pod_whose_configuration_is_gone_is_replaced_for_a_changed_project_file_too(
    node: Durable,
) -> None:
    """What its containers would be started with cannot be said then, but where it comes from."""
    maps = node.put(
        "map.json",
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "conf"},
            "data": {"key": "1"},
        },
    )
    env = [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "key"}}}]
    web = {"name": "app", "command": ["sleep", "1000"], "workingDir": "/", "env": env}
    node.put("web.json", pod("web", web, **GRACE))
    session = node.serve()
    node.running(session, "web", "app")
    os.unlink(maps)
    session.until_said("containers that run keep their variables")
    node.place.write("podvisor.toml", "private-tmp = true\n")
    session.until_said("what podvisor.toml says of it has changed: replacing it")
    session.signal(signal.SIGTERM)
    session.wait(143)


@one_way
def test_a_broken_project_file_at_a_restart_replaces_nothing_when_it_is_repaired(
    node: Durable,
) -> None:
    good = '[images."shop"]\nentrypoint = ["sleep", "1000"]\n'
    node.place.write("podvisor.toml", good)
    node.put("shop.json", pod("shop", {"name": "app", "image": "shop"}, **GRACE))
    session = node.serve()
    pid = node.running(session, "shop", "app")
    session.kill()
    node.place.write("podvisor.toml", "[images")
    session = node.serve()
    session.until_said(f"taken on again, pid {pid} ")
    session.until_said("podvisor.toml:1:1: error: not TOML")
    node.place.write("podvisor.toml", good)
    node.put("other.json", pod("other", step("other", FOREVER), **GRACE))
    node.running(session, "other", "other")
    assert node.pid("shop", "app") == pid
    assert "replacing" not in session.err
    session.signal(signal.SIGTERM)
    session.wait(143)


@one_way
def test_a_broken_file_says_why_and_changes_nothing_also_at_a_restart(node: Durable) -> None:
    manifest = pod("web", step("app", FOREVER), **GRACE)
    path = node.put("web.json", manifest)
    session = node.serve()
    pid = node.running(session, "web", "app")
    node.put(
        "web.json", "kind: Pod\napiVersion: v1\nmetadata: {name: web}\nspec: {contaners: []}\n"
    )
    session.until_said(f"{path}:4:8: error: spec.contaners: Unknown field")
    for content in ("", "a: [", "kind: Pod\n"):
        said = session.err.count(f"{path}:")
        node.put("web.json", content)
        session.until(lambda n=said: session.err.count(f"{path}:") > n, "what is wrong")  # type: ignore[misc]
    assert node.pid("web", "app") == pid
    session.kill()
    session = node.serve()
    session.until_said(f"{path}:1:1: error:")
    session.until_said(f"taken on again, pid {pid} ")
    node.put("other.json", pod("other", step("other", FOREVER), **GRACE))
    node.running(session, "other", "other")  # so files were looked at once more
    assert (node.pid("web", "app"), is_alive(pid)) == (pid, True)
    node.put("web.json", manifest)  # as it was
    node.put("other.json", pod("other", step("again", FOREVER), **GRACE))
    node.running(session, "other", "again")
    assert node.pid("web", "app") == pid
    session.signal(signal.SIGTERM)
    session.wait(143)


@one_way
def test_a_first_start_with_a_broken_file_is_refused_and_leaves_nothing(node: Durable) -> None:
    path = node.put("web.json", "kind: Pod\napiVersion: v1\nspec: {containers: []}\n")
    node.put("good.json", pod("good", step("good", FOREVER)))
    finished = node.serve().wait(3)
    assert f"{path}:3:20: error: spec.containers: Required value" in finished.err
    assert "nothing was started" in finished.err
    assert not os.path.exists(node.state)
    assert walk(node) == []


@one_way
def test_a_folder_that_cannot_be_read_takes_nothing_away(node: Durable) -> None:
    node.put("web.json", pod("web", step("app", FOREVER), **GRACE))
    session = node.serve()
    pid = node.running(session, "web", "app")
    hidden = f"{node.place.folder}/hidden"
    session.kill()
    # Nobody can list what is not a folder, root neither.
    os.rename(node.pods, hidden)
    os.symlink("pods", node.pods)
    session = node.serve(node.pods)
    session.until_said("taken on again")
    session.until_said(f"{node.pods}: error: cannot read: ")
    time.sleep(1.5)  # two looks, of which nothing is seen
    assert node.pid("web", "app") == pid
    os.unlink(node.pods)
    os.rename(hidden, node.pods)
    session.signal(signal.SIGTERM)
    session.wait(143)


@one_way
@pytest.mark.parametrize("has_project", [True, False])
def test_status_finds_the_node_where_it_was_started(node: Durable, has_project: bool) -> None:
    """Without a podvisor.toml the state is in the current folder, wherever the manifests are."""
    if not has_project:
        os.unlink(f"{node.place.folder}/podvisor.toml")
    node.put("web.json", pod("web", step("app", FOREVER), **GRACE))
    session = node.serve("pods")
    node.running(session, "web", "app")
    assert "default/web" in node.place.podvisor("status").wait(0, keeps=True).out
    session.signal(signal.SIGTERM)
    session.wait(143)


@one_way
def test_standard_input_cannot_be_served(node: Durable) -> None:
    finished = node.serve("-").wait(2)
    assert "cannot serve standard input" in finished.err


@one_way
def test_without_files_what_there_is_goes_on(node: Durable) -> None:
    node.put("web.json", pod("web", step("app", FOREVER), **GRACE))
    session = node.serve()
    pid = node.running(session, "web", "app")
    session.kill()
    session = node.serve("--state-dir", node.state)
    session.until_said(f"taken on again, pid {pid} ")
    session.until_said(f"state in {node.state}: 1 pod taken on again")
    session.signal(signal.SIGINT)
    session.wait(130)
    assert node.phase("web") == "Failed"


# --- lives ---------------------------------------------------------------------------------------


def test_a_killed_node_comes_back_to_the_same_processes_and_no_line_is_lost(
    node: Durable,
) -> None:
    """[F12, K07] §2.4.7"""
    writer = python(
        "writer",
        "import itertools, time\n"
        "for i in itertools.count():\n"
        "    print('line', i, flush=True)\n"
        "    time.sleep(0.01)\n",
    )
    node.put("web.json", pod("web", writer, ends_when_told("crash"), **GRACE))
    session = node.serve()
    pid = node.running(session, "web", "writer")
    first = node.running(session, "web", "crash")
    tell(node, "crash")
    session.until(lambda: node.pid("web", "crash") not in (0, first), "its second instance")
    for life in (1, 2):
        before = len(node.logged("web", "writer"))
        known = node.pid("web", "crash")
        session.kill()
        wait_for(lambda n=before: len(node.logged("web", "writer")) > n + 20, "more lines")  # type: ignore[misc]
        assert is_alive(pid)
        session = node.serve()
        session.until_said(f"web/writer * taken on again, pid {pid} ")
        session.until_logged("| line")
        assert node.pid("web", "writer") == pid
        assert node.pid("web", "crash") == known
        tell(node, "crash")
        session.until(
            lambda n=life: (c := node.container("web", "crash")) and c.attempt == n + 1,  # type: ignore[misc]
            "the next instance",
        )
        record = node.record("web")
        assert record is not None
        assert {c.name: c.restart_count for c in record.status.container_statuses} == {
            "writer": 0,
            "crash": life + 1,
        }
    session.signal(signal.SIGTERM)
    session.wait(143)
    lines = node.logged("web", "writer")
    assert lines == [f"line {i}" for i in range(len(lines))]
    folder = next(f for f in os.listdir(f"{node.state}/logs") if "_web_" in f)
    logs = os.listdir(f"{node.state}/logs/{folder}/crash")
    assert {"2.log", "3.log"} <= set(logs)  # older ones are cleaned away


# Reads what nobody writes, too: it must stay open.
TYPED = (
    "import itertools, os, threading, time\n"
    "threading.Thread(target=lambda: print('read', os.read(0, 1)), daemon=True).start()\n"
    "for i in itertools.count():\n"
    "    print('line', i, os.isatty(0), flush=True)\n"
    "    time.sleep(0.02)\n"
)


@pytest.mark.parametrize("dies", ["node", "launcher", "logger", "node and launcher"])
@one_way
def test_a_container_with_a_terminal_or_an_stdin_goes_on_whoever_dies(
    node: Durable, dies: str
) -> None:
    typed = python("typed", TYPED, stdin=True, tty=True)
    open_stdin = python("open", TYPED, stdin=True)
    node.put("web.json", pod("web", typed, open_stdin, terminationGracePeriodSeconds=0))
    session = node.serve()
    pids = {name: node.running(session, "web", name) for name in ("typed", "open")}
    launcher = child_of(session.pid)
    logger = next(pid for pid in children_of(launcher) if pid not in pids.values())
    session.until_logged("web/open  | line 5 ")
    if "launcher" in dies:
        os.kill(launcher, signal.SIGKILL)
        wait_for(lambda: not is_alive(launcher), "its end")
    if dies == "logger":
        os.kill(logger, signal.SIGKILL)
        wait_for(lambda: not is_alive(logger), "its end")
    if "node" in dies:
        session.kill()
        session = node.serve()
        for pid in pids.values():
            session.until_said(f"taken on again, pid {pid} ")
    for name in pids:
        before = len(node.logged("web", name))
        session.until_logged(f"web/{name:5} | line {before + 20} ")
    assert {name: node.pid("web", name) for name in pids} == pids
    session.signal(signal.SIGTERM)
    session.wait(143)
    for name, is_terminal in (("typed", True), ("open", False)):
        lines = node.logged("web", name)
        assert [line.rstrip("\r") for line in lines] == [
            f"line {i} {is_terminal}" for i in range(len(lines))
        ]


def test_an_exit_while_the_node_is_down_is_known_afterwards(node: Durable) -> None:
    """[K04] §2.4.7"""
    node.put("once.json", pod("once", ends_when_told("once"), restartPolicy="Never"))
    node.put("again.json", pod("again", ends_when_told("again"), **GRACE))
    session = node.serve()
    pids = [node.running(session, name, name) for name in ("once", "again")]
    session.kill()
    tell(node, "once")
    tell(node, "again")
    wait_for(lambda: not any(map(is_alive, pids)), "their ends")
    session = node.serve()
    session.until(lambda: node.phase("once") == "Failed", "the end of the first")
    session.until(lambda: node.pid("again", "again") not in (0, *pids), "the other's restart")
    once, again = node.container("once", "once"), node.container("again", "again")
    assert once is not None
    assert once.ended is not None
    assert (once.ended.exit_code, once.ended.reason) == (3, "Error")
    assert again is not None
    assert again.ended is not None
    assert (again.attempt, again.ended.exit_code, again.ended.attempt) == (1, 3, 0)
    session.signal(signal.SIGTERM)
    session.wait(143)


def test_an_exit_while_the_node_is_down_restarts_all_containers_afterwards(node: Durable) -> None:
    """[K04] §3.4.2"""
    rule = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [3]}}
    asking = {"restartPolicy": "Never", "restartPolicyRules": [rule]}
    first, other = {**ends_when_told("app"), **asking}, ends_when_told("other")
    node.put("web.json", pod("web", first, other, **GRACE))
    session = node.serve()
    pids = {name: node.running(session, "web", name) for name in ("app", "other")}
    session.kill()
    tell(node, "app")
    wait_for(lambda: not is_alive(pids["app"]), "its end")
    session = node.serve()
    for name, pid in pids.items():
        session.until(lambda n=name, p=pid: node.pid("web", n) not in (0, p), "the next instance")
        wait_for(lambda p=pid: not is_alive(p), "the end of the first instance")
    app, beside = node.container("web", "app"), node.container("web", "other")
    assert app is not None
    assert beside is not None
    assert app.ended is not None
    assert beside.ended is not None
    assert (app.attempt, app.ended.exit_code) == (1, 3)
    assert (beside.attempt, beside.ended.reason) == (1, "RestartingAllContainers")
    session.signal(signal.SIGTERM)
    session.wait(143)


@one_way
def test_a_writer_does_not_stall_while_the_node_is_down_and_no_byte_is_lost(node: Durable) -> None:
    count = 20_000  # lines of a thousand bytes
    writer = python(
        "writer",
        "import os, time\n"
        "while not os.path.exists('go'): time.sleep(0.02)\n"
        f"for i in range({count}): print(f'{{i:0>999}}')\n"
        "print('all', flush=True)\n"
        "open('written', 'w').close()\n"
        "time.sleep(1000)\n",
    )
    node.put("web.json", pod("web", writer, terminationGracePeriodSeconds=0))
    session = node.serve()
    pid = node.running(session, "web", "writer")
    session.kill()
    tell(node, "go")
    wait_for(lambda: os.path.exists(f"{node.place.folder}/written"), "all to be written")
    wait_for(lambda: node.logged("web", "writer")[-1:] == ["all"], "all to be logged")
    session = node.serve()
    session.until_said(f"taken on again, pid {pid} ")
    lines = node.logged("web", "writer")
    assert len(lines) == count + 1
    assert lines[:-1] == [f"{i:0>999}" for i in range(count)]
    session.signal(signal.SIGTERM)
    session.wait(143)


@one_way
def test_a_killed_launcher_is_replaced_and_the_node_goes_on(node: Durable) -> None:
    node.put("web.json", pod("web", ends_when_told("app"), **GRACE))
    session = node.serve()
    pid = node.running(session, "web", "app")
    launcher = child_of(session.pid)
    os.kill(launcher, signal.SIGKILL)
    wait_for(lambda: not is_alive(launcher), "its end")
    assert is_alive(pid)
    tell(node, "app")
    session.until(lambda: node.pid("web", "app") not in (0, pid), "the next instance")
    app = node.container("web", "app")
    assert app is not None
    assert app.ended is not None
    assert app.attempt == 1
    # Its parent has died: where that is allowed, the kernel still knows the code; never a success.
    assert app.ended.exit_code in (3, 137)
    session.signal(signal.SIGTERM)
    session.wait(143)


def test_a_deletion_goes_on_after_a_kill_with_its_own_deadline(node: Durable) -> None:
    path = node.put(
        "web.json",
        pod("web", step("deaf", FOREVER, stop="deaf"), terminationGracePeriodSeconds=4),
    )
    session = node.serve()
    pid = node.running(session, "web", "deaf")
    session.until(lambda: "deaf began" in walk(node), "it to be deaf")
    os.unlink(path)

    def signalled() -> float | None:
        record, app = node.record("web"), node.container("web", "deaf")
        if record and record.termination and app and app.running and app.running.signalled:
            return record.termination.deadline
        return None

    deadline: float = session.until(signalled, "the stop signal")
    session.kill()
    session = node.serve()
    session.until_said(f"taken on again, pid {pid} ")
    assert signalled() in (deadline, None)
    wait_for(lambda: not is_alive(pid), "the end of the container")
    assert time.clock_gettime(time.CLOCK_BOOTTIME) >= deadline
    session.until(lambda: node.record("web") is None, "the end of the pod")
    # Told when the pod is over, not at the end of the node.
    session.until_said("shutdown of web: ")
    session.signal(signal.SIGTERM)
    finished = session.wait(143)
    assert finished.err.count("shutdown of web: ") == 1
    assert "SIGKILL" in finished.err


@one_way
def test_after_a_reboot_everything_begins_with_the_first_init_container(node: Durable) -> None:
    """[A09, B11] §4.3.3 §4.3.4"""
    inits = (step("one"), sidecar(step("side", FOREVER)), step("two"))
    node.put("web.json", pod("web", step("app", FOREVER), init=inits, **GRACE))
    session = node.serve()
    node.running(session, "web", "app")
    session.until(lambda: len(begun(node)) == 4, "all to have begun")
    # A sidecar without a startup probe has started before its program gets to say so.
    assert [step for step in begun(node) if "side" not in step] == ["one", "two", "app"]
    node.kill_everything()
    anyio.run(give_another_boot_id, node)
    session = node.serve()
    node.running(session, "web", "app")
    session.until(lambda: len(begun(node)) == 8, "all to have begun again")
    assert [step for step in begun(node) if "side" not in step] == ["one", "two", "app"] * 2
    # A program says that it has begun before it is stored that it was started.
    session.until(lambda: attempts(node, "web")["app"] == 1, "the start of the app to be stored")
    assert attempts(node, "web") == dict.fromkeys(("one", "side", "two", "app"), 1)
    assert node.phase("web") == "Running"
    assert events(node, "SandboxChanged") == [
        "Pod sandbox changed, it will be killed and re-created."
    ]
    session.signal(signal.SIGTERM)
    session.wait(143)


def attempts(node: Durable, pod: str) -> dict[str, int]:
    record = node.record(pod)
    return {c.name: c.attempt for c in record.containers} if record else {}


def begun(node: Durable) -> list[str]:
    words = (step.split() for step in walk(node))
    return [name for name, what in words if what == "began"]


async def give_another_boot_id(node: Durable) -> None:
    """As if the records came from an earlier life of this machine."""
    async with SQLiteStore(f"{node.state}/podvisor.db") as store:
        snapshot = await store.load()
        assert snapshot.committed is not None
        for stored in snapshot.pods:
            record = replace(stored.record, boot_id="another")
            uid = record.pod.metadata.uid
            await store.commit(Change(at=snapshot.committed, uid=uid, record=record))


# --- ends ----------------------------------------------------------------------------------------


def test_what_is_kept_runs_on_and_what_is_stopped_fails_and_runs_anew(node: Durable) -> None:
    """[E16] §7.8"""
    node.put("web.json", pod("web", step("app", FOREVER), **GRACE))
    session = node.serve("--on-exit=keep", node.pods)
    pid = node.running(session, "web", "app")
    first = uid(node, "web")
    session.until(lambda: "app began" in walk(node), "it to have begun")
    session.signal(signal.SIGTERM)
    finished = session.wait(143, keeps=True)
    assert "1 container runs on" in finished.err
    assert is_alive(pid)

    session = node.serve()
    session.until_said(f"taken on again, pid {pid} ")
    session.signal(signal.SIGTERM)
    session.wait(143)
    assert not is_alive(pid)
    record = node.record("web")
    assert record is not None
    assert record.pod.metadata.uid == first
    assert (record.status.phase, record.status.reason) == ("Failed", "Terminated")
    assert record.status.message == "Pod was terminated in response to imminent node shutdown."
    assert conditions(record)["DisruptionTarget"] == ("True", "TerminationByKubelet")
    assert walk(node) == ["app began", "app told", "app ended"]

    session = node.serve()
    node.running(session, "web", "app")
    assert uid(node, "web") != first
    assert [s.record.pod.metadata.name for s in node.snapshot.pods] == ["web"]
    session.signal(signal.SIGTERM)
    session.wait(143)


@one_way
@pytest.mark.parametrize("times", [2, 3])
def test_asking_again_shortens_and_a_third_time_kills(node: Durable, times: int) -> None:
    node.put(
        "web.json",
        pod("web", step("deaf", FOREVER, stop="deaf"), terminationGracePeriodSeconds=300),
    )
    session = node.serve()
    node.running(session, "web", "deaf")
    session.until(lambda: "deaf began" in walk(node), "it to be deaf")
    for said in ("stopping, grace 300 s", "grace shortened to 1 s", "killing")[:times]:
        session.signal(signal.SIGINT)
        session.until_said(said)
    finished = session.wait(130)
    assert node.phase("web") == "Failed"
    assert finished.err.count("shutdown of web: ") == 1


@in_group
def test_in_mode_group_who_names_the_hosts_init_is_refused_and_others_run(node: Durable) -> None:
    path = node.put("bad.json", pod("bad", sh("app", "echo hello >/proc/1/fd/1")))
    node.put("web.json", pod("web", step("app", FOREVER), **GRACE))
    session = node.serve()
    session.until_said("mains are not pid 1 here")
    node.running(session, "web", "app")
    node.put("other.json", pod("other", step("other", FOREVER), **GRACE))
    node.running(session, "other", "other")  # so it was looked at again
    session.signal(signal.SIGTERM)
    finished = session.wait(143)
    assert finished.err.count(f"{path}: error: pod bad, container app: ") == 1
    assert node.record("bad") is None


@one_way
def test_containers_that_run_stay_in_their_mode_and_that_is_said(node: Durable) -> None:
    node.put("web.json", pod("web", step("app", FOREVER), **GRACE))
    session = node.serve()
    pid = node.running(session, "web", "app")
    session.kill()
    session = node.place.podvisor("serve", "--isolation=group", node.pods)
    session.until_said(
        f"the containers that run are in isolation mode {node.place.way.isolation}: "
        "group only when this node starts with none"
    )
    session.until_said(f"taken on again, pid {pid} ")
    session.signal(signal.SIGTERM)
    session.wait(143)


@one_way
def test_a_second_node_on_the_same_folder_is_refused_with_the_pid_of_the_first(
    node: Durable,
) -> None:
    node.put("web.json", pod("web", step("app", FOREVER), **GRACE))
    session = node.serve()
    pid = node.running(session, "web", "app")
    finished = node.serve().wait(4, keeps=True)
    assert f"a node runs on it already (pid {session.pid})" in finished.err
    assert is_alive(pid)
    session.signal(signal.SIGTERM)
    session.wait(143)


@one_way
def test_a_damaged_database_is_refused_and_left_as_it_is(node: Durable) -> None:
    node.put("web.json", pod("web", step("app", FOREVER), **GRACE))
    path = node.place.write(".podvisor/podvisor.db", "not a database at all\n" * 100)
    finished = node.serve().wait(4)
    assert path in finished.err
    with open(path) as file:
        assert file.read() == "not a database at all\n" * 100
    assert walk(node) == []


@one_way
def test_a_pod_that_ends_by_itself_does_not_end_the_node(node: Durable) -> None:
    node.put("job.json", pod("job", sh("job", "exit 0"), restartPolicy="Never"))
    session = node.serve()
    session.until(lambda: node.phase("job") == "Succeeded", "its end")
    node.put("web.json", pod("web", step("app", FOREVER), **GRACE))
    node.running(session, "web", "app")
    session.kill()
    session = node.serve()
    session.until_said("web/app * taken on again")
    session.signal(signal.SIGTERM)
    session.wait(143)
    job = node.container("job", "job")
    assert (node.phase("job"), job and job.attempt) == ("Succeeded", 0)
