// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"strings"

	"github.com/skerry-dev/skerry/internal/contract"
)

// Contract is machine.json: what the launcher has to make and to exec. It is of
// the oldest version that has all it says, so that every launcher understands it.
func (m Machine) Contract() contract.Machine {
	c := contract.Machine{Version: 1, Argv: append([]string{contract.QEMU}, m.Args()...)}
	for _, n := range m.NICs {
		c.Taps = append(c.Taps, contract.Tap{Name: n.Tap, FD: n.FD, VnetHdr: n.Virtio})
	}
	for _, d := range m.Disks {
		if d.Create != nil {
			c.Disks = append(c.Disks, *d.Create)
		}
		if d.Claim != nil {
			c.Version = contract.ClaimsSince
			c.Claims = append(c.Claims, *d.Claim)
		}
	}
	if m.Firmware.EFI {
		c.Copies = append(c.Copies, contract.Copy{From: contract.OVMFVars, To: m.Firmware.VarsFile})
	}
	if m.Kernel != nil {
		c.Files = append(c.Files, inKernelImage(m.Kernel.Path))
		if m.Kernel.Initrd != "" {
			c.Files = append(c.Files, inKernelImage(m.Kernel.Initrd))
		}
	}
	return c
}

func inKernelImage(file string) contract.Backing {
	return contract.Backing{Dir: contract.KernelBootDir, Path: strings.TrimPrefix(file, contract.KernelBootDir+"/")}
}
