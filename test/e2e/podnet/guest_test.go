// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package podnet has real guests on the pod network that the node agent makes,
// without a cluster: QEMU of the launcher image, the tiny guest, and both
// bindings.
package podnet

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/internal/dhcp"
	"github.com/skerry-dev/skerry/internal/netns"
	"github.com/skerry-dev/skerry/internal/netns/netnstest"
	"github.com/skerry-dev/skerry/internal/podnet"
)

const (
	qemuUser = 107
	patience = 3 * time.Minute // emulation on a busy host
	build    = "../../../build"
)

// unpacked is rootfs's directory once it exists.
var unpacked string

// rootfs has the launcher image and the tiny guest in it.
var rootfs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "skerry-podnet-rootfs")
	if err != nil {
		return "", err
	}
	unpacked = dir
	if err := os.Chmod(dir, 0o755); err != nil {
		return dir, err
	}
	if err := unpackImage(filepath.Join(build, "images/launcher.tar"), dir); err != nil {
		return dir, err
	}
	for _, name := range []string{"tiny-vmlinuz", "tiny-initrd"} {
		b, err := os.ReadFile(filepath.Join(build, "guest", name))
		if err != nil {
			return dir, err
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			return dir, err
		}
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if unpacked != "" {
		os.RemoveAll(unpacked)
	}
	os.Exit(code)
}

// unpackImage writes the layers of the only image in an OCI archive to dir.
func unpackImage(archive, dir string) error {
	blobs := map[string][]byte{}
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if blobs[h.Name], err = io.ReadAll(tr); err != nil {
			return err
		}
	}
	type descriptor struct {
		Digest string `json:"digest"`
	}
	var index struct {
		Manifests []descriptor `json:"manifests"`
	}
	var manifest struct {
		Layers []descriptor `json:"layers"`
	}
	blob := func(d descriptor) []byte { return blobs["blobs/"+strings.Replace(d.Digest, ":", "/", 1)] }
	if err := json.Unmarshal(blobs["index.json"], &index); err != nil {
		return err
	}
	if err := json.Unmarshal(blob(index.Manifests[0]), &manifest); err != nil {
		return err
	}
	for _, l := range manifest.Layers {
		var r io.Reader = strings.NewReader(string(blob(l)))
		if z, err := gzip.NewReader(strings.NewReader(string(blob(l)))); err == nil {
			r = z
		}
		cmd := exec.Command("tar", "-x", "-C", dir)
		cmd.Stdin = r
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("unpack layer %s: %w\n%s", l.Digest, err, out)
		}
	}
	return nil
}

// site is a pod network with a machine's pod, and another pod that is asked and asks.
type site struct {
	pod, neighbour *os.File
	attached       podnet.Attached
	stopDHCP       func()
}

const (
	podIP       = "10.244.8.5"
	neighbourIP = "10.244.8.9"
)

func newSite(t *testing.T, binding podnet.Binding, offload bool) *site {
	node := netnstest.New(t)
	s := &site{pod: netnstest.New(t), neighbour: netnstest.New(t)}
	netnstest.IP(t, node, "link add cni0 type bridge", "link set cni0 mtu 1400 up", "addr add 10.244.8.1/24 dev cni0")
	netnstest.Link(t, node, "veth0", s.pod, "eth0")
	netnstest.Link(t, node, "veth1", s.neighbour, "eth0")
	netnstest.IP(t, node, "link set veth0 mtu 1400 master cni0 up", "link set veth1 mtu 1400 master cni0 up")
	netnstest.IP(t, s.pod, "link set eth0 mtu 1400 up", "addr add "+podIP+"/24 dev eth0", "route add default via 10.244.8.1")
	netnstest.IP(t, s.neighbour, "link set eth0 mtu 1400 up", "addr add "+neighbourIP+"/24 dev eth0")
	a, err := podnet.Setup(t.Context(), s.pod, podnet.Config{
		UID: qemuUser, GID: qemuUser, Seed: t.Name(),
		NICs: []podnet.NIC{{Name: "default", Binding: binding, VnetHdr: offload}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.attached = a[0]
	s.serveDHCP(t)
	return s
}

func (s *site) serveDHCP(t *testing.T) {
	a := s.attached
	resolv := dhcp.ParseResolvConf([]byte("search default.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\n"))
	c := dhcp.Config{
		Interface: a.Tap, Server: a.DHCPServer, MAC: a.MAC, Address: a.Addresses[0], MTU: a.MTU, Hostname: "tiny-one",
		DNS: resolv.Nameservers, Search: resolv.Search,
	}
	for _, r := range a.Routes {
		c.Routes = append(c.Routes, dhcp.Route(r))
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- dhcp.Serve(ctx, s.pod, c) }()
	s.stopDHCP = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("DHCP server: %v", err)
		}
	})
	t.Cleanup(func() { s.stopDHCP() })
}

