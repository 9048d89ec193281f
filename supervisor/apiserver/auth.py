"""The doors of the API, and who may come in by which.

    unix socket   this user and root, told by the kernel: SO_PEERCRED. For our own command line
    HTTPS         on a loopback port; whoever has the token. For kubectl, which knows no unix socket
    plain HTTP    on a loopback port, for every user of the machine; only when it is asked for

local.py opens them, and server.py answers there. What they need over restarts lies in the folder
`api` of the state folder, readable by this user only: a certificate with its key, the CA that
signed it, the token, and the port. It is made once and used again as long as it is valid, so that a
copied kubeconfig goes on working. The CA's own key is never written: nobody can sign anything else
with it.

A page in a browser is a client, too. It can reach loopback ports, under a name of its own
(DNS rebinding) or openly, so the Host of every request must be this machine's own name for itself,
and its Origin must be ours.

The token and the keys are nowhere but in these files: not in a log, an argument or a variable.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import errno
import hmac
import ipaddress
import os
import re
import secrets
import socket
import ssl
import stat
import struct
import time
from collections.abc import Mapping

from msgspec import Struct

from supervisor.apiserver.contract import ApiError
from supervisor.errors import NodeError, UsageError

SOCKET = "api.sock"
KUBECONFIG = "kubeconfig"
NAME = "podvisor"  # of cluster, user and context
_FOLDER = "api"
_PATH_MAX = 107  # bytes of the path of a unix socket
BACKLOG = 1024  # hundreds of watches may begin at once
# A certificate has no end (RFC 5280, 4.1.2.5): with one that is made anew, copies of the kubeconfig
# are of no use, for the CA can sign nothing more. And clocks are set, also while a node runs: some
# machines begin in 1970.
_BEGIN = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_END = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
_RENEWED = 30 * 86400.0  # seconds before the end of one that has an end

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_LOCAL = re.compile(rf"({'|'.join(map(re.escape, _LOOPBACK))})(:[0-9]{{1,5}})?")


class Credentials(Struct, frozen=True, kw_only=True):
    """What HTTPS needs. `context` holds the certificate and its key."""

    token: str
    ca: bytes  # PEM
    context: ssl.SSLContext


class Gate(Struct, frozen=True, kw_only=True):
    """Decides about the requests of one door. Refusals are ApiErrors.

    `host` and `port` are where it listens; no port: a unix socket. `token`: what must be brought.
    """

    host: str = ""
    port: int = 0
    token: str = ""
    secure: bool = False

    @property
    def url(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.host}:{self.port}"

    def check(self, headers: Mapping[str, str], peer: socket.socket | None) -> None:
        if not self.port:
            if peer is None or not _is_trusted(peer):
                raise ApiError(403, "Forbidden", "this socket is for its own user")
            return
        self._check_origin(headers)
        if self.token:
            scheme, _, given = headers.get("Authorization", "").partition(" ")
            # Compared also where there is none, in the same time.
            if not is_same(given.strip(), self.token) or scheme.lower() != "bearer":
                raise ApiError(401, "Unauthorized", "Unauthorized")

    def _check_origin(self, headers: Mapping[str, str]) -> None:
        port = "" if self.port == (443 if self.secure else 80) else f":{self.port}"
        ours = {f"{name}:{self.port}" for name in _LOOPBACK} | {f"{n}{port}" for n in _LOOPBACK}
        host = headers.get("Host", "").lower()
        # The port is that of a tunnel or of `kubectl proxy`, where one stands between.
        if not _LOCAL.fullmatch(host):
            text = f"the host {host!r} is not this server: it is called {self.host}:{self.port}"
            raise ApiError(403, "Forbidden", text)
        origin = headers.get("Origin")
        if origin is not None and origin.lower().partition("://")[2] not in ours:
            raise ApiError(403, "Forbidden", "pages of other origins may not ask this server")


def is_same(given: str, token: str) -> bool:
    """Compared in a time that tells nothing of it."""
    return bool(token) and hmac.compare_digest(
        given.encode("utf-8", "surrogateescape"), token.encode()
    )


def _is_trusted(peer: socket.socket) -> bool:
    """Whether the other end of a unix socket is this user's, or root's."""
    found = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", found)
    return uid in (os.geteuid(), 0)


# --- where we listen ------------------------------------------------------------------------------


def listen_unix(state_dir: str) -> socket.socket:
    """The unix socket of a state folder, in place of what an earlier life has left.

    Raises OSError: not every file system has sockets.
    """
    folder = _private_folder(state_dir)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        # Nobody else can reach it before it has its mode.
        new = os.path.join(folder, f"{SOCKET}.new")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        _bind(listener, new)
        os.chmod(new, 0o600)
        listener.listen(BACKLOG)
        os.rename(new, os.path.join(state_dir, SOCKET))
    except OSError:
        listener.close()
        raise
    return listener


def _bind(listener: socket.socket, path: str) -> None:
    if len(os.fsencode(path)) <= _PATH_MAX:
        listener.bind(path)
        return
    folder, name = os.path.split(path)
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{fd}/{name}")
    finally:
        os.close(fd)


def listen_https(state_dir: str, wanted: int | None) -> tuple[socket.socket, str]:
    """A port of 127.0.0.1: the one that is wanted, else that of the last life if it is free, else
    any, with a warning.

    Raises NodeError where that one is wanted and cannot be had.
    """
    remembered = os.path.join(_private_folder(state_dir), "port")
    known = _read(remembered) or b""
    tries = [wanted] if wanted is not None else [int(known) if known.isdigit() else 0, 0]
    problem: Exception | None = None
    for port in tries:
        try:
            listener = _listen("127.0.0.1", port)
        except (OSError, OverflowError) as error:
            problem = error
            continue
        found = str(listener.getsockname()[1])
        _write(remembered, found.encode())
        warning = ""
        if wanted is None and known.isdigit() and known.decode() != found:
            warning = (
                f"port {known.decode()} of the last life cannot be had "
                f"({_why(problem)}): the API is at port {found} now, and so says {KUBECONFIG}; "
                "copies of it do not"
            )
        return listener, warning
    what = f"port {wanted}" if wanted else "a port"
    raise NodeError(f"cannot listen on {what} of 127.0.0.1: {_why(problem)}")


def listen_http(place: str) -> socket.socket:
    """For `--insecure-http ADDRESS:PORT`. Raises UsageError, NodeError."""
    host, _, port = place.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        is_loopback = bare == "localhost" or ipaddress.ip_address(bare).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback or not (port.isdigit() and int(port) < 1 << 16):
        raise UsageError(
            f"cannot listen on {place!r}: --insecure-http takes a loopback address and a port, "
            "as 127.0.0.1:8001, because whoever reaches it can run programs as you"
        )
    try:
        return _listen("127.0.0.1" if bare == "localhost" else bare, int(port))
    except OSError as error:
        raise NodeError(f"cannot listen on {place}: {_why(error)}") from error


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        # Connections of the last life may still be ending there.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def gate_of(listener: socket.socket, token: str = "", *, secure: bool = False) -> Gate:
    if listener.family == socket.AF_UNIX:
        return Gate()
    host, port = listener.getsockname()[:2]
    return Gate(host=f"[{host}]" if ":" in host else host, port=port, token=token, secure=secure)


def _why(error: Exception | None) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return "another program has it"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


# --- certificate, token, kubeconfig ---------------------------------------------------------------


def credentials(state_dir: str) -> Credentials:
    """Those of this node, made where they are missing, expire soon, or were open to others."""
    folder = _private_folder(state_dir)
    paths = {name: os.path.join(folder, name) for name in ("ca.crt", "tls.crt", "tls.key", "token")}
    found = _usable(paths)
    if found is None:
        ca, certificate, key = _certificates()
        _write(paths["tls.key"], key)
        _write(paths["tls.crt"], certificate)
        _write(paths["ca.crt"], ca)
        found = _usable(paths)
        assert found is not None, "a certificate that was just made is good"
    token = _read(paths["token"])
    if not token:
        token = secrets.token_urlsafe(32).encode()
        _write(paths["token"], token)
    ca, context = found
    return Credentials(token=token.decode(), ca=ca, context=context)


def write_kubeconfig(state_dir: str, credentials: Credentials, url: str) -> str:
    """What kubectl needs to get in, in one file; return its path."""
    path = os.path.join(state_dir, KUBECONFIG)
    text = f"""\
