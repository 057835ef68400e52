// SPDX-License-Identifier: Apache-2.0

// Package witness is the test's half of the witness in the tiny guest (the other
// is test/guest/tiny/src/witness.c): a program that says, in the guest's own
// words, whether the guest stood still, lost a write or began anew.
//
// A machine gets a disk for it by AddDisk before it is created. In its shell, or
// over TCP by Ask while nobody serves the console, these commands are understood:
//
//	witness start            leaves it running; harmless when it runs
//	witness report           counters, boot and longest heartbeat gap (ParseReport)
//	witness reset            the same, and forgets the longest gap
//	witness verify           reads the disk's log back (ParseVerify, Verify.Check)
//	witness beats IP PORT ID a datagram for each heartbeat (Listener)
//	witness print BYTES      numbered lines on the console
//	witness poweroff         at once
//	witness panic            a kernel panic
//
// It beats every 10 ms by the guest's clock. That clock stands still with the
// machine when QEMU stops it on purpose (pause, renewal): such a gap is seen
// better by a Listener. Gaps are compared with those of a guest that was left in
// peace in the same run, never with a fixed bound.
//
// The log is on a disk with the serial number WITNESS: numbered, checksummed
// blocks of 4096 bytes in a ring, written with O_DIRECT and O_DSYNC. What the guest
// called acknowledged must be there, whole and without gaps: in the guest's eyes
// (verify) and from outside (ReadLog of the raw disk, or of a qcow2 file by
// OpenQcow2). A guest that starts on a disk with a log goes on with the next number.
//
// Traffic exchanges datagrams and a TCP stream with the guest's echo ports and
// counts what did not come back.
//
// In test/e2e, startWitness and the methods of what it returns do all of that over
// the machine's console.
//
// The package must never hide a difference: what does not parse is an error.
package witness
