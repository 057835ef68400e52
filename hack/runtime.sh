#!/usr/bin/env bash
# Builds containerd, its shim, ctr and the CNI plugins, at the versions that
# runtime/go.mod pins, into the directory $1. Its directory cni has the plugins that
# NetworkAttachmentDefinitions may name, and nothing else.
set -euo pipefail
cd "$(dirname "$0")/../runtime"
out=$(realpath "../$1")
export CGO_ENABLED=0
version=$(go list -m -f '{{.Version}}' github.com/containerd/containerd/v2)
go build -ldflags "-s -w -X github.com/containerd/containerd/v2/version.Version=$version" -o "$out/" \
	github.com/containerd/containerd/v2/cmd/{containerd,containerd-shim-runc-v2,ctr}
go build -ldflags '-s -w' -o "$out/" \
	github.com/containernetworking/plugins/plugins/{main/bridge,ipam/host-local,meta/portmap}
mkdir -p "$out/cni"
go build -ldflags '-s -w' -o "$out/cni/" \
	github.com/containernetworking/plugins/plugins/{main/{bridge,macvlan},ipam/{host-local,static}}
