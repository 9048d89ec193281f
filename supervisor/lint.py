"""What a manifest gets wrong about the lifecycle of its pods, with the numbers that show it.

`podvisor lint` prints what is found here. Validation says what a cluster refuses; this says what
it takes, and what then goes wrong: a shutdown that always ends with SIGKILL, a probe that kills
what only starts slowly. Each rule names one known mistake, says why it is one, computes it with
the numbers of this manifest (`lifecycle/bounds.py`), and says what to write instead.

A rule speaks only where the manifest itself shows the mistake. What cannot be known from it (how
long a program takes to start, what an image runs) is taken for right. Pure: pods, the words of
their containers and the Services beside them come in, advice goes out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from supervisor import script
from supervisor.api import v1
from supervisor.api.problems import Key, Path, Severity
from supervisor.lifecycle import bounds
from supervisor.lifecycle.decide import AFTER_SIGNAL
from supervisor.lifecycle.facts import HookKind, ProbeKind
from supervisor.lifecycle.hooks import handler_of, stop_signal
from supervisor.lifecycle.probing import probe_of
from supervisor.lifecycle.record import MINIMUM_GRACE, grace_of
from supervisor.runtime.images import Image, words

IGNORE = "podvisor/lint-ignore"  # annotation of a pod: rules that are not for it

SOON = 10  # seconds that a program may take to start on a busy machine without being killed for it
_LONG = 1e12  # seconds that nobody reads digit by digit
OFTEN = 2  # seconds: a period in which nobody should start a shell or an interpreter


class Rule(Struct, frozen=True):
    severity: Severity
    line: str


_ERROR, _WARNING = Severity.ERROR, Severity.WARNING
RULES = {
    "shell-as-pid-1": Rule(_WARNING, "a shell is in front of the program, and SIGTERM ends at it"),
    "prestop-uses-grace": Rule(_ERROR, "preStop leaves no grace period for the stop signal"),
    "liveness-before-startup": Rule(_WARNING, "liveness can kill what is only starting slowly"),
    "startup-budget": Rule(_WARNING, "startup fails earlier than the manifest expects a start"),
    "liveness-equals-readiness": Rule(_WARNING, "what is only not ready is killed"),
    "timeout-above-period": Rule(_WARNING, "attempts that use their timeout drop the next ones"),
    "no-readiness-behind-service": Rule(_WARNING, "a Service sends requests to what is not ready"),
    "exec-probe-cost": Rule(_WARNING, "an exec probe costs more than what it checks"),
    "hook-signals-pid-1": Rule(_WARNING, "preStop sends a signal, and the stop signal at once"),
    "hook-always-fails": Rule(_ERROR, "a hook by tcpSocket is accepted, and fails every time"),
    "probe-port-unknown": Rule(_ERROR, "a probe names a port that the container has not"),
    "no-grace": Rule(_WARNING, "the grace period is less than what a process gets in any case"),
    "unknown-rule": Rule(_WARNING, f"the annotation {IGNORE} names a rule that there is not"),
}


class Advice(Struct, frozen=True, kw_only=True):
    """One mistake: where it is, what it is, why it is one, and what to do."""

    rule: str
    path: Path  # of the pod
    container: str = ""
    text: str
    why: str
    arithmetic: tuple[str, ...]
    fix: str


class Service(Struct, frozen=True, kw_only=True):
    """What a Service selects and where it sends requests."""

    namespace: str
    name: str
    selector: dict[str, str]
    targets: tuple[int | str, ...]  # ports of containers, or their names
    place: str  # file:line


def service(data: Any, place: str) -> Service | None:
    """The Service of a document that nobody has checked; None if it sends nothing to pods, or also
    to those that are not ready."""
    spec, meta = _mapping(_mapping(data).get("spec")), _mapping(_mapping(data).get("metadata"))
    selector = {str(key): str(value) for key, value in _mapping(spec.get("selector")).items()}
    if (
        _mapping(data).get("kind") != "Service"
        or not selector
        or spec.get("type") == "ExternalName"
        or spec.get("publishNotReadyAddresses") is True
    ):
        return None
    ports = spec.get("ports")
    targets = []
    for port in ports if isinstance(ports, list) else ():
        target = _mapping(port).get("targetPort") or _mapping(port).get("port")
        if isinstance(target, (int, str)):
            targets.append(target)
    return Service(
        namespace=str(meta.get("namespace") or "default"),
        name=_shortened(str(meta.get("name") or "(unnamed)")),
        selector=selector,
        targets=tuple(targets),
        place=place,
    )


def _mapping(data: Any) -> dict[Any, Any]:
    return data if isinstance(data, dict) else {}


class Services:
    """Those of the same input, found by what they select."""

    def __init__(self, services: Iterable[Service] = ()) -> None:
        self._by_label: dict[tuple[str, str, str], list[Service]] = {}
        for each in services:
            label = next(iter(each.selector.items()))
            self._by_label.setdefault((each.namespace, *label), []).append(each)

    def selecting(self, pod: v1.Pod) -> Iterator[Service]:
        meta = pod.metadata
        for label in meta.labels.items():
            for each in self._by_label.get((meta.namespace or "default", *label), ()):
                if each.selector.items() <= meta.labels.items():
                    yield each


FindImage = Callable[[str], Image | None]  # what an image stands for


def _no_image(_: str) -> Image | None:
    return None


def check(
    pod: v1.Pod,
    services: Services | None = None,
    find_image: FindImage | None = None,
    ignored: Iterable[str] = (),
) -> Iterator[Advice]:
    """Everything that is to be said about a pod, but for the rules that are ignored."""
    silent = set(ignored)
    named = ignored_by(pod)
    silent.update(named)
    unknown = [name for name in named if name not in RULES]
    if unknown:
        yield _unknown_rule(_shortened(", ".join(unknown)))
    for advice in _check(pod, services or Services(), find_image or _no_image):
        if advice.rule not in silent:
            yield advice


def ignored_by(pod: v1.Pod) -> list[str]:
    """The rules that are not for this pod."""
    return [n for n in re.split(r"[\s,]+", pod.metadata.annotations.get(IGNORE, "")) if n]


def _unknown_rule(names: str) -> Advice:
    return Advice(
        rule="unknown-rule",
        path=("metadata", "annotations", Key(IGNORE)),
        text=f"there is no such rule: {names}",
        why="the rule that was meant is still there, and a mistake in its name hides that",
        arithmetic=(),
        fix="`podvisor lint --rules` lists the rules",
    )


def _check(pod: v1.Pod, services: Services, find_image: FindImage) -> Iterator[Advice]:
    spec = pod.spec
    ends = {container.name: stop for container, stop in bounds.stops(spec)}
    yield from _no_grace(spec)
    for place, containers in (
        ("initContainers", spec.init_containers),
        ("containers", spec.containers),
    ):
        for index, container in enumerate(containers):
            if place == "initContainers" and not v1.is_sidecar(container):
                continue  # it has neither probes nor hooks, and is not to stay
            here = _Here(
                spec,
                container,
                ("spec", place, index),
                find_image(container.image),
                ends[container.name],
            )
            for rule in _RULES_OF_CONTAINERS:
                for advice in rule(here):
                    yield replace(advice, container=container.name)
    yield from _no_readiness(pod, services)


class _Here(Struct, frozen=True):
    """A container that a rule looks at."""

    spec: v1.PodSpec
    container: v1.Container
    path: Path
    image: Image | None
    stop: bounds.Stop  # when the pod is deleted

    def probes(self) -> Iterator[tuple[ProbeKind, v1.Probe, Path]]:
        for kind in ProbeKind:
            probe = probe_of(self.container, kind)
            if probe is not None:
                yield kind, probe, (*self.path, f"{kind.lower()}Probe")

    def probe_path(self, kind: ProbeKind) -> Path:
        return (*self.path, f"{kind.lower()}Probe")

    @property
    def signal(self) -> str:
        return stop_signal(self.container, self.image.stop_signal if self.image else "")


# --- numbers -----------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """`30 s`, also of hours: what is compared with fields in seconds."""
    if math.isinf(seconds):
        return "forever"
    if seconds >= _LONG:
        return f"{seconds:.0e} s"
    return f"{int(seconds)} s" if seconds == int(seconds) else f"{seconds:.1f} s"


def _grace(spec: v1.PodSpec) -> str:
    return f"terminationGracePeriodSeconds {grace_of(spec)}"


def _sum(probe: v1.Probe) -> str:
    """How long it takes at most until a hang is noticed, computed."""
    count, period, timeout = probe.failure_threshold, probe.period_seconds, probe.timeout_seconds
    ticks = timeout // period + 1
    if ticks == 1:
        periods = f"failureThreshold {count} x periodSeconds {period}"
    else:
        periods = f"periodSeconds {period} x (1 + (failureThreshold {count} - 1) x {ticks})"
    return f"{periods} + timeoutSeconds {timeout} = {duration(bounds.unnoticed(probe).latest)}"


def _failure(probe: v1.Probe, begin: float, what: str) -> str:
    """The earliest failure of a probe whose first attempt is made then, computed."""
    count, period = probe.failure_threshold, probe.period_seconds
    return (
        f"{what}: first attempt at {duration(begin)} + (failureThreshold {count} - 1) x "
        f"periodSeconds {period} = {duration(begin + (count - 1) * period)}"
    )


# --- the end -----------------------------------------------------------------------------------


def _no_grace(spec: v1.PodSpec) -> Iterator[Advice]:
    asked = spec.termination_grace_period_seconds
    if asked is None or asked > 0:
        return
    grace = grace_of(spec)
    yield Advice(
        rule="no-grace",
        path=("spec", "terminationGracePeriodSeconds"),
        text=f"terminationGracePeriodSeconds {asked} does not mean what it says",
        why="a process has two seconds between its stop signal and SIGKILL in any case, so nothing "
        "gets faster; but a preStop is cut off, or not run at all when a probe kills",
        arithmetic=(
            f"deleted: grace max({grace}, {MINIMUM_GRACE}) s, SIGKILL {duration(AFTER_SIGNAL)} "
            "after the stop signal",
            f"killed by a probe: grace {grace} s, SIGKILL {duration(AFTER_SIGNAL)} after the stop "
            "signal",
        ),
        fix="write what the slowest container needs to finish its requests; "
        "`kubectl delete --now` is there for haste",
    )


def _shell_as_pid_1(here: _Here) -> Iterator[Advice]:
    container = here.container
    policy = container.restart_policy or here.spec.restart_policy
    run = words(container, here.image)
    shell = script.shell(run)
    if policy != "Always" or shell is None or not script.stays(shell):
        return
    commands = script.read(shell.script) or ()
    stop = here.stop
    alone = len(commands) == 1 and bool(commands[0].words)
    if alone:
        fix = f"write `exec` before the command: exec {_shortened(shell.script)}"
    elif any(c.nested or not c.words for c in commands) or commands[-1].words[0] == "exit":
        fix = (
            "write `exec` before the program that is to stay; a loop needs a trap, and a wait that "
            "can be interrupted: trap 'exit 0' TERM; while …; do …; sleep 5 & wait $!; done"
        )
    else:
        fix = "write `exec` before the last command, the program that is to stay"
    of_sh = (
        " (in Debian's and Ubuntu's images sh is dash, which does)" if shell.name == "sh" else ""
    )
    if here.spec.share_process_namespace:
        text = f"{shell.name} stays in front of its program and takes {here.signal} for it"
        why = (
            f"with shareProcessNamespace {shell.name} is not pid 1: {here.signal} ends it at once, "
            "and what it has started gets SIGKILL without ever having heard of the end"
        )
        arithmetic = (
            f"{here.signal} at {_between(stop.signal)} after the deletion, SIGKILL for the program "
            f"at once, though {duration(stop.grace)} of grace were there for it",
        )
    else:
        text = f"{shell.name} is pid 1 in front of its program, and {here.signal} ends there"
        why = (
            f"{shell.name} waits for the command that it has started{of_sh}; pid 1 gets no signal "
            "that it has no handler for, and nobody hands it on, so the program never hears of the "
            "end and is cut off in the middle of its work"
        )
        arithmetic = (
            f"{here.signal} at {_between(stop.signal)} after the deletion, taken by nobody; "
            f"SIGKILL at {_between(stop.kill)} ({_grace(here.spec)}), exit code 137, every time",
        )
    yield Advice(
        rule="shell-as-pid-1",
        path=_place_of_word(here, run, shell.index),
        text=text,
        why=why,
        arithmetic=arithmetic,
        fix=fix,
    )


def _place_of_word(here: _Here, run: tuple[str, ...], index: int) -> Path:
    container = here.container
    first_arg = len(run) - len(container.args)
    if index < len(container.command):
        return (*here.path, "command", index)
    if index >= first_arg:
        return (*here.path, "args", index - first_arg)
    return (*here.path, "image")  # its words are those of podvisor.toml


def _between(span: bounds.Span) -> str:
    if span.earliest == span.latest:
        return duration(span.latest)
    return f"{duration(span.earliest)} to {duration(span.latest)}"


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 80 else f"{line[:80]}…"


def _pre_stop_uses_grace(here: _Here) -> Iterator[Advice]:
    handler = handler_of(here.container, HookKind.PRE_STOP)
    if handler is None:
        return
    if handler.sleep is not None:
        slept, where = float(handler.sleep.seconds), ("sleep", "seconds")
    elif handler.exec is not None:
        slept, where = script.least_sleep(handler.exec.command), ("exec", "command")
    else:
        return
    hook = (*here.path, "lifecycle", "preStop", *where)
    graces = [(max(MINIMUM_GRACE, grace_of(here.spec)), _grace(here.spec), hook, "the pod's")]
    graces += [
        (
            probe.termination_grace_period_seconds,
            f"terminationGracePeriodSeconds {probe.termination_grace_period_seconds}",
            (*path, "terminationGracePeriodSeconds"),
            f"the {kind.lower()}Probe's",
        )
        for kind, probe, path in here.probes()
        if probe.termination_grace_period_seconds is not None
    ]
    for grace, name, path, whose in graces:
        rest = grace - slept
        if slept == 0 or rest >= AFTER_SIGNAL:
            continue
        end = min(slept, grace)
        yield Advice(
            rule="prestop-uses-grace",
            path=path,
            text=f"preStop sleeps {duration(slept)}, and {whose} grace is {duration(grace)}",
            why="preStop and the stop signal share one grace period, and the stop signal comes "
            "after preStop: the program gets no time to finish, only the two seconds that "
            "every process has before SIGKILL",
            arithmetic=(
                f"{name} - preStop {duration(slept)}: {duration(max(0.0, rest))} are left for "
                f"{here.signal}; it is sent at {duration(end)}, SIGKILL follows at "
                f"{duration(end + AFTER_SIGNAL)}",
            ),
            fix="make terminationGracePeriodSeconds the sum of the sleep and of what the program "
            f"needs, such as {int(slept) + 30}"
            if slept < _LONG
            else "end the sleep: preStop is not the place to wait for the end",
        )


_TO_NAMED_PROCESSES = frozenset(("pkill", "killall"))
_WAITING = frozenset(("sleep", "wait", "tail", "pidwait", "pgrep"))
_NO_SIGNAL = frozenset(("-0", "-l", "-L", "-s0"))
_STOPPING = re.compile(r"nginx .*-s (quit|stop)|(apachectl|apache2ctl|httpd) .*(graceful-)?stop")


def _hook_signals_pid_1(here: _Here) -> Iterator[Advice]:
    handler = handler_of(here.container, HookKind.PRE_STOP)
    if handler is None or handler.exec is None:
        return
    commands = script.commands_of(handler.exec.command)
    signalling = [i for i, command in enumerate(commands) if _signals(command.words)]
    if not signalling:
        return
    last = signalling[-1]
    if any(_waits(command.words) for command in commands[last + 1 :]):
        return
    said = _shortened(" ".join(commands[last].words))
    stop = here.stop
    begin = min(script.least_sleep(handler.exec.command), stop.grace)
    # Images of nginx and of others ask for the gentle signal themselves.
    named = here.image is not None or not here.container.image
    known = named or (here.container.lifecycle or v1.Lifecycle()).stop_signal is not None
    perhaps = "" if known else " (unless the image asks for another)"
    yield Advice(
        rule="hook-signals-pid-1",
        path=(*here.path, "lifecycle", "preStop", "exec", "command"),
        text=f"preStop runs `{said}` and returns, so {here.signal} follows at once",
        why="a program that has just begun to end gently on the hook's signal gets the stop signal "
        "in addition, which ends many of them the hard way (nginx: SIGQUIT finishes requests, "
        "SIGTERM cuts them)",
        arithmetic=(
            f"hook's signal at {duration(begin)}, {here.signal} as soon as the hook has returned"
            f"{perhaps}, SIGKILL at {duration(max(stop.grace, begin + AFTER_SIGNAL))} "
            f"({_grace(here.spec)})",
        ),
        fix="let the stop signal be the right one (`lifecycle.stopSignal: SIGQUIT`, with "
        "`spec.os.name: linux`) and drop the hook, or wait in it until the program has ended",
    )


def _signals(run: tuple[str, ...]) -> bool:
    name, rest = script.program(run), run[1:]
    if not _NO_SIGNAL.isdisjoint(rest) or rest[:2] == ("-s", "0"):
        return False
    if name == "kill":
        return any(w == "1" or w.startswith(("$(cat ", "$(pidof ", "`cat ")) for w in rest[-1:])
    return name in _TO_NAMED_PROCESSES or bool(_STOPPING.match(" ".join((name, *rest))))


def _waits(run: tuple[str, ...]) -> bool:
    name = script.program(run)
    return name in _WAITING or (name == "kill" and "-0" in run)


def _hook_always_fails(here: _Here) -> Iterator[Advice]:
    for which, name in ((HookKind.POST_START, "postStart"), (HookKind.PRE_STOP, "preStop")):
        handler = handler_of(here.container, which)
        if handler is None or handler.tcp_socket is None:
            continue
        outcome = (
            "the container is killed when it has just started, and begins again, for ever"
            if which is HookKind.POST_START
            else "the event FailedPreStopHook, and the stop signal at once"
        )
        yield Advice(
            rule="hook-always-fails",
            path=(*here.path, "lifecycle", name, "tcpSocket"),
            text=f"{name} by tcpSocket fails every time",
            why="the API still takes the field, but no kubelet has a handler for it",
            arithmetic=(outcome,),
            fix="use exec, httpGet or sleep",
        )


# --- probes ------------------------------------------------------------------------------------


def _liveness_before_startup(here: _Here) -> Iterator[Advice]:
    container = here.container
    liveness, readiness = container.liveness_probe, container.readiness_probe
    start = bounds.start(container)
    if liveness is None or container.startup_probe is not None or start.liveness_fails is None:
        return
    kill = start.liveness_fails.earliest
    begin = kill - (liveness.failure_threshold - 1) * liveness.period_seconds
    expected = 0
    if readiness is not None and _handler(readiness) == _handler(liveness):
        expected = readiness.initial_delay_seconds
    if kill >= max(SOON, expected):
        return
    arithmetic = [_failure(liveness, begin, "liveness kills")]
    if expected > kill:
        arithmetic.append(
            f"readiness does not even ask the same before {duration(expected)} "
            f"(initialDelaySeconds {expected}), so the manifest itself expects a start of that "
            "length"
        )
    count = max(30, math.ceil(max(expected, 60) / liveness.period_seconds) + 1)
    budget = (count - 1) * liveness.period_seconds
    yield Advice(
        rule="liveness-before-startup",
        path=here.probe_path(ProbeKind.LIVENESS),
        text=f"liveness kills a start that takes longer than {duration(kill)}",
        why="nothing holds liveness back while the program starts: on a busy machine a start that "
        "takes a little longer is killed, the next one is no faster, and the pod never runs",
        arithmetic=tuple(arithmetic),
        fix="add a startupProbe with the same handler, which holds liveness back until it has "
        f"succeeded: periodSeconds {liveness.period_seconds}, failureThreshold {count} allow "
        f"{duration(budget)}",
    )


def _startup_budget(here: _Here) -> Iterator[Advice]:
    container = here.container
    startup, start = container.startup_probe, bounds.start(here.container)
    if startup is None or start.startup_fails is None:
        return
    kill = start.startup_fails.earliest
    begin = kill - (startup.failure_threshold - 1) * startup.period_seconds
    delays = [
        (probe.initial_delay_seconds, f"{kind.lower()}Probe")
        for kind, probe, _ in here.probes()
        if kind is not ProbeKind.STARTUP and _handler(probe) == _handler(startup)
    ]
    expected, whose = max(delays, default=(0, ""))
    if kill >= max(SOON, expected):
        return
    arithmetic = [_failure(startup, begin, "startup fails, and kills")]
    if expected > kill:
        arithmetic.append(
            f"{whose} asks the same, and not before {duration(expected)} (initialDelaySeconds "
            f"{expected}), so the manifest itself expects a start of that length"
        )
    count = math.ceil((max(expected, 60) - begin) / startup.period_seconds) + 1
    yield Advice(
        rule="startup-budget",
        path=here.probe_path(ProbeKind.STARTUP),
        text=f"startup kills a start that takes longer than {duration(kill)}",
        why="a startupProbe is there to give a slow start its time; this one gives less than "
        "the start may take, and every restart fails in the same way",
        arithmetic=tuple(arithmetic),
        fix=f"failureThreshold {count} allows "
        f"{duration(begin + (count - 1) * startup.period_seconds)}",
    )


def _liveness_equals_readiness(here: _Here) -> Iterator[Advice]:
    liveness, readiness = here.container.liveness_probe, here.container.readiness_probe
    if liveness is None or readiness is None or _handler(liveness) != _handler(readiness):
        return
    unready, killed = bounds.unnoticed(readiness), bounds.unnoticed(liveness)
    if unready.latest < killed.latest:
        return
    count = 3 * max(liveness.failure_threshold, readiness.failure_threshold)
    yield Advice(
        rule="liveness-equals-readiness",
        path=here.probe_path(ProbeKind.LIVENESS),
        text="liveness asks the same as readiness, and is no more patient",
        why="what is only busy, or waits for a database, should get no requests for a while; here "
        "it is killed instead, together with all that is going on in it, and its neighbours get "
        "its load and are next",
        arithmetic=(
            f"readiness takes what hangs out of the endpoints within {_sum(readiness)}",
            f"liveness kills it within {_sum(liveness)}",
        ),
        fix="let liveness ask something that fails only when a restart helps, or make it more "
        f"patient: failureThreshold {count}",
    )


def _handler(probe: v1.Probe) -> tuple[object, ...]:
    return probe.exec, probe.http_get, probe.tcp_socket, probe.grpc


def _timeout_above_period(here: _Here) -> Iterator[Advice]:
    for _, probe, path in here.probes():
        period, timeout, count = (
            probe.period_seconds,
            probe.timeout_seconds,
            probe.failure_threshold,
        )
        if timeout <= period:
            continue
        yield Advice(
            rule="timeout-above-period",
            path=(*path, "timeoutSeconds"),
            text=f"timeoutSeconds {timeout} is above periodSeconds {period}",
            why="there is never more than one attempt at a time, and ticks that pass during one "
            "are dropped: when it matters, because nothing answers, the period is not kept",
            arithmetic=(
                f"meant: what hangs is noticed within {count} x {period} + {timeout} = "
                f"{duration(count * period + timeout)}",
                f"in truth within {_sum(probe)}: attempts that time out are "
                f"{duration((timeout // period + 1) * period)} apart",
            ),
            fix=f"timeoutSeconds {period} or less, or periodSeconds {timeout} or more",
        )


def _probe_port_unknown(here: _Here) -> Iterator[Advice]:
    names = {port.name for port in here.container.ports if port.name}
    for kind, probe, path in here.probes():
        for action, field in ((probe.http_get, "httpGet"), (probe.tcp_socket, "tcpSocket")):
            port = action.port if action is not None else None
            if not isinstance(port, str) or port in names:
                continue
            outcome = {
                ProbeKind.STARTUP: "startup never succeeds and never fails: the container never "
                "counts as started, and is never killed for it",
                ProbeKind.LIVENESS: "liveness never fails: what hangs is never killed",
                ProbeKind.READINESS: "readiness never succeeds: the pod never gets a request",
            }[kind]
            yield Advice(
                rule="probe-port-unknown",
                path=(*path, field, "port"),
                text=f'no port of the container is named "{port}"',
                why="such an attempt cannot be made; it is an error, not a failure, and errors "
                "count for nothing",
                arithmetic=(outcome,),
                fix=f"name one of its ports {port}"
                + (f", or use {', '.join(sorted(names))}" if names else ", or use the number"),
            )


# --- what exec probes cost -----------------------------------------------------------------------

_INTERPRETER = re.compile(r"(python|ruby|perl|php|lua)[0-9.]*|node|nodejs|java|pwsh", re.ASCII)
_SHELLS = frozenset(("sh", "bash", "dash", "ash", "zsh", "ksh", "mksh"))
_FREE = frozenset(
    ("[", "test", "exit", "echo", "true", "false", ":", "cd", "kill", "set", "export")
)
_LOCAL = frozenset(("localhost", "127.0.0.1", "::1"))


def _exec_probe_cost(here: _Here) -> Iterator[Advice]:
    for kind, probe, path in here.probes():
        if probe.exec is None:
            continue
        run = probe.exec.command
        instead = _instead(run)
        name = script.program(run)
        heavy = name in _SHELLS or _INTERPRETER.fullmatch(name) is not None
        if instead is None and not (heavy and probe.period_seconds <= OFTEN):
            continue
        programs = [c for c in script.commands_of(run) if script.program(c.words) not in _FREE]
        each = (1 if script.shell(run) is not None else 0) + len(programs)
        each = max(1, each)
        hourly = each * 3600 // probe.period_seconds
        if instead is not None:
            fix = (
                f"{instead}: then no process is started (it is sent to the pod's address, so the "
                "program must not listen on localhost alone)"
            )
            why = (
                f"{name} is started anew for each attempt to do what the kubelet does by itself, "
                "takes its processor time from the program that it checks, and fails when the "
                "machine is busy"
            )
        else:
            fix = (
                "ask the program itself (httpGet, tcpSocket, grpc), check with one small program "
                "and no shell, or make periodSeconds 10"
            )
            why = (
                f"{name} is started anew for each attempt; that takes more than what is checked, "
                "comes from the processor time of the program, and fails when the machine is busy"
            )
        yield Advice(
            rule="exec-probe-cost",
            path=(*path, "exec", "command"),
            text=f"{kind.lower()} starts {name} every {duration(probe.period_seconds)}",
            why=why,
            arithmetic=(
                f"3600 s / periodSeconds {probe.period_seconds} x {each} "
                f"{'program' if each == 1 else 'programs'} at most = "
                f"{hourly} processes an hour, for each replica",
            ),
            fix=fix,
        )


def _instead(run: tuple[str, ...]) -> str | None:
    """The handler that does the same as these words, if there is one for sure."""
    commands = script.commands_of(run)
    if len(commands) == 2 and commands[1].words == ("exit", "1") and commands[1].before == "||":
        commands = commands[:1]
    if len(commands) != 1 or commands[0].nested or "$" in " ".join(commands[0].words):
        return None
    name, rest = script.program(commands[0].words), commands[0].words[1:]
    match name:
        case "curl":
            return _http(_operands(rest, _CURL))
        case "wget":
            return _http(_operands(rest, _WGET))
        case "nc" | "ncat" | "netcat":
            operands = _operands(rest, _NC)
            if operands is not None and len(operands) == 2 and operands[0] in _LOCAL:
                return f"tcpSocket: {{port: {operands[1]}}}" if operands[1].isdecimal() else None
        case "grpc_health_probe" | "grpc-health-probe":
            address = " ".join(rest).replace("=", " ").split()
            if len(address) == 2 and address[0].lstrip("-") == "addr":
                host, _, port = address[1].rpartition(":")
                if port.isdecimal() and (not host or host in _LOCAL):
                    return f"grpc: {{port: {port}}}"
    return None


class _Options(Struct, frozen=True):
    """The options of a client that make no difference to what is checked."""

    flags: frozenset[str]  # letters
    valued: frozenset[str]  # letters that a value follows
    long: frozenset[str]
    long_valued: frozenset[str]


def _options(flags: str, valued: str, long: str = "", long_valued: str = "") -> _Options:
    return _Options(
        frozenset(flags), frozenset(valued), frozenset(long.split()), frozenset(long_valued.split())
    )


_CURL = _options(
    "fsSkL",
    "om",
    "--fail --silent --show-error --insecure --location",
    "--output --max-time --connect-timeout",
)
_WGET = _options(
    "q",
    "OTt",
    "--quiet --spider --no-verbose --no-check-certificate",
    "--output-document --timeout --tries",
)
_NC = _options("zv", "w")


def _operands(rest: tuple[str, ...], options: _Options) -> list[str] | None:
    """The words that are no options; None if one of the options may matter."""
    operands: list[str] = []
    at = 0
    while at < len(rest):
        word = rest[at]
        at += 1
        if word.startswith("--"):
            name, equals, _ = word.partition("=")
            if name in options.long_valued:
                at += not equals
            elif name not in options.long:
                return None
        elif word.startswith("-") and word != "-":
            for place, letter in enumerate(word[1:], 2):
                if letter in options.valued:
                    at += place == len(word)  # else the value is the rest of the word
                    break
                if letter not in options.flags:
                    return None
        else:
            operands.append(word)
    return operands


def _http(operands: list[str] | None) -> str | None:
    if operands is None or len(operands) != 1:
        return None
    url = operands[0] if "://" in operands[0] else f"http://{operands[0]}"
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None
    if parts.hostname not in _LOCAL or port is None or parts.username is not None:
        return None
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    scheme = ", scheme: HTTPS" if parts.scheme == "https" else ""
    return f"httpGet: {{path: {path}, port: {port}{scheme}}}"


# --- Services ------------------------------------------------------------------------------------


def _no_readiness(pod: v1.Pod, services: Services) -> Iterator[Advice]:
    spec = pod.spec
    if spec.readiness_gates:
        return
    stay = [c for c in spec.init_containers if v1.is_sidecar(c)]
    untold = {i for i, c in enumerate(spec.containers) if c.readiness_probe is None}
    for service in services.selecting(pod):
        if not untold:
            return
        if any(_has_port(c, service.targets) for c in stay):
            continue
        serving = [i for i, c in enumerate(spec.containers) if _has_port(c, service.targets)]
        if not serving:
            # A port that the pod does not name is not sent to; a number need not be declared.
            numbered = any(isinstance(target, int) for target in service.targets)
            if not numbered or any(c.readiness_probe for c in (*stay, *spec.containers)):
                continue
            serving = [0]
        for index in serving:
            container = spec.containers[index]
            if index not in untold:
                continue
            untold.discard(index)
            since = (
                "as soon as its startupProbe has succeeded"
                if container.startup_probe is not None
                else "from the moment when its process exists"
            )
            yield Advice(
                rule="no-readiness-behind-service",
                path=("spec", "containers", index, "name"),
                container=container.name,
                text=f"Service {service.name} ({service.place}) sends requests to a container "
                "without readinessProbe",
                why=f"it counts as ready {since} until its end, so requests come before it "
                "listens, while it hangs, and in every rollout",
                arithmetic=_unready_arithmetic(container),
                fix="add a readinessProbe that asks what a request needs, such as httpGet with "
                "periodSeconds 5",
            )


def _unready_arithmetic(container: v1.Container) -> tuple[str, ...]:
    lines = ["a process that hangs stays in the endpoints: without limit"]
    if container.liveness_probe is not None:
        late = bounds.unnoticed(container.liveness_probe).latest
        lines = [
            f"a process that hangs stays in the endpoints until it is killed: {duration(late)}"
        ]
    return tuple(lines)


def _has_port(container: v1.Container, targets: tuple[int | str, ...]) -> bool:
    return any(
        port.container_port in targets or (port.name and port.name in targets)
        for port in container.ports
    )


_RULES_OF_CONTAINERS: tuple[Callable[[_Here], Iterator[Advice]], ...] = (
    _shell_as_pid_1,
    _pre_stop_uses_grace,
    _hook_signals_pid_1,
    _hook_always_fails,
    _liveness_before_startup,
    _startup_budget,
    _liveness_equals_readiness,
    _timeout_above_period,
    _probe_port_unknown,
    _exec_probe_cost,
)
