# Needs GNU make, Go and git; everything else is set up by what it runs.

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

# The race detector needs a C compiler. Go tells whether there is one.
RACE := $(if $(filter 1,$(shell go env CGO_ENABLED)),-race)

# Tools of other people, pinned, built once.
TOOLS         := $(CURDIR)/.cache/tools
GOLANGCI_LINT := $(TOOLS)/golangci-lint-v2.15.0
REFLEX        := $(TOOLS)/reflex-v0.3.1

# Every module of the workspace, as a pattern.
MODULES = $(shell go list -m -f '{{.Dir}}/...')

LDFLAGS = -X turbocat.io/pkg/service.Version=$(VERSION)

.DEFAULT_GOAL := help
.PHONY: help build run watch test chaos fuzz cover lint fmt contracts hooks clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/turbocat
	go build -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/turbocat ./tools/turbocat

run: build ## set up what is missing, build, and run all of Turbocat until Ctrl-C
	@exec bin/turbocat dev

watch: $(REFLEX) ## as run, and again whenever a source changes
	@exec $(REFLEX) -s -t 30s -r '\.(go|sql|json|yaml)$$' -R '_test\.go$$' -R '^(\.cache|bin)/' -- \
	  sh -c 'go build -buildvcs=false -ldflags "$(LDFLAGS)" -o bin/turbocat ./tools/turbocat && exec bin/turbocat dev'

test: .cache/testenv ## run every test of every module beside a PostgreSQL and a Redis of their own
	$(if $(RACE),,@echo 'make test: no C compiler, so the race detector is off; install gcc to have it')
	@.cache/testenv -- go test $(RACE) -timeout 15m work
	@echo 'the end-to-end tests once more, each service a process of its own'
	@TURBOCAT_E2E_SHAPE=processes exec .cache/testenv -- go test $(RACE) -timeout 15m turbocat.io/tools/e2e

chaos: .cache/testenv ## run all reliability checks and write a table; RUN=TestR03 SEED=17 repeats one, FOR=2h is how long R02 lasts
	@mkdir -p .cache
	@TURBOCAT_CHAOS=$(or $(SIZE),full) TURBOCAT_CHAOS_SEED=$(SEED) TURBOCAT_CHAOS_FOR=$(FOR) TURBOCAT_CHAOS_REPORT=$(CURDIR)/.cache/chaos.md exec .cache/testenv -- \
	  go test $(RACE) -count=1 -v -timeout 6h -run '^$(or $(RUN),Test)' turbocat.io/tools/chaos

fuzz: .cache/testenv ## run every fuzz target for 10 s each, and send 3,000 requests drawn from the OpenAPI document
	@go run ./tools/fuzz -time 10s
	@TURBOCAT_E2E_FUZZ=3000 exec .cache/testenv -- go test -count=1 -timeout 15m -v -run '^TestFuzzAPI$$' turbocat.io/tools/e2e

cover: .cache/testenv ## say how much of each module the tests run; too little is an error
	@rm -rf .cache/cover && mkdir -p .cache/cover/programs
	@TURBOCAT_COVER_DIR=$(CURDIR)/.cache/cover/programs .cache/testenv -- go test -timeout 15m -coverpkg=turbocat.io/... -coverprofile=.cache/cover/tests.out work >.cache/cover/log || { cat .cache/cover/log; exit 1; }
	@go tool covdata textfmt -i=.cache/cover/programs -o .cache/cover/programs.out
	@go run ./tools/coverage -least 80 -package turbocat.io/services/orchestrator/internal/engine=95 .cache/cover/tests.out .cache/cover/programs.out

lint: $(GOLANGCI_LINT) ## check the code against what .golangci.yml holds
	@exec $(GOLANGCI_LINT) run $(MODULES)

fmt: $(GOLANGCI_LINT) ## format all Go files
	@exec $(GOLANGCI_LINT) fmt $(MODULES)

.PHONY: linter
linter: $(GOLANGCI_LINT)
	@echo $(GOLANGCI_LINT)

contracts: .cache/testenv ## write what is generated: schemas, OpenAPI, AsyncAPI, docs/events.md, errors.md and database.md
	@go test ./services/gateway/internal/httpapi -run '^TestDocumentIsTheGoldenOne$$' -count=1 -update
	@go run ./tools/contractgen
	@exec .cache/testenv -- go test ./tools/contractgen -run '^TestDatabasePage$$' -count=1 -update

hooks: ## have git check what is committed before it is
	git config core.hooksPath .ci/hooks

clean: ## remove what build and test made; data is kept
	rm -rf bin .cache

.PHONY: .cache/testenv
.cache/testenv:
	@go build -buildvcs=false -o $@ ./tools/testenv

$(GOLANGCI_LINT):
	@echo 'building $(notdir $@), once; it takes a few minutes'
	@GOBIN=$(TOOLS) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0 && mv $(TOOLS)/golangci-lint $@

$(REFLEX):
	@GOBIN=$(TOOLS) go install github.com/cespare/reflex@v0.3.1 && mv $(TOOLS)/reflex $@
