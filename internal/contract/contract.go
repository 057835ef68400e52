// SPDX-License-Identifier: Apache-2.0

// Package contract is what the node agent and the launcher in a machine's pod
// agree on: the directories and sockets of the pod, the schema of machine.json
// and the words exchanged on the launcher's socket. Launchers outlive agents,
// so everything here is versioned and only ever grows: an agent must be able to
// serve every launcher of an older Version.
//
// It holds names and data types only. It must never do I/O.
package contract

// The pod's emptyDir volumes, by their names in the pod's spec. On the node they
// are <kubelet root>/pods/<pod UID>/volumes/kubernetes.io~empty-dir/<name>.
const (
	RunVolume     = "run"     // tmpfs, writable in the pod: sockets
	MachineVolume = "machine" // tmpfs, read-only in the pod: machine.json and cloud-init images, written by the agent
	LogVolume     = "log"     // small tmpfs, writable in the pod: the serial console's log
	DiskVolume    = "disks"   // on the node's disk, writable in the pod: overlays and empty disks
)

// Where those volumes are mounted in the container.
const (
	RunDir     = "/run/skerry"
	MachineDir = "/run/skerry-machine"
	LogDir     = "/run/skerry-log"
	DiskDir    = "/var/lib/skerry-disks"
	// SecretDir has one directory per Secret volume that the machine's spec
	// refers to (cloud-init data), named after the pod's volume.
	SecretDir = "/run/skerry-secrets"
	// ImageDir has one read-only image volume per containerDisk: ImageDir/disk_<i>,
	// where i is the volume's index in spec.volumes (as in the peer's pods).
	ImageDir = "/var/run/kubevirt-image-volume"
	// KernelBootDir is the image volume of spec.domain.firmware.kernelBoot.container.
	KernelBootDir = "/var/run/kubevirt-kernel-boot"
)

// Files and sockets. Sockets are in RunDir and made by the launcher or QEMU.
const (
	LauncherSocket    = "launcher.sock"     // the launcher listens here until it execs QEMU
	QMPSocket         = "qmp.sock"          // the agent's monitor
	ShutdownQMPSocket = "qmp-shutdown.sock" // the monitor of `skerry-launcher shutdown`
	SerialSocket      = "serial0.sock"      // the interactive console
	VNCSocket         = "vnc.sock"
	GuestAgentSocket  = "guest-agent.sock"
	ConsoleLog        = "console.log"  // in LogDir
	MachineFile       = "machine.json" // in MachineDir
)

// TerminationLog is the container's termination message (Kubernetes' default path).
// The kubelet puts its last 4096 bytes into the pod's status, also when the
// container's exit code was lost. A launcher that refuses to start writes the reason
// there, QEMU the reason of its end: see EndTrace.
const TerminationLog = "/dev/termination-log"

// EndTrace is the trace event that QEMU logs to TerminationLog, as a line that ends
// in "qemu_system_shutdown_request reason=N". N is one of the End numbers.
const EndTrace = "qemu_system_shutdown_request"

// Why QEMU ends: the order of ShutdownCause in QEMU's qapi/run-state.json.
const (
	EndQuit     = 2 // the agent or the preStop hook said so on the monitor
	EndSignal   = 4 // SIGTERM and the like
	EndPowerOff = 6 // the guest powered off
	EndReset    = 7 // the guest rebooted, and that is to end the machine
	EndPanic    = 8 // the guest panicked
)

// FirstTapFD is the descriptor number at which QEMU finds the first tap; the
// others follow. QEMU must not open taps by name: a renewed QEMU could not.
const FirstTapFD = 30

// Launcher is the launcher's path in the image.
const Launcher = "/usr/bin/skerry-launcher"

// QEMU is QEMU's path in the image, the only program that the launcher execs.
const QEMU = "/usr/bin/qemu-system-x86_64"

