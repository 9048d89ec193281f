"""A node that serves its API, for all tests of a worker, and the real clients that drive it."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from supervisor.client import PODS, Client, Kind
from tests import support
from tests.runtime.conftest import _warm_loops, nothing_left  # noqa: F401  (fixtures)
from tests.support import BEST, Durable, wait_for

_VERSION = re.compile(r"v(\d+)\.(\d+)")
_SECONDS = 60  # that one call may take on a busy machine
NAMESPACES = Kind("namespaces", "namespace", "Namespace", namespaced=False)


class Kubectl:
    """One kubectl, with a home of its own, in one namespace."""

    def __init__(self, binary: str, version: tuple[int, int], kubeconfig: str, home: str) -> None:
        self.binary = binary
        self.version = version
        self.kubeconfig = kubeconfig
        self.namespace = "default"
        self._env = {
            "HOME": home,
            "KUBECONFIG": kubeconfig,
            "PATH": os.environ["PATH"],
            "KUBE_EDITOR": "false",
            "GOGC": "off",  # each lives for a moment
        }

    def __call__(self, *words: str, fails: bool = False, **options: Any) -> str:
        """What it prints on stdout; of a call that fails what it prints on stderr."""
        done = self.run(*words, **options)
        assert (done.returncode != 0) == fails, f"{words}: {done.stdout}\n{done.stderr}"
        return done.stderr if fails else done.stdout

    def run(
        self, *words: str, input: str | dict[str, Any] | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        if isinstance(input, dict):
            input = json.dumps(input)
        return subprocess.run(
            self.command(*words),
            input=input if input is not None else "",
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            env=self._env | env,
            check=False,
        )

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """In the background; the caller ends it."""
        return subprocess.Popen(
            self.command(*words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._env,
            **options,
        )

    def command(self, *words: str) -> list[str]:
        return [self.binary, f"--namespace={self.namespace}", *words]

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "-o", "json"))


def _found() -> list[tuple[tuple[int, int], str]]:
    """Every kubectl of this machine with its version, the oldest first.

    What is called kubectl may be one that calls the version that the server has: those lie beside
    it, with the version in their name.
    """
    paths: dict[pathlib.Path, None] = {}  # each once: two folders may be one
    for folder in os.environ["PATH"].split(os.pathsep):
        path = pathlib.Path(folder) / "kubectl"
        if path.exists():
            real = path.resolve()
            paths |= dict.fromkeys([real, *real.parent.glob("kubectl.*")])
    found: dict[tuple[int, int], str] = {}
    for path in paths:
        if not os.access(path, os.X_OK):
            continue
        if named := re.fullmatch(r"kubectl\.(\d+)\.(\d+)", path.name):
            # Not asked: every worker is here before it knows whether it will need one.
            found.setdefault((int(named[1]), int(named[2])), str(path))
            continue
        told = subprocess.run(
            [path, "version", "--client", "-o", "json"],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        version = told.stdout and json.loads(told.stdout)["clientVersion"]["gitVersion"]
        match = _VERSION.match(version or "")
        if match and "dispatcher" not in version:
            found.setdefault((int(match[1]), int(match[2])), str(path))
    return sorted(found.items())


KUBECTLS = _found()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Durable]:
    """A node without files, whose kubeconfig is in its state folder.

    Not for longer than a module: tests of others look at all the children that this process has.
    """
    places = support.places(BEST)
    place = next(places)
    node = Durable(place)
    session = node.serve("--state-dir", node.state)
    try:
        wait_for(lambda: os.path.exists(f"{node.state}/kubeconfig"), "the kubeconfig")
        yield node
        session.signal(signal.SIGINT)
        session.wait(130, leaves=True)
    finally:
        session.kill()
        node.kill_everything()
        next(places, None)


@pytest.fixture(scope="session")
def _home(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("home"))


_count = 0


def _in_own_namespace(cluster: Durable, kubectl: Kubectl) -> Iterator[Kubectl]:
    """Made and removed without kubectl, each start of which takes a tenth of a second."""
    global _count
    _count += 1
    kubectl.namespace = name = f"test-{os.getpid()}-{_count}"
    client = Client(cluster.state)
    client.create(NAMESPACES, "", {"metadata": {"name": name}})
    yield kubectl
    client.json("DELETE", PODS.path(name), query={"gracePeriodSeconds": 0})
    client.delete(NAMESPACES, "", name)
    wait_for(lambda: client.find(NAMESPACES, "", name) is None, "the end of the namespace")


def _client(cluster: Durable, home: str, version: tuple[int, int], binary: str) -> Kubectl:
    return Kubectl(binary, version, f"{cluster.state}/kubeconfig", f"{home}/{binary}")


@pytest.fixture
def kubectl(cluster: Durable, _home: str) -> Iterator[Kubectl]:
    """The newest one, in a namespace of its own."""
    if not KUBECTLS:
        pytest.skip("there is no kubectl on this machine (Debian: apt install kubernetes-client)")
    yield from _in_own_namespace(cluster, _client(cluster, _home, *KUBECTLS[-1]))


@pytest.fixture(params=KUBECTLS, ids=lambda found: ".".join(map(str, found[0])))
def each_kubectl(cluster: Durable, _home: str, request: pytest.FixtureRequest) -> Iterator[Kubectl]:
    """Every one, in a namespace of its own."""
    yield from _in_own_namespace(cluster, _client(cluster, _home, *request.param))
