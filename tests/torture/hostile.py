"""What nobody should send to the API: requests, WebSockets and SPDY, made from a seed. No I/O.

`attempt` makes the one of a kind that has a seed and a number, so each can be made again. Most
begin as what a client may send, so that they come far; then frames are left out, doubled, swapped,
cut off and bent, and a client's end comes at an odd moment. `tests/cli/test_bad_requests.py` sends
some hundreds of them in `make test`, `python -m tests.torture.api` ten thousand of each.
"""

from __future__ import annotations

import base64
import enum
import json
import random
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlencode

from msgspec import Struct

from supervisor.apiserver.spdy import DICTIONARY


class Wire(enum.StrEnum):
    HTTP = "http"
    WEBSOCKET = "websocket"
    SPDY = "spdy"


class Door(enum.StrEnum):
    UNIX = "unix socket"
    HTTPS = "https"
    BARE = "https, without TLS"  # nothing to be heard there


class Ending(enum.StrEnum):
    """Of the client's, after it has said all."""

    CLOSE = "close"
    ABORT = "abort"
    HALF = "half"  # it says no more, and waits
    WAIT = "wait"  # for the server's end


class Target(Struct, frozen=True):
    """Two pods of namespace default: `web` with containers `app`, `cat` (stdin) and `term` (tty),
    and `spare`, of which requests may make what they like."""

    port: int  # where app echoes
    token: str
    api: int  # the port of the API


class Attempt(Struct, frozen=True):
    door: Door
    name: str  # of what it speaks
    head: bytes
    intact: bool  # the head: it has to be answered
    frames: int = 0
    pieces: tuple[bytes, ...] = ()  # the frames, as they are written
    early: bool = False  # before anything is answered
    listens: bool = True  # to what is answered
    ending: Ending = Ending.CLOSE


def attempt(target: Target, wire: Wire, seed: int, number: int) -> Attempt:
    dice = random.Random(f"{seed} {wire} {number}")
    door = dice.choices(tuple(Door), (60, 38, 2))[0]
    known = [
        f"Host: {'localhost' if door is Door.UNIX else f'127.0.0.1:{target.api}'}",
        f"Authorization: Bearer {target.token}",
    ]
    if dice.random() < 0.02:
        known[dice.randrange(2)] = dice.choice(("Host: example.com", "Authorization: x", "X: y"))
    match wire:
        case Wire.HTTP:
            return _request(dice, door, known)
        case Wire.WEBSOCKET:
            return _websocket(dice, door, known, target)
        case Wire.SPDY:
            return _spdy(dice, door, known, target)


def _bent(dice: random.Random, raw: bytes) -> bytes:
    """One to six changes of bytes."""
    broken = bytearray(raw)
    for _ in range(dice.randint(1, 6)):
        place = dice.randrange(len(broken) or 1)
        match dice.randrange(4):
            case 0:
                broken[place : place + 1] = dice.randbytes(1)
            case 1:
                del broken[place : place + dice.randint(1, 8)]
            case 2:
                broken[place:place] = dice.randbytes(dice.randint(1, 8))
            case 3:
                del broken[place:]
    return bytes(broken)


