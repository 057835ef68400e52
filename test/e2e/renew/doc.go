// SPDX-License-Identifier: Apache-2.0

// Package renew replaces QEMU under running guests, end to end, on a node of its
// own that is started anew with newer launcher images. It must never look at the
// time that something took to tell whether it is right.
package renew
