"""What the pods of one node start with: where each comes from, its podvisor.toml, this machine.

Whoever holds a node (a session of the command line, an embedding program) asks a `Homes` for what
a container is launched with. Which of that a manifest asks for, and how, is runtime/spec.py's; here
is only what is told to it.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Mapping

from msgspec.structs import replace

from supervisor.api import v1
from supervisor.api.problems import Finding, forbidden
from supervisor.lifecycle.facts import ContainerId
from supervisor.lifecycle.record import NodePolicy
from supervisor.project import manifests
from supervisor.project.envfile import Variables
from supervisor.project.manifests import LoadedPod, Project
from supervisor.runtime import mounts, spec
from supervisor.runtime.cri import Isolation, LaunchSpec, StartError
from supervisor.runtime.env_files import EnvFiles

NODE_NAME = "podvisor"


class Homes:
    """`info` is the machine's part. `given` are variables for every container, `pass_env` the names
    of those that are taken from `environ`. Delays of restarts are in seconds; None: as
    podvisor.toml says. `find`, if set, knows the pods that an earlier life of the node has left.

    It is the kubelet's SpecMaker (`make_spec`).
    """

    def __init__(
        self,
        info: spec.NodeInfo,
        *,
        pass_env: tuple[str, ...] = (),
        environ: Mapping[str, str] = os.environ,
        given: Variables = (),
        backoff_initial: float | None = None,
        backoff_max: float | None = None,
    ) -> None:
        self.info = info
        self.find: Callable[[v1.Pod], LoadedPod] | None = None
        self.configuration = spec.Configuration()  # for what starts from now on
        self.specs: dict[ContainerId, LaunchSpec] = {}  # until they are forgotten
        self._environ = environ
        self._pass_env = pass_env
        self._given = given
        self._delays = backoff_initial, backoff_max
        self._homes: dict[str, LoadedPod] = {}  # by pod uid

    @property
    def uids(self) -> frozenset[str]:
        return frozenset(self._homes)

    def add(self, uid: str, home: LoadedPod) -> None:
        self._homes[uid] = home

    def forget(self, uid: str) -> None:
        """A pod that is gone."""
        self._homes.pop(uid, None)
        for id in [id for id in self.specs if id.pod_uid == uid]:
            del self.specs[id]

    def of(self, pod: v1.Pod) -> LoadedPod:
        home = self._homes.get(pod.metadata.uid)
        if home is None:
            assert self.find is not None, f"pod {pod.metadata.name} came from nowhere"
            home = self.find(pod)
        return home

    def by_uid(self, uid: str) -> LoadedPod:
        return self._homes[uid]

    def make_spec(
        self,
        pod: v1.Pod,
        container: v1.Container,
        id: ContainerId,
        files: EnvFiles | None,
        *,
        runs: bool,
    ) -> LaunchSpec:
        info = self.node_info(pod)
        try:
            launched = spec.launch_spec(pod, container, id, info, files)
        except StartError:
            if not runs:
                raise
            launched = spec.bare_spec(pod, container, id, info)
        self.specs[id] = launched
        return launched

    def node_info(self, pod: v1.Pod) -> spec.NodeInfo:
        """What this machine is to a pod."""
        return self.info_of(self.of(pod))

    def info_of(self, home: LoadedPod) -> spec.NodeInfo:
        names = (*home.project.pass_env, *self._pass_env)
        return replace(
            self.info,
            working_dir=home.directory,
            environ=tuple(spec.inherited(self._environ, names).items()),
            given=tuple((dict(home.project.given) | dict(self._given)).items()),
            configuration=self.configuration,
            images=home.project.images,
            private_tmp=home.project.private_tmp,
        )

    def policy(self, project: Project, policy: NodePolicy) -> NodePolicy:
        """The node's policy for one pod: what was said here before podvisor.toml."""
        initial, longest = self._delays
        first = initial or project.backoff_initial or policy.backoff_initial
        most = longest or project.backoff_max or policy.backoff_max
        # Who asks for a long first delay has not asked for a shorter longest one.
        return replace(policy, backoff_initial=first, backoff_max=max(first, most))

    def on_disk(self, pod: v1.Pod) -> str:
        """The warning that volumes which belong in memory are not there; empty where they are."""
        names = [volume.name for volume in pod.spec.volumes if mounts.belongs_in_memory(volume)]
        if not names or self.info.memory_dir:
            return ""
        return (
            "warning: there is no tmpfs to write to (XDG_RUNTIME_DIR, /run, /dev/shm): these "
            f"volumes are on disk, in {self.info.state_dir}: {', '.join(names)}"
        )

    def needs_namespaces(self, home: LoadedPod) -> list[str]:
        """What is wrong with a pod because in mode group nothing can be mounted for it, and /proc/1
        is not its containers' main."""
        whose = f"{home.source}: error: pod {home.pod.metadata.name}"
        return [
            f"{whose}{', ' if place.startswith('container ') else ': '}{place}: {text}"
            for place, text in self.group_problems(home)
        ]

    def unobtainable(self, home: LoadedPod) -> list[Finding]:
        """What a valid pod that came from no file cannot have here."""
        needs = self.group_problems(home)
        return [
            *manifests.unobtainable(home.pod, home.project),
            *(forbidden((), f"{place}: {text}") for place, text in needs),
        ]

    def group_problems(self, home: LoadedPod) -> list[tuple[str, str]]:
        """The same as container or field, and what is wrong with it."""
        if self.info.isolation is not Isolation.GROUP:
            return []
        pod = home.pod
        return [
            (f"container {c.name}", problem)
            for c in (*pod.spec.init_containers, *pod.spec.containers)
            if (problem := spec.group_problem(c, home.project.images)) is not None
        ] + list(mounts.group_problems(pod, private_tmp=home.project.private_tmp))


def node_info(isolation: Isolation, state_dir: str, memory_dir: str = "") -> spec.NodeInfo:
    """What containers can be told about this machine."""
    disk = os.statvfs(state_dir)
    return spec.NodeInfo(
        name=NODE_NAME,
        host_ip="127.0.0.1",
        isolation=isolation,
        state_dir=state_dir,
        memory_dir=memory_dir,
        working_dir="/",
        uid=os.geteuid(),
        gid=os.getegid(),
        groups=tuple(os.getgroups()),
        cpu_millis=1000 * len(os.sched_getaffinity(0)),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        ephemeral_storage=disk.f_frsize * disk.f_blocks,
        user=_user,
    )


def _user(uid: int) -> spec.User | None:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return None
    return spec.User(name=entry.pw_name, home=entry.pw_dir)
