"""`podvisor doctor`: what this machine can do, and what stands in the way.

Every isolation mode is tried, by the same code that starts containers, and the step that failed
is told with the kernel's answer and a remedy. What no trial can show is said besides: what a mode
cannot promise, which limits will be met first, and what around podvisor could kill or break it.

Three parts: facts are gathered (`examine`), made sense of (pure functions), and printed.
"""

from __future__ import annotations

import enum
import errno
import os
from collections.abc import Iterable
from typing import Annotated

import typer
from msgspec import Struct

from supervisor._version import __version__
from supervisor.cli import placement
from supervisor.cli.placement import Placement
from supervisor.errors import ExitCode, NodeError
from supervisor.kubelet.statedir import StateDir
from supervisor.runtime.cri import Isolation
from supervisor.runtime.launch import Trial, diagnose

OLDEST_KERNEL = (5, 4)  # pidfds that can be waited for
MACHINES = ("x86_64", "aarch64")

_DESCRIPTORS_PER_CONTAINER = 6  # two pipes, two pidfds, a status pipe, the log file
_PAGES_PER_PIPE = 16
_SYSCTLS = (
    "kernel.apparmor_restrict_unprivileged_userns",
    "kernel.unprivileged_userns_clone",
    "user.max_user_namespaces",
    "fs.pipe-user-pages-soft",
)
_CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv", "/run/systemd/container")


class Output(enum.StrEnum):
    JSON = "json"


class Mode(Struct, frozen=True, rename="camel"):
    """How one isolation mode fares here."""

    name: str
    ok: bool
    step: str  # that failed; empty when none did
    error: str  # the kernel's answer, as EPERM
    remedy: str
    cannot_promise: tuple[str, ...]


class Machine(Struct, frozen=True, rename="camel"):
    """What podvisor runs on, and with which means."""

    system: str
    release: str
    machine: str
    python: str
    euid: int
    in_container: bool
    sysctls: dict[str, int]
    open_files: tuple[int, int]  # soft and hard limit; -1: none
    placement: Placement
    supervisord: str  # version of supervisord in this environment; empty if none


class Report(Struct, frozen=True, rename="camel"):
    """All that doctor says; `-o json` prints this."""

    version: str
    machine: Machine
    isolation: str | None  # the mode that `run` takes here
    modes: tuple[Mode, ...]
    state_folder: str
    problems: tuple[str, ...]  # each keeps containers from running
    remarks: tuple[str, ...]


