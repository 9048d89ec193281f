"""Every example of the repository is executed, and shows what it says it shows."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess

import pytest

from tests.support import ROOT, Place, Way, in_group, in_pidns, one_way, pod, python

pytestmark = pytest.mark.usefixtures("nothing_left")


def copied(place: Place, name: str, file: str = "pod.yaml") -> str:
    """An example where every user can read it; its programs are looked up beside it."""
    folder = f"{place.folder}/examples/{name}"
    shutil.copytree(ROOT / "examples" / name, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return f"{folder}/{file}"


def test_every_example_is_here():
    names = ["chart", "crashloop", "embed", "health", "hooks", "pid1", "pytest", "shop", "web"]
    assert sorted(os.listdir(ROOT / "examples")) == names


@one_way
def test_make_run_shows_a_whole_life_and_ends_by_itself(place: Place):
    if shutil.which("make") is None:
        pytest.skip("no make")
    dry = subprocess.run(
        ["make", "--dry-run", "--always-make", "--no-print-directory", "run"],
        cwd=ROOT,
        # Not as a part of the make that runs the tests.
        env={name: text for name, text in os.environ.items() if "MAKE" not in name},
        capture_output=True,
        text=True,
        check=True,
    )
    program, *words = dry.stdout.strip().splitlines()[-1].split()
    assert program == ".venv/bin/podvisor"
    # Ports of its own: somebody else may be at the same.
    session = place.podvisor(*words, cwd=str(ROOT), start={"net": True})
    finished = session.wait(0)
    lines = finished.out.splitlines()

    # The visitor may have asked before, on a slow machine.
    assert [line for line in lines if not line.startswith("web/visitor")][:4] == [
        *(f"web/migrate | schema is at version {version}" for version in (1, 2, 3)),
        "web/app     | pid 1 serves on port 18080",
    ]
    answers = [line for line in lines if line.startswith("web/visitor | the app says: hello from")]
    assert len(answers) >= 2
    app = [line for line in lines if line.startswith("web/app")]
    # A last request may still be answered in between.
    assert "web/app     | time is up: closing the listener, finishing what was begun" in app[-3:-1]
    assert app[-1] == "web/app     | bye"
    assert "web         * Succeeded" in finished.err
    assert {name: row[:3] for name, row in finished.table().items()} == {
        "web/migrate": ["0", "0", "Completed"],
        "web/visitor": ["0", "0", "Completed"],
        "web/app": ["0", "0", "Completed"],
    }


@in_pidns
def test_the_pid1_example_shows_who_hears_sigterm_and_who_does_not(place: Place, way: Way):
    ours, theirs = pty.openpty()
    words = ("run", f"--isolation={way.isolation}", copied(place, "pid1"))
    try:
        session = place.podvisor(*words, stdin=theirs, tty=True)
        session.until(lambda: session.out.count("| up") == 3, "three containers to be up")
        session.until(lambda: session.out.count("| serving") == 2, "two servers")
        os.write(ours, b"\x03")
        finished = session.wait(130)
    finally:
        os.close(theirs)
        os.close(ours)

    rows = {name: row[1:3] for name, row in finished.table().items()}
    assert rows == {
        "pid1/shell": ["137", "Error"],
        "pid1/handler": ["0", "Completed"],
        "pid1/sleep": ["137", "Error"],
    }
    assert "pid1/handler | SIGTERM received, closing down" in finished.out
    assert "pid1/shell   | SIGTERM received" not in finished.out
    for name, program in (("shell  ", "sh -c …"), ("sleep  ", "sleep 1000")):
        why = f"pid1/{name} * pid 1 `{program}` has no SIGTERM handler, so the kernel drops it; "
        assert why in finished.err
        killed = re.search(
            rf"^pid1/{name} \* SIGKILL (\d\.\d) s after SIGTERM", finished.err, re.MULTILINE
        )
        assert killed is not None
        assert float(killed[1]) >= 4.9  # its grace is 5 s


@in_group
def test_without_namespaces_the_pid1_example_hides_what_a_cluster_would_show(
    place: Place, way: Way
):
    session = place.podvisor("run", f"--isolation={way.isolation}", copied(place, "pid1"))
    session.until(lambda: session.out.count("| up") == 3, "three containers to be up")
    session.until(lambda: session.out.count("| serving") == 2, "two servers")
    session.signal(signal.SIGINT)
    finished = session.wait(130)

    assert [row[1] for row in finished.table().values()] == ["143", "0", "143"]
    assert "a missing SIGTERM handler will not show" in finished.err


@one_way
def test_the_crash_loop_example_waits_longer_and_longer(place: Place):
    session = place.podvisor("run", copied(place, "crashloop"), "--backoff-initial", "500ms")
    session.until_said("back-off 1s restarting")
    session.signal(signal.SIGTERM)
    finished = session.wait(143)

    waits = re.findall(r"CrashLoopBackOff: back-off (\w+) restarting", finished.err)
    assert waits[:2] == ["500ms", "1s"]
    assert "crashloop/app | cannot reach the database" in finished.out
    assert re.search(r"exited with code 1 after 1\.\d s: .*cannot reach the database", finished.err)


@one_way
def test_the_hooks_example_is_warmed_up_and_drained_and_shows_who_was_waited_for(
    place: Place, way: Way
):
    """§6.1.2, §6.2.1, §6.2.4"""
    # Ports of its own: somebody else may be at the same.
    session = place.podvisor(
        "run", f"--isolation={way.isolation}", copied(place, "hooks"), start={"net": True}
    )
    session.until_logged("hooks/deaf   | up")
    session.signal(signal.SIGINT)
    finished = session.wait(130)

    server = [line for line in finished.out.splitlines() if line.startswith("hooks/server")]
    assert server == [
        f"hooks/server | {line}"
        for line in ("cold, listening", "warm", "draining", "drained", "bye")
    ]
    said = finished.err
    warm, deaf = said.index("hooks/server * postStart done"), said.index("hooks/deaf   * started")
    assert warm < deaf < said.index("hooks        * Running")
    assert said.index("hooks/server * preStop done") < said.index(
        "hooks/server * exited with code 0"
    )
    assert {name: row[1:3] for name, row in finished.table().items()} == {
        "hooks/server": ["0", "Completed"],
        "hooks/deaf": ["137", "Error"],
    }
    _, _, shown = said.partition("\nshutdown of hooks: ")
    assert float(shown.split()[0]) >= 4
    assert "still alive: pid" in shown
    assert [row.split()[:2] for row in shown.splitlines()[1:]] == [
        ["hooks/server", "preStop"],
        ["hooks/server", "SIGTERM"],
        ["hooks/deaf", "SIGTERM"],
        ["hooks/deaf", "SIGKILL"],
    ]


# Another pod on the same network; the test's own may be another one.
CUSTOMER = """
import time, urllib.error, urllib.request
def ask(path, **options):
    request = urllib.request.Request("http://127.0.0.1:18090" + path, **options)
    with urllib.request.urlopen(request) as answer:
        print(answer.read().decode().strip().replace(chr(10), ", "))
