// SPDX-License-Identifier: Apache-2.0

package virtctl

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode"

	kubevirtv1 "github.com/skerry-dev/skerry/api/kubevirt/v1"
)

// unreachable says what a failed connection probably means.
func (c *conn) unreachable(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("cannot reach the API server %s: %w (is the cluster running? `skerry status` tells)", c.base.Host, err)
}

// explain adds to a refusal what the user can do about it.
func (c *conn) explain(ctx context.Context, err error, resource, name, verb string) error {
	switch code(err) {
	case 0:
		return err
	case http.StatusNotFound:
		return c.missing(ctx, err, resource, name)
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%s %s: %w (does a RoleBinding in namespace %s give you the ClusterRole edit or admin?)", verb, name, err, c.namespace)
	case http.StatusServiceUnavailable:
		return fmt.Errorf("%s %s: %w (kubectl get apiservice v1.%s tells whether the API is available)", verb, name, err, subresources)
	}
	return fmt.Errorf("%s %s: %w", verb, name, err)
}

// missing finds out what a 404 is about: the API, the machine, or only its
// instance.
func (c *conn) missing(ctx context.Context, err error, resource, name string) error {
	var e *apiError
	if errors.As(err, &e) && (e.status == nil || e.status.Details == nil || e.status.Details.Name == "") {
		return fmt.Errorf("the cluster at %s does not serve %s: is Skerry installed there? (%w)", c.base.Host, subresources, err)
	}
	kind := "VirtualMachine"
	if resource == vmis {
		var vm kubevirtv1.VirtualMachine
		if c.get(ctx, vms, name, &vm) == nil {
			status := string(vm.Status.PrintableStatus)
			if status == "" {
				status = "Stopped"
			}
			return fmt.Errorf("virtual machine %s/%s has no running instance (its status is %s): start it with `virtctl start %s -n %s`", c.namespace, name, printable(status), name, c.namespace)
		}
		kind = "VirtualMachineInstance"
	}
	return fmt.Errorf("no %s is called %q in namespace %q: `kubectl get vm,vmi -n %s` lists them, -n chooses another namespace", kind, name, c.namespace, c.namespace)
}

// printable makes a server's text safe for a terminal: one line without control
// characters.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsControl(r):
			return -1
		}
		return r
	}, s)
}
