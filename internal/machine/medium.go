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
	case v.PersistentVolumeClaim != nil:
		b.claim(d, v, p.Child("persistentVolumeClaim"))
	default:
		b.fail(field.Forbidden(p, "this kind of volume is not supported; supported are containerDisk, persistentVolumeClaim, emptyDisk and cloudInitNoCloud"))
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

// claim has the launcher open a persistent volume. Its content is raw whatever it
// looks like: who may write to a volume must not choose how it is read.
func (b *builder) claim(d *Disk, v *v1.Volume, p *field.Path) {
	if isTrue(v.PersistentVolumeClaim.Hotpluggable) {
		b.fail(field.Forbidden(p.Child("hotpluggable"), "is not supported"))
	}
	claim, ok := b.att.Claims[v.Name]
	if !ok {
		b.fail(field.Invalid(p.Child("claimName"), v.PersistentVolumeClaim.ClaimName, "nothing is known of this claim yet"))
		return
	}
	d.ReadOnly = d.ReadOnly || isTrue(v.PersistentVolumeClaim.ReadOnly)
	fd := ClaimFD(b.claims)
	b.claims++
	d.File, d.Format, d.Device = contract.ClaimFile(fd), "raw", claim.Block
	d.Claim = &contract.Claim{Volume: v.Name, FD: fd, Block: claim.Block, ReadOnly: d.ReadOnly}
	if !claim.Block && !d.ReadOnly {
		d.Claim.Size = claim.Size
	}
	if d.Cache == "" && claim.Direct {
		d.Cache = "none"
	}
	if d.IO == "" && claim.Block && d.Cache == "none" && claim.Native {
		d.IO = "native" // a sparse file would hold it up
	}
}
