# Everything one does with the project. `make help` lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO_DENY_VERSION := 0.20.2
# Tools that are built once live here; the source tree stays clean.
CACHE ?= $(shell d="$${XDG_CACHE_HOME:-$$HOME/.cache}/millstream"; if mkdir -p "$$d" 2>/dev/null && [ -w "$$d" ]; then echo "$$d"; else echo "$(CURDIR)/target/tools"; fi)
DENY := $(CACHE)/bin/cargo-deny-$(CARGO_DENY_VERSION)
COLLECTOR_VERSION := 0.155.0
COLLECTOR := $(CACHE)/bin/otelcol-$(COLLECTOR_VERSION)
COLLECTOR_BUILD := $(CACHE)/otelcol-build
MINIO_VERSION := v0.0.0-20260212201848-7aac2a2c5b7c
MINIO := $(CACHE)/bin/minio-$(MINIO_VERSION)
MINIO_BUILD := $(CACHE)/minio-build
TOXIPROXY_VERSION := v2.12.0
TOXIPROXY := $(CACHE)/bin/toxiproxy-$(TOXIPROXY_VERSION)
TOXIPROXY_BUILD := $(CACHE)/toxiproxy-build
# Tests find them here.
export MILLSTREAM_OTELCOL := $(COLLECTOR)
export MILLSTREAM_MINIO := $(MINIO)
export MILLSTREAM_TOXIPROXY := $(TOXIPROXY)
CARGO := cargo
DEV_ARGS ?=
QUERY ?= q0
QUERIES ?=
SEED ?=
COUNT ?= 1000
FROM ?= 1
BUG_COUNT ?= 40
SECONDS ?= 600
SIZES ?= 100MB,1GB,5GB

.PHONY: help deps tools build dev cluster test verify sim soak chaos fix bless load bench growth figures

help: ## List the goals
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /  \1\t/' | expand -t 12

