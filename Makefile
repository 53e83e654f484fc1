# Two commands: `make demo` and `make test`. Both make .venv first if need be.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest -n auto

.PHONY: demo test test-slow lint types tests format tables bench clean help

help:
	@echo "make demo       environment, install, two small trainings, one table, one report"
	@echo "make test       everything that CI runs: lint, types, tests, docs examples"
	@echo "make test-slow  the tests that take minutes"
	@echo "make format     put the code into the house's format"
	@echo "make bench      measure speed and memory against peers, some 15 minutes"
	@echo "make tables     write the docs' tables from the result files"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Rung needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The stamps are made last: a broken install is tried again.
$(VENV)/.installed-train: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.installed-train

$(VENV)/.installed-bench: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@

demo: $(VENV)/.installed-train
	@rm -rf runs/demo
	$(BIN)/rung train digits-cnn --optimizer adamw --out runs/demo/adamw-float32
	$(BIN)/rung train digits-cnn --optimizer bbit-madam --format ladder8 --out runs/demo/madam-8bit
	@$(BIN)/rung report runs/demo/adamw-float32 runs/demo/madam-8bit

test: lint types tests

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

tests: $(VENV)/.installed-dev
	$(PYTEST) -m "not slow"

test-slow: $(VENV)/.installed-dev
	$(PYTEST) -m slow

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

tables: $(VENV)/.installed-dev
	$(BIN)/python docs/tables.py

bench: $(VENV)/.installed-bench
	$(BIN)/rung bench

clean:
	rm -rf $(VENV) runs build dist
