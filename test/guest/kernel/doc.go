// SPDX-License-Identifier: Apache-2.0

// Package kernel takes Debian's cloud kernel apart for guests: the compressed
// image, the kernel proper out of it (which boots faster under emulation) and
// the modules with what they depend on.
//
// It is the kernel of Debian 12, because newer ones ignore hot-plugged CPUs
// under emulation.
package kernel
