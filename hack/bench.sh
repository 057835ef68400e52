#!/usr/bin/env bash
# Runs test/bench apart from whatever runs on this machine. Arguments name the parts:
# start, idle, machines, memory, density, gap, resize, scale; without any, all run.
set -euo pipefail
cd "$(dirname "$0")/.."
# The pause image has the version as its tag.
: "${SKERRY_VERSION:?run this by make bench}"
export SKERRY_BIN=${SKERRY_BIN:-$PWD/build/bin} SKERRY_E2E_DIR=${SKERRY_E2E_DIR:-/var/tmp/skerry-bench}
exec hack/apart.sh "$(basename "$SKERRY_E2E_DIR")" "$SKERRY_E2E_DIR" go run ./test/bench "$@"
