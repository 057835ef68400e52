#!/usr/bin/env bash
# Runs test/bench in a network namespace of its own, beside whatever runs on this machine.
set -euo pipefail
cd "$(dirname "$0")/.."
ns=skerry-bench
export SKERRY_BIN=$PWD/build/bin SKERRY_E2E_DIR=${SKERRY_E2E_DIR:-/var/tmp/skerry-bench}
clean() {
	[ -e /run/netns/$ns ] || return 0
	nsenter --net=/run/netns/$ns build/bin/skerry reset --yes --data-dir "$SKERRY_E2E_DIR/data" --run-dir "$SKERRY_E2E_DIR/run" >/dev/null 2>&1 || true
	ip netns del $ns
	rm -rf "$SKERRY_E2E_DIR"
}
trap clean EXIT
trap 'exit 130' INT TERM
clean
mkdir -p "$SKERRY_E2E_DIR"
ip netns add $ns
nsenter --net=/run/netns/$ns ip link set lo up
nsenter --net=/run/netns/$ns go run ./test/bench
