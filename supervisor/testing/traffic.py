"""Load on a pod over HTTP/1.1, as a Service sends it: does a shutdown lose requests?

    async with testing.load(pod) as traffic:
        await traffic.answered(20)
        await pod.terminate()
    assert not traffic.report.lost, traffic.report

A Service takes a pod out of its endpoints when it is deleted or not ready any more, but not
everybody who connects has heard of it at once: new connections go on for `endpoint_lag` seconds
after that, and then there are none. Connections that are there stay, and are used until the server
closes them. So half of the senders here make a connection for each request, and half keep theirs.

A request that is lost is what a user of the service would see as an error. What is not lost: a kept
connection that the server closes between two requests.

The requests are made with plain streams and never repeated: HTTP clients quietly repeat what
failed on a kept connection, and what is asked here is how often that happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import errno
import re
import select
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

import anyio
from msgspec import Struct, field

from supervisor.api import v1
from supervisor.embed import PodHandle
from supervisor.errors import UsageError
from supervisor.kubelet.clock import Clock
from supervisor.kubelet.handlers import PortError, resolve_port
from supervisor.lifecycle.timeline import Mark, Moment, gets_traffic
from supervisor.testing.fakeclock import FakeClock

_PROBLEMS = 10_000  # requests that are remembered one by one
_LONGEST_HEAD = 64 * 1024
# A socket is closed a little before the end of its process is seen, longer on a busy machine.
_EXIT_MARGIN = 0.25
_SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}


class Phase(enum.StrEnum):
    """How far the pod's end had come."""

    READY = "ready"
    NOT_READY = "readiness lost"  # or deleted: out of the endpoints
    PRE_STOP = "preStop"
    SIGNALLED = "after the stop signal"
    EXITED = "after exit"


class Outcome(enum.StrEnum):
    """What came of a request."""

    ANSWERED = "answered"
    SLOW = "slow"  # answered, but late
    ERROR = "error"  # answered with a status of 500 or more
    REFUSED = "refused"  # nobody listened
    CUT = "cut"  # the connection or the response broke off
    UNANSWERED = "unanswered"  # given up

    @property
    def is_lost(self) -> bool:
        return self not in (Outcome.ANSWERED, Outcome.SLOW)


class Request(Struct, frozen=True, kw_only=True):
    """One request that was not simply answered."""

    outcome: Outcome
    phase: Phase
    at: float  # seconds since the pod began to end, or negative; without an end, since the load did
    after: float  # seconds since the phase began
    took: float  # seconds
    kept: bool  # on a connection that had served one before
    status: int = 0  # of the response, if one began
    detail: str = ""


class LoadReport(Struct, frozen=True, kw_only=True):
    """What came of all requests. As text it is for a person."""

    target: str
    seconds: float
    requests: int
    outcomes: dict[Outcome, int]
    phases: dict[Phase, int]  # in which the answered ones were answered
    problems: tuple[Request, ...]  # the first ones of those that were lost or slow
    verdict: str

    @property
    def lost(self) -> int:
        return sum(count for outcome, count in self.outcomes.items() if outcome.is_lost)

    @property
    def ok(self) -> bool:
        """Requests were made, and none was lost."""
        return bool(self.requests) and not self.lost

    def __str__(self) -> str:
        lines = [f"load on {self.target}: {self.requests} requests in {self.seconds:.1f} s"]
        for outcome in Outcome:
            count = self.outcomes.get(outcome, 0)
            if count or outcome is Outcome.ANSWERED:
                phases: Mapping[Phase, int] = self.phases
                if outcome is not Outcome.ANSWERED:
                    phases = Counter(p.phase for p in self.problems if p.outcome is outcome)
                where = ", ".join(f"{phases[p]} {p}" for p in Phase if phases.get(p))
                lines.append(f"  {outcome:<10}  {count:>6}  {where}".rstrip())
        return "\n".join([*lines, self.verdict])


class Target(Struct, frozen=True):
    """Where requests go, and which container answers there."""

    container: str
    host: str
    port: int
    scheme: str = "http"
    path: str = "/"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}{self.path}"