# --- requests -------------------------------------------------------------------------------------

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
NAMED = "/api/v1/namespaces/default"
PATHS = (
    "/",
    "/api",
    "/api/v1",
    "/version",
    "/readyz",
    "/openapi/v2",
    "/openapi/v3/api/v1",
    "/apis/apps/v1/deployments",
    "/apis/metrics.k8s.io/v1beta1/nodes",
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    "/apis/authentication.k8s.io/v1/tokenreviews",
    "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/podvisor",
    "/api/v1/namespaces/other",
    "/api/v1/nodes/podvisor/status",
    "/podvisor/v1/namespaces/default/pods/spare",
    *(
        f"{NAMED}/{rest}"
        for rest in (
            "pods",
            "pods/spare",
            "pods/spare/status",
            "pods/spare/log",
            "pods/spare/eviction",
            "pods/spare/binding",
            "pods/spare/ephemeralcontainers",
            "pods/spare/exec?command=true&stdout=1",
            "pods/spare/portforward",
            "configmaps",
            "configmaps/a",
            "secrets",
            "events",
            "services/kubernetes",
            "serviceaccounts/default",
        )
    ),
)
QUERIES = (
    "",
    "limit=-1",
    "limit=1",
    "continue=e30",
    "continue=" + base64.urlsafe_b64encode(b'{"x":' + b"[" * 9000).decode(),
    "continue=%00",
    "resourceVersion=1&resourceVersionMatch=Exact",
    "watch=1&resourceVersion=99999999",
    "watch=yes",
    "fieldSelector=a",
    "labelSelector=a%20in%20(",
    "dryRun=All",
    "dryRun=",
    "fieldManager=x&force=true",
    "fieldManager=%FF%00",
    "fieldValidation=Strict",
    "pretty=1",
    "tailLines=-1",
    "sinceTime=x",
    "sinceSeconds=99999999999999999",
    "gracePeriodSeconds=-5",
    "propagationPolicy=x",
    "container=" + "x" * 5000,
    "limit=" + "1" * 5000,
    "ports=" + "1" * 5000,
)
TYPES = (
    "application/json",
    "application/yaml",
    "application/merge-patch+json",
    "application/json-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "application/vnd.kubernetes.protobuf",
    "x",
)
BODIES = (
    b"",
    b"{}",
    b"null",
    b"[1]",
    b"[" * 3000,
    b'{"a":' * 300 + b"1" + b"}" * 300,
    b'{"metadata":{"name":"a"}}',
    b'{"metadata":{"name":"../../a"}}',
    b'{"metadata":{"name":5,"labels":[]},"data":{"a":1}}',
    b'{"metadata":null,"spec":[],"kind":3}',
    b'{"metadata":{"resourceVersion":[],"finalizers":"x","ownerReferences":{}}}',
    b'{"metadata":{"managedFields":[{"fieldsV1":{"f:a":3}},5]}}',
    b'{"spec":{"containers":[{"name":{}}]}}',
    b'{"spec":{"containers":{"$patch":"delete"}}}',
    b'{"spec":{"$retainKeys":[1]},"status":{"conditions":[[]]}}',
    b'[{"op":"add","path":"/data","value":{}}]',
    b'[{"op":"copy","from":"","path":"/metadata/annotations/a"},{"op":"test"}]',
    b'{"deleteOptions":5,"preconditions":[]}',
    b'{"gracePeriodSeconds":"x","dryRun":"All"}',
    b'{"spec":{"ephemeralContainers":[{"name":"web"}]}}',
    b"k8s\0\x0a\x04\x0a\x02v1",
    b"k8s\0" + b"\xff" * 200,
    b"a: &a [*a]",
    b"a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]",
    "metadata: {name: \N{SNOWMAN}}".encode(),
)
ACCEPTED = ("application/json", "*/*", "x/y", "application/json;as=Table")


