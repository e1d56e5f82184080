# `make demo` and `make test` set up what they need in .venv first; when it is set up they start at once.
# PYTHON=python3.12 make test  chooses another Python (3.10 to 3.13).

PYTHON ?= python3
BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

.PHONY: demo test lint coverage docs clean

demo: .venv/.demo
	@rm -rf demo
	$(BIN)/semicardiac demo --out demo

test: .venv/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

lint: .venv/.test
	$(BIN)/ruff check SemiCardiacSeg training Testing
	$(BIN)/ruff format --check SemiCardiacSeg training Testing
	$(BIN)/mypy

coverage: .venv/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder --cov

docs: .venv/.docs
	$(BIN)/mkdocs build --strict

clean:
	rm -rf .venv demo site

$(BIN)/python:
	$(PYTHON) -m venv .venv

.venv/.demo: $(BIN)/python pyproject.toml constraints.txt
	@echo "Setting up .venv (once, some minutes: PyTorch is large) ..."
	$(PIP_INSTALL) .
	@touch $@

.venv/.test: $(BIN)/python pyproject.toml constraints.txt
	@echo "Setting up .venv (once, some minutes: PyTorch is large) ..."
	$(PIP_INSTALL) '.[test]'
	@touch $@ .venv/.demo

.venv/.docs: $(BIN)/python pyproject.toml constraints.txt
	$(PIP_INSTALL) '.[docs]'
	@touch $@ .venv/.demo
