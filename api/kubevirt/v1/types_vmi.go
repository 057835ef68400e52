// SPDX-License-Identifier: Apache-2.0

package v1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AccessCredential brings ssh keys or passwords from a Secret into the guest.
type AccessCredential struct {
	// +optional
	SshPublicKey *SSHPublicKeyAccessCredential `json:"sshPublicKey,omitempty"`
	// +optional
	UserPassword *UserPasswordAccessCredential `json:"userPassword,omitempty"`
}

// AccessCredentialSecretSource names the Secret with the credentials.
type AccessCredentialSecretSource struct {
	SecretName string `json:"secretName"`
}

// ConfigDriveSSHPublicKeyAccessCredentialPropagation puts the keys on the cloud-init config drive.
type ConfigDriveSSHPublicKeyAccessCredentialPropagation struct {
}

// GuestAgentPing is a probe that asks whether the guest agent answers.
type GuestAgentPing struct {
}

// NoCloudSSHPublicKeyAccessCredentialPropagation puts the keys on the cloud-init NoCloud disk.
type NoCloudSSHPublicKeyAccessCredentialPropagation struct {
}

// Probe is a check of the guest that decides about its pod's life or readiness. Exactly one of
// exec, guestAgentPing, httpGet and tcpSocket.
type Probe struct {
	// +optional
	Exec *corev1.ExecAction `json:"exec,omitempty"`
	// +optional
	FailureThreshold int32 `json:"failureThreshold,omitempty"`
	// +optional
	GuestAgentPing *GuestAgentPing `json:"guestAgentPing,omitempty"`
	// +optional
	HttpGet *corev1.HTTPGetAction `json:"httpGet,omitempty"`
	// +optional
	InitialDelaySeconds int32 `json:"initialDelaySeconds,omitempty"`
	// +optional
	PeriodSeconds int32 `json:"periodSeconds,omitempty"`
	// +optional
	SuccessThreshold int32 `json:"successThreshold,omitempty"`
	// +optional
	TcpSocket *corev1.TCPSocketAction `json:"tcpSocket,omitempty"`
	// +optional
	TimeoutSeconds int32 `json:"timeoutSeconds,omitempty"`
}

// QemuGuestAgentSSHPublicKeyAccessCredentialPropagation has the guest agent write the keys for the
// given users.
type QemuGuestAgentSSHPublicKeyAccessCredentialPropagation struct {
	Users []string `json:"users"`
}

// QemuGuestAgentUserPasswordAccessCredentialPropagation has the guest agent set the passwords.
type QemuGuestAgentUserPasswordAccessCredentialPropagation struct {
}

// SSHPublicKeyAccessCredential brings ssh public keys into the guest.
type SSHPublicKeyAccessCredential struct {
	PropagationMethod SSHPublicKeyAccessCredentialPropagationMethod `json:"propagationMethod"`
	Source            SSHPublicKeyAccessCredentialSource            `json:"source"`
}

// SSHPublicKeyAccessCredentialPropagationMethod is how the keys get into the guest; exactly one.
type SSHPublicKeyAccessCredentialPropagationMethod struct {
	// +optional
	ConfigDrive *ConfigDriveSSHPublicKeyAccessCredentialPropagation `json:"configDrive,omitempty"`
	// +optional
	NoCloud *NoCloudSSHPublicKeyAccessCredentialPropagation `json:"noCloud,omitempty"`
	// +optional
	QemuGuestAgent *QemuGuestAgentSSHPublicKeyAccessCredentialPropagation `json:"qemuGuestAgent,omitempty"`
}

// SSHPublicKeyAccessCredentialSource is where the keys are.
type SSHPublicKeyAccessCredentialSource struct {
	// +optional
	Secret *AccessCredentialSecretSource `json:"secret,omitempty"`
}

// UserPasswordAccessCredential sets passwords in the guest.
type UserPasswordAccessCredential struct {
	PropagationMethod UserPasswordAccessCredentialPropagationMethod `json:"propagationMethod"`
	Source            UserPasswordAccessCredentialSource            `json:"source"`
}

// UserPasswordAccessCredentialPropagationMethod is how the passwords get into the guest.
type UserPasswordAccessCredentialPropagationMethod struct {
	// +optional
	QemuGuestAgent *QemuGuestAgentUserPasswordAccessCredentialPropagation `json:"qemuGuestAgent,omitempty"`
}

// UserPasswordAccessCredentialSource is where the passwords are.
type UserPasswordAccessCredentialSource struct {
	// +optional
	Secret *AccessCredentialSecretSource `json:"secret,omitempty"`
}

// UtilityVolume is a claim that is in the machine's pod but not in the guest (for memory dumps and
// backups).
type UtilityVolume struct {
	ClaimName string `json:"claimName"`
	Name      string `json:"name"`
	// +optional
	ReadOnly *bool `json:"readOnly,omitempty"`
	// +optional
	Type string `json:"type,omitempty"`
}

