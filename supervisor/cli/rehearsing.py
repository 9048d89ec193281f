"""The session behind `podvisor rehearse`: pods on an embedded node, deleted under load, judged.

The report goes to stdout, what goes on to stderr. The first signal that asks for our end has the
pods stopped gracefully, the next one kills them; either way nothing is left, and the exit code is
that of the signal.
"""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import sys
from typing import Any

import anyio
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from supervisor.cli import complain
from supervisor.cli.foreground import checked
from supervisor.cli.signals import ENDING, SignalWatch
from supervisor.embed import PodHandle, Supervisor, Termination
from supervisor.errors import ExitCode, PodError, PodTimeout, UsageError
from supervisor.lifecycle import reasons, timeline
from supervisor.lifecycle.timeline import Moment
from supervisor.project import manifests
from supervisor.runtime.cri import Isolation
from supervisor.runtime.spec import signal_number
from supervisor.testing import shutdown, traffic

_WARM_UP = 1.0  # seconds of load before the deletion
_GROUP = (
    "isolation mode group: mains are not pid 1 here, so a missing handler of the stop signal does "
    "not show; `podvisor doctor` says why"
)
_BASELINE = 10.0  # seconds in which a first request must be answered


class Options(Struct, frozen=True, kw_only=True):
    """What the command line said."""

    file: str
    pods: tuple[str, ...] = ()
    grace_period: int | None = None
    endpoint_lag: float
    rate: float
    concurrency: int
    path: str
    port: int | None = None
    timeout: float
    maps: manifests.Maps = ()
    pass_env: tuple[str, ...] = ()
    isolation: str
    output: str | None = None


class Rehearsal(Struct, frozen=True, kw_only=True):
    """What came of one pod."""

    pod: PodHandle
    problems: tuple[str, ...]  # none: all is well
    notes: tuple[str, ...] = ()
    load: traffic.LoadReport | None = None  # None: it serves no HTTP
    shutdown: shutdown.Shutdown | None = None  # None: it never came to it
    story: str = ""  # why not


def run(options: Options) -> int:
    """Rehearse; return the exit code. Raises ManifestError, NodeError and UsageError."""
    gc.freeze()  # the modules are here to stay
    gc.enable()
    # What is wrong with manifests is said here; of an embedded node only its errors are news.
    logging.getLogger("podvisor").setLevel(logging.ERROR)
    with SignalWatch() as watch:
        traffic.check_path(options.path)
        text = sys.stdin.buffer.read() if options.file == "-" else b""
        loaded = manifests.load([options.file], io.BytesIO(text), maps=options.maps)
        missing = manifests.unconfigured(loaded.pods, loaded.configuration())
        loaded = checked(replace(loaded, problems=(*loaded.problems, *missing)))
        names = [home.pod.metadata.name for home in loaded.pods]
        for name in options.pods:
            if name not in names:
                raise UsageError(f"cannot rehearse pod {name!r}: there is {', '.join(names)}")
        source = text.decode(errors="surrogateescape") + "\n" if text else options.file
        watch.hold()
        return anyio.run(
            _interruptible,
            watch,
            _Session(source, options),
            backend="asyncio",
            backend_options={"use_uvloop": True},
        )


async def _interruptible(watch: SignalWatch, session: _Session) -> int:
    work = asyncio.ensure_future(session.run())
    ended: list[ExitCode] = []

    async def take_signals() -> None:
        while True:
            await anyio.wait_readable(watch.fd)
            for received in watch.take():
                complain("stopping; once more kills" if not ended else "killing")
                ended.append(ENDING[received])
                work.cancel()

    taking = asyncio.ensure_future(take_signals())
    try:
        await asyncio.wait((work,))
    finally:
        taking.cancel()
        await asyncio.wait((taking,))
    if ended:
        return ended[0]
    return work.result()


