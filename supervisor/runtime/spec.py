"""From a container of a pod to what is started: words, environment, folder, user, files.

This is where a manifest meets the machine, and the rules are the kubelet's wherever it has one:
what can be referred to in `$(NAME)`, which variable wins, what a missing limit means. The rest
follows from containers being plain processes of this host, and is ours: what is inherited, and
which users can be had without being root.

Pure: everything about the machine comes in as `NodeInfo`, gathered once by the shell. What cannot
be started is a StartError with reason CreateContainerConfigError; `group_problem` and
`missing_configuration` are offered as functions too, so that it can be said before anything runs.

What a Secret holds goes into the environment of the processes that ask for it and nowhere else:
no text made here repeats a value, and nothing here shows one when it is printed.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping

from msgspec import Struct
from msgspec.structs import replace

from supervisor.api import quantity, v1
from supervisor.api.problems import Finding, Path, not_found, show
from supervisor.lifecycle import hooks, reasons
from supervisor.lifecycle.facts import ContainerId
from supervisor.lifecycle.record import MINIMUM_GRACE, grace_of
from supervisor.runtime import env_files, images, mounts
from supervisor.runtime.cri import Isolation, LaunchSpec, Mount, StartError
from supervisor.runtime.env_files import EnvFiles
from supervisor.runtime.images import Image, Images

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NAME_MAX = 255  # bytes of a file name; names of pods and namespaces are ASCII
HOSTNAME_LENGTH = 63  # the kernel's limit for host names is 64, with the NUL

_INHERITED = frozenset({"PATH", "HOME", "LANG", "TZ", "TERM"})  # and LC_*
# `$$`, or `$(` up to the next `)`. A `$` before anything else stands for itself.
_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['(.*)'\]", re.DOTALL)
_PROC_ONE = "/proc/1/"
_GROUP_REPLACEMENT = "/proc/$PODVISOR_MAIN_PID/fd/1"


class User(Struct, frozen=True):
    """A line of the user database."""

    name: str
    home: str


class Configuration(Struct, frozen=True):
    """What ConfigMaps and Secrets hold, by namespace and name: keys and their bytes."""

    config_maps: Mapping[tuple[str, str], Mapping[str, bytes]] = {}
    secrets: Mapping[tuple[str, str], Mapping[str, bytes]] = {}
    # Of ConfigMaps, by namespace, name and key: variables never see it, whatever it holds.
    binary_data: frozenset[tuple[str, str, str]] = frozenset()

    def over(self, other: Configuration) -> Configuration:
        """This, and of another what this does not have."""
        binary = {each for each in other.binary_data if each[:2] not in self.config_maps}
        return Configuration(
            config_maps={**other.config_maps, **self.config_maps},
            secrets={**other.secrets, **self.secrets},
            binary_data=self.binary_data | binary,
        )

    def __repr__(self) -> str:
        return f"Configuration({len(self.config_maps)} ConfigMaps, {len(self.secrets)} Secrets)"


class NodeInfo(Struct, frozen=True):
    """What the starting of containers needs to know about this machine and this podvisor."""

    name: str  # of the node
    host_ip: str
    isolation: Isolation
    state_dir: str  # absolute
    working_dir: str  # absolute; of containers that name none
    uid: int  # effective ids of podvisor itself
    gid: int
    groups: tuple[int, ...]  # its supplementary groups
    cpu_millis: int  # capacity: thousandths of a core
    memory: int  # capacity in bytes
    ephemeral_storage: int = 0  # capacity in bytes, of the file system of the state folder
    environ: tuple[tuple[str, str], ...] = ()  # what containers inherit: see `inherited`
    given: tuple[tuple[str, str], ...] = ()  # of env files: what every container gets besides
    user: Callable[[int], User | None] = lambda _: None  # user database, by uid
    configuration: Configuration = Configuration()
    images: Images = Images()  # of the pod's project
    private_tmp: bool = False  # each container has an empty /tmp of its own
    memory_dir: str = ""  # absolute, on a tmpfs; empty: there is none

    @property
    def folders(self) -> mounts.Folders:
        return mounts.Folders(self.state_dir, self.memory_dir)

    @property
    def changes_users(self) -> bool:
        """Whether containers can be given other ids than podvisor's own."""
        # A user namespace made without privilege maps only the caller's ids, also root's.
        return self.uid == 0 and self.isolation is not Isolation.PIDNS_ROOTLESS

    def __repr__(self) -> str:
        return f"NodeInfo({self.name!r})"


