// SPDX-License-Identifier: Apache-2.0

//go:build !failpoints

package failpoint

import "context"

// Enabled says whether this build has failpoints.
const Enabled = false

// Hit does nothing in this build.
func Hit(context.Context, string) error { return nil }
