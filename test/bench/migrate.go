// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/hotplug"
	"github.com/skerry-dev/skerry/internal/qmp"
)

// migration is a change of size by a second QEMU.
type migration struct {
	seconds float64
	peak    float64 // MiB, both QEMUs
	gap     time.Duration
}

// bare is a QEMU without a pod, in the root directory of a machine's container.
type bare struct {
	cmd     *exec.Cmd
	monitor *qmp.Client
	console string
}

// startBare starts the same QEMU with the same guest as a machine of resizable.
func startBare(ctx context.Context, g *guest, name string, more ...string) (*bare, error) {
	dir := contract.RunDir + "/"
	args := append([]string{
		"-machine", "pc-q35-11.1,memory-backend=ram0,aux-ram-share=on", "-accel", "tcg,thread=multi,tb-size=32", "-cpu", "max",
		"-smp", "1,maxcpus=24,sockets=24,cores=1,threads=1", "-m", "size=256M,slots=16,maxmem=1792M",
		"-object", "memory-backend-memfd,id=ram0,size=256M,share=on", "-object", "memory-backend-memfd,id=vm0,size=768M,share=on,reserve=off",
		"-nodefaults", "-no-user-config", "-display", "none", "-vga", "none",
		"-chardev", "socket,id=q,path=" + dir + name + ".qmp,server=on,wait=off", "-object", "monitor-qmp,id=mon,chardev=q",
		"-chardev", "socket,id=c,path=" + dir + name + ".con,server=on,wait=off", "-device", "isa-serial,chardev=c",
		"-device", "virtio-balloon-pci,id=balloon0,addr=3", "-device", "virtio-mem-pci,id=vmem0,memdev=vm0,requested-size=0,addr=0xa",
		"-kernel", contract.KernelBootDir + "/boot/vmlinux", "-initrd", contract.KernelBootDir + "/boot/initrd",
		"-append", "console=ttyS0 quiet cryptomgr.notests no_timer_check skerry.heartbeat=off",
	}, more...)
	b := &bare{cmd: exec.Command(contract.QEMU, args...), console: filepath.Join(g.root, dir, name+".con")}
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: g.root, Pdeathsig: syscall.SIGKILL}
	b.cmd.Dir, b.cmd.Stderr = "/", os.Stderr
	// Chroot looks the program up in the new root.
	b.cmd.Path, b.cmd.Err = contract.QEMU, nil
	if err := b.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start QEMU %s: %w", name, err)
	}
	var conn net.Conn
	err := poll(ctx, 5*time.Millisecond, func() (bool, error) {
		var err error
		conn, err = net.Dial("unix", filepath.Join(g.root, dir, name+".qmp"))
		return err == nil, nil
	})
	if err == nil {
		b.monitor, err = qmp.New(ctx, conn, qmp.Options{})
	}
	if err != nil {
		b.end()
		return nil, fmt.Errorf("monitor of QEMU %s: %w", name, err)
	}
	go func() {
		for range b.monitor.Events() { // nobody needs them
		}
	}()
	return b, nil
}

func (b *bare) pid() string { return strconv.Itoa(b.cmd.Process.Pid) }

// end ends QEMU and takes its sockets away.
func (b *bare) end() {
	if b.monitor != nil {
		b.monitor.Close()
	}
	_ = b.cmd.Process.Kill() // it may have ended
	_ = b.cmd.Wait()
	for _, ext := range []string{".con", ".qmp"} {
		_ = os.Remove(b.console[:len(b.console)-len(".con")] + ext)
	}
}

// migrated changes a guest from 1 vCPU and 256 MiB to 2 and 1 GiB by starting a
// second QEMU with room for it, migrating over a local socket, and plugging there.
func migrated(ctx context.Context, g *guest) (m migration, err error) {
	src, err := startBare(ctx, g, "source")
	if err != nil {
		return m, err
	}
	defer src.end()
	before, err := watchGuest(ctx, src.console)
	if err != nil {
		return m, err
	}
	defer before.conn.Close()
	if err := before.ask(ctx, fmt.Sprintf(look, "echo TICK;"), "TICK"); err != nil {
		return m, err
	}
	boot, _ := before.now()
	before.longest()

	socket := contract.RunDir + "/migrate"
	defer os.Remove(filepath.Join(g.root, socket))
	begin := time.Now()
	dst, err := startBare(ctx, g, "target", "-incoming", "unix:"+socket)
	if err != nil {
		return m, err
	}
	defer dst.end()
	stop, peak := watchPeak(src.pid(), dst.pid())
	defer stop()
	after, err := watchGuest(ctx, dst.console)
	if err != nil {
		return m, err
	}
	defer after.conn.Close()
	after.kib = boot
	if err := src.monitor.Execute(ctx, "migrate-set-parameters", map[string]any{"max-bandwidth": int64(10) << 30}, nil); err != nil {
		return m, err
	}
	if err := src.monitor.Execute(ctx, "migrate", map[string]any{"uri": "unix:" + socket}, nil); err != nil {
		return m, err
	}
	err = poll(ctx, 2*time.Millisecond, func() (bool, error) {
		s, err := dst.monitor.QueryStatus(ctx)
		return s.Running, err
	})
	if err != nil {
		return m, err
	}
	cpus, err := hotplug.ReadCPUs(ctx, dst.monitor)
	if err == nil {
		err = hotplug.PlugSocket(ctx, dst.monitor, cpus)
	}
	if err == nil {
		err = hotplug.Request(ctx, dst.monitor, 768<<20)
	}
	if err == nil {
		err = after.until(ctx, "0-1", boot+768<<10)
	}
	if err != nil {
		return m, err
	}
	m.seconds = time.Since(begin).Seconds()
	gapBefore, last := before.longest()
	gapAfter, _ := after.longest()
	m.gap = max(gapBefore, gapAfter, after.first.Sub(last))
	_ = stop()
	m.peak = peak()
	return m, nil
}