class _Session:
    """One rehearsal of everything that was asked for."""

    def __init__(self, source: str, options: Options) -> None:
        self._source, self._options = source, options
        self._several = False

    async def run(self) -> int:
        options = self._options
        done: list[Rehearsal] = []
        async with Supervisor(
            isolation=options.isolation,
            pass_env=options.pass_env,
            images=dict(options.maps),
            grace_period=options.grace_period,
        ) as node:
            pods = await node.apply(self._source)
            self._several = len(pods) > 1
            wanted = [pod for pod in pods if not options.pods or pod.name in options.pods]
            for pod in pods:
                self._say(pod, "started")
            for pod in wanted:
                done.append(await self._rehearse(pod))
                if options.output is None:
                    print(_text(done[-1]), flush=True)
        if options.output is not None:
            print(json.dumps(_data(done), indent=2))
        return ExitCode.NEGATIVE if any(each.problems for each in done) else ExitCode.OK

    def _say(self, pod: PodHandle, text: str) -> None:
        complain(f"{pod.name} * {text}")

    async def _rehearse(self, pod: PodHandle) -> Rehearsal:
        options = self._options
        try:
            await pod.wait_ready(options.timeout)
        except PodError as error:
            return _unready(pod, str(error))
        notes = [_GROUP] if pod.isolation is Isolation.GROUP else []
        target = await self._target(pod, notes)
        if target is None:
            self._say(pod, "ready")
            # Without a probe it is ready before its program has come as far as to take signals.
            try:
                await pod.wait(_WARM_UP)
            except PodTimeout:
                pass  # it runs, as it should
            except PodError as error:
                return _unready(pod, str(error))
            else:
                return _unready(pod)
            self._say(pod, "deleting it")
            return await self._end(pod, notes)
        self._say(pod, f"ready; {options.rate:g} requests a second on {target}")
        async with traffic.load(
            pod,
            port=target.port,
            path=options.path,
            rate=options.rate,
            concurrency=options.concurrency,
            endpoint_lag=options.endpoint_lag,
        ) as load:
            problems = []
            try:
                await load.answered(1, _BASELINE)
                await anyio.sleep(_WARM_UP)
            except TimeoutError:
                problems.append(f"no request was answered in {_BASELINE:g} s")
            self._say(pod, "deleting it under load")
            rehearsal = await self._end(pod, notes)
        report = load.report
        if not report.ok:
            problems += report.verdict.splitlines()
        return replace(rehearsal, problems=(*problems, *rehearsal.problems), load=report)

    async def _target(self, pod: PodHandle, notes: list[str]) -> traffic.Target | None:
        """Where the pod answers HTTP, if it does."""
        target = traffic.http_target(pod.pod, self._options.port, self._options.path)
        if target is None:
            notes.append("it declares no port, so no request was made")
            return None
        if not await traffic.answers_http(target):
            notes.append(f"port {target.port} does not answer HTTP, so no request was made")
            return None
        return target

    async def _end(self, pod: PodHandle, notes: list[str]) -> Rehearsal:
        observed = await shutdown.observe_shutdown(pod, self._options.grace_period)
        within = pod.pod.metadata.deletion_grace_period_seconds
        problems = shutdown.judge(observed, exit_code=_exit_codes(observed), within=within)
        return Rehearsal(pod=pod, problems=tuple(problems), notes=tuple(notes), shutdown=observed)


def _unready(pod: PodHandle, story: str = "") -> Rehearsal:
    if pod.phase == reasons.SUCCEEDED:
        note = "it has ended by itself, and there is no shutdown to rehearse"
        return Rehearsal(pod=pod, problems=(), notes=(note,))
    return Rehearsal(pod=pod, problems=("it was not ready",), story=story)


def _exit_codes(observed: shutdown.Shutdown) -> dict[str, tuple[int, ...]]:
    """Those that are a good end: 0, and the death by the signal that was sent."""
    codes = {}
    for mark in observed.termination.timeline:
        if mark.moment is Moment.SIGNAL:
            codes[mark.container] = (0, 128 + signal_number(mark.note))
    return {end.name: codes.get(end.name, (0,)) for end in observed.termination.containers}


def _text(done: Rehearsal) -> str:
    """The verdict first, then what it is made of."""
    lines = [f"rehearsal of {done.pod.name}: {'FAILED' if done.problems else 'ok'}"]
    said = list(done.problems)
    if done.load is not None and done.load.ok:
        said += done.load.verdict.splitlines()
    lines += [f"  {each}" for each in (*said, *done.notes)]
    if done.story:
        lines += ["", done.story]
    if done.load is not None:
        lines += ["", *str(done.load).splitlines()[: -len(done.load.verdict.splitlines())]]
    if done.shutdown is not None:
        shown = str(done.shutdown) if done.problems else str(done.shutdown.termination)
        lines += ["", shown.rstrip("\n")]
    return "\n".join([*lines, ""])


def _data(done: list[Rehearsal]) -> dict[str, Any]:
    return {
        "ok": not any(each.problems for each in done),
        "pods": [
            {
                "name": each.pod.name,
                "namespace": each.pod.namespace,
                "ok": not each.problems,
                "problems": list(each.problems),
                "notes": list(each.notes),
                "load": msgspec.to_builtins(each.load, str_keys=True) if each.load else None,
                "termination": _ending(each.pod, each.shutdown.termination)
                if each.shutdown
                else None,
            }
            for each in done
        ],
    }


def _ending(pod: PodHandle, termination: Termination) -> dict[str, Any]:
    return {
        "phase": termination.phase,
        "seconds": round(termination.seconds, 3),
        "containers": [msgspec.to_builtins(end) for end in termination.containers],
        "timeline": timeline.plain(pod.record.trail),
    }