class Identity(Struct, frozen=True):
    """The user that a manifest asks for, and the ids to take on; None: as the node."""

    user: int | None = None
    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None


def launch_spec(
    pod: v1.Pod,
    container: v1.Container,
    id: ContainerId,
    node: NodeInfo,
    files: EnvFiles | None = None,
) -> LaunchSpec:
    """What is to be started for one instance of a container of a pod (defaulted and valid).

    `files`: those that its variables refer to, if somebody has read them.

    Raises StartError (CreateContainerConfigError, nothing created).
    """
    found = node.images.find(container.image)
    problem = images.no_program(container, node.images)
    if problem is not None:
        raise _refused(problem)
    image = found.image if found is not None else Image()
    identity = _identity(pod, container, image, node)
    variables = _variables(pod, container, node, files)
    environ = _environ(pod, variables, image, node, identity.user)
    if container.tty:
        environ.setdefault("TERM", "xterm")  # as the CRI runtimes have it
    argv = images.words(container, image, lambda word: expand(word, variables))
    secrets = _secret_values(pod, container, node.configuration)
    if node.isolation is Isolation.GROUP:
        env = (*variables.values(), *dict(image.env).values())
        problem = _proc_one((*argv, *env, *_exec_words(container)), secrets) or _no_paths(image)
        if problem is not None:
            raise _refused(problem)
        for _, problem in mounts.group_problems(pod, private_tmp=node.private_tmp):
            raise _refused(problem)
    folder = container.working_dir or _as_utf8(image.working_dir)
    cwd = posixpath.normpath(posixpath.join(_as_utf8(node.working_dir), folder))
    mounted = _mounted(pod, container, id, image, node, variables)
    _require_sayable(argv, environ, cwd, mounted)
    meta = pod.metadata
    return LaunchSpec(
        id=id,
        argv=argv,
        env=tuple(environ.items()),
        cwd=cwd,
        log_path=log_path(node.state_dir, meta.namespace, meta.name, id),
        termination_path=container.termination_message_path or "/dev/termination-log",
        termination_file=termination_file(node.state_dir, id),
        uid=identity.uid,
        gid=identity.gid,
        groups=identity.groups,
        mounts=mounted,
        stop_signal=image.stop_signal,
        # A value that holds another one is taken out first.
        veiled=tuple(sorted((v for v in secrets if _stands_in(v, argv)), key=len, reverse=True)),
        stdin=container.stdin,
        stdin_once=container.stdin_once,
        tty=container.tty,
        shares=shares(pod, node),
        farewell=_farewell(pod, container, image.stop_signal),
    )


def bare_spec(pod: v1.Pod, container: v1.Container, id: ContainerId, node: NodeInfo) -> LaunchSpec:
    """Of an instance that runs already but could not be started so any more: where its files are.

    What is run in it by a launcher that has not started it has no variables of the manifest's.
    """
    meta = pod.metadata
    return LaunchSpec(
        id=id,
        argv=container.command,
        env=tuple((dict(node.environ) | dict(node.given)).items()),
        cwd="/",
        log_path=log_path(node.state_dir, meta.namespace, meta.name, id),
        termination_path=container.termination_message_path or "/dev/termination-log",
        termination_file=termination_file(node.state_dir, id),
        stdin=container.stdin,
        stdin_once=container.stdin_once,
        tty=container.tty,
        shares=shares(pod, node),
        farewell=_farewell(pod, container),
    )


def _farewell(pod: v1.Pod, container: v1.Container, of_image: str = "") -> tuple[int, int]:
    number = signal_number(hooks.stop_signal(container, of_image))
    return number, max(MINIMUM_GRACE, grace_of(pod.spec))


def shares(pod: v1.Pod, node: NodeInfo) -> bool:
    """Whether a pod's containers have one pid namespace. In mode group all have the host's."""
    return bool(pod.spec.share_process_namespace) and node.isolation is not Isolation.GROUP


