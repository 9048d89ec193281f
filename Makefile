# The single door: `make help` lists what there is. A virtual environment is made in .venv with
# the versions pinned in .constraints.txt; on Debian it needs the packages python3-venv and make.

# Debian's own Python first: other uids can read it, which the tests of unprivileged modes need.
PYTHON ?= $(shell for p in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PIP = .venv/bin/python -m pip install --quiet --disable-pip-version-check -c .constraints.txt
# The build tools are pinned too, so the package is built with those of the environment; the
# "compat" form is a plain path file, the other one costs an import hook at every start.
EDITABLE = --no-build-isolation --config-settings editable_mode=compat
BIN = .venv/bin

# Byte code makes every start faster; an environment that turns it off is not asked here.
export PYTHONDONTWRITEBYTECODE =

.PHONY: help run test check soak torture bench clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/ready: pyproject.toml .constraints.txt
	@test -n "$(PYTHON)" || { echo "podvisor needs Python 3.11 or later with venv (Debian: apt install python3-venv)"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) setuptools wheel
	@$(PIP) $(EDITABLE) -e .
	@touch $@

.venv/dev: .venv/ready
	@$(PIP) $(EDITABLE) -e '.[dev]'
	@touch $@

run: .venv/ready ## run a real manifest from its first process to its last, about ten seconds
	$(BIN)/podvisor run examples/web/pod.yaml

test: .venv/dev ## all tests, a few minutes
	$(BIN)/python -m pytest -q -n 4 --dist worksteal

check: .venv/dev ## format, lint, types, layers, rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.rules

soak: .venv/dev ## a simulated day of a hundred probed containers, some minutes
	PODVISOR_SOAK_HOURS=24 $(BIN)/python -m pytest -q -o faulthandler_timeout=0 tests/kubelet/test_soak.py

torture: .venv/dev ## signals, crashes and requests without sense by the thousand, half an hour
	$(BIN)/python -m tests.torture
	$(BIN)/python -m tests.torture.crashes
	$(BIN)/python -m tests.torture.api

.venv/bench: .venv/dev
	@$(PIP) $(EDITABLE) -e '.[bench]'
	@touch $@

bench: .venv/bench ## timings beside what they are compared with
	$(BIN)/python -m tests.bench
	$(BIN)/python -m tests.bench.probes
	$(BIN)/python -m tests.bench.store
	$(BIN)/python -m tests.bench.readopt
	$(BIN)/python -m tests.bench.fixtures
	$(BIN)/python -m tests.bench.api

clean: ## remove the environment and everything made
	rm -rf .venv build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
