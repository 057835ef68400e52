// SPDX-License-Identifier: Apache-2.0

package virtctl

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	kubevirtv1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

func TestPower(t *testing.T) {
	t.Parallel()
	ok := map[string]http.HandlerFunc{
		"PUT " + vmPath + "{verb}":  answer(202, ""),
		"PUT " + vmiPath + "{verb}": answer(200, ""),
		"GET " + vmObj:              object(kubevirtv1.VirtualMachine{}),
		"PUT /apis/subresources.kubevirt.io/v1/namespaces/other/virtualmachines/vm1/start": answer(202, ""),
	}
	for _, c := range []struct {
		args     string
		out      string
		requests []string
	}{
		{"start vm1", "VM vm1 was scheduled to start\n", []string{"PUT " + vmPath + "start {}"}},
		{"start vm1 -n other", "VM vm1 was scheduled to start\n", []string{"PUT /apis/subresources.kubevirt.io/v1/namespaces/other/virtualmachines/vm1/start {}"}},
		{"-n other start vm1", "VM vm1 was scheduled to start\n", []string{"PUT /apis/subresources.kubevirt.io/v1/namespaces/other/virtualmachines/vm1/start {}"}},
		{"start vm1 --paused", "VM vm1 was scheduled to start\n", []string{"PUT " + vmPath + `start {"paused":true}`}},
		{"start vm1 --dry-run", "VM vm1 was scheduled to start (dry run)\n", []string{"PUT " + vmPath + `start {"dryRun":["All"]}`}},
		{"stop vm1", "VM vm1 was scheduled to stop\n", []string{"PUT " + vmPath + "stop {}"}},
		{"stop vm1 --grace-period=5", "VM vm1 was scheduled to stop\n", []string{"PUT " + vmPath + `stop {"gracePeriod":5}`}},
		{"stop vm1 --force --grace-period=0", "VM vm1 was scheduled to stop\n", []string{"PUT " + vmPath + `stop {"gracePeriod":0}`}},
		{"stop vm1 --force", "VM vm1 was scheduled to stop\n", []string{"PUT " + vmPath + `stop {"gracePeriod":0}`}},
		{"restart vm1", "VM vm1 was scheduled to restart\n", []string{"PUT " + vmPath + "restart {}"}},
		{"restart vm1 --force --grace-period=0", "VM vm1 was scheduled to restart\n", []string{"PUT " + vmPath + `restart {"gracePeriodSeconds":0}`}},
		{"pause vm vm1", "VMI vm1 was scheduled to pause\n", []string{"GET " + vmObj, "PUT " + vmiPath + "pause {}"}},
		{"pause vmi vm1", "VMI vm1 was scheduled to pause\n", []string{"PUT " + vmiPath + "pause {}"}},
		{"pause vm1", "VMI vm1 was scheduled to pause\n", []string{"PUT " + vmiPath + "pause {}"}},
		{"unpause vms vm1 --dry-run", "VMI vm1 was scheduled to unpause (dry run)\n", []string{"GET " + vmObj, "PUT " + vmiPath + `unpause {"dryRun":["All"]}`}},
		{"soft-reboot vm1", "VMI vm1 was scheduled to soft-reboot\n", []string{"PUT " + vmiPath + "softreboot"}},
		{"reset vm1", "VMI vm1 was scheduled to reset\n", []string{"PUT " + vmiPath + "reset"}},
	} {
		t.Run(c.args, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t, ok)
			out, _, err := a.run(t, nil, strings.Fields(c.args)...)
			if err != nil {
				t.Fatal(err)
			}
			if out != c.out {
				t.Errorf("printed %q", out)
			}
			if d := cmp.Diff(c.requests, a.requests()); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestUsageErrors(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	for args, want := range map[string]string{
		"start":                                       `expected "virtctl start VM`,
		"start a b":                                   `got 2 argument(s); see virtctl start --help`,
		"restart vm1 --force":                         "--force and --grace-period=0 go together",
		"restart vm1 --grace-period=0":                "--force and --grace-period=0 go together",
		"restart vm1 --force --grace-period=5":        "a forced restart takes only 0",
		"stop vm1 --grace-period=-5":                  "must be 0 or more",
		"pause pod vm1":                               `"pod" is no kind of machine: use vm or vmi`,
		"port-forward vm1":                            "expected",
		"port-forward pod/vm1 80":                     "no kind of machine",
		"port-forward vm/a/b/c 80":                    "expected TYPE/NAME",
		"port-forward vm/A 80":                        `name "A"`,
		"port-forward vm/a 80 --address=x --stdio 81": "--stdio takes one port, not 2",
		"port-forward vm/a icmp/80":                   "protocol must be tcp or udp",
		"port-forward vm/a 80:0":                      `port "0"`,
		"port-forward vm/a 70000":                     `port "70000"`,
		"vnc vm1 --vnc-type=xerox":                    "must be one of remote-viewer",
		"vnc screenshot vm1":                          "--file is required",
		"console vm1 --timeout=soon":                  "neither a number of minutes nor a duration",
		"ssh vm1 --port=0":                            "must be a number from 1 to 65535",
		"scp a b":                                     "exactly one of",
		"scp vm1:/a vm2:/b":                           "exactly one of",
		"expose vm vm1":                               "",
		"migrate vm1 --dry-run":                       "migrate is not available with Skerry: stop and start the machine",
		"fly":                                         "unknown command",
	} {
		_, _, err := a.run(t, nil, strings.Fields(args)...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		args     string
		handlers map[string]http.HandlerFunc
		want     []string
	}{
		{"conflict", "start vm1", map[string]http.HandlerFunc{"PUT " + vmPath + "start": refusal(409, "VM is already running", "vm1")}, []string{"start vm1: VM is already running"}},
		{"no such machine", "start vm1", map[string]http.HandlerFunc{"PUT " + vmPath + "start": refusal(404, "not found", "vm1")}, []string{`no VirtualMachine is called "vm1" in namespace "ns"`, "kubectl get vm,vmi -n ns"}},
		{"no such instance", "pause vm1", map[string]http.HandlerFunc{"PUT " + vmiPath + "pause": refusal(404, "not found", "vm1"), "GET " + vmObj: refusal(404, "not found", "vm1")}, []string{`no VirtualMachineInstance is called "vm1"`}},
		{"stopped machine", "pause vm1", map[string]http.HandlerFunc{"PUT " + vmiPath + "pause": refusal(404, "not found", "vm1"), "GET " + vmObj: object(kubevirtv1.VirtualMachine{})}, []string{"has no running instance (its status is Stopped)", "virtctl start vm1 -n ns"}},
		{"no API", "start vm1", nil, []string{"does not serve subresources.kubevirt.io: is Skerry installed there?"}},
		{"denied", "console vm1", map[string]http.HandlerFunc{"GET " + vmiPath + "console": answer(401, `user "jane" cannot get`)}, []string{`console vm1: user "jane" cannot get (401)`, "RoleBinding in namespace ns"}},
		{"API away", "stop vm1", map[string]http.HandlerFunc{"PUT " + vmPath + "stop": answer(503, "service unavailable\x1b[2J")}, []string{"service unavailable[2J (503)", "kubectl get apiservice"}},
		{"not implemented", "reset vm1", map[string]http.HandlerFunc{"PUT " + vmiPath + "reset": refusal(501, "reset is not implemented: x", "")}, []string{"reset vm1: reset is not implemented: x"}},
		{"wrong credentials", "stop vm1 --context nobody", nil, []string{"who are you? (401)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t, c.handlers)
			_, _, err := a.run(t, nil, strings.Fields(c.args)...)
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q lacks %q", err, w)
				}
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	a.Close()
	for _, verb := range []string{"start", "console"} {
		_, _, err := a.run(t, nil, verb, "vm1")
		if err == nil || !strings.Contains(err.Error(), "cannot reach the API server 127.0.0.1") || !strings.Contains(err.Error(), "skerry status") {
			t.Errorf("%s: %v", verb, err)
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	a := newAPI(t, map[string]http.HandlerFunc{
		"GET /apis/subresources.kubevirt.io":            answer(200, `{"kind":"APIGroup","name":"subresource.kubevirt.io","preferredVersion":{"groupVersion":"subresources.kubevirt.io/v7"}}`),
		"GET /apis/subresources.kubevirt.io/v7/version": answer(200, `{"gitVersion":"v9.9.9","platform":"linux/riscv64"}`),
	})
	out, _, err := a.run(t, nil, "version")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "Client Version: version.Info{GitVersion:") || !strings.Contains(out, `Server Version: version.Info{GitVersion:"v9.9.9"`) {
		t.Fatal(out)
	}
	out, _, err = a.run(t, nil, "version", "--client")
	if err != nil || strings.Contains(out, "Server") {
		t.Fatal(out, err)
	}
}

// The same verbs below another program, each with the global flags.
func TestAddCommands(t *testing.T) {
	t.Parallel()
	a := newAPI(t, map[string]http.HandlerFunc{"PUT " + vmPath + "start": answer(202, "")})
	for _, args := range [][]string{{"start", "vm1", "--kubeconfig", a.kubeconfig}, {"start", "vm1"}} {
		root := &cobra.Command{Use: "skerry", SilenceErrors: true}
		AddCommands(root, func() string { return a.kubeconfig })
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetArgs(args)
		if err := root.ExecuteContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		if out.String() != "VM vm1 was scheduled to start\n" {
			t.Fatalf("%q", &out)
		}
	}
	names := map[string]bool{}
	root := &cobra.Command{Use: "skerry"}
	AddCommands(root, nil)
	for _, c := range root.Commands() {
		names[c.Name()] = true
	}
	if len(names) != len(verbs) {
		t.Fatalf("%v", names)
	}
}

func TestPluginName(t *testing.T) {
	t.Parallel()
	cmd := NewCommand("kubectl-virt", nil)
	start, _, err := cmd.Find([]string{"start"})
	if err != nil {
		t.Fatal(err)
	}
	if got := start.CommandPath(); got != "kubectl virt start" {
		t.Fatalf("%q", got)
	}
}

func TestExitCode(t *testing.T) {
	t.Parallel()
	err := exec.CommandContext(t.Context(), "sh", "-c", "exit 42").Run()
	for want, err := range map[int]error{0: nil, 1: context.Canceled, 42: fmt.Errorf("ssh: %w", err)} {
		if got := ExitCode(err); got != want {
			t.Errorf("%v: %d, want %d", err, got, want)
		}
	}
}