def log_path(state_dir: str, namespace: str, pod_name: str, id: ContainerId) -> str:
    """The log file of an instance, named as the kubelet names it."""
    folder = log_folder(state_dir, namespace, pod_name, id.pod_uid)
    return posixpath.join(folder, id.name, f"{id.attempt}.log")


def log_folder(state_dir: str, namespace: str, pod_name: str, uid: str) -> str:
    """Where the logs and spawn records of a pod are."""
    return posixpath.join(state_dir, "logs", _file_name(f"{namespace}_{pod_name}_{uid}"))


def termination_file(state_dir: str, id: ContainerId) -> str:
    """The file on the host that receives the last words of an instance."""
    # Not among the logs: containers can write to it, and only the logger may write there.
    return posixpath.join(
        state_dir, "pods", id.pod_uid, "containers", id.name, str(id.attempt), "termination"
    )


def _file_name(name: str) -> str:
    """The name itself if a file can have it; else its beginning, and a hash of all of it."""
    if len(name) <= NAME_MAX:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{name[: NAME_MAX - 1 - len(digest)]}-{digest}"


# --- environment -------------------------------------------------------------------------------


def inherited(environ: Mapping[str, str], pass_env: Iterable[str] = ()) -> dict[str, str]:
    """Of podvisor's own environment, what every container gets; `pass_env` names more.

    `environ` is as in os.environ; the result is in the encoding of LaunchSpec.
    """
    names = _INHERITED.union(pass_env)
    return {
        _as_utf8(name): _as_utf8(environ[name])
        for name in environ
        if name in names or name.startswith("LC_")
    }