def http_target(pod: v1.Pod, port: int | None = None, path: str = "/") -> Target | None:
    """Where a pod serves HTTP: as its probes say, readiness first, else the first declared port.

    `port`: there, whatever it says. The path of a probe is not taken over: a server that shuts
    down well lets it fail.
    """
    host = pod.status.pod_ip or "127.0.0.1"
    sidecars = [c for c in pod.spec.init_containers if v1.is_sidecar(c)]
    containers = [*pod.spec.containers, *sidecars]
    found: list[Target] = []
    for c in containers:
        for probe in (c.readiness_probe, c.startup_probe, c.liveness_probe):
            if probe is not None and probe.http_get is not None:
                with contextlib.suppress(PortError):
                    number = resolve_port(probe.http_get.port, c)
                    scheme = (probe.http_get.scheme or "HTTP").lower()
                    found.append(Target(c.name, probe.http_get.host or host, number, scheme, path))
    for c in containers:
        ports = [each.container_port for each in c.ports if each.protocol in ("", "TCP")]
        found += [Target(c.name, host, number, "http", path) for number in ports]
    if port is not None:
        name = found[0].container if found else containers[0].name
        found = [each for each in found if each.port == port]
        found = found or [Target(name, host, port, "http", path)]
    return found[0] if found else None


def check_path(path: str) -> None:
    """Raises UsageError."""
    if not re.fullmatch("/[!-~]*", path):
        raise UsageError(f"cannot ask for {path!r}: a path begins with / and has no spaces")


async def answers_http(target: Target, timeout: float = 2.0) -> bool:
    """Whether one request gets a response; asked again while nobody listens."""
    with anyio.move_on_after(timeout):
        while True:
            connection: _Connection | None = None
            try:
                connection = await _connect(target)
                await connection.ask(target, keeps=False)
            except ConnectionRefusedError:
                await anyio.sleep(0.05)
            except (OSError, EOFError, _ProtocolError, asyncio.LimitOverrunError):
                return False
            else:
                return True
            finally:
                if connection is not None:
                    connection.close()
    return False


@asynccontextmanager
async def load(
    pod: PodHandle,
    *,
    port: int | None = None,
    path: str = "/",
    rate: float = 100.0,
    concurrency: int = 10,
    endpoint_lag: float = 0.2,
    slow: float = 1.0,
    timeout: float = 10.0,
) -> AsyncIterator[Load]:
    """Send requests to a pod for as long as the block lasts and the pod gets traffic.

    `rate` is how many begin in a second, `concurrency` how many there are at a time, at most; with
    less than two there are fresh connections only. Without `port` it is that of the pod's probes,
    or the first one that it declares. Answers later than `slow` seconds are counted apart, after
    `timeout` a request is given up. The block is not left before `endpoint_lag` has passed.
    """
    check_path(path)
    target = http_target(pod.pod, port, path)
    if target is None:
        raise UsageError(f"cannot send requests to pod {pod.name}: it declares no port; give one")
    if isinstance(pod.clock, FakeClock):
        raise UsageError("cannot send requests under a fake clock: they take real time")
    if not (rate > 0 and concurrency > 0 and endpoint_lag >= 0 and timeout > 0):
        raise UsageError("cannot send requests: rate, concurrency and timeout must be positive")
    each = Load(pod, target, rate, concurrency, endpoint_lag, slow, timeout)
    each.begin()
    try:
        yield each
        await each.end()
    finally:
        await each.close()


class _Done(Struct, frozen=True, kw_only=True):
    """A request, in boot time."""

    began: float
    ended: float
    outcome: Outcome
    kept: bool
    received: bool = False  # part of a response
    status: int = 0
    detail: str = ""


