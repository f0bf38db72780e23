# Everything a person or CI does with this tree. No root, no questions; see README.md.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The first Python of 3.11, 3.12, 3.13 that runs and can make environments; PYTHON=... overrides.
ifndef PYTHON
PYTHON := $(shell for v in 3.12 3.13 3.11; do \
	if command -v python$$v >/dev/null 2>&1 && python$$v -c 'import venv, ensurepip' 2>/dev/null; then echo python$$v; exit; fi; done; \
	if python3 -c 'import sys, venv, ensurepip; sys.exit(not (3,11) <= sys.version_info[:2] <= (3,13))' 2>/dev/null; then echo python3; fi)
endif

VENV := .venv
BIN := $(VENV)/bin
PIP_FLAGS := --quiet --disable-pip-version-check --no-input

.PHONY: screenshots help run demo test test-quick test-sqlite test-postgresql lint bench clean requirements secrets check-python

help: ## Say what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

run: $(VENV)/server.stamp ## Start Ops Center and make this machine its first cluster
	@exec $(BIN)/python manage.py up $(UP_FLAGS)

demo: $(VENV)/dev.stamp ## Start Ops Center with 100 simulated clusters, labelled so
	@exec $(BIN)/python -m tests.fleet.demo $(DEMO_FLAGS)

lint: $(VENV)/dev.stamp ## Check style, types, import contracts, templates, line length and migrations
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy opscenter clusters metrics agent
	$(BIN)/lint-imports
	$(BIN)/djlint --lint templates
	$(BIN)/python -m tests.line_length
	OPSCENTER_DATA_DIR=$$(mktemp -d) $(BIN)/python manage.py makemigrations --check --dry-run

test: test-sqlite test-postgresql ## Run all tests: on SQLite, then those that use the database on PostgreSQL

test-quick: $(VENV)/dev.stamp ## Run the tests without a server, a browser or another process
	$(BIN)/python -m tests.run --quick

test-sqlite: $(VENV)/dev.stamp
	$(BIN)/python -m tests.run

test-postgresql: $(VENV)/dev.stamp
	$(BIN)/python -m tests.run --postgresql

bench: $(VENV)/dev.stamp ## Measure, beside a baseline of the same run; AGAINST=COMMIT: beside that commit
	$(BIN)/python -m tests.bench $(if $(AGAINST),--against $(AGAINST)) $(BENCH_FLAGS)

screenshots: $(VENV)/dev.stamp ## Take the pictures of the documentation from a simulated fleet
	$(BIN)/python -m tests.screenshots

requirements: $(VENV)/dev.stamp ## Pin again what pyproject.toml asks for, with the hash of every file
	for target in agent: "server:--extra server" "dev:--extra server --extra dev"; do \
		$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-emit-index-url --no-header --no-annotate --generate-hashes \
			$${target#*:} pyproject.toml -o requirements/$${target%%:*}.txt; done

SECRETS_DIR := secrets
secrets: check-python ## Make the secrets that docker-compose.yml mounts, where they are missing
	@mkdir -p -m 0700 $(SECRETS_DIR)
	@for name in secret_key database_password admin_password influxdb_token influxdb_password; do \
		[ -s $(SECRETS_DIR)/$$name ] || $(PYTHON) -c 'import secrets; print(secrets.token_urlsafe(36))' > $(SECRETS_DIR)/$$name; \
		chmod 0644 $(SECRETS_DIR)/$$name; done # the directory keeps others out; the containers' users must read the files
	@touch $(SECRETS_DIR)/former_secret_keys; chmod 0644 $(SECRETS_DIR)/former_secret_keys # empty until secret_key is changed
	@echo "admin's password is in $(SECRETS_DIR)/admin_password"

clean: ## Remove the environment and caches; the data in var/ stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

check-python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "make: no usable Python 3.11, 3.12 or 3.13 (with venv) on the PATH; install one (Debian: apt-get install python3-venv) or set PYTHON=/path/to/python" >&2; exit 2; fi

$(VENV)/bin/python: | check-python
	@echo "making $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)

# The stamps hold the pins, so that an install happens only when they change.
$(VENV)/server.stamp: requirements/server.txt | $(VENV)/bin/python
	@if ! cmp -s $< $@ && ! cmp -s requirements/dev.txt $(VENV)/dev.stamp; then \
		echo "installing requirements/server.txt"; $(BIN)/python -m pip install $(PIP_FLAGS) --require-hashes -r $<; fi
	@cp $< $@

$(VENV)/dev.stamp: requirements/dev.txt | $(VENV)/bin/python
	@if ! cmp -s $< $@; then echo "installing requirements/dev.txt"; $(BIN)/python -m pip install $(PIP_FLAGS) --require-hashes -r $<; fi
	@cp $< $@
