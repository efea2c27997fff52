PYTHON ?= python3
# TORCH=cpu: the build of torch without CUDA, where Linux would get the one with it
TORCH ?=
CPU_BUILDS := https://download.pytorch.org/whl/cpu
BIN := .venv/bin
READY := .venv/ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --no-loadscope-reorder

.PHONY: workbook html test quick gpu check lab format clean

workbook: $(READY)  ## execute all notebooks into workbook/, begun in reading order, two at a time
	$(BIN)/python notebooks/run.py

html: $(READY)  ## the stored notebooks and an explorer as HTML files to hand out, into workbook/html/
	$(BIN)/python notebooks/handouts/make.py

test: check  ## everything that must pass; runs the notebooks too, from the last to the first
	$(PYTEST) tests notebooks --nbval-lax --nbval-cell-timeout=600

quick: check  ## lint, format, and all that takes neither a notebook nor a browser nor long: under three minutes
	$(PYTEST) tests -m "not slow"

gpu: $(READY)  ## on a machine with a GPU: its tests, compiled and bf16 runs beside eager ones, and the benchmark
	$(PYTEST) tests -m gpu
	$(BIN)/python -m ltkd benchmark --check --json workbook/gpu.json

check: $(READY)  ## lint, format (notebooks too), which module may import which, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

format: $(READY)  ## mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lab: $(READY)  ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab --notebook-dir=notebooks

clean:  ## remove the environment and all that was generated, but for runs and data
	rm -rf .venv workbook build ltkd.egg-info .pytest_cache .ruff_cache .hypothesis

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv || { echo "the venv module is missing; on Debian: apt install python3-venv"; exit 1; }
	$(if $(filter cpu,$(TORCH)),$(PIP) --index-url $(CPU_BUILDS) torch torchvision)
	$(PIP) --editable '.[notebooks,test,zoo,oracles]'
	@touch $@
