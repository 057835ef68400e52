// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
)

// Groups in the client certificates of Skerry's own processes.
const (
	ControllerGroup = "skerry:controllers"
	NodeGroup       = "skerry:nodes"
)

// Identities are the users that are Skerry itself.
type Identities struct {
	// Groups and Users of whom any one is enough.
	Groups, Users []string
}

// DefaultIdentities are the controller and the node agents, known by client
// certificate or by their ServiceAccounts in the given namespace.
func DefaultIdentities(namespace string) Identities {
	return Identities{
		Groups: []string{ControllerGroup, NodeGroup},
		Users: []string{
			"system:serviceaccount:" + namespace + ":skerry-controller",
			"system:serviceaccount:" + namespace + ":skerry-node",
		},
	}
}

// Includes tells whether the user is one of them.
func (i Identities) Includes(u authenticationv1.UserInfo) bool {
	return slices.Contains(i.Users, u.Username) ||
		slices.ContainsFunc(u.Groups, func(g string) bool { return slices.Contains(i.Groups, g) })
}
