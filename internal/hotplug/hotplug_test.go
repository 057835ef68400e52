// SPDX-License-Identifier: Apache-2.0

package hotplug

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-dev/skerry/internal/hotplug/hotplugtest"
	"github.com/skerry-dev/skerry/internal/qmp"
	"github.com/skerry-dev/skerry/internal/qmp/qmptest"
)

const mib = 1 << 20

func session(t *testing.T) (*qmptest.Server, *qmp.Client) {
	t.Helper()
	s := qmptest.New()
	t.Cleanup(s.Close)
	c, err := qmp.New(t.Context(), s.Pipe(), qmp.Options{})
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return s, c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestSockets(t *testing.T) {
	t.Parallel()
	s, c := session(t)
	fake := hotplugtest.New(s, 4, 2, 1, 256*mib, 0)
	for want := 2; want <= 8; want += 2 {
		cpus, err := ReadCPUs(t.Context(), c)
		must(t, err)
		if cpus.Present() != want || cpus.Max() != 8 || cpus.AtBoot() != 2 || cpus.Plugs != want-2 {
			t.Errorf("present, max, at boot, plugs: %d %d %d %d, want %d 8 2 %d", cpus.Present(), cpus.Max(), cpus.AtBoot(), cpus.Plugs, want, want-2)
		}
		if want == 8 {
			break
		}
		if n := cpus.NextPlugs(); n != 2 {
			t.Errorf("%d plugs next", n)
		}
		must(t, PlugSocket(t.Context(), c, cpus))
		use, err := ReadUse(t.Context(), c)
		if err != nil || len(use) != want || use["/machine/peripheral/vcpu1"] != Used {
			t.Errorf("%v, %v", use, err)
		}
	}
	cpus, err := ReadCPUs(t.Context(), c)
	must(t, err)
	if err := PlugSocket(t.Context(), c, cpus); err == nil || !strings.Contains(err.Error(), "all 8 places") {
		t.Errorf("a ninth vCPU: %v", err)
	}
	for want := 6; want >= 2; want -= 2 {
		must(t, UnplugSocket(t.Context(), c, cpus))
		if n := fake.VCPUs(); n != want {
			t.Errorf("%d vCPUs, want %d", n, want)
		}
		cpus, err = ReadCPUs(t.Context(), c)
		must(t, err)
	}
	if cpus.Plugs != 6 {
		t.Errorf("the count of plugs is %d after unplugs, want 6", cpus.Plugs)
	}
	if err := UnplugSocket(t.Context(), c, cpus); err == nil || !strings.Contains(err.Error(), "from the machine's start") {
		t.Errorf("the last socket: %v", err)
	}
}

// Whoever plugs may die between two vCPUs of a socket: the next one completes it.
func TestHalfASocket(t *testing.T) {
	t.Parallel()
	s, c := session(t)
	fake := hotplugtest.New(s, 2, 2, 1, 256*mib, 0)
	must(t, c.Execute(t.Context(), "device_add", args{"driver": "max-x86_64-cpu", "id": "vcpu1", "socket-id": 1, "core-id": 0, "thread-id": 0}, nil))
	cpus, err := ReadCPUs(t.Context(), c)
	must(t, err)
	if cpus.NextPlugs() != 1 {
		t.Errorf("%d plugs next", cpus.NextPlugs())
	}
	must(t, PlugSocket(t.Context(), c, cpus))
	if fake.VCPUs() != 4 {
		t.Errorf("%d vCPUs", fake.VCPUs())
	}
}

// A vCPU that the guest never started is plugged, but does not count as the guest's.
func TestNotStarted(t *testing.T) {
	t.Parallel()
	s, c := session(t)
	fake := hotplugtest.New(s, 4, 1, 1, 256*mib, 0)
	fake.Change(func(m *hotplugtest.Machine) { m.Deaf = true })
	cpus, err := ReadCPUs(t.Context(), c)
	must(t, err)
	must(t, PlugSocket(t.Context(), c, cpus))
	if use, err := ReadUse(t.Context(), c); err != nil || use["/machine/peripheral/vcpu1"] != Unstarted {
		t.Errorf("%v, %v", use, err)
	}
}

// Lines as QEMU 11.1.3 prints them.
func TestUse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Use{
		"CPU#1\r\nEIP=0000fff0 EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=1\r\n":         Unstarted,
		"CPU#1\r\nRIP=ffffffff81a17a0b RFL=00000212 [----A--] CPL=0 II=0 A20=1 SMM=0 HLT=1\r\n": Used, // idle
		"RIP=000000000040a17b RFL=00000202 [-------] CPL=3 II=0 A20=1 SMM=0 HLT=0\r\n":          Used,
		"RIP=ffffffff81049f3b RFL=00000046 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0\r\n":          Unsure, // waits for the boot CPU
		"RIP=ffffffff81049f3b RFL=00000046 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1\r\n":          Parked,
	} {
		if got, err := useOf(text); err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	if _, err := useOf("no registers"); err == nil {
		t.Error("nonsense was understood")
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	s, c := session(t)
	fake := hotplugtest.New(s, 1, 1, 1, 256*mib, 768*mib)
	must(t, Request(t.Context(), c, 768*mib))
	m, err := ReadMemory(t.Context(), c)
	must(t, err)
	if diff := cmp.Diff(Memory{Base: 256 * mib, Device: &Device{768 * mib, 768 * mib, 768 * mib}}, m); diff != "" {
		t.Error(diff)
	}
	fake.Change(func(m *hotplugtest.Machine) { m.Busy = 300 * mib })
	must(t, Request(t.Context(), c, 128*mib))
	if m, err = ReadMemory(t.Context(), c); err != nil || m.Plugged() != 300*mib || m.Device.Requested != 128*mib {
		t.Errorf("%+v, %v", m, err)
	}
	if err := Request(t.Context(), c, 769*mib); err == nil || !strings.Contains(err.Error(), "vmem0") {
		t.Errorf("more than there is: %v", err)
	}
}

func TestDIMMs(t *testing.T) {
	t.Parallel()
	s, c := session(t)
	fake := hotplugtest.New(s, 1, 1, 1, 256*mib, 768*mib)
	read := func() Memory {
		t.Helper()
		m, err := ReadMemory(t.Context(), c)
		must(t, err)
		return m
	}
	must(t, PlugDIMM(t.Context(), c, read(), 256*mib))
	// Died between the memory and its DIMM.
	must(t, c.Execute(t.Context(), "object-add", args{"qom-type": "memory-backend-memfd", "id": "mem-dimm1", "size": 128 * mib}, nil))
	must(t, PlugDIMM(t.Context(), c, read(), 128*mib))
	m := read()
	if len(m.DIMMs) != 2 || m.DIMMs[1].ID != "dimm2" || m.InDIMMs() != 384*mib || len(m.Backends) != 3 {
		t.Fatalf("%+v", m)
	}
	if n, err := Sweep(t.Context(), c, m); err != nil || n != 1 {
		t.Errorf("swept %d, %v", n, err)
	}
	must(t, UnplugDIMM(t.Context(), c, "dimm2"))
	must(t, UnplugDIMM(t.Context(), c, "dimm2")) // asked again once it is gone
	if n, err := Sweep(t.Context(), c, read()); err != nil || n != 1 {
		t.Errorf("swept %d, %v", n, err)
	}
	if plugged, _ := fake.Plugged(); plugged != 256*mib {
		t.Errorf("%d MiB are plugged", plugged/mib)
	}
}

func TestStatistics(t *testing.T) {
	t.Parallel()
	s, c := session(t)
	fake := hotplugtest.New(s, 1, 1, 1, 256*mib, 768*mib)
	st, ok, err := ReadStatistics(t.Context(), c)
	if err != nil || !ok || st.Total != 216*mib {
		t.Errorf("%+v, %v, %v", st, ok, err)
	}
	must(t, RememberBootTotal(t.Context(), c, st.Total))
	must(t, RememberBootTotal(t.Context(), c, st.Total))
	fake.Change(func(m *hotplugtest.Machine) { m.NotOnline = true })
	must(t, Request(t.Context(), c, 768*mib))
	if st, _, err = ReadStatistics(t.Context(), c); err != nil || st.Total != 216*mib {
		t.Errorf("%+v, %v", st, err)
	}
	if m, err := ReadMemory(t.Context(), c); err != nil || m.BootTotal != 216*mib {
		t.Errorf("%+v, %v", m, err)
	}
	must(t, ForgetBootTotal(t.Context(), c, st.Total))
	must(t, PollStatistics(t.Context(), c, time.Second))

	// A guest without the driver, and one that lies.
	for _, answer := range []any{
		map[string]any{"stats": map[string]any{"stat-total-memory": uint64(1<<64 - 1)}, "last-update": 0},
		map[string]any{"stats": map[string]any{"stat-total-memory": uint64(1<<64 - 1)}, "last-update": 5},
	} {
		s.Handle("qom-get", func(json.RawMessage) (any, error) { return answer, nil })
		if st, ok, err := ReadStatistics(t.Context(), c); ok || err != nil {
			t.Errorf("%v: %+v, %v", answer, st, err)
		}
	}
}
