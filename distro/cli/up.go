// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	k8sversion "k8s.io/component-base/version"
	"k8s.io/klog/v2"

	"github.com/skerry-dev/skerry/distro/cluster"
	"github.com/skerry-dev/skerry/distro/logfile"
	"github.com/skerry-dev/skerry/internal/version"
)

func newUp(o *options) *cobra.Command {
	cfg := cluster.Config{Ports: cluster.DefaultPorts()}
	var detach bool
	var eventsFD int
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Bring up the cluster on this machine",
		Long: `Bring up a Kubernetes cluster of one node on this machine, with Skerry in it.

It runs until it is interrupted. Whenever it ends, pods and virtual machines run
on, and the next start takes them over.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.DataDir, cfg.RunDir = o.dataDir, o.runDir
			if err := cfg.Complete(); err != nil {
				return err
			}
			if detach {
				return upDetached(cmd.Context(), cfg, cmd.OutOrStdout(), os.Args[1:])
			}
			return up(cmd.Context(), cfg, eventsFD)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&detach, "detach", false, "return when the cluster is ready and leave it running in the background")
	f.StringVar(&cfg.BindAddress, "bind-address", "", "this machine's address on which others may reach the cluster (default: only this machine may)")
	f.StringVar(&cfg.NodeName, "node-name", "", "the node's name (default: the host name)")
	f.StringVar(&cfg.PodCIDR, "pod-cidr", cluster.DefaultPodCIDR, "the pods' network")
	f.StringVar(&cfg.ServiceCIDR, "service-cidr", cluster.DefaultServiceCIDR, "the network of Services")
	f.StringVar(&cfg.Bridge, "bridge", cluster.DefaultBridge, "name of the pods' bridge and of the nftables table that goes with it")
	f.StringVar(&cfg.BinDir, "bin-dir", "", "directory of containerd and the CNI plugins (default: where skerry is)")
	f.StringVar(&cfg.ImagesDir, "images-dir", "", "directory of OCI archives to import (default: ../images beside skerry's directory, or images in the data directory)")
	f.StringVar(&cfg.CgroupRoot, "cgroup-root", "", `cgroup of all pods (default: "/skerry", or one named after --data-dir)`)
	f.StringVar(&cfg.Accel, "accel", "auto", "how machines are run: auto, kvm or tcg (emulation)")
	f.StringVar(&cfg.Renew, "renew", "", "auto: running machines get a newer QEMU by themselves, one at a time, when this version brings one; manual: by skerry vm renew or a restart (default: as at the last start, at first manual)")
	f.StringVar((*string)(&cfg.ResizePolicy), "resize-policy", "", "what a change of a running machine's CPUs or memory does where the machine does not say: InPlace, InPlaceOrMigrate or RestartOnly (default: as at the last start, at first InPlace)")
	f.StringVar(&cfg.Registry, "registry", "", "on: the cluster has a registry of its own, for a site without another; off: it has none (default: as at the last start, at first off)")
	f.Lookup("registry").NoOptDefVal = cluster.RegistryOn
	f.IntVarP(&cfg.Verbosity, "v", "v", 0, "how much Kubernetes writes to the log")
	for _, p := range []struct {
		port *int
		name string
		what string
	}{
		{&cfg.Ports.API, "api-port", "the API server"}, {&cfg.Ports.Kubelet, "kubelet-port", "the kubelet"},
		{&cfg.Ports.KubeletHealth, "kubelet-health-port", "the kubelet's health check"},
		{&cfg.Ports.ProxyHealth, "proxy-health-port", "kube-proxy's health check"}, {&cfg.Ports.ProxyMetrics, "proxy-metrics-port", "kube-proxy's metrics"},
		{&cfg.Ports.DNS, "dns-port", "the DNS server behind the Service kube-dns"},
		{&cfg.Ports.Controller, "controller-port", "webhooks and the aggregated API"}, {&cfg.Ports.NodeAgent, "node-agent-port", "the node agent"},
		{&cfg.Ports.Registry, "registry-port", "the cluster's registry, if there is one"},
	} {
		f.IntVar(p.port, p.name, *p.port, "port of "+p.what)
	}
	f.IntVar(&eventsFD, "events-fd", 0, "file descriptor for the stages, one JSON object per line")
	if err := f.MarkHidden("events-fd"); err != nil {
		panic(err) // the flag is defined one line above
	}
	return cmd
}

// up runs the cluster in this process. Stages go to standard output, or to the
// descriptor of the process that started this one in the background.
func up(ctx context.Context, cfg cluster.Config, eventsFD int) error {
	file, err := logfile.Open(filepath.Join(cfg.LogDir(), "skerry.log"), logLimit)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	if err := setUpLogging(file, cfg.Verbosity); err != nil {
		return err
	}
	defer klog.Flush()
	var progress func(cluster.Event)
	if eventsFD > 0 {
		// containerd must not hold it open: its end tells the reader of ours.
		unix.CloseOnExec(eventsFD)
		pipe := os.NewFile(uintptr(eventsFD), "events")
		enc := json.NewEncoder(pipe)
		progress = func(e cluster.Event) {
			// The reader may have gone; the cluster is not there for its sake.
			_ = enc.Encode(e)
			if e.Ready {
				pipe.Close()
			}
		}
	} else {
		p := stagePrinter{os.Stdout, cfg}
		p.begin(version.Version, k8sversion.Get().GitVersion)
		progress = func(e cluster.Event) {
			p.event(e)
			if e.Ready {
				p.next(false)
			}
		}
	}
	err = cluster.Run(ctx, cfg, file, progress)
	if err != nil && !errors.Is(err, cluster.ErrRunning) {
		klog.ErrorS(err, "The cluster ended")
		return fmt.Errorf("%w\nthe log is %s", err, file.Path())
	}
	return err
}