class Load:
    """Requests that are being sent. Made by `load`."""

    def __init__(
        self,
        pod: PodHandle,
        target: Target,
        rate: float,
        concurrency: int,
        endpoint_lag: float,
        slow: float,
        timeout: float,
    ) -> None:
        self.target = target
        self._pod, self._clock = pod, Clock()
        self._interval = concurrency / rate  # of one sender
        self._concurrency = concurrency
        self._lag, self._slow, self._timeout = endpoint_lag, slow, timeout
        self._began = self._ended = self._now()
        self._is_in = False  # the endpoints
        self._left: float | None = None  # when it last left them
        self._stopping = False
        self._tasks: list[asyncio.Future[None]] = []
        self._going = 0  # senders that have not ended
        self._changed = anyio.Event()
        self._counts: Counter[Outcome] = Counter()
        self._phases: Counter[Phase] = Counter()
        self._problems: list[_Done] = []
        self._left_before: list[tuple[float, float]] = []  # from, until: out of the endpoints

    async def answered(self, count: int = 1, timeout: float = 30.0) -> None:
        """Wait until so many requests have been answered. Raises TimeoutError."""
        with anyio.fail_after(timeout):
            while self._counts[Outcome.ANSWERED] + self._counts[Outcome.SLOW] < count:
                await self._changed.wait()

    @property
    def report(self) -> LoadReport:
        """What has come of the requests until now."""
        marks, end = self._marks(), self._end_began()
        origin = self._began if end is None else end
        problems = tuple(self._problem(done, origin) for done in self._problems)
        return LoadReport(
            target=str(self.target),
            seconds=round(self._ended - self._began, 3),
            requests=self._counts.total(),
            outcomes=dict(self._counts),
            phases=dict(self._phases),
            problems=problems,
            verdict=_verdict(
                self._counts, list(zip(self._problems, problems, strict=True)), marks, self._lag
            ),
        )

    # --- life -----------------------------------------------------------------------------------

    def begin(self) -> None:
        self._look()
        self._going = self._concurrency
        works = [self._watch(), *map(self._send, range(self._concurrency))]
        # Not a task group: what the block raises would come out of it in another shape.
        self._tasks = [asyncio.ensure_future(work) for work in works]

    async def end(self) -> None:
        """Connections still come for a while; what is on its way is waited for."""
        if self._left is not None and not self._is_in:
            await anyio.sleep(max(0.0, self._left + self._lag - self._now()))
        self._stopping = True
        self._tell()
        with anyio.move_on_after(self._timeout + 1):
            while self._going:
                await self._changed.wait()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait(self._tasks)
        for task in self._tasks:
            if not task.cancelled():
                task.result()

    async def _watch(self) -> None:
        async for _ in self._pod.watch():
            self._look()
        self._look()

    def _look(self) -> None:
        """Whether the pod is in the endpoints."""
        record = self._pod.record
        is_in = gets_traffic(record)
        if self._is_in and not is_in:
            marks = [m.at.boot for m in record.trail if m.moment is Moment.ENDPOINTS_OFF]
            self._left = marks[-1] if marks else self._now()
        elif is_in and self._left is not None:
            self._left_before.append((self._left, self._now()))
            self._left = None
        self._is_in = is_in
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    def _connects(self) -> bool:
        """Whether new connections come."""
        if self._is_in:
            return True
        return self._left is not None and self._now() < self._left + self._lag

    def _is_over(self) -> bool:
        """No new connection will ever come."""
        return self._stopping or (self._pod.record.termination is not None and not self._connects())

    def _now(self) -> float:
        return self._clock.now().boot

    # --- sending --------------------------------------------------------------------------------

    async def _send(self, number: int) -> None:
        """One after the other, at a fixed rate; what cannot be sent in time is not made up for."""
        keeps = number % 2 == 1
        tick = self._now() + self._interval * number / self._concurrency
        connection: _Connection | None = None
        try:
            while not self._stopping:
                await anyio.sleep(max(0.0, tick - self._now()))
                tick = max(tick + self._interval, self._now())
                if connection is not None and connection.is_closed:
                    connection.close()
                    connection = None
                if connection is None and not self._connects():
                    if self._is_over():
                        return
                    await self._changed.wait()
                    continue
                if not self._stopping:
                    connection = await self._ask(connection, keeps=keeps)
        finally:
            if connection is not None:
                connection.close()
            self._going -= 1
            self._tell()

    async def _ask(self, connection: _Connection | None, *, keeps: bool) -> _Connection | None:
        """One request; return the connection, if it goes on."""
        began, kept = self._now(), connection is not None
        outcome, status, received, detail = Outcome.UNANSWERED, 0, False, ""
        try:
            with anyio.move_on_after(self._timeout):
                if connection is None:
                    connection = await _connect(self.target)
                goes_on = await connection.ask(self.target, keeps=keeps)
                status = connection.status
                late = self._now() - began > self._slow
                outcome = Outcome.SLOW if late else Outcome.ANSWERED
                outcome = Outcome.ERROR if status >= 500 else outcome
                if not goes_on:
                    connection.close()
                    connection = None
        except (OSError, EOFError, _ProtocolError, asyncio.LimitOverrunError) as error:
            if isinstance(error, OSError) and error.errno in _SHORTAGES:
                return None  # this machine's; the request was never made
            refused = isinstance(error, ConnectionRefusedError)
            outcome = Outcome.REFUSED if refused else Outcome.CUT
            detail = str(error) or type(error).__name__
        if outcome.is_lost and connection is not None:
            status, received = connection.status, connection.received
            connection.close()
            connection = None
        self._note(
            _Done(
                began=began,
                ended=self._now(),
                outcome=outcome,
                kept=kept,
                received=received,
                status=status,
                detail=detail,
            )
        )
        return connection

    def _note(self, done: _Done) -> None:
        self._ended = done.ended
        self._counts[done.outcome] += 1
        if done.outcome is Outcome.ANSWERED:
            self._phases[self._phase(done)[0]] += 1
        elif len(self._problems) < _PROBLEMS:
            self._problems.append(done)
        self._tell()

    # --- looking back ---------------------------------------------------------------------------

    def _marks(self) -> dict[Moment, Mark]:
        """Of the container that answers, and of the pod."""
        trail = self._pod.record.trail
        return {m.moment: m for m in trail if m.container in ("", self.target.container)}

    def _end_began(self) -> float | None:
        trail = self._pod.record.trail
        return trail[0].at.boot if trail else None

    def _phase(self, done: _Done) -> tuple[Phase, float]:
        """In which it came to its end, and when that phase began."""
        marks = self._marks()
        for moment, phase in (
            (Moment.EXIT, Phase.EXITED),
            (Moment.SIGNAL, Phase.SIGNALLED),
            (Moment.PRE_STOP, Phase.PRE_STOP),
        ):
            if moment in marks and done.ended >= marks[moment].at.boot:
                return phase, marks[moment].at.boot
        for left, back in self._left_before:
            if left <= done.ended < back:
                return Phase.NOT_READY, left
        if self._left is not None and done.ended >= self._left:
            return Phase.NOT_READY, self._left
        return Phase.READY, self._began

    def _problem(self, done: _Done, origin: float) -> Request:
        phase, since = self._phase(done)
        return Request(
            outcome=done.outcome,
            phase=phase,
            at=round(done.ended - origin, 4),
            after=round(done.ended - since, 4),
            took=round(done.ended - done.began, 4),
            kept=done.kept,
            status=done.status,
            detail=done.detail,
        )


