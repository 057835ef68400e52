// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/deploy"
	"github.com/skerry-dev/skerry/distro/cluster"
)

// users is how many machines are created or deleted at a time.
const users = 8

// patience bounds the wait for all machines to be there, or gone.
const patience = 20 * time.Minute

// plane is what is measured, and the simulation around it.
type plane struct {
	api        *cluster.APIAlone
	world      *world
	controller *child
}

// measure is one step of the growth.
type measure struct {
	Machines  int
	Took      time.Duration // since the step before
	Stats     stats         // of the controller, after the step
	Agent     int           // writes of the node agent so far
	ServerMiB float64       // anonymous memory of the API server, etcd and the simulation
}

// grow makes machines until there are as many as each step says, deletes them all,
// and returns a measure of the beginning, of each step and of the end.
func grow(ctx context.Context, dir string, steps []int, log io.Writer) (all []measure, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p, err := start(ctx, dir, log)
	if err != nil {
		return nil, err
	}
	defer p.api.Stop()
	worldDone := make(chan error, 1)
	go func() {
		err := p.world.run(ctx)
		worldDone <- err
		cancel() // nobody waits for what will not come
	}()
	defer func() {
		cancel()
		if werr := <-worldDone; werr != nil {
			err = fmt.Errorf("simulation: %w", werr)
		}
	}()
	defer func() {
		if cerr := p.controller.stop(); cerr != nil && err == nil && ctx.Err() == nil {
			err = fmt.Errorf("controller: %w", cerr)
		}
	}()
	// One machine comes and goes first, so that what is made once is there.
	if _, err := p.step(ctx, 1, 0); err != nil {
		return nil, err
	}
	if _, err := p.step(ctx, 0, 1); err != nil {
		return nil, err
	}
	have := 0
	for _, n := range append(append([]int{0}, steps...), 0) {
		m, err := p.step(ctx, n, have)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
		have = n
	}
	return all, nil
}

// start brings up the API server, installs Skerry and runs its controller.
func start(ctx context.Context, dir string, log io.Writer) (*plane, error) {
	api, err := cluster.StartAPIAlone(ctx, dir, log)
	if err != nil {
		return nil, err
	}
	p := &plane{api: api}
	if err := p.install(ctx, log); err != nil {
		api.Stop()
		return nil, err
	}
	return p, nil
}

func (p *plane) install(ctx context.Context, log io.Writer) error {
	ca, err := os.ReadFile(p.api.CA)
	if err != nil {
		return err
	}
	if err := deploy.Apply(ctx, p.api.Admin, deploy.Params{CABundle: ca}); err != nil {
		return err
	}
	address, err := freeAddress()
	if err != nil {
		return err
	}
	if err := pointWebhooks(ctx, p.api.Admin, address); err != nil {
		return err
	}
	if p.controller, err = startChild(ctx, childConfig{Listen: address, API: *p.api}, log); err != nil {
		return err
	}
	if p.world, err = newWorld(ctx, p.api.Admin); err != nil {
		return err
	}
	// It is ready when a machine passes its webhooks.
	return until(ctx, time.Minute, func() (bool, error) {
		return client.NewDryRunClient(p.world.admin).Create(ctx, machine("ready")) == nil, nil
	})
}

// pointWebhooks has the API server call the controller by its address: the
// Service that deploy's webhooks go through cannot have a loopback address behind it.
func pointWebhooks(ctx context.Context, admin *rest.Config, address string) error {
	c, err := dynamic.NewForConfig(admin)
	if err != nil {
		return err
	}
	for _, r := range []string{"mutatingwebhookconfigurations", "validatingwebhookconfigurations"} {
		of := c.Resource(schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: r})
		list, err := of.List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, o := range list.Items {
			hooks, _ := o.Object["webhooks"].([]any)
			for _, h := range hooks {
				hook, _ := h.(map[string]any)
				config, _ := hook["clientConfig"].(map[string]any)
				service, _ := config["service"].(map[string]any)
				path, _ := service["path"].(string)
				if path == "" {
					return fmt.Errorf("%s %s: a webhook without a Service's path", r, o.GetName())
				}
				delete(config, "service")
				config["url"] = "https://" + address + path
			}
			if _, err := of.Update(ctx, &o, metav1.UpdateOptions{}); err != nil {
				return err
			}
		}
	}
	return nil
}

// machine is a small one, as the benchmarks make them.
func machine(name string) *v1.VirtualMachine {
	vm := &v1.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	vm.Spec.RunStrategy = new(v1.RunStrategyAlways)
	s := &vm.Spec.Template.Spec
	s.TerminationGracePeriodSeconds = new(int64)
	s.Domain.Memory = &v1.Memory{Guest: new(resource.MustParse("128Mi"))}
	s.Domain.Resources = &v1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m")}}
	s.Domain.Firmware = &v1.Firmware{KernelBoot: &v1.KernelBoot{
		KernelArgs: "console=ttyS0",
		Container:  &v1.KernelBootContainer{Image: "registry.example/kernel:1", KernelPath: "/boot/vmlinux", InitrdPath: "/boot/initrd"},
	}}
	s.Domain.Devices.Interfaces = []v1.Interface{{Name: "default", Masquerade: &v1.InterfaceMasquerade{}}}
	s.Networks = []v1.Network{{Name: "default", Pod: &v1.PodNetwork{}}}
	return vm
}

