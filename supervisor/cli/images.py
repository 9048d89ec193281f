"""`podvisor images`: what the images of a manifest stand for on this machine.

For each container the image, the entry of podvisor.toml or the `--map` that speaks for it, the
words that it runs and the file that the first of them is, looked up as the launcher does it.
Nothing is started, and nothing but names and modes of files is looked at.
"""

from __future__ import annotations

import enum
import os
import shlex
import stat
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import Struct

from supervisor.cli import options
from supervisor.errors import ExitCode, ManifestError

if TYPE_CHECKING:
    from supervisor.api import v1
    from supervisor.project.manifests import LoadedPod
    from supervisor.runtime import spec
    from supervisor.runtime.cri import LaunchSpec, Mount

NO_ARGS_IS_HELP = True

_WIDEST = 40  # characters of a command that the table shows


class Output(enum.StrEnum):
    JSON = "json"


class Listed(Struct, frozen=True, rename="camel"):
    """What one container runs; `-o json` prints these."""

    namespace: str
    pod: str
    container: str
    image: str
    rule: str = ""  # that speaks for the image: a key of podvisor.toml, or --map and its image
    config: str = ""  # the podvisor.toml that has its entries, or would have them
    command: tuple[str, ...] = ()
    file: str = ""  # absolute, on this machine
    volume: str = ""  # of the pod's own, where the program is looked up instead
    problem: str = ""  # why it cannot be run
    unmapped: bool = False  # it needs an entry


def command(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE|DIR|-...", help="Manifests, YAML or JSON.")
    ],
    maps: options.Map = None,
    output: Annotated[
        Output | None, typer.Option("--output", "-o", help="Print everything as JSON.")
    ] = None,
) -> None:
    """List the images of manifests, and what each stands for here.

    For every container: its image, what maps it, the command it runs and which file that is, found
    in the container's PATH. Exit code 1 when one has nothing to run, or its program is not there.

    Examples:

      podvisor images deploy/

      podvisor images pod.yaml --map registry.example/web='python3 -m web' -o json
    """
    import msgspec

    from supervisor import narration
    from supervisor.cli import complain
    from supervisor.project import manifests

    loaded = manifests.load(files, maps=manifests.parse_maps(maps), without_programs=True)
    configuration = loaded.configuration()
    for problem in loaded.problems:
        complain(str(problem))
    if manifests.refused(loaded.problems):
        raise ManifestError(manifests.summary(loaded.problems))
    listed = [
        _listed(home, container, configuration)
        for home in loaded.pods
        for container in (*home.pod.spec.init_containers, *home.pod.spec.containers)
    ]
    if output is None:
        head = ("CONTAINER", "IMAGE", "MAPPED BY", "RUNS", "FILE")
        print(narration.table([head, *map(_row, listed)]), end="")
        advice = _advice(listed)
        if advice:
            complain(advice)
    else:
        print(msgspec.json.format(msgspec.json.encode(listed), indent=2).decode())
    if any(each.problem for each in listed):
        raise typer.Exit(int(ExitCode.NEGATIVE))


def _listed(home: LoadedPod, container: v1.Container, configuration: spec.Configuration) -> Listed:
    from msgspec.structs import replace

    from supervisor.lifecycle.facts import ContainerId
    from supervisor.project import homes
    from supervisor.runtime import images
    from supervisor.runtime.cri import Isolation, StartError, veil
    from supervisor.runtime.spec import inherited, launch_spec

    known = home.project.images
    found = known.find(container.image)
    meta = home.pod.metadata
    listed = Listed(
        namespace=meta.namespace,
        pod=meta.name,
        container=container.name,
        image=container.image,
        rule=found.rule if found is not None else "",
        config=known.file,
    )
    if images.no_program(container, known) is not None:
        return replace(listed, problem="nothing to run", unmapped=True)
    # In the modes with mounts; that `group` has none is said when something is to run in it.
    info = replace(
        homes.node_info(Isolation.PIDNS, home.directory),
        working_dir=home.directory,
        environ=tuple(inherited(os.environ, home.project.pass_env).items()),
        given=tuple(home.project.given),
        configuration=configuration,
        images=known,
    )
    # What a container is to find in a file of a volume, nobody has written yet.
    env = tuple(v for v in container.env if v.value_from is None or not v.value_from.file_key_ref)
    container = replace(container, env=env)
    try:
        launched = launch_spec(home.pod, container, ContainerId("", container.name, 0), info)
    except StartError as error:
        return replace(listed, problem=error.message)
    places = _places(launched)
    file, problem = _file(places, launched.mounts)
    volume = "" if file else _volume(places, home.pod, container)
    return replace(
        listed,
        command=tuple(veil(word, launched.veiled) for word in launched.argv),
        file=veil(file, launched.veiled),
        volume=volume,
        problem="" if volume else problem,
    )


