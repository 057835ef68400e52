// SPDX-License-Identifier: Apache-2.0

//go:build root

package cniplugin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/internal/netattach"
	"github.com/skerry-dev/skerry/internal/netns"
	"github.com/skerry-dev/skerry/internal/netns/netnstest"
	"github.com/skerry-dev/skerry/internal/podnet"
)

const (
	podUID = "0d2c5a54-1c0e-4b7e-9d0e-3a9a3c1f5e11"
	link   = "pod37a8eec1ce1"
	link2  = "pod11111111111"
)

var testPod = Pod{Namespace: "ns", Name: "virt-launcher-x", UID: podUID}

// site is a node and a pod, with the real plugins.
type site struct {
	t         *testing.T
	node, pod *os.File
	r         *Runner
	reads     int
}

func newSite(t *testing.T) *site {
	t.Helper()
	bin, err := filepath.Abs("../../build/bin/cni")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(bin, "bridge")); err != nil {
		t.Skipf("the plugins are not built (make build): %v", err)
	}
	s := &site{t: t, node: netnstest.New(t), pod: netnstest.New(t), r: &Runner{BinDirs: []string{bin}, StateDir: t.TempDir()}}
	t.Cleanup(func() {
		if err := s.r.unpin(podUID); err != nil {
			t.Error(err)
		}
	})
	return s
}

const bridgeConfig = `{"cniVersion":"1.0.0","name":"lan","type":"bridge","bridge":"br5","isGateway":true,"ipMasq":true,"ipMasqBackend":"nftables",
"ipam":{"type":"host-local","ranges":[[{"subnet":"10.99.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"},{"dst":"192.0.2.0/24","gw":"10.99.0.7"}]}}`

func (s *site) wanted(iface, mac, config string) Wanted {
	return Wanted{Interface: iface, Definition: "ns/lan", Config: func(context.Context) (netattach.Config, error) {
		s.reads++
		n := netattach.Network{Name: "lan", Element: netattach.Element{Name: "lan", Namespace: "ns", Interface: iface, MAC: mac}}
		return netattach.Prepare(n, config, netattach.Host{LeaseDir: LeaseDir(s.r.StateDir)})
	}}
}

// attach attaches on the node: plugins run where the runner's thread is.
func (s *site) attach(w ...Wanted) (out []*netattach.Attachment, err error) {
	err = netns.Do(s.node, func() (err error) {
		out, err = s.r.Attach(s.t.Context(), testPod, s.pod, w)
		return err
	})
	return out, err
}

func (s *site) detach() error {
	return netns.Do(s.node, func() error { return s.r.Detach(s.t.Context(), podUID) })
}

// left is what is there of the pod.
func (s *site) left() string {
	s.t.Helper()
	var all []string
	for _, pattern := range []string{"pods/*", "netns/*", "leases/*/10.*", "cache/results/*"} {
		found, err := filepath.Glob(filepath.Join(s.r.StateDir, pattern))
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, found...)
	}
	for _, l := range strings.Split(netnstest.Exec(s.t, s.node, "ip", "-o", "link"), "\n") {
		if strings.Contains(l, "veth") {
			all = append(all, l)
		}
	}
	for _, l := range strings.Split(netnstest.Exec(s.t, s.node, "nft", "list", "ruleset"), "\n") {
		if strings.Contains(l, "10.99.0.2") {
			all = append(all, l)
		}
	}
	return strings.Join(all, "\n")
}

