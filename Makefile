# Two commands do all the set-up: `make demo` and `make test`. PYTHON names the interpreter to use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ALL_SOLVERS := cpsat,gurobi,scip
NETWORKS := nn,timm,onnx,saliency,tensorboard,lightning

.PHONY: demo test bench lint clean

demo: $(VENV)/.installed-nn
	$(BIN)/qpm demo

test: $(VENV)/.installed-dev,$(NETWORKS),bench,cluster,compiled,$(ALL_SOLVERS)
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist worksteal
	$(BIN)/python -m pytest benchmarks --benchmark-disable

bench: $(VENV)/.installed-bench,nn,peers,compiled,$(ALL_SOLVERS)
	$(BIN)/python -m pytest benchmarks

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks

# One stamp for each set of extras: a second call finds it and installs nothing.
$(VENV)/.installed-%: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	touch '$@'
