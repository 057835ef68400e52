// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"path/filepath"

	"k8s.io/client-go/rest"

	"github.com/skerry-dev/skerry/internal/hostinfo"
	"github.com/skerry-dev/skerry/internal/machine"
)

// Config is what the agent has to be told. All fields are required but those
// that say otherwise.
type Config struct {
	REST     *rest.Config
	NodeName string
	// KubeletRoot is the kubelet's --root-dir, usually /var/lib/kubelet.
	KubeletRoot string
	// ListenAddress is host:port of the node API, which takes mutual TLS only.
	ListenAddress                         string
	TLSCertFile, TLSKeyFile, ClientCAFile string
	// Accel is auto, kvm or tcg. With auto KVM is used where it works.
	Accel string

	// CNIBinDirs are the directories of the CNI plugins that NetworkAttachmentDefinitions
	// may name, and CNIStateDir, which must outlive a reboot, is where the agent
	// remembers what they did. Without either, networks beside the pods' own are left
	// to the cluster's own plugin (Multus).
	CNIBinDirs  []string
	CNIStateDir string
	// ReservedBridges are bridges that no NetworkAttachmentDefinition may use.
	ReservedBridges []string

	// LauncherArchive is the launcher image of this version of Skerry, as an OCI
	// archive: what the QEMU of running machines can be replaced by. It is unpacked
	// into LauncherStore, a directory on the file system of KubeletRoot if that can
	// be. LauncherDir is the image's root file system where there is no archive.
	// Without either machines keep their QEMU until they are started anew.
	LauncherArchive, LauncherStore, LauncherDir string
	// Renew is manual or, to replace the QEMU of machines without being asked when
	// the node has a newer one, auto. Empty means manual.
	Renew string
}

// Values of Config.Renew.
const (
	RenewManual = "manual"
	RenewAuto   = "auto"
)

// Values of Config.Accel.
const (
	AccelAuto = "auto"
	AccelKVM  = "kvm"
	AccelTCG  = "tcg"
)

func (c Config) validate() error {
	var errs []error
	need := func(field, value string) {
		if value == "" {
			errs = append(errs, fmt.Errorf("%s: must not be empty", field))
		}
	}
	if c.REST == nil {
		errs = append(errs, errors.New("REST: must not be nil"))
	}
	need("NodeName", c.NodeName)
	need("ListenAddress", c.ListenAddress)
	need("TLSCertFile", c.TLSCertFile)
	need("TLSKeyFile", c.TLSKeyFile)
	need("ClientCAFile", c.ClientCAFile)
	if !filepath.IsAbs(c.KubeletRoot) {
		errs = append(errs, fmt.Errorf("the kubelet's root directory %q: must be an absolute path, usually /var/lib/kubelet", c.KubeletRoot))
	}
	switch c.Accel {
	case AccelAuto, AccelKVM, AccelTCG:
	default:
		errs = append(errs, fmt.Errorf("accelerator %q: must be %s, %s or %s", c.Accel, AccelAuto, AccelKVM, AccelTCG))
	}
	for _, dir := range append([]string{c.CNIStateDir}, c.CNIBinDirs...) {
		if dir != "" && !filepath.IsAbs(dir) {
			errs = append(errs, fmt.Errorf("the directory of CNI plugins or their state %q: must be an absolute path", dir))
		}
	}
	if c.LauncherArchive != "" && !filepath.IsAbs(c.LauncherStore) {
		errs = append(errs, fmt.Errorf("the directory for the launcher image %q: must be an absolute path", c.LauncherStore))
	}
	switch c.Renew {
	case "", RenewManual, RenewAuto:
	default:
		errs = append(errs, fmt.Errorf("renew %q: must be %s or %s", c.Renew, RenewManual, RenewAuto))
	}
	if len(errs) > 0 {
		return fmt.Errorf("node agent: configuration: %w", errors.Join(errs...))
	}
	return nil
}

// accelerator decides between KVM and emulation.
func accelerator(want string, host hostinfo.Info) (machine.Accel, error) {
	switch {
	case want == AccelTCG:
		return machine.TCG, nil
	case host.KVM:
		return machine.KVM, nil
	case want == AccelKVM:
		return "", fmt.Errorf("node agent: accelerator kvm was asked for, but %s; choose auto or tcg to run machines in software emulation", host.KVMReason)
	}
	return machine.TCG, nil
}
