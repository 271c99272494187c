# Every command works on a fresh machine with Python 3.11+, git and make.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help run test test-embedded test-notebooks lab check notebooks bench stop clean setup

help:  ## list the commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): requirements.txt
	@echo "setting up $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check uv \
	  && $(VENV)/bin/uv pip install --quiet --python $(RUN) -r requirements.txt \
	  || $(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $(READY)

setup: $(READY)
	@$(RUN) -m helpers.dataset
	@$(RUN) -m helpers.functions

run: setup  ## set up, run notebooks 00-04 on the embedded AWS, show the table of experiments
	@$(RUN) -m helpers.local_aws start
	@$(RUN) -m helpers.notebooks run 00 01 02 03 04
	@$(RUN) -m helpers.runs
	@echo "The embedded AWS keeps running. Open the notebooks with 'make lab', stop it with 'make stop'."

test: setup  ## every test: unit, embedded AWS, notebooks against their stored outputs
	@$(RUN) -m pytest -q -n 2 tests/unit
	@$(MAKE) --no-print-directory -j 2 test-embedded test-notebooks
	@$(RUN) -m pytest -q tests/browser

# Both wait much: side by side they take little longer than one of them.
test-embedded:
	@$(RUN) -m pytest -q -n 4 --dist loadfile tests/local_aws tests/container tests/sdk

test-notebooks:
	@$(RUN) -m pytest -q -n 4 --dist worksteal tests/notebooks

lab: setup  ## JupyterLab on the notebooks, embedded AWS up
	@$(RUN) -m helpers.local_aws start
	@$(VENV)/bin/jupyter lab --ip 127.0.0.1 --notebook-dir notebooks \
	  --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate --LabApp.news_url=None

check: $(READY)  ## format, lint, types, and whether the stored notebooks are fresh
	@$(VENV)/bin/ruff format --check --quiet . || (echo "format with: $(VENV)/bin/ruff format ." && exit 1)
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/mypy
	@$(RUN) -m helpers.notebooks check
	@$(RUN) -m pytest -q tests/notebooks/test_structure.py

notebooks: setup  ## run every notebook on a fresh embedded AWS and store its outputs
	@$(RUN) -m helpers.notebooks store

bench: setup  ## how long things take here, side by side with Kedro, DVC, Metaflow and ZenML; OPTIONS="--help"
	@PYTHONPATH=.:tests:tests/local_aws $(RUN) -m bench $(OPTIONS)

stop:  ## stop the embedded AWS
	@$(RUN) -m helpers.local_aws stop

clean:  ## stop it and remove what the project made
	@test ! -x $(RUN) || $(RUN) -m helpers.local_aws stop
	@rm -rf .local_aws build .cache .mypy_cache .ruff_cache .pytest_cache dataset/census-income.csv $(VENV)
	@find . -name __pycache__ -prune -exec rm -rf {} +
