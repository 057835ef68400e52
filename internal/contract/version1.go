// SPDX-License-Identifier: Apache-2.0

//go:build contract1

package contract

// Version is the contract that this build speaks: the previous one. The build
// tag contract1 exists for tests of upgrades, which need a launcher, a controller
// and an agent as they were before, from the same tree.
const Version = 1
