// SPDX-License-Identifier: Apache-2.0

// Package cniplugin attaches pods to networks by running CNI plugins, as a
// container runtime does for a pod's own network, and detaches them again.
//
// What was begun is written down before a plugin is run, in a directory of the
// runner's own:
//
//	pods/<pod UID>/<interface>.json  configuration, and the result once there is one
//	netns/<pod UID>                  the pod's network namespace, mounted
//	bridges/<name>                   the boot in which the bridge plugin made it
//	leases/, cache/                  host-local's and libcni's
//
// So whoever dies between two steps is followed by one that finds what to undo:
// a record without a result is a plugin that may have done anything up to all of
// its work. The mounted namespace is what DEL is run in when the pod has ended;
// after a reboot there is none, and plugins give back what they keep on disk.
//
// Plugins are looked for in the runner's directories only, run with a deadline,
// without the caller's environment, and may print so much and no more. The package
// must never decide what a configuration may contain (package netattach does), and
// never touch an interface that it has no record of.
package cniplugin
