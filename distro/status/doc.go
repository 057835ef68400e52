// SPDX-License-Identifier: Apache-2.0

// Package status finds out how an embedded cluster is doing, and says it in a
// form that a person reads at a glance. It only looks: it must never change
// anything, and it answers as much as it can when the cluster does not run.
package status
