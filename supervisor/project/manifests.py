"""From the FILE|DIR|- of a command line to pods, or to everything that is wrong with them.

`run` and `validate` share this: which files are meant, what they hold, what pods are called where
two have one name, which podvisor.toml belongs to them. This is also where a manifest meets the user
that podvisor runs as and the images that he has mapped: ids that he cannot take, and containers
without a program, are said before anything starts. Nothing is printed and nothing raised here for
what is wrong with a file: it ends in `Loaded.problems`.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from msgspec import Struct
from msgspec.structs import replace

from supervisor.api import codec, v1, validation, workloads
from supervisor.api.problems import (
    MAX_FINDINGS,
    THE_REST,
    Finding,
    Key,
    Path,
    Problem,
    Severity,
    Type,
    duplicate,
    has_errors,
    invalid,
    said,
    show,
    summary,
)
from supervisor.errors import UsageError
from supervisor.project import envfile
from supervisor.runtime import images
from supervisor.runtime.images import Image, Images, ImageUser

if TYPE_CHECKING:
    from supervisor.runtime.spec import Configuration

__all__ = ["Ids", "Loaded", "LoadedPod", "Project", "duration", "load", "refused", "summary"]

SUFFIXES = (".yaml", ".yml", ".json")
CONFIG = "podvisor.toml"
MAX_CONFIG = 256 * 1024  # bytes of it
MAX_CONFIG_LINE = 4096  # reading a key of many parts takes the square of their number
STDIN = "stdin"

refused = has_errors


Fill = Callable[[Any], Any]
_Admit = Callable[[Any], tuple[v1.Pod | None, list[Finding]]]


class Select(Protocol):
    def __call__(
        self, data: Any, admit_pod: _Admit, kind: str
    ) -> tuple[v1.Pod | None, list[Finding]]: ...


class Project(Struct, frozen=True, kw_only=True):
    """What podvisor.toml says; without one, the current folder and nothing."""

    root: str  # absolute
    found: bool = False  # whether there is a podvisor.toml
    pass_env: tuple[str, ...] = ()
    env_file: tuple[str, ...] = ()  # relative to root
    given: envfile.Variables = ()  # what these files hold
    backoff_initial: float | None = None  # seconds
    backoff_max: float | None = None
    images: Images = Images()  # also those of the command line
    private_tmp: bool = False  # each container has an empty /tmp of its own


class LoadedPod(Struct, frozen=True):
    pod: v1.Pod  # with defaults
    source: str  # as it was named: the file, or "stdin"
    directory: str  # absolute; where containers start that name no workingDir
    project: Project
    document: codec.Document | None = None  # where it stands in the source


class Loaded(Struct, frozen=True):
    """`pods` holds the good ones also when there are problems: ask `refused` first."""

    pods: tuple[LoadedPod, ...]
    problems: tuple[Problem, ...]
    project: Project  # the first manifest's
    config_maps: tuple[v1.ConfigMap, ...] = ()
    secrets: tuple[v1.Secret, ...] = ()
    sources: Mapping[tuple[str, str, str], str] = {}  # by kind, namespace, name: which file has it
    others: tuple[codec.Document, ...] = ()  # of kinds that are not run, as they stand there

    def configuration(self) -> Configuration:
        """What they hold, in bytes."""
        return configuration(self.config_maps, self.secrets)


def configuration(
    config_maps: Iterable[v1.ConfigMap], secrets: Iterable[v1.Secret]
) -> Configuration:
    """By namespace and name; of two with one name, the first."""
    from supervisor.runtime.spec import Configuration

    maps: dict[tuple[str, str], dict[str, bytes]] = {}
    binary: set[tuple[str, str, str]] = set()
    for each in config_maps:
        name = _key(each.metadata)
        if name not in maps:
            texts = {key: text.encode() for key, text in each.data.items()}
            maps[name] = texts | _decoded(each.binary_data)
            binary.update((*name, key) for key in each.binary_data)
    hidden: dict[tuple[str, str], dict[str, bytes]] = {}
    for secret in secrets:
        hidden.setdefault(_key(secret.metadata), _decoded(secret.data))
    return Configuration(maps, hidden, frozenset(binary))


def _key(meta: v1.ObjectMeta) -> tuple[str, str]:
    return meta.namespace, meta.name


def _decoded(data: dict[str, str]) -> dict[str, bytes]:
    return {key: validation.unbase64(text) or b"" for key, text in data.items()}


class Ids(Struct, frozen=True):
    """The user that podvisor runs as."""

    uid: int
    gid: int
    groups: tuple[int, ...]


Maps = tuple[tuple[str, tuple[str, ...]], ...]  # of images to the words of --map


def load(
    paths: list[str],
    stdin: BinaryIO | None = None,
    ids: Ids | None = None,
    *,
    maps: Maps = (),
    strict: bool = False,
    part: bool = False,
    select: Select | None = None,
    without_programs: bool = False,
    fill: Fill | None = None,
) -> Loaded:
    """Read all manifests that the command line names. Raises nothing for what they hold.

    Kinds that are not run here are skipped with a warning where something is run beside them, and
    refused where nothing is, or if `strict`. `part`: there are other files than these, and pods are
    not told apart yet (`distinct`). `select` judges plain data of a pod by the function it is
    given, or a part of it. `without_programs`: also pods whose images stand for nothing that could
    be run. `fill` completes plain data of each object before it is looked at.
    """
    loader = _Loader(
        stdin, ids or _own_ids(), maps, select, without_programs=without_programs, fill=fill
    )
    loaded = loader.load(paths)
    return _judged(loader, loaded, strict=strict, part=part)


def load_text(
    content: bytes,
    source: str,
    ids: Ids | None = None,
    *,
    maps: Maps = (),
    fill: Fill | None = None,
) -> Loaded:
    """Read manifests that are in no file; `source` names them in what is said about them.

    Their containers start in the current folder, or in that of its podvisor.toml.
    """
    loader = _Loader(None, ids or _own_ids(), maps, fill=fill)
    loaded = loader.load_text(content, source)
    return _judged(loader, loaded)


def _judged(loader: _Loader, loaded: Loaded, *, strict: bool = False, part: bool = False) -> Loaded:
    problems = loader.judge(strict=strict, part=part)
    if not part:
        pods, clashes = distinct(loaded.pods, loader.documents)
        loaded, problems = replace(loaded, pods=pods), (*problems, *clashes)
    return replace(loaded, problems=problems)


def _own_ids() -> Ids:
    return Ids(os.geteuid(), os.getegid(), tuple(os.getgroups()))


class _Loader:
    def __init__(
        self,
        stdin: BinaryIO | None,
        ids: Ids,
        maps: Maps = (),
        select: Select | None = None,
        *,
        without_programs: bool = False,
        fill: Fill | None = None,
    ) -> None:
        self._fill = fill
        self._stdin = stdin
        self._select = select
        self._ids = ids
        self._maps = maps
        self._without_programs = without_programs
        try:
            self._here = os.getcwd()
        except OSError:
            self._here = ""  # was deleted: good enough for files with absolute names
        self.documents: list[codec.Document] = []  # that are to be run, good or not
        self._pods: list[LoadedPod] = []
        self._problems: list[Problem] = []
        self._config_maps: list[v1.ConfigMap] = []
        self._secrets: list[v1.Secret] = []
        self._others: list[_Others] = []
        self._firsts: dict[tuple[str, str, str], codec.Document] = {}  # by kind, namespace, name
        self._projects: dict[str, Project] = {}  # by folder

    def load(self, paths: list[str]) -> Loaded:
        first: Project | None = None
        for path in paths:
            for source, folder, content in self._contents(path):
                project = self._project(folder)
                first = first or project
                if content is not None:
                    home = project.root if project.found else folder
                    self._read(content, source, home, project)
        return self._loaded(first or self._project(self._here or "/"))

    def load_text(self, content: bytes, source: str) -> Loaded:
        folder = self._here or "/"
        project = self._project(folder)
        self._read(content, source, project.root if project.found else folder, project)
        return self._loaded(project)

    def _loaded(self, project: Project) -> Loaded:
        return Loaded(
            tuple(self._pods),
            (),
            project,
            tuple(self._config_maps),
            tuple(self._secrets),
            {key: document.source for key, document in self._firsts.items()},
            tuple(document for others in self._others for document in others.documents),
        )

    def judge(self, *, strict: bool, part: bool) -> tuple[Problem, ...]:
        """All problems, once it is known what is there."""
        if not strict and (part or self.documents):
            documents = [document for others in self._others for document in others.documents]
            if documents:
                self._problems.append(_skipped(documents))
            return tuple(self._problems)
        for others in reversed(self._others):
            found = [
                document.problem(codec.kind_finding(document.data["kind"]))
                for document in others.documents[:MAX_FINDINGS]
            ]
            among = self._problems[others.start : others.end] + found
            among.sort(key=_in_order)
            self._problems[others.start : others.end] = among
        return tuple(self._problems)

    # --- files --------------------------------------------------------------------------------

    def _contents(self, path: str) -> Iterator[tuple[str, str, bytes | None]]:
        """Source, folder and content of each file; None for one that cannot be read."""
        if not self._here and not os.path.isabs(path):
            source = STDIN if path == "-" else path
            self._complain(source, "cannot read: the current folder is gone")
            return
        if path == "-":
            stream = self._stdin or getattr(sys.stdin, "buffer", None)
            if stream is None:
                self._complain(STDIN, "cannot read: it is closed")
            else:
                yield STDIN, self._here, self._bytes(STDIN, stream)
            return
        for name in self._names(path):
            content = None
            try:
                with open(name, "rb") as stream:
                    content = self._bytes(name, stream)
            except OSError as error:
                self._complain(name or "''", f"cannot read: {error.strerror}")
            folder = os.path.dirname(os.path.normpath(os.path.join(self._here, name)))
            yield name, folder, content

    def _bytes(self, source: str, stream: BinaryIO) -> bytes | None:
        try:
            return stream.read(codec.MAX_BYTES + 1)
        except OSError as error:
            self._complain(source, f"cannot read: {error.strerror}")
            return None

    def _names(self, path: str) -> list[str]:
        if not os.path.isdir(path):
            return [path]
        try:
            names = sorted(name for name in os.listdir(path) if name.endswith(SUFFIXES))
        except OSError as error:
            self._complain(path, f"cannot read: {error.strerror}")
            return []
        files = [os.path.join(path, name) for name in names]
        files = [name for name in files if not os.path.isdir(name)]
        if not files:
            self._complain(path, f"no manifests: no file is named *{', *'.join(SUFFIXES)}")
        # Who names a FIFO means to wait for it; one that only lies there must not hold us up.
        odd = [name for name in files if os.path.exists(name) and not os.path.isfile(name)]
        for name in odd:
            self._complain(name, "cannot read: not a regular file")
        return [name for name in files if name not in odd]

    def _complain(self, source: str, text: str, line: int = 0, col: int = 0) -> None:
        self._problems.append(Problem(Severity.ERROR, source, line, col, "", text))

    # --- pods ---------------------------------------------------------------------------------

    def _read(self, content: bytes, source: str, folder: str, project: Project) -> None:
        documents, problems = codec.read(content, source)
        if not documents and not problems:
            self._complain(source, "no documents")
        others = []
        for document in documents:
            if len(problems) > MAX_FINDINGS:
                break
            if self._fill is not None:
                document.data = self._fill(document.data)
            if _is_other(document.data):
                others.append(document)
                continue
            findings = self._take(document, LoadedPod(v1.Pod(), source, folder, project))
            problems += [document.problem(finding) for finding in findings]
        problems.sort(key=_in_order)
        start = len(self._problems)
        self._problems += problems[:MAX_FINDINGS]
        if others:
            self._others.append(_Others(others, start, len(self._problems)))
        if len(problems) >= MAX_FINDINGS:
            self._complain(source, THE_REST)

    def _take(self, document: codec.Document, home: LoadedPod) -> list[Finding]:
        data = document.data
        kind = data.get("kind") if isinstance(data, dict) else None
        findings: list[Finding]
        if kind == "ConfigMap":
            config_map, findings = validation.admit_config_map(data)
            if config_map is not None:
                findings = list(self._check_name(document, "ConfigMap", config_map.metadata))
                self._config_maps += [config_map] if not findings else []
        elif kind == "Secret":
            secret, findings = validation.admit_secret(data)
            if secret is not None:
                findings = list(self._check_name(document, "Secret", secret.metadata))
                self._secrets += [secret] if not findings else []
        else:
            hook, is_run = helm_hook(data)
            if not is_run:
                return hook
            self.documents.append(document)
            pod, findings = self._admit(document, home.project.images)
            findings = hook + findings
            if pod is not None:
                self._pods.append(replace(home, pod=pod, document=document))
        return findings

    def _admit(
        self, document: codec.Document, known: Images
    ) -> tuple[v1.Pod | None, list[Finding]]:
        here = partial(self._check_here, document, known)
        admit_pod: _Admit = partial(validation.admit, here=here)
        if self._select is not None:
            admit_pod = partial(self._select, admit_pod=admit_pod, kind=_kind(document.data))
        if workloads.is_workload(document.data):
            return workloads.admit(document.data, admit_pod)
        return admit_pod(document.data)

    def _check_here(
        self, document: codec.Document, known: Images, pod: v1.Pod
    ) -> Iterator[Finding]:
        yield from self._check_name(document, _kind(document.data), pod.metadata)
        yield from unobtainable_ids(pod, self._ids)
        if not self._without_programs:
            yield from unusable_images(pod, known, self._ids)

    def _check_name(
        self, document: codec.Document, kind: str, meta: v1.ObjectMeta
    ) -> Iterator[Finding]:
        path = ("metadata", "name")
        first = self._firsts.setdefault((kind, meta.namespace, meta.name), document)
        # Also the same file named twice: its pods would run twice. No name: that is said already.
        if meta.name and first is not document:
            clash = duplicate(path, meta.name)
            place = f"{first.source}:{first.locate(path)[0]}"
            text = f"{clash.text}: namespace {meta.namespace} has it from {place} already"
            yield Finding(clash.type, path, text)

    # --- podvisor.toml ------------------------------------------------------------------------

    def project(self, folder: str) -> Project:
        """That of a folder; its own root is the folder itself where there is no podvisor.toml."""
        found = self._project(folder)
        return found if found.found else replace(found, root=folder)

    def _project(self, folder: str) -> Project:
        known = self._projects.get(folder)
        if known is None:
            found = self._find_project(folder)
            file = _short(os.path.join(found.root if found.found else folder, CONFIG), self._here)
            known = replace(found, images=replace(found.images, maps=self._maps, file=file))
            self._projects[folder] = known
        return known

    def _find_project(self, folder: str) -> Project:
        path = os.path.join(folder, CONFIG)
        try:
            with open(path, "rb", opener=envfile.open_now) as stream:
                if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                    self._complain(_short(path, self._here), "cannot read: not a regular file")
                    return Project(root=folder, found=True)
                content = stream.read(MAX_CONFIG + 1)
        except (FileNotFoundError, NotADirectoryError):
            parent = os.path.dirname(folder)
            return self._project(parent) if parent != folder else Project(root=self._here or "/")
        except OSError as error:
            self._complain(_short(path, self._here), f"cannot read: {error.strerror}")
            return Project(root=folder, found=True)
        project, problems = read_project(content, _short(path, self._here), folder)
        self._problems += problems
        given: dict[str, str] = {}
        for name in project.env_file:
            path = os.path.join(folder, name)
            found, problems = envfile.read(path, _short(path, self._here), waits=False)
            given |= dict(found)
            self._problems += problems
        return replace(project, given=tuple(given.items()))


class _Others(Struct, frozen=True):
    """Documents of one file that are not run here, and the file's place among the problems."""

    documents: list[codec.Document]
    start: int
    end: int


