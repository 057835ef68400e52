// SPDX-License-Identifier: Apache-2.0

//go:build !contract1

package contract

// Version is the contract that this build speaks. 2 added NextVolume,
// Machine.Next and the launcher's verb renew, 3 claims.
const Version = 3
