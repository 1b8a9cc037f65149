# Every target first installs what it lacks (scripts/setup.sh), and costs next to nothing when all
# of it is there.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# rustup's own directory, for shells that have not read its profile yet.
export PATH := $(HOME)/.cargo/bin:$(PATH)

# Options for the demo: make demo DEMO_ARGS='--json demo.json'
DEMO_ARGS ?=
# What shadows of the demo are: process, or docker, on an engine that is started for it and ended after it.
PROVIDER ?= process
# Options for the tests: make test TEST_ARGS='-p foreshadow-mirror'
TEST_ARGS ?=
# Options for criterion: make bench BENCH_ARGS='pick --quick'
BENCH_ARGS ?=

.PHONY: help setup demo test test-k8s test-onnx fuzz check bench bench-capacity bench-forecast bench-policy bench-risk bench-shadows

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 17

setup: ## Install everything that any target needs
	@scripts/setup.sh build test check

demo: ## Build the optimised binary and watch it act on a real load, 3 minutes
	@scripts/setup.sh build $(if $(filter docker,$(PROVIDER)),engine)
	cargo build --profile demo --locked --bin foreshadow
	$(if $(filter docker,$(PROVIDER)),scripts/with-docker.sh) cargo run --profile demo --locked --quiet --bin foreshadow -- demo $(DEMO_ARGS)

test: ## Run the doctests, then all other tests
	@scripts/setup.sh build test
	cargo test --doc --workspace --locked --quiet
	cargo nextest run --workspace --locked $(TEST_ARGS)

# Kept in FORESHADOW_KUBERNETES_DIR, or below XDG_CACHE_HOME; KEEP=1 keeps the logs of a run that failed.
test-k8s: ## Pods on a real API server, built once from Debian's sources (10 min), then 2 min; no kubelet
	@scripts/setup.sh build test
	cargo build -p foreshadow-shadow --locked --test kubernetes
	scripts/test-k8s.sh cargo nextest run -p foreshadow-shadow --locked --test kubernetes --run-ignored only --success-output final $(TEST_ARGS)

test-onnx: ## Networks as experts (feature onnx); not part of test, since it builds 100 crates more
	@scripts/setup.sh build test
	cargo nextest run -p foreshadow-predictor --features onnx --locked --test onnx

# What is found is kept in fuzz/found; what ends badly, in fuzz/artifacts.
fuzz: ## Fuzz what reads foreign text, FUZZ_S seconds each (60); needs cargo-fuzz and a nightly compiler
	@for target in calendar history rule forecaster; do \
		mkdir -p fuzz/found/$$target; samples=; \
		case $$target in \
			calendar) samples="fuzz/corpus/calendar config/tests/calendars" ;; \
			history) samples="fuzz/corpus/access_log fuzz/corpus/csv" ;; \
			rule) samples=fuzz/corpus/rule ;; \
		esac; \
		cargo +nightly fuzz run --fuzz-dir fuzz $$target fuzz/found/$$target $$samples -- \
			-max_total_time=$${FUZZ_S:-60} || exit 1; \
	done

check: ## Format, lints, documentation, dependencies, scripts; no tests
	@scripts/setup.sh build check
	scripts/check-shell.sh
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked --quiet
	scripts/check-dependencies.sh

bench: ## Cost of a tick and of a pick; benches/versus/http.sh compares with nginx and HAProxy
	@scripts/setup.sh build
	cargo bench --locked --bench tick -- $(BENCH_ARGS)
	cargo bench --locked --bench pick -- $(BENCH_ARGS)
	@echo 'Side by side with nginx and HAProxy, needs nginx and wrk: benches/versus/http.sh'

bench-capacity: ## Learned capacity against the truth, 10 min (BENCH_ARGS=--quick: 2), as JSON
	@scripts/setup.sh build >&2
	@cargo build --release --locked --quiet --bin foreshadow
	@cargo run --release --locked --quiet -p foreshadow-bench-capacity -- $(BENCH_ARGS)

# BENCH_ARGS=--no-peers leaves the Python libraries out (1 min); FORESHADOW_PEERS_SECONDS bounds them.
bench-forecast: ## Forecasters on recorded traces (FORESHADOW_TRACES), peers, cost: one JSON object, 8 min
	@scripts/setup.sh build >&2
	@cargo build --release --locked --quiet -p foreshadow-bench-forecast
	@echo '{ "short":' && cargo run --release --locked --quiet -p foreshadow-bench-forecast --bin short
	@echo ', "scale":' && cargo run --release --locked --quiet -p foreshadow-bench-forecast --bin scale
	@echo ', "long":' && cargo run --release --locked --quiet -p foreshadow-bench-forecast --bin long -- $(BENCH_ARGS)
	@echo '}'

bench-policy: ## Violations and cost beside reactive scaling and an oracle, on public traces
	@scripts/setup.sh build >&2
	@cargo run --release --locked --quiet -p foreshadow-bench-policy -- $(BENCH_ARGS)

bench-risk: ## Failures told from labelled recordings, at stated rates of false alarms, as JSON
	@scripts/setup.sh build
	cargo run --release --locked --quiet -p foreshadow-bench-forecast --bin risk -- $(BENCH_ARGS)

# Containers only as root, by an engine that is started for it and ended after it.
bench-shadows: ## Each step of a shadow by provider, kills, an activation and a migration under load, as JSON, 5 min
	@scripts/setup.sh build engine >&2
	@cargo build --release --locked --quiet --bin foreshadow
	@FORESHADOW_BIN=$${CARGO_TARGET_DIR:-target}/release/foreshadow $(if $(filter 0,$(shell id -u)),scripts/with-docker.sh) cargo run --release --locked --quiet -p foreshadow-bench-shadows -- --foreshadow $${CARGO_TARGET_DIR:-target}/release/foreshadow $(BENCH_ARGS)
