# make        set up .venv and regenerate every figure and table at the default scale
# make test   set up .venv and run the fast tests
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
SNAKEMAKE := $(BIN)/snakemake
BESIDE := --numprocesses 2 --dist loadfile # two files of tests at a time

# pip would leave out packages that PYTHONPATH has, and install into other folders than .venv.
unexport PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX PIP_ROOT
export PIP_USER := 0

.PHONY: all setup test test-slow lint docs wheel pins smoke paper paper-from-scratch denoising-best clean help

all: setup ## every figure, table and verdict at the default scale, into results/default/
	$(SNAKEMAKE)

smoke: setup ## the same in seconds, at toy size: does everything run?
	$(SNAKEMAKE) --configfile config/smoke.yaml

paper: setup ## the paper's sizes, from the results in results/reference: minutes, and no image sets
	$(SNAKEMAKE) --configfile config/paper.yaml

paper-from-scratch: setup ## the same computed here: days, and the paper's image sets (see README)
	$(SNAKEMAKE) --configfile config/paper.yaml --config reference=null

denoising-best: setup ## how far better training takes the paper's denoiser: hours; needs the paper's image sets
	$(SNAKEMAKE) --configfile config/denoising-best.yaml

setup: .venv/complete ## the virtual environment with every package at its pinned version

# An environment has its own path written into its scripts: one that was copied or moved is made again.
ifeq ($(shell grep -sF "$(realpath .venv)/bin/" .venv/bin/pip),)
.PHONY: .venv/complete
CLEAR := --clear
endif

.venv/complete: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "pudle needs Python 3.11 or newer; name one: make PYTHON=...")'
	$(PYTHON) -m venv $(CLEAR) .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

test: setup ## the fast tests
	$(BIN)/pytest $(BESIDE)

test-slow: setup ## the tests that take minutes
	$(BIN)/pytest -m slow $(BESIDE)

lint: setup ## linters, types, layers, workflows of GitHub, Dockerfile
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(SNAKEMAKE) --lint
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/actionlint
	$(BIN)/hadolint Dockerfile

docs: .venv/docs ## the documentation site, into site/, with figures from the reference, or of a run: RESULTS=results/default
	$(BIN)/python tools/build_docs.py $(RESULTS)

.venv/docs: .venv/complete requirements-docs.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements-docs.txt
	touch $@

wheel: setup ## the package as a wheel, into dist/
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .

pins: setup ## requirements.txt, requirements-docs.txt and environment.yml from pyproject.toml; needs uv on the path
	$(BIN)/python tools/pins.py

clean: ## remove results; keeps .venv
	find results -mindepth 1 ! -path 'results/reference*' ! -name README.md ! -name .gitkeep -delete

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | column -t -s '	'