// OVMFCode and OVMFVars are UEFI's code and the template of its variables, in
// the launcher image's optional UEFI layer.
const (
	OVMFCode = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	OVMFVars = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// ImageInfoFile is in the launcher image and holds an ImageInfo.
const ImageInfoFile = "/usr/share/skerry/image.json"

// ImageInfo is what a launcher image knows about itself.
type ImageInfo struct {
	// QEMUVersion is upstream's version, such as "11.1.3".
	QEMUVersion string `json:"qemuVersion"`
	// Packages are the Debian packages with versions that the image was cut from.
	Packages map[string]string `json:"packages,omitempty"`
}

// Hello is the first line (JSON, then a newline) that the launcher sends to
// whoever connects to LauncherSocket. The agent treats it as hostile.
type Hello struct {
	Contract int       `json:"contract"`
	Launcher string    `json:"launcher"` // version of the launcher binary
	Image    ImageInfo `json:"image"`
	// NoDirect are the claims, by their directories' names in ClaimDir, whose file
	// systems refuse O_DIRECT.
	NoDirect []string `json:"noDirect,omitempty"`
}

// Start is the agent's answer once machine.json is complete.
type Start struct {
	Start bool `json:"start"`
}

// Result is the launcher's last line: Error is empty when it is about to exec
// QEMU. After an error the launcher writes the same text to its termination log
// and exits with ExitRefused.
type Result struct {
	Error string `json:"error,omitempty"`
}

// Exit codes of the container.
const (
	ExitPowerOff = 0  // QEMU: the guest powered off
	ExitFailure  = 1  // QEMU: guest panic (pvpanic) or QEMU's own failure
	ExitRefused  = 64 // launcher: machine.json or a disk image was not acceptable
	// ExitUnknown is what containerd says of a container that ended while it was dead
	// itself. Nothing in the container ends with it.
	ExitUnknown = 255
)

// Machine is machine.json.
type Machine struct {
	Version int `json:"version"`
	// Taps are opened by the launcher (TUNSETIFF on a persistent tap owned by
	// uid 107) and inherited by QEMU.
	Taps []Tap `json:"taps,omitempty"`
	// Disks are made by the launcher, in this order, where they do not exist yet.
	Disks []Disk `json:"disks,omitempty"`
	// Copies are files that the launcher copies where they do not exist yet
	// (the UEFI variables' template).
	Copies []Copy `json:"copies,omitempty"`
	// Files are files of image volumes that QEMU will open by path (kernel,
	// initrd); the launcher checks that each is a regular file of its volume.
	Files []Backing `json:"files,omitempty"`
	// Claims are persistent volumes that the launcher opens and QEMU inherits.
	Claims []Claim `json:"claims,omitempty"`
	// Argv is QEMU's command line; Argv[0] is its absolute path.
	Argv []string `json:"argv"`
	// Next is the launcher image in NextVolume from which QEMU runs since it was
	// replaced; empty for the container's own. See QEMUCommand.
	Next string `json:"next,omitempty"`
}

// Tap is one tap device in the pod's network namespace.
type Tap struct {
	Name string `json:"name"`
	FD   int    `json:"fd"`
	// VnetHdr asks for IFF_VNET_HDR (virtio models).
	VnetHdr bool `json:"vnetHdr,omitempty"`
}

// Disk is a qcow2 file that the launcher makes at Path (in DiskDir).
type Disk struct {
	Path string `json:"path"`
	// Size is the virtual size in bytes; 0 takes the backing file's.
	Size int64 `json:"size,omitempty"`
	// Backing is the read-only file below an overlay; nil for an empty disk.
	Backing *Backing `json:"backing,omitempty"`
}

// Copy is a file of the launcher image that the launcher copies to To (in DiskDir).
type Copy struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// Backing names a disk image in an image volume.
type Backing struct {
	// Dir is the image volume's mount point. The disk is the file at Path below
	// it or, with an empty Path, the only file in its directory "disk".
	Dir  string `json:"dir"`
	Path string `json:"path,omitempty"`
}