def _is_other(data: Any) -> bool:
    """Whether this is of a kind that is neither run here nor meant to be."""
    kind = data.get("kind") if isinstance(data, dict) else None
    if not isinstance(kind, str) or not kind or kind in ("List", "Pod", "PodList"):
        return False
    if kind in ("ConfigMap", "Secret"):
        return not workloads.is_builtin(data)
    return not workloads.is_workload(data) and codec.kind_finding(kind).type is Type.SAID


def _skipped(documents: list[codec.Document]) -> Problem:
    """One warning about all of them; at the first, if they are in one file."""
    names: dict[str, list[str]] = {}
    for document in documents:
        meta = document.data.get("metadata")
        name = meta.get("name") if isinstance(meta, dict) else None
        names.setdefault(document.data["kind"], []).append(str(name or "(unnamed)"))
    listed = "; ".join(f"{kind} {', '.join(of_kind)}" for kind, of_kind in names.items())
    text = f"skipped, since only pods and workloads are run: {listed}"
    source, (line, col) = documents[0].source, documents[0].locate(("kind",), name=True)
    if any(document.source != source for document in documents):
        source, line, col = "", 0, 0
    return Problem(Severity.WARNING, source, line, col, "", text)


def _in_order(problem: Problem) -> tuple[int, int]:
    return problem.line, problem.col


