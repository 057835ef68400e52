// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/claim"
	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/machine"
	"github.com/skerry-dev/skerry/internal/qmp"
)

// eventDiskNotGrown tells that a disk could not follow its claim.
const eventDiskNotGrown = "DiskNotGrown"

// nativeSpare is how many requests of the kernel's asynchronous I/O must be free on
// the node for a machine to use it. QEMU would not start without.
const nativeSpare = 8192

// claimInfo is what the controller has written about a volume's claim, or nil.
func claimInfo(vmi *v1.VirtualMachineInstance, volume string) *v1.PersistentVolumeClaimInfo {
	for i := range vmi.Status.VolumeStatus {
		if s := &vmi.Status.VolumeStatus[i]; s.Name == volume {
			return s.PersistentVolumeClaimInfo
		}
	}
	return nil
}

// claims are the instance's claims as the machine gets them. noDirect is the
// launcher's word for where the page cache cannot be left out.
func (g *guest) claims(vmi *v1.VirtualMachineInstance, noDirect []string) (map[string]machine.Claim, error) {
	out := map[string]machine.Claim{}
	for i, v := range vmi.Spec.Volumes {
		s := v.PersistentVolumeClaim
		if s == nil {
			continue
		}
		info := claimInfo(vmi, v.Name)
		if info == nil || info.ClaimName != s.ClaimName {
			return nil, failed(problemVolume, "spec.volumes[%d].persistentVolumeClaim: status.volumeStatus says nothing of claim %s yet", i, s.ClaimName)
		}
		out[v.Name] = machine.Claim{
			Block: claim.Block(info), Size: claim.DiskSize(info), Direct: !slices.Contains(noDirect, v.Name), Native: claim.Block(info) && nativeFree(),
		}
	}
	return out, nil
}

// nativeFree tells whether the node has room for more asynchronous I/O.
func nativeFree() bool {
	var n [2]int64
	for i, name := range []string{"aio-nr", "aio-max-nr"} {
		b, err := os.ReadFile("/proc/sys/fs/" + name)
		if err != nil {
			return false
		}
		if n[i], err = strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err != nil {
			return false
		}
	}
	return n[1]-n[0] >= nativeSpare
}

// ownDevices gives the block devices of a machine's claims to QEMU's user: most
// container runtimes leave them the owner that they have on the node.
func (g *guest) ownDevices(p process, m machine.Machine) error {
	for _, d := range m.Disks {
		if d.Claim == nil || !d.Claim.Block {
			continue
		}
		if err := g.step(g.ctx, "agent.claim.before-own"); err != nil {
			return failed(problemVolume, "%w", err)
		}
		if err := p.OwnDevice(devicePath(d), v1.QEMUUser, v1.QEMUUser); err != nil {
			return failed(problemVolume, "volume %s: %w", d.Name, err)
		}
	}
	return nil
}

func devicePath(d machine.Disk) string { return contract.ClaimDeviceDir + "/" + d.Claim.Volume }

// grower has the disks of a running machine follow their claims when those grow.
// It lives as long as one session with the monitor; the next one looks again.
type grower struct {
	g      *guest
	client *qmp.Client
	proc   process
	news   chan struct{}
	// seen are the claims' sizes of which nothing is left to do.
	seen map[string]int64
}

// startGrower runs a grower until its stop is called.
func startGrower(ctx context.Context, g *guest, client *qmp.Client, proc process) (r *grower, stop func()) {
	r = &grower{g: g, client: client, proc: proc, news: make(chan struct{}, 1)}
	return r, background(ctx, r.run)
}

// told has it look whether a claim has changed.
func (r *grower) told() { signal(r.news) }

func (r *grower) run(ctx context.Context) {
	wait := backoff{first: r.g.times.retry[0], max: r.g.times.retry[1]}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.news:
		case <-timer.C:
		}
		wants := r.wants()
		if maps.Equal(wants, r.seen) {
			continue
		}
		pending, err := r.pass(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			r.g.log.Warn("disks that follow their claims", "error", err)
			timer.Reset(wait.next())
		case pending:
			timer.Reset(wait.next())
		default:
			wait.reset()
			r.seen = wants
		}
	}
}

