// SPDX-License-Identifier: Apache-2.0

package virtctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	kubevirtv1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/resize"
)

// lookEvery is how often the instance is read while its change is followed.
const lookEvery = 200 * time.Millisecond

func (g *globals) resize() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "resize VM [--cpu N] [--memory SIZE]",
		Short: "Change the CPUs and memory of a virtual machine, while it runs",
		Example: "  # four virtual CPUs and 8 GiB; wait until the guest has them\n  resize myvm --cpu 4 --memory 8Gi --wait\n\n" +
			"  # follow a change that was made otherwise\n  resize myvm --wait",
		Args: args(1, 1),
	}
	cpu := cmd.Flags().Int64("cpu", 0, "virtual CPUs (sockets × cores × threads; the sockets are changed)")
	memory := cmd.Flags().String("memory", "", "memory of the guest, such as 8Gi")
	wait := cmd.Flags().Bool("wait", false, "follow the change, step by step, until the guest has it")
	timeout := cmd.Flags().Duration("timeout", 5*time.Minute, "with --wait: give up after this long; the change goes on")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r := request{name: args[0], cpu: *cpu, given: cmd.Flags().Changed("cpu")}
		if r.given && r.cpu < 1 {
			return fmt.Errorf("--cpu %d: must be 1 or more", r.cpu)
		}
		if *memory != "" {
			q, err := resource.ParseQuantity(*memory)
			if err != nil || q.Sign() <= 0 {
				return fmt.Errorf("--memory %.80q: must be a size such as 512Mi or 8Gi", *memory)
			}
			r.memory = &q
		}
		if !r.given && r.memory == nil && !*wait {
			return errors.New("nothing to change: give --cpu, --memory or both (or --wait alone, to follow a change)")
		}
		c, err := g.connect()
		if err != nil {
			return err
		}
		running, err := c.ask(cmd.Context(), cmd.OutOrStdout(), r)
		if err != nil || !running || !*wait {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), *timeout)
		defer cancel()
		err = c.follow(ctx, cmd.OutOrStdout(), r.name)
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
			return fmt.Errorf("the guest does not have it after %s; the change goes on (kubectl -n %s describe vmi %s)", *timeout, c.namespace, r.name)
		}
		return err
	}
	return cmd
}

// request is what was asked for on the command line.
type request struct {
	name   string
	cpu    int64
	given  bool // cpu was
	memory *resource.Quantity
}

// ask changes the machine's template. It returns whether the machine runs.
func (c *conn) ask(ctx context.Context, out io.Writer, r request) (running bool, err error) {
	var vm kubevirtv1.VirtualMachine
	if err := c.get(ctx, vms, r.name, &vm); err != nil {
		return false, c.explain(ctx, err, vms, r.name, "resize")
	}
	domain, parts := map[string]any{}, []string{}
	if r.given {
		per := resize.VCPUsPerSocket(&kubevirtv1.VirtualMachineInstance{Spec: vm.Spec.Template.Spec})
		if r.cpu%per != 0 {
			return false, fmt.Errorf("--cpu %d: must be a multiple of %d, the machine's cores × threads per socket", r.cpu, per)
		}
		domain["cpu"] = map[string]any{"sockets": r.cpu / per}
		parts = append(parts, fmt.Sprintf("%d vCPUs", r.cpu))
	}
	if r.memory != nil {
		domain["memory"] = map[string]any{"guest": r.memory.String()}
		parts = append(parts, r.memory.String()+" of memory")
	}
	running = vm.Status.Created != nil && *vm.Status.Created
	if len(domain) == 0 {
		if !running {
			return false, fmt.Errorf("virtual machine %s/%s does not run: there is nothing to follow", c.namespace, r.name)
		}
		return true, nil
	}
	patch := map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"domain": domain}}}}
	path := "/apis/" + kubevirtv1.GroupVersion.String() + "/namespaces/" + url.PathEscape(c.namespace) + "/" + vms + "/" + url.PathEscape(r.name)
	if _, err := c.send(ctx, http.MethodPatch, path, nil, "application/merge-patch+json", patch); err != nil {
		return running, c.explain(ctx, err, vms, r.name, "resize")
	}
	what := strings.Join(parts, " and ")
	if running {
		fmt.Fprintf(out, "VM %s is to have %s\n", r.name, what)
	} else {
		fmt.Fprintf(out, "VM %s is to have %s; it does not run and will have that when it is started\n", r.name, what)
	}
	return running, nil
}

