"""`podvisor doctor`: what it makes of a machine, and what it says about this one."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from supervisor.cli import app, doctor
from supervisor.cli.doctor import (
    Machine,
    Report,
    cannot_promise,
    judge,
    platform_problem,
    remarks,
    remedy,
    render,
)
from supervisor.cli.placement import Placement
from supervisor.errors import NodeError
from supervisor.runtime.cri import Isolation
from supervisor.runtime.launch import Trial

PLAIN = Machine(
    system="Linux",
    release="6.1.0-13-amd64",
    machine="x86_64",
    python="3.11.2",
    euid=1000,
    in_container=False,
    sysctls={},
    open_files=(1024, 524288),
    placement=Placement(),
    supervisord="",
)
ALL_WELL = tuple(Trial(mode) for mode in Isolation)


def machine(**changes: Any) -> Machine:
    return msgspec.structs.replace(PLAIN, **changes)


INSTEAD = "`podvisor validate` and `podvisor fields` work here; run pods"


@pytest.mark.parametrize(
    ("uname", "problem"),
    [
        (("Linux", "5.4.0-26-generic", "x86_64"), None),
        (("Linux", "6.18.44-fc-v669", "aarch64"), None),
        (("Linux", "5.15.153.1-microsoft-standard-WSL2", "x86_64"), None),
        (
            ("Linux", "4.19.0", "x86_64"),
            f"containers need Linux 5.4 or later, this is 4.19.0: {INSTEAD} elsewhere",
        ),
        (
            ("Darwin", "23.1.0", "arm64"),
            f"containers need Linux, this is Darwin: {INSTEAD} in a Linux VM (or WSL2)",
        ),
        (
            ("Linux", "6.1.0", "riscv64"),
            f"containers need x86-64 or arm64, this is riscv64: {INSTEAD} elsewhere",
        ),
    ],
)
def test_the_platform_is_linux_5_4_on_two_architectures(
    uname: tuple[str, str, str], problem: str | None
):
    assert platform_problem(*uname) == problem


ROOTLESS = Isolation.PIDNS_ROOTLESS
USER, MOUNT, PID = (f"create a {kind} namespace" for kind in ("user", "mount", "pid"))


@pytest.mark.parametrize(
    ("trial", "here", "words"),
    [
        (Trial(Isolation.PIDNS, MOUNT, errno.EPERM), PLAIN, "needs root"),
        (Trial(Isolation.PIDNS, MOUNT, errno.EPERM), machine(euid=0), "CAP_SYS_ADMIN"),
        (
            Trial(Isolation.PIDNS, MOUNT, errno.EPERM),
            machine(euid=0, in_container=True),
            "--cap-add SYS_ADMIN",
        ),
        (
            Trial(ROOTLESS, USER, errno.EPERM),
            machine(sysctls={"kernel.unprivileged_userns_clone": 0}),
            "sysctl kernel.unprivileged_userns_clone=1",
        ),
        (
            Trial(ROOTLESS, "make all mounts slaves", errno.EACCES),
            machine(sysctls={"kernel.apparmor_restrict_unprivileged_userns": 1}),
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        (Trial(ROOTLESS, USER, errno.EPERM), machine(in_container=True), "seccomp=unconfined"),
        (Trial(ROOTLESS, USER, errno.EPERM), PLAIN, "user.max_user_namespaces"),
        (Trial(ROOTLESS, USER, errno.ENOSPC), PLAIN, "raise sysctl user.max_user_namespaces"),
        (Trial(ROOTLESS, PID, errno.ENOSPC), PLAIN, "raise sysctl user.max_pid_namespaces"),
        (Trial(ROOTLESS, USER, errno.EINVAL), PLAIN, "kernel was built without"),
        (Trial(ROOTLESS, "mount /proc", errno.EPERM), PLAIN, "systempaths=unconfined"),
        (Trial(Isolation.GROUP, "list child processes in /proc", errno.ENOENT), PLAIN, "mount /pr"),
        (Trial(Isolation.GROUP, "become a sub-reaper", errno.EPERM), PLAIN, "seccomp profile"),
        (Trial(Isolation.PIDNS, PID, errno.EAGAIN), PLAIN, "exhausted"),
        (Trial(Isolation.PIDNS, "be pid 1", 0), PLAIN, "please report it"),
    ],
)
def test_each_failed_step_has_its_remedy(trial: Trial, here: Machine, words: str):
    """trap 15"""
    assert words in remedy(trial, here)


def test_the_first_mode_that_works_is_taken():
    trials = (Trial(Isolation.PIDNS, MOUNT, errno.EPERM), *ALL_WELL[1:])
    report = judge(PLAIN, trials, "/tmp", [])

    assert report.isolation == "pidns-rootless"
    assert [(mode.name, mode.ok, mode.error) for mode in report.modes] == [
        ("pidns", False, "EPERM"),
        ("pidns-rootless", True, ""),
        ("group", True, ""),
    ]


def test_no_working_mode_is_a_problem():
    report = judge(PLAIN, [Trial(Isolation.GROUP, "become a sub-reaper", 1)], "/tmp", [])

    assert report.isolation is None
    assert report.problems == ("no isolation mode works here",)


def test_each_mode_says_what_it_cannot_promise():
    assert cannot_promise(Isolation.PIDNS) == ()
    assert "only your own ids exist" in cannot_promise(ROOTLESS)[0]
    of_group = "\n".join(cannot_promise(Isolation.GROUP))
    for word in ("pid 1", "SIGTERM", "terminationMessagePath", "/proc/$PODVISOR_MAIN_PID/fd/1"):
        assert word in of_group


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"supervisord": "4.2.5"}, "supervisord 4.2.5 is installed in this Python environment"),
        ({"open_files": (256, 1024)}, "enough for about 170 containers"),
        ({"sysctls": {"fs.pipe-user-pages-soft": 16384}}, "beyond about 512 containers"),
        ({"placement": Placement("x.service", delegated=True)}, "stopping x.service signals and"),
        ({"placement": Placement("session-3.scope")}, "where logind has KillUserProcesses=yes"),
    ],
)
def test_what_may_surprise_is_remarked(changes: dict[str, Any], words: str):
    said = remarks(machine(**changes))

    assert len(said) == 1
    assert words in said[0]


def test_nothing_is_remarked_where_nothing_surprises():
    assert remarks(PLAIN) == []
    assert remarks(machine(open_files=(-1, -1))) == []
    assert remarks(machine(euid=0, sysctls={"fs.pipe-user-pages-soft": 16384})) == []


def test_the_report_reads_like_this():
    trials = (
        Trial(Isolation.PIDNS, MOUNT, errno.EPERM),
        Trial(ROOTLESS, USER, errno.ENOSPC),
        Trial(Isolation.GROUP),
    )
    report = judge(machine(placement=Placement("a.service")), trials, "/tmp/podvisor-1000", [])
    report = msgspec.structs.replace(report, version="1.0")

    assert (
        render(report)
        == """\
