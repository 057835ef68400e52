// SPDX-License-Identifier: Apache-2.0

package podtemplate

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/skerry-dev/skerry/internal/contract"
)

const (
	namePrefix = "virt-launcher-"
	// kernelBootVolume is the pod volume of spec.domain.firmware.kernelBoot.container.
	kernelBootVolume = "kernel-boot"

	userDataSuffix    = "-udata"
	networkDataSuffix = "-ndata"
)

// PodName is the name of the pod of the instance with this name and UID. It
// depends on nothing else: the API server then refuses a second pod beside a
// living one, whatever a controller forgot about the first in a crash.
func PodName(vmi string, uid types.UID) string {
	sum := sha256.Sum256([]byte(uid))
	suffix := "-" + strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:5]))
	return namePrefix + cut(vmi, validation.DNS1123SubdomainMaxLength-len(namePrefix)-len(suffix)) + suffix
}

// Hostname is the guest's and the pod's host name: spec.hostname or else the
// first label of the instance's name, at most 63 characters.
func Hostname(name, hostname string) string {
	if hostname != "" {
		return hostname
	}
	label, _, _ := strings.Cut(name, ".")
	return cut(label, validation.DNS1123LabelMaxLength)
}

// IDLabel is the value of the label vmi.kubevirt.io/id: the instance's name or,
// when that is too long for a label, its first 54 characters and 8 digits of its
// SHA-1. Clients work it out by themselves (`virtctl expose`), so it is fixed.
func IDLabel(name string) string {
	if len(name) <= validation.LabelValueMaxLength {
		return name
	}
	sum := sha1.Sum([]byte(name))
	return name[:54] + "-" + hex.EncodeToString(sum[:])[:8]
}

// DiskVolume is the pod's name for the image volume of spec.volumes[i].
func DiskVolume(i int) string { return "disk-" + strconv.Itoa(i) }

// DiskDir is where the image volume of spec.volumes[i] is mounted in the pod.
func DiskDir(i int) string { return contract.ImageDir + "/disk_" + strconv.Itoa(i) }

// ClaimVolume is the pod's name for the claim of spec.volumes[i].
func ClaimVolume(i int) string { return "claim-" + strconv.Itoa(i) }

// UserDataVolume and NetworkDataVolume are the pod's names for the Secret
// volumes of a cloud-init volume, mounted at contract.SecretDir/<name>.
func UserDataVolume(volume string) string { return secretVolume(volume, userDataSuffix) }

// NetworkDataVolume is described at UserDataVolume.
func NetworkDataVolume(volume string) string { return secretVolume(volume, networkDataSuffix) }

func secretVolume(volume, suffix string) string {
	return shorten(volume, validation.DNS1123LabelMaxLength-len(suffix)) + suffix
}

// shorten keeps s up to max bytes; a longer one is cut and gets a hash of the
// whole, so that different names stay different.
func shorten(s string, max int) string {
	if len(s) <= max {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	hash := "-" + hex.EncodeToString(sum[:4])
	return cut(s, max-len(hash)) + hash
}

// cut is the start of s, at most max bytes, ending in a letter or digit as names must.
func cut(s string, max int) string {
	if len(s) <= max {
		return s
	}
	return strings.TrimRight(s[:max], "-.")
}
