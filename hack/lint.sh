#!/usr/bin/env bash
# golangci-lint's default linters, built from its Go module at a pinned version.
set -euo pipefail
cd "$(dirname "$0")/.."
version=v2.15.0
bin=$PWD/.cache/golangci-lint-$version
[ -x "$bin/golangci-lint" ] || GOFLAGS= GOBIN=$bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$version
"$bin/golangci-lint" run --build-tags root,e2e ./...
cd distro && "$bin/golangci-lint" run ./...
