// SPDX-License-Identifier: Apache-2.0

// Package registry is the cluster's own registry: distribution, in this process,
// behind TLS and one generated login. Nothing is served to anyone without it.
//
// It must never delete a blob that a manifest names or an upload may still name.
package registry
