"""`podvisor lint`: what manifests get wrong about the lifecycle, and what their numbers add up to.

First what is wrong, as compilers say it, each with its reason, its arithmetic and its remedy; then
a table for each container: between which moments its probes decide, how long a hang goes unnoticed,
how its end goes. Nothing is started, and no image has to stand for anything here.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import Struct

from supervisor.cli import options
from supervisor.errors import ExitCode, ManifestError, UsageError

if TYPE_CHECKING:
    from supervisor import lint
    from supervisor.api import v1
    from supervisor.lifecycle.bounds import Span
    from supervisor.project.manifests import Loaded, LoadedPod
    from supervisor.runtime.images import Image, Images

NO_ARGS_IS_HELP = True

_NOTE = """\
startup, liveness and readiness: all attempts succeed, or all fail; attempts that cannot be made
are errors and count for nothing. A hang begins in a container that was fine. SIGKILL comes only to
what has not ended before. A kubelet begins to probe up to a period later than podvisor.
"""


class Output(enum.StrEnum):
    JSON = "json"


class Finding(Struct, frozen=True, rename="camel"):
    """One mistake; `-o json` prints these."""

    rule: str
    severity: str
    file: str
    line: int
    column: int
    path: str
    namespace: str
    pod: str
    container: str
    message: str
    why: str
    arithmetic: tuple[str, ...]
    fix: str

    def lines(self) -> Iterator[str]:
        place = f"{self.file}:{self.line}:{self.column}"
        whose = f"container {self.container}: " if self.container else ""
        yield f"{place}: {self.severity}[{self.rule}]: {whose}{self.message}"
        yield f"    why: {self.why}"
        for line in self.arithmetic:
            yield f"    arithmetic: {line}"
        yield f"    fix: {self.fix}"


class Moment(Struct, frozen=True, rename="camel"):
    """What can happen to a container, and when; seconds, none where there is no limit."""

    what: str
    counted_from: str
    earliest: float | None
    latest: float | None
    latest_in_cluster: float | None
    note: str = ""  # where nothing ever happens

    def row(self) -> tuple[str, ...]:
        from supervisor import lint

        if self.note:
            return (self.what, self.counted_from, "-", self.note, "")
        cells = (self.earliest, self.latest, self.latest_in_cluster)
        return (
            self.what,
            self.counted_from,
            *("-" if each is None else lint.duration(each) for each in cells),
        )


class Timing(Struct, frozen=True, rename="camel"):
    """The moments of one container."""

    namespace: str
    pod: str
    container: str
    moments: tuple[Moment, ...]


class Shutdown(Struct, frozen=True, rename="camel"):
    """How long the end of a pod can take when it is deleted."""

    namespace: str
    pod: str
    grace: int
    latest: float


class Report(Struct, frozen=True, rename="camel"):
    findings: tuple[Finding, ...]
    pods: tuple[Shutdown, ...]
    containers: tuple[Timing, ...]


def command(
    files: Annotated[
        list[str] | None, typer.Argument(metavar="FILE|DIR|-...", help="Manifests, YAML or JSON.")
    ] = None,
    maps: options.Map = None,
    ignore: Annotated[
        list[str] | None, typer.Option("--ignore", metavar="RULE", help="Leave a rule out.")
    ] = None,
    rules: Annotated[bool, typer.Option("--rules", help="List the rules, and end.")] = False,
    output: Annotated[
        Output | None, typer.Option("--output", "-o", help="Print everything as JSON.")
    ] = None,
) -> None:
    """Say what manifests get wrong about starts, probes and shutdowns.

    Each finding has its reason, the arithmetic with the manifest's own numbers, and what to write
    instead. A table for each container follows: the earliest and the latest second at which its
    probes can decide, how long a hang goes unnoticed, and how long its end can take. Services in
    the same input are looked at for what they select.

    Exit code 1 when something was found, 3 when a manifest is refused. The annotation
    podvisor/lint-ignore of a pod (or pod template) names rules that are not for it.

    Examples:

      podvisor lint deploy/

      helm template . | podvisor lint - --ignore exec-probe-cost -o json
    """
    import msgspec

    from supervisor import lint
    from supervisor.cli import complain
    from supervisor.project import manifests

    if rules:
        width = max(map(len, lint.RULES))
        for name, rule in lint.RULES.items():
            print(f"{name.ljust(width)}  {rule.severity.ljust(7)}  {rule.line}")
        return
    if not files:
        raise UsageError("cannot lint: no manifest is named")
    for name in ignore or ():
        if name not in lint.RULES:
            raise UsageError(f"cannot ignore {name!r}: no such rule; --rules lists them")
    # Nothing is run, so it makes no difference who asks and what images stand for here.
    loaded = manifests.load(
        files,
        ids=manifests.Ids(0, 0, ()),
        maps=manifests.parse_maps(maps),
        without_programs=True,
    )
    if manifests.refused(loaded.problems):
        for problem in loaded.problems:
            complain(str(problem))
        raise ManifestError(manifests.summary(loaded.problems, "nothing was looked at"))
    report = Report(
        tuple(_findings(loaded, ignore or [])),
        tuple(_shutdown(home.pod) for home in loaded.pods),
        tuple(timing for home in loaded.pods for timing in _timings(home.pod)),
    )
    if output is not None:
        print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        _print(report)
    if report.findings:
        raise typer.Exit(int(ExitCode.NEGATIVE))


def _findings(loaded: Loaded, ignore: list[str]) -> Iterator[Finding]:
    from supervisor import lint

    services = lint.Services(_services(loaded))
    for home in loaded.pods:
        images = home.project.images

        def find(reference: str, images: Images = images) -> Image | None:
            found = images.find(reference)
            return found.image if found is not None else None

        advice = lint.check(home.pod, services, find, ignore)
        yield from sorted(
            (_placed(home, each) for each in advice), key=lambda f: (f.line, f.column)
        )


def _services(loaded: Loaded) -> Iterator[lint.Service]:
    from supervisor import lint

    for document in loaded.others:
        line, _ = document.locate(("metadata", "name"))
        service = lint.service(document.data, f"{document.source}:{line}")
        if service is not None:
            yield service


def _placed(home: LoadedPod, advice: lint.Advice) -> Finding:
    from supervisor import lint
    from supervisor.api import workloads
    from supervisor.api.problems import said

    assert home.document is not None
    severity = lint.RULES[advice.rule].severity
    about = workloads.placed(said(advice.path, "", severity), home.document.data)
    problem = home.document.problem(about)
    return Finding(
        rule=advice.rule,
        severity=severity,
        file=home.source,
        line=problem.line,
        column=problem.col,
        path=problem.path,
        namespace=home.pod.metadata.namespace,
        pod=home.pod.metadata.name,
        container=advice.container,
        message=advice.text,
        why=advice.why,
        arithmetic=advice.arithmetic,
        fix=advice.fix,
    )


# --- the tables ----------------------------------------------------------------------------------


def _timings(pod: v1.Pod) -> Iterator[Timing]:
    from supervisor.lifecycle import bounds

    for container, stop in bounds.stops(pod.spec):
        moments = (
            *_start(container),
            *_hang(pod.spec, container),
            _moment("stop signal", "deletion", stop.signal, stop.signal),
            _moment("SIGKILL", "deletion", stop.kill, stop.kill),
        )
        yield Timing(pod.metadata.namespace, pod.metadata.name, container.name, moments)


def _shutdown(pod: v1.Pod) -> Shutdown:
    from supervisor.lifecycle import bounds

    ends = [stop for _, stop in bounds.stops(pod.spec)]
    latest = max(stop.kill.latest for stop in ends)
    return Shutdown(pod.metadata.namespace, pod.metadata.name, ends[0].grace, latest)


def _start(container: v1.Container) -> Iterator[Moment]:
    from supervisor.lifecycle import bounds

    here, there = bounds.start(container), bounds.start(container, cluster=True)
    since = "postStart" if here.from_hook else "start"
    if here.startup_fails is not None and there.startup_fails is not None:
        yield _moment("startup succeeds", since, here.started, there.started)
        yield _moment("startup fails, stop", since, here.startup_fails, there.startup_fails)
    if here.liveness_fails is not None and there.liveness_fails is not None:
        yield _moment("liveness fails, stop", since, here.liveness_fails, there.liveness_fails)
    yield _moment("ready", since, here.ready, there.ready)


def _hang(spec: v1.PodSpec, container: v1.Container) -> Iterator[Moment]:
    from supervisor.lifecycle import bounds

    readiness, liveness = container.readiness_probe, container.liveness_probe
    if readiness is None:
        yield _never("out of the endpoints", "no readinessProbe")
    else:
        span = bounds.unnoticed(readiness)
        yield _moment("out of the endpoints", "hang", span, span)
    if liveness is None:
        yield _never("killed by liveness", "no livenessProbe")
        return
    span = bounds.unnoticed(liveness)
    stop = bounds.stop_by(spec, container, liveness)
    yield _moment("liveness fails, stop", "hang", span, span)
    over = bounds.Span(span.earliest + stop.kill.earliest, span.latest + stop.kill.latest)
    yield _moment("SIGKILL", "hang", over, over)


def _moment(what: str, counted_from: str, here: Span, there: Span) -> Moment:
    return Moment(
        what, counted_from, _finite(here.earliest), _finite(here.latest), _finite(there.latest)
    )


def _never(what: str, because: str) -> Moment:
    return Moment(what, "hang", None, None, None, f"never: {because}")


def _finite(seconds: float) -> float | None:
    return None if math.isinf(seconds) else seconds


def _print(report: Report) -> None:
    from supervisor import lint, narration
    from supervisor.api.problems import printable

    for finding in report.findings:
        for line in finding.lines():
            print(printable(line))
    head = ("WHAT", "COUNTED FROM", "EARLIEST", "LATEST", "LATEST IN A CLUSTER")
    for timing in report.containers:
        print(f"\n{timing.namespace}/{timing.pod}, container {timing.container}")
        rows = [head, *(moment.row() for moment in timing.moments)]
        for row in narration.table(rows).splitlines():
            print(f"  {row}")
    if report.containers:
        print(f"\n{_NOTE}")
    for pod in report.pods:
        took = lint.duration(pod.latest)
        print(f"{pod.namespace}/{pod.pod}: a shutdown takes up to {took} (grace {pod.grace} s)")
    errors = sum(finding.severity == "error" for finding in report.findings)
    warnings = len(report.findings) - errors
    counts = [
        f"{count} {word}{'' if count == 1 else 's'}"
        for count, word in ((errors, "error"), (warnings, "warning"))
        if count
    ]
    pods = len(report.pods)
    print(f"{', '.join(counts) or 'nothing found'} in {pods} pod{'' if pods == 1 else 's'}")