def _as_utf8(text: str) -> str:
    """The same bytes as Python's locale-bound text from the system, read as UTF-8."""
    return os.fsencode(text).decode("utf-8", "surrogateescape")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace ``$(NAME)``; unknown ones stay as they are, ``$$`` is a dollar sign."""

    def replacement(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return "$"
        return variables.get(name, match[0])

    return _REFERENCE.sub(replacement, text) if "$" in text else text


def hostname(pod: v1.Pod) -> str:
    """What a container of the pod is told as its host name."""
    name = pod.spec.hostname or pod.metadata.name
    return name[:HOSTNAME_LENGTH].rstrip("-.") if len(name) > HOSTNAME_LENGTH else name


def _variables(
    pod: v1.Pod, container: v1.Container, node: NodeInfo, files: EnvFiles | None
) -> dict[str, str]:
    """The variables that the manifest defines; only these can be referred to (§9.1.1, §9.1.2)."""
    # What is inherited cannot: in a cluster `$(PATH)` stays as it is, too.
    variables: dict[str, str] = {}
    namespace, configuration = pod.metadata.namespace, node.configuration
    for all_of in container.env_from:
        ref = _whole_reference(all_of)
        if ref is not None:
            found = _read(ref, namespace, configuration)
            variables |= {all_of.prefix + key: value for key, value in found.items()}
    for variable in container.env:
        source = variable.value_from
        if variable.value or source is None:
            value = expand(variable.value, variables)
        elif source.field_ref is not None:
            value = field_value(pod, source.field_ref.field_path, node)
        elif source.resource_field_ref is not None:
            value = resource_value(pod, container, source.resource_field_ref, node)
        elif (ref := _key_reference(source)) is not None:
            found = _read(ref, namespace, configuration)
            if not found:
                continue  # as if it were not in the manifest
            value = found[ref.key]
        elif (file := source.file_key_ref) is not None and files is not None:
            value = _of_file(file, files[env_files.place(file)], pod, node)
            if not value:
                continue
        else:
            raise _refused(f"environment variable {variable.name}: its source cannot be read here")
        variables[variable.name] = value
    return variables


def _of_file(ref: v1.FileKeySelector, held: bytes | OSError, pod: v1.Pod, node: NodeInfo) -> str:
    """The value of a fileKeyRef; none where there is none and need not be (§9.1.4)."""
    if ref.optional and isinstance(held, (FileNotFoundError, NotADirectoryError)):
        return ""
    volume = next(each for each in pod.spec.volumes if each.name == ref.volume_name)
    folder = mounts.source(volume, node.folders, pod.metadata.uid)
    path = show(posixpath.normpath(posixpath.join(folder, ref.path)))
    if isinstance(held, OSError):
        why = (held.strerror or str(held)).lower()
        text = f"failed to open environment variable file {path}: {why}"
        raise _refused(f"couldn't parse env file: {text}")
    try:
        value = env_files.find(held, ref.key).decode()
    except UnicodeDecodeError:
        message = f"key {ref.key} in file {path} is not UTF-8: it cannot become a variable"
        raise _refused(message) from None
    except ValueError as error:
        raise _refused(f"couldn't parse env file: {path}: {error}") from error
    if not value and not ref.optional:
        raise _refused(f"environment variable key {show(ref.key)} not found in file {path}")
    return value


def _environ(
    pod: v1.Pod, variables: dict[str, str], image: Image, node: NodeInfo, uid: int | None
) -> dict[str, str]:
    """The whole environment of the process."""
    environ = dict(node.environ)
    environ.setdefault("PATH", DEFAULT_PATH)
    if uid is not None:
        # The home and the name of podvisor's own user would be wrong for another one.
        user = node.user(uid)
        environ.pop("USER", None)
        if user is not None:
            environ["USER"] = _as_utf8(user.name)
        environ["HOME"] = _as_utf8(user.home) if user is not None and user.home else "/"
    elif "HOME" not in environ:
        user = node.user(node.uid)
        environ["HOME"] = _as_utf8(user.home) if user is not None and user.home else "/"
    environ["HOSTNAME"] = hostname(pod)
    return environ | dict(image.env) | dict(node.given) | variables


def field_value(pod: v1.Pod, path: str, node: NodeInfo) -> str:
    """What a fieldRef says. Raises StartError."""
    meta = pod.metadata
    match path:
        case "metadata.name":
            return meta.name
        case "metadata.namespace":
            return meta.namespace
        case "metadata.uid":
            return meta.uid
        case "spec.nodeName":
            return pod.spec.node_name or node.name
        case "spec.serviceAccountName":
            return pod.spec.service_account_name or "default"
        case "status.hostIP" | "status.hostIPs" | "status.podIP" | "status.podIPs":
            return node.host_ip  # pods share the host's network
    if match := _SUBSCRIPT.fullmatch(path):
        entries = meta.labels if match[1] == "labels" else meta.annotations
        return entries.get(match[2], "")
    raise _refused(f"unsupported fieldPath: {path}")


def resource_value(
    pod: v1.Pod, container: v1.Container, ref: v1.ResourceFieldSelector, node: NodeInfo
) -> str:
    """What a resourceFieldRef says, of this container unless it names one. Raises StartError."""
    if ref.container_name:
        containers = v1.containers(pod.spec)
        named = [other for other in containers if other.name == ref.container_name]
        if not named:
            raise _refused(f"container {ref.container_name} not found")
        container = named[0]
    kind, _, name = ref.resource.partition(".")
    given = container.resources.limits if kind == "limits" else container.resources.requests
    capacity = {
        "cpu": f"{node.cpu_millis}m",
        "memory": str(node.memory),
        "ephemeral-storage": str(node.ephemeral_storage),
    }
    missing = capacity.get(name, "0") if kind == "limits" else "0"
    try:
        value = quantity.parse(given.get(name, missing))
        if value.nano == 0 and kind == "limits":
            value = quantity.parse(missing)  # a limit of 0 is no limit
        divisor = quantity.parse(ref.divisor or "1")
    except ValueError as error:
        raise _refused(f"{ref.resource}: {error}") from error
    if divisor.nano == 0:
        divisor = quantity.parse("1")
    return str(value.ceil(divisor))


def _mounted(
    pod: v1.Pod,
    container: v1.Container,
    id: ContainerId,
    image: Image,
    node: NodeInfo,
    variables: dict[str, str],
) -> tuple[Mount, ...]:
    if node.isolation is Isolation.GROUP:
        return ()

    def expanded(expression: str) -> str:
        names = set(_REFERENCE.findall(expression)) - {""}
        missing = sorted(name for name in names if not variables.get(name))
        if missing:
            raise _refused(f"missing value for {', '.join(missing)}")
        return expand(expression, variables)

    return mounts.mounts(
        pod, container, id, node.folders, expanded, image.paths, private_tmp=node.private_tmp
    )


# --- ConfigMaps and Secrets ---------------------------------------------------------------------

_CONFIG_MAP = "ConfigMap"
_SECRET = "Secret"  # noqa: S105


class _Reference(Struct, frozen=True):
    """To one key of a ConfigMap or a Secret of the pod's namespace, or to all of them."""

    kind: str
    name: str
    optional: bool
    key: str = ""  # none: all

    def find(self, namespace: str, configuration: Configuration) -> Mapping[str, bytes] | None:
        maps = configuration.secrets if self.kind == _SECRET else configuration.config_maps
        return maps.get((namespace, self.name))

    def find_for_variables(
        self, namespace: str, configuration: Configuration
    ) -> Mapping[str, bytes] | None:
        held = self.find(namespace, configuration)
        if held is None or self.kind == _SECRET:
            return held
        hidden = configuration.binary_data
        return {k: value for k, value in held.items() if (namespace, self.name, k) not in hidden}


