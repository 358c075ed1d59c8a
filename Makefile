# The one interface to this repository. `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# A run ends with the last tool's own words.
MAKEFLAGS += --no-print-directory

PROFILE ?= debug
cargo_profile := $(if $(filter release,$(PROFILE)),--release,)
HYPERGLOT_BIN ?= $(CURDIR)/target/$(PROFILE)/hyperglot
HYPERGLOT_NATS_SERVER ?= $(CURDIR)/.venv/bin/nats-server
export HYPERGLOT_BIN HYPERGLOT_NATS_SERVER

include tools/gen/gen.mk
include broker/store/store.mk
include tests/simulation/simulation.mk

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{ printf "  make %-15s %s\n", $$1, $$2 }'
	@echo
	@echo "  CHECK=1          with demo: run the sessions, check them, end"
	@echo "  PROFILE=release  with demo, build, clients: the optimised build"
	@echo "  ARGS=...         with clients: more arguments for pytest, for example ARGS='-k power -x'"

.PHONY: packages
packages:
	@tools/setup/packages.sh

.PHONY: setup
setup: packages ## Install what is missing: Debian packages, .venv, govc and vcsim, the test guest
	@tools/setup/python.sh
	@tools/setup/gotools.sh
	@tools/guest/build.sh

.PHONY: build
build: ## Build the hyperglot binary
	cargo build --locked -p hyperglot $(cargo_profile)

.PHONY: demo
demo: setup build ## Real QEMU guests behind a vSphere front, with sessions to copy (CHECK=1: check them and end)
	@.venv/bin/python tools/demo/demo.py $(if $(CHECK),--check,)

.PHONY: test
test: setup build ## Everything: Rust, a simulation, importers, mapping cases, the real clients, faults, attacks
	cargo test --locked --workspace
	$(MAKE) gen-test
	$(MAKE) mappings-check
	$(MAKE) clients
	$(MAKE) faults
	$(MAKE) security

.PHONY: clients
clients: setup build ## The real clients against real guests
	.venv/bin/python -m pytest tests/clients $(ARGS)

.PHONY: faults
faults: setup build ## Processes that die, two management servers, floods
	.venv/bin/python -m pytest tests/faults $(ARGS)

.PHONY: security
security: setup build ## Attackers on the bus and at the fronts
	.venv/bin/python -m pytest tests/security $(ARGS)

.PHONY: mappings-check
mappings-check: build ## Check the mapping files and run their cases
	$(HYPERGLOT_BIN) mapping check mappings
	$(HYPERGLOT_BIN) mapping test mappings

.PHONY: check
check: packages ## Formatting, lints, licences and bans, house rules
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	python3 -m unittest -q tools/check/test_check.py
	python3 tools/check/deny.py
	python3 tools/check/style.py
	cargo run --quiet --locked -p hyperglot -- mapping check mappings

.PHONY: bench
bench: setup ## Figures: rows, commands, recovery, reads, with libvirt, the disk and vcsim beside them (VMS=10000)
	cargo build --locked --release -p hyperglot
	cargo bench --locked -p benches --bench render --bench soap --bench libvirt
	$(MAKE) bench-commands
	$(MAKE) bench-inventory

.PHONY: bench-commands
bench-commands: setup ## Commands from request to client-seen success, 64 in flight, recovery, a flood (ROUNDS=200 SECONDS=5 OPEN=10000)
	cargo build --locked --release -p hyperglot
	HYPERGLOT_BIN=$(CURDIR)/target/release/hyperglot cargo bench --locked -p benches --bench commands
	HYPERGLOT_BIN=$(CURDIR)/target/release/hyperglot cargo bench --locked -p benches --bench recovery
	HYPERGLOT_BIN=$(CURDIR)/target/release/hyperglot nice -n -15 cargo bench --locked -p benches --bench flood

.PHONY: bench-inventory
bench-inventory: setup
	cargo build --locked --release -p hyperglot
	python3 benches/retrieve.py --vms $(or $(VMS),10000) --hyperglot target/release/hyperglot

.PHONY: lab
lab: setup ## A private libvirt with two guests, until Ctrl-C
	@.venv/bin/python tools/demo/lab.py .hyperglot/lab
