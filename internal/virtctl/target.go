// SPDX-License-Identifier: Apache-2.0

package virtctl

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	kubevirtv1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// kind is the resource that a user's word for it means.
func kind(word string) (string, error) {
	switch strings.ToLower(word) {
	case "vm", "vms", "virtualmachine", "virtualmachines":
		return vms, nil
	case "vmi", "vmis", "virtualmachineinstance", "virtualmachineinstances":
		return vmis, nil
	}
	return "", fmt.Errorf("%.80q is no kind of machine: use vm or vmi", word)
}

// target is what TYPE/NAME[/NAMESPACE] names. resource is "" when only a name
// was given.
type target struct{ resource, name, namespace string }

// parseTarget reads [TYPE/]NAME[/NAMESPACE].
func parseTarget(s string) (target, error) {
	parts := strings.Split(s, "/")
	var t target
	switch len(parts) {
	case 1:
		t.name = parts[0]
	case 2, 3:
		var err error
		if t.resource, err = kind(parts[0]); err != nil {
			return target{}, fmt.Errorf("%.200q: %w", s, err)
		}
		t.name = parts[1]
		if len(parts) == 3 {
			t.namespace = parts[2]
			if e := validation.IsDNS1123Label(t.namespace); len(e) > 0 {
				return target{}, fmt.Errorf("%.200q: namespace %.80q: %s", s, t.namespace, strings.Join(e, "; "))
			}
		}
	default:
		return target{}, fmt.Errorf("%.200q: expected TYPE/NAME or TYPE/NAME/NAMESPACE", s)
	}
	if e := validation.IsDNS1123Subdomain(t.name); len(e) > 0 {
		return target{}, fmt.Errorf("%.200q: name %.80q: %s", s, t.name, strings.Join(e, "; "))
	}
	return t, nil
}

// resolve finds the kind of a target that has only a name: the VirtualMachine
// of that name, otherwise the instance. A user who may read neither is assumed
// to mean the machine.
func (c *conn) resolve(ctx context.Context, t *target) error {
	if t.namespace != "" {
		c.namespace = t.namespace
	}
	t.namespace = c.namespace
	if t.resource != "" {
		return nil
	}
	t.resource = vms
	var vm kubevirtv1.VirtualMachine
	err := c.get(ctx, vms, t.name, &vm)
	if code(err) == http.StatusNotFound {
		var vmi kubevirtv1.VirtualMachineInstance
		if c.get(ctx, vmis, t.name, &vmi) != nil {
			return c.explain(ctx, err, vms, t.name, "find")
		}
		t.resource = vmis
		return nil
	}
	if err != nil && code(err) != http.StatusForbidden {
		return err
	}
	return nil
}

// short is vm or vmi.
func (t target) short() string {
	if t.resource == vmis {
		return "vmi"
	}
	return "vm"
}

// forward is one port to forward.
type forward struct {
	protocol      string // tcp or udp
	local, remote int
}

// parseForward reads [PROTOCOL/]LOCAL[:REMOTE].
func parseForward(s string) (forward, error) {
	f := forward{protocol: "tcp"}
	ports := s
	if p, rest, ok := strings.Cut(s, "/"); ok {
		f.protocol, ports = strings.ToLower(p), rest
	}
	if f.protocol != "tcp" && f.protocol != "udp" {
		return forward{}, fmt.Errorf("%.80q: protocol must be tcp or udp", s)
	}
	local, remote, two := strings.Cut(ports, ":")
	if !two {
		remote = local
	}
	var err error
	if f.local, err = port(local, two); err != nil {
		return forward{}, fmt.Errorf("%.80q: %w", s, err)
	}
	if f.remote, err = port(remote, false); err != nil {
		return forward{}, fmt.Errorf("%.80q: %w", s, err)
	}
	return f, nil
}

// port reads a port number; 0 means any free one where that is possible.
func port(s string, zero bool) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || (n == 0 && !zero) {
		return 0, fmt.Errorf("port %.20q: must be a number from 1 to 65535", s)
	}
	return int(n), nil
}
