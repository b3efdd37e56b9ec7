# Needs GNU make, Go and git; everything else is set up by what it runs.

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

# The race detector needs a C compiler. Go tells whether there is one.
RACE := $(if $(filter 1,$(shell go env CGO_ENABLED)),-race)

.DEFAULT_GOAL := help
.PHONY: help build run test fmt vet clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/turbocat
	go build -buildvcs=false -ldflags '-X turbocat.io/pkg/service.Version=$(VERSION)' -o bin/turbocat ./tools/turbocat

run: build ## set up what is missing, build, and run all of Turbocat until Ctrl-C
	@exec bin/turbocat dev

test: ## run every test of every module beside a PostgreSQL and a Redis of their own
	$(if $(RACE),,@echo 'make test: no C compiler, so the race detector is off; install gcc to have it')
	@go build -buildvcs=false -o .cache/testenv ./tools/testenv
	@exec .cache/testenv -- go test $(RACE) -timeout 10m work

fmt: ## format all Go files
	@gofmt -l -w .

vet: ## report suspicious code
	go vet work

clean: ## remove what build and test made; data is kept
	rm -rf bin .cache