def _whole_reference(source: v1.EnvFromSource) -> _Reference | None:
    for kind, ref in ((_CONFIG_MAP, source.config_map_ref), (_SECRET, source.secret_ref)):
        if ref is not None:
            return _Reference(kind, ref.name, bool(ref.optional))
    return None


def _key_reference(source: v1.EnvVarSource) -> _Reference | None:
    for kind, ref in ((_CONFIG_MAP, source.config_map_key_ref), (_SECRET, source.secret_key_ref)):
        if ref is not None:
            return _Reference(kind, ref.name, bool(ref.optional), ref.key)
    return None


def _read(ref: _Reference, namespace: str, configuration: Configuration) -> dict[str, str]:
    """The keys and values that are meant; none where there are none and need not be (§9.1.4)."""
    held = ref.find_for_variables(namespace, configuration)
    if held is None and not ref.optional:
        raise _refused(f'{ref.kind.lower()} "{ref.name}" not found')
    values: dict[str, str] = {}
    for key, value in (held or {}).items():
        if ref.key not in ("", key):
            continue
        try:
            values[key] = value.decode()
        except UnicodeDecodeError:
            place = f"{ref.kind} {namespace}/{ref.name}"
            message = f"key {key} in {place} is not UTF-8: it cannot become a variable"
            raise _refused(message) from None
    if ref.key and not values and not ref.optional:
        raise _refused(f"couldn't find key {ref.key} in {ref.kind} {namespace}/{ref.name}")
    return values


def _secret_values(
    pod: v1.Pod, container: v1.Container, configuration: Configuration
) -> frozenset[str]:
    """What the variables of a container have from Secrets."""
    values: set[str] = set()
    for _, ref in _references(container, ()):
        if ref.kind == _SECRET:
            values.update(_read(ref, pod.metadata.namespace, configuration).values())
    return frozenset(values - {""})


def _stands_in(value: str, words: Iterable[str]) -> bool:
    return any(value in word for word in words)


def missing_configuration(pod: v1.Pod, configuration: Configuration) -> Iterator[Finding]:
    """What a pod's volumes and variables refer to, must have, and is not there."""
    yield from _missing_in_volumes(pod, configuration)
    for place, containers in (
        ("containers", pod.spec.containers),
        ("initContainers", pod.spec.init_containers),
    ):
        for index, container in enumerate(containers):
            for path, ref in _references(container, ("spec", place, index)):
                if not ref.optional:
                    yield from _missing(path, ref, pod.metadata.namespace, configuration)


def _references(container: v1.Container, at: Path) -> Iterator[tuple[Path, _Reference]]:
    for index, all_of in enumerate(container.env_from):
        ref = _whole_reference(all_of)
        if ref is not None:
            field = "secretRef" if ref.kind == _SECRET else "configMapRef"
            yield (*at, "envFrom", index, field), ref
    for index, variable in enumerate(container.env):
        ref = _key_reference(variable.value_from) if variable.value_from else None
        if ref is not None:
            field = "secretKeyRef" if ref.kind == _SECRET else "configMapKeyRef"
            yield (*at, "env", index, "valueFrom", field), ref


