# Everything that is done to this checkout, as commands. `make` alone lists them.

VENV := .venv
# The first interpreter that runs and that the lock serves; another one is named by `make PYTHON=...`.
PYTHON ?= $(firstword $(foreach python,python3.11 python3.12 python3.13,\
    $(shell $(python) -c 'print("$(python)")' 2>/dev/null)))
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
COMPILE := $(VENV)/bin/uv pip compile --universal --fork-strategy fewest --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-emit-find-links --no-annotate --quiet --custom-compile-command "make lock" $(ARGS)

IMAGES ?= bsds500_test

.PHONY: help setup setup-dev demo published test lint types lock clean

help:  ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name text; do \
	    printf '  make %-10s %s\n' "$$name" "$$text"; done

setup: $(VENV)/runtime.stamp  ## make .venv with everything that running needs

setup-dev: $(VENV)/dev.stamp  ## the same, and everything that the checks and tests need

demo: setup  ## restore samples/archive into demo-output with the built-in model
	$(VENV)/bin/relume restore --input samples/archive --output demo-output --reference samples/pristine \
	    --tolerate 2 --runner DirectRunner

published: setup  ## measure the built-in model as published tables do; IMAGES=FOLDER names the photographs
	$(VENV)/bin/relume evaluate --images $(IMAGES) --quality 10,20,30,40

test: lint types  ## lint, types and every test
	$(VENV)/bin/python -m pytest --numprocesses 2 --dist loadfile

lint: setup-dev  ## style of the code and the Dockerfile
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/hadolint Dockerfile

types: setup-dev  ## types of the code
	$(VENV)/bin/mypy

lock: setup-dev  ## bring requirements/*.txt in line with setup.py; ARGS=--upgrade takes the newest that fit
	$(COMPILE) --extra cpu setup.py -o requirements/cpu.txt
	$(COMPILE) requirements/build.in -c requirements/cpu.txt -o requirements/build.txt
	$(COMPILE) --extra gpu setup.py -c requirements/cpu.txt -o requirements/gpu.txt
	$(COMPILE) requirements/dev.in -c requirements/cpu.txt -o requirements/dev.txt

clean:  ## remove .venv, caches and the demo's output
	rm -rf $(VENV) build dist relume.egg-info demo-output .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is written last, so an interrupted set-up is taken up again, and a finished one does nothing. The locks are
# whole, so nothing is resolved again: pip would ask for the newest release of what is wanted with an extra, and stop.
$(VENV)/runtime.stamp: requirements/build.txt requirements/cpu.txt setup.py
	@test -n "$(PYTHON)" || { echo "no Python found: install python3.11 (or 3.12, 3.13), or name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
	    { echo "PYTHON must be a Python 3.11, 3.12 or 3.13 that runs, got: $(PYTHON)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "$(PYTHON) cannot make virtual environments: install its venv module (on Debian: apt-get install python3-venv)" >&2; exit 1; }
	@echo "Installing the locked dependencies into $(VENV): 3 GB, some minutes."
	test -x $(VENV)/bin/pip || $(PYTHON) -m venv --clear $(VENV)
	$(PIP) install --quiet --require-hashes --no-deps -r requirements/build.txt
	$(PIP) install --quiet --require-hashes --no-deps --no-build-isolation -r requirements/cpu.txt
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/dev.stamp: $(VENV)/runtime.stamp requirements/dev.txt
	$(PIP) install --quiet --require-hashes --no-deps --no-build-isolation -r requirements/dev.txt
	$(PIP) check
	touch $@
