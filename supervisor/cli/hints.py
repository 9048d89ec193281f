"""What a knowledgeable colleague would say once: hints about traps that manifests hide.

Called by the foreground session; each hint is said once for its subject. Hints look, and never
change what is done.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from supervisor.api import v1
from supervisor.lifecycle.hooks import Hook, HookEnd
from supervisor.runtime import procfs
from supervisor.runtime.cri import LaunchSpec

# A Python main that has written nothing for this long probably buffers its output.
SILENT_AFTER = 5.0
# A program that has just been refused a probe may need this long until it listens.
LISTENS_AFTER = 1.0


def port_conflicts(
    pods: Iterable[tuple[str, v1.Pod]], secrets: Iterable[str] = ()
) -> list[tuple[str, str]]:
    """(label, hint) for ports that the host already uses, or that two containers declare.

    Each pod comes with its label. Pods share the host's network, so a port can be bound
    once on this machine. `secrets`: what is not shown of the command of who holds a port.
    """
    secrets = tuple(secrets)
    hints: list[tuple[str, str]] = []
    declared: dict[tuple[str, int], str] = {}
    for name, pod in pods:
        for container in (*pod.spec.init_containers, *pod.spec.containers):
            if container in pod.spec.init_containers and not v1.is_sidecar(container):
                continue  # it has ended when the others run
            label = f"{name}/{container.name}"
            for port in container.ports:
                key = (port.protocol, port.container_port)
                other = declared.setdefault(key, label)
                if other != label:
                    hints.append(
                        (
                            label,
                            f"containerPort {port.container_port} is declared by {other} too; "
                            "containers share the host's network, only one can bind it",
                        )
                    )
                    continue
                holder = procfs.port_holder(port.container_port, port.protocol, secrets)
                if holder is not None:
                    who = (
                        f"process {holder.pid} ({holder.command})"
                        if holder.pid is not None
                        else f"a process of uid {holder.uid}"
                    )
                    hints.append(
                        (label, f"containerPort {port.container_port} is already held by {who}")
                    )
    return hints


def python_buffers(spec: LaunchSpec) -> str | None:
    """Why a silent main may only seem silent."""
    program = os.path.basename(spec.argv[0])
    env = dict(spec.env)
    if not program.startswith("python") or env.get("PYTHONUNBUFFERED"):
        return None
    if any(word.startswith("-") and "u" in word[1:] for word in _flags(spec.argv[1:])):
        return None
    return (
        f"nothing written for {SILENT_AFTER:.0f} s: Python keeps its output back when it is not "
        'a terminal; set env PYTHONUNBUFFERED to "1" to see it at once'
    )


def always_restarts(container: v1.Container, pod: v1.Pod) -> str | None:
    """Said when a container ends with 0 and is started again."""
    if container.restart_policy is not None or pod.spec.restart_policy != "Always":
        return None
    return (
        "ended with 0 and is started again: restartPolicy is Always, the default; "
        "use Never or OnFailure for work that ends"
    )


def post_start_refused(hook: Hook | None) -> str | None:
    """Said when a postStart has failed because nobody listened."""
    if hook is None or hook.end is not HookEnd.FAILED or "connection refused" not in hook.said:
        return None
    return (
        "a postStart runs beside the main, which may not listen yet, and is not tried again: "
        "let it wait for the main, or wait for that with a startupProbe instead"
    )


def refused_elsewhere(probe: v1.Probe, container: v1.Container, pid: int) -> str | None:
    """Said when a probe is refused: the program listens, but not where the probe asks.

    `pid` is the main process. Probes ask the pod's address, which is 127.0.0.1 here.
    """
    port = port_of(probe, container)
    places = procfs.listening(pid)
    if not places or port is None:
        return None
    if any(number == port and host in _ANSWERS_LOOPBACK for host, number in places):
        return None  # it has begun to listen since
    where = ", ".join(f"[{host}]:{at}" if ":" in host else f"{host}:{at}" for host, at in places)
    return (
        f"the probe asks 127.0.0.1:{port}, which is the pod's address here, but the program "
        f"listens at {where}; let it listen at 0.0.0.0:{port}, as it must in a cluster"
    )


# Addresses at which what is sent to 127.0.0.1 arrives.
_ANSWERS_LOOPBACK = frozenset({"0.0.0.0", "127.0.0.1", "::", "::ffff:127.0.0.1"})  # noqa: S104


def port_of(probe: v1.Probe, container: v1.Container) -> int | None:
    """The port that a probe asks at the pod's own address."""
    port: v1.IntOrString | None = None
    if probe.grpc is not None:
        port = probe.grpc.port
    elif (action := probe.http_get or probe.tcp_socket) is not None and not action.host:
        port = action.port
    if isinstance(port, str):
        return next((p.container_port for p in container.ports if p.name == port), None)
    return port


def readiness_gates(names: Iterable[str]) -> str:
    """Said when nothing but readiness gates keeps a pod from being ready."""
    return (
        f"all containers are ready, but the pod is not: readiness gates wait for the conditions "
        f"{', '.join(names)}, and nothing sets them here"
    )


def gates_of_api(names: Iterable[str], command: str) -> str:
    """The same of a node with an API, where anybody may set them; `command` does it by hand."""
    words = " ".join(f"{name}=True" for name in names)
    return (
        "all containers are ready, and the pod's readiness gates are waited for: a controller of "
        f"yours sets them, or by hand: {command} {words}"
    )


class Once:
    """Lets each (subject, hint) through one time."""

    def __init__(self, say: Callable[[str, str], None]) -> None:
        self._say = say
        self._said: set[tuple[str, str]] = set()

    def __call__(self, subject: str, text: str | None) -> None:
        if text is not None and (subject, text) not in self._said:
            self._said.add((subject, text))
            self._say(subject, f"hint: {text}")


def _flags(words: Iterable[str]) -> Iterable[str]:
    """The interpreter's own flags: what stands before the script."""
    for word in words:
        if not word.startswith("-") or word in ("-c", "-m"):
            return
        yield word
