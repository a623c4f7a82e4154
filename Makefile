# Everything starts here: `make demo` and `make test` set up what they need; `make help` lists the targets.
# A machine needs make and Python 3.11 to 3.14 with its venv module; nothing else.

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOCK := requirements.lock
LOWEST := .venv-lowest
LOWEST_LOCK := requirements-lowest.lock
RAY_SAMPLE := $(addprefix tests/ray/test_,ray_cluster.py mpsl_ray.py recovery.py jobs.py serving.py)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet
COMPILE := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-emit-index-url \
	--no-annotate --no-header
LOWEST_EXTRAS := compiled dev hf highs metrics serve shapes3d timm  # of the others the tests skip what needs them
SOURCES := $(wildcard raysplit tests benchmarks examples docs deploy)
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))

# python3 where it is new enough, else the newest that is; `make PYTHON=/path/to/python ...` overrides.
ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	if $$p -c '$(SUPPORTED)' 2>/dev/null; then echo $$p; break; fi; done)
endif

.PHONY: help setup demo test test-all test-lowest lint types format docs pages notebooks dist lock bench clean

help:  ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1            \2/p' Makefile | sed -E 's/^(.{12}) *(.*)/  make \1\2/'

setup: $(READY)  ## make .venv with the pinned packages (the other targets do so by themselves)
	@echo "ready: $(BIN)/raysplit --help"

demo: $(READY)  ## train MiniBatch-SFL, FedAvg and SplitFed V2 on Ray on non-IID digits, and compare them
	@$(BIN)/raysplit demo

test: lint types  ## lint, types and all tests but the slow ones
	@echo "==> tests without Ray, on two workers"
	@$(BIN)/python -m pytest -m "not slow" -n 2 tests/unit
	@echo "==> tests on Ray, in one session"
	@$(BIN)/python -m pytest -m "not slow" tests/ray

test-all: lint types  ## lint, types and all tests
	@echo "==> tests without Ray, the slow ones too, on two workers"
	@$(BIN)/python -m pytest -n 2 tests/unit
	@echo "==> tests on Ray, the slow ones too, in one session"
	@$(BIN)/python -m pytest tests/ray

test-lowest:  ## the tests with the lowest versions that pyproject.toml allows, in .venv-lowest
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] > (3, 12))' || { \
		echo "the lowest versions are made for Python 3.11 and 3.12; name one: make PYTHON=python3.11 $@" >&2; exit 1; }
	@$(MAKE) VENV=$(LOWEST) LOCK=$(LOWEST_LOCK) setup
	@echo "==> tests without Ray, on two workers, with the lowest versions"
	@$(LOWEST)/bin/python -m pytest -m "not slow" -n 2 tests/unit
	@echo "==> a sample of the tests on Ray, in one session"
	@$(LOWEST)/bin/python -m pytest -m "not slow" $(RAY_SAMPLE)

lint: $(READY)  ## ruff: rules and format
	@echo "==> lint"
	@$(BIN)/ruff check --quiet $(SOURCES)
	@$(BIN)/ruff format --check --quiet $(SOURCES) || { \
		$(BIN)/ruff format --check $(SOURCES); echo "run: make format" >&2; exit 1; }

types: $(READY)  ## mypy, strict
	@echo "==> types"
	@$(BIN)/mypy

format: $(READY)  ## bring the sources into form
	@$(BIN)/ruff check --quiet --fix $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

bench: $(READY)  ## list the measurements; each is run by itself
	@for file in $$(find benchmarks -name "*.py" | sort); do \
		if grep -q __main__ $$file; then echo "$(BIN)/python $$file"; sed -n '1s/"//gp' $$file | sed 's/^/    /'; fi; done

docs: $(READY)  ## build the site, docs/_build/html; warnings are errors
	@$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

pages: $(READY)  ## write docs/configuration.md, docs/matrix.md and llms.txt from the code and the pages
	@$(BIN)/python -m raysplit.config.reference > docs/configuration.md
	@PYTHONPATH=tests $(BIN)/python -m combinations_page > docs/matrix.md.part && mv docs/matrix.md.part docs/matrix.md
	@$(BIN)/python docs/building/llms.py > llms.txt.part && mv llms.txt.part llms.txt

dist: $(READY)  ## build wheel and sdist into dist, with a list of the pinned packages (CycloneDX)
	@rm -rf dist build
	@$(BIN)/python -m build --no-isolation --outdir dist . > dist.log 2>&1 || { tail -n 20 dist.log >&2; exit 1; }
	@$(BIN)/python deploy/sbom.py > dist/raysplit.cdx.json
	@rm -rf dist.log build && ls -l dist | awk 'NR > 1 { print "dist/" $$NF, $$5 " bytes" }'

notebooks: $(READY)  ## write docs/notebooks/*.ipynb for Jupyter from the pages, unrun
	@$(BIN)/python -m jupytext --quiet --to ipynb docs/notebooks/*.md && ls docs/notebooks/*.ipynb

lock: $(READY)  ## pin the newest and the lowest versions that pyproject.toml allows (installs uv into .venv)
	@$(PIP) install uv
	@$(COMPILE) --all-extras pyproject.toml --output-file $(LOCK)
	@$(COMPILE) $(LOWEST_EXTRAS:%=--extra %) --resolution lowest-direct pyproject.toml --output-file $(LOWEST_LOCK)
	@if grep -nE '://|--|@' $(LOCK) $(LOWEST_LOCK); then echo "a lock file names a place; it must name packages only" >&2; exit 1; fi
	@for lock in $(LOCK) $(LOWEST_LOCK); do echo "$$lock: $$(grep -c == $$lock) packages"; done

clean:  ## remove .venv, .venv-lowest, caches and build products; runs stay
	@rm -rf $(VENV) $(LOWEST) build dist docs/_build docs/notebooks/*.ipynb *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): $(LOCK) pyproject.toml
	@if ! "$(PYTHON)" -c '$(SUPPORTED)' 2>/dev/null; then \
		echo "raysplit needs Python 3.11 to 3.14; $(or $(PYTHON:%=% is not one),there is none on the PATH)." \
			"Install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; fi
	@echo "==> setup 1/3: $(VENV) with $$("$(PYTHON)" --version)"
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then "$(PYTHON)" -m venv --clear $(VENV) || { \
		echo "$(PYTHON) cannot make a virtual environment; Debian and Ubuntu have it in python3-venv" >&2; exit 1; }; fi
	@echo "==> setup 2/3: $$(grep -c == $(LOCK)) pinned packages (torch for Linux is large: minutes, the first time)"
	@$(PIP) install --no-deps --requirement $(LOCK)
	@echo "==> setup 3/3: raysplit"
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@