def _request(dice: random.Random, door: Door, known: list[str]) -> Attempt:
    body, query, path = dice.choice(BODIES), dice.choice(QUERIES), dice.choice(PATHS)
    method = dice.choice(METHODS)
    if method == "DELETE" and path.endswith("/pods"):
        method = "GET"  # web stays: it is what all the others talk to
    lines = [
        f"{method} {path}{('&' if '?' in path else '?') if query else ''}{query} HTTP/1.1",
        *known,
        f"Content-Type: {dice.choice(TYPES)}",
        f"Accept: {dice.choice(ACCEPTED)}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    raw = "\r\n".join([*lines, "", ""]).encode() + body
    if dice.random() < 0.7:
        ending = Ending.ABORT if "watch=" in query else Ending.WAIT
        intact = ending is Ending.WAIT and door is not Door.BARE
        return Attempt(door, "request", raw, intact, ending=ending)
    return Attempt(door, "broken request", _bent(dice, raw), intact=False)


# --- what is asked for with an upgrade ------------------------------------------------------------

COMMANDS = (
    ("cat",),
    ("cat",),
    ("true",),
    ("yes",),
    ("sh", "-c", "sleep 987 & cat; kill $!"),
    # Not even what is typed on a terminal ends it before its client.
    ("sh", "-c", "trap '' TERM HUP INT QUIT TSTP; setsid sleep 988 & cat; kill -9 $!"),
    ("no such program",),
    ("sh", "-c", "exit 3"),
)
CHANNELS = (
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
)
TUNNEL = "SPDY/3.1+portforward.k8s.io"
SPDY_CHANNELS = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io")
STREAMS = ("stdin", "stdout", "stderr", "tty")


def _asked(dice: random.Random, what: str, target: Target) -> tuple[str, list[str]]:
    """The path and query, and which of STREAMS are asked for."""
    if what == "portforward":
        return f"portforward?{urlencode([('ports', p) for p in _ports(dice, target)])}", []
    chosen = [name for name in STREAMS if dice.random() < (0.3 if name == "tty" else 0.85)]
    query = [(name, dice.choice(("1", "true"))) for name in chosen]
    if what == "exec":
        query += [("command", word) for word in dice.choice(COMMANDS)]
        query += [("container", dice.choice(("app", "app", "cat", "term")))]
    else:
        query += [("container", "term" if "tty" in chosen else "cat")]
    if dice.random() < 0.05:
        query[dice.randrange(len(query))] = (dice.choice(STREAMS), dice.choice(("x", "", "-1")))
    return f"{what}?{urlencode(query)}", chosen


def _ports(dice: random.Random, target: Target) -> list[str]:
    port = str(target.port)
    if dice.random() < 0.7:
        return [port] * dice.randint(1, 3)
    return dice.choice(
        ([], ["0"], ["65536"], ["1" * 5000], ["-1"], ["1"] * 100, ["1", port], [f"{port},1"], ["x"])
    )


def _head(dice: random.Random, path: str, lines: list[str]) -> tuple[bytes, bool]:
    method = dice.choice(("GET", "POST"))
    line = f"{method} {NAMED}/pods/web/{path} HTTP/1.1"
    raw = "\r\n".join([line, *lines, "", ""]).encode()
    return (raw, True) if dice.random() < 0.95 else (_bent(dice, raw), False)


def _mixed(dice: random.Random, frames: list[bytes]) -> list[bytes]:
    """Half of them as they are; of others some frames are lost, doubled, swapped, cut or bent."""
    if not frames or dice.random() < 0.5:
        return frames
    frames = list(frames)
    for _ in range(dice.randint(1, 3)):
        at, other = dice.randrange(len(frames)), dice.randrange(len(frames))
        match dice.randrange(6):
            case 0 if len(frames) > 1:
                del frames[at]
            case 1:
                frames.insert(other, frames[at])
            case 2:
                frames[at], frames[other] = frames[other], frames[at]
            case 3:
                frames[at] = frames[at][: dice.randrange(len(frames[at]) + 1)]
            case 4:
                frames[at] = _bent(dice, frames[at])
            case _:
                frames.insert(at, dice.randbytes(dice.randint(1, 40)))
    return frames


def _session(
    dice: random.Random, door: Door, name: str, head: tuple[bytes, bool], frames: list[bytes]
) -> Attempt:
    count, whole = len(frames), b"".join(frames)
    pieces = list(frames)
    match dice.randrange(4):
        case 0:
            pieces = [whole]
        case 1:
            step = dice.randint(1, 9000) + len(whole) // 50
            pieces = [whole[at : at + step] for at in range(0, len(whole), step)]
    return Attempt(
        door,
        name,
        head[0],
        intact=head[1] and door is not Door.BARE,
        frames=count,
        pieces=tuple(piece for piece in pieces if piece),
        early=dice.random() < 0.15,
        listens=dice.random() < 0.8,
        ending=dice.choice(tuple(Ending)),
    )


def _some(dice: random.Random) -> bytes:
    size = dice.choice((0, 1, 2, 10, 100, 3000, 70_000))
    return dice.randbytes(size) if dice.random() < 0.5 else b"line\n" * (size // 5)


def _size_json(dice: random.Random) -> bytes:
    value: Any = dice.choice((80, 0, -1, 65535, 65536, 1 << 70, 1.5, True, None, "80", [], {}))
    good = {"Width": dice.randrange(300), "Height": dice.randrange(100)}
    shapes: tuple[Any, ...] = (good, good, {"Width": value, "Height": 24}, {"width": 3}, [good])
    plain = json.dumps(dice.choice(shapes)).encode()
    nonsense = (b"", b"[" * 60_000, b'{"Width":' * 20_000, b"1" * 5000, b"\xff\0", b"NaN", b"null")
    return plain * dice.choice((1, 1, 2)) if dice.random() < 0.7 else dice.choice(nonsense)


# --- WebSocket ------------------------------------------------------------------------------------

_CONTINUED, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10


def _frame(
    dice: random.Random,
    opcode: int,
    data: bytes = b"",
    *,
    first: int = 0x80,
    masked: bool = True,
    declared: int | None = None,
) -> bytes:
    size = len(data) if declared is None else declared
    if size < 126:
        length = bytes([size])
    elif size < 1 << 16:
        length = b"\x7e" + size.to_bytes(2, "big")
    else:
        length = b"\x7f" + size.to_bytes(8, "big")
    head = bytes([first | opcode, length[0] | (0x80 if masked else 0)]) + length[1:]
    if not masked:
        return head + data
    mask = dice.randbytes(4)
    key = (mask * (len(data) // 4 + 1))[: len(data)]
    return head + mask + (int.from_bytes(data) ^ int.from_bytes(key)).to_bytes(len(data))


def _odd_frame(dice: random.Random) -> list[bytes]:
    """What hardly any client sends, or none."""
    frame, data = partial(_frame, dice), _some(dice)
    bits = dice.choice((0x10, 0x20, 0x40, 0x70)) | 0x80
    makers: tuple[Callable[[], list[bytes]], ...] = (
        lambda: [frame(_TEXT, data)],
        lambda: [frame(_BINARY)],
        lambda: [frame(_CONTINUED, data)],
        lambda: [frame(_BINARY, data, first=0), frame(_PING), frame(_CONTINUED, data)],
        lambda: [frame(_BINARY, b"\0", first=0), *(frame(_CONTINUED, first=0) for _ in range(9))],
        lambda: [frame(_BINARY, data, first=0), frame(_BINARY, data)],
        lambda: [frame(_PING, data[:125])],
        lambda: [frame(dice.choice((_PING, _PONG, _CLOSE)), bytes(200))],
        lambda: [frame(_PING, b"x", first=0)],
        lambda: [frame(_PONG, b"unasked")],
        lambda: [frame(_CLOSE, dice.choice((b"", b"x", b"\x03\xe8", b"\x03\xed", b"\0\1\xff")))],
        lambda: [frame(_BINARY, data, masked=False)],
        lambda: [frame(dice.choice((3, 4, 5, 6, 7, 11, 12, 13, 14, 15)), data)],
        lambda: [frame(_BINARY, data, first=bits)],
        lambda: [frame(_BINARY, data, declared=dice.choice((1 << 63, 1 << 40, 5 << 20, 1000)))],
        lambda: [frame(_BINARY, data, declared=dice.choice(((1 << 64) - 1, 4 << 20, 126)))],
        lambda: [bytes([0x82, 0xFF]) + bytes(8) + dice.randbytes(4)],  # 0, in eight bytes
        lambda: [dice.randbytes(dice.randint(1, 60))],
    )
    return dice.choice(makers)()


def _message(dice: random.Random, what: str, protocol: str) -> bytes:
    if what == "portforward":
        return bytes([dice.choice((0, 0, 0, 1, 2, 3, 4, dice.randrange(256)))]) + _some(dice)
    kinds = (0, 0, 0, 4, 4, dice.randrange(256))
    channel = dice.choice(kinds)
    data = _size_json(dice) if channel == 4 else _some(dice)
    if protocol.startswith("v5") and dice.random() < 0.1:
        channel, data = 255, dice.choice((b"\0", b"", b"\0\0", dice.randbytes(1)))
    if "base64" not in protocol:
        return bytes([channel]) + data
    coded = base64.b64encode(data)
    if dice.random() < 0.1:
        coded = dice.choice((coded[:-1], b"*" + coded, b"\xff", coded.replace(b"=", b"")))
    return bytes([(channel + 48) % 256]) + coded


def _websocket(dice: random.Random, door: Door, known: list[str], target: Target) -> Attempt:
    what = dice.choice(("exec", "exec", "attach", "portforward"))
    tunnels = (TUNNEL, TUNNEL) if what == "portforward" else ()
    protocol = dice.choice((*CHANNELS, *tunnels))
    path, chosen = _asked(dice, what, target)
    key = base64.b64encode(dice.randbytes(16)).decode()
    offered = f"Sec-WebSocket-Protocol: {protocol}"
    lines = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        f"Sec-WebSocket-Version: {13 if dice.random() < 0.97 else dice.choice((8, 99, 'x'))}",
        f"Sec-WebSocket-Key: {key if dice.random() < 0.97 else 'x'}",
    ]
    if dice.random() < 0.1:
        offered = dice.choice(
            ("X: y", "Sec-WebSocket-Protocol: , x,,", f"Sec-WebSocket-Protocol: x, {protocol}")
        )
    frames: list[bytes] = []
    if protocol == TUNNEL:
        inner = b"".join(_mixed(dice, _spdy_frames(dice, what, chosen, target)))
        step = dice.choice((1 + len(inner) // 20, 100 + len(inner) // 9, len(inner) or 1))
        frames = [_frame(dice, _BINARY, inner[at : at + step]) for at in range(0, len(inner), step)]
    for _ in range(dice.randint(0, 16)):
        message = _message(dice, what, protocol)
        opcode = _TEXT if "base64" in protocol else _BINARY
        odd = dice.random() < 0.15
        frames += _odd_frame(dice) if odd else [_frame(dice, opcode, message)]
    if dice.random() < 0.3:
        frames.append(_frame(dice, _CLOSE, b"\x03\xe8"))
    head = _head(dice, path, [*known, *lines, offered])
    return _session(dice, door, f"{what} {protocol}", head, _mixed(dice, frames))


# --- SPDY -----------------------------------------------------------------------------------------


class _Speaker:
    """The client's end of SPDY, who does not care whether what he says makes sense."""

    def __init__(self) -> None:
        self._pack = zlib.compressobj(zdict=DICTIONARY)

    def control(self, kind: int, body: bytes, flags: int = 0, version: int = 3) -> bytes:
        head = (0x8000 | version).to_bytes(2) + kind.to_bytes(2) + bytes([flags])
        return head + len(body).to_bytes(3) + body

    def headers(self, pairs: dict[str, str], count: int | None = None) -> bytes:
        plain = (len(pairs) if count is None else count).to_bytes(4)
        for word in (word for pair in pairs.items() for word in pair):
            raw = word.encode("utf-8", "surrogateescape")
            plain += len(raw).to_bytes(4) + raw
        return self._pack.compress(plain) + self._pack.flush(zlib.Z_SYNC_FLUSH)

    def syn_stream(
        self, number: int, pairs: dict[str, str], flags: int = 0, count: int | None = None
    ) -> bytes:
        body = number.to_bytes(4) + bytes(6) + self.headers(pairs, count)
        return self.control(1, body, flags)

    def data(self, number: int, data: bytes, flags: int = 0, declared: int | None = None) -> bytes:
        size = len(data) if declared is None else declared
        return number.to_bytes(4) + bytes([flags]) + size.to_bytes(3) + data


def _odd_spdy(dice: random.Random, say: _Speaker, number: int) -> bytes:
    """What hardly any client sends, or none. `number`: of the stream that was opened last."""
    known = dice.randrange(1, number + 3)
    stream = dice.choice((0, 1, 2, known, number + 2, (1 << 31) - 1)).to_bytes(4)
    few = dice.randbytes(dice.randint(0, 12))
    bomb = {"streamtype": "x" * dice.choice((100, 70_000, 5_000_000))}
    makers: tuple[Callable[[], bytes], ...] = (
        lambda: say.control(3, stream + dice.randbytes(4)),  # RST_STREAM
        lambda: say.control(3, stream + bytes([0, 0, 0, 5])),
        lambda: say.control(6, stream),  # PING
        lambda: b"".join(say.control(6, bytes([0, 0, 0, 1])) for _ in range(500)),
        lambda: say.control(7, stream + bytes(4)),  # GOAWAY
        lambda: say.control(9, stream + dice.randbytes(4)),  # WINDOW_UPDATE
        lambda: say.control(4, few),  # SETTINGS
        lambda: say.control(8, stream + say.headers({"a": "b"}), dice.randrange(2)),
        lambda: say.control(2, stream + say.headers({})),  # SYN_REPLY
        lambda: say.control(dice.randrange(1, 20), few, dice.randrange(256)),
        lambda: say.control(6, stream, version=dice.randrange(0x8000)),
        lambda: say.control(1, stream + bytes(6) + few),  # headers that are no zlib
        lambda: say.syn_stream(known, {"streamtype": "data"}),  # opened again
        lambda: say.syn_stream(number + 1, {"streamtype": "data"}),
        lambda: say.syn_stream(number + 2, bomb),
        lambda: say.syn_stream(number + 2, {"streamtype": "error"}, count=dice.randrange(1 << 32)),
        lambda: say.control(dice.randrange(1, 10), b"")[:5] + b"\xff\xff\xff" + few,
        lambda: say.data(int.from_bytes(stream), few, dice.randrange(4), (1 << 24) - 1),
        lambda: say.data(int.from_bytes(stream), few, dice.randrange(4)),
        lambda: dice.randbytes(dice.randint(1, 60)),
    )
    return dice.choice(makers)()


def _spdy_frames(dice: random.Random, what: str, chosen: list[str], target: Target) -> list[bytes]:
    say, number, frames = _Speaker(), -1, []
    by_kind: dict[str, int] = {}

    def opened(pairs: dict[str, str], flags: int = 0) -> None:
        nonlocal number
        number += 2
        by_kind[pairs.get("streamtype", "")] = number
        frames.append(say.syn_stream(number, pairs, flags))

    if what == "portforward":
        for at in range(dice.randint(1, 4)):
            port = (_ports(dice, target) or [""])[0]
            if dice.random() < 0.05:
                port = dice.choice((f"0000{port}", f"{port:>09}99", "000000080" + "9" * 5000))
            pairs = {"port": port, "requestid": str(at if dice.random() < 0.95 else 0)}
            for kind in ("error", "data"):
                if dice.random() < 0.95:
                    opened({"streamtype": kind, **pairs}, int(kind == "error"))
        kinds = ["data"]
    else:
        tty = ["resize"] if "tty" in chosen else []
        kinds = ["error", *(name for name in chosen if name != "tty"), *tty]
        if "tty" in chosen:
            kinds = [kind for kind in kinds if kind != "stderr"]
        for kind in (
            kinds if dice.random() < 0.8 else dice.sample(kinds, dice.randrange(len(kinds)))
        ):
            opened({"streamtype": kind})
    for _ in range(dice.randint(0, 12)):
        if dice.random() < 0.15:
            frames.append(_odd_spdy(dice, say, max(number, 1)))
            continue
        kind = dice.choice([*kinds, *kinds, "stdin", "resize", "stdout"])
        data = _size_json(dice) if kind == "resize" else _some(dice)
        stream = by_kind.get(kind, 1)
        frames.append(say.data(stream, data, int(dice.random() < 0.1)))
    return frames


def _spdy(dice: random.Random, door: Door, known: list[str], target: Target) -> Attempt:
    what = dice.choice(("exec", "exec", "attach", "portforward"))
    protocol = "portforward.k8s.io" if what == "portforward" else dice.choice(SPDY_CHANNELS)
    path, chosen = _asked(dice, what, target)
    offered = protocol if dice.random() < 0.95 else dice.choice(("", "x", f"x, {protocol}"))
    lines = [
        "Connection: Upgrade",
        "Upgrade: SPDY/3.1",
        f"X-Stream-Protocol-Version: {offered}",
        *(["Content-Length: 5"] if dice.random() < 0.03 else []),
    ]
    frames = _mixed(dice, _spdy_frames(dice, what, chosen, target))
    head = _head(dice, path, [*known, *lines])
    return _session(dice, door, f"{what} SPDY {protocol}", head, frames)
