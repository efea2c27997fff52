PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: workbook html test check lab format clean

workbook: $(READY)  ## execute all notebooks in order on the embedded data
	$(BIN)/python notebooks/run.py

html: $(READY)  ## the stored notebooks and an explorer as HTML files to hand out, into workbook/html/
	$(BIN)/python notebooks/handouts/make.py

test: check  ## everything that must pass
	$(BIN)/python -m pytest tests notebooks --nbval-lax --nbval-cell-timeout=600 \
		--numprocesses 2 --dist loadfile --no-loadscope-reorder

check: $(READY)  ## lint and format, notebooks too
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

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
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[notebooks,test,zoo,oracles]'
	@touch $@