apiVersion: v1
kind: Config
clusters:
- name: {NAME}
  cluster:
    server: {url}
    certificate-authority-data: {base64.b64encode(credentials.ca).decode()}
users:
- name: {NAME}
  user:
    token: {credentials.token}
contexts:
- name: {NAME}
  context:
    cluster: {NAME}
    user: {NAME}
    namespace: default
current-context: {NAME}
"""
    _write(path, text.encode())
    return path


def remove_kubeconfig(state_dir: str) -> None:
    """There is no port that it could lead to."""
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(state_dir, KUBECONFIG))


def _usable(paths: Mapping[str, str]) -> tuple[bytes, ssl.SSLContext] | None:
    ca = _read(paths["ca.crt"])
    if ca is None or any(_read(paths[name]) is None for name in ("tls.crt", "tls.key")):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # The one that it is shown by is read in the same way, so one that is cut off is noticed.
    looked_at = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        looked_at.load_verify_locations(cadata=ca.decode())
        found = looked_at.get_ca_certs()[0]
        begin, end = (ssl.cert_time_to_seconds(str(found[k])) for k in ("notBefore", "notAfter"))
        context.load_cert_chain(paths["tls.crt"], paths["tls.key"])
    except (ssl.SSLError, ValueError, IndexError, OSError):
        return None
    # Both are made together and end together.
    return (ca, context) if begin <= time.time() < end - _RENEWED else None


def _certificates() -> tuple[bytes, bytes, bytes]:
    """A CA, a certificate for this machine's loopback that it has signed, and its key; PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    # Two nodes have two: a name that clients cannot mix up.
    number = x509.random_serial_number()
    issuer = named(f"{NAME}-ca-{number & 0xFFFFFFFF:08x}")
    own = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())

    def begin(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder(subject_name=subject, issuer_name=issuer)
        builder = builder.public_key(public).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(_BEGIN).not_valid_after(_END)
        subject_id = x509.SubjectKeyIdentifier.from_public_key(public)
        return builder.add_extension(subject_id, critical=False)

    def usage(*, signs: bool) -> x509.KeyUsage:
        return x509.KeyUsage(
            digital_signature=not signs,
            key_cert_sign=signs,
            crl_sign=signs,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )

    ca = (
        begin(issuer, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(signs=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    names: list[x509.GeneralName] = [x509.DNSName("localhost")]
    names += [x509.IPAddress(ipaddress.ip_address(each)) for each in ("127.0.0.1", "::1")]
    certificate = (
        begin(named(NAME), key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return ca.public_bytes(pem), certificate.public_bytes(pem), secret


# --- files for this user only ---------------------------------------------------------------------


def _private_folder(state_dir: str) -> str:
    """Raises OSError, and NodeError where it is not ours."""
    path = os.path.join(state_dir, _FOLDER)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise NodeError(f"cannot use {path}: it is not a folder of this user")
    os.chmod(path, 0o700)
    return path


def _read(path: str) -> bytes | None:
    """None where there is no such file, or others may have read or written it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with open(fd, "rb") as file:
        found = os.fstat(fd)
        is_private = found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077
        return file.read() if is_private and stat.S_ISREG(found.st_mode) else None


def _write(path: str, data: bytes) -> None:
    """There as a whole or not at all, and never open to anybody else."""
    if _read(path) == data:
        return  # the next life on a full disk begins like the last one
    new = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd)
    os.rename(new, path)
