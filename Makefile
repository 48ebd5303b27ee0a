# SPDX-License-Identifier: Apache-2.0
# Needs make and Python 3.11 or newer; everything else is installed into .venv* and .demo.

# The first of these that is new enough; `make PYTHON=/path/to/python3.12 test` overrides it.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; exit; }; \
	  done; echo python3)
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS := --extra emulator --extra catalog
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test check unit thorough contract browser e2e coverage test-matrix proof bench docs build format clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: ## refresh a catalog on a real Airflow against the emulator; KEEP=1 leaves the UI up
	@$(PYTHON) tools/environment.py .demo/venv --group airflow $(EXTRAS)
	@exec .demo/venv/bin/python demo/run.py $(if $(KEEP),--keep) $(ARGS)

test: check chromium ## the whole default suite, against the built wheel, with the linters first
	$(BIN)/pytest tests/unit tests/browser -n 2 --dist loadfile $(ARGS)
	$(BIN)/pytest tests/contract tests/e2e $(ARGS)

# Always run: the script itself finds out what has changed.
.PHONY: environment
environment:
	@$(PYTHON) tools/environment.py $(VENV) --group airflow --group test --group e2e --group browser \
	  --group lint $(EXTRAS)

# Without Chromium, only the browser tests fail, and say so.
.PHONY: chromium
chromium: environment
	-@PYTHONPATH=demo $(BIN)/python tools/browser.py

check: environment ## linters, types, import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: environment ## only the unit tests: no emulator process, no Airflow process
	$(BIN)/pytest tests/unit $(ARGS)

thorough: environment ## every order of two runs' calls, a crash at every step on S3, 300 random histories of runs
	$(BIN)/pytest tests/unit -m "" -k "thorough or many_runs" --hypothesis-profile=thorough $(ARGS)

contract: environment ## only the contract tests: flows x drivers x faults, against the emulator
	$(BIN)/pytest tests/contract $(ARGS)

browser: environment chromium ## only the browser tests: the gallery in a real Chromium
	$(BIN)/pytest tests/browser $(ARGS)

e2e: environment ## only the end-to-end tests: a real Airflow
	$(BIN)/pytest tests/e2e $(ARGS)

coverage: environment ## unit and contract suites with branch coverage of the installed wheel
	$(BIN)/pytest tests/unit tests/contract --cov --cov-report=term $(ARGS)

test-matrix: ## unit and contract suites on Airflow 2.11 and every 3.x minor, on each Python found
	$(PYTHON) tools/matrix.py $(ARGS)

proof: ## crashes, clears and long lists on a real Airflow with PostgreSQL; 18 minutes
	@$(PYTHON) tools/environment.py .venv-proof --group airflow --group test --group e2e --group proof $(EXTRAS)
	@PYTHONPATH=demo .venv-proof/bin/python tools/postgres.py
	.venv-proof/bin/pytest tests/proof $(ARGS)

bench: ## the benchmarks, with peers and the lower limit; figures in build/
	@$(PYTHON) tools/environment.py .venv-bench --group airflow --group bench --group proof $(EXTRAS)
	@PYTHONPATH=demo .venv-bench/bin/python tests/benchmarks $(ARGS)

docs: ## the documentation as HTML; a warning is an error
	@$(PYTHON) tools/environment.py .venv-docs --group airflow --group docs $(EXTRAS)
	.venv-docs/bin/sphinx-build --fail-on-warning --keep-going -b html docs docs/_build/html $(ARGS)

build: environment ## wheel and source distribution into dist/
	$(BIN)/uv build --out-dir dist

format: environment ## let ruff fix what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove what the other targets made
	rm -rf .venv .venv-bench .venv-docs .venv-matrix .venv-proof .demo build dist docs/_build .coverage \
	  .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
