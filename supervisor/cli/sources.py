"""The manifests of a durable node: files and folders, looked at again and again.

As the kubelet treats its folder of static pods: what stands in the files is what should run. A new
file brings its pods, a removed one takes them away, a changed one replaces those that differ, and
a file that is broken says so and changes nothing: its pods stay as it described them last. A file
may as well hold only configuration for the pods of others, or only what is not run.

A file means what it does together with the podvisor.toml that belongs to it, and with the env files
that this one names: when one of these changes, the file is read again.

`look` reads what has changed since the last look, by size, times and inode, and nothing else. It
starts and stops nothing; serving.py does, by what `wanted` and `is_broken` say.

A large file takes seconds to read, so while the node runs, looks are made on a thread, one at a
time. `wanted` and `configuration` change at once, at the end of a look; nothing else of this may
be asked for during one.
"""

from __future__ import annotations

import hashlib
import os

import msgspec
from msgspec.structs import replace

from supervisor.api import v1
from supervisor.api.problems import Problem, Severity
from supervisor.kubelet.volumes import on_thread
from supervisor.project import manifests
from supervisor.project.homes import NODE_NAME
from supervisor.project.manifests import Loaded, LoadedPod
from supervisor.runtime.spec import Configuration

# Which file a pod came from, kept with it: another life of the node must know whether a pod has
# lost its file or the file is only broken.
SOURCE = "podvisor/source"

# As the kubelet says where a pod came from, and what it was there: it is replaced when its file
# says something else, and not when somebody has labelled it.
CONFIG_SOURCE = "kubernetes.io/config.source"
FROM_API = "api"
CONFIG_HASH = "kubernetes.io/config.hash"
_MARKS = (SOURCE, CONFIG_SOURCE, CONFIG_HASH)

_Stamp = tuple[int, int, int]  # size, time of change in ns, inode
# Of a file, and by path of the podvisor.toml and the env files that count for it.
_Stamps = tuple[_Stamp, tuple[tuple[str, _Stamp | None], ...]]


