# The two commands of the README, and what developers use. On Windows use the plain lines of the README instead.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

export HF_HUB_OFFLINE ?= 1

.PHONY: quickstart test test-slow benchmarks style docs upgrade constraints clean

quickstart: $(VENV)/.trains
	$(BIN)/python -m examples.quickstart

test: $(VENV)/.tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not gpu and not weights"

test-slow: $(VENV)/.tests
	$(BIN)/python -m pytest -m "slow and not gpu and not weights"

# on a quiet machine: half an hour; the figures go into benchmarks/RESULTS.md
benchmarks: $(VENV)/.tests
	$(BIN)/python benchmarks/startup.py --note "machine otherwise idle"
	$(BIN)/python benchmarks/saving.py --note "machine otherwise idle"
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/train_step.py --resolution 128 --steps 3 --rounds 3 --note "one thread, machine otherwise idle"
	$(BIN)/python benchmarks/data.py --note "machine otherwise idle"
	$(BIN)/python benchmarks/latents.py --record "machine otherwise idle"

style: $(VENV)/.tests
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.trains
	$(BIN)/python -m library.options.reading.docs
	$(BIN)/python -m library.refusals.docs
	$(BIN)/python docs/translations.py

upgrade: $(VENV)/.tests
	$(BIN)/python .ci/upgrade.py

constraints: $(VENV)/.tests
	$(BIN)/python .ci/upgrade.py --same --no-test

clean:
	rm -rf $(VENV) build output

$(VENV)/bin/python:
	@echo "making the virtual environment $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.trains: $(VENV)/bin/python requirements.txt examples/requirements.txt constraints.txt
	@$(BIN)/python .ci/install.py requirements.txt examples/requirements.txt
	@touch $@

$(VENV)/.tests: $(VENV)/.trains requirements-test.txt
	@$(BIN)/python .ci/install.py requirements.txt requirements-test.txt
	@touch $@