// qemu is a running guest with its serial console.
type qemu struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.Writer
	mu    sync.Mutex
	text  strings.Builder
	grown chan struct{}
}

func (s *site) boot(t *testing.T, offload bool) *qemu {
	t.Helper()
	root, err := rootfs()
	if err != nil {
		t.Fatal(err)
	}
	tap, err := openTap(s.pod, s.attached.Tap, offload)
	if err != nil {
		t.Fatal(err)
	}
	defer tap.Close()
	cmd := exec.Command("/usr/bin/qemu-system-x86_64", "-nodefaults", "-no-user-config", "-M", "q35,accel=tcg", "-cpu", "max", "-m", "192",
		"-display", "none", "-serial", "stdio", "-kernel", "/tiny-vmlinuz", "-initrd", "/tiny-initrd",
		"-append", "console=ttyS0 quiet skerry.heartbeat=off",
		"-netdev", "tap,id=n0,fd=3", "-device", "virtio-net-pci,romfile=,netdev=n0,mac="+s.attached.MAC.String())
	cmd.Path = "/usr/bin/qemu-system-x86_64"
	cmd.Err = nil // the path is the chroot's
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{tap}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: qemuUser, Gid: qemuUser}}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	netnstest.Inside(t, s.pod, cmd.Start)
	q := &qemu{t: t, cmd: cmd, in: in, grown: make(chan struct{})}
	go q.read(out)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			q.mu.Lock()
			defer q.mu.Unlock()
			t.Logf("console:\n%s", q.text.String())
		}
	})
	return q
}

// openTap is the launcher's part.
func openTap(ns *os.File, name string, offload bool) (*os.File, error) {
	if offload {
		return netnstest.OpenTapVnetHdr(ns, name)
	}
	return netnstest.OpenTap(ns, name)
}

func (q *qemu) read(r io.Reader) {
	br := bufio.NewReader(r)
	buf := make([]byte, 4096)
	for {
		n, err := br.Read(buf)
		q.mu.Lock()
		q.text.Write(buf[:n])
		close(q.grown)
		q.grown = make(chan struct{})
		q.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// expect waits until the console has the pattern count times and returns the last.
func (q *qemu) expect(pattern string, count int) []string {
	q.t.Helper()
	re := regexp.MustCompile(pattern)
	limit := time.After(patience)
	for {
		q.mu.Lock()
		all, grown := re.FindAllStringSubmatch(q.text.String(), -1), q.grown
		q.mu.Unlock()
		if len(all) >= count {
			return all[count-1]
		}
		select {
		case <-grown:
		case <-limit:
			q.t.Fatalf("the console does not show %q %d times within %s", pattern, count, patience)
		}
	}
}

func (q *qemu) shell(line string) {
	q.t.Helper()
	if _, err := io.WriteString(q.in, line+"\n"); err != nil {
		q.t.Fatal(err)
	}
}

// get asks the guest's web server for /cgi-bin/index.cgi from the namespace.
func get(ns *os.File, addr string) (string, error) {
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (c net.Conn, err error) {
		err = netns.Do(ns, func() (err error) {
			c, err = (&net.Dialer{}).DialContext(ctx, network, addr)
			return err
		})
		return c, err
	}}
	resp, err := (&http.Client{Transport: tr, Timeout: 20 * time.Second}).Get("http://" + addr + "/cgi-bin/index.cgi")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return string(b), err
}

// webServer answers in the neighbour and says who asked.
func (s *site) webServer(t *testing.T, body int) {
	var l net.Listener
	netnstest.Inside(t, s.neighbour, func() (err error) {
		l, err = net.Listen("tcp", ":8080")
		return err
	})
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "client %s\n", netip.MustParseAddrPort(r.RemoteAddr).Addr())
		_, _ = w.Write([]byte(strings.Repeat("x", body)))
	})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close() })
}

