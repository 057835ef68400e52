// SPDX-License-Identifier: Apache-2.0

package cniplugin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"

	"github.com/skerry-dev/skerry/internal/failpoint"
	"github.com/skerry-dev/skerry/internal/netattach"
	"github.com/skerry-dev/skerry/internal/netns"
)

// Runner attaches pods. Its methods may be called from several goroutines.
type Runner struct {
	// BinDirs are where plugins are looked for, IPAM plugins too.
	BinDirs []string
	// StateDir is the runner's own directory, absolute; it must outlive a reboot.
	StateDir string

	limit time.Duration      // of one plugin; 0 is pluginLimit
	step  func(string) error // tests: called before each step

	mu   sync.Mutex
	pods map[string]*sync.Mutex
}

// Wanted is one network of a pod.
type Wanted struct {
	// Interface is its name in the pod.
	Interface string
	// Definition is namespace/name of the NetworkAttachmentDefinition.
	Definition string
	// Config reads it; called only if a plugin has to be run.
	Config func(context.Context) (netattach.Config, error)
}

// lock keeps a pod to one caller.
func (r *Runner) lock(uid string) (unlock func()) {
	r.mu.Lock()
	if r.pods == nil {
		r.pods = map[string]*sync.Mutex{}
	}
	m := r.pods[uid]
	if m == nil {
		m = &sync.Mutex{}
		r.pods[uid] = m
	}
	r.mu.Unlock()
	m.Lock()
	return m.Unlock
}

// before is a place at which tests fail a step. The literal names of the failpoints
// stand beside each call.
func (r *Runner) before(step string) error {
	if r.step != nil {
		return r.step(step)
	}
	return nil
}

// Attach attaches the pod, whose network namespace is ns, to each of the networks
// and returns how, in the same order. An entry is nil when the interface was there
// without a record: somebody else, Multus for instance, made it. It may be called
// again after any failure and also when all is done.
func (r *Runner) Attach(ctx context.Context, pod Pod, ns *os.File, wanted []Wanted) ([]*netattach.Attachment, error) {
	if !plain.MatchString(pod.UID) {
		return nil, fmt.Errorf("pod UID %q: want letters, digits and '-'", pod.UID)
	}
	defer r.lock(pod.UID)()
	out := make([]*netattach.Attachment, len(wanted))
	for i, w := range wanted {
		a, err := r.attach(ctx, pod, ns, w)
		if err != nil {
			return nil, fmt.Errorf("network %s: %w", w.Definition, err)
		}
		out[i] = a
	}
	return out, nil
}

