// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// Client talks to the cluster as its administrator, from any process of root's.
// Each request may take as long as timeout.
func (c *Config) Client(timeout time.Duration) (client.Client, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return nil, err
	}
	cfg.Timeout = timeout
	scheme := runtime.NewScheme()
	_ = clientgoscheme.AddToScheme(scheme) // these two cannot fail: they only fill a map
	_ = v1.AddToScheme(scheme)
	return client.New(cfg, client.Options{Scheme: scheme})
}
