// SPDX-License-Identifier: Apache-2.0

// Package version holds this build's version. The linker sets it.
package version

// Version is a semantic version with a leading "v".
var Version = "v0.0.0-dev"
