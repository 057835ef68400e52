// SPDX-License-Identifier: Apache-2.0

package virtctl

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	kubevirtv1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
	"github.com/skerry-dev/skerry/internal/resize"
)

// machineOf is a machine of two vCPUs per socket with 1 GiB, and its instance.
func machineOf(t *testing.T, running bool) (*kubevirtv1.VirtualMachine, *kubevirtv1.VirtualMachineInstance) {
	t.Helper()
	vm, vmi := &kubevirtv1.VirtualMachine{}, &kubevirtv1.VirtualMachineInstance{}
	vm.Generation, vm.Status.DesiredGeneration = 2, 2
	vm.Status.Created = &running
	vm.Spec.Template.Spec.Domain.CPU = &kubevirtv1.CPU{Sockets: 2, Cores: 2}
	vm.Spec.Template.Spec.Domain.Memory = &kubevirtv1.Memory{Guest: new(resource.MustParse("2Gi"))}
	vmi.Spec = *vm.Spec.Template.Spec.DeepCopy()
	origin, err := resize.NewOrigin(resize.Sizes{VCPUs: 2, Memory: 1 << 30}).String()
	if err != nil {
		t.Fatal(err)
	}
	vmi.Annotations = map[string]string{resize.SizesAnnotation: origin}
	return vm, vmi
}

func part(vmi *kubevirtv1.VirtualMachineInstance, step kubevirtv1.PodResizeStep) {
	for _, r := range resources {
		resize.SetPodPart(&vmi.Status, r, &kubevirtv1.PodResourceResize{Step: step, Target: resize.Size(r, resize.SpecSize(vmi, r))})
	}
}

func TestResizeAsks(t *testing.T) {
	t.Parallel()
	vm, _ := machineOf(t, true)
	stopped, _ := machineOf(t, false)
	for _, c := range []struct {
		args, out, err, patch string
		vm                    *kubevirtv1.VirtualMachine
	}{
		{args: "resize vm1 --cpu 4 --memory 8Gi", vm: vm, out: "VM vm1 is to have 4 vCPUs and 8Gi of memory\n",
			patch: `{"spec":{"template":{"spec":{"domain":{"cpu":{"sockets":2},"memory":{"guest":"8Gi"}}}}}}`},
		{args: "resize vm1 --memory 8Gi --wait", vm: stopped, out: "VM vm1 is to have 8Gi of memory; it does not run and will have that when it is started\n",
			patch: `{"spec":{"template":{"spec":{"domain":{"memory":{"guest":"8Gi"}}}}}}`},
		{args: "resize vm1 --cpu 3", vm: vm, err: "must be a multiple of 2"},
		{args: "resize vm1 --cpu 0", vm: vm, err: "--cpu 0: must be 1 or more"},
		{args: "resize vm1 --memory lots", vm: vm, err: `--memory "lots": must be a size`},
		{args: "resize vm1", vm: vm, err: "nothing to change"},
		{args: "resize vm1 --wait", vm: stopped, err: "does not run"},
	} {
		t.Run(c.args, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t, map[string]http.HandlerFunc{"GET " + vmObj: object(*c.vm), "PATCH " + vmObj: func(w http.ResponseWriter, r *http.Request) {
				if got := r.Header.Get("Content-Type"); got != "application/merge-patch+json" {
					t.Errorf("Content-Type %s", got)
				}
				answer(200, "{}")(w, r)
			}})
			out, _, err := a.run(t, nil, strings.Fields(c.args)...)
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("error %v", err)
			}
			if out != c.out {
				t.Errorf("printed %q", out)
			}
			sent := slices.ContainsFunc(a.requests(), func(r string) bool { return strings.HasPrefix(r, "PATCH") })
			if c.patch != "" && !slices.Contains(a.requests(), "PATCH "+vmObj+" "+c.patch) || c.patch == "" && sent {
				t.Errorf("sent %q", a.requests())
			}
		})
	}
}

