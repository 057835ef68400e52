// SPDX-License-Identifier: Apache-2.0

// Skerry-node is the node agent: it runs on every node, starts the machines of
// its node in their pods, and reports on them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/go-logr/logr"
	"k8s.io/client-go/tools/clientcmd"
	crlog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/skerry-dev/skerry/internal/node"
	"github.com/skerry-dev/skerry/internal/nodeapi"
	"github.com/skerry-dev/skerry/internal/version"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch err := run(ctx, os.Args[1:]); {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "skerry-node:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var c node.Config
	var level slog.Level
	fs := flag.NewFlagSet("skerry-node", flag.ContinueOnError)
	kubeconfig := fs.String("kubeconfig", "", "`file` with access to the API server; by default the pod's own ServiceAccount")
	fs.StringVar(&c.NodeName, "node-name", os.Getenv("NODE_NAME"), "`name` of the Node that this is; by default $NODE_NAME")
	fs.StringVar(&c.KubeletRoot, "kubelet-root", "/var/lib/kubelet", "the kubelet's --root-dir, at the same path as on the host")
	fs.StringVar(&c.ListenAddress, "listen-address", net.JoinHostPort("0.0.0.0", strconv.Itoa(nodeapi.DefaultPort)), "`host:port` of the node API")
	fs.StringVar(&c.TLSCertFile, "tls-cert-file", "", "serving certificate, PEM `file` (required)")
	fs.StringVar(&c.TLSKeyFile, "tls-key-file", "", "its key (required)")
	fs.StringVar(&c.ClientCAFile, "client-ca-file", "", "CA of the controller's client certificate, PEM `file` (required)")
	fs.StringVar(&c.Accel, "accel", node.AccelAuto, "auto, kvm, or tcg for software emulation")
	fs.StringVar(&c.LauncherDir, "launcher-dir", "", "root file system of this version's launcher image, a `directory` such as an image volume: where running machines get a newer QEMU from; by default they get none until they are restarted")
	fs.Func("cni-bin-dir", "`directory` of the CNI plugins that NetworkAttachmentDefinitions may name; by default such networks are left to the cluster's own plugin, such as Multus", func(dir string) error {
		c.CNIBinDirs = append(c.CNIBinDirs, dir)
		return nil
	})
	fs.StringVar(&c.CNIStateDir, "cni-state-dir", "/var/lib/skerry-node/cni", "`directory` on the host's disk that remembers what those plugins did")
	fs.StringVar(&c.Renew, "renew", node.RenewManual, "auto to replace the QEMU of running machines without being asked when the launcher image has a newer one, or manual")
	fs.TextVar(&level, "log-level", slog.LevelInfo, "debug, info, warn or error")
	show := fs.Bool("version", false, "print the version and exit")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("argument %q: there are only flags, see --help", fs.Arg(0))
	}
	if *show {
		fmt.Println("skerry-node", version.Version)
		return nil
	}
	handler := slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level})
	slog.SetDefault(slog.New(handler))
	crlog.SetLogger(logr.FromSlogHandler(handler))
	var err error
	if c.REST, err = clientcmd.BuildConfigFromFlags("", *kubeconfig); err != nil {
		return fmt.Errorf("access to the API server: %w", err)
	}
	return node.Run(ctx, c)
}
