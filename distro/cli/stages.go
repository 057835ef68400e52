// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/skerry-dev/skerry/distro/cluster"
)

// stagePrinter prints a cluster's start as it happens.
type stagePrinter struct {
	out io.Writer
	cfg cluster.Config
}

func (p stagePrinter) begin(skerry, kubernetes string) {
	fmt.Fprintf(p.out, "skerry %s with Kubernetes %s, data in %s\n", skerry, kubernetes, p.cfg.DataDir)
}

// event prints one line per stage: when it was done, what, how long it took.
func (p stagePrinter) event(e cluster.Event) {
	if e.Ready {
		fmt.Fprintf(p.out, "%8s  ready\n", seconds(e.At))
		return
	}
	fmt.Fprintf(p.out, "%8s  %-22s %7s  %s\n", seconds(e.At), e.Stage, seconds(e.Took), e.Detail)
}

// next says what to do now.
func (p stagePrinter) next(detached bool) {
	flag := ""
	if p.cfg.DataDir != cluster.DefaultDataDir {
		flag = " --data-dir " + p.cfg.DataDir
	}
	how := "in another terminal"
	if detached {
		how = "now"
	}
	fmt.Fprintf(p.out, "Try %s: skerry kubectl%s get nodes,pods,vms -A   (or export KUBECONFIG=%s)\n", how, flag, p.cfg.Kubeconfig())
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2fs", d.Seconds()) }
