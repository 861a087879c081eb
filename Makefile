# `make demo` and `make test` need nothing but Python 3.11 with venv, make, and a package registry.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check bench format clean

demo: $(READY)  ## a delivery of an imaginary company, collected, checked and reported
	$(BIN)/audit-kit demo --out demo
	$(BIN)/audit-kit run --config demo/audit-kit.toml --out demo --fail-on never

test: $(READY) chromium  ## everything that can fail
	$(BIN)/python -m pytest

check: $(READY)  ## lint, format, types, import floors, SQL, docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m tests.lint_sql
	$(BIN)/python -m docs.generate --check

bench: $(READY)  ## speed as ratios, in one run each
	$(BIN)/python -m bench.collect
	$(BIN)/python -m bench.checks
	$(BIN)/python -m bench.startup
	$(BIN)/python -m bench.spikes

docs: $(READY)  ## write the computed parts of README.md
	$(BIN)/python -m docs.generate

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The browser tests open the report in headless Chromium; they fail without it rather than pass unseen.
.PHONY: chromium docs
chromium:
	@command -v chromium >/dev/null || { \
	  echo "installing chromium for the browser tests"; \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq && apt-get install -y -qq chromium; \
	  else sudo apt-get update -qq && sudo apt-get install -y -qq chromium; fi >/dev/null; }

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) demo dist build
