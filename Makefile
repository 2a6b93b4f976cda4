# Every target works from a bare machine: what is missing is installed or built first.
.DEFAULT_GOAL := help
SHELL := /bin/bash
# The first that really is Python 3.11 or newer: one on PATH may be another tool's placeholder.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && \
	echo $$python && break; done)
BIN := .venv/bin
BENCH_ARGS ?=
COMPARE ?=
# One that bash happens to export is not meant.
ifneq ($(origin SECONDS),command line)
SECONDS := 600
endif

# The cluster of `make demo` is a temporary one unless it is named on the command line: a KUBECONFIG
# that happens to be in the environment is somebody's cluster, and is ignored.
ifeq ($(origin KUBECONFIG),command line)
DEMO_ARGS += --kubeconfig '$(KUBECONFIG)'
ifdef CONTEXT
DEMO_ARGS += --context '$(CONTEXT)'
endif
endif
unexport KUBECONFIG CONTEXT

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The stamp is written last, so an interrupted installation is done again.
.venv/stamp: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv || { echo "venv is needed (Debian: python3-venv)"; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

.PHONY: .venv
.venv: .venv/stamp

.PHONY: up
up: .venv ## Start a Docker engine if there is none, and this checkout's API server
	$(BIN)/python -m dev up

.PHONY: down
down: .venv ## Stop this checkout's API server; its data stays
	$(BIN)/python -m dev down

.PHONY: status
status: .venv ## Say what runs
	$(BIN)/python -m dev status

.PHONY: images
images: .venv ## Make the images that the example and the tests run
	$(BIN)/python -m dev images

.PHONY: run
run: up ## Run the operator in the foreground against this checkout's API server
	KUBECONFIG=.dev/kubeconfig $(BIN)/sandbox-operator run

.PHONY: demo
demo: .venv ## One Sandbox from creation to deletion; KUBECONFIG=... CONTEXT=... for your own cluster
	@$(BIN)/python -m dev demo $(DEMO_ARGS)

.PHONY: check
check: .venv ## Formatting, types, layers, generated files, unit tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit -q -ll -r controller
	$(BIN)/python -m controller.generate --check
	$(BIN)/pytest tests/unit -q -n 2

.PHONY: test
test: check ## Everything, set-up included
	$(BIN)/python -m dev images
	$(BIN)/pytest tests --ignore tests/unit

.PHONY: test-unit
test-unit: .venv ## Unit tests alone
	$(BIN)/pytest tests/unit -q -n 2

.PHONY: test-integration
test-integration: .venv ## Tests on a real API server and a real Docker engine
	$(BIN)/python -m dev images
	$(BIN)/pytest tests/integration

.PHONY: chaos
chaos: .venv ## Faults on the real thing; SECONDS=600, SEED=... of an earlier round
	$(BIN)/python -m tests.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

.PHONY: bench
bench: .venv ## Benchmarks; COMPARE=FILE tells what got slower since; BENCH_ARGS=... are passed on
	$(BIN)/python -m bench $(if $(COMPARE),--compare '$(COMPARE)') $(BENCH_ARGS)

.PHONY: audit
audit: .venv ## Look for known vulnerabilities in all that constraints.txt pins; asks PyPI
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[audit]'
	# Strict: what the service does not know of counts as not audited, not as safe.
	$(BIN)/pip-audit --strict --no-deps --disable-pip -r constraints.txt

.PHONY: clean
clean: ## Remove this checkout's cluster, its containers, .venv and caches
	if [ -x $(BIN)/python ]; then $(BIN)/python -m dev clean; fi
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info

.PHONY: engine-down
engine-down: .venv ## Stop the machine's dockerd, if it was started from here
	$(BIN)/python -m dev engine-down