# --- what it means ------------------------------------------------------------------------------


class _Group(Struct):
    """Requests that were lost for one reason."""

    outcome: Outcome
    why: str
    requests: list[Request] = field(default_factory=list)


def _verdict(
    counts: Mapping[Outcome, int],
    problems: Iterable[tuple[_Done, Request]],
    marks: Mapping[Moment, Mark],
    lag: float,
) -> str:
    """In words. The most frequent reason comes first."""
    if not sum(counts.values()):
        return "no request was made: the pod was never ready"
    groups: dict[tuple[Outcome, str], _Group] = {}
    for done, request in problems:
        if request.outcome.is_lost:
            why = _why(done, request, marks, lag, worked=bool(counts.get(Outcome.ANSWERED)))
            key = (request.outcome, why)
            groups.setdefault(key, _Group(*key)).requests.append(request)
    ordered = sorted(groups.values(), key=lambda group: -len(group.requests))
    said = [_sentence(group, marks) for group in ordered] or ["no request was lost"]
    if slow := counts.get(Outcome.SLOW, 0):
        said.append(f"{_requests(slow)} answered late")
    return "\n".join(said)


def _requests(count: int) -> str:
    return f"{count} request was" if count == 1 else f"{count} requests were"


def _sentence(group: _Group, marks: Mapping[Moment, Mark]) -> str:
    verb = {Outcome.ERROR: "answered with an error"}.get(group.outcome, str(group.outcome))
    signal = marks[Moment.SIGNAL].note if Moment.SIGNAL in marks else "the stop signal"
    # All of them are told by the phase in which the first one was lost.
    first = min(group.requests, key=lambda request: request.at)
    begin = first.at - first.after
    when = {
        Phase.READY: "while the pod was ready",
        Phase.NOT_READY: "{} after it left the endpoints",
        Phase.PRE_STOP: "{} after preStop began",
        Phase.SIGNALLED: f"{{}} after {signal}",
        Phase.EXITED: "{} after its end",
    }[first.phase].format(_span([request.at - begin for request in group.requests]))
    return f"{_requests(len(group.requests))} {verb} {when}: {group.why}"


def _span(seconds: list[float]) -> str:
    first, last = (f"{each * 1000:.0f}" for each in (min(seconds), max(seconds)))
    if max(seconds) >= 1:
        first, last = (f"{each:.1f}" for each in (min(seconds), max(seconds)))
    unit = "s" if max(seconds) >= 1 else "ms"
    return f"{first} {unit}" if first == last else f"{first} to {last} {unit}"


