// SPDX-License-Identifier: Apache-2.0

// Package launcher builds the image of the machines' pods: QEMU, the libraries
// and firmware that it needs, and the launcher that becomes it. Everything is cut
// out of Debian packages; what is in the image is a list, and each optional part
// is a layer of its own.
//
// There must never be a shell, an interpreter or a setuid file in it: whoever
// escapes from a guest finds nothing to run. The build fails if there is.
package launcher
