// SPDX-License-Identifier: Apache-2.0

// Package image brings disk images from an OCI registry onto a volume, and from a
// file into a registry.
//
// A pull is one pass: the blob streams from the registry through decompression,
// tar and qcow2 to the volume, without a copy in between; a connection that breaks
// goes on where it was, and the digest holds over the whole. Nothing is executed:
// formats are read in Go. Images are hostile: whatever they say is bounded, no path
// of theirs is used, and none may name another file.
//
// When Import returns an error, what it has written to the target must not be used.
package image