def _missing_in_volumes(pod: v1.Pod, configuration: Configuration) -> Iterator[Finding]:
    for at, kind, name, source in _volume_sources(pod):
        ref = _Reference(kind, name, bool(source.optional))
        held = ref.find(pod.metadata.namespace, configuration)
        whole = f"{kind} {pod.metadata.namespace}/{name}"
        field = "secretName" if isinstance(source, v1.SecretVolumeSource) else "name"
        if ref.optional:
            continue
        if held is None:
            finding = not_found((*at, field), name)
            yield replace(finding, text=f"{finding.text}: {whole} is not among the documents")
            continue
        for index, item in enumerate(source.items):
            if item.key not in held:
                finding = not_found((*at, "items", index, "key"), item.key)
                yield replace(finding, text=f"{finding.text}: {whole} does not have it")


def _volume_sources(
    pod: v1.Pod,
) -> Iterator[
    tuple[Path, str, str, v1.ConfigMapVolumeSource | v1.SecretVolumeSource | v1.ProjectionSource]
]:
    for index, volume in enumerate(pod.spec.volumes):
        at: Path = ("spec", "volumes", index)
        if volume.config_map is not None:
            yield (*at, "configMap"), _CONFIG_MAP, volume.config_map.name, volume.config_map
        if volume.secret is not None:
            yield (*at, "secret"), _SECRET, volume.secret.secret_name, volume.secret
        for number, part in enumerate(volume.projected.sources if volume.projected else ()):
            place = (*at, "projected", "sources", number)
            if part.config_map is not None:
                yield (*place, "configMap"), _CONFIG_MAP, part.config_map.name, part.config_map
            if part.secret is not None:
                yield (*place, "secret"), _SECRET, part.secret.name, part.secret


def _missing(
    at: Path, ref: _Reference, namespace: str, configuration: Configuration
) -> Iterator[Finding]:
    held = ref.find_for_variables(namespace, configuration)
    whole = f"{ref.kind} {namespace}/{ref.name}"
    if held is None:
        finding, why = not_found((*at, "name"), ref.name), f"{whole} is not among the documents"
    elif ref.key and ref.key not in held:
        finding, why = not_found((*at, "key"), ref.key), f"{whole} does not have it"
    else:
        return
    yield replace(finding, text=f"{finding.text}: {why}")


# --- users -------------------------------------------------------------------------------------


def _identity(pod: v1.Pod, container: v1.Container, image: Image, node: NodeInfo) -> Identity:
    of_pod = pod.spec.security_context or v1.PodSecurityContext()
    own = container.security_context or v1.SecurityContext()
    uid = of_pod.run_as_user if own.run_as_user is None else own.run_as_user
    gid = of_pod.run_as_group if own.run_as_group is None else own.run_as_group
    non_root = of_pod.run_as_non_root if own.run_as_non_root is None else own.run_as_non_root
    fs_group = () if of_pod.fs_group is None else (of_pod.fs_group,)
    groups = tuple(dict.fromkeys((*of_pod.supplemental_groups, *fs_group)))

    problem = _breaks_non_root(uid, image, node) if non_root else None
    if problem is not None:
        meta = pod.metadata
        raise _refused(
            f'{problem} (pod: "{meta.name}_{meta.namespace}({meta.uid})", '
            f"container: {container.name})"
        )
    field = "runAsUser"
    if uid is None and image.user is not None:
        field, uid = "the image's user", image.user.uid
        if gid is None and node.changes_users:
            gid = image.user.gid
    if uid is None and gid is None and not groups:
        return Identity()
    if node.changes_users:
        # As in Kubernetes: a user without a group gets group 0, and none of the node's groups.
        return Identity(uid, uid, 0 if gid is None and uid is not None else gid, groups)

    if uid is not None and uid != node.uid:
        raise _foreign(field, uid, f"running as user {node.uid}")
    if gid is not None and gid != node.gid:
        raise _foreign("runAsGroup", gid, f"running as group {node.gid}")
    for group in groups:
        if group != node.gid and group not in node.groups:
            field = "fsGroup" if group in fs_group else "supplementalGroups"
            raise _foreign(field, group, "not a member of it")
    # It has these ids already. Asking the kernel for them again would be refused for groups.
    return Identity(user=uid)


