// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/resize"
	"github.com/skerry-dev/skerry/test/node"
	"github.com/skerry-dev/skerry/test/witness"
)

const resizeRounds = 8

// look is typed into the guest: it prints its CPUs and memory when they change, and
// a line for each turn when it is told to.
const look = `(while :; do read -r a t b </proc/meminfo; read -r c </sys/devices/system/cpu/online; ` +
	`[ "$t $c" = "$was" ] || echo "SEEN $t $c"; was="$t $c"; %s usleep 10000; done) &` + "\n"

// seen is what a guest printed of itself, and when.
type seen struct {
	mu   sync.Mutex
	kib  int64
	cpus string
	// gap is the longest time between two lines since the last reset.
	first, last time.Time
	gap         time.Duration
	text        strings.Builder
	conn        net.Conn
}

// watchGuest reads a guest's serial console from its socket.
func watchGuest(ctx context.Context, socket string) (*seen, error) {
	var d net.Dialer
	var conn net.Conn
	err := poll(ctx, 20*time.Millisecond, func() (bool, error) {
		var err error
		conn, err = d.DialContext(ctx, "unix", socket)
		return err == nil, nil
	})
	if err != nil {
		return nil, fmt.Errorf("console %s: %w", socket, err)
	}
	s := &seen{conn: conn}
	go func() {
		lines := bufio.NewScanner(conn)
		for lines.Scan() {
			s.line(lines.Text())
		}
	}()
	return s, nil
}

func (s *seen) line(l string) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.text.Len() < 1<<20 {
		s.text.WriteString(l + "\n")
	}
	_, rest, ok := strings.Cut(l, "SEEN ")
	if ok {
		_, _ = fmt.Sscan(rest, &s.kib, &s.cpus)
	} else if !strings.Contains(l, "TICK") {
		return
	}
	if s.last.IsZero() {
		s.first = now
	} else {
		s.gap = max(s.gap, now.Sub(s.last))
	}
	s.last = now
}

func (s *seen) now() (kib int64, cpus string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kib, s.cpus
}

// longest is the longest gap since the last call, and when the last line came.
func (s *seen) longest() (time.Duration, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gap := s.gap
	s.gap = 0
	return gap, s.last
}

// ask types a command until the guest's text has a match.
func (s *seen) ask(ctx context.Context, command, want string) error {
	next := time.Now()
	return poll(ctx, 20*time.Millisecond, func() (bool, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if strings.Contains(s.text.String(), want) {
			return true, nil
		}
		if time.Now().After(next) {
			next = time.Now().Add(15 * time.Second)
			_, err := s.conn.Write([]byte("\n" + command))
			return false, err
		}
		return false, nil
	})
}

// until waits for the guest to see that many CPUs and so much memory more than at boot.
func (s *seen) until(ctx context.Context, cpus string, kib int64) error {
	err := poll(ctx, 2*time.Millisecond, func() (bool, error) {
		k, c := s.now()
		return c == cpus && k == kib, nil
	})
	if err != nil {
		k, c := s.now()
		return fmt.Errorf("the guest has CPUs %s and %d KiB, not %s and %d: %w", c, k, cpus, kib, err)
	}
	return nil
}

// guest is a machine of the resize benchmarks.
type guest struct {
	vm   *v1.VirtualMachine
	vmi  *v1.VirtualMachineInstance
	pid  string
	root string // QEMU's root directory
	*seen
	boot int64 // KiB that the guest counted at its start
}

