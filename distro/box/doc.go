// SPDX-License-Identifier: Apache-2.0

// Package box judges the machine that the cluster runs on: is its disk almost
// full, its memory short, its clock wrong, are its certificates about to end?
// Each judgement is a condition with a message that says what a person should do.
//
// It only judges: it must never read a file or a clock, nor talk to the API.
package box
