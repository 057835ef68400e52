// SPDX-License-Identifier: Apache-2.0

// Package multus has machines on networks of NetworkAttachmentDefinitions, on a
// node of its own without Multus.
package multus