def _places(launched: LaunchSpec) -> list[str]:
    """Where the container looks for its program."""
    program = launched.argv[0]
    path = dict(launched.env).get("PATH", "")
    if "/" in program:
        places = [program]
    else:
        places = [f"{folder or '.'}/{program}" for folder in path.split(":")] if program else []
    return [os.path.normpath(os.path.join(launched.cwd, place)) for place in places]


def _file(places: list[str], mounts: tuple[Mount, ...]) -> tuple[str, str]:
    """Which file of this machine the program is, and what is wrong with it."""
    there = ""
    for place in places:
        file = os.fsdecode(_on_host(place, mounts).encode("utf-8", "surrogateescape"))
        try:
            regular = stat.S_ISREG(os.stat(file).st_mode)
        except (OSError, ValueError):
            continue
        if regular and os.access(file, os.X_OK):
            return file, ""
        there = there or file
    return there, "not executable" if there else "not found"


def _volume(places: list[str], pod: v1.Pod, container: v1.Container) -> str:
    """The volume that may hold the program: what is in it is not there before the pod starts."""
    there = {volume.name for volume in pod.spec.volumes if volume.host_path is not None}
    made = [mount for mount in container.volume_mounts if mount.name not in there]
    for place in places:
        for mount in made:
            if place.startswith(f"{os.path.normpath(mount.mount_path)}/"):
                return mount.name
    return ""


def _on_host(path: str, mounts: tuple[Mount, ...]) -> str:
    """Where on the host a path of the container is; the deepest mount speaks for it."""
    for mount in reversed(mounts):
        if path == mount.target or path.startswith(f"{mount.target}/"):
            return mount.source + path[len(mount.target) :]
    return path


def _row(listed: Listed) -> tuple[str, ...]:
    from supervisor.api.problems import printable

    words = " ".join(shlex.join(listed.command).split())
    file = f"{listed.file} ({listed.problem})" if listed.file and listed.problem else listed.file
    file = f"in volume {listed.volume}" if listed.volume else file
    of_file = listed.rule and not listed.rule.startswith("--map ")
    cells = (
        f"{listed.pod}/{listed.container}",
        listed.image or "-",
        f"{listed.config}: {listed.rule}" if of_file else listed.rule or "-",
        words[:_WIDEST] + ("…" if len(words) > _WIDEST else "") or "-",
        file or listed.problem,
    )
    return tuple(printable(cell) for cell in cells)


def _advice(listed: list[Listed]) -> str:
    """The lines to add to podvisor.toml."""
    from supervisor.api.problems import printable
    from supervisor.runtime.images import suggested_key

    wanting: dict[str, dict[tuple[str, str], None]] = {}
    for each in listed:
        if each.unmapped:
            entry = each.rule, suggested_key(each.image)
            wanting.setdefault(each.config, {})[entry] = None
    lines = []
    for file, entries in wanting.items():
        lines += ["", f"Add to {printable(file)}, or use --map IMAGE=COMMAND:"]
        for rule, key in entries:
            line = 'entrypoint = ["PROGRAM"]'
            if rule:
                lines += ["", f'    to [images."{printable(rule)}"]: {line}']
            else:
                lines += ["", f'    [images."{printable(key)}"]', f"    {line}"]
    return "\n".join(lines)