def _short(path: str, here: str) -> str:
    """A path as one would type it here."""
    short = os.path.relpath(path, here or "/")
    return path if short.startswith("..") else short


# --- hooks of charts -----------------------------------------------------------------------------

_HOOK: Path = ("metadata", "annotations", Key("helm.sh/hook"))
_AT_INSTALL = {"pre-install", "post-install"}


def helm_hook(data: Any) -> tuple[list[Finding], bool]:
    """What to say about a hook among the output of `helm template`, and whether it is run.

    That output holds the hooks of all occasions: tests, and what comes before a release is deleted.
    Here things start as at an install, so a hook that helm would not run then is left out.
    """
    value: Any = data
    for name in _HOOK:
        value = value.get(name) if isinstance(value, dict) else None
    if not isinstance(value, str) or not value:
        return [], True
    occasions = [word.strip() for word in value.split(",")]
    kind, at = _kind(data), ", ".join(occasions)
    is_run = not _AT_INSTALL.isdisjoint(occasions)
    if is_run:
        text = f"is ignored: helm runs this {kind} at {at}, here it starts with everything else"
    else:
        text = f"leaves this {kind} out: helm does not run it at an install, only at {at}"
    return [said(_HOOK, text, Severity.WARNING)], is_run


# --- what pods are called ------------------------------------------------------------------------


