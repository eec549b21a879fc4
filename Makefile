# make demo: set up .venv, draw a data set, train SMNet and TSN on it, write a report.
# make test: set up .venv and run all tests, in about 8 minutes on two cores.
# make test-quick: the tests that are not marked slow.
# make test-install: the steps of the Dockerfile in a new environment; fetches packages from PyPI.
# make coverage: all tests with line coverage, which must not fall below the floor in pyproject.toml.
# make bench: networks, engines and readers in one table, in about ten minutes on two quiet cores.
# make fuzz: the suites that mutate inputs and kill processes, in their long forms.

VENV := .venv
# Neighbouring tests share fixtures, so each worker takes tests in order.
PYTEST = $(BIN)/python -m pytest -n auto --dist worksteal
BIN := $(VENV)/bin
# The tests rewritten by pytest are kept, which saves each worker 8 s the next time.
unexport PYTHONDONTWRITEBYTECODE
# With an NVIDIA GPU torch is not pinned: pip takes the newest CUDA build, and the programs use it.
CONSTRAINTS := $(if $(shell command -v nvidia-smi),constraints.txt,constraints-cpu.txt)
PYTHON ?= python3

.PHONY: demo test test-quick test-install coverage bench fuzz lint format docs clean

demo: $(VENV)/ready
	$(BIN)/smnet demo

test: $(VENV)/ready
	$(PYTEST)

test-quick: $(VENV)/ready
	$(PYTEST) -m "not slow"

test-install: export SMNET_INSTALL = 1
test-install: $(VENV)/ready
	$(BIN)/python -m pytest tests/serve/test_install.py

coverage: $(VENV)/ready
	$(PYTEST) --cov --cov-report=term:skip-covered

# Other libraries are measured where they are installed; a failure to install them is no error.
bench: $(VENV)/ready
	-$(BIN)/pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[bench]'
	$(BIN)/python benchmarks/bench.py

fuzz: export SMNET_FUZZ_SECONDS ?= 600
fuzz: export SMNET_KILLS ?= 40
fuzz: $(VENV)/ready
	$(PYTEST) -m fuzz --timeout=7200

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site in build/site; a broken link, an unknown name or a faulty docstring is an error.
docs: SHELL := /bin/bash
docs: .SHELLFLAGS := -o pipefail -c
docs: $(VENV)/docs
	$(BIN)/python tools/models_page.py docs/models.md
	$(BIN)/python tools/site_source.py
	$(BIN)/zensical build --clean --strict 2>&1 | tee build/docs.log
	! grep '^griffe:' build/docs.log  # faults of docstrings, which --strict leaves out

$(VENV)/docs: $(VENV)/ready
	$(BIN)/pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[docs]'
	touch $@

$(VENV)/ready: pyproject.toml constraints.txt constraints-cpu.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[dev,plot,track,shards,remote,fast,augment,export,openvino,annotations,mqtt,serve,find]'
	touch $@

clean:
	rm -rf $(VENV) build dist
