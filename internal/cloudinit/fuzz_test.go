// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// Whatever a tenant gives a guest, by whichever way, it is refused or is in the
// image as it was given, and the rest of the image is well-formed.
func FuzzSeed(f *testing.F) {
	f.Add("vm", "host", "#cloud-config\nhostname: x\n", "", "version: 2\n", "ssh-ed25519 AAAA x", []byte("#!/bin/sh\n"))
	f.Add("a.b.c", "", "", "I2Nsb3VkLWNvbmZpZwo=", "", "ssh-rsa \x00", []byte{})
	f.Add("x", "-", "\x00\xff", "not base64!", "{", "\n- a\n", []byte(nil))
	f.Add("very-long-name-very-long-name-very-long-name-very-long-name-very-long-name", "h:{}", "%", "====", "\t", "\u2028", []byte("\xff\xfe"))
	f.Fuzz(func(t *testing.T, name, host, user, user64, network, sshKey string, secret []byte) {
		vmi := &v1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: "uid"}}
		vmi.Spec.Hostname = host
		src := &v1.CloudInitNoCloudSource{UserData: user, UserDataBase64: user64, NetworkData: network}
		vmi.Spec.Volumes = []v1.Volume{{Name: "seed", CloudInitNoCloud: src}}
		nics := []NIC{{Name: "default", MAC: "02:00:00:00:00:01", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.2.2/24")}}}
		check := func(s Secrets, want []byte) {
			files, err := Seed(vmi, "seed", s, nics)
			if err != nil {
				return
			}
			if want != nil && !bytes.Equal(files[userDataFile], want) {
				t.Errorf("user data %q became %q", want, files[userDataFile])
			}
			var meta map[string]any
			if err := json.Unmarshal(files[metaDataFile], &meta); err != nil {
				t.Errorf("meta-data is no JSON: %v\n%s", err, files[metaDataFile])
			}
			var iso bytes.Buffer
			if err := WriteISO(&iso, Label, files); err != nil {
				t.Errorf("no image: %v", err)
			}
			for _, b := range files {
				if !bytes.Contains(iso.Bytes(), b) {
					t.Error("a file is not in the image")
				}
			}
		}
		var inline []byte
		if user != "" && user64 == "" {
			inline = []byte(user)
		}
		check(Secrets{PublicKeys: []string{sshKey}}, inline)
		src.UserData, src.UserDataBase64 = "", ""
		src.SecretRef = &corev1.LocalObjectReference{Name: "s"}
		check(Secrets{UserData: map[string][]byte{"userdata": secret}}, nil)
	})
}