deps: ## Install what a fresh Debian machine lacks: clang and mold
	@command -v cargo >/dev/null || { echo "error: cargo is missing; install Rust with rustup, then run this again" >&2; exit 1; }
	@missing=(); \
	for tool in clang mold; do command -v $$tool >/dev/null || missing+=($$tool); done; \
	if [ $${#missing[@]} -eq 0 ]; then exit 0; fi; \
	command -v apt-get >/dev/null || { echo "error: $${missing[*]} missing; install with your system's package manager" >&2; exit 1; }; \
	run=(); if [ "$$(id -u)" -ne 0 ]; then \
	  command -v sudo >/dev/null || { echo "error: $${missing[*]} missing; as root run: apt-get install $${missing[*]}" >&2; exit 1; }; \
	  run=(sudo); \
	fi; \
	"$${run[@]}" apt-get update -qq; \
	"$${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$${missing[@]}"

tools: deps $(DENY) $(COLLECTOR) $(MINIO) $(TOXIPROXY) ## Build the pinned tools that tests use, once

$(DENY):
	@echo "building cargo-deny $(CARGO_DENY_VERSION), once"
	@mkdir -p $(CACHE)/bin
	$(CARGO) install cargo-deny --version $(CARGO_DENY_VERSION) --locked --quiet --root $(CACHE)/deny-$(CARGO_DENY_VERSION) --target-dir $(CACHE)/deny-target
	@rm -rf $(CACHE)/deny-target
	@ln -sf $(CACHE)/deny-$(CARGO_DENY_VERSION)/bin/cargo-deny $@

# What a build that was cut short has left is taken away first: of a module of which some files are missing
# the next one would not say so, but fail.
#
# The collector's own builder makes it from a list of its parts. Checking out changes the list's
# time, so only a new version builds again.
$(COLLECTOR): | tests/collector/builder.yaml
	@command -v go >/dev/null || { echo "error: go is missing; install Go (https://go.dev/dl), then run this again" >&2; exit 1; }
	@grep -q 'otlpreceiver v$(COLLECTOR_VERSION)$$' $| || { echo "error: $| is not about version $(COLLECTOR_VERSION)" >&2; exit 1; }
	@echo "building the OpenTelemetry Collector $(COLLECTOR_VERSION), once"
	@rm -rf $(COLLECTOR_BUILD)
	@mkdir -p $(CACHE)/bin $(COLLECTOR_BUILD)
	@cp $| $(COLLECTOR_BUILD)/builder.yaml
	@cd $(COLLECTOR_BUILD); \
	export GOPATH=$$PWD/path GOCACHE=$$PWD/cache GOFLAGS=-modcacherw GOBIN=$$PWD CGO_ENABLED=0; \
	go install go.opentelemetry.io/collector/cmd/builder@v$(COLLECTOR_VERSION) >log 2>&1 && ./builder --config builder.yaml >>log 2>&1 \
	  || { tail -n 20 log >&2; echo "error: failed to build the OpenTelemetry Collector" >&2; exit 1; }
	@cp $(COLLECTOR_BUILD)/out/otelcol $@.new
	@mv $@.new $@
	@rm -rf $(COLLECTOR_BUILD)

# An S3 server for tests. Its Go caches are larger than it is, and nothing else needs them.
$(MINIO):
	@command -v go >/dev/null || { echo "error: go is missing; install Go (https://go.dev/dl), then run this again" >&2; exit 1; }
	@echo "building MinIO $(MINIO_VERSION), once: about five minutes"
	@rm -rf $(MINIO_BUILD)
	@mkdir -p $(CACHE)/bin $(MINIO_BUILD)
	@cd $(MINIO_BUILD); \
	export GOPATH=$$PWD/path GOCACHE=$$PWD/cache GOFLAGS=-modcacherw GOBIN=$$PWD CGO_ENABLED=0; \
	go install github.com/minio/minio@$(MINIO_VERSION) >log 2>&1 \
	  || { tail -n 20 log >&2; echo "error: failed to build MinIO" >&2; exit 1; }
	@cp $(MINIO_BUILD)/minio $@.new
	@mv $@.new $@
	@rm -rf $(MINIO_BUILD)

# A proxy that holds connections up and cuts them.
$(TOXIPROXY):
	@command -v go >/dev/null || { echo "error: go is missing; install Go (https://go.dev/dl), then run this again" >&2; exit 1; }
	@echo "building Toxiproxy $(TOXIPROXY_VERSION), once"
	@rm -rf $(TOXIPROXY_BUILD)
	@mkdir -p $(CACHE)/bin $(TOXIPROXY_BUILD)
	@cd $(TOXIPROXY_BUILD); \
	export GOPATH=$$PWD/path GOCACHE=$$PWD/cache GOFLAGS=-modcacherw GOBIN=$$PWD CGO_ENABLED=0; \
	go install github.com/Shopify/toxiproxy/v2/cmd/server@$(TOXIPROXY_VERSION) >log 2>&1 \
	  || { tail -n 20 log >&2; echo "error: failed to build Toxiproxy" >&2; exit 1; }
	@cp $(TOXIPROXY_BUILD)/server $@.new
	@mv $@.new $@
	@rm -rf $(TOXIPROXY_BUILD)

build: deps ## Build the release binaries: target/release/millstream and loadtest
	$(CARGO) build --release --locked -p millstream -p loadtest

dev: deps ## Start everything in one process with a demo job; Ctrl-C stops it
	@$(CARGO) build --locked --bin millstream
	@exec $${CARGO_TARGET_DIR:-target}/debug/millstream dev --demo $(DEV_ARGS)

cluster: deps ## Start 3 control-plane, 2 worker and 2 state-node processes here; Ctrl-C stops them
	@$(CARGO) build --locked --bin millstream
	@MILLSTREAM=$${CARGO_TARGET_DIR:-target}/debug/millstream exec scripts/cluster

test: tools verify ## All tests, after installing what they need

verify: ## All checks; changes nothing
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) fetch --locked --quiet
	$(DENY) --offline --locked check bans licenses sources
	$(CARGO) test --workspace --locked
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked --quiet

# Of the whole workspace though one test is run: what other packages want of a library is built anyway, and
# with less wanted it would be built again.
ONE_TEST := $(CARGO) test --workspace --locked
# Simulations are long: their code is worth optimising a little.
SOAK := CARGO_PROFILE_DEV_OPT_LEVEL=1 $(ONE_TEST) --features sim/planted --test sim --

sim: deps ## Run one simulated cluster again, by its seed: make sim SEED=7, and with a planted bug BUG=name
	@[ -n "$(SEED)" ] || { echo "error: which one? make sim SEED=7" >&2; exit 1; }
	$(ONE_TEST) $(if $(BUG),--features sim/planted) --test sim -- --seed $(SEED) $(if $(BUG),--bug $(BUG)) $(if $(LOG),--log $(LOG)) $(if $(KEEP),--keep $(KEEP))

soak: deps ## Run COUNT=1000 simulated clusters, then plant bugs and tell how many are caught
	$(SOAK) --from $(FROM) --count $(COUNT)
	$(SOAK) --from $(FROM) --count $(BUG_COUNT) --bug all

chaos: tools ## Disturb a cluster of real processes for SECONDS=600, over a real store; SEED=7 draws the same again
	MILLSTREAM_CHAOS_SECONDS=$(SECONDS) MILLSTREAM_CHAOS_SEED=$(SEED) \
	  $(ONE_TEST) --test e2e -- cluster::chaos --nocapture

fix: ## Format, and apply what clippy can
	$(CARGO) clippy --workspace --all-targets --fix --allow-dirty --allow-staged
	$(CARGO) fmt --all

bless: ## Take the present output of golden tests as the right one; read the diff
	UPDATE_EXPECT=1 INSTA_UPDATE=always $(CARGO) test --workspace --locked

load: build ## Run a load test: make load QUERY=q5, or with durable state: make load QUERY=q5 DATA_DIR=/tmp
	$${CARGO_TARGET_DIR:-target}/release/loadtest nexmark --query $(QUERY) $(if $(DATA_DIR),--data-dir $(DATA_DIR))

bench: build ## Run all queries of Nexmark, QUERIES=q4,q9 or all; the table goes to loadtest/results
	$${CARGO_TARGET_DIR:-target}/release/loadtest bench --results loadtest/results $(if $(QUERIES),--queries $(QUERIES)) $(if $(DATA_DIR),--data-dir $(DATA_DIR))

growth: build ## Run queries of Nexmark over more and more events; the table goes to loadtest/results
	$${CARGO_TARGET_DIR:-target}/release/loadtest growth --results loadtest/results $(if $(QUERIES),--queries $(QUERIES)) $(if $(DATA_DIR),--data-dir $(DATA_DIR))

figures: build ## Measure what README has a table of: recovery, rescale, fork at SIZES=100MB,1GB,5GB, and the others
	@for run in "recovery --state-bytes $(SIZES)" "recovery --hang" "rescale --state-bytes $(SIZES)" "fork --state-bytes $(SIZES)" checkpoint bigstate autoscale; do \
	  $${CARGO_TARGET_DIR:-target}/release/loadtest $$run $(if $(DATA_DIR),--data-dir $(DATA_DIR)); \
	done
