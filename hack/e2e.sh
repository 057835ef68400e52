#!/usr/bin/env bash
# Runs the end-to-end tests in a network namespace of their own, so that they
# neither see nor disturb a cluster that runs on this machine. Arguments go to
# `go test`. KEEP=1 keeps the data directory.
set -euo pipefail
cd "$(dirname "$0")/.."
ns=skerry-e2e
dir=${SKERRY_E2E_DIR:-/var/tmp/skerry-e2e}
export SKERRY_BIN=$PWD/build/bin SKERRY_E2E_DIR=$dir
exec 9>"$dir.lock"
flock -n 9 || { echo "another end-to-end run holds $dir.lock" >&2; exit 1; }

in_ns() { nsenter --net=/run/netns/$ns "$@"; }
clean() {
	[ -e /run/netns/$ns ] || return 0
	in_ns build/bin/skerry reset --yes --data-dir "$dir/data" --run-dir "$dir/run" >/dev/null 2>&1 || true
	ip netns del $ns || true
	[ -n "${KEEP:-}" ] || rm -rf "$dir"
}
trap clean EXIT
trap 'exit 130' INT TERM
clean
mkdir -p "$dir"
ip netns add $ns
in_ns ip link set lo up
in_ns go test -tags e2e -count=1 -timeout=45m "$@" ./test/e2e/...
