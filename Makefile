# Two commands set everything up: `make run` (what the default job needs) and `make test` (all).
PYTHON ?= python3
BIN := .venv/bin
SIZE ?= 100
BODIES ?= 10000
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# A torch process that spins while it waits slows every other process on a small machine.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: run test test-long torture lint bench clean

run: .venv/.run ## make pictures with the built-in model; ARGS='key=value …' changes the job
	$(BIN)/python -m runner $(ARGS)

test: .venv/.dev lint ## everything that runs in minutes
	$(BIN)/python -m pytest -m "not long" -n 2 --dist loadfile $(ARGS)

test-long: .venv/.dev ## the tests that take minutes each
	$(BIN)/python -m pytest -m long $(ARGS)

torture: .venv/.dev ## every promise, tried hard; SIZE=N per cent of it, BODIES=N per provider
	RUNNER_TORTURE_SIZE=$(SIZE) RUNNER_TORTURE_BODIES=$(BODIES) $(BIN)/python -m tests.torture $(ARGS)

lint: .venv/.dev ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.dev ## the figures of docs/benchmarks.md
	for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean: ## everything that make made; outputs/ stays
	rm -rf .venv dist build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.run: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) --editable '.[local]'
	touch $@

.venv/.dev: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) --editable '.[all,dev]'
	touch $@ .venv/.run
