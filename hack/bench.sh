#!/usr/bin/env bash
# Runs test/bench apart from whatever runs on this machine.
set -euo pipefail
cd "$(dirname "$0")/.."
export SKERRY_BIN=${SKERRY_BIN:-$PWD/build/bin} SKERRY_E2E_DIR=${SKERRY_E2E_DIR:-/var/tmp/skerry-bench}
exec hack/apart.sh skerry-bench "$SKERRY_E2E_DIR" go run ./test/bench