func (r *Runner) attach(ctx context.Context, pod Pod, ns *os.File, w Wanted) (*netattach.Attachment, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !plain.MatchString(w.Interface) {
		return nil, fmt.Errorf("interface %q: want letters, digits and '-'", w.Interface)
	}
	rec, err := r.load(pod.UID, w.Interface)
	if err != nil {
		return nil, err
	}
	switch {
	case rec != nil && rec.Result != nil:
		return rec.Result, nil
	case rec != nil:
		// Begun and not ended: nobody knows how far it came.
		if err := r.del(ctx, rec); err != nil {
			return nil, fmt.Errorf("undo what was begun: %w", err)
		}
		if err := os.Remove(r.recordFile(pod.UID, w.Interface)); err != nil {
			return nil, err
		}
	}
	there, err := hasLink(ns, w.Interface)
	if err != nil || there {
		return nil, err
	}
	config, err := w.Config(ctx)
	if err != nil {
		return nil, err
	}
	rec = &record{Pod: pod, Interface: w.Interface, Definition: w.Definition, Config: config.List, MAC: config.MAC, IPs: config.IPs}
	if err := errors.Join(r.before("record"), failpoint.Hit(ctx, "agent.attach.before-record")); err != nil {
		return nil, err
	}
	if err := r.store(rec); err != nil {
		return nil, fmt.Errorf("write down what is begun: %w", err)
	}
	if err := errors.Join(r.before("pin"), failpoint.Hit(ctx, "agent.attach.before-pin")); err != nil {
		return nil, err
	}
	if err := r.pin(pod.UID, ns); err != nil {
		return nil, err
	}
	for _, b := range config.Bridges {
		if err := r.noteBridge(b); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(r.before("add"), failpoint.Hit(ctx, "agent.attach.before-add")); err != nil {
		return nil, err
	}
	list, err := libcni.ConfListFromBytes(rec.Config)
	if err != nil {
		return nil, err
	}
	result, err := r.cni().AddNetworkList(ctx, list, r.runtime(rec))
	if err != nil {
		return nil, err
	}
	if rec.Result, err = attachment(result); err != nil {
		return nil, err
	}
	if err := errors.Join(r.before("result"), failpoint.Hit(ctx, "agent.attach.before-result")); err != nil {
		return nil, err
	}
	if err := r.store(rec); err != nil {
		return nil, fmt.Errorf("write down the result: %w", err)
	}
	return rec.Result, failpoint.Hit(ctx, "agent.attach.after-result")
}

// Detach undoes all that was begun for the pod. Nothing is an error that is undone
// already.
func (r *Runner) Detach(ctx context.Context, podUID string) error {
	if !plain.MatchString(podUID) {
		return fmt.Errorf("pod UID %q: want letters, digits and '-'", podUID)
	}
	defer r.lock(podUID)()
	links, err := r.links(podUID)
	if err != nil {
		return err
	}
	var all error
	for _, link := range slices.Backward(links) {
		if err := r.detach(ctx, podUID, link); err != nil {
			all = errors.Join(all, fmt.Errorf("interface %s of pod %s: %w", link, podUID, err))
		}
	}
	if all != nil {
		return all // the namespace is still needed
	}
	if err := errors.Join(r.before("unpin"), failpoint.Hit(ctx, "agent.detach.before-unpin")); err != nil {
		return err
	}
	if err := r.unpin(podUID); err != nil {
		return err
	}
	if err := os.RemoveAll(r.podDir(podUID)); err != nil { // half-written records are left at most
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pods, podUID)
	return nil
}

func (r *Runner) detach(ctx context.Context, podUID, link string) error {
	rec, err := r.load(podUID, link)
	if err != nil || rec == nil {
		return err
	}
	if err := errors.Join(r.before("del"), failpoint.Hit(ctx, "agent.detach.before-del")); err != nil {
		return err
	}
	if err := r.del(ctx, rec); err != nil {
		return err
	}
	if err := errors.Join(r.before("forget"), failpoint.Hit(ctx, "agent.detach.before-forget")); err != nil {
		return err
	}
	if err := os.Remove(r.recordFile(podUID, link)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (r *Runner) del(ctx context.Context, rec *record) error {
	list, err := libcni.ConfListFromBytes(rec.Config)
	if err != nil {
		return err
	}
	return r.cni().DelNetworkList(ctx, list, r.runtime(rec))
}

func (r *Runner) cni() *libcni.CNIConfig {
	limit := r.limit
	if limit == 0 {
		limit = pluginLimit
	}
	return libcni.NewCNIConfigWithCacheDir(r.BinDirs, r.StateDir+"/cache", &runner{limit: limit})
}

// runtime is what plugins are told of the pod. A namespace that is gone, as after
// a reboot, is none.
func (r *Runner) runtime(rec *record) *libcni.RuntimeConf {
	rt := &libcni.RuntimeConf{
		ContainerID: rec.Pod.UID, IfName: rec.Interface,
		Args: [][2]string{
			{"IgnoreUnknown", "1"},
			{"K8S_POD_NAMESPACE", rec.Pod.Namespace},
			{"K8S_POD_NAME", rec.Pod.Name},
			{"K8S_POD_INFRA_CONTAINER_ID", rec.Pod.UID},
			{"K8S_POD_UID", rec.Pod.UID},
		},
		CapabilityArgs: map[string]any{},
	}
	if file := r.pinFile(rec.Pod.UID); pinned(file) {
		rt.NetNS = file
	}
	if rec.MAC != "" {
		rt.Args = append(rt.Args, [2]string{"MAC", rec.MAC}) // older than the capability
		rt.CapabilityArgs["mac"] = rec.MAC
	}
	if len(rec.IPs) > 0 {
		rt.CapabilityArgs["ips"] = rec.IPs
	}
	return rt
}

func hasLink(ns *os.File, name string) (there bool, err error) {
	err = netns.Do(ns, func() error {
		_, err := netlink.LinkByName(name)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return nil
		}
		there = err == nil
		return err
	})
	return there, err
}

// attachment is a plugin's result in our words.
func attachment(result types.Result) (*netattach.Attachment, error) {
	res, err := types100.NewResultFromResult(result)
	if err != nil {
		return nil, fmt.Errorf("read the plugin's result: %w", err)
	}
	a := &netattach.Attachment{DNS: netattach.DNS{Nameservers: res.DNS.Nameservers, Domain: res.DNS.Domain, Search: res.DNS.Search}}
	for _, i := range res.Interfaces {
		if i != nil && i.Sandbox != "" {
			a.MAC = i.Mac
		}
	}
	gateway := map[bool]netip.Addr{} // of each family, for routes that name none
	for _, ip := range res.IPs {
		if ip == nil {
			continue
		}
		addr, ok := netip.AddrFromSlice(ip.Address.IP)
		bits, _ := ip.Address.Mask.Size()
		if !ok {
			continue
		}
		if addr.Is4In6() {
			addr = addr.Unmap()
		}
		out := netattach.IP{Address: netip.PrefixFrom(addr, bits)}
		if gw, ok := netip.AddrFromSlice(ip.Gateway); ok {
			out.Gateway = gw.Unmap()
			if _, ok := gateway[addr.Is4()]; !ok {
				gateway[addr.Is4()] = out.Gateway
			}
		}
		if !out.Address.IsValid() {
			return nil, fmt.Errorf("the plugin's result has the address %s", ip.Address.String())
		}
		a.IPs = append(a.IPs, out)
	}
	for _, r := range res.Routes {
		if r == nil {
			continue
		}
		dst, ok := netip.AddrFromSlice(r.Dst.IP)
		bits, size := r.Dst.Mask.Size()
		if !ok {
			continue
		}
		if dst = dst.Unmap(); dst.BitLen() != size {
			continue
		}
		out := netattach.Route{Dst: netip.PrefixFrom(dst, bits).Masked()}
		if gw, ok := netip.AddrFromSlice(r.GW); ok {
			out.Gateway = gw.Unmap()
		} else {
			out.Gateway = gateway[dst.Is4()]
		}
		a.Routes = append(a.Routes, out)
	}
	return a, nil
}
