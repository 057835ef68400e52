// SPDX-License-Identifier: Apache-2.0

package status

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// onNode tells whether a machine has a QEMU, or what becomes one.
func onNode(m *v1.VirtualMachineInstance) bool {
	return m.Status.Phase == v1.Scheduled || m.Status.Phase == v1.Running
}

// oldLauncher tells whether a machine runs in another launcher image than new ones
// get. An empty current, where it is not known, makes none old.
func oldLauncher(m *v1.VirtualMachineInstance, current string) bool {
	image := m.Status.LauncherContainerImageVersion
	return current != "" && image != "" && image != current && onNode(m)
}

// oldQEMU tells whether the node agent knows of a newer QEMU for a machine.
func oldQEMU(m *v1.VirtualMachineInstance) bool {
	c := m.Status.Condition(v1.VMIRenewable)
	return c != nil && c.Reason == v1.RenewableOutdated && onNode(m)
}

// oldText says how many machines run what is not the newest, empty when none do.
func oldText(machines []v1.VirtualMachineInstance, current string) string {
	qemu, launchers, versions, all := 0, 0, map[string]bool{}, 0
	for i := range machines {
		m := &machines[i]
		if !onNode(m) {
			continue
		}
		all++
		if oldQEMU(m) {
			qemu++
		}
		if oldLauncher(m, current) {
			launchers++
			versions[tag(m.Status.LauncherContainerImageVersion)] = true
		}
	}
	var parts []string
	if qemu > 0 {
		parts = append(parts, fmt.Sprintf("%d of %d VMs run on an older QEMU: `skerry vm renew --all -A` replaces it while they run", qemu, all))
	}
	if launchers > 0 {
		parts = append(parts, fmt.Sprintf("%d of %d VMs have an older launcher (%s; new ones get %s), until they are started anew",
			launchers, all, strings.Join(slices.Sorted(maps.Keys(versions)), ", "), tag(current)))
	}
	return strings.Join(parts, "; ")
}

// tag is what tells an image's versions apart: its tag, or its digest cut short.
func tag(image string) string {
	name, digest, _ := strings.Cut(image, "@")
	if _, t, ok := strings.Cut(path.Base(name), ":"); ok {
		return t
	}
	return digest[:min(len(digest), len("sha256:")+12)]
}

func launcherText(m *v1.VirtualMachineInstance, current string) string {
	text := tag(m.Status.LauncherContainerImageVersion)
	if oldLauncher(m, current) {
		text += " (old)"
	}
	return text
}

func qemuText(m *v1.VirtualMachineInstance) string {
	q := m.Status.QEMU
	if q == nil {
		return ""
	}
	text := q.Version
	if oldQEMU(m) {
		text += " (old)"
	}
	return text
}
