// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/distro/box"
	"github.com/skerry-dev/skerry/distro/cluster"
	"github.com/skerry-dev/skerry/distro/pki"
	"github.com/skerry-dev/skerry/internal/hostinfo"
)

// Status is what was found. A part that could not be found out has an Err.
type Status struct {
	Skerry     Process
	Containerd Component
	API        Component
	Node       *corev1.Node
	Machines   []v1.VirtualMachineInstance
	// Launcher is the image that new machines run in; empty if that is not known.
	Launcher string
	// ResizePolicy is the cluster's, as it was started last.
	ResizePolicy v1.ResizePolicy
	Pods         int
	Disk         Disk
	Certs        []pki.Expiry
	CertsErr     error
	Host         hostinfo.Info
}

// Process is the skerry process.
type Process struct {
	PID int // 0: it does not run
	RSS int64
	Up  time.Duration
	Err error
}

// Component is something that answers or does not.
type Component struct {
	Detail string
	Err    error
}

// Disk is the file system of the data directory.
type Disk struct {
	box.Space
	Dir string
	Err error
}

// lookLimit bounds how long a part may take to answer.
const lookLimit = 5 * time.Second

// Collect looks at everything. It never fails as a whole.
func Collect(ctx context.Context, c *cluster.Config) Status {
	ctx, cancel := context.WithTimeout(ctx, 2*lookLimit)
	defer cancel()
	s := Status{Skerry: process(c), Containerd: containerd(ctx, c), Disk: disk(c.DataDir), ResizePolicy: c.ResizePolicy}
	s.Host = hostinfo.Detect(ctx, hostinfo.Local(c.NodeName))
	s.Certs, s.CertsErr = pki.Dir(c.PKIDir()).List()
	s.Launcher, _ = c.LauncherImage() // that none is old is then not known
	s.api(ctx, c)
	return s
}

func process(c *cluster.Config) (p Process) {
	if p.PID, p.Err = c.RunningPID(); p.PID == 0 || p.Err != nil {
		return p
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.PID))
	if err != nil {
		p.Err = err
		return p
	}
	if f := strings.Fields(string(b)); len(f) > 1 {
		pages, _ := strconv.ParseInt(f[1], 10, 64)
		p.RSS = pages * int64(os.Getpagesize())
	}
	if fi, err := os.Stat(fmt.Sprintf("/proc/%d", p.PID)); err == nil {
		p.Up = time.Since(fi.ModTime())
	}
	return p
}

// containerd says whether its socket answers, and its version.
func containerd(ctx context.Context, c *cluster.Config) Component {
	conn, err := (&net.Dialer{Timeout: lookLimit}).DialContext(ctx, "unix", c.ContainerdSocket())
	if err != nil {
		return Component{Err: err}
	}
	_ = conn.Close() // only whether it could be opened counts
	out, err := exec.CommandContext(ctx, filepath.Join(c.BinDir, "containerd"), "--version").Output()
	f := strings.Fields(string(out))
	if err != nil || len(f) < 3 {
		return Component{Detail: "answers"}
	}
	return Component{Detail: f[2]}
}

func disk(dir string) Disk {
	space, err := cluster.Space(dir)
	return Disk{Space: space, Dir: dir, Err: err}
}

// api fills in what the API server knows.
func (s *Status) api(ctx context.Context, c *cluster.Config) {
	cl, err := c.Client(lookLimit)
	if err != nil {
		s.API.Err = err
		return
	}
	node := &corev1.Node{}
	if err := cl.Get(ctx, client.ObjectKey{Name: c.NodeName}, node); err != nil {
		s.API.Err = err
		return
	}
	s.Node = node
	s.API.Detail = node.Status.NodeInfo.KubeletVersion
	machines := &v1.VirtualMachineInstanceList{}
	if err := cl.List(ctx, machines); err != nil {
		s.API.Err = err
		return
	}
	s.Machines = machines.Items
	pods := &metav1.PartialObjectMetadataList{}
	pods.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PodList"))
	if err := cl.List(ctx, pods); err != nil {
		s.API.Err = err
		return
	}
	s.Pods = len(pods.Items)
}

// Healthy tells whether everything that should run runs.
func (s *Status) Healthy() bool {
	return s.Skerry.PID != 0 && s.Containerd.Err == nil && s.API.Err == nil && s.nodeReady() == "Ready"
}

func (s *Status) nodeReady() string {
	if s.Node == nil {
		return "unknown"
	}
	for _, c := range s.Node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			if c.Status == corev1.ConditionTrue {
				return "Ready"
			}
			return "NotReady: " + c.Message
		}
	}
	return "NotReady: the kubelet has not reported yet"
}
