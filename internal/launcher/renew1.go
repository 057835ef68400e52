// SPDX-License-Identifier: Apache-2.0

//go:build contract1

package launcher

import "errors"

// Renew does not exist in contract 1.
func Renew(Config, []string) error { return errors.New("not known in contract 1") }
