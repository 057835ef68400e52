// SPDX-License-Identifier: Apache-2.0

// Package e2e tests Skerry end to end on one real node: the real skerry binary
// brings up the embedded cluster in a data directory of its own, and real guests
// boot in it. The guest is the witness: what is asserted is what the guest saw or
// wrote, not a status field that we set ourselves.
//
// hack/e2e.sh runs it as root in a network namespace of its own, so that it
// neither sees nor disturbs a cluster that runs on the same machine.
package e2e
