// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"path"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/contract"
)

// Firmware is what the machine boots with.
type Firmware struct {
	// EFI says that UEFI takes SeaBIOS's place; VarsFile holds its variables,
	// which the launcher copies from the image's template. They live as long as
	// the pod.
	EFI      bool
	VarsFile string
	// SerialBIOS makes SeaBIOS print to the serial console.
	SerialBIOS bool
}

// Kernel is a kernel that QEMU loads itself.
type Kernel struct {
	Path    string // in the container
	Initrd  string // in the container, or ""
	Cmdline string
}

// SMBIOS is what the guest reads about its manufacturer.
type SMBIOS struct {
	Serial  string
	Chassis *v1.Chassis
}

// efiVarsFile cannot meet a volume's file: those end in .qcow2.
const efiVarsFile = contract.DiskDir + "/efi-vars.fd"

func (b *builder) firmware() {
	p := spec.Child("domain")
	if c := b.vmi.Spec.Domain.Chassis; c != nil {
		for _, f := range []struct{ name, value string }{
			{"manufacturer", c.Manufacturer}, {"version", c.Version}, {"serial", c.Serial}, {"asset", c.Asset}, {"sku", c.SKU},
		} {
			b.fail(checkText(p.Child("chassis", f.name), f.value, 256))
		}
		b.m.SMBIOS.Chassis = c.DeepCopy()
	}
	f := b.vmi.Spec.Domain.Firmware
	if f == nil {
		return
	}
	p = p.Child("firmware")
	b.fail(checkText(p.Child("serial"), f.Serial, 256))
	b.m.SMBIOS.Serial = f.Serial
	if f.ACPI != nil {
		b.unsupported(p.Child("acpi"))
	}
	if l := f.Bootloader; l != nil {
		b.bootloader(l, p.Child("bootloader"))
	}
	if k := f.KernelBoot; k != nil {
		b.kernelBoot(k, p.Child("kernelBoot"))
	}
}

func (b *builder) bootloader(l *v1.Bootloader, p *field.Path) {
	if l.BIOS != nil {
		b.m.Firmware.SerialBIOS = isTrue(l.BIOS.UseSerial)
	}
	if l.EFI == nil {
		return
	}
	if l.BIOS != nil {
		b.fail(field.Invalid(p, "", "efi and bios exclude each other"))
	}
	if !isFalse(l.EFI.SecureBoot) {
		b.fail(field.Invalid(p.Child("efi", "secureBoot"), true, "secure boot (which is on unless set to false) is not supported"))
	}
	if isTrue(l.EFI.Persistent) {
		b.unsupported(p.Child("efi", "persistent"))
	}
	b.m.Firmware.EFI = true
	b.m.Firmware.VarsFile = efiVarsFile
}

// imagePath is the alphabet of paths inside images. A comma separates modules
// for QEMU's multiboot loader, so it is left out.
var imagePath = regexp.MustCompile(`^/?[A-Za-z0-9._+@=:~-]+(/[A-Za-z0-9._+@=:~-]+)*$`)

// pathInImage checks a path inside an image volume and joins it to the volume's
// mount point. Whether it is a link that leads out of the image is for the
// launcher to find out.
func (b *builder) pathInImage(dir, file string, p *field.Path) string {
	if len(file) > 512 || !imagePath.MatchString(file) || path.Clean("/"+file) != "/"+strings.TrimPrefix(file, "/") {
		b.fail(field.Invalid(p, file, "must be the path of a file in the image, such as /boot/vmlinuz, of letters, digits and . _ + @ = : ~ - and without . and .. as parts"))
		return ""
	}
	return path.Join(dir, file)
}

func (b *builder) kernelBoot(k *v1.KernelBoot, p *field.Path) {
	b.fail(checkText(p.Child("kernelArgs"), k.KernelArgs, 4096))
	c := k.Container
	if c == nil {
		if k.KernelArgs != "" {
			b.fail(field.Invalid(p.Child("kernelArgs"), k.KernelArgs, "needs kernelBoot.container with a kernelPath"))
		}
		return
	}
	p = p.Child("container")
	if c.KernelPath == "" {
		b.fail(field.Required(p.Child("kernelPath"), "the kernel's path in the image"))
		return
	}
	kernel := &Kernel{
		Path:    b.pathInImage(contract.KernelBootDir, c.KernelPath, p.Child("kernelPath")),
		Cmdline: k.KernelArgs,
	}
	if c.InitrdPath != "" {
		kernel.Initrd = b.pathInImage(contract.KernelBootDir, c.InitrdPath, p.Child("initrdPath"))
	}
	b.m.Kernel = kernel
}
