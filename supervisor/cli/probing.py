"""One probe without a pod, behind `podvisor probe`.

No pod is started and none is looked for. HTTP, gRPC and TCP probes ask 127.0.0.1, as those of a
running pod do; exec probes run as a plain local process with the container's environment in the
container's folder, as this user, since there is no container to run them in; not where that would
have something mounted, for what came of it would say nothing about the container.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterable

import anyio
from msgspec.structs import replace

from supervisor import narration
from supervisor.api import v1
from supervisor.cli import hints
from supervisor.errors import UsageError
from supervisor.kubelet.handlers import Handlers, Observation, describe
from supervisor.lifecycle.facts import ContainerId, ProbeKind, ProbeOutcome
from supervisor.lifecycle.probing import probe_of
from supervisor.project import homes
from supervisor.project.manifests import Loaded, LoadedPod
from supervisor.runtime import mounts, procfs, spec
from supervisor.runtime.cri import ExecError, ExecResult, Isolation, LaunchSpec, StartError

_HOST = "127.0.0.1"  # of every pod


def probe_now(loaded: Loaded, target: str, kind: ProbeKind) -> bool:
    """Make a probe once and print what it gave; return whether it succeeded.

    `target` is POD/CONTAINER, or NAMESPACE/POD/CONTAINER. Raises UsageError.
    """
    home, container = _find(loaded.pods, target)
    probe = probe_of(container, kind)
    if probe is None:
        others = [str(k) for k in ProbeKind if probe_of(container, k) is not None]
        raise UsageError(
            f"cannot probe {target}: it has no {kind} probe"
            + (f", but {' and '.join(others)}" if others else "")
        )
    missing = _mounted(home, container) if probe.exec is not None else ()
    if missing:
        raise UsageError(
            f"cannot run the {kind} probe of {target} here: only its container has what is mounted "
            f"at {', '.join(missing)}"
        )
    print(f"{target} {kind}: {describe(probe, container, _HOST)}")
    if probe.exec is not None:
        print("run as a plain local process: no container of this manifest is looked for")
    seen, took = anyio.run(
        _observe, probe, container, home, loaded.configuration(), backend="asyncio"
    )
    said = seen.output if probe.exec is not None else narration.first_words(seen.output)
    text = f": {said.rstrip()}" if said.strip() else ""
    print(f"{seen.outcome} after {took:.3f} s{text}")
    print(f"the kubelet: {conclusion(kind, probe, seen.outcome)}")
    if seen.outcome is ProbeOutcome.FAILURE and "connection refused" in seen.output:
        _say_who_listens(probe, container)
    return seen.outcome in (ProbeOutcome.SUCCESS, ProbeOutcome.WARNING)


def conclusion(kind: ProbeKind, probe: v1.Probe, outcome: ProbeOutcome) -> str:
    """What the kubelet makes of an attempt like this, and of more like it."""
    if outcome is ProbeOutcome.ERROR:
        return (
            "nothing: the probe itself cannot be made, so it is no failure of the container; "
            "an event says so at each attempt"
        )
    needed = probe.failure_threshold
    if outcome is ProbeOutcome.FAILURE:
        span = (needed - 1) * probe.period_seconds
        when = f"after {needed} in a row, {span} s after the first," if needed > 1 else "at once"
        match kind:
            case ProbeKind.READINESS:
                return f"a failure; {when} the container is not ready and gets no traffic"
            case ProbeKind.LIVENESS:
                return f"a failure; {when} the container is killed, and restarted by its policy"
            case ProbeKind.STARTUP:
                return f"a failure; {when} the container is killed, and restarted by its policy"
    warned = ", with a ProbeWarning event" if outcome is ProbeOutcome.WARNING else ""
    match kind:
        case ProbeKind.READINESS if probe.success_threshold > 1:
            return f"a success{warned}; after {probe.success_threshold} in a row it is ready"
        case ProbeKind.READINESS:
            return f"a success{warned}; the container is ready"
        case ProbeKind.LIVENESS:
            return f"a success{warned}; the container goes on"
        case ProbeKind.STARTUP:
            return f"a success{warned}; the container has started, its other probes begin"


def _find(pods: Iterable[LoadedPod], target: str) -> tuple[LoadedPod, v1.Container]:
    known: list[str] = []
    for home in pods:
        meta, its = home.pod.metadata, home.pod.spec
        for container in (*its.init_containers, *its.containers):
            name = f"{meta.name}/{container.name}"
            if target in (name, f"{meta.namespace}/{name}"):
                return home, container
            known.append(name)
    raise UsageError(f"cannot find {target}: there is {', '.join(known) or 'no pod'}")


def _mounted(home: LoadedPod, container: v1.Container) -> tuple[str, ...]:
    """The paths at which a container sees something else than this machine has there."""
    found = home.project.images.find(container.image)
    paths = [target for target, _ in found.image.paths] if found is not None else []
    hosts = [mounts.HOSTS] if home.pod.spec.host_aliases else []
    return (*(mount.mount_path for mount in container.volume_mounts), *paths, *hosts)


async def _observe(
    probe: v1.Probe, container: v1.Container, home: LoadedPod, configuration: spec.Configuration
) -> tuple[Observation, float]:
    handlers = Handlers()
    try:
        await handlers.prepare(probe)
        begin = time.monotonic()
        seen = await handlers.run_probe(
            probe, container, host=_HOST, execute=_LocalExec(home, container, configuration)
        )
        return seen, time.monotonic() - begin
    finally:
        await handlers.close()


class _LocalExec:
    """Runs an exec probe beside podvisor, as the container would be started."""

    def __init__(
        self, home: LoadedPod, container: v1.Container, configuration: spec.Configuration
    ) -> None:
        self._home = home
        self._container = container
        self._configuration = configuration

    async def __call__(
        self,
        argv: tuple[str, ...],
        *,
        timeout: float | None,
        limit: int,
    ) -> ExecResult:
        try:
            launched = self._launch_spec()
        except StartError as error:
            raise ExecError(error.message) from error
        env = dict(launched.env)
        program = argv[0]
        if "/" not in program:
            program = shutil.which(program, path=env.get("PATH")) or ""
        if not program:
            raise ExecError(f'exec: "{argv[0]}": executable file not found in $PATH')
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                executable=program,
                env=env,
                cwd=launched.cwd,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise ExecError(f'exec: "{argv[0]}": {error.strerror}') from error
        try:
            async with asyncio.timeout(timeout):
                out, err = await process.communicate()
        except TimeoutError:
            return ExecResult(None, b"")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            # Its end is told by a thread of asyncio's, which must not find the loop closed.
            await process.wait()
        code = process.returncode or 0
        return ExecResult(code if code >= 0 else 128 - code, (out + err)[:limit])

    def _launch_spec(self) -> LaunchSpec:
        home = self._home
        info = homes.node_info(Isolation.GROUP, home.directory)
        info = replace(
            info,
            working_dir=home.directory,
            environ=tuple(spec.inherited(os.environ, home.project.pass_env).items()),
            images=home.project.images,
            given=home.project.given,
            configuration=self._configuration,
        )
        id = ContainerId(home.pod.metadata.uid, self._container.name, 0)
        container = replace(self._container, lifecycle=None)  # no hook is run here
        # What others mount is nothing to it.
        containers = tuple(replace(c, volume_mounts=()) for c in home.pod.spec.containers)
        inits = tuple(replace(c, volume_mounts=()) for c in home.pod.spec.init_containers)
        its = replace(home.pod.spec, containers=containers, init_containers=inits)
        return spec.launch_spec(replace(home.pod, spec=its), container, id, info)


def _say_who_listens(probe: v1.Probe, container: v1.Container) -> None:
    """Nobody answers at the port; say if it is held all the same, at another address."""
    port = hints.port_of(probe, container)
    holder = procfs.port_holder(port) if port is not None else None
    if holder is None:
        print(f"hint: nothing listens at port {port} of this machine")
    else:
        who = f"process {holder.pid} ({holder.command})" if holder.pid else f"uid {holder.uid}"
        print(
            f"hint: port {port} is held by {who}, but not at 127.0.0.1; "
            f"let it listen at 0.0.0.0:{port}"
        )