// resizable starts a machine of 1 vCPU and 256 MiB that can grow.
func (b *bench) resizable(ctx context.Context, name string) (*guest, error) {
	vm := &v1.VirtualMachine{}
	vm.Namespace, vm.Name = namespace, name
	always := v1.RunStrategyAlways
	vm.Spec.RunStrategy = &always
	vm.Spec.Template.Spec = tiny(name).Spec
	d := &vm.Spec.Template.Spec.Domain
	d.CPU = &v1.CPU{Sockets: 1, Cores: 1, Threads: 1, MaxSockets: 24}
	memory, most := resource.MustParse("256Mi"), resource.MustParse("1Gi")
	d.Memory = &v1.Memory{Guest: &memory, MaxGuest: &most}
	if err := b.node.Client.Create(ctx, vm); err != nil {
		return nil, err
	}
	g := &guest{vm: vm, vmi: &v1.VirtualMachineInstance{}}
	err := poll(ctx, 50*time.Millisecond, func() (bool, error) {
		err := b.node.Client.Get(ctx, client.ObjectKeyFromObject(vm), g.vmi)
		return err == nil && g.vmi.Status.Phase == v1.Running, client.IgnoreNotFound(err)
	})
	if err != nil {
		return nil, fmt.Errorf("instance %s: %w", name, err)
	}
	for uid := range g.vmi.Status.ActivePods {
		for _, pid := range node.PodPIDs(uid) {
			if strings.HasPrefix(comm(pid), "qemu") {
				g.pid = pid
			}
		}
	}
	if g.pid == "" {
		return nil, fmt.Errorf("instance %s has no QEMU", name)
	}
	g.root = "/proc/" + g.pid + "/root"
	if g.seen, err = watchGuest(ctx, filepath.Join(g.root, contract.RunDir, contract.SerialSocket)); err != nil {
		return nil, err
	}
	if err := g.ask(ctx, fmt.Sprintf(look, ":;"), "SEEN "); err != nil {
		return nil, fmt.Errorf("guest %s: %w", name, err)
	}
	if err := g.ask(ctx, "witness start\n", "boot="); err != nil {
		return nil, fmt.Errorf("witness in %s: %w", name, err)
	}
	g.boot, _ = g.now()
	return g, nil
}

// patch changes the machine and gives the time before.
func (b *bench) patch(ctx context.Context, g *guest, sockets int64, memory string) (time.Time, error) {
	p := fmt.Sprintf(`{"spec":{"template":{"spec":{"domain":{"cpu":{"sockets":%d},"memory":{"guest":%q}}}}}}`, sockets, memory)
	begin := time.Now()
	return begin, b.node.Client.Patch(ctx, g.vm.DeepCopy(), client.RawPatch("application/merge-patch+json", []byte(p)))
}

// resized changes the machine's size and measures up to the guest's evidence. It
// returns once the pod has followed, so that the next change starts from rest.
func (b *bench) resized(ctx context.Context, g *guest, sockets int64, cpus, memory string, moreKiB int64) (float64, error) {
	begin, err := b.patch(ctx, g, sockets, memory)
	if err != nil {
		return 0, err
	}
	if err := g.until(ctx, cpus, g.boot+moreKiB); err != nil {
		return 0, err
	}
	took := time.Since(begin).Seconds()
	err = poll(ctx, 20*time.Millisecond, func() (bool, error) {
		if err := b.node.Client.Get(ctx, client.ObjectKeyFromObject(g.vm), g.vmi); err != nil {
			return false, err
		}
		for _, r := range []resize.Resource{resize.CPU, resize.Memory} {
			if p := resize.PodPart(g.vmi, r); p != nil && p.Step != v1.PodResizeDone {
				return false, nil
			}
		}
		t, m := g.vmi.Status.CurrentCPUTopology, g.vmi.Status.Memory
		return t != nil && t.Sockets == sockets && m != nil && m.GuestCurrent.Cmp(resource.MustParse(memory)) == 0, nil
	})
	if err != nil {
		return 0, fmt.Errorf("the status does not follow the guest: %w", err)
	}
	return took, nil
}

// stages adds how long after the first the steps of a change were reached.
func stages(sum map[string][]float64, vmi *v1.VirtualMachineInstance, r resize.Resource, begin time.Time) {
	var all []v1.ResizeTime
	if p := resize.PodPart(vmi, r); p != nil {
		for _, t := range p.Times {
			all = append(all, v1.ResizeTime{Step: "pod" + t.Step, Time: t.Time})
		}
	}
	if g := resize.GuestPart(vmi, r); g != nil {
		for _, t := range g.Times {
			all = append(all, v1.ResizeTime{Step: "guest" + t.Step, Time: t.Time})
		}
	}
	for _, t := range all {
		sum[t.Step] = append(sum[t.Step], t.Time.Sub(begin).Seconds())
	}
}

