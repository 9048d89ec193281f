"""The words that users and their tools meet: phases, conditions, reasons and message texts.

Reasons are Kubernetes' own wherever Kubernetes has one, because scripts and dashboards match on
them. A reason or text of ours says so.
"""

from __future__ import annotations

# --- phases (§1.1) -----------------------------------------------------------------------------

PENDING = "Pending"
RUNNING = "Running"
SUCCEEDED = "Succeeded"
FAILED = "Failed"

UNKNOWN = "Unknown"  # never written: what is shown of a pod whose node is dead (§1.1.13)

TERMINAL_PHASES = frozenset({SUCCEEDED, FAILED})

# --- conditions the node owns (§1.2) -----------------------------------------------------------

READY_TO_START = "PodReadyToStartContainers"
INITIALIZED = "Initialized"
READY = "Ready"
CONTAINERS_READY = "ContainersReady"
POD_SCHEDULED = "PodScheduled"
ALL_RESTARTING = "AllContainersRestarting"

OWN_CONDITIONS = frozenset(
    {READY_TO_START, INITIALIZED, READY, CONTAINERS_READY, POD_SCHEDULED, ALL_RESTARTING}
)

# Names from before a condition got its present one; accepted wherever a condition is named.
CONDITION_ALIASES = {"PodHasNetwork": READY_TO_START}

POD_COMPLETED = "PodCompleted"
POD_FAILED = "PodFailed"
CONTAINERS_NOT_INITIALIZED = "ContainersNotInitialized"
CONTAINERS_NOT_READY = "ContainersNotReady"
READINESS_GATES_NOT_READY = "ReadinessGatesNotReady"
RESTART_ALL_STARTED = "RestartAllContainersStarted"
RESTART_ALL_MESSAGE = "container exited with restart policy rule"


def incomplete(names: list[str]) -> str:
    return f"containers with incomplete status: [{' '.join(names)}]"


def unready(names: list[str]) -> str:
    return f"containers with unready status: [{' '.join(names)}]"


def gate_missing(condition: str) -> str:
    return f'corresponding condition of pod readiness gate "{condition}" does not exist.'


def gate_not_true(condition: str, status: str) -> str:
    return f'the status of pod readiness gate "{condition}" is not "True", but {status}'


# --- containers: waiting (§2.2) ----------------------------------------------------------------

CONTAINER_CREATING = "ContainerCreating"
POD_INITIALIZING = "PodInitializing"
CRASH_LOOP_BACK_OFF = "CrashLoopBackOff"
CREATE_CONTAINER_CONFIG_ERROR = "CreateContainerConfigError"
CREATE_CONTAINER_ERROR = "CreateContainerError"
POST_START_HOOK_ERROR = "PostStartHookError"
RESTARTING_ALL = "RestartingAllContainers"  # also of instances that were killed for it (§2.3)
RESTARTING_ALL_MESSAGE = "The container is removed because RestartAllContainers in place"


def crash_loop(delay: float, container: str, pod: str) -> str:
    """`pod` is name_namespace(uid)."""
    return f"back-off {go_duration(delay)} restarting failed container={container} pod={pod}"