def command(
    output: Annotated[
        Output | None, typer.Option("--output", "-o", help="Print everything as JSON.")
    ] = None,
) -> None:
    """Say what this machine can do, and what stands in the way.

    Tries every isolation mode and names the step that failed, with a remedy. Exits with 0 when
    containers can run here, with 2 when they cannot.

    Examples:

      podvisor doctor

      podvisor doctor -o json
    """
    report = diagnosis()
    if output is None:
        typer.echo(render(report))
    else:
        import msgspec

        typer.echo(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    if report.isolation is None or report.problems:
        raise typer.Exit(int(ExitCode.USAGE))


def diagnosis() -> Report:
    """Look at this machine, try every mode, and judge."""
    machine = examine()
    problem = platform_problem(machine.system, machine.release, machine.machine)
    if problem is not None:
        return judge(machine, (), "", [problem])
    problems = []
    trials: tuple[Trial, ...] = ()
    folder = ""
    try:
        trials = diagnose()
    except NodeError as error:
        problems.append(str(error))
    try:
        with StateDir() as state:  # as `run` does it
            folder = os.path.dirname(state.path)
    except NodeError as error:
        problems.append(f"{error}; set TMPDIR to a folder that can be written to")
    return judge(machine, trials, folder, problems)


def examine() -> Machine:
    """Gather what can be seen without trying anything."""
    system = os.uname()
    return Machine(
        system=system.sysname,
        release=system.release,
        machine=system.machine,
        python=_python_version(),
        euid=os.geteuid(),
        in_container=any(map(os.path.exists, _CONTAINER_MARKS)),
        sysctls=_read_sysctls(),
        open_files=_open_files(),
        placement=placement.look(),
        supervisord=_supervisord_version(),
    )


# --- making sense of it ------------------------------------------------------------------------


def platform_problem(system: str, release: str, machine: str) -> str | None:
    """Why no container can run on this platform, if so; arguments are those of uname."""
    instead = "`podvisor validate` and `podvisor fields` work here; run pods"
    if system != "Linux":
        return f"containers need Linux, this is {system}: {instead} in a Linux VM (or WSL2)"
    numbers = [int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit()]
    if tuple(numbers) < OLDEST_KERNEL:
        oldest = ".".join(map(str, OLDEST_KERNEL))
        return f"containers need Linux {oldest} or later, this is {release}: {instead} elsewhere"
    if machine not in MACHINES:
        return f"containers need x86-64 or arm64, this is {machine}: {instead} elsewhere"
    return None


def judge(
    machine: Machine, trials: Iterable[Trial], state_folder: str, problems: list[str]
) -> Report:
    """Put everything together."""
    modes = tuple(
        Mode(
            name=trial.isolation,
            ok=trial.ok,
            step=trial.step,
            error=errno.errorcode.get(trial.errno, ""),
            remedy="" if trial.ok else remedy(trial, machine),
            cannot_promise=cannot_promise(trial.isolation),
        )
        for trial in trials
    )
    isolation = next((mode.name for mode in modes if mode.ok), None)
    if isolation is None and modes:
        problems = [*problems, "no isolation mode works here"]
    return Report(
        version=__version__,
        machine=machine,
        isolation=isolation,
        modes=modes,
        state_folder=state_folder,
        problems=tuple(problems),
        remarks=tuple(remarks(machine)),
    )


def cannot_promise(mode: Isolation) -> tuple[str, ...]:
    """What is different from a cluster in this mode, beyond what is in all of them."""
    if mode is Isolation.GROUP:
        return (
            (
                "main processes are not pid 1, and /proc/1 is the host's init: "
                "a container's own output is /proc/$PODVISOR_MAIN_PID/fd/1"
            ),
            (
                "a missing SIGTERM handler does not show: SIGTERM ends such a main at once, "
                "while a cluster would kill it only at the end of its grace period"
            ),
            (
                "nothing is mounted at terminationMessagePath: "
                "write to the file that $PODVISOR_TERMINATION_LOG names"
            ),
            "containers see the host's processes, and each other's",
            "orphaned processes become podvisor's children, not the main's",
        )
    if mode is Isolation.PIDNS_ROOTLESS:
        return (
            "only your own ids exist: other runAsUser, runAsGroup, supplementalGroups are refused",
            "files of other users show as owned by 65534, and set-uid programs (sudo) do not work",
        )
    return ()


def remedy(trial: Trial, machine: Machine) -> str:
    """What helps against this failure; advice in one sentence."""
    mode, step, name = trial.isolation, trial.step, errno.errorcode.get(trial.errno, "")
    denied = name in ("EPERM", "EACCES")
    rootless = mode is Isolation.PIDNS_ROOTLESS
    sysctl = machine.sysctls
    if step == "mount /proc" and denied:
        return (
            "parts of /proc are masked, as container engines do: start the outer container with "
            "--security-opt systempaths=unconfined (Docker), --security-opt unmask=ALL (Podman) "
            "or procMount: Unmasked (Kubernetes)"
        )
    if name == "ENOSPC":
        kind = {
            "create a user namespace": "user",
            "create a mount namespace": "mnt",
            "create a pid namespace": "pid",
        }.get(step, "user")
        return f"no more namespaces are allowed: raise sysctl user.max_{kind}_namespaces"
    if name in ("EAGAIN", "ENOMEM"):
        return "the machine or a limit (pids, memory) is exhausted: end something, or raise it"
    if name in ("EINVAL", "ENOSYS") and "namespace" in step:
        return "the kernel was built without this kind of namespace, or a sandbox hides it"
    if mode is Isolation.GROUP:
        if step == "list child processes in /proc":
            return "mount /proc, on a kernel built with CONFIG_PROC_CHILDREN"
        return "a sandbox refuses it: allow prctl(PR_SET_CHILD_SUBREAPER) in its seccomp profile"
    if mode is Isolation.PIDNS and denied and machine.euid != 0:
        return "needs root; pidns-rootless does the same with your own ids only"
    if rootless and denied:
        if sysctl.get("kernel.unprivileged_userns_clone") == 0:
            return "unprivileged user namespaces are off: sysctl kernel.unprivileged_userns_clone=1"
        if sysctl.get("kernel.apparmor_restrict_unprivileged_userns", 0) != 0:
            return (
                "AppArmor restricts unprivileged user namespaces: sysctl "
                "kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for "
                "this Python with the rule `userns,`"
            )
    if denied and machine.in_container:
        extra = "" if rootless else "--cap-add SYS_ADMIN "
        return (
            "the outer container forbids it: start it with "
            f"{extra}--security-opt seccomp=unconfined --security-opt apparmor=unconfined "
            "--security-opt systempaths=unconfined (Docker's words)"
        )
    if denied and rootless:
        return (
            "unprivileged user namespaces are forbidden: see sysctl user.max_user_namespaces, "
            "AppArmor or SELinux, a seccomp filter, or a chroot around this process"
        )
    if denied:
        return "root lacks the capability CAP_SYS_ADMIN, or a seccomp filter or LSM forbids it"
    return "not known: please report it with this output"


def remarks(machine: Machine) -> list[str]:
    """What works, and may surprise all the same."""
    said = []
    if machine.supervisord:
        said.append(
            f"supervisord {machine.supervisord} is installed in this Python environment: its "
            "import package is named supervisor too, so the two overwrite each other's files; "
            "install podvisor into an environment of its own"
        )
    hard = machine.open_files[1]
    if 0 <= hard < 4096:
        said.append(
            f"at most {hard} open files: enough for about {hard // _DESCRIPTORS_PER_CONTAINER} "
            "containers; raise the hard limit (ulimit -Hn, LimitNOFILE=)"
        )
    pages = machine.sysctls.get("fs.pipe-user-pages-soft", 0)
    if machine.euid != 0 and pages:
        said.append(
            f"fs.pipe-user-pages-soft is {pages}: beyond about {pages // _PAGES_PER_PIPE // 2} "
            "containers their log pipes get smaller, and heavy logs slower"
        )
    text = placement.warning(machine.placement)
    if text is not None:
        said.append(f"for a durable node, {text}")
    if machine.placement.unit.endswith(".service"):
        said.append(
            f"stopping {machine.placement.unit} signals and kills containers of `run` together "
            "with podvisor, unless KillMode=mixed and TimeoutStopSec leave them their grace period"
        )
    return said


# --- printing ----------------------------------------------------------------------------------


def render(report: Report) -> str:
    """The report for a person to read."""
    machine = report.machine
    soft, hard = (str(limit) if limit >= 0 else "unlimited" for limit in machine.open_files)
    platform = f"{machine.system} {machine.release} {machine.machine}"
    lines = [f"podvisor {report.version}, Python {machine.python}, {platform}"]
    if report.modes:
        lines += ["", "isolation modes, best first:"]
        lines += [line for mode in report.modes for line in _render_mode(mode, report.isolation)]
    if report.isolation is not None:
        lines += ["", "in every mode containers share the host's network and files"]
        promises = next(m for m in report.modes if m.name == report.isolation).cannot_promise
        if promises:
            lines += [f"what {report.isolation} cannot promise:"]
            lines += [f"  - {promise}" for promise in promises]
    lines += ["", f"open files: {soft} (hard limit {hard})"]
    if report.state_folder:
        lines += [f"state of running nodes: {report.state_folder}"]
    lines += [f"problem: {problem}" for problem in report.problems]
    lines += [f"remark: {remark}" for remark in report.remarks]
    lines += ["", f"run takes {report.isolation} here" if report.isolation else "cannot run pods"]
    return "\n".join(lines)


def _render_mode(mode: Mode, taken: str | None) -> list[str]:
    if mode.ok:
        return [f"  {mode.name:<15} ok" + (" (run takes it)" if mode.name == taken else "")]
    error = f": {mode.error} ({os.strerror(getattr(errno, mode.error))})" if mode.error else ""
    return [
        f"  {mode.name:<15} cannot {mode.step}{error}",
        f"  {'':<15} remedy: {mode.remedy}",
    ]


# --- looking -----------------------------------------------------------------------------------


def _python_version() -> str:
    import platform

    return platform.python_version()


def _read_sysctls() -> dict[str, int]:
    found: dict[str, int] = {}
    for name in _SYSCTLS:
        text = _read("/proc/sys/" + name.replace(".", "/")).strip()
        if text.lstrip("-").isdigit():
            found[name] = int(text)
    return found


def _open_files() -> tuple[int, int]:
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)


def _supervisord_version() -> str:
    # Slow to import, and only wanted here.
    from importlib import metadata

    try:
        return metadata.version("supervisor")
    except metadata.PackageNotFoundError:
        return ""


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
