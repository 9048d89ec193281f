"""The kinds that only an API server speaks: nodes, services, leases, reviews, options.

They are apart from `v1.py` because every command imports that one, and only a node that serves
the API needs these. The rules for annotations are the same there; so is the rest of its story.
What is stored and never acted upon (services, endpoints) is modelled all the same: a mistyped
field has to be refused here as it would be on a cluster.
"""

from __future__ import annotations

from msgspec import field

from supervisor.api.v1 import (
    IntOrString,
    ListMeta,
    LocalObjectReference,
    MicroTime,
    Model,
    ObjectMeta,
    ObjectReference,
    Opaque,
    PodSpec,
    Quantity,
    Time,
    always,
)

# --- namespaces --------------------------------------------------------------------------------


class NamespaceSpec(Model, frozen=True, kw_only=True):
    finalizers: tuple[str, ...] = ()


class NamespaceCondition(Model, frozen=True, kw_only=True):
    last_transition_time: Time | None = None
    message: str = ""
    reason: str = ""
    status: str
    type: str


class NamespaceStatus(Model, frozen=True, kw_only=True):
    conditions: tuple[NamespaceCondition, ...] = ()
    phase: str = ""


class Namespace(Model, frozen=True, kw_only=True):
    api_version: str = always("v1")
    kind: str = always("Namespace")
    metadata: ObjectMeta = ObjectMeta()
    spec: NamespaceSpec = NamespaceSpec()
    status: NamespaceStatus = NamespaceStatus()


# --- nodes -------------------------------------------------------------------------------------


class Taint(Model, frozen=True, kw_only=True):
    effect: str = ""
    key: str = ""
    time_added: Time | None = None
    value: str = ""


class NodeSpec(Model, frozen=True, kw_only=True):
    config_source: Opaque | None = None
    external_id: str = field(default="", name="externalID")
    pod_cidr: str = field(default="", name="podCIDR")
    pod_cidrs: tuple[str, ...] = field(default=(), name="podCIDRs")
    provider_id: str = field(default="", name="providerID")
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False


class NodeAddress(Model, frozen=True, kw_only=True):
    address: str
    type: str


class NodeCondition(Model, frozen=True, kw_only=True):
    last_heartbeat_time: Time | None = None
    last_transition_time: Time | None = None
    message: str = ""
    reason: str = ""
    status: str
    type: str


class DaemonEndpoint(Model, frozen=True, kw_only=True):
    port: int = field(name="Port")


class NodeDaemonEndpoints(Model, frozen=True, kw_only=True):
    kubelet_endpoint: DaemonEndpoint | None = None


class NodeSwapStatus(Model, frozen=True, kw_only=True):
    capacity: int | None = None  # bytes


class NodeSystemInfo(Model, frozen=True, kw_only=True):
    """All of it is always written: clients insist."""

    architecture: str
    boot_id: str = field(name="bootID")
    container_runtime_version: str
    kernel_version: str
    kube_proxy_version: str
    kubelet_version: str
    machine_id: str = field(name="machineID")
    operating_system: str
    os_image: str
    swap: NodeSwapStatus | None = None
    system_uuid: str = field(name="systemUUID")


class ContainerImage(Model, frozen=True, kw_only=True):
    names: tuple[str, ...] = ()
    size_bytes: int = 0


class AttachedVolume(Model, frozen=True, kw_only=True):
    device_path: str = ""
    name: str = ""


class NodeFeatures(Model, frozen=True, kw_only=True):
    supplemental_groups_policy: bool | None = None


class NodeStatus(Model, frozen=True, kw_only=True):
    addresses: tuple[NodeAddress, ...] = ()
    allocatable: dict[str, Quantity] = {}
    capacity: dict[str, Quantity] = {}
    conditions: tuple[NodeCondition, ...] = ()
    config: Opaque | None = None
    daemon_endpoints: NodeDaemonEndpoints | None = None
    declared_features: tuple[str, ...] = ()
    features: NodeFeatures | None = None
    images: tuple[ContainerImage, ...] = ()
    node_info: NodeSystemInfo | None = None
    phase: str = ""
    runtime_handlers: tuple[Opaque, ...] = ()
    volumes_attached: tuple[AttachedVolume, ...] = ()
    volumes_in_use: tuple[str, ...] = ()