// step makes or deletes machines until there are n of have, and measures.
func (p *plane) step(ctx context.Context, n, have int) (measure, error) {
	began := time.Now()
	g, each := errgroup.WithContext(ctx)
	g.SetLimit(users)
	for i := have; i < n; i++ {
		g.Go(func() error { return p.world.admin.Create(each, machine("vm-"+strconv.Itoa(i))) })
	}
	for i := n; i < have; i++ {
		g.Go(func() error {
			return p.world.admin.Delete(each, &v1.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "vm-" + strconv.Itoa(i)}})
		})
	}
	if err := g.Wait(); err != nil {
		return measure{}, err
	}
	err := until(ctx, patience, func() (bool, error) {
		for _, have := range []*atomic.Int64{&p.world.settled, &p.world.instances, &p.world.pods, &p.world.machines} {
			if have.Load() != int64(n) {
				return false, nil
			}
		}
		return true, nil
	})
	m := measure{Machines: n, Took: time.Since(began)}
	if err != nil {
		return m, fmt.Errorf("%d machines: %d are settled, %d instances, %d pods: %w", n, p.world.settled.Load(), p.world.instances.Load(), p.world.pods.Load(), err)
	}
	if m.Stats, err = p.quiet(ctx); err != nil {
		return m, err
	}
	for _, v := range p.world.agentWrites.snapshot() {
		m.Agent += v
	}
	own, err := anonymous()
	m.ServerMiB = float64(own) / (1 << 20)
	return m, err
}

// quiet are the controller's numbers once it no longer writes anything.
func (p *plane) quiet(ctx context.Context) (s stats, err error) {
	var last map[string]int
	err = until(ctx, time.Minute, func() (bool, error) {
		time.Sleep(time.Second)
		if s, err = p.controller.stats(); err != nil {
			return false, err
		}
		same := maps.Equal(last, s.Writes)
		last = s.Writes
		return same, nil
	})
	return s, err
}

// until calls done every 50 ms until it says true or fails, or the limit is over.
func until(ctx context.Context, limit time.Duration, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not within %s", limit))
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// result is one line of bench-results.json; a goal of 0 is none.
type result struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	N     int     `json:"n"`
	Goal  float64 `json:"goal,omitempty"`
}

// results turns the growth into what docs/scale.md promises.
func results(all []measure) []result {
	var out []result
	add := func(n int, unit string, goal, value float64, name string, args ...any) {
		out = append(out, result{fmt.Sprintf(name, args...), value, unit, n, goal})
	}
	zero, last := all[0], all[len(all)-1]
	add(1, "MiB", 0, mib(zero.Stats.Live), "scale_controller_heap_mib_0")
	most := 0
	for i, m := range all[1 : len(all)-1] {
		n, made := m.Machines, m.Machines-all[i].Machines
		most = n
		add(n, "kB", 20, float64(m.Stats.Live-zero.Stats.Live)/1000/float64(n), "scale_controller_kb_per_vm_%d", n)
		add(n, "MiB", 0, mib(m.Stats.Live), "scale_controller_heap_mib_%d", n)
		add(n, "MiB", 0, mib(m.Stats.Resident), "scale_controller_anon_mib_%d", n)
		add(made, "1/s", 0, float64(made)/m.Took.Seconds(), "scale_starts_per_s_%d", n)
		add(made, "ms", 0, 1000*(m.Stats.CPU-all[i].Stats.CPU)/float64(made), "scale_controller_cpu_ms_per_start_%d", n)
		add(n, "MiB", 0, m.ServerMiB-zero.ServerMiB, "scale_server_growth_mib_%d", n)
	}
	if most == 0 {
		return out
	}
	life := func(now, then int) float64 { return float64(now-then) / float64(most) }
	add(most, "1/s", 0, float64(most)/last.Took.Seconds(), "scale_deletes_per_s")
	add(most, "", 0, (last.Stats.Passes-zero.Stats.Passes)/float64(most), "scale_passes_per_life")
	objects, events := split(last.Stats.Writes)
	objects0, events0 := split(zero.Stats.Writes)
	add(most, "", 0, life(objects, objects0), "scale_controller_writes_per_life")
	add(most, "", 0, life(events, events0), "scale_controller_events_per_life")
	add(most, "kB", 0, float64(int64(last.Stats.Live)-int64(zero.Stats.Live))/1000/float64(most), "scale_controller_kb_left_per_vm")
	return out
}

func mib(n uint64) float64 { return float64(n) / (1 << 20) }

// split counts writes of objects and writes of Events.
func split(w map[string]int) (objects, events int) {
	for k, n := range w {
		if strings.Contains(k, " events") {
			events += n
		} else {
			objects += n
		}
	}
	return objects, events
}

// tell writes the writes of a life by what they change, for a person.
func tell(w io.Writer, all []measure) {
	last, zero := all[len(all)-1], all[0]
	most := 0
	for _, m := range all {
		most = max(most, m.Machines)
	}
	for _, k := range slices.Sorted(maps.Keys(last.Stats.Writes)) {
		fmt.Fprintf(w, "%8.3f %s\n", float64(last.Stats.Writes[k]-zero.Stats.Writes[k])/float64(max(most, 1)), k)
	}
	fmt.Fprintf(w, "%8.3f by the node agent\n", float64(last.Agent-zero.Agent)/float64(max(most, 1)))
}

// rssAnon reads the line RssAnon of /proc/PID/status, in bytes.
func rssAnon(status string) (uint64, error) {
	for line := range strings.Lines(status) {
		f := strings.Fields(line)
		if len(f) == 3 && f[0] == "RssAnon:" {
			n, err := strconv.ParseUint(f[1], 10, 64)
			return n * 1024, err
		}
	}
	return 0, errors.New("/proc/self/status has no RssAnon")
}