// wants are the sizes of the claims, by the disks' names.
func (r *grower) wants() map[string]int64 {
	vmi := r.g.instance()
	out := map[string]int64{}
	for _, d := range r.g.claimDisks() {
		if info := claimInfo(vmi, d.Name); info != nil {
			out[d.Name] = claim.Capacity(info)
			if !d.Claim.Block {
				out[d.Name] = claim.DiskSize(info)
			}
		}
	}
	return out
}

// claimDisks are the machine's disks on claims.
func (g *guest) claimDisks() []machine.Disk {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []machine.Disk
	for _, d := range g.disks {
		if d.Claim != nil {
			out = append(out, d)
		}
	}
	return out
}

// pass compares each disk with its claim, and tells QEMU where it has become too
// small. It never makes one smaller. pending says that a claim is not yet as large
// as its status says.
func (r *grower) pass(ctx context.Context) (pending bool, err error) {
	// The shape of a machine that was adopted comes a little after its monitor.
	if r.g.snapshot().shape == nil {
		return true, nil
	}
	disks := r.g.claimDisks()
	if len(disks) == 0 {
		return false, nil
	}
	if !r.g.changing.TryLock() {
		return true, nil // QEMU is being replaced, or its devices are
	}
	defer r.g.changing.Unlock()
	sizes, err := diskSizes(ctx, r.client)
	if err != nil {
		return false, err
	}
	wants := r.wants()
	var failure error
	for _, d := range disks {
		have, ok := sizes[d.FormatNode()]
		if !ok {
			continue
		}
		want := wants[d.Name]
		if d.Claim.Block {
			device, err := r.proc.DeviceSize(devicePath(d))
			if err != nil {
				failure = fmt.Errorf("volume %s: %w", d.Name, err)
				continue
			}
			pending = pending || device < want && have < want
			want = device
		}
		// A device that others write to is of the size that it is; a file that this
		// machine may not write to cannot be made larger.
		if want > have && (d.Claim.Block || !d.Claim.ReadOnly) {
			if err := r.grow(ctx, d, have, want); err != nil {
				failure = err
				continue
			}
			have = want
		}
		sizes[d.FormatNode()] = have
	}
	r.g.showSizes(disks, sizes)
	return pending, failure
}

func (r *grower) grow(ctx context.Context, d machine.Disk, have, want int64) error {
	if err := r.g.step(ctx, "agent.claim.before-grow"); err != nil {
		return err
	}
	err := r.client.Execute(ctx, "block_resize", map[string]any{"node-name": d.FormatNode(), "size": want}, nil)
	if err != nil {
		err = fmt.Errorf("volume %s: the disk of %d bytes cannot be made %d bytes large: %w", d.Name, have, want, err)
		r.g.tell(corev1.EventTypeWarning, eventDiskNotGrown, printable(err.Error()))
		return err
	}
	r.g.log.Info("disk has grown with its claim", "volume", d.Name, "from", have, "to", want)
	return r.g.step(ctx, "agent.claim.after-grow")
}

// maxNodes bounds how many block nodes a monitor may name.
const maxNodes = 4096

// diskSizes are the sizes that the guest sees, in bytes, by the block nodes' names.
func diskSizes(ctx context.Context, client *qmp.Client) (map[string]int64, error) {
	var nodes []struct {
		Name  string `json:"node-name"`
		Image struct {
			Size int64 `json:"virtual-size"`
		} `json:"image"`
	}
	if err := client.Execute(ctx, "query-named-block-nodes", map[string]any{"flat": true}, &nodes); err != nil {
		return nil, err
	}
	out := map[string]int64{}
	for _, n := range nodes[:min(len(nodes), maxNodes)] {
		out[n.Name] = n.Image.Size
	}
	return out, nil
}

// showSizes puts the sizes of disks on claims into what is reported.
func (g *guest) showSizes(disks []machine.Disk, sizes map[string]int64) {
	show := map[string]int64{}
	for _, d := range disks {
		if n := sizes[d.FormatNode()]; n > 0 && n <= claim.MaxSize {
			show[d.Name] = n
		}
	}
	if !maps.Equal(show, g.snapshot().diskSizes) {
		g.observe(func(o observed) observed { o.diskSizes = show; return o })
	}
}
