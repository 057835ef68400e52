// SPDX-License-Identifier: Apache-2.0

// Package box tests what happens to the machine that Skerry runs on, end to end:
// it reboots, its power is cut, its disk fills up, its certificates end. The node
// is the package's own and is taken down and up by every test, so the tests do
// not run side by side.
//
// A reboot is played inside the test's own network and mount namespaces, see
// reboot: nothing else on this machine notices.
package box
