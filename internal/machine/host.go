// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Accel is how QEMU runs the guest's instructions.
type Accel string

// The accelerators.
const (
	KVM Accel = "kvm"
	TCG Accel = "tcg" // software emulation
)

// Host is what New has to know about where the machine will run.
type Host struct {
	// QEMUVersion is upstream's version of the launcher image's QEMU, such as
	// "11.1.3". 10.0 is the oldest that is supported.
	QEMUVersion string
	Accel       Accel
	// Arch is the architecture in Go's naming; only "amd64" is supported.
	Arch string
}

// Attachments is what the node agent prepared for the machine.
type Attachments struct {
	// Interfaces has an entry for each of spec.domain.devices.interfaces, by name.
	Interfaces map[string]Interface
	// CloudInit has the path in the container of each cloud-init volume's image,
	// by volume name. It must be directly in contract.MachineDir.
	CloudInit map[string]string
	// Claims has an entry for each persistentVolumeClaim volume, by volume name.
	Claims map[string]Claim
	// Now is the time of the start. Only spec.domain.clock.utc.offsetSeconds needs it.
	Now time.Time
}

// Interface is one prepared tap.
type Interface struct {
	Tap string // the device's name in the pod's network namespace
	FD  int    // the descriptor number at which QEMU finds it
	MAC string // the guest's address
	MTU int    // 0 leaves the guest's default; told to virtio guests only
	// Vhost lets the kernel move the packets; needs /dev/vhost-net in the pod.
	Vhost bool
}

// Claim is a claim as the pod has it.
type Claim struct {
	// Block says that it is a block device; else it has a file system.
	Block bool
	// Size of the disk in bytes that is made in a file system that is empty; 0
	// makes none.
	Size int64
	// Direct says that the node's page cache can be left out (O_DIRECT).
	Direct bool
	// Native says that the kernel has room for one more machine's asynchronous I/O.
	Native bool
}

// version is QEMU's version; the third part plays no role here.
type version struct{ major, minor int }

func (v version) String() string { return fmt.Sprintf("%d.%d", v.major, v.minor) }

func (v version) less(o version) bool {
	return v.major < o.major || v.major == o.major && v.minor < o.minor
}

// parseVersion reads "11.1.3" or "11.1".
func parseVersion(s string) (version, error) {
	parts := strings.Split(s, ".")
	if len(parts) < 2 || len(parts) > 4 {
		return version{}, fmt.Errorf("%q is not a version such as 11.1.3", s)
	}
	var n [4]int
	for i, p := range parts {
		v, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return version{}, fmt.Errorf("%q is not a version such as 11.1.3", s)
		}
		n[i] = int(v)
	}
	return version{n[0], n[1]}, nil
}

// oldestQEMU is the oldest QEMU whose options New writes (aux-ram-share came with it).
var oldestQEMU = version{10, 0}

// oldestMachine says which versioned machine types a QEMU still has that it does
// not call deprecated. Upstream deprecates a type three years after its release.
func oldestMachine(qemu version) version {
	switch {
	case qemu.less(version{11, 0}):
		return version{7, 1}
	default:
		return version{8, 2}
	}
}