def distinct(
    pods: Iterable[LoadedPod], documents: Iterable[codec.Document]
) -> tuple[tuple[LoadedPod, ...], tuple[Problem, ...]]:
    """Pods with names of their own, and what is to say about that.

    In a cluster a Deployment and a CronJob may have one name, since their pods have longer ones.
    Here such a workload's pod gets the kind into its name; a bare Pod keeps its name. `documents`
    are all that have a pod or would have one: no order, and nothing that was left out, changes what
    a pod is called.
    """
    kinds: dict[tuple[str, str], set[str]] = {}
    for each in documents:
        kinds.setdefault(_name_in(each.data), set()).add(_kind(each.data))
    pods = list(pods)
    taken = {_key(home.pod.metadata) for home in pods if not _shares(home, kinds)}
    named: list[LoadedPod] = []
    found: list[Problem] = []
    for home in pods:
        document, meta = home.document, home.pod.metadata
        if document is None or not _shares(home, kinds):
            named.append(home)
            continue
        kind = _kind(document.data)
        others = ", ".join(sorted(kinds[_key(meta)] - {kind}))
        own = replace(meta, name=with_kind(meta.name, kind))
        text = f"is also that of a {others}: this {kind} runs as pod {own.name}"
        findings = [said(("metadata", "name"), text, Severity.WARNING)]
        findings += validation.check_metadata(own)
        if _key(own) in taken:
            clash = duplicate(("metadata", "name"), own.name)
            findings.append(replace(clash, text=f"{clash.text}: another pod has that name"))
        found += [document.problem(finding) for finding in findings]
        if not has_errors(findings):
            taken.add(_key(own))
            named.append(replace(home, pod=replace(home.pod, metadata=own)))
    return tuple(named), _not_too_many(found)