// The change is followed until the guest has it, whatever the instance said before.
func TestResizeFollows(t *testing.T) {
	t.Parallel()
	refused := func(vmi *kubevirtv1.VirtualMachineInstance) {
		part(vmi, kubevirtv1.PodResizeRefused)
		vmi.Status.SetCondition(kubevirtv1.VMIHotVCPUChange, corev1.ConditionFalse, "Forbidden", "exceeded quota. What to do about the cpu: raise it", time.Time{})
	}
	for name, c := range map[string]struct {
		stages []func(*kubevirtv1.VirtualMachine, *kubevirtv1.VirtualMachineInstance)
		out    []string
		err    string
	}{
		"goes through": {
			stages: []func(*kubevirtv1.VirtualMachine, *kubevirtv1.VirtualMachineInstance){
				func(vm *kubevirtv1.VirtualMachine, vmi *kubevirtv1.VirtualMachineInstance) { // an older refusal, not seen yet
					vm.Status.DesiredGeneration, vmi.Spec.Domain.CPU.Sockets = 1, 1
					refused(vmi)
				},
				func(_ *kubevirtv1.VirtualMachine, vmi *kubevirtv1.VirtualMachineInstance) { // seen, not on the instance
					vmi.Spec.Domain.CPU.Sockets = 1
					refused(vmi)
				},
				func(_ *kubevirtv1.VirtualMachine, vmi *kubevirtv1.VirtualMachineInstance) {
					part(vmi, kubevirtv1.PodResizeAsked)
				},
				func(_ *kubevirtv1.VirtualMachine, vmi *kubevirtv1.VirtualMachineInstance) {
					part(vmi, kubevirtv1.PodResizeGranted)
				},
				func(_ *kubevirtv1.VirtualMachine, vmi *kubevirtv1.VirtualMachineInstance) {
					part(vmi, kubevirtv1.PodResizeDone)
				},
			},
			out: []string{"cpu 4: pod Asked", "cpu 4: pod Granted", "memory 2Gi: pod Granted", "cpu 4: pod Done"},
		},
		"is refused": {
			stages: []func(*kubevirtv1.VirtualMachine, *kubevirtv1.VirtualMachineInstance){
				func(_ *kubevirtv1.VirtualMachine, vmi *kubevirtv1.VirtualMachineInstance) { refused(vmi) },
			},
			err: "cpu: Forbidden: exceeded quota. What to do about the cpu: raise it",
		},
		"needs a restart": {
			stages: []func(*kubevirtv1.VirtualMachine, *kubevirtv1.VirtualMachineInstance){
				func(vm *kubevirtv1.VirtualMachine, _ *kubevirtv1.VirtualMachineInstance) {
					vm.Status.Conditions = []kubevirtv1.VirtualMachineCondition{{Type: kubevirtv1.VMRestartRequired, Status: corev1.ConditionTrue, Message: "restart it"}}
				},
			},
			err: "restart it",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			n := 0
			// Each look sees the next stage; the last one stays.
			see := func(instance bool) http.HandlerFunc {
				return func(w http.ResponseWriter, _ *http.Request) {
					mu.Lock()
					defer mu.Unlock()
					vm, vmi := machineOf(t, true)
					c.stages[min(n/2, len(c.stages)-1)](vm, vmi)
					n++
					var obj any = vm
					if instance {
						obj = vmi
					}
					_ = json.NewEncoder(w).Encode(obj)
				}
			}
			a := newAPI(t, map[string]http.HandlerFunc{"GET " + vmObj: see(false), "GET " + vmiObj: see(true)})
			n = -1 // the look at whether it runs
			out, _, err := a.run(t, nil, "resize", "vm1", "--wait")
			if (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
				t.Errorf("error %v", err)
			}
			for _, line := range c.out {
				if !strings.Contains(out, line) {
					t.Errorf("printed %q, want %q in it", out, line)
				}
			}
		})
	}
}
