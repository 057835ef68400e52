// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"fmt"
	"path"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/contract"
)

var diskSerial = regexp.MustCompile(`^[A-Za-z0-9_.+-]+$`)

// medium finds the file behind a disk.
func (b *builder) medium(d *Disk, volume int) {
	v := &b.vmi.Spec.Volumes[volume]
	p := spec.Child("volumes").Index(volume)
	d.File, d.Format = overlay(v.Name), "qcow2"
	switch {
	case v.ContainerDisk != nil:
		backing := &contract.Backing{Dir: fmt.Sprintf("%s/disk_%d", contract.ImageDir, volume)}
		if v.ContainerDisk.Path != "" {
			b.pathInImage(backing.Dir, v.ContainerDisk.Path, p.Child("containerDisk", "path"))
			backing.Path = strings.TrimPrefix(v.ContainerDisk.Path, "/")
		}
		d.Create = &contract.Disk{Path: d.File, Backing: backing}
	case v.EmptyDisk != nil:
		capacity := v.EmptyDisk.Capacity
		size := capacity.Value()
		if size < mib || size > maxDiskSize {
			b.fail(field.Invalid(p.Child("emptyDisk", "capacity"), capacity.String(), "must be between 1Mi and 64Ti"))
		}
		d.Create = &contract.Disk{Path: d.File, Size: (size + 511) / 512 * 512}
	case v.CloudInitNoCloud != nil:
		b.cloudInit(d, v, p)
	default:
		b.fail(field.Forbidden(p, "this kind of volume is not supported; supported are containerDisk, emptyDisk and cloudInitNoCloud"))
	}
}

// cloudInit puts the agent's image, which is read-only in the pod, into the
// drive. SATA knows no read-only disks: there the guest gets an overlay.
func (b *builder) cloudInit(d *Disk, v *v1.Volume, p *field.Path) {
	file := b.att.CloudInit[v.Name]
	if path.Dir(file) != contract.MachineDir || path.Clean(file) != file {
		b.fail(field.Invalid(p.Child("cloudInitNoCloud"), file, "its image is not prepared: expected a file in "+contract.MachineDir))
		return
	}
	if d.Bus == "sata" && !d.CDROM {
		d.Create = &contract.Disk{Path: d.File, Backing: &contract.Backing{Dir: contract.MachineDir, Path: path.Base(file)}}
		return
	}
	d.File, d.Format, d.ReadOnly = file, "raw", true
}
