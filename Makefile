# Two commands on a fresh machine: `make demo` and `make test`.  Needs Python 3.11+ and make; the tests, and the
# part of the demo that shows Spark, Java 17+.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(abspath $(VENV))/bin
READY  := $(VENV)/.ready
RUNS   := $(VENV)/.runs
INSTALLED := $(wildcard $(RUNS))
AIRFLOW := .venv-airflow/.ready
COMPILED := $(VENV)/.compiled
STAGE  :=
export PATH := $(BIN):$(PATH)
# Images of containers often set it.  What is installed is not compiled (below), so each process would compile all
# that it imports again: a training's imports would take 9 seconds and not 4.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo java browser test test-fast check docs bench bench-report bench-train bench-serving study study-small clean

demo: STAGE := [1/7] # of the installation, if it is needed
demo: $(RUNS)
	@[ -z "$(INSTALLED)" ] || echo "[1/7] installed already, in $(VENV)"
	@infra/demo/run.sh

# What it needs is made two at a time.  The tests run in three processes also on two cores: each of them waits now
# and then for what it has started.
test: java
	@[ -e $(READY) ] || echo "installing two environments (a few minutes); a line for each part that is done:"
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=line check $(AIRFLOW) browser $(COMPILED)
	pytest -n 3

# What needs no engine: minutes, and no Java.
test-fast: check
	pytest -n 2 -m "not (spark or ray or airflow or s3 or browser or hub or slow)"

java:
	@sh infra/require.sh java

browser:
	@sh infra/browser.sh

check: $(READY)
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	codespell *.md docs infra jobs lib ray_train setup.py Makefile

# The pages that follow from the code; a test compares them.
docs: $(READY)
	$(BIN)/python infra/docs/reference.py

# All of it takes two hours and 60 GB of disk; a part: make bench BENCH="--only rollouts --sizes 0.1 1"
bench: $(READY) study-small bench-serving
	PYTHONPATH=tests $(BIN)/python -m bench.run $(BENCH)

# What a report of 56 million rollouts takes: minutes, and 2.2 GB of disk.
bench-report: $(READY)
	PYTHONPATH=tests $(BIN)/python -m bench.large_index .bench/large

# What selections are worth (docs/study.md): hours of two cores, and ten minutes of them.  It can be stopped and
# started at any time; what is finished is never repeated.  A part: make study STUDY="--hours 1 --processes 1"
study: $(READY)
	PYTHONPATH=tests:lib:. nice -n 10 $(BIN)/python -m bench.study.run $(STUDY)

study-small: $(READY)
	PYTHONPATH=tests:lib:. $(BIN)/python -m bench.study.run --small $(STUDY)

# A training step three ways, and the path of the data to it, minutes.  On a GPU box the first needs torch and
# transformers alone: PYTHONPATH=tests:lib:. python -m bench.training.run; the second all of the package's [train]:
# PYTHONPATH=tests python -m bench.training.path
bench-train: $(READY)
	PYTHONPATH=tests $(BIN)/python -m bench.training.run $(BENCH)
	PYTHONPATH=tests $(BIN)/python -m bench.training.path

# The load test of `bisieve serve`: 30 minutes at the machine's limit. A part: make bench-serving SERVING="--minutes 2"
bench-serving: $(READY)
	PYTHONPATH=tests:lib:. $(BIN)/python -m bench.serving.run $(SERVING)

# What the demo needs; a fifth of all packages is for the tests alone.  Torch first: DeepSpeed's build asks it for
# its version.  Compiling all modules, of which few are used, would take as long as all the rest.
PIP := $(BIN)/pip install --no-compile --disable-pip-version-check --constraint
$(RUNS): setup.py constraints.txt
	@sh infra/require.sh python $(PYTHON)
	@sh infra/stage.sh $(VENV)/venv.log "$(STAGE)making $(VENV)" $(PYTHON) -m venv $(VENV)
	@sh infra/stage.sh $(VENV)/install.log "$(STAGE)installing torch (about a minute)" \
	    $(PIP) constraints.txt torch setuptools wheel
	@sh infra/stage.sh $(VENV)/install.log "$(STAGE)installing bisieve and its other packages (about two minutes)" \
	    $(PIP) constraints.txt --editable '.[score,train,corpus]'
	@touch $@

$(READY): $(RUNS)
	@sh infra/stage.sh $(VENV)/install-dev.log "installing what the tests need (about a minute)" \
	    $(PIP) constraints.txt --editable '.[dev]'
	@touch $@

# What the tests import, once: of their processes, which begin at the same time, each would compile it.
$(COMPILED): $(READY)
	@sh infra/stage.sh $(VENV)/collected.log "compiling what the tests import" pytest --collect-only --quiet
	@touch $@

# Airflow's packages and ours do not go together.
$(AIRFLOW): infra/airflow/requirements.txt infra/airflow/constraints.txt
	@$(PYTHON) -m venv $(@D)
	@sh infra/stage.sh $(@D)/install.log "installing Airflow beside (about a minute)" \
	    $(@D)/bin/pip install --no-compile --constraint infra/airflow/constraints.txt --requirement $<
	@touch $@

clean:
	rm -rf $(VENV) $(dir $(AIRFLOW)) .demo .bench .pytest_cache .hypothesis .mypy_cache .ruff_cache build *.egg-info
