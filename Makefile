# Bellwether. `make demo` shows it, `make test` proves it; both install what they need.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CONTROLLER_GEN := go tool -modfile=tools/gen/go.mod controller-gen
LINT := go tool -modfile=$(CURDIR)/tools/lint/go.mod golangci-lint
RELEASE := go tool -modfile=$(CURDIR)/tools/release/go.mod
LAB := go run -C e2e ./cmd/lab
IMAGE_ARCHES ?= amd64,arm64
FUZZTIME ?= 60s
VERSION ?= v0.0.0-dev
TAG = $(if $(filter v0.0.0-dev,$(VERSION)),dev,$(VERSION))
URL ?= https://example.com
CHAOS ?= 30m
SEED ?=
PREVIOUS ?= HEAD~1
VULNDB ?= v0.0.0-20261105234957-e22db6528018
NODE_IMAGE ?=
SIM_NODES ?= 10,50,100,200
SIM_SERVICES ?= 20000
PLUGIN_PLATFORMS ?= linux/amd64 linux/arm64 darwin/amd64 darwin/arm64

help: ## show what can be made
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: deps ## bring a real Kubernetes up here and watch Bellwether work
	@go run -C e2e ./cmd/demo

demo-down: ## take the demo down
	@go run -C e2e ./cmd/demo -down

test: deps check unit e2e ## everything that must pass

deps: ## install the Debian packages that tests and the lab need
	@$(LAB) deps

check: check-generate lint vuln ## generated files are current, the linters are content, and no known vulnerability is called

unit: ## unit, property, virtual-time and veth tests
	@hack/run "unit tests" go test -race -timeout 15m ./...

e2e: ## the lab's own tests and the scenarios, on a real Kubernetes
	@cd e2e && ../hack/run "lab and scenarios" go test -p 1 -count 1 -timeout 60m ./...

e2e-kind: ## the scenarios that need nodes with kubelets, on kind in Docker: make e2e-kind NODE_IMAGE=kindest/node:v1.37.0
	@cd e2e && BELLWETHER_ON=kind BELLWETHER_NODE_IMAGE="$(NODE_IMAGE)" ../hack/run "scenarios on kind" go test -count 1 -timeout 60m -v ./scenarios

kind-node: ## make an image of kind's nodes without a registry, for e2e-kind: bellwether-lab/kind-node:dev
	@go run -C e2e ./cmd/kindnode

lint: ## golangci-lint, in both modules
	@hack/run "linters" $(LINT) run ./...
	@cd e2e && ../hack/run "linters of e2e" $(LINT) run ./...

generate: ## write CRDs and deep-copy functions from the types, and what the chart has in common with config/
	@hack/generate . $(CONTROLLER_GEN)

check-generate: ## fail when generated files are not current
	@hack/check-generate $(CONTROLLER_GEN)

images: ## pack the container images into dist/images, without Docker: make images VERSION=v1.0.0
	@go run -C e2e ./cmd/images --out "$(CURDIR)/dist/images" --arch "$(IMAGE_ARCHES)" --version "$(TAG)" controller speaker

build: ## build the programs into bin/
	@CGO_ENABLED=0 go build -trimpath -o bin/ ./controller ./speaker
	@CGO_ENABLED=0 go build -trimpath -o bin/bellwether ./cli

sbom: build ## write what each program is made of into dist/sbom (CycloneDX)
	@mkdir -p dist/sbom
	@for program in controller speaker bellwether; do \
	  $(RELEASE) cyclonedx-gomod bin -json -noserial -notimestamp -version "$(VERSION)" -output "dist/sbom/$$program.cdx.json" "bin/$$program"; \
	done

vuln: ## look for known vulnerabilities in what the programs call: make vuln VULNDB=latest
	@hack/run "vulnerabilities" go run -C e2e ./cmd/vuln -db "$(VULNDB)"

plugin: ## pack kubectl bellwether and its krew manifest into dist/plugin: make plugin VERSION=v1.0.0 URL=https://example.com/v1.0.0
	@hack/plugin "$(VERSION)" "$(URL)" $(PLUGIN_PLATFORMS)

bench: deps ## measure: passes over 10,000 Services, the controller, and failover on the lab, into docs/benchmarks: make bench ARGS="-only allocation"
	@go test -run '^$$' -bench . ./pkg/... | grep -v '^ok\|no test files'
	@go run -C e2e ./cmd/bench -publish ../docs/benchmarks $(ARGS)

simulate: ## many speakers on one segment in virtual time: make simulate SIM_NODES=10,100 SIM_SERVICES=20000
	@SIM_NODES="$(SIM_NODES)" SIM_SERVICES="$(SIM_SERVICES)" hack/run "simulation" go test -count 1 -timeout 60m -v ./sim

chaos: deps ## break everything at random on the lab, and watch the laws: make chaos CHAOS=30m SEED=1
	@cd e2e && BELLWETHER_CHAOS="$(CHAOS)" BELLWETHER_SEED="$(SEED)" ../hack/run "chaos" go test -count 1 -timeout 0 -run 'TestChaos$$' -v ./scenarios

skew: deps ## run the programs of another revision beside these, and back: make skew PREVIOUS=v1.0.0
	@cd e2e && BELLWETHER_PREVIOUS="$(PREVIOUS)" ../hack/run "skew" go test -tags skew -count 1 -timeout 30m -run TestNeighbouringReleases -v ./scenarios

fuzz: ## fuzz every parser, FUZZTIME each
	@hack/fuzz "$(FUZZTIME)"

lab: ## run the lab's command: make lab ARGS="exec client -- curl -s http://198.18.0.200/"
	@$(LAB) -name demo $(ARGS)

kubectl: ## kubectl in the demo: make kubectl ARGS="get services -A"
	@$(LAB) -name demo kubectl $(ARGS)

.PHONY: help demo demo-down test deps check unit e2e e2e-kind kind-node lint generate check-generate images build sbom vuln plugin bench simulate chaos skew fuzz lab kubectl
