"""The kinds of Kubernetes that podvisor speaks, as frozen data.

Every layer above holds pods, statuses and events in these types. Attributes are the Kubernetes
names in snake case; on the wire they are camel case. The whole PodSpec is modelled, also what
podvisor does not do, so that an unknown field is told from a field that is merely not run
(`fields.py` says which is which). Kubernetes' own pointer fields are None when unset, lists are
tuples, times are RFC 3339 strings in whole seconds, as the API shows them.

No rule lives here: defaults and refusals are in `validation.py`, reading and writing text in
`codec.py`. Two restrictions keep this module cheap to import and easy to walk: annotations are
written only as `T`, `T | None`, `tuple[T, ...]` and `dict[str, T]` (the decoder reads the text
of them), and objects nobody here ever looks into are `Opaque`.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

Quantity = str  # "500m", "1Gi"; written as a number in YAML, it is read as text
IntOrString = int | str  # a port number or the name of a port
Opaque = dict[str, Any]  # an object that is ignored or refused as a whole
Time = str  # RFC 3339 in UTC, whole seconds: 2026-01-31T12:00:00Z
MicroTime = str  # the same with microseconds: 2026-01-31T12:00:00.000000Z


class Model(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """Base of all API types. Unset fields do not appear in the output.

    Fields are given by name only; msgspec does not hand `kw_only` down and mypy
    does not see an inherited `frozen`, so each class says both.
    """


def always(value: str) -> Any:
    """A default that is written out all the same (apiVersion and kind)."""
    return field(default_factory=lambda: value)


# --- metadata ----------------------------------------------------------------------------------


class OwnerReference(Model, frozen=True, kw_only=True):
    api_version: str = ""
    block_owner_deletion: bool | None = None
    controller: bool | None = None
    kind: str = ""
    name: str = ""
    uid: str = ""


class ObjectMeta(Model, frozen=True, kw_only=True):
    annotations: dict[str, str] = {}
    creation_timestamp: Time | None = None
    deletion_grace_period_seconds: int | None = None
    deletion_timestamp: Time | None = None
    finalizers: tuple[str, ...] = ()
    generate_name: str = ""
    generation: int = 0
    labels: dict[str, str] = {}
    managed_fields: tuple[Opaque, ...] = ()
    name: str = ""
    namespace: str = ""
    owner_references: tuple[OwnerReference, ...] = ()
    resource_version: str = ""
    self_link: str = ""
    uid: str = ""


class ListMeta(Model, frozen=True, kw_only=True):
    continue_: str = field(default="", name="continue")
    remaining_item_count: int | None = None
    resource_version: str = ""
    self_link: str = ""


class LocalObjectReference(Model, frozen=True, kw_only=True):
    name: str = ""


# --- environment -------------------------------------------------------------------------------


class ObjectFieldSelector(Model, frozen=True, kw_only=True):
    api_version: str = ""
    field_path: str = ""


class ResourceFieldSelector(Model, frozen=True, kw_only=True):
    container_name: str = ""
    divisor: Quantity | None = None
    resource: str = ""


class KeySelector(Model, frozen=True, kw_only=True):
    """configMapKeyRef and secretKeyRef."""

    key: str = ""
    name: str = ""
    optional: bool | None = None


class FileKeySelector(Model, frozen=True, kw_only=True):
    key: str = ""
    optional: bool | None = None
    path: str = ""
    volume_name: str = ""


class EnvVarSource(Model, frozen=True, kw_only=True):
    config_map_key_ref: KeySelector | None = None
    field_ref: ObjectFieldSelector | None = None
    file_key_ref: FileKeySelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    secret_key_ref: KeySelector | None = None


class EnvVar(Model, frozen=True, kw_only=True):
    name: str = ""
    value: str = ""
    value_from: EnvVarSource | None = None


class EnvSource(Model, frozen=True, kw_only=True):
    """configMapRef and secretRef."""

    name: str = ""
    optional: bool | None = None


class EnvFromSource(Model, frozen=True, kw_only=True):
    config_map_ref: EnvSource | None = None
    prefix: str = ""
    secret_ref: EnvSource | None = None


# --- handlers and probes -----------------------------------------------------------------------


class ExecAction(Model, frozen=True, kw_only=True):
    command: tuple[str, ...] = ()


class HTTPHeader(Model, frozen=True, kw_only=True):
    name: str = ""
    value: str = ""


class HTTPGetAction(Model, frozen=True, kw_only=True):
    host: str = ""
    http_headers: tuple[HTTPHeader, ...] = ()
    path: str = ""
    port: IntOrString | None = None
    scheme: str = ""


class TCPSocketAction(Model, frozen=True, kw_only=True):
    host: str = ""
    port: IntOrString | None = None


class GRPCAction(Model, frozen=True, kw_only=True):
    port: int = 0
    service: str | None = None


class SleepAction(Model, frozen=True, kw_only=True):
    seconds: int = 0


class LifecycleHandler(Model, frozen=True, kw_only=True):
    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    sleep: SleepAction | None = None
    tcp_socket: TCPSocketAction | None = None


class Lifecycle(Model, frozen=True, kw_only=True):
    post_start: LifecycleHandler | None = None
    pre_stop: LifecycleHandler | None = None
    stop_signal: str | None = None


class Probe(Model, frozen=True, kw_only=True):
    exec: ExecAction | None = None
    failure_threshold: int = 0
    grpc: GRPCAction | None = None
    http_get: HTTPGetAction | None = None
    initial_delay_seconds: int = 0
    period_seconds: int = 0
    success_threshold: int = 0
    tcp_socket: TCPSocketAction | None = None
    termination_grace_period_seconds: int | None = None
    timeout_seconds: int = 0


# --- security ----------------------------------------------------------------------------------


class AppArmorProfile(Model, frozen=True, kw_only=True):
    localhost_profile: str | None = None
    type: str = ""


class SeccompProfile(Model, frozen=True, kw_only=True):
    localhost_profile: str | None = None
    type: str = ""


class SELinuxOptions(Model, frozen=True, kw_only=True):
    level: str = ""
    role: str = ""
    type: str = ""
    user: str = ""


class WindowsSecurityContextOptions(Model, frozen=True, kw_only=True):
    gmsa_credential_spec: str | None = None
    gmsa_credential_spec_name: str | None = None
    host_process: bool | None = None
    run_as_user_name: str | None = None


class Capabilities(Model, frozen=True, kw_only=True):
    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


class SecurityContext(Model, frozen=True, kw_only=True):
    allow_privilege_escalation: bool | None = None
    app_armor_profile: AppArmorProfile | None = None
    capabilities: Capabilities | None = None
    privileged: bool | None = None
    proc_mount: str | None = None
    read_only_root_filesystem: bool | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    run_as_user: int | None = None
    se_linux_options: SELinuxOptions | None = None
    seccomp_profile: SeccompProfile | None = None
    windows_options: WindowsSecurityContextOptions | None = None


class Sysctl(Model, frozen=True, kw_only=True):
    name: str = ""
    value: str = ""


class PodSecurityContext(Model, frozen=True, kw_only=True):
    app_armor_profile: AppArmorProfile | None = None
    fs_group: int | None = None
    fs_group_change_policy: str | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    run_as_user: int | None = None
    se_linux_change_policy: str | None = None
    se_linux_options: SELinuxOptions | None = None
    seccomp_profile: SeccompProfile | None = None
    supplemental_groups: tuple[int, ...] = ()
    supplemental_groups_policy: str | None = None
    sysctls: tuple[Sysctl, ...] = ()
    windows_options: WindowsSecurityContextOptions | None = None


# --- containers --------------------------------------------------------------------------------


class ContainerPort(Model, frozen=True, kw_only=True):
    container_port: int = 0
    host_ip: str = field(default="", name="hostIP")
    host_port: int = 0
    name: str = ""
    protocol: str = ""


class ResourceClaim(Model, frozen=True, kw_only=True):
    name: str = ""
    request: str = ""


class ResourceRequirements(Model, frozen=True, kw_only=True):
    claims: tuple[ResourceClaim, ...] = ()
    limits: dict[str, Quantity] = {}
    requests: dict[str, Quantity] = {}


class ContainerResizePolicy(Model, frozen=True, kw_only=True):
    resource_name: str = ""
    restart_policy: str = ""


class ContainerRestartRuleOnExitCodes(Model, frozen=True, kw_only=True):
    operator: str = ""
    values: tuple[int, ...] = ()


class ContainerRestartRule(Model, frozen=True, kw_only=True):
    action: str = ""
    exit_codes: ContainerRestartRuleOnExitCodes | None = None


class VolumeMount(Model, frozen=True, kw_only=True):
    mount_path: str = ""
    mount_propagation: str | None = None
    name: str = ""
    read_only: bool = False
    recursive_read_only: str | None = None
    sub_path: str = ""
    sub_path_expr: str = ""


class VolumeDevice(Model, frozen=True, kw_only=True):
    device_path: str = ""
    name: str = ""


class Container(Model, frozen=True, kw_only=True):
    """App containers and init containers alike."""

    args: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: tuple[EnvVar, ...] = ()
    env_from: tuple[EnvFromSource, ...] = ()
    image: str = ""
    image_pull_policy: str = ""
    lifecycle: Lifecycle | None = None
    liveness_probe: Probe | None = None
    name: str = ""
    ports: tuple[ContainerPort, ...] = ()
    readiness_probe: Probe | None = None
    resize_policy: tuple[ContainerResizePolicy, ...] = ()
    resources: ResourceRequirements = ResourceRequirements()
    restart_policy: str | None = None
    restart_policy_rules: tuple[ContainerRestartRule, ...] = ()
    security_context: SecurityContext | None = None
    startup_probe: Probe | None = None
    stdin: bool = False
    stdin_once: bool = False
    termination_message_path: str = ""
    termination_message_policy: str = ""
    tty: bool = False
    volume_devices: tuple[VolumeDevice, ...] = ()
    volume_mounts: tuple[VolumeMount, ...] = ()
    working_dir: str = ""


class EphemeralContainer(Container, frozen=True, kw_only=True):
    """A container added to a live pod, never in a manifest."""

    target_container_name: str = ""


def is_sidecar(container: Container) -> bool:
    """Whether an init container is a sidecar: it goes on beside the app containers."""
    return container.restart_policy == "Always"


# --- volumes -----------------------------------------------------------------------------------


class KeyToPath(Model, frozen=True, kw_only=True):
    key: str = ""
    mode: int | None = None
    path: str = ""


class EmptyDirVolumeSource(Model, frozen=True, kw_only=True):
    medium: str = ""
    size_limit: Quantity | None = None


class HostPathVolumeSource(Model, frozen=True, kw_only=True):
    path: str = ""
    type: str | None = None


class ConfigMapVolumeSource(Model, frozen=True, kw_only=True):
    default_mode: int | None = None
    items: tuple[KeyToPath, ...] = ()
    name: str = ""
    optional: bool | None = None


class SecretVolumeSource(Model, frozen=True, kw_only=True):
    default_mode: int | None = None
    items: tuple[KeyToPath, ...] = ()
    optional: bool | None = None
    secret_name: str = ""


class DownwardAPIVolumeFile(Model, frozen=True, kw_only=True):
    field_ref: ObjectFieldSelector | None = None
    mode: int | None = None
    path: str = ""
    resource_field_ref: ResourceFieldSelector | None = None


class DownwardAPIVolumeSource(Model, frozen=True, kw_only=True):
    default_mode: int | None = None
    items: tuple[DownwardAPIVolumeFile, ...] = ()


class ProjectionSource(Model, frozen=True, kw_only=True):
    """configMap and secret inside a projected volume."""

    items: tuple[KeyToPath, ...] = ()
    name: str = ""
    optional: bool | None = None


class DownwardAPIProjection(Model, frozen=True, kw_only=True):
    items: tuple[DownwardAPIVolumeFile, ...] = ()


class ServiceAccountTokenProjection(Model, frozen=True, kw_only=True):
    audience: str = ""
    expiration_seconds: int | None = None
    path: str = ""


class VolumeProjection(Model, frozen=True, kw_only=True):
    cluster_trust_bundle: Opaque | None = None
    config_map: ProjectionSource | None = None
    downward_api: DownwardAPIProjection | None = field(default=None, name="downwardAPI")
    pod_certificate: Opaque | None = None
    secret: ProjectionSource | None = None
    service_account_token: ServiceAccountTokenProjection | None = None


class ProjectedVolumeSource(Model, frozen=True, kw_only=True):
    default_mode: int | None = None
    sources: tuple[VolumeProjection, ...] = ()


class PersistentVolumeClaimVolumeSource(Model, frozen=True, kw_only=True):
    claim_name: str = ""
    read_only: bool = False


class CSIVolumeSource(Model, frozen=True, kw_only=True):
    driver: str = ""
    fs_type: str | None = None
    node_publish_secret_ref: LocalObjectReference | None = None
    read_only: bool | None = None
    volume_attributes: dict[str, str] = {}


class EphemeralVolumeSource(Model, frozen=True, kw_only=True):
    volume_claim_template: Opaque | None = None


class ImageVolumeSource(Model, frozen=True, kw_only=True):
    pull_policy: str = ""
    reference: str = ""


class NFSVolumeSource(Model, frozen=True, kw_only=True):
    path: str = ""
    read_only: bool = False
    server: str = ""


class Volume(Model, frozen=True, kw_only=True):
    aws_elastic_block_store: Opaque | None = None
    azure_disk: Opaque | None = None
    azure_file: Opaque | None = None
    cephfs: Opaque | None = None
    cinder: Opaque | None = None
    config_map: ConfigMapVolumeSource | None = None
    csi: CSIVolumeSource | None = None
    downward_api: DownwardAPIVolumeSource | None = field(default=None, name="downwardAPI")
    empty_dir: EmptyDirVolumeSource | None = None
    ephemeral: EphemeralVolumeSource | None = None
    fc: Opaque | None = None
    flex_volume: Opaque | None = None
    flocker: Opaque | None = None
    gce_persistent_disk: Opaque | None = None
    git_repo: Opaque | None = None
    glusterfs: Opaque | None = None
    host_path: HostPathVolumeSource | None = None
    image: ImageVolumeSource | None = None
    iscsi: Opaque | None = None
    name: str = ""
    nfs: NFSVolumeSource | None = None
    persistent_volume_claim: PersistentVolumeClaimVolumeSource | None = None
    photon_persistent_disk: Opaque | None = None
    portworx_volume: Opaque | None = None
    projected: ProjectedVolumeSource | None = None
    quobyte: Opaque | None = None
    rbd: Opaque | None = None
    scale_io: Opaque | None = field(default=None, name="scaleIO")
    secret: SecretVolumeSource | None = None
    storageos: Opaque | None = None
    vsphere_volume: Opaque | None = None


# --- the pod's specification -------------------------------------------------------------------


class Affinity(Model, frozen=True, kw_only=True):
    node_affinity: Opaque | None = None
    pod_affinity: Opaque | None = None
    pod_anti_affinity: Opaque | None = None


class Toleration(Model, frozen=True, kw_only=True):
    effect: str = ""
    key: str = ""
    operator: str = ""
    toleration_seconds: int | None = None
    value: str = ""


class LabelSelector(Model, frozen=True, kw_only=True):
    match_expressions: tuple[Opaque, ...] = ()
    match_labels: dict[str, str] = {}


class TopologySpreadConstraint(Model, frozen=True, kw_only=True):
    label_selector: LabelSelector | None = None
    match_label_keys: tuple[str, ...] = ()
    max_skew: int = 0
    min_domains: int | None = None
    node_affinity_policy: str | None = None
    node_taints_policy: str | None = None
    topology_key: str = ""
    when_unsatisfiable: str = ""


class HostAlias(Model, frozen=True, kw_only=True):
    hostnames: tuple[str, ...] = ()
    ip: str = ""


class PodDNSConfigOption(Model, frozen=True, kw_only=True):
    name: str = ""
    value: str | None = None


class PodDNSConfig(Model, frozen=True, kw_only=True):
    nameservers: tuple[str, ...] = ()
    options: tuple[PodDNSConfigOption, ...] = ()
    searches: tuple[str, ...] = ()


class PodOS(Model, frozen=True, kw_only=True):
    name: str = ""


class PodReadinessGate(Model, frozen=True, kw_only=True):
    condition_type: str = ""


class PodSchedulingGate(Model, frozen=True, kw_only=True):
    name: str = ""


class PodResourceClaim(Model, frozen=True, kw_only=True):
    name: str = ""
    resource_claim_name: str | None = None
    resource_claim_template_name: str | None = None


class PodSchedulingGroup(Model, frozen=True, kw_only=True):
    pod_group_name: str | None = None


class WorkloadReference(Model, frozen=True, kw_only=True):
    name: str = ""
    pod_group: str = ""
    pod_group_replica_key: str = ""


class PodSpec(Model, frozen=True, kw_only=True):
    active_deadline_seconds: int | None = None
    affinity: Affinity | None = None
    automount_service_account_token: bool | None = None
    containers: tuple[Container, ...] = ()
    dns_config: PodDNSConfig | None = None
    dns_policy: str = ""
    enable_service_links: bool | None = None
    ephemeral_containers: tuple[EphemeralContainer, ...] = ()
    host_aliases: tuple[HostAlias, ...] = ()
    host_ipc: bool = field(default=False, name="hostIPC")
    host_network: bool = False
    host_pid: bool = field(default=False, name="hostPID")
    host_users: bool | None = None
    hostname: str = ""
    hostname_override: str | None = None
    image_pull_secrets: tuple[LocalObjectReference, ...] = ()
    init_containers: tuple[Container, ...] = ()
    node_name: str = ""
    node_selector: dict[str, str] = {}
    os: PodOS | None = None
    overhead: dict[str, Quantity] = {}
    preemption_policy: str | None = None
    priority: int | None = None
    priority_class_name: str = ""
    readiness_gates: tuple[PodReadinessGate, ...] = ()
    resource_claims: tuple[PodResourceClaim, ...] = ()
    resources: ResourceRequirements | None = None
    restart_policy: str = ""
    runtime_class_name: str | None = None
    scheduler_name: str = ""
    scheduling_gates: tuple[PodSchedulingGate, ...] = ()
    scheduling_group: PodSchedulingGroup | None = None
    security_context: PodSecurityContext | None = None
    service_account: str = ""
    service_account_name: str = ""
    set_hostname_as_fqdn: bool | None = field(default=None, name="setHostnameAsFQDN")
    share_process_namespace: bool | None = None
    subdomain: str = ""
    termination_grace_period_seconds: int | None = None
    tolerations: tuple[Toleration, ...] = ()
    topology_spread_constraints: tuple[TopologySpreadConstraint, ...] = ()
    volumes: tuple[Volume, ...] = ()
    workload_ref: WorkloadReference | None = None


def containers(spec: PodSpec) -> tuple[Container, ...]:
    """All of a pod's containers: init, app, ephemeral."""
    return (*spec.init_containers, *spec.containers, *spec.ephemeral_containers)


