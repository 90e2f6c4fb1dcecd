# attnkit: `make book` builds the book, `make test` proves everything. Both set up what they need.
# Plain make: the one that macOS ships (3.81) will do. Longer steps are scripts in .ci/.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup book pdf labs twins notebooks colab-env nbgrader-env check lint types unit test gpu clean

VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
# Extra words for pip, for instance another index for torch: make setup PIP_ARGS="--extra-index-url ..."
PIP_ARGS ?=
say = printf '\n\033[1m==> %s\033[0m\n' "$(1)"
pytest = $(BIN)/python -m pytest -n $(JOBS) --dist loadscope
# Rooms whose files take minutes start first, so that no worker waits for one that began last.
LONG := tests/browser tests/book tests/redteam tests/authoring tests/notebooks tests/grading
# The rest by name: pytest would put `tests` back into alphabetical order.
REST = $(filter-out $(LONG) tests/__pycache__,$(sort $(patsubst %/,%,$(wildcard tests/*/)) $(wildcard tests/test_*.py)))

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /	/' | expand -t 14

setup: $(VENV)/.ready ## Make .venv with everything that the project uses

$(VENV)/.ready: requirements.txt pyproject.toml
	@.ci/setup $(VENV) $(PIP_ARGS)

node_modules/.ready: package.json package-lock.json
	@.ci/need npm
	@$(call say,Fetching MathJax and the browser test tools)
	@npm ci --silent || { echo "npm could not fetch the packages of package-lock.json: check the network, then run make again"; exit 1; }
	@touch $@

book: $(VENV)/.ready node_modules/.ready ## Execute the chapters and build the book into _build/html
	@$(call say,Building the book)
	@$(BIN)/attnkit book build

pdf: $(VENV)/.ready node_modules/.ready ## Print the book: a PDF of each page, and one of all, in _build/pdf
	@.ci/need chromium
	@$(call say,Printing the book)
	@$(BIN)/attnkit book pdf

labs: $(VENV)/.ready ## Build the student notebooks from their masters
	@$(BIN)/attnkit lab build

twins: $(VENV)/.ready ## Write the chapters' notebook twins, which Colab opens
	@$(BIN)/attnkit book twins

notebooks: $(VENV)/.ready colab-env ## Validate every notebook: nbval, and our stricter run
	@$(call say,Validating notebooks)
	@$(pytest) -q tests/notebooks

colab-env: $(VENV)/.ready ## Make the environment with Colab's notebook stack that some tests use
	@$(BIN)/python -m tests.notebooks.conftest

nbgrader-env: $(VENV)/.ready ## Make the environment with the real nbgrader that some tests use
	@$(BIN)/python -m tests.grading.nbgrader_env

check: lint types unit ## The inner loop: lint, types, unit tests (under 3 minutes)

lint: $(VENV)/.ready
	@$(call say,Lint)
	@$(BIN)/ruff check . || { echo "ruff found faults; '$(BIN)/ruff check --fix .' mends many of them"; exit 1; }
	@$(BIN)/ruff format --check . || { echo "run '$(BIN)/ruff format .'"; exit 1; }

types: $(VENV)/.ready
	@$(call say,Types)
	@$(BIN)/mypy

unit: $(VENV)/.ready
	@$(call say,Unit tests)
	@$(pytest) -q -m "not slow" --ignore=tests/browser --ignore=tests/notebooks --ignore=tests/redteam

test: lint types book colab-env nbgrader-env ## Everything that CI runs
	@.ci/need chromium bwrap
	@$(call say,All tests)
	@$(pytest) --no-loadscope-reorder --durations=25 $(LONG) $(REST)

gpu: $(VENV)/.ready ## On a machine with an NVIDIA GPU: what only a device can show
	@$(call say,Tests on the GPU)
	@ATTNKIT_DEVICE=cuda $(BIN)/python -m pytest -q tests/backends/test_conformance.py tests/gpu

clean: ## Remove what was built; keeps .venv and node_modules
	@rm -rf _build .cache dist .pytest_cache .ruff_cache .mypy_cache .hypothesis book/assets/vendor
	@echo "Removed what was built. To start from nothing: rm -rf $(VENV) node_modules"