def _why(
    done: _Done, request: Request, marks: Mapping[Moment, Mark], lag: float, *, worked: bool
) -> str:
    ended = marks.get(Moment.EXIT)
    at_its_end = ended is not None and done.ended >= ended.at.boot - _EXIT_MARGIN
    still = f"new connections still come for {lag:g} s after it left the endpoints"
    match request.outcome, request.phase:
        case Outcome.REFUSED, _ if at_its_end:
            return (
                f"the server had ended, but {still}; let it wait that long, in preStop if need be"
            )
        case Outcome.REFUSED, Phase.READY if worked:
            return "nothing listened any more, although the pod was ready"
        case Outcome.REFUSED, Phase.READY:
            return "the pod was ready before anything listened: it needs a readiness probe"
        case Outcome.REFUSED, _:
            return f"the server closed its listener before draining, but {still}"
        case Outcome.CUT, _ if at_its_end and Moment.KILL in marks:
            return "SIGKILL came before they were answered: draining takes longer than the grace"
        case Outcome.CUT, _ if at_its_end:
            return "the server ended with requests on their way, instead of finishing them"
        case Outcome.CUT, Phase.READY:
            return "the server broke them off, although the pod was ready"
        case Outcome.CUT, _ if done.received:
            return "the server broke off its responses"
        case Outcome.CUT, _ if request.kept:
            return "the server closed kept connections with requests on their way"
        case Outcome.CUT, _:
            return "the server closed its listener before draining: who was connected got no answer"
        case Outcome.ERROR, Phase.READY:
            return f"status {request.status}, although the pod was ready; is this the right path?"
        case Outcome.ERROR, _:
            return f"status {request.status}: the server refused work while requests still came"
        case _:
            return "they were given up"


# --- HTTP/1.1 ------------------------------------------------------------------------------------


class _ProtocolError(Exception):
    """What came is not HTTP."""


class _Connection:
    """One connection; `status` and `received` are of the response that is being read."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.status = 0
        self.received = False

    @property
    def is_closed(self) -> bool:
        """By the other side, with nothing on its way."""
        if self._reader.at_eof() or self._writer.is_closing():
            return True
        # The loop may not have heard of it yet.
        poll = select.poll()
        poll.register(self._writer.get_extra_info("socket").fileno(), select.POLLRDHUP)
        return bool(poll.poll(0))

    def close(self) -> None:
        self._writer.close()

    async def ask(self, target: Target, *, keeps: bool) -> bool:
        """One request and its response; return whether the connection can take another."""
        self.status, self.received = 0, False
        ends = "" if keeps else "Connection: close\r\n"
        self._writer.write(
            f"GET {target.path} HTTP/1.1\r\nHost: {target.host}:{target.port}\r\n"
            f"User-Agent: podvisor-load\r\nAccept: */*\r\n{ends}\r\n".encode()
        )
        version, headers = await self._head()
        while 100 <= self.status < 200:
            version, headers = await self._head()
        said = headers.get("connection", "").lower()
        goes_on = keeps and ("close" not in said if version != "HTTP/1.0" else "keep" in said)
        if self.status in (204, 304):
            return goes_on
        if "chunked" in headers.get("transfer-encoding", "").lower():
            await self._chunks()
            return goes_on
        if "content-length" in headers:
            await self._skip(_number(headers["content-length"], 10))
            return goes_on
        while await self._reader.read(_LONGEST_HEAD):
            pass
        return False

    async def _head(self) -> tuple[str, dict[str, str]]:
        first = await self._reader.readexactly(1)
        self.received = True
        text = (first + await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *rest = text.split("\r\n")
        version, _, status = line.partition(" ")
        if not version.startswith("HTTP/"):
            raise _ProtocolError(f"not HTTP: {line[:40]!r}")
        self.status = _number(status[:3], 10)
        pairs = (each.partition(":") for each in rest if each)
        return version, {name.strip().lower(): value.strip() for name, _, value in pairs}

    async def _chunks(self) -> None:
        while True:
            size = _number((await self._reader.readuntil(b"\r\n")).split(b";")[0].decode(), 16)
            if not size:
                while await self._reader.readuntil(b"\r\n") != b"\r\n":
                    pass  # trailers
                return
            await self._skip(size + 2)

    async def _skip(self, count: int) -> None:
        while count:
            part = await self._reader.read(min(count, _LONGEST_HEAD))
            if not part:
                raise EOFError("the response broke off")
            count -= len(part)


def _number(text: str, base: int) -> int:
    try:
        return int(text.strip(), base)
    except ValueError:
        raise _ProtocolError(f"not HTTP: {text[:40]!r}") from None


async def _connect(target: Target) -> _Connection:
    context: ssl.SSLContext | None = None
    if target.scheme == "https":  # as probes do: nothing is verified
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(
        target.host, target.port, ssl=context, limit=_LONGEST_HEAD
    )
    return _Connection(reader, writer)