// resizes measures changes of a running machine, beside a control guest, and then
// the way by migration into a second QEMU.
func (b *bench) resizes(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	subject, err := b.resizable(ctx, "resized")
	if err != nil {
		return err
	}
	defer subject.conn.Close()
	control, err := b.resizable(ctx, "control")
	if err != nil {
		return err
	}
	defer control.conn.Close()
	for _, g := range []*guest{subject, control} {
		if _, err := witness.Ask(ctx, podIP(g.vmi), "reset"); err != nil {
			return err
		}
	}
	const grown = 768 << 10 // KiB
	var cpuUp, memUp, memDown []float64
	steps := map[string][]float64{}
	stop, peak := watchPeak(subject.pid)
	for range resizeRounds {
		begin := time.Now()
		up, err := b.resized(ctx, subject, 2, "0-1", "256Mi", 0)
		if err != nil {
			return errors.Join(err, stop())
		}
		stages(steps, subject.vmi, resize.CPU, begin)
		mem, err := b.resized(ctx, subject, 2, "0-1", "1Gi", grown)
		if err != nil {
			return errors.Join(err, stop())
		}
		down, err := b.resized(ctx, subject, 2, "0-1", "256Mi", 0)
		if err != nil {
			return errors.Join(err, stop())
		}
		if _, err := b.resized(ctx, subject, 1, "0", "256Mi", 0); err != nil {
			return errors.Join(err, stop())
		}
		cpuUp, memUp, memDown = append(cpuUp, up), append(memUp, mem), append(memDown, down)
	}
	if err := stop(); err != nil {
		return err
	}
	var gaps [2]time.Duration
	for i, g := range []*guest{subject, control} {
		text, err := witness.Ask(ctx, podIP(g.vmi), "report")
		if err != nil {
			return err
		}
		r, err := witness.ParseReport(text)
		if err != nil {
			return err
		}
		gaps[i] = r.Gap
	}
	b.add("resize_cpu_up_s", "s", 1, cpuUp...)
	for _, step := range []string{"podAsked", "podGranted", "guestAnnounced", "guestCovered", "guestPlugged"} {
		if s := steps[step]; len(s) > 0 {
			b.add("resize_cpu_up_"+step+"_s", "s", 0, s...)
		}
	}
	b.add("resize_mem_up_s", "s", 1, memUp...)
	b.add("resize_mem_down_s", "s", 0, memDown...)
	b.add("resize_gap_ratio", "x", 1.5, gaps[0].Seconds()/max(gaps[1].Seconds(), 0.001))
	b.add("resize_peak_mib", "MiB", 0, peak())

	var took, peaks, gap []float64
	for range 3 {
		m, err := migrated(ctx, subject)
		if err != nil {
			return fmt.Errorf("migrate into a second QEMU: %w", err)
		}
		took, peaks, gap = append(took, m.seconds), append(peaks, m.peak), append(gap, m.gap.Seconds())
	}
	b.add("migrate_resize_s", "s", 0, took...)
	b.add("migrate_resize_gap_s", "s", 0, gap...)
	b.add("migrate_resize_peak_mib", "MiB", 0, peaks...)
	b.add("resize_vs_migrate_speedup", "x", -5, median(took)/max(median(cpuUp), median(memUp)))
	b.add("resize_vs_migrate_memory_ratio", "x", -1.9, median(peaks)/peak())
	return errors.Join(b.node.Client.Delete(ctx, subject.vm), b.node.Client.Delete(ctx, control.vm))
}

func median(s []float64) float64 {
	s = slices.Sorted(slices.Values(s))
	return percentile(s, 50)
}

func podIP(vmi *v1.VirtualMachineInstance) string {
	for _, i := range vmi.Status.Interfaces {
		if i.IPAddress != "" {
			return i.IPAddress
		}
	}
	return ""
}

// watchPeak samples the proportional memory of processes until stopped.
func watchPeak(pids ...string) (stop func() error, peak func() float64) {
	quit, done := make(chan struct{}), make(chan struct{})
	most := 0.0
	go func() {
		defer close(done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			sum := 0.0
			for _, pid := range pids {
				if m, err := pssMiB(pid); err == nil || !errors.Is(err, os.ErrNotExist) {
					sum += m
				}
			}
			most = max(most, sum)
			select {
			case <-quit:
				return
			case <-tick.C:
			}
		}
	}()
	return sync.OnceValue(func() error { close(quit); <-done; return nil }), func() float64 { return most }
}