def with_kind(name: str, kind: str) -> str:
    """What the pod of a workload is called where another kind has the workload's name."""
    return f"{name}-{kind.lower()}"


def _shares(home: LoadedPod, kinds: dict[tuple[str, str], set[str]]) -> bool:
    """Whether this is the pod of a workload whose name another kind has, too."""
    of_pod = home.document is None or _kind(home.document.data) == "Pod"
    return not of_pod and len(kinds[_key(home.pod.metadata)]) > 1


def _kind(data: Any) -> str:
    return str(data.get("kind")) if isinstance(data, dict) else ""


def _name_in(data: Any) -> tuple[str, str]:
    """Namespace and name, as far as a document has them."""
    meta = data.get("metadata") if isinstance(data, dict) else None
    meta = meta if isinstance(meta, dict) else {}
    return str(meta.get("namespace") or "default"), str(meta.get("name") or "")


# --- what is not there --------------------------------------------------------------------------


def unconfigured(pods: Iterable[LoadedPod], configuration: Configuration) -> list[Problem]:
    """What variables of these pods must have from ConfigMaps and Secrets, and is in none."""
    from supervisor.runtime.spec import missing_configuration

    found = (
        Problem(finding.severity, home.source, 0, 0, "", str(finding))
        if home.document is None
        else home.document.problem(workloads.placed(finding, home.document.data))
        for home in pods
        for finding in missing_configuration(home.pod, configuration)
    )
    return list(_not_too_many(found))


