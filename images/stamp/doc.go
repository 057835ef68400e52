// SPDX-License-Identifier: Apache-2.0

// Package stamp remembers what an output was made from, so that a build
// program can tell at once that there is nothing to do. It decides by content,
// never by the inputs' times, which a fresh checkout changes.
//
// It must never be the only record of anything: removing a stamp costs time and
// nothing else.
package stamp
