// SPDX-License-Identifier: Apache-2.0

// Package subresource is the aggregated API subresources.kubevirt.io: the
// verbs and streams of virtual machines (start, console, vnc, port-forward …)
// that are no plain objects. The API server's aggregator authenticates the user
// and passes the request on with its own client certificate; this package takes
// the user's name from the headers of such a request alone, asks the API server
// whether that user may do it (SubjectAccessReview), and then writes what the
// controllers act on or connects to the agent of the machine's node.
//
// The decisions about power (power.go, instance.go) are pure functions of the
// objects; the rest is reading, patching and copying.
//
// It must never trust a header of a request that did not come from the
// aggregator, never dial an address that a guest or a user chose, and never
// touch a node other than through package nodeapi.
package subresource