# --- the pod's status --------------------------------------------------------------------------


class ContainerStateWaiting(Model, frozen=True, kw_only=True):
    message: str = ""
    reason: str = ""


class ContainerStateRunning(Model, frozen=True, kw_only=True):
    started_at: Time | None = None


class ContainerStateTerminated(Model, frozen=True, kw_only=True):
    container_id: str = field(default="", name="containerID")
    exit_code: int  # written also when it is 0
    finished_at: Time | None = None
    message: str = ""
    reason: str = ""
    signal: int = 0
    started_at: Time | None = None


class ContainerState(Model, frozen=True, kw_only=True):
    """At most one of the three is set."""

    running: ContainerStateRunning | None = None
    terminated: ContainerStateTerminated | None = None
    waiting: ContainerStateWaiting | None = None


class VolumeMountStatus(Model, frozen=True, kw_only=True):
    mount_path: str = ""
    name: str = ""
    read_only: bool = False
    recursive_read_only: str | None = None


class ContainerStatus(Model, frozen=True, kw_only=True):
    """Fields without a default are always written, as the API does."""

    allocated_resources: dict[str, Quantity] = {}
    allocated_resources_status: tuple[Opaque, ...] = ()
    container_id: str = field(default="", name="containerID")
    image: str
    image_id: str = field(name="imageID")
    last_state: ContainerState = field(default_factory=ContainerState)
    name: str
    ready: bool
    resources: ResourceRequirements | None = None
    restart_count: int
    started: bool | None = None
    state: ContainerState = ContainerState()
    stop_signal: str | None = None
    user: Opaque | None = None
    volume_mounts: tuple[VolumeMountStatus, ...] = ()


