// SPDX-License-Identifier: Apache-2.0

package hostinfo

import (
	"context"
	"io/fs"
	"net"
	"os"
	"runtime"
	"time"
)

// Source is where the facts come from.
type Source struct {
	// Root is the host's "/".
	Root fs.FS
	// Arch is GOARCH of the host.
	Arch string
	// NodeName is the node's name in the cluster.
	NodeName string
	// Lookup resolves a host name.
	Lookup func(ctx context.Context, name string) ([]string, error)
	// ProbeKVM makes a machine with one CPU at the given device and throws it
	// away again.
	ProbeKVM func(path string) error
}

// Local is this host, which is nodeName in the cluster (empty: its host name).
func Local(nodeName string) Source {
	if nodeName == "" {
		nodeName, _ = os.Hostname()
	}
	return Source{
		Root: os.DirFS("/"), Arch: runtime.GOARCH, NodeName: nodeName,
		Lookup: net.DefaultResolver.LookupHost, ProbeKVM: ProbeKVM,
	}
}

// lookupTimeout bounds the only question that leaves the host.
const lookupTimeout = 2 * time.Second
