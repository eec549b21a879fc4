# make demo: set up .venv, draw a data set, train SMNet and TSN on it, write a report.
# make test: set up .venv and run the tests.

VENV := .venv
BIN := $(VENV)/bin
# With an NVIDIA GPU torch is not pinned: pip takes the newest CUDA build, and the programs use it.
CONSTRAINTS := $(if $(shell command -v nvidia-smi),constraints.txt,constraints-cpu.txt)
PYTHON ?= python3

.PHONY: demo test lint format docs clean

demo: $(VENV)/ready
	$(BIN)/smnet demo

test: $(VENV)/ready
	$(BIN)/python -m pytest -n auto

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site in build/site; any warning (a broken link, an unknown name) is an error.
docs: $(VENV)/docs
	$(BIN)/python tools/cli_page.py docs/cli.md
	$(BIN)/zensical build --clean --strict

$(VENV)/docs: $(VENV)/ready
	$(BIN)/pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[docs]'
	touch $@

$(VENV)/ready: pyproject.toml constraints.txt constraints-cpu.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[dev,plot,track,shards,remote,fast,augment,export,openvino]'
	touch $@

clean:
	rm -rf $(VENV) build dist