class Sources:
    """What the files and folders of a command line hold, as of the last `look`."""

    def __init__(
        self, paths: list[str], maps: manifests.Maps = (), *, strict: bool = False
    ) -> None:
        self.paths = [os.path.abspath(path) for path in paths]
        self._maps = maps
        self._strict = strict  # whether what is not run is refused
        self._stamps: dict[str, _Stamps] | None = None  # none: nobody has looked yet
        self._good: dict[str, Loaded] = {}  # by file: what it held last
        self._broken: dict[str, list[Problem]] = {}  # files and folders, with what was told
        self._missed: set[str] = set()  # files that were gone when looked for last
        self._cut: dict[str, _Stamps] = {}  # files whose podvisor.toml was being written, perhaps
        self._absent: set[str] = set()  # paths that were never there
        self._clashes: set[str] = set()  # those that were told
        self.wanted: dict[tuple[str, str], LoadedPod] = {}  # by namespace and name
        self.configuration = Configuration()  # of all files

    async def look_aside(self) -> list[Problem]:
        """`look`, while the event loop goes on. Cancelled, these sources are of no more use."""
        problems: list[Problem] = await on_thread(self.look, abandoned=True)
        return problems

    def look(self) -> list[Problem]:
        """Read what has changed; return what is newly wrong."""
        known, broken = self._stamps or {}, self._broken
        self._broken = {}
        problems: list[Problem] = []
        files = self._files()
        configs: dict[str, tuple[str, _Stamp] | None] = {}
        found = ((file, self._stamp(file, configs)) for file in files)
        stamps = {file: stamp for file, stamp in found if stamp is not None}
        seen = tuple(stamps)
        cut = {f: stamp for f, stamp in stamps.items() if f in known and _is_cut(known[f], stamp)}
        # Some editors write a file by emptying or removing it first: that counts if it stays so.
        stamps |= {f: known[f] for f, stamp in cut.items() if stamp != self._cut.get(f)}
        self._cut = cut
        if self._stamps is None:
            self._absent = {path for path in self.paths if not os.path.lexists(path)}
            problems += [
                _problem(file, "cannot read: there is no such file")
                for file in files
                if file not in stamps
            ]
        changed = self._stamps is None
        told: set[Problem] = set()  # of files that are read again as they were
        for file, stamp in stamps.items():
            # What is broken may be so because of something else: its mode, its podvisor.toml.
            if stamp != known.get(file) or file in broken:
                if file in known and stamp[0] == known[file][0] and file in self._good:
                    told.update(self._good[file].problems)
                said = self._read(file)
                changed |= file in broken and file not in self._broken
                problems += said if file not in self._broken else ()
        for path, said in self._broken.items():
            problems += said if said != broken.get(path) else ()
        # What is wrong with a podvisor.toml is found with each of its files.
        problems = [problem for problem in dict.fromkeys(problems) if problem not in told]
        for file in known.keys() - stamps.keys():
            if file in self._missed:
                self._missed.discard(file)
                self._good.pop(file, None)
            else:  # likewise
                self._missed.add(file)
                stamps[file] = known[file]
                if file in broken:
                    self._broken[file] = broken[file]
        self._missed &= stamps.keys() - set(seen)
        changed |= stamps != self._stamps
        self._stamps = stamps
        if changed:
            problems += self._merge()
        return problems

    def is_broken(self, file: str) -> bool:
        """Whether this file is there, or may be, but what it holds cannot be told.

        So it is with all that is under no path we know, as long as a path that was named has never
        been there: one that is mistyped, or not mounted yet.
        """
        if file in self._broken or os.path.dirname(file) in self._broken:
            return True
        self._absent = {path for path in self._absent if not os.path.lexists(path)}
        named = {file, os.path.dirname(file)} & (set(self.paths) - self._absent)
        return bool(self._absent) and not named

    def _files(self) -> list[str]:
        files: list[str] = []
        for path in self.paths:
            if not os.path.isdir(path):
                files.append(path)
                continue
            try:
                names = sorted(n for n in os.listdir(path) if n.endswith(manifests.SUFFIXES))
            except FileNotFoundError:
                continue
            except OSError as error:
                # For the moment: nothing is taken away.
                self._broken[path] = [_problem(path, f"cannot read: {error.strerror}")]
                known = self._stamps or {}
                names = [os.path.basename(f) for f in known if os.path.dirname(f) == path]
            inside = (os.path.join(path, name) for name in names)
            files += [file for file in inside if not os.path.isdir(file)]
        return list(dict.fromkeys(files))

    def _stamp(self, file: str, configs: dict[str, tuple[str, _Stamp] | None]) -> _Stamps | None:
        known = self._stamps or {}
        folder = os.path.dirname(file)
        if file in known and folder in self._broken:
            return known[file]  # of a folder that cannot be read: that is said already
        stamp = _stamp(file)
        if stamp is None:
            return None
        if folder not in configs:
            configs[folder] = _config(folder)
        config = configs[folder]
        if config is None:
            return stamp, ()
        # Which files it names is known once it has been read; then it is read once more.
        named = self._good[file].project.env_file if file in self._good else ()
        paths = [os.path.join(os.path.dirname(config[0]), name) for name in named]
        return stamp, (config, *((path, _stamp(path)) for path in paths))

    def _read(self, file: str) -> list[Problem]:
        if os.path.exists(file) and not os.path.isfile(file):
            # Of a FIFO, reading alone would wait for somebody who writes.
            self._broken[file] = [_problem(file, "cannot read: not a regular file")]
            return self._broken[file]
        loaded = manifests.load([file], maps=self._maps, strict=self._strict, part=True)
        if manifests.refused(loaded.problems):
            self._broken[file] = list(loaded.problems)
        else:
            self._good[file] = loaded
        return list(loaded.problems)

    def _merge(self) -> list[Problem]:
        """One object for each kind and name; return the clashes that are new.

        What pods are called depends on all files (`manifests.distinct`): when a second kind comes
        to a name, or goes, the pod of the first is another one, and replaced like any other.
        """
        problems: dict[str, Problem] = {}
        taken: dict[tuple[str, str, str], str] = {}  # kind, namespace, name: by which file

        def takes(file: str, kind: str, meta: v1.ObjectMeta) -> bool:
            other = taken.setdefault((kind, meta.namespace, meta.name), file)
            if other != file:
                text = f"{kind} {meta.namespace}/{meta.name} is not taken: {other} has it"
                problem = _problem(file, text)
                problems[str(problem)] = problem
            return other == file

        pods: list[LoadedPod] = []
        maps: list[v1.ConfigMap] = []
        secrets: list[v1.Secret] = []
        for file in sorted(self._good, key=self._place):
            held = self._good[file]
            pods += [each for each in held.pods if takes(file, _kind(each), each.pod.metadata)]
            maps += [each for each in held.config_maps if takes(file, each.kind, each.metadata)]
            secrets += [each for each in held.secrets if takes(file, each.kind, each.metadata)]
        documents = [home.document for home in pods if home.document is not None]
        named, clashes = manifests.distinct(pods, documents)
        problems |= {str(problem): problem for problem in clashes}
        wanted = {(h.pod.metadata.namespace, h.pod.metadata.name): h for h in named}
        self.wanted, self.configuration = wanted, manifests.configuration(maps, secrets)
        new = [problem for text, problem in problems.items() if text not in self._clashes]
        self._clashes = set(problems)
        return new

    def _place(self, file: str) -> tuple[int, str]:
        """Files named first come first."""
        for index, path in enumerate(self.paths):
            if file == path or os.path.dirname(file) == path:
                return index, file
        return len(self.paths), file


