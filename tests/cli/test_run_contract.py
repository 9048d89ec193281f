"""What a container of `podvisor run` starts with, clause by clause, and what stops a start."""

from __future__ import annotations

import grp
import json
import os
import pty
import pwd
import signal
import subprocess
from typing import Any

import pytest

from tests.support import (
    IS_ROOT,
    NOBODY,
    PATH,
    PYTHON,
    Finished,
    Manifest,
    Place,
    Session,
    Way,
    as_root,
    as_user,
    container,
    in_group,
    in_pidns,
    one_way,
    pod,
    python,
    sh,
    step,
)

pytestmark = pytest.mark.usefixtures("nothing_left")

NEVER = {"restartPolicy": "Never"}

_LOOK = """
import json, os, resource
def kind(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return None
try:
    os.close(os.open("/dev/tty", os.O_RDWR))
    terminal = True
except OSError:
    terminal = False
status = dict(line.rstrip().split(":", 1) for line in open("/proc/self/status"))
found = {
    "pid": os.getpid(), "sid": os.getsid(0), "pgrp": os.getpgrp(), "terminal": terminal,
    "stdin": kind(0), "fds": [fd for fd in range(1000) if kind(fd)],
    "umask": os.umask(0), "nice": os.getpriority(os.PRIO_PROCESS, 0),
    "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "fsize": resource.getrlimit(resource.RLIMIT_FSIZE),
    "oom": int(open("/proc/self/oom_score_adj").read()),
    "cwd": os.getcwd(), "uid": os.getresuid(), "gid": os.getresgid(), "groups": os.getgroups(),
}
print(json.dumps(found))
"""


def look(name: str = "look", **fields: Any) -> Manifest:
    return python(name, _LOOK, **fields)


def seen(finished: Finished, name: str, container: str = "look") -> dict[str, Any]:
    (line,) = finished.pods[name].lines(container)
    return dict(json.loads(line))


# --- a process of its own ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def odd(way: Way, shared_place: Place) -> Finished:
    """podvisor is started in a state that no container may notice, or must notice."""
    start = {
        "nice": 5,
        "umask": 0o077,
        "oom": 300,
        "limits": {"NOFILE": [400, 900], "CORE": [0, 4096], "FSIZE": [1 << 30, 1 << 31]},
        "blocked": [signal.SIGUSR1, signal.SIGTERM, signal.SIGCHLD, 40],
        "ignored": [signal.SIGPIPE, signal.SIGHUP, signal.SIGINT, signal.SIGUSR2, signal.SIGTSTP],
        "fds": [3, 5, 77],
    }
    status = container("status", "cat", "/proc/self/status")
    return shared_place.run(
        pod("contract", look(), status, sh("umask", "umask"), **NEVER),
        pod("again", look(), init=(look("init"),), **NEVER),
        "-o",
        "json",
        start=start,
        stdin=subprocess.PIPE,
    )


def test_stdin_is_dev_null(odd: Finished):
    assert seen(odd, "contract")["stdin"] == "/dev/null"


def test_a_container_leads_a_session_without_a_terminal(odd: Finished, way: Way):
    found = seen(odd, "contract")

    assert found["pid"] == found["sid"] == found["pgrp"]
    assert found["terminal"] is False
    assert (found["pid"] == 1) == way.namespaces


def test_only_the_three_standard_descriptors_are_open(odd: Finished):
    for found in (seen(odd, "contract"), seen(odd, "again", "init"), seen(odd, "again")):
        assert found["fds"] == [0, 1, 2]


def test_all_signals_are_default_and_none_is_blocked(odd: Finished):
    lines = odd.pods["contract"].lines("status")
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)

    for mask in ("SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd"):
        assert int(status[mask], 16) == 0, mask


def test_the_umask_is_022(odd: Finished):
    assert seen(odd, "contract")["umask"] == 0o022
    assert odd.pods["contract"].lines("umask") == ["0022"]


def test_limits_and_niceness_are_those_podvisor_was_started_with(odd: Finished):
    found = seen(odd, "contract")

    assert found["nofile"] == [400, 900]
    assert found["core"] == [0, 4096]
    assert found["fsize"] == [1 << 30, 1 << 31]
    assert found["nice"] == 5
    assert found["oom"] == 300


