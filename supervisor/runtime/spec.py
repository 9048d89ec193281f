"""From a container of a pod to what is started: words, environment, folder, user, files.

This is where a manifest meets the machine, and the rules are the kubelet's wherever it has one:
what can be referred to in `$(NAME)`, which variable wins, what a missing limit means. The rest
follows from containers being plain processes of this host, and is ours: what is inherited, and
which users can be had without being root.

Pure: everything about the machine comes in as `NodeInfo`, gathered once by the shell. What cannot
be started is a StartError with reason CreateContainerConfigError; `proc_one_problem` is offered as
a function too, so that it can be said before anything runs.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping

from msgspec import Struct

from supervisor.api import quantity, v1
from supervisor.lifecycle import reasons
from supervisor.lifecycle.facts import ContainerId
from supervisor.runtime.cri import Isolation, LaunchSpec, StartError

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
    user: Callable[[int], User | None] = lambda _: None  # user database, by uid
    configuration: Configuration = Configuration()

    @property
    def changes_users(self) -> bool:
        """Whether containers can be given other ids than podvisor's own."""
        # A user namespace made without privilege maps only the caller's ids, also root's.
        return self.uid == 0 and self.isolation is not Isolation.PIDNS_ROOTLESS


class Identity(Struct, frozen=True):
    """The user that a manifest asks for, and the ids to take on; None: as the node."""

    user: int | None = None
    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None


def launch_spec(
    pod: v1.Pod, container: v1.Container, id: ContainerId, node: NodeInfo
) -> LaunchSpec:
    """What is to be started for one instance of a container of a pod (defaulted and valid).

    Raises StartError (CreateContainerConfigError, nothing created).
    """
    identity = _identity(pod, container, node)
    variables = _variables(pod, container, node)
    environ = _environ(pod, variables, node, identity.user)
    argv = tuple(expand(word, variables) for word in (*container.command, *container.args))
    if not container.command:
        raise _refused("no command specified: there is no image to take one from")
    if node.isolation is Isolation.GROUP:
        problem = _proc_one((*argv, *variables.values(), *_exec_words(container)))
        if problem is not None:
            raise _refused(problem)
    cwd = posixpath.normpath(posixpath.join(_as_utf8(node.working_dir), container.working_dir))
    _require_sayable(argv, environ, cwd)
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
        shares=shares(pod, node),
    )


def bare_spec(pod: v1.Pod, container: v1.Container, id: ContainerId, node: NodeInfo) -> LaunchSpec:
    """Of an instance that runs already but could not be started so any more: where its files are.

    What is run in it by a launcher that has not started it has no variables of the manifest's.
    """
    meta = pod.metadata
    return LaunchSpec(
        id=id,
        argv=container.command,
        env=node.environ,
        cwd="/",
        log_path=log_path(node.state_dir, meta.namespace, meta.name, id),
        termination_path=container.termination_message_path or "/dev/termination-log",
        termination_file=termination_file(node.state_dir, id),
        shares=shares(pod, node),
    )


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
        _as_utf8(name): _as_utf8(value)
        for name, value in environ.items()
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


def _variables(pod: v1.Pod, container: v1.Container, node: NodeInfo) -> dict[str, str]:
    """The variables that the manifest defines; only these can be referred to."""
    # What is inherited cannot: in a cluster `$(PATH)` stays as it is, too.
    variables: dict[str, str] = {}
    for variable in container.env:
        source = variable.value_from
        if variable.value or source is None:
            value = expand(variable.value, variables)
        elif source.field_ref is not None:
            value = _field(pod, source.field_ref.field_path, node)
        elif source.resource_field_ref is not None:
            value = _resource(pod, container, source.resource_field_ref, node)
        else:
            raise _refused(f"environment variable {variable.name}: its source cannot be read here")
        variables[variable.name] = value
    return variables


def _environ(
    pod: v1.Pod, variables: dict[str, str], node: NodeInfo, uid: int | None
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
    return environ | variables


def _field(pod: v1.Pod, path: str, node: NodeInfo) -> str:
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


def _resource(
    pod: v1.Pod, container: v1.Container, ref: v1.ResourceFieldSelector, node: NodeInfo
) -> str:
    if ref.container_name:
        containers = (*pod.spec.init_containers, *pod.spec.containers)
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


# --- users -------------------------------------------------------------------------------------


def _identity(pod: v1.Pod, container: v1.Container, node: NodeInfo) -> Identity:
    of_pod = pod.spec.security_context or v1.PodSecurityContext()
    own = container.security_context or v1.SecurityContext()
    uid = of_pod.run_as_user if own.run_as_user is None else own.run_as_user
    gid = of_pod.run_as_group if own.run_as_group is None else own.run_as_group
    non_root = of_pod.run_as_non_root if own.run_as_non_root is None else own.run_as_non_root
    groups = tuple(dict.fromkeys(of_pod.supplemental_groups))

    if non_root and (node.uid if uid is None else uid) == 0:
        meta = pod.metadata
        problem = (
            "container has runAsNonRoot and image will run as root"
            if uid is None
            else "container's runAsUser breaks non-root policy"
        )
        raise _refused(
            f'{problem} (pod: "{meta.name}_{meta.namespace}({meta.uid})", '
            f"container: {container.name})"
        )
    if uid is None and gid is None and not groups:
        return Identity()
    if node.changes_users:
        # As in Kubernetes: a user without a group gets group 0, and none of the node's groups.
        return Identity(uid, uid, 0 if gid is None and uid is not None else gid, groups)

    if uid is not None and uid != node.uid:
        raise _foreign("runAsUser", uid, f"running as user {node.uid}")
    if gid is not None and gid != node.gid:
        raise _foreign("runAsGroup", gid, f"running as group {node.gid}")
    for group in groups:
        if group != node.gid and group not in node.groups:
            raise _foreign("supplementalGroups", group, "not a member of it")
    # It has these ids already. Asking the kernel for them again would be refused for groups.
    return Identity(user=uid)


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


def proc_one_problem(container: v1.Container) -> str | None:
    """Why this container cannot run in `group` mode, if so: there /proc/1 is the host's init."""
    env = (entry.value for entry in container.env)
    return _proc_one((*container.command, *container.args, *env, *_exec_words(container)))


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


def _proc_one(words: Iterable[str]) -> str | None:
    found = next((word for word in words if _PROC_ONE in word), None)
    if found is None:
        return None
    start = found.index(_PROC_ONE)
    name = found[start:].split()[0][:40].rstrip("\"';)&|")
    return (
        f"{name} is not this container: in isolation mode group, without pid namespaces, "
        f"{_PROC_ONE} belongs to the host's init; use {_GROUP_REPLACEMENT}, "
        "or a mode that podvisor doctor shows how to get"
    )


def _require_sayable(argv: tuple[str, ...], environ: Mapping[str, str], cwd: str) -> None:
    """Whatever is handed to the kernel is bytes ended by NUL."""
    named = [("command", word) for word in argv]
    named += [(f"environment variable {name}", name + value) for name, value in environ.items()]
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
