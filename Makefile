# The two commands of the README, and what developers use beside them.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: lab test check fmt reference clean

lab: $(VENV)/.lab
	@sh setup/lab.sh

test: $(VENV)/.test
	@sh setup/test.sh

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy labsim tests
	$(BIN)/lint-imports

fmt: $(VENV)/.test
	$(BIN)/ruff check --fix . || true
	$(BIN)/ruff format .

reference: $(VENV)/.lab
	$(BIN)/python setup/reference.py

$(VENV)/bin/python:
	@sh setup/install-packages.sh || true
	$(PYTHON) -m venv $(VENV)

$(VENV)/.lab: $(VENV)/bin/python pyproject.toml
	@echo "installing labsim into $(VENV)"
	@$(BIN)/pip install --quiet --disable-pip-version-check -e .
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[libvirt]' || \
	  echo "the libvirt driver could not be installed; simulated machines work without it"
	@$(BIN)/python -m compileall -q labsim  # else the first command compiles, or each one where bytecode is not written
	@touch $@

$(VENV)/.test: $(VENV)/.lab
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

clean:
	rm -rf $(VENV) runs dist build
