// SPDX-License-Identifier: Apache-2.0

//go:build qemu

package hotplug

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/machine"
	"github.com/skerry-dev/skerry/internal/qmp"
)

// patience only bounds a hang.
const patience = 60 * time.Second

// startQEMU starts the launcher image's QEMU without a guest: what QEMU accepts and
// tells does not need one. It takes root, and SKERRY_LAUNCHER_IMAGE or
// SKERRY_QEMU_ROOT as the tests of package machine do.
func startQEMU(t *testing.T) *qmp.Client {
	t.Helper()
	root := os.Getenv("SKERRY_QEMU_ROOT")
	if archive := os.Getenv("SKERRY_LAUNCHER_IMAGE"); archive != "" {
		root = unpack(t, archive)
	}
	if root == "" {
		t.Fatal("set SKERRY_LAUNCHER_IMAGE to the launcher image's OCI archive, or SKERRY_QEMU_ROOT to a root file system with QEMU")
	}
	dir, err := os.MkdirTemp(root, "hp")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	inside := "/" + filepath.Base(dir) + "/q"
	cmd := exec.Command(contract.QEMU,
		"-machine", "q35,memory-backend=ram0", "-accel", "tcg,thread=multi,tb-size=16", "-cpu", "max", "-nodefaults", "-no-user-config",
		"-display", "none", "-vga", "none", "-smp", "2,maxcpus=8,sockets=4,cores=1,threads=2", "-m", "size=64M,slots=16,maxmem=1088M",
		"-object", `{"qom-type":"memory-backend-memfd","id":"ram0","size":67108864,"share":true}`,
		"-object", `{"qom-type":"memory-backend-memfd","id":"vm0","size":536870912,"share":true,"reserve":false}`,
		"-device", `{"driver":"virtio-mem-pci","id":"`+machine.MemoryDevice+`","memdev":"vm0","requested-size":0}`,
		"-device", `{"driver":"virtio-balloon-pci","id":"balloon0"}`,
		"-chardev", "socket,id=q,path="+inside+",server=on,wait=off", "-mon", "chardev=q,mode=control", "-S")
	cmd.Path, cmd.Err = contract.QEMU, nil
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Pdeathsig: syscall.SIGKILL}
	cmd.Dir, cmd.Stderr = "/", os.Stderr
	must(t, cmd.Start())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	var conn net.Conn
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if conn, err = net.Dial("unix", root+inside); err == nil {
			break
		}
		select {
		case <-ended:
			t.Fatal("QEMU ended")
		default:
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	c, err := qmp.New(t.Context(), conn, qmp.Options{})
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// unpack unpacks the layers of an OCI archive's only image.
func unpack(t *testing.T, archive string) string {
	t.Helper()
	layout, root := t.TempDir(), t.TempDir()
	untar := func(file, to string) {
		t.Helper()
		if out, err := exec.Command("tar", "-xf", file, "-C", to).CombinedOutput(); err != nil {
			t.Fatalf("unpack %s: %v: %s", file, err, out)
		}
	}
	type descriptor struct{ Digest string }
	blob := func(d descriptor) string {
		return filepath.Join(layout, "blobs", strings.ReplaceAll(d.Digest, ":", "/"))
	}
	untar(archive, layout)
	var index struct{ Manifests []descriptor }
	var manifest struct{ Layers []descriptor }
	b, err := os.ReadFile(filepath.Join(layout, "index.json"))
	must(t, err)
	must(t, json.Unmarshal(b, &index))
	b, err = os.ReadFile(blob(index.Manifests[0]))
	must(t, err)
	must(t, json.Unmarshal(b, &manifest))
	for _, l := range manifest.Layers {
		untar(blob(l), root)
	}
	return root
}

// What this package asks for is what the launcher image's QEMU understands.
func TestQEMU(t *testing.T) {
	c := startQEMU(t)
	cpus, err := ReadCPUs(t.Context(), c)
	must(t, err)
	if cpus.Present() != 2 || cpus.Max() != 8 || cpus.AtBoot() != 2 || len(cpus.Sockets) != 4 || cpus.NextPlugs() != 2 {
		t.Fatalf("%+v", cpus)
	}
	must(t, PlugSocket(t.Context(), c, cpus))
	cpus, err = ReadCPUs(t.Context(), c)
	must(t, err)
	if cpus.Present() != 4 || cpus.Plugs != 2 || cpus.Sockets[1].VCPUs[0].ID() != "vcpu1" || cpus.Sockets[1].VCPUs[1].ID() != "vcpu1-0-1" {
		t.Errorf("%+v", cpus)
	}
	if use, err := ReadUse(t.Context(), c); err != nil || len(use) != 2 || use["/machine/peripheral/vcpu1"] != Unstarted {
		t.Errorf("without a guest: %v, %v", use, err)
	}
	must(t, UnplugSocket(t.Context(), c, cpus)) // nobody answers it
	must(t, UnplugSocket(t.Context(), c, cpus))

	must(t, Request(t.Context(), c, 256*mib))
	m, err := ReadMemory(t.Context(), c)
	must(t, err)
	if m.Base != 64*mib || m.Device == nil || *m.Device != (Device{256 * mib, 0, 512 * mib}) || m.Plugged() != 0 {
		t.Errorf("%+v", m)
	}
	must(t, PlugDIMM(t.Context(), c, m, 128*mib))
	m, err = ReadMemory(t.Context(), c)
	must(t, err)
	if len(m.DIMMs) != 1 || m.DIMMs[0] != (DIMM{"dimm0", "mem-dimm0", 128 * mib}) || m.Plugged() != 128*mib {
		t.Errorf("%+v", m)
	}
	if n, err := Sweep(t.Context(), c, m); err != nil || n != 0 {
		t.Errorf("swept %d, %v", n, err)
	}
	must(t, UnplugDIMM(t.Context(), c, "dimm0"))
	if s, ok, err := ReadStatistics(t.Context(), c); ok || err != nil {
		t.Errorf("%+v, %v", s, err)
	}
	must(t, PollStatistics(t.Context(), c, time.Second))
	must(t, RememberBootTotal(t.Context(), c, 50*mib))
	if m, err = ReadMemory(t.Context(), c); err != nil || m.BootTotal != 50*mib {
		t.Errorf("%+v, %v", m, err)
	}
}
