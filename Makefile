# Two commands do everything, set-up included:  make demo   and   make test
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Tests wait for processes and polls more than they compute: more of them than processors.
WORKERS ?= 4

.PHONY: FORCE demo test lint native-test bench clean system-packages

demo: $(VENV)/.base
	$(BIN)/vreplica-sync demo

# Files are begun in the order of collection: tests/conftest.py puts the longest first.
test: system-packages $(VENV)/.test
	$(MAKE) --jobs=3 --output-sync lint native-test compiled
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

native-test: $(VENV)/.test
	sh native/tests/run.sh

bench: $(VENV)/.test
	$(BIN)/python -m pytest benchmarks --benchmark-only

# All modules and tests once, before several processes would compile each of them at the same time.
compiled: $(VENV)/.test
	-$(BIN)/python -m pytest --collect-only -qq > /dev/null

system-packages:
	sh tests/system-packages.sh

# A Debian machine without python3-venv gets it where this may be done.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); sh tests/system-packages.sh python3-venv && $(PYTHON) -m venv $(VENV); }

NATIVE := $(shell find native -name '*.[ch]' -o -name CMakeLists.txt)

# The editable install finds modules by a list that it makes: a file that came or went needs a new one.
$(VENV)/.modules: FORCE | $(VENV)/bin/python
	@find vreplica -name '*.py' | sort | cmp -s - $@ || find vreplica -name '*.py' | sort >$@

$(VENV)/.base: pyproject.toml $(NATIVE) $(VENV)/.modules | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.test: pyproject.toml $(NATIVE) $(VENV)/.modules | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $(VENV)/.base $@

clean:
	rm -rf $(VENV) build