// follow prints each step of the changes under way and returns when the guest has
// them, or why it will not.
func (c *conn) follow(ctx context.Context, out io.Writer, name string) error {
	began := time.Now()
	told := map[string]bool{}
	for {
		var vm kubevirtv1.VirtualMachine
		var vmi kubevirtv1.VirtualMachineInstance
		if err := c.get(ctx, vms, name, &vm); err != nil {
			return c.explain(ctx, err, vms, name, "resize")
		}
		if err := c.get(ctx, vmis, name, &vmi); err != nil {
			return c.explain(ctx, err, vmis, name, "resize")
		}
		for _, line := range progress(&vmi) {
			if !told[line] {
				told[line] = true
				fmt.Fprintf(out, "%6.2fs  %s\n", time.Since(began).Seconds(), line)
			}
		}
		done, err := finished(&vm, &vmi)
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookEvery):
		}
	}
}

var resources = []resize.Resource{resize.CPU, resize.Memory}

// progress are the steps that were reached, one a line.
func progress(vmi *kubevirtv1.VirtualMachineInstance) []string {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, printable(fmt.Sprintf(format, args...))) }
	for _, r := range resources {
		if p := resize.PodPart(vmi, r); p != nil && p.Step != "" {
			line := fmt.Sprintf("%s %s: pod %s", r, p.Target, p.Step)
			if p.Message != "" {
				line += ": " + p.Message
			}
			add("%s", line)
		}
		if g := resize.GuestPart(vmi, r); g != nil && g.Target != nil {
			for _, t := range g.Times {
				add("%s %s: guest %s (%s)", r, g.Target, t.Step, g.Mechanism)
			}
			if g.Reason != "" {
				add("%s %s: guest: %s: %s", r, g.Target, g.Reason, g.Message)
			}
		}
	}
	return lines
}

// finished tells whether the guest has what the machine's spec asks for. An error
// says that it will not have it as things are.
func finished(vm *kubevirtv1.VirtualMachine, vmi *kubevirtv1.VirtualMachineInstance) (bool, error) {
	if vm.Status.DesiredGeneration != vm.Generation {
		return false, nil // the controller has not seen it yet
	}
	for i := range vm.Status.Conditions {
		if c := &vm.Status.Conditions[i]; c.Type == kubevirtv1.VMRestartRequired && c.Status == corev1.ConditionTrue {
			return false, errors.New(printable(c.Message))
		}
	}
	origin, ok, err := resize.ParseOrigin(vmi)
	if err != nil || !ok {
		return false, errors.Join(errors.New("the instance was not started by a virtual machine of this version: restart it to change its size"), err)
	}
	want, all := wanted(vm, vmi), true
	for _, r := range resources {
		boot, condition := origin.Boot.VCPUs, kubevirtv1.VMIHotVCPUChange
		if r == resize.Memory {
			boot, condition = origin.Boot.Memory, kubevirtv1.VMIHotMemoryChange
		}
		p, c := resize.PodPart(vmi, r), vmi.Status.Condition(condition)
		switch {
		case resize.SpecSize(vmi, r) != want[r]: // it has not reached the instance
			all = false
		case p == nil && want[r] == boot && c == nil:
		case p == nil || p.Target == nil || p.Target.Value() != want[r]: // nor its pod
			all = false
		case c != nil && c.Status == corev1.ConditionFalse:
			return false, fmt.Errorf("%s: %s: %s", r, c.Reason, printable(c.Message))
		case c != nil || p.Step != kubevirtv1.PodResizeDone:
			all = false
		}
	}
	return all, nil
}

// wanted are the sizes that the machine's template asks for; what it leaves open
// is as the instance has it.
func wanted(vm *kubevirtv1.VirtualMachine, vmi *kubevirtv1.VirtualMachineInstance) map[resize.Resource]int64 {
	out := map[resize.Resource]int64{resize.CPU: resize.SpecSize(vmi, resize.CPU), resize.Memory: resize.SpecSize(vmi, resize.Memory)}
	asked := &kubevirtv1.VirtualMachineInstance{Spec: vm.Spec.Template.Spec}
	if c := asked.Spec.Domain.CPU; c != nil && c.Sockets > 0 {
		out[resize.CPU] = resize.SpecSize(asked, resize.CPU)
	}
	if n := resize.SpecSize(asked, resize.Memory); n > 0 {
		out[resize.Memory] = n
	}
	return out
}
