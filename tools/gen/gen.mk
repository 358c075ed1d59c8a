# Imports the native schemas from their pinned sources. The tree is unchanged afterwards when they are up to date,
# so `make gen && git diff --exit-code mappings` checks them.
GEN_DIR := $(dir $(lastword $(MAKEFILE_LIST)))
PYTHON ?= python3

.PHONY: gen
gen: ## Import the native schemas from their pinned sources (network)
	$(PYTHON) $(GEN_DIR)vim_schema.py
	$(PYTHON) $(GEN_DIR)libvirt_rpc.py

.PHONY: gen-test
gen-test: ## Test the importers and the committed schemas (no network)
	cd $(GEN_DIR) && $(PYTHON) -m unittest -q test_gen
