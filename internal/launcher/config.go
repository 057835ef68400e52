// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"os"
	"time"

	"github.com/skerry-dev/skerry/internal/contract"
)

// Config says where everything is. Only tests differ from Default.
type Config struct {
	RunDir, MachineDir, DiskDir string
	ClaimDir, ClaimDeviceDir    string
	ImageInfoFile               string
	TerminationLog              string
	TunDevice                   string
	QEMU                        string // the only program that machine.json may name
	PID                         int    // of the process that `shutdown` ends
	// Patience is how long QEMU may take to answer, and to flush its disks when
	// it quits.
	Patience time.Duration
}

// Default is the pod's layout of package contract. The kubelet's default path of
// the termination log can be overridden by SKERRY_TERMINATION_LOG.
func Default() Config {
	log := os.Getenv("SKERRY_TERMINATION_LOG")
	if log == "" {
		log = contract.TerminationLog
	}
	return Config{
		RunDir: contract.RunDir, MachineDir: contract.MachineDir, DiskDir: contract.DiskDir,
		ClaimDir: contract.ClaimDir, ClaimDeviceDir: contract.ClaimDeviceDir,
		ImageInfoFile: contract.ImageInfoFile, TerminationLog: log,
		TunDevice: "/dev/net/tun", QEMU: contract.QEMU, PID: 1,
		Patience: 10 * time.Second,
	}
}