def _not_too_many(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    shown = tuple(islice(problems, MAX_FINDINGS + 1))
    if len(shown) <= MAX_FINDINGS:
        return shown
    last = shown[-1]
    return (*shown[:-1], Problem(last.severity, last.source, 0, 0, "", THE_REST))


def as_warnings(problems: Iterable[Problem]) -> list[Problem]:
    return [replace(problem, severity=Severity.WARNING) for problem in problems]


# --- what this user cannot have ----------------------------------------------------------------


def unobtainable(pod: v1.Pod, project: Project) -> list[Finding]:
    """What a valid pod that came from no file cannot have here."""
    ids = _own_ids()
    return [*unobtainable_ids(pod, ids), *unusable_images(pod, project.images, ids)]


def unobtainable_ids(pod: v1.Pod, ids: Ids) -> Iterator[Finding]:
    """Fields that ask for users or groups that only root can take."""
    if ids.uid == 0:
        return
    spec = pod.spec
    places: list[tuple[Path, v1.SecurityContext | v1.PodSecurityContext | None]] = [
        (("spec", "securityContext"), spec.security_context)
    ]
    for name, containers in (
        ("containers", spec.containers),
        ("initContainers", spec.init_containers),
    ):
        places += [
            (("spec", name, index, "securityContext"), container.security_context)
            for index, container in enumerate(containers)
        ]
    remedy = "run podvisor as root, or remove the field"
    for path, context in places:
        if context is None:
            continue
        user, group = context.run_as_user, context.run_as_group
        if user is not None and user != ids.uid:
            detail = f"podvisor runs as user {ids.uid} and cannot change it: {remedy}"
            yield invalid((*path, "runAsUser"), user, detail)
        if group is not None and group != ids.gid:
            detail = f"podvisor runs as group {ids.gid} and cannot change it: {remedy}"
            yield invalid((*path, "runAsGroup"), group, detail)
        if isinstance(context, v1.PodSecurityContext):
            wanted = context.fs_group
            if wanted is not None and wanted != ids.gid and wanted not in ids.groups:
                detail = f"podvisor is not in this group and cannot enter it: {remedy}"
                yield invalid((*path, "fsGroup"), wanted, detail)
            for index, extra in enumerate(context.supplemental_groups):
                if extra != ids.gid and extra not in ids.groups:
                    detail = f"podvisor is not in this group and cannot enter it: {remedy}"
                    yield invalid((*path, "supplementalGroups", index), extra, detail)


def unusable_images(pod: v1.Pod, known: Images, ids: Ids) -> Iterator[Finding]:
    """Containers whose image gives them no program, or something that cannot be had."""
    for place, containers in (
        ("containers", pod.spec.containers),
        ("initContainers", pod.spec.init_containers),
    ):
        for index, container in enumerate(containers):
            if not container.image:
                continue  # that it then needs a command is a rule without a place
            path = ("spec", place, index, "image")
            found = known.find(container.image)
            problem = images.no_program(container, known)
            if problem is not None:
                yield said(path, problem)
            elif found is not None:
                user = found.image.user
                asked = (container.security_context or v1.SecurityContext()).run_as_user
                asks = (pod.spec.security_context or v1.PodSecurityContext()).run_as_user, asked
                if user is not None and asks == (None, None) and ids.uid not in (0, user.uid):
                    text = (
                        f'"{container.image}" runs as user {user.name}: podvisor runs as user '
                        f"{ids.uid} and cannot change it: run podvisor as root, or remove the user "
                        f'from [images."{found.rule}"]'
                    )
                    yield said(path, text)
                for target, source in found.image.paths:
                    if not os.path.exists(source):
                        text = f'"{container.image}" has {source} at {target}, which does not exist'
                        yield said(path, text)


# --- configuration -----------------------------------------------------------------------------

_KEYS = ("pass-env", "env-file", "backoff-initial", "backoff-max", "images", "private-tmp")
_IMAGE_KEYS = (
    "entrypoint",
    "command",
    "working-dir",
    "env",
    "user",
    "stop-signal",
    "paths",
)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)", re.ASCII)
_FOREVER = 1e9  # seconds; beyond it clocks overflow
_AT_LINE = re.compile(r" \(at line ([0-9]+), column ([0-9]+)\)$")


def read_project(content: bytes, source: str, root: str) -> tuple[Project, list[Problem]]:
    """One podvisor.toml and what is wrong with it."""
    import tomllib

    complain = _Complaints(source)
    problems = complain.problems
    project = Project(root=root, found=True)
    if len(content) > MAX_CONFIG:
        complain(f"cannot read: larger than {MAX_CONFIG // 1024} KiB", 0)
        return project, problems
    try:
        text = content.decode("utf-8-sig")
        lines = text.split("\n")
        long = next((n for n, line in enumerate(lines, 1) if len(line) > MAX_CONFIG_LINE), 0)
        if long:
            complain(f"cannot read: longer than {MAX_CONFIG_LINE} characters", long)
            return project, problems
        data = tomllib.loads(text)
    except UnicodeDecodeError:
        complain("cannot read: not UTF-8", 1)
        return project, problems
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        at = _AT_LINE.search(message)
        line, col = (int(at[1]), int(at[2])) if at else (text.count("\n") + 1, 1)
        message = _AT_LINE.sub("", message)
        complain(f"not TOML: {message[:1].lower()}{message[1:]}", line, col)
        return project, problems
    except (ValueError, RecursionError):  # of numbers and brackets that nobody means
        complain("not TOML: a number is too long, or values are nested too deeply", 0)
        return project, problems
    values: dict[str, Any] = {}
    for key, value in data.items():
        if complain.enough():
            break
        line = _line_of(key, text)
        if key not in _KEYS:
            complain(f"Unknown key{_did_you_mean(key, _KEYS)}", line, path=key)
            continue
        if key == "images":
            values[key] = _images(value, text, root, complain)
            continue
        try:
            values[key.replace("-", "_")] = _setting(key, value)
        except ValueError as error:
            complain(str(error), line, path=key)
    if complain.enough():
        complain(THE_REST, 0)
    return Project(root=root, found=True, **values), problems


