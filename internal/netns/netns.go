// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Do calls f on a thread of its own that has entered the network namespace ns
// (an open nsfs file, such as /proc/PID/ns/net) and waits for it. Sockets that f
// opens stay in that namespace; goroutines that f starts do not enter it.
// The error is f's, or says why the namespace could not be entered.
func Do(ns *os.File, f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread cannot end, and /proc/self would show the pod's
			// namespace for ever. Hold it while another thread does the work.
			defer runtime.UnlockOSThread()
			result <- Do(ns, f)
			return
		}
		// Never unlocked: the thread ends with this goroutine.
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("enter network namespace %s: %w", ns.Name(), err)
			return
		}
		result <- f()
	}()
	return <-result
}
