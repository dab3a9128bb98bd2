# Everything runs in .venv, made on demand with python3 -m venv; a fresh machine needs Python 3.11 or newer and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# The second real model runs on two MPI ranks; without mpirun its tests are skipped.
ANUGA := $(if $(shell command -v mpirun),$(shell echo ,anuga))
TEST_EXTRAS := dev,veros$(ANUGA)
PYTEST := $(BIN)/python -m pytest
SOAK_SECONDS ?= 600

.DEFAULT_GOAL := help
.PHONY: help demo test check format services services-stop bench soak clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 24

demo: $(VENV)/.installed-veros ## run the real ocean model with all defaults; its output is in ./runs
	$(BIN)/rompy-hydra run

test: $(VENV)/.installed-$(TEST_EXTRAS) ## run the tests; without Docker, Slurm, … theirs are skipped with a reason
	@$(if $(ANUGA),,echo "no mpirun here: the tests of the MPI model are skipped (Debian: apt-get install openmpi-bin)")
	$(PYTEST) -n auto --dist loadgroup $(PYTEST_ARGS)

check: $(VENV)/.installed-$(TEST_EXTRAS) ## formatting, lint, types and the import rule
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST) -q tests/test_imports.py

format: $(VENV)/.installed-$(TEST_EXTRAS) ## format the code and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

services: ## start the real Docker engine and the real Slurm for the tests (as root)
	$(PYTHON) -m tests.services start

services-stop: ## stop what `make services` started
	$(PYTHON) -m tests.services stop

bench: $(VENV)/.installed-$(TEST_EXTRAS) ## run every benchmark; each prints ratios measured in one run
	@set -e; for bench in bench/*.py; do echo "== $$bench"; $(BIN)/python $$bench; done

soak: $(VENV)/.installed-$(TEST_EXTRAS) ## long random trials for SOAK_SECONDS (600); a printed seed repeats one
	ROMPY_HYDRA_SOAK_SECONDS=$(SOAK_SECONDS) $(PYTEST) -m soak --timeout 0 -s $(PYTEST_ARGS)

clean: ## remove the environment, builds and caches; never ./runs
	rm -rf $(VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp per set of extras, so that a second call costs nothing and a changed pyproject.toml installs again.
$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	@touch '$@'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is no Python 3.11 or newer; try: make PYTHON=python3.11"; exit 3; }
	@$(PYTHON) -c 'import ensurepip' || { echo "$(PYTHON) cannot make environments; on Debian: apt-get install python3-venv"; exit 3; }
	$(PYTHON) -m venv $(VENV)