class _Complaints:
    """What is wrong with one podvisor.toml."""

    def __init__(self, source: str) -> None:
        self._source = source
        self.problems: list[Problem] = []

    def __call__(self, text: str, line: int, col: int = 1, path: str = "") -> None:
        self.problems.append(Problem(Severity.ERROR, self._source, line, col, path, text))

    def enough(self) -> bool:
        """Whether nobody has written this by hand: finding the lines would take long."""
        return len(self.problems) >= MAX_FINDINGS


def _setting(key: str, value: Any) -> Any:
    if key == "private-tmp":
        if isinstance(value, bool):
            return value
        raise ValueError("must be true or false")
    if key == "env-file":
        return _paths(value)
    if key != "pass-env":
        return parse_duration(value)
    if isinstance(value, list) and all(_is_variable(name) for name in value):
        return tuple(value)
    raise ValueError('must be a list of names, such as ["HTTP_PROXY"]')


def _paths(value: Any) -> tuple[str, ...]:
    paths = [value] if isinstance(value, str) else value
    if isinstance(paths, list) and all(isinstance(p, str) and p and "\0" not in p for p in paths):
        return tuple(paths)
    raise ValueError('must be a file or a list of files, such as ["service.env"]')


def _is_variable(name: Any) -> bool:
    return isinstance(name, str) and bool(name) and not {"=", "\0"} & set(name)


def _line_of(key: str, text: str) -> int:
    match = re.search(rf"^[ \t]*\[*[\"']?{re.escape(key)}\b", text, re.MULTILINE)
    return text.count("\n", 0, match.end()) + 1 if match else 1


def _did_you_mean(key: str, keys: tuple[str, ...]) -> str:
    import difflib

    close = difflib.get_close_matches(key.replace("_", "-").lower(), keys, 1)
    return f" (did you mean {close[0]}?)" if close else ""


# --- images ------------------------------------------------------------------------------------


def _images(data: Any, text: str, root: str, complain: _Complaints) -> Images:
    """The tables `[images."…"]`; what is wrong with them is complained about."""
    if not isinstance(data, dict):
        complain('must be tables such as [images."nginx"]', _line_of("images", text), path="images")
        return Images()
    twice = images.duplicates(data)
    entries = []
    for reference, given in data.items():
        if complain.enough():
            break
        at = _Entry(reference, text)
        if not reference:
            complain("must name an image", at.line(), path=at.path())
        elif reference in twice:
            other = f'names the same images as [images."{twice[reference]}"]'
            complain(other, at.line(), path=at.path())
        elif not isinstance(given, dict):
            complain("must be a table", at.line(), path=at.path())
        else:
            values: dict[str, Any] = {}
            for key, value in given.items():
                if complain.enough():
                    break
                try:
                    values[key.replace("-", "_")] = _image_setting(key, value, root)
                except ValueError as error:
                    complain(str(error), at.line(key), path=at.path(key))
            entries.append((reference, Image(**values)))
    return Images(tuple(entries))


class _Entry(Struct, frozen=True):
    """Where one image's table stands in a podvisor.toml, as far as a look at the text tells."""

    reference: str
    text: str

    def path(self, key: str = "") -> str:
        return f'images."{self.reference}"' + (f".{key}" if key else "")

    def line(self, key: str = "") -> int:
        """Of a key; where it cannot be seen, of the table."""
        name = rf"[\"']?{re.escape(self.reference)}[\"']?"
        head = rf"^[ \t]*(?:\[[ \t]*)?(?:images[ \t]*\.[ \t]*)?{name}[ \t]*[].=]"
        table = re.search(head, self.text, re.MULTILINE)
        if table is None:
            return _line_of("images", self.text)
        end = table.end()
        if key:
            rest = re.split(r"^[ \t]*\[", self.text[end:], maxsplit=1, flags=re.MULTILINE)[0]
            mark = rf"(?:^|[.{{,])[ \t]*[\"']?{re.escape(key)}[\"']?[ \t]*[=.]"
            found = re.search(mark, rest, re.MULTILINE)
            end += found.end() if found else 0
        return self.text.count("\n", 0, end) + 1