def is_from_file(pod: v1.Pod) -> bool:
    """Whether it is for the files to say what becomes of a pod; else it came by the API."""
    annotations = pod.metadata.annotations
    return SOURCE in annotations and annotations.get(CONFIG_SOURCE) != FROM_API


def owned(old: v1.Pod | None, new: v1.Pod) -> v1.Pod:
    """A pod as the API wants it. It belongs to the files if it did, and else it does not: whoever
    copies a pod, or puts a manifest in its place, does not mean that."""
    given = new.metadata.annotations
    if old is not None and is_from_file(old):
        mark = {k: v for k, v in old.metadata.annotations.items() if k in _MARKS}
        annotations = {k: v for k, v in given.items() if k not in _MARKS} | mark
    elif is_from_file(new):
        annotations = {k: v for k, v in given.items() if k != CONFIG_HASH}
        annotations[CONFIG_SOURCE] = FROM_API
    else:
        return new
    return replace(new, metadata=replace(new.metadata, annotations=annotations))


def sourced(home: LoadedPod) -> LoadedPod:
    """With the file it came from, and what it was there."""
    meta = home.pod.metadata
    own = {SOURCE: os.path.abspath(home.source), CONFIG_HASH: _digest(home.pod)}
    meta = replace(meta, annotations=meta.annotations | own)
    spec = replace(home.pod.spec, node_name=NODE_NAME)
    return replace(home, pod=replace(home.pod, metadata=meta, spec=spec))


def is_same(known: v1.Pod, wanted: v1.Pod) -> bool:
    """Whether a pod that runs is still what its file says."""
    old, new = known.metadata, wanted.metadata
    if old.annotations.get(CONFIG_HASH) == _digest(wanted):
        return True
    # Another version of podvisor may have counted otherwise.
    annotations = {k: v for k, v in old.annotations.items() if k not in (SOURCE, CONFIG_HASH)}
    spec = replace(known.spec, node_name=wanted.spec.node_name)
    return spec == wanted.spec and (old.labels, annotations) == (new.labels, new.annotations)


def _digest(pod: v1.Pod) -> str:
    meta = pod.metadata
    said = msgspec.json.encode((meta.labels, meta.annotations, pod.spec), order="sorted")
    return hashlib.sha256(said).hexdigest()[:32]


def _kind(home: LoadedPod) -> str:
    """Of what stands in the file."""
    return "Pod" if home.document is None else str(home.document.data["kind"])


def _problem(file: str, text: str) -> Problem:
    return Problem(Severity.ERROR, file, 0, 0, "", text)


def _config(folder: str) -> tuple[str, _Stamp] | None:
    """The podvisor.toml that counts in a folder."""
    while True:
        path = os.path.join(folder, manifests.CONFIG)
        stamp = _stamp(path)
        parent = os.path.dirname(folder)
        if stamp is not None or parent == folder:
            return (path, stamp) if stamp is not None else None
        folder = parent


def _is_cut(before: _Stamps, now: _Stamps) -> bool:
    """Whether a podvisor.toml or env file that counted has nothing in it any more."""
    had = [path for path, stamp in before[1] if stamp is not None and stamp[0]]
    return now != before and any(not (_stamp(path) or (0,))[0] for path in had)


def _stamp(file: str) -> _Stamp | None:
    """None where no file is."""
    try:
        found = os.stat(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return 0, 0, 0  # reading it will say why
    return found.st_size, found.st_mtime_ns, found.st_ino
