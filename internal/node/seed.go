// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/cloudinit"
	"github.com/skerry-dev/skerry/internal/machine"
	"github.com/skerry-dev/skerry/internal/podfs"
	"github.com/skerry-dev/skerry/internal/podtemplate"
)

// deviceID is the id in QEMU of a device that the spec names.
func deviceID(name string) string { return machine.DeviceID(name) }

// seedFile is the name in the machine volume of a cloud-init volume's image.
func seedFile(volume string) string { return "cloud-init-" + volume + ".iso" }

// maxSecretValue is a Secret's limit, in bytes.
const maxSecretValue = 1 << 20

// writeSeeds makes the images of the cloud-init volumes. Secrets are read from
// the pod's volumes on the node: the agent has no access to them in the API.
func (g *guest) writeSeeds(pod *podfs.Pod, dir *podfs.Dir, vmi *v1.VirtualMachineInstance, net connected) error {
	nics := cloudInitNICs(net.attached, net.dns)
	for i, v := range vmi.Spec.Volumes {
		src := v.CloudInitNoCloud
		if src == nil {
			continue
		}
		var secrets cloudinit.Secrets
		var err error
		if src.SecretRef != nil {
			secrets.UserData, err = readSecret(pod, podtemplate.UserDataVolume(v.Name), "userdata", "userData")
			if err != nil {
				return fmt.Errorf("spec.volumes[%d].cloudInitNoCloud.secretRef: Secret %q: %w", i, src.SecretRef.Name, err)
			}
		}
		if src.NetworkDataSecretRef != nil {
			secrets.NetworkData, err = readSecret(pod, podtemplate.NetworkDataVolume(v.Name), "networkdata", "networkData")
			if err != nil {
				return fmt.Errorf("spec.volumes[%d].cloudInitNoCloud.networkDataSecretRef: Secret %q: %w", i, src.NetworkDataSecretRef.Name, err)
			}
		}
		files, err := cloudinit.Seed(vmi, v.Name, secrets, nics)
		if err != nil {
			return err
		}
		err = dir.Write(seedFile(v.Name), g.owner, func(w io.Writer) error {
			return cloudinit.WriteISO(w, cloudinit.Label, files)
		})
		if err != nil {
			return fmt.Errorf("cloud-init image of volume %s: %w", v.Name, err)
		}
	}
	return nil
}

// readSecret reads those of the keys that a pod's Secret volume has.
func readSecret(pod *podfs.Pod, volume string, keys ...string) (map[string][]byte, error) {
	dir, err := pod.Secret(volume)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	out := map[string][]byte{}
	for _, key := range keys {
		b, err := dir.ReadFile(key, maxSecretValue)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out[key] = b
	}
	return out, nil
}
