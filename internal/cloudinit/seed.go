// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/machine"
)

// Label is the file system's label, by which cloud-init finds the image.
const Label = "cidata"

// The files of the NoCloud data source.
const (
	metaDataFile    = "meta-data"
	userDataFile    = "user-data"
	networkDataFile = "network-config"
)

// Limits in bytes. A Secret holds at most 1 MiB.
const (
	maxUserData    = 1 << 20
	maxNetworkData = 256 << 10
	maxPublicKeys  = 64 << 10
)

// Secrets is what the agent read for one volume. The maps are the Secrets' data
// by key, nil where the volume names no Secret.
type Secrets struct {
	UserData    map[string][]byte // of cloudInitNoCloud.secretRef
	NetworkData map[string][]byte // of cloudInitNoCloud.networkDataSecretRef
	// PublicKeys are SSH keys of accessCredentials with the propagation noCloud.
	PublicKeys []string
}

// Seed makes the files of the image for the named volume of an instance. Without
// network data from the user it describes nics by itself: a guest that boots
// while nobody answers DHCP must have its address all the same.
func Seed(vmi *v1.VirtualMachineInstance, volume string, secrets Secrets, nics []NIC) (map[string][]byte, error) {
	i, source := find(vmi, volume)
	if source == nil {
		return nil, fmt.Errorf("no volume %q with cloudInitNoCloud in spec.volumes", volume)
	}
	field := fmt.Sprintf("spec.volumes[%d].cloudInitNoCloud", i)
	meta, err := metaData(vmi, secrets.PublicKeys)
	if err != nil {
		return nil, err
	}
	user, err := pick(field, "userData", source.UserData, source.UserDataBase64, "secretRef", source.SecretRef != nil, secrets.UserData, maxUserData)
	if err != nil {
		return nil, err
	}
	network, err := pick(field, "networkData", source.NetworkData, source.NetworkDataBase64, "networkDataSecretRef", source.NetworkDataSecretRef != nil, secrets.NetworkData, maxNetworkData)
	if err != nil {
		return nil, err
	}
	if user == nil {
		// The data source is only valid with this file.
		user = []byte("#cloud-config\n{}\n")
	}
	if network == nil {
		if network, err = NetworkConfig(nics); err != nil {
			return nil, err
		}
	}
	files := map[string][]byte{metaDataFile: meta, userDataFile: user}
	if network != nil {
		files[networkDataFile] = network
	}
	return files, nil
}

func find(vmi *v1.VirtualMachineInstance, volume string) (int, *v1.CloudInitNoCloudSource) {
	for i, v := range vmi.Spec.Volumes {
		if v.Name == volume {
			return i, v.CloudInitNoCloud
		}
	}
	return 0, nil
}

// pick takes one of the three places where data may stand. Nil means none.
func pick(field, name, plain, encoded, ref string, fromSecret bool, secret map[string][]byte, limit int) ([]byte, error) {
	var data []byte
	switch {
	case plain != "":
		field, data = field+"."+name, []byte(plain)
	case encoded != "":
		field += "." + name + "Base64"
		var err error
		if data, err = base64.StdEncoding.DecodeString(encoded); err != nil {
			return nil, fmt.Errorf("%s: is not base64: %w", field, err)
		}
	case fromSecret:
		field += "." + ref
		// Both spellings are in use.
		lower := strings.ToLower(name)
		var ok bool
		if data, ok = secret[lower]; !ok {
			if data, ok = secret[name]; !ok {
				return nil, fmt.Errorf("%s: the Secret has no key %q or %q", field, lower, name)
			}
		}
	default:
		return nil, nil
	}
	if len(data) > limit {
		return nil, fmt.Errorf("%s: %d bytes are more than the limit of %d", field, len(data), limit)
	}
	return data, nil
}

func metaData(vmi *v1.VirtualMachineInstance, keys []string) ([]byte, error) {
	meta := struct {
		InstanceID    string            `json:"instance-id"`
		LocalHostname string            `json:"local-hostname"`
		PublicKeys    map[string]string `json:"public-keys,omitempty"`
	}{
		InstanceID:    machine.FirmwareUUID(vmi),
		LocalHostname: Hostname(vmi),
	}
	size := 0
	for _, text := range keys {
		for key := range strings.Lines(text) {
			if key = strings.TrimSpace(key); key == "" || strings.HasPrefix(key, "#") {
				continue
			}
			if meta.PublicKeys == nil {
				meta.PublicKeys = map[string]string{}
			}
			meta.PublicKeys[fmt.Sprint(len(meta.PublicKeys))] = key
			if size += len(key); size > maxPublicKeys {
				return nil, fmt.Errorf("spec.accessCredentials: the public keys have more than %d bytes", maxPublicKeys)
			}
		}
	}
	return json.Marshal(meta)
}

// Hostname is the guest's name: spec.hostname or the first piece of the instance's
// name, cut to what a DNS label may have.
func Hostname(vmi *v1.VirtualMachineInstance) string {
	if vmi.Spec.Hostname != "" {
		return vmi.Spec.Hostname
	}
	name, _, _ := strings.Cut(vmi.Name, ".")
	return strings.TrimRight(name[:min(len(name), 63)], "-")
}
