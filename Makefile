# Skerry. `make demo` shows it, `make test` proves it; both install what they need.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

export SKERRY_VERSION ?= v0.1.0
VERSION := $(SKERRY_VERSION)
K8S_VERSION := v1.37.2
export CGO_ENABLED ?= 0
# One set of flags for build, vet and test, so that Kubernetes is compiled once.
export GOFLAGS ?= -trimpath

BIN := build/bin
# What the upgrade test starts from: this tree with the previous pod contract.
PREVIOUS := build/previous
PREVIOUS_VERSION := v0.0.9
LDFLAGS := -s -w -X github.com/skerry-dev/skerry/internal/version.Version=$(VERSION)
# Without these the embedded Kubernetes reports v0.0.0-master.
K8S_LDFLAGS := $(LDFLAGS) \
	-X k8s.io/component-base/version.gitVersion=$(K8S_VERSION) \
	-X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37 \
	-X k8s.io/client-go/pkg/version.gitVersion=$(K8S_VERSION)

.PHONY: demo test unit e2e campaign build generate lint bench clean deps binaries images guests check failpoints previous

demo: build guests ## from nothing to a command run over ssh in a Debian guest
	hack/demo.sh

test: build guests failpoints previous check ## everything that must hold
	hack/test.sh all

unit: build check ## tests that need no node (root ones run when root)
	hack/test.sh unit

e2e: build guests failpoints previous ## tests on a real node
	hack/test.sh e2e

campaign: build guests failpoints previous ## long runs: every kill, every guest
	hack/test.sh campaign

bench: build guests ## prints a table, writes bench-results.json
	hack/bench.sh

build: deps binaries images

deps:
	@hack/deps.sh

binaries:
	@mkdir -p $(BIN)
	go build -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/...
	cd distro && go build -ldflags '$(K8S_LDFLAGS)' -o ../$(BIN)/ ./cmd/...
	hack/runtime.sh $(BIN)

images: binaries
	go run ./images/build -version $(VERSION)

guests: binaries
	go run ./test/guest/build -out build/test-images

FP := build/failpoints

failpoints: binaries ## the build with failpoints, for tests; only what has them is linked anew
	@mkdir -p $(FP)/bin && ln -sfn ../test-images $(FP)/test-images
	@for f in $(BIN)/*; do case $$f in */skerry|*/skerry-launcher) ;; *) ln -sf ../../bin/$${f##*/} $(FP)/bin/ ;; esac; done
	go build -tags failpoints -ldflags '$(LDFLAGS)' -o $(FP)/bin/ ./cmd/skerry-launcher
	cd distro && go build -tags failpoints -ldflags '$(K8S_LDFLAGS)' -o ../$(FP)/bin/ ./cmd/skerry
	go run ./images/build -version $(VERSION) -launcher $(FP)/bin/skerry-launcher -out $(FP)/images

previous: binaries ## the build that the upgrade test starts from; only what it needs is linked anew
	@mkdir -p $(PREVIOUS)/bin
	@for f in $(BIN)/*; do case $$f in */skerry|*/skerry-launcher) ;; *) ln -sf ../../bin/$${f##*/} $(PREVIOUS)/bin/ ;; esac; done
	go build -tags contract1 -ldflags '$(LDFLAGS:$(VERSION)=$(PREVIOUS_VERSION))' -o $(PREVIOUS)/bin/ ./cmd/skerry-launcher
	cd distro && go build -tags contract1 -ldflags '$(K8S_LDFLAGS:$(VERSION)=$(PREVIOUS_VERSION))' -o ../$(PREVIOUS)/bin/ ./cmd/skerry
	go run ./images/build -version $(PREVIOUS_VERSION) -launcher $(PREVIOUS)/bin/skerry-launcher -out $(PREVIOUS)/images

generate: ## regenerates what is checked in, then fails if that changed anything
	go generate ./api/...
	@git diff --exit-code -- api deploy || { echo "generated files were out of date: commit them" >&2; exit 1; }

check: ## formatting and vet, in all modules
	@test -z "$$(gofmt -l $$(git ls-files '*.go') | tee /dev/stderr)" || { echo "run gofmt -w on these" >&2; exit 1; }
	go vet ./...
	go vet -tags 'root e2e qemu failpoints' ./...
	cd distro && go vet ./...

lint: check ## golangci-lint's default set, built from its Go module at a pinned version
	hack/lint.sh

clean: ## what was built; the caches of packages and guests stay in .cache
	rm -rf build bench-results.json