class PodCondition(Model, frozen=True, kw_only=True):
    last_probe_time: Time | None = field(default_factory=lambda: None)  # written as null
    last_transition_time: Time | None = None
    message: str = ""
    observed_generation: int = 0
    reason: str = ""
    status: str  # True, False, Unknown
    type: str


class HostIP(Model, frozen=True, kw_only=True):
    ip: str = ""


class PodIP(Model, frozen=True, kw_only=True):
    ip: str = ""


class PodStatus(Model, frozen=True, kw_only=True):
    allocated_resources: dict[str, Quantity] = {}
    conditions: tuple[PodCondition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    ephemeral_container_statuses: tuple[ContainerStatus, ...] = ()
    extended_resource_claim_status: Opaque | None = None
    host_ip: str = field(default="", name="hostIP")
    host_ips: tuple[HostIP, ...] = field(default=(), name="hostIPs")
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    message: str = ""
    nominated_node_name: str = ""
    observed_generation: int = 0
    phase: str = ""
    pod_ip: str = field(default="", name="podIP")
    pod_ips: tuple[PodIP, ...] = field(default=(), name="podIPs")
    qos_class: str = ""
    reason: str = ""
    resize: str = ""
    resource_claim_statuses: tuple[Opaque, ...] = ()
    resources: ResourceRequirements | None = None
    start_time: Time | None = None


def container_statuses(status: PodStatus) -> tuple[ContainerStatus, ...]:
    """Of all of a pod's containers: init, app, ephemeral."""
    return (
        *status.init_container_statuses,
        *status.container_statuses,
        *status.ephemeral_container_statuses,
    )


# --- workloads ---------------------------------------------------------------------------------
#
# Kinds with a pod template. The template is read as a pod (`workloads.py`), so here it is opaque;
# of the rest only the names and the types of fields matter.


class PodTemplateSpec(Model, frozen=True, kw_only=True):
    metadata: Opaque | None = None
    spec: Opaque | None = None


class DeploymentSpec(Model, frozen=True, kw_only=True):
    min_ready_seconds: int = 0
    paused: bool = False
    progress_deadline_seconds: int | None = None
    replicas: int | None = None
    revision_history_limit: int | None = None
    selector: LabelSelector | None = None
    strategy: Opaque | None = None
    template: PodTemplateSpec | None = None


class StatefulSetSpec(Model, frozen=True, kw_only=True):
    min_ready_seconds: int = 0
    ordinals: Opaque | None = None
    persistent_volume_claim_retention_policy: Opaque | None = None
    pod_management_policy: str = ""
    replicas: int | None = None
    revision_history_limit: int | None = None
    selector: LabelSelector | None = None
    service_name: str = ""
    template: PodTemplateSpec | None = None
    update_strategy: Opaque | None = None
    volume_claim_templates: tuple[Opaque, ...] = ()


class DaemonSetSpec(Model, frozen=True, kw_only=True):
    min_ready_seconds: int = 0
    revision_history_limit: int | None = None
    selector: LabelSelector | None = None
    template: PodTemplateSpec | None = None
    update_strategy: Opaque | None = None


class ReplicaSetSpec(Model, frozen=True, kw_only=True):
    min_ready_seconds: int = 0
    replicas: int | None = None
    selector: LabelSelector | None = None
    template: PodTemplateSpec | None = None


class ReplicationControllerSpec(Model, frozen=True, kw_only=True):
    min_ready_seconds: int = 0
    replicas: int | None = None
    selector: dict[str, str] = {}
    template: PodTemplateSpec | None = None


class JobSpec(Model, frozen=True, kw_only=True):
    active_deadline_seconds: int | None = None
    backoff_limit: int | None = None
    backoff_limit_per_index: int | None = None
    completion_mode: str | None = None
    completions: int | None = None
    managed_by: str | None = None
    manual_selector: bool | None = None
    max_failed_indexes: int | None = None
    parallelism: int | None = None
    pod_failure_policy: Opaque | None = None
    pod_replacement_policy: str | None = None
    selector: LabelSelector | None = None
    success_policy: Opaque | None = None
    suspend: bool | None = None
    template: PodTemplateSpec | None = None
    ttl_seconds_after_finished: int | None = None


class JobTemplateSpec(Model, frozen=True, kw_only=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: JobSpec | None = None


class CronJobSpec(Model, frozen=True, kw_only=True):
    concurrency_policy: str = ""
    failed_jobs_history_limit: int | None = None
    job_template: JobTemplateSpec | None = None
    schedule: str = ""
    starting_deadline_seconds: int | None = None
    successful_jobs_history_limit: int | None = None
    suspend: bool | None = None
    time_zone: str | None = None


class Workload(Model, frozen=True, kw_only=True):
    """What they have in common."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = ObjectMeta()
    status: Opaque | None = None


class Deployment(Workload, frozen=True, kw_only=True):
    spec: DeploymentSpec | None = None


class StatefulSet(Workload, frozen=True, kw_only=True):
    spec: StatefulSetSpec | None = None


class DaemonSet(Workload, frozen=True, kw_only=True):
    spec: DaemonSetSpec | None = None


class ReplicaSet(Workload, frozen=True, kw_only=True):
    spec: ReplicaSetSpec | None = None


class ReplicationController(Workload, frozen=True, kw_only=True):
    spec: ReplicationControllerSpec | None = None


class Job(Workload, frozen=True, kw_only=True):
    spec: JobSpec | None = None


class CronJob(Workload, frozen=True, kw_only=True):
    spec: CronJobSpec | None = None


class PodTemplate(Workload, frozen=True, kw_only=True):
    template: PodTemplateSpec | None = None


# --- the kinds ---------------------------------------------------------------------------------


class Pod(Model, frozen=True, kw_only=True):
    api_version: str = always("v1")
    kind: str = always("Pod")
    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class ConfigMap(Model, frozen=True, kw_only=True):
    api_version: str = always("v1")
    binary_data: dict[str, str] = {}  # base64
    data: dict[str, str] = {}
    immutable: bool | None = None
    kind: str = always("ConfigMap")
    metadata: ObjectMeta = ObjectMeta()


class Secret(Model, frozen=True, kw_only=True):
    api_version: str = always("v1")
    data: dict[str, str] = {}  # base64
    immutable: bool | None = None
    kind: str = always("Secret")
    metadata: ObjectMeta = ObjectMeta()
    string_data: dict[str, str] = {}  # goes into `data`, and wins there
    type: str = ""

    def __repr__(self) -> str:
        # Reports of bugs end where anybody reads them.
        return f"Secret({self.metadata.namespace}/{self.metadata.name})"


class PodList(Model, frozen=True, kw_only=True):
    """Also written for several pods as kind List, as kubectl does."""

    api_version: str = always("v1")
    items: tuple[Pod, ...] = field(default_factory=tuple)
    kind: str = always("PodList")
    metadata: ListMeta = field(default_factory=ListMeta)


class ObjectReference(Model, frozen=True, kw_only=True):
    api_version: str = ""
    field_path: str = ""
    kind: str = ""
    name: str = ""
    namespace: str = ""
    resource_version: str = ""
    uid: str = ""


class EventSource(Model, frozen=True, kw_only=True):
    component: str = ""
    host: str = ""


class EventSeries(Model, frozen=True, kw_only=True):
    count: int = 0
    last_observed_time: MicroTime | None = None


class Event(Model, frozen=True, kw_only=True):
    action: str = ""
    api_version: str = always("v1")
    count: int = 0
    event_time: MicroTime | None = None
    first_timestamp: Time | None = None
    involved_object: ObjectReference = ObjectReference()
    kind: str = always("Event")
    last_timestamp: Time | None = None
    message: str = ""
    metadata: ObjectMeta = ObjectMeta()
    reason: str = ""
    related: ObjectReference | None = None
    reporting_component: str = ""
    reporting_instance: str = ""
    series: EventSeries | None = None
    source: EventSource = EventSource()
    type: str = ""
