# make venv | demo | test | test-slow | check | docs
MAKEFLAGS += --no-print-directory
PYTHON ?= python3
BIN := .venv/bin

.PHONY: venv demo test test-slow check docs

venv: .venv/.installed ## the environment, in .venv

.venv/.installed: pyproject.toml constraints.txt embedded.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[workflow,test,check]'
	$(BIN)/pip install --quiet --no-deps --require-hashes --requirement embedded.txt
	touch $@

# The main job on the embedded shop: raw files over HTTP to tables, figures and the report. Resumes a killed run where it
# stopped. Snakemake's last lines say where all this lies.
DEMO := $(BIN)/snakemake paper --workflow-profile workflow/profiles/local --cores 2 --configfile cliper/data/demo.yaml
demo: venv ## the whole line on the embedded shop, to tables, figures and the report
	$(BIN)/python -m cliper.demo.shop -- sh -c '$(DEMO) --unlock && exec $(DEMO)'
	cat results/demo/tabulate/table2.txt

# One process per core; all tests of a file run in the same process, so they may share the shop's port and results. The
# longest file comes first (tests/conftest.py) and should stay there.
test: venv ## the fast tests
	$(BIN)/pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-slow: venv ## the slow tests
	$(BIN)/pytest -m slow --timeout 3600

check: venv ## all that must pass before a commit: ruff, mypy, snakefmt, lint, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint
	$(MAKE) test

# The pages of docs/reference and the JSON schema, from the code; tests compare them.
docs: venv ## the reference pages, generated from the code
	$(BIN)/python docs/generate.py
	$(BIN)/python -m cliper schema > docs/config.schema.json
