"""Pods whose containers share one process namespace: what people write such manifests for."""

from __future__ import annotations

import os
import signal

import pytest

from tests.support import Durable, Place, in_pidns, pod, sh, step

pytestmark = pytest.mark.usefixtures("nothing_left")

# The shell finds the other's main by its words, as a person does with `ps ax`. In mode group it
# sees the whole machine, where other tests are at the same: so the words are those of this place.
FIND = """
until other=$(grep -ls '[I] am the web server of PLACE' /proc/[0-9]*/cmdline | head -n 1) &&
      [ "$(cat web 2>/dev/null)" ]; do sleep 0.05; done
other=${other%%/cmdline*}; other=${other#/proc/}
"""


def test_a_shell_signals_the_main_of_another_container_and_reads_its_files(place: Place):
    """§9.4.5: the example of the documentation: kill -HUP, head /proc/PID/root/…"""
    web = sh(
        "nginx",
        f": I am the web server of {place.folder}; trap 'echo reloaded; exit 0' HUP; echo up >web;"
        " while :; do sleep 0.05; done",
    )
    look = FIND.replace("PLACE", place.folder) + (
        "head -n 1 /proc/$other/root/etc/passwd >passwd && cmp passwd - <<END && echo same\n"
        "$(head -n 1 /etc/passwd)\nEND\n"
        "kill -HUP $other && echo sent"
    )
    shared = pod(
        "shared", web, sh("shell", look), restartPolicy="Never", shareProcessNamespace=True
    )
    done = place.run(shared, "-o", "json", code=0)
    (it,) = done.pods.values()
    assert it.end("nginx") == ("Completed", 0)
    assert it.end("shell") == ("Completed", 0)
    assert it.lines("shell") == ["same", "sent"]
    assert it.lines("nginx") == ["reloaded"]


@in_pidns
def test_no_container_is_the_first_process_and_a_term_ends_a_deaf_main(place: Place):
    """§9.4.5"""
    first = "[ $$$$ != 1 ] && until [ $(cat /proc/1/comm) = pause ]; do sleep 0.01; done; kill $$$$"
    shared = pod("shared", sh("app", first), restartPolicy="Never", shareProcessNamespace=True)
    done = place.run(shared, "-o", "json", code=1)
    (it,) = done.pods.values()
    assert it.end("app") == ("Error", 143)


@in_pidns
def test_a_node_that_comes_back_has_the_namespace_and_one_that_loses_it_begins_anew(
    node: Durable,
):
    """§9.4.5 §4.3.3"""
    spec = {"shareProcessNamespace": True, "terminationGracePeriodSeconds": 1}
    node.put("web.json", pod("web", step("app", 1000), init=(step("one"),), **spec))
    session = node.serve()
    pid = node.running(session, "web", "app")
    children = f"/proc/{session.pid}/task/{session.pid}/children"
    with open(children) as file:
        (launcher,) = map(int, file.read().split())
    os.kill(launcher, signal.SIGKILL)
    session.kill()
    session = node.serve()
    session.until_said(f"taken on again, pid {pid} ")
    namespace = os.readlink(f"/proc/{pid}/ns/pid")
    os.kill(pid, signal.SIGKILL)
    session.until(lambda: node.pid("web", "app") not in (0, pid), "the next instance")
    pid = node.pid("web", "app")
    assert os.readlink(f"/proc/{pid}/ns/pid") == namespace
    record = node.record("web")
    assert record is not None
    with open(f"{node.state}/pods/{record.pod.metadata.uid}/pause.spawn") as file:
        holder = int(file.readline().split()[1])
    os.kill(holder, signal.SIGKILL)
    session.until(lambda: node.pid("web", "app") not in (0, pid), "a new sandbox's instance")
    one = node.container("web", "one")
    assert one is not None
    assert one.attempt == 1
    assert os.readlink(f"/proc/{node.pid('web', 'app')}/ns/pid") != namespace
    session.signal(signal.SIGTERM)
    session.wait(143)
