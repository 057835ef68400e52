// SPDX-License-Identifier: Apache-2.0

// Package runtime only pins the versions of containerd and of the CNI plugins
// that go with Skerry, in a module of its own, so that they and Kubernetes are
// each built with the dependencies they were tested with. hack/runtime.sh builds
// them.
package runtime
