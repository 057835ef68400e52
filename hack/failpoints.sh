#!/usr/bin/env bash
# Builds Skerry with failpoints (package internal/failpoint) beside the ordinary
# build, for tests alone: only what has failpoints is linked anew. With arguments it
# then runs `go test` with them on a node of that build.
set -euo pipefail
cd "$(dirname "$0")/.."
out=build/failpoints
mkdir -p $out/bin
go build -tags failpoints -ldflags "$LDFLAGS" -o $out/bin/ ./cmd/skerry-launcher
(cd distro && go build -tags failpoints -ldflags "$K8S_LDFLAGS" -o ../$out/bin/ ./cmd/skerry)
for f in build/bin/*; do
	name=${f##*/}
	[ -e "$out/bin/$name" ] || ln -s "../../bin/$name" "$out/bin/$name"
done
ln -sfn ../test-images $out/test-images
go run ./images/build -version "$SKERRY_VERSION" -launcher $out/bin/skerry-launcher -out $out/images