class Node(Model, frozen=True, kw_only=True):
    api_version: str = always("v1")
    kind: str = always("Node")
    metadata: ObjectMeta = ObjectMeta()
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class LeaseSpec(Model, frozen=True, kw_only=True):
    acquire_time: MicroTime | None = None
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    lease_transitions: int | None = None
    preferred_holder: str | None = None
    renew_time: MicroTime | None = None
    strategy: str | None = None


class Lease(Model, frozen=True, kw_only=True):
    api_version: str = always("coordination.k8s.io/v1")
    kind: str = always("Lease")
    metadata: ObjectMeta = ObjectMeta()
    spec: LeaseSpec = LeaseSpec()


# --- services ----------------------------------------------------------------------------------


class ServicePort(Model, frozen=True, kw_only=True):
    app_protocol: str | None = None
    name: str = ""
    node_port: int = 0
    port: int = 0
    protocol: str = ""
    target_port: IntOrString | None = None


class ClientIPConfig(Model, frozen=True, kw_only=True):
    timeout_seconds: int | None = None


class SessionAffinityConfig(Model, frozen=True, kw_only=True):
    client_ip: ClientIPConfig | None = field(default=None, name="clientIP")


class ServiceSpec(Model, frozen=True, kw_only=True):
    allocate_load_balancer_node_ports: bool | None = None
    cluster_ip: str = field(default="", name="clusterIP")
    cluster_ips: tuple[str, ...] = field(default=(), name="clusterIPs")
    external_ips: tuple[str, ...] = field(default=(), name="externalIPs")
    external_name: str = ""
    external_traffic_policy: str = ""
    health_check_node_port: int = 0
    internal_traffic_policy: str | None = None
    ip_families: tuple[str, ...] = ()
    ip_family_policy: str | None = None
    load_balancer_class: str | None = None
    load_balancer_ip: str = field(default="", name="loadBalancerIP")
    load_balancer_source_ranges: tuple[str, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    publish_not_ready_addresses: bool = False
    selector: dict[str, str] = {}
    session_affinity: str = ""
    session_affinity_config: SessionAffinityConfig | None = None
    traffic_distribution: str | None = None
    type: str = ""


class PortStatus(Model, frozen=True, kw_only=True):
    error: str | None = None
    port: int
    protocol: str


class LoadBalancerIngress(Model, frozen=True, kw_only=True):
    hostname: str = ""
    ip: str = ""
    ip_mode: str | None = None
    ports: tuple[PortStatus, ...] = ()


class LoadBalancerStatus(Model, frozen=True, kw_only=True):
    ingress: tuple[LoadBalancerIngress, ...] = ()


class Condition(Model, frozen=True, kw_only=True):
    last_transition_time: Time
    message: str
    observed_generation: int = 0
    reason: str
    status: str
    type: str


class ServiceStatus(Model, frozen=True, kw_only=True):
    conditions: tuple[Condition, ...] = ()
    load_balancer: LoadBalancerStatus = field(default_factory=LoadBalancerStatus)  # written as {}


class Service(Model, frozen=True, kw_only=True):
    api_version: str = always("v1")
    kind: str = always("Service")
    metadata: ObjectMeta = ObjectMeta()
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()


class EndpointAddress(Model, frozen=True, kw_only=True):
    hostname: str = ""
    ip: str = ""
    node_name: str | None = None
    target_ref: ObjectReference | None = None


class EndpointPort(Model, frozen=True, kw_only=True):
    app_protocol: str | None = None
    name: str = ""
    port: int = 0
    protocol: str = ""


class EndpointSubset(Model, frozen=True, kw_only=True):
    addresses: tuple[EndpointAddress, ...] = ()
    not_ready_addresses: tuple[EndpointAddress, ...] = ()
    ports: tuple[EndpointPort, ...] = ()


class Endpoints(Model, frozen=True, kw_only=True):
    api_version: str = always("v1")
    kind: str = always("Endpoints")
    metadata: ObjectMeta = ObjectMeta()
    subsets: tuple[EndpointSubset, ...] = ()


class ServiceAccount(Model, frozen=True, kw_only=True):
    api_version: str = always("v1")
    automount_service_account_token: bool | None = None
    image_pull_secrets: tuple[LocalObjectReference, ...] = ()
    kind: str = always("ServiceAccount")
    metadata: ObjectMeta = ObjectMeta()
    secrets: tuple[ObjectReference, ...] = ()


# --- pods, as the API is asked about them ------------------------------------------------------


class PodTemplateSpec(Model, frozen=True, kw_only=True):
    """With what is in it; that of `v1.py` belongs to manifests, whose templates become pods."""

    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec = PodSpec()


class PodTemplate(Model, frozen=True, kw_only=True):
    api_version: str = always("v1")
    kind: str = always("PodTemplate")
    metadata: ObjectMeta = ObjectMeta()
    template: PodTemplateSpec = PodTemplateSpec()


class ControllerRevision(Model, frozen=True, kw_only=True):
    api_version: str = always("apps/v1")
    data: Opaque | None = None
    kind: str = always("ControllerRevision")
    metadata: ObjectMeta = ObjectMeta()
    revision: int = 0


class Binding(Model, frozen=True, kw_only=True):
    api_version: str = always("v1")
    kind: str = always("Binding")
    metadata: ObjectMeta = ObjectMeta()
    target: ObjectReference = ObjectReference()


class Preconditions(Model, frozen=True, kw_only=True):
    resource_version: str | None = None
    uid: str | None = None


class DeleteOptions(Model, frozen=True, kw_only=True):
    api_version: str = ""
    dry_run: tuple[str, ...] = ()
    grace_period_seconds: int | None = None
    ignore_store_read_error_with_cluster_breaking_potential: bool | None = None
    kind: str = ""
    orphan_dependents: bool | None = None
    preconditions: Preconditions | None = None
    propagation_policy: str | None = None


class Eviction(Model, frozen=True, kw_only=True):
    api_version: str = always("policy/v1")
    delete_options: DeleteOptions | None = None
    kind: str = always("Eviction")
    metadata: ObjectMeta = ObjectMeta()


# --- reviews -----------------------------------------------------------------------------------


class SelectorRequirement(Model, frozen=True, kw_only=True):
    """Of labels and of fields."""

    key: str = ""
    operator: str = ""
    values: tuple[str, ...] = ()


class SelectorAttributes(Model, frozen=True, kw_only=True):
    """Of labels and of fields."""

    raw_selector: str = ""
    requirements: tuple[SelectorRequirement, ...] = ()


class ResourceAttributes(Model, frozen=True, kw_only=True):
    field_selector: SelectorAttributes | None = None
    group: str = ""
    label_selector: SelectorAttributes | None = None
    name: str = ""
    namespace: str = ""
    resource: str = ""
    subresource: str = ""
    verb: str = ""
    version: str = ""


class NonResourceAttributes(Model, frozen=True, kw_only=True):
    path: str = ""
    verb: str = ""


class SelfSubjectAccessReviewSpec(Model, frozen=True, kw_only=True):
    non_resource_attributes: NonResourceAttributes | None = None
    resource_attributes: ResourceAttributes | None = None


class SubjectAccessReviewStatus(Model, frozen=True, kw_only=True):
    allowed: bool
    denied: bool = False
    evaluation_error: str = ""
    reason: str = ""


class SelfSubjectAccessReview(Model, frozen=True, kw_only=True):
    api_version: str = always("authorization.k8s.io/v1")
    kind: str = always("SelfSubjectAccessReview")
    metadata: ObjectMeta = ObjectMeta()
    spec: SelfSubjectAccessReviewSpec = SelfSubjectAccessReviewSpec()
    status: SubjectAccessReviewStatus | None = None


class SelfSubjectRulesReviewSpec(Model, frozen=True, kw_only=True):
    namespace: str = ""


class ResourceRule(Model, frozen=True, kw_only=True):
    api_groups: tuple[str, ...] = ()
    resource_names: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()


class NonResourceRule(Model, frozen=True, kw_only=True):
    non_resource_urls: tuple[str, ...] = field(default=(), name="nonResourceURLs")
    verbs: tuple[str, ...] = ()


class SubjectRulesReviewStatus(Model, frozen=True, kw_only=True):
    evaluation_error: str = ""
    incomplete: bool
    non_resource_rules: tuple[NonResourceRule, ...] = field(default_factory=tuple)
    resource_rules: tuple[ResourceRule, ...] = field(default_factory=tuple)


class SelfSubjectRulesReview(Model, frozen=True, kw_only=True):
    api_version: str = always("authorization.k8s.io/v1")
    kind: str = always("SelfSubjectRulesReview")
    metadata: ObjectMeta = ObjectMeta()
    spec: SelfSubjectRulesReviewSpec = SelfSubjectRulesReviewSpec()
    status: SubjectRulesReviewStatus | None = None


class UserInfo(Model, frozen=True, kw_only=True):
    extra: dict[str, tuple[str, ...]] = {}
    groups: tuple[str, ...] = ()
    uid: str = ""
    username: str = ""


class SelfSubjectReviewStatus(Model, frozen=True, kw_only=True):
    user_info: UserInfo | None = None


class SelfSubjectReview(Model, frozen=True, kw_only=True):
    api_version: str = always("authentication.k8s.io/v1")
    kind: str = always("SelfSubjectReview")
    metadata: ObjectMeta = ObjectMeta()
    status: SelfSubjectReviewStatus | None = None


class TokenReviewSpec(Model, frozen=True, kw_only=True):
    audiences: tuple[str, ...] = ()
    token: str = ""

    def __repr__(self) -> str:
        return "TokenReviewSpec(...)"  # reports of bugs end where anybody reads them


class TokenReviewStatus(Model, frozen=True, kw_only=True):
    audiences: tuple[str, ...] = ()
    authenticated: bool = False
    error: str = ""
    user: UserInfo | None = None


class TokenReview(Model, frozen=True, kw_only=True):
    api_version: str = always("authentication.k8s.io/v1")
    kind: str = always("TokenReview")
    metadata: ObjectMeta = ObjectMeta()
    spec: TokenReviewSpec = TokenReviewSpec()
    status: TokenReviewStatus | None = None


# --- metrics -----------------------------------------------------------------------------------


class ContainerMetrics(Model, frozen=True, kw_only=True):
    name: str
    usage: dict[str, Quantity]


class NodeMetrics(Model, frozen=True, kw_only=True):
    api_version: str = always("metrics.k8s.io/v1beta1")
    kind: str = always("NodeMetrics")
    metadata: ObjectMeta = ObjectMeta()
    timestamp: Time
    usage: dict[str, Quantity]
    window: str  # "10s"


class PodMetrics(Model, frozen=True, kw_only=True):
    api_version: str = always("metrics.k8s.io/v1beta1")
    containers: tuple[ContainerMetrics, ...]
    kind: str = always("PodMetrics")
    metadata: ObjectMeta = ObjectMeta()
    timestamp: Time
    window: str


# --- answers -----------------------------------------------------------------------------------


class StatusCause(Model, frozen=True, kw_only=True):
    field_: str = field(default="", name="field")
    message: str = ""
    reason: str = ""


class StatusDetails(Model, frozen=True, kw_only=True):
    causes: tuple[StatusCause, ...] = ()
    group: str = ""
    kind: str = ""
    name: str = ""
    retry_after_seconds: int = 0
    uid: str = ""


class Status(Model, frozen=True, kw_only=True):
    api_version: str = always("v1")
    code: int = 0
    details: StatusDetails | None = None
    kind: str = always("Status")
    message: str = ""
    metadata: ListMeta = field(default_factory=ListMeta)
    reason: str = ""
    status: str = ""
