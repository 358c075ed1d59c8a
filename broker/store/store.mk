# The store's own targets. `make test` tries 10,000 crash images; this tries as many as there is time for.
CRASH_IMAGES ?= 100000

.PHONY: crash
crash: ## Power losses at any moment: 100,000 disk images (CRASH_IMAGES=...)
	HYPERGLOT_CRASH_IMAGES=$(CRASH_IMAGES) cargo test --locked -p store --lib -- tests::crash