def go_duration(seconds: float) -> str:
    """A duration as Go prints it: 10s, 1m20s, 5m0s, 1.5s, 50ms."""
    millis = round(seconds * 1000)
    if millis == 0:
        return "0s"
    if millis < 1000:
        return f"{millis}ms"
    minutes, millis = divmod(millis, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{millis / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


# --- containers: terminated (§2.3) -------------------------------------------------------------

COMPLETED = "Completed"
ERROR = "Error"
START_ERROR = "StartError"
START_ERROR_CODE = 128
STATUS_UNKNOWN = "ContainerStatusUnknown"
STATUS_UNKNOWN_CODE = 137
KILLED_CODE = 137
NOT_LOCATED = "The container could not be located when the pod was terminated"
LOST = "The container was lost while it was running, and how it ended is not known"  # ours

# --- the pod -----------------------------------------------------------------------------------

DISRUPTION_TARGET = "DisruptionTarget"
TERMINATION_BY_KUBELET = "TerminationByKubelet"
TERMINATED = "Terminated"
SHUTDOWN_MESSAGE = "Pod was terminated in response to imminent node shutdown."

DEADLINE_EXCEEDED = "DeadlineExceeded"
DEADLINE_EXCEEDED_MESSAGE = "Pod was active on the node longer than the specified deadline"

EVICTED = "Evicted"  # also of the event


def over_limit(volume: str, limit: str) -> str:
    return f'Usage of EmptyDir volume "{volume}" exceeds the limit "{limit}". '


# --- events (§11.2) ----------------------------------------------------------------------------

NORMAL = "Normal"
WARNING = "Warning"

KUBELET = "kubelet"
SCHEDULER = "default-scheduler"

SCHEDULED = "Scheduled"
PULLED = "Pulled"
CREATED = "Created"
CREATED_MESSAGE = "Container created"
STARTED = "Started"
STARTED_MESSAGE = "Container started"
FAILED_EVENT = "Failed"
KILLING = "Killing"
BACK_OFF = "BackOff"
UNHEALTHY = "Unhealthy"
PROBE_WARNING = "ProbeWarning"
FAILED_CREATE_SANDBOX = "FailedCreatePodSandBox"
FAILED_KILL_POD = "FailedKillPod"
FAILED_MOUNT = "FailedMount"
FAILED_SYNC = "FailedSync"
FAILED_POST_START_HOOK = "FailedPostStartHook"
FAILED_PRE_STOP_HOOK = "FailedPreStopHook"
LIFECYCLE_HTTP_FALLBACK = "LifecycleHTTPFallback"
SANDBOX_CHANGED = "SandboxChanged"
SANDBOX_CHANGED_MESSAGE = "Pod sandbox changed, it will be killed and re-created."
LOGS_DROPPED = "LogsDropped"  # ours: a full disk is no event in Kubernetes
LOGS_LOST = "LogsLost"  # ours: there all of the runtime's processes never die at once


def scheduled(namespace: str, pod: str, node: str) -> str:
    return f"Successfully assigned {namespace}/{pod} to {node}"


def pulled(image: str) -> str:
    if not image:
        return "Container has no image: its command is run from this machine"  # ours
    return f'Container image "{image}" already present on machine and can be accessed by the pod'


def error(text: str) -> str:
    return f"Error: {text}"


def stopping(container: str) -> str:
    return f"Stopping container {container}"


def restarting_all(container: str) -> str:
    return f"Container {container} is killed: all containers of the pod are restarted"  # ours


def probe_kill(container: str, kind: str, *, sidecar: bool, again: bool) -> str:
    if sidecar:
        return f"Init container {container} failed {kind} probe"
    return f"Container {container} failed {kind} probe" + (", will be restarted" if again else "")


def definition_changed(container: str, *, sidecar: bool) -> str:
    if sidecar:
        return f"Init container {container} definition changed"
    return f"Container {container} definition changed, will be restarted"


# Texts of events about hooks say no more on purpose: details may hold secrets (§6.1.3).
HOOK_FAILED = {
    "postStart": (FAILED_POST_START_HOOK, "PostStartHook failed"),
    "preStop": (FAILED_PRE_STOP_HOOK, "PreStopHook failed"),
}


def hook_fallback(host: str) -> str:
    return f"request to HTTPS lifecycle hook {host} got HTTP response, retry with HTTP succeeded"


def probe_failed(kind: str, output: str) -> str:
    return f"{kind.capitalize()} probe failed: {output}"


def probe_warning(kind: str, output: str) -> str:
    return f"{kind.capitalize()} probe warning: {output}"


def probe_errored(kind: str, text: str) -> str:
    return f"{kind.capitalize()} probe errored and resulted in unknown state: {text}"


def back_off(container: str, pod: str) -> str:
    return f"Back-off restarting failed container {container} in pod {pod}"


def sandbox_failed(text: str) -> str:
    return f"Failed to create pod sandbox: {text}"


def mount_failed(volume: str, text: str) -> str:
    return f'MountVolume.SetUp failed for volume "{volume}" : {text}'


def kill_failed(text: str) -> str:
    return f"error killing pod: {text}"


def still_runs(container: str, seconds: float) -> str:
    return kill_failed(f"container {container} still runs {go_duration(seconds)} after SIGKILL")


def log_incomplete(container: str) -> str:
    return f"the log of container {container} may lack its end: reading it took too long"


def logs_dropped(container: str, text: str) -> str:
    return f"cannot write the log of container {container}, it goes on without: {text}"


def logs_lost(container: str) -> str:
    return f"what container {container} wrote while nobody read it is lost"
