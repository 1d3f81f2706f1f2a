# Every target first sets up what it needs in .venv (by uv if it is there, else by venv and pip), then does its work.
# All paths are relative, so the folder may stand anywhere and its name may hold spaces.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test table check bench clean

VENV := .venv
PY := $(VENV)/bin/python
CODE := $(wildcard src tests benchmarks)

# The interpreter a new .venv is made from. Empty: the first of CANDIDATES that is new enough.
PYTHON ?=
CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11 python

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo '  PYTHON=python3.13 picks the Python of a new .venv; any from 3.11 on will do.'

demo: $(VENV)/.has-cli  ## run a real job with a progress bar (FOLDER=... to pick the files it reads)
	@$(VENV)/bin/mageflow demo $(if $(FOLDER),"$(FOLDER)")

test: $(VENV)/.has-dev  ## run the tests (PYTEST_ARGS=... is handed to pytest)
	@$(PY) -m pytest -q $(PYTEST_ARGS)

table: $(VENV)/.has-dev  ## run the contracts, and write the table of docs/engines.md
	@$(PY) -m pytest -q --write-table tests/contracts tests/redis/test_contract.py tests/engines/test_embedded.py \
	    tests/engines/test_taskiq.py tests/engines/hatchet/test_contract.py $(PYTEST_ARGS)

check: $(VENV)/.has-dev  ## format, lint, types by mypy and pyright, who imports whom
	$(PY) -m ruff format --check $(CODE)
	$(PY) -m ruff check $(CODE)
	$(PY) -m mypy $(CODE)
	$(PY) -m pyright --warnings
	$(VENV)/bin/lint-imports

bench: $(VENV)/.has-dev  ## measure, beside the machine's own limits (BENCH_ARGS=... is handed on)
	@$(PY) -m benchmarks $(BENCH_ARGS)

clean:  ## remove .venv, caches and builds (no store is touched)
	@rm -rf $(VENV) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp for each set of dependencies: it is made again when pyproject.toml is newer.
$(VENV)/.has-%: pyproject.toml | $(PY)
	@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "$(VENV) holds `$(PY) -V 2>&1`, and mageflow needs 3.11 or newer. Run: make clean, then this again." >&2; \
	    exit 1; }
	@echo "Installing mageflow[$*] into $(VENV) ..."
	@if command -v uv >/dev/null 2>&1; then \
	    uv pip install --quiet --python $(PY) --editable '.[$*]'; \
	else \
	    { $(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip >/dev/null; } && \
	    $(PY) -m pip install --quiet --disable-pip-version-check --editable '.[$*]'; \
	fi || { \
	    echo "The packages could not be installed; the lines above say why. Is the package index within reach?" >&2; \
	    exit 1; }
	@touch $@

$(PY):
	@if command -v uv >/dev/null 2>&1; then exec uv venv --quiet --python "$${PYTHON:->=3.11}" $(VENV); fi; \
	if [ -n "$$PYTHON" ]; then set -- "$$PYTHON"; else set -- $(CANDIDATES); fi; \
	seen=; \
	for python in "$$@"; do \
	    version=`"$$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null` || continue; \
	    if ! "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
	        seen="$$seen    $$python is $$version, which is too old\n"; \
	    elif ! "$$python" -c 'import venv, ensurepip' 2>/dev/null; then \
	        seen="$$seen    $$python is $$version, but its venv module is missing"; \
	        seen="$$seen (Debian, Ubuntu: apt install python3-venv)\n"; \
	    else \
	        exec "$$python" -m venv $(VENV); \
	    fi; \
	done; \
	{ echo "mageflow needs Python 3.11 or newer. Found in the PATH:"; \
	  printf "$${seen:-    none of $$*\n}"; \
	  echo "Install one (python.org, your package manager, or uv), or name one: make demo PYTHON=/path/to/python3"; \
	} >&2; \
	exit 1

export PYTHON
