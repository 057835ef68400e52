// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	cniv1 "github.com/skerry-dev/skerry/api/cni/v1"
	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/cniplugin"
	"github.com/skerry-dev/skerry/internal/machine"
	"github.com/skerry-dev/skerry/internal/netattach"
	"github.com/skerry-dev/skerry/internal/podnet"
	"github.com/skerry-dev/skerry/internal/podtemplate"
)

// attacher attaches pods to networks beside their own; cniplugin.Runner is it.
type attacher interface {
	Attach(ctx context.Context, pod cniplugin.Pod, ns *os.File, wanted []cniplugin.Wanted) ([]*netattach.Attachment, error)
	Detach(ctx context.Context, podUID string) error
	Pods() ([]string, error)
}

// definitions reads the configuration of a NetworkAttachmentDefinition.
type definitions interface {
	Config(ctx context.Context, name types.NamespacedName) (string, error)
}

type apiDefinitions struct{ client.Reader }

func (d apiDefinitions) Config(ctx context.Context, name types.NamespacedName) (string, error) {
	nad := &cniv1.NetworkAttachmentDefinition{}
	err := d.Get(ctx, name, nad)
	if apierrors.IsNotFound(err) {
		return "", fmt.Errorf("there is no NetworkAttachmentDefinition %s in namespace %s: create it, or correct multus.networkName", name.Name, name.Namespace)
	}
	if err != nil {
		return "", fmt.Errorf("read NetworkAttachmentDefinition %s: %w", name, err)
	}
	return nad.Spec.Config, nil
}

// Limits of what is done with networks beside the pods' own.
const (
	// detachLimit bounds the end of one pod's networks.
	detachLimit = 2 * time.Minute
	// sweepEvery is how often it is looked for networks of pods that are gone.
	sweepEvery = 5 * time.Second
)

// link is what is known of a network that the machine has an interface on.
type link struct {
	network netattach.Network
	// attachment is nil when somebody else attached the pod.
	attachment *netattach.Attachment
	// defaultRoute: it is to have the guest's default route, or not to; nil leaves
	// it to what there is.
	defaultRoute *bool
	// pod is the pods' own network.
	pod bool
}

// attachNetworks has the pod attached to the networks of its machine and returns
// all that its interfaces are on, by the interfaces' names.
func (g *guest) attachNetworks(ctx context.Context, ns *os.File, vmi *v1.VirtualMachineInstance) (map[string]link, error) {
	wanted, err := netattach.Networks(vmi.Namespace, vmi.Annotations, &vmi.Spec)
	if err != nil {
		return nil, fmt.Errorf("metadata.annotations: %w", err)
	}
	links := map[string]link{}
	for i := range vmi.Spec.Networks {
		if n := &vmi.Spec.Networks[i]; n.Pod != nil {
			links[n.Name] = link{pod: true, defaultRoute: wanted.PodDefaultRoute}
		}
	}
	attachments := make([]*netattach.Attachment, len(wanted.Networks))
	if g.attach != nil && len(wanted.Networks) > 0 {
		pod := cniplugin.Pod{Namespace: vmi.Namespace, Name: podtemplate.PodName(vmi.Name, vmi.UID), UID: g.podUID}
		if attachments, err = g.attach.Attach(ctx, pod, ns, g.runnable(vmi, wanted.Networks)); err != nil {
			return nil, err
		}
	}
	for i, n := range wanted.Networks {
		links[n.Name] = link{network: n, attachment: attachments[i], defaultRoute: n.DefaultRoute}
	}
	return links, nil
}

// runnable are the networks for who runs their plugins.
func (g *guest) runnable(vmi *v1.VirtualMachineInstance, networks []netattach.Network) []cniplugin.Wanted {
	var out []cniplugin.Wanted
	for _, n := range networks {
		if n.MAC == "" {
			// Guests remember their interfaces by MAC, so it should outlive the pod.
			n.MAC = podnet.StableMAC(machine.FirmwareUUID(vmi), n.Name).String()
		}
		out = append(out, cniplugin.Wanted{
			Interface: n.Interface, Definition: n.Definition(),
			Config: func(ctx context.Context) (netattach.Config, error) {
				text, err := g.definitions.Config(ctx, types.NamespacedName{Namespace: n.Namespace, Name: n.Element.Name})
				if err != nil {
					return netattach.Config{}, err
				}
				return netattach.Prepare(n, text, g.netHost)
			},
		})
	}
	return out
}

// detachNetworks takes the pod off its networks once its process has ended. What
// fails is tried again by sweepNetworks.
func (g *guest) detachNetworks() {
	if g.attach == nil {
		return
	}
	ctx, cancel := context.WithTimeout(g.agent.ctx, detachLimit)
	defer cancel()
	if err := g.attach.Detach(ctx, g.podUID); err != nil {
		g.log.Warn("take the pod off its networks", "error", err)
	}
}

// sweepNetworks takes pods off their networks that ended while nobody looked.
func (a *agent) sweepNetworks(ctx context.Context) {
	if a.attach == nil {
		return
	}
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if err := a.sweepOnce(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("take ended pods off their networks", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (a *agent) sweepOnce(ctx context.Context) error {
	pods, err := a.attach.Pods()
	if err != nil || len(pods) == 0 {
		return err
	}
	// A kubelet's directory that is not there says nothing about pods.
	dir := filepath.Join(a.kubeletRoot, "pods")
	if _, err := os.Stat(dir); err != nil {
		return err
	}
	var all error
	for _, uid := range pods {
		_, err := os.Lstat(filepath.Join(dir, uid))
		if errors.Is(err, fs.ErrNotExist) {
			ctx, cancel := context.WithTimeout(ctx, detachLimit)
			err = a.attach.Detach(ctx, uid)
			cancel()
		}
		all = errors.Join(all, err)
	}
	return all
}
