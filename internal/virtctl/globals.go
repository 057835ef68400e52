// SPDX-License-Identifier: Apache-2.0

package virtctl

import (
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// globals are the flags that say which cluster and namespace are meant.
type globals struct {
	kubeconfig string
	verbosity  int
	overrides  clientcmd.ConfigOverrides
	fallback   func() string
	bound      *pflag.FlagSet
}

// shown are the flags that --help lists; the rest of kubectl's works as well.
var shown = map[string]bool{"kubeconfig": true, "namespace": true, "context": true, "as": true, "v": true}

func (g *globals) bind(f *pflag.FlagSet) {
	own := pflag.NewFlagSet("global", pflag.ContinueOnError)
	own.StringVar(&g.kubeconfig, "kubeconfig", "", "kubeconfig file (default: $KUBECONFIG, then the local cluster's, then ~/.kube/config)")
	own.IntVarP(&g.verbosity, "v", "v", 0, "log verbosity; from 6 on, requests are shown")
	clientcmd.BindOverrideFlags(&g.overrides, own, clientcmd.RecommendedConfigOverrideFlags(""))
	own.VisitAll(func(fl *pflag.Flag) { fl.Hidden = !shown[fl.Name] })
	f.AddFlagSet(own)
	g.bound = own
}

// given returns the global flags that were set, for a child of this program.
func (g *globals) given() []string {
	var all []string
	if g.bound == nil {
		return nil
	}
	g.bound.VisitAll(func(f *pflag.Flag) {
		if !f.Changed || f.Name == "namespace" || f.Name == "v" {
			return
		}
		if s, ok := f.Value.(pflag.SliceValue); ok {
			for _, v := range s.GetSlice() {
				all = append(all, "--"+f.Name+"="+v)
			}
			return
		}
		all = append(all, "--"+f.Name+"="+f.Value.String())
	})
	return all
}

// conn is a connection to one cluster, with the namespace to work in.
type conn struct {
	config    *rest.Config
	namespace string
	http      *http.Client
	base      *url.URL
}

// connect reads the kubeconfig. It does not reach the API server yet.
func (g *globals) connect() (*conn, error) {
	if err := logRequests(g.verbosity); err != nil {
		return nil, err
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = g.kubeconfig
	if g.kubeconfig == "" && os.Getenv(clientcmd.RecommendedConfigPathEnvVar) == "" && g.fallback != nil {
		rules.ExplicitPath = g.fallback()
	}
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &g.overrides)
	config, err := loader.ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err):
		return nil, errors.New("no cluster is configured: give --kubeconfig or $KUBECONFIG, or start the local cluster with `skerry up`")
	case err != nil:
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	namespace, _, err := loader.Namespace()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: namespace: %w", err)
	}
	return newConn(config, namespace)
}

func newConn(config *rest.Config, namespace string) (*conn, error) {
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("address of the API server %q: %w", config.Host, err)
	}
	c, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("connection to the API server: %w", err)
	}
	return &conn{config: config, namespace: namespace, http: c, base: base}, nil
}

// logRequests lets client-go show its requests.
func logRequests(verbosity int) error {
	if verbosity == 0 {
		return nil
	}
	f := flag.NewFlagSet("log", flag.ContinueOnError)
	klog.InitFlags(f)
	return f.Set("v", strconv.Itoa(verbosity))
}