while True:
    try:
        ask("/ready")
        break
    except urllib.error.URLError:
        time.sleep(0.1)
ask("/")
for thing in ("/pencil", "/notebook"):
    ask(thing, method="POST", headers={"Authorization": "Bearer only-for-the-example"})
try:
    ask("/pencil", method="POST")
except urllib.error.HTTPError as error:
    print(error.code)
"""


@in_pidns
def test_the_shop_example_runs_a_deployment_with_its_configuration_and_volumes(
    place: Place, way: Way
):
    """§9.1, §9.3"""
    customer = pod("customer", python("c", CUSTOMER), restartPolicy="Never")
    session = place.podvisor(
        "run",
        f"--isolation={way.isolation}",
        copied(place, "shop", ""),
        place.write("customer/pod.json", customer),
        start={"net": True},
    )
    session.until_said("customer   * Succeeded")
    session.until_said("shop/web   * ready")
    session.signal(signal.SIGINT)
    finished = session.wait(130)

    lines = finished.out.splitlines()
    assert [line for line in lines if line.startswith("customer/c | ")] == [
        f"customer/c | {line}"
        for line in ("yes", "pencil: 2 EUR, notebook: 5 EUR", "1 ordered", "2 ordered", "401")
    ]
    web = [line for line in lines if line.startswith("shop/web")]
    assert web[0] == "shop/web   | pid 1 sells at port 18090"
    assert web[-2:] == ["shop/web   | SIGTERM: closing the shop", "shop/web   | bye"]
    assert finished.table()["shop/web"][:3] == ["0", "0", "Completed"]
    assert "spec.replicas is ignored" in finished.err
    assert "skipped, since only pods and workloads are run: Service shop" in finished.err
    assert "only-for-the-example" not in finished.out + finished.err


@in_pidns
def test_the_chart_example_runs_what_helm_printed_with_nothing_changed(place: Place, way: Way):
    """§9.1, §9.2, §9.3"""
    session = place.podvisor(
        "run",
        f"--isolation={way.isolation}",
        copied(place, "chart", "rendered.yaml"),
        start={"net": True},
    )
    session.until_said("demo-guestbook-greet       * Succeeded")
    session.until_said("demo-guestbook/guestbook   * ready")
    session.signal(signal.SIGINT)
    finished = session.wait(130)

    lines = finished.out.splitlines()
    assert [line for line in lines if line.startswith("demo-guestbook/")] == [
        "demo-guestbook/seed        | seeded",
        "demo-guestbook/guestbook   | open at port 18091",
        "demo-guestbook/guestbook   | entry: The first entry is ours.",
        "demo-guestbook/guestbook   | closed",
    ]
    assert "demo-guestbook-greet/greet | greeted" in lines
    ends = {name: row[1:3] for name, row in finished.table().items()}
    assert ends == {
        "demo-guestbook/seed": ["0", "Completed"],
        "demo-guestbook/guestbook": ["0", "Completed"],
        "demo-guestbook-greet/greet": ["0", "Completed"],
    }
    skipped = "ServiceAccount demo-guestbook; Service demo-guestbook"
    assert f"skipped, since only pods and workloads are run: {skipped}" in finished.err


@in_group
@pytest.mark.parametrize(
    ("name", "file", "refused"),
    [
        ("shop", "", "spec.containers[0].volumeMounts[0]: mounting volume catalogue at /etc/shop"),
        ("shop", "", "container web: paths of its image cannot be had: /app"),
        ("chart", "rendered.yaml", "initContainers[0].volumeMounts[0]: mounting volume config"),
    ],
)
def test_without_namespaces_an_example_with_mounts_is_refused_by_name(
    place: Place, way: Way, name: str, file: str, refused: str
):
    words = ("run", f"--isolation={way.isolation}", copied(place, name, file))
    finished = place.podvisor(*words).wait(3)
    assert refused in finished.err
    assert finished.err.endswith("errors; nothing was started\n")
