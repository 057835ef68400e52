// SPDX-License-Identifier: Apache-2.0

// Skerry-controller reconciles virtual machines, admits them, and serves their
// consoles and power verbs (the aggregated API subresources.kubevirt.io).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	crlog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/skerry-dev/skerry/internal/manager"
	"github.com/skerry-dev/skerry/internal/version"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch err := run(ctx, os.Args[1:]); {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "skerry-controller:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var c manager.Config
	var level slog.Level
	fs := flag.NewFlagSet("skerry-controller", flag.ContinueOnError)
	kubeconfig := fs.String("kubeconfig", "", "`file` with access to the API server; by default the pod's own ServiceAccount")
	fs.StringVar(&c.Namespace, "namespace", "skerry-system", "`namespace` of the controller itself")
	fs.StringVar(&c.LauncherImage, "launcher-image", "", "`image` of the machines' pods (required)")
	fs.StringVar((*string)(&c.LauncherPullPolicy), "launcher-pull-policy", string(corev1.PullIfNotPresent), "Always, IfNotPresent or Never")
	fs.StringVar(&c.ListenAddress, "listen-address", "0.0.0.0:8443", "`host:port` of the webhooks and of the subresources' API")
	fs.StringVar(&c.TLSCertFile, "tls-cert-file", "", "serving certificate, PEM `file` (required)")
	fs.StringVar(&c.TLSKeyFile, "tls-key-file", "", "its key (required)")
	fs.StringVar(&c.NodeClientCertFile, "node-client-cert-file", "", "certificate with which node agents are called, PEM `file` (required)")
	fs.StringVar(&c.NodeClientKeyFile, "node-client-key-file", "", "its key (required)")
	fs.StringVar(&c.NodeCAFile, "node-ca-file", "", "CA of the node agents' certificates, PEM `file` (required)")
	fs.IntVar(&c.NodeAgentPort, "node-agent-port", 0, "`port` of the node agents (default 8187)")
	fs.StringVar(&c.MetricsAddress, "metrics-address", "0", "`host:port` of Prometheus metrics by HTTP; 0 serves none")
	fs.StringVar((*string)(&c.ResizePolicy), "resize-policy", "", "what changes of a running machine's size do where it does not say: InPlace (default), InPlaceOrMigrate or RestartOnly")
	fs.BoolVar(&c.LeaderElection, "leader-elect", true, "let one of several controllers act at a time")
	fs.TextVar(&level, "log-level", slog.LevelInfo, "debug, info, warn or error")
	show := fs.Bool("version", false, "print the version and exit")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("argument %q: there are only flags, see --help", fs.Arg(0))
	}
	if *show {
		fmt.Println("skerry-controller", version.Version)
		return nil
	}
	handler := slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level})
	slog.SetDefault(slog.New(handler))
	crlog.SetLogger(logr.FromSlogHandler(handler))
	klog.SetSlogLogger(slog.New(handler))
	var err error
	if *kubeconfig != "" {
		c.REST, err = clientcmd.BuildConfigFromFlags("", *kubeconfig)
	} else if c.REST, err = rest.InClusterConfig(); errors.Is(err, rest.ErrNotInCluster) {
		err = errors.New("this is no pod of a cluster: give --kubeconfig")
	}
	if err != nil {
		return fmt.Errorf("access to the API server: %w", err)
	}
	return manager.Run(ctx, c)
}
