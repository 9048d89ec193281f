"""`podvisor restart`: pods anew, as they are."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from supervisor.cli import options
from supervisor.cli.completing import complete_pod
from supervisor.errors import ExitCode, NodeError, PodTimeout, StatusError, UsageError

if TYPE_CHECKING:
    from supervisor.client import Client

NO_ARGS_IS_HELP = True

_KEPT = ("annotations", "finalizers", "labels", "name", "namespace", "ownerReferences")
_OF_THE_NODE = ("ephemeralContainers", "nodeName")  # in a spec


def command(
    pods: Annotated[
        list[str],
        typer.Argument(metavar="POD[/CONTAINER]", help="Which pods.", autocompletion=complete_pod),
    ],
    grace_period: Annotated[
        int | None,
        typer.Option(min=0, max=2**31 - 1, metavar="SECONDS", help="Grace, if not its own."),
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="How long a new pod may take to be Ready."),
    ] = None,
    namespace: options.Namespace = "default",
    state_dir: options.StateDir = None,
) -> None:
    """Replace pods by equal ones: each is deleted gracefully, created again, and waited for until
    it is Ready.

    The new pod has another uid, empty volumes and restart counts of 0. Kubernetes cannot restart
    one container of a pod; POD/CONTAINER replaces the whole pod, too.

    Examples:

      podvisor restart web

      podvisor restart web/nginx db --timeout 1m
    """
    from supervisor.cli import asking, complain
    from supervisor.client import PODS
    from supervisor.project import manifests

    limit = manifests.duration("--timeout", timeout)
    node = asking.client(state_dir)
    found: list[Any] = []
    for word in pods:
        kind, slash, rest = word.partition("/")
        is_type = slash and kind in ("po", "pod", "pods")
        pod = node.get(PODS, namespace, rest if is_type else kind)
        if slash and not is_type:
            names = asking.containers(pod)
            if rest not in names:
                raise UsageError(f"cannot restart {word}: pod {kind} has {', '.join(names)}")
            complain(f"podvisor: pod {kind} is replaced with all of its containers")
        if pod["metadata"]["uid"] not in [each["metadata"]["uid"] for each in found]:
            found.append(pod)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    failed = [pod for pod in found if not _restart(node, pod, grace_period, limit)]
    if failed:
        raise typer.Exit(ExitCode.NEGATIVE)


def _restart(node: Client, pod: Any, grace: int | None, limit: float | None) -> bool:
    """Whether the new one has come up. Raises NodeError, StatusError, PodTimeout."""
    from supervisor.cli import bringing, complain, removing, sources
    from supervisor.client import PODS

    meta = pod["metadata"]
    namespace, name = meta["namespace"], meta["name"]
    # A pod of the files that `serve` watches is created again by the node itself.
    by_node = sources.is_from_file(bringing.convert(pod))
    kept = "" if by_node else _keep(node.state_dir, _again(pod))
    try:
        # Deleted already, it is only waited for.
        node.delete(PODS, namespace, name, grace=grace, uid=meta["uid"])
        print(f'pod "{name}" deleted', flush=True)
        removing.await_end(node, removing.Target(PODS, namespace, name, meta["uid"]))
        if kept:
            node.create(PODS, namespace, _again(pod))
            os.unlink(kept)
            kept = ""
            print(f"pod/{name} created", flush=True)
        return _await_ready(node, namespace, name, meta["uid"], limit)
    except KeyboardInterrupt:
        if kept:
            complain(
                f"podvisor: pod {name} is being deleted and was not created again: "
                f"`podvisor apply -f {kept}` does that"
            )
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except (NodeError, StatusError):
        if kept:
            complain(f"podvisor: the manifest of pod {name} is in {kept}")
        raise


def _again(pod: Any) -> dict[str, Any]:
    """The manifest of a pod, without what the node has said of it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {key: pod["metadata"][key] for key in _KEPT if key in pod["metadata"]},
        "spec": {key: value for key, value in pod["spec"].items() if key not in _OF_THE_NODE},
    }


def _keep(place: str, manifest: dict[str, Any]) -> str:
    """Where the manifest of a pod is while there is no pod: whatever ends us must not lose it."""
    meta = manifest["metadata"]
    path = os.path.join(place, f"restart-{meta['namespace']}-{meta['name']}.json")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
            json.dump(manifest, file)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise NodeError(f"cannot write {path}: {error.strerror}") from error
    return path


def _await_ready(node: Client, namespace: str, name: str, old: str, limit: float | None) -> bool:
    from supervisor.cli import bringing, complain, hints
    from supervisor.client import PODS

    is_new = False  # whether that one was seen
    is_hinted = False  # at its readiness gates
    for object in node.states(PODS, namespace, name, timeout=limit):
        pod = None if object is None else bringing.convert(object)
        if pod is not None and pod.metadata.uid != old:
            is_new = True
        if not is_new:
            continue
        why = "was deleted" if pod is None else bringing.trouble(pod)
        if why:
            complain(f"podvisor: pod {name} does not come up: {why}")
            return False
        if pod is not None and bringing.is_up(pod):
            print(f"pod/{name} ready", flush=True)
            return True
        if pod is not None and not is_hinted and (gates := bringing.open_gates(pod)):
            is_hinted = True
            how = bringing.setting(pod, node.state_dir)
            complain(f"podvisor: pod {name}: {hints.gates_of_api(gates, how)}")
    raise PodTimeout(f"pod {name} is not ready after {limit:.0f} s, and still coming up")
