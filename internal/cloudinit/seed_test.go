// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"encoding/base64"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

const metaData0 = `{"instance-id":"5d307ca9-b3ef-428c-8861-06e72d69f223","local-hostname":"demo"}`

func instance(source *v1.CloudInitNoCloudSource) *v1.VirtualMachineInstance {
	return &v1.VirtualMachineInstance{
		ObjectMeta: metav1.ObjectMeta{Name: "demo.example", UID: "11111111-2222-4333-8444-555555555555"},
		Spec: v1.VirtualMachineInstanceSpec{
			Domain:  v1.DomainSpec{Firmware: &v1.Firmware{UUID: "5d307ca9-b3ef-428c-8861-06e72d69f223"}},
			Volumes: []v1.Volume{{Name: "root"}, {Name: "seed", CloudInitNoCloud: source}},
		},
	}
}

func nic() NIC {
	return NIC{
		Name: "default", MAC: "02:5a:00:00:00:01", MTU: 1450,
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.2.2/24"), netip.MustParsePrefix("fd10:0:2::2/120")},
		Routes: []Route{
			{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.0.2.1")},
			{netip.MustParsePrefix("::/0"), netip.MustParseAddr("fd10:0:2::1")},
		},
		Nameservers: []netip.Addr{netip.MustParseAddr("10.96.0.10")},
		Search:      []string{"default.svc.cluster.local", "svc.cluster.local"},
	}
}

func TestSeed(t *testing.T) {
	t.Parallel()
	ref := &corev1.LocalObjectReference{Name: "secret"}
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for name, c := range map[string]struct {
		source  v1.CloudInitNoCloudSource
		secrets Secrets
		want    map[string]string
	}{
		"plain": {v1.CloudInitNoCloudSource{UserData: "#cloud-config\nuser: a\n", NetworkData: "version: 2\n"}, Secrets{},
			map[string]string{"user-data": "#cloud-config\nuser: a\n", "network-config": "version: 2\n"}},
		"base64": {v1.CloudInitNoCloudSource{UserDataBase64: b64("#!/bin/sh\n"), NetworkDataBase64: b64("version: 1\n")}, Secrets{},
			map[string]string{"user-data": "#!/bin/sh\n", "network-config": "version: 1\n"}},
		"Secrets": {v1.CloudInitNoCloudSource{SecretRef: ref, NetworkDataSecretRef: ref},
			Secrets{UserData: map[string][]byte{"userdata": []byte("u")}, NetworkData: map[string][]byte{"networkData": []byte("n")}},
			map[string]string{"user-data": "u", "network-config": "n"}},
		"keys": {v1.CloudInitNoCloudSource{UserData: "u", NetworkData: "n"},
			Secrets{PublicKeys: []string{"ssh-ed25519 A a\n# comment\n\nssh-ed25519 B b", "ssh-rsa C"}},
			map[string]string{"user-data": "u", "network-config": "n",
				"meta-data": strings.TrimSuffix(metaData0, "}") + `,"public-keys":{"0":"ssh-ed25519 A a","1":"ssh-ed25519 B b","2":"ssh-rsa C"}}`}},
		"only network data": {v1.CloudInitNoCloudSource{NetworkData: "n"}, Secrets{},
			map[string]string{"user-data": "#cloud-config\n{}\n", "network-config": "n"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files, err := Seed(instance(&c.source), "seed", c.secrets, []NIC{nic()})
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for name, data := range files {
				got[name] = string(data)
			}
			if c.want["meta-data"] == "" {
				c.want["meta-data"] = metaData0
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestSeedRefuses(t *testing.T) {
	t.Parallel()
	ref := &corev1.LocalObjectReference{Name: "secret"}
	big := make([]byte, maxUserData+1)
	for name, c := range map[string]struct {
		source  *v1.CloudInitNoCloudSource
		secrets Secrets
		want    string
	}{
		"no such volume":  {nil, Secrets{}, `no volume "seed" with cloudInitNoCloud`},
		"bad base64":      {&v1.CloudInitNoCloudSource{UserDataBase64: "!"}, Secrets{}, "spec.volumes[1].cloudInitNoCloud.userDataBase64: is not base64"},
		"no key":          {&v1.CloudInitNoCloudSource{SecretRef: ref}, Secrets{UserData: map[string][]byte{"password": []byte("hunter2")}}, `spec.volumes[1].cloudInitNoCloud.secretRef: the Secret has no key "userdata" or "userData"`},
		"no network key":  {&v1.CloudInitNoCloudSource{NetworkDataSecretRef: ref}, Secrets{}, `networkDataSecretRef: the Secret has no key "networkdata" or "networkData"`},
		"large user data": {&v1.CloudInitNoCloudSource{SecretRef: ref}, Secrets{UserData: map[string][]byte{"userdata": big}}, "more than the limit"},
		"many keys":       {&v1.CloudInitNoCloudSource{UserData: "u"}, Secrets{PublicKeys: []string{strings.Repeat("x", maxPublicKeys+1)}}, "spec.accessCredentials"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Seed(instance(c.source), "seed", c.secrets, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want an error with %q", err, c.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Error("the error tells a Secret")
			}
		})
	}
}

func TestNetworkConfig(t *testing.T) {
	t.Parallel()
	pointToPoint := NIC{
		MAC:       "02:5a:00:00:00:03",
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.42.0.7/32")},
		Routes: []Route{
			{Dst: netip.MustParsePrefix("169.254.1.1/32")},
			{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("169.254.1.1")},
		},
	}
	got, err := NetworkConfig([]NIC{nic(), {Name: "no address", MAC: "02:5a:00:00:00:02"}, pointToPoint})
	if err != nil {
		t.Fatal(err)
	}
	want := `ethernets:
  nic0:
    addresses:
    - 10.0.2.2/24
    - fd10:0:2::2/120
    dhcp4: false
    dhcp6: false
    match:
      macaddress: 02:5a:00:00:00:01
    mtu: 1450
    nameservers:
      addresses:
      - 10.96.0.10
      search:
      - default.svc.cluster.local
      - svc.cluster.local
    routes:
    - to: 0.0.0.0/0
      via: 10.0.2.1
    - to: ::/0
      via: fd10:0:2::1
  nic2:
    addresses:
    - 10.42.0.7/32
    dhcp4: false
    dhcp6: false
    match:
      macaddress: 02:5a:00:00:00:03
    routes:
    - scope: link
      to: 169.254.1.1/32
    - on-link: true
      to: 0.0.0.0/0
      via: 169.254.1.1
version: 2
`
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if got, err := NetworkConfig([]NIC{{MAC: "02:5a:00:00:00:02"}}); got != nil || err != nil {
		t.Errorf("without addresses: got %q, %v", got, err)
	}
}

func TestHostname(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, hostname, want string }{
		{"demo", "", "demo"},
		{"demo.example.org", "", "demo"},
		{"demo", "given", "given"},
		{strings.Repeat("a", 62) + "-b", "", strings.Repeat("a", 62)},
	} {
		vmi := instance(nil)
		vmi.Name, vmi.Spec.Hostname = c.name, c.hostname
		if got := Hostname(vmi); got != c.want {
			t.Errorf("%s, %q: got %q, want %q", c.name, c.hostname, got, c.want)
		}
	}
}
