// SPDX-License-Identifier: Apache-2.0

package node

import (
	"strings"
	"unicode"
)

// maxNote keeps texts within what an Event's note may have (1024 bytes).
const maxNote = 900

// printable makes a text that came from a pod or an image fit for a condition or
// a log: one line, no control characters, not too long.
func printable(s string) string {
	if len(s) > 4*maxNote {
		s = s[:4*maxNote]
	}
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r), r == unicode.ReplacementChar:
			return -1
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxNote {
		s = strings.ToValidUTF8(s[:maxNote], "") + "…"
	}
	return s
}
