// SPDX-License-Identifier: Apache-2.0

// Package launcherimage keeps the launcher image of the running version as files
// on the node, and puts it into the volume of a machine's pod, from where a QEMU
// that runs can be replaced by the image's.
//
// What it writes belongs to root and can be written by nobody. It checks the
// digests of what it takes; it must never follow a name out of the directory that
// it was given, and never run anything.
package launcherimage
