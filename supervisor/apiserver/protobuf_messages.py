"""The numbers of the fields of protobuf messages, for `protobuf.py`, which reads this table.

One message a line, continued by indentation. A field is `number:name:type`, its name the one that
JSON uses. A field without a name is a message whose fields JSON shows as fields of the outer one.
Types: `s` string, `i` integer, `b` boolean, `y` bytes; `time`, `micro`, `quantity`, `int-or-string`
and `fields` are messages that JSON writes as one value; `opaque` is what is not read; anything
else is a message of this table. `[T]` is a list and `{T}` a map from strings. `?`: a zero counts.

There are the kinds that can be written here, and what they are made of; the numbers are public
facts of the Kubernetes API, and never change.
"""

from __future__ import annotations

MESSAGES = """
Affinity 1:nodeAffinity:NodeAffinity 2:podAffinity:PodAffinity 3:podAntiAffinity:PodAntiAffinity
AppArmorProfile 1:type:s 2:localhostProfile:s?
AttachedVolume 1:name:s 2:devicePath:s
Binding 1:metadata:ObjectMeta 2:target:ObjectReference
CSIVolumeSource 1:driver:s 2:readOnly:b? 3:fsType:s? 4:volumeAttributes:{s}
  5:nodePublishSecretRef:LocalObjectReference
Capabilities 1:add:[s] 2:drop:[s]
ClientIPConfig 1:timeoutSeconds:i?
Condition 1:type:s? 2:status:s? 3:observedGeneration:i 4:lastTransitionTime:time 5:reason:s?
  6:message:s?
ConfigMap 1:metadata:ObjectMeta 2:data:{s} 3:binaryData:{y} 4:immutable:b?
ConfigMapEnvSource 1::LocalObjectReference 2:optional:b?
ConfigMapKeySelector 1::LocalObjectReference 2:key:s 3:optional:b?
ConfigMapProjection 1::LocalObjectReference 2:items:[KeyToPath] 4:optional:b?
ConfigMapVolumeSource 1::LocalObjectReference 2:items:[KeyToPath] 3:defaultMode:i? 4:optional:b?
Container 1:name:s 2:image:s 3:command:[s] 4:args:[s] 5:workingDir:s 6:ports:[ContainerPort]
  7:env:[EnvVar] 8:resources:ResourceRequirements 9:volumeMounts:[VolumeMount]
  10:livenessProbe:Probe 11:readinessProbe:Probe 12:lifecycle:Lifecycle 13:terminationMessagePath:s
  14:imagePullPolicy:s 15:securityContext:SecurityContext 16:stdin:b 17:stdinOnce:b 18:tty:b
  19:envFrom:[EnvFromSource] 20:terminationMessagePolicy:s 21:volumeDevices:[VolumeDevice]
  22:startupProbe:Probe 23:resizePolicy:[ContainerResizePolicy] 24:restartPolicy:s?
  25:restartPolicyRules:[ContainerRestartRule]
ContainerImage 1:names:[s] 2:sizeBytes:i
ContainerPort 1:name:s 2:hostPort:i 3:containerPort:i 4:protocol:s 5:hostIP:s
ContainerResizePolicy 1:resourceName:s 2:restartPolicy:s
ContainerRestartRule 1:action:s 2:exitCodes:ContainerRestartRuleOnExitCodes
ContainerRestartRuleOnExitCodes 1:operator:s 2:values:[i]
ContainerState 1:waiting:ContainerStateWaiting 2:running:ContainerStateRunning
  3:terminated:ContainerStateTerminated
ContainerStateRunning 1:startedAt:time
ContainerStateTerminated 1:exitCode:i? 2:signal:i 3:reason:s 4:message:s 5:startedAt:time
  6:finishedAt:time 7:containerID:s
ContainerStateWaiting 1:reason:s 2:message:s
ContainerStatus 1:name:s? 2:state:ContainerState 3:lastState:ContainerState 4:ready:b?
  5:restartCount:i? 6:image:s? 7:imageID:s? 8:containerID:s 9:started:b?
  10:allocatedResources:{quantity} 11:resources:ResourceRequirements
  12:volumeMounts:[VolumeMountStatus] 13:user:opaque 14:allocatedResourcesStatus:[opaque]
  15:stopSignal:s?
DaemonEndpoint 1:Port:i?
DeleteOptions 1:gracePeriodSeconds:i? 2:preconditions:Preconditions 3:orphanDependents:b?
  4:propagationPolicy:s? 5:dryRun:[s] 6:ignoreStoreReadErrorWithClusterBreakingPotential:b?
DownwardAPIProjection 1:items:[DownwardAPIVolumeFile]
DownwardAPIVolumeFile 1:path:s 2:fieldRef:ObjectFieldSelector
  3:resourceFieldRef:ResourceFieldSelector 4:mode:i?
DownwardAPIVolumeSource 1:items:[DownwardAPIVolumeFile] 2:defaultMode:i?
EmptyDirVolumeSource 1:medium:s 2:sizeLimit:quantity
EndpointAddress 1:ip:s 2:targetRef:ObjectReference 3:hostname:s 4:nodeName:s?
EndpointPort 1:name:s 2:port:i 3:protocol:s 4:appProtocol:s?
EndpointSubset 1:addresses:[EndpointAddress] 2:notReadyAddresses:[EndpointAddress]
  3:ports:[EndpointPort]
Endpoints 1:metadata:ObjectMeta 2:subsets:[EndpointSubset]
EnvFromSource 1:prefix:s 2:configMapRef:ConfigMapEnvSource 3:secretRef:SecretEnvSource
EnvVar 1:name:s 2:value:s 3:valueFrom:EnvVarSource
EnvVarSource 1:fieldRef:ObjectFieldSelector 2:resourceFieldRef:ResourceFieldSelector
  3:configMapKeyRef:ConfigMapKeySelector 4:secretKeyRef:SecretKeySelector
  5:fileKeyRef:FileKeySelector
EphemeralContainer 1::EphemeralContainerCommon 2:targetContainerName:s
EphemeralContainerCommon 1:name:s 2:image:s 3:command:[s] 4:args:[s] 5:workingDir:s
  6:ports:[ContainerPort] 7:env:[EnvVar] 8:resources:ResourceRequirements
  9:volumeMounts:[VolumeMount] 10:livenessProbe:Probe 11:readinessProbe:Probe 12:lifecycle:Lifecycle
  13:terminationMessagePath:s 14:imagePullPolicy:s 15:securityContext:SecurityContext 16:stdin:b
  17:stdinOnce:b 18:tty:b 19:envFrom:[EnvFromSource] 20:terminationMessagePolicy:s
  21:volumeDevices:[VolumeDevice] 22:startupProbe:Probe 23:resizePolicy:[ContainerResizePolicy]
  24:restartPolicy:s? 25:restartPolicyRules:[ContainerRestartRule]
Event 1:metadata:ObjectMeta 2:involvedObject:ObjectReference 3:reason:s 4:message:s
  5:source:EventSource 6:firstTimestamp:time 7:lastTimestamp:time 8:count:i 9:type:s
  10:eventTime:micro 11:series:EventSeries 12:action:s 13:related:ObjectReference
  14:reportingComponent:s 15:reportingInstance:s
EventSeries 1:count:i 2:lastObservedTime:micro
EventSource 1:component:s 2:host:s
Eviction 1:metadata:ObjectMeta 2:deleteOptions:DeleteOptions
ExecAction 1:command:[s]
FieldSelectorAttributes 1:rawSelector:s 2:requirements:[FieldSelectorRequirement]
FieldSelectorRequirement 1:key:s 2:operator:s 3:values:[s]
FileKeySelector 1:volumeName:s 2:path:s 3:key:s 4:optional:b?
GRPCAction 1:port:i 2:service:s?
HTTPGetAction 1:path:s 2:port:int-or-string 3:host:s 4:scheme:s 5:httpHeaders:[HTTPHeader]
HTTPHeader 1:name:s 2:value:s
HostAlias 1:ip:s 2:hostnames:[s]
HostIP 1:ip:s
HostPathVolumeSource 1:path:s 2:type:s?
ImageVolumeSource 1:reference:s 2:pullPolicy:s
KeyToPath 1:key:s 2:path:s 3:mode:i?
LabelSelector 1:matchLabels:{s} 2:matchExpressions:[LabelSelectorRequirement]
LabelSelectorAttributes 1:rawSelector:s 2:requirements:[LabelSelectorRequirement]
LabelSelectorRequirement 1:key:s 2:operator:s 3:values:[s]
Lease 1:metadata:ObjectMeta 2:spec:LeaseSpec
LeaseSpec 1:holderIdentity:s? 2:leaseDurationSeconds:i? 3:acquireTime:micro 4:renewTime:micro
  5:leaseTransitions:i? 6:strategy:s? 7:preferredHolder:s?
Lifecycle 1:postStart:LifecycleHandler 2:preStop:LifecycleHandler 3:stopSignal:s?
LifecycleHandler 1:exec:ExecAction 2:httpGet:HTTPGetAction 3:tcpSocket:TCPSocketAction
  4:sleep:SleepAction
LoadBalancerIngress 1:ip:s 2:hostname:s 3:ipMode:s? 4:ports:[PortStatus]
LoadBalancerStatus 1:ingress:[LoadBalancerIngress]
LocalObjectReference 1:name:s
ManagedFieldsEntry 1:manager:s 2:operation:s 3:apiVersion:s 4:time:time 6:fieldsType:s
  7:fieldsV1:fields 8:subresource:s
NFSVolumeSource 1:server:s 2:path:s 3:readOnly:b
Namespace 1:metadata:ObjectMeta 2:spec:NamespaceSpec 3:status:NamespaceStatus
NamespaceCondition 1:type:s? 2:status:s? 4:lastTransitionTime:time 5:reason:s 6:message:s
NamespaceSpec 1:finalizers:[s]
NamespaceStatus 1:phase:s 2:conditions:[NamespaceCondition]
Node 1:metadata:ObjectMeta 2:spec:NodeSpec 3:status:NodeStatus
NodeAddress 1:type:s? 2:address:s?
NodeAffinity 1:requiredDuringSchedulingIgnoredDuringExecution:NodeSelector
  2:preferredDuringSchedulingIgnoredDuringExecution:[PreferredSchedulingTerm]
NodeCondition 1:type:s? 2:status:s? 3:lastHeartbeatTime:time 4:lastTransitionTime:time 5:reason:s
  6:message:s
NodeDaemonEndpoints 1:kubeletEndpoint:DaemonEndpoint
NodeFeatures 1:supplementalGroupsPolicy:b?
NodeSelector 1:nodeSelectorTerms:[NodeSelectorTerm]
NodeSelectorRequirement 1:key:s 2:operator:s 3:values:[s]
NodeSelectorTerm 1:matchExpressions:[NodeSelectorRequirement]
  2:matchFields:[NodeSelectorRequirement]
NodeSpec 1:podCIDR:s 2:externalID:s 3:providerID:s 4:unschedulable:b 5:taints:[Taint]
  6:configSource:opaque 7:podCIDRs:[s]
NodeStatus 1:capacity:{quantity} 2:allocatable:{quantity} 3:phase:s 4:conditions:[NodeCondition]
  5:addresses:[NodeAddress] 6:daemonEndpoints:NodeDaemonEndpoints 7:nodeInfo:NodeSystemInfo
  8:images:[ContainerImage] 9:volumesInUse:[s] 10:volumesAttached:[AttachedVolume] 11:config:opaque
  12:runtimeHandlers:[opaque] 13:features:NodeFeatures
NodeSwapStatus 1:capacity:i?
NodeSystemInfo 1:machineID:s? 2:systemUUID:s? 3:bootID:s? 4:kernelVersion:s? 5:osImage:s?
  6:containerRuntimeVersion:s? 7:kubeletVersion:s? 8:kubeProxyVersion:s? 9:operatingSystem:s?
  10:architecture:s? 11:swap:NodeSwapStatus
NonResourceAttributes 1:path:s 2:verb:s
NonResourceRule 1:verbs:[s] 2:nonResourceURLs:[s]
ObjectFieldSelector 1:apiVersion:s 2:fieldPath:s
ObjectMeta 1:name:s 2:generateName:s 3:namespace:s 4:selfLink:s 5:uid:s 6:resourceVersion:s
  7:generation:i 8:creationTimestamp:time 9:deletionTimestamp:time 10:deletionGracePeriodSeconds:i?
  11:labels:{s} 12:annotations:{s} 13:ownerReferences:[OwnerReference] 14:finalizers:[s]
  17:managedFields:[ManagedFieldsEntry]
ObjectReference 1:kind:s 2:namespace:s 3:name:s 4:uid:s 5:apiVersion:s 6:resourceVersion:s
  7:fieldPath:s
OwnerReference 1:kind:s 3:name:s 4:uid:s 5:apiVersion:s 6:controller:b? 7:blockOwnerDeletion:b?
PersistentVolumeClaimVolumeSource 1:claimName:s 2:readOnly:b
Pod 1:metadata:ObjectMeta 2:spec:PodSpec 3:status:PodStatus
PodAffinity 1:requiredDuringSchedulingIgnoredDuringExecution:[PodAffinityTerm]
  2:preferredDuringSchedulingIgnoredDuringExecution:[WeightedPodAffinityTerm]
PodAffinityTerm 1:labelSelector:LabelSelector 2:namespaces:[s] 3:topologyKey:s
  4:namespaceSelector:LabelSelector 5:matchLabelKeys:[s] 6:mismatchLabelKeys:[s]
PodAntiAffinity 1:requiredDuringSchedulingIgnoredDuringExecution:[PodAffinityTerm]
  2:preferredDuringSchedulingIgnoredDuringExecution:[WeightedPodAffinityTerm]
PodCondition 1:type:s? 2:status:s? 3:lastProbeTime:time 4:lastTransitionTime:time 5:reason:s
  6:message:s 7:observedGeneration:i
PodDNSConfig 1:nameservers:[s] 2:searches:[s] 3:options:[PodDNSConfigOption]
PodDNSConfigOption 1:name:s 2:value:s?
PodIP 1:ip:s
PodOS 1:name:s
PodReadinessGate 1:conditionType:s
PodResourceClaim 1:name:s 3:resourceClaimName:s? 4:resourceClaimTemplateName:s?
PodSchedulingGate 1:name:s
PodSecurityContext 1:seLinuxOptions:SELinuxOptions 2:runAsUser:i? 3:runAsNonRoot:b?
  4:supplementalGroups:[i] 5:fsGroup:i? 6:runAsGroup:i? 7:sysctls:[Sysctl]
  8:windowsOptions:WindowsSecurityContextOptions 9:fsGroupChangePolicy:s?
  10:seccompProfile:SeccompProfile 11:appArmorProfile:AppArmorProfile 12:supplementalGroupsPolicy:s?
  13:seLinuxChangePolicy:s?
PodSpec 1:volumes:[Volume] 2:containers:[Container] 3:restartPolicy:s
  4:terminationGracePeriodSeconds:i? 5:activeDeadlineSeconds:i? 6:dnsPolicy:s 7:nodeSelector:{s}
  8:serviceAccountName:s 9:serviceAccount:s 10:nodeName:s 11:hostNetwork:b 12:hostPID:b 13:hostIPC:b
  14:securityContext:PodSecurityContext 15:imagePullSecrets:[LocalObjectReference] 16:hostname:s
  17:subdomain:s 18:affinity:Affinity 19:schedulerName:s 20:initContainers:[Container]
  21:automountServiceAccountToken:b? 22:tolerations:[Toleration] 23:hostAliases:[HostAlias]
  24:priorityClassName:s 25:priority:i? 26:dnsConfig:PodDNSConfig 27:shareProcessNamespace:b?
  28:readinessGates:[PodReadinessGate] 29:runtimeClassName:s? 30:enableServiceLinks:b?
  31:preemptionPolicy:s? 32:overhead:{quantity}
  33:topologySpreadConstraints:[TopologySpreadConstraint]
  34:ephemeralContainers:[EphemeralContainer] 35:setHostnameAsFQDN:b? 36:os:PodOS 37:hostUsers:b?
  38:schedulingGates:[PodSchedulingGate] 39:resourceClaims:[PodResourceClaim]
  40:resources:ResourceRequirements 41:hostnameOverride:s? 42:workloadRef:opaque
PodStatus 1:phase:s 2:conditions:[PodCondition] 3:message:s 4:reason:s 5:hostIP:s 6:podIP:s
  7:startTime:time 8:containerStatuses:[ContainerStatus] 9:qosClass:s
  10:initContainerStatuses:[ContainerStatus] 11:nominatedNodeName:s 12:podIPs:[PodIP]
  13:ephemeralContainerStatuses:[ContainerStatus] 14:resize:s 15:resourceClaimStatuses:[opaque]
  16:hostIPs:[HostIP] 17:observedGeneration:i
PodTemplate 1:metadata:ObjectMeta 2:template:PodTemplateSpec
PodTemplateSpec 1:metadata:ObjectMeta 2:spec:PodSpec
PortStatus 1:port:i? 2:protocol:s? 3:error:s?
Preconditions 1:uid:s? 2:resourceVersion:s?
PreferredSchedulingTerm 1:weight:i 2:preference:NodeSelectorTerm
Probe 1::ProbeHandler 2:initialDelaySeconds:i 3:timeoutSeconds:i 4:periodSeconds:i
  5:successThreshold:i 6:failureThreshold:i 7:terminationGracePeriodSeconds:i?
ProbeHandler 1:exec:ExecAction 2:httpGet:HTTPGetAction 3:tcpSocket:TCPSocketAction 4:grpc:GRPCAction
ProjectedVolumeSource 1:sources:[VolumeProjection] 2:defaultMode:i?
ResourceAttributes 1:namespace:s 2:verb:s 3:group:s 4:version:s 5:resource:s 6:subresource:s
  7:name:s 8:fieldSelector:FieldSelectorAttributes 9:labelSelector:LabelSelectorAttributes
ResourceClaim 1:name:s 2:request:s
ResourceFieldSelector 1:containerName:s 2:resource:s 3:divisor:quantity
ResourceRequirements 1:limits:{quantity} 2:requests:{quantity} 3:claims:[ResourceClaim]
ResourceRule 1:verbs:[s] 2:apiGroups:[s] 3:resources:[s] 4:resourceNames:[s]
SELinuxOptions 1:user:s 2:role:s 3:type:s 4:level:s
SeccompProfile 1:type:s 2:localhostProfile:s?
Secret 1:metadata:ObjectMeta 2:data:{y} 3:type:s 4:stringData:{s} 5:immutable:b?
SecretEnvSource 1::LocalObjectReference 2:optional:b?
SecretKeySelector 1::LocalObjectReference 2:key:s 3:optional:b?
SecretProjection 1::LocalObjectReference 2:items:[KeyToPath] 4:optional:b?
SecretVolumeSource 1:secretName:s 2:items:[KeyToPath] 3:defaultMode:i? 4:optional:b?
SecurityContext 1:capabilities:Capabilities 2:privileged:b? 3:seLinuxOptions:SELinuxOptions
  4:runAsUser:i? 5:runAsNonRoot:b? 6:readOnlyRootFilesystem:b? 7:allowPrivilegeEscalation:b?
  8:runAsGroup:i? 9:procMount:s? 10:windowsOptions:WindowsSecurityContextOptions
  11:seccompProfile:SeccompProfile 12:appArmorProfile:AppArmorProfile
SelfSubjectAccessReview 1:metadata:ObjectMeta 2:spec:SelfSubjectAccessReviewSpec
  3:status:SubjectAccessReviewStatus
SelfSubjectAccessReviewSpec 1:resourceAttributes:ResourceAttributes
  2:nonResourceAttributes:NonResourceAttributes
SelfSubjectReview 1:metadata:ObjectMeta 2:status:SelfSubjectReviewStatus
SelfSubjectReviewStatus 1:userInfo:UserInfo
SelfSubjectRulesReview 1:metadata:ObjectMeta 2:spec:SelfSubjectRulesReviewSpec
  3:status:SubjectRulesReviewStatus
SelfSubjectRulesReviewSpec 1:namespace:s
Service 1:metadata:ObjectMeta 2:spec:ServiceSpec 3:status:ServiceStatus
ServiceAccount 1:metadata:ObjectMeta 2:secrets:[ObjectReference]
  3:imagePullSecrets:[LocalObjectReference] 4:automountServiceAccountToken:b?
ServiceAccountTokenProjection 1:audience:s 2:expirationSeconds:i? 3:path:s
ServicePort 1:name:s 2:protocol:s 3:port:i 4:targetPort:int-or-string 5:nodePort:i 6:appProtocol:s?
ServiceSpec 1:ports:[ServicePort] 2:selector:{s} 3:clusterIP:s 4:type:s 5:externalIPs:[s]
  7:sessionAffinity:s 8:loadBalancerIP:s 9:loadBalancerSourceRanges:[s] 10:externalName:s
  11:externalTrafficPolicy:s 12:healthCheckNodePort:i 13:publishNotReadyAddresses:b
  14:sessionAffinityConfig:SessionAffinityConfig 17:ipFamilyPolicy:s? 18:clusterIPs:[s]
  19:ipFamilies:[s] 20:allocateLoadBalancerNodePorts:b? 21:loadBalancerClass:s?
  22:internalTrafficPolicy:s? 23:trafficDistribution:s?
ServiceStatus 1:loadBalancer:LoadBalancerStatus 2:conditions:[Condition]
SessionAffinityConfig 1:clientIP:ClientIPConfig
SleepAction 1:seconds:i
SubjectAccessReviewStatus 1:allowed:b? 2:reason:s 3:evaluationError:s 4:denied:b
SubjectRulesReviewStatus 1:resourceRules:[ResourceRule] 2:nonResourceRules:[NonResourceRule]
  3:incomplete:b? 4:evaluationError:s
Sysctl 1:name:s 2:value:s
TCPSocketAction 1:port:int-or-string 2:host:s
Taint 1:key:s 2:value:s 3:effect:s 4:timeAdded:time
TokenReview 1:metadata:ObjectMeta 2:spec:TokenReviewSpec 3:status:TokenReviewStatus
TokenReviewSpec 1:token:s 2:audiences:[s]
TokenReviewStatus 1:authenticated:b 2:user:opaque 3:error:s 4:audiences:[s]
Toleration 1:key:s 2:operator:s 3:value:s 4:effect:s 5:tolerationSeconds:i?
TopologySpreadConstraint 1:maxSkew:i 2:topologyKey:s 3:whenUnsatisfiable:s
  4:labelSelector:LabelSelector 5:minDomains:i? 6:nodeAffinityPolicy:s? 7:nodeTaintsPolicy:s?
  8:matchLabelKeys:[s]
UserInfo 1:username:s 2:uid:s 3:groups:[s] 4:extra:{opaque}
Volume 1:name:s 2::VolumeSource
VolumeDevice 1:name:s 2:devicePath:s
VolumeMount 1:name:s 2:readOnly:b 3:mountPath:s 4:subPath:s 5:mountPropagation:s? 6:subPathExpr:s
  7:recursiveReadOnly:s?
VolumeMountStatus 1:name:s 2:mountPath:s 3:readOnly:b 4:recursiveReadOnly:s?
VolumeProjection 1:secret:SecretProjection 2:downwardAPI:DownwardAPIProjection
  3:configMap:ConfigMapProjection 4:serviceAccountToken:ServiceAccountTokenProjection
  5:clusterTrustBundle:opaque 6:podCertificate:opaque
VolumeSource 1:hostPath:HostPathVolumeSource 2:emptyDir:EmptyDirVolumeSource
  3:gcePersistentDisk:opaque 4:awsElasticBlockStore:opaque 5:gitRepo:opaque
  6:secret:SecretVolumeSource 7:nfs:NFSVolumeSource 8:iscsi:opaque 9:glusterfs:opaque
  10:persistentVolumeClaim:PersistentVolumeClaimVolumeSource 11:rbd:opaque 12:flexVolume:opaque
  13:cinder:opaque 14:cephfs:opaque 15:flocker:opaque 16:downwardAPI:DownwardAPIVolumeSource
  17:fc:opaque 18:azureFile:opaque 19:configMap:ConfigMapVolumeSource 20:vsphereVolume:opaque
  21:quobyte:opaque 22:azureDisk:opaque 23:photonPersistentDisk:opaque 24:portworxVolume:opaque
  25:scaleIO:opaque 26:projected:ProjectedVolumeSource 27:storageos:opaque 28:csi:CSIVolumeSource
  29:ephemeral:opaque 30:image:ImageVolumeSource
WeightedPodAffinityTerm 1:weight:i 2:podAffinityTerm:PodAffinityTerm
WindowsSecurityContextOptions 1:gmsaCredentialSpecName:s? 2:gmsaCredentialSpec:s? 3:runAsUserName:s?
  4:hostProcess:b?
"""
