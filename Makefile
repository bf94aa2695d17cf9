# `make demo` and `make test` set up what they need. uv is taken from the PATH, or installed into
# .uv/ with pip; the environment is .venv/.

PYTHON ?= python3
UV := $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)
RUN := $(UV) run --no-sync

# Trust whom the machine trusts, as pip does: some networks sign with a certificate of their own.
export UV_SYSTEM_CERTS ?= 1

# Importing torch and timm takes twice as long where Python may not keep its byte code.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: browser setup demo test test-slow check lint types layers format docs clean

setup: .venv/.ready

.uv/bin/uv:
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --target .uv uv

.venv/.ready: pyproject.toml $(if $(findstring .uv,$(UV)),.uv/bin/uv)
	$(UV) sync --quiet --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')"
	touch $@

demo: setup
	$(RUN) python -m tools.demo

# For the tests of the page of tools.explore, which are skipped without it.
browser:
	@command -v chromium >/dev/null || sh tests/install_chromium.sh

test: setup browser
	$(RUN) python -m pytest -q -n 2 --dist worksteal

test-slow: setup browser
	$(RUN) python -m pytest -q -m slow -n 2 --dist worksteal

check: lint types layers

lint: setup
	$(RUN) ruff check .
	$(RUN) ruff format --check .

types: setup
	$(RUN) mypy

layers: setup
	$(RUN) lint-imports

format: setup
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

docs: setup
	$(RUN) python -m tools.write_docs

clean:
	rm -rf .venv .uv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
