// SPDX-License-Identifier: Apache-2.0

// Package netns runs a function inside another network namespace.
//
// A thread that has been inside a pod's namespace is never given back to the Go
// scheduler: it ends with the function. So code that runs elsewhere in the
// process can never find itself in a pod's network. The package must never keep
// a namespace open: that is the caller's file.
package netns