def test_without_a_word_about_users_the_ids_are_podvisors_own(odd: Finished, way: Way):
    found = seen(odd, "contract")

    assert found["uid"] == [way.uid] * 3
    if IS_ROOT:
        assert found["gid"] == [way.uid] * 3


def test_the_terminals_ctrl_c_reaches_only_podvisor(place: Place, way: Way):
    ours, theirs = pty.openpty()
    try:
        script = "trap 'echo interrupted' INT; trap 'echo told; exit 0' TERM; echo up; "
        script += "while :; do sleep 0.05; done"
        session = place.start(pod("web", sh("app", script)), stdin=theirs, tty=True)
        session.until_logged("| up")
        os.write(ours, b"\x03")
        finished = session.wait(130)
    finally:
        os.close(ours)
        os.close(theirs)

    assert "| told" in finished.out
    assert "interrupted" not in finished.out


# --- what is run, and where ----------------------------------------------------------------------


def here(place: Place, name: str, words: str = "here") -> None:
    """A program that only a look-up in the right folder finds."""
    path = place.write(name, f"#!/bin/sh\necho {words} in $PWD\n")
    os.chmod(path, 0o755)


def test_a_command_is_looked_up_in_the_containers_own_path_from_its_folder(place: Place):
    here(place, "web/tools/greet", "hello")
    here(place, "web/greet", "wrong one")
    finished = place.run(
        pod(
            "web",
            container("path", "greet", env=[{"name": "PATH", "value": f"tools:{PATH}"}]),
            container("relative", "./tools/greet"),
            container("elsewhere", "./greet", workingDir="tools"),
            **NEVER,
        ),
        "-o",
        "json",
        code=0,
    )
    folder = f"{place.folder}/web"

    for name, where in (("path", folder), ("relative", folder), ("elsewhere", f"{folder}/tools")):
        assert finished.pods["web"].lines(name) == [f"hello in {where}"]


@one_way
def test_the_working_directory_is_the_manifests_folder_or_that_of_podvisor_toml(place: Place):
    job = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "job"}}
    own = container("own", "pwd", workingDir="/usr")
    job["spec"] = {"containers": [container("app", "pwd"), own], **NEVER}
    words = ("run", f"--isolation={place.way.isolation}", "-o", "json")
    manifest = place.write("project/deploy/job.json", job)
    os.makedirs(f"{place.folder}/project/src")

    def folders(*words: str, **options: Any) -> tuple[str, str]:
        pod = place.podvisor(*words, **options).wait(0).pods["job"]
        return pod.lines("app")[0], pod.lines("own")[0]

    assert folders(*words, manifest) == (f"{place.folder}/project/deploy", "/usr")
    place.write("project/podvisor.toml", "")
    assert folders(*words, manifest) == (f"{place.folder}/project", "/usr")
    # A manifest from stdin is looked at from the current folder.
    with open(manifest) as stdin:
        cwd = f"{place.folder}/project/src"
        assert folders(*words, "-", cwd=cwd, stdin=stdin) == (f"{place.folder}/project", "/usr")
    os.remove(f"{place.folder}/project/podvisor.toml")
    with open(manifest) as stdin:
        assert folders(*words, "-", cwd=cwd, stdin=stdin) == (cwd, "/usr")


def test_what_cannot_be_executed_is_a_start_error(place: Place):
    place.write("web/plain", "echo not executable")
    finished = place.run(
        pod("web", container("app", "no-such-program"), **NEVER),
        pod("plain", container("app", f"{place.folder}/web/plain"), **NEVER),
        pod("cwd", container("app", "pwd", workingDir="/no/such/folder"), **NEVER),
        "-o",
        "json",
        code=1,
    )

    web = finished.pods["web"]
    assert web.phase == "Failed"
    assert web.end("app") == ("StartError", 128)
    assert web.message("app") == 'exec: "no-such-program": executable file not found in $PATH'
    assert web.said("app") == [f"cannot start: {web.message('app')}"]
    for name, words in (("plain", "permission denied"), ("cwd", "/no/such/folder")):
        assert finished.pods[name].end("app") == ("StartError", 128)
        assert words in finished.pods[name].message("app")
    assert finished.table()["web/app"] == ["0", "128", "StartError", "-"]


# --- environment ---------------------------------------------------------------------------------

_DUMP = "import json, os; print(json.dumps(dict(os.environ)))"


