// SPDX-License-Identifier: Apache-2.0

package subresource

import (
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/ptr"

	kubevirtv1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

func TestInstanceVerbs(t *testing.T) {
	t.Parallel()
	type VMI = *kubevirtv1.VirtualMachineInstance
	running, paused := newVMI(kubevirtv1.Running), newVMI(kubevirtv1.Running, condition(kubevirtv1.VMIPaused))
	probed := newVMI(kubevirtv1.Running, func(v VMI) { v.Spec.LivenessProbe = &kubevirtv1.Probe{} })
	pinged := newVMI(kubevirtv1.Running, func(v VMI) {
		v.Spec.LivenessProbe = &kubevirtv1.Probe{GuestAgentPing: &kubevirtv1.GuestAgentPing{}}
	})
	noACPI := newVMI(kubevirtv1.Running, func(v VMI) {
		v.Spec.Domain.Features = &kubevirtv1.Features{ACPI: &kubevirtv1.FeatureState{Enabled: ptr.To(false)}}
	})
	agent := noACPI.DeepCopy()
	condition(kubevirtv1.VMIAgentConnected)(agent)
	nowhere := newVMI(kubevirtv1.Running, func(v VMI) { v.Status.NodeName = "" })
	labelled := newVMI(kubevirtv1.Running, func(v VMI) {
		v.Status.NodeName = ""
		v.Labels = map[string]string{kubevirtv1.NodeNameLabel: "n1"}
	})
	for _, c := range []struct {
		name, verb string
		vmi        VMI
		code       int
		text       string
	}{
		{"pause", "pause", running, 200, ""},
		{"pause twice", "pause", paused, 409, "VMI is already paused"},
		{"pause before it runs", "pause", newVMI(kubevirtv1.Scheduled), 409, "VMI is not running (its phase is Scheduled)"},
		{"pause before the first phase", "pause", newVMI(""), 409, "VMI is not running (its phase is not set yet)"},
		{"pause with a probe", "pause", probed, 403, "livenessProbe"},
		{"pause with a ping", "pause", pinged, 200, ""},
		{"pause on no node", "pause", nowhere, 400, "status.nodeName is empty"},
		{"pause on a node by label", "pause", labelled, 200, ""},
		{"unpause", "unpause", paused, 200, ""},
		{"unpause what is not paused", "unpause", running, 409, "VMI is not paused"},
		{"unpause what has ended", "unpause", newVMI(kubevirtv1.Succeeded), 409, "VMI is not running"},
		{"softreboot", "softreboot", running, 200, ""},
		{"softreboot paused", "softreboot", paused, 409, "VMI is paused"},
		{"softreboot without agent and ACPI", "softreboot", noACPI, 409, "neither the guest agent connected nor ACPI"},
		{"softreboot by agent", "softreboot", agent, 200, ""},
		{"softreboot of a failed one", "softreboot", newVMI(kubevirtv1.Failed), 409, "VMI is not running"},
		{"reset", "reset", running, 200, ""},
		{"reset paused", "reset", paused, 200, ""},
		{"renew", "renew", running, 200, ""},
		{"renew paused", "renew", paused, 200, ""},
		{"renew too early", "renew", newVMI(kubevirtv1.Pending), 409, "VMI is not running"},
		{"reset too early", "reset", newVMI(kubevirtv1.Pending), 409, "VMI is not running"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t, c.vmi.DeepCopy())
			path := "virtualmachineinstances/vm1/" + c.verb
			e.want(http.MethodPut, path, `{"dryRun":["All"]}`, c.code, c.text)
			if len(e.nodes.calls) > 0 {
				t.Fatalf("a dry run called %v", e.nodes.calls)
			}
			e.want(http.MethodPut, path, "", c.code, c.text)
			var want []string
			if c.code == 200 {
				want = []string{c.verb + " n1 ns/vm1 uid-of-vm1"}
			}
			if d := cmp.Diff(want, e.nodes.calls); d != "" {
				t.Fatal(d)
			}
		})
	}
}

func TestAgentErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		code int
		text string
	}{
		{apierrors.NewConflict(vmiResource, "vm1", errors.New("it has just ended")), 409, "it has just ended"},
		{errors.New("dial tcp: connection refused"), 503, "cannot reach the node agent on n1"},
	} {
		e := newEnv(t, newVMI(kubevirtv1.Running))
		e.nodes.err = c.err
		e.want(http.MethodPut, "virtualmachineinstances/vm1/pause", "", c.code, c.text)
		e.want(http.MethodGet, "virtualmachineinstances/vm1/vnc/screenshot", "", c.code, c.text)
	}
}

