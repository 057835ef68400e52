// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/hotplug"
	"github.com/skerry-dev/skerry/internal/qmp"
	"github.com/skerry-dev/skerry/internal/renew"
)

// renewable is what is known about replacing a machine's QEMU.
type renewable struct {
	status          corev1.ConditionStatus
	reason, message string
}

// Limits of what is read to find out.
const (
	maxMachineFile = 4 << 20
	maxImageInfo   = 1 << 20
	maxLiveObjects = 4096
	pendingFile    = contract.MachineFile + ".next"
)

// assess finds out which QEMU runs the machine and whether it can be replaced. It
// is never a reason not to follow a machine.
func (g *guest) assess(ctx context.Context, client *qmp.Client) (*v1.QEMUStatus, *renewable) {
	g.mu.Lock()
	proc := g.proc
	g.mu.Unlock()
	if g.images == nil || proc == nil {
		return nil, nil
	}
	exe, err := proc.Exe()
	if err != nil {
		g.log.Debug("which QEMU runs", "error", err)
		return nil, nil
	}
	next := contract.NextOf(exe)
	running, err := runningImage(proc, next)
	if err != nil {
		g.log.Debug("which QEMU runs", "error", err)
	}
	st := &v1.QEMUStatus{Version: printable(client.Version().String()), Package: printable(running.Packages[qemuPackage]), Renewed: next}
	if err := g.settle(next); err != nil {
		g.log.Warn("record which QEMU runs", "error", err)
	}
	return st, g.judge(ctx, client, running)
}

// qemuPackage is the Debian package that has QEMU.
const qemuPackage = "qemu-system-x86"

// runningImage reads what the launcher image that QEMU runs from says of itself.
func runningImage(proc process, next string) (contract.ImageInfo, error) {
	var info contract.ImageInfo
	path := contract.ImageInfoFile
	if next != "" {
		path = contract.NextRoot(next) + path
	}
	b, err := proc.ReadInRoot(path, maxImageInfo)
	if err != nil {
		return info, err
	}
	if err := json.Unmarshal(b, &info); err != nil {
		return info, fmt.Errorf("%s: %w", path, err)
	}
	return info, nil
}

// judge makes the condition Renewable.
func (g *guest) judge(ctx context.Context, client *qmp.Client, running contract.ImageInfo) *renewable {
	name, newest, err := g.images.Newest()
	if err != nil {
		g.log.Warn("the node's launcher image", "error", err)
	}
	o := g.obstacle(ctx, client, renew.Candidate{Version: newest.QEMUVersion})
	g.mu.Lock()
	failure := g.renewFailure
	g.mu.Unlock()
	switch {
	case o != nil:
		return &renewable{corev1.ConditionFalse, o.Reason, printable(o.Message)}
	case err != nil:
		return &renewable{corev1.ConditionTrue, v1.RenewableAvailable, "QEMU can be replaced, but the node has no launcher image to do it from: " + printable(err.Error())}
	case failure.image == name && failure.message != "":
		return &renewable{corev1.ConditionFalse, v1.RenewableFailed, printable(failure.message)}
	case renew.Newer(newest, running):
		return &renewable{corev1.ConditionTrue, v1.RenewableOutdated, printable(fmt.Sprintf("the node has QEMU %s; `skerry vm renew` has the machine use it while the guest runs", describe(newest)))}
	}
	return &renewable{corev1.ConditionTrue, v1.RenewableUpToDate, "the machine runs the node's newest QEMU"}
}

// describe is a QEMU in words.
func describe(i contract.ImageInfo) string {
	if p := i.Packages[qemuPackage]; p != "" {
		return i.QEMUVersion + " (" + p + ")"
	}
	return i.QEMUVersion
}

// obstacle says what speaks against replacing QEMU right now.
func (g *guest) obstacle(ctx context.Context, client *qmp.Client, c renew.Candidate) *renew.Obstacle {
	volume, err := g.emptyDir(contract.NextVolume)
	if errors.Is(err, fs.ErrNotExist) {
		return &renew.Obstacle{Reason: v1.RenewablePodContract, Message: "the machine's pod was made by an earlier version of Skerry and has no room for a newer QEMU: restart the machine"}
	}
	if err != nil {
		return &renew.Obstacle{Reason: v1.RenewablePodContract, Message: "the volume for a newer QEMU cannot be opened: " + err.Error()}
	}
	volume.Close()
	if s := g.snapshot().sizes; s != nil {
		// A guest that takes its time to let go of a device may do so at any moment,
		// also when the new command line still has it.
		for what, r := range map[string]sizeOf{"vCPUs": s.cpu, "memory": s.memory} {
			if r.mechanism != v1.MechanismVirtioMem && r.target > 0 && r.target < r.machine {
				return &renew.Obstacle{Reason: v1.RenewableState, Message: "the guest is giving " + what + " back: try again when that is done"}
			}
		}
	}
	record, err := g.readRecord(contract.MachineFile)
	if err != nil {
		return &renew.Obstacle{Reason: v1.RenewableState, Message: "the machine's command line is not known: " + err.Error()}
	}
	l, err := live(ctx, client)
	if err != nil {
		return &renew.Obstacle{Reason: v1.RenewableState, Message: "QEMU does not tell what it has: " + err.Error()}
	}
	return renew.Judge(record.Argv, l, c)
}