def environment(finished: Finished, name: str, container: str = "app") -> dict[str, str]:
    (line,) = finished.pods[name].lines(container)
    found = dict(json.loads(line))
    # What mode group tells its containers, and what Python sets for itself.
    for extra in ("PODVISOR_MAIN_PID", "PODVISOR_TERMINATION_LOG", "LC_CTYPE"):
        found.pop(extra, None)
    return found


def test_nothing_is_inherited_but_what_is_named(place: Place):
    env = {
        "HOME": "/home/someone",
        "LANG": "C.UTF-8",
        "LC_TIME": "C",
        "TZ": "UTC",
        "TERM": "vt100",
        "SECRET": "s3cret",
        "PYTHONHASHSEED": "0",
        "USER": "someone",
        "WANTED": "by the command line",
        "NEEDED": "by the project",
        "LD_LIBRARY_PATH": "/nowhere",
        "HOSTNAME": "of the host",
    }
    inherited = {name: env[name] for name in ("HOME", "LANG", "LC_TIME", "TZ", "TERM")}
    own = {"name": "OWN", "value": "$(HOSTNAME)"}
    place.write("web/podvisor.toml", 'pass-env = ["NEEDED", "UNSET"]\n')
    finished = place.run(
        pod("web", python("app", _DUMP, env=[own]), **NEVER),
        pod("other", python("app", _DUMP), **NEVER),
        "--pass-env",
        "WANTED",
        "-o",
        "json",
        code=0,
        env=env,
    )

    expected = {"PATH": PATH, **inherited, "WANTED": env["WANTED"]}
    assert environment(finished, "other") == {**expected, "HOSTNAME": "other"}
    assert environment(finished, "web") == {
        **expected,
        "HOSTNAME": "web",
        "OWN": "$(HOSTNAME)",
        "NEEDED": env["NEEDED"],
    }


def test_the_path_of_an_active_virtual_environment_is_inherited(place: Place):
    here(place, "venv/bin/tool", "from the environment")
    env = {"PATH": f"{place.folder}/venv/bin:{PATH}"}
    finished = place.run(pod("web", container("app", "tool"), **NEVER), code=0, env=env)

    assert f"from the environment in {place.folder}/web" in finished.out


def test_an_environment_of_128_kib_works_and_more_is_an_error_with_the_size(place: Place):
    page = os.sysconf("SC_PAGE_SIZE")
    most = 32 * page - 1 - len("BIG=")  # the kernel's limit for one string
    look = "import os; print(sum(len(v) for v in os.environ.values()))"
    many = [{"name": f"V{i}", "value": "x" * 16384} for i in range(8)]
    finished = place.run(
        pod("many", python("app", look, env=many), **NEVER),
        pod("most", python("app", look, env=[{"name": "BIG", "value": "x" * most}]), **NEVER),
        pod(
            "more",
            container("app", "true", env=[{"name": "BIG", "value": "x" * (most + 1)}]),
            **NEVER,
        ),
        "-o",
        "json",
        code=1,
    )

    assert int(finished.pods["many"].lines("app")[0]) >= 128 << 10
    assert int(finished.pods["most"].lines("app")[0]) >= most
    more = finished.pods["more"]
    assert more.end("app") == ("StartError", 128)
    size = most + 1 + len("BIG=")
    assert f"environment variable BIG is {size} bytes long" in more.message("app")


# --- users ---------------------------------------------------------------------------------------


@as_root
def test_as_root_a_container_gets_the_user_and_groups_it_asks_for(place: Place):
    nobody = pwd.getpwuid(NOBODY)
    pod_wide = {"runAsUser": NOBODY, "runAsGroup": 1234, "supplementalGroups": [2000, 3000]}
    where = sh("where", "echo $HOME $USER")
    finished = place.run(
        pod("web", look(), where, securityContext=pod_wide, **NEVER),
        pod(
            "own",
            look(securityContext={"runAsUser": 4321}),
            sh("where", "echo $HOME ${USER-none}", securityContext={"runAsUser": 4321}),
            securityContext=pod_wide,
            **NEVER,
        ),
        "-o",
        "json",
        code=0,
    )

    web, own = seen(finished, "web"), seen(finished, "own")
    assert (web["uid"], web["gid"]) == ([NOBODY] * 3, [1234] * 3)
    assert sorted(web["groups"]) == [2000, 3000]
    assert finished.pods["web"].lines("where") == [f"{nobody.pw_dir} {nobody.pw_name}"]
    assert (own["uid"], own["gid"]) == ([4321] * 3, [1234] * 3)
    assert finished.pods["own"].lines("where") == ["/ none"]


