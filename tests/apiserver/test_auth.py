"""Who may come in by which door, and what of it lies on the disk."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import errno
import os
import shutil
import socket
import ssl
import stat
import struct
import tempfile
import time
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
import yaml
from cryptography import x509

from supervisor.apiserver import auth
from supervisor.apiserver.local import DoorOptions, Doors
from supervisor.errors import NodeError, UsageError
from tests.apiserver.served import Reply, Served, served
from tests.runtime.conftest import _warm_loops, nothing_left
from tests.support import free_port

__all__ = ["_warm_loops", "nothing_left"]
pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("nothing_left")]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def folder() -> Iterator[str]:
    path = tempfile.mkdtemp(prefix="podvisor-test-")
    yield path
    shutil.rmtree(path)


@contextlib.asynccontextmanager
async def opened(folder: str, options: DoorOptions) -> AsyncIterator[tuple[Served, Doors]]:
    async with served() as api:
        with Doors(folder, options) as doors:
            for door in doors.opened:
                await api.server.open(*door)
            doors.opened.clear()
            yield api, doors


async def ask(url: str, doors: Doors, token: str | None = None, **headers: str) -> Reply:
    context = ssl.create_default_context(cadata=doors.authority or None)
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # Python's own choice since 3.13
    if token is not None:
        headers["Authorization"] = token
    async with (
        aiohttp.ClientSession() as client,
        client.get(url, headers=headers, ssl=context if doors.authority else True) as response,
    ):
        return Reply(response, await response.read())


# --- https ----------------------------------------------------------------------------------------


async def test_https_lets_in_who_has_the_token_and_calls_it_by_its_name(folder: str) -> None:
    async with opened(folder, DoorOptions()) as (_, doors):
        bearer, url = f"Bearer {doors.token}", doors.url
        assert (await ask(f"{url}/version", doors, bearer)).code == 200
        assert (await ask(f"{url}/version", doors, bearer.replace("B", "b", 1))).code == 200
        local = f"https://localhost:{doors.port}/version"
        assert (await ask(local, doors, bearer)).code == 200
        for token in (None, "", "Bearer", "Bearer x", f"Basic {doors.token}", "Bearer \xff"):
            reply = await ask(f"{url}/version", doors, token)
            assert reply.refusal == (401, "Unauthorized", "Unauthorized"), token
        for host in ("evil.example", f"evil.example:{doors.port}", "127.0.0.1.evil.example", ""):
            reply = await ask(f"{url}/version", doors, bearer, Host=host)
            assert reply.refusal[:2] == (403, "Forbidden"), host
        page = await ask(f"{url}/version", doors, bearer, Origin="https://evil.example")
        assert page.refusal[:2] == (403, "Forbidden")
        own = await ask(f"{url}/version", doors, bearer, Origin=url)
        assert own.code == 200


@pytest.mark.parametrize("host", ["localhost:8443", "127.0.0.1:8001", "[::1]:443", "LOCALHOST"])
async def test_a_tunnel_may_have_a_port_of_its_own(folder: str, host: str) -> None:
    """`ssh -L 8443:…` and the proxy of an old kubectl leave the Host as it was."""
    async with opened(folder, DoorOptions()) as (_, doors):
        bearer = f"Bearer {doors.token}"
        assert (await ask(f"{doors.url}/version", doors, bearer, Host=host)).code == 200
        for wrong in (f"{host}.evil.example", f"evil.{host}", f"{host}x", f"{host}@evil.example"):
            reply = await ask(f"{doors.url}/version", doors, bearer, Host=wrong)
            assert reply.refusal[:2] == (403, "Forbidden"), wrong
        page = await ask(f"{doors.url}/version", doors, bearer, Host=host, Origin=f"http://{host}")
        assert page.refusal[:2] == (403, "Forbidden")


async def test_a_kubeconfig_holds_all_that_kubectl_needs(folder: str) -> None:
    async with opened(folder, DoorOptions()) as (_, doors):
        assert doors.kubeconfig == f"{folder}/kubeconfig"
        with open(doors.kubeconfig) as file:
            config = yaml.safe_load(file)
    assert config["current-context"] == "podvisor"
    assert config["clusters"][0]["cluster"]["server"] == doors.url
    assert config["users"][0]["user"] == {"token": doors.token}
    assert config["contexts"][0]["context"]["namespace"] == "default"


async def test_nobody_else_can_read_what_lets_in(folder: str) -> None:
    before = os.umask(0)
    try:
        Doors(folder, DoorOptions()).close()
    finally:
        os.umask(before)
    api = f"{folder}/api"
    assert stat.S_IMODE(os.stat(api).st_mode) == 0o700
    files = [f"{folder}/kubeconfig", f"{folder}/api.sock", *(f"{api}/{n}" for n in os.listdir(api))]
    assert {stat.S_IMODE(os.stat(file).st_mode) for file in files} == {0o600}
    assert sorted(os.listdir(api)) == ["ca.crt", "port", "tls.crt", "tls.key", "token"]


async def test_everything_is_used_again_as_long_as_it_is_good(folder: str) -> None:
    def known() -> tuple[str, str, int]:
        with Doors(folder, DoorOptions()) as doors:
            return doors.token, doors.authority, doors.port

    first = known()
    assert known() == first
    with socket.socket() as other:
        other.bind(("127.0.0.1", first[2]))
        other.listen()
        token, authority, port = known()
        assert (token, authority) == first[:2]
        assert port != first[2]
    os.chmod(f"{folder}/api/token", 0o644)
    assert known()[0] != first[0], "somebody may have read it"
    os.unlink(f"{folder}/api/tls.key")
    renewed = known()
    assert renewed[1] != first[1]
    with open(f"{folder}/api/tls.crt", "w") as file:
        file.write("-----BEGIN CERT")
    assert known()[1] != renewed[1]


@pytest.mark.parametrize("year", [1970, 2000, 2036, 2070, 2999])
async def test_a_certificate_is_good_whatever_the_clock_is_set_to(
    folder: str, monkeypatch: pytest.MonkeyPatch, year: int
) -> None:
    """Also of a node that lives for years: it cannot be made anew without locking out copies of
    the kubeconfig."""
    first = auth.credentials(folder)
    for name in ("ca.crt", "tls.crt"):
        with open(f"{folder}/api/{name}", "rb") as file:
            found = x509.load_pem_x509_certificate(file.read())
        assert found.not_valid_before_utc == dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        assert found.not_valid_after_utc == dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
    then = dt.datetime(year, 6, 1, tzinfo=dt.UTC).timestamp()
    monkeypatch.setattr(auth.time, "time", lambda: then)
    assert auth.credentials(folder).ca == first.ca


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        pytest.param(-3650, 29, id="it ends soon"),
        pytest.param(3650, 7300, id="it is not good yet"),
    ],
)
async def test_a_certificate_that_is_of_no_use_is_made_anew(
    folder: str, monkeypatch: pytest.MonkeyPatch, begin: int, end: int
) -> None:
    """Earlier ones had an end."""
    with monkeypatch.context() as patch:
        now = dt.datetime.now(dt.UTC).replace(microsecond=0)
        patch.setattr(auth, "_BEGIN", now + dt.timedelta(days=begin))
        patch.setattr(auth, "_END", now + dt.timedelta(days=end))
        patch.setattr(auth, "_RENEWED", 0)
        then = time.time() + 86400 * (begin + 1)
        patch.setattr(auth.time, "time", lambda: then)
        first = auth.credentials(folder)
    assert auth.credentials(folder).ca != first.ca


async def test_another_programs_port_is_left_to_it_and_the_new_one_is_said(folder: str) -> None:
    with Doors(folder, DoorOptions()) as doors:
        assert doors.warnings == []
        port = doors.port
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with Doors(folder, DoorOptions()) as doors:
            [warning] = doors.warnings
            assert f"port {port} of the last life cannot be had (another program has it)" in warning
            assert f"the API is at port {doors.port} now" in warning
            with open(f"{folder}/kubeconfig") as file:
                assert doors.url in file.read()
            port = doors.port
    with Doors(folder, DoorOptions()) as doors:
        assert (doors.port, doors.warnings) == (port, [])


async def test_a_port_that_is_wanted_and_cannot_be_had_is_an_error(folder: str) -> None:
    port = free_port()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(NodeError, match=f"port {port} of 127.0.0.1: another program has it"):
            Doors(folder, DoorOptions(port=port))
    with Doors(folder, DoorOptions(port=port)) as doors:
        assert doors.port == port


async def test_a_full_disk_is_said_and_leaves_nothing_open(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_path: str, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(auth, "_write", full)
    with pytest.raises(NodeError, match=f"API of the node in {folder}: No space left on device"):
        Doors(folder, DoorOptions())


async def test_without_https_there_is_no_kubeconfig_either(folder: str) -> None:
    Doors(folder, DoorOptions()).close()
    with Doors(folder, DoorOptions(https=False)) as doors:
        assert (doors.url, doors.kubeconfig) == ("", "")
        assert [gate.port for _, gate, _ in doors.opened] == [0]
        assert not os.path.exists(f"{folder}/kubeconfig")


# --- plain http -----------------------------------------------------------------------------------


async def test_plain_http_is_open_to_programs_and_not_to_pages(folder: str) -> None:
    options = DoorOptions(https=False, insecure="127.0.0.1:0")
    async with opened(folder, options) as (_, doors):
        (warning,) = doors.warnings
        url = warning.partition(" ")[0]
        assert "every user and program of this machine" in warning
        assert (await ask(f"{url}/version", doors)).code == 200
        for header in ({"Host": "rebound.example"}, {"Origin": "http://evil.example"}):
            reply = await ask(f"{url}/version", doors, **header)
            assert reply.refusal[:2] == (403, "Forbidden")


@pytest.mark.parametrize(
    "place", ["0.0.0.0:8001", "8001", ":8001", "127.0.0.1:", "192.168.1.1:80", "host:1", "[::]:1",
              "127.0.0.1:99999", "127.0.0.1:http"],
)  # fmt: skip
async def test_plain_http_is_only_for_this_machine(folder: str, place: str) -> None:
    with pytest.raises(UsageError, match="takes a loopback address and a port"):
        Doors(folder, DoorOptions(insecure=place))


# --- the unix socket ------------------------------------------------------------------------------


async def test_a_socket_is_there_however_long_its_path_and_replaces_a_dead_one(
    folder: str,
) -> None:
    deep = f"{folder}/{'long' * 30}"
    os.mkdir(deep)
    for _ in range(2):
        with Doors(deep, DoorOptions(https=False)):
            fd = os.open(deep, os.O_PATH)
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(f"/proc/self/fd/{fd}/api.sock")
            os.close(fd)


class Peer:
    """The other end of a socket, of any user."""

    def __init__(self, uid: int) -> None:
        self.uid = uid

    def getsockopt(self, *_: int) -> bytes:
        return struct.pack("3i", 1, self.uid, self.uid)


async def test_a_socket_is_for_its_own_user_and_root() -> None:
    gate = auth.Gate()
    for uid in (os.geteuid(), 0):
        gate.check({}, Peer(uid))  # type: ignore[arg-type]
    for peer in (Peer(os.geteuid() + 1), None):
        with pytest.raises(auth.ApiError) as refused:
            gate.check({}, peer)  # type: ignore[arg-type]
        assert refused.value.code == 403


async def test_a_folder_of_somebody_else_is_not_used(folder: str) -> None:
    os.symlink("/tmp", f"{folder}/api")
    with pytest.raises(NodeError, match="not a folder of this user"):
        Doors(folder, DoorOptions())


async def test_too_many_connections_end_at_once(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("supervisor.apiserver.door.CONNECTIONS", 0)
    async with opened(folder, DoorOptions()) as (_, doors):
        with pytest.raises((aiohttp.ClientError, OSError)):
            await ask(f"{doors.url}/version", doors, f"Bearer {doors.token}")


@pytest.mark.parametrize("begun", [b"", b"GET /version HTTP/1.1\r\nHost: loc"])
async def test_who_asks_for_nothing_is_let_go(
    folder: str, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr("supervisor.apiserver.door.SILENCE", 1.0)
    async with opened(folder, DoorOptions()) as (_, doors):
        async with connected(doors) as (reader, writer):
            writer.write(begun)
            assert await reader.read() == b""
        async with connected(doors) as (reader, writer):  # whoever has asked may take his time
            for _ in range(2):
                writer.write(request(doors, doors.token))
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
                await reader.readuntil(b"}")
                await asyncio.sleep(1.2)


async def test_silent_connections_make_room_for_each_other(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("supervisor.apiserver.door.SILENT", 2)
    async with opened(folder, DoorOptions()) as (_, doors), contextlib.AsyncExitStack() as stack:
        first, second, third = [await stack.enter_async_context(connected(doors)) for _ in "123"]
        assert await first[0].read() == b""
        for reader, writer in (second, third):
            writer.write(request(doors, doors.token))
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_a_stranger_keeps_no_connection(folder: str) -> None:
    async with opened(folder, DoorOptions()) as (_, doors), connected(doors) as (reader, writer):
        writer.write(request(doors, "another"))
        assert (await reader.read()).startswith(b"HTTP/1.1 401 ")  # to its end


@contextlib.asynccontextmanager
async def connected(
    doors: Doors,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    context = ssl.create_default_context(cadata=doors.authority)
    reader, writer = await asyncio.open_connection("127.0.0.1", doors.port, ssl=context)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def request(doors: Doors, token: str) -> bytes:
    return (
        f"GET /version HTTP/1.1\r\nHost: localhost:{doors.port}\r\n"
        f"Authorization: Bearer {token}\r\n\r\n"
    ).encode()


async def test_the_next_life_writes_nothing_and_needs_no_room(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Doors(folder, DoorOptions()) as doors:
        first = doors.url, doors.token

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "fsync", full)
    with Doors(folder, DoorOptions()) as doors:
        assert (doors.url, doors.token) == first


async def test_those_that_do_not_even_begin_with_tls_are_counted(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("supervisor.apiserver.door.SILENT", 2)
    async with opened(folder, DoorOptions()) as (_, doors):
        silent = [await asyncio.open_connection("127.0.0.1", doors.port) for _ in range(4)]
        try:
            for reader, _ in silent[:2]:
                assert await reader.read() == b""
            reply = await ask(f"{doors.url}/version", doors, f"Bearer {doors.token}")
            assert reply.code == 200
        finally:
            for _, writer in silent:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
