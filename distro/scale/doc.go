// SPDX-License-Identifier: Apache-2.0

// Command scale measures Skerry's controllers with many simulated machines: the API
// server and the controllers are the real ones, each in a process of its own; the
// scheduler, the kubelet and the node agent are goroutines that do to the API what
// the real ones do. It prints one JSON object per line, as in bench-results.json.
//
// docs/scale.md tells what came out. It is never part of what is shipped.
package main
