# Everything a newcomer needs: `make demo` and `make test` set up .venv by themselves.
# What runs is the installed package, never the folders it is built from.
VENV    ?= .venv
PYTHON  ?= python3
OUT     ?= runs/demo-$(shell date +%Y%m%d-%H%M%S)
BIN     := $(VENV)/bin
SOURCES := $(shell find cli controllers export hardware_bridge sim_envs -type f -not -name '*.pyc') pyproject.toml

.PHONY: demo test check lint types layers clean

demo: $(VENV)/.wpg
	$(BIN)/wpg demo --out $(OUT)

test: $(VENV)/.dev $(VENV)/.wpg
	$(BIN)/pytest -n 2 --dist loadfile

check: lint types layers

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev $(VENV)/.wpg
	$(BIN)/mypy -p wpg.cli -p wpg.controllers -p wpg.export -p wpg.hardware_bridge -p wpg.sim_envs

layers: $(VENV)/.dev $(VENV)/.wpg
	$(BIN)/lint-imports

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("wpg needs Python 3.11 or newer; set PYTHON=") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip

$(VENV)/.train: pyproject.toml | $(VENV)/bin/python
	@echo "installing wpg's training dependencies into $(VENV), a minute or two ..."
	$(BIN)/pip install --quiet '.[train]'
	@touch $@

$(VENV)/.dev: $(VENV)/.train
	@echo "installing the development tools into $(VENV) ..."
	$(BIN)/pip install --quiet '.[dev]'
	@touch $@

$(VENV)/.wpg: $(SOURCES) | $(VENV)/.train
	$(BIN)/pip install --quiet --no-deps --force-reinstall .
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
