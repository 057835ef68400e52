// SPDX-License-Identifier: Apache-2.0

// Package cloudinit makes the seed image from which cloud-init configures a
// guest: the NoCloud data source of cloud-init, as an ISO 9660 image with the
// label "cidata".
//
// It is pure: the node agent reads Secrets and writes the file. It must never log
// or put into an error what a Secret holds.
package cloudinit
