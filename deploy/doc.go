// SPDX-License-Identifier: Apache-2.0

// Package deploy holds the cluster-wide objects that Skerry needs on any
// Kubernetes (custom resource definitions, roles, webhooks, aggregated APIs,
// policies) as YAML, and puts them there. The embedded cluster and an
// installation on somebody else's cluster use the same files.
//
// It must never hold anything that depends on where Skerry's processes run:
// Services, EndpointSlices, Deployments and DaemonSets belong to whoever starts
// them.
package deploy
