# Each target installs its dependencies: a virtual environment in .venv, torch, the packages. Later calls reuse them.
#
#   make demo     an avatar from an example photo, driven: outputs/demo.mp4 and outputs/demo.png
#   make test     the test suite
#   make app      the app in a browser, on this machine
#   make lint     ruff, pyright and the import layers
#   make docs     the documentation as a site, in build/site; fails on a broken link
#   make wheel    the wheel, in build/dist; installs it alone into an empty environment and runs the demo there
#   make check    all that CI checks: lint, test, docs, wheel
#
# Variables: PYTHON (>= 3.10), VENV, TORCH (a requirement), PIP_ARGS (more arguments for pip), PYTEST_ARGS.

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
PIP_ARGS ?=
PYTEST_ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS)

.DEFAULT_GOAL := help
.PHONY: help demo test ci-browser lint format docs wheel check app clean

help:
	@sed -n '3,9s/^#   //p' Makefile

demo: $(VENV)/stamp-base
	$(BIN)/spatialavatar demo --output outputs

test: $(VENV)/stamp-dev ci-browser
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# The page is tested in a browser if one is installed. A browser is installed only on Debian CI machines that run as root.
ci-browser:
	@if [ "$$CI" = true ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! command -v chromium >/dev/null; then \
	  { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; } >/dev/null 2>&1 \
	  || echo "Chromium could not be installed: the tests of the page in a browser are skipped."; fi

lint: $(VENV)/stamp-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-cache

format: $(VENV)/stamp-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/stamp-docs
	$(BIN)/python -m mkdocs build --strict --quiet --site-dir build/site

# The wheel must work without the checkout: it is installed into a new environment and run from an empty folder.
wheel: $(VENV)/stamp-dev
	rm -rf build/dist build/wheel-env build/wheel-run
	$(BIN)/python -m build --outdir build/dist . >/dev/null
	$(MAKE) --no-print-directory VENV=build/wheel-env build/wheel-env/stamp-torch
	build/wheel-env/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) build/dist/*.whl
	mkdir -p build/wheel-run
	cd build/wheel-run && ../wheel-env/bin/spatialavatar demo --output . && test -s demo.mp4 && test -s demo.png
	rm -rf build/wheel-env build/wheel-run

check: lint test docs wheel

app: $(VENV)/stamp-dev
	$(BIN)/spatialavatar app

clean:
	rm -rf $(VENV) outputs build dist

$(VENV)/stamp-python:
	@$(PYTHON) -c 'import sys; sys.exit("SpatialAvatar needs python 3.10 or newer; set PYTHON=...") if sys.version_info < (3, 10) else None'
	$(PYTHON) -m venv $(VENV)
	@touch $@

# Without an NVIDIA GPU install the CPU build of torch, which is ten times smaller. If pip's configured indexes lack it,
# uv finds its index; if that fails, install the default build, which also runs on a CPU.
$(VENV)/stamp-torch: $(VENV)/stamp-python
	@echo "Installing $(TORCH) ..."
	@if [ "$$(uname -s)" != Linux ] || command -v nvidia-smi >/dev/null 2>&1; then $(PIP) "$(TORCH)"; \
	else $(PIP) "$(TORCH)+cpu" 2>/dev/null \
	  || { $(PIP) uv && $(BIN)/uv pip install --quiet --python $(BIN)/python --torch-backend cpu "$(TORCH)"; } 2>/dev/null \
	  || $(PIP) "$(TORCH)"; fi
	@touch $@

$(VENV)/stamp-base: $(VENV)/stamp-torch pyproject.toml
	$(PIP) --editable .
	@touch $@

$(VENV)/stamp-dev: $(VENV)/stamp-base
	$(PIP) --editable ".[app,flame,dev]"
	@touch $@

$(VENV)/stamp-docs: $(VENV)/stamp-dev
	$(PIP) --editable ".[docs]"
	@touch $@
