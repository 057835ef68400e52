// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"encoding/base64"
	"path"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

const (
	// maxDevices bounds each list of volumes, disks, networks and interfaces.
	maxDevices = 256
	// maxInlineCloudInit is how many bytes of cloud-init data may stand in the
	// spec itself; more belongs into a Secret.
	maxInlineCloudInit = 2048
	// maxVolumeName leaves room for the suffixes of a pod's volume names.
	maxVolumeName = 57
	// minEmptyDisk and maxEmptyDisk bound the size of an empty disk in bytes.
	minEmptyDisk = mebibyte
	maxEmptyDisk = 64 << 40
)

// volumes checks spec.volumes by themselves; disks checks what refers to them.
func (v *validator) volumes(p *field.Path, spec *v1.VirtualMachineInstanceSpec) {
	if n := len(spec.Volumes); n > maxDevices {
		v.invalid(p, n, "volumes are too many; use %d at most", maxDevices)
		return
	}
	names, claims := map[string]*field.Path{}, map[string]*field.Path{}
	for i := range spec.Volumes {
		vol, vp := &spec.Volumes[i], p.Index(i)
		v.uniqueName(vp.Child("name"), vol.Name, names)
		if len(vol.Name) > maxVolumeName {
			v.invalid(vp.Child("name"), vol.Name, "is too long; use %d characters at most", maxVolumeName)
		}
		v.volumeSource(vp, vol)
		if s := vol.PersistentVolumeClaim; s != nil && s.ClaimName != "" {
			v.unique(vp.Child("persistentVolumeClaim", "claimName"), s.ClaimName, claims)
		}
	}
}

// uniqueName checks the name of a volume, disk, network or interface.
func (v *validator) uniqueName(p *field.Path, name string, seen map[string]*field.Path) bool {
	if name == "" {
		v.required(p, "give it a name")
		return false
	}
	return v.dnsLabel(p, name) && v.unique(p, name, seen)
}

func (v *validator) unique(p *field.Path, name string, seen map[string]*field.Path) bool {
	if first, ok := seen[name]; ok {
		v.duplicate(p, name, first)
		return false
	}
	seen[name] = p
	return true
}

// A volumeKind is one source of a volume.
type volumeKind struct {
	name string
	set  func(*v1.Volume) bool
	// instead is for sources that are not implemented.
	instead string
}

const (
	useDiskInstead = "use a containerDisk (from an image), persistentVolumeClaim, emptyDisk (blank) or cloudInitNoCloud volume"
	useSeedInstead = "pass small data to the guest in a cloudInitNoCloud volume"
)

var volumeKinds = []volumeKind{
	{"containerDisk", func(s *v1.Volume) bool { return s.ContainerDisk != nil }, ""},
	{"cloudInitNoCloud", func(s *v1.Volume) bool { return s.CloudInitNoCloud != nil }, ""},
	{"emptyDisk", func(s *v1.Volume) bool { return s.EmptyDisk != nil }, ""},
	{"persistentVolumeClaim", func(s *v1.Volume) bool { return s.PersistentVolumeClaim != nil }, ""},
	{"cloudInitConfigDrive", func(s *v1.Volume) bool { return s.CloudInitConfigDrive != nil }, "use cloudInitNoCloud, which takes the same data"},
	{"configMap", func(s *v1.Volume) bool { return s.ConfigMap != nil }, useSeedInstead},
	{"containerPath", func(s *v1.Volume) bool { return s.ContainerPath != nil }, useDiskInstead},
	{"dataVolume", func(s *v1.Volume) bool { return s.DataVolume != nil }, "use persistentVolumeClaim; a DataVolume's claim has the same name"},
	{"downwardAPI", func(s *v1.Volume) bool { return s.DownwardAPI != nil }, useSeedInstead},
	{"downwardMetrics", func(s *v1.Volume) bool { return s.DownwardMetrics != nil }, "leave it out"},
	{"ephemeral", func(s *v1.Volume) bool { return s.Ephemeral != nil }, useDiskInstead},
	{"hostDisk", func(s *v1.Volume) bool { return s.HostDisk != nil }, useDiskInstead},
	{"memoryDump", func(s *v1.Volume) bool { return s.MemoryDump != nil }, "leave it out"},
	{"secret", func(s *v1.Volume) bool { return s.Secret != nil }, useSeedInstead},
	{"serviceAccount", func(s *v1.Volume) bool { return s.ServiceAccount != nil }, useSeedInstead},
	{"sysprep", func(s *v1.Volume) bool { return s.Sysprep != nil }, "prepare the disk image instead"},
}

func (v *validator) volumeSource(p *field.Path, vol *v1.Volume) {
	var found []string
	for _, k := range volumeKinds {
		if !k.set(vol) {
			continue
		}
		found = append(found, k.name)
		if k.instead != "" {
			v.unsupported(p.Child(k.name), k.instead)
		}
	}
	switch len(found) {
	case 0:
		v.lacks(p, "volume %s has no source; use containerDisk, persistentVolumeClaim, emptyDisk or cloudInitNoCloud", show(vol.Name))
	case 1:
	default:
		v.invalid(p, vol.Name, "has %d sources (%s); give each volume exactly one", len(found), strings.Join(found, ", "))
	}
	if s := vol.ContainerDisk; s != nil {
		v.containerDisk(p.Child("containerDisk"), s)
	}
	if s := vol.CloudInitNoCloud; s != nil {
		v.cloudInit(p.Child("cloudInitNoCloud"), s)
	}
	if s := vol.PersistentVolumeClaim; s != nil {
		v.claim(p.Child("persistentVolumeClaim"), s)
	}
	if s := vol.EmptyDisk; s != nil {
		cp := p.Child("emptyDisk", "capacity")
		switch n := s.Capacity.Value(); {
		case n < minEmptyDisk:
			v.invalid(cp, s.Capacity.String(), "is too small; use 1Mi or more, for example 2Gi")
		case n > maxEmptyDisk:
			v.invalid(cp, s.Capacity.String(), "is too large; use 64Ti or less")
		}
	}
}

