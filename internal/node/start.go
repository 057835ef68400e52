// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/contract"
	"github.com/skerry-dev/skerry/internal/dhcp"
	"github.com/skerry-dev/skerry/internal/machine"
	"github.com/skerry-dev/skerry/internal/podfs"
	"github.com/skerry-dev/skerry/internal/podnet"
	"github.com/skerry-dev/skerry/internal/qmp"
)

const (
	maxHello  = 64 << 10 // bytes of the launcher's greeting
	maxResult = 64 << 10 // and of its last line
)

// start brings a waiting launcher to become QEMU. Each step may be the last one
// before a crash; the next start does them all again, to the same effect.
func (g *guest) start(ctx context.Context, c *contact) error {
	if deleting, _ := g.deleting(); deleting {
		return errDeleting
	}
	vmi := g.instance()
	lines := bufio.NewReaderSize(io.LimitReader(c.launcher, maxHello+maxResult), 4096)
	hello, err := g.hello(ctx, c.launcher, lines)
	if err != nil {
		return err
	}
	g.observe(func(o observed) observed { return o.withStage(v1.StageImageReady, c.at) })

	net, err := g.connectNetwork(ctx, c.proc, vmi)
	if err != nil {
		return err
	}
	g.observe(func(o observed) observed { return o.withStage(v1.StageNetwork, g.now()) })
	m, err := g.machine(c.proc, vmi, hello.Image.QEMUVersion, net.attached, hello.NoDirect)
	if err != nil {
		return err
	}
	g.setShape(m, vmi, hello.Image.QEMUVersion, net)
	if err := g.ownDevices(c.proc, m); err != nil {
		return err
	}
	if err := g.writeVolume(vmi, m, net); err != nil {
		return err
	}
	// DHCP must be there when the guest asks for the first time.
	g.serveDHCP(ctx, c.proc, vmi, net)

	if deleting, _ := g.deleting(); deleting {
		return errDeleting
	}
	g.tell(corev1.EventTypeNormal, eventCreated, "VirtualMachineInstance defined.")
	if err := g.letGo(c.launcher, lines); err != nil {
		return err
	}
	c.launcher.Close()
	return g.awaitMonitor(ctx, c)
}

// adopt takes over a machine that runs. What fails here is tried again while the
// machine is followed: it runs, with or without the agent.
func (g *guest) adopt(ctx context.Context, c *contact) error {
	if err := g.step(ctx, "agent.adopt.before-network"); err != nil {
		return failed(problemMonitor, "%w", err)
	}
	vmi, version := g.instance(), c.client.Version().String()
	try := func() error {
		net, err := g.connectNetwork(ctx, c.proc, vmi)
		if err != nil {
			return err
		}
		g.serveDHCP(ctx, c.proc, vmi, net)
		m, err := g.machine(c.proc, vmi, version, net.attached, nil)
		if err != nil {
			return err
		}
		g.setShape(m, vmi, version, net)
		return nil
	}
	go func() {
		wait := backoff{first: g.times.retry[0], max: g.times.retry[1]}
		for {
			err := try()
			if ctx.Err() != nil {
				return
			}
			g.setProblem(toProblem(err))
			if err == nil {
				return
			}
			g.log.Warn("network of a running machine", "error", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait.next()):
			}
		}
	}()
	return nil
}

// hello reads the launcher's greeting.
func (g *guest) hello(ctx context.Context, conn net.Conn, lines *bufio.Reader) (contract.Hello, error) {
	var h contract.Hello
	if err := g.step(ctx, "agent.start.before-hello"); err != nil {
		return h, failed(problemLauncher, "%w", err)
	}
	if err := readLine(ctx, conn, lines, g.times.hello, &h); err != nil {
		return h, failed(problemLauncher, "read the launcher's greeting: %w", err)
	}
	if h.Contract < 1 || h.Contract > contract.Version {
		return h, failed(problemLauncher, "the launcher speaks version %d of the contract, this agent 1 to %d: update the node agent", h.Contract, contract.Version)
	}
	return h, nil
}

// connected is the pod's network as the machine sees it.
type connected struct {
	attached []podnet.Attached
	dns      dhcp.ResolvConf
	// status is what we attached the pod to beside its own network.
	status []v1.NetworkStatus
}

