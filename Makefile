# Everything a person or a CI machine does here. GNU make and a Python 3.11+ that can make venvs are all it assumes;
# the rest comes hash-checked into .venv. `make help` lists the targets.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
# Test processes side by side; a test file stays in one of them.
JOBS ?= 2
# Wheels only (forbiddenfruit, pure Python, has none): nothing is compiled. Empty it where a platform lacks a wheel.
PIP_FLAGS ?= --only-binary=:all: --no-binary=forbiddenfruit

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq install
PINNED := $(PIP) --no-compile --require-hashes --no-deps --no-build-isolation $(PIP_FLAGS)
NPM := PATH="$(abspath $(BIN)):$$PATH" $(BIN)/npm --ignore-scripts --no-audit --no-fund --loglevel=error
SYSTEM_TOOLS := nginx wrk strace pgbouncer chromium
NODE_LOCKS := $(filter-out tests/sdk_full/%,$(wildcard tests/*/package-lock.json))
SDK_LOCKS := $(wildcard tests/sdk/requirements.lock)

# Tests and chaos start programs by the hundred: not one of them should compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE

.SHELLFLAGS := -euc
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help run check test test-all bench chaos fuzz api-fuzz sdk lock wheel clean tools

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

run: $(VENV)/.runtime ## the proxy with made-up services, ready to call (ARGS=--once: call it and stop)
	@$(BIN)/connector-proxy demo $(ARGS)

check: $(VENV)/.dev ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(VENV)/.dev $(VENV)/.sdk ## all tests that need nothing but Python and wheels (ARGS="-k name")
	$(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder --tx '$(JOBS)*popen//python=$(abspath $(BIN))/python -X dev' -m "not system" $(ARGS)

test-all: tools $(VENV)/.dev $(VENV)/.sdk ## the tests of `make test`, those with system programs, and branch coverage
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --dist loadfile --no-loadscope-reorder -n $(JOBS) $(ARGS)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

bench: tools $(VENV)/.dev $(VENV)/.bench ## measures added latency and throughput on this machine
	$(BIN)/python tests/benchmarks/links.py
	$(BIN)/python tests/benchmarks/run.py $(ARGS)

chaos: $(VENV)/.dev ## kills, cuts and outages by the hundred, about 10 minutes: nothing may be lost (ARGS="--rounds 50 --seed 1")
	PYTHONPATH=tests $(BIN)/python tests/chaos/run.py $(ARGS)

fuzz: $(VENV)/.dev ## the properties with four times the examples that the tests try
	DEEP_PROPERTIES=1 $(BIN)/python -m pytest -n $(JOBS) -m hypothesis $(ARGS)

api-fuzz: $(VENV)/.dev ## more made-up requests to the admin API than the tests send (EXAMPLES=500: about an hour)
	API_EXAMPLES=$(or $(EXAMPLES),100) $(BIN)/python -m pytest tests/flow/test_admin_api_document.py

sdk: $(VENV)/.dev $(VENV)/.sdk $(VENV)/.sdk_full ## the vendors' own SDKs against the proxy, all of them, and docs/sdk-tests.md anew
	$(BIN)/python -m pytest tests/sdk tests/sdk_full -m "sdk_full or not system" --timeout 300 $(ARGS)

wheel: $(VENV)/.dev ## dist/*.whl
	$(BIN)/python -m build --wheel --no-isolation

lock: $(VENV)/.dev ## resolves the dependencies of pyproject.toml anew, releases of the last 7 days left out
	$(COMPILE) -o requirements.lock pyproject.toml
	$(COMPILE) -c requirements.lock -o requirements-build.lock --group build
	$(COMPILE) -c requirements.lock -c requirements-build.lock -o requirements-dev.lock pyproject.toml --group dev
	$(COMPILE) -c requirements-dev.lock --extra otel -o requirements-otel.lock pyproject.toml
	$(COMPILE) -c requirements-dev.lock -o tests/benchmarks/requirements.lock --group bench
	$(COMPILE) -c requirements-dev.lock -o tests/sdk/requirements.lock --group sdk
	$(COMPILE) -o tests/sdk_full/requirements.lock --group sdk-full
	for folder in tests/sdk tests/sdk_full tests/oauth tests/base44 tests/browser; do rm -rf $$folder/package-lock.json $$folder/node_modules; \
	  $(NPM) install --package-lock-only --omit-lockfile-registry-resolved --min-release-age=7 --prefix $$folder; done

clean: ## removes what these targets made
	rm -rf $(VENV) build dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find proxy tests -name __pycache__ -prune -exec rm -rf {} +
	find tests -name node_modules -prune -exec rm -rf {} +

# Machine settings (extra indexes, folders of wheels) must not show in a lock: neither their names nor their hashes.
COMPILE := env -u UV_FIND_LINKS -u UV_EXTRA_INDEX_URL -u UV_INDEX $(BIN)/uv pip compile -q --no-config --system-certs --upgrade \
	--universal --python-version 3.11 --generate-hashes --exclude-newer "7 days" \
	--no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock"

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "connector-proxy needs Python 3.11 or newer, not " + sys.version.split()[0] + ": make PYTHON=/path/to/python3.11")'
	@$(PYTHON) -c 'import ensurepip, venv' || { echo '$(PYTHON) cannot make virtual environments (Debian: apt-get install python3-venv)' >&2; exit 1; }
	@echo 'Setting up $(VENV) ...'
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# What runs, and the back end that installs the checkout; `make run` needs no more.
$(VENV)/.runtime: requirements.lock requirements-build.lock pyproject.toml | $(VENV)/.made
	@$(PINNED) -r requirements.lock -r requirements-build.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

# The development lock holds the two others, pin for pin.
$(VENV)/.dev: requirements-dev.lock requirements.lock requirements-build.lock pyproject.toml | $(VENV)/.made
	@echo 'Installing what the tests need ...'
	@$(PINNED) -r requirements-build.lock
	@$(PINNED) -r requirements-dev.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $(VENV)/.runtime $@

$(VENV)/.bench: tests/benchmarks/requirements.lock | $(VENV)/.dev
	@$(PINNED) -r $<
	@touch $@

$(VENV)/.sdk: $(SDK_LOCKS) $(NODE_LOCKS) | $(VENV)/.dev
	@for lock in $(SDK_LOCKS); do $(PINNED) -r "$$lock"; done
	@for lock in $(NODE_LOCKS); do $(NPM) ci --prefix "$$(dirname "$$lock")"; done
	@touch $@

# SDKs (290 MB for Python, 150 MB for Node) that nothing else needs, in a virtual environment of their own.
$(VENV)/.sdk_full: tests/sdk_full/requirements.lock tests/sdk_full/package-lock.json | $(VENV)/.dev
	@echo 'Installing the SDKs ...'
	@$(PYTHON) -m venv --clear --without-pip $(VENV)/sdk
	@$(BIN)/python -m pip --python $(VENV)/sdk/bin/python --disable-pip-version-check -qq install --require-hashes --no-deps --only-binary=:all: -r $<
	@$(NPM) ci --prefix tests/sdk_full
	@touch $@

tools:
	@missing=; PATH="$$PATH:/usr/sbin:/sbin"; \
	for tool in $(SYSTEM_TOOLS); do command -v "$$tool" >/dev/null || missing="$$missing $$tool"; done; \
	[ -n "$$missing" ] || exit 0; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
	  echo "These programs are missing and cannot be installed from here:$$missing (make test does without them)" >&2; exit 1; fi; \
	echo "Installing$$missing ..."; export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1; \
	apt-get update -qq; apt-get install -y -qq --no-install-recommends $$missing >/dev/null
