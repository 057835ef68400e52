#!/usr/bin/env bash
# Runs the tests of one kind (unit, e2e, campaign, all) and ends with the line
# "N passed, N failed". What each package printed is in build/test/*.json.
set -euo pipefail
cd "$(dirname "$0")/.."
kind=$1
out=build/test
rm -rf $out
mkdir -p $out
status=0

step() { # step NAME COMMAND...: runs `go test -json`-like commands into one file
	local name=$1
	shift
	echo "== $name"
	"$@" >$out/"$name".json || status=1
}

unit() {
	# The race detector needs cgo. Tests with the tag "root" make network
	# namespaces, mounts and the like of their own.
	local tags=
	[ "$(id -u)" -eq 0 ] && tags=root
	CGO_ENABLED=1 step unit go test -json -race -tags "$tags" $(go list ./... | grep -v -e /test/e2e -e /test/bench)
	step distro go -C distro test -json ./...
	step failpoint go test -json -tags failpoints ./internal/failpoint/...
	# The storage pool's process is killed at each of its places.
	[ -z "$tags" ] || step pool go test -json -tags 'root failpoints' -run TestKilled ./internal/pool
	# Every golden machine is started by the QEMU of the launcher image.
	[ -z "$tags" ] || SKERRY_LAUNCHER_IMAGE=$PWD/build/images/launcher.tar step qemu go test -json -tags qemu -run TestQEMU ./internal/machine ./internal/hotplug
}

e2e() {
	step e2e hack/e2e.sh -json "$@"
	step failpoints hack/failpoints.sh -json "$@"
}

case $kind in
unit) unit ;;
e2e) e2e ;;
campaign) SKERRY_CAMPAIGN=1 e2e ;;
all)
	unit
	e2e
	;;
*)
	echo "usage: $0 unit|e2e|campaign|all" >&2
	exit 2
	;;
esac
go run ./hack/testsum $out/*.json || status=1
exit $status
