# Set up, run and check rwkv_np. Requires GNU make, Python 3.10 or newer, and a package index. `make help` lists the
# targets.

VENV   := .venv
python := $(VENV)/bin/python
pip    := $(python) -m pip install --quiet --no-input --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint figures reliability notebooks docs docs-live test-docs clean

help:
	@echo 'make demo       RWKV-4, 5, 6 and 7 for a moment each; train a model, sample from it, draw its state'
	@echo 'make test       the style check, and every test that is not marked long: under 8 minutes'
	@echo 'make test-all   every test'
	@echo 'make lint       only the style check'
	@echo 'make figures    draw the pictures of README and docs again'
	@echo 'make reliability  damage files and interrupt runs, thousands of times; write docs/reliability.md'
	@echo 'make notebooks  open the tutorial in Jupyter: sixteen notebooks, RWKV-4 to 7'
	@echo 'make docs       build the book, build/book/index.html, with RWKV-4 and RWKV-7 live in the browser'
	@echo 'make docs-live  build a copy, build/book-live, in which cells run; downloads 84 MB (needs npm)'
	@echo 'make test-docs  build the book, and check links, formulas and figures in a browser'
	@echo 'make clean      remove $(VENV) and what the tools created; out/, with your models, is kept'
	@echo
	@echo 'The first run installs what it needs into $(VENV).'
	@echo 'PYTHON=python3.12 chooses the Python to set up with (3.10 or newer).'
	@echo 'ARGS="..." is passed on:   make demo ARGS="--help"   make test ARGS="-k wkv4 -x"'
	@echo
	@echo 'Only the quick tests, in about a minute:   $(python) -m pytest -m "not slow"'

demo: $(VENV)/run
	@$(python) -m rwkv_np demo $(ARGS)

test: lint
	@$(python) -m pytest -m "not long" $(ARGS)

test-all: lint
	@$(python) -m pytest $(ARGS)
	@echo 'make test-all ran every test, except those shown above as SKIPPED, each with its reason.'

lint: $(VENV)/development
	@$(python) -m ruff check .

figures: $(VENV)/development
	@$(python) docs/make_figures.py

reliability: $(VENV)/development
	@$(python) tests/robustness/report.py

notebooks: $(VENV)/development
	@$(python) -m jupyter lab $(ARGS) notebooks

docs: $(VENV)/development
	@$(python) -m sphinx --fail-on-warning --keep-going --quiet -c docs -d build/doctrees . build/book
	@echo 'Open build/book/index.html'

docs-live: docs
	@$(python) docs/live_cells/build.py build/book build/book-live
	@echo 'Cells run in: $(python) -m http.server --bind 127.0.0.1 --directory build/book-live'
	@echo 'then open http://127.0.0.1:8000'

test-docs: $(VENV)/development
	@$(python) -m pytest tests/book docs/reference.md $(ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

# Installation. $(VENV)/run and $(VENV)/development mark an installation that was completed; while one is running,
# $(VENV)/half-made exists. If that file is found, or no working Python, or if another Python is asked for, $(VENV) is
# made again.

as_asked := [ -z '$(PYTHON)' ] || [ '$(PYTHON)' = "`cat made-with 2>&1`" ]
ifneq "$(shell cd $(VENV) 2>&1 && [ -x bin/python ] && [ ! -e half-made ] && { $(as_asked); } && echo good)" "good"
.PHONY: $(python)
endif

$(python):
	@found=; chosen=; \
	for p in $(if $(PYTHON),"$(PYTHON)",python3 python3.14 python3.13 python3.12 python3.11 python3.10); do \
	    version=$$("$$p" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || continue; \
	    found="$$found $$p is $$version."; \
	    "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 10))' && { chosen=$$p; break; }; \
	done; \
	if [ -z "$$chosen" ]; then \
	    echo "rwkv_np needs Python 3.10 or newer.$${found:- $(or $(PYTHON),python3) is missing, or does not run.}"; \
	    echo "Install a newer Python beside it, or name one that you have: PYTHON=/path/to/python3.12"; \
	    exit 1; \
	elif ! "$$chosen" -c 'import venv; from ensurepip import version' 2>/dev/null; then \
	    echo "$$chosen (Python $$version) cannot make a virtual environment: its venv module is incomplete."; \
	    echo "On Debian and Ubuntu it is a separate package. Install it, then repeat the command:"; \
	    echo "    sudo apt install python3-venv      (or, for exactly this Python, python$${version%.*}-venv)"; \
	    exit 1; \
	fi; \
	if [ -e $(VENV) ]; then echo "Removing $(VENV), which is incomplete or was made with another Python."; rm -rf $(VENV); fi; \
	echo "Making $(VENV) with $$chosen (Python $$version)."; \
	mkdir $(VENV) && touch $(VENV)/half-made && "$$chosen" -m venv $(VENV) && echo "$$chosen" >$(VENV)/made-with

define install
@touch $(VENV)/half-made
@$(pip) $(1) || { echo 'Not installed, for the reason above. Repeat the command to try again.'; exit 1; }
@touch $@ && rm $(VENV)/half-made
endef

$(VENV)/run: pyproject.toml $(python)
	@echo 'Installing what the library needs (50 MB to download, 250 MB on disk):'
	@echo '    NumPy, tokenizers, safetensors, ml_dtypes, matplotlib, tqdm, and what these need'
	$(call install,--editable .)

$(VENV)/development: requirements.txt $(VENV)/run
	@echo 'Installing what development needs (130 MB more to download, 450 MB on disk):'
	@echo '    pytest, Hypothesis, mpmath, Jupyter, ruff, Sphinx, Playwright, and what these need'
	$(call install,--requirement requirements.txt)
