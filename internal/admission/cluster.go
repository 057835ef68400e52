// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"time"

	"k8s.io/apimachinery/pkg/util/uuid"
)

// Cluster is what defaults and rules depend on besides the object itself.
type Cluster struct {
	// Architecture of machines that name none, as in GOARCH.
	Architecture string
	// MachineType of machines that name none.
	MachineType string
	// CPUModel of machines that name none.
	CPUModel string
	// Masquerade makes masquerade, rather than bridge, the binding of the pod
	// network's interface in machines that have no networks.
	Masquerade bool
	// MaxHotplugRatio is by how much a machine's sockets and memory may grow
	// where its spec does not say.
	MaxHotplugRatio int64
	// MaxVCPUs bounds the product of a machine's maxSockets, cores and threads.
	MaxVCPUs int64
	// NewUUID makes a random (version 4) UUID in its usual text form.
	NewUUID func() string
	// Now is the time for first timestamps.
	Now func() time.Time
}

// DefaultCluster has the settings that apply where nobody changed any.
func DefaultCluster() Cluster {
	return Cluster{
		Architecture:    "amd64",
		MachineType:     "q35",
		CPUModel:        "host-model",
		MaxHotplugRatio: 4,
		MaxVCPUs:        255, // without an IOMMU in the guest, APIC ids have 8 bits
		NewUUID:         func() string { return string(uuid.NewUUID()) },
		Now:             time.Now,
	}
}