func TestScreenshot(t *testing.T) {
	t.Parallel()
	e := newEnv(t, newVMI(kubevirtv1.Running))
	e.nodes.png = []byte("\x89PNG…")
	e.want(http.MethodGet, "virtualmachineinstances/vm1/vnc/screenshot?moveCursor=true", "", 200, "\x89PNG…")
	if d := cmp.Diff([]string{"screenshot moved n1 ns/vm1 uid-of-vm1"}, e.nodes.calls); d != "" {
		t.Fatal(d)
	}
	e.want(http.MethodGet, "virtualmachineinstances/vm1/vnc/screenshot?moveCursor=maybe", "", 400, "moveCursor")
	e.want(http.MethodGet, "virtualmachineinstances/vm2/vnc/screenshot", "", 404, `virtualmachineinstance.kubevirt.io "vm2" not found`)
}

// What a stream answers before it is one.
func TestStreamsThatCannotBe(t *testing.T) {
	t.Parallel()
	type VMI = *kubevirtv1.VirtualMachineInstance
	bare := newVMI(kubevirtv1.Running, func(v VMI) {
		v.Spec.Domain.Devices.AutoattachSerialConsole = ptr.To(false)
		v.Spec.Domain.Devices.AutoattachGraphicsDevice = ptr.To(false)
	})
	failed := newVMI(kubevirtv1.Failed, func(v VMI) { v.Status.Reason = "GuestPanicked" })
	for _, c := range []struct {
		name, sub string
		vmi       VMI
		code      int
		text      string
	}{
		{"console too early", "console", newVMI(kubevirtv1.Scheduled), 400, "VMI is not running (its phase is Scheduled)"},
		{"console after the end", "console", newVMI(kubevirtv1.Succeeded), 400, "VMI is not running (its phase is Succeeded)"},
		{"console of a failed one", "console", failed, 409, "VMI is in failed status: GuestPanicked"},
		{"console that is not there", "console", bare, 400, "autoattachSerialConsole"},
		{"vnc too early", "vnc", newVMI(kubevirtv1.Scheduled), 400, "VMI is not running"},
		{"vnc of a failed one", "vnc", failed, 409, "VMI is in failed status"},
		{"vnc that is not there", "vnc", bare, 400, "autoattachGraphicsDevice"},
		{"screenshot that is not there", "vnc/screenshot", bare, 400, "autoattachGraphicsDevice"},
		{"vnc with a strange flag", "vnc?preserveSession=perhaps", newVMI(kubevirtv1.Running), 400, "preserveSession"},
		{"console by plain GET", "console", newVMI(kubevirtv1.Running), 400, "websocket"},
		{"portforward of a paused one", "portforward/22", newVMI(kubevirtv1.Running, condition(kubevirtv1.VMIPaused)), 409, "VMI is paused"},
		{"portforward without address", "portforward/22", newVMI(kubevirtv1.Running), 409, "no network interfaces are present"},
		{"portforward to port 0", "portforward/0", newVMI(kubevirtv1.Running), 400, "port"},
		{"portforward to port 65536", "portforward/65536", newVMI(kubevirtv1.Running), 400, "port"},
		{"portforward by sctp", "portforward/22/sctp", newVMI(kubevirtv1.Running), 400, "protocol"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t, c.vmi.DeepCopy())
			e.want(http.MethodGet, "virtualmachineinstances/vm1/"+c.sub, "", c.code, c.text)
			if len(e.nodes.calls) > 0 {
				t.Fatal(e.nodes.calls)
			}
		})
	}
}

func TestNotImplemented(t *testing.T) {
	t.Parallel()
	e := newEnv(t, newVM(always), newVMI(kubevirtv1.Running))
	for resource, subs := range endpoints {
		for sub, p := range subs {
			if p.serve != nil {
				continue
			}
			path := resource + "/vm1/" + sub
			if sub == "" {
				path = resource
			}
			e.want(p.method, path, "{}", 501, target{resource: resource, sub: sub}.rbacName()+" is not implemented: "+p.instead)
		}
	}
	e.want(http.MethodGet, "/apis/"+Group+"/v1/guestfs", "", 501, "guestfs is not implemented")
}
