// SPDX-License-Identifier: Apache-2.0

// Package cli is the skerry command: one file per subcommand, and the names
// other than skerry that the binary answers to.
//
// It must hold no logic of its own beyond flags and what is printed.
package cli
