// SPDX-License-Identifier: Apache-2.0

package launcher

import "github.com/skerry-dev/skerry/images/debroot"

// QEMUSuite says where QEMU comes from.
type QEMUSuite string

// The suites that have a QEMU Skerry can use. Debian 12's is out: it corrupts its
// heap when a CPU is unplugged.
const (
	Backports QEMUSuite = "trixie-backports" // 11.1, which can be renewed under a guest
	Stable    QEMUSuite = "trixie"           // 10.0
)

// SuiteEnv is the environment variable that chooses the suite.
const SuiteEnv = "QEMU_SUITE"

// part is one layer cut from the packages.
type part struct {
	name string
	// programs and modules are ELF files; what they link with comes along.
	programs, modules []string
	data              []string
}

// maxBase is the limit for the files of the base layer, in bytes: what every
// node has to keep.
const maxBase = 90_000_000

const qemu = "usr/bin/qemu-system-x86_64"

// parts lists the layers, the lowest first. Every file is named: nothing enters
// the image by accident.
var parts = []part{
	{
		name:     "base",
		programs: []string{qemu},
		data: []string{
			"usr/share/seabios/bios-256k.bin",
			"usr/share/seabios/vgabios-stdvga.bin",
			"usr/share/seabios/vgabios-cirrus.bin",
			"usr/share/seabios/vgabios-virtio.bin",
			"usr/share/seabios/vgabios-bochs-display.bin",
			"usr/share/seabios/vgabios-ramfb.bin",
			"usr/share/qemu/kvmvapic.bin",
			"usr/share/qemu/linuxboot_dma.bin", // bzImage
			"usr/share/qemu/pvh.bin",           // vmlinux
			"usr/share/qemu/multiboot_dma.bin",
			// QEMU refuses a network card whose option ROM is missing.
			"usr/share/qemu/efi-virtio.rom",
			"usr/share/qemu/efi-e1000.rom",
			"usr/share/qemu/efi-e1000e.rom",
			"usr/share/qemu/efi-rtl8139.rom",
			"usr/share/qemu/efi-pcnet.rom",
			"usr/share/qemu/efi-ne2k_pci.rom",
			"usr/share/qemu/keymaps/en-us", // without it VNC does not start
		},
	},
	{
		name: "display",
		modules: []string{
			"usr/lib/x86_64-linux-gnu/qemu/hw-display-virtio-gpu.so",
			"usr/lib/x86_64-linux-gnu/qemu/hw-display-virtio-gpu-pci.so",
			"usr/lib/x86_64-linux-gnu/qemu/hw-display-virtio-vga.so",
		},
	},
	{
		name: "ovmf",
		data: []string{
			"usr/share/OVMF/OVMF_CODE_4M.fd",
			"usr/share/OVMF/OVMF_VARS_4M.fd",
		},
	},
}

// spec is the recipe of the root file system that the parts are cut from.
func spec(suite QEMUSuite) debroot.Spec {
	s := debroot.Spec{
		Name:    "launcher-" + string(suite),
		Suite:   "trixie",
		Include: []string{"qemu-system-x86", "ovmf"},
	}
	if suite == Backports {
		s.Backports = true
		// By source package: QEMU needs the SeaBIOS and iPXE that it was made with.
		s.Preferences = "Package: src:qemu src:seabios src:ipxe\nPin: release n=trixie-backports\nPin-Priority: 990\n"
	}
	return s
}