func TestGuest(t *testing.T) {
	for _, tc := range []struct {
		binding podnet.Binding
		// offload is what virtio does with segments and checksums; emulated
		// cards do not, and their taps carry no header.
		offload bool
		address string
	}{
		{podnet.Masquerade, true, "10.0.2.2/24"},
		{podnet.Bridge, true, podIP + "/24"},
		{podnet.Masquerade, false, "10.0.2.2/24"},
		{podnet.Bridge, false, podIP + "/24"},
	} {
		t.Run(fmt.Sprintf("%s/offload=%v", tc.binding, tc.offload), func(t *testing.T) {
			s := newSite(t, tc.binding, tc.offload)
			s.webServer(t, 1<<20)
			q := s.boot(t, tc.offload)
			if got := q.expect(`SKERRY-GUEST ADDRESS eth0 (\S+) `, 1)[1]; got != tc.address {
				t.Errorf("the guest took %s, want %s", got, tc.address)
			}
			q.shell("cat /sys/class/net/eth0/mtu /etc/resolv.conf; echo host $(hostname); echo DONE-$((40+2))")
			q.expect("DONE-42", 1)
			for _, want := range []string{`(?m)^1400\r?$`, `nameserver 10\.96\.0\.10`, `search default\.svc\.cluster\.local`, `host tiny-one`} {
				q.expect(want, 1)
			}
			// Out: a megabyte, so that segmentation and checksums matter.
			q.shell("wget -q -O /run/got http://" + neighbourIP + ":8080/; head -n 1 /run/got; wc -c </run/got; echo DONE-$((40+3))")
			q.expect("DONE-43", 1)
			q.expect(`client `+regexp.QuoteMeta(podIP), 1)
			q.expect(fmt.Sprint(1<<20+len("client "+podIP+"\n")), 1)
			// In: from another pod, and what port-forward does.
			body, err := get(s.neighbour, podIP+":80")
			if err != nil || !strings.Contains(body, "client [::ffff:"+neighbourIP) {
				t.Errorf("another pod to the guest: %q, %v", body, err)
			}
			if tc.binding == podnet.Masquerade {
				if body, err := get(s.pod, "127.0.0.1:80"); err != nil || !strings.Contains(body, "hostname tiny-one") {
					t.Errorf("the pod's loopback to the guest: %q, %v", body, err)
				}
			}
			if !tc.offload {
				return
			}
			// The guest reboots and asks again.
			q.shell("reboot")
			if got := q.expect(`SKERRY-GUEST ADDRESS eth0 (\S+) `, 2)[1]; got != tc.address {
				t.Errorf("after a reboot the guest took %s", got)
			}
			if body, err := get(s.neighbour, podIP+":80"); err != nil || !strings.Contains(body, "client [::ffff:"+neighbourIP) {
				t.Errorf("another pod to the guest after a reboot: %q, %v", body, err)
			}
			// Without a server it keeps what it has.
			s.stopDHCP()
			q.shell("pidof udhcpc; kill -USR1 $(pidof udhcpc); echo DONE-$((40+4))")
			q.expect("DONE-44", 1)
			if body, err := get(s.neighbour, podIP+":80"); err != nil || !strings.Contains(body, "client [::ffff:"+neighbourIP) {
				t.Errorf("another pod to the guest without a DHCP server: %q, %v", body, err)
			}
		})
	}
}
