// SPDX-License-Identifier: Apache-2.0

package failpoint

import (
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]Action{
		"crash":              {Kind: Crash, Count: 1},
		" 3*crash\n":         {Kind: Crash, Count: 3},
		"error(no space)":    {Kind: Error, Count: 1, Text: "no space"},
		"error":              {Kind: Error, Count: 1, Text: "injected"},
		"2*error(2*2 is 4)":  {Kind: Error, Count: 2, Text: "2*2 is 4"},
		"error(2*2)":         {Kind: Error, Count: 1, Text: "2*2"},
		"delay(200ms)":       {Kind: Delay, Count: 1, Time: 200 * time.Millisecond},
		"exit(64)":           {Kind: Exit, Count: 1, Code: 64},
		"hang":               {Kind: Hang, Count: 1},
		"5*note":             {Kind: Note, Count: 5},
		"1048576*delay(1h)":  {Kind: Delay, Count: 1 << 20, Time: time.Hour},
		"7*error(a(b)c)":     {Kind: Error, Count: 7, Text: "a(b)c"},
		"exit(0)":            {Kind: Exit, Count: 1},
		"1*delay(0)":         {Kind: Delay, Count: 1},
		"10*exit(255)":       {Kind: Exit, Count: 10, Code: 255},
		"\t1*error(x y, z) ": {Kind: Error, Count: 1, Text: "x y, z"},
	} {
		got, err := Parse(in)
		if err != nil || got != want {
			t.Errorf("%q: got %+v, %v, want %+v", in, got, err, want)
		}
		if again, err := Parse(got.String()); err != nil || again != got {
			t.Errorf("%q: String %q is read as %+v, %v", in, got, again, err)
		}
	}
	for _, in := range []string{"", "boom", "0*crash", "-1*crash", "x*crash", "crash(1)", "delay", "delay(-1s)", "exit(256)", "exit", "error(x", "1048577*crash", "hang(1)"} {
		if got, err := Parse(in); err == nil {
			t.Errorf("%q: got %+v, want an error", in, got)
		}
	}
}