func (g *guest) connectNetwork(ctx context.Context, p process, vmi *v1.VirtualMachineInstance) (connected, error) {
	if err := g.step(ctx, "agent.network.before-setup"); err != nil {
		return connected{}, failed(problemNetwork, "%w", err)
	}
	c, err := networkConfig(vmi)
	if err != nil {
		return connected{}, failed(problemSpec, "%w", err)
	}
	if len(c.NICs) == 0 {
		return connected{}, nil
	}
	ns, err := p.NetNS()
	if err != nil {
		return connected{}, failed(problemNetwork, "open the pod's network namespace: %w", err)
	}
	defer ns.Close()
	links, err := g.attachNetworks(ctx, ns, vmi)
	if err != nil {
		return connected{}, failed(problemNetwork, "attach the pod: %w", err)
	}
	attached, err := g.network.Setup(ctx, ns, c)
	if err != nil {
		return connected{}, failed(problemNetwork, "connect the pod's network: %w", err)
	}
	if attached, err = guestRoutes(attached, links); err != nil {
		return connected{}, failed(problemNetwork, "%w", err)
	}
	conf, err := p.ReadInRoot("/etc/resolv.conf", dhcp.MaxResolvConf)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return connected{}, failed(problemNetwork, "read the pod's DNS settings: %w", err)
	}
	if err := g.step(ctx, "agent.network.after-setup"); err != nil {
		return connected{}, failed(problemNetwork, "%w", err)
	}
	return connected{attached, dhcp.ParseResolvConf(conf), networkStatus(attached, links)}, nil
}

// serveDHCP answers the guest until ctx ends.
func (g *guest) serveDHCP(ctx context.Context, p process, vmi *v1.VirtualMachineInstance, net connected) {
	for _, c := range dhcpConfigs(vmi, net.attached, net.dns) {
		go func() {
			wait := backoff{first: g.times.retry[0], max: g.times.retry[1]}
			for {
				err := g.serveDHCPOnce(ctx, p, c)
				if ctx.Err() != nil {
					return
				}
				g.log.Warn("DHCP server of the machine", "interface", c.Interface, "error", err)
				select {
				case <-ctx.Done():
					return
				case <-time.After(wait.next()):
				}
			}
		}()
	}
}

func (g *guest) serveDHCPOnce(ctx context.Context, p process, c dhcp.Config) error {
	ns, err := p.NetNS()
	if err != nil {
		return err
	}
	defer ns.Close()
	return g.network.ServeDHCP(ctx, ns, c)
}

// machine works out the machine for what the pod has.
func (g *guest) machine(p process, vmi *v1.VirtualMachineInstance, qemuVersion string, attached []podnet.Attached, noDirect []string) (machine.Machine, error) {
	host := machine.Host{QEMUVersion: qemuVersion, Accel: machine.TCG, Arch: g.arch}
	if g.accel == machine.KVM {
		// A pod that was made while no node offered KVM has no device.
		kvm, err := p.HasDevice("/dev/kvm")
		if err != nil {
			return machine.Machine{}, failed(problemLauncher, "look for /dev/kvm in the pod: %w", err)
		}
		if kvm {
			host.Accel = machine.KVM
		}
	}
	vhost, err := p.HasDevice("/dev/vhost-net")
	if err != nil {
		return machine.Machine{}, failed(problemLauncher, "look for /dev/vhost-net in the pod: %w", err)
	}
	claims, err := g.claims(vmi, noDirect)
	if err != nil {
		return machine.Machine{}, err
	}
	at := machine.Attachments{Interfaces: attachments(attached, vhost), CloudInit: map[string]string{}, Claims: claims, Now: g.now()}
	for _, v := range vmi.Spec.Volumes {
		if v.CloudInitNoCloud != nil {
			at.CloudInit[v.Name] = contract.MachineDir + "/" + seedFile(v.Name)
		}
	}
	m, err := machine.New(vmi, host, at)
	if err != nil {
		return machine.Machine{}, failed(problemSpec, "%w", err)
	}
	return m, nil
}

func (g *guest) setShape(m machine.Machine, vmi *v1.VirtualMachineInstance, qemuVersion string, net connected) {
	overhead := machine.Overhead(vmi, machine.Host{QEMUVersion: qemuVersion, Accel: m.Accel, Arch: g.arch})
	s := shapeOf(m, nics(vmi, net.attached), overhead.Total)
	s.networks = net.status
	g.mu.Lock()
	g.disks = m.Disks
	g.serial, g.screen = new(m.Serial != nil), new(m.Graphics != nil)
	g.mu.Unlock()
	g.observe(func(o observed) observed { o.shape = s; return o })
}

