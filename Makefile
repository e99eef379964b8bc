# `make demo` and `make test` do all of the set-up. Elsewhere: make test VENV=/path PYTHON=python3.12
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help demo test test-faults lint bench dist docs audit clean

help:
	@echo "make demo   install, draw phantoms, train on each body part, print the table"
	@echo "make test   install, then lint, types, import rules and the whole test suite"
	@echo "make test-faults  the tests that cause real faults alone, with 30 kills in the place of 4"
	@echo "make bench  install, then the table of timings; RECORD=machine keeps it in the records"
	@echo "make dist   install, then build and try the wheel and the sdist; they are left in dist/"
	@echo "make docs   install, run the tutorial, and build the pages into docs/_build/html"
	@echo "make audit  install, then look all packages up among known vulnerabilities; needs a network"
	@echo "make clean  remove $(VENV), caches and drawn phantoms; never runs or results"

# The version, too: an editable install keeps the one it was made with.
$(READY): pyproject.toml mura_skorch/_version.py
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and \
	  f"expected Python 3.11 to 3.13, got {sys.version.split()[0]}; name another: make PYTHON=python3.12")'
	@echo "Installing into $(VENV): about 2 minutes and 6 GB, mostly torch ..."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(READY)
	$(BIN)/python experiments/per_body_part.py

lint: $(READY)
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Two files at a time: most tests use one core.
test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations=25

test-faults: $(READY)
	MURA_SKORCH_KILLS=$(or $(KILLS),30) $(BIN)/python -m pytest -m faults --durations=10

bench: $(READY)
	$(BIN)/python -m pytest tests/benchmarks --benchmark-enable --benchmark-columns=median,rounds \
	  $(if $(RECORD),--record $(RECORD))

dist: $(READY)
	rm -rf dist build *.egg-info
	$(BIN)/python -m pytest tests/test_distribution.py tests/test_version.py
	$(BIN)/python -m build --no-isolation

docs: $(READY)
	$(BIN)/python -m sphinx -W --keep-going docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

# In an environment of its own: what looks at the packages is none of them.
audit: $(READY)
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(VENV)/audit/bin/pip-audit --path $$($(BIN)/python -c 'import sysconfig; \
	  print(sysconfig.get_path("purelib"))') --skip-editable

clean:
	rm -rf $(VENV) dist build *.egg-info docs/_build docs/gallery phantoms .mypy_cache .pytest_cache \
	  .ruff_cache .import_linter_cache .hypothesis
