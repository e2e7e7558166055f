# The first target that needs it makes .venv; later calls spend no time on it.
PYTHON ?= python3
BIN := .venv/bin
PIN := requirements.txt

.PHONY: run test lint lab ui bench pin clean

run: .venv/core  ## every task on the samples, start to finish
	$(BIN)/cxlab run all

test: .venv/dev  ## the whole test suite, notebooks too
	$(BIN)/python -m pytest

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lab: .venv/core  ## JupyterLab at the notebooks
	$(BIN)/cxlab lab

ui: .venv/core  ## MLflow on our store
	$(BIN)/cxlab ui

bench: .venv/dev  ## side by side with peers, as ratios
	$(BIN)/python benchmarks/run.py

pin:  ## renew the pinned versions (needs uv)
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
		--no-annotate --no-emit-index-url --no-emit-find-links --no-header --upgrade -o $(PIN)

clean:
	rm -rf .venv

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] < (3, 14) else \
		"cxlab needs Python 3.11, 3.12 or 3.13; this is " + sys.version.split()[0] + ". Say which to use: make PYTHON=python3.12 run")'
	$(PYTHON) -m venv .venv

.venv/core: pyproject.toml $(PIN) | .venv/bin/pip
	@echo "Setting up .venv: about 200 packages, once, a few minutes."
	$(BIN)/pip install --quiet --constraint $(PIN) --editable .
	@touch $@

.venv/dev: .venv/core
	$(BIN)/pip install --quiet --constraint $(PIN) --editable '.[dev]'
	@touch $@