// live asks QEMU what it has.
func live(ctx context.Context, c *qmp.Client) (renew.Live, error) {
	l := renew.Live{Version: c.Version().String(), Memory: map[string]bool{}}
	run, err := c.QueryStatus(ctx)
	if err != nil {
		return l, err
	}
	l.Status = run.Status
	var migration struct {
		Status string `json:"status"`
	}
	if err := c.Execute(ctx, "query-migrate", nil, &migration); err != nil {
		return l, err
	}
	l.Migration = migration.Status
	var capabilities []struct {
		Name string `json:"capability"`
		On   bool   `json:"state"`
	}
	if err := c.Execute(ctx, "query-migrate-capabilities", nil, &capabilities); err != nil {
		return l, err
	}
	for _, k := range capabilities {
		if k.On {
			l.Capabilities = append(l.Capabilities, k.Name)
		}
	}
	var backends []struct {
		ID    string `json:"id"`
		Share bool   `json:"share"`
	}
	if err := c.Execute(ctx, "query-memdev", nil, &backends); err != nil {
		return l, err
	}
	for _, b := range backends {
		l.Memory[b.ID] = b.Share
	}
	if l.Devices, err = children(ctx, c, "/machine/peripheral"); err != nil {
		return l, err
	}
	var nodes []struct {
		Name string `json:"node-name"`
	}
	if err := c.Execute(ctx, "query-named-block-nodes", map[string]any{"flat": true}, &nodes); err != nil {
		return l, err
	}
	for _, n := range nodes {
		// Those that QEMU named itself begin with "#".
		if !strings.HasPrefix(n.Name, "#") {
			l.Nodes = append(l.Nodes, n.Name)
		}
	}
	if len(l.Nodes)+len(l.Devices)+len(l.Memory) > maxLiveObjects {
		return l, fmt.Errorf("QEMU tells of more than %d objects", maxLiveObjects)
	}
	l.Plugged, err = pluggedIn(ctx, c)
	return l, err
}

// children are the names of what is below a QOM path.
func children(ctx context.Context, c *qmp.Client, path string) ([]string, error) {
	var list []struct {
		Name string `json:"name"`
		Type string `json:"type"`
	}
	if err := c.Execute(ctx, "qom-list", map[string]any{"path": path}, &list); err != nil {
		return nil, err
	}
	var out []string
	for _, o := range list {
		if strings.HasPrefix(o.Type, "child<") {
			out = append(out, o.Name)
		}
	}
	return out, nil
}

// pluggedIn is what the machine has beyond its command line.
func pluggedIn(ctx context.Context, c *qmp.Client) (renew.Plugged, error) {
	var p renew.Plugged
	cpus, err := hotplug.ReadCPUs(ctx, c)
	if err != nil {
		return p, err
	}
	for _, s := range cpus.Sockets {
		for _, v := range s.VCPUs {
			if v.ID() == "" {
				continue
			}
			cpu := renew.VCPU{ID: v.ID(), Driver: v.Driver, Props: map[string]int64{}}
			for name, value := range v.Props {
				n, ok := value.(float64)
				if !ok {
					return p, fmt.Errorf("vCPU %s: property %s is %v, not a number", v.ID(), name, value)
				}
				cpu.Props[name] = int64(n)
			}
			p.VCPUs = append(p.VCPUs, cpu)
		}
	}
	var memory []struct {
		Type string `json:"type"`
		Data struct {
			ID     string `json:"id"`
			Memdev string `json:"memdev"`
			Addr   uint64 `json:"addr"`
			Slot   int64  `json:"slot"`
			Size   int64  `json:"size"`
		} `json:"data"`
	}
	if err := c.Execute(ctx, "query-memory-devices", nil, &memory); err != nil {
		return p, err
	}
	for _, m := range memory {
		if m.Type == "dimm" {
			p.DIMMs = append(p.DIMMs, renew.DIMM{ID: m.Data.ID, Backend: strings.TrimPrefix(m.Data.Memdev, "/objects/"), Size: m.Data.Size, Addr: m.Data.Addr, Slot: m.Data.Slot})
		}
	}
	p.Marks, err = children(ctx, c, "/objects")
	return p, err
}

// readRecord reads machine.json, or the one that is to take its place.
func (g *guest) readRecord(file string) (contract.Machine, error) {
	var m contract.Machine
	dir, err := g.emptyDir(contract.MachineVolume)
	if err != nil {
		return m, err
	}
	defer dir.Close()
	b, err := dir.ReadFile(file, maxMachineFile)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("%s: %w", file, err)
	}
	return m, nil
}

func (g *guest) writeRecord(file string, m contract.Machine) error {
	dir, err := g.emptyDir(contract.MachineVolume)
	if err != nil {
		return err
	}
	defer dir.Close()
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return dir.WriteFile(file, b, g.owner)
}

// settle makes machine.json say what runs. The record of a renewal is written
// before it and takes machine.json's place once its QEMU runs, whichever agent
// sees that first.
func (g *guest) settle(next string) error {
	record, err := g.readRecord(contract.MachineFile)
	if err != nil || record.Next == next {
		return err
	}
	if pending, err := g.readRecord(pendingFile); err == nil && pending.Next == next {
		record = pending
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	record.Next = next
	if next != "" {
		record.Version = contract.Version
	}
	return g.writeRecord(contract.MachineFile, record)
}
