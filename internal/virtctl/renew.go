// SPDX-License-Identifier: Apache-2.0

package virtctl

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	kubevirtv1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// vm holds the verbs that KubeVirt's client does not have.
func (g *globals) vm() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "vm",
		Short: "What only Skerry can do with a virtual machine",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(g.renew())
	return cmd
}

// seenLimit is how long to wait until the status shows which QEMU runs.
const seenLimit = 10 * time.Second

func (g *globals) renew() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "renew NAME | --all",
		Short: "Replace a machine's QEMU by the newest while the guest runs",
		Long: `Replace the QEMU of running virtual machines by the one that their node's Skerry
has, in place: the guest stands still for a fraction of a second, and its memory
is not copied. The new QEMU is rehearsed on the machine's real state first; if it
fails, the guest goes on with the old one.

With --all the machines are renewed one after the other, and the first failure
ends it: the first machine is the canary.`,
		Example: "  vm renew myvm\n  vm renew --all --all-namespaces",
		Args:    args(0, 1),
	}
	all := cmd.Flags().Bool("all", false, "renew all machines of the namespace")
	everywhere := cmd.Flags().BoolP("all-namespaces", "A", false, "with --all: of all namespaces")
	goOn := cmd.Flags().Bool("keep-going", false, "with --all: go on after a failure")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case *all == (len(args) == 1):
			return errors.New("give the name of one machine, or --all")
		case *everywhere && !*all:
			return errors.New("--all-namespaces goes with --all")
		case *goOn && !*all:
			return errors.New("--keep-going goes with --all")
		}
		c, err := g.connect()
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		if !*all {
			vmi := &kubevirtv1.VirtualMachineInstance{}
			if err := c.get(ctx, vmis, args[0], vmi); err != nil {
				return c.explain(ctx, err, vmis, args[0], "renew")
			}
			return renewal{c, cmd, c.namespace}.one(ctx, vmi)
		}
		namespace := c.namespace
		if *everywhere {
			namespace = ""
		}
		return renewal{c, cmd, namespace}.all(ctx, *goOn)
	}
	return cmd
}

// renewal renews machines of one namespace, or of all for "".
type renewal struct {
	c         *conn
	cmd       *cobra.Command
	namespace string
}

func (r renewal) say(vmi *kubevirtv1.VirtualMachineInstance, format string, a ...any) {
	name := vmi.Name
	if r.namespace == "" {
		name = vmi.Namespace + "/" + name
	}
	fmt.Fprintf(r.cmd.OutOrStdout(), "%s: %s\n", name, printable(fmt.Sprintf(format, a...)))
}

// runs is a machine's QEMU in words.
func runs(vmi *kubevirtv1.VirtualMachineInstance) string {
	q := vmi.Status.QEMU
	switch {
	case q == nil:
		return "QEMU"
	case q.Package != "":
		return "QEMU " + q.Version + " (" + q.Package + ")"
	}
	return "QEMU " + q.Version
}

func upToDate(vmi *kubevirtv1.VirtualMachineInstance) bool {
	c := vmi.Status.Condition(kubevirtv1.VMIRenewable)
	return c != nil && c.Status == corev1.ConditionTrue && c.Reason == kubevirtv1.RenewableUpToDate
}

// one renews a machine and says so.
func (r renewal) one(ctx context.Context, vmi *kubevirtv1.VirtualMachineInstance) error {
	if upToDate(vmi) {
		r.say(vmi, "is up to date: %s", runs(vmi))
		return nil
	}
	before := runs(vmi)
	began := time.Now()
	c := *r.c
	c.namespace = vmi.Namespace
	if err := c.put(ctx, vmis, vmi.Name, "renew", nil); err != nil {
		return c.explain(ctx, err, vmis, vmi.Name, "renew")
	}
	took := time.Since(began).Round(10 * time.Millisecond)
	now := c.renewed(ctx, vmi)
	r.say(vmi, "renewed in %v: %s, before %s", took, runs(now), before)
	return nil
}

// renewed is the instance once its status shows another QEMU, or as it is then.
func (c *conn) renewed(ctx context.Context, old *kubevirtv1.VirtualMachineInstance) *kubevirtv1.VirtualMachineInstance {
	now := old
	for end := time.Now().Add(seenLimit); time.Now().Before(end) && ctx.Err() == nil; {
		next := &kubevirtv1.VirtualMachineInstance{}
		if err := c.get(ctx, vmis, old.Name, next); err != nil || next.UID != old.UID {
			break
		}
		if now = next; upToDate(now) {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
	return now
}

// all renews one machine after the other, in the order of their names.
func (r renewal) all(ctx context.Context, goOn bool) error {
	path := "/apis/" + kubevirtv1.GroupVersion.String()
	if r.namespace != "" {
		path += "/namespaces/" + url.PathEscape(r.namespace)
	}
	b, err := r.c.do(ctx, http.MethodGet, path+"/"+vmis, nil, nil)
	if err != nil {
		return fmt.Errorf("list the machines: %w", err)
	}
	var list kubevirtv1.VirtualMachineInstanceList
	if err := json.Unmarshal(b, &list); err != nil {
		return fmt.Errorf("list the machines: %w", err)
	}
	slices.SortFunc(list.Items, func(a, b kubevirtv1.VirtualMachineInstance) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	failed, left := 0, 0
	for i := range list.Items {
		vmi := &list.Items[i]
		if vmi.Status.Phase != kubevirtv1.Running {
			continue
		}
		err := r.one(ctx, vmi)
		switch {
		case err == nil:
		case code(err) == http.StatusConflict:
			// It was not tried, so it says nothing about the others.
			left++
			r.say(vmi, "%v", err)
		default:
			failed++
			r.say(vmi, "%v", err)
			if !goOn {
				return fmt.Errorf("stopped after the first failure, %d machines were not looked at; --keep-going goes on", len(list.Items)-i-1)
			}
		}
	}
	if failed+left > 0 {
		return fmt.Errorf("%d machines were not renewed", failed+left)
	}
	return nil
}
