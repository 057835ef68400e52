// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"k8s.io/apimachinery/pkg/util/validation/field"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/contract"
)

// DeviceID is the id in QEMU of a device that the spec names, as libvirt's alias
// is in KubeVirt. QMP events carry it.
func DeviceID(name string) string { return "ua-" + name }

// DeviceName gives the name in the spec that belongs to an id, if there is one.
func DeviceName(id string) (string, bool) { return strings.CutPrefix(id, "ua-") }

// userName is what may follow "ua-": QEMU's ids have this alphabet, and the
// names of volumes also become names of files.
var userName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// nodeName is a block node's name: QEMU allows 31 characters and the same
// alphabet as for ids. Long names are cut and get a part of their hash.
func nodeName(prefix, volume string) string {
	name := prefix + volume
	if len(name) <= 31 {
		return name
	}
	sum := sha256.Sum256([]byte(volume))
	return name[:22] + "-" + hex.EncodeToString(sum[:4])
}

// Target is the name that a guest is expected to give a disk: status.volumeStatus
// shows it. The prefix is "vd" or "sd"; index 0 gives "vda", 26 gives "vdaa".
func Target(prefix string, index int) string {
	name := ""
	for i := index; i >= 0; i = i/26 - 1 {
		name = string(rune('a'+i%26)) + name
	}
	return prefix + name
}

// TapFD is the descriptor number of the i-th interface's tap.
func TapFD(i int) int { return contract.FirstTapFD + i }

// ClaimFD is the descriptor number of the i-th persistent volume.
func ClaimFD(i int) int { return contract.FirstClaimFD + i }

// FirmwareUUID is the machine's UUID: what the spec says or, since instances
// that were never defaulted have none, the instance's own UID.
func FirmwareUUID(vmi *v1.VirtualMachineInstance) string {
	if f := vmi.Spec.Domain.Firmware; f != nil && f.UUID != "" {
		return strings.ToLower(f.UUID)
	}
	return strings.ToLower(string(vmi.UID))
}

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// checkText refuses text that cannot be a line of a table or an argument.
func checkText(p *field.Path, s string, max int) *field.Error {
	if len(s) > max {
		return field.TooLong(p, "", max)
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return field.Invalid(p, strconv.QuoteToASCII(s), fmt.Sprintf("has the character %U; only printable characters and spaces may be used", r))
		}
	}
	return nil
}
