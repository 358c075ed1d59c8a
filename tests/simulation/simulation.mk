# Lives more worlds than a test run does: make simulate SEEDS=10000 FROM=5000
.PHONY: simulate
simulate:
	SEEDS=$(or $(SEEDS),10000) FROM=$(or $(FROM),100000) cargo test -q -p simulation --test seeds -- --nocapture
