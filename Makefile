SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# What tests and the demo build: optimised, without the cost of LTO.
PROFILE ?= ci
TARGET := $(or $(CARGO_TARGET_DIR),target)
BIN := $(TARGET)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))

help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z0-9-]+:.*## / { printf "  \033[1m%-16s\033[0m %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ Use

demo: ## Run the AI pipeline and break it (KEEP=1 stays up; DOCS=folder; ASK="question"; CLUSTER=1: on a real Kubernetes, as root)
	@$(MAKE) $(if $(CLUSTER),demo-cluster,demo-laptop)

demo-laptop: build
	@hack/setup demo
	@KONTROL_BIN_DIR=$(abspath $(BIN)) hack/run-demo

# With a test, for the features that `make e2e` has.
demo-cluster:
	@hack/setup demo-cluster
	@echo "==> building kontrol and kontrol-cluster (profile $(PROFILE))"
	@cargo build --locked --profile $(PROFILE) --workspace --bin kontrol --bin kontrol-cluster --test cluster
	@KONTROL_BIN_DIR=$(abspath $(BIN)) KONTROL_CLUSTER_PROGRAM=$(abspath $(CLUSTER_PROGRAM)) hack/run-demo-cluster

build: ## Build the programs into target/ci
	@echo "==> building kontrol, kontrol-sidecar and kontrol-shim (profile $(PROFILE))"
	@cargo build --locked --profile $(PROFILE) --bins -p kontrol-cli -p kontrol-sidecar -p kontrol-shim -p kontrol-e2e

##@ Work on it

test: export KONTROL_SKIPPED := $(abspath target/skipped.txt)
test: ## Run all tests that need no cluster
	@hack/setup test
	@mkdir -p target && rm -f $(KONTROL_SKIPPED)
	@echo "==> building the programs and the tests (profile $(PROFILE))"
	@cargo build --locked --workspace --all-targets --profile $(PROFILE)
	@echo "==> tests"
	@KONTROL_BIN_DIR=$(abspath $(BIN)) cargo nextest run --locked --workspace --cargo-profile $(PROFILE) --no-fail-fast
	@echo "==> documentation tests"
	@cargo test --locked --doc --workspace --profile $(PROFILE) --quiet
	@cargo nextest list --locked --workspace --cargo-profile $(PROFILE) -T json >target/run.json
	@cargo nextest list --locked --workspace --cargo-profile $(PROFILE) -T json --ignore-default-filter >target/all.json
	@hack/skipped target/run.json target/all.json

lint: crds-check ## Check formatting, lints, generated files and dependencies
	cargo fmt --all -- --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny --offline check bans licenses sources; else echo "skipped: cargo-deny is not installed (cargo install --locked cargo-deny)"; fi
	hack/chart-check

crds: ## Generate crds/manifests, docs/reference.md, docs/rbac.md and the chart's part of them from the types
	cargo run --locked --quiet -p kontrol-crds --bin crdgen
	python3 hack/chart/generate.py

crds-check: crds ## Fail where the generated files are stale
	@git diff --exit-code --stat -- crds/manifests docs/reference.md docs/rbac.md charts/kontrol || { echo "the generated files above were stale: commit them"; exit 1; }

bench: ## Measure, into target/bench/results.json (BENCH=prefix runs a part)
	@echo "==> building (profile release)"
	@cargo build --locked --release --bins -p kontrol-cli -p kontrol-sidecar -p kontrol-shim -p kontrol-e2e
	@KONTROL_BIN_DIR=$(abspath $(TARGET)/release) $(TARGET)/release/kontrol-bench --out target/bench/results.json $(if $(BENCH),--only $(BENCH))

##@ A real Kubernetes on this machine (as root; docs/cluster.md)

# The newest Kubernetes that is built here, or the oldest supported one: K8S=1.33.
export K8S ?= 1.36
CLUSTER_PROGRAM := $(TARGET)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/kontrol-cluster

# With a test, so that it has the features of `make test` and `make e2e`, and no dependency is built twice.
cluster-program:
	@echo "==> building kontrol-cluster (profile $(PROFILE))"
	@cargo build --locked --profile $(PROFILE) --workspace --bin kontrol-cluster --test cluster

cluster: cluster-program ## Start a cluster of two nodes (CLUSTER_FLAGS='--gpus node1=2 --kwok 100')
	@hack/setup cluster
	@$(CLUSTER_PROGRAM) up $(CLUSTER_FLAGS)

cluster-down: cluster-program ## End the cluster and remove all that it has made
	@$(CLUSTER_PROGRAM) down

images: cluster-program ## Make the images into target/images (IMAGES='kontrol-sidecar'; RELEASE=1 for the small ones)
	@$(CLUSTER_PROGRAM) images $(if $(RELEASE),--release) $(IMAGES)

example-images: cluster-program ## Make the examples' images into target/images (EXAMPLES='ai-pipeline'; DOCS=folder)
	@KONTROL_CLUSTER_PROGRAM=$(abspath $(CLUSTER_PROGRAM)) hack/example-images $(TARGET)/images $(EXAMPLES)

e2e: ## Run the tests on a cluster of its own (E2E='name' runs a part; KEEP=1 leaves the cluster up)
	@hack/setup e2e
	@KONTROL_CLUSTER_PROGRAM=$(abspath $(CLUSTER_PROGRAM)) PROFILE=$(PROFILE) hack/run-e2e $(E2E)

clean: ## Remove what was built and what the examples left
	cargo clean
	rm -rf examples/*/.kontrol

.PHONY: help demo demo-laptop demo-cluster build test lint crds crds-check bench cluster-program cluster cluster-down images example-images e2e clean