func TestAttach(t *testing.T) {
	s := newSite(t)
	w := s.wanted(link, "02:00:00:00:00:09", bridgeConfig)
	got, err := s.attach(w)
	if err != nil {
		t.Fatal(err)
	}
	gw := netip.MustParseAddr("10.99.0.1")
	want := &netattach.Attachment{
		MAC: "02:00:00:00:00:09",
		IPs: []netattach.IP{{Address: netip.MustParsePrefix("10.99.0.2/24"), Gateway: gw}},
		Routes: []netattach.Route{
			{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: gw},
			{Dst: netip.MustParsePrefix("192.0.2.0/24"), Gateway: netip.MustParseAddr("10.99.0.7")},
		},
	}
	compare := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	comparePrefixes := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	if diff := cmp.Diff(want, got[0], compare, comparePrefixes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// Again, also by another who has only the files, and when the machine's bridge is
	// laid over the interface.
	attached, err := podnet.Setup(t.Context(), s.pod, podnet.Config{UID: 107, GID: 107, Seed: "x", NICs: []podnet.NIC{{Name: "lan", Binding: podnet.Bridge, PodInterface: link, Attached: true}}})
	if err != nil || attached[0].MAC.String() != "02:00:00:00:00:09" || attached[0].Addresses[0] != want.IPs[0].Address {
		t.Fatalf("%+v, %v", attached, err)
	}
	s.r = &Runner{BinDirs: s.r.BinDirs, StateDir: s.r.StateDir}
	again, err := s.attach(w)
	if err != nil || s.reads != 1 {
		t.Errorf("again: %v, the definition was read %d times", err, s.reads)
	}
	if diff := cmp.Diff(want, again[0], compare, comparePrefixes); diff != "" {
		t.Errorf("again (-want +got):\n%s", diff)
	}
	if made, err := MadeBridges(s.r.StateDir); err != nil || !slices.Equal(made, []string{"br5"}) {
		t.Errorf("bridges made: %v, %v", made, err)
	}
	if pods, err := s.r.Pods(); err != nil || !slices.Equal(pods, []string{podUID}) {
		t.Errorf("pods: %v, %v", pods, err)
	}
	for range 2 {
		if err := s.detach(); err != nil {
			t.Fatal(err)
		}
		if pods, err := s.r.Pods(); err != nil || len(pods) > 0 {
			t.Errorf("pods: %v, %v", pods, err)
		}
	}
	// The veth ends with the pod's namespace, in which it has another name by now.
	netnstest.Exec(t, s.pod, "ip", "link", "del", "37a8eec1ce1-nic")
	if left := s.left(); left != "" {
		t.Errorf("left:\n%s", left)
	}
}

// Who attaches is killed before each step in turn, once or twice, and so is who
// detaches. Nothing is left in the end, and no address is given away twice.
func TestKilledAnywhere(t *testing.T) {
	s := newSite(t)
	w := []Wanted{s.wanted(link, "", bridgeConfig), s.wanted(link2, "", bridgeConfig)}
	var steps []string
	s.r.step = func(step string) error { steps = append(steps, step); return nil }
	if _, err := s.attach(w...); err != nil {
		t.Fatal(err)
	}
	if err := s.detach(); err != nil {
		t.Fatal(err)
	}
	if want := "record pin add result record pin add result del forget del forget unpin"; strings.Join(steps, " ") != want {
		t.Fatalf("steps %q", steps)
	}
	errKilled := errors.New("killed")
	for kill, step := range steps {
		what := fmt.Sprintf("killed before step %d, %s", kill, step)
		die := func() {
			n := 0
			s.r = &Runner{BinDirs: s.r.BinDirs, StateDir: s.r.StateDir, step: func(string) error {
				if n++; n > kill {
					return errKilled
				}
				return nil
			}}
		}
		if kill < 8 {
			for range 2 {
				die()
				if _, err := s.attach(w...); err != nil && !errors.Is(err, errKilled) {
					t.Fatalf("%s: %v", what, err)
				}
			}
		}
		s.r = &Runner{BinDirs: s.r.BinDirs, StateDir: s.r.StateDir}
		if kill%2 == 0 || kill >= 8 { // else the pod goes half attached
			got, err := s.attach(w...)
			if err != nil || len(got[0].IPs) != 1 || len(got[1].IPs) != 1 || got[0].IPs[0] == got[1].IPs[0] {
				t.Fatalf("%s: %v, %v", what, got, err)
			}
			leases, _ := filepath.Glob(filepath.Join(s.r.StateDir, "leases/lan/10.*"))
			if len(leases) != 2 {
				t.Errorf("%s: leases %v", what, leases)
			}
		}
		if kill >= 8 {
			kill -= 8 // the closure above counts from there
			die()
			if err := s.detach(); !errors.Is(err, errKilled) {
				t.Fatalf("%s: %v", what, err)
			}
			s.r = &Runner{BinDirs: s.r.BinDirs, StateDir: s.r.StateDir}
		}
		if err := s.detach(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if left := s.left(); left != "" {
			t.Fatalf("%s: left:\n%s", what, left)
		}
	}
}

// The box was rebooted: the namespace is gone, what is on the disk is given back.
func TestDetachAfterReboot(t *testing.T) {
	s := newSite(t)
	if _, err := s.attach(s.wanted(link, "", bridgeConfig)); err != nil {
		t.Fatal(err)
	}
	if err := s.r.unpin(podUID); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.r.pinFile(podUID), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.detach(); err != nil {
		t.Fatal(err)
	}
	netnstest.Exec(t, s.pod, "ip", "link", "del", link)
	if leases, _ := filepath.Glob(filepath.Join(s.r.StateDir, "leases/lan/10.*")); len(leases) > 0 {
		t.Errorf("leases %v", leases)
	}
	// A bridge of an earlier boot is not ours.
	if err := os.WriteFile(filepath.Join(s.r.bridgeDir(), "br5"), []byte("another boot\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if made, err := MadeBridges(s.r.StateDir); err != nil || len(made) > 0 {
		t.Errorf("bridges made: %v, %v", made, err)
	}
}

// An interface that is there without a record is somebody else's, and stays.
func TestLeftToOthers(t *testing.T) {
	s := newSite(t)
	netnstest.IP(t, s.pod, "link add "+link+" type bridge")
	got, err := s.attach(s.wanted(link, "", bridgeConfig))
	if err != nil || got[0] != nil || s.reads > 0 {
		t.Fatalf("%v, %v; %d reads", got, err, s.reads)
	}
	if err := s.detach(); err != nil {
		t.Fatal(err)
	}
	netnstest.Exec(t, s.pod, "ip", "link", "show", link)
}

// A bridge that was there before is not made by us, so reset leaves it.
func TestBridgeOfOthers(t *testing.T) {
	s := newSite(t)
	netnstest.IP(t, s.node, "link add br5 type bridge")
	if _, err := s.attach(s.wanted(link, "", bridgeConfig)); err != nil {
		t.Fatal(err)
	}
	if made, err := MadeBridges(s.r.StateDir); err != nil || len(made) > 0 {
		t.Errorf("bridges made: %v, %v", made, err)
	}
	if err := s.detach(); err != nil {
		t.Fatal(err)
	}
}

func TestOtherPlugins(t *testing.T) {
	s := newSite(t)
	netnstest.IP(t, s.node, "link add uplink type veth peer name wire", "link set uplink up", "link set wire up")
	got, err := s.attach(
		s.wanted(link, "02:00:00:00:00:09", `{"cniVersion":"1.0.0","type":"macvlan","master":"uplink","ipam":{"type":"static","addresses":[{"address":"10.98.0.5/24","gateway":"10.98.0.1"}]}}`),
		s.wanted(link2, "", `{"cniVersion":"1.0.0","type":"bridge","bridge":"br6"}`))
	if err != nil {
		t.Fatal(err)
	}
	if got[0].MAC != "02:00:00:00:00:09" || len(got[0].IPs) != 1 || got[0].IPs[0].Address != netip.MustParsePrefix("10.98.0.5/24") {
		t.Errorf("macvlan with static: %+v", got[0])
	}
	if len(got[1].IPs) != 0 || got[1].MAC == "" {
		t.Errorf("bridge without IPAM: %+v", got[1])
	}
	if err := s.detach(); err != nil {
		t.Fatal(err)
	}
	out := netnstest.Exec(t, s.pod, "ip", "-o", "link")
	if strings.Contains(out, link) || strings.Contains(out, link2) {
		t.Errorf("links left in the pod:\n%s", out)
	}
	_, err = s.attach(s.wanted(link, "", `{"cniVersion":"1.0.0","type":"macvlan","master":"missing"}`))
	if err == nil || !strings.Contains(err.Error(), "plugin macvlan: Link not found") {
		t.Errorf("error %v", err)
	}
	_, err = s.attach(s.wanted(link, "", `{"cniVersion":"1.0.0","type":"containerd"}`))
	if err == nil || !strings.Contains(err.Error(), "no CNI plugin \"containerd\"") {
		t.Errorf("error %v", err)
	}
}
