// SPDX-License-Identifier: Apache-2.0

// Package debroot makes root file systems out of Debian packages with
// mmdebstrap and keeps them in a cache directory, so that the next build with
// the same recipe needs neither time nor a network. Which mirror is used is a
// property of the machine (its apt configuration or the environment), never of
// the recipe.
//
// It runs at build time only; nothing in it may end up in a Skerry binary.
package debroot
