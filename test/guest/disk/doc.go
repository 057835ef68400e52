// SPDX-License-Identifier: Apache-2.0

// Package disk assembles bootable disk images out of a directory: a GPT with one
// ext4 root partition and GRUB twice, for BIOS and for UEFI. Everything is done
// on plain files; no loop devices, no mounts, no privileges beyond reading the
// directory.
package disk