// VirtualMachineInstance is one run of a machine: one pod, one QEMU. It has no
// status subresource (as in the peer's API); a ValidatingAdmissionPolicy says
// who may write its status.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=virtualmachineinstances,shortName=vmi;vmis,categories=all
// +kubebuilder:storageversion
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=".metadata.creationTimestamp"
// +kubebuilder:printcolumn:name="Phase",type="string",JSONPath=".status.phase"
// +kubebuilder:printcolumn:name="IP",type="string",JSONPath=".status.interfaces[0].ipAddress"
// +kubebuilder:printcolumn:name="NodeName",type="string",JSONPath=".status.nodeName"
// +kubebuilder:printcolumn:name="Ready",type="string",JSONPath=".status.conditions[?(@.type=='Ready')].status"
// +kubebuilder:printcolumn:name="Live-Migratable",type="string",JSONPath=".status.conditions[?(@.type=='LiveMigratable')].status",priority=1
// +kubebuilder:printcolumn:name="Paused",type="string",JSONPath=".status.conditions[?(@.type=='Paused')].status",priority=1
// +kubebuilder:printcolumn:name="Sockets",type="integer",JSONPath=".status.currentCPUTopology.sockets",priority=1
// +kubebuilder:printcolumn:name="Memory",type="string",JSONPath=".status.memory.guestCurrent",priority=1
// +kubebuilder:printcolumn:name="CPU-Change",type="string",JSONPath=".status.conditions[?(@.type=='HotVCPUChange')].reason",priority=1
// +kubebuilder:printcolumn:name="Memory-Change",type="string",JSONPath=".status.conditions[?(@.type=='HotMemoryChange')].reason",priority=1
// +kubebuilder:printcolumn:name="QEMU",type="string",JSONPath=".status.qemu.version",priority=1
// +kubebuilder:printcolumn:name="Launcher",type="string",JSONPath=".status.launcherContainerImageVersion",priority=1
type VirtualMachineInstance struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              VirtualMachineInstanceSpec `json:"spec"`
	// +optional
	Status VirtualMachineInstanceStatus `json:"status,omitempty"`
}

// VirtualMachineInstanceList is a list of VirtualMachineInstances.
//
// +kubebuilder:object:root=true
type VirtualMachineInstanceList struct {
	metav1.TypeMeta `json:",inline"`
	Items           []VirtualMachineInstance `json:"items"`
	metav1.ListMeta `json:"metadata,omitempty"`
}

// VirtualMachineInstanceResourceClaim is a claim of dynamic resource allocation that the machine's
// pod refers to.
type VirtualMachineInstanceResourceClaim struct {
	Name string `json:"name"`
	// +optional
	ResourceClaimName string `json:"resourceClaimName,omitempty"`
	// +optional
	ResourceClaimTemplateName string `json:"resourceClaimTemplateName,omitempty"`
}

// VirtualMachineInstanceSpec describes a machine and where and how its pod runs.
type VirtualMachineInstanceSpec struct {
	// +kubebuilder:validation:MaxItems=256
	// +optional
	AccessCredentials []AccessCredential `json:"accessCredentials,omitempty"`
	// Affinity of the machine's pod.
	// +optional
	Affinity *corev1.Affinity `json:"affinity,omitempty"`
	// Architecture of the guest in Go's naming (amd64).
	// +optional
	Architecture string `json:"architecture,omitempty"`
	// DNSConfig of the machine's pod, which the guest gets by DHCP.
	// +optional
	DNSConfig *corev1.PodDNSConfig `json:"dnsConfig,omitempty"`
	// DNSPolicy of the machine's pod; ClusterFirst when left out.
	// +optional
	DNSPolicy corev1.DNSPolicy `json:"dnsPolicy,omitempty"`
	// Domain is the machine itself.
	Domain DomainSpec `json:"domain"`
	// EvictionStrategy says what an eviction of the machine's pod does: None, LiveMigrate,
	// LiveMigrateIfPossible or External.
	// +optional
	EvictionStrategy *string `json:"evictionStrategy,omitempty"`
	// Hostname of the guest; the instance's name when left out.
	// +optional
	Hostname string `json:"hostname,omitempty"`
	// LivenessProbe decides whether the machine is restarted.
	// +optional
	LivenessProbe *Probe `json:"livenessProbe,omitempty"`
	// Networks that the machine is connected to. Without networks and interfaces it gets the pod
	// network.
	// +kubebuilder:validation:MaxItems=256
	// +optional
	Networks []Network `json:"networks,omitempty"`
	// NodeSelector of the machine's pod.
	// +optional
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`
	// PriorityClassName of the machine's pod.
	// +optional
	PriorityClassName string `json:"priorityClassName,omitempty"`
	// ReadinessProbe decides whether the machine gets traffic of Services.
	// +optional
	ReadinessProbe *Probe `json:"readinessProbe,omitempty"`
	// +optional
	ResourceClaims []VirtualMachineInstanceResourceClaim `json:"resourceClaims,omitempty"`
	// SchedulerName of the machine's pod.
	// +optional
	SchedulerName string `json:"schedulerName,omitempty"`
	// +optional
	ServiceAccountName string `json:"serviceAccountName,omitempty"`
	// StartStrategy Paused holds the guest before its first instruction until it is unpaused.
	// +optional
	StartStrategy *string `json:"startStrategy,omitempty"`
	// Subdomain of the guest's name in the cluster's DNS: the name of a headless Service.
	// +optional
	Subdomain string `json:"subdomain,omitempty"`
	// TerminationGracePeriodSeconds is how long the guest has to power down before it is switched
	// off; 30 when left out.
	// +optional
	TerminationGracePeriodSeconds *int64 `json:"terminationGracePeriodSeconds,omitempty"`
	// Tolerations of the machine's pod.
	// +optional
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`
	// TopologySpreadConstraints of the machine's pod.
	// +optional
	TopologySpreadConstraints []corev1.TopologySpreadConstraint `json:"topologySpreadConstraints,omitempty"`
	// +optional
	UtilityVolumes []UtilityVolume `json:"utilityVolumes,omitempty"`
	// Volumes hold what the machine's disks show; a volume without a disk of its name gets one.
	// +kubebuilder:validation:MaxItems=256
	// +optional
	Volumes []Volume `json:"volumes,omitempty"`
}
