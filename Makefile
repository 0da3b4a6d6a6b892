# Every target sets up what it needs in .venv. Choose with: make test PYTHON=python3.12 TRITON=3.8.0
PYTHON ?= python3
TRITON ?= 3.9.0
FLAG_GEMS ?= 5.0.2

BIN := .venv/bin
INSTALLED := .venv/.installed-triton-$(TRITON)
BENCH_INSTALLED := .venv/.installed-bench
CLIENTS_INSTALLED := .venv/.installed-clients

.PHONY: help install demo test browser test-clients check check-static bench scaling format docs compatibility
.DEFAULT_GOAL := help

help:
	@echo "make demo      run the examples on the simulated machine"
	@echo "make test      run the tests"
	@echo "make browser   install the Chromium in which the tests open pages"
	@echo "make test-clients  run the kernels of other projects, unmodified, against torch; writes docs/reference/clients.md"
	@echo "make check     everything a change has to pass: format, lint, types, imports, documentation, tests"
	@echo "make bench     measure host speed and cycles against the goals; writes docs/benchmarks.md"
	@echo "make scaling   draw cycles over cores, bandwidth and size, and the cost of simulating; writes docs/scaling.md"
	@echo "make format    format the code"
	@echo "make compatibility  record what runs with the chosen Triton; writes docs/reference/compatibility.md"
	@echo "make docs      write the generated reference pages"

# For whoever makes two targets at once, which would both install.
install: $(INSTALLED)

demo: $(INSTALLED)
	@$(BIN)/python -m mlutriton.cli.main demo examples

test: $(INSTALLED)
	@$(BIN)/pytest -n 2 -q -rs

# Without it, the tests of pages are skipped, and say so.
browser:
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || { \
	  command -v apt-get >/dev/null && test "$$(id -u)" = 0 || { \
	    echo "Chromium is missing, and only root of a Debian can install it: apt-get install chromium chromium-driver"; \
	    exit 1; }; \
	  echo "installing Chromium"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	    chromium chromium-driver fonts-dejavu-core >/dev/null; }

test-clients: $(CLIENTS_INSTALLED)
	@$(BIN)/pytest -n 2 -q --record clients
	@GEMS_VENDOR=cambricon $(BIN)/pytest -n 2 -q --record clients/test_flag_gems.py
	@$(BIN)/python docs/generate.py

check: check-static test

check-static: $(INSTALLED)
	@$(BIN)/ruff format --check --quiet . || { echo "run 'make format'"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/pyright
	@$(BIN)/lint-imports

bench: $(BENCH_INSTALLED)
	@$(BIN)/python -m benchmarks --page docs/benchmarks.md

scaling: $(INSTALLED)
	@$(BIN)/python -m benchmarks.scaling

format: $(INSTALLED)
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .

docs: $(INSTALLED)
	@$(BIN)/python docs/generate.py

compatibility: $(INSTALLED)
	@$(BIN)/python docs/compatibility.py
	@$(BIN)/python docs/generate.py

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "mlutriton needs Python 3.11 or newer, and '$(PYTHON)' is not; try: make PYTHON=python3.11"; exit 1; }
	@test -x $(BIN)/python || { echo "creating .venv"; $(PYTHON) -m venv .venv; }
	@echo "installing mlutriton with Triton $(TRITON) into .venv"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' 'triton==$(TRITON)'
	@rm -f .venv/.installed-triton-*
	@touch $@

$(BENCH_INSTALLED): $(INSTALLED)
	@echo "installing torch, for Triton's interpreter, into .venv"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]' 'triton==$(TRITON)'
	@touch $@

$(CLIENTS_INSTALLED): $(INSTALLED)
	@echo "installing torch and the projects whose kernels are run into .venv"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[clients]' 'triton==$(TRITON)'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'flag-gems==$(FLAG_GEMS)'
	@touch $@
