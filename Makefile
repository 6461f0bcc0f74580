# Two commands do all the set-up: `make demo` and `make test`. Both need Python 3.11 or newer, and nothing else.
# With PYTHON=python3.13 either uses that one, in a virtual environment of its own, .venv-3.13.

ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell command -v python3.11 || command -v python3)
VENV := .venv
else
VENV := .venv-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || echo none)
endif
VERSIONS := 3.11 3.12 3.13
BIN := $(VENV)/bin
DATA ?=
DEMO := demo
IMAGES := 120
# Large pages, where the C library knows how: training takes two thirds of the time.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1
# Compiled modules are kept: without them each process compiles Hilum, and pytest its tests, anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-versions bench lint types docs clean

demo: $(VENV)/installed
ifeq ($(strip $(DATA)),)
	@test -d $(DEMO)/data || (rm -rf $(DEMO)/data.part && $(BIN)/hilum synthesize kaggle_masks $(DEMO)/data.part --images $(IMAGES) --seed 1 && mv $(DEMO)/data.part $(DEMO)/data)
	@$(BIN)/hilum run $(DEMO)/data --out $(DEMO)/run --quick
else
	@$(BIN)/hilum run "$(DATA)" --out "$(DEMO)/runs/$(notdir $(patsubst %/,%,$(DATA)))" --quick
endif

# One thread a process: those of two would wait for one another, and take twice the processor's time.
# The types are checked meanwhile; what was found stands after the tests.
TYPES := $(BIN)/basedpyright --level error --pythonpath $(BIN)/python
test: $(VENV)/installed
	@$(BIN)/ruff check src tests tools benchmarks
	@$(TYPES) > $(VENV)/types.txt 2>&1 & types=$$!; trap 'kill $$types; exit 130' INT TERM; \
	OMP_NUM_THREADS=1 OPENCV_FOR_THREADS_NUM=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder; tested=$$?; \
	wait $$types; typed=$$?; cat $(VENV)/types.txt; exit $$((tested || typed))

test-versions:
	@for version in $(VERSIONS); do \
	  if python$$version -c '' 2>/dev/null; then echo "python$$version"; $(MAKE) --no-print-directory test PYTHON=python$$version || exit 1; \
	  else echo "python$$version is not on this machine: left out"; fi; done

# Measures beside the rivals and records where no ratio was lost: benchmarks/README.md. BENCH=quick: a subset, not recorded;
# MINUTES=25: the scripts that fit into so many, in full.
BENCH ?= all
RIVALS := .bench-rivals
bench: $(VENV)/installed $(RIVALS)/installed
	@PYTHONPATH=$(CURDIR)/$(RIVALS) $(BIN)/python -m benchmarks.run $(if $(DATA),--data "$(DATA)") $(if $(filter quick,$(BENCH)),--quick) $(if $(MINUTES),--minutes $(MINUTES))
	@$(BIN)/python -m benchmarks.compare --record

$(RIVALS)/installed: benchmarks/rivals.txt $(VENV)/installed
	@echo "installing what Hilum is measured beside into $(RIVALS)"
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --upgrade --target $(RIVALS) --requirement benchmarks/rivals.txt
	@touch $@

types: $(VENV)/installed
	@$(TYPES)

lint: $(VENV)/installed
	@$(BIN)/ruff check src tests tools benchmarks

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Hilum needs Python 3.11 or newer, got $$($(PYTHON) --version 2>&1); name one with: make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv module is missing; install it with: apt-get install python3-venv"; exit 1; }
	@test -x $(BIN)/python || { echo "making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing Hilum and what it is tested with into $(VENV) (about a minute)"
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt torch
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,serve,dicom,scale,fast,test,types]'
	@touch $@

docs: $(VENV)/installed
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt '.[docs]'
	@$(BIN)/python -m tools.make_reference
	@$(BIN)/zensical build

clean:
	rm -rf .venv .venv-* .bench-rivals $(DEMO) .pytest_cache .ruff_cache .hypothesis site
