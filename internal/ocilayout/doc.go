// SPDX-License-Identifier: Apache-2.0

// Package ocilayout assembles container images from files on this machine and
// writes them as OCI image layout archives, which containerd imports as they
// are. The same files give the same digests wherever and whenever the image is
// made: entries are sorted, times are fixed, owners are root and modes are
// reduced to what matters.
//
// It must never talk to a registry and never put anything into a layer that
// was not listed by its caller: no devices, no sockets, no setuid files.
package ocilayout
