# SystemScope. `make help` lists what there is. PYTHON=/path/to/python uses an environment that
# already has everything; otherwise one is made in .venv from the project's own files.

VENV := .venv
BASE_PYTHON ?= python3
PYTHON ?= $(VENV)/bin/python
READY := $(if $(filter file,$(origin PYTHON)),$(VENV)/installed)
PYTEST := $(PYTHON) -m pytest
# Profiling needs root. Tests use sudo only where it asks no password.
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
QUIET_SUDO := $(shell [ "$$(id -u)" = 0 ] || { sudo -n true 2>/dev/null && echo sudo -n -E; })

.PHONY: help install demo check lint types unit test viewers bench clean

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## /\1 /p' $(firstword $(MAKEFILE_LIST)) | \
		while read -r name what; do printf '  make %-9s %s\n' "$$name" "$$what"; done

install: $(READY) ## Make .venv with the project and its tools

$(VENV)/installed: setup.cfg pyproject.toml
	@$(BASE_PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 9))' || \
		{ echo "SystemScope needs Python 3.9 or later; name one with BASE_PYTHON=..." >&2; exit 1; }
	@$(BASE_PYTHON) -m venv $(VENV) || \
		{ echo "Install venv first (Debian: apt-get install python3-venv)." >&2; exit 1; }
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(READY) ## Profile a small workload and show where its time went
	$(SUDO) $(PYTHON) -m tools.demo

check: lint types unit ## Style, types and unit tests: no root needed

lint: $(READY)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types: $(READY)
	$(PYTHON) -m mypy

unit: $(READY)
	$(PYTEST) -q tests/unit

test: $(READY) ## Every test this machine can run (those of the kernel need root)
	$(QUIET_SUDO) $(PYTEST) tests

VIEWERS := tests/viewers/node_modules/installed

viewers: $(VIEWERS) ## Fetch the viewers that the tests open output in (npm)

$(VIEWERS): tests/viewers/package.json
	cd tests/viewers && npm install --no-audit --no-fund --no-package-lock --ignore-scripts
	@touch $@

bench: $(READY) ## Measure cost and speed, beside other tools where they are installed
	$(SUDO) $(PYTHON) -m tools.bench

clean: ## Remove everything that was made here
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -rf tests/viewers/node_modules tests/workloads/bin demo.html demo.trace.json
	find systemscope tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
