# The developer's one door: `make help` lists it.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.synced

.DEFAULT_GOAL := help
.PHONY: help setup demo test check types lint bench docs clean

help: ## list these commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(STAMP) ## create .venv with everything the project needs

$(STAMP): pyproject.toml uv.lock
	@command -v uv >/dev/null 2>&1 || python3 -m pip install --quiet --user --break-system-packages uv 2>/dev/null || python3 -m pip install --quiet --user uv
	@PATH="$$PATH:$$(python3 -m site --user-base)/bin" UV_PYTHON_DOWNLOADS=never uv sync --quiet --frozen --all-extras
	@touch $@

demo: $(STAMP) ## simulated venue to SQL answers in a minute, without network
	@rm -rf demo-lake
	@$(BIN)/lake demo

test: $(STAMP) ## the whole test suite
	@$(BIN)/pytest -n auto --dist worksteal

check: types lint ## ruff, mypy, import layers, generated docs up to date; `make -j2 check` side by side

types: $(STAMP)
	@$(BIN)/mypy

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/python -m docs.generate --check

bench: $(STAMP) ## every benchmark in its short form, each with its target beside it
	@$(BIN)/python -m bench

docs: $(STAMP) ## write the generated references again
	@$(BIN)/python -m docs.generate

clean: ## remove what these commands made
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache demo-lake
