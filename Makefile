# Posthorn's commands. `make` or `make help` lists them.

GO      ?= go
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
BINARY  := bin/posthorn

# How long `make fuzz` works on each fuzz target.
FUZZTIME ?= 20s

# The integration tests run this binary.
export POSTHORN_BIN = $(CURDIR)/$(BINARY)

# They run one package at a time, so that none bears another's load, and never
# from the cache, which does not know the binary. Those with containers have a
# target of their own.
UNIT        = $(shell $(GO) list ./... | grep -v '/integration')
INTEGRATION = -count=1 -p=1 $(shell $(GO) list ./integration/... | grep -v '/integration/compose')

# Where what makes releases is installed.
TOOLS = $(CURDIR)/bin/tools

LINTER = $(GO) tool -modfile=tools/go.mod golangci-lint

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: build
build: ## Build bin/posthorn
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-X main.version=$(VERSION)' -o $(BINARY) ./cmd/posthorn

.PHONY: postgres
postgres: ## Find the PostgreSQL server's programs, or install them
	@./integration/postgres/ensure.sh

.PHONY: programs
programs: ## Find node and python3, or install them: tests have receivers in them
	@./integration/programs.sh

.PHONY: chromium
chromium: ## Find Chromium, or install it: the dashboard is tested in it
	@./integration/browser/ensure.sh

.PHONY: demo
demo: build postgres ## Run the demo on a private PostgreSQL server
	$(BINARY) demo

# Look at the pictures before they are committed.
.PHONY: screenshots
screenshots: build postgres chromium ## Take the pictures of the dashboard in docs/images, of a demo that has run for some minutes
	$(GO) run ./integration/screenshots -binary $(BINARY)

.PHONY: test
test: unit chromium ## Run all tests but those in containers, the integration tests at a tenth of their sizes
	$(GO) test -timeout=15m $(INTEGRATION)
	@echo "Left out: the tests in containers, which make test-compose runs."

.PHONY: unit
unit: build postgres programs ## Run all tests but the integration tests
	$(GO) test -timeout=5m $(UNIT)

# In a module of its own, so that Kubernetes' modules stay out of the relay's.
.PHONY: kubernetes
kubernetes: build ## Check the Kubernetes examples against the published API types
	cd integration/kubernetes && $(GO) vet ./... && $(GO) test -count=1 ./...

.PHONY: test-full
test-full: build postgres programs chromium ## Run the integration tests at their full sizes
	POSTHORN_TEST_FULL=1 $(GO) test -timeout=45m -v $(INTEGRATION)

# What the Dockerfiles and the tests' compose files are made of.
IMAGES = golang:1.26 postgres:15 postgres:17

.PHONY: test-compose
test-compose: ## Run the tests in containers (needs Docker with Compose)
	@./integration/compose/possible.sh
	@./integration/images/ensure.sh $(IMAGES)
	$(GO) test -count=1 -timeout=30m -parallel=4 -v ./integration/compose

.PHONY: image
image: ## Build the image posthorn/posthorn
	docker build --build-arg VERSION=$(VERSION) --tag posthorn/posthorn .

# The relay itself is built with the detector, too; what is about memory or
# speed is left to the other targets, and so is what waits for minutes, or starts
# plugins again and again, which takes them seconds with the detector. A browser
# asks nothing that the tests of the API and the pages do not ask at once.
.PHONY: race
race: postgres programs ## Run all tests under the race detector (needs a C compiler)
	CGO_ENABLED=1 $(GO) test -race -timeout=15m -skip='TestJQEnds|TestEditsAreLinear' $(UNIT)
	CGO_ENABLED=1 $(GO) build -race -buildvcs=false -o $(BINARY)-race ./cmd/posthorn
	POSTHORN_BIN=$(CURDIR)/$(BINARY)-race CGO_ENABLED=1 $(GO) test -race -timeout=20m -skip='TestLarge|TestBurst|TestPayloads|TestPluginThatFails|TestPluginIsSwapped|TestHangingPlugin|TestEveryKindOfTransform|TestScenariosBriefly|TestOldEvents' $(filter-out %/integration/browser,$(INTEGRATION))

.PHONY: lint
lint: ## Check the sources: no conflict left by a merge, shell syntax, gofmt, go vet (Linux and macOS), golangci-lint
	@! git grep --line-number --extended-regexp '^(<{7}|>{7}) '
	@bash -n .ci/run
	@find . -name '*.sh' | xargs -n 1 sh -n
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "run gofmt -w on: $$unformatted" >&2; exit 1; }
	GOOS=linux $(GO) vet ./...
	GOOS=darwin $(GO) vet ./...
	$(LINTER) run

# The database is asked for first: in a folder that is none, the tool finds
# nothing and passes.
VULNDB = $(or $(GOVULNDB),https://vuln.go.dev)

.PHONY: vulncheck
vulncheck: ## Look for known vulnerabilities in what the code calls (GOVULNDB names another database)
	@$(GO) run ./integration/vulncheck -db=$(VULNDB)
	$(GO) tool -modfile=tools/go.mod govulncheck -db=$(VULNDB) ./...

.PHONY: fuzz
fuzz: postgres programs ## Fuzz each target for FUZZTIME (20s)
	@grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | while IFS=: read -r file target; do \
		echo "$${file%/*}: $${target#func }"; \
		$(GO) test -run='^$$' -fuzz="^$${target#func }\$$" -fuzztime=$(FUZZTIME) "$${file%/*}" </dev/null || exit 1; \
	done

# BENCH names scenarios: BENCH=drain,latency; BENCH=full runs all at larger
# sizes. BENCHFLAGS are further flags of integration/bench.
.PHONY: bench
bench: build postgres ## Measure the relay beside its references, see docs/performance.md
	$(GO) run ./integration/bench -binary $(BINARY) $(if $(BENCH),-run $(BENCH)) $(BENCHFLAGS)

.PHONY: microbench
microbench: postgres ## Run the Go benchmarks of the packages, with their allocations
	$(GO) test -run='^$$' -bench=. -benchmem $(UNIT)

.PHONY: cover
cover: postgres programs ## Show the packages' test coverage, in detail in cover.out
	$(GO) test -timeout=5m -coverprofile=cover.out $(UNIT)
	$(GO) tool cover -func=cover.out | tail -n 1

# Without a remote, GoReleaser would not look at the commit: it is told of one,
# which it does not ask anything. The SBOMs name their tool's own checksum, so
# that tool is built the same way everywhere.
.PHONY: release-check
release-check: release-tools ## Build a release without publishing it, in dist, and check what is in it
	$(TOOLS)/goreleaser check
	GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=remote.origin.url GIT_CONFIG_VALUE_0=https://github.com/posthorn/posthorn \
		PATH="$(TOOLS):$$PATH" $(TOOLS)/goreleaser release --snapshot --clean
	$(GO) run ./integration/release -version $(VERSION) -time $$(git show --no-patch --format=%ct HEAD)

.PHONY: release-tools
release-tools: ## Build GoReleaser and cyclonedx-gomod into bin/tools
	GOBIN=$(TOOLS) $(GO) install github.com/goreleaser/goreleaser/v2@v2.15.1
	CGO_ENABLED=0 GOBIN=$(TOOLS) $(GO) install -trimpath github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0

.PHONY: clean
clean: ## Remove what the other commands made
	rm -rf bin dist cover.out
