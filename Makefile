# Everything a person needs to try, test and measure streamsql. Needs python3 (3.11 or newer) and nothing else: packages
# go into $(VENV), in the versions of requirements.lock, from whatever index pip is configured to use.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# Passed on as they are: make test PYTEST_ARGS='-k copy -x', make demo DEMO_ARGS=--fast.
PYTEST_ARGS ?=
DEMO_ARGS ?=
BENCH_ARGS ?=

# Tests wait for servers, brokers and disks more than they compute: two of them for each processor.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(2 * len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else "auto")')

# A server compiles its modules once, not at each of the many starts of the tests: half of what a start takes.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test nightly lint format bench lock clean

help:  ## say what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.installed-demo  ## replay a month of flights through a server and watch the results (a minute)
	@$(BIN)/python examples/flights/replay.py $(DEMO_ARGS)

test: lint  ## ruff, mypy and all tests
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# New cases of each property test, on all cores: up to 10,000 in 45 minutes each, which is eight hours on two cores. How many
# were run is told at the end. STREAMSQL_EXAMPLES and STREAMSQL_MINUTES say otherwise.
nightly: $(VENV)/.installed-test  ## the property tests with 10,000 cases each, and long fuzzing
	@STREAMSQL_PROFILE=nightly STREAMSQL_MINUTES=$${STREAMSQL_MINUTES:-45} $(BIN)/python -m pytest tests/engine tests/golden tests/sqllogic tests/crash/test_faults.py -n auto --dist worksteal $(PYTEST_ARGS)
	@STREAMSQL_CRASH_ROWS=1000000 STREAMSQL_CRASH_KILLS=200 $(BIN)/python -m pytest tests/crash/test_pipelines.py $(PYTEST_ARGS)
	@STREAMSQL_CRASH_CUTS=100 $(BIN)/python -m pytest tests/crash/test_cut_wires.py $(PYTEST_ARGS)
	@FUZZ_MESSAGES=1000000 FUZZ_TEXTS=100000 $(BIN)/python -m pytest tests/fuzz $(PYTEST_ARGS)
	@FUZZ_EXAMPLES=1000 $(BIN)/python -m pytest tests/http/test_openapi.py $(PYTEST_ARGS)

lint: $(VENV)/.installed-test  ## ruff and mypy only
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/.installed-test  ## put all code into ruff's form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.installed-bench  ## run the benchmarks, each beside its bound
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

# Names and versions only: an index is the reader's own matter. Versions already there stay unless LOCK_ARGS=--upgrade.
lock: | $(BIN)/python  ## write requirements.lock anew from pyproject.toml
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-emit-index-url --no-header \
		--no-annotate --output-file requirements.lock $(LOCK_ARGS) pyproject.toml

clean:  ## remove caches and builds (the environment stays)
	@rm -rf build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache *.egg-info
	@find . -name __pycache__ -type d -not -path './.*' -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("streamsql needs Python 3.11 or newer, not " + sys.version)'
	@$(PYTHON) -m venv $(VENV)

# One stamp an extra: what is installed already is not looked at again. Modules are compiled when they are first imported: most never are.
$(VENV)/.installed-%: pyproject.toml requirements.lock streamsql/__init__.py | $(BIN)/python
	@echo "installing streamsql[$*] into $(VENV)"
	@$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --constraint requirements.lock --editable '.[$*]'
	@touch $@
