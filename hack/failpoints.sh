#!/usr/bin/env bash
# Runs the tests that inject errors and deaths at failpoints (package
# internal/failpoint), with the build that has them (`make failpoints`). Arguments
# go to `go test`. As hack/e2e.sh it runs apart from whatever runs on this machine.
set -euo pipefail
cd "$(dirname "$0")/.."
export SKERRY_BIN=${SKERRY_BIN:-$PWD/build/failpoints/bin} SKERRY_E2E_DIR=${SKERRY_E2E_DIR:-/var/tmp/skerry-failpoints}
export SKERRY_FAILPOINTS=$SKERRY_E2E_DIR/failpoints
exec hack/apart.sh "$(basename "$SKERRY_E2E_DIR")" "$SKERRY_E2E_DIR" \
	go test -tags 'e2e failpoints' -count=1 -timeout=3h -run '^TestFailpoint' "$@" ./test/e2e
