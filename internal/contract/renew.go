// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"fmt"
	"strconv"
	"time"
)

// Files and sockets in RunDir while QEMU is replaced.
const (
	// RenewState is what the QEMU that goes leaves to the one that comes.
	RenewState = "renew.state"
	// RenewResult holds a Renewed once the launcher has decided.
	RenewResult = "renew.json"
	// RehearsalDir is where the rehearsed QEMU has its sockets, so that nobody
	// takes it for the machine's.
	RehearsalDir = "rehearsal"
	// RehearsalSocket is its monitor, in RehearsalDir, that the launcher asks.
	RehearsalSocket = ShutdownQMPSocket
)

// RenewVerb is the launcher's verb that a QEMU execs which is replaced.
const RenewVerb = "renew"

// Renewal is what the launcher is told then: to try Rehearsal, and to become New
// if that took the machine's state over within Limit, otherwise to become Old.
// All three are commands with their arguments.
type Renewal struct {
	Limit               time.Duration
	Rehearsal, New, Old []string
}

// Renewed says why the launcher became Old again; Error is empty if it did not.
type Renewed struct {
	Error string `json:"error,omitempty"`
}

// Args are the launcher's arguments, the verb first.
func (r Renewal) Args() []string {
	args := []string{
		RenewVerb, strconv.FormatInt(r.Limit.Milliseconds(), 10),
		strconv.Itoa(len(r.Rehearsal)), strconv.Itoa(len(r.New)),
	}
	args = append(args, r.Rehearsal...)
	args = append(args, r.New...)
	return append(args, r.Old...)
}

// ParseRenewal reads what Args made.
func ParseRenewal(args []string) (Renewal, error) {
	if len(args) < 4 || args[0] != RenewVerb {
		return Renewal{}, fmt.Errorf("arguments: expected %s MILLISECONDS COUNT COUNT and three commands", RenewVerb)
	}
	numbers := [3]int{}
	for i := range numbers {
		n, err := strconv.Atoi(args[i+1])
		if err != nil || n < 1 {
			return Renewal{}, fmt.Errorf("argument %d %.40q: must be a number from 1 on", i+1, args[i+1])
		}
		numbers[i] = n
	}
	rest := args[4:]
	if numbers[1] > len(rest) || numbers[2] > len(rest)-numbers[1]-1 {
		return Renewal{}, fmt.Errorf("arguments: %d words for commands of %d and %d words and a third", len(rest), numbers[1], numbers[2])
	}
	a, b := numbers[1], numbers[1]+numbers[2]
	return Renewal{Limit: time.Duration(numbers[0]) * time.Millisecond, Rehearsal: rest[:a:a], New: rest[a:b:b], Old: rest[b:]}, nil
}