podvisor 1.0, Python 3.11.2, Linux 6.1.0-13-amd64 x86_64

isolation modes, best first:
  pidns           cannot create a mount namespace: EPERM (Operation not permitted)
                  remedy: needs root; pidns-rootless does the same with your own ids only
  pidns-rootless  cannot create a user namespace: ENOSPC (No space left on device)
                  remedy: no more namespaces are allowed: raise sysctl user.max_user_namespaces
  group           ok (run takes it)

in every mode containers share the host's network and files
what group cannot promise:
  - main processes are not pid 1, and /proc/1 is the host's init: a container's own output is \
/proc/$PODVISOR_MAIN_PID/fd/1
  - a missing SIGTERM handler does not show: SIGTERM ends such a main at once, while a cluster \
would kill it only at the end of its grace period
  - nothing is mounted at terminationMessagePath: write to the file that \
$PODVISOR_TERMINATION_LOG names
  - containers see the host's processes, and each other's
  - orphaned processes become podvisor's children, not the main's

open files: 1024 (hard limit 524288)
state of running nodes: /tmp/podvisor-1000
remark: for a durable node, this process is in the unit a.service, which systemd empties when it \
stops: set KillMode=process and Delegate=yes in it, or the containers end with it
remark: stopping a.service signals and kills containers of `run` together with podvisor, unless \
KillMode=mixed and TimeoutStopSec leave them their grace period

