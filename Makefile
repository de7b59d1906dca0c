# The few verbs. Each makes .venv ready first, when it is not; nothing else has to be installed.
.DEFAULT_GOAL := help
.PHONY: help setup demo test check fix bench lock clean

BIN := .venv/bin
READY := .venv/.ready
# More arguments for demo, test, bench and lock: make test ARGS="-k vault"
ARGS ?=
# What Python runs before pytest; .ci/run measures coverage here.
COVERAGE ?=
# Twice as many as cores that are meant: most tests wait for other processes.
PROCESSES ?= 4
PYTEST := $(BIN)/python $(COVERAGE) -m pytest -n $(PROCESSES) --dist loadgroup
export PYTHON

# An environment that was moved, or whose Python is gone, is made anew.
ifneq ($(shell $(BIN)/python -c '' 2>/dev/null && cat $(READY) 2>/dev/null),$(CURDIR))
.PHONY: $(READY)
endif

$(READY): .ci/setup pyproject.toml requirements-dev.lock
	@.ci/setup

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1#\2/p' Makefile | awk -F'#' '{ printf "%-14s %s\n", $$1, $$2 }'

setup: $(READY) ## make .venv ready (every other verb does that, too)

demo: $(READY) ## from a change in an ERP to a verified webhook, before your eyes
	@$(BIN)/relay demo $(ARGS)

test: $(READY) ## all tests, the slow ones too
	$(PYTEST) $(ARGS)

check: $(READY) ## what is read, not run: style, types, import direction, dependencies, generated docs
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/python -m relay.docs --check

fix: $(READY) ## mend what can be mended: style, and the generated docs
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/python -m relay.docs

bench: $(READY) ## measure the whole line, beside a bare HTTP client
	$(BIN)/python -m bench $(ARGS)

lock: $(READY) ## pin what pyproject.toml asks for; ARGS=--upgrade looks for newer releases
	.ci/lock $(ARGS)

clean: ## remove .venv and everything else that was made here
	rm -rf .venv .cache dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