@as_root
def test_run_as_non_root_is_kept(place: Place):
    non_root = {"securityContext": {"runAsNonRoot": True}}
    session = place.start(
        pod("web", container("app", "true"), **non_root, **NEVER),
        "-o",
        "json",
    )
    session.until_said("CreateContainerConfigError: container has runAsNonRoot")
    session.signal(signal.SIGTERM)
    found = session.wait(143).pods["web"]

    assert found.lines("app") == []
    assert found.phase == "Failed"


@as_user
def test_a_users_own_ids_are_honoured(place: Place, way: Way):
    own = {"runAsUser": way.uid, "runAsNonRoot": True}
    if IS_ROOT:
        own |= {"runAsGroup": way.uid, "supplementalGroups": [way.uid]}
    finished = place.run(pod("web", look(), securityContext=own, **NEVER), "-o", "json", code=0)

    assert seen(finished, "web")["uid"] == [way.uid] * 3


@as_user
def test_ids_that_a_user_cannot_have_are_refused_before_anything_starts(place: Place, way: Way):
    gid = way.uid if IS_ROOT else os.getgid()
    groups = {gid} if IS_ROOT else {gid, *os.getgroups()}
    foreign = max(entry.gr_gid for entry in grp.getgrall() if entry.gr_gid not in groups)
    wanted = {"runAsUser": 1, "runAsGroup": foreign, "supplementalGroups": [foreign]}
    finished = place.run(
        pod("web", step("app"), securityContext=wanted, **NEVER), pod("other", step("app"), **NEVER)
    )

    assert finished.code == 3
    remedy = "run podvisor as root, or remove the field"
    for field, value in (
        ("runAsUser", 1),
        ("runAsGroup", foreign),
        ("supplementalGroups[0]", foreign),
    ):
        assert f"spec.securityContext.{field}: Invalid value: {value}: " in finished.err
    assert finished.err.count(remedy) == 3
    assert "3 errors; nothing was started" in finished.err
    assert not os.path.exists(f"{place.folder}/other/steps")


# --- /proc/1 -------------------------------------------------------------------------------------

_THROUGH = (
    "echo own >/proc/1/fd/1; echo error >/proc/1/fd/2; "
    "(setsid sh -c 'echo child >/proc/1/fd/1; echo unseen' >/dev/null); echo plain"
)


@in_pidns
def test_every_process_reaches_the_log_through_proc_1(place: Place, way: Way):
    user = {"securityContext": {"runAsUser": NOBODY}} if way.changes_users else {}
    finished = place.run(
        pod("web", sh("app", _THROUGH), **NEVER),
        pod("user", sh("app", _THROUGH), **user, **NEVER),
        "-o",
        "json",
        code=0,
    )

    for name in ("web", "user"):
        # stderr has a pipe of its own: its place among the lines is not fixed.
        lines = finished.pods[name].lines("app")
        assert sorted(lines) == ["child", "error", "own", "plain"]
        assert [line for line in lines if line != "error"] == ["own", "child", "plain"]


@in_group
def test_in_mode_group_words_with_proc_1_are_refused_with_the_replacement(place: Place):
    session = place.start(pod("web", sh("app", "echo x >/proc/1/fd/1"), step("other"), **NEVER))
    finished = session.wait(3)

    (why,) = [line for line in finished.err.splitlines() if "/proc/1/fd/1" in line]
    assert "container app: /proc/1/fd/1 is not this container" in why
    assert "mode group" in why
    assert "use /proc/$PODVISOR_MAIN_PID/fd/1" in why
    assert "1 error; nothing was started" in finished.err
    assert not session.steps("web")


@in_group
def test_in_mode_group_the_replacement_reaches_the_log(place: Place):
    script = _THROUGH.replace("/proc/1/", "/proc/$PODVISOR_MAIN_PID/")
    finished = place.run(pod("web", sh("app", script), **NEVER), "-o", "json", code=0)

    assert sorted(finished.pods["web"].lines("app")) == ["child", "error", "own", "plain"]


def test_the_python_of_these_tests_is_found(place: Place):
    """Or much above would fail for another reason than it seems."""
    session: Session = place.start(pod("web", container("app", PYTHON, "-V"), **NEVER))
    assert "Python 3" in session.wait(0).out
