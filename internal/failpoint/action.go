// SPDX-License-Identifier: Apache-2.0

package failpoint

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Environment names the directory of a build with failpoints.
const Environment = "SKERRY_FAILPOINTS"

// The directory's parts.
const (
	ArmedDir   = "armed"
	HitsDir    = "hits"
	HangingDir = "hanging"
)

// Kind is what happens at a place.
type Kind string

// Kinds.
const (
	Note  Kind = "note"  // nothing but the file in hits
	Error Kind = "error" // Hit returns an error with the argument as its text
	Delay Kind = "delay" // Hit returns after the argument, such as 200ms
	Crash Kind = "crash" // the process kills itself with SIGKILL
	Exit  Kind = "exit"  // the process exits with the argument as its code
	Hang  Kind = "hang"  // Hit returns when it is let go, or with its context's error
)

// Action is what to do at a place, for the next Count hits.
type Action struct {
	Kind  Kind
	Count int
	Text  string        // of an error
	Time  time.Duration // of a delay
	Code  int           // of an exit
}

const maxCount = 1 << 20

// Parse reads [COUNT*]ACTION[(ARGUMENT)]: "crash", "3*error(no space)",
// "delay(200ms)", "exit(64)", "hang", "note". The count is 1 where it is left out.
func Parse(s string) (Action, error) {
	a := Action{Count: 1}
	rest := strings.TrimSpace(s)
	if count, after, ok := strings.Cut(rest, "*"); ok && !strings.Contains(count, "(") {
		n, err := strconv.Atoi(count)
		if err != nil || n < 1 || n > maxCount {
			return a, fmt.Errorf("failpoint action %q: count %q is not between 1 and %d", s, count, maxCount)
		}
		a.Count, rest = n, after
	}
	kind, arg, hasArg := strings.Cut(rest, "(")
	if hasArg {
		var closed bool
		if arg, closed = strings.CutSuffix(arg, ")"); !closed {
			return a, fmt.Errorf("failpoint action %q: no closing parenthesis", s)
		}
	}
	a.Kind = Kind(kind)
	var err error
	switch a.Kind {
	case Note, Crash, Hang:
		if hasArg {
			err = fmt.Errorf("%s takes no argument", kind)
		}
	case Error:
		a.Text = arg
		if arg == "" {
			a.Text = "injected"
		}
	case Delay:
		if a.Time, err = time.ParseDuration(arg); err == nil && a.Time < 0 {
			err = fmt.Errorf("%s is negative", arg)
		}
	case Exit:
		if a.Code, err = strconv.Atoi(arg); err == nil && (a.Code < 0 || a.Code > 255) {
			err = fmt.Errorf("exit code %d is not between 0 and 255", a.Code)
		}
	default:
		err = fmt.Errorf("%q is none of note, error, delay, crash, exit, hang", kind)
	}
	if err != nil {
		return a, fmt.Errorf("failpoint action %q: %w", s, err)
	}
	return a, nil
}

// String is what Parse reads.
func (a Action) String() string {
	s := strconv.Itoa(a.Count) + "*" + string(a.Kind)
	switch a.Kind {
	case Error:
		s += "(" + a.Text + ")"
	case Delay:
		s += "(" + a.Time.String() + ")"
	case Exit:
		s += "(" + strconv.Itoa(a.Code) + ")"
	}
	return s
}
