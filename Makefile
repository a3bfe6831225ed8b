# Everything a newcomer types. `make demo` and `make test` set up whatever is missing on the way.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
LOCK ?= requirements/dev.lock
PYTEST_FLAGS ?=
# Processes that the tests run in; 0 runs them one after the other, in twice the time.
TEST_PROCESSES ?= 3
# Where it is set, each of the hundreds of processes that the tests start compiles all sources anew: a second each.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup models triton node demo test lint proto lock bench soak up clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

$(VENV)/.installed: $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 is needed: install it, or name yours: make PYTHON=/path/to/python3.11"; exit 3; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the locked dependencies (once, one to three minutes)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes --only-binary :all: -r $(LOCK)
	@touch $@

setup: $(VENV)/.installed ## create .venv from the lock, check the system libraries, build the starter models
	@$(BIN)/python -m services.standalone.system_libraries
	@$(MAKE) --no-print-directory models

models: $(VENV)/.installed
	@$(BIN)/python -m services.standalone models pull --profile starter

triton: $(VENV)/.installed ## a real tritonserver for the tests, in an environment of its own
	@$(BIN)/python -m tests.support.triton_environment

node: $(VENV)/.installed
	@$(BIN)/python -m tests.support.node_packages

demo: setup ## make a video of a painted mask on a talker before a drawn background
	@$(BIN)/python -m services.standalone demo

test: setup node triton lint ## lint, then all tests; what cannot run here is skipped by name
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder --durations=20 -m "not soak" $(PYTEST_FLAGS)

lint: $(VENV)/.installed ## ruff, mypy strict, stubs regenerated and compared, contract checked
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy
	@$(BIN)/python protos/generate.py --check
	@$(BIN)/python -m services.common.errors_doc --check

proto: $(VENV)/.installed ## regenerate the stubs from protos/
	@$(BIN)/python protos/generate.py

lock: ## resolve the dependencies anew (needs uv)
	@requirements/compile.sh

bench: setup ## ratios against plain transcoding, written to benchmarks/results/latest.json
	@$(BIN)/python -m benchmarks

soak: setup ## the long forms of the fault tests, and what they measured
	@$(BIN)/python -m pytest --durations=20 -rP -m soak $(PYTEST_FLAGS)

up: setup ## run the six services on this machine
	@$(BIN)/python -m services.standalone up

clean: ## remove what was made, not what was downloaded
	@rm -rf out .mypy_cache .ruff_cache .hypothesis
