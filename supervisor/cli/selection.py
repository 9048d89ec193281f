"""Which containers of a manifest are meant: `--only C`, `--except C`, `--exit-code-from C`.

A container is named by its own name, by POD/C or by NAMESPACE/POD/C. POD may be the workload's name
with its kind, too: that is what its pod is called where another kind has the name. What is left out
is left out before the pod is judged, so what cannot run here does not have to; what is said about
the rest is moved to where it stands in the manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import replace

from supervisor.api import v1
from supervisor.api.problems import Finding, Path
from supervisor.errors import UsageError
from supervisor.project.manifests import LoadedPod, with_kind

_LISTS = ("initContainers", "containers")


class Selection:
    """What `--only` and `--except` leave of the pods that it is shown."""

    def __init__(self, only: Iterable[str] = (), without: Iterable[str] = ()) -> None:
        self._only = _split(only)
        self._without = _split(without)
        self._known: list[str] = []
        self._met: set[str] = set()  # those that named something

    def admit(
        self,
        data: Any,
        admit_pod: Callable[[Any], tuple[v1.Pod | None, list[Finding]]],
        kind: str = "Pod",
    ) -> tuple[v1.Pod | None, list[Finding]]:
        """`admit_pod` with what is left; a pod without app containers is none, and not wrong."""
        spec = data.get("spec") if isinstance(data, dict) else None
        if not (self._only or self._without) or not isinstance(spec, dict):
            return admit_pod(data)
        if not isinstance(spec.get("containers"), list):
            return admit_pod(data)
        left: dict[str, list[Any]] = {}
        places: dict[str, list[int]] = {}
        for field in _LISTS:
            items = spec.get(field)
            if isinstance(items, list):
                places[field] = [
                    at for at, item in enumerate(items) if self._is_left(data, item, kind)
                ]
                left[field] = [items[at] for at in places[field]]
        if spec["containers"] and not left["containers"]:
            return None, []
        pod, findings = admit_pod({**data, "spec": {**spec, **left}})

        def moved(path: Path) -> Path:
            if len(path) > 2 and path[0] == "spec" and path[1] in places:
                return (*path[:2], places[str(path[1])][int(path[2])], *path[3:])
            return path

        return pod, [
            replace(f, path=moved(f.path), place=None if f.place is None else moved(f.place))
            for f in findings
        ]

    def check(self, pods: Iterable[LoadedPod]) -> None:
        """Raises UsageError for a name that named nothing, and where no pod is left."""
        unknown = [
            f"{option} {','.join(names)}"
            for option, given in (("--only", self._only), ("--except", self._without))
            if (names := [name for name in given if name not in self._met])
        ]
        if unknown:
            raise UsageError(f"cannot use {' and '.join(unknown)}: {_those(self._known)}")
        if not tuple(pods) and (self._only or self._without):
            raise UsageError(f"cannot run what is left: no app container of {_list(self._known)}")

    def _is_left(self, data: dict[str, Any], item: Any, kind: str) -> bool:
        meta = data.get("metadata")
        meta = meta if isinstance(meta, dict) else {}
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str):
            return True  # which is wrong, and has to be said
        namespace, pod = meta.get("namespace") or "default", str(meta.get("name"))
        pods = {pod} if kind == "Pod" else {pod, with_kind(pod, kind)}
        names = {name, *(f"{p}/{name}" for p in pods), *(f"{namespace}/{p}/{name}" for p in pods)}
        self._known.append(f"{pod}/{name}")
        met = names & {*self._only, *self._without}
        self._met |= met
        return not met & {*self._without} and (not self._only or bool(met))


def _split(given: Iterable[str]) -> tuple[str, ...]:
    """Names that may stand in one word with commas between them, which no name has."""
    return tuple(name for word in given for name in word.split(","))


def find(pods: Iterable[LoadedPod], option: str, target: str) -> tuple[LoadedPod, v1.Container]:
    """The one container of that name. Raises UsageError."""
    known: list[str] = []
    found: list[tuple[str, LoadedPod, v1.Container]] = []
    for home in pods:
        meta, spec = home.pod.metadata, home.pod.spec
        for container in (*spec.init_containers, *spec.containers):
            name = f"{meta.name}/{container.name}"
            known.append(name)
            if target in (container.name, name, f"{meta.namespace}/{name}"):
                found.append((f"{meta.namespace}/{name}", home, container))
    if len(found) > 1:
        names = " or ".join(name for name, _, _ in found)
        raise UsageError(f"cannot use {option} {target}: say {names}")
    if not found:
        raise UsageError(f"cannot use {option} {target}: {_those(known)}")
    return found[0][1:]


def _those(known: list[str]) -> str:
    return f"there is {_list(known)}"


def _list(known: list[str]) -> str:
    return ", ".join(known) or "no container"
