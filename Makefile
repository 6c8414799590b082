# Two commands on a fresh machine: `make demo` and `make test`. Each does all of its own set-up.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PY := .venv/bin/python
# Where it is set, every process compiles torch and all the rest anew, and starts many seconds later.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup setup-test demo test test-slow test-gpu lint format types imports bench bench-learning lock clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: ## make .venv with everything the demo needs, and a database server
	@scripts/bootstrap.sh

setup-test: ## setup, and the reference engine where a C++ compiler is found
	@scripts/bootstrap.sh --tests

demo: setup ## play, train, swap, replay: the whole loop on this machine
	@$(PY) -m envs.cli demo

test: setup-test lint types imports ## lint, types, import contracts and the default tests
	$(PY) -m pytest -n 2 --dist loadfile

test-slow: setup-test ## the slow tests: whole differential runs, long engines
	$(PY) -m pytest -m "slow and not gpu"

test-gpu: setup-test ## the tests that need a CUDA device
	$(PY) -m pytest -m gpu

lint: setup-test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

format: setup-test ## format the code
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

types: setup-test
	.venv/bin/mypy

imports: setup-test
	.venv/bin/lint-imports

bench: setup-test ## first figures of every benchmark
	scripts/bench.sh

bench-learning: setup-test ## small models learn ALFWorld and DB Bench from nothing, beside each other (an hour on two cores)
	scripts/bench_learning.sh

lock: ## pin requirements/*.txt anew after a change of pyproject.toml
	@UV="$$(scripts/bootstrap.sh --print-uv)" scripts/lock.sh

clean: ## remove the virtual environment and caches
	rm -rf .venv .tools .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
