# Two commands on a fresh machine: `make demo` and `make test`.  Needs Python 3.11+, Java 17+ and make.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(abspath $(VENV))/bin
READY  := $(VENV)/.ready
export PATH := $(BIN):$(PATH)

.PHONY: demo test check bench bench-train clean

demo: $(READY)
	infra/demo/run.sh

test: check
	pytest

check: $(READY)
	ruff check .
	ruff format --check .
	mypy

# All of it takes an hour and 60 GB of disk; a part: make bench BENCH="--only rollouts --sizes 0.1 1"
bench: $(READY)
	PYTHONPATH=tests $(BIN)/python -m bench.run $(BENCH)

# A training step three ways, minutes; on a GPU box with torch and transformers: PYTHONPATH=tests:lib:. python -m bench.training.run
bench-train: $(READY)
	PYTHONPATH=tests $(BIN)/python -m bench.training.run $(BENCH)

# Torch first: DeepSpeed's build asks it for its version.
$(READY): setup.py constraints.txt
	@sh infra/require.sh $(PYTHON)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch setuptools wheel
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .demo .bench .pytest_cache .hypothesis .mypy_cache .ruff_cache build *.egg-info
