# Holdfast. `make run` starts a server; `make quick` before a commit; `make test` is everything.

SHELL   := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build

# Where `make run` listens, and where it keeps its data.
LISTEN ?= 127.0.0.1:8443
DATA   ?= data
MIRROR ?= data-mirror
# How long `make crash` goes on, and how long `make fuzz` stays with each target.
CRASH_MINUTES ?= 10
FUZZ_TIME     ?= 20s
BENCH         ?=

GO    := go
BUILD := CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w"
# All packages but the one that drives the built binary.
UNITS = $$($(GO) list ./... | grep -v '^holdfast/tests$$')

.PHONY: build run test quick deps deps-peers race fuzz crash bench bench-peers demo

build: ## bin/holdfast, static, and the same for arm64
	$(BUILD) -o bin/holdfast ./cmd/holdfast
	GOOS=linux GOARCH=arm64 $(BUILD) -o bin/holdfast-linux-arm64 ./cmd/holdfast

run: ## a complete server on this machine, its data in ./data and ./data-mirror
	@$(BUILD) -o bin/holdfast ./cmd/holdfast
	@exec scripts/run "$(LISTEN)" "$(DATA)" "$(MIRROR)"

deps: ## the programs the tests need
	scripts/deps

quick: ## before every commit: every package, the long tests cut short
	$(GO) vet ./...
	scripts/formatted
	$(GO) tool staticcheck ./...
	$(GO) test -count=1 -run '^TestLayers' .
	$(GO) test -p 4 -short -shuffle=on -timeout 8m $(UNITS) # 4 packages at once: they wait for disks

test: ## everything
	scripts/test

race: ## unit tests under the race detector (needs gcc)
	CGO_ENABLED=1 $(GO) test -race -short -count=1 -shuffle=on $(UNITS)

fuzz: ## every fuzz target for FUZZ_TIME
	scripts/fuzz "$(FUZZ_TIME)"

crash: ## every disaster for CRASH_MINUTES, and at least to its floor
	scripts/crash "$(CRASH_MINUTES)"

bench: ## the promised numbers
	$(GO) run ./internal/bench $(BENCH)

bench-peers: deps-peers ## beside Radicale and Xandikos, some tens of minutes; BENCH=-quick for some minutes
	$(GO) run ./internal/bench -peers $(BENCH)

deps-peers: ## the servers that bench-peers measures Holdfast beside
	scripts/deps peers

demo: build ## the disaster of October 2009, with the fence and without
	scripts/demo
