SEEDS ?= 10000
FROM ?= 100000

.PHONY: simulate
simulate: ## Live worlds of an engine and two agents: SEEDS=10000 of them, FROM=100000 on
	SEEDS=$(SEEDS) FROM=$(FROM) cargo test --locked -q -p simulation --test seeds -- --nocapture
