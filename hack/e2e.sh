#!/usr/bin/env bash
# Runs the end-to-end tests apart from whatever runs on this machine. Arguments go
# to `go test`. SKERRY_E2E_DIR also names the namespace, so that two runs with two
# directories go side by side. KEEP=1 keeps the data directory.
set -euo pipefail
cd "$(dirname "$0")/.."
export SKERRY_BIN=${SKERRY_BIN:-$PWD/build/bin} SKERRY_E2E_DIR=${SKERRY_E2E_DIR:-/var/tmp/skerry-e2e}
exec hack/apart.sh "$(basename "$SKERRY_E2E_DIR")" "$SKERRY_E2E_DIR" go test -tags e2e -count=1 -p=1 -timeout=45m "$@" ./test/e2e/...
