// SPDX-License-Identifier: Apache-2.0

package hostinfo

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// KVM's ioctls (include/uapi/linux/kvm.h, Documentation/virt/kvm/api.rst).
const (
	kvmGetAPIVersion = 0xae00
	kvmCreateVM      = 0xae01
	kvmCreateVCPU    = 0xae41
	kvmAPIVersion    = 12
)

// ProbeKVM makes a virtual machine with one CPU at the device path and throws it
// away. The error says which step was refused.
func ProbeKVM(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	version, err := ioctl(int(f.Fd()), kvmGetAPIVersion)
	if err != nil {
		return fmt.Errorf("KVM_GET_API_VERSION: %w", err)
	}
	if version != kvmAPIVersion {
		return fmt.Errorf("KVM API version %d: want %d", version, kvmAPIVersion)
	}
	vm, err := ioctl(int(f.Fd()), kvmCreateVM)
	if err != nil {
		return fmt.Errorf("KVM_CREATE_VM: %w", err)
	}
	defer unix.Close(vm)
	vcpu, err := ioctl(vm, kvmCreateVCPU)
	if err != nil {
		return fmt.Errorf("KVM_CREATE_VCPU: %w", err)
	}
	return unix.Close(vcpu)
}

// ioctl calls req with argument 0 until it is not interrupted.
func ioctl(fd int, req uintptr) (int, error) {
	for {
		r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req, 0)
		switch errno {
		case 0:
			return int(r), nil
		case unix.EINTR:
		default:
			return -1, errno
		}
	}
}
