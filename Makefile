# SPDX-License-Identifier: Apache-2.0
# Needs make and Python 3.11 or newer; everything else is fetched into .venv* and .demo.

# The first of these that is new enough. `make PYTHON=/path/to/python3.12 test` selects another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; exit; }; \
	  done; echo python3)
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS := --extra emulator --extra catalog --extra masks --extra oss
ARGS ?=
# Containers often set it. Then each process would compile Airflow again, which takes half of its start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test slow check unit thorough contract browser ocr azure e2e coverage test-matrix proof fleet bench docs build format clean

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: ## run a catalog refresh twice on a real Airflow against the emulator; KEEP=1 keeps the UI open
	@$(PYTHON) tools/environment.py .demo/venv --group airflow $(EXTRAS)
	@exec .demo/venv/bin/python demo/run.py $(if $(KEEP),--keep) $(ARGS)

# The end-to-end tests mostly wait, so they run beside the others. Their output follows when they have ended.
test: check chromium ## linters, then all tests that are not slow, against the built wheel
	@mkdir -p build
	$(BIN)/pytest tests/e2e $(ARGS) >build/e2e.log 2>&1 & e2e=$$!; \
	  $(BIN)/pytest tests/unit tests/browser tests/contract -m "not slow and not thorough" -n 3 --dist loadfile \
	  $(ARGS); others=$$?; wait $$e2e; status=$$?; cat build/e2e.log; exit $$((others || status))

slow: environment ## the slow unit and contract tests, which CI runs after `make test`
	$(BIN)/pytest tests/unit tests/contract -m "slow and not thorough" -n 3 --dist loadfile $(ARGS)

# Always runs: the script decides whether anything has changed.
.PHONY: environment
environment:
	@$(PYTHON) tools/environment.py $(VENV) --group airflow --group test --group e2e --group browser \
	  --group lint $(EXTRAS)

# Without Chromium, everything else still runs; only the browser tests fail, and say why.
.PHONY: chromium
chromium: environment
	-@PYTHONPATH=demo $(BIN)/python tools/browser.py

check: environment ## linters, types, import contracts, words
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/prose.py

unit: environment ## unit tests: no emulator process, no Airflow process
	$(BIN)/pytest tests/unit $(ARGS)

# The modules that do more in this profile.
THOROUGH = $(shell grep -rl thorough tests/unit tests/contract --include='test_*.py')

thorough: environment ## exhaustive tests: interleavings of two runs, crashes on S3, 2,000 random histories
	$(BIN)/pytest $(THOROUGH) -m "" -n 2 --dist load --hypothesis-profile=thorough --timeout 7200 $(ARGS)

contract: environment ## contract tests against the emulator, with injected faults
	$(BIN)/pytest tests/contract $(ARGS)

browser: environment chromium ## browser tests: the catalog's report in Chromium
	$(BIN)/pytest tests/browser $(ARGS)

# Apart from the others, because its packages take 300 MB.
ocr: ## tests of label text with RapidOCR, in an environment of their own
	@$(PYTHON) tools/environment.py .venv-ocr --group airflow --group test $(EXTRAS) --extra ocr
	.venv-ocr/bin/pytest tests/ocr $(ARGS)

# Apart from the others, because it needs Node.js, and the packages of Azure's provider take 160 MB more.
azure: ## tests of abfs:// with Azurite, in an environment of their own
	@$(PYTHON) tools/azurite.py
	@$(PYTHON) tools/environment.py .venv-azure --group airflow --group test --group azure $(EXTRAS)
	.venv-azure/bin/pytest tests/azure $(ARGS)

e2e: environment ## end-to-end tests on a real Airflow
	$(BIN)/pytest tests/e2e $(ARGS)

coverage: environment ## unit and contract tests with branch coverage of the installed wheel
	$(BIN)/pytest tests/unit tests/contract --cov --cov-report=term $(ARGS)

test-matrix: ## unit and contract tests on Airflow 2.11 and every 3.x minor, on each Python found
	$(PYTHON) tools/matrix.py $(ARGS)

proof: ## crashes, clears and long lists on a real Airflow with PostgreSQL; 30 minutes
	@$(PYTHON) tools/environment.py .venv-proof --group airflow --group test --group e2e --group proof $(EXTRAS)
	@PYTHONPATH=demo .venv-proof/bin/python tools/postgres.py
	.venv-proof/bin/pytest tests/proof $(ARGS)

fleet: ## a run on Celery workers, Redis, PostgreSQL and S3, of which machines are lost
	@$(PYTHON) tools/environment.py .venv-fleet --group airflow --group test --group e2e --group proof \
	  --group fleet $(EXTRAS)
	@PYTHONPATH=demo .venv-fleet/bin/python tools/postgres.py
	@PYTHONPATH=demo .venv-fleet/bin/python tools/broker.py
	.venv-fleet/bin/pytest tests/fleet -s $(ARGS)

bench: ## benchmarks, compared with other providers and a lower bound; results are written to build/
	@$(PYTHON) tools/environment.py .venv-bench --group airflow --group bench --group proof $(EXTRAS) --extra ocr
	@PYTHONPATH=demo:tests/harness .venv-bench/bin/python tests/benchmarks $(ARGS)

# A fresh environment, since Sphinx does not see changes of the tables that the pages render.
docs: ## build the documentation as HTML; warnings are errors
	@$(PYTHON) tools/environment.py .venv-docs --group airflow --group docs $(EXTRAS)
	.venv-docs/bin/sphinx-build --fresh-env --fail-on-warning --keep-going -b html docs docs/_build/html $(ARGS)

build: environment ## build the wheel and the source distribution into dist/
	$(BIN)/uv build --out-dir dist

format: environment ## format the code and apply ruff's automatic fixes
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove everything that the other targets created
	rm -rf .venv .venv-azure .venv-bench .venv-docs .venv-fleet .venv-matrix .venv-ocr .venv-proof .azurite .demo \
	  build dist docs/_build .coverage .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
