// SPDX-License-Identifier: Apache-2.0

// Package admission completes and checks virtual machines on their way into the
// API server. Defaults and rules are pure functions of the object, the object
// before it and what the cluster offers; handlers for AdmissionReview v1 stand
// around them.
//
// A rejection names the field's path, the value found and what would have been
// accepted, in the shape of KubeVirt's rejections. What the API knows and this
// version cannot do is refused by its path: it must never be dropped silently.
//
// The package must never read anything from the cluster: an answer depends on
// the request alone, so that admission works while everything else is down.
package admission
