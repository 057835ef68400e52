// SPDX-License-Identifier: Apache-2.0

// Package loopdev attaches files to loop devices, loop(4): the stock kernel's way
// to make a block device of a file.
//
// Devices are the machine's, whatever namespace a process is in, and outlive the
// process that attached them. So each is given a name (at most 63 bytes) by which
// its owner finds it again, also when the file has gone out of sight.
//
// It must never touch a device whose file or name it was not asked for.
package loopdev
