# Every command sets up what it needs in .venv, in this checkout: Python 3.11-3.13 and make are enough.
.DEFAULT_GOAL := help
.PHONY: help demo demo-clean test test-airflow test-long test-matrix test-celery test-compose check dist docs bench ui constraints
SHELL := bash
BIN := .venv/bin
SIDE_BY_SIDE := -n 2 --dist loadfile --no-loadscope-reorder
export AIS CYCLES DSN ONCE PORT STAND_IN_BASE STATE

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/.installed ## run past cycles in a real Airflow and stay up (AIS= CYCLES=12 DSN= ONCE=1 PORT=8080)
	@$(BIN)/python -m demo

demo-clean: ## stop what a demo left running and remove .demo
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m demo.clean; else rm -rf .demo; fi

test: .venv/.installed ## the tests, but the long ones and those that run in an Airflow (ARGS= goes to pytest)
	@$(BIN)/python -m pytest -m "not long and not e2e" $(SIDE_BY_SIDE) $(ARGS)

test-airflow: .venv/.installed ## the tests in an Airflow: its task runner, its components, the pages in a browser, the demo
	@$(BIN)/python -m pytest -m "e2e and not long" $(SIDE_BY_SIDE) $(ARGS)

test-long: .venv/.installed ## the tests with the full fault counts
	@$(BIN)/python -m pytest -m "not matrix and not celery and not compose" $(ARGS)

test-matrix: .venv/.installed ## the installed wheel on Python 3.11-3.13, PostgreSQL 15 and 18 (those that are here), the next Airflow, with MLflow
	@$(BIN)/python -m pytest -m matrix $(ARGS)

test-celery: .venv/.installed ## cycles on Celery workers in network namespaces: one dies, one is cut off (root, Redis)
	@$(BIN)/python -m pytest -m celery $(ARGS)

test-compose: .venv/.installed ## docker-compose.yaml under podman, with stand-ins for its images (as root; STAND_IN_BASE=folder keeps Debian's files)
	@.ci/containers
	@$(BIN)/python -m pytest -m compose $(ARGS)

check: .venv/.installed ## lint, format, types, layers, secrets, known faults of dependencies
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@.ci/audit

docs: .venv/.installed ## the documentation as a site, in docs/_site; a warning is an error
	@AIRFLOW_HOME=$$(mktemp -d) $(BIN)/python -m sphinx -W --keep-going -q docs docs/_site
	@echo docs/_site/index.html

dist: .venv/.installed ## wheel, sdist and bill of materials into dist/, the same bytes from the same commit
	@.ci/dist

bench: .venv/.installed ## the benchmarks, one JSON line each (ONLY=name; CASES=folder for ONLY=truth)
	@$(BIN)/python -m benchmarks $(ARGS)

ui: .venv/.installed ## the pages in Airflow's UI: lint, types, tests, and the bundle that is committed (needs Node 20 or newer)
	@.ci/ui

constraints: .venv/.installed ## resolve constraints.txt anew from pyproject.toml
	@.ci/constraints

.venv/.installed: pyproject.toml constraints.txt .ci/setup
	@.ci/setup