// writeVolume fills the pod's machine volume, machine.json last.
func (g *guest) writeVolume(vmi *v1.VirtualMachineInstance, m machine.Machine, net connected) error {
	if err := g.step(g.ctx, "agent.machine.before-seeds"); err != nil {
		return failed(problemCloudInit, "%w", err)
	}
	pod, err := podfs.OpenPod(g.kubeletRoot, g.podUID)
	if err != nil {
		return failed(problemLauncher, "%w", err)
	}
	defer pod.Close()
	dir, err := pod.EmptyDir(contract.MachineVolume)
	if err != nil {
		return failed(problemLauncher, "%w", err)
	}
	defer dir.Close()
	if err := g.writeSeeds(pod, dir, vmi, net); err != nil {
		return failed(problemCloudInit, "%w", err)
	}
	if err := g.step(g.ctx, "agent.machine.before-json"); err != nil {
		return failed(problemLauncher, "%w", err)
	}
	b, err := json.Marshal(m.Contract())
	if err != nil {
		return failed(problemLauncher, "encode machine.json: %w", err)
	}
	if err := dir.WriteFile(contract.MachineFile, b, g.owner); err != nil {
		return failed(problemLauncher, "%w", err)
	}
	if err := g.step(g.ctx, "agent.machine.after-json"); err != nil {
		return failed(problemLauncher, "%w", err)
	}
	return nil
}

// letGo tells the launcher to start and hears whether it is about to. What it says
// last is heard also when it has ended by then.
func (g *guest) letGo(conn net.Conn, lines *bufio.Reader) error {
	if err := g.step(g.ctx, "agent.start.before-word"); err != nil {
		return failed(problemLauncher, "%w", err)
	}
	b, err := json.Marshal(contract.Start{Start: true})
	if err != nil {
		return failed(problemLauncher, "%w", err)
	}
	if err := conn.SetWriteDeadline(time.Now().Add(g.times.hello)); err != nil {
		return failed(problemLauncher, "tell the launcher to start: %w", err)
	}
	if _, err := conn.Write(append(b, '\n')); err != nil {
		return failed(problemLauncher, "tell the launcher to start: %w", err)
	}
	if err := g.step(g.ctx, "agent.start.before-result"); err != nil {
		return failed(problemLauncher, "%w", err)
	}
	var r contract.Result
	if err := readLine(g.ctx, conn, lines, g.times.prepare, &r); err != nil {
		return failed(problemLauncher, "hear from the launcher whether it starts: %w", err)
	}
	if r.Error != "" {
		return failed(problemRefused, "%s", r.Error)
	}
	return nil
}

// awaitMonitor connects to QEMU's monitor once it is there.
func (g *guest) awaitMonitor(ctx context.Context, c *contact) error {
	if err := g.step(ctx, "agent.start.before-monitor"); err != nil {
		return failed(problemMonitor, "%w", err)
	}
	client, err := g.reconnect(ctx, 2*time.Millisecond)
	if err != nil {
		return err
	}
	c.client = client
	return nil
}

// reconnect dials the monitor until it answers or ctx ends.
func (g *guest) reconnect(ctx context.Context, first time.Duration) (*qmp.Client, error) {
	wait := backoff{first: first, max: g.times.look[1]}
	since := g.now()
	for {
		conn, p, err := g.connect(ctx, contract.QMPSocket)
		if err == nil {
			p.Close()
			var client *qmp.Client
			if client, err = g.handshake(ctx, conn); err == nil {
				return client, nil
			}
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if away := g.now().Sub(since); away > g.times.lost {
			g.setProblem(toProblem(failed(problemMonitor, "QEMU's monitor has not answered for %v: %w", away.Round(time.Second), err)))
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(wait.next()):
		}
	}
}

// readLine reads one line of JSON within a time.
func readLine(ctx context.Context, conn net.Conn, lines *bufio.Reader, limit time.Duration, out any) error {
	if err := conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	line, err := lines.ReadBytes('\n') // what it reads from is limited
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		return err
	}
	if err := json.Unmarshal(line, out); err != nil {
		return fmt.Errorf("not what was expected: %w", err)
	}
	return nil
}
