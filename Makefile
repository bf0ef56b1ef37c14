# One word each, and each does its own set-up: a virtual environment in .venv, pinned packages.
# A stamp file in .venv remembers what is installed, so that doing it again costs nothing.

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
REQUIREMENTS := pyproject.toml constraints.txt
EXAMPLE := examples/city100_nikon_001_lr3.png
DEMO_MODEL := city100-nikon-x3
DEMO_FOLDER := demo-output
FIND_BROWSER := for name in chromium chromium-browser google-chrome; do command -v $$name && break; done > /dev/null

.DEFAULT_GOAL := help
.PHONY: help install dev demo app test check format bench docs site clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/.installed-core ## the package without torch: enlarge and score photographs

dev: .venv/.installed-dev ## everything: torch, to train; the tools, to change the code

demo: .venv/.installed-core ## enlarge the example photograph with a shipped model
	@$(BIN)/d2csr upscale -i $(EXAMPLE) -o $(DEMO_FOLDER) -n $(DEMO_MODEL) \
		--bicubic --predictions --weight-maps --disagreement
	@ls -1 $(DEMO_FOLDER)/*

app: .venv/.installed-app ## open a page in the browser that enlarges photographs
	@$(BIN)/d2csr app

test: .venv/.installed-dev ## every test, in two processes
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

check: .venv/.installed-dev ## format, lint, types, direction of imports
	@faults=0; \
	$(BIN)/ruff format --check --quiet . || faults=1; \
	$(BIN)/ruff check --quiet . || faults=1; \
	$(BIN)/basedpyright --level error || faults=1; \
	$(BIN)/lint-imports --no-logo || faults=1; \
	exit $$faults

format: .venv/.installed-dev ## lay out the code as `make check` wants it
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: .venv/.installed-dev ## measure again what benchmarks/ answers
	@for question in $(sort $(wildcard benchmarks/*.py)); do $(BIN)/python $$question || exit 1; done

docs: .venv/.installed-dev ## write anew the lists and tables that are made: files, results
	@$(BIN)/python docs/architecture.py
	@$(BIN)/python docs/results.py
	@$(BIN)/python docs/speed.py
	@$(BIN)/python docs/pair_tables.py
	@$(BIN)/python docs/divergence.py
	@$(BIN)/python docs/faithful_color.py
	@$(BIN)/python docs/networks.py
	@$(BIN)/python docs/damaged_files.py
	@$(BIN)/python docs/photo_models.py
	@$(BIN)/python docs/recipe_keys.py
	@$(BIN)/python docs/reliability.py
	@$(BIN)/python docs/suites.py

site: .venv/.installed-dev ## the documentation as a website, in build/site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "build/site/index.html"

clean: ## remove what the other targets made
	rm -rf .venv build $(DEMO_FOLDER) .pytest_cache .ruff_cache .hypothesis .import_linter_cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than 3.11; name another: make PYTHON=python3.11 ..."; exit 1; }
	@$(PYTHON) -m venv .venv \
		|| { echo "$(PYTHON) can't make virtual environments; on Debian install python3-venv."; exit 1; }

.venv/.installed-core: $(REQUIREMENTS) | .venv/bin/python
	@echo "Setting up .venv (core, no torch) ..."
	@$(INSTALL) --editable .
	@touch $@

.venv/.installed-app: $(REQUIREMENTS) | .venv/bin/python
	@echo "Setting up .venv (core and the page, no torch) ..."
	@$(INSTALL) --editable '.[app]'
	@touch $@ .venv/.installed-core

.venv/.installed-dev: $(REQUIREMENTS) | .venv/bin/python
	@echo "Setting up .venv (torch and the tools; some minutes the first time) ..."
	@$(INSTALL) torch==2.13.0
	@$(INSTALL) --editable '.[dev]'
	@touch $@ .venv/.installed-core .venv/.installed-app
	@{ $(FIND_BROWSER); } || { [ "$$(id -u)" = 0 ] && apt-get update --quiet=2 \
		&& apt-get install --quiet=2 --yes chromium > /dev/null; } \
		|| echo "Without Chromium, the tests of the page are skipped: install it, or ignore this."