def _image_setting(key: str, value: Any, root: str) -> Any:
    """Raises ValueError."""
    match key:
        case "entrypoint" | "command":
            if not isinstance(value, list) or not all(_is_text(word) for word in value):
                raise ValueError('must be a list of words, such as ["python3", "-m", "web"]')
            if value and not value[0] and key == "entrypoint":
                raise ValueError("must name a program")
            return tuple(value)
        case "working-dir":
            if not _is_text(value) or not value:
                raise ValueError("must be a folder")
            return os.path.normpath(os.path.join(root, value))
        case "env":
            if not isinstance(value, dict) or not all(
                _is_variable(name) and _is_text(text) for name, text in value.items()
            ):
                raise ValueError('must be names and texts, such as { PORT = "8080" }')
            return tuple(value.items())
        case "user":
            return _image_user(value)
        case "stop-signal":
            if value not in validation.STOP_SIGNALS:
                raise ValueError("must be the name of a signal, such as SIGQUIT or SIGRTMIN+3")
            return value
        case "paths":
            return _image_paths(value, root)
    raise ValueError(f"Unknown key{_did_you_mean(key, _IMAGE_KEYS)}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def _image_user(value: Any) -> ImageUser:
    """A number, or the name of a user of this machine. Raises ValueError."""
    import pwd

    number = isinstance(value, int) and not isinstance(value, bool)
    name = str(value) if number or _is_text(value) else ""
    if not name:
        raise ValueError("must be a number or the name of a user")
    if name.isascii() and name.isdecimal():
        if int(name) > validation.MAX_INT32:
            raise ValueError(f"must be at most {validation.MAX_INT32}")
        try:
            return ImageUser(name, int(name), pwd.getpwuid(int(name)).pw_gid)
        except KeyError:
            return ImageUser(name, int(name), 0)
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError):
        raise ValueError(f"there is no user {show(name)} on this machine") from None
    return ImageUser(name, entry.pw_uid, entry.pw_gid)


def _image_paths(value: Any, root: str) -> tuple[tuple[str, str], ...]:
    """Raises ValueError."""
    if not isinstance(value, dict) or not all(
        _is_text(source) and source and "\0" not in target for target, source in value.items()
    ):
        raise ValueError('must be paths, such as { "/app" = "." }')
    for target in value:
        if not target.startswith("/") or target == "/" or os.path.normpath(target) != target:
            raise ValueError(f"{show(target)} must be an absolute path below /, without ..")
    return tuple(
        (target, os.path.normpath(os.path.join(root, source))) for target, source in value.items()
    )


def parse_maps(given: list[str] | None) -> Maps:
    """The values of --map, IMAGE=COMMAND. Raises UsageError."""
    maps: dict[str, tuple[str, ...]] = {}
    for text in given or ():
        image, equals, command = text.partition("=")
        try:
            words = tuple(shlex.split(command))
        except ValueError as error:
            raise UsageError(f"cannot use --map {text!r}: {str(error).lower()}") from None
        if not image or not equals or not words or not words[0]:
            raise UsageError(
                f"cannot use --map {text!r}: must be IMAGE=COMMAND, such as web='python3 -m web'"
            )
        maps[image] = words
    twice = images.duplicates(maps)
    if twice:
        one, other = next(iter(twice.items()))
        raise UsageError(
            f"cannot use --map {one}=…: {other} is the same image, and has one already"
        )
    return tuple(maps.items())


def parse_duration(value: object) -> float:
    """Seconds of `1.5`, `"90s"`, `"1m30s"`, `"500ms"`; more than none. Raises ValueError."""
    seconds = -1.0
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value) if value < _FOREVER else -1.0
    elif isinstance(value, str):
        parts = _DURATION.findall(value)
        if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value, re.ASCII):
            seconds = float(value)
        elif parts and "".join(number + unit for number, unit in parts) == value:
            seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not 0 < seconds < _FOREVER:
        raise ValueError("must be a duration greater than 0, such as 10s, 1m30s or 500ms")
    return seconds


def variables(option: str, names: list[str] | None) -> tuple[str, ...]:
    """Names of environment variables on the command line. Raises UsageError."""
    for name in names or ():
        if not _is_variable(name):
            raise UsageError(f"cannot use {option} {name!r}: not the name of a variable")
    return tuple(names or ())


def project_of(paths: list[str], maps: Maps = ()) -> Project:
    """The project of the first of these files or folders; without any, of the current folder.

    What is wrong with its podvisor.toml is said when manifests are loaded.
    """
    loader = _Loader(None, Ids(os.geteuid(), os.getegid(), ()), maps)
    here = os.path.abspath(paths[0]) if paths else os.getcwd()
    return loader.project(here if os.path.isdir(here) else os.path.dirname(here))


def duration(option: str, value: str | None, *, zero: bool = False) -> float | None:
    """Seconds of a duration on the command line. `zero`: it may be 0. Raises UsageError."""
    if value is None:
        return None
    if zero and value in ("0", "0s", "0m", "0h"):
        return 0.0
    try:
        return parse_duration(value)
    except ValueError as error:
        raise UsageError(f"cannot use {option} {value!r}: {error}") from None