def _breaks_non_root(uid: int | None, image: Image, node: NodeInfo) -> str | None:
    """Why this is root, or may be, in the kubelet's words; `uid` is what the manifest asks for."""
    if uid is not None:
        return "container's runAsUser breaks non-root policy" if uid == 0 else None
    user = image.user
    if user is not None and not user.is_numeric:
        # It could be told here. In a cluster it is not, and there the pod is to run as well.
        return (
            f"container has runAsNonRoot and image has non-numeric user ({user.name}), "
            "cannot verify user is non-root"
        )
    if (node.uid if user is None else user.uid) == 0:
        return "container has runAsNonRoot and image will run as root"
    return None


def _foreign(field: str, wanted: int, why: str) -> StartError:
    return _refused(
        f"{field} {wanted} is not possible: podvisor is {why} and not privileged, so it can use "
        f"only its own ids; leave {field} out, or run podvisor as root"
    )


# --- signals -----------------------------------------------------------------------------------

_SIGNAL = re.compile(r"(SIG\w+)([+-]\d+)?")


def signal_number(name: str) -> int:
    """The number of a stop signal on this machine: SIGTERM, SIGRTMIN+3, SIGRTMAX-1."""
    # Python names only the two ends of the real-time signals. The C library keeps some for itself,
    # so where the others begin is its business, and the same for all programs that use it.
    match = _SIGNAL.fullmatch(name)
    if match is None or match[1] not in signal.Signals.__members__:
        raise ValueError(f"there is no signal {name}")
    return signal.Signals[match[1]] + int(match[2] or 0)


# --- what cannot be started --------------------------------------------------------------------


def group_problem(container: v1.Container, known: Images) -> str | None:
    """Why this container cannot run in `group` mode, if so.

    There /proc/1 is the host's init, and nothing can be mounted.
    """
    found = known.find(container.image)
    image = found.image if found is not None else Image()
    env = (*dict(image.env).values(), *(entry.value for entry in container.env))
    words = images.words(container, image)
    return _proc_one((*words, *env, *_exec_words(container))) or _no_paths(image)


def _no_paths(image: Image) -> str | None:
    if not image.paths:
        return None
    targets = ", ".join(target for target, _ in image.paths)
    return (
        f"paths of its image cannot be had: {targets}; in isolation mode group there are no "
        "mounts; podvisor doctor shows how to get another mode"
    )


def _exec_words(container: v1.Container) -> Iterator[str]:
    """The words of the programs that probes and hooks run in the container."""
    hooks = container.lifecycle or v1.Lifecycle()
    for handler in (
        hooks.post_start,
        hooks.pre_stop,
        container.liveness_probe,
        container.readiness_probe,
        container.startup_probe,
    ):
        if handler is not None and handler.exec is not None:
            yield from handler.exec.command


def _proc_one(words: Iterable[str], secrets: Iterable[str] = ()) -> str | None:
    found = next((word for word in words if _PROC_ONE in word), None)
    if found is None:
        return None
    start = found.index(_PROC_ONE)
    name = found[start:].split()[0][:40].rstrip("\"';)&|")
    if any(secret in found for secret in secrets):
        name = _PROC_ONE
    return (
        f"{name} is not this container: in isolation mode group, without pid namespaces, "
        f"{_PROC_ONE} belongs to the host's init; use {_GROUP_REPLACEMENT}, "
        "or a mode that podvisor doctor shows how to get"
    )


def _require_sayable(
    argv: tuple[str, ...], environ: Mapping[str, str], cwd: str, mounted: tuple[Mount, ...]
) -> None:
    """Whatever is handed to the kernel is bytes ended by NUL."""
    named = [("command", word) for word in argv]
    named += [(f"environment variable {name}", name + value) for name, value in environ.items()]
    named += [("volumeMounts", mount.source + mount.sub_path + mount.target) for mount in mounted]
    for what, text in (*named, ("workingDir", cwd)):
        if "\0" in text:
            raise _refused(f"{what} contains a NUL character")
        try:
            text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            message = f"{what} contains half a surrogate pair, which is no text"
            raise _refused(message) from error


def _refused(message: str) -> StartError:
    return StartError(reasons.CREATE_CONTAINER_CONFIG_ERROR, message, created=False)