func (v *validator) claim(p *field.Path, s *v1.PersistentVolumeClaimVolumeSource) {
	if s.ClaimName == "" {
		v.required(p.Child("claimName"), "name a claim in the machine's namespace")
	} else {
		v.objectName(p.Child("claimName"), s.ClaimName)
	}
	if isTrue(s.Hotpluggable, false) {
		v.unsupported(p.Child("hotpluggable"), "leave it out: volumes are there from the start, and a changed list takes a restart")
	}
}

func (v *validator) containerDisk(p *field.Path, s *v1.ContainerDiskSource) {
	v.image(p.Child("image"), s.Image)
	v.oneOf(p.Child("imagePullPolicy"), string(s.ImagePullPolicy), "Always", "IfNotPresent", "Never")
	v.objectName(p.Child("imagePullSecret"), s.ImagePullSecret)
	if s.Path != "" {
		v.pathInImage(p.Child("path"), s.Path, "/disk/fedora.qcow2")
	}
}

// imageReference is what a container image's reference may consist of. The
// container runtime knows the exact grammar.
var imageReference = regexp.MustCompile(`^[A-Za-z0-9\[][A-Za-z0-9._\-/:@\[\]+]*$`)

func (v *validator) image(p *field.Path, ref string) {
	switch {
	case ref == "":
		v.required(p, "name a container image, for example registry.example/fedora:42")
	case len(ref) > 1024 || !imageReference.MatchString(ref):
		v.invalid(p, ref, "is not an image reference; use [registry/]repository[:tag][@digest], for example registry.example/fedora:42")
	case strings.Contains(ref, "://"):
		v.invalid(p, ref, "is a URL; leave the part before the registry's name out")
	}
}

// imagePath is what a path in an image may consist of: QEMU reads it in places
// where a comma or a space would end it.
var imagePath = regexp.MustCompile(`^/?[A-Za-z0-9._+@=:~-]+(/[A-Za-z0-9._+@=:~-]+)*$`)

// maxImagePath is the length of such a path in bytes.
const maxImagePath = 512

func (v *validator) pathInImage(p *field.Path, name, example string) {
	switch {
	case len(name) > maxImagePath:
		v.invalid(p, name, "is %d bytes long; use at most %d", len(name), maxImagePath)
	case path.Clean("/"+name) != "/"+strings.TrimPrefix(name, "/") || !imagePath.MatchString(name):
		v.invalid(p, name, "is not a file's path in the image; use letters, digits, '/' and the characters . _ + @ = : ~ - without the parts '.' and '..', for example %s", example)
	}
}

func (v *validator) cloudInit(p *field.Path, s *v1.CloudInitNoCloudSource) {
	user := v.cloudInitData(p, "userData", s.UserData, s.UserDataBase64, "secretRef", s.SecretRef)
	network := v.cloudInitData(p, "networkData", s.NetworkData, s.NetworkDataBase64, "networkDataSecretRef", s.NetworkDataSecretRef)
	if user+network == 0 {
		v.lacks(p, "has no data; give one of userData, userDataBase64, secretRef, networkData, networkDataBase64 and networkDataSecretRef")
	}
}

// cloudInitData checks the three places where one kind of data may stand and
// returns how many are used.
func (v *validator) cloudInitData(p *field.Path, name, plain, encoded, refName string, ref *corev1.LocalObjectReference) int {
	var used []string
	tooLong := func(dp *field.Path, n int) {
		v.add("FieldValueInvalid", dp, "is "+show(n)+" bytes long; use at most "+show(maxInlineCloudInit)+", or put the data into a Secret and name it in "+refName)
	}
	if plain != "" {
		used = append(used, name)
		if len(plain) > maxInlineCloudInit {
			tooLong(p.Child(name), len(plain))
		}
	}
	if encoded != "" {
		used = append(used, name+"Base64")
		dp := p.Child(name + "Base64")
		if len(encoded) > 2*maxInlineCloudInit {
			tooLong(dp, base64.StdEncoding.DecodedLen(len(encoded)))
		} else if data, err := base64.StdEncoding.DecodeString(encoded); err != nil {
			v.add("FieldValueInvalid", dp, "is not base64 ("+err.Error()+"); encode the data with `base64 -w0`, or use "+name+" for plain text")
		} else if len(data) > maxInlineCloudInit {
			tooLong(dp, len(data))
		}
	}
	if ref != nil {
		used = append(used, refName)
		if ref.Name == "" {
			v.required(p.Child(refName, "name"), "name a Secret in the machine's namespace")
		} else {
			v.objectName(p.Child(refName, "name"), ref.Name)
		}
	}
	if len(used) > 1 {
		v.add("FieldValueInvalid", p.Child(used[1]), "stands beside "+used[0]+"; keep one of "+strings.Join(used, ", "))
	}
	return len(used)
}
