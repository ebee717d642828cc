# retouch. `make demo` and `make test` set up what they need by themselves, then run.
#
#   make demo     the main job from nothing; results in ./out
#   make test     lint, strict types, unit, integration and end-to-end tests
#   make format   formats the code
#   make docs     makes the pages of the models, and the schemas, from the code
#   make simulate 10,000 jobs with crashes and faults, 100,000 without, on a fake clock
#   make benchmark 100 jobs through a lane of two, held against the ideal; a thousand images at once
#   make lock     makes the lock files anew
#   make clean    removes what the other targets made

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.DEFAULT_GOAL := help
.PHONY: help demo test lint types unit e2e reliability simulate benchmark format docs lock clean setup

help:
	@sed -n 's/^#   //p' Makefile

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "retouch needs Python 3.11 or newer; try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# A stamp for each lock file, so that nothing is installed twice.
$(VENV)/local.stamp: requirements/local.txt pyproject.toml | $(BIN)/python
	@echo "installing what the demo needs (once)"
	$(PIP) --require-hashes -r requirements/local.txt
	$(PIP) --require-hashes -r requirements/build.txt
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev.stamp: requirements/dev.txt $(VENV)/local.stamp
	@echo "installing what the tests need (once)"
	$(PIP) --require-hashes -r requirements/dev.txt
	@touch $@

setup: $(VENV)/dev.stamp

demo: $(VENV)/local.stamp
	@$(BIN)/retouch demo --out out

test: lint types unit e2e reliability

lint: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/cfn-lint template.yaml

types: $(VENV)/dev.stamp
	$(BIN)/mypy

unit: $(VENV)/dev.stamp
	$(BIN)/pytest -n 2 -m "not e2e" --faults-report build/faults-unit.json

e2e: $(VENV)/dev.stamp
	$(BIN)/pytest -m e2e --faults-report build/faults-e2e.json

# The table of faults in docs/reliability.md must be what the two runs before have shown.
reliability: $(VENV)/dev.stamp
	$(BIN)/python tools/reliability.py --check build/faults-unit.json build/faults-e2e.json

simulate: $(VENV)/dev.stamp
	$(BIN)/python -m tests.simulation --jobs 10000 --crashes 0.01 --faults 0.05 --seed 1
	$(BIN)/python -m tests.simulation --jobs 100000 --entered --seed 1

benchmark: $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks.throughput
	$(BIN)/python -m benchmarks.drop_folder

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/local.stamp
	$(BIN)/python tools/reference.py

lock: $(VENV)/dev.stamp
	PYTHON=$(BIN)/python requirements/lock.sh

clean:
	rm -rf $(VENV) build out .mypy_cache .pytest_cache .ruff_cache .hypothesis .aws-sam

# --- packaging for AWS: called by `sam build`, which sets ARTIFACTS_DIR --------------------------

.PHONY: build-Library
build-Library:
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes \
	  --only-binary=:all: --platform manylinux2014_aarch64 --platform manylinux_2_28_aarch64 \
	  --implementation cp --python-version 3.13 \
	  --target "$(ARTIFACTS_DIR)/python" -r requirements/functions.txt
	mkdir -p "$(ARTIFACTS_DIR)/python/retouch"
	cp -r src/retouch/. "$(ARTIFACTS_DIR)/python/retouch/"
	rm -rf $(addprefix "$(ARTIFACTS_DIR)"/python/retouch/,cli local samples simulator)
	find "$(ARTIFACTS_DIR)" -name __pycache__ -prune -exec rm -rf {} +