run takes group here"""
    )


def invoke(
    monkeypatch: pytest.MonkeyPatch,
    *words: str,
    here: Machine = PLAIN,
    trials: tuple[Trial, ...] | NodeError = ALL_WELL,
) -> tuple[int, str]:
    def diagnose() -> tuple[Trial, ...]:
        if isinstance(trials, NodeError):
            raise trials
        return trials

    monkeypatch.setattr(doctor, "examine", lambda: here)
    monkeypatch.setattr(doctor, "diagnose", diagnose)
    result = CliRunner().invoke(app, ["doctor", *words])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


def test_it_exits_with_0_when_containers_can_run(monkeypatch: pytest.MonkeyPatch):
    code, said = invoke(monkeypatch)

    assert code == 0
    assert said.endswith("\nrun takes pidns here\n")


def test_it_exits_with_2_when_no_mode_works(monkeypatch: pytest.MonkeyPatch):
    code, said = invoke(monkeypatch, trials=(Trial(Isolation.GROUP, "become a sub-reaper", 1),))

    assert code == 2
    assert "problem: no isolation mode works here\n" in said
    assert said.endswith("\ncannot run pods\n")


def test_it_exits_with_2_on_a_foreign_platform_without_trying(monkeypatch: pytest.MonkeyPatch):
    code, said = invoke(monkeypatch, here=machine(system="Darwin"), trials=NodeError("not tried"))

    assert code == 2
    assert "problem: containers need Linux, this is Darwin" in said
    assert "not tried" not in said


def test_it_exits_with_2_when_the_launcher_does_not_run(monkeypatch: pytest.MonkeyPatch):
    code, said = invoke(monkeypatch, trials=NodeError("cannot run the launcher: boom"))

    assert code == 2
    assert "problem: cannot run the launcher: boom\n" in said


def test_it_exits_with_2_when_there_is_no_place_for_state(monkeypatch: pytest.MonkeyPatch):
    def refuse() -> None:
        raise NodeError("cannot make a state folder in /tmp/x: Read-only file system")

    monkeypatch.setattr(doctor, "StateDir", refuse)
    code, said = invoke(monkeypatch)

    assert code == 2
    assert (
        "problem: cannot make a state folder in /tmp/x: Read-only file system; "
        "set TMPDIR to a folder that can be written to\n"
    ) in said


def test_supervisord_in_the_same_environment_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
):
    installed = tmp_path / "supervisor-4.2.5.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: supervisor\nVersion: 4.2.5\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    assert doctor.examine().supervisord == "4.2.5"


# --- on this machine ---------------------------------------------------------------------------


def report(*wrapper: str) -> Report:
    """What doctor says, run under a wrapper that takes something away."""
    done = subprocess.run(
        [*wrapper, sys.executable, "-m", "supervisor", "doctor", "-o", "json"],
        capture_output=True,
        check=False,
    )
    assert done.stderr == b""
    made = msgspec.json.decode(done.stdout, type=Report)
    assert done.returncode == (0 if made.isolation and not made.problems else 2)
    assert json.loads(done.stdout)["machine"]["openFiles"]
    return made


def fate(report: Report) -> dict[str, tuple[str, str]]:
    return {mode.name: (mode.step, mode.error) for mode in report.modes}


def test_on_this_machine_every_mode_is_tried():
    here = report()

    assert list(fate(here)) == ["pidns", "pidns-rootless", "group"]
    assert here.isolation is not None


def can_unshare() -> bool:
    if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("setpriv"):
        return False
    done = subprocess.run(["unshare", "--mount", "true"], stderr=subprocess.DEVNULL, check=False)
    return done.returncode == 0


needs_root = pytest.mark.skipif(not can_unshare(), reason="takes away what only root has")


@needs_root
def test_a_masked_proc_is_found_out():
    """trap 15: unshare works there, only the last mount does not."""
    masked = 'mount --bind /dev/null /proc/timer_list && exec "$@"'
    here = report("unshare", "--mount", "sh", "-c", masked, "sh")
    if fate(here)["pidns-rootless"][0] == USER:
        pytest.skip("no user namespaces here")

    assert fate(here)["pidns-rootless"] == ("mount /proc", "EPERM")
    assert here.isolation == "pidns"


@needs_root
def test_root_without_cap_sys_admin_is_found_out():
    """trap 15"""
    here = report("setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin")

    assert fate(here)["pidns"] == ("create a mount namespace", "EPERM")
    assert here.isolation in ("pidns-rootless", "group")
