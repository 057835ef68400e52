// SPDX-License-Identifier: Apache-2.0

// Package failpoint has named places in the code at which a test can inject an
// error, a delay, a standstill or the death of the process.
//
// A place is a call of Hit with a literal name, between two steps that another
// process could see:
//
//	if err := failpoint.Hit(ctx, "agent.start.before-machine-json"); err != nil {
//		return err
//	}
//
// Names are unique in the whole source and read area.noun.before-verb or
// area.noun.after-verb; `go run ./internal/failpoint/list` prints them all.
//
// Without the build tag "failpoints" Hit is an empty function: a production build
// reads nothing and can do nothing. With the tag, and SKERRY_FAILPOINTS naming a
// directory, Hit looks there each time it is called, so a test arms a running
// process, also one in another mount namespace that has the directory:
//
//	armed/<name>     what to do there: [COUNT*]ACTION[(ARGUMENT)], see Parse
//	hits/<name>.<n>  one file per hit of an armed place, with the process's PID
//	hanging/<name>   is there while a process hangs at the place; remove it to let go
//
// Each hit takes one off the count before it acts, so that a process that was
// killed at a place passes it when it is started again. Package failpoint/arm is
// the tests' side of that directory.
//
// It must never be a way to configure anything.
package failpoint
