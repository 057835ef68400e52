// SPDX-License-Identifier: Apache-2.0

package subresource

import (
	"fmt"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Group is the API group that this package serves.
const Group = "subresources.kubevirt.io"

// versions of the group; all are alike. The first is preferred.
var versions = []string{"v1", "v1alpha3"}

const (
	vms  = "virtualmachines"
	vmis = "virtualmachineinstances"
)

// target is what a request's path names.
type target struct {
	version, namespace string
	resource, name     string // name is "" for a resource of the namespace itself
	sub                string // as RBAC names it, for example "vnc/screenshot"
	// port and protocol of a port-forward
	port     int
	protocol string
}

// parseTarget reads a path below /apis/subresources.kubevirt.io/. Errors are
// statuses for the user.
func parseTarget(path string) (target, error) {
	parts := strings.Split(path, "/")
	notFound := errNoSuchPath(path)
	if len(parts) < 4 || parts[1] != "namespaces" || !served(parts[0]) {
		return target{}, notFound
	}
	t := target{version: parts[0], namespace: parts[2], resource: parts[3]}
	if e := validation.IsDNS1123Label(t.namespace); len(e) > 0 {
		return target{}, apierrors.NewBadRequest(fmt.Sprintf("namespace %.80q: %s", t.namespace, strings.Join(e, "; ")))
	}
	if len(parts) == 4 {
		return t, nil
	}
	if len(parts) < 6 || (t.resource != vms && t.resource != vmis) {
		return target{}, notFound
	}
	t.name, t.sub = parts[4], strings.Join(parts[5:], "/")
	if e := validation.IsDNS1123Subdomain(t.name); len(e) > 0 {
		return target{}, apierrors.NewBadRequest(fmt.Sprintf("name %.80q: %s", t.name, strings.Join(e, "; ")))
	}
	if parts[5] == "portforward" {
		return t.withPort(parts[6:], notFound)
	}
	return t, nil
}

// withPort reads what follows "portforward" in a path: port and perhaps protocol.
func (t target) withPort(rest []string, notFound error) (target, error) {
	if len(rest) < 1 || len(rest) > 2 {
		return target{}, notFound
	}
	port, err := strconv.ParseUint(rest[0], 10, 16)
	if err != nil || port == 0 {
		return target{}, apierrors.NewBadRequest(fmt.Sprintf("port %.20q: must be a number from 1 to 65535", rest[0]))
	}
	t.sub, t.port, t.protocol = "portforward", int(port), "tcp"
	if len(rest) == 2 {
		t.protocol = strings.ToLower(rest[1])
	}
	if t.protocol != "tcp" && t.protocol != "udp" {
		return target{}, apierrors.NewBadRequest(fmt.Sprintf("protocol %.20q: must be tcp or udp", rest[1]))
	}
	return t, nil
}

func served(version string) bool {
	for _, v := range versions {
		if v == version {
			return true
		}
	}
	return false
}

// rbacName is the resource as it stands in RBAC rules, for messages.
func (t target) rbacName() string {
	if t.sub == "" {
		return t.resource
	}
	return t.resource + "/" + t.sub
}
